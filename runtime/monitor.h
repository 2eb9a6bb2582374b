/*  monitor: metrics and health over HTTP, for Prometheus, orchestrators and people.

        GET /metrics   Prometheus' text format
        GET /health    200 when each node is ok, else 503; JSON with the reasons
        GET /ready     200 when ready for records, else 503; the same JSON
        GET /          what there is

    HEAD as well; anything else is 404 or 405. It has one thread of its own, serves one
    request a connection, takes no body, and cuts who is slower than 10 s. At most 32
    connections, each with bounded memory.                                     */
#pragma once
#include "runtime/health.h"
#include "runtime/options.h"

typedef struct {
    char *listen;   // "127.0.0.1:9464", "[::1]:9464"; port 0: any free one
    bool plaintext; // without TLS beyond this host, too
    char *cert;     // files in PEM; both or none
    char *key;
} weir_monitor_config;

extern const weir_monitor_config weir_monitor_defaults;
extern const weir_option weir_monitor_options[]; // NULL-name-ended

typedef struct weir_monitor weir_monitor;

/*  What can be said without starting it: whether the address is one, and safe. The
    report's where is the option at fault.                                     */
weir_err weir_monitor_check(const weir_monitor_config *config, weir_report *report);

/*  Listens, and logs where. The config is copied; what the view lends must be there until
    destroy. Errors with a report: a bad config, an address in use, bad certificates. */
weir_err weir_monitor_new(weir_monitor **self_p, const weir_monitor_config *config,
                          const weir_view *view, weir_report *report);

/*  Any thread.                                                                */
void weir_monitor_set_phase(weir_monitor *self, weir_phase phase);

/*  The address that it listens at: "http://127.0.0.1:9464".                    */
const char *weir_monitor_address(const weir_monitor *self);

/*  Blocks until its thread has ended; requests under way are cut.             */
void weir_monitor_destroy(weir_monitor **self_p);
