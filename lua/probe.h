/*  probe: why a connection to another node does not come about, tried step by step.    */
#pragma once
#include "runtime/cert.h"

typedef enum {
    WEIR_PROBE_WORKS = 0,
    WEIR_PROBE_ENDPOINT, // it is no tcp://HOST:PORT
    WEIR_PROBE_HOST,     // no such host
    WEIR_PROBE_NOBODY,   // nobody listens
    WEIR_PROBE_FAR,      // no way there, or no answer in time
    WEIR_PROBE_SILENT,   // it takes connections and says nothing
    WEIR_PROBE_ALIEN,    // it does not speak ZeroMQ's protocol
    WEIR_PROBE_OPEN,     // ZeroMQ without CURVE
    WEIR_PROBE_CURVE,    // it speaks CURVE; hands were not shaken, for want of its key
    WEIR_PROBE_REFUSED,  // it refuses our key
    WEIR_PROBE_KEY,      // it ends the handshake: its key is another one
} weir_probe_result;

/*  A sentence for the user: what is wrong, and what to do.                     */
const char *weir_probe_text(weir_probe_result result);

/*  Tries the endpoint with our key; server_key NULL: up to WEIR_PROBE_CURVE. detail: the
    system's text or the mechanism, if there is one. Blocks, at most some 20 s. */
weir_probe_result weir_probe(const char *endpoint, const weir_cert *own,
                             const char *server_key, char detail[128]);
