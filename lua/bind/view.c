#include "lua/bind/view.h"

/*  A nested container's userdata. Its first user value is `values`, the second what
    keeps its bytes alive: the handle above, or a string.                      */
typedef struct {
    weir_handle handle;
    weir_view view;
} nested;

enum { VALUES = 1, PARENT = 2 };

static const char view_key, root_key, values_key; // registry, by address

/* --- Handles ----------------------------------------------------------------------- */

/*  The view of a userdata that is known to be a handle: the methods' first argument. */
weir_view *weir_view_at(lua_State *L, int index)
{
    const weir_handle *h = lua_touserdata(L, index);
    if (!weir_handle_is_alive(h))
        weir_lua_fail(
            L, "a record cannot be used after its call; keep (r) makes a copy that can");
    return h->view;
}

/*  The handle at the index, or NULL.                                          */
weir_handle *weir_handle_at(lua_State *L, int index)
{
    weir_handle *h = lua_touserdata(L, index);
    if (!h || lua_islightuserdata(L, index) || !lua_getmetatable(L, index)) return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &view_key);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &root_key);
    bool same = lua_rawequal(L, -3, -2) || lua_rawequal(L, -3, -1);
    lua_pop(L, 3);
    return same ? h : NULL;
}

weir_view *weir_view_check(lua_State *L, int index)
{
    if (!weir_handle_at(L, index)) luaL_typeerror(L, index, "record");
    return weir_view_at(L, index);
}

void weir_view_push_values(lua_State *L, int index, const weir_view *v)
{
    if (weir_view_is_root(v))
        lua_rawgetp(L, LUA_REGISTRYINDEX, &values_key);
    else
        lua_getiuservalue(L, index, VALUES);
}

/*  Parses the payload at the first look. Raises when that cannot be done.     */
void weir_view_parse(lua_State *L, weir_view *v)
{
    weir_records *self = v->records;
    if (v->ready) return;
    if (v->doc != &v->own_doc && !weir_subject_parse(self->subject)) {
        self->undecodable = true;
        luaL_error(L, "the payload cannot be decoded: byte %d: %s",
                   (int)v->doc->index.error_at, v->doc->index.error);
    }
    v->array = v->doc->index.type == WEIR_ARRAY;
    v->ready = true;
}

/* --- Making views ------------------------------------------------------------------ */

weir_view *weir_view_new(lua_State *L, weir_records *self)
{
    nested *n = lua_newuserdatauv(L, sizeof *n, 2);
    memset(n, 0, sizeof *n);
    weir_view *v = &n->view;
    n->handle = (weir_handle){v, self->serial};
    v->records = self;
    v->doc = &v->own_doc;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &view_key);
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_setiuservalue(L, -2, VALUES);
    return v;
}

void weir_view_fini(weir_view *v)
{
    weir_doc_fini(&v->own_doc);
    free(v->slots);
    v->slots = NULL;
}

static int view_gc(lua_State *L)
{
    nested *n = lua_touserdata(L, 1);
    weir_view_fini(&n->view);
    return 0;
}

/*  Pushes a view of the nested container, which lies in the view at `parent`.  */
static void push_child(lua_State *L, int parent, weir_view *p, const weir_value *value)
{
    weir_view *v = weir_view_new(L, p->records);
    ((weir_handle *)lua_touserdata(L, -1))->serial =
        ((const weir_handle *)lua_touserdata(L, parent))->serial;
    v->parent = p;
    v->headers = p->headers;
    weir_doc_reparse(&v->own_doc, value->format, value->data, value->size);
    v->array = value->type == WEIR_ARRAY;
    v->ready = true;
    lua_pushvalue(L, parent);
    lua_setiuservalue(L, -2, PARENT);
}

