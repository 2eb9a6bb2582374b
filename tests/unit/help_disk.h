/*  help_disk: what tests of the disk store share: a temporary folder, writing and reading
    batches.                                                                        */
#pragma once
#include <ftw.h>
#include "actors/disk_store.h"
#include "help_batch.h"

/*  Processes that tests fork have threads, too.                                    */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

static char folder[64];

static inline int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_store_disk.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_entry(const char *path, const struct stat *st, int type,
                               struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static inline int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- Stores ------------------------------------------------------------------------ */

static inline weir_disk_config small_config(void)
{
    weir_disk_config config = weir_disk_defaults;
    config.path = folder;
    config.map_bytes = 1 << 20;
    config.name = "test";
    return config;
}

static inline weir_store *open_with(const weir_disk_config *config)
{
    weir_report report = {0};
    weir_store *store = NULL;
    if (weir_disk_open(&store, config, &report))
        fail_msg("%s: %s", report.where, report.text);
    return store;
}

static inline weir_store *open_store(void)
{
    weir_disk_config config = small_config();
    return open_with(&config);
}

/* --- Writing ----------------------------------------------------------------------- */

/*  Writes one and wants it safe; gives the offset of its last record.              */
static inline uint64_t put(weir_store *store, uint32_t shard, uint64_t epoch,
                           uint64_t first, uint32_t records, size_t size)
{
    weir_batch *batch = make_batch(shard, epoch, first, records, size);
    weir_store_result result = write_in_the_end(store, batch);
    if (result != WEIR_STORE_SAFE) fail_msg("%d: %s", result, batch->text);
    uint64_t last = batch->last_offset;
    free_batch(&batch);
    return last;
}

/* --- Reading ----------------------------------------------------------------------- */

static inline void ignore(weir_read *read)
{
    *(bool *)read->owner = true;
}

typedef struct {
    uint64_t records, bytes;
    uint64_t trimmed, damaged;            // offsets in gaps
    uint64_t first_damaged;               // offset
    uint64_t last;                        // offset read
    uint64_t epoch, sequence;             // of the last record
    uint64_t first_epoch, first_sequence; // of the first one
    void (*each)(void *arg, uint64_t epoch, uint64_t sequence, uint64_t offset);
    void *arg;
} tally;

/*  Every record is what its id says; offsets go up without gaps that are not told, ids
    of one epoch go up.                                                             */
static inline void count_chunk(tally *self, uint32_t shard, const weir_chunk *chunk)
{
    weir_iterator walk = {.block = chunk->block};
    weir_record record;
    uint64_t epoch, sequence, offset = chunk->offset, expected = chunk->sequence;
    unsigned from;
    assert_int_equal(offset, self->last + 1);
    while (weir_iterator_next(&walk, &record, NULL)) {
        char text[80] = "";
        memcpy(text, record.data, record.size < 79 ? record.size : 79);
        if (sscanf(text, "%" SCNu64 ":%u:%" SCNu64 " ", &epoch, &from, &sequence) != 3)
            fail_msg("no id: %s", text);
        assert_int_equal(epoch, chunk->epoch);
        assert_int_equal(sequence, expected++);
        assert_int_equal(from, shard);
        assert_true(epoch > self->epoch ||
                    (epoch == self->epoch && sequence > self->sequence));
        if (!self->records) self->first_epoch = epoch, self->first_sequence = sequence;
        self->epoch = epoch, self->sequence = sequence;
        self->last = offset++;
        self->records++;
        self->bytes += record.encoded_size;
        if (self->each) self->each(self->arg, epoch, sequence, self->last);
    }
    assert_int_equal(chunk->last.a, self->last);
}

static inline void count_gap(tally *self, const weir_gap *gap)
{
    uint64_t offsets = gap->last - gap->first + 1;
    assert_int_equal(gap->first, self->last + 1);
    if (gap->damaged && !self->damaged) self->first_damaged = gap->first;
    *(gap->damaged ? &self->damaged : &self->trimmed) += offsets;
    self->last = gap->last;
}

static inline void count_read(tally *self, const weir_read *read)
{
    uint32_t gap = 0;
    for (uint32_t i = 0; i < read->chunk_count; i++) {
        while (gap < read->gap_count && read->gaps[gap].first < read->chunks[i].offset)
            count_gap(self, &read->gaps[gap++]);
        count_chunk(self, read->shard, &read->chunks[i]);
    }
    while (gap < read->gap_count)
        count_gap(self, &read->gaps[gap++]);
    assert_int_equal(read->reached.a, self->last);
}

/*  Reads what is behind self->last, in pages.                                       */
static inline void read_all(weir_store *store, uint32_t shard, uint32_t page, tally *self)
{
    bool more = true;
    while (more) {
        weir_read read = {.shard = shard,
                          .after = {self->last, 0},
                          .max_records = page,
                          .max_bytes = 8 << 20};
        read_once(store, &read);
        count_read(self, &read);
        more = read.more;
        weir_read_fini(&read);
    }
}

static inline tally count_all(weir_store *store, uint32_t shard, uint32_t page)
{
    tally self = {0};
    read_all(store, shard, page, &self);
    return self;
}

/*  What it has of a shard; zeroes: nothing. A server is asked for a second at a time.  */
static inline weir_store_shard look_at(weir_store *store, uint32_t shard)
{
    weir_store_shard *list, found = {0};
    size_t count;
    EVENTUALLY(store->class->shards(store, &list, &count, NULL) == WEIR_OK);
    for (size_t i = 0; i < count; i++)
        if (list[i].shard == shard) found = list[i];
    free(list);
    return found;
}
