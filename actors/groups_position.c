#include "actors/cursor.h"
#include "actors/groups_private.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <inttypes.h>
#include <time.h>

/*  Longest that a store may take to say where a group begins.                      */
static const time_t seek_s = 30;

/* --- Groups ------------------------------------------------------------------------ */

weir_group *weir_group_new(weir_groups *groups, const char *name)
{
    weir_group *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->name = strdup(name);
    if (!self->name) abort();
    self->config = weir_group_defaults;
    self->next_us = self->dirty_us = -1;
    pthread_cond_init(&self->stored, NULL);
    weir_group **end = &groups->groups;
    while (*end)
        end = &(*end)->next;
    *end = self;
    return self;
}

void weir_group_destroy(weir_group **self_p)
{
    weir_group *self = *self_p;
    *self_p = NULL;
    for (size_t i = 0; i < self->shard_count; i++) {
        weir_group_reading_reset(self->shards[i]);
        weir_group_window_destroy(&self->shards[i]->window);
        free(self->shards[i]);
    }
    while (self->letters) {
        weir_group_letter *letter = self->letters;
        self->letters = letter->next;
        weir_dead_destroy_list(&letter->dead);
        free(letter);
    }
    weir_dead_file_close(&self->dead_file);
    pthread_cond_destroy(&self->stored);
    free(self->shards);
    free(self->name);
    free(self);
}

static void begin_at(weir_groups *groups, weir_group_shard *shard,
                     const weir_group_row *row)
{
    weir_group_window_destroy(&shard->window);
    shard->window = weir_group_window_new(row, groups->config.vnodes);
    shard->noted = row->commit;
    shard->ruling = 0;
    shard->retry_us = 0;
    shard->loaded = (weir_position){0};
    *shard->trouble = 0;
    shard->fenced = shard->dry = false;
}

weir_group_shard *weir_group_add_shard(weir_groups *groups, weir_group *self,
                                       const weir_group_row *row)
{
    weir_group_shard *shard = calloc(1, sizeof *shard);
    size_t bytes = (self->shard_count + 1) * sizeof *self->shards;
    self->shards = realloc(self->shards, bytes);
    if (!shard || !self->shards) abort();
    shard->group = self;
    shard->id = row->shard;
    shard->stored = row->commit;
    begin_at(groups, shard, row);
    size_t i = self->shard_count++;
    for (; i > 0 && self->shards[i - 1]->id > shard->id; i--)
        self->shards[i] = self->shards[i - 1];
    self->shards[i] = shard;
    return shard;
}

/*  What was removed beyond all that was read is shed without being read. What is being
    read tells its gaps itself, and so it is where nobody can count them without.   */
static void shed_removed(weir_group_shard *shard, const weir_store_shard *now)
{
    uint64_t reached = weir_group_window_look(shard->window)->reached.a;
    if (shard->reading || now->end.b || now->begin.a <= reached) return;
    weir_log(WEIR_WARN,
             "records are shed group=%s shard=%u first=%" PRIu64 " last=%" PRIu64
             " cause=trimmed",
             shard->group->name, shard->id, reached + 1, now->begin.a);
    weir_group_window_pass(shard->window, now->begin, now->begin.a - reached);
    weir_group_changed(shard, weir_clock_now_us());
}

/*  A shard that was made anew, or has lost its end, will use places again that the state
    has as read: the group goes back to where it ended before anything was written.  */
static void go_back(weir_groups *groups, weir_group_shard *shard,
                    const weir_store_shard *now)
{
    weir_position loaded = shard->loaded;
    weir_group_row row = {.shard = shard->id, .start = now->was, .commit = now->was};
    if (!now->was_known || weir_position_is_none(loaded)) return;
    shard->loaded = (weir_position){0};
    if (weir_position_order(loaded, now->was) <= 0) return;
    weir_log(WEIR_WARN,
             "the store has lost what was read, or was made anew; reading goes on at its "
             "end as it was found group=%s shard=%u commit=%" PRIu64 " end=%" PRIu64,
             shard->group->name, shard->id, loaded.a, now->was.a);
    weir_group_reading_reset(shard);
    begin_at(groups, shard, &row);
    weir_group_count_change(shard);
    shard->group->dirty_us = weir_clock_now_us();
    if (shard->owner) weir_member_wake(shard->owner);
}

