#include "actors/hub.h"
#include "runtime/files.h"
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

struct weir_hub {
    const char *name;
    const weir_bus_options *config;
    weir_route *route;
    weir_store *lent;     // NULL: none
    pthread_mutex_t lock; // of all that follows
    atomic_bool open;     // it may be read without the lock
    bool begun;           // the state's epoch is in use
    char store_path[PATH_MAX], dead_path[PATH_MAX];
    weir_bus_state *state;
    weir_store *store;
    weir_groups *groups;
    _Atomic(weir_hub_shard *) shards; // never removed
};

/*  A shard's vnodes are looked for at the owners' word; blocks leave open blocks after
    this time at the latest.                                                        */
static const int64_t linger_us = 1000;

weir_hub *weir_hub_new(const char *name, const weir_bus_options *config)
{
    weir_hub *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->name = name;
    self->config = config;
    self->route = weir_route_new(&(weir_route_config){
        .key = config->key,
        .block_max = (size_t)config->ring_bytes / 2,
        .records_max = (uint32_t)config->ring_records,
        .linger_us = linger_us,
    });
    pthread_mutex_init(&self->lock, NULL);
    return self;
}

void weir_hub_lend_store(weir_hub *self, weir_store *store)
{
    self->lent = store;
}

weir_store *weir_hub_lent_store(const weir_hub *self)
{
    return self->lent;
}

static void close_store(weir_hub *self)
{
    if (self->store && !self->lent) self->store->class->close(&self->store);
    self->store = NULL;
}

void weir_hub_destroy(weir_hub **self_p)
{
    weir_hub *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (self->groups) weir_groups_destroy(&self->groups);
    close_store(self);
    if (self->state) weir_bus_state_close(&self->state);
    weir_route_destroy(&self->route);
    while (self->shards) {
        weir_hub_shard *shard = self->shards;
        self->shards = shard->next;
        pthread_mutex_destroy(&shard->window.lock);
        pthread_mutex_destroy(&shard->vitals.lock);
        free(shard);
    }
    pthread_mutex_destroy(&self->lock);
    free(self);
}

/* --- Opening ----------------------------------------------------------------------- */

static weir_err open_groups(weir_hub *self, weir_ledger *ledger, weir_report *report)
{
    return weir_groups_new(&self->groups,
                           &(weir_groups_config){.store = self->store,
                                                 .state = self->state,
                                                 .vnodes = (uint32_t)self->config->vnodes,
                                                 .dead_path = self->dead_path,
                                                 .bus = self->name,
                                                 .ledger = ledger},
                           report);
}

/*  The state may lie in the same folder, and has its lock.                         */
static bool is_locked(const weir_hub *self)
{
    struct stat state, store;
    if (!self->config->state) return true;
    return stat(self->config->state, &state) == 0 &&
           stat(self->store_path, &store) == 0 && state.st_dev == store.st_dev &&
           state.st_ino == store.st_ino;
}

static weir_err open_disk(weir_hub *self, weir_report *report)
{
    weir_disk_config disk = self->config->disk;
    disk.path = self->store_path;
    disk.name = self->name;
    disk.locked = is_locked(self);
    return weir_disk_open(&self->store, &disk, report);
}

static weir_err open_redis(weir_hub *self, weir_report *report)
{
    weir_redis_config redis = weir_bus_redis_config(self->config);
    redis.bus = self->name;
    redis.nonce = weir_bus_state_nonce(self->state);
    return weir_redis_store_new(&self->store, &redis, report);
}

static weir_err open_jetstream(weir_hub *self, weir_report *report)
{
    weir_jetstream_config jetstream = weir_bus_jetstream_config(self->config);
    jetstream.bus = self->name;
    jetstream.nonce = weir_bus_state_nonce(self->state);
    return weir_jetstream_store_new(&self->store, &jetstream, report);
}

/*  Of a store that keeps none.                                                     */
static weir_err give_fences(weir_hub *self, weir_report *report)
{
    weir_fence *list;
    size_t count;
    if (!self->store->class->set_fences) return WEIR_OK;
    weir_err err = weir_bus_state_load_fences(self->state, &list, &count, report);
    if (!err) self->store->class->set_fences(self->store, list, count);
    free(list);
    return err;
}

static weir_err open_store(weir_hub *self, weir_ledger *ledger, weir_report *report)
{
    weir_err err = WEIR_OK;
    if (self->lent)
        self->store = self->lent;
    else if (self->config->store == WEIR_BUS_REDIS)
        err = open_redis(self, report);
    else if (self->config->store == WEIR_BUS_JETSTREAM)
        err = open_jetstream(self, report);
    else
        err = open_disk(self, report);
    if (!err) err = give_fences(self, report);
    return err ? err : open_groups(self, ledger, report);
}

/*  Where the state lies: that of a store elsewhere where the disk store would be.  */
static weir_err choose_folders(weir_hub *self, const char *state_dir, const char **state,
                               weir_report *report)
{
    const weir_bus_options *c = self->config;
    char *path = self->store_path;
    *state = c->state;
    snprintf(self->dead_path, sizeof self->dead_path, "%s/dead.ndjson", state_dir);
    if (c->store == WEIR_BUS_MEMORY || (c->store != WEIR_BUS_DISK && c->state))
        return WEIR_OK;
    if (c->store == WEIR_BUS_DISK && c->path)
        snprintf(path, sizeof self->store_path, "%s", c->path);
    else
        snprintf(path, sizeof self->store_path, "%s/bus/%s", state_dir, self->name);
    if (!*state) *state = path;
    if (!weir_make_folders(path)) return WEIR_OK;
    return weir_report_set(report, WEIR_ESYS, path, "cannot make the folder: %s",
                           strerror(errno));
}

