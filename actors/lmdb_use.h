/*  lmdb_use: what is said when LMDB ends the process. Pages are checked before it follows
    them (lmdb_pages.h), but a file that is cut or a disk that fails under its map still
    raises a signal, and what is damaged later may meet one of its assertions.       */
#pragma once
#include <lmdb.h>

/*  From enter to leave the calling thread uses LMDB's file at this path, which is lent.
    Not nested.                                                                     */
void weir_lmdb_enter(const char *path);
void weir_lmdb_leave(void);

/*  An assertion of this environment that fails is logged with its path and what to do;
    then LMDB aborts, for it cannot go on.                                          */
void weir_lmdb_watch(MDB_env *env);

/*  For a program, before its threads: when a thread that uses LMDB ends in SIGSEGV or
    SIGBUS, a line on stderr says which file that was. The signal itself stays what it
    was. */
void weir_lmdb_tell_crashes(void);
