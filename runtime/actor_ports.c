/*  The ports of an actor: links to its readers, its inlet, and the book that ties what
    goes out to what came in.                                                  */
#include "runtime/actor_private.h"
#include "runtime/clock.h"
#include <assert.h>
#include <sys/random.h>

/*  How many messages one channel may hand in before the others get a turn.    */
#define MESSAGES_A_TURN 64

static const int64_t relink_delay_us = 100000;

/*  What a block from another process may have around its largest record.      */
static const size_t foreign_slack = 1 << 20;

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
    weir_output *l = arg;
    l->hot = true;
    weir_err err = weir_socket_send(l->socket, NULL, 0, frame, body);
    if (err) l->relink_us = weir_clock_now_us() + relink_delay_us;
    return err;
}

static void link_acked(void *arg, uint64_t sequence)
{
    weir_output *l = arg;
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
    weir_output *l = arg;
    weir_actor_fail(l->kit, WEIR_EREFUSED, NULL,
                    "the reader of %s refused block %" PRIu64 ": %s: %s",
                    weir_outlet_name(l->outlet), sequence, code, text);
}

static void link_closed(void *arg, const char *code, const char *text, bool retryable)
{
    weir_output *l = arg;
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

static void note_under_way(weir_output *l, under_way what)
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
    weir_tap_look(&self->node.vitals->tap, self->ports[port], *block_p);
    for (weir_output *l = self->links; l && !self->failed; l = l->next) {
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
    for (weir_output *l = self->links; l; l = l->next) {
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

/*  Links between processes need a secured transport, which this version has not.  */
static weir_err check_endpoint(const char *endpoint, weir_report *report)
{
    if (strncmp(endpoint, "inproc://", 9) == 0) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, endpoint,
                           "links stay inside the process in this version");
}

weir_err weir_actor_connect(weir_actor *self, const char *port, const char *endpoint,
                            weir_report *report)
{
    int number = 0;
    while (number < self->port_count && !streq(self->ports[number], port))
        number++;
    if (number == self->port_count)
        return weir_report_set(report, WEIR_ENOTFOUND, NULL, "there is no outlet '%s'",
                               port);
    weir_err err = check_endpoint(endpoint, report);
    if (err) return err;
    weir_output *l = calloc(1, sizeof *l);
    if (!l) abort();
    l->kit = self;
    l->port = number;
    l->relink_us = -1;
    err = weir_socket_connect(&l->socket, &(weir_endpoint){.endpoint = endpoint}, report);
    if (!err)
        err = weir_loop_watch(&self->loop, weir_socket_fd(l->socket), NULL, &l->hot);
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

static bool read_link(weir_output *l)
{
    weir_message message;
    weir_block *body;
    for (int i = 0; i < MESSAGES_A_TURN; i++) {
        weir_err err = weir_socket_recv(l->socket, &message, &body);
        weir_block_destroy(&body);
        if (err == WEIR_ENOTFOUND) return l->hot = false;
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
    for (weir_output *l = self->links; l; l = l->next) {
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
    if (self->port_count == 0)
        weir_tap_look(&self->node.vitals->tap, self->node.name, *block_p);
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

weir_err weir_actor_listen(weir_actor *self, const char *endpoint, weir_report *report)
{
    if (!self->class->inlet || self->inlet_socket)
        return weir_report_set(report, WEIR_EINVAL, NULL, "there is no inlet to bind");
    weir_err err = check_endpoint(endpoint, report);
    if (!err)
        err = weir_socket_listen(&self->inlet_socket,
                                 &(weir_endpoint){.endpoint = endpoint}, report);
    if (err) return err;
    bool foreign = strncmp(endpoint, "inproc://", 9) != 0;
    self->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = self->node.window_bytes,
        .block_max = foreign ? self->node.record_max + foreign_slack : 0,
        .foreign = foreign,
        .events = &inlet_events,
        .arg = self,
    });
    return weir_loop_watch(&self->loop, weir_socket_fd(self->inlet_socket), NULL,
                           &self->inlet_hot);
}

static bool read_inlet(weir_actor *self)
{
    weir_message message;
    weir_block *body;
    for (int i = 0; i < MESSAGES_A_TURN && !self->failed; i++) {
        weir_err err = weir_socket_recv(self->inlet_socket, &message, &body);
        if (err == WEIR_ENOTFOUND) return self->inlet_hot = false;
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

/* --- All ports --------------------------------------------------------------------- */

static void relink(weir_actor *self)
{
    int64_t now = weir_clock_now_us();
    for (weir_output *l = self->links; l && !self->failed; l = l->next) {
        if (l->relink_us < 0 || l->relink_us > now) continue;
        l->relink_us = -1;
        l->hot = true;
        weir_outlet_connect(l->outlet);
    }
}

bool weir_actor_read_ports(weir_actor *self)
{
    bool busy = false;
    relink(self);
    if (self->inlet_hot) busy |= read_inlet(self);
    for (weir_output *l = self->links; l; l = l->next)
        if (l->hot) busy |= read_link(l);
    offer_room(self);
    return busy;
}

bool weir_actor_flush_ports(weir_actor *self)
{
    bool busy = false;
    if (self->inlet) weir_inlet_flush(self->inlet);
    for (weir_output *l = self->links; l; l = l->next)
        weir_outlet_flush(l->outlet);
    count_replays(self);
    /*  What was sent on may have become readable without an edge to come.     */
    for (weir_output *l = self->links; l; l = l->next)
        if (l->hot) busy |= (l->hot = weir_socket_readable(l->socket));
    if (self->inlet_hot)
        busy |= (self->inlet_hot = weir_socket_readable(self->inlet_socket));
    return busy;
}

int64_t weir_actor_ports_deadline(const weir_actor *self)
{
    int64_t next = -1;
    for (const weir_output *l = self->links; l; l = l->next)
        if (l->relink_us >= 0 && (next < 0 || l->relink_us < next)) next = l->relink_us;
    return next;
}

static void free_links(weir_actor *self)
{
    while (self->links) {
        weir_output *l = self->links;
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

void weir_actor_free_ports(weir_actor *self)
{
    free_links(self);
    free_inlet(self);
    for (int i = 0; i < self->port_count; i++)
        free(self->ports[i]);
    free(self->ports);
}
