/*  regex: PCRE2 with JIT, bounded in time and in memory.                      */
#pragma once
#include "runtime/err.h"

typedef struct weir_regex weir_regex;

typedef enum {
    WEIR_MATCH_NO = 0,
    WEIR_MATCH_YES,
    WEIR_MATCH_BOUND, // the match limit was reached: nobody knows
} weir_match;

/*  Compiles the pattern (bytes, not UTF mode); the compiled form is at most 1MB and
    a match may take at most 10^6 steps. *error_at is the offset of a mistake in
    the pattern; report.text says what it is. The caller owns *self_p.         */
weir_err weir_regex_new(weir_regex **self_p, const char *pattern, size_t size,
                        size_t *error_at, weir_report *report);
void weir_regex_destroy(weir_regex **self_p);

/*  Searches from `start`. spans, if not NULL, receives pairs of offsets [from, to)
    for the whole match and the groups, at most max_spans pairs; *count is how many;
    a group that took no part is (SIZE_MAX, SIZE_MAX). A regex serves one thread
    at a time.                                                                 */
weir_match weir_regex_search(weir_regex *self, const char *text, size_t size,
                             size_t start, size_t (*spans)[2], size_t max_spans,
                             size_t *count);

/*  Number of capturing groups; and the name of group i (from 1), NULL: unnamed. */
size_t weir_regex_groups(const weir_regex *self);
const char *weir_regex_group_name(const weir_regex *self, size_t i);

/*  About how many bytes the compiled pattern holds, or will hold once it has met a
    long text.                                                                 */
size_t weir_regex_memory(const weir_regex *self);
