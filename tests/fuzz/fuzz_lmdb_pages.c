/*  LMDB's pages: nothing that they say leads a look at them out of its bounds, or on for
    ever. The input is a list of changes to a file that LMDB has written: place u24, byte.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "actors/lmdb_pages.h"

enum { keys = 300, of_one_key = 400, large_bytes = 9000 };

static uint8_t *whole;
static size_t whole_size;
static int fd = -1; // of the changed file
static char path[64];

static void put(MDB_txn *txn, MDB_dbi table, uint32_t number, size_t size, uint8_t fill)
{
    uint8_t key[12] = {0}, value[large_bytes];
    MDB_val k = {sizeof key, key}, v = {size, value};
    memset(value, fill, size);
    memcpy(key + 8, &number, sizeof number);
    memcpy(value, &fill, 1);
    if (mdb_put(txn, table, &k, &v, 0)) abort();
}

/*  Of each kind of tree, with several levels, large values, many values of a key, and
    free pages.                                                                     */
static void write_file(const char *name)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi values, several;
    mdb_env_create(&env);
    mdb_env_set_maxdbs(env, 2);
    if (mdb_env_open(env, name, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0600)) abort();
    for (int round = 0; round < 3; round++) {
        mdb_txn_begin(env, NULL, 0, &txn);
        mdb_dbi_open(txn, "values", MDB_CREATE, &values);
        mdb_dbi_open(txn, "several", MDB_CREATE | MDB_DUPSORT, &several);
        for (uint32_t i = 0; i < keys; i++)
            put(txn, values, i, i % 50 ? 60 : large_bytes - (size_t)round,
                (uint8_t)round);
        for (int i = 0; i < of_one_key; i++)
            put(txn, several, (uint32_t)i % 3 % 2, 100, (uint8_t)i);
        if (mdb_txn_commit(txn)) abort();
    }
    mdb_env_close(env);
}

static void begin(void)
{
    char name[] = "/tmp/fuzz_lmdb_pages.XXXXXX";
    int made = mkstemp(name);
    if (made < 0 || ftruncate(made, 0)) abort();
    unlink(name);
    write_file(name);
    close(made);
    made = open(name, O_RDONLY);
    whole_size = (size_t)lseek(made, 0, SEEK_END);
    whole = malloc(whole_size);
    if (!whole || pread(made, whole, whole_size, 0) != (ssize_t)whole_size) abort();
    close(made);
    unlink(name);
    fd = memfd_create("changed", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || ftruncate(fd, (off_t)whole_size)) abort();
}

static void count(void *arg, const MDB_val *key, const MDB_val *value)
{
    size_t *sum = arg;
    for (size_t i = 0; i < key->mv_size; i++)
        *sum += ((const uint8_t *)key->mv_data)[i];
    for (size_t i = 0; i < value->mv_size; i++)
        *sum += ((const uint8_t *)value->mv_data)[i];
}

static void look_at(weir_lmdb_file *file)
{
    weir_lmdb_tree values, several;
    uint8_t bytes[12] = {0};
    MDB_val key = {sizeof bytes, bytes};
    weir_lmdb_way way = {.branches = {0}};
    weir_lmdb_check_tree(file, &file->free, WEIR_LMDB_FREE);
    if (!weir_lmdb_check_tree(file, &file->names, WEIR_LMDB_TREES) ||
        !weir_lmdb_find_tree(file, "values", 0, &values) ||
        !weir_lmdb_find_tree(file, "several", MDB_DUPSORT, &several))
        return;
    weir_lmdb_check_tree(file, &several, WEIR_LMDB_SEVERAL);
    for (uint32_t i = 0; i < keys; i += 37) {
        memcpy(bytes + 8, &i, sizeof i);
        weir_lmdb_check_way(file, &values, &key, i % 3, &way);
    }
    weir_lmdb_check_tree(file, &values, WEIR_LMDB_VALUES);
}

static void glean(void)
{
    weir_lmdb_file file;
    size_t sum = 0;
    if (weir_lmdb_open_any(&file, path) == 0) {
        weir_lmdb_each(&file, &file.names, count, &sum);
        weir_lmdb_each(&file, &file.free, count, &sum);
    }
    weir_lmdb_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weir_lmdb_file file;
    if (fd < 0) begin();
    if (pwrite(fd, whole, whole_size, 0) != (ssize_t)whole_size) abort();
    for (; size >= 4; data += 4, size -= 4) {
        size_t at = ((size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2]) % whole_size;
        if (pwrite(fd, data + 3, 1, (off_t)at) != 1) abort();
    }
    if (weir_lmdb_open(&file, path) == 0) look_at(&file);
    weir_lmdb_close(&file);
    glean();
    return 0;
}
