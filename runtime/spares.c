#include "runtime/spares.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct weir_spares {
    atomic_uint references;
    size_t bytes, most;
    pthread_mutex_t lock; // of what follows
    size_t count;
    uint8_t
        *bodies[]; // of most; the last one given is the first taken: it is in the cache
};

weir_spares *weir_spares_new(size_t bytes, size_t most)
{
    weir_spares *self = calloc(1, sizeof *self + most * sizeof *self->bodies);
    if (!self) abort();
    atomic_init(&self->references, 1);
    self->bytes = bytes;
    self->most = most;
    pthread_mutex_init(&self->lock, NULL);
    return self;
}

weir_spares *weir_spares_dup(weir_spares *self)
{
    atomic_fetch_add_explicit(&self->references, 1, memory_order_relaxed);
    return self;
}

void weir_spares_destroy(weir_spares **self_p)
{
    weir_spares *self = *self_p;
    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1) return;
    while (self->count)
        free(self->bodies[--self->count]);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

size_t weir_spares_bytes(const weir_spares *self)
{
    return self->bytes;
}

uint8_t *weir_spares_take(weir_spares *self)
{
    uint8_t *body = NULL;
    pthread_mutex_lock(&self->lock);
    if (self->count) body = self->bodies[--self->count];
    pthread_mutex_unlock(&self->lock);
    if (!body) body = malloc(self->bytes);
    if (!body) abort();
    return body;
}

void weir_spares_give(weir_spares *self, uint8_t *body)
{
    pthread_mutex_lock(&self->lock);
    if (self->count < self->most) {
        self->bodies[self->count++] = body;
        body = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    free(body);
}
