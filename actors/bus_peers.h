/*  bus_peers: the sockets of a bus's endpoint, and who speaks to them; without any notion
    of what is said.

        ipc://RUN_DIR/TOPOLOGY.BUS.bus      for this user's processes
        what `listen` says                  by CURVE, role consume

    A peer is known while somebody holds it, or it has not read what it was sent: the
    bytes of all replies are counted until they have left for the network, and whoever
   does not read gets no more. One thread. */
#pragma once
#include "runtime/actor.h"

#define WEIR_BUS_PEERS_MAX 256        // beyond, new ones are refused
#define WEIR_BUS_UNREAD_MAX (8 << 20) // bytes of one peer before it gets no more
#define WEIR_BUS_UNREAD_ALL_MAX                                                          \
    (64 << 20)                         // of all peers: then only those that have
                                       // read all get more, and not much
#define WEIR_BUS_PAGE_SMALL (64 << 10) // which is this many bytes

typedef struct weir_bus_peers weir_bus_peers;

typedef struct weir_bus_peer {
    struct weir_bus_peer *next;
    weir_bus_peers *peers;
    struct weir_bus_unread *unread;
    int port;
    size_t id_size;
    uint8_t id[255];                        // of its connection
    char name[WEIR_PEER_NAME_MAX], key[41]; // of its certificate; "": none
    /*  For who holds it.                                                               */
    uint32_t held;   // for how many reasons; 0: it may be forgotten
    bool gone;       // its connection has ended
    int64_t seen_us; // when it spoke last
    void *member;    // what it is beside; NULL: nothing
} weir_bus_peer;

typedef struct {
    weir_actor *kit;
    const char *bus;    // name, lent
    const char *listen; // lent; NULL: none
    bool plaintext;
} weir_bus_peers_config;

/*  Binds. *self_p is NULL without any endpoint. Errors with a report: those of the run
    folder and of the sockets.                                                          */
weir_err weir_bus_peers_new(weir_bus_peers **self_p, const weir_bus_peers_config *config,
                            weir_report *report);
/*  Nobody is held any more. What was sent may still leave for a second.                */
void weir_bus_peers_destroy(weir_bus_peers **self_p);

/*  The descriptors to wait on: of each port, -1 behind the last; and one that is readable
    when somebody may have room again, until weir_bus_peers_sweep.                      */
int weir_bus_peers_fd(const weir_bus_peers *self, int port);
int weir_bus_peers_room_fd(const weir_bus_peers *self);

/*  Where a port listens in fact.                                                       */
const char *weir_bus_peers_endpoint(const weir_bus_peers *self, int port);

/*  The next message. The data lives until the next call.                               */
typedef struct {
    weir_bus_peer *peer; // lent; held by nobody, it lives until weir_bus_peers_sweep
    bool delimited;      // began with an empty frame; so must the reply
    const void *data;
    size_t size;
    const char *refused; // why it must not be answered but by this; NULL: it may
    const char *code;    // of refused
} weir_bus_message;

/*  False: there is none. Otherwise it must be called again before waiting.             */
bool weir_bus_peers_next(weir_bus_peers *self, weir_bus_message *message);

/*  Sends the bytes, which are taken. One that does not read small replies loses them; one
    whose connection has ended is `gone`.                                               */
void weir_bus_peer_send(weir_bus_peer *self, bool delimited, weir_buffer *bytes);

/*  How many bytes of records it may be sent now; 0: it has to read first.              */
size_t weir_bus_peer_room(const weir_bus_peer *self);

/*  Forgets whom nobody holds and who has read all.                                     */
void weir_bus_peers_sweep(weir_bus_peers *self);
weir_bus_peer *weir_bus_peers_first(weir_bus_peers *self);
