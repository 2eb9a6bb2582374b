#include "actors/jetstream_spans.h"
#include <string.h>

/*  The first span that ends there or later.                                         */
static uint32_t find(const weir_js_spans *self, uint64_t sequence)
{
    uint32_t low = 0, high = self->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (self->items[middle].last < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void remove_at(weir_js_spans *self, uint32_t at)
{
    memmove(self->items + at, self->items + at + 1,
            (--self->count - at) * sizeof *self->items);
}

static void insert_at(weir_js_spans *self, uint32_t at, uint64_t sequence)
{
    memmove(self->items + at + 1, self->items + at,
            (self->count++ - at) * sizeof *self->items);
    self->items[at] = (weir_js_span){sequence, sequence};
    if (self->count > WEIR_JS_SPANS_MAX) remove_at(self, 0);
}

bool weir_js_spans_has(const weir_js_spans *self, uint64_t sequence)
{
    uint32_t at = find(self, sequence);
    return at < self->count && self->items[at].first <= sequence;
}

void weir_js_spans_add(weir_js_spans *self, uint64_t sequence)
{
    uint32_t at = find(self, sequence);
    weir_js_span *next = at < self->count ? &self->items[at] : NULL;
    weir_js_span *before = at > 0 ? &self->items[at - 1] : NULL;
    if (next && next->first <= sequence) return;
    bool joins_before = before && before->last + 1 == sequence;
    bool joins_next = next && next->first == sequence + 1;
    if (joins_before) before->last = sequence;
    if (joins_before && joins_next) {
        before->last = next->last;
        remove_at(self, at);
    } else if (joins_next) {
        next->first = sequence;
    } else if (!joins_before) {
        insert_at(self, at, sequence);
    }
}

uint64_t weir_js_spans_next(const weir_js_spans *self, uint64_t after)
{
    uint32_t at = find(self, after + 1);
    if (at == self->count) return 0;
    uint64_t first = self->items[at].first;
    return first > after ? first : after + 1;
}
