#include "lua/declared.h"
#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lua/blank.h"
#include "lua/language.h"
#include "lua/place.h"
#include "runtime/nearest.h"
#include "runtime/redact.h"

/*  Options of process that come with actors of their own.                     */
static const char *const later_options[] = {
    "batch",  "gather",      "every",   "tick",    "state_ttl", "retry", "slice",
    "commit", "ack_timeout", "timeout", "breaker", "spool",     NULL,
};

enum { GIVEN = 1, WRONG }; // WRONG: it has no value, also when that was told elsewhere

static const char *const later =
    "is not available in this version; it comes with a later one";

/* --- Where options stand ----------------------------------------------------------- */

/*  The option that has the path's first component as a word (`store = disk { .. }` for
    "disk.map"), or NULL.                                                      */
static const weir_option *owner_of(const weir_declared *d, const char *path)
{
    size_t size = strcspn(path, ".");
    for (const weir_option *o = d->options; o->name; o++)
        for (int i = 0; o->type == WEIR_OPTION_WORD && o->words[i]; i++)
            if (strlen(o->words[i]) == size && memcmp(o->words[i], path, size) == 0)
                return o;
    return NULL;
}

/*  The option as it stands in the text: of what is in a word's table the path begins with
    the option that the word was given to.                                     */
static void path_in_text(const weir_declared *d, const char *option, char path[256])
{
    const char *rest = strchr(option, '.');
    const weir_option *owner = rest ? owner_of(d, option) : NULL;
    snprintf(path, 256, "%.60s%s%.60s%.120s", d->at, *d->at ? "." : "",
             owner ? owner->name : "", owner ? rest : option);
}

/*  Of what does not stand in the text it is the line of what it would be nested in. */
int weir_declared_line(const weir_declared *d, const char *option)
{
    char path[256];
    path_in_text(d, option, path);
    for (;;) {
        int line =
            d->number < 0 ? 0 : weir_source_option_line(d->load->source, d->number, path);
        char *dot = strrchr(path, '.');
        if (line) return line;
        if (!dot) return d->line;
        *dot = 0;
    }
}

/* --- Complaints -------------------------------------------------------------------- */

void weir_complain_at(weir_loader *self, int line, const char *format, ...)
{
    char where[128], text[400];
    va_list arguments;
    va_start(arguments, format);
    weir_redact_printf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (line > 0)
        snprintf(where, sizeof where, "%.110s:%d", self->topology->path, line);
    else
        snprintf(where, sizeof where, "%.120s", self->topology->path);
    weir_reports_add(self->reports, WEIR_EINVAL, where, "%s", text);
}

static void put_title(const weir_declared *d, char title[128])
{
    if (*d->name)
        snprintf(title, 128, "%s \"%.80s\"", d->word, d->name);
    else
        snprintf(title, 128, "%s", d->word);
}

void weir_declared_complain(const weir_declared *d, const char *option, const char *text)
{
    char title[128];
    put_title(d, title);
    if (option)
        weir_complain_at(d->load, weir_declared_line(d, option),
                         "%s: option '%s%.80s': %s", title, d->prefix, option, text);
    else
        weir_complain_at(d->load, d->line, "%s: %s", title, text);
}

/*  What stands in a word's table is only taken for what else may stand there.       */
static bool may_stand_for(const weir_declared *d, const char *name, const char *option)
{
    size_t size = strcspn(option, ".");
    if (!option[size] || !owner_of(d, option)) return true;
    return strncmp(name, option, size + 1) == 0;
}

enum { names_max = 256 };

/*  Names of options that may have been meant, and of the tables that they are nested in.
    Gives their number.                                                           */
static size_t list_names(const weir_declared *d, const char *option,
                         char *names[names_max])
{
    size_t count = 0;
    if (!*d->prefix) names[count++] = strdup("from");
    for (const weir_option *o = d->options; o->name && count < names_max - 1; o++) {
        const char *dot = strrchr(o->name, '.');
        if (!may_stand_for(d, o->name, option)) continue;
        names[count++] = strdup(o->name);
        if (dot) names[count++] = strndup(o->name, (size_t)(dot - o->name));
    }
    return count;
}

static bool comes_later(const weir_declared *d, const char *option)
{
    if (strcmp(d->word, "bus") == 0 || *d->prefix) return false;
    for (const char *const *name = later_options; *name; name++)
        if (strcmp(*name, option) == 0) return true;
    return false;
}

