/*  sink.stdout: writes records to the standard output, one a line. Safe is what
    write(2) has taken: what the reader of a pipe does with it is its own affair.
    Writing may block this actor, and thereby what is upstream of it.          */
#pragma once
#include "runtime/delivery.h"

typedef struct {
    weir_node node;
    weir_delivery_config delivery;
} weir_sink_stdout_config;

extern const weir_sink_stdout_config weir_sink_stdout_defaults;
extern const weir_class weir_sink_stdout_class;
void weir_sink_stdout(zsock_t *pipe, void *config);
