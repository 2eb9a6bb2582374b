#include "actors/cursor.h"
#include "runtime/base64.h"
#include "runtime/codec.h"
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <xxhash.h>

enum { nonce = 0x51e };

static const uint64_t values[] = {
    0, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, UINT32_MAX + 1ull, UINT64_MAX};
enum { value_count = sizeof values / sizeof *values };

static weir_cursor sample(void)
{
    weir_cursor cursor = {.nonce = nonce, .first = 3};
    weir_cursor_set(&cursor, 10, (weir_position){9, 0});
    weir_cursor_set(&cursor, 3, (weir_position){70000, 12});
    weir_cursor_set(&cursor, 9, (weir_position){10, 0});
    return cursor;
}

static char *text_of(const weir_cursor *cursor)
{
    weir_buffer text = {0};
    weir_cursor_put(cursor, &text);
    weir_buffer_put_byte(&text, 0);
    return (char *)text.data;
}

static void assert_same(const weir_cursor *a, const weir_cursor *b)
{
    assert_int_equal(a->nonce, b->nonce);
    assert_int_equal(a->first, b->first);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(a->marks[i].shard, b->marks[i].shard);
        assert_true(a->marks[i].at.a == b->marks[i].at.a);
        assert_true(a->marks[i].at.b == b->marks[i].at.b);
    }
}

static void assert_bad(const char *text, size_t size, const char *why)
{
    weir_cursor cursor;
    weir_report report = {0};
    assert_int_equal(weir_cursor_read(&cursor, text, size, nonce, &report), WEIR_EINVAL);
    assert_ptr_equal(strstr(report.text, "bad_cursor: "), report.text);
    if (why && !strstr(report.text, why)) fail_msg("%s: %s", text, report.text);
    assert_null(cursor.marks);
    assert_int_equal(cursor.count, 0);
}

/*  The text of M, whatever it is, with a checksum that is right.                   */
static char *wrap(const weir_buffer *m)
{
    weir_buffer bytes = {0};
    uint32_t sum = htobe32((uint32_t)XXH3_64bits(m->data, m->size));
    weir_buffer_put(&bytes, m->data, m->size);
    weir_buffer_put(&bytes, &sum, sizeof sum);
    char *text = calloc(1, 2 + weir_base64_size(bytes.size) + 1);
    memcpy(text, "w1", 2);
    weir_base64_encode(text + 2, bytes.data, bytes.size);
    for (char *at = text; *at; at++)
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at == '=' ? 0 : *at;
    weir_buffer_fini(&bytes);
    return text;
}

static void assert_bad_m(weir_buffer *m)
{
    char *text = wrap(m);
    assert_bad(text, strlen(text), "as Weir writes it");
    free(text);
    weir_buffer_fini(m);
}

static void put_head(weir_buffer *m, uint64_t version, uint32_t marks)
{
    weir_put_array(m, 4);
    weir_put_uint(m, version);
    weir_put_uint(m, nonce);
    weir_put_uint(m, 3);
    weir_put_array(m, marks);
}

static void put_mark(weir_buffer *m, uint64_t shard, uint64_t a)
{
    weir_put_array(m, 3);
    weir_put_uint(m, shard);
    weir_put_uint(m, a);
    weir_put_uint(m, 0);
}

static void what_was_put_is_read(void **state)
{
    (void)state;
    weir_cursor cursor = sample(), again;
    char *text = text_of(&cursor);
    assert_int_equal(weir_cursor_read(&again, text, strlen(text), nonce, NULL), WEIR_OK);
    assert_int_equal(again.count, 3);
    assert_same(&again, &cursor);
    free(text);
    weir_cursor_fini(&again);
    weir_cursor_fini(&cursor);
}

static void the_text_is_that_of_the_format(void **state)
{
    (void)state;
    weir_buffer m = {0};
    put_head(&m, 1, 2);
    put_mark(&m, 9, 300);
    put_mark(&m, 10, 5);
    weir_cursor cursor = {.nonce = nonce, .first = 3};
    weir_cursor_set(&cursor, 9, (weir_position){300, 0});
    weir_cursor_set(&cursor, 10, (weir_position){5, 0});
    char *text = text_of(&cursor), *wanted = wrap(&m);
    assert_string_equal(text, wanted);
    free(text);
    free(wanted);
    weir_buffer_fini(&m);
    weir_cursor_fini(&cursor);
}

