#include "lua/bus.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "actors/bus_db.h"
#include "actors/identity.h"
#include "actors/store_disk.h"
#include "lua/remote.h"

const weir_flag weir_bus_json_flags[] = {
    {"--json", NULL, "as JSON"},
    {NULL, NULL, NULL},
};

const weir_flag weir_bus_trim_flags[] = {
    {"--age", "TIME", "drop blocks that arrived longer ago, such as 7d"},
    {"--bytes", "SIZE", "keep so much of each shard, such as 10GB"},
    {"--records", "N", "keep so many records of each shard"},
    {NULL, NULL, NULL},
};

/* --- Which bus --------------------------------------------------------------------- */

/*  Names the folder where the store would lie beside a topology in this folder.     */
static void suggest_folder(const char *operand, weir_report *report)
{
    struct stat st;
    char folder[200];
    int name = (int)strcspn(operand, "/");
    size_t size = strlen(report->text), room = sizeof report->text - size;
    const char *bus = operand[name] ? operand + name + 1 : "BUS";
    snprintf(folder, sizeof folder, "weir-%.*s/bus/%s", name, operand, bus);
    snprintf(report->text + size, room,
             stat(folder, &st) ? "; of one that does not run the folder of a disk store "
                                 "can be named, such as %s"
                               : "; name the folder of its disk store: %s",
             folder);
}

weir_err weir_bus_open_remote(weir_remote **remote, const weir_command_line *line,
                              weir_target *target, weir_report *report)
{
    const char *operand = weir_line_operand(line, 0);
    *target = (weir_target){.name = ""};
    weir_err err = weir_remote_open(remote, line, operand, target, report);
    if (!err && !*target->node)
        err = weir_report_set(report, WEIR_EINVAL, target->name,
                              "which bus? Write %s/BUS", target->name);
    if (err == WEIR_ENOTFOUND && !*target->name && !weir_line_flag(line, "--control"))
        suggest_folder(operand, report);
    return err;
}

weir_err weir_bus_check_folder(const char *folder, weir_report *report)
{
    struct stat st;
    if (stat(folder, &st))
        return weir_report_set(report, WEIR_ENOTFOUND, folder, "there is no such folder");
    if (!S_ISDIR(st.st_mode))
        return weir_report_set(report, WEIR_EINVAL, folder,
                               "it is no folder: name that of a bus's disk store");
    return WEIR_OK;
}

weir_err weir_bus_nonce(const char *folder, uint64_t *nonce, weir_report *report)
{
    char path[PATH_MAX + 16];
    weir_identity identity = {0};
    snprintf(path, sizeof path, "%s/identity", folder);
    weir_err err = weir_identity_read(&identity, path, report);
    *nonce = err ? 0 : identity.nonce;
    return err == WEIR_ENOTFOUND ? WEIR_OK : err;
}

/* --- verify ------------------------------------------------------------------------ */

typedef struct {
    bool json, any;
} damage_print;

static void print_range(uint32_t shard, uint64_t first, uint64_t last)
{
    if (first == last)
        printf("shard %" PRIu32 ", offset %" PRIu64 ": ", shard, first);
    else
        printf("shard %" PRIu32 ", offsets %" PRIu64 " to %" PRIu64 ": ", shard, first,
               last);
}

static void print_damage_json(damage_print *self, uint32_t shard, uint64_t first,
                              uint64_t last, const char *text)
{
    weir_buffer out = {0};
    weir_buffer_put_text(&out, self->any ? ",{" : "{");
    if (shard == UINT32_MAX)
        weir_buffer_put_text(&out, "\"shard\":null,\"first\":null,\"last\":null");
    else
        weir_buffer_printf(
            &out, "\"shard\":%" PRIu32 ",\"first\":%" PRIu64 ",\"last\":%" PRIu64, shard,
            first, last);
    weir_json_put_member(&out, "text", text);
    weir_buffer_put_byte(&out, '}');
    fwrite(out.data, 1, out.size, stdout);
    weir_buffer_fini(&out);
}

