/*  Commands for buses: how they are, their shards, flushing them, their groups. What a
    bus is only its class knows: it has a route, tells of itself, and has commands.   */
#include "runtime/clock.h"
#include "runtime/context_private.h"
#include "runtime/json.h"

static const int ask_timeout_ms = 1000; // the supervisor waits so long for a bus
static const int64_t timeout_max_us = 3600000000;

/* --- Asking ------------------------------------------------------------------------ */

static bool is_bus(const weir_plan_node *node)
{
    return node->class->route != NULL;
}

static weir_err find_bus(const context *self, const char *name, size_t *node,
                         weir_report *report)
{
    weir_err err = weir_context_find_node(self, name, node, report);
    if (err || is_bus(&self->plan->nodes[*node])) return err;
    return weir_report_set(report, WEIR_EINVAL, NULL, "%s is no bus, but a %s", name,
                           self->plan->nodes[*node].class->name);
}

/*  *reply has what follows the code and is the caller's in any case. The last arguments
    may be NULL. Errors with what the bus said.                                   */
static weir_err ask_bus(context *self, size_t node, zmsg_t **reply, weir_report *report,
                        const char *command, const char *first, const char *second)
{
    member *m = &self->members[node];
    *reply = NULL;
    if (!m->actor)
        return weir_report_set(report, WEIR_ECLOSED, NULL, "%s does not run now",
                               m->plan->name);
    m->patience.timeout_ms = ask_timeout_ms;
    weir_err err = weir_actor_ask_within(m->actor, &m->patience, reply, command, first,
                                         second, NULL);
    if (!err) return err;
    char *text = *reply ? zmsg_popstr(*reply) : NULL;
    weir_report_set(report, err, NULL, "%s: %s", m->plan->name,
                    err == WEIR_ETIMEOUT ? "it has not answered yet, and does it when it "
                                           "can"
                    : text               ? text
                                         : weir_err_name(err));
    zstr_free(&text);
    return err;
}

static uint64_t pop_number(zmsg_t *reply)
{
    char *text = zmsg_popstr(reply);
    uint64_t number = text ? strtoull(text, NULL, 10) : 0;
    zstr_free(&text);
    return number;
}

static void begin_answer(const context *self, size_t node, weir_buffer *body)
{
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "node", self->plan->nodes[node].name);
}

/* --- bus --------------------------------------------------------------------------- */

static void put_bus(const context *self, size_t node, weir_buffer *body)
{
    const weir_plan_node *n = &self->plan->nodes[node];
    if (body->data[body->size - 1] != '[') weir_buffer_put_byte(body, ',');
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "name", n->name);
    weir_json_put_member(body, "state",
                         weir_state_name((weir_state)self->vitals[node]->state));
    if (n->class->tell) n->class->tell(n->config, body);
    weir_buffer_put_byte(body, '}');
}

weir_err weir_context_cmd_bus(context *self, const weir_request *request,
                              weir_buffer *body, weir_report *report)
{
    size_t only = self->plan->node_count;
    weir_err err = weir_context_check_args(request, 0, 1, report);
    if (!err && request->arg_count) err = find_bus(self, request->args[0], &only, report);
    if (err) return err;
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "name", self->config->name);
    weir_buffer_put_text(body, ",\"buses\":[");
    for (size_t i = 0; i < self->plan->node_count; i++)
        if (i == only ||
            (only == self->plan->node_count && is_bus(&self->plan->nodes[i])))
            put_bus(self, i, body);
    weir_buffer_put_text(body, "]}");
    return WEIR_OK;
}

/* --- scale ------------------------------------------------------------------------- */

static void put_ids(weir_buffer *body, const char *name, zmsg_t *ids)
{
    weir_buffer_printf(body, ",\"%s\":[", name);
    for (size_t i = 0; ids && zmsg_size(ids); i++)
        weir_buffer_printf(body, "%s%" PRIu64, i ? "," : "", pop_number(ids));
    weir_buffer_put_byte(body, ']');
}

weir_err weir_context_cmd_scale(context *self, const weir_request *request,
                                weir_buffer *body, weir_report *report)
{
    size_t node;
    zmsg_t *reply = NULL;
    weir_err err = weir_context_check_args(request, 2, 2, report);
    if (!err) err = find_bus(self, request->args[0], &node, report);
    if (!err) err = ask_bus(self, node, &reply, report, "SCALE", request->args[1], NULL);
    if (!err) {
        uint64_t before = pop_number(reply), active = pop_number(reply);
        begin_answer(self, node, body);
        weir_buffer_printf(body, ",\"active\":%" PRIu64, active);
        put_ids(body, "added", active > before ? reply : NULL);
        put_ids(body, "drained", active < before ? reply : NULL);
        weir_buffer_put_byte(body, '}');
    }
    zmsg_destroy(&reply);
    return err;
}

