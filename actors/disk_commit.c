#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "actors/disk_store.h"
#include "actors/lmdb_use.h"
#include "runtime/clock.h"
#include "runtime/log.h"

enum { drops_max = 1024, looked_back_max = 4096 };

/*  What an LMDB value may have.                                                    */
static const uint64_t body_max = UINT32_MAX - WEIR_DISK_HEAD_SIZE;
static const uint64_t ahead_min = 1 << 20, ahead_max = 64 << 20;

/* --- One batch --------------------------------------------------------------------- */

/*  The records of a batch that become a block.                                     */
typedef struct {
    uint32_t first, count; // of its records
    size_t from, to;       // bytes of its bodies
    bool refused;          // the one behind them
} range;

/*  Record by record, for a batch of which a part is there already, or is refused.   */
static range measure_slowly(const weir_disk *self, const weir_batch *batch, uint32_t skip)
{
    weir_batch_walk walk = {.batch = batch};
    weir_record record;
    range is = {.first = skip};
    for (uint32_t i = 0; weir_batch_next(&walk, &record); i++) {
        if (i < skip) {
            is.from = is.to += record.encoded_size;
            continue;
        }
        is.refused = is.to + record.encoded_size - is.from > body_max ||
                     (self->refuses && self->refuses(&record));
        if (is.refused) break;
        is.to += record.encoded_size;
        is.count++;
    }
    return is;
}

static range measure(const weir_disk *self, const weir_batch *batch, uint32_t skip)
{
    if (skip || self->refuses || batch->bytes > body_max)
        return measure_slowly(self, batch, skip);
    return (range){.count = batch->records, .to = batch->bytes};
}

static void copy_body(const weir_batch *batch, range is, weir_disk_sum *sum, uint8_t *out)
{
    size_t at = 0;
    for (uint32_t i = 0; i < batch->piece_count && at < is.to; i++) {
        const weir_block *block = batch->pieces[i].block;
        size_t end = at + weir_block_size(block);
        size_t from = at > is.from ? at : is.from, to = end < is.to ? end : is.to;
        if (from < to) {
            memcpy(out, weir_block_body(block) + (from - at), to - from);
            weir_disk_head_body(sum, out, to - from);
            out += to - from;
        }
        at = end;
    }
}

/*  Behind a block of its shard the pages were checked by the start, or written by us.  */
static int check_place(MDB_txn *txn, weir_disk_row *row)
{
    weir_disk_key behind = {row->id, UINT64_MAX};
    if (row->oldest_end) return 0;
    return weir_disk_check_way(txn, &row->way, behind, WEIR_DISK_WRITES);
}

/*  The body is copied once, into the page that is written.                          */
static int put_block(weir_disk *self, MDB_txn *txn, const weir_batch *batch, range is,
                     weir_disk_row *row)
{
    weir_disk_packed packed;
    weir_disk_head head = {
        .count = is.count,
        .first = row->has.last + 1,
        .epoch = batch->epoch,
        .sequence = batch->first + is.first,
        .arrived_ms = batch->arrived_ms > 0 ? batch->arrived_ms : 0,
        .body_bytes = is.to - is.from,
    };
    uint64_t last = row->has.last + is.count;
    MDB_val value = {.mv_size = WEIR_DISK_HEAD_SIZE + head.body_bytes};
    int rc = check_place(txn, row);
    if (!rc)
        rc = mdb_put(txn, self->env.blocks, weir_disk_pack(&packed, row->id, last),
                     &value, MDB_RESERVE | MDB_NOOVERWRITE);
    if (rc) return rc == MDB_KEYEXIST ? MDB_CORRUPTED : rc;
    weir_disk_head_begin(&head, self->sum, value.mv_data);
    copy_body(batch, is, self->sum, (uint8_t *)value.mv_data + WEIR_DISK_HEAD_SIZE);
    weir_disk_head_end(self->sum, value.mv_data);
    if (!row->oldest_end) {
        row->oldest_first = head.first;
        row->oldest_end = last;
        row->oldest_bytes = head.body_bytes;
        row->oldest_ms = head.arrived_ms;
    }
    row->has.last = last;
    row->has.bytes += head.body_bytes;
    row->newest_ms = head.arrived_ms;
    row->epoch = head.epoch;
    row->sequence = head.sequence + is.count - 1;
    return 0;
}

