/*  The kit's own view of an actor: for actor.c and actor_ports.c only.          */
#pragma once
#include "runtime/actor.h"
#include "runtime/loop.h"
#include "runtime/socket.h"

/*  An output under way on a link: when `sequence` is acknowledged, the entry has a
    hold less.                                                                 */
typedef struct {
    uint64_t sequence;
    weir_entry *entry;
    uint32_t records; // of the block
} under_way;

/*  A port's link to one reader.                                               */
typedef struct weir_output {
    struct weir_output *next;
    weir_actor *kit;
    int port;
    weir_socket *socket;
    weir_outlet *outlet;
    bool hot;          // may have messages
    int64_t relink_us; // when to say HELLO again; -1: not
    under_way *sent;   // ring, capacity a power of two
    size_t first, count, capacity;
    uint64_t replayed; // of the outlet, as counted so far
} weir_output;

struct weir_actor {
    const weir_class *class;
    void *self;     // the actor's private struct
    weir_node node; // with defaults
    weir_vitals own_vitals;
    weir_ledger *own_ledger;
    weir_loop loop;
    zsock_t *pipe;
    bool pipe_hot;
    weir_socket *inlet_socket;
    bool inlet_hot;
    weir_inlet *inlet;
    char **ports; // names, owned
    int port_count;
    weir_output *links;
    weir_book book;
    weir_dead_file *dead_file; // opened with the first dead letter
    bool started, draining, ending, failed, terminated;
    bool starved; // weir_actor_has_room was false and room () is owed
};

/*  Binds the inlet; adds a reader to the outlet of that name.                 */
weir_err weir_actor_listen(weir_actor *self, const char *endpoint, weir_report *report);
weir_err weir_actor_connect(weir_actor *self, const char *port, const char *endpoint,
                            weir_report *report);

/*  Once a turn: first everything that has come, then, when the turn is over, the
    settling of what is done, and last what is to be sent. True: there is more.  */
bool weir_actor_read_ports(weir_actor *self);
void weir_actor_settle(weir_actor *self);
bool weir_actor_flush_ports(weir_actor *self);

/*  When a link is to be made again; -1: never.                                */
int64_t weir_actor_ports_deadline(const weir_actor *self);

void weir_actor_free_ports(weir_actor *self);
