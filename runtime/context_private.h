/*  The context's own view of itself: for context.c and context_*.c only.        */
#pragma once
#include "runtime/context.h"
#include "runtime/control.h"
#include "runtime/systemd.h"

#define WEIR_CONTEXT_RESTARTS_MAX 1001

typedef struct {
    const weir_plan_node *plan;
    weir_node *node; // the start of plan->config
    weir_vitals vitals;
    zactor_t *actor; // NULL: not running
    weir_patience patience;
    bool paused; // by a command; it stays so when it starts again
    sem_t ended;
    weir_report report; // of init
} weir_member;

/*  A connected part that waits to start again; at_us < 0: it does not.        */
typedef struct {
    int64_t at_us;
    int in_a_row; // restarts without a quiet period between
    int64_t last_us;
    weir_report reason; // of the last restart
} weir_part;

/*  A client that taps a node.                                                   */
typedef struct {
    weir_stream *stream; // NULL: free
    size_t node;
    char outlet[WEIR_TAP_OUTLET_MAX]; // "": all of the node's
    uint64_t count;                   // records that it asks for
    uint64_t sent, skipped;
    int64_t until_us;
} weir_tapper;

/*  A client that waits until a bus is flushed.                                  */
typedef struct {
    weir_stream *stream; // NULL: free
    size_t node;
    uint64_t round;    // of its route
    uint64_t restarts; // of the bus when it was asked
    int64_t asked_us, deadline_us;
} weir_flush;

struct weir_context {
    weir_plan *plan;
    const weir_context_config *config;
    weir_outcome *outcome;
    weir_member *members; // as plan->nodes
    weir_vitals **vitals; // of the members, for tick
    weir_part *parts;     // indexed by plan->parts[node]
    weir_ledger *ledger;
    weir_monitor *monitor; // NULL: none
    weir_systemd systemd;
    unsigned generation; // of endpoints: each start binds anew
    int lock_fd, wake_fd, signal_fd, epoll_fd;
    int64_t restarts_us[WEIR_CONTEXT_RESTARTS_MAX]; // when the last ones were, a ring
    size_t restart_count;
    int64_t started_us, for_at_us, tick_at_us;
    int64_t drain_at_us;   // when sources are told to stop; -1: not yet asked
    int64_t deadline_us;   // of the drain; -1: none
    int64_t idle_since_us; // -1: busy
    uint64_t idle_records; // that all nodes had taken by then
    weir_phase phase;
    bool draining, over;
    weir_control *control; // NULL: none
    weir_tapper tappers[WEIR_CONTROL_STREAMS_MAX];
    int64_t tap_at_us; // when taps are drained; -1: nobody taps
    weir_flush flushes[WEIR_CONTROL_STREAMS_MAX];
};

typedef weir_context context;
typedef weir_member member;
typedef weir_part part;

/* --- Supervision: context.c -------------------------------------------------------- */

/*  Tells those outside: the monitor's readers, and the service manager.         */
void weir_context_enter(context *self, weir_phase phase, const char *news);

/*  Ends the run; the first reason counts.                                       */
void weir_context_give_up(context *self, weir_ending ending, const weir_report *reason);

/*  The sources are told to stop after the wait.                                 */
void weir_context_ask_drain(context *self, int64_t after_us);

/*  Records read and not safe, by the books of the sources.                      */
uint64_t weir_context_outstanding(const context *self);

/* --- Parts: context_parts.c -------------------------------------------------------- */

/*  Readers first, so that nothing is sent to nobody; sources start last.        */
weir_err weir_context_start_part(context *self, size_t part_number, weir_report *report);

/*  Sources end first; what they have not committed is given up, not lost.       */
void weir_context_stop_part(context *self, size_t part_number);
void weir_context_drain_part(context *self, size_t part_number);

/*  Restarts what has failed, or gives up; starts again what has waited.         */
void weir_context_look_for_failures(context *self);
void weir_context_run_restarts(context *self);

/*  Asks a member that runs, with a deadline, and without waiting for timeout_ms 0. The
    report says what it answered.                                                */
weir_err weir_context_ask(context *self, size_t node, int timeout_ms, const char *command,
                          weir_report *report);

/* --- Control: context_control.c ---------------------------------------------------- */

/*  Without a local endpoint it runs on, with a warning; a tcp endpoint that was asked
    for must be there.                                                           */
weir_err weir_context_open_control(context *self, weir_report *report);
void weir_context_close_control(context *self);

weir_err weir_context_find_node(const context *self, const char *name, size_t *node,
                                weir_report *report);

/*  Whether the number of arguments is right; the report says what they are.     */
weir_err weir_context_check_args(const weir_request *request, size_t least, size_t most,
                                 weir_report *report);

/* --- Taps: context_tap.c ----------------------------------------------------------- */

weir_err weir_context_cmd_tap(context *self, const weir_request *request,
                              weir_buffer *body, weir_report *report);
weir_err weir_context_cmd_untap(context *self, const weir_request *request,
                                weir_buffer *body, weir_report *report);

/*  Sends what has been sampled, and ends the taps that are over.                */
void weir_context_run_taps(context *self);
void weir_context_end_taps(context *self);

/* --- Buses: context_bus.c ---------------------------------------------------------- */

weir_err weir_context_cmd_bus(context *self, const weir_request *request,
                              weir_buffer *body, weir_report *report);
weir_err weir_context_cmd_scale(context *self, const weir_request *request,
                                weir_buffer *body, weir_report *report);
weir_err weir_context_cmd_flush(context *self, const weir_request *request,
                                weir_buffer *body, weir_report *report);
weir_err weir_context_cmd_pos_set(context *self, const weir_request *request,
                                  weir_buffer *body, weir_report *report);
weir_err weir_context_cmd_pos_rm(context *self, const weir_request *request,
                                 weir_buffer *body, weir_report *report);

/*  Answers those whose flush is over, or too late; when the next one is; and all. */
void weir_context_run_flushes(context *self);
int64_t weir_context_flush_deadline(const context *self); // -1: nobody waits
void weir_context_end_flushes(context *self);

/* --- Why: context_why.c ------------------------------------------------------------ */

weir_err weir_context_cmd_why(context *self, const weir_request *request,
                              weir_buffer *body, weir_report *report);
