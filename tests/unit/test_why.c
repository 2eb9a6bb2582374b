#include "runtime/why.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/*  The topology of all tests:

        in ---> p ---> out
           \
            `--> copy           in is read by p and copy                       */
enum { IN, P, OUT, COPY, NODES };

static const weir_option no_options[] = {{.name = NULL}};
static const weir_node no_config;
static const weir_rules *one_outlet(const void *config)
{
    (void)config;
    return NULL;
}
static const weir_class source = {.name = "test.source",
                                  .source = true,
                                  .config_size = sizeof(weir_node),
                                  .defaults = &no_config,
                                  .options = no_options};
static const weir_class process = {.name = "test.process",
                                   .inlet = true,
                                   .outlets = one_outlet,
                                   .config_size = sizeof(weir_node),
                                   .defaults = &no_config,
                                   .options = no_options};
static const weir_class sink = {.name = "test.sink",
                                .inlet = true,
                                .config_size = sizeof(weir_node),
                                .defaults = &no_config,
                                .options = no_options};

static const int64_t now_us = 1000000000, s = 1000000;

typedef struct {
    weir_plan plan;
    weir_why_node nodes[NODES];
    weir_why_part parts[NODES];
    weir_why why;
    weir_why_path paths[8];
    size_t count, only;
} stage;

static int set_up(void **state)
{
    stage *t = calloc(1, sizeof *t);
    weir_reports reports = {0};
    weir_plan_add(&t->plan, "in", "t.lua:1", &source);
    weir_plan_add(&t->plan, "p", "t.lua:2", &process);
    weir_plan_add(&t->plan, "out", "t.lua:3", &sink);
    weir_plan_add(&t->plan, "copy", "t.lua:4", &sink);
    weir_plan_from(&t->plan, P, "in");
    weir_plan_from(&t->plan, OUT, "p");
    weir_plan_from(&t->plan, COPY, "in");
    assert_true(weir_plan_check(&t->plan, &reports));
    for (int i = 0; i < NODES; i++) {
        t->nodes[i] = (weir_why_node){.state = WEIR_STATE_RUNNING, .reason = ""};
        t->parts[i] = (weir_why_part){.at_us = -1, .reason = ""};
    }
    t->why = (weir_why){&t->plan, t->nodes, t->parts, now_us};
    t->only = NODES;
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    stage *t = *state;
    weir_plan_fini(&t->plan);
    free(t);
    return 0;
}

static void wait_for(stage *t, int node, weir_wait_kind kind, const char *subject,
                     const char *text, int64_t since_us)
{
    weir_why_node *n = &t->nodes[node];
    weir_wait *wait = &n->waits[n->wait_count++];
    *wait = (weir_wait){.kind = kind, .since_us = now_us - since_us};
    snprintf(wait->subject, sizeof wait->subject, "%s", subject);
    snprintf(wait->text, sizeof wait->text, "%s", text);
}

static void keep_path(void *arg, const weir_why_path *path)
{
    stage *t = arg;
    assert_in_range(t->count, 0, 7);
    t->paths[t->count++] = *path;
}

/*  The path that ends at the node.                                              */
static const weir_why_path *ask(stage *t, size_t end)
{
    t->count = 0;
    assert_true(weir_why_paths(&t->why, t->only, keep_path, t));
    for (size_t i = 0; i < t->count; i++)
        if (t->paths[i].nodes[t->paths[i].count - 1] == end) return &t->paths[i];
    fail_msg("no path ends there");
    return NULL;
}

static void expect(stage *t, size_t end, weir_why_verdict verdict, size_t culprit,
                   const char *text)
{
    const weir_why_path *path = ask(t, end);
    assert_string_equal(path->text, text);
    assert_string_equal(weir_why_word(path->verdict), weir_why_word(verdict));
    assert_int_equal(path->culprit, culprit);
}

/* --- Stages ------------------------------------------------------------------------ */

static void each_path_is_told_once(void **state)
{
    stage *t = *state;
    const weir_why_path *path = ask(t, OUT);
    assert_int_equal(t->count, 2);
    assert_int_equal(path->count, 3);
    assert_int_equal(path->nodes[0], IN);
    assert_int_equal(path->nodes[1], P);
    expect(t, OUT, WEIR_WHY_FLOWS, IN, "it flows");
    t->only = P;
    ask(t, OUT);
    assert_int_equal(t->count, 1);
    t->only = IN;
    ask(t, COPY);
    assert_int_equal(t->count, 2);
}

static void a_sink_in_a_call_holds_all_before_it(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_ACK, "p", "", 10 * s);
    wait_for(t, P, WEIR_WAIT_CREDIT, "out", "", 11 * s);
    t->nodes[OUT].step_us = now_us - 12 * s;
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out is in a call that does not return: what it writes to or reads from does "
           "not answer, or it computes, for 12 s");
    assert_int_equal(ask(t, OUT)->since_us, 12 * s);
    t->nodes[OUT].step_us = now_us - s / 2; // busy, as it should be
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out is slower than what comes: p waits for its credit, for 11 s");
}

static void a_paused_node_is_named(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_ACK, "p", "", 50 * s);
    wait_for(t, P, WEIR_WAIT_PAUSED, "", "", 65 * s);
    expect(t, OUT, WEIR_WHY_HELD, P, "p is paused by a command, for 1 min 5 s");
    /*  It need not have been noticed upstream yet.                             */
    t->nodes[IN].wait_count = 0;
    expect(t, OUT, WEIR_WHY_HELD, P, "p is paused by a command, for 1 min 5 s");
    expect(t, COPY, WEIR_WHY_FLOWS, IN, "it flows");
}

static void a_reader_elsewhere_is_named(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_CREDIT, "p", "", 3 * s);
    wait_for(t, P, WEIR_WAIT_CREDIT, "out", "", 3 * s);
    wait_for(t, OUT, WEIR_WAIT_CREDIT, "tcp://hub:7000", "", 4 * s);
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out waits for tcp://hub:7000, which grants no more credit, for 4 s");
    t->nodes[OUT].waits[0].kind = WEIR_WAIT_ACK;
    expect(
        t, OUT, WEIR_WHY_HELD, OUT,
        "out waits for tcp://hub:7000, which has not made safe what was sent, for 4 s");
}

static void a_link_that_is_not_there_tells_its_cause(void **state)
{
    stage *t = *state;
    wait_for(t, OUT, WEIR_WAIT_LINK, "tcp://hub:7000",
             "the certificate of 'a' is not allowed", 7200 * s);
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out has no link to tcp://hub:7000: the certificate of 'a' is not allowed, "
           "for 2 h");
    t->nodes[OUT].wait_count = 0;
    wait_for(t, OUT, WEIR_WAIT_LINK, "tcp://hub:7000", "", 200000);
    expect(t, OUT, WEIR_WHY_HELD, OUT, "out has no link to tcp://hub:7000, for 200 ms");
}

static void an_address_is_told_once(void **state)
{
    stage *t = *state;
    wait_for(t, OUT, WEIR_WAIT_LINK, "redis://h:6379", "redis://h:6379: no answer", s);
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out has no link to redis://h:6379: no answer, for 1 s");
    t->nodes[OUT].wait_count = 0;
    wait_for(t, OUT, WEIR_WAIT_WRITE, "nats://u:***@h:4222", "h:4222: refused", s);
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out cannot write to nats://u:***@h:4222: refused, for 1 s");
    t->nodes[OUT].wait_count = 0;
    wait_for(t, OUT, WEIR_WAIT_WRITE, "nats://a:1,nats://b:1", "b:1: refused", s);
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out cannot write to nats://a:1,nats://b:1: b:1: refused, for 1 s");
}

static void what_cannot_be_read_is_told_with_its_cause(void **state)
{
    stage *t = *state;
    t->nodes[IN].at_end = false;
    wait_for(t, IN, WEIR_WAIT_READ, "events", "shard 1: redis://h:6379: no answer",
             5 * s);
    expect(t, OUT, WEIR_WHY_HELD, IN,
           "in cannot read events: shard 1: redis://h:6379: no answer, for 5 s");
}

static void a_part_that_starts_again_says_why(void **state)
{
    stage *t = *state;
    size_t part = t->plan.parts[P];
    t->parts[part] = (weir_why_part){.at_us = now_us + 4 * s,
                                     .failed_us = now_us - 2 * s,
                                     .reason = "out: cannot sync: No space left"};
    for (int i = 0; i < NODES; i++)
        t->nodes[i].state = WEIR_STATE_FAILED;
    expect(t, OUT, WEIR_WHY_FAILED, IN,
           "it stopped 2 s ago and starts again in 4 s: out: cannot sync: No space left");
    assert_int_equal(ask(t, OUT)->since_us, 2 * s);
}

static void a_write_that_is_tried_again_is_told(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_ACK, "p", "", s);
    wait_for(t, P, WEIR_WAIT_ACK, "out", "", s);
    wait_for(t, OUT, WEIR_WAIT_WRITE, "/var/x", "cannot write /var/x: No space left",
             86400 * s * 4 + 3600 * s);
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out cannot write /var/x: No space left, for 4 days 1 h");
    t->nodes[OUT].waits[0].text[0] = 0;
    expect(t, OUT, WEIR_WHY_HELD, OUT, "out cannot write to /var/x, for 4 days 1 h");
    t->nodes[OUT].wait_count = 0;
    wait_for(t, OUT, WEIR_WAIT_WRITE, "store", "waits for its store", s);
    expect(t, OUT, WEIR_WHY_HELD, OUT, "out waits for its store, for 1 s");
}

static void memory_and_rate_are_causes(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_LEDGER, "", "", 6 * s);
    expect(t, OUT, WEIR_WHY_HELD, IN,
           "in waits for memory: the limit is reached, for 6 s");
    t->nodes[IN].waits[0].kind = WEIR_WAIT_RATE;
    expect(t, OUT, WEIR_WHY_HELD, IN, "in keeps to its own rate limit, for 6 s");
    wait_for(t, OUT, WEIR_WAIT_LINK, "tcp://hub:1", "nobody answers there", s);
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out has no link to tcp://hub:1: nobody answers there, for 1 s");
    t->nodes[OUT].wait_count = 0;
    t->nodes[IN].at_end = true;
    expect(t, OUT, WEIR_WHY_IDLE, IN, "nothing to do: in has nothing to read");
}

static void a_node_that_has_failed_tells_its_reason(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_ACK, "p", "", s);
    t->nodes[P].state = WEIR_STATE_FAILED;
    t->nodes[P].reason = "t.lua:7: boom";
    expect(t, OUT, WEIR_WHY_FAILED, P, "p has stopped: t.lua:7: boom");
    assert_int_equal(ask(t, OUT)->since_us, -1);
}

static void no_work_is_no_trouble(void **state)
{
    stage *t = *state;
    t->nodes[IN].at_end = true;
    expect(t, OUT, WEIR_WHY_IDLE, IN, "nothing to do: in has nothing to read");
    t->nodes[OUT].open = 1; // the rest is under way
    expect(t, OUT, WEIR_WHY_FLOWS, IN, "it flows");
    t->nodes[OUT].open = 0;
    t->nodes[IN].state = WEIR_STATE_ENDED;
    expect(t, OUT, WEIR_WHY_ENDED, IN, "in has ended, and all of it is safe");
}

static void of_two_readers_the_slow_one_is_named(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_ACK, "copy", "", 9 * s);
    const char *slow =
        "copy is slower than what comes: in waits for its acknowledgements, for 9 s";
    expect(t, COPY, WEIR_WHY_HELD, COPY, slow);
    expect(t, OUT, WEIR_WHY_HELD, COPY, slow); // the other branch is held by it, too
    /*  Each path looks at its own reader first.                                */
    wait_for(t, IN, WEIR_WAIT_CREDIT, "p", "", 2 * s);
    expect(t, OUT, WEIR_WHY_HELD, P,
           "p is slower than what comes: in waits for its credit, for 2 s");
    expect(t, COPY, WEIR_WHY_HELD, COPY, slow);
}

static void a_snapshot_that_makes_no_sense_ends(void **state)
{
    stage *t = *state;
    wait_for(t, P, WEIR_WAIT_ACK, "in", "", s);
    wait_for(t, IN, WEIR_WAIT_ACK, "p", "", s);
    assert_int_equal(ask(t, OUT)->verdict, WEIR_WHY_HELD);
}

static void count_path(void *arg, const weir_why_path *path)
{
    assert_string_equal(path->text, "it flows");
    (*(size_t *)arg)++;
}

static void very_many_paths_are_cut(void **state)
{
    (void)state;
    weir_plan plan = {0};
    weir_reports reports = {0};
    char name[8], from[8];
    weir_plan_add(&plan, "n0", "", &source);
    for (int layer = 0; layer < 20; layer++) { // 2^20 paths
        for (int side = 0; side < 2; side++) {
            snprintf(name, sizeof name, "n%d", 3 * layer + 1 + side);
            snprintf(from, sizeof from, "n%d", 3 * layer);
            weir_plan_from(&plan, weir_plan_add(&plan, name, "", &process), from);
        }
        snprintf(name, sizeof name, "n%d", 3 * layer + 3);
        size_t node = weir_plan_add(&plan, name, "", layer == 19 ? &sink : &process);
        snprintf(from, sizeof from, "n%d", 3 * layer + 1);
        weir_plan_from(&plan, node, from);
        snprintf(from, sizeof from, "n%d", 3 * layer + 2);
        weir_plan_from(&plan, node, from);
    }
    assert_true(weir_plan_check(&plan, &reports));
    weir_why_node *nodes = calloc(plan.node_count, sizeof *nodes);
    weir_why_part *parts = calloc(plan.node_count, sizeof *parts);
    for (size_t i = 0; i < plan.node_count; i++) {
        parts[i].at_us = -1;
        nodes[i].reason = "";
    }
    weir_why why = {&plan, nodes, parts, now_us};
    size_t told = 0;
    assert_false(weir_why_paths(&why, plan.node_count, count_path, &told));
    assert_int_equal(told, WEIR_WHY_PATHS_MAX);
    told = 0;
    assert_false(weir_why_paths(&why, 2, count_path, &told)); // the last half of all
    free(nodes);
    free(parts);
    weir_plan_fini(&plan);
}

static void durations_read_well(void **state)
{
    (void)state;
    const struct {
        int64_t us;
        const char *text;
    } cases[] = {{0, "0 ms"},
                 {999999, "999 ms"},
                 {s, "1 s"},
                 {60 * s, "1 min"},
                 {3599 * s, "59 min 59 s"},
                 {3600 * s, "1 h"},
                 {7805 * s, "2 h 10 min"},
                 {86400 * s, "1 day"},
                 {400000 * s, "4 days 15 h"}};
    char text[32];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_duration_print(cases[i].us, text);
        assert_string_equal(text, cases[i].text);
    }
}

/*  The group of a bus is called as the node that it feeds; here p is the bus.       */
static void a_group_that_holds_a_store_is_asked_why(void **state)
{
    stage *t = *state;
    wait_for(t, IN, WEIR_WAIT_CREDIT, "p", "", 5 * s);
    wait_for(t, P, WEIR_WAIT_HELD, "copy", "the group copy has not read 7", 9 * s);
    expect(t, OUT, WEIR_WHY_HELD, COPY,
           "the store of p is full: the group copy has not read 7, for 9 s");
    t->nodes[COPY].paused = true;
    expect(t, OUT, WEIR_WHY_HELD, COPY,
           "the store of p is full: the group copy has not read 7: copy is paused by a "
           "command");
}

static void a_group_without_a_node_is_named(void **state)
{
    stage *t = *state;
    wait_for(t, P, WEIR_WAIT_HELD, "billing", "the group billing has not read 7", 9 * s);
    expect(t, OUT, WEIR_WHY_HELD, P,
           "the store of p is full: the group billing has not read 7, for 9 s");
}

static weir_route *some_route(const void *config)
{
    (void)config;
    return NULL;
}

static bool stores(const void *config)
{
    (void)config;
    return true;
}

/*  Credit comes again and again, so the bus, here `in`'s reader p, has no wait.     */
static void a_bus_in_memory_is_never_the_slow_one(void **state)
{
    stage *t = *state;
    weir_class bus = process;
    bus.route = some_route;
    t->plan.nodes[P].class = &bus;
    wait_for(t, IN, WEIR_WAIT_ACK, "p", "", 5 * s);
    t->nodes[OUT].open = 2;
    expect(t, OUT, WEIR_WHY_HELD, OUT,
           "out is slower than what comes: p waits for its acknowledgements, for 5 s");
    bus.stores = stores;
    expect(t, OUT, WEIR_WHY_HELD, P,
           "p is slower than what comes: in waits for its acknowledgements, for 5 s");
    bus.stores = NULL;
    t->nodes[OUT].open = 0;
    expect(t, OUT, WEIR_WHY_HELD, P,
           "p is slower than what comes: in waits for its acknowledgements, for 5 s");
    t->plan.nodes[P].class = &process;
}

/*  A bus may read what it has written, by detours.                                  */
static void groups_that_hold_each_other_end(void **state)
{
    stage *t = *state;
    wait_for(t, P, WEIR_WAIT_HELD, "copy", "the group copy has not read 7", 9 * s);
    wait_for(t, COPY, WEIR_WAIT_HELD, "p", "the group p has not read 8", 9 * s);
    assert_int_equal(ask(t, OUT)->verdict, WEIR_WHY_HELD);
}

#define STAGE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGE(each_path_is_told_once),
        STAGE(a_sink_in_a_call_holds_all_before_it),
        STAGE(a_paused_node_is_named),
        STAGE(a_reader_elsewhere_is_named),
        STAGE(a_link_that_is_not_there_tells_its_cause),
        STAGE(what_cannot_be_read_is_told_with_its_cause),
        STAGE(an_address_is_told_once),
        STAGE(a_part_that_starts_again_says_why),
        STAGE(a_write_that_is_tried_again_is_told),
        STAGE(memory_and_rate_are_causes),
        STAGE(a_node_that_has_failed_tells_its_reason),
        STAGE(no_work_is_no_trouble),
        STAGE(of_two_readers_the_slow_one_is_named),
        STAGE(a_snapshot_that_makes_no_sense_ends),
        STAGE(a_group_that_holds_a_store_is_asked_why),
        STAGE(a_group_without_a_node_is_named),
        STAGE(groups_that_hold_each_other_end),
        STAGE(a_bus_in_memory_is_never_the_slow_one),
        cmocka_unit_test(very_many_paths_are_cut),
        cmocka_unit_test(durations_read_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
