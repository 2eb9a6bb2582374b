#include "runtime/clock.h"
#include "runtime/control.h"
#include "runtime/rundir.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

/* --- Requests ---------------------------------------------------------------------- */

#define FRAME(text)                                                                      \
    {                                                                                    \
        text, sizeof(text) - 1                                                           \
    }

static weir_err parse(weir_request *request, const weir_control_frame *frames,
                      size_t count, weir_report *report)
{
    *report = (weir_report){0};
    weir_err err = weir_request_parse(request, frames, count, report);
    assert_int_equal(err != WEIR_OK, *report->text != 0);
    return err;
}

static void a_request_is_read(void **state)
{
    (void)state;
    weir_request request;
    weir_report report;
    const weir_control_frame frames[] = {FRAME(""),    FRAME("WEIR1"), FRAME("7"),
                                         FRAME("tap"), FRAME("a"),     FRAME("")};
    assert_int_equal(parse(&request, frames, 6, &report), WEIR_OK);
    assert_true(request.delimited);
    assert_string_equal(request.command, "tap");
    assert_int_equal(request.arg_count, 2);
    assert_string_equal(request.args[0], "a");
    assert_string_equal(request.args[1], "");
    assert_null(request.args[2]);
    assert_memory_equal(request.id.data, "7", request.id.size);
    weir_request_fini(&request);
    assert_int_equal(parse(&request, frames + 1, 3, &report), WEIR_OK);
    assert_false(request.delimited);
    assert_int_equal(request.arg_count, 0);
    weir_request_fini(&request);
}

static void nonsense_is_refused_with_a_sentence(void **state)
{
    (void)state;
    weir_request request;
    weir_report report;
    static char big[WEIR_CONTROL_FRAME_MAX + 1];
    memset(big, 'x', sizeof big);
    weir_control_frame frames[WEIR_CONTROL_ARGS_MAX + 4] = {FRAME("WEIR1"), FRAME("7"),
                                                            FRAME("list")};
    for (size_t i = 3; i < WEIR_CONTROL_ARGS_MAX + 4; i++)
        frames[i] = (weir_control_frame)FRAME("a");
    assert_int_equal(parse(&request, frames, WEIR_CONTROL_ARGS_MAX + 4, &report),
                     WEIR_ETOOBIG);
    assert_memory_equal(request.id.data, "7", request.id.size);
    weir_request_fini(&request);
    assert_int_equal(parse(&request, frames, WEIR_CONTROL_ARGS_MAX + 3, &report),
                     WEIR_OK);
    weir_request_fini(&request);
    assert_int_equal(parse(&request, frames, 0, &report), WEIR_EPROTO);
    assert_int_equal(parse(&request, frames, 1, &report), WEIR_EMALFORMED);
    assert_int_equal(parse(&request, frames, 2, &report), WEIR_EMALFORMED);
    frames[3] = (weir_control_frame){big, sizeof big};
    assert_int_equal(parse(&request, frames, 4, &report), WEIR_ETOOBIG);
    frames[3] = (weir_control_frame)FRAME("a\0b");
    assert_int_equal(parse(&request, frames, 4, &report), WEIR_EMALFORMED);
    frames[3] = (weir_control_frame)FRAME("\xff");
    assert_int_equal(parse(&request, frames, 4, &report), WEIR_EMALFORMED);
    frames[1] = (weir_control_frame){big, WEIR_CONTROL_ID_MAX + 1};
    assert_int_equal(parse(&request, frames, 3, &report), WEIR_ETOOBIG);
    assert_int_equal(request.id.size, 0);
    frames[0] = (weir_control_frame)FRAME("WEIR2");
    assert_int_equal(parse(&request, frames, 3, &report), WEIR_EPROTO);
    const weir_control_frame empty[] = {FRAME(""), FRAME("")};
    assert_int_equal(parse(&request, empty, 2, &report), WEIR_EPROTO);
}

static void every_error_has_a_code(void **state)
{
    (void)state;
    assert_string_equal(weir_control_code(WEIR_OK), "ok");
    assert_string_equal(weir_control_code(WEIR_ENOTFOUND), "not-found");
    for (int err = 0; err <= WEIR_ESTOP + 3; err++)
        assert_null(strchr(weir_control_code((weir_err)err), ' '));
}

/* --- Run folder -------------------------------------------------------------------- */

static char folder[64], run_dir[80];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test-control-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(run_dir, sizeof run_dir, "%s/run", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(run_dir); // of a test that left a link there
    rmdir(run_dir);
    return rmdir(folder);
}

