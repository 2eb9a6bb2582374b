/*  identity: who a bus is: the file `identity` in its state folder, 32 bytes,
    little-endian.

        +----------+-------+-------+------------------------+
        | WEIRBUS1 | nonce | epoch | XXH3-64 of bytes 0..23 |
        +----------+-------+-------+------------------------+
        0          8       16      24                       32

    There is always a whole one, before a kill and after it: it is written beside, synced,
    renamed in, and the folder synced.                                              */
#pragma once
#include "runtime/err.h"

typedef struct {
    uint64_t nonce; // never 0
    uint64_t epoch; // of the last start; from 1
} weir_identity;

/*  A nonce for a new bus.                                                          */
uint64_t weir_identity_nonce(void);

/*  WEIR_ENOTFOUND without a report: there is none. Else with a report that names the file
    and, for WEIR_EMALFORMED, begins with "bad_identity: ". Blocks on disk.         */
weir_err weir_identity_read(weir_identity *self, const char *path, weir_report *report);

/*  Durable when it returns. WEIR_ESYS with a report; a whole one is there in any case. */
weir_err weir_identity_write(const weir_identity *self, const char *path,
                             weir_report *report);

/*  Removes what writes that were killed have left beside it. Only for who has locked the
    folder.                                                                         */
void weir_identity_sweep(const char *path);
