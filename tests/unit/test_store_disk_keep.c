#include "help_disk.h"
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "runtime/clock.h"

/* --- Bounds ------------------------------------------------------------------------ */

static void bounds_are_exceeded_by_one_block_at_most(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    config.keep_bytes = 50000;
    weir_store *store = open_with(&config);
    uint64_t block = 0;
    for (uint64_t i = 0; i < 40; i++) {
        put(store, 0, 1, 1 + i * 10, 10, 1000);
        put(store, 1, 1, 1 + i, 1, 100);
        weir_store_shard shard = look_at(store, 0);
        if (i == 0) block = shard.bytes;
        assert_true(shard.bytes < 50000 + block);
        if (i > 10) assert_true(shard.bytes >= 50000);
        assert_int_equal(shard.records + shard.trimmed, 10 * (i + 1));
        assert_int_equal(shard.first, shard.trimmed + 1);
    }
    assert_int_equal(look_at(store, 1).trimmed, 0);
    close_store(&store);
    config.keep_bytes = WEIR_FOREVER;
    config.keep_records = 25;
    store = open_with(&config);
    EVENTUALLY(look_at(store, 0).records < 35);
    assert_int_equal(look_at(store, 0).records, 30);
    assert_int_equal(look_at(store, 1).records, 25);
    tally all = count_all(store, 0, 1000);
    assert_int_equal(all.records, 30);
    assert_int_equal(all.trimmed, 370);
    close_store(&store);
}

static void records_that_are_too_old_go_without_a_write(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    config.keep_age_us = 300000;
    weir_store *store = open_with(&config);
    weir_batch *old = make_batch(0, 1, 1, 10, 10), *now = make_batch(0, 1, 11, 10, 10);
    now->arrived_ms = weir_clock_wall_ms();
    assert_int_equal(write_batch(store, old), WEIR_STORE_SAFE);
    assert_int_equal(write_batch(store, now), WEIR_STORE_SAFE);
    EVENTUALLY(look_at(store, 0).trimmed == 20);
    assert_true(weir_clock_wall_ms() > now->arrived_ms + 300);
    free_batch(&old);
    free_batch(&now);
    weir_store_shard shard = look_at(store, 0);
    assert_int_equal(shard.first, 21);
    assert_int_equal(shard.last, 20);
    close_store(&store);
    config.keep_age_us = WEIR_FOREVER;
    store = open_with(&config);
    assert_int_equal(put(store, 0, 2, 1, 10, 10), 30);
    tally all = count_all(store, 0, 1000);
    assert_int_equal(all.trimmed, 20);
    assert_int_equal(all.records, 10);
    close_store(&store);
}

/* --- Groups ------------------------------------------------------------------------ */

/*  Writes until a batch stays held, and gives that one.                            */
static weir_batch *write_until_held(weir_store *store, uint32_t shard, uint64_t *stored)
{
    for (;;) {
        weir_batch *batch = make_batch(shard, 1, *stored + 1, 10, 1000);
        store->class->write(store, batch);
        bool answered = false;
        EVENTUALLY((answered = wait_for(batch, 0)) || atomic_load(&batch->held));
        if (!answered) return batch;
        assert_int_equal(batch->result, WEIR_STORE_SAFE);
        *stored += 10;
        free_batch(&batch);
    }
}

static void groups_hold_what_they_have_not_read(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    config.keep_bytes = 50000;
    weir_store *store = open_with(&config);
    weir_disk_stats stats;
    weir_report report = {0};
    uint64_t stored = 0;
    store->class->commit(store, "fast", 0, 0);
    store->class->commit(store, "fast", 7, 1000000);
    store->class->commit(store, "slow", 7, 1000000);
    weir_batch *held = write_until_held(store, 0, &stored);
    uint64_t full = look_at(store, 0).bytes;
    assert_in_range(full, 50000, 50000 + full / (stored / 10));
    assert_int_equal(look_at(store, 0).trimmed, 0);
    put(store, 7, 1, 1, 100, 1000); // another shard goes on
    assert_int_equal(store->class->flush(store, 20000, &report), WEIR_ETIMEOUT);
    assert_non_null(strstr(report.text, "held by group"));
    store->class->commit(store, "fast", 0, 20);
    assert_false(wait_for(held, 0.02));
    EVENTUALLY(({
        weir_disk_look(store, &stats);
        !strcmp(stats.held_by, "slow");
    }));
    store->class->commit(store, "slow", 0, 10);
    assert_int_equal(wait_answer(held), WEIR_STORE_SAFE);
    assert_false(atomic_load(&held->held));
    assert_int_equal(look_at(store, 0).trimmed, 10);
    free_batch(&held);
    stored += 10;
    held = write_until_held(store, 0, &stored);
    store->class->forget(store, "slow");
    assert_int_equal(wait_answer(held), WEIR_STORE_SAFE);
    free_batch(&held);
    weir_disk_look(store, &stats);
    assert_string_equal(stats.held_by, "");
    assert_int_equal(count_all(store, 0, 1000).trimmed, 20);
    close_store(&store);
}

