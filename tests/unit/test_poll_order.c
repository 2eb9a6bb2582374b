#include "tests/unit/help_poll.h"

/* --- Fences ------------------------------------------------------------------------ */

/*  Vnodes move from shard 1 to 0 and back to 1: numbers are in the order of the key. */
static void put_moves(void)
{
    put_many(1, 0, 20);
    put_many(0, 20, 20);
    help_store_fence(store, &(weir_fence){1, {20, 0}, 0, {1, 0}});
    put_many(1, 40, 20);
    help_store_fence(store, &(weir_fence){0, {20, 0}, 1, {21, 0}});
    put_many(1, 60, 5);
}

static void a_moved_vnode_keeps_its_order(void **state)
{
    (void)state;
    static const uint32_t limits[] = {1, 2, 3, 7, 25, 1000};
    put_moves();
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        weir_poll_request request = patient();
        request.limit = limits[i];
        int next = 0;
        for (bool more = true; more;) {
            weir_page page = poll_page(&request);
            for (size_t k = 0; k < page.count; k++)
                assert_int_equal(number_of(&page.records[k]), next++);
            more = page.more;
            go_on(&request, &page);
        }
        assert_int_equal(next, 65);
        weir_cursor_fini(&request.cursor);
    }
}

static void a_fence_stands_while_the_other_shard_cannot_be_read(void **state)
{
    (void)state;
    put_moves();
    help_store_fail_reads(store, 1, "away");
    weir_poll_request request = quick();
    request.timeout_us = 100000;
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 0);
    assert_int_equal(page.failed_count, 1);
    weir_page_fini(&page);
    const uint32_t only = 0;
    request.shards = &only;
    request.shard_count = 1;
    assert_int_equal(read_all(&request, NULL), 20);
    weir_cursor_fini(&request.cursor);
}

/*  Records that a fence waits for and that are lost hold nobody up for ever. */
static void a_fence_does_not_wait_for_what_is_not_there(void **state)
{
    (void)state;
    put_many(1, 0, 5);
    put_many(0, 5, 5);
    help_store_fence(store, &(weir_fence){1, {9, 0}, 0, {1, 0}});
    weir_poll_request request = patient();
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(number_of(&page.records[i]), i);
    weir_page_fini(&page);
}

static weir_page made_beside;

static void *poll_beside(void *request)
{
    made_beside = poll_page(request);
    return NULL;
}

/*  The fence comes while shard 1 has been read to its end and shard 0 has not
    answered: it is seen all the same, and shard 1 asked again. */
static void a_fence_that_comes_during_the_poll_is_seen(void **state)
{
    (void)state;
    put_many(0, 1000, 1);
    put_many(1, 0, 10);
    weir_poll_request request = patient();
    request.timeout_us = 10000000;
    help_store_hang(store, 0, true);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, poll_beside, &request), 0);
    wait_for_reads(2);
    put_many(1, 10, 1);
    put_many(0, 11, 1);
    help_store_fence(store, &(weir_fence){1, {11, 0}, 0, {2, 0}});
    help_store_hang(store, 0, false);
    pthread_join(thread, NULL);
    int next = 0;
    for (size_t i = 0; i < made_beside.count; i++) {
        int n = number_of(&made_beside.records[i]);
        if (n != 1000) assert_int_equal(n, next++);
    }
    assert_int_equal(next, 12);
    weir_page_fini(&made_beside);
}

/*  Of the moves of put_moves () the first so many of shard 1 are trimmed: they are
    passed, as far as no fence stands before them, and all else comes in order. */
static void check_trimmed(uint64_t trimmed)
{
    put_moves();
    help_store_remove(store, 1, 1, trimmed, false);
    weir_poll_request request = patient();
    weir_page page = poll_page(&request);
    int next = (int)(trimmed < 20 ? trimmed : 20);
    for (size_t i = 0; i < page.count; i++) {
        assert_int_equal(number_of(&page.records[i]), next++);
        if (next == 40 && trimmed > 20) next = (int)trimmed + 20;
    }
    assert_int_equal(next, 65);
    assert_int_equal(page.count, 65 - trimmed);
    assert_int_equal(page.gap_count, 1);
    assert_int_equal(page.gaps[0].first, 1);
    assert_int_equal(page.gaps[0].last, trimmed);
    weir_page_fini(&page);
}

