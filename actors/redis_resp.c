#include "actors/redis_resp.h"
#include <inttypes.h>
#include <stdio.h>

/* --- Saying ------------------------------------------------------------------------ */

/*  A mark, a number, an end of line: the fastest way, since records have one each.  */
static void put_line(weir_buffer *out, char mark, uint64_t number)
{
    char text[24];
    char *at = text + sizeof text;
    *--at = '\n';
    *--at = '\r';
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    *--at = mark;
    weir_buffer_put(out, at, (size_t)(text + sizeof text - at));
}

void weir_redis_put_head(weir_buffer *out, size_t words)
{
    put_line(out, '*', words);
}

void weir_redis_put_size(weir_buffer *out, size_t size)
{
    put_line(out, '$', size);
}

void weir_redis_put_word(weir_buffer *out, const void *data, size_t size)
{
    weir_redis_put_size(out, size);
    weir_buffer_put(out, data, size);
    weir_buffer_put(out, "\r\n", 2);
}

void weir_redis_put_text(weir_buffer *out, const char *text)
{
    weir_redis_put_word(out, text, strlen(text));
}

void weir_redis_put_number(weir_buffer *out, uint64_t number)
{
    char text[24];
    weir_redis_put_word(out, text, (size_t)sprintf(text, "%" PRIu64, number));
}

void weir_redis_put_command(weir_buffer *out, const char *const *words)
{
    size_t count = 0;
    while (words[count])
        count++;
    weir_redis_put_head(out, count);
    for (size_t i = 0; i < count; i++)
        weir_redis_put_text(out, words[i]);
}

/* --- Ids of entries ---------------------------------------------------------------- */

size_t weir_redis_id_put(weir_position id, char *text)
{
    return (size_t)sprintf(text, "%" PRIu64 "-%" PRIu64, id.a, id.b);
}

/*  Digits up to a byte that is none; NULL: there are none, or too many.             */
static const char *read_number(uint64_t *number, const char *at, const char *end)
{
    const char *start = at;
    for (*number = 0; at < end && *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(*at - '0'), number))
            return NULL;
    return at == start ? NULL : at;
}

bool weir_redis_id_parse(weir_position *id, const char *text, size_t size)
{
    const char *end = text + size, *at = read_number(&id->a, text, end);
    if (!at || at == end || *at != '-') return false;
    return read_number(&id->b, at + 1, end) == end;
}

bool weir_redis_id_read(weir_position *id, const redisReply *reply)
{
    return weir_redis_is_text(reply) && weir_redis_id_parse(id, reply->str, reply->len);
}

/* --- Answers ----------------------------------------------------------------------- */

/*  An error begins with a word of its own, or with ERR.                             */
static const struct {
    const char *start;
    weir_redis_verdict verdict;
} verdicts[] = {
    {"NOSCRIPT ", WEIR_REDIS_NO_SCRIPT},
    {"MOVED ", WEIR_REDIS_MOVED},
    {"ASK ", WEIR_REDIS_LATER},
    {"LOADING ", WEIR_REDIS_LATER},
    {"BUSY ", WEIR_REDIS_LATER},
    {"TRYAGAIN ", WEIR_REDIS_LATER},
    {"CLUSTERDOWN ", WEIR_REDIS_LATER},
    {"MASTERDOWN ", WEIR_REDIS_LATER},
    {"READONLY ", WEIR_REDIS_LATER},
    {"NOREPLICAS ", WEIR_REDIS_LATER},
    {"OOM ", WEIR_REDIS_LATER},
    {"MISCONF ", WEIR_REDIS_LATER},
    {"ERR max number of clients", WEIR_REDIS_LATER},
    {NULL, WEIR_REDIS_NEVER},
};

static bool begins(const char *text, const char *start)
{
    return !strncmp(text, start, strlen(start));
}

/*  EXEC repeats behind words of its own why it was not let through.                  */
static const char *cause_of(const char *error)
{
    static const char aborted[] = "EXECABORT Transaction discarded because of: ";
    return begins(error, aborted) ? error + sizeof aborted - 1 : error;
}

weir_redis_verdict weir_redis_judge(const char *error)
{
    size_t i = 0;
    error = cause_of(error);
    while (verdicts[i].start && !begins(error, verdicts[i].start))
        i++;
    return verdicts[i].verdict;
}

/*  Up to 7.0 what a script may not do begins with ERR.                               */
bool weir_redis_is_locked_out(const char *error)
{
    static const char *const others[] = {
        "NOAUTH",
        "WRONGPASS",
        "ERR AUTH",
        "ERR invalid password",
        "ERR The user executing the script can't run",
    };
    error = cause_of(error);
    if (begins(error, "NOPERM")) return !strstr(error, " key");
    size_t i = 0, count = sizeof others / sizeof *others;
    while (i < count && !begins(error, others[i]))
        i++;
    return i < count;
}

/*  MOVED 3999 127.0.0.1:6381; an IPv6 address has no brackets.                      */
bool weir_redis_moved(const char *error, char *host, uint16_t *port)
{
    char place[280];
    unsigned slot, number;
    int used = 0;
    if (sscanf(error, "MOVED %u %279s", &slot, place) != 2) return false;
    char *colon = strrchr(place, ':');
    if (!colon || colon - place > 255) return false;
    if (sscanf(colon + 1, "%5u%n", &number, &used) != 1 || colon[1 + used]) return false;
    *colon = 0;
    snprintf(host, 256, "%.255s", strcmp(place, "?") ? place : "");
    *port = (uint16_t)number;
    return number > 0 && number <= 65535;
}

bool weir_redis_says(const redisReply *reply, const char *text)
{
    size_t size = strlen(text);
    return weir_redis_is_text(reply) && (size_t)reply->len == size &&
           !memcmp(reply->str, text, size);
}
