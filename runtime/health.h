/*  health: how a running topology fares, for those who watch it: judged from vitals,
    from any thread, without disturbing an actor.

    An actor is ok, degraded (it waits for what should not let it wait) or failed.
    The topology is healthy when all are ok. It is ready when it has been started, none
    has failed, and it is not draining.                                        */
#pragma once
#include "runtime/plan.h"

typedef enum {
    WEIR_HEALTH_OK = 0,
    WEIR_HEALTH_DEGRADED,
    WEIR_HEALTH_FAILED,
} weir_health;

typedef enum {
    WEIR_PHASE_STARTING = 0,
    WEIR_PHASE_RUNNING,
    WEIR_PHASE_DRAINING,
} weir_phase;

/*  What is watched; all of it is lent and outlives the watcher.               */
typedef struct {
    const char *name; // of the topology
    const weir_plan *plan;
    weir_vitals *const *vitals; // of plan->nodes
    const weir_ledger *ledger;
    weir_phase phase;
} weir_view;

const char *weir_health_name(weir_health health); // "ok", "degraded", "failed"
const char *weir_phase_name(weir_phase phase);    // "starting", "running", "draining"

weir_health weir_health_of(weir_vitals *vitals);

/*  Of the whole topology: that of its worst node.                             */
weir_health weir_health_worst(const weir_view *view);
bool weir_health_is_ready(const weir_view *view);

/*  One JSON object and a line break: name, status, ready, phase, and each node with its
    health and the reasons, as sentences.                                      */
void weir_health_put(const weir_view *view, weir_buffer *out);
