/*  jetstream_port: what source.jetstream and sink.jetstream have in common: options, and
   a line whose keeper is the actor.

    A port is a base struct, whose line's mutex guards what the actor shares with the
    threads of libnats: they do their part in the line's functions, and wake the actor,
    whose turn calls weir_js_port_run.                                              */
#pragma once
#include "actors/jetstream_api.h"
#include "actors/jetstream_line.h"
#include "actors/jetstream_server.h"
#include "runtime/actor.h"

#define WEIR_JS_PORT_OPTIONS(config, member, window_help)                                \
    {"url",                                                                              \
     WEIR_OPTION_TEXT,                                                                   \
     offsetof(config, member.url),                                                       \
     0,                                                                                  \
     0,                                                                                  \
     NULL,                                                                               \
     true,                                                                               \
     "the servers: \"nats://USER:PASSWORD@HOST:PORT\" or \"tls://..\", further ones "    \
     "behind commas"},                                                                   \
        {"tls",                                                                          \
         WEIR_OPTION_BOOL,                                                               \
         offsetof(config, member.tls),                                                   \
         0,                                                                              \
         0,                                                                              \
         NULL,                                                                           \
         false,                                                                          \
         "as if each server said tls://"},                                               \
        {"plaintext",                                                                    \
         WEIR_OPTION_BOOL,                                                               \
         offsetof(config, member.plaintext),                                             \
         0,                                                                              \
         0,                                                                              \
         NULL,                                                                           \
         false,                                                                          \
         "lets a server that is not this host be without TLS"},                          \
        {"timeout",                                                                      \
         WEIR_OPTION_TIME,                                                               \
         offsetof(config, member.timeout_us),                                            \
         100e3,                                                                          \
         3600e6,                                                                         \
         NULL,                                                                           \
         false,                                                                          \
         "of a connect, or of one answer"},                                              \
        {"window", WEIR_OPTION_INT, offsetof(config, member.window), 1, 65536, NULL,     \
         false,    window_help},                                                         \
        {"retry.first",                                                                  \
         WEIR_OPTION_TIME,                                                               \
         offsetof(config, member.retry_first_us),                                        \
         1000,                                                                           \
         600e6,                                                                          \
         NULL,                                                                           \
         false,                                                                          \
         "wait after the first failure"},                                                \
    {                                                                                    \
        "retry.max", WEIR_OPTION_TIME, offsetof(config, member.retry_max_us), 1000,      \
            600e6, NULL, false, "longest wait"                                           \
    }

typedef struct {
    weir_js_line line;
    weir_actor *kit; // NULL: a probe's
    const weir_js_port_config *config;
    weir_nats_servers servers; // for their text
    char client[160];          // name of the connection
    int wake;                  // eventfd; -1: none
    atomic_bool woken;
    int64_t due_us;    // the line's; -1: none
    char trouble[256]; // what keeps it from its work; "": nothing. Under the mutex
    char told[256];    // of that, in the vitals; the actor's alone
} weir_js_port;

/*  For weir_class.check.                                                           */
weir_err weir_js_port_check(const weir_js_port_config *config, weir_report *report);

/*  Begins to connect with the first run. Zeroed before; in init. kit NULL: runs in the
    caller's thread, for weir_js_port_ask.                                          */
weir_err weir_js_port_open(weir_js_port *self, weir_actor *kit, const char *name,
                           const weir_js_line_class *class,
                           const weir_js_port_config *config, weir_report *report);
/*  Half-built ones too. Blocks for some 100 ms at most.                             */
void weir_js_port_close(weir_js_port *self);

/*  First in the actor's turn: the line does what is due. Without the mutex.         */
void weir_js_port_run(weir_js_port *self);
/*  Last in it: has the actor called when the line, or by due_us (-1: never) it itself,
   has something to do.                                                                */
void weir_js_port_sleep(weir_js_port *self, int64_t due_us);
/*  The actor's turn comes. Any thread.                                             */
void weir_js_port_wake(weir_js_port *self);

/*  How long to wait after the failed attempt, from 1.                              */
int64_t weir_js_port_wait_us(const weir_js_port *self, unsigned attempt);

/*  Notes, under the mutex, why nothing goes on, and that it does again; tells it to the
    vitals, in the actor's thread and without the mutex.                             */
void weir_js_port_trouble(weir_js_port *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void weir_js_port_calm(weir_js_port *self);
void weir_js_port_tell(weir_js_port *self, weir_wait_kind kind);

/* --- Questions before it runs ------------------------------------------------------ */

/*  For weir_class.probe: a port without an actor.                                   */
typedef struct {
    weir_js_port port;
    weir_js_response response; // of the last question
    int64_t deadline_us;
    bool answered, denied, fatal;
    char why[256]; // there is no answer
} weir_js_asker;

weir_err weir_js_asker_open(weir_js_asker *self, const weir_js_port_config *config,
                            int64_t timeout_us, weir_report *report);
void weir_js_asker_close(weir_js_asker *self);

/*  WEIR_OK: response is what was answered, which may be an error of JetStream's. Else the
    report says why there is none; WEIR_EREFUSED: we may not enter, or, when denied, not
   ask this.                                                                           */
weir_err weir_js_ask_now(weir_js_asker *self, const char *what, const char *stream,
                         const char *more, weir_report *report);
