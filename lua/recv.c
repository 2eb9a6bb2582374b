#include "lua/recv.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include "lua/keys.h"
#include "lua/oneline.h"
#include "lua/recv_bus.h"
#include "lua/remote.h"
#include "runtime/delivery.h"
#include "runtime/files.h"

static const weir_recv_config defaults = {.limit = WEIR_NONE};

typedef struct {
    weir_actor *kit;
    const weir_recv_config *config;
    weir_doc doc;
    weir_buffer output;
    int64_t left;          // records that may still be written; < 0: no limit
    weir_entry **rendered; // whole blocks in output
    size_t count, capacity;
} recv_actor;

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_endpoint endpoint_of(const weir_recv_config *config)
{
    return (weir_endpoint){
        .endpoint = config->listen ? config->listen : "",
        .plaintext = config->plaintext,
        .role = WEIR_ROLE_PRODUCE,
    };
}

static weir_err check(const void *config, weir_report *report)
{
    weir_endpoint endpoint = endpoint_of(config);
    return weir_endpoint_check(&endpoint, true, report);
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    recv_actor *self = arg;
    weir_endpoint endpoint = endpoint_of(config);
    self->kit = kit;
    self->config = config;
    self->left = self->config->limit == WEIR_NONE ? -1 : self->config->limit;
    weir_actor_vitals(kit)->at_end = true;
    return weir_actor_listen(kit, &endpoint, report);
}

static void fini(void *arg)
{
    recv_actor *self = arg;
    weir_doc_fini(&self->doc);
    weir_buffer_fini(&self->output);
    free(self->rendered);
}

static void start(void *arg)
{
    recv_actor *self = arg;
    char endpoint[192];
    weir_vitals_endpoint(weir_actor_vitals(self->kit), endpoint);
    fprintf(stderr, "weir: listening on %s\n", endpoint);
}

/* --- Messages ---------------------------------------------------------------------- */

/*  A payload that no line can hold comes as a whole record.                   */
static void render(recv_actor *self, const weir_record *record, const weir_run *origin)
{
    if (!self->config->json && !weir_delivery_put_line(&self->output, &self->doc, record))
        return;
    weir_tap_put_record(&self->output, NULL, record, origin);
    weir_buffer_put_byte(&self->output, '\n');
}

static void add_rendered(recv_actor *self, weir_entry *entry)
{
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 64;
        self->rendered = realloc(self->rendered, self->capacity * sizeof(weir_entry *));
        if (!self->rendered) abort();
    }
    self->rendered[self->count++] = entry;
}

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    recv_actor *self = arg;
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    while (self->left != 0 && weir_iterator_next(&walk, &record, &origin)) {
        render(self, &record, origin);
        entry->fates.done++;
        if (self->left > 0) self->left--;
    }
    if (entry->fates.done == entry->records) add_rendered(self, entry);
}

static bool write_out(recv_actor *self)
{
    if (weir_write_all(STDOUT_FILENO, self->output.data, self->output.size)) return false;
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_BYTES_OUT, self->output.size);
    self->output.size = 0;
    return true;
}

static bool turn(void *arg)
{
    recv_actor *self = arg;
    if (!write_out(self)) {
        weir_actor_fail(self->kit, WEIR_ESYS, "stdout", "cannot write: %s",
                        strerror(errno));
        return false;
    }
    for (size_t i = 0; i < self->count; i++)
        weir_actor_done(self->kit, self->rendered[i]);
    self->count = 0;
    if (self->left == 0) {
        *self->config->reached = true;
        weir_actor_leave(self->kit);
    }
    return false;
}

static void drain(void *arg)
{
    recv_actor *self = arg;
    weir_actor_drain_inlet(self->kit);
    weir_actor_end(self->kit);
}

/* --- Tables ------------------------------------------------------------------------ */

#define AT(field) offsetof(weir_recv_config, field)

static const weir_option options[] = {
    {"listen", WEIR_OPTION_TEXT, AT(listen), 0, 0, NULL, true, "endpoint"},
    {"plaintext", WEIR_OPTION_BOOL, AT(plaintext), 0, 0, NULL, false, "no encryption"},
    {"json", WEIR_OPTION_BOOL, AT(json), 0, 0, NULL, false, "whole records"},
    {"limit", WEIR_OPTION_INT, AT(limit), 1, 1e15, NULL, false, "most records"},
    {.name = NULL},
};

static void run_actor(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_recv_class, pipe, config);
}

