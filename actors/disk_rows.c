#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "actors/disk_store.h"

enum { checked_blocks = 64 };

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

static weir_disk_row *row_of(weir_disk_rows *self, uint32_t id)
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

static uint64_t body_bytes(const MDB_val *value)
{
    return value->mv_size > WEIR_DISK_HEAD_SIZE ? value->mv_size - WEIR_DISK_HEAD_SIZE
                                                : 0;
}

/*  A block with a damaged header is taken to begin where the one before it ends, and to
    be as old.                                                                      */
static void set_oldest(weir_disk_row *self, weir_disk_key key, const MDB_val *value)
{
    weir_disk_head head;
    bool good = !weir_disk_head_read(&head, key, value->mv_data, value->mv_size, NULL);
    self->oldest_first = good ? head.first : self->oldest_end + 1;
    self->oldest_end = key.last;
    self->oldest_bytes = body_bytes(value);
    if (good) self->oldest_ms = head.arrived_ms;
}

static void set_newest(weir_disk_row *self, const MDB_val *value)
{
    weir_disk_head head;
    weir_disk_key key = {self->id, self->last};
    if (weir_disk_head_read(&head, key, value->mv_data, value->mv_size, NULL)) return;
    self->newest_ms = head.arrived_ms;
    self->epoch = head.epoch;
    self->sequence = head.sequence + head.count - 1;
}

/*  Values stay where they are as long as the transaction is open.                   */
static int load_blocks(weir_disk_rows *self, MDB_cursor *cursor)
{
    MDB_val key, value, newest = {0};
    weir_disk_row *row = NULL;
    weir_disk_key at;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (!weir_disk_unpack(&at, &key)) return MDB_CORRUPTED;
        if (!row || row->id != at.shard) {
            if (row) set_newest(row, &newest);
            row = row_of(self, at.shard);
            set_oldest(row, at, &value);
        }
        row->bytes += body_bytes(&value);
        row->last = at.last;
        newest = value;
    }
    if (row) set_newest(row, &newest);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int load_gaps(weir_disk_rows *self, MDB_cursor *cursor)
{
    MDB_val key, value;
    weir_disk_key at;
    weir_disk_gap gap;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (!weir_disk_unpack(&at, &key) ||
            !weir_disk_gap_read(&gap, at, value.mv_data, value.mv_size))
            return MDB_CORRUPTED;
        weir_disk_row *row = row_of(self, at.shard);
        *(gap.damaged ? &row->damaged : &row->trimmed) += at.last - gap.first + 1;
        if (at.last > row->last) row->last = at.last;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int weir_disk_rows_load(weir_disk_rows *self, const weir_disk_env *env, MDB_txn *txn)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, env->blocks, &cursor);
    if (rc) return rc;
    rc = load_blocks(self, cursor);
    mdb_cursor_close(cursor);
    if (!rc) rc = mdb_cursor_open(txn, env->gaps, &cursor);
    if (rc) return rc;
    rc = load_gaps(self, cursor);
    mdb_cursor_close(cursor);
    return rc;
}

/* --- Checks ------------------------------------------------------------------------ */

static weir_err check_block(const weir_disk_env *env, weir_disk_key key,
                            const MDB_val *value, weir_report *report)
{
    weir_disk_head head;
    weir_report why = {0};
    if (!weir_disk_block_check(&head, key, value->mv_data, value->mv_size, &why))
        return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, env->folder,
                           "shard %" PRIu32 ", the block that ends at offset %" PRIu64
                           ": %s; `weir bus repair` copies what is good",
                           key.shard, key.last, why.text);
}

weir_err weir_disk_check_newest(const weir_disk_env *env, MDB_txn *txn,
                                const weir_disk_row *row, weir_report *report)
{
    weir_disk_packed packed;
    weir_disk_key at;
    MDB_cursor *cursor;
    MDB_val key = *weir_disk_pack(&packed, row->id, row->last), value;
    weir_err err = WEIR_OK;
    if (!row->oldest_end || mdb_cursor_open(txn, env->blocks, &cursor)) return WEIR_OK;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (!rc && !(weir_disk_unpack(&at, &key) && at.shard == row->id))
        rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    if (rc == MDB_NOTFOUND) rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    for (int i = 0; !err && !rc && i < checked_blocks; i++) {
        if (!weir_disk_unpack(&at, &key) || at.shard != row->id) break;
        err = check_block(env, at, &value, report);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    }
    mdb_cursor_close(cursor);
    return err;
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

static int find_oldest(weir_disk_row *row, MDB_cursor *cursor)
{
    MDB_val key, value;
    weir_disk_key at;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    if (rc && rc != MDB_NOTFOUND) return rc;
    if (!rc && !weir_disk_unpack(&at, &key)) return MDB_CORRUPTED;
    if (!rc && at.shard == row->id)
        set_oldest(row, at, &value);
    else
        row->oldest_first = row->oldest_end = row->oldest_bytes = 0;
    return 0;
}

int weir_disk_drop_oldest(const weir_disk_env *env, MDB_txn *txn, weir_disk_row *row)
{
    weir_disk_packed packed;
    weir_disk_row was = *row;
    MDB_cursor *cursor;
    MDB_val value, *key = weir_disk_pack(&packed, row->id, row->oldest_end);
    int rc = mdb_cursor_open(txn, env->blocks, &cursor);
    if (rc) return rc;
    rc = mdb_cursor_get(cursor, key, &value, MDB_SET);
    if (!rc) rc = find_oldest(row, cursor);
    mdb_cursor_close(cursor);
    if (rc) return rc;
    rc = mdb_del(txn, env->blocks, weir_disk_pack(&packed, was.id, was.oldest_end), NULL);
    if (rc) return rc;
    row->trimmed += was.oldest_end - was.oldest_first + 1;
    row->bytes -= was.oldest_bytes;
    return put_trimmed(env, txn, was.id, was.oldest_first, was.oldest_end);
}
