#include "actors/jetstream_api.h"
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include "runtime/base64.h"

#define NS_PER_US INT64_C(1000)

/*  The last instant that the server can count in nanoseconds.                       */
#define TIME_MAX_MS (INT64_MAX / 1000000)

bool weir_js_error_is_fatal(int err_code)
{
    static const int fatal[] = {
        10003, // bad request
        10025, // invalid JSON
        10039, // JetStream not enabled for the account
        10052, // invalid configuration of the stream
        10053, // limits
        10058, // the name is taken
        10061, // replicas cannot be changed
        10065, // the subject is another stream's
        10074, // replicas without a cluster
        10109, // sealed
        10113, // the account wants max_bytes
        10120, // no limits for that many replicas
        10122, // max_bytes is above the account's
    };
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        if (fatal[i] == err_code) return true;
    return false;
}

/* --- Names ------------------------------------------------------------------------- */

void weir_js_names_make(weir_js_names *self, const weir_jetstream_config *config,
                        uint32_t shard)
{
    snprintf(self->stream, sizeof self->stream, "%s_%s_%" PRIu32, config->prefix,
             config->bus, shard);
    snprintf(self->subject, sizeof self->subject, "%s.%s.%" PRIu32, config->prefix,
             config->bus, shard);
}

bool weir_js_names_shard(const weir_jetstream_config *config, const char *stream,
                         size_t size, uint32_t *shard)
{
    char name[WEIR_JS_NAME];
    weir_js_names names;
    if (size >= sizeof name) return false;
    memcpy(name, stream, size);
    name[size] = '\0';
    const char *number = strrchr(name, '_');
    if (!number) return false;
    *shard = (uint32_t)strtoul(number + 1, NULL, 10);
    weir_js_names_make(&names, config, *shard);
    return strcmp(names.stream, name) == 0;
}

void weir_js_ask(char subject[2 * WEIR_JS_NAME], const char *what, const char *stream,
                 const char *more)
{
    snprintf(subject, 2 * WEIR_JS_NAME, "$JS.API.%s%s%.*s%s%s", what, *stream ? "." : "",
             WEIR_JS_NAME, stream, *more ? "." : "", more);
}

/* --- Answers ----------------------------------------------------------------------- */

bool weir_js_member(const weir_value *from, const char *name, weir_value *to)
{
    weir_step step = {.name = (char *)name, .size = strlen(name)};
    return weir_value_child(from, &step, to);
}

int64_t weir_js_integer(const weir_value *from, const char *name)
{
    weir_value value;
    weir_js_member(from, name, &value);
    return value.type == WEIR_INT ? value.integer : 0;
}

uint64_t weir_js_number(const weir_value *from, const char *name)
{
    weir_value value;
    weir_js_member(from, name, &value);
    if (value.type == WEIR_UINT) return value.natural;
    return value.type == WEIR_INT && value.integer > 0 ? (uint64_t)value.integer : 0;
}

/*  As much as fits; "": it is no text.                                             */
static void put_text(const weir_value *value, char *to, size_t size)
{
    weir_buffer scratch = {0};
    size_t length = 0;
    const char *text = "";
    if (value->type == WEIR_STR) text = weir_value_text(value, &scratch, &length);
    if (length >= size) length = size - 1;
    memcpy(to, text, length);
    to[length] = '\0';
    weir_buffer_fini(&scratch);
}

void weir_js_text(const weir_value *from, const char *name, char *to, size_t size)
{
    weir_value value;
    weir_js_member(from, name, &value);
    put_text(&value, to, size);
}

int weir_js_status(natsMsg *msg)
{
    const char *status = NULL;
    if (natsMsg_GetDataLength(msg)) return 0;
    return natsMsgHeader_Get(msg, "Status", &status) == NATS_OK ? atoi(status) : 0;
}

static void fail(weir_js_response *self, int code, const char *text)
{
    self->failed = true;
    self->code = code;
    snprintf(self->text, sizeof self->text, "%s", text);
}

