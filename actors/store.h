/*  store: where a bus keeps its records, and where they are read again. A table of
    functions (weir_store_class) that disk, redis and jetstream fill in; shards write
    to it, readers read from it, each from its own thread, and nobody waits in it: what
    takes time is answered later by a callback.

        shard 0 --batch--+
        shard 1 --batch--+--> store --done (batch)--> the shard that waits for it
                              store --done (read)---> the reader

    Of one shard batches come in the order of their sequences and are stored so: what is
    stored is always a prefix of what was given.                                    */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "actors/ring.h"

typedef struct weir_store weir_store;

/*  Where a shard is read: a is the last offset that was read, 0: none. b is 0, but for
    redis, where a is the epoch and b the sequence.                                 */
typedef struct {
    uint64_t a, b;
} weir_position;

/*  -1, 0, 1 as a is before, at or behind b.                                        */
static inline int weir_position_order(weir_position a, weir_position b)
{
    if (a.a != b.a) return a.a < b.a ? -1 : 1;
    return a.b == b.b ? 0 : a.b < b.b ? -1 : 1;
}

static inline bool weir_position_is_none(weir_position self)
{
    return !self.a && !self.b;
}

static inline weir_position weir_position_max(weir_position a, weir_position b)
{
    return weir_position_order(a, b) < 0 ? b : a;
}

/*  Behind every record.                                                            */
static inline weir_position weir_position_end(void)
{
    return (weir_position){UINT64_MAX, UINT64_MAX};
}

/*  Of one shard: the first place behind a record's, and the last one before it. b is 0
    where offsets are numbers, and else counts from 1.                              */
static inline weir_position weir_position_next(weir_position self)
{
    return self.b ? (weir_position){self.a, self.b + 1} : (weir_position){self.a + 1, 0};
}
static inline weir_position weir_position_before(weir_position self)
{
    return self.b ? (weir_position){self.a, self.b - 1} : (weir_position){self.a - 1, 0};
}

/*  Records of vnodes that came from another shard: who reads both passes `first` of this
    shard only after the other's `last`.                                            */
typedef struct {
    uint32_t from;       // the other shard
    weir_position last;  // its last one with these vnodes
    uint32_t to;         // this shard
    weir_position first; // its first one with them; a disk store sets it in writing
} weir_fence;

/*  A copy of a bus's fences, for a store that keeps none: what set_fences and fences of
    weir_store_class do. Any thread.                                                */
typedef struct {
    pthread_mutex_t lock;
    weir_fence *list; // owned
    size_t count;
} weir_fence_list;

#define WEIR_FENCE_LIST_INIT                                                             \
    {                                                                                    \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                \
    }
void weir_fence_list_fini(weir_fence_list *self);
void weir_fence_list_set(weir_fence_list *self, const weir_fence *list, size_t count);
void weir_fence_list_get(weir_fence_list *self, weir_fence **list, size_t *count);

/* --- Writing ----------------------------------------------------------------------- */

typedef enum {
    WEIR_STORE_SAFE = 0, // on disk
    WEIR_STORE_RETRY,    // not now: timeout, connection, overload, disk full
    WEIR_STORE_REFUSED,  // one record can never be stored; those before it are safe
    WEIR_STORE_FATAL,    // nothing behind it may be acknowledged
} weir_store_result;

/*  Consecutive records of one shard, counted: its shard and its store hold a reference
    each, since an attempt that has timed out may still be answered.                */
typedef struct weir_batch {
    struct weir_batch *next; // for who has it
    atomic_uint references;
    uint32_t shard;
    uint64_t epoch, first; // ids of its records: epoch:shard:first, first + 1, ..
    uint32_t records;
    size_t bytes;       // of the records
    int64_t arrived_ms; // wall clock at its first record: the time of those without
    weir_piece *pieces; // blocks in order, no tokens; constant once written
    uint32_t piece_count, piece_capacity;
    weir_fence *fences; // stored with it
    uint32_t fence_count;
    /*  Told by the store, from any thread, once for each write: the answer is set before,
        and the reference of that write is given back after it.                     */
    void (*done)(struct weir_batch *self);
    void *owner; // of done
    bool again;  // the first that is sent after a failure: once a batch of a shard has
                 // failed, the store answers RETRY to what is behind it until this comes
    /*  The answer.                                                                 */
    weir_store_result result;
    uint32_t refused;     // index of the refused record, of REFUSED
    uint64_t last_offset; // of the last record that is safe, where it has one
    char text[256];       // why it is not safe
    atomic_bool held;     // the store waits for a consumer group before it takes it; that
                          // is no failure of the attempt
} weir_batch;

weir_batch *weir_batch_new(void);
weir_batch *weir_batch_dup(weir_batch *self);
void weir_batch_destroy(weir_batch **self_p);             // one reference less
void weir_batch_add(weir_batch *self, weir_piece *piece); // takes its block
int64_t weir_batch_oldest_us(const weir_batch *self);     // of its pieces; NULL, none: 0

/*  The records of a batch in order; false behind the last. Zeroed but for batch.   */
typedef struct {
    const weir_batch *batch;
    uint32_t piece;
    weir_iterator walk;
} weir_batch_walk;
bool weir_batch_next(weir_batch_walk *self, weir_record *record);

/* --- Reading ----------------------------------------------------------------------- */

