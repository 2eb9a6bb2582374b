#include "actors/late_reads.h"
#include "actors/poll_lane.h"
#include "actors/read_box.h"
#include "tests/unit/help_poll.h"
#include <poll.h>

/*  Reads from the shard's start, behind what was asked before. */
static weir_read *read_beside(uint32_t shard)
{
    uint64_t tag;
    weir_read_box *box = weir_read_box_new();
    weir_read_box_ask(box, store,
                      &(weir_read){.shard = shard, .max_records = 10, .max_bytes = 1000},
                      1);
    struct pollfd answer = {.fd = weir_read_box_fd(box), .events = POLLIN};
    assert_int_equal(poll(&answer, 1, 20000), 1);
    weir_read *read = weir_read_box_next(box, &tag);
    weir_read_box_destroy(&box);
    return read;
}

static void pages_give_each_record_once(void **state)
{
    (void)state;
    for (int n = 0; n < 1000; n++)
        put((uint32_t)(n * 7919 % 61 % SHARDS), n);
    uint8_t all[1000] = {0}, some[1000] = {0};
    weir_poll_request request = patient();
    request.limit = 7;
    assert_int_equal(read_all(&request, all), 1000);
    weir_cursor_fini(&request.cursor);
    request.timeout_us = quick().timeout_us; // the last page may be empty
    request.where = compile("n < 100 or n >= 900 or $shard == 3");
    size_t count = read_all(&request, some), expected = 0;
    for (int n = 0; n < 1000; n++) {
        bool matches = n < 100 || n >= 900 || n * 7919 % 61 % SHARDS == 3;
        assert_int_equal(all[n], 1);
        assert_int_equal(some[n], matches);
        expected += matches;
    }
    assert_int_equal(count, expected);
    weir_filter_destroy(&request.where);
    weir_cursor_fini(&request.cursor);
}

static void count_by_shard(const weir_page *page, int by_shard[SHARDS])
{
    for (size_t i = 0; i < page->count; i++)
        by_shard[page->records[i].shard]++;
}

static void a_page_is_shared_fairly(void **state)
{
    (void)state;
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        put_many(shard, 0, 500);
    weir_poll_request request = patient();
    request.limit = 100;
    for (int i = 0; i < 3; i++) {
        int by_shard[SHARDS] = {0};
        weir_page page = poll_page(&request);
        assert_int_equal(page.count, 100);
        assert_true(page.more);
        count_by_shard(&page, by_shard);
        for (int shard = 0; shard < SHARDS; shard++)
            assert_in_range(by_shard[shard], 12, 13);
        go_on(&request, &page);
    }
    weir_cursor_fini(&request.cursor);
}

static void the_first_shard_rotates(void **state)
{
    (void)state;
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        put_many(shard, 0, 50);
    weir_poll_request request = patient();
    int by_shard[SHARDS] = {0};
    request.limit = 3;
    for (uint32_t i = 0; i < SHARDS; i++) {
        weir_page page = poll_page(&request);
        assert_int_equal(page.records[0].shard, i);
        count_by_shard(&page, by_shard);
        go_on(&request, &page);
    }
    for (int shard = 0; shard < SHARDS; shard++)
        assert_int_equal(by_shard[shard], 3);
    weir_cursor_fini(&request.cursor);
}

/*  A filter makes rounds; those who come late in the order have their turn.        */
static void a_filter_leaves_it_fair(void **state)
{
    (void)state;
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        put_many(shard, 0, 500);
    weir_poll_request request = patient();
    int by_shard[SHARDS] = {0};
    request.limit = 20;
    request.where = compile("n >= 100");
    weir_page page = poll_page(&request);
    count_by_shard(&page, by_shard);
    for (int shard = 0; shard < SHARDS; shard++)
        assert_in_range(by_shard[shard], 2, 3);
    weir_page_fini(&page);
    weir_filter_destroy(&request.where);
}

/*  Places go round within a poll, too: shards that match only far behind do not keep them
    from those that match at once.                                                  */
