#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "actors/disk_fill.h"
#include "actors/disk_walk.h"
#include "actors/store_disk.h"
#include "runtime/block.h"

/* --- A store ----------------------------------------------------------------------- */

/*  Of each of 2 shards so many blocks of 3 records, whose payload names shard and offset
    and is `pad` bytes longer than that.                                            */
enum { SHARDS = 2, BLOCKS = 40, RECORDS = 3 };
static const uint64_t last_offset = (uint64_t)BLOCKS * RECORDS;

static char folder[64], store[96], copy[96], data_file[128];

static void put_block(weir_disk_fill *fill, uint32_t shard, uint64_t first, size_t pad)
{
    weir_builder builder = {.target = 1};
    weir_disk_sum *sum = weir_disk_sum_new();
    for (uint64_t i = first; i < first + RECORDS; i++) {
        char *text = malloc(pad + 64);
        int size = sprintf(text, "\"shard %u offset %llu.", shard, (unsigned long long)i);
        memset(text + size, 'x', pad);
        strcpy(text + (size_t)size + pad, "\"");
        weir_builder_add_payload(&builder, WEIR_JSON, (uint8_t *)text, strlen(text),
                                 NULL);
        free(text);
    }
    weir_block *block = weir_builder_seal(&builder);
    size_t size = weir_block_size(block);
    uint8_t *value = malloc(WEIR_DISK_HEAD_SIZE + size);
    weir_disk_head head = {RECORDS, first, 1, first, 1700000000000 + (int64_t)first,
                           size};
    weir_disk_head_begin(&head, sum, value);
    weir_disk_head_body(sum, weir_block_body(block), size);
    weir_disk_head_end(sum, value);
    memcpy(value + WEIR_DISK_HEAD_SIZE, weir_block_body(block), size);
    weir_disk_key key = {shard, first + RECORDS - 1};
    assert_int_equal(
        weir_disk_fill_block(fill, key, value, WEIR_DISK_HEAD_SIZE + size, NULL),
        WEIR_OK);
    free(value);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
    weir_disk_sum_destroy(&sum);
}

