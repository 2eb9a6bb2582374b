/*  TO BE REPLACED by the reader itself: a node of this class does not start.       */
#include "actors/reader.h"

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

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    (void)arg;
    (void)kit;
    (void)config;
    return weir_report_set(report, WEIR_EINVAL, NULL, "reading is not there yet");
}

const weir_class weir_reader_class = {
    .name = "reader",
    .help = "brings a node the records of a bus with a store",
    .actor = weir_bus_reader,
    .size = sizeof(int),
    .config_size = sizeof(weir_reader_config),
    .defaults = &defaults,
    .options = options,
    .source = true,
    .follows = true,
    .init = init,
};

void weir_bus_reader(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_reader_class, pipe, config);
}
