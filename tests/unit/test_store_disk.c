#include "help_disk.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static weir_disk *inside(weir_store *store)
{
    return (weir_disk *)store;
}

/* --- Storing and reading ----------------------------------------------------------- */

static void offsets_go_on_across_restarts(void **state)
{
    (void)state;
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        weir_store *store = open_store();
        assert_int_equal(put(store, 0, epoch, 1, 10, 100), epoch * 15 - 5);
        assert_int_equal(put(store, 7, epoch, 1, 3, 100), epoch * 3);
        assert_int_equal(put(store, 0, epoch, 11, 5, 100), epoch * 15);
        close_store(&store);
    }
    weir_store *store = open_store();
    tally seven = count_all(store, 7, 1000), all = count_all(store, 0, 1000);
    assert_int_equal(all.records, 45);
    assert_int_equal(seven.records, 9);
    assert_int_equal(all.trimmed + all.damaged, 0);
    weir_store_shard shard = look_at(store, 0);
    assert_int_equal(shard.first, 1);
    assert_int_equal(shard.last, 45);
    assert_int_equal(shard.records, 45);
    assert_int_equal(shard.bytes, all.bytes);
    assert_int_equal(shard.oldest_ms, 1000001);
    assert_int_equal(shard.newest_ms, 1000011);
    close_store(&store);
}

static void read_begins_in_the_middle_of_a_block(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 4, 1, 100, 50);
    put(store, 0, 4, 101, 100, 50);
    weir_read read = {.after = {37, 0}, .max_records = 80, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.chunk_count, 2);
    assert_int_equal(read.chunks[0].offset, 38);
    assert_int_equal(read.chunks[0].sequence, 38);
    assert_int_equal(read.chunks[0].epoch, 4);
    assert_int_equal(weir_block_records(read.chunks[0].block), 63);
    assert_int_equal(read.chunks[1].last.a, 117);
    assert_int_equal(weir_block_records(read.chunks[1].block), 17);
    assert_int_equal(weir_block_check(read.chunks[1].block), WEIR_OK);
    assert_int_equal(read.reached.a, 117);
    assert_true(read.more);
    tally rest = {.last = 37};
    count_read(&rest, &read);
    weir_read_fini(&read);
    read_all(store, 0, 7, &rest);
    assert_int_equal(rest.records, 163);
    assert_int_equal(count_all(store, 0, 1).records, 200);
    close_store(&store);
}

static void read_is_bounded_in_bytes_but_one_record_comes(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 1000);
    weir_read read = {.max_records = 100, .max_bytes = 2500};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 2);
    assert_true(read.more);
    weir_read_fini(&read);
    read = (weir_read){.after = {9, 0}, .max_records = 100, .max_bytes = 1};
    read_once(store, &read);
    assert_int_equal(read.reached.a, 10);
    assert_false(read.more);
    weir_read_fini(&read);
    read = (weir_read){.shard = 99, .max_records = 100, .max_bytes = 1};
    read_once(store, &read);
    assert_int_equal(read.chunk_count + read.gap_count, 0);
    assert_false(read.more);
    weir_read_fini(&read);
    close_store(&store);
}

static void one_transaction_takes_what_is_queued(void **state)
{
    enum { count = 60 };
    (void)state;
    weir_store *store = open_store();
    weir_batch *batches[count];
    weir_disk_stats stats;
    for (uint32_t i = 0; i < count; i++)
        batches[i] = make_batch(i % 4, 1, 1 + i / 4 * 10, 10, 20);
    for (uint32_t i = 0; i < count; i++)
        store->class->write(store, batches[i]);
    assert_int_equal(store->class->flush(store, 30000000, NULL), WEIR_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(wait_for(batches[i], 0));
        assert_int_equal(batches[i]->result, WEIR_STORE_SAFE);
        assert_int_equal(batches[i]->last_offset, 10 + i / 4 * 10);
        free_batch(&batches[i]);
    }
    weir_disk_look(store, &stats);
    assert_in_range(stats.commits, 1, count / 2);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(count_all(store, i, 1000).records, 150);
    close_store(&store);
}

/* --- What comes again -------------------------------------------------------------- */

