#include "actors/jetstream_session.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "actors/jetstream_probe.h"
#include "runtime/clock.h"
#include "runtime/log.h"

enum {
    buffer_full_bytes = 1 << 20, // publishing pauses
    io_bytes = 64 << 10,
    abandoned_max = 16,          // attempts of the process that do not end
    closing_reads_max = 1 << 12, // of what has come before the end
};

/*  libnats takes milliseconds; so long that we always end it before.               */
#define NO_LIMIT_MS (INT64_C(1) << 30)

struct weir_nats_session {
    struct weir_nats_session *next; // of all that have an owner
    uintptr_t id;                   // what libnats gets as closure: never used again
    atomic_uint references;         // owner, thread, and who looked it up
    pthread_t thread;
    weir_nats_servers servers;
    char *name;
    const char *actor;
    weir_nats_session_config config; // url and name are not used
    const weir_nats_handlers *handlers;
    pthread_mutex_t mutex; // of what follows up to fd
    pthread_cond_t changed;
    bool released;       // no handler is called any more
    unsigned active;     // handlers that run
    bool ended;          // the thread has nothing left to do
    bool abandoned;      // it is detached
    int64_t deadline_us; // of the present attempt; -1: none
    size_t server;
    char text[256]; // why it was cut
    int fd;         // libnats' socket, while it may be shut down; -1
    int wake;       // eventfd
    atomic_bool woken, cut, wants_write;
    /*  The thread's alone.                                                         */
    natsConnection *connection;
    jsCtx *js;
    natsSubscription *answers, *pulled; // pulled: NULL until something is pulled
    char inbox[64];                     // with its dot
    size_t inbox_size;
    int64_t max_payload;
};

/* --- All of them ------------------------------------------------------------------- */

/*  libnats may still call us for a connection that has been destroyed, so it knows a
    session by a number, by which it is looked up.                                  */
static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;
static weir_nats_session *all;
static uintptr_t last_id;
static atomic_uint abandoned;

static void add(weir_nats_session *self)
{
    pthread_mutex_lock(&all_mutex);
    self->id = ++last_id;
    self->next = all;
    all = self;
    pthread_mutex_unlock(&all_mutex);
}

static void take_out(weir_nats_session *self)
{
    pthread_mutex_lock(&all_mutex);
    weir_nats_session **at = &all;
    while (*at != self)
        at = &(*at)->next;
    *at = self->next;
    pthread_mutex_unlock(&all_mutex);
}

static void unref(weir_nats_session *self)
{
    if (atomic_fetch_sub(&self->references, 1) > 1) return;
    weir_nats_servers_fini(&self->servers);
    if (self->wake >= 0) close(self->wake);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->mutex);
    free(self->name);
    free(self);
}

/*  Handlers run between enter and leave, which release waits for.                  */
static bool enter(weir_nats_session *self)
{
    pthread_mutex_lock(&self->mutex);
    bool may = !self->released;
    self->active += may;
    pthread_mutex_unlock(&self->mutex);
    return may;
}

