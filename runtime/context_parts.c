/*  The parts of a running topology: starting, stopping, and starting again.      */
#include "runtime/clock.h"
#include "runtime/context_private.h"
#include "runtime/handover.h"
#include "runtime/log.h"

/*  Before restart k: 100 ms * 2^k, at most 10 s.                               */
static const int64_t restart_first_us = 100000, restart_max_us = 10000000;
static const int stop_timeout_ms = 2000; // for a thread to leave

/* --- Asking ------------------------------------------------------------------------ */

weir_err weir_context_ask(context *self, size_t node, int timeout_ms, const char *command,
                          weir_report *report)
{
    member *m = &self->members[node];
    zmsg_t *reply = NULL;
    if (!m->actor)
        return weir_report_set(report, WEIR_ECLOSED, NULL, "%s does not run now",
                               m->plan->name);
    m->patience.timeout_ms = timeout_ms;
    weir_err err = weir_actor_ask_within(m->actor, &m->patience, &reply, command, NULL);
    char *text = reply ? zmsg_popstr(reply) : NULL;
    if (err == WEIR_ETIMEOUT)
        weir_report_set(report, err, NULL,
                        "%s has not answered yet: it is in a call that does not return",
                        m->plan->name);
    else if (err)
        weir_report_set(report, err, NULL, "%s: %s", m->plan->name,
                        text ? text : weir_err_name(err));
    zstr_free(&text);
    zmsg_destroy(&reply);
    return err;
}

/* --- Starting ---------------------------------------------------------------------- */

static void endpoint_of(const context *self, size_t node, char *text, size_t size)
{
    snprintf(text, size, "inproc://weir-%p-%u-%s", (const void *)self, self->generation,
             self->plan->nodes[node].name);
}

static weir_err create_actor(context *self, size_t i, weir_report *report)
{
    member *m = &self->members[i];
    char endpoint[256];
    m->report = (weir_report){0};
    atomic_store(&m->vitals.state, WEIR_STATE_NEW);
    m->vitals.at_end = false;
    m->patience.owed = 0;
    m->actor = zactor_new(m->plan->class->actor, m->plan->config);
    weir_handover_take(&m->report);
    if (!m->actor || m->report.err) {
        *report = m->report;
        if (!m->actor)
            weir_report_set(report, WEIR_ESYS, NULL, "no thread or socket could be made");
        return WEIR_EINVAL;
    }
    if (!weir_class_reads(m->plan->class) || m->plan->class->route) return WEIR_OK;
    endpoint_of(self, i, endpoint, sizeof endpoint);
    zmsg_t *reply = NULL;
    weir_err err = weir_actor_ask(m->actor, &reply, "LISTEN", endpoint, NULL);
    char *text = reply ? zmsg_popstr(reply) : NULL;
    if (err) weir_report_set(report, err, NULL, "%s", text ? text : "cannot bind");
    zstr_free(&text);
    zmsg_destroy(&reply);
    return err;
}

/*  A bus is reached by its route, any other node by the endpoint of its inlet.  */
static weir_err connect_link(context *self, const weir_plan_link *link,
                             weir_report *report)
{
    const weir_plan_node *to = &self->plan->nodes[link->to];
    char where[256];
    zmsg_t *reply = NULL;
    if (to->class->route)
        snprintf(where, sizeof where, "%p", (void *)to->class->route(to->config));
    else
        endpoint_of(self, link->to, where, sizeof where);
    weir_err err = weir_actor_ask(self->members[link->from].actor, &reply,
                                  to->class->route ? "ROUTE" : "CONNECT", link->outlet,
                                  where, to->name, NULL);
    char *text = reply ? zmsg_popstr(reply) : NULL;
    if (err)
        weir_report_set(report, err, NULL, "cannot link %s to %s: %s", link->outlet,
                        to->name, text ? text : weir_err_name(err));
    zstr_free(&text);
    zmsg_destroy(&reply);
    return err;
}

static weir_err connect_links(context *self, size_t part_number, weir_report *report)
{
    weir_err err = WEIR_OK;
    for (size_t l = 0; l < self->plan->link_count && !err; l++)
        if (self->plan->parts[self->plan->links[l].from] == part_number)
            err = connect_link(self, &self->plan->links[l], report);
    return err;
}

/*  Says whose failure it is.                                                  */
static void name_node(weir_report *report, const char *name)
{
    char text[sizeof report->text];
    snprintf(text, sizeof text, "%.60s: %.440s", name, report->text);
    memcpy(report->text, text, sizeof text);
}

/*  Readers first, so that nothing is sent to nobody; sources start last.      */
weir_err weir_context_start_part(context *self, size_t part_number, weir_report *report)
{
    weir_err err = WEIR_OK;
    self->generation++;
    for (size_t o = 0; o < self->plan->node_count && !err; o++) {
        size_t i = self->plan->order[o];
        if (self->plan->parts[i] != part_number) continue;
        err = create_actor(self, i, report);
        if (err) name_node(report, self->plan->nodes[i].name);
    }
    if (!err) err = connect_links(self, part_number, report);
    for (size_t o = 0; o < self->plan->node_count && !err; o++) {
        size_t i = self->plan->order[o];
        if (self->plan->parts[i] != part_number) continue;
        err = weir_actor_ask(self->members[i].actor, NULL, "START", NULL);
        if (!err && self->members[i].paused) weir_context_ask(self, i, 0, "PAUSE", NULL);
    }
    return err;
}

