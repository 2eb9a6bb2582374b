/*  redis_probe: a look at a server for `weir check --online`: whether it is reached and
    lets us in, and what is at the key. Changes nothing there, and blocks.            */
#pragma once
#include "actors/redis_port.h"

typedef struct {
    const weir_redis_server *server;
    const char *stream; // NULL: which it is depends on records
    size_t stream_size;
    const char *group; // that reads it; NULL: none
    int64_t timeout_us;
} weir_redis_probe;

/*  WEIR_OK with what is there in report->text; else the report says what is wrong.   */
weir_err weir_redis_probe_run(const weir_redis_probe *self, weir_report *report);
