#include "actors/bus_given.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PAIRS 4

static weir_bus_node_config config;
static weir_report report;

static weir_err read_these(const char *const *options)
{
    report = (weir_report){0};
    weir_options_copy(weir_bus_node_options, &config, &weir_bus_node_defaults,
                      sizeof config);
    return weir_bus_given_read(&config, options, &report);
}

static void forget(void)
{
    weir_options_free(weir_bus_node_options, &config);
}

#define READ(...) read_these((const char *const[]){__VA_ARGS__, NULL})

static void mistakes_are_told_with_their_option(void **state)
{
    (void)state;
    static const struct {
        const char *options[2 * PAIRS + 1]; // names and values
        const char *where, *says;
    } cases[] = {
        {{"ring_byte", "1MB"}, "ring_byte", "did you mean 'ring_bytes'?"},
        {{"keep.age", "7d"}, "keep.age", "did you mean 'disk.keep.age'?"},
        {{"keep", "all"}, "keep", "did you mean 'disk.keep'?"},
        {{"frobnicate", "7d"}, "frobnicate", "no such option"},
        {{"", "x"}, "", "no such option"},
        {{"ring_bytes", "1048576"}, "ring_bytes", "unit"},
        {{"ring_bytes", "1KB"}, "ring_bytes", "1MB"},
        {{"batch.max_delay", "10"}, "batch.max_delay", "unit"},
        {{"shards", "1.5"}, "shards", "fraction"},
        {{"shards", "1e30"}, "shards", "fraction"},
        {{"shards", "many"}, "shards", "many"},
        {{"shards", ""}, "shards", "expected"},
        {{"shards", NULL}, "shards", "no value"},
        {{"scale.fill", "nan"}, "scale.fill", "range"},
        {{"overflow", "spill"}, "overflow", "drop_oldest"},
        {{"store", "kafka"}, "store", "expected none | disk | redis | jetstream"},
        {{"store", "redis"}, "redis.url", "required"},
        {{"store", "jetstream"}, "jetstream.url", "required"},
        {{"store", "redis", "redis.url", "redis://:pw@1.2.3.4"},
         "redis.url",
         "plaintext"},
        {{"store", "redis", "redis.url", "http://h"}, "redis.url", "no url of a redis"},
        {{"store", "jetstream", "jetstream.url", "nats://h"},
         "jetstream.url",
         "plaintext"},
        {{"redis.url", "redis://h"}, "redis.url", "'store' with the value 'redis'"},
        {{"disk.keep.hold", "yes"}, "disk.keep.hold", "true or false"},
        {{"batch.min_records", "20000"}, "batch.min_records", "batch.max_records"},
        {{"store", "disk"}, "disk.keep", "at least one of"},
        {{"shards", "1", "key", "a", "shards", "2"}, "shards", "twice"},
        {{"disk.map", "1GB"}, "disk.map", "'store' with the value 'disk'"},
        {{"sample.one_in", "9"}, "sample.one_in", "'overflow' with the value 'sample'"},
        {{"overflow", "sample"}, "sample.one_in", "required"},
        {{"disk.keep", "7d"}, "disk.keep", "disk.keep.NAME"},
        {{"disk.keep.age", "7d", "disk.keep", "all"}, "disk.keep", "twice"},
        {{"disk.keep", "all", "disk.keep.age", "7d"}, "disk.keep", "twice"},
        {{"scale", "function"}, "scale", "scale.NAME"},
        {{"scale.want", "function"}, "scale.want", "expected function"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_not_equal(read_these(cases[i].options), WEIR_OK);
        assert_string_equal(report.where, cases[i].where);
        if (!strstr(report.text, cases[i].says))
            fail_msg("case %zu: %s: %s", i, report.where, report.text);
        forget();
    }
}

static void values_are_those_of_a_topology(void **state)
{
    (void)state;
    assert_int_equal(READ("store", "disk", "disk.keep.age", "7d", "disk.keep.hold",
                          "false", "shards", "auto", "retry.attempts", "forever", "key",
                          "a.b", "scale.fill", "0.5", "overflow", "sample",
                          "sample.one_in", "10"),
                     WEIR_OK);
    const weir_bus_options *o = &config.bus;
    assert_int_equal(o->store, WEIR_BUS_DISK);
    assert_int_equal(o->keep, WEIR_TABLE);
    assert_int_equal(o->disk.keep_age_us, 7ll * 24 * 3600 * 1000000);
    assert_false(o->disk.hold);
    assert_int_equal(o->shards, WEIR_AUTO);
    assert_int_equal(o->retry.attempts, WEIR_FOREVER);
    assert_string_equal(o->key, "a.b");
    assert_true(o->scale.fill == 0.5);
    assert_int_equal(o->one_in, 10);
    forget();
}

static void nothing_given_leaves_the_defaults(void **state)
{
    (void)state;
    assert_int_equal(read_these(NULL), WEIR_OK);
    for (const weir_option *o = weir_bus_node_options; o->name; o++) {
        weir_buffer is = {0}, usual = {0};
        weir_option_print(o, &config, &is);
        weir_option_print(o, &weir_bus_node_defaults, &usual);
        assert_int_equal(is.size, usual.size);
        if (is.size) assert_memory_equal(is.data, usual.data, is.size);
        weir_buffer_fini(&is);
        weir_buffer_fini(&usual);
    }
    forget();
}

static void options_of_a_table_open_it(void **state)
{
    (void)state;
    assert_int_equal(READ("shards", "1", "batch.max_records", "99"), WEIR_OK);
    assert_false(weir_bus_has_policy(&config.bus));
    forget();
    assert_int_equal(READ("shards", "1", "scale.max", "4"), WEIR_OK);
    assert_true(weir_bus_has_policy(&config.bus));
    assert_false(weir_bus_has_function(&config.bus));
    forget();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_told_with_their_option),
        cmocka_unit_test(values_are_those_of_a_topology),
        cmocka_unit_test(nothing_given_leaves_the_defaults),
        cmocka_unit_test(options_of_a_table_open_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
