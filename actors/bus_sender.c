#include "actors/bus_sender.h"
#include "runtime/log.h"
#include <assert.h>
#include <sys/eventfd.h>

/*  Blocks that one turn sends before it looks for acknowledgements.           */
static const int blocks_a_turn = 64;

typedef struct {
    weir_actor *kit;
    const weir_bus_sender_config *config;
    int port;
    weir_lane lane;
    uint64_t sent;    // ticket up to which everything was
    uint64_t flushed; // ticket that the last token stands behind
    bool flushing;    // it is not answered
} sender;

/* --- Lifecycle --------------------------------------------------------------------- */

static void clear(int fd)
{
    eventfd_t count;
    eventfd_read(fd, &count);
}

static void woken(void *arg)
{
    sender *self = arg;
    clear(self->config->wake_fd); // turn () follows every wake-up
}

static void look(void *arg)
{
    sender *self = arg;
    weir_report report = {0};
    clear(self->config->look_fd);
    if (self->config->look(self->config->arg, &report))
        weir_actor_fail(self->kit, report.err, report.where, "%s", report.text);
}

static weir_err watch(sender *self, weir_report *report)
{
    const weir_bus_sender_config *c = self->config;
    weir_err err = weir_actor_watch(self->kit, c->wake_fd, woken);
    if (!err && c->look_fd >= 0) err = weir_actor_watch(self->kit, c->look_fd, look);
    return err ? weir_report_set(report, err, NULL, "cannot wait for appends: %s",
                                 strerror(errno))
               : WEIR_OK;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sender *self = arg;
    const char *name = weir_actor_node(kit)->name;
    self->kit = kit;
    self->config = config;
    self->port = weir_actor_port(kit, name);
    weir_err err = watch(self, report);
    if (err) return err;
    if (self->config->endpoint.endpoint)
        return weir_actor_connect(kit, name, &self->config->endpoint, NULL, report);
    return weir_actor_route(kit, name, self->config->route, name, report);
}

static void fini(void *arg)
{
    sender *self = arg;
    weir_actor_lane_fini(self->kit, &self->lane);
}

/* --- Sending ----------------------------------------------------------------------- */

static void linger_over(void *arg)
{
    (void)arg; // turn () follows every wake-up
}

static void send_block(sender *self, weir_block **block_p, uint64_t last)
{
    uint32_t records = weir_block_records(*block_p);
    weir_entry *entry = weir_actor_open(self->kit, &self->lane, records, last, 0);
    entry->fates.done = records;
    self->sent = last;
    weir_actor_send(self->kit, self->port, block_p, entry);
    weir_actor_done(self->kit, entry);
}

static void token_answered(void *arg)
{
    sender *self = arg;
    self->flushing = false; // turn () looks for who has come since
}

/*  What somebody waits for must not wait for more of its kind: a token behind what was
    sent closes the open batches. Also when not all could be sent yet, since room may be
    what waits in them.                                                             */
static void flush_for_who_waits(sender *self)
{
    uint64_t wanted = weir_bus_queue_wanted(self->config->queue);
    if (self->flushing || wanted <= self->flushed || self->sent == self->flushed) return;
    self->flushing = true;
    self->flushed = self->sent;
    weir_err err = weir_actor_flush(self->kit, token_answered);
    assert(!err);
}

/*  True: there may be more to send.                                                */
static bool send_some(sender *self)
{
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

static bool turn(void *arg)
{
    sender *self = arg;
    bool more = send_some(self);
    if (!more) flush_for_who_waits(self);
    return more;
}

/* --- What comes of it -------------------------------------------------------------- */

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)report;
    sender *self = arg;
    weir_bus_queue_ack(self->config->queue, entry->position);
    eventfd_write(self->config->told_fd, 1);
    return WEIR_OK;
}

/*  A shard counts what it turns away for good, and says so in its audit; elsewhere
    nobody would.                                                                   */
static weir_err refused(void *arg, weir_entry *entry, const weir_refused *refusal)
{
    sender *self = arg;
    uint32_t records = weir_block_records(refusal->block);
    if (!self->config->route) return WEIR_EREFUSED;
    weir_log(WEIR_WARN, "records refused count=%" PRIu32 " code=%s text=\"%s\"", records,
             refusal->code, refusal->text);
    entry->fates.done -= records;
    entry->fates.dropped += records;
    return WEIR_OK;
}

static void failed(void *arg)
{
    sender *self = arg;
    weir_bus_queue_close(self->config->queue);
    eventfd_write(self->config->told_fd, 1);
}

static const weir_option no_options[] = {{.name = NULL}};

static const weir_class bus_class = {
    .name = "bus",
    .help = "sends what a C program appends",
    .actor = weir_bus_sender,
    .size = sizeof(sender),
    .config_size = sizeof(weir_bus_sender_config),
    .options = no_options,
    .source = true,
    .init = init,
    .fini = fini,
    .turn = turn,
    .commit = commit,
    .refused = refused,
    .failed = failed,
};

void weir_bus_sender(zsock_t *pipe, void *config)
{
    weir_actor_run(&bus_class, pipe, config);
}
