#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "runtime/record.h"

static void put_payload(weir_buffer *out, const char *text)
{
    weir_put_str(out, text, strlen(text));
}

/*  Reads in all three ways, which must agree.                                 */
static weir_err read_all_ways(const weir_buffer *data, weir_record *record)
{
    weir_record trusted;
    weir_reader reader = {data->data, data->data + data->size}, fast = reader;
    weir_reader over = reader;
    weir_reader skipper = reader;
    weir_err err = weir_record_read(record, &reader, false);
    assert_int_equal(weir_record_check(&skipper), err);
    assert_ptr_equal(skipper.at, reader.at);
    if (err) {
        assert_ptr_equal(reader.at, data->data);
        return err;
    }
    assert_int_equal(weir_record_read(&trusted, &fast, true), WEIR_OK);
    assert_ptr_equal(fast.at, reader.at);
    assert_int_equal(weir_record_skip(&over), WEIR_OK);
    assert_ptr_equal(over.at, reader.at);
    assert_ptr_equal(trusted.data, record->data);
    assert_int_equal(trusted.size, record->size);
    assert_ptr_equal(trusted.headers, record->headers);
    assert_int_equal(trusted.headers_size, record->headers_size);
    return WEIR_OK;
}

static void a_record_comes_back_as_it_was_put(void **state)
{
    (void)state;
    weir_buffer headers = {0}, out = {0};
    weir_put_map(&headers, 2);
    weir_put_str(&headers, "tenant", 6);
    weir_put_str(&headers, "acme", 4);
    weir_put_str(&headers, "n", 1);
    weir_put_array(&headers, 1);
    weir_put_int(&headers, 5);
    weir_record put = {
        .has_ts = true,
        .ts_ms = 1431857103000,
        .key = {.type = WEIR_STR, .data = (const uint8_t *)"k\xc3\xa9", .size = 3},
        .format = WEIR_JSON,
        .data = (const uint8_t *)"{\"a\":1}",
        .size = 7,
        .headers = headers.data,
        .headers_size = headers.size,
    };
    weir_record got;
    weir_value header;
    weir_record_put(&put, &out);
    assert_int_equal(read_all_ways(&out, &got), WEIR_OK);
    assert_true(got.has_ts);
    assert_true(got.ts_ms == put.ts_ms);
    assert_int_equal(got.key.type, WEIR_STR);
    assert_memory_equal(got.key.data, "k\xc3\xa9", 3);
    assert_int_equal(got.format, WEIR_JSON);
    assert_memory_equal(got.data, "{\"a\":1}", 7);
    assert_ptr_equal(got.encoded, out.data);
    assert_int_equal(got.encoded_size, out.size);
    weir_record_header(&got, "tenant", 6, &header);
    assert_int_equal(header.type, WEIR_STR);
    assert_memory_equal(header.data, "acme", 4);
    weir_record_header(&got, "n", 1, &header);
    assert_int_equal(header.type, WEIR_ARRAY);
    weir_record_header(&got, "tenan", 5, &header);
    assert_int_equal(header.type, WEIR_MISSING);
    weir_buffer_fini(&headers);
    weir_buffer_fini(&out);
}

static void an_empty_record_has_nothing_but_a_payload(void **state)
{
    (void)state;
    weir_buffer out = {0};
    weir_record put = {.format = WEIR_TEXT}, got;
    weir_value header;
    weir_record_put(&put, &out);
    assert_int_equal(read_all_ways(&out, &got), WEIR_OK);
    assert_false(got.has_ts);
    assert_int_equal(got.key.type, WEIR_MISSING);
    assert_int_equal(got.format, WEIR_TEXT);
    assert_int_equal(got.size, 0);
    assert_null(got.headers);
    weir_record_header(&got, "x", 1, &header);
    assert_int_equal(header.type, WEIR_MISSING);
    weir_buffer_fini(&out);
}

static void a_map_payload_is_messagepack(void **state)
{
    (void)state;
    weir_buffer out = {0};
    weir_record put = {.has_ts = true,
                       .ts_ms = -1,
                       .format = WEIR_MSGPACK,
                       .data = (const uint8_t *)"\x81\xa1x\x01",
                       .size = 4};
    weir_record got;
    weir_record_put(&put, &out);
    assert_int_equal(read_all_ways(&out, &got), WEIR_OK);
    assert_int_equal(got.ts_ms, -1);
    assert_int_equal(got.format, WEIR_MSGPACK);
    assert_int_equal(got.size, 4);
    weir_buffer_fini(&out);
}

