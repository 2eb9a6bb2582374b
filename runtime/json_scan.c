/*  Checks and indexes JSON text in two interleaved stages.

    The classifier reads 64 bytes at a time, without branches that depend on the
    text, and lists the quotes that delimit strings. The walker goes through the
    grammar and looks only at the bytes between strings: a string ends where the
    next quote in the list stands, so it costs the same whatever its length, and
    the walker's position does not wait for its contents.

    The classifier knows inside from outside by counting quotes. That is right up
    to the first byte that breaks the grammar outside a string, and the walker
    never gets behind that byte.                                               */
#include "runtime/json.h"
#include <emmintrin.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = 64,          // bytes that the classifier takes at a time
    WINDOW = 16 * BLOCK, // bytes that are classified before the walker goes on
    AHEAD = 4,           // quotes that one member can need: of its name, of its value
    SLACK = 8,           // entries that list_quotes may write behind the last one
};

/*  Behind the last quote; also "no such byte".                                */
static const uint32_t none = UINT32_MAX;

typedef struct {
    const uint8_t *text; // borrowed
    uint32_t size;       // below WEIR_TEXT_MAX
    uint32_t next;       // first byte that is not classified
    uint32_t limit;      // first byte that no string may hold, or size
    uint32_t slash;      // first backslash, or none
    uint32_t high;       // where the first block with bytes from 0x80 begins, or none
    bool escape;         // the last classified byte escapes the next one
    bool inside;         // the last classified byte is part of a string
    uint32_t error_at;   // after a failure
    const char *error;   // after a failure; NULL: none
    bool deep;           // the failure is one of depth
    uint32_t *end;       // behind the last quote listed; AHEAD times none follows
    uint32_t quotes[WINDOW + AHEAD + SLACK];
} scanner;

/*  A failure behind the last byte means that the text ends too early.         */
static __attribute__((noinline, cold)) bool fail(scanner *self, uint32_t at,
                                                 const char *error)
{
    self->error_at = at;
    self->error = at < self->size ? error : "the text ends too early";
    return false;
}

/* --- The classifier ---------------------------------------------------------------- */

INLINE __m128i load16(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)at);
}

INLINE __m128i controls_of(__m128i bytes)
{
    return _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
}

INLINE uint64_t mask16(__m128i bytes)
{
    return (uint32_t)_mm_movemask_epi8(bytes);
}

INLINE uint64_t mask64(__m128i a, __m128i b, __m128i c, __m128i d)
{
    return mask16(a) | mask16(b) << 16 | mask16(c) << 32 | mask16(d) << 48;
}

INLINE unsigned count_bits(uint64_t bits)
{
    bits -= bits >> 1 & 0x5555555555555555;
    bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (unsigned)(bits * 0x0101010101010101 >> 56);
}

/*  Lists the set bits, and garbage behind them: it writes in sixes, since a branch
    on their exact number would often be guessed wrong.                        */
INLINE unsigned list_quotes(uint32_t *out, uint32_t base, uint64_t bits)
{
    const uint64_t guard = 1ull << 63; // keeps the count defined when no bit is left
    unsigned count = count_bits(bits);
    unsigned i = 0;
    do {
        for (unsigned j = 0; j < 6; j++) {
            out[i + j] = base + (uint32_t)__builtin_ctzll(bits | guard);
            bits &= bits - 1;
        }
        i += 6;
    } while (UNLIKELY(i < count));
    return count;
}

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/*  True unless a byte that is there makes the escape at `at` a wrong one.     */
static bool escape_fits(const scanner *self, uint32_t at)
{
    if (self->size - at < 2) return true;
    uint8_t c = self->text[at + 1];
    if (c != 'u') return c != 0 && strchr("\"\\/bfnrt", c);
    for (uint32_t i = at + 2; i < at + 6ull && i < self->size; i++)
        if (!is_hex(self->text[i])) return false;
    return true;
}

/*  The bits of the bytes that backslashes escape; checks the escapes.         */
static uint64_t escaped_bytes(scanner *self, uint32_t base, uint64_t slashes,
                              bool trusted)
{
    uint64_t escaped = self->escape;
    slashes &= ~escaped;
    self->escape = false;
    while (slashes) {
        unsigned i = (unsigned)__builtin_ctzll(slashes);
        uint32_t at = base + i;
        if (self->slash == none) self->slash = at;
        if (!trusted && at < self->limit && !escape_fits(self, at)) self->limit = at;
        if (i == 63) self->escape = true;
        escaped |= 2ull << i;
        slashes &= ~(3ull << i);
    }
    return escaped;
}

