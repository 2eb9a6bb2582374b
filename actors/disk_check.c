/*  What is looked at before LMDB may follow it, and before a store is written to.    */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/disk_store.h"

enum { checked_blocks = 64 };

/*  The store's folder is the one above that of its environment.                     */
weir_err weir_disk_damaged(weir_report *report, const char *folder, const char *format,
                           ...)
{
    char why[256];
    const char *slash = strrchr(folder, '/');
    int above = slash ? (int)(slash - folder) : (int)strlen(folder);
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return weir_report_set(report, WEIR_EMALFORMED, folder,
                           "data.mdb is damaged: %s; `weir bus verify %.*s` tells more, "
                           "`weir bus repair %.*s NEW` copies what is good",
                           why, above, folder, above, folder);
}

/* --- The file ---------------------------------------------------------------------- */

static bool check_end(weir_lmdb_file *file)
{
    if (!weir_lmdb_check_tree(file, &file->free, WEIR_LMDB_FREE)) return false;
    if (!weir_lmdb_is_cut(file)) return true;
    snprintf(file->why, sizeof file->why, "it was cut: it has %zu pages of %zu",
             file->there, file->pages);
    return false;
}

static bool check_tables(weir_lmdb_file *file, bool all)
{
    weir_lmdb_tree blocks, gaps, fences, meta;
    return check_end(file) && weir_lmdb_check_tree(file, &file->names, WEIR_LMDB_TREES) &&
           weir_lmdb_find_tree(file, WEIR_DISK_BLOCKS, 0, &blocks) &&
           weir_lmdb_find_tree(file, WEIR_DISK_GAPS, 0, &gaps) &&
           weir_lmdb_find_tree(file, WEIR_DISK_FENCES, MDB_DUPSORT, &fences) &&
           weir_lmdb_find_tree(file, WEIR_DISK_META, 0, &meta) &&
           weir_lmdb_check_tree(file, &gaps, WEIR_LMDB_VALUES) &&
           weir_lmdb_check_tree(file, &fences, WEIR_LMDB_SEVERAL) &&
           weir_lmdb_check_tree(file, &meta, WEIR_LMDB_VALUES) &&
           (!all || weir_lmdb_check_tree(file, &blocks, WEIR_LMDB_VALUES));
}

weir_err weir_disk_check_pages(const char *folder, bool all, weir_report *report)
{
    char path[WEIR_DISK_FOLDER_MAX + 16];
    weir_lmdb_file file;
    weir_err err = WEIR_OK;
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    int rc = weir_lmdb_open(&file, path);
    if (rc > 0)
        err = weir_report_set(report, rc == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS, path,
                              "cannot open: %s", strerror(rc));
    else if (rc == MDB_VERSION_MISMATCH)
        err = weir_report_set(report, WEIR_EMALFORMED, path,
                              "it is of another version of LMDB");
    else if (rc || !check_tables(&file, all))
        err = weir_report_set(report, WEIR_EMALFORMED, path, "%s", file.why);
    weir_lmdb_close(&file);
    if (rc > 0) errno = rc;
    return err;
}

/* --- The way to a block ------------------------------------------------------------ */

/*  What was found last in this thread; "": nothing.                                 */
static _Thread_local char damage[200];

/*  Where the table blocks begins for a transaction, as it was committed last.       */
static int find_blocks(MDB_txn *txn, weir_lmdb_tree *tree)
{
    static const MDB_dbi names = 1; // LMDB's own
    MDB_val key = {sizeof WEIR_DISK_BLOCKS - 1, WEIR_DISK_BLOCKS}, value;
    int rc = mdb_get(txn, names, &key, &value);
    if (rc || value.mv_size != sizeof *tree) return rc ? rc : MDB_CORRUPTED;
    memcpy(tree, value.mv_data, sizeof *tree);
    return 0;
}

static bool unpack(weir_disk_key *self, const weir_lmdb_key *key)
{
    return weir_disk_key_read(self, key->bytes, key->size);
}

/*  Offsets of that shard that are in the leaf, or would be.                         */
static void set_offsets(weir_disk_way *self, uint32_t shard)
{
    weir_disk_key first, last;
    self->from = self->until = 0;
    if (!unpack(&first, &self->pages.first) || !unpack(&last, &self->pages.last) ||
        first.shard > shard || last.shard < shard)
        return;
    self->from = first.shard < shard ? 0 : first.last;
    self->until = last.shard > shard ? UINT64_MAX : last.last;
}

