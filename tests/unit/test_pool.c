/*  Credit from a pool that all peers of an inlet share: what a shard grants. Frames go in
    by hand.                                                                           */
#include "runtime/clock.h"
#include "runtime/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { pool = 1 << 20, peers_max = 64 };

typedef struct {
    weir_inlet *inlet;
    uint64_t credit[peers_max]; // granted and not spent, of each connection
    uint64_t sequence[peers_max];
    size_t held[peers_max]; // cost of its blocks that are not handed on
    weir_peer *peers[peers_max];
    unsigned sender;
    bool overruns; // what one of them sends is too much
} world;

static weir_err on_send(void *arg, const void *id, size_t id_size,
                        const weir_frame *frame)
{
    world *w = arg;
    unsigned to;
    assert_int_equal(id_size, sizeof to);
    memcpy(&to, id, sizeof to);
    assert_true(frame->type != WEIR_CLOSE || w->overruns);
    if (frame->type == WEIR_WELCOME || frame->type == WEIR_CREDIT)
        w->credit[to] += frame->bytes;
    return WEIR_OK;
}

static void on_block(void *arg, weir_peer *peer, uint64_t sequence, weir_block **block_p)
{
    world *w = arg;
    (void)sequence;
    w->peers[w->sender] = peer;
    w->held[w->sender] += weir_block_cost(*block_p);
}

static const weir_inlet_events events = {.send = on_send, .block = on_block};

static void give(world *w, unsigned from, const weir_frame *frame, weir_block *block)
{
    w->sender = from;
    weir_inlet_recv(w->inlet, &from, sizeof from, frame, &block);
    weir_inlet_flush(w->inlet);
}

static world *world_new(unsigned peers)
{
    world *w = calloc(1, sizeof *w);
    w->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = 32 << 20, .pool_bytes = pool, .events = &events, .arg = w});
    for (unsigned i = 0; i < peers; i++)
        give(w, i,
             &(weir_frame){.type = WEIR_HELLO, .version = 1, .session = i + 1, .base = 1},
             NULL);
    return w;
}

static void world_destroy(world *w)
{
    weir_inlet_destroy(&w->inlet);
    free(w);
}

static weir_block *make_block(size_t size)
{
    weir_builder builder = {.target = size};
    uint8_t *payload = calloc(1, size);
    weir_builder_add_payload(&builder, WEIR_TEXT, payload, size, NULL);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    free(payload);
    return block;
}

/*  A block of this size; false: there is no credit for it.                            */
static bool send_block(world *w, unsigned from, size_t size)
{
    weir_block *block = make_block(size);
    size_t cost = weir_block_cost(block);
    if (cost > w->credit[from]) {
        weir_block_destroy(&block);
        return false;
    }
    w->credit[from] -= cost;
    give(w, from,
         &(weir_frame){.type = WEIR_BLOCK, .sequence = ++w->sequence[from], .records = 1},
         block);
    return true;
}

static void need(world *w, unsigned from, size_t bytes)
{
    give(w, from, &(weir_frame){.type = WEIR_NEED, .bytes = bytes}, NULL);
}

static void hand_on(world *w, unsigned from)
{
    if (w->held[from]) weir_inlet_grant(w->inlet, w->peers[from], w->held[from]);
    w->held[from] = 0;
    weir_inlet_flush(w->inlet);
}

static uint64_t in_all(const world *w)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < peers_max; i++)
        sum += w->credit[i] + w->held[i];
    return sum;
}

/* --- Tests ------------------------------------------------------------------------- */

static void half_of_the_pool_is_shared_and_all_of_it_never_exceeded(void **state)
{
    (void)state;
    world *w = world_new(1);
    assert_int_equal(w->credit[0], pool / 2);
    world_destroy(w);
    w = world_new(40);
    assert_true(in_all(w) <= pool);
    world_destroy(w);
}

static void an_idle_peer_does_not_starve_another(void **state)
{
    (void)state;
    world *w = world_new(2); // the first is idle with half of the pool
    for (int i = 0; i < 100; i++) {
        if (!send_block(w, 1, 60000)) {
            need(w, 1, 61000);
            assert_true(send_block(w, 1, 60000));
        }
        assert_true(in_all(w) <= pool);
        hand_on(w, 1);
    }
    world_destroy(w);
}

