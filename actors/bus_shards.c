#include "actors/bus_shards.h"
#include "actors/bus_members.h"
#include "runtime/log.h"
#include <assert.h>

struct weir_bus_shards {
    weir_bus_members members;
    weir_hub *hub; // lent
    const weir_bus_options *options;
    weir_shard_table table;
    bool waiting;     // weir_bus_shards_is_waiting
    uint32_t *owners; // of the map that is published
    uint64_t version; // of the route, for which markers are awaited; 0: no change
    uint32_t *changed;
    uint32_t changed_count;
};

/* --- Table ------------------------------------------------------------------------- */

static weir_shard_row *find_row(weir_bus_shards *self, uint32_t id)
{
    for (size_t i = 0; i < self->table.row_count; i++)
        if (self->table.rows[i].id == id) return &self->table.rows[i];
    return NULL;
}

static uint32_t add_row(weir_bus_shards *self)
{
    weir_shard_table *t = &self->table;
    uint32_t id = t->row_count ? t->rows[t->row_count - 1].id + 1 : 0;
    t->rows = realloc(t->rows, (t->row_count + 1) * sizeof *t->rows);
    if (!t->rows) abort();
    t->rows[t->row_count++] = (weir_shard_row){id, WEIR_SHARD_STARTING};
    return id;
}

static uint32_t active_ids(const weir_bus_shards *self, uint32_t **ids)
{
    uint32_t count = 0;
    *ids = calloc(self->table.row_count + 1, sizeof **ids);
    if (!*ids) abort();
    for (size_t i = 0; i < self->table.row_count; i++)
        if (self->table.rows[i].state == WEIR_SHARD_ACTIVE)
            (*ids)[count++] = self->table.rows[i].id;
    return count;
}

uint32_t weir_bus_shards_active(const weir_bus_shards *self)
{
    uint32_t count = 0;
    for (size_t i = 0; i < self->table.row_count; i++)
        count += self->table.rows[i].state == WEIR_SHARD_ACTIVE;
    return count;
}

/*  Gives the vnodes to the active shards; what moves from a shard that had some is noted.
 */
static void assign(weir_bus_shards *self)
{
    weir_shard_table *t = &self->table;
    uint32_t *ids, count = active_ids(self, &ids);
    t->version++;
    weir_scale_assign(t->owners, t->vnodes, ids, count);
    weir_moves_note(t, self->owners);
    free(ids);
}

static weir_err store_table(weir_bus_shards *self, weir_report *report)
{
    return weir_bus_state_store(weir_hub_state(self->hub), &self->table, report);
}

static void set_state(weir_bus_shards *self, uint32_t id, weir_shard_state state)
{
    weir_bus_member *m = *weir_bus_members_find(&self->members, id);
    find_row(self, id)->state = state;
    if (m) weir_bus_member_set(m, state);
}

/* --- Map --------------------------------------------------------------------------- */

static bool loses(const weir_bus_shards *self, uint32_t id)
{
    for (uint32_t v = 0; v < self->table.vnodes; v++)
        if (self->owners[v] == id && self->table.owners[v] != id) return true;
    return false;
}

static uint32_t count_vnodes(const weir_bus_shards *self, uint32_t id)
{
    uint32_t count = 0;
    for (uint32_t v = 0; v < self->table.vnodes; v++)
        count += self->table.owners[v] == id;
    return count;
}

static uint64_t publish(weir_bus_shards *self)
{
    uint32_t count = weir_bus_members_index(&self->members, UINT32_MAX), i = 0;
    weir_route_map *map = weir_route_map_new(self->table.vnodes, count);
    for (weir_bus_member *m = self->members.first; m; m = m->next, i++) {
        map->shards[i] = (weir_route_shard){.id = m->id,
                                            .endpoint = strdup(m->endpoint),
                                            .active = m->state == WEIR_SHARD_ACTIVE,
                                            .loses = loses(self, m->id)};
        m->shared->vnodes = count_vnodes(self, m->id);
    }
    for (uint32_t v = 0; v < map->vnodes; v++)
        map->owners[v] = weir_bus_members_index(&self->members, self->table.owners[v]);
    memcpy(self->owners, self->table.owners, map->vnodes * sizeof *self->owners);
    return weir_route_publish(weir_hub_route(self->hub), &map);
}

