/*  time: instants as ms since 1970, read and written by a format. Nothing here
    knows a locale or a time zone database; arithmetic is by integers.         */
#include "lua/bind/bind.h"
#include "lua/bind/civil.h"
#include "lua/sandbox.h"
#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#define OLDEST_MS INT64_C(-62167219200000) // 0000-01-01T00:00:00Z
#define NEWEST_MS INT64_C(253402300799999) // 9999-12-31T23:59:59.999Z

static int64_t system_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t (*weir_time_source_ms)(void) = system_ms;

/*  One instant in fields, as read so far or to be written.                    */
typedef struct {
    int year;
    int month;
    int day;
    int year_day; // 1..366; 0: month and day count
    int hour;
    int hour12; // 1..12
    int minute;
    int second; // 60 when a leap second was read
    int millisecond;
    int weekday;  // 0: Sunday
    bool after;   // PM
    bool twelve;  // hour12 and after count, not hour
    bool is_unix; // unix_s and millisecond alone count
    int offset_s; // east of UTC
    int64_t unix_s;
} moment;

/*  A text being read. After a failure `at` is where it does not fit.          */
typedef struct {
    const char *text;
    const char *at;
    const char *end;
    bool strict;        // numbers have their full width
    const char *wanted; // of a failure: constant text
    moment when;
} scan;

/*  What a directive sets, to find formats that set a field twice.             */
enum {
    SETS_YEAR = 1,
    SETS_MONTH = 2,
    SETS_DAY = 4,
    SETS_HOUR = 8,
    SETS_MINUTE = 16,
    SETS_SECOND = 32,
    SETS_FRACTION = 64,
    SETS_ZONE = 128,
    SETS_WEEKDAY = 256,
    SETS_HALF = 512,
    SETS_HOUR12 = 1024,
    SETS_INSTANT = SETS_YEAR | SETS_MONTH | SETS_DAY | SETS_HOUR | SETS_MINUTE |
                   SETS_SECOND | SETS_ZONE,
};

typedef struct directive directive;
struct directive {
    bool (*read)(scan *self, const directive *as);
    void (*write)(luaL_Buffer *out, const moment *when, const directive *as);
    unsigned sets;
    const char *wanted;    // how a failure names it
    size_t field;          // of a number: its int in moment
    short low, high;       // of a number
    uint8_t narrow, width; // of a number: fewest and most digits
    char pad;              // of a number: what fills it up to width
    const char *expansion; // of a directive that stands for others
};

static const directive directives[128];

static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};
static const char *const weekdays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};

/* --- Reading ----------------------------------------------------------------------- */

static bool read_digits(scan *self, int fewest, int most, int64_t *value, int *count)
{
    *value = 0;
    *count = 0;
    while (*count < most && self->at < self->end && isdigit((uint8_t)*self->at)) {
        *value = *value * 10 + (*self->at++ - '0');
        ++*count;
    }
    return *count >= fewest;
}

static bool read_number(scan *self, const directive *as)
{
    const char *start = self->at;
    int64_t value;
    int count;
    if (as->pad == ' ' && self->at < self->end && *self->at == ' ') self->at++;
    if (read_digits(self, self->strict ? as->width : as->narrow, as->width, &value,
                    &count) &&
        value >= as->low && value <= as->high) {
        *(int *)((char *)&self->when + as->field) = (int)value;
        return true;
    }
    self->at = start;
    return false;
}

static bool read_short_year(scan *self, const directive *as)
{
    if (!read_number(self, as)) return false;
    self->when.year += self->when.year < 69 ? 2000 : 1900;
    return true;
}

static bool read_hour12(scan *self, const directive *as)
{
    self->when.twelve = true;
    return read_number(self, as);
}

static bool read_fraction(scan *self, const directive *as)
{
    const char *start = self->at;
    int64_t value;
    int count;
    (void)as;
    if (!read_digits(self, 1, 9, &value, &count)) {
        self->at = start;
        return false;
    }
    for (; count < 3; count++)
        value *= 10;
    for (; count > 3; count--)
        value /= 10;
    self->when.millisecond = (int)value;
    return true;
}

static bool read_unix(scan *self, const directive *as)
{
    const char *start = self->at;
    int64_t value;
    int count;
    (void)as;
    bool negative = self->at < self->end && *self->at == '-';
    self->at += negative;
    if (!read_digits(self, 1, 12, &value, &count)) {
        self->at = start;
        return false;
    }
    self->when.unix_s = negative ? -value : value;
    self->when.is_unix = true;
    return true;
}

