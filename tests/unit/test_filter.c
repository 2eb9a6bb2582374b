#include "runtime/filter.h"
#include "runtime/codec.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define MB ((size_t)1 << 20)

static weir_filter *compiled(const char *text)
{
    weir_filter *filter = NULL;
    weir_report report = {0};
    size_t column = 0;
    weir_err err = weir_filter_new(&filter, text, &column, &report);
    if (err) fail_msg("%s\ncolumn %zu: %s", text, column, report.text);
    return filter;
}

static weir_record payload(weir_format format, const void *data, size_t size)
{
    return (weir_record){.format = format, .data = data, .size = size};
}

static weir_verdict verdict_on(const char *text, weir_subject *subject)
{
    weir_doc doc = {0};
    subject->doc = &doc;
    subject->state = WEIR_UNPARSED;
    weir_filter *filter = compiled(text);
    weir_verdict verdict = weir_filter_match(filter, subject);
    assert_int_equal(weir_filter_match(filter, subject), verdict);
    weir_filter_destroy(&filter);
    assert_null(filter);
    weir_doc_fini(&doc);
    return verdict;
}

static weir_verdict on_payload(const char *text, weir_format format, const char *data)
{
    weir_subject subject = {.record = payload(format, data, strlen(data))};
    return verdict_on(text, &subject);
}

static const char *verdict_name(weir_verdict verdict)
{
    return verdict == WEIR_TRUE ? "true" : verdict == WEIR_FALSE ? "false" : "unknown";
}

static void expect(weir_verdict expected, const char *text, const char *json)
{
    weir_verdict verdict = on_payload(text, WEIR_JSON, json);
    if (verdict != expected) {
        fail_msg("%s  on  %s: %s", text, json, verdict_name(verdict));
    }
}

static void is_true(const char *text, const char *json)
{
    expect(WEIR_TRUE, text, json);
}

static void is_false(const char *text, const char *json)
{
    expect(WEIR_FALSE, text, json);
}

/*  --- the tests of the language ----------------------------------------------------  */

static void numbers_compare_by_exact_value(void **state)
{
    (void)state;
    is_true("1 == 1.0", "{}");
    is_true("x == 1", "{\"x\":1.0}");
    is_true("x == 1e2", "{\"x\":100}");
    is_true("x < 9007199254740993", "{\"x\":9007199254740992.0}");
    is_false("x == 9007199254740993", "{\"x\":9007199254740992.0}");
    is_true("x == 18446744073709551615", "{\"x\":18446744073709551615}");
    is_true("x > 9223372036854775807", "{\"x\":18446744073709551615}");
    is_true("x > -9223372036854775808", "{\"x\":9223372036854775808}");
    is_true("x == -9223372036854775808", "{\"x\":-9223372036854775808}");
    is_true("x == -0", "{\"x\":0}");
    is_true("x == 0", "{\"x\":-0.0}");
    is_true("x >= 500 and x < 600", "{\"x\":500}");
    is_false("x >= 500 and x < 600", "{\"x\":600}");
    is_true("x <= 2.5", "{\"x\":2.5}");
    is_false("x < 2.5", "{\"x\":2.5}");
    is_true("500 <= x", "{\"x\":500}");
    is_true("x > -1", "{\"x\":-0.5}");
}

