#include "actors/reader.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static weir_err start_of(const char *text, weir_group_config *config)
{
    weir_report report;
    weir_group_options options = weir_group_options_defaults;
    options.start = (char *)text;
    return weir_group_options_start(&options, config, &report);
}

static void times_are_those_of_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:01.5Z", 1500},
        {"2026-01-31T08:00:00Z", 1769846400000},
        {"2026-01-31T08:00:00.123456Z", 1769846400123},
        {"2026-01-31T10:00:00+02:00", 1769846400000},
        {"2026-01-31T03:30:00.07-04:30", 1769846400070},
        {"2024-02-29T00:00:00Z", 1709164800000},
    };
    static const char *const bad[] = {
        "",
        "2026-01-31",
        "2026-01-31T08:00:00",
        "2026-01-31T08:00Z",
        "2026-02-30T08:00:00Z",
        "2026-13-01T08:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T08:00:00.Z",
        "2026-01-31T08:00:00Zz",
        "2026-01-31T08:00:00+2:00",
        "2026-01-31T08:00:00+02:60",
        "2026-01-31T08:00:00+02:000",
        "START",
        "7d",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        weir_group_config config;
        assert_int_equal(start_of(good[i].text, &config), WEIR_OK);
        assert_int_equal(config.start, WEIR_GROUP_TIME);
        assert_int_equal(config.start_ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weir_group_config config;
        if (start_of(bad[i], &config) == WEIR_OK) fail_msg("'%s' is taken", bad[i]);
    }
}

static void start_end_and_cursors_are_places(void **state)
{
    (void)state;
    weir_group_config config = {0};
    assert_int_equal(start_of(NULL, &config), WEIR_OK);
    assert_int_equal(config.start, WEIR_GROUP_START);
    assert_int_equal(start_of("end", &config), WEIR_OK);
    assert_int_equal(config.start, WEIR_GROUP_END);
    assert_int_equal(start_of("start", &config), WEIR_OK);
    assert_int_equal(config.start, WEIR_GROUP_START);
    assert_int_equal(start_of("w1xyz", &config), WEIR_OK);
    assert_int_equal(config.start, WEIR_GROUP_CURSOR);
    assert_string_equal(config.start_cursor, "w1xyz");
}

static void groups_are_equal_but_for_their_bus(void **state)
{
    (void)state;
    weir_group_options a = weir_group_options_defaults, b = a;
    a.of = "one";
    b.of = "other";
    assert_true(weir_group_options_equal(&a, &b));
    b.start = "start"; // as when nothing is said
    assert_true(weir_group_options_equal(&a, &b));
    b.start = "end";
    assert_false(weir_group_options_equal(&a, &b));
    b = a;
    b.retry_max_us++;
    assert_false(weir_group_options_equal(&a, &b));
}

static void a_first_wait_is_not_above_the_longest(void **state)
{
    (void)state;
    weir_report report;
    weir_group_options options = weir_group_options_defaults;
    assert_int_equal(weir_group_options_check(&options, &report), WEIR_OK);
    options.retry_first_us = options.retry_max_us + 1;
    assert_int_equal(weir_group_options_check(&options, &report), WEIR_EINVAL);
    assert_string_equal(report.where, "retry.first");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_those_of_rfc_3339),
        cmocka_unit_test(start_end_and_cursors_are_places),
        cmocka_unit_test(groups_are_equal_but_for_their_bus),
        cmocka_unit_test(a_first_wait_is_not_above_the_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
