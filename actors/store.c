#include "actors/store.h"
#include <assert.h>
#include <stdlib.h>

/* --- Fences ------------------------------------------------------------------------ */

static weir_fence *copy_fences(const weir_fence *list, size_t count)
{
    weir_fence *copy = calloc(count + 1, sizeof *copy);
    if (!copy) abort();
    if (count) memcpy(copy, list, count * sizeof *copy);
    return copy;
}

void weir_fence_list_fini(weir_fence_list *self)
{
    free(self->list);
    pthread_mutex_destroy(&self->lock);
}

void weir_fence_list_set(weir_fence_list *self, const weir_fence *list, size_t count)
{
    weir_fence *copy = copy_fences(list, count);
    pthread_mutex_lock(&self->lock);
    free(self->list);
    self->list = copy;
    self->count = count;
    pthread_mutex_unlock(&self->lock);
}

void weir_fence_list_get(weir_fence_list *self, weir_fence **list, size_t *count)
{
    pthread_mutex_lock(&self->lock);
    *list = copy_fences(self->list, self->count);
    *count = self->count;
    pthread_mutex_unlock(&self->lock);
}

/* --- Batch ------------------------------------------------------------------------- */

weir_batch *weir_batch_new(void)
{
    weir_batch *self = calloc(1, sizeof *self);
    if (!self) abort();
    atomic_init(&self->references, 1);
    atomic_init(&self->held, false);
    return self;
}

weir_batch *weir_batch_dup(weir_batch *self)
{
    atomic_fetch_add_explicit(&self->references, 1, memory_order_relaxed);
    return self;
}

void weir_batch_destroy(weir_batch **self_p)
{
    weir_batch *self = *self_p;
    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1) return;
    for (uint32_t i = 0; i < self->piece_count; i++)
        weir_block_destroy(&self->pieces[i].block);
    free(self->pieces);
    free(self->fences);
    free(self);
}

static void grow(weir_batch *self)
{
    self->piece_capacity = self->piece_capacity ? 2 * self->piece_capacity : 8;
    self->pieces = realloc(self->pieces, self->piece_capacity * sizeof *self->pieces);
    if (!self->pieces) abort();
}

void weir_batch_add(weir_batch *self, weir_piece *piece)
{
    assert(piece->block);
    if (self->piece_count == self->piece_capacity) grow(self);
    self->records += weir_block_records(piece->block);
    self->bytes += weir_block_size(piece->block);
    self->pieces[self->piece_count++] = *piece;
    piece->block = NULL;
}

int64_t weir_batch_oldest_us(const weir_batch *self)
{
    return self && self->piece_count ? self->pieces[0].since_us : 0;
}

bool weir_batch_next(weir_batch_walk *self, weir_record *record)
{
    for (; self->piece < self->batch->piece_count; self->piece++) {
        self->walk.block = self->batch->pieces[self->piece].block;
        if (weir_iterator_next(&self->walk, record, NULL)) return true;
        self->walk = (weir_iterator){0};
    }
    return false;
}

/* --- Read -------------------------------------------------------------------------- */

void weir_read_fini(weir_read *self)
{
    for (uint32_t i = 0; i < self->chunk_count; i++)
        weir_block_destroy(&self->chunks[i].block);
    free(self->chunks);
    free(self->gaps);
    self->chunks = NULL;
    self->gaps = NULL;
    self->chunk_count = self->gap_count = 0;
}

void weir_read_add_gap(weir_read *self, const weir_gap *gap)
{
    weir_gap *before = self->gap_count ? &self->gaps[self->gap_count - 1] : NULL;
    if (before && before->last + 1 == gap->first && before->damaged == gap->damaged &&
        before->epoch == gap->epoch) {
        before->last = gap->last;
        return;
    }
    self->gaps = realloc(self->gaps, (self->gap_count + 1) * sizeof *self->gaps);
    if (!self->gaps) abort();
    self->gaps[self->gap_count++] = *gap;
}
