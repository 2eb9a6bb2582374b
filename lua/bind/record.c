#include "lua/bind/record.h"
#include <lauxlib.h>
#include <stdio.h>
#include "lua/bind/bind.h"
#include "lua/sandbox.h"

/*  What became of one field of a view.                                        */
typedef enum {
    SLOT_SAME = 0, // as it lies in the payload
    SLOT_CHILD,    // a nested view exists (values[i]); it may have changed
    SLOT_REMOVED,
    SLOT_NULL,
    SLOT_BOOL,
    SLOT_INT,
    SLOT_FLOAT,
    SLOT_VALUE, // any other Lua value, in values[i]
} slot_state;

typedef struct {
    slot_state state;
    union {
        bool boolean;
        lua_Integer integer;
        lua_Number real;
    };
    const char *name; // of an added field: a Lua string, kept alive in values[-i]
    size_t name_size;
} slot;

typedef struct weir_records lazy;

/*  One container. Slots 0..index.count-1 belong to the fields of the payload, those
    behind to added ones. Beside it goes a Lua table `values`: at i + 1 the value of
    slot i, at -(i + 1) the name.                                              */
typedef struct view {
    lazy *lazy;
    weir_doc *doc;       // own_doc, or the subject's
    weir_doc own_doc;
    bool array;          // elements instead of members
    bool ready;          // doc is parsed
    bool dirty;          // something in or below it has changed
    bool headers;        // the headers of the record, not its payload
    struct view *parent; // NULL: a top
    slot *slots;         // owned; NULL: nothing was touched
    uint32_t slot_count, slot_capacity;
} view;

/*  The userdata. The call's own record has a fresh one each time, so that a handle
    which was kept is known; its view is one and the same for all calls. A nested
    container's view lies in its userdata, the first user value is `values`, the
    second what keeps its bytes alive: the handle above, or a string.          */
typedef struct {
    view *view;
    uint64_t serial; // of the call it belongs to; 0: it owns its bytes
} handle;

typedef struct {
    handle handle;
    view view;
} nested;

/*  Per state: what the running call is about.                                 */
struct weir_records {
    lua_State *L;
    uint64_t serial; // of the running call
    weir_subject *subject;
    weir_emitter *out;
    bool undecodable, emitted;
    uint32_t results; // of the call so far
    bool key_set, ts_set; // written through meta (r)
    int64_t ts_ms;
    bool has_ts;
    view root;           // of the payload
    handle *input;       // the userdata of the running call; NULL: none
    view *header_view;   // NULL: not asked for in this call
    weir_buffer scratch; // texts
    weir_buffer payload; // the encoding of a result
    weir_buffer key, header_bytes;
    char error[256];
};

enum { VALUES = 1, PARENT = 2 };

static const char lazy_key, view_key, root_key, values_key, meta_key, made_key; // registry

/* --- State ---------------------------------------------------------------------------- */

static lazy *lazy_of(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lazy_key);
    lazy *self = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return self;
}

static int fail(lua_State *L, const char *text)
{
    return luaL_error(L, "%s", text);
}

static bool is_alive(const handle *h)
{
    return h->serial == 0 || h->serial == h->view->lazy->serial;
}

/*  The view of a userdata that is known to be a handle: the methods' first argument. */
static view *view_at(lua_State *L, int index)
{
    const handle *h = lua_touserdata(L, index);
    if (!is_alive(h))
        fail(L, "a record cannot be used after its call; keep (r) makes a copy that can");
    return h->view;
}

/*  The handle at the index, or NULL.                                          */
static handle *to_handle(lua_State *L, int index)
{
    handle *h = lua_touserdata(L, index);
    if (!h || lua_islightuserdata(L, index) || !lua_getmetatable(L, index)) return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &view_key);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &root_key);
    bool same = lua_rawequal(L, -3, -2) || lua_rawequal(L, -3, -1);
    lua_pop(L, 3);
    return same ? h : NULL;
}

