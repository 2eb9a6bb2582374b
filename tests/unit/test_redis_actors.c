/*  source.redis and sink.redis against a real server, with connections that are cut at
   any byte, and looks at a server before anything runs. */
#include "help_actor.h"

#include "help_redis.h" // behind it, since names of theirs meet

#include "actors/redis_probe.h"
#include "actors/sink_redis.h"
#include "actors/source_redis.h"

/*  A new one for each chain: a name is taken until libzmq has closed the socket.     */
static const char *new_endpoint(void)
{
    static char endpoint[48];
    static int number;
    snprintf(endpoint, sizeof endpoint, "inproc://redis-actors-%d", ++number);
    return endpoint;
}

static char through[64]; // url by the proxy
static help_proxy *proxy;

static int begin_with_proxy(void **state)
{
    if (begin(state)) return -1;
    proxy = help_proxy_start(local, 0);
    snprintf(through, sizeof through, "redis://127.0.0.1:%u", help_proxy_port(proxy));
    return 0;
}

static int end_with_proxy(void **state)
{
    help_proxy_destroy(&proxy);
    return end(state);
}

#define ON_PROXY(test)                                                                   \
    cmocka_unit_test_setup_teardown(test, begin_with_proxy, end_with_proxy)

static weir_redis_server quick_server(void)
{
    weir_redis_server config = WEIR_REDIS_SERVER_DEFAULTS;
    config.url = through;
    config.wait = (weir_retry_wait){1000, 10000};
    return config;
}

/* --- The sink ---------------------------------------------------------------------- */

enum { total = 2000 };

static const char *make(uint64_t n, char text[256])
{
    if (n == total) return NULL;
    snprintf(text, 256, "{\"n\":%" PRIu64 ",\"s\":%" PRIu64 "}", n, n % 3);
    return text;
}

typedef struct {
    feed_config in_config;
    weir_sink_redis_config out_config;
    member in, out;
} chain;

static void begin_chain(chain *self, const char *id)
{
    self->in_config =
        (feed_config){.make = make, .block_records = 50, .allowed = UINT64_MAX};
    self->out_config = weir_sink_redis_defaults;
    self->out_config.server = quick_server();
    self->out_config.stream = (char *)"s:{s}";
    self->out_config.id = (char *)id;
    self->out_config.window = 120;
    fill_node(&self->in, &self->in_config.node, "in");
    fill_node(&self->out, &self->out_config.node, "out");
    open_member(&self->out, weir_sink_redis, &self->out_config);
    open_member(&self->in, feed_actor, &self->in_config);
    const char *endpoint = new_endpoint();
    listen_at(&self->out, endpoint);
    connect_to(&self->in, "in", endpoint);
    start(&self->out);
    start(&self->in);
}

static void end_chain(chain *self)
{
    wait_until(self->in.vitals.state == WEIR_STATE_ENDED);
    assert_int_equal(count_of(&self->out, WEIR_COUNT_DONE), total);
    assert_balanced(&self->out);
    stop(&self->in);
    stop(&self->out);
}

/*  Each stream has its numbers in order. once: and none twice.                       */
static void check_numbers(bool once)
{
    for (int k = 0; k < 3; k++) {
        redisReply *all = say("XRANGE s:%d - +", k);
        long long wanted = k, last = -1;
        for (size_t i = 0; i < all->elements; i++) {
            const redisReply *fields = all->element[i]->element[1];
            long long n = -1;
            assert_string_equal(fields->element[0]->str, "data");
            assert_int_equal(sscanf(fields->element[1]->str, "{\"n\":%lld", &n), 1);
            if (once) assert_int_equal(n, wanted);
            if (n > wanted) fail_msg("s:%d has %lld instead of %lld", k, n, wanted);
            if (n == wanted) wanted += 3;
            last = n;
        }
        assert_true(last + 3 >= total && wanted >= total);
        freeReplyObject(all);
    }
}

static void cut_and_count(const char *id, bool up, unsigned most)
{
    chain self;
    unsigned cuts = help_proxy_cuts(proxy);
    DO("FLUSHALL");
    size_t at = draw(most);
    print_message("cut %s after %zu bytes\n", up ? "up" : "down", at);
    (up ? help_proxy_cut_up : help_proxy_cut_down)(proxy, at + 1);
    begin_chain(&self, id);
    end_chain(&self);
    if (most < 20000) assert_int_equal(help_proxy_cuts(proxy), cuts + 1);
    check_numbers(id != NULL);
}

