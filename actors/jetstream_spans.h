/*  jetstream_spans: which sequences of a stream are done with, as spans without a gap. A
    server that ends at once forgets acknowledgements that it has confirmed; so whoever
   has made them remembers what they were. A class without sockets.

    Private to source.jetstream.                                                    */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/*  With one more the lowest span is forgotten.                                      */
#define WEIR_JS_SPANS_MAX 1024

typedef struct {
    uint64_t first, last;
} weir_js_span;

typedef struct {
    weir_js_span items[WEIR_JS_SPANS_MAX + 1]; // ascending, with gaps in between
    uint32_t count;
} weir_js_spans;

void weir_js_spans_add(weir_js_spans *self, uint64_t sequence);
bool weir_js_spans_has(const weir_js_spans *self, uint64_t sequence);

/*  The lowest one that is behind this sequence; 0: there is none.                   */
uint64_t weir_js_spans_next(const weir_js_spans *self, uint64_t after);
