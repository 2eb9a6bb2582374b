#include "lua/topology.h"
#include <errno.h>
#include <lauxlib.h>
#include <libgen.h>
#include "actors/bus_node.h"
#include "actors/catalog.h"
#include "actors/engine.h"
#include "actors/hub.h"
#include "lua/bind/record.h"
#include "lua/blank.h"
#include "lua/groups.h"
#include "lua/place.h"
#include "lua/policy.h"
#include "lua/program.h"
#include "lua/sandbox.h"
#include "lua/source.h"
#include "runtime/nearest.h"
#include "runtime/redact.h"

/*  The file's top level declares; it must not do work.                        */
static const size_t load_memory = 64 << 20;
static const uint64_t load_instructions = 100000000;

static const size_t file_max = 16 << 20;

/* --- Nodes ------------------------------------------------------------------------- */

/*  One entry of `from`, which stands there at `at`.                           */
static bool read_input(weir_declared *d, size_t node, const char *at)
{
    lua_State *L = d->load->L;
    if (lua_type(L, -1) == LUA_TSTRING)
        weir_plan_from(&d->load->topology->plan, node, lua_tostring(L, -1));
    else
        return weir_group_read(d, node, at, lua_gettop(L));
    return true;
}

static void read_inputs(weir_declared *d, size_t node)
{
    lua_State *L = d->load->L;
    lua_Integer count = luaL_len(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        char at[32];
        snprintf(at, sizeof at, "from.%lld", (long long)i);
        lua_geti(L, -1, i);
        if (!read_input(d, node, at))
            weir_declared_complain(d, "from", "expected the names of nodes, or groups");
        lua_pop(L, 1);
    }
}

static void read_from(weir_declared *d, size_t node, int table)
{
    lua_State *L = d->load->L;
    const weir_class *class = d->load->topology->plan.nodes[node].class;
    int type = lua_getfield(L, table, "from");
    if (type != LUA_TNIL && !weir_class_reads(class))
        weir_declared_complain(d, "from", "a source reads from nothing in the topology");
    else if (type != LUA_TNIL && !read_input(d, node, "from") && type == LUA_TTABLE)
        read_inputs(d, node);
    else if (type != LUA_TNIL && type != LUA_TSTRING && type != LUA_TTABLE)
        weir_declared_complain(d, "from",
                               "expected the name of a node, or a list of names");
    lua_pop(L, 1);
}

static weir_function *add_function(weir_loader *self, const char *node)
{
    weir_function *function = calloc(1, sizeof *function);
    if (!function) abort();
    function->topology = self->topology;
    function->node = strdup(node);
    function->next = self->topology->functions;
    self->topology->functions = function;
    return function;
}

static void add_functions(weir_loader *self, const weir_class *class, void *config,
                          const char *node)
{
    weir_engine_config *engine = config;
    weir_bus_node_config *bus = config;
    if (class == &weir_engine_class && engine->has_function)
        engine->program = (weir_program){&weir_lua_program, add_function(self, node)};
    if (class == &weir_bus_node_class && weir_bus_has_function(&bus->bus))
        bus->bus.function = (weir_policy){&weir_lua_policy, add_function(self, node)};
}

/*  Of what names files and sockets, and is told everywhere. option NULL: the node.  */
static void refuse_secret(const weir_declared *d, const char *option, const char *name)
{
    char *told = name ? weir_redact(name) : NULL;
    if (told) weir_declared_complain(d, option, "a name may not hold a secret");
    free(told);
}

static void add_node(weir_declared *d, const weir_class *class, int table)
{
    weir_plan *plan = &d->load->topology->plan;
    char where[128];
    snprintf(where, sizeof where, "%.110s:%d", d->load->topology->path, d->line);
    size_t node = weir_plan_add(plan, d->name, where, class);
    refuse_secret(d, NULL, d->name);
    d->options = class->options;
    d->config = plan->nodes[node].config;
    weir_declared_read(d, table, class->check);
    read_from(d, node, table);
    add_functions(d->load, class, d->config, d->name);
}

