/*  dispatch: the batches of one shard on their way into its store: in order, several at a
    time, tried again until they are safe.

        send --> under way --SAFE-----> settled (safe)
                   ^   |---REFUSED---> settled (dead) for that record, the rest again
                   |   '---RETRY, no answer in time
                   '-- wait ---'  attempts used up: settled (dead), or failed

    Records are settled in their order. Each attempt is a batch of its own to the store,
    so that a late answer to an earlier one harms nothing. Belongs to one thread; the
   store answers in others. */
#pragma once
#include "actors/batcher.h"
#include "runtime/dead.h"

typedef enum { WEIR_EXHAUSTED_DEAD = 0, WEIR_EXHAUSTED_STOP } weir_exhausted;

extern const char *const weir_exhausted_words[]; // dead stop

typedef struct {
    int64_t attempts;   // of a batch; WEIR_FOREVER
    int exhausted;      // weir_exhausted
    int64_t timeout_us; // of one attempt
    weir_retry_wait wait;
} weir_retry_config;

/*  for ever, dead, 30 s, 100 ms to 30 s.                                           */
#define WEIR_RETRY_DEFAULTS                                                              \
    {                                                                                    \
        .attempts = WEIR_FOREVER, .exhausted = WEIR_EXHAUSTED_DEAD,                      \
        .timeout_us = 30000000, .wait = {                                                \
            .first_us = 100000,                                                          \
            .max_us = 30000000                                                           \
        }                                                                                \
    }

/*  Why records are given up.                                                       */
typedef struct {
    weir_dead_reason reason; // REFUSED, EXHAUSTED
    uint32_t attempts;
    const char *text; // the store's
} weir_dispatch_loss;

typedef struct {
    weir_store *store; // lent
    uint32_t shard;
    uint64_t nonce;
    weir_retry_config retry;
    /*  These records of the batch (lent), count from first, are safe; or they are not and
        become dead letters: loss. NULL: safe.                                      */
    void (*settled)(void *arg, const weir_batch *batch, uint32_t first, uint32_t count,
                    const weir_dispatch_loss *loss);
    /*  A batch is settled as a whole: there is room for another.                   */
    void (*ended)(void *arg);
    /*  Nothing behind what is settled may be: fatal, or a stop.                     */
    void (*failed)(void *arg, const char *text);
    void *arg;
} weir_dispatch_config;

typedef struct weir_dispatch weir_dispatch;

/*  WEIR_ESYS: no descriptors left.                                                 */
weir_err weir_dispatch_new(weir_dispatch **self_p, const weir_dispatch_config *config);

/*  The store must not answer any more: it was closed, or the batches are left to it.   */
void weir_dispatch_destroy(weir_dispatch **self_p);

void weir_dispatch_send(weir_dispatch *self, weir_batch **batch_p, int64_t now_us);

/*  Whether fences that came with a batch are not stored yet.                       */
bool weir_dispatch_has_fences(const weir_dispatch *self);

/*  Readable when the store has answered; then read.                                */
int weir_dispatch_fd(const weir_dispatch *self);
void weir_dispatch_read(weir_dispatch *self, int64_t now_us);

/*  When an attempt is due, or has waited too long; -1: never. And doing it.        */
int64_t weir_dispatch_deadline(const weir_dispatch *self);
void weir_dispatch_run_due(weir_dispatch *self, int64_t now_us);

typedef struct {
    uint32_t batches;         // under way
    uint64_t records;         // in them, not settled
    uint64_t retries;         // attempts after the first
    int64_t since_us;         // when the oldest was sent; 0: none
    int64_t oldest_us;        // when its first record entered the ring; 0: none
    int64_t failing_since_us; // of the present failure; 0: none
    bool held;                // the store waits for a consumer group
    char error[256];          // of the last failed attempt; "" once it was made good
} weir_dispatch_stats;

void weir_dispatch_look(const weir_dispatch *self, weir_dispatch_stats *stats);
