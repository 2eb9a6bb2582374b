/*  sink.link: sends blocks to the source.link of another weir, or to whoever else speaks
    the link protocol (docs/wire.md), over tcp or ipc. A record is done when the other
    side has made it safe; a connection that dies is made again and loses nothing.  */
#pragma once
#include "runtime/actor.h"
#include "runtime/delivery.h"
#include "runtime/screen.h"

typedef struct {
    weir_node node;
    char *connect;     // endpoint
    char *server;      // name in the certificate of the other side; NULL: none needed
    bool plaintext;    // tcp without CURVE
    int64_t heartbeat; // us
    int64_t timeout;   // us, of connecting and shaking hands
    int on_error;      // weir_on_error
    weir_screen_config screen;
} weir_sink_link_config;

extern const weir_sink_link_config weir_sink_link_defaults;
extern const weir_class weir_sink_link_class;
void weir_sink_link(zsock_t *pipe, void *config);
