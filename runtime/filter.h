/*  filter: `where` expressions, compiled to a native predicate.

    The language stands in docs/where.md. An expression has at most 4096 bytes
    and 64 levels.                                                             */
#pragma once
#include "runtime/record.h"

typedef struct weir_filter weir_filter;

typedef enum {
    WEIR_FALSE = 0,
    WEIR_TRUE,
    WEIR_UNKNOWN, // a field is needed and the payload cannot be decoded, or a
                  // match reached its bound
} weir_verdict;

/*  Compiles the expression. On WEIR_EINVAL *column (from 1, in bytes) and
    report.text say where and what is wrong. A filter serves one thread at a
    time. The caller owns *self_p.                                             */
weir_err weir_filter_new(weir_filter **self_p, const char *text, size_t *column,
                         weir_report *report);
void weir_filter_destroy(weir_filter **self_p);

/*  The verdict on one record. Parses the payload only when the expression needs
    a field. Never blocks, never fails.                                        */
weir_verdict weir_filter_match(weir_filter *self, weir_subject *subject);

/*  True when the expression names $shard or $offset, which only records behind a
    bus with a store have.                                                     */
bool weir_filter_needs_store(const weir_filter *self);
