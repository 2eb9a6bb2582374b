#include "lua/blank.h"
#include <lua.h>
#include <string.h>

static const char blank_key;

/*  Whatever is done with a blank gives the blank. Upvalue 1 is the blank.     */
static int give_blank(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    return 1;
}

void weir_blank_push(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &blank_key);
}

bool weir_blank_is(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    weir_blank_push(L);
    bool same = !lua_isnil(L, -1) && lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

bool weir_blank_is_written(const weir_source *source, const char *name)
{
    weir_source_global g;
    for (int i = 0; weir_source_global_at(source, i, &g); i++)
        if (g.write && strcmp(g.name, name) == 0) return true;
    return false;
}

static bool is_read(const weir_source *source, const char *name)
{
    weir_source_global g;
    for (int i = 0; weir_source_global_at(source, i, &g); i++)
        if (!g.write && strcmp(g.name, name) == 0) return true;
    return false;
}

/*  __index of the globals. Upvalues: the source, the blank.                   */
static int unknown_global(lua_State *L)
{
    const weir_source *source = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
    if (name && is_read(source, name) && !weir_blank_is_written(source, name))
        lua_pushvalue(L, lua_upvalueindex(2));
    else
        lua_pushnil(L);
    return 1;
}

void weir_blank_stand_in(lua_State *L, const weir_source *source)
{
    static const char *const events[] = {
        "__call", "__index", "__newindex", "__concat", "__add", "__sub", "__mul",
        "__div",  "__idiv",  "__mod",      "__unm",    "__lt",  "__le",  NULL,
    };
    lua_newtable(L); // the blank
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &blank_key);
    lua_newtable(L);
    for (const char *const *event = events; *event; event++) {
        lua_pushvalue(L, -2);
        lua_pushcclosure(L, give_blank, 1);
        lua_setfield(L, -2, *event);
    }
    lua_setmetatable(L, -2);
    lua_pushglobaltable(L);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)source);
    lua_pushvalue(L, -4);
    lua_pushcclosure(L, unknown_global, 2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pop(L, 2);
}

void weir_blank_end(lua_State *L)
{
    lua_pushglobaltable(L);
    lua_pushnil(L);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}
