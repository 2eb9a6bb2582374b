/*  sink.jetstream: publishes records into streams of NATS JetStream, a message each.

        blocks --> rendered --> window of messages without answer --> server
                                  all of a block's are stored --> the block is done

    A message is done when JetStream has acknowledged it, also as a duplicate. After a
   cut, or without an answer in time, what has no answer is sent again, in order, under
   the same ids: the server stores those with an id once within the stream's duplicate
    window. When a record is not taken nothing more is sent until all before it has its
    answer; then, later, it is tried first and alone.                                */
#pragma once
#include "actors/jetstream_server.h"
#include "runtime/actor.h"
#include "runtime/delivery.h"

typedef struct {
    weir_node node;
    weir_js_port_config port;
    char *subject;      // template
    char *stream;       // that takes it; NULL: whichever has the subject
    weir_rules headers; // names and templates
    char *payload;      // template; NULL: the record's payload
    char *id;           // template; NULL: the record's id
    int64_t retry_attempts;
    int64_t replicas, dedup_us; // of a stream that is made
    weir_delivery_config delivery;
} weir_sink_jetstream_config;

extern const weir_sink_jetstream_config weir_sink_jetstream_defaults;
extern const weir_class weir_sink_jetstream_class;
void weir_sink_jetstream(zsock_t *pipe, void *config);
