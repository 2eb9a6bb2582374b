/*  What LMDB itself writes is never found damaged; what it says when it ends the process.
    WEIR_ROUNDS and WEIR_SEED say how much and what.                                  */
#include <ftw.h>
#include "help_damage.h"
#include "actors/lmdb_pages.h"
#include "actors/lmdb_use.h"

static char folder[64], data_path[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/test_lmdb_pages.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    snprintf(data_path, sizeof data_path, "%s", folder);
    if (!mkdtemp(folder)) return -1;
    snprintf(data_path, sizeof data_path, "%s/data.mdb", folder);
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- An environment ---------------------------------------------------------------- */

enum { keys = 3000, longest = 20000 };

static MDB_env *env;
static MDB_dbi values, several;

static void open_env(void)
{
    MDB_txn *txn;
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 2);
    mdb_env_set_mapsize(env, 1 << 28);
    weir_lmdb_watch(env);
    assert_int_equal(mdb_env_open(env, folder, MDB_NOSYNC, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "values", MDB_CREATE, &values), 0);
    assert_int_equal(mdb_dbi_open(txn, "several", MDB_CREATE | MDB_DUPSORT, &several), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static void pack_key(uint8_t key[12], uint32_t number)
{
    memset(key, 0, 12);
    for (int i = 0; i < 4; i++)
        key[11 - i] = (uint8_t)(number >> 8 * i);
}

static void put_value(MDB_txn *txn, uint32_t number, size_t size)
{
    static uint8_t bytes[longest];
    uint8_t key[12];
    MDB_val k = {sizeof key, key}, v = {size, bytes};
    pack_key(key, number);
    assert_int_equal(mdb_put(txn, values, &k, &v, 0), 0);
}

static void put_one_of_several(MDB_txn *txn, uint32_t number, uint32_t value)
{
    uint8_t key[12], bytes[12];
    MDB_val k = {sizeof key, key}, v = {sizeof bytes, bytes};
    pack_key(key, number);
    pack_key(bytes, value);
    int rc = mdb_put(txn, several, &k, &v, MDB_NODUPDATA);
    assert_true(rc == 0 || rc == MDB_KEYEXIST);
}

static void delete_range(MDB_txn *txn, MDB_dbi table, uint32_t first, uint32_t count)
{
    uint8_t key[12];
    MDB_val k = {sizeof key, key};
    for (uint32_t i = first; i < first + count; i++) {
        pack_key(key, i);
        int rc = mdb_del(txn, table, &k, NULL);
        assert_true(rc == 0 || rc == MDB_NOTFOUND);
    }
}

/*  Some of everything: small and large values, many of one key, ranges that go.      */
static void change_some(MDB_txn *txn)
{
    uint32_t first = draw(keys), count = 1 + draw(60);
    switch (draw(5)) {
    case 0:
        for (uint32_t i = 0; i < count; i++)
            put_value(txn, first + i, draw(100));
        break;
    case 1:
        for (uint32_t i = 0; i < count / 4; i++)
            put_value(txn, draw(keys), draw(longest));
        break;
    case 2:
        for (uint32_t i = 0; i < count * 4; i++)
            put_one_of_several(txn, first % 50, draw(400));
        break;
    case 3:
        delete_range(txn, values, first, 4 * count);
        break;
    default:
        delete_range(txn, several, first % 50, 3);
    }
}

/* --- Whole ------------------------------------------------------------------------- */

static void check_ways(MDB_txn *txn)
{
    weir_lmdb_file file;
    weir_lmdb_tree tree;
    MDB_val name = {6, "values"}, value;
    uint8_t bytes[12];
    MDB_val key = {sizeof bytes, bytes};
    assert_int_equal(mdb_get(txn, 1, &name, &value), 0);
    memcpy(&tree, value.mv_data, sizeof tree);
    weir_lmdb_borrow(&file, txn);
    for (int i = 0; i < 20; i++) {
        weir_lmdb_way way = {.branches = {0}};
        pack_key(bytes, draw(keys + 100));
        for (unsigned beside = 0; beside < 3; beside++)
            if (!weir_lmdb_check_way(&file, &tree, &key, beside, &way))
                fail_msg("%s", file.why);
    }
    weir_lmdb_close(&file);
}

static void check_file(void)
{
    weir_lmdb_file file;
    weir_lmdb_tree tree;
    if (weir_lmdb_open(&file, data_path)) fail_msg("%s", file.why);
    if (!weir_lmdb_check_tree(&file, &file.free, WEIR_LMDB_FREE) ||
        weir_lmdb_is_cut(&file) ||
        !weir_lmdb_check_tree(&file, &file.names, WEIR_LMDB_TREES) ||
        !weir_lmdb_find_tree(&file, "values", 0, &tree) ||
        !weir_lmdb_check_tree(&file, &tree, WEIR_LMDB_VALUES) ||
        !weir_lmdb_find_tree(&file, "several", MDB_DUPSORT, &tree) ||
        !weir_lmdb_check_tree(&file, &tree, WEIR_LMDB_SEVERAL))
        fail_msg("%s", file.why);
    for (size_t i = 2; i < file.pages; i++)
        if (!(file.seen[i / 8] & 1u << i % 8)) fail_msg("page %zu is nowhere", i);
    weir_lmdb_close(&file);
}

static void what_lmdb_writes_is_whole(void **state)
{
    (void)state;
    const char *text = getenv("WEIR_ROUNDS");
    open_env();
    for (int i = text ? atoi(text) : 300; i > 0; i--) {
        MDB_txn *txn;
        assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
        for (uint32_t changes = 1 + draw(4); changes; changes--)
            change_some(txn);
        if (draw(10))
            assert_int_equal(mdb_txn_commit(txn), 0);
        else
            mdb_txn_abort(txn);
        check_file();
        assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
        check_ways(txn);
        mdb_txn_abort(txn);
    }
    mdb_env_close(env);
}

/* --- The end of the process -------------------------------------------------------- */

static void fill_env(void)
{
    MDB_txn *txn;
    open_env();
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    for (uint32_t i = 0; i < 2000; i++)
        put_value(txn, i, 20);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/*  The flags of all leaves of values but the first: they have many nodes.            */
static void damage_leaves(void)
{
    enum { leaf = 2, many = 16 + 2 * 20 };
    uint16_t head[2], none = 0; // flags, lower bound
    bool first = true;
    int fd = open(data_path, O_RDWR);
    for (off_t at = 2 * page_bytes + 10; pread(fd, head, 4, at) == 4; at += page_bytes) {
        if (head[0] != leaf || head[1] < many) continue;
        if (!first) assert_int_equal(pwrite(fd, &none, 2, at), 2);
        first = false;
    }
    assert_false(first);
    close(fd);
}

static verdict walk_on(void)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    mdb_env_create(&env);
    mdb_env_set_maxdbs(env, 2);
    weir_lmdb_watch(env);
    mdb_env_open(env, folder, MDB_RDONLY, 0600);
    mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    mdb_dbi_open(txn, "values", 0, &values);
    mdb_cursor_open(txn, values, &cursor);
    while (!mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
        ;
    return SILENT;
}

static void a_failed_assertion_names_the_file(void **state)
{
    (void)state;
    fill_env();
    damage_leaves();
    assert_int_equal(use_in_child(walk_on), KILLED);
    if (!strstr(reason, "failed in")) fail_msg("%s", reason);
}

static verdict crash_inside(void)
{
    weir_lmdb_tell_crashes();
    weir_lmdb_enter("/var/lib/store/0000001");
    raise(SIGBUS);
    return SILENT;
}

static verdict crash_outside(void)
{
    weir_lmdb_tell_crashes();
    weir_lmdb_enter("/var/lib/store/0000001");
    weir_lmdb_leave();
    raise(SIGSEGV);
    return SILENT;
}

static void a_crash_inside_names_the_file(void **state)
{
    (void)state;
    assert_int_equal(use_in_child(crash_inside), KILLED);
    assert_non_null(strstr(reason, "/var/lib/store/0000001: using it ended in SIGBUS"));
    assert_non_null(strstr(reason, "`weir bus verify /var/lib/store`"));
    assert_int_equal(use_in_child(crash_outside), CRASHED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_lmdb_writes_is_whole),
        TEST(a_failed_assertion_names_the_file),
        TEST(a_crash_inside_names_the_file),
    };
    read_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
