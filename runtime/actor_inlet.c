/*  The inlet of an actor, and the book that ties what goes out to what came in.  */
#include "runtime/actor_private.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <assert.h>

/*  How many messages the inlet may hand in before the links get a turn.       */
#define MESSAGES_A_TURN 64

/*  What a block from another process may have around its largest record.      */
static const size_t foreign_slack = 1 << 20;

/*  All foreign peers of an inlet together may use so many windows.            */
#define FOREIGN_WINDOWS 4

static const size_t silent_max = 1024;       // connections without a first message
static const int64_t look_again_us = 100000; // at a ledger that is full

/*  Acknowledgements to other processes are gathered for so long: each message wakes
    three threads on its way.                                                  */
static const int64_t gather_us = 1000;

/* --- Inlet's events ---------------------------------------------------------------- */

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

/*  What comes from another process counts here from now on, and bears the names that
    cannot be forged: this node's and the certificate's.                       */
static void adopt(weir_actor *self, const weir_peer *peer, weir_block **block_p)
{
    weir_block *foreign = *block_p;
    *block_p = weir_block_stamp(foreign, self->node.name, weir_peer_name(peer));
    weir_block_charge(*block_p, self->node.ledger);
    weir_block_destroy(&foreign);
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
    if (self->doorman) adopt(self, peer, block_p);
    if (self->port_count == 0)
        weir_tap_look(&self->node.vitals->tap, self->node.name, *block_p);
    self->class->recv_block(self->self, entry, *block_p);
}

/*  A token is safe when everything before it is: it waits in the lane like a
    block without records.                                                     */
static void recv_token(void *arg, weir_peer *peer, uint64_t sequence,
                       weir_token_kind kind, uint64_t argument)
{
    weir_actor *self = arg;
    weir_entry *entry = open_entry(self, peer_lane(peer), sequence, 0);
    if (self->class->recv_token)
        self->class->recv_token(self->self, entry, kind, argument);
    else
        weir_actor_done(self, entry);
}

static void read_connections(weir_actor *self)
{
    weir_connection_event event;
    const char *cause = "";
    self->inlet_changed = false;
    while (weir_socket_next_event(self->inlet_socket, &event)) {
        if (event.change == WEIR_CONNECTION_ACCEPTED) {
            weir_doorman_accepted(self->doorman, event.fd);
        } else if (event.change == WEIR_CONNECTION_BROKEN) {
            cause = event.cause;
        } else if (event.change == WEIR_CONNECTION_LOST) {
            weir_doorman_lost(self->doorman, event.fd, cause);
            weir_inlet_lost(self->inlet, event.fd);
            cause = "";
        }
    }
}

static bool may_stay(void *arg, const char *name, const char *key)
{
    weir_actor *self = arg;
    return name && weir_realm_allows_key(self->node.realm, name, key, self->role);
}

/*  A descriptor may be that of an earlier connection, whose end must be known before
    the new one is.                                                            */
static void identify(void *arg, weir_identity *who)
{
    weir_actor *self = arg;
    read_connections(self);
    who->address = weir_socket_sender_address(self->inlet_socket);
    who->fd = weir_socket_sender_fd(self->inlet_socket);
    weir_doorman_spoke(self->doorman, who->fd);
    if (self->plaintext) return;
    who->name = weir_socket_sender(self->inlet_socket);
    who->key = weir_socket_sender_key(self->inlet_socket);
    who->revoked = !may_stay(self, who->name, who->key);
}

static void hang_up(void *arg, int fd)
{
    weir_actor *self = arg;
    weir_doorman_end(self->doorman, fd);
}

static void forget(void *arg, weir_peer *peer)
{
    weir_actor *self = arg;
    weir_lane **lane = (weir_lane **)weir_peer_data(peer);
    if (*lane) weir_lane_fini(*lane, &self->book);
    free(*lane);
    *lane = NULL;
}

static const weir_inlet_events inlet_events = {
    .send = send_down,
    .block = recv_block,
    .token = recv_token,
    .forget = forget,
};

static const weir_inlet_events foreign_events = {
    .send = send_down,
    .block = recv_block,
    .token = recv_token,
    .identify = identify,
    .hang_up = hang_up,
    .forget = forget,
};

/* --- Listening --------------------------------------------------------------------- */

static void wake_inlet(void *arg)
{
    weir_actor *self = arg;
    self->inlet_hot = true;
}

static void wake_connections(void *arg)
{
    weir_actor *self = arg;
    self->inlet_changed = true;
}

void weir_actor_revoke_peers(weir_actor *self)
{
    if (self->inlet && self->doorman && !self->plaintext)
        weir_inlet_close_unless(self->inlet, may_stay, self, "REVOKED",
                                "the certificate has no right to this any more");
}

