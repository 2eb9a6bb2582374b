#include "runtime/filter_private.h"
#include "runtime/json.h"
#include "runtime/nearest.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*  What people write that is not of this language, longest first.                    */
static const struct {
    const char *wrong;
    const char *right;
} mistaken[] = {
    {"===", "'=='"},        {"!==", "'!='"}, {"~=", "'!='"}, {"=~", "'~'"},
    {"!~", "'not x ~ ..'"}, {"<>", "'!='"},  {"=<", "'<='"}, {"=>", "'>='"},
    {"&&", "'and'"},        {"||", "'or'"},  {"&", "'and'"}, {"|", "'or'"},
    {"!", "'not'"},         {"=", "'=='"},   {NULL, NULL},
};

/*  Longest first. `~=` is looked up among the mistaken ones before `~` here.         */
static const char *const operators[] = {"==", "!=", "<=", ">=", "<", ">", "~", NULL};

weir_err filter_fail(filter_parser *self, size_t at, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    *self->column = at + 1;
    return weir_report_set(self->report, WEIR_EINVAL, NULL, "%s", text);
}

char *filter_keep(filter_parser *self, const char *text, size_t size)
{
    weir_filter *filter = self->filter;
    char *kept = filter->arena + filter->used;
    memcpy(kept, text, size);
    filter->used += size;
    return kept;
}

const char *filter_nearest(const char *const *names, const char *text, size_t size)
{
    char word[16];
    size_t count = 0;
    if (size >= sizeof word) return NULL;
    memcpy(word, text, size);
    word[size] = 0;
    while (names[count])
        count++;
    return weir_nearest(word, names, count);
}

/*  --- tokens --------------------------------------------------------------------  */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static char byte_at(const filter_parser *self, size_t at)
{
    return at < self->size ? self->text[at] : 0;
}

static bool starts_with(const filter_parser *self, size_t at, const char *text)
{
    size_t size = strlen(text);
    return self->size - at >= size && memcmp(self->text + at, text, size) == 0;
}

static weir_err take(filter_parser *self, token_kind kind, size_t size)
{
    self->token = (filter_token){.kind = kind, .from = self->at, .size = size};
    self->at += size;
    return WEIR_OK;
}

static size_t word_size(const filter_parser *self, size_t at)
{
    size_t size = 0;
    while (is_letter(byte_at(self, at + size)) || is_digit(byte_at(self, at + size)))
        size++;
    return size;
}

static size_t digits_size(const filter_parser *self, size_t at)
{
    size_t size = 0;
    while (is_digit(byte_at(self, at + size)))
        size++;
    return size;
}

/*  JSON's numbers.                                                                   */
static weir_err take_number(filter_parser *self)
{
    size_t from = self->at;
    size_t at = from + (byte_at(self, from) == '-');
    size_t whole = digits_size(self, at);
    if (whole == 0) {
        return filter_fail(
            self, from,
            "'-' begins no number here; a field name with other characters "
            "than letters, digits and '_' stands in backquotes");
    }
    if (whole > 1 && self->text[at] == '0') {
        return filter_fail(self, from, "a number has no leading zeros");
    }
    at += whole;
    if (byte_at(self, at) == '.') {
        size_t part = digits_size(self, at + 1);
        if (part == 0)
            return filter_fail(self, at, "digits are missing behind the point");
        at += 1 + part;
    }
    if (byte_at(self, at) == 'e' || byte_at(self, at) == 'E') {
        size_t sign = byte_at(self, at + 1) == '-' || byte_at(self, at + 1) == '+';
        size_t part = digits_size(self, at + 1 + sign);
        if (part == 0) return filter_fail(self, at, "digits are missing in the exponent");
        at += 1 + sign + part;
    }
    if (is_letter(byte_at(self, at))) {
        return filter_fail(self, at,
                           "a number ends here, and a letter follows; a field name that "
                           "begins with a digit stands in backquotes");
    }
    return take(self, TOKEN_NUMBER, at - from);
}

static weir_err take_quoted(filter_parser *self, token_kind kind)
{
    char quote = self->text[self->at];
    size_t at = self->at + 1;
    while (at < self->size && self->text[at] != quote)
        at += kind == TOKEN_TEXT && self->text[at] == '\\' ? 2 : 1;
    if (at >= self->size) {
        return filter_fail(self, self->at, "the %s that begins here has no closing %c",
                           kind == TOKEN_TEXT ? "text" : "name", quote);
    }
    return take(self, kind, at + 1 - self->at);
}

static weir_err take_sign(filter_parser *self)
{
    size_t at = self->at;
    char c = self->text[at];
    if (strchr("()[].,", c)) return take(self, TOKEN_SIGN, 1);
    for (size_t i = 0; mistaken[i].wrong; i++) {
        const char *wrong = mistaken[i].wrong;
        bool other = starts_with(self, at, "==") || starts_with(self, at, "!=");
        if (other && strlen(wrong) < 3) continue;
        if (!starts_with(self, at, wrong)) continue;
        return filter_fail(self, at, "unknown operator '%s': write %s", wrong,
                           mistaken[i].right);
    }
    for (size_t i = 0; operators[i]; i++) {
        if (starts_with(self, at, operators[i])) {
            return take(self, TOKEN_OPERATOR, strlen(operators[i]));
        }
    }
    if (c >= '!' && c <= '~') {
        return filter_fail(self, at,
                           "'%c' has no meaning here; a field name with other characters "
                           "than letters, digits and '_' stands in backquotes",
                           c);
    }
    return filter_fail(self, at,
                       "byte 0x%02x has no meaning here; a field name with other "
                       "characters than letters, digits and '_' stands in backquotes",
                       (unsigned)(unsigned char)c);
}

