#include "actors/scale.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SECOND 1000000

/* --- Vnodes ------------------------------------------------------------------------ */

/*  vnodes dealt to 0, 1, .., shards - 1 in turn.                                   */
static void deal(uint32_t *owners, uint32_t vnodes, uint32_t shards)
{
    for (uint32_t v = 0; v < vnodes; v++)
        owners[v] = v % shards;
}

static uint32_t count_of(const uint32_t *owners, uint32_t vnodes, uint32_t id)
{
    uint32_t count = 0;
    for (uint32_t v = 0; v < vnodes; v++)
        count += owners[v] == id;
    return count;
}

static void a_fifth_shard_gets_a_fifth(void **state)
{
    (void)state;
    uint32_t before[256], after[256], active[] = {0, 1, 2, 3, 4}, different = 0;
    deal(before, 256, 4);
    memcpy(after, before, sizeof after);
    assert_int_equal(weir_scale_assign(after, 256, active, 5), 51);
    for (int v = 0; v < 256; v++) {
        if (after[v] == before[v]) continue;
        assert_int_equal(after[v], 4);
        different++;
    }
    assert_int_equal(different, 51);
    for (uint32_t id = 0; id < 5; id++)
        assert_in_range(count_of(after, 256, id), 51, 52);
}

static void what_is_even_stays(void **state)
{
    (void)state;
    uint32_t owners[10], copy[10], active[] = {2, 0, 1};
    deal(owners, 10, 3);
    memcpy(copy, owners, sizeof copy);
    assert_int_equal(weir_scale_assign(owners, 10, active, 3), 0);
    assert_memory_equal(owners, copy, sizeof copy);
}

static void a_shard_that_goes_gives_only_its_own(void **state)
{
    (void)state;
    uint32_t before[256], after[256], active[] = {0, 1, 3};
    deal(before, 256, 4);
    memcpy(after, before, sizeof after);
    assert_int_equal(weir_scale_assign(after, 256, active, 3), 64);
    for (int v = 0; v < 256; v++)
        if (before[v] != 2) assert_int_equal(after[v], before[v]);
    for (int i = 0; i < 3; i++)
        assert_in_range(count_of(after, 256, active[i]), 85, 86);
}

static void a_new_map_is_dealt_out(void **state)
{
    (void)state;
    uint32_t owners[256], active[] = {7, 3, 1000000};
    memset(owners, 0xff, sizeof owners);
    assert_int_equal(weir_scale_assign(owners, 256, active, 3), 256);
    for (int i = 0; i < 3; i++)
        assert_in_range(count_of(owners, 256, active[i]), 85, 86);
}

static uint64_t seed;

static uint32_t random_below(uint32_t bound)
{
    seed = seed * 6364136223846793005 + 1442695040888963407;
    return (uint32_t)((seed >> 33) % bound);
}

/*  The fewest: each active shard keeps what it has up to vnodes / count, and as many as
    there are vnodes left over keep one more.                                       */
static uint32_t fewest(const uint32_t *owners, uint32_t vnodes, const uint32_t *active,
                       uint32_t count)
{
    uint32_t kept = 0, base = vnodes / count, above = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t has = count_of(owners, vnodes, active[i]);
        kept += has < base ? has : base;
        above += has > base;
    }
    uint32_t extra = vnodes % count;
    return vnodes - kept - (above < extra ? above : extra);
}

static void any_map_becomes_even_by_the_fewest_moves(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 2000; round++) {
        uint32_t owners[64], before[64], active[12];
        uint32_t vnodes = 1 + random_below(64), shards = 1 + random_below(20), count = 0;
        for (uint32_t v = 0; v < vnodes; v++)
            before[v] = owners[v] = random_below(shards);
        for (uint32_t id = 0; id < 24 && count < 12; id++)
            if (random_below(2)) active[count++] = id;
        if (!count) continue;
        uint32_t moved = weir_scale_assign(owners, vnodes, active, count), differ = 0;
        uint32_t sum = 0;
        for (uint32_t v = 0; v < vnodes; v++)
            differ += owners[v] != before[v];
        assert_int_equal(moved, differ);
        assert_int_equal(moved, fewest(before, vnodes, active, count));
        for (uint32_t i = 0; i < count; i++) {
            uint32_t has = count_of(owners, vnodes, active[i]);
            assert_in_range(has, vnodes / count, (vnodes + count - 1) / count);
            sum += has;
        }
        assert_int_equal(sum, vnodes);
    }
}

/* --- Policy ------------------------------------------------------------------------ */

static weir_scale_config config;
static weir_shard_load shards[10];
static weir_scaling *scaling; // NULL: none
static weir_scale_figures figures;