static void complain_unknown(const weir_declared *d, const char *option)
{
    char *names[names_max], title[128];
    if (comes_later(d, option)) {
        weir_declared_complain(d, option, later);
        return;
    }
    size_t count = list_names(d, option, names);
    const char *near = weir_nearest(option, (const char *const *)names, count);
    put_title(d, title);
    weir_complain_at(d->load, weir_declared_line(d, option),
                     near ? "%s: unknown option '%s%.80s' (did you mean '%s%s'?)"
                          : "%s: unknown option '%s%.80s'",
                     title, d->prefix, option, d->prefix, near);
    for (size_t i = 0; i < count; i++)
        free(names[i]);
}

/* --- Options ----------------------------------------------------------------------- */

static void apply_table(weir_declared *d, int table, const char *prefix);

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
static const char *read_rules(weir_declared *d, int table, const char *option,
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
            weir_declared_complain(d, path, cause.text);
        else
            weir_place_note(d, path, where);
        free(where);
        weir_rules_add(rules, "", lua_tostring(L, -2),
                       drop ? WEIR_ACTION_DROP : WEIR_ACTION_DEAD,
                       weir_declared_line(d, path));
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

static void check_otherwise(const weir_declared *d, const char *option,
                            const weir_rules *rules)
{
    bool seen = false;
    for (size_t i = 0; i < rules->count; i++) {
        char path[128];
        if (rules->items[i].where) continue;
        snprintf(path, sizeof path, "%.40s.%.80s", option, rules->items[i].name);
        if (seen) weir_declared_complain(d, path, "only one outlet can be `otherwise`");
        seen = true;
    }
}

/*  { name = "expression" | otherwise, .. }, in the order of the text.         */
static const char *read_outlets(weir_declared *d, int table, const char *option,
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
            weir_declared_complain(d, path, "expected an expression or otherwise");
        else if (!other &&
                 weir_option_set_text(&check, &where, lua_tostring(L, -1), &cause))
            weir_declared_complain(d, path, cause.text);
        else if (where)
            weir_place_note(d, path, where);
        if (strchr(name, '.'))
            weir_declared_complain(d, path, "an outlet's name has no dot");
        free(where);
        weir_rules_add(rules, name, other ? NULL : lua_tostring(L, -1),
                       WEIR_ACTION_OTHERWISE, weir_declared_line(d, path));
    }
    if (rules->count) qsort(rules->items, rules->count, sizeof(weir_rule), compare_rules);
    check_otherwise(d, option, rules);
    return NULL;
}

static const char zero_byte[] = "has a zero byte, which no text of Weir can";

/*  The text at the index would be cut there.                                    */
static bool has_zero_byte(lua_State *L, int index)
{
    size_t size;
    const char *text = lua_tolstring(L, index, &size);
    return strlen(text) != size;
}

/*  { name = "text", .. }, in the order of the text.                           */
static const char *read_map(weir_declared *d, int table, const char *option,
                            weir_rules *map)
{
    lua_State *L = d->load->L;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        char path[128];
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            return "expected name = \"text\"";
        if (has_zero_byte(L, -2) || has_zero_byte(L, -1)) return zero_byte;
        const char *name = lua_tostring(L, -2);
        snprintf(path, sizeof path, "%.40s.%.80s", option, name);
        weir_rules_add(map, name, lua_tostring(L, -1), WEIR_ACTION_OTHERWISE,
                       weir_declared_line(d, path));
    }
    if (!map->count) return "the table is empty";
    qsort(map->items, map->count, sizeof(weir_rule), compare_rules);
    return NULL;
}

static const char *read_texts(weir_declared *d, int table, const weir_option *option)
{
    lua_State *L = d->load->L;
    weir_report cause;
    lua_Integer count = luaL_len(L, table);
    if (count == 0) return "the list is empty";
    for (lua_Integer i = 1; i <= count; i++) {
        if (lua_geti(L, table, i) != LUA_TSTRING) return "expected a list of texts";
        if (has_zero_byte(L, -1)) return zero_byte;
        weir_option_set_text(option, d->config, lua_tostring(L, -1), &cause);
        lua_pop(L, 1);
    }
    return NULL;
}

static void *config_at(const weir_declared *d, const weir_option *option)
{
    return (char *)d->config + option->offset;
}

static const char *read_table(weir_declared *d, int table, const weir_option *option)
{
    *(int64_t *)config_at(d, option) = WEIR_TABLE;
    apply_table(d, table, option->name);
    return NULL;
}

