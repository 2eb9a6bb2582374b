#include "actors/bus_config.h"
#include <unistd.h>

#define DEFAULTS                                                                         \
    {                                                                                    \
        .shards = WEIR_AUTO, .vnodes = 256, .ring_records = 262144,                      \
        .ring_bytes = 64 << 20, .batch = WEIR_BATCH_DEFAULTS,                            \
        .retry = WEIR_RETRY_DEFAULTS, .flush_timeout_us = 30000000,                      \
        .drain_timeout_us = 30000000, .scale = WEIR_SCALE_DEFAULTS,                      \
        .disk = {.map_bytes = 1 << 30,                                                   \
                 .map_max_bytes = 1ll << 40,                                             \
                 .commit_bytes = 8 << 20,                                                \
                 .compact_at = 0.5,                                                      \
                 .keep_age_us = WEIR_FOREVER,                                            \
                 .keep_bytes = WEIR_FOREVER,                                             \
                 .keep_records = WEIR_FOREVER,                                           \
                 .hold = true},                                                          \
        .redis_server.prefix = "weir", .jetstream_server.prefix = "weir",                \
        .redis = {.timeout_us = 5000000, .window = 1000, .keep_records = WEIR_FOREVER},  \
        .jetstream = {                                                                   \
            .timeout_us = 5000000,                                                       \
            .window = 1000,                                                              \
            .keep_age_us = WEIR_FOREVER,                                                 \
            .keep_bytes = WEIR_FOREVER,                                                  \
            .keep_records = WEIR_FOREVER,                                                \
            .replicas = 1,                                                               \
            .dedup_us = 3600000000,                                                      \
        }                                                                                \
    }

const weir_bus_options weir_bus_options_defaults = DEFAULTS;
const weir_bus_node_config weir_bus_node_defaults = {.bus = DEFAULTS};

/* --- Options ----------------------------------------------------------------------- */

static const char *const none_word[] = {"none", NULL};
static const char *const auto_word[] = {"auto", NULL};
static const char *const function_word[] = {"function", NULL};
static const char *const forever_word[] = {"forever", NULL};
static const char *const all_word[] = {"all", NULL};
const char *const weir_bus_store_words[] = {"none", "disk", "redis", "jetstream", NULL};

#define AT(field) offsetof(weir_bus_node_config, bus.field)
#define KB 1024.0
#define MB (1024 * KB)
#define GB (1024 * MB)
#define TB (1024 * GB)
#define MS 1000.0
#define HOUR (3600e6)

/*  One row a line here, since the table is long.                                   */
/* clang-format off */
#define TIME(name, field, help) \
    {name, WEIR_OPTION_TIME, AT(field), MS, HOUR, NULL, false, help}
#define SIZE(name, field, least, most, help) \
    {name, WEIR_OPTION_SIZE, AT(field), least, most, NULL, false, help}
#define COUNT(name, field, least, most, words, help) \
    {name, WEIR_OPTION_INT, AT(field), least, most, words, false, help}
#define RATIO(name, field, least, most, help) \
    {name, WEIR_OPTION_NUMBER, AT(field), least, most, NULL, false, help}
#define WORD(name, field, words, help) \
    {name, WEIR_OPTION_WORD, AT(field), 0, 0, words, false, help}
#define FLAG(name, field, help) \
    {name, WEIR_OPTION_BOOL, AT(field), 0, 0, NULL, false, help}
#define BOUND(name, type, field, least, help) \
    {name, type, AT(field), least, WEIR_UNBOUNDED, all_word, false, help}

