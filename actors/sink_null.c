#include "actors/sink_null.h"

const weir_sink_null_config weir_sink_null_defaults = {.screen = WEIR_SCREEN_DEFAULTS};

typedef struct {
    weir_actor *kit;
    weir_screen *screen;
    weir_doc doc; // scratch of the screen
} sink_null;

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_null *self = arg;
    const weir_sink_null_config *c = config;
    self->kit = kit;
    return weir_screen_new(&self->screen, &c->screen, NULL, report);
}

static void fini(void *arg)
{
    sink_null *self = arg;
    weir_screen_destroy(&self->screen);
    weir_doc_fini(&self->doc);
}

/* --- Messages ---------------------------------------------------------------------- */

static void judge_records(sink_null *self, weir_entry *entry, weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin;
    while (weir_iterator_next(&walk, &subject.record, &origin))
        entry->fates.done += weir_screen_admit(self->screen, &subject, origin,
                                               weir_actor_node(self->kit)->name, entry);
}

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_null *self = arg;
    if (weir_screen_is_open(self->screen))
        entry->fates.done = entry->records;
    else
        judge_records(self, entry, block);
    weir_actor_done(self->kit, entry);
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_option options[] = {
    WEIR_SCREEN_OPTIONS(weir_sink_null_config, screen),
    {.name = NULL},
};

const weir_class weir_sink_null_class = {
    .name = "sink.null",
    .help = "takes everything and keeps nothing",
    .actor = weir_sink_null,
    .size = sizeof(sink_null),
    .config_size = sizeof(weir_sink_null_config),
    .defaults = &weir_sink_null_defaults,
    .options = options,
    .inlet = true,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
};

void weir_sink_null(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_null_class, pipe, config);
}
