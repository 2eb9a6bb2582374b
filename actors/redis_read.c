/*  A read asks page after page, by as many entries as should fit, since the server knows
    no bytes; an answer that is much larger is cut off and asked for again in smaller
    pieces. Requests of several reads are under way at once.                         */
#include <stdio.h>
#include <stdlib.h>
#include "actors/redis_reading.h"
#include "runtime/clock.h"

/*  out_max: requests that are out to a server. first_count: entries asked for when it is
    not known how large they are. entry_bytes: of one, beside its record.            */
enum {
    out_max = 8,
    first_count = 64,
    count_most = 10000,
    entry_bytes = 128,
    moves_max = 5
};

static weir_redis *store_of(const weir_redis_reading *self)
{
    return self->shard->node->store;
}

/* --- Answers ----------------------------------------------------------------------- */

static void unlink_reading(weir_redis_reading *self)
{
    weir_redis_reading **at = &store_of(self)->readings;
    while (*at != self)
        at = &(*at)->next;
    *at = self->next;
    weir_builder_fini(&self->builder);
    free(self);
}

/*  It stays while a request of it is out.                                           */
static void finish(weir_redis_reading *self)
{
    weir_read *read = self->read;
    weir_redis_reading_seal(self);
    read->reached = self->at;
    self->read = NULL;
    if (!self->asked) unlink_reading(self);
    read->done(read);
}

static void finish_badly(weir_redis_reading *self, weir_err err, const char *text)
{
    weir_read *read = self->read;
    weir_redis_reading_seal(self);
    weir_read_fini(read);
    read->err = err;
    read->more = false;
    snprintf(read->text, sizeof read->text, "%s", text);
    self->at = read->after;
    finish(self);
}

static void finish_lost(weir_redis_reading *self, const weir_redis_node *node)
{
    bool fatal;
    const char *text = weir_redis_conn_error(node->reader, &fatal);
    finish_badly(self, fatal ? WEIR_EREFUSED : WEIR_ECLOSED, text);
}

/*  What was read in time is an answer, too.                                         */
static void finish_late(weir_redis_reading *self)
{
    char text[256];
    bool fatal;
    self->read->more = true;
    if (self->records || self->read->gap_count) {
        finish(self);
        return;
    }
    const char *why = weir_redis_conn_error(self->shard->node->reader, &fatal);
    if (why[0])
        snprintf(text, sizeof text, "%s", why);
    else
        snprintf(text, sizeof text, "%.200s: no answer in %lld ms",
                 self->shard->node->url.shown,
                 (long long)store_of(self)->config.timeout_us / 1000);
    finish_badly(self, WEIR_ETIMEOUT, text);
}

/* --- Asking ------------------------------------------------------------------------ */

static size_t room_of(const weir_redis_reading *self)
{
    static const size_t most = 1 << 30;
    const weir_read *read = self->read;
    size_t room = read->max_bytes > self->bytes ? read->max_bytes - self->bytes : 0;
    return room < most ? room : most;
}

/*  One more than may come, to know whether there is more.                           */
static uint32_t choose_count(const weir_redis_reading *self)
{
    uint64_t count = (uint64_t)self->read->max_records - self->records + 1;
    size_t each = self->shard->record_bytes;
    uint64_t fit = each ? room_of(self) / each + 1 : first_count;
    if (count > fit) count = fit;
    return count < self->count_max ? (uint32_t)count : self->count_max;
}

static void put_page(weir_redis_reading *self, weir_buffer *out)
{
    char from[WEIR_REDIS_ID_MAX + 1] = "(";
    weir_redis_id_put(self->at, from + 1);
    weir_redis_put_head(out, 6);
    weir_redis_put_text(out, "XRANGE");
    weir_redis_put_word(out, self->shard->key, self->shard->key_size);
    weir_redis_put_text(out, from);
    weir_redis_put_text(out, "+");
    weir_redis_put_text(out, "COUNT");
    weir_redis_put_number(out, self->count);
}

static void answered(void *arg, const redisReply *reply);

static void ask(weir_redis_reading *self, weir_redis_node *node)
{
    weir_buffer *out = weir_redis_conn_out(node->reader);
    size_t most = 0;
    switch (self->step) {
    case WEIR_READING_PAGE:
        self->count = choose_count(self);
        put_page(self, out);
        if (self->count > 1)
            most = 2 * room_of(self) + (1 << 20) + self->count * (size_t)entry_bytes;
        break;
    case WEIR_READING_TRIMMED:
        weir_redis_seen_put(self->shard, false, out);
        break;
    case WEIR_READING_TIME:
        weir_redis_since_put(self, out);
    }
    self->asked = node;
    node->reads++;
    weir_redis_conn_expect(node->reader, answered, self, most);
}