static void places_go_round_among_shards(void **state)
{
    (void)state;
    for (uint32_t shard = 0; shard < 4; shard++)
        put_many(shard, shard < 2 ? 0 : 5000, 3000);
    weir_poll_request request = patient();
    request.limit = 2;
    request.where = compile("n >= 2900");
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 2);
    assert_int_equal(page.records[0].shard, 2);
    assert_int_equal(page.records[1].shard, 3);
    weir_page_fini(&page);
    weir_filter_destroy(&request.where);
}

static void a_shard_that_hangs_costs_the_timeout(void **state)
{
    (void)state;
    bool in_time = false;
    for (uint32_t shard = 0; shard < 4; shard++)
        put_many(shard, 0, 10);
    for (int attempt = 0; attempt < 5 && !in_time; attempt++) {
        help_store_hang(store, 2, true);
        weir_poll_request request = patient();
        request.timeout_us = 100000;
        int64_t from_us = weir_clock_now_us();
        weir_page page = poll_page(&request);
        int64_t took_us = weir_clock_now_us() - from_us;
        assert_true(took_us >= request.timeout_us);
        in_time = took_us < request.timeout_us + PATIENCE_US && page.slow_count == 1;
        if (in_time) {
            assert_int_equal(page.count, 30);
            assert_int_equal(page.slow[0].shard, 2);
            assert_string_equal(page.slow[0].text, "no answer in 100 ms");
            assert_int_equal(page.failed_count, 0);
            assert_int_equal(weir_cursor_get(&page.cursor, 2).a, 0);
            assert_int_equal(weir_cursor_get(&page.cursor, 3).a, 10);
        }
        size_t count = page.count;
        go_on(&request, &page);
        help_store_hang(store, 2, false);
        request.timeout_us = patient().timeout_us;
        assert_int_equal(count + read_all(&request, NULL), 40);
        weir_cursor_fini(&request.cursor);
    }
    assert_true(in_time);
}

/*  The one place is the first shard's, which has nothing: it goes to the second one,
    which has answered, although the third one has used up the time. */
static void what_has_come_by_the_timeout_is_given(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    put_many(1, 10, 10);
    put_many(2, 20, 10);
    help_store_hang(store, 2, true);
    weir_poll_request request = quick();
    request.limit = 1;
    request.timeout_us = 100000;
    weir_cursor_set(&request.cursor, 0, (weir_position){10, 0});
    weir_page page = poll_page(&request);
    assert_int_equal(page.slow_count, 1);
    assert_int_equal(page.count, 1);
    assert_int_equal(number_of(&page.records[0]), 10);
    assert_true(page.more);
    weir_page_fini(&page);
    weir_cursor_fini(&request.cursor);
}

static void a_filter_gets_on_beside_a_shard_that_hangs(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    put_many(1, 0, 10);
    help_store_hang(store, 1, true);
    weir_poll_request request = quick();
    request.where = compile("n >= 0");
    size_t count = 0; // at the first attempt, unless the machine is busy
    for (int attempt = 0; attempt < 10 && count < 10; attempt++) {
        weir_page page = poll_page(&request);
        assert_true(page.slow_count >= 1);
        count = page.count;
        weir_page_fini(&page);
    }
    assert_int_equal(count, 10);
    weir_filter_destroy(&request.where);
}

static void a_filter_that_is_late_examines_one_record(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    weir_page page = {0};
    weir_doc doc = {0};
    weir_fill fill = {.page = &page,
                      .where = compile("n >= 0"),
                      .doc = &doc,
                      .room = 10,
                      .scan = 10,
                      .bytes = 1000,
                      .stop_us = 0};
    weir_poll_lane lane = {.barrier = weir_position_end(), .places = 10};
    weir_read *read = read_beside(0);
    weir_poll_lane_answer(&lane, &fill, &read);
    weir_poll_lane_take(&lane, &fill);
    assert_int_equal(page.count, 1);
    assert_true(fill.full);
    weir_read_destroy(&lane.answer);
    weir_filter_destroy(&fill.where);
    weir_doc_fini(&doc);
    weir_page_fini(&page);
}

