#include "actors/reader.h"
#include "actors/outstanding.h"
#include "runtime/clock.h"
#include <inttypes.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct {
    weir_actor *kit;
    const weir_reader_config *config;
    weir_groups *groups; // the hub's
    weir_member_of *member;
    weir_outstanding sent;
    int port;
    int wake_fd;  // eventfd
    bool starved; // told as a wait
    bool blind;   // likewise: a shard cannot be read
    bool ending;
} reader;

static const int64_t again_us = 250000; // between attempts to join

/* --- Reading ----------------------------------------------------------------------- */

/*  A timer makes the next turn come.                                               */
static void nothing(void *arg)
{
    (void)arg;
}

static void note_memory(reader *self, bool starved)
{
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    if (starved == self->starved) return;
    self->starved = starved;
    if (starved)
        weir_vitals_wait(vitals, WEIR_WAIT_LEDGER, "", "%s",
                         "the memory limit is reached");
    else
        weir_vitals_flow(vitals, WEIR_WAIT_LEDGER, "");
}

static void note_trouble(reader *self, const weir_delivered *delivered)
{
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    const char *bus = weir_hub_name(self->config->hub);
    if (delivered->has_failed)
        weir_vitals_wait(vitals, WEIR_WAIT_READ, bus, "shard %" PRIu32 ": %s",
                         delivered->failed_shard, delivered->trouble);
    else if (self->blind)
        weir_vitals_flow(vitals, WEIR_WAIT_READ, bus);
    self->blind = delivered->has_failed;
}

/*  A record that the group gives alone, since it has failed before, comes so.       */
static bool read_once(reader *self)
{
    const weir_node *node = weir_actor_node(self->kit);
    weir_delivered delivered = {0};
    int64_t deadline = -1, now = weir_clock_now_us();
    weir_err err = weir_groups_fetch(self->groups, self->member, UINT32_MAX,
                                     node->block_bytes, &delivered, &deadline);
    if (err) {
        weir_actor_fail(self->kit, err, NULL,
                        "the group '%s' is gone: its positions were "
                        "removed",
                        self->config->group);
        return false;
    }
    bool some = delivered.block != NULL;
    if (some)
        weir_outstanding_send(&self->sent, self->kit, self->port, delivered.shard,
                              &delivered.block, &delivered.at);
    weir_actor_vitals(self->kit)->at_end =
        !some && !delivered.failing && !delivered.starved && !delivered.pending;
    note_memory(self, !some && delivered.starved);
    note_trouble(self, &delivered);
    weir_delivered_fini(&delivered);
    if (some) return true;
    int64_t wait = deadline < 0 ? -1 : deadline > now ? deadline - now : 0;
    weir_actor_timer(self->kit, nothing, wait);
    return false;
}

static bool turn(void *arg)
{
    reader *self = arg;
    if (!self->member || self->ending || !weir_actor_has_room(self->kit)) return false;
    return read_once(self);
}

static void woken(void *arg)
{
    reader *self = arg;
    eventfd_read(self->wake_fd, &(eventfd_t){0});
}

/* --- What comes back --------------------------------------------------------------- */

/*  The position was set meanwhile, or the shard is another member's: what is read next
    comes from there.                                                               */
static weir_err ack(void *arg, uint32_t shard, weir_position at, weir_report *report)
{
    reader *self = arg;
    weir_err err = weir_groups_ack(self->groups, self->member, shard, at, true, report);
    return err == WEIR_EREFUSED ? WEIR_OK : err;
}

static weir_err nack(void *arg, uint32_t shard, weir_position at, const char *why)
{
    reader *self = arg;
    weir_report report = {0};
    weir_err err =
        weir_groups_nack_soon(self->groups, self->member, shard, at, -1, why, &report);
    return err == WEIR_EREFUSED ? WEIR_OK : err;
}

/*  Blocks until the commit is durable.                                             */
static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    return weir_outstanding_commit(entry, ack, arg, report);
}

static weir_err refused(void *arg, weir_entry *entry, const weir_refused *refusal)
{
    reader *self = arg;
    weir_report report = {0};
    weir_err err = weir_outstanding_refuse(self->kit, entry, refusal, nack, self);
    return err ? err : weir_groups_settle(self->groups, self->member, &report);
}

