/*  why: what holds what back, and since when: one sentence for each path from a source
    to a sink.

    A pure function of a snapshot. It walks a path from its source and follows whoever
    waits for a reader to that reader, until it comes to a node with a cause of its own.
 */
#pragma once
#include "runtime/plan.h"

/*  What is known of a node. */
typedef struct {
    weir_state state;
    bool at_end;        // a source: nothing to read at this moment
    bool paused;        // by a command
    uint64_t open;      // blocks that are not settled
    int64_t step_us;    // when the step began that its thread is in; 0: it waits
    const char *reason; // of FAILED; else ""
    weir_wait waits[WEIR_WAITS_MAX];
    size_t wait_count;
} weir_why_node;

/*  A part that waits to start again. */
typedef struct {
    int64_t at_us;     // when it will; < 0: it does not wait
    int64_t failed_us; // since when
    const char *reason;
} weir_why_part;

/*  All is lent. */
typedef struct {
    const weir_plan *plan;      // checked
    const weir_why_node *nodes; // as plan->nodes
    const weir_why_part *parts; // indexed by plan->parts[node]
    int64_t now_us;
} weir_why;

typedef enum {
    WEIR_WHY_FLOWS = 0,
    WEIR_WHY_IDLE,   // there is nothing to do
    WEIR_WHY_ENDED,  // everything is read and safe
    WEIR_WHY_HELD,   // something or somebody holds it back
    WEIR_WHY_FAILED, // it has stopped, or waits to start again
} weir_why_verdict;

#define WEIR_WHY_DEPTH_MAX 64 // nodes of a path that are shown
#define WEIR_WHY_PATHS_MAX 256

typedef struct {
    size_t nodes[WEIR_WHY_DEPTH_MAX];
    size_t count;
    weir_why_verdict verdict;
    size_t culprit;   // index of the node with the cause
    int64_t since_us; // how long; -1: unknown
    char text[768];   // the sentence, without the path
} weir_why_path;

/*  Calls `found` for each path: of all, or of those that lead through the node `only`
    (node_count: all). At most WEIR_WHY_PATHS_MAX; false: there are more.          */
bool weir_why_paths(const weir_why *self, size_t only,
                    void (*found)(void *arg, const weir_why_path *path), void *arg);

/*  "flows", "idle", "ended", "held", "failed".                                  */
const char *weir_why_word(weir_why_verdict verdict);

/*  A duration for people: "350 ms", "12 s", "3 min 5 s", "2 h 10 min", "4 days 3 h". */
void weir_duration_print(int64_t us, char text[32]);
