#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "actors/jetstream_private.h"
#include "runtime/clock.h"

enum {
    lot = 64,        // records of a shard that are sent before another one's turn
    wake_share = 8,  // of the window must be free before a full one is filled again
    doubts_max = 16, // lookups of one record
};

static const char behind[] = "behind a batch that failed";

static weir_js_writer *writer_of(weir_js_line *line)
{
    return (weir_js_writer *)line;
}

static uint32_t window(const weir_js_writer *self)
{
    return (uint32_t)self->store->config.window;
}

static bool has_room(const weir_js_writer *self, const weir_js_shard *shard,
                     int64_t now_us)
{
    return shard->sent < (now_us < shard->alone_us ? 1 : window(self));
}

/* --- Shards ------------------------------------------------------------------------ */

static size_t place_of(const weir_js_writer *self, uint32_t id)
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

static weir_js_shard *find_shard(const weir_js_writer *self, uint32_t id)
{
    size_t at = place_of(self, id);
    bool is = at < self->shard_count && self->shards[at]->id == id;
    return is ? self->shards[at] : NULL;
}

static weir_js_shard *shard_of(weir_js_writer *self, uint32_t id)
{
    weir_js_shard *shard = find_shard(self, id);
    if (shard) return shard;
    size_t at = place_of(self, id), size = sizeof *self->shards;
    shard = calloc(1, sizeof *shard);
    self->shards = realloc(self->shards, (self->shard_count + 1) * size);
    if (!shard || !self->shards) abort();
    shard->flights = calloc(window(self), sizeof *shard->flights);
    if (!shard->flights) abort();
    shard->id = id;
    shard->end = &shard->first;
    weir_js_names_make(&shard->names, &self->store->config, id);
    memmove(self->shards + at + 1, self->shards + at, (self->shard_count++ - at) * size);
    return self->shards[at] = shard;
}

static weir_js_flight *flight_at(const weir_js_writer *self, const weir_js_shard *shard,
                                 uint32_t offset)
{
    return &shard->flights[(shard->head + offset) % window(self)];
}

/* --- Answers ----------------------------------------------------------------------- */

/*  The first batch of the shard is answered: what is safe of it, is so for good.     */
static void finish_first(weir_js_writer *self, weir_js_shard *shard,
                         weir_store_result result, const char *text)
{
    weir_js_node *node = shard->first;
    uint64_t behind_it = shard->next > node->end ? shard->next - node->end : 0;
    bool has_some = shard->known && node->epoch == shard->epoch &&
                    shard->next > node->first && shard->position > behind_it + 1;
    node->result = result;
    node->last_offset = has_some ? shard->position - 1 - behind_it : 0;
    if (result == WEIR_STORE_REFUSED)
        node->refused = (uint32_t)(shard->next - node->first);
    snprintf(node->text, sizeof node->text, "%s", text);
    if (shard->at == node) shard->at = NULL;
    shard->first = node->next;
    if (!shard->first) shard->end = &shard->first;
    node->next = NULL;
    *self->told_end = node;
    self->told_end = &node->next;
}

void weir_js_settle(weir_js_writer *self, weir_js_shard *shard)
{
    while (shard->known && shard->first && shard->first->epoch == shard->epoch &&
           shard->first->end <= shard->next)
        finish_first(self, shard, WEIR_STORE_SAFE, "");
}

void weir_js_rewind(weir_js_shard *shard)
{
    shard->at = NULL;
    shard->too_large = false;
    shard->sent = shard->head = shard->waiting = shard->hint = 0;
    shard->rejected = WEIR_STORE_SAFE;
}

void weir_js_fail(weir_js_writer *self, weir_js_shard *shard, weir_store_result result,
                  bool for_good, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (for_good) memcpy(shard->fatal, text, sizeof text);
    shard->broken = shard->broken || shard->first;
    if (shard->first) finish_first(self, shard, result, text);
    while (shard->first)
        finish_first(self, shard, WEIR_STORE_RETRY, behind);
    if (shard->state != WEIR_JS_READY || shard->sent) shard->state = WEIR_JS_CLOSED;
    weir_js_rewind(shard);
}

static void node_destroy(weir_js_writer *self, weir_js_node *node)
{
    *(node->older ? &node->older->newer : &self->oldest) = node->newer;
    *(node->newer ? &node->newer->older : &self->newest) = node->older;
    free(node);
}

