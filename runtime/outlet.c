#include "runtime/link.h"
#include "runtime/log.h"
#include <assert.h>
#include <stdio.h>

#define TOKENS_MAX 16

typedef enum { ITEM_BLOCK, ITEM_BARRIER, ITEM_TOKEN } item_type;

/*  What the outlet keeps, in order. Blocks and tokens have a sequence of their
    own; a barrier stands behind the sequence that it names.                   */
typedef struct {
    item_type type;
    bool refused; // final NACK, waits for settle
    bool settled;
    uint64_t sequence;
    size_t cost;               // of a block, in credit
    weir_block *block;         // owned reference
    uint64_t id, epoch, flags; // barrier
    weir_token_kind kind;      // token
    uint64_t argument;         // token
} item;

typedef enum { STATE_DOWN, STATE_GREETING, STATE_OPEN, STATE_CLOSED } outlet_state;

struct weir_outlet {
    weir_outlet_config config;
    char node[64], name[128];
    outlet_state state;
    item *items; // ring of capacity (a power of two)
    size_t first, count, capacity;
    size_t unsent;          // index behind `first` of the first unsent item
    uint64_t next_sequence; // of the next block or token
    uint64_t safe;          // everything up to it is safe or settled
    uint64_t acked;         // highest sequence that the peer has acknowledged
    uint64_t last_barrier;  // id of the last barrier sent on this connection
    uint64_t barrier_seen;  // highest barrier id that the peer says it has seen
    size_t kept_bytes;      // cost of the blocks in items
    uint64_t credit;        // bytes that may be sent
    bool need_said;         // NEED is on its way for the first unsent block
    int tokens;             // outstanding
    uint64_t highest_sent;  // to count replays
    uint64_t replayed;
};

static item *item_at(const weir_outlet *self, size_t i)
{
    return &self->items[(self->first + i) & (self->capacity - 1)];
}

weir_outlet *weir_outlet_new(const weir_outlet_config *config)
{
    assert(config->session != 0);
    weir_outlet *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    snprintf(self->node, sizeof self->node, "%s", config->node);
    snprintf(self->name, sizeof self->name, "%s", config->name);
    self->next_sequence = 1;
    return self;
}

void weir_outlet_destroy(weir_outlet **self_p)
{
    weir_outlet *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (size_t i = 0; i < self->count; i++)
        weir_block_destroy(&item_at(self, i)->block);
    free(self->items);
    free(self);
}

/* --- Queue ------------------------------------------------------------------------- */

static item *append(weir_outlet *self)
{
    if (self->count == self->capacity) {
        size_t capacity = self->capacity ? 2 * self->capacity : 64;
        item *items = malloc(capacity * sizeof *items);
        if (!items) abort();
        for (size_t i = 0; i < self->count; i++)
            items[i] = *item_at(self, i);
        free(self->items);
        self->items = items;
        self->first = 0;
        self->capacity = capacity;
    }
    item *new = item_at(self, self->count++);
    *new = (item){0};
    return new;
}

static void drop_first(weir_outlet *self)
{
    item *first = item_at(self, 0);
    self->kept_bytes -= first->cost;
    if (first->type == ITEM_TOKEN) self->tokens--;
    weir_block_destroy(&first->block);
    self->first = (self->first + 1) & (self->capacity - 1);
    self->count--;
    if (self->unsent) self->unsent--;
}

/* --- Sending ----------------------------------------------------------------------- */

static weir_err send_frame(weir_outlet *self, const weir_frame *frame, weir_block *body)
{
    weir_err err = self->config.events->send(self->config.arg, frame, body);
    if (err) weir_outlet_disconnect(self);
    return err;
}

static weir_err send_item(weir_outlet *self, item *it)
{
    weir_frame frame = {.sequence = it->sequence};
    switch (it->type) {
    case ITEM_BLOCK:
        frame.type = WEIR_BLOCK;
        frame.records = weir_block_records(it->block);
        frame.runs = weir_block_runs(it->block, &frame.run_count);
        if (it->sequence <= self->highest_sent) self->replayed++;
        break;
    case ITEM_BARRIER:
        frame.type = WEIR_BARRIER;
        frame.barrier = it->id;
        frame.epoch = it->epoch;
        frame.flags = it->flags;
        break;
    case ITEM_TOKEN:
        frame.type = WEIR_TOKEN;
        frame.kind = it->kind;
        frame.argument = it->argument;
        break;
    }
    if (it->sequence > self->highest_sent) self->highest_sent = it->sequence;
    return send_frame(self, &frame, it->block);
}

