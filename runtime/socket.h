/*  socket: everything that Weir knows about ZeroMQ's sockets.

    CZMQ's habits that do not suit a library are dealt with here: its signal
    handlers are turned off, and the sockets of links are made so that running out
    of descriptors is an error and no abort. A socket belongs to one thread.   */
#pragma once
#include "runtime/frame.h"

typedef struct weir_socket weir_socket;

/*  Before the first socket of any kind: CZMQ's signal handlers off, as many
    sockets as descriptors allow. Repeated calls do nothing. Any thread.       */
void weir_socket_prepare(void);

/*  An inlet's end (ROUTER, mandatory) bound to the endpoint, an outlet's end
    (DEALER) connected to it. Errors: WEIR_ESYS with a report (no descriptors,
    endpoint in use, no such endpoint).                                        */
weir_err weir_socket_listen(weir_socket **self_p, const char *endpoint,
                            weir_report *report);
weir_err weir_socket_connect(weir_socket **self_p, const char *endpoint,
                             weir_report *report);
void weir_socket_close(weir_socket **self_p);

/*  The descriptor to wait on. It is edge-triggered: after every send and receive
    weir_socket_readable must be asked again before waiting.                   */
int weir_socket_fd(const weir_socket *self);
bool weir_socket_readable(weir_socket *self);

/*  Sends a frame, with the block's body behind it (its own reference is taken,
    nothing copied). id, for a ROUTER, names the connection. Does not block.
    WEIR_ECLOSED: the connection is gone; WEIR_EFULL cannot happen, since credit
    and not the high-water mark bounds what is under way.                      */
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
