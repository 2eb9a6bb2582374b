#include "lua/bind/record.h"
#include <stdio.h>
#include "actors/dedup.h"
#include "lua/bind/view.h"
#include "lua/sandbox.h"

static const char records_key, meta_key, made_key; // registry, by address

static weir_records *records_of(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &records_key);
    weir_records *self = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return self;
}

/* --- Free functions ---------------------------------------------------------------- */

static int bind_raw(lua_State *L)
{
    weir_view *v = weir_view_check(L, 1);
    if (!weir_view_is_root(v))
        return luaL_argerror(L, 1, "raw () takes the record of the call");
    const weir_record *record = &v->records->subject->record;
    lua_pushlstring(L, (const char *)record->data, record->size);
    return 1;
}

static int bind_keep(lua_State *L)
{
    weir_view *v = weir_view_check(L, 1);
    const char *error = "cannot be encoded";
    weir_view_parse(L, v);
    weir_records *self = v->records;
    weir_format format = v->doc->format;
    if (format == WEIR_TEXT)
        return luaL_argerror(L, 1, "a text has no fields; keep raw (r)");
    self->payload.size = 0;
    if (weir_encode(L, 1, format, &self->payload, &error)) return weir_lua_fail(L, error);
    weir_view_push_owned(L, self, format, self->payload.data, self->payload.size);
    return 1;
}

/*  record (t, {key =, ts =, headers =}): a table with the payload at 1.       */
static int bind_record(lua_State *L)
{
    if (!lua_istable(L, 1) && !weir_handle_at(L, 1)) luaL_typeerror(L, 1, "table");
    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) luaL_checktype(L, 2, LUA_TTABLE);
    lua_createtable(L, 1, 3);
    lua_pushvalue(L, 1);
    lua_rawseti(L, 3, 1);
    static const char *const names[] = {"key", "ts", "headers", NULL};
    for (lua_pushnil(L); !lua_isnil(L, 2) && lua_next(L, 2); lua_pop(L, 1)) {
        luaL_checkoption(L, -2, NULL, names);
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, 3);
    }
    lua_settop(L, 3);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &made_key);
    lua_setmetatable(L, 3);
    return 1;
}

static int bind_emit(lua_State *L)
{
    weir_records *self = records_of(L);
    const char *error = "";
    luaL_checkany(L, 1);
    if (!self->out) return weir_lua_fail(L, "emit () works only inside a call");
    lua_settop(L, 1);
    self->emitted = true;
    if (lua_isnil(L, 1)) return 0;
    weir_err err = weir_records_result(self, 1, &error);
    if (err == WEIR_ETOOBIG) weir_sandbox_exceed(L, WEIR_OVERRUN_OUTPUT);
    if (err) return weir_lua_fail(L, error);
    return 0;
}

/* --- Meta -------------------------------------------------------------------------- */

static int bind_meta(lua_State *L)
{
    weir_view *v = weir_view_check(L, 1);
    if (!weir_view_is_root(v))
        return luaL_argerror(L, 1, "meta () takes the record of the call");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
    return 1;
}

static void push_headers(lua_State *L, weir_records *self)
{
    static const uint8_t empty[] = {0x80};
    const weir_record *record = &self->subject->record;
    if (!self->header_view) {
        weir_view *v = weir_view_new(L, self);
        v->headers = true;
        weir_doc_reparse(&v->own_doc, WEIR_MSGPACK,
                         record->headers ? record->headers : empty,
                         record->headers ? record->headers_size : sizeof empty);
        v->ready = true;
        self->header_view = v;
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &self->header_view);
        return;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &self->header_view);
}

static weir_records *check_call(lua_State *L)
{
    weir_records *self = records_of(L);
    if (!self->subject) weir_lua_fail(L, "meta (r) cannot be used after the call");
    return self;
}

static void push_key(lua_State *L, weir_records *self)
{
    weir_value key = self->subject->record.key;
    if (self->key_set) {
        weir_reader reader = {self->key.data, self->key.data + self->key.size};
        if (weir_read_value(&reader, &key)) key.type = WEIR_NULL;
    }
    if (key.type == WEIR_MISSING || key.type == WEIR_NULL)
        lua_pushnil(L);
    else
        weir_push_value(L, &key, &self->scratch);
}

