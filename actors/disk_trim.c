/*  The tools of the disk store that use its own parts: trim, and a look at its gaps.  */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/disk_store.h"
#include "actors/disk_walk.h"
#include "runtime/clock.h"

/* --- Gaps -------------------------------------------------------------------------- */

static int load_gaps(MDB_cursor *cursor, weir_gap **list, size_t *count)
{
    MDB_val key, value;
    weir_disk_key at;
    weir_disk_gap gap;
    size_t capacity = 0;
    int rc;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        if (!weir_disk_unpack(&at, &key) ||
            !weir_disk_gap_read(&gap, at, value.mv_data, value.mv_size))
            return MDB_CORRUPTED;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            *list = realloc(*list, capacity * sizeof **list);
            if (!*list) abort();
        }
        (*list)[(*count)++] = (weir_gap){.shard = at.shard,
                                         .first = gap.first,
                                         .last = at.last,
                                         .damaged = gap.damaged};
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

weir_err weir_disk_gaps(weir_store *store, weir_gap **list, size_t *count,
                        weir_report *report)
{
    weir_disk *self = (weir_disk *)store;
    MDB_txn *txn;
    MDB_cursor *cursor;
    *list = NULL;
    *count = 0;
    weir_err err = weir_disk_read_begin(self, &txn, report);
    if (err) return err;
    int rc = mdb_cursor_open(txn, self->env.gaps, &cursor);
    if (!rc) {
        rc = load_gaps(cursor, list, count);
        mdb_cursor_close(cursor);
    }
    weir_disk_read_end(self, &txn);
    if (!rc) return WEIR_OK;
    return weir_report_set(report, rc > 0 ? WEIR_ESYS : WEIR_EMALFORMED, self->path,
                           "cannot read its gaps: %s", mdb_strerror(rc));
}

/* --- Trim -------------------------------------------------------------------------- */

/*  So that a transaction has few pages, and its records go in order. */
enum { drops_max = 1000 };
/*  Beside the file's own size; what is freed by one transaction serves the next.   */
static const int64_t spare_bytes = 64 << 20;

typedef struct {
    char folder[WEIR_DISK_FOLDER_MAX];
    weir_disk_keep keep;
    int64_t now_ms, map_bytes;
} trim;

/*  What the child tells, again and again; the last one counts.                     */
typedef struct {
    uint64_t trimmed; // records, durably
    bool over;
    int saved; // errno
    weir_report report;
} trim_told;

static weir_err fail(const trim *self, int rc, weir_report *report)
{
    if (rc > 0) errno = rc;
    return weir_report_set(report, rc > 0 ? WEIR_ESYS : WEIR_EMALFORMED, self->folder,
                           "cannot trim: %s", mdb_strerror(rc));
}

/*  One transaction for one shard; *more: there is more to drop.                    */
static int drop_some(const trim *self, weir_disk_env *env, weir_disk_row *row, bool *more)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, 0, &txn);
    if (rc) return rc;
    for (int i = 0; i < drops_max && !rc; i++) {
        *more = weir_disk_row_drops(row, &self->keep, self->now_ms);
        if (!*more) break;
        rc = weir_disk_drop_oldest(env, txn, row);
    }
    if (!rc) rc = weir_disk_row_put(env, txn, row);
    if (!rc) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

static uint64_t first_of(void *arg, uint32_t shard)
{
    const weir_disk_rows *rows = arg;
    for (size_t i = 0; i < rows->count; i++)
        if (rows->items[i].id == shard && rows->items[i].oldest_end)
            return rows->items[i].oldest_first;
    return UINT64_MAX;
}

static int drop_some_fences(weir_disk_sweep *sweep, weir_disk_env *env, MDB_txn *txn)
{
    uint64_t before, sum;
    int rc = weir_disk_fences_sum(env, txn, &before);
    sum = before;
    if (!rc) rc = weir_disk_sweep_fences(sweep, env, txn, &sum);
    return rc || sum == before ? rc : weir_disk_fences_put(env, txn, sum);
}

