#include "actors/bus_request.h"
#include "runtime/options.h"
#include <inttypes.h>
#include <stdio.h>

static const char *const verbs[] = {
    [WEIR_BUS_HELLO] = "hello", [WEIR_BUS_POLL] = "poll",     [WEIR_BUS_JOIN] = "join",
    [WEIR_BUS_FETCH] = "fetch", [WEIR_BUS_ACK] = "ack",       [WEIR_BUS_NACK] = "nack",
    [WEIR_BUS_LEAVE] = "leave", [WEIR_BUS_GROUPS] = "groups",
};

const char *weir_bus_verb_name(weir_bus_verb verb)
{
    return verbs[verb];
}

/* --- Table ------------------------------------------------------------------------- */

typedef enum {
    NUMBER,   // uint64_t
    WORDED,   // int64_t: a number, or the word instead of it
    FLAG,     // bool
    TEXT,     // char *, `max` bytes
    NAME,     // TEXT of letters, digits and _ - . /
    POSITION, // from and from_ms, and where `max` is 1 a cursor, too
    CURSOR,   // from and cursor
    SHARDS,   // shards and shard_count
    ORDER,    // by_time
} kind;

/*  A field of one verb.                                                                */
typedef struct {
    weir_bus_verb verb;
    const char *name;
    kind kind;
    size_t offset;
    uint64_t min, max;
    bool required;
    const char *word; // of WORDED
    int64_t meaning;  // of the word
} field;

#define AT(member) offsetof(weir_bus_request, member)
#define HOUR_MS 3600000

/* clang-format off */
static const field fields[] = {
    {WEIR_BUS_POLL, "cursor", CURSOR, 0, 0, 0, false, NULL, 0},
    {WEIR_BUS_POLL, "from", POSITION, 0, 0, 0, false, NULL, 0},
    {WEIR_BUS_POLL, "limit", NUMBER, AT(limit), 0, 10000, false, NULL, 0},
    {WEIR_BUS_POLL, "bytes", NUMBER, AT(bytes), 1, UINT64_MAX, false, NULL, 0},
    {WEIR_BUS_POLL, "scan", NUMBER, AT(scan), 1, UINT32_MAX, false, NULL, 0},
    {WEIR_BUS_POLL, "timeout_ms", NUMBER, AT(timeout_ms), 1, HOUR_MS, false, NULL, 0},
    {WEIR_BUS_POLL, "where", TEXT, AT(where), 1, 4096, false, NULL, 0},
    {WEIR_BUS_POLL, "shards", SHARDS, 0, 0, 0, false, NULL, 0},
    {WEIR_BUS_POLL, "order", ORDER, 0, 0, 0, false, NULL, 0},
    {WEIR_BUS_JOIN, "group", NAME, AT(group), 1, WEIR_BUS_GROUP_MAX, true, NULL, 0},
    {WEIR_BUS_JOIN, "member", NAME, AT(member), 1, WEIR_BUS_TEXT_MAX, false, NULL, 0},
    {WEIR_BUS_JOIN, "start", POSITION, 0, 0, 1, false, NULL, 0},
    {WEIR_BUS_JOIN, "where", TEXT, AT(where), 1, 4096, false, NULL, 0},
    {WEIR_BUS_JOIN, "window", NUMBER, AT(window), 1, 1000000, false, NULL, 0},
    {WEIR_BUS_JOIN, "ack_timeout_ms", WORDED, AT(ack_timeout_ms), 1, HOUR_MS, false, "none", WEIR_NONE},
    {WEIR_BUS_JOIN, "member_timeout_ms", NUMBER, AT(member_timeout_ms), 100, HOUR_MS, false, NULL, 0},
    {WEIR_BUS_JOIN, "max_deliver", WORDED, AT(max_deliver), 1, 1000000, false, "forever", WEIR_FOREVER},
    {WEIR_BUS_JOIN, "retry_first_ms", NUMBER, AT(retry_first_ms), 1, HOUR_MS, false, NULL, 0},
    {WEIR_BUS_JOIN, "retry_max_ms", NUMBER, AT(retry_max_ms), 1, HOUR_MS, false, NULL, 0},
    {WEIR_BUS_FETCH, "limit", NUMBER, AT(limit), 1, 10000, false, NULL, 0},
    {WEIR_BUS_FETCH, "bytes", NUMBER, AT(bytes), 1, UINT64_MAX, false, NULL, 0},
    {WEIR_BUS_FETCH, "timeout_ms", NUMBER, AT(timeout_ms), 0, HOUR_MS, false, NULL, 0},
    {WEIR_BUS_ACK, "shard", NUMBER, AT(shard), 0, UINT32_MAX, true, NULL, 0},
    {WEIR_BUS_ACK, "a", NUMBER, AT(a), 0, UINT64_MAX, true, NULL, 0},
    {WEIR_BUS_ACK, "b", NUMBER, AT(b), 0, UINT64_MAX, false, NULL, 0},
    {WEIR_BUS_ACK, "up_to", FLAG, AT(up_to), 0, 0, false, NULL, 0},
    {WEIR_BUS_NACK, "shard", NUMBER, AT(shard), 0, UINT32_MAX, true, NULL, 0},
    {WEIR_BUS_NACK, "a", NUMBER, AT(a), 0, UINT64_MAX, true, NULL, 0},
    {WEIR_BUS_NACK, "b", NUMBER, AT(b), 0, UINT64_MAX, false, NULL, 0},
    {WEIR_BUS_NACK, "delay_ms", WORDED, AT(delay_ms), 0, HOUR_MS, false, NULL, 0},
    {WEIR_BUS_NACK, "why", TEXT, AT(why), 1, 255, false, NULL, 0},
};
/* clang-format on */

