#include "actors/bus_node.h"
#include "actors/bus_probe.h"
#include "actors/bus_server.h"
#include "actors/bus_shards.h"
#include "actors/bus_tell.h"
#include "actors/reader.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/log.h"
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct {
    weir_actor *kit;
    const weir_bus_node_config *config;
    weir_node node; // what shards inherit, its tap, too
    weir_hub *hub, *own_hub;
    weir_bus_shards *shards;
    weir_scaling *scaling; // NULL: no policy
    void *function;        // of a policy that is one; NULL: none
    char told[512];        // the last error of the policy
    bool closing;          // no scaling starts any more
    int wake_fd;           // eventfd
    zactor_t *server;      // for other processes; NULL: none
    weir_bus_server_config server_config;
    sem_t server_ended;
    weir_report server_report; // of its init
} bus_node;

static const int stop_timeout_ms = 2000;
static const int64_t again_us = 250000; // until a server that is away is asked again

/* --- Scaling ----------------------------------------------------------------------- */

static void fail(bus_node *self, const weir_report *report)
{
    weir_actor_fail(self->kit, report->err, report->where, "%s", report->text);
}

static void go_on(bus_node *self);

static void look_again(void *arg)
{
    go_on(arg);
}

/*  What has come to an end is finished; a shard that failed, fails the bus.         */
static void go_on(bus_node *self)
{
    weir_report report = {0};
    if (weir_bus_shards_go_on(self->shards, &report)) fail(self, &report);
    if (weir_bus_shards_is_waiting(self->shards))
        weir_actor_timer(self->kit, look_again, again_us);
}

static weir_err change(bus_node *self, uint32_t want, const uint32_t *order,
                       const char *why, weir_report *report)
{
    weir_err err = weir_bus_shards_change(self->shards, want, order, report);
    if (err == WEIR_ECLOSED) fail(self, report);
    if (err) return err;
    uint32_t count;
    weir_bus_shards_changed(self->shards, &count);
    if (self->scaling) weir_scaling_changed(self->scaling, weir_clock_now_us());
    if (count)
        weir_log(WEIR_INFO,
                 "scaling bus=%s shards=%" PRIu32 " changed=%" PRIu32 " cause=%s",
                 self->node.name, weir_bus_shards_active(self->shards), count, why);
    go_on(self);
    return WEIR_OK;
}

/*  What keeps the policy from working leaves the shards as they are, and is told once. */
static void tell_trouble(bus_node *self, const char *text)
{
    if (strncmp(self->told, text, sizeof self->told - 1))
        weir_log(WEIR_WARN, "scaling policy failed bus=%s cause=\"%s\"", self->node.name,
                 text);
    snprintf(self->told, sizeof self->told, "%s", text);
}

static void scale_to(bus_node *self, uint32_t want, const uint32_t *order)
{
    weir_report report = {0};
    weir_err err = change(self, want, order, "policy", &report);
    if (!err)
        self->told[0] = 0;
    else if (err != WEIR_EFULL && err != WEIR_ECLOSED)
        tell_trouble(self, report.text);
}

static uint32_t ask_function(bus_node *self, const weir_scale_figures *figures,
                             int64_t now_us)
{
    weir_report report = {0};
    int64_t want;
    if (!self->config->bus.function.class->want(self->function, figures, &want, &report))
        return weir_scaling_allow(self->scaling, figures->shards, want, now_us);
    tell_trouble(self, report.text);
    return figures->shards;
}

static void look_at_loads(void *arg)
{
    bus_node *self = arg;
    int64_t now = weir_clock_now_us();
    weir_scale_figures figures;
    weir_shard_load *loads =
        calloc(weir_bus_shards_active(self->shards) + 1, sizeof *loads);
    if (!loads) abort();
    uint32_t count = weir_bus_shards_loads(self->shards, loads, now);
    uint32_t want = weir_scaling_want(self->scaling, loads, count, now, &figures);
    if (self->function) want = ask_function(self, &figures, now);
    if (want != count) {
        uint32_t *order = calloc(count + 1, sizeof *order);
        if (!order) abort();
        weir_scale_drain_order(loads, count, order);
        scale_to(self, want, order);
        free(order);
    }
    free(loads);
    weir_actor_timer(self->kit, look_at_loads, self->config->bus.scale.window_us);
}

