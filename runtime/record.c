#include "runtime/record.h"
#include "runtime/utf8.h"
#include <xxhash.h>

/* --- Reading ----------------------------------------------------------------------- */

/*  Elements of the array that a record is.                                    */
static const uint32_t parts = 4;

static bool read_nil(weir_reader *reader)
{
    if (reader->at >= reader->end || *reader->at != 0xc0) return false;
    reader->at++;
    return true;
}

static bool begins_str(const weir_reader *reader)
{
    if (reader->at >= reader->end) return false;
    uint8_t first = *reader->at;
    return (first & 0xe0) == 0xa0 || (first >= 0xd9 && first <= 0xdb);
}

/*  JSON text travels as it was read somewhere, be it UTF-8 or not: who parses it finds
    out.                                                                       */
static weir_err read_payload(weir_record *self, weir_reader *reader, bool trusted)
{
    weir_value payload;
    weir_err err = weir_read_nested(reader, &payload, 0, trusted || begins_str(reader));
    if (err) return err;
    self->data = payload.data;
    self->size = payload.size;
    switch (payload.type) {
    case WEIR_STR:
        self->format = WEIR_JSON;
        return WEIR_OK;
    case WEIR_BIN:
        self->format = WEIR_TEXT;
        return WEIR_OK;
    case WEIR_MAP:
        self->format = WEIR_MSGPACK;
        return WEIR_OK;
    default:
        return WEIR_EMALFORMED;
    }
}

static weir_err read_headers(weir_record *self, weir_reader *reader, bool trusted)
{
    self->headers = NULL;
    self->headers_size = 0;
    if (read_nil(reader)) return WEIR_OK;
    weir_value headers;
    weir_err err = weir_read_nested(reader, &headers, 0, trusted);
    if (err) return err;
    if (headers.type != WEIR_MAP) return WEIR_EMALFORMED;
    self->headers = headers.data;
    self->headers_size = headers.size;
    return WEIR_OK;
}

static weir_err read_parts(weir_record *self, weir_reader *reader, bool trusted)
{
    uint32_t count;
    weir_err err = weir_read_array(reader, &count);
    if (err) return err;
    if (count != parts) return WEIR_EMALFORMED;
    self->has_ts = !read_nil(reader);
    self->ts_ms = 0;
    if (self->has_ts) {
        err = weir_read_int(reader, &self->ts_ms);
        if (err) return err;
    }
    if (read_nil(reader)) {
        self->key = (weir_value){.type = WEIR_MISSING};
    } else {
        err = weir_read_nested(reader, &self->key, 0, trusted);
        if (err) return err;
    }
    err = read_payload(self, reader, trusted);
    if (err) return err;
    return read_headers(self, reader, trusted);
}

/*  Contents of a str or bin, and where the next part begins.                  */
typedef struct {
    weir_type type;
    const uint8_t *data;
    size_t size;
    const uint8_t *next; // below the end: a part follows the key and the payload
} run;

