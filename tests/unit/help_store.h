/*  help_store: a store in memory, the test bench of the bus. What is wrong with it is
    switched on and off shard by shard.

        weir_store *store = help_store_new(true, NULL);
        help_store_fail(store, 3, 2, WEIR_STORE_RETRY, "timeout");  // the next two writes
        ..
        store->class->close(&store);

    With a thread of its own it answers from there; without one it answers in the thread
    that asks, before write () and read () return, and what was held in the thread that
    lets it go. Any function may be called from any thread.                         */
#pragma once
#include "actors/store.h"

/*  How often it was called; lent by the test, which may look at any time.          */
typedef struct {
    atomic_uint writes, reads, flushes, commits, forgets, closes;
} help_store_counts;

weir_store *help_store_new(bool threaded, help_store_counts *counts); // NULL: none

/*  Called for every write, in the thread that writes, before anything else.        */
typedef void(help_store_spy)(void *arg, const weir_batch *batch);
void help_store_watch_writes(weir_store *self, help_store_spy *spy, void *arg);

/* --- What is in it ----------------------------------------------------------------- */

/*  Wall clock in ms at which from now on all arrives that is added; written batches
    bring their own. At first 1000.                                                 */
void help_store_arrive(weir_store *self, int64_t arrived_ms);

/*  Adds the records of a block (lent) as one batch, epoch 1, sequence = offset; gives the
    offset of the last one.                                                         */
uint64_t help_store_add(weir_store *self, uint32_t shard, const weir_block *block);
/*  Adds one record with this payload; key NULL, ts_ms -1: none.                    */
uint64_t help_store_put(weir_store *self, uint32_t shard, const char *json,
                        const char *key, int64_t ts_ms);

typedef struct {
    enum { HELP_PRESENT = 0, HELP_TRIMMED, HELP_DAMAGED } state;
    uint8_t *encoded; // owned by the store until it is closed
    size_t size;
    uint64_t epoch, sequence;
    uint64_t batch; // records of one batch have the same number
    int64_t arrived_ms;
} help_stored;

uint64_t help_store_last(weir_store *self, uint32_t shard); // offset, 0: none
/*  False: never stored.                                                            */
bool help_store_look(weir_store *self, uint32_t shard, uint64_t offset,
                     help_stored *stored);

/*  Trims or damages these offsets, both included.                                  */
void help_store_remove(weir_store *self, uint32_t shard, uint64_t first, uint64_t last,
                       bool damaged);
void help_store_fence(weir_store *self, const weir_fence *fence);
void help_store_forget_fences(weir_store *self); // all of them

/*  It keeps no fences that batches bring: set_fences does, as for a store on a server. */
void help_store_keep_no_fences(weir_store *self);

/* --- Switches ---------------------------------------------------------------------- */

/*  Wedged it neither takes nor answers writes of the shard; hanging it does not answer
    reads. Let go, it does what it has held, in order.                              */
void help_store_wedge(weir_store *self, uint32_t shard, bool on);
void help_store_hang(weir_store *self, uint32_t shard, bool on);

/*  The next so many writes are answered so (-1: all, 0: none), and with them the writes
    that are queued behind: what is stored is always a prefix.                      */
void help_store_fail(weir_store *self, uint32_t shard, int times,
                     weir_store_result result, const char *text);
/*  Its shards cannot be told: its server is away.                                   */
void help_store_be_away(weir_store *self, bool on);
/*  Reads are answered with an error; NULL: they are not.                           */
void help_store_fail_reads(weir_store *self, uint32_t shard, const char *text);

/*  Refuses the record with this sequence (0: none); or those of which this is true, of
    all shards (NULL: none).                                                        */
void help_store_refuse(weir_store *self, uint32_t shard, uint64_t sequence);
typedef bool(help_store_refused)(void *arg, const weir_record *record);
void help_store_refuse_if(weir_store *self, help_store_refused *refused, void *arg);
