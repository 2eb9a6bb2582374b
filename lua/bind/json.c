/*  json: whole JSON texts to Lua values and back, exactly.

    The index and the buffers live outside of the Lua heap, in one userdata that
    all calls of a state share: neither function calls back into Lua, so they are
    never in use twice.                                                        */
#include "lua/bind/bind.h"
#include "lua/sandbox.h"
#include "runtime/doc.h"
#include <lauxlib.h>

/*  What a call leaves allocated for the next one, at most.                    */
#define KEPT_BYTES (256u << 10)

typedef struct {
    weir_json_index index; // of the text being decoded
    weir_buffer scratch;   // unescaped strings
    weir_buffer out;       // the text being encoded
} workspace;

static int workspace_gc(lua_State *L)
{
    workspace *self = lua_touserdata(L, 1);
    weir_json_index_fini(&self->index);
    weir_buffer_fini(&self->scratch);
    weir_buffer_fini(&self->out);
    return 0;
}

static workspace *borrow(lua_State *L)
{
    workspace *self = lua_touserdata(L, lua_upvalueindex(1));
    if (self->index.capacity > KEPT_BYTES / sizeof(weir_json_field))
        weir_json_index_fini(&self->index);
    if (self->scratch.capacity > KEPT_BYTES) weir_buffer_fini(&self->scratch);
    if (self->out.capacity > KEPT_BYTES) weir_buffer_fini(&self->out);
    return self;
}

/*  json.decode (text) -> value | nil, sentence                                */
static int json_decode(lua_State *L)
{
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    workspace *self = borrow(L);
    weir_charge(L, size);
    if (size >= UINT32_MAX) {
        luaL_pushfail(L);
        lua_pushliteral(L, "the text is too large");
        return 2;
    }
    if (weir_json_scan(&self->index, (const uint8_t *)text, size)) {
        luaL_pushfail(L);
        lua_pushfstring(L, "%s at byte %d", self->index.error,
                        (int)self->index.error_at + 1);
        return 2;
    }
    weir_value value;
    weir_json_read((const uint8_t *)text + self->index.root, self->index.root_size,
                   &value);
    weir_push_value(L, &value, &self->scratch);
    return 1;
}

/*  json.encode (value) -> text | nil, sentence                                */
static int json_encode(lua_State *L)
{
    const char *error;
    luaL_checkany(L, 1);
    workspace *self = borrow(L);
    self->out.size = 0;
    if (weir_encode(L, 1, WEIR_JSON, &self->out, &error)) {
        luaL_pushfail(L);
        lua_pushstring(L, error);
        return 2;
    }
    weir_charge(L, self->out.size);
    lua_pushlstring(L, (const char *)self->out.data, self->out.size);
    return 1;
}

static const luaL_Reg functions[] = {
    {"decode", json_decode},
    {"encode", json_encode},
    {NULL, NULL},
};

int weir_bind_json(lua_State *L)
{
    luaL_newlibtable(L, functions);
    workspace *self = lua_newuserdatauv(L, sizeof *self, 0);
    *self = (workspace){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, workspace_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
