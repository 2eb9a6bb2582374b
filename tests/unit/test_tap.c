#include "runtime/tap.h"
#include "runtime/block.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const weir_run origin = {.source = "in", .peer = "mallory", .label = "in@0"};

static weir_block *make(weir_format format, const char *data, size_t size, int records)
{
    weir_builder builder = {.target = 65536};
    for (int i = 0; i < records; i++)
        weir_builder_add_payload(&builder, format, (const uint8_t *)data, size, &origin);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static void offer(weir_tap *tap, const char *outlet, weir_format format, const char *data,
                  size_t size, int records)
{
    weir_block *block = make(format, data, size, records);
    weir_tap_look(tap, outlet, block);
    weir_block_destroy(&block);
}

/*  How many samples there are; the last one's line and outlet.                  */
static int drain(weir_tap *tap, char line[512], uint64_t *skipped)
{
    static weir_buffer lines;
    const char *outlet, *text;
    int count = 0;
    weir_tap_drain(tap, &lines, skipped);
    for (size_t at = 0; weir_tap_next(&lines, &at, &outlet, &text); count++)
        snprintf(line, 512, "%s", text);
    weir_buffer_fini(&lines);
    return count;
}

static void nothing_is_sampled_unless_somebody_taps(void **state)
{
    (void)state;
    weir_tap tap = WEIR_TAP_INIT;
    char line[512];
    uint64_t skipped;
    offer(&tap, "p", WEIR_JSON, "{}", 2, 5);
    assert_int_equal(drain(&tap, line, &skipped), 0);
    assert_int_equal(skipped, 0);
    weir_tap_open(&tap, "");
    offer(&tap, "p", WEIR_JSON, "{}", 2, 5);
    assert_int_equal(drain(&tap, line, &skipped), 5);
    weir_tap_close(&tap);
    offer(&tap, "p", WEIR_JSON, "{}", 2, 5);
    assert_int_equal(drain(&tap, line, &skipped), 0);
}

static void every_payload_is_readable(void **state)
{
    (void)state;
    static const char document[] = {(char)0x81, (char)0xa1, 'a', 1};
    static const char bad_key[] = {(char)0x81, 1, 1}; // JSON has no such name
    const struct {
        weir_format format;
        const char *data;
        size_t size;
        const char *payload;
    } cases[] = {
        {WEIR_JSON, "{\"a\":1}", 7, "\"payload\":{\"a\":1}"},
        {WEIR_JSON, "{\"a\":", 5, "\"payload\":{\"base64\":\"eyJhIjo=\"}"},
        {WEIR_MSGPACK, document, sizeof document, "\"payload\":{\"a\":1}"},
        {WEIR_MSGPACK, bad_key, sizeof bad_key, "\"msgpack\":{\"base64\":\"gQEB\"}"},
        {WEIR_TEXT, "a \"b\"", 5, "\"text\":\"a \\\"b\\\"\""},
        {WEIR_TEXT, "\xff\0", 2, "\"text\":{\"base64\":\"/wA=\"}"},
    };
    weir_tap tap = WEIR_TAP_INIT;
    char line[512], expected[512];
    uint64_t skipped;
    weir_tap_open(&tap, "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        offer(&tap, "p.x", cases[i].format, cases[i].data, cases[i].size, 1);
        assert_int_equal(drain(&tap, line, &skipped), 1);
        snprintf(expected, sizeof expected,
                 "{\"outlet\":\"p.x\",\"ts\":null,\"key\":null,\"source\":\"in\","
                 "\"peer\":\"mallory\",%s}",
                 cases[i].payload);
        assert_string_equal(line, expected);
    }
    weir_tap_close(&tap);
}

static void key_and_time_are_shown(void **state)
{
    (void)state;
    weir_tap tap = WEIR_TAP_INIT;
    weir_builder builder = {.target = 65536};
    weir_record record = {.has_ts = true,
                          .ts_ms = 17,
                          .key = {.type = WEIR_INT, .integer = 5},
                          .format = WEIR_JSON,
                          .data = (const uint8_t *)"1",
                          .size = 1};
    char line[512];
    uint64_t skipped;
    weir_builder_add(&builder, &record, NULL);
    weir_block *block = weir_builder_seal(&builder);
    weir_tap_open(&tap, "");
    weir_tap_look(&tap, "p", block);
    assert_int_equal(drain(&tap, line, &skipped), 1);
    assert_string_equal(line, "{\"outlet\":\"p\",\"ts\":17,\"key\":5,\"source\":null,"
                              "\"peer\":null,\"payload\":1}");
    weir_tap_close(&tap);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
}

static void what_is_left_out_is_counted(void **state)
{
    (void)state;
    weir_tap tap = WEIR_TAP_INIT;
    char line[512];
    uint64_t skipped;
    weir_tap_open(&tap, "");
    offer(&tap, "p", WEIR_JSON, "{}", 2, WEIR_TAP_SHARE + 7);
    offer(&tap, "p", WEIR_JSON, "{}", 2, 3);
    assert_int_equal(drain(&tap, line, &skipped), WEIR_TAP_SHARE);
    assert_int_equal(skipped, 10);
    offer(&tap, "p", WEIR_JSON, "{}", 2, 1); // there is a new share
    assert_int_equal(drain(&tap, line, &skipped), 1);
    assert_int_equal(skipped, 0);
    pthread_mutex_lock(&tap.lock);
    offer(&tap, "p", WEIR_JSON, "{}", 2, 4); // nobody waits
    pthread_mutex_unlock(&tap.lock);
    assert_int_equal(drain(&tap, line, &skipped), 0);
    assert_int_equal(skipped, 4);
    weir_tap_close(&tap);
}

static void the_buffer_is_bounded(void **state)
{
    (void)state;
    weir_tap tap = WEIR_TAP_INIT;
    char line[512];
    uint64_t skipped;
    size_t size = WEIR_TAP_RECORD_MAX + 1;
    char *text = calloc(1, size);
    memset(text, 'x', size);
    weir_tap_open(&tap, "");
    offer(&tap, "p", WEIR_TEXT, text, size, 1);
    assert_int_equal(drain(&tap, line, &skipped), 0);
    assert_int_equal(skipped, 1);
    for (int i = 0; i < WEIR_TAP_SHARE; i++)
        offer(&tap, "p", WEIR_TEXT, text, size - 1, 1);
    assert_in_range(tap.lines.size, 1, WEIR_TAP_MAX);
    int count = drain(&tap, line, &skipped);
    assert_in_range(count, 2, 4);
    assert_int_equal((int)skipped, WEIR_TAP_SHARE - count);
    weir_tap_close(&tap);
    free(text);
}

static void one_outlet_can_be_meant(void **state)
{
    (void)state;
    weir_tap tap = WEIR_TAP_INIT;
    char line[512];
    uint64_t skipped;
    weir_tap_open(&tap, "p.errors");
    offer(&tap, "p.rest", WEIR_JSON, "{}", 2, 100);
    offer(&tap, "p.errors", WEIR_JSON, "{}", 2, 2);
    assert_int_equal(drain(&tap, line, &skipped), 2);
    assert_int_equal(skipped, 0);
    assert_non_null(strstr(line, "\"outlet\":\"p.errors\""));
    weir_tap_open(&tap, "");
    offer(&tap, "p.rest", WEIR_JSON, "{}", 2, 1);
    assert_int_equal(drain(&tap, line, &skipped), 1);
    weir_tap_close(&tap);
}

/* --- Threads ----------------------------------------------------------------------- */

#define BLOCKS 20000

static void *send_many(void *arg)
{
    weir_tap *tap = arg;
    weir_block *block = make(WEIR_JSON, "{\"a\":1}", 7, 3);
    for (int i = 0; i < BLOCKS; i++)
        weir_tap_look(tap, "p", block);
    weir_block_destroy(&block);
    return NULL;
}

static void a_node_and_its_watcher_do_not_meet(void **state)
{
    (void)state;
    weir_tap tap = WEIR_TAP_INIT;
    char line[512];
    uint64_t skipped, seen = 0;
    pthread_t thread;
    weir_tap_open(&tap, "");
    pthread_create(&thread, NULL, send_many, &tap);
    for (int i = 0; i < 1000; i++) {
        seen += (uint64_t)drain(&tap, line, &skipped);
        seen += skipped;
    }
    pthread_join(thread, NULL);
    seen += (uint64_t)drain(&tap, line, &skipped);
    seen += skipped;
    assert_int_equal(seen, 3 * BLOCKS);
    weir_tap_close(&tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_sampled_unless_somebody_taps),
        cmocka_unit_test(every_payload_is_readable),
        cmocka_unit_test(key_and_time_are_shown),
        cmocka_unit_test(what_is_left_out_is_counted),
        cmocka_unit_test(the_buffer_is_bounded),
        cmocka_unit_test(one_outlet_can_be_meant),
        cmocka_unit_test(a_node_and_its_watcher_do_not_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
