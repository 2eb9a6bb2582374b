/*  The outlets of an actor: a link to each of its readers, and which inputs wait for
    what was sent over it.                                                     */
#include "runtime/actor_private.h"
#include "runtime/clock.h"
#include <assert.h>
#include <sys/random.h>

/*  A link that lacks credit for so long is a wait that people may see.        */
static const int64_t notable_us = 300000;

int weir_actor_port(weir_actor *self, const char *name)
{
    self->ports = realloc(self->ports, (size_t)(self->port_count + 1) * sizeof(char *));
    if (!self->ports) abort();
    self->ports[self->port_count] = strdup(name);
    return self->port_count++;
}

static void activate(weir_output *l)
{
    if (l->active) return;
    l->active = true;
    l->next_active = l->kit->active;
    l->kit->active = l;
}

/* --- What comes of what was sent --------------------------------------------------- */

static void link_wakes(void *arg)
{
    activate(arg);
}

static void note_room(weir_output *l)
{
    bool full = !weir_outlet_has_room(weir_uplink_outlet(l->uplink));
    if (full == l->full) return;
    l->full = full;
    l->kit->full_links += full ? 1 : -1;
    l->full_us = full ? weir_clock_now_us() : 0;
}

static void token_answered(weir_output *l, token_use use)
{
    weir_actor *kit = l->kit;
    if (use != TOKEN_FLUSH) {
        weir_routing_answered(l->routing, use);
    } else if (--kit->flushes == 0) {
        weir_handler *flushed = kit->flushed;
        kit->flushed = NULL;
        flushed(kit->self);
    }
}

static void settle_first(weir_output *l)
{
    under_way first = l->sent[l->first];
    l->first = (l->first + 1) & (l->capacity - 1);
    l->count--;
    if (first.token) {
        token_answered(l, first.token);
        return;
    }
    free(first.which);
    weir_count_add(l->kit->node.vitals, WEIR_COUNT_OUT, first.records);
    weir_book_release(&l->kit->book, first.entry);
}

static void link_acked(void *arg, uint64_t sequence)
{
    weir_output *l = arg;
    while (l->count && l->sent[l->first].sequence <= sequence)
        settle_first(l);
    note_room(l);
}

static under_way *under_way_at(const weir_output *l, size_t i)
{
    return &l->sent[(l->first + i) & (l->capacity - 1)];
}

/*  What is too large for a bus would be so again, and comes alone in its block: it is a
    dead letter, and all else goes on.                                         */
static weir_err bury(weir_output *l, weir_entry *entry, weir_block *block,
                     const char *text)
{
    char error[320];
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    snprintf(error, sizeof error, "%s refuses it: %s", l->reader, text);
    while (weir_iterator_next(&walk, &record, &origin)) {
        weir_dead *dead =
            weir_dead_new(l->kit->node.name, WEIR_DEAD_TOO_LARGE, error, 1, &record,
                          origin->source, origin->peer, origin->label);
        weir_entry_add_dead(entry, &dead);
        entry->lost++;
    }
    return WEIR_OK;
}

static weir_err decide_refused(weir_output *l, weir_entry *entry,
                               const weir_refused *refusal)
{
    weir_actor *kit = l->kit;
    if (kit->class->refused) return kit->class->refused(kit->self, entry, refusal);
    bool too_large = l->routing && entry->lane && streq(refusal->code, "too_large");
    return too_large ? bury(l, entry, refusal->block, refusal->text) : WEIR_EREFUSED;
}

/*  Each entry decides about its own records of the block, in the order in which they were
    put into it. The actor may send more meanwhile.                            */
static weir_err refuse_shares(weir_output *l, uint64_t sequence, weir_block *block,
                              const char *code, const char *text)
{
    weir_iterator walk = {.block = block};
    weir_err err = block ? WEIR_OK : WEIR_EREFUSED;
    for (size_t i = 0; i < l->count && !err; i++) {
        under_way what = *under_way_at(l, i);
        if (what.sequence != sequence) continue;
        weir_block *part = weir_iterator_cut(&walk, what.records, SIZE_MAX);
        err = decide_refused(
            l, what.entry,
            &(weir_refused){
                .block = part, .which = what.which, .code = code, .text = text});
        weir_block_destroy(&part);
        under_way_at(l, i)->records = 0; // the reader has acknowledged none of them
    }
    return err;
}

static void link_refused(void *arg, uint64_t sequence, weir_block *block,
                         const char *code, const char *text)
{
    weir_output *l = arg;
    if (refuse_shares(l, sequence, block, code, text) == WEIR_OK)
        weir_outlet_settle(weir_uplink_outlet(l->uplink), sequence);
    else
        weir_actor_fail(l->kit, WEIR_EREFUSED, NULL,
                        "%s refused block %" PRIu64 ": %s: %s", l->reader, sequence, code,
                        text);
}

