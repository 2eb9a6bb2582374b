/*  The inlet's own view of itself: for inlet.c, and inlet_grant.c, which judges how much
    credit a peer may have.                                                    */
#pragma once
#include "runtime/link.h"
#include "runtime/once.h"

#define ID_MAX 256 // bytes of a routing id, libzmq's own limit
#define PEERS_MAX 4096
#define BUCKETS 256    // of each of the two tables
#define TOKENS_MAX 16  // outstanding, of one peer
#define ENDED_MAX 4096 // connections that have ended and that we may still hear

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

static inline bool inlet_is_connected(const weir_peer *peer)
{
    return peer->id_size && !peer->lost && !peer->closed;
}

/*  What a lost connection may still bring counts no more.                     */
static inline void inlet_set_credit(weir_inlet *self, weir_peer *peer, uint64_t credit)
{
    if (!peer->lost) self->outstanding += credit - peer->credit;
    if (!peer->lost) self->unspent += credit - peer->credit;
    peer->credit = credit;
}

static inline void inlet_set_held(weir_inlet *self, weir_peer *peer, uint64_t held)
{
    self->outstanding += held - peer->held;
    peer->held = held;
}

/*  It has something for weir_inlet_flush.                                     */
static inline void inlet_mark_dirty(weir_inlet *self, weir_peer *peer)
{
    if (peer->dirty) return;
    peer->dirty = true;
    peer->next_dirty = self->dirty;
    self->dirty = peer;
}

/*  Nothing when the peer is not connected; one that does not read is closed.  */
void weir_inlet_send(weir_inlet *self, weir_peer *peer, const weir_frame *frame);

/* --- Granting ---------------------------------------------------------------------- */

/*  What every foreign peer may have, however many they are.                   */
uint64_t weir_inlet_first_bytes(const weir_inlet *self);

/*  What may be granted now without a NEED.                                    */
uint64_t weir_inlet_free_window(const weir_inlet *self, const weir_peer *peer);

/*  A peer that has spent its whole credit could use more.                     */
void weir_inlet_grow(weir_inlet *self, weir_peer *peer, uint64_t spent);

/*  Grants the peer what it may have and what is worth a message.              */
void weir_inlet_grant_peer(weir_inlet *self, weir_peer *peer);

/*  Before a round of grants: whose turn it is to have a block beyond all bounds.  */
void weir_inlet_look_at_outsize(weir_inlet *self);