/*  Those that came first have the most credit, and never spend it.                     */
static void many_idle_peers_do_not_starve_one_that_came_last(void **state)
{
    (void)state;
    world *w = world_new(12);
    for (int i = 0; i < 100; i++) {
        if (!send_block(w, 11, 60000)) {
            need(w, 11, 61000);
            assert_true(send_block(w, 11, 60000));
        }
        assert_true(in_all(w) <= pool);
        hand_on(w, 11);
    }
    need(w, 11, pool / 2 + 600); // the largest that a shard takes, with what it costs
    assert_true(send_block(w, 11, pool / 2));
    world_destroy(w);
}

static void a_peer_that_is_gone_keeps_no_place_before_the_others(void **state)
{
    (void)state;
    world *w = world_new(3);
    while (send_block(w, 0, 60000))
        continue;
    need(w, 1, 900 << 10); // it waits for room, and then it is gone
    need(w, 2, 61000);
    w->overruns = true;
    give(w, 1, &(weir_frame){.type = WEIR_BLOCK}, make_block(2 << 20));
    w->overruns = false;
    hand_on(w, 0);
    assert_true(send_block(w, 2, 60000));
    world_destroy(w);
}

static void
a_large_block_waits_until_the_pool_has_room_and_goes_before_others(void **state)
{
    (void)state;
    world *w = world_new(2);
    while (send_block(w, 0, 60000))
        continue;
    need(w, 1, 900 << 10);
    uint64_t before = w->credit[0];
    assert_true(w->credit[1] < 900 << 10);
    assert_int_equal(w->credit[0], before);
    hand_on(w, 0); // its room goes to the one that needs it first
    assert_true(w->credit[1] >= 900 << 10);
    assert_true(in_all(w) <= pool);
    assert_true(send_block(w, 1, 890 << 10));
    hand_on(w, 1);
    assert_true(send_block(w, 0, 60000));
    hand_on(w, 0);
    assert_true(w->credit[0] >= pool / 6);
    world_destroy(w);
}

static void a_block_above_the_pool_comes_when_it_is_empty(void **state)
{
    (void)state;
    world *w = world_new(1);
    assert_true(send_block(w, 0, 60000));
    need(w, 0, 3 << 20);
    assert_true(w->credit[0] < 3 << 20);
    hand_on(w, 0);
    assert_true(w->credit[0] >= 3 << 20);
    world_destroy(w);
}

/*  Whatever many peers do, the pool is not exceeded and everyone gets on.              */
static void many_peers_share_it(void **state)
{
    (void)state;
    unsigned seed = 4711;
    world *w = world_new(peers_max);
    size_t next[peers_max] = {0}; // size of the block that each has to send
    for (int i = 0; i < 20000; i++) {
        unsigned who = (unsigned)rand_r(&seed) % peers_max;
        if (!next[who]) next[who] = 100 + (size_t)rand_r(&seed) % 200000;
        if (rand_r(&seed) % 2)
            hand_on(w, who);
        else if (send_block(w, who, next[who]))
            next[who] = 0;
        else
            need(w, who, next[who] + 1000);
        assert_true(in_all(w) <= pool);
    }
    uint64_t least = UINT64_MAX, most = 0;
    for (unsigned i = 0; i < peers_max; i++) {
        if (w->sequence[i] < least) least = w->sequence[i];
        if (w->sequence[i] > most) most = w->sequence[i];
    }
    assert_true(most <= 2 * least);
    world_destroy(w);
}

int main(void)
{
    weir_clock_go_virtual(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_of_the_pool_is_shared_and_all_of_it_never_exceeded),
        cmocka_unit_test(an_idle_peer_does_not_starve_another),
        cmocka_unit_test(many_idle_peers_do_not_starve_one_that_came_last),
        cmocka_unit_test(a_peer_that_is_gone_keeps_no_place_before_the_others),
        cmocka_unit_test(
            a_large_block_waits_until_the_pool_has_room_and_goes_before_others),
        cmocka_unit_test(a_block_above_the_pool_comes_when_it_is_empty),
        cmocka_unit_test(many_peers_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
