#include "lua/lexer.h"

/*  Character classes are Lua's: ASCII, whatever the locale.                   */
static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_space(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/*  The value of a hexadecimal digit, -1: it is none.                          */
static int hex_value(int c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/*  The byte at that distance, -1 behind the end.                              */
static int peek(const weir_lexer *self, size_t distance)
{
    if ((size_t)(self->end - self->at) <= distance) return -1;
    return (unsigned char)self->at[distance];
}

static bool at_newline(const weir_lexer *self)
{
    int c = peek(self, 0);
    return c == '\n' || c == '\r';
}

/*  A line ends with \n, \r, or both in either order.                          */
static void skip_newline(weir_lexer *self)
{
    int first = peek(self, 0), second = peek(self, 1);
    self->at += (second == '\n' || second == '\r') && second != first ? 2 : 1;
    self->line++;
}

static bool complain(weir_lexer *self, const char *complaint)
{
    self->complaint = complaint;
    return false;
}

void weir_lexer_init(weir_lexer *self, const char *text, size_t size)
{
    if (size == 0) text = "";
    *self = (weir_lexer){.at = text, .end = text + size, .line = 1};
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) self->at += 3;
    if (peek(self, 0) != '#') return;
    while (self->at < self->end && !at_newline(self))
        self->at++;
}

void weir_lexer_fini(weir_lexer *self)
{
    weir_buffer_fini(&self->string);
}

void weir_lexer_stop(weir_lexer *self)
{
    self->at = self->end;
}

/* --- Long brackets and comments ---------------------------------------------------- */

/*  The number of '=' in the long bracket that opens or closes here with that
    character; -1: there is none.                                              */
static int bracket_level(const weir_lexer *self, int bracket)
{
    if (peek(self, 0) != bracket) return -1;
    size_t level = 0;
    while (peek(self, level + 1) == '=')
        level++;
    return peek(self, level + 1) == bracket ? (int)level : -1;
}

/*  Reads from the opening bracket of that level behind the closing one. The
    content goes into the string unless it is a comment's; a newline right behind
    the opening is not part of it. false: the text ends before.                */
static bool read_long(weir_lexer *self, int level, bool keep)
{
    self->at += level + 2;
    if (at_newline(self)) skip_newline(self);
    while (self->at < self->end) {
        if (bracket_level(self, ']') == level) {
            self->at += level + 2;
            return true;
        }
        if (at_newline(self)) {
            skip_newline(self);
            if (keep) weir_buffer_put_byte(&self->string, '\n');
            continue;
        }
        // a run of '=' that closes nothing is passed at once, so that no byte
        // of it is looked at again
        const char *from = self->at++;
        while (*from == ']' && peek(self, 0) == '=')
            self->at++;
        if (keep) weir_buffer_put(&self->string, from, (size_t)(self->at - from));
    }
    return false;
}

/*  Passes spaces and comments. false: a long comment does not end.            */
static bool skip_blank(weir_lexer *self)
{
    for (;;) {
        if (at_newline(self)) {
            skip_newline(self);
        } else if (is_space(peek(self, 0))) {
            self->at++;
        } else if (peek(self, 0) == '-' && peek(self, 1) == '-') {
            self->at += 2;
            int level = bracket_level(self, '[');
            if (level >= 0) {
                if (!read_long(self, level, false))
                    return complain(self, "unfinished long comment");
                continue;
            }
            while (self->at < self->end && !at_newline(self))
                self->at++;
        } else {
            return true;
        }
    }
}

/* --- Short strings ----------------------------------------------------------------- */

/*  UTF-8 of up to 6 bytes, for values below 2^31.                             */
static void put_utf8(weir_buffer *out, uint32_t value)
{
    if (value < 0x80) {
        weir_buffer_put_byte(out, (uint8_t)value);
        return;
    }
    uint8_t tail[6];
    int count = 0;
    uint32_t room = 0x3f; // highest value that the first byte still takes
    while (value > room) {
        tail[count++] = (uint8_t)(0x80 | (value & 0x3f));
        value >>= 6;
        room >>= 1;
    }
    weir_buffer_put_byte(out, (uint8_t)((~room << 1) | value));
    while (count > 0)
        weir_buffer_put_byte(out, tail[--count]);
}

/*  These begin behind the letter of the escape.                               */
static bool escape_unicode(weir_lexer *self)
{
    if (peek(self, 0) != '{') return complain(self, "missing '{' in \\u{xxxx}");
    self->at++;
    if (hex_value(peek(self, 0)) < 0) return complain(self, "hexadecimal digit expected");
    uint32_t value = 0;
    for (int digit; (digit = hex_value(peek(self, 0))) >= 0; self->at++) {
        if (value > 0x7fffffffu >> 4) return complain(self, "UTF-8 value too large");
        value = value * 16 + (uint32_t)digit;
    }
    if (peek(self, 0) != '}') return complain(self, "missing '}' in \\u{xxxx}");
    self->at++;
    put_utf8(&self->string, value);
    return true;
}

static bool escape_hex(weir_lexer *self)
{
    int high = hex_value(peek(self, 0));
    int low = high < 0 ? -1 : hex_value(peek(self, 1));
    if (low < 0) return complain(self, "hexadecimal digit expected");
    weir_buffer_put_byte(&self->string, (uint8_t)(high * 16 + low));
    self->at += 2;
    return true;
}

static bool escape_decimal(weir_lexer *self)
{
    int value = 0;
    for (int i = 0; i < 3 && is_digit(peek(self, 0)); i++)
        value = value * 10 + (*self->at++ - '0');
    if (value > 255) return complain(self, "decimal escape too large");
    weir_buffer_put_byte(&self->string, (uint8_t)value);
    return true;
}

static bool escape_blank(weir_lexer *self)
{
    while (is_space(peek(self, 0))) {
        if (at_newline(self))
            skip_newline(self);
        else
            self->at++;
    }
    return true;
}

/*  Reads an escape from behind its backslash.                                 */
static bool read_escape(weir_lexer *self)
{
    static const char letters[] = "abfnrtv\\\"'", bytes[] = "\a\b\f\n\r\t\v\\\"'";
    int c = peek(self, 0);
    if (c == '\n' || c == '\r') {
        skip_newline(self);
        weir_buffer_put_byte(&self->string, '\n');
        return true;
    }
    if (is_digit(c)) return escape_decimal(self);
    self->at += c >= 0;
    if (c == 'x') return escape_hex(self);
    if (c == 'u') return escape_unicode(self);
    if (c == 'z') return escape_blank(self);
    const char *letter = c > 0 ? strchr(letters, c) : NULL;
    if (!letter) return complain(self, "invalid escape sequence");
    weir_buffer_put_byte(&self->string, (uint8_t)bytes[letter - letters]);
    return true;
}

static bool read_short(weir_lexer *self)
{
    int quote = (unsigned char)*self->at++;
    for (;;) {
        int c = peek(self, 0);
        if (c < 0 || c == '\n' || c == '\r') return complain(self, "unfinished string");
        self->at++;
        if (c == quote) return true;
        if (c != '\\')
            weir_buffer_put_byte(&self->string, (uint8_t)c);
        else if (!read_escape(self))
            return false;
    }
}

/* --- Numerals ---------------------------------------------------------------------- */

static const char *skip_digits(const char *at, const char *end, bool hex)
{
    while (at < end && (hex ? hex_value((unsigned char)*at) >= 0 : is_digit(*at)))
        at++;
    return at;
}

/*  Whether the bytes are a numeral as a whole. whole: without point and exponent.
 */
static bool check_numeral(const char *at, const char *end, bool hex, bool *whole)
{
    const char *from = at;
    at = skip_digits(at, end, hex);
    size_t digits = (size_t)(at - from);
    *whole = at == end;
    if (at < end && *at == '.') {
        from = ++at;
        at = skip_digits(at, end, hex);
        digits += (size_t)(at - from);
    }
    if (digits == 0) return false;
    if (at < end && (*at | 0x20) == (hex ? 'p' : 'e')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        from = at;
        at = skip_digits(at, end, false);
        if (at == from) return false;
    }
    return at == end;
}

/*  A decimal integer beyond int64 is a float, a hexadecimal one wraps around. */
static int integer_value(const char *at, const char *end, bool hex, int64_t *value)
{
    uint64_t sum = 0;
    for (; at < end; at++) {
        uint64_t digit = (uint64_t)hex_value((unsigned char)*at);
        if (!hex && sum > ((uint64_t)INT64_MAX - digit) / 10) return WEIR_TOKEN_FLOAT;
        sum = sum * (hex ? 16 : 10) + digit;
    }
    *value = (int64_t)sum;
    return WEIR_TOKEN_INTEGER;
}

/*  Takes every byte that could belong to a numeral, as Lua does: 3..2 and 3x are
    malformed, not two tokens.                                                 */
static int read_numeral(weir_lexer *self, int64_t *value)
{
    const char *from = self->at;
    bool hex = peek(self, 0) == '0' && (peek(self, 1) | 0x20) == 'x';
    if (hex) self->at += 2;
    for (;;) {
        int c = peek(self, 0);
        if (c >= 0 && (c | 0x20) == (hex ? 'p' : 'e')) {
            self->at++;
            c = peek(self, 0);
            if (c == '+' || c == '-') self->at++;
        } else if (hex_value(c) >= 0 || c == '.') {
            self->at++;
        } else {
            break;
        }
    }
    bool whole;
    if (hex) from += 2;
    if (is_name_start(peek(self, 0)) || !check_numeral(from, self->at, hex, &whole)) {
        complain(self, "malformed number");
        return WEIR_TOKEN_BAD;
    }
    return whole ? integer_value(from, self->at, hex, value) : WEIR_TOKEN_FLOAT;
}

/* --- Names and operators ----------------------------------------------------------- */

static const char *const keywords[] = {
    "and",      "break",  "do",   "else", "elseif", "end",   "false", "for",
    "function", "goto",   "if",   "in",   "local",  "nil",   "not",   "or",
    "repeat",   "return", "then", "true", "until",  "while",
};

static int read_name(weir_lexer *self)
{
    const char *from = self->at;
    while (is_name_start(peek(self, 0)) || is_digit(peek(self, 0)))
        self->at++;
    size_t size = (size_t)(self->at - from);
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strlen(keywords[i]) == size && memcmp(keywords[i], from, size) == 0)
            return WEIR_TOKEN_AND + (int)i;
    return WEIR_TOKEN_NAME;
}

