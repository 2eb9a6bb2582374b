#include "actors/late_reads.h"
#include "actors/poll_lane.h"
#include "actors/read_box.h"

static weir_read *take_out(weir_late_reads *self, size_t i)
{
    weir_read *read = self->reads[i].read;
    self->count--;
    memmove(&self->reads[i], &self->reads[i + 1],
            (self->count - i) * sizeof *self->reads);
    return read;
}

static void drop_oldest(weir_late_reads *self)
{
    weir_read *read = take_out(self, 0);
    weir_read_destroy(&read);
}

static void drop_outdated(weir_late_reads *self, int64_t now_us)
{
    while (self->count && self->reads[0].until_us <= now_us)
        drop_oldest(self);
}

void weir_late_reads_fini(weir_late_reads *self)
{
    while (self->count)
        drop_oldest(self);
}

static size_t bytes_of(const weir_late_reads *self)
{
    size_t bytes = 0;
    for (size_t i = 0; i < self->count; i++)
        bytes += self->reads[i].bytes;
    return bytes;
}

/*  Where the end was once is asked for by nobody.                                  */
static bool is_of_use(const weir_read *read)
{
    return !read->err && read->since_ms != INT64_MAX &&
           !weir_position_equal(read->after, read->reached);
}

void weir_late_reads_add(weir_late_reads *self, weir_read **read_p, int64_t now_us)
{
    weir_late_read one = {.read = *read_p, .until_us = now_us + WEIR_LATE_READS_US};
    *read_p = NULL;
    if (!is_of_use(one.read)) {
        weir_read_destroy(&one.read);
        return;
    }
    for (uint32_t i = 0; i < one.read->chunk_count; i++)
        one.bytes += weir_block_size(one.read->chunks[i].block);
    drop_outdated(self, now_us);
    while (self->count && (self->count == WEIR_LATE_READS_MAX ||
                           bytes_of(self) + one.bytes > WEIR_LATE_READS_BYTES))
        drop_oldest(self);
    self->reads[self->count++] = one;
}

weir_read *weir_late_reads_take(weir_late_reads *self, uint32_t shard,
                                weir_position after, int64_t since_ms, int64_t now_us)
{
    drop_outdated(self, now_us);
    for (size_t i = 0; i < self->count; i++) {
        const weir_read *read = self->reads[i].read;
        if (read->shard == shard && read->since_ms == since_ms &&
            weir_position_equal(read->after, after))
            return take_out(self, i);
    }
    return NULL;
}
