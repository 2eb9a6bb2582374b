/*  The Redis store: reading, what streams have, and the epoch. */
#include "help_redis.h"
#include "actors/groups.h"
#include "actors/poll.h"

/* --- Pages ------------------------------------------------------------------------- */

static void pages_are_bounded_in_records(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 4, 1, 100, 50);
    put(store, 0, 4, 101, 100, 50);
    weir_read read = {.after = {4, 37}, .max_records = 80, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.chunk_count, 1);
    assert_int_equal(read.chunks[0].epoch, 4);
    assert_int_equal(read.chunks[0].sequence, 38);
    assert_int_equal(read.chunks[0].last.a, 4);
    assert_int_equal(read.chunks[0].last.b, 117);
    assert_int_equal(weir_block_records(read.chunks[0].block), 80);
    assert_int_equal(read.reached.b, 117);
    assert_true(read.more);
    weir_read_fini(&read);
    for (uint32_t page = 1; page <= 256; page *= 4)
        assert_int_equal(count_all(store, 0, page).records, 200);
    read = (weir_read){.max_records = 200, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.reached.b, 200);
    assert_false(read.more);
    weir_read_fini(&read);
    close_store(&store);
}

static void pages_are_bounded_in_bytes_but_one_record_comes(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 1000);
    weir_read read = {.max_records = 100, .max_bytes = 2500};
    read_once(store, &read);
    assert_int_equal(read.reached.b, 2);
    assert_true(read.more);
    weir_read_fini(&read);
    read = (weir_read){.after = {1, 9}, .max_records = 100, .max_bytes = 1};
    read_once(store, &read);
    assert_int_equal(read.reached.b, 10);
    assert_false(read.more);
    weir_read_fini(&read);
    close_store(&store);
}

static void what_is_not_there_is_empty(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    const weir_read reads[] = {{.shard = 99, .max_records = 10, .max_bytes = 100},
                               {.after = {1, 10}, .max_records = 10, .max_bytes = 100},
                               {.after = {7, 0}, .max_records = 10, .max_bytes = 100},
                               {.after = {UINT64_MAX, UINT64_MAX}, .max_records = 10},
                               {.after = {1, 3}, .max_records = 0}};
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        weir_read read = reads[i];
        read_once(store, &read);
        assert_int_equal(read.chunk_count + read.gap_count, 0);
        assert_int_equal(weir_position_order(read.reached, read.after), 0);
        assert_false(read.more);
    }
    close_store(&store);
}

/*  So large that as many as there were of the small ones would be far too much.      */
static void large_records_behind_small_ones_come(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 3000, 20);
    assert_int_equal(count_all(store, 0, 1000).records, 3000);
    put(store, 0, 1, 3001, 100, 200000);
    tally all = {.last = {1, 3000}};
    weir_read read = {.after = {1, 3000}, .max_records = 1000, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_in_range(weir_block_size(read.chunks[0].block), 200000, 1 << 20);
    assert_true(read.more);
    count_read(&all, &read);
    weir_read_fini(&read);
    read_all(store, 0, 1000, &all);
    assert_int_equal(all.records, 100);
    assert_true(look(store).cut > 0);
    close_store(&store);
}

static void reads_and_writes_go_side_by_side(void **state)
{
    enum { batches = 200, records = 100 };
    (void)state;
    weir_store *store = open_store();
    sender one;
    tally all = {0};
    sender_begin(&one, store, 0, 1, 5000000);
    while (one.next <= batches * records) {
        while (one.out < 4 && one.next <= batches * records)
            sender_send(&one, records, 500);
        senders_run(&one, 1, 2);
        read_all(store, 0, 1 + draw(1000), &all);
        assert_true(all.records >= one.safe);
    }
    senders_finish(&one, 1);
    read_all(store, 0, 1000, &all);
    assert_int_equal(all.records, batches * records);
    assert_int_equal(all.trimmed + all.damaged, 0);
    close_store(&store);
    senders_end(&one, 1);
}

/* --- What is missing --------------------------------------------------------------- */

