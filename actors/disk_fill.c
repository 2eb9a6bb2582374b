#include "actors/disk_fill.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "runtime/files.h"

/*  LMDB keeps the pages of a transaction in memory.                                */
static const size_t commit_bytes = 16 << 20;
static const uint64_t map_min_bytes = 16 << 20;

struct weir_disk_fill {
    char path[WEIR_DISK_FOLDER_MAX - 64];
    MDB_env *env;
    MDB_txn *txn; // NULL: none is open
    MDB_dbi blocks, gaps, fences, meta;
    size_t uncommitted; // bytes
    uint32_t shard;     // what is filled now
    weir_disk_counts has;
    uint64_t fence_sum;
    /*  The last gap, not stored yet; shard and last are in key.                    */
    bool has_gap;
    weir_disk_key gap_key;
    weir_disk_gap gap;
};

static weir_err failed(const weir_disk_fill *self, int rc, weir_report *report)
{
    errno = rc > 0 ? rc : EIO;
    return weir_report_set(report, WEIR_ESYS, self->path, "cannot write: %s",
                           mdb_strerror(rc));
}

/* --- Making ------------------------------------------------------------------------ */

static bool is_empty(const char *path)
{
    int entries = 0;
    DIR *list = opendir(path);
    while (list && readdir(list))
        entries++;
    if (list) closedir(list);
    return list && entries <= 2; // "." and ".."
}

static weir_err make_folders(const weir_disk_fill *self, const char *inner,
                             weir_report *report)
{
    if (mkdir(self->path, 0700) && errno != EEXIST)
        return weir_report_set(report, WEIR_ESYS, self->path, "cannot make it: %s",
                               strerror(errno));
    if (!is_empty(self->path))
        return weir_report_set(report, WEIR_EREFUSED, self->path,
                               "something is there: name a new folder");
    if (mkdir(inner, 0700))
        return weir_report_set(report, WEIR_ESYS, inner, "cannot make it: %s",
                               strerror(errno));
    return WEIR_OK;
}

static int open_tables(weir_disk_fill *self)
{
    static uint8_t version[4] = {0, 0, 0, WEIR_DISK_VERSION};
    MDB_val key = {sizeof WEIR_DISK_META_VERSION - 1, WEIR_DISK_META_VERSION};
    MDB_val value = {sizeof version, version};
    int rc = mdb_dbi_open(self->txn, WEIR_DISK_BLOCKS, MDB_CREATE, &self->blocks);
    if (!rc) rc = mdb_dbi_open(self->txn, WEIR_DISK_GAPS, MDB_CREATE, &self->gaps);
    if (!rc)
        rc = mdb_dbi_open(self->txn, WEIR_DISK_FENCES, MDB_CREATE | MDB_DUPSORT,
                          &self->fences);
    if (!rc) rc = mdb_dbi_open(self->txn, WEIR_DISK_META, MDB_CREATE, &self->meta);
    return rc ? rc : mdb_put(self->txn, self->meta, &key, &value, 0);
}

static int open_env(weir_disk_fill *self, const char *inner, uint64_t bytes)
{
    int rc = mdb_env_create(&self->env);
    if (!rc) rc = mdb_env_set_maxdbs(self->env, WEIR_DISK_DATABASES);
    if (!rc) rc = mdb_env_set_mapsize(self->env, 2 * bytes + map_min_bytes);
    if (!rc) rc = mdb_env_open(self->env, inner, MDB_NOTLS, 0600);
    if (!rc) rc = mdb_txn_begin(self->env, NULL, 0, &self->txn);
    return rc ? rc : open_tables(self);
}

weir_err weir_disk_fill_open(weir_disk_fill **self_p, const char *path, uint64_t bytes,
                             weir_report *report)
{
    char inner[WEIR_DISK_FOLDER_MAX];
    weir_disk_fill *self = calloc(1, sizeof *self);
    if (!self) abort();
    snprintf(self->path, sizeof self->path, "%s", path);
    snprintf(inner, sizeof inner, "%s/0000001", self->path);
    weir_err err = make_folders(self, inner, report);
    int rc = err ? 0 : open_env(self, inner, bytes);
    if (rc) err = failed(self, rc, report);
    *self_p = self;
    if (err) weir_disk_fill_destroy(self_p);
    return err;
}

/* --- Filling ----------------------------------------------------------------------- */

static int commit(weir_disk_fill *self)
{
    int rc = mdb_txn_commit(self->txn);
    self->txn = NULL;
    self->uncommitted = 0;
    return rc;
}

static weir_err put(weir_disk_fill *self, MDB_dbi table, MDB_val key, MDB_val value,
                    weir_report *report)
{
    int rc = self->txn ? 0 : mdb_txn_begin(self->env, NULL, 0, &self->txn);
    unsigned behind = table == self->fences ? MDB_APPENDDUP : MDB_APPEND;
    if (!rc) rc = mdb_put(self->txn, table, &key, &value, behind);
    self->uncommitted += value.mv_size;
    if (!rc && self->uncommitted >= commit_bytes) rc = commit(self);
    return rc ? failed(self, rc, report) : WEIR_OK;
}