static void tell_node(weir_js_node *node)
{
    weir_batch *batch = node->batch;
    batch->result = node->result;
    batch->refused = node->refused;
    batch->last_offset = node->last_offset;
    memcpy(batch->text, node->text, sizeof batch->text);
    batch->done(batch);
    weir_batch_destroy(&node->batch);
}

static void tell(weir_js_line *line)
{
    weir_js_writer *self = writer_of(line);
    pthread_mutex_lock(&line->mutex);
    bool news = false; // of records whose batches were told here, whoever has stored them
    for (weir_js_node *node; (node = self->told);) {
        news |= self->news;
        self->news = false;
        self->told = node->next;
        if (!self->told) self->told_end = &self->told;
        pthread_mutex_unlock(&line->mutex);
        tell_node(node);
        pthread_mutex_lock(&line->mutex);
        node_destroy(self, node);
        pthread_cond_broadcast(&self->answered);
    }
    pthread_mutex_unlock(&line->mutex);
    if (news) weir_js_tell_watchers(self->store);
}

/* --- Sending ----------------------------------------------------------------------- */

/*  Begins with the first record of the batch that is not proven. False: it must wait for
    what is under way, since it does not follow it, or there is none.                */
static bool begin(weir_js_shard *shard, weir_js_node *node)
{
    weir_record record;
    if (!node) return false;
    bool follows =
        node->epoch == shard->epoch && node->first == shard->next + shard->sent;
    if (!follows && shard->sent) return false;
    if (!follows && (node->epoch != shard->epoch || node->first > shard->next)) {
        shard->next = node->first; // what is between was given up, or refused
        shard->maybe = 0;
    }
    shard->epoch = node->epoch;
    shard->at = node;
    shard->walk = (weir_batch_walk){.batch = node->batch};
    shard->at_next = node->first;
    while (shard->at_next < shard->next && weir_batch_next(&shard->walk, &record))
        shard->at_next++;
    return true;
}

static bool next_record(weir_js_shard *shard, weir_record *record)
{
    if (!shard->at && !begin(shard, shard->first)) return false;
    while (shard->at_next == shard->at->end)
        if (!begin(shard, shard->at->next)) return false;
    return weir_batch_next(&shard->walk, record);
}

static void print_id(const weir_js_writer *self, const weir_js_shard *shard,
                     uint64_t sequence, char text[WEIR_ID_TEXT])
{
    weir_id_print(
        &(weir_id){self->store->config.nonce, shard->epoch, shard->id, sequence}, text);
}

/*  What follows one that is under way fits behind that one alone: with sequences only,
   what an earlier start of the bus had under way would fit behind as many records of this
    start, and would be in the stream before those that it had sent before them.     */
static natsStatus put_conditions(const weir_js_writer *self, const weir_js_shard *shard,
                                 natsMsg *msg)
{
    char id[WEIR_ID_TEXT], last[24];
    print_id(self, shard, shard->at_next, id);
    snprintf(last, sizeof last, "%" PRIu64, shard->position + shard->sent - 1);
    natsStatus s = natsMsgHeader_Set(msg, WEIR_JS_ID, id);
    if (!s) s = natsMsgHeader_Set(msg, WEIR_JS_EXPECTED_LAST, last);
    if (s || !shard->sent) return s;
    print_id(self, shard, shard->at_next - 1, id);
    return natsMsgHeader_Set(msg, WEIR_JS_EXPECTED_ID, id);
}

static natsStatus make_message(weir_js_writer *self, const weir_js_shard *shard,
                               weir_record *record, natsMsg **msg)
{
    const uint8_t *data = record->encoded;
    size_t size = record->encoded_size;
    if (!record->has_ts) {
        record->has_ts = true;
        record->ts_ms = shard->at->batch->arrived_ms;
        self->scratch.size = 0;
        weir_record_put(record, &self->scratch);
        data = self->scratch.data;
        size = self->scratch.size;
    }
    natsStatus s =
        natsMsg_Create(msg, shard->names.subject, NULL, (const char *)data, (int)size);
    return s ? s : put_conditions(self, shard, *msg);
}

/*  False: it was not sent.                                                         */
static bool send(weir_js_writer *self, weir_js_shard *shard, weir_record *record,
                 int64_t now_us)
{
    natsMsg *msg = NULL;
    natsStatus s = make_message(self, shard, record, &msg);
    weir_js_flight flight = {.msg = msg, .sent_us = now_us};
    if (!s) s = weir_nats_session_publish(self->line.session, &msg);
    natsMsg_Destroy(msg);
    shard->too_large = s == NATS_MAX_PAYLOAD;
    if (s && !shard->too_large) weir_js_line_cut(&self->line, natsStatus_GetText(s));
    if (s) return false;
    *flight_at(self, shard, shard->sent) = flight;
    if (++shard->sent > shard->maybe) shard->maybe = shard->sent;
    shard->waiting++;
    shard->at_next++;
    self->stats.published++;
    return true;
}

