#include "runtime/actor.h"
#include "runtime/actor_private.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/log.h"
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const size_t default_window = 32 << 20;
static const size_t default_block = 64 << 10;
static const size_t default_record_max = 8 << 20;

/* --- Failing and ending ------------------------------------------------------------ */

void weir_actor_fail(weir_actor *self, weir_err err, const char *where,
                     const char *format, ...)
{
    if (self->failed) return;
    self->failed = true;
    weir_report reason = {0};
    char text[sizeof reason.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    weir_report_set(&reason, err, where, "%s", text);
    weir_log(WEIR_ERROR, "stopped cause=\"%s\"%s%s", text, where && *where ? " at=" : "",
             where ? where : "");
    weir_vitals_fail(self->node.vitals, &reason);
    if (self->class->failed) self->class->failed(self->self);
}

bool weir_actor_failed(const weir_actor *self)
{
    return self->failed;
}

void weir_actor_end(weir_actor *self)
{
    self->ending = true;
}

void weir_actor_leave(weir_actor *self)
{
    self->ending = self->leaving = true;
}

void weir_actor_stuck(weir_actor *self)
{
    self->stuck = true;
}

static void check_ended(weir_actor *self)
{
    weir_vitals *vitals = self->node.vitals;
    if (!self->ending || self->failed || (self->book.open && !self->leaving)) return;
    if (vitals->state != WEIR_STATE_ENDED)
        weir_vitals_set_state(vitals, WEIR_STATE_ENDED);
}

/* --- Commands ---------------------------------------------------------------------- */

typedef struct {
    const char *name;
    weir_err (*handler)(weir_actor *self, zmsg_t *args, zmsg_t *reply);
    const char *help;
} kit_command;

/*  A report becomes the reply's second frame.                                 */
static weir_err reply_report(weir_err err, const weir_report *report, zmsg_t *reply)
{
    if (err) zmsg_addstr(reply, report->text);
    return err;
}

/*  The third word of LISTEN and CONNECT says what a foreign endpoint needs.   */
static weir_endpoint endpoint_of(const char *text, const char *third)
{
    weir_endpoint endpoint = {.endpoint = text, .role = WEIR_ROLE_PRODUCE};
    endpoint.plaintext = third && streq(third, "plaintext");
    bool foreign = text && weir_endpoint_is_foreign(text);
    if (foreign && third && !endpoint.plaintext) endpoint.server = third;
    return endpoint;
}

static weir_err cmd_listen(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    weir_report report = {0};
    char *text = zmsg_popstr(args), *third = zmsg_popstr(args);
    weir_endpoint endpoint = endpoint_of(text, third);
    weir_err err = text ? weir_actor_listen(self, &endpoint, &report) : WEIR_EINVAL;
    if (!err) zmsg_addstr(reply, weir_socket_endpoint(self->inlet_socket));
    zstr_free(&text);
    zstr_free(&third);
    return reply_report(err, &report, reply);
}

static weir_err cmd_connect(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    weir_report report = {0};
    char *port = zmsg_popstr(args), *text = zmsg_popstr(args), *third = zmsg_popstr(args);
    weir_endpoint endpoint = endpoint_of(text, third);
    bool foreign = text && weir_endpoint_is_foreign(text);
    weir_err err =
        text ? weir_actor_connect(self, port, &endpoint, foreign ? NULL : third, &report)
             : WEIR_EINVAL;
    zstr_free(&port);
    zstr_free(&text);
    zstr_free(&third);
    return reply_report(err, &report, reply);
}

/*  The route is an address in this process.                                   */
static weir_err cmd_route(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    weir_report report = {0};
    char *port = zmsg_popstr(args), *text = zmsg_popstr(args), *name = zmsg_popstr(args);
    void *route = NULL;
    weir_err err = WEIR_EINVAL;
    if (name && sscanf(text, "%p", &route) == 1)
        err = weir_actor_route(self, port, route, name, &report);
    zstr_free(&port);
    zstr_free(&text);
    zstr_free(&name);
    return reply_report(err, &report, reply);
}

static bool has_routing(const weir_actor *self, int port)
{
    for (const weir_routing *r = self->routings; r; r = r->next)
        if (r->port == port) return true;
    return false;
}

/*  A block that nobody reads would count as safe at once.                     */
static const char *unread_port(const weir_actor *self)
{
    for (int i = 0; i < self->port_count; i++) {
        const weir_output *l = self->links;
        while (l && l->port != i)
            l = l->next;
        if (!l && !has_routing(self, i)) return self->ports[i];
    }
    return NULL;
}

static weir_err cmd_start(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    if (self->started) return WEIR_EINVAL;
    const char *unread = unread_port(self);
    if (unread) {
        zmsg_addstrf(reply, "nobody reads from '%s'", unread);
        return WEIR_EINVAL;
    }
    self->started = true;
    if (self->failed) return WEIR_OK; // and stays so, for who restarts it
    weir_vitals_set_state(self->node.vitals, WEIR_STATE_RUNNING);
    if (self->class->start) self->class->start(self->self);
    return WEIR_OK;
}

static void set_paused(weir_actor *self, bool paused)
{
    if (self->paused == paused) return;
    self->paused = paused;
    weir_actor_hold_inlet(self);
    if (self->class->pause && !self->failed) self->class->pause(self->self, paused);
    if (paused)
        weir_vitals_wait(self->node.vitals, WEIR_WAIT_PAUSED, "", "%s", "");
    else
        weir_vitals_flow(self->node.vitals, WEIR_WAIT_PAUSED, "");
}

static weir_err cmd_pause(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    set_paused(self, !self->draining);
    return WEIR_OK;
}

static weir_err cmd_resume(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    set_paused(self, false);
    return WEIR_OK;
}

static weir_err cmd_drain(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    set_paused(self, false);
    if (self->draining || self->failed || !self->class->drain) return WEIR_OK;
    self->draining = true;
    self->class->drain(self->self);
    return WEIR_OK;
}

static weir_err cmd_reopen(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
    if (self->class->reopen && !self->failed) self->class->reopen(self->self);
    return WEIR_OK;
}

static weir_err cmd_stats(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    for (int i = 0; i < WEIR_COUNTS; i++)
        zmsg_addstrf(reply, "%s=%" PRIu64, weir_count_infos[i].name,
                     weir_count_get(self->node.vitals, (weir_count)i));
    return WEIR_OK;
}

static weir_err cmd_help(weir_actor *self, zmsg_t *args, zmsg_t *reply);

static const kit_command kit_commands[] = {
    {"LISTEN", cmd_listen,
     "endpoint [plaintext] -> endpoint ; binds the inlet; by CURVE unless told "
     "otherwise"},
    {"CONNECT", cmd_connect,
     "outlet endpoint [name | plaintext] -> ; adds a reader to the outlet; name: in the "
     "certificate of a tcp endpoint, else of the reader"},
    {"ROUTE", cmd_route,
     "outlet route name -> ; adds a bus as a reader: the address of its weir_route in "
     "this "
     "process"},
    {"START", cmd_start, "-> ; everything is wired, work begins"},
    {"PAUSE", cmd_pause, "-> ; takes nothing in until RESUME"},
    {"RESUME", cmd_resume, "-> ; goes on after PAUSE"},
    {"DRAIN", cmd_drain, "-> ; a source stops reading and sends what it holds"},
    {"REOPEN", cmd_reopen, "-> ; opens files anew"},
    {"STATS", cmd_stats, "-> name=value ... ; the counters"},
    {"HELP", cmd_help, "-> text ... ; the commands"},
    {NULL, NULL, NULL},
};

static weir_err cmd_help(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    for (const kit_command *c = kit_commands; c->name; c++)
        zmsg_addstrf(reply, "%s %s", c->name, c->help);
    for (const weir_command *c = self->class->commands; c && c->name; c++)
        zmsg_addstrf(reply, "%s %s", c->name, c->help);
    return WEIR_OK;
}

static weir_err run_command(weir_actor *self, const char *name, zmsg_t *args,
                            zmsg_t *reply)
{
    for (const kit_command *c = kit_commands; c->name; c++)
        if (streq(c->name, name)) return c->handler(self, args, reply);
    for (const weir_command *c = self->class->commands; c && c->name; c++)
        if (streq(c->name, name)) return c->handler(self->self, args, reply);
    zmsg_addstrf(reply, "there is no command '%s'", name);
    return WEIR_ENOTFOUND;
}

static void read_pipe(weir_actor *self)
{
    while (!self->terminated && (zsock_events(self->pipe) & ZMQ_POLLIN)) {
        zmsg_t *args = zmsg_recv(self->pipe);
        if (!args) break;
        char *name = zmsg_popstr(args);
        if (!name || streq(name, "$TERM")) {
            self->terminated = true;
        } else {
            zmsg_t *reply = zmsg_new();
            weir_err err = run_command(self, name, args, reply);
            zmsg_pushstrf(reply, "%d", (int)err);
            zmsg_send(&reply, self->pipe);
        }
        zstr_free(&name);
        zmsg_destroy(&args);
    }
    self->pipe_hot = false;
}

/* --- Loop -------------------------------------------------------------------------- */

/*  A paused source does not read; other nodes are paused by their inlets.     */
static bool has_turn(const weir_actor *self)
{
    return self->started && self->class->turn && !self->failed &&
           !(self->paused && self->class->source);
}

/*  One pass over everything that may have something to do. True: do not wait. */
static bool work(weir_actor *self)
{
    bool busy = false;
    weir_loop_run_timers(&self->loop, &self->failed);
    if (self->pipe_hot) read_pipe(self);
    if (self->terminated || self->failed) return false;
    weir_actor_read_inlet(self, &busy);
    weir_actor_read_links(self, &busy);
    if (has_turn(self)) busy |= self->class->turn(self->self);
    weir_actor_settle(self);
    if (self->failed) return false;
    weir_actor_flush_inlet(self, &busy);
    weir_actor_flush_links(self, &busy);
    check_ended(self);
    return busy && !self->failed;
}

static int64_t next_deadline(const weir_actor *self)
{
    if (self->failed) return -1;
    int64_t ports =
        weir_earlier(weir_actor_links_deadline(self), weir_actor_inlet_deadline(self));
    return weir_earlier(weir_loop_deadline(&self->loop), ports);
}

weir_err weir_actor_watch(weir_actor *self, int fd, weir_handler *handler)
{
    return weir_loop_watch(&self->loop, fd, false, handler, self->self);
}

void weir_actor_unwatch(weir_actor *self, int fd)
{
    weir_loop_unwatch(&self->loop, fd);
}

void weir_actor_timer(weir_actor *self, weir_handler *handler, int64_t delay_us)
{
    weir_loop_timer(&self->loop, handler, delay_us);
}

void weir_actor_drain_inlet(weir_actor *self)
{
    if (self->inlet) weir_inlet_drain(self->inlet);
}

/* --- Realm ------------------------------------------------------------------------- */

static void somebody_was_revoked(void *arg)
{
    weir_actor *self = arg;
    eventfd_read(self->revoked_fd, &(eventfd_t){0});
    weir_actor_revoke_peers(self);
    weir_actor_revoke_servers(self);
}

weir_err weir_actor_watch_realm(weir_actor *self)
{
    if (self->revoked_fd >= 0) return WEIR_OK;
    self->revoked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->revoked_fd < 0) return WEIR_ESYS;
    weir_realm_watch(self->node.realm, self->revoked_fd);
    return weir_loop_watch(&self->loop, self->revoked_fd, false, somebody_was_revoked,
                           self);
}