static void what_is_trimmed_before_a_fence_is_passed(void **state)
{
    (void)state;
    check_trimmed(20);
}

static void what_is_trimmed_around_a_fence_is_passed(void **state)
{
    (void)state;
    check_trimmed(30);
}

static void what_is_trimmed_to_the_end_is_passed(void **state)
{
    (void)state;
    check_trimmed(45);
}

/*  Vnodes went from shard 2 to 1 and on to 0; of 1 nothing is left.                 */
static void who_waits_for_a_trimmed_shard_waits_for_those_before_it(void **state)
{
    (void)state;
    put_many(2, 0, 30);
    put_many(1, 100, 10);
    help_store_fence(store, &(weir_fence){2, {30, 0}, 1, {1, 0}});
    put_many(0, 30, 10);
    help_store_fence(store, &(weir_fence){1, {10, 0}, 0, {1, 0}});
    help_store_remove(store, 1, 1, 10, false);
    weir_poll_request request = patient();
    request.limit = 7;
    int next = 0;
    for (bool more = true; more;) {
        weir_page page = poll_page(&request);
        for (size_t i = 0; i < page.count; i++)
            assert_int_equal(number_of(&page.records[i]), next++);
        more = page.more;
        go_on(&request, &page);
    }
    assert_int_equal(next, 40);
    weir_cursor_fini(&request.cursor);
}

static void ignore(weir_read *read)
{
    *(atomic_bool *)read->owner = true;
}

/*  What was asked of the store before is answered.                                  */
static void wait_for_answers(void)
{
    atomic_bool done = false;
    weir_read read = {.shard = SHARDS,
                      .max_records = 1,
                      .max_bytes = 1,
                      .done = ignore,
                      .owner = &done};
    store->class->read(store, &read);
    while (!done)
        usleep(200);
    weir_read_fini(&read);
}

/*  Shard 1 has been read when its records and their fence go, as retention does.     */
static void a_fence_that_goes_during_the_poll_stands(void **state)
{
    (void)state;
    put_moves();
    weir_poll_request request = patient();
    request.timeout_us = 10000000;
    help_store_hang(store, 0, true);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, poll_beside, &request), 0);
    wait_for_reads(2);
    wait_for_answers();
    help_store_remove(store, 1, 1, 20, false);
    help_store_forget_fences(store);
    help_store_hang(store, 0, false);
    pthread_join(thread, NULL);
    assert_int_equal(made_beside.count, 65);
    for (int i = 0; i < 65; i++)
        assert_int_equal(number_of(&made_beside.records[i]), i);
    weir_page_fini(&made_beside);
}

/* --- Waiting -----------------------------------------------------------------------
 */

static void a_poll_waits_for_a_record_without_polling(void **state)
{
    (void)state;
    put(0, 0);
    weir_poll_request request = patient();
    weir_page page = poll_page(&request);
    go_on(&request, &page);
    unsigned reads = counts.reads;
    request.timeout_us = 60000000;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, poll_beside, &request), 0);
    wait_for_reads(reads + 1);
    put(5, 42); // a shard that is new
    pthread_join(thread, NULL);
    assert_int_equal(made_beside.count, 1);
    assert_int_equal(number_of(&made_beside.records[0]), 42);
    assert_int_equal(made_beside.records[0].shard, 5);
    assert_in_range(counts.reads, reads + 2, reads + 4);
    go_on(&request, &made_beside);
    weir_cursor_fini(&request.cursor);
}

static void a_poll_that_finds_nothing_ends_by_the_timeout(void **state)
{
    (void)state;
    put(0, 0);
    weir_poll_request request = patient();
    weir_page page = poll_page(&request);
    go_on(&request, &page);
    unsigned reads = counts.reads;
    int64_t from_us = weir_clock_now_us();
    request.timeout_us = 100000;
    page = poll_page(&request);
    assert_true(weir_clock_now_us() - from_us >= 100000);
    assert_int_equal(page.count, 0);
    assert_false(page.more);
    assert_int_equal(page.slow_count, 0);
    assert_int_equal(counts.reads, reads + 1);
    go_on(&request, &page);
    weir_cursor_fini(&request.cursor);
}