static sem_t committing, go_on;
static atomic_bool slow;

static int commit_slowly(MDB_txn *txn)
{
    if (atomic_exchange(&slow, false)) {
        sem_post(&committing);
        sem_wait(&go_on);
    }
    return mdb_txn_commit(txn);
}

/*  The oldest record that was there once the commit was told.                      */
typedef struct {
    weir_store *store;
    const char *group;
    uint64_t offset, first;
    sem_t told;
} telling;

static void *tell_commit(void *arg)
{
    telling *self = arg;
    self->store->class->commit(self->store, self->group, 0, self->offset);
    self->first = look_at(self->store, 0).first;
    sem_post(&self->told);
    return NULL;
}

/*  A transaction drops 1 to 10 while somebody begins to need them.                 */
static void tell_amid_a_drop(const char *group, uint64_t offset)
{
    weir_disk_config config = small_config();
    config.keep_records = 10;
    weir_store *store = open_with(&config);
    telling one = {.store = store, .group = group, .offset = offset};
    pthread_t thread;
    struct timespec soon;
    sem_init(&committing, 0, 0);
    sem_init(&go_on, 0, 0);
    sem_init(&one.told, 0, 0);
    store->class->commit(store, "g", 0, 1000);
    put(store, 0, 1, 1, 10, 10);
    ((weir_disk *)store)->commit = commit_slowly;
    atomic_store(&slow, true);
    weir_batch *batch = make_batch(0, 1, 11, 10, 10);
    store->class->write(store, batch);
    sem_wait(&committing);
    pthread_create(&thread, NULL, tell_commit, &one);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += (soon.tv_nsec + 50000000) / 1000000000;
    soon.tv_nsec = (soon.tv_nsec + 50000000) % 1000000000;
    assert_int_not_equal(sem_timedwait(&one.told, &soon), 0);
    sem_post(&go_on);
    pthread_join(thread, NULL);
    assert_int_equal(one.first, 11);
    assert_int_equal(wait_answer(batch), WEIR_STORE_SAFE);
    free_batch(&batch);
    put(store, 0, 1, 21, 10, 10);
    assert_int_equal(look_at(store, 0).first, 11); // and nothing more goes
    close_store(&store);
}

static void who_begins_to_hold_waits_for_what_is_being_dropped(void **state)
{
    (void)state;
    tell_amid_a_drop("g", 5);
    remove_folder(NULL);
    make_folder(NULL);
    tell_amid_a_drop("new", 0);
}

static void many_batches_at_once_keep_to_the_bound_too(void **state)
{
    enum { count = 100 };
    (void)state;
    weir_disk_config config = small_config();
    config.keep_bytes = 50000;
    weir_store *store = open_with(&config);
    weir_batch *batches[count];
    store->class->commit(store, "slow", 1, 0);
    for (uint64_t i = 0; i < count; i++) {
        batches[i] = make_batch(0, 1, 1 + i * 10, 10, 1000);
        store->class->write(store, batches[i]);
    }
    assert_int_equal(wait_answer(batches[0]), WEIR_STORE_SAFE);
    EVENTUALLY(atomic_load(&batches[count - 1]->held) &&
               look_at(store, 0).bytes >= 50000);
    weir_store_shard shard = look_at(store, 0);
    assert_true(shard.bytes < 50000 + shard.bytes / (shard.records / 10));
    assert_int_equal(shard.trimmed, 0);
    store->class->forget(store, "slow");
    for (int i = 0; i < count; i++) {
        if (i) assert_int_equal(wait_answer(batches[i]), WEIR_STORE_SAFE);
        free_batch(&batches[i]);
    }
    assert_int_equal(look_at(store, 0).last, count * 10);
    close_store(&store);
}

static void without_hold_gaps_tell_what_was_shed(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    config.keep_records = 100;
    config.hold = false;
    weir_store *store = open_with(&config);
    tally reader = {0};
    store->class->commit(store, "slow", 0, 0);
    for (uint64_t i = 0; i < 60; i++) {
        put(store, 0, 1, 1 + i * 10, 10, 10);
        if (i % 20 == 0) read_all(store, 0, 1000, &reader);
    }
    read_all(store, 0, 1000, &reader);
    assert_int_equal(reader.records + reader.trimmed, 600);
    assert_int_equal(reader.trimmed, 100 + 100 + 90);
    assert_int_equal(reader.last, 600);
    close_store(&store);
}

/* --- Growth ------------------------------------------------------------------------ */

static void write_down(int fd, uint64_t number)
{
    if (write(fd, &number, sizeof number) != sizeof number) _exit(9);
}

