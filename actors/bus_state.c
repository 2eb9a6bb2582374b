#include "actors/bus_state.h"
#include "actors/bus_db.h"
#include "actors/bus_rows.h"
#include "actors/identity.h"
#include "runtime/files.h"
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { vnodes_max = 65536, name_max = 500 };

struct weir_bus_state {
    weir_bus_db *db;      // shard table and groups; NULL: nothing is kept
    char *identity_path;  // owned; NULL: nothing is kept
    int lock_fd;          // of the folder, locked; -1: none
    bool readonly;        // for looking alone
    uint32_t vnodes;      // as the caller, or the table, has them
    uint64_t nonce;       // constant
    atomic_ullong epoch;  // durable before it is here
    pthread_mutex_t lock; // one raise at a time
};

/*  Keys of the table (weir_bus_db) and their values (bus_rows.h):

        "table"                                  shard table, map, moves
        "fences"                                 those of a store that keeps none
        "store"                                  of which kind the store is, as text
        'g', name of the group, 0, shard u32     what the group has done of the shard

    The shard is big-endian, so that rows come in its order.                        */
enum { group_mark = 'g', shard_bytes = 4, key_max = 1 + name_max + 1 + shard_bytes };

static MDB_val table_key(void)
{
    return (MDB_val){.mv_size = 5, .mv_data = "table"};
}

/* --- Shards ------------------------------------------------------------------------ */

static int load_table(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = table_key(), bytes;
    int rc = weir_bus_db_get(txn, table, &key, &bytes);
    if (rc) return rc == MDB_NOTFOUND ? 0 : rc;
    return weir_shard_table_read(arg, bytes.mv_data, bytes.mv_size) ? 0 : MDB_CORRUPTED;
}

static int store_table(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = table_key();
    return weir_bus_db_put(txn, table, &key, arg);
}

weir_err weir_bus_state_load(weir_bus_state *self, weir_shard_table *table,
                             weir_report *report)
{
    *table = (weir_shard_table){0};
    weir_err err = WEIR_OK;
    if (self->db) err = weir_bus_db_look(self->db, load_table, table, report);
    if (!err && !table->row_count) table->vnodes = self->vnodes;
    return err;
}

weir_err weir_bus_state_store(weir_bus_state *self, const weir_shard_table *table,
                              weir_report *report)
{
    assert(!self->readonly && table->vnodes == self->vnodes);
    if (!self->db) return WEIR_OK;
    weir_buffer bytes = {0};
    weir_shard_table_put(table, &bytes);
    weir_err err = weir_bus_db_change(self->db, store_table, &bytes, report);
    weir_buffer_fini(&bytes);
    return err;
}

/* --- Fences ------------------------------------------------------------------------ */

static MDB_val fences_key(void)
{
    return (MDB_val){.mv_size = 6, .mv_data = "fences"};
}

typedef struct {
    weir_fence *list;
    size_t count;
} fences_found;

static int load_fences(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = fences_key(), bytes;
    fences_found *found = arg;
    int rc = weir_bus_db_get(txn, table, &key, &bytes);
    if (rc) return rc == MDB_NOTFOUND ? 0 : rc;
    bool good =
        weir_fences_read(&found->list, &found->count, bytes.mv_data, bytes.mv_size);
    return good ? 0 : MDB_CORRUPTED;
}

static int store_fences(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = fences_key();
    return weir_bus_db_put(txn, table, &key, arg);
}

weir_err weir_bus_state_load_fences(weir_bus_state *self, weir_fence **list,
                                    size_t *count, weir_report *report)
{
    fences_found found = {0};
    weir_err err = WEIR_OK;
    if (self->db) err = weir_bus_db_look(self->db, load_fences, &found, report);
    *list = found.list;
    *count = found.count;
    return err;
}

weir_err weir_bus_state_store_fences(weir_bus_state *self, const weir_fence *list,
                                     size_t count, weir_report *report)
{
    assert(!self->readonly);
    if (!self->db) return WEIR_OK;
    weir_buffer bytes = {0};
    weir_fences_put(list, count, &bytes);
    weir_err err = weir_bus_db_change(self->db, store_fences, &bytes, report);
    weir_buffer_fini(&bytes);
    return err;
}