static view *check_view(lua_State *L, int index)
{
    if (!to_handle(L, index)) luaL_typeerror(L, index, "record");
    return view_at(L, index);
}

static bool is_root(const view *v)
{
    return v == &v->lazy->root;
}

static void push_values(lua_State *L, int index, const view *v)
{
    if (is_root(v))
        lua_rawgetp(L, LUA_REGISTRYINDEX, &values_key);
    else
        lua_getiuservalue(L, index, VALUES);
}

/*  Parses the payload at the first look. Raises when that cannot be done.     */
static void make_ready(lua_State *L, view *v)
{
    lazy *self = v->lazy;
    if (v->ready) return;
    if (v->doc != &v->own_doc && !weir_subject_parse(self->subject)) {
        self->undecodable = true;
        luaL_error(L, "the payload cannot be decoded: byte %d: %s",
                   (int)v->doc->index.error_at, v->doc->index.error);
    }
    v->array = v->doc->index.type == WEIR_ARRAY;
    v->ready = true;
}

/* --- Making views ------------------------------------------------------------------------ */

static view *new_view(lua_State *L, lazy *self)
{
    nested *n = lua_newuserdatauv(L, sizeof *n, 2);
    memset(n, 0, sizeof *n);
    view *v = &n->view;
    n->handle = (handle){v, self->serial};
    v->lazy = self;
    v->doc = &v->own_doc;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &view_key);
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_setiuservalue(L, -2, VALUES);
    return v;
}

static void free_view(view *v)
{
    weir_doc_fini(&v->own_doc);
    free(v->slots);
    v->slots = NULL;
}

static int view_gc(lua_State *L)
{
    nested *n = lua_touserdata(L, 1);
    free_view(&n->view);
    return 0;
}

/*  Pushes a view of the nested container, which lies in the view at `parent`.  */
static void push_child(lua_State *L, int parent, view *p, const weir_value *value)
{
    view *v = new_view(L, p->lazy);
    ((handle *)lua_touserdata(L, -1))->serial =
        ((const handle *)lua_touserdata(L, parent))->serial;
    v->parent = p;
    v->headers = p->headers;
    weir_doc_reparse(&v->own_doc, value->format, value->data, value->size);
    v->array = value->type == WEIR_ARRAY;
    v->ready = true;
    lua_pushvalue(L, parent);
    lua_setiuservalue(L, -2, PARENT);
}

/*  A view that owns its bytes: they lie in a Lua string in its user value.    */
static void push_owned(lua_State *L, lazy *self, weir_format format, const uint8_t *data,
                       size_t size)
{
    view *v = new_view(L, self);
    ((handle *)lua_touserdata(L, -1))->serial = 0;
    lua_pushlstring(L, (const char *)data, size);
    const char *bytes = lua_tostring(L, -1);
    lua_setiuservalue(L, -2, PARENT);
    weir_doc_reparse(&v->own_doc, format, (const uint8_t *)bytes, size);
    v->array = v->own_doc.index.type == WEIR_ARRAY;
    v->ready = true;
}

/* --- Slots ------------------------------------------------------------------------------- */

static slot *grow_slots(view *v, uint32_t count)
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

static void need_slots(view *v)
{
    if (v->slot_count == 0 && v->doc->index.count) grow_slots(v, v->doc->index.count);
}

static slot_state state_of(const view *v, uint32_t i)
{
    return i < v->slot_count ? v->slots[i].state : SLOT_SAME;
}

/*  The slot of that name: an added one, else the last field; -1: none.        */
static long find_slot(const view *v, const char *name, size_t size)
{
    uint32_t fields = v->doc->index.count;
    for (uint32_t i = v->slot_count; i-- > fields;)
        if (v->slots[i].name_size == size && memcmp(v->slots[i].name, name, size) == 0)
            return i;
    return weir_doc_find(v->doc, name, size);
}