static void refuse_too_large(weir_js_writer *self, weir_js_shard *shard)
{
    if (!shard->too_large || shard->sent) return;
    weir_js_fail(self, shard, WEIR_STORE_REFUSED, false,
                 "the record is above the server's max_payload, %" PRId64 " bytes",
                 weir_nats_session_max_payload(self->line.session));
}

/*  True: there is more, for which there is room.                                    */
static bool send_some(weir_js_writer *self, weir_js_shard *shard, int64_t now_us)
{
    weir_record record;
    bool was_idle = !shard->waiting;
    int left = lot;
    while (left && shard->state == WEIR_JS_READY && !shard->too_large &&
           has_room(self, shard, now_us) &&
           !weir_nats_session_is_full(self->line.session)) {
        if (!next_record(shard, &record) || !send(self, shard, &record, now_us)) break;
        left--;
    }
    refuse_too_large(self, shard);
    if (was_idle && shard->waiting)
        weir_js_wake_keeper(self->store, now_us + self->store->config.timeout_us);
    return !left;
}

static bool pump(weir_js_line *line)
{
    weir_js_writer *self = writer_of(line);
    bool more = false;
    if (!weir_js_line_send_calls(line)) return false;
    int64_t now_us = weir_clock_now_us();
    for (size_t i = 0; i < self->shard_count; i++)
        more |=
            send_some(self, self->shards[(self->turn + i) % self->shard_count], now_us);
    self->turn++;
    return more;
}

/* --- Acknowledgements -------------------------------------------------------------- */

void weir_js_prove(weir_js_writer *self, weir_js_shard *shard)
{
    shard->next++;
    shard->position++;
    if (shard->sent) shard->sent--;
    if (shard->maybe) shard->maybe--;
    shard->head = (shard->head + 1) % window(self);
    if (shard->hint) shard->hint--;
    shard->doubts = 0;
    shard->progress_us = weir_clock_now_us();
    self->stats.stored++;
    self->news = true;
}

/*  A record was not taken, and nothing is under way any more.                       */
static void resolve(weir_js_writer *self, weir_js_shard *shard)
{
    if (flight_at(self, shard, 0)->state == WEIR_JS_REJECTED) {
        weir_js_fail(self, shard, shard->rejected, false, "%s", shard->rejection);
    } else if (++shard->doubts > doubts_max) {
        shard->doubts = 0;
        weir_js_fail(self, shard, WEIR_STORE_RETRY, false,
                     "the server does not take the record for %" PRIu64, shard->position);
    } else {
        weir_js_open(self, shard);
    }
}

static bool has_more(const weir_js_shard *shard)
{
    const weir_js_node *at = shard->at ? shard->at : shard->first;
    return at && (at->next || !shard->at || shard->at_next < at->end);
}

/*  From the first record that is not proven, as far as answers have come.           */
static void advance(weir_js_writer *self, weir_js_shard *shard)
{
    while (shard->sent && flight_at(self, shard, 0)->state == WEIR_JS_STORED)
        weir_js_prove(self, shard);
    weir_js_settle(self, shard);
    refuse_too_large(self, shard);
    if (shard->sent && flight_at(self, shard, 0)->state != WEIR_JS_WAITING)
        shard->state = WEIR_JS_DRAINING;
    if (shard->state == WEIR_JS_DRAINING && !shard->waiting) resolve(self, shard);
    bool has_room =
        !shard->sent || window(self) - shard->sent >= window(self) / wake_share;
    if (shard->state == WEIR_JS_READY && has_room && has_more(shard))
        weir_js_line_wake(&self->line);
}

/*  Answers come in the order of sending, unless something is wrong.                  */
static bool find_flight(const weir_js_writer *self, weir_js_shard *shard,
                        const natsMsg *msg, uint32_t *offset)
{
    for (uint32_t i = 0; i < shard->sent; i++) {
        *offset = (shard->hint + i) % shard->sent;
        if (flight_at(self, shard, *offset)->msg != msg) continue;
        shard->hint = *offset + 1;
        return true;
    }
    return false;
}