/*  Nothing has to be asked: of a read that wants no records, or begins behind all.   */
static bool is_empty(const weir_redis_reading *self)
{
    static const weir_position end = {UINT64_MAX, UINT64_MAX};
    return self->step == WEIR_READING_PAGE &&
           (!self->read->max_records || !weir_position_order(self->at, end));
}

void weir_redis_node_read(weir_redis_node *self)
{
    if (!weir_redis_conn_is_ready(self->reader)) return;
    for (weir_redis_reading *at = self->store->readings, *next; at; at = next) {
        next = at->next;
        if (self->reads >= out_max) return;
        if (!at->read || at->asked || at->shard->node != self) continue;
        if (is_empty(at))
            finish(at);
        else
            ask(at, self);
    }
}

/* --- Pages ------------------------------------------------------------------------- */

/*  At the start sequences are missing, or the stream says that it has had more: whether
    they were trimmed it must be asked.                                              */
static bool must_check(const weir_redis_reading *self)
{
    const weir_redis_shard *shard = self->shard;
    if (!self->checks) return false;
    if (self->begun.a || self->begun.b)
        return self->begun.b > (self->begun.a == self->begin.a ? self->begin.b + 1 : 1);
    return !shard->newest.a || weir_position_order(self->begin, shard->newest) < 0;
}

static void end_pages(weir_redis_reading *self)
{
    if (must_check(self))
        self->step = WEIR_READING_TRIMMED;
    else
        finish(self);
}

static void note_page(weir_redis_reading *self, const redisReply *page, size_t bytes)
{
    weir_redis_shard *shard = self->shard;
    if (weir_position_order(self->at, shard->newest) > 0) shard->newest = self->at;
    if (page->elements) shard->record_bytes = bytes / page->elements + 1;
}

static void take_page(weir_redis_reading *self, const redisReply *page)
{
    weir_redis_entry entry;
    size_t bytes = 0;
    for (size_t i = 0; i < page->elements; i++) {
        if (!weir_redis_entry_read(&entry, store_of(self), self->shard->id,
                                   page->element[i]) ||
            weir_position_order(entry.at, self->at) <= 0) {
            finish_badly(self, WEIR_EMALFORMED, "the server's answer makes no sense");
            return;
        }
        bytes += entry.size;
        if (!self->begun.a && !self->begun.b) self->begun = entry.at;
        self->read->more = !weir_redis_reading_add(self, &entry);
        if (self->read->more) break;
    }
    note_page(self, page, bytes);
    if (self->read->more || page->elements < self->count) end_pages(self);
}

/*  Of what is missing at the start only what was removed is told: a sequence is missing
    as well where a record has become a dead letter.                                 */
static void take_check(weir_redis_reading *self, const redisReply *reply)
{
    weir_redis_seen seen;
    bool came = self->begun.a || self->begun.b;
    if (!weir_redis_seen_read(&seen, store_of(self), self->shard, reply) ||
        !seen.exists) {
        finish(self);
        return;
    }
    if (weir_position_order(seen.last, self->shard->newest) > 0)
        self->shard->newest = seen.last;
    bool removed = seen.added < 0 || (uint64_t)seen.added > seen.records;
    if (came && removed && weir_position_order(seen.oldest, self->begun) >= 0) {
        weir_redis_reading_trimmed(self, self->begun);
    } else if (!came && seen.records) {
        self->read->more = weir_position_order(seen.newest, self->at) > 0;
    } else if (!came && weir_position_order(seen.last, self->at) > 0) {
        weir_redis_reading_trimmed(self, (weir_position){seen.last.a, seen.last.b + 1});
        self->at = seen.last;
    }
    finish(self);
}

static void take_time(weir_redis_reading *self, const redisReply *reply)
{
    switch (weir_redis_since_take(self, reply)) {
    case WEIR_SINCE_MORE:
        break;
    case WEIR_SINCE_FOUND:
        self->step = WEIR_READING_PAGE;
        break;
    case WEIR_SINCE_NONE:
        finish(self);
        break;
    case WEIR_SINCE_BAD:
        finish_badly(self, WEIR_EMALFORMED, "the server's answer makes no sense");
    }
}

/* --- What comes -------------------------------------------------------------------- */

static void take_error(weir_redis_reading *self, const char *error)
{
    const weir_redis_node *node = self->shard->node;
    weir_redis_verdict verdict = weir_redis_judge(error);
    if (self->step == WEIR_READING_TRIMMED) {
        finish(self); // the records came all the same
        return;
    }
    if (verdict == WEIR_REDIS_MOVED && ++self->moves <= moves_max &&
        weir_redis_shard_move(store_of(self), self->shard, error))
        return;
    char *text = weir_redis_url_quote(&node->url, error);
    finish_badly(self, verdict == WEIR_REDIS_LATER ? WEIR_ECLOSED : WEIR_EREFUSED, text);
    free(text);
}

