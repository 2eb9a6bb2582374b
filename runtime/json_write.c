#include "runtime/json.h"
#include "runtime/base64.h"
#include "runtime/codec.h"
#include "runtime/redact.h"
#include <emmintrin.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>

/* --- Strings ----------------------------------------------------------------------- */

/*  The first byte from `at` on that is no plain ASCII: a quote, a backslash, a
    control character, or from 0x80.                                           */
static size_t plain_until(const uint8_t *text, size_t at, size_t size)
{
    while (at + 16 <= size) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(text + at));
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        __m128i found =
            _mm_or_si128(_mm_or_si128(bytes, control), _mm_or_si128(quote, slash));
        unsigned marks = (unsigned)_mm_movemask_epi8(found);
        if (marks) return at + (unsigned)__builtin_ctz(marks);
        at += 16;
    }
    while (at < size && text[at] >= 0x20 && text[at] < 0x80 && text[at] != '"' &&
           text[at] != '\\')
        at++;
    return at;
}

static void put_unicode(weir_buffer *out, uint32_t number)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\',
                    'u',
                    digits[number >> 12 & 15],
                    digits[number >> 8 & 15],
                    digits[number >> 4 & 15],
                    digits[number & 15]};
    weir_buffer_put(out, text, sizeof text);
}

static void put_escape(weir_buffer *out, uint8_t c)
{
    static const char letters[256] = {
        ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
        ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    char text[2] = {'\\', letters[c]};
    if (text[1])
        weir_buffer_put(out, text, sizeof text);
    else
        put_unicode(out, c);
}

/*  The number of the surrogate that the bytes write by UTF-8's scheme, or 0.  */
static uint32_t surrogate_at(const uint8_t *data, size_t size)
{
    if (size < 3 || data[0] != 0xed || (data[1] & 0xe0) != 0xa0 ||
        (data[2] & 0xc0) != 0x80)
        return 0;
    return 0xd000u | (data[1] & 0x3fu) << 6 | (data[2] & 0x3fu);
}

/*  Writes the character from 0x80 at data[0]; returns its length, 0: it is none. */
static size_t put_character(weir_buffer *out, const uint8_t *data, size_t size)
{
    int length = weir_utf8_length(data, size);
    if (length > 0) {
        weir_buffer_put(out, data, (size_t)length);
        return (size_t)length;
    }
    uint32_t surrogate = surrogate_at(data, size);
    if (!surrogate) return 0;
    put_unicode(out, surrogate);
    return 3;
}

weir_err weir_json_put_string(weir_buffer *out, const char *text, size_t size)
{
    const uint8_t *data = (const uint8_t *)text;
    size_t start = out->size;
    weir_buffer_reserve(out, size + 2);
    weir_buffer_put_byte(out, '"');
    for (size_t at = 0; at < size;) {
        size_t stop = plain_until(data, at, size);
        weir_buffer_put(out, data + at, stop - at);
        at = stop;
        if (at == size) break;
        size_t length = 1;
        if (data[at] < 0x80)
            put_escape(out, data[at]);
        else
            length = put_character(out, data + at, size - at);
        if (length == 0) {
            out->size = start;
            return WEIR_EMALFORMED;
        }
        at += length;
    }
    weir_buffer_put_byte(out, '"');
    return WEIR_OK;
}

/* --- Numbers ----------------------------------------------------------------------- */

void weir_json_put_uint(weir_buffer *out, uint64_t value)
{
    char text[20];
    char *at = text + sizeof text;
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    weir_buffer_put(out, at, (size_t)(text + sizeof text - at));
}

void weir_json_put_int(weir_buffer *out, int64_t value)
{
    if (value < 0) weir_buffer_put_byte(out, '-');
    weir_json_put_uint(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

/*  Writes numbers such as 12.5 or 3.0 without printf. A decimal of at most 15
    digits that reads back is the shortest, and dividing two exact doubles is how
    it would be read.                                                          */
static bool put_short_float(weir_buffer *out, double value)
{
    double positive = fabs(value);
    if (positive >= 1e15 || (positive < 1e-3 && positive != 0)) return false;
    double power = 1;
    for (int places = 0; places <= 6; places++, power *= 10) {
        double digits = nearbyint(positive * power);
        if (digits >= 1e15) return false;
        if (digits / power != positive) continue;
        uint64_t all = (uint64_t)digits, unit = (uint64_t)power;
        if (signbit(value)) weir_buffer_put_byte(out, '-');
        weir_json_put_uint(out, all / unit);
        weir_buffer_put_byte(out, '.');
        if (places == 0) weir_buffer_put_byte(out, '0');
        for (uint64_t rest = all % unit; unit > 1; rest %= unit) {
            unit /= 10;
            weir_buffer_put_byte(out, (uint8_t)('0' + rest / unit));
        }
        return true;
    }
    return false;
}

static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static locale_t c_locale;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale) abort();
}

weir_err weir_json_put_float(weir_buffer *out, double value)
{
    if (!isfinite(value)) return WEIR_EINVAL;
    if (put_short_float(out, value)) return WEIR_OK;
    pthread_once(&c_locale_once, make_c_locale);
    locale_t before = uselocale(c_locale);
    char text[40];
    // fewer than 15 digits tell only subnormal numbers apart
    for (int digits = fabs(value) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    uselocale(before);
    weir_buffer_put_text(out, text);
    if (!strpbrk(text, ".e")) weir_buffer_put_text(out, ".0");
    return WEIR_OK;
}

/* --- Values ------------------------------------------------------------------------ */

/*  Copies accepted JSON as one line. Strings hold no raw line breaks, so every
    one stands between tokens.                                                 */
static void put_line(weir_buffer *out, const uint8_t *text, size_t size)
{
    uint8_t *to = weir_buffer_reserve(out, size);
    size_t at = 0;
    for (; at + 16 <= size; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(text + at));
        __m128i breaks = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')),
                                      _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r')));
        __m128i blanks = _mm_and_si128(breaks, _mm_set1_epi8(' '));
        bytes = _mm_or_si128(_mm_andnot_si128(breaks, bytes), blanks);
        _mm_storeu_si128((__m128i *)(to + at), bytes);
    }
    for (; at < size; at++)
        to[at] = text[at] == '\n' || text[at] == '\r' ? ' ' : text[at];
    out->size += size;
}

static void put_base64(weir_buffer *out, const uint8_t *data, size_t size)
{
    weir_buffer_put_byte(out, '"');
    char *to = (char *)weir_buffer_reserve(out, weir_base64_size(size));
    out->size += weir_base64_encode(to, data, size);
    weir_buffer_put_byte(out, '"');
}

static weir_err put_text(weir_buffer *out, const weir_value *value)
{
    if (value->format == WEIR_JSON && value->escaped) {
        weir_buffer_put_byte(out, '"');
        weir_buffer_put(out, value->data, value->size);
        weir_buffer_put_byte(out, '"');
        return WEIR_OK;
    }
    weir_err err = weir_json_put_string(out, (const char *)value->data, value->size);
    return err ? WEIR_EINVAL : WEIR_OK;
}

static weir_err put_packed(weir_buffer *out, weir_reader *reader, unsigned depth);

static weir_err put_elements(weir_buffer *out, weir_reader *reader, uint32_t count,
                             unsigned depth)
{
    weir_buffer_put_byte(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) weir_buffer_put_byte(out, ',');
        weir_err err = put_packed(out, reader, depth);
        if (err) return err;
    }
    weir_buffer_put_byte(out, ']');
    return WEIR_OK;
}