/*  Reads a str or bin at `at`. False: it is something else or does not fit.   */
static inline bool read_run(run *self, const uint8_t *at, const uint8_t *end)
{
    if (end - at < 5) return false;
    uint8_t first = at[0];
    self->type = first >= 0xc4 && first <= 0xc6 ? WEIR_BIN : WEIR_STR;
    if ((first & 0xe0) == 0xa0) {
        self->size = first & 31u;
        self->data = at + 1;
    } else if (first == 0xda || first == 0xc5) {
        self->size = (size_t)at[1] << 8 | at[2];
        self->data = at + 3;
    } else if (first == 0xd9 || first == 0xc4) {
        self->size = at[1];
        self->data = at + 2;
    } else if (first == 0xdb || first == 0xc6) {
        self->size =
            (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
        self->data = at + 5;
    } else {
        return false;
    }
    if ((size_t)(end - self->data) <= self->size) return false;
    self->next = self->data + self->size;
    return true;
}

static inline bool is_text(const run *part, bool trusted)
{
    return trusted || part->type != WEIR_STR || weir_utf8_valid(part->data, part->size);
}

/*  Reads a record of the shape that nearly all have: a time stamp of today's size or
    none, a key that is str or bin or none, a payload that is str or bin. False:
    read_parts must look at it; the reader stays.                              */
static bool read_usual(weir_record *self, weir_reader *reader, bool trusted)
{
    const uint8_t *at = reader->at, *end = reader->end;
    if (end - at < 16 || at[0] != 0x94) return false;
    uint64_t ts = 0;
    self->has_ts = at[1] == 0xcf;
    if (self->has_ts) {
        memcpy(&ts, at + 2, sizeof ts);
        ts = __builtin_bswap64(ts);
        if (ts > INT64_MAX) return false;
    } else if (at[1] != 0xc0) {
        return false;
    }
    self->ts_ms = (int64_t)ts;
    at += self->has_ts ? 10 : 2;
    run part;
    self->key = (weir_value){.type = WEIR_MISSING};
    if (*at == 0xc0) {
        at++;
    } else {
        if (!read_run(&part, at, end) || !is_text(&part, trusted)) return false;
        self->key = (weir_value){.type = part.type,
                                 .format = WEIR_MSGPACK,
                                 .data = part.data,
                                 .size = part.size};
        at = part.next;
    }
    if (!read_run(&part, at, end)) return false;
    self->format = part.type == WEIR_STR ? WEIR_JSON : WEIR_TEXT;
    self->data = part.data;
    self->size = part.size;
    weir_reader after = {part.next, end};
    if (read_headers(self, &after, trusted)) return false;
    self->encoded = reader->at;
    self->encoded_size = (size_t)(after.at - reader->at);
    *reader = after;
    return true;
}

weir_err weir_record_read(weir_record *self, weir_reader *reader, bool trusted)
{
    if (read_usual(self, reader, trusted)) return WEIR_OK;
    weir_reader after = *reader;
    weir_err err = read_parts(self, &after, trusted);
    if (err) return err;
    self->encoded = reader->at;
    self->encoded_size = (size_t)(after.at - reader->at);
    *reader = after;
    return WEIR_OK;
}

/*  Of the usual shape only the heads of key and payload matter.               */
weir_err weir_record_skip(weir_reader *reader)
{
    const uint8_t *at = reader->at, *end = reader->end;
    run part;
    if (end - at >= 16 && at[0] == 0x94 && (at[1] == 0xc0 || at[1] == 0xcf)) {
        at += at[1] == 0xc0 ? 2 : 10;
        if (*at == 0xc0)
            at++;
        else if (read_run(&part, at, end))
            at = part.next;
        if (read_run(&part, at, end) && *part.next == 0xc0) {
            reader->at = part.next + 1;
            return WEIR_OK;
        }
    }
    weir_value value;
    return weir_read_nested(reader, &value, 0, true);
}

/*  Nearly all are an array of nil, nil, a str or bin, and nil.                */
weir_err weir_record_check(weir_reader *reader)
{
    static const uint8_t bare[] = {0x94, 0xc0, 0xc0};
    const uint8_t *at = reader->at, *end = reader->end;
    run payload;
    if (end - at > (ptrdiff_t)sizeof bare && memcmp(at, bare, sizeof bare) == 0 &&
        read_run(&payload, at + sizeof bare, end) && *payload.next == 0xc0) {
        reader->at = payload.next + 1;
        return WEIR_OK;
    }
    weir_record record;
    return weir_record_read(&record, reader, false);
}

void weir_record_header(const weir_record *self, const char *name, size_t size,
                        weir_value *value)
{
    weir_value headers = {.type = WEIR_MAP,
                          .format = WEIR_MSGPACK,
                          .data = self->headers,
                          .size = self->headers_size};
    weir_walk walk = {0};
    weir_value key, child;
    *value = (weir_value){.type = WEIR_MISSING};
    if (!self->headers) return;
    while (weir_value_next(&headers, &walk, &key, &child))
        if (key.type == WEIR_STR &&
            weir_json_equal(key.data, key.size, false, name, size))
            *value = child;
}

/* --- Writing ----------------------------------------------------------------------- */

/*  A JSON string may hold half a surrogate pair, which no str may.            */
static void put_text(const weir_value *value, weir_buffer *out)
{
    weir_buffer scratch = {0};
    size_t size;
    const char *text = weir_value_text(value, &scratch, &size);
    if (value->escaped && !weir_utf8_valid((const uint8_t *)text, size))
        weir_put_bin(out, text, size);
    else
        weir_put_str(out, text, size);
    weir_buffer_fini(&scratch);
}

static void put_json_container(const weir_value *value, weir_buffer *out)
{
    weir_value key, child;
    uint32_t count = 0;
    for (weir_walk walk = {0}; weir_value_next(value, &walk, &key, &child);)
        count++;
    if (value->type == WEIR_MAP)
        weir_put_map(out, count);
    else
        weir_put_array(out, count);
    for (weir_walk walk = {0}; weir_value_next(value, &walk, &key, &child);) {
        if (value->type == WEIR_MAP) weir_value_put(&key, out);
        weir_value_put(&child, out);
    }
}

/*  JSON nests at most WEIR_DEPTH_MAX deep.                                    */
void weir_value_put(const weir_value *self, weir_buffer *out)
{
    switch (self->type) {
    case WEIR_BOOL:
        weir_put_bool(out, self->boolean);
        return;
    case WEIR_INT:
        weir_put_int(out, self->integer);
        return;
    case WEIR_UINT:
        weir_put_uint(out, self->natural);
        return;
    case WEIR_FLOAT:
        weir_put_float(out, self->real);
        return;
    case WEIR_STR:
        put_text(self, out);
        return;
    case WEIR_BIN:
        weir_put_bin(out, self->data, self->size);
        return;
    case WEIR_ARRAY:
    case WEIR_MAP:
    case WEIR_EXT:
        if (self->format == WEIR_MSGPACK)
            weir_buffer_put(out, self->data, self->size);
        else
            put_json_container(self, out);
        return;
    default:
        weir_put_nil(out);
    }
}

void weir_record_put(const weir_record *self, weir_buffer *out)
{
    weir_put_array(out, parts);
    if (self->has_ts)
        weir_put_int(out, self->ts_ms);
    else
        weir_put_nil(out);
    weir_value_put(&self->key, out);
    switch (self->format) {
    case WEIR_JSON:
        weir_put_str(out, self->data, self->size);
        break;
    case WEIR_TEXT:
        weir_put_bin(out, self->data, self->size);
        break;
    case WEIR_MSGPACK:
        weir_buffer_put(out, self->data, self->size);
        break;
    }
    if (self->headers)
        weir_buffer_put(out, self->headers, self->headers_size);
    else
        weir_put_nil(out);
}

/* --- Keys -------------------------------------------------------------------------- */

static size_t write_decimal(char number[24], uint64_t magnitude, bool negative)
{
    char digits[20];
    size_t count = 0, size = 0;
    do {
        digits[count++] = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude);
    if (negative) number[size++] = '-';
    while (count > 0)
        number[size++] = digits[--count];
    return size;
}

bool weir_key_is(const weir_value *value)
{
    switch (value->type) {
    case WEIR_STR:
    case WEIR_BIN:
    case WEIR_BOOL:
    case WEIR_INT:
    case WEIR_UINT:
        return true;
    default:
        return false;
    }
}

bool weir_key_bytes(const weir_value *key, char number[24], weir_buffer *scratch,
                    const uint8_t **data, size_t *size)
{
    *data = (const uint8_t *)number;
    switch (key->type) {
    case WEIR_STR:
        *data = (const uint8_t *)weir_value_text(key, scratch, size);
        return true;
    case WEIR_BIN:
        *data = key->data;
        *size = key->size;
        return true;
    case WEIR_BOOL:
        *data = (const uint8_t *)(key->boolean ? "true" : "false");
        *size = key->boolean ? 4 : 5;
        return true;
    case WEIR_INT: {
        bool negative = key->integer < 0;
        uint64_t bits = (uint64_t)key->integer;
        *size = write_decimal(number, negative ? 0 - bits : bits, negative);
        return true;
    }
    case WEIR_UINT:
        *size = write_decimal(number, key->natural, false);
        return true;
    default:
        *data = NULL;
        *size = 0;
        return false;
    }
}

uint32_t weir_key_vnode(const uint8_t *data, size_t size, uint32_t vnodes)
{
    return (uint32_t)(XXH3_64bits(data, size) % vnodes);
}