static void compare(weir_groups *groups, weir_group_shard *shard,
                    const weir_store_shard *now)
{
    go_back(groups, shard, now);
    shed_removed(shard, now);
}

static bool has_read(const weir_groups *self)
{
    for (weir_group *group = self->groups; group; group = group->next)
        for (size_t i = 0; i < group->shard_count; i++)
            if (!weir_position_is_none(group->shards[i]->loaded)) return true;
    return false;
}

/*  What is not in the list was never written to.                                   */
static void compare_found(weir_groups *groups, weir_group_shard *shard,
                          const weir_store_shard *list, size_t count)
{
    weir_store_shard now = {.shard = shard->id};
    for (size_t i = 0; i < count; i++)
        if (list[i].shard == shard->id) now = list[i];
    now.was = now.end;
    now.was_known = true;
    go_back(groups, shard, &now);
}

weir_err weir_groups_go_back(weir_groups *self, weir_report *report)
{
    weir_store *store = self->config.store;
    weir_store_shard *list = NULL;
    weir_report away;
    weir_err err = WEIR_OK;
    size_t count = 0;
    if (!has_read(self) || store->class->shards(store, &list, &count, &away))
        return WEIR_OK; // what a store that is away had will be known when it is written
                        // to
    weir_groups_enter(self);
    for (weir_group *group = self->groups; group && !err; group = group->next) {
        for (size_t i = 0; i < group->shard_count; i++)
            compare_found(self, group->shards[i], list, count);
        err = weir_group_store(self, group, report);
    }
    weir_groups_exit(self);
    free(list);
    return err;
}

/*  Keeps those of the list that the group does not have; how many.                 */
static size_t keep_new(weir_groups *groups, const weir_group *self,
                       weir_store_shard *list, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        weir_group_shard *shard = weir_group_find_shard(self, list[i].shard);
        if (shard) {
            shard->end = list[i].end;
            compare(groups, shard, &list[i]);
        } else {
            list[kept++] = list[i];
        }
    }
    return kept;
}

/*  What a group has not seen of a shard that came after it begins at its start. The store
    is told before anything of it can be committed, or hold would not know of it.   */
weir_err weir_group_refresh(weir_groups *groups, weir_group *self, bool *more,
                            weir_report *report)
{
    weir_store *store = groups->config.store;
    weir_store_shard *list = NULL;
    size_t count = 0;
    *more = false;
    if (self->refreshing) return WEIR_OK;
    self->refreshing = true;
    self->refreshed_us = weir_clock_now_us();
    weir_groups_exit(groups);
    weir_err err = store->class->shards(store, &list, &count, report);
    weir_groups_enter(groups);
    self->unsure = err != WEIR_OK;
    count = err ? 0 : keep_new(groups, self, list, count);
    weir_groups_exit(groups);
    for (size_t i = 0; i < count; i++)
        store->class->commit(store, self->name, list[i].shard, 0);
    weir_groups_enter(groups);
    for (size_t i = 0; i < count; i++)
        weir_group_add_shard(groups, self, &(weir_group_row){.shard = list[i].shard});
    self->refreshing = false;
    pthread_cond_broadcast(&self->stored);
    *more = count > 0;
    if (*more) weir_group_share(self);
    free(list);
    return err;
}

/* --- Where to begin ---------------------------------------------------------------- */

/*  A read that somebody waits for. Both have a reference, since it may not be answered in
    time.                                                                           */
typedef struct {
    weir_read read;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool answered;
    uint32_t references;
} seeking;

static void seeking_unref(seeking *self) // gives up its lock
{
    bool last = --self->references == 0;
    pthread_mutex_unlock(&self->lock);
    if (!last) return;
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
    weir_read_fini(&self->read);
    free(self);
}