static void batch_that_comes_again_is_stored_once(void **state)
{
    (void)state;
    weir_store *store = open_store();
    assert_int_equal(put(store, 0, 1, 1, 10, 20), 10);
    assert_int_equal(put(store, 0, 1, 11, 10, 20), 20);
    assert_int_equal(put(store, 0, 1, 21, 10, 20), 30);
    assert_int_equal(put(store, 0, 1, 21, 10, 20), 30);
    assert_int_equal(put(store, 0, 1, 1, 10, 20), 10);
    assert_int_equal(put(store, 0, 1, 25, 10, 20), 34); // a part of it is there
    assert_int_equal(count_all(store, 0, 1000).records, 34);
    close_store(&store);
}

static void epoch_before_the_stored_one_is_fatal(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 5, 1, 10, 20);
    weir_batch *batch = make_batch(0, 4, 11, 1, 20);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
    assert_non_null(strstr(batch->text, "other_writer"));
    free_batch(&batch);
    close_store(&store);
}

static int failures, failure;

static int fail_before(MDB_txn *txn)
{
    if (failures-- <= 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return failure;
}

static int fail_behind(MDB_txn *txn)
{
    int rc = mdb_txn_commit(txn);
    return rc || failures-- <= 0 ? rc : failure;
}

static void what_follows_a_failed_batch_waits_for_it(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    inside(store)->commit = fail_before;
    failures = 1, failure = ENOSPC;
    weir_batch *a = make_batch(0, 1, 11, 10, 20), *b = make_batch(0, 1, 21, 10, 20),
               *c = make_batch(0, 1, 31, 5, 20);
    assert_int_equal(write_batch(store, a), WEIR_STORE_RETRY);
    assert_non_null(strstr(a->text, "disk full"));
    assert_int_equal(write_batch(store, b), WEIR_STORE_RETRY);
    assert_int_equal(write_batch(store, c), WEIR_STORE_RETRY);
    assert_int_equal(put(store, 3, 1, 1, 4, 20), 4); // another shard
    assert_int_equal(write_batch(store, a), WEIR_STORE_SAFE);
    assert_int_equal(write_batch(store, b), WEIR_STORE_SAFE);
    assert_int_equal(write_batch(store, c), WEIR_STORE_SAFE);
    assert_int_equal(c->last_offset, 35);
    free_batch(&a);
    free_batch(&b);
    free_batch(&c);
    close_store(&store);
    store = open_store();
    assert_int_equal(count_all(store, 0, 1000).records, 35);
    close_store(&store);
}

static void what_was_given_up_holds_up_nothing(void **state)
{
    (void)state;
    weir_store *store = open_store();
    inside(store)->commit = fail_before;
    failures = 1, failure = ENOSPC;
    weir_batch *a = make_batch(0, 1, 1, 10, 20), *b = make_batch(0, 1, 11, 10, 20);
    assert_int_equal(write_batch(store, a), WEIR_STORE_RETRY);
    b->again = true;
    assert_int_equal(write_batch(store, b), WEIR_STORE_SAFE);
    assert_int_equal(b->last_offset, 10);
    free_batch(&a);
    free_batch(&b);
    close_store(&store);
}

static void commit_that_failed_but_is_there_counts(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    inside(store)->commit = fail_behind;
    failures = 1, failure = ENOSPC;
    assert_int_equal(put(store, 0, 1, 11, 10, 20), 20);
    assert_int_equal(put(store, 0, 1, 21, 10, 20), 30);
    assert_int_equal(count_all(store, 0, 1000).records, 30);
    close_store(&store);
}

static void io_error_is_fatal_for_all_that_follows(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    inside(store)->commit = fail_before;
    failures = 1, failure = EIO;
    weir_batch *a = make_batch(0, 1, 11, 10, 20), *b = make_batch(1, 1, 1, 10, 20);
    assert_int_equal(write_batch(store, a), WEIR_STORE_FATAL);
    assert_non_null(strstr(a->text, folder));
    assert_int_equal(write_batch(store, b), WEIR_STORE_FATAL);
    free_batch(&a);
    free_batch(&b);
    assert_int_equal(count_all(store, 0, 1000).records, 10);
    close_store(&store);
}

static bool has_seven(const weir_record *record)
{
    return record->size > 6 && !memcmp(record->data, "1:0:17 ", 7);
}

static void refused_record_is_between_two_blocks(void **state)
{
    (void)state;
    weir_store *store = open_store();
    inside(store)->refuses = has_seven;
    weir_batch *batch = make_batch(0, 1, 11, 10, 20), *rest = make_batch(0, 1, 18, 3, 20),
               *next = make_batch(0, 1, 21, 5, 20);
    assert_int_equal(put(store, 0, 1, 1, 10, 20), 10);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_REFUSED);
    assert_int_equal(batch->refused, 6);
    assert_int_equal(batch->last_offset, 16);
    assert_int_equal(write_batch(store, next), WEIR_STORE_RETRY); // the rest is not there
    rest->again = true;
    assert_int_equal(write_batch(store, rest), WEIR_STORE_SAFE);
    assert_int_equal(rest->last_offset, 19);
    assert_int_equal(write_batch(store, next), WEIR_STORE_SAFE);
    free_batch(&batch);
    free_batch(&rest);
    free_batch(&next);
    weir_read read = {.max_records = 100, .max_bytes = 1 << 20};
    read_once(store, &read);
    assert_int_equal(read.chunk_count, 4);
    assert_int_equal(read.chunks[1].sequence, 11);
    assert_int_equal(read.chunks[1].last.a, 16);
    assert_int_equal(read.chunks[2].sequence, 18);
    assert_int_equal(read.chunks[2].offset, 17);
    weir_read_fini(&read);
    close_store(&store);
}