static bool read_two(scan *self, int high, int *value)
{
    int64_t number;
    int count;
    if (!read_digits(self, 2, 2, &number, &count) || number > high) return false;
    *value = (int)number;
    return true;
}

/*  Z, +hhmm or +hh:mm. On failure the scan may have moved.                    */
static bool read_offset(scan *self, int *offset_s)
{
    int hours, minutes;
    if (self->at == self->end) return false;
    char sign = *self->at++;
    *offset_s = 0;
    if (sign == 'Z' || sign == 'z') return true;
    if ((sign != '+' && sign != '-') || !read_two(self, 23, &hours)) return false;
    if (self->at < self->end && *self->at == ':') self->at++;
    if (!read_two(self, 59, &minutes)) return false;
    *offset_s = (hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
    return true;
}

static bool read_zone(scan *self, const directive *as)
{
    const char *start = self->at;
    (void)as;
    if (read_offset(self, &self->when.offset_s)) return true;
    self->at = start;
    return false;
}

/*  One of the names, whole or its first three letters, in any case.           */
static bool read_name(scan *self, const char *const *names, int count, int *found)
{
    size_t left = (size_t)(self->end - self->at);
    for (int i = 0; i < count && left >= 3; i++) {
        size_t size = strlen(names[i]);
        if (strncasecmp(self->at, names[i], 3) != 0) continue;
        bool whole = left >= size && strncasecmp(self->at, names[i], size) == 0;
        self->at += whole ? size : 3;
        *found = i;
        return true;
    }
    return false;
}

static bool read_month(scan *self, const directive *as)
{
    int found;
    (void)as;
    if (!read_name(self, months, 12, &found)) return false;
    self->when.month = found + 1;
    return true;
}

/*  The weekday says nothing that the date does not: it is read over.          */
static bool read_weekday(scan *self, const directive *as)
{
    int found;
    (void)as;
    return read_name(self, weekdays, 7, &found);
}

static bool read_half(scan *self, const directive *as)
{
    (void)as;
    if (self->end - self->at < 2) return false;
    bool after = strncasecmp(self->at, "pm", 2) == 0;
    if (!after && strncasecmp(self->at, "am", 2) != 0) return false;
    self->when.after = after;
    self->at += 2;
    return true;
}

static bool read_literal(scan *self, char byte)
{
    if (self->at == self->end || *self->at != byte) return false;
    self->at++;
    return true;
}

static bool read_directive(scan *self, char letter)
{
    const directive *as = &directives[(uint8_t)letter];
    self->wanted = as->wanted;
    return as->read(self, as);
}

/*  The format has been checked.                                               */
static bool read_format(scan *self, const char *format, const char *format_end)
{
    for (const char *f = format; f < format_end; f++) {
        if (*f != '%' || *++f == '%') {
            self->wanted = "the text of the format";
            if (!read_literal(self, *f)) return false;
            continue;
        }
        if (!read_directive(self, *f)) return false;
    }
    return true;
}

static bool read_expansion(scan *self, const directive *as)
{
    return read_format(self, as->expansion, as->expansion + strlen(as->expansion));
}

/*  RFC 3339, and what is common beside it: a space for the T, no zone.        */
static bool read_default(scan *self)
{
    self->strict = true;
    if (!read_directive(self, 'F')) return false;
    self->wanted = "'T' or a space";
    if (!read_literal(self, 'T') && !read_literal(self, 't') && !read_literal(self, ' '))
        return false;
    if (!read_directive(self, 'T')) return false;
    if (read_literal(self, '.') && !read_directive(self, 'f')) return false;
    if (self->at == self->end) return true;
    if (*self->at == ' ' && self->end - self->at > 1) self->at++;
    return read_directive(self, 'z');
}

/*  The instant of the fields; returns why there is none, or NULL.             */
static const char *moment_instant(const moment *self, int64_t *ms)
{
    int64_t seconds = self->unix_s;
    if (!self->is_unix) {
        int64_t days;
        int hour = self->twelve ? self->hour12 % 12 + 12 * self->after : self->hour;
        if (self->year_day > 365 + weir_leap_year(self->year))
            return "that year has no such day";
        if (self->year_day > 0) {
            days = weir_civil_days(self->year, 1, 1) + self->year_day - 1;
        } else {
            if (self->day > weir_month_days(self->year, self->month))
                return "that month has no such day";
            days = weir_civil_days(self->year, self->month, self->day);
        }
        seconds = days * 86400 + hour * 3600 + self->minute * 60 + self->second -
                  self->offset_s;
    }
    *ms = seconds * 1000 + self->millisecond;
    bool within = *ms >= OLDEST_MS && *ms <= NEWEST_MS;
    return within ? NULL : "the time is outside of the years 0 to 9999";
}

/* --- Writing ----------------------------------------------------------------------- */

static void write_digits(luaL_Buffer *out, int value, int width, char pad)
{
    char text[16];
    int size = snprintf(text, sizeof text, "%d", value);
    for (int i = size; i < width; i++)
        luaL_addchar(out, pad);
    luaL_addlstring(out, text, (size_t)size);
}

static void write_number(luaL_Buffer *out, const moment *when, const directive *as)
{
    int value = *(const int *)((const char *)when + as->field);
    write_digits(out, value, as->width, as->pad);
}

static void write_short_year(luaL_Buffer *out, const moment *when, const directive *as)
{
    write_digits(out, when->year % 100, as->width, as->pad);
}

static void write_fraction(luaL_Buffer *out, const moment *when, const directive *as)
{
    (void)as;
    write_digits(out, when->millisecond, 3, '0');
}

static void write_unix(luaL_Buffer *out, const moment *when, const directive *as)
{
    char text[24];
    (void)as;
    int size = snprintf(text, sizeof text, "%lld", (long long)when->unix_s);
    luaL_addlstring(out, text, (size_t)size);
}

static void write_zone(luaL_Buffer *out, const moment *when, const directive *as)
{
    int minutes = abs(when->offset_s) / 60;
    (void)as;
    luaL_addchar(out, when->offset_s < 0 ? '-' : '+');
    write_digits(out, minutes / 60, 2, '0');
    write_digits(out, minutes % 60, 2, '0');
}

static void write_short_month(luaL_Buffer *out, const moment *when, const directive *as)
{
    (void)as;
    luaL_addlstring(out, months[when->month - 1], 3);
}

static void write_month(luaL_Buffer *out, const moment *when, const directive *as)
{
    (void)as;
    luaL_addstring(out, months[when->month - 1]);
}

static void write_short_weekday(luaL_Buffer *out, const moment *when, const directive *as)
{
    (void)as;
    luaL_addlstring(out, weekdays[when->weekday], 3);
}

static void write_weekday(luaL_Buffer *out, const moment *when, const directive *as)
{
    (void)as;
    luaL_addstring(out, weekdays[when->weekday]);
}

static void write_half(luaL_Buffer *out, const moment *when, const directive *as)
{
    (void)as;
    luaL_addlstring(out, when->hour < 12 ? "AM" : "PM", 2);
}

static void write_format(luaL_Buffer *out, const moment *when, const char *format,
                         const char *format_end)
{
    for (const char *f = format; f < format_end; f++) {
        if (*f != '%' || *++f == '%') {
            luaL_addchar(out, *f);
            continue;
        }
        const directive *as = &directives[(uint8_t)*f];
        as->write(out, when, as);
    }
}

static void write_expansion(luaL_Buffer *out, const moment *when, const directive *as)
{
    write_format(out, when, as->expansion, as->expansion + strlen(as->expansion));
}

/*  All fields of an instant within OLDEST_MS..NEWEST_MS, at the offset.       */
static void moment_set(moment *self, int64_t ms, int offset_s)
{
    int64_t local = ms + (int64_t)offset_s * 1000;
    int64_t in_day = (local % WEIR_DAY_MS + WEIR_DAY_MS) % WEIR_DAY_MS;
    int64_t days = (local - in_day) / WEIR_DAY_MS;
    *self = (moment){.offset_s = offset_s};
    weir_civil_date(days, &self->year, &self->month, &self->day);
    self->year_day = (int)(days - weir_civil_days(self->year, 1, 1)) + 1;
    self->weekday = (int)(((days + 4) % 7 + 7) % 7); // 1970-01-01 was a Thursday
    self->hour = (int)(in_day / 3600000);
    self->hour12 = (self->hour + 11) % 12 + 1;
    self->minute = (int)(in_day / 60000 % 60);
    self->second = (int)(in_day / 1000 % 60);
    self->millisecond = (int)(in_day % 1000);
    self->unix_s = (local - self->millisecond) / 1000 - offset_s;
}

/* --- The table of directives ------------------------------------------------------- */

#define NUMBER(SETS, FIELD, LOW, HIGH, NARROW, WIDTH, PAD, WANTED)                       \
    {                                                                                    \
        .read = read_number, .write = write_number, .sets = SETS, .wanted = WANTED,      \
        .field = offsetof(moment, FIELD), .low = LOW, .high = HIGH, .narrow = NARROW,    \
        .width = WIDTH, .pad = PAD,                                                      \
    }

static const directive directives[128] = {
    ['Y'] = NUMBER(SETS_YEAR, year, 0, 9999, 4, 4, '0', "a year of four digits"),
    ['m'] = NUMBER(SETS_MONTH, month, 1, 12, 1, 2, '0', "a month 01 to 12"),
    ['d'] = NUMBER(SETS_DAY, day, 1, 31, 1, 2, '0', "a day 01 to 31"),
    ['e'] = NUMBER(SETS_DAY, day, 1, 31, 1, 2, ' ', "a day 1 to 31"),
    ['j'] = NUMBER(SETS_MONTH | SETS_DAY, year_day, 1, 366, 1, 3, '0',
                   "a day of the year 001 to 366"),
    ['H'] = NUMBER(SETS_HOUR, hour, 0, 23, 1, 2, '0', "an hour 00 to 23"),
    ['M'] = NUMBER(SETS_MINUTE, minute, 0, 59, 1, 2, '0', "a minute 00 to 59"),
    ['S'] = NUMBER(SETS_SECOND, second, 0, 60, 1, 2, '0', "a second 00 to 60"),
    ['I'] = {.read = read_hour12,
             .write = write_number,
             .sets = SETS_HOUR | SETS_HOUR12,
             .wanted = "an hour 01 to 12",
             .field = offsetof(moment, hour12),
             .low = 1,
             .high = 12,
             .narrow = 1,
             .width = 2,
             .pad = '0'},
    ['y'] = {.read = read_short_year,
             .write = write_short_year,
             .sets = SETS_YEAR,
             .wanted = "a year of two digits",
             .field = offsetof(moment, year),
             .high = 99,
             .narrow = 2,
             .width = 2,
             .pad = '0'},
    ['f'] = {read_fraction, write_fraction, SETS_FRACTION, "1 to 9 digits", .narrow = 0},
    ['z'] = {read_zone, write_zone, SETS_ZONE, "Z, +hhmm or +hh:mm", .narrow = 0},
    ['b'] = {read_month, write_short_month, SETS_MONTH, "a month's name", .narrow = 0},
    ['B'] = {read_month, write_month, SETS_MONTH, "a month's name", .narrow = 0},
    ['a'] = {read_weekday, write_short_weekday, SETS_WEEKDAY, "a weekday's name",
             .narrow = 0},
    ['A'] = {read_weekday, write_weekday, SETS_WEEKDAY, "a weekday's name", .narrow = 0},
    ['p'] = {read_half, write_half, SETS_HALF, "AM or PM", .narrow = 0},
    ['s'] = {read_unix, write_unix, SETS_INSTANT, "seconds since 1970", .narrow = 0},
    ['T'] = {read_expansion, write_expansion, SETS_HOUR | SETS_MINUTE | SETS_SECOND,
             .expansion = "%H:%M:%S"},
    ['D'] = {read_expansion, write_expansion, SETS_YEAR | SETS_MONTH | SETS_DAY,
             .expansion = "%m/%d/%y"},
    ['F'] = {read_expansion, write_expansion, SETS_YEAR | SETS_MONTH | SETS_DAY,
             .expansion = "%Y-%m-%d"},
};

/*  Raises unless every directive is known. Returns what they set and, in *twice,
    what is set more than once.                                                */
static unsigned check_format(lua_State *L, int argument, const char *format, size_t size,
                             unsigned *twice)
{
    unsigned sets = 0;
    *twice = 0;
    weir_charge(L, size);
    for (size_t i = 0; i < size; i++) {
        if (format[i] != '%') continue;
        uint8_t letter = ++i < size ? (uint8_t)format[i] : 0;
        if (letter == '%') continue;
        if (letter >= 128 || !directives[letter].read) {
            const char *text = lua_pushfstring(L, "unknown directive at byte %d", (int)i);
            luaL_argerror(L, argument, text);
        }
        *twice |= sets & directives[letter].sets;
        sets |= directives[letter].sets;
    }
    return sets;
}

static void check_read_format(lua_State *L, int argument, const char *format, size_t size)
{
    unsigned twice;
    unsigned sets = check_format(L, argument, format, size, &twice);
    luaL_argcheck(L, !(twice & ~(unsigned)SETS_WEEKDAY), argument,
                  "the format says a part of the time twice");
    luaL_argcheck(L, !(sets & SETS_HOUR12) == !(sets & SETS_HALF), argument,
                  "%I and %p need each other");
}

/* --- For Lua ----------------------------------------------------------------------- */

/*  time.now () -> ms since 1970                                               */
static int time_now(lua_State *L)
{
    lua_pushinteger(L, weir_time_source_ms());
    return 1;
}

static int fail(lua_State *L, const scan *self, const char *what)
{
    luaL_pushfail(L);
    if (what)
        lua_pushstring(L, what);
    else if (self->at == self->end)
        lua_pushfstring(L, "the text ends where %s should be", self->wanted);
    else
        lua_pushfstring(L, "%s expected at byte %d", self->wanted,
                        (int)(self->at - self->text) + 1);
    return 2;
}

/*  time.parse (text [, format]) -> ms | nil, sentence                         */
static int time_parse(lua_State *L)
{
    size_t size, format_size;
    int64_t ms;
    const char *text = luaL_checklstring(L, 1, &size);
    const char *format = luaL_optlstring(L, 2, NULL, &format_size);
    scan self = {.text = text, .at = text, .end = text + size};
    self.when.year = 1970;
    self.when.month = self.when.day = 1;
    if (format) check_read_format(L, 2, format, format_size);
    if (!(format ? read_format(&self, format, format + format_size)
                 : read_default(&self)))
        return fail(L, &self, NULL);
    self.wanted = "the end of the text";
    if (self.at != self.end) return fail(L, &self, NULL);
    const char *what = moment_instant(&self.when, &ms);
    if (what) return fail(L, &self, what);
    lua_pushinteger(L, ms);
    return 1;
}

static int check_offset(lua_State *L, int argument)
{
    size_t size;
    int offset_s;
    const char *text = luaL_optlstring(L, argument, "Z", &size);
    scan self = {.text = text, .at = text, .end = text + size};
    bool good = read_offset(&self, &offset_s) && self.at == self.end;
    luaL_argcheck(L, good, argument, "Z, +hhmm or +hh:mm expected");
    return offset_s;
}

/*  Writes the number with so many digits and then the byte; returns what follows. */
static char *put_digits(char *at, int value, int digits, char then)
{
    for (int i = digits; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    at[digits] = then;
    return at + digits + 1;
}

/*  RFC 3339 with milliseconds: 2015-05-17T10:05:00.000Z                       */
static void write_default(luaL_Buffer *out, const moment *when)
{
    int minutes = abs(when->offset_s) / 60;
    char text[32], *at = text;
    at = put_digits(at, when->year, 4, '-');
    at = put_digits(at, when->month, 2, '-');
    at = put_digits(at, when->day, 2, 'T');
    at = put_digits(at, when->hour, 2, ':');
    at = put_digits(at, when->minute, 2, ':');
    at = put_digits(at, when->second, 2, '.');
    at = put_digits(at, when->millisecond, 3, 'Z');
    if (minutes) {
        at[-1] = when->offset_s < 0 ? '-' : '+';
        at = put_digits(at, minutes / 60, 2, ':');
        at = put_digits(at, minutes % 60, 2, 0) - 1;
    }
    luaL_addlstring(out, text, (size_t)(at - text));
}

/*  time.format (ms [, format [, offset]]) -> text | nil, sentence             */
static int time_format(lua_State *L)
{
    size_t size;
    unsigned twice;
    moment when;
    luaL_Buffer out;
    int64_t ms = luaL_checkinteger(L, 1);
    const char *format = luaL_optlstring(L, 2, NULL, &size);
    int offset_s = check_offset(L, 3);
    if (format) check_format(L, 2, format, size, &twice);
    bool within = ms >= OLDEST_MS && ms <= NEWEST_MS;
    int64_t local = within ? ms + (int64_t)offset_s * 1000 : ms;
    if (!within || local < OLDEST_MS || local > NEWEST_MS) {
        luaL_pushfail(L);
        lua_pushliteral(L, "the time is outside of the years 0 to 9999");
        return 2;
    }
    moment_set(&when, ms, offset_s);
    luaL_buffinit(L, &out);
    if (format)
        write_format(&out, &when, format, format + size);
    else
        write_default(&out, &when);
    luaL_pushresult(&out);
    return 1;
}

static const luaL_Reg functions[] = {
    {"now", time_now},
    {"parse", time_parse},
    {"format", time_format},
    {NULL, NULL},
};

int weir_bind_time(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