static void use_secrets_folder(const weir_declared *d, const weir_settings *settings)
{
    weir_secrets *secrets = &d->load->topology->secrets;
    char text[100];
    if (!settings->secrets) return;
    snprintf(text, sizeof text,
             "must stand above the first `secret`, which is in line %d",
             secrets->asked_line);
    if (secrets->asked_line) weir_declared_complain(d, "secrets", text);
    free(secrets->folder);
    secrets->folder = strdup(settings->secrets);
}

/*  Words that say something about the whole topology stand once.              */
static void read_whole(weir_declared *d, const weir_whole_word *whole, int table)
{
    weir_settings *settings = &d->load->topology->settings;
    int *line = &d->load->first_lines[whole - weir_whole_words];
    weir_report cause = {0};
    char text[80];
    snprintf(text, sizeof text, "is given twice (first at line %d)", *line);
    if (*line) weir_declared_complain(d, NULL, text);
    *line = *line ? *line : d->line;
    d->options = whole->options;
    d->config = (char *)settings + whole->offset;
    weir_declared_read(d, table, NULL);
    if (whole->options == weir_settings_options) {
        refuse_secret(d, "name", settings->name);
        refuse_secret(d, "state", settings->state);
    }
    if (whole->options == weir_security_options) use_secrets_folder(d, settings);
    if (whole->check && whole->check(settings, &cause))
        weir_declared_complain(d, cause.where, cause.text);
}

static void complain_unknown_word(const weir_declared *d)
{
    size_t count = 0;
    while (weir_language_declarers[count])
        count++;
    const char *near = weir_nearest(d->word, weir_language_declarers, count);
    weir_complain_at(d->load, d->line,
                     near ? "unknown word '%s' (did you mean '%s'?)"
                          : "unknown word '%s'",
                     d->word, near);
}

/*  Called for each declaration while the file runs.                           */
static void declare(void *arg, lua_State *L, const char *word, const char *name,
                    int table, int line)
{
    weir_loader *self = arg;
    (void)L;
    weir_declared d = {
        .load = self, .word = word, .name = name, .line = line, .at = "", .prefix = ""};
    d.number = weir_source_find(self->source, line, word, name);
    if (d.number >= 0) d.line = weir_source_line(self->source, d.number);
    const weir_class *class = weir_catalog_find(word);
    const weir_whole_word *whole = weir_whole_find(word);
    if (class) {
        add_node(&d, class, table);
    } else if (whole) {
        read_whole(&d, whole, table);
    } else if (weir_language_is_later(word)) {
        weir_declared_complain(
            &d, NULL, "is not available in this version; it comes with a later one");
    } else {
        complain_unknown_word(&d);
    }
}

/*  What cannot be read is complained about, and the rest of the file is checked as well.
    In a module the complaint is an error, which tells the module's line.      */
static void push_secret(void *arg, lua_State *L, const char *name, const char *file,
                        int line)
{
    weir_loader *self = arg;
    weir_topology *t = self->topology;
    const weir_secret *secret;
    weir_report cause = {0};
    if (!t->secrets.asked_line) t->secrets.asked_line = line;
    weir_err err = weir_secrets_read(&t->secrets, &secret, name, t->folder, &cause);
    if (err && strcmp(file + (*file == '@'), t->path))
        luaL_error(L, "secret \"%s\": %s", name, cause.text);
    if (err) weir_complain_at(self, line, "secret \"%s\": %s", name, cause.text);
    if (secret)
        lua_pushlstring(L, secret->text, secret->size);
    else
        weir_blank_push(L);
}

/* --- Whole file -------------------------------------------------------------------- */

static void check_duplicates(weir_loader *self)
{
    weir_source_duplicate dup;
    for (int i = 0; weir_source_duplicate_at(self->source, i, &dup); i++) {
        const char *name = weir_source_name(self->source, dup.declaration);
        bool named = name && *name;
        weir_complain_at(
            self, dup.line, "%s%s%s%s: option '%s' is given twice (first at line %d)",
            weir_source_word(self->source, dup.declaration), named ? " \"" : "",
            named ? name : "", named ? "\"" : "", dup.path, dup.first_line);
    }
}

