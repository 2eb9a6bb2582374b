#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include "runtime/codec.h"
#include "runtime/json.h"

/*  Scans a copy of exactly that size, so that a sanitizer sees every overread. */
static weir_err scan(weir_json_index *index, const void *text, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, text, size);
    weir_err err = weir_json_scan(index, copy, size);
    if (!err) {
        weir_json_index again = {0};
        weir_json_rescan(&again, copy, size);
        assert_int_equal(again.count, index->count);
        assert_int_equal(again.type, index->type);
        assert_int_equal(again.root_size, index->root_size);
        for (uint32_t i = 0; i < again.count; i++)
            assert_memory_equal(&again.fields[i], &index->fields[i],
                                offsetof(weir_json_field, nameless));
        weir_json_index_fini(&again);
    }
    free(copy);
    return err;
}

static weir_err verdict(const char *text)
{
    weir_json_index index = {0};
    weir_err err = scan(&index, text, strlen(text));
    if (err) {
        assert_int_equal(index.count, 0);
        assert_non_null(index.error);
    }
    weir_json_index_fini(&index);
    return err;
}

static void expect(const char *text, weir_err want)
{
    weir_err err = verdict(text);
    if (err != want)
        fail_msg("%s: %s instead of %s", text, weir_err_name(err), weir_err_name(want));
}

/*  The value of a text that is one.                                           */
static weir_value read(const char *text)
{
    weir_value value;
    assert_int_equal(verdict(text), WEIR_OK);
    weir_json_read((const uint8_t *)text, strlen(text), &value);
    return value;
}

static void valid_documents_are_accepted(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "[]",
        " [ ] ",
        "0",
        "-0",
        "null",
        "true",
        "false",
        "\"\"",
        "1e5",
        "-1.5E-7",
        "0.0",
        "[1,[2,[3]],{}]",
        "{\"\":{\"\":[]}}",
        "\r\n\t{\"a\" :\n1 , \"b\":\t2}\n",
        "\"\\u0000\\ud800\\\\\\/\"",
        "\"\x7f\"",
        "[\"{\",\"]\",\"}[\",\",\"]",
        "{\"a\":\"\\\"}\",\"b\":\"\\\\\"}",
        "\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\"",
        "[\"\\\\\\\\\\\\\\\"\",\"\\\\\"]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect(texts[i], WEIR_OK);
}

static void broken_documents_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "1 2",
        "{}x",
        "]",
        "}",
        ",",
        ":",
        "nul1",
        "True",
        "NaN",
        "-Infinity",
        "01",
        "-01",
        "1.e5",
        ".5",
        "+1",
        "1.5.2",
        "0x1",
        "--1",
        "1e5.5",
        "'a'",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\t\"",
        "\"a\nb\"",
        "[\"\x1f\"]",
        "\\\"a\\\"",
        "[\\\"]\"]",
        "{\"a\",\"b\":1}",
        "{1:2}",
        "{\"a\":}",
        "[,1]",
        "\xef\xbb\xbf{}",
        "{}\v",
        "\xc2\xa0",
        "/**/1",
        "\"a\"\"b\"",
        "[\"a\" \"b\"]",
        "truefalse",
        "[nullnull]",
        "{\"a\":1 \"b\":2}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect(texts[i], WEIR_EMALFORMED);
}

static void invalid_utf8_is_refused_where_it_stands(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\"\x80\"",
        "\"\xc0\xaf\"",
        "\"\xc3\"",
        "\"\xe0\x80\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf5\x80\x80\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xff\"",
        "\"\xe2\x82\"",
        "{\"\xc3\x28\":1}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect(texts[i], WEIR_EMALFORMED);
    weir_json_index index = {0};
    const char *late = "{\"name\": \"0123456789012345678901234567890123456789\xc3(\"}";
    assert_int_equal(scan(&index, late, strlen(late)), WEIR_EMALFORMED);
    assert_int_equal(index.error_at, strcspn(late, "\xc3"));
    assert_string_equal(index.error, "not UTF-8");
    weir_json_index_fini(&index);
}