static void trimmed_start_is_a_gap(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 100, 20);
    put(store, 0, 2, 1, 100, 20);
    assert_int_equal(count_all(store, 0, 1000).trimmed, 0);
    DO("XTRIM weir:events:0 MINID = 2-41");
    tally all = count_all(store, 0, 30);
    assert_int_equal(all.trimmed, 40); // of epoch 1 nobody knows how many there were
    assert_int_equal(all.records, 60);
    tally behind = {.last = {2, 20}};
    read_all(store, 0, 30, &behind);
    assert_int_equal(behind.trimmed, 20);
    assert_int_equal(behind.records, 60);
    behind = (tally){.last = {2, 50}};
    read_all(store, 0, 30, &behind);
    assert_int_equal(behind.trimmed, 0);
    DO("XTRIM weir:events:0 MAXLEN 0");
    all = (tally){.last = {2, 70}};
    read_all(store, 0, 30, &all);
    assert_int_equal(all.trimmed, 30);
    assert_int_equal(all.last.b, 100);
    close_store(&store);
}

/*  A sequence that was never stored, as that of a dead letter, is no gap.            */
static void sequence_that_never_was_is_no_gap(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 3, 5, 20);
    put(store, 0, 1, 10, 5, 20);
    tally all = count_all(store, 0, 2);
    assert_int_equal(all.records, 10);
    assert_int_equal(all.trimmed + all.damaged, 0);
    close_store(&store);
}

static void entries_that_are_not_ours_are_passed(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 5, 20);
    redisReply *all = say("XRANGE weir:events:0 1-1 1-1");
    const redisReply *r = all->element[0]->element[1]->element[3];
    DO("XADD weir:events:0 1-6 i 0123456789abcdef:1:0:7 r %b", r->str, r->len); // id
    DO("XADD weir:events:0 1-7 i 0123456789abcdef:1:0:7 r %b", r->str, r->len - 1);
    DO("XADD weir:events:0 1-8 i 0123456789abcdef:1:0:8 r %b x y", r->str, r->len);
    DO("XADD weir:events:0 1-9 r %b i 0123456789abcdef:1:0:9", r->str, r->len);
    DO("XADD weir:events:0 1-10 i 0123456789abcdef:1:1:10 r %b", r->str, r->len); // shard
    DO("XADD weir:events:0 1-11 i fedcba9876543210:1:0:11 r %b", r->str, r->len); // nonce
    DO("XADD weir:events:0 1-12 i 0123456789abcdef:1:0:12 r %b", r->str, r->len); // well
    DO("XADD weir:events:0 2-0 a b");
    freeReplyObject(all);
    weir_read read = {.max_records = 100, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.chunk_count, 2);
    assert_int_equal(read.chunks[0].last.b, 5);
    assert_int_equal(read.chunks[1].last.b, 12);
    assert_int_equal(read.gap_count, 2);
    const weir_gap gaps[] = {{.first = 6, .last = 11, .damaged = true, .epoch = 1},
                             {.first = 0, .last = 0, .damaged = true, .epoch = 2}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read.gaps[i].first, gaps[i].first);
        assert_int_equal(read.gaps[i].last, gaps[i].last);
        assert_int_equal(read.gaps[i].epoch, gaps[i].epoch);
        assert_true(read.gaps[i].damaged);
    }
    assert_int_equal(read.reached.a, 2);
    assert_false(read.more);
    weir_read_fini(&read);
    close_store(&store);
}

/* --- Time -------------------------------------------------------------------------- */

/*  make_batch gives records the time 1000000 + first of their batch.                 */
static void check_since(weir_store *store, weir_position after, int64_t since_ms,
                        weir_position first)
{
    weir_read read = {
        .after = after, .since_ms = since_ms, .max_records = 5, .max_bytes = 1 << 20};
    read_once(store, &read);
    weir_position at = read.reached;
    if (read.chunk_count)
        at = (weir_position){read.chunks[0].epoch, read.chunks[0].sequence};
    if (weir_position_order(at, first))
        fail_msg("since %" PRId64 ": %" PRIu64 "-%" PRIu64, since_ms, at.a, at.b);
    weir_read_fini(&read);
}

