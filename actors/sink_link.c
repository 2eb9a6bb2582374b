#include "actors/sink_link.h"
#include "runtime/relay.h"

const weir_sink_link_config weir_sink_link_defaults = {
    .heartbeat = 1000000,
    .timeout = 5000000,
    .on_error = WEIR_ON_ERROR_DEAD,
    .screen = WEIR_SCREEN_DEFAULTS,
};

typedef struct {
    weir_actor *kit;
    weir_relay *relay;
    weir_on_error on_error;
} sink_link;

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_endpoint endpoint_of(const weir_sink_link_config *config)
{
    return (weir_endpoint){
        .endpoint = config->connect ? config->connect : "",
        .plaintext = config->plaintext,
        .server = config->server,
        .heartbeat_us = config->heartbeat,
        .connect_us = config->timeout,
    };
}

static weir_err check(const void *config, weir_report *report)
{
    weir_endpoint endpoint = endpoint_of(config);
    weir_err err = weir_endpoint_check(&endpoint, false, report);
    if (!err && !weir_endpoint_is_foreign(endpoint.endpoint))
        err = weir_report_set(report, WEIR_EINVAL, NULL,
                              "inproc leads nowhere here: expected tcp://HOST:PORT or "
                              "ipc://PATH");
    if (err) snprintf(report->where, sizeof report->where, "connect");
    return err;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_link *self = arg;
    const weir_sink_link_config *c = config;
    weir_endpoint endpoint = endpoint_of(c);
    const char *name = weir_actor_node(kit)->name;
    self->kit = kit;
    self->on_error = (weir_on_error)c->on_error;
    weir_endpoint_warn(&endpoint);
    weir_err err =
        weir_relay_new(&self->relay, kit, weir_actor_port(kit, name), &c->screen, report);
    return err ? err : weir_actor_connect(kit, name, &endpoint, NULL, report);
}

static void fini(void *arg)
{
    sink_link *self = arg;
    weir_relay_destroy(&self->relay);
}

/* --- Messages ---------------------------------------------------------------------- */

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_link *self = arg;
    weir_relay_take(self->relay, entry, block);
}

static void room(void *arg)
{
    sink_link *self = arg;
    weir_relay_room(self->relay);
}

static void bury(sink_link *self, weir_entry *entry, weir_block *block, const char *error)
{
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    while (weir_iterator_next(&walk, &record, &origin)) {
        weir_dead *dead =
            weir_dead_new(weir_actor_node(self->kit)->name, WEIR_DEAD_SINK, error, 1,
                          &record, origin->source, origin->peer, origin->label);
        weir_entry_add_dead(entry, &dead);
    }
}

static weir_err refused(void *arg, weir_entry *entry, const weir_refused *refusal)
{
    sink_link *self = arg;
    char error[320];
    uint32_t records = weir_block_records(refusal->block);
    if (self->on_error == WEIR_ON_ERROR_STOP) return WEIR_ESTOP;
    snprintf(error, sizeof error, "the other side refused it: %s: %s", refusal->code,
             refusal->text);
    entry->fates.done -= records;
    if (self->on_error == WEIR_ON_ERROR_DROP) {
        entry->fates.skipped += records;
        return WEIR_OK;
    }
    bury(self, entry, refusal->block, error);
    entry->fates.dead += records;
    return WEIR_OK;
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_option options[] = {
    {"connect", WEIR_OPTION_TEXT, offsetof(weir_sink_link_config, connect), 0, 0, NULL,
     true, "the source.link to send to: tcp://HOST:PORT or ipc://PATH"},
    {"server", WEIR_OPTION_TEXT, offsetof(weir_sink_link_config, server), 0, 0, NULL,
     false, "the name in the certificate that the other side must have"},
    {"plaintext", WEIR_OPTION_BOOL, offsetof(weir_sink_link_config, plaintext), 0, 0,
     NULL, false, "tcp without encryption and without knowing who takes it"},
    {"heartbeat", WEIR_OPTION_TIME, offsetof(weir_sink_link_config, heartbeat), 10000,
     300e6, NULL, false, "between heartbeats; when three are missed it is lost"},
    {"timeout", WEIR_OPTION_TIME, offsetof(weir_sink_link_config, timeout), 10000, 300e6,
     NULL, false, "for connecting and shaking hands, before the next attempt"},
    {"on_error", WEIR_OPTION_WORD, offsetof(weir_sink_link_config, on_error), 0, 0,
     weir_on_error_words, false, "for records that the other side refuses for good"},
    WEIR_SCREEN_OPTIONS(weir_sink_link_config, screen),
    {.name = NULL},
};

const weir_class weir_sink_link_class = {
    .name = "sink.link",
    .help = "sends records to another weir, over tcp with CURVE or over ipc",
    .actor = weir_sink_link,
    .size = sizeof(sink_link),
    .config_size = sizeof(weir_sink_link_config),
    .defaults = &weir_sink_link_defaults,
    .options = options,
    .inlet = true,
    .check = check,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .room = room,
    .refused = refused,
};

void weir_sink_link(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_link_class, pipe, config);
}
