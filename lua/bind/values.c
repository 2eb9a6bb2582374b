/*  values: what JSON and MessagePack have and Lua cannot name. null, tables
    marked as array or map, and integers from 2^63 to 2^64-1.                  */
#include "lua/bind/bind.h"
#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>

typedef __int128 wide; // holds every sum and difference of two 64-bit integers

/*  Only the addresses matter: null itself, and keys of the registry and of
    metatables that no script can come by.                                     */
static const char null_address, array_key, map_key, kind_key, uint_key;

/* --- Null -------------------------------------------------------------------------- */

void weir_push_null(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&null_address);
}

bool weir_is_null(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TLIGHTUSERDATA &&
           lua_touserdata(L, index) == &null_address;
}

static int null_tostring(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

/*  All light userdata share one metatable; a sandbox has no other than null.  */
static void set_null(lua_State *L)
{
    weir_push_null(L);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, null_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "null");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_setglobal(L, "null");
}

/* --- Marked tables ----------------------------------------------------------------- */

void weir_mark_table(lua_State *L, int index, bool array)
{
    index = lua_absindex(L, index);
    lua_rawgetp(L, LUA_REGISTRYINDEX, array ? &array_key : &map_key);
    lua_setmetatable(L, index);
}

int weir_table_kind(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index)) return 0;
    lua_rawgetp(L, -1, &kind_key);
    int kind = (int)lua_tointeger(L, -1);
    lua_pop(L, 2);
    return kind;
}

static void new_mark(lua_State *L, const char *name, const void *key)
{
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, name[0]);
    lua_rawsetp(L, -2, &kind_key);
    lua_pushstring(L, name);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__name");
    lua_setfield(L, -2, "__metatable");
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

static int mark_argument(lua_State *L, bool array)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (!weir_table_kind(L, 1) && lua_getmetatable(L, 1))
        return luaL_argerror(L, 1, "the table has a metatable already");
    weir_mark_table(L, 1, array);
    return 1;
}

static int array_new(lua_State *L)
{
    return mark_argument(L, true);
}

static int map_new(lua_State *L)
{
    return mark_argument(L, false);
}

/* --- Uint64 ------------------------------------------------------------------------ */

void weir_push_uint(lua_State *L, uint64_t value)
{
    if (value <= INT64_MAX) {
        lua_pushinteger(L, (lua_Integer)value);
        return;
    }
    uint64_t *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = value;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &uint_key);
    lua_setmetatable(L, -2);
}

bool weir_to_uint(lua_State *L, int index, uint64_t *value)
{
    if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &uint_key);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (same) *value = *(const uint64_t *)lua_touserdata(L, index);
    return same;
}

/*  Any number, exactly. False: no number.                                     */
static bool to_number(lua_State *L, int index, weir_value *value)
{
    *value = (weir_value){.type = WEIR_UINT};
    if (weir_to_uint(L, index, &value->natural)) return true;
    if (lua_type(L, index) != LUA_TNUMBER) return false;
    if (lua_isinteger(L, index)) {
        value->type = WEIR_INT;
        value->integer = lua_tointeger(L, index);
    } else {
        value->type = WEIR_FLOAT;
        value->real = lua_tonumber(L, index);
    }
    return true;
}

/*  An operand of exact arithmetic: a float must be a whole number.            */
static wide check_operand(lua_State *L, int index)
{
    weir_value value;
    if (!to_number(L, index, &value))
        luaL_error(L, "attempt to perform arithmetic on a uint64 and a %s",
                   luaL_typename(L, index));
    if (value.type == WEIR_UINT) return value.natural;
    if (value.type == WEIR_INT) return value.integer;
    bool whole = value.real >= -0x1p63 && value.real < 0x1p64 &&
                 value.real == (double)(wide)value.real;
    if (!whole) luaL_error(L, "uint64 arithmetic takes whole numbers only");
    return (wide)value.real;
}

