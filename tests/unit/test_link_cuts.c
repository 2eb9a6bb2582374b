/*  A link whose peer is a stranger, or whose connection is lost.              */
#include "tests/unit/help_link.h"

#ifdef WEIR_SANITIZED
#define ROUNDS 40
#else
#define ROUNDS 300
#endif

/* --- Strangers --------------------------------------------------------------------- */

static void nothing_goes_before_hello(void **state)
{
    (void)state;
    bench *b = new_bench(10000);
    b->connection = 9;
    for (int type = WEIR_WELCOME; type <= WEIR_TOKEN; type++) {
        b->last_down = (weir_frame){0};
        inject(b, &(weir_frame){.type = (weir_frame_type)type, .sequence = 1}, NULL);
        assert_int_equal(b->last_down.type, WEIR_CLOSE);
        assert_string_equal(b->last_down.code, "HELLO");
    }
    assert_int_equal(b->token_count + b->taken_count + b->barrier_count, 0);
    free_bench(&b);
}

static void another_version_is_refused(void **state)
{
    (void)state;
    bench *b = new_bench(10000);
    b->connection = 9;
    weir_frame hello = {.type = WEIR_HELLO, .version = 2, .session = 1, .base = 1};
    inject(b, &hello, NULL);
    assert_string_equal(b->last_down.code, "VERSION");
    hello.version = 1;
    hello.session = 0;
    inject(b, &hello, NULL);
    assert_string_equal(b->last_down.code, "HELLO");
    hello.session = 1;
    hello.base = 0;
    inject(b, &hello, NULL);
    assert_string_equal(b->last_down.code, "HELLO");
    hello.base = 1;
    hello.stage = 3;
    inject(b, &hello, NULL);
    assert_string_equal(b->last_down.code, "STAGE");
    assert_int_equal(b->last_down.stage, 3);
    join(b);
    weir_frame welcome = {.type = WEIR_WELCOME, .version = 2, .bytes = 1000};
    assert_int_equal(weir_outlet_recv(b->outlet, &welcome), WEIR_EPROTO);
    free_bench(&b);
}

static void frames_of_the_wrong_side_are_refused(void **state)
{
    (void)state;
    static const weir_frame_type inlets_own[] = {WEIR_WELCOME, WEIR_CREDIT, WEIR_ACK,
                                                 WEIR_NACK};
    for (size_t i = 0; i < 4; i++) {
        bench *b = new_bench(10000);
        join(b);
        settle_down(b);
        inject(b, &(weir_frame){.type = inlets_own[i]}, NULL);
        assert_string_equal(b->last_down.code, "TYPE");
        free_bench(&b);
    }
    static const weir_frame_type outlets_own[] = {WEIR_HELLO, WEIR_BLOCK, WEIR_BARRIER,
                                                  WEIR_NEED, WEIR_TOKEN};
    bench *b = new_bench(10000);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(
            weir_outlet_recv(b->outlet, &(weir_frame){.type = outlets_own[i]}),
            WEIR_EPROTO);
    free_bench(&b);
}

static void bodies_of_other_processes_are_walked(void **state)
{
    (void)state;
    bench *b = new_bench(10000);
    weir_inlet_destroy(&b->inlet);
    b->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = 10000, .foreign = true, .events = &inlet_events, .arg = b});
    join(b);
    settle_down(b);
    static const uint8_t body[] = {0x94, 0xc0, 0xc0, 0xa5, 'o'};
    weir_run run = {.records = 1};
    weir_frame frame = {
        .type = WEIR_BLOCK, .sequence = 1, .records = 1, .runs = &run, .run_count = 1};
    inject(b, &frame, weir_block_wrap(body, sizeof body, 1, &run, 1, NULL, NULL));
    assert_int_equal(b->taken_count, 0);
    assert_string_equal(b->last_down.code, "MALFORMED");
    free_bench(&b);
}

/* --- Connections that are lost ----------------------------------------------------- */

/*  The connection's descriptor is its number.                                 */
static void identify(void *arg, weir_identity *who)
{
    bench *b = arg;
    *who = (weir_identity){.address = "192.0.2.1", .fd = (int)b->connection};
}

static const weir_inlet_events foreign_events = {.send = send_up,
                                                 .block = on_block,
                                                 .barrier = on_barrier,
                                                 .token = on_token,
                                                 .identify = identify};

static bench *new_foreign_bench(size_t window, size_t total)
{
    bench *b = new_bench(window);
    weir_inlet_destroy(&b->inlet);
    b->inlet = weir_inlet_new(&(weir_inlet_config){.window_bytes = window,
                                                   .total_bytes = total,
                                                   .foreign = true,
                                                   .events = &foreign_events,
                                                   .arg = b});
    return b;
}

/*  A HELLO from a connection of its own.                                      */
static void greet_as(bench *b, uint64_t session)
{
    static unsigned connections = 1000000;
    b->connection = ++connections;
    inject(b,
           &(weir_frame){.type = WEIR_HELLO,
                         .version = WEIR_WIRE_VERSION,
                         .node = "n",
                         .outlet = "o",
                         .session = session,
                         .base = 1},
           NULL);
    assert_int_equal(b->last_down.type, WEIR_WELCOME);
}