static void an_error_is_told_and_the_place_kept(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    put_many(1, 10, 10);
    help_store_fail_reads(store, 1, "no route to host");
    weir_poll_request request = patient();
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 10);
    assert_false(page.more);
    assert_int_equal(page.failed_count, 1);
    assert_int_equal(page.failed[0].shard, 1);
    assert_string_equal(page.failed[0].text, "no route to host");
    go_on(&request, &page);
    help_store_fail_reads(store, 1, NULL);
    assert_int_equal(read_all(&request, NULL), 10);
    weir_cursor_fini(&request.cursor);
}

/*  A shard that hangs has one read out, not many.                                      */
static void reads_that_hang_do_not_pile_up(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    help_store_hang(store, 0, true);
    weir_poll_request request = quick();
    request.timeout_us = 2000;
    for (int i = 0; i < 5; i++) {
        weir_page page = poll_page(&request);
        assert_int_equal(page.slow_count, 1);
        assert_int_equal(page.count, 0);
        go_on(&request, &page);
    }
    assert_int_equal(counts.reads, 1);
    help_store_hang(store, 0, false);
    weir_cursor_set(&request.cursor, 0, (weir_position){4, 0});
    request.timeout_us = 10000000;
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 6);
    assert_int_equal(page.records[0].at.a, 5);
    go_on(&request, &page);
    weir_cursor_fini(&request.cursor);
}

/*  So a timeout that is shorter than a read takes gets on. */
static void a_late_answer_serves_who_begins_there(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    weir_poll_request request = quick();
    help_store_hang(store, 0, true);
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 0);
    go_on(&request, &page);
    help_store_hang(store, 0, false);
    weir_read *beside = read_beside(0);
    weir_read_destroy(&beside);
    put(0, 10);
    help_store_hang(store, 0, true);
    page = poll_page(&request);
    assert_int_equal(page.count, 10);
    go_on(&request, &page);
    help_store_hang(store, 0, false);
    request.timeout_us = patient().timeout_us;
    assert_int_equal(read_all(&request, NULL), 1);
    weir_cursor_fini(&request.cursor);
}

/*  An actor that polls for others looks at what comes also while none of them waits.   */
static void receive_late(unsigned reads)
{
    wait_for_reads(reads);
    weir_read *beside = read_beside(0); // behind the one that hung
    weir_read_destroy(&beside);
    weir_poller_receive(poller);
}

static void a_late_answer_serves_the_next_poll_from_there(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    weir_poll_request request = quick();
    help_store_hang(store, 0, true);
    weir_page page = poll_page(&request);
    assert_int_equal(page.slow_count, 1);
    go_on(&request, &page);
    help_store_hang(store, 0, false);
    receive_late(1);
    put(0, 10);
    help_store_hang(store, 0, true);
    page = poll_page(&request);
    assert_int_equal(page.count, 10);
    go_on(&request, &page);
    help_store_hang(store, 0, false);
    request.timeout_us = patient().timeout_us;
    assert_int_equal(read_all(&request, NULL), 1);
    weir_cursor_fini(&request.cursor);
}

/*  Many clients that give up, each at another place: the last ones get on.             */
static void late_answers_are_kept_for_few(void **state)
{
    (void)state;
    enum { clients = WEIR_LATE_READS_MAX + 4 };
    put_many(0, 0, 100);
    weir_poll_request request = quick();
    for (unsigned i = 1; i <= clients; i++) {
        unsigned reads = counts.reads;
        help_store_hang(store, 0, true);
        weir_cursor_fini(&request.cursor);
        weir_cursor_set(&request.cursor, 0, (weir_position){i, 0});
        weir_page page = poll_page(&request);
        assert_int_equal(page.slow_count, 1);
        weir_page_fini(&page);
        help_store_hang(store, 0, false);
        receive_late(reads + 1);
    }
    help_store_hang(store, 0, true);
    for (unsigned i = clients; i >= 1; i--) {
        weir_cursor_fini(&request.cursor);
        weir_cursor_set(&request.cursor, 0, (weir_position){i, 0});
        weir_page page = poll_page(&request);
        assert_int_equal(page.count, i > 4 ? 100 - i : 0);
        weir_page_fini(&page);
    }
    help_store_hang(store, 0, false);
    weir_cursor_fini(&request.cursor);
}

