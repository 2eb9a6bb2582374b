/*  report: the final report of a run, as JSON in state_dir/report.json, which
    `weir audit` reads.                                                        */
#pragma once
#include "runtime/context.h"

/*  Writes it to a temporary file and renames it, so that there is always a whole one. */
weir_err weir_report_write(const weir_plan *plan, const weir_context_config *config,
                           weir_vitals *const *vitals, const weir_ledger *ledger,
                           const weir_outcome *outcome, weir_report *report);

/*  The words of weir_ending: "clean", "failed", "deadline", "at once", "start". */
const char *weir_ending_name(weir_ending ending);
