/*  What comes back over the links of a way into a bus. */
#include "tests/unit/help_actor.h"

enum { BLOCKS = 50, EACH = 3 };

/*  An inlet that turns every block away for good.                                      */
static weir_err refuser_init(void *arg, weir_actor *kit, const void *config,
                             weir_report *report)
{
    (void)config;
    (void)report;
    *(weir_actor **)arg = kit;
    return WEIR_OK;
}

static atomic_uint refused_blocks;

static void refuse_block(void *arg, weir_entry *entry, weir_block *block)
{
    (void)block;
    refused_blocks++;
    weir_actor_refuse(*(weir_actor **)arg, entry, "closed", "not here", false);
}

static void refuser_actor(zsock_t *pipe, void *config);
static const weir_class refuser_class = {
    .name = "test.refuser",
    .actor = refuser_actor,
    .size = sizeof(weir_actor *),
    .config_size = sizeof(weir_node),
    .options = no_options,
    .inlet = true,
    .init = refuser_init,
    .recv_block = refuse_block,
};

static void refuser_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&refuser_class, pipe, config);
}

/*  A feed that counts what was refused of each of its blocks.                          */
static uint32_t refused_of[BLOCKS + 1];
static uint32_t disorder;

static weir_err note_refused(void *arg, weir_entry *entry, const weir_refused *refusal)
{
    (void)arg;
    weir_iterator walk = {.block = refusal->block};
    weir_record record;
    while (weir_iterator_next(&walk, &record, NULL)) {
        unsigned number = (unsigned)atoi((const char *)record.data + 5);
        disorder += number / EACH + 1 != entry->position;
        refused_of[entry->position]++;
    }
    entry->fates.done -= weir_block_records(refusal->block);
    entry->fates.dropped += weir_block_records(refusal->block);
    return WEIR_OK;
}

static void noting_actor(zsock_t *pipe, void *config)
{
    static weir_class class;
    class = feed_class;
    class.refused = note_refused;
    weir_actor_run(&class, pipe, config);
}

static const char *make(uint64_t n, char text[256])
{
    snprintf(text, 256, "{\"k\":%d}", (int)n);
    return text;
}

static weir_route *make_route(const char *endpoint)
{
    weir_route *route = weir_route_new(
        &(weir_route_config){.key = "k", .block_max = 1 << 16, .linger_us = 20000});
    weir_route_map *map = weir_route_map_new(16, 1);
    map->shards[0] =
        (weir_route_shard){.id = 0, .endpoint = strdup(endpoint), .active = true};
    weir_route_publish(route, &map);
    return route;
}

static void each_entry_hears_what_was_refused_of_its_own_records(void **state)
{
    (void)state;
    member refuser, source;
    weir_node node = {0};
    feed_config feed_settings = {.make = make, .block_records = EACH, .allowed = BLOCKS};
    char address[32];
    weir_route *route = make_route("inproc://refuser");
    fill_node(&refuser, &node, "refuser");
    open_member(&refuser, refuser_actor, &node);
    listen_at(&refuser, "inproc://refuser");
    start(&refuser);
    fill_node(&source, &feed_settings.node, "source");
    open_member(&source, noting_actor, &feed_settings);
    snprintf(address, sizeof address, "%p", (void *)route);
    assert_int_equal(
        weir_actor_ask(source.actor, NULL, "ROUTE", "source", address, "bus", NULL),
        WEIR_OK);
    start(&source);
    wait_until(feed_settings.committed == BLOCKS);
    assert_true(refused_blocks < BLOCKS); // several blocks became one
    assert_int_equal(count_of(&source, WEIR_COUNT_DROPPED), BLOCKS * EACH);
    assert_int_equal(source.vitals.state, WEIR_STATE_RUNNING);
    assert_balanced(&source);
    stop(&source);
    stop(&refuser);
    assert_int_equal(disorder, 0);
    for (int i = 1; i <= BLOCKS; i++)
        assert_int_equal(refused_of[i], EACH);
    weir_route_destroy(&route);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_entry_hears_what_was_refused_of_its_own_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
