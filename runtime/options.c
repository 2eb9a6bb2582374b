#include "runtime/options.h"
#include "runtime/filter.h"
#include "runtime/regex.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

typedef struct {
    const char *name;
    int64_t factor;
} unit;

static const unit time_units[] = {
    {"us", 1},           {"ms", 1000},         {"s", 1000000}, {"m", 60000000},
    {"h", 3600000000ll}, {"d", 86400000000ll}, {NULL, 0},
};

static const unit size_units[] = {
    {"B", 1},          {"KB", 1ll << 10}, {"MB", 1ll << 20},
    {"GB", 1ll << 30}, {"TB", 1ll << 40}, {NULL, 0},
};

static const char *const type_names[] = {
    [WEIR_OPTION_BOOL] = "bool",           [WEIR_OPTION_INT] = "int",
    [WEIR_OPTION_NUMBER] = "number",       [WEIR_OPTION_SIZE] = "size",
    [WEIR_OPTION_TIME] = "time",           [WEIR_OPTION_TEXT] = "text",
    [WEIR_OPTION_PATH] = "path",           [WEIR_OPTION_FIELD] = "field path",
    [WEIR_OPTION_FILTER] = "expression",   [WEIR_OPTION_REGEX] = "regex",
    [WEIR_OPTION_WORD] = "word",           [WEIR_OPTION_TEXTS] = "text or list",
    [WEIR_OPTION_RULES] = "list of rules", [WEIR_OPTION_OUTLETS] = "table",
    [WEIR_OPTION_FUNCTION] = "function",   [WEIR_OPTION_TABLE] = "table",
    [WEIR_OPTION_MAP] = "table of texts",
};

static void *field(const weir_option *self, void *config)
{
    return (char *)config + self->offset;
}

static const void *const_field(const weir_option *self, const void *config)
{
    return (const char *)config + self->offset;
}

const weir_option *weir_option_find(const weir_option *options, const char *name)
{
    for (; options->name; options++)
        if (strcmp(options->name, name) == 0) return options;
    return NULL;
}

/* --- Times and sizes --------------------------------------------------------------- */

static weir_err parse_quantity(int64_t *result, const char *text, const unit *units,
                               const char *what, const char *example, weir_report *report)
{
    char *end;
    double number = strtod(text, &end);
    size_t size = (size_t)(end - text);
    bool digits = *text >= '0' && *text <= '9' && strspn(text, "0123456789.") == size;
    for (const unit *u = units; digits && u->name; u++) {
        if (strcmp(end, u->name)) continue;
        double value = number * (double)u->factor;
        if (value > 9.0e18) break;
        *result = (int64_t)value;
        return WEIR_OK;
    }
    if (digits && *end == 0)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "a %s needs a unit, such as '%s'", what, example);
    return weir_report_set(report, WEIR_EINVAL, NULL, "'%s' is no %s such as '%s'", text,
                           what, example);
}

weir_err weir_parse_time(int64_t *us, const char *text, weir_report *report)
{
    return parse_quantity(us, text, time_units, "time", "10ms", report);
}

weir_err weir_parse_size(int64_t *bytes, const char *text, weir_report *report)
{
    return parse_quantity(bytes, text, size_units, "size", "64MB", report);
}

/*  In the largest unit that leaves a whole number.                            */
static void print_quantity(int64_t value, const unit *units, weir_buffer *out)
{
    const unit *best = units;
    for (const unit *u = units; u->name; u++)
        if (value && value % u->factor == 0) best = u;
    weir_buffer_printf(out, "%" PRId64 "%s", value / best->factor, best->name);
}

void weir_print_time(int64_t us, weir_buffer *out)
{
    if (us == 0)
        weir_buffer_put_text(out, "0s");
    else
        print_quantity(us, time_units, out);
}

void weir_print_size(int64_t bytes, weir_buffer *out)
{
    print_quantity(bytes, size_units, out);
}

/* --- Setting ----------------------------------------------------------------------- */