static int put_fences(weir_disk *self, MDB_txn *txn, weir_disk_node *node)
{
    const weir_batch *batch = node->batch;
    for (uint32_t i = 0; i < batch->fence_count; i++) {
        const weir_fence *fence = &batch->fences[i];
        weir_disk_packed to, from;
        weir_disk_pack(&to, fence->to, node->fence_offset);
        weir_disk_pack(&from, fence->from, fence->last.a);
        int rc = mdb_put(txn, self->env.fences, &to.val, &from.val, MDB_NODUPDATA);
        if (!rc) self->next_fence_sum += weir_disk_fence_sum(to.bytes, from.bytes);
        if (rc && rc != MDB_KEYEXIST) return rc;
    }
    return 0;
}

/* --- Before it --------------------------------------------------------------------- */

static void set_answer(weir_disk_node *node, weir_store_result result, const char *text)
{
    node->result = result;
    snprintf(node->text, sizeof node->text, "%s", text);
}

/*  Whether it must wait for one before it that is not stored. What comes again opens the
    way, also when it is behind something that its shard gave up.                   */
static bool is_blocked(weir_disk_barrier *barrier, const weir_disk_node *node)
{
    const weir_batch *batch = node->batch;
    if (barrier->on && !node->again && batch->epoch == barrier->epoch &&
        batch->first > barrier->sequence)
        return true;
    barrier->on = false;
    return false;
}

/*  How many of its records are stored already: all of them, when it was answered too late
    and comes again.                                                                */
static uint32_t count_stored(const weir_disk_row *row, const weir_batch *batch)
{
    if (batch->epoch != row->epoch || batch->first > row->sequence) return 0;
    uint64_t stored = row->sequence - batch->first + 1;
    return stored < batch->records ? (uint32_t)stored : batch->records;
}

/*  The offset of a record that is stored; 0: it is too far back.                    */
static uint64_t find_offset(const weir_disk *self, MDB_txn *txn, const weir_disk_row *row,
                            uint64_t sequence)
{
    weir_disk_packed packed;
    weir_disk_key at;
    weir_disk_head head;
    weir_disk_way way = {0};
    MDB_cursor *cursor;
    MDB_val value, key = *weir_disk_pack(&packed, row->id, row->has.last);
    uint64_t offset = 0;
    if (sequence == row->sequence) return row->has.last;
    if (mdb_cursor_open(txn, self->env.blocks, &cursor)) return 0;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET);
    for (int i = 0; !rc && !offset && i < looked_back_max; i++) {
        if (!weir_disk_unpack(&at, &key) || at.shard != row->id ||
            weir_disk_check_way(txn, &way, at, WEIR_DISK_WRITES) ||
            weir_disk_head_read(&head, at, value.mv_data, value.mv_size, NULL) ||
            head.epoch != row->epoch)
            break;
        if (sequence >= head.sequence && sequence < head.sequence + head.count)
            offset = head.first + (sequence - head.sequence);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    }
    mdb_cursor_close(cursor);
    return offset;
}

/*  What comes in after this one waits until the refused record has been given up.   */
static void refuse(weir_disk_node *node, range is, weir_disk_barrier *barrier)
{
    const weir_batch *batch = node->batch;
    set_answer(node, WEIR_STORE_REFUSED, "the record is larger than the store can take");
    node->refused = is.first + is.count;
    *barrier = (weir_disk_barrier){true, batch->epoch, batch->first + node->refused};
}

/*  The part that is not stored yet.                                                */
static int put_rest(weir_disk *self, MDB_txn *txn, weir_disk_node *node,
                    weir_disk_state *state, uint32_t stored)
{
    const weir_batch *batch = node->batch;
    range is = measure(self, batch, stored);
    node->fence_offset = state->row.has.last + 1 - stored;
    int rc = is.count ? put_block(self, txn, batch, is, &state->row) : 0;
    if (!rc) rc = put_fences(self, txn, node);
    if (rc) return rc;
    if (is.first + is.count) node->last_offset = state->row.has.last;
    if (is.refused) refuse(node, is, &state->barrier);
    return 0;
}