/*  Of a table whose keys come in any order.                                         */
static weir_err put_meta(weir_disk_fill *self, MDB_val key, MDB_val value,
                         weir_report *report)
{
    int rc = self->txn ? 0 : mdb_txn_begin(self->env, NULL, 0, &self->txn);
    if (!rc) rc = mdb_put(self->txn, self->meta, &key, &value, 0);
    return rc ? failed(self, rc, report) : WEIR_OK;
}

/*  What a shard has is known when the next one comes.                               */
static weir_err put_counts(weir_disk_fill *self, weir_report *report)
{
    uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE], value[WEIR_DISK_COUNTS_SIZE];
    if (!self->has.last) return WEIR_OK;
    weir_disk_counts_pack(&self->has, self->shard, key, value);
    self->has = (weir_disk_counts){0};
    return put_meta(self, (MDB_val){sizeof key, key}, (MDB_val){sizeof value, value},
                    report);
}

static weir_err come_to(weir_disk_fill *self, uint32_t shard, uint64_t last,
                        weir_report *report)
{
    weir_err err = shard == self->shard ? WEIR_OK : put_counts(self, report);
    self->shard = shard;
    self->has.last = last;
    return err;
}

weir_err weir_disk_fill_block(weir_disk_fill *self, weir_disk_key key, const void *value,
                              size_t size, weir_report *report)
{
    uint8_t packed[WEIR_DISK_KEY_SIZE];
    weir_err err = come_to(self, key.shard, key.last, report);
    if (err) return err;
    self->has.bytes += size - WEIR_DISK_HEAD_SIZE;
    weir_disk_key_pack(&key, packed);
    return put(self, self->blocks, (MDB_val){sizeof packed, packed},
               (MDB_val){size, (void *)value}, report);
}

static weir_err put_gap(weir_disk_fill *self, weir_report *report)
{
    uint8_t key[WEIR_DISK_KEY_SIZE], value[WEIR_DISK_GAP_SIZE];
    if (!self->has_gap) return WEIR_OK;
    self->has_gap = false;
    weir_disk_key_pack(&self->gap_key, key);
    weir_disk_gap_pack(&self->gap, value);
    return put(self, self->gaps, (MDB_val){sizeof key, key},
               (MDB_val){sizeof value, value}, report);
}

weir_err weir_disk_fill_gap(weir_disk_fill *self, uint32_t shard, uint64_t first,
                            uint64_t last, bool damaged, weir_report *report)
{
    weir_err err = come_to(self, shard, last, report);
    if (err) return err;
    *(damaged ? &self->has.damaged : &self->has.trimmed) += last - first + 1;
    if (self->has_gap && self->gap_key.shard == shard && self->gap.damaged == damaged &&
        self->gap_key.last + 1 == first) {
        self->gap_key.last = last;
        return WEIR_OK;
    }
    err = put_gap(self, report);
    self->has_gap = true;
    self->gap_key = (weir_disk_key){shard, last};
    self->gap = (weir_disk_gap){first, damaged};
    return err;
}

weir_err weir_disk_fill_fence(weir_disk_fill *self, const uint8_t key[WEIR_DISK_KEY_SIZE],
                              const uint8_t value[WEIR_DISK_KEY_SIZE],
                              weir_report *report)
{
    self->fence_sum += weir_disk_fence_sum(key, value);
    return put(self, self->fences, (MDB_val){WEIR_DISK_KEY_SIZE, (void *)key},
               (MDB_val){WEIR_DISK_KEY_SIZE, (void *)value}, report);
}

/* --- Ending ------------------------------------------------------------------------ */

static weir_err put_fence_sum(weir_disk_fill *self, weir_report *report)
{
    uint8_t bytes[WEIR_DISK_FENCES_SIZE];
    MDB_val key = {sizeof WEIR_DISK_META_FENCES - 1, WEIR_DISK_META_FENCES};
    weir_disk_fences_pack(self->fence_sum, bytes);
    return put_meta(self, key, (MDB_val){sizeof bytes, bytes}, report);
}

weir_err weir_disk_fill_close(weir_disk_fill *self, weir_report *report)
{
    static const char name[] = "0000001\n";
    char current[WEIR_DISK_FOLDER_MAX], data[WEIR_DISK_FOLDER_MAX];
    weir_err err = put_gap(self, report);
    if (!err) err = put_counts(self, report);
    if (!err) err = put_fence_sum(self, report);
    int rc = !err && self->txn ? commit(self) : 0;
    if (rc) err = failed(self, rc, report);
    if (err) return err;
    snprintf(current, sizeof current, "%s/CURRENT", self->path);
    snprintf(data, sizeof data, "%s/0000001/data.mdb", self->path);
    if (weir_sync_folder(data) || weir_sync_folder(self->path) ||
        weir_replace_file(current, name, sizeof name - 1, 0600, true))
        return weir_report_set(report, WEIR_ESYS, current, "cannot write: %s",
                               strerror(errno));
    return WEIR_OK;
}

void weir_disk_fill_destroy(weir_disk_fill **self_p)
{
    weir_disk_fill *self = *self_p;
    if (!self) return;
    if (self->txn) mdb_txn_abort(self->txn);
    if (self->env) mdb_env_close(self->env);
    free(self);
    *self_p = NULL;
}
