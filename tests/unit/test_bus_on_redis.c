/*  The facade with a store on a server: appended here, safe there, read again.     */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "actors/bus.h"
#include "actors/poll.h"
#include "tests/unit/help_server.h"

enum { records = 1000 };

static char folder[64], local[96], url[128], log_path[96];
static help_server *server;

static bool listens(void *arg)
{
    (void)arg;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", local);
    bool does = fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof to);
    if (fd >= 0) close(fd);
    return does;
}

static int open_server(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_bus_on_redis.XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(local, sizeof local, "%s/sock", folder);
    snprintf(url, sizeof url, "unix://%s", local);
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    if (!help_server_is_there("redis-server")) return 0;
    const char *const argv[] = {
        "redis-server", "--port", "0", "--unixsocket", local, "--dir", folder,
        "--save",       "",       NULL};
    server = help_server_start(argv, log_path);
    return server && help_server_wait(server, listens, NULL) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int close_server(void **state)
{
    (void)state;
    help_server_destroy(&server);
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static weir_bus *open_bus(const char *state_dir, weir_report *report)
{
    const char *const options[] = {"store",  "redis", "redis.url", url,
                                   "shards", "2",     NULL};
    weir_bus_config config = weir_bus_defaults;
    weir_bus *bus = NULL;
    config.name = "facade";
    config.options = options;
    config.state_dir = state_dir;
    return weir_bus_new(&bus, &config, report) ? NULL : bus;
}

static void its_state_needs_a_folder(void **state)
{
    (void)state;
    weir_report report = {0};
    assert_null(open_bus(NULL, &report));
    assert_string_equal(report.where, "state_dir");
    assert_non_null(strstr(report.text, "state"));
}

static uint32_t count_all(weir_bus *bus)
{
    weir_report report = {0};
    weir_poller *poller = weir_bus_poller(bus);
    weir_poll_request request = weir_poll_defaults;
    weir_page page;
    request.limit = 2 * records;
    assert_int_equal(weir_poller_poll(poller, &request, &page, &report), WEIR_OK);
    uint32_t count = (uint32_t)page.count;
    weir_page_fini(&page);
    weir_poller_destroy(&poller);
    return count;
}

static void what_is_appended_is_stored_there_and_read_after_a_restart(void **state)
{
    (void)state;
    weir_report report = {0};
    if (!server) {
        printf("redis-server is not installed: skipped\n");
        skip();
    }
    weir_bus *bus = open_bus(folder, &report);
    if (!bus) fail_msg("%s: %s", report.where, report.text);
    for (int n = 0; n < records; n++) {
        char text[32];
        int size = snprintf(text, sizeof text, "{\"n\":%d}", n);
        assert_int_equal(
            weir_bus_append_payload(bus, WEIR_JSON, text, (size_t)size, NULL), WEIR_OK);
    }
    assert_int_equal(weir_bus_flush(bus, 10000), WEIR_OK);
    assert_int_equal(count_all(bus), records);
    weir_bus_destroy(&bus, 5000);
    bus = open_bus(folder, &report);
    assert_non_null(bus);
    assert_int_equal(count_all(bus), records);
    weir_bus_destroy(&bus, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_state_needs_a_folder),
        cmocka_unit_test(what_is_appended_is_stored_there_and_read_after_a_restart),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
