#include "actors/source_jetstream.h"
#include <inttypes.h>
#include <poll.h>
#include <sys/eventfd.h>
#include "actors/jetstream_durable.h"
#include "actors/jetstream_held.h"
#include "actors/jetstream_record.h"
#include "actors/jetstream_spans.h"
#include "runtime/clock.h"
#include "runtime/log.h"

const weir_source_jetstream_config weir_source_jetstream_defaults = {
    .port = WEIR_JS_PORT_DEFAULTS,
    .ack_wait_us = 30000000,
    .max_deliver = WEIR_FOREVER,
    .intake = WEIR_INTAKE_DEFAULTS_WITH(WEIR_FRAMING_BLOB),
};

enum {
    pulls_max = 2,
    lot = 1024,              // messages that are taken in a turn
    confirm_tries = 3,       // then an acknowledgement counts as confirmed
    pull_bytes = 4 << 20,    // of one request
    oversize_kept = 64 << 10 // bytes of an oversize payload
};

/*  nats-server tells another time of its consumers after a start.                    */
static const int64_t same_ms = 1000;
static const int64_t leave_us = 1000000; // for what is given back at the end

typedef enum {
    CLOSED = 0, // there is no session, or the consumer was not looked at in it
    ASKING,     // that is being done
    READY,
    WAITING, // until again_us
} source_state;

/*  A request for messages that the server may still send.                            */
typedef struct {
    uint64_t token;
    uint32_t left;
    bool got; // some
} pull;

/*  What is held, by number:

        first .. acked    their acknowledgements are on their way, to be confirmed
              .. safe     are to be acknowledged
              .. taken    are records on their way
              .. end - 1  wait for room                                             */
typedef struct {
    weir_js_port port; // first; the line's mutex guards all up to `response`
    weir_js_held held;
    uint64_t acked, safe, taken;
    source_state state;
    int64_t again_us;
    unsigned failures; // in a row
    pull pulls[pulls_max];
    uint32_t pull_count;
    bool wants;           // there is room for messages
    bool one;             // the next message is larger than pull_bytes
    unsigned confirms;    // that are awaited
    unsigned unconfirmed; // tries in a row
    uint64_t pending;     // behind what has come, as the server has told last
    int64_t ack_wait_us;  // the consumer's
    int64_t progress_us;  // when the server is told next that they are under way
    uint64_t progress_at, progress_to;
    bool leaving;        // what is not safe is given back
    bool stopped, quiet; // leaving: nothing is asked for; and nothing comes
    uint64_t given_back;
    weir_js_spans done; // confirmed
    char *reply;        // of any message of the consumer; owned; NULL: none has come
    uint64_t repeat_at, repeat_to; // acknowledgements of what is done that are repeated
    uint64_t highest;              // sequence
    char created[48];              // when the stream was
    int64_t consumer_ms;           // when the consumer was
    char fatal[256];
    weir_js_response response;
    weir_buffer body; // scratch
    /*  The actor's alone.                                                          */
    weir_actor *kit;
    const weir_source_jetstream_config *config;
    weir_js_durable durable;
    char name[WEIR_JS_NAME]; // of the consumer
    weir_intake *intake;
    weir_framer *framer; // NULL: a payload is a record
    weir_lane lane;      // positions are numbers
    weir_js_record record;
    natsMsg *open;   // the framer has more of it; owned
    weir_js_item at; // of the message that was taken last
    bool draining, ended;
    int64_t finish_at_us;
} source_jetstream;

static source_jetstream *source_of(weir_js_line *line)
{
    return (source_jetstream *)line;
}

static void lock(source_jetstream *self)
{
    pthread_mutex_lock(&self->port.line.mutex);
}

static void unlock(source_jetstream *self)
{
    pthread_mutex_unlock(&self->port.line.mutex);
}

static void wake_session(source_jetstream *self)
{
    weir_js_line_wake(&self->port.line);
}

static uint64_t last_of(const source_jetstream *self)
{
    return self->held.end - 1;
}

/* --- Failures, under the mutex ----------------------------------------------------- */

static void give_up(source_jetstream *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void give_up(source_jetstream *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!self->fatal[0]) vsnprintf(self->fatal, sizeof self->fatal, format, args);
    va_end(args);
    weir_js_port_wake(&self->port);
}

