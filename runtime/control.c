#include "runtime/control.h"
#include "runtime/clock.h"
#include "runtime/json.h"
#include "runtime/log.h"
#include "runtime/rundir.h"
#include "runtime/socket.h"
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#define PORTS_MAX 2
#define ADDRESS_MAX 255    // bytes of a ROUTER's routing id
#define REQUESTS_A_TURN 64 // so that a flood leaves the supervisor its turns
#define FRAMES_MAX (WEIR_CONTROL_ARGS_MAX + 5) // one more than a request may have

static const int queue_max = 64; // messages to a client that does not read
static const int64_t complain_us = 60000000;
static const int64_t stalled_max_us = 5000000; // without reading, a stream's client

typedef struct {
    void *socket;
    bool secured; // by CURVE: a message bears the name and the key of its sender
    char endpoint[256];
} port;

struct weir_stream {
    weir_control *control; // NULL: this one is free
    uint8_t address[ADDRESS_MAX];
    uint8_t id[WEIR_CONTROL_ID_MAX];
    char peer[WEIR_PEER_NAME_MAX], key[41];
    int64_t stalled_us; // since when its client's queue is full; 0: it is not
    weir_request to;    // points to the above
};

struct weir_control {
    weir_control_config config;
    port ports[PORTS_MAX];
    int port_count;
    int lock_fd;
    weir_stream streams[WEIR_CONTROL_STREAMS_MAX];
    uint64_t refused;
    int64_t complained_us; // 0: never
};

/* --- Open and close ---------------------------------------------------------------- */

static weir_err open_port(weir_control *self, const char *endpoint, weir_report *report)
{
    port *p = &self->ports[self->port_count];
    weir_endpoint at = {.endpoint = endpoint,
                        .realm = self->config.realm,
                        .role = WEIR_ROLE_CONTROL,
                        .message_max = WEIR_CONTROL_FRAME_MAX};
    p->socket = weir_socket_raw(ZMQ_ROUTER, &at, true, queue_max, false, report);
    if (!p->socket) return report->err ? report->err : WEIR_ESYS;
    zmq_setsockopt(p->socket, ZMQ_ROUTER_MANDATORY, &(int){1}, sizeof(int));
    size_t size = sizeof p->endpoint;
    zmq_getsockopt(p->socket, ZMQ_LAST_ENDPOINT, p->endpoint, &size);
    p->secured = strncmp(endpoint, "tcp://", 6) == 0;
    self->port_count++;
    return WEIR_OK;
}

/*  libzmq takes the place of any socket that is there, so the name must be ours first;
    what lies there then was left by one that was killed.                         */
static weir_err open_local(weir_control *self, weir_report *report)
{
    const weir_control_config *c = &self->config;
    char path[WEIR_IPC_PATH_MAX], endpoint[WEIR_IPC_PATH_MAX + 8];
    weir_err err = weir_rundir_open(c->run_dir, report);
    if (!err) err = weir_rundir_socket(c->run_dir, c->name, path, report);
    if (!err) err = weir_rundir_lock(&self->lock_fd, c->run_dir, c->name, report);
    if (err) return err;
    snprintf(endpoint, sizeof endpoint, "ipc://%s", path);
    return open_port(self, endpoint, report);
}

weir_err weir_control_new(weir_control **self_p, const weir_control_config *config,
                          weir_report *report)
{
    weir_report own = {0};
    if (!report) report = &own;
    weir_control *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->lock_fd = -1;
    weir_err err = config->run_dir ? open_local(self, report) : WEIR_OK;
    if (!err && config->tcp) err = open_port(self, config->tcp, report);
    if (err) weir_control_destroy(&self);
    *self_p = self;
    return err;
}

/*  libzmq leaves the file of a named ipc endpoint behind. Our name is not free before it
    is removed, else it would be our successor's.                                 */
static void remove_socket(const weir_control *self)
{
    char path[WEIR_IPC_PATH_MAX];
    if (self->port_count == 0 || self->lock_fd < 0) return;
    if (weir_rundir_socket(self->config.run_dir, self->config.name, path, NULL)) return;
    unlink(path);
}

