/*  bus_tell: what a bus lets be known of itself: as JSON, for the control endpoint and
    the audit, and as metrics. All of it is read from the hub, from any thread, whether
   the bus runs or not.

    What is exact: the counts of one shard are of one instant of it, and so they balance,
    as do their sums. What the store has is of one instant of the store, after that of
    the shards; a group's commits are taken before the ends of what it reads.        */
#pragma once
#include "runtime/metrics.h"

/*  weir_class.tell of a bus.                                                       */
void weir_bus_tell(const void *config, weir_buffer *out);

/*  weir_class.metrics of a bus.                                                    */
extern const weir_class_metric weir_bus_metrics[];
