/*  From a batch to its answer. Of a shard there are turns: in one, calls go out behind
    the other, each naming the id that the one before it leaves. Whatever goes wrong ends
    the turn; what its calls still answer says nothing any more. The next one begins with
    asking for the stream's last id, which decides what is stored.

        given:   1 2 3 4 5 6 7 8 9
                     |     |   |
                proven  last  sent by an earlier turn, maybe                          */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "actors/redis_store.h"
#include "runtime/log.h"

/*  out_max: bytes that wait to be sent, beside one call. calls: a window has so many, so
    that the server has work while answers are on their way. rounds_max: turns in which
    nothing is stored and nothing fails either, as of a script that is flushed again and
    again.                                                                           */
enum { out_max = 512 << 10, calls = 4, rounds_max = 5 };

/*  Lua of the server has doubles.                                                   */
static const uint64_t sequence_max = UINT64_C(1) << 53;

/*  A call, or the question for the last id, until it is answered.                   */
typedef struct {
    weir_redis_shard *shard;
    uint64_t turn;
    weir_position last; // its last record
    uint32_t records;
} call;

static weir_redis *store_of(const weir_redis_shard *shard)
{
    return shard->node->store;
}

/* --- Answers ----------------------------------------------------------------------- */

typedef struct {
    weir_store_result result;
    uint32_t refused;
    uint64_t last; // sequence of the last record that is safe
    const char *text;
} verdict;

/*  Who waits for a flush is told when the batch was.                                */
static void answer(weir_redis *self, weir_redis_job *job, const verdict *is)
{
    weir_batch *batch = job->batch;
    batch->result = is->result;
    batch->refused = is->refused;
    batch->last_offset = is->last;
    snprintf(batch->text, sizeof batch->text, "%s", is->text);
    batch->done(batch);
    weir_batch_destroy(&job->batch);
    pthread_mutex_lock(&self->mutex);
    *(job->older ? &job->older->newer : &self->oldest) = job->newer;
    *(job->newer ? &job->newer->older : &self->newest) = job->older;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    free(job);
}

static weir_redis_job *pop(weir_redis_shard *self)
{
    weir_redis_job *job = self->first;
    if (!job) return NULL;
    self->first = job->next;
    if (!self->first) self->end = &self->first;
    return job;
}

static void begin_turn(weir_redis_shard *self)
{
    self->turn++;
    self->trust = WEIR_REDIS_UNSURE;
    self->unanswered = 0;
    for (weir_redis_job *job = self->first; job; job = job->next) {
        job->taken = 0;
        job->walk = (weir_batch_walk){.batch = job->batch};
        job->refused = UINT32_MAX;
    }
}

/*  All that waits is answered so; what comes in has to wait until the first of it comes
    again.                                                                           */
static void answer_all(weir_redis_shard *self, weir_store_result result, const char *text)
{
    if (!self->first) return;
    const weir_batch *batch = self->first->batch;
    if (!self->barrier.on)
        self->barrier = (weir_redis_barrier){true, batch->epoch, batch->first};
    for (weir_redis_job *job; (job = pop(self));)
        answer(store_of(self), job, &(verdict){.result = result, .text = text});
}

static void fail(weir_redis_shard *self, weir_store_result result, const char *text)
{
    begin_turn(self);
    self->rounds = 0;
    answer_all(self, result, text);
}

/*  Nothing behind it may be acknowledged.                                           */
static void __attribute__((format(printf, 2, 3)))
fail_fatally(weir_redis_shard *self, const char *format, ...)
{
    char why[400], text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    const weir_batch *batch = self->first ? self->first->batch : NULL;
    snprintf(text, sizeof text, "shard %" PRIu32 ", position %" PRIu64 "-%" PRIu64 ": %s",
             self->id, batch ? batch->epoch : 0, batch ? batch->first : 0, why);
    weir_log(WEIR_ERROR, "bus store failed key=%s error=\"%s\"", self->key, text);
    fail(self, WEIR_STORE_FATAL, text);
}

/* --- Safe -------------------------------------------------------------------------- */

/*  How many of its records are known to be in the stream.                           */
static uint32_t count_proven(const weir_redis_shard *self, const weir_batch *batch)
{
    if (!self->known || batch->epoch != self->proven.a || batch->first > self->proven.b)
        return 0;
    uint64_t count = self->proven.b - batch->first + 1;
    return count < batch->records ? (uint32_t)count : batch->records;
}

