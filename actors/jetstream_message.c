#include "actors/jetstream_message.h"
#include <stdlib.h>
#include <string.h>
#include "actors/dedup.h"
#include "actors/jetstream_api.h"
#include "runtime/utf8.h"

/*  What a subject's token consists of: a field is a whole one, or a part of one.     */
static const char *check_token(const uint8_t *data, size_t size)
{
    if (size == 0) return "a field of the subject is empty";
    for (size_t i = 0; i < size; i++)
        if (data[i] <= ' ' || data[i] == 0x7f || strchr(".*>", data[i]))
            return "a field of the subject has a space, '.', '*', '>' or a control "
                   "character";
    return NULL;
}

/*  Headers end with the line, and libnats takes C texts.                            */
static const char *check_line(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i] == '\r' || data[i] == '\n' || !data[i])
            return "a header or the id has a line break or a zero byte";
    return NULL;
}

/* --- Options ----------------------------------------------------------------------- */

static weir_err parse(weir_template *self, const char *text, weir_template_check *check,
                      const char *option, weir_report *report)
{
    weir_report cause = {0};
    if (!text) return weir_report_set(report, WEIR_EINVAL, option, "is required");
    weir_err err = weir_template_parse(self, text, &cause);
    self->check = check;
    return err ? weir_report_set(report, err, option, "%s", cause.text) : WEIR_OK;
}

/*  The texts between the fields make a subject whose tokens are none empty.          */
static weir_err check_subject(const weir_js_message *self, weir_report *report)
{
    char pattern[WEIR_JS_SUBJECT_MAX];
    if (!weir_js_message_pattern(self, pattern, sizeof pattern))
        return weir_report_set(report, WEIR_EINVAL, "subject", "it is too long");
    size_t size = strlen(pattern);
    if (!size || pattern[0] == '.' || pattern[size - 1] == '.' || strstr(pattern, ".."))
        return weir_report_set(report, WEIR_EINVAL, "subject",
                               "a token between the dots is empty");
    if (!weir_utf8_valid((const uint8_t *)pattern, size))
        return weir_report_set(report, WEIR_EINVAL, "subject", "it is no UTF-8");
    for (size_t i = 0; i < self->subject.count; i++) {
        const weir_template_part *part = &self->subject.parts[i];
        for (size_t k = 0; k < part->size; k++)
            if (part->text[k] != '.' && check_token((uint8_t *)part->text + k, 1))
                return weir_report_set(report, WEIR_EINVAL, "subject",
                                       "a space, '*', '>' or a control character in it");
    }
    return WEIR_OK;
}

/*  Fields of a header's name, as RFC 5322 has it: printable, no colon.               */
static bool is_header_name(const char *name)
{
    for (const char *at = name; *at; at++)
        if (*at <= ' ' || *at > '~' || *at == ':') return false;
    return *name;
}

static weir_err add_header(weir_js_message *self, const weir_rule *rule,
                           weir_report *report)
{
    weir_js_message_header *header = &self->headers[self->header_count++];
    header->name = rule->name;
    if (!is_header_name(rule->name))
        return weir_report_set(report, WEIR_EINVAL, "headers",
                               "'%.60s' is no name of a header", rule->name);
    if (!strcasecmp(rule->name, WEIR_JS_ID) ||
        !strcasecmp(rule->name, WEIR_JS_EXPECTED_STREAM))
        return weir_report_set(report, WEIR_EINVAL, "headers",
                               "%s comes from the option '%s'", rule->name,
                               strcasecmp(rule->name, WEIR_JS_ID) ? "stream" : "id");
    weir_err err = parse(&header->template, rule->where, check_line, "headers", report);
    header->template.any = true;
    return err;
}

static weir_err check_stream(const char *name, weir_report *report)
{
    size_t size = strlen(name);
    if (size && size < WEIR_JS_NAME && !strpbrk(name, ". \t\r\n\f*>/\\") &&
        weir_utf8_valid((const uint8_t *)name, size))
        return WEIR_OK;
    return weir_report_set(
        report, WEIR_EINVAL, "stream",
        "a name is UTF-8 of 1 to %d bytes, and has no space, '.', '*', '>', '/' "
        "or '\\'",
        WEIR_JS_NAME - 1);
}

weir_err weir_js_message_init(weir_js_message *self, const weir_js_message_config *config,
                              weir_report *report)
{
    *self = (weir_js_message){.config = *config};
    weir_err err = parse(&self->subject, config->subject, check_token, "subject", report);
    if (!err) err = check_subject(self, report);
    if (!err && config->stream) err = check_stream(config->stream, report);
    if (!err && config->payload)
        err = parse(&self->payload, config->payload, NULL, "payload", report);
    self->payload.any = true;
    if (!err && config->id) err = parse(&self->id, config->id, check_line, "id", report);
    size_t count = config->headers ? config->headers->count : 0;
    if (count) self->headers = calloc(count, sizeof *self->headers);
    if (count && !self->headers) abort();
    for (size_t i = 0; i < count && !err; i++)
        err = add_header(self, &config->headers->items[i], report);
    return err;
}

