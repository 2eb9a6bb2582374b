/*  sink.null: takes everything and keeps nothing; for measuring and for tests.  */
#pragma once
#include "runtime/actor.h"
#include "runtime/screen.h"

typedef struct {
    weir_node node;
    weir_screen_config screen;
} weir_sink_null_config;

extern const weir_sink_null_config weir_sink_null_defaults;
extern const weir_class weir_sink_null_class;
void weir_sink_null(zsock_t *pipe, void *config);