static void check_global(weir_loader *self, const weir_source_global *g)
{
    lua_State *L = self->L;
    const char *names[256];
    size_t count = 0;
    lua_pushglobaltable(L);
    lua_getfield(L, -1, g->name);
    bool known = !lua_isnil(L, -1);
    lua_pop(L, 1);
    for (lua_pushnil(L); !known && lua_next(L, -2); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && count < 256)
            names[count++] = lua_tostring(L, -2);
    const char *near = known ? NULL : weir_nearest(g->name, names, count);
    if (!known)
        weir_complain_at(self, g->line,
                         near ? "unknown name '%s' (did you mean '%s'?)"
                              : "unknown name '%s'",
                         g->name, near);
    lua_settop(L, 0);
}

static void check_globals(weir_loader *self)
{
    weir_source_global g, earlier;
    for (int i = 0; weir_source_global_at(self->source, i, &g); i++) {
        bool seen = g.write || weir_blank_is_written(self->source, g.name);
        for (int j = 0; j < i && !seen; j++)
            seen = weir_source_global_at(self->source, j, &earlier) &&
                   strcmp(earlier.name, g.name) == 0 && earlier.line == g.line;
        if (!seen) check_global(self, &g);
    }
}

static void check_params(weir_loader *self)
{
    for (size_t i = 0; i < self->topology->param_count; i++)
        if (!self->topology->params[i].used)
            weir_complain_at(self, 0, "--set %s: the file does not ask for that param",
                             self->topology->params[i].name);
}

/*  Lua's own errors begin with "file:line: "; that becomes the report's place.  */
static void complain_lua(weir_loader *self, const char *message)
{
    size_t size = strlen(self->topology->path);
    int line = 0, used = 0;
    const char *at = message;
    if (strncmp(at, self->topology->path, size) == 0 &&
        sscanf(at + size, ":%d: %n", &line, &used) == 1 && used)
        at += size + (size_t)used;
    weir_complain_at(self, line, "%s", at);
}

static bool run_file(weir_loader *self, weir_sandbox *sandbox)
{
    lua_State *L = self->L;
    weir_topology *t = self->topology;
    char name[PATH_MAX + 1];
    const char *word;
    snprintf(name, sizeof name, "@%s", t->path);
    bool good = luaL_loadbufferx(L, t->text, t->size, name, "t") == LUA_OK;
    weir_report cause = {0};
    if (good && weir_source_new(&self->source, t->path, t->text, t->size, &cause)) {
        weir_complain_at(self, 0, "%s", cause.text);
        return false;
    }
    if (good) weir_blank_stand_in(L, self->source);
    weir_sandbox_start(sandbox);
    good = good && weir_sandbox_call(sandbox, 0, 0) == LUA_OK;
    weir_sandbox_stop(sandbox);
    weir_blank_end(L);
    if (!good) complain_lua(self, lua_tostring(L, -1));
    lua_settop(L, 0);
    if (self->source) {
        check_duplicates(self);
        check_globals(self);
    }
    int line = weir_language_close(L, &word);
    if (good && line)
        weir_complain_at(self, line, "%s: the table of options is missing: %s { .. }",
                         word, word);
    return good;
}

static weir_err read_file(weir_topology *self, const char *path, weir_reports *reports)
{
    char real[PATH_MAX];
    FILE *file = fopen(path, "rbe");
    weir_buffer text = {0};
    size_t n = 1;
    while (file && n && text.size <= file_max) {
        n = fread(weir_buffer_reserve(&text, 65536), 1, 65536, file);
        text.size += n;
    }
    bool good = file && !ferror(file) && realpath(path, real);
    if (!good)
        weir_reports_add(reports, WEIR_ESYS, path, "cannot read: %s", strerror(errno));
    if (file) fclose(file);
    self->text = (char *)text.data;
    self->size = text.size;
    if (!good) return WEIR_ESYS;
    if (text.size > file_max) {
        weir_reports_add(reports, WEIR_ETOOBIG, path, "larger than 16MB");
        return WEIR_ETOOBIG;
    }
    self->folder = strdup(dirname(real));
    return WEIR_OK;
}

