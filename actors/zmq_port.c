#include "actors/zmq_port.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/socket.h"
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const int64_t rebind_wait_us = 20000; // until an endpoint is free again
static const int64_t rebind_longest_us = 5000000;

/* --- Check ------------------------------------------------------------------------- */

static bool is_tcp(const char *endpoint)
{
    return strncmp(endpoint, "tcp:", 4) == 0;
}

static weir_endpoint endpoint_of(const weir_zmq_port_config *config, const char *endpoint)
{
    return (weir_endpoint){
        .endpoint = endpoint, .plaintext = config->plaintext, .server = config->server};
}

static weir_err check_one(const weir_zmq_port_config *config, const char *text,
                          bool listens, weir_report *report)
{
    weir_report cause = {0};
    weir_endpoint endpoint = endpoint_of(config, text);
    const char *option = listens ? "listen" : "connect";
    weir_err err = weir_endpoint_check(&endpoint, listens, &cause);
    if (err) return weir_report_set(report, err, option, "%s: %s", text, cause.text);
    if (weir_endpoint_is_foreign(text)) return WEIR_OK;
    return weir_report_set(
        report, WEIR_EINVAL, option,
        "%s: expected tcp:// or ipc://; in the process there are `from` "
        "and links",
        text);
}

weir_err weir_zmq_port_check(const weir_zmq_port_config *config, weir_report *report)
{
    const weir_texts *connect = &config->connect;
    if (!config->listen == !connect->count)
        return weir_report_set(report, WEIR_EINVAL, "listen",
                               "give either `listen` or `connect`");
    if (config->listen) return check_one(config, config->listen, true, report);
    for (size_t i = 0; i < connect->count; i++) {
        weir_err err = check_one(config, connect->items[i], false, report);
        if (err) return err;
        if (is_tcp(connect->items[i]) != is_tcp(connect->items[0]))
            return weir_report_set(report, WEIR_EINVAL, "connect",
                                   "tcp:// and ipc:// need a node each");
    }
    return WEIR_OK;
}

/* --- Open and close ---------------------------------------------------------------- */

bool weir_zmq_port_knows_peers(const weir_zmq_port *self)
{
    const weir_zmq_port_config *c = self->config;
    return c->listen && !c->plaintext && is_tcp(c->listen);
}

static weir_err open_socket(weir_zmq_port *self, const char *where, weir_report *report)
{
    const weir_zmq_port_config *c = self->config;
    bool listens = c->listen != NULL;
    weir_endpoint endpoint = endpoint_of(c, where);
    endpoint.realm = weir_actor_node(self->kit)->realm;
    endpoint.role = self->role;
    endpoint.send_hwm = self->send_hwm;
    self->handle =
        weir_socket_raw(self->type, &endpoint, listens, (int)c->hwm, true, report);
    if (!self->handle) return report->err ? report->err : WEIR_ESYS;
    if (self->setup) self->setup(self->arg, self->handle);
    for (size_t i = 1; i < c->connect.count; i++) {
        endpoint.endpoint = c->connect.items[i];
        weir_err err = weir_socket_connect_raw(self->handle, &endpoint, report);
        if (err) return err;
    }
    if (listens) weir_socket_bound(self->handle, self->endpoint);
    return WEIR_OK;
}

static weir_err watch_revocations(weir_zmq_port *self, weir_report *report)
{
    if (!weir_zmq_port_knows_peers(self)) return WEIR_OK;
    self->revoked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->revoked_fd < 0 ||
        weir_actor_watch(self->kit, self->revoked_fd, self->revoked))
        return weir_report_set(report, WEIR_ESYS, NULL, "cannot make an event: %s",
                               strerror(errno));
    weir_realm_watch(weir_actor_node(self->kit)->realm, self->revoked_fd);
    return WEIR_OK;
}

