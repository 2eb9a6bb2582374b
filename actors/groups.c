#include "actors/groups_private.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <assert.h>

const weir_group_config weir_group_defaults = {
    .ack_timeout_us = 30000000,
    .retry = {.first_us = 100000, .max_us = 5000000},
    .member_timeout_us = 10000000,
    .max_deliver = 5,
    .window = 10000,
    .start = WEIR_GROUP_START,
};

/* --- Lookups ----------------------------------------------------------------------- */

void weir_groups_enter(weir_groups *self)
{
    pthread_mutex_lock(&self->lock);
}

void weir_groups_exit(weir_groups *self)
{
    pthread_mutex_unlock(&self->lock);
}

void weir_groups_unref(weir_groups *self)
{
    bool last = --self->references == 0;
    weir_groups_exit(self);
    if (!last) return;
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->changing);
    free((char *)self->config.bus);
    free((char *)self->config.dead_path);
    weir_ledger_destroy(&self->config.ledger);
    free(self);
}

weir_group *weir_groups_find(weir_groups *self, const char *name)
{
    for (weir_group *group = self->groups; group; group = group->next)
        if (strcmp(group->name, name) == 0) return group;
    return NULL;
}

weir_group_shard *weir_group_find_shard(const weir_group *self, uint32_t id)
{
    size_t low = 0, high = self->shard_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->shards[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < self->shard_count && self->shards[low]->id == id;
    return found ? self->shards[low] : NULL;
}

/* --- Lifecycle --------------------------------------------------------------------- */

static char *copy_text(const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy) abort();
    return copy;
}

/*  With hold the store must know every commit before it removes anything.          */
static weir_err load_group(weir_groups *self, const char *name, weir_report *report)
{
    weir_group_row *rows = NULL;
    size_t count = 0;
    weir_store *store = self->config.store;
    weir_err err =
        weir_bus_state_load_group(self->config.state, name, &rows, &count, report);
    if (err) return err;
    weir_group *group = weir_group_new(self, name);
    for (size_t i = 0; i < count; i++) {
        weir_group_add_shard(self, group, &rows[i])->loaded = rows[i].commit;
        store->class->commit(store, name, rows[i].shard, rows[i].commit.a);
    }
    weir_group_rows_free(&rows, count);
    return WEIR_OK;
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

weir_err weir_groups_new(weir_groups **self_p, const weir_groups_config *config,
                         weir_report *report)
{
    weir_groups *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->config.bus = copy_text(config->bus ? config->bus : "");
    self->config.dead_path = copy_text(config->dead_path);
    self->config.ledger = weir_ledger_dup(config->ledger);
    self->references = 1;
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->changing, NULL);
    char **names = NULL;
    size_t count = 0;
    weir_err err = weir_bus_state_groups(config->state, &names, &count, report);
    for (size_t i = 0; i < count && !err; i++)
        err = load_group(self, names[i], report);
    free_names(names, count);
    if (!err) err = weir_groups_go_back(self, report);
    if (err) weir_groups_destroy(&self);
    *self_p = self;
    return err;
}

void weir_groups_destroy(weir_groups **self_p)
{
    weir_groups *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_groups_enter(self);
    while (self->groups) {
        weir_group *group = self->groups;
        assert(!group->members);
        weir_group_store_due(self, group, INT64_MAX);
        self->groups = group->next;
        weir_group_destroy(&group);
    }
    weir_groups_unref(self);
}

void weir_delivered_fini(weir_delivered *self)
{
    weir_block_destroy(&self->block);
    free(self->at);
    free(self->sequence);
    *self = (weir_delivered){0};
}

/* --- Members ----------------------------------------------------------------------- */

static weir_member_of *member_new(const char *name, weir_screen *screen, int wake_fd)
{
    weir_member_of *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->name = copy_text(name);
    self->screen = screen;
    self->wake_fd = wake_fd;
    self->subject.doc = &self->doc;
    self->seen_us = weir_clock_now_us();
    return self;
}

