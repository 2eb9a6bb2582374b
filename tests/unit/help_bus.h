/*  help_bus: what tests of a bus in this process share: its options, appends, audits, and
    a thread that appends. `bus` is the one bus of the test.

    Include it in one test program each; everything is static.                      */
#pragma once
#include "tests/unit/help_actor.h"
#include "tests/unit/help_store.h"
#include "actors/bus.h"
#include "runtime/block.h"
#include <pthread.h>

/* --- Set-up ------------------------------------------------------------------------ */

#define SHARDS_MAX 64
#define OPTIONS_MAX 40
#define KEYS 100

static weir_bus_config config;
static const char *options[OPTIONS_MAX];
static size_t option_count;
static weir_bus *bus;
static weir_report report;
static weir_store *store;
static help_store_counts counts;

static void set(const char *name, const char *value)
{
    assert_true(option_count + 2 < OPTIONS_MAX);
    options[option_count++] = name;
    options[option_count++] = value;
    options[option_count] = NULL;
}

static int begin(void **state)
{
    (void)state;
    config = weir_bus_defaults;
    config.name = "host";
    config.options = options;
    option_count = 0;
    options[0] = NULL;
    memset(&counts, 0, sizeof counts);
    store = NULL;
    return 0;
}

UNUSED_FUNCTION static int begin_with_store(void **state)
{
    begin(state);
    store = config.store = help_store_new(true, &counts);
    return 0;
}

static void open_bus(void)
{
    weir_err err = weir_bus_new(&bus, &config, &report);
    if (err) fail_msg("%s: %s", report.where, report.text);
}

UNUSED_FUNCTION static void append(uint64_t count, size_t size)
{
    char text[8192];
    memset(text, 'x', sizeof text);
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(weir_bus_append_payload(bus, WEIR_TEXT, text, size, NULL),
                         WEIR_OK);
}

static weir_err append_keyed(unsigned key, unsigned number)
{
    char name[16], text[64];
    int name_size = snprintf(name, sizeof name, "k%u", key);
    int size = snprintf(text, sizeof text, "{\"k\":%u,\"n\":%u}", key, number);
    weir_record record = {
        .format = WEIR_JSON,
        .key = {.type = WEIR_STR,
                .data = (const uint8_t *)name,
                .size = (size_t)name_size},
        .data = (const uint8_t *)text,
        .size = (size_t)size,
    };
    return weir_bus_append(bus, &record, NULL);
}

UNUSED_FUNCTION static weir_bus_sums audit(void)
{
    weir_bus_sums s;
    weir_bus_audit(bus, &s);
    assert_int_equal(s.offered, s.accepted + s.full + s.sampled + s.too_large +
                                    s.invalid + s.closed);
    assert_int_equal(s.accepted, s.safe + s.evicted + s.dead + s.resident);
    return s;
}

UNUSED_FUNCTION static void flush(void)
{
    assert_int_equal(weir_bus_flush(bus, 60000), WEIR_OK);
}

UNUSED_FUNCTION static void wedge(uint32_t shards, bool on)
{
    for (uint32_t i = 0; i < shards; i++)
        help_store_wedge(store, i, on);
}

static uint64_t unsafe_from(size_t first)
{
    weir_bus_shard shards[SHARDS_MAX];
    uint64_t sum = 0;
    size_t count = weir_bus_look(bus, shards, SHARDS_MAX);
    for (size_t i = first; i < count; i++)
        sum += shards[i].unsafe;
    return sum;
}

UNUSED_FUNCTION static uint64_t unsafe_in_shards(void)
{
    return unsafe_from(0);
}

/*  In all shards but the first.                                                    */
UNUSED_FUNCTION static uint64_t others_unsafe(void)
{
    return unsafe_from(1);
}

static void close_clean(void)
{
    assert_int_equal(weir_bus_destroy(&bus, 60000), 0);
    assert_null(bus);
}

/* --- Load -------------------------------------------------------------------------- */

typedef struct {
    atomic_bool stop;
    bool keyed;
    pthread_t thread;
    unsigned appended;
} load;

static void *append_until_stopped(void *arg)
{
    load *self = arg;
    char text[200];
    memset(text, 'x', sizeof text);
    while (!self->stop) {
        unsigned n = self->appended;
        weir_err err = self->keyed
                           ? append_keyed(n % KEYS, n / KEYS)
                           : weir_bus_append_payload(bus, WEIR_TEXT, text, 200, NULL);
        if (err) break;
        self->appended++;
    }
    return NULL;
}

UNUSED_FUNCTION static void load_start(load *self, bool keyed)
{
    *self = (load){.keyed = keyed};
    pthread_create(&self->thread, NULL, append_until_stopped, self);
}

UNUSED_FUNCTION static void load_stop(load *self)
{
    self->stop = true;
    pthread_join(self->thread, NULL);
}