static int push_wide(lua_State *L, wide result)
{
    if (result < INT64_MIN || result > UINT64_MAX)
        return luaL_error(L, "out of range: the result is not within int64 or uint64");
    if (result < 0)
        lua_pushinteger(L, (lua_Integer)result);
    else
        weir_push_uint(L, (uint64_t)result);
    return 1;
}

static int uint_add(lua_State *L)
{
    return push_wide(L, check_operand(L, 1) + check_operand(L, 2));
}

static int uint_sub(lua_State *L)
{
    return push_wide(L, check_operand(L, 1) - check_operand(L, 2));
}

static int uint_mul(lua_State *L)
{
    wide product;
    if (__builtin_mul_overflow(check_operand(L, 1), check_operand(L, 2), &product))
        product = (wide)UINT64_MAX + 1;
    return push_wide(L, product);
}

/*  Division rounds down, as Lua's // and % do.                                */
static int uint_idiv(lua_State *L)
{
    wide a = check_operand(L, 1), b = check_operand(L, 2);
    if (b == 0) return luaL_error(L, "attempt to perform 'n//0'");
    return push_wide(L, a / b - (a % b != 0 && (a < 0) != (b < 0)));
}

static int uint_mod(lua_State *L)
{
    wide a = check_operand(L, 1), b = check_operand(L, 2);
    if (b == 0) return luaL_error(L, "attempt to perform 'n%%%%0'");
    wide rest = a % b;
    return push_wide(L, rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

static int uint_unm(lua_State *L)
{
    return push_wide(L, -check_operand(L, 1));
}

static int compare(lua_State *L)
{
    weir_value a, b;
    if (!to_number(L, 1, &a) || !to_number(L, 2, &b))
        return luaL_error(L, "attempt to compare %s with %s", luaL_typename(L, 1),
                          luaL_typename(L, 2));
    return weir_value_compare_numbers(&a, &b);
}

static int uint_eq(lua_State *L)
{
    uint64_t a, b;
    bool both = weir_to_uint(L, 1, &a) && weir_to_uint(L, 2, &b);
    lua_pushboolean(L, both && a == b);
    return 1;
}

static int uint_lt(lua_State *L)
{
    lua_pushboolean(L, compare(L) == -1);
    return 1;
}

static int uint_le(lua_State *L)
{
    int order = compare(L);
    lua_pushboolean(L, order == -1 || order == 0);
    return 1;
}

static int uint_tostring(lua_State *L)
{
    uint64_t value;
    char text[24];
    if (!weir_to_uint(L, 1, &value)) return luaL_argerror(L, 1, "uint64 expected");
    lua_pushlstring(L, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, value));
    return 1;
}

static int uint_concat(lua_State *L)
{
    lua_settop(L, 2);
    for (int i = 1; i <= 2; i++) {
        uint64_t value;
        if (!weir_to_uint(L, i, &value) && !lua_isstring(L, i))
            return luaL_error(L, "attempt to concatenate a uint64 and a %s",
                              luaL_typename(L, i));
        luaL_tolstring(L, i, NULL);
    }
    lua_concat(L, 2);
    return 1;
}

static const luaL_Reg uint_methods[] = {
    {"__add", uint_add},       {"__sub", uint_sub},
    {"__mul", uint_mul},       {"__idiv", uint_idiv},
    {"__mod", uint_mod},       {"__unm", uint_unm},
    {"__eq", uint_eq},         {"__lt", uint_lt},
    {"__le", uint_le},         {"__tostring", uint_tostring},
    {"__concat", uint_concat}, {NULL, NULL},
};

static void new_uint_metatable(lua_State *L)
{
    luaL_newlib(L, uint_methods);
    lua_pushliteral(L, "uint64");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__name");
    lua_setfield(L, -2, "__metatable");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &uint_key);
}

int weir_bind_values(lua_State *L)
{
    set_null(L);
    new_mark(L, "array", &array_key);
    new_mark(L, "map", &map_key);
    new_uint_metatable(L);
    lua_pushcfunction(L, array_new);
    lua_setglobal(L, "array");
    lua_pushcfunction(L, map_new);
    lua_setglobal(L, "map");
    return 0;
}
