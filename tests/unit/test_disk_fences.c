/*  Fences of the disk store: they go with what they wait for, and not before.       */
#include "help_disk.h"
#include <errno.h>
#include "actors/poll.h"

/* --- Set-up ------------------------------------------------------------------------ */

/*  Ten records, with a fence before them.                                          */
static void put_behind(weir_store *store, uint32_t shard, uint64_t first, uint32_t from,
                       uint64_t last_offset)
{
    weir_batch *batch = make_batch(shard, 1, first, 10, 10);
    batch->fences = calloc(1, sizeof *batch->fences);
    batch->fences[0] = (weir_fence){.from = from, .last.a = last_offset, .to = shard};
    batch->fence_count = 1;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
}

static void put_blocks(weir_store *store, uint32_t shard, uint64_t first, uint64_t blocks)
{
    for (uint64_t i = 0; i < blocks; i++)
        put(store, shard, 1, first + i * 10, 10, 10);
}

static size_t count_fences(weir_store *store)
{
    weir_fence *list;
    size_t count;
    assert_int_equal(store->class->fences(store, &list, &count, NULL), WEIR_OK);
    free(list);
    return count;
}

static bool has_fence(weir_store *store, uint32_t from, uint32_t to)
{
    weir_fence *list;
    size_t count;
    bool has = false;
    assert_int_equal(store->class->fences(store, &list, &count, NULL), WEIR_OK);
    for (size_t i = 0; i < count; i++)
        has |= list[i].from == from && list[i].to == to;
    free(list);
    return has;
}

static weir_store *open_keeping(int64_t records)
{
    weir_disk_config config = small_config();
    config.keep_records = records;
    config.hold = false;
    return open_with(&config);
}

static bool fails;

static int commit_or_fail(MDB_txn *txn)
{
    if (!fails) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    fails = false;
    return ENOSPC;
}

/*  Its transaction fails, and is made again.                                        */
static void put_twice(weir_store *store, uint32_t shard, uint64_t first, uint32_t records)
{
    weir_batch *batch = make_batch(shard, 1, first, records, 10);
    fails = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
    batch->again = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
}

/* --- Tests ------------------------------------------------------------------------- */

/*  Of shard 0 the last 30 are kept; what goes, goes before the batch that comes.    */
static void a_fence_goes_with_the_last_record_that_it_waits_for(void **state)
{
    (void)state;
    weir_store *store = open_keeping(30);
    put_blocks(store, 0, 1, 2);
    put_behind(store, 1, 1, 0, 15);
    put_blocks(store, 0, 21, 2);
    assert_int_equal(look_at(store, 0).first, 11);
    assert_int_equal(count_fences(store), 1); // 11 to 15 are still there
    put_blocks(store, 0, 41, 1);
    assert_int_equal(look_at(store, 0).first, 21);
    assert_int_equal(count_fences(store), 0);
    close_store(&store);
    store = open_keeping(30);
    assert_int_equal(count_fences(store), 0);
    close_store(&store);
}

/*  Records that come behind it later are of vnodes of which shard 0 has some, too.  */
static void a_fence_stays_when_only_what_is_behind_it_goes(void **state)
{
    (void)state;
    weir_store *store = open_keeping(30);
    put_blocks(store, 0, 1, 1);
    put_behind(store, 1, 1, 0, 10);
    put_blocks(store, 1, 11, 9);
    assert_true(look_at(store, 1).first > 30);
    assert_int_equal(count_fences(store), 1);
    close_store(&store);
}

/*  Which record comes from where; the poll begins at the start.                     */
static void poll_all(weir_store *store, weir_page *page)
{
    weir_report report = {0};
    weir_poll_request request = weir_poll_defaults;
    weir_poller *poller = weir_poller_new(store, 77);
    assert_non_null(poller);
    request.timeout_us = 20000000;
    if (weir_poller_poll(poller, &request, page, &report)) fail_msg("%s", report.text);
    weir_poller_destroy(&poller);
}

/*  A vnode went from 0 to 1 and on to 2. Of 1 nothing of it is left, and still what 0 has
    of it is older than what 2 has.                                                 */
