/*  The JetStream store on a cluster of three servers, one of which is always missing
    sometimes: streams with replicas, and without a quorum.                          */
#include "help_jetstream.h"

enum { nodes = 3 };

static help_nats node[nodes];
static char urls[256];

static int start_cluster(void **state)
{
    (void)state;
    char routes[256] = "";
    uint16_t ports[nodes];
    if (!help_nats_is_installed()) return 0;
    urls[0] = '\0';
    for (int i = 0; i < nodes; i++) {
        help_nats_init(&node[i], NULL);
        ports[i] = help_server_port();
        sprintf(routes + strlen(routes), "%s \"nats://127.0.0.1:%u\"", i ? "," : "",
                ports[i]);
        sprintf(urls + strlen(urls), "%s127.0.0.1:%u", i ? "," : "nats://", node[i].port);
    }
    for (int i = 0; i < nodes; i++)
        snprintf(node[i].settings, sizeof node[i].settings,
                 "server_name: n%d\n"
                 "cluster { name: c, listen: \"127.0.0.1:%u\", routes: [%s ] }",
                 i, ports[i], routes);
    for (int i = 0; i < nodes; i++)
        help_nats_start(&node[i]);
    return 0;
}

static int end_cluster(void **state)
{
    (void)state;
    for (int i = 0; i < nodes; i++)
        help_nats_end(&node[i]);
    return 0;
}

static weir_store *cluster_store(void)
{
    weir_jetstream_config config = weir_jetstream_defaults;
    config.bus = "test";
    config.url = urls;
    config.nonce = nonce;
    config.replicas = 3;
    config.dedup_us = 100000;
    config.timeout_us = 1000000;
    return new_store(&config);
}

/*  As whoever leads the stream tells a client of our own; 0: nobody does.           */
static uint64_t stream_end(void)
{
    uint64_t last = 0;
    for (int i = 0; i < nodes && !last; i++) {
        client other = {0};
        jsStreamInfo *info = NULL;
        char url[128];
        if (natsConnection_ConnectTo(&other.connection,
                                     help_nats_url(node[i].port, NULL, url)))
            continue;
        if (!natsConnection_JetStream(&other.js, other.connection, NULL) &&
            !js_GetStreamInfo(&info, other.js, "weir_test_0", NULL, NULL))
            last = info->State.LastSeq;
        jsStreamInfo_Destroy(info);
        client_end(&other);
    }
    return last;
}

/*  nats-server 2.9 may make a replica the leader that has not all that was acknowledged
    (it tells that it has): then `damage` is right, and there is nothing to go on with.
    A leader that catches up after all is none of that. The sender and its store end here,
    with the test.                                                                   */
static void judge(sender *self)
{
    if (!strstr(self->failed, "damage")) fail_msg("%s", self->failed);
    for (double end = seconds_now() + patience_s; seconds_now() < end; usleep(100000))
        if (stream_end() >= self->safe)
            fail_msg("%s; but all %" PRIu64 " are there", self->failed, self->safe);
    printf("the server has lost records: it ends at %" PRIu64
           ", and had acknowledged %" PRIu64 "; skipped\n",
           stream_end(), self->safe);
    sender_end(self);
    close_store(&self->store);
    skip();
}

static void send_until(sender *self, uint64_t safe)
{
    for (double end = seconds_now() + 2 * patience_s; self->safe < safe;) {
        while (self->in_flight < 4)
            sender_send(self, 200, 200);
        sender_turn(self, 20);
        if (self->failed[0]) judge(self);
        if (seconds_now() > end) fail_msg("nothing is safe any more");
    }
}

/*  Stores it, however often it has to be tried, and frees it; gives where it ends. The
    sender, which has nothing under way, is there to be judged.                       */
static uint64_t store_batch(sender *self, weir_batch **batch_p)
{
    weir_batch *batch = *batch_p;
    for (double end = seconds_now() + 2 * patience_s;
         write_batch(self->store, batch) == WEIR_STORE_RETRY; usleep(10000)) {
        if (seconds_now() > end) fail_msg("%s", batch->text);
        batch->again = true;
    }
    bool fatal = batch->result == WEIR_STORE_FATAL;
    if (fatal) snprintf(self->failed, sizeof self->failed, "%s", batch->text);
    uint64_t last = batch->last_offset;
    free_batch(batch_p);
    if (fatal) judge(self);
    return last;
}

