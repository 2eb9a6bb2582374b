#include "lua/recv_bus.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include "actors/bus_client.h"
#include "lua/keys.h"
#include "lua/remote.h"
#include "lua/run.h"
#include "lua/stored.h"
#include "runtime/clock.h"
#include "runtime/delivery.h"
#include "runtime/files.h"
#include "runtime/rundir.h"

static const uint32_t page_records = 1000;
static const int64_t fetch_ms = 1000; // nothing for so long: the end, if not followed
static const int64_t answer_us = 15000000; // without an answer for so long: it is gone
static const int64_t hello_us = 3000000;   // without a first one, unless told

typedef struct {
    bool json, follow;
    uint64_t left;    // records that may still be written
    int64_t until_us; // monotonic; -1: no end
    int64_t hello_us;
    weir_realm *realm;
    weir_bus_client *client;
    weir_bus_join join;
    char endpoint[192], member[64], target[160];
    const char *server; // whose bus it is, elsewhere; NULL: it is here
    uint64_t nonce;
    int signal_fd;
    bool stopped; // by a signal, or by --for
    weir_doc doc;
    weir_buffer output;
    uint64_t written;
} recv_bus;

/* --- Asking ------------------------------------------------------------------------ */

static weir_err no_answer(const recv_bus *self, weir_report *report)
{
    if (!self->server)
        return weir_report_set(report, WEIR_ETIMEOUT, self->target,
                               "no answer: it has ended, or the bus stands still");
    return weir_report_set(report, WEIR_ETIMEOUT, self->target,
                           "no answer from %s: it has ended, the bus stands still, or it "
                           "refuses this certificate, which needs the role consume "
                           "(`weir keys doctor %s --server %s` tells)",
                           self->endpoint, self->endpoint, self->server);
}

static weir_err wait_so_long(recv_bus *self, int64_t wait_us, uint64_t id,
                             weir_bus_answer *answer, weir_report *report)
{
    int64_t until = weir_clock_now_us() + wait_us;
    int64_t next = weir_earlier(until, self->until_us);
    for (;;) {
        while (weir_bus_client_recv(self->client, answer))
            if (answer->id == id) return WEIR_OK;
        if (weir_clock_now_us() >= until) return no_answer(self, report);
        bool signalled = weir_bus_client_wait(self->client, next, self->signal_fd);
        bool over = self->until_us >= 0 && weir_clock_now_us() >= self->until_us;
        if (signalled || over) self->stopped = true;
        if (self->stopped) return WEIR_ESTOP;
    }
}

/*  Waits for the answer to this request; older ones are passed over. WEIR_ESTOP: told to
    end meanwhile.                                                                   */
static weir_err wait_for(recv_bus *self, uint64_t id, weir_bus_answer *answer,
                         weir_report *report)
{
    return wait_so_long(self, answer_us, id, answer, report);
}

static weir_err refused(const recv_bus *self, const weir_bus_answer *answer,
                        weir_report *report)
{
    bool misuse = strcmp(answer->code, "bad_where") == 0;
    return weir_report_set(report, misuse ? WEIR_EINVAL : WEIR_EREFUSED,
                           misuse ? "--where" : self->target, "%s", answer->text);
}

static bool is(const weir_bus_answer *answer, const char *code)
{
    return strcmp(answer->code, code) == 0;
}

static weir_err join(recv_bus *self, weir_report *report)
{
    weir_bus_answer answer;
    weir_err err = wait_so_long(self, self->hello_us, weir_bus_client_hello(self->client),
                                &answer, report);
    if (err) return err;
    self->nonce = answer.nonce;
    err =
        wait_for(self, weir_bus_client_join(self->client, &self->join), &answer, report);
    return err || is(&answer, "ok") ? err : refused(self, &answer, report);
}

/* --- Writing ----------------------------------------------------------------------- */

/*  A payload that no line can hold comes as a whole record.                         */
static void render(recv_bus *self, const weir_bus_record *r)
{
    if (!self->json && !weir_delivery_put_line(&self->output, &self->doc, &r->record))
        return;
    const weir_place place = {.nonce = self->nonce,
                              .epoch = r->epoch,
                              .sequence = r->sequence,
                              .offset = r->at.b ? r->at.b : r->at.a,
                              .shard = r->shard};
    weir_put_stored(&self->output, &place, &r->record);
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
    uint64_t id = weir_bus_client_ack(self->client, last->shard, last->at, true);
    weir_err err = wait_for(self, id, &answer, report);
    if (err || is(&answer, "ok") || is(&answer, "not_owner")) return err;
    if (is(&answer, "not_joined")) return join(self, report);
    return refused(self, &answer, report);
}

/* --- Loop -------------------------------------------------------------------------- */

/*  One fetch. *some: records came.                                                  */
static weir_err take_page(recv_bus *self, bool *some, weir_report *report)
{
    weir_bus_answer answer;
    weir_bus_record last;
    uint32_t limit = self->left < page_records ? (uint32_t)self->left : page_records;
    uint64_t id = weir_bus_client_fetch(self->client, limit, WEIR_BUS_PAGE_MAX, fetch_ms);
    weir_err err = wait_for(self, id, &answer, report);
    *some = true;
    if (err) return err;
    if (is(&answer, "not_joined")) return join(self, report);
    if (!is(&answer, "ok")) return refused(self, &answer, report);
    *some = take_records(self, &answer, &last);
    if (!*some) return WEIR_OK;
    err = write_out(self, report);
    return err ? err : acknowledge(self, &last, report);
}

