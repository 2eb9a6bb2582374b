#include "runtime/uplink.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/*  How many messages one uplink may hand in before the others get a turn.      */
#define MESSAGES_A_TURN 64

const weir_backoff weir_backoff_defaults = {
    .first_us = 100000,
    .max_us = 500000,
    .refused_us = 10000000,
};

static const int64_t default_connect_us = 5000000;

typedef enum { AWAY, CONNECTING, GREETING, OPEN } uplink_state;

struct weir_uplink {
    weir_uplink_config config;
    bool foreign;
    uplink_state state;
    int64_t due_us;  // AWAY: of the next attempt; CONNECTING, GREETING: of its end
    int64_t wait_us; // backoff of the next attempt, 0: the first
    uint64_t connects;
    weir_socket *socket; // NULL: away
    weir_outlet *outlet;
    bool readable, changed; // the socket, its monitor
    char trouble[256];      // why it is not open
    char logged[256];       // the trouble that was logged last
};

/* --- Losing ------------------------------------------------------------------------ */

static void close_socket(weir_uplink *self)
{
    if (!self->socket) return;
    weir_loop_unwatch(self->config.loop, weir_socket_fd(self->socket));
    if (self->foreign)
        weir_loop_unwatch(self->config.loop, weir_socket_monitor_fd(self->socket));
    weir_socket_close(&self->socket);
    self->readable = self->changed = false;
}

/*  +- 20 %, so that many that lost the same peer do not come back together.    */
static int64_t jitter(int64_t us)
{
    uint32_t random = 0;
    ssize_t n = getrandom(&random, sizeof random, GRND_NONBLOCK);
    (void)n;
    return us * 4 / 5 + (int64_t)(random % 1000) * (us * 2 / 5) / 1000;
}

static int64_t next_wait(weir_uplink *self)
{
    const weir_backoff *b = &self->config.backoff;
    int64_t wait = self->wait_us ? self->wait_us : b->first_us;
    self->wait_us = 2 * wait < b->max_us ? 2 * wait : b->max_us;
    return jitter(wait);
}

/*  The same trouble again and again is logged once.                            */
static void log_trouble(weir_uplink *self)
{
    if (!self->foreign || strcmp(self->trouble, self->logged) == 0) return;
    memcpy(self->logged, self->trouble, sizeof self->logged);
    weir_log(WEIR_WARN, "link is down at=%s cause=\"%s\"", self->config.endpoint.endpoint,
             self->trouble);
}

/*  The connection, or the attempt, is over; for_us: until the next one.        */
static void lose(weir_uplink *self, int64_t for_us, const char *trouble)
{
    snprintf(self->trouble, sizeof self->trouble, "%s", trouble);
    log_trouble(self);
    close_socket(self);
    weir_outlet_disconnect(self->outlet);
    self->state = AWAY;
    self->due_us = weir_clock_now_us() + for_us;
    self->config.wake(self->config.arg);
}

static void lose_for_a_while(weir_uplink *self, const char *trouble)
{
    lose(self, next_wait(self), trouble);
}

static void lose_refused(weir_uplink *self, const char *trouble)
{
    lose(self, self->config.backoff.refused_us, trouble);
}

/* --- Outlet's events --------------------------------------------------------------- */

static weir_err send_up(void *arg, const weir_frame *frame, weir_block *body)
{
    weir_uplink *self = arg;
    return self->socket ? weir_socket_send(self->socket, NULL, 0, frame, body)
                        : WEIR_ECLOSED;
}

static void acked(void *arg, uint64_t sequence)
{
    weir_uplink *self = arg;
    self->config.acked(self->config.arg, sequence);
}

static void refused(void *arg, uint64_t sequence, weir_block *block, const char *code,
                    const char *text)
{
    weir_uplink *self = arg;
    self->config.refused(self->config.arg, sequence, block, code, text);
}

/*  Called while a message is being read: the socket is closed after that, by
    read_messages, which looks at the state.                                    */
