/*  redis_server: what source.redis and sink.redis are told about their server.        */
#pragma once
#include "actors/batcher.h"

typedef struct {
    char *url;          // may bear a password
    bool plaintext;     // another host may be spoken to, without TLS
    int64_t timeout_us; // of a connect or one request
    weir_retry_wait wait;
    int64_t attempts; // WEIR_FOREVER
} weir_redis_server;

#define WEIR_REDIS_SERVER_DEFAULTS                                                       \
    {                                                                                    \
        .timeout_us = 5000000, .wait = {100000, 5000000}, .attempts = WEIR_FOREVER       \
    }

/*  The url, and whether it may be spoken to.                                         */
weir_err weir_redis_server_check(const weir_redis_server *config, weir_report *report);
