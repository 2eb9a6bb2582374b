#include "runtime/screen.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static weir_doc doc;

static weir_judgement judge(weir_screen *screen, weir_format format, const char *payload)
{
    weir_subject subject = {.record = {.format = format,
                                       .data = (const uint8_t *)payload,
                                       .size = strlen(payload)},
                            .doc = &doc};
    return weir_screen_judge(screen, &subject);
}

static weir_screen *open_screen(const char *where, int otherwise, int on_unknown,
                                weir_rules *rules)
{
    weir_screen *screen;
    weir_screen_config config = {(char *)(uintptr_t)where, otherwise, on_unknown};
    assert_int_equal(weir_screen_new(&screen, &config, rules, NULL), WEIR_OK);
    return screen;
}

static void nothing_is_screened_without_expressions(void **state)
{
    (void)state;
    weir_screen *screen =
        open_screen(NULL, WEIR_ACTION_DEAD, WEIR_UNKNOWN_DEAD, &(weir_rules){0});
    assert_true(weir_screen_is_open(screen));
    assert_int_equal(judge(screen, WEIR_JSON, "{"), WEIR_PASS);
    weir_screen_destroy(&screen);
    weir_screen_destroy(&screen);
}

static void the_first_rule_that_matches_acts(void **state)
{
    (void)state;
    weir_rule items[] = {
        {(char *)"", (char *)"a > 5", WEIR_ACTION_DEAD, 1},
        {(char *)"", (char *)"a > 3", WEIR_ACTION_DROP, 2},
    };
    weir_screen *screen = open_screen("a != 2", WEIR_ACTION_DEAD, WEIR_UNKNOWN_DEAD,
                                      &(weir_rules){items, 2});
    assert_false(weir_screen_is_open(screen));
    assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":7}"), WEIR_DEAD_FILTERED);
    assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":4}"), WEIR_FILTERED);
    assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":2}"), WEIR_DEAD_FILTERED);
    assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":1}"), WEIR_PASS);
    weir_screen_destroy(&screen);
}

static void otherwise_decides_about_what_where_leaves(void **state)
{
    (void)state;
    weir_screen *screen = open_screen("a > 5", WEIR_ACTION_DROP, WEIR_UNKNOWN_DEAD, NULL);
    assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":6}"), WEIR_PASS);
    assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":5}"), WEIR_FILTERED);
    assert_int_equal(judge(screen, WEIR_JSON, "{}"), WEIR_FILTERED);
    weir_screen_destroy(&screen);
    screen = open_screen("a > 5", WEIR_ACTION_DEAD, WEIR_UNKNOWN_DEAD, NULL);
    assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":5}"), WEIR_DEAD_FILTERED);
    weir_screen_destroy(&screen);
}

static void on_unknown_decides_about_the_undecodable(void **state)
{
    (void)state;
    static const weir_judgement expected[] = {
        [WEIR_UNKNOWN_DROP] = WEIR_FILTERED,
        [WEIR_UNKNOWN_DEAD] = WEIR_DEAD_UNKNOWN,
        [WEIR_UNKNOWN_PASS] = WEIR_PASS,
    };
    weir_rule rule = {(char *)"", (char *)"a == 1", WEIR_ACTION_DROP, 1};
    for (int policy = WEIR_UNKNOWN_DROP; policy <= WEIR_UNKNOWN_PASS; policy++) {
        weir_screen *screen = open_screen("a != 1", WEIR_ACTION_DROP, policy, NULL);
        assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":"), expected[policy]);
        assert_int_equal(judge(screen, WEIR_TEXT, "text"), WEIR_FILTERED); // missing
        weir_screen_destroy(&screen);
        screen = open_screen(NULL, WEIR_ACTION_DROP, policy, &(weir_rules){&rule, 1});
        assert_int_equal(judge(screen, WEIR_JSON, "{\"a\":"), expected[policy]);
        weir_screen_destroy(&screen);
    }
}

static void raw_is_never_unknown(void **state)
{
    (void)state;
    weir_screen *screen =
        open_screen("$raw ~ 'x'", WEIR_ACTION_DROP, WEIR_UNKNOWN_DEAD, NULL);
    assert_int_equal(judge(screen, WEIR_JSON, "{x"), WEIR_PASS);
    assert_int_equal(judge(screen, WEIR_TEXT, "x"), WEIR_PASS);
    assert_int_equal(judge(screen, WEIR_TEXT, "y"), WEIR_FILTERED);
    weir_screen_destroy(&screen);
}

static void dead_letters_say_what_was_wrong(void **state)
{
    (void)state;
    weir_screen *screen =
        open_screen("a == 1", WEIR_ACTION_DEAD, WEIR_UNKNOWN_DEAD, NULL);
    weir_run origin = {.source = "in", .label = "a@1"};
    static const char *const payloads[] = {"{\"a\":2}", "{\"a\":"};
    static const char *const reasons[] = {"\"reason\":\"filter\"",
                                          "\"reason\":\"parse\""};
    for (int i = 0; i < 2; i++) {
        weir_subject subject = {.record = {.format = WEIR_JSON,
                                           .data = (const uint8_t *)payloads[i],
                                           .size = strlen(payloads[i])},
                                .doc = &doc};
        weir_judgement judgement = weir_screen_judge(screen, &subject);
        weir_dead *dead = weir_screen_dead(judgement, "n", &subject, &origin);
        weir_buffer_put_byte(&dead->line, 0);
        assert_non_null(strstr((char *)dead->line.data, reasons[i]));
        assert_non_null(strstr((char *)dead->line.data, "\"label\":\"a@1\""));
        if (i) assert_non_null(strstr((char *)dead->line.data, "byte 5"));
        weir_dead_destroy_list(&dead);
    }
    weir_screen_destroy(&screen);
}

static void a_bad_expression_is_reported(void **state)
{
    (void)state;
    weir_screen *screen;
    weir_report report = {0};
    weir_rule items[] = {{(char *)"", (char *)"a > 1", WEIR_ACTION_DROP, 1},
                         {(char *)"", (char *)"a >", WEIR_ACTION_DROP, 2}};
    weir_screen_config config = WEIR_SCREEN_DEFAULTS;
    assert_int_equal(weir_screen_new(&screen, &config, &(weir_rules){items, 2}, &report),
                     WEIR_EINVAL);
    assert_null(screen);
    assert_non_null(strstr(report.text, "a >"));
}

static int tear_down(void **state)
{
    (void)state;
    weir_doc_fini(&doc);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_screened_without_expressions),
        cmocka_unit_test(the_first_rule_that_matches_acts),
        cmocka_unit_test(otherwise_decides_about_what_where_leaves),
        cmocka_unit_test(on_unknown_decides_about_the_undecodable),
        cmocka_unit_test(raw_is_never_unknown),
        cmocka_unit_test(dead_letters_say_what_was_wrong),
        cmocka_unit_test(a_bad_expression_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
