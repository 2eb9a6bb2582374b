#include "actors/bus_node.h"
#include "actors/engine.h"
#include "actors/reader.h"
#include "actors/sink_null.h"
#include "actors/source_generate.h"
#include "runtime/plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static weir_plan plan;
static weir_reports reports;

static int tear_down(void **state)
{
    (void)state;
    weir_plan_fini(&plan);
    weir_reports_fini(&reports);
    return 0;
}

static size_t add(const char *name, const weir_class *class, const char *from)
{
    char where[32];
    snprintf(where, sizeof where, "web.lua:%zu", plan.node_count + 1);
    size_t node = weir_plan_add(&plan, name, where, class);
    if (from) weir_plan_from(&plan, node, from);
    return node;
}

static size_t source(const char *name)
{
    return add(name, &weir_source_generate_class, NULL);
}

static size_t process(const char *name, const char *from)
{
    return add(name, &weir_engine_class, from);
}

static size_t sink(const char *name, const char *from)
{
    return add(name, &weir_sink_null_class, from);
}

static void add_outlet(size_t node, const char *name, const char *where)
{
    weir_engine_config *config = plan.nodes[node].config;
    weir_rules_add(&config->outlets, name, where, WEIR_ACTION_DROP, 1);
}

/*  The plan has exactly this complaint at this place.                         */
static void assert_complaint(const char *where, const char *text)
{
    assert_false(weir_plan_check(&plan, &reports));
    bool found = false;
    for (size_t i = 0; i < reports.count; i++)
        found |=
            strstr(reports.items[i].text, text) && streq(reports.items[i].where, where);
    if (!found)
        for (size_t i = 0; i < reports.count; i++)
            printf("%s: %s\n", reports.items[i].where, reports.items[i].text);
    assert_true(found);
}

static void a_good_plan_is_linked_and_ordered(void **state)
{
    (void)state;
    size_t out = sink("out", "parse"); // order of declaration does not matter
    size_t in = source("in");
    size_t parse = process("parse", "in");
    size_t copy = sink("copy", "parse");
    size_t other = source("other"), end = sink("end", "other");
    assert_true(weir_plan_check(&plan, &reports));
    assert_int_equal(reports.count, 0);
    assert_int_equal(plan.link_count, 4);
    size_t place[6];
    for (size_t i = 0; i < 6; i++)
        place[plan.order[i]] = i;
    assert_true(place[out] < place[parse] && place[copy] < place[parse]);
    assert_true(place[parse] < place[in] && place[end] < place[other]);
    assert_int_equal(plan.parts[in], plan.parts[out]);
    assert_int_equal(plan.parts[in], plan.parts[copy]);
    assert_int_equal(plan.parts[in], plan.parts[parse]);
    assert_int_equal(plan.parts[other], plan.parts[end]);
    assert_int_not_equal(plan.parts[in], plan.parts[other]);
    assert_int_equal(plan.parts[plan.parts[in]], plan.parts[in]); // named by a member
    assert_true(weir_plan_check(&plan, &reports));                // again
    assert_int_equal(plan.link_count, 4);
}

static void a_joining_node_joins_parts(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "in%d", i);
        source(name);
    }
    size_t out = sink("out", "in3");
    for (int i = 2; i >= 0; i--) {
        char name[16];
        snprintf(name, sizeof name, "in%d", i);
        weir_plan_from(&plan, out, name);
    }
    assert_true(weir_plan_check(&plan, &reports));
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(plan.parts[i], 0);
}

static void names_are_taken_once(void **state)
{
    (void)state;
    source("in");
    sink("out", "in");
    sink("out", "in");
    assert_complaint("web.lua:3", "the name is taken by the node at web.lua:2");
}

static void dangling_names_are_found(void **state)
{
    (void)state;
    source("in");
    sink("out", "inn");
    assert_complaint("web.lua:2", "unknown node 'inn'");
    assert_complaint("web.lua:1", "nobody reads from 'in'");
}

