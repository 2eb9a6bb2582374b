#include "tests/unit/help_store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static weir_store *store;
static help_store_counts counts;
static atomic_uint answers;

static int begin(bool threaded)
{
    answers = 0;
    memset(&counts, 0, sizeof counts);
    store = help_store_new(threaded, &counts);
    return 0;
}

static int begin_inline(void **state)
{
    (void)state;
    return begin(false);
}

static int begin_threaded(void **state)
{
    (void)state;
    return begin(true);
}

static int end(void **state)
{
    (void)state;
    if (store) store->class->close(&store);
    return 0;
}

static void note(weir_batch *batch)
{
    (void)batch;
    answers++;
}

static weir_batch *batch_of(uint32_t shard, uint64_t first, uint32_t records)
{
    weir_builder builder = {.target = 1024};
    for (uint32_t i = 0; i < records; i++)
        weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)"{}", 2, NULL);
    weir_piece piece = {.block = weir_builder_seal(&builder)};
    weir_builder_fini(&builder);
    weir_batch *batch = weir_batch_new();
    batch->shard = shard;
    batch->epoch = 5;
    batch->first = first;
    batch->arrived_ms = 1234;
    batch->done = note;
    weir_batch_add(batch, &piece);
    return batch;
}

static void write_one(weir_batch *batch)
{
    store->class->write(store, batch);
}

static void settle(void)
{
    weir_report report;
    assert_int_equal(store->class->flush(store, 10000000, &report), WEIR_OK);
}

static void what_is_written_is_there(void **state)
{
    (void)state;
    weir_batch *one = batch_of(2, 1, 3), *two = batch_of(2, 4, 2);
    one->fence_count = 1;
    one->fences = calloc(1, sizeof *one->fences);
    one->fences[0] = (weir_fence){.from = 1, .last.a = 9, .to = 2};
    write_one(one);
    write_one(two);
    settle();
    assert_int_equal(answers, 2);
    assert_int_equal(one->result, WEIR_STORE_SAFE);
    assert_int_equal(one->last_offset, 3);
    assert_int_equal(one->fences[0].first.a, 1);
    assert_int_equal(two->last_offset, 5);
    help_stored stored;
    assert_true(help_store_look(store, 2, 5, &stored));
    assert_int_equal(stored.epoch, 5);
    assert_int_equal(stored.sequence, 5);
    assert_int_equal(stored.arrived_ms, 1234);
    assert_false(help_store_look(store, 2, 6, &stored));
    write_one(two);
    settle();
    assert_int_equal(two->result, WEIR_STORE_SAFE);
    assert_int_equal(help_store_last(store, 2), 5);
    assert_int_equal(counts.writes, 3);
    weir_batch_destroy(&one);
    weir_batch_destroy(&two);
}

static void writes_fail_as_told(void **state)
{
    (void)state;
    weir_batch *batch = batch_of(0, 1, 3);
    batch->again = true; // else the shard is closed to it after the first failure
    help_store_fail(store, 0, 2, WEIR_STORE_RETRY, "timeout");
    for (int i = 0; i < 2; i++) {
        write_one(batch);
        settle();
        assert_int_equal(batch->result, WEIR_STORE_RETRY);
        assert_string_equal(batch->text, "timeout");
    }
    help_store_refuse(store, 0, 2);
    write_one(batch);
    settle();
    assert_int_equal(batch->result, WEIR_STORE_REFUSED);
    assert_int_equal(batch->refused, 1);
    assert_int_equal(batch->last_offset, 1);
    help_store_refuse(store, 0, 0);
    write_one(batch);
    settle();
    assert_int_equal(batch->result, WEIR_STORE_SAFE);
    assert_int_equal(batch->last_offset, 3);
    weir_batch_destroy(&batch);
}

static void a_wedged_shard_goes_on_in_order(void **state)
{
    (void)state;
    weir_report report;
    weir_batch *one = batch_of(0, 1, 1), *two = batch_of(0, 2, 1),
               *other = batch_of(1, 1, 1);
    help_store_wedge(store, 0, true);
    write_one(one);
    write_one(two);
    assert_int_equal(store->class->flush(store, 1000, &report), WEIR_ETIMEOUT);
    assert_int_equal(answers, 0);
    write_one(other);
    help_store_wedge(store, 0, false);
    settle();
    assert_int_equal(one->last_offset, 1);
    assert_int_equal(two->last_offset, 2);
    assert_int_equal(other->last_offset, 1);
    assert_int_equal(answers, 3);
    weir_batch_destroy(&one);
    weir_batch_destroy(&two);
    weir_batch_destroy(&other);
}

static void what_stands_behind_a_failure_fails_too(void **state)
{
    (void)state;
    weir_batch *one = batch_of(0, 1, 1), *two = batch_of(0, 2, 1);
    help_store_wedge(store, 0, true);
    write_one(one);
    write_one(two);
    help_store_fail(store, 0, 1, WEIR_STORE_RETRY, "timeout");
    help_store_wedge(store, 0, false);
    settle();
    assert_int_equal(one->result, WEIR_STORE_RETRY);
    assert_int_equal(two->result, WEIR_STORE_RETRY);
    assert_int_equal(help_store_last(store, 0), 0);
    write_one(two);
    settle();
    assert_int_equal(two->result, WEIR_STORE_RETRY);
    one->again = true;
    write_one(one);
    write_one(two);
    settle();
    assert_int_equal(one->last_offset, 1);
    assert_int_equal(two->last_offset, 2);
    weir_batch_destroy(&one);
    weir_batch_destroy(&two);
}

static void close_answers_what_is_left(void **state)
{
    (void)state;
    weir_batch *batch = batch_of(0, 1, 1);
    help_store_wedge(store, 0, true);
    write_one(batch);
    store->class->close(&store);
    assert_int_equal(answers, 1);
    assert_int_equal(batch->result, WEIR_STORE_RETRY);
    assert_int_equal(counts.closes, 1);
    weir_batch_destroy(&batch);
}

#define BOTH(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, begin_inline, end),                            \
        cmocka_unit_test_setup_teardown(test, begin_threaded, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(what_is_written_is_there),
        BOTH(writes_fail_as_told),
        BOTH(a_wedged_shard_goes_on_in_order),
        BOTH(what_stands_behind_a_failure_fails_too),
        BOTH(close_answers_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
