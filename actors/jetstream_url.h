/*  jetstream_url: the servers that a url names, and the url without its secrets.

        nats://[user[:password]@]host[:port][,...]      tls:// asks for TLS

    A user without a password is a token, as everywhere with NATS. User, password and
    token may have %xx. A further server without a scheme has that of the one before, and
    its user. Pure; any thread.                                                     */
#pragma once
#include "runtime/err.h"

typedef struct {
    char *host, *port;             // owned; an IPv6 address without its brackets
    char *user, *password, *token; // owned; NULL: none
    bool tls;
    bool is_loopback; // by its name: "localhost", 127.0.0.0/8, ::1
} weir_nats_server;

typedef struct {
    weir_nats_server *items; // owned
    size_t count;
    char *text; // owned: the url with *** for each password and token
} weir_nats_servers;

/*  Zeroed before. WEIR_EINVAL with a report without secrets; then it is empty.      */
weir_err weir_nats_servers_parse(weir_nats_servers *self, const char *url,
                                 weir_report *report);
void weir_nats_servers_fini(weir_nats_servers *self);

/*  Each of them is this host, or has TLS, or plaintext lets it be without; else
    WEIR_EINVAL with a report. tls: as if each said tls://.                         */
weir_err weir_nats_servers_check(const weir_nats_servers *self, bool tls, bool plaintext,
                                 weir_report *report);

/*  An address that is this machine's own, in digits.                               */
bool weir_nats_is_loopback(const char *address);
