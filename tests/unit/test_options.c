#include "runtime/options.h"
#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct {
    bool on;
    int64_t count, limit, wait, rest, keep;
    double rate, share;
    char *text, *where, *key, *begin;
    int policy;
    weir_texts paths;
    weir_rules rules;
} config;

static const char *const words[] = {"drop", "dead", "stop", NULL};
static const char *const forever[] = {"forever", NULL};
static const char *const fsync_words[] = {"always", "never", NULL};
static const char *const none[] = {"none", NULL};
static const char *const automatic[] = {"auto", NULL};

static const char *const all[] = {"all", NULL};
static const char *const start[] = {"start", NULL};

#define AT(field) offsetof(config, field)

static const weir_option options[] = {
    {"on", WEIR_OPTION_BOOL, AT(on), 0, 0, NULL, false, ""},
    {"count", WEIR_OPTION_INT, AT(count), 1, 256, automatic, false, ""},
    {"limit", WEIR_OPTION_SIZE, AT(limit), 1024, 1 << 20, none, false, ""},
    {"wait", WEIR_OPTION_TIME, AT(wait), 1000, 600e6, fsync_words, false, ""},
    {"rest", WEIR_OPTION_TIME, AT(rest), 0, 0, forever, false, ""},
    {"rate", WEIR_OPTION_NUMBER, AT(rate), 1e-3, 1e9, none, false, ""},
    {"share", WEIR_OPTION_NUMBER, AT(share), WEIR_ABOVE_0, WEIR_BELOW_1, NULL, false, ""},
    {"keep", WEIR_OPTION_TABLE, AT(keep), 0, 0, all, false, ""},
    {"keep.age", WEIR_OPTION_TIME, AT(rest), 1000, WEIR_UNBOUNDED, all, false, ""},
    {"text", WEIR_OPTION_TEXT, AT(text), 0, 0, start, false, ""},
    {"where", WEIR_OPTION_FILTER, AT(where), 0, 0, NULL, false, ""},
    {"key", WEIR_OPTION_FIELD, AT(key), 0, 0, NULL, false, ""},
    {"begin", WEIR_OPTION_REGEX, AT(begin), 0, 0, NULL, false, ""},
    {"policy", WEIR_OPTION_WORD, AT(policy), 0, 0, words, false, ""},
    {"paths", WEIR_OPTION_TEXTS, AT(paths), 0, 0, NULL, false, ""},
    {"rules", WEIR_OPTION_RULES, AT(rules), 0, 0, NULL, false, ""},
    {.name = NULL},
};

static const weir_option *option(const char *name)
{
    const weir_option *found = weir_option_find(options, name);
    assert_non_null(found);
    return found;
}

static const char *printed(const config *c, const char *name)
{
    static char text[256];
    weir_buffer out = {0};
    weir_option_print(option(name), c, &out);
    weir_buffer_put_byte(&out, 0);
    assert_true(out.size < sizeof text);
    memcpy(text, out.data, out.size);
    weir_buffer_fini(&out);
    return text;
}

/* --- Quantities -------------------------------------------------------------------- */

static void times_have_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {{"7us", 7},        {"10ms", 10000},    {"1.5s", 1500000},
                {"2m", 120000000}, {"1h", 3600000000}, {"30d", 2592000000000},
                {"0s", 0},         {"0.25ms", 250}};
    static const char *const bad[] = {"",     "10",    "ms",   "10 ms", "-5s",
                                      "+5s",  "0x10s", "0X1s", "1e3s",  "infs",
                                      "nans", "10MB",  "5S",   "1..5s", "99999999999d",
                                      " 5s",  "5s ",   "1,5s"};
    int64_t us;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(weir_parse_time(&us, good[i].text, NULL), WEIR_OK);
        assert_int_equal(us, good[i].us);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weir_report report = {0};
        assert_int_equal(weir_parse_time(&us, bad[i], &report), WEIR_EINVAL);
        assert_non_null(strstr(report.text, "10ms"));
    }
}

static void sizes_are_powers_of_1024(void **state)
{
    (void)state;
    int64_t bytes;
    static const char *const bad[] = {"64",  "64mb", "64M",   "64MiB",
                                      "1PB", "-1B",  "9e99GB"};
    assert_int_equal(weir_parse_size(&bytes, "64MB", NULL), WEIR_OK);
    assert_int_equal(bytes, 64 << 20);
    assert_int_equal(weir_parse_size(&bytes, "1.5KB", NULL), WEIR_OK);
    assert_int_equal(bytes, 1536);
    assert_int_equal(weir_parse_size(&bytes, "0B", NULL), WEIR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(weir_parse_size(&bytes, bad[i], NULL), WEIR_EINVAL);
}

static void what_is_printed_reads_back(void **state)
{
    (void)state;
    static const int64_t values[] = {0,
                                     1,
                                     999,
                                     1000,
                                     1024,
                                     1536,
                                     60000000,
                                     3600000000,
                                     86400000000,
                                     1 << 20,
                                     (int64_t)3 << 30,
                                     123456789};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        weir_buffer out = {0};
        int64_t back = -1;
        weir_print_time(values[i], &out);
        weir_buffer_put_byte(&out, 0);
        assert_int_equal(weir_parse_time(&back, (char *)out.data, NULL), WEIR_OK);
        assert_int_equal(back, values[i]);
        out.size = 0;
        weir_print_size(values[i], &out);
        weir_buffer_put_byte(&out, 0);
        assert_int_equal(weir_parse_size(&back, (char *)out.data, NULL), WEIR_OK);
        assert_int_equal(back, values[i]);
        weir_buffer_fini(&out);
    }
}

