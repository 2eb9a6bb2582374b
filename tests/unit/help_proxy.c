#include "tests/unit/help_proxy.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { pairs_max = 64, part = 16 << 10 };

typedef struct {
    int client, server; // -1: free
    unsigned order;     // of reset_each, since which `up` counts
    uint64_t up, down;  // bytes
    unsigned number;    // since hold_after was ordered
    int64_t late_ms;    // when what the client has sent goes on; 0: it was not reset
    char *kept;         // that; owned
    size_t kept_size;
} pair;

struct help_proxy {
    char path[108]; // "": the port
    uint16_t to_port, port;
    int listener, wake;
    pthread_t thread;
    pair pairs[pairs_max]; // the thread's alone
    pthread_mutex_t lock;  // of all that follows
    pthread_cond_t seen;
    bool ending, held, held_down, refuses;
    bool cuts_up, cuts_down; // ordered, after so many bytes
    size_t up, down;
    unsigned cuts, connections;
    unsigned resets, resets_done; // ordered; of all connections
    int late_ms;                  // of the last one
    unsigned each_order;
    uint64_t each_bytes; // of reset_each; 0: none
    unsigned hold_number, numbered;
    uint64_t hold_bytes;
    unsigned orders, orders_seen;
    help_proxy_edit *edit_up, *edit_down;
    void *edit_up_arg, *edit_down_arg;
};

static void lock(help_proxy *self)
{
    pthread_mutex_lock(&self->lock);
}

