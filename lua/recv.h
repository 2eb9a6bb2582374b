/*  recv: the one actor of `weir recv`: listens as source.link does and writes what comes
    to the standard output. What is written is acknowledged, block by block: of a block
    that the limit cuts, nothing is.                                           */
#pragma once
#include "runtime/actor.h"

typedef struct {
    weir_node node;
    char *listen; // endpoint
    bool plaintext;
    bool json;     // whole records as JSON objects, not payloads alone
    int64_t limit; // records; WEIR_NONE: none
    bool *reached; // set when it is; read after the end
} weir_recv_config;

extern const weir_class weir_recv_class;
