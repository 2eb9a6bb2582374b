#include "tests/unit/help_state.h"
#include <endian.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <time.h>
#include <xxhash.h>

enum { identity_size = 32, cannot_trace = 77 };

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

/*  Opens and closes until it is killed, and tells each epoch before it uses it. It says
    first that it runs: its kill is timed from then on.                             */
static void open_forever(int out)
{
    if (write(out, "", 1) != 1) _exit(2);
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

/*  A child that opens; what it tells is read from *in. It runs when this returns.  */
static pid_t start_child(int *in)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) open_forever(fds[1]);
    close(fds[1]);
    *in = fds[0];
    assert_int_equal(read(*in, &(char){0}, 1), 1);
    return child;
}

static void end_child(pid_t child, int in)
{
    int status;
    close(in);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

/*  Lets a child open, kills it after so long, and checks what it told.             */
static void kill_one(long after_ns, uint64_t *nonce, uint64_t *last)
{
    int in;
    uint64_t told[2];
    pid_t child = start_child(&in);
    nanosleep(&(struct timespec){0, after_ns}, NULL);
    kill(child, SIGKILL);
    while (read(in, told, sizeof told) == sizeof told) {
        if (*nonce == 0) *nonce = told[0];
        assert_true(told[0] == *nonce);
        assert_true(told[1] > *last);
        *last = told[1];
    }
    end_child(child, in);
}

static long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

/*  How long a child's first start takes here: kills come within twice that.        */
static long measure_start(void)
{
    int in;
    uint64_t told[2];
    pid_t child = start_child(&in);
    long begun = now_ns();
    assert_int_equal(read(in, told, sizeof told), sizeof told);
    long took = now_ns() - begun;
    kill(child, SIGKILL);
    end_child(child, in);
    return took;
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

/*  Opens in a child that stops at each system call, and kills it at stop number `stops`.
    False: it got to the end before.                                                */
static bool kill_at(unsigned stops)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        weir_bus_state *bus;
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(cannot_trace);
        raise(SIGSTOP);
        _exit(weir_bus_state_open(&bus, folder, vnodes, NULL) ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    for (unsigned i = 0; WIFSTOPPED(status) && i < stops; i++) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, child, 0, 0), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    if (!WIFSTOPPED(status)) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == cannot_trace) skip();
        assert_int_equal(status, 0);
        return false;
    }
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    return true;
}

/*  Kills a start before and after each of its system calls: what it leaves is whole, and
    the next start goes on from there.                                              */
static void kill_at_each_call(bool from_nothing)
{
    uint64_t nonce = 0, epoch = 0, found, next;
    bool more = true;
    if (!from_nothing) read_identity(&nonce, &epoch);
    for (unsigned stops = 1; more; stops++) {
        if (from_nothing) {
            count_files(true);
            nonce = epoch = 0;
        }
        more = kill_at(stops);
        bool there = access(identity_path, F_OK) == 0;
        if (there) {
            read_identity(&found, &next);
            assert_true(nonce == 0 || found == nonce);
            assert_true(next == epoch || next == epoch + 1);
            nonce = found;
            epoch = next;
        }
        assert_true(there || (from_nothing && more));
        weir_bus_state *bus = open_state();
        assert_true(nonce == 0 || weir_bus_state_nonce(bus) == nonce);
        assert_true(weir_bus_state_epoch(bus) == ++epoch);
        nonce = weir_bus_state_nonce(bus);
        assert_int_equal(count_files(false), 4); // nothing else is left behind
        weir_bus_state_close(&bus);
        if (!more) print_message("killed at %u calls and returns\n", stops - 1);
    }
}

static void a_kill_at_any_system_call_leaves_a_valid_identity(void **state)
{
    (void)state;
    kill_at_each_call(true);
    kill_at_each_call(false);
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
        TEST(a_kill_at_any_system_call_leaves_a_valid_identity),
        TEST(a_first_start_goes_on_where_one_was_killed),
        TEST(a_table_that_was_being_made_is_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
