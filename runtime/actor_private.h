/*  The kit's own view of an actor: for actor.c, actor_outlets.c and actor_inlet.c. */
#pragma once
#include "runtime/actor.h"
#include "runtime/doorman.h"
#include "runtime/loop.h"
#include "runtime/socket.h"
#include "runtime/splitter.h"
#include "runtime/uplink.h"

/*  Why a token was sent.                                                      */
typedef enum { TOKEN_NONE = 0, TOKEN_MARK, TOKEN_ROUND, TOKEN_FLUSH, TOKENS } token_use;

/*  An output under way on a link: when `sequence` is acknowledged, the entry has a
    hold less; of a token there is none. A block that several entries have a share in is
    several of these.                                                          */
typedef struct {
    uint64_t sequence;
    weir_entry *entry;
    uint32_t records; // of the block
    uint32_t *which;  // as a weir_share has it, owned
    token_use token;
} under_way;

/*  A port's link to one reader.                                               */
typedef struct weir_output {
    struct weir_output *next;
    struct weir_output *next_active;
    weir_actor *kit;
    int port;                     // -1: of a routing
    struct weir_routing *routing; // NULL: none
    char *endpoint, *server;      // owned; what the uplink connects to
    char *reader;                 // owned; whom a wait names: a node, or the endpoint
    weir_uplink *uplink;
    bool active;        // has something to read or to send
    bool full;          // its window
    int64_t opened_us;  // of a link in the process: when it was made; else 0
    int64_t starved_us; // since when it lacks credit; 0: it does not
    int64_t full_us;    // since when its window is full; 0: it is not
    unsigned waits;     // that it has told, a bit for each weir_wait_kind
    char told[160];     // its trouble
    under_way *sent;    // ring, capacity a power of two
    size_t first, count, capacity;
    uint64_t replayed; // of the outlet, as counted so far
} weir_output;

/*  A port's way into a bus: a link to each of its shards.                     */
typedef struct weir_routing {
    struct weir_routing *next;
    weir_actor *kit;
    int port;
    char *reader; // owned; the bus
    weir_route *route;
    weir_route_user *user;
    int wake_fd;
    weir_route_map *map;  // that is followed
    weir_output **shards; // by index in the map
    weir_splitter *splitter;
    uint32_t turn;           // which shard takes the next block without keys
    uint64_t marking, round; // that the tokens under way are for
    uint32_t unanswered[TOKENS];
} weir_routing;

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
    bool inlet_hot;     // the socket may have messages
    bool inlet_changed; // its connections may have changed
    weir_inlet *inlet;
    weir_doorman *doorman;   // of a foreign inlet
    weir_role role;          // that its peers must have
    bool plaintext;          // of a foreign inlet
    int revoked_fd;          // eventfd of the realm; -1: none
    bool memory_short, held; // held: by the actor itself
    int64_t answer_us;       // when what has gathered for foreign peers is sent; -1
    char **ports;            // names, owned
    int port_count;
    weir_output *links;  // all
    weir_output *active; // those with something to do
    weir_routing *routings;
    weir_handler *flushed; // of weir_actor_flush; NULL: none is under way
    uint32_t flushes;      // its tokens that are not answered
    int full_links;        // those whose window is full
    int64_t links_due_us;  // when one of them has something due, at the latest; -1
    int64_t look_us;       // when to look for links that do not move; -1
    weir_book book;
    weir_dead_file *dead_file; // opened with the first dead letter
    bool started, draining, ending, leaving, failed, terminated, paused;
    bool stuck;   // a thread of its own does not end
    bool starved; // weir_actor_has_room was false and room () is owed
};

/*  The node's name in HELLO: the certificate's where there is one.            */
const char *weir_actor_wire_name(const weir_actor *self);

/*  Links that rest on certificates end when these are revoked. Repeated calls do
    nothing. Errors: WEIR_ESYS.                                                */
weir_err weir_actor_watch_realm(weir_actor *self);

/* --- Outlets (actor_outlets.c) ----------------------------------------------------- */

void weir_actor_read_links(weir_actor *self, bool *busy);
void weir_actor_flush_links(weir_actor *self, bool *busy);
int64_t weir_actor_links_deadline(const weir_actor *self);
void weir_actor_free_links(weir_actor *self);

typedef struct {
    const char *port;
    const weir_endpoint *endpoint;
    const char *reader;    // whom a wait names; NULL: the endpoint
    int number;            // of the port
    weir_routing *routing; // NULL: none
} weir_output_config;

/*  Makes a link and puts it on the list; *self_p is lent until weir_output_close.  */
weir_err weir_output_open(weir_output **self_p, weir_actor *kit,
                          const weir_output_config *config, weir_report *report);
void weir_output_close(weir_output *self);

/*  Sends a block (lent), of which the entries have these shares, whose holds and lists
    are taken; or a token.                                                         */
void weir_output_send(weir_output *self, weir_block *block, const weir_share *shares,
                      size_t count);
void weir_output_token(weir_output *self, weir_token_kind kind, uint64_t argument,
                       token_use use);

/* --- Ways into buses (actor_routes.c) ---------------------------------------------- */

weir_err weir_routing_open(weir_actor *kit, int port, weir_route *route,
                           const char *reader, weir_report *report);

/*  Sends a block (lent) into the bus.                                         */
void weir_routing_send(weir_routing *self, weir_block *block, weir_entry *entry);
/*  Seals open blocks, those that are due or all.                              */
void weir_routing_seal(weir_routing *self, bool all);
int64_t weir_routing_deadline(const weir_routing *self);
void weir_routing_answered(weir_routing *self, token_use use);
void weir_routing_flush(weir_routing *self);    // for weir_actor_flush
void weir_routing_close(weir_routing **self_p); // its links are freed by others
void weir_actor_revoke_servers(weir_actor *self);

/* --- Inlet (actor_inlet.c) --------------------------------------------------------- */

void weir_actor_read_inlet(weir_actor *self, bool *busy);
void weir_actor_flush_inlet(weir_actor *self, bool *busy);
int64_t weir_actor_inlet_deadline(const weir_actor *self);
void weir_actor_free_inlet(weir_actor *self);
void weir_actor_revoke_peers(weir_actor *self);

/*  Grants again or not, as pause and memory have it.                          */
void weir_actor_hold_inlet(weir_actor *self);

/*  Settles what is done: once a turn, after the work.                         */
void weir_actor_settle(weir_actor *self);
