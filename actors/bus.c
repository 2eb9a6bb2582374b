#include "actors/bus.h"
#include "actors/bus_queue.h"
#include "runtime/actor.h"
#include "runtime/handover.h"
#include "runtime/utf8.h"
#include <assert.h>
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

/*  Blocks that one turn sends before it looks for acknowledgements.           */
static const int blocks_a_turn = 64;

/*  The thread blocks nowhere; so long it takes only where the machine stands still. */
static const int stop_ms = 60000;

/*  What the actor's thread is given.                                          */
typedef struct {
    weir_node node;
    weir_endpoint endpoint;
    weir_bus_queue *queue;
    int wake_fd; // eventfd: something to take
    int told_fd; // eventfd, the host's: acknowledged, or down
} bus_actor_config;

struct weir_bus {
    char *name, *connect, *server; // owned
    weir_realm *own_realm;         // NULL: lent, or none needed
    size_t record_max;
    weir_bus_queue *queue;
    weir_vitals vitals;
    sem_t ended;
    weir_report report; // of the thread's start
    bus_actor_config config;
    zactor_t *actor;
};

/* --- The actor: lifecycle ---------------------------------------------------------- */

typedef struct {
    weir_actor *kit;
    const bus_actor_config *config;
    int port;
    weir_lane lane;
} bus_actor;

static void clear(int fd)
{
    eventfd_t count;
    eventfd_read(fd, &count);
}

static void woken(void *arg)
{
    bus_actor *self = arg;
    clear(self->config->wake_fd); // turn () follows every wake-up
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    bus_actor *self = arg;
    const char *name = weir_actor_node(kit)->name;
    self->kit = kit;
    self->config = config;
    self->port = weir_actor_port(kit, name);
    weir_err err = weir_actor_watch(kit, self->config->wake_fd, woken);
    if (err)
        return weir_report_set(report, err, NULL, "cannot wait for appends: %s",
                               strerror(errno));
    return weir_actor_connect(kit, name, &self->config->endpoint, NULL, report);
}

static void fini(void *arg)
{
    bus_actor *self = arg;
    weir_actor_lane_fini(self->kit, &self->lane);
}

/* --- The actor: sending ------------------------------------------------------------ */

static void linger_over(void *arg)
{
    (void)arg; // turn () follows every wake-up
}

static void send_block(bus_actor *self, weir_block **block_p, uint64_t last)
{
    uint32_t records = weir_block_records(*block_p);
    weir_entry *entry = weir_actor_open(self->kit, &self->lane, records, last, 0);
    entry->fates.done = records;
    weir_actor_send(self->kit, self->port, block_p, entry);
    weir_actor_done(self->kit, entry);
}

static bool turn(void *arg)
{
    bus_actor *self = arg;
    for (int i = 0; i < blocks_a_turn; i++) {
        uint64_t last;
        int64_t wait_us;
        if (!weir_actor_has_room(self->kit)) return false;
        weir_block *block = weir_bus_queue_take(self->config->queue, &last, &wait_us);
        if (!block) {
            weir_actor_timer(self->kit, linger_over, wait_us);
            return false;
        }
        send_block(self, &block, last);
    }
    return true;
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)report;
    bus_actor *self = arg;
    weir_bus_queue_ack(self->config->queue, entry->position);
    eventfd_write(self->config->told_fd, 1);
    return WEIR_OK;
}

static void failed(void *arg)
{
    bus_actor *self = arg;
    weir_bus_queue_close(self->config->queue);
    eventfd_write(self->config->told_fd, 1);
}

static const weir_option no_options[] = {{.name = NULL}};

static void run_bus(zsock_t *pipe, void *config);
static const weir_class bus_class = {
    .name = "bus",
    .help = "sends what a C program appends",
    .actor = run_bus,
    .size = sizeof(bus_actor),
    .config_size = sizeof(bus_actor_config),
    .options = no_options,
    .source = true,
    .init = init,
    .fini = fini,
    .turn = turn,
    .commit = commit,
    .failed = failed,
};

static void run_bus(zsock_t *pipe, void *config)
{
    weir_actor_run(&bus_class, pipe, config);
}

/* --- The facade: starting ---------------------------------------------------------- */

static char *copy(const char *text)
{
    char *dup = text ? strdup(text) : NULL;
    if (text && !dup) abort();
    return dup;
}

static weir_err check(const weir_bus_config *c, weir_report *report)
{
    weir_endpoint endpoint = {
        .endpoint = c->connect, .server = c->server, .plaintext = c->plaintext};
    if (!c->connect)
        return weir_report_set(report, WEIR_EINVAL, "connect",
                               "the bus must be told which inlet to connect to");
    if (!c->window_bytes || !c->block_bytes || !c->record_max || c->linger_us < 0 ||
        c->wait_us < 0 || c->heartbeat_us <= 0 || c->connect_us <= 0)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "sizes and times must be positive: begin with "
                               "weir_bus_defaults");
    if (c->keys && c->realm)
        return weir_report_set(report, WEIR_EINVAL, "keys",
                               "either keys or a realm, not both");
    return weir_endpoint_check(&endpoint, false, report);
}

static void wake_actor(void *arg)
{
    weir_bus *self = arg;
    eventfd_write(self->config.wake_fd, 1);
}

