#include "runtime/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/redact.h"

static const char *const names[] = {
    [WEIR_OK] = "ok",
    [WEIR_ESYS] = "system error",
    [WEIR_EINVAL] = "invalid",
    [WEIR_EMALFORMED] = "malformed",
    [WEIR_ESHORT] = "ends too early",
    [WEIR_EDEEP] = "nested too deeply",
    [WEIR_ETOOBIG] = "too big",
    [WEIR_EFULL] = "full",
    [WEIR_EPROTO] = "protocol broken",
    [WEIR_ECLOSED] = "closed",
    [WEIR_ETIMEOUT] = "timed out",
    [WEIR_ENOTFOUND] = "not found",
    [WEIR_EREFUSED] = "refused",
    [WEIR_ESTOP] = "stopped",
};

const char *weir_err_name(weir_err err)
{
    if ((size_t)err >= sizeof names / sizeof *names) return "unknown error";
    return names[err];
}

static void fill(weir_report *self, weir_err err, const char *where, const char *format,
                 va_list arguments)
{
    int saved = errno;
    self->err = err;
    char *told = where ? weir_redact(where) : NULL;
    snprintf(self->where, sizeof self->where, "%s", told ? told : where ? where : "");
    free(told);
    weir_redact_printf(self->text, sizeof self->text, format, arguments);
    errno = saved;
}

weir_err weir_report_set(weir_report *self, weir_err err, const char *where,
                         const char *format, ...)
{
    if (!self) return err;
    va_list arguments;
    va_start(arguments, format);
    fill(self, err, where, format, arguments);
    va_end(arguments);
    return err;
}

void weir_reports_add(weir_reports *self, weir_err err, const char *where,
                      const char *format, ...)
{
    self->items = realloc(self->items, (self->count + 1) * sizeof *self->items);
    if (!self->items) abort();
    va_list arguments;
    va_start(arguments, format);
    fill(&self->items[self->count++], err, where, format, arguments);
    va_end(arguments);
}

void weir_reports_fini(weir_reports *self)
{
    free(self->items);
    *self = (weir_reports){0};
}

const char *weir_report_cause(const char *where, const char *text)
{
    const char *scheme = strstr(where, "://");
    const char *user = scheme ? strrchr(scheme, '@') : NULL;
    const char *host = user ? user + 1 : scheme ? scheme + 3 : where;
    const char *const said[] = {where, host};
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(said[i]);
        if (size && strncmp(text, said[i], size) == 0 &&
            strncmp(text + size, ": ", 2) == 0)
            return text + size + 2;
    }
    return text;
}
