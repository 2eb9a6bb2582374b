#include "tests/unit/help_lua.h"
#include "runtime/doc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_values(void **state)
{
    *state = help_open(NULL, NULL);
    return 0;
}

static int close_values(void **state)
{
    lua_close(*state);
    return 0;
}

static void null_is_one_value_of_its_own(void **state)
{
    lua_State *L = *state;
    assert_true(help_run(L, "assert(tostring(null) == 'null' and null == null)\n"
                            "assert(null ~= nil and null ~= false)\n"
                            "assert(not pcall(function () return null.x end))\n"
                            "assert(not pcall(function () return null() end))\n"
                            "assert(not pcall(setmetatable, null, {}))"));
    weir_push_null(L);
    lua_pushboolean(L, false);
    assert_true(weir_is_null(L, 1));
    assert_false(weir_is_null(L, 2));
    assert_false(weir_is_null(L, 3));
    lua_settop(L, 0);
}

static void array_and_map_mark_tables(void **state)
{
    lua_State *L = *state;
    assert_true(
        help_run(L, "local t = {1}\n"
                    "assert(array(t) == t and map(t) == t and next(array()) == nil)\n"
                    "assert(getmetatable(array {}) == 'array')\n"
                    "assert(getmetatable(map {}) == 'map')\n"
                    "assert(not pcall(setmetatable, array {}, nil))\n"
                    "assert(not pcall(array, 1) and not pcall(map, 'x'))\n"
                    "assert(not pcall(map, setmetatable({}, {})))"));
    lua_newtable(L);
    assert_int_equal(weir_table_kind(L, 1), 0);
    weir_mark_table(L, 1, true);
    assert_int_equal(weir_table_kind(L, 1), 'a');
    weir_mark_table(L, 1, false);
    assert_int_equal(weir_table_kind(L, 1), 'm');
    lua_settop(L, 0);
}

static void uint64_is_pushed_only_where_integers_end(void **state)
{
    lua_State *L = *state;
    uint64_t value = 0;
    weir_push_uint(L, INT64_MAX);
    assert_true(lua_isinteger(L, 1));
    assert_false(weir_to_uint(L, 1, &value));
    weir_push_uint(L, UINT64_MAX);
    assert_true(weir_to_uint(L, 2, &value));
    assert_true(value == UINT64_MAX);
    lua_newtable(L);
    lua_newuserdatauv(L, 8, 0);
    assert_false(weir_to_uint(L, 3, &value));
    assert_false(weir_to_uint(L, 4, &value));
    lua_settop(L, 0);
}

static void uint64_compares_exactly(void **state)
{
    lua_State *L = *state;
    weir_push_uint(L, UINT64_C(1) << 63);
    lua_setglobal(L, "low");
    weir_push_uint(L, UINT64_MAX);
    lua_setglobal(L, "high");
    assert_true(help_run(
        L, "assert(low < high and low <= high and high > low and not (high <= low))\n"
           "assert(low == low + 0 and low + 1 ~= low and low ~= high)\n"
           "assert(low > math.maxinteger and math.mininteger < low and low > -1.5)\n"
           "assert(low <= 2.0^63 and low >= 2.0^63 and not (low < 2.0^63))\n"
           "assert(high < 2.0^64 and high > 2.0^63 and high < math.huge)\n"
           "assert(high > -math.huge and not (high < 0/0) and not (high >= 0/0))\n"
           "assert(not pcall(function () return low < '1' end))\n"
           "assert(not pcall(function () return {} < low end))"));
}

