/*  The JetStream store on a real server: storing, reading, bounds, and streams that are
    not what they should be.                                                        */
#include "help_jetstream.h"

/* --- Storing and reading ----------------------------------------------------------- */

static void records_come_back_in_order(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    assert_int_equal(put(store, 0, 1, 1, 10, 100), 10);
    assert_int_equal(put(store, 7, 1, 1, 3, 100), 3);
    assert_int_equal(put(store, 0, 1, 11, 1500, 100), 1510);
    tally zero = count_all(store, 0, 77), seven = count_all(store, 7, 1000);
    assert_int_equal(zero.records, 1510);
    assert_int_equal(seven.records, 3);
    assert_int_equal(zero.trimmed + zero.damaged + seven.trimmed + seven.damaged, 0);
    close_store(&store);
}

/*  Of another process, say, which reads only.                                       */
static void offsets_go_on_across_restarts(void **state)
{
    NEEDS_SERVER();
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        weir_store *store = store_at(server.port);
        assert_int_equal(put(store, 4, epoch, 1, 10, 50), epoch * 10);
        close_store(&store);
    }
    weir_jetstream_config config = config_at(server.port);
    config.nonce = 0;
    weir_store *store = new_store(&config);
    assert_int_equal(count_all(store, 4, 7).records, 30);
    weir_batch *batch = make_batch(4, 4, 1, 1, 10);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
    free_batch(&batch);
    close_store(&store);
}

static weir_batch *batch_of(weir_builder *builder, int64_t arrived_ms)
{
    weir_batch *batch = make_batch(0, 1, 1, 1, 10);
    weir_block_destroy(&batch->pieces[0].block);
    batch->piece_count = batch->records = 0;
    batch->arrived_ms = arrived_ms;
    weir_piece piece = {.block = weir_builder_seal(builder)};
    weir_batch_add(batch, &piece);
    weir_builder_fini(builder);
    return batch;
}

static void timestamps_are_filled_in_and_all_else_is_kept(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    weir_builder builder = {.target = 4096};
    weir_buffer headers = {0};
    weir_buffer_put(&headers, "\x81\xa1h\xa1v", 5);
    weir_record record = {.format = WEIR_JSON,
                          .data = (const uint8_t *)"{\"a\": 1}",
                          .size = 8,
                          .key = {.type = WEIR_INT, .format = WEIR_MSGPACK, .integer = 5},
                          .headers = headers.data,
                          .headers_size = headers.size};
    weir_builder_add(&builder, &record, &(weir_run){.records = 0});
    record.has_ts = true;
    record.ts_ms = 77;
    weir_builder_add(&builder, &record, &(weir_run){.records = 0});
    weir_batch *batch = batch_of(&builder, 123456);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
    weir_read read = {.max_records = 10, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.chunk_count, 1);
    weir_iterator walk = {.block = read.chunks[0].block};
    for (int i = 0; i < 2; i++) {
        weir_record is;
        assert_true(weir_iterator_next(&walk, &is, NULL));
        assert_true(is.has_ts);
        assert_int_equal(is.ts_ms, i ? 77 : 123456);
        assert_int_equal(is.size, 8);
        assert_memory_equal(is.data, "{\"a\": 1}", 8);
        assert_int_equal(is.key.integer, 5);
        assert_int_equal(is.headers_size, 5);
    }
    assert_int_equal(weir_block_check(read.chunks[0].block), WEIR_OK);
    weir_read_fini(&read);
    weir_buffer_fini(&headers);
    close_store(&store);
}

static void pages_are_bounded_but_one_record_comes(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    put(store, 0, 1, 1, 20, 5000);
    weir_read read = {.max_records = 100, .max_bytes = 26000};
    read_once(store, &read);
    assert_in_range(read.reached.a, 3, 5);
    assert_true(read.more);
    weir_read_fini(&read);
    read = (weir_read){.after = {18, 0}, .max_records = 100, .max_bytes = 1};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 19);
    assert_true(read.more);
    weir_read_fini(&read);
    read = (weir_read){.after = {19, 0}, .max_records = 100, .max_bytes = 0};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 20);
    weir_read_fini(&read);
    read = (weir_read){.after = {20, 0}, .max_records = 100, .max_bytes = 0};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 20);
    assert_false(read.more);
    weir_read_fini(&read);
    read = (weir_read){.after = {5, 0}, .max_records = 7, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 12);
    assert_true(read.more);
    weir_read_fini(&read);
    close_store(&store);
}

