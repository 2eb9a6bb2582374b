#include "runtime/block.h"
#include "runtime/codec.h"
#include "runtime/utf8.h"
#include <assert.h>
#include <stdatomic.h>

#define CACHE_LINE 64
#define FETCH_AHEAD 1024 // bytes

struct weir_block {
    _Atomic uint32_t references;
    uint32_t records;
    bool keyless; // no record has a key
    const uint8_t *body;
    size_t size;
    weir_run *runs; // one allocation with the texts behind the array
    size_t run_count, run_bytes;
    weir_ledger *ledger; // a reference; charged bytes go back here; NULL: none
    size_t charged;
    weir_block *base; // a reference to the block that has the body; NULL: this one has
    void (*free_body)(void *hint);
    void *hint;
    weir_spares *spares; // a reference; the body goes back there; NULL: free_body
};

/* --- Runs -------------------------------------------------------------------------- */

static size_t text_size(const char *text)
{
    return text ? strnlen(text, WEIR_RUN_TEXT_MAX) : 0;
}

/*  As the bounds of runs count it.                                            */
static size_t run_bytes(const weir_run *run)
{
    return 16 + text_size(run->source) + text_size(run->peer) + text_size(run->label);
}

static size_t bytes_of_runs(const weir_run *runs, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += run_bytes(&runs[i]);
    return bytes;
}

static const char *copy_text(char **at, const char *text)
{
    if (!text) return NULL;
    size_t size = text_size(text);
    char *copy = memcpy(*at, text, size);
    copy[size] = 0;
    *at += size + 1;
    if (weir_utf8_valid((const uint8_t *)copy, size)) return copy;
    for (char *c = copy; *c; c++)
        if (*c & 0x80) *c = '?';
    return copy;
}

/*  Copies array and texts into one allocation.                                */
static void copy_runs(weir_block *self, const weir_run *runs, size_t count)
{
    static const size_t ends = 3; // a final 0 for each text of a run
    self->run_count = count;
    self->run_bytes = bytes_of_runs(runs, count);
    size_t bytes = count * (sizeof *runs + ends) + self->run_bytes;
    weir_run *copy = self->runs = malloc(bytes ? bytes : 1);
    if (!copy) abort();
    char *at = (char *)(copy + count);
    for (size_t i = 0; i < count; i++) {
        copy[i] = (weir_run){.records = runs[i].records, .place = runs[i].place};
        copy[i].source = copy_text(&at, runs[i].source);
        copy[i].peer = copy_text(&at, runs[i].peer);
        copy[i].label = copy_text(&at, runs[i].label);
    }
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_origin(const weir_run *a, const weir_run *b)
{
    return same_text(a->source, b->source) && same_text(a->peer, b->peer) &&
           same_text(a->label, b->label);
}

/* --- Block ------------------------------------------------------------------------- */

static weir_block *block_new(const uint8_t *body, size_t size, uint32_t records,
                             const weir_run *runs, size_t run_count)
{
    weir_block *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->references = 1;
    self->records = records;
    self->body = body;
    self->size = size;
    copy_runs(self, runs, run_count);
    return self;
}

weir_block *weir_block_wrap(const uint8_t *body, size_t size, uint32_t records,
                            const weir_run *runs, size_t run_count,
                            void (*free_body)(void *hint), void *hint)
{
    const weir_run unknown = {.records = records};
    weir_block *self = run_count ? block_new(body, size, records, runs, run_count)
                                 : block_new(body, size, records, &unknown, 1);
    self->free_body = free_body;
    self->hint = hint;
    return self;
}

weir_block *weir_block_dup(weir_block *self)
{
    atomic_fetch_add_explicit(&self->references, 1, memory_order_relaxed);
    return self;
}

void weir_block_destroy(weir_block **self_p)
{
    weir_block *self = *self_p;
    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1) return;
    if (self->spares)
        weir_spares_give(self->spares, (uint8_t *)(uintptr_t)self->body);
    else if (self->free_body)
        self->free_body(self->hint);
    weir_spares_destroy(&self->spares);
    weir_block_destroy(&self->base);
    if (self->ledger)
        weir_ledger_release(self->ledger, WEIR_ACCOUNT_BLOCKS, self->charged);
    weir_ledger_destroy(&self->ledger);
    free(self->runs);
    free(self);
}

