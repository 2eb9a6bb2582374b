#include "actors/redis_form.h"
#include "actors/redis_resp.h"

/*  The field that an entry has when no other is asked for.                           */
static const char usual_name[] = "data", usual_text[] = "{$raw}";

/*  As proto-max-bulk-len is, unless somebody changed it.                             */
static const size_t text_max = 512 << 20;

/* --- Life -------------------------------------------------------------------------- */

static weir_err parse(weir_template *template, const char *text, const char *option,
                      weir_report *report)
{
    weir_report cause = {0};
    weir_err err = weir_template_parse(template, text, &cause);
    return err ? weir_report_set(report, err, option, "%s", cause.text) : WEIR_OK;
}

static weir_err add_field(weir_redis_form *self, const char *name, const char *text,
                          weir_report *report)
{
    char option[128];
    weir_redis_form_field *field = &self->fields[self->count++];
    snprintf(option, sizeof option, "fields.%.100s", name);
    weir_redis_put_text(&field->name, name);
    weir_err err = parse(&field->text, text, option, report);
    field->text.any = true;
    return err;
}

static weir_err add_fields(weir_redis_form *self, const weir_rules *fields,
                           weir_report *report)
{
    weir_err err = WEIR_OK;
    size_t count = fields->count ? fields->count : 1;
    self->fields = calloc(count, sizeof *self->fields);
    if (!self->fields) abort();
    if (!fields->count) return add_field(self, usual_name, usual_text, report);
    for (size_t i = 0; i < count && !err; i++)
        err = add_field(self, fields->items[i].name, fields->items[i].where, report);
    return err;
}

weir_err weir_redis_form_init(weir_redis_form *self, const weir_redis_form_config *config,
                              weir_report *report)
{
    *self = (weir_redis_form){.ids = config->ids, .has_id = config->id != NULL};
    weir_err err = parse(&self->stream, config->stream, "stream", report);
    if (!err && weir_template_is_constant(&self->stream) && !self->stream.count)
        err = weir_report_set(report, WEIR_EINVAL, "stream", "is empty");
    if (!err && config->id) err = parse(&self->id, config->id, "id", report);
    return err ? err : add_fields(self, config->fields, report);
}

void weir_redis_form_fini(weir_redis_form *self)
{
    weir_template_fini(&self->stream);
    weir_template_fini(&self->id);
    for (size_t i = 0; i < self->count; i++) {
        weir_buffer_fini(&self->fields[i].name);
        weir_template_fini(&self->fields[i].text);
    }
    free(self->fields);
    weir_buffer_fini(&self->name);
    weir_buffer_fini(&self->words);
    weir_buffer_fini(&self->scratch);
    *self = (weir_redis_form){.count = 0};
}

/* --- Records ----------------------------------------------------------------------- */

static const char *fill_id(weir_redis_form *self, weir_subject *subject)
{
    self->kind = WEIR_REDIS_NO_ID;
    if (!self->ids) return NULL;
    if (!self->has_id) {
        if (weir_subject_place(subject, &self->place)) self->kind = WEIR_REDIS_PLACE;
        return NULL;
    }
    self->scratch.size = 0;
    const char *error = weir_template_put(&self->id, subject, &self->scratch);
    if (error) return error;
    if (!self->scratch.size) return "its id is empty";
    self->kind = WEIR_REDIS_TEXT;
    weir_redis_put_word(&self->words, self->scratch.data, self->scratch.size);
    return NULL;
}

static const char *fill_field(weir_redis_form *self, const weir_redis_form_field *field,
                              weir_subject *subject)
{
    self->scratch.size = 0;
    const char *error = weir_template_put(&field->text, subject, &self->scratch);
    if (error) return error;
    if (self->scratch.size > text_max)
        return "a field is larger than a string of redis, 512MB";
    weir_buffer_put(&self->words, field->name.data, field->name.size);
    weir_redis_put_word(&self->words, self->scratch.data, self->scratch.size);
    return NULL;
}

const char *weir_redis_form_fill(weir_redis_form *self, weir_subject *subject)
{
    self->name.size = self->words.size = 0;
    const char *error = weir_template_put(&self->stream, subject, &self->name);
    if (!error && !self->name.size) error = "the name of its stream is empty";
    if (!error) error = fill_id(self, subject);
    for (size_t i = 0; i < self->count && !error; i++)
        error = fill_field(self, &self->fields[i], subject);
    return error;
}
