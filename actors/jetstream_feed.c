#include "actors/jetstream_feed.h"
#include <inttypes.h>
#include <poll.h>
#include <sys/eventfd.h>
#include "runtime/clock.h"
#include "runtime/log.h"

enum {
    confirm_tries = 3,    // then an acknowledgement counts as confirmed
    pull_bytes = 4 << 20, // of one request
};

/*  nats-server tells another time of its consumers after a start.                    */
static const int64_t same_ms = 1000;
static const int64_t leave_us = 1000000; // for what is given back at the end

static weir_js_feed *feed_of(weir_js_line *line)
{
    return (weir_js_feed *)line;
}

static void lock(weir_js_feed *self)
{
    pthread_mutex_lock(&self->port.line.mutex);
}

static void unlock(weir_js_feed *self)
{
    pthread_mutex_unlock(&self->port.line.mutex);
}

static void wake_session(weir_js_feed *self)
{
    weir_js_line_wake(&self->port.line);
}

static uint64_t last_of(const weir_js_feed *self)
{
    return self->held.end - 1;
}

/* --- Failures, under the mutex ----------------------------------------------------- */

static void give_up(weir_js_feed *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void give_up(weir_js_feed *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!self->fatal[0]) vsnprintf(self->fatal, sizeof self->fatal, format, args);
    va_end(args);
    weir_js_port_wake(&self->port);
}

/*  The consumer is looked at once more, later.                                       */
static void look_again(weir_js_feed *self, const char *text)
{
    weir_js_port_trouble(&self->port, "%.60s: %.180s", self->durable.stream, text);
    int64_t wait_us = weir_js_port_wait_us(&self->port, ++self->failures);
    if (self->failures == 1)
        weir_log(WEIR_WARN,
                 "jetstream consumer is away stream=%s consumer=%s cause=\"%s\" "
                 "wait_ms=%d",
                 self->durable.stream, self->durable.name, text, (int)(wait_us / 1000));
    for (uint32_t i = 0; i < self->pull_count; i++)
        weir_js_line_cancel(&self->port.line, self->pulls[i].token);
    self->pull_count = 0;
    self->state = WEIR_FEED_WAITING;
    self->again_us = weir_clock_now_us() + wait_us;
    weir_js_port_wake(&self->port);
}

/* --- The consumer ------------------------------------------------------------------ */

static void ask(weir_js_feed *self, const char *what, const char *more, weir_buffer *body,
                weir_js_answered *answered)
{
    char subject[2 * WEIR_JS_NAME];
    weir_js_ask(subject, what, self->durable.stream, more);
    self->state = WEIR_FEED_ASKING;
    weir_js_line_call(&self->port.line, subject, body, answered, NULL);
}

/*  What is not confirmed is acknowledged once more.                                  */
static void go_on(weir_js_feed *self)
{
    self->state = WEIR_FEED_READY;
    self->acked = self->held.first - 1;
    self->progress_us = weir_clock_now_us();
    weir_js_port_calm(&self->port);
    weir_js_port_wake(&self->port);
    wake_session(self);
}

/*  One that somebody else has made may have to bring all once more. Of one that is the
    same what the server has forgotten is acknowledged again.                         */
static void know_consumer(weir_js_feed *self, const weir_js_durable_info *info,
                          bool is_ours)
{
    bool is_same = llabs(self->consumer_ms - info->created_ms) <= same_ms ||
                   weir_js_is_same(self->consumer_ms, info->created_ms, self->highest_ms);
    if (!is_same && !is_ours) self->done.count = 0;
    self->consumer_ms = info->created_ms;
    self->repeat_at = info->floor;
    self->repeat_to = info->delivered;
}

