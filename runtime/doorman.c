#include "runtime/doorman.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ENDING_MAX 64

static const int64_t handshake_us = 3500000; // libzmq itself ends it after 3 s
static const int64_t flush_us = 200000;      // for a CLOSE to leave
static const int64_t log_again_us = 60000000;

/*  What a client has sent when its handshake is over: a greeting of 64 bytes, and a
    first command (ZMTP 3.1, RFC 37).                                           */
static const uint64_t greeting_bytes = 64;

typedef struct {
    int fd;
    ino_t inode;
    int64_t us; // unfinished: when it came; ending: when it is to end
} connection;

struct weir_doorman {
    connection *unfinished; // in the order of coming
    size_t count, max;
    connection ending[ENDING_MAX];
    size_t ending_count;
    uint64_t turned_away;
    int64_t logged_us;
};

weir_doorman *weir_doorman_new(size_t unfinished_max)
{
    weir_doorman *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->max = unfinished_max;
    self->unfinished = calloc(unfinished_max + 1, sizeof *self->unfinished);
    if (!self->unfinished) abort();
    return self;
}

void weir_doorman_destroy(weir_doorman **self_p)
{
    weir_doorman *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    free(self->unfinished);
    free(self);
}

/* --- Connections ------------------------------------------------------------------- */

static ino_t inode_of(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode) ? info.st_ino : 0;
}

static bool is_same(const connection *c)
{
    return c->inode && inode_of(c->fd) == c->inode;
}

static void end(const connection *c)
{
    if (is_same(c)) shutdown(c->fd, SHUT_RDWR);
}

/*  It has sent more than a greeting, so it speaks our protocol; or it has gone.  */
static bool is_finished(const connection *c)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (!is_same(c) || weir_clock_now_us() - c->us > handshake_us) return true;
    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size)) return true;
    return info.tcpi_bytes_received > greeting_bytes;
}

static void sweep(weir_doorman *self)
{
    size_t kept = 0;
    for (size_t i = 0; i < self->count; i++)
        if (!is_finished(&self->unfinished[i]))
            self->unfinished[kept++] = self->unfinished[i];
    self->count = kept;
}

static void turn_away_oldest(weir_doorman *self)
{
    int64_t now = weir_clock_now_us();
    end(&self->unfinished[0]);
    self->count--;
    memmove(self->unfinished, self->unfinished + 1,
            self->count * sizeof *self->unfinished);
    self->turned_away++;
    if (self->logged_us && now - self->logged_us < log_again_us) return;
    self->logged_us = now;
    weir_log(WEIR_WARN, "connections that do not shake hands are turned away most=%zu",
             self->max);
}

void weir_doorman_accepted(weir_doorman *self, int fd)
{
    self->unfinished[self->count++] = (connection){fd, inode_of(fd), weir_clock_now_us()};
    if (self->count <= self->max) return;
    sweep(self);
    if (self->count > self->max) turn_away_oldest(self);
}

void weir_doorman_lost(weir_doorman *self, int fd)
{
    for (size_t i = 0; i < self->count; i++) {
        if (self->unfinished[i].fd != fd) continue;
        self->count--;
        memmove(&self->unfinished[i], &self->unfinished[i + 1],
                (self->count - i) * sizeof *self->unfinished);
        return;
    }
}

/* --- Ending ------------------------------------------------------------------------ */

static void drop_ending(weir_doorman *self, size_t i)
{
    self->ending[i] = self->ending[--self->ending_count];
}

void weir_doorman_end(weir_doorman *self, int fd)
{
    connection c = {fd, inode_of(fd), weir_clock_now_us() + flush_us};
    if (!c.inode) return;
    if (self->ending_count == ENDING_MAX) {
        end(&self->ending[0]);
        drop_ending(self, 0);
    }
    self->ending[self->ending_count++] = c;
}

int64_t weir_doorman_deadline(const weir_doorman *self)
{
    int64_t next = -1;
    for (size_t i = 0; i < self->ending_count; i++)
        if (next < 0 || self->ending[i].us < next) next = self->ending[i].us;
    return next;
}

void weir_doorman_run_due(weir_doorman *self)
{
    int64_t now = weir_clock_now_us();
    for (size_t i = self->ending_count; i-- > 0;) {
        if (self->ending[i].us > now) continue;
        end(&self->ending[i]);
        drop_ending(self, i);
    }
}

uint64_t weir_doorman_turned_away(const weir_doorman *self)
{
    return self->turned_away;
}
