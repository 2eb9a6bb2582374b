#include "runtime/socket.h"
#include "runtime/flight.h"
#include "runtime/handover.h"
#include "runtime/log.h"
#include <czmq.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>

struct weir_socket {
    void *handle;  // libzmq's
    void *monitor; // PAIR: what becomes of its connections; NULL for inproc
    bool router;
    bool secured;        // by CURVE
    char endpoint[256];  // of a bound socket
    weir_buffer out;     // encoding of the frame that is being sent
    weir_buffer scratch; // runs of the frame that was received
    zmq_msg_t id, head;  // of the last message
};

/*  Who connects must know soon that the other side is gone. Who listens has nothing to
    lose by a dead connection, and may have a thousand of them: there, beats cost more
    than they tell.                                                            */
static const int64_t default_heartbeat_us = 1000000, listener_heartbeat_us = 30000000;
static const int64_t default_connect_us = 5000000;
static const int handshake_ms = 3000; // ZMQ_HANDSHAKE_IVL
static const int unbind_ms = 1000;    // for a listener to end
static const int linger_ms = 1000;    // what is queued may still leave at close
static const int backlog = 1024; // a flood must not make others wait for a second SYN

/*  With -1, which means never, libzmq drops what came before the end of a connection and
    was not read yet, such as the last acknowledgement.                         */
static const int never_ms = 3600000;

static const int64_t default_message_max = 16 << 20;
static const int foreign_hwm = 8192; // a peer may send what nobody asked for

/*  CZMQ puts its own handlers in the place of a host's when it begins. Its way of giving
    them back would put what it found at first in the place of what the host has set
    since; so it is not told, and what was there is put back.                  */
static void prepare(void)
{
    struct sigaction interrupt, terminate;
    sigaction(SIGINT, NULL, &interrupt);
    sigaction(SIGTERM, NULL, &terminate);
    zsys_init();
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &terminate, NULL);
}

void weir_socket_prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
}

/*  zsys_set_max_sockets would abort when there are sockets already; on the context
    itself the limit is without effect then, and else the same.                */
void weir_socket_prepare_program(void)
{
    weir_socket_prepare();
    zmq_ctx_set(zsys_init(), ZMQ_MAX_SOCKETS, zmq_ctx_get(zsys_init(), ZMQ_SOCKET_LIMIT));
    zsys_set_logstream(stderr);
}

/* --- Endpoints --------------------------------------------------------------------- */

static bool begins(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

bool weir_endpoint_is_foreign(const char *endpoint)
{
    return !begins(endpoint, "inproc://");
}

/*  host:port, where a listener may leave the port to the system, or listen at all
    addresses.                                                                 */
static bool is_host_and_port(const char *text, bool listens)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || (!listens && *text == '*')) return false;
    if (listens && streq(colon + 1, "*")) return true;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    return colon[1] >= '0' && colon[1] <= '9' && *end == 0 && port >= 1 && port <= 65535;
}

weir_err weir_endpoint_check(const weir_endpoint *self, bool listens, weir_report *report)
{
    const char *at = self->endpoint;
    if (begins(at, "inproc://") && at[9]) return WEIR_OK;
    if (begins(at, "ipc://")) {
        size_t size = strlen(at + 6);
        if (size > 0 && size < sizeof((struct sockaddr_un *)NULL)->sun_path)
            return WEIR_OK;
        return weir_report_set(report, WEIR_EINVAL, at,
                               "the path of an ipc endpoint has 1 to 107 bytes");
    }
    if (!begins(at, "tcp://") || !is_host_and_port(at + 6, listens))
        return weir_report_set(report, WEIR_EINVAL, at,
                               "expected tcp://%s:PORT or ipc://PATH",
                               listens ? "ADDRESS" : "HOST");
    if (self->plaintext || listens || self->server) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, at,
                           "whose certificate must the other side have? Name it by "
                           "`server`, or say `plaintext = true`");
}

/* --- Open and close ---------------------------------------------------------------- */

static void set_int(void *handle, int option, int value)
{
    zmq_setsockopt(handle, option, &value, sizeof value);
}

static int in_ms(int64_t us, int64_t fallback_us)
{
    return (int)((us ? us : fallback_us) / 1000);
}