static const weir_shard_load usual = {
    .vnodes = 64, .fill = 0.3, .wait_us = 20000, .rate = 1000, .age_us = 3600LL * SECOND};
static const weir_shard_load idle = {
    .vnodes = 64, .fill = 0.01, .wait_us = 100, .rate = 1, .age_us = 3600LL * SECOND};

/*  A shard is like this, with its index as its id.                                 */
static void set(int i, const weir_shard_load *like)
{
    shards[i] = *like;
    shards[i].id = (uint32_t)i;
}

static void set_all(const weir_shard_load *like)
{
    for (int i = 0; i < 10; i++)
        set(i, like);
}

static int begin(void **state)
{
    (void)state;
    config = (weir_scale_config)WEIR_SCALE_DEFAULTS;
    config.min = 1;
    config.max = 8;
    set_all(&usual);
    return 0;
}

static int end(void **state)
{
    (void)state;
    weir_scaling_destroy(&scaling);
    return scaling ? -1 : 0;
}

/*  From now on a policy of this config is asked.                                   */
static void renew(void)
{
    weir_scaling_destroy(&scaling);
    scaling = weir_scaling_new(&config);
}

static uint32_t want(uint32_t count, int64_t now_us)
{
    return weir_scaling_want(scaling, shards, count, now_us, &figures);
}

/*  What a fresh policy wants.                                                      */
static uint32_t want_at_first(uint32_t count)
{
    renew();
    return want(count, 100 * SECOND);
}

static void two_shards_at_load_2_become_4(void **state)
{
    (void)state;
    shards[0].wait_us = shards[1].wait_us = 100000;
    assert_int_equal(want_at_first(2), 4);
    config.max = 3;
    assert_int_equal(want_at_first(2), 3);
}

static void the_load_says_how_many_more(void **state)
{
    (void)state;
    config.max = 100;
    assert_int_equal(want_at_first(10), 10);
    shards[3].wait_us = 51000; // hot, though the sum is small
    assert_int_equal(want_at_first(10), 11);
    shards[3].wait_us = 50000; // load 1 is not hot
    assert_int_equal(want_at_first(10), 10);
    set_all(&usual);
    for (int i = 0; i < 10; i++)
        shards[i].fill = 0.84; // load 1.2
    assert_int_equal(want_at_first(10), 12);
    for (int i = 0; i < 10; i++)
        shards[i].fill = 0.91; // load 1.3, and a sum of 13.000000000000002
    assert_int_equal(want_at_first(10), 13);
    for (int i = 0; i < 10; i++)
        shards[i].fill = 0.84;
    shards[0].wait_us = INT64_MAX; // counts as 4: 9 * 1.2 + 4
    assert_int_equal(want_at_first(10), 15);
    shards[0].wait_us = shards[1].wait_us = shards[2].wait_us = shards[3].wait_us =
        10 * SECOND; // 6 * 1.2 + 16, but at most twice as many
    assert_int_equal(want_at_first(10), 20);
}

static void a_single_vnode_cannot_be_helped(void **state)
{
    (void)state;
    shards[0].fill = 1;
    shards[0].vnodes = 1;
    assert_int_equal(want_at_first(2), 2);
    shards[0].vnodes = 2;
    assert_int_equal(want_at_first(2), 3);
}

/*  Windows of a second, at instants now + 1 s .. now + n s, all of which want this.  */
static int64_t run(uint32_t count, int64_t now_us, int n, uint32_t wanted)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(want(count, now_us += SECOND), wanted);
    return now_us;
}

static void a_shard_cold_for_30_s_goes(void **state)
{
    (void)state;
    set(2, &idle);
    renew();
    int64_t now_us = run(4, 0, 29, 4);
    now_us = run(4, now_us, 1, 3);
    shards[2].fill = 0.1; // one window that is not cold
    now_us = run(4, now_us, 1, 4);
    shards[2].fill = 0.09;
    now_us = run(4, now_us, 29, 4);
    now_us = run(4, now_us, 1, 3);
    shards[2].wait_us = 5000; // a tenth of scale.wait
    now_us = run(4, now_us, 1, 4);
    shards[2].wait_us = 4999;
    now_us = run(4, now_us, 29, 4);
    run(4, now_us, 1, 3);
}

static void cold_shards_go_but_for_the_least_and_the_load(void **state)
{
    (void)state;
    config.min = 2;
    set_all(&idle);
    renew();
    int64_t now_us = run(8, 0, 29, 8);
    now_us = run(8, now_us, 1, 2); // never below min
    for (int i = 0; i < 8; i++)
        shards[i].fill = 0.099; // sum of loads 1.13, and twice that is 3
    run(8, now_us, 1, 3);
    run(2, now_us, 60, 2);
}

