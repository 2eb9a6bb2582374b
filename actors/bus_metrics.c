#include "actors/bus_tell.h"
#include "actors/hub.h"
#include "runtime/clock.h"

static weir_hub *hub_of(const void *config)
{
    const weir_bus_node_config *c = config;
    return c->hub && weir_hub_is_open(c->hub) ? c->hub : NULL;
}

static void put_number(weir_samples *to, int64_t number)
{
    weir_samples_put(to, NULL, 0, number);
}

static void put_of_shard(weir_samples *to, uint32_t shard, const char *name,
                         const char *value, int64_t number)
{
    char id[16];
    snprintf(id, sizeof id, "%" PRIu32, shard);
    const weir_label labels[] = {{"shard", id}, {name, value}};
    weir_samples_put(to, labels, name ? 2 : 1, number);
}

/* --- Shards ------------------------------------------------------------------------ */

enum {
    SHARD_OFFERED,
    SHARD_ACCEPTED,
    SHARD_EVICTED,
    SHARD_SAFE,
    SHARD_DEAD,
    SHARD_RECALLED,
    SHARD_RESIDENT,
    SHARD_BATCHES,
    SHARD_RETRIES,
    SHARD_RECORDS,
    SHARD_BYTES,
    SHARD_OLDEST,
};

/*  What restarts took back has been offered and accepted all the same: a counter never
    falls.                                                                          */
static int64_t shard_number(const weir_shard_stats *s, int which)
{
    switch (which) {
    case SHARD_OFFERED:
        return (int64_t)(s->ring.offered + s->recalled);
    case SHARD_ACCEPTED:
        return (int64_t)(s->ring.accepted + s->recalled);
    case SHARD_EVICTED:
        return (int64_t)s->ring.evicted;
    case SHARD_SAFE:
        return (int64_t)s->safe;
    case SHARD_DEAD:
        return (int64_t)s->dead;
    case SHARD_RECALLED:
        return (int64_t)s->recalled;
    case SHARD_RESIDENT:
        return (int64_t)weir_shard_resident(s);
    case SHARD_BATCHES:
        return (int64_t)s->batches;
    case SHARD_RETRIES:
        return (int64_t)s->dispatch.retries;
    case SHARD_RECORDS:
        return (int64_t)s->ring.count;
    case SHARD_BYTES:
        return (int64_t)s->ring.bytes;
    default:
        return s->oldest_us ? weir_clock_now_us() - s->oldest_us : 0;
    }
}

static void each_shard(const weir_class_metric *self, const void *config,
                       weir_samples *to,
                       void (*put)(const weir_class_metric *self, uint32_t shard,
                                   const weir_shard_stats *stats, weir_samples *to))
{
    size_t count = 0;
    weir_shard_stats stats;
    weir_hub *hub = hub_of(config);
    weir_hub_shard **list = hub ? weir_hub_list(hub, &count) : NULL;
    for (size_t i = 0; i < count; i++) {
        weir_hub_look(list[i], &stats);
        put(self, list[i]->id, &stats, to);
    }
    free(list);
}

static void put_one(const weir_class_metric *self, uint32_t shard,
                    const weir_shard_stats *stats, weir_samples *to)
{
    put_of_shard(to, shard, NULL, NULL, shard_number(stats, self->which));
}

static void put_shards(const weir_class_metric *self, const void *config,
                       weir_samples *to)
{
    each_shard(self, config, to, put_one);
}

static void put_reasons(const weir_class_metric *self, uint32_t shard,
                        const weir_shard_stats *stats, weir_samples *to)
{
    const weir_ring_stats *r = &stats->ring;
    (void)self;
    put_of_shard(to, shard, "reason", "full", (int64_t)r->full);
    put_of_shard(to, shard, "reason", "sampled", (int64_t)r->sampled);
    put_of_shard(to, shard, "reason", "too_large", (int64_t)r->too_large);
    put_of_shard(to, shard, "reason", "invalid", (int64_t)r->invalid);
    put_of_shard(to, shard, "reason", "closed", (int64_t)r->closed);
}

static void put_rejected(const weir_class_metric *self, const void *config,
                         weir_samples *to)
{
    each_shard(self, config, to, put_reasons);
}

static void put_active(const weir_class_metric *self, const void *config,
                       weir_samples *to)
{
    int64_t active = 0;
    weir_hub *hub = hub_of(config);
    (void)self;
    for (weir_hub_shard *s = hub ? weir_hub_shards(hub) : NULL; s; s = s->next)
        active += s->state == WEIR_SHARD_ACTIVE;
    put_number(to, active);
}

