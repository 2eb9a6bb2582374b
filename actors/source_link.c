#include "actors/source_link.h"
#include "runtime/relay.h"

const weir_source_link_config weir_source_link_defaults = {
    .heartbeat = 30000000,
    .screen = WEIR_SCREEN_DEFAULTS,
};

typedef struct {
    weir_actor *kit;
    weir_relay *relay;
} source_link;

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_endpoint endpoint_of(const weir_source_link_config *config)
{
    return (weir_endpoint){
        .endpoint = config->listen ? config->listen : "",
        .plaintext = config->plaintext,
        .role = WEIR_ROLE_PRODUCE,
        .heartbeat_us = config->heartbeat,
    };
}

static weir_err check(const void *config, weir_report *report)
{
    weir_endpoint endpoint = endpoint_of(config);
    weir_err err = weir_endpoint_check(&endpoint, true, report);
    if (!err && !weir_endpoint_is_foreign(endpoint.endpoint))
        err = weir_report_set(report, WEIR_EINVAL, NULL,
                              "inproc leads nowhere here: expected tcp://ADDRESS:PORT or "
                              "ipc://PATH");
    if (err) snprintf(report->where, sizeof report->where, "listen");
    return err;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_link *self = arg;
    const weir_source_link_config *c = config;
    weir_endpoint endpoint = endpoint_of(c);
    self->kit = kit;
    weir_endpoint_warn(&endpoint);
    weir_actor_vitals(kit)->at_end = true; // it never has anything left to read
    weir_err err = weir_relay_new(&self->relay, kit,
                                  weir_actor_port(kit, weir_actor_node(kit)->name),
                                  &c->screen, report);
    return err ? err : weir_actor_listen(kit, &endpoint, report);
}

static void fini(void *arg)
{
    source_link *self = arg;
    weir_relay_destroy(&self->relay);
}

/* --- Messages ---------------------------------------------------------------------- */

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    source_link *self = arg;
    weir_relay_take(self->relay, entry, block);
}

static void room(void *arg)
{
    source_link *self = arg;
    weir_relay_room(self->relay);
}

static void drain(void *arg)
{
    source_link *self = arg;
    weir_actor_drain_inlet(self->kit);
    weir_actor_end(self->kit);
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_option options[] = {
    {"listen", WEIR_OPTION_TEXT, offsetof(weir_source_link_config, listen), 0, 0, NULL,
     true, "where senders connect: tcp://ADDRESS:PORT or ipc://PATH"},
    {"plaintext", WEIR_OPTION_BOOL, offsetof(weir_source_link_config, plaintext), 0, 0,
     NULL, false, "tcp without encryption and without knowing who sends"},
    {"heartbeat", WEIR_OPTION_TIME, offsetof(weir_source_link_config, heartbeat), 10000,
     300e6, NULL, false,
     "between heartbeats to senders, which have their own; three missed: it is lost"},
    WEIR_SCREEN_OPTIONS(weir_source_link_config, screen),
    {.name = NULL},
};

const weir_class weir_source_link_class = {
    .name = "source.link",
    .help = "takes records from other weirs, over tcp with CURVE or over ipc",
    .actor = weir_source_link,
    .size = sizeof(source_link),
    .config_size = sizeof(weir_source_link_config),
    .defaults = &weir_source_link_defaults,
    .options = options,
    .inlet = true,
    .source = true,
    .check = check,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .room = room,
    .drain = drain,
};

void weir_source_link(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_link_class, pipe, config);
}
