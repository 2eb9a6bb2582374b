/*  The JetStream store when the server, or the way to it, fails: what is stored is always
    a prefix, and each record is stored once.                                        */
#include "help_jetstream.h"

static help_proxy *proxy;
static unsigned seed;

static int start_proxied(void **state)
{
    start_server(state);
    if (server.server) proxy = help_proxy_start(NULL, server.port);
    return 0;
}

static int end_proxied(void **state)
{
    help_proxy_destroy(&proxy);
    return end_server(state);
}

static weir_jetstream_config config_through_proxy(int64_t timeout_us)
{
    weir_jetstream_config config = config_at(help_proxy_port(proxy));
    config.timeout_us = timeout_us;
    return config;
}

static unsigned below(unsigned limit)
{
    return (unsigned)rand_r(&seed) % limit;
}

static void begin_random(void)
{
    const char *given = getenv("SEED");
    seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL);
    print_message("SEED=%u\n", seed);
}

/*  Sends for so long, a batch whenever fewer than four are under way.                */
static void send_for(sender *self, int ms, uint32_t records, size_t size)
{
    for (double end = seconds_now() + ms / 1000.0; seconds_now() < end;) {
        while (self->in_flight < 4)
            sender_send(self, records, size);
        sender_turn(self, 5);
        if (self->failed[0]) fail_msg("%s", self->failed);
    }
}

/*  Read past the proxy: each of the records once, in order.                          */
static void stream_is_exactly(uint32_t shard, uint64_t records)
{
    weir_store *store = store_at(server.port);
    tally is = count_all(store, shard, 5000);
    assert_int_equal(is.records, records);
    assert_int_equal(is.sequence, records);
    assert_int_equal(is.trimmed + is.damaged, 0);
    close_store(&store);
}

/* --- Cuts -------------------------------------------------------------------------- */

/*  Until so many more are safe that were sent from now on, four batches under way all the
    time.                                                                            */
static void send_more(sender *self, uint64_t records, uint32_t most, size_t size)
{
    uint64_t aim = self->next - 1 + records;
    for (double end = seconds_now() + patience_s; self->safe < aim;) {
        while (self->in_flight < 4)
            sender_send(self, 1 + below(most), size);
        sender_turn(self, 5);
        if (self->failed[0]) fail_msg("%s", self->failed);
        if (seconds_now() > end) fail_msg("nothing is safe any more");
    }
}

/*  A plain cut; one after which what was under way arrives late, behind what the store
    has sent again, or before; one in the middle of what is sent next; and one that is
    longer than the duplicate window, while what was under way arrives. */
static void cut_once(sender *is, int number)
{
    switch (number % 5) {
    case 0:
        help_proxy_reset(proxy, 0);
        break;
    case 1:
        help_proxy_reset(proxy, 1 + (int)below(250));
        break;
    case 2:
    case 3:
        help_proxy_reset_each(proxy, 1 + below(60000));
        send_for(is, 20, 200, 300);
        help_proxy_reset(proxy, number % 5 == 2 ? 0 : 1 + (int)below(50));
        help_proxy_reset_each(proxy, 0);
        break;
    default:
        help_proxy_refuse(proxy, true);
        help_proxy_reset(proxy, 1 + (int)below(30));
        send_for(is, 200, 100, 100);
        help_proxy_refuse(proxy, false);
    }
}

static void each_record_is_stored_once_over_50_cuts(void **state)
{
    NEEDS_SERVER();
    begin_random();
    weir_jetstream_config config = config_through_proxy(2000000);
    config.dedup_us = 100000;
    config.window = 200;
    weir_store *store = new_store(&config);
    sender is;
    sender_begin(&is, store, 0, 1);
    for (int cut = 0; cut < 50; cut++) {
        send_more(&is, 1 + below(2000), 300, below(400));
        cut_once(&is, cut);
    }
    sender_finish(&is);
    assert_string_equal(is.failed, "");
    assert_int_equal(is.safe, is.next - 1);
    weir_jetstream_stats stats = stats_of(store);
    print_message("%" PRIu64 " records, %" PRIu64 " published, %" PRIu64
                  " looked up, %" PRIu64 " connections\n",
                  is.safe, stats.published, stats.lookups, stats.connects);
    assert_true(stats.connects > 50);
    assert_true(stats.published > is.safe && stats.lookups > 50);
    stream_is_exactly(0, is.safe);
    sender_end(&is);
    close_store(&store);
}

