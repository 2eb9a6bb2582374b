/*  stored: a record of a bus with a store as a JSON object, as cat and recv print it. */
#pragma once
#include "runtime/record.h"

typedef struct {
    uint32_t shard;
    uint64_t offset, epoch, sequence;
} weir_place;

/*  Appends a line: shard, offset, id, ts, key, headers, payload.                      */
void weir_put_stored(weir_buffer *out, uint64_t nonce, const weir_place *place,
                     const weir_record *record);
