#include "actors/bus.h"
#include "actors/bus_local.h"
#include "actors/bus_sender.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/utf8.h"
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

const weir_bus_config weir_bus_defaults = {
    .name = "bus",
    .window_bytes = 32 << 20,
    .block_bytes = 64 << 10,
    .record_max = 8 << 20,
    .linger_us = 5000,
    .wait_us = WEIR_FOREVER,
    .heartbeat_us = 1000000,
    .connect_us = 5000000,
};

/*  The thread blocks nowhere; so long it takes only where the machine stands still. */
static const int stop_ms = 60000;

/*  Of a bus elsewhere, which has no options for them.                              */
static const int64_t usual_us = 30000000;

struct weir_bus {
    char *name, *connect, *server; // owned
    weir_realm *own_realm;         // NULL: lent, or none needed
    weir_bus_local *local;         // NULL: it is elsewhere
    size_t record_max;
    int64_t flush_us, drain_us; // WEIR_BUS_DEADLINE
    weir_bus_queue *queue;
    weir_vitals vitals;
    sem_t ended;
    weir_report report; // of the thread's start
    weir_bus_sender_config config;
    zactor_t *actor;
    pthread_mutex_t lock; // of all that follows
    pthread_cond_t closed;
    enum { OPEN = 0, CLOSING, CLOSED } ending;
    bool stuck;      // a thread does not end, and keeps what it uses
    uint64_t unsafe; // of CLOSED
};

/* --- Starting ---------------------------------------------------------------------- */

static char *copy(const char *text)
{
    char *dup = text ? strdup(text) : NULL;
    if (text && !dup) abort();
    return dup;
}

static weir_err check_endpoint(const weir_bus_config *c, weir_report *report)
{
    weir_endpoint endpoint = {
        .endpoint = c->connect, .server = c->server, .plaintext = c->plaintext};
    if (c->options || c->state_dir || c->take || c->reader || c->store)
        return weir_report_set(report, WEIR_EINVAL, "connect",
                               "a bus elsewhere has its own options and readers");
    return weir_endpoint_check(&endpoint, false, report);
}

static weir_err check(const weir_bus_config *c, weir_report *report)
{
    if (!c->window_bytes || !c->block_bytes || !c->record_max || c->linger_us < 0 ||
        c->wait_us < 0 || c->heartbeat_us <= 0 || c->connect_us <= 0)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "sizes and times must be positive: begin with "
                               "weir_bus_defaults");
    if (c->keys && c->realm)
        return weir_report_set(report, WEIR_EINVAL, "keys",
                               "either keys or a realm, not both");
    return c->connect ? check_endpoint(c, report) : WEIR_OK;
}

static void wake_actor(void *arg)
{
    weir_bus *self = arg;
    eventfd_write(self->config.wake_fd, 1);
}

static weir_err look_at_local(void *arg, weir_report *report)
{
    weir_bus *self = arg;
    return weir_bus_local_news(self->local, report);
}

static weir_err open_realm(weir_bus *self, const weir_bus_config *c, weir_report *report)
{
    self->config.node.realm = c->realm;
    if (c->realm || !weir_endpoint_is_foreign(c->connect)) return WEIR_OK;
    weir_err err = weir_realm_new(&self->own_realm, c->keys, report);
    self->config.node.realm = self->own_realm;
    return err;
}

/*  A record above half of a ring finds no room in any.                             */
static weir_err open_local(weir_bus *self, const weir_bus_config *c, weir_report *report)
{
    weir_err err = weir_bus_local_new(&self->local, c, self->config.look_fd, report);
    if (err) return err;
    const weir_bus_options *options = weir_bus_local_options(self->local);
    size_t most = (size_t)options->ring_bytes / 2;
    if (self->record_max > most) self->record_max = most;
    self->flush_us = options->flush_timeout_us;
    self->drain_us = options->drain_timeout_us;
    self->config.route = weir_bus_local_route(self->local);
    self->config.look = look_at_local;
    self->config.arg = self;
    return WEIR_OK;
}

