#include "runtime/report.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include <errno.h>
#include <inttypes.h>

static const char *const ending_names[] = {"clean", "failed", "deadline", "at once",
                                           "start"};

const char *weir_ending_name(weir_ending ending)
{
    return ending_names[ending];
}

typedef uint64_t node_counts[WEIR_COUNTS];

void weir_accounts_print_more(const weir_plan_node *node, weir_buffer *out)
{
    if (!node->class->tell) return;
    weir_buffer_printf(out, ",\"%s\":{", node->class->name);
    node->class->tell(node->config, out);
    weir_buffer_put_byte(out, '}');
}

static void put_node(weir_buffer *out, const weir_plan_node *node,
                     const weir_vitals *vitals, const uint64_t *counts)
{
    weir_buffer_put_byte(out, '{');
    weir_json_put_member(out, "name", node->name);
    weir_json_put_member(out, "actor", node->class->name);
    weir_json_put_member(out, "state", weir_state_name((weir_state)vitals->state));
    for (int i = 0; i < WEIR_COUNTS; i++)
        weir_buffer_printf(out, ",\"%s\":%" PRIu64, weir_count_infos[i].name, counts[i]);
    weir_accounts_print_more(node, out);
    weir_buffer_put_byte(out, '}');
}

/*  What a reader has taken its sender may know of only later: senders are looked at
    first, so that no reader ever seems to lack what was sent.                 */
static node_counts *take_counts(const weir_accounts *self)
{
    node_counts *counts = calloc(self->plan->node_count, sizeof *counts);
    if (!counts) abort();
    for (size_t o = self->plan->node_count; o-- > 0;) {
        size_t i = self->plan->order[o];
        weir_vitals_counts(self->vitals[i], counts[i]);
    }
    return counts;
}

void weir_accounts_print_links(const weir_plan *plan, weir_buffer *out)
{
    weir_buffer_put_byte(out, '[');
    for (size_t i = 0; i < plan->link_count; i++) {
        const weir_plan_link *link = &plan->links[i];
        weir_buffer_put_text(out, i ? ",{" : "{");
        weir_json_put_member(out, "from", plan->nodes[link->from].name);
        weir_json_put_member(out, "outlet", link->outlet);
        weir_json_put_member(out, "to", plan->nodes[link->to].name);
        weir_buffer_put_byte(out, '}');
    }
    weir_buffer_put_byte(out, ']');
}

void weir_accounts_print(const weir_accounts *self, weir_buffer *out)
{
    const weir_outcome *outcome = self->outcome;
    const weir_ledger *ledger = self->ledger;
    node_counts *counts = take_counts(self);
    weir_buffer_put_text(out, "{\"version\":1");
    weir_json_put_member(out, "name", self->config->name);
    weir_buffer_printf(out, ",\"ended_ms\":%" PRId64, weir_clock_wall_ms());
    weir_json_put_member(out, "ending", self->ending);
    weir_json_put_member(out, "reason", outcome->reason.text);
    weir_buffer_printf(out,
                       ",\"restarts\":%d,\"outstanding\":%" PRIu64
                       ",\"ledger_peak\":%" PRIu64 ",\"ledger_used\":%" PRIu64
                       ",\"ledger_errors\":%" PRIu64 ",\"nodes\":[",
                       outcome->restarts, outcome->outstanding, weir_ledger_peak(ledger),
                       weir_ledger_used(ledger), weir_ledger_release_errors(ledger));
    for (size_t i = 0; i < self->plan->node_count; i++) {
        if (i) weir_buffer_put_byte(out, ',');
        put_node(out, &self->plan->nodes[i], self->vitals[i], counts[i]);
    }
    weir_buffer_put_text(out, "],\"links\":");
    weir_accounts_print_links(self->plan, out);
    weir_buffer_put_byte(out, '}');
    free(counts);
}

weir_err weir_accounts_write(const weir_accounts *self, weir_report *report)
{
    char path[PATH_MAX];
    weir_buffer out = {0};
    snprintf(path, sizeof path, "%s/report.json", self->config->state_dir);
    weir_accounts_print(self, &out);
    weir_buffer_put_byte(&out, '\n');
    weir_err err = weir_replace_file(path, out.data, out.size, 0600, true);
    if (err) weir_report_set(report, err, path, "%s", strerror(errno));
    weir_buffer_fini(&out);
    return err;
}