static void closed(void *arg, const char *code, const char *text, bool retryable)
{
    weir_uplink *self = arg;
    char trouble[300];
    snprintf(trouble, sizeof trouble, "the other side ended the link: %s: %s", code,
             text);
    if (retryable)
        lose_for_a_while(self, trouble);
    else if (self->foreign)
        lose_refused(self, trouble);
    else
        self->config.failed(self->config.arg, WEIR_ECLOSED, trouble);
}

static const weir_outlet_events outlet_events = {
    .send = send_up,
    .acked = acked,
    .refused = refused,
    .closed = closed,
};

/* --- Connecting -------------------------------------------------------------------- */

static void wake_socket(void *arg)
{
    weir_uplink *self = arg;
    self->readable = true;
    self->config.wake(self->config.arg);
}

static void wake_monitor(void *arg)
{
    weir_uplink *self = arg;
    self->changed = true;
    self->config.wake(self->config.arg);
}

static int64_t connect_us(const weir_uplink *self)
{
    int64_t us = self->config.endpoint.connect_us;
    return us ? us : default_connect_us;
}

static void greet(weir_uplink *self)
{
    self->state = GREETING;
    self->due_us = self->foreign ? weir_clock_now_us() + connect_us(self) : -1;
    self->readable = true;
    if (weir_outlet_connect(self->outlet))
        lose_for_a_while(self, "the connection is gone");
}

static weir_err attempt(weir_uplink *self, weir_report *report)
{
    weir_loop *loop = self->config.loop;
    weir_err err = weir_socket_connect(&self->socket, &self->config.endpoint, report);
    if (err) return err;
    err = weir_loop_watch(loop, weir_socket_fd(self->socket), true, wake_socket, self);
    if (!err && self->foreign)
        err = weir_loop_watch(loop, weir_socket_monitor_fd(self->socket), true,
                              wake_monitor, self);
    if (err) {
        close_socket(self);
        return weir_report_set(report, err, NULL, "no descriptors left");
    }
    self->state = CONNECTING;
    self->due_us = weir_clock_now_us() + connect_us(self);
    self->readable = self->changed = true;
    if (!self->foreign) greet(self);
    return WEIR_OK;
}

static void attempt_again(weir_uplink *self)
{
    weir_report report = {0};
    if (attempt(self, &report)) lose_for_a_while(self, report.text);
    self->config.wake(self->config.arg);
}

/* --- The connection's events ------------------------------------------------------- */

/*  Which side sees first that they do not agree, and hangs up, is chance: one text for
    both, so that the log does not flutter.                                      */
static void lose_handshake(weir_uplink *self)
{
    const weir_endpoint *endpoint = &self->config.endpoint;
    char trouble[200] = "the handshake failed";
    if (endpoint->server)
        snprintf(trouble, sizeof trouble,
                 "the handshake failed: it speaks no CURVE, or has not the key of '%s' "
                 "(weir keys doctor tells)",
                 endpoint->server);
    else if (endpoint->plaintext)
        snprintf(trouble, sizeof trouble,
                 "the handshake failed: it speaks CURVE, or no ZeroMQ at all");
    lose_for_a_while(self, trouble);
}

static void read_change(weir_uplink *self, weir_connection_change change)
{
    switch (change) {
    case WEIR_CONNECTION_READY:
        if (self->state == CONNECTING) greet(self);
        break;
    case WEIR_CONNECTION_REFUSED:
        lose_refused(self, "the other side refuses our key: it must allow it (weir keys "
                           "doctor tells there whom it refused, and why)");
        break;
    case WEIR_CONNECTION_BROKEN:
        if (self->state == CONNECTING) lose_handshake(self);
        break;
    case WEIR_CONNECTION_FAILED:
        if (self->state == CONNECTING) lose_for_a_while(self, "nobody answers there");
        break;
    case WEIR_CONNECTION_LOST:
        if (self->state == CONNECTING)
            lose_handshake(self);
        else
            lose_for_a_while(self, "the connection was lost");
        break;
    case WEIR_CONNECTION_ACCEPTED:
        break;
    }
}

