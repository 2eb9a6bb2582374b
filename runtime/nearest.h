/*  nearest: the name that a mistyped word was meant to be.                    */
#pragma once
#include <stddef.h>

/*  The name (of count ones) with the smallest Damerau-Levenshtein distance to the
    word, the first of several; two neighbours in the wrong order count one. NULL:
    none is near. Near is a third of the word's bytes, at least 1; a word of one byte
    is near only to itself, one above 64 bytes to none. Pure; allocates nothing. */
const char *weir_nearest(const char *word, const char *const *names, size_t count);
