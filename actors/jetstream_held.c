#include "actors/jetstream_held.h"
#include <stdlib.h>
#include <string.h>

/*  At most a quarter of the places of the index is used.                            */
enum { spread = 4 };

void weir_js_held_init(weir_js_held *self, uint64_t capacity)
{
    *self = (weir_js_held){.capacity = capacity, .places = 1, .first = 1, .end = 1};
    while (self->places < spread * capacity)
        self->places *= 2;
    self->items = calloc(capacity, sizeof *self->items);
    self->index = calloc(self->places, sizeof *self->index);
    if (!self->items || !self->index) abort();
}

void weir_js_held_fini(weir_js_held *self)
{
    if (!self->items) return;
    weir_js_held_drop(self, self->end - 1);
    free(self->items);
    free(self->index);
    *self = (weir_js_held){0};
}

/* --- Index ------------------------------------------------------------------------- */

/*  Fibonacci hashing: sequences are mostly consecutive.                             */
static uint64_t home_of(const weir_js_held *self, uint64_t sequence)
{
    return (sequence * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (self->places - 1);
}

/*  Its place, or the free one where it would be.                                    */
static uint64_t place_of(const weir_js_held *self, uint64_t sequence)
{
    uint64_t at = home_of(self, sequence);
    while (self->index[at] &&
           weir_js_held_at(self, self->index[at])->sequence != sequence)
        at = (at + 1) & (self->places - 1);
    return at;
}

/*  What stands behind it and could not stand nearer to its home moves up.            */
static void take_out(weir_js_held *self, uint64_t sequence)
{
    uint64_t mask = self->places - 1, hole = place_of(self, sequence);
    for (uint64_t at = (hole + 1) & mask; self->index[at]; at = (at + 1) & mask) {
        uint64_t home = home_of(self, weir_js_held_at(self, self->index[at])->sequence);
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        self->index[hole] = self->index[at];
        hole = at;
    }
    self->index[hole] = 0;
}

uint64_t weir_js_held_find(const weir_js_held *self, uint64_t sequence)
{
    return self->index[place_of(self, sequence)];
}

/* --- Items ------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    char *to = strdup(text);
    if (!to) abort();
    return to;
}

bool weir_js_held_add(weir_js_held *self, const weir_js_item *item)
{
    if (weir_js_held_count(self) == self->capacity) return false;
    weir_js_item *to = weir_js_held_at(self, self->end);
    self->index[place_of(self, item->sequence)] = self->end++;
    *to = *item;
    to->reply = copy(item->reply);
    return true;
}

void weir_js_held_renew(weir_js_held *self, uint64_t number, const char *reply)
{
    weir_js_item *item = weir_js_held_at(self, number);
    free(item->reply);
    item->reply = copy(reply);
}

void weir_js_held_drop(weir_js_held *self, uint64_t last)
{
    for (; self->first <= last && self->first < self->end; self->first++) {
        weir_js_item *item = weir_js_held_at(self, self->first);
        if (item->sequence) take_out(self, item->sequence);
        free(item->reply);
        natsMsg_Destroy(item->msg);
        *item = (weir_js_item){0};
    }
}

void weir_js_held_orphan(weir_js_held *self)
{
    memset(self->index, 0, self->places * sizeof *self->index);
    for (uint64_t n = self->first; n < self->end; n++) {
        weir_js_item *item = weir_js_held_at(self, n);
        item->sequence = 0;
        free(item->reply);
        item->reply = NULL;
    }
}

uint64_t weir_js_held_lowest(const weir_js_held *self, uint64_t behind)
{
    uint64_t lowest = 0, n = behind + 1 > self->first ? behind + 1 : self->first;
    for (; n < self->end; n++) {
        uint64_t sequence = weir_js_held_at(self, n)->sequence;
        if (sequence && (!lowest || sequence < lowest)) lowest = sequence;
    }
    return lowest;
}
