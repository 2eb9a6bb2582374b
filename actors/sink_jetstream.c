#include "actors/sink_jetstream.h"
#include <inttypes.h>
#include "actors/jetstream_message.h"
#include "runtime/clock.h"
#include "runtime/log.h"

const weir_sink_jetstream_config weir_sink_jetstream_defaults = {
    .port = WEIR_JS_PORT_DEFAULTS,
    .retry_attempts = WEIR_FOREVER,
    .replicas = 1,
    .dedup_us = 120000000, // as the server's own
    .delivery = WEIR_DELIVERY_DEFAULTS,
};

enum {
    lot = 256,      // messages that are made, or published, before others have their turn
    wake_share = 8, // of the window is answered before the actor hears of it,
    wake_us = 2000, // or so long after the last time
};

/*  A block whose records are being published.                                       */
typedef struct load {
    struct load *next; // it came later
    weir_entry *entry;
    weir_block *block;   // an own reference
    uint32_t unanswered; // of its messages
    bool walked;         // all its records have places in the window
} load;

typedef enum {
    TO_MAKE = 0, // its message is to be made, once more
    TO_SEND,
    SENT,
    STORED,
    REFUSED, // why says why
} flight_state;

/*  A record in the window.                                                          */
typedef struct {
    load *load;
    weir_iterator at; // before it
    natsMsg *msg;     // TO_SEND: owned; SENT: identity only
    int64_t sent_us;
    flight_state state;
    char *why; // owned
} flight;

typedef enum {
    CLOSED = 0, // there is no session, or the stream was not looked at in it
    ASKING,     // that is being done
    ALONE,      // one message at a time, until one is stored
    OPEN,
    DRAINING, // a message was not taken: the answers to those behind it are awaited
    WAITING,  // until again_us
} sink_state;

/*  The window, in the order of records:

        base .. next         have places
        base .. to_send      were published, or are settled

    The actor makes messages and settles answers; the session's thread publishes; a thread
    of libnats notes answers.                                                       */
typedef struct {
    weir_js_port port; // first; the line's mutex guards all up to `response`
    flight *ring;      // of config.window
    uint64_t base, next, to_send;
    uint32_t waiting; // SENT
    uint32_t remakes; // TO_MAKE below next
    uint32_t hint;    // where the next answer is expected, from base
    sink_state state;
    int64_t again_us;
    unsigned failures; // in a row
    uint32_t answered; // since the actor was woken for that
    int64_t woken_us;  // when it was
    char fatal[256];
    weir_js_response response;
    /*  The actor's alone.                                                          */
    weir_actor *kit;
    const weir_sink_jetstream_config *config;
    weir_js_message message;
    char pattern[WEIR_JS_NAME];
    weir_delivery *delivery;
    weir_doc doc;
    load *first, **last;
    load *current;      // whose records get places; NULL: none
    weir_iterator walk; // of current
} sink_jetstream;

static sink_jetstream *sink_of(weir_js_line *line)
{
    return (sink_jetstream *)line;
}

static uint64_t window(const sink_jetstream *self)
{
    return (uint64_t)self->config->port.window;
}

static flight *flight_at(const sink_jetstream *self, uint64_t number)
{
    return &self->ring[number % window(self)];
}

static void wake(sink_jetstream *self)
{
    weir_js_port_wake(&self->port);
}

/* --- Failures, under the mutex ----------------------------------------------------- */

static void give_up(sink_jetstream *self, const char *text)
{
    if (!self->fatal[0]) snprintf(self->fatal, sizeof self->fatal, "%s", text);
    wake(self);
}

/*  What has no answer is made, and sent, once more.                                  */
static void rewind_window(sink_jetstream *self)
{
    for (uint64_t n = self->base; n < self->to_send; n++) {
        flight *f = flight_at(self, n);
        if (f->state != SENT) continue;
        f->state = TO_MAKE;
        f->msg = NULL;
        self->remakes++;
    }
    self->to_send = self->base;
    self->waiting = self->hint = 0;
}