/* --- The kind of the store --------------------------------------------------------- */

enum { kind_max = 32 };

static MDB_val kind_key(void)
{
    return (MDB_val){.mv_size = 5, .mv_data = "store"};
}

static int load_kind(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = kind_key(), bytes;
    int rc = weir_bus_db_get(txn, table, &key, &bytes);
    if (rc) return rc == MDB_NOTFOUND ? 0 : rc;
    if (bytes.mv_size >= kind_max) return MDB_CORRUPTED;
    memcpy(arg, bytes.mv_data, bytes.mv_size);
    return 0;
}

static int store_kind(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = kind_key();
    return weir_bus_db_put(txn, table, &key, arg);
}

/*  A state that has no kind yet may lie in the folder of a disk store.              */
static void guess_kind(const weir_bus_state *self, char kind[kind_max])
{
    char *path;
    int folder = (int)(strrchr(self->identity_path, '/') - self->identity_path);
    if (asprintf(&path, "%.*s/CURRENT", folder, self->identity_path) < 0) abort();
    if (access(path, F_OK) == 0) snprintf(kind, kind_max, "disk");
    free(path);
}

weir_err weir_bus_state_claim(weir_bus_state *self, const char *kind, weir_report *report)
{
    assert(!self->readonly && strlen(kind) < kind_max);
    char found[kind_max] = "";
    weir_buffer bytes = {0};
    if (!self->db) return WEIR_OK;
    weir_err err = weir_bus_db_look(self->db, load_kind, found, report);
    if (err || strcmp(found, kind) == 0) return err;
    if (!*found) guess_kind(self, found);
    if (*found && strcmp(found, kind))
        return weir_report_set(report, WEIR_EINVAL, self->identity_path,
                               "this bus had its records in a %s store, and what its "
                               "groups have read there means nothing in a %s store: move "
                               "the folder of this file away, and the bus begins anew, "
                               "or name another `state`",
                               found, kind);
    weir_buffer_put_text(&bytes, kind);
    err = weir_bus_db_change(self->db, store_kind, &bytes, report);
    weir_buffer_fini(&bytes);
    return err;
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_bus_state *make_state(uint32_t vnodes)
{
    weir_bus_state *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->lock_fd = -1;
    self->vnodes = vnodes;
    pthread_mutex_init(&self->lock, NULL);
    return self;
}

void weir_bus_state_close(weir_bus_state **self_p)
{
    weir_bus_state *self = *self_p;
    if (!self) return;
    weir_bus_db_close(&self->db);
    if (self->lock_fd >= 0) close(self->lock_fd);
    free(self->identity_path);
    pthread_mutex_destroy(&self->lock);
    free(self);
    *self_p = NULL;
}

static char *join(const char *folder, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0) abort();
    return path;
}

