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

static void put_text(weir_buffer *out, const char *name, const char *text)
{
    weir_buffer_printf(out, "\"%s\":", name);
    if (weir_json_put_string(out, text, strlen(text))) weir_buffer_put_text(out, "\"?\"");
}

static void put_node(weir_buffer *out, const weir_plan_node *node,
                     const weir_vitals *vitals)
{
    weir_buffer_put_byte(out, '{');
    put_text(out, "name", node->name);
    weir_buffer_put_byte(out, ',');
    put_text(out, "actor", node->class->name);
    weir_buffer_printf(out, ",\"state\":\"%s\"",
                       weir_state_name((weir_state)vitals->state));
    for (int i = 0; i < WEIR_COUNTS; i++)
        weir_buffer_printf(out, ",\"%s\":%" PRIu64, weir_count_infos[i].name,
                           weir_count_get(vitals, (weir_count)i));
    weir_buffer_put_byte(out, '}');
}

static void put_report(weir_buffer *out, const weir_plan *plan,
                       const weir_context_config *config, weir_vitals *const *vitals,
                       const weir_ledger *ledger, const weir_outcome *outcome)
{
    weir_buffer_put_text(out, "{\"version\":1,");
    put_text(out, "name", config->name);
    weir_buffer_printf(out, ",\"ended_ms\":%" PRId64 ",\"ending\":\"%s\",",
                       weir_clock_wall_ms(), weir_ending_name(outcome->ending));
    put_text(out, "reason", outcome->reason.text);
    weir_buffer_printf(out,
                       ",\"restarts\":%d,\"outstanding\":%" PRIu64
                       ",\"ledger_peak\":%" PRIu64 ",\"ledger_used\":%" PRIu64
                       ",\"ledger_errors\":%" PRIu64 ",\"nodes\":[",
                       outcome->restarts, outcome->outstanding, weir_ledger_peak(ledger),
                       weir_ledger_used(ledger), weir_ledger_release_errors(ledger));
    for (size_t i = 0; i < plan->node_count; i++) {
        if (i) weir_buffer_put_byte(out, ',');
        put_node(out, &plan->nodes[i], vitals[i]);
    }
    weir_buffer_put_text(out, "],\"links\":[");
    for (size_t i = 0; i < plan->link_count; i++) {
        const weir_plan_link *link = &plan->links[i];
        weir_buffer_put_text(out, i ? ",{" : "{");
        put_text(out, "from", plan->nodes[link->from].name);
        weir_buffer_put_byte(out, ',');
        put_text(out, "outlet", link->outlet);
        weir_buffer_put_byte(out, ',');
        put_text(out, "to", plan->nodes[link->to].name);
        weir_buffer_put_byte(out, '}');
    }
    weir_buffer_put_text(out, "]}\n");
}

weir_err weir_report_write(const weir_plan *plan, const weir_context_config *config,
                           weir_vitals *const *vitals, const weir_ledger *ledger,
                           const weir_outcome *outcome, weir_report *report)
{
    char path[PATH_MAX];
    weir_buffer out = {0};
    snprintf(path, sizeof path, "%s/report.json", config->state_dir);
    put_report(&out, plan, config, vitals, ledger, outcome);
    weir_err err = weir_replace_file(path, out.data, out.size, 0600, true);
    if (err) weir_report_set(report, err, path, "%s", strerror(errno));
    weir_buffer_fini(&out);
    return err;
}
