#include "actors/bus_members.h"
#include "runtime/clock.h"
#include "runtime/handover.h"

static const int stop_timeout_ms = 2000;

/* --- One of them ------------------------------------------------------------------- */

void weir_bus_member_set(weir_bus_member *self, weir_shard_state state)
{
    self->state = state;
    atomic_store(&self->shared->state, (int)state);
    if (state == WEIR_SHARD_ACTIVE) self->active_us = weir_clock_now_us();
}

weir_err weir_bus_member_tell(weir_bus_member *self, const char *command,
                              weir_report *report)
{
    weir_err err = weir_actor_ask(self->actor, NULL, command, NULL);
    return err ? weir_report_set(report, err, NULL, "shard %" PRIu32 ": %s: %s", self->id,
                                 command, weir_err_name(err))
               : WEIR_OK;
}

weir_err weir_bus_member_park(weir_bus_member *self, const weir_shard_table *table,
                              const uint32_t *before, weir_report *report)
{
    uint32_t vnodes = table->vnodes;
    char address[32];
    bool gains = false;
    free(self->parks);
    self->parks = calloc((vnodes + 63) / 64, sizeof *self->parks);
    if (!self->parks) abort();
    for (uint32_t v = 0; v < vnodes; v++) {
        if (table->owners[v] != self->id || before[v] == self->id) continue;
        self->parks[v / 64] |= 1ull << v % 64;
        gains = true;
    }
    if (!gains) return WEIR_OK;
    self->park_set = (weir_park_set){self->parks, vnodes};
    snprintf(address, sizeof address, "%p", (void *)&self->park_set);
    weir_handover_give(&self->park_set);
    weir_err err = weir_actor_ask(self->actor, NULL, "PARK", address, NULL);
    weir_handover_take(&self->park_set);
    return err ? weir_report_set(report, err, NULL, "shard %" PRIu32 " cannot park",
                                 self->id)
               : WEIR_OK;
}

bool weir_bus_member_is_fenced(const weir_bus_member *self)
{
    zmsg_t *reply = NULL;
    weir_err err = weir_actor_ask(self->actor, &reply, "FENCED", NULL);
    char *text = reply ? zmsg_popstr(reply) : NULL;
    bool fenced = !err && text && streq(text, "1");
    zstr_free(&text);
    zmsg_destroy(&reply);
    return fenced;
}

static uint64_t last_offset(const weir_moves_stored *stored, uint32_t id)
{
    for (size_t i = 0; i < stored->shard_count; i++)
        if (stored->shards[i].shard == id) return stored->shards[i].last;
    return 0;
}

weir_err weir_bus_member_release(weir_bus_member *self, const weir_shard_table *table,
                                 const weir_moves_stored *stored, weir_report *report)
{
    zmsg_t *message = zmsg_new(), *reply;
    zmsg_addstr(message, "RELEASE");
    for (size_t i = 0; i < table->move_count; i++) {
        const weir_move *move = &table->moves[i];
        uint64_t last = last_offset(stored, move->from);
        if (move->to == self->id && last)
            zmsg_addstrf(message, "%" PRIu32 ":%" PRIu64, move->from, last);
    }
    zmsg_send(&message, self->actor);
    reply = zmsg_recv(self->actor);
    char *code = reply ? zmsg_popstr(reply) : NULL;
    bool good = code && atoi(code) == WEIR_OK;
    zstr_free(&code);
    zmsg_destroy(&reply);
    return good ? WEIR_OK
                : weir_report_set(report, WEIR_ECLOSED, NULL,
                                  "shard %" PRIu32 " cannot release", self->id);
}

/* --- Starting and stopping --------------------------------------------------------- */

static void configure(weir_bus_members *self, weir_bus_member *m)
{
    const weir_bus_options *o = self->options;
    m->config = (weir_shard_config){
        .node = *self->config.node,
        .id = m->id,
        .nonce = weir_bus_state_nonce(weir_hub_state(self->config.hub)),
        .epoch = self->config.epoch,
        .ring = {.records = o->ring_records,
                 .bytes = o->ring_bytes,
                 .overflow = o->overflow,
                 .one_in = o->one_in},
        .batch = o->batch,
        .retry = o->retry,
        .store = weir_hub_store(self->config.hub),
        .window = &m->shared->window,
    };
    m->config.node.pool_bytes = (size_t)o->ring_bytes;
    m->config.node.vitals = &m->shared->vitals;
    m->config.node.report = &m->report;
    m->config.node.ended = &m->ended;
    m->shared->vitals.wake_fd = self->config.wake_fd;
    atomic_store(&m->shared->vitals.state, WEIR_STATE_NEW);
    weir_hub_shard_begin(m->shared);
    weir_hub_look(m->shared, &m->before);
}

