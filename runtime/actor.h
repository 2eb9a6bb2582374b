/*  actor: the kit that every component is made with.

    An actor is a thread with a command pipe and ports: at most one inlet, any
    number of named outlets, each with a link per reader. The kit owns thread, event
    loop, timers, replies, links, the book of what is not yet safe, and counters; the
    actor is a table (weir_class) of small functions, all called in its thread.

        pipe:   every command gets exactly one reply [code][frames ...]
        inlet:  recv_block (entry, block) ... weir_actor_done (entry)
        outlet: weir_actor_send (port, &block, entry): entry waits until it is safe

    Used from C it is a plain zactor: zactor_new (weir_sink_file, &config).    */
#pragma once
#include <czmq.h>
#include <semaphore.h>
#include "runtime/book.h"
#include "runtime/link.h"
#include "runtime/loop.h"
#include "runtime/options.h"
#include "runtime/route.h"
#include "runtime/socket.h"
#include "runtime/vitals.h"

typedef struct weir_actor weir_actor;

/*  What every config struct begins with: the actor's place in the world. All is
    lent until the actor has ended; what is NULL or 0 has a default.           */
typedef struct {
    const char *name;      // of the node; default: the class's name
    weir_ledger *ledger;   // default: an own one without limit
    weir_vitals *vitals;   // default: own
    weir_tap *tap;         // samples what it sends; default: that of its vitals
    const char *topology;  // whose node it is; default: none
    const char *run_dir;   // folder for local endpoints; default: none
    const char *state_dir; // folder for durable things; default: "."
    size_t window_bytes;   // of each link, both sides; default 32 MB
    size_t block_bytes;    // target of a block's body; default 64 KB
    size_t record_max;     // largest record; default 8 MB
    size_t pool_bytes;     // of an inlet within the process: what all its peers together
                           // may have of credit and of blocks not handed on; default: a
                           // window each
    weir_realm *realm;     // for endpoints that leave the process; default: none may
    weir_report *report;   // receives why init failed, before zactor_new returns; the
                           // owner takes it by weir_handover_take
    sem_t *ended;          // posted when the thread is about to end
} weir_node;

typedef struct {
    const char *name;
    /*  args is lent and holds what follows the name; reply may be added to. The
        result becomes the reply's first frame.                                */
    weir_err (*handler)(void *self, zmsg_t *args, zmsg_t *reply);
    const char *help; // "arguments -> reply ; what it does"
} weir_command;

/*  What a reader has refused for good: records of one entry.                 */
typedef struct {
    weir_block *block;     // as they were sent, lent
    const uint32_t *which; // of a class that `tracks`: their indices in the block that
                           // weir_actor_send was given, ascending; NULL: all of it
    const char *code, *text;
} weir_refused;