static void use_consumer(weir_js_feed *self, bool is_ours)
{
    weir_js_durable_info info;
    char why[200];
    if (!weir_js_durable_judge(&info, &self->response.root, &self->durable, why)) {
        give_up(self, "the consumer %.60s of %.60s cannot be used: %.100s",
                self->durable.name, self->durable.stream, why);
        return;
    }
    if (info.max_deliver > 0 && !self->highest)
        weir_log(WEIR_WARN,
                 "jetstream consumer gives messages up stream=%s consumer=%s "
                 "max_deliver=%" PRId64,
                 self->durable.stream, self->durable.name, info.max_deliver);
    self->ack_wait_us = info.ack_wait_us;
    self->pending = info.pending;
    self->bounds = info;
    know_consumer(self, &info, is_ours);
    go_on(self);
}

/*  The answer to a question about stream or consumer; false: there is none to read.   */
static bool read_answer(weir_js_feed *self, const weir_js_answer *answer)
{
    if (self->port.line.state != WEIR_LINE_UP || self->state != WEIR_FEED_ASKING)
        return false;
    if (answer->denied) give_up(self, "%s", answer->text);
    if (!answer->msg && !answer->denied) look_again(self, answer->text);
    if (answer->msg) weir_js_response_read(&self->response, answer->msg);
    return answer->msg;
}

static void made(weir_js_line *line, void *arg, uint64_t token,
                 const weir_js_answer *answer);

static void make_consumer_from(weir_js_feed *self, weir_js_start start)
{
    weir_js_durable durable = self->durable;
    durable.start = start;
    weir_js_put_durable(&self->body, &durable);
    ask(self, "CONSUMER.DURABLE.CREATE", self->durable.name, &self->body, made);
}

/*  A work queue's consumer begins with all that is there, and what is acknowledged is
    not.                                                                            */
static void made(weir_js_line *line, void *arg, uint64_t token,
                 const weir_js_answer *answer)
{
    (void)arg, (void)token;
    weir_js_feed *self = feed_of(line);
    if (!read_answer(self, answer)) return;
    if (!self->response.failed) {
        weir_log(WEIR_INFO, "jetstream consumer made stream=%s consumer=%s",
                 self->durable.stream, self->durable.name);
        use_consumer(self, true);
    } else if (self->response.err_code == WEIR_JS_ALL_WANTED && self->highest) {
        make_consumer_from(self, (weir_js_start){.from = WEIR_JS_FROM_START});
    } else if (weir_js_error_is_fatal(self->response.err_code)) {
        give_up(self, "cannot make the consumer %.60s of %.60s: %.100s",
                self->durable.name, self->durable.stream, self->response.text);
    } else {
        look_again(self, self->response.text);
    }
}

/*  One that is made anew goes on where this one was.                                  */
static void make_consumer(weir_js_feed *self)
{
    weir_js_start start = self->durable.start;
    uint64_t lowest = weir_js_held_lowest(&self->held, self->safe);
    if (self->highest) {
        start.from = WEIR_JS_FROM_SEQUENCE;
        start.sequence = lowest ? lowest : self->highest + 1;
        weir_log(WEIR_WARN,
                 "jetstream consumer is gone and made anew stream=%s consumer=%s "
                 "from=%" PRIu64,
                 self->durable.stream, self->durable.name, start.sequence);
    }
    make_consumer_from(self, start);
}

static void looked(weir_js_line *line, void *arg, uint64_t token,
                   const weir_js_answer *answer)
{
    (void)arg, (void)token;
    weir_js_feed *self = feed_of(line);
    if (!read_answer(self, answer)) return;
    if (!self->response.failed)
        use_consumer(self, false);
    else if (self->response.err_code == WEIR_JS_NO_CONSUMER_THERE)
        make_consumer(self);
    else
        look_again(self, self->response.text);
}

static void ask_consumer(weir_js_feed *self)
{
    ask(self, "CONSUMER.INFO", self->durable.name, NULL, looked);
}

/*  Sequences of a stream that was deleted mean nothing in one of its name.            */
static void know_stream(weir_js_feed *self)
{
    int64_t created_ms = weir_js_time(&self->response.root, "created");
    if (self->stream_ms &&
        !weir_js_is_same(self->stream_ms, created_ms, self->highest_ms)) {
        weir_log(WEIR_WARN, "jetstream stream is another one than before stream=%s",
                 self->durable.stream);
        weir_js_held_orphan(&self->held);
        self->highest = 0;
        self->highest_ms = 0;
        self->done.count = 0;
        self->durable.start.from = WEIR_JS_FROM_START;
    }
    self->stream_ms = created_ms;
}

