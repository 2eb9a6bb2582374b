/*  link: the one protocol between an upstream actor's outlet and a downstream
    actor's inlet, as two state machines without sockets.

        outlet (DEALER)                              inlet (ROUTER)
           | ---- HELLO session, base ---------------------> |
           | <--- WELCOME credit, last safe ---------------- |
           | ---- BLOCK 1, BLOCK 2, TOKEN 3, BARRIER ------> |
           | <--- CREDIT "I have room" --------------------- |
           | <--- ACK 2  "safe up to here" ----------------- |

    The outlet keeps what is not acknowledged, at most `window` bytes, and sends
    it again behind WELCOME's sequence after a new HELLO. The inlet drops what it
    already has and answers a gap with NACK. Both belong to one thread each and
    never block; frames leave through a send callback and come in by recv.     */
#pragma once
#include "runtime/frame.h"

/*  Sends one message; body is NULL unless it is a BLOCK. The callee takes its own
    reference. An error means that the connection is dead.                     */
typedef weir_err(weir_send_fn)(void *arg, const weir_frame *frame, weir_block *body);

/* --- Outlet ------------------------------------------------------------------------ */

typedef struct weir_outlet weir_outlet;

typedef struct {
    weir_send_fn *send;
    /*  Everything up to this sequence is safe (blocks and tokens).            */
    void (*acked)(void *arg, uint64_t sequence);
    /*  A block was refused for good; it (lent) still waits in the window until
        weir_outlet_settle.                                                    */
    void (*refused)(void *arg, uint64_t sequence, weir_block *block, const char *code,
                    const char *text);
    /*  The peer ended the link: code, text, and whether to try again.         */
    void (*closed)(void *arg, const char *code, const char *text, bool retryable);
} weir_outlet_events;

typedef struct {
    const char *node;    // own node's name
    const char *name;    // of the outlet: "parse" or "parse.errors"
    uint64_t session;    // new at each start of the outlet, not 0
    size_t window_bytes; // most that is kept unacknowledged
    bool corked;         // blocks are only queued until weir_outlet_flush
    const weir_outlet_events *events;
    void *arg; // for send and events
} weir_outlet_config;

weir_outlet *weir_outlet_new(const weir_outlet_config *config);
void weir_outlet_destroy(weir_outlet **self_p);

/*  A connection is there: says HELLO. Again after each reconnect.             */
weir_err weir_outlet_connect(weir_outlet *self);

/*  The connection is gone: credit is void, nothing is lost.                   */
void weir_outlet_disconnect(weir_outlet *self);

/*  Takes a message from the peer. WEIR_EPROTO: it is not for an outlet, speaks
    another version, or acknowledges what was never sent; nothing has changed, and the
    peer must not be trusted any further.                                      */
weir_err weir_outlet_recv(weir_outlet *self, const weir_frame *frame);

/*  Queues a block and sends what credit allows. *block_p is taken, and *sequence
    set. The window is a soft bound: see weir_outlet_has_room.                 */
void weir_outlet_send(weir_outlet *self, weir_block **block_p, uint64_t *sequence);

/*  Sends what is queued, as far as credit allows. An owner that corks calls it once a
    turn of its loop: several blocks then wake the reader once.                */
void weir_outlet_flush(weir_outlet *self);

/*  Queues a barrier (behind everything queued so far), or a token. A 17th
    outstanding token is WEIR_EFULL.                                           */
void weir_outlet_barrier(weir_outlet *self, uint64_t id, uint64_t epoch, uint64_t flags);
weir_err weir_outlet_token(weir_outlet *self, weir_token_kind kind, uint64_t argument,
                           uint64_t *sequence);

/*  A refused block is settled by the sender's policy: it leaves the window as
    soon as everything before it has.                                          */
void weir_outlet_settle(weir_outlet *self, uint64_t sequence);

/*  True while less than the window is queued and unacknowledged.              */
bool weir_outlet_has_room(const weir_outlet *self);

/*  WELCOME has come, and the connection lives.                                */
bool weir_outlet_is_open(const weir_outlet *self);

/*  Something is queued and the peer has granted too little for it.            */
bool weir_outlet_is_starved(const weir_outlet *self);

size_t weir_outlet_kept_bytes(const weir_outlet *self); // queued, unacknowledged
uint64_t weir_outlet_replayed(const weir_outlet *self); // blocks sent again so far
const char *weir_outlet_name(const weir_outlet *self);

/* --- Inlet ------------------------------------------------------------------------- */

typedef struct weir_inlet weir_inlet;
typedef struct weir_peer weir_peer; // one upstream outlet, known by its session

/*  Who is at the other end of a foreign connection. The texts live until the inlet
    returns.                                                                   */
typedef struct {
    const char *name;    // in the certificate; NULL: there is none
    const char *key;     // of the certificate; NULL: there is none
    const char *address; // for people
    int fd;              // of the connection; -1: unknown
    bool revoked;        // the certificate has lost its right since the handshake
} weir_identity;

