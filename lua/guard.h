/*  guard: runs a command that looks into a store in a process of its own: LMDB trusts its
    file, and a damaged one may crash who reads it.                                 */
#pragma once
#include "lua/command.h"

/*  Runs it in a child, before any ZeroMQ context exists, and hands signals on to it.
    Gives its exit code; when it crashes it says that `what` is damaged, and gives
    WEIR_EXIT_FAILED. Blocks until the child has ended.                             */
int weir_guard(int (*run)(const weir_command_line *), const weir_command_line *line,
               const char *what);