const weir_option weir_bus_node_options[] = {
    COUNT("shards", shards, 1, 1024, auto_word, "active shards at the first start; auto: as many as CPUs, at most 8"),
    COUNT("vnodes", vnodes, 1, 65536, NULL, "units of routing; fixed once the state is there"),
    {"key", WEIR_OPTION_FIELD, AT(key), 0, 0, NULL, false, "field with the key; wins over the record's own"},
    {"state", WEIR_OPTION_PATH, AT(state), 0, 0, NULL, false, "folder for identity, shards and groups; none: that of the disk store"},
    COUNT("ring_records", ring_records, 1, 1073741824, NULL, "records in a shard's ring"),
    SIZE("ring_bytes", ring_bytes, MB, 64 * GB, "bytes in a shard's ring"),
    WORD("overflow", overflow, weir_overflow_words, "when the ring is full; sample { one_in = n }"),
    {"sample.one_in", WEIR_OPTION_INT, AT(one_in), 1, 1e6, NULL, true, "1 in so many of the records that find the ring full is taken"},
    COUNT("batch.min_records", batch.min_records, 1, 1e6, NULL, "smallest target of a batch"),
    COUNT("batch.max_records", batch.max_records, 1, 1e6, NULL, "most records in a batch"),
    SIZE("batch.max_bytes", batch.max_bytes, 4 * KB, 8 * MB, "most bytes in a batch"),
    COUNT("batch.in_flight", batch.in_flight, 1, 64, NULL, "batches of a shard that are not safe yet"),
    TIME("batch.max_delay", batch.max_delay_us, "longest that a batch is open"),
    TIME("batch.window", batch.window_us, "window for the rate of arrival"),
    COUNT("retry.attempts", retry.attempts, 1, 1e6, forever_word, "for a batch"),
    WORD("retry.exhausted", retry.exhausted, weir_exhausted_words, "after the last attempt"),
    TIME("retry.timeout", retry.timeout_us, "of one attempt"),
    TIME("retry.first", retry.wait.first_us, "wait after the first failure"),
    TIME("retry.max", retry.wait.max_us, "ceiling of that wait"),
    TIME("flush_timeout", flush_timeout_us, "deadline of a flush"),
    TIME("drain_timeout", drain_timeout_us, "deadline of a close"),
    {"scale", WEIR_OPTION_TABLE, AT(policy), 0, 0, function_word, false, "the policy that adds and drains shards: the bounds of the built-in one, or a function that is called each window with { shards, hot, cold, load, fill, wait_ms, rate } and returns how many there should be; none: their number changes by command alone"},
    COUNT("scale.min", scale.min, 1, 1024, NULL, "fewest active shards"),
    COUNT("scale.max", scale.max, 1, 1024, none_word, "most active shards; none: as many as shards"),
    RATIO("scale.fill", scale.fill, WEIR_ABOVE_0, 1, "fill of the ring at load 1"),
    RATIO("scale.idle_fill", scale.idle_fill, 0, 1, "below it a shard may be cold; it is below scale.fill"),
    TIME("scale.wait", scale.wait_us, "time in the ring at load 1"),
    TIME("scale.window", scale.window_us, "period of the policy"),
    TIME("scale.cooldown", scale.cooldown_us, "least time between two changes"),
    {"scale.want", WEIR_OPTION_FUNCTION, AT(wants), 0, 0, NULL, false, "a function instead of the built-in policy, as above, within min and max"},
    TIME("scale.idle_delay", scale.idle_delay_us, "cold for so long, a shard goes"),
    WORD("store", store, weir_bus_store_words, "disk { .. }, redis { .. } or jetstream { .. }: records are stored there before they are acknowledged"),
    {"disk.path", WEIR_OPTION_PATH, AT(path), 0, 0, NULL, false, "folder of the store; none: bus/NAME in the topology's state folder"},
    SIZE("disk.map", disk.map_bytes, MB, 16 * TB, "first size of the map"),
    SIZE("disk.map_max", disk.map_max_bytes, MB, 16 * TB, "largest size of the map"),
    SIZE("disk.commit_bytes", disk.commit_bytes, 64 * KB, 256 * MB, "most bytes in a transaction"),
    RATIO("disk.compact_at", disk.compact_at, WEIR_ABOVE_0, WEIR_BELOW_1, "share of free pages that starts a compaction"),
    {"disk.keep", WEIR_OPTION_TABLE, AT(keep), 0, 0, all_word, true, "all, or a table with at least one of age, bytes and records"},
    BOUND("disk.keep.age", WEIR_OPTION_TIME, disk.keep_age_us, MS, "age that a shard keeps"),
    BOUND("disk.keep.bytes", WEIR_OPTION_SIZE, disk.keep_bytes, 1, "bytes that a shard keeps"),
    BOUND("disk.keep.records", WEIR_OPTION_INT, disk.keep_records, 1, "records that a shard keeps"),
    {"disk.keep.hold", WEIR_OPTION_BOOL, AT(disk.hold), 0, 0, NULL, false, "removes only what every group has committed"},
    {"redis.url", WEIR_OPTION_TEXT, AT(redis_server.url), 0, 0, NULL, true, "the server: \"redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]\" or \"unix:///PATH\""},
    {"redis.prefix", WEIR_OPTION_TEXT, AT(redis_server.prefix), 0, 0, NULL, false, "of the streams' keys: PREFIX:BUS:SHARD"},
    TIME("redis.timeout", redis.timeout_us, "of a connect or one request"),
    COUNT("redis.window", redis.window, 1, 65536, NULL, "unanswered records of a shard"),
    FLAG("redis.plaintext", redis.plaintext, "the server may be on another host, though there is no TLS to it"),
    {"redis.keep", WEIR_OPTION_TABLE, AT(redis_server.keep), 0, 0, all_word, false, "all, or a table with records; Redis trims by their number alone"},
    BOUND("redis.keep.records", WEIR_OPTION_INT, redis.keep_records, 1, "records that a shard keeps, about"),
    {"jetstream.url", WEIR_OPTION_TEXT, AT(jetstream_server.url), 0, 0, NULL, true, "the server, further ones behind commas: \"nats://[USER[:PASSWORD]@]HOST[:PORT]\" or \"tls://..\""},
    {"jetstream.prefix", WEIR_OPTION_TEXT, AT(jetstream_server.prefix), 0, 0, NULL, false, "of the streams PREFIX_BUS_SHARD and their subjects PREFIX.BUS.SHARD"},
    TIME("jetstream.timeout", jetstream.timeout_us, "of a connect or one request"),
    COUNT("jetstream.window", jetstream.window, 1, 65536, NULL, "unanswered records of a shard"),
    FLAG("jetstream.plaintext", jetstream.plaintext, "the server may be on another host without TLS"),
    FLAG("jetstream.tls", jetstream.tls, "uses TLS"),
    COUNT("jetstream.replicas", jetstream.replicas, 1, 5, NULL, "of each stream"),
    {"jetstream.dedup", WEIR_OPTION_TIME, AT(jetstream.dedup_us), 100 * MS, HOUR, NULL, false, "for so long the server remembers the ids of records; not longer than keep.age"},
    {"jetstream.keep", WEIR_OPTION_TABLE, AT(jetstream_server.keep), 0, 0, all_word, false, "all, or a table with at least one of age, bytes and records"},
    BOUND("jetstream.keep.age", WEIR_OPTION_TIME, jetstream.keep_age_us, 100 * MS, "age that a shard keeps"),
    BOUND("jetstream.keep.bytes", WEIR_OPTION_SIZE, jetstream.keep_bytes, 1, "bytes that a shard keeps"),
    BOUND("jetstream.keep.records", WEIR_OPTION_INT, jetstream.keep_records, 1, "records that a shard keeps"),
    {"listen", WEIR_OPTION_TEXT, AT(listen), 0, 0, NULL, false, "endpoint where others read it: \"tcp://ADDRESS:PORT\" or \"ipc://PATH\"; it needs a store"},
    {"plaintext", WEIR_OPTION_BOOL, AT(plaintext), 0, 0, NULL, false, "tcp without encryption and without knowing who reads"},
    {.name = NULL},
};
/* clang-format on */

