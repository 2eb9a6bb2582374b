/*  online: `weir check --online`: the server that each node speaks with is asked, all at
    the same time, whether it is there and has what the node needs.              */
#pragma once
#include "runtime/plan.h"

typedef struct {
    const weir_plan_node *node; // lent
    weir_report report;         // err WEIR_OK: the text says what the server is
} weir_online_answer;

typedef struct {
    weir_online_answer *items; // owned, in the order of the plan; nodes that speak with
                               // no server are left out
    size_t count, failed;
    bool stuck; // some are still being asked: plan and keys are to live as long as the
                // process
} weir_online;

/*  Blocks for the timeout at most, and half a second. keys: folder of the own
   certificate, for links; NULL: none. Both are lent. */
void weir_online_ask(weir_online *self, const weir_plan *plan, const char *keys,
                     int64_t timeout_us);
void weir_online_fini(weir_online *self);

/*  Prints them: what is well to stdout, what is not to stderr; as JSON all to stdout.  */
void weir_online_print(const weir_online *self, bool json);