/*  The answers are lost, not the records, and the server no longer knows their ids.   */
static void what_was_stored_before_a_long_cut_is_found_in_the_stream(void **state)
{
    enum { records = 150 };
    NEEDS_SERVER();
    weir_jetstream_config config = config_through_proxy(20000000);
    config.dedup_us = 100000;
    weir_store *store = new_store(&config);
    client other = client_at(server.port, NULL);
    put(store, 0, 1, 1, 5, 20);
    weir_batch *batch = make_batch(0, 1, 6, records, 200);
    help_proxy_hold_down(proxy, true);
    store->class->write(store, batch);
    EVENTUALLY(last_of(&other, "weir_test_0") == 5 + records);
    help_proxy_refuse(proxy, true);
    help_proxy_reset(proxy, 0);
    help_proxy_hold_down(proxy, false);
    assert_int_equal(wait_answer(batch), WEIR_STORE_RETRY);
    double until = seconds_now() + 0.3; // beyond the duplicate window
    EVENTUALLY(seconds_now() > until);
    help_proxy_refuse(proxy, false);
    EVENTUALLY(stats_of(store).connected);
    uint64_t before = stats_of(store).published;
    batch->again = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    assert_int_equal(batch->last_offset, 5 + records);
    assert_int_equal(stats_of(store).published, before); // it was enough to look
    stream_is_exactly(0, 5 + records);
    free_batch(&batch);
    client_end(&other);
    close_store(&store);
}

/*  Written without a dispatch: each answer is looked at.                             */
static void what_is_stored_is_a_prefix_of_what_was_written(void **state)
{
    enum { batches = 4, records = 60 };
    NEEDS_SERVER();
    begin_random();
    weir_jetstream_config config = config_through_proxy(1000000);
    weir_store *store = new_store(&config), *reader = store_at(server.port);
    uint64_t next = 1;
    unsigned failures = 0;
    for (int round = 0; round < 25; round++) {
        weir_batch *list[batches];
        uint64_t safe = next - 1;
        EVENTUALLY(stats_of(store).connected);
        help_proxy_reset_each(proxy, 1 + below(batches * records * 330));
        for (uint32_t i = 0; i < batches; i++) {
            list[i] = make_batch(0, 1, next + i * records, records, 200);
            list[i]->again = i == 0;
            store->class->write(store, list[i]);
        }
        if (below(2)) help_proxy_refuse(proxy, true);
        bool failed = false;
        for (int i = 0; i < batches; i++) {
            weir_store_result result = wait_answer(list[i]);
            assert_true(result == WEIR_STORE_SAFE || result == WEIR_STORE_RETRY);
            assert_false(failed && result == WEIR_STORE_SAFE);
            failed |= result != WEIR_STORE_SAFE;
            if (!failed) safe += records;
            free_batch(&list[i]);
        }
        failures += failed;
        help_proxy_refuse(proxy, false);
        help_proxy_reset_each(proxy, 0);
        tally is = count_all(reader, 0, 5000);
        assert_int_equal(is.records, is.sequence);
        assert_in_range(is.records, safe, next - 1 + batches * records);
        next = safe + 1;
    }
    print_message("%u of 25 rounds had a failure\n", failures);
    assert_true(failures);
    close_store(&reader);
    close_store(&store);
}

/*  Of the second start all records are there, once, and behind all those of the first
   that came: these are as many as it had stored. */
static void each_start_is_in_order(weir_store *store, uint32_t shard, uint64_t second)
{
    weir_read read = {.shard = shard, .max_records = 5000, .max_bytes = 8 << 20};
    uint64_t last[3] = {0};
    read_once(store, &read);
    for (uint32_t i = 0; i < read.chunk_count; i++) {
        const weir_chunk *chunk = &read.chunks[i];
        uint64_t *before = &last[chunk->epoch];
        assert_int_equal(chunk->sequence, *before + 1);
        assert_true(chunk->epoch == 2 || !last[2]);
        *before = chunk->sequence + weir_block_records(chunk->block) - 1;
    }
    assert_false(read.more);
    assert_int_equal(last[2], second);
    weir_read_fini(&read);
}