/*  A listener at an IPv4 address is left at that, so that its name stays as given.  */
static bool speaks_ipv6(const char *endpoint, bool listens)
{
    return !listens || strchr(endpoint, '[') || strchr(endpoint, '*');
}

/*  HWMs are counts and credit bounds bytes, so links have none: a link's window
    divided by the 512 bytes that every block costs bounds the count, too.     */
static void configure(void *handle, const weir_endpoint *endpoint, bool listens, int hwm,
                      bool reconnects)
{
    set_int(handle, ZMQ_SNDHWM, endpoint->send_hwm ? endpoint->send_hwm : hwm);
    set_int(handle, ZMQ_RCVHWM, hwm);
    set_int(handle, ZMQ_LINGER, linger_ms);
    set_int(handle, ZMQ_RECONNECT_IVL, reconnects ? 100 : never_ms);
    if (reconnects) set_int(handle, ZMQ_RECONNECT_IVL_MAX, 1000);
    int64_t message_max =
        endpoint->message_max ? endpoint->message_max : default_message_max;
    zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &message_max, sizeof message_max);
    if (!weir_endpoint_is_foreign(endpoint->endpoint)) return;
    int heartbeat_ms = in_ms(endpoint->heartbeat_us,
                             listens ? listener_heartbeat_us : default_heartbeat_us);
    int connect_ms = in_ms(endpoint->connect_us, default_connect_us);
    set_int(handle, ZMQ_HANDSHAKE_IVL,
            connect_ms < handshake_ms ? connect_ms : handshake_ms);
    set_int(handle, ZMQ_CONNECT_TIMEOUT, connect_ms);
    set_int(handle, ZMQ_HEARTBEAT_IVL, heartbeat_ms);
    set_int(handle, ZMQ_HEARTBEAT_TIMEOUT, 3 * heartbeat_ms);
    set_int(handle, ZMQ_IPV6, speaks_ipv6(endpoint->endpoint, listens));
    set_int(handle, ZMQ_BACKLOG, backlog);
}

static bool is_secured(const weir_endpoint *endpoint)
{
    return !endpoint->plaintext && begins(endpoint->endpoint, "tcp://");
}

void weir_endpoint_warn(const weir_endpoint *self)
{
    if (self->plaintext && begins(self->endpoint, "tcp://"))
        weir_log(WEIR_WARN,
                 "plaintext endpoint=%s: not encrypted, and nobody proves who he is",
                 self->endpoint);
}

static weir_err secure(void *handle, const weir_endpoint *endpoint, bool listens,
                       weir_report *report)
{
    if (!is_secured(endpoint)) return WEIR_OK;
    return listens ? weir_realm_serve(endpoint->realm, handle, endpoint->role, report)
                   : weir_realm_join(endpoint->realm, handle, endpoint->server, report);
}

/*  The socket of an ipc endpoint is for its owner alone.                      */
static int attach(void *handle, const char *endpoint, bool listens)
{
    if (!listens) return zmq_connect(handle, endpoint);
    int rc = zmq_bind(handle, endpoint);
    if (rc == 0 && begins(endpoint, "ipc://") && endpoint[6] != '@')
        chmod(endpoint + 6, 0600);
    return rc;
}

static void *open_raw(int type, const weir_endpoint *endpoint, bool listens, int hwm,
                      bool reconnects, weir_report *report)
{
    weir_socket_prepare();
    if (weir_endpoint_check(endpoint, listens, report)) return NULL;
    bool foreign = weir_endpoint_is_foreign(endpoint->endpoint);
    if (foreign && !endpoint->realm) {
        weir_report_set(report, WEIR_EINVAL, endpoint->endpoint,
                        "an endpoint that leaves the process needs a realm");
        return NULL;
    }
    void *handle =
        zmq_socket(foreign ? weir_realm_context(endpoint->realm) : zsys_init(), type);
    if (!handle) {
        weir_report_set(report, WEIR_ESYS, endpoint->endpoint, "cannot make a socket: %s",
                        zmq_strerror(errno));
        return NULL;
    }
    configure(handle, endpoint, listens, hwm, reconnects);
    if (secure(handle, endpoint, listens, report) == WEIR_OK) return handle;
    zmq_close(handle);
    return NULL;
}