static void nul_bytes_are_refused_everywhere(void **state)
{
    (void)state;
    weir_json_index index = {0};
    assert_int_equal(scan(&index, "\"a\0b\"", 5), WEIR_EMALFORMED);
    assert_int_equal(index.error_at, 2);
    assert_int_equal(scan(&index, "[1\0]", 4), WEIR_EMALFORMED);
    assert_int_equal(scan(&index, "[1]\0", 4), WEIR_EMALFORMED);
    assert_int_equal(scan(&index, "\0", 1), WEIR_EMALFORMED);
    assert_int_equal(scan(&index, "\"\\\0\"", 4), WEIR_EMALFORMED);
    weir_json_index_fini(&index);
}

static void every_cut_of_a_document_ends_too_early(void **state)
{
    (void)state;
    const char *text =
        "{\"a\": [1, -2.5e+3, true, false, null], \"k\\u00e9\\\"y\": {\"x\": "
        "\"\xc3\xa9\xf0\x9f\x98\x80 and some more text to fill a block \\\\\"}, "
        "\"last\": [[[]], {}]}";
    weir_json_index index = {0};
    assert_int_equal(scan(&index, text, strlen(text)), WEIR_OK);
    assert_int_equal(weir_json_scan(&index, NULL, 0), WEIR_ESHORT);
    for (size_t n = 0; n < strlen(text); n++) {
        weir_err err = scan(&index, text, n);
        if (err != WEIR_ESHORT) fail_msg("%zu bytes: %s", n, weir_err_name(err));
    }
    weir_json_index_fini(&index);
}

static void errors_say_where_and_what(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t at;
        const char *error;
    } wrong[] = {
        {"{\"a\" 1}", 5, "expected ':'"},
        {"[1,]", 3, "expected a value"},
        {"{\"a\":1,}", 7, "expected a name"},
        {"[1 2]", 3, "expected ',' or ']'"},
        {"{\"a\":1 2}", 7, "expected ',' or '}'"},
        {"[nulx]", 4, "expected a value"},
        {"[012]", 2, "a number may not begin with 0"},
        {"[-]", 2, "expected a digit"},
        {"[\"\\q\"]", 2, "wrong escape in a string"},
        {"[\"a\nb\"]", 3, "control character in a string"},
        {"{} {}", 3, "bytes behind the document"},
        {"[\"abc", 5, "the text ends too early"},
    };
    weir_json_index index = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_not_equal(scan(&index, wrong[i].text, strlen(wrong[i].text)), WEIR_OK);
        assert_string_equal(index.error, wrong[i].error);
        assert_int_equal(index.error_at, wrong[i].at);
    }
    weir_json_index_fini(&index);
}

static weir_err scan_nested(unsigned depth, bool closed, bool map)
{
    weir_json_index index = {0};
    weir_buffer text = {0};
    for (unsigned i = 0; i < depth; i++)
        weir_buffer_put_text(&text, map ? "{\"k\":" : "[");
    if (map) weir_buffer_put_text(&text, "1");
    for (unsigned i = 0; closed && i < depth; i++)
        weir_buffer_put_text(&text, map ? "}" : "]");
    weir_err err = scan(&index, text.data, text.size);
    weir_json_index_fini(&index);
    weir_buffer_fini(&text);
    return err;
}

static void sixty_four_levels_are_read_and_no_more(void **state)
{
    (void)state;
    assert_int_equal(scan_nested(64, true, false), WEIR_OK);
    assert_int_equal(scan_nested(64, true, true), WEIR_OK);
    assert_int_equal(scan_nested(65, true, false), WEIR_EDEEP);
    assert_int_equal(scan_nested(65, true, true), WEIR_EDEEP);
    assert_int_equal(scan_nested(5000, true, false), WEIR_EDEEP);
    assert_int_equal(scan_nested(5000, false, false), WEIR_EDEEP);
    assert_int_equal(scan_nested(5000, false, true), WEIR_EDEEP);
    assert_int_equal(scan_nested(64, false, false), WEIR_ESHORT);
    expect("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"",
           WEIR_OK);
}

