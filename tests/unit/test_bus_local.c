#include "tests/unit/help_bus.h"

/* --- Options ----------------------------------------------------------------------- */

static void expect_bad(const char *where, const char *text)
{
    assert_int_not_equal(weir_bus_new(&bus, &config, &report), WEIR_OK);
    assert_null(bus);
    assert_string_equal(report.where, where);
    if (!strstr(report.text, text)) fail_msg("%s", report.text);
    option_count = 0;
}

static void options_are_those_of_a_topology(void **state)
{
    (void)state;
    set("ring_byte", "1MB");
    expect_bad("ring_byte", "did you mean 'ring_bytes'?");
    set("shards", "auto");
    set("retry.attempts", "forever");
    set("overflow", "sample");
    set("sample.one_in", "10");
    set("flush_timeout", "5s");
    open_bus();
    close_clean();
}

static void take_nothing(void *arg, weir_block *block)
{
    (void)arg;
    (void)block;
}

static void somebody_must_take_the_records(void **state)
{
    (void)state;
    expect_bad("take", "reader");
    config.take = take_nothing;
    config.reader = "inproc://x";
    expect_bad("reader", "either");
    config.reader = NULL;
    set("store", "disk");
    set("disk.keep", "all");
    expect_bad("state_dir", "folder");
    config.state_dir = "/nowhere";
    set("store", "disk");
    set("disk.keep", "all");
    expect_bad("take", "weir_bus_poller");
    config.take = NULL;
    config.reader = "tcp://127.0.0.1:1";
    options[0] = NULL;
    expect_bad("reader", "inproc");
    config.connect = "ipc://x";
    expect_bad("connect", "elsewhere");
}

static void its_name_may_be_that_of_a_folder(void **state)
{
    (void)state;
    const char *const bad[] = {"..", "a/b", "a b", "a.b", "\xff"};
    config.take = take_nothing;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config.name = bad[i];
        expect_bad("name", "letters");
    }
    config.name = "events-2_x";
    open_bus();
    close_clean();
}

static void what_is_for_a_bus_elsewhere_is_not_passed_over(void **state)
{
    (void)state;
    weir_realm *realm;
    config.take = take_nothing;
    config.server = "store";
    expect_bad("server", "connect");
    config.server = NULL;
    config.plaintext = true;
    expect_bad("plaintext", "connect");
    config.plaintext = false;
    config.keys = "/nowhere";
    expect_bad("keys", "listen");
    config.keys = NULL;
    assert_int_equal(weir_realm_new(&realm, NULL, NULL), WEIR_OK);
    config.realm = realm;
    expect_bad("realm", "listen");
    weir_realm_destroy(&realm);
}

static void keys_that_are_not_there_are_told_by_who_listens(void **state)
{
    (void)state;
    set("store", "disk");
    set("disk.keep", "all");
    set("listen", "tcp://127.0.0.1:*");
    config.state_dir = "/nowhere";
    config.keys = "/nowhere";
    assert_int_not_equal(weir_bus_new(&bus, &config, &report), WEIR_OK);
    assert_non_null(strstr(report.where, "/nowhere"));
    assert_non_null(strstr(report.text, "weir keys init"));
}

/*  Its own again: closing it twice would be noticed.                               */
static void a_store_that_was_not_taken_is_still_the_callers(void **state)
{
    (void)state;
    set("shards", "0");
    expect_bad("shards", "1024");
    assert_int_equal(counts.closes, 0);
    store->class->close(&store);
    assert_int_equal(counts.closes, 1);
}

/* --- In memory --------------------------------------------------------------------- */

/*  What came, written by the bus's thread, read when all is safe.                  */
static struct {
    atomic_uint records;
    unsigned next[KEYS];
    unsigned disorder;
} taken;

static void take_in_order(void *arg, weir_block *block)
{
    (void)arg;
    weir_iterator walk = {.block = block};
    weir_record record;
    while (weir_iterator_next(&walk, &record, NULL)) {
        unsigned key, number;
        char text[64] = "";
        memcpy(text, record.data, record.size < 63 ? record.size : 63);
        if (sscanf(text, "{\"k\":%u,\"n\":%u}", &key, &number) == 2)
            taken.disorder += number != taken.next[key]++;
        taken.records++;
    }
}

