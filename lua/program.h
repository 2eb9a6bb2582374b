/*  program: Lua process functions, as the engine wants them.                  */
#pragma once
#include "actors/program.h"
#include "lua/topology.h"

/*  What a program is made from: the function of one process of the topology; and a policy
    from that of a bus.                                                        */
typedef struct weir_function {
    struct weir_function *next;
    const weir_topology *topology;
    char *node; // owned
} weir_function;

extern const weir_program_class weir_lua_program;
