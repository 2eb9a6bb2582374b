#include "tests/unit/help_lua.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_url(void **state)
{
    *state = help_open("url", weir_bind_url);
    return 0;
}

static int close_url(void **state)
{
    lua_close(*state);
    return 0;
}

static void what_has_a_meaning_is_encoded(void **state)
{
    assert_true(help_run(*state,
                         "assert(url.encode('p@ss/w:rd#1?%') == "
                         "'p%40ss%2Fw%3Ard%231%3F%25')\n"
                         "assert(url.encode('\\0\\n\\xff \\u{e9}') == "
                         "'%00%0A%FF%20%C3%A9')\n"
                         "assert(url.encode('') == '' and url.encode(12) == '12')"));
}

static void what_has_none_stays(void **state)
{
    assert_true(help_run(*state, "local plain = 'azAZ09-._~'\n"
                                 "assert(url.encode(plain) == plain)"));
}

static void misuse_raises(void **state)
{
    assert_true(help_run(*state, "assert(not pcall(url.encode))\n"
                                 "assert(not pcall(url.encode, {}))"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_a_meaning_is_encoded),
        cmocka_unit_test(what_has_none_stays),
        cmocka_unit_test(misuse_raises),
    };
    return cmocka_run_group_tests(tests, open_url, close_url);
}