static void begin_taking(void)
{
    memset(&taken, 0, sizeof taken);
    config.take = take_in_order;
}

static void records_of_a_bus_in_memory_are_taken(void **state)
{
    (void)state;
    begin_taking();
    set("shards", "4");
    open_bus();
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(append_keyed(i % KEYS, i / KEYS), WEIR_OK);
    flush();
    assert_int_equal(weir_bus_acked(bus), 10000);
    assert_int_equal(audit().safe, 10000);
    assert_int_equal(weir_bus_health(bus, NULL), WEIR_BUS_OPEN);
    assert_null(weir_bus_poller(bus));
    close_clean();
    assert_int_equal(taken.records, 10000);
    assert_int_equal(taken.disorder, 0);
}

static void an_actor_reads_a_bus_in_memory(void **state)
{
    (void)state;
    member sink;
    trap_config trap_settings = {.hold = false};
    fill_node(&sink, &trap_settings.node, "sink");
    open_member(&sink, trap_actor, &trap_settings);
    listen_at(&sink, "inproc://test-bus-local");
    start(&sink);
    config.reader = "inproc://test-bus-local";
    set("shards", "2");
    open_bus();
    append(1000, 100);
    flush();
    assert_int_equal(trap_settings.records, 1000);
    close_clean();
    stop(&sink);
}

static void a_record_larger_than_half_a_ring_is_refused(void **state)
{
    (void)state;
    static char large[(512 << 10) + 1];
    begin_taking();
    set("ring_bytes", "1MB");
    open_bus();
    assert_int_equal(weir_bus_append_payload(bus, WEIR_TEXT, large, sizeof large, NULL),
                     WEIR_ETOOBIG);
    assert_int_equal(
        weir_bus_append_payload(bus, WEIR_TEXT, large, sizeof large - 10, NULL), WEIR_OK);
    flush();
    assert_int_equal(audit().safe, 1);
    close_clean();
}

/*  The key makes the record larger than a shard takes.                             */
static void append_too_large(unsigned key)
{
    static char large[512 << 10];
    char head[64];
    size_t size = (512 << 10) - 30;
    int head_size =
        snprintf(head, sizeof head, "{\"k\":\"%u, a key that is written into it\",", key);
    memset(large, ' ', size);
    memcpy(large, head, (size_t)head_size);
    memcpy(large + size - 6, "\"v\":1}", 6);
    assert_int_equal(weir_bus_append_payload(bus, WEIR_JSON, large, size, NULL), WEIR_OK);
}

static void what_a_shard_refuses_is_counted_and_holds_up_nobody(void **state)
{
    (void)state;
    begin_taking();
    set("ring_bytes", "1MB");
    set("key", "k");
    open_bus();
    append_too_large(0);
    append(1, 10);
    flush();
    weir_bus_sums sums = audit();
    assert_int_equal(sums.too_large, 1);
    assert_int_equal(sums.safe, 1);
    assert_int_equal(weir_bus_health(bus, NULL), WEIR_BUS_OPEN);
    close_clean();
}

/*  One block of the sender becomes several, each of which is refused.              */
static void several_parts_of_a_block_may_be_refused(void **state)
{
    (void)state;
    enum { PARTS = 6 };
    begin_taking();
    config.block_bytes = 8 << 20;
    config.window_bytes = 16 << 20;
    set("shards", "4");
    set("ring_bytes", "1MB");
    set("key", "k");
    open_bus();
    for (unsigned i = 0; i < PARTS; i++)
        append_too_large(i);
    append(1, 10);
    flush();
    weir_bus_sums sums = audit();
    assert_int_equal(sums.too_large, PARTS);
    assert_int_equal(sums.safe, 1);
    assert_int_equal(weir_bus_acked(bus), PARTS + 1);
    assert_int_equal(weir_bus_health(bus, NULL), WEIR_BUS_OPEN);
    close_clean();
}

