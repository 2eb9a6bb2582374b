/*  bus_state: what a bus must not forget: who it is, its shards, which shard owns which
    vnode, moves that are under way, and what consumer groups have committed. In the
    folder `state`:

        lock        flock: one process at a time
        identity    32 bytes, little-endian: "WEIRBUS1", nonce u64, epoch u64,
                    XXH3-64 of these 24
        groups.mdb  an LMDB environment: shard table, map, moves, groups

    The identity is written beside, fsynced, renamed in, its folder fsynced. A change is
    durable when the function returns; all of them block on disk. Any thread.       */
#pragma once
#include "actors/store.h"

typedef struct weir_bus_state weir_bus_state;

/*  Opens or makes it, and raises the epoch by one, durably. path NULL: nothing is kept,
    the nonce is new and the epoch 1. Errors with a report that names the file:
    WEIR_EMALFORMED (identity of a wrong size, magic or checksum; a damaged table),
    WEIR_EREFUSED (another process has it), WEIR_EINVAL (other vnodes), WEIR_ESYS.  */
weir_err weir_bus_state_open(weir_bus_state **self_p, const char *path, uint32_t vnodes,
                             weir_report *report);
void weir_bus_state_close(weir_bus_state **self_p);

uint64_t weir_bus_state_nonce(const weir_bus_state *self);
uint64_t weir_bus_state_epoch(const weir_bus_state *self);

/*  Raises the epoch above this one, durably (an adapter that finds a later one).   */
weir_err weir_bus_state_raise(weir_bus_state *self, uint64_t above, weir_report *report);

/* --- Shards ------------------------------------------------------------------------ */

typedef enum {
    WEIR_SHARD_STARTING = 0,
    WEIR_SHARD_ACTIVE,
    WEIR_SHARD_DRAINING,
    WEIR_SHARD_RETIRED,
} weir_shard_state;

extern const char *const weir_shard_state_words[];

typedef struct {
    uint32_t id; // rising from 0, never used again
    weir_shard_state state;
} weir_shard_row;

/*  A move that has been published and whose fences are not stored yet.             */
typedef struct {
    uint32_t from, to;
    uint64_t version; // of the map
} weir_move;

/*  The table as it was stored last; rows, owners and moves are the caller's to free.
    owners[vnode] is the id of a shard. No rows: the state is new.                  */
typedef struct {
    uint64_t version; // of the map
    uint32_t vnodes;
    weir_shard_row *rows;
    size_t row_count;
    uint32_t *owners;
    weir_move *moves;
    size_t move_count;
} weir_shard_table;

weir_err weir_bus_state_load(weir_bus_state *self, weir_shard_table *table,
                             weir_report *report);
weir_err weir_bus_state_store(weir_bus_state *self, const weir_shard_table *table,
                              weir_report *report);
void weir_shard_table_fini(weir_shard_table *self);

/* --- Groups ------------------------------------------------------------------------ */

/*  What one group has done of one shard. Beside the commit it keeps how often records
    behind it have failed, so that a count survives a restart.                      */
typedef struct {
    uint32_t shard;
    weir_position start;  // before the group's first record
    weir_position commit; // all up to it is acknowledged
    uint64_t shed;        // records removed unread
    struct {
        weir_position at;
        uint32_t failures;
    } * failed; // in order, owned
    size_t failed_count;
} weir_group_row;

weir_err weir_bus_state_groups(weir_bus_state *self, char ***names, size_t *count,
                               weir_report *report);
weir_err weir_bus_state_load_group(weir_bus_state *self, const char *group,
                                   weir_group_row **rows, size_t *count,
                                   weir_report *report);
/*  Replaces these rows and leaves the others.                                      */
weir_err weir_bus_state_store_group(weir_bus_state *self, const char *group,
                                    const weir_group_row *rows, size_t count,
                                    weir_report *report);
weir_err weir_bus_state_forget_group(weir_bus_state *self, const char *group,
                                     weir_report *report);
void weir_group_rows_free(weir_group_row **rows, size_t count);
