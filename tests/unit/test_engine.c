/*  The engine with programs in C, between a fed source and sinks that hold.   */
#include "actors/engine.h"
#include "tests/unit/help_actor.h"
#include <sys/stat.h>

#ifdef WEIR_SANITIZED
#define MANY 50000
#else
#define MANY 1000000
#endif

#define SINKS 3

typedef struct {
    feed_config feed;
    weir_engine_config engine;
    trap_config traps[SINKS];
    member source, process, sinks[SINKS];
    int sink_count;
    weir_ledger *ledger;
    char folder[64];
} chain;

static unsigned chains; // endpoints of each chain are its own

static void open_chain(chain *c, int sink_count, const char *const *outlets)
{
    char endpoint[64];
    chains++;
    c->sink_count = sink_count;
    c->ledger = weir_ledger_new(1u << 30);
    strcpy(c->folder, "/tmp/test_engine.XXXXXX");
    assert_non_null(mkdtemp(c->folder));
    c->feed.node.ledger = c->engine.node.ledger = c->ledger;
    c->engine.node.state_dir = c->folder;
    for (int i = 0; i < sink_count; i++) {
        fill_node(&c->sinks[i], &c->traps[i].node, "sink");
        open_member(&c->sinks[i], trap_actor, &c->traps[i]);
        snprintf(endpoint, sizeof endpoint, "inproc://sink-%u-%d", chains, i);
        listen_at(&c->sinks[i], endpoint);
        start(&c->sinks[i]);
    }
    fill_node(&c->process, &c->engine.node, "parse");
    open_member(&c->process, weir_engine, &c->engine);
    for (int i = 0; i < sink_count; i++) {
        snprintf(endpoint, sizeof endpoint, "inproc://sink-%u-%d", chains, i);
        connect_to(&c->process, outlets ? outlets[i] : "parse", endpoint);
    }
    snprintf(endpoint, sizeof endpoint, "inproc://parse-%u", chains);
    listen_at(&c->process, endpoint);
    start(&c->process);
    fill_node(&c->source, &c->feed.node, "in");
    open_member(&c->source, feed_actor, &c->feed);
    connect_to(&c->source, "in", endpoint);
    start(&c->source);
}

static void close_chain(chain *c)
{
    char path[128];
    stop(&c->source);
    stop(&c->process);
    for (int i = 0; i < c->sink_count; i++)
        stop(&c->sinks[i]);
    assert_balanced(&c->source);
    assert_balanced(&c->process);
    wait_until(weir_ledger_used(c->ledger) == 0); // libzmq closes in its own time
    assert_int_equal(weir_ledger_release_errors(c->ledger), 0);
    weir_ledger_destroy(&c->ledger);
    snprintf(path, sizeof path, "%s/dead.ndjson", c->folder);
    unlink(path);
    rmdir(c->folder);
}

static bool has_ended(const chain *c)
{
    return c->source.vitals.state == WEIR_STATE_ENDED;
}

static size_t dead_lines(const chain *c, const char *word)
{
    char path[128];
    static char line[4096];
    size_t lines = 0;
    snprintf(path, sizeof path, "%s/dead.ndjson", c->folder);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        lines += strstr(line, word) != NULL;
    if (file) fclose(file);
    return lines;
}

/* --- Payloads ---------------------------------------------------------------------- */

static uint64_t limit; // of the payloads that are made

static const char *make_numbers(uint64_t n, char text[256])
{
    if (n >= limit) return NULL;
    snprintf(text, 256, "{\"n\":%llu,\"key\":\"k%llu\"}", (unsigned long long)n,
             (unsigned long long)(n * 2654435761u % 100));
    return text;
}

static const char *make_one_bad(uint64_t n, char text[256])
{
    if (n >= 3) return NULL;
    return n == 1 ? "{\"n\":1" : make_numbers(n, text);
}

static uint64_t number_in(const weir_record *record, const char *name)
{
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)record->size, (const char *)record->data);
    const char *at = strstr(text, name);
    assert_non_null(at);
    return strtoull(at + strlen(name), NULL, 10);
}

/* --- Programs ---------------------------------------------------------------------- */

