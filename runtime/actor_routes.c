/*  An actor's ways into buses: blocks are split by key among a bus's shards, and when
    vnodes move, what is on its way to their former shard goes first.          */
#include "runtime/actor_private.h"
#include "runtime/clock.h"
#include <assert.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- Sending ----------------------------------------------------------------------- */

static void split_sealed(void *arg, uint32_t part, weir_block **block_p,
                         const weir_share *shares, size_t count)
{
    weir_routing *self = arg;
    weir_output_send(self->shards[part], *block_p, shares, count);
}

/*  Shards that are about to go take no more without being asked to.           */
static uint32_t next_shard(weir_routing *self)
{
    const weir_route_map *map = self->map;
    for (uint32_t i = 0; i < map->shard_count; i++) {
        uint32_t shard = self->turn++ % map->shard_count;
        if (map->shards[shard].active) return shard;
    }
    return 0;
}

void weir_routing_send(weir_routing *self, weir_block *block, weir_entry *entry)
{
    uint32_t keyless = next_shard(self);
    if (weir_splitter_is_whole(self->splitter, block)) {
        weir_share share = {.entry = entry, .records = weir_block_records(block)};
        weir_splitter_seal(self->splitter, keyless);
        weir_entry_hold(entry);
        weir_output_send(self->shards[keyless], block, &share, 1);
        return;
    }
    uint64_t parses = 0;
    weir_splitter_put(self->splitter, block, entry, self->map->owners, self->map->vnodes,
                      keyless, weir_clock_now_us(), &parses);
    weir_count_add(self->kit->node.vitals, WEIR_COUNT_PARSES, parses);
}

void weir_routing_seal(weir_routing *self, bool all)
{
    if (all)
        weir_splitter_seal_all(self->splitter);
    else
        weir_splitter_seal_due(self->splitter, weir_clock_now_us());
}

int64_t weir_routing_deadline(const weir_routing *self)
{
    return weir_splitter_deadline(self->splitter);
}

/* --- Tokens ------------------------------------------------------------------------ */

static void send_token(weir_routing *self, uint32_t shard, weir_token_kind kind,
                       uint64_t argument, token_use use)
{
    self->unanswered[use]++;
    weir_output_token(self->shards[shard], kind, argument, use);
}

static void start_round(weir_routing *self)
{
    uint64_t round = weir_route_round(self->route);
    if (round == self->round || self->unanswered[TOKEN_ROUND]) return;
    self->round = round;
    weir_routing_seal(self, true);
    for (uint32_t i = 0; i < self->map->shard_count; i++)
        send_token(self, i, WEIR_TOKEN_FLUSH, round, TOKEN_ROUND);
}

void weir_routing_answered(weir_routing *self, token_use use)
{
    if (--self->unanswered[use]) return;
    if (use == TOKEN_MARK) {
        weir_route_marked(self->user, self->marking);
    } else {
        weir_route_flushed(self->user, self->round);
        start_round(self);
    }
}

void weir_routing_flush(weir_routing *self)
{
    weir_routing_seal(self, true);
}

/* --- Following the map ------------------------------------------------------------- */

static weir_output *find_shard(const weir_routing *self, const char *endpoint)
{
    for (uint32_t i = 0; self->map && i < self->map->shard_count; i++)
        if (self->shards[i] && streq(self->shards[i]->endpoint, endpoint))
            return self->shards[i];
    return NULL;
}

static weir_err open_shard(weir_routing *self, const char *endpoint, weir_output **shard,
                           weir_report *report)
{
    weir_endpoint where = {.endpoint = endpoint};
    weir_output_config config = {.port = self->kit->ports[self->port],
                                 .endpoint = &where,
                                 .reader = self->reader,
                                 .number = -1,
                                 .routing = self};
    return weir_output_open(shard, self->kit, &config, report);
}

static bool has_shard(weir_output **shards, uint32_t count, const weir_output *shard)
{
    for (uint32_t i = 0; i < count; i++)
        if (shards[i] == shard) return true;
    return false;
}

