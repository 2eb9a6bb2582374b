/*  The shards of a bus with a store, while vnodes move between them.               */
#include "tests/unit/help_actor.h"
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
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

/*  With this store, or on disk.                                                    */
static void open_bus_on(weir_store *store, uint32_t shards)
{
    weir_options_copy(weir_bus_node_options, &b.bus, &weir_bus_node_defaults,
                      sizeof b.bus);
    b.bus.bus.shards = shards;
    b.bus.bus.scale.max = 8;
    b.bus.bus.store = WEIR_BUS_DISK;
    b.bus.bus.path = strdup(b.folder);
    b.bus.hub = b.hub = weir_hub_new("events", &b.bus.bus);
    if (store) weir_hub_lend_store(b.hub, store);
    fill_node(&b.node, &b.bus.node, "events");
    open_member(&b.node, weir_bus_node, &b.bus);
    start(&b.node);
    open_feed();
}

static void open_bus(uint32_t shards)
{
    open_bus_on(NULL, shards);
}

static void close_bus(void)
{
    if (b.in.actor) stop(&b.in);
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
        has |= list[i].from == from && list[i].to == to && list[i].last.a >= 2;
    free(list);
    return has;
}

/*  Moves that a restart would find.                                                */
static size_t count_moves(void)
{
    weir_shard_table table;
    assert_int_equal(weir_bus_state_load(weir_hub_state(b.hub), &table, NULL), WEIR_OK);
    size_t count = table.move_count;
    weir_shard_table_fini(&table);
    return count;
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

/*  Without another change.                                                         */
static void a_move_is_forgotten_when_its_fence_is_stored(void **state)
{
    (void)state;
    open_bus(2);
    send_blocks(4);
    scale_to("3");
    assert_int_equal(count_moves(), 2);
    send_blocks(3);
    assert_true(has_fence(0, 2) && has_fence(1, 2));
    wait_until(count_moves() == 0);
    close_bus();
}

/* --- A store on a server ----------------------------------------------------------- */

static weir_store *open_server(void)
{
    weir_store *store = help_store_new(true, NULL);
    help_store_keep_no_fences(store);
    return store;
}

/*  They are there before any record stands behind them, and after a restart.       */
static void fences_of_a_store_that_keeps_none_are_in_the_state(void **state)
{
    (void)state;
    weir_store *store = open_server();
    open_bus_on(store, 2);
    send_blocks(4);
    scale_to("3");
    assert_true(has_fence(0, 2) && has_fence(1, 2));
    assert_int_equal(count_moves(), 0);
    scale_to("2"); // 2 has stored nothing: who takes its vnodes stands where it stood
    assert_true(has_fence(0, 1) && has_fence(1, 0));
    send_blocks(2);
    close_bus();
    store->class->set_fences(store, NULL, 0);
    open_bus_on(store, 2);
    assert_true(has_fence(0, 1) && has_fence(1, 0));
    close_bus();
    store->class->close(&store);
}

static void a_change_waits_while_the_server_is_away(void **state)
{
    (void)state;
    weir_store *store = open_server();
    open_bus_on(store, 2);
    send_blocks(4);
    help_store_be_away(store, true);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", "3", NULL), WEIR_OK);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "MOVED", NULL), WEIR_EFULL);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", "4", NULL), WEIR_EFULL);
    help_store_be_away(store, false);
    wait_until(weir_actor_ask(b.node.actor, NULL, "MOVED", NULL) == WEIR_OK);
    assert_true(has_fence(0, 2) && has_fence(1, 2));
    send_blocks(3);
    close_bus();
    store->class->close(&store);
}

/*  The bus ended while a change waited; until it is known how far shards had come nothing
    is taken.                                                                       */
static void a_start_waits_while_the_server_is_away(void **state)
{
    (void)state;
    weir_store *store = open_server();
    open_bus_on(store, 2);
    send_blocks(4);
    help_store_be_away(store, true);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", "3", NULL), WEIR_OK);
    close_bus();
    open_bus_on(store, 3);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "MOVED", NULL), WEIR_EFULL);
    atomic_fetch_add(&b.feed.allowed, 3);
    weir_actor_ask(b.in.actor, NULL, "LOOK", NULL);
    assert_int_equal(b.feed.committed, 0);
    help_store_be_away(store, false);
    wait_until(b.feed.committed == 3);
    assert_true(has_fence(0, 2) && has_fence(1, 2));
    close_bus();
    store->class->close(&store);
}

static void moves_from_shards_without_records_are_forgotten_at_once(void **state)
{
    (void)state;
    open_bus(2);
    scale_to("3");
    assert_int_equal(count_moves(), 0);
    scale_to("1");
    assert_int_equal(count_moves(), 0);
    send_blocks(1);
    scale_to("2");
    assert_int_equal(count_moves(), 1);
    close_bus();
    open_bus(2); // nor does a restart know of more
    assert_int_equal(count_moves(), 1);
    send_blocks(2);
    wait_until(count_moves() == 0);
    close_bus();
}