static void read_begins_where_a_time_does(void **state)
{
    (void)state;
    weir_store *store = open_store();
    check_since(store, (weir_position){0, 0}, 1, (weir_position){0, 0});
    check_since(store, (weir_position){3, 4}, INT64_MAX, (weir_position){3, 4});
    /*  Epochs 2, 5 and 6; 10 batches of 10 records each, at 1000001, 1000011, ..     */
    const uint64_t epochs[] = {2, 5, 6};
    for (uint64_t e = 0; e < 3; e++)
        for (uint64_t i = 0; i < 10; i++)
            put(store, 0, epochs[e], 1 + e * 100 + i * 10, 10, 20);
    for (uint64_t i = 0; i < 30; i++) {
        weir_position first = {epochs[i / 10], 1 + i * 10};
        for (int64_t ms = 1000001 + (int64_t)i * 10, j = 0; j < 10; j++)
            check_since(store, (weir_position){0, 0}, ms - j, first);
    }
    const weir_position end = {6, 300};
    check_since(store, (weir_position){0, 0}, 1000292, end); // none is so late
    check_since(store, (weir_position){0, 0}, INT64_MAX, end);
    check_since(store, (weir_position){5, 155}, 1, (weir_position){5, 156});
    check_since(store, (weir_position){5, 155}, 1000161, (weir_position){5, 161});
    check_since(store, (weir_position){5, 200}, 1, (weir_position){6, 201});
    check_since(store, end, 1, end);
    check_since(store, (weir_position){9, 9}, 1, (weir_position){9, 9});
    DO("XTRIM weir:events:0 MINID = 5-143");
    check_since(store, (weir_position){0, 0}, 1, (weir_position){5, 143});
    check_since(store, (weir_position){0, 0}, 1000151, (weir_position){5, 151});
    DO("XTRIM weir:events:0 MAXLEN 0");
    check_since(store, (weir_position){0, 0}, 1, end);
    check_since(store, (weir_position){0, 0}, INT64_MAX, end);
    close_store(&store);
}

/*  What lies on the way and has no time is no obstacle. */
static void time_is_found_among_entries_of_others(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    for (int i = 11; i <= 40; i++)
        DO("XADD weir:events:0 1-%d a b", i);
    put(store, 1, 1, 1, 10, 20);
    close_store(&store);
    store = open_store();
    DO("XADD weir:events:0 2-0 a b");
    put(store, 0, 3, 41, 10, 20);
    put(store, 0, 3, 51, 10, 20);
    check_since(store, (weir_position){0, 0}, 1000001, (weir_position){1, 1});
    check_since(store, (weir_position){0, 0}, 1000002, (weir_position){3, 41});
    check_since(store, (weir_position){0, 0}, 1000042, (weir_position){3, 51});
    close_store(&store);
}

/* --- A server that does not answer ------------------------------------------------- */

static void hanging_server_is_an_error_in_time(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    config.timeout_us = 400000;
    weir_store *store = open_with(&config);
    put(store, 0, 1, 1, 10, 20);
    weir_store_shard *list;
    size_t count;
    EVENTUALLY(store->class->shards(store, &list, &count, NULL) == WEIR_OK);
    free(list);
    help_server_pause(server);
    for (int i = 0; i < 2; i++) { // on a connection, and without one
        double start = seconds_now();
        weir_read read = {.max_records = 10, .max_bytes = 1000};
        read_any(store, &read);
        assert_true(read.err != WEIR_OK);
        assert_int_equal(read.chunk_count, 0);
        assert_in_range((seconds_now() - start) * 1000, 300, 10000);
        weir_read_fini(&read);
    }
    /*  Which shards there are is known all the same.                               */
    double start = seconds_now();
    assert_int_equal(store->class->shards(store, &list, &count, NULL), WEIR_OK);
    assert_true(seconds_now() - start < 10);
    assert_int_equal(count, 1);
    free(list);
    help_server_resume(server);
    weir_read read = {.max_records = 10, .max_bytes = 1000};
    EVENTUALLY((read_any(store, &read), !read.err));
    weir_read_fini(&read);
    close_store(&store);
}

