#include "runtime/doorman.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ENDING_MAX 64

static const int64_t silent_us = 5000000; // libzmq itself ends a handshake after 3 s
static const int64_t look_us = 20000;     // between looks at those that are silent
static const int64_t flush_us = 200000;   // for a CLOSE to leave
static const int64_t log_again_us = 60000000;

/*  A greeting of ZMTP 3.1 (RFC 37); and more than a greeting, a handshake and a HELLO.
    libzmq keeps what a frame claims to hold, and every part of an unfinished message,
    before we see any of it.                                                    */
static const uint64_t greeting_bytes = 64;
static const uint64_t silent_bytes_max = 128 << 10;

typedef struct {
    int fd;
    ino_t inode;
    int64_t us;                      // silent: when it came; ending: when it is to end
    struct sockaddr_storage address; // silent
} connection;

struct weir_doorman {
    connection *silent; // no message yet; in the order of coming
    size_t count, max;
    connection ending[ENDING_MAX];
    size_t ending_count;
    uint64_t turned_away;
    int64_t looked_us, logged_us, complained_us;
};

weir_doorman *weir_doorman_new(size_t silent_max)
{
    weir_doorman *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->max = silent_max;
    self->silent = calloc(silent_max + 1, sizeof *self->silent);
    if (!self->silent) abort();
    return self;
}

void weir_doorman_destroy(weir_doorman **self_p)
{
    weir_doorman *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    free(self->silent);
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

/*  What it has sent so far; 0 for sockets that do not count.                    */
static uint64_t bytes_of(const connection *c)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size)) return 0;
    return info.tcpi_bytes_received;
}

static void drop_silent(weir_doorman *self, size_t i)
{
    self->count--;
    memmove(&self->silent[i], &self->silent[i + 1],
            (self->count - i) * sizeof *self->silent);
}

static void turn_away(weir_doorman *self, size_t i)
{
    int64_t now = weir_clock_now_us();
    end(&self->silent[i]);
    drop_silent(self, i);
    self->turned_away++;
    if (self->logged_us && now - self->logged_us < log_again_us) return;
    self->logged_us = now;
    weir_log(WEIR_WARN, "connections that do not say HELLO are turned away most=%zu",
             self->max);
}

static void look_at_silent(weir_doorman *self, int64_t now)
{
    if (now - self->looked_us < look_us) return;
    self->looked_us = now;
    for (size_t i = self->count; i-- > 0;) {
        const connection *c = &self->silent[i];
        if (!is_same(c))
            drop_silent(self, i);
        else if (now - c->us > silent_us || bytes_of(c) > silent_bytes_max)
            turn_away(self, i);
    }
}

/*  Who has begun to shake hands is spared while there are others.              */
static size_t find_worst(const weir_doorman *self)
{
    for (size_t i = 0; i < self->count; i++)
        if (bytes_of(&self->silent[i]) <= greeting_bytes) return i;
    return 0;
}

void weir_doorman_accepted(weir_doorman *self, int fd)
{
    connection *c = &self->silent[self->count++];
    socklen_t size = sizeof c->address;
    *c = (connection){.fd = fd, .inode = inode_of(fd), .us = weir_clock_now_us()};
    getpeername(fd, (struct sockaddr *)&c->address, &size);
    if (self->count > self->max) turn_away(self, find_worst(self));
}

static void forget(weir_doorman *self, int fd)
{
    for (size_t i = self->count; i-- > 0;)
        if (self->silent[i].fd == fd) drop_silent(self, i);
}

void weir_doorman_spoke(weir_doorman *self, int fd)
{
    forget(self, fd);
}

/*  The address of a silent connection as text; false: it had gone too fast to be seen. */
static bool print_address(const weir_doorman *self, int fd, char text[INET6_ADDRSTRLEN])
{
    static const char mapped[] = "::ffff:"; // an IPv4 peer of an IPv6 socket
    for (size_t i = 0; i < self->count; i++) {
        const connection *c = &self->silent[i];
        if (c->fd != fd) continue;
        if (getnameinfo((const struct sockaddr *)&c->address, sizeof c->address, text,
                        INET6_ADDRSTRLEN, NULL, 0, NI_NUMERICHOST))
            return false;
        if (strncmp(text, mapped, sizeof mapped - 1) == 0 && strchr(text, '.'))
            memmove(text, text + sizeof mapped - 1, strlen(text) - sizeof mapped + 2);
        return true;
    }
    return false;
}

/*  Who comes too fast to be seen tries again soon.                              */
static void complain(weir_doorman *self, int fd, const char *cause)
{
    int64_t now = weir_clock_now_us();
    char address[INET6_ADDRSTRLEN];
    if (self->complained_us && now - self->complained_us < log_again_us) return;
    if (!print_address(self, fd, address)) return;
    self->complained_us = now;
    weir_log(WEIR_WARN, "handshake failed address=%s cause=\"%s\"", address, cause);
}

void weir_doorman_lost(weir_doorman *self, int fd, const char *cause)
{
    if (*cause) complain(self, fd, cause);
    forget(self, fd);
}

/* --- Ending ------------------------------------------------------------------------ */

static void drop_ending(weir_doorman *self, size_t i)
{
    self->ending[i] = self->ending[--self->ending_count];
}

void weir_doorman_end(weir_doorman *self, int fd)
{
    connection c = {
        .fd = fd, .inode = inode_of(fd), .us = weir_clock_now_us() + flush_us};
    if (!c.inode) return;
    if (self->ending_count == ENDING_MAX) {
        end(&self->ending[0]);
        drop_ending(self, 0);
    }
    self->ending[self->ending_count++] = c;
}

int64_t weir_doorman_deadline(const weir_doorman *self)
{
    int64_t next = self->count ? self->looked_us + look_us : -1;
    for (size_t i = 0; i < self->ending_count; i++)
        if (next < 0 || self->ending[i].us < next) next = self->ending[i].us;
    return next;
}

void weir_doorman_run_due(weir_doorman *self)
{
    int64_t now = weir_clock_now_us();
    look_at_silent(self, now);
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
