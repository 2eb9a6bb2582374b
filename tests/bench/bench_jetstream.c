/*  The JetStream store, or sink.jetstream, against a bare libnats client that pipelines:
    records of 200 bytes, in batches of 1,000 for the store and in blocks of 64 KB for the
    sink, with the same bytes, the same headers and at most 1,000 of them unanswered for
    both; in turn, each round into a new stream of the same server.

    bench_jetstream [URL [RECORDS [sink]]]    prints both rates, records/s, and the median
                                              ratio; without a URL, or with "-", on a
                                              server of its own on a free loopback port */
#include <arpa/inet.h>
#include <ftw.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "actors/dedup.h"
#include "actors/sink_jetstream.h"
#include "actors/store_jetstream.h"
#include "runtime/handover.h"
#include "runtime/log.h"

enum { batch_records = 1000, record_bytes = 200, rounds = 5, in_flight = 4 };

static const char *url;
static long records = 200000;
static bool is_sink;
static const uint64_t nonce = 0xbe7c;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_up(const char *what)
{
    fprintf(stderr, "bench_jetstream: %s\n", what);
    exit(1);
}

/* --- A server ---------------------------------------------------------------------- */

static pid_t server;
static char folder[] = "/tmp/bench_jetstream.XXXXXX";

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void end_server(void)
{
    if (!server) return;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static uint16_t free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) ||
        getsockname(fd, (struct sockaddr *)&at, &size))
        give_up("no free port");
    close(fd);
    return ntohs(at.sin_port);
}

static void start_server(void)
{
    static char own_url[64];
    char port[16];
    snprintf(port, sizeof port, "%u", free_port());
    snprintf(own_url, sizeof own_url, "nats://127.0.0.1:%s", port);
    url = own_url;
    if (!mkdtemp(folder)) give_up("no folder");
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("nats-server", "nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd",
               folder, "-l", "/dev/null", (char *)NULL);
        execl("/usr/sbin/nats-server", "nats-server", "-a", "127.0.0.1", "-p", port,
              "-js", "-sd", folder, "-l", "/dev/null", (char *)NULL);
        _exit(127);
    }
    atexit(end_server);
    natsConnection *connection = NULL;
    for (double end = now() + 10; natsConnection_ConnectTo(&connection, url);) {
        if (now() > end) give_up("cannot start nats-server: is it installed?");
        usleep(2000);
    }
    natsConnection_Destroy(connection);
}

/* --- The records ------------------------------------------------------------------- */

static weir_block *block; // batch_records of them, with timestamps
static weir_record *list; // the same, one by one

static void make_records(void)
{
    weir_builder builder = {.target = 1 << 20};
    char payload[record_bytes + 1];
    memset(payload, 'x', record_bytes);
    for (int i = 0; i < batch_records; i++) {
        weir_record record = {.has_ts = true,
                              .ts_ms = 1700000000000 + i,
                              .format = WEIR_TEXT,
                              .data = (const uint8_t *)payload,
                              .size = record_bytes};
        weir_builder_add(&builder, &record, &(weir_run){.records = 0});
    }
    block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_iterator walk = {.block = block};
    list = calloc(batch_records, sizeof *list);
    for (int i = 0; i < batch_records; i++)
        weir_iterator_next(&walk, &list[i], NULL);
}

/* --- The limit --------------------------------------------------------------------- */

static void acked(jsCtx *js, natsMsg *msg, jsPubAck *ack, jsPubAckErr *error,
                  void *closure)
{
    (void)js, (void)ack, (void)closure;
    if (error) give_up(error->ErrText);
    natsMsg_Destroy(msg);
}

static void publish(jsCtx *js, const char *stream, const char *subject, long i)
{
    char id[WEIR_ID_TEXT], last[24];
    natsMsg *msg = NULL;
    const weir_record *record = &list[i % batch_records];
    weir_id_print(&(weir_id){nonce, 1, 0, (uint64_t)i + 1}, id);
    snprintf(last, sizeof last, "%ld", i);
    const uint8_t *data = is_sink ? record->data : record->encoded;
    size_t size = is_sink ? record->size : record->encoded_size;
    natsStatus s = natsMsg_Create(&msg, subject, NULL, (const char *)data, (int)size);
    if (!s) s = natsMsgHeader_Set(msg, "Nats-Msg-Id", id);
    if (!s && is_sink) s = natsMsgHeader_Set(msg, "Nats-Expected-Stream", stream);
    if (!s && !is_sink) s = natsMsgHeader_Set(msg, "Nats-Expected-Last-Sequence", last);
    if (!s) s = js_PublishMsgAsync(js, &msg, NULL);
    if (s) give_up(natsStatus_GetText(s));
}