/*  Sources end first; what they have not committed is given up, not lost.     */
void weir_context_stop_part(context *self, size_t part_number)
{
    for (size_t o = self->plan->node_count; o-- > 0;) {
        size_t i = self->plan->order[o];
        member *m = &self->members[i];
        if (self->plan->parts[i] != part_number) continue;
        if (weir_actor_stop(&m->actor, &m->ended, stop_timeout_ms))
            self->outcome->stuck = true;
    }
}

/*  What a source had not made safe when its path stopped, and will not see again.  */
static void shed_residents(weir_vitals *vitals, const char *name)
{
    uint64_t records = weir_count_get(vitals, WEIR_COUNT_RESIDENT);
    weir_count_add(vitals, WEIR_COUNT_SHED, records);
    weir_count_add(vitals, WEIR_COUNT_RESIDENT, -records);
    weir_vitals_recall(vitals); // nothing is left of them to recall
    if (records) weir_log(WEIR_WARN, "given up node=%s records=%" PRIu64, name, records);
}

/*  Records of a part that starts again are not resident any more: they will come in
    a second time, unless their source cannot go back.                         */
static void forget_residents(context *self, size_t part_number)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        weir_vitals *vitals = &self->members[i].vitals;
        if (self->plan->parts[i] != part_number) continue;
        if (self->plan->nodes[i].class->forgets)
            shed_residents(vitals, self->plan->nodes[i].name);
        else
            weir_vitals_recall(vitals);
        weir_count_add(vitals, WEIR_COUNT_RESTARTS, 1);
    }
}

/* --- Failing ----------------------------------------------------------------------- */

static bool has_source_once(const context *self, size_t part_number)
{
    for (size_t i = 0; i < self->plan->node_count; i++)
        if (self->plan->parts[i] == part_number && self->plan->nodes[i].class->once)
            return true;
    return false;
}

/*  More than `intensity` restarts within `period` are too many.               */
static bool too_many_restarts(context *self)
{
    int64_t now = weir_clock_now_us();
    size_t within = 0;
    size_t kept = self->restart_count < WEIR_CONTEXT_RESTARTS_MAX
                      ? self->restart_count
                      : WEIR_CONTEXT_RESTARTS_MAX;
    for (size_t i = 0; i < kept; i++)
        within += now - self->restarts_us[i] < self->config->period_us;
    return (int64_t)within >= self->config->intensity;
}

static void schedule_restart(context *self, size_t part_number, const weir_report *reason)
{
    part *p = &self->parts[part_number];
    int64_t now = weir_clock_now_us();
    if (p->last_us && now - p->last_us > self->config->period_us) p->in_a_row = 0;
    int shift = p->in_a_row > 20 ? 20 : p->in_a_row;
    int64_t wait_us = restart_first_us << shift;
    if (wait_us > restart_max_us) wait_us = restart_max_us;
    p->at_us = now + wait_us;
    p->last_us = now;
    p->reason = *reason;
    p->in_a_row++;
    self->restarts_us[self->restart_count++ % WEIR_CONTEXT_RESTARTS_MAX] = now;
    self->outcome->restarts++;
    weir_systemd_say(&self->systemd, "STATUS=restarting: %s", reason->text);
    weir_log(WEIR_WARN, "restart cause=\"%s\" wait_ms=%d", reason->text,
             (int)(wait_us / 1000));
}

static void part_failed(context *self, size_t part_number, const weir_report *reason)
{
    weir_context_stop_part(self, part_number);
    if (self->draining || too_many_restarts(self) || has_source_once(self, part_number)) {
        weir_context_give_up(self, WEIR_END_FAILED, reason);
        return;
    }
    /*  A thread that did not end still uses what its successor would be given. */
    if (self->outcome->stuck) {
        weir_context_give_up(self, WEIR_END_FAILED, reason);
        return;
    }
    forget_residents(self, part_number);
    schedule_restart(self, part_number, reason);
}

void weir_context_look_for_failures(context *self)
{
    for (size_t i = 0; i < self->plan->node_count && !self->over; i++) {
        member *m = &self->members[i];
        if (!m->actor || m->vitals.state != WEIR_STATE_FAILED) continue;
        weir_report reason;
        weir_vitals_reason(&m->vitals, &reason);
        name_node(&reason, m->plan->name);
        part_failed(self, self->plan->parts[i], &reason);
    }
}

/*  What is under way must get through: a paused node goes on, too.              */
void weir_context_drain_part(context *self, size_t part_number)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        member *m = &self->members[i];
        if (self->plan->parts[i] != part_number || !m->actor) continue;
        if (m->paused) weir_context_ask(self, i, 0, "RESUME", NULL);
        m->paused = false;
        if (m->plan->class->source || m->plan->class->route)
            weir_context_ask(self, i, 0, "DRAIN", NULL);
    }
}

void weir_context_run_restarts(context *self)
{
    int64_t now = weir_clock_now_us();
    for (size_t p = 0; p < self->plan->node_count && !self->over; p++) {
        if (self->parts[p].at_us < 0 || self->parts[p].at_us > now) continue;
        weir_report report = {0};
        self->parts[p].at_us = -1;
        if (weir_context_start_part(self, p, &report))
            part_failed(self, p, &report);
        else if (self->draining)
            weir_context_drain_part(self, p);
        else
            weir_context_enter(self, WEIR_PHASE_RUNNING, "STATUS=running");
    }
}