static weir_hub_shard *find_shard(uint32_t id)
{
    weir_hub_shard *shard = weir_hub_shards(b.hub);
    while (shard->id != id)
        shard = shard->next;
    return shard;
}

static bool is_paused(uint32_t id)
{
    weir_wait waits[WEIR_WAITS_MAX];
    weir_hub_shard *shard = find_shard(id);
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

static void open_hub(const weir_bus_options *options, weir_store *store)
{
    weir_report report = {0};
    b.hub = weir_hub_new("events", options);
    weir_hub_lend_store(b.hub, store);
    if (weir_hub_open(b.hub, b.folder, NULL, &report)) fail_msg("%s", report.text);
    fill_node(&b.node, &b.bus.node, "events");
}

static weir_err new_shards(weir_bus_shards **shards, weir_report *report)
{
    return weir_bus_shards_new(
        shards,
        &(weir_bus_shards_config){
            .hub = b.hub, .node = &b.bus.node, .epoch = 2, .wake_fd = -1},
        report);
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
    open_hub(&options, store);
    assert_int_equal(new_shards(&shards, &report), WEIR_OK);
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

static uint64_t resident(uint32_t id)
{
    weir_shard_stats stats;
    weir_hub_look(find_shard(id), &stats);
    return weir_shard_resident(&stats);
}

/*  Its outlet, which has left, has no marker to send behind it.                    */
static void a_shard_retires_when_what_an_outlet_left_in_it_is_safe(void **state)
{
    (void)state;
    weir_store *store = help_store_new(true, NULL);
    open_bus_on(store, 2);
    help_store_wedge(store, 1, true);
    atomic_fetch_add(&b.feed.allowed, 6);
    weir_actor_ask(b.in.actor, NULL, "LOOK", NULL);
    wait_until(b.feed.committed >= 1 && resident(1) == 3);
    stop(&b.in);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", "1", NULL), WEIR_OK);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "MOVED", NULL), WEIR_EFULL);
    assert_int_equal(find_shard(1)->state, WEIR_SHARD_DRAINING);
    assert_int_equal(resident(1), 3);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", "2", NULL), WEIR_EFULL);
    help_store_wedge(store, 1, false);
    wait_until(find_shard(1)->state == WEIR_SHARD_RETIRED);
    wait_until(weir_actor_ask(b.node.actor, NULL, "MOVED", NULL) == WEIR_OK);
    assert_int_equal(resident(1), 0);
    assert_int_equal(help_store_last(store, 1), 3);
    close_bus();
    store->class->close(&store);
}

/*  Nothing can be written to any file until it is lifted.                          */
static void limit_files(bool on)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = on ? 0 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static weir_err scale_on_a_full_disk(const char *shards)
{
    limit_files(true);
    weir_err err = weir_actor_ask(b.node.actor, NULL, "SCALE", shards, NULL);
    limit_files(false);
    return err;
}

static void a_change_that_cannot_be_stored_changes_nothing(void **state)
{
    (void)state;
    weir_store *store = help_store_new(true, NULL);
    open_bus_on(store, 2);
    send_blocks(4);
    fflush(NULL);
    assert_int_equal(scale_on_a_full_disk("3"), WEIR_ESYS);
    assert_int_equal(scale_on_a_full_disk("1"), WEIR_ESYS);
    assert_int_equal(b.node.vitals.state, WEIR_STATE_RUNNING);
    send_blocks(4);
    assert_int_equal(help_store_last(store, 0) + help_store_last(store, 1), 8);
    scale_to("3");
    send_blocks(6);
    assert_int_equal(help_store_last(store, 2), 2);
    scale_to("1");
    send_blocks(2);
    close_bus();
    store->class->close(&store);
}

/*  A shard then has descriptors for its pipe, and no more.                          */
static void limit_descriptors(bool on)
{
    static const int pipe_descriptors = 2;
    struct rlimit limit;
    int first[3];
    for (int i = 0; i <= pipe_descriptors; i++)
        first[i] = dup(STDERR_FILENO);
    for (int i = 0; i <= pipe_descriptors; i++)
        close(first[i]);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = on ? (rlim_t)first[pipe_descriptors] : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void a_shard_that_cannot_start_changes_nothing(void **state)
{
    (void)state;
    weir_store *store = help_store_new(true, NULL);
    open_bus_on(store, 2);
    send_blocks(4);
    limit_descriptors(true);
    weir_err err = weir_actor_ask(b.node.actor, NULL, "SCALE", "3", NULL);
    limit_descriptors(false);
    assert_int_equal(err, WEIR_ESYS);
    assert_int_equal(find_shard(2)->state, WEIR_SHARD_RETIRED);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "MOVED", NULL), WEIR_OK);
    send_blocks(4);
    scale_to("3");
    assert_int_equal(find_shard(2)->state, WEIR_SHARD_ACTIVE);
    send_blocks(6);
    assert_int_equal(help_store_last(store, 2), 2);
    close_bus();
    store->class->close(&store);
}

static void a_bus_that_closes_is_not_scaled(void **state)
{
    (void)state;
    open_bus(1);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "CLOSE", NULL), WEIR_OK);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", "2", NULL),
                     WEIR_ECLOSED);
    close_bus();
    open_bus(1);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "DRAIN", NULL), WEIR_OK);
    assert_int_equal(weir_actor_ask(b.node.actor, NULL, "SCALE", "2", NULL),
                     WEIR_ECLOSED);
    close_bus();
}