static double bare(int round)
{
    natsConnection *connection = NULL;
    jsCtx *js = NULL;
    jsOptions options;
    jsStreamConfig stream;
    char name[32], subject[32];
    const char *subjects[] = {subject};
    snprintf(name, sizeof name, "bare_%d", round);
    snprintf(subject, sizeof subject, "bare.%d", round);
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = 1000;
    options.PublishAsync.StallWait = 5000;
    options.PublishAsync.AckHandler = acked;
    jsStreamConfig_Init(&stream);
    stream.Name = name;
    stream.Subjects = subjects;
    stream.SubjectsLen = 1;
    stream.Duplicates = INT64_C(3600000000000);
    stream.AllowDirect = true;
    if (natsConnection_ConnectTo(&connection, url) ||
        natsConnection_JetStream(&js, connection, &options) ||
        js_AddStream(NULL, js, &stream, NULL, NULL))
        give_up("the bare client cannot make its stream");
    double start = now();
    for (long i = 0; i < records; i++)
        publish(js, name, subject, i);
    if (js_PublishAsyncComplete(js, NULL)) give_up("the bare client has no answer");
    double seconds = now() - start;
    js_DeleteStream(js, name, NULL, NULL);
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
    return (double)records / seconds;
}

/* --- The store --------------------------------------------------------------------- */

static sem_t room; // batches that may be written

static void stored(weir_batch *batch)
{
    if (batch->result != WEIR_STORE_SAFE) give_up(batch->text);
    sem_post(&room);
}

static void write_batch(weir_store *store, uint64_t first)
{
    weir_batch *batch = weir_batch_new();
    batch->epoch = 1;
    batch->first = first;
    batch->done = stored;
    weir_piece piece = {.block = weir_block_dup(block)};
    weir_batch_add(batch, &piece);
    sem_wait(&room);
    store->class->write(store, batch);
    weir_batch_destroy(&batch);
}

static double through_store(int round)
{
    char bus[32];
    weir_jetstream_config config = weir_jetstream_defaults;
    weir_report report = {0};
    weir_jetstream_stats stats = {0};
    weir_store *store;
    snprintf(bus, sizeof bus, "bench%d", round);
    config.bus = bus;
    config.url = url;
    config.nonce = nonce;
    config.plaintext = true;
    if (weir_jetstream_store_new(&store, &config, &report)) give_up(report.text);
    for (double end = now() + 5; !stats.connected; usleep(1000)) {
        weir_jetstream_look(store, &stats);
        if (now() > end) give_up(stats.error);
    }
    sem_init(&room, 0, in_flight);
    double start = now();
    for (long i = 0; i < records; i += batch_records)
        write_batch(store, (uint64_t)i + 1);
    if (store->class->flush(store, -1, &report)) give_up(report.text);
    double seconds = now() - start;
    store->class->close(&store);
    return (double)records / seconds;
}

/* --- The sink ---------------------------------------------------------------------- */

/*  Sends blocks whose records have the places that a bus would give them.             */
typedef struct {
    weir_node node;
} feed_config;

typedef struct {
    weir_actor *kit;
    weir_lane lane;
    int port;
    long sent;
} feed;

static weir_err feed_init(void *arg, weir_actor *kit, const void *config,
                          weir_report *report)
{
    (void)config, (void)report;
    feed *self = arg;
    self->kit = kit;
    self->port = weir_actor_port(kit, "feed");
    return WEIR_OK;
}

static void feed_fini(void *arg)
{
    weir_actor_lane_fini(((feed *)arg)->kit, &((feed *)arg)->lane);
}

