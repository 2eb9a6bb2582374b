/*  embed-c STATE COUNT TAKE: a CZMQ program with a zauth, a SIGINT handler and workers of
    its own (door.h). They append COUNT readings to a bus on disk, each in its thread;
    TAKE readings are taken from it to stdout; and where one run ends the next goes on. */
#include "door.h"
#include <actors/bus.h>
#include <actors/groups.h>
#include <actors/poll.h>
#include <sys/eventfd.h>

static weir_bus *bus;
static weir_groups *groups;
static weir_member_of *member;
static weir_report report;

static weir_err open_bus(const char *state, int more_fd)
{
    const char *options[] = {"store",  "disk", "disk.keep", "all", "key", "gauge",
                             "shards", "1",    "scale.max", "4",   NULL};
    weir_bus_config config = weir_bus_defaults;
    config.name = "readings";
    config.options = options;
    config.state_dir = state;
    if (weir_bus_new(&bus, &config, &report)) return report.err;
    groups = weir_bus_groups(bus);
    return weir_groups_join(groups, "print", "main", &weir_group_defaults, NULL, more_fd,
                            &member, &report);
}

static void append(const char *reading)
{
    if (weir_bus_append_payload(bus, WEIR_JSON, reading, strlen(reading), NULL))
        fputs("embed-c: a reading is not taken\n", stderr);
}

/*  How many readings are stored: a poller looks at all of them, page by page.         */
static uint64_t count_stored(void)
{
    uint64_t stored = 0;
    weir_page page;
    weir_poll_request request = weir_poll_defaults;
    weir_poller *poller = weir_bus_poller(bus);
    for (bool more = true; more; weir_page_fini(&page)) {
        more = !weir_poller_poll(poller, &request, &page, &report) && page.more;
        stored += page.count;
        weir_cursor_move(&request.cursor, &page.cursor);
    }
    weir_cursor_fini(&request.cursor);
    weir_poller_destroy(&poller);
    return stored;
}

/*  Prints some readings that nobody of the group has had, and acknowledges them.      */
static uint32_t take(uint32_t most)
{
    weir_record record;
    weir_delivered got;
    weir_groups_fetch(groups, member, most, 1 << 20, &got, &(int64_t){0});
    uint32_t taken = got.records;
    weir_iterator walk = {.block = got.block};
    while (taken && weir_iterator_next(&walk, &record, NULL))
        printf("%.*s\n", (int)record.size, (const char *)record.data);
    if (taken && fflush(stdout) == 0)
        weir_groups_ack(groups, member, got.shard, got.at[taken - 1], true, &report);
    weir_delivered_fini(&got);
    return taken;
}

int main(int argc, char **argv)
{
    if (argc < 4) return fputs("usage: embed-c STATE COUNT TAKE\n", stderr), 2;
    uint64_t count = strtoul(argv[2], NULL, 10), most = strtoul(argv[3], NULL, 10);
    int more_fd = eventfd(0, 0);
    if (open_bus(argv[1], more_fd))
        return fprintf(stderr, "embed-c: %s: %s\n", report.where, report.text), 1;
    int safe_fd = weir_bus_fd(bus);
    uint64_t before = count_stored(), sent = 0, taken = 0;
    zsock_t *source = door_open(append);
    zpoller_t *poller = zpoller_new(&safe_fd, &more_fd, NULL);
    while (!interrupted && weir_bus_health(bus, NULL) != WEIR_BUS_DOWN &&
           (weir_bus_acked(bus) < count || taken < most)) {
        if (++sent <= count)
            zstr_sendf(source, "{\"gauge\":%ju,\"n\":%ju}", sent % 10, before + sent);
        if (sent == count / 2) weir_bus_scale(bus, 4, 5000, NULL);
        int *ready = zpoller_wait(poller, sent < count ? 0 : 1000);
        if (ready) eventfd_read(*ready, &(eventfd_t){0});
        for (uint32_t got; (got = take(most - taken)) > 0; taken += got)
            continue;
    }

    door_close();
    weir_bus_flush(bus, 5000);
    uint64_t appended = weir_bus_appended(bus), stored = count_stored() - before;
    weir_groups_leave(groups, &member);
    uint64_t unsafe = weir_bus_destroy(&bus, 5000);
    fprintf(stderr, "%s%ju readings appended, %ju not safe, %ju stored, %ju taken\n",
            interrupted ? "interrupted: " : "", appended, unsafe, stored, taken);
    zpoller_destroy(&poller);
    return unsafe || stored != appended;
}
