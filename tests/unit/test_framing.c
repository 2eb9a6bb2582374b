#include "runtime/buffer.h"
#include "runtime/framing.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define KB 1024
#define MB (1024 * KB)

static const int64_t second_us = 1000000;

static weir_framer *open_framer(weir_framing framing, const char *begin,
                                size_t record_max)
{
    weir_framing_config config = {.framing = framing,
                                  .begin = begin,
                                  .max_bytes = record_max,
                                  .wait_us = 2 * second_us,
                                  .record_max = record_max};
    weir_framer *framer;
    weir_report report = {0};
    assert_int_equal(weir_framer_new(&framer, &config, &report), WEIR_OK);
    return framer;
}

/*  One line for each piece: kind, extent, bytes.                              */
static void pull(weir_framer *framer, int64_t now_us, weir_buffer *seen)
{
    static const char *const kinds[] = {"record", "oversize", "bad"};
    weir_framed piece;
    while (weir_framer_next(framer, now_us, &piece)) {
        weir_buffer_printf(seen, "%s %llu-%llu ", kinds[piece.kind],
                           (unsigned long long)piece.start,
                           (unsigned long long)piece.end);
        if (piece.kind == WEIR_PIECE_RECORD)
            assert_int_equal(piece.size, piece.whole_size);
        else
            weir_buffer_printf(seen, "%llu ", (unsigned long long)piece.whole_size);
        weir_buffer_put(seen, "<", 1);
        weir_buffer_put(seen, piece.data, piece.size);
        weir_buffer_printf(seen, ">%s\n", piece.error);
    }
}

/*  Feeds a copy of exactly this size, so that reading beyond it is noticed.   */
static void feed(weir_framer *framer, const char *data, size_t size, weir_buffer *seen)
{
    uint8_t *chunk = malloc(size + !size);
    memcpy(chunk, data, size);
    weir_framer_feed(framer, chunk, size);
    pull(framer, 0, seen);
    free(chunk);
}

static char *finish(weir_buffer *seen)
{
    weir_buffer_put_byte(seen, 0);
    return (char *)seen->data;
}

/*  All pieces of an input fed in chunks that end at `first` and `second`.     */
static char *cut(weir_framer *framer, const char *data, size_t size, size_t first,
                 size_t second)
{
    weir_buffer seen = {0};
    weir_framer_reset(framer, 0);
    feed(framer, data, first, &seen);
    feed(framer, data + first, second - first, &seen);
    feed(framer, data + second, size - second, &seen);
    weir_framer_end(framer);
    pull(framer, 0, &seen);
    assert_int_equal(weir_framer_pending(framer), 0);
    return finish(&seen);
}

/*  Checks the pieces of an input, however it is cut into three chunks.        */
static void expect_framed(weir_framer *framer, const char *data, size_t size,
                          const char *expected)
{
    for (size_t first = 0; first <= size; first++)
        for (size_t second = first; second <= size; second++) {
            char *seen = cut(framer, data, size, first, second);
            assert_string_equal(seen, expected);
            free(seen);
        }
}

static void expect(weir_framing framing, const char *begin, const char *data,
                   const char *expected)
{
    weir_framer *framer = open_framer(framing, begin, MB);
    expect_framed(framer, data, strlen(data), expected);
    weir_framer_destroy(&framer);
    assert_null(framer);
}

static void ndjson_trims_and_skips_blank_lines(void **state)
{
    (void)state;
    expect(WEIR_FRAMING_NDJSON, NULL, "{\"a\":1}\r\n\r\n \t\n\n  [2] \r\n\"x\"",
           "record 0-9 <{\"a\":1}>\n"
           "record 17-23 <[2]>\n"
           "record 23-26 <\"x\">\n");
    expect(WEIR_FRAMING_NDJSON, NULL, "", "");
    expect(WEIR_FRAMING_NDJSON, NULL, " \r\n  ", "");
    expect(WEIR_FRAMING_NDJSON, NULL, "1 \r ", "record 0-4 <1>\n");
}

static void lines_keep_all_but_their_end(void **state)
{
    (void)state;
    expect(WEIR_FRAMING_LINES, NULL, " a \r\n\n\r\nb\r\r\n\rc\nd\r",
           "record 0-5 < a >\n"
           "record 5-6 <>\n"
           "record 6-8 <>\n"
           "record 8-12 <b\r>\n"
           "record 12-15 <\rc>\n"
           "record 15-17 <d\r>\n");
    expect(WEIR_FRAMING_LINES, NULL, "", "");
    expect(WEIR_FRAMING_LINES, NULL, "a\n", "record 0-2 <a>\n");
}

