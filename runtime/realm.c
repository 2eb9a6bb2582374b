#include "runtime/realm.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/loop.h"
#include "runtime/thread.h"
#include "runtime/zap.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/*  In libzmq since 4.3.0, in its header only among what is not final. A library without
    it refuses the option, and so the socket.                                  */
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

static const int64_t settle_us = 100000;     // from the first change to the reading
static const int64_t refresh_us = 30000000;  // also unasked: clocks jump, and NFS is mute
static const int64_t unwatched_us = 1000000; // without inotify
static const int64_t save_us = 1000000;      // between two writings of refused.json
static const int requests_a_turn = 64;
static const int log_burst = 32; // lines about refusals; then one a second

struct weir_realm {
    void *context; // libzmq's
    char *keys;    // the folder; NULL: no identity
    weir_cert own;

    /*  The thread's own. It alone writes what the lock guards, except watchers. */
    pthread_t thread;
    bool started, stop, zap_hot;
    weir_loop loop;
    void *zap; // ROUTER
    int stop_fd, inotify_fd;
    int folder_watch, peers_watch; // inotify's numbers
    bool settling;                 // a reading is due soon
    bool short_of;                 // the last reading failed
    bool unsaved;                  // refusals that the file does not have
    int64_t saved_us;
    int save_errno; // of the last writing, so that it is told once
    int log_tokens;
    int64_t log_us;      // when a token came last
    uint64_t log_silent; // refusals that were not logged

    pthread_mutex_t lock; // guards what follows
    weir_roster roster;
    weir_refusals refused;
    int *watchers; // owned
    size_t watcher_count;
    _Atomic uint64_t revocations; // written with the lock, read without
};

/* --- The folder -------------------------------------------------------------------- */

static void path_in(const weir_realm *self, const char *name, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", self->keys, name);
}

static void log_problems(const weir_roster *before, const weir_roster *now)
{
    for (size_t i = 0; i < now->problems.count; i++) {
        const weir_report *problem = &now->problems.items[i];
        if (!weir_roster_has_problem(before, problem))
            weir_log(WEIR_WARN, "certificate not trusted file=%s cause=\"%s\"",
                     problem->where, problem->text);
    }
}

/*  Before the folder is read, so that no later change is missed. Asked again each time:
    a folder may have been replaced.                                           */
static void watch_folders(weir_realm *self)
{
    char peers[PATH_MAX];
    const uint32_t own = IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB | IN_DELETE_SELF |
                         IN_MOVE_SELF | IN_ONLYDIR;
    if (self->inotify_fd < 0) return;
    path_in(self, "peers", peers);
    self->folder_watch = inotify_add_watch(self->inotify_fd, self->keys, own);
    int before = self->peers_watch;
    self->peers_watch = inotify_add_watch(self->inotify_fd, peers, own | IN_CLOSE_WRITE);
    if (before >= 0 && before != self->peers_watch)
        inotify_rm_watch(self->inotify_fd, before);
}

static void publish(weir_realm *self, weir_roster *roster)
{
    pthread_mutex_lock(&self->lock);
    weir_roster before = self->roster;
    self->roster = *roster;
    bool lost = weir_roster_has_lost(&before, roster);
    if (lost) self->revocations++;
    for (size_t i = 0; lost && i < self->watcher_count; i++)
        eventfd_write(self->watchers[i], 1);
    pthread_mutex_unlock(&self->lock);
    weir_roster_fini(&before);
}

/*  A system that is short of descriptors says nothing about whom to trust: what is
    known stays.                                                               */
static bool read_peers(weir_realm *self)
{
    char peers[PATH_MAX];
    weir_roster roster;
    weir_report report;
    path_in(self, "peers", peers);
    watch_folders(self);
    bool good = weir_roster_read(&roster, peers, &report) == WEIR_OK;
    if (good) {
        log_problems(&self->roster, &roster);
        publish(self, &roster);
    } else if (!self->short_of) {
        weir_log(WEIR_WARN, "certificates not read again file=%s cause=\"%s\"",
                 report.where, report.text);
    }
    self->short_of = !good;
    return good;
}