static void link_failed(void *arg, weir_err err, const char *text)
{
    weir_output *l = arg;
    weir_actor_fail(l->kit, err, NULL, "%s: %s", l->reader, text);
}

/* --- Sending ----------------------------------------------------------------------- */

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

void weir_output_send(weir_output *l, weir_block *block, const weir_share *shares,
                      size_t count)
{
    weir_vitals *vitals = l->kit->node.vitals;
    weir_block *reference = weir_block_dup(block);
    uint64_t sequence;
    weir_count_add(vitals, WEIR_COUNT_BYTES_OUT, weir_block_size(block));
    weir_count_add(vitals, WEIR_COUNT_BLOCKS_OUT, 1);
    weir_outlet_send(weir_uplink_outlet(l->uplink), &reference, &sequence);
    for (size_t i = 0; i < count; i++)
        note_under_way(l, (under_way){.sequence = sequence,
                                      .entry = shares[i].entry,
                                      .records = shares[i].records,
                                      .which = shares[i].which});
    note_room(l);
    activate(l);
}

void weir_output_token(weir_output *l, weir_token_kind kind, uint64_t argument,
                       token_use use)
{
    uint64_t sequence;
    weir_err err =
        weir_outlet_token(weir_uplink_outlet(l->uplink), kind, argument, &sequence);
    assert(!err); // of each use there is one under way at most
    note_under_way(l, (under_way){.sequence = sequence, .token = use});
    activate(l);
}

void weir_actor_send(weir_actor *self, int port, weir_block **block_p, weir_entry *entry)
{
    weir_tap_look(self->node.tap, self->ports[port], *block_p);
    if (!self->class->placed) weir_block_forget_places(block_p);
    weir_share share = {.entry = entry, .records = weir_block_records(*block_p)};
    for (weir_output *l = self->links; l && !self->failed; l = l->next) {
        if (l->port != port) continue;
        weir_entry_hold(entry);
        weir_output_send(l, *block_p, &share, 1);
    }
    for (weir_routing *r = self->routings; r && !self->failed; r = r->next)
        if (r->port == port) weir_routing_send(r, *block_p, entry);
    weir_block_destroy(block_p);
}

weir_err weir_actor_flush(weir_actor *self, weir_handler *flushed)
{
    if (self->flushed) return WEIR_EFULL;
    self->flushed = flushed;
    self->flushes = 1; // this call's own
    for (weir_routing *r = self->routings; r; r = r->next)
        weir_routing_flush(r);
    for (weir_output *l = self->links; l; l = l->next) {
        self->flushes++;
        weir_output_token(l, WEIR_TOKEN_FLUSH, 0, TOKEN_FLUSH);
    }
    if (--self->flushes) return WEIR_OK;
    self->flushed = NULL;
    flushed(self->self);
    return WEIR_OK;
}

bool weir_actor_has_room(weir_actor *self)
{
    if (self->full_links == 0) return true;
    if (!self->starved) weir_count_add(self->node.vitals, WEIR_COUNT_HOLDS, 1);
    self->starved = true;
    return false;
}

static void offer_room(weir_actor *self)
{
    if (!self->starved || self->full_links) return;
    self->starved = false;
    if (self->class->room) self->class->room(self->self);
}

/* --- Waits ------------------------------------------------------------------------- */

static bool is_notable(int64_t since_us, int64_t now_us)
{
    return since_us && now_us - since_us >= notable_us;
}

static void look_later(weir_actor *kit)
{
    if (kit->look_us < 0) kit->look_us = weir_clock_now_us() + notable_us;
}

static bool has_wait(const weir_output *l, weir_wait_kind kind)
{
    return l->waits & 1u << kind;
}

static void begin_wait(weir_output *l, weir_wait_kind kind, const char *text)
{
    l->waits |= 1u << kind;
    weir_vitals_wait(l->kit->node.vitals, kind, l->reader, "%s", text);
}

/*  A reader may have several links, as a bus has one to each shard: it is waited for
    until the last of them has this wait no more.                                    */
static void end_wait(weir_output *l, weir_wait_kind kind)
{
    if (!has_wait(l, kind)) return;
    l->waits &= ~(1u << kind);
    const weir_output *other = l->kit->links;
    while (other && (!has_wait(other, kind) || !streq(other->reader, l->reader)))
        other = other->next;
    if (!other)
        weir_vitals_flow(l->kit->node.vitals, kind, l->reader);
    else if (kind == WEIR_WAIT_LINK)
        weir_vitals_wait(l->kit->node.vitals, kind, l->reader, "%s", other->told);
}