static weir_err cannot_attach(const weir_endpoint *endpoint, bool listens,
                              weir_report *report)
{
    bool nowhere = listens && (errno == ENODEV || errno == EADDRNOTAVAIL);
    return weir_report_set(report, WEIR_ESYS, endpoint->endpoint, "cannot %s: %s",
                           listens ? "listen" : "connect",
                           nowhere ? "this host has no such address; * means all"
                                   : zmq_strerror(errno));
}

void *weir_socket_raw(int type, const weir_endpoint *endpoint, bool listens, int hwm,
                      bool reconnects, weir_report *report)
{
    void *handle = open_raw(type, endpoint, listens, hwm, reconnects, report);
    if (!handle || attach(handle, endpoint->endpoint, listens) == 0) return handle;
    cannot_attach(endpoint, listens, report);
    zmq_close(handle);
    return NULL;
}

/*  A socket that may speak IPv6 tells of "[::ffff:10.0.0.1]" where it means 10.0.0.1.  */
void weir_socket_bound(void *handle, char endpoint[256])
{
    static const char mapped[] = "tcp://[::ffff:";
    size_t size = 256;
    endpoint[0] = 0;
    zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, endpoint, &size);
    char *end = strchr(endpoint, ']');
    if (!begins(endpoint, mapped) || !end || !strchr(endpoint + sizeof mapped - 1, '.'))
        return;
    memmove(end, end + 1, strlen(end));
    char *address = endpoint + sizeof mapped - 1;
    memmove(endpoint + strlen("tcp://"), address, strlen(address) + 1);
}

weir_err weir_socket_connect_raw(void *handle, const weir_endpoint *endpoint,
                                 weir_report *report)
{
    weir_err err = weir_endpoint_check(endpoint, false, report);
    if (!err) err = secure(handle, endpoint, false, report);
    if (err || attach(handle, endpoint->endpoint, false) == 0) return err;
    return cannot_attach(endpoint, false, report);
}

/*  Before the socket is attached, so that no event is missed. An address is used once:
    libzmq gives it back in its own time.                                      */
static bool open_monitor(weir_socket *self, const weir_endpoint *endpoint)
{
    static const int events =
        ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |
        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
        ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    static _Atomic unsigned monitors;
    char address[64];
    if (!weir_endpoint_is_foreign(endpoint->endpoint)) return true;
    snprintf(address, sizeof address, "inproc://weir-monitor-%u", ++monitors);
    if (zmq_socket_monitor(self->handle, address, events)) return false;
    self->monitor = zmq_socket(weir_realm_context(endpoint->realm), ZMQ_PAIR);
    if (!self->monitor) return false;
    set_int(self->monitor, ZMQ_LINGER, 0);
    return zmq_connect(self->monitor, address) == 0;
}

static weir_err open_socket(weir_socket **self_p, bool router,
                            const weir_endpoint *endpoint, weir_report *report)
{
    weir_report own = {0};
    if (!report) report = &own;
    bool foreign = weir_endpoint_is_foreign(endpoint->endpoint);
    void *handle = open_raw(router ? ZMQ_ROUTER : ZMQ_DEALER, endpoint, router,
                            router && foreign ? foreign_hwm : 0, false, report);
    if (!handle) return report->err ? report->err : WEIR_ESYS;
    weir_socket *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->handle = handle;
    self->router = router;
    self->secured = is_secured(endpoint);
    zmq_msg_init(&self->id);
    zmq_msg_init(&self->head);
    if (router) set_int(handle, ZMQ_ROUTER_MANDATORY, 1);
    if (!router) set_int(handle, ZMQ_LINGER, 0); // what is not acknowledged is kept
    if (!router && foreign) set_int(handle, ZMQ_RCVHWM, foreign_hwm);
    if (!open_monitor(self, endpoint) || attach(handle, endpoint->endpoint, router)) {
        weir_err err = cannot_attach(endpoint, router, report);
        weir_socket_close(&self);
        return err;
    }
    if (router) weir_socket_bound(handle, self->endpoint);
    *self_p = self;
    return WEIR_OK;
}

weir_err weir_socket_listen(weir_socket **self_p, const weir_endpoint *endpoint,
                            weir_report *report)
{
    return open_socket(self_p, true, endpoint, report);
}

