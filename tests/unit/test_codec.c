#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include "runtime/codec.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/*  Reads a copy of exactly that size, so that a sanitizer sees every overread. */
static weir_err read_kind(const uint8_t *data, size_t size, weir_type *type)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size) memcpy(copy, data, size);
    weir_reader reader = {copy, copy + size}, skip = reader;
    weir_value value = {0};
    weir_err err = weir_read_value(&reader, &value);
    assert_int_equal(weir_read_skip(&skip), err);
    assert_ptr_equal(skip.at, reader.at);
    assert_ptr_equal(reader.at, err ? copy : copy + size);
    *type = value.type;
    free(copy);
    return err;
}

static void expect_error(weir_err want, const uint8_t *data, size_t size)
{
    weir_type type;
    assert_int_equal(read_kind(data, size, &type), want);
}

static void integers_take_their_shortest_form_and_come_back(void **state)
{
    (void)state;
    static const struct {
        int64_t number;
        size_t size;
    } cases[] = {
        {0, 1},
        {127, 1},
        {128, 2},
        {255, 2},
        {256, 3},
        {65535, 3},
        {65536, 5},
        {4294967295, 5},
        {4294967296, 9},
        {INT64_MAX, 9},
        {-1, 1},
        {-32, 1},
        {-33, 2},
        {-128, 2},
        {-129, 3},
        {-32768, 3},
        {-32769, 5},
        {INT32_MIN, 5},
        {(int64_t)INT32_MIN - 1, 9},
        {INT64_MIN, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_buffer out = {0};
        int64_t back;
        weir_put_int(&out, cases[i].number);
        assert_int_equal(out.size, cases[i].size);
        weir_reader reader = {out.data, out.data + out.size};
        assert_int_equal(weir_read_int(&reader, &back), WEIR_OK);
        assert_true(back == cases[i].number);
        assert_ptr_equal(reader.at, reader.end);
        weir_buffer_fini(&out);
    }
}

static void uint64_is_kept_apart_from_int64(void **state)
{
    (void)state;
    weir_buffer out = {0};
    weir_put_uint(&out, UINT64_MAX);
    weir_put_uint(&out, INT64_MAX);
    weir_reader reader = {out.data, out.data + out.size};
    weir_value value;
    uint64_t natural;
    int64_t integer;
    assert_int_equal(weir_read_int(&reader, &integer), WEIR_EMALFORMED);
    assert_ptr_equal(reader.at, out.data);
    assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
    assert_int_equal(value.type, WEIR_UINT);
    assert_true(value.natural == UINT64_MAX);
    assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
    assert_int_equal(value.type, WEIR_INT);
    reader.at = out.data;
    assert_int_equal(weir_read_uint(&reader, &natural), WEIR_OK);
    assert_true(natural == UINT64_MAX);
    weir_buffer_fini(&out);
    expect_error(WEIR_OK, BYTES(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0));
}

static void a_negative_number_is_no_uint(void **state)
{
    (void)state;
    uint8_t data[] = {0xff};
    weir_reader reader = {data, data + 1};
    uint64_t natural;
    assert_int_equal(weir_read_uint(&reader, &natural), WEIR_EMALFORMED);
    assert_ptr_equal(reader.at, data);
}

static void floats_come_back_bit_for_bit(void **state)
{
    (void)state;
    static const struct {
        double real;
        size_t size;
    } cases[] = {{0.5, 5},         {-0.0, 5},   {0.1, 9},      {1e300, 9},
                 {-1e300, 9},      {5e-324, 9}, {16777217, 9}, {3.4028234663852886e38, 5},
                 {3.4028235e38, 9}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_buffer out = {0};
        weir_value value;
        weir_put_float(&out, cases[i].real);
        assert_int_equal(out.size, cases[i].size);
        weir_reader reader = {out.data, out.data + out.size};
        assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
        assert_int_equal(value.type, WEIR_FLOAT);
        assert_memory_equal(&value.real, &cases[i].real, sizeof value.real);
        weir_buffer_fini(&out);
    }
    weir_buffer out = {0};
    weir_value value;
    weir_put_float(&out, NAN);
    weir_put_float(&out, -INFINITY);
    weir_reader reader = {out.data, out.data + out.size};
    assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
    assert_true(isnan(value.real));
    assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
    assert_true(value.real == -INFINITY);
    weir_buffer_fini(&out);
}

static void strings_and_binaries_of_every_head(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    static const size_t str_heads[] = {1, 1, 1, 2, 2, 3, 3, 5};
    static const size_t bin_heads[] = {2, 2, 2, 2, 2, 3, 3, 5};
    char *text = calloc(1, 65536);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        weir_buffer out = {0};
        weir_value value;
        weir_put_str(&out, text, sizes[i]);
        assert_int_equal(out.size, str_heads[i] + sizes[i]);
        weir_put_bin(&out, text, sizes[i]);
        assert_int_equal(out.size, str_heads[i] + bin_heads[i] + 2 * sizes[i]);
        weir_reader reader = {out.data, out.data + out.size};
        assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
        assert_int_equal(value.type, WEIR_STR);
        assert_int_equal(value.size, sizes[i]);
        assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
        assert_int_equal(value.type, WEIR_BIN);
        assert_int_equal(value.size, sizes[i]);
        assert_ptr_equal(reader.at, reader.end);
        weir_buffer_fini(&out);
    }
    free(text);
}

