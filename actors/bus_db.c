#include "actors/bus_db.h"
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

enum { checksum_size = 8, head_size = 20, version = 1 };

/*  The map is only address space: the file is as large as what is in it.           */
static const size_t map_first = 1 << 20, map_max = (size_t)1 << 36;

static const char magic[8] = {'W', 'E', 'I', 'R', 'B', 'U', 'S', 'G'};

struct weir_bus_db {
    char *path;           // owned
    pthread_mutex_t lock; // one transaction at a time, so that the map can grow
    MDB_env *env;         // NULL in a half-built object
    size_t map_bytes;     // size of the map
    uint64_t nonce;       // as the file has it
};

/* --- Errors ------------------------------------------------------------------------ */

static weir_err refuse(weir_report *report, const char *path, const char *fault)
{
    return weir_report_set(report, WEIR_EMALFORMED, path,
                           "%s; put a backup of the whole folder in its place, or name "
                           "another `state`",
                           fault);
}

/*  Tells the user what an LMDB code means: errno where it is positive.             */
static weir_err fail(weir_report *report, const char *path, int rc)
{
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
    if (rc < 0) return refuse(report, path, "the state file is damaged");
    errno = rc;
    return weir_report_set(report, WEIR_ESYS, path, "cannot use the state file: %s",
                           strerror(rc));
}

/* --- Values ------------------------------------------------------------------------ */

static uint64_t checksum(const MDB_val *key, const void *bytes, size_t size)
{
    return XXH3_64bits_withSeed(bytes, size, XXH3_64bits(key->mv_data, key->mv_size));
}

int weir_bus_db_put(MDB_txn *txn, MDB_dbi table, MDB_val *key, const weir_buffer *bytes)
{
    uint64_t sum = htobe64(checksum(key, bytes->data, bytes->size));
    MDB_val value = {.mv_size = bytes->size + checksum_size};
    int rc = mdb_put(txn, table, key, &value, MDB_RESERVE);
    if (rc) return rc;
    memcpy(value.mv_data, bytes->data, bytes->size);
    memcpy((uint8_t *)value.mv_data + bytes->size, &sum, sizeof sum);
    return 0;
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

/* --- Transactions ------------------------------------------------------------------ */

static int begin(weir_bus_db *self, unsigned flags, MDB_txn **txn)
{
    int rc = mdb_txn_begin(self->env, NULL, flags, txn);
    if (rc != MDB_MAP_RESIZED) return rc;
    rc = mdb_env_set_mapsize(self->env, 0);
    return rc ? rc : mdb_txn_begin(self->env, NULL, flags, txn);
}

static int run(weir_bus_db *self, unsigned flags, weir_bus_step *step, void *arg)
{
    MDB_txn *txn;
    MDB_dbi table;
    int rc = begin(self, flags, &txn);
    if (rc) return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &table);
    if (!rc) rc = step(txn, table, arg);
    if (!rc && !(flags & MDB_RDONLY)) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
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
    return fail(report, self->path, rc);
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
    return fail(report, self->path, rc);
}

/* --- Making ------------------------------------------------------------------------ */

static MDB_val head_key(void)
{
    return (MDB_val){.mv_size = 4, .mv_data = "weir"};
}

static int put_head(MDB_env *env, uint64_t nonce)
{
    MDB_txn *txn;
    MDB_dbi table;
    MDB_val key = head_key();
    weir_buffer head = {0};
    uint32_t version_be = htobe32(version);
    nonce = htobe64(nonce);
    weir_buffer_put(&head, magic, sizeof magic);
    weir_buffer_put(&head, &version_be, sizeof version_be);
    weir_buffer_put(&head, &nonce, sizeof nonce);
    int rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (!rc) {
        rc = mdb_dbi_open(txn, NULL, 0, &table);
        if (!rc) rc = weir_bus_db_put(txn, table, &key, &head);
        if (rc)
            mdb_txn_abort(txn);
        else
            rc = mdb_txn_commit(txn);
    }
    weir_buffer_fini(&head);
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
    if (!rc) rc = put_head(env, nonce);
    mdb_env_close(env);
    return rc;
}

weir_err weir_bus_db_make(const char *path, uint64_t nonce, weir_report *report)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.new", path) >= PATH_MAX)
        return fail(report, path, ENAMETOOLONG);
    int rc = make_beside(beside, nonce);
    if (!rc && (rename(beside, path) || weir_sync_folder(path))) rc = errno;
    if (rc) unlink(beside);
    return fail(report, path, rc);
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

/*  A page that the file does not have would be SIGBUS when it is read.             */
static int check_size(MDB_env *env, size_t *map_bytes)
{
    int fd;
    struct stat info;
    MDB_envinfo pages;
    MDB_stat shape;
    int rc = mdb_env_get_fd(env, &fd);
    if (!rc) rc = mdb_env_info(env, &pages);
    if (!rc) rc = mdb_env_stat(env, &shape);
    if (rc) return rc;
    if (fstat(fd, &info)) return errno;
    *map_bytes = pages.me_mapsize;
    uint64_t there = (uint64_t)info.st_size / shape.ms_psize;
    return pages.me_last_pgno < there ? 0 : MDB_CORRUPTED;
}

static int open_env(weir_bus_db *self, bool readonly)
{
    int rc = check_file(self->path);
    if (!rc) rc = mdb_env_create(&self->env);
    if (rc) return rc;
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (readonly ? MDB_RDONLY : 0u);
    rc = mdb_env_open(self->env, self->path, flags, 0600);
    return rc ? rc : check_size(self->env, &self->map_bytes);
}

static int read_head(MDB_txn *txn, MDB_dbi table, void *arg)
{
    weir_bus_db *self = arg;
    MDB_val key = head_key(), head;
    uint32_t found;
    int rc = weir_bus_db_get(txn, table, &key, &head);
    if (rc) return rc == MDB_NOTFOUND ? MDB_INVALID : rc;
    const uint8_t *bytes = head.mv_data;
    if (head.mv_size != head_size || memcmp(bytes, magic, sizeof magic))
        return MDB_INVALID;
    memcpy(&found, bytes + 8, sizeof found);
    memcpy(&self->nonce, bytes + 12, sizeof self->nonce);
    self->nonce = be64toh(self->nonce);
    return be32toh(found) == version ? 0 : MDB_INCOMPATIBLE;
}

weir_err weir_bus_db_open(weir_bus_db **self_p, const char *path, bool readonly,
                          weir_report *report)
{
    weir_bus_db *self = calloc(1, sizeof *self);
    if (!self) abort();
    pthread_mutex_init(&self->lock, NULL);
    self->path = strdup(path);
    if (!self->path) abort();
    int rc = open_env(self, readonly);
    if (!rc) rc = run(self, MDB_RDONLY, read_head, self);
    *self_p = self;
    if (rc) weir_bus_db_close(self_p);
    return fail(report, path, rc);
}

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