/*  All replicas of the stream have all of it.                                       */
static bool is_whole(uint16_t port)
{
    client other = {0};
    jsStreamInfo *info = NULL;
    char url[128];
    bool is = false;
    if (natsConnection_ConnectTo(&other.connection, help_nats_url(port, NULL, url)))
        return false;
    if (!natsConnection_JetStream(&other.js, other.connection, NULL) &&
        !js_GetStreamInfo(&info, other.js, "weir_test_0", NULL, NULL) && info->Cluster) {
        is = info->Cluster->Leader && info->Cluster->ReplicasLen == nodes - 1;
        for (int i = 0; i < info->Cluster->ReplicasLen; i++)
            is &= info->Cluster->Replicas[i]->Current &&
                  !info->Cluster->Replicas[i]->Lag &&
                  !info->Cluster->Replicas[i]->Offline;
    }
    jsStreamInfo_Destroy(info);
    client_end(&other);
    return is;
}

/*  Whoever leads the stream is lost in one of three rounds.                          */
static void records_are_stored_once_while_servers_come_and_go(void **state)
{
    NEEDS_SERVER();
    weir_store *store = cluster_store();
    sender is;
    sender_begin(&is, store, 0, 1);
    send_until(&is, 2000);
    for (int i = 0; i < nodes; i++) {
        help_nats_kill(&node[i]);
        send_until(&is, is.safe + 3000);
        help_nats_start(&node[i]);
        send_until(&is, is.safe + 3000);
        sender_finish(&is);
        EVENTUALLY(is_whole(node[i].port));
    }
    sender_finish(&is);
    assert_int_equal(is.safe, is.next - 1);
    tally all = {0};
    for (double end = seconds_now() + patience_s; all.records < is.safe;) {
        weir_read read = {
            .after = {all.last, 0}, .max_records = 5000, .max_bytes = 8 << 20};
        read_any(store, &read);
        if (!read.err) count_read(&all, &read);
        weir_read_fini(&read);
        if (seconds_now() > end) break;
    }
    assert_int_equal(all.records, is.safe);
    assert_int_equal(all.sequence, is.safe);
    assert_int_equal(all.trimmed + all.damaged, 0);
    sender_end(&is);
    close_store(&store);
}

static void without_a_quorum_batches_are_tried_again(void **state)
{
    NEEDS_SERVER();
    weir_store *store = cluster_store();
    sender is;
    sender_begin(&is, store, 0, 1);
    send_until(&is, 500);
    sender_finish(&is);
    uint64_t safe = is.safe;
    help_nats_kill(&node[0]);
    help_nats_kill(&node[1]);
    weir_batch *batch = make_batch(0, 1, is.next, 10, 20);
    batch->again = true;
    for (int i = 0; i < 3; i++) {
        double start = seconds_now();
        assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
        assert_true(seconds_now() - start < 20);
    }
    help_nats_start(&node[0]);
    help_nats_start(&node[1]);
    assert_int_equal(store_batch(&is, &batch), safe + 10);
    sender_end(&is);
    close_store(&store);
}

/*  A read that the server has answered.                                             */
static void read_in_the_end(weir_store *store, weir_read *read)
{
    const weir_read asked = *read;
    for (double end = seconds_now() + patience_s;;) {
        read_any(store, read);
        if (!weir_store_is_away(read->err)) break;
        if (seconds_now() > end) fail_msg("%s", read->text);
        weir_read_fini(read);
        *read = asked;
    }
    assert_int_equal(read->err, WEIR_OK);
}

/*  A consumer reads whichever replica it was made on, be it one that has not got yet what
    the others have acknowledged. For each of these reads one is made, since none has come
    to where it begins.                                                              */
static void replica_that_lags_does_not_end_the_stream(void **state)
{
    NEEDS_SERVER();
    weir_store *store = cluster_store();
    sender is;
    sender_begin(&is, store, 0, 1);
    send_until(&is, 200);
    sender_finish(&is);
    uint64_t first, last = is.safe;
    for (unsigned i = 0; i < 400; i++) {
        first = last + 1;
        weir_batch *batch = make_batch(0, 1, first, 2 + i % 40, 20);
        last = store_batch(&is, &batch);
        assert_int_equal(last, first + 1 + i % 40);
        weir_read read = {.after = {first, 0}, .max_records = 5000, .max_bytes = 8 << 20};
        read_in_the_end(store, &read);
        assert_int_equal(read.gap_count, 0);
        if (read.reached.a < last && !read.more)
            fail_msg("round %u: no more behind %" PRIu64 " of %" PRIu64, i,
                     read.reached.a, last);
        weir_read_fini(&read);
    }
    sender_end(&is);
    close_store(&store);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, start_cluster, end_cluster)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(replica_that_lags_does_not_end_the_stream),
        ON(records_are_stored_once_while_servers_come_and_go),
        ON(without_a_quorum_batches_are_tried_again),
    };
    if (getenv("ONLY")) cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
