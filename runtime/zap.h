/*  zap: the messages of ZeroMQ's authentication protocol (RFC 27), by which libzmq asks
    whether a peer whose hands are being shaken may come in.                          */
#pragma once
#include "runtime/cert.h"
#include <zmq.h>

#define WEIR_ZAP_ENDPOINT "inproc://zeromq.zap.01"

typedef struct {
    zmq_msg_t route, id; // of the answer
    char domain[32];     // of the socket: the role that it asks for
    char address[64];
    char mechanism[16];
    char key[WEIR_KEY_MAX]; // of CURVE; else ""
} weir_zap_request;

/*  Receives one from a ROUTER without blocking; it is to be answered in any case but
    WEIR_ENOTFOUND (there is none). WEIR_EMALFORMED: no texts are set.             */
weir_err weir_zap_recv(weir_zap_request *self, void *router);

/*  Answers, and ends the request. name: who it is, which messages then bear as
    "User-Id", beside the key as "Weir-Key"; NULL: refused.                        */
void weir_zap_answer(weir_zap_request *self, void *router, const char *name);
