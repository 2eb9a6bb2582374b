/*  disk_store: what the parts of store_disk share. No one else includes it.

        store_disk.c    the table, opening and closing
        disk_env.c      environments: make, open, read transactions
        disk_rows.c     what is kept of each shard, and its oldest block
        disk_count.c    the same of a store that keeps no counts yet
        disk_fences.c   fences, and their sum
        disk_check.c    what LMDB's pages must be before it may follow them
        disk_read.c     reads
        disk_flusher.c  the thread that writes: queue and answers
        disk_commit.c   one transaction of it
        disk_keep.c     bounds, and what groups hold
        disk_fences.c   fences, and those that hold nobody up any more
        disk_compact.c  compaction, in a thread of its own until its last round
        disk_since.c    where a time begins
        disk_trim.c     a tool of its own
        disk_watch.c    who is told of new records

    Readers share env_lock for a transaction; who replaces the environment or its map has
    it alone, so a read transaction is never open then. The flusher alone writes, but for
    the environment that a compaction fills.                                        */
#pragma once
#include <pthread.h>
#include "actors/disk_private.h"
#include "actors/lmdb_pages.h"
#include "actors/store_disk.h"
#include "actors/watchers.h"

/* --- Environments (disk_env.c) ----------------------------------------------------- */

typedef struct {
    MDB_env *env; // NULL: closed
    MDB_dbi blocks, gaps, fences, meta;
    bool counted; // it keeps what each shard has
    char folder[WEIR_DISK_FOLDER_MAX];
} weir_disk_env;

/*  Makes folder `number` of the store at path, with an empty environment; what was in a
    folder of that number goes. An MDB or errno code.                               */
int weir_disk_env_make(weir_disk_env *self, const char *path, unsigned number,
                       int64_t map_bytes);
/*  Opens an existing one. WEIR_ENOTFOUND, WEIR_EMALFORMED (damage, another version),
    WEIR_ESYS, with a report.                                                       */
weir_err weir_disk_env_open(weir_disk_env *self, const char *folder, int64_t map_bytes,
                            bool readonly, weir_report *report);
void weir_disk_env_close(weir_disk_env *self);

/*  The version of an environment that counts. MDB codes.                           */
int weir_disk_version_put(const weir_disk_env *self, MDB_txn *txn);

/*  The number that CURRENT names; 0: it names none.                                */
unsigned weir_disk_number(const weir_disk_env *self);
/*  Renames in a CURRENT that names this number. errno.                             */
int weir_disk_set_current(const char *path, unsigned number);
/*  Marks it for its readers and removes it, however far that comes. Closed.        */
void weir_disk_env_remove(const char *folder);

/*  Pages of its file, of them free ones, and bytes of a page, as of the transaction. */
typedef struct {
    uint64_t pages, free, page_bytes;
} weir_disk_pages;
int weir_disk_count_pages(const weir_disk_env *self, MDB_txn *txn, weir_disk_pages *is);

/* --- Checks (disk_check.c) --------------------------------------------------------- */

/*  The pages to some blocks of a shard that were checked: those of one leaf.        */
typedef struct {
    uint64_t from, until; // offsets; until 0: none
    weir_lmdb_way pages;
} weir_disk_way;

typedef enum {
    WEIR_DISK_READS,  // a cursor is set to the key, or to the next one
    WEIR_DISK_WRITES, // it steps either way, and pages are put together or divided
} weir_disk_purpose;

/*  Checks the pages by which the table blocks leads to a key, unless they were: *way is
    of the key's shard, or zeroed. What this process has written since is what they were.
    MDB_CORRUPTED.                                                                  */
int weir_disk_check_way(MDB_txn *txn, weir_disk_way *way, weir_disk_key key,
                        weir_disk_purpose purpose);

/*  What an MDB code means; of MDB_CORRUPTED what this thread's check has found.     */
const char *weir_disk_strerror(int rc);

/* --- Rows (disk_rows.c) ------------------------------------------------------------ */

/*  What a shard has.                                                               */
typedef struct {
    uint32_t id;
    weir_disk_counts has;              // in the table meta, when the environment counts
    uint64_t epoch, sequence;          // of its last record; 0: not known
    uint64_t oldest_first, oldest_end; // offsets of its oldest block; 0: it has none
    uint64_t oldest_bytes;
    int64_t oldest_ms, newest_ms; // arrival
    weir_disk_way way;            // to its oldest block
} weir_disk_row;

static inline uint64_t weir_disk_row_records(const weir_disk_row *self)
{
    return self->has.last - self->has.trimmed - self->has.damaged;
}

