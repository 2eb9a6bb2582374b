#include "runtime/inlet_private.h"
#include "runtime/log.h"
#include <assert.h>
#include <stdio.h>
#include <xxhash.h>

weir_inlet *weir_inlet_new(const weir_inlet_config *config)
{
    weir_inlet *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    return self;
}

static void free_peer(weir_peer *peer)
{
    free(peer->name);
    free(peer->key);
    free(peer);
}

void weir_inlet_destroy(weir_inlet **self_p)
{
    weir_inlet *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    while (self->peers) {
        weir_peer *peer = self->peers;
        self->peers = peer->next;
        free_peer(peer);
    }
    free(self->ended);
    free(self);
}

/* --- Peers ------------------------------------------------------------------------- */

static weir_peer **id_bucket(weir_inlet *self, const void *id, size_t size)
{
    return &self->by_id[XXH3_64bits(id, size) % BUCKETS];
}

static weir_peer **session_bucket(weir_inlet *self, uint64_t session)
{
    return &self->by_session[session % BUCKETS];
}

static bool has_id(const weir_peer *peer, const void *id, size_t size)
{
    return peer->id_size == size && memcmp(peer->id, id, size) == 0;
}

static weir_peer *find_connection(weir_inlet *self, const void *id, size_t id_size)
{
    if (self->recent && has_id(self->recent, id, id_size)) return self->recent;
    for (weir_peer *p = *id_bucket(self, id, id_size); p; p = p->next_id)
        if (has_id(p, id, id_size)) return self->recent = p;
    return NULL;
}

static weir_peer *find_session(weir_inlet *self, uint64_t session)
{
    for (weir_peer *p = *session_bucket(self, session); p; p = p->next_session)
        if (p->session == session) return p;
    return NULL;
}

static void unset_id(weir_inlet *self, weir_peer *peer)
{
    if (!peer->id_size) return;
    inlet_set_credit(self, peer, 0);
    if (self->config.pool_bytes && self->outsize == peer) self->outsize = NULL;
    if (!peer->lost) self->stats.connected--;
    weir_peer **at = id_bucket(self, peer->id, peer->id_size);
    while (*at != peer)
        at = &(*at)->next_id;
    *at = peer->next_id;
    peer->id_size = 0;
    peer->lost = false;
    peer->fd = -1;
}

static void set_id(weir_inlet *self, weir_peer *peer, const void *id, size_t id_size)
{
    unset_id(self, peer);
    memcpy(peer->id, id, id_size);
    peer->id_size = id_size;
    weir_peer **bucket = id_bucket(self, id, id_size);
    peer->next_id = *bucket;
    *bucket = peer;
    self->stats.connected++;
}

static void link_peer(weir_inlet *self, weir_peer *peer)
{
    peer->previous = NULL;
    peer->next = self->peers;
    if (self->peers) self->peers->previous = peer;
    self->peers = peer;
    if (!self->last_peer) self->last_peer = peer;
}

static void unlink_peer(weir_inlet *self, weir_peer *peer)
{
    if (peer->next)
        peer->next->previous = peer->previous;
    else
        self->last_peer = peer->previous;
    if (peer->previous)
        peer->previous->next = peer->next;
    else
        self->peers = peer->next;
}

/*  Nothing before its base was ever ours.                                     */
static bool is_all_safe(const weir_peer *peer)
{
    return peer->received < peer->base || peer->safe >= peer->received;
}

/*  A session that may never come back, all of it safe, makes room for a new one: the
    one whose HELLO is the oldest.                                             */
