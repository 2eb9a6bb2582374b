/*  tap: `weir tap`: samples of the records that pass a node of a running weir.  */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "lua/ctl.h"
#include "lua/remote.h"
#include "lua/run.h"
#include "runtime/clock.h"

const weir_flag weir_tap_flags[] = {
    {"--limit", "N", "end after so many records"},
    {"--for", "TIME", "end after so long, such as 30s"},
    {"--json", NULL, "whole records: outlet, ts, key, source, peer, payload"},
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

/*  One request may ask for so much; a longer tap asks again.                  */
static const uint64_t count_max = 1000000;
static const int64_t seconds_max = 3600, look_us = 500000;

typedef struct {
    weir_remote *remote;
    const char *target; // NODE or NODE.OUTLET
    bool json;
    uint64_t left;    // records
    int64_t until_us; // < 0: no end
    uint64_t records, skipped;
    int signal_fd;
} tap;

/*  The payload alone: as it is where it is JSON or text, else what stands for it. */
static void print_payload(const weir_value *sample)
{
    weir_value value;
    weir_buffer out = {0};
    size_t size;
    if (weir_look(sample, "text", &value) && value.type == WEIR_STR) {
        weir_buffer scratch = {0};
        const char *text = weir_value_text(&value, &scratch, &size);
        weir_buffer_put(&out, text, size);
        weir_buffer_fini(&scratch);
    } else if (weir_look(sample, "payload", &value) ||
               weir_look(sample, "text", &value) ||
               weir_look(sample, "msgpack", &value)) {
        weir_json_put_value(&out, &value);
    }
    weir_buffer_put_byte(&out, '\n');
    fwrite(out.data, 1, out.size, stdout);
    weir_buffer_fini(&out);
}

static void print_sample(const tap *self, const weir_value *body)
{
    size_t size;
    const char *text = weir_remote_text(self->remote, &size);
    if (self->json)
        printf("%.*s\n", (int)size, text);
    else
        print_payload(body);
}

static int64_t seconds_left(const tap *self)
{
    if (self->until_us < 0) return seconds_max;
    int64_t left = (self->until_us - weir_clock_now_us() + 999999) / 1000000;
    return left < 1 ? 1 : left > seconds_max ? seconds_max : left;
}

/*  Waits for a sample, however long none comes. WEIR_ECLOSED: it has ended.   */
static weir_err next_answer(tap *self, bool *more, weir_value *body, weir_report *report)
{
    weir_err err;
    do {
        err =
            weir_remote_recv(self->remote, look_us, self->signal_fd, more, body, report);
        if (err == WEIR_ETIMEOUT && !weir_remote_is_there(self->remote))
            return WEIR_ECLOSED;
    } while (err == WEIR_ETIMEOUT);
    return err;
}

/*  One request and its answers. WEIR_ESTOP: a signal, or nobody reads what we print. */
static weir_err run_stream(tap *self, weir_report *report)
{
    char count[24], seconds[24];
    weir_value body;
    bool more = true;
    snprintf(count, sizeof count, "%" PRIu64,
             self->left < count_max ? self->left : count_max);
    snprintf(seconds, sizeof seconds, "%" PRId64, seconds_left(self));
    weir_remote_send(self->remote, "tap", self->target, count, seconds, NULL);
    while (more) {
        weir_err err = next_answer(self, &more, &body, report);
        if (err) return err;
        if (more) {
            print_sample(self, &body);
            self->records++;
            self->left--;
        } else {
            self->skipped += weir_look_number(&body, "skipped");
        }
        if (fflush(stdout)) return WEIR_ESTOP;
    }
    return WEIR_OK;
}

static bool is_over(const tap *self)
{
    return self->left == 0 ||
           (self->until_us >= 0 && weir_clock_now_us() >= self->until_us);
}

static int run_tap(tap *self)
{
    weir_report report = {0};
    weir_value body;
    weir_err err = WEIR_OK;
    while (!err && !is_over(self))
        err = run_stream(self, &report);
    if (err == WEIR_ESTOP) weir_remote_ask(self->remote, &body, &report, "untap", NULL);
    if (err == WEIR_ECLOSED && report.err != WEIR_ECLOSED)
        fprintf(stderr, "weir: it has ended\n");
    else if (err && err != WEIR_ESTOP)
        return weir_remote_print(&report);
    fprintf(stderr, "weir: %" PRIu64 " record%s shown", self->records,
            self->records == 1 ? "" : "s");
    if (self->skipped) fprintf(stderr, ", %" PRIu64 " others passed", self->skipped);
    fprintf(stderr, "\n");
    return WEIR_EXIT_OK;
}

static weir_err read_limits(tap *self, const weir_command_line *line, weir_report *report)
{
    const char *limit = weir_line_flag(line, "--limit");
    const char *duration = weir_line_flag(line, "--for");
    char *end = "";
    int64_t us = 0;
    self->left = limit ? strtoull(limit, &end, 10) : UINT64_MAX;
    if (self->left == 0 || *end || (limit && (*limit < '0' || *limit > '9')))
        return weir_report_set(report, WEIR_EINVAL, "--limit",
                               "expected a number of records, at least 1");
    if (duration && weir_parse_time(&us, duration, report)) {
        snprintf(report->where, sizeof report->where, "--for");
        return report->err;
    }
    self->until_us = duration ? weir_clock_now_us() + us : -1;
    return WEIR_OK;
}

int weir_cmd_tap(const weir_command_line *line)
{
    weir_target target;
    weir_report report = {0};
    tap self = {.json = weir_line_flag(line, "--json"),
                .signal_fd = weir_run_open_signals()};
    weir_err err = read_limits(&self, line, &report);
    if (!err)
        err = weir_remote_open(&self.remote, line, weir_line_operand(line, 0), &target,
                               &report);
    if (!err && !*target.node)
        err = weir_report_set(&report, WEIR_EINVAL, target.name,
                              "which node? Write %s/NODE; `weir ctl list %s` tells them",
                              target.name, target.name);
    self.target = *target.outlet ? target.outlet : target.node;
    int code = err ? weir_remote_print(&report) : run_tap(&self);
    weir_remote_close(&self.remote);
    close(self.signal_fd);
    return code;
}
