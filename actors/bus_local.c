#include "actors/bus_local.h"
#include "actors/bus_given.h"
#include "actors/bus_node.h"
#include "actors/bus_taker.h"
#include "actors/poll.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/plan.h"
#include <unistd.h>

/*  An actor of this bus, with what its owner keeps beside it.                      */
typedef struct {
    zactor_t *actor;
    weir_vitals vitals;
    weir_report report; // of the thread's start
    sem_t ended;
} member;

struct weir_bus_local {
    weir_bus_node_config config; // of the node; the options' texts are owned
    weir_bus_taker_config taking;
    char *name, *state_dir; // owned
    char endpoint[128];     // of who reads; "": nobody, there is a store
    weir_realm *own_realm;  // for who reads from elsewhere; NULL: lent, or nobody may
    member node, taker;
    weir_store *store; // a given one, once it is owned
    uint64_t nonce;
    pthread_mutex_t ask;  // of the node's pipe
    pthread_mutex_t lock; // of all that follows
    pthread_cond_t moved; // news have come
    uint64_t news;
    bool draining;
    weir_hub *hub; // NULL: it has ended, and this is how:
    weir_bus_shard *left;
    size_t left_count;
    weir_bus_sums sums;
};

/*  The threads block nowhere; so long it takes only where the machine stands still.  */
static const int stop_ms = 60000;

static const char *name_of(const weir_bus_config *c)
{
    return c->name && *c->name ? c->name : weir_bus_defaults.name;
}

/* --- Checks ------------------------------------------------------------------------ */

static weir_err wrong(weir_report *report, const char *where, const char *text)
{
    return weir_report_set(report, WEIR_EINVAL, where, "%s", text);
}

/*  Its name becomes that of a folder and of an actor; certificates are for those who read
    it from elsewhere.                                                              */
static weir_err check_node(const weir_bus_local *self, const weir_bus_config *c,
                           weir_report *report)
{
    if (!weir_plan_is_name(name_of(c)))
        return wrong(report, "name", "has 1 to 63 letters, digits, _ or -");
    if (c->server || c->plaintext)
        return wrong(report, c->server ? "server" : "plaintext",
                     "is for a bus elsewhere, and connect is not set");
    if ((c->keys || c->realm) && !self->config.bus.listen)
        return wrong(report, c->keys ? "keys" : "realm",
                     "serves nobody: neither connect nor the option listen is set");
    return WEIR_OK;
}

/*  Dead letters lie there; the working folder is the host's own. NULL: nowhere.    */
static const char *folder_of(const weir_bus_local *self, const weir_bus_config *c)
{
    const weir_bus_options *o = &self->config.bus;
    if (c->state_dir) return self->state_dir ? self->state_dir : c->state_dir;
    return o->path ? o->path : o->state;
}

/*  Somebody must make its records safe, and only one kind of them can.              */
static weir_err check_readers(const weir_bus_local *self, const weir_bus_config *c,
                              weir_report *report)
{
    const weir_bus_options *o = &self->config.bus;
    bool stores = o->store != WEIR_BUS_MEMORY;
    if (stores && c->store) return wrong(report, "store", "there is one already");
    if (o->store == WEIR_BUS_DISK && !o->path && !c->state_dir)
        return wrong(report, "state_dir",
                     "a disk store needs a folder: state_dir or disk.path");
    if (stores && !folder_of(self, c))
        return wrong(report, "state_dir",
                     "a bus with a store needs a folder for its state: state_dir or the "
                     "option state");
    if (!stores && !c->store && !c->take && !c->reader)
        return wrong(report, "take",
                     "a bus without store needs somebody who takes its records: take, "
                     "reader, or the option store");
    if ((stores || c->store) && (c->take || c->reader))
        return wrong(report, c->take ? "take" : "reader",
                     "a bus with a store is read by weir_bus_poller and weir_bus_groups");
    if (c->take && c->reader) return wrong(report, "reader", "either take or reader");
    if (c->reader && strncmp(c->reader, "inproc://", 9))
        return wrong(report, "reader", "expected inproc://NAME, where an actor listens");
    return WEIR_OK;
}

static weir_err read_config(weir_bus_local *self, const weir_bus_config *c,
                            weir_report *report)
{
    weir_options_copy(weir_bus_node_options, &self->config, &weir_bus_node_defaults,
                      sizeof self->config);
    weir_err err = weir_bus_given_read(&self->config, c->options, report);
    if (!err) err = check_node(self, c, report);
    if (!err) err = check_readers(self, c, report);
    if (!err && self->config.bus.listen && !c->realm)
        err = weir_realm_new(&self->own_realm, c->keys, report);
    return err;
}