static weir_err open_descriptors(weir_bus *self, weir_report *report)
{
    int *fds[] = {&self->config.told_fd, &self->config.wake_fd, &self->config.look_fd};
    for (int i = 0; i < 3; i++)
        if ((*fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
            return weir_report_set(report, WEIR_ESYS, NULL, "cannot make an eventfd: %s",
                                   strerror(errno));
    return WEIR_OK;
}

static void fill_node(weir_bus *self, const weir_bus_config *c)
{
    weir_node *node = &self->config.node;
    node->name = self->name;
    node->ledger = c->ledger;
    node->vitals = &self->vitals;
    node->window_bytes = c->window_bytes;
    node->block_bytes = c->block_bytes;
    node->record_max = c->record_max;
    node->report = &self->report;
    node->ended = &self->ended;
}

static void fill(weir_bus *self, const weir_bus_config *c)
{
    self->name = copy(c->name && *c->name ? c->name : weir_bus_defaults.name);
    self->connect = copy(c->connect);
    self->server = copy(c->server);
    self->record_max = c->record_max;
    self->flush_us = self->drain_us = usual_us;
    self->config.endpoint = (weir_endpoint){.endpoint = self->connect,
                                            .plaintext = c->plaintext,
                                            .server = self->server,
                                            .heartbeat_us = c->heartbeat_us,
                                            .connect_us = c->connect_us};
    fill_node(self, c);
    self->queue = self->config.queue =
        weir_bus_queue_new(&(weir_bus_queue_config){.ledger = c->ledger,
                                                    .source = self->name,
                                                    .window_bytes = c->window_bytes,
                                                    .block_bytes = c->block_bytes,
                                                    .linger_us = c->linger_us,
                                                    .wait_us = c->wait_us,
                                                    .wake = wake_actor,
                                                    .arg = self});
}

static weir_err start_sender(weir_bus *self, weir_report *report)
{
    self->actor = zactor_new(weir_bus_sender, &self->config);
    weir_handover_take(&self->report);
    weir_err err = self->report.err;
    if (!self->actor && !err)
        err = weir_report_set(&self->report, WEIR_ESYS, NULL, "no thread or socket");
    if (!err) err = weir_actor_ask(self->actor, NULL, "START", NULL);
    if (report && err) *report = self->report;
    return err;
}

/*  With all signals blocked, which the new threads inherit, and so that none cuts the
    waiting for their start short.                                                  */
static weir_err start(weir_bus *self, const weir_bus_config *c, weir_report *report)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    weir_err err = c->connect ? open_realm(self, c, report) : open_local(self, c, report);
    if (!err) err = start_sender(self, report);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

static void free_bus(weir_bus *self)
{
    weir_bus_local_destroy(&self->local);
    weir_bus_queue_destroy(&self->queue);
    weir_realm_destroy(&self->own_realm);
    if (self->config.told_fd >= 0) close(self->config.told_fd);
    if (self->config.wake_fd >= 0) close(self->config.wake_fd);
    if (self->config.look_fd >= 0) close(self->config.look_fd);
    pthread_mutex_destroy(&self->vitals.lock);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->closed);
    sem_destroy(&self->ended);
    free(self->name);
    free(self->connect);
    free(self->server);
    free(self);
}

weir_err weir_bus_new(weir_bus **self_p, const weir_bus_config *config,
                      weir_report *report)
{
    weir_report unread;
    *self_p = NULL;
    if (!report) report = &unread;
    weir_err err = check(config, report);
    if (err) return err;
    weir_socket_prepare();
    weir_bus *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->vitals = (weir_vitals)WEIR_VITALS_INIT;
    self->config.wake_fd = self->config.told_fd = self->config.look_fd = -1;
    sem_init(&self->ended, 0, 0);
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->closed, NULL);
    fill(self, config);
    err = open_descriptors(self, report);
    if (!err) err = start(self, config, report);
    if (err) {
        weir_bus_destroy(&self, 0);
        return err;
    }
    if (self->local) weir_bus_local_own_store(self->local);
    *self_p = self;
    return WEIR_OK;
}

