#include "runtime/splitter.h"
#include "runtime/clock.h"
#include <stdlib.h>

typedef struct {
    weir_builder builder;
    weir_share *shares; // owned
    size_t count, capacity;
    weir_block **blocks; // owned references: the builder's runs have their texts there
    size_t block_count, block_capacity;
    int64_t due_us; // -1: it is empty
} part;

/*  A block that is dealt, and whose it is.                                         */
typedef struct {
    weir_block *block;
    weir_entry *entry;
    int64_t now_us;
    uint32_t index; // of the record that is dealt now
} dealt;

struct weir_splitter {
    weir_splitter_config config;
    weir_path path; // of config.key
    weir_doc doc;   // scratch
    weir_buffer scratch;
    part *parts;
    uint32_t part_count;
    size_t target;     // of a block, and
    int64_t linger_us; // how long it is open, with so many parts
    int64_t put_us;    // when something was dealt last
};

weir_splitter *weir_splitter_new(const weir_splitter_config *config)
{
    weir_splitter *self = calloc(1, sizeof *self);
    if (!self) abort();
    size_t at;
    self->config = *config;
    if (config->key && weir_path_parse(&self->path, config->key, &at)) abort();
    return self;
}

static void forget_blocks(part *p)
{
    while (p->block_count)
        weir_block_destroy(&p->blocks[--p->block_count]);
}

static void free_parts(weir_splitter *self)
{
    for (uint32_t i = 0; i < self->part_count; i++) {
        for (size_t s = 0; s < self->parts[i].count; s++)
            free(self->parts[i].shares[s].which);
        weir_builder_fini(&self->parts[i].builder);
        forget_blocks(&self->parts[i]);
        free(self->parts[i].blocks);
        free(self->parts[i].shares);
    }
    free(self->parts);
}

void weir_splitter_destroy(weir_splitter **self_p)
{
    weir_splitter *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    free_parts(self);
    weir_path_fini(&self->path);
    weir_doc_fini(&self->doc);
    weir_buffer_fini(&self->scratch);
    free(self);
}

/*  What a block costs on its way does not depend on its size, so with many parts, each of
    which has few records, it is larger and open for longer.                        */
static size_t target_of(const weir_splitter_config *config, uint32_t parts)
{
    size_t target = parts > 16 ? 2 * config->target : config->target;
    bool bounded = config->block_max && target > config->block_max;
    return bounded ? config->block_max : target;
}

static int64_t linger_of(const weir_splitter_config *config, uint32_t parts)
{
    uint32_t factor = parts <= 8 ? 1 : parts < 80 ? parts / 2 : 40;
    return factor * config->linger_us;
}

void weir_splitter_resize(weir_splitter *self, uint32_t parts)
{
    weir_splitter_seal_all(self);
    free_parts(self);
    self->part_count = parts;
    self->target = target_of(&self->config, parts);
    self->linger_us = linger_of(&self->config, parts);
    self->parts = calloc(parts, sizeof *self->parts);
    if (!self->parts) abort();
    for (uint32_t i = 0; i < parts; i++) {
        self->parts[i].due_us = -1;
        self->parts[i].builder.ledger = self->config.ledger;
        self->parts[i].builder.target = self->target;
    }
}

/* --- Sealing ----------------------------------------------------------------------- */

void weir_splitter_seal(weir_splitter *self, uint32_t number)
{
    part *p = &self->parts[number];
    weir_block *block = weir_builder_seal(&p->builder);
    if (!block) return;
    forget_blocks(p);
    p->due_us = -1;
    self->config.sealed(self->config.arg, number, &block, p->shares, p->count);
    weir_block_destroy(&block);
    p->count = 0;
}

void weir_splitter_seal_all(weir_splitter *self)
{
    for (uint32_t i = 0; i < self->part_count; i++)
        weir_splitter_seal(self, i);
}

/*  Nothing waits for more when no more is coming.                                  */
static bool is_idle(const weir_splitter *self, int64_t now_us)
{
    return now_us >= self->put_us + self->config.linger_us;
}

void weir_splitter_seal_due(weir_splitter *self, int64_t now_us)
{
    bool idle = is_idle(self, now_us);
    for (uint32_t i = 0; i < self->part_count; i++)
        if (self->parts[i].due_us >= 0 && (idle || self->parts[i].due_us <= now_us))
            weir_splitter_seal(self, i);
}

int64_t weir_splitter_deadline(const weir_splitter *self)
{
    int64_t due = -1;
    for (uint32_t i = 0; i < self->part_count; i++)
        due = weir_earlier(due, self->parts[i].due_us);
    int64_t idle = self->put_us + self->config.linger_us;
    return due >= 0 && idle < due ? idle : due;
}