static void member_destroy(weir_member_of **self_p)
{
    weir_member_of *self = *self_p;
    *self_p = NULL;
    weir_doc_fini(&self->doc);
    weir_buffer_fini(&self->scratch);
    free(self->name);
    free(self);
}

static void enroll(weir_group *group, weir_member_of *member,
                   const weir_group_config *config)
{
    if (!group->members) {
        group->config = *config;
        group->config.start_cursor = NULL;
    }
    weir_member_of **end = &group->members;
    while (*end)
        end = &(*end)->next;
    *end = member;
    member->group = group;
    member->ack_timeout_us = config->ack_timeout_us;
    member->member_timeout_us = config->member_timeout_us;
    member->buried = config->buried;
    member->arg = config->arg;
    group->next_us = 0;
    weir_group_share(group);
}

/*  A server that is away is no reason to turn away a member: the group has its places,
   and new shards are looked for again while it fetches. Gives up the lock.            */
static weir_err look_for_shards(weir_groups *self, weir_group *group, weir_report *report)
{
    bool more;
    weir_report cause = {0};
    weir_err err = weir_group_refresh(self, group, &more, &cause);
    if (weir_store_is_away(err)) {
        weir_log(WEIR_WARN, "new shards are not known yet group=%s error=\"%s\"",
                 group->name, cause.text);
        return WEIR_OK;
    }
    return err ? weir_report_set(report, err, cause.where, "%s", cause.text) : WEIR_OK;
}

weir_err weir_groups_join(weir_groups *self, const char *group_name, const char *name,
                          const weir_group_config *config, weir_screen *screen,
                          int wake_fd, weir_member_of **member_p, weir_report *report)
{
    weir_err err = WEIR_OK;
    *member_p = NULL;
    pthread_mutex_lock(&self->changing);
    weir_groups_enter(self);
    weir_group *group = weir_groups_find(self, group_name);
    if (group)
        err = look_for_shards(self, group, report);
    else
        err = weir_group_make(self, group_name, config, &group, report);
    if (!err) {
        *member_p = member_new(name, screen, wake_fd);
        enroll(group, *member_p, config);
    }
    weir_groups_exit(self);
    pthread_mutex_unlock(&self->changing);
    weir_store *store = self->config.store;
    if (!err && wake_fd >= 0) store->class->watch(store, wake_fd);
    return err;
}

void weir_groups_leave(weir_groups *self, weir_member_of **member_p)
{
    weir_member_of *member = *member_p;
    weir_store *store = self->config.store;
    *member_p = NULL;
    if (!member) return;
    if (member->wake_fd >= 0) store->class->unwatch(store, member->wake_fd);
    pthread_mutex_lock(&self->changing);
    weir_groups_enter(self);
    weir_group *group = member->group;
    if (group) {
        weir_member_gone(member);
        weir_group_part_with(self, group, member);
        weir_member_of **at = &group->members;
        while (*at != member)
            at = &(*at)->next;
        *at = member->next;
        weir_group_rest(group);
    }
    weir_groups_exit(self);
    pthread_mutex_unlock(&self->changing);
    member_destroy(&member);
}

/* --- Answers ----------------------------------------------------------------------- */

static weir_err not_owner(const weir_groups *self, uint32_t shard, weir_position at,
                          weir_report *report)
{
    return weir_report_set(report, WEIR_EREFUSED, self->config.bus,
                           "not_owner: record %llu of shard %u went to another member, "
                           "or the position was set",
                           (unsigned long long)(at.b ? at.b : at.a), shard);
}

/*  The shard, when it is the member's.                                             */
static weir_group_shard *own_shard(weir_member_of *member, uint32_t id, int64_t now_us)
{
    if (!member->group) return NULL;
    member->busy = true;
    member->seen_us = now_us;
    weir_group_shard *shard = weir_group_find_shard(member->group, id);
    return shard && shard->owner == member ? shard : NULL;
}

/*  Room in the window, or a vnode that goes on.                                    */
static void wake_idle(weir_member_of *member)
{
    if (member->idle) weir_member_wake(member);
}

