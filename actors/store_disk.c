#include "actors/store_disk.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/disk_store.h"
#include "runtime/files.h"
#include "runtime/log.h"

const weir_disk_config weir_disk_defaults = {
    .map_bytes = INT64_C(1) << 30,
    .map_max_bytes = INT64_C(1) << 40,
    .commit_bytes = 8 << 20,
    .compact_at = 0.5,
    .keep_age_us = WEIR_FOREVER,
    .keep_bytes = WEIR_FOREVER,
    .keep_records = WEIR_FOREVER,
    .hold = true,
};

/* --- Once in a process ------------------------------------------------------------- */

/*  LMDB's locks of a file are the process's: a second environment of it, when closed,
    would release those of the first. So a process opens a store once.               */
static pthread_mutex_t opened_mutex = PTHREAD_MUTEX_INITIALIZER;
static weir_disk *opened;

static weir_err enter(weir_disk *self, weir_report *report)
{
    struct stat st;
    if (stat(self->path, &st))
        return weir_report_set(report, errno == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS,
                               self->path, "cannot open the store: %s", strerror(errno));
    self->device = st.st_dev;
    self->inode = st.st_ino;
    pthread_mutex_lock(&opened_mutex);
    weir_disk *other = opened;
    while (other && (other->device != st.st_dev || other->inode != st.st_ino))
        other = other->next;
    if (!other) {
        self->next = opened;
        opened = self;
        self->entered = true;
    }
    pthread_mutex_unlock(&opened_mutex);
    if (!other) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, self->path,
                           "this process has this store open already");
}

static void leave(weir_disk *self)
{
    if (!self->entered) return;
    pthread_mutex_lock(&opened_mutex);
    weir_disk **at = &opened;
    while (*at != self)
        at = &(*at)->next;
    *at = self->next;
    pthread_mutex_unlock(&opened_mutex);
}

/* --- Opening ----------------------------------------------------------------------- */

static const weir_store_class class;

/*  A writer that waits for the environment must not wait for reader after reader.    */
static void init_locks(weir_disk *self)
{
    pthread_rwlockattr_t attr;
    pthread_condattr_t monotonic;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&self->env_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&self->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static weir_disk *make(const weir_disk_config *config, const char *path)
{
    weir_disk *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->store.class = &class;
    self->config = *config;
    self->config.path = self->path = strdup(path);
    self->config.name = self->name = strdup(config->name ? config->name : "disk");
    if (!self->path || !self->name) abort();
    self->keep =
        (weir_disk_keep){config->keep_age_us, config->keep_bytes, config->keep_records};
    self->lock = self->wake = self->inotify_fd = self->watch_end = -1;
    self->commit = mdb_txn_commit;
    self->sweep =
        (weir_disk_sweep){.changed = true, .first_of = weir_disk_first_of, .arg = self};
    init_locks(self);
    return self;
}

/*  Accepts one that is half open. The flusher has ended.                            */
static void destroy(weir_disk *self)
{
    weir_disk_watch_fini(self);
    weir_disk_groups_fini(self);
    weir_disk_sweep_fini(&self->sweep);
    weir_disk_env_close(&self->env);
    leave(self);
    for (size_t i = 0; i < self->shard_count; i++)
        free(self->shards[i]);
    free(self->shards);
    weir_disk_sum_destroy(&self->sum);
    if (self->wake >= 0) close(self->wake);
    if (self->lock >= 0) close(self->lock);
    pthread_cond_destroy(&self->answered);
    pthread_mutex_destroy(&self->mutex);
    pthread_rwlock_destroy(&self->env_lock);
    free(self->path);
    free(self->name);
    free(self);
}

/*  Folders that a compaction has left behind: their readers are told, and they go.   */
static void remove_others(weir_disk *self)
{
    char folder[WEIR_DISK_FOLDER_MAX];
    DIR *dir = opendir(self->path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strlen(entry->d_name) != 7 || strspn(entry->d_name, "0123456789") != 7 ||
            (unsigned)atoi(entry->d_name) == weir_disk_number(&self->env))
            continue;
        snprintf(folder, sizeof folder, "%s/%s", self->path, entry->d_name);
        weir_disk_env_remove(folder);
    }
    closedir(dir);
}

