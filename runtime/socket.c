#include "runtime/socket.h"
#include "runtime/handover.h"
#include <czmq.h>
#include <errno.h>
#include <pthread.h>

struct weir_socket {
    void *handle; // libzmq's
    bool router;
    weir_buffer out;     // encoding of the frame that is being sent
    weir_buffer scratch; // runs of the frame that was received
    zmq_msg_t id, head;  // of the last message
};

static const int handshake_ms = 3000; // ZMQ_HANDSHAKE_IVL
static const int linger_ms = 1000;    // what is queued may still leave at close
static const int64_t message_max = 16 << 20;

/*  zsys_set_max_sockets would abort a host that has sockets already; on the context
    itself the limit is without effect then, and else the same.                */
static void prepare(void)
{
    void *context = zsys_init();
    zsys_handler_set(NULL);
    /*  zsys_set_max_sockets aborts when there are sockets, and a host that made an
        actor first has some.                                                  */
    zmq_ctx_set(context, ZMQ_MAX_SOCKETS, zmq_ctx_get(context, ZMQ_SOCKET_LIMIT));
    zsys_set_logstream(stderr);
}

void weir_socket_prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
}

/* --- Open and close ---------------------------------------------------------------- */

static void set_int(void *handle, int option, int value)
{
    zmq_setsockopt(handle, option, &value, sizeof value);
}

/*  HWMs are counts and credit bounds bytes, so the HWMs are off: a link's window
    divided by the 512 bytes that every block costs bounds the count, too.     */
static void configure(void *handle, bool router)
{
    set_int(handle, ZMQ_SNDHWM, 0);
    set_int(handle, ZMQ_RCVHWM, 0);
    set_int(handle, ZMQ_LINGER, linger_ms);
    set_int(handle, ZMQ_HANDSHAKE_IVL, handshake_ms);
    set_int(handle, ZMQ_RECONNECT_IVL, -1);
    zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &message_max, sizeof message_max);
    if (router) set_int(handle, ZMQ_ROUTER_MANDATORY, 1);
}

static weir_err open_socket(weir_socket **self_p, bool router, const char *endpoint,
                            weir_report *report)
{
    weir_socket_prepare();
    weir_socket *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->router = router;
    zmq_msg_init(&self->id);
    zmq_msg_init(&self->head);
    self->handle = zmq_socket(zsys_init(), router ? ZMQ_ROUTER : ZMQ_DEALER);
    int rc = -1;
    if (self->handle) {
        configure(self->handle, router);
        rc = router ? zmq_bind(self->handle, endpoint)
                    : zmq_connect(self->handle, endpoint);
    }
    if (rc) {
        weir_report_set(report, WEIR_ESYS, endpoint, "cannot %s: %s",
                        router ? "bind" : "connect", zmq_strerror(errno));
        weir_socket_close(&self);
        return WEIR_ESYS;
    }
    *self_p = self;
    return WEIR_OK;
}

weir_err weir_socket_listen(weir_socket **self_p, const char *endpoint,
                            weir_report *report)
{
    return open_socket(self_p, true, endpoint, report);
}

weir_err weir_socket_connect(weir_socket **self_p, const char *endpoint,
                             weir_report *report)
{
    return open_socket(self_p, false, endpoint, report);
}

void weir_socket_close(weir_socket **self_p)
{
    weir_socket *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (self->handle) zmq_close(self->handle);
    zmq_msg_close(&self->id);
    zmq_msg_close(&self->head);
    weir_buffer_fini(&self->out);
    weir_buffer_fini(&self->scratch);
    free(self);
}

/* --- Waiting ----------------------------------------------------------------------- */

int weir_socket_fd(const weir_socket *self)
{
    int fd = -1;
    size_t size = sizeof fd;
    zmq_getsockopt(self->handle, ZMQ_FD, &fd, &size);
    return fd;
}

bool weir_socket_readable(weir_socket *self)
{
    int events = 0;
    size_t size = sizeof events;
    if (zmq_getsockopt(self->handle, ZMQ_EVENTS, &events, &size)) return false;
    return events & ZMQ_POLLIN;
}

