#include "actors/zmq_gaps.h"
#include <stdlib.h>
#include <xxhash.h>

#define SETS 4096
#define WAYS 4

static const uint64_t leap = 1ull << 32;

typedef struct {
    uint64_t sender; // hash of its name; 0: free
    uint64_t last;   // its last number
    uint64_t used;   // when that came, by the table's own clock
} slot;

struct weir_zmq_gaps {
    uint64_t clock;
    slot sets[SETS][WAYS];
};

weir_zmq_gaps *weir_zmq_gaps_new(void)
{
    weir_zmq_gaps *self = calloc(1, sizeof *self);
    if (!self) abort();
    return self;
}

void weir_zmq_gaps_destroy(weir_zmq_gaps **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

/*  The sender's slot, or the one that was used least recently.                  */
static slot *find_slot(weir_zmq_gaps *self, uint64_t sender)
{
    slot *set = self->sets[(sender >> 1) % SETS], *oldest = set;
    for (int i = 0; i < WAYS; i++) {
        if (set[i].sender == sender) return &set[i];
        if (set[i].used < oldest->used) oldest = &set[i];
    }
    return oldest;
}

uint64_t weir_zmq_gaps_note(weir_zmq_gaps *self, const void *sender, size_t size,
                            uint64_t number)
{
    uint64_t hash = XXH3_64bits(sender, size) | 1;
    slot *s = find_slot(self, hash);
    uint64_t missing = 0;
    if (s->sender == hash && number > s->last) missing = number - s->last - 1;
    *s = (slot){hash, number, ++self->clock};
    return missing < leap ? missing : 0;
}
