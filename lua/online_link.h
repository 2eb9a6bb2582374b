/*  online_link: whether what a node connects to by ZeroMQ is there, and lets us in: what
    `weir keys doctor ENDPOINT` finds out, for nodes with the options connect, server and
    plaintext.                                                                   */
#pragma once
#include "runtime/plan.h"

/*  Whether it is such a node, and `connect` was given.                          */
bool weir_link_connects(const weir_plan_node *node);

/*  Tries each of its endpoints; the report has the first that does not work, or says what
    was found. keys: the folder with the own certificate and those of others; NULL: none.
    Blocks, some 20 s an endpoint at most. Any thread.                           */
weir_err weir_link_probe(const weir_plan_node *node, const char *keys,
                         weir_report *report);
