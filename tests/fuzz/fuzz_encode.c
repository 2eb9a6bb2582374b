/*  Any JSON or MessagePack document that is accepted goes to Lua, is encoded, and
    is accepted again; from then on nothing changes any more.                  */
#include "tests/unit/help_lua.h"
#include "runtime/doc.h"

static lua_State *L;

static void must(bool good)
{
    if (!good) abort();
}

static int push_value(lua_State *state)
{
    weir_push_value(state, lua_touserdata(state, 1), lua_touserdata(state, 2));
    return 1;
}

/*  Bytes to Lua to bytes. False: the bytes, or some key, have no form there. JSON
    that is accepted fails only with a number that no double holds.            */
static bool pass(weir_format format, const uint8_t *data, size_t size, weir_format to,
                 weir_buffer *out)
{
    weir_doc doc = {0};
    weir_buffer scratch = {0};
    weir_value value;
    bool good = !weir_doc_parse(&doc, format, data, size);
    if (good) {
        value = (weir_value){.type = doc.index.type,
                             .format = format,
                             .data = data + doc.index.root,
                             .size = doc.index.root_size};
        if (format == WEIR_JSON) weir_json_read(value.data, value.size, &value);
        lua_pushcfunction(L, push_value);
        lua_pushlightuserdata(L, &value);
        lua_pushlightuserdata(L, &scratch);
        good = lua_pcall(L, 2, 1, 0) == LUA_OK;
        const char *error = NULL;
        if (good) good = !weir_encode(L, -1, to, out, &error);
        must(good || out->size == 0);
        must(good || format == WEIR_MSGPACK || strstr(error, "infinity"));
    }
    lua_settop(L, 0);
    weir_buffer_fini(&scratch);
    weir_doc_fini(&doc);
    return good;
}

static void must_equal(const weir_buffer *a, const weir_buffer *b)
{
    must(a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!L) L = help_open(NULL, NULL);
    if (size < 1) return 0;
    weir_format format = *data & 1 ? WEIR_JSON : WEIR_MSGPACK;
    weir_buffer once = {0}, again = {0}, other = {0};
    if (format == WEIR_JSON || data[1 % size] >> 4 == 8) {
        if (pass(format, data + 1, size - 1, format, &once)) {
            must(pass(format, once.data, once.size, format, &again));
            must_equal(&once, &again);
            again.size = 0;
            if (format == WEIR_JSON && *once.data == '{' &&
                pass(WEIR_JSON, once.data, once.size, WEIR_MSGPACK, &other)) {
                must(pass(WEIR_MSGPACK, other.data, other.size, WEIR_JSON, &again));
                must_equal(&once, &again);
            }
        }
    }
    weir_buffer_fini(&once);
    weir_buffer_fini(&again);
    weir_buffer_fini(&other);
    return 0;
}