/*  Bounds come first: a full shard whose oldest block is held takes nothing.        */
static int make_room(weir_disk *self, MDB_txn *txn, weir_disk_node *node,
                     weir_disk_shard *shard, uint32_t *budget)
{
    int rc = weir_disk_keep_shard(self, txn, shard, budget);
    shard->next.held = shard->next.held || weir_disk_is_held(self, &shard->next.row);
    node->back = shard->next.held || weir_disk_keep_due(self, shard);
    atomic_store(&node->batch->held, shard->next.held);
    return rc;
}

static int put_node(weir_disk *self, MDB_txn *txn, weir_disk_node *node, uint32_t *budget)
{
    const weir_batch *batch = node->batch;
    weir_disk_shard *shard = weir_disk_shard_of(self, batch->shard);
    weir_disk_state *state = &shard->next;
    assert(batch->epoch && (batch->first || !batch->records));
    node->blocked = is_blocked(&state->barrier, node);
    if (node->blocked) {
        set_answer(node, WEIR_STORE_RETRY, "a batch before it is not stored yet");
        return 0;
    }
    if (batch->epoch < state->row.epoch) {
        set_answer(node, WEIR_STORE_FATAL, "other_writer: a later epoch is stored");
        return 0;
    }
    uint32_t stored = batch->records ? count_stored(&state->row, batch) : 0;
    if (batch->records && stored == batch->records) {
        uint64_t last = batch->first + batch->records - 1;
        node->last_offset = find_offset(self, txn, &state->row, last);
        node->fence_offset =
            node->last_offset ? node->last_offset - batch->records + 1 : 0;
        return 0;
    }
    int rc = make_room(self, txn, node, shard, budget);
    return rc || node->back ? rc : put_rest(self, txn, node, state, stored);
}

/* --- Transaction ------------------------------------------------------------------- */

static void reset(weir_disk *self)
{
    self->again = false;
    self->next_fence_sum = self->fence_sum;
    for (size_t i = 0; i < self->shard_count; i++) {
        self->shards[i]->next = self->shards[i]->now;
        self->shards[i]->failed = false;
    }
    for (weir_disk_node *node = self->working.first; node; node = node->next) {
        node->back = node->blocked = false;
        node->refused = 0;
        node->last_offset = node->fence_offset = 0;
        set_answer(node, WEIR_STORE_SAFE, "");
    }
}

/*  Of what has changed.                                                            */
static int put_counts(weir_disk *self, MDB_txn *txn)
{
    int rc = 0;
    for (size_t i = 0; i < self->shard_count && !rc; i++) {
        const weir_disk_shard *shard = self->shards[i];
        if (memcmp(&shard->next.row.has, &shard->now.row.has, sizeof shard->now.row.has))
            rc = weir_disk_row_put(&self->env, txn, &shard->next.row);
    }
    if (!rc && self->next_fence_sum != self->fence_sum)
        rc = weir_disk_fences_put(&self->env, txn, self->next_fence_sum);
    return rc;
}

static int fill(weir_disk *self, MDB_txn *txn)
{
    uint32_t budget = drops_max;
    int rc = 0;
    for (weir_disk_node *node = self->working.first; node && !rc; node = node->next)
        rc = put_node(self, txn, node, &budget);
    for (size_t i = 0; i < self->shard_count && !rc; i++)
        rc = weir_disk_keep_shard(self, txn, self->shards[i], &budget);
    if (!rc)
        rc = weir_disk_sweep_fences(&self->sweep, &self->env, txn, &self->next_fence_sum);
    return rc ? rc : put_counts(self, txn);
}

static uint64_t count_bytes(const weir_disk *self)
{
    uint64_t bytes = 0;
    for (const weir_disk_node *node = self->working.first; node; node = node->next)
        bytes += node->batch->bytes + 4096;
    return bytes;
}

/*  Allocated ahead, so that a full disk is found before LMDB writes (it would tell one as
    an I/O error), and so that a sync has less to note. Free pages make it needless. */
static int allocate(weir_disk *self)
{
    static const uint64_t slack = 256 << 10;
    int fd, dead;
    uint64_t bytes = count_bytes(self) + slack;
    uint64_t end = self->stats.used_bytes + self->stats.free_bytes + bytes;
    if (end <= self->file_bytes || self->stats.free_bytes / 2 > bytes) return 0;
    uint64_t ahead = end / 8 < ahead_min ? ahead_min : end / 8;
    if (ahead > ahead_max) ahead = ahead_max;
    mdb_reader_check(self->env.env, &dead);
    mdb_env_get_fd(self->env.env, &fd);
    int rc = fallocate(fd, 0, 0, (off_t)(end + ahead));
    if (!rc) end += ahead;
    if (rc) rc = fallocate(fd, 0, 0, (off_t)end);
    self->file_bytes = rc ? self->file_bytes : end;
    if (!rc) return 0;
    return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? errno : 0;
}