/*  The group has taken it from here for good: it came in once more, and died.      */
static void buried(void *arg)
{
    reader *self = arg;
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    weir_count_add(vitals, WEIR_COUNT_IN, 1);
    weir_count_add(vitals, WEIR_COUNT_DEAD, 1);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err join(reader *self, weir_report *report)
{
    const weir_group_options *o = &self->config->options;
    weir_group_config config = weir_group_defaults;
    weir_err err = weir_group_options_start(o, &config, report);
    if (err) return err;
    config.ack_timeout_us = o->ack_timeout_us;
    config.member_timeout_us = WEIR_NONE; // its supervisor knows better
    config.buried = buried;
    config.arg = self;
    config.retry = (weir_retry_wait){o->retry_first_us, o->retry_max_us};
    config.max_deliver = o->max_deliver;
    config.window = o->window;
    return weir_groups_join(self->groups, self->config->group, self->config->member,
                            &config, NULL, self->wake_fd, &self->member, report);
}

/*  Where the store's server is away it is asked again: a new group has to know where it
    begins.                                                                         */
static void join_when_there(void *arg)
{
    reader *self = arg;
    weir_report report = {0};
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    const char *bus = weir_hub_name(self->config->hub);
    if (self->ending) return;
    weir_err err = join(self, &report);
    if (weir_store_is_away(err)) {
        weir_vitals_wait(vitals, WEIR_WAIT_LINK, bus, "%s", report.text);
        weir_actor_timer(self->kit, join_when_there, again_us);
    } else if (err) {
        weir_actor_fail(self->kit, err, report.where, "%s", report.text);
    } else {
        weir_vitals_flow(vitals, WEIR_WAIT_LINK, bus);
    }
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    reader *self = arg;
    self->kit = kit;
    self->config = config;
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake_fd < 0 || weir_actor_watch(kit, self->wake_fd, woken))
        return weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
    const weir_node *node = weir_actor_node(kit);
    self->port = weir_actor_port(kit, node->name);
    weir_err err =
        weir_hub_open(self->config->hub, node->state_dir, node->ledger, report);
    if (err) return err;
    self->groups = weir_hub_groups(self->config->hub);
    if (!weir_hub_store(self->config->hub)->class->set_fences) return join(self, report);
    weir_actor_timer(kit, join_when_there, 0);
    return WEIR_OK;
}

static void fini(void *arg)
{
    reader *self = arg;
    if (self->member) weir_groups_leave(self->groups, &self->member);
    weir_outstanding_fini(&self->sent, self->kit);
    if (self->wake_fd >= 0) close(self->wake_fd);
}

static void drain(void *arg)
{
    reader *self = arg;
    self->ending = true;
    weir_actor_end(self->kit);
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_reader_config defaults = {.group = NULL};

static const weir_option options[] = {
    {"group", WEIR_OPTION_TEXT, offsetof(weir_reader_config, group), 0, 0, NULL, false,
     "the consumer group"},
    {"member", WEIR_OPTION_TEXT, offsetof(weir_reader_config, member), 0, 0, NULL, false,
     "the node that it feeds"},
    {"start", WEIR_OPTION_TEXT, offsetof(weir_reader_config, options.start), 0, 0, NULL,
     false, "where a new group begins"},
    {"of", WEIR_OPTION_TEXT, offsetof(weir_reader_config, options.of), 0, 0, NULL, false,
     "the bus"},
    {.name = NULL},
};

const weir_class weir_reader_class = {
    .name = "reader",
    .help = "brings a node the records of a bus with a store",
    .actor = weir_bus_reader,
    .size = sizeof(reader),
    .config_size = sizeof(weir_reader_config),
    .defaults = &defaults,
    .options = options,
    .source = true,
    .tracks = true,
    .follows = true,
    .placed = true,
    .init = init,
    .fini = fini,
    .turn = turn,
    .refused = refused,
    .commit = commit,
    .drain = drain,
};

void weir_bus_reader(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_reader_class, pipe, config);
}