static void containers_of_every_head(void **state)
{
    (void)state;
    static const uint32_t counts[] = {0, 15, 16, 65535, 65536};
    static const size_t heads[] = {1, 1, 3, 3, 5};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        weir_buffer out = {0};
        weir_value value;
        uint32_t count;
        weir_put_array(&out, counts[i]);
        assert_int_equal(out.size, heads[i]);
        for (uint32_t j = 0; j < counts[i]; j++)
            weir_put_nil(&out);
        size_t map = out.size;
        weir_put_map(&out, counts[i]);
        assert_int_equal(out.size - map, heads[i]);
        for (uint32_t j = 0; j < 2 * counts[i]; j++)
            weir_put_nil(&out);
        weir_reader reader = {out.data, out.data + out.size};
        assert_int_equal(weir_read_value(&reader, &value), WEIR_OK);
        assert_int_equal(value.type, WEIR_ARRAY);
        assert_int_equal(value.size, map);
        assert_int_equal(weir_read_array(&reader, &count), WEIR_EMALFORMED);
        assert_int_equal(weir_read_map(&reader, &count), WEIR_OK);
        assert_int_equal(count, counts[i]);
        weir_buffer_fini(&out);
    }
}

static void claims_that_the_bytes_cannot_hold_are_refused(void **state)
{
    (void)state;
    expect_error(WEIR_ESHORT, NULL, 0);
    expect_error(WEIR_ESHORT, BYTES(0xdd, 0xff, 0xff, 0xff, 0xff));
    expect_error(WEIR_ESHORT, BYTES(0xdf, 0xff, 0xff, 0xff, 0xff));
    expect_error(WEIR_ESHORT, BYTES(0xdb, 0xff, 0xff, 0xff, 0xff));
    expect_error(WEIR_ESHORT, BYTES(0xc6, 0xff, 0xff, 0xff, 0xff));
    expect_error(WEIR_ESHORT, BYTES(0xc9, 0xff, 0xff, 0xff, 0xff));
    expect_error(WEIR_ESHORT, BYTES(0xdf, 0x80, 0, 0, 0));
    expect_error(WEIR_ESHORT, BYTES(0x81, 0xc0));
    expect_error(WEIR_ESHORT, BYTES(0xcf, 1, 2, 3));
    expect_error(WEIR_ESHORT, BYTES(0xd4, 1));
    expect_error(WEIR_ESHORT, BYTES(0xa2, 'a'));
    uint8_t claim[] = {0xdd, 0xff, 0xff, 0xff, 0xff};
    weir_reader reader = {claim, claim + sizeof claim};
    uint32_t count;
    assert_int_equal(weir_read_array(&reader, &count), WEIR_ESHORT);
}

