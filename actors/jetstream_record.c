#include "actors/jetstream_record.h"
#include <stdlib.h>
#include <string.h>
#include "actors/dedup.h"
#include "actors/jetstream_api.h"
#include "runtime/utf8.h"

static const char subject_name[] = "subject", sequence_name[] = "sequence";
enum { own_headers = 2 };

/*  One record, and nothing behind it, under an id of a bus.                          */
static bool is_of_bus(weir_js_record *self, natsMsg *msg)
{
    const char *text;
    weir_id id;
    weir_reader reader = {self->data, self->data + self->size}, again = reader;
    return natsMsgHeader_Get(msg, WEIR_JS_ID, &text) == NATS_OK &&
           weir_id_parse(&id, text) && !weir_record_check(&reader) &&
           reader.at == reader.end && !weir_record_read(&self->inner, &again, false);
}

/* --- Headers ----------------------------------------------------------------------- */

static void put_bytes(weir_buffer *out, const char *text)
{
    size_t size = strlen(text);
    if (weir_utf8_valid((const uint8_t *)text, size))
        weir_put_str(out, text, size);
    else
        weir_put_bin(out, text, size);
}

static void put_own(weir_buffer *out, natsMsg *msg, uint64_t sequence)
{
    weir_put_str(out, subject_name, sizeof subject_name - 1);
    put_bytes(out, natsMsg_GetSubject(msg));
    weir_put_str(out, sequence_name, sizeof sequence_name - 1);
    weir_put_uint(out, sequence);
}

static bool is_own(const char *name, size_t size)
{
    return (size == sizeof subject_name - 1 && !memcmp(name, subject_name, size)) ||
           (size == sizeof sequence_name - 1 && !memcmp(name, sequence_name, size));
}

static bool is_own_key(const weir_value *key)
{
    return key->type == WEIR_STR && is_own((const char *)key->data, key->size);
}

/*  A name that is no UTF-8 cannot be one of a record's.                             */
static bool is_name(const char *name)
{
    size_t size = strlen(name);
    return weir_utf8_valid((const uint8_t *)name, size) && !is_own(name, size);
}

/*  Of a header that comes several times, all values.                                */
static const char *put_value(weir_buffer *out, natsMsg *msg, const char *name)
{
    const char **values = NULL;
    int count = 0;
    if (natsMsgHeader_Values(msg, name, &values, &count))
        return "its headers cannot be read";
    if (count != 1) weir_put_array(out, (uint32_t)count);
    for (int i = 0; i < count; i++)
        put_bytes(out, values[i]);
    free((void *)values);
    return NULL;
}

static const char *put_of_message(weir_buffer *out, natsMsg *msg, uint64_t sequence)
{
    const char **names = NULL, *error = NULL;
    int count = 0;
    uint32_t used = 0;
    natsStatus s = natsMsgHeader_Keys(msg, &names, &count);
    if (s && s != NATS_NOT_FOUND) return "its headers cannot be read";
    for (int i = 0; i < count; i++)
        used += is_name(names[i]);
    weir_put_map(out, used + own_headers);
    for (int i = 0; i < count && !error; i++) {
        if (!is_name(names[i])) continue;
        weir_put_str(out, names[i], strlen(names[i]));
        error = put_value(out, msg, names[i]);
    }
    put_own(out, msg, sequence);
    free((void *)names);
    return error;
}

static void put_of_record(weir_buffer *out, const weir_record *record, natsMsg *msg,
                          uint64_t sequence)
{
    static const uint8_t none[] = {0x80};
    weir_value key, value;
    uint32_t used = 0;
    weir_value map = {.type = WEIR_MAP,
                      .format = WEIR_MSGPACK,
                      .data = record->headers ? record->headers : none,
                      .size = record->headers ? record->headers_size : sizeof none};
    for (weir_walk walk = {0}; weir_value_next(&map, &walk, &key, &value);)
        used += !is_own_key(&key);
    weir_put_map(out, used + own_headers);
    for (weir_walk walk = {0}; weir_value_next(&map, &walk, &key, &value);) {
        if (is_own_key(&key)) continue;
        weir_value_put(&key, out);
        weir_value_put(&value, out);
    }
    put_own(out, msg, sequence);
}

/* --- All --------------------------------------------------------------------------- */

static void take_inner(weir_js_record *self)
{
    const weir_record *inner = &self->inner;
    weir_envelope *envelope = &self->envelope;
    self->data = inner->data;
    self->size = inner->size;
    envelope->key = inner->key;
    envelope->whole = true;
    envelope->format = inner->format;
    if (inner->has_ts) envelope->ts_ms = inner->ts_ms;
}

const char *weir_js_record_read(weir_js_record *self, natsMsg *msg, bool unwrap,
                                uint64_t sequence, int64_t stored_ms)
{
    const char *error = NULL;
    self->data = (const uint8_t *)natsMsg_GetData(msg);
    self->size = (size_t)natsMsg_GetDataLength(msg);
    if (!self->data) self->data = (const uint8_t *)"";
    self->headers.size = 0;
    self->envelope = (weir_envelope){.has_ts = true, .ts_ms = stored_ms};
    self->whole = unwrap && is_of_bus(self, msg);
    if (self->whole)
        put_of_record(&self->headers, &self->inner, msg, sequence);
    else
        error = put_of_message(&self->headers, msg, sequence);
    if (self->whole) take_inner(self);
    self->envelope.headers = error ? NULL : self->headers.data;
    self->envelope.headers_size = error ? 0 : self->headers.size;
    return error;
}

void weir_js_record_fini(weir_js_record *self)
{
    weir_buffer_fini(&self->headers);
}
