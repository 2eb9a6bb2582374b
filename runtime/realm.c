#include "runtime/realm.h"
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

struct weir_realm {
    void *context; // libzmq's
};

static const struct {
    const char *name;
    weir_role role;
} roles[] = {
    {"produce", WEIR_ROLE_PRODUCE},
    {"consume", WEIR_ROLE_CONSUME},
    {"peer", WEIR_ROLE_PEER},
    {"control", WEIR_ROLE_CONTROL},
};

unsigned weir_role_of(const char *name)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(roles[i].name, name) == 0) return roles[i].role;
    return 0;
}

const char *weir_role_name(weir_role role)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (roles[i].role == role) return roles[i].name;
    return NULL;
}

weir_err weir_realm_new(weir_realm **self_p, const char *keys, weir_report *report)
{
    if (keys)
        return weir_report_set(report, WEIR_EREFUSED, keys, "keys cannot be read yet");
    weir_realm *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->context = zmq_ctx_new();
    if (!self->context) abort();
    zmq_ctx_set(self->context, ZMQ_MAX_SOCKETS,
                zmq_ctx_get(self->context, ZMQ_SOCKET_LIMIT));
    *self_p = self;
    return WEIR_OK;
}

void weir_realm_destroy(weir_realm **self_p)
{
    weir_realm *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    zmq_ctx_term(self->context);
    free(self);
}

void *weir_realm_context(const weir_realm *self)
{
    return self->context;
}

static weir_err without_identity(weir_report *report)
{
    return weir_report_set(report, WEIR_ENOTFOUND, NULL, "this node has no keys");
}

weir_err weir_realm_serve(weir_realm *self, void *socket, weir_role role,
                          weir_report *report)
{
    (void)self;
    (void)socket;
    (void)role;
    return without_identity(report);
}

weir_err weir_realm_join(weir_realm *self, void *socket, const char *server,
                         weir_report *report)
{
    (void)self;
    (void)socket;
    (void)server;
    return without_identity(report);
}

bool weir_realm_allows(weir_realm *self, const char *name, weir_role role)
{
    (void)self;
    (void)name;
    (void)role;
    return false;
}

size_t weir_realm_refusals(weir_realm *self, weir_refusal *list, size_t max)
{
    (void)self;
    (void)list;
    (void)max;
    return 0;
}
