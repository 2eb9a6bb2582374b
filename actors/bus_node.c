#include "actors/bus_node.h"
#include "actors/bus_server.h"
#include "actors/bus_shards.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/log.h"
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct {
    weir_actor *kit;
    const weir_bus_node_config *config;
    weir_node node; // what shards inherit
    weir_hub *hub, *own_hub;
    weir_bus_shards *shards;
    weir_scaling *scaling; // NULL: no policy
    void *function;        // of a policy that is one; NULL: none
    char told[512];        // its last error
    int wake_fd;           // eventfd
    zactor_t *server;      // for other processes; NULL: none
    weir_bus_server_config server_config;
    sem_t server_ended;
    weir_report server_report; // of its init
} bus_node;

static const int stop_timeout_ms = 2000;

/* --- Scaling ----------------------------------------------------------------------- */

static void fail(bus_node *self, const weir_report *report)
{
    weir_actor_fail(self->kit, report->err, report->where, "%s", report->text);
}

static void tell_change(const bus_node *self, const char *why)
{
    uint32_t count;
    weir_bus_shards_changed(self->shards, &count);
    weir_log(WEIR_INFO, "scaling bus=%s shards=%" PRIu32 " changed=%" PRIu32 " cause=%s",
             self->node.name, weir_bus_shards_active(self->shards), count, why);
}

static void scale_to(bus_node *self, uint32_t want, const uint32_t *order, int64_t now_us)
{
    weir_report report = {0};
    weir_err err = weir_bus_shards_change(self->shards, want, order, &report);
    if (err == WEIR_EFULL) return;
    if (err) {
        fail(self, &report);
        return;
    }
    weir_scaling_changed(self->scaling, now_us);
    tell_change(self, "policy");
}

/*  A function that fails keeps the number as it is, and is told once.               */
static uint32_t ask_function(bus_node *self, const weir_scale_figures *figures,
                             int64_t now_us)
{
    weir_report report = {0};
    int64_t want;
    if (!self->config->bus.function.class->want(self->function, figures, &want,
                                                &report)) {
        self->told[0] = 0;
        return weir_scaling_allow(self->scaling, figures->shards, want, now_us);
    }
    if (strncmp(self->told, report.text, sizeof self->told - 1))
        weir_log(WEIR_WARN, "scaling policy failed bus=%s cause=\"%s\"", self->node.name,
                 report.text);
    snprintf(self->told, sizeof self->told, "%s", report.text);
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
        scale_to(self, want, order, now);
        free(order);
    }
    free(loads);
    weir_actor_timer(self->kit, look_at_loads, self->config->bus.scale.window_us);
}

/*  A shard has failed, or outlets have answered.                                   */
static void woken(void *arg)
{
    bus_node *self = arg;
    weir_report report = {0};
    eventfd_read(self->wake_fd, &(eventfd_t){0});
    if (weir_bus_shards_go_on(self->shards, &report)) fail(self, &report);
    weir_vitals_wake(weir_actor_vitals(self->kit));
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err open_hub(bus_node *self, weir_report *report)
{
    self->hub = self->config->hub;
    if (!self->hub)
        self->hub = self->own_hub = weir_hub_new(self->node.name, &self->config->bus);
    return weir_hub_open(self->hub, self->node.state_dir, report);
}

/*  Other processes read what is stored, and nothing else.                          */
static weir_err open_server(bus_node *self, weir_report *report)
{
    if (!weir_hub_store(self->hub)) return WEIR_OK;
    sem_init(&self->server_ended, 0, 0);
    self->server_config = (weir_bus_server_config){
        .node = self->node, .hub = self->hub, .bus_vitals = self->node.vitals};
    self->server_config.node.vitals = NULL;
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
    if (o->policy != WEIR_FUNCTION) return WEIR_OK;
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
    if (stuck) return;
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

static weir_err connect_reader(void *arg, const weir_endpoint *endpoint,
                               const char *reader, weir_report *report)
{
    bus_node *self = arg;
    if (weir_hub_store(self->hub))
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "a bus with a store is read by cursor");
    return weir_bus_shards_connect(self->shards, endpoint, reader, report);
}

static void start(void *arg)
{
    bus_node *self = arg;
    weir_report report = {0};
    if (weir_bus_shards_start(self->shards, &report))
        fail(self, &report);
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

static void drain(void *arg)
{
    bus_node *self = arg;
    weir_actor_timer(self->kit, look_at_loads, -1);
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
    weir_err err = parse_target(text, weir_bus_shards_active(self->shards), &want);
    zstr_free(&text);
    if (err)
        weir_report_set(&report, err, NULL, "expected a number of shards, +N or -N");
    else if (want < min || want > max)
        err = weir_report_set(&report, WEIR_EINVAL, NULL,
                              "%" PRId64 " shards are outside scale.min = %" PRId64
                              " and scale.max = %" PRId64,
                              want, min, max);
    if (!err) err = weir_bus_shards_change(self->shards, (uint32_t)want, NULL, &report);
    if (err) {
        zmsg_addstr(reply, report.text);
        return err;
    }
    uint32_t count;
    const uint32_t *ids = weir_bus_shards_changed(self->shards, &count);
    for (uint32_t i = 0; i < count; i++)
        zmsg_addstrf(reply, "%" PRIu32, ids[i]);
    if (self->scaling) weir_scaling_changed(self->scaling, weir_clock_now_us());
    tell_change(self, "command");
    return WEIR_OK;
}

static weir_err cmd_flush(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    (void)args;
    zmsg_addstrf(reply, "%" PRIu64, weir_route_ask_flush(weir_hub_route(self->hub)));
    return WEIR_OK;
}

static weir_err cmd_flushed(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    char *text = zmsg_popstr(args);
    uint64_t round = text ? strtoull(text, NULL, 10) : 0;
    zstr_free(&text);
    zmsg_addstr(reply,
                weir_route_is_flushed(weir_hub_route(self->hub), round) ? "1" : "0");
    return WEIR_OK;
}

static weir_err cmd_close(void *arg, zmsg_t *args, zmsg_t *reply)
{
    bus_node *self = arg;
    (void)args;
    (void)reply;
    tell_all(self, "CLOSE");
    return WEIR_OK;
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_command commands[] = {
    {"SCALE", cmd_scale,
     "N | +N | -N -> shard ... ; the number of active shards; gives the ids that it adds "
     "or drains"},
    {"FLUSH", cmd_flush, "-> round ; asks all outlets to flush what they have sent"},
    {"FLUSHED", cmd_flushed, "round -> 1 | 0 ; whether all of that is safe"},
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
    .help = "shards that hold records, in memory or on disk, between those who write and "
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
    .check = check,
    .init = init,
    .fini = fini,
    .start = start,
    .connect = connect_reader,
    .pause = pause_shards,
    .drain = drain,
};

void weir_bus_node(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_bus_node_class, pipe, config);
}