enum { field_count = sizeof fields / sizeof *fields };

static const weir_bus_request defaults = {
    .limit = 1000,
    .bytes = WEIR_BUS_PAGE_MAX,
    .scan = 100000,
    .timeout_ms = 1000,
    .ack_timeout_ms = 30000,
    .max_deliver = 5,
    .member_timeout_ms = 10000,
    .retry_first_ms = 100,
    .retry_max_ms = 5000,
    .window = 10000,
    .delay_ms = -1,
};

/* --- Values ------------------------------------------------------------------------ */

static weir_err wrong(const field *f, weir_report *report, const char *text)
{
    return weir_report_set(report, WEIR_EINVAL, NULL, "%s: field '%s' %s", verbs[f->verb],
                           f->name, text);
}

static weir_err out_of_range(const field *f, weir_report *report)
{
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "%s: field '%s' is %" PRIu64 " to %" PRIu64, verbs[f->verb],
                           f->name, f->min, f->max);
}

static weir_err read_number(const field *f, weir_reader *reader, uint64_t *number,
                            weir_report *report)
{
    if (weir_read_uint(reader, number))
        return wrong(f, report, "is a whole number, not negative");
    return *number < f->min || *number > f->max ? out_of_range(f, report) : WEIR_OK;
}

static bool equals(const char *text, size_t size, const char *word)
{
    return word && size == strlen(word) && memcmp(text, word, size) == 0;
}

static weir_err read_worded(const field *f, weir_reader *reader, int64_t *number,
                            weir_report *report)
{
    const char *text;
    size_t size;
    uint64_t natural;
    if (weir_read_str(reader, &text, &size) == WEIR_OK) {
        *number = f->meaning;
        return equals(text, size, f->word) ? WEIR_OK
                                           : wrong(f, report, "does not know this word");
    }
    weir_err err = read_number(f, reader, &natural, report);
    *number = (int64_t)natural;
    return err;
}

static char *copy(const char *text, size_t size)
{
    char *own = strndup(text, size);
    if (!own) abort();
    return own;
}

static bool is_name(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789_-./";
    return text[strspn(text, allowed)] == 0;
}

