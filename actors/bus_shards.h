/*  bus_shards: the running shards of a bus, and who owns which vnode: starts and retires
    shards and moves vnodes between them without losing the order of a key.

        change --> STARTING ones start, map + 1 is durable, gainers park, map is published
               --> all markers acknowledged --> gainers release
               --> who drained has nothing left --> it is retired

    One change at a time. Belongs to the thread of the bus's node; it waits for the
    shards' threads to answer commands, never for the store. Where that is on a server
    which is away, what a change needs of it is asked for again later.              */
#pragma once
#include "actors/hub.h"

typedef struct {
    weir_hub *hub;         // lent
    const weir_node *node; // of the bus, lent; what shards inherit
    uint64_t epoch;
    int wake_fd; // eventfd that shards wake when they fail or their fences are stored,
                 // and the route when it moves on
} weir_bus_shards_config;

typedef struct weir_bus_shards weir_bus_shards;

/*  Starts the shards that were active before, or as many as the options say, and
    publishes the first map. After moves that were not ended what a disk store was given
    before is awaited, for flush_timeout at most. Errors fill the report (WEIR_ETIMEOUT:
    it is not stored); blocks on disk.                                              */
weir_err weir_bus_shards_new(weir_bus_shards **self_p,
                             const weir_bus_shards_config *config, weir_report *report);
/*  Stops all shards; what they hold is given up. WEIR_ETIMEOUT: one is stuck.       */
weir_err weir_bus_shards_destroy(weir_bus_shards **self_p);

/*  A reader of all shards, of a bus without store, also of those that start later.  */
weir_err weir_bus_shards_connect(weir_bus_shards *self, const weir_endpoint *endpoint,
                                 const char *reader, weir_report *report);
/*  The same for another bus, whose shards they all send to.                        */
weir_err weir_bus_shards_route(weir_bus_shards *self, weir_route *route,
                               const char *reader, weir_report *report);

/*  A command for all that run; the first error.                                    */
weir_err weir_bus_shards_tell(weir_bus_shards *self, const char *command,
                              weir_report *report);
weir_err weir_bus_shards_start(weir_bus_shards *self, weir_report *report);

/*  The store's server is away, and earlier moves, or a change, cannot be ended without
   it: start, or go_on, is to be called again in some time.                            */
bool weir_bus_shards_is_waiting(const weir_bus_shards *self);

uint32_t weir_bus_shards_active(const weir_bus_shards *self); // their number
bool weir_bus_shards_is_changing(const weir_bus_shards *self);

/*  Changes the number of active shards. order: ids of active ones, those to drain first;
    NULL: the youngest first. Errors: WEIR_EFULL, another change is under way;
    WEIR_ECLOSED, a shard is gone, a failure of the bus; any other: a shard could not
    start, or the state not be written, and all is as before.                       */
weir_err weir_bus_shards_change(weir_bus_shards *self, uint32_t active,
                                const uint32_t *order, weir_report *report);

/*  What has come to an end is finished, fences that are stored too. After each wake.
    Errors are a failure of the bus: a shard has failed, or the state cannot be written.
 */
weir_err weir_bus_shards_go_on(weir_bus_shards *self, weir_report *report);

/*  The ids that the last change added or drains; lent.                             */
const uint32_t *weir_bus_shards_changed(const weir_bus_shards *self, uint32_t *count);

/*  Of each active shard what it did since the last call; loads has room for all. Gives
    their number.                                                                   */
uint32_t weir_bus_shards_loads(weir_bus_shards *self, weir_shard_load *loads,
                               int64_t now_us);
