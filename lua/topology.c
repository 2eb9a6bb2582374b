#include "lua/topology.h"
#include <errno.h>
#include <lauxlib.h>
#include <libgen.h>
#include "actors/catalog.h"
#include "actors/engine.h"
#include "lua/bind/record.h"
#include "lua/blank.h"
#include "lua/nearest.h"
#include "lua/program.h"
#include "lua/sandbox.h"
#include "lua/source.h"

/*  The file's top level declares; it must not do work.                        */
static const size_t load_memory = 64 << 20;
static const uint64_t load_instructions = 100000000;

static const size_t file_max = 16 << 20;

/*  Options of process that come with actors of their own.                     */
static const char *const later_options[] = {
    "batch",  "gather",      "every",   "tick",    "state_ttl", "retry", "slice",
    "commit", "ack_timeout", "timeout", "breaker", "spool",     NULL,
};

typedef struct {
    weir_topology *topology;
    weir_source *source;
    weir_reports *reports;
    lua_State *L;
    int first_lines[WEIR_WHOLE_WORDS]; // of the first of each; 0: none yet
} loader;

/*  One declaration whose options are being read.                              */
typedef struct {
    loader *load;
    const char *word, *name;
    int number; // of the declaration in the source; -1: not found
    int line;
    const weir_option *options;
    void *config;
    bool *given;         // of each option
    const char *variant; // the word whose table is being read (`lines { .. }`), or NULL
    const char *variant_of; // the option that it was given to
} declaration;

/* --- Complaints -------------------------------------------------------------------- */

static void complain_at(loader *self, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void complain_at(loader *self, int line, const char *format, ...)
{
    char where[128], text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (line > 0)
        snprintf(where, sizeof where, "%.110s:%d", self->topology->path, line);
    else
        snprintf(where, sizeof where, "%.120s", self->topology->path);
    weir_reports_add(self->reports, WEIR_EINVAL, where, "%s", text);
}

static int option_line(const declaration *d, const char *option)
{
    int line = 0;
    char path[256];
    size_t size = d->variant ? strlen(d->variant) : 0;
    if (size && strncmp(option, d->variant, size) == 0 && option[size] == '.') {
        snprintf(path, sizeof path, "%.120s%.120s", d->variant_of, option + size);
        option = path;
    }
    if (d->number >= 0)
        line = weir_source_option_line(d->load->source, d->number, option);
    return line ? line : d->line;
}

static void complain(const declaration *d, const char *option, const char *text)
{
    char title[128];
    if (*d->name)
        snprintf(title, sizeof title, "%s \"%.80s\"", d->word, d->name);
    else
        snprintf(title, sizeof title, "%s", d->word);
    if (option)
        complain_at(d->load, option_line(d, option), "%s: option '%.80s': %s", title,
                    option, text);
    else
        complain_at(d->load, d->line, "%s: %s", title, text);
}

static void complain_unknown(const declaration *d, const char *option)
{
    const char *names[96];
    size_t count = 0;
    for (const weir_option *o = d->options; o->name && count < 95; o++)
        names[count++] = o->name;
    names[count++] = "from";
    char title[128], text[200];
    const char *near = weir_nearest(option, names, count);
    for (const char *const *later = later_options; *later; later++)
        if (strcmp(*later, option) == 0) {
            complain(d, option,
                     "is not available in this version; it comes with a later "
                     "one");
            return;
        }
    snprintf(title, sizeof title, "%s%s%.80s%s", d->word, *d->name ? " \"" : "", d->name,
             *d->name ? "\"" : "");
    if (near)
        snprintf(text, sizeof text, " (did you mean '%s'?)", near);
    else
        text[0] = 0;
    complain_at(d->load, option_line(d, option), "%s: unknown option '%.80s'%s", title,
                option, text);
}

/* --- Options ----------------------------------------------------------------------- */

static void apply_table(declaration *d, int table, const char *prefix);

/*  The rule is on the top of the stack.                                       */
static const char *check_rule_fields(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        if (strcmp(name, "where") && strcmp(name, "action"))
            return "a rule has `where` and `action`, and nothing else";
    }
    return NULL;
}