static weir_err put_members(weir_buffer *out, weir_reader *reader, uint32_t count,
                            unsigned depth)
{
    weir_buffer_put_byte(out, '{');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) weir_buffer_put_byte(out, ',');
        weir_value key;
        weir_err err = weir_read_nested(reader, &key, depth, true);
        if (err || key.type != WEIR_STR) return WEIR_EINVAL;
        err = put_text(out, &key);
        if (err) return err;
        weir_buffer_put_byte(out, ':');
        err = put_packed(out, reader, depth);
        if (err) return err;
    }
    weir_buffer_put_byte(out, '}');
    return WEIR_OK;
}

/*  Writes any MessagePack value, which lies inside `depth` containers.        */
static weir_err put_packed(weir_buffer *out, weir_reader *reader, unsigned depth)
{
    uint32_t count;
    bool array = weir_read_array(reader, &count) == WEIR_OK;
    if (array || weir_read_map(reader, &count) == WEIR_OK) {
        if (depth == WEIR_DEPTH_MAX) return WEIR_EINVAL;
        return array ? put_elements(out, reader, count, depth + 1)
                     : put_members(out, reader, count, depth + 1);
    }
    weir_value value;
    weir_err err = weir_read_nested(reader, &value, depth, true);
    return err ? WEIR_EINVAL : weir_json_put_value(out, &value);
}

static weir_err put_scalar(weir_buffer *out, const weir_value *value)
{
    switch (value->type) {
    case WEIR_NULL:
        weir_buffer_put_text(out, "null");
        return WEIR_OK;
    case WEIR_BOOL:
        weir_buffer_put_text(out, value->boolean ? "true" : "false");
        return WEIR_OK;
    case WEIR_INT:
        weir_json_put_int(out, value->integer);
        return WEIR_OK;
    case WEIR_UINT:
        weir_json_put_uint(out, value->natural);
        return WEIR_OK;
    case WEIR_FLOAT:
        return weir_json_put_float(out, value->real);
    case WEIR_STR:
        return put_text(out, value);
    case WEIR_BIN:
        put_base64(out, value->data, value->size);
        return WEIR_OK;
    default:
        return WEIR_EINVAL;
    }
}

weir_err weir_json_put_value(weir_buffer *out, const weir_value *value)
{
    bool contents = value->type == WEIR_STR || value->type == WEIR_BIN;
    if (value->type == WEIR_MISSING || value->type == WEIR_EXT) return WEIR_EINVAL;
    if (value->format == WEIR_JSON && value->data && !contents) {
        put_line(out, value->data, value->size);
        return WEIR_OK;
    }
    if (value->type != WEIR_ARRAY && value->type != WEIR_MAP)
        return put_scalar(out, value);
    if (!value->data) return WEIR_EINVAL;
    size_t start = out->size;
    weir_reader reader = {value->data, value->data + value->size};
    weir_err err = put_packed(out, &reader, 0);
    if (err) out->size = start;
    return err;
}

void weir_json_put_member(weir_buffer *out, const char *name, const char *text)
{
    if (out->size && out->data[out->size - 1] != '{') weir_buffer_put_byte(out, ',');
    weir_buffer_printf(out, "\"%s\":", name);
    char *told = weir_redact(text);
    if (told) text = told;
    if (weir_json_put_string(out, text, strlen(text))) weir_buffer_put_text(out, "\"?\"");
    free(told);
}