/* --- Ledger ------------------------------------------------------------------------ */

static void ten_appends_and_a_block_are_offered_and_accepted(void **state)
{
    (void)state;
    set("shards", "1");
    open_bus();
    append(10, 20);
    flush();
    weir_bus_sums sums = audit();
    assert_int_equal(sums.offered, 10);
    assert_int_equal(sums.accepted, 10);
    append(100, 20);
    flush();
    sums = audit();
    assert_int_equal(sums.offered, 110);
    assert_int_equal(sums.safe, 110);
    close_clean();
}

static void a_wedged_store_fills_no_ring_above_its_bytes(void **state)
{
    (void)state;
    enum { TOTAL = 10 << 10, SIZE = 1000 };
    set("shards", "2");
    set("ring_bytes", "1MB");
    set("batch.min_records", "1");
    set("batch.max_records", "1");
    set("batch.in_flight", "1");
    open_bus();
    wedge(2, true);
    append(TOTAL, SIZE);
    weir_bus_flush(bus, 300);
    weir_bus_sums sums = audit();
    uint64_t room = (1 << 20) / SIZE;
    assert_in_range(sums.resident, room / 2, 2 * (room + 2));
    assert_int_equal(sums.accepted, sums.resident);
    assert_int_equal(sums.offered, sums.accepted);
    wedge(2, false);
    flush();
    assert_int_equal(audit().safe, TOTAL);
    close_clean();
}

static void a_full_window_behind_a_wedged_store_refuses_who_does_not_wait(void **state)
{
    (void)state;
    set("shards", "1");
    set("ring_bytes", "1MB");
    config.wait_us = 0;
    config.window_bytes = 1 << 20;
    open_bus();
    wedge(1, true);
    weir_err err = WEIR_OK;
    uint64_t taken_in = 0;
    char text[1000] = "";
    while (!(err = weir_bus_append_payload(bus, WEIR_TEXT, text, sizeof text, NULL)))
        taken_in++;
    assert_int_equal(err, WEIR_EFULL);
    assert_int_equal(weir_bus_appended(bus), taken_in);
    wedge(1, false);
    flush();
    assert_int_equal(audit().offered, taken_in);
    close_clean();
}

static void under_fail_a_full_ring_sends_blocks_back_until_there_is_room(void **state)
{
    (void)state;
    set("shards", "1");
    set("ring_records", "100");
    set("overflow", "fail");
    set("batch.in_flight", "1");
    config.block_bytes = 1000;
    open_bus();
    wedge(1, true);
    append(500, 20);
    wait_until(audit().full > 0);
    wedge(1, false);
    flush();
    assert_int_equal(audit().safe, 500);
    close_clean();
}

/*  With faults of the store and moves of vnodes.                                   */
static void audit_under(const char *overflow)
{
    load one;
    set("shards", "2");
    set("scale.max", "4");
    set("ring_records", "2000");
    set("overflow", overflow);
    if (streq(overflow, "sample")) set("sample.one_in", "10");
    set("retry.first", "1ms");
    set("retry.max", "1ms");
    config.window_bytes = 1 << 20;
    open_bus();
    load_start(&one, true);
    for (int i = 0; i < 60; i++) {
        help_store_fail(store, (uint32_t)i % 4, i % 3, WEIR_STORE_RETRY, "timeout");
        if (i % 16 == 3) wedge(4, true);
        if (i % 16 == 11) wedge(4, false);
        if (i % 6 == 5) weir_bus_scale(bus, 1 + (unsigned)i % 4, 0, NULL);
        for (int j = 0; j < 20; j++)
            audit();
        zclock_sleep(1); // the rhythm of the audits
    }
    wedge(8, false);
    load_stop(&one);
    assert_int_equal(weir_bus_flush(bus, 60000), WEIR_OK);
    assert_int_equal(audit().resident, 0);
    weir_bus_sums sums = audit();
    uint64_t settled = sums.safe + sums.evicted + sums.dead + sums.sampled;
    if (!streq(overflow, "fail")) settled += sums.full;
    assert_int_equal(settled, one.appended);
    close_clean();
}