static void uint64_calculates_exactly_or_raises(void **state)
{
    lua_State *L = *state;
    weir_push_uint(L, UINT64_C(1) << 63);
    lua_setglobal(L, "low");
    weir_push_uint(L, UINT64_MAX);
    lua_setglobal(L, "high");
    assert_true(help_run(
        L,
        "local function is(a, b) assert(tostring(a) == b, tostring(a)) end\n"
        "is(low, '9223372036854775808') is(high, '18446744073709551615')\n"
        "is(low + 1, '9223372036854775809') is(2 + low, '9223372036854775810')\n"
        "is(low - 1, '9223372036854775807') is(high - high, '0') is(1 - low, "
        "'-9223372036854775807')\n"
        "is(high + math.mininteger, '9223372036854775807') is(high * 1, tostring(high))\n"
        "is(high * 0, '0') is(high // 10, '1844674407370955161') is(high % 10, '5')\n"
        "is(high // -1000, '-18446744073709552') is(high % -1000, '-385')\n"
        "is(-7 // low, '-1') is(-7 % low, '9223372036854775801') is(-low, "
        "'-9223372036854775808')\n"
        "is(low + 2.0, '9223372036854775810') is(high - 2.0^63, '9223372036854775807')\n"
        "assert(math.type(low - 1) == 'integer' and low // 1 == low)\n"
        "assert('n' .. low .. 1 == 'n92233720368547758081')\n"
        "for _, bad in ipairs {function () return high + 1 end,\n"
        "  function () return 0 - high end, function () return high * high end,\n"
        "  function () return low * 2 end, function () return -high end,\n"
        "  function () return low + 0.5 end, function () return low + 0/0 end,\n"
        "  function () return low + 2.0^64 end, function () return low // 0 end,\n"
        "  function () return low % 0 end, function () return low + '1' end,\n"
        "  function () return low + {} end, function () return low / 2 end,\n"
        "  function () return low .. {} end, function () return low.x end} do\n"
        "  assert(not pcall(bad))\n"
        "end\n"
        "local _, what = pcall(function () return high + 1 end)\n"
        "assert(what:find('out of range'), what)"));
}

/* --- Encoding ---------------------------------------------------------------------- */

/*  The encoded form of the Lua expression. NULL: it has none; then error says why. */
static const char *encoded(lua_State *L, const char *expression, weir_format format,
                           size_t *size, const char **error)
{
    static weir_buffer out;
    static char text[4096];
    lua_pushfstring(L, "return %s", expression);
    assert_int_equal(luaL_dostring(L, lua_tostring(L, -1)), LUA_OK);
    out.size = 0;
    weir_buffer_put(&out, "kept", 4);
    int top = lua_gettop(L);
    weir_err err = weir_encode(L, -1, format, &out, error);
    assert_int_equal(lua_gettop(L), top);
    assert_memory_equal(out.data, "kept", 4);
    assert_true(out.size - 4 < sizeof text);
    *size = out.size - 4;
    memcpy(text, out.data + 4, *size);
    text[*size] = 0;
    if (err) assert_int_equal(*size, 0);
    weir_buffer_fini(&out);
    lua_settop(L, 0);
    return err ? NULL : text;
}

static void assert_json(lua_State *L, const char *expression, const char *expected)
{
    size_t size;
    const char *error = "";
    const char *text = encoded(L, expression, WEIR_JSON, &size, &error);
    if (!text) print_message("%s: %s\n", expression, error);
    assert_non_null(text);
    assert_string_equal(text, expected);
}

static void tables_become_json(void **state)
{
    lua_State *L = *state;
    assert_json(L, "{}", "{}");
    assert_json(L, "array {}", "[]");
    assert_json(L, "map {}", "{}");
    assert_json(L, "null", "null");
    assert_json(L, "{1, 2.5, 3.0, 'x', false, null, {}, array {}}",
                "[1,2.5,3.0,\"x\",false,null,{},[]]");
    assert_json(L, "{b = 1, a = 2, ab = 3, [''] = 4, ['a\\0'] = 5}",
                "{\"\":4,\"a\":2,\"a\\u0000\":5,\"ab\":3,\"b\":1}");
    assert_json(L, "{a = {b = {c = array {map {}}}}}", "{\"a\":{\"b\":{\"c\":[{}]}}}");
    assert_json(L, "math.mininteger", "-9223372036854775808");
    assert_json(L, "{n = math.maxinteger}", "{\"n\":9223372036854775807}");
    assert_json(L, "{'\\u{e9}\"'}", "[\"\xc3\xa9\\\"\"]");
    lua_settop(L, 0);
    weir_push_uint(L, UINT64_MAX);
    lua_setglobal(L, "high");
    assert_json(L, "{high}", "[18446744073709551615]");
}