static weir_err read_text(const field *f, weir_reader *reader, char **own,
                          weir_report *report)
{
    const char *text;
    size_t size;
    if (weir_read_str(reader, &text, &size)) return wrong(f, report, "is a text");
    if (size < f->min || size > f->max)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "%s: field '%s' has %" PRIu64 " to %" PRIu64 " bytes",
                               verbs[f->verb], f->name, f->min, f->max);
    if (memchr(text, 0, size)) return wrong(f, report, "holds a U+0000");
    *own = copy(text, size);
    if (f->kind == NAME && !is_name(*own))
        return wrong(f, report, "has letters, digits, _ - . and / only");
    return WEIR_OK;
}

static weir_err read_cursor(weir_bus_request *self, const field *f, weir_reader *reader,
                            weir_report *report)
{
    const char *text;
    size_t size;
    if (weir_read_str(reader, &text, &size)) return wrong(f, report, "is a text");
    free(self->cursor);
    self->cursor = copy(text, size);
    self->from = WEIR_AT_CURSOR;
    return WEIR_OK;
}

static weir_err read_position(weir_bus_request *self, const field *f, weir_reader *reader,
                              weir_report *report)
{
    const char *text;
    size_t size;
    uint64_t ms;
    weir_reader before = *reader;
    if (weir_read_uint(reader, &ms) == WEIR_OK) {
        if (ms > INT64_MAX) return wrong(f, report, "is no time");
        self->from = WEIR_AT_TIME;
        self->from_ms = (int64_t)ms;
        return WEIR_OK;
    }
    if (weir_read_str(reader, &text, &size) == WEIR_OK) {
        self->from = equals(text, size, "end") ? WEIR_AT_END : WEIR_AT_START;
        if (self->from == WEIR_AT_END || equals(text, size, "start")) return WEIR_OK;
        *reader = before;
        if (f->max) return read_cursor(self, f, reader, report);
    }
    return wrong(f, report,
                 f->max
                     ? "is \"start\", \"end\", a cursor, or a time in ms"
                     : "is \"start\", \"end\" or a time in ms; a cursor has a field of "
                       "its own");
}

static weir_err read_shards(weir_bus_request *self, const field *f, weir_reader *reader,
                            weir_report *report)
{
    uint32_t count;
    uint64_t id;
    if (weir_read_array(reader, &count)) return wrong(f, report, "is a list of numbers");
    if (count == 0) return wrong(f, report, "names none: leave it out to read all");
    self->shards = calloc(count, sizeof *self->shards);
    if (!self->shards) abort();
    for (; self->shard_count < count; self->shard_count++) {
        if (weir_read_uint(reader, &id) || id > UINT32_MAX)
            return wrong(f, report, "is a list of numbers, each 0 to 4294967295");
        self->shards[self->shard_count] = (uint32_t)id;
    }
    return WEIR_OK;
}

static weir_err read_order(weir_bus_request *self, const field *f, weir_reader *reader,
                           weir_report *report)
{
    const char *text;
    size_t size;
    if (weir_read_str(reader, &text, &size)) return wrong(f, report, "is a text");
    self->by_time = equals(text, size, "time");
    return self->by_time || equals(text, size, "none")
               ? WEIR_OK
               : wrong(f, report, "is \"none\" or \"time\"");
}

static weir_err read_field(weir_bus_request *self, const field *f, weir_reader *reader,
                           weir_report *report)
{
    void *at = (char *)self + f->offset;
    switch (f->kind) {
    case NUMBER:
        return read_number(f, reader, at, report);
    case WORDED:
        return read_worded(f, reader, at, report);
    case FLAG:
        return weir_read_bool(reader, at) ? wrong(f, report, "is true or false")
                                          : WEIR_OK;
    case TEXT:
    case NAME:
        return read_text(f, reader, at, report);
    case POSITION:
        return read_position(self, f, reader, report);
    case CURSOR:
        return read_cursor(self, f, reader, report);
    case SHARDS:
        return read_shards(self, f, reader, report);
    case ORDER:
        return read_order(self, f, reader, report);
    }
    return WEIR_EINVAL;
}

/* --- Request ----------------------------------------------------------------------- */

static weir_err malformed(weir_report *report, const char *text)
{
    return weir_report_set(report, WEIR_EMALFORMED, NULL, "%s", text);
}

