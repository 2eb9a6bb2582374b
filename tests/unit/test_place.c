/*  Places: where a bus with a store has the records of a block.                  */
#include "runtime/block.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { PLACED = 10 };

/*  Ten records in two runs: offsets 100 to 103 and 200 to 205; each says its own. */
static weir_block *placed_block(void)
{
    static const weir_run runs[] = {
        {.records = 4, .place = {7, 2, 11, 100, 3}},
        {.records = 6, .place = {7, 2, 51, 200, 3}},
    };
    weir_builder builder = {.target = 4096};
    for (int i = 0; i < PLACED; i++) {
        char text[32];
        snprintf(text, sizeof text, "%d", i < 4 ? 100 + i : 196 + i);
        weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)text, strlen(text),
                                 NULL);
    }
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    assert_null(weir_block_place(block));
    weir_block_set_places(block, runs, 2);
    assert_int_equal(weir_block_place(block)->offset, 100);
    return block;
}

static void assert_place(weir_subject *subject, const weir_run *origin)
{
    weir_place place;
    weir_subject_begin(subject, origin);
    assert_true(weir_subject_place(subject, &place));
    uint64_t offset = (uint64_t)atoi((const char *)subject->record.data);
    assert_int_equal(place.offset, offset);
    assert_int_equal(place.sequence, offset < 200 ? offset - 89 : offset - 149);
    assert_int_equal(place.shard, 3);
    assert_int_equal(place.epoch, 2);
    assert_int_equal(place.nonce, 7);
}

/*  Each record has its own place; gives how many they are.                    */
static int assert_places(const weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_subject subject = {0};
    const weir_run *origin;
    int count = 0;
    for (; weir_iterator_next(&walk, &subject.record, &origin); count++)
        assert_place(&subject, origin);
    return count;
}

static void slices_and_copies_keep_the_places_of_their_records(void **state)
{
    (void)state;
    weir_block *block = placed_block();
    assert_int_equal(assert_places(block), PLACED);
    for (uint32_t size = 1; size <= PLACED; size++) {
        weir_iterator walk = {.block = block};
        int count = 0;
        for (weir_block *part; (part = weir_iterator_cut(&walk, size, SIZE_MAX));) {
            count += assert_places(part);
            weir_block *copy = weir_block_copy(part, NULL);
            weir_block_destroy(&part);
            assert_places(copy);
            weir_iterator within = {.block = copy};
            weir_iterator_skip(&within);
            part = weir_iterator_cut(&within, UINT32_MAX, SIZE_MAX);
            if (part) assert_places(part);
            weir_block_destroy(&part);
            weir_block_destroy(&copy);
        }
        assert_int_equal(count, PLACED);
    }
    weir_block_destroy(&block);
}

static void a_selection_knows_the_places_of_its_records(void **state)
{
    (void)state;
    weir_block *block = placed_block();
    weir_selection odd = {.block = block};
    weir_iterator walk = {.block = block};
    weir_subject subject = {0};
    const weir_run *origin;
    size_t offset = 0;
    for (; weir_iterator_next(&walk, &subject.record, &origin); offset = walk.offset)
        if (walk.record % 2)
            weir_selection_add(&odd, (weir_pick){(uint32_t)offset, (uint32_t)walk.run,
                                                 subject.record.in_run});
    assert_int_equal(odd.count, PLACED / 2);
    for (uint32_t i = 0; i < odd.count; i++) {
        weir_selection_get(&odd, i, &subject.record, &origin);
        assert_place(&subject, origin);
    }
    weir_selection_fini(&odd);
}

static void assert_no_places(weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_subject subject = {0};
    const weir_run *origin;
    weir_place place;
    assert_null(weir_block_place(block));
    while (weir_iterator_next(&walk, &subject.record, &origin)) {
        weir_subject_begin(&subject, origin);
        assert_false(weir_subject_place(&subject, &place));
    }
    assert_int_equal(walk.record, PLACED);
    weir_block_destroy(&block);
}

static void what_is_written_anew_has_no_place(void **state)
{
    (void)state;
    weir_block *block = placed_block();
    weir_builder builder = {.target = 4096};
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    while (weir_iterator_next(&walk, &record, &origin))
        if (walk.record % 2)
            weir_builder_add(&builder, &record, origin);
        else
            weir_builder_add_encoded(&builder, record.encoded, record.encoded_size, 1,
                                     origin);
    assert_no_places(weir_builder_seal(&builder));
    weir_builder_fini(&builder);
    weir_block_destroy(&block);
}

/*  What was read from a bus elsewhere has both.                                */
static void a_place_may_stand_beside_an_origin(void **state)
{
    (void)state;
    weir_block *block = placed_block();
    const weir_run runs[] = {
        {.records = 4, .source = "in", .label = "ipc://x", .place = {7, 2, 11, 100, 3}},
        {.records = 6, .source = "in", .label = "ipc://x", .place = {7, 2, 51, 200, 3}},
    };
    size_t count;
    weir_block_set_places(block, runs, 2);
    assert_int_equal(assert_places(block), PLACED);
    assert_string_equal(weir_block_runs(block, &count)[1].label, "ipc://x");
    weir_block_forget_places(&block);
    assert_string_equal(weir_block_runs(block, &count)[1].source, "in");
    assert_no_places(block);
}

static void places_are_forgotten_where_they_are_not_meant(void **state)
{
    (void)state;
    weir_block *block = placed_block();
    assert_no_places(weir_block_stamp(block, "in", NULL));
    weir_block *other = weir_block_dup(block);
    weir_block_forget_places(&other);
    assert_int_equal(assert_places(block), PLACED); // which it shares its body with
    weir_block_destroy(&block);
    weir_block *same = other;
    weir_block_forget_places(&same);
    assert_ptr_equal(same, other);
    assert_no_places(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_and_copies_keep_the_places_of_their_records),
        cmocka_unit_test(a_selection_knows_the_places_of_its_records),
        cmocka_unit_test(what_is_written_anew_has_no_place),
        cmocka_unit_test(a_place_may_stand_beside_an_origin),
        cmocka_unit_test(places_are_forgotten_where_they_are_not_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