/*  A view that owns its bytes: they lie in a Lua string in its user value.    */
void weir_view_push_owned(lua_State *L, weir_records *self, weir_format format,
                          const uint8_t *data, size_t size)
{
    weir_view *v = weir_view_new(L, self);
    ((weir_handle *)lua_touserdata(L, -1))->serial = 0;
    lua_pushlstring(L, (const char *)data, size);
    const char *bytes = lua_tostring(L, -1);
    lua_setiuservalue(L, -2, PARENT);
    weir_doc_reparse(&v->own_doc, format, (const uint8_t *)bytes, size);
    v->array = v->own_doc.index.type == WEIR_ARRAY;
    v->ready = true;
}

/* --- Slots ------------------------------------------------------------------------- */

static weir_slot *grow_slots(weir_view *v, uint32_t count)
{
    if (count > v->slot_capacity) {
        uint32_t capacity = v->slot_capacity ? v->slot_capacity : 16;
        while (capacity < count)
            capacity *= 2;
        v->slots = realloc(v->slots, capacity * sizeof *v->slots);
        if (!v->slots) abort();
        v->slot_capacity = capacity;
    }
    memset(v->slots + v->slot_count, 0, (count - v->slot_count) * sizeof *v->slots);
    v->slot_count = count;
    return &v->slots[count - 1];
}

static void need_slots(weir_view *v)
{
    if (v->slot_count == 0 && v->doc->index.count) grow_slots(v, v->doc->index.count);
}

/*  The slot of that name: an added one, else the last field; -1: none.        */
static long find_slot(const weir_view *v, const char *name, size_t size)
{
    uint32_t fields = v->doc->index.count;
    for (uint32_t i = v->slot_count; i-- > fields;)
        if (v->slots[i].name_size == size && memcmp(v->slots[i].name, name, size) == 0)
            return i;
    return weir_doc_find(v->doc, name, size);
}

static void mark_dirty(weir_view *v)
{
    for (; v && !v->dirty; v = v->parent)
        v->dirty = true;
}

/*  Number of elements of an array view.                                       */
static uint32_t length_of(const weir_view *v)
{
    uint32_t count = weir_view_slots(v);
    while (count && weir_slot_state_of(v, count - 1) == SLOT_REMOVED)
        count--;
    return count;
}

/* --- Reading ----------------------------------------------------------------------- */

void weir_view_push_text(lua_State *L, weir_records *self, const weir_value *value)
{
    size_t size = value->size;
    const char *text = (const char *)value->data;
    if (value->escaped) text = weir_value_text(value, &self->scratch, &size);
    lua_pushlstring(L, text, size);
}