static void arrays_in_the_hash_part_are_arrays(void **state)
{
    lua_State *L = *state;
    assert_json(
        L, "(function () local t = {} for i = 9, 1, -1 do t[i] = i end return t end)()",
        "[1,2,3,4,5,6,7,8,9]");
    assert_json(L, "(function () local t = {[3] = 3, [2] = 2} t[1] = 1 return t end)()",
                "[1,2,3]");
    assert_json(L, "(function () local t = {1, 2} t[4] = 4 t[3] = 3 return t end)()",
                "[1,2,3,4]");
    assert_json(L,
                "(function () local t = {1, 2, 3} t[3] = nil t[2] = nil return t end)()",
                "[1]");
    assert_json(L, "(function () local t = {1, x = 1} t.x = nil return t end)()", "[1]");
}

static void many_members_are_sorted(void **state)
{
    lua_State *L = *state;
    assert_true(help_run(L, "big = {} for i = 999, 0, -1 do"
                            " big[string.format('%03d', i)] = {i} end"));
    weir_buffer out = {0};
    const char *error;
    lua_getglobal(L, "big");
    assert_int_equal(weir_encode(L, 1, WEIR_JSON, &out, &error), WEIR_OK);
    const char *at = (const char *)out.data + 1;
    for (int i = 0; i < 1000; i++) {
        char expected[32];
        int size = snprintf(expected, sizeof expected, "\"%03d\":[%d]%c", i, i,
                            i < 999 ? ',' : '}');
        assert_memory_equal(at, expected, size);
        at += size;
    }
    weir_buffer_fini(&out);
    lua_settop(L, 0);
}

static void what_json_cannot_say_is_an_error(void **state)
{
    lua_State *L = *state;
    static const char *const bad[] = {
        "nil",
        "print",
        "0/0",
        "{1/0}",
        "{-1/0}",
        "'\\xff'",
        "{['\\xff'] = 1}",
        "{1, x = 1}",
        "{1, nil, 3}",
        "{[2] = 1}",
        "{[1.5] = 1}",
        "{[true] = 1}",
        "array {x = 1}",
        "array {[2] = 1}",
        "map {1}",
        "{coroutine.create(print)}",
        "io.stdout",
        "(function () local t = {} t.t = t return t end)()",
        "(function () local t = {} for i = 1, 65 do t = {t} end return t end)()",
        "(function () local t = {1} for i = 1, 40 do t = {t, t} end return t end)()",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t size;
        const char *error = NULL;
        if (encoded(L, bad[i], WEIR_JSON, &size, &error))
            fail_msg("%s was encoded", bad[i]);
        assert_non_null(error);
    }
    size_t size;
    const char *error;
    assert_non_null(encoded(
        L, "(function () local t = {} for i = 1, 63 do t = {t} end return t end)()",
        WEIR_JSON, &size, &error));
}

static void assert_msgpack(lua_State *L, const char *expression, const char *bytes,
                           size_t count)
{
    size_t size;
    const char *error = "";
    const char *text = encoded(L, expression, WEIR_MSGPACK, &size, &error);
    if (!text) print_message("%s: %s\n", expression, error);
    assert_non_null(text);
    assert_int_equal(size, count);
    assert_memory_equal(text, bytes, size);
}

static void tables_become_msgpack(void **state)
{
    lua_State *L = *state;
    assert_msgpack(L, "{}", "\x80", 1);
    assert_msgpack(L, "array {}", "\x90", 1);
    assert_msgpack(L, "{b = null, a = {true, -1}}",
                   "\x82\xa1"
                   "a\x92\xc3\xff\xa1"
                   "b\xc0",
                   9);
    assert_msgpack(L, "'\\xff'", "\xc4\x01\xff", 3);
    assert_msgpack(L, "{[7] = 1, x = 2, [-1] = 3}", "\x83\xff\x03\x07\x01\xa1x\x02", 8);
    assert_msgpack(L, "map {5}", "\x81\x01\x05", 3);
    weir_push_uint(L, UINT64_MAX);
    lua_setglobal(L, "high");
    assert_msgpack(L, "high", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9);
}

/*  Pushes the MessagePack value and writes it again.                          */
static void assert_kept(lua_State *L, const char *bytes, size_t count)
{
    weir_doc doc = {0};
    weir_buffer scratch = {0}, out = {0};
    const char *error = "";
    weir_value child;
    assert_int_equal(weir_doc_parse(&doc, WEIR_MSGPACK, (const uint8_t *)bytes, count),
                     WEIR_OK);
    assert_int_equal(doc.index.count, 1);
    weir_doc_value(&doc, 0, &child);
    weir_push_value(L, &child, &scratch);
    lua_newtable(L);
    lua_insert(L, -2);
    lua_setfield(L, -2, "k");
    if (weir_encode(L, -1, WEIR_MSGPACK, &out, &error)) fail_msg("%s", error);
    assert_int_equal(out.size, count);
    assert_memory_equal(out.data, bytes, count);
    weir_buffer_fini(&out);
    weir_buffer_fini(&scratch);
    weir_doc_fini(&doc);
    lua_settop(L, 0);
}

