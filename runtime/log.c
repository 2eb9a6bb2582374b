#include "runtime/log.h"
#include "runtime/clock.h"
#include "runtime/json.h"
#include "runtime/redact.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct {
    weir_level least;
    bool json;
    int fd;
} settings = {WEIR_INFO, false, STDERR_FILENO};

static _Thread_local const char *actor;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void weir_log_configure(weir_level least, bool json, int fd)
{
    settings.least = least;
    settings.json = json;
    settings.fd = fd;
}

void weir_log_actor(const char *name)
{
    actor = name;
}

/*  Bytes that are not UTF-8 (a file name, say) must not spoil a JSON line.    */
static void put_json_text(weir_buffer *line, const char *text)
{
    size_t size = strlen(text);
    if (weir_json_put_string(line, text, size) == WEIR_OK) return;
    char ascii[2048];
    if (size >= sizeof ascii) size = sizeof ascii - 1;
    for (size_t i = 0; i < size; i++)
        ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    weir_json_put_string(line, ascii, size);
}

static void put_line(weir_buffer *line, weir_level level, const char *text)
{
    char stamp[32];
    int64_t now_ms = weir_clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    int millis = (int)(now_ms % 1000);
    if (!settings.json) {
        weir_buffer_printf(line, "%s.%03dZ %-5s %s%s%s\n", stamp, millis,
                           level_names[level], actor ? actor : "", actor ? ": " : "",
                           text);
        return;
    }
    weir_buffer_printf(line, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",", stamp, millis,
                       level_names[level]);
    if (actor) {
        weir_buffer_put_text(line, "\"actor\":");
        put_json_text(line, actor);
        weir_buffer_put_byte(line, ',');
    }
    weir_buffer_put_text(line, "\"event\":");
    put_json_text(line, text);
    weir_buffer_put_text(line, "}\n");
}

void weir_log(weir_level level, const char *format, ...)
{
    if (level < settings.least) return;
    int saved = errno;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    weir_redact_printf(text, sizeof text, format, arguments);
    va_end(arguments);
    /*  Names of peers get here: they must not forge lines.                    */
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = ' ';
    weir_buffer line = {0};
    put_line(&line, level, text);
    /*  A log that cannot be written has nowhere to say so.                    */
    ssize_t written = write(settings.fd, line.data, line.size);
    (void)written;
    weir_buffer_fini(&line);
    errno = saved;
}
