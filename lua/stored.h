/*  stored: a record of a bus with a store as a JSON object, as cat and recv print it. */
#pragma once
#include "runtime/record.h"

/*  Appends a line: shard, offset, id, ts, key, headers, payload.                      */
void weir_put_stored(weir_buffer *out, const weir_place *place,
                     const weir_record *record);
