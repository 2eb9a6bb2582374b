/*  What the commands of the control endpoint do.                                */
#include "runtime/clock.h"
#include "runtime/context_private.h"
#include "runtime/json.h"
#include "runtime/log.h"
#include "runtime/metrics.h"
#include "runtime/report.h"
#include <sys/epoll.h>
#include <unistd.h>

static const int ask_timeout_ms = 1000; // the supervisor waits so long for a node

/* --- Words ------------------------------------------------------------------------- */

weir_err weir_context_find_node(const context *self, const char *name, size_t *node,
                                weir_report *report)
{
    for (size_t i = 0; i < self->plan->node_count; i++)
        if (streq(self->plan->nodes[i].name, name)) {
            *node = i;
            return WEIR_OK;
        }
    return weir_report_set(report, WEIR_ENOTFOUND, NULL, "there is no node '%s'", name);
}

weir_err weir_context_check_args(const weir_request *request, size_t least, size_t most,
                                 weir_report *report)
{
    if (request->arg_count >= least && request->arg_count <= most) return WEIR_OK;
    const weir_context_command *c = weir_context_commands;
    while (!streq(c->name, request->command))
        c++;
    return weir_report_set(report, WEIR_EINVAL, NULL, "the arguments of %s are: %s",
                           c->name, *c->args ? c->args : "none");
}

static bool waits_to_start(const context *self, size_t node)
{
    return self->parts[self->plan->parts[node]].at_us >= 0;
}

/*  The node's state in one word, for people.                                    */
static const char *state_of(const context *self, size_t node)
{
    if (waits_to_start(self, node)) return "restarting";
    weir_state state = (weir_state)self->members[node].vitals.state;
    bool paused = self->members[node].paused && state == WEIR_STATE_RUNNING;
    return paused ? "paused" : weir_state_name(state);
}

static void put_number(weir_buffer *out, const char *name, int64_t number)
{
    weir_buffer_printf(out, ",\"%s\":%" PRId64, name, number);
}

static void put_bool(weir_buffer *out, const char *name, bool value)
{
    weir_buffer_printf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

/* --- Looking ----------------------------------------------------------------------- */

static weir_err cmd_version(context *self, const weir_request *request, weir_buffer *body,
                            weir_report *report)
{
    weir_err err = weir_context_check_args(request, 0, 0, report);
    int64_t up_us = weir_clock_now_us() - self->started_us;
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "version", WEIR_VERSION);
    put_number(body, "protocol", 1);
    weir_json_put_member(body, "name", self->config->name);
    put_number(body, "pid", getpid());
    char folder[PATH_MAX];
    bool real = realpath(self->config->state_dir, folder);
    weir_json_put_member(body, "state_dir", real ? folder : self->config->state_dir);
    put_number(body, "up_ms", up_us / 1000);
    weir_buffer_put_byte(body, '}');
    return err;
}

static void put_node_head(const context *self, weir_buffer *out, size_t i)
{
    char endpoint[sizeof self->vitals[i]->endpoint];
    weir_vitals_endpoint(self->vitals[i], endpoint);
    weir_json_put_member(out, "name", self->plan->nodes[i].name);
    weir_json_put_member(out, "actor", self->plan->nodes[i].class->name);
    weir_json_put_member(out, "state", state_of(self, i));
    put_number(out, "part", (int64_t)self->plan->parts[i]);
    if (*endpoint) weir_json_put_member(out, "endpoint", endpoint);
    weir_report reason;
    if (self->vitals[i]->state != WEIR_STATE_FAILED) return;
    weir_vitals_reason(self->vitals[i], &reason);
    weir_json_put_member(out, "reason", reason.text);
}

static weir_err cmd_list(context *self, const weir_request *request, weir_buffer *body,
                         weir_report *report)
{
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "name", self->config->name);
    const char *certificate = weir_realm_name(self->config->realm);
    if (certificate) weir_json_put_member(body, "certificate", certificate);
    weir_buffer_put_text(body, ",\"nodes\":[");
    for (size_t i = 0; i < self->plan->node_count; i++) {
        weir_buffer_put_text(body, i ? ",{" : "{");
        put_node_head(self, body, i);
        weir_buffer_put_byte(body, '}');
    }
    weir_buffer_put_text(body, "],\"links\":");
    weir_accounts_print_links(self->plan, body);
    weir_buffer_put_byte(body, '}');
    return weir_context_check_args(request, 0, 0, report);
}

