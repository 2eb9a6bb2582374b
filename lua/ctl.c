#include "lua/ctl.h"
#include <inttypes.h>
#include <stdio.h>
#include "lua/remote.h"
#include "runtime/why.h"

const weir_flag weir_ctl_flags[] = {
    {"--json", NULL, "print the answer as JSON"},
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

const weir_flag weir_why_flags[] = {
    {"--json", NULL, "print the answer as JSON"},
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

static void print_text(const weir_remote *remote)
{
    size_t size;
    const char *text = weir_remote_text(remote, &size);
    printf("%.*s\n", (int)size, text);
}

/* --- list -------------------------------------------------------------------------- */

static void list_one(const char *name, bool json, bool first)
{
    weir_remote *remote;
    weir_value body;
    weir_report report = {0};
    char folder[200], up[32];
    weir_err err = weir_remote_open_name(&remote, name, &report);
    if (!err) err = weir_remote_ask(remote, &body, &report, "version", NULL);
    size_t size = 0;
    const char *text = err ? "" : weir_remote_text(remote, &size);
    if (json && err) {
        weir_buffer out = {0};
        weir_json_put_member(&out, "name", name);
        weir_json_put_member(&out, "error", report.text);
        printf("%s{%.*s}", first ? "" : ",", (int)out.size, (char *)out.data);
        weir_buffer_fini(&out);
    } else if (json) {
        printf("%s%.*s", first ? "" : ",", (int)size, text);
    } else if (err) {
        printf("%-20s %s\n", name, report.text);
    } else {
        weir_duration_print((int64_t)weir_look_number(&body, "up_ms") * 1000, up);
        printf("%-20s %8" PRIu64 "  up %-16s %s\n", name, weir_look_number(&body, "pid"),
               up, weir_look_text(&body, "state_dir", folder, sizeof folder));
    }
    weir_remote_close(&remote);
}

static int list_all(bool json)
{
    weir_texts names = {0};
    weir_remote_names(&names);
    if (json) printf("[");
    for (size_t i = 0; i < names.count; i++)
        list_one(names.items[i], json, i == 0);
    if (json) printf("]\n");
    weir_target none;
    weir_report report = {0};
    bool hidden =
        !names.count && weir_target_parse(&none, NULL, NULL, 0, &report) == WEIR_ESYS;
    if (!json && names.count == 0 && !hidden) printf("no weir runs here\n");
    weir_remote_free_names(&names);
    return hidden ? weir_remote_print(&report) : WEIR_EXIT_OK;
}

static void print_nodes(const weir_value *body)
{
    weir_value nodes, key, node;
    weir_walk walk = {0};
    char name[64], actor[64], state[32], endpoint[192];
    printf("%-20s %-16s %-10s %s\n", "node", "actor", "state", "listens on");
    if (!weir_look(body, "nodes", &nodes)) return;
    while (weir_value_next(&nodes, &walk, &key, &node))
        printf("%-20s %-16s %-10s %s\n", weir_look_text(&node, "name", name, sizeof name),
               weir_look_text(&node, "actor", actor, sizeof actor),
               weir_look_text(&node, "state", state, sizeof state),
               weir_look_text(&node, "endpoint", endpoint, sizeof endpoint));
}

/* --- stats ------------------------------------------------------------------------- */

static void print_waits(const weir_value *node, const char *name)
{
    weir_value waits, key, wait;
    weir_walk walk = {0};
    char kind[32], subject[192], text[256], since[32];
    if (!weir_look(node, "waits", &waits)) return;
    while (weir_value_next(&waits, &walk, &key, &wait)) {
        weir_look_text(&wait, "for", kind, sizeof kind);
        weir_look_text(&wait, "subject", subject, sizeof subject);
        weir_look_text(&wait, "text", text, sizeof text);
        weir_duration_print((int64_t)weir_look_number(&wait, "since_ms") * 1000, since);
        printf("%s waits for %s%s%s%s%s, for %s\n", name, kind, *subject ? " " : "",
               subject, *text ? ": " : "", text, since);
    }
}

/*  The shards of a bus, and what its groups have before them.                  */
static void print_bus(const weir_value *node, const char *name)
{
    weir_value bus, list, key, item;
    weir_walk shards = {0}, groups = {0};
    char text[128];
    if (!weir_look(node, "bus", &bus) || !weir_look(&bus, "shards", &list)) return;
    printf("\n%-20s %-10s %12s %12s %12s %12s %12s %6s\n", name, "state", "offered",
           "rejected", "evicted", "safe", "resident", "fill");
    while (weir_value_next(&list, &shards, &key, &item)) {
        uint64_t offered = weir_look_number(&item, "offered");
        printf("  shard %-12" PRIu64 " %-10s %12" PRIu64 " %12" PRIu64 " %12" PRIu64
               " %12" PRIu64 " %12" PRIu64 " %5" PRIu64 "%%\n",
               weir_look_number(&item, "shard"),
               weir_look_text(&item, "state", text, sizeof text), offered,
               offered - weir_look_number(&item, "accepted"),
               weir_look_number(&item, "evicted"), weir_look_number(&item, "safe"),
               weir_look_number(&item, "resident"),
               weir_look_number(&item, "fill_percent"));
    }
    if (!weir_look(&bus, "groups", &list)) return;
    while (weir_value_next(&list, &groups, &key, &item)) {
        uint64_t dead = weir_look_number(&item, "dead");
        printf("  group %-23s lag %" PRIu64 ", shed %" PRIu64,
               weir_look_text(&item, "group", text, sizeof text),
               weir_look_number(&item, "lag"), weir_look_number(&item, "shed"));
        if (dead) printf(", dead %" PRIu64, dead);
        printf("\n");
    }
}

static void print_stats(const weir_value *body)
{
    static const char *const columns[] = {"in",       "out",  "done",    "dropped",
                                          "filtered", "dead", "resident"};
    weir_value nodes, key, node, ledger;
    weir_walk walk = {0}, again = {0}, buses = {0};
    char name[64], state[32];
    printf("%-20s %-10s", "node", "state");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        printf(" %12s", columns[i]);
    printf("\n");
    if (!weir_look(body, "nodes", &nodes)) return;
    while (weir_value_next(&nodes, &walk, &key, &node)) {
        printf("%-20s %-10s", weir_look_text(&node, "name", name, sizeof name),
               weir_look_text(&node, "state", state, sizeof state));
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
            printf(" %12" PRIu64, weir_look_number(&node, columns[i]));
        printf("\n");
    }
    while (weir_value_next(&nodes, &buses, &key, &node))
        print_bus(&node, weir_look_text(&node, "name", name, sizeof name));
    if (weir_look(body, "ledger", &ledger))
        printf("\nmemory of blocks %" PRIu64 " bytes, limit %" PRIu64 "\n",
               weir_look_number(&ledger, "used"), weir_look_number(&ledger, "limit"));
    while (weir_value_next(&nodes, &again, &key, &node))
        print_waits(&node, weir_look_text(&node, "name", name, sizeof name));
}

/* --- Asking ------------------------------------------------------------------------ */

typedef struct {
    const char *command;
    enum { NODE_NONE, NODE_MAY, NODE_MUST } node; // whether the target names one
    void (*print)(const weir_value *body);
    const char *done; // or a sentence about the target
} question;

static weir_err check_target(const question *q, const weir_target *target,
                             weir_report *report)
{
    if (q->node == NODE_MUST && !*target->node)
        return weir_report_set(report, WEIR_EINVAL, target->name,
                               "which node? Write %s/NODE; `weir ctl list %s` tells them",
                               target->name, target->name);
    if ((q->node == NODE_NONE && *target->node) || *target->outlet)
        return weir_report_set(report, WEIR_EINVAL, target->name,
                               q->node == NODE_NONE
                                   ? "this is for the whole weir: name no "
                                     "node"
                                   : "this is for the whole node: name "
                                     "no outlet");
    return WEIR_OK;
}

static int ask(const weir_command_line *line, const question *q)
{
    weir_remote *remote = NULL;
    weir_target target;
    weir_value body;
    weir_report report = {0};
    weir_err err =
        weir_remote_open(&remote, line, weir_line_operand(line, 0), &target, &report);
    if (!err) err = check_target(q, &target, &report);
    if (!err)
        err = weir_remote_ask(remote, &body, &report, q->command,
                              *target.node ? target.node : NULL, NULL);
    if (!err && weir_line_flag(line, "--json"))
        print_text(remote);
    else if (!err && q->print)
        q->print(&body);
    else if (!err)
        printf("%s%s%s %s\n", target.name, *target.node ? "/" : "", target.node, q->done);
    weir_remote_close(&remote);
    return err ? weir_remote_print(&report) : WEIR_EXIT_OK;
}

int weir_cmd_ctl_list(const weir_command_line *line)
{
    bool remote = weir_line_flag(line, "--control");
    if (!weir_line_operand(line, 0) && !remote)
        return list_all(weir_line_flag(line, "--json"));
    return ask(line, &(question){"list", NODE_NONE, print_nodes, NULL});
}

int weir_cmd_ctl_stats(const weir_command_line *line)
{
    return ask(line, &(question){"stats", NODE_MAY, print_stats, NULL});
}

int weir_cmd_ctl_pause(const weir_command_line *line)
{
    return ask(line, &(question){"pause", NODE_MUST, NULL, "is paused"});
}

int weir_cmd_ctl_resume(const weir_command_line *line)
{
    return ask(line, &(question){"resume", NODE_MUST, NULL, "goes on"});
}

int weir_cmd_ctl_drain(const weir_command_line *line)
{
    return ask(line, &(question){"drain", NODE_NONE, NULL, "drains, and then ends"});
}

int weir_cmd_ctl_stop(const weir_command_line *line)
{
    return ask(line, &(question){"stop", NODE_NONE, NULL, "stops"});
}

/* --- why --------------------------------------------------------------------------- */

static void print_path(const weir_value *path)
{
    weir_value names, key, name;
    weir_walk walk = {0};
    char text[800];
    bool first = true;
    if (!weir_look(path, "path", &names)) return;
    while (weir_value_next(&names, &walk, &key, &name)) {
        printf("%s%s", first ? "" : " -> ", weir_look_copy(&name, text, sizeof text));
        first = false;
    }
    printf(": %s\n", weir_look_text(path, "why", text, sizeof text));
}

/*  Prints the sentences; true: something is held back or has failed.          */
static bool print_why(const weir_value *body, bool json)
{
    weir_value paths, key, path;
    weir_walk walk = {0};
    char verdict[16];
    bool held = false;
    if (!weir_look(body, "paths", &paths)) return false;
    while (weir_value_next(&paths, &walk, &key, &path)) {
        weir_look_text(&path, "verdict", verdict, sizeof verdict);
        held |= strcmp(verdict, "held") == 0 || strcmp(verdict, "failed") == 0;
        if (!json) print_path(&path);
    }
    if (json) return held;
    if (weir_look_bool(body, "draining")) printf("it drains, and then ends\n");
    if (!weir_look_bool(body, "complete"))
        printf("there are more paths: name a node to see those that lead through it\n");
    return held;
}

int weir_cmd_why(const weir_command_line *line)
{
    weir_remote *remote = NULL;
    weir_target target;
    weir_value body;
    weir_report report = {0};
    bool json = weir_line_flag(line, "--json"), held = false;
    static const question q = {.command = "why", .node = NODE_MAY};
    weir_err err =
        weir_remote_open(&remote, line, weir_line_operand(line, 0), &target, &report);
    if (!err) err = check_target(&q, &target, &report);
    if (!err)
        err = weir_remote_ask(remote, &body, &report, "why",
                              *target.node ? target.node : NULL, NULL);
    if (!err) held = print_why(&body, json);
    if (!err && json) print_text(remote);
    weir_remote_close(&remote);
    return err ? weir_remote_print(&report) : held ? WEIR_EXIT_FAILED : WEIR_EXIT_OK;
}
