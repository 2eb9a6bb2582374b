#include "actors/zmq_frames.h"
#include "actors/template.h"
#include "actors/zmq_gaps.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define FRAME(text)                                                                      \
    {                                                                                    \
        (const uint8_t *)(text), sizeof(text) - 1                                        \
    }

static weir_zmq_map map_of(const char *const *names)
{
    weir_texts texts = {0};
    weir_zmq_map map;
    weir_report report = {0};
    for (; *names; names++)
        weir_texts_add(&texts, *names);
    assert_int_equal(weir_zmq_map_parse(&map, &texts, &report), WEIR_OK);
    for (size_t i = 0; i < texts.count; i++)
        free(texts.items[i]);
    free(texts.items);
    return map;
}

#define MAP(...) map_of((const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(const char *name, const char *other, const char *expected)
{
    char *items[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)other};
    const weir_texts texts = {items, other ? 2 : 1};
    weir_zmq_map map;
    weir_report report = {0};
    assert_int_equal(weir_zmq_map_parse(&map, &texts, &report), WEIR_EINVAL);
    assert_non_null(strstr(report.text, expected));
}

static void assert_frame(const weir_zmq_frame *frame, const char *text)
{
    assert_non_null(frame->data);
    assert_int_equal(frame->size, strlen(text));
    assert_memory_equal(frame->data, text, frame->size);
}

static void a_list_of_frames_is_checked(void **state)
{
    (void)state;
    assert_refused("payload", "value", "not \"value\"");
    assert_refused("payload", "payload", "two of \"payload\"");
    assert_refused("key", NULL, "must be \"payload\"");
    weir_zmq_map map = MAP("skip", "payload", "skip");
    assert_int_equal(map.count, 3);
    assert_true(weir_zmq_map_has(&map, WEIR_ZMQ_PAYLOAD));
    assert_false(weir_zmq_map_has(&map, WEIR_ZMQ_KEY));
}

static void without_a_list_the_number_of_frames_tells(void **state)
{
    (void)state;
    const weir_zmq_map none = {0};
    const weir_zmq_frame frames[] = {FRAME("a"), FRAME("b"), FRAME("c")};
    weir_zmq_parts parts;
    assert_null(weir_zmq_find(&none, false, frames, 1, &parts));
    assert_frame(&parts.part[WEIR_ZMQ_PAYLOAD], "a");
    assert_null(parts.part[WEIR_ZMQ_KEY].data);
    assert_null(weir_zmq_find(&none, false, frames, 2, &parts));
    assert_frame(&parts.part[WEIR_ZMQ_KEY], "a");
    assert_frame(&parts.part[WEIR_ZMQ_PAYLOAD], "b");
    assert_null(weir_zmq_find(&none, true, frames, 2, &parts));
    assert_frame(&parts.part[WEIR_ZMQ_TOPIC], "a");
    assert_null(parts.part[WEIR_ZMQ_KEY].data);
    assert_non_null(weir_zmq_find(&none, false, frames, 3, &parts));
    assert_non_null(weir_zmq_find(&none, false, frames, 0, &parts));
}

static void a_list_names_each_frame(void **state)
{
    (void)state;
    weir_zmq_map map = MAP("topic", "skip", "payload");
    const weir_zmq_frame frames[] = {FRAME("t"), FRAME("x"), FRAME("p"), FRAME("")};
    weir_zmq_parts parts;
    assert_null(weir_zmq_find(&map, false, frames, 3, &parts));
    assert_frame(&parts.part[WEIR_ZMQ_TOPIC], "t");
    assert_frame(&parts.part[WEIR_ZMQ_PAYLOAD], "p");
    assert_false(parts.has_sequence);
    assert_non_null(weir_zmq_find(&map, false, frames, 2, &parts));
    assert_non_null(weir_zmq_find(&map, false, frames, 4, &parts));
}

static void an_envelope_ends_with_an_empty_frame_before_the_data(void **state)
{
    (void)state;
    const weir_zmq_map none = {0};
    weir_zmq_map three = MAP("key", "headers", "payload");
    const weir_zmq_frame req[] = {FRAME(""), FRAME("p")};
    const weir_zmq_frame keyed[] = {FRAME(""), FRAME("k"), FRAME("p")};
    const weir_zmq_frame routed[] = {FRAME("id"), FRAME("id2"), FRAME(""), FRAME("p")};
    const weir_zmq_frame plain[] = {FRAME("k"), FRAME("h"), FRAME("p")};
    const weir_zmq_frame full[] = {FRAME("1"), FRAME(""), FRAME("k"), FRAME(""),
                                   FRAME("p")};
    assert_int_equal(weir_zmq_envelope(&none, req, 2), 1);
    assert_int_equal(weir_zmq_envelope(&none, keyed, 3), 1);
    assert_int_equal(weir_zmq_envelope(&none, routed, 4), 3);
    assert_int_equal(weir_zmq_envelope(&none, plain, 3), 0);
    assert_int_equal(weir_zmq_envelope(&none, req, 1), 0);
    assert_int_equal(weir_zmq_envelope(&none, req, 0), 0);
    assert_int_equal(weir_zmq_envelope(&three, plain, 3), 0);
    assert_int_equal(weir_zmq_envelope(&three, full, 5), 2);
}

