/*  help_nats: a nats-server of the test's own, and a proxy in front of it.

    The server listens on a free loopback port, has JetStream with a folder of its own,
    and is ended by its pid. Functions fail the test when something does not work.   */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* --- Server ------------------------------------------------------------------------ */

typedef struct {
    pid_t pid; // 0: it does not run
    uint16_t port;
    bool tls;
    char folder[64];     // its own; removed by help_nats_end
    char settings[4096]; // behind what every server has in its configuration
} help_nats;

bool help_nats_is_installed(void);

/*  Makes the folder and chooses a port. settings: text of nats-server's configuration. */
void help_nats_init(help_nats *self, const char *settings);
/*  Starts it, and waits until it greets.                                            */
void help_nats_start(help_nats *self);
void help_nats_signal(help_nats *self, int number); // SIGSTOP, SIGCONT
void help_nats_kill(help_nats *self);               // SIGKILL, and waits
void help_nats_end(help_nats *self);                // also when it does not run

uint16_t help_nats_free_port(void);

/*  Bytes of its greeting, give or take one or two: it has numbers of the connection. */
uint64_t help_nats_greeting(const help_nats *self);

/*  "nats://127.0.0.1:PORT"; credentials, when not NULL, before the host.             */
const char *help_nats_url(uint16_t port, const char *credentials, char url[128]);

/* --- Proxy ------------------------------------------------------------------------- */

/*  Connections to its port go on to the server's, both ways, by a thread of its own.  */
typedef struct nats_proxy nats_proxy;

nats_proxy *nats_proxy_new(uint16_t to);
void nats_proxy_destroy(nats_proxy **self_p);
uint16_t nats_proxy_port(const nats_proxy *self);

/*  Ends all connections at once. What was on its way is lost; with `late_ms` what clients
    have sent still reaches the server, so much later.                               */
void nats_proxy_cut(nats_proxy *self, int late_ms);
/*  Cuts each connection once so many more bytes have come from it; 0: none.           */
void nats_proxy_cut_after(nats_proxy *self, uint64_t bytes);
/*  Nothing passes any more, and connections stay open; until it is switched off.      */
void nats_proxy_hold(nats_proxy *self, bool on);
/*  Holds all once the connection with this number, from now on and from 1, has brought so
    many bytes of the server's; 0: never.                                            */
void nats_proxy_hold_after(nats_proxy *self, unsigned connection, uint64_t bytes);
/*  New connections are closed at once.                                              */
void nats_proxy_refuse(nats_proxy *self, bool on);
unsigned nats_proxy_connections(nats_proxy *self); // accepted so far
