#include "actors/bus_db.h"
#include "actors/lmdb_pages.h"
#include "actors/lmdb_use.h"
#include "runtime/files.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { checksum_size = 8, head_size = 28, version = 2 };
enum { head_size_1 = 20 }; // of version 1, which has no sum

/*  The map is only address space: the file is as large as what is in it.           */
static const size_t map_first = 1 << 20, map_max = (size_t)1 << 36;

static const char magic[8] = {'W', 'E', 'I', 'R', 'B', 'U', 'S', 'G'};

struct weir_bus_db {
    char *path;           // owned
    pthread_mutex_t lock; // one transaction at a time, so that the map can grow
    MDB_env *env;         // NULL in a half-built object
    size_t map_bytes;     // size of the map
    uint64_t nonce;       // as the file has it
    uint64_t sum;         // of the rows' checksums
    uint64_t next_sum;    // as the open transaction leaves it
    bool summed;          // the file has it
    char why[200];        // what is damaged; "": it is not known
};

/* --- Errors ------------------------------------------------------------------------ */

static weir_err refuse(weir_report *report, const char *path, const char *fault)
{
    return weir_report_set(
        report, WEIR_EMALFORMED, path,
        "%s; put a backup of the whole folder in its place; if it is a "
        "store's folder, `weir bus repair` copies what is good",
        fault);
}

/*  Tells the user what an LMDB code means: errno where it is positive.             */
static weir_err fail(weir_report *report, const char *path, int rc, const char *why)
{
    char fault[256];
    if (rc == 0) return WEIR_OK;
    if (rc == ENOENT)
        return weir_report_set(report, WEIR_ENOTFOUND, path, "there is no such file");
    if (rc == MDB_INVALID)
        return refuse(report, path, "this is no state file of a Weir bus, or damaged");
    if (rc == MDB_VERSION_MISMATCH)
        return refuse(report, path, "it was written by another version of LMDB");
    if (rc == MDB_INCOMPATIBLE)
        return refuse(report, path, "it was written by another version of Weir");
    if (rc == MDB_PANIC) rc = EIO;
    snprintf(fault, sizeof fault, "the state file is damaged%s%s", *why ? ": " : "", why);
    if (rc < 0) return refuse(report, path, fault);
    errno = rc;
    return weir_report_set(report, WEIR_ESYS, path, "cannot use the state file: %s",
                           strerror(rc));
}

/* --- Values ------------------------------------------------------------------------ */

static uint64_t checksum(const MDB_val *key, const void *bytes, size_t size)
{
    return XXH3_64bits_withSeed(bytes, size, XXH3_64bits(key->mv_data, key->mv_size));
}

static bool is_head(const MDB_val *key)
{
    return key->mv_size == 4 && !memcmp(key->mv_data, "weir", 4);
}

/*  What a row adds to the sum.                                                     */
static uint64_t share(const MDB_val *key, const MDB_val *value)
{
    uint64_t sum;
    if (is_head(key) || value->mv_size < sizeof sum) return 0;
    memcpy(&sum, (uint8_t *)value->mv_data + value->mv_size - sizeof sum, sizeof sum);
    return be64toh(sum);
}

/*  Whose transaction it is; NULL: a file that is being made.                        */
static weir_bus_db *owner(MDB_txn *txn)
{
    return mdb_env_get_userctx(mdb_txn_env(txn));
}

int weir_bus_db_put(MDB_txn *txn, MDB_dbi table, MDB_val *key, const weir_buffer *bytes)
{
    weir_bus_db *self = owner(txn);
    uint64_t sum = htobe64(checksum(key, bytes->data, bytes->size));
    MDB_val old, value = {.mv_size = bytes->size + checksum_size};
    int rc = mdb_get(txn, table, key, &old);
    if (rc && rc != MDB_NOTFOUND) return rc;
    if (!rc && self) self->next_sum -= share(key, &old);
    rc = mdb_put(txn, table, key, &value, MDB_RESERVE);
    if (rc) return rc;
    if (bytes->size) memcpy(value.mv_data, bytes->data, bytes->size);
    memcpy((uint8_t *)value.mv_data + bytes->size, &sum, sizeof sum);
    if (self) self->next_sum += share(key, &value);
    return 0;
}

int weir_bus_db_delete(MDB_cursor *cursor)
{
    weir_bus_db *self = owner(mdb_cursor_txn(cursor));
    MDB_val key, value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_GET_CURRENT);
    if (!rc) self->next_sum -= share(&key, &value);
    return rc ? rc : mdb_cursor_del(cursor, 0);
}

