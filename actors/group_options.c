#include "actors/reader.h"
#include <time.h>

const weir_group_options weir_group_options_defaults = WEIR_GROUP_OPTIONS_DEFAULTS;

static const char *const start_words[] = {"start", NULL};
static const char *const none_word[] = {"none", NULL};
static const char *const forever_word[] = {"forever", NULL};

#define AT(field) offsetof(weir_group_options, field)
#define MS 1000.0
#define HOUR (3600e6)

const weir_option weir_group_option_rows[] = {
    {"of", WEIR_OPTION_TEXT, AT(of), 0, 0, NULL, true, "the bus, which has a store"},
    {"start", WEIR_OPTION_TEXT, AT(start), 0, 0, start_words, false,
     "where a new group begins: start, 'end', a time such as '2026-01-31T08:00:00Z', or "
     "a cursor; none: start"},
    {"ack_timeout", WEIR_OPTION_TIME, AT(ack_timeout_us), MS, HOUR, none_word, false,
     "then a record that is not acknowledged comes again"},
    {"retry.first", WEIR_OPTION_TIME, AT(retry_first_us), MS, HOUR, NULL, false,
     "wait after a record's first failed delivery"},
    {"retry.max", WEIR_OPTION_TIME, AT(retry_max_us), MS, HOUR, NULL, false,
     "ceiling of that wait"},
    {"member_timeout", WEIR_OPTION_TIME, AT(member_timeout_us), MS, HOUR, NULL, false,
     "a member that is silent for so long is gone"},
    {"max_deliver", WEIR_OPTION_INT, AT(max_deliver), 1, 1e6, forever_word, false,
     "failed deliveries that make a record a dead letter"},
    {"window", WEIR_OPTION_INT, AT(window), 1, 1e6, NULL, false,
     "records of a member that are not acknowledged"},
    {.name = NULL},
};

/* --- Start ------------------------------------------------------------------------- */

/*  "Z" or "+02:00", up to the end of the text.                                     */
static bool read_zone(const char *text, int64_t *east_s)
{
    char sign[2];
    int hours, minutes, used = 0;
    *east_s = 0;
    if (streq(text, "Z")) return true;
    if (sscanf(text, "%1[+-]%2d:%2d%n", sign, &hours, &minutes, &used) != 3) return false;
    *east_s = (hours * 60 + minutes) * (*sign == '-' ? -60 : 60);
    return used == 6 && !text[used] && hours < 24 && minutes < 60;
}

/*  Milliseconds behind the seconds, ".5" or ".123456"; gives what follows.         */
static const char *read_fraction(const char *text, int64_t *ms)
{
    *ms = 0;
    if (*text != '.') return text;
    size_t digits = strspn(++text, "0123456789");
    for (size_t i = 0; i < 3; i++)
        *ms = *ms * 10 + (i < digits ? text[i] - '0' : 0);
    return digits ? text + digits : "";
}

/*  RFC 3339.                                                                       */
static bool read_time(const char *text, int64_t *ms)
{
    struct tm tm = {0};
    int64_t fraction_ms, east_s;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int day = tm.tm_mday;
    if (!end || !read_zone(read_fraction(end, &fraction_ms), &east_s)) return false;
    time_t seconds = timegm(&tm);
    *ms = ((int64_t)seconds - east_s) * 1000 + fraction_ms;
    return tm.tm_mday == day; // else there is no such day
}

weir_err weir_group_options_start(const weir_group_options *self,
                                  weir_group_config *config, weir_report *report)
{
    const char *start = self->start ? self->start : "start";
    config->start = WEIR_GROUP_START;
    if (streq(start, "start")) return WEIR_OK;
    if (streq(start, "end")) {
        config->start = WEIR_GROUP_END;
    } else if (strncmp(start, "w1", 2) == 0) {
        config->start = WEIR_GROUP_CURSOR;
        config->start_cursor = start;
    } else if (read_time(start, &config->start_ms)) {
        config->start = WEIR_GROUP_TIME;
    } else {
        return weir_report_set(report, WEIR_EINVAL, "start",
                               "'%.60s' is not start, 'end', a cursor, or a time such as "
                               "'2026-01-31T08:00:00Z'",
                               start);
    }
    return WEIR_OK;
}

weir_err weir_group_options_check(const weir_group_options *self, weir_report *report)
{
    weir_group_config config;
    if (self->retry_first_us > self->retry_max_us)
        return weir_report_set(report, WEIR_EINVAL, "retry.first",
                               "is more than retry.max");
    return weir_group_options_start(self, &config, report);
}

bool weir_group_options_equal(const weir_group_options *a, const weir_group_options *b)
{
    const char *x = a->start ? a->start : "start", *y = b->start ? b->start : "start";
    return streq(x, y) && a->ack_timeout_us == b->ack_timeout_us &&
           a->retry_first_us == b->retry_first_us && a->retry_max_us == b->retry_max_us &&
           a->member_timeout_us == b->member_timeout_us &&
           a->max_deliver == b->max_deliver && a->window == b->window;
}
