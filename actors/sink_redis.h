/*  sink.redis: adds records to streams of Redis, an entry each.

    A record is done when the server has answered that it is stored; how safe that is, the
    server's appendfsync and replicas say. After a cut it is not known what was stored: a
    record that bears an id is added by a script that remembers ids beside the stream, so
    that neither a second attempt nor a replay doubles it; others may come twice. Of one
    stream entries keep their order.                                                  */
#pragma once
#include "actors/redis_server.h"
#include "runtime/actor.h"
#include "runtime/delivery.h"

typedef struct {
    weir_node node;
    weir_redis_server server;
    char *stream;      // template
    weir_rules fields; // name and template; none: data = "{$raw}"
    int64_t maxlen;    // WEIR_FOREVER: all
    int64_t dedup_us;  // WEIR_NONE
    char *id;          // template; NULL: that of the bus
    int64_t window;    // records that are not answered
    weir_delivery_config delivery;
} weir_sink_redis_config;

extern const weir_sink_redis_config weir_sink_redis_defaults;
extern const weir_class weir_sink_redis_class;
void weir_sink_redis(zsock_t *pipe, void *config);
