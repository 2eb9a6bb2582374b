/*  language: the words of a topology file, as globals of a Lua state.

    The file is loaded once to plan and once in each worker; both see the same words,
    and differ in what a declaration does.                                     */
#pragma once
#include <lua.h>
#include "runtime/err.h"

/*  A name and a value from the command line (--set name=value).               */
typedef struct {
    const char *name, *value;
    bool used; // the file has asked for it
} weir_param;

typedef struct {
    weir_param *params; // lent
    size_t param_count;
    /*  A declaration `word "name" { .. }` at that line; table is the stack index of
        its options. name is "" for words without one. May raise.              */
    void (*declare)(void *arg, lua_State *L, const char *word, const char *name,
                    int table, int line);
    void *arg;
    /*  `secret "name"` in that file at that line: pushes its value. May raise; so may
        what gets the value.                                                   */
    void (*secret)(void *arg, lua_State *L, const char *name, const char *file, int line);
} weir_language;

/*  Sets the globals: the declaring words (source.file, process, settings ..), the
    words for values (drop, dead, otherwise, lines ..), env, param, secret and weir.log.
    The struct is lent for the life of the state.                              */
void weir_language_open(lua_State *L, weir_language *language);

/*  The file has been run: env, param and secret are over. A word that was given a name
   and no table is reported by this function's return: its line, and *word; 0: none.  */
int weir_language_close(lua_State *L, const char **word);

/*  The name of a word for values at the index ("drop", "lines", "json" ..), or NULL.
    A word called with a table (`lines { begin = ".." }`) gives its name too, and then
    its table is pushed and *has_table is true.                                */
const char *weir_language_word(lua_State *L, int index, bool *has_table);

/*  The name of `group "name" { .. }` at the index, whose table is pushed and whose line
    is told; NULL, and nothing is pushed, when it is something else.           */
const char *weir_language_group(lua_State *L, int index, int *line);

/*  The text of `dead "text"` at the index, or NULL when it is something else.  */
const char *weir_language_dead(lua_State *L, int index);
bool weir_language_is_drop(lua_State *L, int index);

/*  True for words for values. Other choices of an option are written in quotes.  */
bool weir_language_is_value(const char *word);

/*  True for words, declaring ones and values, that have no meaning yet.       */
bool weir_language_is_later(const char *word);

/*  All declaring words, NULL-ended, for "did you mean".                       */
extern const char *const weir_language_declarers[];
