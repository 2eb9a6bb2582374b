#include "runtime/refusals.h"
#include "runtime/clock.h"
#include "runtime/doc.h"
#include "runtime/files.h"
#include <inttypes.h>
#include <stdio.h>

static const size_t strangers_max = WEIR_REFUSALS_MAX / 4; // of one address
static const size_t file_max = 256 << 10;

/* --- Notes ------------------------------------------------------------------------- */

static bool is_same(const weir_refusal *a, const weir_refusal *b)
{
    return strcmp(a->key, b->key) == 0 && strcmp(a->address, b->address) == 0 &&
           strcmp(a->role, b->role) == 0 && strcmp(a->cause, b->cause) == 0;
}

/*  The place that the new one may take: a free one, else the oldest. A stranger who
    comes with ever new keys displaces himself and not the others.             */
static size_t find_place(const weir_refusals *self, const weir_refusal *refusal)
{
    size_t strangers = 0, oldest = 0;
    for (size_t i = 0; i < self->count && !*refusal->name; i++) {
        const weir_refusal *other = &self->items[i];
        if (*other->name || strcmp(other->address, refusal->address)) continue;
        strangers++;
        oldest = i;
    }
    if (strangers >= strangers_max) return oldest;
    return self->count < WEIR_REFUSALS_MAX ? self->count : WEIR_REFUSALS_MAX - 1;
}

const weir_refusal *weir_refusals_add(weir_refusals *self, const weir_refusal *refusal,
                                      bool *is_new)
{
    size_t at = 0;
    while (at < self->count && !is_same(&self->items[at], refusal))
        at++;
    *is_new = at == self->count;
    if (*is_new) at = find_place(self, refusal);
    weir_refusal noted = *refusal;
    noted.count = *is_new ? 1 : self->items[at].count + 1;
    noted.wall_ms = weir_clock_wall_ms();
    if (at == self->count) self->count++;
    memmove(self->items + 1, self->items, at * sizeof *self->items);
    self->items[0] = noted;
    return self->items;
}

/* --- File -------------------------------------------------------------------------- */

#define TEXT(field)                                                                      \
    {                                                                                    \
#field, offsetof(weir_refusal, field), sizeof((weir_refusal *)NULL)->field       \
    }

static const struct {
    const char *name;
    size_t offset, size;
} texts[] = {
    TEXT(address), TEXT(key), TEXT(name), TEXT(role), TEXT(cause),
};
#define TEXTS (sizeof texts / sizeof *texts)

void weir_refusal_put_json(const weir_refusal *self, weir_buffer *out)
{
    weir_buffer_printf(out, "{\"time_ms\":%" PRId64 ",\"count\":%" PRIu64, self->wall_ms,
                       self->count);
    for (size_t i = 0; i < TEXTS; i++) {
        const char *text = (const char *)self + texts[i].offset;
        weir_buffer_printf(out, ",\"%s\":", texts[i].name);
        if (weir_json_put_string(out, text, strlen(text)))
            weir_buffer_put_text(out, "\"?\"");
    }
    weir_buffer_put_text(out, "}");
}

weir_err weir_refusals_write(const weir_refusals *self, const char *path)
{
    weir_buffer out = {0};
    weir_buffer_put_text(&out, "{\"version\":1,\"refused\":[");
    for (size_t i = 0; i < self->count; i++) {
        weir_buffer_put_text(&out, i ? ",\n" : "\n");
        weir_refusal_put_json(&self->items[i], &out);
    }
    weir_buffer_put_text(&out, "\n]}\n");
    weir_err err = weir_replace_file(path, out.data, out.size, 0600, false);
    weir_buffer_fini(&out);
    return err;
}

static bool find(const weir_value *map, const char *name, weir_type type,
                 weir_value *value)
{
    weir_step step = {.name = (char *)name, .size = strlen(name)};
    return weir_value_child(map, &step, value) && value->type == type;
}

static bool read_item(weir_refusal *self, const weir_value *item, weir_buffer *scratch)
{
    weir_value value;
    *self = (weir_refusal){.count = 0};
    if (!find(item, "time_ms", WEIR_INT, &value)) return false;
    self->wall_ms = value.integer;
    if (!find(item, "count", WEIR_INT, &value)) return false;
    self->count = (uint64_t)value.integer;
    for (size_t i = 0; i < TEXTS; i++) {
        size_t size;
        if (!find(item, texts[i].name, WEIR_STR, &value)) return false;
        const char *text = weir_value_text(&value, scratch, &size);
        snprintf((char *)self + texts[i].offset, texts[i].size, "%.*s", (int)size, text);
    }
    return true;
}

static bool read_list(weir_refusals *self, const char *text, size_t size)
{
    weir_doc doc = {.format = WEIR_JSON};
    weir_buffer scratch = {0};
    weir_value list = {.type = WEIR_MISSING}, key, item;
    weir_walk walk = {0};
    bool good = weir_doc_parse(&doc, WEIR_JSON, (const uint8_t *)text, size) == WEIR_OK;
    long at = good ? weir_doc_find(&doc, "refused", 7) : -1;
    if (at >= 0) weir_doc_value(&doc, (uint32_t)at, &list);
    good = list.type == WEIR_ARRAY;
    while (good && self->count < WEIR_REFUSALS_MAX &&
           weir_value_next(&list, &walk, &key, &item))
        good = item.type == WEIR_MAP &&
               read_item(&self->items[self->count++], &item, &scratch);
    weir_buffer_fini(&scratch);
    weir_doc_fini(&doc);
    return good;
}

weir_err weir_refusals_read(weir_refusals *self, const char *path)
{
    char *text;
    size_t size;
    unsigned mode;
    self->count = 0;
    weir_err err = weir_read_file(path, file_max, &text, &size, &mode);
    if (err) return err;
    if (!read_list(self, text, size)) {
        self->count = 0;
        err = WEIR_EMALFORMED;
    }
    free(text);
    return err;
}