static void leave_realm(weir_actor *self)
{
    if (self->revoked_fd < 0) return;
    weir_realm_unwatch(self->node.realm, self->revoked_fd);
    close(self->revoked_fd);
}

/* --- Life -------------------------------------------------------------------------- */

static void fill_defaults(weir_actor *self)
{
    weir_node *node = &self->node;
    if (!node->name) node->name = self->class->name;
    if (!node->vitals) {
        self->own_vitals = (weir_vitals)WEIR_VITALS_INIT;
        node->vitals = &self->own_vitals;
    }
    if (!node->tap) node->tap = &node->vitals->tap;
    if (!node->ledger) node->ledger = self->own_ledger = weir_ledger_new(INT64_MAX);
    if (!node->state_dir) node->state_dir = ".";
    if (!node->window_bytes) node->window_bytes = default_window;
    if (!node->block_bytes) node->block_bytes = default_block;
    if (!node->record_max) node->record_max = default_record_max;
}

static void wake_pipe(void *arg)
{
    weir_actor *self = arg;
    self->pipe_hot = true;
}

static weir_err open_actor(weir_actor *self, const void *config, weir_report *report)
{
    weir_err err = weir_loop_init(&self->loop, NULL);
    if (!err)
        err = weir_loop_watch(&self->loop, zsock_fd(self->pipe), true, wake_pipe, self);
    if (err)
        return weir_report_set(report, err, NULL, "cannot wait for events: %s",
                               strerror(errno));
    self->self = self->loop.arg = calloc(1, self->class->size);
    if (!self->self) abort();
    err = self->class->init(self->self, self, config, report);
    if (!err) *report = (weir_report){0}; // it may have got over what it met
    return err;
}