/*  Whether its oldest block has to go.                                             */
static inline bool weir_disk_row_drops(const weir_disk_row *self,
                                       const weir_disk_keep *keep, int64_t now_ms)
{
    if (!self->oldest_end) return false;
    uint64_t rest =
        weir_disk_row_records(self) - (self->oldest_end - self->oldest_first + 1);
    return weir_disk_keep_drops(keep, self->has.bytes - self->oldest_bytes, rest,
                                self->oldest_ms, now_ms);
}

typedef struct {
    weir_disk_row *items; // owned, by rising id
    size_t count;
} weir_disk_rows;

/*  Reads them all, and the first and the last block of each. MDB codes here and below. */
int weir_disk_rows_load(weir_disk_rows *self, const weir_disk_env *env, MDB_txn *txn);
/*  The row of a shard, made when it has none.                                      */
weir_disk_row *weir_disk_rows_of(weir_disk_rows *self, uint32_t id);
/*  Fills in the rows of an environment that does not count: reads every key, no body
    (disk_count.c).                                                                 */
int weir_disk_rows_count(weir_disk_rows *self, const weir_disk_env *env, MDB_txn *txn);
/*  From then on it counts. Commits.                                                */
int weir_disk_rows_begin(const weir_disk_rows *self, weir_disk_env *env);
/*  The offset of a shard's last record; 0: it has none.                            */
int weir_disk_last_of(const weir_disk_env *env, MDB_txn *txn, uint32_t shard,
                      uint64_t *last);
/*  Keeps what a shard has; nothing in an environment that does not count.          */
int weir_disk_row_put(const weir_disk_env *env, MDB_txn *txn, const weir_disk_row *row);
/*  Steps to the last key of a shard; MDB_NOTFOUND: it has none.                    */
int weir_disk_seek_last(MDB_cursor *cursor, uint32_t shard, weir_disk_key *at,
                        MDB_val *value);
/*  Sets what is told of a block that is a shard's oldest, or newest.               */
int weir_disk_set_oldest(weir_disk_row *row, const weir_disk_env *env, MDB_txn *txn,
                         weir_disk_key key, const MDB_val *value);
void weir_disk_set_newest(weir_disk_row *row, weir_disk_key key, const MDB_val *value);
/*  Deletes the oldest block, notes the gap and finds the next one.                 */
int weir_disk_drop_oldest(const weir_disk_env *env, MDB_txn *txn, weir_disk_row *row);

/*  Checks what the rows say against gaps, fences and the shards that there are, and the
    newest 64 blocks of each shard (disk_check.c).                                  */
weir_err weir_disk_check_rows(const weir_disk_rows *self, const weir_disk_env *env,
                              MDB_txn *txn, weir_report *report);

/*  A key with its bytes.                                                           */
typedef struct {
    uint8_t bytes[WEIR_DISK_KEY_SIZE];
    MDB_val val; // points to them
} weir_disk_packed;

static inline MDB_val *weir_disk_pack(weir_disk_packed *self, uint32_t shard,
                                      uint64_t last)
{
    weir_disk_key key = {shard, last};
    weir_disk_key_pack(&key, self->bytes);
    self->val = (MDB_val){sizeof self->bytes, self->bytes};
    return &self->val;
}

static inline uint64_t weir_disk_body_bytes(const MDB_val *value)
{
    return value->mv_size > WEIR_DISK_HEAD_SIZE ? value->mv_size - WEIR_DISK_HEAD_SIZE
                                                : 0;
}

static inline bool weir_disk_unpack(weir_disk_key *self, const MDB_val *val)
{
    return weir_disk_key_read(self, val->mv_data, val->mv_size);
}

/* --- Fences (disk_fences.c) -------------------------------------------------------- */

/*  All of them; *list is the caller's, when it fails, too. sum: over all of them. MDB
    codes; MDB_CORRUPTED, too, when the sum is not the one that is kept.             */
int weir_disk_read_fences(const weir_disk_env *env, MDB_txn *txn, weir_fence **list,
                          size_t *count, uint64_t *sum);
int weir_disk_fences_sum(const weir_disk_env *env, MDB_txn *txn, uint64_t *sum);
int weir_disk_fences_put(const weir_disk_env *env, MDB_txn *txn, uint64_t sum);
weir_err weir_disk_list_fences(weir_store *store, weir_fence **list, size_t *count,
                               weir_report *report);

/* --- Fences that hold nobody up (disk_sweep.c) ------------------------------------- */

