/*  Taps: clients that look at samples of the records that pass a node.           */
#include "runtime/clock.h"
#include "runtime/context_private.h"

static const uint64_t count_max = 1000000, seconds_max = 3600;

/* --- Opening ----------------------------------------------------------------------- */

static bool read_number(const char *text, uint64_t most, uint64_t *number)
{
    char *end;
    *number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0 && *number >= 1 && *number <= most;
}

static bool has_outlet(const weir_plan_node *node, const char *outlet)
{
    char **names;
    bool found = false;
    size_t count = weir_plan_outlets(node, &names);
    for (size_t i = 0; i < count; i++) {
        found |= streq(names[i], outlet);
        free(names[i]);
    }
    free(names);
    return found;
}

static weir_err read_target(const context *self, const char *target, weir_tapper *tapper,
                            weir_report *report)
{
    char name[64];
    size_t size = strcspn(target, ".");
    snprintf(name, sizeof name, "%.*s", (int)size, target);
    weir_err err = weir_context_find_node(self, name, &tapper->node, report);
    if (err || target[size] == 0) return err;
    const weir_plan_node *node = &self->plan->nodes[tapper->node];
    bool sink = weir_class_is_sink(node->class);
    if (sink || strlen(target) >= sizeof tapper->outlet || !has_outlet(node, target))
        return weir_report_set(report, WEIR_ENOTFOUND, NULL, "%s has no outlet '%.100s'",
                               name, target + size + 1);
    snprintf(tapper->outlet, sizeof tapper->outlet, "%s", target);
    return WEIR_OK;
}

/*  One sampler serves all who tap the node: with one outlet in mind it looks at that
    alone, so that a busy outlet beside it does not use up the share.             */
static void set_sampler(context *self, size_t node)
{
    const weir_tapper *first = NULL;
    const char *outlet = "";
    for (const weir_tapper *t = self->tappers;
         t < self->tappers + WEIR_CONTROL_STREAMS_MAX; t++) {
        if (!t->stream || t->node != node) continue;
        outlet = first && !streq(first->outlet, t->outlet) ? "" : t->outlet;
        first = t;
        if (!*outlet) break;
    }
    if (first)
        weir_tap_open(&self->vitals[node]->tap, outlet);
    else
        weir_tap_close(&self->vitals[node]->tap);
}

weir_err weir_context_cmd_tap(context *self, const weir_request *request,
                              weir_buffer *body, weir_report *report)
{
    (void)body;
    weir_tapper tapper = {.stream = NULL};
    uint64_t seconds;
    weir_err err = weir_context_check_args(request, 3, 3, report);
    if (!err) err = read_target(self, request->args[0], &tapper, report);
    if (err) return err;
    if (!read_number(request->args[1], count_max, &tapper.count) ||
        !read_number(request->args[2], seconds_max, &seconds))
        return weir_report_set(
            report, WEIR_EINVAL, NULL, "COUNT is 1 to %llu records, SECONDS 1 to %llu",
            (unsigned long long)count_max, (unsigned long long)seconds_max);
    tapper.stream = weir_control_stream(self->control, request);
    if (!tapper.stream)
        return weir_report_set(report, WEIR_EFULL, NULL, "%d streams are open already",
                               WEIR_CONTROL_STREAMS_MAX);
    int64_t now = weir_clock_now_us();
    tapper.until_us = now + (int64_t)seconds * 1000000;
    weir_tapper *place = self->tappers; // there are as many as streams
    while (place->stream)
        place++;
    *place = tapper;
    set_sampler(self, tapper.node);
    if (self->tap_at_us < 0) self->tap_at_us = now + 1000000 / WEIR_TAP_DRAINS;
    return WEIR_OK;
}

/* --- Ending ------------------------------------------------------------------------ */

static void end_tapper(context *self, weir_tapper *tapper)
{
    weir_buffer body = {0};
    weir_buffer_printf(&body, "{\"records\":%llu,\"skipped\":%llu}",
                       (unsigned long long)tapper->sent,
                       (unsigned long long)tapper->skipped);
    weir_stream_end(&tapper->stream, &body);
    weir_buffer_fini(&body);
    set_sampler(self, tapper->node);
}

weir_err weir_context_cmd_untap(context *self, const weir_request *request,
                                weir_buffer *body, weir_report *report)
{
    int ended = 0;
    weir_err err = weir_context_check_args(request, 0, 0, report);
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX && !err; i++) {
        weir_tapper *t = &self->tappers[i];
        if (!t->stream || !weir_stream_is_of(t->stream, request)) continue;
        end_tapper(self, t);
        ended++;
    }
    weir_buffer_printf(body, "{\"ended\":%d}", ended);
    return err;
}

void weir_context_end_taps(context *self)
{
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX; i++)
        if (self->tappers[i].stream) end_tapper(self, &self->tappers[i]);
}

/* --- Running ----------------------------------------------------------------------- */

/*  False: the client is gone or has all that it asked for.                      */
static bool serve(weir_tapper *tapper, const weir_buffer *lines, uint64_t skipped)
{
    const char *outlet, *line;
    tapper->skipped += skipped;
    for (size_t at = 0; weir_tap_next(lines, &at, &outlet, &line);) {
        if (*tapper->outlet && !streq(tapper->outlet, outlet)) continue;
        weir_err err = weir_stream_send(tapper->stream, line, strlen(line));
        if (err == WEIR_ECLOSED) return false;
        if (err == WEIR_EFULL)
            tapper->skipped++;
        else if (++tapper->sent == tapper->count)
            return false;
    }
    return true;
}

static void run_node(context *self, size_t node, weir_buffer *lines)
{
    uint64_t skipped;
    int64_t now = weir_clock_now_us();
    weir_tap_drain(&self->vitals[node]->tap, lines, &skipped);
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX; i++) {
        weir_tapper *t = &self->tappers[i];
        if (!t->stream || t->node != node) continue;
        bool on = serve(t, lines, skipped) && now < t->until_us;
        if (!on) end_tapper(self, t);
    }
}

void weir_context_run_taps(context *self)
{
    weir_buffer lines = {0};
    for (size_t i = 0; i < self->plan->node_count; i++)
        if (self->vitals[i]->tap.on) run_node(self, i, &lines);
    weir_buffer_fini(&lines);
    self->tap_at_us = -1;
    for (int i = 0; i < WEIR_CONTROL_STREAMS_MAX; i++)
        if (self->tappers[i].stream)
            self->tap_at_us = weir_clock_now_us() + 1000000 / WEIR_TAP_DRAINS;
}