static weir_err watch_foreign(weir_actor *self, const weir_endpoint *endpoint)
{
    bool secure = !endpoint->plaintext && strncmp(endpoint->endpoint, "tcp://", 6) == 0;
    self->doorman = weir_doorman_new(silent_max);
    self->role = endpoint->role;
    self->plaintext = !secure;
    weir_vitals_set_endpoint(self->node.vitals, weir_socket_endpoint(self->inlet_socket));
    weir_err err =
        weir_loop_watch(&self->loop, weir_socket_monitor_fd(self->inlet_socket), true,
                        wake_connections, self);
    return err || !secure ? err : weir_actor_watch_realm(self);
}

static bool has_open_port(const char *endpoint)
{
    size_t size = strlen(endpoint);
    return size > 2 && streq(endpoint + size - 2, ":*");
}

/*  A node that starts again takes the port that it was given before: its senders know
    that one.                                                                  */
static weir_err bind_inlet(weir_actor *self, const weir_endpoint *endpoint,
                           weir_report *report)
{
    char before[192];
    weir_endpoint again = *endpoint;
    weir_vitals_endpoint(self->node.vitals, before);
    again.endpoint = before;
    if (*before && has_open_port(endpoint->endpoint) &&
        weir_socket_listen(&self->inlet_socket, &again, NULL) == WEIR_OK)
        return WEIR_OK;
    return weir_socket_listen(&self->inlet_socket, endpoint, report);
}

weir_err weir_actor_listen(weir_actor *self, const weir_endpoint *endpoint,
                           weir_report *report)
{
    if (!self->class->inlet || self->inlet_socket)
        return weir_report_set(report, WEIR_EINVAL, NULL, "there is no inlet to bind");
    bool foreign = weir_endpoint_is_foreign(endpoint->endpoint);
    weir_endpoint own = *endpoint;
    own.realm = self->node.realm;
    weir_err err = bind_inlet(self, &own, report);
    if (err) return err;
    self->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = self->node.window_bytes,
        .total_bytes = FOREIGN_WINDOWS * self->node.window_bytes,
        .pool_bytes = foreign ? 0 : self->node.pool_bytes,
        .block_max = foreign ? self->node.record_max + foreign_slack : 0,
        .foreign = foreign,
        .events = foreign ? &foreign_events : &inlet_events,
        .arg = self,
    });
    if (foreign) err = watch_foreign(self, &own);
    if (!err)
        err = weir_loop_watch(&self->loop, weir_socket_fd(self->inlet_socket), true,
                              wake_inlet, self);
    if (err) weir_report_set(report, err, NULL, "no descriptors left");
    self->inlet_hot = self->inlet_changed = true;
    return err;
}

/* --- Turn -------------------------------------------------------------------------- */

/*  The last tenth is for what is inside already: only foreign peers are held up.  */
static bool memory_is_short(const weir_actor *self)
{
    const weir_ledger *ledger = self->node.ledger;
    return self->doorman && weir_ledger_used(ledger) > weir_ledger_limit(ledger) / 10 * 9;
}

void weir_actor_hold_inlet(weir_actor *self)
{
    if (!self->inlet) return;
    bool is_short = memory_is_short(self);
    weir_inlet_hold(self->inlet, self->paused || self->held || is_short);
    if (is_short == self->memory_short) return;
    self->memory_short = is_short;
    if (is_short)
        weir_vitals_wait(self->node.vitals, WEIR_WAIT_LEDGER, "", "%s",
                         "the memory limit is reached");
    else
        weir_vitals_flow(self->node.vitals, WEIR_WAIT_LEDGER, "");
}

static bool read_inlet(weir_actor *self)
{
    weir_message message;
    weir_block *body;
    for (int i = 0; i < MESSAGES_A_TURN && !self->failed; i++) {
        weir_err err = weir_socket_recv(self->inlet_socket, &message, &body);
        if (err == WEIR_ENOTFOUND) return self->inlet_hot = false;
        weir_inlet_recv(self->inlet, message.id, message.id_size,
                        err ? NULL : &message.frame, &body);
    }
    return !self->failed;
}

/*  A foreign inlet waits until everything behind it is wired.                 */
void weir_actor_read_inlet(weir_actor *self, bool *busy)
{
    if (!self->inlet || (self->doorman && !self->started)) return;
    if (self->inlet_changed) read_connections(self);
    if (self->inlet_hot) *busy |= read_inlet(self);
    if (self->doorman) weir_doorman_run_due(self->doorman);
}

