/*  What all streams of a bus have. They are looked for once, on every server of a
    cluster, since nobody else makes any; then those that are known are asked. One survey
    answers all who asked before it began. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "actors/redis_store.h"
#include "runtime/clock.h"

/*  shards () waits so long when it can answer by what was seen before: of the shards it
    knows the figures may be older then, but never one is missing. And so long the first
    time, for actors wait with it; a survey that takes longer goes on.               */
static const int64_t short_wait_us = 250000, first_wait_us = 1000000;
static const int64_t epoch_wait_us = 1000000; // weir_store_class.epoch
static const int64_t retry_us = 100000;       // between two surveys that did not go well

/*  Where entries are large it costs a server much to tell what a stream has: so between
    two surveys is this time, and this many times that of the first one. Meanwhile what
   the store has written is added to what was told.                                     */
static const int64_t rest_us = 20000, rest_factor = 20;

typedef struct {
    weir_redis_node *node;
    weir_redis_shard *shard; // NULL: of a look for streams
} question;

static void advance(weir_redis *self);

/* --- The list ---------------------------------------------------------------------- */

static weir_store_shard told(const weir_redis_shard *shard, const weir_redis_seen *seen)
{
    bool counted = seen->added >= 0 && (uint64_t)seen->added > seen->records;
    uint64_t trimmed = counted ? (uint64_t)seen->added - seen->records : 0;
    weir_position end = weir_position_max(seen->last, shard->newest);
    return (weir_store_shard){.shard = shard->id,
                              .first = trimmed + 1,
                              .last = trimmed + seen->records,
                              .begin = seen->records ? weir_position_before(seen->oldest)
                                                     : end,
                              .end = end,
                              .records = seen->records,
                              .bytes = seen->bytes,
                              .trimmed = trimmed,
                              .oldest_ms = seen->oldest_ms,
                              .newest_ms = seen->newest_ms};
}

static void publish(weir_redis *self)
{
    size_t count = 0;
    weir_store_shard *list = calloc(self->shard_count + 1, sizeof *list);
    uint64_t epoch = 0;
    if (!list) abort();
    for (size_t i = 0; i < self->shard_count; i++) {
        const weir_redis_shard *shard = self->shards[i];
        if (!shard->exists) continue;
        list[count++] = shard->told;
        if (shard->newest.a > epoch) epoch = shard->newest.a;
    }
    pthread_mutex_lock(&self->mutex);
    free(self->list);
    self->list = list;
    self->list_count = count;
    self->epoch = epoch;
    pthread_mutex_unlock(&self->mutex);
}

/*  What was stored is in the list before it is acknowledged.                        */
static void update(weir_redis *self, const weir_redis_shard *shard)
{
    size_t i = 0;
    pthread_mutex_lock(&self->mutex);
    while (i < self->list_count && self->list[i].shard != shard->id)
        i++;
    bool listed = i < self->list_count;
    if (listed) self->list[i] = shard->told;
    pthread_mutex_unlock(&self->mutex);
    if (!listed && self->survey.complete) publish(self);
}

void weir_redis_count(weir_redis_shard *shard, uint64_t records)
{
    int64_t now_ms = weir_clock_wall_ms();
    if (!shard->exists || !shard->told.first)
        shard->told =
            (weir_store_shard){.shard = shard->id, .first = 1, .oldest_ms = now_ms};
    shard->exists = true;
    shard->told.last += records;
    shard->told.records += records;
    shard->told.newest_ms = now_ms;
    shard->told.end = shard->newest;
    update(shard->node->store, shard);
}

/* --- Ending ------------------------------------------------------------------------ */

