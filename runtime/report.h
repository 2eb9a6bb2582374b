/*  report: the accounts of a run as JSON: in state_dir/report.json when it has ended,
    which `weir audit` reads, and while it runs, for whoever asks.             */
#pragma once
#include "runtime/context.h"

/*  All is lent. */
typedef struct {
    const weir_plan *plan;
    const weir_context_config *config;
    weir_vitals *const *vitals;
    const weir_ledger *ledger;
    const weir_outcome *outcome;
    const char *ending; // a word: "clean", .., or "running"
} weir_accounts;

/*  Appends them, without a newline.                                           */
void weir_accounts_print(const weir_accounts *self, weir_buffer *out);

/*  Writes them to a temporary file and renames it, so that there is always a whole one.
 */
weir_err weir_accounts_write(const weir_accounts *self, weir_report *report);

/*  Appends the array of links: [{"from":..,"outlet":..,"to":..}, ..].            */
void weir_accounts_print_links(const weir_plan *plan, weir_buffer *out);

/*  Appends what a node's class tells beside its vitals, as a member that bears the
    class's name; nothing when it tells nothing.                                       */
void weir_accounts_print_more(const weir_plan_node *node, weir_buffer *out);

/*  The words of weir_ending: "clean", "failed", "deadline", "at once", "start". */
const char *weir_ending_name(weir_ending ending);