weir_err weir_zmq_port_open(weir_zmq_port *self, weir_report *report)
{
    const weir_zmq_port_config *c = self->config;
    const char *where = c->listen ? c->listen : c->connect.items[0];
    self->revoked_fd = -1;
    snprintf(self->endpoint, sizeof self->endpoint, "%s", where);
    weir_err err = open_socket(self, where, report);
    if (!err) err = watch_revocations(self, report);
    if (err) return err;
    if (c->listen) weir_vitals_set_endpoint(weir_actor_vitals(self->kit), self->endpoint);
    weir_endpoint_warn(
        &(weir_endpoint){.endpoint = self->endpoint, .plaintext = c->plaintext});
    weir_log(WEIR_INFO, "%s endpoint=%s", c->listen ? "listening" : "connecting",
             self->endpoint);
    return WEIR_OK;
}

static void stop_watching(weir_zmq_port *self)
{
    int fd = -1;
    size_t size = sizeof fd;
    if (!self->watched) return;
    self->watched = false;
    zmq_getsockopt(self->handle, ZMQ_FD, &fd, &size);
    weir_actor_unwatch(self->kit, fd);
}

static void close_socket(weir_zmq_port *self)
{
    if (!self->handle) return;
    stop_watching(self);
    zmq_close(self->handle);
    self->handle = NULL;
}

void weir_zmq_port_close(weir_zmq_port *self)
{
    if (!self->kit) return;
    close_socket(self);
    if (self->revoked_fd < 0) return;
    weir_realm_unwatch(weir_actor_node(self->kit)->realm, self->revoked_fd);
    weir_actor_unwatch(self->kit, self->revoked_fd);
    close(self->revoked_fd);
    self->revoked_fd = -1;
}

/* --- Waiting ----------------------------------------------------------------------- */

/*  The descriptor is readable while libzmq has news that nobody has asked for, and not
    while an event lasts: so the events are asked for first. It stays readable until then,
    so the watch ends with the first call.                                      */
bool weir_zmq_port_wait(weir_zmq_port *self, int events)
{
    int fd = -1, present = 0;
    size_t size = sizeof fd;
    if (!self->handle || zmq_getsockopt(self->handle, ZMQ_EVENTS, &present, &size))
        return false;
    if (present & events) return true;
    if (self->watched) return false;
    zmq_getsockopt(self->handle, ZMQ_FD, &fd, &size);
    self->watched = weir_actor_watch(self->kit, fd, self->ready) == WEIR_OK;
    if (!self->watched)
        weir_actor_fail(self->kit, WEIR_ESYS, self->endpoint, "cannot wait: %s",
                        strerror(errno));
    return false;
}

void weir_zmq_port_woken(weir_zmq_port *self)
{
    stop_watching(self);
}

void weir_zmq_port_sent(weir_zmq_port *self)
{
    weir_actor_timer(self->kit, self->ready, 0);
}

void weir_zmq_port_unbind(weir_zmq_port *self)
{
    if (self->handle && self->config->listen) zmq_unbind(self->handle, self->endpoint);
}

/* --- Revocation -------------------------------------------------------------------- */

void weir_zmq_port_revoked(weir_zmq_port *self)
{
    eventfd_read(self->revoked_fd, &(eventfd_t){0});
    self->stale = true;
    self->stale_us = weir_clock_now_us();
}

/*  libzmq lets go of an endpoint a little later than it says.                    */
bool weir_zmq_port_renew(weir_zmq_port *self)
{
    weir_report report = {0};
    weir_zmq_port_unbind(self);
    close_socket(self);
    if (open_socket(self, self->endpoint, &report) == WEIR_OK) {
        self->stale = false;
        weir_log(WEIR_INFO, "listening again endpoint=%s", self->endpoint);
        return true;
    }
    if (weir_clock_now_us() - self->stale_us < rebind_longest_us)
        weir_actor_timer(self->kit, self->ready, rebind_wait_us);
    else
        weir_actor_fail(self->kit, report.err, report.where, "%s", report.text);
    return false;
}