static void values_pass_through_lua_unchanged(void **state)
{
    lua_State *L = *state;
    assert_kept(L, "\x81\xa1k\xc0", 4);
    assert_kept(L, "\x81\xa1k\xc2", 4);
    assert_kept(L, "\x81\xa1k\x90", 4);
    assert_kept(L, "\x81\xa1k\x80", 4);
    assert_kept(L, "\x81\xa1k\x92\xc0\x80", 6);
    assert_kept(L, "\x81\xa1k\x81\x05\xc0", 6);
    assert_kept(L, "\x81\xa1k\xcf\x80\0\0\0\0\0\0\0", 12);
    assert_kept(L, "\x81\xa1k\xd3\x80\0\0\0\0\0\0\0", 12);
    assert_kept(L, "\x81\xa1k\xca\x3f\x80\0\0", 8);
    assert_kept(L, "\x81\xa1k\xc4\x01\xff", 6);
    assert_kept(L, "\x81\xa1k\xd4\x05x", 6);
}

static int push_it(lua_State *L)
{
    weir_push_value(L, lua_touserdata(L, 1), lua_touserdata(L, 2));
    return 1;
}

static void keys_without_lua_form_raise(void **state)
{
    lua_State *L = *state;
    weir_doc doc = {0};
    weir_buffer scratch = {0};
    weir_value child;
    static const char bytes[] = "\x81\xa1k\x81\xc0\x01";
    assert_int_equal(
        weir_doc_parse(&doc, WEIR_MSGPACK, (const uint8_t *)bytes, sizeof bytes - 1),
        WEIR_OK);
    weir_doc_value(&doc, 0, &child);
    lua_pushcfunction(L, push_it);
    lua_pushlightuserdata(L, &child);
    lua_pushlightuserdata(L, &scratch);
    assert_int_equal(lua_pcall(L, 2, 1, 0), LUA_ERRRUN);
    assert_non_null(strstr(lua_tostring(L, -1), "null"));
    lua_settop(L, 0);
    weir_buffer_fini(&scratch);
    weir_doc_fini(&doc);
}

static weir_err encode_twice(weir_encoder *self, int index)
{
    lua_getiuservalue(self->L, index, 1);
    weir_buffer_put_text(self->out, "[");
    weir_err err = weir_encode_value(self, -1);
    weir_buffer_put_text(self->out, ",2]");
    lua_pop(self->L, 1);
    return err;
}

static void a_module_can_encode_its_own_userdata(void **state)
{
    lua_State *L = *state;
    static const weir_encode_class class = {.encode = encode_twice};
    lua_newuserdatauv(L, 1, 1);
    lua_newtable(L);
    weir_set_encode(L, &class);
    lua_setmetatable(L, -2);
    assert_int_equal(luaL_dostring(L, "return {a = {null}}"), LUA_OK);
    lua_setiuservalue(L, -2, 1);
    lua_setglobal(L, "own");
    assert_json(L, "{x = own}", "{\"x\":[{\"a\":[null]},2]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_one_value_of_its_own),
        cmocka_unit_test(array_and_map_mark_tables),
        cmocka_unit_test(uint64_is_pushed_only_where_integers_end),
        cmocka_unit_test(uint64_compares_exactly),
        cmocka_unit_test(uint64_calculates_exactly_or_raises),
        cmocka_unit_test(tables_become_json),
        cmocka_unit_test(arrays_in_the_hash_part_are_arrays),
        cmocka_unit_test(many_members_are_sorted),
        cmocka_unit_test(what_json_cannot_say_is_an_error),
        cmocka_unit_test(tables_become_msgpack),
        cmocka_unit_test(values_pass_through_lua_unchanged),
        cmocka_unit_test(keys_without_lua_form_raise),
        cmocka_unit_test(a_module_can_encode_its_own_userdata),
    };
    return cmocka_run_group_tests(tests, open_values, close_values);
}