static void the_sums_hold(void **state)
{
    audit_under(*state);
}

/* --- Flush ------------------------------------------------------------------------- */

static void a_flush_closes_the_open_batch(void **state)
{
    (void)state;
    set("shards", "4");
    set("batch.max_delay", "60s");
    open_bus();
    append(50, 20);
    int64_t begun_ms = zclock_mono();
    flush();
    assert_true(zclock_mono() - begun_ms < 10000);
    assert_int_equal(audit().safe, 50);
    append(1, 20); // again, when nothing is new but the open batch
    wait_until(audit().offered == 51);
    flush();
    assert_int_equal(audit().safe, 51);
    append(1, 20);
    close_clean();
}

static void a_flush_needs_no_room_for_what_is_behind(void **state)
{
    (void)state;
    set("shards", "1");
    set("batch.max_delay", "60s");
    set("batch.min_records", "10000");
    config.window_bytes = 10000;
    config.block_bytes = 1000;
    config.wait_us = 100000;
    open_bus();
    weir_err err = WEIR_OK;
    char text[100] = "";
    while (!(err = weir_bus_append_payload(bus, WEIR_TEXT, text, sizeof text, NULL)))
        continue;
    assert_int_equal(err, WEIR_EFULL); // all of it lies in the open batch
    flush();
    close_clean();
}

static void a_flush_amid_overload_covers_what_came_before(void **state)
{
    (void)state;
    load one;
    set("shards", "2");
    set("ring_records", "100");
    set("overflow", "drop_oldest");
    open_bus();
    load_start(&one, false);
    for (int i = 0; i < 50; i++) {
        uint64_t ticket;
        assert_int_equal(weir_bus_append_payload(bus, WEIR_TEXT, "x", 1, &ticket),
                         WEIR_OK);
        flush();
        assert_true(weir_bus_acked(bus) >= ticket);
        weir_bus_sums sums = audit();
        assert_true(sums.safe + sums.evicted >= ticket);
    }
    load_stop(&one);
    close_clean();
}

static void a_flush_that_is_late_tells_of_whom_it_waits_for(void **state)
{
    (void)state;
    weir_bus_shard shards[2];
    set("shards", "2");
    open_bus();
    help_store_wedge(store, 0, true);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(append_keyed(i, 0), WEIR_OK);
    int64_t begun_ms = zclock_mono();
    assert_int_equal(weir_bus_flush(bus, 200), WEIR_ETIMEOUT);
    assert_in_range(zclock_mono() - begun_ms, 200, 10000);
    assert_int_equal(weir_bus_look(bus, NULL, 0), 2);
    wait_until(weir_bus_look(bus, shards, 2) == 2 && shards[1].unsafe == 0);
    assert_int_equal(shards[0].shard, 0);
    assert_int_equal(shards[0].unsafe, 100 - help_store_last(store, 1));
    assert_true(shards[0].unsafe > 0);
    assert_in_range(shards[0].oldest_us, 100000, 10000000);
    assert_int_equal(shards[1].oldest_us, 0);
    help_store_wedge(store, 0, false);
    flush();
    weir_bus_look(bus, shards, 2);
    assert_int_equal(shards[0].unsafe + shards[1].unsafe, 0);
    close_clean();
}

static void the_last_error_of_a_failing_store_is_told(void **state)
{
    (void)state;
    weir_bus_shard shard;
    set("shards", "1");
    open_bus();
    help_store_fail(store, 0, -1, WEIR_STORE_RETRY, "no such luck");
    append(10, 10);
    assert_int_equal(weir_bus_flush(bus, 100), WEIR_ETIMEOUT);
    wait_until(weir_bus_look(bus, &shard, 1) == 1 && shard.error[0]);
    assert_string_equal(shard.error, "no such luck");
    assert_int_equal(shard.unsafe, 10);
    help_store_fail(store, 0, 0, WEIR_STORE_RETRY, "");
    flush();
    weir_bus_look(bus, &shard, 1);
    assert_string_equal(shard.error, "");
    close_clean();
}

