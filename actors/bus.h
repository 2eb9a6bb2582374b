/*  bus: the facade for C programs: appends records from any thread, and tells what is
    safe. The bus lies in this process, in memory or on disk, or it is the inlet of a weir
    elsewhere (docs/embedding.md).

        append --> open block --link--> shards --> store, or who reads      connect: NULL
                                   '--> source.link of a weir               connect: ..

        const char *const options[] = {"store", "disk", "disk.keep", "all", NULL};
        weir_bus_config config = weir_bus_defaults;
        config.options = options;
        config.state_dir = "data";
        if (weir_bus_new (&bus, &config, &report)) ... report.text
        weir_bus_append_payload (bus, WEIR_JSON, text, size, &ticket);
        weir_bus_flush (bus, 1000);
        lost = weir_bus_destroy (&bus, 1000);

    Each record has a ticket, 1 for the first. Tickets are the order in which records
    are sent and acknowledged; what one thread appends keeps its order, in a bus of
    several shards that of each key. A record is safe when the store has it on disk, or
    when who reads it has made it so; until then it is kept and sent again after each
    reconnect, at least once. Functions may be called from any thread unless they say
    otherwise; there is no global state, and a process may have many buses.

    Times in ms: -1 is for ever, WEIR_BUS_DEADLINE what the options say.

    This header may be included from C++.                                           */
#pragma once
#include "runtime/ledger.h"
#include "runtime/realm.h"
#include "runtime/record.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weir_bus weir_bus;
typedef struct weir_block weir_block;   // runtime/block.h
typedef struct weir_store weir_store;   // actors/store.h
typedef struct weir_poller weir_poller; // actors/poll.h
typedef struct weir_groups weir_groups; // actors/groups.h

#define WEIR_BUS_DEADLINE (-2) // flush_timeout, drain_timeout; of `connect`: 30 s

/*  Takes the records of a bus without store: called by one thread of the bus, block by
    block; the block is lent (weir_block_dup to keep it). When it returns they are safe.
 */
typedef void(weir_bus_take)(void *arg, weir_block *block);

/*  All of it is copied or lent as said; begin with weir_bus_defaults.              */
typedef struct {
    const char *name;    // of this bus, or of this sender for the other side; where keys
                         // are used it is the name in the own certificate; default "bus"
    size_t window_bytes; // most that is kept and not safe; a record that begins below it
                         // still fits
    size_t block_bytes;  // records travel in blocks of about this size
    size_t record_max;   // bytes of the largest record, encoded
    int64_t linger_us;   // longest that a record waits for others, to travel with them
    int64_t wait_us;     // longest that an append waits for room; 0: it does not wait;
                         // WEIR_FOREVER
    weir_ledger *ledger; // lent until the bus has ended; counts what is kept; NULL: none

    /*  A bus in this process. Without a store it needs `take` or `reader`; its name has
        1 to 63 letters, digits, _ or -. With the option `listen` others read it: realm
        or keys, below, say who may.                                                 */
    const char *const *options; // as a topology has them, names and values in turn, NULL
                                // behind the last: "ring_bytes", "64MB"; NULL: none
    const char *state_dir; // folder for durable things: a store lies in bus/NAME there,
                           // and the folder is made when it is missing; NULL: none
    weir_bus_take *take;
    void *take_arg;
    const char *reader; // inproc://NAME where an actor of this process listens
    weir_store *store;  // instead of that of the options; the bus's own from the moment
                        // that weir_bus_new succeeds

    /*  Or one elsewhere.                                                           */
    const char *connect; // the inlet: ipc://PATH or tcp://HOST:PORT of a source.link, or
                         // inproc://NAME of an actor of this process that listens there
    const char *server;  // tcp: the name in the certificate that the other side must have
    bool plaintext;      // tcp without encryption and without knowing who takes it
    const char *keys;    // folder with the own certificate; NULL: none
    weir_realm *realm; // lent until the bus has ended; instead of keys; NULL: an own one
    int64_t heartbeat_us; // between heartbeats; when three are missed it is lost
    int64_t connect_us;   // for connecting and shaking hands, before the next attempt
} weir_bus_config;

/*  32 MB window, 64 KB blocks, 8 MB records, 5 ms linger, appends wait for ever.   */
extern const weir_bus_config weir_bus_defaults;

/*  Starts the bus. One elsewhere: the first attempt to connect goes on in a thread of the
    bus, and that nobody listens yet is no error: see weir_bus_health. One in this process
    opens its store, which blocks on disk. Errors, with a report whose `where` is the
    option: WEIR_EINVAL, WEIR_ENOTFOUND, WEIR_EREFUSED, WEIR_EMALFORMED, WEIR_ESYS.  */
weir_err weir_bus_new(weir_bus **self_p, const weir_bus_config *config,
                      weir_report *report);