static void a_late_answer_hides_nothing_newer(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    weir_poll_request request = quick();
    help_store_hang(store, 0, true);
    weir_page page = poll_page(&request);
    go_on(&request, &page);
    help_store_hang(store, 0, false);
    weir_read *beside = read_beside(0);
    weir_read_destroy(&beside);
    put(0, 10);
    request.timeout_us = patient().timeout_us;
    page = poll_page(&request);
    assert_int_equal(page.count, 11);
    go_on(&request, &page);
    weir_cursor_fini(&request.cursor);
}

static void an_answer_may_come_when_the_poller_is_gone(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    help_store_hang(store, 0, true);
    weir_poll_request request = quick();
    weir_page page = poll_page(&request);
    weir_page_fini(&page);
    weir_poller_destroy(&poller);
    help_store_hang(store, 0, false);
}

/*  Runs until it is done, as an actor does that waits for other things, too.           */
static void run_on(weir_polling *polling)
{
    weir_err err;
    weir_report report = {0};
    int fds[2];
    weir_poller_fds(poller, fds);
    while (!weir_polling_run(polling, &err, &report)) {
        struct pollfd items[] = {{.fd = fds[0], .events = POLLIN},
                                 {.fd = fds[1], .events = POLLIN}};
        assert_true(poll(items, 2, 20000) > 0);
        weir_poller_receive(poller);
    }
    assert_int_equal(err, WEIR_OK);
}

/*  One waits for news, one for a shard that hangs; a third gets its page meanwhile, and
    each gets only what it has asked for.                                           */
static void several_polls_are_under_way_at_once(void **state)
{
    (void)state;
    weir_err err;
    weir_report report = {0};
    weir_polling *late, *hung, *quickly;
    weir_page pages[3];
    const uint32_t first[] = {0}, second[] = {1};
    put_many(0, 0, 10);
    put_many(1, 10, 10);
    help_store_hang(store, 1, true);
    weir_poll_request end = patient(), one = patient(), two = patient();
    end.cursor.nonce = NONCE;
    weir_cursor_set(&end.cursor, 0, (weir_position){10, 0});
    end.shards = one.shards = first;
    two.shards = second;
    end.shard_count = one.shard_count = two.shard_count = 1;
    weir_polling_begin(&late, poller, &end, &pages[0], &report);
    weir_polling_begin(&hung, poller, &two, &pages[1], &report);
    assert_false(weir_polling_run(hung, &err, &report));
    weir_polling_begin(&quickly, poller, &one, &pages[2], &report);
    run_on(quickly);
    assert_int_equal(pages[2].count, 10);
    assert_false(weir_polling_run(late, &err, &report));
    put_many(0, 20, 1);
    run_on(late);
    assert_int_equal(pages[0].count, 1);
    assert_int_equal(number_of(&pages[0].records[0]), 20);
    help_store_hang(store, 1, false);
    run_on(hung);
    assert_int_equal(pages[1].count, 10);
    assert_int_equal(number_of(&pages[1].records[0]), 10);
    weir_polling_end(&late);
    weir_polling_end(&hung);
    weir_polling_end(&quickly);
    weir_cursor_fini(&end.cursor);
    for (int i = 0; i < 3; i++)
        weir_page_fini(&pages[i]);
}

/*  Its reads come later, and are nobody's: the next poll of that shard waits for them. */
static void a_poll_may_be_given_up(void **state)
{
    (void)state;
    weir_err err;
    weir_page page;
    weir_report report = {0};
    weir_polling *polling;
    put_many(0, 0, 10);
    help_store_hang(store, 0, true);
    weir_poll_request request = patient();
    weir_polling_begin(&polling, poller, &request, &page, &report);
    assert_false(weir_polling_run(polling, &err, &report));
    weir_polling_end(&polling);
    weir_page_fini(&page);
    help_store_hang(store, 0, false);
    page = poll_page(&request);
    assert_int_equal(page.count, 10);
    weir_page_fini(&page);
}