/*  { {where = "..", action = drop}, .. }                                      */
static const char *read_rules(declaration *d, int table, const char *option,
                              weir_rules *rules)
{
    lua_State *L = d->load->L;
    bool has_table;
    lua_Integer count = luaL_len(L, table);
    for (lua_Integer i = 1; i <= count; i++) {
        char path[128];
        weir_report cause = {0};
        const weir_option check = {.type = WEIR_OPTION_FILTER};
        char *where = NULL;
        if (lua_geti(L, table, i) != LUA_TTABLE) return "expected a list of rules";
        const char *error = check_rule_fields(L);
        if (error) return error;
        lua_getfield(L, -1, "where");
        lua_getfield(L, -2, "action");
        const char *action = weir_language_word(L, -1, &has_table);
        bool drop = action && strcmp(action, "drop") == 0;
        if (!drop && !(action && strcmp(action, "dead") == 0))
            return "a rule's action is drop or dead";
        if (lua_type(L, -2) != LUA_TSTRING) return "a rule has a `where` expression";
        snprintf(path, sizeof path, "%.80s.%d.where", option, (int)i);
        if (weir_option_set_text(&check, &where, lua_tostring(L, -2), &cause))
            complain(d, path, cause.text);
        free(where);
        weir_rules_add(rules, "", lua_tostring(L, -2),
                       drop ? WEIR_ACTION_DROP : WEIR_ACTION_DEAD, option_line(d, path));
        lua_pop(L, 3);
    }
    return NULL;
}

static int compare_rules(const void *a, const void *b)
{
    const weir_rule *left = a, *right = b;
    if (left->line != right->line) return left->line - right->line;
    return strcmp(left->name, right->name);
}

static void check_otherwise(const declaration *d, const char *option,
                            const weir_rules *rules)
{
    bool seen = false;
    for (size_t i = 0; i < rules->count; i++) {
        char path[128];
        if (rules->items[i].where) continue;
        snprintf(path, sizeof path, "%.40s.%.80s", option, rules->items[i].name);
        if (seen) complain(d, path, "only one outlet can be `otherwise`");
        seen = true;
    }
}

/*  { name = "expression" | otherwise, .. }, in the order of the text.         */
static const char *read_outlets(declaration *d, int table, const char *option,
                                weir_rules *rules)
{
    lua_State *L = d->load->L;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        char path[128];
        bool has_table;
        weir_report cause = {0};
        const weir_option check = {.type = WEIR_OPTION_FILTER};
        char *where = NULL;
        if (lua_type(L, -2) != LUA_TSTRING) return "expected name = \"expression\"";
        const char *name = lua_tostring(L, -2);
        const char *word = weir_language_word(L, -1, &has_table);
        bool other = word && strcmp(word, "otherwise") == 0;
        snprintf(path, sizeof path, "%.40s.%.80s", option, name);
        if (!other && lua_type(L, -1) != LUA_TSTRING)
            complain(d, path, "expected an expression or otherwise");
        else if (!other &&
                 weir_option_set_text(&check, &where, lua_tostring(L, -1), &cause))
            complain(d, path, cause.text);
        if (strchr(name, '.')) complain(d, path, "an outlet's name has no dot");
        free(where);
        weir_rules_add(rules, name, other ? NULL : lua_tostring(L, -1),
                       WEIR_ACTION_OTHERWISE, option_line(d, path));
    }
    if (rules->count) qsort(rules->items, rules->count, sizeof(weir_rule), compare_rules);
    check_otherwise(d, option, rules);
    return NULL;
}

static const char *read_texts(declaration *d, int table, const weir_option *option)
{
    lua_State *L = d->load->L;
    weir_report cause;
    lua_Integer count = luaL_len(L, table);
    if (count == 0) return "the list is empty";
    for (lua_Integer i = 1; i <= count; i++) {
        if (lua_geti(L, table, i) != LUA_TSTRING) return "expected a list of texts";
        weir_option_set_text(option, d->config, lua_tostring(L, -1), &cause);
        lua_pop(L, 1);
    }
    return NULL;
}

static void *config_at(const declaration *d, const weir_option *option)
{
    return (char *)d->config + option->offset;
}