/*  An attempt has failed. Nothing was: nobody has anything to send.                  */
static void note_failure(sink_jetstream *self)
{
    int64_t attempts = self->config->retry_attempts;
    if (self->base == self->next) return;
    self->failures++;
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_RETRIES, 1);
    if (attempts != WEIR_FOREVER && self->failures >= attempts) {
        char text[256];
        snprintf(text, sizeof text, "attempts=%" PRId64 ": %.200s", attempts,
                 self->port.trouble);
        give_up(self, text);
    }
}

/*  Everything has its answer, and something was not taken.                           */
static void wait_and_retry(sink_jetstream *self)
{
    rewind_window(self);
    note_failure(self);
    int64_t wait_us = weir_js_port_wait_us(&self->port, self->failures);
    self->state = WAITING;
    self->again_us = weir_clock_now_us() + wait_us;
    if (self->failures <= 1)
        weir_log(WEIR_WARN, "jetstream takes no records url=%s cause=\"%s\" wait_ms=%d",
                 self->port.servers.text, self->port.trouble, (int)(wait_us / 1000));
    wake(self);
}

static void begin_drain(sink_jetstream *self)
{
    self->state = DRAINING;
    if (!self->waiting) wait_and_retry(self);
}

/* --- The stream -------------------------------------------------------------------- */

static void ready(sink_jetstream *self)
{
    self->state = ALONE;
    weir_js_line_wake(&self->port.line);
}

static void not_ready(sink_jetstream *self, const char *text)
{
    weir_js_port_trouble(&self->port, "%.60s: %.180s", self->config->stream, text);
    wait_and_retry(self);
}

static void ask(sink_jetstream *self, const char *what, weir_buffer *body,
                weir_js_answered *answered)
{
    char subject[2 * WEIR_JS_NAME];
    weir_js_ask(subject, what, self->config->stream, "");
    self->state = ASKING;
    weir_js_line_call(&self->port.line, subject, body, answered, NULL);
}

static void made(weir_js_line *line, void *arg, uint64_t token,
                 const weir_js_answer *answer)
{
    (void)arg, (void)token;
    sink_jetstream *self = sink_of(line);
    if (line->state != WEIR_LINE_UP || self->state != ASKING) return;
    if (answer->denied) {
        give_up(self, answer->text);
        return;
    }
    if (!answer->msg) {
        not_ready(self, answer->text);
        return;
    }
    weir_js_response_read(&self->response, answer->msg);
    if (!self->response.failed) {
        weir_log(WEIR_INFO, "jetstream stream made stream=%s subject=%s",
                 self->config->stream, self->pattern);
        ready(self);
    } else if (weir_js_error_is_fatal(self->response.err_code)) {
        char text[256];
        snprintf(text, sizeof text, "cannot make the stream %.60s: %.160s",
                 self->config->stream, self->response.text);
        give_up(self, text);
    } else {
        not_ready(self, self->response.text);
    }
}

static void put_stream(const sink_jetstream *self, weir_buffer *out)
{
    weir_jetstream_config config = weir_jetstream_defaults;
    weir_js_names names;
    config.replicas = self->config->replicas;
    config.dedup_us = self->config->dedup_us;
    snprintf(names.stream, sizeof names.stream, "%s", self->config->stream);
    memcpy(names.subject, self->pattern, sizeof names.subject);
    weir_js_put_stream(out, &config, &names);
}

/*  Who may publish, and no more, does without a look.                                */
static void looked(weir_js_line *line, void *arg, uint64_t token,
                   const weir_js_answer *answer)
{
    (void)arg, (void)token;
    sink_jetstream *self = sink_of(line);
    weir_buffer body = {0};
    if (line->state != WEIR_LINE_UP || self->state != ASKING) return;
    if (answer->denied) {
        ready(self);
        return;
    }
    if (!answer->msg) {
        not_ready(self, answer->text);
        return;
    }
    weir_js_response_read(&self->response, answer->msg);
    if (!self->response.failed) {
        ready(self);
    } else if (self->response.err_code == WEIR_JS_NO_STREAM) {
        put_stream(self, &body);
        ask(self, "STREAM.CREATE", &body, made);
    } else {
        not_ready(self, self->response.text);
    }
}