/*  Sends what credit allows, in order. No block follows a barrier before a new
    grant, because the barrier voids what is left. A barrier that the peer has seen
    stays in its place until what is before it is safe, and is not sent again: the
    peer would not void its grant a second time.                               */
static void pump(weir_outlet *self)
{
    while (self->state == STATE_OPEN && self->unsent < self->count) {
        item *it = item_at(self, self->unsent);
        if (it->type == ITEM_BARRIER && it->id <= self->barrier_seen) {
            self->unsent++;
            continue;
        }
        if (it->type == ITEM_BLOCK && it->cost > self->credit) {
            if (self->need_said) return;
            self->need_said = true;
            send_frame(self, &(weir_frame){.type = WEIR_NEED, .bytes = it->cost}, NULL);
            return;
        }
        if (send_item(self, it)) return;
        self->unsent++;
        self->need_said = false;
        if (it->type == ITEM_BLOCK) self->credit -= it->cost;
        if (it->type == ITEM_BARRIER) {
            self->last_barrier = it->id;
            self->credit = 0;
        }
    }
}

void weir_outlet_send(weir_outlet *self, weir_block **block_p, uint64_t *sequence)
{
    item *it = append(self);
    it->type = ITEM_BLOCK;
    it->block = *block_p;
    *block_p = NULL;
    it->cost = weir_block_cost(it->block);
    it->sequence = self->next_sequence++;
    self->kept_bytes += it->cost;
    *sequence = it->sequence;
    if (!self->config.corked) pump(self);
}

void weir_outlet_flush(weir_outlet *self)
{
    pump(self);
}

void weir_outlet_barrier(weir_outlet *self, uint64_t id, uint64_t epoch, uint64_t flags)
{
    item *it = append(self);
    it->type = ITEM_BARRIER;
    it->sequence = self->next_sequence - 1;
    it->id = id;
    it->epoch = epoch;
    it->flags = flags;
    pump(self);
}

weir_err weir_outlet_token(weir_outlet *self, weir_token_kind kind, uint64_t argument,
                           uint64_t *sequence)
{
    if (self->tokens == TOKENS_MAX) return WEIR_EFULL;
    item *it = append(self);
    it->type = ITEM_TOKEN;
    it->kind = kind;
    it->argument = argument;
    it->sequence = self->next_sequence++;
    self->tokens++;
    *sequence = it->sequence;
    pump(self);
    return WEIR_OK;
}

/* --- Connection -------------------------------------------------------------------- */

weir_err weir_outlet_connect(weir_outlet *self)
{
    weir_frame hello = {.type = WEIR_HELLO,
                        .version = WEIR_WIRE_VERSION,
                        .session = self->config.session,
                        .base = self->safe + 1};
    memcpy(hello.node, self->node, sizeof hello.node);
    memcpy(hello.outlet, self->name, sizeof hello.outlet);
    self->state = STATE_GREETING;
    return send_frame(self, &hello, NULL);
}

void weir_outlet_disconnect(weir_outlet *self)
{
    if (self->state == STATE_CLOSED) return;
    self->state = STATE_DOWN;
    self->credit = 0;
    self->need_said = false;
}

/*  An ACK may overtake a barrier that stands behind what it acknowledges, and the
    barrier be lost after that: it is kept until the peer says that it has seen it. */
static bool is_over(const weir_outlet *self, const item *it)
{
    if (it->type == ITEM_BARRIER) return it->id <= self->barrier_seen;
    if (it->refused) return it->settled;
    return it->sequence <= self->acked;
}

/*  Gives up what is over, and tells the owner the highest sequence of it.     */
static void give_up_safe(weir_outlet *self)
{
    uint64_t before = self->safe;
    while (self->count && is_over(self, item_at(self, 0))) {
        if (item_at(self, 0)->sequence > self->safe)
            self->safe = item_at(self, 0)->sequence;
        drop_first(self);
    }
    if (self->safe > before) self->config.events->acked(self->config.arg, self->safe);
}