int weir_bus_db_check(const MDB_val *key, MDB_val *value)
{
    uint64_t sum;
    if (value->mv_size < sizeof sum) return MDB_CORRUPTED;
    size_t size = value->mv_size - sizeof sum;
    memcpy(&sum, (uint8_t *)value->mv_data + size, sizeof sum);
    if (be64toh(sum) != checksum(key, value->mv_data, size)) return MDB_CORRUPTED;
    value->mv_size = size;
    return 0;
}

int weir_bus_db_get(MDB_txn *txn, MDB_dbi table, MDB_val *key, MDB_val *bytes)
{
    int rc = mdb_get(txn, table, key, bytes);
    return rc ? rc : weir_bus_db_check(key, bytes);
}

/* --- What the file is -------------------------------------------------------------- */

static MDB_val head_key(void)
{
    return (MDB_val){.mv_size = 4, .mv_data = "weir"};
}

static int put_head(MDB_txn *txn, MDB_dbi table, uint64_t nonce, uint64_t sum)
{
    MDB_val key = head_key();
    weir_buffer head = {0};
    uint32_t version_be = htobe32(version);
    nonce = htobe64(nonce);
    sum = htobe64(sum);
    weir_buffer_put(&head, magic, sizeof magic);
    weir_buffer_put(&head, &version_be, sizeof version_be);
    weir_buffer_put(&head, &nonce, sizeof nonce);
    weir_buffer_put(&head, &sum, sizeof sum);
    int rc = weir_bus_db_put(txn, table, &key, &head);
    weir_buffer_fini(&head);
    return rc;
}

static int read_head(weir_bus_db *self, const MDB_val *head)
{
    uint32_t found;
    const uint8_t *bytes = head->mv_data;
    if (head->mv_size < head_size_1 || memcmp(bytes, magic, sizeof magic))
        return MDB_INVALID;
    memcpy(&found, bytes + 8, sizeof found);
    memcpy(&self->nonce, bytes + 12, sizeof self->nonce);
    self->nonce = be64toh(self->nonce);
    self->summed = head->mv_size == head_size;
    if (self->summed) memcpy(&self->sum, bytes + 20, sizeof self->sum);
    self->sum = be64toh(self->sum);
    if (be32toh(found) == version) return self->summed ? 0 : MDB_INVALID;
    return be32toh(found) == 1 && head->mv_size == head_size_1 ? 0 : MDB_INCOMPATIBLE;
}

/* --- Transactions ------------------------------------------------------------------ */

static int begin(weir_bus_db *self, unsigned flags, MDB_txn **txn)
{
    int rc = mdb_txn_begin(self->env, NULL, flags, txn);
    if (rc != MDB_MAP_RESIZED) return rc;
    rc = mdb_env_set_mapsize(self->env, 0);
    return rc ? rc : mdb_txn_begin(self->env, NULL, flags, txn);
}

static int commit(weir_bus_db *self, MDB_txn *txn)
{
    int rc = mdb_txn_commit(txn);
    if (rc) return rc;
    self->sum = self->next_sum;
    self->summed = true;
    return 0;
}

static int run_inside(weir_bus_db *self, unsigned flags, weir_bus_step *step, void *arg)
{
    MDB_txn *txn;
    MDB_dbi table;
    bool changes = !(flags & MDB_RDONLY);
    int rc = begin(self, flags, &txn);
    if (rc) return rc;
    self->next_sum = self->sum;
    rc = mdb_dbi_open(txn, NULL, 0, &table);
    if (!rc) rc = step(txn, table, arg);
    if (!rc && changes && (!self->summed || self->next_sum != self->sum))
        rc = put_head(txn, table, self->nonce, self->next_sum);
    if (!rc && changes) return commit(self, txn);
    mdb_txn_abort(txn);
    return rc;
}

static int run(weir_bus_db *self, unsigned flags, weir_bus_step *step, void *arg)
{
    weir_lmdb_enter(self->path);
    int rc = run_inside(self, flags, step, arg);
    weir_lmdb_leave();
    return rc;
}

static int grow(weir_bus_db *self)
{
    if (self->map_bytes >= map_max) return ENOSPC;
    int rc = mdb_env_set_mapsize(self->env, 2 * self->map_bytes);
    if (!rc) self->map_bytes *= 2;
    return rc;
}