static void end(weir_redis *self)
{
    weir_redis_survey *survey = &self->survey;
    int64_t now = weir_clock_now_us();
    if (!survey->error[0]) {
        survey->complete = true;
        publish(self);
    }
    if (survey->asked_us) {
        int64_t took = now - survey->asked_us;
        survey->fresh_us =
            now + (rest_factor * took > rest_us ? rest_factor * took : rest_us);
    }
    survey->asked_us = 0;
    survey->under_way = false;
    pthread_mutex_lock(&self->mutex);
    self->surveys_done = survey->number;
    self->survey_err = !survey->error[0] ? WEIR_OK
                       : survey->fatal   ? WEIR_EREFUSED
                                         : WEIR_ETIMEOUT;
    memcpy(self->survey_text, survey->error, sizeof self->survey_text);
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

static void fail(weir_redis *self, bool fatal, const char *text)
{
    weir_redis_survey *survey = &self->survey;
    if (survey->error[0]) return;
    survey->fatal = fatal;
    snprintf(survey->error, sizeof survey->error, "%s", text);
}

static void fail_by(weir_redis_node *node, const redisReply *reply)
{
    bool fatal;
    if (!reply) {
        const char *text = weir_redis_conn_error(node->reader, &fatal);
        fail(node->store, fatal, text[0] ? text : "the connection was lost");
    } else if (reply->type == REDIS_REPLY_ERROR) {
        char *text = weir_redis_url_quote(&node->url, reply->str);
        fail(node->store, weir_redis_judge(reply->str) == WEIR_REDIS_NEVER, text);
        free(text);
    } else {
        fail(node->store, true, "the server's answer makes no sense");
    }
}

/*  A server that is away is waited for, by who asked as long as that wants.         */
void weir_redis_survey_failed(weir_redis *self, const weir_redis_node *node)
{
    bool fatal;
    const char *text = weir_redis_conn_error(node->reader, &fatal);
    pthread_mutex_lock(&self->mutex);
    snprintf(self->reads_error, sizeof self->reads_error, "%s", text);
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    if (!self->survey.under_way || !fatal) return;
    fail(self, fatal, text);
    if (!self->survey.out) end(self);
}

/* --- Questions --------------------------------------------------------------------- */

static void expect(weir_redis_node *node, weir_redis_shard *shard,
                   weir_redis_answer *answer)
{
    question *is = malloc(sizeof *is);
    if (!is) abort();
    *is = (question){node, shard};
    node->store->survey.out++;
    weir_redis_conn_expect(node->reader, answer, is, 0);
}

static question taken(void *arg)
{
    question is = *(question *)arg;
    free(arg);
    is.node->store->survey.out--;
    return is;
}

/* --- The streams that are known ---------------------------------------------------- */

static void seen(void *arg, const redisReply *reply);

static void ask(weir_redis_shard *shard)
{
    weir_redis_seen_put(shard, true, weir_redis_conn_out(shard->node->reader));
    expect(shard->node, shard, seen);
}

static void seen(void *arg, const redisReply *reply)
{
    question is = taken(arg);
    weir_redis *self = is.node->store;
    weir_redis_shard *shard = is.shard;
    weir_redis_seen has;
    bool moved = reply && reply->type == REDIS_REPLY_ERROR &&
                 weir_redis_judge(reply->str) == WEIR_REDIS_MOVED &&
                 weir_redis_shard_move(self, shard, reply->str);
    if (moved && weir_redis_conn_is_ready(shard->node->reader)) {
        ask(shard);
    } else if (moved) {
        fail(self, false, "a shard has moved to a server that is not connected yet");
    } else if (!reply || !weir_redis_seen_read(&has, self, shard, reply)) {
        fail_by(is.node, reply);
    } else {
        shard->exists = has.exists;
        shard->told = told(shard, &has);
        if (weir_position_order(has.last, shard->newest) > 0) shard->newest = has.last;
    }
    if (!self->survey.out) end(self);
}

/*  All of them at once, when each server that has one is connected.                 */
static void ask_all(weir_redis *self)
{
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->exists &&
            !weir_redis_conn_is_ready(self->shards[i]->node->reader))
            return;
    self->survey.asked_us = weir_clock_now_us();
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->exists) ask(self->shards[i]);
    if (!self->survey.out) end(self);
}

/* --- Looking for streams ----------------------------------------------------------- */

/*  prefix:bus:*, where * ? [ ] and \ in the names mean themselves.                  */
static void put_pattern(const weir_redis *self, weir_buffer *out)
{
    weir_buffer text = {0};
    const char *parts[] = {self->config.prefix, ":", self->config.bus, ":"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const char *at = parts[i]; *at; at++) {
            if (strchr("*?[]\\^-", *at)) weir_buffer_put_byte(&text, '\\');
            weir_buffer_put_byte(&text, (uint8_t)*at);
        }
    weir_buffer_put_byte(&text, '*');
    weir_redis_put_word(out, text.data, text.size);
    weir_buffer_fini(&text);
}

