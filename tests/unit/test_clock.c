#include "runtime/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static void real_time_goes_on(void **state)
{
    (void)state;
    assert_false(weir_clock_is_virtual());
    int64_t before = weir_clock_now_us();
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    assert_true(weir_clock_now_us() - before >= 2000);
    assert_true(weir_clock_wall_ms() / 1000 - (int64_t)time(NULL) <= 1);
}

static void timeouts_are_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(weir_clock_timeout_ms(-1), -1);
    assert_int_equal(weir_clock_timeout_ms(0), 0);
    assert_int_equal(weir_clock_timeout_ms(weir_clock_now_us() - 1), 0);
    for (int64_t span_us = 900; span_us < 100000000; span_us *= 3) {
        int64_t before = weir_clock_now_us(), due = before + span_us;
        int64_t timeout_us = 1000 * weir_clock_timeout_ms(due);
        assert_true(timeout_us >= due - weir_clock_now_us());
        assert_true(timeout_us < due - before + 1000);
    }
    assert_int_equal(weir_clock_timeout_ms(INT64_MAX), 3600000);
}

static void in_real_time_any_number_may_watch(void **state)
{
    (void)state;
    int fd = eventfd(0, EFD_NONBLOCK);
    for (int i = 0; i < 1100; i++)
        assert_int_equal(weir_clock_watch(fd), WEIR_OK);
    for (int i = 0; i < 1100; i++)
        weir_clock_unwatch(fd);
    close(fd);
}

static void virtual_time_stands_still_until_advanced(void **state)
{
    (void)state;
    weir_clock_go_virtual(1700000000000);
    assert_int_equal(weir_clock_now_us(), 0);
    assert_int_equal(weir_clock_wall_ms(), 1700000000000);
    assert_int_equal(weir_clock_timeout_ms(5), -1);
    weir_clock_advance(2500000);
    assert_int_equal(weir_clock_now_us(), 2500000);
    assert_int_equal(weir_clock_wall_ms(), 1700000002500);
    assert_int_equal(weir_clock_timeout_ms(2500000), 0);
    assert_int_equal(weir_clock_timeout_ms(2500001), -1);
}

static void watchers_are_woken(void **state)
{
    (void)state;
    eventfd_t value;
    int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(weir_clock_watch(fd), WEIR_OK);
    assert_int_equal(weir_clock_watch(other), WEIR_OK);
    weir_clock_advance(1);
    assert_int_equal(eventfd_read(fd, &value), 0);
    weir_clock_unwatch(fd);
    weir_clock_unwatch(-1);
    weir_clock_advance(1);
    assert_int_equal(eventfd_read(fd, &value), -1);
    assert_int_equal(eventfd_read(other, &value), 0);
    weir_clock_unwatch(other);
    for (int i = 0; i < 1024; i++)
        assert_int_equal(weir_clock_watch(fd), WEIR_OK);
    assert_int_equal(weir_clock_watch(fd), WEIR_EFULL);
    for (int i = 0; i < 1024; i++)
        weir_clock_unwatch(fd);
    close(fd);
    close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_time_goes_on),
        cmocka_unit_test(timeouts_are_rounded_up),
        cmocka_unit_test(in_real_time_any_number_may_watch),
        cmocka_unit_test(virtual_time_stands_still_until_advanced),
        cmocka_unit_test(watchers_are_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