static bool forget_one(weir_inlet *self)
{
    weir_peer *peer = self->last_peer;
    while (peer && (inlet_is_connected(peer) || peer->dirty || !is_all_safe(peer)))
        peer = peer->previous;
    if (!peer) return false;
    if (self->config.events->forget) self->config.events->forget(self->config.arg, peer);
    unset_id(self, peer);
    inlet_set_held(self, peer, 0);
    weir_peer **at = session_bucket(self, peer->session);
    while (*at != peer)
        at = &(*at)->next_session;
    *at = peer->next_session;
    unlink_peer(self, peer);
    if (self->recent == peer) self->recent = NULL;
    if (self->outsize == peer) self->outsize = NULL;
    free_peer(peer);
    self->peer_count--;
    return true;
}

static weir_peer *add_peer(weir_inlet *self, const weir_frame *hello, const char *name)
{
    if (self->peer_count == PEERS_MAX && !forget_one(self)) return NULL;
    weir_peer *peer = calloc(1, sizeof *peer);
    if (!peer) abort();
    peer->fd = -1;
    peer->session = hello->session;
    peer->base = hello->base;
    peer->received = hello->base - 1;
    peer->name = name ? strdup(name) : NULL;
    memcpy(peer->node, hello->node, sizeof peer->node);
    memcpy(peer->outlet, hello->outlet, sizeof peer->outlet);
    weir_peer **bucket = session_bucket(self, peer->session);
    peer->next_session = *bucket;
    *bucket = peer;
    link_peer(self, peer);
    self->peer_count++;
    return peer;
}

/* --- Ending ------------------------------------------------------------------------ */

/*  The same refusal of the same peer is logged once a minute. Who has no certificate is
    known by his address: what he says of himself may be another name each time.  */
static void complain(weir_inlet *self, const char *who, const weir_peer *peer,
                     const char *code, const char *text)
{
    self->stats.refused++;
    if (!weir_once_says(&self->complaints, who, code)) return;
    weir_log(WEIR_WARN, "link closed peer=%s%s%s%s%s code=%s text=\"%s\"", who,
             peer ? " node=" : "", peer ? peer->node : "", peer ? " outlet=" : "",
             peer ? peer->outlet : "", code, text);
}

static void complain_of(weir_inlet *self, const weir_peer *peer, const char *code,
                        const char *text)
{
    const char *address = *peer->address ? peer->address : peer->node;
    complain(self, peer->name ? peer->name : address, peer, code, text);
}

static void hang_up(weir_inlet *self, int fd)
{
    if (fd >= 0 && self->config.events->hang_up)
        self->config.events->hang_up(self->config.arg, fd);
}

/*  Its connection has ended. What that brought and was not read yet is still his.  */
static void lose_peer(weir_inlet *self, weir_peer *peer)
{
    self->outstanding -= peer->credit;
    self->unspent -= peer->credit;
    self->stats.connected--;
    peer->lost = true;
    peer->fd = -1;
}

void weir_inlet_send(weir_inlet *self, weir_peer *peer, const weir_frame *frame)
{
    if (!inlet_is_connected(peer)) return;
    weir_err err =
        self->config.events->send(self->config.arg, peer->id, peer->id_size, frame);
    if (!err) return;
    if (err == WEIR_EFULL) {
        complain_of(self, peer, "DEAF", "it does not read");
        peer->closed = true;
        hang_up(self, peer->fd);
    } else {
        lose_peer(self, peer);
    }
}

static void send_close(weir_inlet *self, const void *id, size_t id_size, uint32_t stage,
                       const char *code, const char *text, bool retryable)
{
    weir_frame frame = {.type = WEIR_CLOSE, .stage = stage, .retryable = retryable};
    snprintf(frame.code, sizeof frame.code, "%s", code);
    snprintf(frame.text, sizeof frame.text, "%s", text);
    self->config.events->send(self->config.arg, id, id_size, &frame);
}

static void end_peer(weir_inlet *self, weir_peer *peer, const char *code,
                     const char *text, bool retryable)
{
    if (!inlet_is_connected(peer)) return;
    send_close(self, peer->id, peer->id_size, 0, code, text, retryable);
    peer->closed = true;
    hang_up(self, peer->fd);
}