/*  Bit i: an odd number of bits is set among 0..i.                            */
static uint64_t parities(uint64_t bits)
{
    for (unsigned shift = 1; shift < 64; shift *= 2)
        bits ^= bits << shift;
    return bits;
}

/*  Handles a block that holds backslashes, control characters, or bytes from
    0x80; returns its delimiting quotes.                                       */
static __attribute__((noinline)) uint64_t special_block(scanner *self, const uint8_t *at,
                                                        unsigned shift, uint64_t quotes,
                                                        bool trusted)
{
    uint32_t base = self->next;
    __m128i a = load16(at), b = load16(at + 16), c = load16(at + 32), d = load16(at + 48);
    __m128i slash = _mm_set1_epi8('\\');
    uint64_t slashes = mask64(_mm_cmpeq_epi8(a, slash), _mm_cmpeq_epi8(b, slash),
                              _mm_cmpeq_epi8(c, slash), _mm_cmpeq_epi8(d, slash));
    slashes >>= shift;
    if (slashes || self->escape) quotes &= ~escaped_bytes(self, base, slashes, trusted);
    if (trusted) return quotes;
    uint64_t controls =
        mask64(controls_of(a), controls_of(b), controls_of(c), controls_of(d)) >> shift;
    if (controls) {
        controls &= parities(quotes) ^ (self->inside ? ~0ull : 0);
        if (controls && base + (uint32_t)__builtin_ctzll(controls) < self->limit)
            self->limit = base + (uint32_t)__builtin_ctzll(controls);
    }
    if (self->high == none && mask64(a, b, c, d) >> shift) self->high = base;
    return quotes;
}

/*  Classifies the 64 bytes at `at`, of which the lowest `shift` were classified
    before.                                                                    */
INLINE void classify(scanner *self, const uint8_t *at, unsigned shift, bool trusted)
{
    __m128i a = load16(at), b = load16(at + 16), c = load16(at + 32), d = load16(at + 48);
    __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    uint64_t quotes = mask64(_mm_cmpeq_epi8(a, quote), _mm_cmpeq_epi8(b, quote),
                             _mm_cmpeq_epi8(c, quote), _mm_cmpeq_epi8(d, quote));
    quotes >>= shift;
    __m128i special =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(a, slash), _mm_cmpeq_epi8(b, slash)),
                     _mm_or_si128(_mm_cmpeq_epi8(c, slash), _mm_cmpeq_epi8(d, slash)));
    if (!trusted) {
        // a set top bit is itself what the comparisons give
        special =
            _mm_or_si128(special, _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d)));
        special = _mm_or_si128(special, _mm_or_si128(controls_of(a), controls_of(b)));
        special = _mm_or_si128(special, _mm_or_si128(controls_of(c), controls_of(d)));
    }
    if (UNLIKELY(mask16(special) | self->escape))
        quotes = special_block(self, at, shift, quotes, trusted);
    unsigned count = list_quotes(self->end, self->next, quotes);
    self->end += count;
    self->inside ^= count & 1;
}

/*  Classifies the last bytes, fewer than a block, without reading around the text. */
INLINE void classify_rest(scanner *self, bool trusted)
{
    uint32_t rest = self->size - self->next;
    if (self->size >= BLOCK) {
        classify(self, self->text + self->size - BLOCK, BLOCK - rest, trusted);
    } else {
        uint8_t padded[BLOCK];
        memset(padded, ' ', sizeof padded);
        memcpy(padded, self->text, rest);
        classify(self, padded, 0, trusted);
    }
    self->next = self->size;
}

/*  Makes at least AHEAD quotes ready, those from `left` on first, unless the text
    has no more; then `none` fills up.                                         */
INLINE const uint32_t *more_quotes(scanner *self, const uint32_t *left, bool trusted)
{
    size_t kept = (size_t)(self->end - left);
    for (size_t i = 0; i < kept; i++)
        self->quotes[i] = left[i];
    self->end = self->quotes + kept;
    while (self->end - self->quotes < AHEAD && self->next < self->size) {
        uint32_t stop =
            self->size - self->next > WINDOW ? self->next + WINDOW : self->size;
        while (stop - self->next >= BLOCK) {
            classify(self, self->text + self->next, 0, trusted);
            self->next += BLOCK;
        }
        if (self->next < stop) classify_rest(self, trusted);
    }
    for (unsigned i = 0; i < AHEAD; i++)
        self->end[i] = none;
    return self->quotes;
}