static void end_waits(weir_output *l)
{
    end_wait(l, WEIR_WAIT_LINK);
    end_wait(l, WEIR_WAIT_CREDIT);
    end_wait(l, WEIR_WAIT_ACK);
}

static void tell_waits(weir_output *l, int64_t now_us)
{
    if (is_notable(l->starved_us, now_us)) begin_wait(l, WEIR_WAIT_CREDIT, "");
    if (is_notable(l->full_us, now_us) && !l->starved_us)
        begin_wait(l, WEIR_WAIT_ACK, "");
}

/*  A link in the process that is not welcomed at once is nobody's trouble yet.  */
static bool is_about_to_open(const weir_output *l)
{
    return l->opened_us && weir_uplink_connects(l->uplink) == 0 &&
           !is_notable(l->opened_us, weir_clock_now_us());
}

static void note_trouble(weir_output *l)
{
    const char *trouble = weir_uplink_trouble(l->uplink);
    if (strncmp(trouble, l->told, sizeof l->told - 1) == 0) return;
    if (is_about_to_open(l)) {
        look_later(l->kit);
        return;
    }
    snprintf(l->told, sizeof l->told, "%s", trouble);
    if (*trouble)
        begin_wait(l, WEIR_WAIT_LINK, trouble);
    else
        end_wait(l, WEIR_WAIT_LINK);
}

/*  That a connection is lost is told at once, lack of credit when it lasts.    */
static void note_state(weir_output *l)
{
    note_trouble(l);
    bool starved = weir_outlet_is_starved(weir_uplink_outlet(l->uplink));
    if (!starved) {
        l->starved_us = 0;
        end_wait(l, WEIR_WAIT_CREDIT);
    }
    if (!l->full) end_wait(l, WEIR_WAIT_ACK);
    if (starved && !l->starved_us) l->starved_us = weir_clock_now_us();
    if (l->starved_us || l->full_us) look_later(l->kit);
}

static void look_at_links(weir_actor *self)
{
    int64_t now = weir_clock_now_us();
    if (self->look_us < 0 || self->look_us > now) return;
    self->look_us = -1;
    for (weir_output *l = self->links; l; l = l->next) {
        note_trouble(l);
        tell_waits(l, now);
        if (l->starved_us || l->full_us) self->look_us = now + notable_us;
    }
}

/* --- Connecting -------------------------------------------------------------------- */

static uint64_t random_session(void)
{
    uint64_t session = 0;
    while (session == 0)
        if (getrandom(&session, sizeof session, 0) < 0) abort();
    return session;
}

/*  It is not on the list of links any more. */
static void free_link(weir_output *l)
{
    end_waits(l);
    weir_uplink_destroy(&l->uplink);
    for (size_t i = 0; i < l->count; i++)
        free(under_way_at(l, i)->which);
    free(l->endpoint);
    free(l->server);
    free(l->reader);
    free(l->sent);
    free(l);
}

static weir_uplink_config uplink_config(weir_output *l, const weir_output_config *config)
{
    weir_actor *kit = l->kit;
    weir_uplink_config uplink = {
        .endpoint = *config->endpoint,
        .backoff = weir_backoff_defaults,
        .loop = &kit->loop,
        .outlet = {.node = weir_actor_wire_name(kit),
                   .name = config->port,
                   .session = random_session(),
                   .window_bytes = kit->node.window_bytes,
                   .corked = true},
        .wake = link_wakes,
        .acked = link_acked,
        .refused = link_refused,
        .failed = link_failed,
        .arg = l,
    };
    uplink.endpoint.endpoint = l->endpoint;
    uplink.endpoint.server = l->server;
    uplink.endpoint.realm = kit->node.realm;
    return uplink;
}

weir_err weir_output_open(weir_output **self_p, weir_actor *kit,
                          const weir_output_config *config, weir_report *report)
{
    const weir_endpoint *endpoint = config->endpoint;
    weir_output *l = calloc(1, sizeof *l);
    if (!l) abort();
    l->kit = kit;
    l->port = config->number;
    l->routing = config->routing;
    l->endpoint = strdup(endpoint->endpoint);
    l->server = endpoint->server ? strdup(endpoint->server) : NULL;
    l->reader = strdup(config->reader ? config->reader : endpoint->endpoint);
    if (!weir_endpoint_is_foreign(l->endpoint)) l->opened_us = weir_clock_now_us();
    weir_uplink_config uplink = uplink_config(l, config);
    weir_err err = weir_uplink_new(&l->uplink, &uplink, report);
    if (!err && l->server && weir_actor_watch_realm(kit))
        err = weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
    if (err) {
        free_link(l);
        return err;
    }
    l->next = kit->links;
    kit->links = l;
    note_state(l);
    activate(l);
    *self_p = l;
    return WEIR_OK;
}