static void what_is_no_record_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        weir_err err;
    } wrong[] = {
        {"", 0, WEIR_ESHORT},
        {"\xc0", 1, WEIR_EMALFORMED},
        {"\x93\xc0\xc0\xa0", 4, WEIR_EMALFORMED},
        {"\x95\xc0\xc0\xa0\xc0\xc0", 6, WEIR_EMALFORMED},
        {"\x94\xc3\xc0\xa0\xc0", 5, WEIR_EMALFORMED},
        {"\x94\xa1x\xc0\xa0\xc0", 6, WEIR_EMALFORMED},
        {"\x94\xc0\xc0\x01\xc0", 5, WEIR_EMALFORMED},
        {"\x94\xc0\xc0\x90\xc0", 5, WEIR_EMALFORMED},
        {"\x94\xc0\xc0\xc0\xc0", 5, WEIR_EMALFORMED},
        {"\x94\xc0\xc0\xa0\x90", 5, WEIR_EMALFORMED},
        {"\x94\xc0\xa1\xff\xa0\xc0", 6, WEIR_EMALFORMED},
        {"\x94\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc0\xa0\xc0", 13, WEIR_EMALFORMED},
        {"\x94\xc0\xc0\xa2x", 5, WEIR_ESHORT},
        {"\xdd\xff\xff\xff\xff", 5, WEIR_ESHORT},
        {"\x94\xc0\xc0\xdb\xff\xff\xff\xff", 8, WEIR_ESHORT},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weir_buffer data = {0};
        weir_record record;
        weir_buffer_reserve(&data, 1);
        weir_buffer_put(&data, wrong[i].bytes, wrong[i].size);
        assert_int_equal(read_all_ways(&data, &record), wrong[i].err);
        weir_buffer_fini(&data);
    }
}

static void a_text_payload_need_not_be_utf8_and_all_other_text_must(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        weir_err err;
    } cases[] = {
        {"\x94\xc0\xc0\xa1\xff\xc0", 6, WEIR_OK},
        {"\x94\xc0\xc0\xae{\"a\":\"caf\xe9 x\"}\xc0", 19, WEIR_OK},
        {"\x94\xc0\x01\xae{\"a\":\"caf\xe9 x\"}\xc0", 19, WEIR_OK},
        {"\x94\xc0\xa1\xe9\xae{\"a\":\"cafe x\"}\xc0", 20, WEIR_EMALFORMED},
        {"\x94\xc0\xc0\x81\xa1k\xaf{\"a\":\"caf\xe9 xy\"}\xc0", 22, WEIR_EMALFORMED},
        {"\x94\xc0\xc0\xae{\"a\":\"cafe x\"}\x81\xa1k\xa1\xe9", 23, WEIR_EMALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint8_t *data = (const uint8_t *)cases[i].bytes;
        weir_reader reader = {data, data + cases[i].size};
        weir_record record;
        assert_int_equal(weir_record_read(&record, &reader, false), cases[i].err);
        if (!cases[i].err) assert_int_equal(record.format, WEIR_JSON);
        if (!cases[i].err) assert_ptr_equal(reader.at, reader.end);
    }
}

static void every_cut_of_a_record_ends_too_early(void **state)
{
    (void)state;
    weir_buffer out = {0};
    weir_put_array(&out, 4);
    weir_put_int(&out, 1431857103000);
    weir_put_str(&out, "key", 3);
    put_payload(&out, "{\"a\": [1, 2, 3], \"text\": \"some more than 31 bytes\"}");
    weir_put_map(&out, 1);
    weir_put_str(&out, "h", 1);
    weir_put_bool(&out, true);
    size_t size = out.size;
    weir_record record;
    for (size_t n = 0; n < size; n++) {
        uint8_t *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, out.data, n);
        for (int trusted = 0; trusted < 2; trusted++) {
            weir_reader reader = {copy, copy + n};
            assert_int_equal(weir_record_read(&record, &reader, trusted), WEIR_ESHORT);
        }
        free(copy);
    }
    assert_int_equal(read_all_ways(&out, &record), WEIR_OK);
    weir_buffer_fini(&out);
}

/*  Puts a record with the key of that JSON text and reads the key back.       */
static weir_value reread_json_key(weir_buffer *out, const char *text)
{
    weir_record put = {.format = WEIR_TEXT}, got;
    weir_json_read((const uint8_t *)text, strlen(text), &put.key);
    out->size = 0;
    weir_record_put(&put, out);
    assert_int_equal(read_all_ways(out, &got), WEIR_OK);
    return got.key;
}