const uint8_t *weir_block_body(const weir_block *self)
{
    return self->body;
}

size_t weir_block_size(const weir_block *self)
{
    return self->size;
}

uint32_t weir_block_records(const weir_block *self)
{
    return self->records;
}

bool weir_block_is_keyless(const weir_block *self)
{
    return self->keyless;
}

const weir_run *weir_block_runs(const weir_block *self, size_t *count)
{
    *count = self->run_count;
    return self->runs;
}

size_t weir_block_run_bytes(const weir_block *self)
{
    return self->run_bytes;
}

const weir_place *weir_block_place(const weir_block *self)
{
    return self->runs[0].place.nonce ? &self->runs[0].place : NULL;
}

void weir_block_set_places(weir_block *self, const weir_run *runs, size_t count)
{
    assert(count > 0 && count <= WEIR_RUNS_MAX);
    free(self->runs);
    copy_runs(self, runs, count);
    assert(self->run_bytes + WEIR_PLACE_BYTES * count <= WEIR_RUN_BYTES_MAX);
}

void weir_block_forget_places(weir_block **self_p)
{
    weir_block *self = *self_p;
    if (!weir_block_place(self)) return;
    weir_block *plain =
        block_new(self->body, self->size, self->records, self->runs, self->run_count);
    for (size_t i = 0; i < plain->run_count; i++)
        plain->runs[i].place = (weir_place){0};
    plain->base = self;
    *self_p = plain;
}

weir_block *weir_block_stamp(weir_block *self, const char *source, const char *peer)
{
    weir_run *runs = calloc(self->run_count + 1, sizeof *runs);
    if (!runs) abort();
    for (size_t i = 0; i < self->run_count; i++)
        runs[i] = (weir_run){.records = self->runs[i].records,
                             .source = source,
                             .peer = peer,
                             .label = self->runs[i].label};
    size_t count = self->run_count;
    if (bytes_of_runs(runs, count) > WEIR_RUN_BYTES_MAX) {
        runs[0] = (weir_run){.records = self->records, .source = source, .peer = peer};
        count = 1;
    }
    weir_block *stamped = block_new(self->body, self->size, self->records, runs, count);
    stamped->base = weir_block_dup(self);
    stamped->keyless = self->keyless;
    free(runs);
    return stamped;
}

void weir_block_charge(weir_block *self, weir_ledger *ledger)
{
    assert(!self->ledger);
    self->ledger = weir_ledger_dup(ledger);
    self->charged = self->size;
    weir_ledger_charge(ledger, WEIR_ACCOUNT_BLOCKS, self->charged);
}

weir_ledger *weir_block_ledger(const weir_block *self)
{
    while (!self->ledger && self->base)
        self = self->base;
    return self->ledger;
}

weir_block *weir_block_copy(const weir_block *self, weir_ledger *ledger)
{
    uint8_t *body = malloc(self->size ? self->size : 1);
    if (!body) abort();
    memcpy(body, self->body, self->size);
    weir_block *copy = weir_block_wrap(body, self->size, self->records, self->runs,
                                       self->run_count, free, body);
    copy->keyless = self->keyless;
    if (ledger) weir_block_charge(copy, ledger);
    return copy;
}

/*  The bytes have just been written by another core: fetched one by one they would cost
    more than all else. Gives how far they are asked for.                      */
static const uint8_t *fetch_ahead(const uint8_t *ahead, const weir_reader *reader)
{
    const uint8_t *until =
        reader->end - reader->at > FETCH_AHEAD ? reader->at + FETCH_AHEAD : reader->end;
    for (; ahead < until; ahead += CACHE_LINE)
        __builtin_prefetch(ahead);
    return ahead;
}

weir_err weir_block_check(const weir_block *self)
{
    weir_reader reader = {self->body, self->body + self->size};
    const uint8_t *ahead = self->body;
    for (uint32_t i = 0; i < self->records; i++) {
        ahead = fetch_ahead(ahead, &reader);
        weir_err err = weir_record_check(&reader);
        if (err) return err;
    }
    return reader.at == reader.end ? WEIR_OK : WEIR_EMALFORMED;
}

