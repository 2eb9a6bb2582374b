#include "lua/oneline.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lua/look.h"
#include "runtime/log.h"
#include "runtime/nearest.h"

/* --- Options ----------------------------------------------------------------------- */

static bool fail(const char *label, const char *text)
{
    fprintf(stderr, "weir: %s: %s\n", label, text);
    return false;
}

static bool is_word(const weir_option *option, const char *text)
{
    for (int i = 0; option->words && option->words[i]; i++)
        if (strcmp(option->words[i], text) == 0) return true;
    return false;
}

static weir_err bad_word(const weir_option *option, const char *text, weir_report *report)
{
    weir_buffer type = {0};
    size_t count = 0;
    while (option->words[count])
        count++;
    const char *near = weir_nearest(text, option->words, count);
    weir_option_print_type(option, &type);
    weir_report_set(report, WEIR_EINVAL, NULL, "expected %.*s, got '%s'%s%s%s",
                    (int)type.size, (char *)type.data, text,
                    near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
    weir_buffer_fini(&type);
    return WEIR_EINVAL;
}

static weir_err set_number(const weir_option *option, void *config, const char *text,
                           weir_report *report)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end)
        return weir_report_set(report, WEIR_EINVAL, NULL, "'%s' is no number", text);
    return weir_option_set_number(option, config, number, !strpbrk(text, ".eE"), report);
}

static weir_err set_option(const weir_option *option, void *config, const char *text,
                           weir_report *report)
{
    if (option->type == WEIR_OPTION_BOOL)
        return weir_option_set_bool(option, config, true, report);
    if (is_word(option, text)) return weir_option_set_word(option, config, text, report);
    if (option->type == WEIR_OPTION_WORD) return bad_word(option, text, report);
    if (option->type == WEIR_OPTION_INT || option->type == WEIR_OPTION_NUMBER)
        return set_number(option, config, text, report);
    return weir_option_set_text(option, config, text, report);
}

static weir_plan_node *find_node(weir_topology *topology, const char *name)
{
    for (size_t i = 0; i < topology->plan.node_count; i++)
        if (strcmp(topology->plan.nodes[i].name, name) == 0)
            return &topology->plan.nodes[i];
    return NULL;
}

bool weir_oneline_set(weir_topology *topology, const char *node, const char *option,
                      const char *value, const char *label)
{
    weir_report report = {0};
    weir_plan_node *n = find_node(topology, node);
    const weir_option *row = n ? weir_option_find(n->class->options, option) : NULL;
    if (!row) return fail(label, "has no meaning here");
    if (set_option(row, n->config, value, &report)) return fail(label, report.text);
    return true;
}

static bool check(const weir_plan_node *node)
{
    weir_report report = {0};
    if (!node->class->check || node->class->check(node->config, &report) == WEIR_OK)
        return true;
    return fail(node->name, report.text);
}

bool weir_oneline_set_all(weir_topology *topology, const weir_bound_flag *bounds,
                          const weir_command_line *line)
{
    bool good = true;
    for (; bounds->flag; bounds++) {
        const char *value = weir_line_flag(line, bounds->flag);
        if (value)
            good &= weir_oneline_set(topology, bounds->node, bounds->option, value,
                                     bounds->flag);
    }
    for (size_t i = 0; i < topology->plan.node_count && good; i++)
        good = check(&topology->plan.nodes[i]);
    return good;
}

/* --- State folder ------------------------------------------------------------------ */

static bool make_folder(weir_topology *topology)
{
    const char *root = getenv("TMPDIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/weir-%s-XXXXXX", root && *root ? root : "/tmp",
             topology->settings.name);
    if (!mkdtemp(path)) {
        fprintf(stderr, "weir: %s: cannot make a folder: %s; set TMPDIR\n", path,
                strerror(errno));
        return false;
    }
    free(topology->settings.state);
    topology->settings.state = strdup(path);
    return true;
}

/*  It has files only. What is not removed stays, and the folder with it.      */
static void remove_folder(const char *folder)
{
    DIR *list = opendir(folder);
    for (struct dirent *entry; list && (entry = readdir(list));)
        unlinkat(dirfd(list), entry->d_name, 0);
    if (list) closedir(list);
    rmdir(folder);
}

/*  The first dead letter tells most often what is wrong with all of them. False: there
    is none.                                                                   */
static bool tell_dead(const char *folder)
{
    char path[PATH_MAX], error[400], *text = NULL;
    size_t capacity = 0;
    weir_look_doc look = {0};
    snprintf(path, sizeof path, "%s/dead.ndjson", folder);
    FILE *file = fopen(path, "re");
    ssize_t size = file ? getline(&text, &capacity, file) : -1;
    if (size > 0 && weir_look_open(&look, text, (size_t)size) == WEIR_OK)
        fprintf(stderr, "weir: the first: %s\n",
                weir_look_text(&look.root, "error", error, sizeof error));
    weir_look_close(&look);
    if (file) fclose(file);
    free(text);
    return size > 0;
}

int weir_oneline_run(weir_topology *topology, const char *state,
                     const weir_run_options *options)
{
    weir_run_options own = *options;
    own.one_line = true;
    if (topology->settings.log_level < WEIR_WARN)
        topology->settings.log_level = WEIR_WARN;
    if (state) {
        free(topology->settings.state);
        topology->settings.state = strdup(state);
    } else if (!make_folder(topology)) {
        return WEIR_EXIT_FAILED;
    }
    int code = weir_run_topology(topology, &own);
    bool dead = code != WEIR_EXIT_OK && tell_dead(topology->settings.state);
    if (!state && !dead) remove_folder(topology->settings.state);
    return code;
}