/*  A shard has failed, or outlets have answered.                                   */
static void woken(void *arg)
{
    bus_node *self = arg;
    eventfd_read(self->wake_fd, &(eventfd_t){0});
    go_on(self);
    weir_vitals_wake(weir_actor_vitals(self->kit));
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err open_hub(bus_node *self, weir_report *report)
{
    self->hub = self->config->hub;
    if (!self->hub)
        self->hub = self->own_hub = weir_hub_new(self->node.name, &self->config->bus);
    return weir_hub_open(self->hub, self->node.state_dir, self->node.ledger, report);
}

/*  Other processes read what is stored, and nothing else.                          */
static weir_err open_server(bus_node *self, weir_report *report)
{
    if (!weir_hub_store(self->hub)) return WEIR_OK;
    sem_init(&self->server_ended, 0, 0);
    self->server_config = (weir_bus_server_config){
        .node = self->node, .hub = self->hub, .bus_vitals = self->node.vitals};
    self->server_config.node.vitals = NULL;
    self->server_config.node.tap = NULL;
    self->server_config.node.report = &self->server_report;
    self->server_config.node.ended = &self->server_ended;
    self->server = zactor_new(weir_bus_server, &self->server_config);
    weir_handover_take(&self->server_report);
    if (!self->server || self->server_report.err) {
        *report = self->server_report;
        return report->err ? report->err
                           : weir_report_set(report, WEIR_ESYS, NULL,
                                             "no thread or socket could be made");
    }
    return weir_actor_ask(self->server, NULL, "START", NULL);
}

static weir_err open_policy(bus_node *self, weir_report *report)
{
    const weir_bus_options *o = &self->config->bus;
    weir_scale_config scale = o->scale;
    if (!weir_bus_has_policy(o)) return WEIR_OK;
    scale.max = weir_bus_scale_max(o);
    self->scaling = weir_scaling_new(&scale);
    if (!weir_bus_has_function(o)) return WEIR_OK;
    return o->function.class->open(&self->function, o->function.source, self->node.ledger,
                                   report);
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    bus_node *self = arg;
    uint64_t epoch;
    self->kit = kit;
    self->config = config;
    self->node = *weir_actor_node(kit);
    self->node.vitals = weir_actor_vitals(kit);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake_fd < 0 || weir_actor_watch(kit, self->wake_fd, woken))
        return weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
    weir_err err = open_hub(self, report);
    if (!err) err = weir_hub_begin_epoch(self->hub, &epoch, report);
    if (err) return err;
    err = open_policy(self, report);
    if (!err) err = open_server(self, report);
    if (err) return err;
    return weir_bus_shards_new(&self->shards,
                               &(weir_bus_shards_config){.hub = self->hub,
                                                         .node = &self->node,
                                                         .epoch = epoch,
                                                         .wake_fd = self->wake_fd},
                               report);
}

/*  A shard whose thread is stuck keeps what it uses.                                */
static void fini(void *arg)
{
    bus_node *self = arg;
    weir_scaling_destroy(&self->scaling);
    if (self->function) self->config->bus.function.class->close(&self->function);
    bool stuck = weir_actor_stop(&self->server, &self->server_ended, stop_timeout_ms);
    stuck |= weir_bus_shards_destroy(&self->shards) != WEIR_OK;
    if (stuck) {
        weir_actor_stuck(self->kit);
        return;
    }
    if (self->hub) weir_hub_leave(self->hub, self->node.vitals);
    weir_hub_destroy(&self->own_hub);
    if (self->wake_fd >= 0) close(self->wake_fd);
}

static weir_route *route_of(const void *config)
{
    const weir_bus_node_config *c = config;
    return weir_hub_route(c->hub);
}

static bool stores(const void *config)
{
    const weir_bus_node_config *c = config;
    return c->bus.store != WEIR_BUS_MEMORY;
}

static weir_err check(const void *config, weir_report *report)
{
    const weir_bus_node_config *c = config;
    return weir_bus_options_check(&c->bus, report);
}

static weir_err check_readable(const bus_node *self, weir_report *report)
{
    if (!weir_hub_store(self->hub)) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "a bus with a store is read by cursor");
}

static weir_err connect_reader(void *arg, const weir_endpoint *endpoint,
                               const char *reader, weir_report *report)
{
    bus_node *self = arg;
    weir_err err = check_readable(self, report);
    return err ? err : weir_bus_shards_connect(self->shards, endpoint, reader, report);
}

static weir_err join_bus(void *arg, weir_route *route, const char *reader,
                         weir_report *report)
{
    bus_node *self = arg;
    weir_err err = check_readable(self, report);
    return err ? err : weir_bus_shards_route(self->shards, route, reader, report);
}

static void start(void *arg)
{
    bus_node *self = arg;
    weir_report report = {0};
    if (weir_bus_shards_start(self->shards, &report))
        fail(self, &report);
    else if (weir_bus_shards_is_waiting(self->shards))
        weir_actor_timer(self->kit, start, again_us);
    else if (self->scaling)
        weir_actor_timer(self->kit, look_at_loads, self->config->bus.scale.window_us);
}

