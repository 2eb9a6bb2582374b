/*  source.jetstream: brings the messages of a stream of NATS JetStream, by a durable pull
    consumer with explicit acknowledgements.

        server --pulls--> held --> records --> blocks --> safe --> +ACK --confirmed--> let
   go
                            '-- +WPI every third of ack_wait, while it is under way

    A message is acknowledged when all records that it has become are safe, and the
    acknowledgement counts when the server has confirmed it: until then it is sent again
    after each cut, and a message that is delivered once more meanwhile is known again.
   What is given back at the end is delivered again soon (-NAK). Several sources that name
   one consumer share what it has.                                                     */
#pragma once
#include "actors/jetstream_server.h"
#include "runtime/actor.h"
#include "runtime/intake.h"

typedef struct {
    weir_node node;
    weir_js_port_config port;
    char *stream;
    char *subjects; // filter; NULL: all
    char *durable;  // name of the consumer; NULL: TOPOLOGY+NODE
    char *start;    // of a new consumer; NULL: the start
    int64_t ack_wait_us;
    int64_t max_deliver; // deliveries of a message, before it is a dead letter
    weir_intake_config intake;
} weir_source_jetstream_config;

extern const weir_source_jetstream_config weir_source_jetstream_defaults;
extern const weir_class weir_source_jetstream_class;
void weir_source_jetstream(zsock_t *pipe, void *config);