/*  Looks for fences that hold nobody up any more, and deletes them little by little. Of
    what such a fence waits for nothing is left, and all that this waited for itself is
    gone, too: who waits for it would still wait for that. That the records behind it were
    trimmed makes no fence void: those that come later are behind it all the same.  */
typedef struct {
    bool changed;      // since they were looked for; they are looked for again
    size_t pause;      // transactions until then, in proportion to what a look costs
    weir_fence *found; // owned
    size_t count;      // of found
    /*  The lowest offset of a shard whose record is there, or was read and may be under
        way still; UINT64_MAX: there is none.                                       */
    uint64_t (*first_of)(void *arg, uint32_t shard);
    void *arg;
} weir_disk_sweep;

/*  A part of it, in each transaction; it is over when nothing has changed. What goes,
    leaves the sum over all fences, which the caller puts.                          */
int weir_disk_sweep_fences(weir_disk_sweep *self, const weir_disk_env *env, MDB_txn *txn,
                           uint64_t *sum);
void weir_disk_sweep_fini(weir_disk_sweep *self);

/* --- The store --------------------------------------------------------------------- */

/*  After an answer other than SAFE, until what follows may be stored again.         */
typedef struct {
    bool on;
    uint64_t epoch, sequence; // of the first record that was not stored
} weir_disk_barrier;

typedef struct {
    weir_disk_row row;
    weir_disk_barrier barrier;
    bool held; // full, and a group has not read its oldest block
} weir_disk_state;

typedef struct {
    weir_disk_state now;  // as it is stored; changed under `mutex`
    weir_disk_state next; // as the open transaction leaves it
    bool failed;          // this transaction, with its first batch
} weir_disk_shard;

/*  One write of a batch, from write () to its answer.                              */
typedef struct weir_disk_node {
    struct weir_disk_node *next;
    weir_batch *batch; // a reference
    uint64_t number;   // of the write
    bool again;        // the batch's, when it was written
    bool back;         // not taken by this transaction: it waits again
    bool blocked;      // by a barrier
    weir_store_result result;
    uint32_t refused;
    uint64_t last_offset;  // of the last record that is safe
    uint64_t fence_offset; // where its fences are
    char text[sizeof((weir_batch *)0)->text];
} weir_disk_node;

typedef struct {
    weir_disk_node *first, *last;
} weir_disk_queue;

typedef struct {
    uint32_t shard;
    uint64_t offset;
} weir_disk_commit;

typedef struct {
    char *name;                // owned
    weir_disk_commit *commits; // by rising shard
    size_t count;
    int64_t seen_us; // its last commit
} weir_disk_group;

typedef enum {
    WEIR_COMPACT_IDLE = 0,
    WEIR_COMPACT_COPYING, // its thread fills `to`
    WEIR_COMPACT_READY,   // but for a last round
    WEIR_COMPACT_FAILED,
} weir_compact_state;

typedef struct {
    pthread_t thread; // while not IDLE
    weir_disk_env to;
    atomic_int state; // weir_compact_state
    atomic_bool stop;
    uint64_t after_bytes; // not before the file has more: a failed one costs
} weir_disk_compact;

typedef struct weir_disk {
    weir_store store;       // the first: its class
    struct weir_disk *next; // that this process has open
    bool entered;           // it is in that list
    dev_t device;           // of its folder
    ino_t inode;
    char *path, *name;
    weir_disk_config config; // its texts are the owned ones
    weir_disk_keep keep;
    bool readonly;
    int lock; // -1: none
    pthread_rwlock_t env_lock;
    weir_disk_env env; // of env_lock

    /*  The flusher's.                                                              */
    weir_disk_shard **shards; // by rising id; the table changes under `mutex`
    size_t shard_count;
    weir_disk_sum *sum;
    uint64_t fence_sum, next_fence_sum; // as stored, and as the transaction leaves it
    pthread_t flusher;
    bool running;
    uint64_t file_bytes;  // of data.mdb, allocated ahead
    bool again;           // a bound could not be kept within one transaction
    bool stalled;         // the last transaction failed
    int64_t held_told_us; // when a holder was logged last; 0: never
    size_t transaction;   // id of the last one that was begun
    weir_disk_sweep sweep;
    weir_disk_compact compact;
    int wake; // eventfd

    /*  Of `mutex`.                                                                 */
    pthread_mutex_t mutex;
    pthread_cond_t answered;
    weir_disk_queue queue;   // not taken yet
    weir_disk_queue working; // in the transaction
    uint64_t written;        // number of the last write
    weir_disk_group *groups; // owned
    size_t group_count;      // of groups
    bool holding;            // a group's commit may let something go on
    bool transacting;        // what is dropped in it is decided
    uint64_t transactions;   // that have ended
    weir_watchers watchers;
    weir_disk_stats stats;     // but for map and pages
    char fatal[256];           // why nothing can be written any more
    bool closing;              // the flusher ends after its transaction
    pthread_t inotify;         // of a store for reading
    bool watching;             // that thread runs
    int inotify_fd, watch_end; // its own, and the eventfd that ends it

    /*  For tests: how a transaction is committed, a record that is refused, and what is
        done after each round of a compaction.                                      */
    int (*commit)(MDB_txn *txn);
    bool (*refuses)(const weir_record *record);
    void (*copied)(void);
} weir_disk;