static void tell_all(bus_node *self, const char *command)
{
    weir_report report = {0};
    if (weir_bus_shards_tell(self->shards, command, &report)) fail(self, &report);
}

static void pause_shards(void *arg, bool paused)
{
    tell_all(arg, paused ? "PAUSE" : "RESUME");
}

static void stop_scaling(bus_node *self)
{
    self->closing = true;
    weir_actor_timer(self->kit, look_at_loads, -1);
}

static void drain(void *arg)
{
    bus_node *self = arg;
    stop_scaling(self);
    tell_all(self, "HURRY");
}

/* --- Commands ---------------------------------------------------------------------- */

/*  "4", "+2", "-1".                                                                */
static weir_err parse_target(const char *text, uint32_t active, int64_t *want)
{
    char *end;
    bool relative = text && (*text == '+' || *text == '-');
    if (!text || !*text) return WEIR_EINVAL;
    *want = strtoll(text, &end, 10) + (relative ? active : 0);
    return *end ? WEIR_EINVAL : WEIR_OK;
}

static weir_err cmd_scale(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    weir_report report = {0};
    int64_t want, min = self->config->bus.scale.min;
    int64_t max = weir_bus_scale_max(&self->config->bus);
    char *text = zmsg_popstr(args);
    uint32_t before = weir_bus_shards_active(self->shards);
    weir_err err = parse_target(text, before, &want);
    zstr_free(&text);
    if (self->closing)
        err = weir_report_set(&report, WEIR_ECLOSED, NULL, "the bus is closing");
    else if (err)
        weir_report_set(&report, err, NULL, "expected a number of shards, +N or -N");
    else if (want < min || want > max)
        err = weir_report_set(&report, WEIR_EINVAL, NULL,
                              "%" PRId64 " shards are outside scale.min = %" PRId64
                              " and scale.max = %" PRId64,
                              want, min, max);
    else
        err = change(self, (uint32_t)want, NULL, "command", &report);
    if (err) {
        zmsg_addstr(reply, report.text);
        return err;
    }
    uint32_t count;
    const uint32_t *ids = weir_bus_shards_changed(self->shards, &count);
    zmsg_addstrf(reply, "%" PRIu32, before);
    zmsg_addstrf(reply, "%" PRIu32, weir_bus_shards_active(self->shards));
    for (uint32_t i = 0; i < count; i++)
        zmsg_addstrf(reply, "%" PRIu32, ids[i]);
    return WEIR_OK;
}

static weir_err cmd_moved(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    (void)args;
    if (!weir_bus_shards_is_changing(self->shards)) return WEIR_OK;
    zmsg_addstr(reply, "a shard has not made safe what it has of vnodes that move");
    return WEIR_EFULL;
}

static weir_err cmd_flush(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    (void)args;
    zmsg_addstrf(reply, "%" PRIu64, weir_route_ask_flush(weir_hub_route(self->hub)));
    zmsg_addstrf(reply, "%" PRId64, self->config->bus.flush_timeout_us);
    return WEIR_OK;
}

static uint64_t pop_number(zmsg_t *args)
{
    char *text = zmsg_popstr(args);
    uint64_t number = text ? strtoull(text, NULL, 10) : 0;
    zstr_free(&text);
    return number;
}

static void tell_unsafe(uint32_t shard, const weir_shard_stats *stats, const char *error,
                        zmsg_t *reply)
{
    int64_t age_us = weir_clock_now_us() - stats->oldest_us;
    zmsg_addstrf(reply, "%" PRIu32, shard);
    zmsg_addstrf(reply, "%" PRIu64, weir_shard_resident(stats));
    zmsg_addstrf(reply, "%" PRId64, age_us > 0 ? age_us / 1000 : 0);
    zmsg_addstr(reply, error);
}

/*  What holds a shard's store up: its last error, or what its waits say.           */
static const char *error_of(weir_hub_shard *shard, const weir_shard_stats *stats,
                            weir_wait waits[WEIR_WAITS_MAX])
{
    if (*stats->dispatch.error) return stats->dispatch.error;
    size_t count = weir_vitals_waits(&shard->vitals, waits);
    for (size_t i = 0; i < count; i++)
        if (weir_wait_infos[waits[i].kind].degrades) return waits[i].text;
    return "";
}

