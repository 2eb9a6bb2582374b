#include "lua/bind/view.h"

static weir_err put_slot(weir_encoder *e, int index, weir_view *v, uint32_t i)
{
    lua_State *L = e->L;
    if (!lua_checkstack(L, 4)) {
        e->error = "nested too deeply";
        return WEIR_EINVAL;
    }
    weir_view_push_slot(L, index, v, i, false);
    weir_err err = weir_encode_value(e, lua_gettop(L));
    lua_pop(L, 1);
    return err;
}

/*  True when the slot's bytes in the payload are still right.                 */
static bool unchanged(lua_State *L, int index, const weir_view *v, uint32_t i)
{
    weir_slot_state state = weir_slot_state_of(v, i);
    if (state != SLOT_CHILD) return state == SLOT_SAME;
    weir_view_push_values(L, index, v);
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    const weir_handle *child = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return !child->view->dirty;
}

/*  First byte of a field in JSON text: the quote of its name, or its value.   */
static uint32_t json_start(const weir_view *v, uint32_t i)
{
    const weir_json_field *f = &v->doc->index.fields[i];
    return v->array ? f->value : f->key - 1;
}

static uint32_t json_end(const weir_view *v, uint32_t i)
{
    const weir_json_field *f = &v->doc->index.fields[i];
    return f->value + f->value_size;
}

/*  Writes the separator that an added field needs, in the style of the others.  */
static void put_separator(weir_encoder *e, const weir_view *v, bool any)
{
    if (!any) return;
    if (v->doc->index.count < 2) {
        weir_buffer_put_byte(e->out, ',');
        return;
    }
    uint32_t from = json_end(v, 0);
    weir_buffer_put(e->out, v->doc->data + from, json_start(v, 1) - from);
}

static weir_err put_name(weir_encoder *e, const weir_view *v, const weir_slot *s)
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
static weir_err encode_json(weir_encoder *e, int index, weir_view *v)
{
    const uint8_t *text = v->doc->data;
    const weir_json_index *at = &v->doc->index;
    uint32_t from = at->root + (at->count ? 0 : 1), end = at->root + at->root_size;
    bool any = false, lead = true; // lead: nothing but the bracket is written
    weir_err err = WEIR_OK;
    if (!at->count) weir_buffer_put_byte(e->out, text[at->root]);
    for (uint32_t i = 0; i < at->count && !err; i++) {
        if (weir_slot_state_of(v, i) == SLOT_REMOVED) {
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

static weir_err encode_msgpack(weir_encoder *e, int index, weir_view *v)
{
    const weir_json_index *at = &v->doc->index;
    const uint8_t *data = v->doc->data;
    uint32_t total = v->slot_count > at->count ? v->slot_count : at->count, kept = 0;
    weir_err err = WEIR_OK;
    for (uint32_t i = 0; i < total; i++)
        kept += weir_slot_state_of(v, i) != SLOT_REMOVED;
    if (v->array)
        weir_put_array(e->out, kept);
    else
        weir_put_map(e->out, kept);
    uint32_t start = at->root + msgpack_head(data[at->root]);
    for (uint32_t i = 0; i < at->count && !err; start = json_end(v, i), i++) {
        if (weir_slot_state_of(v, i) == SLOT_REMOVED) continue;
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
static weir_err encode_across(weir_encoder *e, int index, weir_view *v)
{
    uint32_t total = weir_view_slots(v);
    lua_State *L = e->L;
    if (!lua_checkstack(L, 8)) return WEIR_EINVAL;
    lua_newtable(L);
    int copy = lua_gettop(L);
    weir_mark_table(L, copy, v->array);
    for (uint32_t i = 0; i < total; i++) {
        if (weir_slot_state_of(v, i) == SLOT_REMOVED) continue;
        if (v->array) {
            weir_view_push_slot(L, index, v, i, false);
            lua_rawseti(L, copy, (lua_Integer)lua_rawlen(L, copy) + 1);
            continue;
        }
        weir_view_push_name(L, v, i);
        weir_view_push_slot(L, index, v, i, false);
        lua_rawset(L, copy);
    }
    weir_err err = weir_encode_value(e, copy);
    lua_pop(L, 1);
    return err;
}

static weir_err write_view(weir_encoder *e, int index)
{
    const weir_handle *h = lua_touserdata(e->L, index);
    weir_view *v = h->view;
    if (!weir_handle_is_alive(h)) {
        e->error = "a record of an earlier call; keep (r) makes a copy that lasts";
        return WEIR_EINVAL;
    }
    if (!v->ready) {
        if (!weir_subject_parse(v->records->subject)) {
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
    return e->format == WEIR_JSON ? encode_json(e, index, v)
                                  : encode_msgpack(e, index, v);
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

const weir_encode_class weir_view_encode = {.encode = encode_view};
