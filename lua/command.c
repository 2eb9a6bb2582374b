#include "lua/command.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lua/bus.h"
#include "lua/ctl.h"
#include "lua/oneline.h"
#include "lua/online.h"
#include "lua/topology.h"
#include "runtime/json.h"
#include "runtime/log.h"
#include "runtime/nearest.h"

/* --- Commands ---------------------------------------------------------------------- */

static bool read_timeout(const weir_command_line *line, int64_t *timeout_us)
{
    weir_report report;
    const char *text = weir_line_flag(line, "--timeout");
    *timeout_us = 5000000;
    if (!text) return true;
    weir_err err = weir_parse_time(timeout_us, text, &report);
    if (!err && (*timeout_us < 1000 || *timeout_us > 3600000000))
        err = weir_report_set(&report, WEIR_EINVAL, NULL, "from 1ms to 1h");
    if (err) fprintf(stderr, "weir: --timeout: %s\n", report.text);
    return !err;
}

/*  The exit code. Does not return when somebody is still asked: he uses the topology.  */
static int check_servers(const weir_topology *topology, int64_t timeout_us, bool json)
{
    weir_online online;
    weir_log_configure(WEIR_ERROR, false, STDERR_FILENO); // the answers tell it all
    weir_online_ask(&online, &topology->plan, topology->settings.name,
                    topology->settings.keys, timeout_us);
    weir_online_print(&online, json);
    if (!online.count && !json)
        printf("%s: no node speaks with a server\n", topology->path);
    int code = online.failed ? WEIR_EXIT_FAILED : WEIR_EXIT_OK;
    fflush(stdout);
    if (online.stuck) _exit(code);
    weir_online_fini(&online);
    return code;
}

static int cmd_check(const weir_command_line *line)
{
    weir_reports reports = {0};
    int64_t timeout_us;
    if (!read_timeout(line, &timeout_us)) return WEIR_EXIT_CHECK;
    weir_topology topology;
    weir_param *params;
    size_t count;
    weir_line_params(line, &params, &count);
    bool json = weir_line_flag(line, "--json");
    bool good = weir_topology_load(&topology, weir_line_operand(line, 0), params, count,
                                   &reports);
    bool online = weir_line_flag(line, "--online");
    if (!json || !good || !online) weir_print_reports(&reports, json);
    if (good && !json)
        printf("%s: %zu node%s, %zu link%s, no errors\n", topology.path,
               weir_plan_declared(&topology.plan),
               weir_plan_declared(&topology.plan) == 1 ? "" : "s",
               topology.plan.link_count, topology.plan.link_count == 1 ? "" : "s");
    int code = good ? WEIR_EXIT_OK : WEIR_EXIT_CHECK;
    if (good && online) code = check_servers(&topology, timeout_us, json);
    weir_topology_close(&topology);
    weir_reports_fini(&reports);
    free(params);
    return code;
}

static int cmd_graph(const weir_command_line *line)
{
    weir_reports reports = {0};
    weir_topology topology;
    weir_param *params;
    size_t count;
    weir_buffer out = {0};
    weir_line_params(line, &params, &count);
    bool good = weir_topology_load(&topology, weir_line_operand(line, 0), params, count,
                                   &reports);
    weir_print_reports(&reports, false);
    if (good && weir_line_flag(line, "--dot"))
        weir_plan_print_dot(&topology.plan, topology.settings.name, &out);
    else if (good)
        weir_plan_print_text(&topology.plan, &out);
    if (out.size) fwrite(out.data, 1, out.size, stdout);
    weir_buffer_fini(&out);
    weir_topology_close(&topology);
    weir_reports_fini(&reports);
    free(params);
    return good ? WEIR_EXIT_OK : WEIR_EXIT_CHECK;
}

static int cmd_version(const weir_command_line *line)
{
    if (weir_line_flag(line, "--json"))
        printf("{\"version\":\"" WEIR_VERSION "\",\"wire\":%d}\n", WEIR_WIRE_VERSION);
    else
        printf("weir " WEIR_VERSION "\n");
    return WEIR_EXIT_OK;
}

