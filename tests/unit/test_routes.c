/*  An actor's way into a bus: a route whose shards are sinks that a test holds.      */
#include "tests/unit/help_actor.h"

enum { vnodes = 8 };

typedef struct {
    feed_config feed;
    trap_config trap;
    member in, out;
    weir_route *route;
} world;

static const char *make_number(uint64_t n, char text[256])
{
    snprintf(text, 256, "{\"n\":%d}", (int)n);
    return text;
}

/*  The first shard owns all vnodes; where the others should be nobody listens.      */
static void publish(world *w, uint32_t shards)
{
    weir_route_map *map = weir_route_map_new(vnodes, shards);
    for (uint32_t i = 0; i < shards; i++) {
        char endpoint[64];
        snprintf(endpoint, sizeof endpoint, "inproc://route-%p-%d", (void *)w, (int)i);
        map->shards[i] = (weir_route_shard){
            .id = i, .endpoint = strdup(endpoint), .active = i == 0};
    }
    weir_route_publish(w->route, &map);
}

static void open_world(world *w)
{
    char where[64];
    *w = (world){.feed = {.make = make_number, .block_records = 1}};
    w->route = weir_route_new(&(weir_route_config){.block_max = 1 << 20});
    snprintf(where, sizeof where, "inproc://route-%p-0", (void *)w);
    fill_node(&w->out, &w->trap.node, "out");
    open_member(&w->out, trap_actor, &w->trap);
    listen_at(&w->out, where);
    start(&w->out);
    publish(w, 3);
    fill_node(&w->in, &w->feed.node, "in");
    open_member(&w->in, feed_actor, &w->feed);
    snprintf(where, sizeof where, "%p", (void *)w->route);
    assert_int_equal(
        weir_actor_ask(w->in.actor, NULL, "ROUTE", "in", where, "bus", NULL), WEIR_OK);
    start(&w->in);
}

static void close_world(world *w)
{
    stop(&w->in);
    stop(&w->out);
    weir_route_destroy(&w->route);
}

/*  The outlet has seen what was asked before: a block has come and was acknowledged.  */
static void go_round(world *w)
{
    uint64_t blocks = ++w->feed.allowed;
    assert_int_equal(weir_actor_ask(w->in.actor, NULL, "LOOK", NULL), WEIR_OK);
    wait_until(w->feed.committed == blocks);
}

/* --- Tests ------------------------------------------------------------------------- */

/*  Two rounds are asked for: the tokens of the first are never answered, the second
    begins when the shards that have them are gone.                                   */
static void a_flush_does_not_wait_for_shards_that_are_gone(void **state)
{
    (void)state;
    world w;
    open_world(&w);
    uint64_t first = weir_route_ask_flush(w.route);
    go_round(&w);
    uint64_t second = weir_route_ask_flush(w.route);
    go_round(&w);
    assert_false(weir_route_is_flushed(w.route, first));
    publish(&w, 1);
    wait_until(weir_route_is_flushed(w.route, second));
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_does_not_wait_for_shards_that_are_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
