/*  table: Lua's table library. A loop charges for its steps before it begins, so
    that a length from __len, or a range, of 10^15 is an overrun at once.

    sort is a merge sort on a copy: it is stable, takes n log n comparisons whatever
    the comparator says, and leaves the list as it was when that raises.       */
#include "lua/bind/bind.h"
#include "lua/sandbox.h"
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>

#define BYTES_PER_STEP 16 // of a result

/*  A table, or a value that behaves like one.                                 */
static void check_list(lua_State *L, int index)
{
    if (lua_type(L, index) == LUA_TUSERDATA && lua_getmetatable(L, index))
        lua_pop(L, 1);
    else
        luaL_checktype(L, index, LUA_TTABLE);
}

static lua_Integer length(lua_State *L, int index)
{
    if (lua_type(L, index) == LUA_TTABLE) {
        if (!lua_getmetatable(L, index)) return (lua_Integer)lua_rawlen(L, index);
        lua_pop(L, 1);
    }
    return luaL_len(L, index);
}

/*  Elements from i to j, both included.                                       */
static uint64_t span(lua_Integer i, lua_Integer j)
{
    if (i > j) return 0;
    uint64_t distance = (uint64_t)j - (uint64_t)i;
    return distance == UINT64_MAX ? distance : distance + 1;
}

/*  list[to + k] = list[from + k] for k = 0 .. count - 1; from the last one down if
    `backward`.                                                                */
static void copy(lua_State *L, int source, int target, lua_Integer from, lua_Integer to,
                 uint64_t count, bool backward)
{
    weir_charge(L, count);
    for (uint64_t k = 0; k < count; k++) {
        lua_Integer i = (lua_Integer)(backward ? count - 1 - k : k);
        lua_geti(L, source, from + i);
        lua_seti(L, target, to + i);
    }
}

/*  insert (list, [position,] value)                                           */
static int table_insert(lua_State *L)
{
    check_list(L, 1);
    lua_Integer end = (lua_Integer)((uint64_t)length(L, 1) + 1);
    switch (lua_gettop(L)) {
    case 2:
        lua_seti(L, 1, end);
        return 0;
    case 3: {
        lua_Integer position = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (uint64_t)position - 1 < (uint64_t)end, 2,
                      "position out of bounds");
        if (position < end)
            copy(L, 1, 1, position, position + 1, (uint64_t)(end - position), true);
        lua_seti(L, 1, position);
        return 0;
    }
    default:
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
}

/*  remove (list [, position]) -> the removed value                            */
static int table_remove(lua_State *L)
{
    check_list(L, 1);
    lua_Integer size = length(L, 1), position = luaL_optinteger(L, 2, size);
    bool inside = position == size || (uint64_t)position - 1 <= (uint64_t)size;
    luaL_argcheck(L, inside, 2, "position out of bounds");
    lua_geti(L, 1, position);
    if (position < size)
        copy(L, 1, 1, position + 1, position, (uint64_t)size - (uint64_t)position, false);
    lua_pushnil(L);
    lua_seti(L, 1, position < size ? size : position);
    return 1;
}

/*  move (list, from, to, position [, target]) -> target                       */
static int table_move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2), end = luaL_checkinteger(L, 3),
                to = luaL_checkinteger(L, 4);
    int target = lua_isnoneornil(L, 5) ? 1 : 5;
    check_list(L, 1);
    check_list(L, target);
    if (end >= from) {
        luaL_argcheck(L, from > 0 || end < LUA_MAXINTEGER + from, 3,
                      "too many elements to move");
        uint64_t count = span(from, end);
        luaL_argcheck(L, to <= LUA_MAXINTEGER - (lua_Integer)(count - 1), 4,
                      "destination wrap around");
        bool same = target == 1 || lua_compare(L, 1, 5, LUA_OPEQ);
        copy(L, 1, target, from, to, count, same && to > from && to <= end);
    }
    lua_pushvalue(L, target);
    return 1;
}

/*  pack (..) -> list with n                                                   */
static int table_pack(lua_State *L)
{
    int count = lua_gettop(L);
    weir_charge(L, (uint64_t)count);
    lua_createtable(L, count, 1);
    lua_insert(L, 1);
    for (int i = count; i >= 1; i--)
        lua_rawseti(L, 1, i);
    lua_pushinteger(L, count);
    lua_setfield(L, 1, "n");
    return 1;
}

/*  unpack (list [, i [, j]]) -> list[i], .., list[j]                          */
static int table_unpack(lua_State *L)
{
    lua_Integer i = luaL_optinteger(L, 2, 1);
    lua_Integer j = luaL_opt(L, luaL_checkinteger, 3, length(L, 1));
    uint64_t count = span(i, j);
    if (count >= INT_MAX || !lua_checkstack(L, (int)count))
        return luaL_error(L, "too many results to unpack");
    weir_charge(L, count);
    for (uint64_t k = 0; k < count; k++)
        lua_geti(L, 1, (lua_Integer)((uint64_t)i + k));
    return (int)count;
}