static void nothing_moves_when_all_hang_or_limit_is_0(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    put_many(1, 0, 10);
    weir_poll_request request = patient();
    request.limit = 3;
    weir_page page = poll_page(&request);
    go_on(&request, &page);
    request.limit = 0;
    request.timeout_us = 60000000;
    page = poll_page(&request);
    help_store_hang(store, 0, true);
    help_store_hang(store, 1, true);
    request.limit = 3;
    request.timeout_us = 5000;
    weir_page hung = poll_page(&request);
    for (int i = 0; i < 2; i++) {
        const weir_page *one = i ? &hung : &page;
        assert_int_equal(one->count, 0);
        assert_false(one->more);
        assert_int_equal(one->cursor.first, request.cursor.first);
        assert_int_equal(one->cursor.count, request.cursor.count);
        for (size_t k = 0; k < one->cursor.count; k++) {
            assert_int_equal(one->cursor.marks[k].shard, request.cursor.marks[k].shard);
            assert_int_equal(one->cursor.marks[k].at.a, request.cursor.marks[k].at.a);
        }
    }
    assert_int_equal(hung.slow_count, 2);
    weir_page_fini(&page);
    weir_page_fini(&hung);
    weir_cursor_fini(&request.cursor);
}

static void scan_ends_a_poll_that_finds_nothing(void **state)
{
    (void)state;
    for (uint32_t shard = 0; shard < 4; shard++)
        put_many(shard, 0, 100);
    weir_poll_request request = patient();
    request.where = compile("n == 12345");
    request.scan = 80;
    request.timeout_us = 60000000;
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 0);
    assert_int_equal(page.examined, 80);
    assert_true(page.more);
    assert_int_equal(page.block_count, 0);
    for (uint32_t shard = 0; shard < 4; shard++)
        assert_int_equal(weir_cursor_get(&page.cursor, shard).a, 20);
    go_on(&request, &page);
    request.timeout_us = 200000;
    request.scan = 100000;
    page = poll_page(&request);
    assert_int_equal(page.examined, 320);
    assert_false(page.more);
    go_on(&request, &page);
    weir_filter_destroy(&request.where);
    weir_cursor_fini(&request.cursor);
}

static void shards_are_chosen_by_id(void **state)
{
    (void)state;
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        put_many(shard, (int)shard * 10, 10);
    const uint32_t two[] = {7, 1}, twice[] = {1, 1}, unknown[] = {1, 4000000000};
    weir_poll_request request = patient();
    uint8_t seen[80] = {0};
    request.limit = 4;
    request.shards = two;
    request.shard_count = 2;
    weir_page page = poll_page(&request);
    for (size_t i = 0; i < page.count; i++)
        seen[number_of(&page.records[i])]++;
    go_on(&request, &page);
    weir_poller_destroy(&poller);
    poller = weir_poller_new(store, NONCE);
    assert_int_equal(read_all(&request, seen), 16);
    for (int n = 0; n < 80; n++)
        assert_int_equal(seen[n], n / 10 == 1 || n / 10 == 7);
    weir_cursor_fini(&request.cursor);
    request.shards = twice;
    memset(seen, 0, sizeof seen);
    assert_int_equal(read_all(&request, seen), 10);
    assert_int_equal(seen[10], 1);
    weir_cursor_fini(&request.cursor);
    request.shards = unknown;
    assert_int_equal(read_all(&request, NULL), 10);
    weir_cursor_fini(&request.cursor);
}

/*  What is not polled keeps its place in the cursor. */
static void other_shards_keep_their_places(void **state)
{
    (void)state;
    put_many(0, 0, 10);
    put_many(1, 10, 10);
    const uint32_t second = 1;
    weir_poll_request request = patient();
    weir_cursor_set(&request.cursor, 0, (weir_position){4, 0});
    request.shards = &second;
    request.shard_count = 1;
    assert_int_equal(read_all(&request, NULL), 10);
    assert_int_equal(weir_cursor_get(&request.cursor, 0).a, 4);
    assert_int_equal(weir_cursor_get(&request.cursor, 1).a, 10);
    weir_cursor_fini(&request.cursor);
}