/* --- Failures ---------------------------------------------------------------------- */

static void shards_whose_store_works_go_on_beside_one_that_fails(void **state)
{
    (void)state;
    enum { EACH = 4000 };
    set("shards", "4");
    set("retry.first", "1ms");
    open_bus();
    help_store_fail(store, 0, -1, WEIR_STORE_RETRY, "away");
    for (unsigned i = 0; i < EACH; i++)
        assert_int_equal(append_keyed(i, 0), WEIR_OK);
    wait_until(audit().offered == EACH);
    wait_until(others_unsafe() == 0);
    assert_int_equal(help_store_last(store, 0), 0);
    assert_in_range(audit().resident, EACH / 8, EACH / 2);
    assert_int_equal(weir_bus_health(bus, NULL), WEIR_BUS_OPEN);
    help_store_fail(store, 0, 0, WEIR_STORE_RETRY, "");
    flush();
    close_clean();
}

static void nothing_behind_a_fatal_failure_is_acknowledged(void **state)
{
    (void)state;
    weir_report why;
    set("shards", "1");
    open_bus();
    append(10, 10);
    flush();
    help_store_fail(store, 0, 1, WEIR_STORE_FATAL, "somebody else writes");
    append(10, 10);
    assert_int_equal(weir_bus_flush(bus, 20000), WEIR_ECLOSED);
    assert_int_equal(weir_bus_health(bus, &why), WEIR_BUS_DOWN);
    assert_non_null(strstr(why.text, "somebody else writes"));
    assert_int_equal(weir_bus_append_payload(bus, WEIR_TEXT, "x", 1, NULL), WEIR_ECLOSED);
    assert_int_equal(weir_bus_acked(bus), 10);
    assert_int_equal(weir_bus_destroy(&bus, 1000), 10);
}

/* --- Scaling ----------------------------------------------------------------------- */

static void a_scale_down_of_a_wedged_store_returns_by_its_deadline(void **state)
{
    (void)state;
    set("shards", "2");
    open_bus();
    wedge(2, true);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(append_keyed(i, 0), WEIR_OK);
    wait_until(audit().offered == 100);
    int64_t begun_ms = zclock_mono();
    assert_int_equal(weir_bus_scale(bus, 1, 200, &report), WEIR_ETIMEOUT);
    assert_in_range(zclock_mono() - begun_ms, 200, 10000);
    assert_true(report.text[0]);
    assert_int_equal(unsafe_in_shards(), 100);
    wedge(2, false);
    assert_int_equal(weir_bus_scale(bus, 1, 20000, &report), WEIR_OK);
    assert_int_equal(weir_bus_look(bus, NULL, 0), 2); // a retired one is still told of
    flush();
    assert_int_equal(audit().safe, 100);
    assert_int_equal(weir_bus_scale(bus, 3, 20000, &report), WEIR_EINVAL);
    assert_non_null(strstr(report.text, "scale.max"));
    close_clean();
}

static void a_close_ends_who_waits_for_a_scaling(void **state)
{
    (void)state;
    set("shards", "2");
    open_bus();
    wedge(2, true);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(append_keyed(i, 0), WEIR_OK);
    wait_until(audit().offered == 100);
    assert_int_equal(weir_bus_scale(bus, 1, 0, NULL), WEIR_ETIMEOUT);
    assert_int_equal(weir_bus_close(bus, 0), 100);
    assert_int_equal(weir_bus_scale(bus, 2, -1, NULL), WEIR_ECLOSED);
    assert_int_equal(weir_bus_destroy(&bus, 0), 100);
}

