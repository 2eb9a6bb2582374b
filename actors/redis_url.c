#include "actors/redis_url.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

enum { usual_port = 6379 };

static weir_err wrong(weir_report *report, const char *text)
{
    return weir_report_set(report, WEIR_EINVAL, "url",
                           "%s: write redis://[user[:password]@]host[:port][/db] or "
                           "unix:///path",
                           text);
}

/* --- Parts ------------------------------------------------------------------------- */

static int hex(char c)
{
    if (!isxdigit((unsigned char)c)) return -1;
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/*  A copy of the bytes with %XX replaced; NULL: one is no %XX, or it is a NUL.      */
static char *decode(const char *text, size_t size)
{
    char *copy = malloc(size + 1), *out = copy;
    if (!copy) abort();
    for (size_t i = 0; i < size; i++, out++) {
        *out = text[i];
        if (text[i] != '%') continue;
        int high = i + 2 < size ? hex(text[i + 1]) : -1;
        int low = i + 2 < size ? hex(text[i + 2]) : -1;
        if (high < 0 || low < 0 || (high | low) == 0) {
            free(copy);
            return NULL;
        }
        *out = (char)(high << 4 | low);
        i += 2;
    }
    *out = 0;
    return copy;
}

static bool read_number(const char *text, size_t size, uint32_t max, uint32_t *number)
{
    uint64_t n = 0;
    if (size == 0 || size > 10) return false;
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i])) return false;
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    *number = (uint32_t)n;
    return n <= max;
}

/*  What is shown is one line.                                                        */
static bool has_controls(const char *text)
{
    for (; *text; text++)
        if (iscntrl((unsigned char)*text)) return true;
    return false;
}

static bool read_user(weir_redis_url *self, const char *text, size_t size)
{
    const char *colon = memchr(text, ':', size);
    size_t user = colon ? (size_t)(colon - text) : size;
    if (user) self->user = decode(text, user);
    if (colon) self->password = decode(colon + 1, size - user - 1);
    return (!user || (self->user && !has_controls(self->user))) &&
           (!colon || self->password);
}

static bool is_host(const char *text)
{
    if (!*text) return false;
    for (; *text; text++)
        if (!isgraph((unsigned char)*text)) return false;
    return true;
}

/*  host[:port]                                                                      */
static bool read_host(weir_redis_url *self, const char *text, size_t size)
{
    bool bracket = size && text[0] == '[';
    const char *end = bracket ? memchr(text, ']', size) : memchr(text, ':', size);
    uint32_t port = usual_port;
    if (bracket && !end) return false;
    size_t host = end ? (size_t)(end - text) : size;
    size_t rest = host + bracket;
    if (rest < size && (text[rest] != ':' ||
                        !read_number(text + rest + 1, size - rest - 1, 65535, &port)))
        return false;
    self->port = (uint16_t)port;
    self->host = decode(text + bracket, host - bracket);
    return port && self->host && is_host(self->host);
}

/* --- Whole ------------------------------------------------------------------------- */

static void show(weir_redis_url *self)
{
    bool v6 = self->port && strchr(self->host, ':');
    char tail[32] = "";
    if (self->port && self->db)
        snprintf(tail, sizeof tail, ":%u/%u", self->port, self->db);
    else if (self->port)
        snprintf(tail, sizeof tail, ":%u", self->port);
    snprintf(self->shown, sizeof self->shown, "%s://%s%s%s%s%.160s%s%s",
             self->port ? "redis" : "unix", self->user ? self->user : "",
             self->password ? ":***" : "", self->user || self->password ? "@" : "",
             v6 ? "[" : "", self->host, v6 ? "]" : "", tail);
}

/*  Other programs know options behind a url, ?password=.. among them.                */
static const char options_begin[] = "?#",
                  no_options[] = "it has ? or #, and nothing of that kind is known";

static const char bad_user[] =
    "user or password has a % that is no %XX, or the user a byte that is not shown";

