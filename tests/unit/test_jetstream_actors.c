/*  source.jetstream and sink.jetstream as actors, against a real server, through cuts:
   what is stored, what comes, and that each record does once; probes; refusals. */
#include <inttypes.h>
#include "actors/sink_jetstream.h"
#include "actors/source_jetstream.h"
#include "help_nats_server.h"
#include "runtime/log.h"
#include "tests/unit/help_actor.h"

enum { records = 6000, block_records = 100 };

static void make_stream(client *self, const char *name, const char *subject)
{
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = &subject;
    config.SubjectsLen = 1;
    assert_int_equal(js_AddStream(NULL, self->js, &config, NULL, NULL), NATS_OK);
}

static uint64_t count_in(client *self, const char *stream)
{
    jsStreamInfo *info = NULL;
    if (js_GetStreamInfo(&info, self->js, stream, NULL, NULL)) return 0;
    uint64_t count = info->State.Msgs;
    jsStreamInfo_Destroy(info);
    return count;
}

/*  Payloads {"n":0}, .. in the order of the stream.                                  */
static void holds_each_in_order(client *self, const char *stream, uint64_t count)
{
    assert_int_equal(count_in(self, stream), count);
    for (uint64_t n = 0; n < count; n += 1 + n % 7) {
        natsMsg *msg = NULL;
        char text[32];
        assert_int_equal(js_GetMsg(&msg, self->js, stream, n + 1, NULL, NULL), NATS_OK);
        snprintf(text, sizeof text, "{\"n\":%" PRIu64 "}", n);
        assert_int_equal(natsMsg_GetDataLength(msg), strlen(text));
        assert_memory_equal(natsMsg_GetData(msg), text, strlen(text));
        natsMsg_Destroy(msg);
    }
}

static void publish(client *self, const char *subject, uint64_t count)
{
    char text[32];
    for (uint64_t n = 0; n < count; n++) {
        snprintf(text, sizeof text, "{\"n\":%" PRIu64 "}", n);
        assert_int_equal(
            js_PublishAsync(self->js, subject, text, (int)strlen(text), NULL), NATS_OK);
    }
    assert_int_equal(js_PublishAsyncComplete(self->js, NULL), NATS_OK);
}

/*  Messages that the consumer has not been acknowledged, and those to come.           */
static uint64_t left_of(client *self, const char *stream, const char *consumer)
{
    jsConsumerInfo *info = NULL;
    if (js_GetConsumerInfo(&info, self->js, stream, consumer, NULL, NULL))
        return UINT64_MAX;
    uint64_t left = info->NumPending + (uint64_t)info->NumAckPending;
    jsConsumerInfo_Destroy(info);
    return left;
}

/* --- The sink ---------------------------------------------------------------------- */

static const char *make_payload(uint64_t n, char text[256])
{
    if (n >= records) return NULL;
    snprintf(text, 256, "{\"n\":%" PRIu64 "}", n);
    return text;
}

typedef struct {
    member from, to;
    feed_config feed;
    weir_sink_jetstream_config sink;
    char url[128], endpoint[64];
} flow;

static void flow_begin(flow *self, const char *name, uint16_t port)
{
    self->feed = (feed_config){
        .make = make_payload, .block_records = block_records, .allowed = UINT64_MAX};
    self->sink = weir_sink_jetstream_defaults;
    self->sink.port.url = (char *)help_nats_url(port, NULL, self->url);
    self->sink.port.timeout_us = 500000;
    self->sink.port.retry_first_us = 5000;
    self->sink.port.retry_max_us = 50000;
    self->sink.port.window = 200;
    self->sink.subject = (char *)name;
    self->sink.stream = (char *)name;
    self->sink.id = "{n}";
    snprintf(self->endpoint, sizeof self->endpoint, "inproc://%s", name);
}

static void flow_start(flow *self)
{
    fill_node(&self->from, &self->feed.node, "in");
    fill_node(&self->to, &self->sink.node, "out");
    open_member(&self->to, weir_sink_jetstream, &self->sink);
    open_member(&self->from, feed_actor, &self->feed);
    listen_at(&self->to, self->endpoint);
    connect_to(&self->from, "in", self->endpoint);
    start(&self->to);
    start(&self->from);
}

static bool is_through(const flow *self)
{
    return self->feed.committed == records / block_records;
}

