/*  clf: one line of an access log in the common or combined format of Apache and
    nginx, read in one pass.

    host ident user [day/month/year:hour:minute:second zone] "request" status bytes
    and, in the combined format: "referrer" "agent"                            */
#include "lua/bind/bind.h"
#include "lua/bind/civil.h"
#include "lua/sandbox.h"
#include "runtime/utf8.h"
#include <lauxlib.h>

/*  A server that takes headers of 8KB and writes every byte of them as \xHH stays
    far below this.                                                            */
#define LINE_MAX_BYTES (256u << 10)
#define BYTES_PER_STEP 8

/*  Letters and digits of a date: "17/May/2015:10:05:03 +0000".                */
#define DATE_BYTES 26

/*  A part of the line, in place.                                              */
typedef struct {
    const char *text; // NULL: it was "-"
    size_t size;
    bool escaped; // holds backslashes
} part;

typedef struct {
    const char *line;
    const char *at;
    const char *end;
    const char *wanted; // of a failure: constant text
    part ip, ident, user, request, method, path, protocol, referrer, agent;
    int64_t ts_ms;
    int64_t status; // -1: it was "-"
    int64_t bytes;  // -1: it was "-"
} entry;

/* --- Reading ----------------------------------------------------------------------- */

static bool take(entry *self, char byte)
{
    if (self->at == self->end || *self->at != byte) return false;
    self->at++;
    return true;
}

static bool is_dash(const char *text, size_t size)
{
    return size == 1 && *text == '-';
}

/*  Up to the next space, and over it.                                         */
static bool read_word(entry *self, part *word)
{
    const char *space = memchr(self->at, ' ', (size_t)(self->end - self->at));
    if (!space || space == self->at) return false;
    size_t size = (size_t)(space - self->at);
    *word = (part){self->at, size, memchr(self->at, '\\', size) != NULL};
    if (is_dash(word->text, size)) word->text = NULL;
    self->at = space + 1;
    return true;
}

/*  Up to " [", and over it: a user's name may hold spaces. Apache writes a name
    without letters as two quotes.                                             */
static bool read_user(entry *self)
{
    const char *start = self->at;
    const char *open = start;
    while ((open = memchr(open, '[', (size_t)(self->end - open)))) {
        if (open - start >= 2 && open[-1] == ' ') break;
        open++;
    }
    if (!open) return false;
    size_t size = (size_t)(open - 1 - start);
    self->user = (part){start, size, memchr(start, '\\', size) != NULL};
    if (is_dash(start, size)) self->user.text = NULL;
    if (size == 2 && memcmp(start, "\"\"", 2) == 0) self->user.size = 0;
    self->at = open + 1;
    return true;
}

/*  Two digits; a negative number when one is none.                            */
static int two_digits(const char *text)
{
    unsigned tens = (unsigned)text[0] - '0', ones = (unsigned)text[1] - '0';
    return tens > 9 || ones > 9 ? -100000 : (int)(10 * tens + ones);
}

static int month_number(const char *text)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (memcmp(names + 3 * i, text, 3) == 0) return i + 1;
    return 0;
}

/*  The date and the bracket behind it.                                        */
static bool read_date(entry *self)
{
    const char *d = self->at;
    if (self->end - d <= DATE_BYTES || d[DATE_BYTES] != ']') return false;
    bool form = d[2] == '/' && d[6] == '/' && d[11] == ':' && d[14] == ':' &&
                d[17] == ':' && d[20] == ' ' && (d[21] == '+' || d[21] == '-');
    int day = two_digits(d), month = month_number(d + 3);
    int year = 100 * two_digits(d + 7) + two_digits(d + 9);
    int hour = two_digits(d + 12), minute = two_digits(d + 15),
        second = two_digits(d + 18);
    int zone_hour = two_digits(d + 22), zone_minute = two_digits(d + 24);
    if (!form || month == 0 || year < 0 || day < 1 || day > weir_month_days(year, month))
        return false;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60 ||
        zone_hour < 0 || zone_hour > 23 || zone_minute < 0 || zone_minute > 59)
        return false;
    int zone_s = 3600 * zone_hour + 60 * zone_minute;
    int64_t seconds = weir_civil_days(year, month, day) * 86400 + 3600 * hour +
                      60 * minute + second - (d[21] == '-' ? -zone_s : zone_s);
    self->ts_ms = seconds * 1000;
    self->at = d + DATE_BYTES + 1;
    return true;
}