static void a_poll_begins_at_the_end(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    put_many(1, 0, 10);
    weir_poll_request request = patient();
    request.from_end = true;
    request.limit = 0;
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 0);
    assert_int_equal(weir_cursor_get(&page.cursor, 0).a, 10);
    assert_int_equal(weir_cursor_get(&page.cursor, 1).a, 10);
    weir_page_fini(&page);
    request.limit = 100;
    request.timeout_us = 100000;
    page = poll_page(&request);
    assert_int_equal(page.count, 0);
    assert_false(page.more);
    put(1, 10);
    put(2, 11);
    go_on(&request, &page);
    request.timeout_us = patient().timeout_us;
    assert_int_equal(read_all(&request, NULL), 2);
    weir_cursor_fini(&request.cursor);
}

static void a_poll_begins_at_a_time(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        help_store_arrive(store, 1000 * (i + 1));
        put_many(0, 10 * i, 10);
        if (i < 5) put_many(1, 100 + i, 1);
    }
    uint8_t seen[200] = {0};
    weir_poll_request request = patient();
    request.from_ms = 4500;
    request.limit = 1; // less than there are shards
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 1);
    seen[number_of(&page.records[0])]++;
    go_on(&request, &page);
    request.limit = 9;
    assert_int_equal(read_all(&request, seen), 60);
    for (int n = 0; n < 200; n++)
        assert_int_equal(seen[n], (n >= 40 && n < 100) || n == 104);
    weir_cursor_fini(&request.cursor);
}

/* --- Random ------------------------------------------------------------------------
 */

#define KEYS 20

static uint64_t seed_state;

static uint32_t below(uint32_t n)
{
    seed_state = seed_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed_state >> 33) % n;
}

/*  Each key lives in one shard at a time; its numbers rise: n = key + KEYS * count.
 */
static size_t put_at_random(void)
{
    uint32_t home[KEYS], written[KEYS] = {0};
    uint64_t last[KEYS] = {0}; // offset of each key's last record
    size_t total = 0;
    for (uint32_t key = 0; key < KEYS; key++)
        home[key] = below(4);
    for (int step = 0; step < 150; step++) {
        uint32_t key = below(KEYS), shard = home[key];
        if (below(8) == 0) {
            uint32_t to = below(SHARDS);
            uint64_t first = help_store_last(store, to) + 1;
            if (to == shard) continue;
            help_store_fence(store, &(weir_fence){shard, {last[key], 0}, to, {first, 0}});
            home[key] = shard = to;
        }
        help_store_arrive(store, 1000 + below(100000));
        for (uint32_t i = below(4) + 1; i; i--, total++)
            put(shard, (int)(key + KEYS * written[key]++));
        last[key] = help_store_last(store, shard);
    }
    return total;
}

static void trouble_at_random(void)
{
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        help_store_fail_reads(store, shard, below(6) == 0 ? "away" : NULL);
        help_store_hang(store, shard, below(30) == 0);
    }
}

static void choose_bounds(weir_poll_request *request)
{
    request->limit = 1 + below(below(3) ? 10 : 200);
    request->bytes = below(4) ? 8 << 20 : 1 + below(500);
    request->scan = below(4) ? 100000 : 1 + below(50);
    request->timeout_us = 1000;
}

static bool matches(uint32_t shard, int n)
{
    return shard != 2 && n >= 40;
}

static size_t count_matches(void)
{
    size_t count = 0;
    help_stored stored;
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        for (uint64_t i = 1; help_store_look(store, shard, i, &stored); i++) {
            weir_polled polled;
            weir_reader reader = {stored.encoded, stored.encoded + stored.size};
            weir_record_read(&polled.record, &reader, true);
            count += matches(shard, number_of(&polled));
        }
    return count;
}

/*  What a page has, in the order of its keys. */
static void check_page(const weir_page *page, bool filtered, uint32_t next[KEYS])
{
    for (size_t i = 0; i < page->count; i++) {
        uint32_t n = (uint32_t)number_of(&page->records[i]);
        if (filtered) {
            assert_true(n / KEYS >= next[n % KEYS]);
            assert_true(matches(page->records[i].shard, (int)n));
        } else {
            assert_int_equal(n / KEYS, next[n % KEYS]);
        }
        next[n % KEYS] = n / KEYS + 1;
    }
}

