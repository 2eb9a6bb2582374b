#include "runtime/monitor.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/metrics.h"

const weir_monitor_config weir_monitor_defaults = {.listen = "127.0.0.1:9464"};

#define AT(field) offsetof(weir_monitor_config, field)

const weir_option weir_monitor_options[] = {
    {"listen", WEIR_OPTION_TEXT, AT(listen), 0, 0, NULL, false,
     "where it listens, as ADDRESS:PORT or [ADDRESS]:PORT; port 0: any free one, which "
     "is logged"},
    {"plaintext", WEIR_OPTION_BOOL, AT(plaintext), 0, 0, NULL, false,
     "lets it listen at other addresses than loopback without TLS"},
    {"tls.cert", WEIR_OPTION_PATH, AT(cert), 0, 0, NULL, false,
     "its certificate and what that rests on, PEM; read at the start"},
    {"tls.key", WEIR_OPTION_PATH, AT(key), 0, 0, NULL, false,
     "its secret key, PEM; only its owner may have access"},
    {.name = NULL},
};

/*  Above CONNECTIONS a new one is let in only when one that is too slow has been cut;
    those that are being cut still count for MHD.                              */
#define CONNECTIONS 32
#define SLOTS (2 * CONNECTIONS)
static const unsigned request_s = 10;       // for one request, from the connection on
static const size_t request_memory = 16384; // its headers, and those of the answer
static const off_t pem_max = 1 << 20;

typedef struct {
    int fd; // -1: free
    int64_t since_us;
} guest;

struct weir_monitor {
    weir_view view;
    _Atomic int phase; // weir_phase
    struct MHD_Daemon *daemon;
    char *cert, *key;    // texts, owned
    char address[96];    // "http://127.0.0.1:9464"
    char complaint[200]; // the last line of MHD's log, for a start that fails
    guest guests[SLOTS]; // of the daemon's thread
};

/* --- Address ----------------------------------------------------------------------- */

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

static bool parse_port(const char *text, in_port_t *port)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    unsigned long number = strtoul(text, &end, 10);
    *port = htons((in_port_t)number);
    return *end == 0 && number <= 65535;
}

/*  "127.0.0.1:9464" or "[::1]:9464".                                          */
static bool parse_address(const char *text, address *result)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t size = colon ? (size_t)(colon - text) : 0;
    if (size == 0 || size >= sizeof host) return false;
    memcpy(host, text, size);
    host[size] = 0;
    *result = (address){0};
    if (host[0] != '[') {
        result->v4.sin_family = AF_INET;
        return inet_pton(AF_INET, host, &result->v4.sin_addr) == 1 &&
               parse_port(colon + 1, &result->v4.sin_port);
    }
    if (host[size - 1] != ']') return false;
    host[size - 1] = 0;
    result->v6.sin6_family = AF_INET6;
    return inet_pton(AF_INET6, host + 1, &result->v6.sin6_addr) == 1 &&
           parse_port(colon + 1, &result->v6.sin6_port);
}

static bool is_loopback(const address *self)
{
    if (self->any.sa_family == AF_INET)
        return ntohl(self->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    const struct in6_addr *v6 = &self->v6.sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) ||
           (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == IN_LOOPBACKNET);
}

weir_err weir_monitor_check(const weir_monitor_config *config, weir_report *report)
{
    address at;
    if (!parse_address(config->listen, &at))
        return weir_report_set(report, WEIR_EINVAL, "listen",
                               "'%.80s' is no address such as '127.0.0.1:9464' or "
                               "'[::1]:9464'",
                               config->listen);
    if (!config->cert != !config->key)
        return weir_report_set(report, WEIR_EINVAL, config->cert ? "tls.cert" : "tls.key",
                               "tls takes cert and key, both");
    if (!is_loopback(&at) && !config->cert && !config->plaintext)
        return weir_report_set(report, WEIR_EINVAL, "listen",
                               "'%.80s' is not loopback: give tls = { cert = .., key = "
                               ".. }, or plaintext = true when the network is trusted",
                               config->listen);
    return WEIR_OK;
}

