/*  sink.zmq: sends records to plain ZeroMQ peers, a message each: PUSH to PULL, PUB to
    SUB, DEALER to ROUTER or REP.

    What is done? For push and dealer, a record that libzmq has taken into its queue,
    which a crash, and the end of a peer, can still lose. For pub, one that libzmq was
    given: it drops what a subscriber does not take. With reply = safe a dealer waits
    until the peer has answered: each message has an envelope, [number][""], and the
    answer must bear it, as that of REP and of source.zmq does. What is not answered in
    time is sent again; so such a peer gets each record at least once.          */
#pragma once
#include "actors/zmq_port.h"
#include "runtime/delivery.h"

typedef enum {
    WEIR_SINK_ZMQ_PUSH = 0,
    WEIR_SINK_ZMQ_PUB,
    WEIR_SINK_ZMQ_DEALER
} weir_sink_zmq_type;

typedef enum { WEIR_SINK_ZMQ_NEVER = 0, WEIR_SINK_ZMQ_SAFE } weir_sink_zmq_reply;

typedef struct {
    weir_node node;
    int type; // weir_sink_zmq_type
    weir_zmq_port_config port;
    char *topic;        // template; NULL: none
    weir_texts frames;  // names of parts; none: topic, if there is one, and payload
    int reply;          // weir_sink_zmq_reply, of DEALER
    int64_t timeout_us; // until a message that is not answered is sent again
    int64_t linger_us;  // at the end, for what is queued
    weir_delivery_config delivery;
} weir_sink_zmq_config;

extern const weir_sink_zmq_config weir_sink_zmq_defaults;
extern const weir_class weir_sink_zmq_class;
void weir_sink_zmq(zsock_t *pipe, void *config);