static weir_err open_realm(weir_bus *self, const weir_bus_config *c, weir_report *report)
{
    self->config.node.realm = c->realm;
    if (c->realm || !weir_endpoint_is_foreign(c->connect)) return WEIR_OK;
    weir_err err = weir_realm_new(&self->own_realm, c->keys, report);
    self->config.node.realm = self->own_realm;
    return err;
}

static weir_err open_descriptors(weir_bus *self, weir_report *report)
{
    self->config.told_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->config.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->config.told_fd >= 0 && self->config.wake_fd >= 0) return WEIR_OK;
    return weir_report_set(report, WEIR_ESYS, NULL, "cannot make an eventfd: %s",
                           strerror(errno));
}

static void fill(weir_bus *self, const weir_bus_config *c)
{
    self->name = copy(c->name && *c->name ? c->name : weir_bus_defaults.name);
    self->connect = copy(c->connect);
    self->server = copy(c->server);
    self->record_max = c->record_max;
    self->config.endpoint = (weir_endpoint){.endpoint = self->connect,
                                            .plaintext = c->plaintext,
                                            .server = self->server,
                                            .heartbeat_us = c->heartbeat_us,
                                            .connect_us = c->connect_us};
    weir_node *node = &self->config.node;
    node->name = self->name;
    node->ledger = c->ledger;
    node->vitals = &self->vitals;
    node->window_bytes = c->window_bytes;
    node->block_bytes = c->block_bytes;
    node->record_max = c->record_max;
    node->report = &self->report;
    node->ended = &self->ended;
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

/*  With all signals blocked, which the new thread inherits, and so that none cuts the
    waiting for its start short.                                               */
static weir_err start(weir_bus *self, weir_report *report)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    self->actor = zactor_new(run_bus, &self->config);
    weir_handover_take(&self->report);
    weir_err err = self->report.err;
    if (!err) err = weir_actor_ask(self->actor, NULL, "START", NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (report && err) *report = self->report;
    return err;
}

static void free_bus(weir_bus *self)
{
    weir_bus_queue_destroy(&self->queue);
    weir_realm_destroy(&self->own_realm);
    if (self->config.told_fd >= 0) close(self->config.told_fd);
    if (self->config.wake_fd >= 0) close(self->config.wake_fd);
    pthread_mutex_destroy(&self->vitals.lock);
    sem_destroy(&self->ended);
    free(self->name);
    free(self->connect);
    free(self->server);
    free(self);
}

weir_err weir_bus_new(weir_bus **self_p, const weir_bus_config *config,
                      weir_report *report)
{
    *self_p = NULL;
    weir_err err = check(config, report);
    if (err) return err;
    weir_socket_prepare();
    weir_bus *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->vitals = (weir_vitals)WEIR_VITALS_INIT;
    self->config.wake_fd = self->config.told_fd = -1;
    sem_init(&self->ended, 0, 0);
    fill(self, config);
    err = open_descriptors(self, report);
    if (!err) err = open_realm(self, config, report);
    if (!err) err = start(self, report);
    if (err)
        weir_bus_destroy(&self, 0);
    else
        *self_p = self;
    return err;
}

/* --- The facade: ending ------------------------------------------------------------ */

uint64_t weir_bus_destroy(weir_bus **self_p, int timeout_ms)
{
    weir_bus *self = *self_p;
    *self_p = NULL;
    if (!self) return 0;
    if (timeout_ms != 0) weir_bus_flush(self, timeout_ms);
    weir_err err = weir_actor_stop(&self->actor, &self->ended, stop_ms);
    uint64_t unsafe = weir_bus_appended(self) - weir_bus_acked(self);
    if (err == WEIR_OK) free_bus(self); // else its thread still uses it
    return unsafe;
}

/* --- The facade: appending --------------------------------------------------------- */

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

weir_err weir_bus_append_payload(weir_bus *self, weir_format format, const void *data,
                                 size_t size, uint64_t *ticket)
{
    if (format == WEIR_MSGPACK) {
        weir_record record = {.format = format, .data = data, .size = size};
        return weir_bus_append(self, &record, ticket);
    }
    if (size > self->record_max) return WEIR_ETOOBIG;
    if (format == WEIR_JSON && !weir_utf8_valid(data, size)) return WEIR_EMALFORMED;
    return weir_bus_queue_payload(self->queue, format, data, size, ticket);
}

weir_err weir_bus_flush(weir_bus *self, int timeout_ms)
{
    return weir_bus_queue_flush(self->queue, (int64_t)timeout_ms * 1000);
}

/* --- The facade: looking ----------------------------------------------------------- */

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

weir_bus_condition weir_bus_state(weir_bus *self, weir_report *report)
{
    if (report) *report = (weir_report){0};
    if (self->vitals.state == WEIR_STATE_FAILED) {
        if (report) weir_vitals_reason(&self->vitals, report);
        return WEIR_BUS_DOWN;
    }
    weir_wait waits[WEIR_WAITS_MAX];
    size_t count = weir_vitals_waits(&self->vitals, waits);
    for (size_t i = 0; i < count; i++) {
        if (waits[i].kind != WEIR_WAIT_LINK) continue;
        weir_report_set(report, WEIR_ECLOSED, waits[i].subject, "%s", waits[i].text);
        return WEIR_BUS_WAITING;
    }
    return WEIR_BUS_OPEN;
}
