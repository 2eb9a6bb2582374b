/*  What a link between an outlet and an inlet keeps to.                       */
#include "tests/unit/help_link.h"

/* --- Credit and window ------------------------------------------------------------- */

static void blocks_wait_for_credit_and_go_in_order(void **state)
{
    (void)state;
    bench *b = new_bench(10000);
    join(b);
    for (uint64_t i = 1; i <= 40; i++)
        assert_int_equal(send_block(b, i, 400), i);
    assert_int_equal(b->blocks_sent, 0); // no WELCOME yet
    settle_down(b);
    assert_in_range(b->taken_count, 5, 10);
    size_t before = b->taken_count;
    settle_down(b);
    assert_int_equal(b->taken_count, before);
    while (b->taken_count < 40) {
        before = b->taken_count;
        hand_on(b);
        settle_down(b);
        assert_true(b->taken_count > before);
    }
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(b->taken[i], i + 1);
    assert_int_equal(b->acked, 0);
    assert_false(weir_outlet_has_room(b->outlet));
    ack_all(b);
    settle_down(b);
    assert_int_equal(b->acked, 40);
    assert_int_equal(weir_outlet_kept_bytes(b->outlet), 0);
    assert_true(weir_outlet_has_room(b->outlet));
    free_bench(&b);
}

static void the_window_counts_what_is_not_acknowledged(void **state)
{
    (void)state;
    bench *b = new_bench(5000);
    join(b);
    uint64_t sent = 0;
    while (weir_outlet_has_room(b->outlet))
        send_block(b, ++sent, 300);
    assert_in_range(weir_outlet_kept_bytes(b->outlet), 5000, 5000 + 1000);
    settle_down(b);
    hand_on(b);
    settle_down(b);
    assert_false(weir_outlet_has_room(b->outlet)); // credit alone is not enough
    weir_inlet_ack(b->inlet, b->peer, 1);
    settle_down(b);
    assert_true(weir_outlet_has_room(b->outlet));
    free_bench(&b);
}

static void a_block_above_credit_and_window_is_let_in_by_need(void **state)
{
    (void)state;
    bench *b = new_bench(4096);
    join(b);
    send_block(b, 1, 2000);
    send_block(b, 2, 3000);  // above what is left
    send_block(b, 3, 50000); // above the window
    send_block(b, 4, 100);
    settle_down(b);
    assert_int_equal(b->taken_count, 1);
    assert_int_equal(b->needs, 1);
    hand_on(b);
    settle_down(b);
    assert_int_equal(b->taken_count, 2);
    settle_down(b);
    assert_int_equal(b->taken_count, 2); // the large one goes in alone
    hand_on(b);
    settle_down(b);
    assert_int_equal(b->taken_count, 3);
    hand_on(b);
    settle_down(b);
    assert_int_equal(b->taken_count, 4);
    assert_int_equal(b->closes, 0);
    free_bench(&b);
}

static void a_need_that_nobody_can_believe_is_refused(void **state)
{
    (void)state;
    bench *b = new_bench(4096);
    weir_inlet_destroy(&b->inlet);
    b->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = 4096, .block_max = 1 << 20, .events = &inlet_events, .arg = b});
    join(b);
    settle_down(b);
    inject(b, &(weir_frame){.type = WEIR_NEED, .bytes = UINT64_MAX}, NULL);
    assert_int_equal(b->last_down.type, WEIR_CLOSE);
    assert_string_equal(b->last_down.code, "TOO_LARGE");
    free_bench(&b);
}

static void a_sender_that_overruns_its_credit_gets_close(void **state)
{
    (void)state;
    bench *b = new_bench(2000);
    join(b);
    settle_down(b);
    weir_block *large = make_block(1, 5000);
    size_t runs;
    weir_frame frame = {.type = WEIR_BLOCK, .sequence = 1, .records = 1};
    frame.runs = weir_block_runs(large, &runs);
    frame.run_count = runs;
    inject(b, &frame, large);
    assert_int_equal(b->taken_count, 0);
    assert_int_equal(b->last_down.type, WEIR_CLOSE);
    assert_string_equal(b->last_down.code, "OVERRUN");
    /*  What was on its way is dropped in silence, until the next HELLO.       */
    weir_block *small = make_block(1, 10);
    frame.runs = weir_block_runs(small, &runs);
    inject(b, &frame, small);
    assert_int_equal(b->closes, 1);
    assert_int_equal(b->taken_count, 0);
    settle_down(b);
    assert_true(b->closed);
    assert_false(b->retryable);
    free_bench(&b);
}