static void set_table(weir_declared *d, const weir_option *option, int table)
{
    const char *error;
    int top = lua_gettop(d->load->L);
    if (option->type == WEIR_OPTION_RULES)
        error = read_rules(d, table, option->name, config_at(d, option));
    else if (option->type == WEIR_OPTION_OUTLETS)
        error = read_outlets(d, table, option->name, config_at(d, option));
    else if (option->type == WEIR_OPTION_MAP)
        error = read_map(d, table, option->name, config_at(d, option));
    else if (option->type == WEIR_OPTION_TEXTS)
        error = read_texts(d, table, option);
    else if (option->type == WEIR_OPTION_TABLE)
        error = read_table(d, table, option);
    else
        error = "a table is not what it takes";
    lua_settop(d->load->L, top);
    if (!error) return;
    d->given[option - d->options] = WRONG;
    weir_declared_complain(d, option->name, error);
}

/*  Words are no texts, but for those that Lua has for itself, as `end` and `error`. */
static bool word_as_text(const weir_declared *d, const weir_option *option,
                         const char *text)
{
    bool known = false;
    for (int i = 0; option->words && option->words[i]; i++)
        known |= strcmp(option->words[i], text) == 0;
    if (!known) return false;
    weir_report cause;
    if (!weir_language_is_value(text) || option->type == WEIR_OPTION_TEXT) {
        weir_option_set_word(option, d->config, text, &cause);
        return true;
    }
    char sentence[200];
    snprintf(sentence, sizeof sentence, "is a word: write %s without quotes", text);
    weir_declared_complain(d, option->name, sentence);
    return true;
}

/*  `disk`, `disk { .. }`: then the table is on the top of the stack.          */
static weir_err set_word(weir_declared *d, const weir_option *option, const char *word,
                         bool has_table, weir_report *cause)
{
    weir_err err = weir_option_set_word(option, d->config, word, cause);
    if (!err && has_table) apply_table(d, lua_gettop(d->load->L), word);
    if (has_table) lua_pop(d->load->L, 1);
    return err;
}

static weir_err refuse(const weir_option *option, const char *got, weir_report *cause)
{
    weir_buffer type = {0};
    weir_option_print_type(option, &type);
    weir_buffer_put_byte(&type, 0);
    weir_report_set(cause, WEIR_EINVAL, NULL, "expected %s, got a %s", (char *)type.data,
                    got);
    weir_buffer_fini(&type);
    return WEIR_EINVAL;
}

static bool takes_function(const weir_option *option)
{
    bool takes = false;
    for (int i = 0;
         option->type == WEIR_OPTION_TABLE && option->words && option->words[i]; i++)
        takes |= strcmp(option->words[i], "function") == 0;
    return takes;
}

static weir_err set_value(weir_declared *d, const weir_option *option, int value,
                          weir_report *cause)
{
    lua_State *L = d->load->L;
    if (lua_type(L, value) == LUA_TSTRING) {
        const char *text = lua_tostring(L, value);
        if (has_zero_byte(L, value))
            return weir_report_set(cause, WEIR_EINVAL, NULL, "%s", zero_byte);
        if (word_as_text(d, option, text)) return WEIR_OK;
        weir_err err = weir_option_set_text(option, d->config, text, cause);
        if (!err && option->type == WEIR_OPTION_FILTER)
            weir_place_note(d, option->name, text);
        return err;
    }
    if (lua_type(L, value) == LUA_TNUMBER)
        return weir_option_set_number(option, d->config, lua_tonumber(L, value),
                                      lua_isinteger(L, value), cause);
    if (lua_type(L, value) == LUA_TBOOLEAN)
        return weir_option_set_bool(option, d->config, lua_toboolean(L, value), cause);
    if (lua_isfunction(L, value) && option->type == WEIR_OPTION_FUNCTION)
        *(bool *)config_at(d, option) = true;
    else if (lua_isfunction(L, value) && takes_function(option))
        *(int64_t *)config_at(d, option) = WEIR_FUNCTION;
    else if (lua_istable(L, value))
        set_table(d, option, value);
    else
        return refuse(option, luaL_typename(L, value), cause);
    return WEIR_OK;
}

static void set_option(weir_declared *d, const weir_option *option, int value)
{
    weir_report cause = {0};
    bool has_table;
    const char *word = weir_language_word(d->load->L, value, &has_table);
    d->given[option - d->options] = GIVEN;
    weir_err err = word ? set_word(d, option, word, has_table, &cause)
                        : set_value(d, option, value, &cause);
    if (!err) return;
    d->given[option - d->options] = WRONG;
    weir_declared_complain(d, option->name, cause.text);
}