static bool is_doubt(const jsPubAckErr *error)
{
    static const int doubts[] = {WEIR_JS_WRONG_LAST_ID, WEIR_JS_WRONG_LAST,
                                 WEIR_JS_WRONG_LAST_CONSTANT, WEIR_JS_IN_PROGRESS,
                                 WEIR_JS_OTHER_SEQUENCE};
    for (size_t i = 0; i < sizeof doubts / sizeof *doubts; i++)
        if ((int)error->ErrCode == doubts[i]) return true;
    return error->Err == NATS_NO_RESPONDERS; // there is no such stream any more
}

static void reject(weir_js_shard *shard, weir_js_flight *flight, const jsPubAckErr *error)
{
    int code = (int)error->ErrCode;
    flight->state = WEIR_JS_REJECTED;
    if (shard->rejected) return;
    shard->rejected = code == WEIR_JS_TOO_LARGE      ? WEIR_STORE_REFUSED
                      : weir_js_error_is_fatal(code) ? WEIR_STORE_FATAL
                                                     : WEIR_STORE_RETRY;
    snprintf(shard->rejection, sizeof shard->rejection, "%.150s: %.100s",
             shard->names.stream,
             error->ErrText ? error->ErrText : natsStatus_GetText(error->Err));
}

static void acked(weir_js_line *line, const natsMsg *msg, const jsPubAck *ack,
                  const jsPubAckErr *error)
{
    weir_js_writer *self = writer_of(line);
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    weir_js_shard *shard = find_shard(self, (uint32_t)strtoul(dot + 1, NULL, 10));
    uint32_t offset;
    if (shard->state != WEIR_JS_READY && shard->state != WEIR_JS_DRAINING) return;
    if (!find_flight(self, shard, msg, &offset)) return;
    weir_js_flight *flight = flight_at(self, shard, offset);
    uint64_t position = shard->position + offset;
    flight->msg = NULL;
    shard->waiting--;
    if (ack && ack->Sequence != position) {
        weir_js_fail(self, shard, WEIR_STORE_FATAL, true,
                     "other_writer: shard %" PRIu32 ": the record for %" PRIu64
                     " of %s is at %" PRIu64,
                     shard->id, position, shard->names.stream, ack->Sequence);
        return;
    }
    if (ack)
        flight->state = WEIR_JS_STORED;
    else if (is_doubt(error))
        flight->state = WEIR_JS_DOUBTED;
    else
        reject(shard, flight, error);
    advance(self, shard);
}

static void denied(weir_js_line *line, const char *subject, const char *text)
{
    weir_js_writer *self = writer_of(line);
    bool found = false;
    for (size_t i = 0; i < self->shard_count; i++) {
        if (strcmp(self->shards[i]->names.subject, subject)) continue;
        weir_js_fail(self, self->shards[i], WEIR_STORE_FATAL, false, "%s", text);
        found = true;
    }
    for (size_t i = 0; i < self->shard_count && !found; i++)
        weir_js_fail(self, self->shards[i], WEIR_STORE_FATAL, false, "%s", text);
}

/* --- Connection -------------------------------------------------------------------- */

static void up(weir_js_line *line)
{
    weir_js_writer *self = writer_of(line);
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->first) weir_js_open(self, self->shards[i]);
}

static void fail_for_line(weir_js_writer *self, weir_js_shard *shard)
{
    const weir_js_line *line = &self->line;
    weir_js_fail(self, shard, line->fatal ? WEIR_STORE_FATAL : WEIR_STORE_RETRY, false,
                 "%s", line->closing ? "the store is being closed" : line->error);
}

/*  What was sent may be in the stream, or may still get there.                       */
static void down(weir_js_line *line)
{
    weir_js_writer *self = writer_of(line);
    for (size_t i = 0; i < self->shard_count; i++) {
        self->shards[i]->state = WEIR_JS_CLOSED;
        weir_js_rewind(self->shards[i]);
        if (!weir_js_line_is_open(line) && self->shards[i]->first)
            fail_for_line(self, self->shards[i]);
    }
}

static const weir_js_line_class class = {
    .name = "writing",
    .up = up,
    .down = down,
    .pump = pump,
    .acked = acked,
    .data = NULL,
    .denied = denied,
    .tell = tell,
};

/* --- Time -------------------------------------------------------------------------- */

/*  When the oldest record without an answer has waited too long; -1: there is none.  */
static int64_t answer_due(const weir_js_writer *self, const weir_js_shard *shard)
{
    uint32_t i = 0;
    if (!shard->waiting) return -1;
    while (flight_at(self, shard, i)->state != WEIR_JS_WAITING)
        i++;
    return flight_at(self, shard, i)->sent_us + self->store->config.timeout_us;
}

