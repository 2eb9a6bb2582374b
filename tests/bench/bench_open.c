/*  How long a disk store of many small blocks takes to open, and a small one of as many
    shards; each block holds one record of 100 bytes.

    bench_open [FOLDER [BLOCKS]]      prints milliseconds of both, and their ratio      */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "actors/disk_fill.h"
#include "actors/store_disk.h"
#include "runtime/block.h"

enum { shards = 8, few = 8 * 1000, record_bytes = 100, rounds = 5 };

static const char *folder = "/tmp";
static long blocks = 10000000;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_up(const char *what)
{
    fprintf(stderr, "bench_open: %s\n", what);
    exit(1);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static weir_block *make_block(void)
{
    weir_builder builder = {.target = 1};
    uint8_t payload[record_bytes];
    memset(payload, 'x', sizeof payload);
    weir_builder_add_payload(&builder, WEIR_TEXT, payload, sizeof payload,
                             &(weir_run){.records = 0});
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static void put(weir_disk_fill *fill, weir_disk_sum *sum, const weir_block *block,
                uint32_t shard, uint64_t offset)
{
    uint8_t value[1024];
    size_t size = weir_block_size(block);
    weir_disk_head head = {.count = 1,
                           .first = offset,
                           .epoch = 1,
                           .sequence = offset,
                           .arrived_ms = 1,
                           .body_bytes = size};
    weir_disk_head_begin(&head, sum, value);
    memcpy(value + WEIR_DISK_HEAD_SIZE, weir_block_body(block), size);
    weir_disk_head_body(sum, weir_block_body(block), size);
    weir_disk_head_end(sum, value);
    if (weir_disk_fill_block(fill, (weir_disk_key){shard, offset}, value,
                             WEIR_DISK_HEAD_SIZE + size, NULL))
        give_up("cannot write");
}

static void make_store(const char *path, long count)
{
    weir_disk_fill *fill;
    weir_disk_sum *sum = weir_disk_sum_new();
    weir_block *block = make_block();
    weir_report report = {0};
    if (weir_disk_fill_open(&fill, path, (uint64_t)count * 400, &report))
        give_up(report.text);
    for (uint32_t shard = 0; shard < shards; shard++)
        for (long i = 1; i <= count / shards; i++)
            put(fill, sum, block, shard, (uint64_t)i);
    if (weir_disk_fill_close(fill, &report)) give_up(report.text);
    weir_disk_fill_destroy(&fill);
    weir_block_destroy(&block);
    weir_disk_sum_destroy(&sum);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/*  Median milliseconds. The first one is not counted: it may write what an older store
    lacks.                                                                          */
static double open_store(const char *path)
{
    double times[rounds];
    for (int i = -1; i < rounds; i++) {
        weir_disk_config config = weir_disk_defaults;
        weir_report report = {0};
        weir_store *store;
        config.path = path;
        double start = now();
        if (weir_disk_open(&store, &config, &report)) give_up(report.text);
        times[i < 0 ? 0 : i] = (now() - start) * 1e3;
        store->class->close(&store);
    }
    qsort(times, rounds, sizeof *times, by_size);
    return times[rounds / 2];
}

int main(int argc, char **argv)
{
    char large[4096], small[4096];
    if (argc > 1) folder = argv[1];
    if (argc > 2) blocks = atol(argv[2]);
    snprintf(large, sizeof large, "%s/bench_open.large", folder);
    snprintf(small, sizeof small, "%s/bench_open.small", folder);
    nftw(large, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    nftw(small, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    make_store(large, blocks);
    make_store(small, few);
    double many = open_store(large), less = open_store(small);
    printf("%.2f ms (%ld blocks), %.2f ms (%d blocks): %.2f\n", many, blocks, less, few,
           many / less);
    printf("%.2f\n", many / less);
    if (!getenv("WEIR_BENCH_KEEP")) nftw(large, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    nftw(small, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return 0;
}