static void nan_equals_nothing_and_has_no_order(void **state)
{
    (void)state;
    static const uint8_t nan[] = {0x81, 0xa1, 'x', 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0};
    static const struct {
        const char *text;
        weir_verdict verdict;
    } cases[] = {
        {"x == x", WEIR_FALSE}, {"x != x", WEIR_TRUE},       {"x != 1", WEIR_TRUE},
        {"x <= x", WEIR_FALSE}, {"x > 1", WEIR_FALSE},       {"not x > 1", WEIR_TRUE},
        {"has x", WEIR_TRUE},   {"x not in (1)", WEIR_TRUE}, {"x in (1, 2)", WEIR_FALSE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_subject subject = {.record = payload(WEIR_MSGPACK, nan, sizeof nan)};
        assert_int_equal(verdict_on(cases[i].text, &subject), cases[i].verdict);
    }
}

static void nothing_is_converted(void **state)
{
    (void)state;
    is_true("'1' != 1", "{}");
    is_false("x == 1", "{\"x\":\"1\"}");
    is_true("x != 1", "{\"x\":\"1\"}");
    is_false("x < 2", "{\"x\":\"1\"}");
    is_false("x >= 0", "{\"x\":true}");
    is_false("x == 1", "{\"x\":true}");
    is_false("x == ''", "{\"x\":null}");
    is_false("x == false", "{\"x\":null}");
    is_false("x == 0", "{\"x\":false}");
    is_false("x ~ '1'", "{\"x\":1}");
    is_false("x prefix '1'", "{\"x\":12}");
}

static void true_false_and_null_are_equal_to_themselves_only(void **state)
{
    (void)state;
    is_true("x == true", "{\"x\":true}");
    is_true("x != true", "{\"x\":false}");
    is_true("x == null", "{\"x\":null}");
    is_false("x != null", "{\"x\":null}");
    is_false("x < true", "{\"x\":false}");
    is_false("x <= null", "{\"x\":null}");
    is_false("x >= true", "{\"x\":true}");
    is_true("null == null and true == true and true != false", "{}");
}

static void texts_compare_by_bytes(void **state)
{
    (void)state;
    is_true("x < 'b'", "{\"x\":\"a\"}");
    is_true("x < 'aa'", "{\"x\":\"a\"}");
    is_true("x > 'Z'", "{\"x\":\"a\"}");
    is_true("x < '\\u00e9'", "{\"x\":\"z\"}");
    is_true("x == ''", "{\"x\":\"\"}");
    is_true("x <= 'a' and x >= 'a'", "{\"x\":\"a\"}");
    is_false("x == 'a'", "{\"x\":\"A\"}");
    is_true("a == b", "{\"a\":\"x\\n\\u0041\",\"b\":\"x\\u000aA\"}");
    is_true("a < b", "{\"a\":\"\\u0041\",\"b\":\"\\u0042\"}");
    is_false("a == b", "{\"a\":\"x\",\"b\":\"y\"}");
}

static void escapes_are_those_of_json_and_the_apostrophe(void **state)
{
    (void)state;
    is_true("x == '\\\"\\\\\\/\\b\\f\\n\\r\\t\\''",
            "{\"x\":\"\\\"\\\\/\\b\\f\\n\\r\\t'\"}");
    is_true("x == \"it's\"", "{\"x\":\"it's\"}");
    is_true("x == 'say \"hi\"'", "{\"x\":\"say \\\"hi\\\"\"}");
    is_true("x == '\\u00e9\\u20ac'", "{\"x\":\"\xc3\xa9\xe2\x82\xac\"}");
    is_true("x == '\\ud83d\\uDE00'", "{\"x\":\"\xf0\x9f\x98\x80\"}");
    is_true("x == '\\ud83d'", "{\"x\":\"\\ud83d\"}");
    is_true("x == '\\ud83d\\u0041'", "{\"x\":\"\\ud83dA\"}");
    is_true("x contains '\\u0000'", "{\"x\":\"a\\u0000b\"}");
}

static void text_operators_work_on_texts(void **state)
{
    (void)state;
    is_true("x prefix 'ab'", "{\"x\":\"abc\"}");
    is_false("x prefix 'abcd'", "{\"x\":\"abc\"}");
    is_true("x suffix 'bc'", "{\"x\":\"abc\"}");
    is_false("x suffix 'ab'", "{\"x\":\"abc\"}");
    is_true("x contains 'b'", "{\"x\":\"abc\"}");
    is_false("x contains 'd'", "{\"x\":\"abc\"}");
    is_true("x prefix '' and x suffix '' and x contains ''", "{\"x\":\"\"}");
    is_true("x contains y", "{\"x\":\"a\\tb\",\"y\":\"\\u0009\"}");
    is_true("'abc' contains x", "{\"x\":\"b\"}");
    is_true("x ~ '^/api/v[0-9]+'", "{\"x\":\"/api/v2/users\"}");
    is_true("x ~ 'v\\\\d'", "{\"x\":\"/api/v2\"}");
    is_true("x ~ '^a.b$'", "{\"x\":\"a\\u0009b\"}");
    is_false("x ~ 'z'", "{\"x\":\"abc\"}");
    is_true("'abc' ~ 'b'", "{}");
}

static void contains_finds_an_element(void **state)
{
    (void)state;
    is_true("x contains 2", "{\"x\":[1, 2.0 ,3]}");
    is_false("x contains '2'", "{\"x\":[1,2,3]}");
    is_true("x contains 'b'", "{\"x\":[\"a\",\"\\u0062\"]}");
    is_true("x contains null", "{\"x\":[null]}");
    is_true("x contains false", "{\"x\":[[],{},false]}");
    is_false("x contains 1", "{\"x\":[]}");
    is_false("x contains 1", "{\"x\":[[1],{\"a\":1}]}");
    is_false("x contains 'a'", "{\"x\":{\"a\":1}}");
    is_false("x contains y", "{\"x\":[[1]],\"y\":[1]}");
    is_true("x contains y", "{\"x\":[5],\"y\":5}");
}

static void in_compares_with_each_literal(void **state)
{
    (void)state;
    is_true("x in (1, 'a', null, true)", "{\"x\":\"a\"}");
    is_true("x in (1, 'a', null, true)", "{\"x\":null}");
    is_true("x in (1,'a',null,true)", "{\"x\":1.0}");
    is_false("x in (1, 'a')", "{\"x\":2}");
    is_true("x not in (1, 'a')", "{\"x\":2}");
    is_false("x not in (1, 'a')", "{\"x\":\"a\"}");
    is_true("x not in (1)", "{\"x\":[1]}");
    is_true("3 in (1, 2, 3)", "{}");
}

static void arrays_and_maps_equal_nothing(void **state)
{
    (void)state;
    is_false("x == x", "{\"x\":[1]}");
    is_true("x != x", "{\"x\":[1]}");
    is_false("x == x", "{\"x\":{}}");
    is_true("x != null", "{\"x\":[]}");
    is_false("x < 1", "{\"x\":[]}");
}

static void on_a_missing_field_every_test_is_false(void **state)
{
    (void)state;
    static const char *const tests[] = {
        "x == 1",   "x != 1",       "x < 1",       "x <= 1",      "x > 1",
        "x >= 1",   "x ~ ''",       "x prefix ''", "x suffix ''", "x contains ''",
        "x in (1)", "x not in (1)", "has x",       "x",           "1 != x",
        "x == x",   "x != null",    "null != x",   "x.y != 1",    "x[0] != 1",
    };
    char inverted[64];
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        is_false(tests[i], "{\"y\":1}");
        snprintf(inverted, sizeof inverted, "not %s", tests[i]);
        is_true(inverted, "{\"y\":1}");
    }
    is_true("has x", "{\"x\":null}");
    is_true("x == null", "{\"x\":null}");
}