/*  Of what a store keeps of a record: where it lies, and its name.                 */
static bool push_place(lua_State *L, weir_records *self, const char *name)
{
    static const char *const names[] = {"id", "shard", "offset", NULL};
    char id[WEIR_ID_TEXT];
    weir_place place;
    int i = 0;
    while (names[i] && strcmp(names[i], name))
        i++;
    if (!names[i]) return false;
    if (!weir_subject_place(self->subject, &place)) {
        lua_pushnil(L);
    } else if (i == 0) {
        weir_id_print(&(weir_id){place.nonce, place.epoch, place.shard, place.sequence},
                      id);
        lua_pushstring(L, id);
    } else {
        lua_pushinteger(L, i == 1 ? place.shard : (lua_Integer)place.offset);
    }
    return true;
}

static int meta_index(lua_State *L)
{
    weir_records *self = check_call(L);
    const char *name = luaL_checkstring(L, 2);
    const weir_record *record = &self->subject->record;
    bool has_ts = self->ts_set ? self->has_ts : record->has_ts;
    if (strcmp(name, "key") == 0)
        push_key(L, self);
    else if (strcmp(name, "ts") == 0 && has_ts)
        lua_pushinteger(L, self->ts_set ? self->ts_ms : record->ts_ms);
    else if (strcmp(name, "headers") == 0)
        push_headers(L, self);
    else if (strcmp(name, "source") == 0)
        lua_pushstring(L, self->subject->source);
    else if (strcmp(name, "peer") == 0)
        lua_pushstring(L, self->subject->peer);
    else if (strcmp(name, "ts") == 0)
        lua_pushnil(L);
    else if (!push_place(L, self, name))
        return luaL_error(L,
                          "meta (r) has key, ts, headers, source, peer, id, shard and "
                          "offset, no '%s'",
                          name);
    return 1;
}

/*  Encodes a key: a scalar in MessagePack.                                    */
static const char *put_key(lua_State *L, int index, weir_buffer *out)
{
    const char *error = "a key is a string, an integer or a boolean";
    int type = lua_type(L, index);
    bool scalar = type == LUA_TSTRING || type == LUA_TBOOLEAN || lua_isinteger(L, index);
    uint64_t big;
    out->size = 0;
    if (type == LUA_TNIL)
        weir_put_nil(out);
    else if (!scalar && !weir_to_uint(L, index, &big))
        return error;
    else if (weir_encode(L, index, WEIR_MSGPACK, out, &error))
        return error;
    return NULL;
}

static int meta_newindex(lua_State *L)
{
    weir_records *self = check_call(L);
    const char *name = luaL_checkstring(L, 2);
    if (strcmp(name, "key") == 0) {
        const char *error = put_key(L, 3, &self->key);
        if (error) return weir_lua_fail(L, error);
        self->key_set = true;
    } else if (strcmp(name, "ts") == 0) {
        self->has_ts = !lua_isnil(L, 3);
        if (self->has_ts) self->ts_ms = luaL_checkinteger(L, 3);
        self->ts_set = true;
    } else if (strcmp(name, "headers") == 0) {
        return weir_lua_fail(L,
                             "set one header at a time: meta (r).headers.name = value");
    } else {
        return luaL_error(L, "meta (r).%s cannot be written", name);
    }
    return 0;
}

/* --- Results ----------------------------------------------------------------------- */

static weir_err complain(weir_records *self, const char **error, const char *text)
{
    snprintf(self->error, sizeof self->error, "%s", text);
    *error = self->error;
    return WEIR_EINVAL;
}

/*  The call's own view is written without the general way's questions.        */
static weir_err encode_result(lua_State *L, weir_records *self, int index,
                              weir_format format, const char **error)
{
    if (lua_touserdata(L, index) != self->input)
        return weir_encode(L, index, format, &self->payload, error);
    weir_encoder encoder = {
        .L = L, .format = format, .out = &self->payload, .limit = WEIR_ENCODE_MAX};
    weir_err err = weir_view_encode.encode(&encoder, index);
    if (err) *error = encoder.error;
    return err;
}