/* --- Of the stores ----------------------------------------------------------------- */

weir_redis_config weir_bus_redis_config(const weir_bus_options *self)
{
    weir_redis_config config = self->redis;
    config.url = self->redis_server.url;
    config.prefix = self->redis_server.prefix;
    return config;
}

weir_jetstream_config weir_bus_jetstream_config(const weir_bus_options *self)
{
    weir_jetstream_config config = self->jetstream;
    config.url = self->jetstream_server.url;
    config.prefix = self->jetstream_server.prefix;
    return config;
}

/* --- Checks ------------------------------------------------------------------------ */

static weir_err wrong(weir_report *report, const char *option, const char *text)
{
    return weir_report_set(report, WEIR_EINVAL, option, "%s", text);
}

uint32_t weir_bus_first_shards(const weir_bus_options *self)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (self->shards != WEIR_AUTO) return (uint32_t)self->shards;
    int64_t shards = cpus < 1 ? 1 : cpus < 8 ? cpus : 8;
    if (shards < self->scale.min) shards = self->scale.min;
    if (self->scale.max != WEIR_NONE && shards > self->scale.max)
        shards = self->scale.max;
    return (uint32_t)(shards < self->vnodes ? shards : self->vnodes);
}

uint32_t weir_bus_scale_max(const weir_bus_options *self)
{
    if (self->scale.max != WEIR_NONE) return (uint32_t)self->scale.max;
    if (self->policy != WEIR_FUNCTION) return weir_bus_first_shards(self);
    return self->vnodes < 1024 ? (uint32_t)self->vnodes
                               : 1024; // the function's own bound
}

bool weir_bus_has_function(const weir_bus_options *self)
{
    return self->wants || self->policy == WEIR_FUNCTION;
}

bool weir_bus_has_policy(const weir_bus_options *self)
{
    return self->policy == WEIR_TABLE || self->policy == WEIR_FUNCTION;
}

static weir_err check_scale(const weir_bus_options *self, weir_report *report)
{
    int64_t shards = weir_bus_first_shards(self), max = weir_bus_scale_max(self);
    if (shards < self->scale.min)
        return wrong(report, "scale.min", "is more than shards");
    if (shards > max) return wrong(report, "scale.max", "is less than shards");
    if (max > self->vnodes)
        return wrong(report, self->scale.max == WEIR_NONE ? "shards" : "scale.max",
                     "is more than vnodes: each active shard needs one");
    if (self->scale.idle_fill >= self->scale.fill)
        return wrong(report, "scale.idle_fill", "is not below scale.fill");
    return WEIR_OK;
}

