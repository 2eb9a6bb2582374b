/*  bus: `weir bus` and `weir cat`: what a bus has stored.                          */
#pragma once
#include <limits.h>
#include "lua/remote.h"

extern const weir_flag weir_bus_json_flags[], weir_bus_ls_flags[], weir_bus_trim_flags[],
    weir_cat_flags[];

int weir_cmd_bus_ls(const weir_command_line *line);
int weir_cmd_bus_verify(const weir_command_line *line);
int weir_cmd_bus_repair(const weir_command_line *line);
int weir_cmd_bus_trim(const weir_command_line *line);
int weir_cmd_cat(const weir_command_line *line);

/*  weir_remote_open for the first operand, NAME/BUS: a node is named. Of a weir that does
    not run the report says how its disk store can be looked at.                    */
weir_err weir_bus_open_remote(weir_remote **remote, const weir_command_line *line,
                              weir_target *target, weir_report *report);

/*  WEIR_ENOTFOUND, WEIR_EINVAL with a report: it is no folder.                      */
weir_err weir_bus_check_folder(const char *folder, weir_report *report);

/*  The nonce of the bus whose state lies in the folder; 0: none does.              */
weir_err weir_bus_nonce(const char *folder, uint64_t *nonce, weir_report *report);
