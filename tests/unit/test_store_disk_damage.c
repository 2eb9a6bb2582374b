/*  One byte of data.mdb is changed, then the store is opened, read, written to, opened
    again and read: whatever the byte was, it does not crash, and what is not as it was
    written is told. WEIR_ROUNDS and WEIR_SEED say how often and where.               */
#include "help_disk.h"
#include "help_damage.h"

/*  Of shard 0 small blocks inside the pages of the tree, so that it has three levels; of
    shard 1 blocks with pages of their own; of shard 2 some with fences.              */
enum { shards = 3, offsets_max = 8000, kept = 4000, damage_fences = 12 };
static const uint32_t block_records[shards] = {1, 20, 3};
static const uint32_t record_bytes[shards] = {60, 400, 30};

/* --- The store --------------------------------------------------------------------- */

static uint64_t last_of[shards]; // offset of what was written last, which is its sequence
static weir_fence fences[damage_fences];
static size_t fence_count;

static weir_disk_config config_of_store(void)
{
    weir_disk_config config = small_config();
    config.keep_records = kept;
    config.map_bytes = 1 << 24;
    return config;
}

/*  That wait for records which are not trimmed, so that none goes.                  */
static void add_fences(weir_batch *batch, uint32_t count)
{
    batch->fences = calloc(count, sizeof *batch->fences);
    batch->fence_count = count;
    for (uint32_t i = 0; i < count; i++) {
        batch->fences[i] =
            (weir_fence){.from = i, .last.a = kept + batch->first, .to = batch->shard};
        fences[fence_count] = batch->fences[i];
        fences[fence_count++].first.a = batch->first;
    }
}

/*  Writes so many blocks of a shard at once; what a write is answered, if not SAFE.   */
static weir_store_result write_some(weir_store *store, uint32_t shard, uint32_t blocks,
                                    uint32_t with_fences, char why[256])
{
    weir_batch **list = calloc(blocks, sizeof *list);
    weir_store_result result = WEIR_STORE_SAFE;
    uint64_t next = last_of[shard] + 1;
    for (uint32_t i = 0; i < blocks; i++) {
        list[i] = make_batch(shard, 1, next, block_records[shard], record_bytes[shard]);
        if (i == 0 && with_fences) add_fences(list[i], with_fences);
        next += block_records[shard];
        store->class->write(store, list[i]);
    }
    for (uint32_t i = 0; i < blocks; i++) {
        weir_store_result one = wait_answer(list[i]);
        if (one == WEIR_STORE_SAFE)
            last_of[shard] += block_records[shard];
        else if (result == WEIR_STORE_SAFE)
            snprintf(why, 256, "%s", list[i]->text), result = one;
        free_batch(&list[i]);
    }
    free(list);
    return result;
}

static void make_store(void)
{
    char why[256];
    weir_disk_config config = config_of_store();
    weir_store *store = open_with(&config);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(write_some(store, 0, 150, 0, why), WEIR_STORE_SAFE);
        assert_int_equal(write_some(store, 1, 4, 0, why), WEIR_STORE_SAFE);
        uint32_t with = i % 10 == 0 ? 1 + (uint32_t)i / 10 : 0;
        assert_int_equal(write_some(store, 2, 1, with, why), WEIR_STORE_SAFE);
    }
    close_store(&store);
}

/* --- What is found ----------------------------------------------------------------- */

static uint64_t trimmed_of(uint32_t shard)
{
    return last_of[shard] > kept ? last_of[shard] - kept : 0;
}

static verdict silent(const char *what, uint32_t shard, uint64_t offset)
{
    snprintf(reason, sizeof reason, "shard %u, offset %" PRIu64 ": %.160s", shard, offset,
             what);
    return SILENT;
}

static verdict see_chunk(const weir_chunk *chunk, uint32_t shard, uint64_t *next)
{
    weir_iterator walk = {.block = chunk->block};
    weir_record record;
    char id[80];
    if (chunk->offset != *next) return silent("another offset", shard, *next);
    for (; weir_iterator_next(&walk, &record, NULL); ++*next) {
        size_t size = (size_t)sprintf(id, "1:%u:%" PRIu64 " ", shard, *next);
        size_t all = size > record_bytes[shard] ? size : record_bytes[shard];
        if (record.size != all || memcmp(record.data, id, size))
            return silent("another record", shard, *next);
    }
    return chunk->last.a == *next - 1 ? ALL_THERE : silent("another end", shard, *next);
}

static verdict see_gap(const weir_gap *gap, uint32_t shard, uint64_t *next)
{
    if (gap->first != *next) return silent("another gap", shard, *next);
    *next = gap->last + 1;
    if (gap->damaged) return fault("a damaged range");
    return gap->last <= trimmed_of(shard) ? ALL_THERE
                                          : silent("told as trimmed", shard, gap->last);
}

static verdict see_read(const weir_read *read, uint64_t *next)
{
    verdict is = read->err ? fault(read->text) : ALL_THERE;
    uint32_t gap = 0;
    for (uint32_t i = 0; i < read->chunk_count && is < SILENT; i++) {
        for (; gap < read->gap_count && read->gaps[gap].first < read->chunks[i].offset;)
            is = worse(is, see_gap(&read->gaps[gap++], read->shard, next));
        is = worse(is, see_chunk(&read->chunks[i], read->shard, next));
    }
    while (gap < read->gap_count && is < SILENT)
        is = worse(is, see_gap(&read->gaps[gap++], read->shard, next));
    return is;
}