static bool shards_take_long(weir_store *store)
{
    weir_store_shard *list;
    size_t count;
    double start = seconds_now();
    assert_int_equal(store->class->shards(store, &list, &count, NULL), WEIR_OK);
    free(list);
    return seconds_now() - start > 0.2;
}

static void close_amid_a_question_answers_it(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    shards_take_long(store);
    help_server_pause(server);
    EVENTUALLY(shards_take_long(store)); // the streams are asked, and not told
    close_store(&store);
    help_server_resume(server);
}

static void read_comes_over_a_connection_that_was_cut(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 100, 20);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(count_all(store, 0, 10).records, 100);
        DO("CLIENT KILL TYPE normal SKIPME yes");
    }
    close_store(&store);
}

static void server_that_is_away_is_an_error_at_once(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_store_shard *list;
    weir_report report;
    size_t count;
    weir_read read = {.max_records = 10, .max_bytes = 1000};
    read_any(store, &read);
    assert_int_equal(read.err, WEIR_ECLOSED);
    assert_non_null(strstr(read.text, "cannot connect"));
    double start = seconds_now();
    assert_int_equal(store->class->shards(store, &list, &count, &report), WEIR_ETIMEOUT);
    assert_true(seconds_now() - start < 10);
    assert_non_null(strstr(report.text, "cannot connect"));
    close_store(&store);
}

static void key_of_another_type_cannot_be_read(void **state)
{
    (void)state;
    weir_store *store = open_store();
    DO("SET weir:events:0 x");
    weir_read read = {.max_records = 10, .max_bytes = 1000};
    read_any(store, &read);
    assert_int_equal(read.err, WEIR_EREFUSED);
    assert_non_null(strstr(read.text, "WRONGTYPE"));
    read = (weir_read){.since_ms = 1, .max_records = 10, .max_bytes = 1000};
    read_any(store, &read);
    assert_int_equal(read.err, WEIR_EREFUSED);
    close_store(&store);
}

/* --- All streams ------------------------------------------------------------------- */

static weir_store_shard look_at(weir_store *store, uint32_t shard, size_t *count)
{
    weir_report report = {0};
    weir_store_shard *list, found = {0};
    EVENTUALLY(store->class->shards(store, &list, count, &report) == WEIR_OK);
    for (size_t i = 0; i < *count; i++)
        if (list[i].shard == shard) found = list[i];
    free(list);
    return found;
}

static void shards_are_what_there_is(void **state)
{
    (void)state;
    size_t count;
    weir_store *store = open_store();
    look_at(store, 0, &count);
    assert_int_equal(count, 0);
    put(store, 3, 1, 1, 100, 50);
    put(store, 70000, 1, 1, 10, 50);
    weir_store_shard three = look_at(store, 3, &count); // what it has written it knows
    assert_int_equal(count, 2);
    assert_int_equal(three.records, 100);
    assert_int_equal(three.last, 100);
    DO("XTRIM weir:events:3 MAXLEN 40");
    EVENTUALLY((three = look_at(store, 3, &count)).records == 40);
    assert_int_equal(three.trimmed, 60);
    assert_int_equal(three.first, 61);
    assert_int_equal(three.last, 100);
    assert_in_range(three.bytes, 40 * 50, 40 * 500);
    assert_int_equal(three.oldest_ms, 1000001);
    assert_int_equal(three.newest_ms, 1000001);
    put(store, 3, 1, 101, 10, 50);
    three = look_at(store, 3, &count);
    assert_int_equal(three.records, 50);
    assert_int_equal(three.last, 110);
    DO("XTRIM weir:events:3 MAXLEN 0");
    EVENTUALLY((three = look_at(store, 3, &count)).records == 0);
    assert_int_equal(three.first, three.last + 1);
    DO("DEL weir:events:3");
    EVENTUALLY((look_at(store, 3, &count), count == 1));
    close_store(&store);
    store = open_store(); // which finds them
    assert_int_equal(look_at(store, 70000, &count).records, 10);
    assert_int_equal(count, 1);
    weir_fence *fences;
    assert_int_equal(store->class->fences(store, &fences, &count, NULL), WEIR_OK);
    assert_int_equal(count, 0);
    free(fences);
    const weir_fence fence = {.from = 1, .last = {7, 8}, .to = 2, .first = {7, 9}};
    store->class->set_fences(store, &fence, 1);
    assert_int_equal(store->class->fences(store, &fences, &count, NULL), WEIR_OK);
    assert_int_equal(count, 1);
    assert_memory_equal(fences, &fence, sizeof fence);
    free(fences);
    close_store(&store);
}