static void mark_dirty(view *v)
{
    for (; v && !v->dirty; v = v->parent)
        v->dirty = true;
}

/*  Number of elements of an array view.                                       */
static uint32_t length_of(const view *v)
{
    uint32_t count = v->slot_count > v->doc->index.count ? v->slot_count
                                                         : v->doc->index.count;
    while (count && state_of(v, count - 1) == SLOT_REMOVED)
        count--;
    return count;
}

/* --- Reading ------------------------------------------------------------------------------ */

static void push_text(lua_State *L, lazy *self, const weir_value *value)
{
    size_t size = value->size;
    const char *text = (const char *)value->data;
    if (value->escaped) text = weir_value_text(value, &self->scratch, &size);
    lua_pushlstring(L, text, size);
}

/*  The field as it lies in the payload. null_as_nil: reading, not walking.    */
static void push_field(lua_State *L, int index, view *v, uint32_t i, bool null_as_nil)
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
        push_text(L, v->lazy, &value);
        return;
    case WEIR_ARRAY:
    case WEIR_MAP:
        push_child(L, index, v, &value);
        need_slots(v);
        v->slots[i].state = SLOT_CHILD;
        push_values(L, index, v);
        lua_pushvalue(L, -2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
        lua_pop(L, 1);
        return;
    default:
        weir_push_value(L, &value, &v->lazy->scratch);
    }
}

static void push_slot(lua_State *L, int index, view *v, uint32_t i, bool null_as_nil)
{
    const slot *s = i < v->slot_count ? &v->slots[i] : NULL;
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
        push_values(L, index, v);
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        lua_remove(L, -2);
        return;
    }
}

/*  Slot number of an element by its Lua index, or -1.                         */
static long find_element(lua_State *L, const view *v, int key)
{
    int exact;
    lua_Integer i = lua_tointegerx(L, key, &exact);
    return exact && i >= 1 && i <= (lua_Integer)length_of(v) ? (long)(i - 1) : -1;
}

static int view_index(lua_State *L)
{
    view *v = view_at(L, 1);
    size_t size;
    long i = -1;
    make_ready(L, v);
    if (v->array)
        i = find_element(L, v, 2);
    else if (lua_type(L, 2) == LUA_TSTRING) {
        const char *name = lua_tolstring(L, 2, &size);
        i = find_slot(v, name, size);
    }
    if (i < 0)
        lua_pushnil(L);
    else
        push_slot(L, 1, v, (uint32_t)i, true);
    return 1;
}

static int view_len(lua_State *L)
{
    view *v = view_at(L, 1);
    make_ready(L, v);
    lua_pushinteger(L, v->array ? length_of(v) : 0);
    return 1;
}

/*  next (view, i): the walk's control value is the slot number; the name goes with
    the value. Upvalue 1 counts.                                               */
static int walk_next(lua_State *L)
{
    view *v = view_at(L, lua_upvalueindex(1));
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
    uint32_t count = v->slot_count > v->doc->index.count ? v->slot_count
                                                         : v->doc->index.count;
    while (i < count && state_of(v, (uint32_t)i) == SLOT_REMOVED)
        i++;
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(2));
    if (i >= count) return 0;
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    if (v->array) {
        lua_pushinteger(L, i + 1);
    } else if (i < v->doc->index.count) {
        const weir_json_field *f = &v->doc->index.fields[i];
        weir_value name = {.type = WEIR_STR,
                           .format = v->doc->format,
                           .escaped = f->key_escaped,
                           .data = v->doc->data + f->key,
                           .size = f->key_size};
        push_text(L, v->lazy, &name);
    } else {
        lua_pushlstring(L, v->slots[i].name, v->slots[i].name_size);
    }
    push_slot(L, 1, v, (uint32_t)i, false);
    return 2;
}

static int view_pairs(lua_State *L)
{
    view *v = view_at(L, 1);
    make_ready(L, v);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, walk_next, 2);
    return 1;
}

