#include "actors/bus_taker.h"

typedef struct {
    weir_actor *kit;
    const weir_bus_taker_config *config;
} taker;

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    taker *self = arg;
    (void)report;
    self->kit = kit;
    self->config = config;
    return WEIR_OK;
}

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    taker *self = arg;
    self->config->take(self->config->arg, block);
    entry->fates.done = entry->records;
    weir_actor_done(self->kit, entry);
}

static const weir_option no_options[] = {{.name = NULL}};

static const weir_class taker_class = {
    .name = "taker",
    .help = "gives blocks to a C program",
    .actor = weir_bus_taker,
    .size = sizeof(taker),
    .config_size = sizeof(weir_bus_taker_config),
    .options = no_options,
    .inlet = true,
    .init = init,
    .recv_block = recv_block,
};

void weir_bus_taker(zsock_t *pipe, void *config)
{
    weir_actor_run(&taker_class, pipe, config);
}
