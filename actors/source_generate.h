/*  source.generate: makes realistic web requests, the same ones for the same seed;
    for trying things out, for tests and benchmarks. Record n is a function of seed
    and n alone, so that a restart goes on where it was safe.                  */
#pragma once
#include "runtime/intake.h"

typedef struct {
    weir_node node;
    int64_t seed;
    int64_t count; // records in all; WEIR_FOREVER
    weir_intake_config intake;
} weir_source_generate_config;

extern const weir_source_generate_config weir_source_generate_defaults;
extern const weir_class weir_source_generate_class;
void weir_source_generate(zsock_t *pipe, void *config);

/*  Appends request number n for the seed: one JSON object of about 180 bytes. */
void weir_generate_request(weir_buffer *out, uint64_t seed, uint64_t n);