/*  Whether LMDB, set to this key, steps from the leaf behind its end.               */
static bool steps_on(const weir_disk_way *self, const MDB_val *key)
{
    MDB_val last = {self->pages.last.size, (void *)self->pages.last.bytes};
    MDB_val next = {self->pages.next.size, (void *)self->pages.next.bytes};
    return last.mv_size && next.mv_size && weir_lmdb_compare(key, &last) > 0 &&
           weir_lmdb_compare(key, &next) < 0;
}

static bool check_pages(MDB_txn *txn, const weir_lmdb_tree *tree, weir_disk_way *way,
                        const MDB_val *key, weir_disk_purpose purpose)
{
    weir_lmdb_file file;
    unsigned beside = purpose == WEIR_DISK_READS ? 0 : 2;
    weir_lmdb_borrow(&file, txn);
    bool good = (!beside && steps_on(way, key)) ||
                weir_lmdb_check_way(&file, tree, key, beside, &way->pages);
    if (good && !beside && steps_on(way, key)) {
        weir_lmdb_key next = way->pages.next;
        MDB_val there = {next.size, next.bytes};
        good = weir_lmdb_check_way(&file, tree, &there, beside, &way->pages);
    }
    if (!good) snprintf(damage, sizeof damage, "%s", file.why);
    weir_lmdb_close(&file);
    return good;
}

int weir_disk_check_way(MDB_txn *txn, weir_disk_way *way, weir_disk_key key,
                        weir_disk_purpose purpose)
{
    weir_lmdb_tree tree;
    weir_disk_packed packed;
    damage[0] = 0;
    if (way->until && key.last >= way->from && key.last <= way->until) return 0;
    int rc = find_blocks(txn, &tree);
    if (rc) return rc;
    if (!check_pages(txn, &tree, way, weir_disk_pack(&packed, key.shard, key.last),
                     purpose))
        return MDB_CORRUPTED;
    set_offsets(way, key.shard);
    if (way->from > key.last) way->from = key.last;
    return 0;
}

const char *weir_disk_strerror(int rc)
{
    return rc == MDB_CORRUPTED && damage[0] ? damage : mdb_strerror(rc);
}

/* --- Rows -------------------------------------------------------------------------- */

static weir_err fail(const weir_disk_env *env, int rc, const char *what,
                     weir_report *report)
{
    if (rc < 0)
        return weir_disk_damaged(report, env->folder, "%s: %s", what,
                                 weir_disk_strerror(rc));
    if (!rc) return WEIR_OK;
    errno = rc;
    return weir_report_set(report, WEIR_ESYS, env->folder, "cannot read: %s",
                           strerror(rc));
}

typedef struct {
    const weir_disk_row *row;
    uint64_t trimmed, damaged, last; // by its gaps
} gap_sum;

static int add_gaps(gap_sum *self, MDB_cursor *cursor)
{
    weir_disk_packed packed;
    weir_disk_key at;
    weir_disk_gap gap;
    MDB_val value, key = *weir_disk_pack(&packed, self->row->id, 0);
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (!weir_disk_unpack(&at, &key)) return MDB_CORRUPTED;
        if (at.shard != self->row->id) return 0;
        if (!weir_disk_gap_read(&gap, at, value.mv_data, value.mv_size) ||
            gap.first <= self->last)
            return MDB_CORRUPTED;
        *(gap.damaged ? &self->damaged : &self->trimmed) += at.last - gap.first + 1;
        self->last = at.last;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/*  That its gaps are those that were counted, and that its last record is there, or a
    gap.                                                                            */
static weir_err check_ends(const weir_disk_env *env, MDB_cursor *gaps, MDB_cursor *blocks,
                           const weir_disk_row *row, weir_report *report)
{
    gap_sum is = {.row = row};
    weir_disk_key at = {row->id, 0};
    MDB_val value;
    int rc = add_gaps(&is, gaps);
    if (rc || is.trimmed != row->has.trimmed || is.damaged != row->has.damaged)
        return weir_disk_damaged(report, env->folder,
                                 "the gaps of shard %" PRIu32 " are not those it had",
                                 row->id);
    rc = weir_disk_seek_last(blocks, row->id, &at, &value);
    if (rc == MDB_NOTFOUND) rc = 0, at.last = 0;
    uint64_t last = at.last > is.last ? at.last : is.last;
    if (rc || last == row->has.last)
        return fail(env, rc, "its last blocks cannot be read", report);
    return weir_disk_damaged(report, env->folder,
                             "shard %" PRIu32 " ends at offset %" PRIu64
                             ", its last record was at %" PRIu64,
                             row->id, last, row->has.last);
}

/*  Steps from shard to shard: each one must have its row.                           */
static weir_err check_shards(const weir_disk_rows *self, const weir_disk_env *env,
                             MDB_txn *txn, MDB_cursor *cursor, bool of_blocks,
                             weir_report *report)
{
    weir_disk_packed packed;
    weir_disk_key at = {0, 0};
    size_t row = 0;
    for (bool over = false; !over;) {
        weir_disk_way way = {0};
        MDB_val value, key = *weir_disk_pack(&packed, at.shard, 0);
        int rc = of_blocks ? weir_disk_check_way(txn, &way, (weir_disk_key){at.shard, 0},
                                                 WEIR_DISK_READS)
                           : 0;
        if (!rc) rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc == MDB_NOTFOUND) return WEIR_OK;
        if (!rc && !weir_disk_unpack(&at, &key)) rc = MDB_CORRUPTED;
        if (rc) return fail(env, rc, "its shards cannot be read", report);
        while (row < self->count && self->items[row].id < at.shard)
            row++;
        if (row == self->count || self->items[row].id != at.shard)
            return weir_disk_damaged(
                report, env->folder,
                "it has records of shard %" PRIu32 ", which it has not", at.shard);
        over = at.shard++ == UINT32_MAX;
    }
    return WEIR_OK;
}

