#include "actors/bus_probe.h"
#include "actors/hub.h"
#include "actors/jetstream_port.h"
#include "actors/jetstream_url.h"
#include "actors/redis_probe.h"
#include "actors/redis_url.h"
#include <inttypes.h>
#include <string.h>

/*  Any: nothing is written.                                                        */
static const uint64_t nonce = 1;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static weir_err open_redis(weir_store **store, const weir_bus_node_config *c,
                           int64_t timeout_us, weir_report *report)
{
    weir_redis_config config = weir_bus_redis_config(&c->bus);
    config.bus = weir_hub_name(c->hub);
    config.nonce = nonce;
    config.timeout_us = least(config.timeout_us, timeout_us);
    return weir_redis_store_new(store, &config, report);
}

static weir_err open_jetstream(weir_store **store, const weir_bus_node_config *c,
                               int64_t timeout_us, weir_report *report)
{
    weir_jetstream_config config = weir_bus_jetstream_config(&c->bus);
    config.bus = weir_hub_name(c->hub);
    config.timeout_us = least(config.timeout_us, timeout_us);
    return weir_jetstream_store_new(store, &config, report);
}

/*  The url as it may be told; it was parsed before.                                */
static void show_url(const weir_bus_options *o, char *text, size_t size)
{
    weir_redis_url redis = {0};
    weir_nats_servers nats = {0};
    weir_report report;
    if (o->store == WEIR_BUS_REDIS) {
        weir_redis_url_parse(&redis, o->redis_server.url, &report);
        snprintf(text, size, "%s", redis.shown);
        weir_redis_url_fini(&redis);
    } else {
        weir_nats_servers_parse(&nats, o->jetstream_server.url, &report);
        snprintf(text, size, "%s", nats.text ? nats.text : "");
        weir_nats_servers_fini(&nats);
    }
}

/*  Whether the place of the first shard, which every bus has, is free or ours. WEIR_OK
    without a verdict where that cannot be seen: the list of shards tells why.       */
static weir_err look_at_key(const weir_bus_node_config *c, int64_t timeout_us,
                            weir_report *report)
{
    weir_redis_config config = weir_bus_redis_config(&c->bus);
    weir_redis_server server = WEIR_REDIS_SERVER_DEFAULTS;
    char key[512];
    snprintf(key, sizeof key, "%s:%s:0", config.prefix, weir_hub_name(c->hub));
    server.url = (char *)config.url;
    server.plaintext = config.plaintext;
    weir_redis_probe what = {.server = &server,
                             .stream = key,
                             .stream_size = strlen(key),
                             .timeout_us = least(config.timeout_us, timeout_us)};
    return weir_redis_probe_run(&what, report);
}

static weir_err judge_stream(const weir_js_response *is,
                             const weir_jetstream_config *config,
                             const weir_js_names *names, const char *shown,
                             weir_report *report)
{
    char why[200];
    weir_buffer update = {0};
    if (is->failed) return WEIR_OK;
    weir_js_verdict verdict =
        weir_js_judge_stream(&is->root, config, names, &update, why);
    weir_buffer_fini(&update);
    if (verdict != WEIR_JS_FOREIGN) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, shown,
                           "the stream %s is not this bus's: %s", names->stream, why);
}

/*  The list of shards is made by their subjects: a stream in the first one's place that
   has others is not in it.                                                            */
static weir_err look_at_stream(const weir_bus_node_config *c, int64_t timeout_us,
                               weir_report *report)
{
    weir_jetstream_config config = weir_bus_jetstream_config(&c->bus);
    weir_js_port_config port = WEIR_JS_PORT_DEFAULTS;
    weir_js_names names;
    weir_js_asker asker;
    config.bus = weir_hub_name(c->hub);
    weir_js_names_make(&names, &config, 0);
    port.url = (char *)config.url;
    port.tls = config.tls;
    port.plaintext = config.plaintext;
    timeout_us = port.timeout_us = least(config.timeout_us, timeout_us);
    weir_err err = weir_js_asker_open(&asker, &port, timeout_us, report);
    if (!err) err = weir_js_ask_now(&asker, "STREAM.INFO", names.stream, "", report);
    if (!err)
        err = judge_stream(&asker.response, &config, &names, asker.port.servers.text,
                           report);
    weir_js_asker_close(&asker);
    return err;
}

static weir_err look(weir_store *store, const weir_bus_options *o, weir_report *report)
{
    char url[256], foreign[256] = "";
    size_t count;
    uint64_t records = 0;
    weir_store_shard *list;
    weir_err err = store->class->shards(store, &list, &count, report);
    if (strstr(report->text, report->where)) report->where[0] = 0;
    if (err) return err;
    for (size_t i = 0; i < count; i++)
        records += list[i].records;
    free(list);
    show_url(o, url, sizeof url);
    if (o->store == WEIR_BUS_JETSTREAM) weir_jetstream_foreign(store, foreign);
    if (foreign[0]) return weir_report_set(report, WEIR_EREFUSED, url, "%s", foreign);
    return weir_report_set(report, WEIR_OK, NULL,
                           "%s: %zu shard%s with %" PRIu64 " record%s", url, count,
                           count == 1 ? "" : "s", records, records == 1 ? "" : "s");
}

weir_err weir_bus_probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const weir_bus_node_config *c = config;
    weir_store *store = NULL;
    weir_err err = WEIR_OK;
    if (c->bus.store == WEIR_BUS_REDIS) {
        err = look_at_key(c, timeout_us, report);
        if (!err) err = open_redis(&store, c, timeout_us, report);
    } else if (c->bus.store == WEIR_BUS_JETSTREAM) {
        err = look_at_stream(c, timeout_us, report);
        if (!err) err = open_jetstream(&store, c, timeout_us, report);
    }
    if (err || !store) return err;
    err = look(store, &c->bus, report);
    store->class->close(&store);
    return err;
}
