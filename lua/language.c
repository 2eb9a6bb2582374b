#include "lua/language.h"
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/log.h"

/*  Words that declare a node, and words that declare something else.          */
const char *const weir_language_declarers[] = {
    "source.file",
    "source.stdin",
    "source.generate",
    "sink.file",
    "sink.stdout",
    "sink.null",
    "process",
    "settings",
    "supervise",
    "monitor",
    "source.link",
    "source.zmq",
    "source.http",
    "source.redis",
    "source.jetstream",
    "source.bus",
    "sink.link",
    "sink.zmq",
    "sink.redis",
    "sink.jetstream",
    "source.jetstream",
    "sink.http",
    "bus",
    "store",
    "shuffle",
    "lookup",
    "test",
    "actor",
    "group",
    "security",
    "governor",
    "signal",
    "dead_letters",
    "cluster",
    "checkpoint",
    NULL,
};

/*  Of these, what exists now.                                                 */
static const char *const present[] = {
    "source.file",
    "source.stdin",
    "source.generate",
    "sink.file",
    "sink.stdout",
    "sink.null",
    "process",
    "settings",
    "supervise",
    "security",
    "source.link",
    "sink.link",
    "source.zmq",
    "sink.zmq",
    "monitor",
    "bus",
    "group",
    "source.bus",
    "source.redis",
    "sink.redis",
    "sink.jetstream",
    "source.jetstream",
    NULL,
};

/*  Words without a name: `settings { .. }`.                                   */
static const char *const nameless[] = {
    "settings", "supervise",    "monitor", "security",   "governor",
    "signal",   "dead_letters", "cluster", "checkpoint", NULL,
};

/*  Words for values. `array`, `map` and `json` are also functions or modules of the
    sandbox: there the value itself is the word.                               */
static const char *const values[] = {
    "drop",   "dead",        "stop",        "pass",       "otherwise", "lazy",
    "eager",  "ndjson",      "lines",       "blob",       "text",      "msgpack",
    "auto",   "none",        "all",         "forever",    "always",    "never",
    "follow", "start",       "disk",        "throughput", "balanced",  "low_latency",
    "array",  "map",         "json",        "pull",       "sub",       "router",
    "push",   "pub",         "dealer",      "safe",       "block",     "fail",
    "sample", "drop_newest", "drop_oldest", "redis",      "jetstream", NULL,
};

typedef struct {
    const char *name; // one of values
} word;

static const char language_key, word_key, variant_key, dead_key, pending_key, named_key,
    group_key;

static bool contains(const char *const *list, const char *text)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0) return true;
    return false;
}

bool weir_language_is_value(const char *name)
{
    return contains(values, name);
}

bool weir_language_is_later(const char *name)
{
    return contains(weir_language_declarers, name) && !contains(present, name);
}

static weir_language *language_of(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &language_key);
    weir_language *language = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return language;
}

static int line_of_caller(lua_State *L)
{
    lua_Debug info;
    if (!lua_getstack(L, 1, &info)) return 0;
    lua_getinfo(L, "l", &info);
    return info.currentline;
}

static bool has_metatable(lua_State *L, int index, const void *key)
{
    if (!lua_getmetatable(L, index)) return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* --- Declarations ------------------------------------------------------------------ */

static weir_language *check_declares(lua_State *L)
{
    weir_language *language = language_of(L);
    if (!language) luaL_error(L, "declarations belong to the top level of the file");
    return language;
}

static void declare(lua_State *L, const char *name_of_word, const char *name, int table,
                    int line)
{
    weir_language *language = check_declares(L);
    language->declare(language->arg, L, name_of_word, name, table, line);
}

/*  word "name" {..}: the table has come.                                      */
static void end_pending(lua_State *L, const char *name_of_word, const char *name)
{
    if (!lua_istable(L, 1))
        luaL_error(L, "%s \"%s\": expected a table of options, got %s", name_of_word,
                   name, luaL_typename(L, 1));
    lua_rawgetp(L, LUA_REGISTRYINDEX, &pending_key);
    lua_pushvalue(L, lua_upvalueindex(4));
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_settop(L, 1);
}

/*  The second call. Upvalues: word, name, line, ticket.                       */
static int declare_named(lua_State *L)
{
    const char *name_of_word = lua_tostring(L, lua_upvalueindex(1));
    const char *name = lua_tostring(L, lua_upvalueindex(2));
    end_pending(L, name_of_word, name);
    declare(L, name_of_word, name, 1, (int)lua_tointeger(L, lua_upvalueindex(3)));
    return 0;
}

/*  group "name" {..} is a value: its name, its table, its line.               */
static int make_group(lua_State *L)
{
    end_pending(L, "group", lua_tostring(L, lua_upvalueindex(2)));
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 2);
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_rawseti(L, -2, 3);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &group_key);
    lua_setmetatable(L, -2);
    return 1;
}