static const struct {
    char text[3];
    int kind;
} pairs[] = {
    {"..", WEIR_TOKEN_CONCAT}, {"//", WEIR_TOKEN_IDIV}, {"==", WEIR_TOKEN_EQ},
    {">=", WEIR_TOKEN_GE},     {"<=", WEIR_TOKEN_LE},   {"~=", WEIR_TOKEN_NE},
    {"<<", WEIR_TOKEN_SHL},    {">>", WEIR_TOKEN_SHR},  {"::", WEIR_TOKEN_LABEL},
};

static int read_operator(weir_lexer *self)
{
    int first = peek(self, 0), second = peek(self, 1);
    if (first == '.' && second == '.' && peek(self, 2) == '.') {
        self->at += 3;
        return WEIR_TOKEN_DOTS;
    }
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (pairs[i].text[0] == first && pairs[i].text[1] == second) {
            self->at += 2;
            return pairs[i].kind;
        }
    if (first > 0 && strchr("+-*/%^#&~|<>=(){}[];:,.", first)) {
        self->at++;
        return first;
    }
    complain(self, "unexpected character");
    return WEIR_TOKEN_BAD;
}

static int read_token(weir_lexer *self, int64_t *integer)
{
    int c = peek(self, 0);
    if (c < 0) return WEIR_TOKEN_END;
    if (is_name_start(c)) return read_name(self);
    if (is_digit(c) || (c == '.' && is_digit(peek(self, 1))))
        return read_numeral(self, integer);
    if (c == '"' || c == '\'') {
        self->string.size = 0;
        return read_short(self) ? WEIR_TOKEN_STRING : WEIR_TOKEN_BAD;
    }
    int level = bracket_level(self, '[');
    if (level >= 0) {
        self->string.size = 0;
        if (read_long(self, level, true)) return WEIR_TOKEN_STRING;
        complain(self, "unfinished long string");
        return WEIR_TOKEN_BAD;
    }
    if (c == '[' && peek(self, 1) == '=') {
        complain(self, "invalid long string delimiter");
        return WEIR_TOKEN_BAD;
    }
    return read_operator(self);
}

weir_token weir_lexer_next(weir_lexer *self)
{
    bool good = skip_blank(self);
    weir_token token = {.kind = WEIR_TOKEN_BAD, .line = self->line, .text = self->at};
    if (good) token.kind = read_token(self, &token.integer);
    token.size = (size_t)(self->at - token.text);
    if (token.kind == WEIR_TOKEN_BAD) weir_lexer_stop(self);
    return token;
}
