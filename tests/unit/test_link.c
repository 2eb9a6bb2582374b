/*  Outlet and inlet, connected by a channel in memory that keeps the order, delays as
    it likes and can be cut. Every message is encoded and decoded on its way.      */
#include "runtime/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#define MESSAGES_MAX 4096
#define BLOCKS_MAX 4096

#ifdef WEIR_SANITIZED
#define ROUNDS 40
#else
#define ROUNDS 300
#endif

typedef struct {
    weir_buffer head;
    weir_block *body; // owned reference
} message;

typedef struct {
    message items[MESSAGES_MAX];
    size_t first, count;
} channel;

/*  One outlet, one inlet, and what an observer between them sees.             */
typedef struct {
    weir_outlet *outlet;
    weir_inlet *inlet;
    channel up, down;    // to the outlet, to the inlet
    unsigned connection; // routing id of the present one; 0: cut
    bool refuse_sends;   // the outlet's sends fail
    size_t window;
    uint64_t random;
    /*  The outlet's owner.                                                    */
    uint64_t acked, refused, closed_count;
    bool closed, retryable;
    char code[32];
    /*  The inlet's owner.                                                     */
    weir_peer *peer;
    uint64_t taken[BLOCKS_MAX]; // content of the blocks taken, in order
    uint64_t sequences[BLOCKS_MAX];
    size_t costs[BLOCKS_MAX];
    size_t taken_count, granted_count; // granted: handed on
    uint64_t tokens[BLOCKS_MAX], barriers[BLOCKS_MAX], before_barrier[BLOCKS_MAX];
    size_t token_count, barrier_count;
    uint64_t nack_sequence; // NACK this block when it comes
    bool nack_retryable;
    weir_frame last_down; // the last frame from the inlet
    /*  What was granted to the outlet on this connection, and what it has spent. */
    uint64_t credit, highest_barrier;
    size_t blocks_sent, needs, closes;
} bench;