static void blob_is_one_record(void **state)
{
    (void)state;
    expect(WEIR_FRAMING_BLOB, NULL, "a\nb\n", "record 0-4 <a\nb\n>\n");
    expect(WEIR_FRAMING_BLOB, NULL, "", "");
}

static void array_gives_elements(void **state)
{
    (void)state;
    expect(WEIR_FRAMING_ARRAY, NULL,
           " [1, \"]\" ,{\"a\":[\"}\\\"\",{}]}\n,[],-2.5e3 ,null ] \n",
           "record 2-3 <1>\n"
           "record 5-8 <\"]\">\n"
           "record 10-26 <{\"a\":[\"}\\\"\",{}]}>\n"
           "record 28-30 <[]>\n"
           "record 31-37 <-2.5e3>\n"
           "record 39-43 <null>\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[]", "");
    expect(WEIR_FRAMING_ARRAY, NULL, " \n", "");
    expect(WEIR_FRAMING_ARRAY, NULL, "[\"\\\\\",\"\\\\\\\"\"]",
           "record 1-5 <\"\\\\\">\nrecord 6-12 <\"\\\\\\\"\">\n");
}

static void array_errors_name_the_byte(void **state)
{
    (void)state;
    expect(WEIR_FRAMING_ARRAY, NULL, "[1,]",
           "record 1-2 <1>\nbad 3-4 1 <]>byte 3: expected a value\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[,1]",
           "bad 1-4 3 <,1]>byte 1: expected a value or ']'\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[1",
           "bad 1-2 1 <1>byte 2: the input ends in an element\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[1]x",
           "record 1-2 <1>\nbad 3-4 1 <x>byte 3: expected nothing behind the array\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[1 2]",
           "record 1-2 <1>\nbad 3-5 2 <2]>byte 3: expected ',' or ']'\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[[1]",
           "record 1-4 <[1]>\nbad 4-4 0 <>byte 4: the input ends before ']'\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[{\"a\":\"]}",
           "bad 1-9 8 <{\"a\":\"]}>byte 9: the input ends in an element\n");
    expect(WEIR_FRAMING_ARRAY, NULL, " {}", "bad 1-3 2 <{}>byte 1: expected '['\n");
    expect(WEIR_FRAMING_ARRAY, NULL, "[",
           "bad 1-1 0 <>byte 1: the input ends before ']'\n");
}

static void array_error_falls_due_without_an_end(void **state)
{
    (void)state;
    weir_framer *framer = open_framer(WEIR_FRAMING_ARRAY, NULL, MB);
    weir_buffer seen = {0};
    feed(framer, "[1]x", 4, &seen);
    assert_int_equal(weir_framer_deadline(framer), 2 * second_us);
    feed(framer, "yz", 2, &seen);
    pull(framer, 2 * second_us, &seen);
    assert_int_equal(weir_framer_deadline(framer), -1);
    feed(framer, "more", 4, &seen);
    weir_framer_end(framer);
    pull(framer, 2 * second_us, &seen);
    assert_string_equal(finish(&seen),
                        "record 1-2 <1>\n"
                        "bad 3-6 3 <xyz>byte 3: expected nothing behind the array\n");
    weir_buffer_fini(&seen);
    weir_framer_destroy(&framer);
}

static void array_hands_an_element_out_as_soon_as_it_is_complete(void **state)
{
    (void)state;
    weir_framer *framer = open_framer(WEIR_FRAMING_ARRAY, NULL, MB);
    weir_buffer seen = {0};
    feed(framer, "[{\"a\":1}", 8, &seen);
    feed(framer, ",\"b\"", 4, &seen);
    assert_string_equal(finish(&seen), "record 1-8 <{\"a\":1}>\nrecord 9-12 <\"b\">\n");
    weir_buffer_fini(&seen);
    weir_framer_destroy(&framer);
}