/* --- Ending ------------------------------------------------------------------------ */

static int64_t timeout_us(int timeout_ms, int64_t usual)
{
    if (timeout_ms == WEIR_BUS_DEADLINE) return usual;
    return timeout_ms < 0 ? -1 : (int64_t)timeout_ms * 1000;
}

/*  Shards settle records in the order of each, not of tickets: what a shard has not
    settled, and what never came to one. Where a full ring sends blocks back they are
    offered again.                                                                  */
static uint64_t count_unsafe(weir_bus *self)
{
    uint64_t appended = weir_bus_appended(self);
    if (!self->local) return appended - weir_bus_acked(self);
    weir_bus_sums sums;
    weir_bus_local_audit(self->local, &sums);
    uint64_t settled = sums.offered - sums.resident;
    if (weir_bus_local_options(self->local)->overflow == WEIR_OVERFLOW_FAIL)
        settled -= sums.full;
    return appended - settled;
}

static uint64_t end(weir_bus *self, int64_t timeout)
{
    int64_t until_us = weir_clock_now_us() + timeout;
    weir_bus_queue_end(self->queue);
    if (self->local) weir_bus_local_drain(self->local);
    if (timeout) weir_bus_queue_flush(self->queue, timeout);
    self->stuck = weir_actor_stop(&self->actor, &self->ended, stop_ms) != WEIR_OK;
    weir_bus_queue_close(self->queue);
    if (self->local && !self->stuck) {
        int64_t left = timeout < 0 ? usual_us : until_us - weir_clock_now_us();
        self->stuck = weir_bus_local_end(self->local, left) != WEIR_OK;
    }
    return count_unsafe(self);
}

uint64_t weir_bus_close(weir_bus *self, int timeout_ms)
{
    pthread_mutex_lock(&self->lock);
    bool first = self->ending == OPEN;
    if (first) {
        self->ending = CLOSING;
        pthread_mutex_unlock(&self->lock);
        uint64_t unsafe = end(self, timeout_us(timeout_ms, self->drain_us));
        pthread_mutex_lock(&self->lock);
        self->unsafe = unsafe;
        self->ending = CLOSED;
        pthread_cond_broadcast(&self->closed);
    }
    while (self->ending != CLOSED)
        pthread_cond_wait(&self->closed, &self->lock);
    uint64_t unsafe = self->unsafe;
    pthread_mutex_unlock(&self->lock);
    return unsafe;
}

uint64_t weir_bus_destroy(weir_bus **self_p, int timeout_ms)
{
    weir_bus *self = *self_p;
    *self_p = NULL;
    if (!self) return 0;
    uint64_t unsafe = weir_bus_close(self, timeout_ms);
    if (!self->stuck) free_bus(self);
    return unsafe;
}

/* --- Appending --------------------------------------------------------------------- */

weir_err weir_bus_append(weir_bus *self, const weir_record *record, uint64_t *ticket)
{
    if (record->size > self->record_max || record->headers_size > self->record_max ||
        record->key.size > self->record_max)
        return WEIR_ETOOBIG;
    weir_buffer encoded = {0};
    weir_record_put(record, &encoded);
    weir_record checked;
    weir_reader reader = {encoded.data, encoded.data + encoded.size};
    weir_err err = weir_record_read(&checked, &reader, false);
    if (record->format == WEIR_JSON && !weir_utf8_valid(record->data, record->size))
        err = WEIR_EMALFORMED;
    if (!err && reader.at != reader.end) err = WEIR_EMALFORMED;
    if (err) err = WEIR_EMALFORMED;
    if (!err && encoded.size > self->record_max) err = WEIR_ETOOBIG;
    if (!err)
        err = weir_bus_queue_encoded(self->queue, encoded.data, encoded.size, ticket);
    weir_buffer_fini(&encoded);
    return err;
}