/*  The closing quote of a part that begins at `start`: a quote inside the part has a
    backslash before it. NULL: there is none.                                  */
static const char *find_quote(const char *start, const char *end, bool *escaped)
{
    const char *quote = memchr(start, '"', (size_t)(end - start));
    const char *c = quote ? memchr(start, '\\', (size_t)(quote - start)) : NULL;
    *escaped = c != NULL;
    if (!c) return quote;
    for (; c < end && *c != '"'; c++)
        c += *c == '\\';
    return c < end ? c : NULL;
}

static bool read_quoted(entry *self, part *quoted)
{
    if (!take(self, '"')) return false;
    const char *start = self->at;
    bool escaped;
    const char *quote = find_quote(start, self->end, &escaped);
    if (!quote) return false;
    size_t size = (size_t)(quote - start);
    *quoted = (part){is_dash(start, size) ? NULL : start, size, escaped};
    self->at = quote + 1;
    return true;
}

/*  Digits, `fewest` to `most`, or "-" for -1.                                 */
static bool read_count(entry *self, int fewest, int most, int64_t *count)
{
    *count = -1;
    if (take(self, '-')) return true;
    int64_t value = 0;
    int digits = 0;
    for (; self->at < self->end && digits < most; digits++, self->at++) {
        if (*self->at < '0' || *self->at > '9') break;
        value = value * 10 + (*self->at - '0');
    }
    if (digits >= fewest) *count = value;
    return digits >= fewest;
}

static bool is_method(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((text[i] < 'A' || text[i] > 'Z') && text[i] != '-' && text[i] != '_')
            return false;
    return size > 0;
}

/*  Such as HTTP/1.1: capitals, a slash, digits and dots.                      */
static bool is_protocol(const char *text, size_t size)
{
    const char *slash = memchr(text, '/', size);
    if (!slash || slash == text || slash + 1 == text + size) return false;
    for (const char *c = text; c < slash; c++)
        if (*c < 'A' || *c > 'Z') return false;
    for (const char *c = slash + 1; c < text + size; c++)
        if ((*c < '0' || *c > '9') && *c != '.') return false;
    return true;
}

/*  METHOD path PROTO; anything else stays one text, as it is in the log.      */
static void split_request(entry *self)
{
    const char *text = self->request.text, *end = text + self->request.size;
    const char *first = memchr(text, ' ', self->request.size);
    if (!first) return;
    const char *path = first + 1;
    const char *second = memchr(path, ' ', (size_t)(end - path));
    if (!second || second == path) return;
    const char *protocol = second + 1;
    if (!is_method(text, (size_t)(first - text)) ||
        !is_protocol(protocol, (size_t)(end - protocol)))
        return;
    self->method = (part){text, (size_t)(first - text), false};
    self->path = (part){path, (size_t)(second - path), self->request.escaped};
    self->protocol = (part){protocol, (size_t)(end - protocol), false};
    self->request.text = NULL;
}

static bool read_request(entry *self)
{
    const char *start = self->at + 1;
    if (!read_quoted(self, &self->request)) return false;
    self->request.text = start;
    split_request(self);
    return true;
}

static bool expect(entry *self, bool found, const char *what)
{
    if (!found) self->wanted = what;
    return found;
}

