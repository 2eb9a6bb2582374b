/*  re: regular expressions (runtime/regex.h) for Lua strings. Positions count
    from 1 and `to` is inclusive, as in Lua's string library.

    Lua keeps the compiled patterns of a state: upvalue 1 of every function is a
    box of the cache. A running call holds its pattern on the stack or as an upvalue
    of its own, so that the cache may be emptied at any time. A regex owns one
    working area, but every search copies its spans out before Lua runs again.

    A group that took no part in the match is false, so that it neither ends a
    list of results nor a loop.                                                */
#include "lua/bind/bind.h"
#include "lua/sandbox.h"
#include "runtime/regex.h"
#include <lauxlib.h>
#include <time.h>

#define CACHE_PATTERNS 64
#define SPANS_MAX 64 // the match and 63 groups

/*  A search may look far beyond the bytes that it takes (lookahead, alternatives
    that fail late), so it pays for its time too; the ceiling keeps a thread that
    was put to sleep in the middle from paying for that.                       */
#define NS_PER_STEP 4
#define TIME_STEPS_MAX 1000000

typedef struct {
    weir_regex *regex;
} pattern;

typedef struct {
    int count; // patterns in the table that is the box's user value
} cache;

/*  One text being searched.                                                   */
typedef struct {
    lua_State *L;
    weir_regex *regex; // held by the caller's stack
    const char *text;
    size_t size;
    size_t spans[SPANS_MAX][2]; // of the last match, in bytes from 0, [from, to)
    size_t count;               // spans in use
} matcher;

static const char pattern_key; // its address: the metatable in the registry

/* --- Compiled patterns ------------------------------------------------------------- */

static int pattern_gc(lua_State *L)
{
    pattern *self = lua_touserdata(L, 1);
    weir_regex_destroy(&self->regex);
    return 0;
}

/*  Compiles the text at the argument and pushes the pattern. Its user value is a
    block, never touched, of the size that the pattern holds outside of the Lua
    heap: so the collector and the memory limit of the state see it.           */
static void push_compiled(lua_State *L, int argument, const char *text, size_t size)
{
    size_t error_at = 0;
    weir_report report = {0};
    pattern *self = lua_newuserdatauv(L, sizeof *self, 1);
    self->regex = NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &pattern_key);
    lua_setmetatable(L, -2);
    weir_charge(L, 1000 + size);
    if (weir_regex_new(&self->regex, text, size, &error_at, &report)) {
        const char *what = lua_pushfstring(L, "bad pattern at byte %d: %s",
                                           (int)error_at + 1, report.text);
        luaL_argerror(L, argument, what);
    }
    luaL_argcheck(L, weir_regex_groups(self->regex) < SPANS_MAX, argument,
                  "the pattern has more than 63 groups");
    lua_newuserdatauv(L, weir_regex_memory(self->regex), 0);
    lua_setiuservalue(L, -2, 1);
}

/*  Pushes the compiled pattern, and its table of the cache out of sight. The cache
    is dropped whole when it is full: whoever runs more patterns than it holds
    makes them up as he goes.                                                  */
static weir_regex *push_pattern(lua_State *L, int argument)
{
    size_t size;
    const char *text = luaL_checklstring(L, argument, &size);
    cache *kept = lua_touserdata(L, lua_upvalueindex(1));
    lua_getiuservalue(L, lua_upvalueindex(1), 1);
    lua_pushvalue(L, argument);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        lua_pop(L, 2);
        push_compiled(L, argument, text, size);
        if (kept->count == CACHE_PATTERNS) {
            lua_createtable(L, 0, CACHE_PATTERNS);
            lua_setiuservalue(L, lua_upvalueindex(1), 1);
            kept->count = 0;
        }
        lua_getiuservalue(L, lua_upvalueindex(1), 1);
        lua_pushvalue(L, argument);
        lua_pushvalue(L, -3);
        lua_rawset(L, -3);
        lua_pop(L, 1);
        kept->count++;
    } else {
        lua_remove(L, -2);
    }
    return ((const pattern *)lua_touserdata(L, -1))->regex;
}

