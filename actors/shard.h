/*  shard: one shard of a bus.

        outlets ==links==> ring --> batcher --+--> dispatch --> store
                                              '--> links to the readers (no store)

    Ring, batcher and dispatch are classes without sockets; this actor moves records
    between them and keeps the book: an input is acknowledged when all its records are
    safe, shed by the overflow policy, or dead letters.                             */
#pragma once
#include "actors/dispatch.h"
#include "runtime/actor.h"

/*  What a shard has done since it started and what it holds, as of one instant.    */
typedef struct {
    int64_t at_us; // that instant
    weir_ring_stats ring;
    uint64_t safe, dead;
    uint64_t open, under_way; // records: in the open batch; dispatched and not settled
    uint64_t recalled;        // records that restarts gave up, to come again
    uint64_t batches;
    uint32_t target;   // of a batch
    int64_t oldest_us; // when the oldest record that is not safe came; 0: none
    weir_dispatch_stats dispatch;
} weir_shard_stats;

/*  Records that have been accepted and whose fate is not known.                    */
uint64_t weir_shard_resident(const weir_shard_stats *self);

/*  Records that were offered and have not entered.                                 */
uint64_t weir_shard_rejected(const weir_shard_stats *self);

/*  Adds all counts and the retries; of `oldest_us` the earlier remains, and the rest of
    dispatch and the target are left alone.                                         */
void weir_shard_stats_add(weir_shard_stats *self, const weir_shard_stats *more);

/*  Where the shard leaves its statistics after each turn for whoever looks. Zeroed but
    for the lock.                                                                       */
typedef struct {
    pthread_mutex_t lock;
    weir_shard_stats stats;
} weir_shard_window;

typedef struct {
    weir_node node; // name: the bus; its pool is the ring
    uint32_t id;
    uint64_t nonce, epoch;
    weir_ring_config ring; // its callbacks are the shard's own business
    weir_batch_config batch;
    weir_retry_config retry;
    weir_store *store;         // lent; NULL: readers are linked to the outlet
    weir_shard_window *window; // lent; NULL: nobody looks
} weir_shard_config;

/*  Commands beside the kit's:
        PARK address   set of vnodes (weir_park_set) whose records are parked
        RELEASE [from last_offset]...   parked records go on, their first batch with these
                       fences
        FENCED         1 when all fences are stored, else 0
        RETIRE         it ends (WEIR_STATE_ENDED) when all that it has is safe
        HURRY          no record waits for others any more: the bus is draining
        CLOSE          nothing is taken any more: blocks are refused as `closed`     */
typedef struct {
    const uint64_t *bits; // one a vnode
    uint32_t vnodes;
} weir_park_set;

extern const weir_class weir_shard_class;
void weir_shard(zsock_t *pipe, void *config);
