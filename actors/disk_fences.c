/*  Fences of the disk store, and the sum by which damage of them is found.          */
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

int weir_disk_read_fences(const weir_disk_env *env, MDB_txn *txn, weir_fence **list,
                          size_t *count, uint64_t *sum)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    weir_disk_key to, from;
    size_t room = 0;
    *sum = 0;
    int rc = mdb_cursor_open(txn, env->fences, &cursor);
    if (rc) return rc;
    while (!(rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) {
        if (!weir_disk_unpack(&to, &key) || !weir_disk_unpack(&from, &value)) {
            rc = MDB_CORRUPTED;
            break;
        }
        if (*count == room) {
            room = room ? 2 * room : 16;
            *list = realloc(*list, room * sizeof **list);
            if (!*list) abort();
        }
        (*list)[(*count)++] = (weir_fence){
            .from = from.shard, .last.a = from.last, .to = to.shard, .first.a = to.last};
        *sum += weir_disk_fence_sum(key.mv_data, value.mv_data);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? compare_sum(env, txn, *sum) : rc;
}

int weir_disk_fences_sum(const weir_disk_env *env, MDB_txn *txn, uint64_t *sum)
{
    weir_fence *list = NULL;
    size_t count = 0;
    int rc = weir_disk_read_fences(env, txn, &list, &count, sum);
    free(list);
    return rc;
}

weir_err weir_disk_list_fences(weir_store *store, weir_fence **list, size_t *count,
                               weir_report *report)
{
    weir_disk *self = (weir_disk *)store;
    MDB_txn *txn;
    uint64_t sum;
    *list = NULL;
    *count = 0;
    weir_err err = weir_disk_read_begin(self, &txn, report);
    if (err) return err;
    if (weir_disk_read_fences(&self->env, txn, list, count, &sum))
        err = weir_disk_damaged(report, self->env.folder,
                                "its fences are not those it had");
    weir_disk_read_end(self, &txn);
    if (!err) return WEIR_OK;
    free(*list);
    *list = NULL;
    *count = 0;
    return err;
}