static void outlets_must_exist_and_be_named(void **state)
{
    (void)state;
    source("in");
    size_t parse = process("parse", "in");
    add_outlet(parse, "bad", "a > 1");
    add_outlet(parse, "rest", NULL);
    sink("a", "parse.bad");
    sink("b", "parse.worse");
    sink("c", "parse");
    sink("d", "in.x");
    assert_complaint("web.lua:4", "unknown outlet 'parse.worse'");
    assert_complaint("web.lua:5", "has several");
    assert_complaint("web.lua:6", "unknown outlet 'in.x'");
    assert_complaint("web.lua:2", "nobody reads from 'parse.rest'");
}

static void sinks_are_not_read_and_sources_do_not_read(void **state)
{
    (void)state;
    source("in");
    sink("a", "in");
    sink("b", "a");
    sink("c", NULL);
    weir_plan_from(&plan, source("more"), "in");
    assert_complaint("web.lua:3", "reads from a sink");
    assert_complaint("web.lua:4", "it reads nothing");
    assert_complaint("web.lua:5", "a source reads from no node");
}

static void nobody_reads_twice_from_one_outlet(void **state)
{
    (void)state;
    source("in");
    weir_plan_from(&plan, sink("out", "in"), "in");
    assert_complaint("web.lua:2", "it reads twice from 'in'");
}

static void cycles_are_found(void **state)
{
    (void)state;
    source("in");
    process("a", "in");
    weir_plan_from(&plan, 1, "b");
    process("b", "a");
    sink("out", "b");
    assert_complaint("web.lua:2", "cycle");
    assert_complaint("web.lua:3", "cycle");
}

static void a_node_that_reads_itself_is_a_cycle(void **state)
{
    (void)state;
    source("in");
    process("a", "in");
    weir_plan_from(&plan, 1, "a");
    sink("out", "a");
    assert_complaint("web.lua:2", "cycle");
}

static void names_are_fit_for_files_and_endpoints(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a/b", "a.b", "..", "a\nb"};
    for (size_t i = 0; i < 5; i++) {
        source(bad[i]);
        assert_complaint("web.lua:1", "a name");
        weir_plan_fini(&plan);
    }
    char name[65];
    memset(name, 'n', 64);
    name[64] = 0;
    source(name);
    assert_complaint("web.lua:1", "a name");
    weir_plan_fini(&plan);
    weir_reports_fini(&reports);
    name[63] = 0;
    source(name);
    sink("web_1-x", name);
    assert_true(weir_plan_check(&plan, &reports));
}

static void an_empty_plan_is_no_plan(void **state)
{
    (void)state;
    assert_false(weir_plan_check(&plan, &reports));
    assert_int_equal(reports.count, 1);
}

static void both_drawings_show_nodes_and_links(void **state)
{
    (void)state;
    source("in");
    size_t parse = process("parse", "in");
    add_outlet(parse, "bad", "a > 1");
    add_outlet(parse, "rest", NULL);
    sink("out", "parse.rest");
    weir_plan_from(&plan, 2, "parse.bad");
    assert_true(weir_plan_check(&plan, &reports));
    weir_buffer out = {0};
    weir_plan_print_text(&plan, &out);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, "in (source.generate)\n"
                                          " -> parse (process)\n"
                                          "     rest -> out (sink.null)\n"
                                          "     bad -> out (sink.null) ...\n");
    out.size = 0;
    weir_plan_print_dot(&plan, "web", &out);
    weir_buffer_put_byte(&out, 0);
    assert_non_null(strstr((char *)out.data, "digraph \"web\" {\n"));
    assert_non_null(strstr((char *)out.data, "\"in\" -> \"parse\";"));
    assert_non_null(strstr((char *)out.data, "\"parse\" -> \"out\" [label=\"rest\"];"));
    assert_non_null(strstr((char *)out.data, "\"parse\" -> \"out\" [label=\"bad\"];"));
    weir_buffer_fini(&out);
}

/* --- Stores ------------------------------------------------------------------------ */