/* --- Store ------------------------------------------------------------------------- */

enum {
    STORE_COMMITS,
    STORE_COMMITTED_BYTES,
    STORE_COMMIT_TIME,
    STORE_COMPACTIONS,
    STORE_MAP,
    STORE_HELD,
    STORE_FULL,
};

static int64_t store_number(const weir_disk_stats *s, int which)
{
    switch (which) {
    case STORE_COMMITS:
        return (int64_t)s->commits;
    case STORE_COMMITTED_BYTES:
        return (int64_t)s->commit_bytes;
    case STORE_COMMIT_TIME:
        return s->commit_us;
    case STORE_COMPACTIONS:
        return (int64_t)s->compactions;
    case STORE_MAP:
        return (int64_t)s->map_bytes;
    case STORE_HELD:
        return *s->held_by != 0;
    default:
        return s->full;
    }
}

static weir_store *store_of(const void *config)
{
    weir_hub *hub = hub_of(config);
    return hub ? weir_hub_store(hub) : NULL;
}

/*  Of a store on disk.                                                             */
static void put_store(const weir_class_metric *self, const void *config, weir_samples *to)
{
    weir_disk_stats stats = {0};
    const weir_bus_node_config *c = config;
    weir_store *store = store_of(config);
    if (!store || c->bus.store != WEIR_BUS_DISK) return;
    weir_disk_look(store, &stats);
    put_number(to, store_number(&stats, self->which));
}

enum { LINK_CONNECTED, LINK_CONNECTIONS };

/*  Of a store on a server: what it writes by.                                       */
static void put_link(const weir_class_metric *self, const void *config, weir_samples *to)
{
    weir_redis_stats redis;
    weir_jetstream_stats jetstream;
    const weir_bus_node_config *c = config;
    weir_store *store = store_of(config);
    bool connected;
    uint64_t connections;
    if (store && c->bus.store == WEIR_BUS_REDIS) {
        weir_redis_look(store, &redis);
        connected = redis.connected;
        connections = redis.connections;
    } else if (store && c->bus.store == WEIR_BUS_JETSTREAM) {
        weir_jetstream_look(store, &jetstream);
        connected = jetstream.connected;
        connections = jetstream.connects;
    } else {
        return;
    }
    put_number(to, self->which == LINK_CONNECTED ? connected : (int64_t)connections);
}

enum { STORED_RECORDS, STORED_BYTES, STORED_TRIMMED };

static void put_stored(const weir_class_metric *self, const void *config,
                       weir_samples *to)
{
    size_t count = 0;
    weir_report report;
    weir_store_shard *list = NULL;
    weir_store *store = store_of(config);
    if (!store || store->class->shards(store, &list, &count, &report)) return;
    for (size_t i = 0; i < count; i++) {
        const weir_store_shard *s = &list[i];
        uint64_t number = self->which == STORED_RECORDS ? s->records
                          : self->which == STORED_BYTES ? s->bytes
                                                        : s->trimmed;
        put_of_shard(to, s->shard, NULL, NULL, (int64_t)number);
    }
    free(list);
}

/* --- Groups ------------------------------------------------------------------------ */

enum { GROUP_LAG, GROUP_COMMIT, GROUP_SHED, GROUP_DEAD, GROUP_DELIVERED };

static int64_t group_number(const weir_group_look *g, int which)
{
    switch (which) {
    case GROUP_LAG:
        return (int64_t)g->lag;
    case GROUP_COMMIT:
        return (int64_t)(g->stored - g->lag);
    case GROUP_SHED:
        return (int64_t)g->shed;
    case GROUP_DEAD:
        return (int64_t)g->dead;
    default:
        return g->held;
    }
}

static void put_groups(const weir_class_metric *self, const void *config,
                       weir_samples *to)
{
    size_t count = 0;
    weir_report report;
    weir_group_look *list = NULL;
    weir_hub *hub = hub_of(config);
    weir_groups *groups = hub ? weir_hub_groups(hub) : NULL;
    if (!groups || weir_groups_look(groups, &list, &count, &report)) return;
    for (size_t i = 0; i < count; i++)
        put_of_shard(to, list[i].shard, "group", list[i].group,
                     group_number(&list[i], self->which));
    weir_group_looks_free(&list, count);
}

/* --- The table --------------------------------------------------------------------- */

#define COUNTER true, false
#define GAUGE false, false
#define GAUGE_TIME false, true

