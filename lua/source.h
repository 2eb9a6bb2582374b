/*  source: what Lua itself does not tell about a topology file.

    Lua reports only the first line of a statement, takes the last of two equal
    keys without a word, and knows a global's name only when it runs. This is a
    tokenizer and a light scope analysis of one file's text (Lua 5.4's grammar);
    the text has already been accepted by Lua's own compiler.                  */
#pragma once
#include "runtime/err.h"

typedef struct weir_source weir_source;

/*  Analyses the text. name is only used for error texts. Errors: WEIR_EMALFORMED, for
    a text that does not parse or nests deeper than Lua allows, and WEIR_ETOOBIG.  */
weir_err weir_source_new(weir_source **self_p, const char *name, const char *text,
                         size_t size, weir_report *report);
void weir_source_destroy(weir_source **self_p);

/*  The line of an option: `declaration` is the number (from 0) of the table
    constructor that follows a word (and perhaps a name) at the top level, in the
    order of the text, such as `source.file "a" { .. }` or `settings { .. }`. Top level
    is every statement outside of functions: a call, or one that is returned or assigned.
    A word with a literal name but without a table, `source.file "a" (options)`, counts
    too and has no options;
    `path` is the option, nested with dots ("retry.first", "keep.age"; elements of
    a list by number from 1: "inbound.2.where").
    The table of a call counts as the option's value: `store = disk { keep = .. }` has
    "store.keep". Of an option given twice it is the last. 0: there is no such option in
    the text (it came from a variable, or from an expression with operators, say). */
int weir_source_option_line(const weir_source *self, int declaration, const char *path);

/*  Number of declarations, and of each: word ("source.file"), name ("" without one,
    or when it is no string literal), line of the word.                        */
int weir_source_declarations(const weir_source *self);
const char *weir_source_word(const weir_source *self, int declaration);
const char *weir_source_name(const weir_source *self, int declaration);
int weir_source_line(const weir_source *self, int declaration);

/*  The declaration whose word stands at that line with that word and name, for a
    Lua function that knows its caller's line; -1: none. A call that spans lines
    has any of its lines from word to closing brace. A declaration whose name is no
    literal answers to every name, after those that have it.                   */
int weir_source_find(const weir_source *self, int line, const char *word,
                     const char *name);

/*  Options given twice in one table of a declaration (at any depth, outside of
    functions): the i-th, from 0; false behind the last. The path lives until the next
    call.                                                                      */
typedef struct {
    int declaration;
    const char *path; // "retry.first"
    int line;         // of the second
    int first_line;
} weir_source_duplicate;
bool weir_source_duplicate_at(const weir_source *self, int i, weir_source_duplicate *dup);

/*  Names used as globals (read or written; not declared local, no parameter) in the
    whole file, functions included: the i-th use, in the order of the text. Where _ENV
    is a local, free names are its fields and no globals.                      */
typedef struct {
    const char *name;
    int line;
    bool write;
} weir_source_global;
bool weir_source_global_at(const weir_source *self, int i, weir_source_global *global);
