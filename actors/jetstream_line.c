#include "actors/jetstream_line.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "runtime/clock.h"
#include "runtime/log.h"

enum {
    grace_us = 100000,  // for an attempt to end by itself
    at_once_us = 10000, // before a connection that was lost is made again
    release_us = 200000,
};

struct weir_js_call {
    weir_js_call *next;
    uint64_t token;
    int64_t deadline_us;
    char *subject;
    weir_buffer body;
    weir_js_answered *answered;
    void *arg;
    bool pulls;
};

/* --- Calls ------------------------------------------------------------------------- */

static void push(weir_js_calls *self, weir_js_call *call)
{
    call->next = NULL;
    *self->end = call;
    self->end = &call->next;
}

static weir_js_call *take_at(weir_js_calls *self, weir_js_call **at)
{
    weir_js_call *call = *at;
    *at = call->next;
    if (!call->next) self->end = at;
    return call;
}

/*  The call with this token, taken out; NULL: there is none.                        */
static weir_js_call *take(weir_js_calls *self, uint64_t token)
{
    weir_js_call **at = &self->first;
    while (*at && (*at)->token != token)
        at = &(*at)->next;
    return *at ? take_at(self, at) : NULL;
}

static void destroy(weir_js_call *self)
{
    weir_buffer_fini(&self->body);
    free(self->subject);
    free(self);
}

static void answer(weir_js_line *self, weir_js_call *call, const weir_js_answer *what)
{
    call->answered(self, call->arg, call->token, what);
    destroy(call);
}

/*  What is asked meanwhile stays: it is for the next session.                       */
static void fail_calls(weir_js_line *self, const char *text)
{
    weir_js_calls old[] = {self->sent, self->asked};
    self->sent = self->asked = (weir_js_calls){0};
    self->sent.end = &self->sent.first;
    self->asked.end = &self->asked.first;
    for (int i = 0; i < 2; i++)
        while (old[i].first) {
            weir_js_call *call = old[i].first;
            old[i].first = call->next;
            answer(self, call, &(weir_js_answer){.text = text});
        }
}

static weir_js_call *add_call(weir_js_line *self, const char *subject, weir_buffer *body,
                              weir_js_answered *answered, void *arg)
{
    weir_js_call *call = calloc(1, sizeof *call);
    if (!call || !(call->subject = strdup(subject))) abort();
    call->token = ++self->last_token;
    call->deadline_us = weir_clock_now_us() + self->config.timeout_us;
    if (body) call->body = *body;
    if (body) *body = (weir_buffer){0};
    call->answered = answered;
    call->arg = arg;
    push(&self->asked, call);
    weir_js_line_wake(self);
    self->config.wake(self->config.keeper, call->deadline_us);
    return call;
}

uint64_t weir_js_line_call(weir_js_line *self, const char *subject, weir_buffer *body,
                           weir_js_answered *answered, void *arg)
{
    return add_call(self, subject, body, answered, arg)->token;
}

uint64_t weir_js_line_pull(weir_js_line *self, const char *subject, weir_buffer *body,
                           weir_js_answered *answered, void *arg)
{
    weir_js_call *call = add_call(self, subject, body, answered, arg);
    call->pulls = true;
    return call->token;
}

void weir_js_line_cancel(weir_js_line *self, uint64_t token)
{
    weir_js_call *call = take(&self->asked, token);
    if (!call) call = take(&self->sent, token);
    if (call) destroy(call);
}

bool weir_js_line_send_calls(weir_js_line *self)
{
    while (self->asked.first) {
        weir_js_call *call = self->asked.first;
        natsStatus s = (call->pulls ? weir_nats_session_pull : weir_nats_session_request)(
            self->session, call->subject, call->token, call->body.data, call->body.size);
        if (s) {
            weir_js_line_cut(self, natsStatus_GetText(s));
            return false;
        }
        push(&self->sent, take_at(&self->asked, &self->asked.first));
    }
    return true;
}

/* --- Told by the session ----------------------------------------------------------- */

static weir_js_line *enter(void *owner)
{
    weir_js_line *self = owner;
    pthread_mutex_lock(&self->mutex);
    return self;
}

static void leave(weir_js_line *self)
{
    pthread_mutex_unlock(&self->mutex);
    self->class->tell(self);
}

static void hear(weir_js_line *self)
{
    self->heard = true;
    self->heard_us = weir_clock_now_us();
}

