/*  Uplinks over real sockets, ipc and tcp, on the virtual clock: who answers and who does
    not, the waits between attempts, and cuts. The other end lives in the same thread: a
    socket that the test answers from, or an inlet.                                */
#include "runtime/clock.h"
#include "runtime/uplink.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define BLOCKS_MAX 1000
#define PATIENCE_S 60 // of the real clock, for what the kernel and libzmq do

static const int64_t connect_us = 5000000;

typedef struct {
    weir_realm *realm;
    weir_loop loop;
    char endpoint[128];
    /*  The uplink's owner.                                                    */
    weir_uplink *uplink;
    uint64_t acked;
    size_t wakes;
    /*  The other end.                                                         */
    weir_socket *server;
    weir_inlet *inlet; // NULL: the test answers
    weir_peer *peer;
    uint64_t taken[BLOCKS_MAX];
    size_t taken_count;
    uint8_t id[256]; // of the connection that the last message came from
    size_t id_size, hellos;
    int fd; // that connection's
    weir_frame last;
} bench;

/* --- The uplink's owner ------------------------------------------------------------ */

static void on_wake(void *arg)
{
    bench *b = arg;
    b->wakes++;
}

static void on_acked(void *arg, uint64_t sequence)
{
    bench *b = arg;
    assert_true(sequence > b->acked);
    b->acked = sequence;
}

static void on_refused(void *arg, uint64_t sequence, weir_block *block, const char *code,
                       const char *text)
{
    (void)arg;
    (void)block;
    fail_msg("%llu was refused: %s: %s", (unsigned long long)sequence, code, text);
}

static void on_failed(void *arg, weir_err err, const char *text)
{
    (void)arg;
    fail_msg("failed: %d: %s", err, text);
}

static void open_uplink(bench *b)
{
    weir_report report = {0};
    weir_uplink_config config = {
        .endpoint = {.endpoint = b->endpoint,
                     .realm = b->realm,
                     .plaintext = true,
                     .connect_us = connect_us},
        .backoff = weir_backoff_defaults,
        .loop = &b->loop,
        .outlet = {.node = "web", .name = "up", .session = 4711, .window_bytes = 1 << 20},
        .wake = on_wake,
        .acked = on_acked,
        .refused = on_refused,
        .failed = on_failed,
        .arg = b,
    };
    if (weir_uplink_new(&b->uplink, &config, &report)) fail_msg("%s", report.text);
}

static void send_block(bench *b, unsigned number)
{
    char text[32];
    uint64_t sequence;
    int size = snprintf(text, sizeof text, "%u", number);
    weir_builder builder = {.target = 1};
    weir_builder_add_payload(&builder, WEIR_JSON, (uint8_t *)text, (size_t)size,
                             &(weir_run){.source = "s"});
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_outlet_send(weir_uplink_outlet(b->uplink), &block, &sequence);
}

/* --- The other end ----------------------------------------------------------------- */

static weir_err answer(void *arg, const void *id, size_t id_size, const weir_frame *frame)
{
    bench *b = arg;
    return weir_socket_send(b->server, id, id_size, frame, NULL);
}

static void take_block(void *arg, weir_peer *peer, uint64_t sequence,
                       weir_block **block_p)
{
    bench *b = arg;
    weir_iterator walk = {.block = *block_p};
    weir_record record;
    assert_true(b->taken_count < BLOCKS_MAX);
    assert_true(weir_iterator_next(&walk, &record, NULL));
    b->taken[b->taken_count++] = strtoull((const char *)record.data, NULL, 10);
    b->peer = peer;
    weir_inlet_grant(b->inlet, peer, weir_block_cost(*block_p));
    weir_inlet_ack(b->inlet, peer, sequence);
}

static const weir_inlet_events events = {.send = answer, .block = take_block};

static void listen_at(bench *b, const char *endpoint)
{
    weir_report report = {0};
    weir_endpoint at = {.endpoint = endpoint, .realm = b->realm, .plaintext = true};
    if (weir_socket_listen(&b->server, &at, &report)) fail_msg("%s", report.text);
    snprintf(b->endpoint, sizeof b->endpoint, "%s", weir_socket_endpoint(b->server));
}

static void open_inlet(bench *b)
{
    b->inlet = weir_inlet_new(
        &(weir_inlet_config){.window_bytes = 100000, .events = &events, .arg = b});
}

static void reply(bench *b, const weir_frame *frame)
{
    assert_int_equal(weir_socket_send(b->server, b->id, b->id_size, frame, NULL),
                     WEIR_OK);
}