/* --- The newest blocks ------------------------------------------------------------- */

static weir_err check_block(const weir_disk_env *env, weir_disk_key key,
                            const MDB_val *value, weir_report *report)
{
    weir_disk_head head;
    weir_report why = {0};
    if (!weir_disk_block_check(&head, key, value->mv_data, value->mv_size, &why))
        return WEIR_OK;
    return weir_disk_damaged(report, env->folder,
                             "shard %" PRIu32 ", the block that ends at offset %" PRIu64
                             ": %s",
                             key.shard, key.last, why.text);
}

/*  New blocks come behind them, so their pages are changed first.                   */
static weir_err check_newest(const weir_disk_env *env, MDB_txn *txn, MDB_cursor *cursor,
                             uint32_t shard, weir_report *report)
{
    weir_disk_way way = {0};
    weir_disk_key at = {shard, UINT64_MAX};
    MDB_val key, value;
    weir_err err = WEIR_OK;
    int rc = weir_disk_check_way(txn, &way, at, WEIR_DISK_WRITES);
    if (!rc) rc = weir_disk_seek_last(cursor, shard, &at, &value);
    for (int i = 0; !rc && !err && i < checked_blocks; i++) {
        err = check_block(env, at, &value, report);
        rc = weir_disk_check_way(txn, &way, at, WEIR_DISK_WRITES);
        if (!rc) rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
        if (!rc && !weir_disk_unpack(&at, &key)) rc = MDB_CORRUPTED;
        if (!rc && at.shard != shard) break;
    }
    if (err || rc == MDB_NOTFOUND) return err;
    return fail(env, rc, "its newest blocks cannot be read", report);
}

/* --- All of it --------------------------------------------------------------------- */

static weir_err check_all(const weir_disk_rows *self, const weir_disk_env *env,
                          MDB_txn *txn, MDB_cursor *blocks, MDB_cursor *gaps,
                          weir_report *report)
{
    weir_err err = WEIR_OK;
    for (size_t i = 0; i < self->count && !err; i++) {
        err = check_newest(env, txn, blocks, self->items[i].id, report);
        if (!err) err = check_ends(env, gaps, blocks, &self->items[i], report);
    }
    if (!err) err = check_shards(self, env, txn, blocks, true, report);
    if (!err) err = check_shards(self, env, txn, gaps, false, report);
    return err;
}

weir_err weir_disk_check_rows(const weir_disk_rows *self, const weir_disk_env *env,
                              MDB_txn *txn, weir_report *report)
{
    MDB_cursor *blocks, *gaps;
    int rc = mdb_cursor_open(txn, env->blocks, &blocks);
    if (rc) return fail(env, rc, "its blocks cannot be read", report);
    rc = mdb_cursor_open(txn, env->gaps, &gaps);
    weir_err err = rc ? fail(env, rc, "its gaps cannot be read", report)
                      : check_all(self, env, txn, blocks, gaps, report);
    mdb_cursor_close(blocks);
    if (!rc) mdb_cursor_close(gaps);
    return err;
}
