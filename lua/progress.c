#include "lua/progress.h"
#include <stdlib.h>
#include <unistd.h>
#include "runtime/clock.h"
#include "runtime/log.h"

static const int64_t terminal_us = 500000, plain_us = 10000000;

const char *weir_progress_number(double value, char text[16])
{
    static const char units[] = {0, 'k', 'M', 'G', 'T'};
    int unit = 0;
    for (; value >= 1000 && unit < 4; unit++)
        value /= 1000;
    if (unit)
        snprintf(text, 16, "%.*f%c",
                 value < 10    ? 2
                 : value < 100 ? 1
                               : 0,
                 value, units[unit]);
    else
        snprintf(text, 16, "%.0f", value);
    return text;
}

static void put_rates(const weir_plan_node *node, const weir_vitals *vitals,
                      const double rate[2], weir_buffer *out)
{
    char a[16], b[16], c[16], d[16];
    uint64_t dead = weir_count_get(vitals, WEIR_COUNT_DEAD);
    weir_buffer_printf(
        out, "%-20.20s %-16s %8s/s %8sB/s %8s in flight %8s done", node->name,
        node->class->name, weir_progress_number(rate[0], a),
        weir_progress_number(rate[1], b),
        weir_progress_number((double)weir_count_get(vitals, WEIR_COUNT_RESIDENT), c),
        weir_progress_number((double)weir_count_get(vitals, WEIR_COUNT_DONE), d));
    if (dead) weir_buffer_printf(out, " %llu dead", (unsigned long long)dead);
}

/*  How far batch sources are, and how long it will take at the pace so far.   */
static void put_estimate(const weir_progress *self, weir_plan *plan,
                         weir_vitals *const *vitals, weir_buffer *out)
{
    double size = 0, position = 0;
    for (size_t i = 0; i < plan->node_count; i++) {
        if (!plan->nodes[i].class->source) continue;
        if (vitals[i]->size_hint <= 0) return;
        size += (double)vitals[i]->size_hint;
        position += (double)vitals[i]->position;
    }
    if (size <= 0 || position <= 0) return;
    double share = position > size ? 1 : position / size;
    double elapsed_s = (double)(weir_clock_now_us() - self->started_us) / 1e6;
    weir_buffer_printf(out, "%.0f %% safe, about %.0f s left", share * 100,
                       elapsed_s * (1 - share) / share);
}

static void draw(weir_progress *self, const weir_buffer *out, int lines)
{
    weir_buffer frame = {0};
    if (self->lines) weir_buffer_printf(&frame, "\033[%dA", self->lines);
    for (size_t i = 0; i < out->size; i++) {
        if (out->data[i] == '\n') weir_buffer_put_text(&frame, "\033[K");
        weir_buffer_put_byte(&frame, out->data[i]);
    }
    ssize_t n = write(STDERR_FILENO, frame.data, frame.size);
    (void)n;
    self->lines = lines;
    weir_buffer_fini(&frame);
}

static void tick(void *arg, weir_plan *plan, weir_vitals *const *vitals)
{
    weir_progress *self = arg;
    int64_t now = weir_clock_now_us();
    double elapsed_s = (double)(now - self->last_us) / 1e6;
    weir_buffer out = {0};
    bool moved = false, moved_before = self->moved;
    if (!self->records) {
        self->node_count = plan->node_count;
        self->records = calloc(plan->node_count, sizeof *self->records);
        self->bytes = calloc(plan->node_count, sizeof *self->bytes);
        if (!self->records || !self->bytes) abort();
    }
    for (size_t i = 0; i < plan->node_count; i++) {
        uint64_t records = weir_count_get(vitals[i], WEIR_COUNT_IN);
        uint64_t bytes = weir_count_get(vitals[i], WEIR_COUNT_BYTES_IN) +
                         weir_count_get(vitals[i], WEIR_COUNT_BYTES_OUT);
        double rate[2] = {(double)(records - self->records[i]) / elapsed_s,
                          (double)(bytes - self->bytes[i]) / elapsed_s};
        moved |= rate[0] > 0 || rate[1] > 0;
        self->records[i] = records;
        self->bytes[i] = bytes;
        put_rates(&plan->nodes[i], vitals[i], rate, &out);
        weir_buffer_put_byte(&out, '\n');
    }
    size_t before = out.size;
    put_estimate(self, plan, vitals, &out);
    bool estimated = out.size > before;
    if (estimated) weir_buffer_put_byte(&out, '\n');
    if (self->terminal) {
        draw(self, &out, (int)plan->node_count + estimated);
    } else if (moved || moved_before) {
        weir_buffer_put_byte(&out, 0);
        for (char *line = strtok((char *)out.data, "\n"); line; line = strtok(NULL, "\n"))
            weir_log(WEIR_INFO, "progress %s", line);
    }
    self->moved = moved;
    self->last_us = now;
    weir_buffer_fini(&out);
}

void weir_progress_attach(weir_progress *self, weir_context_config *config)
{
    self->terminal = isatty(STDERR_FILENO);
    self->started_us = self->last_us = weir_clock_now_us();
    config->tick = tick;
    config->tick_us = self->terminal ? terminal_us : plain_us;
    config->arg = self;
}

void weir_progress_finish(weir_progress *self)
{
    free(self->records);
    free(self->bytes);
}