static const char *sequence_of(const weir_zmq_frame sequence, uint64_t *number)
{
    weir_zmq_map map = MAP("sequence", "payload");
    const weir_zmq_frame frames[] = {sequence, FRAME("p")};
    weir_zmq_parts parts;
    const char *error = weir_zmq_find(&map, false, frames, 2, &parts);
    assert_true(error || parts.has_sequence);
    *number = parts.sequence;
    return error;
}

static void a_sequence_is_decimal_or_eight_bytes(void **state)
{
    (void)state;
    uint64_t n;
    assert_null(sequence_of((weir_zmq_frame)FRAME("0"), &n));
    assert_int_equal(n, 0);
    assert_null(sequence_of((weir_zmq_frame)FRAME("18446744073709551615"), &n));
    assert_true(n == UINT64_MAX);
    assert_null(sequence_of((weir_zmq_frame)FRAME("12345678"), &n));
    assert_int_equal(n, 12345678);
    assert_null(sequence_of((weir_zmq_frame)FRAME("\0\0\0\0\0\0\1\2"), &n));
    assert_int_equal(n, 258);
    assert_non_null(sequence_of((weir_zmq_frame)FRAME("18446744073709551616"), &n));
    assert_non_null(sequence_of((weir_zmq_frame)FRAME(""), &n));
    assert_non_null(sequence_of((weir_zmq_frame)FRAME("-1"), &n));
    assert_non_null(sequence_of((weir_zmq_frame)FRAME("12 "), &n));
}

/*  The headers of frames, as the JSON of the map; NULL: an error.                */
static char *headers_of(const weir_zmq_frame *topic, const weir_zmq_frame *headers)
{
    weir_zmq_parts parts = {0};
    weir_doc doc = {0};
    weir_buffer out = {0}, json = {0};
    if (topic) parts.part[WEIR_ZMQ_TOPIC] = *topic;
    if (headers) parts.part[WEIR_ZMQ_HEADERS] = *headers;
    const char *error = weir_zmq_headers(&parts, &doc, &out);
    if (!error && out.size) {
        weir_reader reader = {out.data, out.data + out.size};
        weir_value value;
        assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
        assert_int_equal(value.type, WEIR_MAP);
        assert_ptr_equal(reader.at, reader.end);
        assert_int_equal(weir_json_put_value(&json, &value), WEIR_OK);
    }
    weir_buffer_put_byte(&json, 0);
    weir_doc_fini(&doc);
    weir_buffer_fini(&out);
    if (!error) return (char *)json.data;
    weir_buffer_fini(&json);
    return NULL;
}

static void assert_headers(const weir_zmq_frame *topic, const weir_zmq_frame *headers,
                           const char *expected)
{
    char *json = headers_of(topic, headers);
    if (expected) assert_string_equal(json, expected);
    if (!expected) assert_null(json);
    free(json);
}

static void headers_are_json_or_messagepack(void **state)
{
    (void)state;
    const weir_zmq_frame json = FRAME(" {\"a\": [1, null], \"b\\u0063\": \"x\\n\"} ");
    const weir_zmq_frame packed = FRAME("\x82\xa1"
                                        "a\x01\xa1"
                                        "b\xc0");
    const weir_zmq_frame topic = FRAME("cpu.1"), own = FRAME("{\"topic\":1,\"z\":2}");
    const weir_zmq_frame bytes = FRAME("\xff\xfe"), nothing = FRAME("");
    assert_headers(NULL, NULL, "");
    assert_headers(NULL, &nothing, "");
    assert_headers(NULL, &json, "{\"a\":[1,null],\"bc\":\"x\\n\"}");
    assert_headers(NULL, &packed, "{\"a\":1,\"b\":null}");
    assert_headers(&topic, NULL, "{\"topic\":\"cpu.1\"}");
    assert_headers(&topic, &nothing, "{\"topic\":\"cpu.1\"}");
    assert_headers(&topic, &own, "{\"z\":2,\"topic\":\"cpu.1\"}");
    assert_headers(&bytes, NULL, "{\"topic\":\"//4=\"}");
}