typedef struct {
    const char *name;             // "sink.file"
    const char *help;             // one sentence
    zactor_fn *actor;             // weir_x, for zactor_new
    size_t size;                  // of the private struct, zeroed by the kit
    size_t config_size;           // begins with a weir_node
    const void *defaults;         // a const config
    const weir_option *options;   // ends with a NULL name
    const weir_command *commands; // own commands, ends with a NULL name; or NULL
    bool inlet;                   // takes blocks
    bool source;                  // brings records in: drains, and then has ended
    bool once;                    // a source that cannot go back: its path cannot restart
    bool follows; // a source that reads what others have stored: it has no
                  // end of its own
    bool forgets; // a source that cannot go back, and whose path restarts
                  // all the same: what was not safe is shed
    bool placed;  // what it sends has places: it was read from a bus with a store
    bool tracks;  // sends one block an entry, and wants to know which of its records
                  // were refused
    /*  The way into a node that is no single actor, for those that write to it; NULL:
        it has an inlet of its own.                                            */
    weir_route *(*route)(const void *config);
    /*  Whether a node of this config stores what it takes: nobody needs to read from it,
        and who does reads the store (weir_plan_reads). NULL: none does.       */
    bool (*stores)(const void *config);
    /*  What is to be known of a node beside its vitals: tell adds members to a JSON
        object, and there is a table of metrics (runtime/metrics.h). Any thread, whether
        the node runs or not. NULL: nothing.                                   */
    void (*tell)(const void *config, weir_buffer *out);
    const struct weir_class_metric *metrics; // ends with a NULL name
    /*  What the option table alone cannot tell; optional. An error fills the report:
        where is the name of the option.                                       */
    weir_err (*check)(const void *config, weir_report *report);
    /*  Asks the server that the node speaks with, and changes nothing there, whether it
       is reached, lets us in, and has what is needed: at most so long. WEIR_OK, with what
       it is in report->text; else the report says what is wrong, and no password. NULL,
       or WEIR_OK without a text: it speaks with none. Any thread; blocks.       */
    weir_err (*probe)(const void *config, int64_t timeout_us, weir_report *report);
    /*  The outlets that a config asks for; NULL, or none in it: one that bears the
        node's name.                                                           */
    const weir_rules *(*outlets)(const void *config);
    /*  Called first; config lives as long as the actor. May block. Half-built state
        is left to fini. A failure fills the report and ends the actor.        */
    weir_err (*init)(void *self, weir_actor *kit, const void *config,
                     weir_report *report);
    void (*fini)(void *self);
    /*  Everything is wired. Optional, like all that follow.                   */
    void (*start)(void *self);
    /*  A block came; it is lent (weir_block_dup to keep it). The entry is settled
        some time after weir_actor_done.                                       */
    void (*recv_block)(void *self, weir_entry *entry, weir_block *block);
    /*  A token came: what waits here must not wait for more of its kind, and the entry is
        to be ended by weir_actor_done. NULL: nothing waits here.              */
    void (*recv_token)(void *self, weir_entry *entry, weir_token_kind kind,
                       uint64_t argument);
    /*  A reader for the actor's outlet, as CONNECT has it; NULL: the kit links it.  */
    weir_err (*connect)(void *self, const weir_endpoint *endpoint, const char *reader,
                        weir_report *report);
    /*  A bus that reads the actor's outlet, as ROUTE has it; NULL: the kit does it.  */
    weir_err (*join)(void *self, weir_route *route, const char *reader,
                     weir_report *report);
    /*  Once a turn of the loop, after all messages: the place for reading (sources),
        for writing what has gathered (sinks). True: call again without waiting. */
    bool (*turn)(void *self);
    /*  There is room again on all links, after weir_actor_has_room was false. */
    void (*room)(void *self);
    /*  A reader has refused records of this entry for good: decide what becomes of them,
        which count as done so far. It is called for each block that they were sent in,
        and for each reader. An error is a stop. So it is without such a function, but for
        records that are too large for a bus: these become dead letters.       */
    weir_err (*refused)(void *self, weir_entry *entry, const weir_refused *refusal);
    /*  The actor has failed (weir_actor_fail) and no other function but fini is called
        any more: for those who wait in other threads.                         */
    void (*failed)(void *self);
    /*  A source's lane is safe up to this entry: commit its position. An error is
        a stop.                                                                */
    weir_err (*commit)(void *self, const weir_entry *entry, weir_report *report);
    /*  Stop reading and send what is held; then weir_actor_end.               */
    void (*drain)(void *self);
    /*  PAUSE and RESUME, beside what the kit does with the inlet.              */
    void (*pause)(void *self, bool paused);
    /*  SIGHUP: open files anew.                                               */
    void (*reopen)(void *self);
} weir_class;

/*  Whether nodes of this class read from others in the topology, and whether none can
    read from them.                                                            */
static inline bool weir_class_reads(const weir_class *self)
{
    return self->inlet && !self->source;
}

static inline bool weir_class_is_sink(const weir_class *self)
{
    return self->inlet && !self->source && !self->outlets;
}

/*  The body of a zactor function: void weir_x (zsock_t *pipe, void *config)
    { weir_actor_run (&weir_x_class, pipe, config); }                          */
void weir_actor_run(const weir_class *class, zsock_t *pipe, void *config);

/* --- For the actor's functions, in its own thread ---------------------------------- */

const weir_node *weir_actor_node(const weir_actor *self); // with defaults filled in
weir_vitals *weir_actor_vitals(weir_actor *self);

/*  Declares an outlet (in init) and returns its number.                       */
int weir_actor_port(weir_actor *self, const char *name);

/*  Binds the inlet, or adds a reader to the outlet, as LISTEN and CONNECT do. The realm
    is the node's. reader names it where waits are told; NULL: the endpoint does. In
    init. Errors fill the report: endpoint, security, descriptors.             */
weir_err weir_actor_listen(weir_actor *self, const weir_endpoint *endpoint,
                           weir_report *report);
weir_err weir_actor_connect(weir_actor *self, const char *port,
                            const weir_endpoint *endpoint, const char *reader,
                            weir_report *report);

/*  Adds a bus as a reader of the outlet; the route is lent for the call. Blocks are split
    by key among its shards. In init. Errors: WEIR_ENOTFOUND (no such outlet), WEIR_ESYS.
 */
