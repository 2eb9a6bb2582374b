#include "actors/bus_tell.h"
#include "actors/hub.h"
#include "runtime/clock.h"
#include "runtime/json.h"
#include <limits.h>

static void put(weir_buffer *out, const char *name, uint64_t number)
{
    const char *comma = out->data[out->size - 1] == '{' ? "" : ",";
    weir_buffer_printf(out, "%s\"%s\":%" PRIu64, comma, name, number);
}

static void put_bool(weir_buffer *out, const char *name, bool value)
{
    weir_buffer_printf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

static void begin_element(weir_buffer *out)
{
    weir_buffer_put_text(out, out->data[out->size - 1] == '[' ? "{" : ",{");
}

/* --- Shards ------------------------------------------------------------------------ */

/*  offered = accepted + full + .. + closed; accepted = safe + evicted + dead + resident.
 */
static void put_counts(weir_buffer *out, const weir_shard_stats *s)
{
    put(out, "offered", s->ring.offered);
    put(out, "accepted", s->ring.accepted);
    put(out, "full", s->ring.full);
    put(out, "sampled", s->ring.sampled);
    put(out, "too_large", s->ring.too_large);
    put(out, "invalid", s->ring.invalid);
    put(out, "closed", s->ring.closed);
    put(out, "safe", s->safe);
    put(out, "evicted", s->ring.evicted);
    put(out, "dead", s->dead);
    put(out, "resident", weir_shard_resident(s));
    put(out, "recalled", s->recalled);
    put(out, "in_ring", s->ring.count);
    put(out, "in_ring_bytes", s->ring.bytes);
    put(out, "parked", s->ring.parked);
    put(out, "open", s->open);
    put(out, "under_way", s->under_way);
    put(out, "batches", s->batches);
    put(out, "retries", s->dispatch.retries);
    int64_t age_us = s->oldest_us ? weir_clock_now_us() - s->oldest_us : 0;
    put(out, "oldest_ms", age_us > 0 ? (uint64_t)age_us / 1000 : 0);
}

/*  The fuller of both bounds, in percent.                                          */
static unsigned fill_of(const weir_bus_options *o, const weir_shard_stats *s)
{
    double records = (double)s->ring.count / (double)o->ring_records;
    double bytes = (double)s->ring.bytes / (double)o->ring_bytes;
    return (unsigned)(100 * (records > bytes ? records : bytes) + 0.5);
}

static void put_shard(weir_buffer *out, const weir_bus_options *o, weir_hub_shard *shard,
                      const weir_shard_stats *s)
{
    begin_element(out);
    put(out, "shard", shard->id);
    weir_json_put_member(out, "state", weir_shard_state_words[shard->state]);
    put(out, "vnodes", shard->vnodes);
    put_counts(out, s);
    put(out, "fill_percent", fill_of(o, s));
    put(out, "target", s->target);
    put(out, "batches_under_way", s->dispatch.batches);
    put_bool(out, "held", s->dispatch.held);
    weir_json_put_member(out, "error", s->dispatch.error);
    weir_buffer_put_byte(out, '}');
}

/*  The sums come first, of the same copies.                                        */
static void put_shards(weir_buffer *out, weir_hub *hub)
{
    size_t count;
    unsigned fill = 0, active = 0;
    const weir_bus_options *o = weir_hub_config(hub);
    weir_hub_shard **list = weir_hub_list(hub, &count);
    weir_shard_stats *stats = calloc(count + 1, sizeof *stats), *sum = &stats[count];
    if (!stats) abort();
    for (size_t i = 0; i < count; i++) {
        weir_hub_look(list[i], &stats[i]);
        weir_shard_stats_add(sum, &stats[i]);
        unsigned one = fill_of(o, &stats[i]);
        fill = one > fill ? one : fill;
        active += list[i]->state == WEIR_SHARD_ACTIVE;
    }
    put(out, "active", active);
    put(out, "fill_percent", fill);
    put_counts(out, sum);
    weir_buffer_put_text(out, ",\"shards\":[");
    for (size_t i = 0; i < count; i++)
        put_shard(out, o, list[i], &stats[i]);
    weir_buffer_put_byte(out, ']');
    free(stats);
    free(list);
}

/* --- Store ------------------------------------------------------------------------- */

static void put_stored(weir_buffer *out, const weir_store_shard *s)
{
    begin_element(out);
    put(out, "shard", s->shard);
    put(out, "stored", s->last);
    put(out, "present", s->records);
    put(out, "trimmed", s->trimmed);
    put(out, "damaged", s->last - s->records - s->trimmed);
    put(out, "bytes", s->bytes);
    put(out, "first", s->first);
    put(out, "oldest_wall_ms", (uint64_t)s->oldest_ms);
    put(out, "newest_wall_ms", (uint64_t)s->newest_ms);
    weir_buffer_put_byte(out, '}');
}

static void put_disk(weir_buffer *out, weir_store *store)
{
    weir_disk_stats disk = {0};
    weir_disk_look(store, &disk);
    weir_buffer_put_text(out, ",\"disk\":{");
    put(out, "commits", disk.commits);
    put(out, "commit_bytes", disk.commit_bytes);
    put(out, "commit_us", (uint64_t)disk.commit_us);
    put(out, "map_bytes", disk.map_bytes);
    put(out, "used_bytes", disk.used_bytes);
    put(out, "free_bytes", disk.free_bytes);
    put(out, "compactions", disk.compactions);
    put_bool(out, "full", disk.full);
    weir_json_put_member(out, "held_by", disk.held_by);
    weir_buffer_put_byte(out, '}');
}

static void put_redis(weir_buffer *out, weir_store *store)
{
    weir_redis_stats redis;
    weir_redis_look(store, &redis);
    weir_buffer_put_text(out, ",\"redis\":{");
    put(out, "connections", redis.connections);
    put_bool(out, "connected", redis.connected);
    weir_json_put_member(out, "error", redis.error);
    put(out, "calls", redis.calls);
    put(out, "records", redis.call_records);
    put(out, "unanswered_max", redis.unanswered_max);
    put(out, "buffer_max", redis.buffer_max);
    weir_buffer_put_byte(out, '}');
}

static void put_jetstream(weir_buffer *out, weir_store *store)
{
    weir_jetstream_stats js;
    weir_jetstream_look(store, &js);
    weir_buffer_put_text(out, ",\"jetstream\":{");
    put(out, "connections", js.connects);
    put_bool(out, "connected", js.connected);
    weir_json_put_member(out, "error", js.error);
    put(out, "published", js.published);
    put(out, "stored", js.stored);
    put(out, "lookups", js.lookups);
    weir_buffer_put_byte(out, '}');
}

/*  What the class of a store knows beside its shards.                              */
static void put_class(weir_buffer *out, int kind, weir_store *store)
{
    if (kind == WEIR_BUS_DISK) put_disk(out, store);
    if (kind == WEIR_BUS_REDIS) put_redis(out, store);
    if (kind == WEIR_BUS_JETSTREAM) put_jetstream(out, store);
}

static void put_store(weir_buffer *out, weir_hub *hub)
{
    char path[PATH_MAX];
    weir_store *store = weir_hub_store(hub);
    weir_store_shard *list = NULL;
    size_t count = 0;
    weir_report report = {0};
    weir_json_put_member(out, "store", store ? store->class->name : "memory");
    if (!store) return;
    const char *folder = weir_hub_store_path(hub);
    weir_json_put_member(out, "path", realpath(folder, path) ? path : folder);
    put_class(out, weir_hub_config(hub)->store, store);
    if (store->class->shards(store, &list, &count, &report))
        weir_json_put_member(out, "store_error", report.text);
    weir_buffer_put_text(out, ",\"stored\":[");
    for (size_t i = 0; i < count; i++)
        put_stored(out, &list[i]);
    weir_buffer_put_byte(out, ']');
    free(list);
}

/* --- Groups ------------------------------------------------------------------------ */

static void put_group_counts(weir_buffer *out, const weir_group_look *g)
{
    put(out, "last", g->stored);
    put(out, "commit", g->stored - g->lag);
    if (g->counted) {
        put(out, "start", g->start.a);
        put(out, "done", g->done);
    }
    put(out, "shed", g->shed);
    put(out, "lag", g->lag);
    put(out, "dead", g->dead);
    put(out, "held", g->held);
}

static void put_group_shard(weir_buffer *out, const weir_group_look *g)
{
    begin_element(out);
    put(out, "shard", g->shard);
    put_group_counts(out, g);
    weir_json_put_member(out, "member", g->member);
    weir_buffer_put_byte(out, '}');
}

static void add_look(weir_group_look *sum, const weir_group_look *g)
{
    sum->start.a += g->start.a;
    sum->stored += g->stored;
    sum->counted = g->counted;
    sum->done += g->done;
    sum->shed += g->shed;
    sum->lag += g->lag;
    sum->dead += g->dead;
    sum->held += g->held;
}

/*  The looks of one group stand together; gives how many there are.                */
static size_t put_group(weir_buffer *out, const weir_group_look *looks, size_t count)
{
    weir_group_look sum = {.group = NULL};
    size_t n = 0;
    for (; n < count && streq(looks[n].group, looks[0].group); n++)
        add_look(&sum, &looks[n]);
    begin_element(out);
    weir_json_put_member(out, "group", looks[0].group);
    put_group_counts(out, &sum);
    weir_buffer_put_text(out, ",\"shards\":[");
    for (size_t i = 0; i < n; i++)
        put_group_shard(out, &looks[i]);
    weir_buffer_put_text(out, "]}");
    return n;
}

static void put_groups(weir_buffer *out, weir_hub *hub)
{
    weir_group_look *looks = NULL;
    size_t count = 0;
    weir_report report = {0};
    weir_groups *groups = weir_hub_groups(hub);
    if (groups && weir_groups_look(groups, &looks, &count, &report))
        weir_json_put_member(out, "groups_error", report.text);
    weir_buffer_put_text(out, ",\"groups\":[");
    for (size_t i = 0; looks && i < count;)
        i += put_group(out, &looks[i], count - i);
    weir_buffer_put_byte(out, ']');
    if (looks) weir_group_looks_free(&looks, count);
}

/* --- All of it --------------------------------------------------------------------- */

void weir_bus_tell(const void *config, weir_buffer *out)
{
    char nonce[20];
    const weir_bus_node_config *c = config;
    const weir_bus_options *o = &c->bus;
    if (!c->hub || !weir_hub_is_open(c->hub)) return;
    snprintf(nonce, sizeof nonce, "%016" PRIx64,
             weir_bus_state_nonce(weir_hub_state(c->hub)));
    weir_json_put_member(out, "nonce", nonce);
    put(out, "epoch", weir_bus_state_epoch(weir_hub_state(c->hub)));
    weir_json_put_member(out, "overflow", weir_overflow_words[o->overflow]);
    put(out, "ring_records", (uint64_t)o->ring_records);
    put(out, "ring_bytes", (uint64_t)o->ring_bytes);
    put(out, "min", (uint64_t)o->scale.min);
    put(out, "max", weir_bus_scale_max(o));
    put(out, "flush_timeout_ms", (uint64_t)o->flush_timeout_us / 1000);
    put_shards(out, c->hub);
    put_store(out, c->hub);
    put_groups(out, c->hub);
}