/* --- Dealing ----------------------------------------------------------------------- */

static bool fits(const weir_splitter *self, const weir_block *block)
{
    uint32_t most = self->config.records_max, records = weir_block_records(block);
    if (most && records > most) return false;
    size_t size = weir_block_size(block), block_max = self->config.block_max;
    return records == 1 || !block_max || size <= block_max;
}

bool weir_splitter_is_whole(const weir_splitter *self, const weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_record record;
    bool keyless = !self->config.key && fits(self, block);
    if (keyless && weir_block_is_keyless(block)) return true;
    while (keyless && weir_iterator_next(&walk, &record, NULL))
        keyless = record.key.type == WEIR_MISSING;
    return keyless;
}

static weir_share *share_of(part *p, weir_entry *entry)
{
    if (p->count && p->shares[p->count - 1].entry == entry)
        return &p->shares[p->count - 1];
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 8;
        p->shares = realloc(p->shares, p->capacity * sizeof *p->shares);
        if (!p->shares) abort();
    }
    weir_entry_hold(entry);
    p->shares[p->count] = (weir_share){.entry = entry};
    return &p->shares[p->count++];
}

/*  The list has room for the next power of two.                                    */
static void note_which(weir_share *share, uint32_t index)
{
    uint32_t count = share->records;
    if ((count & (count - 1)) == 0) {
        size_t room = count ? 2 * (size_t)count : 1;
        share->which = realloc(share->which, room * sizeof *share->which);
        if (!share->which) abort();
    }
    share->which[count] = index;
}

static void keep_block(part *p, weir_block *block)
{
    if (p->block_count && p->blocks[p->block_count - 1] == block) return;
    if (p->block_count == p->block_capacity) {
        p->block_capacity = p->block_capacity ? 2 * p->block_capacity : 8;
        p->blocks = realloc(p->blocks, p->block_capacity * sizeof(weir_block *));
        if (!p->blocks) abort();
    }
    p->blocks[p->block_count++] = weir_block_dup(block);
}

/*  What it takes encoded, or a little more: so what a key makes larger than the target
    comes alone, as every record of that size does.                                 */
static size_t size_of(const weir_record *record)
{
    static const size_t slack = 40; // around timestamp, key, payload and headers
    const weir_value *key = &record->key;
    bool is_long = key->type == WEIR_STR || key->type == WEIR_BIN;
    if (record->encoded) return record->encoded_size;
    return slack + record->size + record->headers_size + (is_long ? key->size : 0);
}

static void add(weir_splitter *self, uint32_t number, const weir_record *record,
                const weir_run *origin, const dealt *from)
{
    part *p = &self->parts[number];
    size_t size = size_of(record);
    if (p->builder.records && p->builder.body.size + size > self->target)
        weir_splitter_seal(self, number);
    if (p->due_us < 0) p->due_us = from->now_us + self->linger_us;
    keep_block(p, from->block);
    weir_builder_add(&p->builder, record, origin);
    weir_share *share = share_of(p, from->entry);
    if (self->config.notes_which) note_which(share, from->index);
    share->records++;
    bool full =
        weir_builder_full(&p->builder) || p->builder.records == self->config.records_max;
    if (full) weir_splitter_seal(self, number);
}

/*  The field, where there is one, becomes the record's own key. One that is no key makes
    the record keyless: then it has none.                                           */
static void find_key(weir_splitter *self, weir_record *record)
{
    weir_value field;
    if (!self->config.key || record->format == WEIR_TEXT) return;
    if (weir_doc_parse(&self->doc, record->format, record->data, record->size)) return;
    if (!weir_doc_get(&self->doc, &self->path, &field)) return;
    if (!weir_key_is(&field)) field = (weir_value){.type = WEIR_MISSING};
    if (field.type == WEIR_MISSING && record->key.type == WEIR_MISSING) return;
    record->key = field;
    record->encoded = NULL;
}

void weir_splitter_put(weir_splitter *self, weir_block *block, weir_entry *entry,
                       const uint32_t *owners, uint32_t vnodes, uint32_t keyless,
                       int64_t now_us, uint64_t *parses)
{
    dealt from = {block, entry, now_us, 0};
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    uint64_t before = self->doc.parses;
    self->put_us = now_us;
    while (weir_iterator_next(&walk, &record, &origin)) {
        char number[24];
        const uint8_t *data;
        size_t size;
        uint32_t to = keyless;
        find_key(self, &record);
        if (weir_key_bytes(&record.key, number, &self->scratch, &data, &size))
            to = owners[weir_key_vnode(data, size, vnodes)];
        add(self, to, &record, origin, &from);
        from.index++;
    }
    if (parses) *parses += self->doc.parses - before;
}
