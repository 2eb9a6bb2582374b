/*  bus_taker: the actor that hands the records of a weir_bus without store to the host's
    function.                                                                       */
#pragma once
#include "actors/bus.h"
#include "runtime/actor.h"

typedef struct {
    weir_node node;
    weir_bus_take *take;
    void *arg;
} weir_bus_taker_config;

void weir_bus_taker(zsock_t *pipe, void *config);