/* --- Matching ---------------------------------------------------------------------- */

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/*  Searches from the offset; raises at the match limit.                       */
static bool search(matcher *self, size_t from)
{
    int64_t start_ns = clock_ns();
    weir_match found = weir_regex_search(self->regex, self->text, self->size, from,
                                         self->spans, SPANS_MAX, &self->count);
    if (found == WEIR_MATCH_BOUND) luaL_error(self->L, "match limit reached");
    int64_t steps = (clock_ns() - start_ns) / NS_PER_STEP;
    size_t to = found == WEIR_MATCH_YES ? self->spans[0][1] : self->size;
    weir_charge(self->L, (uint64_t)(steps < TIME_STEPS_MAX ? steps : TIME_STEPS_MAX) +
                             (to > from ? to - from : 0));
    return found == WEIR_MATCH_YES;
}

/*  Finds the next match from *from on, for a loop: *from is then behind it, and an
    empty match right behind the last one (`last`, SIZE_MAX at first) is none.
    False: no more.                                                            */
static bool search_next(matcher *self, size_t *from, size_t *last)
{
    while (*from <= self->size && search(self, *from)) {
        size_t to = self->spans[0][1];
        if (self->spans[0][0] == to && to == *last) {
            *from = to + 1;
            continue;
        }
        *from = *last = to;
        return true;
    }
    return false;
}

static void push_span(const matcher *self, size_t i)
{
    const size_t *span = self->spans[i];
    if (i >= self->count || span[0] == SIZE_MAX)
        lua_pushboolean(self->L, false);
    else
        lua_pushlstring(self->L, self->text + span[0], span[1] - span[0]);
}

/*  Pushes the captures, or the whole match when the pattern has no groups.    */
static int push_captures(const matcher *self, bool whole)
{
    size_t groups = weir_regex_groups(self->regex);
    luaL_checkstack(self->L, (int)groups + 1, "captures");
    for (size_t i = 1; i <= groups; i++)
        push_span(self, i);
    if (groups > 0 || !whole) return (int)groups;
    push_span(self, 0);
    return 1;
}

/*  Text at 1 and pattern at 2, which is left compiled on the stack.           */
static void check_matcher(lua_State *L, matcher *self)
{
    self->L = L;
    self->text = luaL_checklstring(L, 1, &self->size);
    self->regex = push_pattern(L, 2);
}

/*  The same and init at 3, as string.find has it. *from is the offset to begin at;
    false: behind the end of the text.                                         */
static bool check_search(lua_State *L, matcher *self, size_t *from)
{
    lua_Integer init = luaL_optinteger(L, 3, 1);
    check_matcher(L, self);
    lua_Integer size = (lua_Integer)self->size;
    if (init < 0) init = init < -size ? 1 : size + init + 1;
    if (init == 0) init = 1;
    *from = (size_t)init - 1;
    return init <= size + 1;
}

/* --- For Lua ----------------------------------------------------------------------- */

/*  re.test (text, pattern) -> bool                                            */
static int re_test(lua_State *L)
{
    matcher self;
    check_matcher(L, &self);
    lua_pushboolean(L, search(&self, 0));
    return 1;
}

/*  re.match (text, pattern [, init]) -> captures, or the match | nil          */
static int re_match(lua_State *L)
{
    matcher self;
    size_t from;
    if (check_search(L, &self, &from) && search(&self, from))
        return push_captures(&self, true);
    luaL_pushfail(L);
    return 1;
}

/*  re.find (text, pattern [, init]) -> from, to, captures | nil               */
static int re_find(lua_State *L)
{
    matcher self;
    size_t from;
    if (check_search(L, &self, &from) && search(&self, from)) {
        lua_pushinteger(L, (lua_Integer)self.spans[0][0] + 1);
        lua_pushinteger(L, (lua_Integer)self.spans[0][1]);
        return 2 + push_captures(&self, false);
    }
    luaL_pushfail(L);
    return 1;
}

/*  re.groups (text, pattern [, init]) -> table of named captures | nil        */
static int re_groups(lua_State *L)
{
    matcher self;
    size_t from;
    if (!check_search(L, &self, &from) || !search(&self, from)) {
        luaL_pushfail(L);
        return 1;
    }
    lua_newtable(L);
    for (size_t i = 1; i < self.count; i++) {
        const char *name = weir_regex_group_name(self.regex, i);
        if (!name || self.spans[i][0] == SIZE_MAX) continue;
        push_span(&self, i);
        lua_setfield(L, -2, name);
    }
    return 1;
}

/*  Upvalue 3 of an iterator; 1 is the text, 2 the pattern.                    */
typedef struct {
    matcher matcher;
    size_t from; // where the next search begins
    size_t last; // where the last match ended
} iterator;

