/*  sink.redis against a bare client of hiredis that sends the same entries as XADDs,
    1,000 in a pipeline: records whose payload has 200 bytes, into one stream of one
    server, which keeps them in memory only. The records reach the sink over a link, from
    a source that has them ready.

    bench_redis_sink [KIND [RECORDS]]   prints both rates, records/s, and the ratio

    KIND, of the ids that the server remembers: none; texts, by a template; places, as a
    bus with a store gives them.                                                      */
#include <czmq.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/sink_redis.h"
#include "runtime/handover.h"
#include "tests/bench/help_bench_redis.h"

enum { batch_records = 1000, payload_bytes = 200, rounds = 15 };

static uint64_t records = 200000;
static const char *kind = "none";

static void flush_all(void)
{
    redisReply *reply = redisCommand(client, "FLUSHALL");
    if (!reply || reply->type == REDIS_REPLY_ERROR) give_up("FLUSHALL fails");
    freeReplyObject(reply);
}

/*  {"n":0000000012,"x":"xxx.."}                                                      */
static void fill_payload(char *payload, uint64_t n)
{
    memset(payload, 'x', payload_bytes);
    char start[32];
    int size = snprintf(start, sizeof start, "{\"n\":1%010" PRIu64 ",\"x\":\"", n);
    memcpy(payload, start, (size_t)size);
    memcpy(payload + payload_bytes - 2, "\"}", 2);
}

/* --- The limit --------------------------------------------------------------------- */

static double write_bare(void)
{
    char payload[payload_bytes];
    const char *words[] = {"XADD", "bench", "*", "data", payload};
    const size_t sizes[] = {4, 5, 1, 4, payload_bytes};
    flush_all();
    double start = now();
    for (uint64_t done = 0; done < records; done += batch_records) {
        for (int n = 0; n < batch_records; n++) {
            fill_payload(payload, done + (uint64_t)n);
            redisAppendCommandArgv(client, 5, words, sizes);
        }
        for (int n = 0; n < batch_records; n++) {
            redisReply *reply;
            if (redisGetReply(client, (void **)&reply) != REDIS_OK ||
                reply->type == REDIS_REPLY_ERROR)
                give_up("XADD fails");
            freeReplyObject(reply);
        }
    }
    return (double)records / (now() - start);
}

/* --- A source that has them ready -------------------------------------------------- */

typedef struct {
    weir_node node;
} feed_config;

typedef struct {
    weir_actor *kit;
    int port;
    weir_lane lane;
    uint64_t sent, blocks;
} feed;

static weir_err feed_init(void *arg, weir_actor *kit, const void *config,
                          weir_report *report)
{
    feed *self = arg;
    (void)config, (void)report;
    self->kit = kit;
    self->port = weir_actor_port(kit, weir_actor_node(kit)->name);
    return WEIR_OK;
}

static void feed_fini(void *arg)
{
    feed *self = arg;
    weir_actor_lane_fini(self->kit, &self->lane);
}

static bool feed_turn(void *arg)
{
    feed *self = arg;
    char payload[payload_bytes];
    weir_builder builder = {.target = 64 << 10};
    weir_run origin = {.source = "feed"};
    if (self->sent == records) {
        weir_actor_end(self->kit);
        return false;
    }
    if (!weir_actor_has_room(self->kit)) return false;
    while (self->sent < records && !weir_builder_full(&builder)) {
        fill_payload(payload, self->sent++);
        weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)payload,
                                 payload_bytes, &origin);
    }
    weir_block *block = weir_builder_seal(&builder);
    uint32_t count = weir_block_records(block);
    if (!strcmp(kind, "places")) {
        origin.records = count;
        origin.place =
            (weir_place){.nonce = 1, .epoch = 1, .sequence = self->sent - count};
        weir_block_set_places(block, &origin, 1);
    }
    weir_entry *entry = weir_actor_open(self->kit, &self->lane, count, ++self->blocks, 0);
    entry->fates.done = entry->records;
    weir_actor_send(self->kit, self->port, &block, entry);
    weir_actor_done(self->kit, entry);
    weir_builder_fini(&builder);
    return true;
}

static weir_err feed_commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)arg, (void)entry, (void)report;
    return WEIR_OK;
}

