#include "tests/unit/help_lua.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_json(void **state)
{
    *state = help_open("json", weir_bind_json);
    return 0;
}

static int close_json(void **state)
{
    lua_close(*state);
    return 0;
}

static void decode_gives_typed_values(void **state)
{
    assert_true(help_run(
        *state,
        "local t = json.decode ' {\"a\":[1,2.0,null,true,\"x\\\\u00e9\\\\n\"],"
        "\"e\":{},\"f\":[],\"n\":null,\"u\":18446744073709551615,\"i\":-0,\"a\":[7]} '\n"
        "assert(t.a[1] == 7 and #t.a == 1 and t.n == null)\n"
        "assert(getmetatable(t) == 'map' and getmetatable(t.f) == 'array')\n"
        "assert(getmetatable(t.e) == 'map' and next(t.e) == nil)\n"
        "assert(tostring(t.u) == '18446744073709551615')\n"
        "local s = json.decode '[1,2.0,null,true,\"x\\\\u00e9\\\\n\"]'\n"
        "assert(math.type(s[1]) == 'integer' and math.type(s[2]) == 'float')\n"
        "assert(s[3] == null and s[4] == true and s[5] == 'x\\u{e9}\\n' and #s == 5)\n"
        "assert(json.decode '9223372036854775807' == math.maxinteger)\n"
        "assert(json.decode 'null' == null and json.decode '\"\"' == '')\n"
        "assert(json.decode '1e3' == 1000.0 and json.decode 'false' == false)"));
}

static void bad_text_gives_nil_and_the_byte(void **state)
{
    assert_true(help_run(
        *state,
        "for _, text in ipairs {'', '{', '[1,]', '{\"a\" 1}', '01', 'nul', '\"\\xff\"',\n"
        "  '1 2', '[1]]', '\"\\n\"', string.rep('[', 65) .. string.rep(']', 65)} do\n"
        "  local value, what = json.decode(text)\n"
        "  assert(value == nil and what:find 'at byte %d+$', what or text)\n"
        "end\n"
        "assert(json.decode(string.rep('[', 64) .. string.rep(']', 64)))\n"
        "local _, what = json.decode '{\"a\":x}'\n"
        "assert(what:find 'byte 6$', what)\n"
        "assert(not pcall(json.decode) and not pcall(json.decode, {}))"));
}

static void encode_gives_text_or_a_sentence(void **state)
{
    assert_true(help_run(
        *state, "assert(json.encode {a = 1, b = {true, null}} == "
                "'{\"a\":1,\"b\":[true,null]}')\n"
                "assert(json.encode 'x' == '\"x\"' and json.encode(null) == 'null')\n"
                "assert(json.encode(0.1) == '0.1' and json.encode(1.0) == '1.0')\n"
                "for _, value in ipairs {print, 0/0, '\\xff', {1, x = 2}} do\n"
                "  local text, what = json.encode(value)\n"
                "  assert(text == nil and type(what) == 'string')\n"
                "end\n"
                "assert(json.encode(nil) == nil and not pcall(json.encode))"));
}

static void what_is_decoded_encodes_as_it_was(void **state)
{
    assert_true(help_run(
        *state, "for _, text in ipairs {'{}', '[]', '[{},[],null,false,0,-1,1.5]',\n"
                "  '{\"a\":{\"b\":[[]]},\"c\":18446744073709551615}',\n"
                "  '[9223372036854775808,-9223372036854775808]',\n"
                "  '[1e+300]', '\"\\\\ud800\"'} do\n"
                "  local again = json.encode(json.decode(text))\n"
                "  assert(again == text or again == text:gsub('e%+', 'e'), again)\n"
                "end"));
}

static void large_values_do_not_stay_in_the_workspace(void **state)
{
    assert_true(help_run(*state, "local text = json.encode {string.rep('\\n', 1 << 20)}\n"
                                 "assert(#json.decode(text)[1] == 1 << 20)\n"
                                 "assert(json.decode(json.encode {'\\n'})[1] == '\\n')"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_gives_typed_values),
        cmocka_unit_test(bad_text_gives_nil_and_the_byte),
        cmocka_unit_test(encode_gives_text_or_a_sentence),
        cmocka_unit_test(what_is_decoded_encodes_as_it_was),
        cmocka_unit_test(large_values_do_not_stay_in_the_workspace),
    };
    return cmocka_run_group_tests(tests, open_json, close_json);
}