/*  A socket of our own: MHD would not say why it cannot listen.               */
static int open_socket(const address *at, weir_report *report)
{
    bool v6 = at->any.sa_family == AF_INET6;
    int yes = 1;
    int fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool good = fd >= 0;
    good = good && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (v6) good = good && !setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    good = good && !bind(fd, &at->any, v6 ? sizeof at->v6 : sizeof at->v4);
    good = good && !listen(fd, CONNECTIONS);
    if (good) return fd;
    weir_report_set(report, WEIR_ESYS, NULL, "cannot listen: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

static void name_address(weir_monitor *self, int fd)
{
    address at = {0};
    char host[INET6_ADDRSTRLEN] = "";
    const char *scheme = self->cert ? "https" : "http";
    getsockname(fd, &at.any, &(socklen_t){sizeof at});
    bool v6 = at.any.sa_family == AF_INET6;
    const void *bytes = v6 ? (const void *)&at.v6.sin6_addr : &at.v4.sin_addr;
    inet_ntop(at.any.sa_family, bytes, host, sizeof host);
    snprintf(self->address, sizeof self->address, v6 ? "%s://[%s]:%d" : "%s://%s:%d",
             scheme, host, ntohs(v6 ? at.v6.sin6_port : at.v4.sin_port));
}

/* --- Pages ------------------------------------------------------------------------- */

typedef struct {
    const char *path, *type;
    unsigned (*put)(const weir_view *view, weir_buffer *out); // gives the status
} page;

static unsigned put_metrics(const weir_view *view, weir_buffer *out)
{
    weir_metrics_put(view, out);
    return MHD_HTTP_OK;
}

static unsigned put_health(const weir_view *view, weir_buffer *out)
{
    weir_health_put(view, out);
    return weir_health_worst(view) == WEIR_HEALTH_OK ? MHD_HTTP_OK
                                                     : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned put_ready(const weir_view *view, weir_buffer *out)
{
    weir_health_put(view, out);
    return weir_health_is_ready(view) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned put_index(const weir_view *view, weir_buffer *out)
{
    (void)view;
    weir_buffer_put_text(out, "<!doctype html><title>Weir</title><h1>Weir</h1><ul>"
                              "<li><a href=\"/metrics\">metrics</a>"
                              "<li><a href=\"/health\">health</a>"
                              "<li><a href=\"/ready\">ready</a></ul>\n");
    return MHD_HTTP_OK;
}

static const page pages[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", put_metrics},
    {"/health", "application/json", put_health},
    {"/ready", "application/json", put_ready},
    {"/", "text/html; charset=utf-8", put_index},
    {.path = NULL},
};

/* --- Requests: in the daemon's thread ----------------------------------------------- */

/*  Takes the body. One request a connection, so that its age is the request's.  */
static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status,
                             const char *type, weir_buffer *body)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body->size, body->data, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        weir_buffer_fini(body);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status,
                              const char *text)
{
    weir_buffer body = {0};
    weir_buffer_put_text(&body, text);
    return reply(connection, status, "text/plain; charset=utf-8", &body);
}

static bool has_body(struct MHD_Connection *connection)
{
    const char *size = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                   MHD_HTTP_HEADER_CONTENT_LENGTH);
    return (size && strcmp(size, "0")) ||
           MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                       MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *connection,
                              const char *path, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **state)
{
    weir_monitor *self = arg;
    (void)version, (void)upload, (void)upload_size, (void)state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    if (has_body(connection))
        return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "no body is taken\n");
    const page *found = pages;
    while (found->path && strcmp(found->path, path))
        found++;
    if (!found->path)
        return refuse(connection, MHD_HTTP_NOT_FOUND, "see / for what there is\n");
    weir_view view = self->view;
    view.phase = (weir_phase)self->phase;
    weir_buffer body = {0};
    unsigned status = found->put(&view, &body);
    return reply(connection, status, found->type, &body);
}

static bool has_hung_up(int fd)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLRDHUP}, 1, 0) > 0;
}

/*  Cuts who is too slow, or has gone in the middle of a request.              */
static void make_room(weir_monitor *self)
{
    int64_t now_us = weir_clock_now_us();
    for (size_t i = 0; i < SLOTS; i++) {
        guest *g = &self->guests[i];
        bool slow = g->fd >= 0 && now_us - g->since_us >= request_s * 1000000;
        if (slow || (g->fd >= 0 && has_hung_up(g->fd))) shutdown(g->fd, SHUT_RDWR);
    }
}

/*  MHD's own time-out is one of silence: a client that sends a byte now and then would
    keep its place for hours.                                                  */
static enum MHD_Result admit(void *arg, const struct sockaddr *peer, socklen_t size)
{
    weir_monitor *self = arg;
    (void)peer, (void)size;
    size_t count = 0;
    for (size_t i = 0; i < SLOTS; i++)
        count += self->guests[i].fd >= 0;
    if (count < CONNECTIONS) return MHD_YES;
    make_room(self);
    return MHD_NO;
}

static void note_guest(void *arg, struct MHD_Connection *connection, void **slot,
                       enum MHD_ConnectionNotificationCode event)
{
    weir_monitor *self = arg;
    guest *g = *slot;
    if (event == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (g) g->fd = -1;
        return;
    }
    for (g = self->guests; g < self->guests + SLOTS && g->fd >= 0;)
        g++;
    if (g == self->guests + SLOTS) return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *g = (guest){info ? info->connect_fd : -1, weir_clock_now_us()};
    *slot = g;
}

