#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/disk_store.h"
#include "actors/lmdb_use.h"
#include "runtime/files.h"

enum { readers_max = 512, adoptions_max = 100 };

static const uint8_t version[4] = {0, 0, 0, WEIR_DISK_VERSION};
static const uint8_t uncounted[4] = {0, 0, 0, WEIR_DISK_VERSION_UNCOUNTED};

static MDB_val text_val(const char *text)
{
    return (MDB_val){strlen(text), (void *)text};
}

/* --- Opening ----------------------------------------------------------------------- */

static int open_databases(weir_disk_env *self, MDB_txn *txn, unsigned flags)
{
    int rc = mdb_dbi_open(txn, WEIR_DISK_BLOCKS, flags, &self->blocks);
    if (!rc) rc = mdb_dbi_open(txn, WEIR_DISK_GAPS, flags, &self->gaps);
    if (!rc) rc = mdb_dbi_open(txn, WEIR_DISK_FENCES, flags | MDB_DUPSORT, &self->fences);
    if (!rc) rc = mdb_dbi_open(txn, WEIR_DISK_META, flags, &self->meta);
    return rc;
}

static int open_env(weir_disk_env *self, const char *folder, int64_t map_bytes,
                    unsigned flags)
{
    snprintf(self->folder, sizeof self->folder, "%s", folder);
    int rc = mdb_env_create(&self->env);
    if (rc) return rc;
    weir_lmdb_watch(self->env);
    rc = mdb_env_set_maxdbs(self->env, WEIR_DISK_DATABASES);
    if (!rc) rc = mdb_env_set_maxreaders(self->env, readers_max);
    if (!rc && map_bytes) rc = mdb_env_set_mapsize(self->env, (size_t)map_bytes);
    if (!rc) rc = mdb_env_open(self->env, folder, flags | MDB_NOTLS, 0600);
    return rc;
}

int weir_disk_version_put(const weir_disk_env *self, MDB_txn *txn)
{
    MDB_val key = text_val(WEIR_DISK_META_VERSION),
            value = {sizeof version, (void *)version};
    return mdb_put(txn, self->meta, &key, &value, 0);
}

static int fill(weir_disk_env *self)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(self->env, NULL, 0, &txn);
    if (rc) return rc;
    rc = open_databases(self, txn, MDB_CREATE);
    self->counted = true;
    if (!rc) rc = weir_disk_version_put(self, txn);
    if (!rc) rc = weir_disk_fences_put(self, txn, 0);
    if (!rc) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

/*  Our files and no others, so that a mistaken path costs nothing.                  */
static void remove_folder(const char *folder)
{
    char file[WEIR_DISK_FOLDER_MAX + 16];
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    unlink(file);
    snprintf(file, sizeof file, "%s/lock.mdb", folder);
    unlink(file);
    rmdir(folder);
}

int weir_disk_env_make(weir_disk_env *self, const char *path, unsigned number,
                       int64_t map_bytes)
{
    char folder[WEIR_DISK_FOLDER_MAX], file[WEIR_DISK_FOLDER_MAX + 16];
    *self = (weir_disk_env){0};
    snprintf(folder, sizeof folder, "%s/%07u", path, number);
    remove_folder(folder);
    if (mkdir(folder, 0700)) return errno;
    int rc = open_env(self, folder, map_bytes, 0);
    if (!rc) rc = fill(self);
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    if (!rc && (weir_sync_folder(file) || weir_sync_folder(folder))) rc = errno;
    if (!rc) return 0;
    weir_disk_env_close(self);
    remove_folder(folder);
    return rc;
}

static weir_err report_open(const weir_disk_env *self, int rc, weir_report *report)
{
    weir_err err = rc == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS;
    if (rc < 0) return weir_disk_damaged(report, self->folder, "%s", mdb_strerror(rc));
    weir_report_set(report, err, self->folder, "cannot open the environment: %s",
                    mdb_strerror(rc));
    errno = rc;
    return err;
}