static void keys_keep_their_order_while_shards_come_and_go(void **state)
{
    (void)state;
    load one;
    begin_taking();
    set("shards", "1");
    set("scale.max", "8");
    open_bus();
    load_start(&one, true);
    for (unsigned i = 0; i < 20; i++) {
        weir_err err = weir_bus_scale(bus, 1 + i * 5 % 8, 20000, &report);
        if (err) fail_msg("scaling %u: %s", i, report.text);
        audit();
    }
    load_stop(&one);
    flush();
    assert_int_equal(audit().safe, one.appended);
    close_clean();
    assert_int_equal(taken.records, one.appended);
    assert_int_equal(taken.disorder, 0);
}

/*  Each record comes once, and behind what was stored of its key before its shard
    changed: a fence stands between.                                                */
static void a_store_has_each_record_once_after_scalings(void **state)
{
    (void)state;
    load one;
    set("shards", "2");
    set("scale.max", "8");
    open_bus();
    load_start(&one, true);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(weir_bus_scale(bus, 1 + i * 5 % 8, 20000, &report), WEIR_OK);
    load_stop(&one);
    flush();
    uint64_t stored = 0;
    for (uint32_t i = 0; i < weir_bus_look(bus, NULL, 0); i++)
        stored += help_store_last(store, i);
    assert_int_equal(stored, one.appended);
    assert_int_equal(audit().safe, one.appended);
    close_clean();
}

static uint32_t active(void)
{
    weir_bus_shard shards[SHARDS_MAX];
    uint32_t count = 0;
    size_t all = weir_bus_look(bus, shards, SHARDS_MAX);
    for (size_t i = 0; i < all; i++)
        count += shards[i].active;
    return count;
}

static void who_looks_sees_which_shards_are_active(void **state)
{
    (void)state;
    weir_bus_shard shards[3];
    set("shards", "1");
    set("scale.max", "3");
    set("scale.cooldown", "1h");
    open_bus();
    assert_int_equal(active(), 1);
    assert_int_equal(weir_bus_scale(bus, 3, 20000, NULL), WEIR_OK);
    assert_int_equal(active(), 3);
    assert_int_equal(weir_bus_scale(bus, 2, 20000, NULL), WEIR_OK);
    assert_int_equal(active(), 2);
    assert_int_equal(weir_bus_look(bus, shards, 3), 3);
    assert_int_equal(weir_bus_close(bus, 20000), 0);
    assert_int_equal(weir_bus_look(bus, shards, 3), 3);
    close_clean();
}

/*  As in a topology: a table `scale` is a policy.                                  */
static void options_of_scale_make_a_policy(void **state)
{
    (void)state;
    set("shards", "1");
    set("scale.max", "2");
    set("scale.window", "10ms");
    set("scale.cooldown", "1ms");
    set("ring_records", "100");
    config.block_bytes = 1000;
    open_bus();
    wedge(2, true);
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(append_keyed(i, 0), WEIR_OK);
    wait_until(active() == 2);
    wedge(2, false);
    close_clean();
}

/* --- Close ------------------------------------------------------------------------- */

static void a_close_makes_all_safe_and_ends_the_store_once(void **state)
{
    (void)state;
    set("shards", "4");
    open_bus();
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(append_keyed(i, 0), WEIR_OK);
    assert_int_equal(weir_bus_close(bus, 20000), 0);
    assert_int_equal(audit().safe, 10000);
    assert_int_equal(counts.flushes, 1);
    assert_int_equal(counts.closes, 1);
    assert_int_equal(weir_bus_health(bus, NULL), WEIR_BUS_DOWN);
    assert_null(weir_bus_groups(bus));
    close_clean();
    assert_int_equal(counts.closes, 1);
}

static void *close_it(void *arg)
{
    *(uint64_t *)arg = weir_bus_close(bus, 300);
    return NULL;
}