/* --- The walker -------------------------------------------------------------------- */

/*  Where the walker stands. All of it lives in registers.                     */
typedef struct {
    uint32_t at;       // the byte to look at
    const uint32_t *q; // the first quote listed at or behind `at`
} cursor;

/*  The byte, or 0, which fits nowhere outside strings, behind the end.        */
INLINE uint8_t peek(const scanner *self, uint32_t at)
{
    return LIKELY(at < self->size) ? self->text[at] : 0;
}

static __attribute__((noinline)) uint32_t skip_space(const scanner *self, uint32_t at)
{
    const uint8_t *text = self->text;
    uint32_t size = self->size;
    while (at < size) {
        if (size - at >= 16) {
            __m128i bytes = load16(text + at);
            __m128i space =
                _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(' ')),
                                          _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n'))),
                             _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t')),
                                          _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r'))));
            uint32_t other = (uint32_t)_mm_movemask_epi8(space) ^ 0xffff;
            if (other) return at + (uint32_t)__builtin_ctz(other);
            at += 16;
        } else {
            uint8_t c = text[at];
            if (c != ' ' && c != '\n' && c != '\t' && c != '\r') return at;
            at++;
        }
    }
    return at;
}

/*  Steps over white space, of which a single blank is the common case.        */
INLINE void step_space(const scanner *self, cursor *c)
{
    if (peek(self, c->at) == ' ') c->at++;
    if (UNLIKELY(peek(self, c->at) <= ' ')) c->at = skip_space(self, c->at);
}

/*  Why the string that begins here has no good end.                          */
static __attribute__((noinline, cold)) bool fail_string(scanner *self)
{
    bool slash = self->limit < self->size && self->text[self->limit] == '\\';
    return fail(self, self->limit,
                slash ? "wrong escape in a string" : "control character in a string");
}

/*  Steps over the string that begins at c->at.                                */
INLINE bool scan_string(scanner *self, cursor *c, bool trusted)
{
    if (UNLIKELY(self->end - c->q < 2 && self->next < self->size))
        c->q = more_quotes(self, c->q, trusted);
    uint32_t close = c->q[1];
    if (UNLIKELY(close >= self->limit)) return fail_string(self);
    c->at = close + 1;
    c->q += 2;
    return true;
}

/*  True when a backslash stands in from..to.                                  */
INLINE bool has_slash(const scanner *self, uint32_t from, uint32_t to)
{
    if (LIKELY(self->slash >= to)) return false;
    return memchr(self->text + from, '\\', to - from) != NULL;
}

/*  Behind the digits from `at` on.                                            */
INLINE uint32_t skip_digits(const scanner *self, uint32_t at)
{
    while (self->size - at >= 16) {
        __m128i off = _mm_sub_epi8(load16(self->text + at), _mm_set1_epi8('0'));
        __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(off, _mm_set1_epi8(9)), off);
        uint32_t other = (uint32_t)_mm_movemask_epi8(digits) ^ 0xffff;
        if (LIKELY(other)) return at + (uint32_t)__builtin_ctz(other);
        at += 16;
    }
    while (at < self->size && (uint8_t)(self->text[at] - '0') <= 9)
        at++;
    return at;
}

/*  Steps over a fraction and an exponent, of which at least one is there.     */
static __attribute__((noinline)) bool scan_fraction(scanner *self, uint32_t *at)
{
    if (self->text[*at] == '.') {
        uint32_t digits = *at + 1;
        *at = skip_digits(self, digits);
        if (*at == digits) return fail(self, *at, "expected a digit");
    }
    if ((peek(self, *at) | 0x20) == 'e') {
        uint32_t digits = *at + 1;
        if (peek(self, digits) == '+' || peek(self, digits) == '-') digits++;
        *at = skip_digits(self, digits);
        if (*at == digits) return fail(self, *at, "expected a digit");
    }
    return true;
}

