/*  bus: the facade for C programs: appends records from any thread, and tells what is
    safe. Inside is an actor with one outlet, so that credit, reconnecting and replay
    are those of every link (docs/embedding.md).

        weir_bus_config config = weir_bus_defaults;
        config.connect = "ipc:///run/weir/in";
        if (weir_bus_new (&bus, &config, &report)) ... report.text
        weir_bus_append_payload (bus, WEIR_JSON, text, size, &ticket);
        weir_bus_flush (bus, 1000);
        lost = weir_bus_destroy (&bus, 1000);

    Each record has a ticket, 1 for the first. Tickets are the order in which records
    are sent and acknowledged; what one thread appends keeps its order. A record is safe
    when the other side has made it so; until then it is kept and sent again after each
    reconnect, at least once. Functions may be called from any thread unless they say
    otherwise; there is no global state, and a process may have many buses.

    This header may be included from C++.                                           */
#pragma once
#include "runtime/ledger.h"
#include "runtime/realm.h"
#include "runtime/record.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weir_bus weir_bus;

/*  All of it is copied or lent as said; begin with weir_bus_defaults.              */
typedef struct {
    const char *name;    // of this sender, for the other side; where keys are used it is
                         // the name in the own certificate; default "bus"
    const char *connect; // the inlet: ipc://PATH or tcp://HOST:PORT of a source.link, or
                         // inproc://NAME of an actor of this process that listens there
    const char *server;  // tcp: the name in the certificate that the other side must have
    bool plaintext;      // tcp without encryption and without knowing who takes it
    const char *keys;    // folder with the own certificate; NULL: none
    weir_realm *realm; // lent until the bus has ended; instead of keys; NULL: an own one
    weir_ledger *ledger;  // lent until the bus has ended; counts what is kept; NULL: none
    size_t window_bytes;  // most that is kept and not safe; a record that begins below it
                          // still fits
    size_t block_bytes;   // records travel in blocks of about this size
    size_t record_max;    // bytes of the largest record, encoded
    int64_t linger_us;    // longest that a record waits for others, to travel with them
    int64_t wait_us;      // longest that an append waits for room; 0: it does not wait;
                          // WEIR_FOREVER
    int64_t heartbeat_us; // between heartbeats; when three are missed it is lost
    int64_t connect_us;   // for connecting and shaking hands, before the next attempt
} weir_bus_config;

/*  32 MB window, 64 KB blocks, 8 MB records, 5 ms linger, appends wait for ever.   */
extern const weir_bus_config weir_bus_defaults;

/*  Starts the bus; its first attempt to connect goes on in its own thread. Errors, with
    a report: WEIR_EINVAL, WEIR_ENOTFOUND, WEIR_EREFUSED, WEIR_ESYS, for what no further
    attempt would mend. That nobody listens yet is none: see weir_bus_state.
    Does not block on the network.                                                  */
weir_err weir_bus_new(weir_bus **self_p, const weir_bus_config *config,
                      weir_report *report);

/*  Waits until everything is safe, at most timeout_ms (-1: for ever), and ends the bus.
    Returns how many records were appended and are not known to be safe: with a peer
    that has taken them they may be so all the same. *self_p becomes NULL; NULL is
    accepted. No other thread may be in a function of the bus, and its descriptor is
    closed.                                                                         */
uint64_t weir_bus_destroy(weir_bus **self_p, int timeout_ms);

/*  Appends a record, which is lent for the call and copied; *ticket (may be NULL) is set
    when it was taken. Blocks for at most wait_us. Errors: WEIR_EFULL, no room in window
    or ledger within that time; WEIR_ETOOBIG, larger than record_max; WEIR_EMALFORMED, a
    text that is not UTF-8, a payload, key or headers that are not what their type says;
    WEIR_ECLOSED, the bus is down.                                                  */
weir_err weir_bus_append(weir_bus *self, const weir_record *record, uint64_t *ticket);

/*  The same for a payload alone, and faster for WEIR_JSON and WEIR_TEXT. WEIR_JSON must
    be UTF-8; whether it is JSON is found out by who reads it.                      */
weir_err weir_bus_append_payload(weir_bus *self, weir_format format, const void *data,
                                 size_t size, uint64_t *ticket);

/*  Sends what waits, and returns when everything appended before the call is safe.
    WEIR_ETIMEOUT after timeout_ms (-1: never), WEIR_ECLOSED when the bus is down.  */
weir_err weir_bus_flush(weir_bus *self, int timeout_ms);

/*  The ticket up to which everything is safe, and the last one that was given.     */
uint64_t weir_bus_acked(const weir_bus *self);
uint64_t weir_bus_appended(const weir_bus *self);

/*  A descriptor (eventfd) for the host's own loop: readable when weir_bus_acked has
    advanced or weir_bus_state has become DOWN. Read 8 bytes to make it wait again,
    then ask. It lives as long as the bus, which alone writes to it and closes it.  */
int weir_bus_fd(const weir_bus *self);

typedef enum {
    WEIR_BUS_WAITING = 0, // the other side is not there; the bus goes on trying
    WEIR_BUS_OPEN,        // it has welcomed us
    WEIR_BUS_DOWN,        // for good: destroy it; a new one may do better
} weir_bus_condition;

/*  What the bus is at this moment. report (may be NULL) receives the cause when it is
    not open: of WAITING with the code WEIR_ECLOSED, of DOWN with its own code.     */
weir_bus_condition weir_bus_state(weir_bus *self, weir_report *report);

#ifdef __cplusplus
}
#endif
