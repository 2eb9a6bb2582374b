#include "actors/poll_lane.h"
#include "actors/read_box.h"
#include "runtime/clock.h"
#include <stdio.h>

/*  Room for one element more in an array that grows by doubling: the count says when. */
static void *grow(void *array, size_t count, size_t size)
{
    if (count & (count - 1)) return array; // no power of two, so there is room
    array = realloc(array, (count ? 2 * count : 1) * size);
    if (!array) abort();
    return array;
}

/* --- Page -------------------------------------------------------------------------- */

void weir_page_fini(weir_page *self)
{
    for (size_t i = 0; i < self->block_count; i++)
        weir_block_destroy(&self->blocks[i]);
    free(self->blocks);
    free(self->records);
    free(self->slow);
    free(self->failed);
    free(self->gaps);
    weir_cursor_fini(&self->cursor);
    *self = (weir_page){0};
}

static void add_trouble(weir_poll_trouble **list, size_t *count, uint32_t shard,
                        const char *text)
{
    *list = grow(*list, *count, sizeof **list);
    weir_poll_trouble *trouble = &(*list)[(*count)++];
    trouble->shard = shard;
    snprintf(trouble->text, sizeof trouble->text, "%s", text);
}

static void add_gap(weir_page *page, const weir_gap *gap)
{
    page->gaps = grow(page->gaps, page->gap_count, sizeof *page->gaps);
    page->gaps[page->gap_count++] = *gap;
}

static void add_block(weir_page *page, weir_block *block)
{
    page->blocks = grow(page->blocks, page->block_count, sizeof *page->blocks);
    page->blocks[page->block_count++] = block;
}

/*  Copies the records from `first` on into a block of their own.                   */
static weir_block *copy_records(weir_page *page, size_t first, size_t bytes)
{
    weir_builder builder = {.target = bytes};
    for (size_t i = first; i < page->count; i++) {
        const weir_record *record = &page->records[i].record;
        weir_builder_add_encoded(&builder, record->encoded, record->encoded_size, 1,
                                 NULL);
    }
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_iterator walk = {.block = block};
    for (size_t i = first; i < page->count; i++) {
        weir_record *record = &page->records[i].record;
        int64_t ts_ms = record->ts_ms;
        weir_iterator_next(&walk, record, NULL);
        record->has_ts = true;
        record->ts_ms = ts_ms;
    }
    return block;
}

/*  Keeps the block in which the records from `first` on lie, or only these when they are
    under half of it: a page with few matches must not hold all that was examined.  */
static void keep_block(weir_page *page, size_t first, weir_block *block)
{
    size_t bytes = 0;
    if (first == page->count) return;
    for (size_t i = first; i < page->count; i++)
        bytes += page->records[i].record.encoded_size;
    block = 2 * bytes < weir_block_size(block) ? copy_records(page, first, bytes)
                                               : weir_block_dup(block);
    add_block(page, block);
    for (size_t i = first; i < page->count; i++)
        page->records[i].block = block;
}

/* --- Lane -------------------------------------------------------------------------- */

bool weir_position_equal(weir_position a, weir_position b)
{
    return a.a == b.a && a.b == b.b;
}

/*  The place of record i of a chunk, of -1 the one before it. Where offsets are no
    numbers (0), b counts the records.                                              */
static weir_position place_of(const weir_chunk *chunk, int64_t i)
{
    if (chunk->offset) return (weir_position){chunk->offset + (uint64_t)i, 0};
    uint64_t behind = weir_block_records(chunk->block) - 1 - (uint64_t)i;
    return (weir_position){chunk->last.a, chunk->last.b - behind};
}

static const weir_chunk *chunk_of(const weir_poll_lane *self)
{
    return &self->answer->chunks[self->chunk];
}

static bool has_chunk(const weir_poll_lane *self)
{
    return self->answer && self->chunk < self->answer->chunk_count;
}

static bool is_held(const weir_poll_lane *self)
{
    weir_position next = has_chunk(self) ? place_of(chunk_of(self), self->record)
                                         : weir_position_next(self->at);
    return weir_position_order(next, self->barrier) >= 0;
}

bool weir_poll_lane_ready(const weir_poll_lane *self)
{
    bool may = self->answer || self->more || self->due;
    return may && !self->slow && !self->failed && !is_held(self);
}

/*  A gap counts when it lies behind us: else the next poll meets it again.         */
static void pass_gaps(weir_poll_lane *self, weir_page *page)
{
    const weir_read *read = self->answer;
    for (; self->gap < read->gap_count &&
           weir_position_order(weir_gap_end(&read->gaps[self->gap]), self->at) <= 0;
         self->gap++)
        add_gap(page, &read->gaps[self->gap]);
}

static void finish_answer(weir_poll_lane *self, weir_page *page)
{
    self->at = self->answer->reached;
    pass_gaps(self, page);
    weir_read_destroy(&self->answer);
}