/*  The field as it lies in the payload. null_as_nil: reading, not walking.    */
static void push_field(lua_State *L, int index, weir_view *v, uint32_t i,
                       bool null_as_nil)
{
    weir_value value;
    weir_doc_value(v->doc, i, &value);
    switch (value.type) {
    case WEIR_NULL:
        if (null_as_nil)
            lua_pushnil(L);
        else
            weir_push_null(L);
        return;
    case WEIR_BOOL:
        lua_pushboolean(L, value.boolean);
        return;
    case WEIR_INT:
        lua_pushinteger(L, value.integer);
        return;
    case WEIR_FLOAT:
        lua_pushnumber(L, value.real);
        return;
    case WEIR_STR:
    case WEIR_BIN:
        weir_view_push_text(L, v->records, &value);
        return;
    case WEIR_ARRAY:
    case WEIR_MAP:
        push_child(L, index, v, &value);
        need_slots(v);
        v->slots[i].state = SLOT_CHILD;
        weir_view_push_values(L, index, v);
        lua_pushvalue(L, -2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
        lua_pop(L, 1);
        return;
    default:
        weir_push_value(L, &value, &v->records->scratch);
    }
}

void weir_view_push_slot(lua_State *L, int index, weir_view *v, uint32_t i,
                         bool null_as_nil)
{
    const weir_slot *s = i < v->slot_count ? &v->slots[i] : NULL;
    switch (s ? s->state : SLOT_SAME) {
    case SLOT_SAME:
        push_field(L, index, v, i, null_as_nil);
        return;
    case SLOT_REMOVED:
        lua_pushnil(L);
        return;
    case SLOT_NULL:
        if (null_as_nil)
            lua_pushnil(L);
        else
            weir_push_null(L);
        return;
    case SLOT_BOOL:
        lua_pushboolean(L, s->boolean);
        return;
    case SLOT_INT:
        lua_pushinteger(L, s->integer);
        return;
    case SLOT_FLOAT:
        lua_pushnumber(L, s->real);
        return;
    case SLOT_CHILD:
    case SLOT_VALUE:
        weir_view_push_values(L, index, v);
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        lua_remove(L, -2);
        return;
    }
}

/*  Slot number of an element by its Lua index, or -1.                         */
static long find_element(lua_State *L, const weir_view *v, int key)
{
    int exact;
    lua_Integer i = lua_tointegerx(L, key, &exact);
    return exact && i >= 1 && i <= (lua_Integer)length_of(v) ? (long)(i - 1) : -1;
}

static int view_index(lua_State *L)
{
    weir_view *v = weir_view_at(L, 1);
    size_t size;
    long i = -1;
    weir_view_parse(L, v);
    if (v->array)
        i = find_element(L, v, 2);
    else if (lua_type(L, 2) == LUA_TSTRING) {
        const char *name = lua_tolstring(L, 2, &size);
        i = find_slot(v, name, size);
    }
    if (i < 0)
        lua_pushnil(L);
    else
        weir_view_push_slot(L, 1, v, (uint32_t)i, true);
    return 1;
}

static int view_len(lua_State *L)
{
    weir_view *v = weir_view_at(L, 1);
    weir_view_parse(L, v);
    lua_pushinteger(L, v->array ? length_of(v) : 0);
    return 1;
}

void weir_view_push_name(lua_State *L, const weir_view *v, uint32_t i)
{
    if (i >= v->doc->index.count) {
        lua_pushlstring(L, v->slots[i].name, v->slots[i].name_size);
        return;
    }
    const weir_json_field *f = &v->doc->index.fields[i];
    weir_value name = {.type = WEIR_STR,
                       .format = v->doc->format,
                       .escaped = f->key_escaped,
                       .data = v->doc->data + f->key,
                       .size = f->key_size};
    weir_view_push_text(L, v->records, &name);
}

/*  next (view, i): the walk's control value is the slot number; the name goes with
    the value. Upvalue 1 counts.                                               */
static int walk_next(lua_State *L)
{
    weir_view *v = weir_view_at(L, lua_upvalueindex(1));
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
    uint32_t count = weir_view_slots(v);
    while (i < count && weir_slot_state_of(v, (uint32_t)i) == SLOT_REMOVED)
        i++;
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(2));
    if (i >= count) return 0;
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    if (v->array)
        lua_pushinteger(L, i + 1);
    else
        weir_view_push_name(L, v, (uint32_t)i);
    weir_view_push_slot(L, 1, v, (uint32_t)i, false);
    return 2;
}

static int view_pairs(lua_State *L)
{
    weir_view *v = weir_view_at(L, 1);
    weir_view_parse(L, v);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, walk_next, 2);
    return 1;
}

/* --- Writing ----------------------------------------------------------------------- */

static void keep_in_values(lua_State *L, const weir_view *v, int value, lua_Integer at)
{
    weir_view_push_values(L, 1, v);
    lua_pushvalue(L, value);
    lua_rawseti(L, -2, at);
    lua_pop(L, 1);
}

static void set_slot(lua_State *L, weir_view *v, uint32_t i, int value)
{
    weir_slot *s = &v->slots[i];
    switch (lua_type(L, value)) {
    case LUA_TNIL:
        s->state = SLOT_REMOVED;
        return;
    case LUA_TBOOLEAN:
        s->state = SLOT_BOOL;
        s->boolean = lua_toboolean(L, value);
        return;
    case LUA_TNUMBER:
        s->state = lua_isinteger(L, value) ? SLOT_INT : SLOT_FLOAT;
        if (s->state == SLOT_INT)
            s->integer = lua_tointeger(L, value);
        else
            s->real = lua_tonumber(L, value);
        return;
    default:
        if (weir_is_null(L, value)) {
            s->state = SLOT_NULL;
            return;
        }
        keep_in_values(L, v, value, (lua_Integer)i + 1);
        s->state = SLOT_VALUE;
    }
}

