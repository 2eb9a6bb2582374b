/*  The Redis store while its server is well: what it writes, and once. */
#include "help_redis.h"
#include <sys/eventfd.h>

/* --- What is stored ---------------------------------------------------------------- */

static void records_are_stored_as_specified(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 3, 7, 1, 10, 50);
    put(store, 3, 7, 11, 1, 50);
    check_stream(3, 7, 1, 11);
    assert_string_equal(store->class->name, "redis");
    close_store(&store);
}

/*  The record of the only entry. */
static weir_record only_record(uint32_t shard, redisReply **all)
{
    weir_record record;
    *all = say("XRANGE weir:events:%u - +", shard);
    assert_int_equal((*all)->elements, 1);
    const redisReply *r = (*all)->element[0]->element[1]->element[3];
    weir_reader reader = {(uint8_t *)r->str, (uint8_t *)r->str + r->len};
    assert_int_equal(weir_record_read(&record, &reader, false), WEIR_OK);
    return record;
}

static weir_batch *batch_of(const weir_record *record)
{
    weir_builder builder = {.target = 1};
    weir_batch *batch = make_batch(0, 1, 1, 0, 0);
    weir_builder_add(&builder, record, &(weir_run){.records = 0});
    weir_piece piece = {.block = weir_builder_seal(&builder)};
    weir_builder_fini(&builder);
    weir_batch_add(batch, &piece);
    return batch;
}

static void time_of_arrival_is_filled_in_where_none_is(void **state)
{
    (void)state;
    static const uint8_t headers[] = {0x81, 0xa1, 'h', 0x01};
    weir_store *store = open_store();
    weir_record record = {
        .format = WEIR_JSON,
        .data = (const uint8_t *)"{\"a\":1}",
        .size = 7,
        .key = {.type = WEIR_STR, .data = (const uint8_t *)"key", .size = 3},
        .headers = headers,
        .headers_size = sizeof headers};
    for (int timed = 0; timed < 2; timed++) {
        redisReply *all;
        record.has_ts = timed;
        record.ts_ms = 77;
        weir_batch *batch = batch_of(&record);
        batch->epoch = 1 + (uint64_t)timed;
        DO("XTRIM weir:events:0 MAXLEN 0");
        assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
        weir_record stored = only_record(0, &all);
        assert_true(stored.has_ts);
        assert_int_equal(stored.ts_ms, timed ? 77 : batch->arrived_ms);
        assert_memory_equal(stored.data, record.data, 7);
        assert_memory_equal(stored.key.data, "key", 3);
        assert_memory_equal(stored.headers, headers, sizeof headers);
        freeReplyObject(all);
        free_batch(&batch);
    }
    close_store(&store);
}

static void shards_are_written_side_by_side(void **state)
{
    enum { count = 60 };
    (void)state;
    weir_store *store = open_store();
    weir_batch *batches[count];
    for (uint32_t i = 0; i < count; i++)
        batches[i] = make_batch(i % 6, 1, 1 + i / 6 * 500, 500, 20);
    for (uint32_t i = 0; i < count; i++)
        store->class->write(store, batches[i]);
    assert_int_equal(store->class->flush(store, 30000000, NULL), WEIR_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(wait_for(batches[i], 0));
        assert_int_equal(batches[i]->result, WEIR_STORE_SAFE);
        free_batch(&batches[i]);
    }
    for (uint32_t i = 0; i < 6; i++)
        check_stream(i, 1, 1, 5000);
    close_store(&store);
}

static void batch_that_comes_again_is_stored_once(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 100, 20);
    put(store, 0, 1, 101, 100, 20);
    put(store, 0, 1, 101, 100, 20);
    put(store, 0, 1, 1, 100, 20);
    put(store, 0, 1, 151, 100, 20); // half of it is new
    check_stream(0, 1, 1, 250);
    close_store(&store);
    store = open_store(); // of the same epoch: it goes on
    put(store, 0, 1, 201, 100, 20);
    put(store, 0, 1, 301, 10, 20);
    check_stream(0, 1, 1, 310);
    close_store(&store);
}