static weir_err open_nothing(void **self_p, const void *source,
                             const weir_program_setup *setup, weir_report *report)
{
    (void)setup;
    (void)report;
    *self_p = (void *)(uintptr_t)source;
    return WEIR_OK;
}

static void around(void *self)
{
    (void)self;
}

static void close_nothing(void **self_p)
{
    *self_p = NULL;
}

static _Atomic uint64_t calls;

/*  source is the name of what it does.                                        */
static weir_call_result call(void *self, weir_subject *subject, weir_emitter *out,
                             const char **error)
{
    const char *what = self;
    calls++;
    if (streq(what, "twice")) {
        weir_emit_input(out);
        assert(!weir_emit(out, &subject->record));
    } else if (streq(what, "pass")) {
        weir_emit_input(out);
    } else if (streq(what, "drop")) {
        return WEIR_CALL_DROP;
    } else if (streq(what, "parse")) {
        if (!weir_subject_parse(subject)) return WEIR_CALL_PARSE;
        weir_emit_input(out);
    } else if (streq(what, "fail")) {
        *error = "web.lua:1: no";
        return WEIR_CALL_FAILED;
    } else if (streq(what, "overrun")) {
        *error = "memory_limit";
        return WEIR_CALL_MEMORY;
    } else if (streq(what, "dead")) {
        *error = "x";
        return WEIR_CALL_DEAD;
    }
    return WEIR_CALL_DONE;
}

static const weir_program_class program = {open_nothing, around, around, call,
                                           close_nothing};

static chain *new_chain(const char *what, uint32_t block_records)
{
    chain *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->engine = weir_engine_defaults;
    if (what) c->engine.program = (weir_program){&program, what};
    c->feed.make = make_numbers;
    c->feed.block_records = block_records;
    c->feed.allowed = UINT64_MAX;
    calls = 0;
    return c;
}

/* --- Tests ------------------------------------------------------------------------- */

static void each_reader_gets_all_and_the_body_exists_once(void **state)
{
    (void)state;
    chain *c = new_chain("twice", 5);
    limit = 5;
    for (int i = 0; i < 3; i++)
        c->traps[i].hold = true;
    open_chain(c, 3, NULL);
    for (int i = 0; i < 3; i++)
        wait_until(c->traps[i].records == 10);
    assert_ptr_equal(c->traps[0].body, c->traps[1].body);
    assert_ptr_equal(c->traps[0].body, c->traps[2].body);
    for (int i = 0; i < 3; i++) { // safe when the last of them is
        assert_int_equal(c->feed.committed, 0);
        weir_actor_ask(c->sinks[i].actor, NULL, "RELEASE", "1", NULL);
        if (i < 2) wait_until(count_of(&c->sinks[i], WEIR_COUNT_ACKS) == 1);
    }
    wait_until(has_ended(c));
    assert_int_equal(c->feed.committed, 1);
    assert_int_equal(count_of(&c->process, WEIR_COUNT_DONE), 5);
    wait_until(count_of(&c->process, WEIR_COUNT_OUT) == 30);
    close_chain(c);
    free(c);
}

static void nothing_behind_a_failed_block_is_committed(void **state)
{
    (void)state;
    chain *c = new_chain("pass", 10);
    limit = 1000;
    c->traps[0].fail_at = 4;
    c->engine.workers = 2;
    c->engine.ordered = true;
    open_chain(c, 1, NULL);
    wait_until(c->sinks[0].vitals.state == WEIR_STATE_FAILED);
    zclock_sleep(50); // time enough for what must not come
    assert_in_range(c->feed.committed, 0, 3);
    assert_int_equal(c->traps[0].blocks, 4);
    assert_false(has_ended(c));
    close_chain(c);
    free(c);
}

static void a_stop_of_the_first_block_acknowledges_none(void **state)
{
    (void)state;
    chain *c = new_chain("fail", 10);
    limit = 1000;
    c->engine.on_error = WEIR_ON_ERROR_STOP;
    open_chain(c, 1, NULL);
    wait_until(c->process.vitals.state == WEIR_STATE_FAILED);
    assert_non_null(strstr(c->process.vitals.reason.text, "web.lua:1: no"));
    assert_int_equal(c->feed.committed, 0);
    assert_int_equal(count_of(&c->process, WEIR_COUNT_ACKS), 0);
    assert_int_equal(c->traps[0].blocks, 0);
    close_chain(c);
    free(c);
}

