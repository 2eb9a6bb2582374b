#include "actors/cursor.h"
#include "runtime/base64.h"
#include "runtime/codec.h"
#include <endian.h>
#include <xxhash.h>

enum { version = 1, sum_size = 4, text_max = 16 << 20 };

static const char prefix[2] = {'w', '1'};

/* --- Text: base64url without padding ----------------------------------------------- */

static void put_text(weir_buffer *out, const uint8_t *data, size_t size)
{
    char *text = (char *)weir_buffer_reserve(out, weir_base64_size(size));
    size_t length = weir_base64_encode(text, data, size);
    while (length > 0 && text[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    out->size += length;
}

/*  The standard character for one of base64url; what is none becomes a NUL, which is none
    there either.                                                                   */
static char to_standard(char character)
{
    switch (character) {
    case '-':
        return '+';
    case '_':
        return '/';
    case '+':
    case '/':
    case '=':
        return 0;
    default:
        return character;
    }
}

static weir_err read_text(weir_buffer *data, const char *text, size_t size)
{
    weir_buffer padded = {0};
    for (size_t i = 0; i < size; i++)
        weir_buffer_put_byte(&padded, (uint8_t)to_standard(text[i]));
    while (padded.size % 4)
        weir_buffer_put_byte(&padded, '=');
    uint8_t *bytes = weir_buffer_reserve(data, padded.size / 4 * 3 + 1);
    weir_err err =
        weir_base64_decode(bytes, &data->size, (char *)padded.data, padded.size);
    weir_buffer_fini(&padded);
    return err;
}

/* --- Bytes: M and its checksum ----------------------------------------------------- */

static uint32_t sum_of(const uint8_t *data, size_t size)
{
    return htobe32((uint32_t)XXH3_64bits(data, size));
}

static void put_bytes(const weir_cursor *self, weir_buffer *out)
{
    weir_put_array(out, 4);
    weir_put_uint(out, version);
    weir_put_uint(out, self->nonce);
    weir_put_uint(out, self->first);
    weir_put_array(out, (uint32_t)self->count);
    for (size_t i = 0; i < self->count; i++) {
        weir_put_array(out, 3);
        weir_put_uint(out, self->marks[i].shard);
        weir_put_uint(out, self->marks[i].at.a);
        weir_put_uint(out, self->marks[i].at.b);
    }
    uint32_t sum = sum_of(out->data, out->size);
    weir_buffer_put(out, &sum, sizeof sum);
}

void weir_cursor_put(const weir_cursor *self, weir_buffer *out)
{
    weir_buffer bytes = {0};
    put_bytes(self, &bytes);
    weir_buffer_put(out, prefix, sizeof prefix);
    put_text(out, bytes.data, bytes.size);
    weir_buffer_fini(&bytes);
}

static bool read_count(weir_reader *reader, uint32_t wanted)
{
    uint32_t count;
    return !weir_read_array(reader, &count) && count == wanted;
}

static bool read_u32(weir_reader *reader, uint32_t *value)
{
    uint64_t wide;
    if (weir_read_uint(reader, &wide) || wide > UINT32_MAX) return false;
    *value = (uint32_t)wide;
    return true;
}

static bool read_marks(weir_cursor *self, weir_reader *reader)
{
    uint32_t count;
    if (weir_read_array(reader, &count)) return false;
    self->marks = calloc(count ? count : 1, sizeof *self->marks);
    if (!self->marks) abort();
    for (; self->count < count; self->count++) {
        weir_mark *mark = &self->marks[self->count];
        if (!read_count(reader, 3) || !read_u32(reader, &mark->shard) ||
            weir_read_uint(reader, &mark->at.a) || weir_read_uint(reader, &mark->at.b))
            return false;
        if (self->count && mark[-1].shard >= mark->shard) return false;
    }
    return true;
}

static bool read_bytes(weir_cursor *self, const weir_buffer *bytes)
{
    weir_reader reader = {bytes->data, bytes->data + bytes->size - sum_size};
    uint64_t found;
    return read_count(&reader, 4) && !weir_read_uint(&reader, &found) &&
           found == version && !weir_read_uint(&reader, &self->nonce) &&
           read_u32(&reader, &self->first) && read_marks(self, &reader) &&
           reader.at == reader.end;
}

/*  There is one text for each cursor: what else reads as the same is refused.      */
static bool is_shortest(const weir_cursor *self, const weir_buffer *bytes)
{
    weir_buffer again = {0};
    put_bytes(self, &again);
    bool same = again.size == bytes->size && !memcmp(again.data, bytes->data, again.size);
    weir_buffer_fini(&again);
    return same;
}

/* --- Reading ----------------------------------------------------------------------- */

/*  What is wrong with the text; NULL: nothing.                                     */
static const char *find_fault(weir_cursor *self, weir_buffer *bytes, const char *text,
                              size_t size, uint64_t nonce)
{
    if (size < sizeof prefix || memcmp(text, prefix, sizeof prefix))
        return "it does not begin with w1";
    if (size > text_max) return "it is too long";
    if (read_text(bytes, text + sizeof prefix, size - sizeof prefix))
        return "it is not base64url without padding";
    if (bytes->size < sum_size) return "it is cut short";
    size_t body = bytes->size - sum_size;
    uint32_t sum = sum_of(bytes->data, body);
    if (memcmp(bytes->data + body, &sum, sizeof sum))
        return "its checksum is wrong: it was changed or cut short";
    if (!read_bytes(self, bytes) || !is_shortest(self, bytes))
        return "it is not written as Weir writes it";
    if (self->nonce != nonce) return "it is of another bus";
    return NULL;
}

weir_err weir_cursor_read(weir_cursor *self, const char *text, size_t size,
                          uint64_t nonce, weir_report *report)
{
    weir_buffer bytes = {0};
    *self = (weir_cursor){0};
    const char *fault = find_fault(self, &bytes, text, size, nonce);
    weir_buffer_fini(&bytes);
    if (!fault) return WEIR_OK;
    weir_cursor_fini(self);
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "bad_cursor: %s; use one that this bus has given, or start",
                           fault);
}

void weir_cursor_fini(weir_cursor *self)
{
    free(self->marks);
    *self = (weir_cursor){0};
}

void weir_cursor_move(weir_cursor *self, weir_cursor *from)
{
    weir_cursor_fini(self);
    *self = *from;
    *from = (weir_cursor){0};
}

/* --- Places ------------------------------------------------------------------------ */

/*  Index of the first mark that is not before the shard.                           */
static size_t find(const weir_cursor *self, uint32_t shard)
{
    size_t low = 0, high = self->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->marks[middle].shard < shard)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

weir_position weir_cursor_get(const weir_cursor *self, uint32_t shard)
{
    size_t i = find(self, shard);
    if (i == self->count || self->marks[i].shard != shard) return (weir_position){0};
    return self->marks[i].at;
}

void weir_cursor_set(weir_cursor *self, uint32_t shard, weir_position at)
{
    size_t i = find(self, shard);
    if (i == self->count || self->marks[i].shard != shard) {
        weir_mark *marks = realloc(self->marks, (self->count + 1) * sizeof *marks);
        if (!marks) abort();
        memmove(marks + i + 1, marks + i, (self->count - i) * sizeof *marks);
        self->marks = marks;
        self->count++;
    }
    self->marks[i] = (weir_mark){shard, at};
}