static int64_t next_look_us(const weir_realm *self, bool good)
{
    if (!good || self->folder_watch < 0) return unwatched_us;
    int64_t expiry_ms = weir_roster_next_expiry(&self->roster);
    if (!expiry_ms) return refresh_us;
    int64_t left_ms = expiry_ms - weir_clock_wall_ms();
    if (left_ms < 0) return 0;
    return left_ms < refresh_us / 1000 ? left_ms * 1000 : refresh_us;
}

static void on_look(void *arg)
{
    weir_realm *self = arg;
    self->settling = false;
    bool good = read_peers(self);
    weir_loop_timer(&self->loop, on_look, next_look_us(self, good));
}

/*  In the folder itself only peers/ matters: we write there, too.             */
static bool matters(const weir_realm *self, const struct inotify_event *event)
{
    return event->wd != self->folder_watch || !event->len ||
           strcmp(event->name, "peers") == 0;
}

static void on_change(void *arg)
{
    weir_realm *self = arg;
    _Alignas(struct inotify_event) char events[4096];
    ssize_t size = read(self->inotify_fd, events, sizeof events);
    bool changed = false;
    for (char *at = events; size > 0 && at < events + size;) {
        const struct inotify_event *event = (const void *)at;
        changed = changed || matters(self, event);
        at += sizeof *event + event->len;
    }
    if (!changed || self->settling) return;
    self->settling = true;
    weir_loop_timer(&self->loop, on_look, settle_us);
}

/* --- Refusals ---------------------------------------------------------------------- */

static void on_save(void *arg)
{
    weir_realm *self = arg;
    char path[PATH_MAX];
    path_in(self, "refused.json", path);
    self->unsaved = false;
    self->saved_us = weir_clock_now_us();
    int error = weir_refusals_write(&self->refused, path) ? errno : 0;
    if (error && error != self->save_errno)
        weir_log(WEIR_WARN, "refusals not written file=%s cause=\"%s\"", path,
                 strerror(error));
    self->save_errno = error;
}

static bool may_log(weir_realm *self)
{
    int64_t now_us = weir_clock_now_us(), earned = (now_us - self->log_us) / 1000000;
    if (earned > 0) {
        int64_t tokens = self->log_tokens + earned;
        self->log_tokens = tokens < log_burst ? (int)tokens : log_burst;
        self->log_us += earned * 1000000;
    }
    if (self->log_tokens == 0) return false;
    self->log_tokens--;
    return true;
}

static void log_refusal(weir_realm *self, const weir_refusal *refusal)
{
    if (!may_log(self)) {
        self->log_silent++;
        return;
    }
    char silent[64] = "";
    if (self->log_silent)
        snprintf(silent, sizeof silent, " unlogged_before=%" PRIu64, self->log_silent);
    self->log_silent = 0;
    weir_log(WEIR_WARN, "peer refused address=%s key=%s name=%s role=%s cause=\"%s\"%s",
             refusal->address, *refusal->key ? refusal->key : "none",
             *refusal->name ? refusal->name : "unknown", refusal->role, refusal->cause,
             silent);
}

static void note_refusal(weir_realm *self, const weir_refusal *refusal)
{
    bool is_new;
    pthread_mutex_lock(&self->lock);
    weir_refusals_add(&self->refused, refusal, &is_new);
    pthread_mutex_unlock(&self->lock);
    if (is_new) log_refusal(self, refusal);
    self->unsaved = true;
    int64_t wait_us = self->saved_us + save_us - weir_clock_now_us();
    weir_loop_timer(&self->loop, on_save, wait_us > 0 ? wait_us : 0);
}

/* --- Letting in -------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void set_cause(weir_refusal *refusal,
                                                            const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(refusal->cause, sizeof refusal->cause, format, arguments);
    va_end(arguments);
}

/*  True: let in. Otherwise the refusal has its cause.                         */
static bool judge(const weir_cert *cert, const weir_zap_request *request,
                  weir_refusal *refusal)
{
    char text[WEIR_ROLES_TEXT_MAX];
    unsigned role = weir_role_of(request->domain);
    if (strcmp(request->mechanism, "CURVE")) {
        set_cause(refusal, "it does not speak CURVE but %s", request->mechanism);
    } else if (!cert) {
        set_cause(refusal, "nobody in peers/ has its key");
    } else if (!weir_cert_is_valid(cert, weir_clock_wall_ms())) {
        weir_expiry_print(cert->expires_ms, text);
        set_cause(refusal, "its time was over at %s", text);
    } else if (!role || !(cert->roles & role)) {
        weir_roles_print(cert->roles, text);
        set_cause(refusal, "it has not the role %s; its roles: %s", request->domain,
                  text);
    } else {
        return true;
    }
    return false;
}