/*  The most credit that the bench's own outlet has at a time, when it sends a lot.  */
static uint64_t most_credit(bench *b)
{
    uint64_t most = 0;
    cut(b);
    join(b);
    for (uint64_t i = 0; i < 30; i++) {
        settle_down(b);
        if (b->credit > most) most = b->credit;
        while (weir_outlet_has_room(b->outlet) && b->credit > 20000)
            send_block(b, i, 20000);
        settle_down(b);
        hand_on(b);
        ack_all(b);
    }
    return most;
}

/*  However they have gone: the connection was lost, they said so, or were not there when
    something was to be sent to them.                                          */
static void who_has_gone_holds_nothing_of_the_total(void **state)
{
    (void)state;
    bench *b = new_foreign_bench(2 << 20, 4 << 20);
    for (uint64_t i = 1; i <= 60; i++) {
        greet_as(b, i);
        unsigned gone = b->connection;
        if (i % 3 == 1) inject(b, &(weir_frame){.type = WEIR_CLOSE}, NULL);
        if (i % 3 == 2) {
            inject(b, &(weir_frame){.type = WEIR_NEED, .bytes = 400000}, NULL);
            b->connection = 0;
            weir_inlet_flush(b->inlet);
        }
        weir_inlet_lost(b->inlet, (int)gone);
        assert_int_equal(weir_inlet_look(b->inlet).connected, 0);
    }
    assert_true(most_credit(b) > 1 << 20);
    free_bench(&b);
}

/* --- Everything at once ------------------------------------------------------------ */

/*  Random sizes, delays, cuts, gaps, tokens and barriers: in the end everything has been
    delivered exactly once, in order, and the barriers in their places.        */
static void play(bench *b)
{
    uint64_t sent = 0, barriers = 0, blocks_before[64], block_count = 0;
    uint64_t contents[512];
    size_t goal = 100 + below(b, 200);
    for (size_t turn = 0; turn < 200000; turn++) {
        unsigned what = (unsigned)below(b, 100);
        if (!b->connection || (b->closed && below(b, 4) == 0)) {
            cut(b);
            join(b);
        }
        if (what < 20 && sent < goal && weir_outlet_has_room(b->outlet)) {
            size_t size = below(b, 30) ? below(b, 800) : below(b, 3 * b->window);
            sent = send_block(b, 1000 + block_count, size);
            contents[block_count] = 1000 + block_count;
            block_count++;
        } else if (what < 23 && sent < goal) {
            uint64_t got = send_token(b, (sent + 1) * 10);
            if (got) assert_int_equal(got, sent + 1);
            if (got) sent = got;
        } else if (what < 25 && barriers < 60 && sent < goal) {
            blocks_before[barriers++] = block_count;
            weir_outlet_barrier(b->outlet, barriers, 7, 1);
        } else if (what < 26 && below(b, 4) == 0) {
            cut(b);
        } else if (what < 60) {
            step_down(b);
        } else if (what < 85) {
            step_up(b);
        } else if (what < 90 && b->peer && b->granted_count < b->taken_count) {
            weir_inlet_grant(b->inlet, b->peer, b->costs[b->granted_count++]);
        } else if (what < 93) {
            if (b->peer) ack_all(b);
        } else {
            weir_inlet_flush(b->inlet);
        }
        if (sent == goal && b->acked == goal && b->barrier_count == barriers) break;
    }
    assert_int_equal(b->acked, goal);
    assert_int_equal(b->closes, 0);
    assert_int_equal(b->taken_count, block_count);
    assert_int_equal(b->token_count, goal - block_count);
    for (size_t i = 0; i < block_count; i++)
        assert_int_equal(b->taken[i], contents[i]);
    assert_int_equal(b->barrier_count, barriers);
    for (size_t i = 0; i < barriers; i++) {
        assert_int_equal(b->barriers[i], i + 1);
        assert_int_equal(b->before_barrier[i], blocks_before[i]);
    }
    assert_int_equal(weir_outlet_kept_bytes(b->outlet), 0);
}

static void random_cuts_lose_and_double_nothing(void **state)
{
    (void)state;
    const char *given = getenv("WEIR_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        bench *b = new_bench(2000);
        b->random = (seed + i) * 0x9e3779b97f4a7c15u | 1;
        b->window = 2000 + below(b, 20000);
        weir_outlet_destroy(&b->outlet);
        weir_inlet_destroy(&b->inlet);
        b->outlet = weir_outlet_new(&(weir_outlet_config){.node = "web",
                                                          .name = "parse",
                                                          .session = 1 + i,
                                                          .window_bytes = b->window,
                                                          .events = &outlet_events,
                                                          .arg = b});
        open_inlet(b);
        play(b);
        free_bench(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_goes_before_hello),
        cmocka_unit_test(another_version_is_refused),
        cmocka_unit_test(frames_of_the_wrong_side_are_refused),
        cmocka_unit_test(bodies_of_other_processes_are_walked),
        cmocka_unit_test(who_has_gone_holds_nothing_of_the_total),
        cmocka_unit_test(random_cuts_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