/*  Name and state folder have defaults that come from the file's own path.    */
static void fill_settings(weir_topology *self)
{
    weir_settings *s = &self->settings;
    char base[PATH_MAX];
    snprintf(base, sizeof base, "%s", self->path);
    char *name = basename(base), *dot = strrchr(name, '.');
    if (dot && dot != name) *dot = 0;
    if (!s->name) s->name = strdup(name);
    if (!s->state && asprintf(&s->state, "%s/weir-%s", self->folder, s->name) < 0)
        abort();
}

/*  text and folder are there.                                                 */
static bool load_text(weir_topology *self, weir_reports *reports)
{
    weir_loader load = {.topology = self, .reports = reports};
    weir_language language = {self->params, self->param_count, declare, &load,
                              push_secret};
    weir_sandbox *sandbox = NULL;
    weir_report cause = {0};
    weir_err err =
        weir_sandbox_new(&sandbox,
                         &(weir_sandbox_config){.memory_limit = load_memory,
                                                .instruction_limit = load_instructions,
                                                .module_root = self->folder},
                         &cause);
    if (err) {
        weir_complain_at(&load, 0, "%s", cause.text);
        return false;
    }
    size_t before = reports->count;
    load.L = weir_sandbox_state(sandbox);
    weir_bind_record(load.L);
    weir_language_open(load.L, &language);
    if (run_file(&load, sandbox)) {
        fill_settings(self);
        check_params(&load);
        weir_groups_link(&load);
        weir_places_check(&load);
        if (self->plan.node_count)
            weir_plan_check(&self->plan, reports);
        else if (reports->count == before)
            weir_complain_at(&load, 0, "the topology declares no node");
    }
    weir_groups_free(&load);
    weir_places_free(&load);
    weir_source_destroy(&load.source);
    weir_sandbox_destroy(&sandbox);
    return reports->count == before;
}

static void begin(weir_topology *self, const char *path)
{
    *self = (weir_topology){.path = strdup(path)};
    weir_options_copy(weir_settings_options, &self->settings, &weir_settings_defaults,
                      sizeof self->settings);
    weir_options_copy(weir_monitor_options, &self->settings.monitor,
                      &weir_monitor_defaults, sizeof weir_monitor_defaults);
}

bool weir_topology_load(weir_topology *self, const char *path, weir_param *params,
                        size_t param_count, weir_reports *reports)
{
    begin(self, path);
    self->params = params;
    self->param_count = param_count;
    return read_file(self, path, reports) == WEIR_OK && load_text(self, reports);
}

bool weir_topology_look(weir_topology *self, const char *path, weir_param *params,
                        size_t param_count, weir_reports *reports)
{
    begin(self, path);
    self->params = params;
    self->param_count = param_count;
    self->secrets.optional = true;
    return read_file(self, path, reports) == WEIR_OK && load_text(self, reports);
}

bool weir_topology_load_text(weir_topology *self, const char *name, const char *text,
                             weir_reports *reports)
{
    begin(self, name);
    self->text = strdup(text);
    self->size = strlen(text);
    self->folder = realpath(".", NULL);
    if (self->folder) return load_text(self, reports);
    weir_reports_add(reports, WEIR_ESYS, ".", "cannot examine the folder: %s",
                     strerror(errno));
    return false;
}

void weir_topology_close(weir_topology *self)
{
    for (size_t i = 0; i < self->hub_count; i++)
        weir_hub_destroy(&self->hubs[i]);
    free(self->hubs);
    weir_plan_fini(&self->plan);
    for (size_t i = 0; i < WEIR_WHOLE_WORDS; i++)
        weir_options_free(weir_whole_words[i].options,
                          (char *)&self->settings + weir_whole_words[i].offset);
    while (self->functions) {
        weir_function *function = self->functions;
        self->functions = function->next;
        free(function->node);
        free(function);
    }
    weir_secrets_fini(&self->secrets);
    free(self->path);
    free(self->folder);
    free(self->text);
    *self = (weir_topology){0};
}