static void print_damage(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                         const char *text)
{
    damage_print *self = arg;
    if (self->json) {
        print_damage_json(self, shard, first, last, text);
    } else {
        if (shard != UINT32_MAX) print_range(shard, first, last);
        printf("%s\n", text);
    }
    self->any = true;
}

/*  1 says damage alone, so that a script can tell it from a folder that is none.   */
static int exit_code(weir_err err)
{
    return err == WEIR_OK           ? WEIR_EXIT_OK
           : err == WEIR_EMALFORMED ? WEIR_EXIT_FAILED
                                    : WEIR_EXIT_CHECK;
}

int weir_cmd_bus_verify(const weir_command_line *line)
{
    weir_report report = {0};
    const char *folder = weir_line_operand(line, 0);
    damage_print print = {.json = weir_line_flag(line, "--json")};
    if (print.json) printf("{\"damage\":[");
    weir_err err = weir_disk_verify(folder, print_damage, &print, &report);
    if (print.json) printf("]}\n");
    if (err)
        weir_remote_print(&report);
    else if (!print.json)
        printf("%s: no damage\n", folder);
    return exit_code(err);
}

/* --- repair ------------------------------------------------------------------------ */

/*  Of a damaged state the copy has what was good.                                  */
static bool is_state_damaged(const char *folder)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/groups.mdb", folder);
    return weir_bus_db_verify(path, NULL) == WEIR_EMALFORMED;
}

int weir_cmd_bus_repair(const weir_command_line *line)
{
    weir_report report = {0};
    uint64_t copied, lost;
    const char *from = weir_line_operand(line, 0), *to = weir_line_operand(line, 1);
    if (weir_disk_repair(from, to, &copied, &lost, &report))
        return weir_remote_print(&report);
    if (is_state_damaged(from))
        fprintf(
            stderr,
            "weir: %s: groups.mdb was damaged: groups and shards that it has lost begin "
            "anew\n",
            to);
    printf("%s: %" PRIu64 " record%s copied, %" PRIu64 " lost\n", to, copied,
           copied == 1 ? "" : "s", lost);
    return WEIR_EXIT_OK;
}

/* --- trim -------------------------------------------------------------------------- */

static weir_err read_count(int64_t *count, const char *text, weir_report *report)
{
    char *end;
    *count = strtoll(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && *count<INT64_MAX && * count> 0)
        return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "expected a number of records, at least 1, got '%.60s'", text);
}

/*  Reads one bound; left as it is when it was not given.                           */
static weir_err read_bound(const weir_command_line *line, const char *flag,
                           weir_err (*parse)(int64_t *, const char *, weir_report *),
                           int64_t *bound, weir_report *report)
{
    const char *text = weir_line_flag(line, flag);
    weir_err err = text ? parse(bound, text, report) : WEIR_OK;
    if (err) snprintf(report->where, sizeof report->where, "%s", flag);
    return err;
}

int weir_cmd_bus_trim(const weir_command_line *line)
{
    weir_report report = {0};
    uint64_t trimmed = 0;
    int64_t age_us = WEIR_FOREVER, bytes = WEIR_FOREVER, records = WEIR_FOREVER;
    const char *folder = weir_line_operand(line, 0);
    weir_err err = read_bound(line, "--age", weir_parse_time, &age_us, &report);
    if (!err) err = read_bound(line, "--bytes", weir_parse_size, &bytes, &report);
    if (!err) err = read_bound(line, "--records", read_count, &records, &report);
    if (!err && age_us == WEIR_FOREVER && bytes == WEIR_FOREVER &&
        records == WEIR_FOREVER)
        err = weir_report_set(&report, WEIR_EINVAL, NULL,
                              "say what to keep: --age, --bytes or --records");
    if (!err) err = weir_disk_trim(folder, age_us, bytes, records, &trimmed, &report);
    if (err) return weir_remote_print(&report);
    printf("%s: %" PRIu64 " record%s trimmed\n", folder, trimmed,
           trimmed == 1 ? "" : "s");
    return WEIR_EXIT_OK;
}