/*  What the call's record has, as far as the function has not changed it.     */
static weir_err fill_meta(lua_State *L, weir_records *self, weir_record *record,
                          const char **error)
{
    const weir_record *input = &self->subject->record;
    record->has_ts = self->ts_set ? self->has_ts : input->has_ts;
    record->ts_ms = self->ts_set ? self->ts_ms : input->ts_ms;
    record->key = input->key;
    if (self->key_set) {
        weir_reader reader = {self->key.data, self->key.data + self->key.size};
        if (weir_read_value(&reader, &record->key) || record->key.type == WEIR_NULL)
            record->key = (weir_value){.type = WEIR_MISSING};
    }
    record->headers = input->headers;
    record->headers_size = input->headers_size;
    if (!self->header_view || !self->header_view->dirty) return WEIR_OK;
    self->header_bytes.size = 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &self->header_view);
    weir_err err = weir_encode(L, -1, WEIR_MSGPACK, &self->header_bytes, error);
    lua_pop(L, 1);
    record->headers = self->header_bytes.data;
    record->headers_size = self->header_bytes.size;
    return err;
}

static weir_err put_payload(lua_State *L, weir_records *self, int index,
                            weir_record *record, const char **error)
{
    weir_format format = self->subject->record.format;
    record->format = format == WEIR_TEXT ? WEIR_JSON : format;
    self->payload.size = 0;
    weir_err err = encode_result(L, self, index, record->format, error);
    record->data = self->payload.data;
    record->size = self->payload.size;
    if (!err && record->format == WEIR_JSON && record->data[0] == '[')
        err =
            complain(self, error,
                     "returned a list: a record is a table with named fields; return a, "
                     "b makes two records");
    if (!err && record->format == WEIR_MSGPACK && (record->data[0] & 0xf0) == 0x90)
        err = complain(self, error, "returned a list: a record has named fields");
    return err;
}

static weir_err emit_root(lua_State *L, weir_records *self, int index, weir_view *v,
                          const char **error)
{
    bool meta_same = !self->key_set && !self->ts_set &&
                     !(self->header_view && self->header_view->dirty);
    weir_record record = {.format = self->subject->record.format,
                          .data = self->subject->record.data,
                          .size = self->subject->record.size};
    if (!v->dirty && meta_same && self->results == 0) {
        weir_emit_input(self->out);
        return WEIR_OK;
    }
    weir_err err = fill_meta(L, self, &record, error);
    if (!err && v->dirty) err = put_payload(L, self, index, &record, error);
    return err ? err : weir_emit(self->out, &record);
}

static weir_err fill_made(lua_State *L, weir_records *self, int index,
                          weir_record *record, const char **error)
{
    weir_err err = WEIR_OK;
    lua_getfield(L, index, "key");
    if (!lua_isnil(L, -1)) {
        const char *bad = put_key(L, lua_gettop(L), &self->key);
        weir_reader reader = {self->key.data, self->key.data + self->key.size};
        if (bad)
            err = complain(self, error, bad);
        else
            weir_read_value(&reader, &record->key);
    }
    lua_getfield(L, index, "ts");
    if (!err && !lua_isnil(L, -1)) {
        record->has_ts = lua_isinteger(L, -1);
        record->ts_ms = lua_tointeger(L, -1);
        if (!record->has_ts) err = complain(self, error, "ts is an integer, in ms");
    }
    lua_getfield(L, index, "headers");
    if (!err && !lua_isnil(L, -1)) {
        self->header_bytes.size = 0;
        err = weir_encode(L, lua_gettop(L), WEIR_MSGPACK, &self->header_bytes, error);
        uint8_t head = err ? 0x80 : self->header_bytes.data[0];
        if ((head & 0xf0) != 0x80 && head != 0xde && head != 0xdf)
            err = complain(self, error, "headers is a table with names");
        record->headers = self->header_bytes.data;
        record->headers_size = self->header_bytes.size;
    }
    lua_pop(L, 3);
    return err;
}