/*  Reads shard 0 of a store that another process writes until it has `last`; what it does
    not find at first it is told of.                                                */
static int follow(uint64_t last, int told)
{
    weir_report report = {0};
    weir_store *store;
    tally all = {0};
    if (weir_disk_open_readonly(&store, folder, &report)) return 2;
    int fd = eventfd(0, 0);
    store->class->watch(store, fd);
    write_down(told, 1);
    for (;;) {
        uint64_t count;
        read_all(store, 0, 1000, &all);
        if (all.last >= last) break;
        if (read(fd, &count, sizeof count) != sizeof count) return 3;
    }
    if (all.damaged || all.records + all.trimmed != last) return 4;
    weir_batch *batch = make_batch(0, 1, 1, 1, 10);
    if (write_batch(store, batch) != WEIR_STORE_FATAL) return 5;
    free_batch(&batch);
    store->class->unwatch(store, fd);
    store->class->close(&store);
    close(fd);
    return 0;
}

static pid_t start_follower(uint64_t last, weir_store **store_p,
                            const weir_disk_config *config)
{
    int told[2];
    uint64_t one;
    weir_store *store = open_with(config); // so that there is one
    close_store(&store);
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    if (!child) {
        alarm(patience_s);
        _exit(follow(last, told[1]));
    }
    assert_int_equal(read(told[0], &one, sizeof one), sizeof one);
    close(told[0]);
    close(told[1]);
    *store_p = open_with(config);
    return child;
}