static uint64_t next_random(bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

static uint64_t below(bench *b, uint64_t n)
{
    return next_random(b) % n;
}

/* --- Channel ----------------------------------------------------------------------- */

static void push(channel *c, const weir_frame *frame, weir_block *body)
{
    assert_true(c->count < MESSAGES_MAX);
    message *m = &c->items[(c->first + c->count++) % MESSAGES_MAX];
    *m = (message){.body = body ? weir_block_dup(body) : NULL};
    weir_frame_put(frame, &m->head);
}

static void clear(channel *c)
{
    for (; c->count; c->count--) {
        message *m = &c->items[c->first];
        weir_buffer_fini(&m->head);
        weir_block_destroy(&m->body);
        c->first = (c->first + 1) % MESSAGES_MAX;
    }
}

static bool pop(channel *c, weir_frame *frame, weir_buffer *scratch, weir_block **body)
{
    if (c->count == 0) return false;
    message *m = &c->items[c->first];
    c->first = (c->first + 1) % MESSAGES_MAX;
    c->count--;
    assert_int_equal(weir_frame_read(frame, m->head.data, m->head.size, scratch),
                     WEIR_OK);
    weir_buffer_fini(&m->head);
    *body = m->body;
    return true;
}

/* --- Outlet's side ----------------------------------------------------------------- */

static weir_err send_down(void *arg, const weir_frame *frame, weir_block *body)
{
    bench *b = arg;
    if (b->refuse_sends || !b->connection) return WEIR_ECLOSED;
    if (frame->type == WEIR_BLOCK) {
        uint64_t cost = weir_block_cost(body);
        assert_true(cost <= b->credit); // credit is never overrun
        b->credit -= cost;
        b->blocks_sent++;
    }
    if (frame->type == WEIR_BARRIER) {
        b->credit = 0;
        b->highest_barrier = frame->barrier;
    }
    if (frame->type == WEIR_NEED) b->needs++;
    push(&b->down, frame, body);
    return WEIR_OK;
}

static void on_acked(void *arg, uint64_t sequence)
{
    bench *b = arg;
    assert_true(sequence > b->acked);
    b->acked = sequence;
}

static void on_refused(void *arg, uint64_t sequence, weir_block *block, const char *code,
                       const char *text)
{
    (void)block;
    (void)text;
    bench *b = arg;
    b->refused = sequence;
    snprintf(b->code, sizeof b->code, "%s", code);
}

static void on_closed(void *arg, const char *code, const char *text, bool retryable)
{
    (void)text;
    bench *b = arg;
    b->closed = true;
    b->closed_count++;
    b->retryable = retryable;
    snprintf(b->code, sizeof b->code, "%s", code);
}

static const weir_outlet_events outlet_events = {send_down, on_acked, on_refused,
                                                 on_closed};

/* --- Inlet's side ------------------------------------------------------------------ */

static weir_err send_up(void *arg, const void *id, size_t id_size,
                        const weir_frame *frame)
{
    bench *b = arg;
    unsigned to;
    assert_int_equal(id_size, sizeof to);
    memcpy(&to, id, sizeof to);
    b->last_down = *frame;
    if (frame->type == WEIR_CLOSE) b->closes++;
    if (to != b->connection) return WEIR_ECLOSED;
    push(&b->up, frame, NULL);
    return WEIR_OK;
}

/*  A block's content: the number that its payload spells.                     */
static uint64_t content_of(weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_record record;
    assert_true(weir_iterator_next(&walk, &record, NULL));
    return strtoull((const char *)record.data, NULL, 10);
}

static void on_block(void *arg, weir_peer *peer, uint64_t sequence, weir_block **block_p)
{
    bench *b = arg;
    b->peer = peer;
    if (sequence == b->nack_sequence) {
        b->nack_sequence = 0;
        weir_inlet_grant(b->inlet, peer, weir_block_cost(*block_p));
        weir_inlet_nack(b->inlet, peer, sequence, "BAD", "not this one",
                        b->nack_retryable);
        return;
    }
    assert_true(b->taken_count < BLOCKS_MAX);
    b->taken[b->taken_count] = content_of(*block_p);
    b->sequences[b->taken_count] = sequence;
    b->costs[b->taken_count++] = weir_block_cost(*block_p);
}

static void on_barrier(void *arg, weir_peer *peer, uint64_t id, uint64_t epoch,
                       uint64_t flags)
{
    bench *b = arg;
    b->peer = peer;
    assert_int_equal(epoch, 7);
    assert_int_equal(flags, 1);
    b->before_barrier[b->barrier_count] = b->taken_count;
    b->barriers[b->barrier_count++] = id;
}

static void on_token(void *arg, weir_peer *peer, uint64_t sequence, weir_token_kind kind,
                     uint64_t argument)
{
    bench *b = arg;
    b->peer = peer;
    assert_int_equal(kind, WEIR_TOKEN_MARKER);
    assert_int_equal(argument, sequence * 10);
    b->tokens[b->token_count++] = sequence;
}

static const weir_inlet_events inlet_events = {
    .send = send_up, .block = on_block, .barrier = on_barrier, .token = on_token};

/* --- Bench ------------------------------------------------------------------------- */

static void open_inlet(bench *b)
{
    b->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = b->window, .events = &inlet_events, .arg = b});
}

static bench *new_bench(size_t window)
{
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->window = window;
    b->random = 88172645463325252u;
    b->outlet = weir_outlet_new(&(weir_outlet_config){.node = "web",
                                                      .name = "parse",
                                                      .session = 4711,
                                                      .window_bytes = window,
                                                      .events = &outlet_events,
                                                      .arg = b});
    open_inlet(b);
    return b;
}

static void free_bench(bench **b_p)
{
    bench *b = *b_p;
    clear(&b->up);
    clear(&b->down);
    weir_outlet_destroy(&b->outlet);
    weir_inlet_destroy(&b->inlet);
    free(b);
    *b_p = NULL;
}

static void cut(bench *b)
{
    clear(&b->up);
    clear(&b->down);
    b->connection = 0;
    weir_outlet_disconnect(b->outlet);
}

