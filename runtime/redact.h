/*  redact: texts that must never be told, such as passwords.

    What is added here is replaced by *** in reports, in the log, in what nodes wait for,
    in dead letters' errors, in metrics and in all that control and report.json tell; not
    in records, which are the user's data. A text is also known with %XX for what means
    something in a url. Since texts get cut, a beginning of 8 bytes is replaced as well.
   It is a net for what was not foreseen: who can leave a secret out, does.

    Texts are kept until the process ends. All functions from any thread.             */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/*  Shorter ones stand in too many other words: they are not taken.              */
#define WEIR_REDACT_MIN 4

/*  Text without a final 0, and no 0 in it. False: it is too short.              */
bool weir_redact_add(const char *text, size_t size);

/*  A copy with *** instead, the caller's to free; NULL: there is nothing to replace. */
char *weir_redact(const char *text);

/*  vsnprintf of what may be told; text is cut behind the replacing. Gives the size before
    the cut. errno is kept.                                                       */
int weir_redact_printf(char *to, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