static void epoch_is_the_highest_of_the_bus(void **state)
{
    (void)state;
    weir_report report;
    uint64_t epoch;
    weir_redis_config config = small_config();
    config.bus = "a*[b]?\\-^";
    config.prefix = "p[x]";
    weir_store *store = open_with(&config);
    assert_int_equal(weir_redis_store_epoch(store, &epoch, &report), WEIR_OK);
    assert_int_equal(epoch, 0);
    put(store, 0, 7, 1, 10, 20);
    put(store, 12, 9, 1, 10, 20);
    close_store(&store);
    DO("XTRIM %s MAXLEN 0", "p[x]:a*[b]?\\-^:12"); // which leaves the id
    const char *others[] = {
        "p[x]:a*[b]?\\-^:012", "p[x]:a*[b]?\\-^:1x", "p[x]:a*[b]?\\-^:4294967296",
        "p[x]:a*[b]?\\-^:",    "p[x]:axb:1",         "px:a*[b]?\\-^:1",
        "weir:a*[b]?\\-^:1"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        DO("XADD %s 99-1 a b", others[i]);
    DO("SET %s x", "p[x]:a*[b]?\\-^:5");
    for (int i = 0; i < 5000; i++) // many keys of others: SCAN takes several steps
        DO("SET other:%d x", i);
    store = open_with(&config);
    assert_int_equal(weir_redis_store_epoch(store, &epoch, &report), WEIR_OK);
    assert_int_equal(epoch, 9);
    put(store, 0, 10, 1, 10, 20);
    assert_int_equal(weir_redis_store_epoch(store, &epoch, &report), WEIR_OK);
    assert_int_equal(epoch, 10);
    close_store(&store);
}

/* --- Its readers ------------------------------------------------------------------- */

static void poll_pages_over_shards_and_epochs(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_poller *poller = weir_poller_new(store, NONCE);
    weir_cursor cursor = {.nonce = NONCE};
    uint64_t records = 0, trimmed = 0;
    weir_position last[4] = {{0, 0}};
    for (uint32_t i = 0; i < 4; i++) {
        put(store, i, 1, 1, 100, 20);
        put(store, i, 2, 1, 100, 20);
    }
    DO("XTRIM weir:events:2 MINID = 2-11");
    for (bool more = true; more;) {
        weir_poll_request request = weir_poll_defaults;
        weir_page page = {0};
        weir_report report = {0};
        request.cursor = cursor;
        request.limit = 70;
        if (weir_poller_poll(poller, &request, &page, &report))
            fail_msg("%s", report.text);
        assert_int_equal(page.slow_count + page.failed_count, 0);
        for (size_t i = 0; i < page.count; i++) {
            const weir_polled *is = &page.records[i];
            char id[64];
            snprintf(id, sizeof id, "%" PRIu64 ":%u:%" PRIu64 " ", is->at.a, is->shard,
                     is->at.b);
            assert_memory_equal(is->record.data, id, strlen(id));
            assert_int_equal(is->epoch, is->at.a);
            assert_int_equal(is->sequence, is->at.b);
            assert_true(weir_position_order(is->at, last[is->shard]) > 0);
            last[is->shard] = is->at;
        }
        for (size_t i = 0; i < page.gap_count; i++)
            trimmed += page.gaps[i].last - page.gaps[i].first + 1;
        records += page.count;
        more = page.more;
        weir_cursor_fini(&cursor);
        cursor = page.cursor;
        page.cursor = (weir_cursor){0};
        weir_page_fini(&page);
    }
    assert_int_equal(records, 800 - 110);
    assert_int_equal(trimmed, 10);
    weir_cursor_fini(&cursor);
    weir_poller_destroy(&poller);
    close_store(&store);
}

/*  Fetches and acknowledges until there is nothing for it; the records of all.       */
static uint64_t consume(weir_groups *groups, weir_member_of *member, uint64_t want)
{
    uint64_t records = 0;
    double end_s = seconds_now() + patience_s;
    while (records < want && seconds_now() < end_s) {
        weir_delivered got;
        weir_report report = {0};
        int64_t deadline;
        assert_int_equal(weir_groups_fetch(groups, member, 100, 1 << 20, &got, &deadline),
                         WEIR_OK);
        if (got.block) {
            records += got.records;
            if (weir_groups_ack(groups, member, got.shard, got.at[got.records - 1], true,
                                &report))
                fail_msg("%s", report.text);
        } else {
            usleep(1000);
        }
        weir_delivered_fini(&got);
    }
    return records;
}

static void group_passes_what_was_trimmed(void **state)
{
    (void)state;
    char path[96];
    weir_report report = {0};
    weir_bus_state *bus_state;
    weir_groups *groups;
    weir_member_of *member;
    weir_store *store = open_store();
    snprintf(path, sizeof path, "%s/state", folder);
    assert_int_equal(weir_bus_state_open(&bus_state, path, 64, &report), WEIR_OK);
    weir_redis_config config = small_config();
    close_store(&store);
    config.nonce = weir_bus_state_nonce(bus_state);
    store = open_with(&config);
    put(store, 0, 1, 1, 100, 20);
    put(store, 0, 2, 1, 100, 20);
    put(store, 0, 2, 102, 99, 20); // 101 is a dead letter
    weir_groups_config groups_config = {
        .store = store, .state = bus_state, .vnodes = 64, .bus = "events"};
    assert_int_equal(weir_groups_new(&groups, &groups_config, &report), WEIR_OK);
    weir_group_config group = weir_group_defaults;
    assert_int_equal(
        weir_groups_join(groups, "g", "m", &group, NULL, -1, &member, &report), WEIR_OK);
    assert_int_equal(consume(groups, member, 299), 299);
    put(store, 0, 2, 201, 100, 20);
    put(store, 0, 2, 301, 100, 20);
    DO("XTRIM weir:events:0 MINID = 2-331");
    assert_int_equal(consume(groups, member, 70), 70);
    weir_group_look *looks;
    size_t count;
    assert_int_equal(weir_groups_look(groups, &looks, &count, &report), WEIR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(looks[0].shed, 130);
    assert_int_equal(looks[0].commit.a, 2);
    assert_int_equal(looks[0].commit.b, 400);
    weir_group_looks_free(&looks, count);
    weir_groups_leave(groups, &member);
    weir_groups_destroy(&groups);
    close_store(&store);
    weir_bus_state_close(&bus_state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_SERVER(pages_are_bounded_in_records),
        ON_SERVER(pages_are_bounded_in_bytes_but_one_record_comes),
        ON_SERVER(what_is_not_there_is_empty),
        ON_SERVER(large_records_behind_small_ones_come),
        ON_SERVER(reads_and_writes_go_side_by_side),
        ON_SERVER(trimmed_start_is_a_gap),
        ON_SERVER(sequence_that_never_was_is_no_gap),
        ON_SERVER(entries_that_are_not_ours_are_passed),
        ON_SERVER(read_begins_where_a_time_does),
        ON_SERVER(time_is_found_among_entries_of_others),
        ON_SERVER(hanging_server_is_an_error_in_time),
        ON_SERVER(close_amid_a_question_answers_it),
        ON_SERVER(read_comes_over_a_connection_that_was_cut),
        ON_FOLDER(server_that_is_away_is_an_error_at_once),
        ON_SERVER(key_of_another_type_cannot_be_read),
        ON_SERVER(shards_are_what_there_is),
        ON_SERVER(epoch_is_the_highest_of_the_bus),
        ON_SERVER(poll_pages_over_shards_and_epochs),
        ON_SERVER(group_passes_what_was_trimmed),
    };
    RUN_IF_THERE(tests);
}