weir_err filter_next(filter_parser *self)
{
    while (self->at < self->size && strchr(" \t\r\n", self->text[self->at]))
        self->at++;
    if (self->at >= self->size) return take(self, TOKEN_END, 0);
    char c = self->text[self->at];
    if (is_letter(c)) return take(self, TOKEN_NAME, word_size(self, self->at));
    if (is_digit(c) || c == '-') return take_number(self);
    if (c == '\'' || c == '"') return take_quoted(self, TOKEN_TEXT);
    if (c == '`') return take_quoted(self, TOKEN_QUOTED);
    if (c == '$') return take(self, TOKEN_META, 1 + word_size(self, self->at + 1));
    return take_sign(self);
}

bool filter_at(const filter_parser *self, const char *text)
{
    const filter_token *token = &self->token;
    if (token->kind != TOKEN_NAME && token->kind != TOKEN_SIGN &&
        token->kind != TOKEN_OPERATOR) {
        return false;
    }
    return token->size == strlen(text) &&
           memcmp(self->text + token->from, text, token->size) == 0;
}

/*  --- literals ------------------------------------------------------------------  */

static bool hex4(const char *text, const char *end, unsigned *code)
{
    if (end - text < 4) return false;
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char c = text[i];
        unsigned digit;
        if (is_digit(c)) {
            digit = (unsigned)(c - '0');
        } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
            digit = (unsigned)((c | 32) - 'a') + 10;
        } else {
            return false;
        }
        *code = *code << 4 | digit;
    }
    return true;
}

static size_t put_utf8(char *out, unsigned code)
{
    size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char heads[] = {0x00, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(heads[more] | code >> (6 * more));
    for (size_t i = 1; i <= more; i++)
        out[i] = (char)(0x80 | ((code >> (6 * (more - i))) & 0x3f));
    return more + 1;
}

/*  \uXXXX, and the second half of a pair. A half alone becomes the three bytes of its
    number, as weir_json_unescape does. Returns the bytes behind \u that were used, 0
    for a mistake.                                                                    */
static size_t put_unicode(const char *text, const char *end, char **out)
{
    unsigned high, low;
    if (!hex4(text, end, &high)) return 0;
    size_t used = 4;
    if (high >= 0xd800 && high < 0xdc00 && end - text >= 6 && text[4] == '\\' &&
        text[5] == 'u' && hex4(text + 6, end, &low) && low >= 0xdc00 && low < 0xe000) {
        high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        used = 10;
    }
    *out += put_utf8(*out, high);
    return used;
}

static weir_err bad_escape(filter_parser *self, const char *at)
{
    if (at[1] == 'u') {
        return filter_fail(self, (size_t)(at - self->text),
                           "four hexadecimal digits must follow \\u");
    }
    if (at[1] < '!' || at[1] > '~') {
        return filter_fail(self, (size_t)(at - self->text), "unknown escape: write \\\\");
    }
    return filter_fail(self, (size_t)(at - self->text),
                       "unknown escape \\%c: write \\\\%c for a backslash and %c", at[1],
                       at[1], at[1]);
}

weir_err filter_text(filter_parser *self, weir_value *value)
{
    static const char from[] = "\"\\/bfnrt'";
    static const char to[] = "\"\\/\b\f\n\r\t'";
    const char *at = self->text + self->token.from + 1;
    const char *end = at + self->token.size - 2;
    char *begin = self->filter->arena + self->filter->used;
    char *out = begin;
    while (at < end) {
        if (*at != '\\') {
            *out++ = *at++;
            continue;
        }
        const char *found = strchr(from, at[1]);
        if (found) {
            *out++ = to[found - from];
            at += 2;
            continue;
        }
        size_t used = at[1] == 'u' ? put_unicode(at + 2, end, &out) : 0;
        if (used == 0) return bad_escape(self, at);
        at += 2 + used;
    }
    self->filter->used += (size_t)(out - begin);
    *value = (weir_value){.type = WEIR_STR,
                          .format = WEIR_MSGPACK,
                          .data = (const uint8_t *)begin,
                          .size = (size_t)(out - begin)};
    return WEIR_OK;
}

/*  Read as the numbers of a payload are, so that the same digits are equal. What an
    integer or a double cannot hold is refused: a rounded literal would surprise.     */
weir_err filter_number(filter_parser *self, weir_value *value)
{
    const char *text = self->text + self->token.from;
    size_t size = self->token.size;
    weir_json_read((const uint8_t *)text, size, value);
    bool whole =
        !memchr(text, '.', size) && !memchr(text, 'e', size) && !memchr(text, 'E', size);
    if (whole && value->type == WEIR_FLOAT && value->real != 0) {
        return filter_fail(self, self->token.from,
                           "number out of range: integers go from -2^63 to 2^64-1");
    }
    if (value->type == WEIR_FLOAT && !isfinite(value->real)) {
        return filter_fail(self, self->token.from, "number out of range");
    }
    value->data = NULL;
    value->size = 0;
    return WEIR_OK;
}
