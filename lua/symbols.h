/*  symbols: the words of one text, each kept once, so that equal words have equal
    pointers.                                                                  */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_symbol {
    struct weir_symbol *next; // of the same slot; private
    uint64_t hash;            // of the text; private
    int active;               // locals of this name in scope, for the parser
    size_t size;              // of the text, which may hold NULs
    char text[];              // with a NUL behind it
} weir_symbol;

typedef struct {
    weir_symbol **slots;
    size_t slot_count; // 0 or a power of two
    size_t count;      // never above slot_count
} weir_symbols;

/*  The symbol of the text (NULL will do when size is 0); it lives as long as the
    symbols. A zeroed struct is an empty set. Aborts when memory is out.       */
weir_symbol *weir_symbols_intern(weir_symbols *self, const char *text, size_t size);

/*  Frees all and zeroes the struct.                                           */
void weir_symbols_fini(weir_symbols *self);
