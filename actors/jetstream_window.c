#include "actors/jetstream_window.h"
#include <inttypes.h>
#include "runtime/clock.h"
#include "runtime/log.h"

enum {
    lot = 256,      // messages that are published before others have their turn
    wake_share = 8, // of the window is answered before the actor hears of it,
    wake_us = 2000, // or so long after the last time
};

static weir_js_window *window_of(weir_js_line *line)
{
    return (weir_js_window *)line;
}

static weir_js_slot *slot_at(const weir_js_window *self, uint64_t number)
{
    return &self->ring[number % self->size];
}

static void wake(weir_js_window *self)
{
    weir_js_port_wake(&self->port);
}

/* --- Failures, under the mutex ----------------------------------------------------- */

static void give_up(weir_js_window *self, const char *text)
{
    if (!self->fatal[0]) snprintf(self->fatal, sizeof self->fatal, "%s", text);
    wake(self);
}

/*  What has no answer is made, and sent, once more.                                  */
static void rewind_window(weir_js_window *self)
{
    for (uint64_t n = self->base; n < self->to_send; n++) {
        weir_js_slot *s = slot_at(self, n);
        if (s->state != WEIR_SLOT_SENT) continue;
        s->state = WEIR_SLOT_TO_MAKE;
        s->msg = NULL;
        self->remakes++;
    }
    self->to_send = self->base;
    self->waiting = self->hint = 0;
}

static bool is_idle(const weir_js_window *self)
{
    return self->base == self->next;
}

/*  An attempt has failed. None was: nobody has anything to send.                     */
static void note_failure(weir_js_window *self)
{
    int64_t attempts = self->target.attempts;
    if (is_idle(self)) return;
    self->failures++;
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_RETRIES, 1);
    if (attempts != WEIR_FOREVER && self->failures >= attempts) {
        char text[256];
        snprintf(text, sizeof text, "attempts=%" PRId64 ": %.200s", attempts,
                 self->port.trouble);
        give_up(self, text);
    }
}

/*  Everything has its answer, and something was not taken, or the stream, which is looked
    at even if there is nothing to send, will not do yet.                            */
static void wait_and_retry(weir_js_window *self)
{
    rewind_window(self);
    note_failure(self);
    int64_t wait_us = weir_js_port_wait_us(&self->port, ++self->waits);
    self->state = WEIR_WINDOW_WAITING;
    self->again_us = weir_clock_now_us() + wait_us;
    if (self->waits == 1)
        weir_log(WEIR_WARN, "jetstream takes no records url=%s cause=\"%s\" wait_ms=%d",
                 self->port.servers.text, self->port.trouble, (int)(wait_us / 1000));
    wake(self);
}

static void begin_drain(weir_js_window *self)
{
    self->state = WEIR_WINDOW_DRAINING;
    if (!self->waiting) wait_and_retry(self);
}

/* --- The stream -------------------------------------------------------------------- */

/*  What goes on again, or may do so as far as one can tell.                          */
static void go_on(weir_js_window *self)
{
    self->failures = self->waits = 0;
    weir_js_port_calm(&self->port);
}

/*  Whether it takes records is known when it has taken one.                          */
static void ready(weir_js_window *self)
{
    self->state = WEIR_WINDOW_ALONE;
    if (is_idle(self)) go_on(self);
    wake(self);
    weir_js_line_wake(&self->port.line);
}

static void not_ready(weir_js_window *self, const char *text)
{
    weir_js_port_trouble(&self->port, "%.60s: %.180s", self->target.stream, text);
    wait_and_retry(self);
}

static void ask(weir_js_window *self, const char *what, weir_buffer *body,
                weir_js_answered *answered)
{
    char subject[2 * WEIR_JS_NAME];
    weir_js_ask(subject, what, self->target.stream, "");
    self->state = WEIR_WINDOW_ASKING;
    weir_js_line_call(&self->port.line, subject, body, answered, NULL);
}

