/*  The Redis store and a cluster: each shard is where its slot is. */
#include "help_redis.h"
#include "actors/redis_probe.h"
#include <sys/stat.h>

enum { nodes = 2, streams = 12 };

typedef struct {
    help_server *server;
    redisContext *client;
    uint16_t port, bus_port;
} node;

static node cluster[nodes];

static bool node_answers(void *arg)
{
    node *self = arg;
    if (self->client) redisFree(self->client);
    self->client = redisConnect("127.0.0.1", self->port);
    redisReply *reply = self->client->err ? NULL : redisCommand(self->client, "PING");
    bool does = reply && reply->type == REDIS_REPLY_STATUS;
    if (reply) freeReplyObject(reply);
    return does;
}

static void start_node(node *self, int i)
{
    char number[8], bus_port[8], dir[80], log[96];
    self->port = help_server_port();
    snprintf(number, sizeof number, "%u", self->port);
    self->bus_port = help_server_port();
    snprintf(bus_port, sizeof bus_port, "%u", self->bus_port);
    snprintf(dir, sizeof dir, "%s/%d", folder, i);
    snprintf(log, sizeof log, "%s/log%d", folder, i);
    assert_int_equal(mkdir(dir, 0700), 0);
    const char *argv[] = {"redis-server",
                          "--port",
                          number,
                          "--bind",
                          "127.0.0.1",
                          "--cluster-port",
                          bus_port,
                          "--dir",
                          dir,
                          "--save",
                          "",
                          "--cluster-enabled",
                          "yes",
                          "--daemonize",
                          "no",
                          "--cluster-node-timeout",
                          "60000",
                          NULL};
    self->server = help_server_start(argv, log);
    assert_non_null(self->server);
    assert_true(help_server_wait(self->server, node_answers, self));
    client = self->client;
    DO("CLUSTER ADDSLOTSRANGE %d %d", i ? 8192 : 0, i ? 16383 : 8191);
    if (i) DO("CLUSTER MEET 127.0.0.1 %u %u", cluster[0].port, cluster[0].bus_port);
    client = NULL;
}

/*  Both know all slots.                                                             */
static bool is_whole(void *arg)
{
    (void)arg;
    for (int i = 0; i < nodes; i++) {
        redisReply *reply = redisCommand(cluster[i].client, "CLUSTER INFO");
        bool good = reply && reply->str && strstr(reply->str, "cluster_state:ok") &&
                    strstr(reply->str, "cluster_known_nodes:2");
        if (reply) freeReplyObject(reply);
        if (!good) return false;
    }
    return true;
}

static int begin_cluster(void **state)
{
    if (make_folder(state)) return -1;
    for (int i = 0; i < nodes; i++)
        start_node(&cluster[i], i);
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", cluster[0].port);
    return help_server_wait(cluster[0].server, is_whole, NULL) ? 0 : -1;
}

static int end_cluster(void **state)
{
    for (int i = 0; i < nodes; i++) {
        if (cluster[i].client) redisFree(cluster[i].client);
        help_server_destroy(&cluster[i].server);
        cluster[i] = (node){0};
    }
    return end(state);
}

static long long length_at(int i, uint32_t shard)
{
    redisReply *reply = redisCommand(cluster[i].client, "XLEN weir:events:%u", shard);
    long long length = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    freeReplyObject(reply);
    return length;
}

static void shards_are_where_their_slots_are(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_report report;
    uint64_t epoch;
    int at[nodes] = {0};
    for (uint32_t i = 0; i < streams; i++) {
        put(store, i, 3 + i, 1, 100, 20);
        put(store, i, 3 + i, 101, 100, 20);
        for (int j = 0; j < nodes; j++)
            at[j] += length_at(j, i) == 200;
    }
    assert_int_equal(at[0] + at[1], streams);
    assert_true(at[0] > 0 && at[1] > 0);
    for (uint32_t i = 0; i < streams; i++)
        assert_int_equal(count_all(store, i, 70).records, 200);
    close_store(&store);
    store = open_store(); // which knows none of it
    assert_int_equal(weir_redis_store_epoch(store, &epoch, &report), WEIR_OK);
    assert_int_equal(epoch, 2 + streams);
    weir_store_shard *list;
    size_t count;
    EVENTUALLY(store->class->shards(store, &list, &count, NULL) == WEIR_OK);
    assert_int_equal(count, streams);
    free(list);
    for (uint32_t i = 0; i < streams; i++)
        assert_int_equal(count_all(store, i, 70).records, 200);
    close_store(&store);
}

