#include "runtime/regex.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define MB ((size_t)1 << 20)

static weir_regex *compiled(const char *pattern)
{
    weir_regex *regex = NULL;
    weir_report report = {0};
    size_t error_at = 0;
    weir_err err = weir_regex_new(&regex, pattern, strlen(pattern), &error_at, &report);
    if (err) fail_msg("'%s': %s at %zu", pattern, report.text, error_at);
    return regex;
}

static weir_match search(const char *pattern, const char *text)
{
    weir_regex *regex = compiled(pattern);
    weir_match found = weir_regex_search(regex, text, strlen(text), 0, NULL, 0, NULL);
    weir_regex_destroy(&regex);
    assert_null(regex);
    return found;
}

/*  The text of the refusal, for as long as no other follows.                        */
static const char *refusal(const char *pattern, size_t at)
{
    static weir_report report;
    weir_regex *regex = (weir_regex *)&report;
    size_t error_at = SIZE_MAX;
    report = (weir_report){0};
    assert_int_equal(weir_regex_new(&regex, pattern, strlen(pattern), &error_at, &report),
                     WEIR_EINVAL);
    assert_null(regex);
    assert_int_equal(error_at, at);
    assert_int_equal(report.err, WEIR_EINVAL);
    assert_true(report.text[0] != 0);
    return report.text;
}

static void matches_anywhere_in_bytes(void **state)
{
    (void)state;
    assert_int_equal(search("b+", "aabbcc"), WEIR_MATCH_YES);
    assert_int_equal(search("^b", "aabbcc"), WEIR_MATCH_NO);
    assert_int_equal(search("", ""), WEIR_MATCH_YES);
    assert_int_equal(search("^.$", "\xc3\xa9"),
                     WEIR_MATCH_NO); // two bytes, not one letter
    assert_int_equal(search("^..$", "\xc3\xa9"), WEIR_MATCH_YES);
    assert_int_equal(search("\xff", "a\xff"), WEIR_MATCH_YES);
    assert_int_equal(search("(?<=a)b(?!c)", "abd"), WEIR_MATCH_YES);
    assert_int_equal(search("(*atomic:a+)b", "aab"), WEIR_MATCH_YES);
}

static void text_may_hold_nul_bytes(void **state)
{
    (void)state;
    weir_regex *regex = NULL;
    size_t at;
    assert_int_equal(weir_regex_new(&regex, "a\0b", 3, &at, NULL), WEIR_OK);
    assert_int_equal(weir_regex_search(regex, "xa\0by", 5, 0, NULL, 0, NULL),
                     WEIR_MATCH_YES);
    assert_int_equal(weir_regex_search(regex, "xa", 2, 0, NULL, 0, NULL), WEIR_MATCH_NO);
    weir_regex_destroy(&regex);
}

static void spans_name_the_match_and_its_groups(void **state)
{
    (void)state;
    weir_regex *regex = compiled("(?<key>\\w+)=(?:(\\d+)|(?<word>[a-z]+))");
    size_t spans[8][2];
    size_t count = 0;
    assert_int_equal(weir_regex_groups(regex), 3);
    assert_string_equal(weir_regex_group_name(regex, 1), "key");
    assert_null(weir_regex_group_name(regex, 2));
    assert_string_equal(weir_regex_group_name(regex, 3), "word");
    assert_null(weir_regex_group_name(regex, 4));

    assert_int_equal(weir_regex_search(regex, "  ab=12;", 8, 0, spans, 8, &count),
                     WEIR_MATCH_YES);
    assert_int_equal(count, 4);
    assert_int_equal(spans[0][0], 2);
    assert_int_equal(spans[0][1], 7);
    assert_int_equal(spans[1][0], 2);
    assert_int_equal(spans[1][1], 4);
    assert_int_equal(spans[2][0], 5);
    assert_int_equal(spans[2][1], 7);
    assert_true(spans[3][0] == SIZE_MAX && spans[3][1] == SIZE_MAX);

    assert_int_equal(weir_regex_search(regex, "  ab=12;", 8, 0, spans, 1, &count),
                     WEIR_MATCH_YES);
    assert_int_equal(count, 1);
    assert_int_equal(weir_regex_search(regex, "none", 4, 0, spans, 8, &count),
                     WEIR_MATCH_NO);
    assert_int_equal(count, 0);
    weir_regex_destroy(&regex);
}

static void search_begins_at_start_and_sees_what_lies_before(void **state)
{
    (void)state;
    weir_regex *regex = compiled("(?<=a)b");
    size_t span[1][2];
    size_t count;
    assert_int_equal(weir_regex_search(regex, "ab ab", 5, 1, span, 1, &count),
                     WEIR_MATCH_YES);
    assert_int_equal(span[0][0], 1);
    assert_int_equal(weir_regex_search(regex, "ab ab", 5, 2, span, 1, &count),
                     WEIR_MATCH_YES);
    assert_int_equal(span[0][0], 4);
    assert_int_equal(weir_regex_search(regex, "ab ab", 5, 5, span, 1, &count),
                     WEIR_MATCH_NO);
    assert_int_equal(weir_regex_search(regex, "ab ab", 5, 6, span, 1, &count),
                     WEIR_MATCH_NO);
    weir_regex_destroy(&regex);
}

static void mistakes_are_told_with_their_position(void **state)
{
    (void)state;
    assert_non_null(strstr(refusal("ab(c", 4), "parenthes"));
    refusal("a[b", 3);
    refusal("*a", 0);
    refusal("a\\C", 3);
}

