#include "actors/dedup.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { capacity_default = 4096, capacity_max = 1 << 24 };

/*  The ids lie in a ring, in the order in which they came. Slots find them by hash: open
    addressing with linear probing, at most half of them used; a slot holds the place of
    an id in the ring + 1, 0: free. Between an id's home slot and its own none is free. */
struct weir_dedup {
    weir_id *ring;   // owned
    size_t capacity; // of the ring
    size_t count;    // ids in it
    size_t next;     // place of the next id; when it is full, of the oldest
    uint32_t *slots; // owned
    size_t mask;     // number of slots - 1
};

weir_dedup *weir_dedup_new(size_t capacity)
{
    if (capacity == 0) capacity = capacity_default;
    if (capacity > capacity_max) return NULL;
    weir_dedup *self = calloc(1, sizeof *self);
    if (!self) abort();
    size_t slots = 2;
    while (slots < 2 * capacity)
        slots *= 2;
    self->capacity = capacity;
    self->mask = slots - 1;
    self->ring = calloc(capacity, sizeof *self->ring);
    self->slots = calloc(slots, sizeof *self->slots);
    if (!self->ring || !self->slots) abort();
    return self;
}

void weir_dedup_destroy(weir_dedup **self_p)
{
    weir_dedup *self = *self_p;
    if (!self) return;
    free(self->ring);
    free(self->slots);
    free(self);
    *self_p = NULL;
}

static size_t home_of(const weir_dedup *self, const weir_id *id)
{
    return XXH3_64bits(id, sizeof *id) & self->mask;
}

static bool is_same(const weir_id *a, const weir_id *b)
{
    return a->sequence == b->sequence && a->shard == b->shard && a->epoch == b->epoch &&
           a->nonce == b->nonce;
}

/*  The slot of the id, or the free one where it belongs.                           */
static size_t find(const weir_dedup *self, const weir_id *id)
{
    size_t slot = home_of(self, id);
    while (self->slots[slot] && !is_same(&self->ring[self->slots[slot] - 1], id))
        slot = (slot + 1) & self->mask;
    return slot;
}

/*  Frees a slot; moves back what lies behind it and would not be found any more.   */
static void clear(weir_dedup *self, size_t slot)
{
    size_t hole = slot;
    for (size_t at = (hole + 1) & self->mask; self->slots[at];
         at = (at + 1) & self->mask) {
        size_t home = home_of(self, &self->ring[self->slots[at] - 1]);
        if (((at - home) & self->mask) < ((at - hole) & self->mask)) continue;
        self->slots[hole] = self->slots[at];
        hole = at;
    }
    self->slots[hole] = 0;
}

bool weir_dedup_seen(weir_dedup *self, const weir_id *id)
{
    if (self->slots[find(self, id)]) return true;
    if (self->count == self->capacity)
        clear(self, find(self, &self->ring[self->next]));
    else
        self->count++;
    self->ring[self->next] = *id;
    self->slots[find(self, id)] = (uint32_t)self->next + 1;
    self->next = self->next + 1 == self->capacity ? 0 : self->next + 1;
    return false;
}

/* --- Text -------------------------------------------------------------------------- */

void weir_id_print(const weir_id *self, char text[WEIR_ID_TEXT])
{
    snprintf(text, WEIR_ID_TEXT, "%016" PRIx64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64,
             self->nonce, self->epoch, self->shard, self->sequence);
}

/*  There is one text for each id: what prints otherwise is refused.                */
bool weir_id_parse(weir_id *self, const char *text)
{
    weir_id id;
    char again[WEIR_ID_TEXT];
    if (strnlen(text, WEIR_ID_TEXT) == WEIR_ID_TEXT) return false;
    if (sscanf(text, "%16" SCNx64 ":%20" SCNu64 ":%20" SCNu64 ":%20" SCNu64, &id.nonce,
               &id.epoch, &id.shard, &id.sequence) != 4)
        return false;
    weir_id_print(&id, again);
    if (strcmp(text, again)) return false;
    *self = id;
    return true;
}
