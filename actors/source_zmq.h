/*  source.zmq: takes messages from plain ZeroMQ peers: PULL from PUSH, SUB from PUB,
    ROUTER from REQ and DEALER.

    The promise is weaker than a link's. What libzmq or this actor has taken and what is
    not safe yet is lost with the process, and when the path starts again; then it is
    counted as shed. Only a REQ, or a DEALER that sends an envelope, learns what is
    safe: each of its messages is answered, in order, by an empty frame. While there is
    no room the socket is not read: PUSH, REQ and DEALER peers wait, PUB drops.  */
#pragma once
#include "actors/zmq_port.h"
#include "runtime/intake.h"

typedef enum {
    WEIR_SOURCE_ZMQ_PULL = 0,
    WEIR_SOURCE_ZMQ_SUB,
    WEIR_SOURCE_ZMQ_ROUTER
} weir_source_zmq_type;

typedef enum { WEIR_SOURCE_ZMQ_SAFE = 0, WEIR_SOURCE_ZMQ_NEVER } weir_source_zmq_reply;

typedef struct {
    weir_node node;
    int type; // weir_source_zmq_type
    weir_zmq_port_config port;
    weir_texts topics; // of SUB; none: all
    weir_texts frames; // names of parts; none: by the number of frames
    char *sequence;    // field path; NULL: none
    int reply;         // weir_source_zmq_reply, of ROUTER
    weir_intake_config intake;
} weir_source_zmq_config;

extern const weir_source_zmq_config weir_source_zmq_defaults;
extern const weir_class weir_source_zmq_class;
void weir_source_zmq(zsock_t *pipe, void *config);
