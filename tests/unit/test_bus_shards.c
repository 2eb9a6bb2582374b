/*  The shards of a bus with a store, while vnodes move between them.               */
#include "tests/unit/help_actor.h"
#include <ftw.h>
#include "actors/bus_node.h"
#include "actors/bus_shards.h"
#include "actors/hub.h"
#include "tests/unit/help_store.h"

/* --- Set-up ------------------------------------------------------------------------ */

typedef struct {
    weir_bus_node_config bus;
    feed_config feed;
    member node, in;
    weir_hub *hub;
    char folder[64];
} bench;

static bench b;

static const char *make_number(uint64_t n, char text[256])
{
    snprintf(text, 256, "{\"n\":%d}", (int)n);
    return text;
}

/*  Without keys each block goes to the next shard.                                 */
static void open_feed(void)
{
    char where[32];
    b.feed = (feed_config){.make = make_number, .block_records = 1};
    fill_node(&b.in, &b.feed.node, "in");
    open_member(&b.in, feed_actor, &b.feed);
    snprintf(where, sizeof where, "%p", (void *)weir_hub_route(b.hub));
    assert_int_equal(
        weir_actor_ask(b.in.actor, NULL, "ROUTE", "in", where, "events", NULL), WEIR_OK);
    start(&b.in);
}

static void open_bus(uint32_t shards)
{
    weir_options_copy(weir_bus_node_options, &b.bus, &weir_bus_node_defaults,
                      sizeof b.bus);
    b.bus.bus.shards = shards;
    b.bus.bus.scale.max = 8;
    b.bus.bus.store = WEIR_BUS_DISK;
    b.bus.bus.path = strdup(b.folder);
    b.bus.hub = b.hub = weir_hub_new("events", &b.bus.bus);
    fill_node(&b.node, &b.bus.node, "events");
    open_member(&b.node, weir_bus_node, &b.bus);
    start(&b.node);
    open_feed();
}

static void close_bus(void)
{
    stop(&b.in);
    stop(&b.node);
    assert_balanced(&b.in);
    assert_balanced(&b.node);
    weir_hub_destroy(&b.hub);
    weir_options_free(weir_bus_node_options, &b.bus);
}

static int make_folder(void **state)
{
    (void)state;
    b = (bench){.folder = "/tmp/weir-shards-XXXXXX"};
    return mkdtemp(b.folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(b.folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/*  So many blocks more, each of one record, are safe.                              */
static void send_blocks(uint64_t count)
{
    uint64_t all = atomic_fetch_add(&b.feed.allowed, count) + count;
    weir_actor_ask(b.in.actor, NULL, "LOOK", NULL);
    wait_until(b.feed.committed == all);
}

/*  The change is over when the next one is not refused.                            */
static void scale_to(const char *shards)
{
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", shards, NULL), WEIR_OK);
    wait_until(weir_actor_ask(b.node.actor, NULL, "SCALE", shards, NULL) == WEIR_OK);
}

static bool has_fence(uint32_t from, uint32_t to)
{
    weir_store *store = weir_hub_store(b.hub);
    weir_fence *list;
    size_t count;
    bool has = false;
    assert_int_equal(store->class->fences(store, &list, &count, NULL), WEIR_OK);
    for (size_t i = 0; i < count; i++)
        has |= list[i].from == from && list[i].to == to && list[i].last_offset >= 2;
    free(list);
    return has;
}

/* --- Tests ------------------------------------------------------------------------- */

/*  What shard 0 had may now belong to 1, and the shard between has no record.      */
static void vnodes_that_passed_an_empty_shard_stay_behind_their_first_one(void **state)
{
    (void)state;
    open_bus(2);
    send_blocks(4);
    scale_to("3");
    scale_to("2");
    send_blocks(2);
    assert_true(has_fence(0, 1));
    assert_true(has_fence(1, 0));
    close_bus();
}

static void so_they_do_after_a_restart_with_fewer_shards(void **state)
{
    (void)state;
    open_bus(2);
    send_blocks(4);
    scale_to("3");
    close_bus();
    open_bus(2);
    send_blocks(2);
    assert_true(has_fence(0, 1));
    assert_true(has_fence(1, 0));
    close_bus();
}

static void a_fence_that_is_stored_is_not_stored_again(void **state)
{
    (void)state;
    open_bus(2);
    send_blocks(4);
    scale_to("3");
    send_blocks(3);
    assert_true(has_fence(0, 2) && has_fence(1, 2));
    scale_to("2"); // shard 2 has its fences: who is behind it is behind the others, too
    send_blocks(2);
    assert_true(!has_fence(0, 1) && !has_fence(1, 0));
    close_bus();
}

static bool is_paused(uint32_t id)
{
    weir_wait waits[WEIR_WAITS_MAX];
    weir_hub_shard *shard = weir_hub_shards(b.hub);
    while (shard->id != id)
        shard = shard->next;
    size_t count = weir_vitals_waits(&shard->vitals, waits);
    for (size_t i = 0; i < count; i++)
        if (waits[i].kind == WEIR_WAIT_PAUSED) return true;
    return false;
}

static void a_shard_that_is_added_to_a_paused_bus_is_paused(void **state)
{
    (void)state;
    open_bus(1);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "PAUSE", NULL), WEIR_OK);
    scale_to("2");
    assert_true(is_paused(0) && is_paused(1));
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "RESUME", NULL), WEIR_OK);
    assert_true(!is_paused(0) && !is_paused(1));
    scale_to("3");
    assert_false(is_paused(2));
    send_blocks(6);
    close_bus();
}