static void welcome(bench *b)
{
    reply(b, &(weir_frame){
                 .type = WEIR_WELCOME, .version = WEIR_WIRE_VERSION, .bytes = 1 << 20});
}

static void serve(bench *b)
{
    weir_message message;
    weir_block *body;
    while (b->server && weir_socket_recv(b->server, &message, &body) == WEIR_OK) {
        b->id_size = message.id_size;
        memcpy(b->id, message.id, message.id_size);
        b->fd = weir_socket_sender_fd(b->server);
        b->last = message.frame;
        b->hellos += message.frame.type == WEIR_HELLO;
        if (b->inlet) weir_inlet_recv(b->inlet, b->id, b->id_size, &message.frame, &body);
        weir_block_destroy(&body);
    }
    if (b->inlet) weir_inlet_flush(b->inlet);
}

/* --- Bench ------------------------------------------------------------------------- */

static int new_bench(void **state)
{
    bench *b = calloc(1, sizeof *b);
    weir_report report = {0};
    if (!b || weir_realm_new(&b->realm, NULL, &report)) return -1;
    *state = b;
    return weir_loop_init(&b->loop, b);
}

static int free_bench(void **state)
{
    bench *b = *state;
    weir_uplink_destroy(&b->uplink);
    weir_inlet_destroy(&b->inlet);
    weir_socket_close(&b->server);
    weir_loop_fini(&b->loop);
    weir_realm_destroy(&b->realm);
    free(b);
    return 0;
}

/*  One turn of both ends; the real clock goes on, the virtual one stands.     */
static void turn(bench *b)
{
    weir_loop_wait(&b->loop, weir_clock_now_us(), false);
    weir_uplink_run_due(b->uplink);
    weir_uplink_read(b->uplink);
    weir_uplink_flush(b->uplink);
    serve(b);
}

static double real_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#define turn_until(b, condition)                                                         \
    do {                                                                                 \
        double give_up = real_seconds() + PATIENCE_S;                                    \
        while (!(condition) && real_seconds() < give_up)                                 \
            turn(b);                                                                     \
        if (!(condition)) fail_msg("%s: %s", #condition, trouble(b));                    \
    } while (0)

static const char *trouble(const bench *b)
{
    return weir_uplink_trouble(b->uplink);
}

static bool says(const bench *b, const char *text)
{
    return strstr(trouble(b), text);
}

static bool is_open(const bench *b)
{
    return weir_outlet_is_open(weir_uplink_outlet(b->uplink));
}

static int64_t due_in(const bench *b)
{
    int64_t due = weir_uplink_deadline(b->uplink);
    return due < 0 ? -1 : due - weir_clock_now_us();
}

/*  Waits for the time that is due, and not a microsecond longer.              */
static void let_it_fall_due(bench *b)
{
    int64_t us = due_in(b);
    assert_true(us > 0);
    weir_clock_advance(us - 1);
    int64_t before = weir_uplink_deadline(b->uplink);
    turn(b);
    assert_int_equal(weir_uplink_deadline(b->uplink), before);
    weir_clock_advance(1);
    turn(b);
}

/*  Ends the connection under both.                                            */
static void cut(bench *b)
{
    shutdown(b->fd, SHUT_RDWR);
}

/*  A port of the loopback behind which nobody listens, or, with backlog, somebody who
    never says a word. Gives the socket.                                       */
static int mute_port(bench *b, bool listens)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    if (listens) assert_int_equal(listen(fd, 8), 0);
    getsockname(fd, (struct sockaddr *)&at, &size);
    snprintf(b->endpoint, sizeof b->endpoint, "tcp://127.0.0.1:%d", ntohs(at.sin_port));
    return fd;
}

/* --- Connecting -------------------------------------------------------------------- */

static void deliver(bench *b, const char *endpoint)
{
    listen_at(b, endpoint);
    open_inlet(b);
    open_uplink(b);
    assert_true(says(b, "not connected yet"));
    for (unsigned i = 1; i <= 50; i++)
        send_block(b, i);
    turn_until(b, b->acked == 50);
    assert_int_equal(b->taken_count, 50);
    assert_string_equal(trouble(b), "");
    assert_int_equal(weir_uplink_deadline(b->uplink), -1);
    assert_int_equal(weir_uplink_connects(b->uplink), 1);
}

static void it_connects_and_delivers_over_tcp(void **state)
{
    deliver(*state, "tcp://127.0.0.1:*");
}

static void it_connects_and_delivers_over_ipc(void **state)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "ipc:///tmp/weir-uplink-%d", (int)getpid());
    deliver(*state, endpoint);
    unlink(endpoint + 6);
}

