/*  from: a position as people write it: start, end, a cursor, or a time.           */
#pragma once
#include "actors/cursor.h"

typedef enum {
    WEIR_FROM_START = 0,
    WEIR_FROM_END,
    WEIR_FROM_TIME,
    WEIR_FROM_CURSOR,
} weir_from_kind;

typedef struct {
    weir_from_kind kind;
    int64_t ms;         // of TIME: wall clock
    weir_cursor cursor; // of CURSOR, owned
} weir_from;

/*  Reads a text. A time is UTC, "2027-01-31" or "2027-01-31T12:00:00Z", or how long ago,
    "10m". A cursor has to have this nonce. WEIR_EINVAL with a report.              */
weir_err weir_from_read(weir_from *self, const char *text, uint64_t nonce, int64_t now_ms,
                        weir_report *report);
void weir_from_fini(weir_from *self);
