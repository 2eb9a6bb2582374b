#include "actors/redis_take.h"
#include <stdlib.h>
#include "actors/redis_resp.h"
#include "runtime/utf8.h"

static const size_t shown_max = 64 << 10; // bytes of what is no record

static const char stream_header[] = "redis_stream", id_header[] = "redis_id",
                  weir_header[] = "weir_id";

void weir_redis_take_fini(weir_redis_take *self)
{
    weir_buffer_fini(&self->headers);
    weir_buffer_fini(&self->body);
    free(self->names);
    self->names = NULL;
}

/* --- Headers ----------------------------------------------------------------------- */

static void put_text(weir_buffer *out, const void *text, size_t size)
{
    if (weir_utf8_valid(text, size))
        weir_put_str(out, text, size);
    else
        weir_put_bin(out, text, size);
}

static bool is_ours(const char *name, size_t size)
{
    static const char *const ours[] = {stream_header, id_header, weir_header};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strlen(ours[i]) == size && !memcmp(ours[i], name, size)) return true;
    return false;
}

/*  Those that the record has, but for such as would be ours; how many they are. The map
    was checked with the record.                                                      */
static uint32_t copy_headers(const weir_record *record, weir_buffer *out)
{
    weir_reader reader = {record->headers, record->headers + record->headers_size};
    uint32_t count = 0, copied = 0;
    if (!record->headers || weir_read_map(&reader, &count)) return 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *start = reader.at;
        weir_value name;
        if (weir_read_value(&reader, &name) || weir_read_skip(&reader)) break;
        if (name.type == WEIR_STR && is_ours((const char *)name.data, name.size))
            continue;
        weir_buffer_put(out, start, (size_t)(reader.at - start));
        copied++;
    }
    return copied;
}

static void put_header(weir_buffer *out, const char *name, const void *text, size_t size)
{
    weir_put_str(out, name, strlen(name));
    put_text(out, text, size);
}

/*  record, weir_id: of a bus's record; NULL: it is none.                             */
static void put_headers(weir_redis_take *self, weir_position id,
                        const weir_record *record, const redisReply *weir_id)
{
    weir_buffer theirs = {0}, *out = &self->headers;
    char text[WEIR_REDIS_ID_MAX];
    size_t size = weir_redis_id_put(id, text);
    uint32_t count = record ? copy_headers(record, &theirs) : 0;
    out->size = 0;
    weir_put_map(out, count + 2 + (weir_id != NULL));
    put_header(out, stream_header, self->stream, strlen(self->stream));
    put_header(out, id_header, text, size);
    if (weir_id) put_header(out, weir_header, weir_id->str, weir_id->len);
    weir_buffer_put(out, theirs.data, theirs.size);
    weir_buffer_fini(&theirs);
    self->envelope.headers = out->data;
    self->envelope.headers_size = out->size;
}

/* --- What is no record ------------------------------------------------------------- */

static void show_word(weir_buffer *out, const redisReply *word, char end)
{
    size_t room = out->size < shown_max ? shown_max - out->size : 0;
    if (weir_redis_is_text(word))
        weir_buffer_put(out, word->str, word->len < room ? word->len : room);
    weir_buffer_put_byte(out, (uint8_t)end);
}

static const char *refuse(weir_redis_take *self, const redisReply *fields,
                          const char *error)
{
    weir_buffer *out = &self->body;
    size_t count = fields->type == REDIS_REPLY_ARRAY ? fields->elements : 0;
    out->size = 0;
    for (size_t i = 0; i < count && out->size < shown_max; i++)
        show_word(out, fields->element[i], i % 2 ? '\n' : '=');
    self->envelope.whole = false;
    self->data = out->data;
    self->size = out->size;
    return error;
}

/* --- Records ----------------------------------------------------------------------- */

static bool is_list_of_texts(const redisReply *fields)
{
    if (fields->type != REDIS_REPLY_ARRAY || fields->elements % 2) return false;
    for (size_t i = 0; i < fields->elements; i++)
        if (!weir_redis_is_text(fields->element[i])) return false;
    return true;
}

static const char *take_field(weir_redis_take *self, const redisReply *fields)
{
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const redisReply *value = fields->element[i + 1];
        if (!weir_redis_says(fields->element[i], self->field)) continue;
        self->data = (const uint8_t *)value->str;
        self->size = value->len;
        return NULL;
    }
    return "the entry has not the field that `field` names";
}

static bool take_record(weir_redis_take *self, weir_position id, const redisReply *fields)
{
    weir_record record;
    if (fields->elements != 4 || !weir_redis_says(fields->element[0], "i") ||
        !weir_redis_says(fields->element[2], "r"))
        return false;
    const redisReply *r = fields->element[3];
    weir_reader reader = {(const uint8_t *)r->str, (const uint8_t *)r->str + r->len};
    if (weir_record_read(&record, &reader, false) || reader.at != reader.end)
        return false;
    self->envelope = (weir_envelope){.key = record.key,
                                     .whole = true,
                                     .format = record.format,
                                     .has_ts = record.has_ts,
                                     .ts_ms = record.ts_ms};
    self->data = record.data;
    self->size = record.size;
    put_headers(self, id, &record, fields->element[1]);
    return true;
}

static int compare_names(const void *left, const void *right)
{
    const redisReply *a = *(const redisReply *const *)left;
    const redisReply *b = *(const redisReply *const *)right;
    int order = memcmp(a->str, b->str, a->len < b->len ? a->len : b->len);
    return order ? order : a->len < b->len ? -1 : a->len > b->len;
}

static bool has_twins(weir_redis_take *self, const redisReply *fields)
{
    size_t count = fields->elements / 2;
    if (count > self->names_capacity) {
        self->names_capacity = count;
        self->names = realloc(self->names, count * sizeof *self->names);
        if (!self->names) abort();
    }
    for (size_t i = 0; i < count; i++)
        self->names[i] = fields->element[2 * i];
    qsort(self->names, count, sizeof *self->names, compare_names);
    for (size_t i = 1; i < count; i++)
        if (!compare_names(&self->names[i - 1], &self->names[i])) return true;
    return false;
}

static const char *take_document(weir_redis_take *self, const redisReply *fields)
{
    weir_buffer *out = &self->body;
    if (has_twins(self, fields)) return "the entry has a field twice";
    out->size = 0;
    weir_put_map(out, (uint32_t)(fields->elements / 2));
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const redisReply *name = fields->element[i], *value = fields->element[i + 1];
        if (!weir_utf8_valid((const uint8_t *)name->str, name->len))
            return "the name of a field is not UTF-8";
        weir_put_str(out, name->str, name->len);
        put_text(out, value->str, value->len);
    }
    self->envelope.whole = true;
    self->envelope.format = WEIR_MSGPACK;
    self->data = out->data;
    self->size = out->size;
    return NULL;
}

const char *weir_redis_take_entry(weir_redis_take *self, weir_position id,
                                  const redisReply *fields)
{
    self->envelope = (weir_envelope){.key.type = WEIR_MISSING};
    put_headers(self, id, NULL, NULL);
    if (!is_list_of_texts(fields))
        return refuse(self, fields, "the entry makes no sense");
    if (!fields->elements) return refuse(self, fields, "the entry has no fields");
    if (!self->field && take_record(self, id, fields)) return NULL;
    const char *error =
        self->field ? take_field(self, fields) : take_document(self, fields);
    return error ? refuse(self, fields, error) : NULL;
}
