/*  help_link: outlet and inlet, connected by a channel in memory that keeps the order,
    delays as it likes and can be cut. Every message is encoded and decoded on its way.

    Include it in one test program each; everything is static.                 */
#pragma once
#include "runtime/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#define MESSAGES_MAX 4096
#define BLOCKS_MAX 4096

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

static inline uint64_t next_random(bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

static inline uint64_t below(bench *b, uint64_t n)
{
    return next_random(b) % n;
}

/* --- Channel ----------------------------------------------------------------------- */

static inline void push(channel *c, const weir_frame *frame, weir_block *body)
{
    assert_true(c->count < MESSAGES_MAX);
    message *m = &c->items[(c->first + c->count++) % MESSAGES_MAX];
    *m = (message){.body = body ? weir_block_dup(body) : NULL};
    weir_frame_put(frame, &m->head);
}

static inline void clear(channel *c)
{
    for (; c->count; c->count--) {
        message *m = &c->items[c->first];
        weir_buffer_fini(&m->head);
        weir_block_destroy(&m->body);
        c->first = (c->first + 1) % MESSAGES_MAX;
    }
}

static inline bool pop(channel *c, weir_frame *frame, weir_buffer *scratch,
                       weir_block **body)
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

static inline weir_err send_down(void *arg, const weir_frame *frame, weir_block *body)
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

static inline void on_acked(void *arg, uint64_t sequence)
{
    bench *b = arg;
    assert_true(sequence > b->acked);
    b->acked = sequence;
}

static inline void on_refused(void *arg, uint64_t sequence, weir_block *block,
                              const char *code, const char *text)
{
    (void)block;
    (void)text;
    bench *b = arg;
    b->refused = sequence;
    snprintf(b->code, sizeof b->code, "%s", code);
}

static inline void on_closed(void *arg, const char *code, const char *text,
                             bool retryable)
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

static inline weir_err send_up(void *arg, const void *id, size_t id_size,
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
static inline uint64_t content_of(weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_record record;
    assert_true(weir_iterator_next(&walk, &record, NULL));
    return strtoull((const char *)record.data, NULL, 10);
}

static inline void on_block(void *arg, weir_peer *peer, uint64_t sequence,
                            weir_block **block_p)
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

static inline void on_barrier(void *arg, weir_peer *peer, uint64_t id, uint64_t epoch,
                              uint64_t flags)
{
    bench *b = arg;
    b->peer = peer;
    assert_int_equal(epoch, 7);
    assert_int_equal(flags, 1);
    b->before_barrier[b->barrier_count] = b->taken_count;
    b->barriers[b->barrier_count++] = id;
}

static inline void on_token(void *arg, weir_peer *peer, uint64_t sequence,
                            weir_token_kind kind, uint64_t argument)
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

static inline void open_inlet(bench *b)
{
    b->inlet = weir_inlet_new(&(weir_inlet_config){
        .window_bytes = b->window, .events = &inlet_events, .arg = b});
}

static inline bench *new_bench(size_t window)
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

static inline void free_bench(bench **b_p)
{
    bench *b = *b_p;
    clear(&b->up);
    clear(&b->down);
    weir_outlet_destroy(&b->outlet);
    weir_inlet_destroy(&b->inlet);
    free(b);
    *b_p = NULL;
}

static inline void cut(bench *b)
{
    clear(&b->up);
    clear(&b->down);
    b->connection = 0;
    weir_outlet_disconnect(b->outlet);
}

static inline void join(bench *b)
{
    static unsigned connections;
    b->connection = ++connections;
    b->credit = 0;
    b->closed = false;
    weir_outlet_connect(b->outlet);
}

static inline weir_block *make_block(uint64_t content, size_t size)
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

static inline uint64_t send_block(bench *b, uint64_t content, size_t size)
{
    uint64_t sequence = 0;
    weir_block *block = make_block(content, size);
    weir_outlet_send(b->outlet, &block, &sequence);
    assert_null(block);
    return sequence;
}

/*  One message towards the inlet.                                             */
static inline bool step_down(bench *b)
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

static inline bool step_up(bench *b)
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

static inline void settle_down(bench *b)
{
    for (bool moved = true; moved;) {
        moved = step_down(b);
        moved |= step_up(b);
        weir_inlet_flush(b->inlet);
        moved |= b->up.count > 0;
    }
}

static inline void hand_on(bench *b)
{
    for (; b->granted_count < b->taken_count; b->granted_count++)
        weir_inlet_grant(b->inlet, b->peer, b->costs[b->granted_count]);
}

static inline void ack_all(bench *b)
{
    uint64_t highest = 0;
    if (b->taken_count) highest = b->sequences[b->taken_count - 1];
    if (b->token_count && b->tokens[b->token_count - 1] > highest)
        highest = b->tokens[b->token_count - 1];
    if (highest) weir_inlet_ack(b->inlet, b->peer, highest);
}

static inline void inject(bench *b, const weir_frame *frame, weir_block *body)
{
    weir_block *taken = body;
    weir_inlet_recv(b->inlet, &b->connection, sizeof b->connection, frame, &taken);
    assert_null(taken);
}

static inline void inject_up(bench *b, const weir_frame *frame)
{
    assert_int_equal(weir_outlet_recv(b->outlet, frame), WEIR_OK);
}

static inline uint64_t send_token(bench *b, uint64_t argument)
{
    uint64_t sequence = 0;
    if (weir_outlet_token(b->outlet, WEIR_TOKEN_MARKER, argument, &sequence)) return 0;
    return sequence;
}
