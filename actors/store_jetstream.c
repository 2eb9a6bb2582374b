#include "actors/store_jetstream.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "actors/jetstream_private.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/plan.h"

/*  What a server takes at least for max_age and the duplicate window.               */
#define LEAST_AGE_US INT64_C(100000)
#define DAY_US INT64_C(86400000000)

const weir_jetstream_config weir_jetstream_defaults = {
    .prefix = "weir",
    .timeout_us = 5000000,
    .window = 1000,
    .keep_age_us = WEIR_FOREVER,
    .keep_bytes = WEIR_FOREVER,
    .keep_records = WEIR_FOREVER,
    .replicas = 1,
    .dedup_us = 3600000000,
};

/* --- Checking ---------------------------------------------------------------------- */

static bool is_within(int64_t value, int64_t least, int64_t most)
{
    return value >= least && value <= most;
}

static weir_err wrong(weir_report *report, const char *option, const char *text)
{
    return weir_report_set(report, WEIR_EINVAL, option, "%s", text);
}

static weir_err check_bounds(const weir_jetstream_config *c, weir_report *report)
{
    if (c->keep_age_us < LEAST_AGE_US)
        return wrong(report, "keep.age", "is below 100ms, the least that a server takes");
    if (c->keep_age_us != WEIR_FOREVER && c->keep_age_us > INT64_MAX / 1000)
        return wrong(report, "keep.age", "is too long");
    if (c->keep_bytes < 1) return wrong(report, "keep.bytes", "is not above 0");
    if (c->keep_records < 1) return wrong(report, "keep.records", "is not above 0");
    return WEIR_OK;
}

static weir_err check(const weir_jetstream_config *c, weir_nats_servers *servers,
                      weir_report *report)
{
    if (!c->prefix || !weir_plan_is_name(c->prefix))
        return wrong(report, "prefix", "is not 1 to 63 letters, digits, _ or -");
    if (!c->url) return wrong(report, "url", "is required");
    if (!is_within(c->timeout_us, 1000, DAY_US))
        return wrong(report, "timeout", "is not from 1ms to a day");
    if (!is_within(c->window, 1, 65536))
        return wrong(report, "window", "is not from 1 to 65536");
    if (!is_within(c->replicas, 1, 5))
        return wrong(report, "replicas", "is not from 1 to 5");
    if (!is_within(c->dedup_us, LEAST_AGE_US, 3600000000))
        return wrong(report, "dedup", "is not from 100ms to 1h");
    weir_report cause = {0};
    if (check_bounds(c, report)) return report->err;
    if (weir_nats_servers_parse(servers, c->url, &cause) ||
        weir_nats_servers_check(servers, c->tls, c->plaintext, &cause))
        return wrong(report, "url", cause.text);
    return WEIR_OK;
}

weir_err weir_jetstream_config_check(const weir_jetstream_config *config,
                                     weir_report *report)
{
    weir_nats_servers servers = {0};
    weir_err err = check(config, &servers, report);
    weir_nats_servers_fini(&servers);
    return err;
}

/* --- Keeper ------------------------------------------------------------------------ */

void weir_js_wake_keeper(void *store, int64_t due_us)
{
    weir_js_store *self = store;
    int64_t until_us = atomic_load(&self->asleep_until);
    if (until_us < 0 || due_us < until_us) eventfd_write(self->wake, 1);
}

/*  Whoever sets a deadline looks at asleep_until afterwards; so it is set before the
    deadlines are looked at, to "for ever", and then again.                          */
static void *run(void *arg)
{
    weir_js_store *self = arg;
    weir_log_actor(self->config.bus);
    while (!atomic_load(&self->closing)) {
        struct pollfd fd = {.fd = self->wake, .events = POLLIN};
        atomic_store(&self->asleep_until, -1);
        int64_t due_us = weir_js_writer_run(&self->writer);
        due_us = weir_earlier(due_us, weir_js_reader_run(&self->reader));
        atomic_store(&self->asleep_until, due_us);
        poll(&fd, 1, weir_clock_timeout_ms(due_us));
        eventfd_read(self->wake, &(eventfd_t){0});
    }
    return NULL;
}

static int start_keeper(weir_js_store *self)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&self->keeper, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc) weir_clock_watch(self->wake);
    return rc;
}

/* --- Watching ---------------------------------------------------------------------- */

static void watch(weir_store *store, int fd)
{
    weir_js_store *self = (weir_js_store *)store;
    pthread_mutex_lock(&self->watch_mutex);
    weir_watchers_add(&self->watchers, fd);
    pthread_mutex_unlock(&self->watch_mutex);
}

static void unwatch(weir_store *store, int fd)
{
    weir_js_store *self = (weir_js_store *)store;
    pthread_mutex_lock(&self->watch_mutex);
    weir_watchers_remove(&self->watchers, fd);
    pthread_mutex_unlock(&self->watch_mutex);
}

void weir_js_tell_watchers(weir_js_store *self)
{
    pthread_mutex_lock(&self->watch_mutex);
    weir_watchers_tell(&self->watchers);
    pthread_mutex_unlock(&self->watch_mutex);
}

