/*  Fences of the disk store that hold nobody up any more.                          */
#include <stdlib.h>
#include <string.h>
#include "actors/disk_store.h"

/*  So that a transaction stays short, however many there are.                      */
enum { looked_at_max = 64 };

/*  A fence as it is stored.                                                        */
typedef struct {
    uint8_t key[WEIR_DISK_KEY_SIZE], value[WEIR_DISK_KEY_SIZE];
} fence;

typedef struct {
    weir_disk_sweep *sweep;
    MDB_cursor *walk;            // over the fences
    MDB_cursor *fences, *blocks; // for looking
    fence *found;                // to be deleted; owned
    size_t count, room;
} sweeper;

/* --- Judging ----------------------------------------------------------------------- */

/*  The first of a shard's keys in a database. MDB_NOTFOUND: it has none there.      */
static int find_first(MDB_cursor *cursor, uint32_t shard, weir_disk_key *at,
                      MDB_val *value)
{
    weir_disk_packed packed;
    MDB_val key = *weir_disk_pack(&packed, shard, 0);
    int rc = mdb_cursor_get(cursor, &key, value, MDB_SET_RANGE);
    if (rc) return rc;
    if (!weir_disk_unpack(at, &key)) return MDB_CORRUPTED;
    return at->shard == shard ? 0 : MDB_NOTFOUND;
}

/*  No record is there at or before the offset. A block whose header is damaged counts as
    one that begins there.                                                          */
static int judge_records(const sweeper *self, weir_disk_key before, bool *gone)
{
    weir_disk_key at;
    weir_disk_head head;
    MDB_val value;
    int rc = find_first(self->blocks, before.shard, &at, &value);
    if (rc) {
        *gone = rc == MDB_NOTFOUND;
        return *gone ? 0 : rc;
    }
    *gone = !weir_disk_head_read(&head, at, value.mv_data, value.mv_size, NULL) &&
            head.first > before.last;
    return 0;
}

/*  Whether what is before the offset stands behind a fence of its own.             */
static bool is_behind(const sweeper *self, weir_disk_key before)
{
    weir_disk_key at;
    MDB_val value;
    int rc = find_first(self->fences, before.shard, &at, &value);
    return rc != MDB_NOTFOUND && (rc || at.last <= before.last);
}

/*  One that somebody waits for is looked at again.                                 */
static bool is_awaited(const sweeper *self, weir_disk_key before)
{
    weir_disk_sweep *sweep = self->sweep;
    bool is =
        sweep->is_awaited && sweep->is_awaited(sweep->arg, before.shard, before.last);
    sweep->changed = sweep->changed || is;
    return is;
}

static int judge(const sweeper *self, weir_disk_key before, bool *is_void)
{
    bool gone;
    int rc = judge_records(self, before, &gone);
    *is_void = !rc && gone && !is_behind(self, before) && !is_awaited(self, before);
    return rc;
}

/* --- Walking ----------------------------------------------------------------------- */

static void note(sweeper *self, const MDB_val *key, const MDB_val *value)
{
    if (self->count == self->room) {
        self->room = self->room ? 2 * self->room : 16;
        self->found = realloc(self->found, self->room * sizeof *self->found);
        if (!self->found) abort();
    }
    fence *one = &self->found[self->count++];
    memcpy(one->key, key->mv_data, sizeof one->key);
    memcpy(one->value, value->mv_data, sizeof one->value);
}

/*  What is no fence is left to those who read it.                                  */
static int look_at(sweeper *self, const MDB_val *key, const MDB_val *value)
{
    weir_disk_key from;
    bool is_void;
    if (!weir_disk_unpack(&from, value)) return 0;
    int rc = judge(self, from, &is_void);
    if (!rc && is_void) note(self, key, value);
    return rc;
}

/*  Goes on from `next`; all the fences of one place are looked at together.
    MDB_NOTFOUND: behind the last one.                                              */
static int walk(sweeper *self)
{
    weir_disk_key at, *next = &self->sweep->next;
    weir_disk_packed packed;
    MDB_val value, key = *weir_disk_pack(&packed, next->shard, next->last);
    int rc = mdb_cursor_get(self->walk, &key, &value, MDB_SET_RANGE);
    for (unsigned count = 0; !rc; count++) {
        if (weir_disk_unpack(&at, &key)) {
            bool same = at.shard == next->shard && at.last == next->last;
            *next = at;
            if (count >= looked_at_max && !same) return 0;
            rc = look_at(self, &key, &value);
        }
        if (!rc) rc = mdb_cursor_get(self->walk, &key, &value, MDB_NEXT);
    }
    return rc;
}

static int delete_found(const sweeper *self, MDB_txn *txn, MDB_dbi fences)
{
    int rc = 0;
    for (size_t i = 0; i < self->count && !rc; i++) {
        fence *one = &self->found[i];
        MDB_val key = {sizeof one->key, one->key},
                value = {sizeof one->value, one->value};
        rc = mdb_del(txn, fences, &key, &value);
    }
    return rc;
}

static int open_cursors(sweeper *self, const weir_disk_env *env, MDB_txn *txn)
{
    int rc = mdb_cursor_open(txn, env->fences, &self->walk);
    if (!rc) rc = mdb_cursor_open(txn, env->fences, &self->fences);
    if (!rc) rc = mdb_cursor_open(txn, env->blocks, &self->blocks);
    return rc;
}

static void close_cursors(sweeper *self)
{
    if (self->walk) mdb_cursor_close(self->walk);
    if (self->fences) mdb_cursor_close(self->fences);
    if (self->blocks) mdb_cursor_close(self->blocks);
}

/*  A round is clean when nothing has gone since it began. One whose transaction fails
    after all has only looked: what it found is found again, since blocks go again.  */
int weir_disk_sweep_fences(weir_disk_sweep *self, const weir_disk_env *env, MDB_txn *txn)
{
    sweeper is = {.sweep = self};
    if (weir_disk_sweep_is_over(self)) return 0;
    if (!self->next.shard && !self->next.last) self->changed = false;
    int rc = open_cursors(&is, env, txn);
    if (!rc) rc = walk(&is);
    close_cursors(&is);
    if (rc == MDB_NOTFOUND) {
        self->next = (weir_disk_key){0, 0};
        rc = 0;
    }
    if (!rc) rc = delete_found(&is, txn, env->fences);
    if (is.count) self->changed = true;
    free(is.found);
    return rc;
}