/* --- Restarts within the process --------------------------------------------------- */

/*  Vnodes have moved from shard 0 to 1, whose fence is not stored yet.              */
static void store_move(void)
{
    weir_shard_row rows[] = {{0, WEIR_SHARD_ACTIVE}, {1, WEIR_SHARD_ACTIVE}};
    weir_move move = {0, 1, 1};
    uint32_t owners[256];
    for (uint32_t v = 0; v < 256; v++)
        owners[v] = v % 2;
    weir_shard_table table = {.version = 1,
                              .vnodes = 256,
                              .rows = rows,
                              .row_count = 2,
                              .owners = owners,
                              .moves = &move,
                              .move_count = 1};
    assert_int_equal(weir_bus_state_store(weir_hub_state(b.hub), &table, NULL), WEIR_OK);
}

static void nobody_waits(weir_batch *batch)
{
    (void)batch;
}

/*  As a shard of an earlier start has left it behind.                               */
static void write_record(weir_store *store, uint32_t shard, uint64_t sequence)
{
    weir_builder builder = {.target = 1};
    weir_batch *batch = weir_batch_new();
    weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)"{}", 2, NULL);
    weir_piece piece = {.block = weir_builder_seal(&builder)};
    weir_builder_fini(&builder);
    batch->shard = shard;
    batch->epoch = 1;
    batch->first = sequence;
    batch->done = nobody_waits;
    weir_batch_add(batch, &piece);
    store->class->write(store, batch);
    weir_batch_destroy(&batch);
}

static weir_bus_options options_of_two(void)
{
    weir_bus_options options = weir_bus_options_defaults;
    options.shards = options.scale.max = 2;
    options.state = b.folder;
    return options;
}

/*  Nobody writes to it.                                                            */
static void a_bus_without_store_knows_no_moves(void **state)
{
    (void)state;
    static const uint32_t wanted[] = {4, 1, 2};
    weir_report report = {0};
    weir_bus_options options = options_of_two();
    weir_bus_shards *shards;
    options.scale.max = 4;
    open_hub(&options, NULL);
    store_move();
    assert_int_equal(new_shards(&shards, &report), WEIR_OK);
    assert_int_equal(count_moves(), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(weir_bus_shards_change(shards, wanted[i], NULL, &report),
                         WEIR_OK);
        wait_until(weir_bus_shards_go_on(shards, &report) ||
                   !weir_bus_shards_is_changing(shards));
        assert_int_equal(weir_bus_shards_active(shards), wanted[i]);
        assert_int_equal(count_moves(), 0);
    }
    assert_int_equal(weir_bus_shards_destroy(&shards), WEIR_OK);
    weir_hub_destroy(&b.hub);
}

typedef struct {
    weir_store *store;
    help_store_counts counts;
    atomic_bool over;
} slow_store;

/*  What it has it stores only when it is flushed, or when all is over.              */
static void *store_when_flushed(void *arg)
{
    slow_store *self = arg;
    while (!self->counts.flushes && !self->over)
        zclock_sleep(1);
    help_store_wedge(self->store, 0, false);
    return NULL;
}

static void open_slow(slow_store *slow, const weir_bus_options *options)
{
    *slow = (slow_store){.store = NULL};
    slow->store = help_store_new(true, &slow->counts);
    open_hub(options, slow->store);
    store_move();
    write_record(slow->store, 0, 1);
    wait_until(help_store_last(slow->store, 0) == 1);
    help_store_wedge(slow->store, 0, true);
    write_record(slow->store, 0, 2);
}