/*  As after a record that became a dead letter.                                     */
static void sequences_may_have_gaps(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 5, 20);
    put(store, 0, 1, 7, 5, 20);
    put(store, 0, 2, 2, 5, 20);
    assert_int_equal(stream_length(0), 15);
    tally all = count_all(store, 0, 100);
    assert_int_equal(all.records, 15);
    assert_int_equal(all.trimmed + all.damaged, 0);
    close_store(&store);
}

static void batch_without_records_is_safe_in_its_turn(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_batch *batch = make_batch(0, 1, 1, 10, 20), *empty = make_batch(0, 1, 11, 0, 0);
    for (uint32_t i = 0; i < empty->piece_count; i++)
        weir_block_destroy(&empty->pieces[i].block);
    empty->piece_count = 0;
    store->class->write(store, batch);
    store->class->write(store, empty);
    assert_int_equal(wait_answer(empty), WEIR_STORE_SAFE);
    assert_true(wait_for(batch, 0));
    free_batch(&batch);
    free_batch(&empty);
    close_store(&store);
}

static void record_that_is_too_large_is_refused(void **state)
{
    (void)state;
    weir_store *store = open_store();
    ((weir_redis *)store)->record_max = 1000;
    weir_batch *batch = make_batch(0, 1, 1, 20, 20);
    weir_piece large = {
        .block = make_block(&(weir_batch){.epoch = 1, .first = 21}, 0, 1, 2000)};
    weir_batch_add(batch, &large);
    weir_batch *behind = make_batch(0, 1, 22, 10, 20);
    store->class->write(store, batch);
    store->class->write(store, behind);
    assert_int_equal(wait_answer(batch), WEIR_STORE_REFUSED);
    assert_int_equal(batch->refused, 20);
    assert_int_equal(batch->last_offset, 20);
    assert_non_null(strstr(batch->text, "1000 bytes"));
    assert_int_equal(wait_answer(behind), WEIR_STORE_RETRY);
    assert_int_equal(write_batch(store, behind), WEIR_STORE_RETRY); // not yet
    behind->again = true; // there is no rest: it is what comes next
    assert_int_equal(write_batch(store, behind), WEIR_STORE_SAFE);
    free_batch(&behind);
    free_batch(&batch);
    assert_int_equal(stream_length(0), 30);
    close_store(&store);
}

/* --- Bounds ------------------------------------------------------------------------ */

static void window_bounds_what_is_unanswered(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    config.window = 64;
    weir_store *store = open_with(&config);
    weir_batch *batches[8];
    for (uint32_t i = 0; i < 2; i++)
        put(store, i, 1, 1, 1, 1000);
    help_server_pause(server);
    for (uint32_t i = 0; i < 8; i++) {
        batches[i] = make_batch(i % 2, 1, 2 + i / 2 * 1000, 1000, 1000);
        store->class->write(store, batches[i]);
    }
    EVENTUALLY(look(store).unanswered_max == 64);
    help_server_resume(server);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(wait_answer(batches[i]), WEIR_STORE_SAFE);
        free_batch(&batches[i]);
    }
    weir_redis_stats stats = look(store);
    assert_int_equal(stats.unanswered_max, 64);
    assert_in_range(stats.buffer_max, 16 * 1000, 2 * 64 * 1200);
    assert_in_range(stats.calls, 8000 / 16, 8000 / 16 + 10);
    assert_int_equal(stats.call_records, 8002);
    check_stream(0, 1, 1, 4001);
    close_store(&store);
}

