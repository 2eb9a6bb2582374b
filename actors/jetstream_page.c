/*  The answer to a read, made of messages: consecutive records become chunks, offsets
    that are missing or bring no record of ours become gaps. */
#include <stdlib.h>
#include <string.h>
#include "actors/jetstream_private.h"

enum { chunk_bytes = 64 << 10 };

void weir_js_page_begin(weir_js_page *self, weir_read *read, uint64_t nonce)
{
    *self = (weir_js_page){.read = read, .position = read->after.a, .nonce = nonce};
}

/*  A page of few records needs no body for many: the first one tells their size.     */
static size_t target(const weir_read *read, size_t size)
{
    bool many = size * 2 > chunk_bytes / (read->max_records ? read->max_records : 1);
    return many ? chunk_bytes : 2 * size * read->max_records;
}

static void end_chunk(weir_js_page *self)
{
    weir_block *block = weir_builder_seal(&self->builder);
    if (!block) return;
    weir_chunk *chunk = &self->read->chunks[self->read->chunk_count - 1];
    chunk->block = block;
    chunk->last = (weir_position){self->position, 0};
}

static void begin_chunk(weir_js_page *self, const weir_id *id, uint64_t offset,
                        int64_t stored_ms)
{
    weir_read *read = self->read;
    read->chunks = realloc(read->chunks, (read->chunk_count + 1) * sizeof *read->chunks);
    if (!read->chunks) abort();
    read->chunks[read->chunk_count++] = (weir_chunk){.offset = offset,
                                                     .epoch = id->epoch,
                                                     .sequence = id->sequence,
                                                     .arrived_ms = stored_ms};
}

static void add_gap(weir_js_page *self, uint64_t last, bool damaged)
{
    end_chunk(self);
    weir_read_add_gap(self->read, &(weir_gap){.shard = self->read->shard,
                                              .first = self->position + 1,
                                              .last = last,
                                              .damaged = damaged});
    self->position = last;
}

void weir_js_page_trimmed(weir_js_page *self, uint64_t last)
{
    if (last > self->position) add_gap(self, last, false);
}

/*  The id of a record that belongs here.                                           */
static bool is_ours(const weir_js_page *self, natsMsg *msg, weir_id *id)
{
    const char *text;
    if (natsMsgHeader_Get(msg, WEIR_JS_ID, &text) || !weir_id_parse(id, text))
        return false;
    return id->shard == self->read->shard && (!self->nonce || id->nonce == self->nonce);
}

/*  One record, and nothing behind it.                                              */
static bool is_record(const uint8_t *data, size_t size)
{
    weir_reader reader = {data, data + size};
    return weir_record_check(&reader) == WEIR_OK && reader.at == reader.end;
}

void weir_js_page_add(weir_js_page *self, uint64_t offset, int64_t stored_ms,
                      natsMsg *msg)
{
    const uint8_t *data = (const uint8_t *)natsMsg_GetData(msg);
    size_t size = (size_t)natsMsg_GetDataLength(msg);
    weir_id id;
    weir_js_page_trimmed(self, offset - 1);
    if (!is_ours(self, msg, &id) || !is_record(data, size)) {
        add_gap(self, offset, true);
        return;
    }
    if ((self->builder.records && weir_builder_full(&self->builder)) ||
        id.epoch != self->epoch || id.sequence != self->sequence + 1)
        end_chunk(self);
    if (!self->builder.target) self->builder.target = target(self->read, size);
    if (!self->builder.records) begin_chunk(self, &id, offset, stored_ms);
    weir_builder_add_encoded(&self->builder, data, size, 1, NULL);
    self->epoch = id.epoch;
    self->sequence = id.sequence;
    self->position = offset;
    self->records++;
}

void weir_js_page_end(weir_js_page *self, bool more)
{
    end_chunk(self);
    weir_builder_fini(&self->builder);
    self->read->reached = (weir_position){self->position, 0};
    self->read->more = more;
}