bool weir_poll_lane_pass(weir_poll_lane *self, weir_page *page)
{
    if (!self->answer || self->gap == self->answer->gap_count) return false;
    weir_position last = self->answer->reached;
    if (has_chunk(self)) last = place_of(chunk_of(self), (int64_t)self->record - 1);
    if (weir_position_order(last, self->barrier) >= 0)
        last = weir_position_before(self->barrier);
    if (weir_position_order(last, self->at) <= 0) return false;
    self->at = last;
    pass_gaps(self, page);
    if (!has_chunk(self) && weir_position_equal(last, self->answer->reached))
        finish_answer(self, page);
    return true;
}

void weir_poll_lane_answer(weir_poll_lane *self, weir_fill *fill, weir_read **read_p)
{
    weir_read *read = *read_p;
    *read_p = NULL;
    self->waiting = self->due = false;
    self->answered = true;
    if (read->err) {
        self->failed = true;
        add_trouble(&fill->page->failed, &fill->page->failed_count, self->shard,
                    read->text[0] ? read->text : weir_err_name(read->err));
        weir_read_destroy(&read);
        return;
    }
    self->answer = read;
    self->more = read->more;
    self->chunk = self->record = self->gap = 0;
    self->walk = (weir_iterator){0};
    bool passes = read->gap_count && !self->since_ms;
    if (self->since_ms && read->chunk_count) self->at = place_of(&read->chunks[0], -1);
    self->since_ms = 0;
    if (read->chunk_count == 0 && !passes) finish_answer(self, fill->page);
}

static void add_record(weir_poll_lane *self, weir_fill *fill, const weir_record *record)
{
    weir_page *page = fill->page;
    const weir_chunk *chunk = chunk_of(self);
    page->records = grow(page->records, page->count, sizeof *page->records);
    page->records[page->count++] =
        (weir_polled){.record = *record,
                      .shard = self->shard,
                      .at = place_of(chunk, self->record),
                      .epoch = chunk->epoch,
                      .sequence = chunk->sequence + self->record};
    fill->room--;
    fill->bytes -=
        record->encoded_size < fill->bytes ? record->encoded_size : fill->bytes;
}

static weir_verdict judge(const weir_poll_lane *self, weir_fill *fill,
                          const weir_record *record)
{
    if (!fill->where) return WEIR_TRUE;
    const weir_chunk *chunk = chunk_of(self);
    weir_position at = place_of(chunk, self->record);
    weir_place place = {.nonce = fill->nonce,
                        .epoch = chunk->epoch,
                        .sequence = chunk->sequence + self->record,
                        .offset = chunk->offset ? at.a : at.b,
                        .shard = self->shard};
    weir_subject subject = {.record = *record, .doc = fill->doc, .place = &place};
    subject.record.in_run = 0; // the place is its own
    return weir_filter_match(fill->where, &subject);
}

/*  Examines the next record of the chunk; false, and nothing has changed: there is none,
    or it must wait.                                                                */
static bool examine(weir_poll_lane *self, weir_fill *fill)
{
    const weir_chunk *chunk = chunk_of(self);
    if (self->record == weir_block_records(chunk->block)) return false;
    weir_page *page = fill->page;
    if (fill->where && page->examined && weir_clock_now_us() >= fill->stop_us)
        fill->full = true;
    if (weir_fill_ended(fill) || is_held(self)) return false;
    weir_record record;
    weir_iterator walk = self->walk;
    walk.block = chunk->block;
    weir_iterator_next(&walk, &record, NULL);
    if (!record.has_ts) record.ts_ms = chunk->arrived_ms;
    record.has_ts = true;
    weir_verdict verdict = judge(self, fill, &record);
    if (verdict == WEIR_TRUE && page->count && record.encoded_size > fill->bytes) {
        fill->full = true;
        return false;
    }
    if (verdict == WEIR_TRUE) add_record(self, fill, &record);
    if (verdict == WEIR_UNKNOWN) page->unknown++;
    page->examined++;
    fill->scan--;
    self->at = place_of(chunk, self->record++);
    self->walk = walk;
    return true;
}

/*  Takes from one chunk; true when all of it has been examined.                    */
static bool take_chunk(weir_poll_lane *self, weir_fill *fill)
{
    weir_page *page = fill->page;
    weir_block *block = chunk_of(self)->block;
    size_t first = page->count, end = first + self->places;
    while (page->count < end && examine(self, fill))
        continue;
    keep_block(page, first, block);
    self->places -= (uint32_t)(page->count - first);
    return self->record == weir_block_records(block);
}

void weir_poll_lane_take(weir_poll_lane *self, weir_fill *fill)
{
    while (has_chunk(self) && self->places && take_chunk(self, fill)) {
        self->chunk++;
        self->record = 0;
        self->walk = (weir_iterator){0};
        if (self->chunk == self->answer->chunk_count) finish_answer(self, fill->page);
    }
    if (self->answer) pass_gaps(self, fill->page);
}

void weir_poll_lane_is_slow(weir_poll_lane *self, weir_page *page, int64_t timeout_us)
{
    char text[64];
    self->slow = true;
    snprintf(text, sizeof text, "no answer in %lld ms", (long long)timeout_us / 1000);
    add_trouble(&page->slow, &page->slow_count, self->shard, text);
}
