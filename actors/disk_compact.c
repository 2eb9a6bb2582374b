#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "actors/disk_store.h"
#include "actors/lmdb_use.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/thread.h"

/*  The new environment is filled in short transactions, from the first block on: one long
    snapshot would keep every page that is freed meanwhile, and the map could not grow. */

static const uint64_t file_min_bytes = 16 << 20, chunk_bytes = 16 << 20;
enum { rounds_max = 16 };

/* --- Copying ----------------------------------------------------------------------- */

/*  Both sides of a chunk: a read transaction of the old one, a write transaction of the
    new one.                                                                        */
typedef struct {
    const weir_disk_env *old, *to;
    MDB_txn *from, *into;
    uint64_t bytes, most; // copied, to be copied at most
    weir_disk_way way;    // in the old one, of that shard
    uint32_t way_shard;
} chunk;

/*  The last offset of a shard in a database; 0: it has none there.                  */
static int find_last(MDB_cursor *cursor, uint32_t shard, uint64_t *last)
{
    weir_disk_key at = {shard, 0};
    MDB_val value;
    int rc = weir_disk_seek_last(cursor, shard, &at, &value);
    *last = rc ? 0 : at.last;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/*  Steps to the first block at or behind the key.                                  */
static int seek(MDB_cursor *cursor, weir_disk_key *at, MDB_val *value)
{
    weir_disk_packed packed;
    MDB_val key = *weir_disk_pack(&packed, at->shard, at->last);
    int rc = mdb_cursor_get(cursor, &key, value, MDB_SET_RANGE);
    if (rc) return rc;
    return weir_disk_unpack(at, &key) ? 0 : MDB_CORRUPTED;
}

/*  The same in the old one, whose pages are checked before.                         */
static int seek_old(chunk *self, MDB_cursor *cursor, weir_disk_key *at, MDB_val *value)
{
    if (self->way_shard != at->shard) self->way = (weir_disk_way){0};
    self->way_shard = at->shard;
    int rc = weir_disk_check_way(self->from, &self->way, *at, WEIR_DISK_READS);
    return rc ? rc : seek(cursor, at, value);
}

/*  Deletes what the old one has trimmed: all before its first block of that shard.  */
static int drop_trimmed(MDB_cursor *to, uint32_t shard, uint64_t before)
{
    weir_disk_key at = {shard, 0};
    MDB_val value;
    int rc;
    while (!(rc = seek(to, &at, &value)) && at.shard == shard && at.last < before) {
        rc = mdb_cursor_del(to, 0);
        if (rc) return rc;
        at.last = 0;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/*  What the new one lacks of a shard, from its last block on. *next is the first block
    that did not fit, or the first one of another shard.                            */
static int copy_shard(chunk *self, MDB_cursor *from, MDB_cursor *to, weir_disk_key *next)
{
    weir_disk_key at = {next->shard, 0};
    weir_disk_packed packed;
    uint64_t last;
    MDB_val value;
    int rc = find_last(to, at.shard, &last);
    if (!rc && last) {
        rc = drop_trimmed(to, at.shard, next->last);
        at.last = last + 1;
    }
    while (!rc && !(rc = seek_old(self, from, &at, &value)) && at.shard == next->shard &&
           self->bytes < self->most) {
        rc = mdb_put(self->into, self->to->blocks,
                     weir_disk_pack(&packed, at.shard, at.last), &value, 0);
        self->bytes += value.mv_size;
        at.last++;
    }
    *next = at;
    return rc;
}

/*  Copies from the shard of *next on; MDB_NOTFOUND: behind the last one.            */
static int copy_blocks(chunk *self, weir_disk_key *next)
{
    MDB_cursor *from, *to = NULL;
    MDB_val value;
    int rc = mdb_cursor_open(self->from, self->old->blocks, &from);
    if (rc) return rc;
    rc = mdb_cursor_open(self->into, self->to->blocks, &to);
    while (!rc && self->bytes < self->most) {
        weir_disk_key first = {next->shard, 0};
        rc = seek_old(self, from, &first, &value);
        if (rc) break;
        *next = first;
        rc = copy_shard(self, from, to, next);
    }
    if (to) mdb_cursor_close(to);
    mdb_cursor_close(from);
    return rc;
}

/*  Shards that the old one has trimmed altogether.                                 */
static int drop_gone(chunk *self)
{
    MDB_cursor *from, *to = NULL;
    MDB_val value;
    weir_disk_key at = {0, 0};
    int rc = mdb_cursor_open(self->from, self->old->blocks, &from);
    if (rc) return rc;
    rc = mdb_cursor_open(self->into, self->to->blocks, &to);
    while (!rc && !(rc = seek(to, &at, &value))) {
        weir_disk_key old = {at.shard, 0};
        int found = seek_old(self, from, &old, &value);
        if (found && found != MDB_NOTFOUND) rc = found;
        if (!rc && (found || old.shard != at.shard))
            rc = drop_trimmed(to, at.shard, UINT64_MAX);
        if (at.shard == UINT32_MAX) break;
        at = (weir_disk_key){at.shard + 1, 0};
    }
    if (to) mdb_cursor_close(to);
    mdb_cursor_close(from);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int copy_database(chunk *self, MDB_dbi from_dbi, MDB_dbi to_dbi)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_drop(self->into, to_dbi, 0);
    if (!rc) rc = mdb_cursor_open(self->from, from_dbi, &cursor);
    if (rc) return rc;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc) {
        rc = mdb_put(self->into, to_dbi, &key, &value, 0);
        if (!rc) rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* --- Chunks ------------------------------------------------------------------------ */

static int chunk_begin(chunk *self, weir_disk *store, uint64_t most)
{
    *self = (chunk){.old = &store->env, .to = &store->compact.to, .most = most};
    int rc = mdb_txn_begin(self->old->env, NULL, MDB_RDONLY, &self->from);
    if (rc) return rc;
    rc = mdb_txn_begin(self->to->env, NULL, 0, &self->into);
    if (rc) mdb_txn_abort(self->from);
    return rc;
}

static int chunk_end(chunk *self, int rc)
{
    mdb_txn_abort(self->from);
    if (!rc) return mdb_txn_commit(self->into);
    mdb_txn_abort(self->into);
    return rc;
}

/*  The new one has the size of the old one's map, so it always fits.                */
static int copy_chunk(weir_disk *self, weir_disk_key *next, uint64_t *bytes, bool *done)
{
    chunk is;
    pthread_rwlock_rdlock(&self->env_lock);
    int rc = chunk_begin(&is, self, chunk_bytes);
    if (!rc) {
        rc = copy_blocks(&is, next);
        *done = rc == MDB_NOTFOUND;
        rc = chunk_end(&is, *done ? 0 : rc);
        *bytes += is.bytes;
    }
    pthread_rwlock_unlock(&self->env_lock);
    return rc;
}

static int copy_round(weir_disk *self, uint64_t *bytes)
{
    weir_disk_key next = {0, 0};
    bool done = false;
    int rc = 0;
    *bytes = 0;
    while (!rc && !done && !atomic_load(&self->compact.stop))
        rc = copy_chunk(self, &next, bytes, &done);
    return rc;
}

static int copy_rounds(weir_disk *self)
{
    uint64_t bytes = UINT64_MAX;
    int rc = 0;
    for (int i = 0; i < rounds_max && !rc && !atomic_load(&self->compact.stop); i++) {
        rc = copy_round(self, &bytes);
        if (self->copied) self->copied();
        if (!rc && bytes < (uint64_t)self->config.commit_bytes) return 0;
    }
    return rc ? rc : EBUSY;
}

static void log_failure(const weir_disk *self, int rc)
{
    weir_log(WEIR_WARN, "bus store not compacted path=%s error=\"%s\"", self->path,
             mdb_strerror(rc));
}

static void *run(void *arg)
{
    weir_disk *self = arg;
    weir_lmdb_enter(self->env.folder);
    int rc = copy_rounds(self);
    weir_lmdb_leave();
    if (rc) log_failure(self, rc);
    atomic_store(&self->compact.state, rc ? WEIR_COMPACT_FAILED : WEIR_COMPACT_READY);
    weir_disk_wake(self);
    return NULL;
}

/* --- The flusher's part ------------------------------------------------------------ */

static void give_up(weir_disk *self, int rc)
{
    if (rc) log_failure(self, rc);
    weir_disk_env_close(&self->compact.to);
    weir_disk_env_remove(self->compact.to.folder);
}

static bool is_worth_it(const weir_disk *self)
{
    uint64_t free_bytes = self->stats.free_bytes;
    uint64_t file = self->stats.used_bytes + free_bytes;
    return file > file_min_bytes && file > self->compact.after_bytes &&
           (double)free_bytes / (double)file > self->config.compact_at;
}

static void begin(weir_disk *self)
{
    weir_disk_compact *compact = &self->compact;
    MDB_envinfo info;
    mdb_env_info(self->env.env, &info);
    compact->after_bytes = self->stats.used_bytes + self->stats.free_bytes;
    compact->after_bytes += compact->after_bytes / 4;
    atomic_store(&compact->stop, false);
    int rc =
        weir_disk_env_make(&compact->to, self->path, weir_disk_number(&self->env) + 1,
                           (int64_t)info.me_mapsize);
    if (rc) {
        log_failure(self, rc);
        return;
    }
    atomic_store(&compact->state, WEIR_COMPACT_COPYING);
    if (!weir_thread_start(&compact->thread, run, self)) return;
    atomic_store(&compact->state, WEIR_COMPACT_IDLE);
    give_up(self, 0);
}

/*  Nobody writes meanwhile: what the new one lacks, and all but the blocks anew.     */
static int last_round(weir_disk *self)
{
    weir_disk_compact *compact = &self->compact;
    weir_disk_key next = {0, 0};
    chunk is;
    int rc = chunk_begin(&is, self, UINT64_MAX);
    if (rc) return rc;
    rc = copy_blocks(&is, &next);
    if (rc == MDB_NOTFOUND) rc = 0;
    if (!rc) rc = drop_gone(&is);
    if (!rc) rc = copy_database(&is, self->env.gaps, compact->to.gaps);
    if (!rc) rc = copy_database(&is, self->env.fences, compact->to.fences);
    if (!rc) rc = copy_database(&is, self->env.meta, compact->to.meta);
    return chunk_end(&is, rc);
}

static void change_over(weir_disk *self)
{
    weir_disk_env old = self->env;
    pthread_rwlock_wrlock(&self->env_lock);
    self->env = self->compact.to;
    weir_disk_env_close(&old);
    pthread_rwlock_unlock(&self->env_lock);
    self->compact.to.env = NULL;
    self->file_bytes = 0;
    self->compact.after_bytes = 0;
    weir_disk_env_remove(old.folder);
    pthread_mutex_lock(&self->mutex);
    self->stats.compactions++;
    pthread_mutex_unlock(&self->mutex);
}

/*  A CURRENT that is renamed in but perhaps not on disk: after a power cut either one may
    be the store, so neither may get new records.                                   */
static void give_up_current(weir_disk *self, int rc)
{
    char folder[WEIR_DISK_FOLDER_MAX];
    if (!weir_disk_current(folder, self->path, NULL) &&
        !strcmp(folder, self->env.folder)) {
        give_up(self, rc);
        return;
    }
    weir_disk_env_close(&self->compact.to);
    weir_disk_fail(self, "cannot make CURRENT durable");
}

static void finish(weir_disk *self)
{
    weir_lmdb_enter(self->env.folder);
    int rc = last_round(self);
    weir_lmdb_leave();
    if (rc) {
        give_up(self, rc);
        return;
    }
    rc = weir_disk_set_current(self->path, weir_disk_number(&self->compact.to));
    if (rc) {
        give_up_current(self, rc);
        return;
    }
    change_over(self);
    weir_disk_count(self);
}

void weir_disk_compact_step(weir_disk *self)
{
    weir_disk_compact *compact = &self->compact;
    int state = atomic_load(&compact->state);
    if (state == WEIR_COMPACT_COPYING) return;
    if (state == WEIR_COMPACT_IDLE) {
        if (is_worth_it(self)) begin(self);
        return;
    }
    pthread_join(compact->thread, NULL);
    atomic_store(&compact->state, WEIR_COMPACT_IDLE);
    if (state == WEIR_COMPACT_READY) {
        finish(self);
    } else {
        give_up(self, 0);
    }
}

void weir_disk_compact_stop(weir_disk *self)
{
    weir_disk_compact *compact = &self->compact;
    if (atomic_load(&compact->state) == WEIR_COMPACT_IDLE) return;
    atomic_store(&compact->stop, true);
    pthread_join(compact->thread, NULL);
    atomic_store(&compact->state, WEIR_COMPACT_IDLE);
    give_up(self, 0);
}
