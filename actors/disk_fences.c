#include <stdlib.h>
#include "actors/disk_store.h"

static MDB_val sum_key(void)
{
    return (MDB_val){sizeof WEIR_DISK_META_FENCES - 1, WEIR_DISK_META_FENCES};
}

int weir_disk_fences_put(const weir_disk_env *env, MDB_txn *txn, uint64_t sum)
{
    uint8_t bytes[WEIR_DISK_FENCES_SIZE];
    MDB_val key = sum_key(), value = {sizeof bytes, bytes};
    if (!env->counted) return 0;
    weir_disk_fences_pack(sum, bytes);
    return mdb_put(txn, env->meta, &key, &value, 0);
}

/*  Whether the sum is the one that is kept.                                         */
static int compare_sum(const weir_disk_env *env, MDB_txn *txn, uint64_t sum)
{
    MDB_val key = sum_key(), value;
    uint64_t kept;
    if (!env->counted) return 0;
    int rc = mdb_get(txn, env->meta, &key, &value);
    if (rc) return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
    bool same = weir_disk_fences_read(&kept, value.mv_data, value.mv_size) && kept == sum;
    return same ? 0 : MDB_CORRUPTED;
}

typedef struct {
    weir_fence *items; // owned
    size_t count;
    uint64_t sum;
} fences;

static void add(fences *self, weir_disk_key to, weir_disk_key from)
{
    self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
    if (!self->items) abort();
    self->items[self->count++] = (weir_fence){from.shard, from.last, to.shard, to.last};
}

static int read_all(fences *self, const weir_disk_env *env, MDB_txn *txn)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    weir_disk_key to, from;
    int rc = mdb_cursor_open(txn, env->fences, &cursor);
    if (rc) return rc;
    while (!(rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) {
        if (!weir_disk_unpack(&to, &key) || !weir_disk_unpack(&from, &value)) {
            rc = MDB_CORRUPTED;
            break;
        }
        add(self, to, from);
        self->sum += weir_disk_fence_sum(key.mv_data, value.mv_data);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? compare_sum(env, txn, self->sum) : rc;
}

int weir_disk_fences_sum(const weir_disk_env *env, MDB_txn *txn, uint64_t *sum)
{
    fences all = {.items = NULL};
    int rc = read_all(&all, env, txn);
    free(all.items);
    *sum = all.sum;
    return rc;
}

weir_err weir_disk_list_fences(weir_store *store, weir_fence **list, size_t *count,
                               weir_report *report)
{
    weir_disk *self = (weir_disk *)store;
    MDB_txn *txn;
    fences all = {.items = NULL};
    *list = NULL;
    *count = 0;
    weir_err err = weir_disk_read_begin(self, &txn, report);
    if (err) return err;
    int rc = read_all(&all, &self->env, txn);
    if (rc)
        err = weir_disk_damaged(report, self->env.folder,
                                "its fences are not those it had");
    weir_disk_read_end(self, &txn);
    if (err) {
        free(all.items);
        return err;
    }
    *list = all.items;
    *count = all.count;
    return WEIR_OK;
}