static void ask_for_less(weir_redis_reading *self)
{
    weir_redis *store = store_of(self);
    self->count_max = self->count > 8 ? self->count / 8 : 1;
    pthread_mutex_lock(&store->mutex);
    store->stats.cut++;
    pthread_mutex_unlock(&store->mutex);
}

/*  A connection may have been closed while nobody used it: asked once more. For an answer
    that was too large it is the store's own doing.                                  */
static void take_loss(weir_redis_reading *self, const weir_redis_node *node)
{
    const void *too_large = weir_redis_conn_too_large(node->reader);
    if (too_large == self)
        ask_for_less(self);
    else if (too_large)
        return;
    else if (self->lost)
        finish_lost(self, node);
    else
        self->lost = true;
}

static void take(weir_redis_reading *self, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR)
        take_error(self, reply->str);
    else if (self->step == WEIR_READING_TRIMMED)
        take_check(self, reply);
    else if (self->step == WEIR_READING_TIME)
        take_time(self, reply);
    else if (reply->type == REDIS_REPLY_ARRAY)
        take_page(self, reply);
    else
        finish_badly(self, WEIR_EMALFORMED, "the server's answer makes no sense");
}

static void answered(void *arg, const redisReply *reply)
{
    weir_redis_reading *self = arg;
    weir_redis_node *node = self->asked;
    self->asked = NULL;
    node->reads--;
    if (!self->read)
        unlink_reading(self);
    else if (!reply)
        take_loss(self, node);
    else
        take(self, reply);
}

/* --- Ends -------------------------------------------------------------------------- */

/*  Those that wait for a connection that cannot be made.                            */
void weir_redis_reads_failed(weir_redis_node *self)
{
    for (weir_redis_reading *at = self->store->readings, *next; at; at = next) {
        next = at->next;
        if (at->read && !at->asked && at->shard->node == self) finish_lost(at, self);
    }
}

int64_t weir_redis_reads_deadline(const weir_redis *self)
{
    int64_t due = -1;
    for (const weir_redis_reading *at = self->readings; at; at = at->next)
        if (at->read) due = weir_earlier(due, at->deadline_us);
    return due;
}

void weir_redis_reads_run_due(weir_redis *self)
{
    int64_t now = weir_clock_now_us();
    for (weir_redis_reading *at = self->readings, *next; at; at = next) {
        next = at->next;
        if (at->read && at->deadline_us <= now) finish_late(at);
    }
}

void weir_redis_reads_end(weir_redis *self)
{
    while (self->reads_in)
        self->reads_in = weir_redis_reading_take(self, self->reads_in);
    for (weir_redis_reading *at = self->readings, *next; at; at = next) {
        next = at->next;
        if (at->read) finish_badly(at, WEIR_ECLOSED, "the store is being closed");
    }
}

/* --- On the way in ----------------------------------------------------------------- */

/*  Reads are asked in the order in which they came.                                 */
weir_redis_reading *weir_redis_reading_take(weir_redis *self, weir_redis_reading *reading)
{
    weir_redis_reading **end = &self->readings, *next = reading->next;
    while (*end)
        end = &(*end)->next;
    *end = reading;
    reading->next = NULL;
    reading->shard = weir_redis_shard_of(self, reading->read->shard);
    return next;
}

static void begin(weir_redis_reading *self, weir_read *read, int64_t timeout_us)
{
    self->read = read;
    self->begin = self->at = read->after;
    self->step = read->since_ms ? WEIR_READING_TIME : WEIR_READING_PAGE;
    self->checks = !read->since_ms;
    self->count_max = count_most;
    self->deadline_us = weir_clock_now_us() + timeout_us;
    self->builder.target = 1 << 16;
}

/*  Any thread.                                                                      */
void weir_redis_read(weir_store *store, weir_read *read)
{
    weir_redis *self = (weir_redis *)store;
    weir_redis_reading *reading = calloc(1, sizeof *reading);
    if (!reading) abort();
    read->err = WEIR_OK;
    read->text[0] = 0;
    read->chunks = NULL;
    read->gaps = NULL;
    read->chunk_count = read->gap_count = 0;
    read->reached = read->after;
    read->more = false;
    begin(reading, read, self->config.timeout_us);
    pthread_mutex_lock(&self->mutex);
    *self->reads_in_end = reading;
    self->reads_in_end = &reading->next;
    pthread_mutex_unlock(&self->mutex);
    weir_redis_wake(self);
}
