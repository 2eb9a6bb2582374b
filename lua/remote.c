#include "lua/remote.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>
#include "lua/keys.h"
#include "runtime/clock.h"
#include "runtime/nearest.h"
#include "runtime/rundir.h"
#include "runtime/socket.h"

static const int64_t default_timeout_us = 3000000;

struct weir_remote {
    weir_realm *realm;
    void *socket;
    char name[192]; // of the weir, or the endpoint: for complaints
    bool local;
    char server[64];
    int64_t timeout_us;
    unsigned number;    // of the last request
    zmq_msg_t body;     // of the last answer
    weir_look_doc look; // into body
};

/* --- Who runs ---------------------------------------------------------------------- */

/*  A socket that nobody listens on was left behind.                           */
static bool is_alive(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return true;
    memcpy(address.sun_path, path, strnlen(path, sizeof address.sun_path - 1));
    bool alive = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ||
                 errno == EAGAIN || errno == EINPROGRESS;
    close(fd);
    return alive;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_socket_of(const char *folder, const char *file, char name[64])
{
    char path[WEIR_IPC_PATH_MAX];
    size_t size = strlen(file);
    if (size <= 5 || size >= 69 || strcmp(file + size - 5, ".sock")) return false;
    snprintf(name, 64, "%.*s", (int)size - 5, file);
    return weir_rundir_socket(folder, name, path, NULL) == WEIR_OK && is_alive(path);
}

void weir_remote_names(weir_texts *names)
{
    char folder[PATH_MAX], name[64];
    weir_rundir_path(folder);
    DIR *list = opendir(folder);
    for (struct dirent *entry; list && (entry = readdir(list));)
        if (is_socket_of(folder, entry->d_name, name)) weir_texts_add(names, name);
    if (list) closedir(list);
    if (names->count)
        qsort(names->items, names->count, sizeof *names->items, compare_texts);
}

void weir_remote_free_names(weir_texts *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
    *names = (weir_texts){0};
}

/* --- Connecting -------------------------------------------------------------------- */

static weir_remote *new_remote(const char *name)
{
    weir_remote *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->timeout_us = default_timeout_us;
    snprintf(self->name, sizeof self->name, "%s", name);
    zmq_msg_init(&self->body);
    return self;
}

static weir_err connect_to(weir_remote *self, const char *keys,
                           const weir_endpoint *endpoint, weir_report *report)
{
    weir_endpoint own = *endpoint;
    weir_socket_prepare();
    weir_err err = weir_realm_new(&self->realm, keys, report);
    if (err) return err;
    own.realm = self->realm;
    self->socket = weir_socket_raw(ZMQ_DEALER, &own, false, 0, false, report);
    return self->socket ? WEIR_OK : report->err;
}

weir_err weir_remote_open_name(weir_remote **self_p, const char *name,
                               weir_report *report)
{
    char folder[PATH_MAX], path[WEIR_IPC_PATH_MAX], endpoint[WEIR_IPC_PATH_MAX + 8];
    weir_remote *self = *self_p = new_remote(name);
    weir_rundir_path(folder);
    self->local = true;
    weir_err err = weir_rundir_socket(folder, name, path, report);
    if (err) return err;
    snprintf(endpoint, sizeof endpoint, "ipc://%s", path);
    return connect_to(self, NULL, &(weir_endpoint){.endpoint = endpoint}, report);
}

static weir_err open_control(weir_remote **self_p, const weir_command_line *line,
                             weir_report *report)
{
    const char *control = weir_line_flag(line, "--control");
    const char *server = weir_line_flag(line, "--server");
    *self_p = new_remote(control);
    if (strncmp(control, "tcp://", 6))
        return weir_report_set(report, WEIR_EINVAL, "--control",
                               "expected tcp://HOST:PORT");
    if (!server)
        return weir_report_set(
            report, WEIR_EINVAL, "--control",
            "whose certificate must the other side have? Name it by --server");
    snprintf((*self_p)->server, sizeof(*self_p)->server, "%s", server);
    return connect_to(*self_p, weir_keys_folder(line),
                      &(weir_endpoint){.endpoint = control, .server = server}, report);
}

void weir_remote_close(weir_remote **self_p)
{
    weir_remote *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_look_close(&self->look);
    zmq_msg_close(&self->body);
    if (self->socket) zmq_close(self->socket);
    weir_realm_destroy(&self->realm);
    free(self);
}

/* --- Asking ------------------------------------------------------------------------ */

static weir_err send_texts(weir_remote *self, const char *command, va_list arguments)
{
    char id[16];
    snprintf(id, sizeof id, "%u", ++self->number);
    const char *next = va_arg(arguments, const char *);
    zmq_send(self->socket, "WEIR1", 5, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(self->socket, id, strlen(id), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    int sent = zmq_send(self->socket, command, strlen(command),
                        (next ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT);
    while (next && sent >= 0) {
        const char *text = next;
        next = va_arg(arguments, const char *);
        sent = zmq_send(self->socket, text, strlen(text),
                        (next ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT);
    }
    return sent < 0 ? WEIR_ESYS : WEIR_OK;
}

weir_err weir_remote_send(weir_remote *self, const char *command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    weir_err err = send_texts(self, command, arguments);
    va_end(arguments);
    return err;
}

/*  The process of a local weir by its lock, and whether a signal has stopped it. */
static long find_process(const weir_remote *self, bool *stopped)
{
    char folder[PATH_MAX], path[PATH_MAX + 80], state = 0;
    long pid = 0;
    weir_rundir_path(folder);
    snprintf(path, sizeof path, "%s/%.63s.lock", folder, self->name);
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%ld", &pid) != 1) pid = 0;
    if (file) fclose(file);
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    file = pid ? fopen(path, "re") : NULL;
    if (file && fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    if (file) fclose(file);
    *stopped = state == 'T' || state == 't';
    return pid;
}

static weir_err no_answer(weir_remote *self, weir_report *report)
{
    weir_buffer time = {0};
    bool stopped;
    weir_print_time(self->timeout_us, &time);
    weir_buffer_put_byte(&time, 0);
    long pid = self->local ? find_process(self, &stopped) : 0;
    if (!self->local)
        weir_report_set(report, WEIR_ETIMEOUT, self->name,
                        "no answer within %s: nobody listens there, it is no control "
                        "endpoint, or it refuses this certificate; `weir keys doctor %s "
                        "--server %s` tells",
                        (char *)time.data, self->name, self->server);
    else if (stopped)
        weir_report_set(report, WEIR_ETIMEOUT, self->name,
                        "no answer within %s: process %ld is stopped by a signal; `kill "
                        "-CONT %ld` lets it go on",
                        (char *)time.data, pid, pid);
    else
        weir_report_set(report, WEIR_ETIMEOUT, self->name,
                        "no answer within %s: process %ld does not look at its control "
                        "socket, it is too busy or stuck",
                        (char *)time.data, pid);
    weir_buffer_fini(&time);
    return WEIR_ETIMEOUT;
}

static weir_err error_of(const char *code)
{
    static const struct {
        const char *code;
        weir_err err;
    } errors[] = {
        {"invalid", WEIR_EINVAL},       {"not-found", WEIR_ENOTFOUND},
        {"refused", WEIR_EREFUSED},     {"timeout", WEIR_ETIMEOUT},
        {"ended", WEIR_ECLOSED},        {"full", WEIR_EFULL},
        {"malformed", WEIR_EMALFORMED}, {NULL, WEIR_EPROTO},
    };
    size_t i = 0;
    while (errors[i].code && strcmp(errors[i].code, code))
        i++;
    return errors[i].err;
}

/*  Reads the frames of one message. False: it is none that we wait for.       */
static bool read_answer(weir_remote *self, char code[32])
{
    char mark[8] = "", id[16] = "", expected[16];
    int sizes[3] = {0}, more = 1;
    size_t room = sizeof more;
    char *texts[] = {mark, id, code};
    size_t rooms[] = {sizeof mark, sizeof id, 32};
    for (int i = 0; i < 3 && more; i++) {
        sizes[i] = zmq_recv(self->socket, texts[i], rooms[i] - 1, ZMQ_DONTWAIT);
        if (sizes[i] < 0) return false;
        texts[i][(size_t)sizes[i] < rooms[i] ? (size_t)sizes[i] : rooms[i] - 1] = 0;
        zmq_getsockopt(self->socket, ZMQ_RCVMORE, &more, &room);
    }
    bool has_body = more && zmq_msg_recv(&self->body, self->socket, ZMQ_DONTWAIT) >= 0;
    while (more) {
        zmq_getsockopt(self->socket, ZMQ_RCVMORE, &more, &room);
        if (more) zmq_recv(self->socket, mark, 0, ZMQ_DONTWAIT);
    }
    snprintf(expected, sizeof expected, "%u", self->number);
    return has_body && strcmp(id, expected) == 0;
}

static bool wait_for_answer(weir_remote *self, int64_t until_us, int fd, bool *stop)
{
    zmq_pollitem_t items[] = {{.socket = self->socket, .events = ZMQ_POLLIN},
                              {.fd = fd, .events = ZMQ_POLLIN}};
    int64_t left_us = until_us < 0 ? -1 : until_us - weir_clock_now_us();
    if (until_us >= 0 && left_us < 0) left_us = 0;
    zmq_poll(items, fd < 0 ? 1 : 2, left_us < 0 ? -1 : (long)((left_us + 999) / 1000));
    *stop = fd >= 0 && items[1].revents;
    return *stop || items[0].revents || until_us < 0 || weir_clock_now_us() < until_us;
}

static weir_err take_answer(weir_remote *self, const char *code, bool *more,
                            weir_value *body, weir_report *report)
{
    char text[400];
    weir_look_close(&self->look);
    if (weir_look_open(&self->look, zmq_msg_data(&self->body), zmq_msg_size(&self->body)))
        return weir_report_set(report, WEIR_EMALFORMED, self->name,
                               "the answer is no JSON: is it a weir?");
    *body = self->look.root;
    *more = strcmp(code, "more") == 0;
    if (*more || strcmp(code, "ok") == 0) return WEIR_OK;
    return weir_report_set(report, error_of(code), self->name, "%s",
                           weir_look_text(body, "error", text, sizeof text));
}

weir_err weir_remote_recv(weir_remote *self, int64_t wait_us, int fd, bool *more,
                          weir_value *body, weir_report *report)
{
    int64_t until_us = wait_us < 0 ? -1 : weir_clock_now_us() + wait_us;
    char code[32] = "";
    bool stop;
    *more = false;
    while (!read_answer(self, code)) {
        if (!wait_for_answer(self, until_us, fd, &stop)) return no_answer(self, report);
        if (stop) return WEIR_ESTOP;
    }
    return take_answer(self, code, more, body, report);
}

weir_err weir_remote_ask(weir_remote *self, weir_value *body, weir_report *report,
                         const char *command, ...)
{
    bool more;
    va_list arguments;
    va_start(arguments, command);
    weir_err err = send_texts(self, command, arguments);
    va_end(arguments);
    if (err) return no_answer(self, report);
    return weir_remote_recv(self, self->timeout_us, -1, &more, body, report);
}

weir_err weir_remote_bus(weir_remote *self, const char *name, weir_value *found,
                         weir_report *report)
{
    weir_value body, buses, key;
    weir_walk walk = {0};
    weir_err err = weir_remote_ask(self, &body, report, "bus", name, NULL);
    if (err) return err;
    if (weir_look(&body, "buses", &buses) && weir_value_next(&buses, &walk, &key, found))
        return WEIR_OK;
    return weir_report_set(
        report, WEIR_EPROTO, self->name,
        "the answer tells of no bus: is it a weir of another version?");
}

bool weir_remote_is_there(const weir_remote *self)
{
    char folder[PATH_MAX], path[WEIR_IPC_PATH_MAX];
    weir_rundir_path(folder);
    return !self->local ||
           (weir_rundir_socket(folder, self->name, path, NULL) == WEIR_OK &&
            is_alive(path));
}

const char *weir_remote_text(const weir_remote *self, size_t *size)
{
    *size = zmq_msg_size(&self->body);
    return zmq_msg_data((zmq_msg_t *)&self->body);
}

/* --- Targets ----------------------------------------------------------------------- */

/*  Looks for the node; *found is it. The report suggests and lists.           */
static weir_err find_node(weir_remote *self, const weir_target *target, weir_value *body,
                          weir_value *found, weir_report *report)
{
    weir_texts names = {0};
    weir_value nodes, key;
    weir_walk walk = {0};
    char name[64], list[240];
    weir_err err = weir_remote_ask(self, body, report, "list", NULL);
    if (err || !weir_look(body, "nodes", &nodes)) return err;
    while (weir_value_next(&nodes, &walk, &key, found)) {
        weir_look_text(found, "name", name, sizeof name);
        weir_texts_add(&names, name);
        if (strcmp(name, target->node) == 0) break;
    }
    if (names.count == 0 || strcmp(names.items[names.count - 1], target->node)) {
        const char *const *items = (const char *const *)names.items;
        const char *near = weir_nearest(target->node, items, names.count);
        weir_remote_list_names(list, sizeof list, items, names.count);
        err = weir_report_set(report, WEIR_ENOTFOUND, target->name,
                              "it has no node '%s'%s%s%s; its nodes are: %s",
                              target->node, near ? " (did you mean '" : "",
                              near ? near : "", near ? "'?)" : "", list);
    }
    weir_remote_free_names(&names);
    return err;
}

static weir_err open_local(weir_remote **self_p, const char *operand, weir_target *target,
                           weir_report *report)
{
    weir_texts names = {0};
    weir_remote_names(&names);
    weir_err err = weir_target_parse(target, operand, (const char *const *)names.items,
                                     names.count, report);
    weir_remote_free_names(&names);
    return err ? err : weir_remote_open_name(self_p, target->name, report);
}

/*  Over tcp there is one weir, and it tells its name.                         */
static weir_err open_remote(weir_remote **self_p, const weir_command_line *line,
                            int64_t timeout_us, const char *operand, weir_target *target,
                            weir_report *report)
{
    char name[64];
    const char *names[] = {name};
    weir_value body;
    weir_err err = open_control(self_p, line, report);
    (*self_p)->timeout_us = timeout_us;
    if (!err) err = weir_remote_ask(*self_p, &body, report, "version", NULL);
    if (err) return err;
    weir_look_text(&body, "name", name, sizeof name);
    return weir_target_parse(target, operand, names, 1, report);
}

weir_err weir_remote_open(weir_remote **self_p, const weir_command_line *line,
                          const char *operand, weir_target *target, weir_report *report)
{
    int64_t timeout_us = default_timeout_us;
    const char *timeout = weir_line_flag(line, "--timeout");
    weir_value body, node;
    *self_p = NULL;
    if (timeout && weir_parse_time(&timeout_us, timeout, report)) {
        snprintf(report->where, sizeof report->where, "--timeout");
        return report->err;
    }
    weir_err err = weir_line_flag(line, "--control")
                       ? open_remote(self_p, line, timeout_us, operand, target, report)
                       : open_local(self_p, operand, target, report);
    if (*self_p) (*self_p)->timeout_us = timeout_us;
    if (err || !*target->node) return err;
    return find_node(*self_p, target, &body, &node, report);
}

/*  Whoever listens on all addresses is reached here by the loopback, and elsewhere as its
    control endpoint is.                                                       */
static void make_reachable(const weir_remote *self, const char *endpoint,
                           char reachable[192])
{
    const char *port = strrchr(endpoint, ':');
    const char *host = self->local ? "tcp://127.0.0.1" : self->name;
    size_t size = self->local ? strlen(host) : (size_t)(strrchr(host, ':') - host);
    bool any = strncmp(endpoint, "tcp://0.0.0.0:", 14) == 0 ||
               strncmp(endpoint, "tcp://[::]:", 11) == 0;
    if (any && port)
        snprintf(reachable, 192, "%.*s%s", (int)size, host, port);
    else
        snprintf(reachable, 192, "%s", endpoint);
}

weir_err weir_remote_endpoint(weir_remote *self, const weir_target *target,
                              char endpoint[192], char certificate[64],
                              weir_report *report)
{
    char text[192];
    weir_value body, node;
    weir_err err = find_node(self, target, &body, &node, report);
    if (err) return err;
    weir_look_text(&node, "endpoint", text, sizeof text);
    make_reachable(self, text, endpoint);
    weir_look_text(&body, "certificate", certificate, 64);
    return WEIR_OK;
}

static weir_err read_link(weir_remote *self, const weir_target *target,
                          char endpoint[192], char server[64], weir_report *report)
{
    char certificate[64];
    if (!*target->node)
        return weir_report_set(report, WEIR_EINVAL, target->name,
                               "which source.link? Write %s/NODE", target->name);
    weir_err err = weir_remote_endpoint(self, target, endpoint, certificate, report);
    if (err) return err;
    if (!*endpoint)
        return weir_report_set(report, WEIR_EINVAL, target->name,
                               "%s listens for nobody: it is no source.link",
                               target->node);
    if (!*server) snprintf(server, 64, "%s", certificate);
    return WEIR_OK;
}

weir_err weir_remote_link(const char *operand, char endpoint[192], char server[64],
                          weir_report *report)
{
    weir_remote *self = NULL;
    weir_target target;
    weir_err err = open_local(&self, operand, &target, report);
    if (!err) err = read_link(self, &target, endpoint, server, report);
    weir_remote_close(&self);
    return err;
}

int weir_remote_print(const weir_report *report)
{
    fprintf(stderr, "weir: %s%s%s\n", report->where, *report->where ? ": " : "",
            report->text);
    bool misuse = report->err == WEIR_EINVAL || report->err == WEIR_ENOTFOUND;
    return misuse ? WEIR_EXIT_CHECK : WEIR_EXIT_FAILED;
}