static void seeking_answered(weir_read *read)
{
    seeking *self = read->owner;
    pthread_mutex_lock(&self->lock);
    self->answered = true;
    pthread_cond_signal(&self->changed);
    seeking_unref(self);
}

static weir_position before(const weir_chunk *chunk)
{
    if (chunk->last.b == 0) return (weir_position){chunk->offset - 1, 0};
    return (weir_position){chunk->last.a,
                           chunk->last.b - weir_block_records(chunk->block)};
}

/*  The place before the first batch that arrived then or later.                    */
static weir_err seek(weir_groups *groups, uint32_t shard, int64_t since_ms,
                     weir_position *at, weir_report *report)
{
    weir_store *store = groups->config.store;
    seeking *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->references = 2;
    self->read = (weir_read){.shard = shard,
                             .since_ms = since_ms,
                             .max_records = 1,
                             .max_bytes = 1,
                             .done = seeking_answered,
                             .owner = self};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    store->class->read(store, &self->read);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seek_s;
    pthread_mutex_lock(&self->lock);
    int gave_up = 0;
    while (!self->answered && !gave_up)
        gave_up = pthread_cond_timedwait(&self->changed, &self->lock, &until);
    weir_err err = self->answered ? self->read.err : WEIR_ETIMEOUT;
    if (err)
        weir_report_set(report, err, groups->config.bus, "cannot read shard %u: %s",
                        shard, self->answered ? self->read.text : "no answer");
    else
        *at = self->read.chunk_count ? before(self->read.chunks) : self->read.reached;
    seeking_unref(self);
    return err;
}

static bool cursor_names(const weir_cursor *cursor, uint32_t shard)
{
    for (size_t i = 0; i < cursor->count; i++)
        if (cursor->marks[i].shard == shard) return true;
    return false;
}

/*  Where the group begins in the shard. The cursor was read before.                */
static weir_err find_start(weir_groups *groups, const weir_store_shard *shard,
                           const weir_group_config *config, const weir_cursor *cursor,
                           weir_position *at, weir_report *report)
{
    switch (config->start) {
    case WEIR_GROUP_CURSOR:
        if (!cursor_names(cursor, shard->shard))
            return seek(groups, shard->shard, 0, at, report);
        *at = weir_cursor_get(cursor, shard->shard);
        if (weir_position_order(*at, shard->end) > 0) *at = shard->end;
        return WEIR_OK;
    case WEIR_GROUP_END:
        return seek(groups, shard->shard, INT64_MAX, at, report);
    case WEIR_GROUP_TIME:
        return seek(groups, shard->shard, config->start_ms > 0 ? config->start_ms : 1, at,
                    report);
    default:
        return seek(groups, shard->shard, 0, at, report);
    }
}

static weir_err read_cursor(const weir_groups *groups, const weir_group_config *config,
                            weir_cursor *cursor, weir_report *report)
{
    *cursor = (weir_cursor){0};
    if (config->start != WEIR_GROUP_CURSOR) return WEIR_OK;
    const char *text = config->start_cursor ? config->start_cursor : "";
    return weir_cursor_read(cursor, text, strlen(text),
                            weir_bus_state_nonce(groups->config.state), report);
}

/*  The rows of all shards that the store has, or of those that the cursor names; the
    caller frees them. Without the lock.                                            */
static weir_err find_rows(weir_groups *groups, const weir_group_config *config,
                          bool only_named, weir_group_row **rows, size_t *count,
                          weir_report *report)
{
    weir_store *store = groups->config.store;
    weir_store_shard *list = NULL;
    weir_cursor cursor;
    size_t shards = 0;
    *rows = NULL;
    *count = 0;
    weir_err err = read_cursor(groups, config, &cursor, report);
    if (!err) err = store->class->shards(store, &list, &shards, report);
    *rows = calloc(shards + 1, sizeof **rows);
    if (!*rows) abort();
    for (size_t i = 0; i < shards && !err; i++) {
        weir_group_row *row = &(*rows)[*count];
        if (only_named && config->start == WEIR_GROUP_CURSOR &&
            !cursor_names(&cursor, list[i].shard))
            continue;
        row->shard = list[i].shard;
        err = find_start(groups, &list[i], config, &cursor, &row->start, report);
        row->commit = row->start;
        if (!err) ++*count;
    }
    weir_cursor_fini(&cursor);
    free(list);
    return err;
}