static void records_that_nobody_reads_are_not_parsed(void **state)
{
    (void)state;
    for (int with_program = 0; with_program < 2; with_program++) {
        chain *c = new_chain(with_program ? "pass" : NULL, 500);
        limit = MANY;
        open_chain(c, 1, NULL);
        wait_until(has_ended(c));
        assert_int_equal(c->traps[0].records, MANY);
        assert_int_equal(count_of(&c->process, WEIR_COUNT_PARSES), 0);
        close_chain(c);
        free(c);
    }
}

static void parse_error_decides_about_broken_payloads(void **state)
{
    (void)state;
    static const int policies[] = {WEIR_ON_ERROR_DEAD, WEIR_ON_ERROR_DROP,
                                   WEIR_ON_ERROR_STOP};
    for (int eager = 0; eager < 2; eager++)
        for (size_t i = 0; i < 3; i++) {
            chain *c = new_chain(eager ? "pass" : "parse", 3);
            limit = 3;
            c->feed.make = make_one_bad;
            c->engine.parse = eager;
            c->engine.parse_error = policies[i];
            open_chain(c, 1, NULL);
            if (policies[i] == WEIR_ON_ERROR_STOP) {
                wait_until(c->process.vitals.state == WEIR_STATE_FAILED);
                assert_int_equal(c->feed.committed, 0);
                assert_int_equal(c->traps[0].records, 0);
            } else {
                bool dead = policies[i] == WEIR_ON_ERROR_DEAD;
                wait_until(has_ended(c));
                assert_int_equal(c->traps[0].records, 2);
                assert_int_equal(c->feed.committed, 1);
                assert_int_equal(dead_lines(c, "\"reason\":\"parse\""), dead);
                assert_int_equal(count_of(&c->process, WEIR_COUNT_DEAD), dead);
                assert_int_equal(count_of(&c->process, WEIR_COUNT_SKIPPED), !dead);
            }
            assert_int_equal(count_of(&c->process, WEIR_COUNT_PARSE_ERRORS), 1);
            close_chain(c);
            free(c);
        }
}

static void filtered_blocks_are_acknowledged_without_a_call(void **state)
{
    (void)state;
    chain *c = new_chain("pass", 10);
    limit = 200;
    c->engine.screen.where = (char *)"n < 0";
    open_chain(c, 1, NULL);
    wait_until(has_ended(c));
    assert_int_equal(calls, 0);
    assert_int_equal(c->traps[0].blocks, 0);
    assert_int_equal(c->feed.committed, 20);
    assert_int_equal(count_of(&c->process, WEIR_COUNT_FILTERED), 200);
    close_chain(c);
    free(c);
}

static void results_have_their_fates(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        weir_count fate;
        const char *reason;
    } cases[] = {
        {"drop", WEIR_COUNT_DROPPED, NULL},
        {"nothing", WEIR_COUNT_DONE, NULL},
        {"dead", WEIR_COUNT_DEAD, "\"reason\":\"function\""},
        {"fail", WEIR_COUNT_DEAD, "\"reason\":\"function\""},
        {"overrun", WEIR_COUNT_DEAD, "\"reason\":\"overrun\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        chain *c = new_chain(cases[i].what, 4);
        limit = 4;
        open_chain(c, 1, NULL);
        wait_until(has_ended(c));
        assert_int_equal(count_of(&c->process, cases[i].fate), 4);
        if (cases[i].reason) assert_int_equal(dead_lines(c, cases[i].reason), 4);
        assert_int_equal(c->traps[0].blocks, 0);
        close_chain(c);
        free(c);
    }
}

static void ten_fresh_states_are_a_stop(void **state)
{
    (void)state;
    chain *c = new_chain("overrun", 20);
    limit = 20;
    open_chain(c, 1, NULL);
    wait_until(c->process.vitals.state == WEIR_STATE_FAILED);
    assert_int_equal(c->feed.committed, 0);
    close_chain(c);
    free(c);
}