static void made(weir_js_line *line, void *arg, uint64_t token,
                 const weir_js_answer *answer)
{
    (void)arg, (void)token;
    weir_js_window *self = window_of(line);
    if (line->state != WEIR_LINE_UP || self->state != WEIR_WINDOW_ASKING) return;
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
                 self->target.stream, self->target.subject);
        ready(self);
    } else if (weir_js_error_is_fatal(self->response.err_code)) {
        char text[256];
        snprintf(text, sizeof text, "cannot make the stream %.60s: %.160s",
                 self->target.stream, self->response.text);
        give_up(self, text);
    } else {
        not_ready(self, self->response.text);
    }
}

static void put_stream(const weir_js_window *self, weir_buffer *out)
{
    weir_jetstream_config config = weir_jetstream_defaults;
    weir_js_names names;
    config.replicas = self->target.replicas;
    config.dedup_us = self->target.dedup_us;
    snprintf(names.stream, sizeof names.stream, "%s", self->target.stream);
    snprintf(names.subject, sizeof names.subject, "%s", self->target.subject);
    weir_js_put_stream(out, &config, &names);
}

/*  Who may publish, and no more, does without a look.                                */
static void looked(weir_js_line *line, void *arg, uint64_t token,
                   const weir_js_answer *answer)
{
    (void)arg, (void)token;
    weir_js_window *self = window_of(line);
    weir_buffer body = {0};
    if (line->state != WEIR_LINE_UP || self->state != WEIR_WINDOW_ASKING) return;
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

static void begin(weir_js_window *self)
{
    if (self->target.stream)
        ask(self, "STREAM.INFO", NULL, looked);
    else
        ready(self);
}

/* --- Publishing, in the session's thread ------------------------------------------- */

static void refuse(weir_js_window *self, weir_js_slot *s, const char *text)
{
    s->state = WEIR_SLOT_REFUSED;
    s->why = strdup(text);
    if (!s->why) abort();
    wake(self);
}

/*  False: the session is broken.                                                    */
static bool publish(weir_js_window *self, weir_js_slot *s, int64_t now_us)
{
    natsMsg *msg = s->msg;
    int size = natsMsg_GetDataLength(msg);
    natsStatus status = weir_nats_session_publish(self->port.line.session, &s->msg);
    if (!status) {
        s->state = WEIR_SLOT_SENT;
        s->msg = msg;
        s->sent_us = now_us;
        if (!self->waiting++) weir_js_port_wake(&self->port); // it looks at the time
        weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_BYTES_OUT,
                       (uint64_t)size);
        return true;
    }
    if (status == NATS_MAX_PAYLOAD) {
        char text[160];
        snprintf(text, sizeof text,
                 "a payload of %d bytes, with its headers, is above the server's "
                 "max_payload, %" PRId64 " bytes",
                 size, weir_nats_session_max_payload(self->port.line.session));
        natsMsg_Destroy(s->msg);
        s->msg = NULL;
        refuse(self, s, text);
        return true;
    }
    weir_js_line_cut(&self->port.line, natsStatus_GetText(status));
    return false;
}

static bool may_publish(const weir_js_window *self)
{
    return (self->state == WEIR_WINDOW_OPEN ||
            (self->state == WEIR_WINDOW_ALONE && !self->waiting)) &&
           self->to_send < self->next;
}

static bool pump(weir_js_line *line)
{
    weir_js_window *self = window_of(line);
    int left = lot;
    if (!weir_js_line_send_calls(line)) return false;
    int64_t now_us = weir_clock_now_us();
    while (left && may_publish(self) && !weir_nats_session_is_full(line->session)) {
        weir_js_slot *s = slot_at(self, self->to_send);
        if (s->state == WEIR_SLOT_TO_MAKE) break;
        if (s->state == WEIR_SLOT_TO_SEND) {
            if (!publish(self, s, now_us)) return false;
            left--;
        }
        self->to_send++;
    }
    return may_publish(self) && slot_at(self, self->to_send)->state != WEIR_SLOT_TO_MAKE;
}

/* --- Answers, in a thread of libnats ----------------------------------------------- */