/*  Where a group begins must still be there when that is durable.                  */
static weir_err hold_all(weir_groups *groups, const char *name, weir_report *report)
{
    weir_store *store = groups->config.store;
    weir_store_shard *list = NULL;
    size_t count = 0;
    weir_err err = store->class->shards(store, &list, &count, report);
    for (size_t i = 0; i < count && !err; i++)
        store->class->commit(store, name, list[i].shard, 0);
    free(list);
    return err;
}

weir_err weir_group_make(weir_groups *groups, const char *name,
                         const weir_group_config *config, weir_group **self_p,
                         weir_report *report)
{
    weir_group_row *rows = NULL;
    weir_store *store = groups->config.store;
    size_t count = 0;
    weir_groups_exit(groups);
    weir_err err = hold_all(groups, name, report);
    if (!err) err = find_rows(groups, config, false, &rows, &count, report);
    /*  A group is its rows: on an empty bus it has one of shard 0, with which every bus
        begins, or it would be new again after a restart.                           */
    if (!err && count == 0) count = 1;
    if (!err)
        err = weir_bus_state_store_group(groups->config.state, name, rows, count, report);
    for (size_t i = 0; i < count && !err; i++)
        store->class->commit(store, name, rows[i].shard, rows[i].commit.a);
    if (err) store->class->forget(store, name);
    weir_groups_enter(groups);
    if (!err) *self_p = weir_group_new(groups, name);
    for (size_t i = 0; i < count && !err; i++)
        weir_group_add_shard(groups, *self_p, &rows[i]);
    free(rows);
    return err;
}

/* --- Moving ------------------------------------------------------------------------ */

/*  A group on its way to these rows, which were found some time ago: its members have
    gone on meanwhile, and so has `keep`.                                           */
typedef struct {
    weir_groups *groups;
    weir_group *group;
    weir_group_row *rows;
    size_t count;
    bool to_end;
    uint64_t *stored;       // of each row, the commit that is durable
    weir_store_shard *list; // what the store has
    size_t list_count;
} moving;

static void tell_stored(const moving *self, bool held_back)
{
    weir_store *store = self->groups->config.store;
    for (size_t i = 0; i < self->count; i++) {
        uint64_t to = self->rows[i].commit.a, offset = self->stored[i];
        if (held_back && to < offset) offset = to;
        store->class->commit(store, self->group->name, self->rows[i].shard, offset);
    }
}

/*  From now on the store removes nothing behind the rows, and what it has is known.
    Nobody else may tell it a commit meanwhile. Gives up the lock.                  */
static weir_err hold_back(moving *self, weir_report *report)
{
    weir_store *store = self->groups->config.store;
    weir_group *group = self->group;
    self->stored = calloc(self->count + 1, sizeof *self->stored);
    if (!self->stored) abort();
    while (group->storing)
        pthread_cond_wait(&group->stored, &self->groups->lock);
    group->storing = true;
    for (size_t i = 0; i < self->count; i++)
        self->stored[i] = weir_group_find_shard(group, self->rows[i].shard)->stored.a;
    weir_groups_exit(self->groups);
    tell_stored(self, true);
    weir_err err = store->class->shards(store, &self->list, &self->list_count, report);
    if (err) tell_stored(self, false);
    weir_groups_enter(self->groups);
    group->storing = false;
    pthread_cond_broadcast(&group->stored);
    return err;
}

/*  The place before the oldest record that is there.                               */
static weir_position removed_up_to(const moving *self, uint32_t shard)
{
    for (size_t i = 0; i < self->list_count; i++)
        if (self->list[i].shard == shard) return self->list[i].begin;
    return (weir_position){0};
}

/*  No end lies before a commit. What the group has committed and is removed does not come
    again, and is not shed: it begins behind that.                                  */
