#include <stdlib.h>
#include "actors/redis_reading.h"

/* --- One entry --------------------------------------------------------------------- */

static bool read_record(weir_redis_entry *self, const redisReply *text)
{
    weir_record record;
    weir_reader reader = {(const uint8_t *)text->str,
                          (const uint8_t *)text->str + text->len};
    if (weir_record_read(&record, &reader, false) || reader.at != reader.end)
        return false;
    self->data = (const uint8_t *)text->str;
    self->size = text->len;
    self->ts_ms = record.ts_ms;
    return record.has_ts;
}

/*  [id, ["i", id of the record, "r", record]]                                       */
bool weir_redis_entry_read(weir_redis_entry *self, const weir_redis *store,
                           uint32_t shard, const redisReply *reply)
{
    *self = (weir_redis_entry){.ours = false};
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        !weir_redis_id_read(&self->at, reply->element[0]))
        return false;
    const redisReply *fields = reply->element[1];
    self->ours = fields->type == REDIS_REPLY_ARRAY && fields->elements == 4 &&
                 weir_redis_says(fields->element[0], "i") &&
                 weir_redis_is_id(store, shard, self->at, fields->element[1]) &&
                 weir_redis_says(fields->element[2], "r") &&
                 weir_redis_is_text(fields->element[3]) &&
                 read_record(self, fields->element[3]);
    return true;
}

/* --- Gaps -------------------------------------------------------------------------- */

static void add_gap(weir_read *read, const weir_gap *gap)
{
    read->gaps = realloc(read->gaps, (read->gap_count + 1) * sizeof *read->gaps);
    if (!read->gaps) abort();
    read->gaps[read->gap_count++] = *gap;
}

/*  Epoch 0 is nobody's: a gap of it would be one of offsets.                        */
static void pass(weir_redis_reading *self, weir_position at)
{
    weir_read *read = self->read;
    weir_gap *gap = read->gap_count ? &read->gaps[read->gap_count - 1] : NULL;
    weir_redis_reading_seal(self);
    if (gap && gap->epoch == at.a && gap->last + 1 == at.b && at.b)
        gap->last = at.b;
    else if (at.a)
        add_gap(read, &(weir_gap){.shard = read->shard,
                                  .first = at.b,
                                  .last = at.b,
                                  .damaged = true,
                                  .epoch = at.a});
}

void weir_redis_reading_trimmed(weir_redis_reading *self, weir_position first)
{
    weir_read *read = self->read;
    uint64_t from = first.a == self->begin.a ? self->begin.b + 1 : 1;
    if (!first.a || first.b <= from) return;
    add_gap(read, &(weir_gap){0});
    memmove(read->gaps + 1, read->gaps, (read->gap_count - 1) * sizeof *read->gaps);
    read->gaps[0] = (weir_gap){
        .shard = read->shard, .first = from, .last = first.b - 1, .epoch = first.a};
}

/* --- Chunks ------------------------------------------------------------------------ */

void weir_redis_reading_seal(weir_redis_reading *self)
{
    weir_block *block = weir_builder_seal(&self->builder);
    if (!block) return;
    weir_chunk *chunk = &self->read->chunks[self->read->chunk_count - 1];
    chunk->block = block;
    chunk->last = self->at;
}

static void begin_chunk(weir_redis_reading *self, const weir_redis_entry *entry)
{
    weir_read *read = self->read;
    read->chunks = realloc(read->chunks, (read->chunk_count + 1) * sizeof *read->chunks);
    if (!read->chunks) abort();
    read->chunks[read->chunk_count++] = (weir_chunk){
        .epoch = entry->at.a, .sequence = entry->at.b, .arrived_ms = entry->ts_ms};
}

/*  A chunk's records follow each other without a gap in the sequence, so each has its
    place by the last one's.                                                         */
bool weir_redis_reading_add(weir_redis_reading *self, const weir_redis_entry *entry)
{
    const weir_read *read = self->read;
    if (!entry->ours) {
        pass(self, entry->at);
        self->at = entry->at;
        return true;
    }
    if (self->records == read->max_records ||
        (self->records && self->bytes + entry->size > read->max_bytes))
        return false;
    if (entry->at.a != self->at.a || entry->at.b != self->at.b + 1)
        weir_redis_reading_seal(self);
    if (!self->builder.records) begin_chunk(self, entry);
    weir_builder_add_encoded(&self->builder, entry->data, entry->size, 1, NULL);
    self->records++;
    self->bytes += entry->size;
    self->at = entry->at;
    return true;
}
