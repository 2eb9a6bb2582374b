/*  context: supervises a plan: starts its actors (readers first), restarts the part
    of the topology whose path has stopped, drains and ends them all.

    A part is what is connected by links: when one of its actors stops at its ack
    barrier, all of them end and start again after a wait, and the sources go back to
    what was last committed; other parts go on undisturbed.                    */
#pragma once
#include "runtime/monitor.h"
#include "runtime/plan.h"

typedef struct {
    const char *name;      // of the topology
    const char *state_dir; // made if it is not there; locked
    size_t window_bytes, block_bytes, record_max;
    weir_realm *realm;   // for links that leave the process; NULL: none may
    const char *run_dir; // of the local control endpoint; NULL: none. Needs a realm
    const char *control; // a further one: "tcp://*:7777", for the role control; or NULL
    int64_t intensity, period_us;    // restarts allowed in a period
    int64_t drain_us, stop_delay_us; // deadline of the drain; wait before it
    bool signals; // SIGINT, SIGTERM drain (a second one ends at once), SIGHUP opens
                  // files anew; the caller has blocked them in all threads
    bool notify;  // tell the service manager behind $NOTIFY_SOCKET (systemd.h)
    const weir_monitor_config *monitor; // metrics and health over HTTP; NULL: none
    int64_t for_us;                     // drain after so long; 0: never
    bool until_idle;                    // drain when there is nothing left to read
    int64_t tick_us;                    // how often tick is called; 0: never
    void (*tick)(void *arg, weir_plan *plan, weir_vitals *const *vitals);
    void *arg;
} weir_context_config;

extern const weir_context_config weir_context_defaults;

typedef enum {
    WEIR_END_CLEAN = 0, // everything read is safe
    WEIR_END_FAILED,    // stopped by failures
    WEIR_END_DEADLINE,  // the drain took too long: what is outstanding is reported
    WEIR_END_AT_ONCE,   // a second signal
    WEIR_END_START,     // it never ran
} weir_ending;

typedef struct {
    weir_ending ending;
    weir_report reason;   // of a failure
    uint64_t dead;        // dead letters that this run has written
    uint64_t outstanding; // records read and not safe, by the sources' books
    int restarts;
    bool interrupted; // a signal has begun the drain
    bool stuck;       // a thread did not end: leave by _exit
} weir_outcome;

/*  The commands of the control endpoint, ended by a NULL name; docs/control.md. A handler
    writes the reply's JSON to the body, or fails with a report; one that streams has
    replied itself when it returns WEIR_OK.                                    */
typedef struct weir_context weir_context;
typedef struct weir_request weir_request;
typedef struct {
    const char *name;
    const char *args; // "NODE[.OUTLET] COUNT SECONDS"
    weir_err (*handler)(weir_context *self, const weir_request *request,
                        weir_buffer *body, weir_report *report);
    const char *help;
    bool changes; // something: it is logged
    bool streams;
} weir_context_command;

extern const weir_context_command weir_context_commands[];

/*  Runs the checked plan until it ends, and writes the final report to
    state_dir/report.json. Blocks. Call it from the process's main thread, before
    any other thread exists if signals is set.                                 */
void weir_context_run(weir_plan *plan, const weir_context_config *config,
                      weir_outcome *outcome);