/* --- Builder ----------------------------------------------------------------------- */

/*  Slack behind the target, so that the record that fills a block seldom makes
    its body grow.                                                             */
static const size_t builder_slack = 4096;

static size_t first_capacity(const weir_builder *self)
{
    return self->spares ? weir_spares_bytes(self->spares) : self->target + builder_slack;
}

static void allocate_body(weir_builder *self)
{
    self->body.capacity = first_capacity(self);
    self->body.data =
        self->spares ? weir_spares_take(self->spares) : malloc(self->body.capacity);
    if (!self->body.data) abort();
}

weir_err weir_builder_open(weir_builder *self)
{
    if (self->body.data) return WEIR_OK;
    size_t bytes = first_capacity(self);
    weir_err err = WEIR_OK;
    if (self->ledger) err = weir_ledger_reserve(self->ledger, WEIR_ACCOUNT_BLOCKS, bytes);
    if (err) return err;
    allocate_body(self);
    if (self->ledger) self->charged = bytes;
    return WEIR_OK;
}

static void grow_body(weir_builder *self, size_t more)
{
    if (!self->body.data) allocate_body(self);
    weir_buffer_reserve(&self->body, more);
    if (!self->ledger) return;
    size_t capacity = self->body.capacity;
    weir_ledger_charge(self->ledger, WEIR_ACCOUNT_BLOCKS, capacity - self->charged);
    self->charged = capacity;
}

static inline void make_room(weir_builder *self, size_t more)
{
    if (self->body.capacity - self->body.size < more) grow_body(self, more);
}

static void append_run(weir_builder *self, uint32_t records, const weir_run *origin)
{
    if (self->run_count == self->run_capacity) {
        self->run_capacity = self->run_capacity ? 2 * self->run_capacity : 4;
        self->runs = realloc(self->runs, self->run_capacity * sizeof *self->runs);
        if (!self->runs) abort();
    }
    weir_run *run = &self->runs[self->run_count++];
    *run = *origin;
    run->records = records;
    run->place = (weir_place){0};
    self->run_bytes += run_bytes(run);
}

static bool has_room_for_run(const weir_builder *self, const weir_run *origin)
{
    return self->run_count < WEIR_RUNS_MAX &&
           self->run_bytes + run_bytes(origin) <= WEIR_RUN_BYTES_MAX;
}

static void count_elsewhere(weir_builder *self, uint32_t records, const weir_run *origin)
{
    weir_run *last = self->run_count ? &self->runs[self->run_count - 1] : NULL;
    if (last && same_origin(last, origin)) {
        last->records += records;
    } else if (!last || has_room_for_run(self, origin)) {
        append_run(self, records, origin);
    } else {
        *last = (weir_run){.records = last->records + records};
    }
}

/*  Nearly all records come from where the one before came from.               */
static inline void count_records(weir_builder *self, uint32_t records,
                                 const weir_run *origin)
{
    static const weir_run nobody;
    if (!origin) origin = &nobody;
    self->records += records;
    weir_run *last = self->run_count ? &self->runs[self->run_count - 1] : NULL;
    if (last && last->label == origin->label && last->source == origin->source &&
        last->peer == origin->peer)
        last->records += records;
    else
        count_elsewhere(self, records, origin);
}

void weir_builder_add(weir_builder *self, const weir_record *record,
                      const weir_run *origin)
{
    if (record->encoded) {
        make_room(self, record->encoded_size);
        weir_buffer_put(&self->body, record->encoded, record->encoded_size);
    } else {
        make_room(self, record->size + record->headers_size + record->key.size + 64);
        weir_record_put(record, &self->body);
    }
    self->keyed |= record->key.type != WEIR_MISSING;
    count_records(self, 1, origin);
}

void weir_builder_add_encoded(weir_builder *self, const uint8_t *data, size_t size,
                              uint32_t records, const weir_run *origin)
{
    make_room(self, size);
    weir_buffer_put(&self->body, data, size);
    self->keyed = true; // who knows
    count_records(self, records, origin);
}

