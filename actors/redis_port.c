#include "actors/redis_port.h"
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "runtime/clock.h"

enum { events_max = 64 };

const char *const weir_redis_forever_word[] = {"forever", NULL};

/* --- The server -------------------------------------------------------------------- */

weir_err weir_redis_server_may_be_at(const weir_redis_server *config,
                                     const weir_redis_url *url, weir_report *report)
{
    if (config->plaintext || weir_redis_url_is_local(url)) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, "url",
                           "%s is not on this host, and there is no TLS to redis: "
                           "plaintext = true allows it",
                           url->shown);
}

static weir_err parse(const weir_redis_server *config, weir_redis_url *url,
                      weir_report *report)
{
    weir_err err = weir_redis_url_parse(url, config->url, report);
    if (err) return err;
    err = weir_redis_server_may_be_at(config, url, report);
    if (err) weir_redis_url_fini(url);
    return err;
}

weir_err weir_redis_server_check(const weir_redis_server *config, weir_report *report)
{
    weir_redis_url url;
    if (config->wait.first_us > config->wait.max_us)
        return weir_report_set(report, WEIR_EINVAL, "retry.first", "is above retry.max");
    weir_err err = parse(config, &url, report);
    if (!err) weir_redis_url_fini(&url);
    return err;
}

/* --- Life -------------------------------------------------------------------------- */

weir_err weir_redis_port_open(weir_redis_port *self, weir_report *report)
{
    self->epoll_fd = -1;
    self->open = true;
    weir_err err = parse(self->config, &self->url, report);
    if (err) return err;
    randombytes_buf(&self->nonce, sizeof self->nonce);
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll_fd < 0 || weir_actor_watch(self->kit, self->epoll_fd, self->ready))
        return weir_report_set(report, WEIR_ESYS, "url", "no descriptors left: %s",
                               strerror(errno));
    return WEIR_OK;
}

void weir_redis_port_close(weir_redis_port *self)
{
    if (!self->open) return;
    for (weir_redis_line *line; (line = self->lines);)
        weir_redis_port_hang_up(self, &line);
    if (self->epoll_fd >= 0) {
        weir_actor_unwatch(self->kit, self->epoll_fd);
        close(self->epoll_fd);
    }
    weir_redis_url_fini(&self->url);
    self->open = false;
}

/* --- Lines ------------------------------------------------------------------------- */

static bool find_url(const weir_redis_port *self, const char *host, uint16_t port,
                     weir_redis_url *url)
{
    size_t count = 0;
    weir_report report = {0};
    for (const weir_redis_line *line = self->lines; line; line = line->next)
        count++;
    if (count >= WEIR_REDIS_LINES_MAX) return false;
    if (!host) return !weir_redis_url_parse(url, self->config->url, &report);
    weir_redis_url_at(url, &self->url, host, port);
    if (!weir_redis_server_may_be_at(self->config, url, &report)) return true;
    weir_redis_url_fini(url);
    return false;
}

weir_redis_line *weir_redis_port_dial(weir_redis_port *self, const char *host,
                                      uint16_t port, const weir_redis_call_back *back)
{
    weir_redis_url url;
    if (!find_url(self, host, port, &url)) return NULL;
    weir_redis_line *line = calloc(1, sizeof *line);
    if (!line) abort();
    line->url = url;
    line->next = self->lines;
    self->lines = line;
    weir_redis_conn_config config = {.url = &line->url,
                                     .name = back->name,
                                     .timeout_us = self->config->timeout_us,
                                     .nonce = self->nonce,
                                     .wait = self->config->wait,
                                     .opened = back->opened,
                                     .ended = back->ended,
                                     .arg = back->arg};
    line->conn = weir_redis_conn_new(&config);
    return line;
}

void weir_redis_port_hang_up(weir_redis_port *self, weir_redis_line **line_p)
{
    weir_redis_line *line = *line_p, **at = &self->lines;
    if (!line) return;
    while (*at != line)
        at = &(*at)->next;
    *at = line->next;
    weir_redis_conn_destroy(&line->conn);
    weir_redis_url_fini(&line->url);
    free(line);
    *line_p = NULL;
}

bool weir_redis_port_gives_up(weir_redis_port *self, const weir_redis_line *line)
{
    bool fatal;
    const char *error = weir_redis_conn_error(line->conn, &fatal);
    int64_t attempts = self->config->attempts;
    if (!fatal && (attempts == WEIR_FOREVER ||
                   weir_redis_conn_failures(line->conn) < (uint64_t)attempts))
        return false;
    weir_actor_fail(self->kit, fatal ? WEIR_EREFUSED : WEIR_ETIMEOUT, line->url.shown,
                    "%s", error);
    return true;
}

/* --- Running ----------------------------------------------------------------------- */

/*  A descriptor that was closed has left by itself, and another one may have its number.
 */
static void watch(const weir_redis_port *self, weir_redis_line *line)
{
    int fd = weir_redis_conn_fd(line->conn);
    struct epoll_event event = {.events = (uint32_t)weir_redis_conn_events(line->conn),
                                .data.ptr = line};
    if (fd < 0) return;
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_MOD, fd, &event) && errno == ENOENT)
        epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static bool run_lines(weir_redis_port *self)
{
    struct epoll_event events[events_max];
    int count = epoll_wait(self->epoll_fd, events, events_max, 0);
    for (int i = 0; i < count; i++) {
        weir_redis_line *line = events[i].data.ptr;
        weir_redis_conn_run(line->conn, (short)events[i].events);
    }
    return count > 0;
}

bool weir_redis_port_run(weir_redis_port *self)
{
    int64_t due = -1;
    bool came = run_lines(self);
    for (weir_redis_line *line = self->lines; line; line = line->next) {
        weir_redis_conn_run(line->conn, 0);
        watch(self, line);
        due = weir_earlier(due, weir_redis_conn_deadline(line->conn));
    }
    int64_t wait = due < 0 ? -1 : due - weir_clock_now_us();
    weir_actor_timer(self->kit, self->ready, due < 0 ? -1 : wait > 0 ? wait : 0);
    return came;
}