/*  Who may not look at the stream does without.                                      */
static void looked_at_stream(weir_js_line *line, void *arg, uint64_t token,
                             const weir_js_answer *answer)
{
    (void)arg, (void)token;
    weir_js_feed *self = feed_of(line);
    if (answer->denied && self->state == WEIR_FEED_ASKING) {
        ask_consumer(self);
        return;
    }
    if (!read_answer(self, answer)) return;
    if (self->response.failed) {
        look_again(self, self->response.err_code == WEIR_JS_NO_STREAM
                             ? "there is no such stream"
                             : self->response.text);
        return;
    }
    know_stream(self);
    ask_consumer(self);
}

static void begin(weir_js_feed *self)
{
    ask(self, "STREAM.INFO", "", NULL, looked_at_stream);
}

/* --- Acknowledgements, in the session's thread ------------------------------------- */

static void let_go(weir_js_feed *self, uint64_t last)
{
    for (uint64_t n = self->held.first; n <= last && n < self->held.end; n++) {
        uint64_t sequence = weir_js_held_at(&self->held, n)->sequence;
        if (sequence && n <= self->safe) weir_js_spans_add(&self->done, sequence);
    }
    weir_js_held_drop(&self->held, last);
}

/*  The answer to the last one of a bulk is one for all of them, since the server reads
    them in order. Who is silent about that alone, time and again, has it done.        */
static void confirmed(weir_js_line *line, void *arg, uint64_t token,
                      const weir_js_answer *answer)
{
    (void)token;
    weir_js_feed *self = feed_of(line);
    self->confirms--;
    if (line->state != WEIR_LINE_UP) return;
    bool silent = !answer->msg && !answer->denied;
    if (answer->denied) {
        give_up(self, "%s", answer->text);
    } else if (silent && ++self->unconfirmed < confirm_tries) {
        self->acked = self->held.first - 1;
        wake_session(self);
    } else if (!silent && natsMsg_IsNoResponders(answer->msg)) {
        if (self->state == WEIR_FEED_READY)
            look_again(self, "nobody takes acknowledgements");
    } else {
        if (!silent) self->unconfirmed = 0;
        let_go(self, (uintptr_t)arg);
        if (self->acked < self->held.first - 1) self->acked = self->held.first - 1;
        weir_js_port_wake(&self->port);
        wake_session(self);
    }
}

static void call_for_confirmation(weir_js_feed *self, const char *reply, const char *text,
                                  uint64_t number)
{
    weir_buffer body = {0};
    weir_buffer_put_text(&body, text);
    self->confirms++;
    weir_js_line_call(&self->port.line, reply, &body, confirmed,
                      (void *)(uintptr_t)number);
}

/*  False: the session is broken.                                                    */
static bool send_plain(weir_js_feed *self, uint64_t number, const char *text)
{
    const char *reply = weir_js_held_at(&self->held, number)->reply;
    natsStatus s =
        reply ? weir_nats_session_send(self->port.line.session, reply, text, strlen(text))
              : NATS_OK;
    if (s) weir_js_line_cut(&self->port.line, natsStatus_GetText(s));
    return !s;
}

static bool is_full(const weir_js_feed *self)
{
    return weir_nats_session_is_full(self->port.line.session);
}

static bool send_acks(weir_js_feed *self)
{
    while (self->acked < self->safe && !is_full(self)) {
        uint64_t n = self->acked + 1;
        const char *reply = weir_js_held_at(&self->held, n)->reply;
        if (n == self->safe && reply)
            call_for_confirmation(self, reply, "+ACK", n);
        else if (!send_plain(self, n, "+ACK"))
            return false;
        self->acked = n;
    }
    if (self->acked == self->safe && !self->confirms) let_go(self, self->safe);
    return true;
}