static void no_record_with_an_id_is_doubled_wherever_it_is_cut(void **state)
{
    (void)state;
    choose_seed();
    for (int i = 0; i < 40; i++)
        cut_and_count("{n}", i % 2, i % 2 ? 100000 : 200);
}

/*  What was sent may be there twice, and then all of a chunk is.                     */
static void no_record_without_an_id_is_lost_wherever_it_is_cut(void **state)
{
    (void)state;
    choose_seed();
    for (int i = 0; i < 40; i++)
        cut_and_count(NULL, i % 2, i % 2 ? 100000 : 10000);
}

static bool waits_for(member *self, const char *words)
{
    weir_wait waits[WEIR_WAITS_MAX];
    size_t count = weir_vitals_waits(&self->vitals, waits);
    for (size_t i = 0; i < count; i++)
        if (strstr(waits[i].text, words)) return true;
    return false;
}

static void what_it_waits_for_is_told_and_ends(void **state)
{
    (void)state;
    chain self;
    redisReply *reply = say("CONFIG SET maxmemory 1");
    freeReplyObject(reply);
    begin_chain(&self, "{n}");
    wait_until(waits_for(&self.out, "OOM"));
    DO("CONFIG SET maxmemory 0");
    wait_until(!waits_for(&self.out, "OOM"));
    end_chain(&self);
    assert_true(count_of(&self.out, WEIR_COUNT_RETRIES) > 0);
    check_numbers(true);
}

/* --- The source -------------------------------------------------------------------- */

typedef struct {
    weir_source_redis_config in_config;
    trap_config out_config;
    member in, out;
    uint8_t seen[total];
} intake;

static void look_at(void *arg, const weir_record *record, const weir_run *origin)
{
    intake *self = arg;
    long long n = -1;
    char text[64] = "";
    (void)origin;
    memcpy(text, record->data, record->size < 63 ? record->size : 63);
    if (sscanf(text, "{\"n\":%lld", &n) == 1 && n >= 0 && n < total) self->seen[n]++;
}

static void begin_intake(intake *self, bool hold_acks)
{
    static const char *streams[] = {"s"};
    *self = (intake){.out_config.hold = hold_acks};
    self->out_config.look = look_at;
    self->out_config.arg = self;
    self->in_config = weir_source_redis_defaults;
    self->in_config.server = quick_server();
    self->in_config.streams = (weir_texts){(char **)(uintptr_t)streams, 1};
    self->in_config.field = (char *)"data";
    self->in_config.group = (char *)"g";
    self->in_config.window = 200;
    fill_node(&self->in, &self->in_config.node, "in");
    fill_node(&self->out, &self->out_config.node, "out");
    open_member(&self->out, trap_actor, &self->out_config);
    open_member(&self->in, weir_source_redis, &self->in_config);
    const char *endpoint = new_endpoint();
    listen_at(&self->out, endpoint);
    connect_to(&self->in, "in", endpoint);
    start(&self->out);
    start(&self->in);
}

static long long pending_entries(void)
{
    redisReply *reply = say("XPENDING s g");
    long long count = reply->type == REDIS_REPLY_ARRAY ? reply->element[0]->integer : -1;
    freeReplyObject(reply);
    return count;
}

static void add_numbers(uint64_t from, uint64_t to)
{
    char text[256];
    for (uint64_t n = from; n < to; n++) {
        make(n, text);
        redisAppendCommand(client, "XADD s * data %s", text);
    }
    for (uint64_t n = from; n < to; n++) {
        redisReply *reply = NULL;
        assert_int_equal(redisGetReply(client, (void **)&reply), REDIS_OK);
        freeReplyObject(reply);
    }
}

static void end_intake(intake *self)
{
    stop(&self->in);
    stop(&self->out);
}

static void each_entry_is_given_once_wherever_it_is_cut(void **state)
{
    (void)state;
    choose_seed();
    for (int i = 0; i < 30; i++) {
        intake self;
        bool up = i % 2;
        DO("FLUSHALL");
        add_numbers(0, total);
        size_t at = draw(up ? 20000 : 100000);
        print_message("cut %s after %zu bytes\n", up ? "up" : "down", at);
        (up ? help_proxy_cut_up : help_proxy_cut_down)(proxy, at + 1);
        begin_intake(&self, false);
        wait_until(count_of(&self.in, WEIR_COUNT_DONE) == total &&
                   pending_entries() == 0);
        end_intake(&self);
        for (int n = 0; n < total; n++)
            assert_int_equal(self.seen[n], 1);
    }
}

