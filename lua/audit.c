/*  audit: `weir audit`, the proof that every record is accounted for: of the last run by
    its report, of one that runs by asking it.                                 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lua/audit_bus.h"
#include "lua/command.h"
#include "lua/remote.h"
#include "lua/state.h"

const weir_flag weir_audit_flags[] = {
    {"--json", NULL, "as JSON"},
    WEIR_SET_FLAG,
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

static const size_t report_max = 64 << 20;

static bool read_file(const char *path, weir_buffer *text)
{
    FILE *file = fopen(path, "re");
    size_t n = 1;
    while (file && n && text->size <= report_max) {
        n = fread(weir_buffer_reserve(text, 65536), 1, 65536, file);
        text->size += n;
    }
    bool good = file && !ferror(file) && text->size <= report_max;
    if (file) fclose(file);
    return good;
}

typedef struct {
    uint64_t nodes, unbalanced; // nodes; those whose sum is not zero
    uint64_t wrong;             // equations of buses that do not hold
    uint64_t sent, received;    // over all links
    uint64_t read, resident, dead, restarts;
} sums;

/*  in - (done + dropped + filtered + dead + skipped + shed + resident).       */
static int64_t imbalance(const weir_value *node)
{
    static const char *const fates[] = {"done",    "dropped", "filtered", "dead",
                                        "skipped", "shed",    "resident"};
    int64_t left = (int64_t)weir_look_number(node, "in");
    for (size_t i = 0; i < sizeof fates / sizeof *fates; i++)
        left -= (int64_t)weir_look_number(node, fates[i]);
    return left;
}

/*  Its records come over no link: from outside, or out of a bus's store.      */
static bool brings_in(const weir_value *actor)
{
    return (actor->size > 7 && memcmp(actor->data, "source.", 7) == 0) ||
           (actor->size == 6 && memcmp(actor->data, "reader", 6) == 0);
}

static void audit_node(const weir_value *node, sums *total, bool json, bool first)
{
    static const char *const columns[] = {"in",   "done",    "dropped", "filtered",
                                          "dead", "skipped", "shed",    "resident"};
    weir_value name;
    weir_buffer scratch = {0};
    size_t size = 0;
    const char *text = "?";
    if (weir_look(node, "name", &name)) text = weir_value_text(&name, &scratch, &size);
    int64_t left = imbalance(node);
    printf(json ? "%s{\"name\":\"%.*s\"" : "%s%-20.*s", json && !first ? "," : "",
           (int)size, text);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (json)
            printf(",\"%s\":%" PRIu64, columns[i], weir_look_number(node, columns[i]));
        else
            printf(" %10" PRIu64, weir_look_number(node, columns[i]));
    printf(json ? ",\"imbalance\":%" PRId64 "}" : " %10" PRId64 "\n", left);
    bool source = weir_look(node, "actor", &name) && brings_in(&name);
    total->nodes++;
    total->unbalanced += left != 0;
    bool sink = name.size > 5 && memcmp(name.data, "sink.", 5) == 0;
    total->sent +=
        sink ? 0 : weir_look_number(node, "out"); // a sink's readers are elsewhere
    total->received += source ? 0 : weir_look_number(node, "in");
    total->read += source ? weir_look_number(node, "in") : 0;
    total->resident += source ? weir_look_number(node, "resident") : 0;
    total->dead += weir_look_number(node, "dead") + weir_look_number(node, "given_up");
    weir_buffer_fini(&scratch);
}

/*  What readers have settled and senders do not know of came before a restart and
    will come again: it was taken twice, not lost. The other way is a loss. An end that
    is not clean may leave a thread behind that is stuck with its memory.      */