/*  The waits between attempts double up to the ceiling, with a jitter of 20 %.  */
static void check_backoff(bench *b, const char *cause)
{
    static const int64_t waits_ms[] = {100, 200, 400, 500, 500, 500};
    for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++) {
        turn_until(b, says(b, cause) && due_in(b) <= 600000);
        assert_in_range(due_in(b), waits_ms[i] * 800, waits_ms[i] * 1200);
        let_it_fall_due(b);
    }
}

static void when_nobody_listens_it_tries_again_and_again(void **state)
{
    bench *b = *state;
    int fd = mute_port(b, false);
    open_uplink(b);
    assert_int_equal(due_in(b), connect_us);
    check_backoff(b, "nobody answers there");
    close(fd);
    listen_at(b, b->endpoint);
    open_inlet(b);
    turn_until(b, due_in(b) < 0 || due_in(b) <= 600000);
    if (due_in(b) > 0) let_it_fall_due(b);
    turn_until(b, is_open(b));
    assert_string_equal(trouble(b), "");
}

static void an_ipc_path_that_is_not_there_is_tried_again(void **state)
{
    bench *b = *state;
    snprintf(b->endpoint, sizeof b->endpoint, "ipc:///tmp/weir-none-%d", (int)getpid());
    open_uplink(b);
    check_backoff(b, "nobody answers there");
}

/*  The kernel has shaken hands, libzmq never does.                            */
static void who_listens_and_never_answers_is_left(void **state)
{
    bench *b = *state;
    int fd = mute_port(b, true);
    open_uplink(b);
    assert_int_equal(due_in(b), connect_us);
    let_it_fall_due(b);
    assert_true(says(b, "no answer"));
    assert_in_range(due_in(b), 80000, 120000);
    let_it_fall_due(b);
    assert_int_equal(due_in(b), connect_us);
    close(fd);
}

static void without_welcome_it_tries_again(void **state)
{
    bench *b = *state;
    listen_at(b, "tcp://127.0.0.1:*");
    open_uplink(b);
    turn_until(b, b->hellos == 1);
    assert_int_equal(b->last.session, 4711);
    let_it_fall_due(b);
    assert_true(says(b, "does not answer"));
    let_it_fall_due(b);
    turn_until(b, b->hellos == 2);
    welcome(b);
    turn_until(b, is_open(b));
    assert_int_equal(weir_uplink_deadline(b->uplink), -1);
}

/* --- Being told -------------------------------------------------------------------- */

static void open_and_welcome(bench *b)
{
    listen_at(b, "tcp://127.0.0.1:*");
    open_uplink(b);
    turn_until(b, b->hellos == 1);
    welcome(b);
    turn_until(b, is_open(b));
}

static void after_a_close_for_now_it_comes_back_soon(void **state)
{
    bench *b = *state;
    open_and_welcome(b);
    send_block(b, 1);
    turn_until(b, b->last.type == WEIR_BLOCK);
    reply(b, &(weir_frame){.type = WEIR_CLOSE,
                           .code = "DRAINING",
                           .text = "it ends",
                           .retryable = true});
    turn_until(b, says(b, "DRAINING: it ends"));
    assert_in_range(due_in(b), 80000, 120000);
    let_it_fall_due(b);
    turn_until(b, b->hellos == 2);
    assert_int_equal(b->last.session, 4711);
    assert_int_equal(b->last.base, 1);
    welcome(b);
    turn_until(b, b->last.type == WEIR_BLOCK);
    assert_int_equal(b->last.sequence, 1);
}

static void after_a_close_for_good_it_comes_back_later(void **state)
{
    bench *b = *state;
    open_and_welcome(b);
    reply(b, &(weir_frame){.type = WEIR_CLOSE, .code = "IDENTITY", .text = "not you"});
    turn_until(b, says(b, "IDENTITY: not you"));
    assert_int_equal(due_in(b), weir_backoff_defaults.refused_us);
    let_it_fall_due(b);
    turn_until(b, b->hellos == 2);
    welcome(b);
    turn_until(b, is_open(b));
    assert_int_equal(weir_uplink_connects(b->uplink), 2);
}

static void who_breaks_the_protocol_is_left_for_long(void **state)
{
    bench *b = *state;
    open_and_welcome(b);
    reply(b, &(weir_frame){.type = WEIR_ACK, .sequence = 99}); // of what was never sent
    turn_until(b, says(b, "does not speak this protocol"));
    assert_int_equal(due_in(b), weir_backoff_defaults.refused_us);
}