/*  skip: a block of shard 1 that is left out (-1: none).                           */
static void make_store(size_t pad, int skip)
{
    weir_disk_fill *fill;
    weir_report report = {0};
    if (weir_disk_fill_open(&fill, store, 1 << 20, &report)) fail_msg("%s", report.text);
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        for (int i = 0; i < BLOCKS; i++)
            if (shard != 1 || i != skip)
                put_block(fill, shard, (uint64_t)i * RECORDS + 1, pad);
    assert_int_equal(weir_disk_fill_close(fill, &report), WEIR_OK);
    weir_disk_fill_destroy(&fill);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; // for speed
    snprintf(folder, sizeof folder, "%s/weir-tools-XXXXXX", memory);
    if (!mkdtemp(folder)) return 1;
    snprintf(store, sizeof store, "%s/store", folder);
    snprintf(copy, sizeof copy, "%s/copy", folder);
    snprintf(data_file, sizeof data_file, "%s/0000001/data.mdb", store);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- Damage ------------------------------------------------------------------------ */

static uint8_t *read_data(size_t *size)
{
    struct stat st;
    int fd = open(data_file, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *data = malloc((size_t)st.st_size);
    *size = (size_t)st.st_size;
    assert_int_equal(read(fd, data, *size), st.st_size);
    close(fd);
    return data;
}

static void write_data(const uint8_t *data, size_t size)
{
    int fd = open(data_file, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

/*  Changes one byte of that record's payload in the file.                          */
static void flip_record(uint32_t shard, uint64_t offset)
{
    char text[64];
    size_t size;
    uint8_t *data = read_data(&size);
    int length =
        sprintf(text, "shard %u offset %llu.", shard, (unsigned long long)offset);
    uint8_t *at = memmem(data, size, text, (size_t)length);
    assert_non_null(at);
    at[2] ^= 1;
    write_data(data, size);
    free(data);
}

typedef struct {
    uint32_t shard;
    uint64_t first, last;
    char text[256];
} told;

typedef struct {
    told items[1000];
    size_t count;
} tale;

static void note(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                 const char *text)
{
    tale *self = arg;
    if (self->count == 1000) return;
    told *item = &self->items[self->count++];
    *item = (told){.shard = shard, .first = first, .last = last};
    snprintf(item->text, sizeof item->text, "%s", text);
}

static tale found; // by the last verify

static weir_err verify(const char *path)
{
    weir_report report = {0};
    found.count = 0;
    weir_err err = weir_disk_verify(path, note, &found, &report);
    assert_int_equal(report.err, err);
    return err;
}

static bool was_told(uint32_t shard, const char *text)
{
    for (size_t i = 0; i < found.count; i++)
        if (found.items[i].shard == shard && strstr(found.items[i].text, text))
            return true;
    return false;
}

/* --- What a store has -------------------------------------------------------------- */

/*  Records of the store that are there and as they were made, and those noted as missing;
    of damage only the number.                                                      */
typedef struct {
    uint64_t good, trimmed, damaged, lost, fences;
    bool is_there[SHARDS][BLOCKS * RECORDS + 1];
} content;

static weir_err take_block(void *arg, weir_disk_key key, const weir_disk_head *head,
                           const void *value, size_t size)
{
    content *self = arg;
    assert_int_equal(size, WEIR_DISK_HEAD_SIZE + head->body_bytes);
    for (uint64_t i = head->first; i <= key.last; i++) {
        char text[64];
        int length =
            sprintf(text, "shard %u offset %llu.", key.shard, (unsigned long long)i);
        assert_non_null(memmem(value, size, text, (size_t)length));
        self->is_there[key.shard][i] = true;
    }
    self->good += head->count;
    return WEIR_OK;
}

static weir_err take_gap(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                         bool damaged)
{
    content *self = arg;
    (void)shard;
    *(damaged ? &self->damaged : &self->trimmed) += last - first + 1;
    return WEIR_OK;
}

static weir_err take_lost(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                          const char *text)
{
    content *self = arg;
    (void)shard, (void)first, (void)last, (void)text;
    self->lost++;
    return WEIR_OK;
}

static weir_err take_fence(void *arg, const uint8_t *key, const uint8_t *value)
{
    content *self = arg;
    (void)key, (void)value;
    self->fences++;
    return WEIR_OK;
}

static content read_store(const char *path)
{
    content self = {0};
    char current[WEIR_DISK_FOLDER_MAX];
    const weir_disk_visitor visitor = {take_block, take_gap, take_lost, take_fence,
                                       &self,      true,     NULL};
    assert_int_equal(weir_disk_current(current, path, NULL), WEIR_OK);
    assert_int_equal(weir_disk_walk(current, &visitor, NULL), WEIR_OK);
    return self;
}

/*  Repairs to `copy`, where then nothing is wrong and every other record is as it was. */
static content repair(uint64_t expected_lost)
{
    uint64_t copied, lost;
    weir_report report = {0};
    if (weir_disk_repair(store, copy, &copied, &lost, &report))
        fail_msg("%s", report.text);
    content is = read_store(copy);
    assert_int_equal(is.lost, 0);
    assert_int_equal(is.good, copied);
    assert_int_equal(lost, expected_lost);
    assert_int_equal(verify(copy), WEIR_OK);
    return is;
}

/* --- Tests ------------------------------------------------------------------------- */

static void a_whole_store_passes_and_is_copied_whole(void **state)
{
    (void)state;
    make_store(2000, -1);
    size_t before, after;
    uint8_t *old = read_data(&before);
    assert_int_equal(verify(store), WEIR_OK);
    assert_int_equal(found.count, 0);
    content is = repair(0);
    assert_int_equal(is.good, SHARDS * last_offset);
    assert_int_equal(is.damaged, 0);
    uint8_t *now = read_data(&after);
    assert_int_equal(before, after);
    assert_memory_equal(old, now, before);
    free(old);
    free(now);
}

static void one_flipped_byte_costs_one_block(void **state)
{
    (void)state;
    static const uint64_t offsets[] = {1, 2, 62, BLOCKS * RECORDS};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        tear_down(NULL);
        set_up(NULL);
        make_store(i % 2 ? 20 : 3000, -1); // inside the tree's pages, and in its own
        uint64_t first = (offsets[i] - 1) / RECORDS * RECORDS + 1;
        flip_record(1, offsets[i]);
        assert_int_equal(verify(store), WEIR_EMALFORMED);
        assert_int_equal(found.count, 1);
        assert_int_equal(found.items[0].shard, 1);
        assert_int_equal(found.items[0].first, first);
        assert_int_equal(found.items[0].last, first + RECORDS - 1);
        assert_true(was_told(1, "checksum"));
        content is = repair(RECORDS);
        assert_int_equal(is.good, SHARDS * last_offset - RECORDS);
        assert_int_equal(is.damaged, RECORDS);
        for (uint64_t o = 1; o <= last_offset; o++) {
            assert_true(is.is_there[0][o]);
            assert_int_equal(is.is_there[1][o], o < first || o >= first + RECORDS);
        }
    }
}

static void what_is_missing_is_told_once_it_is_noted_it_is_not(void **state)
{
    (void)state;
    make_store(100, 5);
    assert_int_equal(verify(store), WEIR_EMALFORMED);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.items[0].first, 16);
    assert_int_equal(found.items[0].last, 18);
    assert_true(was_told(1, "neither there nor noted"));
    content is = repair(RECORDS);
    assert_int_equal(is.damaged, RECORDS);
}

static void gaps_and_fences_are_copied(void **state)
{
    (void)state;
    static const uint8_t to[WEIR_DISK_KEY_SIZE] = {[3] = 1, [11] = 7};
    static const uint8_t from[2][WEIR_DISK_KEY_SIZE] = {{[11] = 4}, {[3] = 2, [11] = 9}};
    weir_disk_fill *fill;
    weir_report report = {0};
    assert_int_equal(weir_disk_fill_open(&fill, store, 1 << 20, &report), WEIR_OK);
    assert_int_equal(weir_disk_fill_fence(fill, to, from[0], &report), WEIR_OK);
    assert_int_equal(weir_disk_fill_fence(fill, to, from[1], &report), WEIR_OK);
    weir_disk_fill_gap(fill, 0, 1, 10, false, &report);
    weir_disk_fill_gap(fill, 0, 11, 12, false, &report);
    put_block(fill, 0, 13, 10);
    weir_disk_fill_gap(fill, 0, 16, 20, true, &report);
    weir_disk_fill_gap(fill, 1, 1, 30, false, &report); // all of it was trimmed
    assert_int_equal(weir_disk_fill_close(fill, &report), WEIR_OK);
    weir_disk_fill_destroy(&fill);
    assert_int_equal(verify(store), WEIR_OK);
    content is = repair(0);
    assert_int_equal(is.good, 3);
    assert_int_equal(is.trimmed, 42);
    assert_int_equal(is.damaged, 5);
    assert_int_equal(is.fences, 2);
}

static void gaps_that_overlap_records_are_damage(void **state)
{
    (void)state;
    weir_disk_fill *fill;
    weir_report report = {0};
    assert_int_equal(weir_disk_fill_open(&fill, store, 1 << 20, &report), WEIR_OK);
    weir_disk_fill_gap(fill, 0, 1, 5, false, &report);
    put_block(fill, 0, 4, 10); // 4 to 6
    weir_disk_fill_gap(fill, 0, 7, 8, false, &report);
    put_block(fill, 0, 7, 10); // 7 to 9
    assert_int_equal(weir_disk_fill_close(fill, &report), WEIR_OK);
    weir_disk_fill_destroy(&fill);
    assert_int_equal(verify(store), WEIR_EMALFORMED);
    assert_int_equal(found.count, 2);
    assert_true(was_told(0, "overlaps"));
    content is = repair(2); // 6 and 9
    assert_int_equal(is.good, 0);
    assert_int_equal(is.trimmed, 7);
    assert_int_equal(is.damaged, 2);
}

static void a_cut_file_is_damage_and_what_is_left_is_copied(void **state)
{
    (void)state;
    make_store(6000, -1);
    size_t size;
    uint8_t *data = read_data(&size);
    for (size_t cut = 4096; cut < size; cut += 40 * 4096) {
        write_data(data, cut);
        assert_int_equal(verify(store), WEIR_EMALFORMED);
        assert_true(found.count > 0);
        assert_true(was_told(WEIR_DISK_NO_SHARD, "was cut") ||
                    was_told(WEIR_DISK_NO_SHARD, "data.mdb cannot"));
        content is = read_store(store);
        assert_true(is.good <= SHARDS * last_offset * cut / size);
        assert_true(is.good + 6 * RECORDS >= SHARDS * last_offset * cut / size);
    }
    write_data(data, size / 2);
    assert_true(repair(RECORDS + last_offset).good > 0);
    free(data);
}

/*  Every page in turn: nothing crashes, what is good is found or told, and nothing that
    is bad is believed.                                                                */
static void a_page_of_garbage_is_damage(void **state)
{
    (void)state;
    make_store(400, -1);
    size_t size, page = 4096;
    uint8_t *data = read_data(&size), bad[4096];
    uint64_t most = 0;
    for (size_t at = 2 * page; at + page <= size; at += page) {
        memcpy(bad, data + at, page);
        for (size_t i = 0; i < page; i++)
            data[at + i] = (uint8_t)(at / page * 31 + i * 7);
        write_data(data, size);
        memcpy(data + at, bad, page);
        weir_err err = verify(store);
        content is = read_store(store);
        if (err)
            assert_true(found.count > 0);
        else
            assert_int_equal(is.good, SHARDS * last_offset); // the page was a free one
        if (err && is.good > most) most = is.good;
    }
    free(data);
    assert_true(most >= SHARDS * last_offset - 3 * RECORDS); // a leaf was one of them
}

static void a_page_of_the_tree_costs_what_it_leads_to(void **state)
{
    (void)state;
    make_store(400, -1);
    size_t size;
    uint64_t copied, lost;
    weir_report report = {0};
    uint8_t *data = read_data(&size);
    uint8_t *at = memmem(data, size, "shard 0 offset 50.", 18);
    assert_non_null(at);
    memset(data + (size_t)(at - data) / 4096 * 4096, 0xa5, 4096);
    write_data(data, size);
    free(data);
    assert_int_equal(weir_disk_repair(store, copy, &copied, &lost, &report), WEIR_OK);
    assert_int_equal(copied + lost, SHARDS * last_offset);
    assert_in_range(lost, RECORDS, 6 * RECORDS);
    content is = read_store(copy);
    assert_false(is.is_there[0][50]);
    assert_int_equal(is.lost, 0);
    assert_int_equal(is.damaged, lost);
}

static void assert_refused(const char *path, weir_err expected, const char *why)
{
    uint64_t copied, lost;
    weir_report report = {0};
    found.count = 0;
    assert_int_equal(weir_disk_verify(path, note, &found, &report), expected);
    if (!strstr(report.text, why)) fail_msg("'%s' lacks '%s'", report.text, why);
    report = (weir_report){0};
    assert_int_equal(weir_disk_repair(path, copy, &copied, &lost, &report), expected);
    if (!strstr(report.text, why)) fail_msg("'%s' lacks '%s'", report.text, why);
    assert_int_equal(access(copy, F_OK), -1);
}

static void write_file(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", store, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void what_is_no_store_is_told(void **state)
{
    (void)state;
    assert_refused(store, WEIR_ENOTFOUND, "No such file");
    assert_int_equal(mkdir(store, 0700), 0);
    assert_refused(store, WEIR_ENOTFOUND, "no store of a bus is here: ");
    write_file("identity", "");
    assert_refused(store, WEIR_ENOTFOUND, "whose records lie elsewhere");
    write_file("CURRENT", "../../etc\n");
    assert_refused(store, WEIR_EMALFORMED, "does not name a folder");
    write_file("CURRENT", "");
    assert_refused(store, WEIR_EMALFORMED, "does not name a folder");
}

static void garbage_is_damage(void **state)
{
    (void)state;
    make_store(10, -1);
    uint8_t garbage[40000];
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (uint8_t)(i * i >> 3);
    static const size_t sizes[] = {0, 1, 4095, 4096, 8192, sizeof garbage};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        write_data(garbage, sizes[i]);
        assert_int_equal(verify(store), WEIR_EMALFORMED);
        assert_true(was_told(WEIR_DISK_NO_SHARD, "data.mdb cannot"));
    }
    unlink(data_file);
    assert_int_equal(verify(store), WEIR_EMALFORMED);
    assert_true(was_told(WEIR_DISK_NO_SHARD, "No such file"));
}

/*  Another LMDB environment, or one of another version.                            */
static void make_env(bool with_meta)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;
    char inner[128];
    MDB_val key = {7, "version"}, value = {4, "\0\0\0\3"};
    snprintf(inner, sizeof inner, "%s/0000001", store);
    mkdir(store, 0700);
    mkdir(inner, 0700);
    write_file("CURRENT", "0000001\n");
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 4);
    assert_int_equal(mdb_env_open(env, inner, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    if (with_meta) {
        assert_int_equal(mdb_dbi_open(txn, "meta", MDB_CREATE, &meta), 0);
        assert_int_equal(mdb_put(txn, meta, &key, &value, 0), 0);
    }
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void another_version_is_told(void **state)
{
    (void)state;
    make_env(true);
    assert_int_equal(verify(store), WEIR_EMALFORMED);
    assert_int_equal(found.count, 1);
    assert_true(was_told(WEIR_DISK_NO_SHARD, "has version 3, this weir reads version 2"));
}

static void a_foreign_environment_is_told(void **state)
{
    (void)state;
    make_env(false);
    assert_int_equal(verify(store), WEIR_EMALFORMED);
    assert_true(was_told(WEIR_DISK_NO_SHARD, "the database blocks cannot be read"));
}

static void one_that_writes_is_named(void **state)
{
    (void)state;
    char who[64];
    make_store(10, -1);
    int lock = -1;
    assert_int_equal(weir_disk_lock(&lock, store, true, NULL), WEIR_OK);
    snprintf(who, sizeof who, "process %ld uses this store", (long)getpid());
    assert_refused(store, WEIR_EREFUSED, who);
    close(lock);
    assert_int_equal(verify(store), WEIR_OK);
    /*  Who reads only shares it, and keeps who writes away.                        */
    int other = -1;
    weir_report report = {0};
    assert_int_equal(weir_disk_lock(&lock, store, false, NULL), WEIR_OK);
    assert_int_equal(verify(store), WEIR_OK);
    assert_int_equal(weir_disk_lock(&other, store, true, &report), WEIR_EREFUSED);
    close(lock);
}

static void repair_writes_over_nothing(void **state)
{
    (void)state;
    uint64_t copied, lost;
    weir_report report = {0};
    make_store(10, -1);
    assert_int_equal(weir_disk_repair(store, store, &copied, &lost, &report),
                     WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "something is there"));
    assert_int_equal(mkdir(copy, 0700), 0);
    assert_int_equal(weir_disk_repair(store, copy, &copied, &lost, &report), WEIR_OK);
    assert_int_equal(weir_disk_repair(store, copy, &copied, &lost, &report),
                     WEIR_EREFUSED);
    assert_int_equal(weir_disk_repair(store, "/dev/null/x", &copied, &lost, &report),
                     WEIR_ESYS);
}

static void the_bus_stays_who_it_is(void **state)
{
    (void)state;
    char path[160], text[16] = "";
    uint64_t copied, lost;
    make_store(10, -1);
    write_file("identity", "it is me");
    assert_int_equal(weir_disk_repair(store, copy, &copied, &lost, NULL), WEIR_OK);
    snprintf(path, sizeof path, "%s/identity", copy);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "it is me");
}

/* --- Trim -------------------------------------------------------------------------- */

static uint64_t trim(int64_t age_us, int64_t bytes, int64_t records)
{
    uint64_t trimmed = 0;
    weir_report report = {0};
    if (weir_disk_trim(store, age_us, bytes, records, &trimmed, &report))
        fail_msg("%s", report.text);
    assert_int_equal(verify(store), WEIR_OK);
    return trimmed;
}

static void trim_keeps_the_bound_and_less_than_a_block_more(void **state)
{
    (void)state;
    static const uint64_t kept = 12; // of each shard: without a block it would be 9
    make_store(10, -1);
    assert_int_equal(trim(WEIR_FOREVER, WEIR_FOREVER, last_offset), 0);
    assert_int_equal(trim(WEIR_FOREVER, WEIR_FOREVER, 10), SHARDS * (last_offset - kept));
    content is = read_store(store);
    assert_int_equal(is.good, SHARDS * kept);
    assert_int_equal(is.trimmed, SHARDS * (last_offset - kept));
    for (uint64_t o = 1; o <= last_offset; o++)
        assert_int_equal(is.is_there[1][o], o > last_offset - kept);
    assert_int_equal(trim(WEIR_FOREVER, WEIR_FOREVER, 10), 0);
    assert_int_equal(trim(WEIR_FOREVER, 1, WEIR_FOREVER), SHARDS * 9);
    assert_int_equal(read_store(store).good, SHARDS * RECORDS);
}

static void trim_by_age_may_take_all(void **state)
{
    (void)state;
    static const int64_t year_us = INT64_C(365) * 86400 * 1000000;
    make_store(10, -1);
    assert_int_equal(trim(1000 * year_us, WEIR_FOREVER, WEIR_FOREVER), 0);
    assert_int_equal(trim(1000000, WEIR_FOREVER, WEIR_FOREVER), SHARDS * last_offset);
    content is = read_store(store);
    assert_int_equal(is.good, 0);
    assert_int_equal(is.trimmed, SHARDS * last_offset);
}

static void put_fence(weir_disk_fill *fill, weir_disk_key to, weir_disk_key from)
{
    uint8_t key[WEIR_DISK_KEY_SIZE], value[WEIR_DISK_KEY_SIZE];
    weir_disk_key_pack(&to, key);
    weir_disk_key_pack(&from, value);
    assert_int_equal(weir_disk_fill_fence(fill, key, value, NULL), WEIR_OK);
}

/*  Of each shard the offsets from 109 on stay. Shard 5 waits for nothing that is left,
    but only once shard 1 does not either.                                              */
static void trim_takes_fences_with_what_they_wait_for(void **state)
{
    (void)state;
    weir_disk_fill *fill;
    assert_int_equal(weir_disk_fill_open(&fill, store, 1 << 20, NULL), WEIR_OK);
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        for (int i = 0; i < BLOCKS; i++)
            put_block(fill, shard, (uint64_t)i * RECORDS + 1, 10);
    put_fence(fill, (weir_disk_key){1, 1}, (weir_disk_key){0, 108});
    put_fence(fill, (weir_disk_key){5, 1}, (weir_disk_key){1, 60});
    put_fence(fill, (weir_disk_key){6, 1}, (weir_disk_key){1, 109});
    for (uint32_t shard = 10; shard < 300; shard++)
        put_fence(fill, (weir_disk_key){shard, 1}, (weir_disk_key){1, 10});
    put_fence(fill, (weir_disk_key){300, 1}, (weir_disk_key){0, 120});
    assert_int_equal(weir_disk_fill_close(fill, NULL), WEIR_OK);
    weir_disk_fill_destroy(&fill);
    assert_int_equal(read_store(store).fences, 294);
    trim(WEIR_FOREVER, WEIR_FOREVER, 10);
    assert_int_equal(read_store(store).fences, 2);
}

static void trim_has_many_transactions_for_many_blocks(void **state)
{
    (void)state;
    weir_disk_fill *fill;
    assert_int_equal(weir_disk_fill_open(&fill, store, 1 << 20, NULL), WEIR_OK);
    for (uint64_t i = 0; i < 2500; i++)
        put_block(fill, 0, i * RECORDS + 1, 0);
    assert_int_equal(weir_disk_fill_close(fill, NULL), WEIR_OK);
    weir_disk_fill_destroy(&fill);
    assert_int_equal(trim(WEIR_FOREVER, WEIR_FOREVER, 1), 2499 * RECORDS);
}

static void trim_refuses_what_it_must_not_touch(void **state)
{
    (void)state;
    uint64_t trimmed;
    char lock_file[160];
    weir_report report = {0};
    snprintf(lock_file, sizeof lock_file, "%s/lock", folder);
    assert_int_equal(weir_disk_trim(folder, 0, 0, 0, &trimmed, &report), WEIR_ENOTFOUND);
    assert_int_equal(access(lock_file, F_OK), -1);
    make_store(10, -1);
    int lock = -1;
    assert_int_equal(weir_disk_lock(&lock, store, false, NULL), WEIR_OK);
    assert_int_equal(lock, -1); // there is none before somebody writes
    assert_int_equal(weir_disk_lock(&lock, store, true, NULL), WEIR_OK);
    assert_int_equal(weir_disk_trim(store, 0, 0, 0, &trimmed, &report), WEIR_EREFUSED);
    close(lock);
    write_data((const uint8_t *)"garbage", 7);
    assert_int_equal(weir_disk_trim(store, 0, 0, 0, &trimmed, &report), WEIR_EMALFORMED);
}

static void gaps_are_listed(void **state)
{
    (void)state;
    weir_disk_fill *fill;
    weir_store *opened = NULL;
    weir_gap *gaps;
    size_t count;
    assert_int_equal(weir_disk_fill_open(&fill, store, 1 << 20, NULL), WEIR_OK);
    weir_disk_fill_gap(fill, 0, 1, 12, false, NULL);
    put_block(fill, 0, 13, 10);
    weir_disk_fill_gap(fill, 3, 1, 5, true, NULL);
    assert_int_equal(weir_disk_fill_close(fill, NULL), WEIR_OK);
    weir_disk_fill_destroy(&fill);
    assert_int_equal(weir_disk_open_readonly(&opened, store, NULL), WEIR_OK);
    assert_int_equal(weir_disk_gaps(opened, &gaps, &count, NULL), WEIR_OK);
    assert_int_equal(count, 2);
    assert_true(gaps[0].shard == 0 && gaps[0].last == 12 && !gaps[0].damaged);
    assert_true(gaps[1].shard == 3 && gaps[1].first == 1 && gaps[1].damaged);
    free(gaps);
    opened->class->close(&opened);
}

/* --- Times ------------------------------------------------------------------------- */

static void is_answered(weir_read *read)
{
    (void)read;
}

/*  The offset at which a read that begins then, behind `after`, begins; 0: at the end. */
static uint64_t begin_of(weir_store *opened, uint64_t after, int64_t since_ms)
{
    weir_read read = {.shard = 1,
                      .after = {after, 0},
                      .since_ms = since_ms,
                      .max_records = 1,
                      .max_bytes = 1,
                      .done = is_answered};
    opened->class->read(opened, &read);
    assert_int_equal(read.err, WEIR_OK);
    uint64_t offset = read.chunk_count ? read.chunks[0].offset : 0;
    if (!offset) assert_int_equal(read.reached.a, 60);
    weir_read_fini(&read);
    return offset;
}

/*  Blocks of 3 records at 1, 4, .. 58, a millisecond an offset; some are not there.  */
static void a_read_begins_at_a_time(void **state)
{
    (void)state;
    static const int64_t epoch_ms = 1700000000000; // of offset 0
    weir_disk_fill *fill;
    weir_store *opened = NULL;
    assert_int_equal(weir_disk_fill_open(&fill, store, 1 << 20, NULL), WEIR_OK);
    put_block(fill, 0, 1, 10);
    weir_disk_fill_gap(fill, 1, 1, 12, false, NULL);
    for (uint64_t first = 13; first <= 58; first += 3) {
        if (first == 31)
            weir_disk_fill_gap(fill, 1, 31, 36, true, NULL);
        else if (first != 34)
            put_block(fill, 1, first, 10);
    }
    put_block(fill, 2, 1, 10);
    assert_int_equal(weir_disk_fill_close(fill, NULL), WEIR_OK);
    weir_disk_fill_destroy(&fill);
    assert_int_equal(weir_disk_open_readonly(&opened, store, NULL), WEIR_OK);
    for (uint64_t offset = 1; offset <= 58; offset++) {
        uint64_t expected = offset <= 13   ? 13
                            : offset <= 28 ? (offset + 1) / 3 * 3 + 1
                            : offset <= 37 ? 37
                                           : (offset + 1) / 3 * 3 + 1;
        assert_int_equal(begin_of(opened, 0, epoch_ms + (int64_t)offset), expected);
        assert_int_equal(begin_of(opened, 39, epoch_ms + (int64_t)offset),
                         expected < 40 ? 40 : expected);
    }
    assert_int_equal(begin_of(opened, 0, epoch_ms + 59), 0);
    assert_int_equal(begin_of(opened, 0, INT64_MAX), 0);
    assert_int_equal(begin_of(opened, 0, 1), 13);
    opened->class->close(&opened);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_whole_store_passes_and_is_copied_whole),
        TEST(one_flipped_byte_costs_one_block),
        TEST(what_is_missing_is_told_once_it_is_noted_it_is_not),
        TEST(gaps_and_fences_are_copied),
        TEST(gaps_that_overlap_records_are_damage),
        TEST(a_cut_file_is_damage_and_what_is_left_is_copied),
        TEST(a_page_of_garbage_is_damage),
        TEST(a_page_of_the_tree_costs_what_it_leads_to),
        TEST(what_is_no_store_is_told),
        TEST(garbage_is_damage),
        TEST(another_version_is_told),
        TEST(a_foreign_environment_is_told),
        TEST(one_that_writes_is_named),
        TEST(repair_writes_over_nothing),
        TEST(the_bus_stays_who_it_is),
        TEST(trim_keeps_the_bound_and_less_than_a_block_more),
        TEST(trim_by_age_may_take_all),
        TEST(trim_takes_fences_with_what_they_wait_for),
        TEST(trim_has_many_transactions_for_many_blocks),
        TEST(trim_refuses_what_it_must_not_touch),
        TEST(gaps_are_listed),
        TEST(a_read_begins_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
