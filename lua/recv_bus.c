#include "lua/recv_bus.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include "lua/bus_ask.h"
#include "lua/remote.h"
#include "lua/run.h"
#include "lua/stored.h"
#include "runtime/clock.h"
#include "runtime/delivery.h"
#include "runtime/files.h"
#include "runtime/once.h"

static const uint32_t page_records = 1000;
static const int64_t fetch_ms = 1000; // nothing for so long: the end, if not followed
static const int64_t answer_us = 15000000; // without an answer for so long: it is gone

typedef struct {
    bool json, follow;
    uint64_t left; // records that may still be written
    weir_bus_ask ask;
    weir_bus_join join;
    char member[64];
    weir_doc doc;
    weir_buffer output;
    uint64_t written;
    int64_t heard_us; // when it was last known that its shards can be read
    weir_once once;
    bool incomplete; // a shard could not be read
} recv_bus;

/* --- Asking ------------------------------------------------------------------------ */

static weir_err wait_for(recv_bus *self, uint64_t id, weir_bus_answer *answer,
                         weir_report *report)
{
    return weir_bus_ask_wait(&self->ask, id, answer_us, answer, report);
}

static weir_err refused(const recv_bus *self, const weir_bus_answer *answer,
                        weir_report *report)
{
    return weir_bus_ask_refused(&self->ask, answer, report);
}

static bool is(const weir_bus_answer *answer, const char *code)
{
    return weir_bus_answer_is(answer, code);
}

static weir_err join(recv_bus *self, weir_report *report)
{
    weir_bus_answer answer;
    weir_err err = weir_bus_ask_hello(&self->ask, report);
    if (err) return err;
    err = wait_for(self, weir_bus_client_join(self->ask.client, &self->join), &answer,
                   report);
    return err || is(&answer, "ok") ? err : refused(self, &answer, report);
}

/* --- Writing ----------------------------------------------------------------------- */

/*  A payload that no line can hold comes as a whole record.                         */
static void render(recv_bus *self, const weir_bus_record *r)
{
    if (!self->json && !weir_delivery_put_line(&self->output, &self->doc, &r->record))
        return;
    weir_put_stored(&self->output, self->ask.nonce,
                    &(weir_polled){.record = r->record,
                                   .shard = r->shard,
                                   .at = r->at,
                                   .epoch = r->epoch,
                                   .sequence = r->sequence});
}

static weir_err write_out(recv_bus *self, weir_report *report)
{
    if (weir_write_all(STDOUT_FILENO, self->output.data, self->output.size))
        return weir_report_set(report, WEIR_ESYS, "stdout", "cannot write: %s",
                               strerror(errno));
    self->output.size = 0;
    return WEIR_OK;
}

/*  Renders what came. *last is the place of the last one; false: none came.         */
static bool take_records(recv_bus *self, weir_bus_answer *answer, weir_bus_record *last)
{
    bool some = false;
    while (self->left && weir_bus_answer_next(answer, last) == WEIR_OK) {
        render(self, last);
        some = true;
        self->left--;
        self->written++;
    }
    return some;
}

/*  Only what stdout has taken is acknowledged; what went to another member meanwhile
    comes there, too.                                                                */
static weir_err acknowledge(recv_bus *self, const weir_bus_record *last,
                            weir_report *report)
{
    weir_bus_answer answer;
    uint64_t id = weir_bus_client_ack(self->ask.client, last->shard, last->at, true);
    weir_err err = wait_for(self, id, &answer, report);
    if (err || is(&answer, "ok") || is(&answer, "not_owner")) return err;
    if (is(&answer, "not_joined")) return join(self, report);
    return refused(self, &answer, report);
}

/* --- Loop -------------------------------------------------------------------------- */

/*  After a page without records. *some: there may be some all the same, since a shard has
    not answered yet. */