static int print_verdict(const sums *s, const weir_value *report, bool json)
{
    uint64_t restarts = weir_look_number(report, "restarts");
    uint64_t ledger = weir_look_number(report, "ledger_used"),
             errors = weir_look_number(report, "ledger_errors");
    int64_t twice = (int64_t)s->received - (int64_t)s->sent;
    weir_value ending = {.size = 0};
    weir_look(report, "ending", &ending);
    bool clean = ending.size == 5 && memcmp(ending.data, "clean", 5) == 0;
    bool good = s->unbalanced == 0 && s->wrong == 0 && errors == 0 && twice >= 0 &&
                !(clean && restarts == 0 && twice) && !(clean && (s->resident || ledger));
    if (json) {
        printf(",\"read\":%" PRIu64 ",\"resident\":%" PRIu64 ",\"dead\":%" PRIu64
               ",\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"twice\":%" PRId64
               ",\"ledger\":%" PRIu64 ",\"ending\":\"%.*s\",\"balanced\":%s}\n",
               s->read, s->resident, s->dead, s->sent, s->received, twice,
               ledger + errors, (int)ending.size, ending.data, good ? "true" : "false");
        return good ? WEIR_EXIT_OK : WEIR_EXIT_FAILED;
    }
    printf("\nending     %.*s\n", (int)ending.size, ending.data);
    printf("links      %" PRIu64 " sent and acknowledged, %" PRIu64 " received", s->sent,
           s->received);
    if (twice) printf(", %" PRId64 " of them received twice or not acknowledged", twice);
    printf("\nmemory     %" PRIu64 " bytes left in the ledger\n", ledger);
    if (s->resident)
        printf("resident   %" PRIu64
               " records were read and are not safe: they come again\n",
               s->resident);
    printf("%s\n", good ? "every record is accounted for: the sums are zero"
                        : "THE SUMS ARE NOT ZERO");
    return good ? WEIR_EXIT_OK : WEIR_EXIT_FAILED;
}

static void audit_buses(const weir_value *nodes, sums *total, bool json)
{
    weir_value key, node, bus;
    weir_walk walk = {0};
    char name[64];
    bool first = true;
    if (json) printf("],\"buses\":[");
    while (nodes && weir_value_next(nodes, &walk, &key, &node)) {
        if (!weir_look(&node, "bus", &bus) || !weir_look(&bus, "shards", &key)) continue;
        weir_look_text(&node, "name", name, sizeof name);
        total->wrong += weir_audit_bus(&bus, name, json, first);
        first = false;
    }
    if (json) printf("]");
}

static int audit_report(const weir_value *report, bool json)
{
    weir_value nodes, key, node;
    weir_walk walk = {0};
    sums total = {0};
    if (json)
        printf("{\"nodes\":[");
    else
        printf("%-20s %10s %10s %10s %10s %10s %10s %10s %10s %10s\n", "node", "in",
               "done", "dropped", "filtered", "dead", "skipped", "shed", "resident",
               "sum");
    bool some = weir_look(report, "nodes", &nodes);
    while (some && weir_value_next(&nodes, &walk, &key, &node))
        audit_node(&node, &total, json, total.nodes == 0);
    audit_buses(some ? &nodes : NULL, &total, json);
    return print_verdict(&total, report, json);
}

static int audit_text(const char *where, const void *text, size_t size, bool json)
{
    weir_look_doc look = {0};
    int code = WEIR_EXIT_CHECK;
    if (weir_look_open(&look, text, size))
        fprintf(stderr, "weir: %s: byte %u: %s\n", where, look.index.error_at,
                look.index.error);
    else
        code = audit_report(&look.root, json);
    weir_look_close(&look);
    return code;
}

static int audit_folder(const char *folder, bool json)
{
    char path[PATH_MAX + 16];
    weir_buffer text = {0};
    int code = WEIR_EXIT_CHECK;
    snprintf(path, sizeof path, "%s/report.json", folder);
    if (read_file(path, &text))
        code = audit_text(path, text.data, text.size, json);
    else
        fprintf(stderr, "weir: %s: there is no report of a run that has ended\n", path);
    weir_buffer_fini(&text);
    return code;
}

static int audit_running(const weir_command_line *line, const char *operand)
{
    weir_remote *remote = NULL;
    weir_target target;
    weir_value body;
    weir_report report = {0};
    size_t size;
    weir_err err = weir_remote_open(&remote, line, operand, &target, &report);
    if (!err && *target.node)
        err = weir_report_set(&report, WEIR_EINVAL, target.name,
                              "the sums are of a whole weir: name no node");
    if (!err) err = weir_remote_ask(remote, &body, &report, "audit", NULL);
    const char *text = err ? NULL : weir_remote_text(remote, &size);
    int code = err ? weir_remote_print(&report)
                   : audit_text(target.name, text, size, weir_line_flag(line, "--json"));
    weir_remote_close(&remote);
    return code;
}

int weir_cmd_audit(const weir_command_line *line)
{
    char folder[PATH_MAX];
    const char *operand = weir_line_operand(line, 0);
    if (!operand || weir_line_flag(line, "--control") || !weir_state_is_file(operand))
        return audit_running(line, operand);
    if (!weir_state_of_file(line, operand, folder)) return WEIR_EXIT_CHECK;
    return audit_folder(folder, weir_line_flag(line, "--json"));
}
