/*  scale: how many shards a bus should have, and which vnodes move when that changes.
    Pure functions and a small class; time is the caller's.                         */
#pragma once
#include "actors/bus_state.h"

typedef struct {
    int64_t min, max; // active shards; max WEIR_NONE: as many as at the start, which who
                      // reads the options puts in its place before weir_scaling_new
    double fill;      // of the ring, at load 1
    double idle_fill; // below it a shard may be cold
    int64_t wait_us;  // in the ring, at load 1
    int64_t window_us, cooldown_us, idle_delay_us;
} weir_scale_config;

#define WEIR_SCALE_DEFAULTS                                                              \
    {                                                                                    \
        .min = 1, .max = WEIR_NONE, .fill = 0.7, .idle_fill = 0.1, .wait_us = 50000,     \
        .window_us = 1000000, .cooldown_us = 5000000, .idle_delay_us = 30000000          \
    }

/*  What one active shard did in the last window.                                   */
typedef struct {
    uint32_t id;
    uint32_t vnodes;
    double fill;     // time-weighted mean of the fuller of records and bytes, 0 to 1
    int64_t wait_us; // 95th percentile of the time in the ring
    double rate;     // records a second
    int64_t age_us;  // since it became active
} weir_shard_load;

/*  For people, and for a policy that is a function.                                */
typedef struct {
    uint32_t shards;
    uint32_t hot;    // in this window
    uint32_t cold;   // in every window of the last idle_delay
    double load;     // sum over the shards that are older than cooldown
    double fill;     // mean over all, as are
    int64_t wait_us; // the worst
    double rate;     // and the sum
} weir_scale_figures;

/*  A policy that somebody else supplies, as lua/ does for a function. All in the thread
    of the bus's node.                                                                 */
typedef struct {
    weir_err (*open)(void **self_p, const void *source, weir_ledger *ledger,
                     weir_report *report);
    /*  How many shards there should be; the number is clamped to the bounds. After an
       error there are as many as before. */
    weir_err (*want)(void *self, const weir_scale_figures *figures, int64_t *shards,
                     weir_report *report);
    void (*close)(void **self_p);
} weir_policy_class;

typedef struct {
    const weir_policy_class *class; // NULL: none
    const void *source;             // lent
} weir_policy;

typedef struct weir_scaling weir_scaling; // remembers since when shards are cold

weir_scaling *weir_scaling_new(const weir_scale_config *config); // copied
void weir_scaling_destroy(weir_scaling **self_p);

/*  Once each window, with all active shards: how many there should be. The number they
    are, while a cooldown lasts or when nothing is to change. changed () starts the
    cooldown.                                                                       */
uint32_t weir_scaling_want(weir_scaling *self, const weir_shard_load *shards,
                           uint32_t count, int64_t now_us, weir_scale_figures *figures);
void weir_scaling_changed(weir_scaling *self, int64_t now_us);

/*  What becomes of a number that a policy wants: count while a cooldown lasts, else
    within min and max.                                                             */
uint32_t weir_scaling_allow(const weir_scaling *self, uint32_t count, int64_t wanted,
                            int64_t now_us);

/*  Sorts all ids in the order in which to drain: the lowest rate first, of equal ones
    the younger shard.                                                              */
void weir_scale_drain_order(const weir_shard_load *shards, uint32_t count, uint32_t *ids);

/*  Moves the fewest vnodes so that the active shards' numbers differ by at most one and
    all others have none: owners[vnode] is changed in place. Gives how many moved. An
    owner that is no shard yet is one that has none. active: ids in any order, not empty.
 */
uint32_t weir_scale_assign(uint32_t *owners, uint32_t vnodes, const uint32_t *active,
                           uint32_t active_count);
