/*  source.bus: brings the records of a bus of another topology, as a member of one of
    that bus's groups, over its endpoint. It acknowledges what its links have
   acknowledged. When the other side is away it waits, and begins again behind what was
   acknowledged; what was under way may then come twice. */
#pragma once
#include "actors/group_options.h"
#include "runtime/actor.h"

typedef struct {
    weir_node node;
    char *bus;     // "NAME/BUS" on this host; with connect: the name of the bus, or NULL
    char *connect; // endpoint; NULL: found by `bus` in the run folder
    char *server;  // of connect by CURVE
    bool plaintext;
    char *group;                // NULL: TOPOLOGY/NODE
    char *where;                // NULL: all
    weir_group_options options; // without `of`, ack_timeout and retry
} weir_source_bus_config;

extern const weir_source_bus_config weir_source_bus_defaults;
extern const weir_class weir_source_bus_class;
void weir_source_bus(zsock_t *pipe, void *config);