static void end_follower(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

typedef struct {
    weir_store *store;
    uint64_t last;
} reading;

static void *read_along(void *arg)
{
    reading *self = arg;
    tally all = {0};
    while (all.last < self->last)
        read_all(self->store, 0, 1000, &all);
    return NULL;
}

static void map_grows_under_readers(void **state)
{
    (void)state;
    const char *text = getenv("WEIR_GROW_MB");
    uint64_t batches = text ? strtoull(text, NULL, 10) : 128;
    weir_disk_config config = small_config();
    weir_disk_stats stats;
    pthread_t thread;
    reading along = {.last = batches * 10};
    pid_t child = start_follower(batches * 10, &along.store, &config);
    assert_int_equal(pthread_create(&thread, NULL, read_along, &along), 0);
    for (uint64_t i = 0; i < batches; i++)
        assert_int_equal(put(along.store, 0, 1, 1 + i * 10, 10, 104000), 10 + i * 10);
    pthread_join(thread, NULL);
    end_follower(child);
    weir_disk_look(along.store, &stats);
    assert_true(stats.map_bytes > batches * 1040000);
    assert_true(stats.map_bytes <= batches << 22);
    close_store(&along.store);
}

/* --- Compaction -------------------------------------------------------------------- */

static off_t file_size(void)
{
    char path[128], number[8] = "";
    struct stat st;
    snprintf(path, sizeof path, "%s/CURRENT", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(number, 1, 7, file), 7);
    fclose(file);
    snprintf(path, sizeof path, "%s/%s/data.mdb", folder, number);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static bool has_folder(unsigned number)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%07u", folder, number);
    return access(path, F_OK) == 0;
}

static void fill_for_compaction(const weir_disk_config *config)
{
    weir_store *store = open_with(config);
    for (uint64_t i = 0; i < 40; i++)
        put(store, 0, 1, 1 + i * 10, 10, 100000);
    for (uint64_t i = 0; i < 100; i++)
        put(store, 1, 1, 1 + i * 10, 10, 50);
    weir_batch *batch = make_batch(2, 1, 1, 1, 10);
    batch->fences = calloc(1, sizeof *batch->fences);
    batch->fences[0] = (weir_fence){.from = 1, .last.a = 5, .to = 2};
    batch->fence_count = 1;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
    close_store(&store);
}

static void compacted_file_is_as_large_as_its_data(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    weir_disk_stats stats;
    weir_fence *fences;
    size_t count;
    fill_for_compaction(&config);
    off_t before = file_size();
    config.keep_bytes = 8 << 20;
    weir_store *store = open_with(&config);
    uint64_t next = 401;
    EVENTUALLY(({ // under writes
        put(store, 0, 1, next, 10, 10);
        next += 10;
        weir_disk_look(store, &stats);
        stats.compactions > 0;
    }));
    assert_int_equal(stats.compactions, 1);
    uint64_t live = look_at(store, 0).bytes + look_at(store, 1).bytes;
    assert_in_range(live, 8 << 20, 10 << 20);
    assert_true((double)file_size() < 1.3 * (double)live);
    assert_true(file_size() < before / 3);
    assert_false(has_folder(1));
    assert_true(has_folder(2));
    put(store, 0, 1, next, 10, 10);
    for (int i = 0; i < 2; i++) {
        tally all = count_all(store, 0, 1000), other = count_all(store, 1, 1000);
        assert_int_equal(all.last, next + 9);
        assert_int_equal(all.damaged, 0);
        assert_int_equal(all.records + all.trimmed, next + 9);
        assert_int_equal(other.records, 1000);
        assert_int_equal(store->class->fences(store, &fences, &count, NULL), WEIR_OK);
        assert_int_equal(count, 1);
        free(fences);
        close_store(&store);
        store = open_with(&config);
    }
    close_store(&store);
}

static void reader_of_another_process_follows_a_compaction(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    weir_disk_stats stats = {0};
    weir_store *store;
    fill_for_compaction(&config);
    pid_t child = start_follower(440, &store, &config);
    close_store(&store);
    config.keep_bytes = 8 << 20;
    store = open_with(&config);
    EVENTUALLY((weir_disk_look(store, &stats), stats.compactions == 1));
    for (uint64_t i = 401; i < 440; i += 10)
        put(store, 0, 2, i, 10, 10);
    end_follower(child);
    close_store(&store);
}

static sem_t round_is_done, may_go_on;

static void pause_once(void)
{
    sem_post(&round_is_done);
    sem_wait(&may_go_on);
    sem_post(&may_go_on);
}

static void fill_shard(weir_store *store, uint32_t shard, uint64_t blocks)
{
    store->class->commit(store, "slow", shard, 0);
    for (uint64_t i = 0; i < blocks; i++)
        put(store, shard, 1, 1 + i * 10, 10, 100000);
}

/*  The oldest that is there, also in the databases.                                */
static void shard_has(weir_store *store, uint32_t shard, uint64_t first, uint64_t last)
{
    weir_store_shard is = look_at(store, shard);
    assert_int_equal(is.first, first);
    assert_int_equal(is.last, last);
    assert_int_equal(is.trimmed, first - 1);
    assert_int_equal(is.records, last + 1 - first);
    tally all = count_all(store, shard, 1000);
    assert_int_equal(all.records, is.records);
    assert_int_equal(all.bytes, is.bytes);
    assert_int_equal(all.last, last);
}

/*  All is too old, so that what the group commits goes at once.                     */
static void trims_and_records_of_meanwhile_reach_the_copy(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    weir_disk_stats stats;
    config.keep_age_us = 1000;
    weir_store *store = open_with(&config);
    sem_init(&round_is_done, 0, 0);
    sem_init(&may_go_on, 0, 0);
    ((weir_disk *)store)->copied = pause_once;
    fill_shard(store, 0, 25);
    fill_shard(store, 1, 5);
    fill_shard(store, 2, 5);
    store->class->commit(store, "slow", 0, 200);
    assert_int_equal(sem_wait(&round_is_done), 0);
    store->class->commit(store, "slow", 0, 230);
    store->class->commit(store, "slow", 1, 50);
    EVENTUALLY(look_at(store, 0).trimmed == 230 && look_at(store, 1).trimmed == 50);
    put(store, 0, 1, 251, 10, 100);
    fill_shard(store, 7, 1);
    sem_post(&may_go_on);
    EVENTUALLY((weir_disk_look(store, &stats), stats.compactions == 1));
    for (int i = 0; i < 2; i++) {
        shard_has(store, 0, 231, 260);
        shard_has(store, 1, 51, 50);
        shard_has(store, 2, 1, 50);
        shard_has(store, 7, 1, 10);
        close_store(&store);
        config.keep_age_us = WEIR_FOREVER;
        store = open_with(&config);
    }
    close_store(&store);
}

static void what_a_compaction_left_behind_goes(void **state)
{
    (void)state;
    char path[256];
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 10);
    close_store(&store);
    snprintf(path, sizeof path, "cp -r %s/0000001 %s/0000002 && mkdir %s/other", folder,
             folder, folder);
    assert_int_equal(system(path), 0);
    store = open_store();
    assert_false(has_folder(2));
    assert_int_equal(count_all(store, 0, 100).records, 10);
    snprintf(path, sizeof path, "%s/other", folder);
    assert_int_equal(access(path, F_OK), 0);
    close_store(&store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bounds_are_exceeded_by_one_block_at_most),
        TEST(records_that_are_too_old_go_without_a_write),
        TEST(groups_hold_what_they_have_not_read),
        TEST(who_begins_to_hold_waits_for_what_is_being_dropped),
        TEST(many_batches_at_once_keep_to_the_bound_too),
        TEST(without_hold_gaps_tell_what_was_shed),
        TEST(map_grows_under_readers),
        TEST(compacted_file_is_as_large_as_its_data),
        TEST(reader_of_another_process_follows_a_compaction),
        TEST(trims_and_records_of_meanwhile_reach_the_copy),
        TEST(what_a_compaction_left_behind_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
