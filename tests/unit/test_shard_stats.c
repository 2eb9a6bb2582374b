#include "actors/hub.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/*  offered 100: 90 accepted, 10 full; of these 60 safe, 5 evicted, 3 dead, 22 resident.
 */
static weir_shard_stats some(void)
{
    weir_shard_stats s = {.safe = 60, .dead = 3, .open = 4, .under_way = 8, .batches = 7};
    s.ring = (weir_ring_stats){.offered = 100,
                               .accepted = 90,
                               .full = 10,
                               .evicted = 5,
                               .count = 10,
                               .bytes = 1000,
                               .parked = 2,
                               .fill_us = 0.5};
    s.dispatch.retries = 2;
    s.oldest_us = 50;
    weir_histogram_add(&s.ring.waited, 100, 60);
    return s;
}

static void assert_balanced(const weir_shard_stats *s)
{
    assert_int_equal(s->ring.offered, s->ring.accepted + weir_shard_rejected(s));
    assert_int_equal(s->ring.accepted,
                     s->safe + s->ring.evicted + s->dead + weir_shard_resident(s));
}

static void sums_balance_as_their_parts_do(void **state)
{
    (void)state;
    weir_shard_stats sum = {.safe = 0}, one = some();
    weir_shard_stats_add(&sum, &one);
    one.oldest_us = 40;
    weir_shard_stats_add(&sum, &one);
    assert_balanced(&sum);
    assert_int_equal(sum.ring.offered, 200);
    assert_int_equal(weir_shard_resident(&sum), 44);
    assert_int_equal(sum.dispatch.retries, 4);
    assert_int_equal(sum.oldest_us, 40);
    assert_int_equal(weir_histogram_percentile(&sum.ring.waited, &one.ring.waited, 1),
                     weir_histogram_percentile(&one.ring.waited, NULL, 1));
}

/*  What was resident comes a second time; nothing else falls.                       */
static void a_start_gives_up_what_was_resident(void **state)
{
    (void)state;
    weir_bus_options options = weir_bus_options_defaults;
    weir_vitals bus = WEIR_VITALS_INIT;
    weir_hub *hub = weir_hub_new("events", &options);
    weir_hub_shard *shard = weir_hub_shard_of(hub, 3, &bus);
    weir_shard_stats stats;
    for (unsigned starts = 1; starts <= 3; starts++) {
        shard->window.stats = some();
        weir_hub_shard_begin(shard);
        weir_hub_look(shard, &stats);
        assert_balanced(&stats);
        assert_int_equal(stats.ring.offered, 78 * starts);
        assert_int_equal(stats.ring.offered + stats.recalled, 100 * starts);
        assert_int_equal(stats.safe, 60 * starts);
        assert_int_equal(weir_shard_resident(&stats), 0);
        assert_int_equal(stats.ring.bytes + stats.ring.parked, 0);
        assert_int_equal(stats.oldest_us, 0);
        assert_int_equal(stats.batches, 7 * starts);
    }
    weir_hub_destroy(&hub);
}

static void shards_are_listed_by_their_ids(void **state)
{
    (void)state;
    weir_bus_options options = weir_bus_options_defaults;
    weir_vitals bus = WEIR_VITALS_INIT;
    weir_hub *hub = weir_hub_new("events", &options);
    static const uint32_t ids[] = {4, 0, 7, 2};
    size_t count;
    for (size_t i = 0; i < 4; i++)
        weir_hub_shard_of(hub, ids[i], &bus);
    weir_hub_shard **list = weir_hub_list(hub, &count);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < 3; i++)
        assert_true(list[i]->id < list[i + 1]->id);
    free(list);
    weir_hub_destroy(&hub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_balance_as_their_parts_do),
        cmocka_unit_test(a_start_gives_up_what_was_resident),
        cmocka_unit_test(shards_are_listed_by_their_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
