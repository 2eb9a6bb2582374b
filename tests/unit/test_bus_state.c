#include "tests/unit/help_state.h"
#include <pthread.h>

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

static void the_fences_come_back(void **state)
{
    (void)state;
    const weir_fence fences[] = {{.from = 1, .last = {7, 8}, .to = 2, .first = {9, 10}},
                                 {.from = UINT32_MAX, .last = {11, 0}, .to = 0}};
    weir_fence *list;
    size_t count;
    weir_bus_state *bus = open_state();
    assert_int_equal(weir_bus_state_load_fences(bus, &list, &count, NULL), WEIR_OK);
    assert_int_equal(count, 0);
    free(list);
    assert_int_equal(weir_bus_state_store_fences(bus, fences, 2, NULL), WEIR_OK);
    weir_bus_state_close(&bus);
    bus = open_state();
    assert_int_equal(weir_bus_state_load_fences(bus, &list, &count, NULL), WEIR_OK);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++) {
        assert_true(list[i].from == fences[i].from && list[i].to == fences[i].to);
        assert_memory_equal(&list[i].last, &fences[i].last, sizeof list[i].last);
        assert_memory_equal(&list[i].first, &fences[i].first, sizeof list[i].first);
    }
    free(list);
    assert_int_equal(weir_bus_state_store_fences(bus, NULL, 0, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_load_fences(bus, &list, &count, NULL), WEIR_OK);
    assert_int_equal(count, 0);
    free(list);
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

/* --- The kind of the store --------------------------------------------------------- */

static void a_state_belongs_to_one_kind_of_store(void **state)
{
    (void)state;
    weir_report report = {0};
    weir_bus_state *bus = open_state();
    assert_int_equal(weir_bus_state_claim(bus, "redis", &report), WEIR_OK);
    weir_bus_state_close(&bus);
    bus = open_state();
    assert_int_equal(weir_bus_state_claim(bus, "redis", &report), WEIR_OK);
    assert_int_equal(weir_bus_state_claim(bus, "jetstream", &report), WEIR_EINVAL);
    assert_non_null(strstr(report.text, "in a redis store"));
    weir_bus_state_close(&bus);
}

static void a_state_in_the_folder_of_a_disk_store_is_that_of_one(void **state)
{
    (void)state;
    char path[256];
    weir_report report = {0};
    weir_bus_state *bus = open_state();
    snprintf(path, sizeof path, "%s/CURRENT", folder);
    fclose(fopen(path, "w"));
    assert_int_equal(weir_bus_state_claim(bus, "redis", &report), WEIR_EINVAL);
    assert_non_null(strstr(report.text, "in a disk store"));
    assert_int_equal(weir_bus_state_claim(bus, "disk", &report), WEIR_OK);
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
    memset(whole + 40, 0, 4); // the page size, by which LMDB divides
    memset(whole + 4096 + 40, 0, 4);
    write_all(groups_path, whole, size);
    assert_refused(WEIR_EMALFORMED, groups_path, "damaged");
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

static int put_version_3(MDB_txn *txn, MDB_dbi table, void *arg)
{
    MDB_val key = {.mv_size = 4, .mv_data = "weir"};
    weir_buffer head = {0};
    weir_buffer_put(&head, "WEIRBUSG\0\0\0\3................", 28);
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
    assert_int_equal(weir_bus_db_change(db, put_version_3, NULL, NULL), WEIR_OK);
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
    char name[32];
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
    char name[32], byte;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_shard_table_comes_back),
        TEST(the_fences_come_back),
        TEST(other_vnodes_are_refused_once_there_is_a_map),
        TEST(a_state_belongs_to_one_kind_of_store),
        TEST(a_state_in_the_folder_of_a_disk_store_is_that_of_one),
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