static void begin(sink_jetstream *self)
{
    if (self->config->stream)
        ask(self, "STREAM.INFO", NULL, looked);
    else
        ready(self);
}

/* --- Publishing, in the session's thread ------------------------------------------- */

static void refuse(sink_jetstream *self, flight *f, const char *text)
{
    f->state = REFUSED;
    f->why = strdup(text);
    if (!f->why) abort();
    wake(self);
}

/*  False: the session is broken.                                                    */
static bool publish(sink_jetstream *self, flight *f, int64_t now_us)
{
    natsMsg *msg = f->msg;
    int size = natsMsg_GetDataLength(msg);
    natsStatus s = weir_nats_session_publish(self->port.line.session, &f->msg);
    if (!s) {
        f->state = SENT;
        f->msg = msg;
        f->sent_us = now_us;
        if (!self->waiting++) weir_js_port_wake(&self->port); // it looks at the time
        weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_BYTES_OUT,
                       (uint64_t)size);
        return true;
    }
    if (s == NATS_MAX_PAYLOAD) {
        char text[160];
        snprintf(text, sizeof text,
                 "a payload of %d bytes, with its headers, is above the server's "
                 "max_payload, %" PRId64 " bytes",
                 size, weir_nats_session_max_payload(self->port.line.session));
        natsMsg_Destroy(f->msg);
        f->msg = NULL;
        refuse(self, f, text);
        return true;
    }
    weir_js_line_cut(&self->port.line, natsStatus_GetText(s));
    return false;
}

static bool may_publish(const sink_jetstream *self)
{
    return (self->state == OPEN || (self->state == ALONE && !self->waiting)) &&
           self->to_send < self->next;
}

static bool pump(weir_js_line *line)
{
    sink_jetstream *self = sink_of(line);
    int left = lot;
    if (!weir_js_line_send_calls(line)) return false;
    int64_t now_us = weir_clock_now_us();
    while (left && may_publish(self) && !weir_nats_session_is_full(line->session)) {
        flight *f = flight_at(self, self->to_send);
        if (f->state == TO_MAKE) break;
        if (f->state == TO_SEND) {
            if (!publish(self, f, now_us)) return false;
            left--;
        }
        self->to_send++;
    }
    return may_publish(self) && flight_at(self, self->to_send)->state != TO_MAKE;
}

/* --- Answers, in a thread of libnats ----------------------------------------------- */

/*  They come in the order of sending, unless something is wrong.                     */
static flight *find_flight(sink_jetstream *self, const natsMsg *msg)
{
    uint32_t count = (uint32_t)(self->to_send - self->base);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t offset = (self->hint + i) % count;
        flight *f = flight_at(self, self->base + offset);
        if (f->state != SENT || f->msg != msg) continue;
        self->hint = offset + 1;
        return f;
    }
    return NULL;
}

static bool is_one_of(int code, const int *codes)
{
    while (*codes && *codes != code)
        codes++;
    return *codes;
}

/*  What another attempt cannot mend, since it is the message's own fault.             */
static bool is_refusal(int code)
{
    static const int codes[] = {WEIR_JS_TOO_LARGE,
                                WEIR_JS_WRONG_LAST,
                                WEIR_JS_WRONG_LAST_CONSTANT,
                                WEIR_JS_WRONG_LAST_ID,
                                WEIR_JS_HEADERS_TOO_LARGE,
                                WEIR_JS_ROLLUP,
                                0};
    return is_one_of(code, codes);
}

static void note_refusal(sink_jetstream *self, flight *f, const jsPubAckErr *error)
{
    char text[256];
    snprintf(text, sizeof text, "jetstream does not take it: %.200s",
             error->ErrText ? error->ErrText : natsStatus_GetText(error->Err));
    refuse(self, f, text);
}