weir_err weir_actor_route(weir_actor *self, const char *port, weir_route *route,
                          const char *reader, weir_report *report);

/*  Sends what waits in open blocks, and a token behind it to every reader: flushed () is
    called when all of them have answered it. One at a time: WEIR_EFULL.       */
weir_err weir_actor_flush(weir_actor *self, weir_handler *flushed);

/*  A source with an inlet: takes nothing more from its peers.                 */
void weir_actor_drain_inlet(weir_actor *self);

/*  Sends the block to every reader of the port; *block_p is taken. The entry is
    held until all of them have acknowledged. Only what a class that is `placed` sends
    keeps its places.                                                          */
void weir_actor_send(weir_actor *self, int port, weir_block **block_p, weir_entry *entry);

/*  False when a window is full; room () is called when that has passed.       */
bool weir_actor_has_room(weir_actor *self);

/*  The work on an entry is over: its outputs are sent, its fates stated, its credit
    may go back upstream.                                                      */
void weir_actor_done(weir_actor *self, weir_entry *entry);

/*  The entry's block is handed on: its credit may go back upstream, though the work on
    it is not over.                                                            */
void weir_actor_grant(weir_actor *self, weir_entry *entry);

/*  The block of this entry, which came last and is whole, is not taken: the sender
    settles it (final), or sends it again later with what is behind it (retryable). The
    entry is gone when this returns.                                                    */
void weir_actor_refuse(weir_actor *self, weir_entry *entry, const char *code,
                       const char *text, bool retryable);

/*  So many records of an entry count as if they had not come: they will again. No fate of
    it may count them any more.                                                */
void weir_actor_recall(weir_actor *self, weir_entry *entry, uint32_t records);

/*  While held the inlet grants nothing.                                       */
void weir_actor_hold(weir_actor *self, bool held);

/*  A source opens an entry for what it has read; it ends it with weir_actor_done. */
weir_entry *weir_actor_open(weir_actor *self, weir_lane *lane, uint32_t records,
                            uint64_t position, int token);
void weir_actor_lane_fini(weir_actor *self, weir_lane *lane);

/*  A source will read no more, a shard gets no more. When all it had is safe it is ENDED.
 */
void weir_actor_end(weir_actor *self);

/*  The same, but at once: what is not safe by then is given up and never acknowledged. */
void weir_actor_leave(weir_actor *self);

/*  For fini: a thread that the actor started does not end, and goes on using what it was
    lent. So the actor counts as one that does not end, either: who stops it gets
    WEIR_ETIMEOUT, and frees nothing of that.                                  */
void weir_actor_stuck(weir_actor *self);

/*  The ack barrier: nothing more is taken, sent or acknowledged; the supervisor is
    told why and decides.                                                      */
void weir_actor_fail(weir_actor *self, weir_err err, const char *where,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));
bool weir_actor_failed(const weir_actor *self);

/*  Calls handler (actor's self) when the descriptor is readable; once the time has
    come. A timer fires once; setting it again moves it; a negative time stops it. */
weir_err weir_actor_watch(weir_actor *self, int fd, weir_handler *handler);
void weir_actor_unwatch(weir_actor *self, int fd);
void weir_actor_timer(weir_actor *self, weir_handler *handler, int64_t delay_us);

/* --- For the owner of an actor ----------------------------------------------------- */

/*  Sends a command with its arguments (NULL-ended texts) and waits for its reply.
    Returns the reply's code; *reply (may be NULL) receives the other frames and is
    the caller's.                                                              */
weir_err weir_actor_ask(zactor_t *actor, zmsg_t **reply, const char *command, ...)
    __attribute__((sentinel));

/*  The same with a deadline, for an actor whose thread may be stuck. A reply that comes
    after it is counted as owed, and not taken for that of a later command, so an actor
    and its patience (owed 0 at first) belong together. timeout_ms 0: the command is sent
    and its reply not waited for. WEIR_ETIMEOUT: no reply yet, or it owes too many
    already and was not asked.                                                 */
typedef struct {
    int timeout_ms;
    int owed;
} weir_patience;
weir_err weir_actor_ask_within(zactor_t *actor, weir_patience *patience, zmsg_t **reply,
                               const char *command, ...) __attribute__((sentinel));

/*  Ends the actor and waits until its thread has left, at most timeout_ms. *actor_p
    becomes NULL. WEIR_ETIMEOUT: it is stuck in a system call; the thread and what it
    uses stay, and *actor_p with them.                                         */
weir_err weir_actor_stop(zactor_t **actor_p, sem_t *ended, int timeout_ms);