void weir_control_destroy(weir_control **self_p)
{
    weir_control *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (int i = 0; i < self->port_count; i++)
        zmq_close(self->ports[i].socket);
    remove_socket(self);
    weir_rundir_unlock(&self->lock_fd, self->config.run_dir, self->config.name);
    free(self);
}

const char *weir_control_endpoint(const weir_control *self, int number)
{
    return number < self->port_count ? self->ports[number].endpoint : NULL;
}

int weir_control_fd(const weir_control *self, int number)
{
    int fd = -1;
    size_t size = sizeof fd;
    if (number < self->port_count)
        zmq_getsockopt(self->ports[number].socket, ZMQ_FD, &fd, &size);
    return fd;
}

uint64_t weir_control_refused(const weir_control *self)
{
    return self->refused;
}

/* --- Sending ----------------------------------------------------------------------- */

/*  Only the first part can fail: mandatory routing says that the client is gone, or
    that its queue is full.                                                       */
static bool send_reply(weir_control *self, const weir_request *to, const char *code,
                       const void *body, size_t size)
{
    void *socket = self->ports[to->port].socket;
    const int more = ZMQ_DONTWAIT | ZMQ_SNDMORE;
    if (zmq_send(socket, to->address.data, to->address.size, more) < 0) return false;
    if (to->delimited) zmq_send(socket, "", 0, more);
    zmq_send(socket, "WEIR1", 5, more);
    zmq_send(socket, to->id.data, to->id.size, more);
    zmq_send(socket, code, strlen(code), more);
    return zmq_send(socket, body, size, ZMQ_DONTWAIT) >= 0;
}

void weir_control_reply(weir_control *self, const weir_request *request, weir_err err,
                        const weir_buffer *body, const weir_report *report)
{
    weir_buffer text = {0};
    if (err) {
        const char *sentence = *report->text ? report->text : weir_err_name(err);
        weir_buffer_put_text(&text, "{\"error\":");
        if (weir_json_put_string(&text, sentence, strlen(sentence)))
            weir_buffer_put_text(&text, "\"?\"");
        weir_buffer_put_byte(&text, '}');
        body = &text;
    }
    send_reply(self, request, weir_control_code(err), body->data, body->size);
    weir_buffer_fini(&text);
}

/* --- Streams ----------------------------------------------------------------------- */

static weir_control_frame keep(void *to, size_t room, const weir_control_frame *frame)
{
    size_t size = frame->size < room ? frame->size : room;
    memcpy(to, frame->data, size);
    return (weir_control_frame){to, size};
}

weir_stream *weir_control_stream(weir_control *self, const weir_request *request)
{
    weir_stream *s = self->streams;
    while (s < self->streams + WEIR_CONTROL_STREAMS_MAX && s->control)
        s++;
    if (s == self->streams + WEIR_CONTROL_STREAMS_MAX) return NULL;
    s->control = self;
    s->stalled_us = 0;
    s->to = (weir_request){.port = request->port, .delimited = request->delimited};
    s->to.address = keep(s->address, sizeof s->address, &request->address);
    s->to.id = keep(s->id, sizeof s->id, &request->id);
    snprintf(s->peer, sizeof s->peer, "%s", request->peer ? request->peer : "");
    snprintf(s->key, sizeof s->key, "%s", request->key ? request->key : "");
    return s;
}

/*  A connection outlives the certificate that it was made with.                  */
static bool is_allowed(const weir_control *self, int number, const char *peer,
                       const char *key)
{
    return !self->ports[number].secured ||
           (peer &&
            weir_realm_allows_key(self->config.realm, peer, key, WEIR_ROLE_CONTROL));
}

weir_err weir_stream_send(weir_stream *self, const void *json, size_t size)
{
    weir_control *control = self->control;
    if (!is_allowed(control, self->to.port, self->peer, self->key)) return WEIR_ECLOSED;
    if (send_reply(control, &self->to, "more", json, size)) {
        self->stalled_us = 0;
        return WEIR_OK;
    }
    int64_t now = weir_clock_now_us();
    if (errno != EAGAIN) return WEIR_ECLOSED;
    if (!self->stalled_us) self->stalled_us = now;
    return now - self->stalled_us > stalled_max_us ? WEIR_ECLOSED : WEIR_EFULL;
}

