/*  pos_groups: `weir pos` for consumer groups, of a running weir.             */
#pragma once
#include "lua/remote.h"

/*  Prints a line for each group, or the members of a JSON array. first: whether nothing
    was printed before. Errors with a report.                                  */
weir_err weir_pos_groups_list(weir_remote *remote, bool json, bool *first,
                              weir_report *report);

/*  Moves the group NAME/NODE, or forgets it; gives the exit code.             */
int weir_pos_groups_set(const weir_command_line *line, const char *position);
int weir_pos_groups_rm(const weir_command_line *line);
