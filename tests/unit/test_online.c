#include "lua/online.h"
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

typedef struct {
    weir_node node;
    char *answer; // what the probe does, or says
} probed_config;

static const probed_config defaults;
static const weir_option options[] = {
    {"answer", WEIR_OPTION_TEXT, offsetof(probed_config, answer), 0, 0, NULL, false, ""},
    {.name = NULL},
};

static sem_t arrived, leave, left;
static _Atomic int64_t timeout_seen;

static bool wait_a_minute(sem_t *sem)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    return sem_timedwait(sem, &until) == 0;
}

/*  Comes back once as many have arrived as there are questions.                  */
static weir_err meet(weir_report *report)
{
    sem_post(&arrived);
    if (!wait_a_minute(&leave))
        return weir_report_set(report, WEIR_ETIMEOUT, NULL, "nobody else came");
    return weir_report_set(report, WEIR_OK, NULL, "met");
}

/*  The config may be gone when it comes back.                                    */
static weir_err hang(weir_report *report)
{
    wait_a_minute(&leave);
    sem_post(&left);
    return weir_report_set(report, WEIR_OK, NULL, "too late");
}

static weir_err probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const char *answer = ((const probed_config *)config)->answer;
    timeout_seen = timeout_us;
    if (!strcmp(answer, "meet")) return meet(report);
    if (!strcmp(answer, "hang")) return hang(report);
    if (!strcmp(answer, "fail"))
        return weir_report_set(report, WEIR_EREFUSED, "url", "refused");
    if (!strcmp(answer, "fall")) return WEIR_ESYS;
    return weir_report_set(report, WEIR_OK, NULL, "is %s", answer);
}

static const weir_class probed = {.name = "sink.probed",
                                  .config_size = sizeof(probed_config),
                                  .defaults = &defaults,
                                  .options = options,
                                  .probe = probe};
static const weir_class mute = {.name = "sink.mute",
                                .config_size = sizeof(probed_config),
                                .defaults = &defaults,
                                .options = options};

static void add(weir_plan *plan, const weir_class *class, const char *answer)
{
    weir_report report;
    size_t node = weir_plan_add(plan, answer, "t.lua:1", class);
    weir_option_set_text(&options[0], plan->nodes[node].config, answer, &report);
}

static int begin(void **state)
{
    static weir_plan plan;
    plan = (weir_plan){0};
    sem_init(&arrived, 0, 0);
    sem_init(&leave, 0, 0);
    sem_init(&left, 0, 0);
    *state = &plan;
    return 0;
}

static int end(void **state)
{
    weir_plan_fini(*state);
    return 0;
}

static void each_node_with_a_server_has_an_answer(void **state)
{
    weir_plan *plan = *state;
    weir_online online;
    add(plan, &probed, "Redis");
    add(plan, &mute, "silent");
    add(plan, &probed, "fail");
    weir_online_ask(&online, plan, NULL, 7000000);
    assert_int_equal(online.count, 2);
    assert_int_equal(online.failed, 1);
    assert_false(online.stuck);
    assert_ptr_equal(online.items[0].node, &plan->nodes[0]);
    assert_int_equal(online.items[0].report.err, WEIR_OK);
    assert_string_equal(online.items[0].report.text, "is Redis");
    assert_ptr_equal(online.items[1].node, &plan->nodes[2]);
    assert_int_equal(online.items[1].report.err, WEIR_EREFUSED);
    assert_string_equal(online.items[1].report.where, "url");
    assert_string_equal(online.items[1].report.text, "refused");
    assert_int_equal(timeout_seen, 7000000);
    weir_online_fini(&online);
}

static void nobody_to_ask_is_no_failure(void **state)
{
    weir_plan *plan = *state;
    weir_online online;
    add(plan, &mute, "silent");
    weir_online_ask(&online, plan, NULL, 1000);
    assert_true(online.count == 0 && online.failed == 0 && !online.stuck);
    weir_online_fini(&online);
}

static void an_error_without_a_text_gets_its_name(void **state)
{
    weir_online online;
    add(*state, &probed, "fall");
    weir_online_ask(&online, *state, NULL, 60000000);
    assert_int_equal(online.items[0].report.err, WEIR_ESYS);
    assert_string_equal(online.items[0].report.text, "system error");
    weir_online_fini(&online);
}

static void *let_all_leave(void *arg)
{
    size_t count = *(size_t *)arg;
    bool all = true;
    for (size_t i = 0; i < count; i++)
        all &= wait_a_minute(&arrived);
    for (size_t i = 0; all && i < count; i++)
        sem_post(&leave);
    return NULL;
}

static void all_are_asked_at_once(void **state)
{
    weir_online online;
    pthread_t thread;
    size_t count = 20;
    for (size_t i = 0; i < count; i++)
        add(*state, &probed, "meet");
    pthread_create(&thread, NULL, let_all_leave, &count);
    weir_online_ask(&online, *state, NULL, 60000000);
    pthread_join(thread, NULL);
    assert_int_equal(online.count, count);
    assert_int_equal(online.failed, 0);
    weir_online_fini(&online);
}

/*  Its thread is left behind: what it writes later goes nowhere.                 */
static void who_does_not_come_back_is_not_waited_for(void **state)
{
    weir_online online;
    add(*state, &probed, "hang");
    add(*state, &probed, "NATS");
    weir_online_ask(&online, *state, NULL, 250000);
    assert_true(online.stuck);
    assert_int_equal(online.failed, 1);
    assert_int_equal(online.items[0].report.err, WEIR_ETIMEOUT);
    assert_string_equal(online.items[0].report.text, "no answer within 0.25 s");
    assert_string_equal(online.items[1].report.text, "is NATS");
    sem_post(&leave);
    assert_true(wait_a_minute(&left));
    assert_string_equal(online.items[0].report.text, "no answer within 0.25 s");
    weir_online_fini(&online);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_node_with_a_server_has_an_answer, begin,
                                        end),
        cmocka_unit_test_setup_teardown(nobody_to_ask_is_no_failure, begin, end),
        cmocka_unit_test_setup_teardown(an_error_without_a_text_gets_its_name, begin,
                                        end),
        cmocka_unit_test_setup_teardown(all_are_asked_at_once, begin, end),
        cmocka_unit_test_setup_teardown(who_does_not_come_back_is_not_waited_for, begin,
                                        end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