static weir_err make_env(weir_disk *self, weir_report *report)
{
    int rc = weir_disk_env_make(&self->env, self->path, 1, self->config.map_bytes);
    if (!rc) rc = weir_disk_set_current(self->path, 1);
    if (!rc) return WEIR_OK;
    errno = rc > 0 ? rc : EIO;
    return weir_report_set(report, WEIR_ESYS, self->path, "cannot make the store: %s",
                           mdb_strerror(rc));
}

/*  Only where nothing says that there was one.                                      */
static weir_err open_env(weir_disk *self, weir_report *report)
{
    char folder[WEIR_DISK_FOLDER_MAX];
    weir_report why = {0};
    weir_err err = weir_disk_current(folder, self->path, &why);
    if (err == WEIR_ENOTFOUND) return make_env(self, report);
    if (!err)
        err = weir_disk_env_open(&self->env, folder, self->config.map_bytes, false, &why);
    if (err == WEIR_ENOTFOUND) err = why.err = WEIR_EMALFORMED;
    if (err && report) *report = why;
    return err;
}

/*  A store that was written before stores kept what they have does so from now on.   */
static weir_err begin_counts(weir_disk *self, const weir_disk_rows *rows,
                             weir_report *report)
{
    int rc = self->env.counted ? 0 : weir_disk_rows_begin(rows, &self->env);
    while (rc == MDB_MAP_FULL && !weir_disk_grow(self))
        rc = weir_disk_rows_begin(rows, &self->env);
    if (!rc) return WEIR_OK;
    errno = rc > 0 ? rc : EIO;
    return weir_report_set(report, WEIR_ESYS, self->path,
                           "cannot write what its shards have: %s", mdb_strerror(rc));
}

static weir_err load(weir_disk *self, weir_report *report)
{
    weir_disk_rows rows = {0};
    MDB_txn *txn;
    weir_err err = weir_disk_read_begin(self, &txn, report);
    if (err) return err;
    int rc = weir_disk_rows_load(&rows, &self->env, txn);
    if (rc)
        err = weir_disk_damaged(report, self->env.folder,
                                "what its shards have cannot be read");
    else
        err = weir_disk_check_rows(&rows, &self->env, txn, report);
    if (!err && weir_disk_fences_sum(&self->env, txn, &self->fence_sum))
        err = weir_disk_damaged(report, self->env.folder,
                                "its fences are not those it had");
    for (size_t i = 0; i < rows.count && !err; i++)
        weir_disk_shard_of(self, rows.items[i].id)->now.row = rows.items[i];
    weir_disk_read_end(self, &txn);
    if (!err) err = begin_counts(self, &rows, report);
    free(rows.items);
    return err;
}

static weir_err open_all(weir_disk *self, weir_report *report)
{
    if (mkdir(self->path, 0700) && errno != EEXIST)
        return weir_report_set(report, WEIR_ESYS, self->path,
                               "cannot make the folder: %s", strerror(errno));
    weir_err err = enter(self, report);
    if (!err && !self->config.locked)
        err = weir_disk_lock(&self->lock, self->path, true, report);
    if (!err) err = open_env(self, report);
    if (err) return err;
    remove_others(self);
    self->sum = weir_disk_sum_new();
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake < 0)
        return weir_report_set(report, WEIR_ESYS, self->path,
                               "cannot open an eventfd: %s", strerror(errno));
    err = load(self, report);
    if (err) return err;
    weir_disk_count(self);
    return weir_disk_flusher_start(self, report);
}

weir_err weir_disk_open(weir_store **self_p, const weir_disk_config *config,
                        weir_report *report)
{
    weir_disk *self = make(config, config->path);
    weir_err err = open_all(self, report);
    int saved = errno;
    if (err)
        destroy(self);
    else
        *self_p = &self->store;
    errno = saved;
    return err;
}