static void a_clock_that_goes_back_skips_nothing(void **state)
{
    (void)state;
    const int64_t hour_ms = 3600000;
    for (int n = 0; n < 100; n++) {
        char json[32];
        int64_t now_ms = 10 * hour_ms + n - (n >= 50 ? hour_ms : 0);
        snprintf(json, sizeof json, "{\"n\":%d}", n);
        help_store_arrive(store, now_ms);
        help_store_put(store, (uint32_t)n % 3, json, NULL, n % 2 ? now_ms : -1);
    }
    for (int sorted = 0; sorted < 2; sorted++) {
        uint8_t seen[100] = {0};
        weir_poll_request request = patient();
        request.limit = 7;
        request.by_time = sorted;
        assert_int_equal(read_all(&request, seen), 100);
        for (int n = 0; n < 100; n++)
            assert_int_equal(seen[n], 1);
        weir_cursor_fini(&request.cursor);
    }
}

static void a_page_may_be_sorted_by_time(void **state)
{
    (void)state;
    static const int64_t times[] = {50, 10, 40, 10, 20, 10};
    for (int n = 0; n < 6; n++)
        help_store_put(store, 1 - (uint32_t)n % 2, "{}", NULL, times[n]);
    weir_poll_request request = patient();
    request.by_time = true;
    weir_page page = poll_page(&request);
    static const struct {
        int64_t ts_ms;
        uint32_t shard;
        uint64_t offset;
    } expected[] = {{10, 0, 1}, {10, 0, 2}, {10, 0, 3},
                    {20, 1, 3}, {40, 1, 2}, {50, 1, 1}};
    assert_int_equal(page.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(page.records[i].record.ts_ms, expected[i].ts_ms);
        assert_int_equal(page.records[i].shard, expected[i].shard);
        assert_int_equal(page.records[i].at.a, expected[i].offset);
    }
    weir_page_fini(&page);
}

static const weir_gap gaps_of_0[] = {
    {0, 1, 20, false, 0}, {0, 41, 45, true, 0}, {0, 91, 100, true, 0}};

static void check_gaps(const weir_page *page, size_t *told)
{
    for (size_t i = 0; i < page->gap_count; i++, (*told)++) {
        assert_true(*told < 3);
        const weir_gap *expected = &gaps_of_0[*told];
        assert_int_equal(page->gaps[i].shard, 0);
        assert_int_equal(page->gaps[i].first, expected->first);
        assert_int_equal(page->gaps[i].last, expected->last);
        assert_int_equal(page->gaps[i].damaged, expected->damaged);
    }
    /* Told by the page that passes them, neither sooner nor later. */
    uint64_t at = weir_cursor_get(&page->cursor, 0).a;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(i < *told, gaps_of_0[i].last <= at);
}

static void read_over_gaps(weir_poll_request *request)
{
    size_t records = 0, told = 0;
    for (bool more = true; more;) {
        weir_page page = poll_page(request);
        check_gaps(&page, &told);
        records += page.count;
        more = page.more;
        go_on(request, &page);
    }
    assert_int_equal(records, 75);
    assert_int_equal(told, 3);
    assert_int_equal(weir_cursor_get(&request->cursor, 0).a, 100);
    weir_cursor_fini(&request->cursor);
}

static void gaps_are_passed_and_told(void **state)
{
    (void)state;
    put_many(0, 0, 100);
    put_many(1, 100, 10);
    for (size_t i = 0; i < 3; i++)
        help_store_remove(store, 0, gaps_of_0[i].first, gaps_of_0[i].last,
                          gaps_of_0[i].damaged);
    weir_poll_request request = patient();
    request.limit = 7;
    read_over_gaps(&request);
    request.where = compile("n >= 0");
    read_over_gaps(&request);
    weir_filter_destroy(&request.where);
}

/* --- Bounds and records ------------------------------------------------------------ */