static weir_err connect_reader(weir_bus_member *m, const weir_bus_reader *r,
                               weir_report *report)
{
    zmsg_t *reply = NULL;
    char route[32];
    snprintf(route, sizeof route, "%p", (void *)r->route);
    weir_err err = weir_actor_ask(m->actor, &reply, r->route ? "ROUTE" : "CONNECT",
                                  m->config.node.name, r->route ? route : r->endpoint,
                                  r->name, NULL);
    char *text = reply ? zmsg_popstr(reply) : NULL;
    if (err)
        weir_report_set(report, err, NULL, "shard %" PRIu32 ": %s", m->id,
                        text ? text : "cannot link");
    zstr_free(&text);
    zmsg_destroy(&reply);
    return err;
}

/*  What all the others were told before it came.                                   */
static weir_err tell_as_others(const weir_bus_members *self, weir_bus_member *m,
                               weir_report *report)
{
    weir_err err = self->started ? weir_bus_member_tell(m, "START", report) : WEIR_OK;
    if (!err && self->paused) err = weir_bus_member_tell(m, "PAUSE", report);
    if (!err && self->hurried) err = weir_bus_member_tell(m, "HURRY", report);
    if (!err && self->closed) err = weir_bus_member_tell(m, "CLOSE", report);
    return err;
}

/*  The inlet's name is one that was never there: libzmq lets go of a name some time after
    its socket.                                                                     */
static weir_err run_member(weir_bus_members *self, weir_bus_member *m,
                           weir_report *report)
{
    static _Atomic uint64_t number;
    m->actor = zactor_new(weir_shard, &m->config);
    weir_handover_take(&m->report);
    if (!m->actor || m->report.err)
        return weir_report_set(report, WEIR_ESYS, NULL, "shard %" PRIu32 ": %s", m->id,
                               m->report.err ? m->report.text : "no thread or socket");
    snprintf(m->endpoint, sizeof m->endpoint, "inproc://weir-shard-%" PRIu64 "-%" PRIu32,
             atomic_fetch_add(&number, 1), m->id);
    weir_err err = weir_actor_ask(m->actor, NULL, "LISTEN", m->endpoint, NULL);
    if (err)
        return weir_report_set(report, err, NULL, "shard %" PRIu32 " cannot listen",
                               m->id);
    for (size_t i = 0; i < self->reader_count && !err; i++)
        err = connect_reader(m, &self->readers[i], report);
    return err ? err : tell_as_others(self, m, report);
}

/*  One that was starting never was.                                                */
weir_err weir_bus_members_stop(weir_bus_member **m_p)
{
    weir_bus_member *m = *m_p;
    if (m->state == WEIR_SHARD_STARTING)
        atomic_store(&m->shared->state, WEIR_SHARD_RETIRED);
    if (m->actor && weir_actor_stop(&m->actor, &m->ended, stop_timeout_ms))
        return WEIR_ETIMEOUT; // its thread still uses all of this
    *m_p = m->next;
    sem_destroy(&m->ended);
    free(m->parks);
    free(m);
    return WEIR_OK;
}

weir_err weir_bus_members_start(weir_bus_members *self, uint32_t id, weir_report *report)
{
    weir_bus_member *m = calloc(1, sizeof *m);
    if (!m) abort();
    m->id = id;
    m->before_us = weir_clock_now_us();
    m->shared = weir_hub_shard_of(self->config.hub, id, self->config.node->vitals);
    sem_init(&m->ended, 0, 0);
    configure(self, m);
    weir_bus_member **at = &self->first;
    while (*at && (*at)->id < id)
        at = &(*at)->next;
    m->next = *at;
    *at = m;
    weir_err err = run_member(self, m, report);
    if (err) weir_bus_members_stop(at);
    return err;
}