static void what_is_not_there_reads_as_nothing(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    weir_read read = {
        .shard = 99, .after = {3, 0}, .max_records = 9, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.chunk_count + read.gap_count, 0);
    assert_int_equal(read.reached.a, 3);
    assert_false(read.more);
    weir_read_fini(&read);
    put(store, 0, 1, 1, 5, 10);
    const uint64_t after[] = {5, 5, 9};
    for (int i = 0; i < 3; i++) { // twice at the end, then beyond it
        read =
            (weir_read){.after = {after[i], 0}, .max_records = 9, .max_bytes = 1 << 20};
        read_once(store, &read);
        assert_int_equal(read.chunk_count + read.gap_count, 0);
        assert_int_equal(read.reached.a, after[i]);
        assert_false(read.more);
        weir_read_fini(&read);
    }
    put(store, 0, 1, 6, 5, 10);
    read = (weir_read){.after = {5, 0}, .max_records = 9, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 10);
    weir_read_fini(&read);
    read = (weir_read){.after = {7, 0}, .max_records = 0, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 7);
    weir_read_fini(&read);
    close_store(&store);
}

/*  The stream's own times are the only ones that can be asked for.                   */
static void read_begins_at_a_time(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    put(store, 0, 1, 1, 5, 10);
    int64_t between_ms = weir_clock_wall_ms() + 2;
    EVENTUALLY(weir_clock_wall_ms() > between_ms);
    put(store, 0, 1, 6, 5, 10);
    weir_read read = {.since_ms = between_ms, .max_records = 1, .max_bytes = 1};
    read_once(store, &read);
    assert_int_equal(read.chunks[0].offset, 6);
    assert_in_range(read.chunks[0].arrived_ms, between_ms, weir_clock_wall_ms());
    assert_int_equal(read.gap_count, 0);
    weir_read_fini(&read);
    read = (weir_read){
        .since_ms = between_ms, .after = {8, 0}, .max_records = 9, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.chunks[0].offset, 9);
    weir_read_fini(&read);
    const int64_t late[] = {weir_clock_wall_ms() + 3600000, INT64_MAX};
    for (int i = 0; i < 2; i++) {
        read = (weir_read){.since_ms = late[i], .max_records = 1, .max_bytes = 1};
        read_once(store, &read);
        assert_int_equal(read.chunk_count, 0);
        assert_int_equal(read.reached.a, 10);
        assert_false(read.more);
        weir_read_fini(&read);
    }
    read = (weir_read){.since_ms = 1, .max_records = 1, .max_bytes = 1};
    read_once(store, &read);
    assert_int_equal(read.chunks[0].offset, 1);
    weir_read_fini(&read);
    close_store(&store);
}