void weir_js_response_read(weir_js_response *self, natsMsg *msg)
{
    weir_value error;
    const uint8_t *data = (const uint8_t *)natsMsg_GetData(msg);
    size_t size = (size_t)natsMsg_GetDataLength(msg);
    self->failed = false;
    self->code = self->err_code = 0;
    self->root = (weir_value){0};
    if (natsMsg_IsNoResponders(msg)) {
        fail(self, 503, "no JetStream answers there");
    } else if (weir_doc_parse(&self->doc, WEIR_JSON, data, size)) {
        fail(self, 500, "an answer of JetStream is not JSON");
    } else {
        const weir_json_index *index = &self->doc.index;
        weir_json_read(data + index->root, index->root_size, &self->root);
        if (!weir_js_member(&self->root, "error", &error)) return;
        fail(self, (int)weir_js_number(&error, "code"), "");
        self->err_code = (int)weir_js_number(&error, "err_code");
        weir_js_text(&error, "description", self->text, sizeof self->text);
    }
}

void weir_js_response_fini(weir_js_response *self)
{
    weir_doc_fini(&self->doc);
}

/* --- Times ------------------------------------------------------------------------- */

/*  2026-01-31T12:34:56.123456789Z, in ms; 0: it is none, or before 1970.             */
int64_t weir_js_time(const weir_value *from, const char *name)
{
    char text[64], *fraction;
    struct tm t = {0};
    weir_js_text(from, name, text, sizeof text);
    if (sscanf(text, "%d-%d-%dT%d:%d:%d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
               &t.tm_min, &t.tm_sec) != 6)
        return 0;
    t.tm_year -= 1900;
    t.tm_mon--;
    int64_t ms = (int64_t)timegm(&t) * 1000;
    fraction = strchr(text, '.');
    if (fraction) ms += (int64_t)(strtod(fraction, NULL) * 1000);
    return ms > 0 ? ms : 0;
}

void weir_js_put_time(weir_buffer *out, int64_t ms)
{
    char text[32];
    if (ms > TIME_MAX_MS) ms = TIME_MAX_MS;
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;
    gmtime_r(&seconds, &t);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    weir_buffer_printf(out, "\"%s.%03dZ\"", text, (int)(ms % 1000));
}

/* --- Streams ----------------------------------------------------------------------- */

void weir_js_state_read(weir_js_state *self, const weir_value *info)
{
    weir_value state;
    weir_js_member(info, "state", &state);
    *self = (weir_js_state){
        .first = weir_js_number(&state, "first_seq"),
        .last = weir_js_number(&state, "last_seq"),
        .messages = weir_js_number(&state, "messages"),
        .bytes = weir_js_number(&state, "bytes"),
    };
    if (!self->messages) {
        self->first = self->last + 1;
    } else {
        self->first_ms = weir_js_time(&state, "first_ts");
        self->last_ms = weir_js_time(&state, "last_ts");
    }
}

/*  Members that follow from the bus's options, and may change between two starts.    */
typedef struct {
    const char *name;
    int64_t value;
} bound;

enum { bounds = 5 };

static int64_t or_none(int64_t value)
{
    return value == WEIR_FOREVER ? -1 : value;
}

static void make_bounds(bound list[bounds], const weir_jetstream_config *config)
{
    bool ages = config->keep_age_us != WEIR_FOREVER;
    int64_t dedup_us = config->dedup_us;
    if (ages && config->keep_age_us < dedup_us) dedup_us = config->keep_age_us;
    list[0] = (bound){"max_msgs", or_none(config->keep_records)};
    list[1] = (bound){"max_bytes", or_none(config->keep_bytes)};
    list[2] = (bound){"max_age", ages ? config->keep_age_us * NS_PER_US : 0};
    list[3] = (bound){"duplicate_window", dedup_us * NS_PER_US};
    list[4] = (bound){"num_replicas", config->replicas};
}

static void put_bounds(weir_buffer *out, const weir_jetstream_config *config)
{
    bound list[bounds];
    make_bounds(list, config);
    for (int i = 0; i < bounds; i++)
        weir_buffer_printf(out, ",\"%s\":%" PRId64, list[i].name, list[i].value);
}