static void has_looks_at_the_path_only(void **state)
{
    (void)state;
    is_true("has x", "{\"x\" : 1}");
    is_false("has x", "{\"y\":{\"x\":1}}");
    is_false("has x", "{\"y\":[{\"x\":1}]}");
    is_false("has x", "{\"y\":\"{\\\"x\\\" : 1}\"}");
    is_false("has x", "{\"y\":\"x\"}");
    is_true("has y.x", "{\"y\":{\"x\":null}}");
    is_true("has y[0].x", "{\"y\":[{\"x\":1}]}");
    is_false("has x", "[{\"x\":1}]");
    is_false("has x", "1");
}

static void paths_go_down(void **state)
{
    (void)state;
    const char *json = "{\"a\":{\"b\":[10,{\"c d\":\"deep\"}],\"in\":7},"
                       "\"has\":8,\"\":9,\"x`\":1,\"\\u00e9\":2,\"not\":true}";
    is_true("a.b[0] == 10", json);
    is_true("a.b[1].`c d` == 'deep'", json);
    is_true("a . b [ 0 ] == 10", json);
    is_false("has a.b[2]", json);
    is_false("has a.b.c", json);
    is_false("has a[0]", json);
    is_true("a.in == 7", json);
    is_true("`has` == 8", json);
    is_true("`` == 9", json);
    is_true("`\xc3\xa9` == 2", json);
    is_true("`not`", json);
    is_true("`a`.`b`[4294967295] == 1 or true == true", json);
}

static void a_lone_path_is_true_if_its_value_is_true(void **state)
{
    (void)state;
    is_true("x", "{\"x\":true}");
    is_false("x", "{\"x\":false}");
    is_false("x", "{\"x\":1}");
    is_false("x", "{\"x\":\"true\"}");
    is_true("not x", "{\"x\":null}");
    is_true("a.x and not b", "{\"a\":{\"x\":true}}");
}

static void the_last_of_duplicates_counts(void **state)
{
    (void)state;
    is_true("x == 2", "{\"x\":1,\"x\":2}");
    is_true("y.x == 2", "{\"y\":{\"x\":1,\"x\":2}}");
}

static void and_or_and_not_bind_as_in_the_grammar(void **state)
{
    (void)state;
    const char *json = "{\"t\":true,\"f\":false}";
    is_true("t or f and f", json);
    is_false("(t or f) and f", json);
    is_true("not f and t", json);
    is_false("not (t and t)", json);
    is_true("not not t", json);
    is_true("not t == false", json);
    is_true("f or f or f or t", json);
    is_false("t and t and t and f", json);
    is_true("(t and f) or (t and t)", json);
    is_true("not (f or f) and not (t and f)", json);
}

/*  --- beside the payload -------------------------------------------------------------
 */

static weir_subject full_subject(weir_buffer *headers)
{
    weir_put_map(headers, 2);
    weir_put_str(headers, "tenant", 6);
    weir_put_str(headers, "acme", 4);
    weir_put_str(headers, "a b", 3);
    weir_put_int(headers, 7);
    weir_subject subject = {.record = payload(WEIR_JSON, "{\"x\":1}", 7)};
    subject.record.has_ts = true;
    subject.record.ts_ms = 1700000000123;
    subject.record.headers = headers->data;
    subject.record.headers_size = headers->size;
    subject.record.key =
        (weir_value){.type = WEIR_STR, .data = (const uint8_t *)"k1", .size = 2};
    subject.source = "access";
    subject.peer = "edge-7";
    static const weir_place place = {.nonce = 1, .shard = 3, .offset = UINT64_MAX - 2};
    subject.place = &place; // of the first of its run
    subject.record.in_run = 2;
    return subject;
}

