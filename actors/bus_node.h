/*  bus_node: the node of a bus: runs its shards, evaluates the scaling policy, and
    answers for all of them. Blocks do not pass it: outlets find the shards by its route.
 */
#pragma once
#include "actors/bus_config.h"

extern const weir_class weir_bus_node_class;
void weir_bus_node(zsock_t *pipe, void *config);