/*  Who is not in the map any more has made everything safe before it left. What its
    tokens were for may end with it, and then new ones go to all that are.     */
static void close_others(weir_routing *self, weir_output **before, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!has_shard(self->shards, self->map->shard_count, before[i]))
            weir_output_close(before[i]);
}

/*  A marker goes to each shard that loses vnodes, behind all that it was sent. */
static void send_markers(weir_routing *self)
{
    self->marking = self->map->version;
    for (uint32_t i = 0; i < self->map->shard_count; i++)
        if (self->map->shards[i].loses)
            send_token(self, i, WEIR_TOKEN_MARKER, self->marking, TOKEN_MARK);
    if (!self->unanswered[TOKEN_MARK]) weir_route_marked(self->user, self->marking);
}

static weir_err follow(weir_routing *self, weir_report *report)
{
    weir_route_map *map = weir_route_map_get(self->route);
    if (!map) return weir_report_set(report, WEIR_ENOTFOUND, NULL, "it has no shards");
    weir_output **shards = calloc(map->shard_count, sizeof *shards);
    if (!shards) abort();
    if (self->map) weir_routing_seal(self, true);
    weir_err err = WEIR_OK;
    for (uint32_t i = 0; i < map->shard_count && !err; i++) {
        shards[i] = find_shard(self, map->shards[i].endpoint);
        if (!shards[i])
            err = open_shard(self, map->shards[i].endpoint, &shards[i], report);
    }
    if (err) {
        free(shards);
        weir_route_map_destroy(&map);
        return err;
    }
    weir_output **before = self->shards;
    uint32_t count = self->map ? self->map->shard_count : 0;
    weir_route_map_destroy(&self->map);
    self->shards = shards;
    self->map = map;
    weir_splitter_resize(self->splitter, map->shard_count);
    close_others(self, before, count);
    free(before);
    send_markers(self);
    return WEIR_OK;
}

static void woken(void *arg)
{
    weir_routing *self = arg;
    weir_report report = {0};
    eventfd_read(self->wake_fd, &(eventfd_t){0});
    if (weir_route_version(self->route) != self->map->version && follow(self, &report))
        weir_actor_fail(self->kit, report.err, NULL, "%s: %s", self->reader, report.text);
    else
        start_round(self);
}

/* --- Life -------------------------------------------------------------------------- */

weir_err weir_routing_open(weir_actor *kit, int port, weir_route *route,
                           const char *reader, weir_report *report)
{
    weir_routing *self = calloc(1, sizeof *self);
    if (!self) abort();
    const weir_route_config *config = weir_route_config_of(route);
    size_t target = kit->node.block_bytes;
    self->kit = kit;
    self->port = port;
    self->reader = strdup(reader);
    self->route = weir_route_dup(route);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->splitter = weir_splitter_new(&(weir_splitter_config){
        .key = config->key,
        .target = target < config->block_max ? target : config->block_max,
        .block_max = config->block_max,
        .records_max = config->records_max,
        .linger_us = config->linger_us,
        .ledger = kit->node.ledger,
        .notes_which = kit->class->tracks,
        .sealed = split_sealed,
        .arg = self,
    });
    self->next = kit->routings;
    kit->routings = self;
    if (self->wake_fd < 0 ||
        weir_loop_watch(&kit->loop, self->wake_fd, false, woken, self))
        return weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
    self->round = weir_route_round(route); // before it joins: a later one is not missed
    self->user = weir_route_join(route, self->wake_fd);
    return follow(self, report);
}

void weir_routing_close(weir_routing **self_p)
{
    weir_routing *self = *self_p;
    *self_p = NULL;
    weir_route_leave(&self->user);
    weir_route_map_destroy(&self->map);
    weir_route_destroy(&self->route);
    weir_splitter_destroy(&self->splitter);
    if (self->wake_fd >= 0) close(self->wake_fd);
    free(self->shards);
    free(self->reader);
    free(self);
}