static bool has_nested(const weir_declared *d, const char *prefix)
{
    size_t size = strlen(prefix);
    for (const weir_option *o = d->options; o->name; o++)
        if (strncmp(o->name, prefix, size) == 0 && o->name[size] == '.') return true;
    return false;
}

static void complain_misplaced(const weir_declared *d, const char *word,
                               const weir_option *owner)
{
    char sentence[300];
    snprintf(sentence, sizeof sentence, "is a word for %s: write %s = %.90s { .. }",
             owner->name, owner->name, word);
    weir_declared_complain(d, word, sentence);
}

static void apply_option(weir_declared *d, const char *name, int value)
{
    const weir_option *option = weir_option_find(d->options, name);
    bool blank = weir_blank_is(d->load->L, value);
    if (option && blank)
        d->given[option - d->options] = WRONG;
    else if (option)
        set_option(d, option, value);
    else if (!has_nested(d, name))
        complain_unknown(d, name);
    else if (!strchr(name, '.') && owner_of(d, name))
        complain_misplaced(d, name, owner_of(d, name));
    else if (lua_istable(d->load->L, value))
        apply_table(d, value, name);
    else
        weir_declared_complain(d, name, "expected a table of options");
}

/*  Keys in byte order, so that the errors of a file always come in one order.  */
static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void apply_table(weir_declared *d, int table, const char *prefix)
{
    lua_State *L = d->load->L;
    weir_texts keys = {0};
    luaL_checkstack(L, 16, NULL);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING)
            weir_texts_add(&keys, lua_tostring(L, -2));
        else
            weir_declared_complain(
                d, *prefix ? prefix : NULL,
                "a value without an option's name: write name = value");
    }
    if (keys.count) qsort(keys.items, keys.count, sizeof *keys.items, compare_texts);
    for (size_t i = 0; i < keys.count; i++) {
        char name[200];
        snprintf(name, sizeof name, "%.90s%s%.90s", prefix, *prefix ? "." : "",
                 keys.items[i]);
        lua_getfield(L, table, keys.items[i]);
        if (strcmp(name, "from") || *d->prefix) apply_option(d, name, lua_gettop(L));
        lua_pop(L, 1);
        free(keys.items[i]);
    }
    free(keys.items);
}

/*  What is in a word's table is required with that word.                      */
static bool is_required(const weir_declared *d, const weir_option *option)
{
    if (!option->required) return false;
    const weir_option *owner =
        strchr(option->name, '.') ? owner_of(d, option->name) : NULL;
    if (!owner) return true;
    const char *word = owner->words[*(int *)config_at(d, owner)];
    return strncmp(option->name, word, strcspn(option->name, ".")) == 0;
}

/*  False: some are missing, or texts that have no value; a class's check relies on them.
 */
static bool check_required(const weir_declared *d)
{
    bool good = true;
    for (const weir_option *o = d->options; o->name; o++) {
        char title[128];
        if (!is_required(d, o)) continue;
        if (weir_option_is_text(o) && !*(char **)config_at(d, o)) good = false;
        if (d->given[o - d->options]) continue;
        good = false;
        put_title(d, title);
        weir_complain_at(
            d->load, strchr(o->name, '.') ? weir_declared_line(d, o->name) : d->line,
            "%s: option '%s%s' is required: %s", title, d->prefix, o->name, o->help);
    }
    return good;
}

/*  The option, or one in its table.                                           */
static bool is_wrong(const weir_declared *d, const char *name)
{
    size_t size = strlen(name);
    for (const weir_option *o = d->options; o->name; o++)
        if (d->given[o - d->options] == WRONG && strncmp(o->name, name, size) == 0 &&
            (!o->name[size] || o->name[size] == '.'))
            return true;
    return false;
}

void weir_declared_read(weir_declared *d, int table, weir_declared_check *check)
{
    size_t count = 0;
    weir_report cause = {0};
    for (const weir_option *o = d->options; o->name; o++)
        count++;
    d->given = calloc(count + 1, sizeof *d->given);
    if (!d->given) abort();
    apply_table(d, table, "");
    bool good = check_required(d) && (!check || check(d->config, &cause) == WEIR_OK);
    if (!good && *cause.text && !is_wrong(d, cause.where))
        weir_declared_complain(d, *cause.where ? cause.where : NULL, cause.text);
    free(d->given);
}
