/*  source_parts: what weir_source holds; for source_read.c, which fills it from the
    text, and source.c, which answers from it.                                 */
#pragma once
#include "lua/source.h"
#include "lua/symbols.h"
#include "runtime/buffer.h"

typedef struct {
    const weir_symbol *word; // "source.file"
    const weir_symbol *name; // NULL: none, or no literal
    bool computed;           // a name is given, but no literal
    int line;                // of the word
    int last_line;           // of the closing brace or parenthesis
    int first_option;        // its options are a run of the array
    int option_end;
} weir_declaration;

typedef struct {
    const weir_symbol *key; // NULL: the key is the number
    int64_t number;         // element of a list
    int table;              // number of its table constructor
    int parent;             // option whose value holds the table; -1: the declaration
    int line;               // of the key, of an element's first token
    bool direct;            // false: below an operator, a parenthesis or a computed
                            // key, so that its path may not be that of the value
} weir_option;

typedef struct {
    int option, first; // the second and the first of that key
} weir_repetition;

typedef struct {
    const weir_symbol *name;
    int line;
    bool write;
} weir_use;

struct weir_source {
    weir_symbols symbols;
    weir_declaration *declarations;
    int declaration_count, declaration_room;
    weir_option *options;
    int option_count, option_room;
    weir_repetition *repetitions;
    int repetition_count, repetition_room;
    weir_use *uses;
    int use_count, use_room;
    int *slots; // hash of the options by table and key: number + 1, 0 is free
    int slot_count, slots_used;
    weir_buffer *path; // text of the duplicate that was asked for last
};

/*  The array with room for one more element. Counts stay below INT_MAX, since the
    text is shorter and each element needs a byte of it.                       */
void *weir_source_room(void *array, int count, int *room, size_t size);

/*  These return the number of what they have added. An option that is not known (its
    key is computed) repeats no other.                                         */
int weir_source_add_declaration(weir_source *self, const weir_declaration *found);
int weir_source_add_option(weir_source *self, const weir_option *found, bool known);
int weir_source_add_use(weir_source *self, const weir_symbol *name, int line);

/*  Reads the text into an empty source; after a failure it is only to be destroyed.
 */
weir_err weir_source_read(weir_source *self, const char *name, const char *text,
                          size_t size, weir_report *report);
