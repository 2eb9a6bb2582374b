#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/disk_store.h"
#include "runtime/clock.h"
#include "runtime/log.h"

/* --- Groups ------------------------------------------------------------------------ */

/*  The index of the shard's commit, or where it would be.                          */
static size_t place_of(const weir_disk_group *self, uint32_t shard)
{
    size_t low = 0, high = self->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->commits[middle].shard < shard)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_commit(const weir_disk_group *self, size_t at, uint32_t shard)
{
    return at < self->count && self->commits[at].shard == shard;
}

static uint64_t committed(const weir_disk_group *self, uint32_t shard)
{
    size_t at = place_of(self, shard);
    return has_commit(self, at, shard) ? self->commits[at].offset : 0;
}

/*  Up to which offset all groups are done; the group that is least far, NULL: no group
    is asked. The name lives as long as the mutex is held.                          */
static const char *find_lowest(const weir_disk *self, uint32_t shard, uint64_t *offset)
{
    const char *name = NULL;
    *offset = UINT64_MAX;
    if (!self->config.hold) return NULL;
    for (size_t i = 0; i < self->group_count; i++) {
        uint64_t done = committed(&self->groups[i], shard);
        if (done >= *offset) continue;
        *offset = done;
        name = self->groups[i].name;
    }
    return name;
}

static bool is_needed(weir_disk *self, const weir_disk_row *row)
{
    uint64_t offset;
    pthread_mutex_lock(&self->mutex);
    find_lowest(self, row->id, &offset);
    pthread_mutex_unlock(&self->mutex);
    return row->oldest_end > offset;
}

/*  A new one holds all that there is.                                              */
static weir_disk_group *group_of(weir_disk *self, const char *name, bool *new)
{
    *new = false;
    for (size_t i = 0; i < self->group_count; i++)
        if (!strcmp(self->groups[i].name, name)) return &self->groups[i];
    *new = true;
    self->groups = realloc(self->groups, (self->group_count + 1) * sizeof *self->groups);
    char *copy = strdup(name);
    if (!self->groups || !copy) abort();
    self->groups[self->group_count] = (weir_disk_group){.name = copy};
    return &self->groups[self->group_count++];
}

static void set_commit(weir_disk_group *self, uint32_t shard, uint64_t offset)
{
    size_t at = place_of(self, shard);
    if (has_commit(self, at, shard)) {
        self->commits[at].offset = offset;
        return;
    }
    self->commits = realloc(self->commits, (self->count + 1) * sizeof *self->commits);
    if (!self->commits) abort();
    memmove(self->commits + at + 1, self->commits + at,
            (self->count - at) * sizeof *self->commits);
    self->commits[at] = (weir_disk_commit){shard, offset};
    self->count++;
}

/*  A transaction that is under way may have decided before. Under the mutex.       */
static void wait_for_transaction(weir_disk *self)
{
    uint64_t ended = self->transactions;
    while (self->transacting && self->transactions == ended)
        pthread_cond_wait(&self->answered, &self->mutex);
}

static void group_fini(weir_disk_group *self)
{
    free(self->name);
    free(self->commits);
}

/*  The flusher looks at every commit only where something waits for it.             */
void weir_disk_group_commit(weir_store *store, const char *group, uint32_t shard,
                            uint64_t offset)
{
    weir_disk *self = (weir_disk *)store;
    bool new;
    pthread_mutex_lock(&self->mutex);
    weir_disk_group *one = group_of(self, group, &new);
    bool holds_more = new || offset < committed(one, shard);
    set_commit(one, shard, offset);
    one->seen_us = weir_clock_now_us();
    bool wake = self->holding;
    if (holds_more && self->config.hold) wait_for_transaction(self);
    pthread_mutex_unlock(&self->mutex);
    if (wake) weir_disk_wake(self);
}

void weir_disk_group_forget(weir_store *store, const char *group)
{
    weir_disk *self = (weir_disk *)store;
    pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->group_count; i++) {
        if (strcmp(self->groups[i].name, group)) continue;
        group_fini(&self->groups[i]);
        self->groups[i] = self->groups[--self->group_count];
        break;
    }
    pthread_mutex_unlock(&self->mutex);
    weir_disk_wake(self);
}

void weir_disk_groups_fini(weir_disk *self)
{
    for (size_t i = 0; i < self->group_count; i++)
        group_fini(&self->groups[i]);
    free(self->groups);
}

/* --- Bounds ------------------------------------------------------------------------ */

static bool is_over(const weir_disk *self, const weir_disk_row *row)
{
    return weir_disk_row_drops(row, &self->keep, weir_clock_wall_ms());
}

bool weir_disk_keep_due(weir_disk *self, const weir_disk_shard *shard)
{
    const weir_disk_row *row = &shard->next.row;
    return row->oldest_end <= shard->now.row.has.last && is_over(self, row) &&
           !is_needed(self, row);
}

