/*  How long a record of a durable bus takes from its append until it is safe, at half of
    the rate that the bus takes at most, against the syncs of the same disk: pwrite of as
    many bytes as a transaction has, then fdatasync, into a file that was allocated
    before. One thread appends records of 200 bytes, evenly; another waits for the bus's
    descriptor.

    bench_ack [FOLDER [SECONDS]]    prints each round, and the median of p99 / limit,
    where limit is twice the p99 of a sync and 2 ms            */
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "actors/bus.h"
#include "actors/store_disk.h"

enum { record_bytes = 200, rounds = 5, syncs = 200, spare_ms = 2 };

/*  Two shards, as `auto` gives on two CPUs, and the shortest batches that there are.  */
static const char *const options[] = {
    "shards", "2", "batch.max_delay", "1ms", "batch.in_flight", "16", NULL};
static const int64_t linger_us = 500;

static const char *folder = "/tmp";
static double seconds = 4;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_up(const char *what)
{
    fprintf(stderr, "bench_ack: %s\n", what);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct {
    double p50, p99, most;
} quantiles;

static quantiles take_quantiles(double *list, size_t count)
{
    if (!count) give_up("nothing was measured");
    qsort(list, count, sizeof *list, by_size);
    return (quantiles){list[count / 2], list[count - 1 - count / 100], list[count - 1]};
}

/* --- The disk ---------------------------------------------------------------------- */

static double times[2 * syncs];

/*  Adds as many times of a sync, in ms.                                             */
static void sync_file(size_t bytes, double *list)
{
    char path[4096], *chunk = malloc(bytes);
    memset(chunk, 'x', bytes);
    snprintf(path, sizeof path, "%s/bench_ack.file", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)bytes * syncs) || fsync(fd))
        give_up("cannot make a file");
    for (int i = 0; i < syncs; i++) {
        double start = now();
        if (pwrite(fd, chunk, bytes, (off_t)bytes * i) != (ssize_t)bytes || fdatasync(fd))
            give_up("cannot write");
        list[i] = (now() - start) * 1e3;
    }
    close(fd);
    unlink(path);
    free(chunk);
}

/* --- The bus ----------------------------------------------------------------------- */

static weir_bus *bus;
static weir_store *store;
static char store_path[4096];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void remove_store(void)
{
    nftw(store_path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/*  Until its links stand, which is not what is measured.                            */
static void warm_up(void)
{
    for (int i = 0; i < 1000; i++)
        if (weir_bus_append_payload(bus, WEIR_TEXT, "x", 1, NULL))
            give_up("cannot append");
    if (weir_bus_flush(bus, -1)) give_up("cannot flush");
}

static void open_bus(void)
{
    weir_disk_config disk = weir_disk_defaults;
    weir_bus_config config = weir_bus_defaults;
    weir_report report = {0};
    remove_store();
    disk.path = store_path;
    if (weir_disk_open(&store, &disk, &report)) give_up(report.text);
    config.store = store;
    config.options = options;
    config.linger_us = linger_us;
    if (weir_bus_new(&bus, &config, &report)) give_up(report.text);
    warm_up();
}

static void close_bus(void)
{
    if (weir_bus_destroy(&bus, -1)) give_up("records are not safe");
    remove_store();
}

/*  Records a second until all are safe, as fast as it goes; mean bytes of a transaction.
 */
static double fill_bus(size_t *transaction)
{
    char payload[record_bytes];
    weir_disk_stats stats;
    memset(payload, 'x', sizeof payload);
    open_bus();
    double start = now(), count = 0;
    while (now() < start + seconds)
        for (int i = 0; i < 1000; i++, count++)
            if (weir_bus_append_payload(bus, WEIR_TEXT, payload, sizeof payload, NULL))
                give_up("cannot append");
    if (weir_bus_flush(bus, -1)) give_up("cannot flush");
    double rate = count / (now() - start);
    weir_disk_look(store, &stats);
    *transaction = (size_t)(stats.commit_bytes / stats.commits);
    close_bus();
    return rate;
}

/* --- Half load --------------------------------------------------------------------- */

static double *appended; // seconds, by ticket
static double *waited;   // ms, by ticket
static uint64_t before;  // tickets that were given before
static atomic_ullong target;
static size_t settled;

/*  Notes what has become safe whenever the bus says so.                             */
static void *wait_for_all(void *arg)
{
    struct pollfd fd = {.fd = weir_bus_fd(bus), .events = POLLIN};
    eventfd_t count;
    (void)arg;
    for (settled = 0; settled < atomic_load(&target);) {
        poll(&fd, 1, 100);
        if (fd.revents) eventfd_read(fd.fd, &count);
        uint64_t safe = weir_bus_acked(bus) - before;
        double at = now();
        for (; settled < safe; settled++)
            waited[settled] = (at - appended[settled]) * 1e3;
    }
    return NULL;
}

/*  Evenly: what is due is appended, then it sleeps for a little.                    */
static void append_at(double rate, size_t most)
{
    char payload[record_bytes];
    size_t done = 0;
    double start = now(), at = start;
    memset(payload, 'x', sizeof payload);
    for (; at < start + seconds; at = now()) {
        for (size_t due = (size_t)((at - start) * rate); done < due && done < most;) {
            appended[done++] = now();
            if (weir_bus_append_payload(bus, WEIR_TEXT, payload, sizeof payload, NULL))
                give_up("cannot append");
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    atomic_store(&target, done);
}

static quantiles load_bus(double rate, size_t *transaction)
{
    pthread_t thread;
    weir_disk_stats stats;
    size_t most = (size_t)(rate * seconds) + 1000;
    appended = calloc(most + 2, sizeof *appended);
    waited = calloc(most + 2, sizeof *waited);
    if (!appended || !waited) give_up("no memory");
    atomic_store(&target, UINT64_MAX);
    open_bus();
    before = weir_bus_appended(bus);
    pthread_create(&thread, NULL, wait_for_all, NULL);
    append_at(rate, most);
    pthread_join(thread, NULL);
    weir_disk_look(store, &stats);
    *transaction = (size_t)(stats.commit_bytes / stats.commits);
    quantiles is = take_quantiles(waited, settled);
    close_bus();
    free(appended);
    free(waited);
    return is;
}

/* --- Rounds ------------------------------------------------------------------------ */

static double one_round(void)
{
    size_t full, half;
    double rate = fill_bus(&full);
    quantiles ack = load_bus(rate / 2, &half);
    sync_file(half, times);
    sync_file(half, times + syncs);
    quantiles device = take_quantiles(times, 2 * syncs);
    double limit = 2 * device.p99 + spare_ms;
    printf("%.0f records/s at most; at half of it p50 %.2f, p99 %.2f, most %.2f ms, %.0f "
           "KB a "
           "transaction; a sync of so many bytes p50 %.2f, p99 %.2f ms: %.2f\n",
           rate, ack.p50, ack.p99, ack.most, (double)half / 1024, device.p50, device.p99,
           ack.p99 / limit);
    fflush(stdout);
    return ack.p99 / limit;
}

int main(int argc, char **argv)
{
    double ratios[rounds];
    if (argc > 1) folder = argv[1];
    if (argc > 2) seconds = atof(argv[2]);
    snprintf(store_path, sizeof store_path, "%s/bench_ack.store", folder);
    for (int i = 0; i < rounds; i++)
        ratios[i] = one_round();
    qsort(ratios, rounds, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[rounds / 2]);
    return 0;
}
