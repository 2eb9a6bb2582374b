/*  ctl_bus: `weir ctl scale` and `weir ctl flush`.                            */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "lua/ctl.h"
#include "lua/remote.h"
#include "runtime/why.h"

const weir_flag weir_scale_flags[] = {
    {"--to", "N", "so many shards"},
    {"--by", "+N|-N", "so many more or fewer"},
    {"--json", NULL, "print the answer as JSON"},
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

const weir_flag weir_flush_flags[] = {
    {"--json", NULL, "print the answer as JSON"},
    {"--control", "ENDPOINT", "of a weir elsewhere: tcp://HOST:PORT"},
    {"--server", "NAME", "of --control: the name in its certificate"},
    {"--keys", "FOLDER", "of --control: where the keys are, instead of weir-keys"},
    {"--timeout", "TIME", "how long to wait; the bus's flush_timeout unless told"},
    {NULL, NULL, NULL},
};

static const int64_t grace_us = 3000000; // for an answer to come that is on its way

static weir_err open_bus(weir_remote **remote, const weir_command_line *line,
                         weir_target *target, weir_report *report)
{
    weir_err err =
        weir_remote_open(remote, line, weir_line_operand(line, 0), target, report);
    if (err) return err;
    if (*target->node && !*target->outlet) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, target->name, "which bus? Write %s/BUS",
                           target->name);
}

static void print_text(const weir_remote *remote)
{
    size_t size;
    const char *text = weir_remote_text(remote, &size);
    printf("%.*s\n", (int)size, text);
}

/* --- scale ------------------------------------------------------------------------- */

/*  "4" of --to, "+2" or "-2" of --by: what the command takes.                 */
static weir_err read_target(const weir_command_line *line, char text[24],
                            weir_report *report)
{
    const char *to = weir_line_flag(line, "--to"), *by = weir_line_flag(line, "--by");
    if (!to == !by)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "how many shards? Say --to N, or --by +N or -N");
    const char *digits = to ? to : by + (*by == '+' || *by == '-');
    if (!*digits || strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 9)
        return weir_report_set(report, WEIR_EINVAL, to ? "--to" : "--by",
                               to ? "'%s' is no number of shards"
                                  : "'%s' is neither +N nor -N",
                               to ? to : by);
    snprintf(text, 24, "%s%s", by && *by != '-' && *by != '+' ? "+" : "", to ? to : by);
    return WEIR_OK;
}

/*  "events: added 2, 3: 4 shards are active".                                 */
static void print_ids(const weir_value *body, const char *name, const char *word)
{
    weir_value ids, key, id;
    weir_walk walk = {0};
    bool first = true;
    if (!weir_look(body, name, &ids)) return;
    for (; weir_value_next(&ids, &walk, &key, &id); first = false)
        printf("%s%" PRIu64, first ? word : ", ", weir_look_natural(&id));
    if (!first) printf(": ");
}

static void print_scaled(const weir_value *body, const weir_target *target)
{
    uint64_t active = weir_look_number(body, "active");
    printf("%s/%s: ", target->name, target->node);
    print_ids(body, "added", "adds ");
    print_ids(body, "drained", "drains ");
    printf("%" PRIu64 " %s active\n", active, active == 1 ? "shard is" : "shards are");
}

int weir_cmd_ctl_scale(const weir_command_line *line)
{
    char want[24];
    weir_remote *remote = NULL;
    weir_target target;
    weir_value body;
    weir_report report = {0};
    weir_err err = read_target(line, want, &report);
    if (!err) err = open_bus(&remote, line, &target, &report);
    if (!err)
        err = weir_remote_ask(remote, &body, &report, "scale", target.node, want, NULL);
    if (!err && weir_line_flag(line, "--json"))
        print_text(remote);
    else if (!err)
        print_scaled(&body, &target);
    weir_remote_close(&remote);
    return err ? weir_remote_print(&report) : WEIR_EXIT_OK;
}

/* --- flush ------------------------------------------------------------------------- */

/*  How long the bus will take at most: what was said, or its own flush_timeout. */
static weir_err find_timeout(weir_remote *remote, const weir_command_line *line,
                             const char *bus, int64_t *timeout_us, weir_report *report)
{
    weir_value found;
    const char *said = weir_line_flag(line, "--timeout");
    if (said) return weir_parse_time(timeout_us, said, report);
    weir_err err = weir_remote_bus(remote, bus, &found, report);
    *timeout_us = err ? 0 : (int64_t)weir_look_number(&found, "flush_timeout_ms") * 1000;
    return err;
}

static void print_missing(const weir_value *body)
{
    weir_value shards, key, shard;
    weir_walk walk = {0};
    char age[32], error[256];
    if (!weir_look(body, "shards", &shards)) return;
    while (weir_value_next(&shards, &walk, &key, &shard)) {
        weir_duration_print((int64_t)weir_look_number(&shard, "oldest_ms") * 1000, age);
        weir_look_text(&shard, "error", error, sizeof error);
        fprintf(stderr,
                "  shard %" PRIu64 ": %" PRIu64 " records, the oldest for %s%s%s\n",
                weir_look_number(&shard, "shard"), weir_look_number(&shard, "unsafe"),
                age, *error ? ": " : "", error);
    }
}

int weir_cmd_ctl_flush(const weir_command_line *line)
{
    bool more, json = weir_line_flag(line, "--json");
    int64_t timeout_us = 0;
    weir_remote *remote = NULL;
    weir_target target;
    weir_value body = {.size = 0};
    weir_report report = {0};
    weir_err err = open_bus(&remote, line, &target, &report);
    if (!err) err = find_timeout(remote, line, target.node, &timeout_us, &report);
    if (!err)
        err = weir_remote_send(remote, "flush", target.node,
                               weir_line_flag(line, "--timeout"), NULL);
    if (!err)
        err = weir_remote_recv(remote, timeout_us + grace_us, -1, &more, &body, &report);
    if (json && (!err || err == WEIR_ETIMEOUT) && body.size)
        print_text(remote);
    else if (!err)
        printf("%s/%s: all that it was sent is safe, after %" PRIu64 " ms\n", target.name,
               target.node, weir_look_number(&body, "ms"));
    int code = err ? weir_remote_print(&report) : WEIR_EXIT_OK;
    if (err && body.size && !json) print_missing(&body);
    weir_remote_close(&remote);
    return code;
}