/*  The consumer is looked at once more, later.                                       */
static void look_again(source_jetstream *self, const char *text)
{
    weir_js_port_trouble(&self->port, "%.60s: %.180s", self->config->stream, text);
    int64_t wait_us = weir_js_port_wait_us(&self->port, ++self->failures);
    if (self->failures == 1)
        weir_log(WEIR_WARN,
                 "jetstream consumer is away stream=%s consumer=%s cause=\"%s\" "
                 "wait_ms=%d",
                 self->config->stream, self->name, text, (int)(wait_us / 1000));
    for (uint32_t i = 0; i < self->pull_count; i++)
        weir_js_line_cancel(&self->port.line, self->pulls[i].token);
    self->pull_count = 0;
    self->state = WAITING;
    self->again_us = weir_clock_now_us() + wait_us;
    weir_js_port_wake(&self->port);
}

/* --- The consumer ------------------------------------------------------------------ */

static void ask(source_jetstream *self, const char *what, const char *more,
                weir_buffer *body, weir_js_answered *answered)
{
    char subject[2 * WEIR_JS_NAME];
    weir_js_ask(subject, what, self->config->stream, more);
    self->state = ASKING;
    weir_js_line_call(&self->port.line, subject, body, answered, NULL);
}

/*  What is not confirmed is acknowledged once more.                                  */
static void go_on(source_jetstream *self)
{
    self->state = READY;
    self->failures = 0;
    self->acked = self->held.first - 1;
    self->progress_us = weir_clock_now_us();
    weir_js_port_calm(&self->port);
    weir_js_port_wake(&self->port);
    wake_session(self);
}

/*  One that somebody else has made may have to bring all once more. Of one that is the
    same what the server has forgotten is acknowledged again.                         */
static void know_consumer(source_jetstream *self, const weir_js_durable_info *info,
                          bool is_ours)
{
    int64_t apart_ms = llabs(self->consumer_ms - info->created_ms);
    if (apart_ms > same_ms && !is_ours) self->done.count = 0;
    self->consumer_ms = info->created_ms;
    self->repeat_at = info->floor;
    self->repeat_to = info->delivered;
}

static void use_consumer(source_jetstream *self, bool is_ours)
{
    weir_js_durable_info info;
    char why[200];
    if (!weir_js_durable_judge(&info, &self->response.root, &self->durable, why)) {
        give_up(self, "the consumer %.60s of %.60s cannot be used: %.100s", self->name,
                self->config->stream, why);
        return;
    }
    if (info.max_deliver > 0 && !self->highest)
        weir_log(WEIR_WARN,
                 "jetstream consumer gives messages up stream=%s consumer=%s "
                 "max_deliver=%" PRId64,
                 self->config->stream, self->name, info.max_deliver);
    self->ack_wait_us = info.ack_wait_us;
    self->pending = info.pending;
    know_consumer(self, &info, is_ours);
    go_on(self);
}

/*  The answer to a question about stream or consumer; false: there is none to read.   */
static bool read_answer(source_jetstream *self, const weir_js_answer *answer)
{
    if (self->port.line.state != WEIR_LINE_UP || self->state != ASKING) return false;
    if (answer->denied) give_up(self, "%s", answer->text);
    if (!answer->msg && !answer->denied) look_again(self, answer->text);
    if (answer->msg) weir_js_response_read(&self->response, answer->msg);
    return answer->msg;
}

static void made(weir_js_line *line, void *arg, uint64_t token,
                 const weir_js_answer *answer)
{
    (void)arg, (void)token;
    source_jetstream *self = source_of(line);
    if (!read_answer(self, answer)) return;
    if (!self->response.failed) {
        weir_log(WEIR_INFO, "jetstream consumer made stream=%s consumer=%s",
                 self->config->stream, self->name);
        use_consumer(self, true);
    } else if (weir_js_error_is_fatal(self->response.err_code)) {
        give_up(self, "cannot make the consumer %.60s of %.60s: %.100s", self->name,
                self->config->stream, self->response.text);
    } else {
        look_again(self, self->response.text);
    }
}

/*  One that is made anew goes on where this one was.                                 */
static void make_consumer(source_jetstream *self)
{
    weir_js_durable durable = self->durable;
    uint64_t lowest = weir_js_held_lowest(&self->held, self->safe);
    if (self->highest) {
        durable.start.from = WEIR_JS_FROM_SEQUENCE;
        durable.start.sequence = lowest ? lowest : self->highest + 1;
        weir_log(WEIR_WARN,
                 "jetstream consumer is gone and made anew stream=%s consumer=%s "
                 "from=%" PRIu64,
                 self->config->stream, self->name, durable.start.sequence);
    }
    weir_js_put_durable(&self->body, &durable);
    ask(self, "CONSUMER.DURABLE.CREATE", self->name, &self->body, made);
}