/* --- Order ------------------------------------------------------------------------- */

typedef struct {
    uint64_t next[100]; // of each key: the least number that may come
    uint64_t seen, jumps, last;
} order;

static void look_at_order(void *arg, const weir_record *record, const weir_run *origin)
{
    order *o = arg;
    uint64_t n = number_in(record, "\"n\":"), key = number_in(record, "\"key\":\"k");
    assert(n >= o->next[key]);
    assert(origin && streq(origin->source, "in") && streq(origin->label, "feed"));
    o->next[key] = n + 1;
    if (o->seen && n != o->last + 1) o->jumps++;
    o->last = n;
    o->seen++;
}

static void keys_keep_their_order_with_four_workers(void **state)
{
    (void)state;
    chain *c = new_chain("pass", 200);
    order o = {.seen = 0};
    limit = 100000;
    c->engine.workers = 4;
    c->engine.key = (char *)"key";
    c->traps[0].look = look_at_order;
    c->traps[0].arg = &o;
    open_chain(c, 1, NULL);
    wait_until(has_ended(c));
    assert_int_equal(o.seen, 100000);
    assert_true(o.jumps > 0); // they did run beside each other
    close_chain(c);
    free(c);
}

static void ordered_outputs_leave_in_input_order(void **state)
{
    (void)state;
    chain *c = new_chain("pass", 37);
    order o = {.seen = 0};
    limit = 100000;
    c->engine.workers = 4;
    c->engine.ordered = true;
    c->traps[0].look = look_at_order;
    c->traps[0].arg = &o;
    open_chain(c, 1, NULL);
    wait_until(has_ended(c));
    assert_int_equal(o.seen, 100000);
    assert_int_equal(o.jumps, 0);
    close_chain(c);
    free(c);
}

/* --- Outlets ----------------------------------------------------------------------- */

static weir_rule two_outlets[] = {
    {(char *)"low", (char *)"n < 6", WEIR_ACTION_DROP, 1},
    {(char *)"even", (char *)"n == 0 or n == 4 or n == 8", WEIR_ACTION_DROP, 2},
    {(char *)"rest", NULL, WEIR_ACTION_OTHERWISE, 3},
};
static const char *const outlet_names[] = {"parse.low", "parse.even", "parse.rest"};

static void records_go_to_every_outlet_that_they_match(void **state)
{
    (void)state;
    chain *c = new_chain(NULL, 10);
    limit = 10;
    c->engine.outlets = (weir_rules){two_outlets, 3};
    open_chain(c, 3, outlet_names);
    wait_until(has_ended(c));
    assert_int_equal(c->traps[0].records, 6);
    assert_int_equal(c->traps[1].records, 3);
    assert_int_equal(c->traps[2].records, 3); // 6, 7, 9
    assert_int_equal(count_of(&c->process, WEIR_COUNT_DONE), 10);
    close_chain(c);
    free(c);
}

static void without_otherwise_the_unmatched_are_dead_letters(void **state)
{
    (void)state;
    chain *c = new_chain(NULL, 10);
    limit = 10;
    c->engine.outlets = (weir_rules){two_outlets, 2};
    open_chain(c, 2, outlet_names);
    wait_until(has_ended(c));
    assert_int_equal(dead_lines(c, "\"reason\":\"unrouted\""), 3);
    assert_int_equal(count_of(&c->process, WEIR_COUNT_DEAD), 3);
    assert_int_equal(count_of(&c->process, WEIR_COUNT_DONE), 7);
    close_chain(c);
    free(c);
}

static void a_rule_behind_the_function_takes_one_record_out(void **state)
{
    (void)state;
    weir_rule rule = {(char *)"", (char *)"n == 3", WEIR_ACTION_DEAD, 1};
    chain *c = new_chain("pass", 10);
    limit = 10;
    c->engine.outbound = (weir_rules){&rule, 1};
    open_chain(c, 1, NULL);
    wait_until(has_ended(c));
    assert_int_equal(c->traps[0].records, 9);
    assert_int_equal(dead_lines(c, "\"reason\":\"filter\""), 1);
    close_chain(c);
    free(c);
}