/*  They come in the order of sending, unless something is wrong.                     */
static weir_js_slot *find_slot(weir_js_window *self, const natsMsg *msg)
{
    uint32_t count = (uint32_t)(self->to_send - self->base);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t offset = (self->hint + i) % count;
        weir_js_slot *s = slot_at(self, self->base + offset);
        if (s->state != WEIR_SLOT_SENT || s->msg != msg) continue;
        self->hint = offset + 1;
        return s;
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

static void note_refusal(weir_js_window *self, weir_js_slot *s, const jsPubAckErr *error)
{
    char text[256];
    snprintf(text, sizeof text, "jetstream does not take it: %.200s",
             error->ErrText ? error->ErrText : natsStatus_GetText(error->Err));
    refuse(self, s, text);
}

static void not_taken(weir_js_window *self, const natsMsg *msg, weir_js_slot *s,
                      const jsPubAckErr *error)
{
    int code = (int)error->ErrCode;
    const char *subject = natsMsg_GetSubject(msg);
    const char *text = error->ErrText ? error->ErrText : natsStatus_GetText(error->Err);
    if (is_refusal(code)) {
        note_refusal(self, s, error);
        return;
    }
    s->state = WEIR_SLOT_TO_MAKE;
    s->msg = NULL;
    self->remakes++;
    if (code == WEIR_JS_OTHER_STREAM) {
        char why[256];
        snprintf(why, sizeof why,
                 "the subject %.80s is not that of the stream %.60s: %.60s", subject,
                 self->target.stream, text);
        give_up(self, why);
    } else if (error->Err == NATS_NO_RESPONDERS) {
        weir_js_port_trouble(&self->port, "no stream has the subject %.120s", subject);
    } else {
        weir_js_port_trouble(&self->port, "%.100s: %.120s", subject, text);
    }
}

static void stored(weir_js_window *self, weir_js_slot *s)
{
    s->state = WEIR_SLOT_STORED;
    s->msg = NULL;
    if (self->state == WEIR_WINDOW_DRAINING) return;
    go_on(self);
    if (self->state == WEIR_WINDOW_ALONE) self->state = WEIR_WINDOW_OPEN;
}

/*  Many answers at a time, but soon.                                                */
static void tell_actor(weir_js_window *self)
{
    int64_t now_us = self->port.line.heard_us;
    bool many = ++self->answered >= self->size / wake_share;
    if (self->waiting && !many && now_us - self->woken_us < wake_us) return;
    self->answered = 0;
    self->woken_us = now_us;
    wake(self);
}

static void acked(weir_js_line *line, const natsMsg *msg, const jsPubAck *ack,
                  const jsPubAckErr *error)
{
    weir_js_window *self = window_of(line);
    weir_js_slot *s = find_slot(self, msg);
    if (!s) return;
    self->waiting--;
    if (ack)
        stored(self, s);
    else
        not_taken(self, msg, s, error);
    if (s->state == WEIR_SLOT_TO_MAKE || self->state == WEIR_WINDOW_DRAINING) {
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
    give_up(window_of(line), text);
}

/* --- Connection -------------------------------------------------------------------- */

static void up(weir_js_line *line)
{
    begin(window_of(line));
}

static void down(weir_js_line *line)
{
    weir_js_window *self = window_of(line);
    self->state = WEIR_WINDOW_CLOSED;
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
static int64_t answer_due(const weir_js_window *self)
{
    if (!self->waiting) return -1;
    uint64_t n = self->base;
    while (slot_at(self, n)->state != WEIR_SLOT_SENT)
        n++;
    return slot_at(self, n)->sent_us + self->port.config->timeout_us;
}

/*  Messages that are late count as not taken.                                       */
static void look_at_answers(weir_js_window *self, int64_t now_us)
{
    int64_t since_us = now_us - self->port.config->timeout_us;
    if (!self->waiting || answer_due(self) > now_us) return;
    weir_js_port_trouble(&self->port, "no answer in %" PRId64 " ms",
                         self->port.config->timeout_us / 1000);
    for (uint64_t n = self->base; n < self->to_send; n++) {
        weir_js_slot *s = slot_at(self, n);
        if (s->state != WEIR_SLOT_SENT || s->sent_us > since_us) continue;
        s->state = WEIR_SLOT_TO_MAKE;
        s->msg = NULL;
        self->remakes++;
        self->waiting--;
    }
    weir_js_line_is_late(&self->port.line, now_us);
    begin_drain(self);
}

/* --- The actor's ------------------------------------------------------------------- */

int64_t weir_js_window_run(weir_js_window *self)
{
    weir_js_port_run(&self->port);
    pthread_mutex_lock(&self->port.line.mutex);
    int64_t now_us = weir_clock_now_us();
    look_at_answers(self, now_us);
    if (self->state == WEIR_WINDOW_WAITING && now_us >= self->again_us) begin(self);
    int64_t due_us =
        self->state == WEIR_WINDOW_WAITING ? self->again_us : answer_due(self);
    pthread_mutex_unlock(&self->port.line.mutex);
    return due_us;
}

size_t weir_js_window_take(weir_js_window *self, weir_js_slot *done, size_t room)
{
    size_t count = 0;
    pthread_mutex_lock(&self->port.line.mutex);
    while (self->base < self->to_send && count < room) {
        weir_js_slot *s = slot_at(self, self->base);
        if (s->state != WEIR_SLOT_STORED && s->state != WEIR_SLOT_REFUSED) break;
        done[count++] = *s;
        *s = (weir_js_slot){0};
        self->base++;
        if (self->hint) self->hint--;
    }
    pthread_mutex_unlock(&self->port.line.mutex);
    return count;
}

bool weir_js_window_tell(weir_js_window *self)
{
    char text[sizeof self->fatal];
    weir_js_port_tell(&self->port, WEIR_WAIT_WRITE);
    pthread_mutex_lock(&self->port.line.mutex);
    memcpy(text, self->fatal, sizeof text);
    pthread_mutex_unlock(&self->port.line.mutex);
    if (text[0])
        weir_actor_fail(self->kit, WEIR_EREFUSED, self->port.servers.text, "%s", text);
    return !text[0];
}

void weir_js_window_remake(weir_js_window *self, weir_js_make *make, void *arg)
{
    pthread_mutex_lock(&self->port.line.mutex);
    if (self->remakes) weir_js_line_wake(&self->port.line);
    for (uint64_t n = self->base; n < self->next && self->remakes; n++) {
        weir_js_slot *s = slot_at(self, n);
        if (s->state != WEIR_SLOT_TO_MAKE) continue;
        s->msg = make(arg, s);
        if (s->msg) s->state = WEIR_SLOT_TO_SEND;
        self->remakes--;
    }
    pthread_mutex_unlock(&self->port.line.mutex);
}

uint64_t weir_js_window_room(weir_js_window *self)
{
    pthread_mutex_lock(&self->port.line.mutex);
    uint64_t room = self->size - (self->next - self->base);
    pthread_mutex_unlock(&self->port.line.mutex);
    return room;
}

void weir_js_window_add(weir_js_window *self, const weir_js_slot *slots, size_t count)
{
    pthread_mutex_lock(&self->port.line.mutex);
    for (size_t i = 0; i < count; i++)
        *slot_at(self, self->next++) = slots[i];
    weir_js_line_wake(&self->port.line);
    pthread_mutex_unlock(&self->port.line.mutex);
}

/* --- Life -------------------------------------------------------------------------- */

weir_err weir_js_window_open(weir_js_window *self, weir_actor *kit,
                             const weir_js_target *target,
                             const weir_js_port_config *config, weir_report *report)
{
    self->kit = kit;
    self->target = *target;
    self->size = (uint64_t)config->window;
    self->ring = calloc(self->size, sizeof *self->ring);
    if (!self->ring) abort();
    return weir_js_port_open(&self->port, kit, weir_actor_node(kit)->name, &line_class,
                             config, report);
}

void weir_js_window_close(weir_js_window *self)
{
    weir_js_port_close(&self->port);
    for (uint64_t n = self->base; n < self->next; n++) {
        weir_js_slot *s = slot_at(self, n);
        if (s->state == WEIR_SLOT_TO_SEND) natsMsg_Destroy(s->msg);
        free(s->why);
    }
    free(self->ring);
    weir_js_response_fini(&self->response);
}