static void two_who_close_get_the_same_answer(void **state)
{
    (void)state;
    pthread_t threads[2];
    uint64_t unsafe[2];
    set("shards", "2");
    open_bus();
    wedge(2, true);
    append(100, 10);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, close_it, &unsafe[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(unsafe[0], 100);
    assert_int_equal(unsafe[1], 100);
    assert_int_equal(audit().resident, 100);
    assert_int_equal(unsafe_in_shards(), 100);
    assert_int_equal(weir_bus_append_payload(bus, WEIR_TEXT, "x", 1, NULL), WEIR_ECLOSED);
    assert_int_equal(weir_bus_flush(bus, -1), WEIR_ECLOSED);
    assert_int_equal(counts.closes, 1);
    assert_int_equal(weir_bus_destroy(&bus, -1), 100);
}

static void who_waits_for_room_hears_of_a_close(void **state)
{
    (void)state;
    load one;
    set("shards", "1");
    set("ring_bytes", "1MB");
    config.window_bytes = 100000;
    open_bus();
    wedge(1, true);
    load_start(&one, false);
    wait_until(unsafe_in_shards() > 100);
    assert_true(weir_bus_close(bus, 0) > 0);
    pthread_join(one.thread, NULL);
    assert_int_equal(weir_bus_destroy(&bus, 0), one.appended);
}

static void destroy_waits_for_no_store(void **state)
{
    (void)state;
    set("shards", "4");
    open_bus();
    wedge(4, true);
    append(1000, 100);
    wait_until(audit().offered > 0);
    int64_t begun_ms = zclock_mono();
    assert_int_equal(weir_bus_destroy(&bus, 0), 1000);
    assert_true(zclock_mono() - begun_ms < 10000);
}

#define MEMORY(test) cmocka_unit_test_setup(test, begin)
#define STORE(test) cmocka_unit_test_setup(test, begin_with_store)

#define SUMS(overflow)                                                                   \
    {                                                                                    \
        .name = "the_sums_hold_under_" overflow, .test_func = the_sums_hold,             \
        .setup_func = begin_with_store, .initial_state = overflow                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        MEMORY(somebody_must_take_the_records),
        MEMORY(its_name_may_be_that_of_a_folder),
        MEMORY(what_is_for_a_bus_elsewhere_is_not_passed_over),
        MEMORY(keys_that_are_not_there_are_told_by_who_listens),
        STORE(a_store_that_was_not_taken_is_still_the_callers),
        STORE(options_are_those_of_a_topology),
        MEMORY(records_of_a_bus_in_memory_are_taken),
        MEMORY(an_actor_reads_a_bus_in_memory),
        MEMORY(a_record_larger_than_half_a_ring_is_refused),
        MEMORY(what_a_shard_refuses_is_counted_and_holds_up_nobody),
        MEMORY(several_parts_of_a_block_may_be_refused),
        STORE(ten_appends_and_a_block_are_offered_and_accepted),
        STORE(a_wedged_store_fills_no_ring_above_its_bytes),
        STORE(a_full_window_behind_a_wedged_store_refuses_who_does_not_wait),
        STORE(under_fail_a_full_ring_sends_blocks_back_until_there_is_room),
        SUMS("block"),
        SUMS("drop_newest"),
        SUMS("drop_oldest"),
        SUMS("sample"),
        SUMS("fail"),
        STORE(a_flush_closes_the_open_batch),
        STORE(a_flush_needs_no_room_for_what_is_behind),
        STORE(a_flush_amid_overload_covers_what_came_before),
        STORE(a_flush_that_is_late_tells_of_whom_it_waits_for),
        STORE(the_last_error_of_a_failing_store_is_told),
        STORE(shards_whose_store_works_go_on_beside_one_that_fails),
        STORE(nothing_behind_a_fatal_failure_is_acknowledged),
        STORE(a_scale_down_of_a_wedged_store_returns_by_its_deadline),
        STORE(a_close_ends_who_waits_for_a_scaling),
        MEMORY(keys_keep_their_order_while_shards_come_and_go),
        STORE(a_store_has_each_record_once_after_scalings),
        STORE(who_looks_sees_which_shards_are_active),
        STORE(options_of_scale_make_a_policy),
        STORE(a_close_makes_all_safe_and_ends_the_store_once),
        STORE(two_who_close_get_the_same_answer),
        STORE(who_waits_for_room_hears_of_a_close),
        STORE(destroy_waits_for_no_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