static void what_is_no_messagepack_is_refused(void **state)
{
    (void)state;
    expect_error(WEIR_EMALFORMED, BYTES(0xc1));
    expect_error(WEIR_EMALFORMED, BYTES(0x91, 0xc1));
    expect_error(WEIR_EMALFORMED, BYTES(0xa1, 0xff));
    expect_error(WEIR_EMALFORMED, BYTES(0x81, 0x01, 0xa3, 0xed, 0xa0, 0x80));
    expect_error(WEIR_OK, BYTES(0xc4, 1, 0xff));
}

static void trusted_text_is_not_checked_but_bounded(void **state)
{
    (void)state;
    uint8_t data[] = {0x91, 0xa2, 0xff, 0xff};
    weir_reader reader = {data, data + 4};
    weir_value value;
    assert_int_equal(weir_read_nested(&reader, &value, 0, true), WEIR_OK);
    reader = (weir_reader){data, data + 3};
    assert_int_equal(weir_read_nested(&reader, &value, 0, true), WEIR_ESHORT);
}

static weir_err read_nested_arrays(size_t depth, bool empty)
{
    weir_type type;
    uint8_t *data = malloc(depth + 1);
    assert_non_null(data);
    memset(data, 0x91, depth);
    data[depth] = 0xc0;
    if (empty) data[depth - 1] = 0x90;
    weir_err err = read_kind(data, depth + !empty, &type);
    free(data);
    return err;
}

static void sixty_four_levels_are_read_and_no_more(void **state)
{
    (void)state;
    assert_int_equal(read_nested_arrays(64, false), WEIR_OK);
    assert_int_equal(read_nested_arrays(64, true), WEIR_OK);
    assert_int_equal(read_nested_arrays(65, false), WEIR_EDEEP);
    assert_int_equal(read_nested_arrays(65, true), WEIR_EDEEP);
    assert_int_equal(read_nested_arrays(5000, false), WEIR_EDEEP);
    uint8_t data[] = {0x91, 0xc0};
    weir_reader reader = {data, data + 2};
    weir_value value;
    assert_int_equal(weir_read_nested(&reader, &value, 64, false), WEIR_EDEEP);
    assert_int_equal(weir_read_nested(&reader, &value, 63, false), WEIR_OK);
}

static void extensions_are_carried(void **state)
{
    (void)state;
    weir_type type;
    static const uint8_t heads[][6] = {
        {0xd4, 9},   {0xd5, 9},    {0xd6, 9},       {0xd7, 9},
        {0xd8, 9},   {0xc7, 3, 9}, {0xc8, 0, 3, 9}, {0xc9, 0, 0, 0, 3, 9},
        {0xc7, 0, 9}};
    static const size_t sizes[] = {3, 4, 6, 10, 18, 6, 7, 9, 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t data[18] = {0};
        memcpy(data, heads[i], sizeof heads[i]);
        assert_int_equal(read_kind(data, sizes[i], &type), WEIR_OK);
        assert_int_equal(type, WEIR_EXT);
        assert_int_equal(read_kind(data, sizes[i] - 1, &type), WEIR_ESHORT);
    }
}