/*  The first one has heard of it.                                                   */
static bool is_elsewhere(void *arg)
{
    (void)arg;
    redisReply *reply = redisCommand(cluster[0].client, "CLUSTER NODES");
    bool is = reply && reply->str && strstr(reply->str, "192.0.2.7");
    if (reply) freeReplyObject(reply);
    return is;
}

/*  The slot of a shard goes to the other server while it is written.                */
static void shard_follows_its_slot(void **state)
{
    (void)state;
    weir_store *store = open_store();
    sender one;
    uint32_t shard = 0;
    put(store, 0, 1, 1, 10, 20);
    while (length_at(0, shard) != 10) // one that is at the first
        put(store, ++shard, 1, 1, 10, 20);
    client = cluster[0].client;
    long long slot = number_of(say("CLUSTER KEYSLOT weir:events:%u", shard));
    sender_begin(&one, store, shard, 2, 5000000);
    while (one.out < 4)
        sender_send(&one, 500, 20);
    char ids[nodes][64];
    for (int i = 0; i < nodes; i++) {
        redisReply *id = redisCommand(cluster[i].client, "CLUSTER MYID");
        snprintf(ids[i], sizeof ids[i], "%s", id->str);
        freeReplyObject(id);
    }
    client = cluster[1].client;
    DO("CLUSTER SETSLOT %lld IMPORTING %s", slot, ids[0]);
    client = cluster[0].client;
    DO("CLUSTER SETSLOT %lld MIGRATING %s", slot, ids[1]);
    char number[8];
    snprintf(number, sizeof number, "%u", cluster[1].port);
    DO("MIGRATE 127.0.0.1 %s weir:events:%u 0 5000", number, shard);
    while (one.out < 6)
        sender_send(&one, 500, 20); // meets ASK
    for (int i = 0; i < 10; i++)
        senders_run(&one, 1, 5);
    for (int i = 1; i >= 0; i--) {
        client = cluster[i].client;
        DO("CLUSTER SETSLOT %lld NODE %s", slot, ids[1]);
    }
    senders_finish(&one, 1);
    assert_string_equal(one.failed, "");
    assert_int_equal(length_at(1, shard), 10 + one.next - 1);
    assert_int_equal(count_all(store, shard, 100).records, 10 + one.next - 1);
    client = NULL;
    close_store(&store);
    senders_end(&one, 1);
}

/*  A server of the cluster says that it is elsewhere.                               */
static void shard_goes_to_no_other_host_without_plaintext(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_report report;
    uint64_t epoch;
    uint32_t shard = 0;
    put(store, 0, 1, 1, 10, 20);
    while (length_at(1, shard) != 10) // one that is at the second
        put(store, ++shard, 1, 1, 10, 20);
    close_store(&store);
    client = cluster[1].client;
    DO("CONFIG SET cluster-announce-ip 192.0.2.7");
    client = NULL;
    assert_true(help_server_wait(cluster[0].server, is_elsewhere, NULL));
    store = open_store();
    put_badly(store, shard, 2, 1, WEIR_STORE_FATAL, "MOVED");
    put_badly(store, shard, 2, 1, WEIR_STORE_FATAL, "plaintext");
    assert_int_equal(weir_redis_store_epoch(store, &epoch, &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "plaintext"));
    close_store(&store);
}

/*  Twelve keys are at both nodes, and the probe asks one first.                     */
static void a_look_finds_the_node_that_has_a_key(void **state)
{
    (void)state;
    weir_redis_server asked = WEIR_REDIS_SERVER_DEFAULTS;
    int elsewhere = 0;
    asked.url = url;
    for (uint32_t i = 0; i < streams; i++) {
        char key[32];
        weir_report report = {0};
        snprintf(key, sizeof key, "key:%u", i);
        weir_redis_probe what = {.server = &asked,
                                 .stream = key,
                                 .stream_size = strlen(key),
                                 .timeout_us = 5000000};
        assert_int_equal(weir_redis_probe_run(&what, &report), WEIR_OK);
        elsewhere += strncmp(report.text, url, strlen(url)) != 0;
    }
    assert_true(elsewhere > 0 && elsewhere < streams);
}

#define ON_CLUSTER(test) cmocka_unit_test_setup_teardown(test, begin_cluster, end_cluster)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_CLUSTER(shards_are_where_their_slots_are),
        ON_CLUSTER(shard_follows_its_slot),
        ON_CLUSTER(a_look_finds_the_node_that_has_a_key),
        ON_CLUSTER(shard_goes_to_no_other_host_without_plaintext),
    };
    RUN_IF_THERE(tests);
}