const weir_class_metric weir_bus_metrics[] = {
    {"weir_bus_shards", "", "active shards", GAUGE, put_active, 0},
    {"weir_shard_offered_total", "shard",
     "records that reached the shard: offered = accepted + rejected", COUNTER, put_shards,
     SHARD_OFFERED},
    {"weir_shard_accepted_total", "shard",
     "records that entered: accepted = safe + evicted + dead + resident + recalled",
     COUNTER, put_shards, SHARD_ACCEPTED},
    {"weir_shard_rejected_total", "shard, reason",
     "records that did not enter: full, sampled, too_large, invalid, closed", COUNTER,
     put_rejected, 0},
    {"weir_shard_evicted_total", "shard", "records that had to make room for newer ones",
     COUNTER, put_shards, SHARD_EVICTED},
    {"weir_shard_safe_total", "shard",
     "records that are stored, or that all readers have "
     "acknowledged",
     COUNTER, put_shards, SHARD_SAFE},
    {"weir_shard_dead_total", "shard", "records that became dead letters", COUNTER,
     put_shards, SHARD_DEAD},
    {"weir_shard_recalled_total", "shard",
     "records that restarts took back, to come in a second time", COUNTER, put_shards,
     SHARD_RECALLED},
    {"weir_shard_resident", "shard", "records that entered and whose fate is not known",
     GAUGE, put_shards, SHARD_RESIDENT},
    {"weir_shard_batches_total", "shard",
     "batches that were given to the store or to "
     "readers",
     COUNTER, put_shards, SHARD_BATCHES},
    {"weir_shard_retries_total", "shard", "attempts to store a batch after the first",
     COUNTER, put_shards, SHARD_RETRIES},
    {"weir_shard_ring_records", "shard", "records in the ring", GAUGE, put_shards,
     SHARD_RECORDS},
    {"weir_shard_ring_bytes", "shard", "bytes in the ring", GAUGE, put_shards,
     SHARD_BYTES},
    {"weir_shard_oldest_seconds", "shard",
     "for how long the oldest record has been there that is not safe; 0: there is none",
     GAUGE_TIME, put_shards, SHARD_OLDEST},
    {"weir_store_records", "shard", "records in the store", GAUGE, put_stored,
     STORED_RECORDS},
    {"weir_store_bytes", "shard", "bytes of the records in the store", GAUGE, put_stored,
     STORED_BYTES},
    {"weir_store_trimmed_total", "shard", "records that `keep` has removed", COUNTER,
     put_stored, STORED_TRIMMED},
    {"weir_store_commits_total", "", "transactions", COUNTER, put_store, STORE_COMMITS},
    {"weir_store_committed_bytes_total", "", "bytes of batches in them", COUNTER,
     put_store, STORE_COMMITTED_BYTES},
    {"weir_store_commit_seconds_total", "", "time spent in them", true, true, put_store,
     STORE_COMMIT_TIME},
    {"weir_store_compactions_total", "", "compactions", COUNTER, put_store,
     STORE_COMPACTIONS},
    {"weir_store_map_bytes", "", "size of the store's map, up to disk.map_max", GAUGE,
     put_store, STORE_MAP},
    {"weir_store_held", "", "1 while a consumer group holds a full store", GAUGE,
     put_store, STORE_HELD},
    {"weir_store_full", "", "1 while the disk, or disk.map_max, is full", GAUGE,
     put_store, STORE_FULL},
    {"weir_store_connected", "",
     "1 while there is a connection to the server of the store (redis, jetstream)", GAUGE,
     put_link, LINK_CONNECTED},
    {"weir_store_connections_total", "",
     "connections that were made to write to that server; all but the first are "
     "reconnects",
     COUNTER, put_link, LINK_CONNECTIONS},
    {"weir_group_lag", "shard, group", "records that the group has not committed", GAUGE,
     put_groups, GROUP_LAG},
    {"weir_group_commit", "shard, group", "offset up to which the group has committed",
     GAUGE, put_groups, GROUP_COMMIT},
    {"weir_group_shed_total", "shard, group",
     "records that `keep` removed before the group has read them", COUNTER, put_groups,
     GROUP_SHED},
    {"weir_group_dead_total", "shard, group",
     "records that became dead letters since the group could not deal with them", COUNTER,
     put_groups, GROUP_DEAD},
    {"weir_group_delivered", "shard, group",
     "records that its members have and have not acknowledged", GAUGE, put_groups,
     GROUP_DELIVERED},
    {.name = NULL},
};