/*  The roster is this thread's to read.                                       */
static void decide(weir_realm *self, weir_zap_request *request)
{
    const weir_cert *cert = weir_roster_by_key(&self->roster, request->key);
    weir_refusal refusal = {.count = 0};
    bool good = judge(cert, request, &refusal);
    weir_zap_answer(request, self->zap, good ? cert->name : NULL);
    if (good) return;
    /*  Our sockets listen by IPv6, where IPv4 has a prefix.                   */
    bool mapped = strncmp(request->address, "::ffff:", 7) == 0;
    snprintf(refusal.address, sizeof refusal.address, "%.63s",
             request->address + (mapped ? 7 : 0));
    snprintf(refusal.key, sizeof refusal.key, "%s", request->key);
    snprintf(refusal.name, sizeof refusal.name, "%s", cert ? cert->name : "");
    snprintf(refusal.role, sizeof refusal.role, "%.15s", request->domain);
    note_refusal(self, &refusal);
}

/*  The descriptor is edge-triggered: all is taken, or the next turn goes on.  */
static void serve_requests(weir_realm *self)
{
    weir_zap_request request;
    for (int i = 0; i < requests_a_turn; i++) {
        weir_err err = weir_zap_recv(&request, self->zap);
        if (err == WEIR_ENOTFOUND) {
            self->zap_hot = false;
            return;
        }
        if (err)
            weir_zap_answer(&request, self->zap, NULL);
        else
            decide(self, &request);
    }
}

static void on_stop(void *arg)
{
    weir_realm *self = arg;
    self->stop = true;
}

static void *run(void *arg)
{
    weir_realm *self = arg;
    weir_log_actor("realm");
    self->zap_hot = true;
    while (!self->stop) {
        weir_loop_run_timers(&self->loop, &self->stop);
        if (self->zap_hot) serve_requests(self);
        weir_loop_wait(&self->loop, self->zap_hot ? 0 : weir_loop_deadline(&self->loop),
                       false);
    }
    if (self->unsaved) on_save(self);
    return NULL;
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err read_own(weir_realm *self, weir_report *report)
{
    char path[PATH_MAX];
    path_in(self, "self.key", path);
    weir_err err = weir_cert_read(&self->own, path, report);
    if (err == WEIR_ENOTFOUND)
        return weir_report_set(report, err, path,
                               "this node has no keys there: weir keys init NAME "
                               "--keys %s",
                               self->keys);
    if (err) return err;
    if (*self->own.name && *self->own.secret_key) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, path,
                           *self->own.name ? "there is no secret-key in it"
                                           : "there is no name in its metadata");
}

static weir_err cannot(const weir_realm *self, const char *what, weir_report *report)
{
    return weir_report_set(report, WEIR_ESYS, self->keys, "cannot %s: %s", what,
                           zmq_strerror(errno));
}

static void on_request(void *arg)
{
    weir_realm *self = arg;
    self->zap_hot = true;
}

static weir_err open_handles(weir_realm *self, weir_report *report)
{
    int size = 0, fd;
    size_t fd_size = sizeof fd;
    self->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    self->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->zap = zmq_socket(self->context, ZMQ_ROUTER);
    if (self->stop_fd < 0 || !self->zap) return cannot(self, "open", report);
    zmq_setsockopt(self->zap, ZMQ_LINGER, &size, sizeof size);
    zmq_setsockopt(self->zap, ZMQ_SNDHWM, &size, sizeof size);
    zmq_setsockopt(self->zap, ZMQ_RCVHWM, &size, sizeof size);
    if (zmq_bind(self->zap, WEIR_ZAP_ENDPOINT) ||
        zmq_getsockopt(self->zap, ZMQ_FD, &fd, &fd_size) ||
        weir_loop_watch(&self->loop, fd, true, on_request, self) ||
        weir_loop_watch(&self->loop, self->stop_fd, false, on_stop, self))
        return cannot(self, "open", report);
    if (self->inotify_fd >= 0 &&
        weir_loop_watch(&self->loop, self->inotify_fd, false, on_change, self))
        return cannot(self, "watch", report);
    return WEIR_OK;
}

