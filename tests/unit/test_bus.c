#include "tests/unit/help_actor.h"
#include "actors/bus.h"
#include "actors/bus_queue.h"
#include <poll.h>
#include <pthread.h>

/* --- Set-up ------------------------------------------------------------------------ */

#define THREADS 4
#define EACH 5000

static member sink;
static trap_config trap_settings;
static char endpoint[64];
static weir_bus_config config;
static weir_bus *bus;
static weir_report report;

/*  What the sink saw, written by its thread and read when all is safe.        */
static struct {
    uint64_t next[THREADS]; // number that each thread's next record must have
    uint64_t disorder;
    weir_record last;
    char key[32], header[32];
} seen;

static void look_at(void *arg, const weir_record *record, const weir_run *origin)
{
    (void)arg;
    unsigned thread, number;
    char text[64] = "";
    assert_string_equal(origin->source, "host");
    memcpy(text, record->data, record->size < 63 ? record->size : 63);
    if (sscanf(text, "{\"t\":%u,\"n\":%u}", &thread, &number) == 2)
        seen.disorder += number != seen.next[thread]++;
    seen.last = *record;
    if (record->key.type == WEIR_STR)
        memcpy(seen.key, record->key.data, record->key.size);
    weir_value value;
    if (!record->headers) return;
    weir_record_header(record, "h", 1, &value);
    memcpy(seen.header, value.data, value.size);
}

static int open_sink(void **state)
{
    (void)state;
    static int number;
    memset(&seen, 0, sizeof seen);
    trap_settings = (trap_config){.look = look_at};
    snprintf(endpoint, sizeof endpoint, "inproc://bus-%d", number++);
    config = weir_bus_defaults;
    config.name = "host";
    config.connect = endpoint;
    return 0;
}

static void open_both(void)
{
    fill_node(&sink, &trap_settings.node, "sink");
    open_member(&sink, trap_actor, &trap_settings);
    listen_at(&sink, endpoint);
    start(&sink);
    assert_int_equal(weir_bus_new(&bus, &config, &report), WEIR_OK);
}

static void close_both(uint64_t expected)
{
    assert_int_equal(weir_bus_destroy(&bus, expected ? 20 : 60000), expected);
    assert_null(bus);
    stop(&sink);
}

static uint64_t append(const char *text)
{
    uint64_t ticket = 0;
    assert_int_equal(weir_bus_append_payload(bus, WEIR_JSON, text, strlen(text), &ticket),
                     WEIR_OK);
    return ticket;
}

static void release(int blocks)
{
    char text[16];
    snprintf(text, sizeof text, "%d", blocks);
    assert_int_equal(weir_actor_ask(sink.actor, NULL, "RELEASE", text, NULL), WEIR_OK);
}

