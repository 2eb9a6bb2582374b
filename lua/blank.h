/*  blank: while a topology file runs, a name that the file takes for a global, and that
    nothing sets, is a blank: whatever is done with it gives the blank again. What is
    unknown is complained about later, and what comes behind is checked as well. */
#pragma once
#include <lauxlib.h>
#include "lua/source.h"

/*  Both change the globals' metatable; the source is lent in between.         */
void weir_blank_stand_in(lua_State *L, const weir_source *source);
void weir_blank_end(lua_State *L);

bool weir_blank_is(lua_State *L, int index);

/*  Pushes the blank, for a value that is not known; nil when none stands in.   */
void weir_blank_push(lua_State *L);

/*  Whether the file sets a global of that name.                               */
bool weir_blank_is_written(const weir_source *source, const char *name);
