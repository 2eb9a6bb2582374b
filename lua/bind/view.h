/*  view: what Lua sees of one container of a payload. Private to record.c, view.c
    and view_encode.c.                                                         */
#pragma once
#include <lauxlib.h>
#include "lua/bind/bind.h"
#include "lua/bind/record.h"

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
} weir_slot_state;

typedef struct {
    weir_slot_state state;
    union {
        bool boolean;
        lua_Integer integer;
        lua_Number real;
    };
    const char *name; // of an added field: a Lua string, kept alive in values[-i]
    size_t name_size;
} weir_slot;

/*  One container. Slots 0..index.count-1 belong to the fields of the payload, those
    behind to added ones. Beside it goes a Lua table `values`: at i + 1 the value of
    slot i, at -(i + 1) the name.                                              */
typedef struct weir_view {
    weir_records *records;
    weir_doc *doc; // own_doc, or the subject's
    weir_doc own_doc;
    bool array;               // elements instead of members
    bool ready;               // doc is parsed
    bool dirty;               // something in or below it has changed
    bool headers;             // the headers of the record, not its payload
    struct weir_view *parent; // NULL: a top
    weir_slot *slots;         // owned; NULL: nothing was touched
    uint32_t slot_count, slot_capacity;
} weir_view;

/*  The userdata. The call's own record has a fresh one each time, so that a handle
    which was kept is known; its view is one and the same for all calls. A nested
    container's view lies in its userdata, the first user value is `values`, the
    second what keeps its bytes alive: the handle above, or a string.          */
typedef struct {
    weir_view *view;
    uint64_t serial; // of the call it belongs to; 0: it owns its bytes
} weir_handle;

/*  Per state: what the running call is about.                                 */
struct weir_records {
    lua_State *L;
    uint64_t serial; // of the running call
    weir_subject *subject;
    weir_emitter *out;
    bool undecodable, emitted;
    uint32_t results;     // of the call so far
    bool key_set, ts_set; // written through meta (r)
    int64_t ts_ms;
    bool has_ts;
    weir_view root;         // of the payload
    weir_handle *input;     // the userdata of the running call; NULL: none
    weir_view *header_view; // NULL: not asked for in this call
    weir_buffer scratch;    // texts
    weir_buffer payload;    // the encoding of a result
    weir_buffer key, header_bytes;
    char error[256];
};

/*  Raises the text, with the position of the Lua code that is at fault.        */
static inline int weir_lua_fail(lua_State *L, const char *text)
{
    return luaL_error(L, "%s", text);
}

static inline bool weir_handle_is_alive(const weir_handle *h)
{
    return h->serial == 0 || h->serial == h->view->records->serial;
}

/*  True for the view of the call's own record.                                */
static inline bool weir_view_is_root(const weir_view *v)
{
    return v == &v->records->root;
}

static inline weir_slot_state weir_slot_state_of(const weir_view *v, uint32_t i)
{
    return i < v->slot_count ? v->slots[i].state : SLOT_SAME;
}

/*  Slots that there are, those that were not touched included.                */
static inline uint32_t weir_view_slots(const weir_view *v)
{
    return v->slot_count > v->doc->index.count ? v->slot_count : v->doc->index.count;
}

/*  The handle at the index, or NULL; the view of a value that is known to be a
    handle; the view of an argument that must be one. The latter two raise when the
    handle's call is over.                                                     */
weir_handle *weir_handle_at(lua_State *L, int index);
weir_view *weir_view_at(lua_State *L, int index);
weir_view *weir_view_check(lua_State *L, int index);

/*  Parses the payload at the first look. Raises when that cannot be done.     */
void weir_view_parse(lua_State *L, weir_view *v);

/*  Makes the metatables; pushes the handle of a new call's record.            */
void weir_views_open(lua_State *L);
weir_handle *weir_view_push_input(lua_State *L, weir_records *self);

/*  Pushes a new nested view; one that owns a copy of the bytes.               */
weir_view *weir_view_new(lua_State *L, weir_records *self);
void weir_view_push_owned(lua_State *L, weir_records *self, weir_format format,
                          const uint8_t *data, size_t size);
void weir_view_fini(weir_view *v);

/*  Pushes the table `values` of the view whose handle is at the index; the value of a
    slot, the name of one of a map; a text. null_as_nil: for reading, not for walking. */
void weir_view_push_values(lua_State *L, int index, const weir_view *v);
void weir_view_push_slot(lua_State *L, int index, weir_view *v, uint32_t i,
                         bool null_as_nil);
void weir_view_push_name(lua_State *L, const weir_view *v, uint32_t i);
void weir_view_push_text(lua_State *L, weir_records *self, const weir_value *value);

/*  How a view is encoded: what did not change, byte for byte.                 */
extern const weir_encode_class weir_view_encode;

/*  Pushes a new metatable with a name that Lua code sees instead of it.       */
void weir_new_metatable(lua_State *L, const luaL_Reg *methods, const char *name);