static void shards_tell_what_they_have(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    client other = client_at(server.port, NULL);
    weir_store_shard *list;
    size_t count;
    EVENTUALLY(store->class->shards(store, &list, &count, NULL) == WEIR_OK);
    assert_int_equal(count, 0);
    free(list);
    int64_t before_ms = weir_clock_wall_ms();
    put(store, 300, 1, 1, 25, 100);
    put(store, 2, 1, 1, 7, 100);
    weir_store_shard at_once = look_at(store, 2); // the list is not asked for anew yet
    assert_int_equal(at_once.last, 7);
    assert_int_equal(at_once.first, 1);
    assert_int_equal(at_once.records, 7);
    js_DeleteMsg(other.js, "weir_test_300", 1, NULL, NULL);
    EVENTUALLY(look_at(store, 300).trimmed == 1);
    weir_store_shard is = look_at(store, 300);
    assert_int_equal(is.first, 2);
    assert_int_equal(is.last, 25);
    assert_int_equal(is.records, 24);
    assert_true(is.bytes > 2400);
    assert_in_range(is.oldest_ms, before_ms, weir_clock_wall_ms());
    assert_in_range(is.newest_ms, is.oldest_ms, weir_clock_wall_ms());
    EVENTUALLY(store->class->shards(store, &list, &count, NULL) == WEIR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(list[0].shard, 2);
    free(list);
    weir_fence *fences;
    assert_int_equal(store->class->fences(store, &fences, &count, NULL), WEIR_OK);
    assert_int_equal(count, 0);
    free(fences);
    client_end(&other);
    close_store(&store);
}

/*  A server lists 256 streams at a time.                                            */
static void many_shards_are_listed(void **state)
{
    enum { shards = 300 };
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    weir_batch *batches[shards];
    for (uint32_t i = 0; i < shards; i++) {
        batches[i] = make_batch(i, 1, 1, 1, 10);
        store->class->write(store, batches[i]);
    }
    for (uint32_t i = 0; i < shards; i++) {
        assert_int_equal(wait_answer(batches[i]), WEIR_STORE_SAFE);
        free_batch(&batches[i]);
    }
    close_store(&store);
    store = store_at(server.port);
    weir_store_shard *list;
    size_t count;
    EVENTUALLY(store->class->shards(store, &list, &count, NULL) == WEIR_OK);
    assert_int_equal(count, shards);
    for (uint32_t i = 0; i < shards; i++)
        assert_int_equal(list[i].shard, i);
    free(list);
    close_store(&store);
}

static void watchers_are_told_of_new_records(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
    eventfd_t count;
    store->class->watch(store, fd);
    store->class->watch(store, other);
    put(store, 0, 1, 1, 1, 10);
    EVENTUALLY(eventfd_read(fd, &count) == 0);
    EVENTUALLY(eventfd_read(other, &count) == 0);
    store->class->unwatch(store, fd);
    put(store, 0, 1, 2, 1, 10);
    EVENTUALLY(eventfd_read(other, &count) == 0);
    assert_int_equal(eventfd_read(fd, &count), -1);
    store->class->unwatch(store, other);
    close_store(&store);
    close(fd);
    close(other);
}

static void flush_waits_for_what_was_written(void **state)
{
    enum { count = 40 };
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    weir_batch *batches[count];
    for (uint32_t i = 0; i < count; i++) {
        batches[i] = make_batch(i % 4, 1, 1 + i / 4 * 100, 100, 20);
        store->class->write(store, batches[i]);
    }
    assert_int_equal(store->class->flush(store, 30000000, NULL), WEIR_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(wait_for(batches[i], 0));
        assert_int_equal(batches[i]->result, WEIR_STORE_SAFE);
        assert_int_equal(batches[i]->last_offset, 100 + i / 4 * 100);
        free_batch(&batches[i]);
    }
    close_store(&store);
}

typedef struct {
    weir_store *store;
    uint32_t shard;
    uint64_t records;
    uint64_t read;
} follower;

/*  An error is no end: who follows asks again.                                       */
static void *follow(void *arg)
{
    follower *self = arg;
    tally is = {0};
    for (double end = seconds_now() + patience_s; is.records < self->records;) {
        weir_read read = {.shard = self->shard,
                          .after = {is.last, 0},
                          .max_records = 333,
                          .max_bytes = 8 << 20};
        read_any(self->store, &read);
        if (read.err)
            print_message("%s\n", read.text);
        else
            count_read(&is, &read);
        weir_read_fini(&read);
        if (seconds_now() > end) break;
    }
    self->read = is.records;
    return NULL;
}

static void readers_follow_while_shards_are_written(void **state)
{
    enum { shards = 3, batches = 30, records = 200 };
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    sender senders[shards];
    follower followers[2 * shards];
    pthread_t threads[2 * shards];
    for (uint32_t i = 0; i < 2 * shards; i++) {
        followers[i] = (follower){store, i % shards, batches * records, 0};
        pthread_create(&threads[i], NULL, follow, &followers[i]);
    }
    for (uint32_t i = 0; i < shards; i++)
        sender_begin(&senders[i], store, i, 1);
    for (int b = 0; b < batches; b++)
        for (int i = 0; i < shards; i++) {
            while (senders[i].in_flight > 3)
                sender_turn(&senders[i], 10);
            sender_send(&senders[i], records, 150);
        }
    for (int i = 0; i < shards; i++) {
        sender_finish(&senders[i]);
        assert_int_equal(senders[i].safe, batches * records);
        sender_end(&senders[i]);
    }
    for (int i = 0; i < 2 * shards; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(followers[i].read, batches * records);
    }
    close_store(&store);
}

/* --- What comes again -------------------------------------------------------------- */

static void batch_that_comes_again_is_stored_once(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    assert_int_equal(put(store, 0, 1, 1, 10, 20), 10);
    assert_int_equal(put(store, 0, 1, 11, 10, 20), 20);
    assert_int_equal(put(store, 0, 1, 11, 10, 20), 20);
    assert_int_equal(put(store, 0, 1, 1, 10, 20), 10);
    assert_int_equal(put(store, 0, 1, 15, 10, 20), 24); // a part of it is there
    close_store(&store);
    store = store_at(server.port);
    assert_int_equal(put(store, 0, 1, 20, 10, 20), 29); // for a new store, too
    assert_int_equal(count_all(store, 0, 100).records, 29);
    close_store(&store);
}

static void earlier_start_of_the_bus_is_fatal(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    put(store, 0, 5, 1, 3, 20);
    weir_batch *batch = make_batch(0, 4, 11, 1, 20);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
    assert_non_null(strstr(batch->text, "other_writer"));
    free_batch(&batch);
    close_store(&store);
    store = store_at(server.port);
    batch = make_batch(0, 4, 11, 1, 20);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
    assert_non_null(strstr(batch->text, "other_writer"));
    free_batch(&batch);
    close_store(&store);
}

/* --- Bounds ------------------------------------------------------------------------ */

static void oldest_records_go_and_are_told_as_a_gap(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    config.keep_records = 100;
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 40, 20);
    weir_read read = {.max_records = 10, .max_bytes = 1 << 20};
    read_once(store, &read); // its consumer goes on behind what will be gone
    weir_read_fini(&read);
    assert_int_equal(put(store, 0, 1, 41, 210, 20), 250);
    tally is = {.last = 10};
    read_all(store, 0, 30, &is);
    assert_int_equal(is.records, 100);
    assert_int_equal(is.trimmed, 140);
    is = count_all(store, 0, 30);
    assert_int_equal(is.records, 100);
    assert_int_equal(is.trimmed, 150);
    close_store(&store);
}

