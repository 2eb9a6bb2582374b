#include "actors/store_redis.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "actors/redis_store.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/thread.h"

const weir_redis_config weir_redis_defaults = {
    .prefix = "weir",
    .timeout_us = 5000000,
    .window = 1000,
    .keep_records = WEIR_FOREVER,
};

/*  Of a string of Redis, as its proto-max-bulk-len is unless somebody changed it.    */
static const size_t record_max = 512 << 20;

/* --- Shards ------------------------------------------------------------------------ */

static size_t place_of(const weir_redis *self, uint32_t id)
{
    size_t low = 0, high = self->shard_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->shards[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static weir_redis_shard *shard_new(const weir_redis *self, uint32_t id)
{
    weir_redis_shard *shard = calloc(1, sizeof *shard);
    weir_buffer key = {0};
    if (!shard) abort();
    weir_buffer_printf(&key, "%s:%s:%" PRIu32, self->config.prefix, self->config.bus, id);
    shard->id = id;
    shard->key_size = key.size;
    weir_buffer_put_byte(&key, 0);
    shard->key = (char *)key.data;
    shard->node = self->nodes;
    shard->end = &shard->first;
    return shard;
}

weir_redis_shard *weir_redis_shard_of(weir_redis *self, uint32_t id)
{
    size_t at = place_of(self, id);
    if (at < self->shard_count && self->shards[at]->id == id) return self->shards[at];
    self->shards = realloc(self->shards, (self->shard_count + 1) * sizeof *self->shards);
    if (!self->shards) abort();
    memmove(self->shards + at + 1, self->shards + at,
            (self->shard_count - at) * sizeof *self->shards);
    self->shards[at] = shard_new(self, id);
    self->shard_count++;
    return self->shards[at];
}

/* --- Waiting ----------------------------------------------------------------------- */

void weir_redis_deadline(struct timespec *end, int64_t timeout_us)
{
    if (timeout_us < 0) timeout_us = 0;
    clock_gettime(CLOCK_MONOTONIC, end);
    int64_t ns = end->tv_nsec + timeout_us % 1000000 * 1000;
    end->tv_sec += timeout_us / 1000000 + ns / 1000000000;
    end->tv_nsec = ns % 1000000000;
}

bool weir_redis_is_past(const struct timespec *end)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec != end->tv_sec ? now.tv_sec > end->tv_sec
                                     : now.tv_nsec >= end->tv_nsec;
}

void weir_redis_wake(weir_redis *self)
{
    eventfd_write(self->wake, 1);
}

void weir_redis_tell(weir_redis *self)
{
    pthread_mutex_lock(&self->mutex);
    weir_watchers_tell(&self->watchers);
    pthread_mutex_unlock(&self->mutex);
}

/* --- The thread -------------------------------------------------------------------- */

static bool take_in(weir_redis *self)
{
    pthread_mutex_lock(&self->mutex);
    bool closing = self->closing;
    weir_redis_job *job = closing ? NULL : self->jobs_in;
    weir_redis_reading *reading = closing ? NULL : self->reads_in;
    if (!closing) {
        self->jobs_in = NULL;
        self->jobs_in_end = &self->jobs_in;
        self->reads_in = NULL;
        self->reads_in_end = &self->reads_in;
    }
    pthread_mutex_unlock(&self->mutex);
    for (weir_redis_job *next; job; job = next) {
        next = job->next;
        weir_redis_job_take(self, job);
    }
    while (reading)
        reading = weir_redis_reading_take(self, reading);
    return !closing;
}

static void work(weir_redis *self)
{
    weir_redis_reads_run_due(self);
    weir_redis_survey_run(self);
    for (weir_redis_node *node = self->nodes; node; node = node->next) {
        weir_redis_node_write(node);
        weir_redis_node_read(node);
    }
}

/*  What is polled: the wake, and of each connection its descriptor.                 */
typedef struct {
    struct pollfd *fds;
    weir_redis_conn **conns;
    size_t count, capacity;
} poll_set;

static void add_to_set(poll_set *self, int fd, short events, weir_redis_conn *conn)
{
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 8;
        self->fds = realloc(self->fds, self->capacity * sizeof *self->fds);
        self->conns = realloc(self->conns, self->capacity * sizeof *self->conns);
        if (!self->fds || !self->conns) abort();
    }
    self->fds[self->count] = (struct pollfd){.fd = fd, .events = events};
    self->conns[self->count++] = conn;
}