/* --- Setting ----------------------------------------------------------------------- */

static void bare_numbers_are_no_times_or_sizes(void **state)
{
    (void)state;
    config c = {.wait = 5};
    weir_report report = {0};
    assert_int_equal(weir_option_set_number(option("wait"), &c, 10, true, &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "10ms"));
    assert_int_equal(weir_option_set_number(option("limit"), &c, 10, true, &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "64MB"));
    assert_int_equal(c.wait, 5);
}

static void ranges_hold_at_both_ends(void **state)
{
    (void)state;
    config c = {.count = 7};
    weir_report report = {0};
    assert_int_equal(weir_option_set_number(option("count"), &c, 1, true, NULL), WEIR_OK);
    assert_int_equal(weir_option_set_number(option("count"), &c, 256, true, NULL),
                     WEIR_OK);
    assert_int_equal(weir_option_set_number(option("count"), &c, 0, true, &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "1..256"));
    assert_int_equal(weir_option_set_number(option("count"), &c, 257, true, NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_number(option("count"), &c, 2.5, false, NULL),
                     WEIR_EINVAL);
    assert_int_equal(c.count, 256);
    assert_int_equal(weir_option_set_text(option("limit"), &c, "1KB", NULL), WEIR_OK);
    assert_int_equal(weir_option_set_text(option("limit"), &c, "1MB", NULL), WEIR_OK);
    assert_int_equal(weir_option_set_text(option("limit"), &c, "1023B", NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_text(option("limit"), &c, "2MB", &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "1KB..1MB"));
    assert_int_equal(weir_option_set_text(option("rest"), &c, "9999d", NULL), WEIR_OK);
    double zero = 0;
    assert_int_equal(weir_option_set_number(option("rate"), &c, zero / zero, false, NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_number(option("rate"), &c, 1 / zero, false, NULL),
                     WEIR_EINVAL);
}

static const char *range_of(const char *name)
{
    static char text[64];
    weir_buffer out = {0};
    weir_option_print_range(option(name), &out);
    weir_buffer_put_byte(&out, 0);
    snprintf(text, sizeof text, "%s", (char *)out.data);
    weir_buffer_fini(&out);
    return text;
}

static void bounds_may_be_left_out_or_be_none(void **state)
{
    (void)state;
    config c = {0};
    assert_string_equal(range_of("share"), "above 0..below 1");
    assert_int_equal(weir_option_set_number(option("share"), &c, 0, true, NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_number(option("share"), &c, 1, true, NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_number(option("share"), &c, 1e-300, false, NULL),
                     WEIR_OK);
    assert_int_equal(weir_option_set_number(option("share"), &c, 0.9999999, false, NULL),
                     WEIR_OK);
    assert_string_equal(range_of("keep.age"), "1ms..");
    assert_int_equal(weir_option_set_text(option("keep.age"), &c, "0s", NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_text(option("keep.age"), &c, "99999999d", NULL),
                     WEIR_OK);
}

static void a_table_may_have_a_word_instead(void **state)
{
    (void)state;
    config c = {0};
    weir_report report = {0};
    assert_string_equal(printed(&c, "keep"), "none");
    assert_int_equal(weir_option_set_number(option("keep"), &c, 3, true, &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "table | all"));
    assert_int_equal(weir_option_set_text(option("keep"), &c, "x", NULL), WEIR_EINVAL);
    assert_int_equal(weir_option_set_word(option("keep"), &c, "all", NULL), WEIR_OK);
    assert_true(c.keep == WEIR_FOREVER);
}

static void a_word_may_be_a_text(void **state)
{
    (void)state;
    config c = {0};
    weir_option_set_text(option("text"), &c, "other", NULL);
    assert_int_equal(weir_option_set_word(option("text"), &c, "start", NULL), WEIR_OK);
    assert_string_equal(c.text, "start");
    assert_int_equal(weir_option_set_word(option("text"), &c, "all", NULL), WEIR_EINVAL);
    weir_options_free(options, &c);
}

static void words_are_those_of_the_table(void **state)
{
    (void)state;
    config c = {0};
    weir_report report = {0};
    assert_int_equal(weir_option_set_word(option("policy"), &c, "stop", NULL), WEIR_OK);
    assert_int_equal(c.policy, 2);
    assert_int_equal(weir_option_set_word(option("policy"), &c, "none", &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "drop | dead | stop"));
    assert_int_equal(weir_option_set_text(option("policy"), &c, "stop", NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_word(option("wait"), &c, "never", NULL), WEIR_OK);
    assert_true(c.wait == WEIR_FOREVER);
    assert_string_equal(printed(&c, "wait"), "never");
    assert_int_equal(weir_option_set_word(option("wait"), &c, "always", NULL), WEIR_OK);
    assert_string_equal(printed(&c, "wait"), "always");
    assert_int_equal(weir_option_set_word(option("wait"), &c, "forever", NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_option_set_word(option("count"), &c, "auto", NULL), WEIR_OK);
    assert_string_equal(printed(&c, "count"), "auto");
    assert_int_equal(weir_option_set_word(option("rate"), &c, "none", NULL), WEIR_OK);
    assert_string_equal(printed(&c, "rate"), "none");
    assert_int_equal(weir_option_set_word(option("on"), &c, "none", NULL), WEIR_EINVAL);
}

static void values_print_as_they_were_written(void **state)
{
    (void)state;
    config c = {0};
    weir_option_set_text(option("wait"), &c, "90s", NULL);
    assert_string_equal(printed(&c, "wait"), "90s");
    weir_option_set_text(option("limit"), &c, "64KB", NULL);
    assert_string_equal(printed(&c, "limit"), "64KB");
    weir_option_set_bool(option("on"), &c, true, NULL);
    assert_string_equal(printed(&c, "on"), "true");
    weir_option_set_number(option("rate"), &c, 12345678, true, NULL);
    assert_string_equal(printed(&c, "rate"), "12345678");
    weir_option_set_text(option("text"), &c, "first", NULL);
    weir_option_set_text(option("text"), &c, "hello", NULL);
    assert_string_equal(printed(&c, "text"), "hello");
    assert_string_equal(printed(&c, "where"), "none");
    assert_string_equal(printed(&c, "policy"), "drop");
    weir_options_free(options, &c);
}

static void expressions_are_checked_when_they_are_set(void **state)
{
    (void)state;
    config c = {0};
    weir_report report = {0};
    assert_int_equal(weir_option_set_text(option("where"), &c, "a > 1", NULL), WEIR_OK);
    assert_int_equal(weir_option_set_text(option("where"), &c, "a >", &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "column"));
    assert_string_equal(c.where, "a > 1");
    assert_int_equal(weir_option_set_text(option("key"), &c, "a.b[1]", NULL), WEIR_OK);
    assert_int_not_equal(weir_option_set_text(option("key"), &c, "a..b", NULL), WEIR_OK);
    assert_int_equal(weir_option_set_text(option("begin"), &c, "^[0-9]", NULL), WEIR_OK);
    assert_int_not_equal(weir_option_set_text(option("begin"), &c, "[", NULL), WEIR_OK);
    weir_options_free(options, &c);
}

static void copies_own_what_they_hold(void **state)
{
    (void)state;
    config c = {.policy = 1}, copy;
    weir_option_set_text(option("text"), &c, "hello", NULL);
    weir_option_set_text(option("paths"), &c, "a", NULL);
    weir_option_set_text(option("paths"), &c, "b", NULL);
    weir_rules_add(&c.rules, "x", "a > 1", WEIR_ACTION_DEAD, 3);
    weir_rules_add(&c.rules, "y", NULL, WEIR_ACTION_OTHERWISE, 4);
    weir_options_copy(options, &copy, &c, sizeof c);
    weir_options_free(options, &c);
    assert_null(c.text);
    assert_int_equal(copy.policy, 1);
    assert_string_equal(copy.text, "hello");
    assert_int_equal(copy.paths.count, 2);
    assert_string_equal(copy.paths.items[1], "b");
    assert_string_equal(copy.rules.items[0].where, "a > 1");
    assert_null(copy.rules.items[1].where);
    assert_int_equal(copy.rules.items[1].line, 4);
    weir_options_free(options, &copy);
    assert_null(weir_option_find(options, "nonsense"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_have_units),
        cmocka_unit_test(sizes_are_powers_of_1024),
        cmocka_unit_test(what_is_printed_reads_back),
        cmocka_unit_test(bare_numbers_are_no_times_or_sizes),
        cmocka_unit_test(ranges_hold_at_both_ends),
        cmocka_unit_test(bounds_may_be_left_out_or_be_none),
        cmocka_unit_test(a_table_may_have_a_word_instead),
        cmocka_unit_test(a_word_may_be_a_text),
        cmocka_unit_test(words_are_those_of_the_table),
        cmocka_unit_test(values_print_as_they_were_written),
        cmocka_unit_test(expressions_are_checked_when_they_are_set),
        cmocka_unit_test(copies_own_what_they_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
