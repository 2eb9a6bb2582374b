#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "runtime/systemd.h"

/*  A service manager's socket with an abstract name, which is in the environment.  */
static int open_manager(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int size = snprintf(name, sizeof name, "@weir-test-%d", getpid());
    memcpy(address.sun_path, name, (size_t)size);
    address.sun_path[0] = 0;
    size_t length = offsetof(struct sockaddr_un, sun_path) + (size_t)size;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, (socklen_t)length), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static const char *heard(int manager)
{
    static char text[2048];
    ssize_t n = recv(manager, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static void nothing_is_said_unless_it_is_wanted(void **state)
{
    (void)state;
    weir_systemd systemd;
    int manager = open_manager();
    setenv("WATCHDOG_USEC", "2", 1);
    weir_systemd_open(&systemd, false);
    weir_systemd_say(&systemd, "READY=1");
    weir_systemd_beat(&systemd);
    assert_int_equal(systemd.beat_at_us, -1);
    assert_string_equal(heard(manager), "");
    weir_systemd_close(&systemd);
    close(manager);
}

static void beats_are_for_the_process_that_is_named(void **state)
{
    (void)state;
    weir_systemd systemd;
    int manager = open_manager();
    setenv("WATCHDOG_USEC", "2", 1);
    setenv("WATCHDOG_PID", "1", 1);
    weir_systemd_open(&systemd, true);
    weir_systemd_beat(&systemd);
    assert_string_equal(heard(manager), "");
    weir_systemd_close(&systemd);
    unsetenv("WATCHDOG_PID");
    weir_systemd_open(&systemd, true);
    weir_systemd_beat(&systemd);
    assert_string_equal(heard(manager), "WATCHDOG=1");
    weir_systemd_close(&systemd);
    close(manager);
}

static void bad_surroundings_do_no_harm(void **state)
{
    static const char *const sockets[] = {"", "relative", "/no/such/socket", "@"};
    static const char *const times[] = {"", "x", "-5", "0", "99999999999999999999999"};
    char longest[300];
    (void)state;
    memset(longest, 'a', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    for (size_t i = 0; i < 25; i++) {
        weir_systemd systemd;
        setenv("NOTIFY_SOCKET", i / 5 < 4 ? sockets[i / 5] : longest, 1);
        setenv("WATCHDOG_USEC", times[i % 5], 1);
        weir_systemd_open(&systemd, true);
        weir_systemd_say(&systemd, "READY=1\nSTATUS=%s", longest);
        weir_systemd_beat(&systemd);
        weir_systemd_close(&systemd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_unless_it_is_wanted),
        cmocka_unit_test(beats_are_for_the_process_that_is_named),
        cmocka_unit_test(bad_surroundings_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