static void
what_waited_for_a_shard_that_is_trimmed_waits_for_those_before_it(void **state)
{
    (void)state;
    weir_store *store = open_keeping(30);
    weir_page page;
    put_blocks(store, 0, 1, 2);
    put_behind(store, 1, 1, 0, 20);
    put_behind(store, 2, 1, 1, 10);
    put_blocks(store, 1, 11, 9);
    assert_true(look_at(store, 1).first > 30);
    assert_true(has_fence(store, 0, 1) && has_fence(store, 1, 2));
    poll_all(store, &page);
    assert_true(page.count > 40);
    for (size_t i = 0, of_0 = 0; i < page.count; i++) {
        of_0 += page.records[i].shard == 0;
        if (page.records[i].shard) assert_int_equal(of_0, 20);
    }
    weir_page_fini(&page);
    put_blocks(store, 0, 21, 3);
    assert_int_equal(count_fences(store), 0);
    close_store(&store);
}

/*  Also those of a store that was written before, and in which only a few go.       */
static void many_fences_go_little_by_little(void **state)
{
    enum { many = 500 };
    (void)state;
    bool failed = false;
    weir_store *store = open_store();
    put_blocks(store, 0, 1, 1);
    put_blocks(store, 1, 1, 1);
    for (uint32_t i = 0; i < many; i++)
        put_behind(store, 2 + i, 1, i % 2, 10);
    close_store(&store);
    store = open_keeping(20);
    ((weir_disk *)store)->commit = commit_or_fail;
    put_blocks(store, 0, 11, 2);
    size_t before = count_fences(store);
    assert_in_range(before, many / 2 + 1, many);
    for (uint32_t i = 0; count_fences(store) > many / 2; i++) {
        assert_true(i < 40); // transactions in which no block goes
        if (before < many && !failed) {
            put_twice(store, 1000 + i, 1, 1);
            failed = true;
        } else {
            put(store, 1000 + i, 1, 1, 1, 10);
        }
        size_t now = count_fences(store);
        assert_true(before - now <= 2 * 64);
        before = now;
    }
    assert_true(failed);
    assert_false(has_fence(store, 0, 2));
    assert_true(has_fence(store, 1, 3));
    put_blocks(store, 1, 11, 2);
    for (uint64_t i = 0; count_fences(store); i++) {
        assert_true(i < many);
        put(store, 1001, 1, 1 + i, 1, 10);
    }
    close_store(&store);
}

/*  What it waits for may have been read, and not be committed.                      */
static void a_fence_waits_for_a_group_that_lost_what_it_waits_for(void **state)
{
    (void)state;
    weir_store *store = open_keeping(30);
    put_blocks(store, 0, 1, 2);
    put_behind(store, 1, 1, 0, 15);
    store->class->commit(store, "slow", 0, 3);
    store->class->commit(store, "quick", 0, 20);
    put_blocks(store, 0, 21, 9);
    assert_true(look_at(store, 0).first > 15);
    assert_int_equal(count_fences(store), 1);
    store->class->commit(store, "slow", 0, 15);
    put(store, 9, 1, 1, 1, 10);
    assert_int_equal(count_fences(store), 0);
    close_store(&store);
}

static void a_fence_is_there_after_a_transaction_that_failed(void **state)
{
    (void)state;
    weir_store *store = open_keeping(30);
    ((weir_disk *)store)->commit = commit_or_fail;
    put_blocks(store, 0, 1, 2);
    put_behind(store, 1, 1, 0, 15);
    put_blocks(store, 0, 21, 2);
    fails = true;
    weir_batch *batch = make_batch(0, 1, 41, 10, 10);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
    assert_int_equal(look_at(store, 0).first, 11);
    assert_int_equal(count_fences(store), 1);
    batch->again = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
    assert_int_equal(count_fences(store), 0);
    close_store(&store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fence_goes_with_the_last_record_that_it_waits_for),
        TEST(a_fence_stays_when_only_what_is_behind_it_goes),
        TEST(what_waited_for_a_shard_that_is_trimmed_waits_for_those_before_it),
        TEST(many_fences_go_little_by_little),
        TEST(a_fence_waits_for_a_group_that_lost_what_it_waits_for),
        TEST(a_fence_is_there_after_a_transaction_that_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