/*  Consecutive records as they were stored in one batch.                           */
typedef struct {
    weir_block *block;        // owned; a timestamp that a record lacks is arrived_ms
    weir_position last;       // of its last record
    uint64_t offset;          // of its first record, where offsets are numbers
    uint64_t epoch, sequence; // of its first record
    int64_t arrived_ms;
} weir_chunk;

/*  Offsets that cannot be read: trimmed or damaged.                                */
typedef struct {
    uint32_t shard;
    uint64_t first, last;
    bool damaged;
    uint64_t epoch; // redis: first and last are sequences of it; else 0: they are offsets
} weir_gap;

/*  Its last position.                                                              */
static inline weir_position weir_gap_end(const weir_gap *self)
{
    return self->epoch ? (weir_position){self->epoch, self->last}
                       : (weir_position){self->last, 0};
}

typedef struct weir_read {
    struct weir_read *next;
    uint32_t shard;
    weir_position after;
    int64_t since_ms; // begins with the first batch behind `after` that arrived then or
                      // later, found by halving where the store can; 0: any. When there
                      // is none `reached` is the end, so INT64_MAX asks where that is
    uint32_t max_records; // the store may stop earlier, at least one record comes
    size_t max_bytes;     // beyond them a first record comes all the same
    void (*done)(struct weir_read *self); // once, from any thread, maybe before read ()
                                          // returns
    void *owner;
    /*  The answer, owned by who asked: weir_read_fini.                             */
    weir_err err; // the shard cannot be read now; text says why
    char text[256];
    weir_chunk *chunks;
    uint32_t chunk_count;
    weir_gap *gaps; // passed on the way
    uint32_t gap_count;
    weir_position reached; // after what was read and passed
    bool more;             // the shard may have more behind it; false: it had no more
} weir_read;

void weir_read_fini(weir_read *self); // frees the answer

/*  Adds a gap; one that continues the gap before it makes that longer.              */
void weir_read_add_gap(weir_read *self, const weir_gap *gap);

/*  What a shard has. */
typedef struct {
    uint32_t shard;
    uint64_t first, last; // offsets present, of redis numbers of entries; first > last:
                          // none
    weir_position begin;  // before the oldest one that is there
    weir_position end;    // of the last one ever stored
    weir_position was;    // what `end` was when the store was opened, before it was
    bool was_known;       // written to
    uint64_t records, bytes, trimmed;
    int64_t oldest_ms, newest_ms; // arrival
} weir_store_shard;

typedef struct {
    char group[64]; // as much of its name as fits
    uint64_t lag;
} weir_store_hold;

/* --- The table --------------------------------------------------------------------- */

typedef struct {
    const char *name; // "disk"; a bus's state belongs to the stores of one name
    /*  Queues a batch (a reference is taken); answered by batch->done. Any thread. */
    void (*write)(weir_store *self, weir_batch *batch);
    /*  Answered by read->done. Any thread.                                         */
    void (*read)(weir_store *self, weir_read *read);
    /*  The shards that have or had data; *list is the caller's to free. Any thread,
        may block shortly on disk.                                                  */
    weir_err (*shards)(weir_store *self, weir_store_shard **list, size_t *count,
                       weir_report *report);
    /*  The fences between shards; *list is the caller's. One of which nothing is left
        that it waits for may be gone.                                              */
    weir_err (*fences)(weir_store *self, weir_fence **list, size_t *count,
                       weir_report *report);
    /*  From now on it answers these fences (they are copied): of a store that cannot keep
        any, whose bus keeps them. NULL: it keeps those that batches bring. Any thread. */
    void (*set_fences)(weir_store *self, const weir_fence *list, size_t count);
    /*  The highest epoch of records of this bus that the store is known to have, 0: none
        is known. Asks its server, for a second at most. NULL: it has no other writers and
        none that come late. Any thread; blocks.                                    */
    uint64_t (*epoch)(weir_store *self);
    /*  An eventfd that becomes readable when records were stored; until unwatch.   */
    void (*watch)(weir_store *self, int eventfd);
    void (*unwatch)(weir_store *self, int eventfd);
    /*  A group's commit of a shard moved (offset); with hold nothing behind the lowest of
        all is dropped once this returns: when the group is new, or went back, it may
        wait for what is being dropped. forget: the group is no more. Any thread.   */
    void (*commit)(weir_store *self, const char *group, uint32_t shard, uint64_t offset);
    void (*forget)(weir_store *self, const char *group);
    /*  Whether the store takes nothing of this shard since a group has not read what
        should go: which group is least far, and by how many records. Any thread. NULL:
        it never does.                                                              */
    bool (*hold)(weir_store *self, uint32_t shard, weir_store_hold *hold);
    /*  Everything written before is answered when this returns. Blocks.            */
    weir_err (*flush)(weir_store *self, int64_t timeout_us, weir_report *report);
    /*  Ends it; what was not answered is answered RETRY before this returns. Once.  */
    void (*close)(weir_store **self_p);
} weir_store_class;

/*  Whether an error of these passes when the server is there again.                 */
static inline bool weir_store_is_away(weir_err err)
{
    return err == WEIR_ETIMEOUT || err == WEIR_ECLOSED;
}

struct weir_store {
    const weir_store_class *class; // what a store's own struct begins with
};