static void settings_and_callouts_are_refused(void **state)
{
    (void)state;
    refusal("(*LIMIT_MATCH=9)a", 0);
    refusal("(*NO_JIT)a", 0);
    refusal("(*UTF)a", 0);
    refusal("(*NO_AUTO_POSSESS)(*LIMIT_HEAP=1)a", 0);
    assert_non_null(strstr(refusal("ab(?C7)c", 7), "callout"));
    assert_int_equal(search("[(?C1)]", "C"), WEIR_MATCH_YES); // no callout
}

static void too_large_patterns_are_refused(void **state)
{
    (void)state;
    weir_report report = {0};
    weir_regex *regex = NULL;
    size_t at;
    assert_int_equal(weir_regex_new(&regex, "((a{1000}){1000}){1000}", 23, &at, &report),
                     WEIR_EINVAL);
    char *long_pattern = malloc(2 * MB);
    memset(long_pattern, 'a', 2 * MB);
    assert_int_equal(weir_regex_new(&regex, long_pattern, 2 * MB, &at, &report),
                     WEIR_EINVAL);
    assert_true(at <= 2 * MB);
    free(long_pattern);
}

static double cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

#ifdef WEIR_SANITIZED
#define SOON_MS 1000
#else
#define SOON_MS 100
#endif

/*  B50: whatever the pattern, the answer or the bound comes within 100 ms.           */
static void catastrophic_patterns_end_in_time(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "(a+)+$",
        "(a|aa)+$",
        "(.*)*x$",
        "(a*)*b$",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "a+$",
        "\\w+$",
        "(?:a|b)*c$",
        "a*a*c$",
        "a*a*a*c$",
        "a{60000}b$",
        "(a*)\\1\\1c$",
        "\\w{0,500}a{0,500}c$",
        "(?:a|b){1,1000}d?c$",
        "(a?){500}a{500}c$",
        "(?R)?a+c$",
    };
    static const size_t sizes[] = {40, 700, 1000, 5000, 60000, MB};
    char *text = malloc(MB);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        memset(text, 'a', sizes[s]);
        memcpy(text + sizes[s] - 4, "!cbx", 4);
        text[sizes[s] - 1] = '!';
        for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
            weir_regex *regex = compiled(patterns[i]);
            double begin = cpu_ms();
            weir_match found = weir_regex_search(regex, text, sizes[s], 0, NULL, 0, NULL);
            double spent = cpu_ms() - begin;
            if (found == WEIR_MATCH_YES) fail_msg("'%s' matched", patterns[i]);
            if (spent >= SOON_MS) {
                fail_msg("'%s' on %zu bytes: %.1f ms", patterns[i], sizes[s], spent);
            }
            weir_regex_destroy(&regex);
        }
    }
    free(text);
}

static void the_bound_is_told_from_no_match(void **state)
{
    (void)state;
    char *text = malloc(MB);
    memset(text, 'a', MB);
    text[MB - 1] = '!';
    weir_regex *regex = compiled("(a+)+$");
    assert_int_equal(weir_regex_search(regex, text, MB, 0, NULL, 0, NULL),
                     WEIR_MATCH_BOUND);
    text[MB - 1] = 'a'; // the same regex still finds what is there
    assert_int_equal(weir_regex_search(regex, text, MB, 0, NULL, 0, NULL),
                     WEIR_MATCH_YES);
    assert_int_equal(weir_regex_search(regex, "baa", 3, 0, NULL, 0, NULL),
                     WEIR_MATCH_YES);
    weir_regex_destroy(&regex);
    free(text);
}

static void long_texts_are_searched_to_their_end(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        const char *tail;
        weir_match found;
    } cases[] = {
        {"needle", "needle", WEIR_MATCH_YES},
        {"needle$", "needle?", WEIR_MATCH_NO},
        {"(\\w+)=(\\d+)$", " key=12", WEIR_MATCH_YES},
        {"first.*last", "last", WEIR_MATCH_YES},
        {"first.*lost", "last", WEIR_MATCH_NO},
        {"error|fatal", "fatal", WEIR_MATCH_YES},
    };
    size_t size = 900000;
    char *text = malloc(size);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t tail = strlen(cases[i].tail);
        for (size_t at = 0; at < size; at++)
            text[at] = "some words of a log line, "[at % 26];
        memcpy(text, "first", 5);
        memcpy(text + size - tail, cases[i].tail, tail);
        weir_regex *regex = compiled(cases[i].pattern);
        size_t span[3][2];
        size_t count;
        weir_match found = weir_regex_search(regex, text, size, 0, span, 3, &count);
        if (found != cases[i].found) fail_msg("'%s': %d", cases[i].pattern, (int)found);
        if (found == WEIR_MATCH_YES) assert_int_equal(span[0][1], size);
        weir_regex_destroy(&regex);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_anywhere_in_bytes),
        cmocka_unit_test(text_may_hold_nul_bytes),
        cmocka_unit_test(spans_name_the_match_and_its_groups),
        cmocka_unit_test(search_begins_at_start_and_sees_what_lies_before),
        cmocka_unit_test(mistakes_are_told_with_their_position),
        cmocka_unit_test(settings_and_callouts_are_refused),
        cmocka_unit_test(too_large_patterns_are_refused),
        cmocka_unit_test(catastrophic_patterns_end_in_time),
        cmocka_unit_test(the_bound_is_told_from_no_match),
        cmocka_unit_test(long_texts_are_searched_to_their_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