void weir_stream_fail(weir_stream **self_p, weir_err err, const weir_buffer *body)
{
    weir_stream *self = *self_p;
    *self_p = NULL;
    send_reply(self->control, &self->to, weir_control_code(err), body->data, body->size);
    self->control = NULL;
}

void weir_stream_end(weir_stream **self_p, const weir_buffer *body)
{
    weir_stream_fail(self_p, WEIR_OK, body);
}

bool weir_stream_is_of(const weir_stream *self, const weir_request *request)
{
    const weir_control_frame *a = &self->to.address, *b = &request->address;
    return self->to.port == request->port && a->size == b->size &&
           memcmp(a->data, b->data, a->size) == 0;
}

/* --- Receiving --------------------------------------------------------------------- */

typedef struct {
    zmq_msg_t parts[FRAMES_MAX]; // the address first
    size_t count;
} message;

/*  False: there is none. Of too many parts one too many is kept, which is enough to be
    refused.                                                                      */
static bool receive(void *socket, message *m)
{
    m->count = 0;
    for (bool more = true; more;) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(&part);
        if (m->count == FRAMES_MAX) {
            zmq_msg_close(&part);
            continue;
        }
        zmq_msg_init(&m->parts[m->count]);
        zmq_msg_move(&m->parts[m->count++], &part);
    }
    return m->count > 0;
}

static void close_message(message *m)
{
    for (size_t i = 0; i < m->count; i++)
        zmq_msg_close(&m->parts[i]);
}

/*  Whoever sends nonsense may send much of it.                                  */
static void complain(weir_control *self, const weir_request *request,
                     const weir_report *report)
{
    int64_t now = weir_clock_now_us();
    self->refused++;
    if (self->complained_us && now - self->complained_us < complain_us) return;
    self->complained_us = now;
    weir_log(WEIR_WARN, "control request refused peer=%s cause=\"%s\" so_far=%llu",
             request->peer ? request->peer : "local", report->text,
             (unsigned long long)self->refused);
}

static void answer(weir_control *self, int number, message *m)
{
    weir_control_frame frames[FRAMES_MAX];
    weir_request request;
    weir_report report = {0};
    for (size_t i = 0; i < m->count; i++)
        frames[i] =
            (weir_control_frame){zmq_msg_data(&m->parts[i]), zmq_msg_size(&m->parts[i])};
    weir_err err = weir_request_parse(&request, frames + 1, m->count - 1, &report);
    request.address = frames[0];
    request.port = number;
    if (self->ports[number].secured) { // else it could say anything
        request.peer = zmq_msg_gets(&m->parts[m->count - 1], "User-Id");
        request.key = zmq_msg_gets(&m->parts[m->count - 1], "Weir-Key");
    }
    if (!err && !is_allowed(self, number, request.peer, request.key))
        err = weir_report_set(&report, WEIR_EREFUSED, NULL,
                              "the certificate of '%s' has not the role control any more",
                              request.peer ? request.peer : "nobody");
    if (err) {
        complain(self, &request, &report);
        weir_control_reply(self, &request, err, NULL, &report);
    } else {
        self->config.request(self->config.arg, &request);
    }
    weir_request_fini(&request);
}

static bool run_port(weir_control *self, int number)
{
    message m;
    for (int i = 0; i < REQUESTS_A_TURN; i++) {
        if (!receive(self->ports[number].socket, &m)) return false;
        answer(self, number, &m);
        close_message(&m);
    }
    return true;
}

/*  A receive that finds nothing looks at the socket's events anew, which an
    edge-triggered descriptor asks for.                                           */
bool weir_control_run(weir_control *self)
{
    bool busy = false;
    for (int i = 0; self && i < self->port_count; i++)
        busy |= run_port(self, i);
    return busy;
}
