#include "lua/pos_groups.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "lua/from.h"
#include "runtime/clock.h"

/* --- ls ---------------------------------------------------------------------------- */

typedef struct {
    char bus[64], group[512];
    uint64_t commit, last, lag, shed;
} group_row;

static void print_group(const group_row *row, bool json, bool first)
{
    if (!json) {
        printf("%-20s bus %-16s %14" PRIu64 " of %-14" PRIu64 " lag %" PRIu64
               ", shed %" PRIu64 "\n",
               row->group, row->bus, row->commit, row->last, row->lag, row->shed);
        return;
    }
    weir_buffer out = {0};
    weir_buffer_put_text(&out, first ? "{" : ",{");
    weir_json_put_member(&out, "group", row->group);
    weir_json_put_member(&out, "bus", row->bus);
    printf("%.*s,\"commit\":%" PRIu64 ",\"last\":%" PRIu64 ",\"lag\":%" PRIu64
           ",\"shed\":%" PRIu64 "}",
           (int)out.size, (char *)out.data, row->commit, row->last, row->lag, row->shed);
    weir_buffer_fini(&out);
}

static void list_bus(const weir_value *bus, bool json, bool *first)
{
    weir_value groups, key, group;
    weir_walk walk = {0};
    group_row row;
    weir_look_text(bus, "name", row.bus, sizeof row.bus);
    if (!weir_look(bus, "groups", &groups)) return;
    while (weir_value_next(&groups, &walk, &key, &group)) {
        weir_look_text(&group, "group", row.group, sizeof row.group);
        row.commit = weir_look_number(&group, "commit");
        row.last = weir_look_number(&group, "last");
        row.lag = weir_look_number(&group, "lag");
        row.shed = weir_look_number(&group, "shed");
        print_group(&row, json, *first);
        *first = false;
    }
}

weir_err weir_pos_groups_list(weir_remote *remote, bool json, bool *first,
                              weir_report *report)
{
    weir_value body, buses, key, bus;
    weir_walk walk = {0};
    weir_err err = weir_remote_ask(remote, &body, report, "bus", NULL);
    if (err || !weir_look(&body, "buses", &buses)) return err;
    while (weir_value_next(&buses, &walk, &key, &bus))
        list_bus(&bus, json, first);
    return WEIR_OK;
}

/* --- set and rm -------------------------------------------------------------------- */

/*  A group need not be a node, nor its name that of one: NAME/GROUP is cut at the first
    slash. Without a slash it is a group of the only weir.                     */
static weir_err open_group(weir_remote **remote, const weir_command_line *line,
                           char name[64], const char **group, weir_report *report)
{
    weir_target target;
    const char *operand = weir_line_operand(line, 0), *slash = strchr(operand, '/');
    *group = slash ? slash + 1 : operand;
    snprintf(name, 64, "%.*s", slash ? (int)(slash - operand) : 0, operand);
    weir_err err = weir_remote_open(remote, line, *name ? name : NULL, &target, report);
    if (!err && *target.node)
        err = weir_report_set(report, WEIR_ENOTFOUND, NULL,
                              "no weir named '%s' runs here", name);
    if (!err && !**group)
        err = weir_report_set(report, WEIR_EINVAL, target.name,
                              "which group? Write %s/NODE; `weir pos ls %s` tells them",
                              target.name, target.name);
    snprintf(name, 64, "%s", target.name);
    return err;
}

static void print_buses(const weir_value *body)
{
    weir_value buses, key, bus;
    weir_walk walk = {0};
    char text[64];
    bool first = true;
    if (!weir_look(body, "buses", &buses)) return;
    for (; weir_value_next(&buses, &walk, &key, &bus); first = false)
        printf("%s%s", first ? "" : ", ", weir_look_copy(&bus, text, sizeof text));
}

/*  A day, and how long ago, as the instant that the bus understands; all else as it is.
 */
static const char *instant_of(const char *position, char text[32])
{
    weir_from from;
    struct tm tm;
    if (strncmp(position, "w1", 2) == 0 ||
        weir_from_read(&from, position, 0, weir_clock_wall_ms(), NULL) ||
        from.kind != WEIR_FROM_TIME)
        return position;
    time_t seconds = (time_t)(from.ms / 1000);
    char second[24];
    strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
    snprintf(text, 32, "%s.%03dZ", second, (int)(from.ms % 1000));
    return text;
}

int weir_pos_groups_set(const weir_command_line *line, const char *position)
{
    char name[64], text[32];
    const char *group;
    weir_remote *remote = NULL;
    weir_value body;
    weir_report report = {0};
    weir_err err = open_group(&remote, line, name, &group, &report);
    if (!err)
        err = weir_remote_ask(remote, &body, &report, "pos-set", group,
                              instant_of(position, text), NULL);
    if (!err) {
        printf("%s/%s reads ", name, group);
        print_buses(&body);
        printf(" from %s on\n", position);
    }
    weir_remote_close(&remote);
    return err ? weir_remote_print(&report) : WEIR_EXIT_OK;
}

int weir_pos_groups_rm(const weir_command_line *line)
{
    char name[64];
    const char *group;
    weir_remote *remote = NULL;
    weir_value body;
    weir_report report = {0};
    weir_err err = open_group(&remote, line, name, &group, &report);
    if (!err) err = weir_remote_ask(remote, &body, &report, "pos-rm", group, NULL);
    if (!err) {
        printf("%s/%s is forgotten by ", name, group);
        print_buses(&body);
        printf("\n");
    }
    weir_remote_close(&remote);
    return err ? weir_remote_print(&report) : WEIR_EXIT_OK;
}