static void go_up(weir_js_line *self)
{
    self->state = WEIR_LINE_UP;
    self->heard = false;
    self->heard_us = weir_clock_now_us();
    self->connects++;
    self->server = weir_nats_session_server(self->session);
    self->fatal = false;
    self->error[0] = '\0';
    weir_log(WEIR_INFO, "jetstream connected for=%s url=%s", self->class->name,
             self->config.shown);
    self->class->up(self);
}

/*  A session that is being released may still call.                                 */
static void on_up(void *owner)
{
    weir_js_line *self = enter(owner);
    if (self->state == WEIR_LINE_TRYING) go_up(self);
    leave(self);
}

static bool on_pump(void *owner)
{
    weir_js_line *self = enter(owner);
    bool more = self->state == WEIR_LINE_UP && self->class->pump(self);
    leave(self);
    return more;
}

/*  A session that has brought answers was good: the next one is tried at once.      */
static void fall(weir_js_line *self, bool fatal, const char *text)
{
    bool was_up = self->state == WEIR_LINE_UP, was_good = was_up && self->heard;
    self->state = WEIR_LINE_DOWN;
    self->fatal = fatal;
    snprintf(self->error, sizeof self->error, "%s", text);
    self->failures = was_good && !fatal ? 0 : self->failures + 1;
    int64_t wait_us = self->failures
                          ? weir_retry_wait_us(&self->config.backoff, self->config.nonce,
                                               0, 0, self->failures)
                          : at_once_us;
    self->again_us = weir_clock_now_us() + wait_us;
    if (!self->closing && (was_up || self->failures == 1))
        weir_log(WEIR_WARN, "jetstream connection %s for=%s url=%s error=\"%s\"",
                 was_up ? "lost" : "failed", self->class->name, self->config.shown, text);
    fail_calls(self, text);
    self->class->down(self);
}

static void on_down(void *owner, bool fatal, const char *text)
{
    weir_js_line *self = enter(owner);
    if (self->state != WEIR_LINE_DOWN) fall(self, fatal, text);
    leave(self);
    self->config.wake(self->config.keeper, 0);
}

static void on_acked(void *owner, natsMsg *msg, const jsPubAck *ack,
                     const jsPubAckErr *error)
{
    weir_js_line *self = enter(owner);
    hear(self);
    if (self->state == WEIR_LINE_UP) self->class->acked(self, msg, ack, error);
    leave(self);
}

static void on_message(void *owner, uint64_t token, natsMsg **msg_p)
{
    weir_js_line *self = enter(owner);
    hear(self);
    bool is_up = self->state == WEIR_LINE_UP;
    weir_js_call *call = token && is_up ? take(&self->sent, token) : NULL;
    if (call)
        answer(self, call, &(weir_js_answer){.msg = *msg_p});
    else if (!token && is_up)
        self->class->data(self, msg_p);
    leave(self);
}

/*  Permissions Violation for Publish to "weir.events.0": of a call, a record, or all.  */
static void on_denied(void *owner, const char *text)
{
    weir_js_line *self = enter(owner);
    char subject[256] = "", why[256];
    const char *quote = strchr(text, '"');
    if (quote) sscanf(quote + 1, "%255[^\"]", subject);
    snprintf(why, sizeof why, "authorization: %.200s", text);
    hear(self);
    weir_js_call **at = &self->sent.first;
    while (*at && strcmp((*at)->subject, subject))
        at = &(*at)->next;
    if (*at)
        answer(self, take_at(&self->sent, at),
               &(weir_js_answer){.text = why, .denied = true});
    else if (self->state == WEIR_LINE_UP)
        self->class->denied(self, subject, why);
    leave(self);
}

static const weir_nats_handlers handlers = {
    .up = on_up,
    .pump = on_pump,
    .down = on_down,
    .acked = on_acked,
    .message = on_message,
    .denied = on_denied,
};

/* --- Keeper ------------------------------------------------------------------------ */

static void start(weir_js_line *self)
{
    char text[256];
    weir_nats_session_config config = {
        .url = self->config.url,
        .name = self->config.client,
        .actor = self->config.actor,
        .timeout_us = self->config.timeout_us,
        .first = self->server,
        .plaintext = self->config.plaintext,
        .tls = self->config.tls,
        .handlers = &handlers,
        .owner = self,
    };
    self->state = WEIR_LINE_TRYING;
    self->session = weir_nats_session_start(&config, text);
    if (!self->session) fall(self, false, text);
}