static void headers_that_are_no_map_of_names_are_an_error(void **state)
{
    (void)state;
    const weir_zmq_frame bad[] = {
        FRAME("[1]"),
        FRAME("{\"a\":1"),
        FRAME("\x81\xa1"
              "a"),
        FRAME("\x81\x01\x02"),
        FRAME("\xdf\xff\xff\xff\xff"),
        FRAME("\x93\x01\x02\x03"),
        FRAME("\x80\x80"),
        FRAME("x"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_headers(NULL, &bad[i], NULL);
}

static void a_message_is_printed_as_json(void **state)
{
    (void)state;
    const weir_zmq_frame frames[] = {FRAME("a\"b"), FRAME("\xff"), FRAME("")};
    weir_buffer out = {0};
    weir_zmq_print(frames, 3, &out);
    weir_zmq_print(frames, 0, &out);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, "[\"a\\\"b\",{\"base64\":\"/w==\"},\"\"][]");
    weir_buffer_fini(&out);
}

static void a_printed_frame_is_cut_between_characters(void **state)
{
    (void)state;
    weir_buffer text = {0}, out = {0};
    weir_buffer_put_byte(&text, 'x');
    while (text.size < 70000)
        weir_buffer_put_text(&text, "\xc3\xa4");
    const weir_zmq_frame frame = {text.data, text.size};
    weir_zmq_print(&frame, 1, &out);
    assert_true(out.size > 65000 && out.size < 65600);
    assert_int_equal(out.data[1], '"');
    assert_true(weir_utf8_valid(out.data, out.size));
    weir_buffer_fini(&text);
    weir_buffer_fini(&out);
}

/* --- Gaps -------------------------------------------------------------------------- */

static void gaps_are_counted_for_each_sender(void **state)
{
    (void)state;
    weir_zmq_gaps *gaps = weir_zmq_gaps_new();
    assert_int_equal(weir_zmq_gaps_note(gaps, "a", 1, 7), 0);
    assert_int_equal(weir_zmq_gaps_note(gaps, "b", 1, 100), 0);
    assert_int_equal(weir_zmq_gaps_note(gaps, "a", 1, 8), 0);
    assert_int_equal(weir_zmq_gaps_note(gaps, "a", 1, 12), 3);
    assert_int_equal(weir_zmq_gaps_note(gaps, "b", 1, 101), 0);
    assert_int_equal(weir_zmq_gaps_note(gaps, "a", 1, 12), 0); // again
    assert_int_equal(weir_zmq_gaps_note(gaps, "a", 1, 1), 0);  // it has restarted
    assert_int_equal(weir_zmq_gaps_note(gaps, "a", 1, 3), 1);
    assert_int_equal(weir_zmq_gaps_note(gaps, "a", 1, UINT64_MAX), 0); // a leap
    assert_int_equal(weir_zmq_gaps_note(gaps, "", 0, 0), 0);
    assert_int_equal(weir_zmq_gaps_note(gaps, "", 0, 2), 1);
    weir_zmq_gaps_destroy(&gaps);
    assert_null(gaps);
    weir_zmq_gaps_destroy(&gaps);
}

static void many_senders_forget_the_silent_ones_only(void **state)
{
    (void)state;
    weir_zmq_gaps *gaps = weir_zmq_gaps_new();
    for (uint64_t i = 0; i < 200000; i++) {
        assert_int_equal(weir_zmq_gaps_note(gaps, &i, sizeof i, 5), 0);
        assert_int_equal(weir_zmq_gaps_note(gaps, "steady", 6, 2 * i), i > 0);
    }
    weir_zmq_gaps_destroy(&gaps);
}

/* --- Template ---------------------------------------------------------------------- */

static void assert_template(const char *text, const char *payload, const char *expected)
{
    weir_template t;
    weir_report report = {0};
    weir_doc doc = {0};
    weir_buffer out = {0};
    weir_subject subject = {.doc = &doc,
                            .record = {.format = WEIR_JSON,
                                       .data = (const uint8_t *)payload,
                                       .size = strlen(payload)}};
    assert_int_equal(weir_template_parse(&t, text, &report), WEIR_OK);
    const char *error = weir_template_put(&t, &subject, &out);
    weir_buffer_put_byte(&out, 0);
    if (expected) assert_null(error);
    if (expected) assert_string_equal((char *)out.data, expected);
    if (!expected) assert_non_null(error);
    weir_template_fini(&t);
    weir_doc_fini(&doc);
    weir_buffer_fini(&out);
}

static void a_template_puts_fields_into_text(void **state)
{
    (void)state;
    const char *payload =
        "{\"host\":\"w\\u0065b\",\"n\":-7,\"ok\":true,\"o\":{\"a\":[5]}}";
    assert_template("logs", payload, "logs");
    assert_template("", payload, "");
    assert_template("logs.{host}.x", payload, "logs.web.x");
    assert_template("{n}{ok}{o.a[0]}", payload, "-7true5");
    assert_template("{{{host}}", payload, "{web}");
    assert_template("{missing}", payload, NULL);
    assert_template("{o}", payload, NULL);
    assert_template("{host}", "no json", NULL);
}

static void a_template_without_its_brace_or_path_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"a{",   "{}",  "{a b}",    "x{a",
                               "{a}{", "{$}", "{$rawer}", "{$headers.}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weir_template t;
        weir_report report = {0};
        assert_int_equal(weir_template_parse(&t, bad[i], &report), WEIR_EINVAL);
        assert_true(*report.text);
        weir_template_fini(&t);
    }
}