static void looked(weir_js_line *line, void *arg, uint64_t token,
                   const weir_js_answer *answer)
{
    (void)arg, (void)token;
    source_jetstream *self = source_of(line);
    if (!read_answer(self, answer)) return;
    if (!self->response.failed)
        use_consumer(self, false);
    else if (self->response.err_code == WEIR_JS_NO_CONSUMER_THERE)
        make_consumer(self);
    else
        look_again(self, self->response.text);
}

static void ask_consumer(source_jetstream *self)
{
    ask(self, "CONSUMER.INFO", self->name, NULL, looked);
}

/*  Sequences of a stream that was deleted mean nothing in one of its name.            */
static void know_stream(source_jetstream *self)
{
    char created[sizeof self->created];
    weir_js_text(&self->response.root, "created", created, sizeof created);
    if (self->created[0] && strcmp(created, self->created)) {
        weir_log(WEIR_WARN, "jetstream stream is another one than before stream=%s",
                 self->config->stream);
        weir_js_held_orphan(&self->held);
        self->highest = 0;
        self->done.count = 0;
        self->durable.start.from = WEIR_JS_FROM_START;
    }
    memcpy(self->created, created, sizeof created);
}

/*  Who may not look at the stream does without.                                      */
static void looked_at_stream(weir_js_line *line, void *arg, uint64_t token,
                             const weir_js_answer *answer)
{
    (void)arg, (void)token;
    source_jetstream *self = source_of(line);
    if (answer->denied && self->state == ASKING) {
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

static void begin(source_jetstream *self)
{
    ask(self, "STREAM.INFO", "", NULL, looked_at_stream);
}

/* --- Acknowledgements, in the session's thread ------------------------------------- */

static void let_go(source_jetstream *self, uint64_t last)
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
    source_jetstream *self = source_of(line);
    self->confirms--;
    if (line->state != WEIR_LINE_UP) return;
    bool silent = !answer->msg && !answer->denied;
    if (answer->denied) {
        give_up(self, "%s", answer->text);
    } else if (silent && ++self->unconfirmed < confirm_tries) {
        self->acked = self->held.first - 1;
        wake_session(self);
    } else if (!silent && natsMsg_IsNoResponders(answer->msg)) {
        if (self->state == READY) look_again(self, "nobody takes acknowledgements");
    } else {
        if (!silent) self->unconfirmed = 0;
        let_go(self, (uintptr_t)arg);
        if (self->acked < self->held.first - 1) self->acked = self->held.first - 1;
        weir_js_port_wake(&self->port);
        wake_session(self);
    }
}

static void call_for_confirmation(source_jetstream *self, const char *reply,
                                  const char *text, uint64_t number)
{
    weir_buffer body = {0};
    weir_buffer_put_text(&body, text);
    self->confirms++;
    weir_js_line_call(&self->port.line, reply, &body, confirmed,
                      (void *)(uintptr_t)number);
}

/*  False: the session is broken.                                                    */
static bool send_plain(source_jetstream *self, uint64_t number, const char *text)
{
    const char *reply = weir_js_held_at(&self->held, number)->reply;
    natsStatus s =
        reply ? weir_nats_session_send(self->port.line.session, reply, text, strlen(text))
              : NATS_OK;
    if (s) weir_js_line_cut(&self->port.line, natsStatus_GetText(s));
    return !s;
}

static bool is_full(const source_jetstream *self)
{
    return weir_nats_session_is_full(self->port.line.session);
}

static bool send_acks(source_jetstream *self)
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

static bool repeat_acks(source_jetstream *self)
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

static bool send_progress(source_jetstream *self)
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
    source_jetstream *self = source_of(line);
    self->quiet = true;
    wake_session(self);
}

/*  Nothing is delivered any more; what was, has come before the answer.               */
static bool stop_pulls(source_jetstream *self)
{
    char subject[2 * WEIR_JS_NAME];
    if (self->stopped) return true;
    self->stopped = true;
    natsStatus s = weir_nats_session_stop_pulls(self->port.line.session);
    weir_js_ask(subject, "CONSUMER.INFO", self->config->stream, self->name);
    weir_js_line_call(&self->port.line, subject, NULL, quiet, NULL);
    if (s) weir_js_line_cut(&self->port.line, natsStatus_GetText(s));
    return !s;
}

