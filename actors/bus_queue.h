/*  bus_queue: what lies between the threads that append to a bus and the actor's thread
    that sends: the open block, the blocks that wait, and those that are under way.

        append --> open block --seal--> waiting --take--> under way --acked--> safe

    Records are numbered from 1 by their ticket, in the order in which they are sent.
    A class without sockets. Any thread, unless a function says otherwise.          */
#pragma once
#include "runtime/block.h"

typedef struct weir_bus_queue weir_bus_queue;

typedef struct {
    weir_ledger *ledger;     // lent; counts the bodies of blocks; NULL: none
    const char *source;      // lent; the origin of all records
    size_t window_bytes;     // most that is held and not safe
    size_t block_bytes;      // target of a block's body
    int64_t linger_us;       // longest that a record waits in the open block
    int64_t wait_us;         // longest that an append waits for room; WEIR_FOREVER
    void (*wake)(void *arg); // the actor sleeps and has something to do; any thread
    void *arg;
} weir_bus_queue_config;

weir_bus_queue *weir_bus_queue_new(const weir_bus_queue_config *config);

/*  No other thread is in it any more. *self_p becomes NULL; NULL is accepted.      */
void weir_bus_queue_destroy(weir_bus_queue **self_p);

/*  Appends a payload, or a record that is encoded already and checked; both are within
    their limits. *ticket (may be NULL) is set when it was taken. Errors: WEIR_EFULL,
    no room within wait_us; WEIR_EMALFORMED, JSON that is not UTF-8; WEIR_ECLOSED, the
    queue is ended or closed.                                                       */
weir_err weir_bus_queue_payload(weir_bus_queue *self, weir_format format,
                                const uint8_t *data, size_t size, uint64_t *ticket);
weir_err weir_bus_queue_encoded(weir_bus_queue *self, const uint8_t *data, size_t size,
                                uint64_t *ticket);

/*  Waits until everything appended so far is safe. WEIR_ETIMEOUT; WEIR_ECLOSED. A
    negative timeout is none.                                                       */
weir_err weir_bus_queue_flush(weir_bus_queue *self, int64_t timeout_us);

/*  Appends get WEIR_ECLOSED from now on; what was taken goes on.                   */
void weir_bus_queue_end(weir_bus_queue *self);

uint64_t weir_bus_queue_appended(weir_bus_queue *self); // the last ticket given
uint64_t weir_bus_queue_acked(weir_bus_queue *self);    // all up to it is safe

/*  For the actor's thread: the next block to send, with the ticket of its last record;
    the block is given. NULL: there is none, the thread may sleep and will be woken;
    *wait_us is then how long the open block may still wait, or -1.                 */
weir_block *weir_bus_queue_take(weir_bus_queue *self, uint64_t *last, int64_t *wait_us);

/*  For the actor's thread: the highest ticket that a flush has waited for.          */
uint64_t weir_bus_queue_wanted(weir_bus_queue *self);

/*  For the actor's thread: the records up to this ticket are safe.                 */
void weir_bus_queue_ack(weir_bus_queue *self, uint64_t ticket);

/*  Nothing will be sent any more: who waits returns with WEIR_ECLOSED.             */
void weir_bus_queue_close(weir_bus_queue *self);
