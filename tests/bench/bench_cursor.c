/*  How long it takes from a random cursor to its first record, through the public poller:
    of one shard, with the file's pages dropped from the page cache before; of all shards,
    likewise; and of all when the same places are read again. A shard gives at least one
    batch, which is checked as a whole: batches of 1 MB of records of 1 KB, in 2 shards.

    bench_cursor [FOLDER [GB [CURSORS]]]    prints p50 and p99 in ms of all three, then
    the p99 of the first. The store is made once and removed, unless WEIR_BENCH_KEEP is
   set
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "actors/disk_fill.h"
#include "actors/poll.h"
#include "actors/store_disk.h"

enum { shards = 2, record_bytes = 1000, batch_bytes = 1 << 20, cursors_most = 10000 };

static const uint64_t nonce = 77;
static const char *folder = "/tmp";
static double gigabytes = 10;
static int cursors = 400;
static char store_path[4096], data_path[4200];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_up(const char *what)
{
    fprintf(stderr, "bench_cursor: %s\n", what);
    exit(1);
}

/* --- The store --------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void remove_store(void)
{
    nftw(store_path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static weir_block *make_block(void)
{
    weir_builder builder = {.target = batch_bytes};
    uint8_t payload[record_bytes];
    memset(payload, 'x', sizeof payload);
    while (!weir_builder_full(&builder))
        weir_builder_add_payload(&builder, WEIR_TEXT, payload, sizeof payload,
                                 &(weir_run){.records = 0});
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static void fill_shard(weir_disk_fill *fill, const weir_block *block, uint32_t shard,
                       uint64_t batches)
{
    weir_disk_sum *sum = weir_disk_sum_new();
    size_t size = weir_block_size(block);
    uint32_t records = weir_block_records(block);
    uint8_t *value = malloc(WEIR_DISK_HEAD_SIZE + size);
    for (uint64_t i = 0; i < batches; i++) {
        weir_disk_head head = {.count = records,
                               .first = i * records + 1,
                               .epoch = 1,
                               .sequence = i * records + 1,
                               .arrived_ms = 1,
                               .body_bytes = size};
        weir_disk_head_begin(&head, sum, value);
        memcpy(value + WEIR_DISK_HEAD_SIZE, weir_block_body(block), size);
        weir_disk_head_body(sum, weir_block_body(block), size);
        weir_disk_head_end(sum, value);
        if (weir_disk_fill_block(fill, (weir_disk_key){shard, (i + 1) * records}, value,
                                 WEIR_DISK_HEAD_SIZE + size, NULL))
            give_up("cannot write the store");
    }
    free(value);
    weir_disk_sum_destroy(&sum);
}

static void make_store(void)
{
    weir_disk_fill *fill;
    weir_report report = {0};
    struct stat st;
    uint64_t bytes = (uint64_t)(gigabytes * (1 << 30));
    if (stat(data_path, &st) == 0 && (uint64_t)st.st_size >= bytes) return;
    remove_store();
    weir_block *block = make_block();
    if (weir_disk_fill_open(&fill, store_path, bytes, &report)) give_up(report.text);
    for (uint32_t shard = 0; shard < shards; shard++)
        fill_shard(fill, block, shard, bytes / shards / weir_block_size(block));
    if (weir_disk_fill_close(fill, &report)) give_up(report.text);
    weir_disk_fill_destroy(&fill);
    weir_block_destroy(&block);
}

static void drop_cache(void)
{
    int fd = open(data_path, O_RDONLY);
    if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
        give_up("cannot drop its pages");
    close(fd);
}

/* --- Cursors ----------------------------------------------------------------------- */

/*  A place in every shard, as one who reads them all has it.                        */
static weir_cursor draw_cursor(const weir_store_shard *list, size_t count, unsigned *seed)
{
    weir_cursor cursor = {.nonce = nonce};
    for (size_t i = 0; i < count; i++) {
        uint64_t place = (uint64_t)rand_r(seed) << 20 ^ (uint64_t)rand_r(seed);
        weir_cursor_set(&cursor, list[i].shard,
                        (weir_position){place % (list[i].last - 1), 0});
    }
    return cursor;
}

/*  Of one shard, or (NULL) of all.                                                  */
static double poll_first(weir_poller *poller, weir_cursor cursor, const uint32_t *shard)
{
    weir_page page;
    weir_report report = {0};
    weir_poll_request request = weir_poll_defaults;
    request.cursor = cursor;
    request.limit = 1;
    request.shards = shard;
    request.shard_count = shard ? 1 : 0;
    double start = now();
    if (weir_poller_poll(poller, &request, &page, &report)) give_up(report.text);
    double ms = (now() - start) * 1e3;
    if (page.count != 1 || page.slow_count || page.failed_count)
        give_up("a poll found no record");
    weir_page_fini(&page);
    return ms;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct {
    double p50, p99;
} quantiles;

static quantiles poll_often(weir_store *store, weir_poller *poller, bool of_one,
                            unsigned seed)
{
    static double times[cursors_most];
    weir_store_shard *list;
    size_t count;
    if (store->class->shards(store, &list, &count, NULL)) give_up("no shards");
    for (int i = 0; i < cursors; i++) {
        weir_cursor cursor = draw_cursor(list, count, &seed);
        uint32_t shard = (uint32_t)i % shards;
        times[i] = poll_first(poller, cursor, of_one ? &shard : NULL);
        weir_cursor_fini(&cursor);
    }
    free(list);
    qsort(times, (size_t)cursors, sizeof *times, by_size);
    return (quantiles){times[cursors / 2], times[cursors - 1 - cursors / 100]};
}

int main(int argc, char **argv)
{
    weir_disk_config config = weir_disk_defaults;
    weir_report report = {0};
    weir_store *store;
    if (argc > 1) folder = argv[1];
    if (argc > 2) gigabytes = atof(argv[2]);
    if (argc > 3) cursors = atoi(argv[3]);
    if (cursors < 1 || cursors > cursors_most) give_up("1 to 10000 cursors");
    snprintf(store_path, sizeof store_path, "%s/bench_cursor.store", folder);
    snprintf(data_path, sizeof data_path, "%s/0000001/data.mdb", store_path);
    make_store();
    config.path = store_path;
    if (weir_disk_open(&store, &config, &report)) give_up(report.text);
    weir_poller *poller = weir_poller_new(store, nonce);
    if (!poller) give_up("no poller");
    drop_cache();
    quantiles one = poll_often(store, poller, true, 1);
    drop_cache();
    quantiles all = poll_often(store, poller, false, 2);
    quantiles cached = poll_often(store, poller, false, 2);
    printf("%.0f GB, %d cursors, not cached: p50 %.2f ms, p99 %.2f ms; both shards, not "
           "cached: %.2f, %.2f ms; cached: %.2f, %.2f ms: %.2f\n",
           gigabytes, cursors, one.p50, one.p99, all.p50, all.p99, cached.p50, cached.p99,
           one.p99);
    printf("%.2f\n", one.p99);
    weir_poller_destroy(&poller);
    store->class->close(&store);
    if (!getenv("WEIR_BENCH_KEEP")) remove_store();
    return 0;
}
