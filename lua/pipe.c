/*  pipe: `weir pipe`: stdin -> process -> stdout.                             */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lua/oneline.h"
#include "runtime/log.h"

const weir_flag weir_pipe_flags[] = {
    {"--where", "EXPRESSION", "which records to keep: 'status >= 500'"},
    {"--each", "LUA",
     "what to do with each record r: 'r.kib = r.bytes // 1024 return r'"},
    {"--workers", "N", "threads that run it; auto: as many as CPUs"},
    {"--key", "FIELD", "records with one value of this field stay in order"},
    {"--format", "FORMAT", "of the input: json, text, msgpack, auto"},
    {"--framing", "FRAMING", "of the input: ndjson, lines, blob, array"},
    {"--output", "FRAMING", "of the output: lines, blob"},
    {"--on-error", "WORD", "for a record whose call fails: dead, drop, stop"},
    {"--quiet", NULL, "no progress on a terminal"},
    {NULL, NULL, NULL},
};

static const weir_bound_flag bounds[] = {
    {"--where", "each", "where"},       {"--workers", "each", "workers"},
    {"--key", "each", "key"},           {"--format", "input", "format"},
    {"--framing", "input", "framing"},  {"--output", "output", "framing"},
    {"--on-error", "each", "on_error"}, {NULL, NULL, NULL},
};

/*  A text that is a whole chunk by itself cannot end the function that it is put in, and
    Lua's complaints are about it alone.                                       */
static bool is_chunk(const char *text)
{
    weir_buffer chunk = {0};
    lua_State *L = luaL_newstate();
    if (!L) abort();
    weir_buffer_printf(&chunk, "local r = ... %s", text);
    bool good =
        luaL_loadbufferx(L, (char *)chunk.data, chunk.size, "=--each", "t") == LUA_OK;
    if (!good) fprintf(stderr, "weir: %s\n", lua_tostring(L, -1));
    weir_buffer_fini(&chunk);
    lua_close(L);
    return good;
}

/*  The name of the text is what Lua's errors begin with: "--each:1: ..".      */
static bool load(weir_topology *topology, const char *each)
{
    weir_reports reports = {0};
    weir_buffer text = {0};
    weir_buffer_put_text(&text, "source.stdin \"input\" {} process \"each\" { from = "
                                "\"input\", ");
    if (each) weir_buffer_printf(&text, "each = function (r) %s\nend ", each);
    weir_buffer_put_text(&text, "} sink.stdout \"output\" { from = \"each\" }");
    weir_buffer_put_byte(&text, 0);
    bool good = weir_topology_load_text(topology, "--each", (char *)text.data, &reports);
    weir_print_reports(&reports, false);
    weir_reports_fini(&reports);
    weir_buffer_fini(&text);
    return good;
}

static void set_name(weir_topology *topology, const char *name)
{
    free(topology->settings.name);
    topology->settings.name = strdup(name);
}

int weir_cmd_pipe(const weir_command_line *line)
{
    weir_topology topology = {0};
    const char *each = weir_line_flag(line, "--each");
    int code = WEIR_EXIT_CHECK;
    weir_run_options options = {
        .quiet = weir_line_flag(line, "--quiet") || !isatty(STDERR_FILENO) ||
                 isatty(STDOUT_FILENO),
        .has_end = true,
    };
    weir_run_block_signals();
    if (each && !is_chunk(each)) return code;
    if (load(&topology, each) && weir_oneline_set_all(&topology, bounds, line)) {
        set_name(&topology, "pipe");
        topology.settings.log_level = WEIR_ERROR + 1; // the summary tells what failed
        code = weir_oneline_run(&topology, NULL, &options);
    }
    weir_topology_close(&topology);
    return code;
}
