#include "runtime/json.h"
#include <assert.h>
#include <emmintrin.h>
#include <locale.h>
#include <pthread.h>

void weir_json_index_fini(weir_json_index *self)
{
    free(self->fields);
    *self = (weir_json_index){0};
}

/* --- Stepping over accepted text --------------------------------------------------- */

/*  Bit i: byte i of the 16 at `at` is a quote or a backslash, or, when brackets
    are asked for, one of those.                                               */
static unsigned find_marks(const uint8_t *at, bool brackets)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i found = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    if (brackets) {
        // bit 5 alone tells [ from { and ] from }
        __m128i folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
        found = _mm_or_si128(found, _mm_cmpeq_epi8(folded, _mm_set1_epi8('{')));
        found = _mm_or_si128(found, _mm_cmpeq_epi8(folded, _mm_set1_epi8('}')));
    } else {
        found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    }
    return (unsigned)_mm_movemask_epi8(found);
}

static bool is_mark(uint8_t c, bool brackets)
{
    if (c == '"') return true;
    if (!brackets) return c == '\\';
    return (c | 0x20) == '{' || (c | 0x20) == '}';
}

/*  The first mark at or behind `at`, or size.                                 */
static size_t next_mark(const uint8_t *text, size_t at, size_t size, bool brackets)
{
    while (at + 16 <= size) {
        unsigned marks = find_marks(text + at, brackets);
        if (marks) return at + (unsigned)__builtin_ctz(marks);
        at += 16;
    }
    while (at < size && !is_mark(text[at], brackets))
        at++;
    return at;
}

/*  Behind the string that begins at `at`.                                     */
static size_t skip_string(const uint8_t *text, size_t at, size_t size)
{
    at = next_mark(text, at + 1, size, false);
    while (at < size && text[at] == '\\')
        at = next_mark(text, at + 2, size, false);
    return at + 1;
}

/*  Behind the container that begins at text[0].                               */
static size_t skip_container(const uint8_t *text, size_t size)
{
    size_t at = 0;
    size_t depth = 0;
    do {
        at = next_mark(text, at, size, true);
        if (at >= size) return size;
        if (text[at] == '"') {
            at = skip_string(text, at, size);
        } else {
            depth += (text[at] | 0x20) == '{' ? 1 : (size_t)-1;
            at++;
        }
    } while (depth > 0);
    return at;
}

/*  Behind the number or the literal that begins at text[0].                   */
static size_t skip_word(const uint8_t *text, size_t size)
{
    size_t at = 0;
    while (at < size && text[at] > ' ' && text[at] != ',' && (text[at] | 0x20) != '}')
        at++;
    return at;
}

size_t weir_json_skip(const uint8_t *text, size_t size)
{
    if (size == 0) return 0;
    size_t end;
    if (text[0] == '"')
        end = skip_string(text, 0, size);
    else if ((text[0] | 0x20) == '{')
        end = skip_container(text, size);
    else
        end = skip_word(text, size);
    return end < size ? end : size;
}

/* --- Values ------------------------------------------------------------------------ */

static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static locale_t c_locale;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale) abort();
}

/*  strtod for text without a NUL, whatever the process's locale is.           */
static double read_real_slowly(const uint8_t *text, size_t size)
{
    char room[64];
    char *copy = size < sizeof room ? room : malloc(size + 1);
    if (!copy) abort();
    memcpy(copy, text, size);
    copy[size] = 0;
    pthread_once(&c_locale_once, make_c_locale);
    double real = strtod_l(copy, NULL, c_locale);
    if (copy != room) free(copy);
    return real;
}

/*  The digits of an accepted number as an integer and a power of ten.         */
typedef struct {
    uint64_t digits;
    long exponent;
    bool negative;
    bool exact; // no digit was lost, and the exponent is small
} decimal;

static decimal read_decimal(const uint8_t *text, size_t size)
{
    decimal d = {.exact = true};
    size_t at = text[0] == '-';
    d.negative = at == 1;
    bool behind_point = false;
    for (; at < size && (text[at] | 0x20) != 'e'; at++) {
        if (text[at] == '.') {
            behind_point = true;
            continue;
        }
        if (d.digits > (UINT64_MAX - 9) / 10) d.exact = false;
        d.digits = d.digits * 10 + (text[at] - '0');
        d.exponent -= behind_point;
    }
    if (at < size) {
        at++;
        bool minus = text[at] == '-';
        if (minus || text[at] == '+') at++;
        long exponent = 0;
        for (; at < size; at++)
            exponent = exponent > 100000 ? exponent : exponent * 10 + (text[at] - '0');
        d.exponent += minus ? -exponent : exponent;
    }
    return d;
}

/*  Both the integer up to 2^53 and the power of ten up to 22 are doubles without
    rounding, so that one multiplication or division rounds correctly.         */
static double read_real(const uint8_t *text, size_t size)
{
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    decimal d = read_decimal(text, size);
    if (!d.exact || d.digits > 1ull << 53 || d.exponent < -22 || d.exponent > 22)
        return read_real_slowly(text, size);
    double real = (double)d.digits;
    if (d.exponent < 0)
        real /= tens[-d.exponent];
    else
        real *= tens[d.exponent];
    return d.negative ? -real : real;
}

