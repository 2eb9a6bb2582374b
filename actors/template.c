#include "actors/template.h"
#include <stdio.h>

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

static weir_err read_field(weir_template_part *part, const char **at, weir_report *report)
{
    size_t error_at;
    const char *end = strchr(*at, '}');
    if (!end)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "a '{' without '}' (write {{ for a brace)");
    char *path = strndup(*at + 1, (size_t)(end - *at - 1));
    if (!path) abort();
    weir_err err = weir_path_parse(&part->path, path, &error_at);
    if (err)
        weir_report_set(report, err, NULL, "'%.60s' between braces is no field path",
                        path);
    free(path);
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
        weir_path_fini(&self->parts[i].path);
    }
    free(self->parts);
    *self = (weir_template){0};
}

static const char *put_field(const weir_path *path, weir_template_check *check,
                             weir_subject *subject, weir_buffer *out)
{
    weir_value value;
    weir_buffer scratch = {0};
    char number[24];
    const uint8_t *data;
    size_t size;
    if (!weir_subject_parse(subject)) return "the payload cannot be decoded";
    if (!weir_doc_get(subject->doc, path, &value))
        return "a field of the text is missing";
    const char *error = "a field of the text is neither text, integer nor boolean";
    if (weir_key_bytes(&value, number, &scratch, &data, &size))
        error = check ? check(data, size) : NULL;
    if (!error) weir_buffer_put(out, data, size);
    weir_buffer_fini(&scratch);
    return error;
}

const char *weir_template_put(const weir_template *self, weir_subject *subject,
                              weir_buffer *out)
{
    const char *error = NULL;
    for (size_t i = 0; i < self->count && !error; i++) {
        weir_buffer_put(out, self->parts[i].text, self->parts[i].size);
        if (self->parts[i].path.count)
            error = put_field(&self->parts[i].path, self->check, subject, out);
    }
    return error;
}