static void not_taken(sink_jetstream *self, const natsMsg *msg, flight *f,
                      const jsPubAckErr *error)
{
    int code = (int)error->ErrCode;
    const char *subject = natsMsg_GetSubject(msg);
    const char *text = error->ErrText ? error->ErrText : natsStatus_GetText(error->Err);
    if (is_refusal(code)) {
        note_refusal(self, f, error);
        return;
    }
    f->state = TO_MAKE;
    f->msg = NULL;
    self->remakes++;
    if (code == WEIR_JS_OTHER_STREAM) {
        char why[256];
        snprintf(why, sizeof why,
                 "the subject %.80s is not that of the stream %.60s: %.60s", subject,
                 self->config->stream, text);
        give_up(self, why);
    } else if (error->Err == NATS_NO_RESPONDERS) {
        weir_js_port_trouble(&self->port, "no stream has the subject %.120s", subject);
    } else {
        weir_js_port_trouble(&self->port, "%.100s: %.120s", subject, text);
    }
}

static void stored(sink_jetstream *self, flight *f)
{
    f->state = STORED;
    f->msg = NULL;
    if (self->state == DRAINING) return;
    self->failures = 0;
    weir_js_port_calm(&self->port);
    if (self->state == ALONE) self->state = OPEN;
}

/*  Many answers at a time, but soon.                                                */
static void tell_actor(sink_jetstream *self)
{
    int64_t now_us = self->port.line.heard_us;
    bool many = ++self->answered >= window(self) / wake_share;
    if (self->waiting && !many && now_us - self->woken_us < wake_us) return;
    self->answered = 0;
    self->woken_us = now_us;
    wake(self);
}

static void acked(weir_js_line *line, const natsMsg *msg, const jsPubAck *ack,
                  const jsPubAckErr *error)
{
    sink_jetstream *self = sink_of(line);
    flight *f = find_flight(self, msg);
    if (!f) return;
    self->waiting--;
    if (ack)
        stored(self, f);
    else
        not_taken(self, msg, f, error);
    if (f->state == TO_MAKE || self->state == DRAINING) {
        begin_drain(self);
        wake(self);
        return;
    }
    if (self->to_send < self->next) weir_js_line_wake(line);
    tell_actor(self);
}

static void data(weir_js_line *line, natsMsg **msg_p)
{
    (void)line, (void)msg_p; // nobody is asked for any
}

static void denied(weir_js_line *line, const char *subject, const char *text)
{
    (void)subject;
    give_up(sink_of(line), text);
}

/* --- Connection -------------------------------------------------------------------- */

static void up(weir_js_line *line)
{
    begin(sink_of(line));
}

static void down(weir_js_line *line)
{
    sink_jetstream *self = sink_of(line);
    self->state = CLOSED;
    rewind_window(self);
    weir_js_port_trouble(&self->port, "%s", line->error);
    note_failure(self);
    if (line->fatal) give_up(self, line->error);
    wake(self);
}

static void tell(weir_js_line *line)
{
    (void)line;
}

static const weir_js_line_class line_class = {
    .name = "sink",
    .up = up,
    .down = down,
    .pump = pump,
    .acked = acked,
    .data = data,
    .denied = denied,
    .tell = tell,
};

/* --- Time -------------------------------------------------------------------------- */

/*  When the oldest message without an answer has waited too long; -1: there is none.   */
static int64_t answer_due(const sink_jetstream *self)
{
    if (!self->waiting) return -1;
    uint64_t n = self->base;
    while (flight_at(self, n)->state != SENT)
        n++;
    return flight_at(self, n)->sent_us + self->config->port.timeout_us;
}

/*  Messages that are late count as not taken.                                       */
static void look_at_answers(sink_jetstream *self, int64_t now_us)
{
    int64_t since_us = now_us - self->config->port.timeout_us;
    if (!self->waiting || answer_due(self) > now_us) return;
    weir_js_port_trouble(&self->port, "no answer in %" PRId64 " ms",
                         self->config->port.timeout_us / 1000);
    for (uint64_t n = self->base; n < self->to_send; n++) {
        flight *f = flight_at(self, n);
        if (f->state != SENT || f->sent_us > since_us) continue;
        f->state = TO_MAKE;
        f->msg = NULL;
        self->remakes++;
        self->waiting--;
    }
    weir_js_line_is_late(&self->port.line, now_us);
    begin_drain(self);
}

