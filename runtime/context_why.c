/*  `why`: takes the snapshot that why.h reasons about.                           */
#include "runtime/clock.h"
#include "runtime/context_private.h"
#include "runtime/json.h"
#include "runtime/why.h"

typedef struct {
    weir_why_node *nodes;
    weir_why_part *parts;
    weir_report *reasons; // of the nodes
} snapshot;

static void take_node(context *self, size_t i, snapshot *s)
{
    weir_vitals *vitals = self->vitals[i];
    weir_why_node *n = &s->nodes[i];
    *n = (weir_why_node){.state = (weir_state)vitals->state,
                         .at_end = vitals->at_end,
                         .paused = self->members[i].paused,
                         .open = weir_vitals_open(vitals),
                         .step_us = weir_vitals_step_us(vitals),
                         .reason = s->reasons[i].text};
    if (n->state == WEIR_STATE_FAILED) weir_vitals_reason(vitals, &s->reasons[i]);
    n->wait_count = weir_vitals_waits(vitals, n->waits);
}

static void take_snapshot(context *self, snapshot *s)
{
    size_t count = self->plan->node_count;
    s->nodes = calloc(count, sizeof *s->nodes);
    s->parts = calloc(count, sizeof *s->parts);
    s->reasons = calloc(count, sizeof *s->reasons);
    if (!s->nodes || !s->parts || !s->reasons) abort();
    for (size_t i = 0; i < count; i++) {
        const part *p = &self->parts[i];
        s->parts[i] = (weir_why_part){p->at_us, p->last_us, p->reason.text};
        take_node(self, i, s);
    }
}

static void free_snapshot(snapshot *s)
{
    free(s->nodes);
    free(s->parts);
    free(s->reasons);
}

typedef struct {
    const context *self;
    weir_buffer *out;
} printer;

static void print_path(void *arg, const weir_why_path *path)
{
    const printer *p = arg;
    const weir_plan_node *nodes = p->self->plan->nodes;
    weir_buffer *out = p->out;
    if (out->data[out->size - 1] != '[') weir_buffer_put_byte(out, ',');
    weir_buffer_put_text(out, "{\"path\":[");
    for (size_t i = 0; i < path->count; i++)
        weir_buffer_printf(out, "%s\"%s\"", i ? "," : "", nodes[path->nodes[i]].name);
    weir_buffer_put_byte(out, ']');
    weir_json_put_member(out, "verdict", weir_why_word(path->verdict));
    weir_json_put_member(out, "node", nodes[path->culprit].name);
    if (path->since_us >= 0)
        weir_buffer_printf(out, ",\"since_ms\":%" PRId64, path->since_us / 1000);
    weir_json_put_member(out, "why", path->text);
    weir_buffer_put_byte(out, '}');
}

weir_err weir_context_cmd_why(context *self, const weir_request *request,
                              weir_buffer *body, weir_report *report)
{
    size_t only = self->plan->node_count;
    weir_err err = weir_context_check_args(request, 0, 1, report);
    if (!err && request->arg_count)
        err = weir_context_find_node(self, request->args[0], &only, report);
    if (err) return err;
    snapshot s;
    take_snapshot(self, &s);
    weir_why why = {.plan = self->plan,
                    .nodes = s.nodes,
                    .parts = s.parts,
                    .now_us = weir_clock_now_us()};
    weir_buffer_put_byte(body, '{');
    weir_json_put_member(body, "name", self->config->name);
    weir_buffer_put_text(body, ",\"paths\":[");
    bool all = weir_why_paths(&why, only, print_path, &(printer){self, body});
    weir_buffer_printf(body, "],\"complete\":%s,\"draining\":%s}", all ? "true" : "false",
                       self->draining ? "true" : "false");
    free_snapshot(&s);
    return WEIR_OK;
}