static void close_peer(weir_inlet *self, weir_peer *peer, const char *code,
                       const char *text)
{
    complain_of(self, peer, code, text);
    end_peer(self, peer, code, text, false);
}

void weir_inlet_close_unless(weir_inlet *self, weir_may_stay *keep, void *arg,
                             const char *code, const char *text)
{
    for (weir_peer *p = self->peers; p; p = p->next) {
        if (!inlet_is_connected(p) || (keep && keep(arg, p->name, p->key))) continue;
        weir_log(WEIR_INFO, "link closed peer=%s outlet=%s code=%s", p->node, p->outlet,
                 code);
        end_peer(self, p, code, text, keep == NULL);
    }
}

void weir_inlet_close_all(weir_inlet *self, const char *code, const char *text)
{
    weir_inlet_close_unless(self, NULL, NULL, code, text);
}

static bool has_ended(const weir_inlet *self, const void *id, size_t id_size)
{
    uint64_t hash = XXH3_64bits(id, id_size);
    for (size_t i = 0; i < ENDED_MAX && i < self->ended_count; i++)
        if (self->ended[i] == hash) return true;
    return false;
}

static void note_ended(weir_inlet *self, const void *id, size_t id_size)
{
    if (!self->ended) self->ended = calloc(ENDED_MAX, sizeof *self->ended);
    if (!self->ended) abort();
    self->ended[self->ended_count++ % ENDED_MAX] = XXH3_64bits(id, id_size);
}

/*  A connection that is no peer's has done something wrong. What still comes from it
    is dropped: answering again and again would fill its queue.                */
static void close_stranger(weir_inlet *self, const void *id, size_t id_size,
                           const char *code, const char *text, bool retryable)
{
    weir_identity who = {.address = "a neighbour", .fd = -1};
    if (has_ended(self, id, id_size)) return;
    if (self->config.events->identify)
        self->config.events->identify(self->config.arg, &who);
    complain(self, who.name ? who.name : who.address, NULL, code, text);
    send_close(self, id, id_size, 0, code, text, retryable);
    hang_up(self, who.fd);
    if (self->config.foreign) note_ended(self, id, id_size); // else a new HELLO mends it
}

void weir_inlet_lost(weir_inlet *self, int fd)
{
    for (weir_peer *p = self->peers; p; p = p->next)
        if (p->fd == fd && p->id_size && !p->lost) lose_peer(self, p);
}

/* --- Answering --------------------------------------------------------------------- */

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
    weir_inlet_send(self, peer, &frame);
}

void weir_inlet_flush(weir_inlet *self)
{
    weir_inlet_look_at_outsize(self);
    while (self->dirty) {
        weir_peer *peer = self->dirty;
        self->dirty = peer->next_dirty;
        peer->dirty = false;
        if (!inlet_is_connected(peer)) continue;
        if (peer->safe > peer->safe_sent) {
            peer->safe_sent = peer->safe;
            weir_inlet_send(self, peer,
                            &(weir_frame){.type = WEIR_ACK, .sequence = peer->safe});
        }
        weir_inlet_grant_peer(self, peer);
    }
}

weir_due weir_inlet_due(const weir_inlet *self)
{
    for (const weir_peer *p = self->dirty; p; p = p->next_dirty)
        if (p->wanted || p->credit < p->target / 2) return WEIR_DUE_NOW;
    return self->dirty ? WEIR_DUE_SOON : WEIR_NOTHING_DUE;
}

void weir_inlet_grant(weir_inlet *self, weir_peer *peer, size_t bytes)
{
    assert(peer->held >= bytes);
    inlet_set_held(self, peer, peer->held - bytes);
    inlet_mark_dirty(self, peer);
}

void weir_inlet_hold(weir_inlet *self, bool held)
{
    if (self->held == held) return;
    self->held = held;
    for (weir_peer *p = self->peers; p && !held; p = p->next)
        if (inlet_is_connected(p)) inlet_mark_dirty(self, p);
}

