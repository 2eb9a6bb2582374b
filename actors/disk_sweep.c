/*  Fences of the disk store that hold nobody up any more.                           */
#include <stdlib.h>
#include <string.h>
#include "actors/disk_store.h"

/*  So that a transaction stays short, however many there are.                      */
enum { deleted_max = 64 };

/* --- Finding ----------------------------------------------------------------------- */

/*  A shard, and from which offset on it holds up who waits for it: one of its own records
    that is there, or one behind a fence that holds it up itself.                   */
typedef struct {
    uint32_t id;
    uint64_t holds_from;
} holder;

typedef struct {
    weir_fence *fences; // by shard that is waited for and offset up to which
    bool *stands;       // of each
    size_t fence_count;
    holder *holders; // by id
    size_t holder_count;
    size_t *todo; // a stack of holders
    size_t todo_count, todo_room;
} search;

static void *allocate(size_t count, size_t size)
{
    void *items = calloc(count + 1, size);
    if (!items) abort();
    return items;
}

static int by_from(const void *a, const void *b)
{
    const weir_fence *x = a, *y = b;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return (x->last.a > y->last.a) - (x->last.a < y->last.a);
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const holder *)a)->id, y = ((const holder *)b)->id;
    return (x > y) - (x < y);
}

static void search_init(search *self, weir_fence *fences, size_t count,
                        const weir_disk_sweep *sweep)
{
    *self = (search){.fences = fences, .fence_count = count};
    self->stands = allocate(count, sizeof *self->stands);
    self->holders = allocate(count, sizeof *self->holders);
    qsort(fences, count, sizeof *fences, by_from);
    for (size_t i = 0; i < count; i++) {
        uint32_t id = fences[i].from;
        if (i && fences[i - 1].from == id) continue;
        self->holders[self->holder_count++] =
            (holder){id, sweep->first_of(sweep->arg, id)};
    }
}

static void search_fini(search *self)
{
    free(self->fences);
    free(self->stands);
    free(self->holders);
    free(self->todo);
}

static void look_at(search *self, size_t at)
{
    if (self->todo_count == self->todo_room) {
        self->todo_room = self->todo_room ? 2 * self->todo_room : 64;
        self->todo = realloc(self->todo, self->todo_room * sizeof *self->todo);
        if (!self->todo) abort();
    }
    self->todo[self->todo_count++] = at;
}

/*  The first of the fences that wait for this shard, or for a later one.           */
static size_t fences_of(const search *self, uint32_t from)
{
    size_t low = 0, high = self->fence_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->fences[middle].from < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/*  Who stands behind a fence holds up, from there on, who waits for it.             */
static void hold_behind(search *self, const weir_fence *fence)
{
    if (!self->holder_count) return;
    holder *to = bsearch(&(holder){.id = fence->to}, self->holders, self->holder_count,
                         sizeof *to, by_id);
    if (!to || fence->first.a >= to->holds_from) return;
    to->holds_from = fence->first.a;
    look_at(self, (size_t)(to - self->holders));
}

static void find_standing(search *self, const holder *from)
{
    for (size_t i = fences_of(self, from->id);
         i < self->fence_count && self->fences[i].from == from->id; i++) {
        if (self->stands[i] || self->fences[i].last.a < from->holds_from) continue;
        self->stands[i] = true;
        hold_behind(self, &self->fences[i]);
    }
}

static void find_all_standing(search *self)
{
    for (size_t i = 0; i < self->holder_count; i++)
        look_at(self, i);
    while (self->todo_count)
        find_standing(self, &self->holders[self->todo[--self->todo_count]]);
}

/*  Fences that cannot be read are left to those who read them.                      */
static int find_void(weir_disk_sweep *self, const weir_disk_env *env, MDB_txn *txn)
{
    search is;
    weir_fence *fences = NULL;
    size_t count = 0;
    uint64_t sum;
    int rc = weir_disk_read_fences(env, txn, &fences, &count, &sum);
    if (rc || !count) {
        free(fences);
        return rc == MDB_CORRUPTED ? 0 : rc;
    }
    search_init(&is, fences, count, self);
    find_all_standing(&is);
    free(self->found);
    self->found = allocate(count, sizeof *self->found);
    for (size_t i = 0; i < count; i++)
        if (!is.stands[i]) self->found[self->count++] = fences[i];
    self->pause = count / deleted_max;
    search_fini(&is);
    return 0;
}

/* --- Deleting ---------------------------------------------------------------------- */

/*  In no order: what one waited for that is void is void, too.                      */
static int delete_some(weir_disk_sweep *self, const weir_disk_env *env, MDB_txn *txn,
                       uint64_t *sum)
{
    weir_disk_packed to, from;
    int rc = 0;
    for (int i = 0; i < deleted_max && self->count && !rc; i++) {
        const weir_fence *fence = &self->found[--self->count];
        weir_disk_pack(&to, fence->to, fence->first.a);
        weir_disk_pack(&from, fence->from, fence->last.a);
        rc = mdb_del(txn, env->fences, &to.val, &from.val);
        if (!rc) *sum -= weir_disk_fence_sum(to.bytes, from.bytes);
        if (rc == MDB_NOTFOUND) rc = 0;
    }
    return rc;
}

/*  What is found is void for ever. What a transaction deletes that fails after all is
    found when it is looked for again, which `changed` sees to.                      */
int weir_disk_sweep_fences(weir_disk_sweep *self, const weir_disk_env *env, MDB_txn *txn,
                           uint64_t *sum)
{
    int rc = 0;
    if (!self->count) {
        if (!self->changed) return 0;
        if (self->pause) {
            self->pause--;
            return 0;
        }
        self->changed = false;
        rc = find_void(self, env, txn);
    }
    if (self->count) self->changed = true;
    return rc ? rc : delete_some(self, env, txn, sum);
}

void weir_disk_sweep_fini(weir_disk_sweep *self)
{
    free(self->found);
}