/* --- Writing ------------------------------------------------------------------------------- */

static void keep_in_values(lua_State *L, const view *v, int value, lua_Integer at)
{
    push_values(L, 1, v);
    lua_pushvalue(L, value);
    lua_rawseti(L, -2, at);
    lua_pop(L, 1);
}

static void set_slot(lua_State *L, view *v, uint32_t i, int value)
{
    slot *s = &v->slots[i];
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
static void remove_duplicates(view *v, const char *name, size_t size)
{
    const weir_json_index *index = &v->doc->index;
    for (uint32_t i = 0; i < index->count; i++) {
        const weir_json_field *f = &index->fields[i];
        if (!f->nameless && weir_json_equal(v->doc->data + f->key, f->key_size,
                                            f->key_escaped, name, size))
            v->slots[i].state = SLOT_REMOVED;
    }
}

static void set_member(lua_State *L, view *v)
{
    size_t size;
    if (lua_type(L, 2) != LUA_TSTRING) fail(L, "a field's name is a string");
    const char *name = lua_tolstring(L, 2, &size);
    long i = find_slot(v, name, size);
    if (i < 0 && lua_isnil(L, 3)) return;
    need_slots(v);
    if (i < 0) {
        uint32_t count = v->slot_count;
        slot *s = grow_slots(v, count + 1);
        s->name = name;
        s->name_size = size;
        i = (long)count;
        keep_in_values(L, v, 2, -(lua_Integer)i - 1);
    }
    set_slot(L, v, (uint32_t)i, 3);
    if (lua_isnil(L, 3)) remove_duplicates(v, name, size);
    mark_dirty(v);
}

static void set_element(lua_State *L, view *v)
{
    int exact;
    lua_Integer i = lua_tointegerx(L, 2, &exact);
    lua_Integer count = length_of(v);
    if (!exact || i < 1 || i > count + 1)
        fail(L, "an array is set at 1 to its length, or one behind to grow");
    if (lua_isnil(L, 3) && i == count + 1) return;
    if (lua_isnil(L, 3) && i < count)
        fail(L, "only the last element of an array can be removed; null is a value");
    need_slots(v);
    if ((uint32_t)i > v->slot_count) grow_slots(v, (uint32_t)i);
    set_slot(L, v, (uint32_t)i - 1, 3);
    mark_dirty(v);
}

static int view_newindex(lua_State *L)
{
    view *v = view_at(L, 1);
    if (is_root(v) && v->lazy->subject->record.format == WEIR_TEXT)
        fail(L, "a text payload has no fields; return a table instead");
    make_ready(L, v);
    if (v->doc->index.type != WEIR_MAP && !v->array)
        fail(L, "the payload is no object, it has no fields to set");
    if (v->array)
        set_element(L, v);
    else
        set_member(L, v);
    return 0;
}

/* --- Encoding ------------------------------------------------------------------------------- */

static weir_err encode_view(weir_encoder *e, int index);

static weir_err put_slot(weir_encoder *e, int index, view *v, uint32_t i)
{
    lua_State *L = e->L;
    if (!lua_checkstack(L, 4)) {
        e->error = "nested too deeply";
        return WEIR_EINVAL;
    }
    push_slot(L, index, v, i, false);
    weir_err err = weir_encode_value(e, lua_gettop(L));
    lua_pop(L, 1);
    return err;
}

/*  True when the slot's bytes in the payload are still right.                 */
static bool unchanged(lua_State *L, int index, const view *v, uint32_t i)
{
    slot_state state = state_of(v, i);
    if (state != SLOT_CHILD) return state == SLOT_SAME;
    push_values(L, index, v);
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    const handle *child = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return !child->view->dirty;
}

/*  First byte of a field in JSON text: the quote of its name, or its value.   */
static uint32_t json_start(const view *v, uint32_t i)
{
    const weir_json_field *f = &v->doc->index.fields[i];
    return v->array ? f->value : f->key - 1;
}

static uint32_t json_end(const view *v, uint32_t i)
{
    const weir_json_field *f = &v->doc->index.fields[i];
    return f->value + f->value_size;
}

/*  Writes the separator that an added field needs, in the style of the others.  */
static void put_separator(weir_encoder *e, const view *v, bool any)
{
    if (!any) return;
    if (v->doc->index.count < 2) {
        weir_buffer_put_byte(e->out, ',');
        return;
    }
    uint32_t from = json_end(v, 0);
    weir_buffer_put(e->out, v->doc->data + from, json_start(v, 1) - from);
}

static weir_err put_name(weir_encoder *e, const view *v, const slot *s)
{
    if (weir_json_put_string(e->out, s->name, s->name_size)) {
        e->error = "a field's name is not UTF-8";
        return WEIR_EINVAL;
    }
    const weir_json_field *first = v->doc->index.count ? v->doc->index.fields : NULL;
    if (!first) {
        weir_buffer_put_byte(e->out, ':');
        return WEIR_OK;
    }
    uint32_t colon = first->key + first->key_size + 1;
    weir_buffer_put(e->out, v->doc->data + colon, first->value - colon);
    return WEIR_OK;
}

/*  Copies the text in runs as long as nothing changes: `from` is the first byte that
    is not yet written.                                                        */
static weir_err encode_json(weir_encoder *e, int index, view *v)
{
    const uint8_t *text = v->doc->data;
    const weir_json_index *at = &v->doc->index;
    uint32_t from = at->root + (at->count ? 0 : 1), end = at->root + at->root_size;
    bool any = false, lead = true; // lead: nothing but the bracket is written
    weir_err err = WEIR_OK;
    if (!at->count) weir_buffer_put_byte(e->out, text[at->root]);
    for (uint32_t i = 0; i < at->count && !err; i++) {
        if (state_of(v, i) == SLOT_REMOVED) {
            /*  What is in front of it goes, the text up to its end goes with it. */
            uint32_t cut = i ? json_end(v, i - 1) : at->root + 1;
            weir_buffer_put(e->out, text + from, cut > from ? cut - from : 0);
            from = json_end(v, i);
            continue;
        }
        if (lead && i && from == json_end(v, i - 1)) from = json_start(v, i);
        lead = false;
        any = true;
        if (unchanged(e->L, index, v, i)) continue;
        weir_buffer_put(e->out, text + from, at->fields[i].value - from);
        err = put_slot(e, index, v, i);
        from = json_end(v, i);
    }
    if (err) return err;
    uint32_t tail = at->count ? json_end(v, at->count - 1) : end - 1;
    if (tail > from) weir_buffer_put(e->out, text + from, tail - from);
    for (uint32_t i = at->count; i < v->slot_count && !err; i++) {
        if (v->slots[i].state == SLOT_REMOVED) continue;
        put_separator(e, v, any);
        any = true;
        if (!v->array) err = put_name(e, v, &v->slots[i]);
        if (!err) err = put_slot(e, index, v, i);
    }
    weir_buffer_put(e->out, text + tail, end - tail);
    return err;
}

/*  Bytes of the head of a MessagePack map or array.                           */
static uint32_t msgpack_head(uint8_t byte)
{
    if (byte == 0xdc || byte == 0xde) return 3;
    return byte == 0xdd || byte == 0xdf ? 5 : 1;
}

static weir_err encode_msgpack(weir_encoder *e, int index, view *v)
{
    const weir_json_index *at = &v->doc->index;
    const uint8_t *data = v->doc->data;
    uint32_t total = v->slot_count > at->count ? v->slot_count : at->count, kept = 0;
    weir_err err = WEIR_OK;
    for (uint32_t i = 0; i < total; i++)
        kept += state_of(v, i) != SLOT_REMOVED;
    if (v->array)
        weir_put_array(e->out, kept);
    else
        weir_put_map(e->out, kept);
    uint32_t start = at->root + msgpack_head(data[at->root]);
    for (uint32_t i = 0; i < at->count && !err; start = json_end(v, i), i++) {
        if (state_of(v, i) == SLOT_REMOVED) continue;
        bool same = unchanged(e->L, index, v, i);
        uint32_t until = same ? json_end(v, i) : at->fields[i].value;
        weir_buffer_put(e->out, data + start, until - start);
        if (!same) err = put_slot(e, index, v, i);
    }
    for (uint32_t i = at->count; i < v->slot_count && !err; i++) {
        if (v->slots[i].state == SLOT_REMOVED) continue;
        if (!v->array) weir_put_str(e->out, v->slots[i].name, v->slots[i].name_size);
        err = put_slot(e, index, v, i);
    }
    return err;
}

/*  Into the other format: field by field.                                     */
static weir_err encode_across(weir_encoder *e, int index, view *v)
{
    uint32_t total = v->slot_count > v->doc->index.count ? v->slot_count
                                                         : v->doc->index.count;
    lua_State *L = e->L;
    if (!lua_checkstack(L, 8)) return WEIR_EINVAL;
    lua_newtable(L);
    int copy = lua_gettop(L);
    weir_mark_table(L, copy, v->array);
    for (uint32_t i = 0; i < total; i++) {
        if (state_of(v, i) == SLOT_REMOVED) continue;
        if (v->array) {
            push_slot(L, index, v, i, false);
            lua_rawseti(L, copy, (lua_Integer)lua_rawlen(L, copy) + 1);
            continue;
        }
        if (i < v->doc->index.count) {
            const weir_json_field *f = &v->doc->index.fields[i];
            weir_value name = {.type = WEIR_STR, .format = v->doc->format,
                               .escaped = f->key_escaped, .data = v->doc->data + f->key,
                               .size = f->key_size};
            push_text(L, v->lazy, &name);
        } else {
            lua_pushlstring(L, v->slots[i].name, v->slots[i].name_size);
        }
        push_slot(L, index, v, i, false);
        lua_rawset(L, copy);
    }
    weir_err err = weir_encode_value(e, copy);
    lua_pop(L, 1);
    return err;
}

static weir_err write_view(weir_encoder *e, int index)
{
    const handle *h = lua_touserdata(e->L, index);
    view *v = h->view;
    if (!is_alive(h)) {
        e->error = "a record of an earlier call; keep (r) makes a copy that lasts";
        return WEIR_EINVAL;
    }
    if (!v->ready) {
        if (!weir_subject_parse(v->lazy->subject)) {
            e->error = "the payload cannot be decoded";
            return WEIR_EINVAL;
        }
        v->ready = true;
    }
    const weir_json_index *at = &v->doc->index;
    if (e->format != v->doc->format) return encode_across(e, index, v);
    if (!v->dirty) {
        weir_buffer_put(e->out, v->doc->data + at->root, at->root_size);
        return WEIR_OK;
    }
    return e->format == WEIR_JSON ? encode_json(e, index, v) : encode_msgpack(e, index, v);
}

/*  A record may have been put into itself: the depth ends that.                */
static weir_err encode_view(weir_encoder *e, int index)
{
    if (e->depth > WEIR_DEPTH_MAX) {
        e->error = "nested too deeply";
        return WEIR_EINVAL;
    }
    e->depth++;
    weir_err err = write_view(e, index);
    e->depth--;
    return err;
}

static const weir_encode_class view_encode = {.encode = encode_view};

/* --- Free functions ----------------------------------------------------------------------------- */

static int bind_raw(lua_State *L)
{
    view *v = check_view(L, 1);
    if (!is_root(v)) return luaL_argerror(L, 1, "raw () takes the record of the call");
    const weir_record *record = &v->lazy->subject->record;
    lua_pushlstring(L, (const char *)record->data, record->size);
    return 1;
}

static int bind_keep(lua_State *L)
{
    view *v = check_view(L, 1);
    const char *error = "cannot be encoded";
    make_ready(L, v);
    lazy *self = v->lazy;
    weir_format format = v->doc->format;
    if (format == WEIR_TEXT) return luaL_argerror(L, 1, "a text has no fields; keep raw (r)");
    self->payload.size = 0;
    if (weir_encode(L, 1, format, &self->payload, &error)) return fail(L, error);
    push_owned(L, self, format, self->payload.data, self->payload.size);
    return 1;
}

/*  record (t, {key =, ts =, headers =}): a table with the payload at 1.       */
static int bind_record(lua_State *L)
{
    if (!lua_istable(L, 1) && !to_handle(L, 1)) luaL_typeerror(L, 1, "table");
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
    lazy *self = lazy_of(L);
    const char *error = "";
    luaL_checkany(L, 1);
    if (!self->out) return fail(L, "emit () works only inside a call");
    lua_settop(L, 1);
    self->emitted = true;
    if (lua_isnil(L, 1)) return 0;
    weir_err err = weir_records_result(self, 1, &error);
    if (err == WEIR_ETOOBIG) weir_sandbox_exceed(L, WEIR_OVERRUN_OUTPUT);
    if (err) return fail(L, error);
    return 0;
}

/* --- meta ---------------------------------------------------------------------------------------- */

static int bind_meta(lua_State *L)
{
    view *v = check_view(L, 1);
    if (!is_root(v))
        return luaL_argerror(L, 1, "meta () takes the record of the call");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
    return 1;
}

static void push_headers(lua_State *L, lazy *self)
{
    static const uint8_t empty[] = {0x80};
    const weir_record *record = &self->subject->record;
    if (!self->header_view) {
        view *v = new_view(L, self);
        v->headers = true;
        weir_doc_reparse(&v->own_doc, WEIR_MSGPACK, record->headers ? record->headers : empty,
                         record->headers ? record->headers_size : sizeof empty);
        v->ready = true;
        self->header_view = v;
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &self->header_view);
        return;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &self->header_view);
}

