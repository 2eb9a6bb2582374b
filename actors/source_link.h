/*  source.link: takes blocks from the sink.link of other weirs, and from whoever else
    speaks the link protocol (docs/wire.md), over tcp or ipc. Acknowledges to them what
    is safe here.                                                              */
#pragma once
#include "runtime/actor.h"
#include "runtime/screen.h"

typedef struct {
    weir_node node;
    char *listen;      // endpoint
    bool plaintext;    // tcp without CURVE
    int64_t heartbeat; // us
    weir_screen_config screen;
} weir_source_link_config;

extern const weir_source_link_config weir_source_link_defaults;
extern const weir_class weir_source_link_class;
void weir_source_link(zsock_t *pipe, void *config);