static weir_err expected(const weir_option *self, const char *got, weir_report *report)
{
    weir_buffer type = {0};
    weir_option_print_type(self, &type);
    weir_buffer_put_byte(&type, 0);
    weir_report_set(report, WEIR_EINVAL, NULL, "expected %s, got %s", (char *)type.data,
                    got);
    weir_buffer_fini(&type);
    return WEIR_EINVAL;
}

static weir_err check_range(const weir_option *self, double value, weir_report *report)
{
    bool bounded = self->max != 0;
    if (!(bounded && (value < self->min || value > self->max)) && isfinite(value))
        return WEIR_OK;
    weir_buffer range = {0};
    weir_option_print_range(self, &range);
    weir_buffer_put_byte(&range, 0);
    weir_report_set(report, WEIR_EINVAL, NULL, "out of range %s", (char *)range.data);
    weir_buffer_fini(&range);
    return WEIR_EINVAL;
}

bool weir_option_is_text(const weir_option *self)
{
    return self->type == WEIR_OPTION_TEXT || self->type == WEIR_OPTION_PATH ||
           self->type == WEIR_OPTION_FIELD || self->type == WEIR_OPTION_FILTER ||
           self->type == WEIR_OPTION_REGEX;
}

static weir_err set_text(const weir_option *self, void *config, const char *text)
{
    char **at = field(self, config);
    free(*at);
    *at = strdup(text);
    return *at ? WEIR_OK : WEIR_ESYS;
}

static weir_err check_field(const char *text, weir_report *report)
{
    weir_path path = {0};
    size_t at = 0;
    weir_err err = weir_path_parse(&path, text, &at);
    weir_path_fini(&path);
    if (err)
        weir_report_set(report, err, NULL, "'%s' is no field path: see column %zu", text,
                        at + 1);
    return err;
}

static weir_err check_filter(const char *text, weir_report *report)
{
    weir_filter *filter = NULL;
    size_t column = 0;
    weir_report cause = {0};
    weir_err err = weir_filter_new(&filter, text, &column, &cause);
    weir_filter_destroy(&filter);
    if (err) weir_report_set(report, err, NULL, "column %zu: %s", column, cause.text);
    return err;
}

static weir_err check_regex(const char *text, weir_report *report)
{
    weir_regex *regex = NULL;
    size_t at = 0;
    weir_report cause = {0};
    weir_err err = weir_regex_new(&regex, text, strlen(text), &at, &cause);
    weir_regex_destroy(&regex);
    if (err)
        weir_report_set(report, err, NULL, "byte %zu of the pattern: %s", at, cause.text);
    return err;
}

weir_err weir_option_set_text(const weir_option *self, void *config, const char *text,
                              weir_report *report)
{
    weir_err err = WEIR_OK;
    int64_t value = 0;
    switch (self->type) {
    case WEIR_OPTION_TIME:
        err = weir_parse_time(&value, text, report);
        break;
    case WEIR_OPTION_SIZE:
        err = weir_parse_size(&value, text, report);
        break;
    case WEIR_OPTION_PATH:
    case WEIR_OPTION_TEXT:
        return set_text(self, config, text);
    case WEIR_OPTION_TEXTS:
        weir_texts_add(field(self, config), text);
        return WEIR_OK;
    case WEIR_OPTION_FIELD:
        err = check_field(text, report);
        return err ? err : set_text(self, config, text);
    case WEIR_OPTION_FILTER:
        err = check_filter(text, report);
        return err ? err : set_text(self, config, text);
    case WEIR_OPTION_REGEX:
        err = check_regex(text, report);
        return err ? err : set_text(self, config, text);
    default:
        return expected(self, "text", report);
    }
    if (!err) err = check_range(self, (double)value, report);
    if (!err) *(int64_t *)field(self, config) = value;
    return err;
}

