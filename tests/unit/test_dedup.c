#include "actors/dedup.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static weir_id id_of(uint64_t number)
{
    return (weir_id){.nonce = 7, .epoch = 1, .shard = number % 3, .sequence = number};
}

static bool seen(weir_dedup *dedup, uint64_t number)
{
    weir_id id = id_of(number);
    return weir_dedup_seen(dedup, &id);
}

static void the_last_ids_are_known_in_the_order_they_came(void **state)
{
    (void)state;
    weir_dedup *dedup = weir_dedup_new(3);
    for (uint64_t i = 1; i <= 3; i++)
        assert_false(seen(dedup, i));
    assert_true(seen(dedup, 1)); // which keeps it no longer
    assert_false(seen(dedup, 4));
    assert_false(seen(dedup, 1)); // takes the place of 2
    assert_true(seen(dedup, 3));
    assert_true(seen(dedup, 4));
    assert_false(seen(dedup, 2));
    weir_dedup_destroy(&dedup);
    assert_null(dedup);
}

static void each_part_of_an_id_tells(void **state)
{
    (void)state;
    weir_dedup *dedup = weir_dedup_new(0);
    const weir_id ids[] = {
        {1, 1, 1, 1}, {2, 1, 1, 1}, {1, 2, 1, 1}, {1, 1, 2, 1}, {1, 1, 1, 2}};
    for (int i = 0; i < 5; i++)
        assert_false(weir_dedup_seen(dedup, &ids[i]));
    for (int i = 0; i < 5; i++)
        assert_true(weir_dedup_seen(dedup, &ids[i]));
    weir_dedup_destroy(&dedup);
}

static void without_a_capacity_it_is_4096(void **state)
{
    (void)state;
    weir_dedup *dedup = weir_dedup_new(0);
    for (uint64_t i = 0; i < 4096; i++)
        assert_false(seen(dedup, i));
    assert_true(seen(dedup, 0));
    assert_false(seen(dedup, 4096));
    assert_false(seen(dedup, 0));
    weir_dedup_destroy(&dedup);
}

static void a_capacity_out_of_range_is_refused(void **state)
{
    (void)state;
    assert_null(weir_dedup_new((1 << 24) + 1));
    assert_null(weir_dedup_new(SIZE_MAX));
    weir_dedup *dedup = weir_dedup_new(1 << 24);
    assert_non_null(dedup);
    weir_dedup_destroy(&dedup);
    weir_dedup_destroy(&dedup);
}

/*  Against a plain list, with ids that often come again.                           */
static void it_agrees_with_a_list(void **state)
{
    (void)state;
    enum { rounds = 20000, most = 64 };
    srand(4711);
    for (size_t capacity = 1; capacity <= most; capacity = capacity * 2 + capacity % 3) {
        weir_dedup *dedup = weir_dedup_new(capacity);
        uint64_t list[most];
        size_t count = 0;
        for (int i = 0; i < rounds; i++) {
            uint64_t number = (uint64_t)rand() % (capacity * 2 + 1);
            bool known = false;
            for (size_t j = 0; j < count; j++)
                known = known || list[j] == number;
            assert_int_equal(seen(dedup, number), known);
            if (known) continue;
            if (count == capacity) memmove(list, list + 1, --count * sizeof *list);
            list[count++] = number;
        }
        weir_dedup_destroy(&dedup);
    }
}

static void the_text_of_an_id(void **state)
{
    (void)state;
    char text[WEIR_ID_TEXT];
    const weir_id small = {0xab, 1, 0, 42};
    weir_id read;
    weir_id_print(&small, text);
    assert_string_equal(text, "00000000000000ab:1:0:42");
    assert_true(weir_id_parse(&read, text));
    assert_memory_equal(&read, &small, sizeof read);
    const weir_id large = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    weir_id_print(&large, text);
    assert_int_equal(strlen(text), WEIR_ID_TEXT - 1);
    assert_true(weir_id_parse(&read, text));
    assert_memory_equal(&read, &large, sizeof read);
}

static void other_texts_are_no_ids(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "ab:1:0:42",
        "00000000000000AB:1:0:42",
        "0x000000000000ab:1:0:42",
        "00000000000000ab:1:0",
        "00000000000000ab:1:0:",
        "00000000000000ab:1:0:42 ",
        " 0000000000000ab:1:0:42",
        "00000000000000ab:01:0:42",
        "00000000000000ab:+1:0:42",
        "00000000000000ab:-1:0:42",
        "00000000000000ab:1: 0:42",
        "00000000000000ab:1:0:42:1",
        "000000000000000ab:1:0:42",
        "00000000000000ab:1:0:18446744073709551616",
        "00000000000000ab:1:0:99999999999999999999",
        "00000000000000ab:1:0:184467440737095516150",
    };
    weir_id id = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (weir_id_parse(&id, bad[i])) fail_msg("taken: %s", bad[i]);
    assert_int_equal(id.sequence, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_ids_are_known_in_the_order_they_came),
        cmocka_unit_test(each_part_of_an_id_tells),
        cmocka_unit_test(without_a_capacity_it_is_4096),
        cmocka_unit_test(a_capacity_out_of_range_is_refused),
        cmocka_unit_test(it_agrees_with_a_list),
        cmocka_unit_test(the_text_of_an_id),
        cmocka_unit_test(other_texts_are_no_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
