/*  What a member of a consumer group has sent on: what of it is acknowledged, and what is
    given back when readers refuse a part.                                            */
#include "actors/outstanding.h"
#include "tests/unit/help_actor.h"

enum { vnodes = 16, shards_max = 4, records_max = 200 };

/* --- A member of a group ----------------------------------------------------------- */

typedef struct {
    weir_node node;
    uint32_t block_records, blocks; // of each block; how many
    atomic_uint nacks[records_max + 1];
    atomic_uint nacked;
    _Atomic uint64_t acked; // the last position
    atomic_uint commits;
} source_config;

typedef struct {
    weir_actor *kit;
    source_config *config;
    weir_outstanding sent;
    int port;
    uint32_t blocks;
    uint64_t offset;
} source;

static weir_err source_init(void *arg, weir_actor *kit, const void *config,
                            weir_report *report)
{
    (void)report;
    source *self = arg;
    self->kit = kit;
    self->config = (source_config *)(uintptr_t)config;
    self->port = weir_actor_port(kit, weir_actor_node(kit)->name);
    return WEIR_OK;
}

static void source_fini(void *arg)
{
    source *self = arg;
    weir_outstanding_fini(&self->sent, self->kit);
}

static void add_record(weir_builder *builder, uint64_t offset)
{
    char key[16], text[32];
    int key_size = snprintf(key, sizeof key, "%d", (int)offset);
    int size = snprintf(text, sizeof text, "{\"n\":%d}", (int)offset);
    weir_record record = {
        .format = WEIR_JSON,
        .key = {.type = WEIR_STR, .data = (uint8_t *)key, .size = (size_t)key_size},
        .data = (uint8_t *)text,
        .size = (size_t)size,
    };
    weir_builder_add(builder, &record, NULL);
}

static bool source_turn(void *arg)
{
    source *self = arg;
    const weir_node *node = weir_actor_node(self->kit);
    uint32_t records = self->config->block_records;
    if (self->blocks == self->config->blocks) return false;
    weir_builder builder = {.ledger = node->ledger, .target = node->block_bytes};
    weir_position *at = calloc(records, sizeof *at);
    assert(at);
    for (uint32_t i = 0; i < records; i++) {
        at[i] = (weir_position){++self->offset, 0};
        add_record(&builder, self->offset);
    }
    weir_block *block = weir_builder_seal(&builder);
    weir_outstanding_send(&self->sent, self->kit, self->port, 0, &block, &at);
    weir_builder_fini(&builder);
    return ++self->blocks < self->config->blocks;
}

static weir_err note_ack(void *arg, uint32_t shard, weir_position at, weir_report *report)
{
    source *self = arg;
    (void)shard;
    (void)report;
    self->config->acked = at.a;
    return WEIR_OK;
}

static weir_err note_nack(void *arg, uint32_t shard, weir_position at, const char *why)
{
    source *self = arg;
    (void)shard;
    assert(strcmp(why, "closed: not here") == 0);
    self->config->nacks[at.a]++;
    self->config->nacked++;
    return WEIR_OK;
}

static weir_err source_commit(void *arg, const weir_entry *entry, weir_report *report)
{
    source *self = arg;
    weir_err err = weir_outstanding_commit(entry, note_ack, self, report);
    self->config->commits++;
    return err;
}

static weir_err source_refused(void *arg, weir_entry *entry, const weir_refused *refused)
{
    source *self = arg;
    return weir_outstanding_refuse(self->kit, entry, refused, note_nack, self);
}

static void source_actor(zsock_t *pipe, void *config);
static const weir_class source_class = {
    .name = "test.member",
    .actor = source_actor,
    .size = sizeof(source),
    .config_size = sizeof(source_config),
    .options = no_options,
    .source = true,
    .tracks = true,
    .init = source_init,
    .fini = source_fini,
    .turn = source_turn,
    .commit = source_commit,
    .refused = source_refused,
};

static void source_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&source_class, pipe, config);
}

/* --- An inlet that turns every block away for good --------------------------------- */

static weir_err refuser_init(void *arg, weir_actor *kit, const void *config,
                             weir_report *report)
{
    (void)config;
    (void)report;
    *(weir_actor **)arg = kit;
    return WEIR_OK;
}