static weir_position destination(const moving *self, const weir_group_shard *shard,
                                 weir_position to)
{
    weir_position commit = weir_group_window_look(shard->window)->commit;
    if (self->to_end) return weir_position_order(commit, to) > 0 ? commit : to;
    weir_position gone = removed_up_to(self, shard->id);
    if (weir_position_order(gone, commit) > 0) gone = commit;
    return weir_position_max(to, gone);
}

static void move(const moving *self, weir_group_row *row)
{
    weir_group_shard *shard = weir_group_find_shard(self->group, row->shard);
    row->start = row->commit = destination(self, shard, row->commit);
    weir_group_reading_reset(shard);
    begin_at(self->groups, shard, row);
    weir_group_count_change(shard);
    if (shard->owner) weir_member_wake(shard->owner);
}

static weir_err move_all(moving *self, weir_report *report)
{
    weir_err err = self->to_end ? WEIR_OK : hold_back(self, report);
    if (err) return err;
    for (size_t i = 0; i < self->count; i++)
        move(self, &self->rows[i]);
    return weir_group_store(self->groups, self->group, report);
}

/*  Another thread may be about to add some.                                        */
static weir_err learn_shards(weir_groups *groups, weir_group *group, weir_report *report)
{
    bool more;
    while (group->refreshing)
        pthread_cond_wait(&group->stored, &groups->lock);
    return weir_group_refresh(groups, group, &more, report);
}

static weir_err no_such_group(const weir_groups *self, const char *group,
                              weir_report *report)
{
    return weir_report_set(report, WEIR_ENOTFOUND, self->config.bus,
                           "there is no group '%s'", group);
}

weir_err weir_groups_set(weir_groups *self, const char *name,
                         const weir_group_config *where_to, weir_report *report)
{
    moving to = {.groups = self, .to_end = where_to->start == WEIR_GROUP_END};
    pthread_mutex_lock(&self->changing);
    weir_groups_enter(self);
    to.group = weir_groups_find(self, name);
    weir_groups_exit(self);
    weir_err err = to.group ? find_rows(self, where_to, true, &to.rows, &to.count, report)
                            : no_such_group(self, name, report);
    weir_groups_enter(self);
    if (!err) err = learn_shards(self, to.group, report);
    if (!err) err = move_all(&to, report);
    weir_groups_exit(self);
    pthread_mutex_unlock(&self->changing);
    free(to.rows);
    free(to.stored);
    free(to.list);
    return err;
}

/* --- Removing ---------------------------------------------------------------------- */

static bool has_members(const weir_group *self)
{
    for (weir_member_of *member = self->members; member; member = member->next)
        if (!member->gone || member->busy) return true;
    return false;
}

/*  Nothing of it is stored any more. Gives up the lock.                            */
static void end_storing(weir_groups *groups, weir_group *group)
{
    group->removed = true;
    while (group->storing || group->refreshing)
        pthread_cond_wait(&group->stored, &groups->lock);
}

static void detach(weir_groups *groups, weir_group *group)
{
    for (weir_member_of *member = group->members; member; member = member->next)
        member->group = NULL;
    weir_group **at = &groups->groups;
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
}

/*  A silent member may come back while the lock is given up: then the group stays, and
    its rows are stored again.                                                          */
static weir_err forget(weir_groups *self, weir_group *group, weir_report *report)
{
    end_storing(self, group);
    weir_groups_exit(self);
    weir_err err = weir_bus_state_forget_group(self->config.state, group->name, report);
    weir_groups_enter(self);
    group->removed = false;
    if (err) return err;
    if (has_members(group)) {
        for (size_t i = 0; i < group->shard_count; i++)
            weir_group_count_change(group->shards[i]);
        group->dirty_us = 0;
        return weir_report_set(report, WEIR_EREFUSED, self->config.bus,
                               "a member of group '%s' came back", group->name);
    }
    detach(self, group);
    return WEIR_OK;
}