/*  Its thread hangs in an attempt, or has ended. Gives up the mutex meanwhile.       */
static void release(weir_js_line *self, int64_t wait_us)
{
    weir_nats_session *session = self->session;
    self->session = NULL;
    pthread_mutex_unlock(&self->mutex);
    weir_nats_session_release(&session, wait_us);
    pthread_mutex_lock(&self->mutex);
}

static void look_after_attempt(weir_js_line *self, int64_t now_us)
{
    char text[128];
    int64_t deadline_us = weir_nats_session_deadline(self->session);
    if (deadline_us < 0 || now_us < deadline_us + grace_us) return;
    snprintf(text, sizeof text, "no connection in %" PRId64 " ms",
             self->config.timeout_us / 1000);
    self->server = weir_nats_session_server(self->session) + 1;
    fall(self, false, text);
    release(self, 0);
}

static void time_out_calls(weir_js_line *self, weir_js_calls *calls, int64_t now_us)
{
    char text[256];
    snprintf(text, sizeof text, "%.200s: no answer in %" PRId64 " ms", self->config.shown,
             self->config.timeout_us / 1000);
    bool late = false;
    while (calls->first && calls->first->deadline_us <= now_us) {
        answer(self, take_at(calls, &calls->first), &(weir_js_answer){.text = text});
        late = true;
    }
    if (late) weir_js_line_is_late(self, now_us);
}

void weir_js_line_is_late(weir_js_line *self, int64_t now_us)
{
    char text[128];
    if (self->state != WEIR_LINE_UP) return;
    if (now_us - self->heard_us < self->config.timeout_us) return;
    snprintf(text, sizeof text, "the server has said nothing for %" PRId64 " ms",
             self->config.timeout_us / 1000);
    self->server++; // it may be one that has lost its cluster
    weir_js_line_cut(self, text);
}

static int64_t next_due(const weir_js_line *self)
{
    int64_t due_us = -1;
    if (self->asked.first) due_us = self->asked.first->deadline_us;
    if (self->sent.first) due_us = weir_earlier(due_us, self->sent.first->deadline_us);
    if (self->state == WEIR_LINE_DOWN && self->wanted && !self->closing)
        due_us = weir_earlier(due_us, self->again_us);
    if (self->state != WEIR_LINE_TRYING) return due_us;
    int64_t deadline_us = weir_nats_session_deadline(self->session);
    return deadline_us < 0 ? due_us : weir_earlier(due_us, deadline_us + grace_us);
}

int64_t weir_js_line_run(weir_js_line *self)
{
    pthread_mutex_lock(&self->mutex);
    int64_t now_us = weir_clock_now_us();
    if (self->state == WEIR_LINE_DOWN && self->session) release(self, release_us);
    if (self->state == WEIR_LINE_TRYING) look_after_attempt(self, now_us);
    time_out_calls(self, &self->sent, now_us);
    time_out_calls(self, &self->asked, now_us);
    if (self->state == WEIR_LINE_DOWN && self->wanted && !self->closing &&
        now_us >= self->again_us)
        start(self);
    int64_t due_us = next_due(self);
    leave(self);
    return due_us;
}

/* --- Life -------------------------------------------------------------------------- */

void weir_js_line_init(weir_js_line *self, const weir_js_line_class *class,
                       const weir_js_line_config *config)
{
    self->class = class;
    self->config = *config;
    self->asked.end = &self->asked.first;
    self->sent.end = &self->sent.first;
    pthread_mutex_init(&self->mutex, NULL);
}

void weir_js_line_close(weir_js_line *self)
{
    pthread_mutex_lock(&self->mutex);
    self->closing = true;
    self->state = WEIR_LINE_DOWN;
    if (self->session) release(self, release_us);
    fail_calls(self, "it is being closed");
    leave(self);
}

void weir_js_line_fini(weir_js_line *self)
{
    pthread_mutex_destroy(&self->mutex);
}

void weir_js_line_want(weir_js_line *self)
{
    if (self->wanted) return;
    self->wanted = true;
    self->config.wake(self->config.keeper, 0);
}

void weir_js_line_wake(weir_js_line *self)
{
    if (self->state == WEIR_LINE_UP) weir_nats_session_wake(self->session);
}

void weir_js_line_cut(weir_js_line *self, const char *text)
{
    if (self->state == WEIR_LINE_UP) weir_nats_session_cut(self->session, text);
}
