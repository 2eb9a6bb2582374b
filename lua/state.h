/*  state: the state folder that the command line means.                       */
#pragma once
#include <limits.h>
#include "lua/command.h"

/*  True for the path of a file or folder that is there, and for what looks like one. */
bool weir_state_is_file(const char *operand);

/*  The state folder of a topology file, with the line's --set, or the folder itself.
    False: it was told why not.                                                */
bool weir_state_of_file(const weir_command_line *line, const char *operand,
                        char folder[PATH_MAX]);

/*  The same, or that of a running weir, by its name.                          */
bool weir_state_find(const weir_command_line *line, const char *operand,
                     char folder[PATH_MAX]);