/* --- Acknowledgement --------------------------------------------------------------- */

static void acknowledgement_is_cumulative_and_never_of_the_unsent(void **state)
{
    (void)state;
    bench *b = new_bench(2000);
    join(b);
    for (uint64_t i = 1; i <= 5; i++)
        send_block(b, i, 300);
    settle_down(b);
    size_t sent = b->blocks_sent;
    assert_true(sent >= 2 && sent < 5);
    weir_frame ack = {.type = WEIR_ACK, .sequence = sent + 1};
    assert_int_equal(weir_outlet_recv(b->outlet, &ack), WEIR_EPROTO);
    assert_int_equal(b->acked, 0);
    ack.sequence = 2;
    assert_int_equal(weir_outlet_recv(b->outlet, &ack), WEIR_OK);
    assert_int_equal(b->acked, 2);
    ack.sequence = 1; // an older one changes nothing
    assert_int_equal(weir_outlet_recv(b->outlet, &ack), WEIR_OK);
    assert_int_equal(b->acked, 2);
    cut(b);
    join(b);
    weir_frame welcome = {.type = WEIR_WELCOME, .version = 1, .sequence = 4000};
    assert_int_equal(weir_outlet_recv(b->outlet, &welcome), WEIR_EPROTO);
    assert_int_equal(b->acked, 2);
    free_bench(&b);
}

/* --- Reconnecting ------------------------------------------------------------------ */

static void what_was_taken_is_not_delivered_twice(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    for (uint64_t i = 1; i <= 6; i++)
        send_block(b, i, 100);
    settle_down(b);
    assert_int_equal(b->taken_count, 6);
    weir_inlet_ack(b->inlet, b->peer, 2);
    cut(b); // the ACK is lost, WELCOME says it again
    join(b);
    send_block(b, 7, 100);
    settle_down(b);
    assert_int_equal(b->acked, 2);
    assert_int_equal(weir_outlet_replayed(b->outlet), 4);
    assert_int_equal(b->taken_count, 7);
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(b->taken[i], i + 1);
    free_bench(&b);
}