static weir_err look_for_trouble(recv_bus *self, const weir_bus_answer *answer,
                                 bool *some, weir_report *report)
{
    int64_t now_us = weir_clock_now_us();
    self->incomplete = *answer->trouble;
    if (*answer->trouble &&
        weir_once_says(&self->once, self->ask.target, answer->trouble))
        fprintf(stderr, "weir: %s: cannot read %s\n", self->ask.target, answer->trouble);
    *some = answer->is_late && !self->incomplete;
    if (!*some || self->follow) {
        self->heard_us = now_us;
        return WEIR_OK;
    }
    return now_us - self->heard_us < answer_us
               ? WEIR_OK
               : weir_report_set(report, WEIR_ETIMEOUT, self->ask.target,
                                 "its store does not answer");
}

/*  One fetch. *some: records came.                                                  */
static weir_err take_page(recv_bus *self, bool *some, weir_report *report)
{
    weir_bus_answer answer;
    weir_bus_record last;
    uint32_t limit = self->left < page_records ? (uint32_t)self->left : page_records;
    uint64_t id =
        weir_bus_client_fetch(self->ask.client, limit, WEIR_BUS_PAGE_MAX, fetch_ms);
    weir_err err = wait_for(self, id, &answer, report);
    *some = true;
    if (err) return err;
    if (is(&answer, "not_joined")) return join(self, report);
    if (!is(&answer, "ok")) return refused(self, &answer, report);
    *some = take_records(self, &answer, &last);
    if (!*some) return look_for_trouble(self, &answer, some, report);
    self->heard_us = weir_clock_now_us();
    err = write_out(self, report);
    return err ? err : acknowledge(self, &last, report);
}

static void leave(recv_bus *self)
{
    weir_bus_answer answer;
    weir_report report = {0};
    self->ask.until_us = -1;
    wait_for(self, weir_bus_client_leave(self->ask.client), &answer, &report);
}

static int run(recv_bus *self, weir_report *report)
{
    bool some = true;
    weir_err err = join(self, report);
    self->heard_us = weir_clock_now_us();
    while (!err && self->left && (some || self->follow))
        err = take_page(self, &some, report);
    if (err != WEIR_ETIMEOUT) leave(self);
    if (err && err != WEIR_ESTOP) return weir_remote_print(report);
    fprintf(stderr, "weir: %" PRIu64 " record%s written and acknowledged\n",
            self->written, self->written == 1 ? "" : "s");
    return self->incomplete ? WEIR_EXIT_FAILED : WEIR_EXIT_OK;
}

/* --- Command ----------------------------------------------------------------------- */

static weir_err read_flags(recv_bus *self, const weir_command_line *line,
                           weir_report *report)
{
    char *end = "";
    const char *limit = weir_line_flag(line, "--limit"),
               *group = weir_line_flag(line, "--group"),
               *duration = weir_line_flag(line, "--for");
    self->json = weir_line_flag(line, "--json");
    self->follow = weir_line_flag(line, "--follow");
    self->left = limit ? strtoull(limit, &end, 10) : UINT64_MAX;
    if (limit && (!self->left || *end || *limit < '0' || *limit > '9'))
        return weir_report_set(report, WEIR_EINVAL, "--limit",
                               "expected a number of records, at least 1");
    if (duration && weir_parse_time(&self->ask.until_us, duration, report)) {
        snprintf(report->where, sizeof report->where, "--for");
        return report->err;
    }
    self->ask.until_us = duration ? weir_clock_now_us() + self->ask.until_us : -1;
    self->join = weir_bus_join_defaults;
    self->join.group = group ? group : "recv";
    self->join.where = weir_line_flag(line, "--where");
    snprintf(self->member, sizeof self->member, "recv-%d", (int)getpid());
    self->join.member = self->member;
    return WEIR_OK;
}

int weir_recv_bus(const weir_command_line *line)
{
    weir_report report = {0};
    recv_bus self = {.ask = {.signal_fd = weir_run_open_signals()}};
    weir_err err = read_flags(&self, line, &report);
    if (!err) err = weir_bus_ask_open(&self.ask, line, &report);
    int code = err ? weir_remote_print(&report) : run(&self, &report);
    weir_bus_ask_close(&self.ask);
    weir_doc_fini(&self.doc);
    weir_buffer_fini(&self.output);
    close(self.ask.signal_fd);
    return code;
}
