/*  bus_ls: what `weir bus ls` lists, wherever it comes from: the folder of a disk store,
   or the control endpoint of the weir whose bus it is. */
#pragma once
#include "actors/store.h"
#include "lua/command.h"

typedef struct {
    weir_store_shard stored;
    char state[16];   // a word; "": not known
    uint64_t damaged; // records whose places no gap tells
} weir_bus_ls_shard;

typedef struct {
    char *group; // owned
    uint32_t shard;
    uint64_t commit, lag, shed;
} weir_bus_ls_group;

typedef struct {
    bool has_state; // nonce, epoch, states and groups are known
    uint64_t nonce, epoch;
    weir_bus_ls_shard *shards; // owned, as all that follows
    size_t shard_count;
    weir_gap *gaps;
    size_t gap_count;
    weir_bus_ls_group *groups;
    size_t group_count;
} weir_bus_ls;

/*  Each appends one, zeroed.                                                          */
weir_bus_ls_shard *weir_bus_ls_add_shard(weir_bus_ls *self);
weir_bus_ls_group *weir_bus_ls_add_group(weir_bus_ls *self, const char *group);

/*  The first operand is NAME/BUS. What is known is listed even when it fails: the report
    says what is not.                                                                  */
weir_err weir_bus_ls_ask(weir_bus_ls *self, const weir_command_line *line,
                         weir_report *report);
