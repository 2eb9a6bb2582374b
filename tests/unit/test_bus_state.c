#include "actors/bus_state.h"
#include "actors/bus_db.h"
#include "runtime/files.h"
#include <endian.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <xxhash.h>

enum { vnodes = 8, identity_size = 32 };

static char root[64], folder[96], identity_path[128], groups_path[128], lock_path[128];

static int set_up(void **state)
{
    (void)state;
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; // for speed
    snprintf(root, sizeof root, "%s/test_bus_state.XXXXXX", memory);
    if (!mkdtemp(root)) return -1;
    snprintf(folder, sizeof folder, "%s/bus/events", root);
    snprintf(identity_path, sizeof identity_path, "%s/identity", folder);
    snprintf(groups_path, sizeof groups_path, "%s/groups.mdb", folder);
    snprintf(lock_path, sizeof lock_path, "%s/lock", folder);
    return 0;
}

/*  Files of the state folder, removed on request.                                  */
static unsigned count_files(bool remove)
{
    unsigned count = 0;
    DIR *entries = opendir(folder);
    if (!entries) return 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (entry->d_name[0] == '.') continue;
        count++;
        if (remove) unlinkat(dirfd(entries), entry->d_name, 0);
    }
    closedir(entries);
    return count;
}

static int tear_down(void **state)
{
    (void)state;
    char parent[96];
    count_files(true);
    snprintf(parent, sizeof parent, "%s/bus", root);
    rmdir(folder);
    rmdir(parent);
    return rmdir(root);
}

static weir_bus_state *open_state(void)
{
    weir_bus_state *bus;
    weir_report report = {0};
    if (weir_bus_state_open(&bus, folder, vnodes, &report))
        fail_msg("%s: %s", report.where, report.text);
    return bus;
}

static void assert_refused(weir_err wanted, const char *where, const char *why)
{
    weir_bus_state *bus;
    weir_report report = {0};
    weir_err err = weir_bus_state_open(&bus, folder, vnodes, &report);
    if (err != wanted || strcmp(report.where, where) || !strstr(report.text, why))
        fail_msg("%d %s: %s", err, report.where, report.text);
    assert_null(bus);
}

static size_t read_all(const char *path, char **data)
{
    size_t size;
    unsigned mode;
    assert_int_equal(weir_read_file(path, 1 << 26, data, &size, &mode), WEIR_OK);
    return size;
}

static void write_all(const char *path, const void *data, size_t size)
{
    assert_int_equal(weir_replace_file(path, data, size, 0600, false), WEIR_OK);
}

/*  The identity's file has its magic, its checksum, and these figures.             */
static void read_identity(uint64_t *nonce, uint64_t *epoch)
{
    char *data;
    uint64_t words[4];
    assert_int_equal(read_all(identity_path, &data), identity_size);
    assert_memory_equal(data, "WEIRBUS1", 8);
    memcpy(words, data, sizeof words);
    assert_true(le64toh(words[3]) == XXH3_64bits(data, 24));
    *nonce = le64toh(words[1]);
    *epoch = le64toh(words[2]);
    free(data);
}

/* --- Identity ---------------------------------------------------------------------- */

static void each_start_has_the_next_epoch(void **state)
{
    (void)state;
    uint64_t first = 0, nonce, epoch;
    for (uint64_t start = 1; start <= 3; start++) {
        weir_bus_state *bus = open_state();
        if (start == 1) first = weir_bus_state_nonce(bus);
        assert_true(weir_bus_state_nonce(bus) == first && first != 0);
        assert_int_equal(weir_bus_state_epoch(bus), start);
        read_identity(&nonce, &epoch);
        assert_true(nonce == first && epoch == start);
        weir_bus_state_close(&bus);
        assert_null(bus);
    }
}

static void without_a_path_each_start_is_another_bus(void **state)
{
    (void)state;
    uint64_t nonces[3];
    for (int i = 0; i < 3; i++) {
        weir_bus_state *bus;
        assert_int_equal(weir_bus_state_open(&bus, NULL, vnodes, NULL), WEIR_OK);
        nonces[i] = weir_bus_state_nonce(bus);
        assert_int_equal(weir_bus_state_epoch(bus), 1);
        weir_bus_state_close(&bus);
    }
    assert_true(nonces[0] && nonces[1] && nonces[2]);
    assert_true(nonces[0] != nonces[1] && nonces[1] != nonces[2] &&
                nonces[0] != nonces[2]);
}