static void members_are_indexed_one_level_deep(void **state)
{
    (void)state;
    const char *text = " {\"a\" : \"x\\ny\", \"b\\n\":[1,{\"a\":2}] ,\"c\":{\"d\":[]}, "
                       "\"e\": -12 } ";
    const uint8_t *data = (const uint8_t *)text;
    weir_json_index index = {0};
    weir_value value;
    assert_int_equal(scan(&index, text, strlen(text)), WEIR_OK);
    assert_int_equal(index.type, WEIR_MAP);
    assert_int_equal(index.root, 1);
    assert_int_equal(index.root_size, strlen(text) - 2);
    assert_int_equal(index.count, 4);
    assert_int_equal(weir_json_find(&index, data, "a", 1), 0);
    assert_int_equal(weir_json_find(&index, data, "b\n", 2), 1);
    assert_int_equal(weir_json_find(&index, data, "b\\n", 3), -1);
    assert_int_equal(weir_json_find(&index, data, "d", 1), -1);
    weir_json_value(&index.fields[0], data, &value);
    assert_int_equal(value.type, WEIR_STR);
    assert_true(value.escaped);
    assert_int_equal(value.size, 4);
    weir_json_value(&index.fields[1], data, &value);
    assert_int_equal(value.type, WEIR_ARRAY);
    assert_memory_equal(value.data, "[1,{\"a\":2}]", value.size);
    weir_json_value(&index.fields[2], data, &value);
    assert_int_equal(value.type, WEIR_MAP);
    assert_memory_equal(value.data, "{\"d\":[]}", value.size);
    weir_json_value(&index.fields[3], data, &value);
    assert_int_equal(value.integer, -12);
    weir_json_index_fini(&index);
}

static void the_last_of_duplicates_counts(void **state)
{
    (void)state;
    const char *text = "{\"a\":1,\"\":0,\"b\":2,\"\\u0061\":3,\"bb\":4}";
    weir_json_index index = {0};
    assert_int_equal(scan(&index, text, strlen(text)), WEIR_OK);
    assert_int_equal(weir_json_find(&index, (const uint8_t *)text, "a", 1), 3);
    assert_int_equal(weir_json_find(&index, (const uint8_t *)text, "b", 1), 2);
    assert_int_equal(weir_json_find(&index, (const uint8_t *)text, "", 0), 1);
    weir_json_index_fini(&index);
}

static void elements_have_no_names(void **state)
{
    (void)state;
    weir_json_index index = {0};
    assert_int_equal(scan(&index, "[1,\"a\"]", 7), WEIR_OK);
    assert_int_equal(index.count, 2);
    assert_int_equal(weir_json_find(&index, (const uint8_t *)"[1,\"a\"]", "", 0), -1);
    weir_json_index_fini(&index);
}

/*  Strings around every border of a block, with escapes and quotes there.      */
static void strings_end_where_they_end_at_any_offset(void **state)
{
    (void)state;
    for (size_t pad = 0; pad < 200; pad++) {
        for (size_t slashes = 0; slashes < 5; slashes++) {
            weir_buffer text = {0};
            weir_json_index index = {0};
            weir_buffer_put_text(&text, "[\"");
            for (size_t i = 0; i < pad; i++)
                weir_buffer_put_byte(&text, 'x');
            for (size_t i = 0; i < slashes; i++)
                weir_buffer_put_byte(&text, '\\');
            weir_buffer_put_text(&text, "\",\"]\"]");
            weir_err err = scan(&index, text.data, text.size);
            if (slashes % 2) {
                assert_int_equal(err, WEIR_EMALFORMED);
            } else {
                assert_int_equal(err, WEIR_OK);
                assert_int_equal(index.count, 2);
                assert_int_equal(index.fields[0].value_size, pad + slashes + 2);
                assert_int_equal(index.fields[0].escaped, slashes > 0);
                assert_false(index.fields[1].escaped);
            }
            weir_json_index_fini(&index);
            weir_buffer_fini(&text);
        }
    }
}

static void documents_of_many_windows_are_indexed_whole(void **state)
{
    (void)state;
    weir_buffer text = {0};
    weir_json_index index = {0};
    weir_buffer_put_byte(&text, '{');
    for (int i = 0; i < 3000; i++)
        weir_buffer_printf(&text, "%s\"k%d\":%s", i ? ", " : "", i,
                           i % 3 ? "\"v\\\"\"" : "[0, {\"q\": \"]\"}]");
    weir_buffer_put_byte(&text, '}');
    assert_int_equal(scan(&index, text.data, text.size), WEIR_OK);
    assert_int_equal(index.count, 3000);
    for (int i = 0; i < 3000; i += 7) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        assert_int_equal(weir_json_find(&index, text.data, name, strlen(name)), i);
    }
    weir_json_index_fini(&index);
    weir_buffer_fini(&text);
}