static void put_waits(weir_buffer *out, weir_vitals *vitals)
{
    weir_wait waits[WEIR_WAITS_MAX];
    size_t count = weir_vitals_waits(vitals, waits);
    int64_t now = weir_clock_now_us();
    weir_buffer_put_text(out, ",\"waits\":[");
    for (size_t i = 0; i < count; i++) {
        weir_buffer_put_text(out, i ? ",{" : "{");
        weir_json_put_member(out, "for", weir_wait_infos[waits[i].kind].name);
        weir_json_put_member(out, "subject", waits[i].subject);
        weir_json_put_member(out, "text", waits[i].text);
        put_number(out, "since_ms", (now - waits[i].since_us) / 1000);
        weir_buffer_put_byte(out, '}');
    }
    weir_buffer_put_byte(out, ']');
}

static void put_stats(const context *self, weir_buffer *out, size_t i)
{
    uint64_t counts[WEIR_COUNTS];
    weir_vitals *vitals = self->vitals[i];
    weir_vitals_counts(vitals, counts);
    weir_buffer_put_byte(out, '{');
    put_node_head(self, out, i);
    for (int c = 0; c < WEIR_COUNTS; c++)
        weir_buffer_printf(out, ",\"%s\":%" PRIu64, weir_count_infos[c].name, counts[c]);
    put_number(out, "open", (int64_t)weir_vitals_open(vitals));
    put_bool(out, "at_end", vitals->at_end);
    put_number(out, "size_hint", vitals->size_hint);
    put_number(out, "position", vitals->position);
    put_waits(out, vitals);
    weir_accounts_print_more(&self->plan->nodes[i], out);
    weir_buffer_put_byte(out, '}');
}

static void put_ledger(const weir_ledger *ledger, weir_buffer *out)
{
    weir_buffer_printf(out,
                       ",\"ledger\":{\"used\":%" PRIu64 ",\"peak\":%" PRIu64
                       ",\"limit\":%" PRIu64 ",\"errors\":%" PRIu64,
                       weir_ledger_used(ledger), weir_ledger_peak(ledger),
                       weir_ledger_limit(ledger), weir_ledger_release_errors(ledger));
    for (int i = 0; i < WEIR_ACCOUNTS; i++)
        weir_buffer_printf(out, ",\"%s\":%" PRIu64, weir_account_name((weir_account)i),
                           weir_ledger_account(ledger, (weir_account)i));
    weir_buffer_put_byte(out, '}');
}

static weir_err cmd_stats(context *self, const weir_request *request, weir_buffer *body,
                          weir_report *report)
{
    size_t only = self->plan->node_count;
    weir_err err = weir_context_check_args(request, 0, 1, report);
    if (!err && request->arg_count)
        err = weir_context_find_node(self, request->args[0], &only, report);
    if (err) return err;
    bool first = true;
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "name", self->config->name);
    put_number(body, "wall_ms", weir_clock_wall_ms());
    put_number(body, "up_ms", (weir_clock_now_us() - self->started_us) / 1000);
    put_number(body, "restarts", self->outcome->restarts);
    put_number(body, "control_refused", (int64_t)weir_control_refused(self->control));
    weir_buffer_put_text(body, ",\"nodes\":[");
    for (size_t i = 0; i < self->plan->node_count; i++) {
        if (only < self->plan->node_count && i != only) continue;
        if (!first) weir_buffer_put_byte(body, ',');
        put_stats(self, body, i);
        first = false;
    }
    weir_buffer_put_text(body, "],\"links\":");
    weir_accounts_print_links(self->plan, body);
    put_ledger(self->ledger, body);
    weir_buffer_put_byte(body, '}');
    return WEIR_OK;
}

static weir_err cmd_audit(context *self, const weir_request *request, weir_buffer *body,
                          weir_report *report)
{
    weir_outcome now = *self->outcome;
    now.outstanding = weir_context_outstanding(self);
    weir_accounts_print(&(weir_accounts){.plan = self->plan,
                                         .config = self->config,
                                         .vitals = self->vitals,
                                         .ledger = self->ledger,
                                         .outcome = &now,
                                         .ending = "running"},
                        body);
    return weir_context_check_args(request, 0, 0, report);
}

