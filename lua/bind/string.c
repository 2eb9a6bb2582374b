/*  string: Lua's string library. What searches runs on the bounded matcher of
    pattern.c; what makes large results charges for them; dump is absent.      */
#include "lua/bind/bind.h"
#include "lua/bind/pattern.h"
#include "lua/sandbox.h"
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#define BYTES_PER_STEP 16 // of a result

/*  A pattern that holds none of them is plain text for string.find.           */
static const bool is_special[256] = {
    ['^'] = true, ['$'] = true, ['*'] = true, ['+'] = true, ['?'] = true,
    ['.'] = true, ['('] = true, ['['] = true, ['%'] = true, ['-'] = true,
};

/* --- Searching --------------------------------------------------------------------- */

/*  The offset of a position argument, which counts from 1 or back from -1.    */
static size_t check_offset(lua_State *L, int argument, size_t size)
{
    lua_Integer position = luaL_optinteger(L, argument, 1);
    if (position > 0) return (size_t)position - 1;
    if (position == 0 || position < -(lua_Integer)size) return 0;
    return size - (size_t)-position;
}

static void set_subject(weir_matcher *self, lua_State *L, int index)
{
    size_t size;
    self->L = L;
    self->text = lua_tolstring(L, index, &size);
    self->end = self->text + size;
}

/*  Compiles into the room, or into memory that is left on the stack.          */
static void compile(weir_matcher *self, weir_pattern_room *room, const char *pattern,
                    size_t size)
{
    void *memory = room;
    if (size > WEIR_PATTERN_SMALL) {
        weir_charge(self->L, size);
        memory = lua_newuserdatauv(self->L, weir_pattern_bytes(size), 0);
    }
    weir_pattern_compile(self, memory, pattern, size);
}

/*  Pushes capture i of the match; capture 0 of a pattern without any is the match. */
static void push_capture(const weir_matcher *self, int i, const char *from,
                         const char *to)
{
    const weir_capture *capture = &self->capture[i];
    if (i >= self->captures) {
        if (i > 0) luaL_error(self->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(self->L, from, (size_t)(to - from));
    } else if (self->unclosed >> i & 1) {
        luaL_error(self->L, "unfinished capture");
    } else if (capture->size == WEIR_CAPTURE_HERE) {
        lua_pushinteger(self->L, capture->start - self->text + 1);
    } else {
        lua_pushlstring(self->L, capture->start, capture->size);
    }
}

/*  Pushes all captures; of a pattern without any the match, if `whole`.       */
static int push_captures(const weir_matcher *self, bool whole, const char *from,
                         const char *to)
{
    int count = self->captures == 0 && whole ? 1 : self->captures;
    luaL_checkstack(self->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(self, i, from, to);
    return count;
}

static bool has_specials(const char *pattern, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (is_special[(uint8_t)pattern[i]]) return true;
    return false;
}

static int find_plain(lua_State *L, size_t from, const char *wanted, size_t size)
{
    size_t text_size;
    const char *text = lua_tolstring(L, 1, &text_size);
    const char *found = memmem(text + from, text_size - from, wanted, size);
    size_t seen = found ? (size_t)(found - text) - from : text_size - from;
    weir_charge(L, (seen + size) / BYTES_PER_STEP);
    if (!found) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, found - text + 1);
    lua_pushinteger(L, found - text + (lua_Integer)size);
    return 2;
}

/*  The first match at or behind the offset; an anchored pattern has one place. */
static const char *search(weir_matcher *self, size_t from, bool anchored,
                          const char **end)
{
    const char *at = self->text + from;
    if (anchored)
        *end = weir_pattern_match(self, at);
    else
        at = weir_pattern_search(self, at, end);
    weir_pattern_settle(self);
    return at && *end ? at : NULL;
}

static int find_or_match(lua_State *L, bool find)
{
    size_t text_size, size;
    luaL_checklstring(L, 1, &text_size);
    const char *pattern = luaL_checklstring(L, 2, &size);
    size_t from = check_offset(L, 3, text_size);
    if (from > text_size) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || !has_specials(pattern, size)))
        return find_plain(L, from, pattern, size);
    weir_matcher self;
    weir_pattern_room room;
    bool anchored = size > 0 && *pattern == '^';
    set_subject(&self, L, 1);
    compile(&self, &room, pattern + anchored, size - anchored);
    const char *end, *start = search(&self, from, anchored, &end);
    if (!start) {
        luaL_pushfail(L);
        return 1;
    }
    if (!find) return push_captures(&self, true, start, end);
    lua_pushinteger(L, start - self.text + 1);
    lua_pushinteger(L, end - self.text);
    return 2 + push_captures(&self, false, start, end);
}

