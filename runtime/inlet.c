#include "runtime/link.h"
#include "runtime/log.h"
#include <assert.h>
#include <stdio.h>

#define ID_MAX 256 // bytes of a routing id, libzmq's own limit
#define PEERS_MAX 4096
#define TOKENS_MAX 16 // outstanding, of one peer

struct weir_peer {
    uint8_t id[ID_MAX]; // routing id of the present connection
    size_t id_size;     // 0: not connected
    uint64_t session;
    char node[64], outlet[128];
    uint64_t received;  // last sequence taken in order
    uint64_t safe;      // last sequence acknowledged by the owner
    uint64_t safe_sent; // last sequence told to the peer
    uint64_t barrier;   // last barrier id seen
    uint64_t credit;    // granted and not yet spent
    uint64_t held;      // received and not yet handed on, bytes
    uint64_t wanted;    // NEED: the size of the peer's next block
    bool closed;        // after our CLOSE: what still comes is dropped until HELLO
    bool discarding;    // after a NACK: until the next HELLO
    uint64_t tokens[TOKENS_MAX]; // sequences of those not yet acknowledged
    size_t token_count;
    bool dirty; // has something for weir_inlet_flush
    void *data; // the owner's
    weir_peer *next;
    weir_peer *next_dirty;
};

struct weir_inlet {
    weir_inlet_config config;
    weir_peer *peers; // few: a list
    size_t peer_count;
    weir_peer *dirty;
    bool complained; // about a message without HELLO: logged once
};

weir_inlet *weir_inlet_new(const weir_inlet_config *config)
{
    weir_inlet *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    return self;
}

void weir_inlet_destroy(weir_inlet **self_p)
{
    weir_inlet *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    while (self->peers) {
        weir_peer *peer = self->peers;
        self->peers = peer->next;
        free(peer);
    }
    free(self);
}

/* --- Peers ------------------------------------------------------------------------- */

static bool is_connected(const weir_peer *peer)
{
    return peer->id_size && !peer->closed;
}

static weir_peer *find_connection(weir_inlet *self, const void *id, size_t id_size)
{
    for (weir_peer *p = self->peers; p; p = p->next)
        if (p->id_size == id_size && memcmp(p->id, id, id_size) == 0) return p;
    return NULL;
}

static weir_peer *find_session(weir_inlet *self, uint64_t session)
{
    for (weir_peer *p = self->peers; p; p = p->next)
        if (p->session == session) return p;
    return NULL;
}

static weir_peer *add_peer(weir_inlet *self, const weir_frame *hello)
{
    if (self->peer_count == PEERS_MAX) return NULL;
    weir_peer *peer = calloc(1, sizeof *peer);
    if (!peer) abort();
    peer->session = hello->session;
    peer->received = hello->base - 1;
    memcpy(peer->node, hello->node, sizeof peer->node);
    memcpy(peer->outlet, hello->outlet, sizeof peer->outlet);
    peer->next = self->peers;
    self->peers = peer;
    self->peer_count++;
    return peer;
}

static void mark_dirty(weir_inlet *self, weir_peer *peer)
{
    if (peer->dirty) return;
    peer->dirty = true;
    peer->next_dirty = self->dirty;
    self->dirty = peer;
}

/* --- Sending ----------------------------------------------------------------------- */

static void send_to(weir_inlet *self, weir_peer *peer, const weir_frame *frame)
{
    if (!is_connected(peer)) return;
    if (self->config.events->send(self->config.arg, peer->id, peer->id_size, frame))
        peer->id_size = 0;
}

static void send_close(weir_inlet *self, const void *id, size_t id_size, uint32_t stage,
                       const char *code, const char *text)
{
    weir_frame frame = {.type = WEIR_CLOSE, .stage = stage};
    snprintf(frame.code, sizeof frame.code, "%s", code);
    snprintf(frame.text, sizeof frame.text, "%s", text);
    self->config.events->send(self->config.arg, id, id_size, &frame);
}

static void close_peer(weir_inlet *self, weir_peer *peer, const char *code,
                       const char *text)
{
    weir_log(WEIR_WARN, "link closed peer=%s outlet=%s code=%s text=\"%s\"", peer->node,
             peer->outlet, code, text);
    send_close(self, peer->id, peer->id_size, 0, code, text);
    peer->closed = true;
}

/*  Tokens behind the sequence are forgotten; with `upto`, those up to it.     */
static void drop_tokens(weir_peer *peer, uint64_t sequence, bool upto)
{
    size_t kept = 0;
    for (size_t i = 0; i < peer->token_count; i++)
        if ((peer->tokens[i] <= sequence) != upto) peer->tokens[kept++] = peer->tokens[i];
    peer->token_count = kept;
}

