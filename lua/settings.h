/*  settings: what `settings {}`, `supervise {}` and `security {}` say about a whole
 * topology.  */
#pragma once
#include "runtime/context.h"

typedef struct {
    char *name;     // default: the file's base name
    char *state;    // default: weir-NAME beside the file
    int log_level;  // weir_level
    int log_format; // 0 text, 1 json
    int64_t record_max, window, block;
    char *keys;    // folder of the realm; NULL: no identity
    char *control; // tcp endpoint of the control socket; NULL: none
    int64_t intensity, period, drain, stop_delay;
} weir_settings;

extern const weir_settings weir_settings_defaults;
extern const weir_option weir_settings_options[];
extern const weir_option weir_supervise_options[];
extern const weir_option weir_security_options[];
