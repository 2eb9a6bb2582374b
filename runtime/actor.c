#include "runtime/actor.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/log.h"
#include "runtime/socket.h"
#include <assert.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

/*  How many messages one channel may hand in before the others get a turn.    */
#define MESSAGES_A_TURN 64
#define TIMERS_MAX 16

static const int64_t relink_delay_us = 100000;

/*  What a block from another process may have around its largest record.      */
static const size_t foreign_slack = 1 << 20;

/*  One descriptor in the epoll set.                                           */
typedef struct watch {
    struct watch *next;
    int fd;
    weir_handler *handler; // NULL: the kit's own (socket, pipe, wake)
    bool *hot;             // set when the descriptor fires; NULL: call the handler
    bool gone;             // unwatched while events are being handled
} watch;

typedef struct {
    weir_handler *handler;
    int64_t at_us; // -1: free
} timer;

/*  An output under way on a link: when `sequence` is acknowledged, the entry has a
    hold less.                                                                 */
typedef struct {
    uint64_t sequence;
    weir_entry *entry;
    uint32_t records; // of the block
} under_way;

/*  A port's link to one reader.                                               */
typedef struct output {
    struct output *next;
    weir_actor *kit;
    int port;
    weir_socket *socket;
    weir_outlet *outlet;
    bool hot;          // may have messages
    int64_t relink_us; // when to say HELLO again; -1: not
    under_way *sent;   // ring, capacity a power of two
    size_t first, count, capacity;
    uint64_t replayed; // of the outlet, as counted so far
} output;

struct weir_actor {
    const weir_class *class;
    void *self;     // the actor's private struct
    weir_node node; // with defaults
    weir_vitals own_vitals;
    weir_ledger *own_ledger;
    zsock_t *pipe;
    bool pipe_hot;
    int epoll_fd, wake_fd; // wake_fd: the virtual clock
    watch *watches;
    timer timers[TIMERS_MAX];
    weir_socket *inlet_socket;
    bool inlet_hot;
    weir_inlet *inlet;
    char **ports; // names, owned
    int port_count;
    output *links;
    weir_book book;
    weir_dead_file *dead_file; // opened with the first dead letter
    bool started, draining, ending, failed, terminated;
    bool starved; // weir_actor_has_room was false and room () is owed
};

static const size_t default_window = 16 << 20;
static const size_t default_block = 64 << 10;
static const size_t default_record_max = 8 << 20;

/* --- Watches and timers ------------------------------------------------------------ */

static weir_err add_watch(weir_actor *self, int fd, weir_handler *handler, bool *hot)
{
    watch *w = calloc(1, sizeof *w);
    if (!w) abort();
    *w = (watch){.next = self->watches, .fd = fd, .handler = handler, .hot = hot};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = w};
    if (hot) event.events |= EPOLLET;
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
        free(w);
        return WEIR_ESYS;
    }
    self->watches = w;
    return WEIR_OK;
}

weir_err weir_actor_watch(weir_actor *self, int fd, weir_handler *handler)
{
    return add_watch(self, fd, handler, NULL);
}

void weir_actor_unwatch(weir_actor *self, int fd)
{
    for (watch *w = self->watches; w; w = w->next) {
        if (w->fd != fd || w->gone) continue;
        epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        w->gone = true;
    }
}

static void sweep_watches(weir_actor *self)
{
    for (watch **w = &self->watches; *w;) {
        watch *gone = *w;
        if (!gone->gone) {
            w = &gone->next;
            continue;
        }
        *w = gone->next;
        free(gone);
    }
}

void weir_actor_timer(weir_actor *self, weir_handler *handler, int64_t delay_us)
{
    timer *free_timer = NULL;
    for (int i = 0; i < TIMERS_MAX; i++) {
        timer *t = &self->timers[i];
        if (t->handler == handler) {
            free_timer = t;
            break;
        }
        if (!t->handler && !free_timer) free_timer = t;
    }
    if (delay_us < 0) {
        if (free_timer && free_timer->handler == handler) free_timer->handler = NULL;
        return;
    }
    assert(free_timer);
    *free_timer = (timer){handler, weir_clock_now_us() + delay_us};
}

static void run_timers(weir_actor *self)
{
    int64_t now = weir_clock_now_us();
    for (int i = 0; i < TIMERS_MAX && !self->failed; i++) {
        timer *t = &self->timers[i];
        if (!t->handler || t->at_us > now) continue;
        weir_handler *handler = t->handler;
        t->handler = NULL;
        handler(self->self);
    }
    for (output *l = self->links; l && !self->failed; l = l->next) {
        if (l->relink_us < 0 || l->relink_us > now) continue;
        l->relink_us = -1;
        l->hot = true;
        weir_outlet_connect(l->outlet);
    }
}

