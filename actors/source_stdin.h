/*  source.stdin: reads records from the standard input until its end. What has been
    read and is not safe when the process dies cannot be read again: whoever feeds
    the pipe must know that.                                                   */
#pragma once
#include "runtime/intake.h"

typedef struct {
    weir_node node;
    weir_intake_config intake;
} weir_source_stdin_config;

extern const weir_source_stdin_config weir_source_stdin_defaults;
extern const weir_class weir_source_stdin_class;
void weir_source_stdin(zsock_t *pipe, void *config);
