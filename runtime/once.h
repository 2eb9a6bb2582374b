/*  once: a log line that would come again and again comes once a minute. Zeroed it is
    ready for use; it serves one thread.                                       */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define WEIR_ONCE_SLOTS 64

typedef struct {
    struct {
        uint64_t hash; // of who and what
        int64_t us;    // when it was said last
    } said[WEIR_ONCE_SLOTS];
} weir_once;

/*  True: this has not been said of him within a minute, and counts as said now. Where
    more is said than there are slots, some of it comes sooner.                */
bool weir_once_says(weir_once *self, const char *who, const char *what);
