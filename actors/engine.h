/*  engine: runs a process: filters, a function and outlets over records, in parallel.

                     +-> worker 0 --+
        inlet -> deal+-> worker 1 --+-> outlets
                     +-> ...      --+

    The actor's thread deals each block out to the workers (a key always goes to the
    same one, so each key keeps its order) and sends what they make; it never runs a
    function. A block is acknowledged when everything that came of it is safe.  */
#pragma once
#include "actors/program.h"
#include "runtime/actor.h"
#include "runtime/delivery.h"
#include "runtime/screen.h"

typedef struct {
    weir_node node;
    weir_program program;
    bool has_function;
    char *key;
    int64_t workers; // WEIR_AUTO: as many as CPUs
    bool ordered;
    int parse;                 // 0 lazy, 1 eager
    int parse_error, on_error; // weir_on_error
    weir_screen_config screen;
    weir_rules inbound, outbound, outlets;
    int64_t memory_limit, instruction_limit, output_limit;
} weir_engine_config;

extern const weir_engine_config weir_engine_defaults;
extern const weir_class weir_engine_class;
void weir_engine(zsock_t *pipe, void *config);
