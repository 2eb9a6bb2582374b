#include "runtime/cert.h"
#include "runtime/files.h"
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <time.h>
#include <zmq.h>

static const size_t file_max = 64 << 10;

/* --- Roles and names --------------------------------------------------------------- */

static const struct {
    const char *name;
    weir_role role;
} roles[] = {
    {"produce", WEIR_ROLE_PRODUCE},
    {"consume", WEIR_ROLE_CONSUME},
    {"peer", WEIR_ROLE_PEER},
    {"control", WEIR_ROLE_CONTROL},
};
#define ROLES (sizeof roles / sizeof *roles)

unsigned weir_role_of(const char *name)
{
    for (size_t i = 0; i < ROLES; i++)
        if (strcmp(roles[i].name, name) == 0) return roles[i].role;
    return 0;
}

const char *weir_role_name(weir_role role)
{
    for (size_t i = 0; i < ROLES; i++)
        if (roles[i].role == role) return roles[i].name;
    return NULL;
}

void weir_roles_print(unsigned set, char text[WEIR_ROLES_TEXT_MAX])
{
    size_t size = 0;
    snprintf(text, WEIR_ROLES_TEXT_MAX, "none");
    for (size_t i = 0; i < ROLES; i++)
        if (set & roles[i].role)
            size += (size_t)snprintf(text + size, WEIR_ROLES_TEXT_MAX - size, "%s%s",
                                     size ? "," : "", roles[i].name);
}

bool weir_roles_parse(unsigned *set, const char *text, char unknown[32])
{
    *set = 0;
    if (strcmp(text, "none") == 0) return true;
    for (;;) {
        text += strspn(text, ", ");
        size_t size = strcspn(text, ", ");
        if (size == 0) return true;
        snprintf(unknown, 32, "%.*s", size < 31 ? (int)size : 31, text);
        unsigned role = weir_role_of(unknown);
        if (!role) return false;
        *set |= role;
        text += size;
    }
}

bool weir_peer_name_is_good(const char *name)
{
    size_t size =
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return size > 0 && size < WEIR_PEER_NAME_MAX && name[size] == 0;
}

/* --- Expiry ------------------------------------------------------------------------ */

void weir_expiry_print(int64_t expires_ms, char text[WEIR_EXPIRY_TEXT_MAX])
{
    time_t seconds = (time_t)(expires_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    bool midnight = expires_ms % 86400000 == 0;
    strftime(text, WEIR_EXPIRY_TEXT_MAX, midnight ? "%Y-%m-%d" : "%Y-%m-%dT%H:%M:%SZ",
             &utc);
}

/*  Digits are looked for one by one: sscanf would take signs and spaces.      */
static bool has_shape(const char *text, const char *shape)
{
    for (; *shape; text++, shape++)
        if (*shape == '0' ? *text < '0' || *text > '9' : *text != *shape) return false;
    return *text == 0;
}

bool weir_expiry_parse(int64_t *expires_ms, const char *text)
{
    struct tm utc = {0};
    if (!has_shape(text, "0000-00-00") && !has_shape(text, "0000-00-00T00:00:00Z"))
        return false;
    sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &utc.tm_year, &utc.tm_mon, &utc.tm_mday,
           &utc.tm_hour, &utc.tm_min, &utc.tm_sec);
    if (utc.tm_year < 2000) return false;
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    struct tm asked = utc;
    time_t seconds = timegm(&utc);
    *expires_ms = (int64_t)seconds * 1000;
    /*  timegm would take the 31st of February for a day in March.             */
    return utc.tm_mon == asked.tm_mon && utc.tm_mday == asked.tm_mday &&
           utc.tm_hour == asked.tm_hour && utc.tm_min == asked.tm_min &&
           utc.tm_sec == asked.tm_sec;
}

/* --- Keys -------------------------------------------------------------------------- */

void weir_cert_wipe(weir_cert *self)
{
    sodium_memzero(self, sizeof *self);
}

void weir_cert_make(weir_cert *self, const char *name)
{
    assert(weir_peer_name_is_good(name));
    *self = (weir_cert){.name = ""};
    snprintf(self->name, sizeof self->name, "%s", name);
    if (zmq_curve_keypair(self->public_key, self->secret_key)) abort();
}

static bool is_key(const char *text)
{
    static const uint8_t zero[32];
    uint8_t key[32];
    bool good = strlen(text) == WEIR_KEY_MAX - 1 && zmq_z85_decode(key, text) &&
                sodium_memcmp(key, zero, sizeof key) != 0;
    sodium_memzero(key, sizeof key);
    return good;
}

static bool is_pair(const weir_cert *self)
{
    char derived[WEIR_KEY_MAX];
    return zmq_curve_public(derived, self->secret_key) == 0 &&
           strcmp(derived, self->public_key) == 0;
}

/* --- Reading text ------------------------------------------------------------------ */