weir_err weir_option_set_number(const weir_option *self, void *config, double number,
                                bool is_integer, weir_report *report)
{
    if (self->type == WEIR_OPTION_TIME || self->type == WEIR_OPTION_SIZE)
        return weir_report_set(
            report, WEIR_EINVAL, NULL, "a %s is text with a unit, such as '%s'",
            type_names[self->type], self->type == WEIR_OPTION_TIME ? "10ms" : "64MB");
    if (self->type == WEIR_OPTION_INT && !is_integer)
        return expected(self, "a number with a fraction", report);
    if (self->type != WEIR_OPTION_INT && self->type != WEIR_OPTION_NUMBER)
        return expected(self, "a number", report);
    weir_err err = check_range(self, number, report);
    if (err) return err;
    if (self->type == WEIR_OPTION_INT)
        *(int64_t *)field(self, config) = (int64_t)number;
    else
        *(double *)field(self, config) = number;
    return WEIR_OK;
}

weir_err weir_option_set_bool(const weir_option *self, void *config, bool value,
                              weir_report *report)
{
    if (self->type != WEIR_OPTION_BOOL) return expected(self, "a bool", report);
    *(bool *)field(self, config) = value;
    return WEIR_OK;
}

/*  What a word such as `forever` stands for.                                  */
static int64_t sentinel(const char *word)
{
    if (strcmp(word, "none") == 0) return WEIR_NONE;
    if (strcmp(word, "auto") == 0) return WEIR_AUTO;
    if (strcmp(word, "always") == 0) return WEIR_ALWAYS;
    return WEIR_FOREVER;
}

weir_err weir_option_set_word(const weir_option *self, void *config, const char *word,
                              weir_report *report)
{
    for (int i = 0; self->words && self->words[i]; i++) {
        if (strcmp(self->words[i], word)) continue;
        if (weir_option_is_text(self)) return set_text(self, config, word);
        if (self->type == WEIR_OPTION_WORD)
            *(int *)field(self, config) = i;
        else if (self->type == WEIR_OPTION_NUMBER)
            *(double *)field(self, config) = (double)sentinel(word);
        else
            *(int64_t *)field(self, config) = sentinel(word);
        return WEIR_OK;
    }
    char got[128];
    snprintf(got, sizeof got, "the word %s", word);
    return expected(self, got, report);
}

void weir_texts_add(weir_texts *self, const char *text)
{
    self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
    if (!self->items) abort();
    self->items[self->count++] = strdup(text);
}

void weir_rules_add(weir_rules *self, const char *name, const char *where,
                    weir_action action, int line)
{
    self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
    if (!self->items) abort();
    self->items[self->count++] =
        (weir_rule){strdup(name), where ? strdup(where) : NULL, action, line};
}

/* --- Printing ---------------------------------------------------------------------- */

static void print_int(const weir_option *self, int64_t value, weir_buffer *out)
{
    bool worded = self->words && self->words[0];
    if (worded && (value == WEIR_FOREVER || value <= WEIR_ALWAYS)) {
        for (int i = 0; self->words[i]; i++)
            if (sentinel(self->words[i]) == value) {
                weir_buffer_put_text(out, self->words[i]);
                return;
            }
    }
    if (self->type == WEIR_OPTION_TIME)
        weir_print_time(value, out);
    else if (self->type == WEIR_OPTION_SIZE)
        weir_print_size(value, out);
    else
        weir_buffer_printf(out, "%" PRId64, value);
}

void weir_option_print(const weir_option *self, const void *config, weir_buffer *out)
{
    const void *at = const_field(self, config);
    const char *text;
    switch (self->type) {
    case WEIR_OPTION_BOOL:
        weir_buffer_put_text(out, *(const bool *)at ? "true" : "false");
        break;
    case WEIR_OPTION_TABLE:
        weir_buffer_put_text(out, "none");
        break;
    case WEIR_OPTION_INT:
    case WEIR_OPTION_SIZE:
    case WEIR_OPTION_TIME:
        print_int(self, *(const int64_t *)at, out);
        break;
    case WEIR_OPTION_NUMBER:
        if (*(const double *)at == WEIR_NONE && self->words)
            weir_buffer_put_text(out, "none");
        else
            weir_buffer_printf(out, "%.12g", *(const double *)at);
        break;
    case WEIR_OPTION_WORD:
        weir_buffer_put_text(out, self->words[*(const int *)at]);
        break;
    case WEIR_OPTION_TEXT:
    case WEIR_OPTION_PATH:
    case WEIR_OPTION_FIELD:
    case WEIR_OPTION_FILTER:
    case WEIR_OPTION_REGEX:
        text = *(char *const *)at;
        weir_buffer_put_text(out, text ? text : "none");
        break;
    default:
        weir_buffer_put_text(out, "none");
    }
}

