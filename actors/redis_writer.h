/*  redis_writer: entries on their way into streams, in the order in which they were given
    for each stream. Of a stream one chunk is out at a time, which the server takes whole
    or not at all, so that what follows an entry that failed cannot overtake it:

        with ids      a script, which adds each once (redis_once.h)
        without       MULTI, XADDs, EXEC; a single one goes as a bare XADD

    What was out when a connection broke is sent again: it is not known whether it was
    stored, and with ids it does not matter. Belongs to one thread, and blocks never.  */
#pragma once
#include "actors/redis_once.h"
#include "actors/redis_port.h"

/*  Made by the owner by malloc; the writer frees it when it is settled.               */
typedef struct weir_redis_item {
    struct weir_redis_item *next;
    void *load; // the owner's, like the two that follow
    const weir_run *origin;
    size_t offset;
    weir_redis_id_kind kind;
    weir_place place; // its id, if that is its kind
    size_t size;      // bytes of the words
    uint8_t words[];  // as the protocol has them
} weir_redis_item;

typedef struct {
    weir_redis_port *port; // lent; its lines are the writer's
    size_t words;          // of an entry, beside the id
    int64_t maxlen;        // WEIR_FOREVER: none
    int64_t dedup_us;      // how long ids are remembered
    /*  Stored; or refused (a sentence): it never will be.                             */
    void (*settled)(void *arg, const weir_redis_item *item, const char *refused);
    void *arg;
} weir_redis_writer_config;

typedef struct weir_redis_writer weir_redis_writer;

/*  NULL: the server may not be spoken to.                                             */
weir_redis_writer *weir_redis_writer_new(const weir_redis_writer_config *config);
void weir_redis_writer_destroy(weir_redis_writer **self_p); // settles nothing

void weir_redis_writer_add(weir_redis_writer *self, const uint8_t *name, size_t size,
                           weir_redis_item **item_p);

/*  Appends what may be sent now; weir_redis_port_run follows. Microseconds until there
    is more to do, -1: an answer has to come first.                                    */
int64_t weir_redis_writer_run(weir_redis_writer *self);

size_t weir_redis_writer_entries(const weir_redis_writer *self); // not settled
size_t weir_redis_writer_bytes(const weir_redis_writer *self);   // of them
