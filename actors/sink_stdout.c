#include "actors/sink_stdout.h"
#include "runtime/files.h"
#include <errno.h>
#include <unistd.h>

const weir_sink_stdout_config weir_sink_stdout_defaults = {
    .delivery = WEIR_DELIVERY_DEFAULTS,
};

typedef struct {
    weir_actor *kit;
    weir_delivery *delivery;
} sink_stdout;

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_stdout *self = arg;
    const weir_sink_stdout_config *c = config;
    self->kit = kit;
    return weir_delivery_new(&self->delivery, kit, &c->delivery, report);
}

static void fini(void *arg)
{
    sink_stdout *self = arg;
    weir_delivery_destroy(&self->delivery);
}

/* --- Messages ---------------------------------------------------------------------- */

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_stdout *self = arg;
    weir_delivery_take(self->delivery, entry, block);
}

static bool turn(void *arg)
{
    sink_stdout *self = arg;
    const weir_buffer *output = weir_delivery_output(self->delivery);
    if (weir_write_all(STDOUT_FILENO, output->data, output->size)) {
        weir_actor_fail(self->kit, WEIR_ESYS, "stdout", "cannot write: %s",
                        strerror(errno));
        return false;
    }
    weir_delivery_written(self->delivery);
    weir_delivery_safe(self->delivery);
    return false;
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_option options[] = {
    WEIR_DELIVERY_OPTIONS(weir_sink_stdout_config, delivery),
    {.name = NULL},
};

const weir_class weir_sink_stdout_class = {
    .name = "sink.stdout",
    .help = "writes records to the standard output, one a line",
    .actor = weir_sink_stdout,
    .size = sizeof(sink_stdout),
    .config_size = sizeof(weir_sink_stdout_config),
    .defaults = &weir_sink_stdout_defaults,
    .options = options,
    .inlet = true,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .turn = turn,
};

void weir_sink_stdout(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_stdout_class, pipe, config);
}