/*  What is behind the refused record comes again.                                   */
static void refuse_first(weir_redis_shard *self)
{
    weir_redis *store = store_of(self);
    weir_redis_job *job = pop(self);
    const weir_batch *batch = job->batch;
    char text[128];
    snprintf(text, sizeof text, "the record is larger than a string of redis, %zu bytes",
             store->record_max);
    self->barrier = (weir_redis_barrier){true, batch->epoch, batch->first + job->refused};
    answer(store, job,
           &(verdict){.result = WEIR_STORE_REFUSED,
                      .refused = job->refused,
                      .last = job->refused ? batch->first + job->refused - 1 : 0,
                      .text = text});
    fail(self, WEIR_STORE_RETRY, "a batch before it is not stored yet");
}

/*  Answers, from the front, for what is proven.                                     */
static void settle(weir_redis_shard *self)
{
    for (weir_redis_job *job; (job = self->first);) {
        const weir_batch *batch = job->batch;
        uint32_t proven = count_proven(self, batch);
        if (proven == job->refused) {
            refuse_first(self);
            return;
        }
        if (proven != batch->records) return;
        answer(store_of(self), pop(self),
               &(verdict){.result = WEIR_STORE_SAFE,
                          .last = batch->first + batch->records - 1,
                          .text = ""});
    }
}

/*  records: how many have come to what was proven before.                           */
static void prove(weir_redis_shard *self, weir_position at, uint64_t records)
{
    self->proven = at;
    self->known = true;
    if (weir_position_order(at, self->newest) > 0) self->newest = at;
    if (records) {
        self->rounds = 0;
        weir_redis_count(self, records);
        weir_redis_tell(store_of(self));
    }
    settle(self);
}

/* --- What goes wrong --------------------------------------------------------------- */

/*  Another turn at once: it is not known that anything has failed.                  */
static void try_again(weir_redis_shard *self, const char *cause)
{
    if (++self->rounds > rounds_max) {
        fail(self, WEIR_STORE_RETRY, cause);
        return;
    }
    begin_turn(self);
    weir_redis_shard_ready(self);
}

static void load_script(weir_redis_node *node);

static void take_error(weir_redis_shard *self, const char *error)
{
    weir_redis_node *node = self->node;
    char *text = weir_redis_url_quote(&node->url, error);
    switch (weir_redis_judge(error)) {
    case WEIR_REDIS_NO_SCRIPT:
        load_script(node);
        try_again(self, text);
        break;
    case WEIR_REDIS_MOVED:
        if (weir_redis_shard_move(store_of(self), self, error))
            try_again(self, text);
        else
            fail_fatally(self, "cannot follow it (another host needs plaintext): %s",
                         text);
        break;
    case WEIR_REDIS_LATER:
        fail(self, WEIR_STORE_RETRY, text);
        /*  Another server may have the address by now.                              */
        if (!strncmp(error, "READONLY", 8))
            weir_redis_conn_drop(node->writer, false, text);
        break;
    default:
        fail_fatally(self, "%s", text);
    }
    free(text);
}

static void take_loss(weir_redis_shard *self)
{
    bool fatal;
    const char *error = weir_redis_conn_error(self->node->writer, &fatal);
    if (fatal)
        fail_fatally(self, "%s", error);
    else
        fail(self, WEIR_STORE_RETRY, error);
}

/* --- The last id ------------------------------------------------------------------- */

static const char *describe(weir_position at, char text[WEIR_REDIS_ID_MAX])
{
    weir_redis_id_put(at, text);
    return text;
}

/*  The first look at a stream: it has what was there before this epoch, or what an
    earlier store of this epoch has written. */
static bool is_ours_to_continue(weir_redis_shard *self, const weir_redis_seen *seen)
{
    uint64_t epoch = self->first->batch->epoch;
    if (seen->last.a < epoch) return true;
    return seen->last.a == epoch && seen->ours &&
           !weir_position_order(seen->newest, seen->last);
}

