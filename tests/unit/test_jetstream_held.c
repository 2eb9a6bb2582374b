/*  What source.jetstream keeps in mind of its messages: those that are under way, and the
    sequences of those that are done. Random runs against a plain model; WEIR_SEED repeats
    one.                                                                            */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "actors/jetstream_held.h"
#include "actors/jetstream_spans.h"

static uint64_t seed;

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed * 0x2545f4914f6cdd1d >> 33) % n);
}

static bool add(weir_js_held *held, uint64_t sequence)
{
    char reply[32];
    snprintf(reply, sizeof reply, "r%d", (int)sequence);
    return weir_js_held_add(held, &(weir_js_item){.sequence = sequence, .reply = reply});
}

/* --- Held -------------------------------------------------------------------------- */

static void messages_are_found_by_sequence_and_by_number(void **state)
{
    (void)state;
    weir_js_held held;
    weir_js_held_init(&held, 3);
    assert_true(add(&held, 10) && add(&held, 7) && add(&held, 12));
    assert_false(add(&held, 13)); // there is no room
    assert_int_equal(weir_js_held_find(&held, 7), 2);
    assert_int_equal(weir_js_held_find(&held, 13), 0);
    assert_string_equal(weir_js_held_at(&held, 3)->reply, "r12");
    assert_int_equal(weir_js_held_lowest(&held, 0), 7);
    assert_int_equal(weir_js_held_lowest(&held, 2), 12);
    assert_int_equal(weir_js_held_lowest(&held, 3), 0);
    weir_js_held_drop(&held, 2);
    assert_int_equal(weir_js_held_find(&held, 7), 0);
    assert_int_equal(weir_js_held_count(&held), 1);
    assert_true(add(&held, 7));
    assert_int_equal(weir_js_held_find(&held, 7), 4);
    weir_js_held_renew(&held, 4, "again");
    assert_string_equal(weir_js_held_at(&held, 4)->reply, "again");
    weir_js_held_fini(&held);
}

static void orphans_are_not_found_and_have_no_reply(void **state)
{
    (void)state;
    weir_js_held held;
    weir_js_held_init(&held, 4);
    assert_true(add(&held, 1) && add(&held, 2));
    weir_js_held_orphan(&held);
    assert_int_equal(weir_js_held_find(&held, 1), 0);
    assert_null(weir_js_held_at(&held, 1)->reply);
    assert_true(add(&held, 1)); // of the new stream
    assert_int_equal(weir_js_held_find(&held, 1), 3);
    assert_int_equal(weir_js_held_lowest(&held, 0), 1);
    weir_js_held_drop(&held, 3);
    assert_int_equal(weir_js_held_count(&held), 0);
    weir_js_held_fini(&held);
}

static void the_index_holds_through_random_runs(void **state)
{
    (void)state;
    enum { capacity = 50, highest = 200 };
    uint64_t number_of[highest] = {0};
    weir_js_held held;
    weir_js_held_init(&held, capacity);
    for (int round = 0; round < 20000; round++) {
        uint64_t sequence = 1 + below(highest - 1), end = held.end;
        if (!number_of[sequence] && below(3)) {
            bool is_full = weir_js_held_count(&held) == capacity;
            assert_int_equal(add(&held, sequence), !is_full);
            if (!is_full) number_of[sequence] = end;
        } else if (!below(4)) {
            uint64_t last = held.first + below(10);
            weir_js_held_drop(&held, last);
            for (int i = 1; i < highest; i++)
                if (number_of[i] <= last) number_of[i] = 0;
        }
        uint64_t look = 1 + below(highest - 1);
        assert_int_equal(weir_js_held_find(&held, look), number_of[look]);
    }
    weir_js_held_fini(&held);
}

/* --- Spans ------------------------------------------------------------------------- */

static void spans_join(void **state)
{
    (void)state;
    static weir_js_spans spans;
    static const uint64_t added[] = {5, 7, 6, 1, 2, 2, 6, 9};
    for (size_t i = 0; i < sizeof added / sizeof *added; i++)
        weir_js_spans_add(&spans, added[i]);
    assert_int_equal(spans.count, 3); // 1-2, 5-7, 9
    static const uint64_t next[] = {1, 2, 5, 5, 5, 6, 7, 9, 9, 0, 0};
    for (uint64_t n = 0; n < sizeof next / sizeof *next; n++) {
        assert_int_equal(weir_js_spans_next(&spans, n), next[n]);
        assert_int_equal(weir_js_spans_has(&spans, n + 1), next[n] == n + 1);
    }
}

static void with_too_many_spans_the_lowest_is_forgotten(void **state)
{
    (void)state;
    static weir_js_spans spans;
    for (uint64_t n = 0; n < WEIR_JS_SPANS_MAX + 10; n++)
        weir_js_spans_add(&spans, 1 + 2 * n);
    assert_int_equal(spans.count, WEIR_JS_SPANS_MAX);
    assert_false(weir_js_spans_has(&spans, 1 + 2 * 9));
    assert_true(weir_js_spans_has(&spans, 1 + 2 * 10));
}

static void spans_hold_through_random_runs(void **state)
{
    (void)state;
    enum { highest = 3000 };
    static weir_js_spans spans;
    static bool is[highest + 1];
    for (int round = 0; round < 20000; round++) {
        uint64_t sequence = 1 + below(highest - 1), look = 1 + below(highest - 1);
        if (spans.count < WEIR_JS_SPANS_MAX) {
            weir_js_spans_add(&spans, sequence);
            is[sequence] = true;
        }
        assert_int_equal(weir_js_spans_has(&spans, look), is[look]);
        uint64_t next = look + 1;
        while (next < highest && !is[next])
            next++;
        assert_int_equal(weir_js_spans_next(&spans, look), next < highest ? next : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_found_by_sequence_and_by_number),
        cmocka_unit_test(orphans_are_not_found_and_have_no_reply),
        cmocka_unit_test(the_index_holds_through_random_runs),
        cmocka_unit_test(spans_join),
        cmocka_unit_test(with_too_many_spans_the_lowest_is_forgotten),
        cmocka_unit_test(spans_hold_through_random_runs),
    };
    const char *given = getenv("WEIR_SEED");
    uint64_t begin = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("WEIR_SEED=%llu\n", (unsigned long long)begin);
    seed = begin * 2654435761u | 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
