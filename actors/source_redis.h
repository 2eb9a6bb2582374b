/*  source.redis: brings the entries of streams of Redis, as a member of a consumer group.

    An entry is acknowledged (XACK) when it is safe. Until then it is pending at the
    server, so whatever breaks it comes again: when this consumer is back, by its name, or
    when another claims it. Positions never travel.                                   */
#pragma once
#include "actors/redis_server.h"
#include "runtime/actor.h"
#include "runtime/intake.h"

typedef struct {
    weir_node node;
    weir_redis_server server;
    weir_texts streams;
    char *group;            // NULL: TOPOLOGY/NODE
    char *consumer;         // NULL: HOST/TOPOLOGY/NODE
    char *start;            // start, end or an id; NULL: start
    char *field;            // NULL: the whole entry
    int64_t claim_after_us; // WEIR_NONE
    int64_t window;         // entries that are not acknowledged
    weir_intake_config intake;
} weir_source_redis_config;

extern const weir_source_redis_config weir_source_redis_defaults;
extern const weir_class weir_source_redis_class;
void weir_source_redis(zsock_t *pipe, void *config);