static void read_changes(weir_uplink *self)
{
    weir_connection_event event;
    self->changed = false;
    while (self->socket && weir_socket_next_event(self->socket, &event))
        read_change(self, event.change);
}

/* --- Messages ---------------------------------------------------------------------- */

static void note_welcome(weir_uplink *self)
{
    if (self->state != GREETING || !weir_outlet_is_open(self->outlet)) return;
    self->state = OPEN;
    self->due_us = -1;
    self->wait_us = 0;
    self->connects++;
    self->trouble[0] = 0;
    if (!self->foreign || (!self->logged[0] && self->connects == 1)) return;
    self->logged[0] = 0;
    weir_log(WEIR_INFO, "link is up at=%s", self->config.endpoint.endpoint);
}

static void distrust(weir_uplink *self, weir_err err)
{
    if (self->foreign)
        lose_refused(self, "what answers there does not speak this protocol");
    else
        self->config.failed(self->config.arg, err, "the reader broke the protocol");
}

/*  True: there is more.                                                        */
static bool read_messages(weir_uplink *self)
{
    weir_message message;
    weir_block *body;
    for (int i = 0; i < MESSAGES_A_TURN && self->socket; i++) {
        weir_err err = weir_socket_recv(self->socket, &message, &body);
        weir_block_destroy(&body);
        if (err == WEIR_ENOTFOUND) return self->readable = false;
        if (!err) err = weir_outlet_recv(self->outlet, &message.frame);
        if (err) {
            distrust(self, err);
            return false;
        }
        note_welcome(self);
    }
    return self->socket;
}

bool weir_uplink_read(weir_uplink *self)
{
    /*  What came before the connection ended still counts: it is read first.   */
    if (self->changed) self->readable = true;
    bool more = self->readable && read_messages(self);
    if (self->changed && !more) read_changes(self);
    return more;
}

bool weir_uplink_flush(weir_uplink *self)
{
    weir_outlet_flush(self->outlet);
    if (self->socket && !self->readable)
        self->readable = weir_socket_readable(self->socket);
    return self->readable;
}

void weir_uplink_distrust(weir_uplink *self, const char *cause)
{
    if (self->state != AWAY) lose_refused(self, cause);
}

/* --- Time -------------------------------------------------------------------------- */

int64_t weir_uplink_deadline(const weir_uplink *self)
{
    return self->state == OPEN ? -1 : self->due_us;
}

void weir_uplink_run_due(weir_uplink *self)
{
    if (self->state == OPEN || self->due_us < 0 || self->due_us > weir_clock_now_us())
        return;
    if (self->state == AWAY)
        attempt_again(self);
    else
        lose_for_a_while(self,
                         self->state == GREETING
                             ? "it shook hands and then does not answer"
                             : "no answer: nobody knows such a host, it is away, or "
                               "what listens there is stopped");
}

/* --- Life -------------------------------------------------------------------------- */

weir_err weir_uplink_new(weir_uplink **self_p, const weir_uplink_config *config,
                         weir_report *report)
{
    weir_uplink *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->foreign = weir_endpoint_is_foreign(config->endpoint.endpoint);
    self->due_us = -1;
    snprintf(self->trouble, sizeof self->trouble, "not connected yet");
    weir_outlet_config outlet = config->outlet;
    outlet.events = &outlet_events;
    outlet.arg = self;
    self->outlet = weir_outlet_new(&outlet);
    weir_err err = attempt(self, report);
    if (err) weir_uplink_destroy(&self);
    *self_p = self;
    return err;
}

void weir_uplink_destroy(weir_uplink **self_p)
{
    weir_uplink *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    close_socket(self);
    weir_outlet_destroy(&self->outlet);
    free(self);
}

/* --- Looking ----------------------------------------------------------------------- */

weir_outlet *weir_uplink_outlet(const weir_uplink *self)
{
    return self->outlet;
}

const char *weir_uplink_trouble(const weir_uplink *self)
{
    return self->trouble;
}

uint64_t weir_uplink_connects(const weir_uplink *self)
{
    return self->connects;
}
