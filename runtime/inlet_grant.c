#include "runtime/inlet_private.h"

/*  What a foreign peer is granted at first when there are very many: with less than two
    blocks under way it would ask by NEED for each.                            */
static const size_t least_first_bytes = 192 << 10;

uint64_t weir_inlet_first_bytes(const weir_inlet *self)
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
uint64_t weir_inlet_free_window(const weir_inlet *self, const weir_peer *peer)
{
    uint64_t used = peer->held + peer->credit;
    if (self->config.pool_bytes) return free_share(self, used);
    if (!self->config.foreign)
        return used < self->config.window_bytes ? self->config.window_bytes - used : 0;
    uint64_t first = weir_inlet_first_bytes(self), total = self->config.total_bytes;
    uint64_t bytes = used < peer->target ? peer->target - used : 0;
    uint64_t left = self->outstanding < total ? total - self->outstanding : 0;
    if (bytes > left) bytes = left;
    return used + bytes < first ? first - used : bytes;
}

/*  A peer that has spent its whole credit could use more: TCP's slow start, with a
    share for each as its ceiling.                                             */
void weir_inlet_grow(weir_inlet *self, weir_peer *peer, uint64_t spent)
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
        if (inlet_is_connected(p) && p->wanted > p->credit &&
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
        inlet_mark_dirty(self, self->outsize);
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
    uint64_t bytes = weir_inlet_free_window(self, peer);
    if (peer->held + peer->credit + bytes < pool_share(self)) self->crowded = true;
    if (peer->wanted > peer->credit + bytes) return pool_need(self, peer);
    if (!self->outsize || self->outsize == peer) return bytes;
    self->crowded = true;
    return 0;
}

static void look_at_pool(weir_inlet *self)
{
    if (self->outsize && !inlet_is_connected(self->outsize)) self->outsize = NULL;
    if (self->outsize) inlet_mark_dirty(self, self->outsize);
    if (self->outsize || !self->crowded) return;
    self->crowded = false;
    for (weir_peer *p = self->peers; p; p = p->next)
        if (inlet_is_connected(p)) inlet_mark_dirty(self, p);
}

/*  The block that was let in has been handed on, or will not come: the next one.  */
void weir_inlet_look_at_outsize(weir_inlet *self)
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
        if (p->wanted && inlet_is_connected(p)) inlet_mark_dirty(self, p);
}

/*  Small grants are gathered: a CREDIT a block would double the messages. A peer
    that said NEED gets what there is, and when nothing of it is held any more
    also a block that is larger than the whole window.                         */
static uint64_t window_grant(weir_inlet *self, weir_peer *peer)
{
    uint64_t bytes = weir_inlet_free_window(self, peer);
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

void weir_inlet_grant_peer(weir_inlet *self, weir_peer *peer)
{
    if (self->held || self->draining || !inlet_is_connected(peer)) return;
    uint64_t bytes =
        self->config.pool_bytes ? pool_grant(self, peer) : window_grant(self, peer);
    uint64_t window = full_window(self, peer);
    bool worth = bytes >= window / 4;
    bool needed = peer->wanted && peer->credit + bytes >= peer->wanted;
    if (bytes == 0 || !(worth || needed)) return;
    inlet_set_credit(self, peer, peer->credit + bytes);
    if (peer->credit >= peer->wanted) peer->wanted = 0;
    weir_frame frame = {.type = WEIR_CREDIT, .bytes = bytes, .barrier = peer->barrier};
    weir_inlet_send(self, peer, &frame);
}