static void unlock(help_proxy *self)
{
    pthread_mutex_unlock(&self->lock);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- Connections ------------------------------------------------------------------- */

static int connect_server(const help_proxy *self)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_port = htons(self->to_port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool is_local = self->path[0];
    memcpy(local.sun_path, self->path, sizeof local.sun_path);
    int fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const void *address = is_local ? (void *)&local : (void *)&loopback;
    if (fd >= 0 && !connect(fd, address, is_local ? sizeof local : sizeof loopback))
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static void end_fd(int *fd, bool at_once)
{
    struct linger none = {.l_onoff = 1};
    if (*fd < 0) return;
    if (at_once) setsockopt(*fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(*fd);
    *fd = -1;
}

static void end_pair(pair *self, bool at_once)
{
    end_fd(&self->client, at_once);
    end_fd(&self->server, at_once);
    free(self->kept);
    *self = (pair){.client = -1, .server = -1};
}

static bool is_free(const pair *self)
{
    return self->client < 0 && self->server < 0;
}

static void accept_one(help_proxy *self)
{
    int client = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC), i = 0;
    if (client < 0) return;
    while (i < pairs_max && !is_free(&self->pairs[i]))
        i++;
    lock(self);
    self->connections++;
    bool refuses = self->refuses;
    unlock(self);
    int server = i < pairs_max && !refuses ? connect_server(self) : -1;
    if (server < 0) {
        end_fd(&client, true);
        return;
    }
    lock(self);
    self->pairs[i] = (pair){.client = client,
                            .server = server,
                            .order = self->each_order,
                            .number = ++self->numbered};
    unlock(self);
}

static void cut_all(help_proxy *self)
{
    for (int i = 0; i < pairs_max; i++)
        if (!self->pairs[i].late_ms) end_pair(&self->pairs[i], false);
    lock(self);
    self->cuts_up = self->cuts_down = false;
    self->cuts++;
    unlock(self);
}

/* --- Resets ------------------------------------------------------------------------ */

/*  What the client has sent by now is read, and waits for its time.                  */
static void keep_for_later(pair *self, int late_ms)
{
    char bytes[part];
    ssize_t n;
    while ((n = recv(self->client, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        self->kept = realloc(self->kept, self->kept_size + (size_t)n);
        if (!self->kept) abort();
        memcpy(self->kept + self->kept_size, bytes, (size_t)n);
        self->kept_size += (size_t)n;
    }
    end_fd(&self->client, true);
    self->late_ms = now_ms() + late_ms;
}

/*  The server's answers must be read, or it would not take all; and its end is orderly,
    so that it reads all before it.                                                  */
static void deliver_late(pair *self)
{
    char bytes[part];
    struct timeval limit = {.tv_sec = 1};
    size_t sent = 0;
    while (sent < self->kept_size) {
        ssize_t n = send(self->server, self->kept + sent, self->kept_size - sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) break;
        if (n > 0) sent += (size_t)n;
        while (recv(self->server, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            continue;
    }
    shutdown(self->server, SHUT_WR);
    setsockopt(self->server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (recv(self->server, bytes, sizeof bytes, 0) > 0)
        continue;
    end_pair(self, true);
}

static void reset_all(help_proxy *self, int late_ms)
{
    for (int i = 0; i < pairs_max; i++) {
        pair *p = &self->pairs[i];
        if (p->client < 0) continue;
        if (late_ms)
            keep_for_later(p, late_ms);
        else
            end_pair(p, true);
    }
}

/* --- Passing on -------------------------------------------------------------------- */

/*  How many of these bytes may pass before the cut; *cut: it is due behind them.    */
static size_t allow(help_proxy *self, bool up, size_t bytes, bool *cut)
{
    lock(self);
    bool ordered = up ? self->cuts_up : self->cuts_down;
    size_t *left = up ? &self->up : &self->down;
    *cut = ordered && bytes >= *left;
    if (*cut) bytes = *left;
    if (ordered) *left -= bytes;
    unlock(self);
    return bytes;
}

/*  How much may be read from there before all is held.                              */
static size_t most_of(help_proxy *self, const pair *of, bool up)
{
    size_t most = part;
    lock(self);
    if (!up && of->number == self->hold_number && self->hold_number &&
        self->hold_bytes - of->down < most)
        most = self->hold_bytes - of->down;
    unlock(self);
    return most;
}

/*  True: the connection is to be reset.                                             */
static bool count(help_proxy *self, pair *of, bool up, size_t bytes)
{
    lock(self);
    if (of->order != self->each_order) of->up = 0;
    of->order = self->each_order;
    *(up ? &of->up : &of->down) += bytes;
    bool counts = !up && self->hold_number && of->number == self->hold_number;
    if (counts && of->down == self->hold_bytes) self->held = true;
    bool due = up && self->each_bytes && of->up >= self->each_bytes;
    unlock(self);
    return due;
}

static bool send_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

static void pass(help_proxy *self, pair *of, bool up)
{
    char bytes[part];
    bool cut;
    ssize_t n =
        recv(up ? of->client : of->server, bytes, most_of(self, of, up), MSG_DONTWAIT);
    if (n <= 0) {
        end_pair(of, n < 0);
        return;
    }
    size_t size = allow(self, up, (size_t)n, &cut);
    lock(self);
    if (up && self->edit_up) self->edit_up(self->edit_up_arg, bytes, size);
    if (!up && self->edit_down) self->edit_down(self->edit_down_arg, bytes, size);
    unlock(self);
    if (!send_all(up ? of->server : of->client, bytes, size) || count(self, of, up, size))
        end_pair(of, true);
    if (cut) cut_all(self);
}

/* --- The thread -------------------------------------------------------------------- */

static bool is_held(help_proxy *self, bool up)
{
    lock(self);
    bool held = self->held || (self->held_down && !up);
    unlock(self);
    return held;
}

static void pass_ready(help_proxy *self, const struct pollfd *fds)
{
    for (int i = 0; i < pairs_max; i++) {
        pair *p = &self->pairs[i];
        const struct pollfd *client = &fds[2 + 2 * i], *server = client + 1;
        if (client->revents && client->fd == p->client && !is_held(self, true))
            pass(self, p, true);
        if (server->revents && server->fd == p->server && !is_held(self, false))
            pass(self, p, false);
    }
}

static void run_once(help_proxy *self, bool held, bool held_down)
{
    struct pollfd fds[2 + 2 * pairs_max] = {{self->wake, POLLIN, 0},
                                            {held ? -1 : self->listener, POLLIN, 0}};
    eventfd_t orders;
    bool late = false;
    for (int i = 0; i < pairs_max; i++) {
        pair *p = &self->pairs[i];
        bool off = held || p->late_ms;
        late |= p->late_ms > 0;
        fds[2 + 2 * i] = (struct pollfd){off ? -1 : p->client, POLLIN, 0};
        fds[3 + 2 * i] = (struct pollfd){off || held_down ? -1 : p->server, POLLIN, 0};
    }
    poll(fds, 2 + 2 * pairs_max, late ? 1 : -1);
    for (int i = 0; i < pairs_max; i++)
        if (self->pairs[i].late_ms && now_ms() >= self->pairs[i].late_ms)
            deliver_late(&self->pairs[i]);
    if (fds[0].revents) {
        eventfd_read(self->wake, &orders);
        return; // what was ordered comes first
    }
    pass_ready(self, fds);
    if (fds[1].revents) accept_one(self);
}

static void *run(void *arg)
{
    help_proxy *self = arg;
    for (bool ending = false; !ending;) {
        lock(self);
        ending = self->ending;
        bool held = self->held, held_down = self->held_down,
             resets = self->resets != self->resets_done;
        bool now = (self->cuts_up && !self->up) || (self->cuts_down && !self->down);
        int late_ms = self->late_ms;
        unsigned orders = self->orders;
        unlock(self);
        if (now) cut_all(self);
        if (resets) reset_all(self, late_ms);
        lock(self);
        if (resets) self->resets_done++;
        self->orders_seen = orders;
        pthread_cond_broadcast(&self->seen);
        unlock(self);
        if (!ending) run_once(self, held, held_down);
    }
    return NULL;
}

/* --- Life -------------------------------------------------------------------------- */

help_proxy *help_proxy_start(const char *path, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    help_proxy *self = calloc(1, sizeof *self);
    if (!self) abort();
    if (path) strncpy(self->path, path, sizeof self->path - 1);
    self->to_port = port;
    for (int i = 0; i < pairs_max; i++)
        self->pairs[i] = (pair){.client = -1, .server = -1};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->seen, NULL);
    self->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(self->listener, (struct sockaddr *)&address, size) ||
        listen(self->listener, 64) ||
        getsockname(self->listener, (struct sockaddr *)&address, &size) ||
        pthread_create(&self->thread, NULL, run, self))
        abort();
    self->port = ntohs(address.sin_port);
    return self;
}

void help_proxy_destroy(help_proxy **self_p)
{
    help_proxy *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    lock(self);
    self->ending = true;
    unlock(self);
    eventfd_write(self->wake, 1);
    pthread_join(self->thread, NULL);
    for (int i = 0; i < pairs_max; i++)
        end_pair(&self->pairs[i], true);
    close(self->listener);
    close(self->wake);
    pthread_cond_destroy(&self->seen);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

uint16_t help_proxy_port(const help_proxy *self)
{
    return self->port;
}

/* --- Orders ------------------------------------------------------------------------ */

/*  Gives the lock back; `wait`: returns once the thread goes by the order, which it does
    at once unless a peer takes nothing.                                            */
static void give_order(help_proxy *self, bool wait)
{
    struct timespec limit;
    unsigned order = ++self->orders;
    int rc = 0;
    eventfd_write(self->wake, 1);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec++;
    while (wait && self->orders_seen - order > UINT32_MAX / 2 && !rc)
        rc = pthread_cond_timedwait(&self->seen, &self->lock, &limit);
    unlock(self);
}

static void order_cut(help_proxy *self, bool up, size_t bytes)
{
    lock(self);
    *(up ? &self->cuts_up : &self->cuts_down) = true;
    *(up ? &self->up : &self->down) = bytes;
    give_order(self, false);
}

void help_proxy_cut_up(help_proxy *self, size_t bytes)
{
    order_cut(self, true, bytes);
}

void help_proxy_cut_down(help_proxy *self, size_t bytes)
{
    order_cut(self, false, bytes);
}

void help_proxy_reset(help_proxy *self, int late_ms)
{
    lock(self);
    self->resets++;
    self->late_ms = late_ms;
    give_order(self, true);
}

void help_proxy_reset_each(help_proxy *self, uint64_t bytes)
{
    lock(self);
    self->each_order++;
    self->each_bytes = bytes;
    give_order(self, false);
}

void help_proxy_edit_up(help_proxy *self, help_proxy_edit *edit, void *arg)
{
    lock(self);
    self->edit_up = edit;
    self->edit_up_arg = arg;
    give_order(self, false);
}

void help_proxy_edit_down(help_proxy *self, help_proxy_edit *edit, void *arg)
{
    lock(self);
    self->edit_down = edit;
    self->edit_down_arg = arg;
    give_order(self, false);
}

void help_proxy_hold(help_proxy *self, bool on)
{
    lock(self);
    self->held = on;
    give_order(self, true);
}

void help_proxy_hold_down(help_proxy *self, bool on)
{
    lock(self);
    self->held_down = on;
    give_order(self, true);
}

void help_proxy_hold_after(help_proxy *self, unsigned connection, uint64_t bytes)
{
    lock(self);
    self->hold_number = connection;
    self->hold_bytes = bytes;
    self->numbered = 0;
    give_order(self, false);
}

void help_proxy_refuse(help_proxy *self, bool on)
{
    lock(self);
    self->refuses = on;
    give_order(self, true);
}

unsigned help_proxy_cuts(help_proxy *self)
{
    lock(self);
    unsigned cuts = self->cuts;
    unlock(self);
    return cuts;
}

unsigned help_proxy_connections(help_proxy *self)
{
    lock(self);
    unsigned connections = self->connections;
    unlock(self);
    return connections;
}