static void a_page_keeps_to_its_bytes(void **state)
{
    (void)state;
    char json[1200];
    for (int i = 0; i < 20; i++) {
        snprintf(json, sizeof json, "{\"a\":\"%01000d\"}", i);
        help_store_put(store, (uint32_t)i % 2, json, NULL, -1);
    }
    weir_poll_request request = patient();
    request.bytes = 4500;
    size_t count = 0, pages = 0;
    for (bool more = true; more; pages++) {
        weir_page page = poll_page(&request);
        assert_in_range(page.count, 1, 4);
        count += page.count;
        more = page.more;
        go_on(&request, &page);
    }
    assert_int_equal(count, 20);
    assert_int_equal(pages, 5);
    weir_cursor_fini(&request.cursor);
    request.bytes = 1;
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 1);
    weir_page_fini(&page);
}

static void few_matches_do_not_hold_what_was_examined(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        put_many(0, 1000 * i, 200);
    weir_poll_request request = patient();
    request.where = compile("n in (5, 1007, 9199)");
    weir_page page = poll_page(&request);
    static const int expected[] = {5, 1007, 9199};
    static const uint64_t offsets[] = {6, 208, 2000};
    size_t held = 0, matched = 0;
    assert_int_equal(page.count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(number_of(&page.records[i]), expected[i]);
        assert_int_equal(page.records[i].at.a, offsets[i]);
        assert_int_equal(page.records[i].record.ts_ms, 1000);
        matched += page.records[i].record.encoded_size;
    }
    for (size_t i = 0; i < page.block_count; i++)
        held += weir_block_size(page.blocks[i]);
    assert_true(held <= 2 * matched);
    assert_int_equal(page.examined, 2000);
    weir_page_fini(&page);
    weir_filter_destroy(&request.where);
}

static void a_filter_sees_shard_offset_and_time(void **state)
{
    (void)state;
    help_store_arrive(store, 5000);
    put_many(0, 0, 10);
    put_many(3, 10, 10);
    weir_poll_request request = patient();
    request.where = compile("$shard == 3 and $offset > 7 and $ts == 5000");
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 3);
    assert_int_equal(number_of(&page.records[0]), 17);
    assert_int_equal(page.records[0].record.ts_ms, 5000);
    weir_page_fini(&page);
    weir_filter_destroy(&request.where);
}

static void what_cannot_be_decided_is_skipped_and_counted(void **state)
{
    (void)state;
    help_store_put(store, 0, "{\"n\":1}", NULL, -1);
    help_store_put(store, 0, "{broken", NULL, -1);
    help_store_put(store, 0, "{\"n\":2}", NULL, -1);
    weir_poll_request request = patient();
    request.where = compile("not n == 5");
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 2);
    assert_int_equal(page.unknown, 1);
    assert_int_equal(page.examined, 3);
    weir_page_fini(&page);
    weir_filter_destroy(&request.where);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    const uint32_t none[1] = {0};
    weir_poll_request bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = weir_poll_defaults;
    bad[0].limit = 10001;
    bad[1].bytes = 0;
    bad[2].scan = 0;
    bad[3].timeout_us = 999;
    bad[4].timeout_us = 3600000001;
    bad[5].shards = none;
    bad[6].from_end = true;
    bad[6].from_ms = 0;
    bad[7].cursor.nonce = NONCE + 1;
    static const char *const texts[] = {"limit",   "bytes",  "scan",  "timeout",
                                        "timeout", "shards", "begin", "bad_cursor: "};
    for (int i = 0; i < 8; i++) {
        weir_page page;
        weir_report report = {0};
        assert_int_equal(weir_poller_poll(poller, &bad[i], &page, &report), WEIR_EINVAL);
        assert_memory_equal(report.text, texts[i], strlen(texts[i]));
        weir_page_fini(&page);
    }
    assert_int_equal(counts.reads, 0);
}

/* --- Positions of two numbers ------------------------------------------------------ */