static weir_err read_verb(weir_bus_request *self, weir_reader *reader,
                          weir_report *report)
{
    const char *text;
    size_t size;
    if (weir_read_str(reader, &text, &size))
        return malformed(report, "the second element of a request is its verb, a text");
    for (int verb = 0; verb < WEIR_BUS_VERBS; verb++) {
        if (!equals(text, size, verbs[verb])) continue;
        self->verb = (weir_bus_verb)verb;
        return WEIR_OK;
    }
    return weir_report_set(
        report, WEIR_ENOTFOUND, NULL,
        "unknown verb '%.*s'; there are hello, poll, join, fetch, ack, "
        "nack, leave, groups",
        size < 40 ? (int)size : 40, text);
}

static int find_field(weir_bus_verb verb, const char *name, size_t size)
{
    int i = 0;
    while (i < field_count &&
           (fields[i].verb != verb || !equals(name, size, fields[i].name)))
        i++;
    return i;
}

/*  Each field once; `given` are bits of the table's rows.                              */
static weir_err read_pair(weir_bus_request *self, weir_reader *reader, uint64_t *given,
                          weir_report *report)
{
    const char *name;
    size_t size;
    if (weir_read_str(reader, &name, &size))
        return malformed(report, "the names of fields are texts");
    int i = find_field(self->verb, name, size);
    if (i == field_count)
        return weir_report_set(report, WEIR_EINVAL, NULL, "%s: unknown field '%.*s'",
                               verbs[self->verb], size < 40 ? (int)size : 40, name);
    if (*given >> i & 1) return wrong(&fields[i], report, "is there twice");
    *given |= 1ull << i;
    return read_field(self, &fields[i], reader, report);
}

/*  What the table alone cannot tell.                                                   */
static weir_err check(const weir_bus_request *self, uint64_t given, weir_report *report)
{
    for (int i = 0; i < field_count; i++)
        if (fields[i].verb == self->verb && fields[i].required && !(given >> i & 1))
            return wrong(&fields[i], report, "is missing");
    if (self->verb == WEIR_BUS_POLL && (given & 3) == 3)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "poll: begin either at a cursor or at 'from'");
    if (self->retry_first_ms > self->retry_max_ms)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "join: retry_first_ms is more than retry_max_ms");
    return WEIR_OK;
}

static weir_err read_fields(weir_bus_request *self, weir_reader *reader,
                            weir_report *report)
{
    uint32_t count;
    uint64_t given = 0;
    weir_err err = WEIR_OK;
    if (weir_read_map(reader, &count))
        return malformed(report, "the third element of a request are its fields, a map");
    while (count-- && !err)
        err = read_pair(self, reader, &given, report);
    if (err) return err;
    if (reader->at != reader->end)
        return malformed(report, "there are bytes behind the request");
    return check(self, given, report);
}

weir_err weir_bus_request_read(weir_bus_request *self, const void *data, size_t size,
                               weir_report *report)
{
    const uint8_t *start = size ? data : (const uint8_t *)""; // of an empty frame: NULL
    weir_reader reader = {start, start + size};
    uint32_t count;
    *self = defaults;
    if (size > WEIR_BUS_REQUEST_MAX)
        return weir_report_set(report, WEIR_ETOOBIG, NULL,
                               "a request has at most %d bytes", WEIR_BUS_REQUEST_MAX);
    if (weir_read_array(&reader, &count) || count != 3)
        return malformed(report, "this is the endpoint of a bus: a request is one "
                                 "MessagePack array [id, verb, fields]");
    self->has_id = weir_read_uint(&reader, &self->id) == WEIR_OK;
    if (!self->has_id)
        return malformed(report, "the first element of a request is its id, a number");
    weir_err err = read_verb(self, &reader, report);
    return err ? err : read_fields(self, &reader, report);
}

void weir_bus_request_fini(weir_bus_request *self)
{
    free(self->cursor);
    free(self->where);
    free(self->shards);
    free(self->group);
    free(self->member);
    free(self->why);
    *self = (weir_bus_request){0};
}