static void flow_end(flow *self)
{
    assert_balanced(&self->to);
    stop(&self->from);
    stop(&self->to);
}

static void cuts_of_the_sink_lose_and_double_nothing(void **state)
{
    NEEDS_SERVER();
    flow f = {0};
    client c = client_at(server.port, NULL);
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    flow_begin(&f, "cuts", help_proxy_port(proxy));
    flow_start(&f);
    for (int cut = 0; cut < 12 && !is_through(&f); cut++) {
        uint64_t done = count_of(&f.to, WEIR_COUNT_DONE);
        wait_until(count_of(&f.to, WEIR_COUNT_DONE) > done + 300 || is_through(&f));
        help_proxy_reset(proxy, cut % 3 ? 0 : 20); // what was sent arrives late
    }
    wait_until(is_through(&f));
    holds_each_in_order(&c, "cuts", records);
    assert_int_equal(count_of(&f.to, WEIR_COUNT_DONE), records);
    flow_end(&f);
    help_proxy_destroy(&proxy);
    client_end(&c);
}

static void a_server_that_is_silent_is_left(void **state)
{
    NEEDS_SERVER();
    flow f = {0};
    client c = client_at(server.port, NULL);
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    flow_begin(&f, "silent", help_proxy_port(proxy));
    flow_start(&f);
    wait_until(count_of(&f.to, WEIR_COUNT_DONE) > 500);
    unsigned before = help_proxy_connections(proxy);
    help_proxy_hold(proxy, true);
    wait_until(count_of(&f.to, WEIR_COUNT_RETRIES) > 0 || is_through(&f));
    help_proxy_hold(proxy, false);
    wait_until(is_through(&f));
    assert_true(help_proxy_connections(proxy) > before || is_through(&f));
    holds_each_in_order(&c, "silent", records);
    flow_end(&f);
    help_proxy_destroy(&proxy);
    client_end(&c);
}

static void an_entry_is_not_done_before_its_answers(void **state)
{
    NEEDS_SERVER();
    flow f = {0};
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    client c = client_at(server.port, NULL);
    flow_begin(&f, "held", help_proxy_port(proxy));
    f.sink.port.timeout_us = 60000000;
    f.feed.allowed = 3;
    flow_start(&f);
    wait_until(f.feed.committed == 3);
    help_proxy_hold_down(proxy, true);
    f.feed.allowed = UINT64_MAX;
    assert_int_equal(weir_actor_ask(f.from.actor, NULL, "LOOK", NULL), WEIR_OK);
    wait_until(count_in(&c, "held") >= 3 * block_records + 200); // a window
    assert_int_equal(f.feed.committed, 3);
    assert_int_equal(count_of(&f.to, WEIR_COUNT_DONE), 3 * block_records);
    help_proxy_hold_down(proxy, false);
    wait_until(is_through(&f));
    flow_end(&f);
    help_proxy_destroy(&proxy);
    client_end(&c);
}

static void without_ids_nothing_is_lost(void **state)
{
    NEEDS_SERVER();
    flow f = {0};
    client c = client_at(server.port, NULL);
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    flow_begin(&f, "noids", help_proxy_port(proxy));
    f.sink.id = NULL;
    f.sink.port.timeout_us = 20000000; // what is late would come again, too
    flow_start(&f);
    wait_until(count_of(&f.to, WEIR_COUNT_DONE) > 500);
    help_proxy_reset(proxy, 0);
    wait_until(is_through(&f));
    assert_true(count_in(&c, "noids") >= records);
    assert_true(count_in(&c, "noids") <= records + 200); // at most the window
    flow_end(&f);
    help_proxy_destroy(&proxy);
    client_end(&c);
}

/* --- The source -------------------------------------------------------------------- */

typedef struct {
    _Atomic uint64_t came, twice, wrong;
    uint8_t seen[records];
} tally;

static void look(void *arg, const weir_record *record, const weir_run *origin)
{
    tally *self = arg;
    char text[32];
    (void)origin;
    snprintf(text, sizeof text, "%.*s", (int)record->size, (const char *)record->data);
    uint64_t n = strtoull(text + 5, NULL, 10);
    if (n >= records)
        self->wrong++;
    else if (self->seen[n]++)
        self->twice++;
    else
        self->came++;
}

typedef struct {
    member from, to;
    weir_source_jetstream_config source;
    trap_config trap;
    tally tally;
    char url[128], endpoint[64];
} intake;

