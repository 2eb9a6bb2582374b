#include "runtime/link.h"
#include "runtime/log.h"
#include "runtime/once.h"
#include <assert.h>
#include <stdio.h>
#include <xxhash.h>

#define ID_MAX 256 // bytes of a routing id, libzmq's own limit
#define PEERS_MAX 4096
#define BUCKETS 256    // of each of the two tables
#define TOKENS_MAX 16  // outstanding, of one peer
#define ENDED_MAX 4096 // connections that have ended and that we may still hear

/*  What a foreign peer is granted at first when there are very many: with less than two
    blocks under way it would ask by NEED for each.                            */
static const size_t least_first_bytes = 192 << 10;

struct weir_peer {
    uint8_t id[ID_MAX]; // routing id of the present connection
    size_t id_size;     // 0: not connected
    bool lost;          // the connection has ended: what it sent may still be read
    bool closed;        // after our CLOSE: what still comes is dropped until HELLO
    bool discarding;    // after a NACK: until the next HELLO
    bool dirty;         // has something for weir_inlet_flush
    int fd;             // of the connection; -1: unknown
    char *name;         // authenticated; NULL: none; owned
    char address[64];   // of the present connection, for people; "" within a process
    char *key;          // of the connection's certificate; NULL: none; owned
    uint64_t session;
    char node[64], outlet[128];
    uint64_t base;               // of its first HELLO
    uint64_t received;           // last sequence taken in order
    uint64_t safe;               // last sequence acknowledged by the owner
    uint64_t safe_sent;          // last sequence told to the peer
    uint64_t barrier;            // last barrier id seen
    uint64_t credit;             // granted and not yet spent
    uint64_t held;               // received and not yet handed on, bytes
    uint64_t wanted;             // NEED: the size of the peer's next block
    uint64_t asked;              // number of that NEED among those of all peers
    uint64_t target;             // credit and held together may reach it
    uint64_t spent;              // since target grew last
    uint64_t tokens[TOKENS_MAX]; // sequences of those not yet acknowledged
    size_t token_count;
    void *data;                 // the owner's
    weir_peer *next, *previous; // of all, the newest HELLO first
    weir_peer *next_dirty;
    weir_peer *next_id, *next_session; // in their buckets
};

struct weir_inlet {
    weir_inlet_config config;
    weir_peer *peers, *last_peer;
    size_t peer_count;
    weir_peer *by_id[BUCKETS], *by_session[BUCKETS];
    weir_peer *recent; // of the last message
    weir_peer *dirty;
    bool held, draining;
    uint64_t outstanding; // credit and held of all peers
    uint64_t unspent;     // the credit of it
    weir_peer *outsize;   // whose block was let in beyond the total, or whose NEED waits
                          // until the pool has room for it; NULL: none
    bool crowded;         // others wait for that
    uint64_t asks;        // NEEDs so far
    weir_inlet_stats stats;
    uint64_t *ended; // ring of hashes of their ids, ENDED_MAX; NULL: none has ended
    size_t ended_count;
    weir_once complaints;
};

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

static bool is_connected(const weir_peer *peer)
{
    return peer->id_size && !peer->lost && !peer->closed;
}

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

/*  What a lost connection may still bring counts no more.                     */
static void set_credit(weir_inlet *self, weir_peer *peer, uint64_t credit)
{
    if (!peer->lost) self->outstanding += credit - peer->credit;
    if (!peer->lost) self->unspent += credit - peer->credit;
    peer->credit = credit;
}

static void set_held(weir_inlet *self, weir_peer *peer, uint64_t held)
{
    self->outstanding += held - peer->held;
    peer->held = held;
}