static void join(bench *b)
{
    static unsigned connections;
    b->connection = ++connections;
    b->credit = 0;
    b->closed = false;
    weir_outlet_connect(b->outlet);
}

static weir_block *make_block(uint64_t content, size_t size)
{
    char *text = malloc(size + 32);
    assert_non_null(text);
    memset(text, ' ', size + 32);
    int head = snprintf(text, 32, "%llu", (unsigned long long)content);
    text[head] = ' ';
    weir_builder builder = {.target = 1};
    weir_builder_add_payload(&builder, WEIR_JSON, (uint8_t *)text, size + (size_t)head,
                             &(weir_run){.source = "s"});
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    free(text);
    return block;
}

static uint64_t send_block(bench *b, uint64_t content, size_t size)
{
    uint64_t sequence = 0;
    weir_block *block = make_block(content, size);
    weir_outlet_send(b->outlet, &block, &sequence);
    assert_null(block);
    return sequence;
}

/*  One message towards the inlet.                                             */
static bool step_down(bench *b)
{
    weir_frame frame;
    weir_buffer scratch = {0};
    weir_block *body = NULL;
    bool moved = pop(&b->down, &frame, &scratch, &body);
    if (moved)
        weir_inlet_recv(b->inlet, &b->connection, sizeof b->connection, &frame, &body);
    assert_null(body);
    weir_buffer_fini(&scratch);
    return moved;
}

static bool step_up(bench *b)
{
    weir_frame frame;
    weir_buffer scratch = {0};
    weir_block *body = NULL;
    bool moved = pop(&b->up, &frame, &scratch, &body);
    if (!moved) return false;
    /*  The observer's account: a grant from before a barrier is void.         */
    if (frame.type == WEIR_WELCOME) {
        b->credit = frame.bytes;
        b->highest_barrier = frame.barrier;
    }
    if (frame.type == WEIR_CREDIT && frame.barrier >= b->highest_barrier)
        b->credit += frame.bytes;
    assert_int_equal(weir_outlet_recv(b->outlet, &frame), WEIR_OK);
    weir_buffer_fini(&scratch);
    return true;
}

static void settle_down(bench *b)
{
    for (bool moved = true; moved;) {
        moved = step_down(b);
        moved |= step_up(b);
        weir_inlet_flush(b->inlet);
        moved |= b->up.count > 0;
    }
}

static void hand_on(bench *b)
{
    for (; b->granted_count < b->taken_count; b->granted_count++)
        weir_inlet_grant(b->inlet, b->peer, b->costs[b->granted_count]);
}

static void ack_all(bench *b)
{
    uint64_t highest = 0;
    if (b->taken_count) highest = b->sequences[b->taken_count - 1];
    if (b->token_count && b->tokens[b->token_count - 1] > highest)
        highest = b->tokens[b->token_count - 1];
    if (highest) weir_inlet_ack(b->inlet, b->peer, highest);
}

static void inject(bench *b, const weir_frame *frame, weir_block *body)
{
    weir_block *taken = body;
    weir_inlet_recv(b->inlet, &b->connection, sizeof b->connection, frame, &taken);
    assert_null(taken);
}

static void inject_up(bench *b, const weir_frame *frame)
{
    assert_int_equal(weir_outlet_recv(b->outlet, frame), WEIR_OK);
}

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

static uint64_t send_token(bench *b, uint64_t argument)
{
    uint64_t sequence = 0;
    if (weir_outlet_token(b->outlet, WEIR_TOKEN_MARKER, argument, &sequence)) return 0;
    return sequence;
}

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
        cmocka_unit_test(nothing_goes_before_hello),
        cmocka_unit_test(another_version_is_refused),
        cmocka_unit_test(frames_of_the_wrong_side_are_refused),
        cmocka_unit_test(bodies_of_other_processes_are_walked),
        cmocka_unit_test(who_has_gone_holds_nothing_of_the_total),
        cmocka_unit_test(random_cuts_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