static void array_counts_nesting_without_recursion(void **state)
{
    (void)state;
    const size_t deep = 300000;
    char *text = malloc(2 * deep + 3);
    text[0] = '[';
    memset(text + 1, '[', deep);
    memset(text + 1 + deep, ']', deep + 1);
    weir_framer *framer = open_framer(WEIR_FRAMING_ARRAY, NULL, MB);
    weir_framer_feed(framer, (uint8_t *)text, 2 * deep + 2);
    weir_framed piece;
    assert_true(weir_framer_next(framer, 0, &piece));
    assert_int_equal(piece.kind, WEIR_PIECE_RECORD);
    assert_int_equal(piece.size, 2 * deep);
    assert_false(weir_framer_next(framer, 0, &piece));
    weir_framer_destroy(&framer);
    free(text);
}

static void resuming_at_any_end_gives_the_rest(void **state)
{
    (void)state;
    static const struct {
        weir_framing framing;
        const char *data;
    } rows[] = {
        {WEIR_FRAMING_NDJSON, "\n1\r\n\n 2 \n3\n\n"},
        {WEIR_FRAMING_LINES, "\n1\r\n\n 2 \n3\n\n"},
        {WEIR_FRAMING_ARRAY, " [1 , {\"a\" : [2]}\n,\"3\",4] "},
    };
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        const char *data = rows[row].data;
        size_t size = strlen(data);
        weir_framer *framer = open_framer(rows[row].framing, NULL, MB);
        char *whole = cut(framer, data, size, 0, 0);
        for (const char *rest = whole; *rest;) {
            unsigned long long start, end;
            assert_int_equal(sscanf(rest, "record %llu-%llu", &start, &end), 2);
            rest = strstr(rest, ">\n") + 2;
            weir_buffer seen = {0};
            weir_framer_reset(framer, end);
            feed(framer, data + end, size - end, &seen);
            weir_framer_end(framer);
            pull(framer, 0, &seen);
            assert_string_equal(finish(&seen), rest);
            weir_buffer_fini(&seen);
        }
        free(whole);
        weir_framer_destroy(&framer);
    }
}

static void begin_joins_lines(void **state)
{
    (void)state;
    expect(WEIR_FRAMING_LINES, "^[0-9]{4}-",
           "stray\n2026-1 error\r\n  at a\n  at b\n\n  at c\n2026-2 ok\n2026-3 ok\n tail",
           "record 0-6 <stray>\n"
           "record 6-42 <2026-1 error\n  at a\n  at b\n\n  at c>\n"
           "record 42-52 <2026-2 ok>\n"
           "record 52-67 <2026-3 ok\n tail>\n");
    expect(WEIR_FRAMING_LINES, "^-", "\n\n-\n", "record 0-2 <\n>\nrecord 2-4 <->\n");
}

static void joined_record_falls_due_after_its_last_line(void **state)
{
    (void)state;
    weir_framer *framer = open_framer(WEIR_FRAMING_LINES, "^[0-9]", MB);
    weir_buffer seen = {0};
    assert_int_equal(weir_framer_deadline(framer), -1);
    feed(framer, "1\n a\n b\n c\n", 11, &seen);
    weir_framer_feed(framer, (const uint8_t *)" d\n 2", 5);
    pull(framer, second_us, &seen);
    assert_int_equal(seen.size, 0);
    assert_int_equal(weir_framer_deadline(framer), 3 * second_us);
    assert_int_equal(weir_framer_pending(framer), 13 + 2);
    pull(framer, 3 * second_us - 1, &seen);
    assert_int_equal(seen.size, 0);
    pull(framer, 3 * second_us, &seen);
    assert_int_equal(weir_framer_deadline(framer), -1);
    weir_framer_end(framer);
    pull(framer, 3 * second_us, &seen);
    assert_string_equal(finish(&seen),
                        "record 0-14 <1\n a\n b\n c\n d>\nrecord 14-16 < 2>\n");
    weir_buffer_fini(&seen);
    weir_framer_destroy(&framer);
}

static void joined_record_ends_before_its_limit(void **state)
{
    (void)state;
    weir_framer *framer = open_framer(WEIR_FRAMING_LINES, "^[0-9]", 8);
    const char *data = "1\n 23456\n x\n\n1234567890\n y\n12345678\n\n";
    expect_framed(framer, data, strlen(data),
                  "record 0-9 <1\n 23456>\n"
                  "record 9-13 < x\n>\n"
                  "oversize 13-24 10 <1234567890>\n"
                  "record 24-27 < y>\n"
                  "record 27-36 <12345678>\n"
                  "record 36-37 <>\n");
    weir_framer_destroy(&framer);
}

