/*  dedup: tells a consumer which records it has seen, by their ids: a first-in first-out
    set of the last so many. Not for several threads at once.                       */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_dedup weir_dedup;

typedef struct {
    uint64_t nonce, epoch, shard, sequence;
} weir_id;

/*  Remembers the last `capacity` ids, 1 to 2^24; 0: 4096. NULL when it is out of range.
 */
weir_dedup *weir_dedup_new(size_t capacity);
void weir_dedup_destroy(weir_dedup **self_p);

/*  True when the id was seen among the last ones; else it is from now on.          */
bool weir_dedup_seen(weir_dedup *self, const weir_id *id);

/*  "nonce:epoch:shard:sequence", the nonce in 16 hex digits, the rest decimal.     */
#define WEIR_ID_TEXT 80
void weir_id_print(const weir_id *self, char text[WEIR_ID_TEXT]);
bool weir_id_parse(weir_id *self, const char *text);
