/*  What each shard of a store has that was written before stores kept it.           */
#include "actors/disk_store.h"

/*  Values stay where they are as long as the transaction is open.                   */
static int count_blocks(weir_disk_rows *self, const weir_disk_env *env, MDB_txn *txn,
                        MDB_cursor *cursor)
{
    MDB_val key, value, newest = {0};
    weir_disk_row *row = NULL;
    weir_disk_key at;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (!weir_disk_unpack(&at, &key)) return MDB_CORRUPTED;
        if (!row || row->id != at.shard) {
            if (row)
                weir_disk_set_newest(row, (weir_disk_key){row->id, row->has.last},
                                     &newest);
            row = weir_disk_rows_of(self, at.shard);
            rc = weir_disk_set_oldest(row, env, txn, at, &value);
            if (rc) return rc;
        }
        row->has.bytes += weir_disk_body_bytes(&value);
        row->has.last = at.last;
        newest = value;
    }
    if (row) weir_disk_set_newest(row, (weir_disk_key){row->id, row->has.last}, &newest);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int count_gaps(weir_disk_rows *self, MDB_cursor *cursor)
{
    MDB_val key, value;
    weir_disk_key at;
    weir_disk_gap gap;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (!weir_disk_unpack(&at, &key) ||
            !weir_disk_gap_read(&gap, at, value.mv_data, value.mv_size))
            return MDB_CORRUPTED;
        weir_disk_counts *has = &weir_disk_rows_of(self, at.shard)->has;
        *(gap.damaged ? &has->damaged : &has->trimmed) += at.last - gap.first + 1;
        if (at.last > has->last) has->last = at.last;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int weir_disk_rows_count(weir_disk_rows *self, const weir_disk_env *env, MDB_txn *txn)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, env->blocks, &cursor);
    if (rc) return rc;
    rc = count_blocks(self, env, txn, cursor);
    mdb_cursor_close(cursor);
    if (!rc) rc = mdb_cursor_open(txn, env->gaps, &cursor);
    if (rc) return rc;
    rc = count_gaps(self, cursor);
    mdb_cursor_close(cursor);
    return rc;
}

/* --- From then on ------------------------------------------------------------------ */

static int put_all(const weir_disk_rows *self, weir_disk_env *env, MDB_txn *txn)
{
    uint64_t sum;
    int rc = weir_disk_fences_sum(env, txn, &sum);
    env->counted = true;
    if (!rc) rc = weir_disk_fences_put(env, txn, sum);
    for (size_t i = 0; i < self->count && !rc; i++)
        rc = weir_disk_row_put(env, txn, &self->items[i]);
    return rc ? rc : weir_disk_version_put(env, txn);
}

int weir_disk_rows_begin(const weir_disk_rows *self, weir_disk_env *env)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, 0, &txn);
    if (rc) return rc;
    rc = put_all(self, env, txn);
    if (rc)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    env->counted = !rc;
    return rc;
}
