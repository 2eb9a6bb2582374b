/*  script: one function of a topology's file, in a sandbox of its own: the file runs once
    more, and of all its declarations only one counts. Belongs to one thread.    */
#pragma once
#include "lua/bind/record.h"
#include "lua/sandbox.h"
#include "lua/topology.h"

typedef struct {
    const weir_topology *topology;
    const char *word, *node, *option; // process "parse" { each = .. }
    bool found;                       // the declaration has been met
    weir_sandbox *sandbox;
    lua_State *L;
    weir_records *records;
} weir_script;

/*  Afterwards the function is the only value on L's stack. topology, word, node and
    option are set before; all else is zeroed. Errors fill the report. To be closed in any
    case. */
weir_err weir_script_open(weir_script *self, size_t memory_limit,
                          uint64_t instruction_limit, weir_ledger *ledger,
                          weir_report *report);
void weir_script_close(weir_script *self);