static void leave(recv_bus *self)
{
    weir_bus_answer answer;
    weir_report report = {0};
    self->stopped = false;
    self->until_us = -1;
    wait_for(self, weir_bus_client_leave(self->client), &answer, &report);
}

static int run(recv_bus *self, weir_report *report)
{
    bool some = true;
    weir_err err = join(self, report);
    while (!err && self->left && (some || self->follow))
        err = take_page(self, &some, report);
    if (err != WEIR_ETIMEOUT) leave(self);
    if (err && err != WEIR_ESTOP) return weir_remote_print(report);
    fprintf(stderr, "weir: %" PRIu64 " record%s written and acknowledged\n",
            self->written, self->written == 1 ? "" : "s");
    return WEIR_EXIT_OK;
}

/* --- Command ----------------------------------------------------------------------- */

/*  Whether the node is a bus with a store its endpoint says.                        */
static weir_err find_here(recv_bus *self, const weir_target *target, weir_report *report)
{
    char folder[PATH_MAX], path[WEIR_IPC_PATH_MAX];
    weir_rundir_path(folder);
    weir_err err = weir_rundir_bus(folder, target->name, target->node, path, report);
    if (err) return err;
    snprintf(self->endpoint, sizeof self->endpoint, "ipc://%s", path);
    if (access(path, F_OK) == 0) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, self->target,
                           "it is no bus with a store, so nobody can take records from "
                           "it: store = disk { .. }");
}

static weir_err find_elsewhere(recv_bus *self, weir_remote *remote,
                               const weir_target *target, weir_report *report)
{
    char certificate[64];
    weir_value bus;
    weir_err err = weir_remote_bus(remote, target->node, &bus, report);
    if (!err)
        err = weir_remote_endpoint(remote, target, self->endpoint, certificate, report);
    if (err || strncmp(self->endpoint, "tcp://", 6) == 0) return err;
    return weir_report_set(report, WEIR_EINVAL, self->target,
                           "it listens for nobody elsewhere: give the bus listen = "
                           "\"tcp://*:PORT\"");
}

/*  The node is there. */
static weir_err find_endpoint(recv_bus *self, const weir_command_line *line,
                              weir_report *report)
{
    weir_remote *remote = NULL;
    weir_target target;
    weir_err err =
        weir_remote_open(&remote, line, weir_line_operand(line, 0), &target, report);
    if (!err && !*target.node)
        err = weir_report_set(report, WEIR_EINVAL, target.name, "which bus? Write %s/BUS",
                              target.name);
    snprintf(self->target, sizeof self->target, "%s/%s", target.name, target.node);
    if (!err)
        err = self->server ? find_elsewhere(self, remote, &target, report)
                           : find_here(self, &target, report);
    weir_remote_close(&remote);
    return err;
}

static weir_err read_flags(recv_bus *self, const weir_command_line *line,
                           weir_report *report)
{
    char *end = "";
    const char *limit = weir_line_flag(line, "--limit"),
               *group = weir_line_flag(line, "--group"),
               *duration = weir_line_flag(line, "--for"),
               *timeout = weir_line_flag(line, "--timeout");
    self->hello_us = hello_us;
    self->json = weir_line_flag(line, "--json");
    self->follow = weir_line_flag(line, "--follow");
    if (weir_line_flag(line, "--control"))
        self->server = weir_line_flag(line, "--server");
    self->left = limit ? strtoull(limit, &end, 10) : UINT64_MAX;
    if (limit && (!self->left || *end || *limit < '0' || *limit > '9'))
        return weir_report_set(report, WEIR_EINVAL, "--limit",
                               "expected a number of records, at least 1");
    if (duration && weir_parse_time(&self->until_us, duration, report)) {
        snprintf(report->where, sizeof report->where, "--for");
        return report->err;
    }
    if (timeout && weir_parse_time(&self->hello_us, timeout, report)) {
        snprintf(report->where, sizeof report->where, "--timeout");
        return report->err;
    }
    self->until_us = duration ? weir_clock_now_us() + self->until_us : -1;
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
    recv_bus self = {.signal_fd = weir_run_open_signals()};
    weir_err err = read_flags(&self, line, &report);
    if (!err) err = find_endpoint(&self, line, &report);
    if (!err)
        err = weir_realm_new(&self.realm, self.server ? weir_keys_folder(line) : NULL,
                             &report);
    const weir_endpoint endpoint = {
        .endpoint = self.endpoint, .server = self.server, .realm = self.realm};
    if (!err) err = weir_bus_client_new(&self.client, &endpoint, &report);
    int code = err ? weir_remote_print(&report) : run(&self, &report);
    weir_bus_client_destroy(&self.client);
    weir_realm_destroy(&self.realm);
    weir_doc_fini(&self.doc);
    weir_buffer_fini(&self.output);
    close(self.signal_fd);
    return code;
}