void weir_js_message_fini(weir_js_message *self)
{
    weir_template_fini(&self->subject);
    weir_template_fini(&self->payload);
    weir_template_fini(&self->id);
    for (size_t i = 0; i < self->header_count; i++)
        weir_template_fini(&self->headers[i].template);
    free(self->headers);
    weir_buffer_fini(&self->scratch);
    weir_buffer_fini(&self->text);
    *self = (weir_js_message){0};
}

/*  A token with a field in it is any.                                              */
bool weir_js_message_pattern(const weir_js_message *self, char *to, size_t size)
{
    size_t length = 0, token = 0; // where the last token begins
    bool any = false;             // it has a field
    for (size_t i = 0; i < self->subject.count; i++) {
        const weir_template_part *part = &self->subject.parts[i];
        for (size_t k = 0; k < part->size && length + 2 < size; k++) {
            bool dot = part->text[k] == '.';
            if (dot) any = false;
            if (!any) to[length++] = part->text[k];
            if (dot) token = length;
        }
        if (part->kind == WEIR_TEMPLATE_TEXT || length + 2 >= size) continue;
        any = true;
        length = token;
        to[length++] = '*';
    }
    to[length] = '\0';
    return length + 2 < size;
}

/* --- Making ------------------------------------------------------------------------ */

static const char *put_text(const weir_template *template, weir_subject *subject,
                            weir_buffer *out)
{
    out->size = 0;
    const char *error = weir_template_put(template, subject, out);
    weir_buffer_put_byte(out, '\0');
    return error;
}

static const char *put_payload(weir_js_message *self, weir_subject *subject,
                               const uint8_t **data, size_t *size)
{
    const weir_record *record = &subject->record;
    const char *error = NULL;
    *data = record->data;
    *size = record->size;
    if (!self->config.payload && record->format != WEIR_MSGPACK) return NULL;
    self->scratch.size = 0;
    if (self->config.payload) {
        error = weir_template_put(&self->payload, subject, &self->scratch);
    } else {
        weir_value value = {.type = WEIR_MAP,
                            .format = WEIR_MSGPACK,
                            .data = record->data,
                            .size = record->size};
        if (weir_json_put_value(&self->scratch, &value))
            error = "the MessagePack payload holds what JSON cannot say";
    }
    *data = self->scratch.data;
    *size = self->scratch.size;
    return error;
}

static const char *set_header(natsMsg *msg, const char *name, const char *value)
{
    return natsMsgHeader_Set(msg, name, value) ? "libnats takes no header of it" : NULL;
}

/*  What a place says, or the template; without either there is none.                 */
static const char *set_id(weir_js_message *self, weir_subject *subject, natsMsg *msg)
{
    char id[WEIR_ID_TEXT];
    weir_place place;
    if (self->config.id) {
        const char *error = put_text(&self->id, subject, &self->text);
        if (!error && self->text.size == 1) error = "its id is empty";
        return error ? error : set_header(msg, WEIR_JS_ID, (char *)self->text.data);
    }
    if (!weir_subject_place(subject, &place)) return NULL;
    weir_id_print(&(weir_id){place.nonce, place.epoch, place.shard, place.sequence}, id);
    return set_header(msg, WEIR_JS_ID, id);
}

static const char *set_headers(weir_js_message *self, weir_subject *subject, natsMsg *msg)
{
    const char *error = set_id(self, subject, msg);
    if (!error && self->config.stream)
        error = set_header(msg, WEIR_JS_EXPECTED_STREAM, self->config.stream);
    for (size_t i = 0; i < self->header_count && !error; i++) {
        error = put_text(&self->headers[i].template, subject, &self->text);
        if (!error)
            error = set_header(msg, self->headers[i].name, (char *)self->text.data);
    }
    return error;
}

const char *weir_js_message_make(weir_js_message *self, weir_subject *subject,
                                 natsMsg **msg)
{
    const uint8_t *data;
    size_t size;
    *msg = NULL;
    const char *error = put_text(&self->subject, subject, &self->text);
    if (!error && self->text.size > WEIR_JS_SUBJECT_MAX)
        error = "its subject is above 1024 bytes";
    if (!error) error = put_payload(self, subject, &data, &size);
    if (!error && size > INT32_MAX) error = "its payload is above 2 GB";
    if (!error &&
        natsMsg_Create(msg, (char *)self->text.data, NULL, (const char *)data, (int)size))
        error = "libnats makes no message of it";
    if (!error) error = set_headers(self, subject, *msg);
    if (!error) return NULL;
    natsMsg_Destroy(*msg);
    *msg = NULL;
    return error;
}