int weir_disk_keep_shard(weir_disk *self, MDB_txn *txn, weir_disk_shard *shard,
                         uint32_t *budget)
{
    while (weir_disk_keep_due(self, shard)) {
        if (!*budget) {
            self->again = true;
            return 0;
        }
        int rc = weir_disk_drop_oldest(&self->env, txn, &shard->next.row);
        if (rc) return rc;
        self->sweep.changed = true;
        --*budget;
    }
    return 0;
}

bool weir_disk_is_held(weir_disk *self, const weir_disk_row *row)
{
    return row->has.bytes >= (uint64_t)self->keep.bytes && row->oldest_end &&
           is_needed(self, row);
}

/*  What is trimmed and a group had read before may be under way in it. One that has been
    silent for as long as the longest timeouts is not at work.                      */
static uint64_t first_awaited(weir_disk *self, uint32_t shard)
{
    static const int64_t silent_us = 3600000000;
    int64_t since_us = weir_clock_now_us() - silent_us;
    uint64_t first = UINT64_MAX;
    pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->group_count; i++) {
        uint64_t done = committed(&self->groups[i], shard);
        if (self->groups[i].seen_us > since_us && done < first) first = done + 1;
    }
    pthread_mutex_unlock(&self->mutex);
    return first;
}

uint64_t weir_disk_first_of(void *arg, uint32_t shard)
{
    weir_disk *self = arg;
    const weir_disk_row *row = &weir_disk_shard_of(self, shard)->next.row;
    uint64_t first = row->oldest_end ? row->oldest_first : UINT64_MAX;
    uint64_t awaited = first_awaited(self, shard);
    if (awaited > row->has.last || awaited >= first) return first;
    self->sweep.changed = true; // the group will go on
    return awaited;
}

static const weir_disk_row *find_row(const weir_disk *self, uint32_t shard)
{
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->now.row.id == shard) return &self->shards[i]->now.row;
    return NULL;
}

bool weir_disk_hold(weir_store *store, uint32_t shard, weir_store_hold *hold)
{
    weir_disk *self = (weir_disk *)store;
    uint64_t offset = UINT64_MAX;
    pthread_mutex_lock(&self->mutex);
    const weir_disk_row *row = find_row(self, shard);
    const char *name = row ? find_lowest(self, shard, &offset) : NULL;
    bool held =
        name && row->has.bytes >= (uint64_t)self->keep.bytes && row->oldest_end > offset;
    if (held) {
        snprintf(hold->group, sizeof hold->group, "%s", name);
        hold->lag = row->has.last > offset ? row->has.last - offset : 0;
    }
    pthread_mutex_unlock(&self->mutex);
    return held;
}

/*  A full store is held again after each commit of its slowest group: that is told every
    ten seconds at most.                                                            */
static void note_holder(weir_disk *self, const weir_disk_row *row)
{
    static const int64_t pause_us = 10000000;
    uint64_t offset;
    int64_t now_us = weir_clock_now_us();
    const char *name = find_lowest(self, row->id, &offset);
    if (!name) return;
    snprintf(self->stats.held_by, sizeof self->stats.held_by, "%s", name);
    if (self->held_told_us && now_us - self->held_told_us < pause_us) return;
    self->held_told_us = now_us;
    weir_log(WEIR_WARN,
             "bus store held by a group group=%s shard=%u committed=%llu "
             "lag=%llu",
             name, row->id, (unsigned long long)offset,
             (unsigned long long)(row->has.last - offset));
}

void weir_disk_keep_judge(weir_disk *self)
{
    const weir_disk_row *held = NULL;
    bool holding = false;
    for (size_t i = 0; i < self->shard_count; i++) {
        weir_disk_shard *shard = self->shards[i];
        shard->now.held = shard->now.held && weir_disk_is_held(self, &shard->now.row);
        if (shard->now.held && !held) held = &shard->now.row;
        holding = holding || shard->now.held || is_over(self, &shard->now.row);
    }
    pthread_mutex_lock(&self->mutex);
    self->holding = holding;
    if (held)
        note_holder(self, held);
    else
        self->stats.held_by[0] = '\0';
    pthread_mutex_unlock(&self->mutex);
}

int64_t weir_disk_keep_deadline(weir_disk *self)
{
    int64_t first_ms = INT64_MAX;
    if (self->keep.age_us == WEIR_FOREVER) return -1;
    for (size_t i = 0; i < self->shard_count; i++) {
        const weir_disk_row *row = &self->shards[i]->now.row;
        if (row->oldest_end && row->oldest_ms < first_ms && !is_needed(self, row))
            first_ms = row->oldest_ms;
    }
    if (first_ms == INT64_MAX) return -1;
    int64_t wait_ms = first_ms + self->keep.age_us / 1000 + 1 - weir_clock_wall_ms();
    return weir_clock_now_us() + (wait_ms > 0 ? wait_ms * 1000 : 0);
}
