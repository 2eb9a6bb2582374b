#include "lua/online_link.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "lua/keys.h"
#include "lua/probe.h"

typedef struct {
    const char *keys, *server;
    bool plaintext;
} access_by;

/* --- Options ----------------------------------------------------------------------- */

static const void *value_of(const weir_plan_node *node, const char *name,
                            weir_option_type type)
{
    const weir_option *o = weir_option_find(node->class->options, name);
    return o && o->type == type ? (const char *)node->config + o->offset : NULL;
}

static const char *text_of(const weir_plan_node *node, const char *name)
{
    char *const *text = value_of(node, name, WEIR_OPTION_TEXT);
    return text ? *text : NULL;
}

/*  The endpoints that it connects to, one by one; NULL behind the last.          */
static const char *endpoint_of(const weir_plan_node *node, size_t i)
{
    const weir_texts *list = value_of(node, "connect", WEIR_OPTION_TEXTS);
    if (list) return i < list->count ? list->items[i] : NULL;
    return i ? NULL : text_of(node, "connect");
}

bool weir_link_connects(const weir_plan_node *node)
{
    return value_of(node, "plaintext", WEIR_OPTION_BOOL) && endpoint_of(node, 0);
}

/* --- Probing ----------------------------------------------------------------------- */

static weir_err fail(weir_report *report, const char *endpoint, const char *text,
                     const char *detail)
{
    return weir_report_set(report, WEIR_EREFUSED, NULL, "%s: %s%s%s%s", endpoint, text,
                           *detail ? " (" : "", detail, *detail ? ")" : "");
}

static weir_err probe_ipc(const char *endpoint, weir_report *report)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", endpoint + strlen("ipc://"));
    socklen_t size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(to.sun_path));
    if (*to.sun_path == '@') *to.sun_path = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool good = fd >= 0 && connect(fd, (struct sockaddr *)&to, size) == 0;
    int error = errno;
    good |= fd >= 0 && error == EAGAIN; // its queue is full: somebody listens
    if (fd >= 0) close(fd);
    if (good) return weir_report_set(report, WEIR_OK, NULL, "%s: it listens", endpoint);
    return fail(report, endpoint, "nobody answers there", strerror(error));
}

static weir_err probe_plaintext(const char *endpoint, weir_report *report)
{
    char detail[128];
    weir_probe_result result = weir_probe(endpoint, NULL, NULL, detail);
    if (result == WEIR_PROBE_OPEN)
        return weir_report_set(report, WEIR_OK, NULL, "%s: it listens, in plaintext",
                               endpoint);
    if (result == WEIR_PROBE_CURVE)
        return fail(report, endpoint,
                    "it speaks CURVE: say server = \"NAME\" instead of plaintext = true",
                    "");
    return fail(report, endpoint, weir_probe_text(result), detail);
}

/*  own has a secret: to be wiped.                                                */
static weir_err read_keys(const access_by *by, weir_cert *own, weir_cert *server,
                          weir_report *report)
{
    char path[PATH_MAX], file[128];
    weir_keys_path(path, by->keys, "self.key");
    weir_err err = weir_cert_read(own, path, report);
    if (err) return err;
    snprintf(file, sizeof file, "peers/%.63s.pub", by->server);
    weir_keys_path(path, by->keys, file);
    return weir_cert_read(server, path, report);
}

static weir_err probe_curve(const access_by *by, const char *endpoint,
                            weir_report *report)
{
    weir_cert own = {.name = ""}, server;
    char detail[128];
    if (!by->keys || !by->server)
        return fail(report, endpoint, "there are no keys: security { keys = \"FOLDER\" }",
                    "");
    weir_err err = read_keys(by, &own, &server, report);
    if (!err) {
        weir_probe_result result = weir_probe(endpoint, &own, server.public_key, detail);
        err = result ? fail(report, endpoint, weir_probe_text(result), detail)
                     : weir_report_set(report, WEIR_OK, NULL, "%s: '%s' takes our key",
                                       endpoint, by->server);
    }
    weir_cert_wipe(&own);
    return err;
}

static weir_err probe(const access_by *by, const char *endpoint, weir_report *report)
{
    if (strncmp(endpoint, "ipc://", 6) == 0) return probe_ipc(endpoint, report);
    if (by->plaintext) return probe_plaintext(endpoint, report);
    return probe_curve(by, endpoint, report);
}

weir_err weir_link_probe(const weir_plan_node *node, const char *keys,
                         weir_report *report)
{
    const bool *plaintext = value_of(node, "plaintext", WEIR_OPTION_BOOL);
    const access_by by = {keys, text_of(node, "server"), plaintext && *plaintext};
    weir_err err = WEIR_OK;
    const char *endpoint;
    for (size_t i = 0; !err && (endpoint = endpoint_of(node, i)); i++)
        err = probe(&by, endpoint, report);
    return err;
}