void weir_inlet_nack(weir_inlet *self, weir_peer *peer, uint64_t sequence,
                     const char *code, const char *text, bool retryable)
{
    weir_frame frame = {.type = WEIR_NACK, .sequence = sequence, .retryable = retryable};
    snprintf(frame.code, sizeof frame.code, "%s", code);
    snprintf(frame.text, sizeof frame.text, "%s", text);
    if (retryable) {
        peer->discarding = true;
        if (peer->received >= sequence) peer->received = sequence - 1;
        drop_tokens(peer, peer->received, false);
    }
    send_to(self, peer, &frame);
}

/*  What may be granted now: the window less what is held and what is unspent.  */
static uint64_t free_window(const weir_inlet *self, const weir_peer *peer)
{
    uint64_t used = peer->held + peer->credit;
    return used < self->config.window_bytes ? self->config.window_bytes - used : 0;
}

/*  Small grants are gathered: a CREDIT a block would double the messages. A peer
    that said NEED gets what there is, and when nothing of it is held any more
    also a block that is larger than the whole window.                         */
static void grant(weir_inlet *self, weir_peer *peer)
{
    uint64_t bytes = free_window(self, peer);
    if (peer->wanted > peer->credit + bytes && peer->held == 0)
        bytes = peer->wanted - peer->credit;
    bool worth = bytes >= self->config.window_bytes / 4;
    bool needed = peer->wanted && peer->credit + bytes >= peer->wanted;
    if (bytes == 0 || !(worth || needed)) return;
    peer->credit += bytes;
    if (peer->credit >= peer->wanted) peer->wanted = 0;
    weir_frame frame = {.type = WEIR_CREDIT, .bytes = bytes, .barrier = peer->barrier};
    send_to(self, peer, &frame);
}

void weir_inlet_flush(weir_inlet *self)
{
    while (self->dirty) {
        weir_peer *peer = self->dirty;
        self->dirty = peer->next_dirty;
        peer->dirty = false;
        if (!is_connected(peer)) continue;
        if (peer->safe > peer->safe_sent) {
            peer->safe_sent = peer->safe;
            send_to(self, peer, &(weir_frame){.type = WEIR_ACK, .sequence = peer->safe});
        }
        grant(self, peer);
    }
}

void weir_inlet_grant(weir_inlet *self, weir_peer *peer, size_t bytes)
{
    assert(peer->held >= bytes);
    peer->held -= bytes;
    mark_dirty(self, peer);
}

void weir_inlet_ack(weir_inlet *self, weir_peer *peer, uint64_t sequence)
{
    if (sequence <= peer->safe) return;
    peer->safe = sequence;
    drop_tokens(peer, sequence, true);
    mark_dirty(self, peer);
}

/* --- Receiving --------------------------------------------------------------------- */

static void recv_hello(weir_inlet *self, const void *id, size_t id_size,
                       const weir_frame *frame)
{
    if (frame->version != WEIR_WIRE_VERSION) {
        send_close(self, id, id_size, 0, "VERSION", "this inlet speaks version 1");
        return;
    }
    if (frame->session == 0 || frame->base == 0) {
        send_close(self, id, id_size, 0, "HELLO", "session and base must not be 0");
        return;
    }
    weir_peer *peer = find_session(self, frame->session);
    if (!peer) peer = add_peer(self, frame);
    if (!peer) {
        send_close(self, id, id_size, 0, "PEERS", "this inlet has too many peers");
        return;
    }
    /*  A connection carries one session: an older one on it is at its end.    */
    weir_peer *other = find_connection(self, id, id_size);
    if (other) other->id_size = 0;
    memcpy(peer->id, id, id_size);
    peer->id_size = id_size;
    peer->closed = false;
    peer->credit = 0;
    peer->wanted = 0;
    peer->discarding = false;
    peer->credit = free_window(self, peer);
    peer->safe_sent = peer->safe;
    send_to(self, peer,
            &(weir_frame){.type = WEIR_WELCOME,
                          .version = WEIR_WIRE_VERSION,
                          .bytes = peer->credit,
                          .sequence = peer->safe,
                          .barrier = peer->barrier});
}

/*  Sequences come without gaps; what is already here is dropped. True: take it. */
static bool in_order(weir_inlet *self, weir_peer *peer, uint64_t sequence)
{
    if (peer->discarding || sequence <= peer->received) return false;
    if (sequence == peer->received + 1) return true;
    weir_inlet_nack(self, peer, peer->received + 1, "GAP", "a sequence is missing", true);
    return false;
}

