/*  bus_state: what a bus must not forget: who it is, its shards, which shard owns which
    vnode, moves that are under way, and what consumer groups have committed. In the
    folder `state`:

        lock        flock: one process at a time
        identity    32 bytes, little-endian: "WEIRBUS1", nonce u64, epoch u64,
                    XXH3-64 of these 24
        groups.mdb  an LMDB environment: shard table, map, moves, groups, and fences
                    between shards where the store keeps none

    The identity is written beside, fsynced, renamed in, its folder fsynced. A change is
    durable when the function returns; all of them block on disk. Any thread. Failures of
    the disk are WEIR_ESYS, damage is WEIR_EMALFORMED, with a report that names the file.

    Without a path nothing is kept: what is stored is forgotten, what is loaded is empty.
 */
#pragma once
#include "actors/store.h"

typedef struct weir_bus_state weir_bus_state;

/*  Opens or makes it (vnodes: 1 to 65536), and raises the epoch by one, durably. path
    NULL: nothing is kept, the nonce is new and the epoch 1. Errors with a report that
    names the file: WEIR_EMALFORMED ("bad_identity: ": of a wrong size, magic or checksum,
    or missing beside what it belongs to; a damaged table), WEIR_EREFUSED ("in_use: ":
    somebody has it open), WEIR_EINVAL (other vnodes), WEIR_ESYS.                   */
weir_err weir_bus_state_open(weir_bus_state **self_p, const char *path, uint32_t vnodes,
                             weir_report *report);

/*  Opens an existing one for looking alone, whoever has it open meanwhile in another
    process; nothing may be stored or raised. WEIR_ENOTFOUND: there is none.        */
weir_err weir_bus_state_open_readonly(weir_bus_state **self_p, const char *path,
                                      weir_report *report);
void weir_bus_state_close(weir_bus_state **self_p);

/*  From now on the state is that of a bus whose records lie in a store of this kind
    ("disk", "redis", ..), durably: positions of one kind mean nothing in another.
    WEIR_EINVAL with a report: it is that of another kind.                          */
weir_err weir_bus_state_claim(weir_bus_state *self, const char *kind,
                              weir_report *report);

uint64_t weir_bus_state_nonce(const weir_bus_state *self);
uint64_t weir_bus_state_epoch(const weir_bus_state *self);

/*  Raises the epoch above this one, durably (an adapter that finds a later one); does
    nothing when it is. WEIR_EINVAL: no u64 is above it.                            */
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
    owners[vnode] is the id of a shard. No rows: the state is new. To be stored it has the
    vnodes of open.                                                                 */
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
/*  The fences of a store that keeps none itself; the list is the caller's to free.  */
weir_err weir_bus_state_load_fences(weir_bus_state *self, weir_fence **list,
                                    size_t *count, weir_report *report);
weir_err weir_bus_state_store_fences(weir_bus_state *self, const weir_fence *list,
                                     size_t count, weir_report *report);
weir_shard_table weir_shard_table_copy(const weir_shard_table *self);
void weir_shard_table_fini(weir_shard_table *self);

/* --- Groups ------------------------------------------------------------------------ */

typedef struct {
    weir_position at;
    uint32_t failures;
} weir_group_failure;

/*  What one group has done of one shard. Beside the commit it keeps how often records
    behind it have failed, so that a count survives a restart.                      */
typedef struct {
    uint32_t shard;
    weir_position start;        // before the group's first record
    weir_position commit;       // all up to it is acknowledged
    uint64_t shed;              // records removed unread
    weir_group_failure *failed; // in order, owned
    size_t failed_count;
} weir_group_row;

/*  A group is known by its rows: one without any is none. Its name has 1 to 500 bytes,
    else WEIR_EINVAL. The names, in order of their bytes, are the caller's:
    weir_group_names_free.                                                          */
weir_err weir_bus_state_groups(weir_bus_state *self, char ***names, size_t *count,
                               weir_report *report);
void weir_group_names_free(char ***names, size_t count);
/*  Its rows, ascending by shard, the caller's: weir_group_rows_free.               */
weir_err weir_bus_state_load_group(weir_bus_state *self, const char *group,
                                   weir_group_row **rows, size_t *count,
                                   weir_report *report);
/*  Replaces these rows, all or none, and leaves the others.                        */
weir_err weir_bus_state_store_group(weir_bus_state *self, const char *group,
                                    const weir_group_row *rows, size_t count,
                                    weir_report *report);
weir_err weir_bus_state_forget_group(weir_bus_state *self, const char *group,
                                     weir_report *report);
void weir_group_rows_free(weir_group_row **rows, size_t count);