static verdict see_shard(weir_store *store, uint32_t shard)
{
    verdict is = ALL_THERE;
    uint64_t next = 1;
    for (bool more = true; more && is < HUNG;) {
        bool done;
        weir_read read = {.shard = shard,
                          .after = {next - 1, 0},
                          .max_records = 500,
                          .max_bytes = 1 << 20,
                          .done = ignore,
                          .owner = &done};
        uint64_t before = next;
        store->class->read(store, &read);
        is = worse(is, see_read(&read, &next));
        more = read.more && !read.err;
        if (read.err) next = last_of[shard] + 1;
        if (more && next == before) is = worse(is, HUNG);
        weir_read_fini(&read);
    }
    if (is < HUNG && next <= last_of[shard]) return silent("it is missing", shard, next);
    return is;
}

static int by_place(const void *a, const void *b)
{
    const weir_fence *x = a, *y = b;
    if (x->to != y->to) return x->to < y->to ? -1 : 1;
    if (x->first.a != y->first.a) return x->first.a < y->first.a ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

static verdict see_fences(weir_store *store)
{
    weir_fence *list;
    size_t count;
    weir_report report = {0};
    weir_err err = store->class->fences(store, &list, &count, &report);
    if (err) return fault(report.text);
    qsort(list, count, sizeof *list, by_place);
    qsort(fences, fence_count, sizeof *fences, by_place);
    bool same = count == fence_count;
    for (size_t i = 0; i < count && same; i++)
        same = list[i].from == fences[i].from && list[i].to == fences[i].to &&
               list[i].last.a == fences[i].last.a && list[i].first.a == fences[i].first.a;
    free(list);
    return same ? ALL_THERE : silent("other fences", 0, 0);
}

static verdict see_shards(weir_store *store)
{
    weir_store_shard *list;
    size_t count;
    weir_report report = {0};
    weir_err err = store->class->shards(store, &list, &count, &report);
    if (err) return fault(report.text);
    verdict is = count == shards ? ALL_THERE : silent("other shards", (uint32_t)count, 0);
    for (uint32_t i = 0; i < count && !is; i++)
        if (list[i].shard != i || list[i].last != last_of[i] ||
            list[i].trimmed != trimmed_of(i))
            is = silent("other counts", list[i].shard, list[i].last);
    free(list);
    return is;
}

static verdict see_all(weir_store *store)
{
    verdict is = see_shards(store);
    for (uint32_t i = 0; i < shards && is < HUNG; i++)
        is = worse(is, see_shard(store, i));
    return worse(is, see_fences(store));
}

static verdict write_more(weir_store *store)
{
    char why[256];
    for (int i = 0; i < 3; i++)
        for (uint32_t shard = 0; shard < shards; shard++)
            if (write_some(store, shard, shard ? 3 : 60, shard == 2, why))
                return fault(why);
    return ALL_THERE;
}

static void forget(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                   const char *text)
{
    (void)arg, (void)shard, (void)first, (void)last, (void)text;
}

/*  A start that was refused says what to do: verify finds what is wrong, and repair makes
    a store of the rest.                                                            */
static verdict mend(void)
{
    char copy[96], why[256];
    uint64_t copied, lost;
    weir_report report = {0};
    weir_store *store = NULL;
    memcpy(why, reason, sizeof why);
    if (!strstr(why, "weir bus verify")) return silent("no word of what to do", 0, 0);
    if (weir_disk_verify(folder, forget, NULL, &report) != WEIR_EMALFORMED)
        return silent("verify finds nothing", 0, 0);
    snprintf(copy, sizeof copy, "%s.copy", folder);
    weir_disk_config config = config_of_store();
    config.path = copy;
    bool mended = !weir_disk_repair(folder, copy, &copied, &lost, &report) &&
                  !weir_disk_verify(copy, forget, NULL, &report) &&
                  !weir_disk_open(&store, &config, &report);
    if (store) store->class->close(&store);
    nftw(copy, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    if (!mended) return silent(report.text, 0, 0);
    memcpy(reason, why, sizeof why);
    return REFUSED;
}

/*  Opens, reads, writes, reads, and so again.                                        */
static verdict use_store(void)
{
    weir_disk_config config = config_of_store();
    verdict is = ALL_THERE;
    for (int i = 0; i < 2 && is < HUNG; i++) {
        weir_store *store = NULL;
        weir_report report = {0};
        if (weir_disk_open(&store, &config, &report)) {
            snprintf(reason, sizeof reason, "%.255s", report.text);
            if (!report.where[0] || !report.text[0]) return SILENT;
            return i ? worse(is, TOLD) : mend();
        }
        is = worse(is, see_all(store));
        if (is < HUNG) is = worse(is, write_more(store));
        if (is < HUNG) is = worse(is, see_all(store));
        store->class->close(&store);
    }
    return is;
}

/* --- A byte ------------------------------------------------------------------------ */

static void a_changed_byte_is_told(void **state)
{
    (void)state;
    char path[128];
    weir_disk_stats stats;
    weir_disk_config config = config_of_store();
    make_store();
    weir_store *store = open_with(&config);
    weir_disk_look(store, &stats);
    close_store(&store);
    snprintf(path, sizeof path, "%s/0000001/data.mdb", folder);
    read_whole(path, stats.used_bytes + stats.free_bytes);
    change_bytes(200, use_store);
    forget_whole();
}

/*  In memory, where there is such a folder: each round syncs often.                  */
static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/test_store_disk.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    return mkdtemp(folder) ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_changed_byte_is_told),
    };
    read_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