static int64_t next_deadline(const weir_actor *self)
{
    int64_t next = -1;
    if (self->failed) return next;
    for (int i = 0; i < TIMERS_MAX; i++) {
        const timer *t = &self->timers[i];
        if (t->handler && (next < 0 || t->at_us < next)) next = t->at_us;
    }
    for (const output *l = self->links; l; l = l->next)
        if (l->relink_us >= 0 && (next < 0 || l->relink_us < next)) next = l->relink_us;
    return next;
}

/* --- Failing and ending ------------------------------------------------------------ */

void weir_actor_fail(weir_actor *self, weir_err err, const char *where,
                     const char *format, ...)
{
    if (self->failed) return;
    self->failed = true;
    char text[sizeof self->node.vitals->reason.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    weir_report_set(&self->node.vitals->reason, err, where, "%s", text);
    weir_log(WEIR_ERROR, "stopped cause=\"%s\"%s%s", text, where && *where ? " at=" : "",
             where ? where : "");
    weir_vitals_set_state(self->node.vitals, WEIR_STATE_FAILED);
}

bool weir_actor_failed(const weir_actor *self)
{
    return self->failed;
}

void weir_actor_end(weir_actor *self)
{
    self->ending = true;
}

static void check_ended(weir_actor *self)
{
    weir_vitals *vitals = self->node.vitals;
    if (!self->ending || self->failed || self->book.open) return;
    if (vitals->state != WEIR_STATE_ENDED)
        weir_vitals_set_state(vitals, WEIR_STATE_ENDED);
}

/* --- Outlets ----------------------------------------------------------------------- */

int weir_actor_port(weir_actor *self, const char *name)
{
    self->ports = realloc(self->ports, (size_t)(self->port_count + 1) * sizeof(char *));
    if (!self->ports) abort();
    self->ports[self->port_count] = strdup(name);
    return self->port_count++;
}

static weir_err send_up(void *arg, const weir_frame *frame, weir_block *body)
{
    output *l = arg;
    l->hot = true;
    weir_err err = weir_socket_send(l->socket, NULL, 0, frame, body);
    if (err) l->relink_us = weir_clock_now_us() + relink_delay_us;
    return err;
}

static void link_acked(void *arg, uint64_t sequence)
{
    output *l = arg;
    while (l->count) {
        under_way *first = &l->sent[l->first];
        if (first->sequence > sequence) break;
        weir_count_add(l->kit->node.vitals, WEIR_COUNT_OUT, first->records);
        weir_book_release(&l->kit->book, first->entry);
        l->first = (l->first + 1) & (l->capacity - 1);
        l->count--;
    }
}

static void link_refused(void *arg, uint64_t sequence, const char *code, const char *text)
{
    output *l = arg;
    weir_actor_fail(l->kit, WEIR_EREFUSED, NULL,
                    "the reader of %s refused block %" PRIu64 ": %s: %s",
                    weir_outlet_name(l->outlet), sequence, code, text);
}

static void link_closed(void *arg, const char *code, const char *text, bool retryable)
{
    output *l = arg;
    if (retryable)
        l->relink_us = weir_clock_now_us() + relink_delay_us;
    else
        weir_actor_fail(l->kit, WEIR_ECLOSED, NULL, "the reader of %s closed: %s: %s",
                        weir_outlet_name(l->outlet), code, text);
}

static const weir_outlet_events outlet_events = {
    .send = send_up,
    .acked = link_acked,
    .refused = link_refused,
    .closed = link_closed,
};

static void note_under_way(output *l, under_way what)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 64;
        under_way *ring = malloc(capacity * sizeof *ring);
        if (!ring) abort();
        for (size_t i = 0; i < l->count; i++)
            ring[i] = l->sent[(l->first + i) & (l->capacity - 1)];
        free(l->sent);
        l->sent = ring;
        l->first = 0;
        l->capacity = capacity;
    }
    l->sent[(l->first + l->count++) & (l->capacity - 1)] = what;
}