static bool read_entry(entry *self)
{
    if (!expect(self, read_word(self, &self->ip), "an address and a space") ||
        !expect(self, read_word(self, &self->ident), "an ident and a space") ||
        !expect(self, read_user(self), "a user and ' ['") ||
        !expect(self, read_date(self), "a date such as 17/May/2015:10:05:03 +0000]") ||
        !expect(self, take(self, ' ') && read_request(self), "a quoted request") ||
        !expect(self, take(self, ' ') && read_count(self, 3, 3, &self->status),
                "a status of three digits") ||
        !expect(self, take(self, ' ') && read_count(self, 1, 18, &self->bytes),
                "a number of bytes"))
        return false;
    if (self->at == self->end) return true;
    return expect(self, take(self, ' ') && read_quoted(self, &self->referrer),
                  "a quoted referrer") &&
           expect(self, take(self, ' ') && read_quoted(self, &self->agent),
                  "a quoted agent") &&
           expect(self, self->at == self->end, "the end of the line");
}

/* --- To Lua ------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/*  The byte that an escape stands for, or -1; *used is how long the escape is. */
static int unescape(const char *text, size_t left, size_t *used)
{
    static const char letters[] = "\"\\nrtbv", bytes[] = "\"\\\n\r\t\b\v";
    *used = 2;
    if (left < 2) return -1;
    if (text[1] == 'x') {
        if (left < 4) return -1;
        int high = hex_digit(text[2]), low = hex_digit(text[3]);
        *used = 4;
        return high < 0 || low < 0 ? -1 : 16 * high + low;
    }
    const char *letter = memchr(letters, text[1], sizeof letters - 1);
    return letter ? bytes[letter - letters] : -1;
}

/*  Bytes of some other character set stay in their escapes, as they were logged: so
    every field of a line that is UTF-8 is UTF-8 and can become JSON.          */
static void push_unescaped(lua_State *L, const part *value)
{
    luaL_Buffer out;
    char *to = luaL_buffinitsize(L, &out, value->size);
    size_t size = 0, used;
    for (size_t i = 0; i < value->size; i += used) {
        int byte = value->text[i] == '\\'
                       ? unescape(value->text + i, value->size - i, &used)
                       : -1;
        if (byte < 0) used = 1;
        to[size++] = byte < 0 ? value->text[i] : (char)byte;
    }
    if (!weir_utf8_valid((const uint8_t *)to, size)) {
        size = value->size;
        memcpy(to, value->text, size);
    }
    luaL_pushresultsize(&out, size);
}

static void set_part(lua_State *L, const char *name, const part *value)
{
    if (!value->text) return;
    if (value->escaped)
        push_unescaped(L, value);
    else
        lua_pushlstring(L, value->text, value->size);
    lua_setfield(L, -2, name);
}

static void set_count(lua_State *L, const char *name, int64_t value)
{
    if (value < 0) return;
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static void push_entry(lua_State *L, entry *self)
{
    lua_createtable(L, 0, 11);
    set_part(L, "ip", &self->ip);
    set_part(L, "ident", &self->ident);
    set_part(L, "user", &self->user);
    lua_pushinteger(L, self->ts_ms);
    lua_setfield(L, -2, "ts");
    set_part(L, "method", &self->method);
    set_part(L, "path", &self->path);
    set_part(L, "protocol", &self->protocol);
    self->request.escaped = false; // what is no request is kept as it was logged
    set_part(L, "request", &self->request);
    set_count(L, "status", self->status);
    set_count(L, "bytes", self->bytes);
    set_part(L, "referrer", &self->referrer);
    set_part(L, "agent", &self->agent);
}

/*  clf (line) -> fields | nil, sentence                                       */
static int clf(lua_State *L)
{
    size_t size;
    const char *line = luaL_checklstring(L, 1, &size);
    weir_charge(L, size / BYTES_PER_STEP);
    if (size > LINE_MAX_BYTES) {
        luaL_pushfail(L);
        lua_pushfstring(L, "the line is longer than %d bytes", (int)LINE_MAX_BYTES);
        return 2;
    }
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
        size--;
    entry self = {.line = line, .at = line, .end = line + size};
    if (read_entry(&self)) {
        push_entry(L, &self);
        return 1;
    }
    luaL_pushfail(L);
    lua_pushfstring(L, "%s expected at byte %d", self.wanted,
                    (int)(self.at - self.line) + 1);
    return 2;
}

int weir_bind_clf(lua_State *L)
{
    lua_pushcfunction(L, clf);
    return 1;
}
