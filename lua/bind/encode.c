/*  encode: Lua values to JSON and MessagePack bytes, and values to Lua.

    Encoding calls nothing that can raise, so that its heap memory is freed on
    every path: only raw access, no metamethods, no conversion of keys, and the
    stack is grown by lua_checkstack.                                          */
#include "lua/bind/bind.h"
#include "runtime/codec.h"
#include <lauxlib.h>

/*  Maps up to this many members are sorted without heap memory.               */
#define MEMBERS_ON_STACK 24

static const char encode_key, ext_key; // addresses only: registry and metatable keys

static weir_err fail(weir_encoder *self, const char *error)
{
    self->error = error;
    return WEIR_EINVAL;
}

/* --- Scalars ----------------------------------------------------------------------- */

static weir_err put_null(weir_encoder *self)
{
    if (self->format == WEIR_MSGPACK)
        weir_put_nil(self->out);
    else
        weir_buffer_put(self->out, "null", 4);
    return WEIR_OK;
}

static weir_err put_bool(weir_encoder *self, bool value)
{
    if (self->format == WEIR_MSGPACK)
        weir_put_bool(self->out, value);
    else
        weir_buffer_put_text(self->out, value ? "true" : "false");
    return WEIR_OK;
}

static weir_err put_number(weir_encoder *self, int index)
{
    bool msgpack = self->format == WEIR_MSGPACK;
    if (lua_isinteger(self->L, index)) {
        lua_Integer value = lua_tointeger(self->L, index);
        if (msgpack)
            weir_put_int(self->out, value);
        else
            weir_json_put_int(self->out, value);
        return WEIR_OK;
    }
    double real = lua_tonumber(self->L, index);
    if (msgpack)
        weir_put_float(self->out, real);
    else if (weir_json_put_float(self->out, real))
        return fail(self, "JSON has no NaN and no infinity");
    return WEIR_OK;
}

static weir_err put_text(weir_encoder *self, const char *text, size_t size)
{
    if (self->format == WEIR_JSON) {
        if (weir_json_put_string(self->out, text, size))
            return fail(self, "a string that is not UTF-8 has no JSON form");
    } else if (size > UINT32_MAX) {
        return fail(self, "a string is too long");
    } else if (weir_utf8_valid((const uint8_t *)text, size)) {
        weir_put_str(self->out, text, size);
    } else {
        weir_put_bin(self->out, text, size);
    }
    return WEIR_OK;
}

/* --- Arrays ------------------------------------------------------------------------ */

static weir_err check_room(weir_encoder *self)
{
    if (self->out->size <= self->limit) return WEIR_OK;
    self->error = "the encoded value is too large";
    return WEIR_ETOOBIG;
}

static weir_err put_element(weir_encoder *self, int index, bool first)
{
    if (!first && self->format == WEIR_JSON) weir_buffer_put_byte(self->out, ',');
    weir_err err = check_room(self);
    return err ? err : weir_encode_value(self, index);
}

/*  True when every key of the table is an integer in 1..count and all are there. */
static bool is_sequence(lua_State *L, int table, lua_Unsigned count)
{
    lua_Unsigned found = 0;
    bool good = true;
    lua_pushnil(L);
    while (good && lua_next(L, table)) {
        lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        good = key >= 1 && (lua_Unsigned)key <= count;
        found++;
        lua_pop(L, 1);
    }
    if (!good) lua_pop(L, 1);
    return good && found == count;
}

/*  Elements first..count by index: for tables whose elements Lua does not keep in
    order.                                                                     */
static weir_err put_elements(weir_encoder *self, int table, lua_Unsigned first,
                             lua_Unsigned count)
{
    weir_err err = WEIR_OK;
    if (!is_sequence(self->L, table, count))
        return fail(self, "an array has the keys 1 to n without gaps, and no others");
    for (lua_Unsigned i = first; !err && i <= count; i++) {
        lua_rawgeti(self->L, table, (lua_Integer)i);
        err = put_element(self, lua_gettop(self->L), i == 1);
        lua_pop(self->L, 1);
    }
    return err;
}