static void names_with_a_dollar_are_the_records_own(void **state)
{
    (void)state;
    static const char *const tests[] = {
        "$headers.tenant == 'acme'",
        "$headers.`a b` == 7",
        "not has $headers.other",
        "$raw == '{\"x\":1}'",
        "$raw ~ '\"x\":[0-9]'",
        "$source == 'access'",
        "$peer prefix 'edge-'",
        "$key == 'k1'",
        "$key in ('k0', 'k1')",
        "$ts >= 1700000000000 and $ts < 1700000001000",
        "$shard == 3",
        "$offset == 18446744073709551615",
        "has $offset and has $key",
    };
    weir_buffer headers = {0};
    weir_subject subject = full_subject(&headers);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (verdict_on(tests[i], &subject) != WEIR_TRUE) fail_msg("%s", tests[i]);
        assert_int_equal(subject.state, WEIR_UNPARSED); // none needs the payload
    }
    weir_buffer_fini(&headers);
}

static void what_a_record_does_not_carry_is_missing(void **state)
{
    (void)state;
    static const char *const names[] = {"$headers.a", "$source", "$peer",  "$key",
                                        "$ts",        "$shard",  "$offset"};
    char text[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(text, sizeof text, "has %s", names[i]);
        is_false(text, "{}");
        snprintf(text, sizeof text, "%s != 1", names[i]);
        is_false(text, "{}");
    }
    static const uint8_t map[] = {0x80};
    weir_subject subject = {.record = payload(WEIR_MSGPACK, map, sizeof map)};
    assert_int_equal(verdict_on("has $raw", &subject), WEIR_FALSE);
}

static void keys_keep_their_type(void **state)
{
    (void)state;
    weir_subject subject = {.record = payload(WEIR_JSON, "{}", 2)};
    subject.record.key = (weir_value){.type = WEIR_INT, .integer = 42};
    assert_int_equal(verdict_on("$key == 42", &subject), WEIR_TRUE);
    assert_int_equal(verdict_on("$key == '42'", &subject), WEIR_FALSE);
    subject.record.key =
        (weir_value){.type = WEIR_BIN, .data = (const uint8_t *)"\xff\x01", .size = 2};
    assert_int_equal(verdict_on("$key ~ '\\u0001'", &subject), WEIR_TRUE);
}

static void needs_store_tells_of_shard_and_offset(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool needs;
    } cases[] = {
        {"$shard == 1", true},
        {"x == 1 or not has $offset", true},
        {"$ts > 1 and $key == 1", false},
        {"`$shard` == 1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_filter *filter = compiled(cases[i].text);
        assert_int_equal(weir_filter_needs_store(filter), cases[i].needs);
        weir_filter_destroy(&filter);
    }
}

/*  --- unknown ------------------------------------------------------------------------
 */

static void a_broken_payload_makes_every_field_unknown(void **state)
{
    (void)state;
    static const char *const tests[] = {
        "x == 1",
        "x != 1",
        "not x == 1",
        "has x",
        "not has x",
        "x",
        "not x",
        "x ~ 'a'",
        "x in (1)",
        "x not in (1)",
        "1 < x",
        "$key == x",
        "x and x.y",
        "x == 1 or x != 1",
        "not (x == 1 and $raw ~ 'b')",
    };
    static const char *const broken[] = {"{\"x\":1", "", "{}}", "{x:1}", "\xff"};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        for (size_t k = 0; k < sizeof broken / sizeof *broken; k++)
            expect(WEIR_UNKNOWN, tests[i], broken[k]);
    }
    static const uint8_t packed[] = {0x81, 0xa1, 'x'};
    weir_subject subject = {.record = payload(WEIR_MSGPACK, packed, sizeof packed)};
    assert_int_equal(verdict_on("x != 1", &subject), WEIR_UNKNOWN);
}

static void raw_has_a_verdict_on_a_broken_payload(void **state)
{
    (void)state;
    is_true("$raw ~ 'x'", "{\"x\":1");
    is_false("$raw ~ 'y'", "{\"x\":1");
    is_true("not $raw ~ 'y' and has $raw", "{\"x\":1");
    is_false("$key == 1", "{\"x\":1");
    is_true("1 == 1", "{\"x\":1");
}

static void on_text_every_field_is_missing(void **state)
{
    (void)state;
    assert_int_equal(on_payload("x != 1", WEIR_TEXT, "{\"x\":2}"), WEIR_FALSE);
    assert_int_equal(on_payload("not x != 1", WEIR_TEXT, "{\"x\":2}"), WEIR_TRUE);
    assert_int_equal(on_payload("has x", WEIR_TEXT, "{\"x\":2}"), WEIR_FALSE);
    assert_int_equal(on_payload("$raw ~ '\"x\"'", WEIR_TEXT, "{\"x\":2}"), WEIR_TRUE);
    assert_int_equal(on_payload("$raw == 'a b'", WEIR_TEXT, "a b"), WEIR_TRUE);
}

static void what_is_decided_needs_no_field(void **state)
{
    (void)state;
    const char *broken = "{\"x\":1";
    is_true("$raw ~ 'x' or status == 5", broken);
    expect(WEIR_UNKNOWN, "$raw ~ 'y' or status == 5", broken);
    expect(WEIR_UNKNOWN, "status == 5 or $raw ~ 'x'", broken);
    is_false("$raw ~ 'y' and status == 5", broken);
    expect(WEIR_UNKNOWN, "$raw ~ 'x' and status == 5", broken);
    is_true("not ($raw ~ 'y' and status == 5)", broken);
}

