/*  help_nats: a nats-server of the test's own, on help_server.

    The server listens on a free loopback port, has JetStream with a folder of its own,
    and is ended by its pid. Functions fail the test when something does not work.   */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "tests/unit/help_proxy.h"
#include "tests/unit/help_server.h"

typedef struct {
    help_server *server; // NULL: it was not started yet
    uint16_t port;
    char folder[64];     // its own; removed by help_nats_end
    char settings[4096]; // behind what every server has in its configuration
} help_nats;

bool help_nats_is_installed(void);

/*  Makes the folder and chooses a port. settings: text of nats-server's configuration. */
void help_nats_init(help_nats *self, const char *settings);
/*  Starts it, and waits until it greets.                                            */
void help_nats_start(help_nats *self);
void help_nats_kill(help_nats *self); // SIGKILL, and waits
void help_nats_end(help_nats *self);  // also when it does not run

/*  Bytes of its greeting, give or take one or two: it has numbers of the connection. */
uint64_t help_nats_greeting(const help_nats *self);

/*  "nats://127.0.0.1:PORT"; credentials, when not NULL, before the host.             */
const char *help_nats_url(uint16_t port, const char *credentials, char url[128]);