static weir_err check_version(weir_disk_env *self, MDB_txn *txn, weir_report *report)
{
    MDB_val key = text_val(WEIR_DISK_META_VERSION), value;
    int rc = mdb_get(txn, self->meta, &key, &value);
    bool is_number = !rc && value.mv_size == sizeof version;
    self->counted = is_number && !memcmp(value.mv_data, version, sizeof version);
    if (self->counted ||
        (is_number && !memcmp(value.mv_data, uncounted, sizeof uncounted)))
        return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, self->folder,
                           "its format is not version %d: it is of another weir, or "
                           "damaged; `weir bus verify` tells more",
                           WEIR_DISK_VERSION);
}

/*  LMDB would take an empty file for one that it has to make.                       */
static weir_err check_file(const char *folder, weir_report *report)
{
    char file[WEIR_DISK_FOLDER_MAX + 16];
    struct stat st;
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    if (stat(file, &st))
        return weir_report_set(report, errno == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS, file,
                               "cannot open: %s", strerror(errno));
    if (st.st_size) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, file, "it was cut: it is empty");
}

static weir_err check_pages(const char *folder, bool all, weir_report *report)
{
    weir_report why = {0};
    weir_err err = weir_disk_check_pages(folder, all, &why);
    if (err == WEIR_EMALFORMED) return weir_disk_damaged(report, folder, "%s", why.text);
    if (err && report) *report = why;
    return err;
}

static weir_err attach(weir_disk_env *self, weir_report *report)
{
    MDB_txn *txn;
    weir_err err = weir_disk_check_size(self->env, self->folder, report);
    if (err) return err;
    int rc = mdb_txn_begin(self->env, NULL, MDB_RDONLY, &txn);
    if (rc) return report_open(self, rc, report);
    rc = open_databases(self, txn, 0);
    err = rc ? report_open(self, rc, report) : check_version(self, txn, report);
    if (!err && (rc = mdb_txn_commit(txn))) return report_open(self, rc, report);
    if (err) mdb_txn_abort(txn);
    return err;
}

weir_err weir_disk_env_open(weir_disk_env *self, const char *folder, int64_t map_bytes,
                            bool readonly, weir_report *report)
{
    int dead;
    *self = (weir_disk_env){0};
    weir_err err = check_file(folder, report);
    if (!err && !readonly) err = check_pages(folder, false, report);
    if (err) return err;
    int rc = open_env(self, folder, map_bytes, readonly ? MDB_RDONLY : 0);
    err = rc ? report_open(self, rc, report) : attach(self, report);
    if (!err && !readonly && !self->counted) // all of it will be read
        err = check_pages(folder, true, report);
    if (err)
        weir_disk_env_close(self);
    else
        mdb_reader_check(self->env, &dead);
    return err;
}

void weir_disk_env_close(weir_disk_env *self)
{
    int saved = errno;
    if (self->env) mdb_env_close(self->env);
    self->env = NULL;
    errno = saved;
}

/* --- CURRENT ----------------------------------------------------------------------- */

unsigned weir_disk_number(const weir_disk_env *self)
{
    const char *slash = strrchr(self->folder, '/');
    return slash ? (unsigned)strtoul(slash + 1, NULL, 10) : 0;
}

int weir_disk_set_current(const char *path, unsigned number)
{
    char file[WEIR_DISK_FOLDER_MAX], text[16];
    int size = snprintf(text, sizeof text, "%07u\n", number);
    snprintf(file, sizeof file, "%s/CURRENT", path);
    return weir_replace_file(file, text, (size_t)size, 0600, true) ? errno : 0;
}

/*  One that cannot be opened has no readers that would see it.                     */
static void mark(const char *folder)
{
    weir_disk_env env;
    MDB_txn *txn;
    MDB_val key = text_val(WEIR_DISK_META_SUPERSEDED), value = text_val("yes");
    if (weir_disk_env_open(&env, folder, 0, false, NULL)) return;
    if (mdb_txn_begin(env.env, NULL, 0, &txn) == 0) {
        if (mdb_put(txn, env.meta, &key, &value, 0))
            mdb_txn_abort(txn);
        else
            mdb_txn_commit(txn);
    }
    weir_disk_env_close(&env);
}

