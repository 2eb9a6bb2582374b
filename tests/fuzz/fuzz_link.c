/*  The two ends of a link, each against a peer that says anything: no crash, no more
    taken than was granted, no block out of order, nothing safe that was not sent.

    The input is a list of steps: a byte that says what, and its operands.     */
#include "runtime/link.h"
#include "runtime/log.h"
#include <fcntl.h>
#include <unistd.h>

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

enum { window = 8192, block_max = 32768, peers_max = 64 };

typedef struct {
    weir_peer *peer;
    uint64_t last; // sequence taken
    uint64_t held; // bytes taken and not granted again
    uint64_t tokens;
} taken;

typedef struct {
    const uint8_t *at, *end;
    weir_outlet *outlet;
    weir_inlet *inlet;
    taken peers[peers_max];
    size_t peer_count;
    uint64_t sent, acked, highest_sent, credit;
    uint64_t last_barrier;
} world;

static uint64_t operand(world *w)
{
    static const uint64_t special[] = {0, 1, 512, 8192, UINT32_MAX, UINT64_MAX};
    if (w->at == w->end) return 0;
    uint8_t byte = *w->at++;
    return byte < 250 ? byte % 40 : special[byte - 250];
}

static taken *find(world *w, weir_peer *peer)
{
    for (size_t i = 0; i < w->peer_count; i++)
        if (w->peers[i].peer == peer) return &w->peers[i];
    if (w->peer_count == peers_max) return NULL;
    w->peers[w->peer_count] = (taken){.peer = peer};
    return &w->peers[w->peer_count++];
}

/* --- Outlet ------------------------------------------------------------------------ */

static weir_err send_down(void *arg, const weir_frame *frame, weir_block *body)
{
    world *w = arg;
    weir_buffer out = {0}, scratch = {0};
    weir_frame seen;
    weir_frame_put(frame, &out);
    CHECK(weir_frame_read(&seen, out.data, out.size, &scratch) == WEIR_OK);
    weir_buffer_fini(&out);
    weir_buffer_fini(&scratch);
    CHECK((frame->type == WEIR_BLOCK) == (body != NULL));
    if (body) {
        CHECK(weir_block_cost(body) <= w->credit);
        w->credit -= weir_block_cost(body);
    }
    if (frame->type == WEIR_BARRIER) {
        w->credit = 0;
        w->last_barrier = frame->barrier;
    }
    if (body || frame->type == WEIR_TOKEN)
        if (frame->sequence > w->highest_sent) w->highest_sent = frame->sequence;
    return WEIR_OK;
}

static void on_acked(void *arg, uint64_t sequence)
{
    world *w = arg;
    CHECK(sequence > w->acked && sequence <= w->highest_sent);
    w->acked = sequence;
}

static void on_refused(void *arg, uint64_t sequence, weir_block *block, const char *code,
                       const char *text)
{
    (void)block;
    (void)code;
    (void)text;
    world *w = arg;
    CHECK(sequence > w->acked && sequence <= w->highest_sent);
}

static void on_closed(void *arg, const char *code, const char *text, bool retryable)
{
    (void)arg;
    (void)code;
    (void)text;
    (void)retryable;
}

static const weir_outlet_events outlet_events = {send_down, on_acked, on_refused,
                                                 on_closed};

/* --- Inlet ------------------------------------------------------------------------- */

static weir_err send_up(void *arg, const void *id, size_t id_size,
                        const weir_frame *frame)
{
    (void)arg;
    (void)frame;
    CHECK(id && id_size);
    return ((const uint8_t *)id)[0] == 7 ? WEIR_ECLOSED : WEIR_OK;
}

static void on_block(void *arg, weir_peer *peer, uint64_t sequence, weir_block **block_p)
{
    taken *t = find(arg, peer);
    if (!t) return;
    CHECK(t->last == 0 || sequence == t->last + 1);
    t->last = sequence;
    t->held += weir_block_cost(*block_p);
    CHECK(t->held <= window || t->held == weir_block_cost(*block_p));
    CHECK(t->held <= block_max);
}

static void on_token(void *arg, weir_peer *peer, uint64_t sequence, weir_token_kind kind,
                     uint64_t argument)
{
    (void)kind;
    (void)argument;
    taken *t = find(arg, peer);
    if (!t) return;
    CHECK(t->last == 0 || sequence == t->last + 1);
    t->last = sequence;
    CHECK(++t->tokens <= 16);
}

