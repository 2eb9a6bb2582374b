/*  Group commit of the disk store, fsync on, against write and fdatasync of chunks of the
    same size into a preallocated file: 8 MB transactions of 1 MB batches, in turn, in one
    folder of this disk.

    bench_disk [FOLDER [TRANSACTIONS]]      prints both rates, MB/s, and the ratio      */
#include <fcntl.h>
#include <ftw.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "actors/store_disk.h"

enum { batch_bytes = 1 << 20, batches = 8, record_bytes = 200, rounds = 5 };

static const char *folder = "/tmp";
static int transactions = 40;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double rate(double seconds)
{
    return transactions * (double)batches * batch_bytes / seconds / (1 << 20);
}

static void give_up(const char *what)
{
    fprintf(stderr, "bench_disk: %s\n", what);
    exit(1);
}

/* --- The limit --------------------------------------------------------------------- */

static double write_file(void)
{
    size_t size = (size_t)batches * batch_bytes;
    char path[4096], *chunk = malloc(size);
    memset(chunk, 'x', size);
    snprintf(path, sizeof path, "%s/bench_disk.file", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)size * transactions) || fsync(fd))
        give_up("cannot make a file");
    double start = now();
    for (int i = 0; i < transactions; i++)
        if (write(fd, chunk, size) != (ssize_t)size || fdatasync(fd))
            give_up("cannot write");
    double seconds = now() - start;
    close(fd);
    unlink(path);
    free(chunk);
    return rate(seconds);
}

/* --- The store --------------------------------------------------------------------- */

static sem_t room; // batches that may be written

static void stored(weir_batch *batch)
{
    if (batch->result != WEIR_STORE_SAFE) give_up(batch->text);
    sem_post(&room);
}

static weir_block *make_block(void)
{
    weir_builder builder = {.target = 64 << 10};
    uint8_t payload[record_bytes];
    memset(payload, 'x', sizeof payload);
    while (!weir_builder_full(&builder))
        weir_builder_add_payload(&builder, WEIR_TEXT, payload, sizeof payload,
                                 &(weir_run){.records = 0});
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

/*  1 MB of blocks of 64 KB, as they come over links.                                */
static weir_batch *make_batch(weir_block *block, uint64_t first)
{
    weir_batch *batch = weir_batch_new();
    batch->epoch = 1;
    batch->first = first;
    batch->done = stored;
    while (batch->bytes + weir_block_size(block) <= batch_bytes) {
        weir_piece piece = {.block = weir_block_dup(block)};
        weir_batch_add(batch, &piece);
    }
    return batch;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

/*  Two transactions' worth are under way, so that one waits while one is written.    */
static double write_store(weir_block *block)
{
    char path[4096];
    weir_disk_config config = weir_disk_defaults;
    weir_report report = {0};
    weir_store *store;
    uint64_t first = 1;
    snprintf(path, sizeof path, "%s/bench_disk.store", folder);
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    config.path = path;
    if (weir_disk_open(&store, &config, &report)) give_up(report.text);
    sem_init(&room, 0, 2 * batches);
    double start = now();
    for (int i = 0; i < transactions * batches; i++) {
        weir_batch *batch = make_batch(block, first);
        first += batch->records;
        sem_wait(&room);
        store->class->write(store, batch);
        weir_batch_destroy(&batch);
    }
    if (store->class->flush(store, -1, &report)) give_up(report.text);
    double seconds = now() - start;
    store->class->close(&store);
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return rate(seconds);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    double ratios[rounds];
    if (argc > 1) folder = argv[1];
    if (argc > 2) transactions = atoi(argv[2]);
    weir_block *block = make_block();
    for (int i = 0; i < rounds; i++) {
        double ours = write_store(block), limit = write_file();
        ratios[i] = ours / limit;
        printf("%.0f MB/s (store), %.0f MB/s (file): %.2f\n", ours, limit, ratios[i]);
        fflush(stdout);
    }
    weir_block_destroy(&block);
    qsort(ratios, rounds, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[rounds / 2]);
    return 0;
}