/*  What the bus had under way when it was killed may arrive while it begins anew: these
    are its own records, and nobody else's.                                          */
static void late_records_of_an_earlier_start_are_no_other_writer_s(void **state)
{
    NEEDS_SERVER();
    begin_random();
    weir_jetstream_config config = config_through_proxy(20000000);
    unsigned late = 0;
    for (uint32_t shard = 0; shard < 30; shard++) {
        weir_store *store = new_store(&config);
        put(store, shard, 1, 1, 5, 20);
        help_proxy_hold(proxy, true);
        weir_batch *batch = make_batch(shard, 1, 6, 300, 100);
        store->class->write(store, batch);
        EVENTUALLY(stats_of(store).published == 5 + 300);
        help_proxy_reset(proxy, 1 + (int)below(12));
        help_proxy_hold(proxy, false);
        close_store(&store);
        free_batch(&batch);
        store = new_store(&config);
        batch = make_batch(shard, 2, 1, 200, 100);
        if (write_batch(store, batch)) fail_msg("%s", batch->text);
        late += batch->last_offset > 205;
        free_batch(&batch);
        each_start_is_in_order(store, shard, 200);
        close_store(&store);
    }
    print_message("%u of 30 found late records\n", late);
}

/*  Each connection brings an answer or two and then ends; the batch has one all the same.
 */
static void connections_that_never_last_do_not_hold_up_an_answer(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_through_proxy(400000);
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 5, 20);
    weir_batch *batch = make_batch(0, 1, 6, 50, 200);
    for (uint64_t bytes = 200; bytes <= 1000; bytes += 100) {
        help_proxy_reset_each(proxy, bytes);
        help_proxy_reset(proxy, 0);
        batch->again = true;
        double start = seconds_now();
        assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
        assert_true(seconds_now() - start < 20);
    }
    help_proxy_reset_each(proxy, 0);
    while (write_batch(store, batch) == WEIR_STORE_RETRY)
        continue;
    assert_int_equal(batch->result, WEIR_STORE_SAFE);
    stream_is_exactly(0, 55);
    free_batch(&batch);
    close_store(&store);
}

static void batches_behind_a_failed_one_wait_for_it(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    put(store, 0, 1, 1, 5, 20);
    put(store, 1, 1, 1, 5, 20);
    help_nats_kill(&server);
    weir_batch *a = make_batch(0, 1, 6, 10, 20), *b = make_batch(0, 1, 16, 10, 20);
    assert_int_equal(write_batch(store, a), WEIR_STORE_RETRY);
    assert_non_null(strstr(a->text, "refused"));
    help_nats_start(&server);
    EVENTUALLY(stats_of(store).connected);
    assert_int_equal(write_batch(store, b), WEIR_STORE_RETRY);
    assert_int_equal(put(store, 1, 1, 6, 5, 20), 10); // another shard
    a->again = true;
    assert_int_equal(write_batch(store, a), WEIR_STORE_SAFE);
    assert_int_equal(write_batch(store, b), WEIR_STORE_SAFE);
    assert_int_equal(b->last_offset, 25);
    weir_batch *c = make_batch(0, 1, 31, 5, 20); // what was between was given up
    c->again = true;
    assert_int_equal(write_batch(store, c), WEIR_STORE_SAFE);
    assert_int_equal(c->last_offset, 30);
    free_batch(&a);
    free_batch(&b);
    free_batch(&c);
    close_store(&store);
}

/* --- The server -------------------------------------------------------------------- */

/*  False as well while nothing can be read.                                          */
static bool ends_at(weir_store *store, uint64_t last)
{
    weir_store_shard *list;
    size_t count;
    if (store->class->shards(store, &list, &count, NULL)) return false;
    bool is = count == 1 && list[0].last == last;
    free(list);
    return is;
}

