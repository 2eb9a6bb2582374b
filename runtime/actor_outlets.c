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
    note_room(l);
}

static under_way *find_under_way(const weir_output *l, uint64_t sequence)
{
    for (size_t i = 0; i < l->count; i++) {
        under_way *what = &l->sent[(l->first + i) & (l->capacity - 1)];
        if (what->sequence == sequence) return what;
    }
    return NULL;
}

static void link_refused(void *arg, uint64_t sequence, weir_block *block,
                         const char *code, const char *text)
{
    weir_output *l = arg;
    weir_actor *kit = l->kit;
    under_way *what = find_under_way(l, sequence);
    if (kit->class->refused && block && what &&
        kit->class->refused(kit->self, what->entry, block, code, text) == WEIR_OK) {
        what->records = 0; // the reader has acknowledged none of them
        weir_outlet_settle(weir_uplink_outlet(l->uplink), sequence);
        return;
    }
    weir_actor_fail(kit, WEIR_EREFUSED, NULL, "%s refused block %" PRIu64 ": %s: %s",
                    l->reader, sequence, code, text);
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
        weir_outlet_send(weir_uplink_outlet(l->uplink), &block, &sequence);
        note_under_way(l, (under_way){sequence, entry, records});
        note_room(l);
        activate(l);
        weir_count_add(self->node.vitals, WEIR_COUNT_BYTES_OUT, bytes);
        weir_count_add(self->node.vitals, WEIR_COUNT_BLOCKS_OUT, 1);
    }
    weir_block_destroy(block_p);
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

static void tell_waits(weir_output *l, int64_t now_us)
{
    weir_vitals *vitals = l->kit->node.vitals;
    if (is_notable(l->starved_us, now_us))
        weir_vitals_wait(vitals, WEIR_WAIT_CREDIT, l->reader, "%s", "");
    if (is_notable(l->full_us, now_us) && !l->starved_us)
        weir_vitals_wait(vitals, WEIR_WAIT_ACK, l->reader, "%s", "");
}

/*  The state of the connection is told at once, lack of credit when it lasts.  */
static void note_state(weir_output *l)
{
    weir_actor *kit = l->kit;
    weir_vitals *vitals = kit->node.vitals;
    const char *trouble = weir_uplink_trouble(l->uplink);
    if (strncmp(trouble, l->told, sizeof l->told - 1)) {
        snprintf(l->told, sizeof l->told, "%s", trouble);
        if (*trouble)
            weir_vitals_wait(vitals, WEIR_WAIT_LINK, l->reader, "%s", trouble);
        else
            weir_vitals_flow(vitals, WEIR_WAIT_LINK, l->reader);
    }
    bool starved = weir_outlet_is_starved(weir_uplink_outlet(l->uplink));
    if (!starved && l->starved_us) {
        l->starved_us = 0;
        weir_vitals_flow(vitals, WEIR_WAIT_CREDIT, l->reader);
    }
    if (!l->full && vitals->wait_count)
        weir_vitals_flow(vitals, WEIR_WAIT_ACK, l->reader);
    if (starved && !l->starved_us) l->starved_us = weir_clock_now_us();
    if ((l->starved_us || l->full_us) && kit->look_us < 0)
        kit->look_us = weir_clock_now_us() + notable_us;
}

static void look_at_links(weir_actor *self)
{
    int64_t now = weir_clock_now_us();
    if (self->look_us < 0 || self->look_us > now) return;
    self->look_us = -1;
    for (weir_output *l = self->links; l; l = l->next) {
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

static void free_link(weir_output *l)
{
    weir_uplink_destroy(&l->uplink);
    free(l->endpoint);
    free(l->server);
    free(l->reader);
    free(l->sent);
    free(l);
}

static int find_port(const weir_actor *self, const char *name)
{
    for (int i = 0; i < self->port_count; i++)
        if (streq(self->ports[i], name)) return i;
    return -1;
}

weir_err weir_actor_connect(weir_actor *self, const char *port,
                            const weir_endpoint *endpoint, const char *reader,
                            weir_report *report)
{
    int number = find_port(self, port);
    if (number < 0)
        return weir_report_set(report, WEIR_ENOTFOUND, NULL, "there is no outlet '%s'",
                               port);
    weir_output *l = calloc(1, sizeof *l);
    if (!l) abort();
    l->kit = self;
    l->port = number;
    l->endpoint = strdup(endpoint->endpoint);
    l->server = endpoint->server ? strdup(endpoint->server) : NULL;
    l->reader = strdup(reader ? reader : endpoint->endpoint);
    weir_uplink_config config = {
        .endpoint = *endpoint,
        .backoff = weir_backoff_defaults,
        .loop = &self->loop,
        .outlet = {.node = weir_actor_wire_name(self),
                   .name = port,
                   .session = random_session(),
                   .window_bytes = self->node.window_bytes,
                   .corked = true},
        .wake = link_wakes,
        .acked = link_acked,
        .refused = link_refused,
        .failed = link_failed,
        .arg = l,
    };
    config.endpoint.endpoint = l->endpoint;
    config.endpoint.server = l->server;
    config.endpoint.realm = self->node.realm;
    weir_err err = weir_uplink_new(&l->uplink, &config, report);
    if (!err && l->server && weir_actor_watch_realm(self))
        err = weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
    if (err) {
        free_link(l);
        return err;
    }
    l->next = self->links;
    self->links = l;
    note_state(l);
    activate(l);
    return WEIR_OK;
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
    return weir_earlier(self->links_due_us, self->look_us);
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
    while (self->links) {
        weir_output *l = self->links;
        self->links = l->next;
        free_link(l);
    }
    for (int i = 0; i < self->port_count; i++)
        free(self->ports[i]);
    free(self->ports);
}
