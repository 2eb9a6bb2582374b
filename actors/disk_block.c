#include "actors/disk_block.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char magic[4] = "WBK1";
static const size_t sum_at = 48;
/*  An array of four, three nils and an empty text.                                 */
static const uint64_t record_min_bytes = 5;

static void put(uint8_t *to, uint64_t number, int bytes)
{
    for (int i = bytes; i-- > 0; number >>= 8)
        to[i] = (uint8_t)number;
}

static uint64_t get(const uint8_t *from, int bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number = number << 8 | from[i];
    return number;
}

void weir_disk_key_pack(const weir_disk_key *self, uint8_t key[WEIR_DISK_KEY_SIZE])
{
    put(key, self->shard, 4);
    put(key + 4, self->last, 8);
}

bool weir_disk_key_read(weir_disk_key *self, const void *key, size_t size)
{
    *self = (weir_disk_key){0};
    if (size != WEIR_DISK_KEY_SIZE) return false;
    self->shard = (uint32_t)get(key, 4);
    self->last = get((const uint8_t *)key + 4, 8);
    return true;
}

void weir_disk_gap_pack(const weir_disk_gap *self, uint8_t value[WEIR_DISK_GAP_SIZE])
{
    put(value, self->first, 8);
    value[8] = self->damaged;
}

bool weir_disk_gap_read(weir_disk_gap *self, weir_disk_key key, const void *value,
                        size_t size)
{
    const uint8_t *at = value;
    *self = (weir_disk_gap){0};
    if (size != WEIR_DISK_GAP_SIZE || at[8] > 1) return false;
    self->first = get(at, 8);
    self->damaged = at[8];
    return self->first && self->first <= key.last && key.last < UINT64_MAX;
}

/* --- Counts ------------------------------------------------------------------------ */

static const char counts_mark[5] = "shard";

void weir_disk_counts_pack(const weir_disk_counts *self, uint32_t shard,
                           uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE],
                           uint8_t value[WEIR_DISK_COUNTS_SIZE])
{
    memcpy(key, counts_mark, sizeof counts_mark);
    put(key + sizeof counts_mark, shard, 4);
    put(value, self->last, 8);
    put(value + 8, self->trimmed, 8);
    put(value + 16, self->damaged, 8);
    put(value + 24, self->bytes, 8);
    put(value + 32,
        XXH3_64bits_withSeed(value, 32, XXH3_64bits(key, WEIR_DISK_COUNTS_KEY_SIZE)), 8);
}

bool weir_disk_counts_is_key(const void *key, size_t size)
{
    return size == WEIR_DISK_COUNTS_KEY_SIZE &&
           !memcmp(key, counts_mark, sizeof counts_mark);
}

bool weir_disk_counts_read(weir_disk_counts *self, uint32_t *shard, const void *key,
                           const void *value, size_t size)
{
    const uint8_t *at = value;
    *self = (weir_disk_counts){0};
    *shard = (uint32_t)get((const uint8_t *)key + sizeof counts_mark, 4);
    if (size != WEIR_DISK_COUNTS_SIZE) return false;
    *self =
        (weir_disk_counts){get(at, 8), get(at + 8, 8), get(at + 16, 8), get(at + 24, 8)};
    return self->last && self->last < UINT64_MAX && self->trimmed <= self->last &&
           self->damaged <= self->last - self->trimmed &&
           get(at + 32, 8) ==
               XXH3_64bits_withSeed(at, 32, XXH3_64bits(key, WEIR_DISK_COUNTS_KEY_SIZE));
}

uint64_t weir_disk_fence_sum(const uint8_t key[WEIR_DISK_KEY_SIZE],
                             const uint8_t value[WEIR_DISK_KEY_SIZE])
{
    return XXH3_64bits_withSeed(value, WEIR_DISK_KEY_SIZE,
                                XXH3_64bits(key, WEIR_DISK_KEY_SIZE));
}

void weir_disk_fences_pack(uint64_t sum, uint8_t value[WEIR_DISK_FENCES_SIZE])
{
    put(value, sum, 8);
    put(value + 8, XXH3_64bits(value, 8), 8);
}

bool weir_disk_fences_read(uint64_t *sum, const void *value, size_t size)
{
    const uint8_t *at = value;
    *sum = 0;
    if (size != WEIR_DISK_FENCES_SIZE) return false;
    *sum = get(at, 8);
    return get(at + 8, 8) == XXH3_64bits(at, 8);
}

/* --- Writing ----------------------------------------------------------------------- */

/*  The state wants an alignment that only its own allocation promises.             */
struct weir_disk_sum {
    XXH3_state_t *state;
};

weir_disk_sum *weir_disk_sum_new(void)
{
    weir_disk_sum *self = malloc(sizeof *self);
    if (!self || !(self->state = XXH3_createState())) abort();
    return self;
}