/*  When all has taken too long together, however often it was begun anew.            */
static int64_t progress_due(const weir_js_writer *self, const weir_js_shard *shard)
{
    return shard->first ? shard->progress_us + 2 * self->store->config.timeout_us : -1;
}

/*  Fails the shard when it is time; gives when it will be, -1: never.                */
static int64_t run_shard(weir_js_writer *self, weir_js_shard *shard, int64_t now_us)
{
    int64_t answer_us = answer_due(self, shard), progress_us = progress_due(self, shard);
    int64_t timeout_ms = self->store->config.timeout_us / 1000;
    if (answer_us >= 0 && answer_us <= now_us) {
        weir_js_fail(self, shard, WEIR_STORE_RETRY, false,
                     "%.150s: %s: no answer in %" PRId64 " ms", self->store->servers.text,
                     shard->names.stream, timeout_ms);
        weir_js_line_is_late(&self->line, now_us);
        return -1;
    }
    if (progress_us >= 0 && progress_us <= now_us) {
        weir_js_fail(self, shard, WEIR_STORE_RETRY, false,
                     "%.100s: %s: nothing was stored in %" PRId64 " ms%s%.100s",
                     self->store->servers.text, shard->names.stream, 2 * timeout_ms,
                     *self->line.error ? ": " : "", self->line.error);
        return -1;
    }
    return weir_earlier(answer_us, progress_us);
}

int64_t weir_js_writer_run(weir_js_writer *self)
{
    int64_t due_us = -1;
    pthread_mutex_lock(&self->line.mutex);
    int64_t now_us = weir_clock_now_us();
    for (size_t i = 0; i < self->shard_count; i++)
        due_us = weir_earlier(due_us, run_shard(self, self->shards[i], now_us));
    pthread_mutex_unlock(&self->line.mutex);
    return weir_earlier(due_us, weir_js_line_run(&self->line));
}

/* --- Any thread -------------------------------------------------------------------- */

static weir_js_node *node_new(weir_batch *batch)
{
    weir_js_node *node = calloc(1, sizeof *node);
    if (!node) abort();
    node->batch = weir_batch_dup(batch);
    node->epoch = batch->epoch;
    node->first = batch->first;
    node->end = batch->first + batch->records;
    return node;
}

static void add_node(weir_js_writer *self, weir_js_shard *shard, weir_js_node *node)
{
    if (!shard->first) {
        shard->progress_us = weir_clock_now_us();
        weir_js_wake_keeper(self->store,
                            shard->progress_us + 2 * self->store->config.timeout_us);
    }
    node->number = ++self->written;
    node->older = self->newest;
    *(self->newest ? &self->newest->newer : &self->oldest) = node;
    self->newest = node;
    *shard->end = node;
    shard->end = &node->next;
}

/*  What keeps the batches of the shard from being stored is answered at once.        */
static void go_on(weir_js_writer *self, weir_js_shard *shard)
{
    const weir_js_line *line = &self->line;
    if (!self->store->config.nonce)
        weir_js_fail(self, shard, WEIR_STORE_FATAL, false,
                     "the store is open for reading only");
    else if (shard->fatal[0])
        weir_js_fail(self, shard, WEIR_STORE_FATAL, false, "%s", shard->fatal);
    else if (shard->broken)
        weir_js_fail(self, shard, WEIR_STORE_RETRY, false, "%s", behind);
    else if (!weir_js_line_is_open(line))
        fail_for_line(self, shard);
    else if (shard->known && shard->first->epoch < shard->epoch)
        weir_js_fail(self, shard, WEIR_STORE_FATAL, false,
                     "other_writer: shard %" PRIu32
                     ": %s has records of the start %" PRIu64 ", and this is %" PRIu64,
                     shard->id, shard->names.stream, shard->epoch, shard->first->epoch);
    else if (line->state == WEIR_LINE_UP && shard->state == WEIR_JS_CLOSED)
        weir_js_open(self, shard);
    else if (shard->state == WEIR_JS_READY)
        weir_js_settle(self, shard);
}

