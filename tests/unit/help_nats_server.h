/*  help_nats_server: a nats-server that the tests of a program share, and a client of
    their own beside what they test.                                                */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <nats/nats.h>
#include <cmocka.h>
#include "help_nats.h"

static help_nats server;

static inline int start_server(void **state)
{
    (void)state;
    if (!help_nats_is_installed()) return 0;
    help_nats_init(&server, NULL);
    help_nats_start(&server);
    return 0;
}

static inline int end_server(void **state)
{
    (void)state;
    help_nats_end(&server);
    return 0;
}

/*  First in each test.                                                             */
#define NEEDS_SERVER()                                                                   \
    do {                                                                                 \
        (void)state;                                                                     \
        if (!help_nats_is_installed()) {                                                 \
            print_message("skipped: nats-server is not installed\n");                    \
            skip();                                                                      \
        }                                                                                \
    } while (0)

typedef struct {
    natsConnection *connection;
    jsCtx *js;
} client;

static inline client client_at(uint16_t port, const char *credentials)
{
    char url[128];
    client self = {0};
    assert_int_equal(
        natsConnection_ConnectTo(&self.connection, help_nats_url(port, credentials, url)),
        NATS_OK);
    assert_int_equal(natsConnection_JetStream(&self.js, self.connection, NULL), NATS_OK);
    return self;
}

static inline void client_end(client *self)
{
    jsCtx_Destroy(self->js);
    natsConnection_Destroy(self->connection);
}