static void the_bound_of_a_match_is_unknown_in_time(void **state)
{
    (void)state;
    char *text = malloc(MB + 1);
    memset(text, 'a', MB);
    text[MB - 1] = '!';
    text[MB] = 0;
    struct timespec begin, end;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    weir_subject subject = {.record = payload(WEIR_TEXT, text, MB)};
    weir_filter *filter = compiled("not $raw ~ '(a+)+$'");
    weir_doc doc = {0};
    subject.doc = &doc;
    assert_int_equal(weir_filter_match(filter, &subject), WEIR_UNKNOWN);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    weir_filter_destroy(&filter);
    double spent_ms = (double)(end.tv_sec - begin.tv_sec) * 1e3 +
                      (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
    assert_true(spent_ms < 100);
    free(text);
}

/*  --- mistakes -----------------------------------------------------------------------
 */

static void mistakes_have_a_column_and_a_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t column;
        const char *says;
    } cases[] = {
        {"x = 1", 3, "write '=='"},
        {"x ~= 1", 3, "write '!='"},
        {"x =~ 'a'", 3, "write '~'"},
        {"x === 1", 3, "write '=='"},
        {"x <> 1", 3, "write '!='"},
        {"x == 1 && y == 2", 8, "write 'and'"},
        {"x == 1 || y == 2", 8, "write 'or'"},
        {"!x", 1, "write 'not'"},
        {"x startswith 'a'", 3, "'prefix'"},
        {"x prefx 'a'", 3, "did you mean 'prefix'?"},
        {"x frobnicates 1", 3, "unknown operator 'frobnicates'"},
        {"x == 1 an y == 2", 8, "expected"},
        {"(x == 1", 8, "column 1"},
        {"not (x == 1 or (y == 2)", 24, "column 5"},
        {"x == 1)", 7, "no '(' is open"},
        {"(x == 1 y", 9, "')'"},
        {"(x) == 1", 5, "expected"},
        {"x == 'abc", 6, "no closing '"},
        {"x == \"abc'", 6, "no closing \""},
        {"`abc == 1", 1, "no closing `"},
        {"x == 'a\\'", 6, "no closing '"},
        {"x ~ '\\d+'", 6, "\\\\d"},
        {"x == '\\u12g4'", 7, "hexadecimal"},
        {"x == 18446744073709551616", 6, "out of range"},
        {"x == -9223372036854775809", 6, "out of range"},
        {"x == 1e999", 6, "out of range"},
        {"x == 007", 6, "leading zeros"},
        {"x == 1.", 7, "digits are missing"},
        {"x == 1e+", 7, "exponent"},
        {"x == 5xx", 7, "letter"},
        {"user-agent == 'x'", 5, "backquotes"},
        {"x ~ 'a(b'", 5, "byte 4"},
        {"x ~ '(*NO_JIT)a'", 5, "setting"},
        {"x ~ y", 5, "pattern as a text"},
        {"x ~ 1", 5, "pattern as a text"},
        {"$shar == 1", 1, "did you mean '$shard'?"},
        {"$header.x == 1", 1, "did you mean '$headers'?"},
        {"$frobnicate == 1", 1, "$headers.name"},
        {"$ == 1", 1, "unknown name"},
        {"$headers == 1", 10, "$headers.name"},
        {"$headers.a.b == 1", 11, "no fields"},
        {"$raw.x == 1", 5, "no fields"},
        {"$ts[0] == 1", 4, "no fields"},
        {"", 1, "empty"},
        {"  ", 1, "empty"},
        {"x ==", 5, "ends"},
        {"x and", 6, "ends"},
        {"not", 4, "ends"},
        {"x == in", 6, "backquotes"},
        {"true", 1, "literal alone"},
        {"x or 5", 6, "literal alone"},
        {"has 5", 5, "expected"},
        {"has true", 5, "backquotes"},
        {"x in 5", 6, "list"},
        {"x in ()", 7, "at least one"},
        {"x in (1, y)", 10, "list"},
        {"x in (1 2)", 9, "','"},
        {"x in (1", 8, "column 6"},
        {"x not 5", 7, "'in'"},
        {"a[x] == 1", 3, "index"},
        {"a[-1] == 1", 3, "index"},
        {"a[1.5] == 1", 3, "index"},
        {"a[4294967296] == 1", 3, "index"},
        {"a[1 == 1", 5, "']'"},
        {"a.1 == 1", 3, "a[0]"},
        {"a. == 1", 4, "name"},
        {"1 < x < 3", 7, "'and'"},
        {"x == 1 y == 2", 8, "'and' or 'or'"},
        {"x == #1", 6, "no meaning"},
        {"x == \xc3\xa9", 6, "0xc3"},
        {"has x == 1", 7, "'and'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_filter *filter = (weir_filter *)&state;
        weir_report report = {0};
        size_t column = 0;
        weir_err err = weir_filter_new(&filter, cases[i].text, &column, &report);
        if (err != WEIR_EINVAL || filter) fail_msg("accepted: %s", cases[i].text);
        if (column != cases[i].column || !strstr(report.text, cases[i].says)) {
            fail_msg("%s\ncolumn %zu: %s", cases[i].text, column, report.text);
        }
    }
}

