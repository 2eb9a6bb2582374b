/*  What a store keeps of its shards: it is right whatever was done, a start relies on it
    and reads no more, and what is not as it says is told.                            */
#include "help_disk.h"
#include <fcntl.h>
#include <sys/stat.h>

enum { blocks = 2000, block_bytes = 100 };

/* --- A store ----------------------------------------------------------------------- */

static void write_blocks(weir_store *store, uint32_t shard, uint64_t first,
                         uint32_t count)
{
    weir_batch **list = calloc(count, sizeof *list);
    for (uint32_t i = 0; i < count; i++) {
        list[i] = make_batch(shard, 1, first + i, 1, block_bytes);
        store->class->write(store, list[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(wait_answer(list[i]), WEIR_STORE_SAFE);
        free_batch(&list[i]);
    }
    free(list);
}

static void write_fence(weir_store *store, uint32_t shard, uint64_t first)
{
    weir_batch *batch = make_batch(shard, 1, first, 1, block_bytes);
    batch->fences = calloc(1, sizeof *batch->fences);
    batch->fences[0] = (weir_fence){.from = 9, .last.a = 7, .to = shard};
    batch->fence_count = 1;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
}

static char told[1000];

static void tell_damage(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                        const char *text)
{
    size_t at = strlen(told);
    (void)arg;
    snprintf(told + at, sizeof told - at, "%d %" PRIu64 "-%" PRIu64 " %s\n", (int)shard,
             first, last, text);
}

static weir_err verify(const char *path)
{
    told[0] = 0;
    return weir_disk_verify(path, tell_damage, NULL, NULL);
}

static void assert_whole(void)
{
    if (verify(folder)) fail_msg("%s", told);
}

static weir_err try_open(weir_report *report)
{
    weir_disk_config config = small_config();
    weir_store *store = NULL;
    weir_err err = weir_disk_open(&store, &config, report);
    if (!err) close_store(&store);
    return err;
}

/* --- Below it ---------------------------------------------------------------------- */

typedef struct {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi blocks, meta;
} raw;

static raw raw_begin(void)
{
    raw self;
    char path[96];
    snprintf(path, sizeof path, "%s/0000001", folder);
    assert_int_equal(mdb_env_create(&self.env), 0);
    mdb_env_set_maxdbs(self.env, 4);
    assert_int_equal(mdb_env_open(self.env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(self.env, NULL, 0, &self.txn), 0);
    assert_int_equal(mdb_dbi_open(self.txn, "blocks", 0, &self.blocks), 0);
    assert_int_equal(mdb_dbi_open(self.txn, "meta", 0, &self.meta), 0);
    return self;
}

static void raw_end(raw *self)
{
    assert_int_equal(mdb_txn_commit(self->txn), 0);
    mdb_env_close(self->env);
}

static void delete_block(raw *self, uint32_t shard, uint64_t last)
{
    weir_disk_packed packed;
    MDB_val *key = weir_disk_pack(&packed, shard, last);
    assert_int_equal(mdb_del(self->txn, self->blocks, key, NULL), 0);
}

static void set_counts(raw *self, uint32_t shard, weir_disk_counts counts)
{
    uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE], value[WEIR_DISK_COUNTS_SIZE];
    MDB_val k = {sizeof key, key}, v = {sizeof value, value};
    weir_disk_counts_pack(&counts, shard, key, value);
    assert_int_equal(mdb_put(self->txn, self->meta, &k, &v, 0), 0);
}

static weir_disk_counts counts_of(raw *self, uint32_t shard)
{
    uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE], value[WEIR_DISK_COUNTS_SIZE];
    MDB_val k = {sizeof key, key}, v;
    weir_disk_counts counts = {0};
    uint32_t id;
    weir_disk_counts_pack(&counts, shard, key, value);
    assert_int_equal(mdb_get(self->txn, self->meta, &k, &v), 0);
    assert_true(weir_disk_counts_read(&counts, &id, key, v.mv_data, v.mv_size));
    assert_int_equal(id, shard);
    return counts;
}

/* --- Right ------------------------------------------------------------------------- */

static void counts_are_right_whatever_was_done(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    config.keep_records = 700;
    weir_store *store = open_with(&config);
    write_blocks(store, 0, 1, 1000);
    write_blocks(store, 5, 1, 10);
    write_fence(store, 5, 11);
    close_store(&store);
    assert_whole();
    raw below = raw_begin();
    weir_disk_counts counts = counts_of(&below, 0);
    raw_end(&below);
    assert_int_equal(counts.last, 1000);
    assert_int_equal(counts.trimmed, 300);
    store = open_with(&config);
    assert_int_equal(look_at(store, 0).bytes, counts.bytes);
    assert_int_equal(look_at(store, 0).records, 700);
    write_blocks(store, 0, 1001, 1);
    close_store(&store);
    uint64_t trimmed;
    assert_int_equal(
        weir_disk_trim(folder, WEIR_FOREVER, WEIR_FOREVER, 50, &trimmed, NULL), WEIR_OK);
    assert_int_equal(trimmed, 650);
    assert_whole();
    store = open_with(&config);
    assert_int_equal(look_at(store, 0).records, 50);
    close_store(&store);
}

static void counts_move_with_a_compaction(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    weir_store *store = open_with(&config);
    for (uint64_t i = 0; i < 40; i++)
        put(store, 0, 1, 1 + i, 1, 1 << 20);
    write_fence(store, 1, 1);
    close_store(&store);
    weir_disk_stats stats = {0};
    config.keep_records = 1;
    store = open_with(&config);
    EVENTUALLY((weir_disk_look(store, &stats), stats.compactions > 0));
    put(store, 0, 1, 41, 1, 100);
    close_store(&store);
    assert_whole();
    store = open_with(&config);
    assert_int_equal(look_at(store, 0).last, 41);
    close_store(&store);
}

/* --- Relied on --------------------------------------------------------------------- */

/*  Leaves with keys of shard 0 around the middle; gives how many.                    */
static int erase_leaves(void)
{
    enum { page = 4096, leaf = 2, key_at = 8 };
    uint8_t bytes[page], zeroes[page] = {0};
    weir_disk_key key;
    char path[128];
    int erased = 0;
    snprintf(path, sizeof path, "%s/0000001/data.mdb", folder);
    int fd = open(path, O_RDWR);
    for (off_t at = 2 * page; pread(fd, bytes, page, at) == page; at += page) {
        uint16_t flags, node;
        memcpy(&flags, bytes + 10, 2);
        memcpy(&node, bytes + 16, 2);
        if (flags != leaf || node > page - 64) continue;
        weir_disk_key_read(&key, bytes + node + key_at, WEIR_DISK_KEY_SIZE);
        if (key.shard != 0 || key.last < 900 || key.last > 1100) continue;
        assert_int_equal(pwrite(fd, zeroes, page, at), page);
        erased++;
    }
    close(fd);
    return erased;
}

static weir_err read_at(weir_store *store, uint64_t after, char text[256])
{
    bool done;
    weir_read read = {.after = {after, 0},
                      .max_records = 1,
                      .max_bytes = 1,
                      .done = ignore,
                      .owner = &done};
    store->class->read(store, &read);
    weir_err err = read.err;
    memcpy(text, read.text, 256);
    weir_read_fini(&read);
    return err;
}

/*  What a start does not look at does not keep it from starting.                     */
static void a_start_reads_only_the_ends_of_a_shard(void **state)
{
    (void)state;
    char text[256];
    weir_store *store = open_store();
    write_blocks(store, 0, 1, blocks);
    close_store(&store);
    assert_true(erase_leaves() >= 3);
    store = open_store();
    assert_int_equal(look_at(store, 0).records, blocks);
    assert_int_equal(read_at(store, 0, text), WEIR_OK);
    assert_int_equal(read_at(store, blocks - 1, text), WEIR_OK);
    assert_int_equal(read_at(store, 1000, text), WEIR_EMALFORMED);
    assert_non_null(strstr(text, "shard 0 behind offset 1000"));
    assert_non_null(strstr(text, "weir bus repair"));
    write_blocks(store, 0, blocks + 1, 10);
    close_store(&store);
}

static void a_store_without_counts_is_counted_once(void **state)
{
    (void)state;
    weir_store *store = open_store();
    write_blocks(store, 0, 1, 300);
    write_blocks(store, 7, 1, 1);
    write_fence(store, 7, 2);
    close_store(&store);
    raw below = raw_begin();
    weir_disk_counts before = counts_of(&below, 0);
    MDB_val version = {7, "version"}, one = {4, "\0\0\0\1"};
    assert_int_equal(mdb_drop(below.txn, below.meta, 0), 0);
    assert_int_equal(mdb_put(below.txn, below.meta, &version, &one, 0), 0);
    raw_end(&below);
    assert_whole();
    store = open_store();
    assert_int_equal(look_at(store, 0).records, 300);
    close_store(&store);
    below = raw_begin();
    weir_disk_counts after = counts_of(&below, 0);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(counts_of(&below, 7).last, 2);
    raw_end(&below);
    assert_whole();
}

/* --- Not as it says ---------------------------------------------------------------- */

static void assert_refused(const char *why)
{
    weir_report report = {0};
    assert_int_equal(try_open(&report), WEIR_EMALFORMED);
    if (!strstr(report.text, why)) fail_msg("'%s' lacks '%s'", report.text, why);
    assert_non_null(strstr(report.text, "weir bus verify"));
    assert_int_equal(verify(folder), WEIR_EMALFORMED);
}

static void newest_blocks_that_are_lost_are_missed(void **state)
{
    (void)state;
    uint64_t copied, lost;
    char copy[96];
    weir_store *store = open_store();
    write_blocks(store, 0, 1, 100);
    write_blocks(store, 1, 1, 100);
    close_store(&store);
    raw below = raw_begin();
    delete_block(&below, 0, 99);
    delete_block(&below, 0, 100);
    raw_end(&below);
    assert_refused("shard 0 ends at offset 98, its last record was at 100");
    if (!strstr(told, "0 99-100 ")) fail_msg("%s", told);
    snprintf(copy, sizeof copy, "%s.copy", folder);
    assert_int_equal(weir_disk_repair(folder, copy, &copied, &lost, NULL), WEIR_OK);
    assert_int_equal(copied, 198);
    assert_int_equal(lost, 2);
    weir_disk_config config = small_config();
    config.path = copy;
    store = open_with(&config);
    assert_int_equal(put(store, 0, 1, 101, 1, 10), 101); // no offset is used again
    close_store(&store);
    assert_int_equal(verify(copy), WEIR_OK);
    nftw(copy, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void a_shard_that_is_lost_is_missed(void **state)
{
    (void)state;
    weir_store *store = open_store();
    write_blocks(store, 0, 1, 3);
    write_blocks(store, 4, 1, 3);
    close_store(&store);
    raw below = raw_begin();
    for (uint64_t i = 1; i <= 3; i++)
        delete_block(&below, 4, i);
    raw_end(&below);
    assert_refused("shard 4 ends at offset 0");
    if (!strstr(told, "4 1-3 ")) fail_msg("%s", told);
}

static void records_of_an_unknown_shard_are_told(void **state)
{
    (void)state;
    weir_store *store = open_store();
    write_blocks(store, 0, 1, 3);
    write_blocks(store, 4, 1, 3);
    close_store(&store);
    raw below = raw_begin();
    uint8_t key[WEIR_DISK_COUNTS_KEY_SIZE], value[WEIR_DISK_COUNTS_SIZE];
    MDB_val k = {sizeof key, key};
    weir_disk_counts_pack(&(weir_disk_counts){0}, 4, key, value);
    assert_int_equal(mdb_del(below.txn, below.meta, &k, NULL), 0);
    raw_end(&below);
    assert_refused("records of shard 4");
}

static void other_counts_are_told_by_verify(void **state)
{
    (void)state;
    weir_store *store = open_store();
    write_blocks(store, 0, 1, 3);
    close_store(&store);
    raw below = raw_begin();
    weir_disk_counts counts = counts_of(&below, 0);
    counts.bytes++;
    set_counts(&below, 0, counts);
    raw_end(&below);
    assert_int_equal(verify(folder), WEIR_EMALFORMED);
    if (!strstr(told, "shard 0 ends at offset 3")) fail_msg("%s", told);
}

static void a_fence_that_is_lost_is_missed(void **state)
{
    (void)state;
    MDB_dbi fences;
    weir_store *store = open_store();
    write_fence(store, 1, 1);
    write_fence(store, 2, 1);
    close_store(&store);
    raw below = raw_begin();
    weir_disk_packed packed;
    assert_int_equal(mdb_dbi_open(below.txn, "fences", MDB_DUPSORT, &fences), 0);
    assert_int_equal(mdb_del(below.txn, fences, weir_disk_pack(&packed, 1, 1), NULL), 0);
    raw_end(&below);
    assert_refused("its fences are not those it had");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(counts_are_right_whatever_was_done),
        TEST(counts_move_with_a_compaction),
        TEST(a_start_reads_only_the_ends_of_a_shard),
        TEST(a_store_without_counts_is_counted_once),
        TEST(newest_blocks_that_are_lost_are_missed),
        TEST(a_shard_that_is_lost_is_missed),
        TEST(records_of_an_unknown_shard_are_told),
        TEST(other_counts_are_told_by_verify),
        TEST(a_fence_that_is_lost_is_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