/* --- Moving ------------------------------------------------------------------------ */

/*  Whether the store keeps no fences: then the state does.                          */
static bool is_unfenced(const weir_store *store)
{
    return store && store->class->set_fences;
}

/*  Moves whose fences are stored need not be known any more; the state's are as soon as
    its moves are settled. Not while vnodes move: the fences of that change are not known
    to their shards yet.                                                            */
static void forget_moves(weir_bus_shards *self)
{
    if (is_unfenced(weir_hub_store(self->hub))) return;
    for (weir_bus_member *m = self->members.first; m; m = m->next)
        if (m->state == WEIR_SHARD_ACTIVE && weir_moves_lead_to(&self->table, m->id) &&
            weir_bus_member_is_fenced(m))
            weir_moves_forget(&self->table, m->id);
}

static weir_err forget_stored_moves(weir_bus_shards *self, weir_report *report)
{
    size_t before = self->table.move_count;
    if (self->version || self->waiting || !before) return WEIR_OK;
    forget_moves(self);
    return self->table.move_count == before ? WEIR_OK : store_table(self, report);
}

static weir_err nothing_wrong(weir_report *report)
{
    *report = (weir_report){0};
    return WEIR_OK;
}

/*  They are durable before a parked record goes on.                                 */
static weir_err keep_fences(weir_bus_shards *self, const weir_moves_stored *stored,
                            weir_report *report)
{
    size_t count;
    weir_hub *hub = self->hub;
    weir_store *store = weir_hub_store(hub);
    if (!is_unfenced(store)) return WEIR_OK;
    weir_fence *list = weir_moves_fences(&self->table, stored, &count);
    weir_err err = weir_bus_state_store_fences(weir_hub_state(hub), list, count, report);
    if (!err) store->class->set_fences(store, list, count);
    if (!err) self->table.move_count = 0;
    free(list);
    return err;
}

/*  What shards have stored of the vnodes that moved from them is there.            */
static weir_err release_all(weir_bus_shards *self, const weir_moves_stored *stored,
                            weir_report *report)
{
    weir_moves_settle(&self->table, stored);
    weir_err err = keep_fences(self, stored, report);
    for (weir_bus_member *m = self->members.first; m && !err; m = m->next)
        err = weir_bus_member_release(m, &self->table, stored, report);
    return err;
}

/*  Tells all to go on, when the store tells what it has. One on a server that is away is
    asked again later: until then `waiting`.                                         */
static weir_err settle_moves(weir_bus_shards *self, weir_report *report)
{
    weir_store *store = weir_hub_store(self->hub);
    weir_store_shard *list = NULL;
    weir_fence *fences = NULL;
    size_t count = 0, fence_count = 0;
    weir_err err = WEIR_OK;
    self->waiting = false;
    if (!self->table.move_count) return WEIR_OK;
    if (store) err = store->class->shards(store, &list, &count, report);
    if (store && !err) err = store->class->fences(store, &fences, &fence_count, report);
    self->waiting = is_unfenced(store) && weir_store_is_away(err);
    if (!err)
        err = release_all(self, &(weir_moves_stored){list, count, fences, fence_count},
                          report);
    free(list);
    free(fences);
    return self->waiting ? nothing_wrong(report) : err;
}

/*  What they still hold, of outlets that have left, goes first.                     */
static weir_err end_drained(weir_bus_shards *self, weir_report *report)
{
    weir_err err = WEIR_OK;
    for (weir_bus_member *m = self->members.first; m && !err; m = m->next)
        if (m->state == WEIR_SHARD_DRAINING)
            err = weir_bus_member_tell(m, "RETIRE", report);
    return err;
}

/*  What the losers had of the vnodes that moved is safe.                           */
static weir_err finish_moves(weir_bus_shards *self, weir_report *report)
{
    weir_err err = settle_moves(self, report);
    if (self->waiting) return WEIR_OK;
    self->version = 0;
    if (!err) err = end_drained(self, report);
    return err ? err : store_table(self, report);
}

