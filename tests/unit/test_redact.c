#include "runtime/redact.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "runtime/dead.h"
#include "runtime/json.h"
#include "runtime/metrics.h"
#include "runtime/record.h"
#include "runtime/vitals.h"

static void add(const char *text)
{
    assert_true(weir_redact_add(text, strlen(text)));
}

/*  What is told of the text; it lives until the next call.                     */
static const char *told(const char *text)
{
    static _Thread_local char copy[256];
    char *hidden = weir_redact(text);
    snprintf(copy, sizeof copy, "%s", hidden ? hidden : text);
    free(hidden);
    return copy;
}

static void nothing_is_replaced_before_there_is_a_secret(void **state)
{
    (void)state;
    assert_null(weir_redact("redis://:p@ss/w:rd#1@host"));
}

static void a_secret_becomes_three_stars(void **state)
{
    (void)state;
    add("p@ss/w:rd#1");
    assert_string_equal(told("p@ss/w:rd#1"), "***");
    assert_string_equal(told("redis://:p@ss/w:rd#1@host"), "redis://:***@host");
    assert_string_equal(told("p@ss/w:rd#1p@ss/w:rd#1"), "******");
    assert_null(weir_redact("p@ss"));
    assert_null(weir_redact(""));
}

static void also_as_a_part_of_a_url(void **state)
{
    (void)state;
    add("p@ss/w:rd#1");
    assert_string_equal(told("redis://:p%40ss%2Fw%3Ard%231@host"), "redis://:***@host");
}

static void a_beginning_of_eight_bytes_goes_too(void **state)
{
    (void)state;
    add("abcdefghijkl");
    assert_string_equal(told("got 'abcdefgh'"), "got '***'");
    assert_string_equal(told("got 'abcdefghijk"), "got '***");
    assert_null(weir_redact("got 'abcdefg'"));
}

static void of_secrets_that_begin_alike_the_longest_counts(void **state)
{
    (void)state;
    add("tree");
    add("treehouse");
    assert_string_equal(told("treehouse"), "***");
    assert_string_equal(told("treehaus"), "***haus");
}

static void short_ones_are_not_taken(void **state)
{
    (void)state;
    assert_false(weir_redact_add("abc", 3));
    assert_false(weir_redact_add("", 0));
    assert_null(weir_redact("abc"));
}

static int print(char *to, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    errno = EXDEV;
    int length = weir_redact_printf(to, size, format, arguments);
    va_end(arguments);
    assert_int_equal(errno, EXDEV);
    return length;
}

static void a_text_is_cut_behind_the_replacing(void **state)
{
    (void)state;
    char text[10];
    add("0123456789secret");
    assert_int_equal(print(text, sizeof text, "%s", "x 0123456789secret yz"), 8);
    assert_string_equal(text, "x *** yz");
    assert_int_equal(print(text, sizeof text, "%s", "much longer than that"), 21);
    assert_string_equal(text, "much long");
}

static void no_place_that_tells_tells_it(void **state)
{
    (void)state;
    add("hunter22");
    weir_report report;
    weir_report_set(&report, WEIR_EINVAL, "/x/hunter22", "got '%s'", "hunter22");
    assert_string_equal(report.where, "/x/***");
    assert_string_equal(report.text, "got '***'");

    weir_buffer out = {0};
    weir_json_put_member(&out, "a", "hunter22");
    weir_metric_put_label(&out, "/hunter22");
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, "\"a\":\"***\"/***");
    weir_buffer_fini(&out);

    static weir_vitals vitals = WEIR_VITALS_INIT;
    weir_wait waits[WEIR_WAITS_MAX];
    weir_vitals_wait(&vitals, WEIR_WAIT_LINK, "there", "no hunter22");
    assert_int_equal(weir_vitals_waits(&vitals, waits), 1);
    assert_string_equal(waits[0].text, "no ***");
}

/*  The payload is the user's; the error is ours.                               */
static void a_dead_letter_keeps_its_payload(void **state)
{
    (void)state;
    add("hunter22");
    weir_record record = {
        .format = WEIR_TEXT, .data = (const uint8_t *)"pw=hunter22", .size = 11};
    weir_dead *dead = weir_dead_new("n", WEIR_DEAD_FUNCTION, "bad hunter22", 1, &record,
                                    "s", NULL, "/x/hunter22@7");
    weir_buffer_put_byte(&dead->line, 0);
    assert_non_null(strstr((char *)dead->line.data, "\"error\":\"bad ***\""));
    assert_non_null(strstr((char *)dead->line.data, "\"label\":\"/x/***@7\""));
    assert_non_null(strstr((char *)dead->line.data, "\"text\":\"pw=hunter22\""));
    weir_dead_destroy_list(&dead);
}

static void *add_many(void *arg)
{
    char text[32];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "thread-%d-%d", *(int *)arg, i);
        add(text);
        assert_string_equal(told("tree"), "***");
    }
    return NULL;
}

static void threads_may_add_while_others_look(void **state)
{
    (void)state;
    pthread_t threads[4];
    int numbers[4] = {0, 1, 2, 2};
    add("tree");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, add_many, &numbers[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_string_equal(told("a thread-2-199."), "a ***.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_replaced_before_there_is_a_secret),
        cmocka_unit_test(a_secret_becomes_three_stars),
        cmocka_unit_test(also_as_a_part_of_a_url),
        cmocka_unit_test(a_beginning_of_eight_bytes_goes_too),
        cmocka_unit_test(of_secrets_that_begin_alike_the_longest_counts),
        cmocka_unit_test(short_ones_are_not_taken),
        cmocka_unit_test(a_text_is_cut_behind_the_replacing),
        cmocka_unit_test(no_place_that_tells_tells_it),
        cmocka_unit_test(a_dead_letter_keeps_its_payload),
        cmocka_unit_test(threads_may_add_while_others_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
