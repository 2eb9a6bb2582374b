/*  progress: what `weir run` shows while it runs: a table that redraws itself on a
    terminal, a log line now and then elsewhere,
    while something moves.                              */
#pragma once
#include "runtime/context.h"

typedef struct {
    bool terminal;
    int64_t started_us, last_us;
    uint64_t *records, *bytes; // of each node at the last tick; owned
    size_t node_count;
    int lines;  // drawn last time
    bool moved; // something had, at the last tick
} weir_progress;

/*  Sets tick of the config; both structs stay where they are while it runs.   */
void weir_progress_attach(weir_progress *self, weir_context_config *config);
void weir_progress_finish(weir_progress *self);

/*  A number for people: 1234567 -> "1.23M". Gives text.                       */
const char *weir_progress_number(double value, char text[16]);