/*  The first read transaction opens the environment that CURRENT names then.         */
weir_err weir_disk_open_readonly(weir_store **self_p, const char *path,
                                 weir_report *report)
{
    char folder[WEIR_DISK_FOLDER_MAX];
    MDB_txn *txn;
    weir_disk *self = make(&weir_disk_defaults, path);
    self->readonly = true;
    weir_err err = enter(self, report);
    if (!err) err = weir_disk_current(folder, path, report);
    if (!err) err = weir_disk_read_begin(self, &txn, report);
    if (err) {
        int saved = errno;
        destroy(self);
        errno = saved;
        return err;
    }
    weir_disk_read_end(self, &txn);
    *self_p = &self->store;
    return WEIR_OK;
}

static void close_store(weir_store **self_p)
{
    weir_disk *self = (weir_disk *)*self_p;
    if (!self) return;
    *self_p = NULL;
    weir_disk_flusher_stop(self);
    weir_disk_compact_stop(self);
    destroy(self);
}

/* --- Looking ----------------------------------------------------------------------- */

static weir_store_shard told(const weir_disk_row *row)
{
    bool none = !row->oldest_end;
    return (weir_store_shard){
        .shard = row->id,
        .first = none ? row->has.last + 1 : row->oldest_first,
        .last = row->has.last,
        .begin.a = none ? row->has.last : row->oldest_first - 1,
        .end.a = row->has.last,
        .records = weir_disk_row_records(row),
        .bytes = row->has.bytes,
        .trimmed = row->has.trimmed,
        .oldest_ms = none ? 0 : row->oldest_ms,
        .newest_ms = none ? 0 : row->newest_ms,
    };
}

static void list_rows(weir_disk *self, weir_store_shard **list, size_t *count)
{
    pthread_mutex_lock(&self->mutex);
    *list = calloc(self->shard_count + 1, sizeof **list);
    if (!*list) abort();
    *count = 0;
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->now.row.has.last)
            (*list)[(*count)++] = told(&self->shards[i]->now.row);
    pthread_mutex_unlock(&self->mutex);
}

static weir_err list_shards(weir_store *store, weir_store_shard **list, size_t *count,
                            weir_report *report)
{
    weir_disk *self = (weir_disk *)store;
    weir_disk_rows rows = {0};
    MDB_txn *txn;
    *list = NULL;
    *count = 0;
    if (!self->readonly) {
        list_rows(self, list, count);
        return WEIR_OK;
    }
    weir_err err = weir_disk_read_begin(self, &txn, report);
    if (err) return err;
    int rc = weir_disk_rows_load(&rows, &self->env, txn);
    weir_disk_read_end(self, &txn);
    *list = calloc(rows.count + 1, sizeof **list);
    if (!*list) abort();
    for (size_t i = 0; i < rows.count && !rc; i++)
        (*list)[(*count)++] = told(&rows.items[i]);
    free(rows.items);
    if (!rc) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, self->path, "cannot read: %s",
                           mdb_strerror(rc));
}

void weir_disk_look(weir_store *store, weir_disk_stats *stats)
{
    weir_disk *self = (weir_disk *)store;
    MDB_envinfo info = {0};
    weir_disk_pages pages;
    MDB_txn *txn;
    pthread_mutex_lock(&self->mutex);
    *stats = self->stats;
    pthread_mutex_unlock(&self->mutex);
    if (weir_disk_read_begin(self, &txn, NULL)) return;
    mdb_env_info(self->env.env, &info);
    stats->map_bytes = info.me_mapsize;
    if (self->readonly && !weir_disk_count_pages(&self->env, txn, &pages)) {
        stats->used_bytes = (pages.pages - pages.free) * pages.page_bytes;
        stats->free_bytes = pages.free * pages.page_bytes;
    }
    weir_disk_read_end(self, &txn);
}

static const weir_store_class class = {
    .name = "disk",
    .write = weir_disk_write,
    .read = weir_disk_read,
    .shards = list_shards,
    .fences = weir_disk_list_fences,
    .watch = weir_disk_watch,
    .unwatch = weir_disk_unwatch,
    .commit = weir_disk_group_commit,
    .forget = weir_disk_group_forget,
    .hold = weir_disk_hold,
    .flush = weir_disk_flush,
    .close = close_store,
};