/*  It is one of those that were sent, and has our `i`, unless it was trimmed.        */
static bool was_sent(const weir_redis_shard *self, const weir_redis_seen *seen)
{
    bool present = !weir_position_order(seen->newest, seen->last);
    return weir_position_order(seen->last, self->proven) > 0 &&
           weir_position_order(seen->last, self->sent) <= 0 && (seen->ours || !present);
}

static void judge_last(weir_redis_shard *self, const weir_redis_seen *seen)
{
    char last[WEIR_REDIS_ID_MAX], proven[WEIR_REDIS_ID_MAX];
    describe(seen->last, last);
    describe(self->proven, proven);
    if (self->known && weir_position_order(seen->last, self->proven) < 0) {
        fail_fatally(self,
                     "damage: the server has lost records: the last id is %s, "
                     "and %s was stored",
                     last, proven);
    } else if (self->known ? weir_position_order(seen->last, self->proven) != 0 &&
                                 !was_sent(self, seen)
                           : !is_ours_to_continue(self, seen)) {
        fail_fatally(self,
                     "other_writer: the last id is %s, which is not "
                     "ours; does another bus have this prefix and name?",
                     last);
    } else {
        bool same_epoch = seen->last.a == self->proven.a;
        uint64_t before = same_epoch ? self->proven.b : 0;
        self->trust = WEIR_REDIS_SURE;
        self->last = seen->last;
        prove(self, seen->last, self->known ? seen->last.b - before : 0);
        weir_redis_shard_ready(self);
    }
}

static void looked(void *arg, const redisReply *reply)
{
    call is = *(call *)arg;
    weir_redis_shard *self = is.shard;
    weir_redis_seen seen;
    free(arg);
    if (is.turn != self->turn) return;
    if (!reply) {
        take_loss(self);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        take_error(self, reply->str);
    } else if (!weir_redis_seen_read(&seen, store_of(self), self, reply)) {
        fail_fatally(self, "the server's answer makes no sense");
    } else if (self->first) {
        self->exists = self->exists || seen.exists;
        judge_last(self, &seen);
    } else {
        self->trust = WEIR_REDIS_UNSURE;
    }
}

static void expect(weir_redis_shard *self, weir_redis_answer *answered, uint32_t records)
{
    call *is = malloc(sizeof *is);
    if (!is) abort();
    *is = (call){self, self->turn, self->last, records};
    weir_redis_conn_expect(self->node->writer, answered, is, 0);
}

static void ask(weir_redis_shard *self)
{
    self->trust = WEIR_REDIS_ASKING;
    weir_redis_seen_put(self, false, weir_redis_conn_out(self->node->writer));
    expect(self, looked, 0);
}

/* --- Calls ------------------------------------------------------------------------- */

static void count_stored(weir_redis *self, uint32_t records)
{
    pthread_mutex_lock(&self->mutex);
    self->stats.calls++;
    self->stats.call_records += records;
    pthread_mutex_unlock(&self->mutex);
}

static void called(void *arg, const redisReply *reply)
{
    call is = *(call *)arg;
    weir_redis_shard *self = is.shard;
    free(arg);
    if (is.turn != self->turn) return;
    if (!reply) {
        take_loss(self);
    } else if (weir_redis_says(reply, "OK")) {
        self->unanswered -= is.records;
        count_stored(store_of(self), is.records);
        prove(self, is.last, is.records);
        weir_redis_shard_ready(self);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        take_error(self, reply->str);
    } else {
        try_again(self, weir_redis_is_text(reply) ? reply->str : "no answer to a call");
    }
}

/*  The next one of which records are not in a call; NULL: there is none, or one before
    it has a record that is refused.                                                 */
static weir_redis_job *next_job(weir_redis_shard *self)
{
    weir_record record;
    weir_redis_job *job = self->first;
    for (; job; job = job->next) {
        const weir_batch *batch = job->batch;
        while (job->taken < batch->records && batch->epoch == self->last.a &&
               batch->first + job->taken <= self->last.b &&
               weir_batch_next(&job->walk, &record))
            job->taken++;
        if (job->taken == job->refused) return NULL;
        if (job->taken < batch->records) break;
    }
    return job;
}

