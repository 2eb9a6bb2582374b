#include <stdlib.h>
#include <string.h>
#include "actors/disk_store.h"

/* --- The table --------------------------------------------------------------------- */

static size_t place_of(const weir_disk_rows *self, uint32_t id)
{
    size_t low = 0, high = self->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->items[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

weir_disk_row *weir_disk_rows_of(weir_disk_rows *self, uint32_t id)
{
    size_t at = place_of(self, id);
    if (at < self->count && self->items[at].id == id) return &self->items[at];
    self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
    if (!self->items) abort();
    memmove(self->items + at + 1, self->items + at,
            (self->count - at) * sizeof *self->items);
    self->count++;
    self->items[at] = (weir_disk_row){.id = id};
    return &self->items[at];
}

/* --- Its ends ---------------------------------------------------------------------- */

/*  The first offset behind the gaps that end before this one.                       */
static int find_begin(const weir_disk_env *env, MDB_txn *txn, weir_disk_key key,
                      uint64_t *first)
{
    weir_disk_packed packed;
    weir_disk_key at;
    MDB_cursor *cursor;
    MDB_val value, found = *weir_disk_pack(&packed, key.shard, key.last);
    *first = 1;
    int rc = mdb_cursor_open(txn, env->gaps, &cursor);
    if (rc) return rc;
    rc = mdb_cursor_get(cursor, &found, &value, MDB_SET_RANGE);
    if (!rc || rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(cursor, &found, &value, rc ? MDB_LAST : MDB_PREV);
    if (!rc && weir_disk_unpack(&at, &found) && at.shard == key.shard)
        *first = at.last + 1;
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/*  A block with a damaged header is taken to begin where what is before it ends, and to
    be as old.                                                                      */
int weir_disk_set_oldest(weir_disk_row *row, const weir_disk_env *env, MDB_txn *txn,
                         weir_disk_key key, const MDB_val *value)
{
    weir_disk_head head;
    uint64_t before = row->oldest_end;
    row->oldest_end = key.last;
    row->oldest_bytes = weir_disk_body_bytes(value);
    if (!weir_disk_head_read(&head, key, value->mv_data, value->mv_size, NULL)) {
        row->oldest_first = head.first;
        row->oldest_ms = head.arrived_ms;
        return 0;
    }
    int rc = find_begin(env, txn, key, &row->oldest_first);
    if (row->oldest_first <= before) row->oldest_first = before + 1;
    return rc;
}

void weir_disk_set_newest(weir_disk_row *row, weir_disk_key key, const MDB_val *value)
{
    weir_disk_head head;
    if (weir_disk_head_read(&head, key, value->mv_data, value->mv_size, NULL)) return;
    row->newest_ms = head.arrived_ms;
    row->epoch = head.epoch;
    row->sequence = head.sequence + head.count - 1;
}

int weir_disk_seek_last(MDB_cursor *cursor, uint32_t shard, weir_disk_key *at,
                        MDB_val *value)
{
    weir_disk_packed packed;
    MDB_val key = *weir_disk_pack(&packed, shard, UINT64_MAX);
    int rc = mdb_cursor_get(cursor, &key, value, MDB_SET_RANGE);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, value, MDB_PREV);
    else if (rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(cursor, &key, value, MDB_LAST);
    if (rc) return rc;
    if (!weir_disk_unpack(at, &key)) return MDB_CORRUPTED;
    return at->shard == shard ? 0 : MDB_NOTFOUND;
}

static int set_first(weir_disk_row *row, const weir_disk_env *env, MDB_txn *txn,
                     MDB_cursor *cursor)
{
    weir_disk_packed packed;
    weir_disk_key at = {row->id, 0};
    MDB_val value, key = *weir_disk_pack(&packed, at.shard, at.last);
    int rc = weir_disk_check_way(txn, &row->way, at, WEIR_DISK_READS);
    if (!rc) rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc) return rc;
    if (!weir_disk_unpack(&at, &key)) return MDB_CORRUPTED;
    if (at.shard != row->id) return MDB_NOTFOUND;
    return weir_disk_set_oldest(row, env, txn, at, &value);
}

static int set_last(weir_disk_row *row, MDB_txn *txn, MDB_cursor *cursor)
{
    weir_disk_way way = {0};
    weir_disk_key at = {row->id, UINT64_MAX};
    MDB_val value;
    int rc = weir_disk_check_way(txn, &way, at, WEIR_DISK_WRITES);
    if (!rc) rc = weir_disk_seek_last(cursor, row->id, &at, &value);
    if (!rc) weir_disk_set_newest(row, at, &value);
    return rc;
}

static int set_ends(weir_disk_row *row, const weir_disk_env *env, MDB_txn *txn,
                    MDB_cursor *cursor)
{
    int rc = set_first(row, env, txn, cursor);
    if (!rc) rc = set_last(row, txn, cursor);
    row->way = (weir_disk_way){0}; // it was looked at for reading alone
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* --- Loading ----------------------------------------------------------------------- */

static int load_counts(weir_disk_rows *self, MDB_cursor *cursor)
{
    MDB_val key, value;
    weir_disk_counts counts;
    uint32_t id;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (!weir_disk_counts_is_key(key.mv_data, key.mv_size)) continue;
        if (!weir_disk_counts_read(&counts, &id, key.mv_data, value.mv_data,
                                   value.mv_size))
            return MDB_CORRUPTED;
        weir_disk_rows_of(self, id)->has = counts;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int weir_disk_rows_load(weir_disk_rows *self, const weir_disk_env *env, MDB_txn *txn)
{
    MDB_cursor *cursor;
    if (!env->counted) return weir_disk_rows_count(self, env, txn);
    int rc = mdb_cursor_open(txn, env->meta, &cursor);
    if (rc) return rc;
    rc = load_counts(self, cursor);
    mdb_cursor_close(cursor);
    if (!rc) rc = mdb_cursor_open(txn, env->blocks, &cursor);
    if (rc) return rc;
    for (size_t i = 0; i < self->count && !rc; i++)
        rc = set_ends(&self->items[i], env, txn, cursor);
    mdb_cursor_close(cursor);
    return rc;
}

static int find_counts(const weir_disk_env *env, MDB_txn *txn, uint32_t shard,
                       weir_disk_counts *counts)
{
    uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE], unused[WEIR_DISK_COUNTS_SIZE];
    MDB_val packed = {sizeof key, key}, value;
    uint32_t id;
    weir_disk_counts_pack(counts, shard, key, unused);
    int rc = mdb_get(txn, env->meta, &packed, &value);
    if (rc) return rc == MDB_NOTFOUND ? 0 : rc;
    return weir_disk_counts_read(counts, &id, key, value.mv_data, value.mv_size)
               ? 0
               : MDB_CORRUPTED;
}

static int find_last(MDB_txn *txn, MDB_dbi table, uint32_t shard, uint64_t *last)
{
    weir_disk_key at = {shard, 0};
    MDB_cursor *cursor;
    MDB_val value;
    int rc = mdb_cursor_open(txn, table, &cursor);
    if (rc) return rc;
    rc = weir_disk_seek_last(cursor, shard, &at, &value);
    if (!rc && at.last > *last) *last = at.last;
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int weir_disk_last_of(const weir_disk_env *env, MDB_txn *txn, uint32_t shard,
                      uint64_t *last)
{
    weir_disk_counts counts = {0};
    weir_disk_way way = {0};
    weir_disk_key end = {shard, UINT64_MAX};
    int rc = env->counted ? find_counts(env, txn, shard, &counts) : 0;
    *last = counts.last;
    if (rc || env->counted) return rc;
    rc = weir_disk_check_way(txn, &way, end, WEIR_DISK_WRITES);
    if (!rc) rc = find_last(txn, env->blocks, shard, last);
    return rc ? rc : find_last(txn, env->gaps, shard, last);
}

/* --- Storing ----------------------------------------------------------------------- */

int weir_disk_row_put(const weir_disk_env *env, MDB_txn *txn, const weir_disk_row *row)
{
    uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE], value[WEIR_DISK_COUNTS_SIZE];
    MDB_val packed = {sizeof key, key}, counts = {sizeof value, value};
    if (!env->counted) return 0;
    weir_disk_counts_pack(&row->has, row->id, key, value);
    return mdb_put(txn, env->meta, &packed, &counts, 0);
}

/* --- The oldest block -------------------------------------------------------------- */

/*  Trimmed offsets first to last; a gap that ends before them becomes part of it.   */
static int put_trimmed(const weir_disk_env *env, MDB_txn *txn, uint32_t shard,
                       uint64_t first, uint64_t last)
{
    weir_disk_packed packed;
    weir_disk_gap gap;
    uint8_t bytes[WEIR_DISK_GAP_SIZE];
    MDB_val old, value = {sizeof bytes, bytes};
    weir_disk_key before = {shard, first - 1};
    MDB_val *key = weir_disk_pack(&packed, shard, first - 1);
    int rc = mdb_get(txn, env->gaps, key, &old);
    if (!rc && weir_disk_gap_read(&gap, before, old.mv_data, old.mv_size) &&
        !gap.damaged) {
        first = gap.first;
        rc = mdb_del(txn, env->gaps, key, NULL);
    }
    if (rc && rc != MDB_NOTFOUND) return rc;
    weir_disk_gap_pack(&(weir_disk_gap){first, false}, bytes);
    return mdb_put(txn, env->gaps, weir_disk_pack(&packed, shard, last), &value, 0);
}

static int find_oldest(weir_disk_row *row, const weir_disk_env *env, MDB_txn *txn,
                       MDB_cursor *cursor)
{
    MDB_val key, value;
    weir_disk_key at;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    if (rc && rc != MDB_NOTFOUND) return rc;
    if (!rc && !weir_disk_unpack(&at, &key)) return MDB_CORRUPTED;
    if (!rc && at.shard == row->id)
        return weir_disk_set_oldest(row, env, txn, at, &value);
    row->oldest_first = row->oldest_end = row->oldest_bytes = 0;
    return 0;
}

/*  Finds the block and the next one, which are both to be as they were.             */
static int step_oldest(const weir_disk_env *env, MDB_txn *txn, weir_disk_row *row)
{
    weir_disk_packed packed;
    weir_disk_key at = {row->id, row->oldest_end};
    MDB_cursor *cursor;
    MDB_val value, *key = weir_disk_pack(&packed, at.shard, at.last);
    int rc = weir_disk_check_way(txn, &row->way, at, WEIR_DISK_WRITES);
    if (!rc) rc = mdb_cursor_open(txn, env->blocks, &cursor);
    if (rc) return rc;
    rc = mdb_cursor_get(cursor, key, &value, MDB_SET);
    if (rc == MDB_NOTFOUND ||
        (!rc && !weir_lmdb_check_value(txn, WEIR_DISK_KEY_SIZE, &value)))
        rc = MDB_CORRUPTED;
    if (!rc) rc = find_oldest(row, env, txn, cursor);
    mdb_cursor_close(cursor);
    return rc;
}

int weir_disk_drop_oldest(const weir_disk_env *env, MDB_txn *txn, weir_disk_row *row)
{
    weir_disk_packed packed;
    weir_disk_row was = *row;
    int rc = step_oldest(env, txn, row);
    if (rc) return rc;
    rc = mdb_del(txn, env->blocks, weir_disk_pack(&packed, was.id, was.oldest_end), NULL);
    if (rc) return rc;
    row->has.trimmed += was.oldest_end - was.oldest_first + 1;
    row->has.bytes -= was.oldest_bytes;
    return put_trimmed(env, txn, was.id, was.oldest_first, was.oldest_end);
}