weir_err weir_bus_db_look(weir_bus_db *self, weir_bus_step *step, void *arg,
                          weir_report *report)
{
    pthread_mutex_lock(&self->lock);
    int rc = run(self, MDB_RDONLY, step, arg);
    pthread_mutex_unlock(&self->lock);
    return fail(report, self->path, rc, self->why);
}

weir_err weir_bus_db_change(weir_bus_db *self, weir_bus_step *step, void *arg,
                            weir_report *report)
{
    pthread_mutex_lock(&self->lock);
    int rc = run(self, 0, step, arg);
    while (rc == MDB_MAP_FULL) {
        rc = grow(self);
        if (!rc) rc = run(self, 0, step, arg);
    }
    pthread_mutex_unlock(&self->lock);
    return fail(report, self->path, rc, self->why);
}

/* --- Making ------------------------------------------------------------------------ */

static int fill(MDB_env *env, uint64_t nonce)
{
    MDB_txn *txn;
    MDB_dbi table;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc) return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &table);
    if (!rc) rc = put_head(txn, table, nonce, 0);
    if (!rc) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

static int make_beside(const char *path, uint64_t nonce)
{
    MDB_env *env;
    if (unlink(path) && errno != ENOENT) return errno;
    int rc = mdb_env_create(&env);
    if (rc) return rc;
    rc = mdb_env_set_mapsize(env, map_first);
    if (!rc) rc = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600);
    if (!rc) rc = fill(env, nonce);
    mdb_env_close(env);
    return rc;
}

weir_err weir_bus_db_make(const char *path, uint64_t nonce, weir_report *report)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.new", path) >= PATH_MAX)
        return fail(report, path, ENAMETOOLONG, "");
    int rc = make_beside(beside, nonce);
    if (!rc && (rename(beside, path) || weir_sync_folder(path))) rc = errno;
    if (rc) unlink(beside);
    return fail(report, path, rc, "");
}

/* --- Opening ----------------------------------------------------------------------- */

/*  LMDB divides by the page size that its two first pages claim: it must be one, and the
    same in both. No more of LMDB's format is known here.

        page: +------------------+-------+---------+---------+----------+-----------+--
              | number and flags | magic | version | address | map size | page size |
              +------------------+-------+---------+---------+----------+-----------+--
              0                  16      20        24        32         40          44  */
static bool has_page_size(int fd)
{
    enum { at = 40, least = 512, most = 65536 };
    uint32_t first, second;
    if (pread(fd, &first, sizeof first, at) != sizeof first) return false;
    if (first < least || first > most || (first & (first - 1))) return false;
    return pread(fd, &second, sizeof second, first + at) == sizeof second &&
           second == first;
}

/*  An LMDB code, as all that follow.                                               */
static int check_file(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno;
    int rc = 0;
    if (fstat(fd, &info))
        rc = errno;
    else if (!S_ISREG(info.st_mode) || !has_page_size(fd))
        rc = MDB_INVALID;
    close(fd);
    return rc;
}

/*  Of a file that nobody writes.                                                   */
static int check_pages(weir_bus_db *self)
{
    weir_lmdb_file file;
    int rc = weir_lmdb_open(&file, self->path);
    if (!rc && !(weir_lmdb_check_tree(&file, &file.free, WEIR_LMDB_FREE) &&
                 weir_lmdb_check_tree(&file, &file.names, WEIR_LMDB_VALUES)))
        rc = MDB_CORRUPTED;
    if (rc < 0) snprintf(self->why, sizeof self->why, "%s", file.why);
    weir_lmdb_close(&file);
    return rc;
}

static int open_env(weir_bus_db *self, unsigned flags)
{
    MDB_envinfo info;
    int rc = mdb_env_create(&self->env);
    if (rc) return rc;
    mdb_env_set_userctx(self->env, self);
    weir_lmdb_watch(self->env);
    rc = mdb_env_open(self->env, self->path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0600);
    if (!rc) rc = mdb_env_info(self->env, &info);
    if (!rc) self->map_bytes = info.me_mapsize;
    return rc;
}

/*  All rows by their checksums, and that there are no others.                       */
static int sum_rows(weir_bus_db *self, MDB_cursor *cursor)
{
    MDB_val key, value;
    uint64_t sum = 0;
    bool has_head = false;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !rc; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        sum += share(&key, &value);
        rc = weir_bus_db_check(&key, &value);
        if (!rc && is_head(&key)) {
            rc = read_head(self, &value);
            has_head = true;
        }
        if (rc) return rc;
    }
    if (rc != MDB_NOTFOUND) return rc;
    if (!has_head) return MDB_INVALID;
    if (self->summed && sum != self->sum) {
        snprintf(self->why, sizeof self->why, "some of it is missing");
        return MDB_CORRUPTED;
    }
    self->sum = sum;
    return 0;
}