static weir_err take_lock(weir_bus_state *self, const char *path, weir_report *report)
{
    self->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (self->lock_fd >= 0 && flock(self->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return WEIR_OK;
    if (self->lock_fd >= 0 && errno == EWOULDBLOCK)
        return weir_report_set(report, WEIR_EREFUSED, path,
                               "in_use: another process, or another bus of this one, has "
                               "this state open: stop it, or name another `state`");
    return weir_report_set(report, WEIR_ESYS, path, "cannot lock the state: %s",
                           strerror(errno));
}

static weir_err lock_folder(weir_bus_state *self, const char *folder, weir_report *report)
{
    if (weir_make_folders(folder))
        return weir_report_set(report, WEIR_ESYS, folder,
                               "cannot make the state folder: %s", strerror(errno));
    char *path = join(folder, "lock");
    weir_err err = take_lock(self, path, report);
    free(path);
    return err;
}

static weir_err refuse_identity(const weir_bus_state *self, const char *fault,
                                weir_report *report)
{
    return weir_report_set(report, WEIR_EMALFORMED, self->identity_path,
                           "bad_identity: %s; put a backup of the whole folder in its "
                           "place, or name another `state`",
                           fault);
}

static int count_entries(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_stat shape;
    int rc = mdb_stat(txn, table, &shape);
    if (!rc) *(size_t *)arg = shape.ms_entries;
    return rc;
}

/*  A first start: makes the table, and then an identity with its nonce. One that was
    killed in between has left a table with nothing in it but its head. A table with more
    has lost its identity, and a new one must not take its place.                   */
static weir_err begin(weir_bus_state *self, const char *groups_path,
                      weir_identity *identity, weir_report *report)
{
    size_t entries = 0;
    weir_err err = WEIR_OK;
    if (access(groups_path, F_OK))
        err = weir_bus_db_make(groups_path, weir_identity_nonce(), report);
    if (!err) err = weir_bus_db_open(&self->db, groups_path, false, report);
    if (!err) err = weir_bus_db_look(self->db, count_entries, &entries, report);
    if (err) return err;
    if (entries > 1) return refuse_identity(self, "it is missing", report);
    *identity = (weir_identity){.nonce = weir_bus_db_nonce(self->db)};
    return WEIR_OK;
}

static weir_err go_on(weir_bus_state *self, const char *groups_path,
                      const weir_identity *identity, weir_report *report)
{
    weir_err err = weir_bus_db_open(&self->db, groups_path, self->readonly, report);
    if (err == WEIR_ENOTFOUND)
        return weir_report_set(report, WEIR_EMALFORMED, groups_path,
                               "it is missing beside its bus's identity; put a backup of "
                               "the whole folder in its place, or name another `state`");
    if (!err && weir_bus_db_nonce(self->db) != identity->nonce)
        return refuse_identity(self, "it is another bus's than groups.mdb beside it",
                               report);
    return err;
}

static weir_err find(weir_bus_state *self, const char *folder, weir_identity *identity,
                     weir_report *report)
{
    self->identity_path = join(folder, "identity");
    char *groups_path = join(folder, "groups.mdb");
    weir_err err = weir_identity_read(identity, self->identity_path, report);
    if (!err)
        err = go_on(self, groups_path, identity, report);
    else if (err == WEIR_ENOTFOUND && !self->readonly)
        err = begin(self, groups_path, identity, report);
    else if (err == WEIR_ENOTFOUND)
        weir_report_set(report, err, self->identity_path, "there is no state of a bus");
    free(groups_path);
    self->nonce = identity->nonce;
    atomic_store(&self->epoch, identity->epoch);
    return err;
}

/*  The table's number counts when there is one.                                    */
static weir_err check_vnodes(weir_bus_state *self, const char *folder,
                             weir_report *report)
{
    weir_shard_table table;
    weir_err err = weir_bus_state_load(self, &table, report);
    uint32_t vnodes = table.vnodes;
    weir_shard_table_fini(&table);
    if (err || self->readonly || vnodes == self->vnodes) {
        self->vnodes = vnodes;
        return err;
    }
    return weir_report_set(report, WEIR_EINVAL, folder,
                           "this bus was made with vnodes = %u, which is fixed, and is "
                           "opened with %u: set vnodes = %u, or name another `state`",
                           vnodes, self->vnodes, vnodes);
}

static weir_err open_kept(weir_bus_state *self, const char *folder, weir_report *report)
{
    weir_identity identity;
    weir_err err = lock_folder(self, folder, report);
    if (!err) err = find(self, folder, &identity, report);
    if (!err) err = check_vnodes(self, folder, report);
    if (err) return err;
    weir_identity_sweep(self->identity_path);
    return weir_bus_state_raise(self, identity.epoch, report);
}

weir_err weir_bus_state_open(weir_bus_state **self_p, const char *path, uint32_t vnodes,
                             weir_report *report)
{
    assert(vnodes >= 1 && vnodes <= vnodes_max);
    weir_bus_state *self = make_state(vnodes);
    weir_err err = WEIR_OK;
    if (path) {
        err = open_kept(self, path, report);
    } else {
        self->nonce = weir_identity_nonce();
        atomic_store(&self->epoch, 1);
    }
    if (err) weir_bus_state_close(&self);
    *self_p = self;
    return err;
}

weir_err weir_bus_state_open_readonly(weir_bus_state **self_p, const char *path,
                                      weir_report *report)
{
    weir_identity identity;
    weir_bus_state *self = make_state(0);
    self->readonly = true;
    weir_err err = find(self, path, &identity, report);
    if (!err) err = check_vnodes(self, path, report);
    if (err) weir_bus_state_close(&self);
    *self_p = self;
    return err;
}

/* --- Identity ---------------------------------------------------------------------- */

uint64_t weir_bus_state_nonce(const weir_bus_state *self)
{
    return self->nonce;
}

uint64_t weir_bus_state_epoch(const weir_bus_state *self)
{
    return atomic_load(&self->epoch);
}

static weir_err raise_locked(weir_bus_state *self, uint64_t above, weir_report *report)
{
    if (atomic_load(&self->epoch) > above) return WEIR_OK;
    if (above == UINT64_MAX)
        return weir_report_set(report, WEIR_EINVAL, self->identity_path,
                               "no epoch is above %llu: name another `state`",
                               (unsigned long long)above);
    weir_identity identity = {.nonce = self->nonce, .epoch = above + 1};
    weir_err err = WEIR_OK;
    if (self->identity_path)
        err = weir_identity_write(&identity, self->identity_path, report);
    if (!err) atomic_store(&self->epoch, identity.epoch);
    return err;
}

weir_err weir_bus_state_raise(weir_bus_state *self, uint64_t above, weir_report *report)
{
    assert(!self->readonly);
    pthread_mutex_lock(&self->lock);
    weir_err err = raise_locked(self, above, report);
    pthread_mutex_unlock(&self->lock);
    return err;
}

/* --- Groups ------------------------------------------------------------------------ */

/*  What a step on groups works with. Keys of a group begin with `prefix`.          */
typedef struct {
    uint8_t key[key_max];
    size_t prefix;              // bytes of mark, name and its 0
    const weir_group_row *rows; // to be stored
    weir_buffer list;           // of rows or names that were found
    size_t count;               // of them
} group_step;

static weir_err prepare(group_step *step, const char *group, weir_report *report)
{
    size_t size = strlen(group);
    *step = (group_step){.prefix = 1 + size + 1};
    if (size == 0 || size > name_max)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "a group's name has 1 to %d bytes, this one has %zu",
                               name_max, size);
    step->key[0] = group_mark;
    memcpy(step->key + 1, group, size + 1);
    return WEIR_OK;
}

static bool is_of_group(const group_step *step, const MDB_val *key)
{
    return key->mv_size == step->prefix + shard_bytes &&
           !memcmp(key->mv_data, step->key, step->prefix);
}

static int put_row(MDB_txn *txn, MDB_dbi table, group_step *step,
                   const weir_group_row *row)
{
    weir_buffer bytes = {0};
    uint32_t shard = htobe32(row->shard);
    memcpy(step->key + step->prefix, &shard, sizeof shard);
    MDB_val key = {.mv_size = step->prefix + sizeof shard, .mv_data = step->key};
    weir_group_row_put(row, &bytes);
    int rc = weir_bus_db_put(txn, table, &key, &bytes);
    weir_buffer_fini(&bytes);
    return rc;
}

static int store_rows(MDB_txn *txn, MDB_dbi table, void *arg)
{
    group_step *step = arg;
    int rc = 0;
    for (size_t i = 0; i < step->count && !rc; i++)
        rc = put_row(txn, table, step, &step->rows[i]);
    return rc;
}

static int take_row(group_step *step, const MDB_val *key, MDB_val *bytes)
{
    uint32_t shard;
    weir_group_row row;
    if (weir_bus_db_check(key, bytes) ||
        !weir_group_row_read(&row, bytes->mv_data, bytes->mv_size))
        return MDB_CORRUPTED;
    memcpy(&shard, (uint8_t *)key->mv_data + step->prefix, sizeof shard);
    row.shard = be32toh(shard);
    weir_buffer_put(&step->list, &row, sizeof row);
    step->count++;
    return 0;
}

static int load_rows(MDB_txn *txn, MDB_dbi table, void *arg)
{
    group_step *step = arg;
    MDB_cursor *cursor;
    MDB_val key = {.mv_size = step->prefix, .mv_data = step->key}, bytes;
    int rc = mdb_cursor_open(txn, table, &cursor);
    if (rc) return rc;
    rc = mdb_cursor_get(cursor, &key, &bytes, MDB_SET_RANGE);
    while (!rc && is_of_group(step, &key)) {
        rc = take_row(step, &key, &bytes);
        if (!rc) rc = mdb_cursor_get(cursor, &key, &bytes, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int forget_rows(MDB_txn *txn, MDB_dbi table, void *arg)
{
    group_step *step = arg;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, table, &cursor);
    if (rc) return rc;
    while (!rc) {
        MDB_val key = {.mv_size = step->prefix, .mv_data = step->key}, bytes;
        rc = mdb_cursor_get(cursor, &key, &bytes, MDB_SET_RANGE);
        if (!rc && !is_of_group(step, &key)) break;
        if (!rc) rc = weir_bus_db_delete(cursor);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/*  Takes the name out of a row's key, and makes the step's key one behind all rows of
    that group. False: it holds none. */
static bool take_name(group_step *step, const MDB_val *key)
{
    if (key->mv_size < 2 + 1 + shard_bytes || key->mv_size > key_max) return false;
    step->prefix = key->mv_size - shard_bytes;
    memcpy(step->key, key->mv_data, step->prefix);
    if (strnlen((char *)step->key, step->prefix) != step->prefix - 1) return false;
    char *name = strdup((char *)step->key + 1);
    if (!name) abort();
    weir_buffer_put(&step->list, &name, sizeof name);
    step->count++;
    step->key[step->prefix - 1] = 1;
    return true;
}

static int load_names(MDB_txn *txn, MDB_dbi table, void *arg)
{
    group_step *step = arg;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, table, &cursor);
    if (rc) return rc;
    while (!rc) {
        MDB_val key = {.mv_size = step->prefix, .mv_data = step->key};
        rc = mdb_cursor_get(cursor, &key, NULL, MDB_SET_RANGE);
        if (rc || *(uint8_t *)key.mv_data != group_mark) break;
        if (!take_name(step, &key)) rc = MDB_CORRUPTED;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

void weir_group_names_free(char ***names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free((*names)[i]);
    free(*names);
    *names = NULL;
}

weir_err weir_bus_state_groups(weir_bus_state *self, char ***names, size_t *count,
                               weir_report *report)
{
    group_step step = {.key = {group_mark}, .prefix = 1};
    weir_err err = WEIR_OK;
    if (self->db) err = weir_bus_db_look(self->db, load_names, &step, report);
    *names = (char **)(void *)step.list.data;
    *count = step.count;
    if (err) {
        weir_group_names_free(names, *count);
        *count = 0;
    }
    return err;
}

weir_err weir_bus_state_load_group(weir_bus_state *self, const char *group,
                                   weir_group_row **rows, size_t *count,
                                   weir_report *report)
{
    group_step step;
    weir_err err = prepare(&step, group, report);
    if (!err && self->db) err = weir_bus_db_look(self->db, load_rows, &step, report);
    *rows = (weir_group_row *)(void *)step.list.data;
    *count = step.count;
    if (err) {
        weir_group_rows_free(rows, *count);
        *count = 0;
    }
    return err;
}

weir_err weir_bus_state_store_group(weir_bus_state *self, const char *group,
                                    const weir_group_row *rows, size_t count,
                                    weir_report *report)
{
    group_step step;
    assert(!self->readonly);
    weir_err err = prepare(&step, group, report);
    if (err || !self->db || count == 0) return err;
    step.rows = rows;
    step.count = count;
    return weir_bus_db_change(self->db, store_rows, &step, report);
}

weir_err weir_bus_state_forget_group(weir_bus_state *self, const char *group,
                                     weir_report *report)
{
    group_step step;
    assert(!self->readonly);
    weir_err err = prepare(&step, group, report);
    if (err || !self->db) return err;
    return weir_bus_db_change(self->db, forget_rows, &step, report);
}