static int64_t add_conn(poll_set *self, weir_redis_conn *conn, int64_t due)
{
    add_to_set(self, weir_redis_conn_fd(conn), weir_redis_conn_events(conn), conn);
    return weir_earlier(due, weir_redis_conn_deadline(conn));
}

/*  What has just been appended is sent before anything is waited for.               */
static void wait_and_run(weir_redis *self, poll_set *set)
{
    eventfd_t count;
    int64_t due = weir_redis_reads_deadline(self);
    set->count = 0;
    add_to_set(set, self->wake, POLLIN, NULL);
    for (weir_redis_node *node = self->nodes; node; node = node->next) {
        due = add_conn(set, node->writer, due);
        due = add_conn(set, node->reader, due);
    }
    poll(set->fds, set->count, weir_clock_timeout_ms(due));
    if (set->fds[0].revents) eventfd_read(self->wake, &count);
    for (size_t i = 1; i < set->count; i++)
        weir_redis_conn_run(set->conns[i], set->fds[i].revents);
}

static void *run(void *arg)
{
    weir_redis *self = arg;
    poll_set set = {0};
    weir_log_actor(self->config.bus);
    while (take_in(self)) {
        work(self);
        wait_and_run(self, &set);
    }
    free(set.fds);
    free(set.conns);
    return NULL;
}

/* --- Opening ----------------------------------------------------------------------- */

static const weir_store_class class;

static char *copy_text(const char *text)
{
    char *copy = strdup(text);
    if (!copy) abort();
    return copy;
}

static weir_redis *make(const weir_redis_config *config)
{
    weir_redis *self = calloc(1, sizeof *self);
    pthread_condattr_t monotonic;
    if (!self) abort();
    self->store.class = &class;
    self->config = *config;
    self->fences = (weir_fence_list)WEIR_FENCE_LIST_INIT;
    self->config.url = NULL;
    self->config.bus = copy_text(config->bus);
    self->config.prefix = copy_text(config->prefix);
    self->record_max = record_max;
    self->jobs_in_end = &self->jobs_in;
    self->reads_in_end = &self->reads_in;
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&self->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return self;
}

/*  Its thread has ended, and everything is answered.                                */
static void destroy(weir_redis *self)
{
    weir_redis_nodes_destroy(self);
    for (size_t i = 0; i < self->shard_count; i++) {
        free(self->shards[i]->key);
        free(self->shards[i]);
    }
    free(self->shards);
    free(self->list);
    weir_watchers_fini(&self->watchers);
    if (self->wake >= 0) close(self->wake);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->mutex);
    weir_fence_list_fini(&self->fences);
    free((char *)self->config.bus);
    free((char *)self->config.prefix);
    free(self);
}

static weir_err wrong(weir_report *report, const char *option, const char *text)
{
    return weir_report_set(report, WEIR_EINVAL, option, "%s", text);
}

static weir_err check(const weir_redis_config *config, weir_redis_url *url,
                      weir_report *report)
{
    if (!config->prefix || !*config->prefix) return wrong(report, "prefix", "is empty");
    if (config->timeout_us < 1000) return wrong(report, "timeout", "is below 1ms");
    if (config->window < 1 || config->window > 65536)
        return wrong(report, "window", "is not from 1 to 65536");
    if (config->keep_records < 1) return wrong(report, "keep.records", "is below 1");
    weir_err err = weir_redis_url_parse(url, config->url, report);
    if (err || config->plaintext || weir_redis_url_is_local(url)) return err;
    return weir_report_set(report, WEIR_EREFUSED, "url",
                           "%s is not on this host, and there is no TLS to redis: "
                           "plaintext = true allows it",
                           url->shown);
}

