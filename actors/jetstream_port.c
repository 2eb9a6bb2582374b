#include "actors/jetstream_port.h"
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "runtime/clock.h"

/* --- Options ----------------------------------------------------------------------- */

weir_err weir_js_port_check(const weir_js_port_config *config, weir_report *report)
{
    weir_nats_servers servers = {0};
    weir_report cause = {0};
    if (!config->url) return weir_report_set(report, WEIR_EINVAL, "url", "is required");
    weir_err err = weir_nats_servers_parse(&servers, config->url, &cause);
    if (!err)
        err = weir_nats_servers_check(&servers, config->tls, config->plaintext, &cause);
    weir_nats_servers_fini(&servers);
    if (err) return weir_report_set(report, err, "url", "%s", cause.text);
    if (config->retry_first_us > config->retry_max_us)
        return weir_report_set(report, WEIR_EINVAL, "retry.first",
                               "is more than retry.max");
    return WEIR_OK;
}

int64_t weir_js_port_wait_us(const weir_js_port *self, unsigned attempt)
{
    return weir_retry_wait_us(&self->line.config.backoff, self->line.config.nonce, 0, 0,
                              attempt);
}

/* --- Waking ------------------------------------------------------------------------ */

void weir_js_port_wake(weir_js_port *self)
{
    if (!atomic_exchange(&self->woken, true)) eventfd_write(self->wake, 1);
}

/*  The line's: whenever something is due sooner. A look too many does no harm.       */
static void wake_keeper(void *keeper, int64_t due_us)
{
    (void)due_us;
    weir_js_port_wake(keeper);
}

static weir_js_port *port_of(void *actor)
{
    return actor; // it begins with its port
}

/*  The actor's turn follows.                                                       */
static void woken(void *arg)
{
    weir_js_port *self = port_of(arg);
    eventfd_read(self->wake, &(eventfd_t){0});
}

static void nothing(void *arg)
{
    (void)arg;
}

/* --- Life -------------------------------------------------------------------------- */

static void set_up_line(weir_js_port *self, const char *name,
                        const weir_js_line_class *class)
{
    weir_js_line_config config = {
        .url = self->config->url,
        .client = self->client,
        .actor = name,
        .shown = self->servers.text,
        .timeout_us = self->config->timeout_us,
        .backoff = {.first_us = self->config->retry_first_us,
                    .max_us = self->config->retry_max_us},
        .plaintext = self->config->plaintext,
        .tls = self->config->tls,
        .wake = wake_keeper,
        .keeper = self,
    };
    randombytes_buf(&config.nonce, sizeof config.nonce);
    weir_js_line_init(&self->line, class, &config);
    self->line.wanted = true;
}

weir_err weir_js_port_open(weir_js_port *self, weir_actor *kit, const char *name,
                           const weir_js_line_class *class,
                           const weir_js_port_config *config, weir_report *report)
{
    self->kit = kit;
    self->config = config;
    self->wake = -1;
    weir_err err = weir_nats_servers_parse(&self->servers, config->url, report);
    if (err) return err;
    snprintf(self->client, sizeof self->client, "weir %s", name);
    weir_nats_open();
    set_up_line(self, name, class);
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake >= 0 && (!kit || !weir_actor_watch(kit, self->wake, woken)))
        return WEIR_OK;
    return weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
}

void weir_js_port_close(weir_js_port *self)
{
    if (!self->line.class) return;
    weir_js_line_close(&self->line);
    weir_js_line_fini(&self->line);
    if (self->wake >= 0 && self->kit) weir_actor_unwatch(self->kit, self->wake);
    if (self->wake >= 0) close(self->wake);
    weir_nats_servers_fini(&self->servers);
    nats_ReleaseThreadMemory();
    *self = (weir_js_port){.wake = -1};
}

/* --- Running ----------------------------------------------------------------------- */

/*  What wakes the actor from here on is looked at in a turn of its own.             */
void weir_js_port_run(weir_js_port *self)
{
    atomic_store(&self->woken, false);
    self->due_us = weir_js_line_run(&self->line);
}

void weir_js_port_sleep(weir_js_port *self, int64_t due_us)
{
    due_us = weir_earlier(due_us, self->due_us);
    int64_t wait_us = due_us < 0 ? -1 : due_us - weir_clock_now_us();
    weir_actor_timer(self->kit, nothing, due_us >= 0 && wait_us < 0 ? 0 : wait_us);
}

