/*  The doorman, with real connections over the loopback.                      */
#include "runtime/doorman.h"
#include "runtime/clock.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>
#include <unistd.h>

enum { most = 4, connections = 10 };

typedef struct {
    weir_doorman *doorman;
    int listener;
    int client[connections], served[connections];
    int count;
} world;

static int open_world(void **state)
{
    world *w = calloc(1, sizeof *w);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    w->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(w->listener, (void *)&address, sizeof address), 0);
    assert_int_equal(listen(w->listener, connections), 0);
    w->doorman = weir_doorman_new(most);
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    world *w = *state;
    for (int i = 0; i < w->count; i++) {
        close(w->client[i]);
        close(w->served[i]);
    }
    close(w->listener);
    weir_doorman_destroy(&w->doorman);
    free(w);
    return 0;
}

static int call_in(world *w)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int i = w->count++;
    getsockname(w->listener, (void *)&address, &size);
    w->client[i] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(w->client[i], (void *)&address, size), 0);
    w->served[i] = accept(w->listener, NULL, NULL);
    assert_true(w->served[i] >= 0);
    weir_doorman_accepted(w->doorman, w->served[i]);
    return i;
}

/*  The other side has ended the connection.                                   */
static bool has_ended(const world *w, int i, int wait_ms)
{
    char byte;
    struct pollfd item = {.fd = w->client[i], .events = POLLIN};
    return poll(&item, 1, wait_ms) == 1 && recv(w->client[i], &byte, 1, 0) <= 0;
}

static void the_oldest_of_too_many_is_turned_away(void **state)
{
    world *w = *state;
    for (int i = 0; i < most + 2; i++)
        call_in(w);
    assert_true(has_ended(w, 0, 60000));
    assert_true(has_ended(w, 1, 60000));
    for (int i = 2; i < most + 2; i++)
        assert_false(has_ended(w, i, 0));
    assert_int_equal(weir_doorman_turned_away(w->doorman), 2);
}

static void say(world *w, int i, size_t size)
{
    char *words = calloc(1, size);
    struct pollfd item = {.fd = w->served[i], .events = POLLIN};
    assert_int_equal(send(w->client[i], words, size, 0), size);
    assert_int_equal(poll(&item, 1, 60000), 1);
    free(words);
}

static void who_has_begun_to_shake_hands_is_spared(void **state)
{
    world *w = *state;
    for (int i = 0; i < most; i++)
        call_in(w);
    say(w, 0, 65);
    call_in(w);
    assert_true(has_ended(w, 1, 60000));
    assert_false(has_ended(w, 0, 0));
    assert_int_equal(weir_doorman_turned_away(w->doorman), 1);
}

static void who_has_said_something_is_no_matter_any_more(void **state)
{
    world *w = *state;
    for (int i = 0; i < most; i++)
        call_in(w);
    weir_doorman_spoke(w->doorman, w->served[0]);
    call_in(w);
    for (int i = 0; i < w->count; i++)
        assert_false(has_ended(w, i, 0));
    weir_clock_advance(60000000);
    weir_doorman_run_due(w->doorman);
    assert_false(has_ended(w, 0, 0));
}

static void who_has_gone_makes_room(void **state)
{
    world *w = *state;
    for (int i = 0; i < most; i++)
        call_in(w);
    weir_doorman_lost(w->doorman, w->served[0], "");
    call_in(w);
    for (int i = 0; i < w->count; i++)
        assert_false(has_ended(w, i, 0));
}

static void who_stays_silent_is_ended_in_time(void **state)
{
    world *w = *state;
    call_in(w);
    weir_clock_advance(4900000);
    weir_doorman_run_due(w->doorman);
    assert_false(has_ended(w, 0, 0));
    weir_clock_advance(200000);
    assert_true(weir_doorman_deadline(w->doorman) <= weir_clock_now_us());
    weir_doorman_run_due(w->doorman);
    assert_true(has_ended(w, 0, 60000));
}

static void who_makes_us_keep_much_before_a_message_is_ended(void **state)
{
    world *w = *state;
    call_in(w);
    char words[4096], heard[4096];
    memset(words, 0, sizeof words);
    for (int i = 0; i < 33; i++) {
        assert_int_equal(send(w->client[0], words, sizeof words, 0), sizeof words);
        assert_int_equal(recv(w->served[0], heard, sizeof heard, MSG_WAITALL),
                         sizeof heard);
    }
    weir_clock_advance(100000);
    weir_doorman_run_due(w->doorman);
    assert_true(has_ended(w, 0, 60000));
}

static void a_connection_ends_a_moment_after_it_was_told(void **state)
{
    world *w = *state;
    call_in(w);
    weir_doorman_spoke(w->doorman, w->served[0]);
    weir_doorman_end(w->doorman, w->served[0]);
    weir_doorman_run_due(w->doorman);
    assert_false(has_ended(w, 0, 0));
    int64_t due = weir_doorman_deadline(w->doorman);
    assert_true(due > weir_clock_now_us());
    weir_clock_advance(due - weir_clock_now_us());
    weir_doorman_run_due(w->doorman);
    assert_true(has_ended(w, 0, 60000));
    assert_int_equal(weir_doorman_deadline(w->doorman), -1);
}

static void a_descriptor_that_is_another_connection_now_is_let_be(void **state)
{
    world *w = *state;
    int first = call_in(w);
    weir_doorman_end(w->doorman, w->served[first]);
    int number = w->served[first], second = call_in(w);
    assert_int_equal(dup2(w->served[second], number), number);
    weir_clock_advance(1000000);
    weir_doorman_run_due(w->doorman);
    assert_false(has_ended(w, second, 0));
}

int main(void)
{
    weir_clock_go_virtual(0);
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)
    const struct CMUnitTest tests[] = {
        TEST(the_oldest_of_too_many_is_turned_away),
        TEST(who_has_begun_to_shake_hands_is_spared),
        TEST(who_has_said_something_is_no_matter_any_more),
        TEST(who_has_gone_makes_room),
        TEST(who_stays_silent_is_ended_in_time),
        TEST(who_makes_us_keep_much_before_a_message_is_ended),
        TEST(a_connection_ends_a_moment_after_it_was_told),
        TEST(a_descriptor_that_is_another_connection_now_is_let_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
