#include "actors/jetstream_url.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "runtime/buffer.h"

#define DEFAULT_PORT "4222"

bool weir_nats_is_loopback(const char *address)
{
    uint8_t bytes[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, address, bytes) == 1) return bytes[0] == 127;
    return inet_pton(AF_INET6, address, bytes) == 1 &&
           !memcmp(bytes, &in6addr_loopback, sizeof bytes);
}

static char *copy(const char *text, size_t size)
{
    char *to = strndup(text, size);
    if (!to) abort();
    return to;
}

static char *copy_of(const char *text)
{
    return text ? copy(text, strlen(text)) : NULL;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*  NULL: a % without two digits behind it, or a control character.                 */
static char *decode(const char *text, size_t size)
{
    char *to = copy(text, size), *end = to;
    for (size_t i = 0; i < size; i++) {
        int high, low;
        if (text[i] != '%' && (unsigned char)text[i] >= ' ') {
            *end++ = text[i];
        } else if (text[i] == '%' && i + 2 < size && (high = digit(text[i + 1])) >= 0 &&
                   (low = digit(text[i + 2])) >= 0 && high >= 2) {
            *end++ = (char)(high << 4 | low);
            i += 2;
        } else {
            free(to);
            return NULL;
        }
    }
    *end = '\0';
    return to;
}

/* --- One server -------------------------------------------------------------------- */

static const char *read_scheme(weir_nats_server *self, const char **text, size_t *size)
{
    static const char nats[] = "nats://", tls[] = "tls://";
    size_t skip;
    if (*size >= sizeof nats - 1 && !strncasecmp(*text, nats, sizeof nats - 1))
        skip = sizeof nats - 1;
    else if (*size >= sizeof tls - 1 && !strncasecmp(*text, tls, sizeof tls - 1))
        skip = sizeof tls - 1;
    else
        return "expected nats://HOST:PORT or tls://HOST:PORT";
    self->tls = skip == sizeof tls - 1;
    *text += skip;
    *size -= skip;
    return NULL;
}

/*  What stands before the last @.                                                  */
static const char *read_user(weir_nats_server *self, const char *text, size_t size)
{
    const char *colon = memchr(text, ':', size);
    size_t user = colon ? (size_t)(colon - text) : size;
    if (user == 0) return "its user is empty";
    if (!colon) {
        self->token = decode(text, size);
        return self->token ? NULL : "its token has a bad % or a control character";
    }
    self->user = decode(text, user);
    self->password = decode(colon + 1, size - user - 1);
    return self->user && self->password
               ? NULL
               : "its user or password has a bad % or a control character";
}

static bool is_port(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    return text[0] >= '1' && text[0] <= '9' && !*end && port <= 65535;
}

static const char *read_host(weir_nats_server *self, const char *text, size_t size)
{
    const char *end = text + size, *colon, *close = NULL;
    if (size && text[0] == '[') close = memchr(text, ']', size);
    colon = close ? (close + 1 < end ? close + 1 : NULL) : memchr(text, ':', size);
    if (close && colon && *colon != ':') return "expected ':' behind its address";
    self->host = close ? copy(text + 1, (size_t)(close - text - 1))
                       : copy(text, colon ? (size_t)(colon - text) : size);
    self->port =
        colon ? copy(colon + 1, (size_t)(end - colon - 1)) : copy_of(DEFAULT_PORT);
    if (!self->host[0] || strpbrk(self->host, "/ @[]?#")) return "it names no host";
    if (!is_port(self->port)) return "its port is no number from 1 to 65535";
    self->is_loopback =
        !strcasecmp(self->host, "localhost") || weir_nats_is_loopback(self->host);
    return NULL;
}

static void inherit(weir_nats_server *self, const weir_nats_server *from)
{
    self->tls = from->tls;
    self->user = copy_of(from->user);
    self->password = copy_of(from->password);
    self->token = copy_of(from->token);
}

/*  The reason why it is none, or NULL.                                             */
static const char *read_server(weir_nats_server *self, const weir_nats_server *before,
                               const char *text, size_t size)
{
    bool has_scheme = memmem(text, size, "://", 3) != NULL;
    if (has_scheme || !before) {
        const char *why = read_scheme(self, &text, &size);
        if (why) return why;
    }
    if (size && text[size - 1] == '/') size--;
    const char *at = memrchr(text, '@', size);
    if (at) {
        if (!has_scheme && before) self->tls = before->tls;
        const char *why = read_user(self, text, (size_t)(at - text));
        if (why) return why;
        size -= (size_t)(at + 1 - text);
        text = at + 1;
    } else if (!has_scheme && before) {
        inherit(self, before);
    }
    return read_host(self, text, size);
}

static void server_fini(weir_nats_server *self)
{
    free(self->host);
    free(self->port);
    free(self->user);
    free(self->password);
    free(self->token);
}

/* --- All --------------------------------------------------------------------------- */

static char *print(const weir_nats_servers *self)
{
    weir_buffer out = {0};
    for (size_t i = 0; i < self->count; i++) {
        const weir_nats_server *s = &self->items[i];
        bool is_v6 = strchr(s->host, ':');
        weir_buffer_printf(&out, "%s%s://", i ? "," : "", s->tls ? "tls" : "nats");
        if (s->token) weir_buffer_put_text(&out, "***@");
        if (s->user) weir_buffer_printf(&out, "%s:***@", s->user);
        weir_buffer_printf(&out, "%s%s%s:%s", is_v6 ? "[" : "", s->host, is_v6 ? "]" : "",
                           s->port);
    }
    weir_buffer_put_byte(&out, '\0');
    return (char *)out.data;
}

void weir_nats_servers_fini(weir_nats_servers *self)
{
    for (size_t i = 0; i < self->count; i++)
        server_fini(&self->items[i]);
    free(self->items);
    free(self->text);
    *self = (weir_nats_servers){0};
}

weir_err weir_nats_servers_parse(weir_nats_servers *self, const char *url,
                                 weir_report *report)
{
    const char *why = NULL;
    for (bool last = false; !last && !why;) {
        size_t size = strcspn(url, ",");
        last = !url[size];
        self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
        if (!self->items) abort();
        weir_nats_server *next = &self->items[self->count++];
        *next = (weir_nats_server){0};
        why = read_server(next, self->count > 1 ? next - 1 : NULL, url, size);
        url += size + 1;
    }
    if (!why) {
        self->text = print(self);
        return WEIR_OK;
    }
    size_t number = self->count;
    weir_nats_servers_fini(self);
    return weir_report_set(report, WEIR_EINVAL, NULL, "url, server %zu: %s", number, why);
}

weir_err weir_nats_servers_check(const weir_nats_servers *self, bool tls, bool plaintext,
                                 weir_report *report)
{
    for (size_t i = 0; i < self->count; i++) {
        const weir_nats_server *server = &self->items[i];
        if (server->is_loopback || server->tls || tls || plaintext) continue;
        return weir_report_set(report, WEIR_EINVAL, self->text,
                               "%s is not this host: it needs tls = true, or plaintext = "
                               "true when its network is safe",
                               server->host);
    }
    return WEIR_OK;
}