/*  One shard as redis has it: records 3-38, 3-39, 3-40, then none. */
static void pair_read(weir_store *self, weir_read *read)
{
    (void)self;
    uint64_t from = read->after.a == 3 ? read->after.b + 1 : 38;
    read->reached = (weir_position){3, 40};
    if (from <= 40 && read->max_records) {
        uint64_t last =
            from + read->max_records - 1 < 40 ? from + read->max_records - 1 : 40;
        weir_builder builder = {.target = 1024};
        for (uint64_t i = from; i <= last; i++)
            weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)"{}", 2, NULL);
        read->chunks = calloc(1, sizeof *read->chunks);
        read->chunks[0] = (weir_chunk){.block = weir_builder_seal(&builder),
                                       .last = {3, last},
                                       .epoch = 3,
                                       .sequence = from};
        read->chunk_count = 1;
        read->reached.b = last;
        read->more = last < 40;
        weir_builder_fini(&builder);
    }
    read->done(read);
}

static weir_err pair_shards(weir_store *self, weir_store_shard **list, size_t *count,
                            weir_report *report)
{
    (void)self, (void)report;
    *list = calloc(1, sizeof **list);
    *count = 1;
    return WEIR_OK;
}

static void pair_watch(weir_store *self, int eventfd)
{
    (void)self, (void)eventfd;
}

static const weir_store_class pair_class = {
    .name = "pair",
    .read = pair_read,
    .shards = pair_shards,
    .watch = pair_watch,
    .unwatch = pair_watch,
};

static void positions_may_have_two_numbers(void **state)
{
    (void)state;
    weir_store pairs = {&pair_class};
    store = &pairs;
    poller = weir_poller_new(store, NONCE);
    weir_poll_request request = patient();
    request.limit = 2;
    weir_page page = poll_page(&request);
    assert_int_equal(page.count, 2);
    assert_int_equal(page.records[0].at.a, 3);
    assert_int_equal(page.records[0].at.b, 38);
    assert_int_equal(page.records[1].at.b, 39);
    assert_int_equal(page.records[1].sequence, 39);
    assert_true(page.more);
    go_on(&request, &page);
    page = poll_page(&request);
    assert_int_equal(page.count, 1);
    assert_int_equal(page.records[0].at.b, 40);
    assert_false(page.more);
    go_on(&request, &page);
    weir_cursor_fini(&request.cursor);
    weir_poller_destroy(&poller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(pages_give_each_record_once),
        BOTH(a_page_is_shared_fairly),
        BOTH(the_first_shard_rotates),
        BOTH(a_filter_leaves_it_fair),
        BOTH(places_go_round_among_shards),
        BOTH(a_shard_that_hangs_costs_the_timeout),
        BOTH(a_filter_that_is_late_examines_one_record),
        BOTH(what_has_come_by_the_timeout_is_given),
        BOTH(a_filter_gets_on_beside_a_shard_that_hangs),
        BOTH(an_error_is_told_and_the_place_kept),
        BOTH(reads_that_hang_do_not_pile_up),
        BOTH(a_late_answer_serves_who_begins_there),
        BOTH(a_late_answer_serves_the_next_poll_from_there),
        BOTH(late_answers_are_kept_for_few),
        BOTH(a_late_answer_hides_nothing_newer),
        BOTH(an_answer_may_come_when_the_poller_is_gone),
        BOTH(several_polls_are_under_way_at_once),
        BOTH(a_poll_may_be_given_up),
        BOTH(nothing_moves_when_all_hang_or_limit_is_0),
        BOTH(scan_ends_a_poll_that_finds_nothing),
        BOTH(shards_are_chosen_by_id),
        BOTH(other_shards_keep_their_places),
        BOTH(a_clock_that_goes_back_skips_nothing),
        BOTH(a_page_may_be_sorted_by_time),
        BOTH(gaps_are_passed_and_told),
        BOTH(a_page_keeps_to_its_bytes),
        BOTH(few_matches_do_not_hold_what_was_examined),
        BOTH(a_filter_sees_shard_offset_and_time),
        BOTH(what_cannot_be_decided_is_skipped_and_counted),
        BOTH(bad_requests_are_refused),
        cmocka_unit_test(positions_may_have_two_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
