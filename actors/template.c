#include "actors/template.h"
#include <inttypes.h>
#include <stdio.h>
#include "runtime/json.h"

/*  What begins with a dollar; `headers.` is followed by a name.                  */
static const struct {
    const char *name;
    weir_template_kind kind;
} words[] = {
    {"raw", WEIR_TEMPLATE_RAW},   {"key", WEIR_TEMPLATE_KEY},
    {"ts", WEIR_TEMPLATE_TS},     {"source", WEIR_TEMPLATE_SOURCE},
    {"peer", WEIR_TEMPLATE_PEER}, {"id", WEIR_TEMPLATE_ID},
    {NULL, WEIR_TEMPLATE_TEXT},
};

static weir_template_part *add_part(weir_template *self)
{
    self->parts = realloc(self->parts, (self->count + 1) * sizeof *self->parts);
    if (!self->parts) abort();
    weir_template_part *part = &self->parts[self->count++];
    *part = (weir_template_part){0};
    return part;
}

/*  The text up to the next field; {{ becomes one brace.                          */
static const char *read_text(weir_template_part *part, const char *at)
{
    part->text = malloc(strlen(at) + 1);
    if (!part->text) abort();
    for (; *at && (*at != '{' || at[1] == '{'); at++) {
        part->text[part->size++] = *at;
        if (*at == '{') at++;
    }
    return at;
}

static weir_err read_word(weir_template_part *part, const char *name)
{
    static const char headers[] = "headers.";
    size_t i = 0, size = sizeof headers - 1;
    if (!strncmp(name, headers, size) && name[size]) {
        part->kind = WEIR_TEMPLATE_HEADER;
        part->header = strdup(name + size);
        if (!part->header) abort();
        return WEIR_OK;
    }
    while (words[i].name && strcmp(words[i].name, name))
        i++;
    part->kind = words[i].kind;
    return words[i].name ? WEIR_OK : WEIR_EINVAL;
}

static weir_err read_name(weir_template_part *part, const char *name)
{
    size_t error_at;
    if (*name == '$') return read_word(part, name + 1);
    part->kind = WEIR_TEMPLATE_FIELD;
    return weir_path_parse(&part->path, name, &error_at);
}

static char *say(const char *format, const char *name)
{
    char *text;
    if (asprintf(&text, format, name) < 0) abort();
    return text;
}

static weir_err read_field(weir_template_part *part, const char **at, weir_report *report)
{
    const char *end = strchr(*at, '}');
    if (!end)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "a '{' without '}' (write {{ for a brace)");
    char *name = strndup(*at + 1, (size_t)(end - *at - 1));
    if (!name) abort();
    weir_err err = read_name(part, name);
    if (err)
        weir_report_set(report, err, NULL, "'%.60s' between braces is no field path",
                        name);
    part->missing = say("the record has no {%.100s}", name);
    part->unfit = say("{%.100s} is neither text, integer nor boolean", name);
    free(name);
    *at = end + 1;
    return err;
}

weir_err weir_template_parse(weir_template *self, const char *text, weir_report *report)
{
    weir_err err = WEIR_OK;
    *self = (weir_template){0};
    while (*text && !err) {
        weir_template_part *part = add_part(self);
        text = read_text(part, text);
        if (*text) err = read_field(part, &text, report);
    }
    return err;
}

void weir_template_fini(weir_template *self)
{
    for (size_t i = 0; i < self->count; i++) {
        free(self->parts[i].text);
        free(self->parts[i].header);
        free(self->parts[i].missing);
        free(self->parts[i].unfit);
        weir_path_fini(&self->parts[i].path);
    }
    free(self->parts);
    *self = (weir_template){0};
}

/* --- Values ------------------------------------------------------------------------ */