/*  Words beside fields, of a record that has all of it, and of one that has nothing. */
static void a_template_knows_more_of_a_record_than_its_fields(void **state)
{
    (void)state;
    static const uint8_t map[] = {0x81, 0xa1, 'a', 0x92, 0x01, 0xc0};
    static const uint8_t headers[] = {0x81, 0xa1, 'h', 0x07};
    const weir_place place = {.nonce = 1, .epoch = 2, .sequence = 3, .shard = 4};
    weir_template t;
    weir_report report = {0};
    weir_buffer out = {0};
    weir_doc doc = {0};
    weir_subject full = {.doc = &doc,
                         .source = "in",
                         .peer = "joe",
                         .place = &place,
                         .record = {.format = WEIR_MSGPACK,
                                    .data = map,
                                    .size = sizeof map,
                                    .has_ts = true,
                                    .ts_ms = 9,
                                    .key = {.type = WEIR_BOOL, .boolean = true},
                                    .headers = headers,
                                    .headers_size = sizeof headers}};
    weir_subject bare = {.doc = &doc, .record = full.record};
    bare.record.has_ts = false;
    bare.record.headers = NULL;
    bare.record.key.type = WEIR_MISSING;
    assert_int_equal(weir_template_parse(&t,
                                         "{$raw}|{$key}|{$ts}|{$source}|{$peer}|{$id}|"
                                         "{$headers.h}",
                                         &report),
                     WEIR_OK);
    assert_null(weir_template_put(&t, &full, &out));
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data,
                        "{\"a\":[1,null]}|true|9|in|joe|0000000000000001:2:4:3|7");
    weir_template_fini(&t);
    const char *const lacking[] = {"{$key}",  "{$ts}", "{$source}",
                                   "{$peer}", "{$id}", "{$headers.h}"};
    for (size_t i = 0; i < sizeof lacking / sizeof *lacking; i++) {
        assert_int_equal(weir_template_parse(&t, lacking[i], &report), WEIR_OK);
        assert_non_null(weir_template_put(&t, &bare, &out));
        weir_template_fini(&t);
    }
    assert_int_equal(weir_template_parse(&t, "{a}", &report), WEIR_OK);
    assert_non_null(weir_template_put(&t, &full, &out));
    t.any = true;
    out.size = 0;
    assert_null(weir_template_put(&t, &full, &out));
    assert_memory_equal(out.data, "[1,null]", out.size);
    weir_template_fini(&t);
    weir_doc_fini(&doc);
    weir_buffer_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_frames_is_checked),
        cmocka_unit_test(without_a_list_the_number_of_frames_tells),
        cmocka_unit_test(a_list_names_each_frame),
        cmocka_unit_test(an_envelope_ends_with_an_empty_frame_before_the_data),
        cmocka_unit_test(a_sequence_is_decimal_or_eight_bytes),
        cmocka_unit_test(headers_are_json_or_messagepack),
        cmocka_unit_test(headers_that_are_no_map_of_names_are_an_error),
        cmocka_unit_test(a_message_is_printed_as_json),
        cmocka_unit_test(a_printed_frame_is_cut_between_characters),
        cmocka_unit_test(gaps_are_counted_for_each_sender),
        cmocka_unit_test(many_senders_forget_the_silent_ones_only),
        cmocka_unit_test(a_template_puts_fields_into_text),
        cmocka_unit_test(a_template_knows_more_of_a_record_than_its_fields),
        cmocka_unit_test(a_template_without_its_brace_or_path_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