/*  All that it has: between blocks it answers, and then their number is right.        */
static void release_all(void)
{
    assert_int_equal(weir_actor_ask(sink.actor, NULL, "HELP", NULL), WEIR_OK);
    release((int)trap_settings.blocks);
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

/* --- Order and tickets ------------------------------------------------------------- */

static void *append_many(void *arg)
{
    uint64_t last = 0;
    for (unsigned n = 0; n < EACH; n++) {
        char text[64];
        uint64_t ticket = 0;
        int size = snprintf(text, sizeof text, "{\"t\":%u,\"n\":%u}",
                            (unsigned)(uintptr_t)arg, n);
        if (weir_bus_append_payload(bus, WEIR_JSON, text, (size_t)size, &ticket))
            return "refused";
        if (ticket <= last) return "a ticket is not above the last one";
        last = ticket;
    }
    return NULL;
}

static void each_thread_keeps_its_order(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    config.block_bytes = 4096;
    config.window_bytes = 65536; // appends wait for each other, too
    open_both();
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, append_many, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *complaint;
        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
    assert_int_equal(weir_bus_flush(bus, 60000), WEIR_OK);
    assert_int_equal(weir_bus_acked(bus), THREADS * EACH);
    assert_int_equal(weir_bus_appended(bus), THREADS * EACH);
    assert_int_equal(trap_settings.records, THREADS * EACH);
    close_both(0);
    assert_int_equal(seen.disorder, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(seen.next[i], EACH);
}

static void
tickets_count_from_one_and_a_lone_record_does_not_wait_for_others(void **state)
{
    (void)state;
    open_both();
    assert_int_equal(append("{}"), 1);
    wait_until(weir_bus_acked(bus) == 1);
    assert_int_equal(append("{}"), 2);
    assert_int_equal(append("{}"), 3);
    wait_until(weir_bus_acked(bus) == 3);
    assert_int_equal(weir_bus_health(bus, NULL), WEIR_BUS_OPEN);
    close_both(0);
}

static void a_record_keeps_key_headers_and_time(void **state)
{
    (void)state;
    static const uint8_t headers[] = {0x81, 0xa1, 'h', 0xa5, 'v', 'a', 'l', 'u', 'e'};
    weir_record record = {
        .has_ts = true,
        .ts_ms = 1234567890123,
        .key = {.type = WEIR_STR, .data = (const uint8_t *)"the key", .size = 7},
        .format = WEIR_TEXT,
        .data = (const uint8_t *)"\xff\0raw",
        .size = 5,
        .headers = headers,
        .headers_size = sizeof headers,
    };
    open_both();
    assert_int_equal(weir_bus_append(bus, &record, NULL), WEIR_OK);
    assert_int_equal(weir_bus_flush(bus, 60000), WEIR_OK);
    close_both(0);
    assert_int_equal(seen.last.ts_ms, 1234567890123);
    assert_int_equal(seen.last.format, WEIR_TEXT);
    assert_int_equal(seen.last.size, 5);
    assert_string_equal(seen.key, "the key");
    assert_string_equal(seen.header, "value");
}

/* --- Acknowledgements -------------------------------------------------------------- */

static void what_is_not_safe_is_not_acknowledged(void **state)
{
    (void)state;
    uint64_t count;
    trap_settings.hold = true;
    config.linger_us = (int64_t)3600 * 1000000; // both travel together
    open_both();
    assert_int_equal(weir_bus_flush(bus, 0), WEIR_OK); // there is nothing
    append("{}");
    append("{}");
    assert_int_equal(weir_bus_flush(bus, 30), WEIR_ETIMEOUT);
    wait_until(trap_settings.records == 2);
    assert_int_equal(weir_bus_acked(bus), 0);
    assert_false(readable(weir_bus_fd(bus), 0));
    release(1);
    assert_true(readable(weir_bus_fd(bus), 60000));
    assert_int_equal(weir_bus_acked(bus), 2);
    assert_int_equal(read(weir_bus_fd(bus), &count, sizeof count), sizeof count);
    assert_false(readable(weir_bus_fd(bus), 0));
    append("{}");
    close_both(1);
}

static void fill_window(void)
{
    char text[1000];
    uint64_t ticket;
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 1000; i++)
        if (weir_bus_append_payload(bus, WEIR_TEXT, text, sizeof text, &ticket)) return;
    fail_msg("the window never became full");
}

static void a_full_window_refuses_who_does_not_wait(void **state)
{
    (void)state;
    trap_settings.hold = true;
    config.wait_us = 0;
    config.window_bytes = 100000;
    config.block_bytes = 8192;
    open_both();
    fill_window();
    uint64_t taken = weir_bus_appended(bus);
    assert_in_range(taken, 80, 101);
    wait_until(trap_settings.records == taken); // all of it is under way
    release_all();
    wait_until(weir_bus_acked(bus) == taken);
    assert_int_equal(append("{}"), taken + 1);
    close_both(1);
}

static void *append_one(void *arg)
{
    *(weir_err *)arg = weir_bus_append_payload(bus, WEIR_JSON, "{}", 2, NULL);
    return NULL;
}

static void a_full_window_holds_who_waits(void **state)
{
    (void)state;
    pthread_t thread;
    weir_err err = WEIR_ESYS;
    trap_settings.hold = true;
    config.wait_us = 1000000;
    config.window_bytes = 100000;
    config.block_bytes = 8192;
    open_both();
    int64_t begun_ms = zclock_mono();
    fill_window();
    assert_true(zclock_mono() - begun_ms >= 1000);
    uint64_t taken = weir_bus_appended(bus);
    wait_until(trap_settings.records == taken);
    pthread_create(&thread, NULL, append_one, &err);
    release_all(); // makes room, now or before it waits
    pthread_join(thread, NULL);
    assert_int_equal(err, WEIR_OK);
    assert_int_equal(weir_bus_appended(bus), taken + 1);
    close_both(1);
}

/* --- Failures ---------------------------------------------------------------------- */

/*  An inlet that answers the first HELLO with CLOSE.                          */
static void *turn_away(void *arg)
{
    weir_message message;
    weir_block *body;
    while (weir_socket_recv(arg, &message, &body) == WEIR_ENOTFOUND)
        zclock_sleep(1);
    weir_frame frame = {.type = WEIR_CLOSE};
    snprintf(frame.code, sizeof frame.code, "NO");
    snprintf(frame.text, sizeof frame.text, "not you");
    weir_socket_send(arg, message.id, message.id_size, &frame, NULL);
    return NULL;
}

static void a_reader_that_turns_it_away_takes_the_bus_down(void **state)
{
    (void)state;
    pthread_t thread;
    weir_socket *inlet;
    weir_report why = {0};
    config.window_bytes = 1;
    assert_int_equal(
        weir_socket_listen(&inlet, &(weir_endpoint){.endpoint = endpoint}, &report),
        WEIR_OK);
    assert_int_equal(weir_bus_new(&bus, &config, &report), WEIR_OK);
    append("{}");
    pthread_create(&thread, NULL, turn_away, inlet);
    assert_int_equal(weir_bus_append_payload(bus, WEIR_JSON, "{}", 2, NULL),
                     WEIR_ECLOSED); // it waited for room
    pthread_join(thread, NULL);
    assert_int_equal(weir_bus_health(bus, &why), WEIR_BUS_DOWN);
    assert_non_null(strstr(why.text, "not you"));
    assert_true(readable(weir_bus_fd(bus), 60000));
    assert_int_equal(weir_bus_flush(bus, -1), WEIR_ECLOSED);
    assert_int_equal(weir_bus_destroy(&bus, -1), 1);
    weir_socket_close(&inlet);
}

static void what_is_not_well_formed_is_refused(void **state)
{
    (void)state;
    static const uint8_t list[] = {0x91, 0x01}, cut[] = {0x81, 0xa1};
    static char large[4096];
    config.record_max = 2000;
    open_both();
    weir_record record = {.key = {.type = WEIR_STR, .data = list, .size = 2},
                          .data = (const uint8_t *)"{}",
                          .size = 2};
    assert_int_equal(weir_bus_append_payload(bus, WEIR_JSON, "\xff", 1, NULL),
                     WEIR_EMALFORMED);
    assert_int_equal(weir_bus_append_payload(bus, WEIR_MSGPACK, list, 2, NULL),
                     WEIR_EMALFORMED);
    assert_int_equal(weir_bus_append_payload(bus, WEIR_MSGPACK, cut, 2, NULL),
                     WEIR_EMALFORMED);
    assert_int_equal(weir_bus_append_payload(bus, WEIR_TEXT, large, 2001, NULL),
                     WEIR_ETOOBIG);
    assert_int_equal(weir_bus_append(bus, &record, NULL), WEIR_EMALFORMED);
    assert_int_equal(weir_bus_appended(bus), 0);
    close_both(0);
}

static void bad_settings_are_reported(void **state)
{
    (void)state;
    config.connect = NULL;
    assert_int_equal(weir_bus_new(&bus, &config, &report), WEIR_EINVAL);
    assert_null(bus);
    assert_true(report.text[0]);
    config.connect = "tcp://127.0.0.1:1";
    assert_int_equal(weir_bus_new(&bus, &config, &report), WEIR_EINVAL);
    assert_non_null(strstr(report.text, "plaintext"));
    config.server = "aggregator";
    config.keys = "/nowhere";
    assert_int_equal(weir_bus_new(&bus, &config, &report), WEIR_ENOTFOUND);
    assert_int_equal(weir_bus_new(&bus, &(weir_bus_config){.connect = "ipc://x"}, NULL),
                     WEIR_EINVAL);
    assert_int_equal(weir_bus_destroy(&bus, 0), 0);
}

static void a_peer_that_is_not_there_is_waited_for(void **state)
{
    (void)state;
    weir_report why;
    config.connect = "ipc:///tmp/weir-test-bus-nobody";
    assert_int_equal(weir_bus_new(&bus, &config, &report), WEIR_OK);
    assert_int_equal(weir_bus_health(bus, &why), WEIR_BUS_WAITING);
    assert_true(why.text[0]);
    append("{}");
    append("{}");
    assert_int_equal(weir_bus_flush(bus, 20), WEIR_ETIMEOUT);
    assert_int_equal(weir_bus_destroy(&bus, 20), 2);
}

static void a_ledger_that_is_full_refuses(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(200000);
    trap_settings.hold = true;
    config.ledger = ledger;
    config.wait_us = 0;
    config.block_bytes = 8192;
    open_both();
    fill_window();
    assert_true(weir_ledger_used(ledger) <= 200000);
    wait_until(trap_settings.records == weir_bus_appended(bus));
    release_all();
    close_both(0);
    wait_until(weir_ledger_used(ledger) == 0);
    weir_ledger_destroy(&ledger);
}

#define WITH_SINK(test) cmocka_unit_test_setup(test, open_sink)

/* --- The queue --------------------------------------------------------------------- */

static void count_wake(void *arg)
{
    ++*(int *)arg;
}

/*  A queue whose actor has seen one record, and will look again after an hour.  */
static weir_bus_queue *sleepy_queue(int *wakes)
{
    uint64_t last;
    int64_t wait_us;
    weir_bus_queue *queue =
        weir_bus_queue_new(&(weir_bus_queue_config){.window_bytes = 3000,
                                                    .block_bytes = 1000,
                                                    .linger_us = (int64_t)3600 * 1000000,
                                                    .wake = count_wake,
                                                    .arg = wakes});
    assert_null(weir_bus_queue_take(queue, &last, &wait_us));
    assert_int_equal(
        weir_bus_queue_payload(queue, WEIR_TEXT, (const uint8_t *)"x", 1, NULL), WEIR_OK);
    assert_int_equal(*wakes, 1);
    assert_null(weir_bus_queue_take(queue, &last, &wait_us));
    assert_true(wait_us > 0);
    return queue;
}

static void a_flush_sends_blocks_that_are_sealed_already(void **state)
{
    (void)state;
    int wakes = 0;
    uint8_t payload[1000] = {0};
    weir_bus_queue *queue = sleepy_queue(&wakes);
    assert_int_equal(
        weir_bus_queue_payload(queue, WEIR_TEXT, payload, sizeof payload, NULL), WEIR_OK);
    assert_int_equal(weir_bus_queue_flush(queue, 1000), WEIR_ETIMEOUT);
    assert_int_equal(wakes, 2);
    weir_bus_queue_destroy(&queue);
}

static void a_full_window_is_sent_at_once(void **state)
{
    (void)state;
    int wakes = 0;
    uint8_t payload[1000] = {0};
    weir_bus_queue *queue = sleepy_queue(&wakes);
    weir_err err = WEIR_OK;
    for (int i = 0; i < 10 && !err; i++)
        err = weir_bus_queue_payload(queue, WEIR_TEXT, payload, sizeof payload, NULL);
    assert_int_equal(err, WEIR_EFULL);
    assert_int_equal(wakes, 2);
    weir_bus_queue_destroy(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SINK(each_thread_keeps_its_order),
        WITH_SINK(tickets_count_from_one_and_a_lone_record_does_not_wait_for_others),
        WITH_SINK(a_record_keeps_key_headers_and_time),
        WITH_SINK(what_is_not_safe_is_not_acknowledged),
        WITH_SINK(a_full_window_refuses_who_does_not_wait),
        WITH_SINK(a_full_window_holds_who_waits),
        WITH_SINK(a_reader_that_turns_it_away_takes_the_bus_down),
        WITH_SINK(what_is_not_well_formed_is_refused),
        WITH_SINK(bad_settings_are_reported),
        WITH_SINK(a_peer_that_is_not_there_is_waited_for),
        WITH_SINK(a_ledger_that_is_full_refuses),
        cmocka_unit_test(a_flush_sends_blocks_that_are_sealed_already),
        cmocka_unit_test(a_full_window_is_sent_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