static bool feed_turn(void *arg)
{
    feed *self = arg;
    if (self->sent == records || !weir_actor_has_room(self->kit)) return false;
    weir_builder builder = {.target = weir_actor_node(self->kit)->block_bytes};
    uint32_t count = 0;
    while (!weir_builder_full(&builder) && self->sent + count < records)
        weir_builder_add(&builder, &list[(self->sent + count++) % batch_records], NULL);
    weir_block *next = weir_builder_seal(&builder);
    weir_run run = {.records = count,
                    .place = {.nonce = nonce,
                              .epoch = 1,
                              .sequence = (uint64_t)self->sent + 1,
                              .offset = (uint64_t)self->sent + 1}};
    weir_block_set_places(next, &run, 1);
    weir_builder_fini(&builder);
    self->sent += count;
    weir_entry *entry =
        weir_actor_open(self->kit, &self->lane, count, (uint64_t)self->sent, 0);
    entry->fates.done = count;
    weir_actor_send(self->kit, self->port, &next, entry);
    weir_actor_done(self->kit, entry);
    return true;
}

static weir_err feed_commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)arg, (void)entry, (void)report;
    return WEIR_OK;
}

static void feed_drain(void *arg)
{
    weir_actor_end(((feed *)arg)->kit);
}

static void feed_actor(zsock_t *pipe, void *config);
static const weir_option no_options[] = {{.name = NULL}};
static const weir_class feed_class = {
    .name = "feed",
    .help = "sends what is measured",
    .actor = feed_actor,
    .size = sizeof(feed),
    .config_size = sizeof(feed_config),
    .options = no_options,
    .source = true,
    .placed = true,
    .init = feed_init,
    .fini = feed_fini,
    .turn = feed_turn,
    .commit = feed_commit,
    .drain = feed_drain,
};

static void feed_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&feed_class, pipe, config);
}

static void ask(zactor_t *actor, const char *command, const char *a, const char *b)
{
    if (weir_actor_ask(actor, NULL, command, a, b, NULL)) give_up(command);
}

static double through_sink(int round)
{
    char name[32], endpoint[32];
    weir_vitals vitals = WEIR_VITALS_INIT;
    weir_report report = {0};
    weir_sink_jetstream_config config = weir_sink_jetstream_defaults;
    feed_config from = {.node = {.name = "feed"}};
    snprintf(name, sizeof name, "weir_bench%d_0", round);
    snprintf(endpoint, sizeof endpoint, "inproc://bench%d", round);
    config.node = (weir_node){.name = "out", .vitals = &vitals, .report = &report};
    config.port.url = (char *)url;
    config.port.plaintext = true;
    config.subject = config.stream = name;
    config.dedup_us = 3600000000;
    zactor_t *sink = zactor_new(weir_sink_jetstream, &config);
    zactor_t *source = zactor_new(feed_actor, &from);
    weir_handover_take(&report);
    if (!sink || !source || report.err) give_up(report.text);
    ask(sink, "LISTEN", endpoint, NULL);
    ask(source, "CONNECT", "feed", endpoint);
    ask(sink, "START", NULL, NULL);
    double start = now();
    ask(source, "START", NULL, NULL);
    while (weir_count_get(&vitals, WEIR_COUNT_DONE) < (uint64_t)records)
        usleep(500);
    double seconds = now() - start;
    zactor_destroy(&source);
    zactor_destroy(&sink);
    return (double)records / seconds;
}

/* --- All --------------------------------------------------------------------------- */

static void remove_stream(int round)
{
    natsConnection *connection = NULL;
    jsCtx *js = NULL;
    char name[32];
    snprintf(name, sizeof name, "weir_bench%d_0", round);
    if (natsConnection_ConnectTo(&connection, url) ||
        natsConnection_JetStream(&js, connection, NULL) ||
        js_DeleteStream(js, name, NULL, NULL))
        give_up("cannot delete a stream");
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    double ratios[rounds];
    weir_log_configure(WEIR_ERROR, false, STDERR_FILENO);
    if (argc > 1 && argv[1][0] != '-') url = argv[1];
    if (argc > 2) records = atol(argv[2]) / batch_records * batch_records;
    is_sink = argc > 3 && !strcmp(argv[3], "sink");
    if (!url) start_server();
    make_records();
    for (int i = 0; i < rounds; i++) {
        double limit = bare(i), ours = (is_sink ? through_sink : through_store)(i);
        remove_stream(i);
        ratios[i] = ours / limit;
        printf("%.0f records/s (%s), %.0f records/s (bare client): %.2f\n", ours,
               is_sink ? "sink" : "store", limit, ratios[i]);
        fflush(stdout);
    }
    free(list);
    weir_block_destroy(&block);
    qsort(ratios, rounds, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[rounds / 2]);
    return 0;
}