static void note_sent(weir_redis_shard *self, uint32_t records)
{
    weir_redis *store = store_of(self);
    size_t waiting = weir_redis_conn_waiting(self->node->writer);
    self->unanswered += records;
    if (weir_position_order(self->last, self->sent) > 0) self->sent = self->last;
    pthread_mutex_lock(&store->mutex);
    if (self->unanswered > store->stats.unanswered_max)
        store->stats.unanswered_max = self->unanswered;
    if (waiting > store->stats.buffer_max) store->stats.buffer_max = waiting;
    pthread_mutex_unlock(&store->mutex);
}

/*  True: it has sent a call, and may have another one.                              */
static bool send_call(weir_redis_shard *self)
{
    weir_redis *store = store_of(self);
    uint32_t window = (uint32_t)store->config.window, most = (window + calls - 1) / calls;
    weir_redis_job *job = next_job(self);
    if (!job) return false;
    const weir_batch *batch = job->batch;
    uint32_t left = batch->records - job->taken, room = window - self->unanswered;
    if (left < most) most = left;
    if (room < most) return false;
    if (batch->epoch < self->last.a || batch->first + batch->records > sequence_max) {
        fail_fatally(self, batch->epoch < self->last.a
                               ? "other_writer: a later epoch is stored"
                               : "the sequence is above 2^53");
        return false;
    }
    uint32_t count = weir_redis_call_put(store, self, job, most);
    if (count) {
        self->last = (weir_position){batch->epoch, batch->first + job->taken - 1};
        expect(self, called, count);
        note_sent(self, count);
    } else {
        settle(self); // it begins with a record that is refused
    }
    return count > 0;
}

/* --- A server ---------------------------------------------------------------------- */

void weir_redis_shard_ready(weir_redis_shard *self)
{
    weir_redis_node *node = self->node;
    if (self->ready || !self->first) return;
    self->ready = true;
    self->ready_next = NULL;
    *node->ready_end = self;
    node->ready_end = &self->ready_next;
}

static weir_redis_shard *next_ready(weir_redis_node *self)
{
    weir_redis_shard *shard = self->ready;
    self->ready = shard->ready_next;
    if (!self->ready) self->ready_end = &self->ready;
    shard->ready = false;
    return shard;
}

/*  Calls f of all its shards that have something to write.                          */
static void for_shards(weir_redis_node *self,
                       void (*f)(weir_redis_shard *shard, const char *text),
                       const char *text)
{
    weir_redis *store = self->store;
    for (size_t i = 0; i < store->shard_count; i++)
        if (store->shards[i]->node == self && store->shards[i]->first)
            f(store->shards[i], text);
}

static void loaded(void *arg, const redisReply *reply)
{
    weir_redis_node *self = arg;
    self->loading = false;
    if (!reply) return;
    if (weir_redis_is_text(reply) && reply->len == sizeof self->sha - 1)
        memcpy(self->sha, reply->str, sizeof self->sha);
    else
        for_shards(self, take_error,
                   reply->type == REDIS_REPLY_ERROR ? reply->str : "ERR no script");
}

static void load_script(weir_redis_node *self)
{
    if (self->loading || !weir_redis_conn_is_ready(self->writer)) return;
    self->loading = true;
    weir_redis_put_command(
        weir_redis_conn_out(self->writer),
        (const char *const[]){"SCRIPT", "LOAD", weir_redis_script, NULL});
    weir_redis_conn_expect(self->writer, loaded, self, 0);
}

/*  Health is that of the server that the url names.                                 */
static void note_connection(weir_redis_node *self, bool connected)
{
    weir_redis_stats *stats = &self->store->stats;
    bool fatal;
    pthread_mutex_lock(&self->store->mutex);
    stats->connections += connected;
    if (self == self->store->nodes) {
        stats->connected = connected;
        snprintf(stats->error, sizeof stats->error, "%s",
                 weir_redis_conn_error(self->writer, &fatal));
    }
    pthread_mutex_unlock(&self->store->mutex);
}

void weir_redis_node_opened(weir_redis_node *self)
{
    note_connection(self, true);
    load_script(self);
}

static void lose(weir_redis_shard *self, const char *text)
{
    (void)text;
    take_loss(self);
}

/*  One that was lost is made again at once: what was not sent yet waits for that.    */
void weir_redis_node_ended(weir_redis_node *self)
{
    note_connection(self, false);
    if (!weir_redis_conn_failures(self->writer)) return;
    for_shards(self, lose, NULL);
    weir_redis_node_leave(self);
}