/*  The shard of a key; its own writing of the number alone counts.                  */
static bool read_key(const weir_redis *self, const redisReply *key, uint32_t *id)
{
    char text[16];
    size_t head = strlen(self->config.prefix) + strlen(self->config.bus) + 2;
    if (!weir_redis_is_text(key) || key->len <= head || key->len - head > 10)
        return false;
    char *end;
    memcpy(text, key->str + head, key->len - head);
    text[key->len - head] = 0;
    unsigned long long number = strtoull(text, &end, 10);
    *id = (uint32_t)number;
    char again[24];
    snprintf(again, sizeof again, "%llu", number);
    return number <= UINT32_MAX && !strcmp(again, text);
}

static void scanned(void *arg, const redisReply *reply);

static void scan(weir_redis_node *node, const char *cursor)
{
    weir_buffer *out = weir_redis_conn_out(node->reader);
    weir_redis_put_head(out, 8);
    weir_redis_put_text(out, "SCAN");
    weir_redis_put_text(out, cursor);
    weir_redis_put_text(out, "MATCH");
    put_pattern(node->store, out);
    weir_redis_put_text(out, "COUNT");
    weir_redis_put_text(out, "1000");
    weir_redis_put_text(out, "TYPE");
    weir_redis_put_text(out, "stream");
    expect(node, NULL, scanned);
}

static bool is_page(const redisReply *reply)
{
    return reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
           weir_redis_is_text(reply->element[0]) &&
           reply->element[1]->type == REDIS_REPLY_ARRAY;
}

static void scanned(void *arg, const redisReply *reply)
{
    question is = taken(arg);
    weir_redis *self = is.node->store;
    uint32_t id;
    if (!is_page(reply)) {
        fail_by(is.node, reply);
        advance(self);
        return;
    }
    const redisReply *keys = reply->element[1];
    for (size_t i = 0; i < keys->elements; i++) {
        if (!read_key(self, keys->element[i], &id)) continue;
        weir_redis_shard *shard = weir_redis_shard_of(self, id);
        shard->exists = true;
        if (!shard->known) weir_redis_shard_go(shard, is.node);
    }
    if (strcmp(reply->element[0]->str, "0") != 0)
        scan(is.node, reply->element[0]->str);
    else
        is.node->surveyed = true;
    advance(self);
}

/*  The servers of a cluster: [[from, to, [host, port, ..] of its master, ..], ..]    */
static void add_nodes(weir_redis *self, const weir_redis_node *told_by,
                      const redisReply *slots)
{
    for (size_t i = 0; i < slots->elements; i++) {
        const redisReply *range = slots->element[i];
        if (range->type != REDIS_REPLY_ARRAY || range->elements < 3) continue;
        const redisReply *master = range->element[2];
        if (master->type != REDIS_REPLY_ARRAY || master->elements < 2 ||
            master->element[1]->type != REDIS_REPLY_INTEGER)
            continue;
        bool named = weir_redis_is_text(master->element[0]) && master->element[0]->len;
        const char *host = named ? master->element[0]->str : told_by->url.host;
        long long port = master->element[1]->integer;
        if (port < 1 || port > 65535 || !weir_redis_node_at(self, host, (uint16_t)port))
            fail(self, true,
                 "a server of the cluster is on another host, and plaintext is not "
                 "allowed");
    }
}

static void clustered(void *arg, const redisReply *reply)
{
    question is = taken(arg);
    weir_redis *self = is.node->store;
    if (!reply) fail_by(is.node, reply);
    if (reply && reply->type == REDIS_REPLY_ARRAY) add_nodes(self, is.node, reply);
    self->survey.mapped = reply != NULL; // a server alone has no such command
    advance(self);
}

/* --- The way of a survey ----------------------------------------------------------- */

static void ask_for_servers(weir_redis_node *first)
{
    weir_redis_put_command(weir_redis_conn_out(first->reader),
                           (const char *const[]){"CLUSTER", "SLOTS", NULL});
    expect(first, NULL, clustered);
}