static weir_err start(weir_realm *self, weir_report *report)
{
    int bad = weir_thread_start(&self->thread, run, self);
    self->started = !bad;
    if (!bad) return WEIR_OK;
    errno = bad;
    return cannot(self, "start a thread", report);
}

/*  Who may write it decides who is trusted.                                   */
static weir_err check_folder(const weir_realm *self, const char *name,
                             weir_report *report)
{
    char path[PATH_MAX];
    struct stat st;
    path_in(self, name, path);
    if (stat(path, &st) || !(st.st_mode & 002)) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, path,
                           "everybody may write it, and so decide who is trusted: "
                           "chmod 700 %s",
                           path);
}

static weir_err open_keys(weir_realm *self, weir_report *report)
{
    char path[PATH_MAX];
    weir_err err = check_folder(self, "", report);
    if (!err) err = check_folder(self, "peers", report);
    if (!err) err = read_own(self, report);
    if (!err && weir_loop_init(&self->loop, self)) err = cannot(self, "wait", report);
    if (!err) err = open_handles(self, report);
    if (err) return err;
    path_in(self, "refused.json", path);
    if (weir_refusals_read(&self->refused, path) == WEIR_EMALFORMED)
        weir_log(WEIR_WARN, "refusals not read file=%s cause=\"it is malformed\"", path);
    on_look(self);
    return start(self, report);
}

static weir_realm *make(void)
{
    weir_realm *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->stop_fd = self->inotify_fd = self->folder_watch = self->peers_watch = -1;
    self->loop.epoll_fd = self->loop.wake_fd = -1;
    self->log_tokens = log_burst;
    self->log_us = weir_clock_now_us();
    self->saved_us = -save_us;
    pthread_mutex_init(&self->lock, NULL);
    self->context = zmq_ctx_new();
    if (!self->context) abort();
    zmq_ctx_set(self->context, ZMQ_MAX_SOCKETS,
                zmq_ctx_get(self->context, ZMQ_SOCKET_LIMIT));
    return self;
}

weir_err weir_realm_new(weir_realm **self_p, const char *keys, weir_report *report)
{
    *self_p = NULL;
    weir_realm *self = make();
    if (keys && !(self->keys = strdup(keys))) abort();
    weir_err err = keys ? open_keys(self, report) : WEIR_OK;
    if (err) weir_realm_destroy(&self);
    *self_p = self;
    return err;
}

static void close_fd(int fd)
{
    if (fd >= 0) close(fd);
}

void weir_realm_destroy(weir_realm **self_p)
{
    weir_realm *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (self->started) {
        eventfd_write(self->stop_fd, 1);
        pthread_join(self->thread, NULL);
    }
    if (self->zap) zmq_close(self->zap);
    weir_loop_fini(&self->loop);
    close_fd(self->stop_fd);
    close_fd(self->inotify_fd);
    while (zmq_ctx_term(self->context) && errno == EINTR)
        ;
    weir_roster_fini(&self->roster);
    weir_cert_wipe(&self->own);
    pthread_mutex_destroy(&self->lock);
    free(self->watchers);
    free(self->keys);
    free(self);
}

/* --- What others ask --------------------------------------------------------------- */

void *weir_realm_context(const weir_realm *self)
{
    return self->context;
}

const char *weir_realm_name(const weir_realm *self)
{
    return self->keys ? self->own.name : NULL;
}

static weir_err without_identity(weir_report *report)
{
    return weir_report_set(report, WEIR_ENOTFOUND, NULL,
                           "this node has no keys: make them by `weir keys init NAME`");
}

static bool set_text(void *socket, int option, const char *text)
{
    return zmq_setsockopt(socket, option, text, strlen(text)) == 0;
}