static weir_err parse_tcp(weir_redis_url *self, const char *rest, weir_report *report)
{
    const char *at = strrchr(rest, '@');
    const char *host = at ? at + 1 : rest, *slash = strchr(host, '/');
    if (at && !read_user(self, rest, (size_t)(at - rest))) return wrong(report, bad_user);
    if (strpbrk(host, options_begin)) return wrong(report, no_options);
    if (!read_host(self, host, slash ? (size_t)(slash - host) : strlen(host)))
        return wrong(report, "no host, or no port from 1 to 65535");
    if (slash && slash[1] && !read_number(slash + 1, strlen(slash + 1), 65535, &self->db))
        return wrong(report, "the part behind the host is not the number of a database");
    return WEIR_OK;
}

static weir_err parse_unix(weir_redis_url *self, const char *rest, weir_report *report)
{
    const char *at = *rest == '/' ? NULL : strstr(rest, "@/");
    if (at && !read_user(self, rest, (size_t)(at - rest))) return wrong(report, bad_user);
    const char *path = at ? at + 1 : rest;
    if (*path != '/') return wrong(report, "no absolute path");
    if (strpbrk(path, options_begin)) return wrong(report, no_options);
    self->host = decode(path, strlen(path));
    if (!self->host || has_controls(self->host))
        return wrong(report, "the path has a % that is no %XX, or a byte not shown");
    if (strlen(self->host) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return wrong(report, "the path is longer than that of a socket, 107 bytes");
    return WEIR_OK;
}

static weir_err parse(weir_redis_url *self, const char *text, weir_report *report)
{
    if (!text) return wrong(report, "none is given");
    if (!strncasecmp(text, "redis://", 8)) return parse_tcp(self, text + 8, report);
    if (!strncasecmp(text, "unix://", 7)) return parse_unix(self, text + 7, report);
    if (!strncasecmp(text, "rediss://", 9))
        return wrong(report, "TLS to redis is not there");
    return wrong(report, "it is no url of a redis server");
}

weir_err weir_redis_url_parse(weir_redis_url *self, const char *text, weir_report *report)
{
    *self = (weir_redis_url){0};
    weir_err err = parse(self, text, report);
    if (err)
        weir_redis_url_fini(self);
    else
        show(self);
    return err;
}

static char *copy_text(const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy) abort();
    return copy;
}

void weir_redis_url_at(weir_redis_url *self, const weir_redis_url *from, const char *host,
                       uint16_t port)
{
    *self = (weir_redis_url){.host = copy_text(host),
                             .port = port,
                             .user = copy_text(from->user),
                             .password = copy_text(from->password)};
    show(self);
}

void weir_redis_url_fini(weir_redis_url *self)
{
    free(self->host);
    free(self->user);
    if (self->password) explicit_bzero(self->password, strlen(self->password));
    free(self->password);
    *self = (weir_redis_url){0};
}

/* --- Looking ----------------------------------------------------------------------- */

bool weir_redis_url_is_local(const weir_redis_url *self)
{
    struct in6_addr six;
    struct in_addr four;
    if (self->port == 0 || !strcasecmp(self->host, "localhost")) return true;
    if (inet_pton(AF_INET, self->host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, self->host, &six) != 1) return false;
    return IN6_IS_ADDR_LOOPBACK(&six) ||
           (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
}

char *weir_redis_url_hide(const weir_redis_url *self, const char *text)
{
    const char *end = strstr(text, ", with args beginning with");
    size_t size = end ? (size_t)(end - text) : strlen(text), used = 0;
    size_t secret = self->password ? strlen(self->password) : 0;
    char *copy = malloc(3 * size + 1);
    if (!copy) abort();
    for (size_t i = 0; i < size;) {
        bool hides =
            secret && secret <= size - i && !memcmp(text + i, self->password, secret);
        if (hides)
            used += (size_t)sprintf(copy + used, "***");
        else
            copy[used++] = text[i];
        i += hides ? secret : 1;
    }
    copy[used] = 0;
    return copy;
}

char *weir_redis_url_quote(const weir_redis_url *self, const char *text)
{
    char *said = weir_redis_url_hide(self, text);
    size_t size = strlen(self->shown) + strlen(said) + sizeof ": ";
    char *copy = malloc(size);
    if (!copy) abort();
    snprintf(copy, size, "%.120s: %s", self->shown, said);
    free(said);
    return copy;
}
