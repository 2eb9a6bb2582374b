/*  A bus of four shards under full load from one thread: the rate at which three of them
    store while the store of the fourth fails, and its credit lasts, against their rate
    when all is well. In turn, in one process.

    bench_failing [RECORDS]     of one run; prints each pair and the median ratio of rates
 */
#include "actors/bus.h"
#include "actors/store.h"
#include "runtime/block.h"
#include "runtime/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 100
#define KEYS 1000
#define SHARDS 4
#define PAIRS 31

static long records = 300000; // a quarter of them is far less than a shard has credit for

/* --- A store that keeps nothing ---------------------------------------------------- */

static weir_store store;
static atomic_bool failing;             // of shard 0
static _Atomic uint64_t stored[SHARDS]; // records

static void store_write(weir_store *self, weir_batch *batch)
{
    static _Thread_local bool broken[SHARDS]; // a shard writes from its own thread
    (void)self;
    if (batch->again) broken[batch->shard] = false;
    broken[batch->shard] |= batch->shard == 0 && failing;
    batch->result = broken[batch->shard] ? WEIR_STORE_RETRY : WEIR_STORE_SAFE;
    if (batch->result == WEIR_STORE_SAFE) stored[batch->shard] += batch->records;
    weir_batch *answer = weir_batch_dup(batch);
    answer->done(answer);
    weir_batch_destroy(&answer);
}

static void store_read(weir_store *self, weir_read *read)
{
    (void)self;
    read->done(read);
}

static weir_err store_shards(weir_store *self, weir_store_shard **list, size_t *count,
                             weir_report *report)
{
    (void)self, (void)report;
    *count = 0;
    *list = NULL;
    return WEIR_OK;
}

static weir_err store_fences(weir_store *self, weir_fence **list, size_t *count,
                             weir_report *report)
{
    (void)self, (void)report;
    *count = 0;
    *list = NULL;
    return WEIR_OK;
}

static void store_watch(weir_store *self, int fd)
{
    (void)self, (void)fd;
}

static void store_commit(weir_store *self, const char *group, uint32_t shard,
                         uint64_t offset)
{
    (void)self, (void)group, (void)shard, (void)offset;
}

static void store_forget(weir_store *self, const char *group)
{
    (void)self, (void)group;
}

static weir_err store_flush(weir_store *self, int64_t timeout_us, weir_report *report)
{
    (void)self, (void)timeout_us, (void)report;
    return WEIR_OK;
}

static void store_close(weir_store **self_p)
{
    *self_p = NULL;
}

static const weir_store_class class = {
    .name = "none",
    .write = store_write,
    .read = store_read,
    .shards = store_shards,
    .fences = store_fences,
    .watch = store_watch,
    .unwatch = store_watch,
    .commit = store_commit,
    .forget = store_forget,
    .flush = store_flush,
    .close = store_close,
};

/* --- Runs -------------------------------------------------------------------------- */

static weir_bus *bus;

static void append(long number)
{
    char key[16], payload[SIZE];
    int size = snprintf(key, sizeof key, "key-%ld", number % KEYS);
    memset(payload, 'x', SIZE);
    weir_record record = {
        .format = WEIR_JSON,
        .key = {.type = WEIR_STR, .data = (const uint8_t *)key, .size = (size_t)size},
        .data = (const uint8_t *)payload,
        .size = SIZE,
    };
    if (weir_bus_append(bus, &record, NULL)) abort();
}

static uint64_t stored_in_others(void)
{
    uint64_t sum = 0;
    for (int i = 1; i < SHARDS; i++)
        sum += stored[i];
    return sum;
}

/*  Records a second that the three others store. Ends before the flush, which would wait
    for the first shard, too.                                                       */
static double rate(bool fails)
{
    uint64_t before = stored_in_others();
    failing = fails;
    int64_t begun_us = weir_clock_now_us();
    for (long i = 0; i < records; i++)
        append(i);
    double took_us = (double)(weir_clock_now_us() - begun_us);
    double count = (double)(stored_in_others() - before);
    failing = false;
    if (weir_bus_flush(bus, -1)) abort();
    return count * 1e6 / took_us;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const char *const options[] = {"shards",    "4",    "retry.first", "1ms",
                                          "retry.max", "20ms", NULL};
    double ratios[PAIRS];
    weir_bus_config config = weir_bus_defaults;
    weir_report report = {0};
    if (argc > 1) records = atol(argv[1]);
    store.class = &class;
    config.store = &store;
    config.options = options;
    config.window_bytes =
        1 << 30; // tickets are acknowledged in order: it spans all shards
    if (weir_bus_new(&bus, &config, &report)) {
        fprintf(stderr, "%s: %s\n", report.where, report.text);
        return 1;
    }
    rate(false);
    for (int i = 0; i < PAIRS; i++) {
        double well = rate(false), ours = rate(true);
        ratios[i] = ours / well;
        printf("%.0f records/s of three shards while the fourth fails, %.0f before: "
               "%.2f\n",
               ours, well, ratios[i]);
        fflush(stdout);
    }
    weir_bus_destroy(&bus, 1000);
    qsort(ratios, PAIRS, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[PAIRS / 2]);
    return 0;
}