/*  find (text, pattern [, init [, plain]]) -> from, to, captures | nil        */
static int string_find(lua_State *L)
{
    return find_or_match(L, true);
}

/*  match (text, pattern [, init]) -> captures, or the match | nil             */
static int string_match(lua_State *L)
{
    return find_or_match(L, false);
}

/*  Upvalue 1 of an iterator, with the compiled pattern behind it; 2 is the text, 3
    the pattern.                                                               */
typedef struct {
    weir_matcher matcher;
    const char *at;   // where the next search begins
    const char *last; // where the last match ended; NULL: none yet
} iterator;

/*  The next match from self->at on. An empty match right behind the last one is
    none.                                                                      */
static const char *next_match(iterator *self, const char **end)
{
    weir_matcher *matcher = &self->matcher;
    while (self->at <= matcher->end) {
        const char *start = weir_pattern_search(matcher, self->at, end);
        weir_pattern_settle(matcher);
        if (!start) break;
        if (*end != self->last) {
            self->at = self->last = *end;
            return start;
        }
        self->at = start + 1;
    }
    self->at = matcher->end + 1;
    return NULL;
}

static int gmatch_next(lua_State *L)
{
    iterator *self = lua_touserdata(L, lua_upvalueindex(1));
    const char *end;
    self->matcher.L = L;
    const char *start = next_match(self, &end);
    return start ? push_captures(&self->matcher, true, start, end) : 0;
}

