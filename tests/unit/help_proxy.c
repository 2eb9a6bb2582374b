#include "tests/unit/help_proxy.h"
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { pairs_max = 64, part = 16 << 10 };

typedef struct {
    int client, server; // -1: free
} pair;

struct help_proxy {
    char path[108]; // "": the port
    uint16_t to_port, port;
    int listener, wake;
    pthread_t thread;
    pair pairs[pairs_max];
    pthread_mutex_t lock; // of all that follows
    bool ending, held;
    bool cuts_up, cuts_down; // ordered, after so many bytes
    size_t up, down;
    unsigned cuts, connections;
    help_proxy_edit *edit;
    void *edit_arg;
};

static void wake(help_proxy *self)
{
    eventfd_write(self->wake, 1);
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

static void accept_one(help_proxy *self)
{
    int client = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC), i = 0;
    while (i < pairs_max && self->pairs[i].client >= 0)
        i++;
    int server = client >= 0 && i < pairs_max ? connect_server(self) : -1;
    if (server < 0) {
        if (client >= 0) close(client);
        return;
    }
    self->pairs[i] = (pair){client, server};
    pthread_mutex_lock(&self->lock);
    self->connections++;
    pthread_mutex_unlock(&self->lock);
}

static void end_pair(pair *self)
{
    if (self->client < 0) return;
    close(self->client);
    close(self->server);
    *self = (pair){-1, -1};
}

static void cut_all(help_proxy *self)
{
    for (int i = 0; i < pairs_max; i++)
        end_pair(&self->pairs[i]);
    pthread_mutex_lock(&self->lock);
    self->cuts_up = self->cuts_down = false;
    self->cuts++;
    pthread_mutex_unlock(&self->lock);
}

/* --- Passing on -------------------------------------------------------------------- */

/*  How many of these bytes may pass before the cut; *cut: it is due behind them.    */
static size_t allow(help_proxy *self, bool up, size_t bytes, bool *cut)
{
    pthread_mutex_lock(&self->lock);
    bool ordered = up ? self->cuts_up : self->cuts_down;
    size_t *left = up ? &self->up : &self->down;
    *cut = ordered && bytes >= *left;
    if (*cut) bytes = *left;
    if (ordered) *left -= bytes;
    pthread_mutex_unlock(&self->lock);
    return bytes;
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
    ssize_t n = recv(up ? of->client : of->server, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0) {
        end_pair(of);
        return;
    }
    size_t size = allow(self, up, (size_t)n, &cut);
    pthread_mutex_lock(&self->lock);
    if (up && self->edit) self->edit(self->edit_arg, bytes, size);
    pthread_mutex_unlock(&self->lock);
    if (!send_all(up ? of->server : of->client, bytes, size)) end_pair(of);
    if (cut) cut_all(self);
}

/* --- The thread -------------------------------------------------------------------- */

static void run_once(help_proxy *self, bool held)
{
    struct pollfd fds[2 + 2 * pairs_max] = {{self->wake, POLLIN, 0},
                                            {held ? -1 : self->listener, POLLIN, 0}};
    eventfd_t count;
    for (int i = 0; i < pairs_max; i++) {
        fds[2 + 2 * i] = (struct pollfd){held ? -1 : self->pairs[i].client, POLLIN, 0};
        fds[3 + 2 * i] = (struct pollfd){held ? -1 : self->pairs[i].server, POLLIN, 0};
    }
    poll(fds, 2 + 2 * pairs_max, -1);
    if (fds[0].revents) {
        eventfd_read(self->wake, &count);
        return; // what was ordered comes first
    }
    for (int i = 0; i < pairs_max; i++) {
        if (fds[2 + 2 * i].revents && self->pairs[i].client >= 0)
            pass(self, &self->pairs[i], true);
        if (fds[3 + 2 * i].revents && self->pairs[i].client >= 0)
            pass(self, &self->pairs[i], false);
    }
    if (fds[1].revents) accept_one(self);
}

static void *run(void *arg)
{
    help_proxy *self = arg;
    for (bool ending = false; !ending;) {
        pthread_mutex_lock(&self->lock);
        ending = self->ending;
        bool held = self->held;
        bool now = (self->cuts_up && !self->up) || (self->cuts_down && !self->down);
        pthread_mutex_unlock(&self->lock);
        if (now) cut_all(self);
        if (!ending) run_once(self, held);
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
        self->pairs[i] = (pair){-1, -1};
    pthread_mutex_init(&self->lock, NULL);
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
    pthread_mutex_lock(&self->lock);
    self->ending = true;
    pthread_mutex_unlock(&self->lock);
    wake(self);
    pthread_join(self->thread, NULL);
    for (int i = 0; i < pairs_max; i++)
        end_pair(&self->pairs[i]);
    close(self->listener);
    close(self->wake);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

uint16_t help_proxy_port(const help_proxy *self)
{
    return self->port;
}

/* --- Orders ------------------------------------------------------------------------ */

static void order(help_proxy *self, bool up, size_t bytes)
{
    pthread_mutex_lock(&self->lock);
    *(up ? &self->cuts_up : &self->cuts_down) = true;
    *(up ? &self->up : &self->down) = bytes;
    pthread_mutex_unlock(&self->lock);
    wake(self);
}

void help_proxy_cut_up(help_proxy *self, size_t bytes)
{
    order(self, true, bytes);
}

void help_proxy_cut_down(help_proxy *self, size_t bytes)
{
    order(self, false, bytes);
}

void help_proxy_edit_up(help_proxy *self, help_proxy_edit *edit, void *arg)
{
    pthread_mutex_lock(&self->lock);
    self->edit = edit;
    self->edit_arg = arg;
    pthread_mutex_unlock(&self->lock);
}

void help_proxy_hold(help_proxy *self, bool on)
{
    pthread_mutex_lock(&self->lock);
    self->held = on;
    pthread_mutex_unlock(&self->lock);
    wake(self);
}

unsigned help_proxy_cuts(help_proxy *self)
{
    pthread_mutex_lock(&self->lock);
    unsigned cuts = self->cuts;
    pthread_mutex_unlock(&self->lock);
    return cuts;
}

unsigned help_proxy_connections(help_proxy *self)
{
    pthread_mutex_lock(&self->lock);
    unsigned connections = self->connections;
    pthread_mutex_unlock(&self->lock);
    return connections;
}