/*  n parentheses, or n times `not`, around one test.                                  */
static weir_err nested(size_t n, bool inverted)
{
    char text[1024] = "";
    for (size_t i = 0; i < n; i++)
        strcat(text, inverted ? "not " : "(");
    strcat(text, "x == 1");
    for (size_t i = 0; i < n && !inverted; i++)
        strcat(text, ")");
    weir_filter *filter = NULL;
    weir_report report = {0};
    size_t column;
    weir_err err = weir_filter_new(&filter, text, &column, &report);
    if (err) assert_non_null(strstr(report.text, "64 levels"));
    if (err) assert_int_equal(column, inverted ? 257 : 65);
    weir_filter_destroy(&filter);
    return err;
}

static void sixty_four_levels_and_no_more(void **state)
{
    (void)state;
    assert_int_equal(nested(64, false), WEIR_OK);
    assert_int_equal(nested(65, false), WEIR_EINVAL);
    assert_int_equal(nested(64, true), WEIR_OK);
    assert_int_equal(nested(65, true), WEIR_EINVAL);
    is_true("not (not (not (not (x))))", "{\"x\":true}");
}

static void four_kilobytes_and_no_more(void **state)
{
    (void)state;
    char text[4098];
    memset(text, ' ', sizeof text);
    memcpy(text, "x == 1", 6);
    text[4096] = 0;
    weir_filter *filter = compiled(text);
    weir_filter_destroy(&filter);
    text[4096] = ' ';
    text[4097] = 0;
    weir_report report = {0};
    size_t column = 0;
    assert_int_equal(weir_filter_new(&filter, text, &column, &report), WEIR_EINVAL);
    assert_int_equal(column, 4097);
    assert_non_null(strstr(report.text, "4096 bytes"));
}

static void an_expression_may_be_full_of_tests(void **state)
{
    (void)state;
    char text[4097];
    size_t size = 0;
    while (size + 6 < sizeof text)
        size += (size_t)snprintf(text + size, sizeof text - size, "``or");
    snprintf(text + size, sizeof text - size, " t");
    is_true(text, "{\"t\":true}");
    is_true(text, "{\"\":true}");
    is_false(text, "{\"t\":false}");
}

/*  --- random ones ----------------------------------------------------------------------
 */

static uint64_t seed;

static uint64_t random_bits(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1d;
}

static unsigned below(unsigned n)
{
    return (unsigned)((random_bits() >> 33) % n);
}

static void plant(void)
{
    const char *given = getenv("WEIR_SEED");
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    if (seed == 0) seed = 1;
    print_message("WEIR_SEED=%llu\n", (unsigned long long)seed);
}

/*  An expression of t (true), f (false) and u (unknown on a broken payload), and what
    it must come to by the rule: left to right, unknown at once.                        */
static weir_verdict random_logic(weir_buffer *text, unsigned depth)
{
    static const char *const atoms[] = {"$raw~'x'", "$raw~'y'", "u"};
    weir_verdict left, right;
    switch (depth ? below(5) : 4) {
    case 0:
        weir_buffer_put_text(text, "not ");
        weir_buffer_put_text(text, "(");
        left = random_logic(text, depth - 1);
        weir_buffer_put_text(text, ")");
        return left == WEIR_UNKNOWN ? left : left == WEIR_TRUE ? WEIR_FALSE : WEIR_TRUE;
    case 1:
    case 2:
        weir_buffer_put_text(text, "(");
        left = random_logic(text, depth - 1);
        weir_buffer_put_text(text, ") and (");
        right = random_logic(text, depth - 1);
        weir_buffer_put_text(text, ")");
        return left == WEIR_TRUE ? right : left;
    case 3:
        weir_buffer_put_text(text, "(");
        left = random_logic(text, depth - 1);
        weir_buffer_put_text(text, ") or (");
        right = random_logic(text, depth - 1);
        weir_buffer_put_text(text, ")");
        return left == WEIR_FALSE ? right : left;
    default:
        left = (weir_verdict)(below(8) ? below(2) : 2);
        weir_buffer_put_text(text, atoms[left == WEIR_UNKNOWN ? 2 : left == WEIR_FALSE]);
        return left;
    }
}

static void random_logic_follows_the_rule(void **state)
{
    (void)state;
    plant();
    unsigned seen[3] = {0};
    for (int i = 0; i < 5000; i++) {
        weir_buffer text = {0};
        weir_verdict expected = random_logic(&text, 6);
        weir_buffer_put_byte(&text, 0);
        if (text.size <= 4097) {
            expect(expected, (const char *)text.data, "{\"x\":");
            seen[expected]++;
        }
        weir_buffer_fini(&text);
    }
    assert_true(seen[0] > 100 && seen[1] > 100 && seen[2] > 100);
}