/*  Nothing is parked, but the fences of moves that were under way are due. What shards of
    an earlier start have given to the store, and it has not stored yet, comes before
    them; of one on a server that is away nobody waits here for that.               */
static weir_err end_earlier_moves(weir_bus_shards *self, weir_report *report)
{
    weir_store *store = weir_hub_store(self->hub);
    size_t before = self->table.move_count;
    weir_err err = WEIR_OK;
    int64_t timeout_us = is_unfenced(store) ? 0 : self->options->flush_timeout_us;
    if (store && before) err = store->class->flush(store, timeout_us, report);
    self->waiting = is_unfenced(store) && weir_store_is_away(err);
    if (self->waiting) return nothing_wrong(report);
    if (!err) err = settle_moves(self, report);
    return err || self->table.move_count == before ? err : store_table(self, report);
}

static weir_err retire(weir_bus_shards *self, weir_bus_member **at, weir_report *report)
{
    uint32_t id = (*at)->id;
    set_state(self, id, WEIR_SHARD_RETIRED);
    weir_log(WEIR_INFO, "shard retired bus=%s shard=%" PRIu32, weir_hub_name(self->hub),
             id);
    return weir_bus_members_stop(at)
               ? weir_report_set(report, WEIR_ETIMEOUT, NULL,
                                 "shard %" PRIu32 " does not end", id)
               : WEIR_OK;
}

/*  Those that drained and have nothing left.                                       */
static weir_err retire_ended(weir_bus_shards *self, weir_report *report)
{
    bool retired = false;
    weir_err err = WEIR_OK;
    for (weir_bus_member **at = &self->members.first; *at && !err;) {
        weir_bus_member *m = *at;
        if (m->state == WEIR_SHARD_DRAINING &&
            m->shared->vitals.state == WEIR_STATE_ENDED) {
            retired = true;
            err = retire(self, at, report);
        } else {
            at = &m->next;
        }
    }
    if (err || !retired) return err;
    publish(self);
    return store_table(self, report);
}

/* --- Changing ---------------------------------------------------------------------- */

static void note_changed(weir_bus_shards *self, uint32_t id)
{
    self->changed =
        realloc(self->changed, (self->changed_count + 1) * sizeof *self->changed);
    if (!self->changed) abort();
    self->changed[self->changed_count++] = id;
}

/*  They have no records.                                                           */
static void stop_added(weir_bus_shards *self)
{
    for (uint32_t i = 0; i < self->changed_count; i++) {
        weir_bus_member **at = weir_bus_members_find(&self->members, self->changed[i]);
        if (*at && (*at)->state == WEIR_SHARD_STARTING) weir_bus_members_stop(at);
    }
}

static weir_err add_shards(weir_bus_shards *self, uint32_t count, weir_report *report)
{
    weir_err err = WEIR_OK;
    for (uint32_t i = 0; i < count && !err; i++) {
        uint32_t id = add_row(self);
        note_changed(self, id);
        err = weir_bus_members_start(&self->members, id, report);
    }
    return err;
}

static void choose_drained(weir_bus_shards *self, uint32_t count, const uint32_t *order)
{
    uint32_t *ids, active = active_ids(self, &ids);
    for (uint32_t i = 0; i < count; i++)
        note_changed(self, order ? order[i] : ids[active - 1 - i]);
    free(ids);
}

/*  A table that has the change in it; nothing else has begun.                      */
static weir_err plan_change(weir_bus_shards *self, uint32_t active, const uint32_t *order,
                            weir_report *report)
{
    uint32_t now = weir_bus_shards_active(self);
    weir_err err = WEIR_OK;
    if (active > now)
        err = add_shards(self, active - now, report);
    else
        choose_drained(self, now - active, order);
    if (err) return err;
    for (uint32_t i = 0; i < self->changed_count; i++)
        find_row(self, self->changed[i])->state =
            active > now ? WEIR_SHARD_ACTIVE : WEIR_SHARD_DRAINING;
    assign(self);
    return store_table(self, report);
}

