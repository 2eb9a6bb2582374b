/*  A process that writes is killed at any moment: what it was told is safe is there.
    WEIR_ROUNDS and WEIR_SEED say how often and when.                               */
#include "help_disk.h"
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

enum { shards = 3, in_flight = 4, batch_records = 5 };

static unsigned seed;

static uint32_t draw(uint32_t below)
{
    return (uint32_t)rand_r(&seed) % below;
}

static int rounds(int otherwise)
{
    const char *text = getenv("WEIR_ROUNDS");
    return text ? atoi(text) : otherwise;
}

/* --- The one that is killed -------------------------------------------------------- */

typedef struct {
    uint64_t epoch;
    uint32_t shard;
    uint64_t last; // sequence
} proof;

/*  One write to the pipe a batch, so a proof is whole or not there.                 */
static void prove(weir_batch *batch, int fd)
{
    proof is = {batch->epoch, batch->shard, batch->first + batch->records - 1};
    if (batch->result != WEIR_STORE_SAFE) _exit(3);
    if (write(fd, &is, sizeof is) != sizeof is) _exit(4);
}

/*  Writes for ever, with some batches of each shard under way.                      */
static void write_for_ever(uint64_t epoch, const weir_disk_config *config, int fd)
{
    weir_batch *open[shards][in_flight] = {{NULL}};
    uint64_t next[shards] = {1, 1, 1};
    weir_store *store = open_with(config);
    for (unsigned i = 0;; i++) {
        for (uint32_t shard = 0; shard < shards; shard++) {
            weir_batch **at = &open[shard][i % in_flight];
            if (*at) {
                wait_answer(*at);
                prove(*at, fd);
                free_batch(at);
            }
            *at = make_batch(shard, epoch, next[shard], batch_records, 100u << i % 9);
            next[shard] += batch_records;
            store->class->write(store, *at);
        }
    }
}

/* --- The one that kills ------------------------------------------------------------ */

static uint64_t proven[64][shards]; // by epoch: last sequence that was told safe

/*  Gives what it proves until `count` proofs were seen, and after the kill the rest. */
static void kill_after(pid_t child, int fd, uint32_t count)
{
    proof is;
    for (uint32_t i = 0;; i++) {
        if (i == count) {
            usleep(draw(20000));
            kill(child, SIGKILL);
        }
        if (read(fd, &is, sizeof is) != sizeof is) break;
        proven[is.epoch % 64][is.shard] = is.last;
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static uint64_t found[64][shards]; // by epoch: last sequence that is there
static uint32_t looked_at;
static bool trimmed; // what former rounds stored

static void note(void *arg, uint64_t epoch, uint64_t sequence, uint64_t offset)
{
    (void)arg, (void)offset;
    if (!trimmed || found[epoch % 64][looked_at])
        assert_int_equal(sequence, found[epoch % 64][looked_at] + 1);
    found[epoch % 64][looked_at] = sequence;
}

static void all_is_there(const weir_disk_config *config)
{
    weir_store *store = open_with(config);
    memset(found, 0, sizeof found);
    for (looked_at = 0; looked_at < shards; looked_at++) {
        tally all = {.each = note};
        read_all(store, looked_at, 1000, &all);
        assert_int_equal(all.damaged, 0);
        if (!trimmed) assert_int_equal(all.trimmed, 0);
        for (int epoch = 0; epoch < 64; epoch++)
            assert_true(found[epoch][looked_at] >= proven[epoch][looked_at]);
    }
    close_store(&store);
}

static pid_t start_writer(uint64_t epoch, const weir_disk_config *config, int *fd)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        close(ends[0]);
        write_for_ever(epoch, config, ends[1]);
    }
    close(ends[1]);
    *fd = ends[0];
    return child;
}

static void what_was_told_safe_survives_a_kill(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    memset(proven, 0, sizeof proven);
    for (int round = 1; round <= rounds(10); round++) {
        int fd;
        if (round % 60 == 0) {
            assert_int_equal(remove_folder(NULL) | make_folder(NULL), 0);
            memset(proven, 0, sizeof proven);
        }
        pid_t child = start_writer((uint64_t)round, &config, &fd);
        kill_after(child, fd, 1 + draw(60));
        close(fd);
        all_is_there(&config);
    }
}

/*  The same while a file is compacted, whose data was half trimmed before.           */
static void compaction_survives_a_kill(void **state)
{
    (void)state;
    weir_disk_config config = small_config();
    trimmed = true;
    config.compact_at = 0.3;
    weir_disk_config trims = config;
    trims.keep_records = 1;
    trims.compact_at = 0.99;
    for (int round = 1; round <= rounds(5); round++) {
        int fd;
        weir_store *store = open_with(&trims);
        memset(proven, 0, sizeof proven);
        for (uint64_t i = 0; i < 20; i++)
            put(store, 9, (uint64_t)round, 1 + i, 1, 1 << 20);
        put(store, 9, (uint64_t)round, 21, 1, 1);
        close_store(&store);
        pid_t child = start_writer((uint64_t)round, &config, &fd);
        kill_after(child, fd, 1 + draw(12));
        close(fd);
        all_is_there(&config);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_told_safe_survives_a_kill),
        TEST(compaction_survives_a_kill),
    };
    const char *text = getenv("WEIR_SEED");
    seed = text ? (unsigned)strtoul(text, NULL, 10) : 1;
    printf("WEIR_SEED=%u\n", seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
