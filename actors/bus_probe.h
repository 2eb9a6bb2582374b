/*  bus_probe: asks the server that has a bus's store, without a bus. A probe of
    weir_class: WEIR_OK without a text where the store is on no server.             */
#pragma once
#include "actors/bus_config.h"

/*  config: of a bus node (weir_bus_node_config) whose hub is there.                */
weir_err weir_bus_probe(const void *config, int64_t timeout_us, weir_report *report);