static const weir_flag run_flags[] = {
    WEIR_SET_FLAG,
    {"--for", "TIME", "drain and end after so long, such as 30s"},
    {"--until-idle", NULL, "drain and end when there is nothing left to read"},
    {"--json", NULL, "print the final report as JSON on stdout"},
    {"--quiet", NULL, "no progress and no summary; the log stays"},
    {NULL, NULL, NULL},
};

static const weir_flag check_flags[] = {
    WEIR_SET_FLAG,
    {"--online", NULL, "then ask the servers that its nodes speak with"},
    {"--timeout", "TIME", "how long each of them may take, 5s unless said"},
    {"--json", NULL, "print the errors, or the servers' answers, as JSON on stdout"},
    {NULL, NULL, NULL},
};

static const weir_flag graph_flags[] = {
    WEIR_SET_FLAG,
    {"--dot", NULL, "for graphviz: weir graph --dot FILE | dot -Tsvg"},
    {NULL, NULL, NULL},
};

static const weir_flag json_flags[] = {
    {"--json", NULL, "as JSON"},
    {NULL, NULL, NULL},
};

#define KEYS_FLAG                                                                        \
    {                                                                                    \
        "--keys", "FOLDER", "where the keys are, instead of weir-keys"                   \
    }

static const weir_flag keys_flags[] = {
    KEYS_FLAG,
    {NULL, NULL, NULL},
};

static const weir_flag keys_json_flags[] = {
    KEYS_FLAG,
    {"--json", NULL, "as JSON"},
    {NULL, NULL, NULL},
};

static const weir_flag allow_flags[] = {
    KEYS_FLAG,
    {"--role", "ROLES", "what it may do: produce,consume,peer,control, or none"},
    {"--expires", "DATE", "until when, such as 2027-01-31 (UTC); else without end"},
    {"--as", "NAME", "its name, if the certificate has none"},
    {NULL, NULL, NULL},
};

static const weir_flag doctor_flags[] = {
    KEYS_FLAG,
    {"--server", "NAME", "whose certificate the other side has to have"},
    {"--json", NULL, "the findings as JSON on stdout"},
    {NULL, NULL, NULL},
};

static const weir_flag no_flags[] = {{NULL, NULL, NULL}};

