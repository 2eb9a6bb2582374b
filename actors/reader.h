/*  reader: brings a node the records of a bus with a store: a member of the node's
    consumer group, which fetches within the credit of its one link. What the link
    acknowledges is acknowledged to the group; a block that it gives back is sent again
    after the group's waits. For the supervisor it is a source that can go back. */
#pragma once
#include "actors/group_options.h"
#include "actors/hub.h"
#include "runtime/actor.h"

typedef struct {
    weir_node node;
    weir_hub *hub; // lent; of the bus that it reads
    char *group;   // owned
    char *member;  // owned; the name of the node that it feeds
    weir_group_options options;
} weir_reader_config;

extern const weir_class weir_reader_class; // its options: none that the language sets
void weir_bus_reader(zsock_t *pipe, void *config);