static void store_opens_before_its_server(void **state)
{
    NEEDS_SERVER();
    help_nats_kill(&server);
    weir_store *store = store_at(server.port);
    weir_batch *batch = make_batch(0, 1, 1, 10, 20);
    batch->again = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
    weir_read read = {.max_records = 9, .max_bytes = 1 << 20};
    read_any(store, &read);
    assert_int_equal(read.err, WEIR_ECLOSED);
    assert_non_null(strstr(read.text, "refused"));
    weir_store_shard *list;
    size_t count;
    weir_report report = {0};
    assert_int_equal(store->class->shards(store, &list, &count, &report), WEIR_ECLOSED);
    assert_non_null(strstr(report.text, "refused"));
    help_nats_start(&server);
    EVENTUALLY(stats_of(store).connected);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    EVENTUALLY(ends_at(store, 10)); // its connection for reading may come later
    free_batch(&batch);
    close_store(&store);
}

static void safe_records_survive_a_killed_server(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    config.timeout_us = 1000000;
    weir_store *store = new_store(&config);
    sender is;
    sender_begin(&is, store, 0, 1);
    for (int round = 0; round < 4; round++) {
        send_for(&is, 60, 200, 200);
        help_nats_kill(&server);
        uint64_t safe = is.safe;
        help_nats_start(&server);
        weir_store *reader = store_at(server.port);
        assert_true(count_all(reader, 0, 5000).records >= safe);
        close_store(&reader);
    }
    sender_finish(&is);
    assert_int_equal(is.safe, is.next - 1);
    stream_is_exactly(0, is.safe);
    sender_end(&is);
    close_store(&store);
}

static void stopped_server_is_answered_for_in_time(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    config.timeout_us = 700000;
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 10, 20);
    assert_int_equal(count_all(store, 0, 100).records, 10);
    help_server_pause(server.server);
    weir_batch *batch = make_batch(0, 1, 11, 1000, 2000),
               *second = make_batch(0, 1, 1011, 10, 20);
    double start = seconds_now();
    store->class->write(store, batch);
    store->class->write(store, second);
    assert_true(seconds_now() - start < 0.6); // less than the timeout
    weir_read read = {.max_records = 9, .max_bytes = 1 << 20};
    read_any(store, &read);
    assert_int_equal(read.err, WEIR_ETIMEOUT);
    assert_non_null(strstr(read.text, config.url)); // whoever reads that has to know
    assert_int_equal(wait_answer(batch), WEIR_STORE_RETRY);
    assert_non_null(strstr(batch->text, config.url));
    assert_int_equal(wait_answer(second), WEIR_STORE_RETRY);
    assert_true(seconds_now() - start < 20);
    for (int i = 0; i < 3; i++) { // while it connects, and waits to
        start = seconds_now();
        batch->again = true;
        assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
        read = (weir_read){.max_records = 9, .max_bytes = 1 << 20};
        read_any(store, &read);
        assert_int_not_equal(read.err, WEIR_OK);
        assert_true(seconds_now() - start < 20);
    }
    help_server_resume(server.server);
    EVENTUALLY(stats_of(store).connected);
    while (write_batch(store, batch) == WEIR_STORE_RETRY)
        continue;
    assert_int_equal(batch->result, WEIR_STORE_SAFE);
    assert_int_equal(write_in_the_end(store, second), WEIR_STORE_SAFE);
    stream_is_exactly(0, 1020);
    free_batch(&batch);
    free_batch(&second);
    close_store(&store);
}

/*  As a shard has it: no record is lost or comes twice.                              */
static void all_records_arrive_once_a_stopped_server_goes_on(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    config.timeout_us = 400000;
    config.dedup_us = 100000;
    weir_store *store = new_store(&config);
    sender is;
    sender_begin(&is, store, 0, 1);
    for (int round = 0; round < 3; round++) {
        send_for(&is, 30, 300, 500);
        help_server_pause(server.server);
        send_for(&is, 500, 300, 500);
        help_server_resume(server.server);
    }
    sender_finish(&is);
    assert_int_equal(is.safe, is.next - 1);
    stream_is_exactly(0, is.safe);
    sender_end(&is);
    close_store(&store);
}