static lazy *check_call(lua_State *L)
{
    lazy *self = lazy_of(L);
    if (!self->subject) fail(L, "meta (r) cannot be used after the call");
    return self;
}

static void push_key(lua_State *L, lazy *self)
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

static int meta_index(lua_State *L)
{
    lazy *self = check_call(L);
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
    else
        return luaL_error(L, "meta (r) has key, ts, headers, source and peer, no '%s'", name);
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
    lazy *self = check_call(L);
    const char *name = luaL_checkstring(L, 2);
    if (strcmp(name, "key") == 0) {
        const char *error = put_key(L, 3, &self->key);
        if (error) return fail(L, error);
        self->key_set = true;
    } else if (strcmp(name, "ts") == 0) {
        self->has_ts = !lua_isnil(L, 3);
        if (self->has_ts) self->ts_ms = luaL_checkinteger(L, 3);
        self->ts_set = true;
    } else if (strcmp(name, "headers") == 0) {
        return fail(L, "set one header at a time: meta (r).headers.name = value");
    } else {
        return luaL_error(L, "meta (r).%s cannot be written", name);
    }
    return 0;
}

/* --- Results ---------------------------------------------------------------------------------------- */

static weir_err complain(lazy *self, const char **error, const char *text)
{
    snprintf(self->error, sizeof self->error, "%s", text);
    *error = self->error;
    return WEIR_EINVAL;
}