static bool may_answer(weir_actor *self)
{
    if (!self->doorman || self->draining) return true;
    weir_due due = weir_inlet_due(self->inlet);
    if (due != WEIR_DUE_SOON) return true;
    int64_t now = weir_clock_now_us();
    if (self->answer_us < 0) self->answer_us = now + gather_us;
    return now >= self->answer_us;
}

void weir_actor_flush_inlet(weir_actor *self, bool *busy)
{
    if (!self->inlet) return;
    if (self->doorman) weir_actor_hold_inlet(self);
    if (may_answer(self)) {
        self->answer_us = -1;
        weir_inlet_flush(self->inlet);
    }
    if (self->inlet_hot && (self->started || !self->doorman))
        *busy |= (self->inlet_hot = weir_socket_readable(self->inlet_socket));
}

int64_t weir_actor_inlet_deadline(const weir_actor *self)
{
    if (!self->doorman) return -1;
    int64_t due = weir_doorman_deadline(self->doorman);
    int64_t look = self->memory_short ? weir_clock_now_us() + look_again_us : -1;
    return weir_earlier(weir_earlier(due, look), self->answer_us);
}

/*  Peers and their lanes end together; entries still open are given up, which
    acknowledges nothing.                                                      */
void weir_actor_free_inlet(weir_actor *self)
{
    /*  What is safe and was not told yet would come again.                    */
    if (self->inlet) weir_inlet_flush(self->inlet);
    if (self->inlet && self->doorman)
        weir_inlet_close_all(self->inlet, "ENDING", "this inlet has ended");
    for (weir_peer *p = self->inlet ? weir_inlet_peers(self->inlet) : NULL; p;
         p = weir_peer_next(p))
        forget(self, p);
    weir_inlet_destroy(&self->inlet);
    weir_doorman_destroy(&self->doorman);
    weir_socket_close(&self->inlet_socket);
}

/* --- Book -------------------------------------------------------------------------- */

void weir_actor_grant(weir_actor *self, weir_entry *entry)
{
    if (!self->inlet || !entry->cost || entry->granted) return;
    entry->granted = true;
    weir_inlet_grant(self->inlet, entry->lane->owner, entry->cost);
}

void weir_actor_done(weir_actor *self, weir_entry *entry)
{
    weir_actor_grant(self, entry);
    weir_book_release(&self->book, entry);
}

void weir_actor_recall(weir_actor *self, weir_entry *entry, uint32_t records)
{
    weir_vitals *vitals = self->node.vitals;
    assert(records <= entry->records);
    weir_count_add(vitals, WEIR_COUNT_IN, -(uint64_t)records);
    weir_count_add(vitals, WEIR_COUNT_RESIDENT, -(uint64_t)records);
    entry->records -= records;
}

/*  A retryable one comes again under its number, so that nothing may acknowledge it
    now.                                                                       */
void weir_actor_refuse(weir_actor *self, weir_entry *entry, const char *code,
                       const char *text, bool retryable)
{
    weir_actor_recall(self, entry, entry->records);
    weir_actor_grant(self, entry);
    weir_inlet_nack(self->inlet, entry->lane->owner, entry->sequence, code, text,
                    retryable);
    if (retryable)
        weir_book_cancel(&self->book, entry);
    else
        weir_book_release(&self->book, entry);
}

void weir_actor_hold(weir_actor *self, bool held)
{
    if (self->held == held) return;
    self->held = held;
    weir_actor_hold_inlet(self);
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

/*  One record may have several outputs, and so more of them lost than there are records
    of which all was safe else.                                                */
static void count_fates(weir_actor *self, weir_entry *entry)
{
    weir_vitals *vitals = self->node.vitals;
    weir_fates *f = &entry->fates;
    uint64_t lost = entry->lost < f->done ? entry->lost : f->done;
    f->done -= lost;
    f->dead += lost;
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
    if (!err && self->class->commit)
        weir_count_add(self->node.vitals, WEIR_COUNT_COMMITS, 1);
    if (!err && self->inlet) weir_inlet_ack(self->inlet, lane->owner, last->sequence);
    while (run) {
        weir_entry *entry = run;
        run = entry->next;
        if (!err) count_fates(self, entry);
        weir_book_close(&self->book, &entry);
    }
    return err;
}

void weir_actor_settle(weir_actor *self)
{
    weir_lane *lane;
    while (!self->failed && (lane = weir_book_next_ready(&self->book))) {
        weir_report report = {0};
        weir_err err = settle_lane(self, lane, &report);
        if (err) weir_actor_fail(self, err, report.where, "%s", report.text);
    }
    self->node.vitals->open = self->book.open;
}