static void only_a_record_above_the_limit_is_oversize(void **state)
{
    (void)state;
    weir_framer *framer = open_framer(WEIR_FRAMING_NDJSON, NULL, 4);
    const char *ndjson = "  1234  \r\n 12345 \n1   2\n1";
    expect_framed(framer, ndjson, strlen(ndjson),
                  "record 2-10 <1234>\n"
                  "oversize 11-18 5 <12345>\n"
                  "oversize 18-24 5 <1   2>\n"
                  "record 24-25 <1>\n");
    weir_framer_destroy(&framer);
    framer = open_framer(WEIR_FRAMING_LINES, NULL, 4);
    const char *lines = "1234\r\n1234 \n12345\n1234\r";
    expect_framed(framer, lines, strlen(lines),
                  "record 0-6 <1234>\n"
                  "oversize 6-12 5 <1234 >\n"
                  "oversize 12-18 5 <12345>\n"
                  "oversize 18-23 5 <1234\r>\n");
    weir_framer_destroy(&framer);
    framer = open_framer(WEIR_FRAMING_ARRAY, NULL, 4);
    const char *array = "[1234,\"123\",[12]]";
    expect_framed(framer, array, strlen(array),
                  "record 1-5 <1234>\n"
                  "oversize 6-11 5 <\"123\">\n"
                  "record 12-16 <[12]>\n");
    weir_framer_destroy(&framer);
    framer = open_framer(WEIR_FRAMING_BLOB, NULL, 4);
    expect_framed(framer, "12345", 5, "oversize 0-5 5 <12345>\n");
    weir_framer_destroy(&framer);
}

/*  A record of 100 MB in chunks of 256KB, then a small one.                   */
static void expect_bounded(weir_framing framing, const char *before, const char *behind)
{
    const size_t record_max = 8 * MB, chunk_size = 256 * KB;
    const uint64_t whole = 100 * MB;
    weir_framer *framer = open_framer(framing, NULL, record_max);
    uint8_t *chunk = malloc(chunk_size);
    weir_framed piece;
    weir_framer_feed(framer, (const uint8_t *)before, strlen(before));
    assert_false(weir_framer_next(framer, 0, &piece));
    memset(chunk, '7', chunk_size);
    size_t most = 0;
    for (uint64_t fed = 0; fed < whole; fed += chunk_size) {
        weir_framer_feed(framer, chunk, chunk_size);
        assert_false(weir_framer_next(framer, 0, &piece));
        if (weir_framer_pending(framer) > most) most = weir_framer_pending(framer);
    }
    assert_true(most <= record_max + 64 * KB);
    assert_int_equal(weir_framer_pending(framer), 64 * KB);
    weir_framer_feed(framer, (const uint8_t *)behind, strlen(behind));
    assert_true(weir_framer_next(framer, 0, &piece));
    assert_int_equal(piece.kind, WEIR_PIECE_OVERSIZE);
    assert_int_equal(piece.whole_size, whole);
    assert_int_equal(piece.size, 64 * KB);
    assert_memory_equal(piece.data, chunk, 64 * KB);
    assert_int_equal(piece.start, strlen(before));
    assert_true(weir_framer_next(framer, 0, &piece));
    assert_int_equal(piece.kind, WEIR_PIECE_RECORD);
    assert_int_equal(piece.size, 3);
    assert_memory_equal(piece.data, "\"a\"", 3);
    assert_false(weir_framer_next(framer, 0, &piece));
    assert_int_equal(weir_framer_pending(framer), 0);
    free(chunk);
    weir_framer_destroy(&framer);
}

static void oversize_record_costs_bounded_memory(void **state)
{
    (void)state;
    expect_bounded(WEIR_FRAMING_LINES, "", "\n\"a\"\n");
    expect_bounded(WEIR_FRAMING_NDJSON, "  ", " \r\n\"a\"\n");
    expect_bounded(WEIR_FRAMING_ARRAY, "[", ",\"a\"]");
}

static void whole_lines_are_not_copied(void **state)
{
    (void)state;
    weir_framer *framer = open_framer(WEIR_FRAMING_NDJSON, NULL, MB);
    const uint8_t data[] = "1\n22\n333";
    weir_framed piece;
    weir_framer_feed(framer, data, 8);
    assert_true(weir_framer_next(framer, 0, &piece));
    assert_ptr_equal(piece.data, data);
    assert_true(weir_framer_next(framer, 0, &piece));
    assert_ptr_equal(piece.data, data + 2);
    assert_false(weir_framer_next(framer, 0, &piece));
    assert_int_equal(weir_framer_pending(framer), 3);
    weir_framer_destroy(&framer);
}