const weir_host_command weir_commands[] = {
    {"run", "FILE", "runs a topology until it ends or is told to", run_flags, 1,
     weir_cmd_run},
    {"check", "FILE", "finds everything that is wrong with a topology", check_flags, 1,
     cmd_check},
    {"graph", "FILE", "draws a topology", graph_flags, 1, cmd_graph},
    {"pipe", "", "runs a process from stdin to stdout", weir_pipe_flags, 0,
     weir_cmd_pipe},
    {"send", "ENDPOINT | NAME/NODE", "sends stdin or files to another weir",
     weir_send_flags, 1, weir_cmd_send},
    {"recv", "ENDPOINT | NAME/BUS",
     "takes what other weirs send, or what a bus has stored, and writes it to stdout",
     weir_recv_flags, 1, weir_cmd_recv},
    {"cat", "NAME/BUS | FOLDER | ENDPOINT", "shows the records that a bus has stored",
     weir_cat_flags, 1, weir_cmd_cat},
    {"bus ls", "NAME/BUS | FOLDER",
     "lists the shards, gaps and groups of a bus that runs, or of the folder of a disk "
     "store",
     weir_bus_ls_flags, 1, weir_cmd_bus_ls},
    {"bus verify", "FOLDER", "checks all that a disk store has; exit code 1: damage",
     weir_bus_json_flags, 1, weir_cmd_bus_verify},
    {"bus repair", "FOLDER NEW", "copies what is good of a disk store to a new folder",
     no_flags, 2, weir_cmd_bus_repair},
    {"bus trim", "FOLDER", "drops the oldest records of a disk store",
     weir_bus_trim_flags, 1, weir_cmd_bus_trim},
    {"why", "[NAME[/NODE]]", "says what holds what back, and since when", weir_why_flags,
     1, weir_cmd_why},
    {"tap", "NAME/NODE[.OUTLET]", "shows samples of the records that pass a node",
     weir_tap_flags, 1, weir_cmd_tap},
    {"top", "[NAME[/NODE]]", "shows what each node does, once a second", weir_top_flags,
     1, weir_cmd_top},
    {"audit", "[FILE | FOLDER | NAME]",
     "proves that every record of a run is accounted for", weir_audit_flags, 1,
     weir_cmd_audit},
    {"pos ls", "[FILE | FOLDER | NAME]",
     "lists how far files are read, and how far groups have read buses",
     weir_pos_ls_flags, 1, weir_cmd_pos_ls},
    {"pos set", "NAME/NODE | FILE | FOLDER [PATH [OFFSET]]",
     "sets where reading goes on: of the group NODE of a weir that runs, by --to; or of "
     "a "
     "file PATH, at a byte, start, or end",
     weir_pos_flags, 3, weir_cmd_pos_set},
    {"pos rm", "NAME/NODE | FILE | FOLDER [PATH]",
     "forgets the group NODE of a weir that runs, when it has no members; or a file "
     "PATH, "
     "which is then read as a new one",
     weir_pos_rm_flags, 2, weir_cmd_pos_rm},
    {"ctl list", "[NAME]", "lists the weirs that run here, or the nodes of one",
     weir_ctl_flags, 1, weir_cmd_ctl_list},
    {"ctl stats", "[NAME[/NODE]]", "prints counters and what each node waits for",
     weir_ctl_flags, 1, weir_cmd_ctl_stats},
    {"ctl pause", "NAME/NODE", "lets a node take nothing more until it is resumed",
     weir_ctl_flags, 1, weir_cmd_ctl_pause},
    {"ctl resume", "NAME/NODE", "ends a pause", weir_ctl_flags, 1, weir_cmd_ctl_resume},
    {"ctl scale", "NAME/BUS", "sets how many shards of a bus are active",
     weir_scale_flags, 1, weir_cmd_ctl_scale},
    {"ctl flush", "NAME/BUS", "waits until all that a bus was sent before is safe",
     weir_flush_flags, 1, weir_cmd_ctl_flush},
    {"ctl drain", "[NAME]", "makes safe what was read, and ends: as SIGTERM",
     weir_ctl_flags, 1, weir_cmd_ctl_drain},
    {"ctl stop", "[NAME]", "ends at once; what is not safe is read again", weir_ctl_flags,
     1, weir_cmd_ctl_stop},
    {"keys init", "NAME", "makes this node's keys", keys_flags, 1, weir_cmd_keys_init},
    {"keys show", "", "shows this node's public key and whom it trusts", keys_json_flags,
     0, weir_cmd_keys_show},
    {"keys allow", "FILE", "trusts the owner of a certificate", allow_flags, 1,
     weir_cmd_keys_allow},
    {"keys revoke", "NAME", "trusts it no more and ends its connections", keys_flags, 1,
     weir_cmd_keys_revoke},
    {"keys doctor", "[ENDPOINT]",
     "says what is wrong with keys, and why a peer is refused", doctor_flags, 1,
     weir_cmd_keys_doctor},
    {"reference", "", "prints docs/reference.md: actors, options, counters, commands",
     no_flags, 0, weir_cmd_reference},
    {"version", "", "prints the version", json_flags, 0, cmd_version},
    {NULL, NULL, NULL, NULL, 0, NULL},
};

/* --- Command line ------------------------------------------------------------------ */

const char *weir_line_flag(const weir_command_line *line, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < line->count; i++)
        if (line->items[i].flag && strcmp(line->items[i].flag->name, name) == 0)
            value = line->items[i].value;
    return value;
}