static void stream_that_has_lost_all_is_one_gap(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    weir_store *store = store_at(server.port);
    put(store, 0, 1, 1, 30, 20);
    weir_read read = {.max_records = 10, .max_bytes = 1 << 20};
    read_once(store, &read);
    weir_read_fini(&read);
    assert_int_equal(js_PurgeStream(other.js, "weir_test_0", NULL, NULL), NATS_OK);
    tally is = {.last = 10};
    read_all(store, 0, 30, &is);
    assert_int_equal(is.trimmed, 20);
    assert_int_equal(count_all(store, 0, 30).trimmed, 30);
    assert_int_equal(put(store, 0, 1, 31, 5, 20), 35);
    is = count_all(store, 0, 30);
    assert_int_equal(is.trimmed, 30);
    assert_int_equal(is.records, 5);
    client_end(&other);
    close_store(&store);
}

static void holes_inside_are_gaps(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    weir_store *store = store_at(server.port);
    put(store, 0, 1, 1, 30, 20);
    for (uint64_t i = 11; i <= 13; i++)
        js_DeleteMsg(other.js, "weir_test_0", i, NULL, NULL);
    js_DeleteMsg(other.js, "weir_test_0", 20, NULL, NULL);
    for (uint64_t i = 28; i <= 30; i++)
        js_DeleteMsg(other.js, "weir_test_0", i, NULL, NULL);
    for (uint32_t page = 1; page < 40; page += 6) { // also up to a hole, and behind it
        tally is = count_all(store, 0, page);
        read_all(store, 0, page, &is); // at the end only who asks once more learns of it
        assert_int_equal(is.trimmed, 7);
        assert_int_equal(is.records, 23);
    }
    client_end(&other);
    close_store(&store);
}