static void set_table(declaration *d, const weir_option *option, int table)
{
    const char *error;
    int top = lua_gettop(d->load->L);
    if (option->type == WEIR_OPTION_RULES)
        error = read_rules(d, table, option->name, config_at(d, option));
    else if (option->type == WEIR_OPTION_OUTLETS)
        error = read_outlets(d, table, option->name, config_at(d, option));
    else if (option->type == WEIR_OPTION_TEXTS)
        error = read_texts(d, table, option);
    else
        error = "a table is not what it takes";
    lua_settop(d->load->L, top);
    if (error) complain(d, option->name, error);
}

/*  Words are no texts, but for those that Lua has for itself, as `end` and `error`. */
static bool word_as_text(const declaration *d, const weir_option *option,
                         const char *text)
{
    bool known = false;
    for (int i = 0; option->words && option->words[i]; i++)
        known |= strcmp(option->words[i], text) == 0;
    if (!known) return false;
    weir_report cause;
    if (!weir_language_is_value(text)) {
        weir_option_set_word(option, d->config, text, &cause);
        return true;
    }
    char sentence[200];
    snprintf(sentence, sizeof sentence, "is a word: write %s without quotes", text);
    complain(d, option->name, sentence);
    return true;
}

static void set_option(declaration *d, const weir_option *option, int value)
{
    lua_State *L = d->load->L;
    weir_report cause = {0};
    weir_err err = WEIR_OK;
    bool has_table;
    const char *word = weir_language_word(L, value, &has_table);
    d->given[option - d->options] = true;
    if (word) {
        err = weir_option_set_word(option, d->config, word, &cause);
        if (has_table) {
            d->variant = word;
            d->variant_of = option->name;
            if (!err) apply_table(d, lua_gettop(L), word);
            d->variant = NULL;
            lua_pop(L, 1);
        }
    } else if (lua_type(L, value) == LUA_TSTRING) {
        const char *text = lua_tostring(L, value);
        if (word_as_text(d, option, text)) return;
        err = weir_option_set_text(option, d->config, text, &cause);
    } else if (lua_type(L, value) == LUA_TNUMBER) {
        err = weir_option_set_number(option, d->config, lua_tonumber(L, value),
                                     lua_isinteger(L, value), &cause);
    } else if (lua_type(L, value) == LUA_TBOOLEAN) {
        err = weir_option_set_bool(option, d->config, lua_toboolean(L, value), &cause);
    } else if (lua_isfunction(L, value) && option->type == WEIR_OPTION_FUNCTION) {
        *(bool *)config_at(d, option) = true;
    } else if (lua_istable(L, value)) {
        set_table(d, option, value);
    } else {
        weir_buffer type = {0};
        weir_option_print_type(option, &type);
        weir_buffer_put_byte(&type, 0);
        err = weir_report_set(&cause, WEIR_EINVAL, NULL, "expected %s, got a %s",
                              (char *)type.data, luaL_typename(L, value));
        weir_buffer_fini(&type);
    }
    if (err) complain(d, option->name, cause.text);
}

static bool has_nested(const declaration *d, const char *prefix)
{
    size_t size = strlen(prefix);
    for (const weir_option *o = d->options; o->name; o++)
        if (strncmp(o->name, prefix, size) == 0 && o->name[size] == '.') return true;
    return false;
}

static void apply_option(declaration *d, const char *name, int value)
{
    const weir_option *option = weir_option_find(d->options, name);
    bool blank = weir_blank_is(d->load->L, value);
    if (option && blank)
        d->given[option - d->options] = true;
    else if (option)
        set_option(d, option, value);
    else if (has_nested(d, name) && lua_istable(d->load->L, value))
        apply_table(d, value, name);
    else if (has_nested(d, name))
        complain(d, name, "expected a table of options");
    else
        complain_unknown(d, name);
}

/*  Keys in byte order, so that the errors of a file always come in one order.  */
static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void apply_table(declaration *d, int table, const char *prefix)
{
    lua_State *L = d->load->L;
    weir_texts keys = {0};
    luaL_checkstack(L, 16, NULL);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING)
            weir_texts_add(&keys, lua_tostring(L, -2));
        else
            complain(d, *prefix ? prefix : NULL,
                     "a value without an option's name: write name = value");
    }
    if (keys.count) qsort(keys.items, keys.count, sizeof *keys.items, compare_texts);
    for (size_t i = 0; i < keys.count; i++) {
        char name[200];
        snprintf(name, sizeof name, "%.90s%s%.90s", prefix, *prefix ? "." : "",
                 keys.items[i]);
        lua_getfield(L, table, keys.items[i]);
        if (strcmp(name, "from")) apply_option(d, name, lua_gettop(L));
        lua_pop(L, 1);
        free(keys.items[i]);
    }
    free(keys.items);
}

