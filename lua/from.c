#include "lua/from.h"
#include <string.h>
#include "runtime/cert.h"
#include "runtime/options.h"

static weir_err read_time(weir_from *self, const char *text, int64_t now_ms,
                          weir_report *report)
{
    int64_t ago_us;
    self->kind = WEIR_FROM_TIME;
    if (weir_expiry_parse(&self->ms, text)) return WEIR_OK;
    if (weir_parse_time(&ago_us, text, NULL) == WEIR_OK && ago_us / 1000 <= now_ms) {
        self->ms = now_ms - ago_us / 1000;
        return WEIR_OK;
    }
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "'%.100s' is no position: expected start, end, a cursor, a "
                           "time such as 2027-01-31T12:00:00Z (UTC), or how long ago, "
                           "such as 10m",
                           text);
}

weir_err weir_from_read(weir_from *self, const char *text, uint64_t nonce, int64_t now_ms,
                        weir_report *report)
{
    *self = (weir_from){.kind = WEIR_FROM_START};
    if (strcmp(text, "start") == 0) return WEIR_OK;
    self->kind = WEIR_FROM_END;
    if (strcmp(text, "end") == 0) return WEIR_OK;
    if (strncmp(text, "w1", 2)) return read_time(self, text, now_ms, report);
    self->kind = WEIR_FROM_CURSOR;
    return weir_cursor_read(&self->cursor, text, strlen(text), nonce, report);
}

void weir_from_fini(weir_from *self)
{
    weir_cursor_fini(&self->cursor);
}