typedef struct {
    const char *at, *end;
    const char *where;
    weir_report *report;
    unsigned line;
    unsigned depth;    // of the line before
    bool begun;        // there was one
    char section[16];  // at depth 0
    unsigned seen;     // items, one bit each
    weir_cert *target; // where values go
} parser;

static weir_err wrong(const parser *self, const char *cause)
{
    return weir_report_set(self->report, WEIR_EMALFORMED, self->where, "line %u: %s",
                           self->line, cause);
}

static weir_err set_name(const parser *self, const char *value)
{
    if (!weir_peer_name_is_good(value))
        return wrong(self, "a name has 1 to 63 letters, digits, '-' or '_'");
    snprintf(self->target->name, sizeof self->target->name, "%s", value);
    return WEIR_OK;
}

static weir_err set_roles(const parser *self, const char *value)
{
    char unknown[32];
    if (weir_roles_parse(&self->target->roles, value, unknown)) return WEIR_OK;
    return wrong(self, "roles are produce, consume, peer and control, or none");
}

static weir_err set_expires(const parser *self, const char *value)
{
    if (weir_expiry_parse(&self->target->expires_ms, value)) return WEIR_OK;
    return wrong(self, "a time is \"2027-01-31\" or \"2027-01-31T12:00:00Z\", in UTC");
}

static weir_err set_public(const parser *self, const char *value)
{
    if (!is_key(value)) return wrong(self, "a public key is 40 characters of Z85");
    memcpy(self->target->public_key, value, WEIR_KEY_MAX);
    return WEIR_OK;
}

static weir_err set_secret(const parser *self, const char *value)
{
    if (!is_key(value)) return wrong(self, "a secret key is 40 characters of Z85");
    memcpy(self->target->secret_key, value, WEIR_KEY_MAX);
    return WEIR_OK;
}

static const struct {
    const char *section, *name;
    weir_err (*set)(const parser *self, const char *value);
} items[] = {
    {"metadata", "name", set_name},       {"metadata", "roles", set_roles},
    {"metadata", "expires", set_expires}, {"curve", "public-key", set_public},
    {"curve", "secret-key", set_secret},
};

/*  An item that comes twice could be read one way here and another way elsewhere. */
static weir_err set_item(parser *self, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        if (strcmp(items[i].section, self->section) || strcmp(items[i].name, name))
            continue;
        if (self->seen & 1u << i) return wrong(self, "this item is there already");
        self->seen |= 1u << i;
        return items[i].set(self, value);
    }
    return WEIR_OK;
}

static const char *skip(const char *at, const char *end, char what)
{
    while (at < end && *at == what)
        at++;
    return at;
}

static bool is_rest(const char *at, const char *end)
{
    at = skip(at, end, ' ');
    return at == end || *at == '#';
}

/*  Behind the '='. A longer value than any of ours is cut, and so wrong if it is ours. */
static weir_err read_value(const parser *self, const char *at, const char *end,
                           char value[128])
{
    at = skip(at, end, ' ');
    const char *stop = end;
    if (at < end && (*at == '"' || *at == '\'')) {
        stop = memchr(at + 1, *at, (size_t)(end - at - 1));
        if (!stop) return wrong(self, "a quote is not closed");
        at++;
        if (!is_rest(stop + 1, end)) return wrong(self, "something is behind the value");
    } else {
        const char *remark = memchr(at, '#', (size_t)(end - at));
        if (remark) stop = remark;
        while (stop > at && stop[-1] == ' ')
            stop--;
    }
    snprintf(value, 128, "%.*s", (int)(stop - at), at);
    return WEIR_OK;
}

static const char *skip_name(const char *at, const char *end)
{
    static const char more[] = "$-_@.&+/";
    while (at < end && ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                        (*at >= '0' && *at <= '9') || (*at && strchr(more, *at))))
        at++;
    return at;
}

static weir_err read_item(parser *self, const char *at, const char *end)
{
    const char *begin = at;
    char name[16], value[128] = "";
    at = skip_name(at, end);
    if (at == begin) return wrong(self, "expected a name");
    snprintf(name, sizeof name, "%.*s", at - begin < 16 ? (int)(at - begin) : 0, begin);
    at = skip(at, end, ' ');
    weir_err err = WEIR_OK;
    bool has_value = at < end && *at == '=';
    if (has_value)
        err = read_value(self, at + 1, end, value);
    else if (!is_rest(at, end))
        return wrong(self, "expected '=' behind the name");
    if (!err && self->depth == 0) memcpy(self->section, name, sizeof name);
    if (!err && self->depth == 1 && has_value) err = set_item(self, name, value);
    sodium_memzero(value, sizeof value);
    return err;
}

static weir_err read_line(parser *self, const char *end)
{
    const char *at = skip(self->at, end, ' ');
    size_t indent = (size_t)(at - self->at);
    if (end > at && end[-1] == '\r') end--;
    if (is_rest(at, end)) return WEIR_OK;
    if (*at == '\t' || indent % 4) return wrong(self, "indentation is by four spaces");
    if (indent / 4 > self->depth + self->begun)
        return wrong(self, "it is indented too far");
    self->begun = true;
    self->depth = (unsigned)(indent / 4);
    return read_item(self, at, end);
}

