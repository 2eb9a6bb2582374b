/*  help_lua: a plain Lua state with some modules of the sandbox, for tests.   */
#pragma once
#include "lua/bind/bind.h"
#include "lua/sandbox.h"
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

/*  Stands in where the sandbox is not linked, and for its states.             */
__attribute__((weak)) void weir_charge(lua_State *L, uint64_t steps)
{
    (void)L;
    (void)steps;
}

static inline lua_State *help_open(const char *name, lua_CFunction opener)
{
    lua_State *L = luaL_newstate();
    memset(lua_getextraspace(L), 0, LUA_EXTRASPACE); // no sandbox
    luaL_openlibs(L);
    weir_bind_values(L);
    if (opener) {
        luaL_requiref(L, name, opener, 1);
        lua_pop(L, 1);
    }
    return L;
}

/*  Runs the chunk; false, and the error on stderr, when it fails.             */
static inline bool help_run(lua_State *L, const char *chunk)
{
    if (luaL_dostring(L, chunk) == LUA_OK) {
        lua_settop(L, 0);
        return true;
    }
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_settop(L, 0);
    return false;
}
