#include "tests/unit/help_nats.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { patience_s = 30 };

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

static int listen_somewhere(uint16_t *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = loopback(0);
    socklen_t size = sizeof at;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64) ||
        getsockname(fd, (struct sockaddr *)&at, &size))
        fail_msg("cannot listen: %s", strerror(errno));
    *port = ntohs(at.sin_port);
    return fd;
}

static int connect_to(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = loopback(port);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* --- Server ------------------------------------------------------------------------ */

static const char *program(void)
{
    static const char *const places[] = {"/usr/sbin/nats-server", "/usr/bin/nats-server",
                                         "/usr/local/bin/nats-server", NULL};
    for (int i = 0; places[i]; i++)
        if (access(places[i], X_OK) == 0) return places[i];
    return NULL;
}

bool help_nats_is_installed(void)
{
    return program();
}

uint16_t help_nats_free_port(void)
{
    uint16_t port;
    close(listen_somewhere(&port));
    return port;
}

void help_nats_init(help_nats *self, const char *settings)
{
    *self = (help_nats){.tls = settings && strstr(settings, "tls")};
    snprintf(self->folder, sizeof self->folder, "/tmp/test_nats.XXXXXX");
    if (!mkdtemp(self->folder)) fail_msg("no folder: %s", strerror(errno));
    snprintf(self->settings, sizeof self->settings, "%s", settings ? settings : "");
    self->port = help_nats_free_port();
}

static void write_configuration(const help_nats *self, const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file) fail_msg("%s: %s", path, strerror(errno));
    fprintf(file,
            "listen: \"127.0.0.1:%u\"\njetstream { store_dir: \"%s/js\" }\n"
            "logfile: \"%s/log\"\n%s\n",
            self->port, self->folder, self->folder, self->settings);
    fclose(file);
}

static bool greets(uint16_t port)
{
    char text[5];
    int fd = connect_to(port);
    if (fd < 0) return false;
    struct timeval limit = {.tv_sec = patience_s};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool does = recv(fd, text, sizeof text, MSG_WAITALL) == sizeof text &&
                memcmp(text, "INFO ", 5) == 0;
    close(fd);
    return does;
}