void weir_inlet_drain(weir_inlet *self)
{
    self->draining = true;
}

void weir_inlet_ack(weir_inlet *self, weir_peer *peer, uint64_t sequence)
{
    if (sequence <= peer->safe) return;
    peer->safe = sequence;
    drop_tokens(peer, sequence, true);
    inlet_mark_dirty(self, peer);
}

/* --- HELLO ------------------------------------------------------------------------- */

/*  The session goes on over another connection. What the old one has sent may still be
    read, and its descriptor may be the new one's by then: it is no stranger.  */
static void leave_connection(weir_inlet *self, weir_peer *peer)
{
    if (!self->config.foreign || !peer->id_size) return;
    end_peer(self, peer, "REPLACED", "the session goes on over another connection",
             false);
    note_ended(self, peer->id, peer->id_size);
}

static void welcome(weir_inlet *self, weir_peer *peer, const void *id, size_t id_size,
                    const weir_identity *who)
{
    /*  A connection carries one session: an older one on it is at its end.    */
    weir_peer *other = find_connection(self, id, id_size);
    if (other && other != peer) unset_id(self, other);
    if (!has_id(peer, id, id_size)) leave_connection(self, peer);
    set_id(self, peer, id, id_size);
    unlink_peer(self, peer);
    link_peer(self, peer);
    snprintf(peer->address, sizeof peer->address, "%s", who->address ? who->address : "");
    peer->fd = who->fd;
    free(peer->key);
    peer->key = who->key ? strdup(who->key) : NULL;
    peer->closed = peer->discarding = false;
    peer->wanted = peer->spent = 0;
    peer->target = weir_inlet_first_bytes(self);
    peer->safe_sent = peer->safe;
    if (!self->held) inlet_set_credit(self, peer, weir_inlet_free_window(self, peer));
    weir_inlet_send(self, peer,
                    &(weir_frame){.type = WEIR_WELCOME,
                                  .version = WEIR_WIRE_VERSION,
                                  .bytes = peer->credit,
                                  .sequence = peer->safe,
                                  .barrier = peer->barrier});
}

/*  A certificate's owner cannot take another's name, nor another's session.   */
static bool is_himself(const weir_frame *hello, const weir_peer *peer, const char *name)
{
    if (name && strcmp(name, hello->node)) return false;
    if (!peer) return true;
    return peer->name ? name && strcmp(name, peer->name) == 0 : !name;
}

static void recv_hello(weir_inlet *self, const void *id, size_t id_size,
                       const weir_frame *frame)
{
    weir_identity who = {.fd = -1};
    if (self->config.foreign && self->config.events->identify)
        self->config.events->identify(self->config.arg, &who);
    weir_peer *peer = find_session(self, frame->session);
    if (frame->version != WEIR_WIRE_VERSION)
        close_stranger(self, id, id_size, "VERSION", "this inlet speaks version 1",
                       false);
    else if (frame->session == 0 || frame->base == 0)
        close_stranger(self, id, id_size, "HELLO", "session and base must not be 0",
                       false);
    else if (who.revoked)
        close_stranger(self, id, id_size, "REVOKED",
                       "the certificate has no right to this any more", false);
    else if (!is_himself(frame, peer, who.name))
        close_stranger(self, id, id_size, "IDENTITY",
                       "the node is not the one that the certificate names", false);
    else if (self->draining)
        close_stranger(self, id, id_size, "DRAINING", "this inlet is about to end", true);
    else if (!peer && !(peer = add_peer(self, frame, who.name)))
        close_stranger(self, id, id_size, "PEERS", "this inlet has too many peers", true);
    else
        welcome(self, peer, id, id_size, &who);
}

/* --- Receiving --------------------------------------------------------------------- */

