/*  roster: the certificates in a folder, as one reading found them: who is known, what
    they may do, and which files are not trusted and why. Constant once it is read.  */
#pragma once
#include "runtime/cert.h"

/*  A folder may hold so many certificates; further ones are not trusted.            */
#define WEIR_ROSTER_MAX 65536

typedef struct {
    weir_cert *certs;         // owned, by name
    const weir_cert **by_key; // owned, by public key
    size_t count;
    weir_reports problems; // where: the file
    int64_t read_ms;       // wall clock
} weir_roster;

/*  Reads all NAME.pub. No folder: nobody is known. WEIR_ESYS: the system is short of
    something (descriptors, memory), so that the result would be too small; it says
    nothing about the files, and *self is empty.                                    */
weir_err weir_roster_read(weir_roster *self, const char *folder, weir_report *report);
void weir_roster_fini(weir_roster *self);

/*  NULL: there is none of that name or key. Its time may be over.                   */
const weir_cert *weir_roster_by_name(const weir_roster *self, const char *name);
const weir_cert *weir_roster_by_key(const weir_roster *self, const char *public_key);

/*  Whether the certificate's time is not over.                                     */
bool weir_cert_is_valid(const weir_cert *self, int64_t wall_ms);

/*  Whether somebody of `before` has lost his certificate, a role or his time in `now`;
    a name that has another key now has lost the old certificate.                   */
bool weir_roster_has_lost(const weir_roster *before, const weir_roster *now);

/*  The next instant at which somebody's time is over; 0: there is none.             */
int64_t weir_roster_next_expiry(const weir_roster *self);

/*  Whether a problem was there before.                                             */
bool weir_roster_has_problem(const weir_roster *self, const weir_report *problem);