static void integers_keep_their_exact_value(void **state)
{
    (void)state;
    assert_int_equal(read("-0").type, WEIR_INT);
    assert_int_equal(read("-0").integer, 0);
    assert_int_equal(read("-0").size, 2);
    assert_int_equal(read("9223372036854775807").type, WEIR_INT);
    assert_true(read("9223372036854775807").integer == INT64_MAX);
    assert_int_equal(read("-9223372036854775808").type, WEIR_INT);
    assert_true(read("-9223372036854775808").integer == INT64_MIN);
    assert_int_equal(read("9223372036854775808").type, WEIR_UINT);
    assert_true(read("9223372036854775808").natural == 1ull << 63);
    assert_int_equal(read("18446744073709551615").type, WEIR_UINT);
    assert_true(read("18446744073709551615").natural == UINT64_MAX);
    assert_int_equal(read("18446744073709551616").type, WEIR_FLOAT);
    assert_true(read("18446744073709551616").real == 0x1p64);
    assert_int_equal(read("-9223372036854775809").type, WEIR_FLOAT);
    assert_true(read("-9223372036854775809").real == -0x1p63);
    assert_int_equal(read("999999999999999999").integer, 999999999999999999);
}

static void floats_are_rounded_correctly(void **state)
{
    (void)state;
    assert_int_equal(read("1e2").type, WEIR_FLOAT);
    assert_true(read("1e2").real == 100);
    assert_true(read("0.1").real == 0.1);
    assert_true(signbit(read("-0.0").real));
    assert_true(read("9007199254740993.0").real == 9007199254740992.0);
    assert_true(read("5e-324").real == 5e-324);
    assert_true(read("2.4703282292062328e-324").real == 5e-324);
    assert_true(read("1.7976931348623157e308").real == 1.7976931348623157e308);
    assert_true(isinf(read("1e400").real));
    assert_true(read("1e-400").real == 0);
    assert_true(read("0e99999999999999999999").real == 0);
    assert_true(read("123456789012345678901234567890.5").real ==
                123456789012345678901234567890.5);
    assert_true(
        read("0.000000000000000000000000000000000000000000000000000000000000000000000001")
            .real == 1e-72);
}

static void check_float(double value, const char *want)
{
    weir_buffer out = {0};
    assert_int_equal(weir_json_put_float(&out, value), WEIR_OK);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, want);
    weir_buffer_fini(&out);
}

static void floats_are_written_short_and_as_floats(void **state)
{
    (void)state;
    check_float(0, "0.0");
    check_float(-0.0, "-0.0");
    check_float(1, "1.0");
    check_float(-12.5, "-12.5");
    check_float(0.1, "0.1");
    check_float(0.30000000000000004, "0.30000000000000004");
    check_float(1.05, "1.05");
    check_float(100.000001, "100.000001");
    check_float(1e15, "1e+15");
    check_float(999999999999999, "999999999999999.0");
    check_float(1e22, "1e+22");
    check_float(1e-5, "1e-05");
    check_float(5e-324, "5e-324");
    check_float(1.7976931348623157e308, "1.7976931348623157e+308");
    weir_buffer out = {0};
    assert_int_equal(weir_json_put_float(&out, NAN), WEIR_EINVAL);
    assert_int_equal(weir_json_put_float(&out, -INFINITY), WEIR_EINVAL);
    assert_int_equal(out.size, 0);
    uint64_t seed = 1;
    for (int i = 0; i < 20000; i++) {
        double value, again;
        weir_value back;
        seed = seed * 6364136223846793005 + 1442695040888963407;
        memcpy(&value, &seed, sizeof value);
        if (i % 2) value = (double)(int64_t)(seed >> 24) / 1000;
        if (!isfinite(value)) continue;
        out.size = 0;
        assert_int_equal(weir_json_put_float(&out, value), WEIR_OK);
        weir_json_read(out.data, out.size, &back);
        again = back.real;
        assert_int_equal(back.type, WEIR_FLOAT);
        assert_memory_equal(&again, &value, sizeof value);
    }
    weir_buffer_fini(&out);
}

static void integers_are_written_whole(void **state)
{
    (void)state;
    weir_buffer out = {0};
    weir_json_put_int(&out, INT64_MIN);
    weir_buffer_put_byte(&out, ' ');
    weir_json_put_uint(&out, UINT64_MAX);
    weir_buffer_put_byte(&out, ' ');
    weir_json_put_int(&out, 0);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, "-9223372036854775808 18446744073709551615 0");
    weir_buffer_fini(&out);
}

