/*  cursor: a place in every shard of one bus, as text that a client keeps.

        cursor = "w1" + base64url without padding of (M + low 32 bits of XXH3-64 (M),
                 big-endian)
        M      = MessagePack, shortest form: [1, nonce, first shard, [[shard, a, b], ..]]

    Shards ascend. Anything that is not exactly what we would write is refused.     */
#pragma once
#include "actors/store.h"

typedef struct {
    uint32_t shard;
    weir_position at; // the last one examined
} weir_mark;

typedef struct {
    uint64_t nonce;
    uint32_t first;   // shard with which the next poll begins its rounds
    weir_mark *marks; // owned, ascending by shard
    size_t count;
} weir_cursor;

/*  Appends the text.                                                               */
void weir_cursor_put(const weir_cursor *self, weir_buffer *out);

/*  Reads a text of size bytes. WEIR_EINVAL with a report whose text begins with
    "bad_cursor: ": malformed, or of another bus (its nonce).                       */
weir_err weir_cursor_read(weir_cursor *self, const char *text, size_t size,
                          uint64_t nonce, weir_report *report);
void weir_cursor_fini(weir_cursor *self);

/*  Becomes what the other one is, which is the start afterwards. What it was is freed. */
void weir_cursor_move(weir_cursor *self, weir_cursor *from);

/*  The place in a shard; the zero position when the cursor does not know it.       */
weir_position weir_cursor_get(const weir_cursor *self, uint32_t shard);
void weir_cursor_set(weir_cursor *self, uint32_t shard, weir_position at);