/* --- What its bus does for it ----------------------------------------------- */

static weir_err list_fences(weir_store *store, weir_fence **list, size_t *count,
                            weir_report *report)
{
    (void)report;
    weir_fence_list_get(&((weir_js_store *)store)->fences, list, count);
    return WEIR_OK;
}

static void set_fences(weir_store *store, const weir_fence *list, size_t count)
{
    weir_fence_list_set(&((weir_js_store *)store)->fences, list, count);
}

static uint64_t epoch(weir_store *store)
{
    return weir_js_writer_epoch(&((weir_js_store *)store)->writer);
}

/*  The server trims by its bounds, whatever groups have read.                       */
static void commit(weir_store *store, const char *group, uint32_t shard, uint64_t offset)
{
    (void)store, (void)group, (void)shard, (void)offset;
}

static void forget(weir_store *store, const char *group)
{
    (void)store, (void)group;
}

/* --- Life -------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    char *to = strdup(text);
    if (!to) abort();
    return to;
}

void weir_js_configure_line(weir_js_line_config *config, weir_js_store *store)
{
    *config = (weir_js_line_config){
        .url = store->config.url,
        .client = store->client,
        .actor = store->config.bus,
        .shown = store->servers.text,
        .timeout_us = store->config.timeout_us,
        .backoff = {.first_us = 100000, .max_us = 5000000},
        .nonce = store->config.nonce,
        .plaintext = store->config.plaintext,
        .tls = store->config.tls,
        .wake = weir_js_wake_keeper,
        .keeper = store,
    };
}

static void destroy(weir_js_store *self)
{
    weir_js_writer_fini(&self->writer);
    weir_js_reader_fini(&self->reader);
    if (self->wake >= 0) close(self->wake);
    pthread_mutex_destroy(&self->watch_mutex);
    weir_fence_list_fini(&self->fences);
    weir_watchers_fini(&self->watchers);
    weir_nats_servers_fini(&self->servers);
    free((char *)self->config.bus);
    free((char *)self->config.prefix);
    explicit_bzero((char *)self->config.url, strlen(self->config.url));
    free((char *)self->config.url);
    free(self);
}

static void close_store(weir_store **self_p)
{
    weir_js_store *self = (weir_js_store *)*self_p;
    if (!self) return;
    *self_p = NULL;
    atomic_store(&self->closing, true);
    eventfd_write(self->wake, 1);
    pthread_join(self->keeper, NULL);
    weir_clock_unwatch(self->wake);
    weir_js_writer_close(&self->writer);
    weir_js_reader_close(&self->reader);
    destroy(self);
}

static const weir_store_class class = {
    .name = "jetstream",
    .write = weir_js_write,
    .read = weir_js_read,
    .shards = weir_js_shards,
    .fences = list_fences,
    .set_fences = set_fences,
    .epoch = epoch,
    .watch = watch,
    .unwatch = unwatch,
    .commit = commit,
    .forget = forget,
    .flush = weir_js_flush,
    .close = close_store,
};

static weir_js_store *make(const weir_jetstream_config *config,
                           const weir_nats_servers *servers)
{
    weir_js_store *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->base.class = &class;
    self->config = *config;
    self->fences = (weir_fence_list)WEIR_FENCE_LIST_INIT;
    self->config.bus = copy(config->bus);
    self->config.prefix = copy(config->prefix);
    self->config.url = copy(config->url);
    self->servers = *servers;
    snprintf(self->client, sizeof self->client, "weir %s", config->bus);
    pthread_mutex_init(&self->watch_mutex, NULL);
    weir_js_writer_init(&self->writer, self);
    weir_js_reader_init(&self->reader, self);
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return self;
}

weir_err weir_jetstream_store_new(weir_store **self_p,
                                  const weir_jetstream_config *config,
                                  weir_report *report)
{
    weir_nats_servers servers = {0};
    weir_err err = check(config, &servers, report);
    if (!err && (!config->bus || !weir_plan_is_name(config->bus)))
        err = wrong(report, "bus", "has a name of 1 to 63 letters, digits, _ or -");
    if (err) {
        weir_nats_servers_fini(&servers);
        return err;
    }
    weir_js_store *self = make(config, &servers);
    int rc = self->wake < 0 ? errno : start_keeper(self);
    if (!rc) {
        *self_p = &self->base;
        return WEIR_OK;
    }
    destroy(self);
    errno = rc;
    return weir_report_set(report, WEIR_ESYS, config->bus, "jetstream: cannot start: %s",
                           strerror(rc));
}

void weir_jetstream_look(weir_store *store, weir_jetstream_stats *stats)
{
    weir_js_writer *writer = &((weir_js_store *)store)->writer;
    pthread_mutex_lock(&writer->line.mutex);
    *stats = writer->stats;
    stats->connected = writer->line.state == WEIR_LINE_UP;
    stats->connects = writer->line.connects;
    memcpy(stats->error, writer->line.error, sizeof stats->error);
    pthread_mutex_unlock(&writer->line.mutex);
}
