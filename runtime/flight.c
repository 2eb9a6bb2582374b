#include "runtime/flight.h"
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

struct weir_flight {
    weir_flight *next, **at;
    weir_block *block; // a reference
    struct bucket *bucket;
};

/*  By the address of the body.                                                     */
#define BUCKETS 64

static struct bucket {
    pthread_mutex_t lock;
    weir_flight *first;
} buckets[BUCKETS] = {[0 ... BUCKETS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

/*  Bodies are some 64 KB apart; the high bits of the product have them all in.     */
static struct bucket *bucket_of(const void *body)
{
    return &buckets[(uint64_t)(uintptr_t)body * 0x9E3779B97F4A7C15ull >> 58];
}

weir_flight *weir_flight_begin(weir_block *block)
{
    weir_flight *self = malloc(sizeof *self);
    if (!self) abort();
    struct bucket *bucket = bucket_of(weir_block_body(block));
    *self = (weir_flight){.block = weir_block_dup(block), .bucket = bucket};
    pthread_mutex_lock(&bucket->lock);
    self->at = &bucket->first;
    self->next = bucket->first;
    if (self->next) self->next->at = &self->next;
    bucket->first = self;
    pthread_mutex_unlock(&bucket->lock);
    return self;
}

void weir_flight_end(weir_flight **self_p)
{
    weir_flight *self = *self_p;
    *self_p = NULL;
    pthread_mutex_lock(&self->bucket->lock);
    *self->at = self->next;
    if (self->next) self->next->at = self->at;
    pthread_mutex_unlock(&self->bucket->lock);
    weir_block_destroy(&self->block);
    free(self);
}

weir_block *weir_flight_find(const void *body, size_t size)
{
    struct bucket *bucket = bucket_of(body);
    weir_block *found = NULL;
    bool one = true;
    pthread_mutex_lock(&bucket->lock);
    for (const weir_flight *flight = bucket->first; flight; flight = flight->next) {
        weir_block *block = flight->block;
        if (weir_block_body(block) != body || weir_block_size(block) != size) continue;
        one = !found || found == block;
        if (!one) break;
        found = block;
    }
    if (found && one)
        weir_block_dup(found);
    else
        found = NULL;
    pthread_mutex_unlock(&bucket->lock);
    return found;
}