/*  Ends the bus: appends get WEIR_ECLOSED, no scaling starts, and what was appended is
    made safe until timeout_ms has passed; then the store is closed. Returns how many
    records were appended and are not known to be safe: with a peer that has taken them
    they may be so all the same. Several threads may close: all get the same answer.
    weir_bus_look and weir_bus_audit go on telling how it ended.                    */
uint64_t weir_bus_close(weir_bus *self, int timeout_ms);

/*  Closes it unless that was done, and frees it. *self_p becomes NULL; NULL is accepted.
    No other thread may be in a function of the bus, and its descriptor is closed.  */
uint64_t weir_bus_destroy(weir_bus **self_p, int timeout_ms);

/* --- Appending --------------------------------------------------------------------- */

/*  Appends a record, which is lent for the call and copied; *ticket (may be NULL) is set
    when it was taken. Blocks for at most wait_us. Errors: WEIR_EFULL, no room in window
    or ledger within that time; WEIR_ETOOBIG, larger than record_max, or half of
    ring_bytes; WEIR_EMALFORMED, a text that is not UTF-8, a payload, key or headers that
    are not what their type says; WEIR_ECLOSED, the bus is down or closed.          */
weir_err weir_bus_append(weir_bus *self, const weir_record *record, uint64_t *ticket);

/*  The same for a payload alone, and faster for WEIR_JSON and WEIR_TEXT. WEIR_JSON must
    be UTF-8; whether it is JSON is found out by who reads it.                      */
weir_err weir_bus_append_payload(weir_bus *self, weir_format format, const void *data,
                                 size_t size, uint64_t *ticket);

/*  Sends what waits, also in the open batches of shards, and returns when everything
    appended before the call is safe, or shed as `overflow` has it. WEIR_ETIMEOUT after
    timeout_ms: weir_bus_look tells of whom it waited for, and work goes on.
    WEIR_ECLOSED when the bus is down or closed before.                             */
weir_err weir_bus_flush(weir_bus *self, int timeout_ms);

/*  The ticket up to which everything is safe, and the last one that was given.     */
uint64_t weir_bus_acked(const weir_bus *self);
uint64_t weir_bus_appended(const weir_bus *self);

/*  A descriptor (eventfd) for the host's own loop: readable when weir_bus_acked has
    advanced or weir_bus_health has become DOWN. Read 8 bytes to make it wait again,
    then ask. It lives as long as the bus, which alone writes to it and closes it.  */
int weir_bus_fd(const weir_bus *self);

typedef enum {
    WEIR_BUS_WAITING = 0, // the other side is not there; the bus goes on trying
    WEIR_BUS_OPEN,        // it has welcomed us
    WEIR_BUS_DOWN,        // for good: destroy it; a new one may do better
} weir_bus_condition;

/*  What the bus is at this moment. report (may be NULL) receives the cause when it is
    not open: of WAITING with the code WEIR_ECLOSED, of DOWN with its own code.     */
weir_bus_condition weir_bus_health(weir_bus *self, weir_report *report);

/* --- A bus in this process --------------------------------------------------------- */

/*  What a shard holds that is not safe.                                            */
typedef struct {
    uint32_t shard;
    bool active;       // it takes records; else it is about to retire, or has
    uint64_t unsafe;   // records
    int64_t oldest_us; // age of the oldest of them; 0: there are none
    char error[256];   // of its store, while that fails; "": none
} weir_bus_shard;

/*  Fills in at most max shards, ascending, retired ones too; returns how many there are:
    0 for a bus elsewhere.                                                          */
size_t weir_bus_look(weir_bus *self, weir_bus_shard *shards, size_t max);

/*  Records since the start of the bus, at one instant of each shard, so that
        offered = accepted + full + sampled + too_large + invalid + closed
        accepted = safe + evicted + dead + resident
    hold at any time.                                                               */
typedef struct {
    uint64_t offered, accepted, full, sampled, too_large, invalid, closed;
    uint64_t safe, evicted, dead, resident;
} weir_bus_sums;
void weir_bus_audit(weir_bus *self, weir_bus_sums *sums);

/*  Makes it so many active shards, and returns when they are; vnodes move without losing
    the order of a key, and what a shard that goes has is made safe first. A policy (an
    option scale.*) may change the number again. WEIR_EINVAL: not within scale.min and
    scale.max (which is `shards` unless it is set); WEIR_ETIMEOUT after timeout_ms: it
    goes on; WEIR_ECLOSED; a report (may be NULL) says more. */
weir_err weir_bus_scale(weir_bus *self, uint32_t shards, int timeout_ms,
                        weir_report *report);

/*  Reading a bus with a store; NULL: it has none. A poller reads pages anywhere and
    belongs to one thread, which ends it; the groups are lent, for members in any threads
    (weir_groups_join). Both end before weir_bus_close.                             */
weir_poller *weir_bus_poller(weir_bus *self);
weir_groups *weir_bus_groups(weir_bus *self);

#ifdef __cplusplus
}
#endif
