/*  ctl: the commands that look at running weirs and steer them.               */
#pragma once
#include "lua/command.h"

extern const weir_flag weir_ctl_flags[], weir_why_flags[], weir_tap_flags[],
    weir_top_flags[], weir_pos_flags[], weir_pos_rm_flags[], weir_pos_ls_flags[],
    weir_scale_flags[], weir_flush_flags[];

int weir_cmd_ctl_list(const weir_command_line *line);
int weir_cmd_ctl_stats(const weir_command_line *line);
int weir_cmd_ctl_pause(const weir_command_line *line);
int weir_cmd_ctl_resume(const weir_command_line *line);
int weir_cmd_ctl_drain(const weir_command_line *line);
int weir_cmd_ctl_stop(const weir_command_line *line);
int weir_cmd_ctl_scale(const weir_command_line *line);
int weir_cmd_ctl_flush(const weir_command_line *line);
int weir_cmd_why(const weir_command_line *line);
int weir_cmd_tap(const weir_command_line *line);
int weir_cmd_top(const weir_command_line *line);
int weir_cmd_pos_ls(const weir_command_line *line);
int weir_cmd_pos_set(const weir_command_line *line);
int weir_cmd_pos_rm(const weir_command_line *line);
