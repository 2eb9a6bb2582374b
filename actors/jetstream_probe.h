/*  jetstream_probe: whether a NATS server answers, before libnats connects, which could
    not be ended then. A server speaks first, so its greeting is awaited and no more.

    Private to the JetStream store. Blocks: by the deadline, or shortly after `stop` is
    set and `wake` written to; only the name service takes its own time.                */
#pragma once
#include <stdatomic.h>
#include "actors/jetstream_url.h"

typedef struct {
    const weir_nats_server *server;
    bool only_here; // an address that is not this machine's own is refused
    int64_t deadline_us;
    int wake; // eventfd
    const atomic_bool *stop;
} weir_nats_probe_config;

typedef struct {
    char address[64];       // in digits, that answered
    bool wants_tls;         // says the server
    bool wants_certificate; // of its clients
    bool knows_keys;        // NKeys, or credentials, which have one
    bool refused;           // only_here
    char text[256];         // why there is none
} weir_nats_probe_result;

bool weir_nats_probe(const weir_nats_probe_config *config,
                     weir_nats_probe_result *result);