static weir_view view_of(const context *self)
{
    return (weir_view){self->config->name, self->plan, self->vitals, self->ledger,
                       self->phase};
}

static weir_err cmd_health(context *self, const weir_request *request, weir_buffer *body,
                           weir_report *report)
{
    const weir_view view = view_of(self);
    weir_health_put(&view, body);
    return weir_context_check_args(request, 0, 0, report);
}

static weir_err cmd_metrics(context *self, const weir_request *request, weir_buffer *body,
                            weir_report *report)
{
    const weir_view view = view_of(self);
    weir_buffer text = {0};
    weir_metrics_put(&view, &text);
    weir_buffer_put_byte(&text, 0);
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "text", (const char *)text.data);
    weir_buffer_put_byte(body, '}');
    weir_buffer_fini(&text);
    return weir_context_check_args(request, 0, 0, report);
}

static weir_err cmd_refusals(context *self, const weir_request *request,
                             weir_buffer *body, weir_report *report)
{
    weir_refusal list[WEIR_REFUSALS_MAX];
    size_t count =
        weir_realm_refusals(self->config->realm, list, sizeof list / sizeof *list);
    weir_buffer_put_text(body, "{\"refusals\":[");
    for (size_t i = 0; i < count; i++) {
        weir_buffer_put_text(body, i ? ",{" : "{");
        weir_json_put_member(body, "address", list[i].address);
        weir_json_put_member(body, "key", list[i].key);
        weir_json_put_member(body, "name", list[i].name);
        weir_json_put_member(body, "role", list[i].role);
        weir_json_put_member(body, "cause", list[i].cause);
        put_number(body, "wall_ms", list[i].wall_ms);
        put_number(body, "count", (int64_t)list[i].count);
        weir_buffer_put_byte(body, '}');
    }
    weir_buffer_put_text(body, "]}");
    return weir_context_check_args(request, 0, 0, report);
}

/* --- Steering ---------------------------------------------------------------------- */

static weir_err steer(context *self, const weir_request *request, bool paused,
                      weir_buffer *body, weir_report *report)
{
    size_t node;
    weir_err err = weir_context_check_args(request, 1, 1, report);
    if (!err) err = weir_context_find_node(self, request->args[0], &node, report);
    if (err) return err;
    member *m = &self->members[node];
    if (m->actor)
        err = weir_context_ask(self, node, ask_timeout_ms, paused ? "PAUSE" : "RESUME",
                               report);
    /*  It will do it when it comes back from where it is.                        */
    if (!err || err == WEIR_ETIMEOUT) m->paused = paused;
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "node", m->plan->name);
    weir_json_put_member(body, "state", state_of(self, node));
    weir_buffer_put_byte(body, '}');
    return err;
}

static weir_err cmd_pause(context *self, const weir_request *request, weir_buffer *body,
                          weir_report *report)
{
    return steer(self, request, true, body, report);
}

static weir_err cmd_resume(context *self, const weir_request *request, weir_buffer *body,
                           weir_report *report)
{
    return steer(self, request, false, body, report);
}

static weir_err cmd_drain(context *self, const weir_request *request, weir_buffer *body,
                          weir_report *report)
{
    weir_err err = weir_context_check_args(request, 0, 0, report);
    if (!err) weir_context_ask_drain(self, self->config->stop_delay_us);
    weir_buffer_put_text(body, "{\"draining\":true}");
    return err;
}

static weir_err cmd_stop(context *self, const weir_request *request, weir_buffer *body,
                         weir_report *report)
{
    weir_err err = weir_context_check_args(request, 0, 0, report);
    if (!err)
        weir_context_give_up(
            self, WEIR_END_AT_ONCE,
            &(weir_report){.err = WEIR_ESTOP, .text = "stopped by a command"});
    weir_buffer_put_text(body, "{\"stopping\":true}");
    return err;
}

/* --- Table ------------------------------------------------------------------------- */

