/*  bus_server: lets other processes read a bus with a store, over a ROUTER socket and in
    MessagePack (docs/wire.md, "The bus endpoint"): they poll pages by cursor, or are
    members of consumer groups. A request that finds nothing waits here, and holds up
    nobody else; a client that is silent for too long is a member no more.              */
#pragma once
#include "actors/hub.h"
#include "runtime/actor.h"

typedef struct {
    weir_node
        node;      // of the bus; the local endpoint bears its topology's name and its own
    weir_hub *hub; // lent, open, with a store
    weir_vitals *bus_vitals; // lent; they tell of the endpoint
} weir_bus_server_config;

extern const weir_class weir_bus_server_class;
void weir_bus_server(zsock_t *pipe, void *config);
