/*  bus_db: a small table of keys and values that is durable: one file, kept by LMDB, and
    beside it LMDB's lock file. LMDB has no checksums, so each value ends with one, and
    the sum of them all is kept, so that a row which is lost is missed:

        +-------+----------------------------------------+
        | bytes | XXH3-64 of them, seeded with that of   |
        |       | the key, u64 big-endian                |
        +-------+----------------------------------------+

    The key "weir" says what the file is: "WEIRBUSG", version u32, nonce u64, sum of the
    other rows' checksums u64, big-endian. Version 1 had no sum; its first change adds it.

    Who opens it for writing checks LMDB's own pages first, and everybody all rows.
    LMDB forbids to open a file twice in one process: the caller keeps that off by a lock
    of its own. Any thread; calls wait for each other and block on disk.            */
#pragma once
#include <lmdb.h>
#include "runtime/buffer.h"
#include "runtime/err.h"

typedef struct weir_bus_db weir_bus_db;

/*  Makes a new file beside, and renames it in: a file of that name is whole.       */
weir_err weir_bus_db_make(const char *path, uint64_t nonce, weir_report *report);

/*  Opens one for writing, or for looking while another process may write. Errors with a
    report that names the file: WEIR_ENOTFOUND, WEIR_EMALFORMED (damaged, foreign, another
    version), WEIR_ESYS.                                                            */
weir_err weir_bus_db_open(weir_bus_db **self_p, const char *path, bool readonly,
                          weir_report *report);
void weir_bus_db_close(weir_bus_db **self_p);

/*  Checks all of one that nobody writes, and changes nothing. Errors as for open.   */
weir_err weir_bus_db_verify(const char *path, weir_report *report);

/*  Makes a new one, of the bus with that nonce, of all rows of a damaged one that can be
    read and are as they were; *rows: how many. WEIR_ESYS, with a report.            */
weir_err weir_bus_db_salvage(const char *from, const char *to, uint64_t nonce,
                             uint64_t *rows, weir_report *report);

/*  Of the bus whose file it is.                                                    */
uint64_t weir_bus_db_nonce(const weir_bus_db *self);

/*  Does the steps of a transaction; 0 or an LMDB code, which ends it without a change.
    MDB_CORRUPTED: what it reads is damaged. A step of a change may be called again, in a
    larger map: until it succeeds it must change nothing but the transaction.       */
typedef int(weir_bus_step)(MDB_txn *txn, MDB_dbi table, void *arg);

/*  Runs a step and, in change (), makes it durable. Errors as for open.            */
weir_err weir_bus_db_look(weir_bus_db *self, weir_bus_step *step, void *arg,
                          weir_report *report);
weir_err weir_bus_db_change(weir_bus_db *self, weir_bus_step *step, void *arg,
                            weir_report *report);

/* --- For steps --------------------------------------------------------------------- */

int weir_bus_db_put(MDB_txn *txn, MDB_dbi table, MDB_val *key, const weir_buffer *bytes);

/*  Deletes the row a cursor is at.                                                 */
int weir_bus_db_delete(MDB_cursor *cursor);

/*  Gives the bytes of a key, valid until the step ends. MDB_NOTFOUND, MDB_CORRUPTED. */
int weir_bus_db_get(MDB_txn *txn, MDB_dbi table, MDB_val *key, MDB_val *bytes);

/*  Takes the checksum off a value that a cursor found. MDB_CORRUPTED: it is wrong.  */
int weir_bus_db_check(const MDB_val *key, MDB_val *value);
