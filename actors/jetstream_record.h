/*  jetstream_record: what a message of a stream is as a record. A class without sockets,
    for one thread.

        payload    the message's bytes; of a message that a bus's store has written, which
                   its id and its shape show, that record's
        headers    the message's, or that record's; and `subject` and `sequence`, where
                   the stream has it
        timestamp  when it was stored; or that record's

    Private to source.jetstream.                                                    */
#pragma once
#include <nats/nats.h>
#include "runtime/intake.h"

typedef struct {
    weir_envelope envelope;
    const uint8_t *data;
    size_t size;
    bool whole; // it is a record of a bus, and not to be framed
    weir_record inner;
    weir_buffer headers;
} weir_js_record;

/*  What points into the message lives as it does. unwrap: look for records of a bus.
   NULL, or a constant sentence that says why it is none. */
const char *weir_js_record_read(weir_js_record *self, natsMsg *msg, bool unwrap,
                                uint64_t sequence, int64_t stored_ms);
void weir_js_record_fini(weir_js_record *self);
