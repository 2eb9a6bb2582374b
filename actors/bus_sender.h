/*  bus_sender: the actor inside a weir_bus: sends what is appended, over a link or into
    the shards of a bus, and tells the queue what is safe.                          */
#pragma once
#include "actors/bus_queue.h"
#include "runtime/actor.h"

typedef struct {
    weir_node node;
    weir_endpoint endpoint; // where to; of NULL: into the route
    weir_route *route;      // lent
    weir_bus_queue *queue;  // lent
    int wake_fd;            // eventfd: something to take
    int told_fd;            // eventfd of the host: acknowledged, or down
    int look_fd;            // eventfd: `look` is due; -1: never
    weir_err (*look)(void *arg, weir_report *report); // an error takes the bus down
    void *arg;
} weir_bus_sender_config;

void weir_bus_sender(zsock_t *pipe, void *config);