static void check_unescape(const char *contents, const char *want, size_t want_size)
{
    char out[64];
    size_t size = strlen(contents);
    assert_int_equal(weir_json_unescape((const uint8_t *)contents, size, out), want_size);
    assert_memory_equal(out, want, want_size);
    assert_true(weir_json_equal((const uint8_t *)contents, size, true, want, want_size));
    assert_false(
        weir_json_equal((const uint8_t *)contents, size, true, want, want_size - 1));
    out[want_size] = 'x';
    assert_false(
        weir_json_equal((const uint8_t *)contents, size, true, out, want_size + 1));
}

static void escapes_are_read(void **state)
{
    (void)state;
    check_unescape("a\\n\\t\\\"\\\\\\/\\b\\f\\r", "a\n\t\"\\/\b\f\r", 9);
    check_unescape("\\u0000x", "\0x", 2);
    check_unescape("\\u00e9\\u20AC", "\xc3\xa9\xe2\x82\xac", 5);
    check_unescape("\\ud83d\\ude00!", "\xf0\x9f\x98\x80!", 5);
    check_unescape("\\ud800", "\xed\xa0\x80", 3);
    check_unescape("\\udc00\\ud800", "\xed\xb0\x80\xed\xa0\x80", 6);
    check_unescape("\\ud83dx\\ude00", "\xed\xa0\xbdx\xed\xb8\x80", 7);
    check_unescape("\\ud83d\\ud83d\\ude00", "\xed\xa0\xbd\xf0\x9f\x98\x80", 7);
}

static void check_put_string(const char *text, size_t size, const char *want)
{
    weir_buffer out = {0};
    assert_int_equal(weir_json_put_string(&out, text, size), WEIR_OK);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, want);
    weir_buffer_fini(&out);
}

static void strings_are_escaped_no_more_than_needed(void **state)
{
    (void)state;
    check_put_string(NULL, 0, "\"\"");
    check_put_string("a\"b\\c/\x7f", 7, "\"a\\\"b\\\\c/\x7f\"");
    check_put_string("\n\r\t\b\f\0\x1f", 7, "\"\\n\\r\\t\\b\\f\\u0000\\u001f\"");
    check_put_string("0123456789abcde\xc3\xa9\n", 18, "\"0123456789abcde\xc3\xa9\\n\"");
    check_put_string("\xed\xa0\x80x", 4, "\"\\ud800x\"");
    weir_buffer out = {0};
    weir_buffer_put_text(&out, "kept");
    assert_int_equal(weir_json_put_string(&out, "abc\xff", 4), WEIR_EMALFORMED);
    assert_int_equal(weir_json_put_string(&out, "\xc3", 1), WEIR_EMALFORMED);
    assert_int_equal(weir_json_put_string(&out, "\xed\xa0", 2), WEIR_EMALFORMED);
    assert_int_equal(out.size, 4);
    weir_buffer_fini(&out);
}

static void check_line(const char *text, const char *want)
{
    weir_buffer out = {0};
    weir_value value = read(text);
    assert_int_equal(weir_json_put_value(&out, &value), WEIR_OK);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, want);
    weir_buffer_fini(&out);
}

static void json_values_are_written_back_on_one_line(void **state)
{
    (void)state;
    check_line("{\r\n  \"a\\n\": [1,\n\t2],\n  \"long enough\": \"for a block\"\n}",
               "{    \"a\\n\": [1, \t2],   \"long enough\": \"for a block\" }");
    check_line("\"a\\ud800\\n\"", "\"a\\ud800\\n\"");
    check_line("-0", "-0");
    check_line("1e400", "1e400");
    check_line("1.50", "1.50");
}

static void put_packed(weir_buffer *out, const weir_buffer *packed, weir_err want)
{
    weir_reader reader = {packed->data, packed->data + packed->size};
    weir_value value;
    assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
    out->size = 0;
    assert_int_equal(weir_json_put_value(out, &value), want);
    if (want) assert_int_equal(out->size, 0);
}

