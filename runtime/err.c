#include "runtime/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

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

weir_err weir_report_set(weir_report *self, weir_err err, const char *where,
                         const char *format, ...)
{
    if (!self) return err;
    int saved = errno;
    self->err = err;
    snprintf(self->where, sizeof self->where, "%s", where ? where : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->text, sizeof self->text, format, arguments);
    va_end(arguments);
    errno = saved;
    return err;
}