void weir_disk_env_remove(const char *folder)
{
    mark(folder);
    remove_folder(folder);
}

/* --- Pages ------------------------------------------------------------------------- */

/*  Database 0 is LMDB's list of free pages, 1 the one with the names.               */
int weir_disk_count_pages(const weir_disk_env *self, MDB_txn *txn, weir_disk_pages *is)
{
    const MDB_dbi all[] = {0, 1, self->blocks, self->gaps, self->fences, self->meta};
    MDB_envinfo info;
    MDB_stat stat;
    uint64_t used = 2;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int rc = mdb_stat(txn, all[i], &stat);
        if (rc) return rc;
        used += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    }
    mdb_env_info(self->env, &info);
    is->pages = info.me_last_pgno + 1;
    is->free = is->pages > used ? is->pages - used : 0;
    is->page_bytes = stat.ms_psize;
    return 0;
}

/* --- Read transactions ------------------------------------------------------------- */

static bool is_superseded(const weir_disk_env *self, MDB_txn *txn)
{
    MDB_val key = text_val(WEIR_DISK_META_SUPERSEDED), value;
    return mdb_get(txn, self->meta, &key, &value) == 0;
}

/*  WEIR_ENOTFOUND: the writer may have removed the folder after the look at CURRENT. */
static weir_err reopen(weir_disk *self, weir_report *report)
{
    char folder[WEIR_DISK_FOLDER_MAX];
    weir_err err = weir_disk_current(folder, self->path, report);
    if (err) return err;
    pthread_rwlock_wrlock(&self->env_lock);
    if (!self->env.env || strcmp(self->env.folder, folder)) {
        weir_disk_env fresh;
        err = weir_disk_env_open(&fresh, folder, 0, true, report);
        if (!err) {
            weir_disk_env_close(&self->env);
            self->env = fresh;
        }
    }
    pthread_rwlock_unlock(&self->env_lock);
    return err;
}

static void adopt_size(weir_disk *self)
{
    pthread_rwlock_wrlock(&self->env_lock);
    mdb_env_set_mapsize(self->env.env, 0);
    pthread_rwlock_unlock(&self->env_lock);
}

/*  One attempt; MDB_MAP_RESIZED, MDB_BAD_TXN (superseded), or another code.         */
static int begin(weir_disk *self, MDB_txn **txn_p)
{
    int dead, rc = MDB_BAD_TXN;
    pthread_rwlock_rdlock(&self->env_lock);
    if (self->env.env) rc = mdb_txn_begin(self->env.env, NULL, MDB_RDONLY, txn_p);
    if (rc == MDB_READERS_FULL && !mdb_reader_check(self->env.env, &dead) && dead)
        rc = mdb_txn_begin(self->env.env, NULL, MDB_RDONLY, txn_p);
    if (!rc && self->readonly && is_superseded(&self->env, *txn_p)) {
        mdb_txn_abort(*txn_p);
        rc = MDB_BAD_TXN;
    }
    if (rc) pthread_rwlock_unlock(&self->env_lock);
    return rc;
}

weir_err weir_disk_read_begin(weir_disk *self, MDB_txn **txn_p, weir_report *report)
{
    int rc = 0;
    for (int i = 0; i < adoptions_max; i++) {
        rc = begin(self, txn_p);
        if (!rc) weir_lmdb_enter(self->env.folder);
        if (!rc) return WEIR_OK;
        if (rc == MDB_MAP_RESIZED) {
            adopt_size(self);
        } else if (rc == MDB_BAD_TXN && self->readonly) {
            weir_err err = reopen(self, report);
            if (err && (err != WEIR_ENOTFOUND || i + 1 == adoptions_max)) return err;
        } else {
            break;
        }
    }
    return weir_report_set(report, rc > 0 ? WEIR_ESYS : WEIR_EMALFORMED, self->path,
                           "cannot read: %s", mdb_strerror(rc));
}

void weir_disk_read_end(weir_disk *self, MDB_txn **txn_p)
{
    mdb_txn_abort(*txn_p);
    weir_lmdb_leave();
    *txn_p = NULL;
    pthread_rwlock_unlock(&self->env_lock);
}