weir_err weir_groups_remove(weir_groups *self, const char *name, weir_report *report)
{
    weir_err err;
    weir_store *store = self->config.store;
    pthread_mutex_lock(&self->changing);
    weir_groups_enter(self);
    weir_group *group = weir_groups_find(self, name);
    if (!group)
        err = no_such_group(self, name, report);
    else if (has_members(group))
        err = weir_report_set(report, WEIR_EREFUSED, self->config.bus,
                              "group '%s' has members", name);
    else
        err = forget(self, group, report);
    weir_groups_exit(self);
    if (!err) store->class->forget(store, name);
    if (!err) weir_group_destroy(&group);
    pthread_mutex_unlock(&self->changing);
    return err;
}

/* --- Looking ----------------------------------------------------------------------- */

static void look_at(const weir_group_shard *shard, weir_group_look *look)
{
    const weir_group_window_state *state = weir_group_window_look(shard->window);
    look->group = strdup(shard->group->name);
    if (!look->group) abort();
    look->shard = shard->id;
    look->start = state->start;
    look->commit = state->commit;
    look->shed = state->shed;
    look->dead = shard->dead;
    look->held = (uint32_t)state->held;
    const char *member = shard->owner ? shard->owner->name : "";
    strncpy(look->member, member, sizeof look->member - 1);
}

static const weir_store_shard *find_stored(const weir_store_shard *shards, size_t count,
                                           uint32_t shard)
{
    for (size_t i = 0; i < count; i++)
        if (shards[i].shard == shard) return &shards[i];
    return NULL;
}

/*  The shard may have come after the list was made: then what is committed is its end. Of
    earlier epochs nobody has counted what is left.                                 */
static void measure(weir_group_look *look, const weir_store_shard *shards, size_t count)
{
    const weir_store_shard *shard = find_stored(shards, count, look->shard);
    look->last = shard ? weir_position_max(shard->end, look->commit) : look->commit;
    look->counted = !look->last.b;
    if (look->counted) {
        look->done = look->commit.a - look->start.a - look->shed;
        look->lag = look->last.a - look->commit.a;
        look->stored = look->last.a;
        return;
    }
    look->lag = look->last.b - (look->last.a == look->commit.a ? look->commit.b : 0);
    look->stored = shard ? shard->last : 0;
    if (look->lag > look->stored) look->lag = look->stored;
}

static size_t count_looks(const weir_groups *self)
{
    size_t count = 0;
    for (const weir_group *group = self->groups; group; group = group->next)
        count += group->shard_count;
    return count;
}

static void compare_all(weir_groups *self, const weir_store_shard *shards, size_t count)
{
    for (weir_group *group = self->groups; group; group = group->next)
        for (size_t i = 0; i < count; i++) {
            weir_group_shard *shard = weir_group_find_shard(group, shards[i].shard);
            if (shard) compare(self, shard, &shards[i]);
        }
}

static size_t look_at_all(const weir_groups *self, weir_group_look **list)
{
    size_t count = 0;
    *list = calloc(count_looks(self) + 1, sizeof **list);
    if (!*list) abort();
    for (const weir_group *group = self->groups; group; group = group->next)
        for (size_t i = 0; i < group->shard_count; i++)
            look_at(group->shards[i], &(*list)[count++]);
    return count;
}

/*  What was removed is learned before; the ends are looked up after the commits, so that
    no lag is negative.                                                             */
weir_err weir_groups_look(weir_groups *self, weir_group_look **list, size_t *count,
                          weir_report *report)
{
    weir_store *store = self->config.store;
    weir_store_shard *shards = NULL;
    size_t shard_count = 0;
    *list = NULL;
    *count = 0;
    weir_err err = store->class->shards(store, &shards, &shard_count, report);
    if (err) return err;
    weir_groups_enter(self);
    compare_all(self, shards, shard_count);
    *count = look_at_all(self, list);
    weir_groups_exit(self);
    free(shards);
    shards = NULL;
    err = store->class->shards(store, &shards, &shard_count, report);
    for (size_t i = 0; i < *count && !err; i++)
        measure(&(*list)[i], shards, shard_count);
    if (err) weir_group_looks_free(list, *count);
    free(shards);
    return err;
}

void weir_group_looks_free(weir_group_look **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free((*list)[i].group);
    free(*list);
    *list = NULL;
}