/* --- Starting ---------------------------------------------------------------------- */

static void member_init(member *self, weir_node *node, const weir_bus_config *c)
{
    self->vitals = (weir_vitals)WEIR_VITALS_INIT;
    sem_init(&self->ended, 0, 0);
    node->ledger = c->ledger;
    node->window_bytes = c->window_bytes;
    node->block_bytes = c->block_bytes;
    node->record_max = c->record_max;
    node->vitals = &self->vitals;
    node->report = &self->report;
    node->ended = &self->ended;
}

static weir_err member_start(member *self, zactor_fn *actor, void *config,
                             weir_report *report)
{
    self->actor = zactor_new(actor, config);
    weir_handover_take(&self->report);
    if (!self->actor && !self->report.err)
        weir_report_set(&self->report, WEIR_ESYS, NULL, "no thread or socket");
    if (self->report.err && report) *report = self->report;
    return self->report.err;
}

/*  The reply to a command is its only text.                                        */
static weir_err ask(weir_bus_local *self, char text[256], const char *command,
                    const char *a, const char *b, const char *c)
{
    zmsg_t *reply = NULL;
    pthread_mutex_lock(&self->ask);
    weir_err err = weir_actor_ask(self->node.actor, &reply, command, a, b, c, NULL);
    pthread_mutex_unlock(&self->ask);
    char *got = reply ? zmsg_popstr(reply) : NULL;
    snprintf(text, 256, "%s", got ? got : weir_err_name(err));
    zstr_free(&got);
    zmsg_destroy(&reply);
    return err;
}

static weir_err start_taker(weir_bus_local *self, const weir_bus_config *c,
                            weir_report *report)
{
    static atomic_uint number; // libzmq lets go of a name some time after its socket
    if (c->reader) snprintf(self->endpoint, sizeof self->endpoint, "%s", c->reader);
    if (!c->take) return WEIR_OK;
    self->taking.node.name = self->name;
    self->taking.take = c->take;
    self->taking.arg = c->take_arg;
    snprintf(self->endpoint, sizeof self->endpoint, "inproc://weir-take-%p-%u",
             (void *)self, atomic_fetch_add(&number, 1));
    weir_err err = member_start(&self->taker, weir_bus_taker, &self->taking, report);
    if (!err)
        err = weir_actor_ask(self->taker.actor, NULL, "LISTEN", self->endpoint, NULL);
    return err ? err : weir_actor_ask(self->taker.actor, NULL, "START", NULL);
}

static weir_err start_node(weir_bus_local *self, weir_report *report)
{
    char text[256];
    weir_err err = member_start(&self->node, weir_bus_node, &self->config, report);
    if (err) return err;
    if (*self->endpoint)
        err = ask(self, text, "CONNECT", self->name, self->endpoint, self->name);
    if (!err) err = ask(self, text, "START", NULL, NULL, NULL);
    return err ? weir_report_set(report, err, NULL, "%s", text) : WEIR_OK;
}

