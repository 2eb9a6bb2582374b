/*  The endpoint of a bus, asked by clients of its own protocol, over a store in memory.
 */
#include "actors/bus_client.h"
#include "actors/bus_server.h"
#include "tests/unit/help_actor.h"
#include "tests/unit/help_store.h"
#include <pthread.h>

enum { clients_max = 8, records_max = 200 };

typedef struct {
    weir_bus_client *client;
    uint32_t shard;
    uint64_t first, last; // offsets of its shard that it has
} client;

static char folder[64], where[96];
static weir_store *store;
static weir_hub *hub;
static weir_realm *realm;
static weir_bus_options options;
static weir_vitals bus_vitals;
static weir_bus_server_config config;
static member server;
static client clients[clients_max];

/* --- How often a group's commit is told -------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool shut;
static unsigned told;

/*  While it is shut nobody comes past it.                                              */
static void hear_commit(weir_store *self, const char *group, uint32_t shard,
                        uint64_t offset)
{
    (void)self, (void)group, (void)shard, (void)offset;
    pthread_mutex_lock(&lock);
    told++;
    while (shut)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static unsigned gate(bool on)
{
    pthread_mutex_lock(&lock);
    unsigned so_far = told;
    shut = on;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return so_far;
}

static unsigned so_far(void)
{
    pthread_mutex_lock(&lock);
    unsigned count = told;
    pthread_mutex_unlock(&lock);
    return count;
}

/* --- Set-up ------------------------------------------------------------------------ */

static int begin(void **state)
{
    (void)state;
    static weir_store_class class;
    weir_report report = {0};
    snprintf(folder, sizeof folder, "/tmp/test_bus_server.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof where, "ipc://%s/bus", folder);
    store = help_store_new(true, NULL);
    class = *store->class;
    class.commit = hear_commit;
    store->class = &class;
    options = weir_bus_options_defaults;
    options.listen = where;
    hub = weir_hub_new("b", &options);
    weir_hub_lend_store(hub, store);
    assert_int_equal(weir_hub_open(hub, folder, NULL, &report), WEIR_OK);
    assert_int_equal(weir_realm_new(&realm, NULL, &report), WEIR_OK);
    bus_vitals = (weir_vitals)WEIR_VITALS_INIT;
    config = (weir_bus_server_config){.hub = hub, .bus_vitals = &bus_vitals};
    config.node.realm = realm;
    fill_node(&server, &config.node, "b");
    open_member(&server, weir_bus_server, &config);
    start(&server);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[128];
    gate(false);
    for (int i = 0; i < clients_max; i++)
        weir_bus_client_destroy(&clients[i].client);
    stop(&server);
    weir_hub_destroy(&hub);
    store->class->close(&store);
    weir_realm_destroy(&realm);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    return 0;
}

/* --- Asking ------------------------------------------------------------------------ */

static void recv_answer(client *c, weir_bus_answer *answer)
{
    int64_t give_up_us = weir_clock_now_us() + 20000000;
    while (!weir_bus_client_recv(c->client, answer)) {
        assert_true(weir_clock_now_us() < give_up_us);
        weir_bus_client_wait(c->client, give_up_us, -1);
    }
}

static void join(client *c, const char *group, int number)
{
    weir_report report = {0};
    weir_bus_answer answer;
    char name[16];
    weir_bus_join request = weir_bus_join_defaults;
    weir_endpoint endpoint = {.endpoint = where, .realm = realm};
    assert_int_equal(weir_bus_client_new(&c->client, &endpoint, &report), WEIR_OK);
    snprintf(name, sizeof name, "m%d", number);
    request.group = group;
    request.member = name;
    request.max_deliver = 1;
    weir_bus_client_join(c->client, &request);
    recv_answer(c, &answer);
    assert_string_equal(answer.code, "ok");
}

static void fetch_all(client *c, uint32_t count)
{
    weir_bus_answer answer;
    weir_bus_record record = {.shard = 0};
    for (uint32_t got = 0; got < count;) {
        weir_bus_client_fetch(c->client, 1000, 1 << 20, 1000);
        recv_answer(c, &answer);
        assert_string_equal(answer.code, "ok");
        while (weir_bus_answer_next(&answer, &record) == WEIR_OK) {
            if (got++ == 0) c->first = record.at.a;
            c->shard = record.shard;
            c->last = record.at.a;
        }
    }
}

static void send_ack(client *c, uint64_t offset)
{
    weir_bus_client_ack(c->client, c->shard, (weir_position){offset, 0}, false);
}

static void expect_ok(client *c, unsigned answers)
{
    weir_bus_answer answer;
    while (answers--) {
        recv_answer(c, &answer);
        if (strcmp(answer.code, "ok")) fail_msg("%s: %s", answer.code, answer.text);
    }
}

/* --- Tests ------------------------------------------------------------------------- */

/*  One ack is being committed while all others come: they are one commit, or a few where
    not all of them were there.                                                         */
static void acks_that_wait_share_a_commit(void **state)
{
    (void)state;
    enum { each = 20 };
    for (uint32_t shard = 0; shard < clients_max; shard++)
        for (int i = 0; i <= each; i++)
            help_store_put(store, shard, "{}", NULL, -1);
    for (int i = 0; i < clients_max; i++)
        join(&clients[i], "g", i);
    for (int i = 0; i < clients_max; i++)
        fetch_all(&clients[i], each + 1);
    unsigned before = gate(true);
    send_ack(&clients[0], 1);
    wait_until(so_far() > before);
    for (int i = 0; i < clients_max; i++)
        for (uint64_t offset = i ? 1 : 2; offset <= each + 1; offset++)
            send_ack(&clients[i], offset);
    weir_bus_answer answer;
    for (int i = 0; i < clients_max; i++) // not before it is durable
        assert_false(weir_bus_client_recv(clients[i].client, &answer));
    gate(false);
    for (int i = 0; i < clients_max; i++)
        expect_ok(&clients[i], each + 1);
    /*  A round tells each of the shards once, and there are 168 acks.                  */
    assert_in_range(so_far() - before, clients_max, 6 * clients_max);
}

/*  Both are answered, and the one who leaves holds nothing back.                       */
static void an_ack_before_a_leave_is_durable(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        help_store_put(store, 0, "{}", NULL, -1);
    join(&clients[0], "g", 0);
    fetch_all(&clients[0], 3);
    unsigned before = so_far();
    send_ack(&clients[0], 1);
    weir_bus_client_nack(clients[0].client, 0, (weir_position){2, 0}, -1, "broken");
    weir_bus_client_leave(clients[0].client);
    expect_ok(&clients[0], 3);
    assert_true(so_far() > before);
    assert_int_equal(weir_count_get(&bus_vitals, WEIR_COUNT_GIVEN_UP), 1);
    weir_bus_client_destroy(&clients[0].client);
    join(&clients[0], "g", 1);
    fetch_all(&clients[0], 1);
    assert_int_equal(clients[0].first, 3);
}

/*  Of two groups one cannot be stored.                                                 */
static void each_group_is_settled_by_itself(void **state)
{
    (void)state;
    char path[96];
    weir_bus_answer answer;
    for (int i = 0; i < 2; i++)
        help_store_put(store, 0, "{}", NULL, -1);
    join(&clients[0], "good", 0);
    join(&clients[1], "bad", 1);
    fetch_all(&clients[0], 2);
    fetch_all(&clients[1], 2);
    snprintf(path, sizeof path, "%s/dead.ndjson", folder);
    assert_int_equal(mkdir(path, 0700), 0); // no dead letter can be written
    weir_bus_client_nack(clients[1].client, 0, (weir_position){1, 0}, -1, "broken");
    weir_bus_client_ack(clients[0].client, 0, (weir_position){2, 0}, true);
    recv_answer(&clients[1], &answer);
    assert_string_equal(answer.code, "failed");
    expect_ok(&clients[0], 1);
    assert_int_equal(rmdir(path), 0);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(acks_that_wait_share_a_commit),
        test(an_ack_before_a_leave_is_durable),
        test(each_group_is_settled_by_itself),
    };
    return cmocka_run_group_tests_name("bus server", tests, NULL, NULL);
}