INLINE bool scan_number(scanner *self, cursor *c, uint8_t *type)
{
    uint32_t digits = c->at + (self->text[c->at] == '-');
    uint32_t at = skip_digits(self, digits);
    *type = WEIR_INT;
    if (UNLIKELY(at == digits)) return fail(self, at, "expected a digit");
    if (UNLIKELY(self->text[digits] == '0' && at - digits > 1))
        return fail(self, digits + 1, "a number may not begin with 0");
    uint8_t behind = peek(self, at);
    if (UNLIKELY(behind == '.' || (behind | 0x20) == 'e')) {
        *type = WEIR_FLOAT;
        if (!scan_fraction(self, &at)) return false;
    }
    c->at = at;
    return true;
}

static __attribute__((noinline, cold)) bool fail_literal(scanner *self, uint32_t at,
                                                         const char *literal)
{
    while (*literal && peek(self, at) == (uint8_t)*literal) {
        at++;
        literal++;
    }
    return fail(self, at, "expected a value");
}

/*  Steps over the literal, whose first byte was seen.                          */
INLINE bool scan_word(scanner *self, cursor *c, const char *literal, uint32_t size)
{
    if (self->size - c->at < size || memcmp(self->text + c->at, literal, size) != 0)
        return fail_literal(self, c->at, literal);
    c->at += size;
    return true;
}

/*  Steps over null, true or false.                                            */
INLINE bool scan_literal(scanner *self, cursor *c, uint8_t *type)
{
    uint8_t first = peek(self, c->at);
    *type = first == 'n' ? WEIR_NULL : WEIR_BOOL;
    if (first == 'n') return scan_word(self, c, "null", 4);
    if (first == 't') return scan_word(self, c, "true", 4);
    if (first == 'f') return scan_word(self, c, "false", 5);
    return fail(self, c->at, "expected a value");
}

/*  Steps over the name of a member and its colon.                             */
INLINE bool scan_name(scanner *self, cursor *c, weir_json_field *field, bool trusted)
{
    if (UNLIKELY(self->end - c->q < AHEAD && self->next < self->size))
        c->q = more_quotes(self, c->q, trusted);
    if (UNLIKELY(peek(self, c->at) != '"')) return fail(self, c->at, "expected a name");
    field->key = c->at + 1;
    if (!scan_string(self, c, trusted)) return false;
    field->key_size = c->at - 1 - field->key;
    field->key_escaped = has_slash(self, field->key, c->at - 1);
    if (UNLIKELY(peek(self, c->at) != ':')) {
        c->at = skip_space(self, c->at);
        if (peek(self, c->at) != ':') return fail(self, c->at, "expected ':'");
    }
    c->at++;
    step_space(self, c);
    return true;
}

/*  Steps over a value that is no container.                                   */
INLINE bool scan_scalar(scanner *self, cursor *c, weir_json_field *field, bool trusted)
{
    uint8_t first = peek(self, c->at);
    field->value = c->at;
    field->escaped = false;
    if (first == '"') {
        if (!scan_string(self, c, trusted)) return false;
        field->type = WEIR_STR;
        field->escaped = has_slash(self, field->value + 1, c->at - 1);
    } else if ((uint8_t)(first - '0') <= 9 || first == '-') {
        if (!scan_number(self, c, &field->type)) return false;
    } else if (!scan_literal(self, c, &field->type)) {
        return false;
    }
    field->value_size = c->at - field->value;
    return true;
}

static __attribute__((noinline)) void grow(weir_json_index *self)
{
    uint32_t capacity = self->capacity ? self->capacity * 2 : 16;
    self->fields = realloc(self->fields, capacity * sizeof *self->fields);
    if (!self->fields) abort();
    self->capacity = capacity;
}

INLINE void add_field(weir_json_index *self, const weir_json_field *field)
{
    if (UNLIKELY(self->count == self->capacity)) grow(self);
    self->fields[self->count++] = *field;
}

/*  Walks the container at c->at, the root. Containers inside are walked by the
    same loop: bit d of maps says whether the one at depth d is an object.     */