weir_err weir_socket_connect(weir_socket **self_p, const weir_endpoint *endpoint,
                             weir_report *report)
{
    return open_socket(self_p, false, endpoint, report);
}

/* --- Monitor ----------------------------------------------------------------------- */

static weir_connection_change change_of(int event)
{
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
        return WEIR_CONNECTION_ACCEPTED;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        return WEIR_CONNECTION_READY;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return WEIR_CONNECTION_REFUSED;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return WEIR_CONNECTION_BROKEN;
    case ZMQ_EVENT_DISCONNECTED:
        return WEIR_CONNECTION_LOST;
    default:
        return WEIR_CONNECTION_FAILED;
    }
}

static const char *cause_of(int event, int value, bool secured)
{
    if (event != ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) return "";
    switch (value) {
    case ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        return secured ? "it does not speak CURVE" : "it speaks CURVE, we do not";
    case ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
        return "it has another key of ours than we";
    default:
        return "it does not keep to ZeroMQ's protocol";
    }
}

/*  An event is two frames: number (16 bits) and value (32 bits) in the machine's own
    order, then the address (zmq_socket_monitor (3)).                          */
static bool recv_event(weir_socket *self, int *number, weir_connection_event *event)
{
    uint8_t head[6];
    uint16_t code;
    int32_t value;
    if (zmq_recv(self->monitor, head, sizeof head, ZMQ_DONTWAIT) != sizeof head)
        return false;
    zmq_recv(self->monitor, NULL, 0, ZMQ_DONTWAIT);
    memcpy(&code, head, sizeof code);
    memcpy(&value, head + sizeof code, sizeof value);
    *number = code;
    *event = (weir_connection_event){change_of(code), value,
                                     cause_of(code, value, self->secured)};
    return true;
}

/*  libzmq ends a listener in another thread, and so lets go of an inproc name at close.
    Waits until that is done, so that the endpoint can be bound again at once; an inproc
    name is free when zmq_unbind returns.                                      */
static void unbind(weir_socket *self)
{
    if (!*self->endpoint || zmq_unbind(self->handle, self->endpoint) || !self->monitor)
        return;
    int64_t until_ms = zclock_mono() + unbind_ms;
    for (int number = 0; number != ZMQ_EVENT_CLOSED;) {
        int64_t left_ms = until_ms - zclock_mono();
        zmq_pollitem_t item = {.socket = self->monitor, .events = ZMQ_POLLIN};
        if (left_ms <= 0 || zmq_poll(&item, 1, left_ms) <= 0) return;
        weir_connection_event event;
        if (!recv_event(self, &number, &event)) return;
    }
}

void weir_socket_close(weir_socket **self_p)
{
    weir_socket *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    unbind(self);
    if (self->monitor) {
        zmq_socket_monitor(self->handle, NULL, 0);
        zmq_close(self->monitor);
    }
    if (self->handle) zmq_close(self->handle);
    zmq_msg_close(&self->id);
    zmq_msg_close(&self->head);
    weir_buffer_fini(&self->out);
    weir_buffer_fini(&self->scratch);
    free(self);
}

const char *weir_socket_endpoint(const weir_socket *self)
{
    return self->endpoint;
}

/* --- Waiting ----------------------------------------------------------------------- */

static int fd_of(void *handle)
{
    int fd = -1;
    size_t size = sizeof fd;
    zmq_getsockopt(handle, ZMQ_FD, &fd, &size);
    return fd;
}

int weir_socket_fd(const weir_socket *self)
{
    return fd_of(self->handle);
}

bool weir_socket_readable(weir_socket *self)
{
    int events = 0;
    size_t size = sizeof events;
    if (zmq_getsockopt(self->handle, ZMQ_EVENTS, &events, &size)) return false;
    return events & ZMQ_POLLIN;
}

/* --- Connections ------------------------------------------------------------------- */

int weir_socket_monitor_fd(const weir_socket *self)
{
    return self->monitor ? fd_of(self->monitor) : -1;
}

bool weir_socket_next_event(weir_socket *self, weir_connection_event *event)
{
    int number;
    return self->monitor && recv_event(self, &number, event);
}