/*  With megabytes that the socket does not take, and in the middle of an attempt.     */
static void close_does_not_wait_for_a_stopped_server(void **state)
{
    NEEDS_SERVER();
    for (int i = 0; i < 2; i++) {
        weir_store *store = store_at(server.port);
        if (i == 0) put(store, 0, 1, 1, 10, 20);
        help_server_pause(server.server);
        weir_batch *batch = make_batch(0, 1, 11, 900, 20000);
        store->class->write(store, batch);
        weir_read read = {.max_records = 9, .max_bytes = 1 << 20};
        sem_t done;
        sem_init(&done, 0, 0);
        read.done = post_read;
        read.owner = &done;
        store->class->read(store, &read);
        if (i == 0) EVENTUALLY(stats_of(store).published > 60);
        double start = seconds_now();
        close_store(&store);
        assert_true(seconds_now() - start < 4);
        assert_true(wait_for(batch, 0));
        assert_int_equal(batch->result, WEIR_STORE_RETRY);
        assert_int_equal(sem_trywait(&done), 0);
        assert_int_equal(read.err, WEIR_ECLOSED);
        help_server_resume(server.server);
        free_batch(&batch);
        sem_destroy(&done);
    }
}

/*  Where libnats would wait for ever: in the greeting, before the first PONG, in it. Each
    time a thread is left to itself, until the connection goes on and ends.           */
static void server_that_stops_amid_the_handshake_is_left_alone(void **state)
{
    NEEDS_SERVER();
    uint64_t greeting = help_nats_greeting(&server);
    const uint64_t places[] = {1, greeting / 2, greeting, greeting + 3};
    weir_jetstream_config config = config_through_proxy(400000);
    for (uint64_t i = 0; i < 4; i++) {
        help_proxy_hold_after(proxy, 2, places[i]); // the first one is the probe
        weir_store *store = new_store(&config);
        weir_batch *batch = make_batch(0, 1, 1 + i * 10, 10, 20);
        batch->again = true;
        assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
        if (i % 2) { // it heals
            help_proxy_hold_after(proxy, 0, 0);
            help_proxy_hold(proxy, false);
            EVENTUALLY(stats_of(store).connected);
            assert_int_equal(write_in_the_end(store, batch), WEIR_STORE_SAFE);
        }
        double start = seconds_now();
        close_store(&store);
        assert_true(seconds_now() - start < 4);
        help_proxy_hold_after(proxy, 0, 0);
        help_proxy_hold(proxy, false);
        free_batch(&batch);
    }
}

/* --- Reading ----------------------------------------------------------------------- */

/*  What has come is an answer; nothing of it comes again, and nothing is left out.    */
static void page_that_stops_halfway_is_given_as_far_as_it_came(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_through_proxy(1500000);
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 1000, 1000);
    help_proxy_hold_after(proxy, 2, 300000); // the probe of the reading connection is 1
    weir_read read = {.max_records = 1000, .max_bytes = 8 << 20};
    tally is = {0};
    double start = seconds_now();
    read_once(store, &read);
    assert_true(seconds_now() - start < 20);
    count_read(&is, &read);
    assert_in_range(is.records, 1, 400);
    assert_true(read.more);
    weir_read_fini(&read);
    help_proxy_hold_after(proxy, 0, 0);
    help_proxy_hold(proxy, false);
    for (double end = seconds_now() + patience_s; is.records < 1000;) {
        read =
            (weir_read){.after = {is.last, 0}, .max_records = 99, .max_bytes = 1 << 20};
        read_any(store, &read); // may fail while the connection is made again
        if (!read.err) count_read(&is, &read);
        weir_read_fini(&read);
        if (seconds_now() > end) fail_msg("not all is read");
    }
    assert_int_equal(is.trimmed + is.damaged, 0);
    close_store(&store);
}

/*  One size is met to the byte, where nats-server 2.9 ends a request in silence.   */
static void pages_of_any_size_are_answered_at_once(void **state)
{
    enum { least = 20000, more_than_a_message = 400 };
    NEEDS_SERVER();
    weir_jetstream_config config = config_at(server.port);
    config.timeout_us = 120000000;
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 1000, 100);
    double begin = seconds_now();
    for (size_t bytes = least; bytes < least + more_than_a_message; bytes++) {
        weir_read read = {.max_records = 1000, .max_bytes = bytes};
        read_once(store, &read);
        assert_true(read.reached.a > least / more_than_a_message);
        weir_read_fini(&read);
    }
    assert_true(seconds_now() - begin < 25);
    close_store(&store);
}

