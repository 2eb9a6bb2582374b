/*  uplink: an outlet with its connection: a DEALER for each attempt, made again when
    it dies, so that no message of an old connection comes before the new HELLO.

        away --due--> connecting --hands shaken--> greeting --WELCOME--> open
          ^              |                            |                    |
          '--- backoff --'---- refused, no answer ----'--- lost, GAP ------'

    Serves one thread; nothing blocks. Inside the process there is no handshake and no
    waiting: it greets at once.                                                */
#pragma once
#include "runtime/link.h"
#include "runtime/loop.h"
#include "runtime/socket.h"

/*  For the links between processes: how long to wait before the next attempt.  */
typedef struct {
    int64_t first_us, max_us; // doubles from first to max; jitter 20 %
    int64_t refused_us;       // after a refusal that another attempt will not mend
} weir_backoff;

/*  100 ms to 500 ms, so that a peer that returns is back within a second; 10 s.  */
extern const weir_backoff weir_backoff_defaults;

typedef struct weir_uplink weir_uplink;

typedef struct {
    weir_endpoint endpoint; // texts are lent for the uplink's life
    weir_backoff backoff;
    weir_loop *loop;
    /*  Of the outlet; its send, closed and arg are the uplink's own business.  */
    weir_outlet_config outlet;
    /*  The uplink has something to do: put it on a list of those to be read.    */
    void (*wake)(void *arg);
    void (*acked)(void *arg, uint64_t sequence);
    void (*refused)(void *arg, uint64_t sequence, weir_block *block, const char *code,
                    const char *text);
    /*  Inside the process: the reader has ended the link for good, or broke the
        protocol. Between processes that never happens: it is tried again.      */
    void (*failed)(void *arg, weir_err err, const char *text);
    void *arg;
} weir_uplink_config;

/*  Makes the first attempt. Errors: those that no other attempt can mend (a bad
    endpoint, no certificate of that name, inproc without a listener).          */
weir_err weir_uplink_new(weir_uplink **self_p, const weir_uplink_config *config,
                         weir_report *report);
void weir_uplink_destroy(weir_uplink **self_p);

weir_outlet *weir_uplink_outlet(const weir_uplink *self);

/*  Takes what has come, at most a share of it. True: there is more.            */
bool weir_uplink_read(weir_uplink *self);

/*  Sends what is queued, as far as credit allows. True: something may have come
    meanwhile, without a wake.                                                  */
bool weir_uplink_flush(weir_uplink *self);

/*  When something falls due (an attempt, the end of one); -1: nothing. And doing it. */
int64_t weir_uplink_deadline(const weir_uplink *self);
void weir_uplink_run_due(weir_uplink *self);

/*  Ends the connection, and waits as after a refusal before the next attempt.    */
void weir_uplink_distrust(weir_uplink *self, const char *cause);

/*  Why it is not open, as a sentence, "" when it is.                           */
const char *weir_uplink_trouble(const weir_uplink *self);
uint64_t weir_uplink_connects(const weir_uplink *self); // times that it was open