static bool repeat_acks(weir_js_feed *self)
{
    char subject[512];
    while (self->reply && self->repeat_at < self->repeat_to && !is_full(self)) {
        uint64_t next = weir_js_spans_next(&self->done, self->repeat_at);
        self->repeat_at = next ? next : self->repeat_to;
        if (!next || next > self->repeat_to) continue;
        if (!weir_js_ack_subject(subject, sizeof subject, self->reply, next)) break;
        natsStatus s =
            weir_nats_session_send(self->port.line.session, subject, "+ACK", 4);
        if (s) weir_js_line_cut(&self->port.line, natsStatus_GetText(s));
        if (s) return false;
    }
    return true;
}

static bool send_progress(weir_js_feed *self)
{
    if (self->progress_at < self->safe) self->progress_at = self->safe;
    while (self->progress_at < self->progress_to && !is_full(self))
        if (!send_plain(self, ++self->progress_at, "+WPI")) return false;
    return true;
}

static void quiet(weir_js_line *line, void *arg, uint64_t token,
                  const weir_js_answer *answer)
{
    (void)arg, (void)token, (void)answer;
    weir_js_feed *self = feed_of(line);
    self->quiet = true;
    wake_session(self);
}

/*  Nothing is delivered any more; what was, has come before the answer.               */
static bool stop_pulls(weir_js_feed *self)
{
    char subject[2 * WEIR_JS_NAME];
    if (self->stopped) return true;
    self->stopped = true;
    natsStatus s = weir_nats_session_stop_pulls(self->port.line.session);
    weir_js_ask(subject, "CONSUMER.INFO", self->durable.stream, self->durable.name);
    weir_js_line_call(&self->port.line, subject, NULL, quiet, NULL);
    if (s) weir_js_line_cut(&self->port.line, natsStatus_GetText(s));
    return !s;
}

static bool give_back(weir_js_feed *self)
{
    char text[64];
    if (!stop_pulls(self)) return false;
    if (!self->quiet) return true;
    snprintf(text, sizeof text, "-NAK {\"delay\":%" PRId64 "}",
             self->port.config->retry_first_us * 1000);
    if (self->given_back < self->safe) self->given_back = self->safe;
    while (self->given_back < last_of(self) && !is_full(self)) {
        uint64_t n = ++self->given_back;
        const char *reply = weir_js_held_at(&self->held, n)->reply;
        if (n == last_of(self) && reply)
            call_for_confirmation(self, reply, text, n);
        else if (!send_plain(self, n, text))
            return false;
    }
    return true;
}

/* --- Requests, in the session's thread --------------------------------------------- */

static weir_js_pull *find_pull(weir_js_feed *self, uint64_t token)
{
    for (uint32_t i = 0; i < self->pull_count; i++)
        if (self->pulls[i].token == token) return &self->pulls[i];
    return NULL;
}

static void remove_pull(weir_js_feed *self, weir_js_pull *p)
{
    size_t behind = (size_t)(self->pulls + self->pull_count - (p + 1));
    memmove(p, p + 1, behind * sizeof *p);
    self->pull_count--;
}