static void changed_bounds_are_applied_to_the_stream(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    jsStreamInfo *info = NULL;
    weir_jetstream_config config = config_at(server.port);
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 50, 20);
    close_store(&store);
    config.keep_records = 20;
    config.keep_age_us = 60000000;
    config.dedup_us = 100000;
    store = new_store(&config);
    put(store, 0, 2, 1, 1, 20);
    assert_int_equal(count_all(store, 0, 100).records, 20);
    assert_int_equal(js_GetStreamInfo(&info, other.js, "weir_test_0", NULL, NULL),
                     NATS_OK);
    assert_int_equal(info->Config->MaxMsgs, 20);
    assert_int_equal(info->Config->MaxAge, 60000000000);
    assert_int_equal(info->Config->Duplicates, 100000000);
    assert_true(info->Config->AllowDirect);
    jsStreamInfo_Destroy(info);
    client_end(&other);
    close_store(&store);
}

static void duplicate_window_is_no_longer_than_the_age(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    jsStreamInfo *info = NULL;
    weir_jetstream_config config = config_at(server.port);
    config.keep_age_us = 7000000;
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 1, 20);
    assert_int_equal(js_GetStreamInfo(&info, other.js, "weir_test_0", NULL, NULL),
                     NATS_OK);
    assert_int_equal(info->Config->Duplicates, 7000000000);
    assert_int_equal(info->Config->Storage, js_FileStorage);
    assert_int_equal(info->Config->Discard, js_DiscardOld);
    jsStreamInfo_Destroy(info);
    client_end(&other);
    close_store(&store);
}

/* --- Records that are too large ---------------------------------------------------- */

static int start_small_server(void **state)
{
    (void)state;
    if (!help_nats_is_installed()) return 0;
    help_nats_init(&server, "max_payload: 2000");
    help_nats_start(&server);
    return 0;
}

static weir_batch *batch_with_a_giant(uint32_t records, uint32_t giant)
{
    weir_batch *batch = make_batch(0, 1, 1, records, 50);
    weir_block *before = make_block(batch, 0, giant, 50),
               *large = make_block(batch, giant, giant + 1, 3000),
               *rest = make_block(batch, giant + 1, records, 50);
    weir_block *parts[] = {before, large, rest};
    for (uint32_t i = 0; i < batch->piece_count; i++)
        weir_block_destroy(&batch->pieces[i].block);
    batch->piece_count = batch->records = 0;
    batch->bytes = 0;
    for (int i = 0; i < 3; i++) {
        weir_piece piece = {.block = parts[i]};
        if (parts[i]) weir_batch_add(batch, &piece);
    }
    return batch;
}

static void record_above_max_payload_is_refused_alone(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    weir_batch *batch = batch_with_a_giant(100, 40),
               *behind = make_batch(0, 1, 101, 5, 50);
    store->class->write(store, batch);
    store->class->write(store, behind);
    assert_int_equal(wait_answer(batch), WEIR_STORE_REFUSED);
    assert_int_equal(batch->refused, 40);
    assert_int_equal(batch->last_offset, 40);
    assert_non_null(strstr(batch->text, "max_payload"));
    assert_int_equal(wait_answer(behind), WEIR_STORE_RETRY);
    assert_int_equal(write_batch(store, behind), WEIR_STORE_RETRY); // not yet
    weir_batch *rest = make_batch(0, 1, 42, 59, 50);
    rest->again = true;
    assert_int_equal(write_batch(store, rest), WEIR_STORE_SAFE);
    assert_int_equal(write_batch(store, behind), WEIR_STORE_SAFE);
    tally is = count_all(store, 0, 1000);
    assert_int_equal(is.records, 104);
    assert_int_equal(is.sequence, 105);
    free_batch(&batch);
    free_batch(&rest);
    free_batch(&behind);
    close_store(&store);
}

static void first_and_last_record_may_be_the_refused_one(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    const uint32_t giants[] = {0, 9};
    for (int i = 0; i < 2; i++) {
        weir_batch *batch = batch_with_a_giant(10, giants[i]);
        batch->again = true;
        assert_int_equal(write_batch(store, batch), WEIR_STORE_REFUSED);
        assert_int_equal(batch->refused, giants[i]);
        free_batch(&batch);
    }
    close_store(&store);
}