static void intake_begin(intake *self, const char *name, uint16_t port)
{
    self->source = weir_source_jetstream_defaults;
    self->source.port.url = (char *)help_nats_url(port, NULL, self->url);
    self->source.port.timeout_us = 500000;
    self->source.port.retry_first_us = 5000;
    self->source.port.retry_max_us = 50000;
    self->source.port.window = 200;
    self->source.ack_wait_us = 1000000;
    self->source.stream = (char *)name;
    self->source.durable = "d";
    self->trap = (trap_config){.look = look, .arg = &self->tally};
    snprintf(self->endpoint, sizeof self->endpoint, "inproc://%s", name);
}

static void intake_start(intake *self, zactor_fn *sink)
{
    fill_node(&self->from, &self->source.node, "in");
    fill_node(&self->to, &self->trap.node, "out");
    open_member(&self->to, sink, &self->trap);
    open_member(&self->from, weir_source_jetstream, &self->source);
    listen_at(&self->to, self->endpoint);
    connect_to(&self->from, "in", self->endpoint);
    start(&self->to);
    start(&self->from);
}

static void intake_end(intake *self)
{
    assert_balanced(&self->from);
    stop(&self->from);
    stop(&self->to);
}

static void cuts_of_the_source_lose_and_double_nothing(void **state)
{
    NEEDS_SERVER();
    static intake i;
    client c = client_at(server.port, NULL);
    make_stream(&c, "read", "read");
    publish(&c, "read", records);
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    intake_begin(&i, "read", help_proxy_port(proxy));
    intake_start(&i, trap_actor);
    for (int cut = 0; cut < 10 && i.tally.came < records; cut++) {
        uint64_t came = i.tally.came;
        wait_until(i.tally.came > came + 300 || i.tally.came == records);
        help_proxy_reset(proxy, cut % 2 ? 0 : 20);
    }
    wait_until(i.tally.came == records);
    wait_until(left_of(&c, "read", "d") == 0);
    assert_int_equal(i.tally.twice, 0);
    assert_int_equal(i.tally.wrong, 0);
    intake_end(&i);
    help_proxy_destroy(&proxy);
    client_end(&c);
}

/*  A sink holds everything: the window bounds what is under way, and the server delivers
    nothing twice, however long that takes.                                         */
static void the_window_bounds_what_is_under_way(void **state)
{
    NEEDS_SERVER();
    static intake i;
    client c = client_at(server.port, NULL);
    make_stream(&c, "bound", "bound");
    publish(&c, "bound", 2000);
    intake_begin(&i, "bound", server.port);
    i.trap.hold = true;
    i.source.ack_wait_us = 3000000;
    intake_start(&i, trap_actor);
    wait_until(i.tally.came == 200);
    int64_t end_us = weir_clock_now_us() + 4500000;
    while (weir_clock_now_us() < end_us) {
        jsConsumerInfo *info = NULL;
        assert_int_equal(js_GetConsumerInfo(&info, c.js, "bound", "d", NULL, NULL),
                         NATS_OK);
        assert_int_equal(info->NumRedelivered, 0);
        assert_int_equal(info->NumAckPending, 200);
        jsConsumerInfo_Destroy(info);
        assert_int_equal(i.tally.came, 200);
        zclock_sleep(20);
    }
    for (int n = 0; i.tally.came < 2000 && n < 5000; n++) {
        weir_actor_ask(i.to.actor, NULL, "RELEASE", "1000", NULL);
        zclock_sleep(1);
    }
    wait_until(i.tally.came == 2000);
    weir_actor_ask(i.to.actor, NULL, "RELEASE", "1000", NULL);
    wait_until(left_of(&c, "bound", "d") == 0);
    assert_int_equal(i.tally.twice, 0);
    intake_end(&i);
    client_end(&c);
}

/*  The source ends with all of it under way: another one has it at once.              */
static void what_is_given_back_comes_to_another_one(void **state)
{
    NEEDS_SERVER();
    static intake i, other;
    client c = client_at(server.port, NULL);
    make_stream(&c, "back", "back");
    publish(&c, "back", 150);
    intake_begin(&i, "back", server.port);
    i.trap.hold = true;
    i.source.ack_wait_us = 600000000;
    intake_start(&i, trap_actor);
    wait_until(i.tally.came == 150);
    stop(&i.from);
    stop(&i.to);
    intake_begin(&other, "back", server.port);
    intake_start(&other, trap_actor);
    wait_until(other.tally.came == 150);
    wait_until(left_of(&c, "back", "d") == 0);
    intake_end(&other);
    client_end(&c);
}

