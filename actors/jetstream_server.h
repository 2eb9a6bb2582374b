/*  jetstream_server: what source.jetstream and sink.jetstream are told about their
 * servers.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char *url;
    int64_t timeout_us; // of a connect, or of one answer
    int64_t window;     // messages that are under way
    int64_t retry_first_us, retry_max_us;
    bool tls, plaintext;
} weir_js_port_config;

#define WEIR_JS_PORT_DEFAULTS                                                            \
    {                                                                                    \
        .timeout_us = 5000000, .window = 1000, .retry_first_us = 100000,                 \
        .retry_max_us = 5000000                                                          \
    }