static void no_more_than_the_window_is_pending(void **state)
{
    (void)state;
    intake self;
    add_numbers(0, total);
    begin_intake(&self, true);
    wait_until(count_of(&self.in, WEIR_COUNT_RESIDENT) > 150);
    assert_in_range(pending_entries(), 151, 200);
    assert_in_range(count_of(&self.in, WEIR_COUNT_RESIDENT), 151, 200);
    wait_until(self.out_config.blocks > 0);
    assert_int_equal(weir_actor_ask(self.out.actor, NULL, "RELEASE", "1", NULL), WEIR_OK);
    wait_until(count_of(&self.in, WEIR_COUNT_DONE) > 0);
    assert_true(pending_entries() <= 200);
    end_intake(&self);
    assert_true(pending_entries() > 0); // what was not safe comes again
}

/* --- Looking ------------------------------------------------------------------------ */

static void probe(const weir_class *class, const void *config, weir_err wanted,
                  const char *words)
{
    weir_report report = {0};
    assert_int_equal(class->probe(config, 2000000, &report), wanted);
    if (!strstr(report.text, words)) fail_msg("not \"%s\": %s", words, report.text);
    assert_null(strstr(report.text, "secret"));
}

static void a_look_tells_what_is_there_and_changes_nothing(void **state)
{
    (void)state;
    static const char *streams[] = {"s"};
    weir_sink_redis_config out = weir_sink_redis_defaults;
    weir_source_redis_config in = weir_source_redis_defaults;
    out.server.url = in.server.url = url;
    out.stream = (char *)"s";
    in.streams = (weir_texts){(char **)(uintptr_t)streams, 1};
    in.node = (weir_node){.topology = "t", .name = "in"};
    probe(&weir_sink_redis_class, &out, WEIR_OK, "not there yet");
    probe(&weir_source_redis_class, &in, WEIR_OK, "not there yet");
    out.stream = (char *)"s:{a}";
    probe(&weir_sink_redis_class, &out, WEIR_OK, "it is there");
    assert_int_equal(number_of(say("DBSIZE")), 0);
    out.stream = (char *)"s";
    DO("XADD s 1-1 a b");
    probe(&weir_sink_redis_class, &out, WEIR_OK, "a stream");
    probe(&weir_source_redis_class, &in, WEIR_OK, "group 't/in' is new");
    DO("XGROUP CREATE s t/in 0");
    probe(&weir_source_redis_class, &in, WEIR_OK, "with the group 't/in'");
    DO("SET other text");
    out.stream = (char *)"other";
    probe(&weir_sink_redis_class, &out, WEIR_EREFUSED, "no stream but a string");
    DO("REPLICAOF 127.0.0.1 1");
    probe(&weir_sink_redis_class, &out, WEIR_EREFUSED, "replica");
    DO("REPLICAOF NO ONE");
    out.server.url = (char *)"redis://127.0.0.1:1";
    probe(&weir_sink_redis_class, &out, WEIR_ETIMEOUT, "refused");
    char wrong[160];
    snprintf(wrong, sizeof wrong, "unix://:secret@%s", local);
    out.server.url = wrong;
    DO("CONFIG SET requirepass right");
    probe(&weir_sink_redis_class, &out, WEIR_EREFUSED, "WRONGPASS");
    out.server.url = url;
    probe(&weir_sink_redis_class, &out, WEIR_EREFUSED, "NOAUTH");
    help_server_pause(server);
    probe(&weir_sink_redis_class, &out, WEIR_ETIMEOUT, "no answer in 2000 ms");
    help_server_resume(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_PROXY(no_record_with_an_id_is_doubled_wherever_it_is_cut),
        ON_PROXY(no_record_without_an_id_is_lost_wherever_it_is_cut),
        ON_PROXY(what_it_waits_for_is_told_and_ends),
        ON_PROXY(each_entry_is_given_once_wherever_it_is_cut),
        ON_PROXY(no_more_than_the_window_is_pending),
        ON_SERVER(a_look_tells_what_is_there_and_changes_nothing),
    };
    RUN_IF_THERE(tests);
}
