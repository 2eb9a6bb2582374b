/*  doorman: what a listener does about its connections, beyond what libzmq does: bounds
    those that have not said anything yet (their number, their time, and what they may
    make us keep), and ends those that it is told to.

    A connection is known by its descriptor, which libzmq owns and may close and use
    again at any time: so it is looked at together with its inode, and only ever shut
    down, never closed. A class without sockets; one thread uses it.            */
#pragma once
#include "runtime/err.h"

typedef struct weir_doorman weir_doorman;

/*  silent_max: connections that may be without a first message at a time. For one more
    the oldest is ended, before others one that has not even begun to shake hands.  */
weir_doorman *weir_doorman_new(size_t silent_max);
void weir_doorman_destroy(weir_doorman **self_p);

/*  A connection was accepted; its first message is here; it has ended. cause: why hands
    were not shaken, which is logged with the address, once a minute; "": no matter.  */
void weir_doorman_accepted(weir_doorman *self, int fd);
void weir_doorman_spoke(weir_doorman *self, int fd);
void weir_doorman_lost(weir_doorman *self, int fd, const char *cause);

/*  Ends the connection in a moment, when what was sent to it has left.         */
void weir_doorman_end(weir_doorman *self, int fd);

/*  When the next one is to be looked at or ended; -1: none. And doing it, behind the
    reading of messages: a first one may be waiting.                             */
int64_t weir_doorman_deadline(const weir_doorman *self);
void weir_doorman_run_due(weir_doorman *self);

uint64_t weir_doorman_turned_away(const weir_doorman *self); // silent and ended