static void reads_go_on_over_cuts(void **state)
{
    NEEDS_SERVER();
    begin_random();
    weir_jetstream_config config = config_through_proxy(2000000);
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 5000, 100);
    tally is = {0};
    unsigned errors = 0;
    for (int i = 0; is.records < 5000; i++) {
        weir_read read = {
            .after = {is.last, 0}, .max_records = 1 + below(400), .max_bytes = 1 << 20};
        sem_t done;
        sem_init(&done, 0, 0);
        read.done = post_read;
        read.owner = &done;
        store->class->read(store, &read);
        if (i % 3 == 0) help_proxy_reset(proxy, 0);
        assert_int_equal(sem_wait(&done), 0);
        sem_destroy(&done);
        errors += read.err != WEIR_OK;
        if (!read.err) count_read(&is, &read);
        weir_read_fini(&read);
    }
    print_message("%u reads failed\n", errors);
    assert_int_equal(is.trimmed + is.damaged, 0);
    close_store(&store);
}

/* --- The window -------------------------------------------------------------------- */

static void no_more_than_a_window_is_unanswered(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_through_proxy(20000000);
    config.window = 50;
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 1, 20);
    put(store, 1, 1, 1, 1, 20);
    help_proxy_hold(proxy, true);
    weir_batch *zero = make_batch(0, 1, 2, 500, 20), *one = make_batch(1, 1, 2, 30, 20);
    store->class->write(store, zero);
    store->class->write(store, one);
    EVENTUALLY(stats_of(store).published >= 2 + 50 + 30);
    help_proxy_hold(proxy, false);
    assert_int_equal(wait_answer(zero), WEIR_STORE_SAFE);
    assert_int_equal(wait_answer(one), WEIR_STORE_SAFE);
    assert_int_equal(stats_of(store).published, 2 + 500 + 30);
    free_batch(&zero);
    free_batch(&one);
    close_store(&store);
}

static void nothing_is_published_beyond_a_held_window(void **state)
{
    NEEDS_SERVER();
    weir_jetstream_config config = config_through_proxy(2000000);
    config.window = 50;
    weir_store *store = new_store(&config);
    put(store, 0, 1, 1, 1, 20);
    help_proxy_hold(proxy, true);
    weir_batch *batch = make_batch(0, 1, 2, 500, 20);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
    assert_int_equal(stats_of(store).published, 1 + 50);
    help_proxy_hold(proxy, false);
    free_batch(&batch);
    close_store(&store);
}

#define ON(test, start, end) cmocka_unit_test_setup_teardown(test, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(each_record_is_stored_once_over_50_cuts, start_proxied, end_proxied),
        ON(what_was_stored_before_a_long_cut_is_found_in_the_stream, start_proxied,
           end_proxied),
        ON(what_is_stored_is_a_prefix_of_what_was_written, start_proxied, end_proxied),
        ON(late_records_of_an_earlier_start_are_no_other_writer_s, start_proxied,
           end_proxied),
        ON(connections_that_never_last_do_not_hold_up_an_answer, start_proxied,
           end_proxied),
        ON(batches_behind_a_failed_one_wait_for_it, start_server, end_server),
        ON(store_opens_before_its_server, start_server, end_server),
        ON(safe_records_survive_a_killed_server, start_server, end_server),
        ON(stopped_server_is_answered_for_in_time, start_server, end_server),
        ON(all_records_arrive_once_a_stopped_server_goes_on, start_server, end_server),
        ON(close_does_not_wait_for_a_stopped_server, start_server, end_server),
        ON(server_that_stops_amid_the_handshake_is_left_alone, start_proxied,
           end_proxied),
        ON(page_that_stops_halfway_is_given_as_far_as_it_came, start_proxied,
           end_proxied),
        ON(pages_of_any_size_are_answered_at_once, start_proxied, end_proxied),
        ON(reads_go_on_over_cuts, start_proxied, end_proxied),
        ON(no_more_than_a_window_is_unanswered, start_proxied, end_proxied),
        ON(nothing_is_published_beyond_a_held_window, start_proxied, end_proxied),
    };
    if (getenv("ONLY")) cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