static bool give_back(source_jetstream *self)
{
    char text[64];
    if (!stop_pulls(self)) return false;
    if (!self->quiet) return true;
    snprintf(text, sizeof text, "-NAK {\"delay\":%" PRId64 "}",
             self->config->port.retry_first_us * 1000);
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

static pull *find_pull(source_jetstream *self, uint64_t token)
{
    for (uint32_t i = 0; i < self->pull_count; i++)
        if (self->pulls[i].token == token) return &self->pulls[i];
    return NULL;
}

static void remove_pull(source_jetstream *self, pull *p)
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
    source_jetstream *self = source_of(line);
    pull *p = find_pull(self, token);
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
        if (!got) self->pending = 0;
        weir_js_port_wake(&self->port);
    } else if (status == 409 && strstr(text, "MaxBytes")) {
        self->one = !got;
    } else if (self->state == READY) {
        look_again(self, status == 503 ? "there is no such consumer" : text);
    }
    wake_session(self);
}

static uint64_t room_for(const source_jetstream *self)
{
    uint64_t taken = weir_js_held_count(&self->held);
    for (uint32_t i = 0; i < self->pull_count; i++)
        taken += self->pulls[i].left;
    uint64_t window = (uint64_t)self->config->port.window;
    return taken < window ? window - taken : 0;
}

static void ask_next(source_jetstream *self, uint32_t records)
{
    char subject[2 * WEIR_JS_NAME];
    int64_t wait_us = self->config->port.timeout_us / 2;
    weir_buffer_printf(&self->body, "{\"batch\":%" PRIu32 ",\"expires\":%" PRId64,
                       records, wait_us * 1000);
    if (!self->one) weir_buffer_printf(&self->body, ",\"max_bytes\":%d", pull_bytes);
    weir_buffer_put_byte(&self->body, '}');
    weir_js_ask(subject, "CONSUMER.MSG.NEXT", self->config->stream, self->name);
    self->one = false;
    pull *p = &self->pulls[self->pull_count++];
    *p = (pull){.left = records};
    p->token = weir_js_line_pull(&self->port.line, subject, &self->body, on_next, NULL);
}

/*  The second one while the first one is being answered, so that nobody waits.         */
static void ask_more(source_jetstream *self)
{
    uint64_t most = ((uint64_t)self->config->port.window + 1) / 2;
    while (self->state == READY && self->wants && !self->leaving &&
           self->pull_count < pulls_max) {
        uint64_t room = room_for(self);
        if (!room || (self->pull_count && (room < most || self->one))) return;
        ask_next(self, self->one ? 1 : (uint32_t)(room < most ? room : most));
    }
}

static bool pump(weir_js_line *line)
{
    source_jetstream *self = source_of(line);
    if (self->state == READY && (!repeat_acks(self) || !send_acks(self))) return false;
    if (self->leaving && self->state == READY && !give_back(self)) return false;
    ask_more(self);
    if (!weir_js_line_send_calls(line)) return false;
    if (self->state == READY && !send_progress(self)) return false;
    return self->state == READY &&
           (self->acked < self->safe || self->repeat_at < self->repeat_to);
}

/* --- Messages, in a thread of libnats ---------------------------------------------- */

/*  Requests are answered in their order.                                            */
static void count_delivery(source_jetstream *self)
{
    pull *p = &self->pulls[0];
    if (!self->pull_count) return;
    p->got = true;
    if (--p->left) return;
    weir_js_line_cancel(&self->port.line, p->token);
    remove_pull(self, p);
    wake_session(self);
}

static size_t bytes_of(const natsMsg *msg)
{
    return (size_t)natsMsg_GetDataLength(msg) + strlen(natsMsg_GetSubject(msg));
}

/*  One that we have already: its newest delivery is the one to be acknowledged.        */
static void know_again(source_jetstream *self, uint64_t number, const char *reply)
{
    weir_js_held_renew(&self->held, number, reply);
    if (number > self->acked) return;
    self->acked = number - 1;
    wake_session(self);
}

static void data(weir_js_line *line, natsMsg **msg_p)
{
    source_jetstream *self = source_of(line);
    const char *reply = natsMsg_GetReply(*msg_p);
    weir_js_delivery is;
    if (!weir_js_delivery_read(&is, reply) || strcmp(is.consumer, self->name)) return;
    count_delivery(self);
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
    if (is.sequence > self->highest) self->highest = is.sequence;
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
    give_up(source_of(line), "%s", text);
}