void weir_js_put_stream(weir_buffer *out, const weir_jetstream_config *config,
                        const weir_js_names *names)
{
    weir_buffer_put_text(out, "{\"name\":");
    weir_json_put_string(out, names->stream, strlen(names->stream));
    weir_buffer_put_text(out, ",\"subjects\":[");
    weir_json_put_string(out, names->subject, strlen(names->subject));
    weir_buffer_put_text(out, "],\"retention\":\"limits\",\"storage\":\"file\","
                              "\"discard\":\"old\",\"allow_direct\":true,"
                              "\"max_consumers\":-1,\"max_msg_size\":-1");
    put_bounds(out, config);
    weir_buffer_put_byte(out, '}');
}

static bool has_text(const weir_value *config, const char *name, const char *wanted,
                     char why[200])
{
    char text[64];
    weir_js_text(config, name, text, sizeof text);
    if (strcmp(text, wanted) == 0) return true;
    snprintf(why, 200, "its %s is \"%s\", not \"%s\"", name, text, wanted);
    return false;
}

static bool has_subject(const weir_value *config, const weir_js_names *names,
                        char why[200])
{
    weir_value list, key, one, next;
    weir_walk walk = {0};
    weir_js_member(config, "subjects", &list);
    bool is_ours = weir_value_next(&list, &walk, &key, &one) && one.type == WEIR_STR &&
                   !one.escaped && one.size == strlen(names->subject) &&
                   !memcmp(one.data, names->subject, one.size) &&
                   !weir_value_next(&list, &walk, &key, &next);
    if (!is_ours) snprintf(why, 200, "its subject is not %s alone", names->subject);
    return is_ours;
}

/*  What would lose records, keep none, or bring in others.                         */
static bool is_plain(const weir_value *config, char why[200])
{
    static const char *const none[] = {
        "mirror", "sources",   "subject_transform", "no_ack",
        "sealed", "republish", "allow_rollup_hdrs", NULL};
    weir_value value;
    for (int i = 0; none[i]; i++) {
        if (!weir_js_member(config, none[i], &value) || value.type == WEIR_NULL ||
            (value.type == WEIR_BOOL && !value.boolean))
            continue;
        snprintf(why, 200, "it has %s", none[i]);
        return false;
    }
    if (weir_js_integer(config, "max_msgs_per_subject") <= 0) return true;
    snprintf(why, 200, "it has max_msgs_per_subject");
    return false;
}

static bool differs(const weir_value *config, const bound *wanted)
{
    int64_t is = weir_js_integer(config, wanted->name);
    if (is == wanted->value) return false;
    return is > 0 || wanted->value > 0; // 0 and less: none
}

static const bound *find_bound(const bound list[bounds], const weir_value *key)
{
    for (int i = 0; i < bounds; i++)
        if (weir_json_equal(key->data, key->size, key->escaped, list[i].name,
                            strlen(list[i].name)))
            return &list[i];
    return NULL;
}

/*  The stream's own configuration, with our bounds.                                */
static void put_update(weir_buffer *out, const weir_value *config,
                       const weir_jetstream_config *wanted)
{
    bound list[bounds];
    weir_walk walk = {0};
    weir_value key, value;
    make_bounds(list, wanted);
    weir_buffer_put_text(out, "{\"allow_direct\":true");
    while (weir_value_next(config, &walk, &key, &value)) {
        bool is_direct = weir_json_equal(key.data, key.size, key.escaped, "allow_direct",
                                         sizeof "allow_direct" - 1);
        if (is_direct || find_bound(list, &key)) continue;
        weir_buffer_put_byte(out, ',');
        weir_json_put_value(out, &key);
        weir_buffer_put_byte(out, ':');
        weir_json_put_value(out, &value);
    }
    put_bounds(out, wanted);
    weir_buffer_put_byte(out, '}');
}

