#include "lua/bus_ask.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "lua/bus.h"
#include "lua/keys.h"
#include "runtime/clock.h"
#include "runtime/rundir.h"

static const int64_t hello_us = 3000000; // without a first answer, unless told

/* --- Asking ------------------------------------------------------------------------ */

static weir_err no_answer(const weir_bus_ask *self, weir_report *report)
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

weir_err weir_bus_ask_wait(weir_bus_ask *self, uint64_t id, int64_t wait_us,
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
        if (signalled || over) return WEIR_ESTOP;
    }
}

weir_err weir_bus_ask_hello(weir_bus_ask *self, weir_report *report)
{
    weir_bus_answer answer;
    weir_err err = weir_bus_ask_wait(self, weir_bus_client_hello(self->client),
                                     self->hello_us, &answer, report);
    if (!err && !weir_bus_answer_is(&answer, "ok"))
        err = weir_bus_ask_refused(self, &answer, report);
    if (!err) self->nonce = answer.nonce;
    return err;
}

bool weir_bus_answer_is(const weir_bus_answer *answer, const char *code)
{
    return strcmp(answer->code, code) == 0;
}

weir_err weir_bus_ask_refused(const weir_bus_ask *self, const weir_bus_answer *answer,
                              weir_report *report)
{
    bool misuse = weir_bus_answer_is(answer, "bad_where");
    return weir_report_set(report, misuse ? WEIR_EINVAL : WEIR_EREFUSED,
                           misuse ? "--where" : self->target, "%s", answer->text);
}

/* --- Where it is ------------------------------------------------------------------- */

/*  Whether the node is a bus with a store its endpoint says.                         */
static weir_err find_here(weir_bus_ask *self, const weir_target *target,
                          weir_report *report)
{
    char folder[PATH_MAX], path[WEIR_IPC_PATH_MAX];
    weir_rundir_path(folder);
    weir_err err = weir_rundir_bus(folder, target->name, target->node, path, report);
    if (err) return err;
    snprintf(self->endpoint, sizeof self->endpoint, "ipc://%s", path);
    if (access(path, F_OK) == 0) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, self->target,
                           "it is no bus with a store, so there is nothing to read: "
                           "store = disk { .. }, redis { .. } or jetstream { .. }");
}

static weir_err find_elsewhere(weir_bus_ask *self, weir_remote *remote,
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

static weir_err find_named(weir_bus_ask *self, const weir_command_line *line,
                           weir_report *report)
{
    weir_remote *remote = NULL;
    weir_target target;
    weir_err err = weir_bus_open_remote(&remote, line, &target, report);
    snprintf(self->target, sizeof self->target, "%s/%s", target.name, target.node);
    if (!err)
        err = self->server ? find_elsewhere(self, remote, &target, report)
                           : find_here(self, &target, report);
    weir_remote_close(&remote);
    return err;
}

static weir_err take_endpoint(weir_bus_ask *self, const weir_command_line *line,
                              const char *operand, weir_report *report)
{
    bool tcp = strncmp(operand, "tcp://", 6) == 0;
    snprintf(self->endpoint, sizeof self->endpoint, "%s", operand);
    snprintf(self->target, sizeof self->target, "%s", operand);
    if (weir_line_flag(line, "--control"))
        return weir_report_set(report, WEIR_EINVAL, "--control",
                               "only of a bus by its name: NAME/BUS");
    self->server = tcp && !weir_line_flag(line, "--plaintext")
                       ? weir_line_flag(line, "--server")
                       : NULL;
    if (!tcp || self->server || weir_line_flag(line, "--plaintext")) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, self->endpoint,
                           "whose certificate must the other side have? Name it by "
                           "--server, or say --plaintext");
}

/* --- Life -------------------------------------------------------------------------- */

static weir_err read_timeout(weir_bus_ask *self, const weir_command_line *line,
                             weir_report *report)
{
    const char *timeout = weir_line_flag(line, "--timeout");
    self->hello_us = hello_us;
    weir_err err = timeout ? weir_parse_time(&self->hello_us, timeout, report) : WEIR_OK;
    if (err) snprintf(report->where, sizeof report->where, "--timeout");
    return err;
}

static weir_err find(weir_bus_ask *self, const weir_command_line *line,
                     weir_report *report)
{
    const char *operand = weir_line_operand(line, 0);
    if (strstr(operand, "://")) return take_endpoint(self, line, operand, report);
    if (weir_line_flag(line, "--control"))
        self->server = weir_line_flag(line, "--server");
    return find_named(self, line, report);
}

static weir_err connect_to(weir_bus_ask *self, const weir_command_line *line,
                           weir_report *report)
{
    weir_err err = weir_realm_new(&self->realm,
                                  self->server ? weir_keys_folder(line) : NULL, report);
    const weir_endpoint endpoint = {.endpoint = self->endpoint,
                                    .server = self->server,
                                    .plaintext = weir_line_flag(line, "--plaintext"),
                                    .realm = self->realm};
    return err ? err : weir_bus_client_new(&self->client, &endpoint, report);
}

weir_err weir_bus_ask_open(weir_bus_ask *self, const weir_command_line *line,
                           weir_report *report)
{
    weir_err err = read_timeout(self, line, report);
    if (!err) err = find(self, line, report);
    return err ? err : connect_to(self, line, report);
}

void weir_bus_ask_close(weir_bus_ask *self)
{
    weir_bus_client_destroy(&self->client);
    weir_realm_destroy(&self->realm);
}