INLINE bool walk_container(scanner *self, weir_json_index *index, cursor *c, bool trusted)
{
    uint64_t maps = 0;
    unsigned depth = 0;
    bool in_map = false;
    weir_json_field field = {0};
    for (;;) {
        // a value comes next; it is the root or a member's or an element
        uint8_t first = peek(self, c->at);
        if (first == '{' || first == '[') {
            if (UNLIKELY(depth == WEIR_DEPTH_MAX)) {
                self->deep = true;
                return fail(self, c->at, "nested too deeply");
            }
            if (depth == 1) {
                field.value = c->at;
                field.type = first == '{' ? WEIR_MAP : WEIR_ARRAY;
                field.escaped = false;
                add_field(index, &field);
            }
            in_map = first == '{';
            maps = maps << 1 | in_map;
            depth++;
            c->at++;
            step_space(self, c);
            if (peek(self, c->at) != (in_map ? '}' : ']')) goto member;
        } else {
            if (!scan_scalar(self, c, &field, trusted)) return false;
            if (depth == 1) add_field(index, &field);
        }
        for (;;) {
            uint8_t behind = peek(self, c->at);
            if (UNLIKELY(behind <= ' ')) {
                c->at = skip_space(self, c->at);
                behind = peek(self, c->at);
            }
            if (LIKELY(behind == ',')) break;
            if (UNLIKELY(behind != (in_map ? '}' : ']')))
                return fail(self, c->at,
                            in_map ? "expected ',' or '}'" : "expected ',' or ']'");
            c->at++;
            if (--depth == 0) return true;
            maps >>= 1;
            in_map = maps & 1;
            if (depth == 1) {
                weir_json_field *last = &index->fields[index->count - 1];
                last->value_size = c->at - last->value;
            }
        }
        c->at++;
        step_space(self, c);
    member:
        if (in_map && !scan_name(self, c, &field, trusted)) return false;
        if (!in_map) {
            field.key = field.key_size = 0;
            field.key_escaped = false;
        }
    }
}

INLINE bool walk(scanner *self, weir_json_index *index, bool trusted)
{
    cursor c = {0, self->end};
    step_space(self, &c);
    uint8_t first = peek(self, c.at);
    index->root = c.at;
    if (first == '{' || first == '[') {
        index->type = first == '{' ? WEIR_MAP : WEIR_ARRAY;
        if (!walk_container(self, index, &c, trusted)) return false;
    } else {
        weir_json_field root;
        if (!scan_scalar(self, &c, &root, trusted)) return false;
        index->type = root.type;
    }
    index->root_size = c.at - index->root;
    if (trusted) return true;
    c.at = skip_space(self, c.at);
    if (c.at < self->size) return fail(self, c.at, "bytes behind the document");
    return true;
}

// The quotes are left as they are: clearing them would cost more than a record.
static void scanner_init(scanner *self, const uint8_t *text, uint32_t size)
{
    self->text = text;
    self->size = size;
    self->next = 0;
    self->limit = size;
    self->slash = none;
    self->high = none;
    self->escape = false;
    self->inside = false;
    self->error_at = 0;
    self->error = NULL;
    self->deep = false;
    self->end = self->quotes;
}

/*  UTF-8 is checked behind the walk, and only when bytes from 0x80 were seen.
    What comes first in the text is reported. A character that the end of the
    text cuts is left to the walker, which misses the string's end.            */
static void check_utf8(scanner *self)
{
    uint32_t from = self->high;
    uint32_t left = self->size - from;
    uint32_t span = (uint32_t)weir_utf8_span(self->text + from, left);
    if (span == left) return;
    if (weir_utf8_length(self->text + from + span, left - span) < 0) return;
    if (self->error && self->error_at < from + span) return;
    self->deep = false;
    fail(self, from + span, "not UTF-8");
}

weir_err weir_json_scan(weir_json_index *self, const uint8_t *text, size_t size)
{
    scanner s;
    self->count = 0;
    self->type = WEIR_MISSING;
    self->root = self->root_size = 0;
    self->error_at = 0;
    self->error = NULL;
    if (size >= WEIR_TEXT_MAX) {
        self->error = "the text is too big";
        return WEIR_ETOOBIG;
    }
    scanner_init(&s, text, (uint32_t)size);
    walk(&s, self, false);
    if (UNLIKELY(s.high != none)) check_utf8(&s);
    if (LIKELY(!s.error)) return WEIR_OK;
    self->count = 0;
    self->type = WEIR_MISSING;
    self->root = self->root_size = 0;
    self->error_at = s.error_at;
    self->error = s.error;
    if (s.error_at >= s.size) return WEIR_ESHORT;
    return s.deep ? WEIR_EDEEP : WEIR_EMALFORMED;
}

void weir_json_rescan(weir_json_index *self, const uint8_t *text, size_t size)
{
    scanner s;
    self->count = 0;
    self->error_at = 0;
    self->error = NULL;
    scanner_init(&s, text, (uint32_t)size);
    walk(&s, self, true);
}