/*  A read transaction; env_lock is shared until its end. WEIR_ESYS, WEIR_EMALFORMED with
    a report.                                                                       */
weir_err weir_disk_read_begin(weir_disk *self, MDB_txn **txn_p, weir_report *report);
void weir_disk_read_end(weir_disk *self, MDB_txn **txn_p);

void weir_disk_read(weir_store *store, weir_read *read); // disk_read.c

/*  Moves *position before the first block behind it that arrived then or later, or to the
    shard's end (disk_since.c).                                                     */
int weir_disk_find_since(const weir_disk_env *env, MDB_txn *txn, uint32_t shard,
                         int64_t since_ms, uint64_t *position);

/* --- Flusher (disk_flusher.c) ------------------------------------------------------ */

weir_err weir_disk_flusher_start(weir_disk *self, weir_report *report);
void weir_disk_flusher_stop(weir_disk *self); // answers RETRY for what is left
void weir_disk_write(weir_store *store, weir_batch *batch);
weir_err weir_disk_flush(weir_store *store, int64_t timeout_us, weir_report *report);
void weir_disk_wake(weir_disk *self);
weir_disk_shard *weir_disk_shard_of(weir_disk *self, uint32_t id); // made when new
void weir_disk_fail(weir_disk *self, const char *text);            // fatal from now on

/* --- One transaction (disk_commit.c) ----------------------------------------------- */

/*  Stores what is in `working` (maybe nothing) and keeps the bounds; sets the nodes'
    answers.                                                                        */
void weir_disk_transact(weir_disk *self);
/*  Doubles the map, when no reader is in it. MDB_MAP_FULL: it has map_max.         */
int weir_disk_grow(weir_disk *self);
/*  Brings the pages in `stats` up to date.                                          */
void weir_disk_count(weir_disk *self);

/* --- Bounds (disk_keep.c) ---------------------------------------------------------- */

/*  Drops what has to go of a shard in the open transaction, at most *budget blocks.  */
int weir_disk_keep_shard(weir_disk *self, MDB_txn *txn, weir_disk_shard *shard,
                         uint32_t *budget);
/*  Whether a block has to go, and may; one that this transaction stores never.      */
bool weir_disk_keep_due(weir_disk *self, const weir_disk_shard *shard);
/*  Of a sweep of this store.                                                        */
uint64_t weir_disk_first_of(void *self, uint32_t shard);
/*  Whether a shard, as the row says, is full and held.                             */
bool weir_disk_is_held(weir_disk *self, const weir_disk_row *row);
bool weir_disk_hold(weir_store *store, uint32_t shard, weir_store_hold *hold);
/*  Looks again at what was held; before batches are taken.                         */
void weir_disk_keep_judge(weir_disk *self);
/*  When the next block is too old, of weir_clock_now_us; -1: never.                 */
int64_t weir_disk_keep_deadline(weir_disk *self);
void weir_disk_group_commit(weir_store *store, const char *group, uint32_t shard,
                            uint64_t offset);
void weir_disk_group_forget(weir_store *store, const char *group);
void weir_disk_groups_fini(weir_disk *self);

/* --- Compaction (disk_compact.c) --------------------------------------------------- */

/*  Between two transactions: begins one when it is worth it, ends one that is ready. */
void weir_disk_compact_step(weir_disk *self);
void weir_disk_compact_stop(weir_disk *self);

/* --- Watchers (disk_watch.c) ------------------------------------------------------- */

void weir_disk_watch(weir_store *store, int eventfd);
void weir_disk_unwatch(weir_store *store, int eventfd);
void weir_disk_tell(weir_disk *self); // records were stored
void weir_disk_watch_fini(weir_disk *self);