static void without_a_path_nothing_is_kept(void **state)
{
    (void)state;
    weir_bus_state *bus;
    weir_shard_row row = {.id = 0, .state = WEIR_SHARD_ACTIVE};
    uint32_t owners[vnodes] = {0};
    weir_shard_table table = {
        .version = 1, .vnodes = vnodes, .rows = &row, .row_count = 1, .owners = owners};
    weir_group_row done = {.shard = 1}, *rows;
    char **names;
    size_t count;
    assert_int_equal(weir_bus_state_open(&bus, NULL, vnodes, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_store(bus, &table, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_load(bus, &table, NULL), WEIR_OK);
    assert_int_equal(table.row_count, 0);
    assert_int_equal(table.vnodes, vnodes);
    assert_int_equal(weir_bus_state_store_group(bus, "g", &done, 1, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_load_group(bus, "g", &rows, &count, NULL), WEIR_OK);
    assert_int_equal(count, 0);
    weir_group_rows_free(&rows, count);
    assert_int_equal(weir_bus_state_groups(bus, &names, &count, NULL), WEIR_OK);
    assert_int_equal(count, 0);
    weir_group_names_free(&names, count);
    assert_int_equal(weir_bus_state_forget_group(bus, "g", NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_raise(bus, 5, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_epoch(bus), 6);
    weir_bus_state_close(&bus);
}

static void the_epoch_rises_above_another(void **state)
{
    (void)state;
    uint64_t nonce, epoch;
    weir_report report = {0};
    weir_bus_state *bus = open_state();
    assert_int_equal(weir_bus_state_raise(bus, 40, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_epoch(bus), 41);
    read_identity(&nonce, &epoch);
    assert_int_equal(epoch, 41);
    assert_int_equal(weir_bus_state_raise(bus, 40, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_epoch(bus), 41);
    assert_int_equal(weir_bus_state_raise(bus, UINT64_MAX, &report), WEIR_EINVAL);
    assert_string_equal(report.where, identity_path);
    assert_int_equal(weir_bus_state_raise(bus, UINT64_MAX - 1, NULL), WEIR_OK);
    weir_bus_state_close(&bus);
    assert_refused(WEIR_EINVAL, identity_path, "no epoch is above");
}

static void a_damaged_identity_is_refused_and_left_as_it_is(void **state)
{
    (void)state;
    char *whole, *after;
    weir_bus_state *bus = open_state();
    weir_bus_state_close(&bus);
    assert_int_equal(read_all(identity_path, &whole), identity_size);
    for (size_t size = 0; size < identity_size; size++) {
        write_all(identity_path, whole, size);
        assert_refused(WEIR_EMALFORMED, identity_path, "bad_identity: ");
    }
    for (int i = 0; i < identity_size; i++) {
        whole[i] ^= 4;
        write_all(identity_path, whole, identity_size);
        assert_refused(WEIR_EMALFORMED, identity_path, "bad_identity: ");
        whole[i] ^= 4;
    }
    char long_one[5000] = {0};
    memcpy(long_one, whole, identity_size);
    write_all(identity_path, long_one, identity_size + 1);
    assert_refused(WEIR_EMALFORMED, identity_path, "bad_identity: ");
    write_all(identity_path, long_one, sizeof long_one);
    assert_refused(WEIR_EMALFORMED, identity_path, "bad_identity: ");
    assert_int_equal(read_all(identity_path, &after), sizeof long_one);
    assert_memory_equal(after, long_one, sizeof long_one);
    free(after);
    unlink(identity_path);
    assert_int_equal(mkdir(identity_path, 0700), 0);
    assert_refused(WEIR_EMALFORMED, identity_path, "bad_identity: ");
    rmdir(identity_path);
    write_all(identity_path, whole, identity_size);
    bus = open_state();
    assert_int_equal(weir_bus_state_epoch(bus), 2);
    weir_bus_state_close(&bus);
    free(whole);
}

static void a_second_one_is_refused(void **state)
{
    (void)state;
    weir_bus_state *bus = open_state();
    assert_refused(WEIR_EREFUSED, lock_path, "in_use: ");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        weir_bus_state *other;
        weir_report report = {0};
        weir_err err = weir_bus_state_open(&other, folder, vnodes, &report);
        _exit(err == WEIR_EREFUSED && !strcmp(report.where, lock_path) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(weir_bus_state_epoch(bus), 1);
    weir_bus_state_close(&bus);
    bus = open_state();
    assert_int_equal(weir_bus_state_epoch(bus), 2);
    weir_bus_state_close(&bus);
}

static void a_folder_that_cannot_be_made_is_told(void **state)
{
    (void)state;
    char parent[96];
    snprintf(parent, sizeof parent, "%s/bus", root);
    write_all(parent, "", 0);
    assert_refused(WEIR_ESYS, folder, "Not a directory");
    unlink(parent);
}

/*  Opens and closes until it is killed, and tells each epoch before it uses it.    */
static void open_forever(int out)
{
    for (;;) {
        weir_bus_state *bus;
        weir_report report = {0};
        if (weir_bus_state_open(&bus, folder, vnodes, &report)) {
            fprintf(stderr, "%s: %s\n", report.where, report.text);
            _exit(1);
        }
        uint64_t told[2] = {weir_bus_state_nonce(bus), weir_bus_state_epoch(bus)};
        if (write(out, told, sizeof told) != sizeof told) _exit(2);
        weir_bus_state_close(&bus);
    }
}

/*  Lets a child open, kills it after so long, and checks what it told.             */
static void kill_one(long after_ns, uint64_t *nonce, uint64_t *last)
{
    int pipe_fds[2], status;
    uint64_t told[2];
    assert_int_equal(pipe(pipe_fds), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) open_forever(pipe_fds[1]);
    close(pipe_fds[1]);
    nanosleep(&(struct timespec){0, after_ns}, NULL);
    kill(child, SIGKILL);
    while (read(pipe_fds[0], told, sizeof told) == sizeof told) {
        if (*nonce == 0) *nonce = told[0];
        assert_true(told[0] == *nonce);
        assert_true(told[1] > *last);
        *last = told[1];
    }
    close(pipe_fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

/*  How long a first start takes here: kills come within twice that.                */
static long measure_start(void)
{
    long begun = now_ns();
    weir_bus_state *bus = open_state();
    weir_bus_state_close(&bus);
    return now_ns() - begun;
}

/*  Each fifth round begins with nothing, so that first starts are killed, too.     */
static void a_kill_leaves_a_valid_identity(void **state)
{
    (void)state;
    enum { kills = 100, seed = 20240611 };
    uint64_t nonce = 0, last = 0, found, epoch;
    unsigned seeded = seed, identities = 0;
    long most_ns = 2 * measure_start();
    print_message("seed %d, kills within %ld us\n", seed, most_ns / 1000);
    for (int i = 0; i < kills; i++) {
        if (i % 5 == 0) {
            count_files(true);
            nonce = last = 0;
        }
        kill_one(rand_r(&seeded) % most_ns, &nonce, &last);
        if (access(identity_path, F_OK)) {
            assert_int_equal(last, 0);
            continue;
        }
        read_identity(&found, &epoch);
        assert_true((nonce == 0 || found == nonce) && epoch >= last);
        nonce = found;
        identities++;
    }
    assert_true(identities > 0);
    weir_bus_state *bus = open_state();
    assert_true(weir_bus_state_epoch(bus) > last);
    assert_true(nonce == 0 || weir_bus_state_nonce(bus) == nonce);
    assert_int_equal(count_files(false), 4); // nothing else is left behind
    weir_bus_state_close(&bus);
}

/*  A first start that was killed between table and identity.                       */
static void a_first_start_goes_on_where_one_was_killed(void **state)
{
    (void)state;
    assert_int_equal(weir_make_folders(folder), WEIR_OK);
    assert_int_equal(weir_bus_db_make(groups_path, 77, NULL), WEIR_OK);
    char left[160];
    snprintf(left, sizeof left, "%s.Xy12zz", identity_path);
    write_all(left, "torn", 4);
    weir_bus_state *bus = open_state();
    assert_int_equal(weir_bus_state_nonce(bus), 77);
    assert_int_equal(weir_bus_state_epoch(bus), 1);
    assert_int_equal(access(left, F_OK), -1);
    weir_bus_state_close(&bus);
}

static void a_table_that_was_being_made_is_made_again(void **state)
{
    (void)state;
    char left[160];
    snprintf(left, sizeof left, "%s.new", groups_path);
    assert_int_equal(weir_make_folders(folder), WEIR_OK);
    write_all(left, "torn", 4);
    weir_bus_state *bus = open_state();
    assert_int_equal(access(left, F_OK), -1);
    weir_bus_state_close(&bus);
}

/* --- Shards ------------------------------------------------------------------------ */

static weir_shard_table make_table(uint32_t rows, uint32_t moves)
{
    weir_shard_table table = {.version = 0x123456789abc, .vnodes = vnodes};
    table.rows = calloc(rows + 1, sizeof *table.rows);
    table.moves = calloc(moves + 1, sizeof *table.moves);
    table.owners = calloc(vnodes, sizeof *table.owners);
    table.row_count = rows;
    table.move_count = moves;
    for (uint32_t i = 0; i < rows; i++)
        table.rows[i] = (weir_shard_row){i * 70000, (weir_shard_state)(i % 4)};
    for (uint32_t i = 0; i < moves; i++)
        table.moves[i] = (weir_move){i, UINT32_MAX - i, UINT64_MAX - i};
    for (uint32_t i = 0; i < vnodes; i++)
        table.owners[i] = i % (rows ? rows : 1) * 70000;
    return table;
}

static void assert_same_table(const weir_shard_table *a, const weir_shard_table *b)
{
    assert_true(a->version == b->version && a->vnodes == b->vnodes);
    assert_int_equal(a->row_count, b->row_count);
    assert_int_equal(a->move_count, b->move_count);
    for (size_t i = 0; i < a->row_count; i++)
        assert_memory_equal(&a->rows[i], &b->rows[i], sizeof *a->rows);
    for (size_t i = 0; i < a->move_count; i++)
        assert_memory_equal(&a->moves[i], &b->moves[i], sizeof *a->moves);
    assert_memory_equal(a->owners, b->owners, a->vnodes * sizeof *a->owners);
}

static void store_table(weir_bus_state *bus, uint32_t rows, uint32_t moves)
{
    weir_shard_table table = make_table(rows, moves);
    assert_int_equal(weir_bus_state_store(bus, &table, NULL), WEIR_OK);
    weir_shard_table_fini(&table);
}

static void the_shard_table_comes_back(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = {{1, 0}, {4, 2}, {5000, 300}, {3, 0}};
    weir_shard_table table;
    weir_bus_state *bus = open_state();
    assert_int_equal(weir_bus_state_load(bus, &table, NULL), WEIR_OK);
    assert_int_equal(table.row_count, 0);
    assert_int_equal(table.vnodes, vnodes);
    weir_shard_table_fini(&table);
    for (int i = 0; i < 4; i++) {
        weir_shard_table wanted = make_table(sizes[i][0], sizes[i][1]);
        store_table(bus, sizes[i][0], sizes[i][1]);
        weir_bus_state_close(&bus);
        bus = open_state();
        assert_int_equal(weir_bus_state_load(bus, &table, NULL), WEIR_OK);
        assert_same_table(&table, &wanted);
        weir_shard_table_fini(&table);
        weir_shard_table_fini(&wanted);
    }
    weir_bus_state_close(&bus);
}

static void other_vnodes_are_refused_once_there_is_a_map(void **state)
{
    (void)state;
    weir_report report = {0};
    weir_bus_state *bus = open_state(), *other;
    weir_bus_state_close(&bus);
    assert_int_equal(weir_bus_state_open(&bus, folder, 9, NULL), WEIR_OK);
    weir_bus_state_close(&bus);
    bus = open_state();
    store_table(bus, 2, 0);
    weir_bus_state_close(&bus);
    assert_int_equal(weir_bus_state_open(&other, folder, 9, &report), WEIR_EINVAL);
    assert_null(other);
    assert_string_equal(report.where, folder);
    assert_non_null(strstr(report.text, "set vnodes = 8"));
    bus = open_state();
    assert_int_equal(weir_bus_state_epoch(bus), 4); // the refused start took none
    weir_bus_state_close(&bus);
}

/* --- Groups ------------------------------------------------------------------------ */

static weir_group_row make_row(uint32_t shard, uint64_t number, size_t failures)
{
    weir_group_row row = {.shard = shard,
                          .start = {number, 1},
                          .commit = {number + 5, 2},
                          .shed = number * 3,
                          .failed_count = failures};
    row.failed = calloc(failures + 1, sizeof *row.failed);
    for (size_t i = 0; i < failures; i++)
        row.failed[i] = (weir_group_failure){{number + 6 + i, i}, (uint32_t)i + 1};
    return row;
}

static void store_row(weir_bus_state *bus, const char *group, uint32_t shard,
                      uint64_t number, size_t failures)
{
    weir_group_row row = make_row(shard, number, failures);
    assert_int_equal(weir_bus_state_store_group(bus, group, &row, 1, NULL), WEIR_OK);
    free(row.failed);
}

static void assert_row(const weir_group_row *row, uint32_t shard, uint64_t number,
                       size_t failures)
{
    assert_int_equal(row->shard, shard);
    assert_true(row->start.a == number && row->start.b == 1);
    assert_true(row->commit.a == number + 5 && row->commit.b == 2);
    assert_true(row->shed == number * 3);
    assert_int_equal(row->failed_count, failures);
    for (size_t i = 0; i < failures; i++) {
        assert_true(row->failed[i].at.a == number + 6 + i && row->failed[i].at.b == i);
        assert_int_equal(row->failed[i].failures, i + 1);
    }
}

static weir_group_row *load_rows(weir_bus_state *bus, const char *group, size_t wanted)
{
    weir_group_row *rows;
    size_t count;
    weir_report report = {0};
    if (weir_bus_state_load_group(bus, group, &rows, &count, &report))
        fail_msg("%s: %s", report.where, report.text);
    assert_int_equal(count, wanted);
    return rows;
}

static void assert_groups(weir_bus_state *bus, const char *const *wanted, size_t count)
{
    char **names;
    size_t found;
    assert_int_equal(weir_bus_state_groups(bus, &names, &found, NULL), WEIR_OK);
    assert_int_equal(found, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(names[i], wanted[i]);
    weir_group_names_free(&names, found);
}

static void rows_of_groups_come_back(void **state)
{
    (void)state;
    weir_bus_state *bus = open_state();
    weir_group_row both[] = {make_row(300, 1, 0), make_row(2, 2, 3)};
    assert_int_equal(weir_bus_state_store_group(bus, "parse", both, 2, NULL), WEIR_OK);
    store_row(bus, "parse", 70000, UINT64_MAX - 3000, 2000);
    store_row(bus, "web/out", 2, 7, 1);
    weir_bus_state_close(&bus);
    bus = open_state();
    weir_group_row *rows = load_rows(bus, "parse", 3);
    assert_row(&rows[0], 2, 2, 3);
    assert_row(&rows[1], 300, 1, 0);
    assert_row(&rows[2], 70000, UINT64_MAX - 3000, 2000);
    weir_group_rows_free(&rows, 3);
    assert_null(rows);
    store_row(bus, "parse", 300, 9, 4); // replaces one, leaves the others
    rows = load_rows(bus, "parse", 3);
    assert_row(&rows[0], 2, 2, 3);
    assert_row(&rows[1], 300, 9, 4);
    weir_group_rows_free(&rows, 3);
    rows = load_rows(bus, "web/out", 1);
    assert_row(&rows[0], 2, 7, 1);
    weir_group_rows_free(&rows, 1);
    weir_bus_state_close(&bus);
    free(both[0].failed);
    free(both[1].failed);
}

static void groups_are_kept_apart_and_forgotten(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "a\001", "a/b", "ab", "table", "weir"};
    static const char *const rest[] = {"a\001", "a/b", "ab", "table", "weir"};
    weir_bus_state *bus = open_state();
    store_table(bus, 2, 1);
    assert_groups(bus, NULL, 0);
    for (int i = 5; i >= 0; i--)
        for (uint32_t shard = 0; shard < 300; shard += 100)
            store_row(bus, names[i], shard, (uint64_t)i, 1);
    assert_groups(bus, names, 6);
    for (int i = 0; i < 6; i++) {
        weir_group_row *rows = load_rows(bus, names[i], 3);
        assert_row(&rows[2], 200, (uint64_t)i, 1);
        weir_group_rows_free(&rows, 3);
    }
    assert_int_equal(weir_bus_state_forget_group(bus, "a", NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_forget_group(bus, "nobody", NULL), WEIR_OK);
    weir_bus_state_close(&bus);
    bus = open_state();
    assert_groups(bus, rest, 5);
    weir_group_row *rows = load_rows(bus, "a", 0);
    weir_group_rows_free(&rows, 0);
    rows = load_rows(bus, "a\001", 3);
    weir_group_rows_free(&rows, 3);
    weir_shard_table table;
    assert_int_equal(weir_bus_state_load(bus, &table, NULL), WEIR_OK);
    assert_int_equal(table.row_count, 2);
    weir_shard_table_fini(&table);
    weir_bus_state_close(&bus);
}

static void a_name_of_a_bad_size_is_refused(void **state)
{
    (void)state;
    char name[502] = {0};
    weir_group_row row = {.shard = 1}, *rows;
    weir_report report = {0};
    size_t count;
    weir_bus_state *bus = open_state();
    assert_int_equal(weir_bus_state_store_group(bus, "", &row, 1, NULL), WEIR_EINVAL);
    memset(name, 'x', 501);
    assert_int_equal(weir_bus_state_store_group(bus, name, &row, 1, &report),
                     WEIR_EINVAL);
    assert_non_null(strstr(report.text, "1 to 500 bytes"));
    assert_int_equal(weir_bus_state_load_group(bus, name, &rows, &count, NULL),
                     WEIR_EINVAL);
    assert_null(rows);
    assert_int_equal(weir_bus_state_forget_group(bus, name, NULL), WEIR_EINVAL);
    name[500] = 0;
    assert_int_equal(weir_bus_state_store_group(bus, name, &row, 1, NULL), WEIR_OK);
    const char *const wanted = name;
    assert_groups(bus, &wanted, 1);
    weir_bus_state_close(&bus);
}

/*  Far more than the first map holds.                                              */
static void the_map_grows(void **state)
{
    (void)state;
    enum { groups = 300, failures = 1000 };
    struct stat info;
    char name[32];
    weir_bus_state *bus = open_state();
    for (unsigned i = 0; i < groups; i++) {
        snprintf(name, sizeof name, "group %03u", i);
        store_row(bus, name, i, i, failures);
    }
    assert_int_equal(stat(groups_path, &info), 0);
    assert_true(info.st_size > 4 << 20);
    weir_bus_state_close(&bus);
    bus = open_state();
    for (unsigned i = 0; i < groups; i++) {
        snprintf(name, sizeof name, "group %03u", i);
        weir_group_row *rows = load_rows(bus, name, 1);
        assert_row(&rows[0], i, i, failures);
        weir_group_rows_free(&rows, 1);
    }
    store_row(bus, "one more", 1, 1, 100000);
    weir_bus_state_close(&bus);
}

/* --- Damage ------------------------------------------------------------------------ */

static void make_whole(void)
{
    weir_bus_state *bus = open_state();
    store_table(bus, 4, 1);
    for (uint32_t shard = 0; shard < 4; shard++)
        store_row(bus, "group", shard, 3, 500);
    weir_bus_state_close(&bus);
}

static void a_table_that_is_no_table_is_refused(void **state)
{
    (void)state;
    char *whole;
    make_whole();
    size_t size = read_all(groups_path, &whole);
    for (size_t cut = 0; cut < size; cut += cut < 8192 ? 500 : 4096) {
        write_all(groups_path, whole, cut);
        assert_refused(WEIR_EMALFORMED, groups_path, "damaged");
    }
    memset(whole, 'x', size);
    write_all(groups_path, whole, size);
    assert_refused(WEIR_EMALFORMED, groups_path, "no state file of a Weir bus");
    unlink(groups_path);
    assert_refused(WEIR_EMALFORMED, groups_path, "missing");
    assert_int_equal(mkdir(groups_path, 0700), 0);
    assert_refused(WEIR_EMALFORMED, groups_path, "no state file of a Weir bus");
    rmdir(groups_path);
    free(whole);
}

static void another_bus_or_a_lost_identity_is_refused(void **state)
{
    (void)state;
    make_whole();
    char *whole;
    size_t size = read_all(groups_path, &whole);
    unlink(identity_path);
    assert_refused(WEIR_EMALFORMED, identity_path, "bad_identity: it is missing");
    assert_int_equal(access(identity_path, F_OK), -1);
    count_files(true);
    make_whole();
    write_all(groups_path, whole, size);
    assert_refused(WEIR_EMALFORMED, identity_path, "bad_identity: it is another bus's");
    free(whole);
}

static int put_version_2(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = {.mv_size = 4, .mv_data = "weir"};
    weir_buffer head = {0};
    weir_buffer_put(&head, "WEIRBUSG\0\0\0\2........", 20);
    (void)arg;
    int rc = weir_bus_db_put(txn, table, &key, &head);
    weir_buffer_fini(&head);
    return rc;
}

static void another_version_is_refused(void **state)
{
    (void)state;
    weir_bus_db *db;
    make_whole();
    assert_int_equal(weir_bus_db_open(&db, groups_path, false, NULL), WEIR_OK);
    assert_int_equal(weir_bus_db_change(db, put_version_2, NULL, NULL), WEIR_OK);
    weir_bus_db_close(&db);
    assert_refused(WEIR_EMALFORMED, groups_path, "another version of Weir");
}

/*  0: all was as it was stored; 1: refused; 2: something else was read.            */
static int use_all(void)
{
    weir_bus_state *bus;
    weir_shard_table table;
    weir_group_row *rows;
    weir_report report = {0};
    size_t count;
    if (weir_bus_state_open(&bus, folder, vnodes, &report)) return report.text[0] ? 1 : 2;
    if (weir_bus_state_load(bus, &table, &report)) return report.text[0] ? 1 : 2;
    if (weir_bus_state_load_group(bus, "group", &rows, &count, &report))
        return report.text[0] ? 1 : 2;
    if (table.row_count != 4 || count != 4) return 2;
    for (uint32_t i = 0; i < 4; i++)
        if (rows[i].shed != 9 || rows[i].failed_count != 500 ||
            rows[i].failed[499].failures != 500)
            return 2;
    return 0;
}

/*  A byte of a value that was changed is found by its checksum.                    */
static void a_changed_value_is_refused(void **state)
{
    (void)state;
    char *whole;
    unsigned refused = 0;
    make_whole();
    size_t size = read_all(groups_path, &whole);
    for (size_t at = 8192; at + 4 <= size; at++) {
        if (memcmp(whole + at, "\0\0\1\364", 4)) continue; // 500 failures
        whole[at + 3] ^= 1;
        write_all(groups_path, whole, size);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) _exit(use_all());
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        refused += WEXITSTATUS(status) == 1;
        whole[at + 3] ^= 1;
    }
    assert_true(refused >= 4);
    free(whole);
}

/* --- Several at once --------------------------------------------------------------- */

enum { callers = 6, changes = 30 };

typedef struct {
    weir_bus_state *bus;
    unsigned number;
} caller;

static void *call(void *arg)
{
    caller *self = arg;
    char name[16];
    snprintf(name, sizeof name, "g%u", self->number);
    for (unsigned i = 1; i <= changes; i++) {
        weir_group_row row = {.shard = i % 4, .shed = i}, *rows;
        size_t count;
        weir_shard_table table;
        weir_bus_state_raise(self->bus, weir_bus_state_epoch(self->bus), NULL);
        if (weir_bus_state_store_group(self->bus, name, &row, 1, NULL)) return "store";
        if (weir_bus_state_load_group(self->bus, name, &rows, &count, NULL))
            return "load";
        bool there = count == (i < 4 ? i : 4);
        for (size_t j = 0; j < count; j++)
            there = there && (rows[j].shard != i % 4 || rows[j].shed == i);
        weir_group_rows_free(&rows, count);
        if (!there) return "another row";
        if (weir_bus_state_load(self->bus, &table, NULL)) return "table";
        weir_shard_table_fini(&table);
    }
    return NULL;
}

static void several_threads_may_call(void **state)
{
    (void)state;
    pthread_t threads[callers];
    caller args[callers];
    weir_bus_state *bus = open_state();
    store_table(bus, 3, 0);
    for (unsigned i = 0; i < callers; i++) {
        args[i] = (caller){bus, i};
        assert_int_equal(pthread_create(&threads[i], NULL, call, &args[i]), 0);
    }
    for (unsigned i = 0; i < callers; i++) {
        void *fault;
        pthread_join(threads[i], &fault);
        if (fault) fail_msg("thread %u: %s", i, (char *)fault);
    }
    static const char *const names[] = {"g0", "g1", "g2", "g3", "g4", "g5"};
    assert_groups(bus, names, callers);
    assert_true(weir_bus_state_epoch(bus) > changes);
    weir_bus_state_close(&bus);
}

/*  Another process looks: 0 when it sees this many groups, before and after more.  */
static int look_on(int in, int out)
{
    weir_bus_state *look;
    char **names, byte;
    size_t count;
    if (weir_bus_state_open_readonly(&look, folder, NULL)) return 1;
    if (weir_bus_state_groups(look, &names, &count, NULL) || count != 1) return 2;
    weir_group_names_free(&names, count);
    if (write(out, "1", 1) != 1 || read(in, &byte, 1) != 1) return 3;
    if (weir_bus_state_groups(look, &names, &count, NULL) || count != 101) return 4;
    weir_group_names_free(&names, count);
    int wrong = weir_bus_state_epoch(look) != 1 ? 5 : 0;
    weir_bus_state_close(&look);
    return wrong;
}

static void another_process_may_look_while_the_map_grows(void **state)
{
    (void)state;
    int to[2], from[2], status;
    char name[16], byte;
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(to[1]);
        if (read(to[0], &byte, 1) != 1) _exit(6);
        _exit(look_on(to[0], from[1]));
    }
    close(from[1]);
    weir_bus_state *bus = open_state();
    store_row(bus, "first", 1, 1, 1);
    assert_int_equal(write(to[1], "1", 1), 1);
    assert_int_equal(read(from[0], &byte, 1), 1);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "more %d", i);
        store_row(bus, name, 1, 1, 1000);
    }
    assert_int_equal(write(to[1], "2", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    weir_bus_state_close(&bus);
    close(to[0]);
    close(to[1]);
    close(from[0]);
}

static void what_is_not_there_cannot_be_looked_at(void **state)
{
    (void)state;
    weir_bus_state *look;
    weir_report report = {0};
    assert_int_equal(weir_bus_state_open_readonly(&look, folder, &report),
                     WEIR_ENOTFOUND);
    assert_null(look);
    assert_string_equal(report.where, identity_path);
    assert_int_equal(access(folder, F_OK), -1);
    make_whole();
    assert_int_equal(weir_bus_state_open_readonly(&look, folder, NULL), WEIR_OK);
    weir_shard_table table;
    assert_int_equal(weir_bus_state_load(look, &table, NULL), WEIR_OK);
    assert_int_equal(table.row_count, 4);
    assert_int_equal(table.vnodes, vnodes);
    weir_shard_table_fini(&table);
    weir_bus_state_close(&look);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_start_has_the_next_epoch),
        TEST(without_a_path_each_start_is_another_bus),
        TEST(without_a_path_nothing_is_kept),
        TEST(the_epoch_rises_above_another),
        TEST(a_damaged_identity_is_refused_and_left_as_it_is),
        TEST(a_second_one_is_refused),
        TEST(a_folder_that_cannot_be_made_is_told),
        TEST(a_kill_leaves_a_valid_identity),
        TEST(a_first_start_goes_on_where_one_was_killed),
        TEST(a_table_that_was_being_made_is_made_again),
        TEST(the_shard_table_comes_back),
        TEST(other_vnodes_are_refused_once_there_is_a_map),
        TEST(rows_of_groups_come_back),
        TEST(groups_are_kept_apart_and_forgotten),
        TEST(a_name_of_a_bad_size_is_refused),
        TEST(the_map_grows),
        TEST(a_table_that_is_no_table_is_refused),
        TEST(another_bus_or_a_lost_identity_is_refused),
        TEST(another_version_is_refused),
        TEST(a_changed_value_is_refused),
        TEST(several_threads_may_call),
        TEST(another_process_may_look_while_the_map_grows),
        TEST(what_is_not_there_cannot_be_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