/* --- Groups ------------------------------------------------------------------------ */

/*  Groups of one name may read several buses; that a position is for another of them is
    no failure, nor is that it has no such group. Other errors are.               */
typedef struct {
    weir_buffer *body;
    size_t done;
    weir_report first; // of what did not apply
} group_change;

static weir_err change_group(context *self, size_t node, const weir_request *request,
                             const char *command, group_change *change,
                             weir_report *report)
{
    zmsg_t *reply;
    weir_report own = {0};
    weir_err err =
        ask_bus(self, node, &reply, &own, command, request->args[0], request->args[1]);
    zmsg_destroy(&reply);
    if (!err) {
        if (change->done++) weir_buffer_put_byte(change->body, ',');
        weir_buffer_printf(change->body, "\"%s\"", self->plan->nodes[node].name);
    } else if (err != WEIR_ENOTFOUND && err != WEIR_EINVAL) {
        *report = own;
        return err;
    } else if (!change->first.err || change->first.err == WEIR_ENOTFOUND) {
        change->first = own;
    }
    return WEIR_OK;
}

static weir_err change_groups(context *self, const weir_request *request,
                              const char *command, weir_buffer *body, weir_report *report)
{
    group_change change = {.body = body};
    weir_err err = WEIR_OK;
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "group", request->args[0]);
    weir_buffer_put_text(body, ",\"buses\":[");
    for (size_t i = 0; i < self->plan->node_count && !err; i++)
        if (is_bus(&self->plan->nodes[i]))
            err = change_group(self, i, request, command, &change, report);
    weir_buffer_put_text(body, "]}");
    if (err || change.done) return err;
    if (!change.first.err)
        return weir_report_set(report, WEIR_ENOTFOUND, NULL, "there is no bus here");
    *report = change.first;
    return report->err;
}

weir_err weir_context_cmd_pos_set(context *self, const weir_request *request,
                                  weir_buffer *body, weir_report *report)
{
    weir_err err = weir_context_check_args(request, 2, 2, report);
    return err ? err : change_groups(self, request, "POSITION", body, report);
}

weir_err weir_context_cmd_pos_rm(context *self, const weir_request *request,
                                 weir_buffer *body, weir_report *report)
{
    weir_err err = weir_context_check_args(request, 1, 1, report);
    return err ? err : change_groups(self, request, "FORGET", body, report);
}

/* --- flush: asking ----------------------------------------------------------------- */

static weir_err read_timeout(const char *text, int64_t *timeout_us, weir_report *report)
{
    weir_err err = weir_parse_time(timeout_us, text, report);
    if (!err && *timeout_us >= 1000 && *timeout_us <= timeout_max_us) return WEIR_OK;
    return err ? err
               : weir_report_set(report, WEIR_EINVAL, NULL, "TIME is 1ms to 1h, not %s",
                                 text);
}

/*  There are as many places as streams.                                          */
static void note_flush(context *self, const weir_flush *flush)
{
    weir_flush *place = self->flushes;
    while (place->stream)
        place++;
    *place = *flush;
}

/*  Answered when all outlets have said that what they sent is safe.              */
weir_err weir_context_cmd_flush(context *self, const weir_request *request,
                                weir_buffer *body, weir_report *report)
{
    zmsg_t *reply = NULL;
    int64_t timeout_us = 0;
    (void)body;
    weir_flush flush = {.asked_us = weir_clock_now_us()};
    weir_err err = weir_context_check_args(request, 1, 2, report);
    if (!err) err = find_bus(self, request->args[0], &flush.node, report);
    if (!err && request->args[1])
        err = read_timeout(request->args[1], &timeout_us, report);
    if (!err) err = ask_bus(self, flush.node, &reply, report, "FLUSH", NULL, NULL);
    if (!err) {
        flush.round = pop_number(reply);
        uint64_t normal_us = pop_number(reply);
        flush.deadline_us =
            flush.asked_us + (timeout_us ? timeout_us : (int64_t)normal_us);
        flush.restarts = weir_count_get(self->vitals[flush.node], WEIR_COUNT_RESTARTS);
        flush.stream = weir_control_stream(self->control, request);
        if (!flush.stream)
            err = weir_report_set(report, WEIR_EFULL, NULL, "%d streams are open already",
                                  WEIR_CONTROL_STREAMS_MAX);
    }
    zmsg_destroy(&reply);
    if (err) return err;
    note_flush(self, &flush);
    weir_context_run_flushes(self);
    return WEIR_OK;
}

