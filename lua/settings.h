/*  settings: what `settings {}`, `supervise {}`, `security {}` and `monitor {}` say about
    a whole topology.                                                          */
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
    char *secrets; // folder; NULL: by default (lua/secrets.h)
    int64_t intensity, period, drain, stop_delay;
    bool has_monitor;            // `monitor {}` is there
    weir_monitor_config monitor; // owned texts
} weir_settings;

extern const weir_settings weir_settings_defaults;
extern const weir_option weir_settings_options[];
extern const weir_option weir_supervise_options[];
extern const weir_option weir_security_options[];

/*  A word without a name, `settings { .. }`, that stands once.                */
typedef struct {
    const char *word;
    const weir_option *options;
    size_t offset;        // of their config in weir_settings
    const void *defaults; // of that config
    const char *help;     // Markdown for the reference; ""
    /*  When all its options have been read. The report's where is the option at fault.
        NULL: nothing to check.                                                */
    weir_err (*check)(weir_settings *settings, weir_report *report);
} weir_whole_word;

#define WEIR_WHOLE_WORDS 4
extern const weir_whole_word weir_whole_words[WEIR_WHOLE_WORDS];

/*  NULL: it is none of them.                                                  */
const weir_whole_word *weir_whole_find(const char *word);