const char *weir_line_operand(const weir_command_line *line, int i)
{
    for (size_t n = 0; n < line->count; n++)
        if (!line->items[n].flag && i-- == 0) return line->items[n].value;
    return NULL;
}

bool weir_line_misplaced(const weir_command_line *line, const weir_flag_place *places,
                         int of)
{
    for (; places->flag; places++) {
        if (places->of & of || !weir_line_flag(line, places->flag)) continue;
        fprintf(stderr, "weir: %s: %s\n", places->flag, places->why);
        return true;
    }
    return false;
}

/*  name=value pairs in place: the texts of the command line are ours to cut.   */
void weir_line_params(const weir_command_line *line, weir_param **params, size_t *count)
{
    *params = calloc(line->count + 1, sizeof **params);
    if (!*params) abort();
    *count = 0;
    for (size_t i = 0; i < line->count; i++) {
        const weir_given *given = &line->items[i];
        if (!given->flag || strcmp(given->flag->name, "--set")) continue;
        char *equals = strchr((char *)given->value, '=');
        if (equals) *equals = 0;
        (*params)[(*count)++] =
            (weir_param){.name = given->value, .value = equals ? equals + 1 : ""};
    }
}

void weir_print_reports(const weir_reports *reports, bool json)
{
    weir_buffer out = {0};
    if (json) weir_buffer_put_text(&out, "[");
    for (size_t i = 0; i < reports->count; i++) {
        const weir_report *r = &reports->items[i];
        if (!json) {
            fprintf(stderr, "%s%s%s\n", r->where, *r->where ? ": " : "", r->text);
            continue;
        }
        weir_buffer_put_text(&out, i ? ",{\"where\":" : "{\"where\":");
        weir_json_put_string(&out, r->where, strlen(r->where));
        weir_buffer_put_text(&out, ",\"text\":");
        weir_json_put_string(&out, r->text, strlen(r->text));
        weir_buffer_put_text(&out, "}");
    }
    if (json) printf("%.*s]\n", (int)out.size, (char *)out.data);
    weir_buffer_fini(&out);
}

static void print_command(const weir_host_command *command, FILE *to)
{
    fprintf(to, "usage: weir %s%s%s%s\n\n%s\n", command->name,
            command->flags[0].name ? " [options]" : "", *command->operands ? " " : "",
            command->operands, command->help);
    for (const weir_flag *f = command->flags; f->name; f++)
        fprintf(to, "  %s %-*s %s\n", f->name, 24 - (int)strlen(f->name),
                f->argument ? f->argument : "", f->help);
    fprintf(to, "  --help                    this text\n");
}

/*  Whether the command is that one of the group, or any of it (second NULL).   */
static bool is_in_group(const weir_host_command *command, const char *group,
                        const char *second)
{
    size_t size = strlen(group);
    const char *name = command->name;
    if (strncmp(name, group, size) || name[size] != ' ') return false;
    return !second || strcmp(name + size + 1, second) == 0;
}

/*  All commands, or those of a group.                                         */
static void print_commands(const char *group, FILE *to)
{
    fprintf(to, "usage: weir %s%sCOMMAND ...\n\n", group ? group : "", group ? " " : "");
    for (const weir_host_command *c = weir_commands; c->name; c++)
        if (!group || is_in_group(c, group, NULL))
            fprintf(to, "  %-11s %-25s %s\n", c->name, c->operands, c->help);
    fprintf(to,
            "\nweir COMMAND --help tells more. Exit codes: 0 clean, 1 stopped by\n"
            "failures or the deadline, 2 errors found by the check or in the command\n"
            "line, 3 clean but with dead letters.\n");
}

static int misuse(const weir_host_command *command, const char *format, const char *what,
                  const char *near)
{
    fprintf(stderr, "weir: ");
    fprintf(stderr, format, what);
    if (near) fprintf(stderr, " (did you mean '%s'?)", near);
    fprintf(stderr, "; see weir %s%s--help\n", command ? command->name : "",
            command ? " " : "");
    return WEIR_EXIT_CHECK;
}