/*  Gives when it is to look again; -1: never.                                       */
static int64_t look_at_time(sink_jetstream *self)
{
    pthread_mutex_lock(&self->port.line.mutex);
    int64_t now_us = weir_clock_now_us();
    look_at_answers(self, now_us);
    if (self->state == WAITING && now_us >= self->again_us) begin(self);
    int64_t due_us = self->state == WAITING ? self->again_us : answer_due(self);
    pthread_mutex_unlock(&self->port.line.mutex);
    return due_us;
}

/* --- Settling ---------------------------------------------------------------------- */

static void end_if_done(sink_jetstream *self, load *l)
{
    if (!l->walked || l->unanswered) return;
    weir_actor_done(self->kit, l->entry);
    load **at = &self->first;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    if (!l->next) self->last = at;
    weir_block_destroy(&l->block);
    free(l);
}

static void bury(sink_jetstream *self, const flight *f)
{
    weir_iterator at = f->at;
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin;
    weir_iterator_next(&at, &subject.record, &origin);
    weir_subject_begin(&subject, origin);
    weir_delivery_refuse(self->delivery, f->load->entry, &subject, origin, f->why);
}

static void settle(sink_jetstream *self, flight *f)
{
    load *l = f->load;
    if (f->state == STORED)
        l->entry->fates.done++;
    else
        bury(self, f);
    free(f->why);
    *f = (flight){0};
    l->unanswered--;
    end_if_done(self, l);
}

/*  Takes what is answered off the window's beginning.                               */
static void settle_answered(sink_jetstream *self)
{
    flight done[lot];
    for (size_t count = lot; count == lot;) {
        count = 0;
        pthread_mutex_lock(&self->port.line.mutex);
        while (self->base < self->to_send && count < lot) {
            flight *f = flight_at(self, self->base);
            if (f->state != STORED && f->state != REFUSED) break;
            done[count++] = *f;
            *f = (flight){0};
            self->base++;
            if (self->hint) self->hint--;
        }
        pthread_mutex_unlock(&self->port.line.mutex);
        for (size_t i = 0; i < count; i++)
            settle(self, &done[i]);
    }
}

/* --- Making messages --------------------------------------------------------------- */

static void go_to_next_load(sink_jetstream *self)
{
    load *l = self->current;
    self->current = l->next;
    if (l->next) self->walk = (weir_iterator){.block = l->next->block};
    l->walked = true;
    end_if_done(self, l);
}

/*  The next record that makes a message. False: there is none.                       */
static bool make_next(sink_jetstream *self, flight *f)
{
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin;
    while (self->current && !weir_actor_failed(self->kit)) {
        *f = (flight){.load = self->current, .at = self->walk, .state = TO_SEND};
        if (!weir_iterator_next(&self->walk, &subject.record, &origin)) {
            go_to_next_load(self);
            continue;
        }
        weir_entry *entry = self->current->entry;
        if (!weir_delivery_wants(self->delivery, entry, &subject, origin)) continue;
        const char *error = weir_js_message_make(&self->message, &subject, &f->msg);
        if (!error) return true;
        weir_delivery_refuse(self->delivery, entry, &subject, origin, error);
    }
    return false;
}

static void make_again(sink_jetstream *self, flight *f)
{
    weir_iterator at = f->at;
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin;
    weir_iterator_next(&at, &subject.record, &origin);
    weir_subject_begin(&subject, origin);
    if (weir_js_message_make(&self->message, &subject, &f->msg)) return;
    f->state = TO_SEND;
}

/*  What was sent before, and has to be sent again. Few, and seldom: under the mutex.  */
static void remake(sink_jetstream *self)
{
    pthread_mutex_lock(&self->port.line.mutex);
    for (uint64_t n = self->base; n < self->next && self->remakes; n++) {
        flight *f = flight_at(self, n);
        if (f->state != TO_MAKE) continue;
        make_again(self, f);
        self->remakes--;
    }
    weir_js_line_wake(&self->port.line);
    pthread_mutex_unlock(&self->port.line.mutex);
}