/*  However late it comes, and although nothing is between.                          */
static void what_is_behind_a_refused_last_record_waits_until_it_comes_again(void **state)
{
    (void)state;
    weir_store *store = open_store();
    inside(store)->refuses = has_seven;
    weir_batch *batch = make_batch(0, 1, 11, 7, 20), *next = make_batch(0, 1, 18, 5, 20);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_REFUSED);
    assert_int_equal(batch->refused, 6);
    assert_int_equal(write_batch(store, next), WEIR_STORE_RETRY);
    next->again = true;
    assert_int_equal(write_batch(store, next), WEIR_STORE_SAFE);
    assert_int_equal(next->last_offset, 11);
    free_batch(&batch);
    free_batch(&next);
    close_store(&store);
}

/* --- Fences ------------------------------------------------------------------------ */

static void fences_are_stored_with_their_batch(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_fence *list;
    size_t count;
    put(store, 2, 1, 1, 5, 20);
    weir_batch *batch = make_batch(2, 1, 6, 5, 20);
    batch->fences = calloc(2, sizeof *batch->fences);
    batch->fences[0] = (weir_fence){.from = 0, .last.a = 100, .to = 2};
    batch->fences[1] = (weir_fence){.from = 1, .last.a = 50, .to = 2};
    batch->fence_count = 2;
    inside(store)->commit = fail_before;
    failures = 1, failure = ENOSPC;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
    assert_int_equal(store->class->fences(store, &list, &count, NULL), WEIR_OK);
    assert_int_equal(count, 0);
    free(list);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    assert_int_equal(batch->fences[1].first.a, 6);
    free_batch(&batch);
    close_store(&store);
    store = open_store();
    assert_int_equal(store->class->fences(store, &list, &count, NULL), WEIR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(list[0].from, 0);
    assert_int_equal(list[0].last.a, 100);
    assert_int_equal(list[1].from, 1);
    assert_int_equal(list[1].to, 2);
    assert_int_equal(list[1].first.a, 6);
    free(list);
    close_store(&store);
}

static void fences_alone_point_to_what_comes(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 2, 1, 1, 5, 20);
    weir_batch *batch = weir_batch_new(), *owner = make_batch(0, 1, 1, 1, 1);
    batch->done = tell;
    batch->owner = owner->owner;
    batch->shard = 2;
    batch->epoch = 1;
    batch->fences = calloc(1, sizeof *batch->fences);
    batch->fences[0] = (weir_fence){.from = 0, .last.a = 100, .to = 2};
    batch->fence_count = 1;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    assert_int_equal(batch->fences[0].first.a, 6);
    weir_batch_destroy(&batch);
    free_batch(&owner);
    close_store(&store);
}

/* --- Watching and closing ---------------------------------------------------------- */

static uint64_t count_of(int fd)
{
    uint64_t count = 0;
    return read(fd, &count, sizeof count) == sizeof count ? count : 0;
}

static void watcher_is_told_of_new_records(void **state)
{
    (void)state;
    weir_store *store = open_store();
    int fd = eventfd(0, EFD_NONBLOCK);
    store->class->watch(store, fd);
    put(store, 0, 1, 1, 5, 20);
    assert_int_equal(count_of(fd), 1);
    store->class->unwatch(store, fd);
    put(store, 0, 1, 6, 5, 20);
    assert_int_equal(count_of(fd), 0);
    close(fd);
    close_store(&store);
}