weir_js_verdict weir_js_judge_stream(const weir_value *info,
                                     const weir_jetstream_config *config,
                                     const weir_js_names *names, weir_buffer *update,
                                     char why[200])
{
    bound list[bounds];
    weir_value is;
    bool outdated = false;
    weir_js_member(info, "config", &is);
    if (!has_subject(&is, names, why) || !has_text(&is, "retention", "limits", why) ||
        !has_text(&is, "storage", "file", why) || !has_text(&is, "discard", "old", why) ||
        !is_plain(&is, why))
        return WEIR_JS_FOREIGN;
    make_bounds(list, config);
    for (int i = 0; i < bounds; i++)
        outdated |= differs(&is, &list[i]);
    if (!outdated) return WEIR_JS_FITS;
    put_update(update, &is, config);
    return WEIR_JS_OUTDATED;
}

/* --- Messages ---------------------------------------------------------------------- */

void weir_js_put_get(weir_buffer *out, uint64_t sequence)
{
    weir_buffer_printf(out, "{\"seq\":%" PRIu64 "}", sequence);
}

/*  "NATS/1.0\r\nName: value\r\n..\r\n", in base64.                                   */
void weir_js_message_id(const weir_value *answer, char *id, size_t size)
{
    static const char name[] = "\r\n" WEIR_JS_ID ":";
    weir_value message, headers;
    size_t length = 0;
    id[0] = '\0';
    weir_js_member(answer, "message", &message);
    weir_js_member(&message, "hdrs", &headers);
    if (headers.type != WEIR_STR) return;
    char *text = malloc(headers.size + 1);
    if (!text) abort();
    if (weir_base64_decode((uint8_t *)text, &length, (const char *)headers.data,
                           headers.size))
        length = 0;
    text[length] = '\0';
    const char *found = strcasestr(text, name);
    if (found) {
        found += sizeof name - 1;
        found += strspn(found, " ");
        snprintf(id, size, "%.*s", (int)strcspn(found, "\r\n"), found);
    }
    free(text);
}

/* --- Consumers --------------------------------------------------------------------- */

void weir_js_put_consumer(weir_buffer *out, const char *stream, uint64_t sequence,
                          int64_t since_ms, int64_t idle_us)
{
    weir_buffer_printf(out,
                       "{\"stream_name\":\"%s\",\"config\":{\"ack_policy\":\"none\","
                       "\"replay_policy\":\"instant\",\"max_deliver\":-1,"
                       "\"mem_storage\":true,\"inactive_threshold\":%" PRId64,
                       stream, idle_us * NS_PER_US);
    if (since_ms) {
        weir_buffer_put_text(out,
                             ",\"deliver_policy\":\"by_start_time\",\"opt_start_time\":");
        weir_js_put_time(out, since_ms);
    } else {
        weir_buffer_printf(out,
                           ",\"deliver_policy\":\"by_start_sequence\","
                           "\"opt_start_seq\":%" PRIu64,
                           sequence);
    }
    weir_buffer_put_text(out, "}}");
}

void weir_js_put_next(weir_buffer *out, uint32_t records, size_t bytes, int64_t wait_us)
{
    weir_buffer_printf(out,
                       "{\"batch\":%" PRIu32 ",\"no_wait\":true,\"expires\":%" PRId64,
                       records, wait_us * NS_PER_US);
    if (bytes) weir_buffer_printf(out, ",\"max_bytes\":%zu", bytes);
    weir_buffer_put_byte(out, '}');
}

/*  Splits $JS.ACK.[domain.account.]stream.consumer.delivered.sequence.number.time.pending
    [.x], whose parts are dots apart, and gives the index of the consumer; 0: it is none.
 */
static size_t split_reply(const char *reply, const char *parts[16])
{
    size_t count = 0;
    if (!reply || strncmp(reply, "$JS.ACK.", 8)) return 0;
    for (const char *at = reply; at && count < 16; at = strchr(at, '.'))
        parts[count++] = at += at != reply;
    if (count != 9 && count < 11) return 0;
    return count == 9 ? 3 : 5;
}

