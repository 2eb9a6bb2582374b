/*  Runs what docs/embedding.md shows: test_embed.py writes its listings into listings.h,
    functions as they stand, other statements each as the body of one.               */
#include "actors/bus.h"
#include "actors/groups.h"
#include "actors/poll.h"
#include "actors/sink_null.h"
#include "runtime/clock.h"
#include <czmq.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

/*  What the listings take for granted.                                              */
static weir_bus *bus;
static weir_realm *realm;
static weir_report report;
static const char *text = "{}";
static size_t size = 2;
static atomic_uint used; // records

static void die(const char *where, const char *why)
{
    fprintf(stderr, "embed_docs: %s: %s\n", where, why);
    exit(1);
}

static void give_up(void)
{
    die("append", "a record is not taken");
}

static void use(void *arg, const uint8_t *data, size_t data_size)
{
    (void)arg;
    if (data_size < 2 || *data != '{') die("use", "that is no record of ours");
    used++;
}

#include "listings.h"

static void need(bool good, const char *what)
{
    if (!good) die("need", what);
}

static void append_some(unsigned count)
{
    char customer[16], json[32];
    for (unsigned i = 0; i < count; i++) {
        snprintf(customer, sizeof customer, "c%u", i % 10);
        snprintf(json, sizeof json, "{\"n\":%u}", i);
        if (append(bus, customer, json)) give_up();
    }
    need(weir_bus_flush(bus, 20000) == WEIR_OK, "the records are not safe");
}

/* --- Reading ----------------------------------------------------------------------- */

static void by_pages(void)
{
    weir_cursor cursor = {0};
    used = 0;
    append_some(2500);
    read_on(bus, &cursor);
    need(used == 2500, "a poller reads all");
    append_some(10);
    read_on(bus, &cursor);
    need(used == 2510, "the cursor goes on where it was");
    weir_cursor_fini(&cursor);
}

static atomic_bool stop;

static void *member(void *name)
{
    work(weir_bus_groups(bus), name, &stop);
    return NULL;
}

/*  The last record wakes both, so that they see that they shall stop.               */
static void by_a_group(void)
{
    pthread_t threads[2];
    static char *const names[] = {"one", "two"};
    used = 0;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, member, names[i]);
    int64_t until_ms = zclock_mono() + 20000;
    while (used < 2510 && zclock_mono() < until_ms)
        zclock_sleep(1);
    stop = true;
    append_some(1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    need(used >= 2510 && used <= 2511, "two members read all, each record once");
}

static void by_a_function(void)
{
    weir_bus_config config = weir_bus_defaults;
    config.take = take;
    used = 0;
    need(weir_bus_new(&bus, &config, &report) == WEIR_OK, report.text);
    append_some(1000);
    need(weir_bus_destroy(&bus, 5000) == 0 && used == 1000, "a function takes all");
}

int main(void)
{
    bus = open_bus();
    by_pages();
    by_a_group();
    need(weir_bus_destroy(&bus, 5000) == 0, "something is not safe");
    by_a_function();
    puts("as the page says");
    return 0;
}