static void close_actor(weir_actor *self)
{
    if (self->self && self->class->fini) self->class->fini(self->self);
    free(self->self);
    weir_actor_free_links(self);
    weir_actor_free_inlet(self);
    leave_realm(self);
    weir_dead_file_close(&self->dead_file);
    weir_loop_fini(&self->loop);
    if (self->own_ledger) weir_ledger_destroy(&self->own_ledger);
}

/*  A host's signals are not this thread's to take, nor those of threads that it starts:
    the host waits to be interrupted in one of its own. Faults cannot be put off. */
static void leave_signals(void)
{
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

void weir_actor_run(const weir_class *class, zsock_t *pipe, void *config)
{
    weir_actor kit = {.class = class,
                      .node = *(weir_node *)config,
                      .pipe = pipe,
                      .links_due_us = -1,
                      .look_us = -1,
                      .answer_us = -1,
                      .revoked_fd = -1};
    weir_actor *self = &kit;
    weir_report report = {0};
    leave_signals();
    weir_socket_prepare();
    fill_defaults(self);
    weir_log_actor(self->node.name);
    weir_err err = open_actor(self, config, &report);
    if (err && !report.err)
        weir_report_set(&report, err, NULL, "cannot start: %s", weir_err_name(err));
    if (self->node.report) {
        *self->node.report = report;
        weir_handover_give(self->node.report);
    }
    zsock_signal(pipe, err ? 1 : 0);
    self->pipe_hot = true;
    while (!err && !self->terminated) {
        self->node.vitals->step_us = weir_clock_now_us();
        bool busy = work(self);
        if (self->terminated) break;
        self->node.vitals->step_us = 0;
        weir_loop_wait(&self->loop, busy ? 0 : next_deadline(self), self->failed);
    }
    close_actor(self);
    self->node.vitals->step_us = 0; // they may outlive it
    if (self->node.ended && !self->stuck) sem_post(self->node.ended);
}

const char *weir_actor_wire_name(const weir_actor *self)
{
    const char *name = self->node.realm ? weir_realm_name(self->node.realm) : NULL;
    return name ? name : self->node.name;
}

const weir_node *weir_actor_node(const weir_actor *self)
{
    return &self->node;
}

weir_vitals *weir_actor_vitals(weir_actor *self)
{
    return self->node.vitals;
}

/* --- The owner's side -------------------------------------------------------------- */

/*  The last thing that comes from an actor's thread is CZMQ's signal. Its end of the
    pipe is gone a moment later, and zactor_destroy relies on that.            */
static weir_err actor_is_gone(zactor_t *actor)
{
    while (zstr_send(actor, "$TERM") == 0)
        zclock_sleep(1);
    return WEIR_ECLOSED;
}

/*  The pipe holds 1,000 messages; what does not answer gets no more than these.  */
static const int owed_max = 16;

static weir_err send_command(zactor_t *actor, const char *command, va_list arguments)
{
    zmsg_t *message = zmsg_new();
    zmsg_addstr(message, command);
    for (const char *text; (text = va_arg(arguments, const char *));)
        zmsg_addstr(message, text);
    zsock_set_sndtimeo(actor, 0); // for ever, when the thread has left
    if (zmsg_send(&message, actor) == 0) return WEIR_OK;
    zmsg_destroy(&message);
    return WEIR_ECLOSED;
}

/*  Takes the answer: its code, and its other frames as the reply.               */
static weir_err take_answer(zactor_t *actor, zmsg_t *answer, zmsg_t **reply)
{
    if (answer && zmsg_signal(answer) >= 0) {
        zmsg_destroy(&answer);
        return actor_is_gone(actor);
    }
    char *code = answer ? zmsg_popstr(answer) : NULL;
    weir_err err = code ? (weir_err)atoi(code) : WEIR_ECLOSED;
    zstr_free(&code);
    if (reply)
        *reply = answer;
    else
        zmsg_destroy(&answer);
    return err;
}

weir_err weir_actor_ask(zactor_t *actor, zmsg_t **reply, const char *command, ...)
{
    if (reply) *reply = NULL;
    va_list arguments;
    va_start(arguments, command);
    weir_err err = send_command(actor, command, arguments);
    va_end(arguments);
    if (err) return err;
    zmsg_t *answer;
    while (!(answer = zmsg_recv(actor)) && errno == EINTR)
        continue;
    return take_answer(actor, answer, reply);
}

/*  NULL: none has come until then.                                              */
static zmsg_t *recv_until(zactor_t *actor, int64_t until_ms)
{
    zmq_pollitem_t item = {.socket = zsock_resolve(actor), .events = ZMQ_POLLIN};
    for (;;) {
        int64_t left_ms = until_ms - zclock_mono();
        int count = zmq_poll(&item, 1, left_ms > 0 ? (long)left_ms : 0);
        if (count > 0) return zmsg_recv(actor);
        if (left_ms <= 0) return NULL;
    }
}

weir_err weir_actor_ask_within(zactor_t *actor, weir_patience *patience, zmsg_t **reply,
                               const char *command, ...)
{
    if (reply) *reply = NULL;
    int64_t until_ms = zclock_mono() + patience->timeout_ms;
    zmsg_t *answer;
    while (patience->owed >= owed_max && (answer = recv_until(actor, 0))) {
        zmsg_destroy(&answer);
        patience->owed--;
    }
    if (patience->owed >= owed_max) return WEIR_ETIMEOUT;
    va_list arguments;
    va_start(arguments, command);
    weir_err err = send_command(actor, command, arguments);
    va_end(arguments);
    if (err) return err;
    patience->owed++;
    while ((answer = recv_until(actor, until_ms))) {
        if (--patience->owed == 0) return take_answer(actor, answer, reply);
        zmsg_destroy(&answer);
    }
    return WEIR_ETIMEOUT;
}

static bool wait_for(sem_t *ended, int64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    if (wait_ms < 0) wait_ms = 0;
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000l;
    if (until.tv_nsec >= 1000000000l) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000l;
    }
    while (sem_timedwait(ended, &until))
        if (errno != EINTR) return false;
    return true;
}

weir_err weir_actor_stop(zactor_t **actor_p, sem_t *ended, int timeout_ms)
{
    if (!*actor_p) return WEIR_OK;
    /*  zactor_destroy gives up when the pipe is full, and waits for ever when the
        thread is stuck; the semaphore does neither.                           */
    zsock_set_sndtimeo(*actor_p, 0);
    bool sent = false;
    for (int64_t until_ms = zclock_mono() + timeout_ms;;) {
        int64_t left_ms = until_ms - zclock_mono();
        /*  It fails when the pipe is full, or when the thread has left already. */
        if (!sent) sent = zstr_send(*actor_p, "$TERM") == 0;
        if (wait_for(ended, sent || left_ms < 10 ? left_ms : 10)) break;
        if (left_ms <= 0) return WEIR_ETIMEOUT;
    }
    zactor_destroy(actor_p);
    return WEIR_OK;
}