static int block_until_closing(MDB_txn *txn)
{
    weir_disk *self = mdb_env_get_userctx(mdb_txn_env(txn));
    for (bool closing = false; !closing; usleep(1000)) {
        pthread_mutex_lock(&self->mutex);
        closing = self->closing;
        pthread_mutex_unlock(&self->mutex);
    }
    return mdb_txn_commit(txn);
}

static void close_answers_everything(void **state)
{
    (void)state;
    weir_store *store = open_store();
    mdb_env_set_userctx(inside(store)->env.env, store);
    inside(store)->commit = block_until_closing;
    weir_batch *a = make_batch(0, 1, 1, 10, 20), *b = make_batch(0, 1, 11, 10, 20);
    store->class->write(store, a);
    EVENTUALLY(({
        pthread_mutex_lock(&inside(store)->mutex);
        bool taken = inside(store)->working.first;
        pthread_mutex_unlock(&inside(store)->mutex);
        taken;
    }));
    store->class->write(store, b);
    weir_report report = {0};
    assert_int_equal(store->class->flush(store, 1000, &report), WEIR_ETIMEOUT);
    assert_non_null(strstr(report.text, "2 batches"));
    close_store(&store);
    assert_true(wait_for(a, 0) && wait_for(b, 0));
    assert_int_equal(a->result, WEIR_STORE_SAFE);
    assert_int_equal(b->result, WEIR_STORE_RETRY);
    free_batch(&a);
    free_batch(&b);
}

/* --- Opening ----------------------------------------------------------------------- */

static weir_err try_open(weir_report *report)
{
    weir_disk_config config = small_config();
    weir_store *store = NULL;
    weir_err err = weir_disk_open(&store, &config, report);
    if (!err) close_store(&store);
    return err;
}

