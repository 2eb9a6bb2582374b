/*  Where in a shard of the disk store a time begins.                               */
#include "actors/disk_store.h"

/*  Halves (low, high] until nothing is left; *behind is the offset before the first block
    that arrived then or later. A clock that went back may make it a later one. A block
    with a damaged header counts as an earlier one.                                 */
static int halve(MDB_cursor *cursor, uint32_t shard, uint64_t low, uint64_t high,
                 int64_t since_ms, uint64_t *behind)
{
    weir_disk_packed packed;
    weir_disk_key at;
    weir_disk_head head;
    weir_disk_way way = {0};
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        MDB_val value, key = *weir_disk_pack(&packed, shard, middle);
        int rc = weir_disk_check_way(mdb_cursor_txn(cursor), &way,
                                     (weir_disk_key){shard, middle}, WEIR_DISK_READS);
        if (!rc) rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc && rc != MDB_NOTFOUND) return rc;
        if (rc || !weir_disk_unpack(&at, &key) || at.shard != shard || at.last > high) {
            high = middle - 1;
            continue;
        }
        if (weir_disk_head_read(&head, at, value.mv_data, value.mv_size, NULL) ||
            head.arrived_ms < since_ms) {
            low = at.last;
            continue;
        }
        *behind = head.first - 1;
        high = (head.first < middle ? head.first : middle) - 1;
    }
    return 0;
}

int weir_disk_find_since(const weir_disk_env *env, MDB_txn *txn, uint32_t shard,
                         int64_t since_ms, uint64_t *position)
{
    MDB_cursor *cursor;
    uint64_t last, after = *position;
    int rc = weir_disk_last_of(env, txn, shard, &last);
    if (!rc) rc = mdb_cursor_open(txn, env->blocks, &cursor);
    if (rc) return rc;
    uint64_t behind = last;
    rc = halve(cursor, shard, after, last, since_ms, &behind);
    mdb_cursor_close(cursor);
    if (behind > after) *position = behind;
    return rc;
}