static void bytes_that_are_no_frame_are_not_believed(void **state)
{
    bench *b = *state;
    open_and_welcome(b);
    reply(b, &(weir_frame){.type = WEIR_NEED, .bytes = 1});
    turn_until(b, says(b, "does not speak this protocol"));
    assert_false(is_open(b));
}

/* --- Losing ------------------------------------------------------------------------ */

static void a_lost_connection_is_made_again_at_once(void **state)
{
    bench *b = *state;
    open_and_welcome(b);
    for (uint64_t i = 1; i <= 5; i++) {
        cut(b);
        turn_until(b, says(b, "the connection was lost"));
        assert_in_range(due_in(b), 80000, 120000); // each time: it was open in between
        let_it_fall_due(b);
        turn_until(b, b->hellos == i + 1);
        welcome(b);
        turn_until(b, is_open(b));
    }
    assert_int_equal(weir_uplink_connects(b->uplink), 6);
}

static void a_server_that_ends_and_returns_is_found(void **state)
{
    bench *b = *state;
    open_and_welcome(b);
    weir_socket_close(&b->server);
    turn_until(b, says(b, "the connection was lost"));
    for (int i = 0; i < 4; i++) {
        let_it_fall_due(b);
        turn_until(b, says(b, "nobody answers there") && due_in(b) <= 600000);
    }
    assert_in_range(due_in(b), 400000, 600000);
    listen_at(b, b->endpoint);
    let_it_fall_due(b);
    turn_until(b, b->hellos == 2);
    welcome(b);
    turn_until(b, is_open(b));
}

/*  Cuts at moments by chance, with blocks and acknowledgements on their way.  */
static void many_cuts_lose_and_double_nothing(void **state)
{
    bench *b = *state;
    unsigned sent = 0, cuts = 0;
    listen_at(b, "tcp://127.0.0.1:*");
    open_inlet(b);
    open_uplink(b);
    double give_up = real_seconds() + 6 * PATIENCE_S;
    while (b->acked < 600 && real_seconds() < give_up) {
        if (sent < 600 && sent < 20 * (cuts + 1)) send_block(b, ++sent);
        bool uncut = weir_uplink_connects(b->uplink) > cuts;
        if (cuts < 30 && uncut && rand() % 12 == 0) {
            cut(b);
            cuts++;
        }
        turn(b);
        if (due_in(b) > 0 && due_in(b) < 1000000) weir_clock_advance(due_in(b));
    }
    assert_int_equal(b->acked, 600);
    assert_int_equal(b->taken_count, 600);
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(b->taken[i], i + 1);
    assert_true(weir_uplink_connects(b->uplink) >= 29);
}

static void an_uplink_may_end_in_every_state(void **state)
{
    bench *b = *state;
    for (int turns = 0; turns < 60; turns += 3) {
        listen_at(b, "tcp://127.0.0.1:*");
        open_uplink(b);
        send_block(b, 1);
        for (int i = 0; i < turns; i++)
            turn(b);
        weir_uplink_destroy(&b->uplink);
        weir_socket_close(&b->server);
    }
}

/*  As when a member is started again while others look for it.                      */
static void an_inproc_name_is_free_once_its_listener_is_closed(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        weir_report report = {0};
        weir_socket *listener, *peer;
        weir_endpoint at = {.endpoint = "inproc://uplink-again"};
        if (weir_socket_listen(&listener, &at, &report)) fail_msg("%s", report.text);
        if (weir_socket_connect(&peer, &at, &report)) fail_msg("%s", report.text);
        weir_socket_close(&listener);
        weir_socket_close(&peer);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_bench, free_bench)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_connects_and_delivers_over_tcp),
        TEST(it_connects_and_delivers_over_ipc),
        TEST(when_nobody_listens_it_tries_again_and_again),
        TEST(an_ipc_path_that_is_not_there_is_tried_again),
        TEST(who_listens_and_never_answers_is_left),
        TEST(without_welcome_it_tries_again),
        TEST(after_a_close_for_now_it_comes_back_soon),
        TEST(after_a_close_for_good_it_comes_back_later),
        TEST(who_breaks_the_protocol_is_left_for_long),
        TEST(bytes_that_are_no_frame_are_not_believed),
        TEST(a_lost_connection_is_made_again_at_once),
        TEST(a_server_that_ends_and_returns_is_found),
        TEST(many_cuts_lose_and_double_nothing),
        TEST(an_uplink_may_end_in_every_state),
        cmocka_unit_test(an_inproc_name_is_free_once_its_listener_is_closed),
    };
    weir_clock_go_virtual(1000000000000);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