static void all_widths_of_numbers_come_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < value_count; i++) {
        weir_cursor cursor = {.nonce = values[i], .first = (uint32_t)values[i]}, again;
        for (unsigned j = 0; j < value_count; j++)
            weir_cursor_set(&cursor, (uint32_t)values[j],
                            (weir_position){values[i], values[j]});
        char *text = text_of(&cursor);
        assert_int_equal(weir_cursor_read(&again, text, strlen(text), values[i], NULL),
                         WEIR_OK);
        assert_same(&again, &cursor);
        free(text);
        weir_cursor_fini(&again);
        weir_cursor_fini(&cursor);
    }
}

static void shards_are_in_the_order_of_their_numbers(void **state)
{
    (void)state;
    weir_cursor cursor = sample();
    assert_int_equal(cursor.marks[0].shard, 3);
    assert_int_equal(cursor.marks[1].shard, 9);
    assert_int_equal(cursor.marks[2].shard, 10);
    assert_int_equal(weir_cursor_get(&cursor, 9).a, 10);
    assert_int_equal(weir_cursor_get(&cursor, 10).a, 9);
    assert_int_equal(weir_cursor_get(&cursor, 3).b, 12);
    assert_int_equal(weir_cursor_get(&cursor, 4).a, 0);
    assert_int_equal(weir_cursor_get(&cursor, 11).a, 0);
    weir_cursor_set(&cursor, 9, (weir_position){11, 0});
    assert_int_equal(cursor.count, 3);
    assert_int_equal(weir_cursor_get(&cursor, 9).a, 11);
    weir_cursor_fini(&cursor);
}

/*  Each character, changed into each other byte; the last ones have bits that stand for
    nothing.                                                                        */
static void a_changed_character_is_refused(void **state)
{
    (void)state;
    for (unsigned extra = 0; extra < 3; extra++) {
        weir_cursor cursor = sample();
        weir_cursor_set(&cursor, 11, (weir_position){values[extra * 3 + 1], 0});
        char *text = text_of(&cursor);
        size_t size = strlen(text);
        for (size_t i = 0; i < size; i++) {
            char right = text[i];
            for (int other = 0; other < 256; other++) {
                text[i] = (char)other;
                if (text[i] != right) assert_bad(text, size, NULL);
            }
            text[i] = right;
        }
        free(text);
        weir_cursor_fini(&cursor);
    }
}

static void a_wrong_checksum_is_told(void **state)
{
    (void)state;
    weir_cursor cursor = sample();
    char *text = text_of(&cursor);
    text[10] = text[10] == 'A' ? 'B' : 'A';
    assert_bad(text, strlen(text), "its checksum is wrong");
    free(text);
    weir_cursor_fini(&cursor);
}

static void what_is_cut_or_longer_is_refused(void **state)
{
    (void)state;
    weir_cursor cursor = sample();
    char *text = text_of(&cursor);
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        assert_bad(text, i, NULL);
    weir_buffer longer = {0};
    for (int byte = 0; byte < 256; byte++) {
        longer.size = 0;
        weir_buffer_put(&longer, text, size);
        weir_buffer_put_byte(&longer, (uint8_t)byte);
        assert_bad((char *)longer.data, longer.size, NULL);
    }
    weir_buffer_fini(&longer);
    assert_bad("", 0, "begin with w1");
    assert_bad("w2", 2, "begin with w1");
    free(text);
    weir_cursor_fini(&cursor);
}

static void padding_is_refused(void **state)
{
    (void)state;
    unsigned padded = 0;
    for (unsigned marks = 1; marks < 4; marks++) {
        weir_cursor cursor = {.nonce = nonce};
        weir_cursor_set(&cursor, 1, (weir_position){values[marks * 2], 0});
        char *text = text_of(&cursor);
        weir_buffer longer = {0};
        weir_buffer_put_text(&longer, text);
        for (; (longer.size - 2) % 4; padded++) {
            weir_buffer_put_byte(&longer, '=');
            assert_bad((char *)longer.data, longer.size, "without padding");
        }
        weir_buffer_fini(&longer);
        free(text);
        weir_cursor_fini(&cursor);
    }
    assert_true(padded > 0);
}