/*  An accepted integer. Out of the range of 64 bits it is a FLOAT.            */
static void read_integer(const uint8_t *text, size_t size, weir_value *value)
{
    bool negative = text[0] == '-';
    uint64_t natural = 0;
    bool fits = true;
    for (size_t i = negative; i < size; i++) {
        uint64_t digit = text[i] - (uint64_t)'0';
        if (size > 18)
            fits = fits && !__builtin_mul_overflow(natural, 10, &natural) &&
                   !__builtin_add_overflow(natural, digit, &natural);
        else
            natural = natural * 10 + digit;
    }
    uint64_t most = (uint64_t)INT64_MAX + negative;
    if (fits && natural <= most) {
        value->type = WEIR_INT;
        value->integer = (int64_t)(negative ? 0 - natural : natural);
    } else if (fits && !negative) {
        value->type = WEIR_UINT;
        value->natural = natural;
    } else {
        value->type = WEIR_FLOAT;
        value->real = read_real_slowly(text, size);
    }
}

/*  Fills in everything but `escaped`, which stays false.                      */
static void read_typed(weir_type type, const uint8_t *text, size_t size,
                       weir_value *value)
{
    *value = (weir_value){.type = type, .format = WEIR_JSON, .data = text, .size = size};
    switch (type) {
    case WEIR_BOOL:
        value->boolean = text[0] == 't';
        break;
    case WEIR_INT:
        read_integer(text, size, value);
        break;
    case WEIR_FLOAT:
        value->real = read_real(text, size);
        break;
    case WEIR_STR:
        value->data++;
        value->size -= 2;
        break;
    default:
        break;
    }
}

void weir_json_value(const weir_json_field *self, const uint8_t *text, weir_value *value)
{
    read_typed(self->type, text + self->value, self->value_size, value);
    value->escaped = self->type == WEIR_STR && self->escaped;
}

static weir_type number_type(const uint8_t *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] == '.' || (text[i] | 0x20) == 'e') return WEIR_FLOAT;
    return WEIR_INT;
}

void weir_json_read(const uint8_t *text, size_t size, weir_value *value)
{
    weir_type type;
    switch (text[0]) {
    case 'n':
        type = WEIR_NULL;
        break;
    case 't':
    case 'f':
        type = WEIR_BOOL;
        break;
    case '"':
        type = WEIR_STR;
        break;
    case '[':
        type = WEIR_ARRAY;
        break;
    case '{':
        type = WEIR_MAP;
        break;
    default:
        type = number_type(text, size);
    }
    read_typed(type, text, size, value);
    if (type == WEIR_STR)
        value->escaped = value->size > 0 && memchr(value->data, '\\', value->size);
}

/* --- Names and text ---------------------------------------------------------------- */

long weir_json_find(const weir_json_index *self, const uint8_t *text, const char *name,
                    size_t name_size)
{
    if (self->type != WEIR_MAP) return -1;
    for (long i = (long)self->count - 1; i >= 0; i--) {
        const weir_json_field *field = &self->fields[i];
        if (field->key_escaped) {
            if (weir_json_equal(text + field->key, field->key_size, true, name,
                                name_size))
                return i;
        } else if (field->key_size == name_size && !field->nameless) {
            if (name_size == 0 || memcmp(text + field->key, name, name_size) == 0)
                return i;
        }
    }
    return -1;
}

static uint32_t hex4(const uint8_t *at)
{
    uint32_t number = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i];
        number = number << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return number;
}

/*  Unescapes the escape at *at and steps behind it; a high surrogate takes the
    low one with it that follows. out has room for 4 bytes.                    */
static size_t unescape_one(const uint8_t **at, const uint8_t *end, char *out)
{
    static const char plain[256] = {
        ['b'] = '\b', ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r',
        ['t'] = '\t', ['"'] = '"',  ['\\'] = '\\', ['/'] = '/'};
    const uint8_t *escape = *at;
    if (escape[1] != 'u') {
        *at += 2;
        out[0] = plain[escape[1]];
        return 1;
    }
    *at += 6;
    uint32_t number = hex4(escape + 2);
    if (number >= 0xd800 && number < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' &&
        (*at)[1] == 'u') {
        uint32_t low = hex4(*at + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            *at += 6;
            number = 0x10000 + ((number - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return weir_utf8_put(out, number);
}

size_t weir_json_unescape(const uint8_t *data, size_t size, char *out)
{
    if (size == 0) return 0;
    const uint8_t *at = data, *end = data + size;
    char *to = out;
    while (at < end) {
        const uint8_t *slash = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((slash ? slash : end) - at);
        memcpy(to, at, plain);
        to += plain;
        at += plain;
        if (slash) to += unescape_one(&at, end, to);
    }
    return (size_t)(to - out);
}

bool weir_json_equal(const uint8_t *data, size_t size, bool escaped, const char *text,
                     size_t text_size)
{
    if (!escaped)
        return size == text_size && (size == 0 || memcmp(data, text, size) == 0);
    if (text_size > size) return false;
    const uint8_t *at = data, *end = data + size;
    const char *stop = text + text_size;
    while (at < end) {
        char one[4] = {(char)*at};
        size_t length = 1;
        if (*at == '\\')
            length = unescape_one(&at, end, one);
        else
            at++;
        if ((size_t)(stop - text) < length || memcmp(text, one, length) != 0)
            return false;
        text += length;
    }
    return text == stop;
}