/*  The stream itself has a limit: the answer comes from the server.                  */
static void record_that_the_stream_refuses_is_refused_alone(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    weir_store *store = store_at(server.port);
    jsStreamInfo *info = NULL;
    put(store, 0, 1, 1, 1, 10);
    assert_int_equal(js_GetStreamInfo(&info, other.js, "weir_test_0", NULL, NULL),
                     NATS_OK);
    info->Config->MaxMsgSize = 1000;
    assert_int_equal(js_UpdateStream(NULL, other.js, info->Config, NULL, NULL), NATS_OK);
    jsStreamInfo_Destroy(info);
    weir_batch *batch = batch_with_a_giant(10, 6);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_REFUSED);
    assert_int_equal(batch->refused, 6);
    weir_batch *rest = make_batch(0, 1, 8, 3, 50);
    rest->again = true;
    assert_int_equal(write_batch(store, rest), WEIR_STORE_SAFE);
    assert_int_equal(count_all(store, 0, 1000).records, 9);
    free_batch(&batch);
    free_batch(&rest);
    client_end(&other);
    close_store(&store);
}

/* --- Others ------------------------------------------------------------------------ */

static void writes_fatal(weir_store *store, uint32_t shard, uint64_t first,
                         const char *const words[])
{
    weir_batch *batch = make_batch(shard, 1, first, 3, 20);
    batch->again = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
    for (int i = 0; words[i]; i++)
        if (!strstr(batch->text, words[i]))
            fail_msg("no '%s': %s", words[i], batch->text);
    free_batch(&batch);
}

static void other_writer_is_fatal(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    weir_store *store = store_at(server.port);
    put(store, 3, 1, 1, 10, 20);
    assert_int_equal(publish(&other, "weir.test.3", "theirs", "x"), 11);
    const char *words[] = {"other_writer", "shard 3", "11", "theirs", NULL};
    writes_fatal(store, 3, 11, words);
    writes_fatal(store, 3, 11, words);               // it stays so
    assert_int_equal(put(store, 0, 1, 1, 3, 20), 3); // other shards go on
    close_store(&store);
    client_end(&other);
}

/*  One of two buses with one name gives up when they meet; what it had is all there.  */
static void two_buses_of_one_name_do_not_mix(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    weir_store *one = new_store(&config);
    config.nonce = nonce + 1;
    weir_store *two = new_store(&config);
    put(one, 0, 1, 1, 10, 20);
    put(two, 0, 1, 1, 10, 20);
    const char *words[] = {"other_writer", "11", NULL};
    writes_fatal(one, 0, 11, words);
    assert_int_equal(put(two, 0, 1, 11, 10, 20), 30);
    tally is = count_all(one, 0, 100);
    assert_int_equal(is.records, 10);
    assert_int_equal(is.damaged, 20); // none that this bus has stored
    close_store(&one);
    close_store(&two);
}

static void foreign_messages_are_passed_as_damaged(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    char id[WEIR_ID_TEXT];
    for (uint64_t epoch = 1; epoch <= 4; epoch++) {
        weir_store *store = store_at(server.port);
        put(store, 0, epoch, 1, 4, 20);
        weir_id_print(&(weir_id){nonce, epoch, 0, 1000}, id);
        publish(&other, "weir.test.0",
                epoch == 1   ? NULL
                : epoch == 2 ? "who:knows"
                             : id,
                epoch == 3 ? "" : "\x94\xc0\xc0\xa1{\xc0 and more");
        close_store(&store);
    }
    weir_store *store = store_at(server.port);
    tally is = count_all(store, 0, 3);
    assert_int_equal(is.records, 16);
    assert_int_equal(is.damaged, 4);
    assert_int_equal(is.first_damaged, 5);
    close_store(&store);
    client_end(&other);
}

static void add_stream(client *self, jsStreamConfig *config, const char *name,
                       const char *subject)
{
    const char *subjects[] = {subject};
    config->Name = name;
    config->Subjects = subjects;
    config->SubjectsLen = 1;
    assert_int_equal(js_AddStream(NULL, self->js, config, NULL, NULL), NATS_OK);
}

