/*  tap: samples of the records that pass a node, for whoever looks.

    It lies in the node's vitals. The node's threads offer every block that they send (a
    sink: every block that it takes); while nobody taps that costs one load. Else a few
    records are rendered as JSON into a bounded buffer, which the supervisor empties
    WEIR_TAP_DRAINS times a second. The node never waits: what finds the buffer full, the
    share used up or the lock taken is counted as skipped.                        */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "runtime/block.h"

#define WEIR_TAP_DRAINS 10        // a second
#define WEIR_TAP_SHARE 10         // most samples between two of them
#define WEIR_TAP_MAX (256 << 10)  // bytes of the buffer
#define WEIR_TAP_RECORD_MAX 65536 // bytes of a payload that is sampled
#define WEIR_TAP_OUTLET_MAX 132   // bytes with the final 0: "node.outlet"

typedef struct {
    _Atomic bool on;
    _Atomic uint64_t skipped;         // records that were not sampled
    pthread_mutex_t lock;             // of what follows
    char outlet[WEIR_TAP_OUTLET_MAX]; // "": all
    int share;                        // samples left until the next drain
    weir_buffer lines;                // outlet 0 line 0 outlet 0 line 0 ..
} weir_tap;

#define WEIR_TAP_INIT                                                                    \
    {                                                                                    \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                \
    }

void weir_tap_sample(weir_tap *self, const char *outlet, weir_block *block);

/*  In a thread of the node, for each block. Does not block.                        */
static inline void weir_tap_look(weir_tap *self, const char *outlet, weir_block *block)
{
    if (atomic_load_explicit(&self->on, memory_order_relaxed))
        weir_tap_sample(self, outlet, block);
}

/*  Begins to sample what leaves by the outlet, or by any with ""; when it is open already
    it only changes that. Close forgets what was sampled. Any thread.             */
void weir_tap_open(weir_tap *self, const char *outlet);
void weir_tap_close(weir_tap *self);

/*  Moves the samples to `lines`, whose contents are dropped, and the number of those
    skipped meanwhile to *skipped. Any thread.                                    */
void weir_tap_drain(weir_tap *self, weir_buffer *lines, uint64_t *skipped);

/*  The next sample of drained lines: a JSON object, {"outlet", "ts", "key", "source",
    "peer", "payload"}; payload is "text" or "msgpack" where it is no JSON. *at is 0 at
    first. False behind the last.                                                 */
bool weir_tap_next(const weir_buffer *lines, size_t *at, const char **outlet,
                   const char **line);

/*  Appends a record as such an object; outlet NULL: without that member; origin may be
    NULL.                                                                         */
void weir_tap_put_record(weir_buffer *out, const char *outlet, const weir_record *record,
                         const weir_run *origin);

/*  Its last member alone: `,"payload":` with JSON, or what stands for it.         */
void weir_tap_put_payload(weir_buffer *out, const weir_record *record);