static const char *nearest_flag(const weir_host_command *command, const char *word)
{
    const char *names[16];
    size_t count = 0;
    for (const weir_flag *f = command->flags; f->name && count < 16; f++)
        names[count++] = f->name;
    return weir_nearest(word, names, count);
}

static const weir_flag *find_flag(const weir_host_command *command, const char *word)
{
    size_t size = strcspn(word, "=");
    for (const weir_flag *f = command->flags; f->name; f++)
        if (strlen(f->name) == size && strncmp(f->name, word, size) == 0) return f;
    return NULL;
}

static int least_operands(const weir_host_command *command)
{
    int count = command->max_operands;
    for (const char *at = command->operands; *at; at++)
        count -= *at == '[';
    return count;
}

/*  0: go on; else the exit code + 1.                                          */
static int parse_line(const weir_host_command *command, int argc, char **argv,
                      weir_command_line *line)
{
    int operands = 0;
    bool plain = false;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        weir_given given = {.value = word};
        if (!plain && strcmp(word, "--") == 0) {
            plain = true;
            continue;
        }
        if (!plain && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_command(command, stdout);
            return 1 + WEIR_EXIT_OK;
        }
        if (!plain && word[0] == '-' && word[1]) {
            given.flag = find_flag(command, word);
            char *equals = strchr(word, '=');
            if (!given.flag)
                return 1 + misuse(command, "unknown option '%s'", word,
                                  nearest_flag(command, word));
            given.value = equals ? equals + 1 : "";
            if (given.flag->argument && !equals && ++i == argc)
                return 1 + misuse(command, "'%s' needs a value", word, NULL);
            if (given.flag->argument && !equals) given.value = argv[i];
        } else if (++operands > command->max_operands) {
            return 1 + misuse(command, "'%s' is too much", word, NULL);
        }
        line->items[line->count++] = given;
    }
    if (operands < least_operands(command))
        return 1 + misuse(command, "%s is missing", command->operands, NULL);
    return 0;
}

static int run_command(const weir_host_command *command, int argc, char **argv)
{
    weir_command_line line = {calloc((size_t)argc + 1, sizeof *line.items), 0};
    if (!line.items) abort();
    int code = parse_line(command, argc, argv, &line);
    code = code ? code - 1 : command->run(&line);
    free(line.items);
    return code;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ||
           strcmp(word, "help") == 0;
}

/*  `weir GROUP word`, which is no command. word may be NULL.                  */
static int explain_group(const char *group, const char *word, const char *const *names,
                         size_t count)
{
    char full[128];
    if (!word || is_help(word)) {
        print_commands(group, word ? stdout : stderr);
        return word ? WEIR_EXIT_OK : WEIR_EXIT_CHECK;
    }
    snprintf(full, sizeof full, "%s %s", group, word);
    return misuse(NULL, "unknown command '%s'", full, weir_nearest(full, names, count));
}

int weir_main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "--help", *second = argc > 2 ? argv[2] : NULL;
    const char *names[64];
    size_t count = 0;
    bool group = false;
    if (is_help(word)) {
        print_commands(NULL, argc > 1 ? stdout : stderr);
        return argc > 1 ? WEIR_EXIT_OK : WEIR_EXIT_CHECK;
    }
    if (strcmp(word, "--version") == 0) word = "version";
    for (const weir_host_command *c = weir_commands; c->name && count < 64; c++) {
        names[count++] = c->name;
        if (strcmp(c->name, word) == 0) return run_command(c, argc - 2, argv + 2);
        group = group || is_in_group(c, word, NULL);
        if (second && is_in_group(c, word, second))
            return run_command(c, argc - 3, argv + 3);
    }
    if (group) return explain_group(word, second, names, count);
    return misuse(NULL, "unknown command '%s'", word, weir_nearest(word, names, count));
}