weir_err weir_redis_config_check(const weir_redis_config *config, weir_report *report)
{
    weir_redis_url url = {0};
    weir_err err = check(config, &url, report);
    weir_redis_url_fini(&url);
    return err;
}

static weir_err start(weir_redis *self, weir_report *report)
{
    int rc = self->wake < 0 ? EMFILE : 0;
    if (!rc) {
        weir_clock_watch(self->wake);
        rc = weir_thread_start(&self->thread, run, self);
        if (rc) weir_clock_unwatch(self->wake);
    }
    self->running = !rc;
    if (!rc) return WEIR_OK;
    return weir_report_set(report, WEIR_ESYS, self->config.bus,
                           "cannot start the store's thread: %s", strerror(rc));
}

weir_err weir_redis_store_new(weir_store **self_p, const weir_redis_config *config,
                              weir_report *report)
{
    weir_redis_url url = {0};
    weir_err err = check(config, &url, report);
    if (!err && (!config->bus || !*config->bus))
        err = wrong(report, "bus", "needs a name");
    if (!err && !config->nonce) err = wrong(report, "nonce", "is not set");
    if (err) {
        weir_redis_url_fini(&url);
        return err;
    }
    weir_redis *self = make(config);
    weir_redis_node_first(self, &url);
    err = start(self, report);
    if (err)
        destroy(self);
    else
        *self_p = &self->store;
    return err;
}

static void close_store(weir_store **self_p)
{
    weir_redis *self = (weir_redis *)*self_p;
    if (!self) return;
    *self_p = NULL;
    pthread_mutex_lock(&self->mutex);
    self->closing = true;
    pthread_mutex_unlock(&self->mutex);
    weir_redis_wake(self);
    pthread_join(self->thread, NULL);
    weir_clock_unwatch(self->wake);
    weir_redis_jobs_end(self);
    weir_redis_reads_end(self);
    destroy(self);
}

/* --- Any thread -------------------------------------------------------------------- */

void weir_redis_look(weir_store *store, weir_redis_stats *stats)
{
    weir_redis *self = (weir_redis *)store;
    pthread_mutex_lock(&self->mutex);
    *stats = self->stats;
    pthread_mutex_unlock(&self->mutex);
}

/*  A stream has nothing of a fence's kind; its bus keeps them.                       */
static weir_err list_fences(weir_store *store, weir_fence **list, size_t *count,
                            weir_report *report)
{
    (void)report;
    weir_fence_list_get(&((weir_redis *)store)->fences, list, count);
    return WEIR_OK;
}

static void set_fences(weir_store *store, const weir_fence *list, size_t count)
{
    weir_fence_list_set(&((weir_redis *)store)->fences, list, count);
}

/*  Retention knows no groups: keep.hold is the disk store's.                         */
static void ignore_commit(weir_store *store, const char *group, uint32_t shard,
                          uint64_t offset)
{
    (void)store, (void)group, (void)shard, (void)offset;
}

static void ignore_forget(weir_store *store, const char *group)
{
    (void)store, (void)group;
}

static void watch(weir_store *store, int fd)
{
    weir_redis *self = (weir_redis *)store;
    pthread_mutex_lock(&self->mutex);
    weir_watchers_add(&self->watchers, fd);
    pthread_mutex_unlock(&self->mutex);
}

static void unwatch(weir_store *store, int fd)
{
    weir_redis *self = (weir_redis *)store;
    pthread_mutex_lock(&self->mutex);
    weir_watchers_remove(&self->watchers, fd);
    pthread_mutex_unlock(&self->mutex);
}

static const weir_store_class class = {
    .name = "redis",
    .write = weir_redis_write,
    .read = weir_redis_read,
    .shards = weir_redis_shards,
    .fences = list_fences,
    .set_fences = set_fences,
    .epoch = weir_redis_known_epoch,
    .watch = watch,
    .unwatch = unwatch,
    .commit = ignore_commit,
    .forget = ignore_forget,
    .flush = weir_redis_flush,
    .close = close_store,
};