/*  concat (list [, between [, i [, j]]]) -> text                              */
static int table_concat(lua_State *L)
{
    check_list(L, 1);
    size_t size, between_size;
    const char *between = luaL_optlstring(L, 2, "", &between_size);
    lua_Integer i = luaL_optinteger(L, 3, 1);
    lua_Integer j = luaL_opt(L, luaL_checkinteger, 4, length(L, 1));
    uint64_t count = span(i, j);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    for (uint64_t k = 0; k < count; k++) {
        lua_Integer at = (lua_Integer)((uint64_t)i + k);
        lua_geti(L, 1, at);
        if (!lua_isstring(L, -1))
            return luaL_error(L, "invalid value (%s) at index %I in table for 'concat'",
                              luaL_typename(L, -1), (LUAI_UACINT)at);
        lua_tolstring(L, -1, &size);
        luaL_addvalue(&out);
        if (k + 1 < count) luaL_addlstring(&out, between, between_size);
        weir_charge(L, 1 + (size + between_size) / BYTES_PER_STEP);
    }
    luaL_pushresult(&out);
    return 1;
}

/* --- Sort -------------------------------------------------------------------------- */

/*  Runs of this size are made on the stack, and then merged.                  */
#define RUN 16

/*  Stack of sort: the list, the comparator or nil, two tables that exchange their
    roles from one round to the next, the heads of the two runs that are being
    merged, and behind them the elements of a run that is being made.          */
enum { LIST = 1, COMPARATOR, FIRST, SECOND, LEFT, RIGHT };

/*  Whether the value at index a comes before the one at b.                    */
static bool is_before(lua_State *L, int a, int b)
{
    if (lua_isnil(L, COMPARATOR)) return lua_compare(L, a, b, LUA_OPLT);
    lua_pushvalue(L, COMPARATOR);
    lua_pushvalue(L, a);
    lua_pushvalue(L, b);
    lua_call(L, 2, 1);
    bool before = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return before;
}

/*  Puts the elements from..end - 1 of the list, in order, into the first table. */
static void make_run(lua_State *L, lua_Integer from, lua_Integer end)
{
    weir_charge(L, 4 * (uint64_t)(end - from));
    for (int count = 0; from + count < end; count++) {
        int low = RIGHT + 1, high = low + count, last = high;
        lua_geti(L, LIST, from + count);
        while (low < high) {
            int middle = (low + high) / 2;
            if (is_before(L, last, middle))
                high = middle;
            else
                low = middle + 1;
        }
        lua_insert(L, low);
    }
    while (end > from)
        lua_rawseti(L, FIRST, --end);
}

static void take_head(lua_State *L, int source, int head, lua_Integer i)
{
    lua_rawgeti(L, source, i);
    lua_replace(L, head);
}

/*  Merges the runs [left, middle) and [middle, end) of source into target.    */
static void merge(lua_State *L, int source, int target, lua_Integer left,
                  lua_Integer middle, lua_Integer end)
{
    lua_Integer right = middle, at = left;
    weir_charge(L, 2 * (uint64_t)(end - left));
    take_head(L, source, LEFT, left);
    if (right < end) take_head(L, source, RIGHT, right);
    while (left < middle && right < end) {
        bool from_right = is_before(L, RIGHT, LEFT);
        lua_pushvalue(L, from_right ? RIGHT : LEFT);
        lua_rawseti(L, target, at++);
        if (from_right) {
            if (++right < end) take_head(L, source, RIGHT, right);
        } else {
            if (++left < middle) take_head(L, source, LEFT, left);
        }
    }
    for (; left < middle; left++) {
        lua_rawgeti(L, source, left);
        lua_rawseti(L, target, at++);
    }
    for (; right < end; right++) {
        lua_rawgeti(L, source, right);
        lua_rawseti(L, target, at++);
    }
}

static lua_Integer least(lua_Integer a, lua_Integer b)
{
    return a < b ? a : b;
}

static void sort_list(lua_State *L, lua_Integer size)
{
    int source = FIRST, target = SECOND;
    for (lua_Integer at = 1; at <= size; at += RUN)
        make_run(L, at, least(at + RUN, size + 1));
    for (lua_Integer width = RUN; width < size; width *= 2) {
        for (lua_Integer at = 1; at <= size; at += 2 * width) {
            lua_Integer middle = least(at + width, size + 1);
            merge(L, source, target, at, middle, least(middle + width, size + 1));
        }
        int other = source;
        source = target;
        target = other;
    }
    for (lua_Integer i = 1; i <= size; i++) {
        lua_rawgeti(L, source, i);
        lua_seti(L, LIST, i);
    }
}

/*  sort (list [, comparator])                                                 */
static int table_sort(lua_State *L)
{
    check_list(L, LIST);
    lua_Integer size = length(L, LIST);
    if (!lua_isnoneornil(L, COMPARATOR)) luaL_checktype(L, COMPARATOR, LUA_TFUNCTION);
    if (size < 2) return 0;
    luaL_argcheck(L, size < INT_MAX, 1, "array too big");
    weir_charge(L, 2 * (uint64_t)size);
    lua_settop(L, COMPARATOR);
    luaL_checkstack(L, RIGHT + RUN + LUA_MINSTACK, "sort");
    lua_createtable(L, (int)size, 0);
    lua_createtable(L, (int)size, 0);
    lua_settop(L, RIGHT);
    sort_list(L, size);
    return 0;
}

static const luaL_Reg functions[] = {
    {"concat", table_concat}, {"insert", table_insert},
    {"move", table_move},     {"pack", table_pack},
    {"remove", table_remove}, {"sort", table_sort},
    {"unpack", table_unpack}, {NULL, NULL},
};

int weir_bind_table(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