/*  One walk writes the elements and proves that there is nothing else: lua_next
    gives 1, 2, 3.. as long as they lie in the table's array part.             */
static weir_err put_array(weir_encoder *self, int table)
{
    lua_State *L = self->L;
    lua_Unsigned count = lua_rawlen(L, table), i = 0;
    if (count > UINT32_MAX) return fail(self, "an array is too long");
    if (self->format == WEIR_JSON)
        weir_buffer_put_byte(self->out, '[');
    else
        weir_put_array(self->out, (uint32_t)count);
    weir_err err = WEIR_OK;
    lua_pushnil(L);
    while (!err && lua_next(L, table)) {
        if (i == count || !lua_isinteger(L, -2) ||
            lua_tointeger(L, -2) != (lua_Integer)i + 1) {
            lua_pop(L, 2);
            err = put_elements(self, table, i + 1, count);
            i = count;
            break;
        }
        err = put_element(self, lua_gettop(L), i++ == 0);
        lua_pop(L, 1);
    }
    if (!err && i != count)
        return fail(self, "an array has the keys 1 to n without gaps, and no others");
    if (!err && self->format == WEIR_JSON) weir_buffer_put_byte(self->out, ']');
    return err;
}

/* --- Maps -------------------------------------------------------------------------- */

typedef struct {
    const char *text; // borrowed from the table; NULL: an integer key
    union {
        size_t size; // of text
        lua_Integer integer;
    };
    int value; // stack index
} member;

typedef struct {
    member *all; // room, or heap memory
    size_t count;
    size_t capacity;
    member room[MEMBERS_ON_STACK];
} members;

static int compare_members(const void *left, const void *right)
{
    const member *a = left, *b = right;
    if (!a->text || !b->text) {
        if (a->text || b->text) return a->text ? 1 : -1;
        return a->integer < b->integer ? -1 : a->integer > b->integer;
    }
    int order = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);
    if (order) return order;
    return a->size < b->size ? -1 : a->size > b->size;
}

static void sort_members(members *self)
{
    if (self->count > MEMBERS_ON_STACK) {
        qsort(self->all, self->count, sizeof(member), compare_members);
        return;
    }
    for (size_t i = 1; i < self->count; i++) {
        member moving = self->all[i];
        size_t at = i;
        for (; at > 0 && compare_members(&self->all[at - 1], &moving) > 0; at--)
            self->all[at] = self->all[at - 1];
        self->all[at] = moving;
    }
}

static member *add_member(members *self)
{
    if (self->count == self->capacity) {
        size_t bytes = 2 * self->capacity * sizeof(member);
        member *grown = realloc(self->all == self->room ? NULL : self->all, bytes);
        if (!grown) abort();
        if (self->all == self->room) memcpy(grown, self->room, sizeof self->room);
        self->all = grown;
        self->capacity *= 2;
    }
    return &self->all[self->count++];
}

/*  Leaves the values on the stack, so that none has to be looked up again after
    sorting; the keys stay alive in the table.                                 */
static weir_err collect(weir_encoder *self, int table, members *found)
{
    lua_State *L = self->L;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        member *next = add_member(found);
        if (lua_type(L, -2) == LUA_TSTRING) {
            next->text = lua_tolstring(L, -2, &next->size);
        } else if (lua_isinteger(L, -2) && self->format == WEIR_MSGPACK) {
            next->text = NULL;
            next->integer = lua_tointeger(L, -2);
        } else {
            return fail(self, "the keys of a map are strings");
        }
        lua_insert(L, -2);
        next->value = lua_gettop(L) - 1;
        if (!lua_checkstack(L, 4)) return fail(self, "a map has too many members");
    }
    return WEIR_OK;
}