static uint64_t deliveries_of(client *self, const char *stream, const char *consumer)
{
    jsConsumerInfo *info = NULL;
    if (js_GetConsumerInfo(&info, self->js, stream, consumer, NULL, NULL)) return 0;
    uint64_t count = info->Delivered.Consumer;
    jsConsumerInfo_Destroy(info);
    return count;
}

/*  Somebody gives back what is under way here; it is delivered again, and is known. */
static void what_is_under_way_is_known_again(void **state)
{
    NEEDS_SERVER();
    static intake i;
    client c = client_at(server.port, NULL);
    make_stream(&c, "known", "known");
    publish(&c, "known", 10);
    intake_begin(&i, "known", server.port);
    i.trap.hold = true;
    intake_start(&i, trap_actor);
    wait_until(i.tally.came == 10);
    for (int n = 1; n <= 10; n++) {
        char subject[64];
        snprintf(subject, sizeof subject, "$JS.ACK.known.d.1.%d.%d.1.0", n, n);
        assert_int_equal(natsConnection_PublishString(c.connection, subject, "-NAK"),
                         NATS_OK);
    }
    wait_until(deliveries_of(&c, "known", "d") >= 20);
    publish(&c, "known", 11); // behind what came again
    wait_until(i.tally.came + i.tally.twice + i.tally.wrong == 21);
    assert_int_equal(i.tally.twice, 10); // of the new ones
    weir_actor_ask(i.to.actor, NULL, "RELEASE", "1000", NULL);
    wait_until(left_of(&c, "known", "d") == 0);
    intake_end(&i);
    client_end(&c);
}

static void the_end_waits_until_the_server_knows(void **state)
{
    NEEDS_SERVER();
    static intake i;
    client c = client_at(server.port, NULL);
    make_stream(&c, "last", "last");
    publish(&c, "last", 100);
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    intake_begin(&i, "last", help_proxy_port(proxy));
    i.source.port.timeout_us = 20000000;
    i.trap.hold = true;
    intake_start(&i, trap_actor);
    wait_until(i.tally.came == 100);
    help_proxy_hold(proxy, true);
    weir_actor_ask(i.to.actor, NULL, "RELEASE", "1000", NULL);
    wait_until(count_of(&i.from, WEIR_COUNT_COMMITS) > 0 &&
               count_of(&i.from, WEIR_COUNT_RESIDENT) == 0);
    assert_int_equal(weir_actor_ask(i.from.actor, NULL, "DRAIN", NULL), WEIR_OK);
    for (int n = 0; n < 100; n++, zclock_sleep(2))
        assert_int_not_equal(i.from.vitals.state, WEIR_STATE_ENDED);
    help_proxy_hold(proxy, false);
    wait_until(i.from.vitals.state == WEIR_STATE_ENDED);
    assert_int_equal(left_of(&c, "last", "d"), 0);
    intake_end(&i);
    help_proxy_destroy(&proxy);
    client_end(&c);
}

/* --- Refusals ---------------------------------------------------------------------- */

typedef struct {
    weir_actor *kit;
} refuser;

static weir_err refuser_init(void *arg, weir_actor *kit, const void *config,
                             weir_report *report)
{
    (void)config, (void)report;
    ((refuser *)arg)->kit = kit;
    return WEIR_OK;
}

static void refuser_recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    (void)block;
    weir_actor_refuse(((refuser *)arg)->kit, entry, "invalid", "nobody wants it", false);
}

static void refuser_actor(zsock_t *pipe, void *config);
static const weir_class refuser_class = {
    .name = "test.refuser",
    .help = "refuses all",
    .actor = refuser_actor,
    .size = sizeof(refuser),
    .config_size = sizeof(trap_config),
    .options = no_options,
    .inlet = true,
    .init = refuser_init,
    .recv_block = refuser_recv_block,
};

static void refuser_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&refuser_class, pipe, config);
}