/*  What was begun is taken back. That a shard which was to come has gone is no failure of
    the bus.                                                                        */
static weir_err give_up_change(weir_bus_shards *self, weir_shard_table *before,
                               weir_err err)
{
    stop_added(self);
    self->changed_count = 0;
    weir_shard_table_fini(&self->table);
    self->table = *before;
    return err == WEIR_ECLOSED ? WEIR_ESYS : err;
}

/*  The table is durable before anybody acts on it.                                 */
static weir_err move_vnodes(weir_bus_shards *self, weir_report *report)
{
    weir_err err = WEIR_OK;
    for (weir_bus_member *m = self->members.first; m && !err; m = m->next)
        err = weir_bus_member_park(m, &self->table, self->owners, report);
    if (!err) self->version = publish(self);
    return err;
}

weir_err weir_bus_shards_change(weir_bus_shards *self, uint32_t active,
                                const uint32_t *order, weir_report *report)
{
    if (weir_bus_shards_is_changing(self))
        return weir_report_set(report, WEIR_EFULL, NULL, "a change is under way already");
    self->changed_count = 0;
    if (active == weir_bus_shards_active(self)) return WEIR_OK;
    forget_moves(self);
    weir_shard_table before = weir_shard_table_copy(&self->table);
    weir_err err = plan_change(self, active, order, report);
    if (err) return give_up_change(self, &before, err);
    weir_shard_table_fini(&before);
    for (uint32_t i = 0; i < self->changed_count; i++)
        set_state(self, self->changed[i], find_row(self, self->changed[i])->state);
    return move_vnodes(self, report) ? WEIR_ECLOSED : WEIR_OK;
}

weir_err weir_bus_shards_go_on(weir_bus_shards *self, weir_report *report)
{
    weir_err err = weir_bus_members_check(&self->members, report);
    if (err) return err;
    if (self->version && weir_route_is_marked(weir_hub_route(self->hub), self->version))
        err = finish_moves(self, report);
    if (!err) err = retire_ended(self, report);
    return err ? err : forget_stored_moves(self, report);
}

const uint32_t *weir_bus_shards_changed(const weir_bus_shards *self, uint32_t *count)
{
    *count = self->changed_count;
    return self->changed;
}

bool weir_bus_shards_is_waiting(const weir_bus_shards *self)
{
    return self->waiting;
}

bool weir_bus_shards_is_changing(const weir_bus_shards *self)
{
    bool changing = self->version != 0 || self->waiting;
    for (const weir_bus_member *m = self->members.first; m; m = m->next)
        changing |= m->state == WEIR_SHARD_DRAINING;
    return changing;
}

/* --- All of them ------------------------------------------------------------------- */

weir_err weir_bus_shards_connect(weir_bus_shards *self, const weir_endpoint *endpoint,
                                 const char *name, weir_report *report)
{
    weir_bus_reader reader = {.endpoint = strdup(endpoint->endpoint),
                              .name = strdup(name)};
    return weir_bus_members_read_by(&self->members, reader, report);
}

weir_err weir_bus_shards_route(weir_bus_shards *self, weir_route *route, const char *name,
                               weir_report *report)
{
    weir_bus_reader reader = {.route = weir_route_dup(route), .name = strdup(name)};
    return weir_bus_members_read_by(&self->members, reader, report);
}

weir_err weir_bus_shards_tell(weir_bus_shards *self, const char *command,
                              weir_report *report)
{
    return weir_bus_members_tell(&self->members, command, report);
}

weir_err weir_bus_shards_start(weir_bus_shards *self, weir_report *report)
{
    weir_err err = self->waiting ? end_earlier_moves(self, report) : WEIR_OK;
    if (err || self->waiting) return err;
    return weir_bus_shards_tell(self, "START", report);
}

uint32_t weir_bus_shards_loads(weir_bus_shards *self, weir_shard_load *loads,
                               int64_t now_us)
{
    return weir_bus_members_loads(&self->members, loads, now_us);
}

/* --- Life -------------------------------------------------------------------------- */