/*  Nothing can be safe that was never sent.                                   */
static weir_err acknowledge(weir_outlet *self, uint64_t sequence)
{
    if (sequence > self->highest_sent) return WEIR_EPROTO;
    if (sequence > self->acked) self->acked = sequence;
    give_up_safe(self);
    return WEIR_OK;
}

static void note_barrier(weir_outlet *self, uint64_t id)
{
    if (id <= self->barrier_seen) return;
    self->barrier_seen = id;
    give_up_safe(self);
}

static weir_err welcome(weir_outlet *self, const weir_frame *frame)
{
    if (self->state != STATE_GREETING) return WEIR_OK;
    if (frame->version != WEIR_WIRE_VERSION) return WEIR_EPROTO;
    weir_err err = acknowledge(self, frame->sequence);
    if (err) return err;
    self->barrier_seen = frame->barrier; // of an inlet that began anew: 0
    give_up_safe(self);
    self->state = STATE_OPEN;
    self->credit = frame->bytes;
    self->last_barrier = frame->barrier;
    self->need_said = false;
    self->unsent = 0; // everything that is still kept goes again
    pump(self);
    return WEIR_OK;
}

static void credit(weir_outlet *self, const weir_frame *frame)
{
    if (self->state != STATE_OPEN) return;
    note_barrier(self, frame->barrier);
    /*  A grant that was on its way when the barrier was sent is void.         */
    if (frame->barrier < self->last_barrier) return;
    bool fits = frame->bytes <= UINT64_MAX - self->credit;
    self->credit = fits ? self->credit + frame->bytes : UINT64_MAX;
    pump(self);
}

static item *find_item(weir_outlet *self, uint64_t sequence)
{
    for (size_t i = 0; i < self->count; i++) {
        item *it = item_at(self, i);
        if (it->type != ITEM_BARRIER && it->sequence == sequence) return it;
    }
    return NULL;
}

static weir_err refused(weir_outlet *self, const weir_frame *frame)
{
    if (frame->retryable) {
        if (self->state != STATE_OPEN) return WEIR_OK;
        weir_outlet_disconnect(self);
        self->config.events->closed(self->config.arg, frame->code, frame->text, true);
        return WEIR_OK;
    }
    if (frame->sequence > self->highest_sent) return WEIR_EPROTO;
    item *it = find_item(self, frame->sequence);
    if (!it || it->refused) return WEIR_OK;
    it->refused = true;
    self->config.events->refused(self->config.arg, frame->sequence, it->block,
                                 frame->code, frame->text);
    return WEIR_OK;
}

void weir_outlet_settle(weir_outlet *self, uint64_t sequence)
{
    item *it = find_item(self, sequence);
    if (!it || !it->refused) return;
    it->settled = true;
    give_up_safe(self);
}

weir_err weir_outlet_recv(weir_outlet *self, const weir_frame *frame)
{
    switch (frame->type) {
    case WEIR_WELCOME:
        return welcome(self, frame);
    case WEIR_CREDIT:
        credit(self, frame);
        return WEIR_OK;
    case WEIR_ACK:
        return acknowledge(self, frame->sequence);
    case WEIR_NACK:
        return refused(self, frame);
    case WEIR_CLOSE:
        if (self->state == STATE_CLOSED) return WEIR_OK;
        weir_outlet_disconnect(self);
        if (!frame->retryable) self->state = STATE_CLOSED;
        self->config.events->closed(self->config.arg, frame->code, frame->text,
                                    frame->retryable);
        return WEIR_OK;
    default:
        return WEIR_EPROTO;
    }
}

/* --- Looking ----------------------------------------------------------------------- */

bool weir_outlet_has_room(const weir_outlet *self)
{
    return self->kept_bytes < self->config.window_bytes;
}

bool weir_outlet_is_open(const weir_outlet *self)
{
    return self->state == STATE_OPEN;
}

bool weir_outlet_is_starved(const weir_outlet *self)
{
    return self->state == STATE_OPEN && self->unsent < self->count;
}

size_t weir_outlet_kept_bytes(const weir_outlet *self)
{
    return self->kept_bytes;
}

uint64_t weir_outlet_replayed(const weir_outlet *self)
{
    return self->replayed;
}

const char *weir_outlet_name(const weir_outlet *self)
{
    return self->name;
}
