/*  socket: everything that Weir knows about ZeroMQ's sockets.

    CZMQ's habits that do not suit a library are dealt with here: a host's signal
    handlers stay what they are, and the sockets of links are made so that running out
    of descriptors is an error and no abort. A socket belongs to one thread.   */
#pragma once
#include "runtime/frame.h"
#include "runtime/realm.h"

typedef struct weir_socket weir_socket;

/*  Before the first socket of any kind: CZMQ begins, unless it has, and no signal's
    handler changes. Repeated calls do nothing. Any thread.                    */
void weir_socket_prepare(void);

/*  The same for a program that is Weir's own, before its threads: besides, as many
    sockets as descriptors allow, and what CZMQ logs goes to stderr.           */
void weir_socket_prepare_program(void);

/*  One end of a connection, as the user gave it. All is lent for the call.     */
typedef struct {
    const char *endpoint; // "inproc://name", "ipc://path", "tcp://host:port"; to listen
                          // also "tcp://*:port" and "tcp://*:*"
    weir_realm *realm;    // needed by ipc and tcp
    bool plaintext;       // tcp without CURVE
    weir_role role;       // to listen by CURVE: what a peer must be allowed to do
    const char *server;   // to connect by CURVE: the name in the other's certificate
    int64_t heartbeat_us; // between heartbeats, three may be missed; 0: 1 s to
                          // connect, 30 s to listen
    int64_t connect_us;   // for connecting and shaking hands; 0: 5 s
    int send_hwm;         // of weir_socket_raw, if it is not hwm
    int64_t message_max;  // bytes of the largest frame that is received; 0: 16 MB
} weir_endpoint;

/*  True for endpoints that leave the process.                                  */
bool weir_endpoint_is_foreign(const char *endpoint);

/*  Checks the text, and that nothing goes over the wire in the clear unless that was
    said. WEIR_EINVAL with a report without the option's name.                   */
weir_err weir_endpoint_check(const weir_endpoint *self, bool listens,
                             weir_report *report);

/*  Logs that a tcp endpoint is plaintext: said at each start of whoever opens it. */
void weir_endpoint_warn(const weir_endpoint *self);

/*  A libzmq socket of any type (ZMQ_PULL, ..), with every option that one of ours must
    have (security, size of messages, heartbeats, deadlines, linger), bound or connected
    to the endpoint. hwm is a count; 0: none. reconnects: by libzmq itself, as sockets
    need that are no links. NULL: the report says why.                          */
void *weir_socket_raw(int type, const weir_endpoint *endpoint, bool listens, int hwm,
                      bool reconnects, weir_report *report);

/*  Connects such a socket to one endpoint more. Both leave the process, by the same
    transport.                                                                  */
weir_err weir_socket_connect_raw(void *handle, const weir_endpoint *endpoint,
                                 weir_report *report);

/*  Where a libzmq socket is bound in fact: with the port that the system chose, and an
    IPv4 address as such. "": nowhere.                                          */
void weir_socket_bound(void *handle, char endpoint[256]);

/*  An inlet's end (ROUTER, mandatory) bound to the endpoint, an outlet's end
    (DEALER) connected to it: once, without reconnecting. Errors: WEIR_ESYS with a
    report (no descriptors, endpoint in use, no such endpoint), and those of
    weir_endpoint_check and of the realm.                                       */
weir_err weir_socket_listen(weir_socket **self_p, const weir_endpoint *endpoint,
                            weir_report *report);
weir_err weir_socket_connect(weir_socket **self_p, const weir_endpoint *endpoint,
                             weir_report *report);
void weir_socket_close(weir_socket **self_p);

/*  Where it is bound in fact: with the port that the system chose.              */
const char *weir_socket_endpoint(const weir_socket *self);

/*  What has become of a foreign socket's connections. A listener's connection that is
    REFUSED or BROKEN is LOST next.                                              */
typedef enum {
    WEIR_CONNECTION_ACCEPTED = 1, // listening: the handshake begins
    WEIR_CONNECTION_READY,        // hands are shaken
    WEIR_CONNECTION_REFUSED,      // the handshake failed: the other side refuses our key
    WEIR_CONNECTION_BROKEN,       // the handshake failed otherwise
    WEIR_CONNECTION_FAILED,       // nobody listens
    WEIR_CONNECTION_LOST,         // it was there and has ended
} weir_connection_change;

typedef struct {
    weir_connection_change change;
    int fd;            // of ACCEPTED and LOST: the connection's descriptor
    const char *cause; // of BROKEN: what was wrong with the other side; "": it hung up
} weir_connection_event;

/*  The descriptor to wait on for changes, edge-triggered like weir_socket_fd; -1 for
    inproc. False: there is no change (any more).                                */
int weir_socket_monitor_fd(const weir_socket *self);
bool weir_socket_next_event(weir_socket *self, weir_connection_event *event);

/*  The descriptor to wait on. It is edge-triggered: after every send and receive
    weir_socket_readable must be asked again before waiting.                   */
int weir_socket_fd(const weir_socket *self);
bool weir_socket_readable(weir_socket *self);

/*  Sends a frame, with the block's body behind it (its own reference is taken,
    nothing copied). id, for a ROUTER, names the connection. Does not block.
    WEIR_ECLOSED: the connection is gone. WEIR_EFULL: a ROUTER's foreign peer does not
    read; elsewhere credit and no high-water mark bounds what is under way.    */
weir_err weir_socket_send(weir_socket *self, const void *id, size_t id_size,
                          const weir_frame *frame, weir_block *body);

/*  Receives one message without blocking. WEIR_ENOTFOUND: there is none.
    WEIR_EMALFORMED: it was none of ours (id is set, so that it can be refused).
    *body_p is given for a BLOCK. frame and id live until the next call.       */
typedef struct {
    const void *id; // ROUTER: who sent it
    size_t id_size;
    weir_frame frame;
} weir_message;
weir_err weir_socket_recv(weir_socket *self, weir_message *message, weir_block **body_p);

/*  Of the message that was received last: the name and the key (Z85) in its sender's
    certificate, NULL without one (only CURVE proves them); its address for people; the
    descriptor of its connection, -1 for inproc. The texts live until the next message. */
const char *weir_socket_sender(weir_socket *self);
const char *weir_socket_sender_key(weir_socket *self);
const char *weir_socket_sender_address(weir_socket *self);
int weir_socket_sender_fd(weir_socket *self);