void weir_actor_send(weir_actor *self, int port, weir_block **block_p, weir_entry *entry)
{
    uint32_t records = weir_block_records(*block_p);
    size_t bytes = weir_block_size(*block_p);
    for (output *l = self->links; l && !self->failed; l = l->next) {
        if (l->port != port) continue;
        weir_block *block = weir_block_dup(*block_p);
        uint64_t sequence;
        weir_entry_hold(entry);
        weir_outlet_send(l->outlet, &block, &sequence);
        note_under_way(l, (under_way){sequence, entry, records});
        weir_count_add(self->node.vitals, WEIR_COUNT_BYTES_OUT, bytes);
        weir_count_add(self->node.vitals, WEIR_COUNT_BLOCKS_OUT, 1);
    }
    weir_block_destroy(block_p);
}

bool weir_actor_has_room(weir_actor *self)
{
    for (output *l = self->links; l; l = l->next) {
        if (weir_outlet_has_room(l->outlet)) continue;
        if (!self->starved) weir_count_add(self->node.vitals, WEIR_COUNT_HOLDS, 1);
        self->starved = true;
        return false;
    }
    return true;
}

static void offer_room(weir_actor *self)
{
    if (!self->starved || !weir_actor_has_room(self)) return;
    self->starved = false;
    if (self->class->room) self->class->room(self->self);
}

static uint64_t random_session(void)
{
    uint64_t session = 0;
    while (session == 0)
        if (getrandom(&session, sizeof session, 0) < 0) abort();
    return session;
}

static weir_err connect_port(weir_actor *self, const char *port, const char *endpoint,
                             weir_report *report)
{
    int number = 0;
    while (number < self->port_count && !streq(self->ports[number], port))
        number++;
    if (number == self->port_count)
        return weir_report_set(report, WEIR_ENOTFOUND, NULL, "there is no outlet '%s'",
                               port);
    output *l = calloc(1, sizeof *l);
    if (!l) abort();
    l->kit = self;
    l->port = number;
    l->relink_us = -1;
    weir_err err = weir_socket_connect(&l->socket, endpoint, report);
    if (!err) err = add_watch(self, weir_socket_fd(l->socket), NULL, &l->hot);
    if (err) {
        weir_socket_close(&l->socket);
        free(l);
        return err;
    }
    l->outlet = weir_outlet_new(&(weir_outlet_config){
        .node = self->node.name,
        .name = port,
        .session = random_session(),
        .window_bytes = self->node.window_bytes,
        .corked = true,
        .events = &outlet_events,
        .arg = l,
    });
    l->next = self->links;
    self->links = l;
    return weir_outlet_connect(l->outlet);
}

static bool read_link(output *l)
{
    weir_message message;
    weir_block *body;
    for (int i = 0; i < MESSAGES_A_TURN; i++) {
        if (!weir_socket_readable(l->socket)) {
            l->hot = false;
            return false;
        }
        weir_err err = weir_socket_recv(l->socket, &message, &body);
        weir_block_destroy(&body);
        if (err == WEIR_ENOTFOUND) continue;
        if (!err) err = weir_outlet_recv(l->outlet, &message.frame);
        if (!err) continue;
        weir_actor_fail(l->kit, err, NULL, "the reader of %s broke the protocol",
                        weir_outlet_name(l->outlet));
        return false;
    }
    return true;
}

static void count_replays(weir_actor *self)
{
    for (output *l = self->links; l; l = l->next) {
        uint64_t replayed = weir_outlet_replayed(l->outlet);
        weir_count_add(self->node.vitals, WEIR_COUNT_REPLAYED, replayed - l->replayed);
        l->replayed = replayed;
    }
}

/* --- Inlet ------------------------------------------------------------------------- */

static weir_err send_down(void *arg, const void *id, size_t id_size,
                          const weir_frame *frame)
{
    weir_actor *self = arg;
    self->inlet_hot = true;
    if (frame->type == WEIR_ACK) weir_count_add(self->node.vitals, WEIR_COUNT_ACKS, 1);
    return weir_socket_send(self->inlet_socket, id, id_size, frame, NULL);
}

static weir_entry *open_entry(weir_actor *self, weir_lane *lane, uint64_t sequence,
                              uint32_t records)
{
    weir_vitals *vitals = self->node.vitals;
    weir_count_add(vitals, WEIR_COUNT_IN, records);
    weir_count_add(vitals, WEIR_COUNT_RESIDENT, records);
    weir_entry *entry = weir_book_open(&self->book, lane, sequence, records);
    vitals->open = self->book.open;
    return entry;
}

static weir_lane *peer_lane(weir_peer *peer)
{
    weir_lane **lane = (weir_lane **)weir_peer_data(peer);
    if (*lane) return *lane;
    *lane = calloc(1, sizeof **lane);
    if (!*lane) abort();
    (*lane)->owner = peer;
    return *lane;
}