/*  Of duplicate names the last counts; a removed name goes with all of them.   */
static void remove_duplicates(weir_view *v, const char *name, size_t size)
{
    const weir_json_index *index = &v->doc->index;
    for (uint32_t i = 0; i < index->count; i++) {
        const weir_json_field *f = &index->fields[i];
        if (!f->nameless && weir_json_equal(v->doc->data + f->key, f->key_size,
                                            f->key_escaped, name, size))
            v->slots[i].state = SLOT_REMOVED;
    }
}

static void set_member(lua_State *L, weir_view *v)
{
    size_t size;
    if (lua_type(L, 2) != LUA_TSTRING) weir_lua_fail(L, "a field's name is a string");
    const char *name = lua_tolstring(L, 2, &size);
    long i = find_slot(v, name, size);
    if (i < 0 && lua_isnil(L, 3)) return;
    need_slots(v);
    if (i < 0) {
        uint32_t count = v->slot_count;
        weir_slot *s = grow_slots(v, count + 1);
        s->name = name;
        s->name_size = size;
        i = (long)count;
        keep_in_values(L, v, 2, -(lua_Integer)i - 1);
    }
    set_slot(L, v, (uint32_t)i, 3);
    if (lua_isnil(L, 3)) remove_duplicates(v, name, size);
    mark_dirty(v);
}

static void set_element(lua_State *L, weir_view *v)
{
    int exact;
    lua_Integer i = lua_tointegerx(L, 2, &exact);
    lua_Integer count = length_of(v);
    if (!exact || i < 1 || i > count + 1)
        weir_lua_fail(L, "an array is set at 1 to its length, or one behind to grow");
    if (lua_isnil(L, 3) && i == count + 1) return;
    if (lua_isnil(L, 3) && i < count)
        weir_lua_fail(
            L, "only the last element of an array can be removed; null is a value");
    need_slots(v);
    if ((uint32_t)i > v->slot_count) grow_slots(v, (uint32_t)i);
    set_slot(L, v, (uint32_t)i - 1, 3);
    mark_dirty(v);
}

static int view_newindex(lua_State *L)
{
    weir_view *v = weir_view_at(L, 1);
    if (weir_view_is_root(v) && v->records->subject->record.format == WEIR_TEXT)
        weir_lua_fail(L, "a text payload has no fields; return a table instead");
    weir_view_parse(L, v);
    if (v->doc->index.type != WEIR_MAP && !v->array)
        weir_lua_fail(L, "the payload is no object, it has no fields to set");
    if (v->array)
        set_element(L, v);
    else
        set_member(L, v);
    return 0;
}

/* --- Opening ----------------------------------------------------------------------- */

static const luaL_Reg view_methods[] = {
    {"__index", view_index},
    {"__newindex", view_newindex},
    {"__len", view_len},
    {"__pairs", view_pairs},
    {NULL, NULL},
};

void weir_new_metatable(lua_State *L, const luaL_Reg *methods, const char *name)
{
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
}

void weir_views_open(lua_State *L)
{
    weir_new_metatable(L, view_methods, "record");
    weir_set_encode(L, &weir_view_encode);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &root_key);
    weir_new_metatable(L, view_methods, "record");
    weir_set_encode(L, &weir_view_encode);
    lua_pushcfunction(L, view_gc);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &view_key);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &values_key);
}

weir_handle *weir_view_push_input(lua_State *L, weir_records *self)
{
    weir_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (weir_handle){&self->root, self->serial};
    lua_rawgetp(L, LUA_REGISTRYINDEX, &root_key);
    lua_setmetatable(L, -2);
    return h;
}
