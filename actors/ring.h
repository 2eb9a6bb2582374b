/*  ring: what a shard holds between its inlet and its batcher: parts of blocks, first in
    first out, bounded in records and bytes.

        offer --+--> ready ------------------> take
                +--> parked --release--> behind the ready ones

    It is full for a record when count + 1 > records or bytes + size > bytes; overflow
    decides what happens then. Parked are the records of vnodes that move in, until their
    former shard has made safe what it has of them; they count like the others.

    A block enters and leaves as it is, without a look at its records, where all of it
    fits. Where a part enters, the ring keeps a slice of the block, or a copy if the part
    is below half of its bytes or scattered.

    Each record that comes in with an entry leaves it exactly once: by `left`, when it was
    taken or evicted, or by `shed` alone when it never entered. A class without threads or
    sockets; time is the caller's (weir_clock_now_us).                              */
#pragma once
#include "runtime/block.h"
#include "runtime/book.h"
#include "runtime/histogram.h"
#include "runtime/options.h"

typedef enum {
    WEIR_OVERFLOW_BLOCK = 0,   // credit bounds it: what comes all the same enters
    WEIR_OVERFLOW_DROP_NEWEST, // records that do not fit are rejected
    WEIR_OVERFLOW_DROP_OLDEST, // the oldest are evicted until the new one fits
    WEIR_OVERFLOW_SAMPLE,      // 1 in one_in enters so, the others are rejected
    WEIR_OVERFLOW_FAIL,        // a block that does not fit whole is rejected
} weir_overflow;

extern const char *const weir_overflow_words[]; // in the order of weir_overflow

typedef struct {
    int64_t records, bytes; // most that it holds, above 0
    int overflow;           // weir_overflow
    int64_t one_in;         // of SAMPLE, above 0
    /*  Both must not call the ring. For evicted records shed comes first, then left; a
        token is told to neither, nor is what destroy finds.
        Records of this entry are given up: rejected, or evicted.                   */
    void (*shed)(void *arg, weir_entry *entry, uint32_t records);
    /*  Records of this entry are not in the ring any more: taken (the piece is written
        before), or evicted.                                                        */
    void (*left)(void *arg, weir_entry *entry, uint32_t records);
    void *arg;
} weir_ring_config;

typedef struct weir_ring weir_ring;

/*  Part of a block, or a token (block NULL), and the entry that waits for it.      */
typedef struct {
    weir_block *block; // owned by who has the piece
    weir_entry *entry;
    int64_t since_us; // when it entered
} weir_piece;

weir_ring *weir_ring_new(const weir_ring_config *config);
void weir_ring_destroy(weir_ring **self_p);

/*  Offers the records of a block (lent), in order. WEIR_OK: the policy has decided for
    each of them. WEIR_EFULL (FAIL only): it does not fit whole. WEIR_ETOOBIG: a record is
    above half of `bytes`. After both nothing has entered, and all of it counts as
    rejected; neither callback is called for it.                                    */
weir_err weir_ring_offer(weir_ring *self, weir_block *block, weir_entry *entry,
                         int64_t now_us);

/*  Counts records that never came as far as the ring.                             */
typedef enum { WEIR_REJECT_INVALID, WEIR_REJECT_CLOSED } weir_reject;
void weir_ring_reject(weir_ring *self, weir_reject why, uint32_t records);

/*  A token takes its place behind everything offered so far, parked records too, costs
    nothing and is never evicted. So, while records are parked, it waits behind them, and
    what is ready passes it; it becomes ready, behind what is ready then, when they are
    released or have all been evicted.                                              */
void weir_ring_put_token(weir_ring *self, weir_entry *entry, int64_t now_us);

/*  Takes the next piece: at most so many records and bytes of one block, or a token.
    False: nothing is ready, or the next record alone is larger than max_bytes. A piece is
    the block itself that was offered, where it is all of it and that is what entered. */
bool weir_ring_take(weir_ring *self, uint32_t max_records, size_t max_bytes,
                    int64_t now_us, weir_piece *piece);

/*  Bytes of the next record that is ready; 0: none is, or a token is next.         */
size_t weir_ring_next_size(const weir_ring *self);

/*  From now on records whose vnode (by their own key) is in the set are parked. One bit a
    vnode, copied; a second set adds to the first. Release puts what is parked, tokens
    too, behind what is ready and parks no more; it gives how many records these are.
    DROP_OLDEST and SAMPLE evict parked records only when none is ready.            */
void weir_ring_park(weir_ring *self, const uint64_t *set, uint32_t vnodes);
uint64_t weir_ring_release(weir_ring *self);

/*  offered = accepted + full + sampled + too_large + invalid + closed, at all times.
    These only grow, but for count, bytes and parked.                               */
typedef struct {
    uint64_t offered, accepted, full, sampled, too_large, invalid, closed, evicted;
    uint64_t count, bytes; // in the ring now, parked ones too
    uint64_t parked;       // records of them
    int64_t oldest_us;     // when the oldest of them entered; 0: there are none
    double fill_us;        // integral over time of max(count / records, bytes / bytes)
    weir_histogram waited; // time in the ring of each record taken, us
} weir_ring_stats;

/*  As of now_us: fill_us is brought up to then.                                    */
void weir_ring_look(weir_ring *self, int64_t now_us, weir_ring_stats *stats);
/*  True when it holds `records`: no credit is given then.                          */
bool weir_ring_is_full(const weir_ring *self);