static void an_unknown_expression_decides_about_the_whole_record(void **state)
{
    (void)state;
    static weir_rule rules[] = {
        {(char *)"all", (char *)"$raw ~ 'n'", WEIR_ACTION_DROP, 1},
        {(char *)"low", (char *)"n < 6", WEIR_ACTION_DROP, 2},
    };
    static const char *const names[] = {"parse.all", "parse.low"};
    for (int policy = WEIR_UNKNOWN_DROP; policy <= WEIR_UNKNOWN_PASS; policy++) {
        chain *c = new_chain(NULL, 3);
        limit = 3;
        c->feed.make = make_one_bad;
        c->engine.outlets = (weir_rules){rules, 2};
        c->engine.screen.on_unknown = policy;
        open_chain(c, 2, names);
        wait_until(has_ended(c));
        assert_int_equal(c->traps[0].records, policy == WEIR_UNKNOWN_PASS ? 3 : 2);
        assert_int_equal(c->traps[1].records, 2);
        assert_int_equal(dead_lines(c, "\"reason\":\"parse\""),
                         policy == WEIR_UNKNOWN_DEAD);
        close_chain(c);
        free(c);
    }
}

/* --- Windows ----------------------------------------------------------------------- */

/*  A sink that holds everything stops the source, whatever passes in between.  */
static void a_reader_that_holds_bounds_what_is_under_way(void **state)
{
    (void)state;
    static const char *const programs[] = {NULL, "pass"};
    for (size_t i = 0; i < 2; i++) {
        chain *c = new_chain(programs[i], 10);
        limit = 100000;
        c->feed.node.window_bytes = c->engine.node.window_bytes = 65536;
        c->traps[0].node.window_bytes = 65536;
        c->traps[0].hold = true;
        c->feed.node.block_bytes = c->engine.node.block_bytes = 1024;
        open_chain(c, 1, NULL);
        wait_until(c->traps[0].blocks > 20);
        zclock_sleep(100);
        assert_true(weir_ledger_peak(c->ledger) < 2 << 20);
        assert_true(count_of(&c->source, WEIR_COUNT_RESIDENT) < 10000);
        char all[] = "65536";
        while (!has_ended(c)) {
            weir_actor_ask(c->sinks[0].actor, NULL, "RELEASE", all, NULL);
            zclock_sleep(1);
        }
        assert_int_equal(c->traps[0].records, 100000);
        close_chain(c);
        free(c);
    }
}

static void a_program_that_does_not_open_reaches_the_creator(void **state)
{
    (void)state;
    chain *c = new_chain(NULL, 10);
    c->engine.screen.where = (char *)"n <";
    fill_node(&c->process, &c->engine.node, "parse");
    c->process.actor = zactor_new(weir_engine, &c->engine);
    weir_handover_take(&c->process.report);
    assert_int_equal(c->process.report.err, WEIR_EINVAL);
    stop(&c->process);
    free(c);
}

int main(void)
{
    weir_socket_prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_reader_gets_all_and_the_body_exists_once),
        cmocka_unit_test(nothing_behind_a_failed_block_is_committed),
        cmocka_unit_test(a_stop_of_the_first_block_acknowledges_none),
        cmocka_unit_test(records_that_nobody_reads_are_not_parsed),
        cmocka_unit_test(parse_error_decides_about_broken_payloads),
        cmocka_unit_test(filtered_blocks_are_acknowledged_without_a_call),
        cmocka_unit_test(results_have_their_fates),
        cmocka_unit_test(ten_fresh_states_are_a_stop),
        cmocka_unit_test(keys_keep_their_order_with_four_workers),
        cmocka_unit_test(ordered_outputs_leave_in_input_order),
        cmocka_unit_test(records_go_to_every_outlet_that_they_match),
        cmocka_unit_test(without_otherwise_the_unmatched_are_dead_letters),
        cmocka_unit_test(a_rule_behind_the_function_takes_one_record_out),
        cmocka_unit_test(an_unknown_expression_decides_about_the_whole_record),
        cmocka_unit_test(a_reader_that_holds_bounds_what_is_under_way),
        cmocka_unit_test(a_program_that_does_not_open_reaches_the_creator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