const weir_context_command weir_context_commands[] = {
    {"version", "", cmd_version, "its version, name and process", false, false},
    {"list", "", cmd_list, "nodes with their state, and links", false, false},
    {"stats", "[NODE]", cmd_stats, "all counters, what each node waits for, and memory",
     false, false},
    {"audit", "", cmd_audit, "the sums of each node now, as in report.json", false,
     false},
    {"health", "", cmd_health, "whether it is healthy and ready, and if not, why", false,
     false},
    {"metrics", "", cmd_metrics, "all metrics in Prometheus' text format", false, false},
    {"why", "[NODE]", weir_context_cmd_why,
     "what holds what back, and since when: a sentence for each path", false, false},
    {"bus", "[NODE]", weir_context_cmd_bus,
     "everything about a bus, or all: store, shards, groups", false, false},
    {"refusals", "", cmd_refusals, "the peers that were refused last, and why", false,
     false},
    {"pause", "NODE", cmd_pause, "the node takes nothing more until it is resumed", true,
     false},
    {"resume", "NODE", cmd_resume, "ends the node's pause", true, false},
    {"scale", "NODE N|+N|-N", weir_context_cmd_scale,
     "the number of active shards of a bus; tells which it adds or drains", true, false},
    {"flush", "NODE [TIME]", weir_context_cmd_flush,
     "answers when all that was sent to the bus before is safe, or at the latest after "
     "TIME, by default its flush_timeout",
     false, true},
    {"pos-set", "GROUP POSITION", weir_context_cmd_pos_set,
     "moves a consumer group to start, end, a time or a cursor", true, false},
    {"pos-rm", "GROUP", weir_context_cmd_pos_rm,
     "forgets a consumer group that has no members", true, false},
    {"drain", "", cmd_drain, "sources stop reading, and it ends when all is safe", true,
     false},
    {"stop", "", cmd_stop, "ends at once; what is not safe will be read again", true,
     false},
    {"tap", "NODE[.OUTLET] COUNT SECONDS", weir_context_cmd_tap,
     "samples of the records that leave the node, a reply each", false, true},
    {"untap", "", weir_context_cmd_untap, "ends the taps of this client", false, false},
    {NULL, NULL, NULL, NULL, false, false},
};

static void run_request(void *arg, const weir_request *request)
{
    context *self = arg;
    weir_buffer body = {0};
    weir_report report = {0};
    weir_err err = WEIR_ENOTFOUND;
    const weir_context_command *c = weir_context_commands;
    while (c->name && !streq(c->name, request->command))
        c++;
    if (c->name)
        err = c->handler(self, request, &body, &report);
    else
        weir_report_set(&report, err, NULL, "there is no command '%.64s'",
                        request->command);
    if (c->changes)
        weir_log(WEIR_INFO, "control command=%s%s%s peer=%s result=%s", c->name,
                 request->arg_count ? " node=" : "",
                 request->arg_count ? request->args[0] : "",
                 request->peer ? request->peer : "local", weir_control_code(err));
    if (err || !c->streams)
        weir_control_reply(self->control, request, err, &body, &report);
    weir_buffer_fini(&body);
}

/* --- Life -------------------------------------------------------------------------- */

static weir_err listen_for_commands(context *self, const char *run_dir,
                                    weir_report *report)
{
    if (!run_dir && !self->config->control) return WEIR_OK;
    return weir_control_new(&self->control,
                            &(weir_control_config){.realm = self->config->realm,
                                                   .run_dir = run_dir,
                                                   .name = self->config->name,
                                                   .tcp = self->config->control,
                                                   .request = run_request,
                                                   .arg = self},
                            report);
}

static weir_err watch_ports(context *self, weir_report *report)
{
    const char *endpoint;
    for (int i = 0; self->control && (endpoint = weir_control_endpoint(self->control, i));
         i++) {
        int fd = weir_control_fd(self->control, i);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event))
            return weir_report_set(report, WEIR_ESYS, endpoint, "cannot watch: %s",
                                   strerror(errno));
        weir_log(WEIR_INFO, "control endpoint=%s", endpoint);
    }
    return WEIR_OK;
}

weir_err weir_context_open_control(context *self, weir_report *report)
{
    weir_report local = {0};
    weir_err err = listen_for_commands(self, self->config->run_dir, &local);
    if (err) {
        weir_log(WEIR_WARN, "no local control endpoint at=%s cause=\"%s\"", local.where,
                 local.text);
        err = listen_for_commands(self, NULL, report);
    }
    return err ? err : watch_ports(self, report);
}

void weir_context_close_control(context *self)
{
    weir_context_end_taps(self);
    weir_context_end_flushes(self);
    for (int i = 0; self->control && weir_control_endpoint(self->control, i); i++)
        epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, weir_control_fd(self->control, i), NULL);
    weir_control_destroy(&self->control);
}