/* --- All of them ------------------------------------------------------------------- */

weir_bus_member **weir_bus_members_find(weir_bus_members *self, uint32_t id)
{
    weir_bus_member **at = &self->first;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

uint32_t weir_bus_members_index(const weir_bus_members *self, uint32_t id)
{
    uint32_t i = 0;
    for (const weir_bus_member *m = self->first; m && m->id != id; m = m->next)
        i++;
    return i;
}

weir_err weir_bus_members_check(const weir_bus_members *self, weir_report *report)
{
    for (weir_bus_member *m = self->first; m; m = m->next) {
        if (m->shared->vitals.state != WEIR_STATE_FAILED) continue;
        weir_vitals_reason(&m->shared->vitals, report);
        return report->err;
    }
    return WEIR_OK;
}

weir_err weir_bus_members_read_by(weir_bus_members *self, weir_bus_reader reader,
                                  weir_report *report)
{
    self->readers =
        realloc(self->readers, (self->reader_count + 1) * sizeof *self->readers);
    if (!self->readers) abort();
    weir_bus_reader *r = &self->readers[self->reader_count++];
    *r = reader;
    weir_err err = WEIR_OK;
    for (weir_bus_member *m = self->first; m && !err; m = m->next)
        err = connect_reader(m, r, report);
    return err;
}

weir_err weir_bus_members_tell(weir_bus_members *self, const char *command,
                               weir_report *report)
{
    weir_err err = WEIR_OK;
    if (streq(command, "START")) self->started = true;
    if (streq(command, "PAUSE")) self->paused = true;
    if (streq(command, "RESUME")) self->paused = false;
    if (streq(command, "HURRY")) self->hurried = true;
    if (streq(command, "CLOSE")) self->closed = true;
    for (weir_bus_member *m = self->first; m && !err; m = m->next)
        err = weir_bus_member_tell(m, command, report);
    return err;
}

/*  A shard that has no turn says nothing: what it held last it holds until then.   */
static void bring_up(weir_shard_stats *stats, const weir_bus_options *o, int64_t now_us)
{
    double records = (double)stats->ring.count / (double)o->ring_records;
    double bytes = (double)stats->ring.bytes / (double)o->ring_bytes;
    if (!stats->at_us || now_us <= stats->at_us) return;
    stats->ring.fill_us +=
        (records > bytes ? records : bytes) * (double)(now_us - stats->at_us);
}

uint32_t weir_bus_members_loads(weir_bus_members *self, weir_shard_load *loads,
                                int64_t now_us)
{
    uint32_t count = 0;
    for (weir_bus_member *m = self->first; m; m = m->next) {
        weir_shard_stats stats;
        if (m->state != WEIR_SHARD_ACTIVE) continue;
        weir_hub_look(m->shared, &stats);
        bring_up(&stats, self->options, now_us);
        double us = now_us > m->before_us ? (double)(now_us - m->before_us) : 1;
        loads[count++] = (weir_shard_load){
            .id = m->id,
            .vnodes = m->shared->vnodes,
            .fill = (stats.ring.fill_us - m->before.ring.fill_us) / us,
            .wait_us = weir_histogram_percentile(&stats.ring.waited,
                                                 &m->before.ring.waited, 0.95),
            .rate = (double)(stats.ring.offered - m->before.ring.offered) * 1e6 / us,
            .age_us = now_us - m->active_us};
        m->before = stats;
        m->before_us = now_us;
    }
    return count;
}

/* --- Life -------------------------------------------------------------------------- */

void weir_bus_members_init(weir_bus_members *self, const weir_bus_shards_config *config)
{
    *self =
        (weir_bus_members){.config = *config, .options = weir_hub_config(config->hub)};
}

weir_err weir_bus_members_fini(weir_bus_members *self)
{
    weir_err err = WEIR_OK;
    while (self->first && !err)
        err = weir_bus_members_stop(&self->first);
    if (err) return err;
    for (size_t i = 0; i < self->reader_count; i++) {
        free(self->readers[i].endpoint);
        weir_route_destroy(&self->readers[i].route);
        free(self->readers[i].name);
    }
    free(self->readers);
    return WEIR_OK;
}