static weir_err open_again(weir_disk *self, weir_report *report)
{
    char folder[WEIR_DISK_FOLDER_MAX];
    MDB_envinfo info;
    mdb_env_info(self->env.env, &info);
    memcpy(folder, self->env.folder, sizeof folder);
    pthread_rwlock_wrlock(&self->env_lock);
    weir_disk_env_close(&self->env);
    weir_err err =
        weir_disk_env_open(&self->env, folder, (int64_t)info.me_mapsize, false, report);
    pthread_rwlock_unlock(&self->env_lock);
    return err;
}

/*  A synced transaction that says nothing: what it follows is on disk, too.         */
static int confirm(weir_disk *self)
{
    MDB_txn *txn;
    MDB_val key = {strlen(WEIR_DISK_META_VERSION), WEIR_DISK_META_VERSION}, value;
    uint8_t copy[4];
    int rc = mdb_txn_begin(self->env.env, NULL, 0, &txn);
    if (rc) return rc;
    rc = mdb_get(txn, self->env.meta, &key, &value);
    if (!rc && value.mv_size == sizeof copy) {
        memcpy(copy, value.mv_data, sizeof copy);
        value.mv_data = copy;
        rc = mdb_put(txn, self->env.meta, &key, &value, 0);
    }
    if (!rc) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

/*  After a failed commit the environment as it was opened again knows whether the
    transaction is in it: whole or not at all, and nobody else writes.               */
static int look_again(weir_disk *self, int failure)
{
    weir_report report = {0};
    MDB_envinfo info;
    if (open_again(self, &report)) {
        weir_log(WEIR_ERROR, "bus store cannot be opened again error=\"%s\"",
                 report.text);
        return MDB_PANIC;
    }
    mdb_env_info(self->env.env, &info);
    return info.me_last_txnid >= self->transaction ? confirm(self) : failure;
}

/*  Nothing is left in it that could be aborted.                                    */
static int commit(weir_disk *self, MDB_txn *txn)
{
    int64_t start = weir_clock_now_us();
    self->transaction = mdb_txn_id(txn);
    int rc = self->commit(txn);
    if (rc && rc != MDB_MAP_FULL) rc = look_again(self, rc);
    if (rc) return rc;
    pthread_mutex_lock(&self->mutex);
    self->stats.commits++;
    self->stats.commit_us += weir_clock_now_us() - start;
    pthread_mutex_unlock(&self->mutex);
    return 0;
}

static int attempt(weir_disk *self)
{
    MDB_txn *txn;
    reset(self);
    int rc = self->env.env ? allocate(self) : MDB_PANIC;
    if (!rc) rc = mdb_txn_begin(self->env.env, NULL, 0, &txn);
    if (rc) return rc;
    rc = fill(self, txn);
    if (!rc) return commit(self, txn);
    mdb_txn_abort(txn);
    return rc;
}

int weir_disk_grow(weir_disk *self)
{
    MDB_envinfo info;
    int dead;
    mdb_reader_check(self->env.env, &dead);
    mdb_env_info(self->env.env, &info);
    uint64_t size = info.me_mapsize, most = (uint64_t)self->config.map_max_bytes;
    if (size >= most) return MDB_MAP_FULL;
    pthread_rwlock_wrlock(&self->env_lock);
    int rc = mdb_env_set_mapsize(self->env.env, size > most / 2 ? most : size * 2);
    pthread_rwlock_unlock(&self->env_lock);
    return rc;
}

/* --- After it ---------------------------------------------------------------------- */

/*  LMDB calls a write that was cut short an I/O error.                              */
static bool is_cut_short(weir_disk *self)
{
    struct statvfs disk;
    struct rlimit limit;
    struct stat st;
    int fd;
    if (!self->env.env || mdb_env_get_fd(self->env.env, &fd)) return false;
    uint64_t bytes = count_bytes(self) + (1 << 20);
    if (!fstatvfs(fd, &disk) && (uint64_t)disk.f_bavail * disk.f_frsize < bytes)
        return true;
    return !getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur != RLIM_INFINITY &&
           !fstat(fd, &st) && (uint64_t)st.st_size + bytes > limit.rlim_cur;
}

static bool is_full(weir_disk *self, int rc)
{
    return rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT || rc == EFBIG ||
           (rc == EIO && is_cut_short(self));
}

static void describe(weir_disk *self, int rc, bool full, char text[256])
{
    if (rc == MDB_MAP_FULL)
        snprintf(text, 256,
                 "disk full: the store has reached map_max (%" PRId64
                 " bytes): raise it, or keep less",
                 self->config.map_max_bytes);
    else if (full)
        snprintf(text, 256, "disk full: %s: make room, or keep less", mdb_strerror(rc));
    else
        snprintf(text, 256, "cannot write to %.120s: %.80s%s", self->path,
                 weir_disk_strerror(rc), rc < 0 ? "; `weir bus verify` tells more" : "");
}

/*  Nothing has changed. What follows the first failed batch of a shard has to wait
    for it.                                                                         */
static void set_failed(weir_disk *self, weir_store_result result, const char *text)
{
    for (weir_disk_node *node = self->working.first; node; node = node->next) {
        const weir_batch *batch = node->batch;
        weir_disk_shard *shard = weir_disk_shard_of(self, batch->shard);
        node->back = false;
        node->refused = 0;
        node->last_offset = node->fence_offset = 0;
        if (!node->blocked && !shard->failed) {
            shard->now.barrier = (weir_disk_barrier){true, batch->epoch, batch->first};
            shard->failed = true;
        }
        set_answer(node, result, text);
    }
}

static void fail(weir_disk *self, int rc)
{
    char text[256];
    bool full = is_full(self, rc), later = full || rc == ENOMEM || rc == MDB_TXN_FULL;
    describe(self, rc, full, text);
    pthread_mutex_lock(&self->mutex);
    if (full && !self->stats.full)
        weir_log(WEIR_WARN, "bus store full path=%s error=\"%s\"", self->path, text);
    self->stats.full = full;
    pthread_mutex_unlock(&self->mutex);
    if (!later) weir_disk_fail(self, text);
    set_failed(self, later ? WEIR_STORE_RETRY : WEIR_STORE_FATAL, text);
    self->stalled = true;
}

void weir_disk_count(weir_disk *self)
{
    weir_disk_pages pages;
    MDB_txn *txn;
    if (mdb_txn_begin(self->env.env, NULL, MDB_RDONLY, &txn)) return;
    int rc = weir_disk_count_pages(&self->env, txn, &pages);
    mdb_txn_abort(txn);
    if (rc) return;
    pthread_mutex_lock(&self->mutex);
    self->stats.used_bytes = (pages.pages - pages.free) * pages.page_bytes;
    self->stats.free_bytes = pages.free * pages.page_bytes;
    pthread_mutex_unlock(&self->mutex);
}

static void publish(weir_disk *self)
{
    bool stored = false;
    pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->shard_count; i++) {
        weir_disk_shard *shard = self->shards[i];
        stored = stored || shard->next.row.has.last > shard->now.row.has.last;
        shard->now = shard->next;
    }
    for (weir_disk_node *node = self->working.first; node; node = node->next)
        if (!node->back && node->result == WEIR_STORE_SAFE)
            self->stats.commit_bytes += node->batch->bytes;
    self->stats.full = false;
    pthread_mutex_unlock(&self->mutex);
    self->fence_sum = self->next_fence_sum;
    self->stalled = false;
    weir_disk_count(self);
    if (stored) weir_disk_tell(self);
}

static void set_transacting(weir_disk *self, bool on)
{
    pthread_mutex_lock(&self->mutex);
    self->transacting = on;
    if (!on) self->transactions++;
    pthread_cond_broadcast(&self->answered);
    pthread_mutex_unlock(&self->mutex);
}

void weir_disk_transact(weir_disk *self)
{
    set_transacting(self, true);
    weir_lmdb_enter(self->env.folder);
    int rc = attempt(self);
    while (rc == MDB_MAP_FULL && !weir_disk_grow(self))
        rc = attempt(self);
    weir_lmdb_leave();
    if (rc)
        fail(self, rc);
    else
        publish(self);
    set_transacting(self, false);
}
