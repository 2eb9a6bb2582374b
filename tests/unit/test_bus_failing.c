/*  A bus whose store is away, for all shards or for one. AWAY_MS: how long. */
#include "tests/unit/help_bus.h"
#include <stdlib.h>

/* --- What is stored ---------------------------------------------------------------- */

/*  What append_keyed () has put into it.                                           */
static void read_keyed(const help_stored *stored, unsigned *key, unsigned *number)
{
    char text[64] = "";
    const uint8_t *start = memmem(stored->encoded, stored->size, "{\"k\"", 4);
    assert_non_null(start);
    size_t size = stored->size - (size_t)(start - stored->encoded);
    memcpy(text, start, size < 63 ? size : 63);
    assert_int_equal(sscanf(text, "{\"k\":%u,\"n\":%u}", key, number), 2);
    assert_in_range(*key, 0, KEYS - 1);
}

/*  Each record is there once, in the order of its key, and no id is used twice.     */
static void assert_stored_once(unsigned appended)
{
    unsigned next[KEYS] = {0}, records = 0;
    for (uint32_t shard = 0; shard < weir_bus_look(bus, NULL, 0); shard++) {
        help_stored stored;
        for (uint64_t i = 1; help_store_look(store, shard, i, &stored); i++) {
            unsigned key = 0, number = 0;
            read_keyed(&stored, &key, &number);
            assert_int_equal(number, next[key]++);
            assert_int_equal(stored.epoch, 1);
            assert_int_equal(stored.sequence, i);
            records++;
        }
    }
    assert_int_equal(records, appended);
}

static uint64_t stored_in(uint32_t shards)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < shards; i++)
        sum += help_store_last(store, i);
    return sum;
}

/* --- All shards -------------------------------------------------------------------- */

#define SHARDS 4
#define RING (1 << 20)
#define WINDOW (8 << 20)

static int64_t away_ms(void)
{
    const char *text = getenv("AWAY_MS");
    return text ? atoll(text) : 1000;
}

/*  Two shards get errors, and two no answers.                                      */
static void set_away(bool away)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        if (i % 2)
            help_store_wedge(store, i, away);
        else
            help_store_fail(store, i, away ? -1 : 0, WEIR_STORE_RETRY, "no connection");
    }
}

static void look_while_away(int64_t until_ms)
{
    uint64_t stored = stored_in(SHARDS);
    while (zclock_mono() < until_ms) {
        weir_bus_shard shards[SHARDS];
        weir_bus_sums sums = audit();
        assert_int_equal(sums.full + sums.evicted + sums.dead, 0);
        assert_int_equal(weir_bus_look(bus, shards, SHARDS), SHARDS);
        assert_int_equal(weir_bus_health(bus, NULL), WEIR_BUS_OPEN);
        zclock_sleep(10); // the rhythm of the looks
    }
    assert_int_equal(stored_in(SHARDS), stored);
}

static void a_store_that_is_away_under_load_gets_all_records_when_it_is_back(void **state)
{
    (void)state;
    load one;
    weir_ledger *ledger = weir_ledger_new(1 << 30);
    set("shards", "4");
    set("ring_bytes", "1MB");
    set("retry.timeout", "100ms");
    set("retry.first", "10ms");
    set("retry.max", "200ms");
    config.window_bytes = WINDOW;
    config.ledger = ledger;
    open_bus();
    load_start(&one, true);
    wait_until(audit().safe > 10000);
    set_away(true);
    look_while_away(zclock_mono() + away_ms());
    wait_until(weir_ledger_peak(ledger) >= 2 * RING);
    uint64_t appended = weir_bus_appended(bus);
    set_away(false);
    wait_until(weir_bus_appended(bus) > appended + 10000);
    load_stop(&one);
    flush();
    assert_int_equal(audit().safe, one.appended);
    assert_stored_once(one.appended);
    assert_true(weir_ledger_peak(ledger) <= SHARDS * RING + WINDOW);
    close_clean();
    assert_int_equal(weir_ledger_used(ledger), 0);
    weir_ledger_destroy(&ledger);
}

/* --- One of four ------------------------------------------------------------------- */

#define PAIRS 9
#define RECORDS 50000u

/*  Of appending, until all but what went into the first shard is stored.           */
static int64_t span_us(unsigned *next)
{
    int64_t begun_us = weir_clock_now_us();
    for (unsigned end = *next + RECORDS; *next < end; ++*next)
        assert_int_equal(append_keyed(*next % KEYS, *next / KEYS), WEIR_OK);
    wait_until(audit().offered == *next && others_unsafe() == 0);
    return weir_clock_now_us() - begun_us;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t median(int64_t spans[PAIRS])
{
    qsort(spans, PAIRS, sizeof *spans, by_size);
    return spans[PAIRS / 2];
}

/*  In turn, so that other load on the machine is in both medians. bench_failing has the
    bound of 5 %, for a machine that does nothing else.                             */
static void the_others_keep_their_rate_while_one_shard_cannot_store(void **state)
{
    (void)state;
    int64_t well[PAIRS], failing[PAIRS];
    unsigned next = 0;
    set("shards", "4");
    set("retry.first", "1ms");
    set("retry.max", "20ms");
    open_bus();
    span_us(&next);
    for (int i = 0; i < PAIRS; i++) {
        flush();
        well[i] = span_us(&next);
        flush();
        uint64_t stored = help_store_last(store, 0);
        help_store_fail(store, 0, -1, WEIR_STORE_RETRY, "no connection");
        failing[i] = span_us(&next);
        assert_int_equal(help_store_last(store, 0), stored);
        help_store_fail(store, 0, 0, WEIR_STORE_RETRY, "");
    }
    flush();
    assert_stored_once(next);
    double ratio = (double)median(well) / (double)median(failing);
    print_message("the others' rate: %.2f of what it was\n", ratio);
    assert_true(ratio > 0.5);
    close_clean();
}

#define STORE(test) cmocka_unit_test_setup(test, begin_with_store)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE(a_store_that_is_away_under_load_gets_all_records_when_it_is_back),
        STORE(the_others_keep_their_rate_while_one_shard_cannot_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