static int gmatch_next(lua_State *L)
{
    iterator *self = lua_touserdata(L, lua_upvalueindex(3));
    self->matcher.L = L;
    if (search_next(&self->matcher, &self->from, &self->last))
        return push_captures(&self->matcher, true);
    self->from = self->matcher.size + 1;
    return 0;
}

/*  re.gmatch (text, pattern [, init]) -> iterator over the captures of each match */
static int re_gmatch(lua_State *L)
{
    matcher first;
    size_t from;
    lua_settop(L, 3);
    check_search(L, &first, &from);
    iterator *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->matcher = first;
    self->from = from;
    self->last = SIZE_MAX;
    lua_pushvalue(L, 1);
    lua_replace(L, 3); // text, pattern's text, text, pattern, iterator
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* --- Replacing --------------------------------------------------------------------- */

/*  Adds the replacement text with its %0 to %9 and %%.                        */
static void add_template(matcher *self, luaL_Buffer *out, const char *text, size_t size)
{
    size_t groups = weir_regex_groups(self->regex);
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];
        if (byte != '%') {
            luaL_addchar(out, byte);
            continue;
        }
        byte = ++i < size ? text[i] : 0;
        if (byte == '%') {
            luaL_addchar(out, '%');
            continue;
        }
        if (byte < '0' || byte > '9')
            luaL_error(self->L, "invalid use of '%%' in the replacement");
        size_t group = (size_t)(byte - '0');
        if (group == 1 && groups == 0) group = 0;
        if (group > groups)
            luaL_error(self->L, "the pattern has no group %%%d", (int)group);
        const size_t *span = self->spans[group];
        if (group < self->count && span[0] != SIZE_MAX)
            luaL_addlstring(out, self->text + span[0], span[1] - span[0]);
    }
}

/*  Adds what the table or the function at 3 gives for the match; the match itself
    for false and nil.                                                         */
static void add_looked_up(matcher *self, luaL_Buffer *out)
{
    lua_State *L = self->L;
    size_t from = self->spans[0][0], size = self->spans[0][1] - from;
    if (lua_type(L, 3) == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(self, true), 1);
    } else {
        push_span(self, weir_regex_groups(self->regex) > 0);
        lua_gettable(L, 3);
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, self->text + from, size);
    } else if (lua_isstring(L, -1)) {
        luaL_addvalue(out);
    } else {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
}

/*  re.gsub (text, pattern, replacement [, n]) -> text, number of replacements */
static int re_gsub(lua_State *L)
{
    matcher self;
    luaL_Buffer out;
    size_t from = 0, last = SIZE_MAX, copied = 0, template_size = 0;
    lua_Integer count = 0, most = luaL_optinteger(L, 4, LUA_MAXINTEGER);
    int type = lua_type(L, 3);
    luaL_argexpected(L,
                     type == LUA_TSTRING || type == LUA_TNUMBER || type == LUA_TTABLE ||
                         type == LUA_TFUNCTION,
                     3, "string/function/table");
    bool fixed = type == LUA_TSTRING || type == LUA_TNUMBER;
    const char *template = fixed ? lua_tolstring(L, 3, &template_size) : NULL;
    check_matcher(L, &self);
    luaL_buffinit(L, &out);
    while (count < most && search_next(&self, &from, &last)) {
        size_t start = self.spans[0][0], end = self.spans[0][1];
        luaL_addlstring(&out, self.text + copied, start - copied);
        copied = end;
        weir_charge(L, template_size);
        if (template)
            add_template(&self, &out, template, template_size);
        else
            add_looked_up(&self, &out);
        count++;
    }
    luaL_addlstring(&out, self.text + copied, self.size - copied);
    luaL_pushresult(&out);
    lua_pushinteger(L, count);
    return 2;
}

static const luaL_Reg functions[] = {
    {"test", re_test},     {"match", re_match}, {"find", re_find}, {"groups", re_groups},
    {"gmatch", re_gmatch}, {"gsub", re_gsub},   {NULL, NULL},
};

int weir_bind_re(lua_State *L)
{
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, pattern_gc);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &pattern_key);
    luaL_newlibtable(L, functions);
    cache *kept = lua_newuserdatauv(L, sizeof *kept, 1);
    kept->count = 0;
    lua_createtable(L, 0, CACHE_PATTERNS);
    lua_setiuservalue(L, -2, 1);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
