/*  zmq_port: the socket of source.zmq and of sink.zmq: bound to one endpoint or connected
    to several, with the realm's security.

    When somebody has been revoked, a listening socket is made anew, so that his live
    connection ends; who may stay comes back by himself.                        */
#pragma once
#include "runtime/actor.h"

typedef struct {
    char *listen;       // one of the two
    weir_texts connect; // all by the same transport
    char *server;       // of connect by CURVE
    bool plaintext;
    int64_t hwm; // messages for each peer
} weir_zmq_port_config;

#define WEIR_ZMQ_PORT_OPTIONS(config, member)                                            \
    {"listen",                                                                           \
     WEIR_OPTION_TEXT,                                                                   \
     offsetof(config, member.listen),                                                    \
     0,                                                                                  \
     0,                                                                                  \
     NULL,                                                                               \
     false,                                                                              \
     "endpoint to bind: \"tcp://ADDRESS:PORT\" or \"ipc://PATH\""},                      \
        {"connect",                                                                      \
         WEIR_OPTION_TEXTS,                                                              \
         offsetof(config, member.connect),                                               \
         0,                                                                              \
         0,                                                                              \
         NULL,                                                                           \
         false,                                                                          \
         "endpoint to connect to, or a list of them; instead of `listen`"},              \
        {"server",                                                                       \
         WEIR_OPTION_TEXT,                                                               \
         offsetof(config, member.server),                                                \
         0,                                                                              \
         0,                                                                              \
         NULL,                                                                           \
         false,                                                                          \
         "the name in the certificate of those that `connect` names"},                   \
        {"plaintext",                                                                    \
         WEIR_OPTION_BOOL,                                                               \
         offsetof(config, member.plaintext),                                             \
         0,                                                                              \
         0,                                                                              \
         NULL,                                                                           \
         false,                                                                          \
         "tcp without encryption and without knowing who is there"},                     \
    {                                                                                    \
        "hwm", WEIR_OPTION_INT, offsetof(config, member.hwm), 1, 1e6, NULL, false,       \
            "most messages that wait in the socket for each peer: memory is this many "  \
            "times their size"                                                           \
    }

/*  For weir_class.check.                                                       */
weir_err weir_zmq_port_check(const weir_zmq_port_config *config, weir_report *report);

/*  Set up what the zmq_setsockopt of one socket type wants, whenever it is made.  */
typedef void weir_zmq_setup(void *arg, void *handle);

typedef struct {
    weir_actor *kit;
    const weir_zmq_port_config *config; // the actor's
    int type;                           // ZMQ_PULL, ..
    int send_hwm;                       // if it is not the config's
    weir_role role;                     // that peers of a listener need
    weir_zmq_setup *setup;              // NULL: nothing
    weir_handler *ready;   // something has changed: look at the socket again; class.turn
                           // follows
    weir_handler *revoked; // calls weir_zmq_port_revoked
    void *arg;
    void *handle;       // libzmq's; NULL: closed
    bool watched;       // ready will be called
    int revoked_fd;     // eventfd; -1: nobody can be revoked
    bool stale;         // to be made anew
    int64_t stale_us;   // since when
    char endpoint[256]; // where it is bound, or what it is connected to, for people
} weir_zmq_port;

/*  The fields up to arg are set. Made, bound or connected. To be closed in any case. */
weir_err weir_zmq_port_open(weir_zmq_port *self, weir_report *report);
void weir_zmq_port_close(weir_zmq_port *self);

/*  Whether peers' names are known: it listens by CURVE.                          */
bool weir_zmq_port_knows_peers(const weir_zmq_port *self);

/*  True: one of the events (ZMQ_POLLIN, ZMQ_POLLOUT) is there. False: ready will be
    called once when it may be.                                                  */
bool weir_zmq_port_wait(weir_zmq_port *self, int events);

/*  For ready to begin with.                                                     */
void weir_zmq_port_woken(weir_zmq_port *self);

/*  After a send at any other time: what has come meanwhile gives no sign any more, so
    ready is called now.                                                         */
void weir_zmq_port_sent(weir_zmq_port *self);

/*  No new peers: who is connected stays.                                        */
void weir_zmq_port_unbind(weir_zmq_port *self);

/*  The eventfd was written to.                                                  */
void weir_zmq_port_revoked(weir_zmq_port *self);

/*  Makes a stale socket anew. False: it could not be bound yet, ask again at the next
    call of ready; or the actor has failed.                                      */
bool weir_zmq_port_renew(weir_zmq_port *self);