static void unset_id(weir_inlet *self, weir_peer *peer)
{
    if (!peer->id_size) return;
    set_credit(self, peer, 0);
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
    while (peer && (is_connected(peer) || peer->dirty || !is_all_safe(peer)))
        peer = peer->previous;
    if (!peer) return false;
    if (self->config.events->forget) self->config.events->forget(self->config.arg, peer);
    unset_id(self, peer);
    set_held(self, peer, 0);
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

static void mark_dirty(weir_inlet *self, weir_peer *peer)
{
    if (peer->dirty) return;
    peer->dirty = true;
    peer->next_dirty = self->dirty;
    self->dirty = peer;
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

static void send_to(weir_inlet *self, weir_peer *peer, const weir_frame *frame)
{
    if (!is_connected(peer)) return;
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
    if (!is_connected(peer)) return;
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
        if (!is_connected(p) || (keep && keep(arg, p->name, p->key))) continue;
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

/* --- Granting ---------------------------------------------------------------------- */

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

/*  What every foreign peer may have, however many they are.                   */
static uint64_t first_bytes(const weir_inlet *self)
{
    bool room = self->outstanding + WEIR_INLET_FIRST_BYTES <= self->config.total_bytes;
    uint64_t first = room ? WEIR_INLET_FIRST_BYTES : least_first_bytes;
    return first < self->config.window_bytes ? first : self->config.window_bytes;
}

static uint64_t pool_left(const weir_inlet *self)
{
    uint64_t pool = self->config.pool_bytes;
    return self->outstanding < pool ? pool - self->outstanding : 0;
}

/*  Half of the pool is shared equally. What idle peers do not spend stays within that
    half, however their number has grown, and the other one is for who says NEED: so they
    cannot starve the others.                                                  */
static uint64_t pool_share(const weir_inlet *self)
{
    size_t peers = self->stats.connected ? self->stats.connected : 1;
    return self->config.pool_bytes / 2 / peers;
}

static uint64_t free_share(const weir_inlet *self, uint64_t used)
{
    uint64_t share = pool_share(self), left = pool_left(self);
    uint64_t half = self->config.pool_bytes / 2;
    uint64_t ordinary = self->unspent < half ? half - self->unspent : 0;
    uint64_t bytes = used < share ? share - used : 0;
    if (bytes > ordinary) bytes = ordinary;
    return bytes < left ? bytes : left;
}

/*  What may be granted now: the target less what is held and what is unspent; beyond
    the first bytes only what all peers together have left of the total.       */
static uint64_t free_window(const weir_inlet *self, const weir_peer *peer)
{
    uint64_t used = peer->held + peer->credit;
    if (self->config.pool_bytes) return free_share(self, used);
    if (!self->config.foreign)
        return used < self->config.window_bytes ? self->config.window_bytes - used : 0;
    uint64_t first = first_bytes(self), total = self->config.total_bytes;
    uint64_t bytes = used < peer->target ? peer->target - used : 0;
    uint64_t left = self->outstanding < total ? total - self->outstanding : 0;
    if (bytes > left) bytes = left;
    return used + bytes < first ? first - used : bytes;
}

/*  A peer that has spent its whole credit could use more: TCP's slow start, with a
    share for each as its ceiling.                                             */
static void grow(weir_inlet *self, weir_peer *peer, uint64_t spent)
{
    uint64_t most = self->config.total_bytes / (self->stats.connected + 1);
    if (most > self->config.window_bytes) most = self->config.window_bytes;
    peer->spent += spent;
    if (peer->spent < peer->target) return;
    peer->spent = 0;
    peer->target = 2 * peer->target < most ? 2 * peer->target : most;
    if (peer->target < least_first_bytes) peer->target = least_first_bytes;
}

/*  Beyond the total only one block is let in at a time, for else all peers together had
    as many windows as they say NEED.                                          */
static bool may_be_outsize(weir_inlet *self, weir_peer *peer, uint64_t bytes)
{
    if (!self->config.foreign) return true;
    if (self->outstanding + bytes <= self->config.total_bytes) return true;
    if (self->outsize && self->outsize != peer) {
        self->crowded = true;
        return false;
    }
    self->outsize = peer;
    return true;
}

/*  Who has waited longest.                                                    */
static weir_peer *first_in_need(const weir_inlet *self)
{
    weir_peer *first = NULL;
    for (weir_peer *p = self->peers; p; p = p->next)
        if (is_connected(p) && p->wanted > p->credit &&
            (!first || p->asked < first->asked))
            first = p;
    return first;
}

/*  What a peer whose block is larger than its share may be granted: the whole of it once
    the pool has room, or when there is no block in it and the others' credit is ordinary.
    Until then nobody else gets anything.                                      */
static uint64_t pool_need(weir_inlet *self, weir_peer *peer)
{
    uint64_t more = peer->wanted - peer->credit;
    if (!self->outsize) self->outsize = first_in_need(self);
    if (self->outsize != peer) {
        self->crowded = true;
        mark_dirty(self, self->outsize);
        return 0;
    }
    bool empty = self->outstanding == self->unspent &&
                 self->unspent - peer->credit <= self->config.pool_bytes / 2;
    bool fits = more <= pool_left(self) || empty;
    self->outsize = fits ? NULL : peer;
    return fits ? more : 0;
}

static uint64_t pool_grant(weir_inlet *self, weir_peer *peer)
{
    uint64_t bytes = free_window(self, peer);
    if (peer->held + peer->credit + bytes < pool_share(self)) self->crowded = true;
    if (peer->wanted > peer->credit + bytes) return pool_need(self, peer);
    if (!self->outsize || self->outsize == peer) return bytes;
    self->crowded = true;
    return 0;
}

static void look_at_pool(weir_inlet *self)
{
    if (self->outsize && !is_connected(self->outsize)) self->outsize = NULL;
    if (self->outsize) mark_dirty(self, self->outsize);
    if (self->outsize || !self->crowded) return;
    self->crowded = false;
    for (weir_peer *p = self->peers; p; p = p->next)
        if (is_connected(p)) mark_dirty(self, p);
}

/*  The block that was let in has been handed on, or will not come: the next one.  */
static void look_at_outsize(weir_inlet *self)
{
    if (self->config.pool_bytes) {
        look_at_pool(self);
        return;
    }
    weir_peer *peer = self->outsize;
    if (peer && peer->held + (peer->lost ? 0 : peer->credit) <= peer->target)
        self->outsize = NULL;
    bool room = !self->outsize || self->outstanding <= self->config.total_bytes / 2;
    if (!self->crowded || !room) return;
    self->crowded = false;
    for (weir_peer *p = self->peers; p; p = p->next)
        if (p->wanted && is_connected(p)) mark_dirty(self, p);
}

/*  Small grants are gathered: a CREDIT a block would double the messages. A peer
    that said NEED gets what there is, and when nothing of it is held any more
    also a block that is larger than the whole window.                         */
static uint64_t window_grant(weir_inlet *self, weir_peer *peer)
{
    uint64_t bytes = free_window(self, peer);
    if (peer->wanted > peer->credit + bytes && peer->held == 0 &&
        may_be_outsize(self, peer, peer->wanted - peer->credit))
        bytes = peer->wanted - peer->credit;
    return bytes;
}

/*  What a peer should have when all is well.                                  */
static uint64_t full_window(const weir_inlet *self, const weir_peer *peer)
{
    if (self->config.pool_bytes) return pool_share(self);
    return self->config.foreign ? peer->target : self->config.window_bytes;
}

static void grant(weir_inlet *self, weir_peer *peer)
{
    if (self->held || self->draining || !is_connected(peer)) return;
    uint64_t bytes =
        self->config.pool_bytes ? pool_grant(self, peer) : window_grant(self, peer);
    uint64_t window = full_window(self, peer);
    bool worth = bytes >= window / 4;
    bool needed = peer->wanted && peer->credit + bytes >= peer->wanted;
    if (bytes == 0 || !(worth || needed)) return;
    set_credit(self, peer, peer->credit + bytes);
    if (peer->credit >= peer->wanted) peer->wanted = 0;
    weir_frame frame = {.type = WEIR_CREDIT, .bytes = bytes, .barrier = peer->barrier};
    send_to(self, peer, &frame);
}

void weir_inlet_flush(weir_inlet *self)
{
    look_at_outsize(self);
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

weir_due weir_inlet_due(const weir_inlet *self)
{
    for (const weir_peer *p = self->dirty; p; p = p->next_dirty)
        if (p->wanted || p->credit < p->target / 2) return WEIR_DUE_NOW;
    return self->dirty ? WEIR_DUE_SOON : WEIR_NOTHING_DUE;
}

void weir_inlet_grant(weir_inlet *self, weir_peer *peer, size_t bytes)
{
    assert(peer->held >= bytes);
    set_held(self, peer, peer->held - bytes);
    mark_dirty(self, peer);
}

void weir_inlet_hold(weir_inlet *self, bool held)
{
    if (self->held == held) return;
    self->held = held;
    for (weir_peer *p = self->peers; p && !held; p = p->next)
        if (is_connected(p)) mark_dirty(self, p);
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
    mark_dirty(self, peer);
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
    peer->target = first_bytes(self);
    peer->safe_sent = peer->safe;
    if (!self->held) set_credit(self, peer, free_window(self, peer));
    send_to(self, peer,
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
    set_credit(self, peer, peer->credit - cost);
    grow(self, peer, cost);
    if (!in_order(self, peer, frame->sequence)) {
        mark_dirty(self, peer);
        return;
    }
    peer->received = frame->sequence;
    set_held(self, peer, peer->held + cost);
    self->config.events->block(self->config.arg, peer, frame->sequence, block_p);
}

static void recv_barrier(weir_inlet *self, weir_peer *peer, const weir_frame *frame)
{
    if (peer->discarding) return;
    /*  Its sender has given up its credit all the same.                       */
    if (frame->barrier <= peer->barrier) {
        set_credit(self, peer, 0);
        mark_dirty(self, peer);
        return;
    }
    if (frame->sequence != peer->received) {
        weir_inlet_nack(self, peer, peer->received + 1, "GAP", "a sequence is missing",
                        true);
        return;
    }
    peer->barrier = frame->barrier;
    set_credit(self, peer, 0);
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
    if (bytes <= peer->credit) return; // granted meanwhile
    if (!peer->wanted) peer->asked = ++self->asks;
    peer->wanted = bytes;
    mark_dirty(self, peer);
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