static void keys_from_json_become_messagepack(void **state)
{
    (void)state;
    weir_buffer out = {0};
    weir_value key = reread_json_key(&out, "\"a\\n\"");
    assert_int_equal(key.type, WEIR_STR);
    assert_memory_equal(key.data, "a\n", 2);
    assert_int_equal(reread_json_key(&out, "\"\\ud800\"").type, WEIR_BIN);
    assert_int_equal(reread_json_key(&out, "18446744073709551615").type, WEIR_UINT);
    assert_int_equal(reread_json_key(&out, "1.5").type, WEIR_FLOAT);
    assert_int_equal(reread_json_key(&out, "null").type, WEIR_MISSING);
    key = reread_json_key(&out, "{\"a\": [1, \"x\"], \"b\": {}}");
    assert_int_equal(key.type, WEIR_MAP);
    assert_int_equal(key.size, 10);
    assert_memory_equal(key.data,
                        "\x82\xa1"
                        "a\x92\x01\xa1x\xa1"
                        "b\x80",
                        10);
    weir_buffer_fini(&out);
}

static void check_key(weir_value key, const char *want)
{
    char number[24];
    weir_buffer scratch = {0};
    const uint8_t *data;
    size_t size;
    bool keyed = weir_key_bytes(&key, number, &scratch, &data, &size);
    assert_int_equal(keyed, want != NULL);
    if (want) {
        assert_int_equal(size, strlen(want));
        assert_memory_equal(data, want, size);
    }
    weir_buffer_fini(&scratch);
}

static void keys_route_by_their_text(void **state)
{
    (void)state;
    const uint8_t *text = (const uint8_t *)"a\\n";
    check_key((weir_value){.type = WEIR_STR, .data = text, .size = 3}, "a\\n");
    check_key((weir_value){.type = WEIR_STR, .data = text, .size = 3, .escaped = true},
              "a\n");
    check_key((weir_value){.type = WEIR_BIN, .data = text, .size = 1}, "a");
    check_key((weir_value){.type = WEIR_BOOL, .boolean = true}, "true");
    check_key((weir_value){.type = WEIR_BOOL}, "false");
    check_key((weir_value){.type = WEIR_INT}, "0");
    check_key((weir_value){.type = WEIR_INT, .integer = INT64_MIN},
              "-9223372036854775808");
    check_key((weir_value){.type = WEIR_UINT, .natural = UINT64_MAX},
              "18446744073709551615");
    check_key((weir_value){.type = WEIR_FLOAT, .real = 1}, NULL);
    check_key((weir_value){.type = WEIR_NULL}, NULL);
    check_key((weir_value){.type = WEIR_MISSING}, NULL);
    check_key((weir_value){.type = WEIR_MAP, .data = text, .size = 1}, NULL);
}

static void vnodes_are_those_of_xxh3(void **state)
{
    (void)state;
    // XXH3-64 of no bytes is 0x2d06800538d394c2
    assert_int_equal(weir_key_vnode(NULL, 0, 256), 0xc2);
    assert_int_equal(weir_key_vnode(NULL, 0, 1), 0);
    assert_int_equal(weir_key_vnode(NULL, 0, 65536), 0x94c2);
}

static void a_subject_parses_its_payload_once(void **state)
{
    (void)state;
    weir_doc doc = {0};
    weir_subject subject = {
        .record = {.format = WEIR_JSON, .data = (const uint8_t *)"{\"a\":1}", .size = 7},
        .doc = &doc,
    };
    assert_true(weir_subject_parse(&subject));
    assert_true(weir_subject_parse(&subject));
    assert_int_equal(doc.parses, 1);
    subject.state = WEIR_UNPARSED;
    subject.record.size = 6;
    assert_false(weir_subject_parse(&subject));
    assert_false(weir_subject_parse(&subject));
    assert_int_equal(doc.parses, 2);
    assert_non_null(doc.index.error);
    weir_doc_fini(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_comes_back_as_it_was_put),
        cmocka_unit_test(an_empty_record_has_nothing_but_a_payload),
        cmocka_unit_test(a_map_payload_is_messagepack),
        cmocka_unit_test(what_is_no_record_is_refused),
        cmocka_unit_test(a_text_payload_need_not_be_utf8_and_all_other_text_must),
        cmocka_unit_test(every_cut_of_a_record_ends_too_early),
        cmocka_unit_test(keys_from_json_become_messagepack),
        cmocka_unit_test(keys_route_by_their_text),
        cmocka_unit_test(vnodes_are_those_of_xxh3),
        cmocka_unit_test(a_subject_parses_its_payload_once),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
