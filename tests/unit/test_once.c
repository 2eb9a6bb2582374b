#include "runtime/once.h"
#include "runtime/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void the_same_of_the_same_comes_once_a_minute(void **state)
{
    (void)state;
    weir_once once = {0};
    assert_true(weir_once_says(&once, "alice", "OVERRUN"));
    assert_false(weir_once_says(&once, "alice", "OVERRUN"));
    assert_true(weir_once_says(&once, "bob", "OVERRUN"));
    assert_true(weir_once_says(&once, "alice", "TYPE"));
    weir_clock_advance(59000000);
    assert_false(weir_once_says(&once, "alice", "OVERRUN"));
    weir_clock_advance(1000000);
    assert_true(weir_once_says(&once, "alice", "OVERRUN"));
}

int main(void)
{
    weir_clock_go_virtual(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_of_the_same_comes_once_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