/*  However wide the window is. */
static void buffer_is_bounded_in_bytes(void **state)
{
    enum { count = 40 };
    (void)state;
    weir_redis_config config = small_config();
    config.window = 65536;
    weir_store *store = open_with(&config);
    weir_batch *batches[count];
    for (uint32_t i = 0; i < count; i++)
        put(store, i, 1, 1, 1, 10);
    help_server_pause(server);
    for (uint32_t i = 0; i < count; i++) {
        batches[i] = make_batch(i, 1, 2, 10, 100000);
        store->class->write(store, batches[i]);
    }
    EVENTUALLY(look(store).buffer_max > 512 << 10);
    help_server_resume(server);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(wait_answer(batches[i]), WEIR_STORE_SAFE);
        free_batch(&batches[i]);
    }
    assert_in_range(look(store).buffer_max, 512 << 10, 1 << 20);
    close_store(&store);
}

static void stream_is_trimmed_to_what_it_keeps(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    config.keep_records = 500;
    weir_store *store = open_with(&config);
    for (uint64_t i = 0; i < 20; i++)
        put(store, 0, 1, 1 + i * 250, 250, 20);
    assert_in_range(stream_length(0), 500, 700);
    check_stream(0, 1, 5001 - (uint64_t)stream_length(0), 5000);
    DO("XTRIM weir:events:0 MAXLEN 0");
    put(store, 0, 1, 5001, 10, 20); // behind a stream that is empty
    check_stream(0, 1, 5001, 5010);
    close_store(&store);
}

/* --- Who waits --------------------------------------------------------------------- */

static void watchers_are_told_of_new_records(void **state)
{
    (void)state;
    weir_store *store = open_store();
    eventfd_t count;
    int fd = eventfd(0, EFD_NONBLOCK);
    store->class->watch(store, fd);
    put(store, 0, 1, 1, 10, 20);
    assert_int_equal(eventfd_read(fd, &count), 0);
    assert_int_not_equal(eventfd_read(fd, &count), 0);
    store->class->unwatch(store, fd);
    put(store, 0, 1, 11, 10, 20);
    assert_int_not_equal(eventfd_read(fd, &count), 0);
    close_store(&store);
    close(fd);
}

static void close_answers_what_is_open(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 1, 20);
    help_server_pause(server);
    weir_batch *batches[3];
    weir_report report;
    for (uint32_t i = 0; i < 3; i++) {
        batches[i] = make_batch(i, 1, 2, 10, 20);
        store->class->write(store, batches[i]);
    }
    sem_t done;
    sem_init(&done, 0, 0);
    weir_read read = {
        .max_records = 10, .max_bytes = 1000, .done = post_read, .owner = &done};
    store->class->read(store, &read);
    assert_int_equal(store->class->flush(store, 50000, &report), WEIR_ETIMEOUT);
    assert_non_null(strstr(report.text, "3 batches"));
    double start = seconds_now();
    close_store(&store);
    assert_true(seconds_now() - start < 4); // less than the timeout
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(wait_for(batches[i], 0));
        assert_int_equal(batches[i]->result, WEIR_STORE_RETRY);
        free_batch(&batches[i]);
    }
    assert_int_equal(sem_trywait(&done), 0);
    assert_int_equal(read.err, WEIR_ECLOSED);
    sem_destroy(&done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_SERVER(records_are_stored_as_specified),
        ON_SERVER(time_of_arrival_is_filled_in_where_none_is),
        ON_SERVER(shards_are_written_side_by_side),
        ON_SERVER(batch_that_comes_again_is_stored_once),
        ON_SERVER(sequences_may_have_gaps),
        ON_SERVER(batch_without_records_is_safe_in_its_turn),
        ON_SERVER(record_that_is_too_large_is_refused),
        ON_SERVER(window_bounds_what_is_unanswered),
        ON_SERVER(buffer_is_bounded_in_bytes),
        ON_SERVER(stream_is_trimmed_to_what_it_keeps),
        ON_SERVER(watchers_are_told_of_new_records),
        ON_SERVER(close_answers_what_is_open),
    };
    RUN_IF_THERE(tests);
}