static void an_inlet_that_knows_no_session_expects_base(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    for (uint64_t i = 1; i <= 6; i++)
        send_block(b, i, 100);
    settle_down(b);
    weir_inlet_ack(b->inlet, b->peer, 4);
    settle_down(b);
    assert_int_equal(b->acked, 4);
    cut(b);
    weir_inlet_destroy(&b->inlet);
    open_inlet(b);
    b->taken_count = b->granted_count = 0;
    join(b);
    send_block(b, 7, 100);
    settle_down(b);
    assert_int_equal(b->closed_count, 0);
    assert_int_equal(b->taken_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(b->sequences[i], i + 5);
    free_bench(&b);
}

static void a_gap_is_answered_by_nack_and_recovered(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    settle_down(b);
    for (uint64_t i = 1; i <= 4; i++)
        send_block(b, i, 100);
    weir_buffer_fini(&b->down.items[(b->down.first + 1) % MESSAGES_MAX].head);
    weir_block_destroy(&b->down.items[(b->down.first + 1) % MESSAGES_MAX].body);
    b->down.items[(b->down.first + 1) % MESSAGES_MAX] =
        b->down.items[b->down.first]; // 1, [2 lost], 3, 4
    b->down.first = (b->down.first + 1) % MESSAGES_MAX;
    b->down.count--;
    settle_down(b);
    assert_int_equal(b->taken_count, 1);
    assert_true(b->closed && b->retryable);
    assert_string_equal(b->code, "GAP");
    join(b);
    settle_down(b);
    assert_int_equal(b->taken_count, 4);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(b->taken[i], i + 1);
    free_bench(&b);
}

static void a_connection_belongs_to_its_last_session(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    weir_frame hello = {.type = WEIR_HELLO, .version = 1, .session = 1, .base = 1};
    inject(b, &hello, NULL);
    hello.session = 2;
    inject(b, &hello, NULL);
    hello.session = 1; // known, and behind session 2 in no list
    hello.base = 1;
    inject(b, &hello, NULL);
    inject(
        b,
        &(weir_frame){
            .type = WEIR_TOKEN, .sequence = 1, .kind = WEIR_TOKEN_MARKER, .argument = 10},
        NULL);
    assert_int_equal(b->token_count, 1);
    b->last_down = (weir_frame){0};
    weir_inlet_ack(b->inlet, b->peer, 1);
    weir_inlet_flush(b->inlet);
    assert_int_equal(b->last_down.type, WEIR_ACK);
    hello.session = 2;
    inject(b, &hello, NULL);
    assert_int_equal(b->last_down.sequence, 0);
    inject(
        b,
        &(weir_frame){
            .type = WEIR_TOKEN, .sequence = 1, .kind = WEIR_TOKEN_MARKER, .argument = 10},
        NULL);
    assert_int_equal(b->token_count, 2); // taken for session 2, no duplicate of 1's
    clear(&b->up);
    free_bench(&b);
}

static void a_failed_send_keeps_everything(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    settle_down(b);
    send_block(b, 1, 100);
    b->refuse_sends = true;
    send_block(b, 2, 100);
    b->refuse_sends = false;
    send_block(b, 3, 100);
    assert_int_equal(b->blocks_sent, 1); // down until it connects again
    cut(b);
    join(b);
    settle_down(b);
    assert_int_equal(b->taken_count, 3);
    free_bench(&b);
}

/* --- Barriers ---------------------------------------------------------------------- */

static void a_barrier_voids_credit_and_grants_from_before_it(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    settle_down(b);
    send_block(b, 1, 100);
    weir_outlet_barrier(b->outlet, 5, 7, 1);
    send_block(b, 2, 100);
    assert_int_equal(b->blocks_sent, 1);
    inject_up(b, &(weir_frame){.type = WEIR_CREDIT, .bytes = 50000, .barrier = 4});
    assert_int_equal(b->blocks_sent, 1);
    settle_down(b); // the inlet sees the barrier and grants anew
    assert_int_equal(b->barrier_count, 1);
    assert_int_equal(b->barriers[0], 5);
    assert_int_equal(b->before_barrier[0], 1);
    assert_int_equal(b->taken_count, 2);
    free_bench(&b);
}

static void a_barrier_lost_behind_its_acknowledged_blocks_comes_again(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    settle_down(b);
    send_block(b, 1, 100);
    assert_true(step_down(b));
    weir_outlet_barrier(b->outlet, 5, 7, 1);
    ack_all(b);
    weir_inlet_flush(b->inlet);
    while (step_up(b))
        continue;
    assert_int_equal(b->acked, 1);
    cut(b); // the barrier goes with it
    join(b);
    settle_down(b);
    assert_int_equal(b->barrier_count, 1);
    free_bench(&b);
}

static void a_barrier_that_arrived_is_not_sent_again(void **state)
{
    (void)state;
    bench *b = new_bench(4000);
    join(b);
    settle_down(b);
    send_block(b, 1, 100);
    weir_outlet_barrier(b->outlet, 5, 7, 1);
    send_block(b, 2, 100);
    settle_down(b);
    assert_int_equal(b->taken_count, 2);
    cut(b); // nothing was acknowledged: block, barrier and block are still kept
    join(b);
    for (uint64_t i = 3; i <= 20; i++) {
        send_block(b, i, 100);
        settle_down(b);
        hand_on(b);
        settle_down(b);
    }
    assert_int_equal(b->barrier_count, 1);
    assert_int_equal(b->taken_count, 20); // credit goes round still
    ack_all(b);
    settle_down(b);
    assert_int_equal(b->acked, 20);
    free_bench(&b);
}

static void a_barrier_behind_a_gap_is_no_barrier(void **state)
{
    (void)state;
    bench *b = new_bench(10000);
    join(b);
    settle_down(b);
    inject(b,
           &(weir_frame){
               .type = WEIR_BARRIER, .barrier = 1, .epoch = 7, .flags = 1, .sequence = 9},
           NULL);
    assert_int_equal(b->barrier_count, 0);
    assert_int_equal(b->last_down.type, WEIR_NACK);
    assert_string_equal(b->last_down.code, "GAP");
    free_bench(&b);
}

/* --- Tokens ------------------------------------------------------------------------ */

static void tokens_go_in_order_and_at_most_16_at_a_time(void **state)
{
    (void)state;
    bench *b = new_bench(10000);
    join(b);
    settle_down(b);
    send_block(b, 1, 100);
    for (uint64_t i = 2; i <= 17; i++)
        assert_int_equal(send_token(b, i * 10), i);
    uint64_t sequence;
    assert_int_equal(weir_outlet_token(b->outlet, WEIR_TOKEN_MARKER, 0, &sequence),
                     WEIR_EFULL);
    settle_down(b);
    assert_int_equal(b->token_count, 16);
    for (uint64_t i = 0; i < 16; i++)
        assert_int_equal(b->tokens[i], i + 2);
    weir_inlet_ack(b->inlet, b->peer, 3);
    settle_down(b);
    assert_int_equal(send_token(b, 180), 18);
    assert_int_equal(send_token(b, 190), 19);
    assert_int_equal(send_token(b, 200), 0);
    settle_down(b);
    assert_int_equal(b->token_count, 18);
    assert_int_equal(b->closes, 0);
    free_bench(&b);
}

static void a_17th_token_from_a_peer_that_does_not_count_gets_close(void **state)
{
    (void)state;
    bench *b = new_bench(10000);
    join(b);
    settle_down(b);
    for (uint64_t i = 1; i <= 17; i++)
        inject(b,
               &(weir_frame){.type = WEIR_TOKEN,
                             .sequence = i,
                             .kind = WEIR_TOKEN_MARKER,
                             .argument = i * 10},
               NULL);
    assert_int_equal(b->token_count, 16);
    assert_int_equal(b->last_down.type, WEIR_CLOSE);
    assert_string_equal(b->last_down.code, "OVERRUN");
    free_bench(&b);
}

/* --- Refusals ---------------------------------------------------------------------- */

static void a_refused_block_waits_to_be_settled(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    settle_down(b);
    b->nack_sequence = 2;
    for (uint64_t i = 1; i <= 4; i++)
        send_block(b, i, 100);
    settle_down(b);
    assert_int_equal(b->refused, 2);
    assert_string_equal(b->code, "BAD");
    assert_int_equal(b->taken_count, 3);
    weir_inlet_ack(b->inlet, b->peer, 4);
    settle_down(b);
    assert_int_equal(b->acked, 1); // nothing may skip it
    weir_outlet_settle(b->outlet, 2);
    assert_int_equal(b->acked, 4); // and what was acknowledged behind it is not lost
    assert_int_equal(weir_outlet_kept_bytes(b->outlet), 0);
    free_bench(&b);
}

static void only_a_refused_block_can_be_settled(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    weir_outlet_settle(b->outlet, 1);
    settle_down(b);
    send_block(b, 1, 100);
    settle_down(b);
    weir_outlet_settle(b->outlet, 1);
    assert_int_equal(b->acked, 0);
    weir_frame nack = {.type = WEIR_NACK, .sequence = 2};
    assert_int_equal(weir_outlet_recv(b->outlet, &nack), WEIR_EPROTO);
    free_bench(&b);
}

static void a_block_refused_for_now_comes_again(void **state)
{
    (void)state;
    bench *b = new_bench(100000);
    join(b);
    settle_down(b);
    b->nack_sequence = 2;
    b->nack_retryable = true;
    for (uint64_t i = 1; i <= 4; i++)
        send_block(b, i, 100);
    settle_down(b);
    assert_true(b->closed && b->retryable);
    assert_int_equal(b->taken_count, 1);
    join(b);
    settle_down(b);
    assert_int_equal(b->taken_count, 4);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(b->sequences[i], i + 1);
    free_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_wait_for_credit_and_go_in_order),
        cmocka_unit_test(the_window_counts_what_is_not_acknowledged),
        cmocka_unit_test(a_block_above_credit_and_window_is_let_in_by_need),
        cmocka_unit_test(a_need_that_nobody_can_believe_is_refused),
        cmocka_unit_test(a_sender_that_overruns_its_credit_gets_close),
        cmocka_unit_test(acknowledgement_is_cumulative_and_never_of_the_unsent),
        cmocka_unit_test(what_was_taken_is_not_delivered_twice),
        cmocka_unit_test(an_inlet_that_knows_no_session_expects_base),
        cmocka_unit_test(a_gap_is_answered_by_nack_and_recovered),
        cmocka_unit_test(a_connection_belongs_to_its_last_session),
        cmocka_unit_test(a_failed_send_keeps_everything),
        cmocka_unit_test(a_barrier_voids_credit_and_grants_from_before_it),
        cmocka_unit_test(a_barrier_lost_behind_its_acknowledged_blocks_comes_again),
        cmocka_unit_test(a_barrier_that_arrived_is_not_sent_again),
        cmocka_unit_test(a_barrier_behind_a_gap_is_no_barrier),
        cmocka_unit_test(tokens_go_in_order_and_at_most_16_at_a_time),
        cmocka_unit_test(a_17th_token_from_a_peer_that_does_not_count_gets_close),
        cmocka_unit_test(a_refused_block_waits_to_be_settled),
        cmocka_unit_test(only_a_refused_block_can_be_settled),
        cmocka_unit_test(a_block_refused_for_now_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