/*  What was under way when the bus ended: nothing is resident any more, so who was to
    drain has nothing, and who was starting never was.                              */
static void tidy_rows(weir_bus_shards *self)
{
    for (size_t i = 0; i < self->table.row_count; i++) {
        weir_shard_row *row = &self->table.rows[i];
        if (row->state != WEIR_SHARD_ACTIVE) row->state = WEIR_SHARD_RETIRED;
    }
}

static uint32_t wanted(const weir_bus_shards *self)
{
    const weir_bus_options *o = self->options;
    uint32_t active = weir_bus_shards_active(self), first = weir_bus_first_shards(o);
    if (!active || !weir_bus_has_policy(o))
        return active && o->shards == WEIR_AUTO ? active : first;
    if (active < o->scale.min) return (uint32_t)o->scale.min;
    uint32_t max = weir_bus_scale_max(o);
    return active > max ? max : active;
}

/*  As many as the options allow, before anything runs.                             */
static void adjust_rows(weir_bus_shards *self)
{
    uint32_t want = wanted(self), active = weir_bus_shards_active(self);
    for (; active < want; active++)
        find_row(self, add_row(self))->state = WEIR_SHARD_ACTIVE;
    for (size_t i = self->table.row_count; i-- > 0 && active > want;) {
        if (self->table.rows[i].state != WEIR_SHARD_ACTIVE) continue;
        self->table.rows[i].state = WEIR_SHARD_RETIRED;
        active--;
    }
}

static weir_err load_table(weir_bus_shards *self, weir_report *report)
{
    weir_shard_table *t = &self->table;
    uint32_t vnodes = (uint32_t)self->options->vnodes;
    weir_err err = weir_bus_state_load(weir_hub_state(self->hub), t, report);
    if (err) return err;
    if (!t->row_count) {
        weir_shard_table_fini(t);
        *t = (weir_shard_table){.vnodes = vnodes,
                                .owners = malloc(vnodes * sizeof *t->owners)};
        if (!t->owners) abort();
        memset(t->owners, 0xff, vnodes * sizeof *t->owners); // nobody's
    }
    self->owners = malloc(vnodes * sizeof *self->owners);
    if (!self->owners) abort();
    memcpy(self->owners, t->owners, vnodes * sizeof *self->owners);
    tidy_rows(self);
    adjust_rows(self);
    assign(self);
    return store_table(self, report);
}

static weir_err start_all(weir_bus_shards *self, weir_report *report)
{
    weir_err err = WEIR_OK;
    for (size_t i = 0; i < self->table.row_count && !err; i++) {
        if (self->table.rows[i].state != WEIR_SHARD_ACTIVE) continue;
        err = weir_bus_members_start(&self->members, self->table.rows[i].id, report);
        if (!err) set_state(self, self->table.rows[i].id, WEIR_SHARD_ACTIVE);
    }
    return err ? err : end_earlier_moves(self, report);
}

weir_err weir_bus_shards_new(weir_bus_shards **self_p,
                             const weir_bus_shards_config *config, weir_report *report)
{
    weir_bus_shards *self = calloc(1, sizeof *self);
    if (!self) abort();
    weir_bus_members_init(&self->members, config);
    self->hub = config->hub;
    self->options = weir_hub_config(config->hub);
    *self_p = self;
    weir_err err = load_table(self, report);
    if (!err) err = start_all(self, report);
    if (err) return err;
    memcpy(self->owners, self->table.owners, self->table.vnodes * sizeof *self->owners);
    publish(self);
    weir_route_watch(weir_hub_route(config->hub), config->wake_fd);
    return WEIR_OK;
}

weir_err weir_bus_shards_destroy(weir_bus_shards **self_p)
{
    weir_bus_shards *self = *self_p;
    *self_p = NULL;
    if (!self) return WEIR_OK;
    weir_route_watch(weir_hub_route(self->hub), -1);
    weir_err err = weir_bus_members_fini(&self->members);
    if (err) return err;
    weir_shard_table_fini(&self->table);
    free(self->owners);
    free(self->changed);
    free(self);
    return WEIR_OK;
}
