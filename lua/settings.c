#include "lua/settings.h"
#include "runtime/log.h"

const weir_settings weir_settings_defaults = {
    .log_level = WEIR_INFO,
    .record_max = 8 << 20,
    .window = 32 << 20,
    .block = 64 << 10,
    .intensity = 5,
    .period = 60000000,
    .drain = 10000000,
};

static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const formats[] = {"text", "json", NULL};

#define AT(field) offsetof(weir_settings, field)

const weir_option weir_settings_options[] = {
    {"name", WEIR_OPTION_TEXT, AT(name), 0, 0, NULL, false,
     "of the topology; none: the file's base name"},
    {"state", WEIR_OPTION_PATH, AT(state), 0, 0, NULL, false,
     "folder for everything durable; none: weir-NAME beside the file"},
    {"log.level", WEIR_OPTION_WORD, AT(log_level), 0, 0, levels, false,
     "the lowest level that is logged, in quotes"},
    {"log.format", WEIR_OPTION_WORD, AT(log_format), 0, 0, formats, false,
     "lines for people, or JSON lines for programs"},
    {"record_max", WEIR_OPTION_SIZE, AT(record_max), 1024, 8388608, NULL, false,
     "largest record; a larger one becomes a dead letter"},
    {"window", WEIR_OPTION_SIZE, AT(window), 65536, 1073741824, NULL, false,
     "most bytes under way on one link"},
    {"block", WEIR_OPTION_SIZE, AT(block), 4096, 8388608, NULL, false,
     "target of a block's size"},
    {.name = NULL},
};

const weir_option weir_supervise_options[] = {
    {"intensity", WEIR_OPTION_INT, AT(intensity), 0, 1000, NULL, false,
     "restarts allowed in a period"},
    {"period", WEIR_OPTION_TIME, AT(period), 1e6, 86400e6, NULL, false, "that period"},
    {"drain", WEIR_OPTION_TIME, AT(drain), 0, 3600e6, NULL, false,
     "deadline of the drain"},
    {"stop_delay", WEIR_OPTION_TIME, AT(stop_delay), 0, 3600e6, NULL, false,
     "wait before sources stop"},
    {.name = NULL},
};

const weir_option weir_security_options[] = {
    {"keys", WEIR_OPTION_PATH, AT(keys), 0, 0, NULL, false,
     "folder with the own certificate and those of others (weir keys); without it only "
     "ipc and plaintext leave the process"},
    {"secrets", WEIR_OPTION_PATH, AT(secrets), 0, 0, NULL, false,
     "folder of what `secret` reads; it stands above the first `secret`; none: "
     "$CREDENTIALS_DIRECTORY if set, else weir-secrets beside the file"},
    {"control", WEIR_OPTION_TEXT, AT(control), 0, 0, NULL, false,
     "tcp://ADDRESS:PORT where peers with the role control may command"},
    {.name = NULL},
};

static weir_err check_monitor(weir_settings *settings, weir_report *report)
{
    settings->has_monitor = true;
    return weir_monitor_check(&settings->monitor, report);
}

const weir_whole_word weir_whole_words[WEIR_WHOLE_WORDS] = {
    {"settings", weir_settings_options, 0, &weir_settings_defaults, "", NULL},
    {"supervise", weir_supervise_options, 0, &weir_settings_defaults, "", NULL},
    {"security", weir_security_options, 0, &weir_settings_defaults, "", NULL},
    {"monitor", weir_monitor_options, AT(monitor), &weir_monitor_defaults,
     "Metrics and health over HTTP, when this word is there.\n\n", check_monitor},
};

const weir_whole_word *weir_whole_find(const char *word)
{
    for (size_t i = 0; i < WEIR_WHOLE_WORDS; i++)
        if (strcmp(weir_whole_words[i].word, word) == 0) return &weir_whole_words[i];
    return NULL;
}