static void another_bus_is_refused(void **state)
{
    (void)state;
    weir_cursor cursor = sample();
    cursor.nonce = nonce + 1;
    char *text = text_of(&cursor);
    assert_bad(text, strlen(text), "of another bus");
    free(text);
    weir_cursor_fini(&cursor);
}

static void shards_out_of_order_are_refused(void **state)
{
    (void)state;
    weir_buffer m = {0};
    put_head(&m, 1, 2);
    put_mark(&m, 10, 1);
    put_mark(&m, 9, 1);
    assert_bad_m(&m);
    put_head(&m, 1, 2);
    put_mark(&m, 9, 1);
    put_mark(&m, 9, 2);
    assert_bad_m(&m);
}

static void a_number_that_is_not_shortest_is_refused(void **state)
{
    (void)state;
    static const uint8_t one_wide[] = {0xcc, 1}, one_signed[] = {0xd0, 1};
    const uint8_t *const ones[] = {one_wide, one_signed};
    for (unsigned i = 0; i < 2; i++) {
        weir_buffer m = {0};
        put_head(&m, 1, 1);
        weir_put_array(&m, 3);
        weir_put_uint(&m, 9);
        weir_buffer_put(&m, ones[i], 2);
        weir_put_uint(&m, 0);
        assert_bad_m(&m);
    }
    weir_buffer m = {0};
    put_head(&m, 1, 0);
    m.data[m.size - 1] = 0xdc; // array 16
    weir_buffer_put(&m, "\0\0", 2);
    assert_bad_m(&m);
}

static void another_shape_is_refused(void **state)
{
    (void)state;
    weir_buffer m = {0};
    put_head(&m, 2, 0); // version
    assert_bad_m(&m);
    put_head(&m, 1, 0); // something behind it
    weir_put_nil(&m);
    assert_bad_m(&m);
    put_head(&m, 1, 1); // a shard above u32
    put_mark(&m, UINT32_MAX + 1ull, 1);
    assert_bad_m(&m);
    put_head(&m, 1, 1); // a mark of two
    weir_put_array(&m, 2);
    weir_put_uint(&m, 1);
    weir_put_uint(&m, 1);
    assert_bad_m(&m);
    put_head(&m, 1, 1); // fewer marks than it says
    assert_bad_m(&m);
    weir_put_nil(&m);
    assert_bad_m(&m);
}

static void a_cursor_that_is_moved_leaves_the_start_behind(void **state)
{
    (void)state;
    weir_cursor from = {.nonce = 7, .first = 2}, to = {.nonce = 1};
    weir_cursor_set(&from, 2, (weir_position){.a = 9});
    weir_cursor_set(&to, 1, (weir_position){.a = 5}); // freed
    weir_cursor_move(&to, &from);
    assert_int_equal(to.nonce, 7);
    assert_int_equal(to.first, 2);
    assert_int_equal(weir_cursor_get(&to, 2).a, 9);
    assert_int_equal(weir_cursor_get(&to, 1).a, 0);
    assert_int_equal(from.nonce + from.count, 0);
    assert_null(from.marks);
    weir_cursor_fini(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_read),
        cmocka_unit_test(the_text_is_that_of_the_format),
        cmocka_unit_test(all_widths_of_numbers_come_back),
        cmocka_unit_test(shards_are_in_the_order_of_their_numbers),
        cmocka_unit_test(a_changed_character_is_refused),
        cmocka_unit_test(a_wrong_checksum_is_told),
        cmocka_unit_test(what_is_cut_or_longer_is_refused),
        cmocka_unit_test(padding_is_refused),
        cmocka_unit_test(another_bus_is_refused),
        cmocka_unit_test(shards_out_of_order_are_refused),
        cmocka_unit_test(a_number_that_is_not_shortest_is_refused),
        cmocka_unit_test(another_shape_is_refused),
        cmocka_unit_test(a_cursor_that_is_moved_leaves_the_start_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