/*  What a payload alone has around it.                                             */
static const size_t payload_slack = 9;

weir_err weir_bus_append_payload(weir_bus *self, weir_format format, const void *data,
                                 size_t size, uint64_t *ticket)
{
    if (format == WEIR_MSGPACK) {
        weir_record record = {.format = format, .data = data, .size = size};
        return weir_bus_append(self, &record, ticket);
    }
    if (size + payload_slack > self->record_max) return WEIR_ETOOBIG;
    return weir_bus_queue_payload(self->queue, format, data, size, ticket);
}

weir_err weir_bus_flush(weir_bus *self, int timeout_ms)
{
    return weir_bus_queue_flush(self->queue, timeout_us(timeout_ms, self->flush_us));
}

/* --- Looking ----------------------------------------------------------------------- */

uint64_t weir_bus_acked(const weir_bus *self)
{
    return weir_bus_queue_acked(self->queue);
}

uint64_t weir_bus_appended(const weir_bus *self)
{
    return weir_bus_queue_appended(self->queue);
}

int weir_bus_fd(const weir_bus *self)
{
    return self->config.told_fd;
}

static bool is_closed(weir_bus *self)
{
    pthread_mutex_lock(&self->lock);
    bool closed = self->ending != OPEN;
    pthread_mutex_unlock(&self->lock);
    return closed;
}

/*  Whether a link of it is down; then the report says which.                       */
static bool lacks_a_link(weir_vitals *vitals, weir_report *report)
{
    weir_wait waits[WEIR_WAITS_MAX];
    size_t count = weir_vitals_waits(vitals, waits);
    for (size_t i = 0; i < count; i++) {
        if (waits[i].kind != WEIR_WAIT_LINK) continue;
        weir_report_set(report, WEIR_ECLOSED, waits[i].subject, "%s", waits[i].text);
        return true;
    }
    return false;
}

weir_bus_condition weir_bus_health(weir_bus *self, weir_report *report)
{
    if (report) *report = (weir_report){0};
    if (self->vitals.state == WEIR_STATE_FAILED) {
        if (report) weir_vitals_reason(&self->vitals, report);
        return WEIR_BUS_DOWN;
    }
    if (is_closed(self)) {
        weir_report_set(report, WEIR_ECLOSED, NULL, "the bus is closed");
        return WEIR_BUS_DOWN;
    }
    if (lacks_a_link(&self->vitals, report)) return WEIR_BUS_WAITING;
    bool waits = self->local && lacks_a_link(weir_bus_local_vitals(self->local), report);
    return waits ? WEIR_BUS_WAITING : WEIR_BUS_OPEN;
}

/* --- A bus in this process --------------------------------------------------------- */

size_t weir_bus_look(weir_bus *self, weir_bus_shard *shards, size_t max)
{
    return self->local ? weir_bus_local_look(self->local, shards, max) : 0;
}

void weir_bus_audit(weir_bus *self, weir_bus_sums *sums)
{
    if (self->local)
        weir_bus_local_audit(self->local, sums);
    else
        *sums = (weir_bus_sums){0};
}

weir_err weir_bus_scale(weir_bus *self, uint32_t shards, int timeout_ms,
                        weir_report *report)
{
    if (!self->local)
        return weir_report_set(report, WEIR_EINVAL, NULL, "this bus is elsewhere");
    return weir_bus_local_scale(self->local, shards,
                                timeout_us(timeout_ms, self->flush_us), report);
}

weir_poller *weir_bus_poller(weir_bus *self)
{
    return self->local ? weir_bus_local_poller(self->local) : NULL;
}

weir_groups *weir_bus_groups(weir_bus *self)
{
    return self->local ? weir_bus_local_groups(self->local) : NULL;
}