static void fill(weir_bus_local *self, const weir_bus_config *c, int look_fd)
{
    self->name = strdup(name_of(c));
    self->state_dir = c->state_dir ? strdup(c->state_dir) : NULL;
    if (!self->name || (c->state_dir && !self->state_dir)) abort();
    member_init(&self->node, &self->config.node, c);
    member_init(&self->taker, &self->taking.node, c);
    self->node.vitals.wake_fd = look_fd;
    self->config.node.name = self->name;
    self->config.node.state_dir = folder_of(self, c);
    self->config.node.realm = c->realm ? c->realm : self->own_realm;
    self->hub = self->config.hub = weir_hub_new(self->name, &self->config.bus);
    if (c->store) weir_hub_lend_store(self->hub, c->store);
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->ask, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

weir_err weir_bus_local_new(weir_bus_local **self_p, const weir_bus_config *config,
                            int look_fd, weir_report *report)
{
    *self_p = NULL;
    weir_bus_local *self = calloc(1, sizeof *self);
    if (!self) abort();
    weir_err err = read_config(self, config, report);
    if (err) {
        weir_options_free(weir_bus_node_options, &self->config);
        free(self);
        return err;
    }
    fill(self, config, look_fd);
    err = start_taker(self, config, report);
    if (!err) err = start_node(self, report);
    if (err) {
        if (weir_bus_local_end(self, 0) == WEIR_OK) weir_bus_local_destroy(&self);
        return err;
    }
    self->nonce = weir_bus_state_nonce(weir_hub_state(self->hub));
    *self_p = self;
    return WEIR_OK;
}

void weir_bus_local_own_store(weir_bus_local *self)
{
    self->store = weir_hub_lent_store(self->hub);
}

weir_vitals *weir_bus_local_vitals(weir_bus_local *self)
{
    return &self->node.vitals;
}

weir_route *weir_bus_local_route(weir_bus_local *self)
{
    return weir_hub_route(self->config.hub);
}

const weir_bus_options *weir_bus_local_options(const weir_bus_local *self)
{
    return &self->config.bus;
}

/* --- News -------------------------------------------------------------------------- */

weir_err weir_bus_local_news(weir_bus_local *self, weir_report *report)
{
    pthread_mutex_lock(&self->lock);
    self->news++;
    pthread_cond_broadcast(&self->moved);
    pthread_mutex_unlock(&self->lock);
    if (self->node.vitals.state != WEIR_STATE_FAILED) return WEIR_OK;
    weir_vitals_reason(&self->node.vitals, report);
    return report->err;
}

/*  Waits for news that come after those. False: the instant has come, or it drains.  */
static bool wait_for_news(weir_bus_local *self, uint64_t before, int64_t until_us)
{
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    int rc = 0;
    pthread_mutex_lock(&self->lock);
    while (self->news == before && !self->draining && rc == 0)
        rc = pthread_cond_timedwait(&self->moved, &self->lock, &until);
    bool come = self->news != before && !self->draining;
    pthread_mutex_unlock(&self->lock);
    return come;
}

static uint64_t news(weir_bus_local *self, bool *draining)
{
    pthread_mutex_lock(&self->lock);
    uint64_t count = self->news;
    *draining = self->draining;
    pthread_mutex_unlock(&self->lock);
    return count;
}

/* --- Scaling ----------------------------------------------------------------------- */

static weir_err closed(weir_report *report)
{
    return weir_report_set(report, WEIR_ECLOSED, NULL, "the bus is closed");
}

/*  Asks until the node says so, which it may when there are news; the first answer that
    is no "not yet" counts.                                                         */
static weir_err ask_until(weir_bus_local *self, char text[256], const char *command,
                          const char *argument, int64_t until_us)
{
    for (;;) {
        bool draining;
        uint64_t before = news(self, &draining);
        if (draining) return WEIR_ECLOSED;
        weir_err err = ask(self, text, command, argument, NULL, NULL);
        if (err != WEIR_EFULL) return err;
        if (!wait_for_news(self, before, until_us)) return WEIR_ETIMEOUT;
    }
}

weir_err weir_bus_local_scale(weir_bus_local *self, uint32_t shards, int64_t timeout_us,
                              weir_report *report)
{
    char number[16], text[256];
    static const int64_t year_us = 365ll * 24 * 3600 * 1000000; // none waits longer
    if (timeout_us < 0 || timeout_us > year_us) timeout_us = year_us;
    int64_t until_us = weir_clock_now_us() + timeout_us;
    snprintf(number, sizeof number, "%" PRIu32, shards);
    weir_err err = ask_until(self, text, "SCALE", number, until_us);
    if (!err) err = ask_until(self, text, "MOVED", NULL, until_us);
    if (err == WEIR_ECLOSED) return closed(report);
    return err ? weir_report_set(report, err, NULL, "%s", text) : WEIR_OK;
}

/* --- Looking ----------------------------------------------------------------------- */

static uint64_t resident(const weir_shard_stats *stats)
{
    return stats->ring.count + stats->open + stats->under_way;
}

static void look_at(weir_hub_shard *from, weir_bus_shard *shard, int64_t now_us)
{
    weir_shard_stats stats;
    weir_hub_look(from, &stats);
    *shard = (weir_bus_shard){.shard = from->id,
                              .active = from->state == WEIR_SHARD_ACTIVE,
                              .unsafe = resident(&stats)};
    if (stats.oldest_us) shard->oldest_us = now_us - stats.oldest_us;
    memcpy(shard->error, stats.dispatch.error, sizeof shard->error);
}

/*  With the lock, which keeps the hub.                                             */
static size_t look_at_all(weir_bus_local *self, weir_bus_shard *shards, size_t max)
{
    size_t count;
    weir_hub_shard **list = weir_hub_list(self->hub, &count);
    int64_t now_us = weir_clock_now_us();
    for (size_t i = 0; i < count && i < max; i++)
        look_at(list[i], &shards[i], now_us);
    free(list);
    return count;
}

size_t weir_bus_local_look(weir_bus_local *self, weir_bus_shard *shards, size_t max)
{
    pthread_mutex_lock(&self->lock);
    size_t count = self->left_count;
    if (self->hub)
        count = look_at_all(self, shards, max);
    else if (max)
        memcpy(shards, self->left, (max < count ? max : count) * sizeof *shards);
    pthread_mutex_unlock(&self->lock);
    return count;
}

static void add_up(weir_hub_shard *shard, weir_bus_sums *sums)
{
    weir_shard_stats stats;
    weir_hub_look(shard, &stats);
    sums->offered += stats.ring.offered;
    sums->accepted += stats.ring.accepted;
    sums->full += stats.ring.full;
    sums->sampled += stats.ring.sampled;
    sums->too_large += stats.ring.too_large;
    sums->invalid += stats.ring.invalid;
    sums->closed += stats.ring.closed;
    sums->evicted += stats.ring.evicted;
    sums->safe += stats.safe;
    sums->dead += stats.dead;
    sums->resident += resident(&stats);
}

static void add_up_all(weir_hub *hub, weir_bus_sums *sums)
{
    *sums = (weir_bus_sums){0};
    for (weir_hub_shard *s = weir_hub_shards(hub); s; s = s->next)
        add_up(s, sums);
}

void weir_bus_local_audit(weir_bus_local *self, weir_bus_sums *sums)
{
    pthread_mutex_lock(&self->lock);
    if (self->hub)
        add_up_all(self->hub, sums);
    else
        *sums = self->sums;
    pthread_mutex_unlock(&self->lock);
}

weir_poller *weir_bus_local_poller(weir_bus_local *self)
{
    pthread_mutex_lock(&self->lock);
    weir_store *store = self->hub ? weir_hub_store(self->hub) : NULL;
    weir_poller *poller = store ? weir_poller_new(store, self->nonce) : NULL;
    pthread_mutex_unlock(&self->lock);
    return poller;
}

weir_groups *weir_bus_local_groups(weir_bus_local *self)
{
    pthread_mutex_lock(&self->lock);
    weir_groups *groups = self->hub ? weir_hub_groups(self->hub) : NULL;
    pthread_mutex_unlock(&self->lock);
    return groups;
}

/* --- Ending ------------------------------------------------------------------------ */

void weir_bus_local_drain(weir_bus_local *self)
{
    char text[256];
    pthread_mutex_lock(&self->lock);
    self->draining = true;
    pthread_cond_broadcast(&self->moved);
    pthread_mutex_unlock(&self->lock);
    ask(self, text, "DRAIN", NULL, NULL, NULL);
}

/*  Writes down how it ended, before the hub goes.                                  */
static weir_hub *take_down(weir_bus_local *self)
{
    pthread_mutex_lock(&self->lock);
    weir_hub *hub = self->hub;
    self->left_count = look_at_all(self, NULL, 0);
    self->left = calloc(self->left_count + 1, sizeof *self->left);
    if (!self->left) abort();
    look_at_all(self, self->left, self->left_count);
    add_up_all(hub, &self->sums);
    self->hub = NULL;
    pthread_mutex_unlock(&self->lock);
    return hub;
}

weir_err weir_bus_local_end(weir_bus_local *self, int64_t timeout_us)
{
    weir_store *store = weir_hub_store(self->hub);
    if (store && timeout_us > 0) store->class->flush(store, timeout_us, NULL);
    if (weir_actor_stop(&self->node.actor, &self->node.ended, stop_ms) ||
        weir_actor_stop(&self->taker.actor, &self->taker.ended, stop_ms))
        return WEIR_ETIMEOUT;
    weir_hub *hub = take_down(self);
    weir_hub_destroy(&hub);
    if (self->store) self->store->class->close(&self->store);
    return WEIR_OK;
}

static void member_fini(member *self)
{
    pthread_mutex_destroy(&self->vitals.lock);
    sem_destroy(&self->ended);
}

void weir_bus_local_destroy(weir_bus_local **self_p)
{
    weir_bus_local *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    member_fini(&self->node);
    member_fini(&self->taker);
    pthread_cond_destroy(&self->moved);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->ask);
    weir_realm_destroy(&self->own_realm);
    weir_options_free(weir_bus_node_options, &self->config);
    free(self->left);
    free(self->name);
    free(self->state_dir);
    free(self);
}