static weir_err cmd_unsafe(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    size_t count;
    weir_wait waits[WEIR_WAITS_MAX];
    int64_t since_us = (int64_t)pop_number(args);
    weir_hub_shard **list = weir_hub_list(self->hub, &count);
    for (size_t i = 0; i < count; i++) {
        weir_shard_stats stats;
        weir_hub_look(list[i], &stats);
        if (stats.oldest_us && stats.oldest_us <= since_us)
            tell_unsafe(list[i]->id, &stats, error_of(list[i], &stats, waits), reply);
    }
    free(list);
    return WEIR_OK;
}

static weir_err cmd_flushed(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    uint64_t round = pop_number(args);
    zmsg_addstr(reply,
                weir_route_is_flushed(weir_hub_route(self->hub), round) ? "1" : "0");
    return WEIR_OK;
}

static weir_err cmd_close(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    (void)args;
    (void)reply;
    stop_scaling(self);
    tell_all(self, "CLOSE");
    return WEIR_OK;
}

/* --- Groups ------------------------------------------------------------------------ */

/*  Gives the groups and the name of the one that is meant, which is the caller's.   */
static weir_err find_groups(bus_node *self, zmsg_t *args, weir_groups **groups,
                            char **name, weir_report *report)
{
    *name = zmsg_popstr(args);
    *groups = weir_hub_groups(self->hub);
    if (*groups && *name) return WEIR_OK;
    return weir_report_set(report, WEIR_ENOTFOUND, NULL,
                           "it has no store, and so no groups");
}

static weir_err answer(zmsg_t *reply, weir_err err, const weir_report *report)
{
    if (err) zmsg_addstr(reply, report->text);
    return err;
}

static weir_err cmd_position(void *arg, zmsg_t *args, zmsg_t *reply)
{
    char *name, *where = NULL;
    weir_groups *groups;
    weir_report report = {0};
    weir_group_config config = weir_group_defaults;
    weir_err err = find_groups(arg, args, &groups, &name, &report);
    if (!err) where = zmsg_popstr(args);
    weir_group_options options = weir_group_options_defaults;
    options.start = where;
    if (!err) err = weir_group_options_start(&options, &config, &report);
    if (!err) err = weir_groups_set(groups, name, &config, &report);
    zstr_free(&name);
    zstr_free(&where);
    return answer(reply, err, &report);
}

static weir_err cmd_forget(void *arg, zmsg_t *args, zmsg_t *reply)
{
    char *name;
    weir_groups *groups;
    weir_report report = {0};
    weir_err err = find_groups(arg, args, &groups, &name, &report);
    if (!err) err = weir_groups_remove(groups, name, &report);
    zstr_free(&name);
    return answer(reply, err, &report);
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_command commands[] = {
    {"SCALE", cmd_scale,
     "N | +N | -N -> before active shard ... ; the number of active shards; gives how "
     "many "
     "they were and are, and the ids that it adds or drains"},
    {"MOVED", cmd_moved,
     "-> ; full while vnodes are under way between shards, or a shard drains"},
    {"FLUSH", cmd_flush,
     "-> round timeout_us ; asks all outlets to flush what they have sent; the bus's "
     "flush_timeout"},
    {"FLUSHED", cmd_flushed, "round -> 1 | 0 ; whether all of that is safe"},
    {"UNSAFE", cmd_unsafe,
     "time -> [shard records age_ms error]... ; the shards with records from before this "
     "time (weir_clock_now_us) that are not safe"},
    {"POSITION", cmd_position,
     "group position -> ; moves a group: start, end, a time or a cursor"},
    {"FORGET", cmd_forget, "group -> ; forgets a group without members"},
    {"CLOSE", cmd_close, "-> ; nothing is taken any more"},
    {NULL, NULL, NULL},
};

/*  It has one, that bears its name.                                                */
static const weir_rules *outlets_of(const void *config)
{
    (void)config;
    return NULL;
}

const weir_class weir_bus_node_class = {
    .name = "bus",
    .help =
        "shards that hold records, in memory or in a store, between those who write and "
        "those who read",
    .actor = weir_bus_node,
    .size = sizeof(bus_node),
    .config_size = sizeof(weir_bus_node_config),
    .defaults = &weir_bus_node_defaults,
    .options = weir_bus_node_options,
    .commands = commands,
    .inlet = true,
    .route = route_of,
    .outlets = outlets_of,
    .stores = stores,
    .tell = weir_bus_tell,
    .metrics = weir_bus_metrics,
    .check = check,
    .probe = weir_bus_probe,
    .init = init,
    .fini = fini,
    .start = start,
    .connect = connect_reader,
    .join = join_bus,
    .pause = pause_shards,
    .drain = drain,
};

void weir_bus_node(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_bus_node_class, pipe, config);
}