static void the_run_folder_is_ours_alone(void **state)
{
    (void)state;
    weir_report report = {0};
    struct stat st;
    assert_int_equal(weir_rundir_open(run_dir, &report), WEIR_OK);
    assert_int_equal(stat(run_dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(weir_rundir_open(run_dir, &report), WEIR_OK);
    chmod(run_dir, 0770);
    assert_int_equal(weir_rundir_open(run_dir, &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "chmod 700"));
    assert_string_equal(report.where, run_dir);
    rmdir(run_dir);
    assert_int_equal(symlink("/tmp", run_dir), 0);
    assert_int_equal(weir_rundir_open(run_dir, &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "symbolic link"));
    unlink(run_dir);
    if (geteuid() == 0) {
        assert_int_equal(mkdir(run_dir, 0700), 0);
        assert_int_equal(chown(run_dir, 12345, 0), 0);
        assert_int_equal(weir_rundir_open(run_dir, &report), WEIR_EREFUSED);
        assert_non_null(strstr(report.text, "12345"));
    }
    assert_int_equal(weir_rundir_open("/nowhere/at/all", &report), WEIR_ESYS);
    assert_non_null(strstr(report.text, "WEIR_RUN"));
}

static void a_socket_has_a_short_path_and_a_plain_name(void **state)
{
    (void)state;
    weir_report report = {0};
    char path[WEIR_IPC_PATH_MAX], deep[120];
    assert_int_equal(weir_rundir_socket("/run/weir", "web", path, &report), WEIR_OK);
    assert_string_equal(path, "/run/weir/web.sock");
    memset(deep, 'x', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    assert_int_equal(weir_rundir_socket(deep, "web", path, &report), WEIR_ETOOBIG);
    assert_non_null(strstr(report.text, "WEIR_RUN"));
    const char *const bad[] = {"", ".", "..", "a/b", ".hidden"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(weir_rundir_socket("/run", bad[i], path, &report), WEIR_EINVAL);
        assert_non_null(strstr(report.text, "settings.name"));
    }
}

static void a_name_has_one_owner(void **state)
{
    (void)state;
    weir_report report = {0};
    int first, second, other;
    assert_int_equal(weir_rundir_open(run_dir, &report), WEIR_OK);
    assert_int_equal(weir_rundir_lock(&first, run_dir, "web", &report), WEIR_OK);
    assert_int_equal(weir_rundir_lock(&second, run_dir, "web", &report), WEIR_EREFUSED);
    assert_non_null(strstr(report.text, "settings.name"));
    assert_int_equal(second, -1);
    assert_int_equal(weir_rundir_lock(&other, run_dir, "other", &report), WEIR_OK);
    weir_rundir_unlock(&first, run_dir, "web");
    assert_int_equal(weir_rundir_lock(&second, run_dir, "web", &report), WEIR_OK);
    weir_rundir_unlock(&second, run_dir, "web");
    weir_rundir_unlock(&second, run_dir, "web");
    weir_rundir_unlock(&other, run_dir, "other");
    assert_int_equal(rmdir(run_dir), 0); // nothing is left
}

/* --- Endpoint ---------------------------------------------------------------------- */

typedef struct {
    weir_realm *realm;
    weir_control *control;
    weir_stream *stream;
    void *client;
    int requests;
} bench;

static void echo(void *arg, const weir_request *request)
{
    bench *b = arg;
    weir_buffer body = {0};
    weir_report report = {0};
    b->requests++;
    if (strcmp(request->command, "stream") == 0) {
        b->stream = weir_control_stream(b->control, request);
        return;
    }
    weir_err err = strcmp(request->command, "fail") == 0
                       ? weir_report_set(&report, WEIR_EINVAL, NULL, "say \"please\"")
                       : WEIR_OK;
    weir_buffer_put_text(&body, "{}");
    weir_control_reply(b->control, request, err, &body, &report);
    weir_buffer_fini(&body);
}

static void open_bench(bench *b)
{
    weir_report report = {0};
    char endpoint[256];
    *b = (bench){.realm = NULL};
    assert_int_equal(weir_realm_new(&b->realm, NULL, &report), WEIR_OK);
    weir_control_config config = {
        .realm = b->realm, .run_dir = run_dir, .name = "web", .request = echo, .arg = b};
    assert_int_equal(weir_control_new(&b->control, &config, &report), WEIR_OK);
    snprintf(endpoint, sizeof endpoint, "ipc://%s/web.sock", run_dir);
    assert_string_equal(weir_control_endpoint(b->control, 0), endpoint);
    assert_null(weir_control_endpoint(b->control, 1));
    b->client = zmq_socket(weir_realm_context(b->realm), ZMQ_DEALER);
    zmq_setsockopt(b->client, ZMQ_LINGER, &(int){0}, sizeof(int));
    zmq_setsockopt(b->client, ZMQ_RCVHWM, &(int){1}, sizeof(int));
    assert_int_equal(zmq_connect(b->client, endpoint), 0);
}

static int64_t fastest_end_us = INT64_MAX; // of all benches

static void close_bench(bench *b)
{
    char path[128];
    zmq_close(b->client);
    int64_t began = weir_clock_now_us();
    weir_control_destroy(&b->control);
    int64_t took_us = weir_clock_now_us() - began;
    if (took_us < fastest_end_us) fastest_end_us = took_us;
    snprintf(path, sizeof path, "%s/web.sock", run_dir);
    assert_int_equal(access(path, F_OK), -1);
    weir_realm_destroy(&b->realm);
}

static void send_texts(void *client, const char *const *texts)
{
    for (; *texts; texts++)
        assert_true(
            zmq_send(client, *texts, strlen(*texts), texts[1] ? ZMQ_SNDMORE : 0) >= 0);
}

/*  Runs the endpoint until the client has got a reply; its frames behind one another. */
static void get_reply(bench *b, char text[512])
{
    zmq_pollitem_t items[] = {
        {.socket = b->client, .events = ZMQ_POLLIN},
        {.fd = weir_control_fd(b->control, 0), .events = ZMQ_POLLIN}};
    for (int tries = 0; tries < 1000; tries++) {
        if (weir_control_run(b->control)) continue;
        assert_true(zmq_poll(items, 2, 60000) > 0);
        if (items[0].revents) break;
    }
    text[0] = 0;
    for (int more = 1; more;) {
        char frame[256];
        size_t size = sizeof more;
        int got = zmq_recv(b->client, frame, sizeof frame - 1, ZMQ_DONTWAIT);
        assert_true(got >= 0);
        frame[got] = 0;
        strcat(text, frame);
        zmq_getsockopt(b->client, ZMQ_RCVMORE, &more, &size);
        if (more) strcat(text, "|");
    }
}

static void requests_are_answered(void **state)
{
    (void)state;
    bench b;
    char text[512];
    open_bench(&b);
    send_texts(b.client, (const char *[]){"WEIR1", "7", "do", NULL});
    get_reply(&b, text);
    assert_string_equal(text, "WEIR1|7|ok|{}");
    send_texts(b.client, (const char *[]){"", "WEIR1", "8", "fail", NULL});
    get_reply(&b, text);
    assert_string_equal(text, "|WEIR1|8|invalid|{\"error\":\"say \\\"please\\\"\"}");
    assert_int_equal(b.requests, 2);
    send_texts(b.client, (const char *[]){"hello", NULL});
    get_reply(&b, text);
    assert_non_null(strstr(text, "WEIR1||protocol|{\"error\":"));
    assert_int_equal(b.requests, 2);
    assert_int_equal(weir_control_refused(b.control), 1);
    close_bench(&b);
}

static void a_stream_to_a_client_that_does_not_read_ends(void **state)
{
    (void)state;
    bench b;
    open_bench(&b);
    send_texts(b.client, (const char *[]){"WEIR1", "7", "stream", NULL});
    while (!b.stream)
        weir_control_run(b.control);
    static char big[8192];
    memset(big, '1', sizeof big);
    size_t sent = 0;
    while (weir_stream_send(b.stream, big, sizeof big) == WEIR_OK && sent < 100000)
        sent++;
    assert_in_range(sent, 1, 2000); // queues of 64 messages, and the kernel's buffers
    int64_t began = weir_clock_now_us();
    weir_err err;
    while ((err = weir_stream_send(b.stream, big, sizeof big)) == WEIR_EFULL)
        usleep(10000);
    assert_int_equal(err, WEIR_ECLOSED);
    assert_in_range(weir_clock_now_us() - began, 3000000, 30000000);
    weir_buffer body = {0};
    weir_buffer_put_text(&body, "{}");
    weir_stream_end(&b.stream, &body);
    weir_buffer_fini(&body);
    assert_null(b.stream);
    close_bench(&b);
}

static void streams_are_few(void **state)
{
    (void)state;
    bench b;
    open_bench(&b);
    weir_stream *streams[WEIR_CONTROL_STREAMS_MAX];
    weir_request request = {.id = {"7", 1}, .address = {"abcde", 5}};
    weir_request other = {.id = {"7", 1}, .address = {"abcdf", 5}};
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX; i++)
        assert_non_null(streams[i] = weir_control_stream(b.control, &request));
    assert_null(weir_control_stream(b.control, &request));
    assert_true(weir_stream_is_of(streams[3], &request));
    assert_false(weir_stream_is_of(streams[3], &other));
    assert_int_equal(weir_stream_send(streams[0], "{}", 2), WEIR_ECLOSED); // nobody
    weir_buffer body = {0};
    weir_stream_end(&streams[3], &body);
    assert_non_null(weir_control_stream(b.control, &other));
    close_bench(&b);
}

/*  It waits for its listener, a second at most; a busy machine may hold up one of them.
 */
static void an_end_does_not_use_up_its_time(void **state)
{
    (void)state;
    assert_in_range(fastest_end_us, 0, 500000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read),
        cmocka_unit_test(nonsense_is_refused_with_a_sentence),
        cmocka_unit_test(every_error_has_a_code),
        cmocka_unit_test_setup_teardown(the_run_folder_is_ours_alone, make_folder,
                                        remove_folder),
        cmocka_unit_test(a_socket_has_a_short_path_and_a_plain_name),
        cmocka_unit_test_setup_teardown(a_name_has_one_owner, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(requests_are_answered, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_stream_to_a_client_that_does_not_read_ends,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(streams_are_few, make_folder, remove_folder),
        cmocka_unit_test(an_end_does_not_use_up_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