static void check_required(declaration *d)
{
    for (const weir_option *o = d->options; o->name; o++)
        if (o->required && !d->given[o - d->options]) {
            char text[200];
            snprintf(text, sizeof text, "option '%s' is required: %s", o->name, o->help);
            complain(d, NULL, text);
        }
}

/*  Only of options that are there: what is missing is told already.           */
static void check_config(declaration *d, const weir_class *class)
{
    weir_report cause = {0};
    for (const weir_option *o = d->options; o->name; o++)
        if (o->required && !d->given[o - d->options]) return;
    if (class->check && class->check(d->config, &cause))
        complain(d, *cause.where ? cause.where : NULL, cause.text);
}

static void read_options(declaration *d, const weir_class *class, int table)
{
    size_t count = 0;
    for (const weir_option *o = d->options; o->name; o++)
        count++;
    d->given = calloc(count + 1, sizeof *d->given);
    if (!d->given) abort();
    apply_table(d, table, "");
    check_required(d);
    if (class) check_config(d, class);
    free(d->given);
}

/* --- Nodes ------------------------------------------------------------------------- */

static void read_from(declaration *d, size_t node, int table)
{
    lua_State *L = d->load->L;
    weir_plan *plan = &d->load->topology->plan;
    int type = lua_getfield(L, table, "from");
    if (type != LUA_TNIL && !weir_class_reads(plan->nodes[node].class)) {
        complain(d, "from", "a source reads from nothing in the topology");
    } else if (type == LUA_TSTRING) {
        weir_plan_from(plan, node, lua_tostring(L, -1));
    } else if (type == LUA_TTABLE) {
        lua_Integer count = luaL_len(L, -1);
        for (lua_Integer i = 1; i <= count; i++) {
            if (lua_geti(L, -1, i) == LUA_TSTRING)
                weir_plan_from(plan, node, lua_tostring(L, -1));
            else
                complain(d, "from", "expected the names of nodes");
            lua_pop(L, 1);
        }
    } else if (type != LUA_TNIL) {
        complain(d, "from", "expected the name of a node, or a list of names");
    }
    lua_pop(L, 1);
}

static void add_function(loader *self, weir_engine_config *config, const char *node)
{
    weir_function *function = calloc(1, sizeof *function);
    if (!function) abort();
    function->topology = self->topology;
    function->node = strdup(node);
    function->next = self->topology->functions;
    self->topology->functions = function;
    config->program = (weir_program){&weir_lua_program, function};
}

static void add_node(declaration *d, const weir_class *class, int table)
{
    weir_plan *plan = &d->load->topology->plan;
    char where[128];
    snprintf(where, sizeof where, "%.110s:%d", d->load->topology->path, d->line);
    size_t node = weir_plan_add(plan, d->name, where, class);
    d->options = class->options;
    d->config = plan->nodes[node].config;
    read_options(d, class, table);
    read_from(d, node, table);
    if (class != &weir_engine_class) return;
    weir_engine_config *config = d->config;
    if (config->has_function) add_function(d->load, config, d->name);
}

/*  Words that say something about the whole topology stand once.              */
static void read_whole(declaration *d, const weir_whole_word *whole, int table)
{
    weir_settings *settings = &d->load->topology->settings;
    int *line = &d->load->first_lines[whole - weir_whole_words];
    weir_report cause = {0};
    char text[80];
    snprintf(text, sizeof text, "is given twice (first at line %d)", *line);
    if (*line) complain(d, NULL, text);
    *line = *line ? *line : d->line;
    d->options = whole->options;
    d->config = (char *)settings + whole->offset;
    read_options(d, NULL, table);
    if (whole->check && whole->check(settings, &cause))
        complain(d, cause.where, cause.text);
}

static void complain_unknown_word(const declaration *d)
{
    size_t count = 0;
    while (weir_language_declarers[count])
        count++;
    const char *near = weir_nearest(d->word, weir_language_declarers, count);
    complain_at(d->load, d->line,
                near ? "unknown word '%s' (did you mean '%s'?)" : "unknown word '%s'",
                d->word, near);
}