void weir_option_print_type(const weir_option *self, weir_buffer *out)
{
    if (self->type != WEIR_OPTION_WORD) weir_buffer_put_text(out, type_names[self->type]);
    for (int i = 0; self->words && self->words[i]; i++) {
        if (i || self->type != WEIR_OPTION_WORD) weir_buffer_put_text(out, " | ");
        weir_buffer_put_text(out, self->words[i]);
    }
}

static void print_bound(const weir_option *self, double bound, weir_buffer *out)
{
    if (self->type == WEIR_OPTION_TIME)
        weir_print_time((int64_t)bound, out);
    else if (self->type == WEIR_OPTION_SIZE)
        weir_print_size((int64_t)bound, out);
    else if (bound == WEIR_ABOVE_0)
        weir_buffer_put_text(out, "above 0");
    else if (bound == WEIR_BELOW_1)
        weir_buffer_put_text(out, "below 1");
    else
        weir_buffer_printf(out, "%.12g", bound);
}

void weir_option_print_range(const weir_option *self, weir_buffer *out)
{
    if (self->max == 0) return;
    print_bound(self, self->min, out);
    weir_buffer_put_text(out, "..");
    if (self->max < WEIR_UNBOUNDED) print_bound(self, self->max, out);
}

/* --- Copies ------------------------------------------------------------------------ */

static bool is_rules(const weir_option *self)
{
    return self->type == WEIR_OPTION_RULES || self->type == WEIR_OPTION_OUTLETS ||
           self->type == WEIR_OPTION_MAP;
}

void weir_options_copy(const weir_option *options, void *config, const void *from,
                       size_t size)
{
    memcpy(config, from, size);
    for (const weir_option *o = options; o->name; o++) {
        if (weir_option_is_text(o)) {
            const char *text = *(char *const *)const_field(o, from);
            *(char **)field(o, config) = text ? strdup(text) : NULL;
        } else if (o->type == WEIR_OPTION_TEXTS) {
            const weir_texts *texts = const_field(o, from);
            weir_texts copy = {0};
            for (size_t i = 0; i < texts->count; i++)
                weir_texts_add(&copy, texts->items[i]);
            *(weir_texts *)field(o, config) = copy;
        } else if (is_rules(o)) {
            const weir_rules *rules = const_field(o, from);
            weir_rules copy = {0};
            for (size_t i = 0; i < rules->count; i++)
                weir_rules_add(&copy, rules->items[i].name, rules->items[i].where,
                               rules->items[i].action, rules->items[i].line);
            *(weir_rules *)field(o, config) = copy;
        }
    }
}

static void free_rules(weir_rules *self)
{
    for (size_t i = 0; i < self->count; i++) {
        free(self->items[i].name);
        free(self->items[i].where);
    }
    free(self->items);
    *self = (weir_rules){0};
}

void weir_options_free(const weir_option *options, void *config)
{
    for (const weir_option *o = options; o->name; o++) {
        if (weir_option_is_text(o)) {
            char **text = field(o, config);
            free(*text);
            *text = NULL;
        } else if (o->type == WEIR_OPTION_TEXTS) {
            weir_texts *texts = field(o, config);
            for (size_t i = 0; i < texts->count; i++)
                free(texts->items[i]);
            free(texts->items);
            *texts = (weir_texts){0};
        } else if (is_rules(o)) {
            free_rules(field(o, config));
        }
    }
}
