/*  The inlet towards other processes: who they are, what they are granted, and what
    becomes of those that break the protocol. Frames go in by hand.            */
#include "runtime/clock.h"
#include "runtime/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { window = 1 << 20, total = 4 << 20, sent_max = 65536 };

typedef struct {
    weir_inlet *inlet;
    const char *name; // in the certificate of who sends now
    const char *key;
    bool revoked;
    int fd;
    weir_err send_result;
    weir_frame last;  // frame sent by the inlet
    unsigned last_to; // and its connection
    size_t sent, hung_up, forgotten, blocks;
    int hung_up_fd;
    uint64_t granted[8]; // to connections below 8
    weir_peer *peer;     // of the last block
    size_t held;         // cost of the blocks taken and not handed on
} world;

static weir_err on_send(void *arg, const void *id, size_t id_size,
                        const weir_frame *frame)
{
    world *w = arg;
    assert_int_equal(id_size, sizeof w->last_to);
    if (w->send_result) return w->send_result;
    memcpy(&w->last_to, id, sizeof w->last_to);
    w->last = *frame;
    w->sent++;
    if ((frame->type == WEIR_WELCOME || frame->type == WEIR_CREDIT) && w->last_to < 8)
        w->granted[w->last_to] += frame->bytes;
    return WEIR_OK;
}

static void on_block(void *arg, weir_peer *peer, uint64_t sequence, weir_block **block_p)
{
    (void)sequence;
    world *w = arg;
    w->peer = peer;
    w->blocks++;
    w->held += weir_block_cost(*block_p);
}

static void on_identify(void *arg, weir_identity *who)
{
    world *w = arg;
    *who = (weir_identity){w->name, w->key, "10.0.0.7", w->fd, w->revoked};
}

static void on_hang_up(void *arg, int fd)
{
    world *w = arg;
    w->hung_up++;
    w->hung_up_fd = fd;
}

static void on_forget(void *arg, weir_peer *peer)
{
    world *w = arg;
    assert_non_null(peer);
    w->forgotten++;
}

static const weir_inlet_events events = {
    .send = on_send,
    .block = on_block,
    .identify = on_identify,
    .hang_up = on_hang_up,
    .forget = on_forget,
};

static int open_world(void **state)
{
    world *w = calloc(1, sizeof *w);
    w->fd = 100;
    w->inlet = weir_inlet_new(&(weir_inlet_config){.window_bytes = window,
                                                   .total_bytes = total,
                                                   .block_max = 8 << 20,
                                                   .foreign = true,
                                                   .events = &events,
                                                   .arg = w});
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    world *w = *state;
    weir_inlet_destroy(&w->inlet);
    free(w);
    return 0;
}

static void give(world *w, unsigned connection, const weir_frame *frame,
                 weir_block *block)
{
    weir_inlet_recv(w->inlet, &connection, sizeof connection, frame, &block);
    assert_null(block);
}

static void hello_as(world *w, unsigned connection, uint64_t session, const char *node)
{
    weir_frame frame = {.type = WEIR_HELLO, .version = 1, .session = session, .base = 1};
    snprintf(frame.node, sizeof frame.node, "%s", node);
    snprintf(frame.outlet, sizeof frame.outlet, "out");
    give(w, connection, &frame, NULL);
}