static void recv_block(weir_inlet *self, weir_peer *peer, const weir_frame *frame,
                       weir_block **block_p)
{
    uint64_t cost = weir_block_cost(*block_p);
    if (cost > peer->credit) {
        close_peer(self, peer, "OVERRUN", "more was sent than was granted");
        return;
    }
    if (self->config.foreign && weir_block_check(*block_p)) {
        close_peer(self, peer, "MALFORMED", "a body is not what its header says");
        return;
    }
    peer->credit -= cost;
    if (!in_order(self, peer, frame->sequence)) {
        mark_dirty(self, peer);
        return;
    }
    peer->received = frame->sequence;
    peer->held += cost;
    self->config.events->block(self->config.arg, peer, frame->sequence, block_p);
}

static void recv_barrier(weir_inlet *self, weir_peer *peer, const weir_frame *frame)
{
    if (peer->discarding) return;
    /*  Its sender has given up its credit all the same.                       */
    if (frame->barrier <= peer->barrier) {
        peer->credit = 0;
        mark_dirty(self, peer);
        return;
    }
    if (frame->sequence != peer->received) {
        weir_inlet_nack(self, peer, peer->received + 1, "GAP", "a sequence is missing",
                        true);
        return;
    }
    peer->barrier = frame->barrier;
    peer->credit = 0;
    mark_dirty(self, peer);
    if (self->config.events->barrier)
        self->config.events->barrier(self->config.arg, peer, frame->barrier, frame->epoch,
                                     frame->flags);
}

static void recv_token(weir_inlet *self, weir_peer *peer, const weir_frame *frame)
{
    if (!in_order(self, peer, frame->sequence)) return;
    if (peer->token_count == TOKENS_MAX) {
        close_peer(self, peer, "OVERRUN", "more than 16 tokens are outstanding");
        return;
    }
    peer->tokens[peer->token_count++] = frame->sequence;
    peer->received = frame->sequence;
    self->config.events->token(self->config.arg, peer, frame->sequence, frame->kind,
                               frame->argument);
}

/*  A block above the window is let in alone, so its size must be believable.  */
static void recv_need(weir_inlet *self, weir_peer *peer, uint64_t bytes)
{
    uint64_t most = self->config.block_max;
    if (most < self->config.window_bytes) most = self->config.window_bytes;
    if (self->config.block_max && bytes > most) {
        close_peer(self, peer, "TOO_LARGE", "a block is larger than this inlet takes");
        return;
    }
    peer->wanted = bytes;
    mark_dirty(self, peer);
}

void weir_inlet_recv(weir_inlet *self, const void *id, size_t id_size,
                     const weir_frame *frame, weir_block **body_p)
{
    if (id_size == 0 || id_size > ID_MAX) {
        weir_block_destroy(body_p);
        return;
    }
    weir_peer *peer = find_connection(self, id, id_size);
    if (frame->stage) {
        send_close(self, id, id_size, frame->stage, "STAGE",
                   "this link has stage 0 only");
    } else if (frame->type == WEIR_HELLO) {
        recv_hello(self, id, id_size, frame);
    } else if (!peer) {
        if (!self->complained)
            weir_log(WEIR_WARN, "message without HELLO type=%d", (int)frame->type);
        self->complained = true;
        send_close(self, id, id_size, 0, "HELLO", "say HELLO first");
    } else if (peer->closed) {
        /*  It was sent before our CLOSE arrived.                              */
    } else if (frame->type == WEIR_BLOCK && *body_p) {
        recv_block(self, peer, frame, body_p);
    } else if (frame->type == WEIR_BARRIER) {
        recv_barrier(self, peer, frame);
    } else if (frame->type == WEIR_TOKEN) {
        recv_token(self, peer, frame);
    } else if (frame->type == WEIR_NEED) {
        recv_need(self, peer, frame->bytes);
    } else if (frame->type == WEIR_CLOSE) {
        peer->id_size = 0;
    } else {
        close_peer(self, peer, "TYPE", "an inlet does not take this message");
    }
    weir_block_destroy(body_p);
}

/* --- Looking ----------------------------------------------------------------------- */

const char *weir_peer_node(const weir_peer *self)
{
    return self->node;
}

const char *weir_peer_outlet(const weir_peer *self)
{
    return self->outlet;
}

void **weir_peer_data(weir_peer *self)
{
    return &self->data;
}

weir_peer *weir_inlet_peers(const weir_inlet *self)
{
    return self->peers;
}

weir_peer *weir_peer_next(const weir_peer *self)
{
    return self->next;
}