static void recv_block(void *arg, weir_peer *peer, uint64_t sequence,
                       weir_block **block_p)
{
    weir_actor *self = arg;
    uint32_t records = weir_block_records(*block_p);
    weir_entry *entry = open_entry(self, peer_lane(peer), sequence, records);
    entry->cost = weir_block_cost(*block_p);
    weir_count_add(self->node.vitals, WEIR_COUNT_BYTES_IN, weir_block_size(*block_p));
    weir_count_add(self->node.vitals, WEIR_COUNT_BLOCKS_IN, 1);
    self->class->recv_block(self->self, entry, *block_p);
}

/*  A token is safe when everything before it is: it waits in the lane like a
    block without records.                                                     */
static void recv_token(void *arg, weir_peer *peer, uint64_t sequence,
                       weir_token_kind kind, uint64_t argument)
{
    (void)kind;
    (void)argument;
    weir_actor *self = arg;
    weir_actor_done(self, open_entry(self, peer_lane(peer), sequence, 0));
}

static const weir_inlet_events inlet_events = {
    .send = send_down,
    .block = recv_block,
    .token = recv_token,
};

static weir_err listen_inlet(weir_actor *self, const char *endpoint, weir_report *report)
{
    if (!self->class->inlet || self->inlet_socket)
        return weir_report_set(report, WEIR_EINVAL, NULL, "there is no inlet to bind");
    weir_err err = weir_socket_listen(&self->inlet_socket, endpoint, report);
    if (err) return err;
    bool foreign = strncmp(endpoint, "inproc://", 9) != 0;
    self->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = self->node.window_bytes,
        .block_max = foreign ? self->node.record_max + foreign_slack : 0,
        .foreign = foreign,
        .events = &inlet_events,
        .arg = self,
    });
    return add_watch(self, weir_socket_fd(self->inlet_socket), NULL, &self->inlet_hot);
}

static bool read_inlet(weir_actor *self)
{
    weir_message message;
    weir_block *body;
    for (int i = 0; i < MESSAGES_A_TURN && !self->failed; i++) {
        if (!weir_socket_readable(self->inlet_socket)) {
            self->inlet_hot = false;
            return false;
        }
        weir_err err = weir_socket_recv(self->inlet_socket, &message, &body);
        if (err == WEIR_ENOTFOUND) continue;
        /*  What is no frame of ours is answered like a wrong type.            */
        if (err) message.frame = (weir_frame){.type = WEIR_WELCOME};
        weir_inlet_recv(self->inlet, message.id, message.id_size, &message.frame, &body);
    }
    return !self->failed;
}

/* --- Book -------------------------------------------------------------------------- */

void weir_actor_done(weir_actor *self, weir_entry *entry)
{
    if (self->inlet && entry->cost && !entry->granted) {
        entry->granted = true;
        weir_inlet_grant(self->inlet, entry->lane->owner, entry->cost);
    }
    weir_book_release(&self->book, entry);
}

weir_entry *weir_actor_open(weir_actor *self, weir_lane *lane, uint32_t records,
                            uint64_t position, int token)
{
    weir_entry *entry = open_entry(self, lane, 0, records);
    entry->position = position;
    entry->token = token;
    return entry;
}

void weir_actor_lane_fini(weir_actor *self, weir_lane *lane)
{
    weir_lane_fini(lane, &self->book);
}

static void count_fates(weir_actor *self, const weir_entry *entry)
{
    weir_vitals *vitals = self->node.vitals;
    const weir_fates *f = &entry->fates;
    assert(f->done + f->dropped + f->filtered + f->dead + f->skipped + f->shed ==
           entry->records);
    weir_count_add(vitals, WEIR_COUNT_DONE, f->done);
    weir_count_add(vitals, WEIR_COUNT_DROPPED, f->dropped);
    weir_count_add(vitals, WEIR_COUNT_FILTERED, f->filtered);
    weir_count_add(vitals, WEIR_COUNT_DEAD, f->dead);
    weir_count_add(vitals, WEIR_COUNT_SKIPPED, f->skipped);
    weir_count_add(vitals, WEIR_COUNT_SHED, f->shed);
    weir_count_add(vitals, WEIR_COUNT_RESIDENT, -(uint64_t)entry->records);
}

