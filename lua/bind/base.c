/*  base: Lua's basic functions. What catches errors lets an overrun through; what
    could run code behind our back (__gc, bytecode, the collector's switches) or
    reaches files and streams is absent or refused.                            */
#include "lua/bind/bind.h"
#include "lua/sandbox.h"
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

static const char *const absent[] = {"dofile", "loadfile", "print", "warn"};

/* --- Protected calls --------------------------------------------------------------- */

/*  pcall (f, ..) -> true, results | false, error                              */
static int base_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, true);
    lua_insert(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
    weir_sandbox_rethrow(L, status);
    if (status == LUA_OK) return lua_gettop(L);
    lua_pushboolean(L, false);
    lua_replace(L, 1);
    return 2;
}

/*  Upvalue 1 is the script's handler, which does not run in an overrun.       */
static int guarded_handler(lua_State *L)
{
    const weir_sandbox *sandbox = weir_sandbox_of(L);
    if (sandbox && weir_sandbox_overrun(sandbox) != WEIR_OVERRUN_NONE) return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/*  xpcall (f, handler, ..) -> true, results | false, what the handler returned */
static int base_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, guarded_handler, 1);
    lua_replace(L, 2);
    lua_pushvalue(L, 1);
    lua_insert(L, 3);
    int status = lua_pcall(L, lua_gettop(L) - 3, LUA_MULTRET, 2);
    weir_sandbox_rethrow(L, status);
    lua_pushboolean(L, status == LUA_OK);
    lua_replace(L, 2);
    return lua_gettop(L) - 1;
}

/* --- Metatables and memory --------------------------------------------------------- */

/*  setmetatable (table, metatable | nil) -> table. A __gc would run outside of any
    call; Lua looks for it only here, so one that is added later has no effect.  */
static int base_setmetatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_argerror(L, 2, "__gc is not allowed");
        lua_settop(L, 2);
    }
    lua_setmetatable(L, 1);
    return 1;
}

/*  collectgarbage ("count") -> KB in use                                      */
static int base_collectgarbage(lua_State *L)
{
    const char *option = luaL_optstring(L, 1, "collect");
    luaL_argcheck(L, strcmp(option, "count") == 0, 1, "only \"count\" is allowed");
    lua_pushnumber(L, lua_gc(L, LUA_GCCOUNT) + lua_gc(L, LUA_GCCOUNTB) / 1024.0);
    return 1;
}

/* --- Load -------------------------------------------------------------------------- */

#define PIECE 5 // index of the piece of text that is being read

/*  Asks the function at 1 for the next piece.                                 */
static const char *read_piece(lua_State *L, void *unused, size_t *size)
{
    (void)unused;
    luaL_checkstack(L, 2, "too many nested functions");
    lua_pushvalue(L, 1);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        *size = 0;
        return NULL;
    }
    if (!lua_isstring(L, -1)) luaL_error(L, "reader function must return a string");
    lua_replace(L, PIECE);
    const char *text = lua_tolstring(L, PIECE, size);
    weir_charge(L, *size + 1);
    return text;
}

/*  load (text | function [, name [, mode [, env]]]) -> function | nil, error. Only
    text is compiled, whatever the mode says.                                  */
static int base_load(lua_State *L)
{
    bool has_env = !lua_isnone(L, 4);
    int status;
    size_t size;
    const char *text = lua_tolstring(L, 1, &size);
    if (text) {
        const char *name = luaL_optstring(L, 2, text);
        weir_charge(L, size);
        status = luaL_loadbufferx(L, text, size, name, "t");
    } else {
        const char *name = luaL_optstring(L, 2, "=(load)");
        luaL_checktype(L, 1, LUA_TFUNCTION);
        lua_settop(L, PIECE);
        status = lua_load(L, read_piece, NULL, name, "t");
    }
    weir_sandbox_rethrow(L, status);
    if (status != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    if (has_env) {
        lua_pushvalue(L, 4);
        if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
    }
    return 1;
}

static const luaL_Reg functions[] = {
    {"pcall", base_pcall},
    {"xpcall", base_xpcall},
    {"setmetatable", base_setmetatable},
    {"collectgarbage", base_collectgarbage},
    {"load", base_load},
    {NULL, NULL},
};

int weir_bind_base(lua_State *L)
{
    lua_pushcfunction(L, luaopen_base);
    lua_call(L, 0, 1);
    luaL_setfuncs(L, functions, 0);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        lua_pushnil(L);
        lua_setfield(L, -2, absent[i]);
    }
    return 1;
}
