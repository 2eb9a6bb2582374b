/*  bus_ask: the endpoint of a bus (docs/wire.md), as commands find it and ask it: of a
    weir that runs here, of one elsewhere (--control), or by its address. One thread;
    calls block until there is an answer, or a signal ends them.                      */
#pragma once
#include "actors/bus_client.h"
#include "lua/command.h"

typedef struct {
    weir_bus_client *client;
    weir_realm *realm;
    char endpoint[192];
    char target[192];   // NAME/BUS or the endpoint, for complaints
    const char *server; // the name in its certificate; NULL: it has none
    int64_t hello_us;   // how long to wait for a first answer: --timeout
    int64_t until_us;   // monotonic: then waiting ends as by a signal; -1: never
    int signal_fd;      // lent
    uint64_t nonce;     // of the bus, once it has said hello
} weir_bus_ask;

/*  Finds the bus that the first operand means, NAME/BUS or an endpoint, and connects.
    until_us and signal_fd are set. Errors with a report. To be ended in any case.    */
weir_err weir_bus_ask_open(weir_bus_ask *self, const weir_command_line *line,
                           weir_report *report);
void weir_bus_ask_close(weir_bus_ask *self);

/*  Asks who is there, and sets the nonce. Errors as below.                           */
weir_err weir_bus_ask_hello(weir_bus_ask *self, weir_report *report);

/*  Waits for the answer to this request, at most so long; older answers are passed over.
    WEIR_ESTOP: told to end meanwhile, by a signal or by until_us. WEIR_ETIMEOUT: there is
    none, with a report.                                                              */
weir_err weir_bus_ask_wait(weir_bus_ask *self, uint64_t id, int64_t wait_us,
                           weir_bus_answer *answer, weir_report *report);

bool weir_bus_answer_is(const weir_bus_answer *answer, const char *code);

/*  The report of an answer that is not ok: WEIR_EINVAL when the command line was wrong,
    else WEIR_EREFUSED.                                                               */
weir_err weir_bus_ask_refused(const weir_bus_ask *self, const weir_bus_answer *answer,
                              weir_report *report);