/* --- flush: answering -------------------------------------------------------------- */

static void put_missing(zmsg_t *reply, weir_buffer *ids, weir_buffer *list)
{
    char *shard = zmsg_popstr(reply);
    uint64_t unsafe = pop_number(reply), age_ms = pop_number(reply);
    char *error = zmsg_popstr(reply);
    weir_buffer_printf(ids, "%s%s", ids->size ? ", " : "", shard);
    weir_buffer_printf(list,
                       "%s{\"shard\":%s,\"unsafe\":%" PRIu64 ",\"oldest_ms\":%" PRIu64,
                       list->size ? "," : "", shard, unsafe, age_ms);
    weir_json_put_member(list, "error", error ? error : "");
    weir_buffer_put_byte(list, '}');
    zstr_free(&shard);
    zstr_free(&error);
}

/*  Names each shard that has records from before the flush.                      */
static void put_late(context *self, const weir_flush *flush, weir_buffer *body)
{
    char since[32], sentence[400];
    zmsg_t *reply;
    weir_report report = {0};
    weir_buffer ids = {0}, list = {0};
    snprintf(since, sizeof since, "%" PRId64, flush->asked_us);
    if (ask_bus(self, flush->node, &reply, &report, "UNSAFE", since, NULL) == WEIR_OK)
        while (zmsg_size(reply) >= 4)
            put_missing(reply, &ids, &list);
    weir_buffer_put_byte(&ids, 0);
    const char *names = (const char *)ids.data;
    const char *why = *report.text         ? report.text
                      : strchr(names, ',') ? "shards "
                      : *names             ? "shard "
                                           : "a node that writes to it has not handed "
                                             "on all";
    snprintf(sentence, sizeof sentence,
             "flush_timeout: not all is safe after %" PRId64 " ms: %.150s%.150s",
             (weir_clock_now_us() - flush->asked_us) / 1000, why, names);
    weir_json_put_member(body, "error", sentence);
    weir_buffer_printf(body, ",\"shards\":[%.*s]", (int)list.size,
                       list.size ? (char *)list.data : "");
    weir_buffer_fini(&ids);
    weir_buffer_fini(&list);
    zmsg_destroy(&reply);
}

static void answer_flush(context *self, weir_flush *flush, weir_err err)
{
    weir_buffer body = {0};
    begin_answer(self, flush->node, &body);
    if (err == WEIR_ETIMEOUT)
        put_late(self, flush, &body);
    else if (err)
        weir_json_put_member(&body, "error",
                             "the bus does not run any more as it was: ask again");
    else
        weir_buffer_printf(&body, ",\"ms\":%" PRId64,
                           (weir_clock_now_us() - flush->asked_us) / 1000);
    weir_buffer_put_byte(&body, '}');
    weir_stream_fail(&flush->stream, err, &body);
    weir_buffer_fini(&body);
}

/*  An outlet that has ended counts as done, so whether the bus is still the same one is
    looked at first.                                                              */
static void look_at_flush(context *self, weir_flush *flush)
{
    const member *m = &self->members[flush->node];
    weir_route *route = m->plan->class->route(m->plan->config);
    if (!m->actor || m->vitals.state == WEIR_STATE_FAILED ||
        weir_count_get(&m->vitals, WEIR_COUNT_RESTARTS) != flush->restarts)
        answer_flush(self, flush, WEIR_ECLOSED);
    else if (weir_route_is_flushed(route, flush->round))
        answer_flush(self, flush, WEIR_OK);
    else if (weir_clock_now_us() >= flush->deadline_us)
        answer_flush(self, flush, WEIR_ETIMEOUT);
}

void weir_context_run_flushes(context *self)
{
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX; i++)
        if (self->flushes[i].stream) look_at_flush(self, &self->flushes[i]);
}

int64_t weir_context_flush_deadline(const context *self)
{
    int64_t first = -1;
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX; i++)
        if (self->flushes[i].stream)
            first = weir_earlier(first, self->flushes[i].deadline_us);
    return first;
}

void weir_context_end_flushes(context *self)
{
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX; i++)
        if (self->flushes[i].stream) answer_flush(self, &self->flushes[i], WEIR_ECLOSED);
}
