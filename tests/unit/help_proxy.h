/*  help_proxy: stands between a client and its server, on a port of the loopback, and
    cuts or holds up what goes through. One thread; all functions from any other. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct help_proxy help_proxy;

/*  To a unix socket (path), or to a port of the loopback (path NULL).              */
help_proxy *help_proxy_start(const char *path, uint16_t port);
void help_proxy_destroy(help_proxy **self_p);
uint16_t help_proxy_port(const help_proxy *self);

/*  Cuts all connections when so many bytes more have gone up to the server, or down to
    the client, over all of them; the last part goes through up to that byte. 0: at once.
    The count of cuts grows then, and another may be ordered.                       */
void help_proxy_cut_up(help_proxy *self, size_t bytes);
void help_proxy_cut_down(help_proxy *self, size_t bytes);
unsigned help_proxy_cuts(help_proxy *self);

/*  Resets all connections, and returns when that is done. What was on its way is lost;
   with `late_ms` what clients have sent still reaches the server, so much later. */
void help_proxy_reset(help_proxy *self, int late_ms);

/*  Resets each connection once so many more bytes have come from its client; 0: none. */
void help_proxy_reset_each(help_proxy *self, uint64_t bytes);

/*  Looks at each part that goes up, or comes down, in the proxy's thread, and may change
    its bytes. NULL: nobody does. */
typedef void(help_proxy_edit)(void *arg, char *bytes, size_t size);
void help_proxy_edit_up(help_proxy *self, help_proxy_edit *edit, void *arg);
void help_proxy_edit_down(help_proxy *self, help_proxy_edit *edit, void *arg);

/*  Held, nothing goes through and nobody is let in; connections stay.              */
void help_proxy_hold(help_proxy *self, bool on);

/*  Held, nothing comes down to the clients; what they send goes through.            */
void help_proxy_hold_down(help_proxy *self, bool on);

/*  Holds all once the connection with this number, from now on and from 1, has brought so
    many bytes of the server's; 0: never.                                            */
void help_proxy_hold_after(help_proxy *self, unsigned connection, uint64_t bytes);

/*  New connections are ended at once.                                              */
void help_proxy_refuse(help_proxy *self, bool on);

unsigned help_proxy_connections(help_proxy *self); // that were ever accepted