static void heal(void)
{
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        help_store_fail_reads(store, shard, NULL);
        help_store_hang(store, shard, false);
    }
}

/*  With trouble in half of the polls each record comes once, in the order of its key.
 */
static void check_at_random(bool filtered)
{
    size_t expected = put_at_random(), got = 0;
    uint32_t next[KEYS] = {0};
    weir_poll_request request = quick();
    if (filtered) request.where = compile("$shard != 2 and n >= 40");
    for (int still = 0; still < 3;) {
        bool trouble = below(2);
        choose_bounds(&request);
        if (trouble) trouble_at_random();
        weir_page page = poll_page(&request);
        check_page(&page, filtered, next);
        got += page.count;
        still = page.count || page.more || page.slow_count || page.failed_count
                    ? 0
                    : still + 1;
        heal();
        go_on(&request, &page);
    }
    if (filtered) expected = count_matches();
    assert_int_equal(got, expected);
    weir_filter_destroy(&request.where);
    weir_cursor_fini(&request.cursor);
}

static void each_record_comes_once_whatever_happens(void **state)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20250101;
    printf("SEED=%llu\n", (unsigned long long)seed);
    seed_state = seed;
    for (int i = 0; i < 20; i++) {
        end(state);
        begin(i % 4 / 2);
        check_at_random(i % 2);
    }
}

static size_t trim_at_random(void)
{
    help_stored stored;
    size_t present = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        uint64_t last = help_store_last(store, shard);
        uint64_t trimmed = last && below(3) ? below((uint32_t)last + 1) : 0;
        if (trimmed) help_store_remove(store, shard, 1, trimmed, false);
        for (uint64_t i = 1; help_store_look(store, shard, i, &stored); i++)
            present += stored.state == HELP_PRESENT;
    }
    return present;
}

/*  Each record that is there comes once, in the order of its key, and none waits for what
    is not there.                                                                   */
static void what_is_trimmed_at_random_holds_nobody_up(void **state)
{
    const char *given = getenv("SEED");
    seed_state = given ? strtoull(given, NULL, 10) : 20250101;
    printf("SEED=%llu\n", (unsigned long long)seed_state);
    for (int i = 0; i < 50; i++) {
        end(state);
        begin(i % 2);
        put_at_random();
        uint32_t next[KEYS] = {0};
        size_t expected = trim_at_random(), got = 0;
        weir_poll_request request = patient();
        request.limit = 1 + below(below(2) ? 10 : 1000);
        for (bool more = true; more;) {
            weir_page page = poll_page(&request);
            for (size_t k = 0; k < page.count; k++) {
                uint32_t n = (uint32_t)number_of(&page.records[k]);
                assert_true(n / KEYS >= next[n % KEYS]);
                next[n % KEYS] = n / KEYS + 1;
            }
            got += page.count;
            more = page.more && got < expected;
            go_on(&request, &page);
        }
        assert_int_equal(got, expected);
        weir_cursor_fini(&request.cursor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(a_moved_vnode_keeps_its_order),
        BOTH(a_fence_stands_while_the_other_shard_cannot_be_read),
        BOTH(a_fence_does_not_wait_for_what_is_not_there),
        BOTH(a_fence_that_comes_during_the_poll_is_seen),
        BOTH(a_fence_that_goes_during_the_poll_stands),
        BOTH(what_is_trimmed_before_a_fence_is_passed),
        BOTH(what_is_trimmed_around_a_fence_is_passed),
        BOTH(what_is_trimmed_to_the_end_is_passed),
        BOTH(who_waits_for_a_trimmed_shard_waits_for_those_before_it),
        BOTH(a_poll_waits_for_a_record_without_polling),
        BOTH(a_poll_that_finds_nothing_ends_by_the_timeout),
        BOTH(a_poll_begins_at_the_end),
        BOTH(a_poll_begins_at_a_time),
        BOTH(each_record_comes_once_whatever_happens),
        cmocka_unit_test_setup_teardown(what_is_trimmed_at_random_holds_nobody_up,
                                        begin_inline, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