/*  gmatch (text, pattern [, init]) -> iterator over the captures of each match */
static int string_gmatch(lua_State *L)
{
    size_t text_size, size;
    luaL_checklstring(L, 1, &text_size);
    const char *pattern = luaL_checklstring(L, 2, &size);
    size_t from = check_offset(L, 3, text_size);
    if (from > text_size) from = text_size + 1;
    lua_settop(L, 2);
    weir_charge(L, size);
    iterator *self = lua_newuserdatauv(L, sizeof *self + weir_pattern_bytes(size), 0);
    lua_insert(L, 1);
    set_subject(&self->matcher, L, 2);
    weir_pattern_compile(&self->matcher, self + 1, pattern, size);
    self->at = self->matcher.text + from;
    self->last = NULL;
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* --- Replacing --------------------------------------------------------------------- */

typedef struct {
    weir_matcher *matcher;
    luaL_Buffer *out;
    const char *template; // NULL: a function or a table at index 3
    size_t template_size;
} replacer;

/*  Adds the template with its %0 to %9 and %%.                                */
static void add_template(const replacer *self, const char *from, const char *to)
{
    lua_State *L = self->matcher->L;
    const char *at = self->template, *end = at + self->template_size;
    weir_charge(L, self->template_size / BYTES_PER_STEP);
    while (at < end) {
        const char *percent = memchr(at, '%', (size_t)(end - at));
        if (!percent) percent = end;
        luaL_addlstring(self->out, at, (size_t)(percent - at));
        if (percent == end) return;
        char byte = percent + 1 < end ? percent[1] : 0;
        if (byte == '%') {
            luaL_addchar(self->out, '%');
        } else if (byte == '0') {
            luaL_addlstring(self->out, from, (size_t)(to - from));
        } else if (byte >= '1' && byte <= '9') {
            push_capture(self->matcher, byte - '1', from, to);
            luaL_addvalue(self->out);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
        at = percent + 2;
    }
}

/*  Adds what the function or the table gives for the match. False: it gave none,
    and the match has been added itself.                                       */
static bool add_looked_up(const replacer *self, const char *from, const char *to)
{
    lua_State *L = self->matcher->L;
    if (lua_type(L, 3) == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(self->matcher, true, from, to), 1);
    } else {
        push_capture(self->matcher, 0, from, to);
        lua_gettable(L, 3);
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(self->out, from, (size_t)(to - from));
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(self->out);
    return true;
}

static bool add_replacement(const replacer *self, const char *from, const char *to)
{
    if (!self->template) return add_looked_up(self, from, to);
    add_template(self, from, to);
    return true;
}

/*  Replaces up to `most` matches. Returns how many; out is the whole new text if
 *changed, which is false when every match stayed as it was.                */
static lua_Integer replace_all(const replacer *self, bool anchored, lua_Integer most,
                               bool *changed)
{
    weir_matcher *matcher = self->matcher;
    iterator next = {.at = matcher->text};
    const char *copied = matcher->text, *end;
    lua_Integer count = 0;
    while (count < most && next.at <= matcher->end) {
        const char *start = next.at;
        if (anchored)
            end = weir_pattern_match(matcher, start);
        else
            start = weir_pattern_search(matcher, start, &end);
        weir_charge(matcher->L, matcher->steps + 1);
        matcher->steps = 0;
        if (!start || !end) break;
        if (end == next.last) {
            next.at = start + 1;
            continue;
        }
        luaL_addlstring(self->out, copied, (size_t)(start - copied));
        if (add_replacement(self, start, end)) *changed = true;
        copied = next.at = next.last = end;
        count++;
        if (anchored) break;
    }
    if (*changed) luaL_addlstring(self->out, copied, (size_t)(matcher->end - copied));
    return count;
}

/*  gsub (text, pattern, replacement [, n]) -> text, number of replacements    */
static int string_gsub(lua_State *L)
{
    size_t text_size, size;
    luaL_checklstring(L, 1, &text_size);
    const char *pattern = luaL_checklstring(L, 2, &size);
    int type = lua_type(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)text_size + 1);
    bool fixed = type == LUA_TSTRING || type == LUA_TNUMBER;
    luaL_argexpected(L, fixed || type == LUA_TTABLE || type == LUA_TFUNCTION, 3,
                     "string/function/table");
    weir_matcher matcher;
    weir_pattern_room room;
    luaL_Buffer out;
    replacer self = {.matcher = &matcher, .out = &out};
    bool anchored = size > 0 && *pattern == '^', changed = false;
    if (fixed) self.template = lua_tolstring(L, 3, &self.template_size);
    set_subject(&matcher, L, 1);
    compile(&matcher, &room, pattern + anchored, size - anchored);
    luaL_buffinit(L, &out);
    lua_Integer count = replace_all(&self, anchored, most, &changed);
    if (changed)
        luaL_pushresult(&out);
    else
        lua_pushvalue(L, 1);
    lua_pushinteger(L, count);
    return 2;
}

/* --- Charging ---------------------------------------------------------------------- */

/*  Upvalue 1 is Lua's own function, which uses no upvalues: it runs in this frame,
    and its results are charged.                                               */
static int charged(lua_State *L)
{
    int results = lua_tocfunction(L, lua_upvalueindex(1))(L);
    uint64_t steps = (uint64_t)results;
    for (int i = 1; i <= results; i++)
        if (lua_type(L, -i) == LUA_TSTRING) steps += lua_rawlen(L, -i) / BYTES_PER_STEP;
    weir_charge(L, steps);
    return results;
}

/*  Lua's own would count up to n even when there is nothing to repeat.        */
static int string_rep(lua_State *L)
{
    size_t size, between = 0;
    luaL_checklstring(L, 1, &size);
    luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &between);
    if (size + between > 0) return charged(L);
    lua_pushliteral(L, "");
    return 1;
}

static const luaL_Reg functions[] = {
    {"find", string_find},
    {"match", string_match},
    {"gmatch", string_gmatch},
    {"gsub", string_gsub},
    {NULL, NULL},
};

/*  Wrapped around Lua's function of the same name.                            */
static const luaL_Reg wrapped[] = {
    {"byte", charged},  {"char", charged},   {"format", charged},  {"lower", charged},
    {"pack", charged},  {"rep", string_rep}, {"reverse", charged}, {"unpack", charged},
    {"upper", charged}, {NULL, NULL},
};

int weir_bind_string(lua_State *L)
{
    lua_pushcfunction(L, luaopen_string);
    lua_call(L, 0, 1);
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    luaL_setfuncs(L, functions, 0);
    for (const luaL_Reg *one = wrapped; one->name; one++) {
        lua_getfield(L, -1, one->name);
        lua_pushcclosure(L, one->func, 1);
        lua_setfield(L, -2, one->name);
    }
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushliteral(L, "string");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    return 1;
}