/*  A full ring whose store does not answer has no turn, and is as full as before.   */
static void a_shard_without_a_turn_is_as_full_as_it_was(void **state)
{
    (void)state;
    weir_shard_load load;
    weir_shard_stats stats;
    weir_bus_shards *shards;
    weir_report report = {0};
    weir_store *store = help_store_new(false, NULL);
    weir_bus_options options = weir_bus_options_defaults;
    options.shards = options.scale.max = 1;
    options.ring_records = 4;
    options.batch.min_records = options.batch.max_records = options.batch.in_flight = 1;
    help_store_wedge(store, 0, true);
    b.hub = weir_hub_new("events", &options);
    weir_hub_lend_store(b.hub, store);
    assert_int_equal(weir_hub_open(b.hub, b.folder, NULL, &report), WEIR_OK);
    fill_node(&b.node, &b.bus.node, "events");
    assert_int_equal(weir_bus_shards_new(&shards,
                                         &(weir_bus_shards_config){.hub = b.hub,
                                                                   .node = &b.bus.node,
                                                                   .epoch = 1,
                                                                   .wake_fd = -1},
                                         &report),
                     WEIR_OK);
    assert_int_equal(weir_bus_shards_start(shards, &report), WEIR_OK);
    open_feed();
    b.feed.allowed = 5;
    weir_actor_ask(b.in.actor, NULL, "LOOK", NULL);
    wait_until((weir_hub_look(weir_hub_shards(b.hub), &stats), stats.ring.count == 4));
    int64_t now_us = weir_clock_now_us() + 1000000;
    weir_bus_shards_loads(shards, &load, now_us);
    assert_int_equal(weir_bus_shards_loads(shards, &load, now_us + 1000000), 1);
    assert_true(load.fill > 0.99 && load.fill < 1.01);
    stop(&b.in);
    assert_int_equal(weir_bus_shards_destroy(&shards), WEIR_OK);
    weir_hub_destroy(&b.hub);
    store->class->close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            vnodes_that_passed_an_empty_shard_stay_behind_their_first_one, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(so_they_do_after_a_restart_with_fewer_shards,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_shard_that_is_added_to_a_paused_bus_is_paused,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_shard_without_a_turn_is_as_full_as_it_was,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_fence_that_is_stored_is_not_stored_again,
                                        make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