static weir_err put_key(weir_encoder *self, const member *key)
{
    if (!key->text) {
        weir_put_int(self->out, key->integer);
        return WEIR_OK;
    }
    weir_err err = put_text(self, key->text, key->size);
    if (!err && self->format == WEIR_JSON) weir_buffer_put_byte(self->out, ':');
    return err;
}

static weir_err put_members(weir_encoder *self, members *found)
{
    bool json = self->format == WEIR_JSON;
    if (json)
        weir_buffer_put_byte(self->out, '{');
    else
        weir_put_map(self->out, (uint32_t)found->count);
    for (size_t i = 0; i < found->count; i++) {
        if (json && i > 0) weir_buffer_put_byte(self->out, ',');
        weir_err err = put_key(self, &found->all[i]);
        if (!err) err = check_room(self);
        if (!err) err = weir_encode_value(self, found->all[i].value);
        if (err) return err;
    }
    if (json) weir_buffer_put_byte(self->out, '}');
    return WEIR_OK;
}

static weir_err put_map(weir_encoder *self, int table)
{
    members found;
    found.all = found.room;
    found.count = 0;
    found.capacity = MEMBERS_ON_STACK;
    weir_err err = collect(self, table, &found);
    if (!err) {
        sort_members(&found);
        err = put_members(self, &found);
    }
    if (found.all != found.room) free(found.all);
    lua_settop(self->L, table); // the caller has put the table on top
    return err;
}

static weir_err put_table(weir_encoder *self, int index)
{
    lua_State *L = self->L;
    if (self->depth == WEIR_DEPTH_MAX)
        return fail(self, "a table is nested more than 64 deep, or holds itself");
    int kind = weir_table_kind(L, index);
    if (kind == 0) kind = lua_rawlen(L, index) > 0 ? 'a' : 'm';
    int top = lua_gettop(L);
    lua_pushvalue(L, index);
    self->depth++;
    weir_err err = kind == 'a' ? put_array(self, top + 1) : put_map(self, top + 1);
    self->depth--;
    lua_settop(L, top);
    return err;
}

/* --- Any value --------------------------------------------------------------------- */

static weir_err put_userdata(weir_encoder *self, int index)
{
    lua_State *L = self->L;
    uint64_t value;
    if (weir_to_uint(L, index, &value)) {
        if (self->format == WEIR_MSGPACK)
            weir_put_uint(self->out, value);
        else
            weir_json_put_uint(self->out, value);
        return WEIR_OK;
    }
    const weir_encode_class *class = NULL;
    if (lua_getmetatable(L, index)) {
        lua_rawgetp(L, -1, &encode_key);
        class = lua_touserdata(L, -1);
        lua_pop(L, 2);
    }
    return class ? class->encode(self, index)
                 : fail(self, "a userdata cannot be encoded");
}

weir_err weir_encode_value(weir_encoder *self, int index)
{
    lua_State *L = self->L;
    index = lua_absindex(L, index);
    if (!lua_checkstack(L, 8)) return fail(self, "a value is too large");
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        return put_bool(self, lua_toboolean(L, index));
    case LUA_TNUMBER:
        return put_number(self, index);
    case LUA_TSTRING: {
        size_t size;
        const char *text = lua_tolstring(L, index, &size);
        return put_text(self, text, size);
    }
    case LUA_TTABLE:
        return put_table(self, index);
    case LUA_TLIGHTUSERDATA:
        if (weir_is_null(L, index)) return put_null(self);
        return fail(self, "a userdata cannot be encoded");
    case LUA_TUSERDATA:
        return put_userdata(self, index);
    case LUA_TFUNCTION:
        return fail(self, "a function cannot be encoded");
    case LUA_TTHREAD:
        return fail(self, "a coroutine cannot be encoded");
    }
    return fail(self, "nil cannot be encoded; the value is called null");
}