/*  Dies with us, and keeps no connection of ours open.                              */
static void run(const char *path)
{
    sigset_t none;
    close_range(3, ~0u, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(program(), "nats-server", "-c", path, (char *)NULL);
    _exit(127);
}

void help_nats_start(help_nats *self)
{
    char path[128];
    snprintf(path, sizeof path, "%s/conf", self->folder);
    write_configuration(self, path);
    self->pid = fork();
    if (self->pid == 0) run(path);
    if (self->pid < 0) fail_msg("cannot fork: %s", strerror(errno));
    for (double end = seconds_now() + patience_s; !greets(self->port); usleep(2000)) {
        if (waitpid(self->pid, NULL, WNOHANG) == self->pid)
            fail_msg("nats-server has ended; see %s/log", self->folder);
        if (seconds_now() > end) fail_msg("nats-server does not greet");
    }
}

void help_nats_signal(help_nats *self, int number)
{
    kill(self->pid, number);
}

void help_nats_kill(help_nats *self)
{
    if (!self->pid) return;
    kill(self->pid, SIGKILL);
    waitpid(self->pid, NULL, 0);
    self->pid = 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

void help_nats_end(help_nats *self)
{
    help_nats_kill(self);
    if (self->folder[0]) nftw(self->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    self->folder[0] = '\0';
}

uint64_t help_nats_greeting(const help_nats *self)
{
    uint64_t size = 0;
    char byte = 0;
    int fd = connect_to(self->port);
    while (byte != '\n' && recv(fd, &byte, 1, 0) == 1)
        size++;
    close(fd);
    return size;
}

const char *help_nats_url(uint16_t port, const char *credentials, char url[128])
{
    snprintf(url, 128, "nats://%s%s127.0.0.1:%u", credentials ? credentials : "",
             credentials ? "@" : "", port);
    return url;
}

/* --- Proxy ------------------------------------------------------------------------- */

enum { pairs_max = 64, chunk = 16 << 10 };

typedef struct {
    int client, server; // -1: closed
    uint64_t bytes;     // from the client, since cut_after was set
    uint64_t answered;  // bytes from the server
    unsigned number;    // since hold_after was set
    double late;        // when what the client has sent goes on; 0: it is not cut
    uint8_t *kept;      // of a pair that was cut
    size_t kept_size;
} pair;

struct nats_proxy {
    uint16_t port, to;
    int listener, wake;
    pthread_t thread;
    pthread_mutex_t mutex; // of all that follows
    pair pairs[pairs_max];
    bool ending, hold, refuse;
    uint64_t cut_after;
    unsigned accepted;
    unsigned hold_number, numbered; // of hold_after
    uint64_t hold_bytes;
};

static void reset(int *fd)
{
    struct linger at_once = {.l_onoff = 1};
    if (*fd < 0) return;
    setsockopt(*fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(*fd);
    *fd = -1;
}

static void end_pair(pair *self)
{
    reset(&self->client);
    reset(&self->server);
    free(self->kept);
    self->kept = NULL;
    self->kept_size = 0;
    self->late = 0;
}

/*  What the client has sent by now is read, and waits for its time.                  */
static void cut_late(pair *self, int late_ms)
{
    uint8_t buffer[chunk];
    ssize_t n;
    while ((n = recv(self->client, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
        self->kept = realloc(self->kept, self->kept_size + (size_t)n);
        memcpy(self->kept + self->kept_size, buffer, (size_t)n);
        self->kept_size += (size_t)n;
    }
    reset(&self->client);
    self->late = seconds_now() + late_ms / 1000.0;
}

/*  The server's answers must be read, or it would not take all.                      */
static void deliver_late(pair *self)
{
    uint8_t buffer[chunk];
    size_t sent = 0;
    while (sent < self->kept_size) {
        ssize_t n = send(self->server, self->kept + sent, self->kept_size - sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) break;
        if (n > 0) sent += (size_t)n;
        while (recv(self->server, buffer, sizeof buffer, MSG_DONTWAIT) > 0)
            continue;
    }
    shutdown(self->server, SHUT_WR); // an orderly end: the server reads all before it
    struct timeval limit = {.tv_sec = 1};
    setsockopt(self->server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (recv(self->server, buffer, sizeof buffer, 0) > 0)
        continue;
    end_pair(self);
}

static bool send_all(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/*  False: the pair is to end.                                                       */
static bool pass_on(nats_proxy *self, pair *from, bool from_client)
{
    uint8_t buffer[chunk];
    int in = from_client ? from->client : from->server;
    int out = from_client ? from->server : from->client;
    bool counts = !from_client && self->hold_number && from->number == self->hold_number;
    size_t most = sizeof buffer;
    if (counts && self->hold_bytes - from->answered < most)
        most = self->hold_bytes - from->answered;
    ssize_t n = recv(in, buffer, most, 0);
    if (n <= 0 || !send_all(out, buffer, (size_t)n)) return false;
    if (counts) from->answered += (uint64_t)n;
    if (counts && from->answered == self->hold_bytes) self->hold = true;
    if (!from_client || !self->cut_after) return true;
    from->bytes += (uint64_t)n;
    return from->bytes < self->cut_after;
}

static void add_pair(nats_proxy *self)
{
    int client = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) return;
    self->accepted++;
    pair *at = self->pairs;
    while (at < self->pairs + pairs_max && (at->client >= 0 || at->server >= 0))
        at++;
    int server =
        self->refuse || at == self->pairs + pairs_max ? -1 : connect_to(self->to);
    if (server < 0) {
        reset(&client);
        return;
    }
    *at = (pair){.client = client, .server = server, .number = ++self->numbered};
}

static void serve(nats_proxy *self, const struct pollfd *fds)
{
    if (fds[0].revents) add_pair(self);
    for (int i = 0; i < pairs_max; i++) {
        pair *p = &self->pairs[i];
        const struct pollfd *client = &fds[2 + 2 * i], *server = client + 1;
        if (p->late) {
            if (seconds_now() >= p->late) deliver_late(p);
            continue;
        }
        bool good = true;
        if (self->hold) continue;
        if (client->fd >= 0 && client->fd == p->client && client->revents)
            good = pass_on(self, p, true);
        if (good && server->fd >= 0 && server->fd == p->server && server->revents)
            good = pass_on(self, p, false);
        if (!good) end_pair(p);
    }
}

static void *run_proxy(void *arg)
{
    nats_proxy *self = arg;
    bool ending = false;
    while (!ending) {
        struct pollfd fds[2 + 2 * pairs_max];
        bool late = false;
        pthread_mutex_lock(&self->mutex);
        fds[0] =
            (struct pollfd){.fd = self->hold ? -1 : self->listener, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = self->wake, .events = POLLIN};
        for (int i = 0; i < pairs_max; i++) {
            const pair *p = &self->pairs[i];
            bool off = self->hold || p->late;
            late |= p->late > 0;
            fds[2 + 2 * i] =
                (struct pollfd){.fd = off ? -1 : p->client, .events = POLLIN};
            fds[3 + 2 * i] =
                (struct pollfd){.fd = off ? -1 : p->server, .events = POLLIN};
        }
        pthread_mutex_unlock(&self->mutex);
        poll(fds, 2 + 2 * pairs_max, late ? 1 : -1);
        pthread_mutex_lock(&self->mutex);
        eventfd_read(self->wake, &(eventfd_t){0});
        ending = self->ending;
        if (!ending) serve(self, fds);
        pthread_mutex_unlock(&self->mutex);
    }
    return NULL;
}

nats_proxy *nats_proxy_new(uint16_t to)
{
    nats_proxy *self = calloc(1, sizeof *self);
    self->to = to;
    self->listener = listen_somewhere(&self->port);
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (int i = 0; i < pairs_max; i++)
        self->pairs[i] = (pair){.client = -1, .server = -1};
    pthread_mutex_init(&self->mutex, NULL);
    pthread_create(&self->thread, NULL, run_proxy, self);
    return self;
}

static void enter(nats_proxy *self)
{
    pthread_mutex_lock(&self->mutex);
}

static void leave(nats_proxy *self)
{
    eventfd_write(self->wake, 1);
    pthread_mutex_unlock(&self->mutex);
}

void nats_proxy_destroy(nats_proxy **self_p)
{
    nats_proxy *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    enter(self);
    self->ending = true;
    leave(self);
    pthread_join(self->thread, NULL);
    for (int i = 0; i < pairs_max; i++)
        end_pair(&self->pairs[i]);
    close(self->listener);
    close(self->wake);
    pthread_mutex_destroy(&self->mutex);
    free(self);
}

uint16_t nats_proxy_port(const nats_proxy *self)
{
    return self->port;
}

void nats_proxy_cut(nats_proxy *self, int late_ms)
{
    enter(self);
    for (int i = 0; i < pairs_max; i++) {
        pair *p = &self->pairs[i];
        if (p->client < 0) continue;
        if (late_ms)
            cut_late(p, late_ms);
        else
            end_pair(p);
    }
    leave(self);
}

void nats_proxy_cut_after(nats_proxy *self, uint64_t bytes)
{
    enter(self);
    self->cut_after = bytes;
    for (int i = 0; i < pairs_max; i++)
        self->pairs[i].bytes = 0;
    leave(self);
}

void nats_proxy_hold(nats_proxy *self, bool on)
{
    enter(self);
    self->hold = on;
    leave(self);
}

void nats_proxy_hold_after(nats_proxy *self, unsigned connection, uint64_t bytes)
{
    enter(self);
    self->hold_number = connection;
    self->hold_bytes = bytes;
    self->numbered = 0;
    leave(self);
}

void nats_proxy_refuse(nats_proxy *self, bool on)
{
    enter(self);
    self->refuse = on;
    leave(self);
}

unsigned nats_proxy_connections(nats_proxy *self)
{
    enter(self);
    unsigned accepted = self->accepted;
    leave(self);
    return accepted;
}