static void what_is_refused_for_good_is_a_dead_letter_and_acknowledged(void **state)
{
    NEEDS_SERVER();
    static intake i;
    char folder[] = "/tmp/test_jetstream.XXXXXX", path[64];
    client c = client_at(server.port, NULL);
    assert_non_null(mkdtemp(folder));
    make_stream(&c, "bad", "bad");
    publish(&c, "bad", 100);
    intake_begin(&i, "bad", server.port);
    i.source.node.state_dir = folder;
    intake_start(&i, refuser_actor);
    wait_until(left_of(&c, "bad", "d") == 0);
    wait_until(count_of(&i.from, WEIR_COUNT_DEAD) == 100);
    intake_end(&i);
    snprintf(path, sizeof path, "%s/dead.ndjson", folder);
    assert_int_equal(unlink(path), 0);
    rmdir(folder);
    client_end(&c);
}

/* --- Probes ------------------------------------------------------------------------ */

static void probes_tell_what_is_there(void **state)
{
    NEEDS_SERVER();
    char url[128];
    weir_report report = {0};
    client c = client_at(server.port, NULL);
    weir_source_jetstream_config source = weir_source_jetstream_defaults;
    weir_sink_jetstream_config sink = weir_sink_jetstream_defaults;
    source.port.url = sink.port.url = (char *)help_nats_url(server.port, NULL, url);
    source.stream = sink.stream = "probed";
    source.durable = "d";
    sink.subject = "probed";
    assert_int_equal(weir_source_jetstream_class.probe(&source, 5000000, &report),
                     WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "there is no such stream"));
    assert_int_equal(weir_sink_jetstream_class.probe(&sink, 5000000, &report), WEIR_OK);
    assert_non_null(strstr(report.text, "would be made"));
    make_stream(&c, "probed", "probed");
    assert_int_equal(weir_source_jetstream_class.probe(&source, 5000000, &report),
                     WEIR_OK);
    assert_non_null(strstr(report.text, "would be made"));
    assert_int_equal(weir_sink_jetstream_class.probe(&sink, 5000000, &report), WEIR_OK);
    assert_non_null(strstr(report.text, "is there"));
    sink.subject = "other.{a}";
    assert_int_equal(weir_sink_jetstream_class.probe(&sink, 5000000, &report),
                     WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "does not have the subject other.*"));
    assert_int_equal(left_of(&c, "probed", "d"), UINT64_MAX); // nothing was made
    client_end(&c);
}

static void probes_tell_why_a_server_does_not_answer(void **state)
{
    NEEDS_SERVER();
    char url[128];
    weir_report report = {0};
    weir_sink_jetstream_config sink = weir_sink_jetstream_defaults;
    sink.port.url = (char *)help_nats_url(help_server_port(), "u:s3cret", url);
    sink.subject = "x";
    int64_t begin_us = weir_clock_now_us();
    assert_int_equal(weir_sink_jetstream_class.probe(&sink, 60000000, &report),
                     WEIR_ECLOSED);
    assert_non_null(strstr(report.text, "refused"));
    assert_null(strstr(report.text, "s3cret"));
    assert_null(strstr(report.where, "s3cret"));
    assert_true(weir_clock_now_us() - begin_us < 30000000); // it does not try for ever
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    help_proxy_hold(proxy, true);
    sink.port.url = (char *)help_nats_url(help_proxy_port(proxy), NULL, url);
    begin_us = weir_clock_now_us();
    assert_int_not_equal(weir_sink_jetstream_class.probe(&sink, 300000, &report),
                         WEIR_OK);
    assert_true(weir_clock_now_us() - begin_us < 30000000);
    help_proxy_destroy(&proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_of_the_sink_lose_and_double_nothing),
        cmocka_unit_test(a_server_that_is_silent_is_left),
        cmocka_unit_test(an_entry_is_not_done_before_its_answers),
        cmocka_unit_test(without_ids_nothing_is_lost),
        cmocka_unit_test(cuts_of_the_source_lose_and_double_nothing),
        cmocka_unit_test(the_window_bounds_what_is_under_way),
        cmocka_unit_test(what_is_given_back_comes_to_another_one),
        cmocka_unit_test(what_is_under_way_is_known_again),
        cmocka_unit_test(the_end_waits_until_the_server_knows),
        cmocka_unit_test(what_is_refused_for_good_is_a_dead_letter_and_acknowledged),
        cmocka_unit_test(probes_tell_what_is_there),
        cmocka_unit_test(probes_tell_why_a_server_does_not_answer),
    };
    weir_log_configure(WEIR_ERROR, false, STDERR_FILENO);
    return cmocka_run_group_tests(tests, start_server, end_server);
}