/*  The status that ends a request. 409 has several meanings, and says which in words. */
static void on_next(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer)
{
    (void)arg;
    weir_js_feed *self = feed_of(line);
    weir_js_pull *p = find_pull(self, token);
    const char *text = "";
    if (!p) return;
    bool got = p->got;
    remove_pull(self, p);
    if (answer->denied) give_up(self, "%s", answer->text);
    if (!answer->msg) {
        wake_session(self);
        return;
    }
    int status = weir_js_status(answer->msg);
    natsMsgHeader_Get(answer->msg, "Description", &text);
    if (status == 404 || status == 408) {
        self->failures = 0;
        if (!got) self->pending = 0;
        weir_js_port_wake(&self->port);
    } else if (status == 409 && strstr(text, "MaxBytes")) {
        self->one = !got;
    } else if (self->state == WEIR_FEED_READY) {
        look_again(self, status == 503 ? "there is no such consumer" : text);
    }
    wake_session(self);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t pulls_max(const weir_js_feed *self)
{
    return least(WEIR_FEED_PULLS, self->bounds.waiting_max);
}

static uint64_t room_for(const weir_js_feed *self)
{
    uint64_t taken = weir_js_held_count(&self->held);
    for (uint32_t i = 0; i < self->pull_count; i++)
        taken += self->pulls[i].left;
    uint64_t window = (uint64_t)self->port.config->window;
    return taken < window ? window - taken : 0;
}

/*  Within the consumer's bounds: a request beyond them is refused.                  */
static void ask_next(weir_js_feed *self, uint32_t records)
{
    char subject[2 * WEIR_JS_NAME];
    int64_t wait_us =
        weir_earlier(self->port.config->timeout_us / 2, self->bounds.expires_us);
    uint32_t bytes = least(pull_bytes, self->bounds.bytes_max);
    weir_buffer_printf(&self->body, "{\"batch\":%" PRIu32 ",\"expires\":%" PRId64,
                       records, wait_us * 1000);
    if (!self->one) weir_buffer_printf(&self->body, ",\"max_bytes\":%" PRIu32, bytes);
    weir_buffer_put_byte(&self->body, '}');
    weir_js_ask(subject, "CONSUMER.MSG.NEXT", self->durable.stream, self->durable.name);
    weir_js_pull *p = &self->pulls[self->pull_count++];
    *p = (weir_js_pull){.left = records, .bytes_left = self->one ? SIZE_MAX : bytes};
    self->one = false;
    p->token = weir_js_line_pull(&self->port.line, subject, &self->body, on_next, NULL);
}

/*  The second one while the first one is being answered, so that nobody waits.         */
static void ask_more(weir_js_feed *self)
{
    uint64_t half = ((uint64_t)self->port.config->window + 1) / 2;
    uint64_t most = least((uint32_t)half, self->bounds.batch_max);
    while (self->state == WEIR_FEED_READY && self->wants && !self->leaving &&
           self->pull_count < pulls_max(self)) {
        uint64_t room = room_for(self);
        if (!room || (self->pull_count && (room < most || self->one))) return;
        ask_next(self, self->one ? 1 : (uint32_t)(room < most ? room : most));
    }
}

static bool pump(weir_js_line *line)
{
    weir_js_feed *self = feed_of(line);
    if (self->state == WEIR_FEED_READY && (!repeat_acks(self) || !send_acks(self)))
        return false;
    if (self->leaving && self->state == WEIR_FEED_READY && !give_back(self)) return false;
    ask_more(self);
    if (!weir_js_line_send_calls(line)) return false;
    if (self->state == WEIR_FEED_READY && !send_progress(self)) return false;
    return self->state == WEIR_FEED_READY &&
           (self->acked < self->safe || self->repeat_at < self->repeat_to);
}

/* --- Messages, in a thread of libnats ---------------------------------------------- */

/*  Requests are answered in their order. One whose bytes are spent to the last has ended
    without a word (2.9).                                                           */
static void count_delivery(weir_js_feed *self, natsMsg *msg)
{
    weir_js_pull *p = &self->pulls[0];
    size_t bytes = weir_js_delivered_bytes(msg);
    if (!self->pull_count) return;
    p->got = true;
    p->left--;
    p->bytes_left = bytes < p->bytes_left ? p->bytes_left - bytes : 0;
    if (p->left && p->bytes_left) return;
    weir_js_line_cancel(&self->port.line, p->token);
    remove_pull(self, p);
    wake_session(self);
}

static size_t bytes_of(const natsMsg *msg)
{
    return (size_t)natsMsg_GetDataLength(msg) + strlen(natsMsg_GetSubject(msg));
}

/*  One that we have already: its newest delivery is the one to be acknowledged.        */
static void know_again(weir_js_feed *self, uint64_t number, const char *reply)
{
    weir_js_held_renew(&self->held, number, reply);
    if (number > self->acked) return;
    self->acked = number - 1;
    wake_session(self);
}

static void note_highest(weir_js_feed *self, const weir_js_delivery *is)
{
    if (is->sequence > self->highest) self->highest = is->sequence;
    if (is->stored_ms > self->highest_ms) self->highest_ms = is->stored_ms;
}

static void data(weir_js_line *line, natsMsg **msg_p)
{
    weir_js_feed *self = feed_of(line);
    const char *reply = natsMsg_GetReply(*msg_p);
    weir_js_delivery is;
    if (!weir_js_delivery_read(&is, reply) || strcmp(is.consumer, self->durable.name))
        return;
    count_delivery(self, *msg_p);
    self->failures = 0;
    self->pending = is.pending;
    uint64_t number = weir_js_held_find(&self->held, is.sequence);
    if (number) {
        know_again(self, number, reply);
        return;
    }
    weir_js_item item = {.sequence = is.sequence,
                         .delivered = is.delivered,
                         .stored_ms = is.stored_ms,
                         .done = weir_js_spans_has(&self->done, is.sequence),
                         .reply = (char *)reply,
                         .msg = *msg_p};
    if (!weir_js_held_add(&self->held, &item)) return; // it comes again
    weir_ledger_charge(weir_actor_node(self->kit)->ledger, WEIR_ACCOUNT_QUEUES,
                       bytes_of(*msg_p));
    *msg_p = NULL;
    note_highest(self, &is);
    if (!self->reply && !(self->reply = strdup(reply))) abort();
    weir_js_port_wake(&self->port);
}

static void acked(weir_js_line *line, const natsMsg *msg, const jsPubAck *ack,
                  const jsPubAckErr *error)
{
    (void)line, (void)msg, (void)ack, (void)error; // nothing is published
}

static void denied(weir_js_line *line, const char *subject, const char *text)
{
    (void)subject;
    give_up(feed_of(line), "%s", text);
}

/* --- Connection -------------------------------------------------------------------- */

static void up(weir_js_line *line)
{
    begin(feed_of(line));
}

static void down(weir_js_line *line)
{
    weir_js_feed *self = feed_of(line);
    self->state = WEIR_FEED_CLOSED;
    self->pull_count = 0;
    self->progress_to = 0;
    weir_js_port_trouble(&self->port, "%s", line->error);
    if (line->fatal) give_up(self, "%s", line->error);
    weir_js_port_wake(&self->port);
}

static void tell(weir_js_line *line)
{
    (void)line;
}

static const weir_js_line_class line_class = {
    .name = "source",
    .up = up,
    .down = down,
    .pump = pump,
    .acked = acked,
    .data = data,
    .denied = denied,
    .tell = tell,
};

/* --- Time -------------------------------------------------------------------------- */

/*  While something is under way; gives when it is told next; -1: nothing is.          */
static int64_t look_at_progress(weir_js_feed *self, int64_t now_us)
{
    if (self->state != WEIR_FEED_READY || self->safe == last_of(self)) return -1;
    if (now_us >= self->progress_us) {
        self->progress_at = self->safe;
        self->progress_to = last_of(self);
        self->progress_us = now_us + self->ack_wait_us / 3;
        wake_session(self);
    }
    return self->progress_us;
}

/*  Gives when it is to look again; -1: never.                                       */
static int64_t look_at_time(weir_js_feed *self)
{
    lock(self);
    int64_t now_us = weir_clock_now_us();
    if (self->state == WEIR_FEED_WAITING && now_us >= self->again_us) begin(self);
    int64_t due_us = self->state == WEIR_FEED_WAITING ? self->again_us : -1;
    due_us = weir_earlier(due_us, look_at_progress(self, now_us));
    unlock(self);
    return due_us;
}
/* --- The actor's ------------------------------------------------------------------- */

static bool is_fatal(weir_js_feed *self)
{
    char text[sizeof self->fatal];
    lock(self);
    memcpy(text, self->fatal, sizeof text);
    unlock(self);
    if (text[0])
        weir_actor_fail(self->kit, WEIR_EREFUSED, self->port.servers.text, "%s", text);
    return text[0];
}

bool weir_js_feed_run(weir_js_feed *self, int64_t *due_us)
{
    weir_js_port_run(&self->port);
    *due_us = look_at_time(self);
    weir_js_port_tell(&self->port, WEIR_WAIT_LINK);
    return !is_fatal(self);
}

/*  The next message, whose number is `taken` then; NULL: there is none.                */
natsMsg *weir_js_feed_take(weir_js_feed *self, weir_js_item *to)
{
    natsMsg *msg = NULL;
    lock(self);
    if (self->taken < last_of(self)) {
        weir_js_item *item = weir_js_held_at(&self->held, ++self->taken);
        msg = item->msg;
        *to = *item;
        item->msg = NULL;
        weir_ledger_release(weir_actor_node(self->kit)->ledger, WEIR_ACCOUNT_QUEUES,
                            bytes_of(msg));
    }
    unlock(self);
    return msg;
}
void weir_js_feed_want(weir_js_feed *self, bool wants)
{
    lock(self);
    self->wants = wants;
    weir_actor_vitals(self->kit)->at_end =
        self->state == WEIR_FEED_READY && !self->pending && self->taken == last_of(self);
    if (wants && self->pull_count < pulls_max(self) && room_for(self)) wake_session(self);
    unlock(self);
}

void weir_js_feed_commit(weir_js_feed *self, uint64_t number)
{
    lock(self);
    if (number > self->safe) self->safe = number;
    wake_session(self);
    unlock(self);
    weir_js_port_wake(&self->port);
}

bool weir_js_feed_is_safe(weir_js_feed *self, bool *confirmed)
{
    lock(self);
    bool safe = self->safe == self->taken;
    *confirmed = self->held.first > self->safe;
    unlock(self);
    return safe;
}

/* --- Life -------------------------------------------------------------------------- */

weir_err weir_js_feed_open(weir_js_feed *self, weir_actor *kit,
                           const weir_js_durable *durable,
                           const weir_js_port_config *config, weir_report *report)
{
    self->kit = kit;
    self->durable = *durable;
    weir_js_held_init(&self->held, 2 * (uint64_t)config->window);
    return weir_js_port_open(&self->port, kit, weir_actor_node(kit)->name, &line_class,
                             config, report);
}

/*  Under the mutex.                                                                 */
static bool has_left(const weir_js_feed *self)
{
    if (self->state != WEIR_FEED_READY) return true;
    return self->quiet && self->acked >= self->safe &&
           self->given_back >= last_of(self) && !self->confirms;
}

/*  What is safe is acknowledged, what is not is given back: as far as the server is
    there.                                                                          */
static void leave(weir_js_feed *self)
{
    int64_t deadline_us = weir_clock_now_us() + leave_us;
    bool left = false;
    lock(self);
    self->leaving = true;
    self->given_back = self->safe;
    wake_session(self);
    unlock(self);
    while (!left && weir_clock_now_us() < deadline_us) {
        struct pollfd fd = {.fd = self->port.wake, .events = POLLIN};
        weir_js_port_run(&self->port);
        lock(self);
        left = has_left(self);
        unlock(self);
        if (left) break;
        poll(&fd, 1, weir_clock_timeout_ms(weir_earlier(self->port.due_us, deadline_us)));
        eventfd_read(self->port.wake, &(eventfd_t){0});
    }
}

/*  What was never taken is counted in the ledger.                                    */
static void release_queue(weir_js_feed *self)
{
    weir_js_item item;
    while (natsMsg_Destroy(weir_js_feed_take(self, &item)), self->taken < last_of(self))
        ;
}
void weir_js_feed_close(weir_js_feed *self)
{
    if (self->port.wake > 0 && self->port.line.class) {
        leave(self);
        release_queue(self);
    }
    weir_js_port_close(&self->port);
    weir_js_held_fini(&self->held);
    free(self->reply);
    weir_js_response_fini(&self->response);
    weir_buffer_fini(&self->body);
}