/*  word "name": keeps in mind that a table must follow.                       */
static int name_node(lua_State *L)
{
    const char *name_of_word = lua_tostring(L, lua_upvalueindex(1));
    bool is_group = strcmp(name_of_word, "group") == 0;
    check_declares(L);
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "%s needs a name: %s \"name\" { .. }", name_of_word,
                          name_of_word);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &pending_key);
    lua_newtable(L); // the ticket of this declaration
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushinteger(L, line_of_caller(L));
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, is_group ? make_group : declare_named, 4);
    lua_pushvalue(L, 3);
    lua_pushfstring(L, "%s \"%s\"", name_of_word, lua_tostring(L, 1));
    lua_pushinteger(L, line_of_caller(L));
    lua_rawseti(L, 3, 1);
    lua_rawset(L, 2);
    lua_settop(L, 4);
    return 1;
}

static int declare_nameless(lua_State *L)
{
    const char *name_of_word = lua_tostring(L, lua_upvalueindex(1));
    if (!lua_istable(L, 1))
        return luaL_error(L, "%s takes a table of options: %s { .. }", name_of_word,
                          name_of_word);
    declare(L, name_of_word, "", 1, line_of_caller(L));
    return 0;
}

/*  source.x and sink.x: upvalue 1 is the family's name. Whether there is such a word is
    the declaration's business, so that one that is unknown does not hide the others. */
static int family_index(lua_State *L)
{
    lua_pushfstring(L, "%s.%s", lua_tostring(L, lua_upvalueindex(1)),
                    luaL_checkstring(L, 2));
    lua_pushcclosure(L, name_node, 1);
    return 1;
}

static void set_declarers(lua_State *L)
{
    static const char *const families[] = {"source", "sink"};
    for (int i = 0; i < 2; i++) {
        lua_newtable(L);
        lua_newtable(L);
        lua_pushstring(L, families[i]);
        lua_pushcclosure(L, family_index, 1);
        lua_setfield(L, -2, "__index");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_setmetatable(L, -2);
        lua_setglobal(L, families[i]);
    }
    for (const char *const *name = weir_language_declarers; *name; name++) {
        if (strchr(*name, '.')) continue;
        lua_pushstring(L, *name);
        lua_pushcclosure(L, contains(nameless, *name) ? declare_nameless : name_node, 1);
        lua_setglobal(L, *name);
    }
}

/* --- Words for values -------------------------------------------------------------- */

static int word_tostring(lua_State *L)
{
    const word *w = lua_touserdata(L, 1);
    lua_pushstring(L, w->name);
    return 1;
}

/*  lines { .. } and dead "..": a table with the word at 1 and its argument at 2. */
static int word_call(lua_State *L)
{
    const word *w = lua_touserdata(L, 1);
    bool dead = strcmp(w->name, "dead") == 0;
    if (dead && lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "dead takes a text: dead \"why\"");
    if (!dead && !lua_istable(L, 2))
        return luaL_error(L, "%s takes a table: %s { .. }", w->name, w->name);
    lua_settop(L, 2);
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, 3, 1);
    lua_pushvalue(L, 2);
    lua_rawseti(L, 3, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, dead ? &dead_key : &variant_key);
    lua_setmetatable(L, 3);
    return 1;
}