/*  What a record lacks is not put; any: also values that are no key, as JSON.     */
static const char *put_value(const weir_template_part *part, const weir_value *value,
                             bool any, weir_buffer *out)
{
    weir_buffer scratch = {0};
    char number[24];
    const uint8_t *data;
    size_t size;
    if (value->type == WEIR_MISSING) return part->missing;
    bool good = weir_key_bytes(value, number, &scratch, &data, &size);
    if (good) weir_buffer_put(out, data, size);
    weir_buffer_fini(&scratch);
    if (good) return NULL;
    if (any)
        return weir_json_put_value(out, value)
                   ? "a field of the text is what JSON cannot say"
                   : NULL;
    return part->unfit;
}

static const char *put_field(const weir_template_part *part, weir_subject *subject,
                             bool any, weir_buffer *out)
{
    weir_value value;
    if (!weir_subject_parse(subject)) return "the payload cannot be decoded";
    if (!weir_doc_get(subject->doc, &part->path, &value)) return part->missing;
    return put_value(part, &value, any, out);
}

static const char *put_raw(const weir_record *record, weir_buffer *out)
{
    const weir_value map = {.type = WEIR_MAP,
                            .format = WEIR_MSGPACK,
                            .data = record->data,
                            .size = record->size};
    if (record->format == WEIR_MSGPACK)
        return weir_json_put_value(out, &map) ? "the payload holds what JSON cannot say"
                                              : NULL;
    weir_buffer_put(out, record->data, record->size);
    return NULL;
}

static const char *put_text(const weir_template_part *part, const char *text,
                            weir_buffer *out)
{
    if (!text) return part->missing;
    weir_buffer_put_text(out, text);
    return NULL;
}

void weir_template_put_place(const weir_place *place, weir_buffer *out)
{
    weir_buffer_printf(out, "%016" PRIx64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu64,
                       place->nonce, place->epoch, place->shard, place->sequence);
}

static const char *put_id(const weir_subject *subject, weir_buffer *out)
{
    weir_place place;
    if (!weir_subject_place(subject, &place))
        return "the record has no id: it does not come straight from a bus with a store";
    weir_template_put_place(&place, out);
    return NULL;
}

static const char *put_header(const weir_template_part *part, const weir_record *record,
                              bool any, weir_buffer *out)
{
    weir_value value;
    weir_record_header(record, part->header, strlen(part->header), &value);
    return put_value(part, &value, any, out);
}

static const char *put_part(const weir_template_part *part, weir_subject *subject,
                            bool any, weir_buffer *out)
{
    const weir_record *record = &subject->record;
    switch (part->kind) {
    case WEIR_TEMPLATE_FIELD:
        return put_field(part, subject, any, out);
    case WEIR_TEMPLATE_RAW:
        return put_raw(record, out);
    case WEIR_TEMPLATE_KEY:
        return put_value(part, &record->key, any, out);
    case WEIR_TEMPLATE_TS:
        if (!record->has_ts) return part->missing;
        weir_buffer_printf(out, "%" PRId64, record->ts_ms);
        return NULL;
    case WEIR_TEMPLATE_SOURCE:
        return put_text(part, subject->source, out);
    case WEIR_TEMPLATE_PEER:
        return put_text(part, subject->peer, out);
    case WEIR_TEMPLATE_ID:
        return put_id(subject, out);
    case WEIR_TEMPLATE_HEADER:
        return put_header(part, record, any, out);
    case WEIR_TEMPLATE_TEXT:
        break;
    }
    return NULL;
}

const char *weir_template_put(const weir_template *self, weir_subject *subject,
                              weir_buffer *out)
{
    const char *error = NULL;
    for (size_t i = 0; i < self->count && !error; i++) {
        weir_buffer_put(out, self->parts[i].text, self->parts[i].size);
        size_t before = out->size;
        weir_buffer_reserve(out, 1); // so that there are bytes to look at
        error = put_part(&self->parts[i], subject, self->any, out);
        if (!error && self->check && self->parts[i].kind != WEIR_TEMPLATE_TEXT)
            error = self->check(out->data + before, out->size - before);
    }
    return error;
}