/*  "NATS/1.0\r\n", "Name: value\r\n" for each, "\r\n": as libnats writes them. */
static size_t bytes_of_header(const char *name, const char *value)
{
    return strlen(name) + strlen(value) + strlen(": \r\n");
}

static size_t bytes_without(natsMsg *msg)
{
    return (size_t)natsMsg_GetDataLength(msg) + strlen(natsMsg_GetSubject(msg)) +
           strlen(natsMsg_GetReply(msg));
}

static const size_t bytes_of_frame = sizeof "NATS/1.0\r\n\r\n" - 1;

size_t weir_js_stored_bytes(natsMsg *msg)
{
    static const char *const names[] = {WEIR_JS_ID, WEIR_JS_EXPECTED_LAST,
                                        WEIR_JS_EXPECTED_ID};
    size_t bytes = bytes_of_frame;
    const char *value;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (natsMsgHeader_Get(msg, names[i], &value) == NATS_OK)
            bytes += bytes_of_header(names[i], value);
    return bytes + bytes_without(msg);
}

size_t weir_js_delivered_bytes(natsMsg *msg)
{
    const char **names = NULL, **values = NULL;
    int count = 0, of_name = 0;
    size_t bytes = 0;
    if (natsMsgHeader_Keys(msg, &names, &count)) return bytes_without(msg);
    for (int i = 0; i < count; i++) {
        if (natsMsgHeader_Values(msg, names[i], &values, &of_name)) continue;
        for (int k = 0; k < of_name; k++)
            bytes += bytes_of_header(names[i], values[k]);
        free((void *)values);
    }
    free((void *)names);
    return bytes_of_frame + bytes + bytes_without(msg);
}

bool weir_js_delivery_read(weir_js_delivery *self, const char *reply)
{
    const char *parts[16];
    size_t skip = split_reply(reply, parts);
    if (!skip) return false;
    size_t size = strcspn(parts[skip], ".");
    if (size >= sizeof self->consumer) return false;
    memcpy(self->consumer, parts[skip], size);
    self->consumer[size] = '\0';
    self->delivered = strtoull(parts[skip + 1], NULL, 10);
    self->sequence = strtoull(parts[skip + 2], NULL, 10);
    self->number = strtoull(parts[skip + 3], NULL, 10);
    self->stored_ms = strtoll(parts[skip + 4], NULL, 10) / 1000000;
    self->pending = strtoull(parts[skip + 5], NULL, 10);
    return self->sequence > 0;
}

/*  The server finds the message by its sequence, and has the rest itself.            */
bool weir_js_ack_subject(char *to, size_t size, const char *reply, uint64_t sequence)
{
    const char *parts[16];
    size_t skip = split_reply(reply, parts);
    if (!skip) return false;
    int length =
        snprintf(to, size, "%.*s1.%" PRIu64 ".0.%s", (int)(parts[skip + 1] - reply),
                 reply, sequence, parts[skip + 4]);
    return length > 0 && (size_t)length < size;
}

/* --- Subjects ---------------------------------------------------------------------- */

/*  Whether there is a subject that both patterns stand for; * is any token, > any others.
 */
static bool overlap(const char *a, const char *b)
{
    while (*a && *b) {
        size_t size = strcspn(a, "."), other = strcspn(b, ".");
        if (*a == '>' || *b == '>') return true;
        bool any = (size == 1 && *a == '*') || (other == 1 && *b == '*');
        if (!any && (size != other || memcmp(a, b, size))) return false;
        a += size + (a[size] == '.');
        b += other + (b[other] == '.');
    }
    return !*a && !*b;
}

bool weir_js_stream_takes(const weir_value *info, const char *pattern)
{
    weir_value config, subjects, key, subject;
    weir_walk walk = {0};
    char text[WEIR_JS_NAME];
    bool takes = false;
    if (!weir_js_member(info, "config", &config) ||
        !weir_js_member(&config, "subjects", &subjects))
        return false;
    while (!takes && weir_value_next(&subjects, &walk, &key, &subject)) {
        put_text(&subject, text, sizeof text);
        takes = overlap(text, pattern);
    }
    return takes;
}