/*  Called for each declaration while the file runs.                           */
static void declare(void *arg, lua_State *L, const char *word, const char *name,
                    int table, int line)
{
    loader *self = arg;
    (void)L;
    declaration d = {.load = self, .word = word, .name = name, .line = line};
    d.number = weir_source_find(self->source, line, word, name);
    if (d.number >= 0) d.line = weir_source_line(self->source, d.number);
    const weir_class *class = weir_catalog_find(word);
    const weir_whole_word *whole = weir_whole_find(word);
    if (class) {
        add_node(&d, class, table);
    } else if (whole) {
        read_whole(&d, whole, table);
    } else if (weir_language_is_later(word)) {
        complain(&d, NULL, "is not available in this version; it comes with a later one");
    } else {
        complain_unknown_word(&d);
    }
}

/* --- Whole file -------------------------------------------------------------------- */

static void check_duplicates(loader *self)
{
    weir_source_duplicate dup;
    for (int i = 0; weir_source_duplicate_at(self->source, i, &dup); i++) {
        const char *name = weir_source_name(self->source, dup.declaration);
        bool named = name && *name;
        complain_at(self, dup.line,
                    "%s%s%s%s: option '%s' is given twice (first at line %d)",
                    weir_source_word(self->source, dup.declaration), named ? " \"" : "",
                    named ? name : "", named ? "\"" : "", dup.path, dup.first_line);
    }
}

static void check_global(loader *self, const weir_source_global *g)
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
        complain_at(self, g->line,
                    near ? "unknown name '%s' (did you mean '%s'?)" : "unknown name '%s'",
                    g->name, near);
    lua_settop(L, 0);
}

static void check_globals(loader *self)
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

static void check_params(loader *self)
{
    for (size_t i = 0; i < self->topology->param_count; i++)
        if (!self->topology->params[i].used)
            complain_at(self, 0, "--set %s: the file does not ask for that param",
                        self->topology->params[i].name);
}

/*  Lua's own errors begin with "file:line: "; that becomes the report's place.  */
static void complain_lua(loader *self, const char *message)
{
    size_t size = strlen(self->topology->path);
    int line = 0, used = 0;
    const char *at = message;
    if (strncmp(at, self->topology->path, size) == 0 &&
        sscanf(at + size, ":%d: %n", &line, &used) == 1 && used)
        at += size + (size_t)used;
    complain_at(self, line, "%s", at);
}

static bool run_file(loader *self, weir_sandbox *sandbox)
{
    lua_State *L = self->L;
    weir_topology *t = self->topology;
    char name[PATH_MAX + 1];
    const char *word;
    snprintf(name, sizeof name, "@%s", t->path);
    bool good = luaL_loadbufferx(L, t->text, t->size, name, "t") == LUA_OK;
    weir_report cause = {0};
    if (good && weir_source_new(&self->source, t->path, t->text, t->size, &cause)) {
        complain_at(self, 0, "%s", cause.text);
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
        complain_at(self, line, "%s: the table of options is missing: %s { .. }", word,
                    word);
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
    loader load = {.topology = self, .reports = reports};
    weir_language language = {self->params, self->param_count, declare, &load};
    weir_sandbox *sandbox = NULL;
    weir_report cause = {0};
    weir_err err =
        weir_sandbox_new(&sandbox,
                         &(weir_sandbox_config){.memory_limit = load_memory,
                                                .instruction_limit = load_instructions,
                                                .module_root = self->folder},
                         &cause);
    if (err) {
        complain_at(&load, 0, "%s", cause.text);
        return false;
    }
    size_t before = reports->count;
    load.L = weir_sandbox_state(sandbox);
    weir_bind_record(load.L);
    weir_language_open(load.L, &language);
    if (run_file(&load, sandbox)) {
        fill_settings(self);
        check_params(&load);
        if (self->plan.node_count)
            weir_plan_check(&self->plan, reports);
        else if (reports->count == before)
            complain_at(&load, 0, "the topology declares no node");
    }
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
    free(self->path);
    free(self->folder);
    free(self->text);
    *self = (weir_topology){0};
}
