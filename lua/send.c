/*  send: `weir send`: stdin or files -> a link to another weir.               */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lua/keys.h"
#include "lua/oneline.h"
#include "lua/remote.h"

const weir_flag weir_send_flags[] = {
    {"--server", "NAME", "the name in the certificate that the other side must have"},
    {"--plaintext", NULL, "tcp without encryption and without knowing who takes it"},
    {"--keys", "FOLDER", "where the keys are, instead of weir-keys"},
    {"--file", "PATH", "send these files (a pattern such as 'log/*.ndjson'), not stdin"},
    {"--state", "FOLDER", "of --file: where it notes what is sent, to go on from there"},
    {"--format", "FORMAT", "of the input: json, text, msgpack, auto"},
    {"--framing", "FRAMING", "of the input: ndjson, lines, blob, array"},
    {"--key", "FIELD", "field that becomes the key of each record"},
    {"--quiet", NULL, "no progress on a terminal"},
    {NULL, NULL, NULL},
};

static const weir_bound_flag bounds[] = {
    {"--format", "input", "format"},
    {"--framing", "input", "framing"},
    {"--plaintext", "link", "plaintext"},
    {NULL, NULL, NULL},
};

/* --- The topology ------------------------------------------------------------------ */

static void put_quoted(weir_buffer *out, const char *text, size_t size)
{
    weir_buffer_put_byte(out, '"');
    for (size_t i = 0; i < size; i++)
        weir_buffer_printf(out, "\\x%02x", (unsigned char)text[i]);
    weir_buffer_put_byte(out, '"');
}

/*  A field that is not there, at any depth, makes no key.                     */
static bool put_key(weir_buffer *out, const char *field)
{
    weir_path path = {0};
    size_t at = 0;
    bool good = weir_path_parse(&path, field, &at) == WEIR_OK;
    if (!good)
        fprintf(stderr, "weir: --key: '%s' is no field path: see column %zu\n", field,
                at + 1);
    weir_buffer_put_text(out, "process \"key\" { from = \"input\", each = function (r) "
                              "local v = r ");
    for (size_t i = 0; i < path.count; i++) {
        weir_buffer_put_text(out, "if type (v) == \"table\" or type (v) == "
                                  "\"userdata\" then v = v[");
        if (path.steps[i].name)
            put_quoted(out, path.steps[i].name, path.steps[i].size);
        else
            weir_buffer_printf(out, "%u", path.steps[i].index + 1);
        weir_buffer_put_text(out, "] else v = nil end ");
    }
    weir_buffer_put_text(out, "meta (r).key = v return r end } ");
    weir_path_fini(&path);
    return good;
}

static bool load(weir_topology *topology, const char *file, const char *key)
{
    weir_reports reports = {0};
    weir_buffer text = {0};
    if (file) {
        weir_buffer_put_text(&text, "source.file \"input\" { at_end = stop, path = ");
        put_quoted(&text, file, strlen(file));
        weir_buffer_put_text(&text, " } ");
    } else {
        weir_buffer_put_text(&text, "source.stdin \"input\" {} ");
    }
    bool good = !key || put_key(&text, key);
    weir_buffer_printf(&text,
                       "sink.link \"link\" { from = \"%s\", connect = \"ipc://x\" }",
                       key ? "key" : "input");
    weir_buffer_put_byte(&text, 0);
    good = good && weir_topology_load_text(topology, "send", (char *)text.data, &reports);
    weir_print_reports(&reports, false);
    weir_reports_fini(&reports);
    weir_buffer_fini(&text);
    return good;
}

/* --- Where to ---------------------------------------------------------------------- */

/*  tcp://HOST:PORT and ipc://PATH as they are; NAME/NODE is asked for.        */
static bool find_endpoint(const weir_command_line *line, char endpoint[192],
                          char server[64])
{
    const char *operand = weir_line_operand(line, 0);
    const char *given = weir_line_flag(line, "--server");
    weir_report report = {0};
    snprintf(server, 64, "%s", given ? given : "");
    if (strstr(operand, "://")) {
        snprintf(endpoint, 192, "%s", operand);
        return true;
    }
    if (weir_remote_link(operand, endpoint, server, &report) == WEIR_OK) return true;
    weir_remote_print(&report);
    return false;
}

static bool aim(weir_topology *topology, const weir_command_line *line)
{
    char endpoint[192], server[64];
    bool plaintext = weir_line_flag(line, "--plaintext");
    if (!find_endpoint(line, endpoint, server)) return false;
    bool tcp = strncmp(endpoint, "tcp://", 6) == 0;
    if (tcp && !plaintext && !*server) {
        fprintf(stderr,
                "weir: %s: whose certificate must the other side have? Name it by "
                "--server, or say --plaintext\n",
                endpoint);
        return false;
    }
    if (tcp && !plaintext) {
        topology->settings.keys = strdup(weir_keys_folder(line));
        if (!weir_oneline_set(topology, "link", "server", server, "--server"))
            return false;
    }
    return weir_oneline_set(topology, "link", "connect", endpoint, "ENDPOINT");
}

static bool is_there(const char *file)
{
    if (!file || strpbrk(file, "*?[{") || access(file, R_OK) == 0) return true;
    perror(file);
    return false;
}

int weir_cmd_send(const weir_command_line *line)
{
    weir_topology topology = {0};
    const char *file = weir_line_flag(line, "--file");
    const char *state = weir_line_flag(line, "--state");
    int code = WEIR_EXIT_CHECK;
    weir_run_options options = {
        .quiet = weir_line_flag(line, "--quiet") || !isatty(STDERR_FILENO),
        .has_end = true,
    };
    weir_run_block_signals();
    if (state && !file) {
        fprintf(stderr, "weir: --state: is for --file: stdin cannot be read again\n");
        return code;
    }
    if (is_there(file) && load(&topology, file, weir_line_flag(line, "--key")) &&
        aim(&topology, line) && weir_oneline_set_all(&topology, bounds, line))
        code = weir_oneline_run(&topology, state, &options);
    weir_topology_close(&topology);
    return code;
}