/*  Without CURVE a peer can put any property into the handshake.              */
static const char *property(weir_socket *self, const char *name)
{
    return self->secured ? zmq_msg_gets(&self->head, name) : NULL;
}

const char *weir_socket_sender(weir_socket *self)
{
    return property(self, "User-Id");
}

const char *weir_socket_sender_key(weir_socket *self)
{
    return property(self, "Weir-Key");
}

const char *weir_socket_sender_address(weir_socket *self)
{
    const char *address = zmq_msg_gets(&self->head, "Peer-Address");
    if (address && begins(address, "::ffff:")) address += strlen("::ffff:");
    return address && *address ? address : "a local process";
}

int weir_socket_sender_fd(weir_socket *self)
{
    return zmq_msg_get(&self->head, ZMQ_SRCFD);
}

/* --- Sending ----------------------------------------------------------------------- */

static void release_body(void *data, void *hint)
{
    weir_handover_take(data);
    weir_block *block = hint;
    weir_block_destroy(&block);
}

static void end_flight(void *data, void *hint)
{
    weir_handover_take(data);
    weir_flight *flight = hint;
    weir_flight_end(&flight);
}

/*  Within the process the receiver finds the block itself.                         */
static weir_err send_body(weir_socket *self, weir_block *body)
{
    zmq_msg_t message;
    void *data = (void *)weir_block_body(body);
    size_t size = weir_block_size(body);
    bool local = !self->monitor;
    int rc =
        local
            ? zmq_msg_init_data(&message, data, size, end_flight, weir_flight_begin(body))
            : zmq_msg_init_data(&message, data, size, release_body, weir_block_dup(body));
    if (rc) abort();
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
    weir_err err = errno == EAGAIN ? WEIR_EFULL : WEIR_ECLOSED;
    zmq_msg_close(&message);
    return err;
}

weir_err weir_socket_send(weir_socket *self, const void *id, size_t id_size,
                          const weir_frame *frame, weir_block *body)
{
    self->out.size = 0;
    weir_frame_put(frame, &self->out);
    weir_err err = id ? send_bytes(self, id, id_size, ZMQ_SNDMORE) : WEIR_OK;
    if (err) return err;
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

static weir_block *wrap_body(zmq_msg_t *part, const weir_frame *frame)
{
    zmq_msg_t *message = malloc(sizeof *message);
    if (!message) abort();
    zmq_msg_init(message);
    zmq_msg_move(message, part);
    return weir_block_wrap(zmq_msg_data(message), zmq_msg_size(message), frame->records,
                           frame->runs, frame->run_count, close_message, message);
}

/*  Takes the parts behind frame 0. Gives their number; the first is the caller's.  */
static int recv_rest(weir_socket *self, zmq_msg_t *first)
{
    int parts = 0;
    zmq_msg_init(first);
    for (bool more = zmq_msg_more(&self->head); more; parts++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, self->handle, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(&part);
        if (parts == 0) zmq_msg_move(first, &part);
        zmq_msg_close(&part);
    }
    return parts;
}

/*  Only a BLOCK has a frame 1, and nothing has more. One that comes from within the
    process is taken as it is.                                                      */
static weir_err read_parts(weir_socket *self, weir_frame *frame, zmq_msg_t *first,
                           int parts, weir_block **body_p)
{
    const void *head = zmq_msg_data(&self->head);
    weir_block *block = NULL;
    weir_handover_take(head);
    if (parts) weir_handover_take(zmq_msg_data(first));
    if (parts && !self->monitor)
        block = weir_flight_find(zmq_msg_data(first), zmq_msg_size(first));
    weir_err err = weir_frame_read(frame, head, zmq_msg_size(&self->head),
                                   block ? NULL : &self->scratch);
    if (!err && parts != (frame->type == WEIR_BLOCK)) err = WEIR_EMALFORMED;
    if (!err && block && weir_block_records(block) != frame->records)
        err = WEIR_EMALFORMED;
    if (err)
        weir_block_destroy(&block);
    else if (parts && !block)
        block = wrap_body(first, frame);
    *body_p = block;
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
    zmq_msg_t first;
    int parts = recv_rest(self, &first);
    weir_err err = read_parts(self, &message->frame, &first, parts, body_p);
    zmq_msg_close(&first);
    return err;
}