bool weir_builder_add_json(weir_builder *self, const uint8_t *data, size_t size,
                           const weir_run *origin)
{
    make_room(self, size + 16);
    uint8_t *start = self->body.data + self->body.size;
    start[0] = 0x94; // array of 4
    start[1] = 0xc0; // no timestamp
    start[2] = 0xc0; // no key
    uint8_t *at = start + 3 + weir_put_str_head(start + 3, size);
    if (!weir_utf8_copy(at, data, size)) return false;
    at[size] = 0xc0; // no headers
    self->body.size += (size_t)(at + size + 1 - start);
    count_records(self, 1, origin);
    return true;
}

void weir_builder_add_payload(weir_builder *self, weir_format format, const uint8_t *data,
                              size_t size, const weir_run *origin)
{
    make_room(self, size + 16);
    uint8_t *start = self->body.data + self->body.size;
    uint8_t *at = start;
    *at++ = 0x94; // array of 4
    *at++ = 0xc0; // no timestamp
    *at++ = 0xc0; // no key
    if (format == WEIR_JSON) at += weir_put_str_head(at, size);
    if (format == WEIR_TEXT) at += weir_put_bin_head(at, size);
    memcpy(at, data, size);
    at += size;
    *at++ = 0xc0; // no headers
    self->body.size += (size_t)(at - start);
    count_records(self, 1, origin);
}

/*  A block that is far from full gives back what it does not need: thousands of them
    may wait in a window that counts only what they hold.                      */
static void shrink_body(weir_builder *self)
{
    if (self->body.size > self->body.capacity / 2) return;
    uint8_t *data = realloc(self->body.data, self->body.size);
    if (!data) return;
    self->body.data = data;
    self->body.capacity = self->body.size;
    if (!self->ledger || self->charged <= self->body.size) return;
    weir_ledger_release(self->ledger, WEIR_ACCOUNT_BLOCKS,
                        self->charged - self->body.size);
    self->charged = self->body.size;
}

weir_block *weir_builder_seal(weir_builder *self)
{
    if (self->records == 0) return NULL;
    shrink_body(self);
    weir_block *block = block_new(self->body.data, self->body.size, self->records,
                                  self->runs, self->run_count);
    /*  A body that has grown or shrunk is none of the spares' any more.        */
    if (self->spares && self->body.capacity == weir_spares_bytes(self->spares))
        block->spares = weir_spares_dup(self->spares);
    block->free_body = free;
    block->hint = self->body.data;
    block->ledger = weir_ledger_dup(self->ledger);
    block->charged = self->charged;
    block->keyless = !self->keyed;
    self->body = (weir_buffer){0};
    self->keyed = false;
    self->charged = 0;
    self->records = 0;
    self->run_count = self->run_bytes = 0;
    return block;
}

void weir_builder_fini(weir_builder *self)
{
    if (self->ledger && self->charged)
        weir_ledger_release(self->ledger, WEIR_ACCOUNT_BLOCKS, self->charged);
    weir_buffer_fini(&self->body);
    free(self->runs);
    *self = (weir_builder){0};
}

/* --- Iterator and selections ------------------------------------------------------- */

/*  Behind a record of this size.                                              */
static void step(weir_iterator *self, size_t size)
{
    if (self->run_left == 0) {
        if (self->record > 0) self->run++;
        self->run_left = self->block->runs[self->run].records;
    }
    self->run_left--;
    self->record++;
    self->offset += size;
}

bool weir_iterator_next(weir_iterator *self, weir_record *record, const weir_run **origin)
{
    const weir_block *block = self->block;
    if (self->offset >= block->size) return false;
    weir_reader reader = {block->body + self->offset, block->body + block->size};
    weir_err err = weir_record_read(record, &reader, true);
    assert(!err);
    step(self, record->encoded_size);
    record->in_run = block->runs[self->run].records - self->run_left - 1;
    if (origin) *origin = &block->runs[self->run];
    return true;
}

size_t weir_iterator_skip(weir_iterator *self)
{
    const weir_block *block = self->block;
    if (self->offset >= block->size) return 0;
    weir_reader reader = {block->body + self->offset, block->body + block->size};
    weir_err err = weir_record_skip(&reader);
    assert(!err);
    size_t size = (size_t)(reader.at - block->body) - self->offset;
    step(self, size);
    return size;
}