static weir_err open_all(weir_hub *self, const char *state_dir, weir_ledger *ledger,
                         weir_report *report)
{
    const weir_bus_options *c = self->config;
    const char *state;
    weir_err err = choose_folders(self, state_dir, &state, report);
    if (!err) err = weir_bus_state_open(&self->state, state, (uint32_t)c->vnodes, report);
    bool stores = c->store != WEIR_BUS_MEMORY || self->lent;
    if (err || !stores) return err;
    err = weir_bus_state_claim(
        self->state,
        self->lent ? self->lent->class->name : weir_bus_store_words[c->store], report);
    return err ? err : open_store(self, ledger, report);
}

weir_err weir_hub_open(weir_hub *self, const char *state_dir, weir_ledger *ledger,
                       weir_report *report)
{
    weir_err err = WEIR_OK;
    pthread_mutex_lock(&self->lock);
    if (!self->open) err = open_all(self, state_dir, ledger, report);
    if (err) close_store(self);
    if (err && self->state) weir_bus_state_close(&self->state);
    if (!err) self->open = true;
    pthread_mutex_unlock(&self->lock);
    return err;
}

weir_err weir_hub_begin_epoch(weir_hub *self, uint64_t *epoch, weir_report *report)
{
    uint64_t above = self->begun ? weir_bus_state_epoch(self->state) : 0, stored = 0;
    if (self->store && self->store->class->epoch)
        stored = self->store->class->epoch(self->store);
    weir_err err =
        weir_bus_state_raise(self->state, above > stored ? above : stored, report);
    self->begun = true;
    *epoch = weir_bus_state_epoch(self->state);
    return err;
}

/* --- Shards ------------------------------------------------------------------------ */

weir_hub_shard *weir_hub_shard_of(weir_hub *self, uint32_t id, weir_vitals *bus)
{
    pthread_mutex_lock(&self->lock);
    weir_hub_shard *shard = self->shards;
    while (shard && shard->id != id)
        shard = shard->next;
    if (!shard) {
        shard = calloc(1, sizeof *shard);
        if (!shard) abort();
        shard->id = id;
        shard->vitals = (weir_vitals)WEIR_VITALS_INIT;
        pthread_mutex_init(&shard->window.lock, NULL);
        shard->next = self->shards;
        self->shards = shard;
    }
    weir_vitals_adopt(bus, &shard->vitals);
    pthread_mutex_unlock(&self->lock);
    return shard;
}

void weir_hub_leave(weir_hub *self, weir_vitals *bus)
{
    for (weir_hub_shard *shard = self->shards; shard; shard = shard->next)
        weir_vitals_release(bus, &shard->vitals);
}

void weir_hub_shard_begin(weir_hub_shard *shard)
{
    pthread_mutex_lock(&shard->window.lock);
    weir_shard_stats *stats = &shard->window.stats;
    uint64_t resident = weir_shard_resident(stats);
    weir_shard_stats last = *stats;
    last.ring.offered -= resident;
    last.ring.accepted -= resident;
    last.recalled += resident;
    last.ring.count = last.ring.bytes = last.ring.parked = 0;
    last.open = last.under_way = 0;
    last.oldest_us = 0;
    weir_shard_stats_add(&shard->past, &last);
    memset(stats, 0, sizeof *stats);
    pthread_mutex_unlock(&shard->window.lock);
}

weir_hub_shard **weir_hub_list(weir_hub *self, size_t *count)
{
    weir_hub_shard *first = self->shards, *shard = first;
    for (*count = 0; shard; shard = shard->next)
        (*count)++;
    weir_hub_shard **list = calloc(*count + 1, sizeof *list);
    if (!list) abort();
    size_t used = 0;
    for (shard = first; shard; shard = shard->next) {
        size_t at = used++;
        for (; at && list[at - 1]->id > shard->id; at--)
            list[at] = list[at - 1];
        list[at] = shard;
    }
    return list;
}

weir_hub_shard *weir_hub_shards(weir_hub *self)
{
    return self->shards;
}

void weir_hub_look(weir_hub_shard *shard, weir_shard_stats *stats)
{
    pthread_mutex_lock(&shard->window.lock);
    *stats = shard->window.stats;
    weir_shard_stats_add(stats, &shard->past);
    pthread_mutex_unlock(&shard->window.lock);
}

/* --- Looking ----------------------------------------------------------------------- */

bool weir_hub_is_open(const weir_hub *self)
{
    return self->open;
}

const char *weir_hub_name(const weir_hub *self)
{
    return self->name;
}

const weir_bus_options *weir_hub_config(const weir_hub *self)
{
    return self->config;
}

weir_route *weir_hub_route(weir_hub *self)
{
    return self->route;
}

weir_bus_state *weir_hub_state(weir_hub *self)
{
    return self->state;
}

weir_store *weir_hub_store(weir_hub *self)
{
    return self->store;
}

weir_groups *weir_hub_groups(weir_hub *self)
{
    return self->groups;
}

const char *weir_hub_store_path(const weir_hub *self)
{
    return self->store_path;
}
