/*  log: one line an event, to stderr by default: an event, then key=value pairs.

    Text lines are for people, JSON lines for programs. Secrets never get here: what is
    logged is named field by field, and runtime/redact.h is behind. All functions from any
    thread.                                                                    */
#pragma once
#include "runtime/err.h"

typedef enum { WEIR_DEBUG = 0, WEIR_INFO, WEIR_WARN, WEIR_ERROR } weir_level;

/*  Sets the lowest level that is written, the form, and the descriptor (lent).
    Before any other thread runs.                                              */
void weir_log_configure(weir_level least, bool json, int fd);

/*  Names the calling thread's actor in its lines; the text is lent. NULL: none. */
void weir_log_actor(const char *name);

/*  Writes one line with one write(2); a line above 2 KB is cut. Keeps errno.  */
void weir_log(weir_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
