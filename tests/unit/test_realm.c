/*  Realms with real sockets over tcp: who comes in, who does not and what is said of it,
    and what happens when the folder changes. Time is real except in the last tests.   */
#include "tests/unit/help_folder.h"
#include "tests/unit/help_wait.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/log.h"
#include "runtime/socket.h"
#include "runtime/zap.h"
#include <czmq.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* --- Folders and nodes ------------------------------------------------------------- */

static const char *path_of(const char *node, const char *file)
{
    static char paths[4][PATH_MAX];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s%s%s", folder, node, *file ? "/" : "", file);
    return path;
}

static void write_cert(const weir_cert *cert, const char *node, const char *file)
{
    weir_report report = {0};
    if (weir_cert_write(cert, path_of(node, file), &report)) fail_msg("%s", report.text);
}

/*  A folder with keys; gives the certificate without its secret.              */
static weir_cert make_node(const char *name)
{
    weir_cert cert;
    weir_cert_make(&cert, name);
    mkdir(path_of(name, ""), 0700);
    mkdir(path_of(name, "peers"), 0700);
    write_cert(&cert, name, "self.key");
    memset(cert.secret_key, 0, sizeof cert.secret_key);
    return cert;
}

static void allow(const char *node, const weir_cert *peer, unsigned roles,
                  int64_t expires_ms)
{
    char file[128];
    weir_cert cert = *peer;
    cert.roles = roles;
    cert.expires_ms = expires_ms;
    snprintf(file, sizeof file, "peers/%s.pub", peer->name);
    write_cert(&cert, node, file);
}

static weir_realm *open_realm(const char *node)
{
    weir_realm *realm;
    weir_report report = {0};
    if (weir_realm_new(&realm, path_of(node, ""), &report))
        fail_msg("%s: %s", report.where, report.text);
    return realm;
}

/* --- Sockets ----------------------------------------------------------------------- */

typedef struct {
    void *handle;
    char endpoint[128];
} server;

static server serve(weir_realm *realm, weir_role role)
{
    server self;
    weir_report report = {0};
    size_t size = sizeof self.endpoint;
    weir_endpoint at = {.endpoint = "tcp://127.0.0.1:*", .realm = realm, .role = role};
    self.handle = weir_socket_raw(ZMQ_PULL, &at, true, 0, false, &report);
    if (!self.handle) fail_msg("%s", report.text);
    zmq_getsockopt(self.handle, ZMQ_LAST_ENDPOINT, self.endpoint, &size);
    return self;
}

static void *join(weir_realm *realm, const char *endpoint, const char *name)
{
    weir_report report = {0};
    weir_endpoint at = {.endpoint = endpoint, .realm = realm, .server = name};
    void *handle = weir_socket_raw(ZMQ_PUSH, &at, false, 0, true, &report);
    if (!handle) fail_msg("%s", report.text);
    int none = 0;
    zmq_setsockopt(handle, ZMQ_LINGER, &none, sizeof none);
    return handle;
}

/*  Receives one message; its sender's name must be that.                      */
static void expect_from(void *handle, const char *name)
{
    zmq_msg_t message;
    int patience_ms = 60000;
    zmq_msg_init(&message);
    zmq_setsockopt(handle, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms);
    assert_int_equal(zmq_msg_recv(&message, handle, 0), 2);
    assert_string_equal(zmq_msg_gets(&message, "User-Id"), name);
    assert_int_equal(strlen(zmq_msg_gets(&message, "Weir-Key")), 40);
    zmq_msg_close(&message);
}

static bool is_silent(void *handle)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    bool silent = zmq_msg_recv(&message, handle, ZMQ_DONTWAIT) < 0;
    zmq_msg_close(&message);
    return silent;
}

static weir_refusal wait_refusal(weir_realm *realm)
{
    weir_refusal refusal = {.count = 0};
    wait_until(weir_realm_refusals(realm, &refusal, 1) == 1);
    return refusal;
}