static void foreign_streams_are_fatal(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    weir_store *store = store_at(server.port);
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Storage = js_MemoryStorage;
    add_stream(&other, &config, "weir_test_0", "weir.test.0");
    writes_fatal(store, 0, 1, (const char *[]){"weir_test_0", "storage", "memory", NULL});
    jsStreamConfig_Init(&config);
    config.Retention = js_WorkQueuePolicy;
    add_stream(&other, &config, "weir_test_1", "weir.test.1");
    writes_fatal(store, 1, 1, (const char *[]){"retention", "workqueue", NULL});
    jsStreamConfig_Init(&config);
    config.Discard = js_DiscardNew;
    add_stream(&other, &config, "weir_test_2", "weir.test.2");
    writes_fatal(store, 2, 1, (const char *[]){"discard", NULL});
    jsStreamConfig_Init(&config);
    add_stream(&other, &config, "weir_test_3", "quite.different");
    writes_fatal(store, 3, 1, (const char *[]){"subject", NULL});
    jsStreamConfig_Init(&config);
    add_stream(&other, &config, "theirs", "weir.test.4");
    writes_fatal(store, 4, 1, (const char *[]){"weir_test_4", "overlap", NULL});
    assert_int_equal(js_DeleteStream(other.js, "theirs", NULL, NULL), NATS_OK);
    assert_int_equal(js_DeleteStream(other.js, "weir_test_3", NULL, NULL), NATS_OK);
    weir_batch *batch = make_batch(3, 1, 1, 2, 20); // and good once it has been mended
    batch->again = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
    close_store(&store);
    client_end(&other);
}

static void stream_that_has_lost_records_is_damage(void **state)
{
    NEEDS_SERVER();
    client other = client_at(server.port, NULL);
    weir_store *store = store_at(server.port);
    put(store, 0, 1, 1, 10, 20);
    put(store, 1, 1, 1, 10, 20);
    assert_int_equal(js_DeleteStream(other.js, "weir_test_0", NULL, NULL), NATS_OK);
    writes_fatal(store, 0, 11, (const char *[]){"damage", "shard 0", "10", NULL});
    assert_int_equal(js_DeleteStream(other.js, "weir_test_1", NULL, NULL), NATS_OK);
    weir_store *again = store_at(server.port);
    put(again, 1, 2, 1, 3, 20);
    writes_fatal(store, 1, 11, (const char *[]){"damage", "shard 1", "3", "10", NULL});
    close_store(&again);
    close_store(&store);
    client_end(&other);
}

static void replicas_without_a_cluster_are_fatal(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    config.replicas = 3;
    weir_store *store = new_store(&config);
    writes_fatal(store, 0, 1, (const char *[]){"replicas", NULL});
    close_store(&store);
}

#define ON(test, start) cmocka_unit_test_setup_teardown(test, start, end_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(records_come_back_in_order, start_server),
        ON(offsets_go_on_across_restarts, start_server),
        ON(timestamps_are_filled_in_and_all_else_is_kept, start_server),
        ON(pages_are_bounded_but_one_record_comes, start_server),
        ON(what_is_not_there_reads_as_nothing, start_server),
        ON(read_begins_at_a_time, start_server),
        ON(shards_tell_what_they_have, start_server),
        ON(many_shards_are_listed, start_server),
        ON(watchers_are_told_of_new_records, start_server),
        ON(flush_waits_for_what_was_written, start_server),
        ON(readers_follow_while_shards_are_written, start_server),
        ON(batch_that_comes_again_is_stored_once, start_server),
        ON(earlier_start_of_the_bus_is_fatal, start_server),
        ON(oldest_records_go_and_are_told_as_a_gap, start_server),
        ON(stream_that_has_lost_all_is_one_gap, start_server),
        ON(holes_inside_are_gaps, start_server),
        ON(changed_bounds_are_applied_to_the_stream, start_server),
        ON(duplicate_window_is_no_longer_than_the_age, start_server),
        ON(record_above_max_payload_is_refused_alone, start_small_server),
        ON(first_and_last_record_may_be_the_refused_one, start_small_server),
        ON(record_that_the_stream_refuses_is_refused_alone, start_server),
        ON(other_writer_is_fatal, start_server),
        ON(two_buses_of_one_name_do_not_mix, start_server),
        ON(foreign_messages_are_passed_as_damaged, start_server),
        ON(foreign_streams_are_fatal, start_server),
        ON(stream_that_has_lost_records_is_damage, start_server),
        ON(replicas_without_a_cluster_are_fatal, start_server),
    };
    if (getenv("ONLY")) cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