/*  Fences that wait for what was trimmed, in transactions as short.                */
static int drop_fences(weir_disk_env *env, weir_disk_rows *rows)
{
    weir_disk_sweep sweep = {.changed = true, .first_of = first_of, .arg = rows};
    MDB_txn *txn;
    int rc = 0;
    while (!rc && sweep.changed) {
        sweep.pause = 0;
        rc = mdb_txn_begin(env->env, NULL, 0, &txn);
        if (rc) break;
        rc = drop_some_fences(&sweep, env, txn);
        if (rc)
            mdb_txn_abort(txn);
        else
            rc = mdb_txn_commit(txn);
    }
    weir_disk_sweep_fini(&sweep);
    return rc;
}

static int load_rows(weir_disk_env *env, weir_disk_rows *rows)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn);
    if (rc) return rc;
    rc = weir_disk_rows_load(rows, env, txn);
    mdb_txn_abort(txn);
    return rc;
}

static int trim_shard(const trim *self, weir_disk_env *env, weir_disk_row *row, int fd,
                      trim_told *told)
{
    bool more = weir_disk_row_drops(row, &self->keep, self->now_ms);
    while (more) {
        uint64_t before = row->has.trimmed;
        int rc = drop_some(self, env, row, &more);
        if (rc) return rc;
        told->trimmed += row->has.trimmed - before;
        weir_disk_child_tell(fd, told, sizeof *told);
    }
    return 0;
}

static void run_trim(void *arg, int fd)
{
    const trim *self = arg;
    weir_disk_env env;
    weir_disk_rows rows = {0};
    trim_told told = {.trimmed = 0};
    int rc = 0;
    if (!weir_disk_env_open(&env, self->folder, self->map_bytes, false, &told.report)) {
        rc = load_rows(&env, &rows);
        for (size_t i = 0; i < rows.count && !rc; i++)
            rc = trim_shard(self, &env, &rows.items[i], fd, &told);
        if (!rc) rc = drop_fences(&env, &rows);
        if (rc) fail(self, rc, &told.report);
        free(rows.items);
        weir_disk_env_close(&env);
    }
    told.over = true;
    told.saved = errno;
    weir_disk_child_tell(fd, &told, sizeof told);
}

static weir_err trim_folder(trim *self, uint64_t *trimmed, weir_report *report)
{
    weir_disk_child child;
    trim_told told = {.trimmed = 0};
    char why[64];
    weir_err err = weir_disk_child_start(&child, run_trim, self, report);
    if (err) return err;
    while (!told.over && weir_disk_child_read(&child, &told, sizeof told))
        *trimmed = told.trimmed;
    weir_disk_child_end(&child, false, why);
    if (!told.over)
        return weir_report_set(report, WEIR_EMALFORMED, self->folder,
                               "it is damaged: %s; `weir bus verify` tells more", why);
    errno = told.saved;
    if (told.report.err && report) *report = told.report;
    return told.report.err;
}

weir_err weir_disk_trim(const char *path, int64_t age_us, int64_t bytes, int64_t records,
                        uint64_t *trimmed, weir_report *report)
{
    trim self = {.keep = {age_us, bytes, records}, .now_ms = weir_clock_wall_ms()};
    char data[WEIR_DISK_FOLDER_MAX + 16];
    struct stat st = {0};
    int lock;
    *trimmed = 0;
    weir_err err = weir_disk_current(self.folder, path, report); // before it makes a lock
    if (!err) err = weir_disk_lock(&lock, path, true, report);
    if (err) return err;
    err = weir_disk_current(self.folder, path, report);
    snprintf(data, sizeof data, "%s/data.mdb", self.folder);
    if (!err && stat(data, &st) == 0) self.map_bytes = st.st_size + spare_bytes;
    if (!err) err = trim_folder(&self, trimmed, report);
    close(lock);
    return err;
}