/*  The server's refusal of the client's only try to speak as a producer.      */
static weir_refusal try_in_vain(weir_realm *a, weir_realm *b)
{
    server in = serve(a, WEIR_ROLE_PRODUCE);
    void *out = join(b, in.endpoint, "a");
    zmq_send(out, "hi", 2, 0);
    weir_refusal refusal = wait_refusal(a);
    assert_true(is_silent(in.handle));
    zmq_close(out);
    zmq_close(in.handle);
    assert_string_equal(refusal.address, "127.0.0.1");
    assert_string_equal(refusal.role, "produce");
    assert_in_range(refusal.wall_ms, weir_clock_wall_ms() - 60000, weir_clock_wall_ms());
    return refusal;
}

/* --- Letting in -------------------------------------------------------------------- */

static void who_has_the_role_comes_in_by_name(void **state)
{
    (void)state;
    weir_cert a = make_node("a"), b = make_node("b");
    allow("a", &b, WEIR_ROLE_PRODUCE, weir_clock_wall_ms() + 3600000);
    allow("b", &a, 0, 0);
    weir_realm *one = open_realm("a"), *two = open_realm("b");
    assert_string_equal(weir_realm_name(one), "a");
    server in = serve(one, WEIR_ROLE_PRODUCE);
    void *out = join(two, in.endpoint, "a");
    zmq_send(out, "hi", 2, 0);
    expect_from(in.handle, "b");
    weir_refusal refusal;
    assert_int_equal(weir_realm_refusals(one, &refusal, 1), 0);
    zmq_close(out);
    zmq_close(in.handle);
    weir_realm_destroy(&one);
    weir_realm_destroy(&two);
    assert_null(one);
    weir_realm_destroy(&one);
}

static void a_stranger_is_refused(void **state)
{
    (void)state;
    weir_cert a = make_node("a"), b = make_node("b");
    allow("b", &a, 0, 0);
    weir_realm *one = open_realm("a"), *two = open_realm("b");
    weir_refusal refusal = try_in_vain(one, two);
    assert_string_equal(refusal.key, b.public_key);
    assert_string_equal(refusal.name, "");
    assert_non_null(strstr(refusal.cause, "nobody in peers/ has its key"));
    weir_realm_destroy(&one);
    weir_realm_destroy(&two);
    weir_refusals filed;
    assert_int_equal(weir_refusals_read(&filed, path_of("a", "refused.json")), WEIR_OK);
    assert_int_equal(filed.count, 1);
    assert_string_equal(filed.items[0].key, b.public_key);
}

static void a_role_too_little_is_refused(void **state)
{
    (void)state;
    weir_cert a = make_node("a"), b = make_node("b");
    allow("a", &b, WEIR_ROLE_CONSUME | WEIR_ROLE_PEER, 0);
    allow("b", &a, 0, 0);
    weir_realm *one = open_realm("a"), *two = open_realm("b");
    weir_refusal refusal = try_in_vain(one, two);
    assert_string_equal(refusal.name, "b");
    assert_non_null(strstr(refusal.cause, "has not the role produce"));
    assert_non_null(strstr(refusal.cause, "consume,peer"));
    weir_realm_destroy(&one);
    weir_realm_destroy(&two);
}