/* --- Trouble ----------------------------------------------------------------------- */

void weir_js_port_trouble(weir_js_port *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(self->trouble, sizeof self->trouble, format, args);
    va_end(args);
}

void weir_js_port_calm(weir_js_port *self)
{
    self->trouble[0] = '\0';
}

void weir_js_port_tell(weir_js_port *self, weir_wait_kind kind)
{
    char now[sizeof self->told];
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    pthread_mutex_lock(&self->line.mutex);
    memcpy(now, self->trouble, sizeof now);
    pthread_mutex_unlock(&self->line.mutex);
    if (streq(now, self->told)) return;
    if (*now)
        weir_vitals_wait(vitals, kind, self->servers.text, "%s", now);
    else
        weir_vitals_flow(vitals, kind, self->servers.text);
    memcpy(self->told, now, sizeof now);
}

/* --- Questions before it runs ------------------------------------------------------ */

static weir_js_asker *asker_of(weir_js_line *line)
{
    return (weir_js_asker *)line;
}

static void ask_up(weir_js_line *line)
{
    (void)line;
}

static void ask_down(weir_js_line *line)
{
    snprintf(asker_of(line)->why, sizeof line->error, "%s", line->error);
}

static bool ask_pump(weir_js_line *line)
{
    weir_js_line_send_calls(line);
    return false;
}

static void ask_data(weir_js_line *line, natsMsg **msg_p)
{
    (void)line, (void)msg_p;
}

static void ask_denied(weir_js_line *line, const char *subject, const char *text)
{
    (void)line, (void)subject, (void)text;
}

static const weir_js_line_class asker_class = {
    .name = "asking",
    .up = ask_up,
    .down = ask_down,
    .pump = ask_pump,
    .data = ask_data,
    .denied = ask_denied,
    .tell = ask_up,
};

weir_err weir_js_asker_open(weir_js_asker *self, const weir_js_port_config *config,
                            int64_t timeout_us, weir_report *report)
{
    *self = (weir_js_asker){.deadline_us = weir_clock_now_us() + timeout_us};
    return weir_js_port_open(&self->port, NULL, "check", &asker_class, config, report);
}

void weir_js_asker_close(weir_js_asker *self)
{
    weir_js_port_close(&self->port);
    weir_js_response_fini(&self->response);
}

static void on_answer(weir_js_line *line, void *arg, uint64_t token,
                      const weir_js_answer *answer)
{
    (void)arg, (void)token;
    weir_js_asker *self = asker_of(line);
    self->answered = true;
    self->denied = answer->denied;
    snprintf(self->why, sizeof self->why, "%s", answer->msg ? "" : answer->text);
    if (answer->msg) weir_js_response_read(&self->response, answer->msg);
    weir_js_port_wake(&self->port);
}

/*  False: there is no answer, and why says why.                                     */
static bool wait_for_answer(weir_js_asker *self)
{
    weir_js_line *line = &self->port.line;
    for (;;) {
        struct pollfd fd = {.fd = self->port.wake, .events = POLLIN};
        weir_js_port_run(&self->port);
        pthread_mutex_lock(&line->mutex);
        bool answered = self->answered;
        self->fatal = line->fatal;
        bool over = answered || (line->state == WEIR_LINE_DOWN && line->failures);
        pthread_mutex_unlock(&line->mutex);
        if (over) return answered && !self->why[0];
        if (weir_clock_now_us() >= self->deadline_us) break;
        poll(&fd, 1,
             weir_clock_timeout_ms(weir_earlier(self->port.due_us, self->deadline_us)));
        eventfd_read(self->port.wake, &(eventfd_t){0});
    }
    snprintf(self->why, sizeof self->why, "no answer in time");
    return false;
}

weir_err weir_js_ask_now(weir_js_asker *self, const char *what, const char *stream,
                         const char *more, weir_report *report)
{
    weir_js_line *line = &self->port.line;
    char subject[2 * WEIR_JS_NAME];
    weir_js_ask(subject, what, stream, more);
    pthread_mutex_lock(&line->mutex);
    self->answered = self->denied = false;
    self->why[0] = '\0';
    weir_js_line_call(line, subject, NULL, on_answer, NULL);
    pthread_mutex_unlock(&line->mutex);
    if (wait_for_answer(self)) return WEIR_OK;
    return weir_report_set(report,
                           self->fatal || self->denied ? WEIR_EREFUSED : WEIR_ECLOSED,
                           self->port.servers.text, "%s", self->why);
}