void weir_disk_sum_destroy(weir_disk_sum **self_p)
{
    if (!*self_p) return;
    XXH3_freeState((*self_p)->state);
    free(*self_p);
    *self_p = NULL;
}

void weir_disk_head_begin(const weir_disk_head *head, weir_disk_sum *sum,
                          uint8_t value[WEIR_DISK_HEAD_SIZE])
{
    memcpy(value, magic, sizeof magic);
    put(value + 4, head->count, 4);
    put(value + 8, head->first, 8);
    put(value + 16, head->epoch, 8);
    put(value + 24, head->sequence, 8);
    put(value + 32, (uint64_t)head->arrived_ms, 8);
    put(value + 40, head->body_bytes, 8);
    XXH3_64bits_reset(sum->state);
    XXH3_64bits_update(sum->state, value, sum_at);
}

void weir_disk_head_body(weir_disk_sum *sum, const void *piece, size_t size)
{
    XXH3_64bits_update(sum->state, piece, size);
}

void weir_disk_head_end(weir_disk_sum *sum, uint8_t value[WEIR_DISK_HEAD_SIZE])
{
    put(value + sum_at, XXH3_64bits_digest(sum->state), 8);
}

/* --- Reading ----------------------------------------------------------------------- */

/*  Where the records are: first to key.last, numbered without gaps.                */
static weir_err check_offsets(const weir_disk_head *self, weir_disk_key key,
                              weir_report *report)
{
    if (self->first && self->first <= key.last &&
        key.last - self->first + 1 == self->count)
        return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, NULL,
                           "%" PRIu32 " records from offset %" PRIu64
                           " on do not end at offset %" PRIu64,
                           self->count, self->first, key.last);
}

static weir_err check_numbers(const weir_disk_head *self, weir_report *report)
{
    if (!self->count)
        return weir_report_set(report, WEIR_EMALFORMED, NULL, "a block without records");
    if (self->count > self->body_bytes / record_min_bytes)
        return weir_report_set(report, WEIR_EMALFORMED, NULL,
                               "%" PRIu32 " records do not fit into %" PRIu64 " bytes",
                               self->count, self->body_bytes);
    if (!self->epoch || !self->sequence || self->sequence > UINT64_MAX - self->count)
        return weir_report_set(report, WEIR_EMALFORMED, NULL,
                               "no ids are epoch %" PRIu64 ", sequence %" PRIu64,
                               self->epoch, self->sequence);
    if (self->arrived_ms < 0)
        return weir_report_set(report, WEIR_EMALFORMED, NULL, "no time is %" PRIu64 " ms",
                               (uint64_t)self->arrived_ms);
    return WEIR_OK;
}

weir_err weir_disk_head_read(weir_disk_head *self, weir_disk_key key, const void *value,
                             size_t size, weir_report *report)
{
    const uint8_t *at = value;
    *self = (weir_disk_head){0};
    if (size < WEIR_DISK_HEAD_SIZE)
        return weir_report_set(report, WEIR_EMALFORMED, NULL,
                               "%zu bytes are less than a header of %d", size,
                               WEIR_DISK_HEAD_SIZE);
    if (memcmp(at, magic, sizeof magic))
        return weir_report_set(report, WEIR_EMALFORMED, NULL,
                               "it begins with %02x %02x %02x %02x instead of \"WBK1\"",
                               at[0], at[1], at[2], at[3]);
    self->count = (uint32_t)get(at + 4, 4);
    self->first = get(at + 8, 8);
    self->epoch = get(at + 16, 8);
    self->sequence = get(at + 24, 8);
    self->arrived_ms = (int64_t)get(at + 32, 8);
    self->body_bytes = get(at + 40, 8);
    if (self->body_bytes != size - WEIR_DISK_HEAD_SIZE)
        return weir_report_set(report, WEIR_EMALFORMED, NULL,
                               "its header says %" PRIu64 " bytes of records, it has %zu",
                               self->body_bytes, size - WEIR_DISK_HEAD_SIZE);
    weir_err err = check_numbers(self, report);
    return err ? err : check_offsets(self, key, report);
}

static uint64_t sum_of(const uint8_t *value, size_t size)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) abort();
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, value, sum_at);
    XXH3_64bits_update(state, value + WEIR_DISK_HEAD_SIZE, size - WEIR_DISK_HEAD_SIZE);
    uint64_t sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum;
}

weir_err weir_disk_block_check(weir_disk_head *self, weir_disk_key key, const void *value,
                               size_t size, weir_report *report)
{
    weir_err err = weir_disk_head_read(self, key, value, size, report);
    if (err) return err;
    uint64_t told = get((const uint8_t *)value + sum_at, 8), is = sum_of(value, size);
    if (told == is) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, NULL,
                           "its checksum is %016" PRIx64 ", its bytes have %016" PRIx64,
                           told, is);
}