/*  The ends and bytes of all records; `quick`: of lines in the faster way where it is
    open. Gives how many came by it.                                           */
static size_t pull_ends(weir_framer *framer, bool quick, weir_buffer *seen)
{
    weir_line line;
    weir_framed piece;
    for (size_t count = 0;; count++) {
        while (!quick || !weir_framer_line(framer, &line)) {
            if (!weir_framer_next(framer, 0, &piece)) return count;
            weir_buffer_printf(seen, "%llu <%.*s>\n", (unsigned long long)piece.end,
                               (int)piece.size, (const char *)piece.data);
        }
        weir_buffer_printf(seen, "%llu <%.*s>\n", (unsigned long long)line.end,
                           (int)line.size, (const char *)line.data);
    }
}

static size_t expect_same_ends(weir_framer *framer, const char *data, size_t cut_at)
{
    char *ends[2];
    size_t count = 0;
    for (int quick = 0; quick < 2; quick++) {
        weir_buffer seen = {0};
        weir_framer_reset(framer, 0);
        weir_framer_feed(framer, (const uint8_t *)data, cut_at);
        count = pull_ends(framer, quick, &seen);
        weir_framer_feed(framer, (const uint8_t *)data + cut_at, strlen(data) - cut_at);
        count += pull_ends(framer, quick, &seen);
        weir_framer_end(framer);
        count += pull_ends(framer, quick, &seen);
        ends[quick] = finish(&seen);
    }
    assert_string_equal(ends[1], ends[0]);
    free(ends[0]);
    free(ends[1]);
    return count;
}

static void the_faster_way_gives_the_same_records(void **state)
{
    (void)state;
    static const char data[] = "1\n\n 22 \r\n\r\nthis one is oversize\n333\r\n4";
    static const struct {
        weir_framing framing;
        const char *begin;
        size_t lines; // that come by it, uncut
    } cases[] = {{WEIR_FRAMING_NDJSON, NULL, 2},
                 {WEIR_FRAMING_LINES, NULL, 5},
                 {WEIR_FRAMING_LINES, "^[0-9]", 0},
                 {WEIR_FRAMING_BLOB, NULL, 0},
                 {WEIR_FRAMING_ARRAY, NULL, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_framer *framer = open_framer(cases[i].framing, cases[i].begin, 8);
        for (size_t at = 0; at < sizeof data; at++)
            expect_same_ends(framer, data, at);
        assert_int_equal(expect_same_ends(framer, data, 0), cases[i].lines);
        weir_framer_destroy(&framer);
    }
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    static const weir_framing_config configs[] = {
        {.framing = 9, .record_max = 1},
        {.framing = WEIR_FRAMING_LINES},
        {.framing = WEIR_FRAMING_NDJSON, .record_max = 1, .begin = "x", .max_bytes = 1},
        {.framing = WEIR_FRAMING_LINES, .record_max = 1, .begin = "x"},
        {.framing = WEIR_FRAMING_LINES, .record_max = 1, .begin = "(", .max_bytes = 1},
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        weir_framer *framer;
        weir_report report = {0};
        assert_int_equal(weir_framer_new(&framer, &configs[i], &report), WEIR_EINVAL);
        assert_null(framer);
        assert_true(report.text[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ndjson_trims_and_skips_blank_lines),
        cmocka_unit_test(lines_keep_all_but_their_end),
        cmocka_unit_test(blob_is_one_record),
        cmocka_unit_test(array_gives_elements),
        cmocka_unit_test(array_errors_name_the_byte),
        cmocka_unit_test(array_error_falls_due_without_an_end),
        cmocka_unit_test(array_hands_an_element_out_as_soon_as_it_is_complete),
        cmocka_unit_test(array_counts_nesting_without_recursion),
        cmocka_unit_test(resuming_at_any_end_gives_the_rest),
        cmocka_unit_test(begin_joins_lines),
        cmocka_unit_test(joined_record_falls_due_after_its_last_line),
        cmocka_unit_test(joined_record_ends_before_its_limit),
        cmocka_unit_test(only_a_record_above_the_limit_is_oversize),
        cmocka_unit_test(oversize_record_costs_bounded_memory),
        cmocka_unit_test(whole_lines_are_not_copied),
        cmocka_unit_test(the_faster_way_gives_the_same_records),
        cmocka_unit_test(bad_configurations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