const weir_class weir_recv_class = {
    .name = "source.link",
    .help = "writes what other weirs send to the standard output",
    .actor = run_actor,
    .size = sizeof(recv_actor),
    .config_size = sizeof(weir_recv_config),
    .defaults = &defaults,
    .options = options,
    .inlet = true,
    .source = true,
    .once = true,
    .check = check,
    .init = init,
    .fini = fini,
    .start = start,
    .recv_block = recv_block,
    .turn = turn,
    .drain = drain,
};

/* --- Command ----------------------------------------------------------------------- */

const weir_flag weir_recv_flags[] = {
    {"--limit", "N", "end after so many records"},
    {"--for", "TIME", "end after so long, such as 30s"},
    {"--json", NULL, "whole records as JSON objects: key, ts, .., payload"},
    {"--plaintext", NULL,
     "of an endpoint: tcp without encryption and without knowing who sends"},
    {"--group", "NAME", "of a bus: take part in this consumer group; recv unless told"},
    {"--where", "EXPRESSION", "of a bus: only records that match: 'status >= 500'"},
    {"--follow", NULL, "of a bus: wait for more at the end, until ^C"},
    {"--control", "ENDPOINT", "of a bus of a weir elsewhere: tcp://HOST:PORT"},
    {"--server", "NAME", "of --control: the name in its certificate"},
    {"--keys", "FOLDER",
     "of --control or an endpoint: where the keys are, instead of weir-keys"},
    {"--timeout", "TIME", "of a bus: how long to wait for an answer; 3s unless told"},
    {NULL, NULL, NULL},
};

static const weir_bound_flag bounds[] = {
    {"--plaintext", "recv", "plaintext"},
    {"--limit", "recv", "limit"},
    {"--json", "recv", "json"},
    {NULL, NULL, NULL},
};

/*  What the limit leaves over was not acknowledged: the sender keeps it.      */
static bool is_meant(void *arg)
{
    return *(bool *)arg;
}

static int recv_link(const weir_command_line *line)
{
    weir_topology topology = {.settings = {.name = NULL}};
    weir_reports reports = {0};
    bool reached = false;
    int code = WEIR_EXIT_CHECK;
    const char *endpoint = weir_line_operand(line, 0);
    weir_run_options run = {
        .duration = weir_line_flag(line, "--for"),
        .quiet = true,
        .is_meant = is_meant,
        .arg = &reached,
    };
    weir_run_block_signals();
    weir_options_copy(weir_settings_options, &topology.settings, &weir_settings_defaults,
                      sizeof topology.settings);
    topology.settings.name = strdup("recv");
    weir_plan_add(&topology.plan, "recv", "", &weir_recv_class);
    ((weir_recv_config *)topology.plan.nodes[0].config)->reached = &reached;
    weir_plan_check(&topology.plan, &reports); // that nobody reads from it is meant
    if (strncmp(endpoint, "tcp://", 6) == 0 && !weir_line_flag(line, "--plaintext"))
        topology.settings.keys = strdup(weir_keys_folder(line));
    if (weir_oneline_set(&topology, "recv", "listen", endpoint, "ENDPOINT") &&
        weir_oneline_set_all(&topology, bounds, line))
        code = weir_oneline_run(&topology, NULL, &run);
    weir_reports_fini(&reports);
    weir_topology_close(&topology);
    return code;
}

static const weir_flag_place places[] = {
    {"--plaintext", WEIR_OF_ENDPOINT, "only of an endpoint to listen at"},
    {"--group", WEIR_OF_BUS, "only of a bus: weir recv NAME/BUS"},
    {"--where", WEIR_OF_BUS, "only of a bus: weir recv NAME/BUS"},
    {"--follow", WEIR_OF_BUS, "only of a bus: weir recv NAME/BUS"},
    {"--timeout", WEIR_OF_BUS, "only of a bus: weir recv NAME/BUS"},
    {"--control", WEIR_OF_ELSEWHERE, "only of a bus: weir recv NAME/BUS"},
    {"--server", WEIR_OF_ELSEWHERE, "only with --control, for a bus elsewhere"},
    {"--keys", WEIR_OF_ENDPOINT | WEIR_OF_ELSEWHERE,
     "only with --control, or of an endpoint to listen at"},
    {NULL, 0, NULL},
};

/*  An endpoint is listened at; anything else names a bus.                      */
int weir_cmd_recv(const weir_command_line *line)
{
    bool is_link = strstr(weir_line_operand(line, 0), "://");
    int bus = weir_line_flag(line, "--control") ? WEIR_OF_ELSEWHERE : WEIR_OF_HERE;
    if (weir_line_misplaced(line, places, is_link ? WEIR_OF_ENDPOINT : bus))
        return WEIR_EXIT_CHECK;
    return is_link ? recv_link(line) : weir_recv_bus(line);
}
