/*  zmq_gaps: numbers that are missing in the sequences of many senders. A class without
    sockets.

    The memory is bounded: a table of fixed size, in which the sender that was silent
    for longest makes room. Who was forgotten begins anew.                      */
#pragma once
#include "runtime/err.h"

typedef struct weir_zmq_gaps weir_zmq_gaps;

weir_zmq_gaps *weir_zmq_gaps_new(void);
void weir_zmq_gaps_destroy(weir_zmq_gaps **self_p);

/*  Notes the sender's next number and gives how many are missing before it. The first
    number of a sender, and one that is not above the last (it has started again, or
    repeats), misses none; a leap of 2^32 or more is a new beginning, too.      */
uint64_t weir_zmq_gaps_note(weir_zmq_gaps *self, const void *sender, size_t size,
                            uint64_t number);