typedef struct {
    /*  Sends to the connection with this routing id. WEIR_EFULL: it does not read. */
    weir_err (*send)(void *arg, const void *id, size_t id_size, const weir_frame *frame);
    /*  A block in order; *block_p may be taken. The inlet grants its cost again
        only when weir_inlet_grant says so, acknowledges by weir_inlet_ack.    */
    void (*block)(void *arg, weir_peer *peer, uint64_t sequence, weir_block **block_p);
    void (*barrier)(void *arg, weir_peer *peer, uint64_t id, uint64_t epoch,
                    uint64_t flags);
    /*  A token in order; its answer is weir_inlet_ack of its sequence.        */
    void (*token)(void *arg, weir_peer *peer, uint64_t sequence, weir_token_kind kind,
                  uint64_t argument);
    /*  Foreign inlets only. Who sent the HELLO that is being received.        */
    void (*identify)(void *arg, weir_identity *identity);
    /*  Foreign inlets only: end this connection, after what is queued for it. */
    void (*hang_up)(void *arg, int fd);
    /*  A peer is forgotten to make room: nothing of it is unsafe. Frees the owner's
        data.                                                                  */
    void (*forget)(void *arg, weir_peer *peer);
} weir_inlet_events;

typedef struct {
    size_t window_bytes; // most credit of one peer
    size_t total_bytes;  // of all peers together, beyond what each gets at first, and
                         // beyond one block that is larger; foreign
    size_t pool_bytes; // within the process: of all peers together: half of it they share
                       // equally, and all of it serves NEED, one peer at a time; 0: a
                       // window each
    size_t block_max;  // cost of the largest block that NEED may ask for, if that is
                       // above the window; 0: any
    bool foreign;      // peers are other processes: they identify themselves, begin
                       // with a small credit, and their bodies are walked
    const weir_inlet_events *events;
    void *arg;
} weir_inlet_config;

/*  What a foreign peer is granted at first; it grows to the window as it is used.  */
#define WEIR_INLET_FIRST_BYTES (256 << 10)

weir_inlet *weir_inlet_new(const weir_inlet_config *config);
void weir_inlet_destroy(weir_inlet **self_p);

/*  Takes a message from the connection with that routing id; a BLOCK's body is
    *body_p, which is taken or destroyed. frame NULL: it was none of ours. What breaks
    the protocol is answered with CLOSE, logged once, and its connection ended; the
    inlet itself never fails.                                                  */
void weir_inlet_recv(weir_inlet *self, const void *id, size_t id_size,
                     const weir_frame *frame, weir_block **body_p);

/*  The connection with that descriptor has ended: its peer keeps its session.  */
void weir_inlet_lost(weir_inlet *self, int fd);

/*  Room for that many more bytes: what was handed on.                         */
void weir_inlet_grant(weir_inlet *self, weir_peer *peer, size_t bytes);

/*  While held nothing is granted; afterwards everybody gets what is due.      */
void weir_inlet_hold(weir_inlet *self, bool held);

/*  No block is taken any more; what was taken is still acknowledged.          */
void weir_inlet_drain(weir_inlet *self);

/*  Ends the connections of all peers, or of those for whom keep is false, with CLOSE. */
void weir_inlet_close_all(weir_inlet *self, const char *code, const char *text);
typedef bool weir_may_stay(void *arg, const char *name, const char *key);
void weir_inlet_close_unless(weir_inlet *self, weir_may_stay *keep, void *arg,
                             const char *code, const char *text);

/*  Everything up to the sequence is safe. Cumulative.                         */
void weir_inlet_ack(weir_inlet *self, weir_peer *peer, uint64_t sequence);

/*  The block is not taken: retryable, it and what is behind it come again after the
    next HELLO, so it may only be called for the last one received; final, the sender
    settles it, and what is behind it goes on. Its credit comes back by
    weir_inlet_grant like that of any other block.                             */
void weir_inlet_nack(weir_inlet *self, weir_peer *peer, uint64_t sequence,
                     const char *code, const char *text, bool retryable);

/*  Sends the grants and acknowledgements that have gathered; the owner calls it
    once a turn of its loop.                                                   */
void weir_inlet_flush(weir_inlet *self);

/*  What has gathered: nothing, something that may wait a moment for more of its kind,
    or something that a sender will soon lack.                                 */
typedef enum { WEIR_NOTHING_DUE, WEIR_DUE_SOON, WEIR_DUE_NOW } weir_due;
weir_due weir_inlet_due(const weir_inlet *self);

const char *weir_peer_node(const weir_peer *self);
const char *weir_peer_outlet(const weir_peer *self);
/*  The authenticated name; NULL without one.                                  */
const char *weir_peer_name(const weir_peer *self);
/*  A slot for the owner's own data about the peer, NULL at first.             */
void **weir_peer_data(weir_peer *self);
/*  Walks the peers: the first, the next, NULL behind the last.                */
weir_peer *weir_inlet_peers(const weir_inlet *self);
weir_peer *weir_peer_next(const weir_peer *self);

typedef struct {
    size_t connected;
    uint64_t refused;    // HELLOs, and connections ended for what they sent
    uint64_t duplicates; // blocks and tokens that came again and were dropped
} weir_inlet_stats;

weir_inlet_stats weir_inlet_look(const weir_inlet *self);