/*  Gives whether a commit that is not durable has moved.                           */
static weir_err take_ack(weir_groups *self, weir_member_of *member, uint32_t id,
                         weir_position at, bool up_to, bool *moved, weir_report *report)
{
    int64_t now_us = weir_clock_now_us();
    weir_group_shard *shard = own_shard(member, id, now_us);
    if (!shard || !weir_group_window_ack(shard->window, at, up_to))
        return not_owner(self, id, at, report);
    wake_idle(member);
    weir_group_changed(shard, now_us);
    weir_position commit = weir_group_window_look(shard->window)->commit;
    *moved = weir_position_order(commit, shard->stored) != 0;
    return WEIR_OK;
}

weir_err weir_groups_ack(weir_groups *self, weir_member_of *member, uint32_t id,
                         weir_position at, bool up_to, weir_report *report)
{
    bool moved = false;
    weir_groups_enter(self);
    weir_err err = take_ack(self, member, id, at, up_to, &moved, report);
    if (moved) err = weir_group_store(self, member->group, report);
    member->busy = false;
    weir_groups_exit(self);
    return err;
}

weir_err weir_groups_ack_soon(weir_groups *self, weir_member_of *member, uint32_t id,
                              weir_position at, bool up_to, weir_report *report)
{
    bool moved = false;
    weir_groups_enter(self);
    weir_err err = take_ack(self, member, id, at, up_to, &moved, report);
    member->busy = false;
    weir_groups_exit(self);
    return err;
}

/*  A delivery that has failed by time has been counted: the nack only says when it comes
    again.                                                                          */
static void give_back(weir_groups *self, weir_group_shard *shard,
                      weir_group_record *record, int64_t delay_us, const char *why)
{
    int64_t now_us = weir_clock_now_us();
    if (record->late)
        record->due_us = weir_group_due(self, shard, record, delay_us, now_us);
    else
        weir_group_failed(self, shard, record, delay_us, why ? why : "nacked", now_us);
    record->out = false;
}

static weir_err take_nack(weir_groups *self, weir_member_of *member, uint32_t id,
                          weir_position at, int64_t delay_us, const char *why,
                          weir_report *report)
{
    weir_group_shard *shard = own_shard(member, id, weir_clock_now_us());
    weir_group_record *record = shard ? weir_group_window_find(shard->window, at) : NULL;
    if (!record) return not_owner(self, id, at, report);
    wake_idle(member);
    give_back(self, shard, record, delay_us, why);
    return WEIR_OK;
}

weir_err weir_groups_nack(weir_groups *self, weir_member_of *member, uint32_t id,
                          weir_position at, int64_t delay_us, const char *why,
                          weir_report *report)
{
    weir_groups_enter(self);
    weir_err err = take_nack(self, member, id, at, delay_us, why, report);
    if (!err) err = weir_group_store(self, member->group, report);
    member->busy = false;
    weir_groups_exit(self);
    return err;
}

weir_err weir_groups_nack_soon(weir_groups *self, weir_member_of *member, uint32_t id,
                               weir_position at, int64_t delay_us, const char *why,
                               weir_report *report)
{
    weir_groups_enter(self);
    weir_err err = take_nack(self, member, id, at, delay_us, why, report);
    member->busy = false;
    weir_groups_exit(self);
    return err;
}

weir_err weir_groups_settle(weir_groups *self, weir_member_of *member,
                            weir_report *report)
{
    weir_err err = WEIR_OK;
    weir_groups_enter(self);
    member->busy = true;
    if (member->group) err = weir_group_store(self, member->group, report);
    member->busy = false;
    weir_groups_exit(self);
    return err;
}

int64_t weir_groups_tick(weir_groups *self, int64_t now_us)
{
    int64_t next_us = -1;
    pthread_mutex_lock(&self->changing); // no group goes while the lock is given up
    weir_groups_enter(self);
    for (weir_group *group = self->groups; group; group = group->next) {
        weir_group_turn(self, group, now_us);
        weir_group_store_due(self, group, now_us);
        weir_group_rest(group);
        next_us = weir_earlier(next_us, weir_earlier(group->next_us, group->dirty_us));
    }
    weir_groups_exit(self);
    pthread_mutex_unlock(&self->changing);
    return next_us;
}