/*  One document in both formats.                                                       */
typedef struct {
    weir_buffer json;
    weir_buffer packed;
} twin;

static const char *const texts[] = {
    "",
    "a",
    "b",
    "ab",
    "abc",
    "GET /api/v1/users",
    "true",
    "1",
    "\xc3\xa9",
    "\xe2\x82\xac",
    "\xf0\x9f\x98\x80",
    "line\nbreak",
    "tab\tquote\"",
    "\\",
};

static const char *const field_names[] = {"a", "b", "c", "x y", "\xc3\xa9", "n\"q", "in"};

static void space(twin *self)
{
    for (unsigned n = below(6); n > 4; n--)
        weir_buffer_put_byte(&self->json, " \t\n\r"[below(4)]);
}

/*  Each character of the Basic Latin block as itself or as an escape.                  */
static void put_text(twin *self, const char *text)
{
    weir_put_str(&self->packed, text, strlen(text));
    weir_buffer_put_byte(&self->json, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool must = c < 0x20 || c == '"' || c == '\\';
        if (must || (c < 0x80 && below(8) == 0)) {
            weir_buffer_printf(&self->json, "\\u%04x", c);
        } else {
            weir_buffer_put_byte(&self->json, c);
        }
    }
    weir_buffer_put_byte(&self->json, '"');
}

static void put_number(twin *self)
{
    static const double reals[] = {0.5,   -1.25, 1e300, 1.0, -0.0, 9007199254740993.0,
                                   5e-324};
    int64_t integer = (int64_t)random_bits() >> below(64);
    double real = reals[below(7)];
    switch (below(4)) {
    case 0:
        weir_put_uint(&self->packed, UINT64_MAX - below(3));
        weir_buffer_printf(&self->json, "%llu",
                           (unsigned long long)self->packed.data[self->packed.size - 1] +
                               (UINT64_MAX - 255));
        break;
    case 1:
        weir_put_float(&self->packed, real);
        weir_buffer_printf(&self->json, "%.17e", real);
        break;
    case 2:
        integer = (int64_t)below(5) - 2;
        /* fall through */
    default:
        weir_put_int(&self->packed, integer);
        weir_buffer_printf(&self->json, "%lld", (long long)integer);
    }
}

static void put_value(twin *self, unsigned depth);

static void put_map(twin *self, unsigned depth)
{
    unsigned count = below(6);
    weir_put_map(&self->packed, count);
    weir_buffer_put_byte(&self->json, '{');
    for (unsigned i = 0; i < count; i++) {
        if (i) weir_buffer_put_byte(&self->json, ',');
        space(self);
        put_text(self, field_names[below(7)]); // duplicates come about
        space(self);
        weir_buffer_put_byte(&self->json, ':');
        space(self);
        put_value(self, depth);
        space(self);
    }
    weir_buffer_put_byte(&self->json, '}');
}

static void put_array(twin *self, unsigned depth)
{
    unsigned count = below(5);
    weir_put_array(&self->packed, count);
    weir_buffer_put_byte(&self->json, '[');
    for (unsigned i = 0; i < count; i++) {
        if (i) weir_buffer_put_byte(&self->json, ',');
        space(self);
        put_value(self, depth);
        space(self);
    }
    weir_buffer_put_byte(&self->json, ']');
}

static void put_value(twin *self, unsigned depth)
{
    unsigned kind = below(depth ? 8 : 5);
    if (kind == 0) {
        weir_put_nil(&self->packed);
        weir_buffer_put_text(&self->json, "null");
    } else if (kind == 1) {
        bool value = below(2);
        weir_put_bool(&self->packed, value);
        weir_buffer_put_text(&self->json, value ? "true" : "false");
    } else if (kind == 2) {
        put_number(self);
    } else if (kind <= 4) {
        put_text(self, texts[below(sizeof texts / sizeof *texts)]);
    } else if (kind == 5) {
        put_array(self, depth - 1);
    } else {
        put_map(self, depth - 1);
    }
}

static void random_path(weir_buffer *text)
{
    for (unsigned left = 1 + below(3), first = 1; left > 0; left--, first = 0) {
        if (!first && below(4) == 0) {
            weir_buffer_printf(text, "[%u]", below(3));
        } else {
            weir_buffer_printf(text, "%s`%s`", first ? "" : ".", field_names[below(7)]);
        }
    }
}

static void random_literal(weir_buffer *text)
{
    static const char *const literals[] = {
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "1e300",
        "18446744073709551614",
        "-1.25",
        "''",
        "'a'",
        "'ab'",
        "'b'",
        "'\\u00e9'",
        "'true'",
        "'1'",
        "'GET /api/v1/users'",
        "'\\n'",
        "'\\\\'",
    };
    weir_buffer_put_text(text, literals[below(sizeof literals / sizeof *literals)]);
}

