/*  stored: a record of a bus with a store as a JSON object, as cat and recv print it. */
#pragma once
#include "actors/poll.h"

/*  Appends a line: shard, offset, id, ts, key, headers, payload. The offset is a number,
    or a text "epoch-sequence" where the store's places are such (weir_put_place).     */
void weir_put_stored(weir_buffer *out, uint64_t nonce, const weir_polled *polled);

/*  Appends a place: "17", or "4-17" where it has two parts.                           */
void weir_put_place(weir_buffer *out, weir_position at);
