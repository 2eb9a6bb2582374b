/*  bus_given: the options of a bus as a C program gives them, names and values in turn:

        "store", "disk", "disk.keep.age", "7d", "shards", "4", NULL

    They are those of a topology, and so are units, ranges and errors; a nested table is
    given when one of its options is. What only Lua has, a function, is refused.      */
#pragma once
#include "actors/bus_config.h"

/*  Sets them (NULL: none) in a config that holds the defaults, and checks the whole. The
    report's where is the option. WEIR_ENOTFOUND: there is none of that name; WEIR_EINVAL.
 */
weir_err weir_bus_given_read(weir_bus_node_config *config, const char *const *options,
                             weir_report *report);