static bool set_one(void *socket, int option)
{
    int one = 1;
    return zmq_setsockopt(socket, option, &one, sizeof one) == 0;
}

weir_err weir_realm_serve(weir_realm *self, void *socket, weir_role role,
                          weir_report *report)
{
    const char *domain = weir_role_name(role);
    if (!self->keys) return without_identity(report);
    if (!domain)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "a listening socket asks for one role");
    if (set_one(socket, ZMQ_CURVE_SERVER) && set_one(socket, ZMQ_ZAP_ENFORCE_DOMAIN) &&
        set_text(socket, ZMQ_CURVE_SECRETKEY, self->own.secret_key) &&
        set_text(socket, ZMQ_ZAP_DOMAIN, domain))
        return WEIR_OK;
    return cannot(self, "secure a socket", report);
}

/*  Copies the key of whom we may connect to.                                  */
static weir_err find_server(weir_realm *self, const char *server, char key[WEIR_KEY_MAX],
                            weir_report *report)
{
    pthread_mutex_lock(&self->lock);
    const weir_cert *cert = weir_roster_by_name(&self->roster, server);
    bool valid = cert && weir_cert_is_valid(cert, weir_clock_wall_ms());
    if (valid) memcpy(key, cert->public_key, WEIR_KEY_MAX);
    pthread_mutex_unlock(&self->lock);
    if (valid) return WEIR_OK;
    if (cert)
        return weir_report_set(report, WEIR_EREFUSED, self->keys,
                               "the time of '%s' is over: weir keys allow FILE", server);
    return weir_report_set(
        report, WEIR_ENOTFOUND, self->keys,
        "there is no peers/%s.pub: put the other side's self.pub there "
        "by `weir keys allow FILE --role none`",
        server);
}

weir_err weir_realm_join(weir_realm *self, void *socket, const char *server,
                         weir_report *report)
{
    char key[WEIR_KEY_MAX];
    if (!self->keys) return without_identity(report);
    weir_err err = find_server(self, server, key, report);
    if (err) return err;
    if (set_text(socket, ZMQ_CURVE_SERVERKEY, key) &&
        set_text(socket, ZMQ_CURVE_PUBLICKEY, self->own.public_key) &&
        set_text(socket, ZMQ_CURVE_SECRETKEY, self->own.secret_key))
        return WEIR_OK;
    return cannot(self, "secure a socket", report);
}

bool weir_realm_allows(weir_realm *self, const char *name, weir_role role)
{
    return weir_realm_allows_key(self, name, NULL, role);
}

bool weir_realm_allows_key(weir_realm *self, const char *name, const char *key,
                           weir_role role)
{
    pthread_mutex_lock(&self->lock);
    const weir_cert *cert = weir_roster_by_name(&self->roster, name);
    bool good = cert && weir_cert_is_valid(cert, weir_clock_wall_ms()) &&
                (cert->roles & role) == role &&
                (!key || strcmp(cert->public_key, key) == 0);
    pthread_mutex_unlock(&self->lock);
    return good;
}

uint64_t weir_realm_revocations(const weir_realm *self)
{
    return self->revocations;
}

void weir_realm_watch(weir_realm *self, int eventfd)
{
    pthread_mutex_lock(&self->lock);
    self->watchers =
        realloc(self->watchers, (self->watcher_count + 1) * sizeof *self->watchers);
    if (!self->watchers) abort();
    self->watchers[self->watcher_count++] = eventfd;
    pthread_mutex_unlock(&self->lock);
}

void weir_realm_unwatch(weir_realm *self, int eventfd)
{
    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->watcher_count; i++) {
        if (self->watchers[i] != eventfd) continue;
        self->watchers[i] = self->watchers[--self->watcher_count];
        break;
    }
    pthread_mutex_unlock(&self->lock);
}

size_t weir_realm_refusals(weir_realm *self, weir_refusal *list, size_t max)
{
    pthread_mutex_lock(&self->lock);
    size_t count = self->refused.count < max ? self->refused.count : max;
    memcpy(list, self->refused.items, count * sizeof *list);
    pthread_mutex_unlock(&self->lock);
    return count;
}