static void on_barrier(void *arg, weir_peer *peer, uint64_t id, uint64_t epoch,
                       uint64_t flags)
{
    (void)arg;
    (void)peer;
    (void)epoch;
    (void)flags;
    CHECK(id > 0);
}

static const weir_inlet_events inlet_events = {
    .send = send_up, .block = on_block, .barrier = on_barrier, .token = on_token};

/* --- Steps ------------------------------------------------------------------------- */

static weir_block *make_block(uint64_t size)
{
    static const uint8_t spaces[40000];
    weir_builder builder = {.target = 1};
    weir_builder_add_payload(&builder, WEIR_TEXT, spaces, size, NULL);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static weir_frame make_frame(world *w)
{
    weir_frame frame = {.type = (weir_frame_type)(operand(w) % 10 + 1)};
    frame.sequence = operand(w);
    frame.bytes = operand(w);
    frame.barrier = operand(w);
    frame.session = operand(w) % 8;
    frame.base = operand(w) % 4;
    frame.version = operand(w) % 16 ? 1 : 2;
    frame.retryable = operand(w) & 1;
    frame.stage = operand(w) % 32 == 31;
    return frame;
}

static void tell_outlet(world *w)
{
    weir_frame frame = make_frame(w);
    /*  What the outlet may believe is what it was told on this connection.     */
    uint64_t before = w->credit;
    if (frame.type == WEIR_WELCOME || frame.type == WEIR_CREDIT)
        w->credit = UINT64_MAX; // checked closely by the unit test
    weir_outlet_recv(w->outlet, &frame);
    if (w->credit == UINT64_MAX && frame.type == WEIR_ACK) w->credit = before;
}

static void tell_inlet(world *w)
{
    uint8_t id = (uint8_t)(operand(w) % 8);
    weir_frame frame = make_frame(w);
    weir_block *body = NULL;
    static const weir_run run = {.records = 1};
    if (frame.type == WEIR_BLOCK) {
        body = make_block(frame.bytes % 40000);
        frame.records = 1;
        frame.runs = &run;
        frame.run_count = 1;
    }
    if (frame.type == WEIR_BLOCK && frame.barrier == 5) weir_block_destroy(&body);
    weir_inlet_recv(w->inlet, &id, 1, &frame, &body);
    CHECK(!body);
}

static void act(world *w)
{
    taken *t = w->peer_count ? &w->peers[operand(w) % w->peer_count] : NULL;
    weir_block *block;
    uint64_t sequence;
    switch (operand(w) % 9) {
    case 0:
        block = make_block(operand(w) * 100 % 20000);
        weir_outlet_send(w->outlet, &block, &sequence);
        CHECK(sequence == ++w->sent);
        break;
    case 1:
        if (!weir_outlet_token(w->outlet, WEIR_TOKEN_FLUSH, 1, &sequence))
            CHECK(sequence == ++w->sent);
        break;
    case 2:
        weir_outlet_barrier(w->outlet, operand(w) + 1, 1, 0);
        break;
    case 3:
        w->credit = 0;
        weir_outlet_connect(w->outlet);
        break;
    case 4:
        weir_outlet_disconnect(w->outlet);
        break;
    case 5:
        weir_outlet_settle(w->outlet, operand(w));
        break;
    case 6:
        if (t) weir_inlet_grant(w->inlet, t->peer, t->held);
        if (t) t->held = 0;
        break;
    case 7:
        if (t && t->last) weir_inlet_ack(w->inlet, t->peer, t->last);
        if (t) t->tokens = 0;
        break;
    default:
        weir_inlet_flush(w->inlet);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int quiet = -1;
    if (quiet < 0)
        weir_log_configure(WEIR_ERROR, false, quiet = open("/dev/null", O_WRONLY));
    if (size > 4096) return 0;
    world w = {.at = data, .end = data + size};
    w.outlet = weir_outlet_new(&(weir_outlet_config){.node = "n",
                                                     .name = "o",
                                                     .session = 1,
                                                     .window_bytes = window,
                                                     .events = &outlet_events,
                                                     .arg = &w});
    w.inlet = weir_inlet_new(&(weir_inlet_config){.window_bytes = window,
                                                  .block_max = block_max,
                                                  .foreign = true,
                                                  .events = &inlet_events,
                                                  .arg = &w});
    while (w.at < w.end) {
        uint64_t what = operand(&w) % 3;
        if (what == 0)
            tell_outlet(&w);
        else if (what == 1)
            tell_inlet(&w);
        else
            act(&w);
    }
    weir_outlet_destroy(&w.outlet);
    weir_inlet_destroy(&w.inlet);
    return 0;
}