static void refuse_block(void *arg, weir_entry *entry, weir_block *block)
{
    (void)block;
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

/* --- A bus of both ----------------------------------------------------------------- */

typedef struct {
    source_config feed;
    weir_node refuser_nodes[shards_max];
    trap_config trap;
    member in, shards[shards_max];
    uint32_t count;
    weir_route *route;
} world;

static void shard_endpoint(const world *w, uint32_t shard, char text[64])
{
    snprintf(text, 64, "inproc://outstanding-%p-%d", (const void *)w, (int)shard);
}

/*  Shard 0 holds what it gets, unless it refuses like the others.                    */
static void open_shards(world *w, bool first_takes)
{
    char where[64];
    weir_route_map *map = weir_route_map_new(vnodes, w->count);
    for (uint32_t i = 0; i < w->count; i++) {
        bool takes = i == 0 && first_takes;
        weir_node *node = takes ? &w->trap.node : &w->refuser_nodes[i];
        fill_node(&w->shards[i], node, "shard");
        open_member(&w->shards[i], takes ? trap_actor : refuser_actor, node);
        shard_endpoint(w, i, where);
        listen_at(&w->shards[i], where);
        start(&w->shards[i]);
        map->shards[i] =
            (weir_route_shard){.id = i, .endpoint = strdup(where), .active = true};
    }
    for (uint32_t v = 0; v < vnodes; v++)
        map->owners[v] = v % w->count;
    w->route = weir_route_new(&(weir_route_config){.block_max = 1 << 20});
    weir_route_publish(w->route, &map);
}

static void open_world(world *w, uint32_t shards, bool first_takes)
{
    char address[32];
    w->trap.hold = true;
    w->count = shards;
    open_shards(w, first_takes);
    fill_node(&w->in, &w->feed.node, "in");
    open_member(&w->in, source_actor, &w->feed);
    snprintf(address, sizeof address, "%p", (void *)w->route);
    assert_int_equal(
        weir_actor_ask(w->in.actor, NULL, "ROUTE", "in", address, "bus", NULL), WEIR_OK);
}

static void close_world(world *w)
{
    stop(&w->in);
    for (uint32_t i = 0; i < w->count; i++)
        stop(&w->shards[i]);
    weir_route_destroy(&w->route);
}

static uint32_t shard_of(const world *w, uint64_t offset)
{
    char key[16];
    int size = snprintf(key, sizeof key, "%d", (int)offset);
    return weir_key_vnode((uint8_t *)key, (size_t)size, vnodes) % w->count;
}

static void release(world *w, const char *count)
{
    assert_int_equal(weir_actor_ask(w->shards[0].actor, NULL, "RELEASE", count, NULL),
                     WEIR_OK);
}

/* --- Tests ------------------------------------------------------------------------- */

/*  Of each block a part is taken: that is acknowledged in its turn.                  */
static void only_what_was_refused_is_given_back(void **state)
{
    (void)state;
    world w = {.feed = {.block_records = 50, .blocks = 4}};
    uint32_t total = 200, taken = 0;
    uint64_t last = 0;
    open_world(&w, 3, true);
    start(&w.in);
    for (uint64_t offset = 1; offset <= total; offset++) {
        if (shard_of(&w, offset)) continue;
        taken++;
        last = offset;
    }
    assert_in_range(taken, 1, total - 1);
    wait_until(w.feed.nacked == total - taken && w.trap.records == taken);
    for (uint64_t offset = 1; offset <= total; offset++)
        assert_int_equal(w.feed.nacks[offset], shard_of(&w, offset) != 0);
    assert_int_equal(w.feed.acked, 0);
    release(&w, "1000");
    wait_until(count_of(&w.in, WEIR_COUNT_RESIDENT) == 0);
    assert_int_equal(w.feed.acked, last);
    assert_int_equal(count_of(&w.in, WEIR_COUNT_IN), taken);
    assert_int_equal(count_of(&w.in, WEIR_COUNT_DONE), taken);
    assert_int_equal(count_of(&w.in, WEIR_COUNT_OUT), taken);
    assert_balanced(&w.in);
    close_world(&w);
}

static void all_parts_of_a_block_may_be_refused(void **state)
{
    (void)state;
    world w = {.feed = {.block_records = 100, .blocks = 1}};
    open_world(&w, shards_max, false);
    start(&w.in);
    wait_until(w.feed.commits == 1);
    for (uint64_t offset = 1; offset <= 100; offset++)
        assert_int_equal(w.feed.nacks[offset], 1);
    assert_int_equal(w.feed.acked, 0); // nobody has taken anything
    assert_int_equal(count_of(&w.in, WEIR_COUNT_IN), 0);
    assert_balanced(&w.in);
    close_world(&w);
}

/*  A link refuses the block as it is, the bus refuses parts of it.                   */
static void what_two_readers_refuse_is_given_back_once(void **state)
{
    (void)state;
    world w = {.feed = {.block_records = 60, .blocks = 2}};
    member reader;
    weir_node node = {0};
    open_world(&w, shards_max, false);
    fill_node(&reader, &node, "reader");
    open_member(&reader, refuser_actor, &node);
    listen_at(&reader, "inproc://outstanding-reader");
    start(&reader);
    connect_to(&w.in, "in", "inproc://outstanding-reader");
    start(&w.in);
    wait_until(count_of(&w.in, WEIR_COUNT_COMMITS) > 0 && w.feed.nacked == 120);
    wait_until(w.in.vitals.open == 0);
    for (uint64_t offset = 1; offset <= 120; offset++)
        assert_int_equal(w.feed.nacks[offset], 1);
    assert_int_equal(count_of(&w.in, WEIR_COUNT_IN), 0);
    assert_balanced(&w.in);
    close_world(&w);
    stop(&reader);
}

/*  Open blocks of a splitter know which records they have, too.                      */
static void a_member_may_end_with_open_blocks(void **state)
{
    (void)state;
    world w = {.feed = {.block_records = 50, .blocks = 2}};
    open_world(&w, 3, true);
    start(&w.in);
    wait_until(count_of(&w.in, WEIR_COUNT_IN) > 0);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_was_refused_is_given_back),
        cmocka_unit_test(all_parts_of_a_block_may_be_refused),
        cmocka_unit_test(what_two_readers_refuse_is_given_back_once),
        cmocka_unit_test(a_member_may_end_with_open_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