/*  The call's own view is written without the general way's questions.        */
static weir_err encode_result(lua_State *L, lazy *self, int index, weir_format format,
                              const char **error)
{
    if (lua_touserdata(L, index) != self->input)
        return weir_encode(L, index, format, &self->payload, error);
    weir_encoder encoder = {
        .L = L, .format = format, .out = &self->payload, .limit = WEIR_ENCODE_MAX};
    weir_err err = encode_view(&encoder, index);
    if (err) *error = encoder.error;
    return err;
}

/*  What the call's record has, as far as the function has not changed it.     */
static weir_err fill_meta(lua_State *L, lazy *self, weir_record *record,
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

static weir_err put_payload(lua_State *L, lazy *self, int index, weir_record *record,
                            const char **error)
{
    weir_format format = self->subject->record.format;
    record->format = format == WEIR_TEXT ? WEIR_JSON : format;
    self->payload.size = 0;
    weir_err err = encode_result(L, self, index, record->format, error);
    record->data = self->payload.data;
    record->size = self->payload.size;
    if (!err && record->format == WEIR_JSON && record->data[0] == '[')
        err = complain(self, error,
                       "returned a list: a record is a table with named fields; return a, "
                       "b makes two records");
    if (!err && record->format == WEIR_MSGPACK && (record->data[0] & 0xf0) == 0x90)
        err = complain(self, error, "returned a list: a record has named fields");
    return err;
}

static weir_err emit_root(lua_State *L, lazy *self, int index, view *v, const char **error)
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

static weir_err fill_made(lua_State *L, lazy *self, int index, weir_record *record,
                          const char **error)
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

static weir_err emit_made(lua_State *L, lazy *self, int index, const char **error)
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

static weir_err emit_result(lua_State *L, lazy *self, int index, const char **error)
{
    char text[96];
    if (lua_touserdata(L, index) == self->input)
        return emit_root(L, self, index, &self->root, error);
    const handle *h = to_handle(L, index);
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

/* --- Calls ---------------------------------------------------------------------------------------------- */

void weir_records_begin(weir_records *self, weir_subject *subject, weir_emitter *out)
{
    view *v = &self->root;
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
    self->input = lua_newuserdatauv(self->L, sizeof *self->input, 0);
    *self->input = (handle){v, self->serial};
    lua_rawgetp(self->L, LUA_REGISTRYINDEX, &root_key);
    lua_setmetatable(self->L, -2);
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

/* --- Opening ---------------------------------------------------------------------------------------------- */

static int lazy_gc(lua_State *L)
{
    lazy *self = lua_touserdata(L, 1);
    free_view(&self->root);
    weir_buffer_fini(&self->scratch);
    weir_buffer_fini(&self->payload);
    weir_buffer_fini(&self->key);
    weir_buffer_fini(&self->header_bytes);
    return 0;
}

static const luaL_Reg view_methods[] = {
    {"__index", view_index}, {"__newindex", view_newindex}, {"__len", view_len},
    {"__pairs", view_pairs}, {NULL, NULL},
};

static const luaL_Reg meta_methods[] = {
    {"__index", meta_index},
    {"__newindex", meta_newindex},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"meta", bind_meta},     {"raw", bind_raw},   {"keep", bind_keep},
    {"record", bind_record}, {"emit", bind_emit}, {NULL, NULL},
};

static void new_metatable(lua_State *L, const luaL_Reg *methods, const char *name)
{
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
}

weir_records *weir_bind_record(lua_State *L)
{
    static const luaL_Reg none[] = {{NULL, NULL}};
    new_metatable(L, view_methods, "record");
    weir_set_encode(L, &view_encode);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &root_key);
    new_metatable(L, view_methods, "record");
    weir_set_encode(L, &view_encode);
    lua_pushcfunction(L, view_gc);
    lua_setfield(L, -2, "__gc");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &view_key);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &values_key);
    new_metatable(L, none, "record ()");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &made_key);

    lazy *self = lua_newuserdatauv(L, sizeof *self, 0);
    memset(self, 0, sizeof *self);
    self->L = L;
    lua_newtable(L);
    lua_pushcfunction(L, lazy_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    self->serial = 1;
    self->root.lazy = self;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &lazy_key);

    lua_newuserdatauv(L, 1, 0);
    new_metatable(L, meta_methods, "meta (r)");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);
    lua_pushglobaltable(L);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
    return self;
}