/*  A server that is not connected yet is waited for.                                */
static void advance(weir_redis *self)
{
    weir_redis_survey *survey = &self->survey;
    if (!survey->under_way || survey->out) return;
    if (survey->error[0]) {
        end(self);
        return;
    }
    weir_redis_node *node = self->nodes;
    while (node && (survey->complete || (survey->mapped && node->surveyed)))
        node = node->next;
    if (!node && weir_clock_now_us() < survey->fresh_us)
        end(self); // what is known is good enough
    else if (!node)
        ask_all(self);
    else if (!weir_redis_conn_is_ready(node->reader))
        return;
    else if (survey->mapped)
        scan(node, "0");
    else
        ask_for_servers(node);
}

void weir_redis_survey_run(weir_redis *self)
{
    weir_redis_survey *survey = &self->survey;
    pthread_mutex_lock(&self->mutex);
    uint64_t asked = self->surveys_asked, done = self->surveys_done;
    pthread_mutex_unlock(&self->mutex);
    if (!survey->under_way && asked > done) {
        survey->under_way = true;
        survey->number = asked;
        survey->fatal = false;
        survey->error[0] = 0;
    }
    advance(self);
}

/* --- Any thread -------------------------------------------------------------------- */

/*  Has one made and waits for it, under the mutex. A server that is away is not waited
    for when `away` is an answer. */
static weir_err survey(weir_redis *self, const struct timespec *until, bool away)
{
    uint64_t number = ++self->surveys_asked;
    int rc = 0;
    weir_redis_wake(self);
    while (self->surveys_done < number && !rc && !(away && self->reads_error[0]))
        rc = pthread_cond_timedwait(&self->changed, &self->mutex, until);
    if (self->surveys_done >= number) return self->survey_err;
    snprintf(self->survey_text, sizeof self->survey_text, "%s",
             self->reads_error[0] ? self->reads_error : "no answer in time");
    return WEIR_ETIMEOUT;
}

weir_err weir_redis_shards(weir_store *store, weir_store_shard **list, size_t *count,
                           weir_report *report)
{
    weir_redis *self = (weir_redis *)store;
    struct timespec until;
    *list = NULL;
    *count = 0;
    pthread_mutex_lock(&self->mutex);
    int64_t wait_us = self->list ? short_wait_us : first_wait_us;
    weir_redis_deadline(
        &until, self->config.timeout_us > wait_us ? wait_us : self->config.timeout_us);
    weir_err err = survey(self, &until, true);
    if (self->list) {
        *count = self->list_count;
        *list = malloc((self->list_count + 1) * sizeof **list);
        if (!*list) abort();
        memcpy(*list, self->list, self->list_count * sizeof **list);
    } else {
        weir_report_set(report, err, self->config.bus, "cannot list its shards: %s",
                        self->survey_text);
    }
    pthread_mutex_unlock(&self->mutex);
    return *list ? WEIR_OK : err;
}

uint64_t weir_redis_known_epoch(weir_store *store)
{
    weir_redis *self = (weir_redis *)store;
    struct timespec until;
    pthread_mutex_lock(&self->mutex);
    weir_redis_deadline(&until, epoch_wait_us);
    survey(self, &until, true);
    uint64_t epoch = self->epoch;
    pthread_mutex_unlock(&self->mutex);
    return epoch;
}

weir_err weir_redis_store_epoch(weir_store *store, uint64_t *epoch, weir_report *report)
{
    weir_redis *self = (weir_redis *)store;
    struct timespec until, soon;
    int rc = 0;
    *epoch = 0;
    weir_redis_deadline(&until, self->config.timeout_us);
    pthread_mutex_lock(&self->mutex);
    weir_err err = survey(self, &until, false);
    while (err == WEIR_ETIMEOUT && !rc) {
        weir_redis_deadline(&soon, retry_us);
        while (!pthread_cond_timedwait(&self->changed, &self->mutex, &soon))
            continue;
        rc = weir_redis_is_past(&until) ? ETIMEDOUT : 0;
        if (!rc) err = survey(self, &until, false);
    }
    if (err)
        weir_report_set(report, err, self->config.bus, "cannot ask for its epoch: %s",
                        self->survey_text);
    else
        *epoch = self->epoch;
    pthread_mutex_unlock(&self->mutex);
    return err;
}