/*  What garbage makes MHD say is for those who look for it.                   */
static void note_complaint(void *arg, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void note_complaint(void *arg, const char *format, va_list arguments)
{
    weir_monitor *self = arg;
    char text[sizeof self->complaint];
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\r\n")] = 0;
    weir_log(WEIR_DEBUG, "monitor http=\"%s\"", text);
    if (!self->daemon) memcpy(self->complaint, text, sizeof text);
}

/* --- Life -------------------------------------------------------------------------- */

static weir_err read_pem(char **text, const char *path, bool secret, weir_report *report)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && fstat(fd, &status) == 0;
    if (good && secret && status.st_mode & 077) {
        close(fd);
        return weir_report_set(report, WEIR_EREFUSED, path,
                               "others may read this secret: chmod 600 %s", path);
    }
    bool fits = good && status.st_size > 0 && status.st_size <= pem_max;
    size_t size = fits ? (size_t)status.st_size : 0;
    *text = calloc(1, size + 1);
    if (!*text) abort();
    good = fits && read(fd, *text, size) == (ssize_t)size;
    const char *cause = fd < 0 ? strerror(errno) : "empty, larger than 1MB, or no file";
    if (!good)
        weir_report_set(report, WEIR_ESYS, path, "cannot read %s: %s", path, cause);
    if (fd >= 0) close(fd);
    return good ? WEIR_OK : WEIR_ESYS;
}

static weir_err read_pems(weir_monitor *self, const weir_monitor_config *config,
                          weir_report *report)
{
    if (!config->cert) return WEIR_OK;
    weir_err err = read_pem(&self->cert, config->cert, false, report);
    return err ? err : read_pem(&self->key, config->key, true, report);
}

static weir_err start_daemon(weir_monitor *self, int fd, weir_report *report)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG | MHD_USE_ITC;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, self->cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, self->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL},
    };
    if (self->cert)
        flags |= MHD_USE_TLS;
    else
        tls[0].option = MHD_OPTION_END;
    self->daemon = MHD_start_daemon(
        flags, 0, admit, self, answer, self, MHD_OPTION_EXTERNAL_LOGGER, note_complaint,
        self, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, SLOTS,
        MHD_OPTION_CONNECTION_TIMEOUT, request_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        request_memory, MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)1024,
        MHD_OPTION_NOTIFY_CONNECTION, note_guest, self, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (self->daemon) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, NULL, "cannot serve HTTP: %s",
                           *self->complaint ? self->complaint : "no thread or memory");
}

static weir_err open_monitor(weir_monitor *self, const weir_monitor_config *config,
                             weir_report *report)
{
    address at;
    weir_err err = weir_monitor_check(config, report);
    if (!err) err = read_pems(self, config, report);
    if (err) return err;
    parse_address(config->listen, &at);
    int fd = open_socket(&at, report);
    if (fd < 0) return WEIR_ESYS;
    name_address(self, fd);
    err = start_daemon(self, fd, report);
    if (err) return err;
    weir_log(WEIR_INFO, "monitor listening at=%s", self->address);
    if (!self->cert && !is_loopback(&at))
        weir_log(WEIR_WARN, "monitor is readable by the network, without TLS at=%s",
                 self->address);
    return WEIR_OK;
}

weir_err weir_monitor_new(weir_monitor **self_p, const weir_monitor_config *config,
                          const weir_view *view, weir_report *report)
{
    char text[sizeof report->text];
    weir_monitor *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->view = *view;
    self->phase = view->phase;
    for (size_t i = 0; i < SLOTS; i++)
        self->guests[i].fd = -1;
    weir_report cause = {0};
    weir_err err = open_monitor(self, config, &cause);
    *self_p = self;
    if (!err) return WEIR_OK;
    weir_monitor_destroy(self_p);
    snprintf(text, sizeof text, "monitor at %.80s: %.400s", config->listen, cause.text);
    return weir_report_set(report, err, cause.where, "%s", text);
}

void weir_monitor_set_phase(weir_monitor *self, weir_phase phase)
{
    self->phase = phase;
}

const char *weir_monitor_address(const weir_monitor *self)
{
    return self->address;
}

/*  A secret does not stay in freed memory.                                    */
static void forget(char *secret)
{
    if (secret) explicit_bzero(secret, strlen(secret));
    free(secret);
}

void weir_monitor_destroy(weir_monitor **self_p)
{
    weir_monitor *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (self->daemon) MHD_stop_daemon(self->daemon);
    free(self->cert);
    forget(self->key);
    free(self);
}