static bool has_bounds(const weir_disk_config *disk)
{
    return disk->keep_age_us != WEIR_FOREVER || disk->keep_bytes != WEIR_FOREVER ||
           disk->keep_records != WEIR_FOREVER;
}

/*  What the store itself would refuse, with the option as it stands here.          */
static weir_err wrong_in(const char *store, const weir_report *cause, weir_report *report)
{
    char option[64];
    snprintf(option, sizeof option, "%s.%.40s", store, cause->where);
    return weir_report_set(report, WEIR_EINVAL, option, "%s", cause->text);
}

static const char is_required[] = "is required";
static const char no_bounds[] = "is all, or a table with at least one bound";

static weir_err check_redis(const weir_bus_options *self, weir_report *report)
{
    weir_report cause = {0};
    weir_redis_config config = weir_bus_redis_config(self);
    if (self->redis_server.keep == WEIR_TABLE && config.keep_records == WEIR_FOREVER)
        return wrong(report, "redis.keep",
                     "is all, or { records = N }: Redis trims by their number alone");
    return weir_redis_config_check(&config, &cause) ? wrong_in("redis", &cause, report)
                                                    : WEIR_OK;
}

static weir_err check_jetstream(const weir_bus_options *self, weir_report *report)
{
    weir_report cause = {0};
    weir_jetstream_config config = weir_bus_jetstream_config(self);
    bool bounded = config.keep_age_us != WEIR_FOREVER ||
                   config.keep_bytes != WEIR_FOREVER ||
                   config.keep_records != WEIR_FOREVER;
    if (self->jetstream_server.keep == WEIR_TABLE && !bounded)
        return wrong(report, "jetstream.keep", no_bounds);
    return weir_jetstream_config_check(&config, &cause)
               ? wrong_in("jetstream", &cause, report)
               : WEIR_OK;
}

/*  Of one that is not given the table complains.                                   */
static weir_err check_server(const weir_bus_options *self, weir_report *report)
{
    if (self->store == WEIR_BUS_REDIS && self->redis_server.url)
        return check_redis(self, report);
    if (self->store == WEIR_BUS_JETSTREAM && self->jetstream_server.url)
        return check_jetstream(self, report);
    return WEIR_OK;
}

static weir_err check_required(const weir_bus_options *self, weir_report *report)
{
    if (self->overflow == WEIR_OVERFLOW_SAMPLE && !self->one_in)
        return wrong(report, "sample.one_in",
                     "is required: overflow = sample { one_in = 10 }");
    if (self->store == WEIR_BUS_REDIS && !self->redis_server.url)
        return wrong(report, "redis.url", is_required);
    if (self->store == WEIR_BUS_JETSTREAM && !self->jetstream_server.url)
        return wrong(report, "jetstream.url", is_required);
    bool kept = self->keep == WEIR_FOREVER || has_bounds(&self->disk);
    if (self->store == WEIR_BUS_DISK && !kept)
        return wrong(report, "disk.keep",
                     "is all, or a table with at least one of age, bytes and records");
    return WEIR_OK;
}

/*  What is missing comes last, since an option that was refused is missing, too, and
    should hide nothing else.                                                       */
static weir_err check_listen(const weir_bus_options *self, weir_report *report)
{
    weir_report cause = {0};
    weir_endpoint endpoint = {.endpoint = self->listen, .plaintext = self->plaintext};
    if (self->store == WEIR_BUS_MEMORY)
        return wrong(report, "listen",
                     "needs a store, such as store = disk { keep = .. }");
    if (weir_endpoint_check(&endpoint, true, &cause))
        return wrong(report, "listen", cause.text);
    if (weir_endpoint_is_foreign(self->listen)) return WEIR_OK;
    return wrong(report, "listen", "expected tcp:// or ipc://");
}

weir_err weir_bus_options_check(const weir_bus_options *self, weir_report *report)
{
    if (self->batch.min_records > self->batch.max_records)
        return wrong(report, "batch.min_records", "is more than batch.max_records");
    if (self->retry.wait.first_us > self->retry.wait.max_us)
        return wrong(report, "retry.first", "is more than retry.max");
    if (self->disk.map_bytes > self->disk.map_max_bytes)
        return wrong(report, "disk.map", "is more than disk.map_max");
    if (self->listen && check_listen(self, report)) return report->err;
    weir_err err = check_scale(self, report);
    if (!err) err = check_server(self, report);
    return err ? err : check_required(self, report);
}