static weir_err write_dead(weir_actor *self, const weir_dead *first, weir_report *report)
{
    if (!self->dead_file) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/dead.ndjson", self->node.state_dir);
        weir_err err = weir_dead_file_open(&self->dead_file, path, report);
        if (err) return err;
    }
    return weir_dead_file_write(self->dead_file, first, report);
}

/*  Settles the run of done entries at the head of a lane: the dead letters of all of
    them as one group, then one acknowledgement.                               */
static weir_err settle_lane(weir_actor *self, weir_lane *lane, weir_report *report)
{
    weir_entry *run = NULL, *last = NULL;
    weir_dead *dead = NULL, **dead_end = &dead;
    for (weir_entry *e; (e = weir_lane_pop_done(lane)); last = e) {
        if (last) last->next = e;
        if (!run) run = e;
        *dead_end = e->dead;
        if (e->dead) dead_end = e->dead_end;
        e->dead = NULL;
    }
    assert(last);
    weir_err err = dead ? write_dead(self, dead, report) : WEIR_OK;
    weir_dead_destroy_list(&dead);
    if (!err && self->class->commit) err = self->class->commit(self->self, last, report);
    if (!err && self->class->source)
        weir_count_add(self->node.vitals, WEIR_COUNT_COMMITS, 1);
    if (!err && self->inlet && !self->class->source)
        weir_inlet_ack(self->inlet, lane->owner, last->sequence);
    while (run) {
        weir_entry *entry = run;
        run = entry->next;
        if (!err) count_fates(self, entry);
        weir_book_close(&self->book, &entry);
    }
    return err;
}