static void typed_reads_leave_the_reader_at_another_type(void **state)
{
    (void)state;
    uint8_t data[] = {0xc3, 0xa1, 'x', 0xc0, 0x90};
    weir_reader reader = {data, data + sizeof data};
    const char *text;
    size_t size;
    bool truth = false;
    assert_int_equal(weir_read_str(&reader, &text, &size), WEIR_EMALFORMED);
    assert_int_equal(weir_read_nil(&reader), WEIR_EMALFORMED);
    assert_ptr_equal(reader.at, data);
    assert_int_equal(weir_read_bool(&reader, &truth), WEIR_OK);
    assert_true(truth);
    assert_int_equal(weir_read_bool(&reader, &truth), WEIR_EMALFORMED);
    assert_int_equal(weir_read_str(&reader, &text, &size), WEIR_OK);
    assert_int_equal(size, 1);
    assert_int_equal(*text, 'x');
    assert_int_equal(weir_read_nil(&reader), WEIR_OK);
    assert_int_equal(weir_read_nil(&reader), WEIR_EMALFORMED);
    assert_ptr_equal(reader.at, data + 4);
}

static weir_value integer(int64_t number)
{
    return (weir_value){.type = WEIR_INT, .integer = number};
}

static weir_value natural(uint64_t number)
{
    return (weir_value){.type = WEIR_UINT, .natural = number};
}

static weir_value real(double number)
{
    return (weir_value){.type = WEIR_FLOAT, .real = number};
}

static void check_order(weir_value a, weir_value b, int want)
{
    assert_int_equal(weir_value_compare_numbers(&a, &b), want);
    assert_int_equal(weir_value_compare_numbers(&b, &a), want == 2 ? 2 : -want);
}

static void numbers_compare_by_exact_value(void **state)
{
    (void)state;
    check_order(integer(1), integer(2), -1);
    check_order(integer(-1), natural(UINT64_MAX), -1);
    check_order(natural(1ull << 63), integer(INT64_MAX), 1);
    check_order(natural(UINT64_MAX), real(0x1p64), -1);
    check_order(natural(UINT64_MAX), real(18446744073709549568.0), 1);
    check_order(natural(1ull << 63), real(0x1p63), 0);
    check_order(integer(9007199254740993), real(9007199254740992.0), 1);
    check_order(integer(9007199254740992), real(9007199254740992.0), 0);
    check_order(integer(INT64_MAX), real(0x1p63), -1);
    check_order(integer(INT64_MIN), real(-0x1p63), 0);
    check_order(integer(INT64_MIN), real(-1e300), 1);
    check_order(integer(1), real(1.5), -1);
    check_order(integer(-1), real(-1.5), 1);
    check_order(integer(0), real(-0.0), 0);
    check_order(integer(0), real(-0.5), 1);
    check_order(natural(UINT64_MAX), real(-0.5), 1);
    check_order(integer(5), real(INFINITY), -1);
    check_order(real(NAN), integer(5), 2);
    check_order(real(NAN), natural(UINT64_MAX), 2);
    check_order(real(NAN), real(NAN), 2);
    check_order(real(1), real(1), 0);
}

static void types_have_names(void **state)
{
    (void)state;
    assert_string_equal(weir_type_name(WEIR_MISSING), "missing");
    assert_string_equal(weir_type_name(WEIR_EXT), "ext");
    assert_string_equal(weir_type_name((weir_type)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_take_their_shortest_form_and_come_back),
        cmocka_unit_test(uint64_is_kept_apart_from_int64),
        cmocka_unit_test(a_negative_number_is_no_uint),
        cmocka_unit_test(floats_come_back_bit_for_bit),
        cmocka_unit_test(strings_and_binaries_of_every_head),
        cmocka_unit_test(containers_of_every_head),
        cmocka_unit_test(claims_that_the_bytes_cannot_hold_are_refused),
        cmocka_unit_test(what_is_no_messagepack_is_refused),
        cmocka_unit_test(trusted_text_is_not_checked_but_bounded),
        cmocka_unit_test(sixty_four_levels_are_read_and_no_more),
        cmocka_unit_test(extensions_are_carried),
        cmocka_unit_test(typed_reads_leave_the_reader_at_another_type),
        cmocka_unit_test(numbers_compare_by_exact_value),
        cmocka_unit_test(types_have_names),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
