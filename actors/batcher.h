/*  batcher: turns what is in a shard's ring into batches of adaptive size, numbers their
    records, and knows when a failed one is tried again. A class without threads or
    sockets; time is the caller's.

        goal   = clamp (floor (v * max_delay / 2), min_records, max_records)
        target = target + (goal - target) / 4, the step rounded away from 0, each 10 ms

    v is the rate of arrival over the last window. A batch closes with the block that
    brings it to its target, before a record that would exceed max_records or max_bytes,
    max_delay after its first record, or at a token. A record above max_bytes is a batch
    of its own.

    Work is by pieces, not by records, as long as the ring's blocks fit into batches. */
#pragma once
#include "actors/store.h"

typedef struct {
    int64_t min_records, max_records, max_bytes;
    int64_t in_flight; // batches that are closed and not settled, at most
    int64_t max_delay_us, window_us;
} weir_batch_config;

/*  64, 10000, 1 MB, 4, 10 ms, 100 ms.                                              */
#define WEIR_BATCH_DEFAULTS                                                              \
    {                                                                                    \
        .min_records = 64, .max_records = 10000, .max_bytes = 1 << 20, .in_flight = 4,   \
        .max_delay_us = 10000, .window_us = 100000                                       \
    }

typedef struct weir_batcher weir_batcher;

/*  Sequences begin at 1 for each epoch.                                            */
weir_batcher *weir_batcher_new(const weir_batch_config *config, uint32_t shard,
                               uint64_t epoch);
void weir_batcher_destroy(weir_batcher **self_p); // what is open goes, too

/*  Records have arrived at the shard.                                              */
void weir_batcher_arrived(weir_batcher *self, uint32_t records, int64_t now_us);

/*  Takes from the ring while fewer than in_flight batches are out, and gives the next
    batch that is closed, which the caller owns; NULL: none is yet. Tokens that it passes
    are handed to token () once everything before them is in a batch that was given, in
    order: a token that has closed a batch by the next call, so call until it is NULL.
    Pieces keep their entries; arrived_ms is made from the wall clock.              */
typedef void(weir_batcher_token)(void *arg, weir_entry *entry);
weir_batch *weir_batcher_next(weir_batcher *self, weir_ring *ring, int64_t now_us,
                              weir_batcher_token *token, void *arg);

/*  From now on no record waits for others.                                         */
void weir_batcher_hurry(weir_batcher *self);

/*  A batch that was given is settled: safe, or dead.                               */
void weir_batcher_settled(weir_batcher *self);

/*  When the open batch is due; -1: there is none, or no batch may be given now.    */
int64_t weir_batcher_deadline(const weir_batcher *self);

/*  The target that an arrival would find now. To look changes nothing.             */
uint32_t weir_batcher_target(const weir_batcher *self, int64_t now_us);
uint32_t weir_batcher_open_records(const weir_batcher *self);
/*  When the first record of the open batch entered the ring; 0: none is open.      */
int64_t weir_batcher_opened_us(const weir_batcher *self);
uint32_t weir_batcher_in_flight(const weir_batcher *self);
/*  Of the next record that is taken from the ring.                                 */
uint64_t weir_batcher_sequence(const weir_batcher *self);

/* --- Retry ------------------------------------------------------------------------- */

typedef struct {
    int64_t first_us,
        max_us; // the wait after the first failure, its ceiling: 1 ms to 1 h
} weir_retry_wait;

/*  The wait after failed attempt a = 1, 2, .. of what begins with this sequence:
    B * (0.75 + u / 2), B = min (max, first * 2^(a - 1)), and u in [0, 1) from XXH3-64 of
    (nonce, shard, sequence, a as four little-endian u64).                          */
int64_t weir_retry_wait_us(const weir_retry_wait *self, uint64_t nonce, uint64_t shard,
                           uint64_t sequence, uint64_t attempt);
