/*  bus_moves: which shards of a bus stand behind which others, since vnodes moved from
    these to them and the fence that says so is not in the store yet. Works on the moves
    of a shard table (bus_state.h); pure.

        note     when vnodes move              from --> to
        settle   when their records are safe   what needs no fence goes
        forget   when a shard's fences are stored

    So a table has at most one move for each pair of a shard with records and an active
    one that has stored none since.                                                 */
#pragma once
#include "actors/bus_state.h"

/*  Notes the moves that make the table's owners of those of before (by vnode, ids that
    the table does not have are nobody's). Where the fence of an earlier move is not
    stored, who takes the vnodes on from there is behind that move's shard, too.    */
void weir_moves_note(weir_shard_table *self, const uint32_t *before);

/*  What the store has; all of it is lent. Without a store: zeroed.                 */
typedef struct {
    const weir_store_shard *shards;
    size_t shard_count;
    const weir_fence *fences;
    size_t fence_count;
} weir_moves_stored;

/*  Notes what vnodes take along: a fence behind which their last shard has stored
   nothing. Then forgets the moves that need no fence: to a shard that is not active; from
   one that has stored nothing, or of which nothing is left and that is behind no other;
   and from one that is waited for anyway by who waits for another one of the moves. */
void weir_moves_settle(weir_shard_table *self, const weir_moves_stored *stored);

/*  For a store that keeps no fences: those of all moves, each shard behind what it has
    stored by now, and those of before that still hold somebody up. The list is the
    caller's to free.                                                               */
weir_fence *weir_moves_fences(const weir_shard_table *self,
                              const weir_moves_stored *stored, size_t *count);

bool weir_moves_lead_to(const weir_shard_table *self, uint32_t to);
void weir_moves_forget(weir_shard_table *self, uint32_t to);