/*  Tokens that were not answered never will be: what they asked for is over with the
    link.                                                                      */
void weir_output_close(weir_output *l)
{
    weir_actor *kit = l->kit;
    while (l->count) {
        assert(l->sent[l->first].token);
        settle_first(l);
    }
    weir_output **at = &kit->links;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    for (at = &kit->active; l->active && *at; at = &(*at)->next_active) {
        if (*at != l) continue;
        *at = l->next_active;
        break;
    }
    if (l->full) kit->full_links--;
    free_link(l);
}

static weir_err find_port(const weir_actor *self, const char *name, int *number,
                          weir_report *report)
{
    for (*number = 0; *number < self->port_count; ++*number)
        if (streq(self->ports[*number], name)) return WEIR_OK;
    return weir_report_set(report, WEIR_ENOTFOUND, NULL, "there is no outlet '%s'", name);
}

weir_err weir_actor_connect(weir_actor *self, const char *port,
                            const weir_endpoint *endpoint, const char *reader,
                            weir_report *report)
{
    if (self->class->connect)
        return self->class->connect(self->self, endpoint, reader, report);
    weir_output_config config = {.port = port, .endpoint = endpoint, .reader = reader};
    weir_output *link;
    weir_err err = find_port(self, port, &config.number, report);
    return err ? err : weir_output_open(&link, self, &config, report);
}

weir_err weir_actor_route(weir_actor *self, const char *port, weir_route *route,
                          const char *reader, weir_report *report)
{
    if (self->class->join) return self->class->join(self->self, route, reader, report);
    int number;
    weir_err err = find_port(self, port, &number, report);
    return err ? err : weir_routing_open(self, number, route, reader, report);
}

/* --- Turn -------------------------------------------------------------------------- */

static void note_due(weir_output *l)
{
    int64_t due = weir_uplink_deadline(l->uplink);
    int64_t *next = &l->kit->links_due_us;
    *next = weir_earlier(*next, due);
}

static void run_due(weir_actor *self)
{
    if (self->links_due_us < 0 || self->links_due_us > weir_clock_now_us()) return;
    self->links_due_us = -1;
    for (weir_output *l = self->links; l && !self->failed; l = l->next) {
        weir_uplink_run_due(l->uplink);
        note_due(l);
    }
}

void weir_actor_read_links(weir_actor *self, bool *busy)
{
    run_due(self);
    for (weir_output *l = self->active; l && !self->failed; l = l->next_active)
        *busy |= weir_uplink_read(l->uplink);
    offer_room(self);
    look_at_links(self);
}

static void count_replays(weir_output *l)
{
    uint64_t replayed = weir_outlet_replayed(weir_uplink_outlet(l->uplink));
    weir_count_add(l->kit->node.vitals, WEIR_COUNT_REPLAYED, replayed - l->replayed);
    l->replayed = replayed;
}

void weir_actor_flush_links(weir_actor *self, bool *busy)
{
    for (weir_routing *r = self->routings; r; r = r->next)
        weir_routing_seal(r, false);
    weir_output *list = self->active;
    self->active = NULL;
    while (list) {
        weir_output *l = list;
        list = l->next_active;
        l->active = false;
        if (weir_uplink_flush(l->uplink)) {
            activate(l);
            *busy = true;
        }
        count_replays(l);
        note_due(l);
        note_state(l);
    }
}

int64_t weir_actor_links_deadline(const weir_actor *self)
{
    int64_t due = weir_earlier(self->links_due_us, self->look_us);
    for (weir_routing *r = self->routings; r; r = r->next)
        due = weir_earlier(due, weir_routing_deadline(r));
    return due;
}

/*  Whom we do not know any more we send nothing.                              */
void weir_actor_revoke_servers(weir_actor *self)
{
    for (weir_output *l = self->links; l; l = l->next)
        if (l->server && !weir_realm_allows(self->node.realm, l->server, 0))
            weir_uplink_distrust(l->uplink, "the certificate of the other side is gone");
}

void weir_actor_free_links(weir_actor *self)
{
    while (self->routings) {
        weir_routing *r = self->routings;
        self->routings = r->next;
        weir_routing_close(&r);
    }
    while (self->links) {
        weir_output *l = self->links;
        self->links = l->next;
        free_link(l);
    }
    for (int i = 0; i < self->port_count; i++)
        free(self->ports[i]);
    free(self->ports);
}