static void who_is_late_is_refused(void **state)
{
    (void)state;
    weir_cert a = make_node("a"), b = make_node("b");
    allow("a", &b, WEIR_ROLE_PRODUCE, 1000000000000);
    allow("b", &a, 0, 0);
    weir_realm *one = open_realm("a"), *two = open_realm("b");
    weir_refusal refusal = try_in_vain(one, two);
    assert_string_equal(refusal.name, "b");
    assert_non_null(strstr(refusal.cause, "over at 2001-09-09"));
    assert_false(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    weir_realm_destroy(&one);
    weir_realm_destroy(&two);
}

static void without_a_handler_everybody_is_refused(void **state)
{
    (void)state;
    weir_cert a = make_node("a"), b = make_node("b");
    allow("a", &b, WEIR_ROLE_PRODUCE, 0);
    allow("b", &a, 0, 0);
    weir_realm *one = open_realm("a"), *two = open_realm("b");
    void *context = zmq_ctx_new(), *in = zmq_socket(context, ZMQ_PULL);
    char endpoint[128];
    size_t size = sizeof endpoint;
    weir_report report = {0};
    assert_int_equal(weir_realm_serve(one, in, WEIR_ROLE_PRODUCE, &report), WEIR_OK);
    assert_int_equal(zmq_bind(in, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(in, ZMQ_LAST_ENDPOINT, endpoint, &size);
    weir_endpoint at = {.endpoint = endpoint, .realm = two, .server = "a"};
    weir_socket *out;
    assert_int_equal(weir_socket_connect(&out, &at, &report), WEIR_OK);
    weir_connection_event event = {0};
    wait_until(weir_socket_next_event(out, &event));
    assert_int_not_equal(event.change, WEIR_CONNECTION_READY);
    assert_true(is_silent(in));
    weir_socket_close(&out);
    zmq_close(in);
    zmq_ctx_term(context);
    weir_realm_destroy(&one);
    weir_realm_destroy(&two);
}

static void malformed_requests_are_answered_and_change_nothing(void **state)
{
    (void)state;
    static const char *const requests[][10] = {
        {"1.0", NULL},
        {"1.0", "id", "produce", "127.0.0.1", "", "CURVE", "short", NULL},
        {"1.0", "id", "produce", "127.0.0.1", "", "CURVE", NULL},
        {"9.9", "id", "produce", "127.0.0.1", "", "NULL", NULL},
        {"1.0", "id", "produce", "127.0.0.1", "", "PLAIN", "name", "password", "x", NULL},
        {"1.0", "id", "produce", "127.0.0.1", "", "PLAIN", "name", "password", NULL},
        {"1.0", "id", "produce", "127.0.0.1", "", "NULL", NULL},
    };
    make_node("a");
    weir_realm *one = open_realm("a");
    void *asker = zmq_socket(weir_realm_context(one), ZMQ_REQ);
    assert_int_equal(zmq_connect(asker, WEIR_ZAP_ENDPOINT), 0);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        char code[8] = "";
        for (size_t n = 0; requests[i][n]; n++)
            zmq_send(asker, requests[i][n], strlen(requests[i][n]),
                     requests[i][n + 1] ? ZMQ_SNDMORE : 0);
        for (int n = 0; n < 6; n++) {
            char text[64] = "";
            assert_true(zmq_recv(asker, text, sizeof text - 1, 0) >= 0);
            if (n == 2) memcpy(code, text, sizeof code);
        }
        assert_string_equal(code, "400");
    }
    zmq_close(asker);
    weir_realm_destroy(&one);
}

/*  Asks for one stranger after the other, as libzmq would.                    */
static void ask_for_strangers(weir_realm *realm, int count)
{
    void *asker = zmq_socket(weir_realm_context(realm), ZMQ_REQ);
    assert_int_equal(zmq_connect(asker, WEIR_ZAP_ENDPOINT), 0);
    for (int i = 0; i < count; i++) {
        const char *head[] = {"1.0", "id", "produce", "10.0.0.1\nforged", "", "CURVE"};
        uint8_t key[32] = {1, (uint8_t)i, (uint8_t)(i >> 8)};
        for (size_t n = 0; n < 6; n++)
            zmq_send(asker, head[n], strlen(head[n]), ZMQ_SNDMORE);
        zmq_send(asker, key, sizeof key, 0);
        for (int n = 0; n < 6; n++)
            assert_true(zmq_recv(asker, NULL, 0, 0) >= 0);
    }
    zmq_close(asker);
}

static void a_flood_of_strangers_fills_neither_log_nor_memory(void **state)
{
    (void)state;
    char *text;
    size_t size, lines = 0;
    unsigned mode;
    weir_refusal list[2 * WEIR_REFUSALS_MAX];
    make_node("a");
    int fd = open(path_of("a", "log"), O_CREAT | O_WRONLY | O_APPEND, 0600);
    weir_log_configure(WEIR_INFO, false, fd);
    weir_realm *one = open_realm("a");
    int64_t began_us = weir_clock_now_us();
    ask_for_strangers(one, 3000);
    int64_t seconds = (weir_clock_now_us() - began_us) / 1000000;
    assert_int_equal(weir_realm_refusals(one, list, 2 * WEIR_REFUSALS_MAX),
                     WEIR_REFUSALS_MAX / 4);
    weir_realm_destroy(&one);
    weir_log_configure(WEIR_INFO, false, STDERR_FILENO);
    close(fd);
    assert_int_equal(weir_read_file(path_of("a", "log"), 1 << 20, &text, &size, &mode),
                     WEIR_OK);
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    assert_in_range(lines, 32, 34 + seconds);
    free(text);
}

/* --- Changes ----------------------------------------------------------------------- */

static bool is_written(int fd)
{
    eventfd_t value;
    return eventfd_read(fd, &value) == 0;
}

static void wait_written(int fd)
{
    bool written = false;
    wait_until(written = written || is_written(fd));
}

static void who_is_revoked_is_known_at_once(void **state)
{
    (void)state;
    weir_cert b = make_node("b");
    make_node("a");
    allow("a", &b, WEIR_ROLE_PRODUCE | WEIR_ROLE_PEER, 0);
    weir_realm *one = open_realm("a");
    int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
    weir_realm_watch(one, other);
    weir_realm_watch(one, fd);
    weir_realm_unwatch(one, other);
    assert_true(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    assert_true(weir_realm_allows_key(one, "b", b.public_key, WEIR_ROLE_PEER));
    allow("a", &b, WEIR_ROLE_PEER, 0);
    wait_written(fd);
    assert_int_equal(weir_realm_revocations(one), 1);
    assert_false(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    assert_true(weir_realm_allows(one, "b", WEIR_ROLE_PEER));
    unlink(path_of("a", "peers/b.pub"));
    wait_written(fd);
    assert_int_equal(weir_realm_revocations(one), 2);
    assert_false(weir_realm_allows(one, "b", 0));
    assert_false(is_written(other));
    weir_realm_unwatch(one, fd);
    weir_realm_destroy(&one);
    close(fd);
    close(other);
}

static void another_key_ends_the_connections_of_the_old_one(void **state)
{
    (void)state;
    weir_cert b = make_node("b"), changed;
    make_node("a");
    allow("a", &b, WEIR_ROLE_PRODUCE, 0);
    weir_realm *one = open_realm("a");
    weir_cert_make(&changed, "b");
    memset(changed.secret_key, 0, sizeof changed.secret_key);
    allow("a", &changed, WEIR_ROLE_PRODUCE, 0);
    wait_until(weir_realm_revocations(one) == 1);
    assert_false(weir_realm_allows_key(one, "b", b.public_key, WEIR_ROLE_PRODUCE));
    assert_true(weir_realm_allows_key(one, "b", changed.public_key, WEIR_ROLE_PRODUCE));
    weir_realm_destroy(&one);
}

static void a_new_one_comes_in_without_a_restart(void **state)
{
    (void)state;
    weir_cert a = make_node("a"), b = make_node("b");
    allow("b", &a, 0, 0);
    rmdir(path_of("a", "peers"));
    weir_realm *one = open_realm("a"), *two = open_realm("b");
    mkdir(path_of("a", "peers"), 0700);
    allow("a", &b, WEIR_ROLE_PRODUCE, 0);
    wait_until(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    assert_int_equal(weir_realm_revocations(one), 0);
    server in = serve(one, WEIR_ROLE_PRODUCE);
    void *out = join(two, in.endpoint, "a");
    zmq_send(out, "hi", 2, 0);
    expect_from(in.handle, "b");
    zmq_close(out);
    zmq_close(in.handle);
    weir_realm_destroy(&one);
    weir_realm_destroy(&two);
}

static void what_is_wrong_keeps_nobody_else_out(void **state)
{
    (void)state;
    weir_cert b = make_node("b"), c = make_node("c"), d = b;
    make_node("a");
    allow("a", &b, WEIR_ROLE_PRODUCE, 0);
    strcpy(d.name, "double");
    allow("a", &d, WEIR_ROLE_PRODUCE, 0);
    write_cert(&c, "a", "peers/other.pub");
    weir_realm *one = open_realm("a");
    assert_true(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    assert_false(weir_realm_allows(one, "double", 0));
    assert_false(weir_realm_allows(one, "other", 0));
    assert_false(weir_realm_allows(one, "c", 0));
    assert_int_equal(
        weir_replace_file(path_of("a", "peers/half.pub"), "curve\n    pub", 13, 0644, 0),
        WEIR_OK);
    allow("a", &c, WEIR_ROLE_PRODUCE, 0);
    wait_until(weir_realm_allows(one, "c", WEIR_ROLE_PRODUCE));
    assert_true(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    assert_int_equal(weir_realm_revocations(one), 0);
    weir_realm_destroy(&one);
}

/* --- Beside others ----------------------------------------------------------------- */

static void a_zauth_of_the_host_goes_on(void **state)
{
    (void)state;
    weir_cert a = make_node("a"), b = make_node("b");
    allow("a", &b, WEIR_ROLE_PRODUCE, 0);
    allow("b", &a, 0, 0);
    zactor_t *auth = zactor_new(zauth, NULL);
    assert_non_null(auth);
    zstr_sendx(auth, "CURVE", CURVE_ALLOW_ANY, NULL);
    zsock_wait(auth);
    weir_realm *one = open_realm("a"), *two = open_realm("b");
    server in = serve(one, WEIR_ROLE_PRODUCE);
    void *out = join(two, in.endpoint, "a");
    zmq_send(out, "hi", 2, 0);
    expect_from(in.handle, "b");
    zcert_t *cert = zcert_new();
    zsock_t *host = zsock_new(ZMQ_PULL), *peer = zsock_new(ZMQ_PUSH);
    zcert_apply(cert, host);
    zsock_set_curve_server(host, 1);
    zsock_set_zap_domain(host, "global");
    int port = zsock_bind(host, "tcp://127.0.0.1:*");
    zcert_apply(cert, peer);
    zsock_set_curve_serverkey(peer, zcert_public_txt(cert));
    zsock_connect(peer, "tcp://127.0.0.1:%d", port);
    zstr_send(peer, "hello");
    zsock_set_rcvtimeo(host, 60000);
    char *text = zstr_recv(host);
    assert_string_equal(text, "hello");
    zstr_free(&text);
    zsock_destroy(&host);
    zsock_destroy(&peer);
    zcert_destroy(&cert);
    zmq_close(out);
    zmq_close(in.handle);
    weir_realm_destroy(&one);
    weir_realm_destroy(&two);
    zactor_destroy(&auth);
}

static void without_keys_there_is_no_security(void **state)
{
    (void)state;
    weir_realm *realm;
    weir_report report = {0};
    assert_int_equal(weir_realm_new(&realm, NULL, &report), WEIR_OK);
    assert_null(weir_realm_name(realm));
    weir_endpoint at = {
        .endpoint = "tcp://127.0.0.1:*", .realm = realm, .role = WEIR_ROLE_PRODUCE};
    assert_null(weir_socket_raw(ZMQ_PULL, &at, true, 0, false, &report));
    assert_int_equal(report.err, WEIR_ENOTFOUND);
    assert_non_null(strstr(report.text, "weir keys init"));
    assert_false(weir_realm_allows(realm, "a", WEIR_ROLE_PRODUCE));
    weir_realm_destroy(&realm);
}

static void a_folder_that_is_unfit_is_refused_with_the_cause(void **state)
{
    (void)state;
    weir_realm *realm;
    weir_report report = {0};
    assert_int_equal(weir_realm_new(&realm, path_of("none", ""), &report),
                     WEIR_ENOTFOUND);
    assert_non_null(strstr(report.text, "weir keys init NAME"));
    assert_null(realm);
    make_node("a");
    chmod(path_of("a", "self.key"), 0640);
    assert_int_equal(weir_realm_new(&realm, path_of("a", ""), &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "chmod 600"));
    chmod(path_of("a", "self.key"), 0600);
    chmod(path_of("a", "peers"), 0777);
    assert_int_equal(weir_realm_new(&realm, path_of("a", ""), &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "chmod 700"));
    chmod(path_of("a", "peers"), 0700);
    weir_realm *one = open_realm("a");
    weir_endpoint at = {
        .endpoint = "tcp://127.0.0.1:9", .realm = one, .server = "nobody"};
    assert_null(weir_socket_raw(ZMQ_PUSH, &at, false, 0, false, &report));
    assert_int_equal(report.err, WEIR_ENOTFOUND);
    assert_non_null(strstr(report.text, "peers/nobody.pub"));
    weir_realm_destroy(&one);
}

/* --- Virtual time: from here on it stands still ------------------------------------ */

static void when_the_time_is_over_it_is_a_revocation(void **state)
{
    (void)state;
    weir_clock_go_virtual(1800000000000);
    weir_cert b = make_node("b");
    make_node("a");
    allow("a", &b, WEIR_ROLE_PRODUCE, 1800000005000);
    weir_realm *one = open_realm("a");
    int fd = eventfd(0, EFD_NONBLOCK);
    weir_realm_watch(one, fd);
    weir_clock_advance(4999000);
    assert_true(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    assert_int_equal(weir_realm_revocations(one), 0);
    weir_clock_advance(1000);
    assert_false(weir_realm_allows(one, "b", WEIR_ROLE_PRODUCE));
    wait_written(fd);
    assert_int_equal(weir_realm_revocations(one), 1);
    weir_realm_destroy(&one);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_the_role_comes_in_by_name),
        cmocka_unit_test(a_stranger_is_refused),
        cmocka_unit_test(a_role_too_little_is_refused),
        cmocka_unit_test(who_is_late_is_refused),
        cmocka_unit_test(without_a_handler_everybody_is_refused),
        cmocka_unit_test(malformed_requests_are_answered_and_change_nothing),
        cmocka_unit_test(a_flood_of_strangers_fills_neither_log_nor_memory),
        cmocka_unit_test(who_is_revoked_is_known_at_once),
        cmocka_unit_test(another_key_ends_the_connections_of_the_old_one),
        cmocka_unit_test(a_new_one_comes_in_without_a_restart),
        cmocka_unit_test(what_is_wrong_keeps_nobody_else_out),
        cmocka_unit_test(a_zauth_of_the_host_goes_on),
        cmocka_unit_test(without_keys_there_is_no_security),
        cmocka_unit_test(a_folder_that_is_unfit_is_refused_with_the_cause),
        cmocka_unit_test(when_the_time_is_over_it_is_a_revocation),
    };
    struct CMUnitTest each[sizeof tests / sizeof *tests];
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        each[i] = tests[i];
        each[i].setup_func = make_folder;
        each[i].teardown_func = remove_folder;
    }
    weir_socket_prepare();
    return cmocka_run_group_tests(each, NULL, NULL);
}
