#include "actors/disk_scan.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include "actors/disk_walk.h"
#include "runtime/block.h"

typedef struct {
    const weir_scan *order;
    int fd;
    MDB_env *env;
    MDB_txn *txn;
} scan;

/* --- Telling ----------------------------------------------------------------------- */

static void tell(const scan *self, const weir_told *told)
{
    weir_disk_child_tell(self->fd, told, sizeof *told);
}

static void broken(const scan *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void broken(const scan *self, const char *format, ...)
{
    weir_told told = {.kind = WEIR_TOLD_BROKEN};
    va_list args;
    va_start(args, format);
    vsnprintf(told.text, sizeof told.text, format, args);
    va_end(args);
    tell(self, &told);
}

/* --- Environment ------------------------------------------------------------------- */

static bool open_env(scan *self)
{
    weir_report report = {0};
    int rc = mdb_env_create(&self->env);
    if (!rc) rc = mdb_env_set_maxdbs(self->env, WEIR_DISK_DATABASES);
    if (!rc)
        rc = mdb_env_open(self->env, self->order->folder, MDB_RDONLY | MDB_NOLOCK, 0600);
    if (rc) {
        broken(self, "data.mdb cannot be opened: %s", mdb_strerror(rc));
        return false;
    }
    if (!self->order->again &&
        weir_disk_check_size(self->env, self->order->folder, &report))
        broken(self, "%s", report.text);
    rc = mdb_txn_begin(self->env, NULL, MDB_RDONLY, &self->txn);
    if (rc) broken(self, "data.mdb cannot be read: %s", mdb_strerror(rc));
    return !rc;
}

/*  False, and that is told: it cannot be opened.                                   */
static bool open_table(const scan *self, const char *name, MDB_dbi *table)
{
    int rc = mdb_dbi_open(self->txn, name, 0, table);
    if (rc) broken(self, "the database %s cannot be read: %s", name, mdb_strerror(rc));
    return !rc;
}

/*  True also when the version cannot be read: the blocks may still be.             */
static bool has_our_version(const scan *self)
{
    MDB_dbi meta;
    MDB_val key = {sizeof WEIR_DISK_META_VERSION - 1, WEIR_DISK_META_VERSION}, value;
    if (self->order->again || !open_table(self, WEIR_DISK_META, &meta)) return true;
    int rc = mdb_get(self->txn, meta, &key, &value);
    if (rc || value.mv_size != 4) {
        broken(self, "its version cannot be read: %s",
               rc ? mdb_strerror(rc) : "no number");
        return true;
    }
    const uint8_t *at = value.mv_data;
    uint32_t version = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
                       (uint32_t)at[2] << 8 | (uint32_t)at[3];
    if (version == WEIR_DISK_VERSION || version == WEIR_DISK_VERSION_UNCOUNTED)
        return true;
    broken(self, "it has version %" PRIu32 ", this weir reads version %d", version,
           WEIR_DISK_VERSION);
    return false;
}

/* --- Gaps and fences --------------------------------------------------------------- */

static void tell_gap(const scan *self, const MDB_val *key, const MDB_val *value)
{
    weir_told told = {.kind = WEIR_TOLD_GAP};
    if (weir_disk_key_read(&told.key, key->mv_data, key->mv_size) &&
        weir_disk_gap_read(&told.gap, told.key, value->mv_data, value->mv_size))
        tell(self, &told);
    else
        broken(self, "a gap of shard %" PRIu32 " at offset %" PRIu64 " is none",
               told.key.shard, told.key.last);
}

static void tell_fence(const scan *self, const MDB_val *key, const MDB_val *value)
{
    weir_told told = {.kind = WEIR_TOLD_FENCE};
    if (key->mv_size != WEIR_DISK_KEY_SIZE || value->mv_size != WEIR_DISK_KEY_SIZE) {
        broken(self, "a fence is none");
        return;
    }
    memcpy(told.fence[0], key->mv_data, WEIR_DISK_KEY_SIZE);
    memcpy(told.fence[1], value->mv_data, WEIR_DISK_KEY_SIZE);
    tell(self, &told);
}

/*  Of the table meta: what a shard has, or the sum of all fences.                   */
static void tell_counts(const scan *self, const MDB_val *key, const MDB_val *value)
{
    weir_told told = {.kind = WEIR_TOLD_COUNTS};
    static const size_t name_size = sizeof WEIR_DISK_META_FENCES - 1;
    if (weir_disk_counts_is_key(key->mv_data, key->mv_size)) {
        if (weir_disk_counts_read(&told.counts, &told.key.shard, key->mv_data,
                                  value->mv_data, value->mv_size))
            tell(self, &told);
        else
            broken(self,
                   "what shard %" PRIu32 " has is not known: its counts are damaged",
                   told.key.shard);
    }
    if (key->mv_size == name_size &&
        !memcmp(key->mv_data, WEIR_DISK_META_FENCES, name_size)) {
        told.kind = WEIR_TOLD_FENCE_SUM;
        if (weir_disk_fences_read(&told.fence_sum, value->mv_data, value->mv_size))
            tell(self, &told);
        else
            broken(self, "the sum of its fences is damaged");
    }
}

static void scan_table(const scan *self, const char *name,
                       void (*tell_row)(const scan *, const MDB_val *, const MDB_val *))
{
    MDB_dbi table;
    MDB_cursor *cursor;
    MDB_val key, value;
    if (!open_table(self, name, &table)) return;
    int rc = mdb_cursor_open(self->txn, table, &cursor); // ends with the process
    while (!rc && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
        tell_row(self, &key, &value);
    if (rc != MDB_NOTFOUND)
        broken(self, "the database %s cannot be read: %s", name, mdb_strerror(rc));
}

/* --- Blocks ------------------------------------------------------------------------ */

static weir_err check_records(const weir_disk_head *head, const uint8_t *body,
                              weir_report *report)
{
    weir_block *block =
        weir_block_wrap(body, head->body_bytes, head->count, NULL, 0, NULL, NULL);
    weir_err err = weir_block_check(block);
    weir_block_destroy(&block);
    if (!err) return err;
    return weir_report_set(report, err, NULL,
                           "its bytes are not %" PRIu32 " well-formed records: %s",
                           head->count, weir_err_name(err));
}

static void tell_block(const scan *self, weir_told *told, const MDB_val *value)
{
    weir_report report = {0};
    weir_err err = weir_disk_block_check(&told->head, told->key, value->mv_data,
                                         value->mv_size, &report);
    if (!err)
        err = check_records(
            &told->head, (const uint8_t *)value->mv_data + WEIR_DISK_HEAD_SIZE, &report);
    told->kind = err ? WEIR_TOLD_BAD : WEIR_TOLD_GOOD;
    told->size = !err && self->order->values ? value->mv_size : 0;
    snprintf(told->text, sizeof told->text, "%.199s", report.text);
    tell(self, told);
    weir_disk_child_tell(self->fd, value->mv_data, told->size);
}

static void look_at_block(const scan *self, MDB_cursor *cursor, weir_disk_key key)
{
    weir_told told = {.kind = WEIR_TOLD_KEY, .key = key};
    MDB_val found, value;
    tell(self, &told);
    int rc = mdb_cursor_get(cursor, &found, &value, MDB_GET_CURRENT);
    if (!rc) {
        tell_block(self, &told, &value);
        return;
    }
    told.kind = WEIR_TOLD_BAD;
    snprintf(told.text, sizeof told.text, "it cannot be read: %s", mdb_strerror(rc));
    tell(self, &told);
}

static bool is_above(weir_disk_key a, weir_disk_key b)
{
    return a.shard > b.shard || (a.shard == b.shard && a.last > b.last);
}

/*  A damaged tree may lead anywhere, in circles, too: keys have to rise. Ends the process
    when it can go no further, as a crash would.                                    */
static void scan_blocks(const scan *self)
{
    MDB_dbi table;
    MDB_cursor *cursor;
    uint8_t from[WEIR_DISK_KEY_SIZE];
    MDB_val key = {sizeof from, from};
    weir_disk_key at, before;
    bool first = true;
    if (!open_table(self, WEIR_DISK_BLOCKS, &table)) return;
    weir_disk_key_pack(&self->order->from, from);
    int rc = mdb_cursor_open(self->txn, table, &cursor);
    if (!rc) rc = mdb_cursor_get(cursor, &key, NULL, MDB_SET_RANGE);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, NULL, MDB_NEXT)) {
        if (!weir_disk_key_read(&at, key.mv_data, key.mv_size) ||
            !(first ? !is_above(self->order->from, at) : is_above(at, before))) {
            rc = MDB_CORRUPTED;
            break;
        }
        look_at_block(self, cursor, at);
        before = at;
        first = false;
    }
    if (rc == MDB_NOTFOUND) return;
    broken(self, "the database " WEIR_DISK_BLOCKS " cannot be read: %s",
           mdb_strerror(rc));
    _exit(1);
}

void weir_scan_run(void *arg, int fd)
{
    scan self = {.order = arg, .fd = fd};
    bool good = open_env(&self) && has_our_version(&self);
    for (int phase = self.order->phase; good && phase < WEIR_SCAN_DONE; phase++) {
        if (phase != (int)self.order->phase || !self.order->again)
            tell(&self, &(weir_told){.kind = WEIR_TOLD_PHASE, .phase = phase});
        if (phase == WEIR_SCAN_GAPS)
            scan_table(&self, WEIR_DISK_GAPS, tell_gap);
        else if (phase == WEIR_SCAN_FENCES)
            scan_table(&self, WEIR_DISK_FENCES, tell_fence);
        else if (phase == WEIR_SCAN_COUNTS)
            scan_table(&self, WEIR_DISK_META, tell_counts);
        else
            scan_blocks(&self);
    }
    tell(&self, &(weir_told){.kind = WEIR_TOLD_END});
}