static void settle(weir_actor *self)
{
    weir_lane *lane;
    while (!self->failed && (lane = weir_book_next_ready(&self->book))) {
        weir_report report = {0};
        weir_err err = settle_lane(self, lane, &report);
        if (err) weir_actor_fail(self, err, report.where, "%s", report.text);
    }
    self->node.vitals->open = self->book.open;
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

static weir_err cmd_listen(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    weir_report report = {0};
    char *endpoint = zmsg_popstr(args);
    weir_err err = endpoint ? listen_inlet(self, endpoint, &report) : WEIR_EINVAL;
    zstr_free(&endpoint);
    return reply_report(err, &report, reply);
}

static weir_err cmd_connect(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    weir_report report = {0};
    char *port = zmsg_popstr(args), *endpoint = zmsg_popstr(args);
    weir_err err = endpoint ? connect_port(self, port, endpoint, &report) : WEIR_EINVAL;
    zstr_free(&port);
    zstr_free(&endpoint);
    return reply_report(err, &report, reply);
}

/*  A block that nobody reads would count as safe at once.                     */
static const char *unread_port(const weir_actor *self)
{
    for (int i = 0; i < self->port_count; i++) {
        const output *l = self->links;
        while (l && l->port != i)
            l = l->next;
        if (!l) return self->ports[i];
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
    weir_vitals_set_state(self->node.vitals, WEIR_STATE_RUNNING);
    if (self->class->start) self->class->start(self->self);
    return WEIR_OK;
}

static weir_err cmd_drain(weir_actor *self, zmsg_t *args, zmsg_t *reply)
{
    (void)args;
    (void)reply;
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
    {"LISTEN", cmd_listen, "endpoint -> ; binds the inlet"},
    {"CONNECT", cmd_connect, "outlet endpoint -> ; adds a reader to the outlet"},
    {"START", cmd_start, "-> ; everything is wired, work begins"},
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

/*  One pass over everything that may have something to do. True: do not wait. */
static bool work(weir_actor *self)
{
    bool busy = false;
    run_timers(self);
    if (self->pipe_hot) read_pipe(self);
    if (self->terminated || self->failed) return false;
    if (self->inlet_hot) busy |= read_inlet(self);
    for (output *l = self->links; l; l = l->next)
        if (l->hot) busy |= read_link(l);
    offer_room(self);
    if (self->started && self->class->turn && !self->failed)
        busy |= self->class->turn(self->self);
    settle(self);
    if (self->failed) return false;
    if (self->inlet) weir_inlet_flush(self->inlet);
    for (output *l = self->links; l; l = l->next)
        weir_outlet_flush(l->outlet);
    check_ended(self);
    /*  What was sent on may have become readable without an edge to come.     */
    for (output *l = self->links; l; l = l->next)
        if (l->hot) busy |= (l->hot = weir_socket_readable(l->socket));
    if (self->inlet_hot)
        busy |= (self->inlet_hot = weir_socket_readable(self->inlet_socket));
    return busy && !self->failed;
}

static void wait_events(weir_actor *self, bool busy)
{
    struct epoll_event events[16];
    int timeout = busy ? 0 : weir_clock_timeout_ms(next_deadline(self));
    int count = epoll_wait(self->epoll_fd, events, 16, timeout);
    for (int i = 0; i < count; i++) {
        watch *w = events[i].data.ptr;
        if (w->gone) continue;
        if (w->hot)
            *w->hot = true;
        else if (w->handler && self->failed)
            weir_actor_unwatch(self, w->fd); // it would stay readable
        else if (w->handler)
            w->handler(self->self);
        else if (w->fd == self->wake_fd)
            eventfd_read(self->wake_fd, &(eventfd_t){0});
    }
    sweep_watches(self);
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
    if (!node->ledger) node->ledger = self->own_ledger = weir_ledger_new(INT64_MAX);
    if (!node->state_dir) node->state_dir = ".";
    if (!node->window_bytes) node->window_bytes = default_window;
    if (!node->block_bytes) node->block_bytes = default_block;
    if (!node->record_max) node->record_max = default_record_max;
}

static weir_err open_actor(weir_actor *self, const void *config, weir_report *report)
{
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->epoll_fd < 0 || self->wake_fd < 0)
        return weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left: %s",
                               strerror(errno));
    weir_err err = add_watch(self, self->wake_fd, NULL, NULL);
    if (!err) err = add_watch(self, zsock_fd(self->pipe), NULL, &self->pipe_hot);
    if (!err) err = weir_clock_watch(self->wake_fd);
    if (err)
        return weir_report_set(report, err, NULL, "cannot wait for events: %s",
                               strerror(errno));
    self->self = calloc(1, self->class->size);
    if (!self->self) abort();
    return self->class->init(self->self, self, config, report);
}

static void free_links(weir_actor *self)
{
    while (self->links) {
        output *l = self->links;
        self->links = l->next;
        weir_outlet_destroy(&l->outlet);
        weir_socket_close(&l->socket);
        free(l->sent);
        free(l);
    }
}

/*  Peers and their lanes end together; entries still open are given up, which
    acknowledges nothing.                                                      */
static void free_inlet(weir_actor *self)
{
    for (weir_peer *p = self->inlet ? weir_inlet_peers(self->inlet) : NULL; p;
         p = weir_peer_next(p)) {
        weir_lane *lane = *weir_peer_data(p);
        if (lane) weir_lane_fini(lane, &self->book);
        free(lane);
    }
    weir_inlet_destroy(&self->inlet);
    weir_socket_close(&self->inlet_socket);
}

static void close_actor(weir_actor *self)
{
    if (self->self && self->class->fini) self->class->fini(self->self);
    free(self->self);
    free_links(self);
    free_inlet(self);
    weir_dead_file_close(&self->dead_file);
    for (int i = 0; i < self->port_count; i++)
        free(self->ports[i]);
    free(self->ports);
    for (watch *w = self->watches; w; w = w->next)
        w->gone = true;
    sweep_watches(self);
    weir_clock_unwatch(self->wake_fd);
    if (self->wake_fd >= 0) close(self->wake_fd);
    if (self->epoll_fd >= 0) close(self->epoll_fd);
    if (self->own_ledger) weir_ledger_destroy(&self->own_ledger);
}

void weir_actor_run(const weir_class *class, zsock_t *pipe, void *config)
{
    weir_actor kit = {.class = class, .node = *(weir_node *)config, .pipe = pipe};
    weir_actor *self = &kit;
    weir_report report = {0};
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
        bool busy = work(self);
        count_replays(self);
        if (!self->terminated) wait_events(self, busy);
    }
    close_actor(self);
    if (self->node.ended) sem_post(self->node.ended);
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

weir_err weir_actor_ask(zactor_t *actor, zmsg_t **reply, const char *command, ...)
{
    if (reply) *reply = NULL;
    zmsg_t *message = zmsg_new();
    zmsg_addstr(message, command);
    va_list arguments;
    va_start(arguments, command);
    for (const char *text; (text = va_arg(arguments, const char *));)
        zmsg_addstr(message, text);
    va_end(arguments);
    zsock_set_sndtimeo(actor, 0); // for ever, when the thread has left
    if (zmsg_send(&message, actor)) {
        zmsg_destroy(&message);
        return WEIR_ECLOSED;
    }
    zmsg_t *answer;
    while (!(answer = zmsg_recv(actor)) && errno == EINTR)
        continue;
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