/*  Fills the window; true: there is more, and room for it.                            */
static bool make_some(sink_jetstream *self)
{
    flight made_now[lot];
    size_t count = 0;
    pthread_mutex_lock(&self->port.line.mutex);
    uint64_t room = window(self) - (self->next - self->base);
    bool again = self->remakes;
    pthread_mutex_unlock(&self->port.line.mutex);
    if (again) remake(self);
    while (count < lot && count < room && make_next(self, &made_now[count]))
        made_now[count++].load->unanswered++;
    if (!count) return false;
    pthread_mutex_lock(&self->port.line.mutex);
    for (size_t i = 0; i < count; i++)
        *flight_at(self, self->next++) = made_now[i];
    weir_js_line_wake(&self->port.line);
    pthread_mutex_unlock(&self->port.line.mutex);
    return count == lot;
}

/* --- Messages ---------------------------------------------------------------------- */

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_jetstream *self = arg;
    load *l = calloc(1, sizeof *l);
    if (!l) abort();
    l->entry = entry;
    l->block = weir_block_dup(block);
    *self->last = l;
    self->last = &l->next;
    if (self->current) return;
    self->current = l;
    self->walk = (weir_iterator){.block = block};
}

static bool is_fatal(sink_jetstream *self)
{
    char text[sizeof self->fatal];
    pthread_mutex_lock(&self->port.line.mutex);
    memcpy(text, self->fatal, sizeof text);
    pthread_mutex_unlock(&self->port.line.mutex);
    if (text[0])
        weir_actor_fail(self->kit, WEIR_EREFUSED, self->port.servers.text, "%s", text);
    return text[0];
}

static bool turn(void *arg)
{
    sink_jetstream *self = arg;
    if (weir_actor_failed(self->kit)) return false;
    weir_js_port_run(&self->port);
    int64_t due_us = look_at_time(self);
    settle_answered(self);
    weir_js_port_tell(&self->port, WEIR_WAIT_WRITE);
    if (is_fatal(self)) return false;
    bool more = make_some(self);
    weir_js_port_sleep(&self->port, due_us);
    return more && !weir_actor_failed(self->kit);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_js_message_config message_config(const weir_sink_jetstream_config *c)
{
    return (weir_js_message_config){.subject = c->subject,
                                    .stream = c->stream,
                                    .headers = &c->headers,
                                    .payload = c->payload,
                                    .id = c->id};
}

static weir_err check_pattern(const weir_js_message *message,
                              const weir_sink_jetstream_config *c, weir_report *report)
{
    char pattern[WEIR_JS_NAME];
    if (!c->stream || weir_js_message_pattern(message, pattern, sizeof pattern))
        return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, "subject",
                           "it is too long for that of a stream");
}

static weir_err check(const void *config, weir_report *report)
{
    const weir_sink_jetstream_config *c = config;
    weir_js_message message;
    weir_js_message_config of = message_config(c);
    weir_err err = weir_js_port_check(&c->port, report);
    if (err) return err;
    err = weir_js_message_init(&message, &of, report);
    if (!err) err = check_pattern(&message, c, report);
    weir_js_message_fini(&message);
    return err;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_jetstream *self = arg;
    const weir_sink_jetstream_config *c = self->config = config;
    weir_js_message_config of = message_config(c);
    self->kit = kit;
    self->last = &self->first;
    weir_err err = check(c, report);
    if (err) return err;
    weir_js_message_init(&self->message, &of, report);
    weir_js_message_pattern(&self->message, self->pattern, sizeof self->pattern);
    self->ring = calloc((size_t)c->port.window, sizeof *self->ring);
    if (!self->ring) abort();
    err = weir_delivery_new(&self->delivery, kit, &c->delivery, report);
    return err ? err
               : weir_js_port_open(&self->port, kit, weir_actor_node(kit)->name,
                                   &line_class, &c->port, report);
}

static void fini(void *arg)
{
    sink_jetstream *self = arg;
    weir_js_port_close(&self->port);
    for (uint64_t n = self->base; n < self->next; n++) {
        flight *f = flight_at(self, n);
        if (f->state == TO_SEND) natsMsg_Destroy(f->msg);
        free(f->why);
    }
    for (load *l; (l = self->first); free(l)) {
        self->first = l->next;
        weir_block_destroy(&l->block);
    }
    free(self->ring);
    weir_delivery_destroy(&self->delivery);
    weir_js_message_fini(&self->message);
    weir_js_response_fini(&self->response);
    weir_doc_fini(&self->doc);
}

