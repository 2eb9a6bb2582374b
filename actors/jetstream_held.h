/*  jetstream_held: the messages that source.jetstream has from the server and whose
    acknowledgement is not confirmed, in the order in which they came, and found by their
    sequences in the stream. A class without sockets.

    Private to source.jetstream.                                                    */
#pragma once
#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t sequence;  // in the stream; 0: of a stream that is gone
    uint64_t delivered; // how often it was, this time included
    bool done;          // it was safe before: only its acknowledgement is to be repeated
    int64_t stored_ms;
    char *reply;  // owned: the subject for acknowledgements; NULL: of a consumer that is
                  // gone
    natsMsg *msg; // owned, until somebody takes it; NULL: that was done
} weir_js_item;

/*  Items have numbers from 1: those from first to end - 1 are held.                  */
typedef struct {
    weir_js_item *items; // a ring
    uint64_t *index;     // open addressing: numbers by sequence; 0: free
    uint64_t capacity, places;
    uint64_t first, end;
} weir_js_held;

void weir_js_held_init(weir_js_held *self, uint64_t capacity);
void weir_js_held_fini(weir_js_held *self);

static inline uint64_t weir_js_held_count(const weir_js_held *self)
{
    return self->end - self->first;
}

/*  One that is held.                                                               */
static inline weir_js_item *weir_js_held_at(const weir_js_held *self, uint64_t number)
{
    return &self->items[number % self->capacity];
}

/*  The number of the message with this sequence; 0: it is not held.                  */
uint64_t weir_js_held_find(const weir_js_held *self, uint64_t sequence);

/*  Holds one more, whose sequence is not held. Takes msg; copies the reply. False: there
    is no room, and nothing was taken.                                              */
bool weir_js_held_add(weir_js_held *self, const weir_js_item *item);

/*  It was delivered once more.                                                     */
void weir_js_held_renew(weir_js_held *self, uint64_t number, const char *reply);

/*  Up to this number nothing is held any more.                                     */
void weir_js_held_drop(weir_js_held *self, uint64_t last);

/*  The stream is gone: no sequence and no reply of now means anything any more.       */
void weir_js_held_orphan(weir_js_held *self);

/*  The lowest sequence behind the number; 0: there is none.                         */
uint64_t weir_js_held_lowest(const weir_js_held *self, uint64_t behind);