static int check_rows(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, table, &cursor);
    if (rc) return rc;
    rc = sum_rows(arg, cursor);
    mdb_cursor_close(cursor);
    return rc;
}

static weir_err open_checked(weir_bus_db **self_p, const char *path, unsigned flags,
                             bool checks_pages, weir_report *report)
{
    weir_bus_db *self = calloc(1, sizeof *self);
    if (!self) abort();
    pthread_mutex_init(&self->lock, NULL);
    self->path = strdup(path);
    if (!self->path) abort();
    int rc = check_file(path);
    if (!rc && checks_pages) rc = check_pages(self);
    if (!rc) rc = open_env(self, flags);
    if (!rc) rc = run(self, MDB_RDONLY, check_rows, self);
    weir_err err = fail(report, path, rc, self->why);
    *self_p = self;
    if (rc) weir_bus_db_close(self_p);
    return err;
}

weir_err weir_bus_db_open(weir_bus_db **self_p, const char *path, bool readonly,
                          weir_report *report)
{
    return open_checked(self_p, path, readonly ? MDB_RDONLY : 0, !readonly, report);
}

weir_err weir_bus_db_verify(const char *path, weir_report *report)
{
    weir_bus_db *self;
    weir_err err = open_checked(&self, path, MDB_RDONLY | MDB_NOLOCK, true, report);
    weir_bus_db_close(&self);
    return err;
}

/* --- Salvage ----------------------------------------------------------------------- */

typedef struct {
    MDB_val key, value; // owned
} row;

typedef struct {
    row *items; // owned
    size_t count;
} rows;

static MDB_val copy(const MDB_val *from)
{
    MDB_val to = {from->mv_size, malloc(from->mv_size + 1)};
    if (!to.mv_data) abort();
    memcpy(to.mv_data, from->mv_data, from->mv_size);
    return to;
}

static void take_row(void *arg, const MDB_val *key, const MDB_val *value)
{
    rows *self = arg;
    MDB_val bytes = *value;
    if (is_head(key) || key->mv_size == 0 || weir_bus_db_check(key, &bytes)) return;
    self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
    if (!self->items) abort();
    self->items[self->count++] = (row){copy(key), copy(&bytes)};
}

static int put_rows(MDB_txn *txn, MDB_dbi table, void *arg)
{
    rows *self = arg;
    int rc = 0;
    for (size_t i = 0; i < self->count && !rc; i++) {
        row *item = &self->items[i];
        weir_buffer bytes = {.data = item->value.mv_data, .size = item->value.mv_size};
        rc = weir_bus_db_put(txn, table, &item->key, &bytes);
    }
    return rc;
}

static weir_err store_rows(rows *self, const char *to, uint64_t nonce,
                           weir_report *report)
{
    weir_bus_db *db = NULL;
    weir_err err = weir_bus_db_make(to, nonce, report);
    if (!err) err = weir_bus_db_open(&db, to, false, report);
    if (!err) err = weir_bus_db_change(db, put_rows, self, report);
    weir_bus_db_close(&db);
    return err;
}

weir_err weir_bus_db_salvage(const char *from, const char *to, uint64_t nonce,
                             uint64_t *count, weir_report *report)
{
    weir_lmdb_file file;
    rows all = {.items = NULL};
    if (weir_lmdb_open_any(&file, from) == 0)
        weir_lmdb_each(&file, &file.names, take_row, &all);
    weir_lmdb_close(&file);
    weir_err err = store_rows(&all, to, nonce, report);
    *count = all.count;
    for (size_t i = 0; i < all.count; i++) {
        free(all.items[i].key.mv_data);
        free(all.items[i].value.mv_data);
    }
    free(all.items);
    return err;
}

/* --- Closing ----------------------------------------------------------------------- */

void weir_bus_db_close(weir_bus_db **self_p)
{
    weir_bus_db *self = *self_p;
    if (!self) return;
    if (self->env) mdb_env_close(self->env);
    pthread_mutex_destroy(&self->lock);
    free(self->path);
    free(self);
    *self_p = NULL;
}

uint64_t weir_bus_db_nonce(const weir_bus_db *self)
{
    return self->nonce;
}