static void new_metatable(lua_State *L, const char *name, const void *key)
{
    lua_newtable(L);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

static void set_values(lua_State *L)
{
    new_metatable(L, "word with options", &variant_key);
    new_metatable(L, "dead letter", &dead_key);
    new_metatable(L, "group", &group_key);
    new_metatable(L, "word", &word_key);
    lua_pushcfunction(L, word_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, word_call);
    lua_setfield(L, -2, "__call");
    lua_newtable(L); // functions and modules that are words, too
    for (const char *const *name = values; *name; name++) {
        if (lua_getglobal(L, *name) == LUA_TNIL) {
            word *w = lua_newuserdatauv(L, sizeof *w, 0);
            w->name = *name;
            lua_pushvalue(L, -4);
            lua_setmetatable(L, -2);
            lua_setglobal(L, *name);
            lua_pop(L, 1);
            continue;
        }
        lua_pushstring(L, *name);
        lua_rawset(L, -3);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &named_key);
    lua_pop(L, 4);
}

const char *weir_language_word(lua_State *L, int index, bool *has_table)
{
    index = lua_absindex(L, index);
    *has_table = false;
    if (has_metatable(L, index, &word_key))
        return ((const word *)lua_touserdata(L, index))->name;
    if (has_metatable(L, index, &variant_key)) {
        lua_rawgeti(L, index, 1);
        const word *w = lua_touserdata(L, -1);
        lua_pop(L, 1);
        lua_rawgeti(L, index, 2);
        *has_table = true;
        return w->name;
    }
    int type = lua_type(L, index);
    if (type != LUA_TFUNCTION && type != LUA_TTABLE) return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &named_key);
    lua_pushvalue(L, index);
    lua_rawget(L, -2);
    const char *name = lua_tostring(L, -1);
    lua_pop(L, 2);
    return name;
}

const char *weir_language_group(lua_State *L, int index, int *line)
{
    index = lua_absindex(L, index);
    if (!has_metatable(L, index, &group_key)) return NULL;
    lua_rawgeti(L, index, 1);
    const char *name = lua_tostring(L, -1);
    lua_rawgeti(L, index, 3);
    *line = (int)lua_tointeger(L, -1);
    lua_pop(L, 2);
    lua_rawgeti(L, index, 2);
    return name;
}

const char *weir_language_dead(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !has_metatable(L, index, &dead_key)) return NULL;
    lua_rawgeti(L, index, 2);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1);
    return text;
}

bool weir_language_is_drop(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TUSERDATA || !has_metatable(L, index, &word_key))
        return false;
    return strcmp(((const word *)lua_touserdata(L, index))->name, "drop") == 0;
}

/* --- Top-level functions ----------------------------------------------------------- */

static weir_language *check_top_level(lua_State *L, const char *name)
{
    weir_language *language = language_of(L);
    if (!language)
        luaL_error(L, "%s works at the top level of the file: keep its value in a local",
                   name);
    return language;
}

static int top_env(lua_State *L)
{
    check_top_level(L, "env");
    lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
    return 1;
}

static int top_param(lua_State *L)
{
    weir_language *language = check_top_level(L, "param");
    const char *name = luaL_checkstring(L, 1);
    lua_pushnil(L);
    for (size_t i = 0; i < language->param_count; i++) {
        if (strcmp(language->params[i].name, name)) continue;
        language->params[i].used = true;
        lua_pushstring(L, language->params[i].value);
    }
    return 1;
}

static int top_secret(lua_State *L)
{
    weir_language *language = check_top_level(L, "secret");
    const char *name = luaL_checkstring(L, 1);
    lua_Debug caller = {.source = "", .currentline = 0};
    if (lua_getstack(L, 1, &caller)) lua_getinfo(L, "Sl", &caller);
    language->secret(language->arg, L, name, caller.source, caller.currentline);
    return 1;
}

/*  weir.log (text) or weir.log ("warn", text).                                */
static int log_line(lua_State *L)
{
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
    int level = lua_gettop(L) > 1 ? luaL_checkoption(L, 1, NULL, levels) : WEIR_INFO;
    weir_log((weir_level)level, "%s", luaL_tolstring(L, lua_gettop(L) > 1 ? 2 : 1, NULL));
    return 0;
}

void weir_language_open(lua_State *L, weir_language *language)
{
    lua_pushlightuserdata(L, language);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &language_key);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &pending_key);
    set_declarers(L);
    set_values(L);
    lua_pushcfunction(L, top_env);
    lua_setglobal(L, "env");
    lua_pushcfunction(L, top_param);
    lua_setglobal(L, "param");
    lua_pushcfunction(L, top_secret);
    lua_setglobal(L, "secret");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, log_line);
    lua_setfield(L, -2, "log");
    lua_setglobal(L, "weir");
}

int weir_language_close(lua_State *L, const char **name_of_word)
{
    int line = 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &pending_key);
    lua_pushnil(L);
    if (lua_next(L, -2)) {
        *name_of_word = lua_tostring(L, -1);
        lua_rawgeti(L, -2, 1);
        line = (int)lua_tointeger(L, -1);
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
    lua_pushlightuserdata(L, NULL);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &language_key);
    return line;
}