static bool step(weir_redis_shard *self)
{
    if (self->trust == WEIR_REDIS_UNSURE) ask(self);
    return self->trust == WEIR_REDIS_SURE && send_call(self);
}

void weir_redis_node_write(weir_redis_node *self)
{
    if (!weir_redis_conn_is_ready(self->writer) || !self->ready) return;
    if (!self->sha[0]) {
        load_script(self);
        return;
    }
    while (self->ready && weir_redis_conn_waiting(self->writer) < out_max) {
        weir_redis_shard *shard = next_ready(self);
        if (shard->first && step(shard)) weir_redis_shard_ready(shard);
    }
}

/* --- On the way in ----------------------------------------------------------------- */

/*  Whether it must wait for one before it that is not stored. What comes again opens the
    way, also when it is behind something that its shard gave up.                   */
static bool is_blocked(weir_redis_barrier *barrier, const weir_redis_job *job)
{
    const weir_batch *batch = job->batch;
    if (barrier->on && !job->again && batch->epoch == barrier->epoch &&
        batch->first > barrier->sequence)
        return true;
    barrier->on = false;
    return false;
}

void weir_redis_job_take(weir_redis *self, weir_redis_job *job)
{
    weir_redis_shard *shard = weir_redis_shard_of(self, job->batch->shard);
    if (is_blocked(&shard->barrier, job)) {
        answer(self, job,
               &(verdict){.result = WEIR_STORE_RETRY,
                          .text = "a batch before it is not stored yet"});
        return;
    }
    job->next = NULL;
    *shard->end = job;
    shard->end = &job->next;
    settle(shard); // it may be empty, or stored already
    weir_redis_shard_ready(shard);
}

void weir_redis_jobs_end(weir_redis *self)
{
    for (weir_redis_job *job; (job = self->jobs_in);) {
        self->jobs_in = job->next;
        weir_redis_job_take(self, job);
    }
    for (size_t i = 0; i < self->shard_count; i++)
        fail(self->shards[i], WEIR_STORE_RETRY, "the store is being closed");
}

/* --- Any thread -------------------------------------------------------------------- */

void weir_redis_write(weir_store *store, weir_batch *batch)
{
    weir_redis *self = (weir_redis *)store;
    weir_redis_job *job = calloc(1, sizeof *job);
    if (!job) abort();
    assert(batch->epoch && (batch->first || !batch->records));
    job->batch = weir_batch_dup(batch);
    job->walk.batch = batch;
    job->again = batch->again;
    job->refused = UINT32_MAX;
    pthread_mutex_lock(&self->mutex);
    bool idle = !self->jobs_in;
    job->number = ++self->written;
    job->older = self->newest;
    *(self->newest ? &self->newest->newer : &self->oldest) = job;
    self->newest = job;
    *self->jobs_in_end = job;
    self->jobs_in_end = &job->next;
    pthread_mutex_unlock(&self->mutex);
    if (idle) weir_redis_wake(self);
}

/*  Writes up to this number that are not answered yet. Under the mutex.             */
static unsigned count_open(const weir_redis *self, uint64_t number)
{
    unsigned count = 0;
    for (const weir_redis_job *job = self->oldest; job && job->number <= number;
         job = job->newer)
        count++;
    return count;
}

weir_err weir_redis_flush(weir_store *store, int64_t timeout_us, weir_report *report)
{
    weir_redis *self = (weir_redis *)store;
    struct timespec end;
    int rc = 0;
    unsigned open;
    weir_redis_deadline(&end, timeout_us);
    pthread_mutex_lock(&self->mutex);
    uint64_t number = self->written;
    while ((open = count_open(self, number)) && !rc)
        rc = timeout_us < 0 ? pthread_cond_wait(&self->changed, &self->mutex)
                            : pthread_cond_timedwait(&self->changed, &self->mutex, &end);
    char why[256];
    memcpy(why, self->stats.error, sizeof why);
    pthread_mutex_unlock(&self->mutex);
    if (!open) return WEIR_OK;
    return weir_report_set(report, WEIR_ETIMEOUT, self->config.bus,
                           "%u batches are not stored yet%s%s", open, why[0] ? ": " : "",
                           why);
}