/*  Sequences come without gaps; what is already here is dropped. True: take it. */
static bool in_order(weir_inlet *self, weir_peer *peer, uint64_t sequence)
{
    if (peer->discarding || self->draining) return false;
    if (sequence <= peer->received) {
        self->stats.duplicates++;
        return false;
    }
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
    inlet_set_credit(self, peer, peer->credit - cost);
    weir_inlet_grow(self, peer, cost);
    if (!in_order(self, peer, frame->sequence)) {
        inlet_mark_dirty(self, peer);
        return;
    }
    peer->received = frame->sequence;
    inlet_set_held(self, peer, peer->held + cost);
    self->config.events->block(self->config.arg, peer, frame->sequence, block_p);
}

static void recv_barrier(weir_inlet *self, weir_peer *peer, const weir_frame *frame)
{
    if (peer->discarding) return;
    /*  Its sender has given up its credit all the same.                       */
    if (frame->barrier <= peer->barrier) {
        inlet_set_credit(self, peer, 0);
        inlet_mark_dirty(self, peer);
        return;
    }
    if (frame->sequence != peer->received) {
        weir_inlet_nack(self, peer, peer->received + 1, "GAP", "a sequence is missing",
                        true);
        return;
    }
    peer->barrier = frame->barrier;
    inlet_set_credit(self, peer, 0);
    inlet_mark_dirty(self, peer);
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
    if (bytes <= peer->credit) return; // granted meanwhile
    if (!peer->wanted) peer->asked = ++self->asks;
    peer->wanted = bytes;
    inlet_mark_dirty(self, peer);
}

/*  It said CLOSE: nothing more is to come over this connection.               */
static void leave(weir_inlet *self, weir_peer *peer)
{
    hang_up(self, peer->fd);
    if (self->config.foreign) note_ended(self, peer->id, peer->id_size);
    unset_id(self, peer);
}

/*  What a peer may send once it is welcome.                                   */
static void recv_from(weir_inlet *self, weir_peer *peer, const weir_frame *frame,
                      weir_block **body_p)
{
    switch (frame->type) {
    case WEIR_BLOCK:
        if (*body_p)
            recv_block(self, peer, frame, body_p);
        else
            close_peer(self, peer, "MALFORMED", "a block has no body");
        break;
    case WEIR_BARRIER:
        recv_barrier(self, peer, frame);
        break;
    case WEIR_TOKEN:
        recv_token(self, peer, frame);
        break;
    case WEIR_NEED:
        recv_need(self, peer, frame->bytes);
        break;
    case WEIR_CLOSE:
        leave(self, peer);
        break;
    default:
        close_peer(self, peer, "TYPE", "an inlet does not take this message");
    }
}

void weir_inlet_recv(weir_inlet *self, const void *id, size_t id_size,
                     const weir_frame *frame, weir_block **body_p)
{
    if (id_size > 0 && id_size <= ID_MAX) {
        weir_peer *peer = find_connection(self, id, id_size);
        if (peer && peer->closed && !(frame && frame->type == WEIR_HELLO)) {
            /*  It was sent before our CLOSE arrived.                          */
        } else if (!frame && peer) {
            close_peer(self, peer, "MALFORMED", "a message is none of this protocol");
        } else if (!frame) {
            close_stranger(self, id, id_size, "MALFORMED",
                           "a message is none of this protocol", false);
        } else if (frame->stage) {
            send_close(self, id, id_size, frame->stage, "STAGE",
                       "this link has stage 0 only", false);
        } else if (frame->type == WEIR_HELLO) {
            recv_hello(self, id, id_size, frame);
        } else if (!peer) {
            close_stranger(self, id, id_size, "HELLO", "say HELLO first", false);
        } else {
            recv_from(self, peer, frame, body_p);
        }
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

const char *weir_peer_name(const weir_peer *self)
{
    return self->name;
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

weir_inlet_stats weir_inlet_look(const weir_inlet *self)
{
    return self->stats;
}