static void step_to_end(weir_iterator *self)
{
    self->offset = self->block->size;
    self->record = self->block->records;
    self->run = self->block->run_count - 1;
    self->run_left = 0;
}

/*  There are more records behind than that, or more bytes.                    */
static void step_within(weir_iterator *self, uint32_t records, size_t bytes)
{
    for (weir_iterator to = *self; records > 0; records--, *self = to) {
        size_t size = weir_iterator_skip(&to);
        if (size > bytes) return;
        bytes -= size;
    }
}

/*  What lies between two points of a block, which differ. Runs that are cut have fewer
    records at their ends.                                                     */
static weir_block *slice(const weir_iterator *from, const weir_iterator *to)
{
    weir_block *block = (weir_block *)from->block; // const, but counted
    size_t first = from->run;
    uint32_t in_first = from->run_left;
    if (in_first == 0) {
        if (from->record > 0) first++;
        in_first = block->runs[first].records;
    }
    size_t runs = to->run - first + 1;
    weir_block *part = block_new(block->body + from->offset, to->offset - from->offset,
                                 to->record - from->record, &block->runs[first], runs);
    uint32_t skipped = block->runs[first].records - in_first;
    part->runs[0].records = in_first;
    part->runs[0].place.sequence += skipped;
    part->runs[0].place.offset += skipped;
    part->runs[runs - 1].records -= to->run_left;
    part->base = weir_block_dup(block);
    part->keyless = block->keyless;
    return part;
}

weir_block *weir_iterator_cut(weir_iterator *self, uint32_t records, size_t bytes)
{
    const weir_block *block = self->block;
    weir_iterator from = *self;
    if (block->records - from.record <= records && block->size - from.offset <= bytes)
        step_to_end(self);
    else
        step_within(self, records, bytes);
    uint32_t count = self->record - from.record;
    if (count == 0) return NULL;
    return count == block->records ? weir_block_dup((weir_block *)block)
                                   : slice(&from, self);
}

void weir_selection_add(weir_selection *self, weir_pick pick)
{
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 256;
        self->picks = realloc(self->picks, self->capacity * sizeof *self->picks);
        if (!self->picks) abort();
    }
    self->picks[self->count++] = pick;
}

void weir_selection_get(const weir_selection *self, uint32_t i, weir_record *record,
                        const weir_run **origin)
{
    const weir_block *block = self->block;
    const weir_pick *pick = &self->picks[i];
    weir_reader reader = {block->body + pick->offset, block->body + block->size};
    weir_err err = weir_record_read(record, &reader, true);
    assert(!err);
    record->in_run = pick->in_run;
    *origin = &block->runs[pick->run];
}

void weir_selection_fini(weir_selection *self)
{
    weir_block_destroy(&self->block);
    free(self->picks);
    *self = (weir_selection){0};
}

/*  The record's routing key: the field at the path if it is there, else its own. */
static void routing_key(const weir_record *record, const weir_path *key, weir_doc *doc,
                        weir_value *value)
{
    *value = record->key;
    if (!key || record->format == WEIR_TEXT) return;
    weir_value field;
    if (weir_doc_parse(doc, record->format, record->data, record->size)) return;
    if (weir_doc_get(doc, key, &field)) *value = field;
}

void weir_block_deal(weir_block *self, const weir_path *key, weir_doc *doc,
                     uint32_t vnodes, weir_selection *selections, uint32_t parts,
                     uint32_t keyless)
{
    weir_iterator walk = {.block = self};
    weir_buffer scratch = {0};
    weir_record record;
    size_t offset = 0;
    for (; weir_iterator_next(&walk, &record, NULL); offset = walk.offset) {
        uint32_t part = keyless;
        weir_value value;
        char number[24];
        const uint8_t *data;
        size_t size;
        routing_key(&record, key, doc, &value);
        if (weir_key_bytes(&value, number, &scratch, &data, &size))
            part = weir_key_vnode(data, size, vnodes) % parts;
        weir_selection_add(
            &selections[part],
            (weir_pick){(uint32_t)offset, (uint32_t)walk.run, record.in_run});
    }
    weir_buffer_fini(&scratch);
    for (uint32_t i = 0; i < parts; i++)
        if (selections[i].count) selections[i].block = weir_block_dup(self);
}