static bool is_made(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index)) return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &made_key);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static weir_err emit_made(lua_State *L, weir_records *self, int index, const char **error)
{
    weir_record record = {0};
    bool key_set = self->key_set; // key is scratch here
    weir_buffer key = self->key;
    self->key = (weir_buffer){0};
    weir_err err = fill_made(L, self, index, &record, error);
    lua_rawgeti(L, index, 1);
    if (!err) err = put_payload(L, self, lua_gettop(L), &record, error);
    lua_pop(L, 1);
    if (!err) err = weir_emit(self->out, &record);
    weir_buffer_fini(&self->key);
    self->key = key;
    self->key_set = key_set;
    return err;
}

static weir_err emit_result(lua_State *L, weir_records *self, int index,
                            const char **error)
{
    char text[96];
    if (lua_touserdata(L, index) == self->input)
        return emit_root(L, self, index, &self->root, error);
    const weir_handle *h = weir_handle_at(L, index);
    if (lua_istable(L, index) && is_made(L, index))
        return emit_made(L, self, index, error);
    if (lua_istable(L, index) || h) {
        weir_record record = {0};
        weir_err err = put_payload(L, self, index, &record, error);
        return err ? err : weir_emit(self->out, &record);
    }
    snprintf(text, sizeof text, "returned a %s: a record is a table",
             luaL_typename(L, index));
    return complain(self, error, text);
}

weir_err weir_records_result(weir_records *self, int index, const char **error)
{
    weir_err err = emit_result(self->L, self, lua_absindex(self->L, index), error);
    self->results++;
    return err;
}

/* --- Calls ------------------------------------------------------------------------- */

void weir_records_begin(weir_records *self, weir_subject *subject, weir_emitter *out)
{
    weir_view *v = &self->root;
    self->serial++;
    self->subject = subject;
    self->out = out;
    self->undecodable = self->emitted = self->key_set = self->ts_set = false;
    self->results = 0;
    self->header_view = NULL;
    v->doc = subject->doc;
    v->ready = subject->state == WEIR_PARSED;
    v->array = v->ready && v->doc->index.type == WEIR_ARRAY;
    v->dirty = false;
    v->slot_count = 0;
    self->input = weir_view_push_input(self->L, self);
}

bool weir_records_is_input(const weir_records *self, int index)
{
    return lua_touserdata(self->L, index) == self->input;
}

void weir_records_end(weir_records *self)
{
    self->subject = NULL;
    self->out = NULL;
    self->input = NULL;
    self->serial++;
}

bool weir_records_undecodable(const weir_records *self)
{
    return self->undecodable;
}

bool weir_records_emitted(const weir_records *self)
{
    return self->emitted;
}

/* --- Opening ----------------------------------------------------------------------- */

static int records_gc(lua_State *L)
{
    weir_records *self = lua_touserdata(L, 1);
    weir_view_fini(&self->root);
    weir_buffer_fini(&self->scratch);
    weir_buffer_fini(&self->payload);
    weir_buffer_fini(&self->key);
    weir_buffer_fini(&self->header_bytes);
    return 0;
}

static const luaL_Reg meta_methods[] = {
    {"__index", meta_index},
    {"__newindex", meta_newindex},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"meta", bind_meta},     {"raw", bind_raw},   {"keep", bind_keep},
    {"record", bind_record}, {"emit", bind_emit}, {NULL, NULL},
};

weir_records *weir_bind_record(lua_State *L)
{
    static const luaL_Reg none[] = {{NULL, NULL}};
    weir_views_open(L);
    weir_new_metatable(L, none, "record ()");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &made_key);

    weir_records *self = lua_newuserdatauv(L, sizeof *self, 0);
    memset(self, 0, sizeof *self);
    self->L = L;
    lua_newtable(L);
    lua_pushcfunction(L, records_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    self->serial = 1;
    self->root.records = self;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &records_key);

    lua_newuserdatauv(L, 1, 0);
    weir_new_metatable(L, meta_methods, "meta (r)");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);
    lua_pushglobaltable(L);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
    return self;
}