/*  in -> events (a bus, on disk unless said), read by the node out.           */
static size_t bus(bool stores)
{
    source("in");
    size_t events = add("events", &weir_bus_node_class, "in");
    weir_bus_node_config *config = plan.nodes[events].config;
    config->bus.store = stores ? WEIR_BUS_DISK : WEIR_BUS_MEMORY;
    return events;
}

static size_t reader_of(const char *bus_name, const char *node)
{
    char name[64];
    snprintf(name, sizeof name, "%s>%s", bus_name, node);
    size_t reader = add(name, &weir_reader_class, NULL);
    weir_plan_reads(&plan, reader, bus_name);
    return reader;
}

static void a_bus_in_memory_is_a_node_like_others(void **state)
{
    (void)state;
    bus(false);
    assert_complaint("web.lua:2", "nobody reads from 'events'");
    weir_reports_fini(&reports);
    sink("out", "events");
    assert_true(weir_plan_check(&plan, &reports));
    assert_int_equal(plan.link_count, 2);
    assert_int_equal(plan.parts[0], plan.parts[2]);
}

static void a_store_may_be_the_end(void **state)
{
    (void)state;
    bus(true);
    assert_true(weir_plan_check(&plan, &reports));
    sink("out", "events");
    assert_complaint("web.lua:3", "by a link from a store: 'events'");
}

static void who_reads_a_store_is_a_part_of_its_own(void **state)
{
    (void)state;
    size_t events = bus(true), out = sink("out", "events>out");
    size_t reader = reader_of("events", "out");
    assert_true(weir_plan_check(&plan, &reports));
    assert_int_equal(plan.link_count, 2);
    assert_int_equal(plan.parts[reader], plan.parts[out]);
    assert_int_not_equal(plan.parts[reader], plan.parts[events]);
    size_t place[4];
    for (size_t i = 0; i < 4; i++)
        place[plan.order[i]] = i;
    assert_true(place[out] < place[reader] && place[reader] < place[events]);
    assert_int_equal(weir_plan_declared(&plan), 3);
}

static void a_circle_through_a_store_is_found(void **state)
{
    (void)state;
    size_t events = bus(true);
    process("again", "events>again");
    reader_of("events", "again");
    weir_plan_from(&plan, events, "again");
    assert_complaint("web.lua:2", "it stands on a cycle");
    for (size_t i = 0; i < reports.count; i++)
        assert_null(strstr(reports.items[i].text, ">"));
}

static void drawings_show_who_reads_a_store(void **state)
{
    (void)state;
    bus(true);
    sink("out", "events>out");
    reader_of("events", "out");
    assert_true(weir_plan_check(&plan, &reports));
    weir_buffer out = {0};
    weir_plan_print_text(&plan, &out);
    weir_buffer_put_byte(&out, 0);
    assert_string_equal((char *)out.data, "in (source.generate)\n"
                                          " -> events (bus)\n"
                                          "     -> out (sink.null)\n");
    out.size = 0;
    weir_plan_print_dot(&plan, "web", &out);
    weir_buffer_put_byte(&out, 0);
    assert_non_null(strstr((char *)out.data, "\"events\" -> \"out\" [style=dashed];"));
    assert_null(strstr((char *)out.data, "events>out"));
    weir_buffer_fini(&out);
}

#define TEST(function) cmocka_unit_test_teardown(function, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_plan_is_linked_and_ordered),
        TEST(a_joining_node_joins_parts),
        TEST(names_are_taken_once),
        TEST(dangling_names_are_found),
        TEST(outlets_must_exist_and_be_named),
        TEST(sinks_are_not_read_and_sources_do_not_read),
        TEST(nobody_reads_twice_from_one_outlet),
        TEST(cycles_are_found),
        TEST(a_node_that_reads_itself_is_a_cycle),
        TEST(names_are_fit_for_files_and_endpoints),
        TEST(an_empty_plan_is_no_plan),
        TEST(both_drawings_show_nodes_and_links),
        TEST(a_bus_in_memory_is_a_node_like_others),
        TEST(a_store_may_be_the_end),
        TEST(who_reads_a_store_is_a_part_of_its_own),
        TEST(a_circle_through_a_store_is_found),
        TEST(drawings_show_who_reads_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