static void a_shard_that_returns_begins_anew(void **state)
{
    (void)state;
    set(1, &idle);
    renew();
    int64_t now_us = run(2, 0, 29, 2);
    shards[1].id = 5; // another shard, as cold
    now_us = run(2, now_us, 29, 2);
    run(2, now_us, 1, 1);
}

static void a_young_shard_is_not_judged(void **state)
{
    (void)state;
    shards[1].fill = 1;
    shards[1].age_us = 5 * SECOND - 1;
    renew();
    assert_int_equal(want(2, SECOND), 2);
    assert_int_equal(figures.hot, 0);
    shards[1].age_us++;
    assert_int_equal(want(2, 2 * SECOND), 3);
    assert_int_equal(figures.hot, 1);
    renew();
    set(1, &idle); // cold in 30 windows, but too young in the first of them
    shards[1].age_us = 4 * SECOND;
    int64_t now_us = run(2, 0, 1, 2);
    shards[1].age_us = 5 * SECOND;
    now_us = run(2, now_us, 29, 2);
    run(2, now_us, 1, 1);
}

static void changes_are_5_s_apart(void **state)
{
    (void)state;
    shards[0].fill = 1;
    renew();
    int64_t now_us = run(2, 0, 1, 3);
    weir_scaling_changed(scaling, now_us);
    assert_int_equal(weir_scaling_allow(scaling, 2, 4, now_us), 2);
    now_us = run(2, now_us, 4, 2);
    assert_int_equal(want(2, now_us + SECOND - 1), 2);
    run(2, now_us, 1, 3);
}

static void cold_windows_count_during_a_cooldown(void **state)
{
    (void)state;
    set(1, &idle);
    renew();
    int64_t now_us = run(2, 0, 27, 2);
    weir_scaling_changed(scaling, now_us);
    now_us = run(2, now_us, 4, 2);
    run(2, now_us, 1, 1);
}

static void a_function_is_held_to_the_bounds(void **state)
{
    (void)state;
    config.min = 2;
    config.max = 6;
    renew();
    assert_int_equal(weir_scaling_allow(scaling, 3, 4, 0), 4);
    assert_int_equal(weir_scaling_allow(scaling, 3, 1000000000000, 0), 6);
    assert_int_equal(weir_scaling_allow(scaling, 3, -1, 0), 2);
}

static void figures_sum_up(void **state)
{
    (void)state;
    shards[0].fill = 0.7; // load 1
    shards[1].fill = 0.1;
    shards[1].wait_us = 75000; // load 1.5
    set(2, &idle);
    shards[2].fill = 0;    // load 0.002
    shards[3].age_us = 10; // not judged
    renew();
    want(4, SECOND);
    assert_int_equal(figures.shards, 4);
    assert_int_equal(figures.hot, 1);
    assert_int_equal(figures.cold, 0); // not for long enough
    assert_float_equal(figures.load, 2.502, 1e-6);
    assert_float_equal(figures.fill, 1.1 / 4, 1e-6);
    assert_int_equal(figures.wait_us, 75000);
    assert_float_equal(figures.rate, 3001, 1e-6);
}

static void the_slowest_are_drained_first(void **state)
{
    (void)state;
    weir_shard_load loads[] = {{.id = 3, .rate = 50},
                               {.id = 8, .rate = 10.5},
                               {.id = 9, .rate = 10},
                               {.id = 12, .rate = 50},
                               {.id = 13, .rate = 0}};
    uint32_t ids[5], expected[] = {13, 9, 8, 12, 3};
    weir_scale_drain_order(loads, 5, ids);
    assert_memory_equal(ids, expected, sizeof ids);
}

#define POLICY(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const char *given = getenv("WEIR_SEED");
    seed = given ? strtoull(given, NULL, 0) : 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fifth_shard_gets_a_fifth),
        cmocka_unit_test(what_is_even_stays),
        cmocka_unit_test(a_shard_that_goes_gives_only_its_own),
        cmocka_unit_test(a_new_map_is_dealt_out),
        cmocka_unit_test(any_map_becomes_even_by_the_fewest_moves),
        POLICY(two_shards_at_load_2_become_4),
        POLICY(the_load_says_how_many_more),
        POLICY(a_single_vnode_cannot_be_helped),
        POLICY(a_shard_cold_for_30_s_goes),
        POLICY(cold_shards_go_but_for_the_least_and_the_load),
        POLICY(a_shard_that_returns_begins_anew),
        POLICY(a_young_shard_is_not_judged),
        POLICY(changes_are_5_s_apart),
        POLICY(cold_windows_count_during_a_cooldown),
        POLICY(a_function_is_held_to_the_bounds),
        POLICY(figures_sum_up),
        cmocka_unit_test(the_slowest_are_drained_first),
    };
    return cmocka_run_group_tests_name("scale", tests, NULL, NULL);
}
