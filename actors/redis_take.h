/*  redis_take: what an entry of a stream becomes: a payload with key and headers.

        a field is named       its value is the payload
        i and r, as a bus of   the record that it is, with key, timestamp and headers
        Weir writes them
        else                   a MessagePack map of all fields: text, or bytes where it is
                               not UTF-8

    Headers tell where it comes from: redis_stream, redis_id; weir_id is that of a bus's
    record. A class without sockets.                                                  */
#pragma once
#include <hiredis/hiredis.h>
#include "actors/store.h"
#include "runtime/intake.h"

typedef struct {
    const char *stream; // name; lent
    const char *field;  // lent; NULL: none is named
    /*  Of the last entry; points into it and into the buffers.                       */
    weir_envelope envelope;
    const uint8_t *data;
    size_t size;
    weir_buffer headers, body;
    const redisReply **names; // scratch
    size_t names_capacity;
} weir_redis_take;

void weir_redis_take_fini(weir_redis_take *self);

/*  fields is the entry's list of names and values, from outside and of any shape. NULL;
   or a constant sentence that says why it is no record: then data shows some of it. */
const char *weir_redis_take_entry(weir_redis_take *self, weir_position id,
                                  const redisReply *fields);