static weir_err check_whole(const parser *self)
{
    const weir_cert *cert = self->target;
    if (!*cert->public_key)
        return weir_report_set(self->report, WEIR_EMALFORMED, self->where,
                               "it is no certificate: there is no public-key in a "
                               "section `curve`");
    if (*cert->secret_key && !is_pair(cert))
        return weir_report_set(self->report, WEIR_EMALFORMED, self->where,
                               "its secret-key does not belong to its public-key");
    return WEIR_OK;
}

weir_err weir_cert_parse(weir_cert *self, const char *text, size_t size,
                         const char *where, weir_report *report)
{
    *self = (weir_cert){.name = ""};
    parser parse = {
        .at = text, .end = text + size, .where = where, .report = report, .target = self};
    weir_err err = WEIR_OK;
    while (!err && parse.at < parse.end) {
        const char *end = memchr(parse.at, '\n', (size_t)(parse.end - parse.at));
        if (!end) end = parse.end;
        parse.line++;
        err = memchr(parse.at, 0, (size_t)(end - parse.at)) ? wrong(&parse, "a zero byte")
                                                            : read_line(&parse, end);
        parse.at = end + 1;
    }
    if (!err) err = check_whole(&parse);
    if (err) weir_cert_wipe(self);
    return err;
}

/* --- Files ------------------------------------------------------------------------- */

static weir_err cannot(const char *what, const char *path, weir_report *report)
{
    weir_err err = errno == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS;
    return weir_report_set(report, err, path, "cannot %s: %s", what, strerror(errno));
}

static weir_err check_modes(const weir_cert *self, unsigned mode, const char *path,
                            weir_report *report)
{
    if (*self->secret_key && mode & 077)
        return weir_report_set(report, WEIR_EREFUSED, path,
                               "others may read the secret in it (mode %04o): "
                               "chmod 600 %s",
                               mode, path);
    if (mode & 002)
        return weir_report_set(report, WEIR_EREFUSED, path,
                               "everybody may write it (mode %04o): chmod 644 %s", mode,
                               path);
    return WEIR_OK;
}

static weir_err cannot_read(weir_err err, const char *path, weir_report *report)
{
    if (err == WEIR_EINVAL)
        return weir_report_set(report, WEIR_EMALFORMED, path, "it is no file");
    if (err == WEIR_ETOOBIG)
        return weir_report_set(report, err, path,
                               "it is no certificate: it is larger than 64 KB");
    return cannot("read", path, report);
}

weir_err weir_cert_read(weir_cert *self, const char *path, weir_report *report)
{
    char *text;
    size_t size;
    unsigned mode;
    *self = (weir_cert){.name = ""};
    weir_err err = weir_read_file(path, file_max, &text, &size, &mode);
    if (err) return cannot_read(err, path, report);
    err = weir_cert_parse(self, text, size, path, report);
    sodium_memzero(text, size);
    free(text);
    if (!err) err = check_modes(self, mode, path, report);
    if (err) weir_cert_wipe(self);
    return err;
}

size_t weir_cert_print(const weir_cert *self, char text[WEIR_CERT_TEXT_MAX])
{
    char roles_text[WEIR_ROLES_TEXT_MAX], expiry[WEIR_EXPIRY_TEXT_MAX] = "";
    weir_roles_print(self->roles, roles_text);
    if (self->expires_ms) weir_expiry_print(self->expires_ms, expiry);
    bool secret = *self->secret_key, named = *self->name;
    int size = snprintf(
        text, WEIR_CERT_TEXT_MAX,
        "#   %s\n\nmetadata\n%s%s%s    roles = \"%s\"\n%s%s%scurve\n"
        "    public-key = \"%s\"\n%s%s%s",
        secret ? "Weir: a CURVE certificate with its secret. Keep it to yourself."
               : "Weir: a CURVE certificate, to be given to others.",
        named ? "    name = \"" : "", self->name, named ? "\"\n" : "", roles_text,
        *expiry ? "    expires = \"" : "", expiry, *expiry ? "\"\n" : "",
        self->public_key, secret ? "    secret-key = \"" : "", self->secret_key,
        secret ? "\"\n" : "");
    assert(size > 0 && size < WEIR_CERT_TEXT_MAX);
    return (size_t)size;
}

weir_err weir_cert_write(const weir_cert *self, const char *path, weir_report *report)
{
    char text[WEIR_CERT_TEXT_MAX];
    size_t size = weir_cert_print(self, text);
    weir_err err =
        weir_replace_file(path, text, size, *self->secret_key ? 0600 : 0644, true);
    sodium_memzero(text, sizeof text);
    if (err) cannot("write", path, report);
    return err;
}