static void messagepack_becomes_json(void **state)
{
    (void)state;
    weir_buffer packed = {0}, out = {0};
    weir_put_map(&packed, 3);
    weir_put_str(&packed, "a\"", 2);
    weir_put_array(&packed, 7);
    weir_put_nil(&packed);
    weir_put_bool(&packed, true);
    weir_put_int(&packed, -5);
    weir_put_uint(&packed, UINT64_MAX);
    weir_put_float(&packed, 2);
    weir_put_bin(&packed, "\xff\x00", 2);
    weir_put_str(&packed, "\n", 1);
    weir_put_str(&packed, "m", 1);
    weir_put_map(&packed, 0);
    weir_put_str(&packed, "l", 1);
    weir_put_array(&packed, 0);
    put_packed(&out, &packed, WEIR_OK);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data,
                        "{\"a\\\"\":[null,true,-5,18446744073709551615,2.0,\"/wA=\","
                        "\"\\n\"],\"m\":{},\"l\":[]}");
    weir_buffer_fini(&packed);
    weir_buffer_fini(&out);
}

static void what_json_cannot_say_is_refused(void **state)
{
    (void)state;
    weir_buffer packed = {0}, out = {0};
    weir_put_map(&packed, 1);
    weir_put_int(&packed, 1);
    weir_put_nil(&packed);
    put_packed(&out, &packed, WEIR_EINVAL);
    packed.size = 0;
    weir_put_array(&packed, 2);
    weir_put_int(&packed, 1);
    weir_put_float(&packed, NAN);
    put_packed(&out, &packed, WEIR_EINVAL);
    packed.size = 0;
    weir_buffer_put(&packed, "\x91\xd4\x01\x02", 4);
    put_packed(&out, &packed, WEIR_EINVAL);
    weir_value missing = {0};
    assert_int_equal(weir_json_put_value(&out, &missing), WEIR_EINVAL);
    weir_buffer_fini(&packed);
    weir_buffer_fini(&out);
}

static void one_value_of_many_is_stepped_over(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t size;
    } cases[] = {
        {"12,3", 2},         {"null]", 4},
        {"\"a\\\"]\",1", 6}, {"[[\"]\"],{}]]", 10},
        {"{\"}\":1} ", 7},   {"-1.5e3}", 6},
        {"true\n", 4},       {"\"0123456789abcdef\\\\\",\"x\"", 20},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(
            weir_json_skip((const uint8_t *)cases[i].text, strlen(cases[i].text)),
            cases[i].size);
}

static void real_records_are_accepted(void **state)
{
    (void)state;
    FILE *file = fopen("../shared/data/access.ndjson", "rb");
    if (!file) {
        print_message("skipped: ../shared/data/access.ndjson is not there\n");
        skip();
    }
    char line[8192];
    size_t lines = 0;
    weir_json_index index = {0};
    while (fgets(line, sizeof line, file)) {
        assert_int_equal(scan(&index, line, strlen(line)), WEIR_OK);
        assert_int_equal(index.count, 9);
        assert_int_equal(weir_json_find(&index, (uint8_t *)line, "agent", 5), 8);
        lines++;
    }
    assert_true(lines > 9000);
    weir_json_index_fini(&index);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_documents_are_accepted),
        cmocka_unit_test(broken_documents_are_refused),
        cmocka_unit_test(invalid_utf8_is_refused_where_it_stands),
        cmocka_unit_test(nul_bytes_are_refused_everywhere),
        cmocka_unit_test(every_cut_of_a_document_ends_too_early),
        cmocka_unit_test(errors_say_where_and_what),
        cmocka_unit_test(sixty_four_levels_are_read_and_no_more),
        cmocka_unit_test(members_are_indexed_one_level_deep),
        cmocka_unit_test(the_last_of_duplicates_counts),
        cmocka_unit_test(elements_have_no_names),
        cmocka_unit_test(strings_end_where_they_end_at_any_offset),
        cmocka_unit_test(documents_of_many_windows_are_indexed_whole),
        cmocka_unit_test(integers_keep_their_exact_value),
        cmocka_unit_test(floats_are_rounded_correctly),
        cmocka_unit_test(floats_are_written_short_and_as_floats),
        cmocka_unit_test(integers_are_written_whole),
        cmocka_unit_test(escapes_are_read),
        cmocka_unit_test(strings_are_escaped_no_more_than_needed),
        cmocka_unit_test(json_values_are_written_back_on_one_line),
        cmocka_unit_test(messagepack_becomes_json),
        cmocka_unit_test(what_json_cannot_say_is_refused),
        cmocka_unit_test(one_value_of_many_is_stepped_over),
        cmocka_unit_test(real_records_are_accepted),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
