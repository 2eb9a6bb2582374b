#include "tests/unit/help_lua.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_base64(void **state)
{
    *state = help_open("base64", weir_bind_base64);
    return 0;
}

static int close_base64(void **state)
{
    lua_close(*state);
    return 0;
}

static void encodes_the_examples_of_the_rfc(void **state)
{
    assert_true(help_run(*state,
                         "for bytes, text in pairs {[''] = '', f = 'Zg==', fo = 'Zm8=',\n"
                         "  foo = 'Zm9v', foob = 'Zm9vYg==', fooba = 'Zm9vYmE=',\n"
                         "  foobar = 'Zm9vYmFy', ['\\xfb\\xff\\0'] = '+/8A'} do\n"
                         "  assert(base64.encode(bytes) == text)\n"
                         "  assert(base64.decode(text) == bytes)\n"
                         "end"));
}

static void the_alphabet_for_urls_has_no_padding(void **state)
{
    assert_true(help_run(*state,
                         "assert(base64.encode('\\xfb\\xff', 'url') == '-_8')\n"
                         "assert(base64.encode('', 'url') == '')\n"
                         "assert(base64.decode('-_8', 'url') == '\\xfb\\xff')\n"
                         "assert(base64.decode('-_8=', 'url') == '\\xfb\\xff')\n"
                         "for _, text in ipairs {'+/8', '+/8=', '-_9', '-', '-_8==',\n"
                         "  '-_8a=', '=', '-_ 8'} do\n"
                         "  assert(base64.decode(text, 'url') == nil, text)\n"
                         "end\n"
                         "for size = 0, 50 do\n"
                         "  local bytes = string.rep('\\xfe', size)\n"
                         "  local text = base64.encode(bytes, 'url')\n"
                         "  assert(base64.decode(text, 'url') == bytes)\n"
                         "end"));
}

static void bad_text_gives_nil_and_a_sentence(void **state)
{
    assert_true(help_run(
        *state, "for _, text in ipairs {'Z', 'Zg', 'Zg=', 'Zh==', 'Zg==\\n', 'Zm 8=',\n"
                "  '-_8A', '====', 'Zg==Zg=='} do\n"
                "  local bytes, what = base64.decode(text)\n"
                "  assert(bytes == nil and type(what) == 'string', text)\n"
                "end\n"
                "assert(not pcall(base64.decode) and not pcall(base64.encode, {}))\n"
                "assert(not pcall(base64.encode, 'x', 'uri'))"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_the_examples_of_the_rfc),
        cmocka_unit_test(the_alphabet_for_urls_has_no_padding),
        cmocka_unit_test(bad_text_gives_nil_and_a_sentence),
    };
    return cmocka_run_group_tests(tests, open_base64, close_base64);
}
