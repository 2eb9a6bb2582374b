#include "runtime/systemd.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "runtime/clock.h"
#include "runtime/log.h"

/*  A path, or an abstract name that begins with '@'.                           */
static bool parse_address(weir_systemd *self, const char *text)
{
    size_t size = strlen(text);
    self->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((*text != '/' && *text != '@') || size >= sizeof self->address.sun_path)
        return false;
    memcpy(self->address.sun_path, text, size);
    bool abstract = *text == '@';
    if (abstract) self->address.sun_path[0] = 0;
    self->address_size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + !abstract);
    return true;
}

/*  The watchdog's time is for the process that WATCHDOG_PID names, if it does.  */
static int64_t watchdog_us(void)
{
    const char *time = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t us = 0;
    if (!time || (pid && strtol(pid, NULL, 10) != getpid())) return 0;
    return sscanf(time, "%" SCNd64, &us) == 1 && us > 0 ? us : 0;
}

void weir_systemd_open(weir_systemd *self, bool wanted)
{
    *self = (weir_systemd){.fd = -1, .beat_at_us = -1};
    const char *address = wanted ? getenv("NOTIFY_SOCKET") : NULL;
    if (!address) return;
    if (!parse_address(self, address)) {
        weir_log(WEIR_WARN, "NOTIFY_SOCKET names no socket value=\"%s\"", address);
        return;
    }
    self->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    self->beat_us = watchdog_us() / 2;
    if (self->fd >= 0 && self->beat_us) self->beat_at_us = weir_clock_now_us();
}

void weir_systemd_close(weir_systemd *self)
{
    if (self->fd >= 0) close(self->fd);
    self->fd = -1;
}

void weir_systemd_say(const weir_systemd *self, const char *format, ...)
{
    char text[1024];
    if (self->fd < 0) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ssize_t sent = sendto(self->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
                          (const struct sockaddr *)&self->address, self->address_size);
    (void)sent;
}

void weir_systemd_beat(weir_systemd *self)
{
    int64_t now_us = weir_clock_now_us();
    if (self->beat_at_us < 0 || now_us < self->beat_at_us) return;
    self->beat_at_us = now_us + self->beat_us;
    weir_systemd_say(self, "WATCHDOG=1");
}