static void feed_actor(zsock_t *pipe, void *config);
static const weir_option no_options[] = {{.name = NULL}};
static const weir_class feed_class = {
    .name = "bench.feed",
    .help = "sends what the bench makes",
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
};

static void feed_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&feed_class, pipe, config);
}

/* --- The sink ---------------------------------------------------------------------- */

typedef struct {
    zactor_t *actor;
    weir_vitals vitals;
    weir_report report;
    sem_t ended;
} member;

static void open_member(member *self, weir_node *node, const char *name, zactor_fn *actor,
                        void *config)
{
    *self = (member){.vitals = WEIR_VITALS_INIT};
    sem_init(&self->ended, 0, 0);
    node->name = name;
    node->vitals = &self->vitals;
    node->report = &self->report;
    node->ended = &self->ended;
    self->actor = zactor_new(actor, config);
    weir_handover_take(&self->report);
    if (self->report.err) give_up(self->report.text);
}

static void stop(member *self)
{
    if (weir_actor_stop(&self->actor, &self->ended, 10000)) give_up("an actor hangs");
    sem_destroy(&self->ended);
}

static void ask(member *self, const char *a, const char *b, const char *c)
{
    if (weir_actor_ask(self->actor, NULL, a, b, c, NULL)) give_up(a);
}

/*  So many have ids that the server knows.                                           */
static uint64_t known_ids(void)
{
    uint64_t count = 0;
    redisReply *keys = redisCommand(client, "KEYS {bench}:weir-ids*");
    if (!keys || keys->type != REDIS_REPLY_ARRAY) give_up("KEYS fails");
    for (size_t i = 0; i < keys->elements; i++) {
        bool texts = strcmp(kind, "texts") == 0;
        redisReply *reply = redisCommand(client, "%s %s", texts ? "ZCARD" : "BITCOUNT",
                                         keys->element[i]->str);
        if (!reply || reply->type != REDIS_REPLY_INTEGER) give_up("no count of ids");
        count += (uint64_t)reply->integer;
        freeReplyObject(reply);
    }
    freeReplyObject(keys);
    return count;
}

static double write_sink(void)
{
    static const char endpoint[] = "inproc://bench-sink";
    weir_sink_redis_config config = weir_sink_redis_defaults;
    feed_config source = {.node.name = "feed"};
    member in, out;
    char url[96];
    flush_all();
    snprintf(url, sizeof url, "unix://%s", local);
    config.server.url = url;
    config.stream = (char *)"bench";
    if (!strcmp(kind, "texts")) config.id = (char *)"{n}";
    open_member(&out, &config.node, "out", weir_sink_redis, &config);
    open_member(&in, &source.node, "feed", feed_actor, &source);
    ask(&out, "LISTEN", endpoint, NULL);
    ask(&in, "CONNECT", "feed", endpoint);
    ask(&out, "START", NULL, NULL);
    double start = now();
    ask(&in, "START", NULL, NULL);
    while (in.vitals.state != WEIR_STATE_ENDED)
        zclock_sleep(1);
    double seconds = now() - start;
    if (weir_count_get(&out.vitals, WEIR_COUNT_DONE) != records)
        give_up("not all is done");
    redisReply *length = redisCommand(client, "XLEN bench");
    if (!length || length->integer != (long long)records) give_up("not all is stored");
    freeReplyObject(length);
    if (known_ids() != (strcmp(kind, "none") ? records : 0)) give_up("ids are not known");
    stop(&in);
    stop(&out);
    return (double)records / seconds;
}

int main(int argc, char **argv)
{
    double ratios[rounds];
    if (argc > 1) kind = argv[1];
    if (argc > 2) records = strtoull(argv[2], NULL, 10) / batch_records * batch_records;
    zsys_init();
    help_server *server = start_server();
    for (int i = 0; i < rounds; i++) {
        double ours = write_sink(), limit = write_bare();
        ratios[i] = ours / limit;
        printf("%.0f records/s (sink), %.0f records/s (client): %.2f\n", ours, limit,
               ratios[i]);
        fflush(stdout);
    }
    end_server(&server);
    qsort(ratios, rounds, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[rounds / 2]);
    return 0;
}