static void second_writer_is_refused(void **state)
{
    (void)state;
    int up[2], down[2];
    char byte;
    weir_report report = {0};
    assert_int_equal(pipe(up) | pipe(down), 0);
    pid_t child = fork();
    if (!child) {
        weir_store *store = open_store();
        if (write(up[1], "x", 1) != 1 || read(down[0], &byte, 1) < 0) _exit(1);
        close_store(&store);
        _exit(0);
    }
    assert_int_equal(read(up[0], &byte, 1), 1);
    assert_int_equal(try_open(&report), WEIR_EREFUSED);
    char name[32];
    snprintf(name, sizeof name, "process %d", child);
    assert_non_null(strstr(report.text, name));
    assert_string_equal(report.where, folder);
    assert_int_equal(write(down[1], "x", 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    weir_store *store = open_store(), *second = NULL;
    assert_int_equal(weir_disk_open_readonly(&second, folder, &report), WEIR_EREFUSED);
    close_store(&store);
    for (int i = 0; i < 2; i++)
        close(up[i]), close(down[i]);
}

static void data_file(char path[128])
{
    snprintf(path, 128, "%s/0000001/data.mdb", folder);
}

static void cut_file_is_refused(void **state)
{
    (void)state;
    char path[128];
    struct stat st;
    weir_report report = {0};
    weir_disk_stats stats;
    weir_store *store = open_store();
    for (uint64_t i = 0; i < 20; i++)
        put(store, 0, 1, 1 + i * 10, 10, 10000);
    weir_disk_look(store, &stats);
    close_store(&store);
    data_file(path);
    off_t sizes[] = {(off_t)(stats.used_bytes + stats.free_bytes) - 4096, 20000, 100, 0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        assert_int_equal(try_open(&report), WEIR_EMALFORMED);
        assert_int_equal(weir_disk_open_readonly(&store, folder, &report),
                         WEIR_EMALFORMED);
        assert_non_null(strstr(report.where, "0000001"));
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, sizes[i]);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(try_open(&report), WEIR_EMALFORMED);
}

/*  Changes one byte of the record whose text this is.                              */
static void flip(const char *text)
{
    char path[128];
    data_file(path);
    int fd = open(path, O_RDWR);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    char *all = malloc((size_t)st.st_size);
    assert_int_equal(pread(fd, all, (size_t)st.st_size, 0), st.st_size);
    char *at = memmem(all, (size_t)st.st_size, text, strlen(text));
    assert_non_null(at);
    char byte = (char)(at[strlen(text)] ^ 1);
    assert_int_equal(pwrite(fd, &byte, 1, at - all + (off_t)strlen(text)), 1);
    free(all);
    close(fd);
}

static void flipped_byte_in_a_new_block_fails_the_start(void **state)
{
    (void)state;
    weir_report report = {0};
    weir_store *store = open_store();
    for (uint64_t i = 0; i < 10; i++)
        put(store, 3, 1, 1 + i * 10, 10, 5000);
    close_store(&store);
    flip("1:3:25 ");
    assert_int_equal(try_open(&report), WEIR_EMALFORMED);
    assert_non_null(strstr(report.text, "shard 3"));
    assert_non_null(strstr(report.text, "offset 30"));
    assert_non_null(strstr(report.text, "repair"));
}

static void flipped_byte_in_an_old_block_is_a_gap(void **state)
{
    (void)state;
    weir_store *store = open_store();
    for (uint64_t i = 0; i < 70; i++)
        put(store, 3, 1, 1 + i * 10, 10, 5000);
    close_store(&store);
    flip("1:3:25 ");
    store = open_store();
    tally all = count_all(store, 3, 1000);
    assert_int_equal(all.records, 690);
    assert_int_equal(all.damaged, 10);
    assert_int_equal(all.first_damaged, 21);
    close_store(&store);
}

/* --- Full -------------------------------------------------------------------------- */

static void full_map_is_told_and_ends(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    config.map_max_bytes = 4 << 20;
    weir_store *store = open_with(&config);
    weir_disk_stats stats;
    uint64_t stored = 0;
    weir_batch *batch;
    for (;;) {
        batch = make_batch(0, 1, stored + 1, 10, 20000);
        if (write_batch(store, batch) != WEIR_STORE_SAFE) break;
        stored += 10;
        free_batch(&batch);
    }
    assert_int_equal(batch->result, WEIR_STORE_RETRY);
    assert_non_null(strstr(batch->text, "map_max"));
    assert_true(stored > 100);
    weir_disk_look(store, &stats);
    assert_true(stats.full);
    close_store(&store);
    config.map_max_bytes = 16 << 20;
    store = open_with(&config);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
    assert_int_equal(count_all(store, 0, 1000).records, stored + 10);
    close_store(&store);
}

/*  0: as it should be.                                                             */
static int fill_a_bounded_file(void)
{
    weir_store *store = open_store();
    uint64_t stored = 0;
    weir_batch *batch;
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){8 << 20, RLIM_INFINITY});
    for (;;) {
        batch = make_batch(0, 1, stored + 1, 10, 20000);
        if (write_batch(store, batch) != WEIR_STORE_SAFE) break;
        stored += 10;
        free_batch(&batch);
    }
    if (batch->result != WEIR_STORE_RETRY || !strstr(batch->text, "disk full")) return 1;
    if (stored < 300) return 2;
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    if (write_batch(store, batch) != WEIR_STORE_SAFE) return 3;
    weir_disk_stats stats;
    weir_disk_look(store, &stats);
    if (stats.full || count_all(store, 0, 1000).records != stored + 10) return 4;
    free_batch(&batch);
    close_store(&store);
    return 0;
}

static void full_disk_is_told_and_ends(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (!child) _exit(fill_a_bounded_file());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(offsets_go_on_across_restarts),
        TEST(read_begins_in_the_middle_of_a_block),
        TEST(read_is_bounded_in_bytes_but_one_record_comes),
        TEST(one_transaction_takes_what_is_queued),
        TEST(batch_that_comes_again_is_stored_once),
        TEST(epoch_before_the_stored_one_is_fatal),
        TEST(what_follows_a_failed_batch_waits_for_it),
        TEST(what_was_given_up_holds_up_nothing),
        TEST(commit_that_failed_but_is_there_counts),
        TEST(io_error_is_fatal_for_all_that_follows),
        TEST(refused_record_is_between_two_blocks),
        TEST(what_is_behind_a_refused_last_record_waits_until_it_comes_again),
        TEST(fences_are_stored_with_their_batch),
        TEST(fences_alone_point_to_what_comes),
        TEST(watcher_is_told_of_new_records),
        TEST(close_answers_everything),
        TEST(second_writer_is_refused),
        TEST(cut_file_is_refused),
        TEST(flipped_byte_in_a_new_block_fails_the_start),
        TEST(flipped_byte_in_an_old_block_is_a_gap),
        TEST(full_map_is_told_and_ends),
        TEST(full_disk_is_told_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