/* --- Probe ------------------------------------------------------------------------- */

static weir_err probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const weir_sink_jetstream_config *c = config;
    weir_js_asker asker;
    const weir_js_response *is = &asker.response;
    const char *shown;
    weir_err err = weir_js_asker_open(&asker, &c->port, timeout_us, report);
    if (!err) err = weir_js_ask_now(&asker, "INFO", "", "", report);
    shown = asker.port.servers.text;
    if (!err && is->failed)
        err = weir_report_set(report, WEIR_EREFUSED, shown, "%s", is->text);
    if (!err && c->stream)
        err = weir_js_ask_now(&asker, "STREAM.INFO", c->stream, "", report);
    if (!err && is->failed && is->err_code != WEIR_JS_NO_STREAM)
        err =
            weir_report_set(report, WEIR_EREFUSED, shown, "%s: %s", c->stream, is->text);
    if (!err)
        weir_report_set(report, WEIR_OK, shown, "JetStream%s%s%s",
                        c->stream ? ", the stream " : "", c->stream ? c->stream : "",
                        !c->stream     ? ""
                        : is->err_code ? " would be made"
                                       : " is there");
    weir_js_asker_close(&asker);
    return err;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const forever_word[] = {"forever", NULL};

#define AT(member) offsetof(weir_sink_jetstream_config, member)

static const weir_option options[] = {
    WEIR_JS_PORT_OPTIONS(
        weir_sink_jetstream_config, port,
        "most messages without an answer; with 1 order is kept even when "
        "the stream takes some records and others not"),
    {"retry.attempts", WEIR_OPTION_INT, AT(retry_attempts), 1, 1e6, forever_word, false,
     "attempts in a row that store nothing before the node stops"},
    {"subject", WEIR_OPTION_TEXT, AT(subject), 0, 0, NULL, true,
     "of each message, with fields in braces: \"orders.{region}\"; a field is one token "
     "or "
     "a part of one"},
    {"stream", WEIR_OPTION_TEXT, AT(stream), 0, 0, NULL, false,
     "the stream that must take it; made when it is missing; without it some stream must "
     "have the subject"},
    {"headers", WEIR_OPTION_MAP, AT(headers), 0, 0, NULL, false,
     "headers of each message: { [\"Tenant\"] = \"{tenant}\" }"},
    {"payload", WEIR_OPTION_TEXT, AT(payload), 0, 0, NULL, false,
     "text with fields in braces; without it the payload as it is, a MessagePack "
     "document "
     "as JSON"},
    {"id", WEIR_OPTION_TEXT, AT(id), 0, 0, NULL, false,
     "the message's id, by which the stream knows duplicates, with fields in braces; "
     "without it the id that the record has from a bus with a store, else none"},
    {"replicas", WEIR_OPTION_INT, AT(replicas), 1, 5, NULL, false,
     "of a stream that is made"},
    {"dedup", WEIR_OPTION_TIME, AT(dedup_us), 100e3, 24 * 3600e6, NULL, false,
     "duplicate window of a stream that is made"},
    {"on_error", WEIR_OPTION_WORD, AT(delivery.on_error), 0, 0, weir_on_error_words,
     false, "for a record that makes no message, or that the stream can never take"},
    WEIR_SCREEN_OPTIONS(weir_sink_jetstream_config, delivery.screen),
    {.name = NULL},
};

const weir_class weir_sink_jetstream_class = {
    .name = "sink.jetstream",
    .help = "publishes records into streams of NATS JetStream; a record is done when the "
            "server has acknowledged it",
    .actor = weir_sink_jetstream,
    .size = sizeof(sink_jetstream),
    .config_size = sizeof(weir_sink_jetstream_config),
    .defaults = &weir_sink_jetstream_defaults,
    .options = options,
    .inlet = true,
    .check = check,
    .probe = probe,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .turn = turn,
};

void weir_sink_jetstream(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_jetstream_class, pipe, config);
}