weir_err weir_encode(lua_State *L, int index, weir_format format, weir_buffer *out,
                     const char **error)
{
    size_t start = out->size;
    weir_encoder self = {
        .L = L, .format = format, .out = out, .limit = start + WEIR_ENCODE_MAX};
    weir_err err = weir_encode_value(&self, index);
    if (!err) err = check_room(&self);
    if (err) {
        out->size = start;
        *error = self.error;
    }
    return err;
}

void weir_set_encode(lua_State *L, const weir_encode_class *class)
{
    lua_pushlightuserdata(L, (void *)class);
    lua_rawsetp(L, -2, &encode_key);
}

/* --- To Lua ------------------------------------------------------------------------ */

static weir_err encode_ext(weir_encoder *self, int index)
{
    if (self->format != WEIR_MSGPACK)
        return fail(self, "a MessagePack extension has no JSON form");
    weir_buffer_put(self->out, lua_touserdata(self->L, index),
                    lua_rawlen(self->L, index));
    return WEIR_OK;
}

static const weir_encode_class ext_class = {.encode = encode_ext};

/*  The userdata holds the encoded extension, head and all.                    */
static void push_ext(lua_State *L, const weir_value *value)
{
    memcpy(lua_newuserdatauv(L, value->size, 0), value->data, value->size);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &ext_key) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 3);
        lua_pushliteral(L, "extension");
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "__name");
        lua_setfield(L, -2, "__metatable");
        weir_set_encode(L, &ext_class);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &ext_key);
    }
    lua_setmetatable(L, -2);
}

/*  A first guess at the number of children, of which each takes about so many bytes. */
static int guess_children(const weir_value *value, size_t bytes)
{
    size_t guess = value->size / bytes;
    return guess > 32 ? 32 : (int)guess;
}

static void push_array(lua_State *L, const weir_value *value, weir_buffer *scratch)
{
    weir_walk walk = {0};
    weir_value key, child;
    lua_createtable(L, guess_children(value, 8), 0);
    for (lua_Integer i = 1; weir_value_next(value, &walk, &key, &child); i++) {
        weir_push_value(L, &child, scratch);
        lua_rawseti(L, -2, i);
    }
    weir_mark_table(L, -1, true);
}

static void push_map(lua_State *L, const weir_value *value, weir_buffer *scratch)
{
    weir_walk walk = {0};
    weir_value key, child;
    lua_createtable(L, 0, guess_children(value, 32));
    while (weir_value_next(value, &walk, &key, &child)) {
        if (key.type != WEIR_STR && key.type != WEIR_BIN && key.type != WEIR_INT)
            luaL_error(L, "a map key of type %s has no Lua form",
                       weir_type_name(key.type));
        weir_push_value(L, &key, scratch);
        weir_push_value(L, &child, scratch);
        lua_rawset(L, -3);
    }
    weir_mark_table(L, -1, false);
}

static void push_text(lua_State *L, const weir_value *value, weir_buffer *scratch)
{
    size_t size;
    const char *text = weir_value_text(value, scratch, &size);
    lua_pushlstring(L, text, size);
}

void weir_push_value(lua_State *L, const weir_value *value, weir_buffer *scratch)
{
    luaL_checkstack(L, 8, "value");
    switch (value->type) {
    case WEIR_MISSING:
        lua_pushnil(L);
        break;
    case WEIR_NULL:
        weir_push_null(L);
        break;
    case WEIR_BOOL:
        lua_pushboolean(L, value->boolean);
        break;
    case WEIR_INT:
        lua_pushinteger(L, value->integer);
        break;
    case WEIR_UINT:
        weir_push_uint(L, value->natural);
        break;
    case WEIR_FLOAT:
        lua_pushnumber(L, value->real);
        break;
    case WEIR_STR:
        push_text(L, value, scratch);
        break;
    case WEIR_BIN:
        lua_pushlstring(L, (const char *)value->data, value->size);
        break;
    case WEIR_ARRAY:
        push_array(L, value, scratch);
        break;
    case WEIR_MAP:
        push_map(L, value, scratch);
        break;
    case WEIR_EXT:
        push_ext(L, value);
        break;
    }
}
