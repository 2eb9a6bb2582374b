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
static const char *refused_code = "closed";

static void refuse_block(void *arg, weir_entry *entry, weir_block *block)
{
    (void)block;
    refused_blocks++;
    weir_actor_refuse(*(weir_actor **)arg, entry, refused_code, "not here", false);
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

static unsigned count_letters(const char *path, const char *reason)
{
    char *line = NULL;
    size_t size = 0;
    unsigned count = 0;
    FILE *file = fopen(path, "re");
    while (file && getline(&line, &size, file) > 0)
        count += strstr(line, reason) != NULL;
    free(line);
    if (file) fclose(file);
    return count;
}

/*  A source that says nothing of what is refused is no reason to stop.                 */
static void what_is_too_large_for_a_bus_is_a_dead_letter_of_its_sender(void **state)
{
    (void)state;
    member refuser, source;
    weir_node node = {0};
    char folder[] = "/tmp/weir-routes-XXXXXX", path[64], address[32];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/dead.ndjson", folder);
    feed_config feed_settings = {.make = make,
                                 .block_records = EACH,
                                 .allowed = BLOCKS,
                                 .node = {.state_dir = folder}};
    weir_route *route = make_route("inproc://too-small");
    refused_code = "too_large";
    fill_node(&refuser, &node, "refuser");
    open_member(&refuser, refuser_actor, &node);
    listen_at(&refuser, "inproc://too-small");
    start(&refuser);
    fill_node(&source, &feed_settings.node, "source");
    open_member(&source, feed_actor, &feed_settings);
    snprintf(address, sizeof address, "%p", (void *)route);
    assert_int_equal(
        weir_actor_ask(source.actor, NULL, "ROUTE", "source", address, "bus", NULL),
        WEIR_OK);
    start(&source);
    wait_until(feed_settings.committed == BLOCKS);
    assert_int_equal(source.vitals.state, WEIR_STATE_RUNNING);
    assert_int_equal(count_of(&source, WEIR_COUNT_DEAD), BLOCKS * EACH);
    assert_int_equal(count_of(&source, WEIR_COUNT_OUT), 0);
    assert_balanced(&source);
    stop(&source);
    stop(&refuser);
    assert_int_equal(count_letters(path, "\"reason\":\"too_large\",\"error\":\"bus "
                                         "refuses it: not here\""),
                     BLOCKS * EACH);
    unlink(path);
    rmdir(folder);
    weir_route_destroy(&route);
}

/* --- Waits ------------------------------------------------------------------------- */

/*  Of each test its own, since libzmq lets go of a name some time after its socket.    */
static char shard_names[2][32];

static void name_shards(void)
{
    static int test;
    test++;
    for (int i = 0; i < 2; i++)
        snprintf(shard_names[i], sizeof shard_names[i], "inproc://shard-%d-%d", test, i);
}

/*  Of the first `shards` of them.                                                      */
static void publish(weir_route *route, uint32_t shards)
{
    weir_route_map *map = weir_route_map_new(16, shards);
    for (uint32_t i = 0; i < shards; i++)
        map->shards[i] = (weir_route_shard){
            .id = i, .endpoint = strdup(shard_names[i]), .active = true};
    weir_route_publish(route, &map);
}

/*  Blocks go to both shards in turn.                                                   */
static weir_route *open_two(member *source, feed_config *config)
{
    char address[32];
    weir_route *route = weir_route_new(&(weir_route_config){.block_max = 1 << 16});
    publish(route, 2);
    fill_node(source, &config->node, "source");
    open_member(source, feed_actor, config);
    snprintf(address, sizeof address, "%p", (void *)route);
    assert_int_equal(
        weir_actor_ask(source->actor, NULL, "ROUTE", "source", address, "bus", NULL),
        WEIR_OK);
    start(source);
    return route;
}

static void open_shard(member *shard, trap_config *config, const char *endpoint)
{
    fill_node(shard, &config->node, "shard");
    open_member(shard, trap_actor, config);
    listen_at(shard, endpoint);
    start(shard);
}

/*  Since when the node has this wait for the bus; 0: it has none.                      */
static int64_t waits_since(member *node, weir_wait_kind kind)
{
    weir_wait list[WEIR_WAITS_MAX];
    size_t count = weir_vitals_waits(&node->vitals, list);
    for (size_t i = 0; i < count; i++)
        if (list[i].kind == kind && streq(list[i].subject, "bus"))
            return list[i].since_us;
    return 0;
}

/*  Until the shard has taken so many, and acknowledged them.                           */
static void release_all(member *shard, trap_config *config, uint64_t blocks)
{
    wait_until((weir_actor_ask(shard->actor, NULL, "RELEASE", "1", NULL),
                config->blocks) == blocks);
    weir_actor_ask(shard->actor, NULL, "RELEASE", "1000", NULL);
}

static void allow(member *source, feed_config *config, uint64_t blocks)
{
    config->allowed = blocks;
    assert_int_equal(weir_actor_ask(source->actor, NULL, "LOOK", NULL), WEIR_OK);
}

/*  The second grants no more, then the first, and then the first does again.           */
static void a_bus_is_waited_for_while_one_of_its_shards_is(void **state)
{
    (void)state;
    enum { blocks = 40 };
    member shards[2], source;
    trap_config traps[2] = {{.hold = true, .node = {.window_bytes = 4096}},
                            {.hold = true, .node = {.window_bytes = 1024}}};
    feed_config feed_settings = {.make = make, .block_records = 1, .allowed = 4};
    name_shards();
    for (int i = 0; i < 2; i++)
        open_shard(&shards[i], &traps[i], shard_names[i]);
    weir_route *route = open_two(&source, &feed_settings);
    wait_until(waits_since(&source, WEIR_WAIT_CREDIT));
    int64_t since = waits_since(&source, WEIR_WAIT_CREDIT);
    allow(&source, &feed_settings, blocks);
    wait_until(traps[0].blocks > 2);
    release_all(&shards[0], &traps[0], blocks / 2);
    wait_until(count_of(&source, WEIR_COUNT_OUT) == blocks / 2);
    allow(&source, &feed_settings, blocks); // it has had another turn
    assert_true(traps[1].blocks < blocks / 2);
    assert_int_equal(waits_since(&source, WEIR_WAIT_CREDIT), since);
    release_all(&shards[1], &traps[1], blocks / 2);
    wait_until(feed_settings.committed == blocks);
    wait_until(!waits_since(&source, WEIR_WAIT_CREDIT));
    stop(&source);
    for (int i = 0; i < 2; i++)
        stop(&shards[i]);
    weir_route_destroy(&route);
}

/*  Nobody listens at the second.                                                       */
static void
a_shard_that_is_not_there_is_waited_for_until_it_has_left_the_map(void **state)
{
    (void)state;
    member shard, source;
    trap_config settings = {.hold = false};
    feed_config feed_settings = {.make = make, .block_records = 1, .allowed = 1};
    name_shards();
    open_shard(&shard, &settings, shard_names[0]);
    weir_route *route = open_two(&source, &feed_settings);
    wait_until(feed_settings.committed == 1);
    wait_until(waits_since(&source, WEIR_WAIT_LINK));
    publish(route, 1);
    wait_until(!waits_since(&source, WEIR_WAIT_LINK));
    stop(&source);
    stop(&shard);
    weir_route_destroy(&route);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_entry_hears_what_was_refused_of_its_own_records),
        cmocka_unit_test(what_is_too_large_for_a_bus_is_a_dead_letter_of_its_sender),
        cmocka_unit_test(a_bus_is_waited_for_while_one_of_its_shards_is),
        cmocka_unit_test(
            a_shard_that_is_not_there_is_waited_for_until_it_has_left_the_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
