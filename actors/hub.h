/*  hub: what the actors of one bus share in a process: the route by which outlets find
    its shards, its state, store and consumer groups, and where each shard leaves its
    statistics. It outlives the bus's actors, which restart, and is opened by whoever
    needs it first. Functions may be called from any thread.                        */
#pragma once
#include "actors/bus_config.h"
#include "actors/groups.h"
#include "actors/shard.h"

typedef struct weir_hub weir_hub;

/*  Nothing is opened yet. name and config are lent until it ends.                  */
weir_hub *weir_hub_new(const char *name, const weir_bus_options *config);

/*  A store from outside instead of that of the options, lent until the hub has ended.
    Before weir_hub_open.                                                           */
void weir_hub_lend_store(weir_hub *self, weir_store *store);
weir_store *weir_hub_lent_store(const weir_hub *self); // NULL: none

/*  Closes what was opened. Nobody uses it any more. Blocks on disk.                */
void weir_hub_destroy(weir_hub **self_p);

/*  Opens state, store and groups, unless that was done. state_dir: the topology's folder
    for durable things. The ledger counts what groups hold (a reference is taken; NULL:
    none). Errors fill the report.                                                  */
weir_err weir_hub_open(weir_hub *self, const char *state_dir, weir_ledger *ledger,
                       weir_report *report);

/*  The epoch of the shards that start now: a new one at each call, above those of the
    store. A server that has it is asked, for a second at most. Errors as above.    */
weir_err weir_hub_begin_epoch(weir_hub *self, uint64_t *epoch, weir_report *report);

/*  Whether state, store and groups are there. Without waiting.                     */
bool weir_hub_is_open(const weir_hub *self);

const char *weir_hub_name(const weir_hub *self);
const weir_bus_options *weir_hub_config(const weir_hub *self);
weir_route *weir_hub_route(weir_hub *self);
/*  After weir_hub_open; without a store store and groups are NULL.                 */
weir_bus_state *weir_hub_state(weir_hub *self);
weir_store *weir_hub_store(weir_hub *self);
weir_groups *weir_hub_groups(weir_hub *self);
/*  Of a disk store, or the state of another one; "": none.                         */
const char *weir_hub_store_path(const weir_hub *self);

/*  What is known of a shard, from its first start on.                              */
typedef struct weir_hub_shard {
    struct weir_hub_shard *next;
    uint32_t id;
    _Atomic int state;       // weir_shard_state
    _Atomic uint32_t vnodes; // as the bus node has it
    weir_vitals vitals;
    weir_shard_window window;
    weir_shard_stats past; // of its earlier starts; with the window's lock
} weir_hub_shard;

/*  Finds or makes it; it lives as long as the hub, and its vitals are part of those of
    the bus (lent) until they leave it.                                             */
weir_hub_shard *weir_hub_shard_of(weir_hub *self, uint32_t id, weir_vitals *bus);

/*  The shards, none of which runs any more, are no parts of these vitals from now on, but
    their sums stay there: who holds them may outlive the hub.                      */
void weir_hub_leave(weir_hub *self, weir_vitals *bus);

/*  The shard starts again: what it was left with is resident no more, and will come a
    second time; so it leaves `offered` and `accepted`. While its actor does not run. */
void weir_hub_shard_begin(weir_hub_shard *shard);

/*  A copy of a shard's statistics, of all its starts. Walks the shards, from the one that
    was found last: the first, the next, NULL.                                      */
void weir_hub_look(weir_hub_shard *shard, weir_shard_stats *stats);
weir_hub_shard *weir_hub_shards(weir_hub *self);

/*  The shards by rising id; the list is the caller's to free.                      */
weir_hub_shard **weir_hub_list(weir_hub *self, size_t *count);
