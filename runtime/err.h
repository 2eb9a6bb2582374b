/*  err: result codes, and reports for failures that a user must act on.

    A function returns weir_err, 0 is success, results come by leading
    out-pointers. A failure whose cause the user must mend (configuration,
    wiring, input) also fills a weir_report, whose sentence says where and what
    to do. errno is meaningful only beside WEIR_ESYS.                          */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    WEIR_OK = 0,
    WEIR_ESYS,       // a system call failed, errno says why
    WEIR_EINVAL,     // the caller or the user gave something out of range
    WEIR_EMALFORMED, // bytes are not what their format demands
    WEIR_ESHORT,     // bytes end before the value does
    WEIR_EDEEP,      // nesting above the limit
    WEIR_ETOOBIG,    // larger than a stated limit
    WEIR_EFULL,      // no room: ledger, window or queue
    WEIR_EPROTO,     // a peer broke the protocol
    WEIR_ECLOSED,    // the other side has ended
    WEIR_ETIMEOUT,   // the deadline has passed
    WEIR_ENOTFOUND,  // no such name
    WEIR_EREFUSED,   // the receiver will not take it
    WEIR_ESTOP,      // a policy demands a stop
} weir_err;

typedef struct {
    weir_err err;    // WEIR_OK: nothing to report
    char where[128]; // "web.lua:12" or a path; empty when there is none
    char text[512];  // one sentence, without newline
} weir_report;

/*  A constant English name of the code, such as "malformed".                  */
const char *weir_err_name(weir_err err);

/*  Fills the report (NULL: does nothing) and returns err, so that a failing
    function can end with it. where may be NULL. A text that does not fit is
    cut. errno is kept.                                                        */
weir_err weir_report_set(weir_report *self, weir_err err, const char *where,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));

/*  The text behind "WHERE: " or, where that is a url, "HOST:PORT: " at its beginning: for
    a sentence that names the place already.                                       */
const char *weir_report_cause(const char *where, const char *text);

/*  A list of reports, for checks that tell everything that is wrong at once.   */
typedef struct {
    weir_report *items; // owned
    size_t count;
} weir_reports;

void weir_reports_add(weir_reports *self, weir_err err, const char *where,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
void weir_reports_fini(weir_reports *self);