/* --- Sending ----------------------------------------------------------------------- */

static void release_body(void *data, void *hint)
{
    weir_handover_take(data);
    weir_block *block = hint;
    weir_block_destroy(&block);
}

static weir_err send_body(weir_socket *self, weir_block *body)
{
    zmq_msg_t message;
    void *data = (void *)weir_block_body(body);
    if (zmq_msg_init_data(&message, data, weir_block_size(body), release_body,
                          weir_block_dup(body)))
        abort();
    weir_handover_give(data);
    if (zmq_msg_send(&message, self->handle, ZMQ_DONTWAIT) >= 0) return WEIR_OK;
    zmq_msg_close(&message);
    return WEIR_ECLOSED;
}

static weir_err send_bytes(weir_socket *self, const void *data, size_t size, int flags)
{
    zmq_msg_t message;
    if (zmq_msg_init_size(&message, size)) abort();
    memcpy(zmq_msg_data(&message), data, size);
    weir_handover_give(zmq_msg_data(&message));
    if (zmq_msg_send(&message, self->handle, ZMQ_DONTWAIT | flags) >= 0) return WEIR_OK;
    zmq_msg_close(&message);
    return WEIR_ECLOSED;
}

weir_err weir_socket_send(weir_socket *self, const void *id, size_t id_size,
                          const weir_frame *frame, weir_block *body)
{
    self->out.size = 0;
    weir_frame_put(frame, &self->out);
    if (id && send_bytes(self, id, id_size, ZMQ_SNDMORE)) return WEIR_ECLOSED;
    if (send_bytes(self, self->out.data, self->out.size, body ? ZMQ_SNDMORE : 0))
        return WEIR_ECLOSED;
    return body ? send_body(self, body) : WEIR_OK;
}

/* --- Receiving --------------------------------------------------------------------- */

/*  The body of a received block lives in its message.                         */
static void close_message(void *hint)
{
    zmq_msg_t *message = hint;
    weir_handover_give(zmq_msg_data(message));
    zmq_msg_close(message);
    free(message);
}

static void wrap_body(zmq_msg_t *part, const weir_frame *frame, weir_block **body_p)
{
    zmq_msg_t *message = malloc(sizeof *message);
    if (!message) abort();
    zmq_msg_init(message);
    zmq_msg_move(message, part);
    weir_handover_take(zmq_msg_data(message));
    *body_p =
        weir_block_wrap(zmq_msg_data(message), zmq_msg_size(message), frame->records,
                        frame->runs, frame->run_count, close_message, message);
}

/*  Takes the parts behind frame 0. Only a BLOCK has one, and only one.        */
static weir_err recv_rest(weir_socket *self, weir_err err, const weir_frame *frame,
                          weir_block **body_p)
{
    int parts = 0;
    for (bool more = zmq_msg_more(&self->head); more; parts++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, self->handle, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(&part);
        if (!err && parts == 0 && frame->type == WEIR_BLOCK)
            wrap_body(&part, frame, body_p);
        zmq_msg_close(&part);
    }
    if (!err && parts != (frame->type == WEIR_BLOCK)) err = WEIR_EMALFORMED;
    if (err) weir_block_destroy(body_p);
    return err;
}

weir_err weir_socket_recv(weir_socket *self, weir_message *message, weir_block **body_p)
{
    *body_p = NULL;
    if (self->router) {
        if (zmq_msg_recv(&self->id, self->handle, ZMQ_DONTWAIT) < 0)
            return WEIR_ENOTFOUND;
        message->id = zmq_msg_data(&self->id);
        message->id_size = zmq_msg_size(&self->id);
        if (!zmq_msg_more(&self->id)) return WEIR_EMALFORMED;
    }
    if (zmq_msg_recv(&self->head, self->handle, ZMQ_DONTWAIT) < 0) return WEIR_ENOTFOUND;
    weir_handover_take(zmq_msg_data(&self->head));
    weir_err err = weir_frame_read(&message->frame, zmq_msg_data(&self->head),
                                   zmq_msg_size(&self->head), &self->scratch);
    return recv_rest(self, err, &message->frame, body_p);
}
