#include "actors/bus_given.h"
#include "runtime/nearest.h"

/* --- Names ------------------------------------------------------------------------- */

/*  An option that ends so, as `disk.keep` for `keep`; else the one with the nearest name.
 */
static const char *meant_by(const char *name)
{
    const char *names[128];
    size_t count = 0, size = strlen(name);
    for (const weir_option *row = weir_bus_node_options; row->name && count < 128;
         row++) {
        size_t other = strlen(row->name);
        if (size && other > size && row->name[other - size - 1] == '.' &&
            streq(row->name + other - size, name))
            return row->name;
        names[count++] = row->name;
    }
    return weir_nearest(name, names, count);
}

static weir_err unknown(const char *name, weir_report *report)
{
    const char *near = meant_by(name);
    return weir_report_set(report, WEIR_ENOTFOUND, name, "a bus has no such option%s%s%s",
                           near ? " (did you mean '" : "", near ? near : "",
                           near ? "'?)" : "");
}

/* --- Values ------------------------------------------------------------------------ */

static weir_err set_number(const weir_option *row, void *config, const char *text,
                           weir_report *report)
{
    char *end;
    double number = strtod(text, &end);
    bool whole = number > -9e18 && number < 9e18 && number == (double)(int64_t)number;
    if (*text && *end == 0)
        return weir_option_set_number(row, config, number, whole, report);
    return weir_option_set_word(row, config, text, report);
}

static weir_err set_bool(const weir_option *row, void *config, const char *text,
                         weir_report *report)
{
    if (streq(text, "true") || streq(text, "false"))
        return weir_option_set_bool(row, config, streq(text, "true"), report);
    return weir_report_set(report, WEIR_EINVAL, NULL, "expected true or false, got '%s'",
                           text);
}

static int index_of(const weir_option *row, const char *text, size_t size)
{
    for (int i = 0; row->words && row->words[i]; i++)
        if (strlen(row->words[i]) == size && !strncmp(row->words[i], text, size))
            return i;
    return -1;
}

static bool is_word(const weir_option *row, const char *text)
{
    return index_of(row, text, strlen(text)) >= 0;
}

static int64_t *table_of(const weir_option *row, weir_bus_node_config *config)
{
    return (int64_t *)((char *)config + row->offset);
}

/*  A table as a whole is a word such as `all`, or its options are given, not both.   */
static weir_err set_table(const weir_option *row, weir_bus_node_config *config,
                          const char *text, weir_report *report)
{
    if (streq(text, "function") || !is_word(row, text))
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "is a table here: give its options, %s.NAME", row->name);
    if (*table_of(row, config) == WEIR_TABLE)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "is given twice: as '%s', and by its options", text);
    return weir_option_set_word(row, config, text, report);
}

static weir_err set_value(const weir_option *row, weir_bus_node_config *config,
                          const char *text, weir_report *report)
{
    switch (row->type) {
    case WEIR_OPTION_TABLE:
        return set_table(row, config, text, report);
    case WEIR_OPTION_BOOL:
        return set_bool(row, config, text, report);
    case WEIR_OPTION_INT:
    case WEIR_OPTION_NUMBER:
        return set_number(row, config, text, report);
    case WEIR_OPTION_WORD:
        return weir_option_set_word(row, config, text, report);
    default:
        return is_word(row, text) ? weir_option_set_word(row, config, text, report)
                                  : weir_option_set_text(row, config, text, report);
    }
}

/* --- Tables ------------------------------------------------------------------------ */

/*  `scale.max` makes that there is a table `scale`.                                  */
static weir_err open_tables(weir_bus_node_config *config, const char *name,
                            weir_report *report)
{
    char outer[64];
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        snprintf(outer, sizeof outer, "%.*s", (int)(dot - name), name);
        const weir_option *row = weir_option_find(weir_bus_node_options, outer);
        if (!row || row->type != WEIR_OPTION_TABLE) continue;
        int64_t *table = table_of(row, config);
        if (*table && *table != WEIR_TABLE)
            return weir_report_set(report, WEIR_EINVAL, outer,
                                   "is given twice: as a word, and by '%s'", name);
        *table = WEIR_TABLE;
    }
    return WEIR_OK;
}

/*  `disk.map` belongs to the word `disk`, which some option must have for its value.  */
static weir_err check_word(const weir_bus_node_config *config, const char *name,
                           weir_report *report)
{
    size_t size = strcspn(name, ".");
    const weir_option *row = weir_bus_node_options;
    for (; row->name; row++) {
        int word = row->type == WEIR_OPTION_WORD ? index_of(row, name, size) : -1;
        if (word < 0 || *(const int *)((const char *)config + row->offset) == word)
            continue;
        return weir_report_set(report, WEIR_EINVAL, name,
                               "is for the option '%s' with the value '%.*s'", row->name,
                               (int)size, name);
    }
    return WEIR_OK;
}

/* --- All of them ------------------------------------------------------------------- */

static bool is_among(const char *const *options, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i += 2)
        if (streq(options[i], name)) return true;
    return false;
}

static weir_err read_one(weir_bus_node_config *config, const char *name, const char *text,
                         weir_report *report)
{
    const weir_option *row = weir_option_find(weir_bus_node_options, name);
    if (!row) return unknown(name, report);
    if (!text) return weir_report_set(report, WEIR_EINVAL, name, "has no value");
    weir_err err = open_tables(config, name, report);
    if (err) return err;
    err = set_value(row, config, text, report);
    if (err && report) snprintf(report->where, sizeof report->where, "%s", name);
    return err;
}

weir_err weir_bus_given_read(weir_bus_node_config *config, const char *const *options,
                             weir_report *report)
{
    weir_err err = WEIR_OK;
    size_t count = 0;
    for (; options && options[count] && !err; count += 2) {
        const char *name = options[count];
        if (is_among(options, count, name))
            return weir_report_set(report, WEIR_EINVAL, name, "is given twice");
        err = read_one(config, name, options[count + 1], report);
    }
    for (size_t i = 0; i < count && !err; i += 2)
        err = check_word(config, options[i], report);
    return err ? err : weir_bus_options_check(&config->bus, report);
}