static void random_test(weir_buffer *text)
{
    static const char *const operators[] = {"==", "!=",       "<",      "<=",    ">",
                                            ">=", "contains", "prefix", "suffix"};
    static const char *const patterns[] = {"^a", "b$", "[0-9]", ".", "^$", "\\\\s"};
    unsigned kind = below(8);
    if (kind == 0) weir_buffer_put_text(text, "has ");
    random_path(text);
    if (kind == 1) {
        weir_buffer_printf(text, " ~ '%s'", patterns[below(6)]);
    } else if (kind == 2) {
        weir_buffer_put_text(text, below(2) ? " in (" : " not in (");
        random_literal(text);
        weir_buffer_put_text(text, ", ");
        random_literal(text);
        weir_buffer_put_text(text, ")");
    } else if (kind > 3) {
        weir_buffer_printf(text, " %s ", operators[below(9)]);
        below(3) ? random_literal(text) : random_path(text);
    }
}

static weir_filter *random_filter(weir_buffer *text)
{
    text->size = 0;
    random_test(text);
    while (below(2)) {
        weir_buffer_put_text(text, below(2) ? " and " : " or ");
        if (below(3) == 0) weir_buffer_put_text(text, "not ");
        random_test(text);
    }
    weir_buffer_put_byte(text, 0);
    return compiled((const char *)text->data);
}

#define FILTERS 200

static void json_and_messagepack_get_equal_verdicts(void **state)
{
    (void)state;
    plant();
    weir_filter *filters[FILTERS];
    weir_buffer sources[FILTERS] = {0};
    unsigned seen[3] = {0};
    for (int i = 0; i < FILTERS; i++)
        filters[i] = random_filter(&sources[i]);
    weir_doc docs[2] = {0};
    twin pair = {0};
    for (int n = 0; n < 10000; n++) {
        pair.json.size = pair.packed.size = 0;
        put_map(&pair, 4);
        weir_subject json = {.record = payload(WEIR_JSON, pair.json.data, pair.json.size),
                             .doc = &docs[0]};
        weir_subject packed = {
            .record = payload(WEIR_MSGPACK, pair.packed.data, pair.packed.size),
            .doc = &docs[1]};
        for (int i = 0; i < FILTERS; i++) {
            weir_verdict verdict = weir_filter_match(filters[i], &json);
            seen[verdict]++;
            if (verdict == weir_filter_match(filters[i], &packed)) continue;
            fail_msg("%s  on  %.*s: %s as JSON", (const char *)sources[i].data,
                     (int)pair.json.size, (const char *)pair.json.data,
                     verdict_name(verdict));
        }
    }
    assert_int_equal(seen[WEIR_UNKNOWN], 0);
    assert_true(seen[WEIR_TRUE] > 10000 && seen[WEIR_FALSE] > 10000);
    for (int i = 0; i < FILTERS; i++) {
        weir_filter_destroy(&filters[i]);
        weir_buffer_fini(&sources[i]);
    }
    weir_doc_fini(&docs[0]);
    weir_doc_fini(&docs[1]);
    weir_buffer_fini(&pair.json);
    weir_buffer_fini(&pair.packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_compare_by_exact_value),
        cmocka_unit_test(nan_equals_nothing_and_has_no_order),
        cmocka_unit_test(nothing_is_converted),
        cmocka_unit_test(true_false_and_null_are_equal_to_themselves_only),
        cmocka_unit_test(texts_compare_by_bytes),
        cmocka_unit_test(escapes_are_those_of_json_and_the_apostrophe),
        cmocka_unit_test(text_operators_work_on_texts),
        cmocka_unit_test(contains_finds_an_element),
        cmocka_unit_test(in_compares_with_each_literal),
        cmocka_unit_test(arrays_and_maps_equal_nothing),
        cmocka_unit_test(on_a_missing_field_every_test_is_false),
        cmocka_unit_test(has_looks_at_the_path_only),
        cmocka_unit_test(paths_go_down),
        cmocka_unit_test(a_lone_path_is_true_if_its_value_is_true),
        cmocka_unit_test(the_last_of_duplicates_counts),
        cmocka_unit_test(and_or_and_not_bind_as_in_the_grammar),
        cmocka_unit_test(names_with_a_dollar_are_the_records_own),
        cmocka_unit_test(what_a_record_does_not_carry_is_missing),
        cmocka_unit_test(keys_keep_their_type),
        cmocka_unit_test(needs_store_tells_of_shard_and_offset),
        cmocka_unit_test(a_broken_payload_makes_every_field_unknown),
        cmocka_unit_test(raw_has_a_verdict_on_a_broken_payload),
        cmocka_unit_test(on_text_every_field_is_missing),
        cmocka_unit_test(what_is_decided_needs_no_field),
        cmocka_unit_test(the_bound_of_a_match_is_unknown_in_time),
        cmocka_unit_test(mistakes_have_a_column_and_a_sentence),
        cmocka_unit_test(sixty_four_levels_and_no_more),
        cmocka_unit_test(four_kilobytes_and_no_more),
        cmocka_unit_test(an_expression_may_be_full_of_tests),
        cmocka_unit_test(random_logic_follows_the_rule),
        cmocka_unit_test(json_and_messagepack_get_equal_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
