/*  recv_bus: `weir recv NAME/BUS`: takes records from a bus with a store, as a member of
    a group, and writes them to the standard output. What is written is acknowledged.  */
#pragma once
#include "lua/command.h"

int weir_recv_bus(const weir_command_line *line);