void weir_js_write(weir_store *store, weir_batch *batch)
{
    weir_js_writer *self = &((weir_js_store *)store)->writer;
    weir_js_node *node = node_new(batch);
    bool again = batch->again;
    pthread_mutex_lock(&self->line.mutex);
    weir_js_shard *shard = shard_of(self, batch->shard);
    if (again && shard->first)
        weir_js_fail(self, shard, WEIR_STORE_RETRY, false, "it has been sent again");
    if (again) shard->broken = false;
    add_node(self, shard, node);
    go_on(self, shard);
    if (shard->state == WEIR_JS_READY && shard->first) weir_js_line_wake(&self->line);
    pthread_mutex_unlock(&self->line.mutex);
    tell(&self->line);
}

/*  Writes up to this number that are not answered yet. Under the mutex.             */
static unsigned count_open(const weir_js_writer *self, uint64_t number)
{
    unsigned count = 0;
    for (const weir_js_node *n = self->oldest; n && n->number <= number; n = n->newer)
        count++;
    return count;
}

weir_err weir_js_flush(weir_store *store, int64_t timeout_us, weir_report *report)
{
    weir_js_writer *self = &((weir_js_store *)store)->writer;
    struct timespec end;
    int rc = 0;
    unsigned open;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t ns = end.tv_nsec + (timeout_us > 0 ? timeout_us % 1000000 : 0) * 1000;
    end.tv_sec += (timeout_us > 0 ? timeout_us / 1000000 : 0) + ns / 1000000000;
    end.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&self->line.mutex);
    uint64_t number = self->written;
    while ((open = count_open(self, number)) && !rc)
        rc = timeout_us < 0
                 ? pthread_cond_wait(&self->answered, &self->line.mutex)
                 : pthread_cond_timedwait(&self->answered, &self->line.mutex, &end);
    pthread_mutex_unlock(&self->line.mutex);
    if (!open) return WEIR_OK;
    return weir_report_set(report, WEIR_ETIMEOUT, self->line.config.shown,
                           "%u batches are not stored yet", open);
}

static void add_row(const weir_js_shard *shard, weir_store_shard **list, size_t *count)
{
    uint64_t last = shard->position - 1, first = shard->found.first;
    size_t i = 0;
    while (i < *count && (*list)[i].shard != shard->id)
        i++;
    if (i == *count) {
        *list = realloc(*list, (*count + 1) * sizeof **list);
        if (!*list) abort();
        (*list)[(*count)++] = (weir_store_shard){.shard = shard->id,
                                                 .first = first ? first : 1,
                                                 .last = first ? first - 1 : 0,
                                                 .begin.a = first ? first - 1 : 0};
    }
    weir_store_shard *row = &(*list)[i];
    row->was.a = shard->was;
    row->was_known = true;
    if (last <= row->last) return;
    row->records += last - row->last;
    row->last = row->end.a = last;
}

void weir_js_writer_add_rows(weir_js_writer *self, weir_store_shard **list, size_t *count)
{
    pthread_mutex_lock(&self->line.mutex);
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->known && self->shards[i]->position > 1)
            add_row(self->shards[i], list, count);
    pthread_mutex_unlock(&self->line.mutex);
}

uint64_t weir_js_writer_epoch(weir_js_writer *self)
{
    uint64_t epoch = 0;
    pthread_mutex_lock(&self->line.mutex);
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->epoch > epoch) epoch = self->shards[i]->epoch;
    pthread_mutex_unlock(&self->line.mutex);
    return epoch;
}

/* --- Life -------------------------------------------------------------------------- */

void weir_js_writer_init(weir_js_writer *self, weir_js_store *store)
{
    pthread_condattr_t monotonic;
    weir_js_line_config config;
    self->store = store;
    self->told_end = &self->told;
    weir_js_configure_line(&config, store);
    weir_js_line_init(&self->line, &class, &config);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
    self->line.wanted = store->config.nonce != 0;
}

void weir_js_writer_close(weir_js_writer *self)
{
    weir_js_line_close(&self->line);
    pthread_mutex_lock(&self->line.mutex);
    for (size_t i = 0; i < self->shard_count; i++)
        weir_js_fail(self, self->shards[i], WEIR_STORE_RETRY, false,
                     "the store is being closed");
    pthread_mutex_unlock(&self->line.mutex);
    tell(&self->line);
}

void weir_js_writer_fini(weir_js_writer *self)
{
    for (size_t i = 0; i < self->shard_count; i++) {
        free(self->shards[i]->flights);
        free(self->shards[i]->tokens);
        free(self->shards[i]);
    }
    free(self->shards);
    weir_buffer_fini(&self->scratch);
    weir_js_response_fini(&self->response);
    pthread_cond_destroy(&self->answered);
    weir_js_line_fini(&self->line);
}