static void a_fence_waits_for_what_an_earlier_start_gave_to_the_store(void **state)
{
    (void)state;
    weir_report report = {0};
    weir_bus_options options = options_of_two();
    weir_bus_shards *shards;
    slow_store slow;
    pthread_t thread;
    weir_fence *list;
    size_t count;
    open_slow(&slow, &options);
    assert_int_equal(pthread_create(&thread, NULL, store_when_flushed, &slow), 0);
    assert_int_equal(new_shards(&shards, &report), WEIR_OK);
    slow.over = true;
    pthread_join(thread, NULL);
    assert_int_equal(weir_bus_shards_start(shards, &report), WEIR_OK);
    open_feed();
    send_blocks(2);
    assert_int_equal(slow.store->class->fences(slow.store, &list, &count, NULL), WEIR_OK);
    assert_int_equal(count, 1);
    assert_true(list[0].from == 0 && list[0].to == 1);
    assert_int_equal(list[0].last.a, 2);
    free(list);
    assert_int_equal(weir_bus_shards_go_on(shards, &report), WEIR_OK);
    assert_int_equal(count_moves(), 0);
    stop(&b.in);
    assert_int_equal(weir_bus_shards_destroy(&shards), WEIR_OK);
    weir_hub_destroy(&b.hub);
    slow.store->class->close(&slow.store);
}

static void a_start_fails_while_the_store_does_not_store_that(void **state)
{
    (void)state;
    weir_report report = {0};
    weir_bus_options options = options_of_two();
    weir_bus_shards *shards;
    slow_store slow;
    options.flush_timeout_us = 20000;
    open_slow(&slow, &options);
    assert_int_equal(new_shards(&shards, &report), WEIR_ETIMEOUT);
    assert_int_equal(slow.counts.flushes, 1);
    assert_int_equal(weir_bus_shards_destroy(&shards), WEIR_OK);
    weir_hub_destroy(&b.hub);
    slow.store->class->close(&slow.store);
}

/* --- Vitals ------------------------------------------------------------------------ */

/*  Looks at all that vitals tell: at freed memory, if a part is left that is no more. */
static uint64_t look_at_all(member *m)
{
    uint64_t counts[WEIR_COUNTS];
    weir_wait waits[WEIR_WAITS_MAX];
    weir_vitals_counts(&m->vitals, counts);
    weir_vitals_step_us(&m->vitals);
    assert_int_equal(weir_vitals_waits(&m->vitals, waits), 0);
    assert_int_equal(weir_vitals_open(&m->vitals), 0);
    assert_int_equal(weir_vitals_entered(&m->vitals), counts[WEIR_COUNT_IN]);
    return counts[WEIR_COUNT_DONE];
}

static void the_sums_of_a_bus_outlive_its_hub_and_its_restarts(void **state)
{
    (void)state;
    open_bus(3);
    send_blocks(10);
    stop(&b.in);
    stop(&b.node);
    assert_int_equal(look_at_all(&b.node), 10);
    weir_vitals_recall(&b.node.vitals);
    sem_init(&b.node.ended, 0, 0);
    open_member(&b.node, weir_bus_node, &b.bus);
    start(&b.node);
    open_feed();
    send_blocks(5);
    assert_int_equal(count_of(&b.node, WEIR_COUNT_DONE), 15);
    close_bus();
    assert_int_equal(look_at_all(&b.node), 15);
}

static void a_bus_without_a_hub_makes_one_that_nobody_looks_at_later(void **state)
{
    (void)state;
    weir_options_copy(weir_bus_node_options, &b.bus, &weir_bus_node_defaults,
                      sizeof b.bus);
    b.bus.bus.shards = 2;
    b.bus.bus.store = WEIR_BUS_DISK;
    b.bus.bus.path = strdup(b.folder);
    fill_node(&b.node, &b.bus.node, "events");
    open_member(&b.node, weir_bus_node, &b.bus);
    start(&b.node);
    assert_int_equal(b.node.vitals.state, WEIR_STATE_RUNNING);
    stop(&b.node);
    assert_int_equal(look_at_all(&b.node), 0);
    weir_options_free(weir_bus_node_options, &b.bus);
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
        cmocka_unit_test_setup_teardown(
            a_shard_retires_when_what_an_outlet_left_in_it_is_safe, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(a_change_that_cannot_be_stored_changes_nothing,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_shard_that_cannot_start_changes_nothing,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_bus_that_closes_is_not_scaled, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_fence_that_is_stored_is_not_stored_again,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(
            fences_of_a_store_that_keeps_none_are_in_the_state, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(a_change_waits_while_the_server_is_away,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_start_waits_while_the_server_is_away,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_move_is_forgotten_when_its_fence_is_stored,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(
            moves_from_shards_without_records_are_forgotten_at_once, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(a_bus_without_store_knows_no_moves, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(
            a_fence_waits_for_what_an_earlier_start_gave_to_the_store, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(a_start_fails_while_the_store_does_not_store_that,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(
            the_sums_of_a_bus_outlive_its_hub_and_its_restarts, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(
            a_bus_without_a_hub_makes_one_that_nobody_looks_at_later, make_folder,
            remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