static void hello(world *w, unsigned connection, uint64_t session)
{
    hello_as(w, connection, session, w->name ? w->name : "plain");
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

static void send_block(world *w, unsigned connection, uint64_t sequence, size_t size)
{
    weir_frame frame = {.type = WEIR_BLOCK, .sequence = sequence, .records = 1};
    give(w, connection, &frame, make_block(size));
}

static void hand_on(world *w)
{
    weir_inlet_grant(w->inlet, w->peer, w->held);
    w->held = 0;
    weir_inlet_flush(w->inlet);
}

/* --- Who they are ------------------------------------------------------------------ */

static void the_node_must_be_the_certificates(void **state)
{
    world *w = *state;
    w->name = "alice";
    hello_as(w, 1, 7, "bob");
    assert_int_equal(w->last.type, WEIR_CLOSE);
    assert_string_equal(w->last.code, "IDENTITY");
    assert_false(w->last.retryable);
    assert_int_equal(w->hung_up_fd, 100);
    hello(w, 2, 8);
    assert_int_equal(w->last.type, WEIR_WELCOME);
    assert_string_equal(weir_peer_name(weir_inlet_peers(w->inlet)), "alice");
}

static void a_session_belongs_to_the_certificate_that_began_it(void **state)
{
    world *w = *state;
    w->name = "alice";
    hello(w, 1, 7);
    send_block(w, 1, 1, 100);
    weir_inlet_ack(w->inlet, w->peer, 1);
    w->name = "mallory";
    hello(w, 2, 7);
    assert_string_equal(w->last.code, "IDENTITY");
    w->name = "alice";
    hello(w, 3, 7);
    assert_int_equal(w->last.type, WEIR_WELCOME);
    assert_int_equal(w->last.sequence, 1);
}

static bool is_bob(void *arg, const char *name, const char *key)
{
    (void)arg;
    (void)key;
    return strcmp(name, "bob") == 0;
}

static bool has_new_key(void *arg, const char *name, const char *key)
{
    (void)arg;
    (void)name;
    return strcmp(key, "new") == 0;
}

static void a_connection_with_an_old_key_is_ended(void **state)
{
    world *w = *state;
    w->name = "alice";
    w->key = "old";
    hello(w, 1, 7);
    weir_inlet_close_unless(w->inlet, has_new_key, NULL, "REVOKED", "no right");
    assert_int_equal(w->hung_up, 1);
    w->key = "new";
    hello(w, 2, 7);
    weir_inlet_close_unless(w->inlet, has_new_key, NULL, "REVOKED", "no right");
    assert_int_equal(w->hung_up, 1);
}

static void who_is_revoked_before_his_hello_is_ended(void **state)
{
    world *w = *state;
    w->name = "alice";
    w->revoked = true;
    hello(w, 1, 7);
    assert_int_equal(w->last.type, WEIR_CLOSE);
    assert_string_equal(w->last.code, "REVOKED");
    assert_int_equal(w->hung_up, 1);
}

static void whoever_lost_his_right_is_ended_and_the_others_stay(void **state)
{
    world *w = *state;
    w->name = "alice";
    hello(w, 1, 7);
    w->name = "bob";
    w->fd = 101;
    hello(w, 2, 8);
    weir_inlet_close_unless(w->inlet, is_bob, NULL, "REVOKED", "no right");
    assert_int_equal(w->hung_up, 1);
    assert_int_equal(w->hung_up_fd, 100);
    assert_int_equal(w->last_to, 1);
    assert_false(w->last.retryable);
    send_block(w, 1, 1, 100);
    assert_int_equal(w->blocks, 0);
    send_block(w, 2, 1, 100);
    assert_int_equal(w->blocks, 1);
}

/* --- What they are granted --------------------------------------------------------- */

static void credit_begins_small_and_grows_as_it_is_used(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    assert_int_equal(w->last.bytes, WEIR_INLET_FIRST_BYTES);
    uint64_t sequence = 0, spent = 0;
    for (int i = 0; i < 200; i++) {
        while (w->granted[1] - spent > 66000) {
            size_t before = w->held;
            send_block(w, 1, ++sequence, 65000);
            spent += w->held - before;
        }
        hand_on(w);
    }
    assert_int_equal(w->blocks, sequence);
    assert_true(w->granted[1] - spent <= window);
    assert_true(w->granted[1] - spent >= window / 2);
}

static void all_together_get_no_more_than_the_total_and_a_little_each(void **state)
{
    world *w = *state;
    const size_t count = 1000;
    uint64_t granted = 0;
    for (unsigned i = 0; i < count; i++) {
        hello(w, 1000 + i, 1 + i);
        assert_int_equal(w->last.type, WEIR_WELCOME);
        assert_true(w->last.bytes >= 192 << 10);
        granted += w->last.bytes;
    }
    assert_true(granted <= total + count * (192 << 10));
}

static void need(world *w, unsigned connection, uint64_t bytes)
{
    give(w, connection, &(weir_frame){.type = WEIR_NEED, .bytes = bytes}, NULL);
    weir_inlet_flush(w->inlet);
}

static void a_need_that_has_been_met_is_over(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    need(w, 1, 1000);
    send_block(w, 1, 1, 500);
    hand_on(w);
    assert_int_equal(w->sent, 1); // WELCOME: so little is not granted yet
}

static void larger_blocks_than_the_total_allows_come_one_by_one(void **state)
{
    world *w = *state;
    enum { peers = 6, large = 7 << 20 };
    for (unsigned i = 1; i <= peers; i++) {
        hello(w, i, i);
        need(w, i, large + 600);
    }
    uint64_t granted = 0;
    for (unsigned i = 1; i <= peers; i++)
        granted += w->granted[i];
    assert_true(granted <= total + large + 600);
    weir_inlet_flush(w->inlet);
    for (unsigned done = 0; done < peers; done++) {
        unsigned i = 1;
        while (i <= peers && w->granted[i] < large + 600)
            i++;
        assert_in_range(i, 1, peers); // somebody may always send
        send_block(w, i, 1, large);
        assert_int_equal(w->blocks, done + 1);
        w->granted[i] = 0;
        hand_on(w);
        weir_inlet_flush(w->inlet);
    }
}

static void who_never_sends_his_large_block_does_not_stop_the_others(void **state)
{
    world *w = *state;
    enum { large = 7 << 20 };
    hello(w, 1, 1);
    need(w, 1, large);
    hello(w, 2, 2);
    need(w, 2, large);
    assert_true(w->granted[2] < large);
    weir_inlet_lost(w->inlet, 100);
    w->fd = 101;
    hello(w, 3, 2);
    need(w, 3, large);
    assert_true(w->granted[3] >= large);
}

static void nothing_is_granted_while_held(void **state)
{
    world *w = *state;
    weir_inlet_hold(w->inlet, true);
    hello(w, 1, 7);
    assert_int_equal(w->last.type, WEIR_WELCOME);
    assert_int_equal(w->last.bytes, 0);
    weir_inlet_hold(w->inlet, false);
    weir_inlet_flush(w->inlet);
    assert_int_equal(w->last.type, WEIR_CREDIT);
    assert_true(w->last.bytes > 0);
}

static void a_draining_inlet_takes_nothing_and_still_acknowledges(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    send_block(w, 1, 1, 100);
    weir_inlet_drain(w->inlet);
    send_block(w, 1, 2, 100);
    assert_int_equal(w->blocks, 1);
    weir_inlet_ack(w->inlet, w->peer, 1);
    weir_inlet_flush(w->inlet);
    assert_int_equal(w->last.type, WEIR_ACK);
    assert_int_equal(w->last.sequence, 1);
    hello(w, 2, 8);
    assert_string_equal(w->last.code, "DRAINING");
    assert_true(w->last.retryable);
}

static void a_connection_that_fails_leaves_nothing_outstanding(void **state)
{
    world *w = *state;
    for (unsigned i = 1; i <= 40; i++) {
        hello(w, i, i);
        assert_int_equal(w->last.bytes, WEIR_INLET_FIRST_BYTES);
        send_block(w, i, 1, 100);
        weir_inlet_ack(w->inlet, w->peer, 1);
        w->send_result = WEIR_ECLOSED;
        hand_on(w);
        w->send_result = WEIR_OK;
    }
}

/* --- What they break --------------------------------------------------------------- */

static void a_stranger_is_answered_once_and_hung_up(void **state)
{
    world *w = *state;
    for (int i = 0; i < 10; i++)
        give(w, 1, NULL, NULL);
    assert_int_equal(w->sent, 1);
    assert_string_equal(w->last.code, "MALFORMED");
    assert_int_equal(w->hung_up, 1);
    send_block(w, 2, 1, 100);
    assert_string_equal(w->last.code, "HELLO");
    assert_int_equal(w->hung_up, 2);
    assert_int_equal(weir_inlet_look(w->inlet).refused, 2);
}

static void a_peer_that_does_not_read_is_hung_up(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    send_block(w, 1, 1, 100);
    weir_inlet_ack(w->inlet, w->peer, 1);
    w->send_result = WEIR_EFULL;
    weir_inlet_flush(w->inlet);
    assert_int_equal(w->hung_up, 1);
    w->send_result = WEIR_OK;
    hello(w, 2, 7);
    assert_int_equal(w->last.type, WEIR_WELCOME);
    assert_int_equal(w->last.sequence, 1);
}

static void a_block_without_a_body_is_malformed(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    give(w, 1, &(weir_frame){.type = WEIR_BLOCK, .sequence = 1, .records = 1}, NULL);
    assert_string_equal(w->last.code, "MALFORMED");
    assert_int_equal(w->hung_up, 1);
}

static void an_overrun_is_hung_up_and_nothing_of_it_taken(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    send_block(w, 1, 1, WEIR_INLET_FIRST_BYTES + 1);
    assert_string_equal(w->last.code, "OVERRUN");
    assert_int_equal(w->blocks, 0);
    assert_int_equal(w->hung_up, 1);
}

static void who_says_close_is_hung_up(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    give(w, 1, &(weir_frame){.type = WEIR_CLOSE, .code = "ENDING", .retryable = true},
         NULL);
    assert_int_equal(w->hung_up, 1);
    assert_int_equal(w->hung_up_fd, 100);
    assert_int_equal(weir_inlet_look(w->inlet).connected, 0);
}

/* --- What remains ------------------------------------------------------------------ */

static void a_lost_connection_keeps_its_session(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    assert_int_equal(weir_inlet_look(w->inlet).connected, 1);
    send_block(w, 1, 1, 100);
    weir_inlet_lost(w->inlet, 100);
    assert_int_equal(weir_inlet_look(w->inlet).connected, 0);
    send_block(w, 1, 2, 100); // it was on its way
    assert_int_equal(w->blocks, 2);
    size_t sent = w->sent;
    weir_inlet_ack(w->inlet, w->peer, 2);
    weir_inlet_flush(w->inlet);
    assert_int_equal(w->sent, sent); // nobody is there to hear it
    w->fd = 101;
    hello(w, 2, 7);
    assert_int_equal(w->last.sequence, 2);
    send_block(w, 2, 2, 100);
    assert_int_equal(w->blocks, 2);
    assert_int_equal(weir_inlet_look(w->inlet).duplicates, 1);
}

static void what_a_failed_connection_brought_is_still_taken(void **state)
{
    world *w = *state;
    hello(w, 1, 7);
    send_block(w, 1, 1, 100);
    weir_inlet_ack(w->inlet, w->peer, 1);
    w->send_result = WEIR_ECLOSED;
    weir_inlet_flush(w->inlet);
    assert_int_equal(weir_inlet_look(w->inlet).connected, 0);
    send_block(w, 1, 2, 100);
    assert_int_equal(w->blocks, 2);
    assert_int_equal(w->hung_up, 0);
    weir_inlet_lost(w->inlet, 100);
    assert_int_equal(weir_inlet_look(w->inlet).connected, 0);
    assert_int_equal(weir_inlet_look(w->inlet).refused, 0);
}

static void what_many_replaced_connections_brought_is_dropped_in_silence(void **state)
{
    world *w = *state;
    enum { count = 1000 };
    for (unsigned i = 1; i <= count; i++)
        hello(w, i, i);
    for (unsigned i = 1; i <= count; i++)
        hello(w, count + i, i);
    size_t sent = w->sent, hung_up = w->hung_up;
    for (unsigned i = 1; i <= count; i++)
        send_block(w, i, 1, 100);
    assert_int_equal(w->sent, sent);
    assert_int_equal(w->hung_up, hung_up); // the descriptor may be another's by now
    assert_int_equal(weir_inlet_look(w->inlet).refused, 0);
}

static void sessions_that_are_safe_and_gone_make_room(void **state)
{
    world *w = *state;
    hello(w, 1, 1);
    send_block(w, 1, 1, 100); // never acknowledged: it stays
    weir_inlet_lost(w->inlet, 100);
    for (unsigned i = 2; i < 6000; i++) {
        hello(w, i, i);
        assert_int_equal(w->last.type, WEIR_WELCOME);
        weir_inlet_lost(w->inlet, 100);
    }
    assert_true(w->forgotten >= 6000 - 2 - 4096);
    hello(w, 7000, 1);
    send_block(w, 7000, 1, 100);
    assert_int_equal(w->blocks, 1);
}

int main(void)
{
    weir_clock_go_virtual(0);
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)
    const struct CMUnitTest tests[] = {
        TEST(the_node_must_be_the_certificates),
        TEST(a_session_belongs_to_the_certificate_that_began_it),
        TEST(whoever_lost_his_right_is_ended_and_the_others_stay),
        TEST(a_connection_with_an_old_key_is_ended),
        TEST(who_is_revoked_before_his_hello_is_ended),
        TEST(credit_begins_small_and_grows_as_it_is_used),
        TEST(all_together_get_no_more_than_the_total_and_a_little_each),
        TEST(a_need_that_has_been_met_is_over),
        TEST(larger_blocks_than_the_total_allows_come_one_by_one),
        TEST(who_never_sends_his_large_block_does_not_stop_the_others),
        TEST(a_connection_that_fails_leaves_nothing_outstanding),
        TEST(nothing_is_granted_while_held),
        TEST(a_draining_inlet_takes_nothing_and_still_acknowledges),
        TEST(a_stranger_is_answered_once_and_hung_up),
        TEST(a_peer_that_does_not_read_is_hung_up),
        TEST(a_block_without_a_body_is_malformed),
        TEST(an_overrun_is_hung_up_and_nothing_of_it_taken),
        TEST(who_says_close_is_hung_up),
        TEST(a_lost_connection_keeps_its_session),
        TEST(what_a_failed_connection_brought_is_still_taken),
        TEST(what_many_replaced_connections_brought_is_dropped_in_silence),
        TEST(sessions_that_are_safe_and_gone_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