/* --- Connection -------------------------------------------------------------------- */

static void up(weir_js_line *line)
{
    begin(source_of(line));
}

static void down(weir_js_line *line)
{
    source_jetstream *self = source_of(line);
    self->state = CLOSED;
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
static int64_t look_at_progress(source_jetstream *self, int64_t now_us)
{
    if (self->state != READY || self->safe == last_of(self)) return -1;
    if (now_us >= self->progress_us) {
        self->progress_at = self->safe;
        self->progress_to = last_of(self);
        self->progress_us = now_us + self->ack_wait_us / 3;
        wake_session(self);
    }
    return self->progress_us;
}

/*  Gives when it is to look again; -1: never.                                       */
static int64_t look_at_time(source_jetstream *self)
{
    lock(self);
    int64_t now_us = weir_clock_now_us();
    if (self->state == WAITING && now_us >= self->again_us) begin(self);
    int64_t due_us = self->state == WAITING ? self->again_us : -1;
    due_us = weir_earlier(due_us, look_at_progress(self, now_us));
    unlock(self);
    return due_us;
}

/* --- Records ----------------------------------------------------------------------- */

/*  The next message, whose number is `taken` then; NULL: there is none.                */
static natsMsg *take_message(source_jetstream *self)
{
    natsMsg *msg = NULL;
    lock(self);
    if (self->taken < last_of(self)) {
        weir_js_item *item = weir_js_held_at(&self->held, ++self->taken);
        msg = item->msg;
        self->at = *item;
        item->msg = NULL;
        weir_ledger_release(weir_actor_node(self->kit)->ledger, WEIR_ACCOUNT_QUEUES,
                            bytes_of(msg));
    }
    unlock(self);
    return msg;
}

static void take_piece(source_jetstream *self, weir_framed *piece)
{
    piece->start = self->at.sequence;
    weir_intake_envelope(self->intake, &self->record.envelope);
    weir_intake_piece(self->intake, &self->lane, 0, self->config->stream, piece);
}

static void take_payload(source_jetstream *self)
{
    weir_framed piece = {.data = self->record.data,
                         .size = self->record.size,
                         .whole_size = self->record.size,
                         .end = self->taken};
    if (piece.size > weir_actor_node(self->kit)->record_max) {
        piece.kind = WEIR_PIECE_OVERSIZE;
        if (piece.size > oversize_kept) piece.size = oversize_kept;
    }
    take_piece(self, &piece);
}

static void take_bad(source_jetstream *self, const char *error)
{
    weir_framed piece = {.kind = WEIR_PIECE_BAD,
                         .data = self->record.data,
                         .size = self->record.size,
                         .whole_size = self->record.size,
                         .end = self->taken};
    if (piece.size > oversize_kept) piece.size = oversize_kept;
    snprintf(piece.error, sizeof piece.error, "%s", error);
    take_piece(self, &piece);
}

/*  It was delivered again and again, and never was safe: it may be what makes the path
    fail.                                                                           */
static void bury(source_jetstream *self)
{
    char error[128], label[320];
    const char *node = weir_actor_node(self->kit)->name;
    const weir_envelope *e = &self->record.envelope;
    weir_record record = {.format = e->whole ? e->format : WEIR_JSON,
                          .data = self->record.data,
                          .size = self->record.size,
                          .headers = e->headers,
                          .headers_size = e->headers_size,
                          .has_ts = e->has_ts,
                          .ts_ms = e->ts_ms};
    weir_intake_flush(self->intake);
    snprintf(error, sizeof error, "it was delivered %" PRIu64 " times and never was safe",
             self->at.delivered - 1);
    snprintf(label, sizeof label, "%.200s@%" PRIu64, self->config->stream,
             self->at.sequence);
    weir_dead *dead =
        weir_dead_new(node, WEIR_DEAD_MAX_DELIVER, error,
                      (uint32_t)self->at.delivered - 1, &record, node, NULL, label);
    weir_entry *entry = weir_actor_open(self->kit, &self->lane, 1, self->taken, 0);
    entry->fates.dead = 1;
    weir_entry_add_dead(entry, &dead);
    weir_actor_done(self->kit, entry);
}

/*  The message is only through with its last record: until then the position stays
    before it.                                                                      */
static void take_next_piece(source_jetstream *self)
{
    weir_framed piece;
    if (weir_framer_next(self->framer, weir_clock_now_us(), &piece)) {
        piece.end = self->taken - 1;
        take_piece(self, &piece);
        return;
    }
    weir_intake_mark(self->intake, &self->lane, 0, self->taken);
    natsMsg_Destroy(self->open);
    self->open = NULL;
}

static void read_message(source_jetstream *self, natsMsg *msg)
{
    if (self->at.done) {
        weir_intake_mark(self->intake, &self->lane, 0, self->taken);
        natsMsg_Destroy(msg);
        return;
    }
    bool unwrap = self->config->intake.format == WEIR_INTAKE_AUTO;
    const char *error = weir_js_record_read(&self->record, msg, unwrap, self->at.sequence,
                                            self->at.stored_ms);
    if ((int64_t)self->at.delivered > self->config->max_deliver) {
        bury(self);
    } else if (error) {
        take_bad(self, error);
    } else if (!self->framer || self->record.whole) {
        take_payload(self);
    } else {
        weir_framer_reset(self->framer, 0);
        weir_framer_feed(self->framer, self->record.data, self->record.size);
        weir_framer_end(self->framer);
        self->open = msg;
        return;
    }
    natsMsg_Destroy(msg);
}

/* --- Turns ------------------------------------------------------------------------- */

static void nothing(void *arg)
{
    (void)arg; // turn () follows
}

static bool has_room(source_jetstream *self)
{
    int64_t wait_us;
    if (weir_intake_ready(self->intake, &wait_us)) return true;
    if (wait_us) weir_intake_flush(self->intake);
    if (wait_us) weir_actor_timer(self->kit, nothing, wait_us);
    return false;
}

/*  False: there is nothing left, or no room; *room says which.                       */
static bool take_next(source_jetstream *self, bool *room)
{
    *room = has_room(self);
    if (!*room) return false;
    if (self->open) {
        take_next_piece(self);
        return true;
    }
    natsMsg *msg = self->draining ? NULL : take_message(self);
    if (msg) read_message(self, msg);
    return msg;
}

/*  Says whether messages are wanted, and whether there is anything to read.            */
static void look_at_queue(source_jetstream *self, bool room)
{
    lock(self);
    bool wants = self->wants = room && !self->draining;
    weir_actor_vitals(self->kit)->at_end =
        self->state == READY && !self->pending && self->taken == last_of(self);
    if (wants && self->pull_count < pulls_max && room_for(self)) wake_session(self);
    unlock(self);
}

/*  All that was taken is safe, and the server knows.                                 */
static bool is_through(source_jetstream *self)
{
    lock(self);
    bool safe = self->safe == self->taken;
    bool known = self->held.first > self->safe;
    unlock(self);
    return safe && (known || weir_clock_now_us() >= self->finish_at_us);
}

static void end_if_through(source_jetstream *self)
{
    if (!self->draining || self->ended || self->open || !is_through(self)) return;
    self->ended = true;
    weir_actor_end(self->kit);
}

static bool is_fatal(source_jetstream *self)
{
    char text[sizeof self->fatal];
    lock(self);
    memcpy(text, self->fatal, sizeof text);
    unlock(self);
    if (text[0])
        weir_actor_fail(self->kit, WEIR_EREFUSED, self->port.servers.text, "%s", text);
    return text[0];
}

static bool turn(void *arg)
{
    source_jetstream *self = arg;
    bool room = false;
    int i = 0;
    if (weir_actor_failed(self->kit)) return false;
    weir_js_port_run(&self->port);
    int64_t due_us = look_at_time(self);
    weir_js_port_tell(&self->port, WEIR_WAIT_LINK);
    if (is_fatal(self)) return false;
    while (i < lot && !weir_actor_failed(self->kit) && take_next(self, &room))
        i++;
    if (weir_actor_failed(self->kit)) return false;
    if (i < lot && room) weir_intake_flush(self->intake);
    look_at_queue(self, room);
    end_if_through(self);
    if (self->draining && !self->ended) due_us = weir_earlier(due_us, self->finish_at_us);
    weir_js_port_sleep(&self->port, due_us);
    return i == lot;
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    source_jetstream *self = arg;
    (void)report;
    lock(self);
    if (entry->position > self->safe) self->safe = entry->position;
    wake_session(self);
    unlock(self);
    weir_js_port_wake(&self->port);
    return WEIR_OK;
}

/*  A reader does not take it, and never will: the message is done with.               */
static weir_err refused(void *arg, weir_entry *entry, const weir_refused *refusal)
{
    source_jetstream *self = arg;
    weir_iterator walk = {.block = refusal->block};
    weir_record record;
    const weir_run *origin;
    char error[320];
    snprintf(error, sizeof error, "%s: %s", refusal->code, refusal->text);
    while (weir_iterator_next(&walk, &record, &origin)) {
        weir_dead *dead =
            weir_dead_new(weir_actor_node(self->kit)->name, WEIR_DEAD_REFUSED, error, 1,
                          &record, origin->source, origin->peer, origin->label);
        weir_entry_add_dead(entry, &dead);
        entry->lost++;
    }
    return WEIR_OK;
}

static void drain(void *arg)
{
    source_jetstream *self = arg;
    self->draining = true;
    self->finish_at_us = weir_clock_now_us() + self->config->port.timeout_us;
    weir_js_port_wake(&self->port);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err check(const void *config, weir_report *report)
{
    const weir_source_jetstream_config *c = config;
    weir_js_start start;
    weir_err err = weir_js_port_check(&c->port, report);
    if (err) return err;
    if (!weir_js_is_name(c->stream))
        return weir_report_set(report, WEIR_EINVAL, "stream",
                               "it is no name of a stream");
    if (c->durable && !weir_js_is_name(c->durable))
        return weir_report_set(report, WEIR_EINVAL, "durable",
                               "a name has no space, '.', '*', '>', '/' or '\\'");
    if (c->subjects && !weir_js_is_filter(c->subjects))
        return weir_report_set(report, WEIR_EINVAL, "subjects",
                               "expected one subject, in which a token may be * and the "
                               "last one >");
    return weir_js_start_read(&start, c->start, report);
}

static void name_consumer(const weir_source_jetstream_config *c, char name[WEIR_JS_NAME])
{
    const weir_node *node = &c->node;
    if (c->durable)
        snprintf(name, WEIR_JS_NAME, "%s", c->durable);
    else
        snprintf(name, WEIR_JS_NAME, "%.63s+%.63s",
                 node->topology ? node->topology : "weir",
                 node->name ? node->name : "in");
}

static void describe_consumer(source_jetstream *self)
{
    const weir_source_jetstream_config *c = self->config;
    self->durable = (weir_js_durable){.stream = c->stream,
                                      .name = self->name,
                                      .subjects = c->subjects,
                                      .ack_wait_us = c->ack_wait_us,
                                      .window = c->port.window};
    weir_js_start_read(&self->durable.start, c->start, NULL);
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_jetstream *self = arg;
    const weir_source_jetstream_config *c = self->config = config;
    const char *name = weir_actor_node(kit)->name;
    self->kit = kit;
    weir_err err = check(c, report);
    if (err) return err;
    name_consumer(c, self->name);
    describe_consumer(self);
    weir_js_held_init(&self->held, 2 * (uint64_t)c->port.window);
    err = weir_intake_new(&self->intake, kit, weir_actor_port(kit, name), &c->intake,
                          report);
    if (!err && c->intake.framing != WEIR_FRAMING_BLOB)
        err = weir_intake_framer(self->intake, &self->framer, report);
    return err ? err
               : weir_js_port_open(&self->port, kit, name, &line_class, &c->port, report);
}

/*  Under the mutex.                                                                 */
static bool has_left(const source_jetstream *self)
{
    if (self->state != READY) return true;
    return self->quiet && self->acked >= self->safe &&
           self->given_back >= last_of(self) && !self->confirms;
}

/*  What is safe is acknowledged, what is not is given back: as far as the server is
    there.                                                                          */
static void leave(source_jetstream *self)
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
static void release_queue(source_jetstream *self)
{
    while (natsMsg_Destroy(take_message(self)), self->taken < last_of(self))
        ;
}

static void fini(void *arg)
{
    source_jetstream *self = arg;
    if (self->port.wake > 0 && self->port.line.class) {
        leave(self);
        release_queue(self);
    }
    weir_js_port_close(&self->port);
    weir_actor_lane_fini(self->kit, &self->lane);
    weir_intake_destroy(&self->intake);
    weir_framer_destroy(&self->framer);
    natsMsg_Destroy(self->open);
    weir_js_held_fini(&self->held);
    free(self->reply);
    weir_js_record_fini(&self->record);
    weir_js_response_fini(&self->response);
    weir_buffer_fini(&self->body);
}

/* --- Probe ------------------------------------------------------------------------- */

/*  NULL: the consumer is there, or can be made; else why not.                         */
static const char *judge(const weir_js_response *is,
                         const weir_source_jetstream_config *c, const char *name,
                         char why[200])
{
    weir_js_durable durable = {
        .stream = c->stream, .name = name, .subjects = c->subjects};
    weir_js_durable_info info;
    if (is->err_code == WEIR_JS_NO_CONSUMER_THERE) return NULL;
    if (is->failed) return is->text;
    return weir_js_durable_judge(&info, &is->root, &durable, why) ? NULL : why;
}

static weir_err probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const weir_source_jetstream_config *c = config;
    weir_js_asker asker;
    const weir_js_response *is = &asker.response;
    char name[WEIR_JS_NAME], why[200];
    const char *error = NULL;
    name_consumer(c, name);
    weir_err err = weir_js_asker_open(&asker, &c->port, timeout_us, report);
    if (!err) err = weir_js_ask_now(&asker, "INFO", "", "", report);
    if (!err && is->failed) error = is->text;
    if (!err && !error)
        err = weir_js_ask_now(&asker, "STREAM.INFO", c->stream, "", report);
    if (!err && !error && is->failed) error = is->text;
    if (!err && !error)
        err = weir_js_ask_now(&asker, "CONSUMER.INFO", c->stream, name, report);
    if (!err && !error) error = judge(is, c, name, why);
    if (!err && error)
        err = weir_report_set(report, WEIR_EREFUSED, asker.port.servers.text,
                              "%s, %s: %s", c->stream, name, error);
    if (!err)
        weir_report_set(report, WEIR_OK, asker.port.servers.text,
                        "the stream %s, the consumer %s %s", c->stream, name,
                        is->err_code ? "would be made" : "is there");
    weir_js_asker_close(&asker);
    return err;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const forever_word[] = {"forever", NULL};
static const char *const start_words[] = {"start", NULL};

#define AT(member) offsetof(weir_source_jetstream_config, member)

static const weir_option options[] = {
    WEIR_JS_PORT_OPTIONS(
        weir_source_jetstream_config, port,
        "most messages that are under way: max_ack_pending of a consumer "
        "that is made, and what is asked for at once"),
    {"stream", WEIR_OPTION_TEXT, AT(stream), 0, 0, NULL, true, "the stream to read"},
    {"subjects", WEIR_OPTION_TEXT, AT(subjects), 0, 0, NULL, false,
     "only these of its subjects: \"orders.*\" or \"orders.>\""},
    {"durable", WEIR_OPTION_TEXT, AT(durable), 0, 0, NULL, false,
     "name of the consumer, which is made if it is not there; sources that name the same "
     "share its messages; none: TOPOLOGY+NODE"},
    {"start", WEIR_OPTION_TEXT, AT(start), 0, 0, start_words, false,
     "where a new consumer begins: start, 'end', a sequence of the stream, or a time "
     "such "
     "as '2026-01-31T08:00:00Z'; none: start"},
    {"ack_wait", WEIR_OPTION_TIME, AT(ack_wait_us), 100e3, 24 * 3600e6, NULL, false,
     "of a new consumer: when this source is silent for so long its messages are "
     "delivered "
     "again"},
    {"max_deliver", WEIR_OPTION_INT, AT(max_deliver), 1, 1e6, forever_word, false,
     "deliveries of a message, those after cuts and restarts, too; after them it becomes "
     "a dead letter"},
    {"parse_error", WEIR_OPTION_WORD, AT(intake.parse_error), 0, 0, weir_on_error_words,
     false, "for messages and payloads that cannot be read"},
    WEIR_FRAMING_OPTIONS(weir_source_jetstream_config, intake),
    WEIR_RATE_OPTIONS(weir_source_jetstream_config, intake),
    WEIR_SCREEN_OPTIONS(weir_source_jetstream_config, intake.screen),
    {.name = NULL},
};

const weir_class weir_source_jetstream_class = {
    .name = "source.jetstream",
    .help =
        "brings the messages of a stream of NATS JetStream, and acknowledges those that "
        "are safe",
    .actor = weir_source_jetstream,
    .size = sizeof(source_jetstream),
    .config_size = sizeof(weir_source_jetstream_config),
    .defaults = &weir_source_jetstream_defaults,
    .options = options,
    .source = true,
    .check = check,
    .probe = probe,
    .init = init,
    .fini = fini,
    .turn = turn,
    .refused = refused,
    .commit = commit,
    .drain = drain,
};

void weir_source_jetstream(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_jetstream_class, pipe, config);
}