static void leave(weir_nats_session *self)
{
    pthread_mutex_lock(&self->mutex);
    if (--self->active == 0) pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

/*  The session of a closure, entered and referenced; NULL: it has no owner any more. */
static weir_nats_session *enter_by_id(void *closure)
{
    pthread_mutex_lock(&all_mutex);
    weir_nats_session *self = all;
    while (self && self->id != (uintptr_t)closure)
        self = self->next;
    if (self) atomic_fetch_add(&self->references, 1);
    pthread_mutex_unlock(&all_mutex);
    if (!self) return NULL;
    if (enter(self)) {
        weir_log_actor(self->actor);
        return self;
    }
    unref(self);
    return NULL;
}

static void leave_by_id(weir_nats_session *self)
{
    weir_log_actor(NULL);
    leave(self);
    unref(self);
}

/* --- Called by libnats ------------------------------------------------------------- */

static void on_ack(jsCtx *js, natsMsg *msg, jsPubAck *ack, jsPubAckErr *error,
                   void *closure)
{
    (void)js;
    weir_nats_session *self = enter_by_id(closure);
    if (self) {
        self->handlers->acked(self->config.owner, msg, ack, error);
        leave_by_id(self);
    }
    natsMsg_Destroy(msg);
}

static uint64_t token_of(const weir_nats_session *self, const natsMsg *msg)
{
    const char *subject = natsMsg_GetSubject(msg);
    if (strncmp(subject, self->inbox, self->inbox_size)) return 0;
    return strtoull(strrchr(subject, '.') + 1, NULL, 10);
}

static void on_message(natsConnection *connection, natsSubscription *subscription,
                       natsMsg *msg, void *closure)
{
    (void)connection, (void)subscription;
    weir_nats_session *self = enter_by_id(closure);
    if (self) {
        self->handlers->message(self->config.owner, token_of(self, msg), &msg);
        leave_by_id(self);
    }
    natsMsg_Destroy(msg);
}

/*  libnats says where in its own source it was: "(conn.c:773): ".                    */
static const char *plain(const char *text)
{
    const char *end = *text == '(' ? strstr(text, "): ") : NULL;
    return end ? end + 3 : text;
}

static void on_error(natsConnection *connection, natsSubscription *subscription,
                     natsStatus status, void *closure)
{
    (void)connection, (void)subscription;
    const char *text = nats_GetLastError(NULL);
    weir_nats_session *self = status == NATS_NOT_PERMITTED ? enter_by_id(closure) : NULL;
    if (!self) return;
    self->handlers->denied(self->config.owner,
                           text ? plain(text) : natsStatus_GetText(status));
    leave_by_id(self);
}

/*  The event loop's side. libnats calls these in our thread, but for on_write, and takes
    back the socket (on_read) before it closes it.                                  */
static natsStatus on_attach(void **data, void *loop, natsConnection *connection,
                            natsSock fd)
{
    (void)connection;
    weir_nats_session *self = *data = loop;
    pthread_mutex_lock(&self->mutex);
    self->fd = fd;
    pthread_mutex_unlock(&self->mutex);
    return NATS_OK;
}

static natsStatus on_read(void *data, bool add)
{
    weir_nats_session *self = data;
    if (add) return NATS_OK;
    pthread_mutex_lock(&self->mutex);
    self->fd = -1;
    pthread_mutex_unlock(&self->mutex);
    return NATS_OK;
}

static natsStatus on_write(void *data, bool add)
{
    weir_nats_session *self = data;
    atomic_store(&self->wants_write, add);
    return NATS_OK;
}

static natsStatus on_detach(void *data)
{
    return on_read(data, false);
}

/* --- Connecting -------------------------------------------------------------------- */

static pthread_once_t opened = PTHREAD_ONCE_INIT;

/*  The library's start sets SIGPIPE aside for the whole process, which is not ours to do;
    its threads and ours have all signals blocked, as they come from ours.           */
static void open_library(void)
{
    struct sigaction before;
    sigaction(SIGPIPE, NULL, &before);
    nats_Open(-1);
    sigaction(SIGPIPE, &before, NULL);
}

void weir_nats_open(void)
{
    pthread_once(&opened, open_library);
}

/*  As a string of JSON has it; the caller's.                                        */
static char *escape(const char *text)
{
    char *escaped = malloc(2 * strlen(text) + 1), *to = escaped;
    if (!escaped) abort();
    for (; *text; text++) {
        if (strchr("\"\\", *text)) *to++ = '\\';
        *to++ = *text;
    }
    *to = '\0';
    return escaped;
}

static void forget(char *secret)
{
    explicit_bzero(secret, strlen(secret));
    free(secret);
}

/*  libnats puts them into the JSON of CONNECT as they are.                          */
static natsStatus set_login(natsOptions *options, const weir_nats_server *server)
{
    natsStatus s = NATS_OK;
    if (server->user) {
        char *user = escape(server->user), *password = escape(server->password);
        s = natsOptions_SetUserInfo(options, user, password);
        forget(password);
        free(user);
    }
    if (!s && server->token) {
        char *token = escape(server->token);
        s = natsOptions_SetToken(options, token);
        forget(token);
    }
    return s;
}

static natsStatus set_options(weir_nats_session *self, natsOptions *options,
                              const weir_nats_server *server,
                              const weir_nats_probe_result *probe)
{
    char url[96];
    bool is_v6 = strchr(probe->address, ':');
    snprintf(url, sizeof url, "nats://%s%s%s:%s", is_v6 ? "[" : "", probe->address,
             is_v6 ? "]" : "", server->port);
    natsStatus s = natsOptions_SetURL(options, url);
    if (!s) s = natsOptions_SetName(options, self->name);
    if (!s) s = set_login(options, server);
    if (!s && (self->config.tls || server->tls || probe->wants_tls)) {
        s = natsOptions_SetSecure(options, true);
        if (!s) s = natsOptions_SetExpectedHostname(options, server->host);
    }
    if (!s) s = natsOptions_SetTimeout(options, NO_LIMIT_MS);
    if (!s) s = natsOptions_SetAllowReconnect(options, false);
    if (!s) s = natsOptions_SetIgnoreDiscoveredServers(options, true);
    if (!s) s = natsOptions_SetPingInterval(options, 0); // a thread of its own writes it
    if (!s) s = natsOptions_SetIOBufSize(options, io_bytes);
    if (!s) s = natsOptions_SetSendAsap(options, true); // into the buffer: no flusher
    if (!s) s = natsOptions_SetErrorHandler(options, on_error, (void *)self->id);
    if (!s)
        s = natsOptions_SetEventLoop(options, self, on_attach, on_read, on_write,
                                     on_detach);
    return s;
}

/*  The inbox for answers, and JetStream.                                           */
static natsStatus prepare(weir_nats_session *self)
{
    char subject[72];
    natsInbox *inbox = NULL;
    jsOptions options;
    natsStatus s = natsConnection_HasHeaderSupport(self->connection);
    if (!s) s = natsInbox_Create(&inbox);
    if (s) return s;
    self->inbox_size = (size_t)snprintf(self->inbox, sizeof self->inbox, "%s.", inbox);
    natsInbox_Destroy(inbox);
    snprintf(subject, sizeof subject, "%s*", self->inbox);
    s = natsConnection_Subscribe(&self->answers, self->connection, subject, on_message,
                                 (void *)self->id);
    if (!s) s = natsSubscription_SetPendingLimits(self->answers, -1, -1);
    if (!s) s = jsOptions_Init(&options);
    options.PublishAsync.AckHandler = on_ack;
    options.PublishAsync.AckHandlerClosure = (void *)self->id;
    if (!s) s = natsConnection_JetStream(&self->js, self->connection, &options);
    self->max_payload = natsConnection_GetMaxPayload(self->connection);
    return s;
}

/*  Reads to the end of what has come, so that libnats closes the connection as one that
    was lost: else it would wait for an answer that this thread cannot read.         */
static void close_connection(weir_nats_session *self)
{
    if (!self->connection) return;
    pthread_mutex_lock(&self->mutex);
    if (self->fd >= 0) shutdown(self->fd, SHUT_RDWR);
    pthread_mutex_unlock(&self->mutex);
    for (int i = 0; i < closing_reads_max && !natsConnection_IsClosed(self->connection);
         i++)
        natsConnection_ProcessReadEvent(self->connection);
    jsCtx_Destroy(self->js);
    natsSubscription_Destroy(self->answers);
    natsSubscription_Destroy(self->pulled);
    natsConnection_Destroy(self->connection);
    self->js = NULL;
    self->answers = self->pulled = NULL;
    self->connection = NULL;
}

/*  Whether trying again would end alike. A handshake also fails when it is cut.     */
static bool is_fatal(natsStatus status, const weir_nats_probe_result *probe,
                     const char *text)
{
    return probe->wants_certificate || status == NATS_CONNECTION_AUTH_FAILED ||
           status == NATS_SECURE_CONNECTION_WANTED || status == NATS_NO_SERVER_SUPPORT ||
           (status == NATS_SSL_ERROR && strstr(text, "cert="));
}

static bool is_unknown_issuer(const char *text)
{
    return strstr(text, "self-signed") || strstr(text, "local issuer");
}

/*  What libnats' text means for whom it concerns.                                   */
static void explain(natsStatus s, const weir_nats_probe_result *probe, const char *why,
                    char text[256])
{
    bool closed = s != NATS_CONNECTION_AUTH_FAILED && strstr(why, "got ''");
    if (probe->wants_certificate)
        snprintf(text, 256, "it wants to see a certificate, and Weir has none");
    else if (closed)
        snprintf(text, 256, "it has closed the connection instead of letting us in");
    else if (s == NATS_NO_SERVER_SUPPORT)
        snprintf(text, 256, "it takes no headers, which JetStream needs");
    else if (s == NATS_CONNECTION_AUTH_FAILED)
        snprintf(text, 256, "authorization: %.120s%s", why,
                 probe->knows_keys
                     ? "; it may want an NKey or credentials, and Weir has none"
                     : "");
    else
        snprintf(text, 256, "%.200s%s", why,
                 is_unknown_issuer(why) ? " (SSL_CERT_FILE names what to trust)" : "");
}

static natsStatus connect_to(weir_nats_session *self, const weir_nats_server *server,
                             const weir_nats_probe_result *probe, char text[256])
{
    natsOptions *options = NULL;
    natsStatus s = natsOptions_Create(&options);
    if (!s) s = set_options(self, options, server, probe);
    if (!s) s = natsConnection_Connect(&self->connection, options);
    natsOptions_Destroy(options);
    if (!s) s = prepare(self);
    const char *why = s ? nats_GetLastError(NULL) : NULL;
    if (s) explain(s, probe, why ? plain(why) : natsStatus_GetText(s), text);
    if (s) close_connection(self);
    return s;
}

/*  False: released, or cut.                                                        */
static bool begin_attempt(weir_nats_session *self, size_t server)
{
    pthread_mutex_lock(&self->mutex);
    self->server = server;
    self->deadline_us = weir_clock_now_us() + self->config.timeout_us;
    bool may = !self->released && !atomic_load(&self->cut);
    pthread_mutex_unlock(&self->mutex);
    return may;
}

static void end_attempt(weir_nats_session *self)
{
    pthread_mutex_lock(&self->mutex);
    self->deadline_us = -1;
    pthread_mutex_unlock(&self->mutex);
}

static bool try_server(weir_nats_session *self, size_t index, bool *fatal, char text[256])
{
    const weir_nats_server *server = &self->servers.items[index];
    bool needs_none = self->config.tls || server->tls || self->config.plaintext;
    weir_nats_probe_config probe = {.server = server,
                                    .only_here = !needs_none,
                                    .deadline_us = weir_nats_session_deadline(self),
                                    .wake = self->wake,
                                    .stop = &self->cut};
    weir_nats_probe_result found;
    char why[256];
    natsStatus s = NATS_NO_SERVER;
    bool answers = weir_nats_probe(&probe, &found);
    if (answers) s = connect_to(self, server, &found, why);
    if (!s) return true;
    *fatal = *fatal || (answers ? is_fatal(s, &found, why) : found.refused);
    snprintf(text, 256, "%.64s:%s: %.180s", server->host, server->port,
             answers ? why : found.text);
    return false;
}

static bool connect_any(weir_nats_session *self, bool *fatal, char text[256])
{
    size_t count = self->servers.count;
    bool connected = false;
    *fatal = false;
    for (size_t i = 0; i < count && !connected; i++) {
        size_t index = (self->config.first + i) % count;
        if (!begin_attempt(self, index)) break;
        connected = try_server(self, index, fatal, text);
    }
    end_attempt(self);
    return connected;
}

/* --- Up ---------------------------------------------------------------------------- */

static bool pump(weir_nats_session *self)
{
    if (!enter(self)) return false;
    bool more = self->handlers->pump(self->config.owner);
    leave(self);
    return more;
}

/*  What is published meanwhile is written with the next turn.                       */
static void turn(weir_nats_session *self)
{
    bool more = pump(self);
    pthread_mutex_lock(&self->mutex);
    struct pollfd fds[] = {{.fd = self->fd, .events = POLLIN},
                           {.fd = self->wake, .events = POLLIN}};
    pthread_mutex_unlock(&self->mutex);
    if (atomic_load(&self->wants_write)) fds[0].events |= POLLOUT;
    bool full = weir_nats_session_is_full(self);
    if (poll(fds, 2, more && !full ? 0 : -1) < 0) return;
    if (fds[1].revents) {
        eventfd_read(self->wake, &(eventfd_t){0});
        atomic_store(&self->woken, false);
    }
    if (fds[0].revents & POLLOUT) natsConnection_ProcessWriteEvent(self->connection);
    if (fds[0].revents & ~POLLOUT) natsConnection_ProcessReadEvent(self->connection);
}

static bool is_cut(weir_nats_session *self)
{
    return atomic_load(&self->cut) || natsConnection_IsClosed(self->connection);
}

static void tell_why(weir_nats_session *self, bool *fatal, char text[256])
{
    const char *last = NULL;
    natsStatus s = natsConnection_GetLastError(self->connection, &last);
    *fatal = s == NATS_CONNECTION_AUTH_FAILED;
    snprintf(text, 256, "%s%.200s", *fatal ? "authorization: " : "",
             last && *last ? plain(last) : "the connection was closed");
}

static void go_down(weir_nats_session *self, bool fatal, const char *text)
{
    pthread_mutex_lock(&self->mutex);
    char why[256];
    snprintf(why, sizeof why, "%s", self->text[0] ? self->text : text);
    pthread_mutex_unlock(&self->mutex);
    if (!enter(self)) return;
    self->handlers->down(self->config.owner, fatal, why);
    leave(self);
}

static void *run(void *arg)
{
    weir_nats_session *self = arg;
    char text[256] = "";
    bool fatal;
    weir_log_actor(self->actor);
    weir_nats_open();
    if (connect_any(self, &fatal, text)) {
        if (enter(self)) {
            self->handlers->up(self->config.owner);
            leave(self);
        }
        while (!is_cut(self))
            turn(self);
        tell_why(self, &fatal, text);
    }
    close_connection(self);
    go_down(self, fatal, text);
    nats_ReleaseThreadMemory();
    pthread_mutex_lock(&self->mutex);
    self->ended = true;
    if (self->abandoned) atomic_fetch_sub(&abandoned, 1);
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    unref(self);
    return NULL;
}

/* --- Owner ------------------------------------------------------------------------- */

static weir_nats_session *make(const weir_nats_session_config *config)
{
    weir_nats_session *self = calloc(1, sizeof *self);
    pthread_condattr_t monotonic;
    if (!self || !(self->name = strdup(config->name))) abort();
    self->config = *config;
    self->config.url = self->config.name = NULL;
    self->handlers = config->handlers;
    self->actor = config->actor;
    self->fd = -1;
    self->deadline_us = weir_clock_now_us() + config->timeout_us;
    atomic_init(&self->references, 1);
    weir_nats_servers_parse(&self->servers, config->url, NULL);
    pthread_mutex_init(&self->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return self;
}

static int start_thread(weir_nats_session *self)
{
    sigset_t all_signals, before;
    sigfillset(&all_signals);
    pthread_sigmask(SIG_SETMASK, &all_signals, &before);
    atomic_fetch_add(&self->references, 1);
    int rc = pthread_create(&self->thread, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) atomic_fetch_sub(&self->references, 1);
    return rc;
}

weir_nats_session *weir_nats_session_start(const weir_nats_session_config *config,
                                           char text[256])
{
    if (atomic_load(&abandoned) >= abandoned_max) {
        snprintf(text, 256, "%d attempts to connect have not ended yet", abandoned_max);
        return NULL;
    }
    weir_nats_session *self = make(config);
    int rc = self->wake < 0 ? errno : 0;
    if (!rc) {
        add(self);
        rc = start_thread(self);
        if (rc) take_out(self);
    }
    if (!rc) return self;
    snprintf(text, 256, "cannot begin to connect: %s", strerror(rc));
    unref(self);
    return NULL;
}

int64_t weir_nats_session_deadline(weir_nats_session *self)
{
    pthread_mutex_lock(&self->mutex);
    int64_t deadline_us = self->deadline_us;
    pthread_mutex_unlock(&self->mutex);
    return deadline_us;
}

size_t weir_nats_session_server(weir_nats_session *self)
{
    pthread_mutex_lock(&self->mutex);
    size_t server = self->server;
    pthread_mutex_unlock(&self->mutex);
    return server;
}

void weir_nats_session_wake(weir_nats_session *self)
{
    if (!atomic_exchange(&self->woken, true)) eventfd_write(self->wake, 1);
}

void weir_nats_session_cut(weir_nats_session *self, const char *text)
{
    pthread_mutex_lock(&self->mutex);
    if (!self->text[0]) snprintf(self->text, sizeof self->text, "%s", text);
    atomic_store(&self->cut, true);
    if (self->fd >= 0) shutdown(self->fd, SHUT_RDWR);
    pthread_mutex_unlock(&self->mutex);
    eventfd_write(self->wake, 1);
}

/*  True: the thread has ended, or will within that time. Under the mutex.           */
static bool wait_for_end(weir_nats_session *self, int64_t wait_us)
{
    struct timespec end;
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t ns = end.tv_nsec + wait_us % 1000000 * 1000;
    end.tv_sec += wait_us / 1000000 + ns / 1000000000;
    end.tv_nsec = ns % 1000000000;
    while (!self->ended && !rc)
        rc = pthread_cond_timedwait(&self->changed, &self->mutex, &end);
    return self->ended;
}

void weir_nats_session_release(weir_nats_session **self_p, int64_t wait_us)
{
    weir_nats_session *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    take_out(self);
    weir_nats_session_cut(self, "it was ended");
    pthread_mutex_lock(&self->mutex);
    self->released = true;
    while (self->active)
        pthread_cond_wait(&self->changed, &self->mutex);
    bool ended = wait_for_end(self, wait_us);
    self->abandoned = !ended;
    if (!ended) atomic_fetch_add(&abandoned, 1);
    pthread_mutex_unlock(&self->mutex);
    if (ended)
        pthread_join(self->thread, NULL);
    else
        pthread_detach(self->thread);
    unref(self);
}

/* --- In its thread ----------------------------------------------------------------- */

int64_t weir_nats_session_max_payload(weir_nats_session *self)
{
    return self->max_payload;
}

bool weir_nats_session_is_full(weir_nats_session *self)
{
    return natsConnection_Buffered(self->connection) >= buffer_full_bytes;
}

natsStatus weir_nats_session_publish(weir_nats_session *self, natsMsg **msg_p)
{
    return js_PublishMsgAsync(self->js, msg_p, NULL);
}

natsStatus weir_nats_session_request(weir_nats_session *self, const char *subject,
                                     uint64_t token, const void *data, size_t size)
{
    char reply[96];
    snprintf(reply, sizeof reply, "%s%llu", self->inbox, (unsigned long long)token);
    return natsConnection_PublishRequest(self->connection, subject, reply, data,
                                         (int)size);
}

static natsStatus subscribe_pulled(weir_nats_session *self)
{
    char subject[72];
    if (self->pulled) return NATS_OK;
    snprintf(subject, sizeof subject, "%spull.*", self->inbox);
    natsStatus s = natsConnection_Subscribe(&self->pulled, self->connection, subject,
                                            on_message, (void *)self->id);
    return s ? s : natsSubscription_SetPendingLimits(self->pulled, -1, -1);
}

natsStatus weir_nats_session_pull(weir_nats_session *self, const char *subject,
                                  uint64_t token, const void *data, size_t size)
{
    char reply[96];
    natsStatus s = subscribe_pulled(self);
    snprintf(reply, sizeof reply, "%spull.%llu", self->inbox, (unsigned long long)token);
    return s ? s
             : natsConnection_PublishRequest(self->connection, subject, reply, data,
                                             (int)size);
}

natsStatus weir_nats_session_stop_pulls(weir_nats_session *self)
{
    return self->pulled ? natsSubscription_Unsubscribe(self->pulled) : NATS_OK;
}

natsStatus weir_nats_session_send(weir_nats_session *self, const char *subject,
                                  const void *data, size_t size)
{
    return natsConnection_Publish(self->connection, subject, data, (int)size);
}
