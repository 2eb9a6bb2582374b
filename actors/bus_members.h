/*  bus_members: the shards of a bus that run, and what all of them were told: readers,
    START, PAUSE. Which vnodes they own it only hears.

        start --> STARTING --set--> ACTIVE --set--> DRAINING --set--> RETIRED --> stop

    Belongs to the thread of the bus's node; it waits for the shards' threads to answer
    commands.

    Private to bus_shards.                                                          */
#pragma once
#include "actors/bus_moves.h"
#include "actors/bus_shards.h"

/*  A shard that has been started and not stopped.                                  */
typedef struct weir_bus_member {
    struct weir_bus_member *next;
    uint32_t id;
    weir_shard_state state;
    weir_shard_config config;
    zactor_t *actor;
    sem_t ended;
    weir_report report; // of init
    char endpoint[128];
    weir_hub_shard *shared;
    uint64_t *parks; // bits of the vnodes that move in; NULL: none
    weir_park_set park_set;
    int64_t active_us;       // since when
    weir_shard_stats before; // as loads () saw it last
    int64_t before_us;
} weir_bus_member;

typedef struct {
    char *endpoint, *name; // owned
    weir_route *route;     // instead of the endpoint, a reference; NULL: none
} weir_bus_reader;

typedef struct {
    weir_bus_shards_config config;
    const weir_bus_options *options; // the hub's
    weir_bus_member *first;          // by id, ascending
    weir_bus_reader *readers;
    size_t reader_count;
    bool started, paused, hurried, closed; // as all were told
} weir_bus_members;

void weir_bus_members_init(weir_bus_members *self, const weir_bus_shards_config *config);
/*  Stops all. WEIR_ETIMEOUT: one is stuck, and uses what it was given.              */
weir_err weir_bus_members_fini(weir_bus_members *self);

/*  Starts one, and tells it what all others were told. When it cannot it is gone.    */
weir_err weir_bus_members_start(weir_bus_members *self, uint32_t id, weir_report *report);
/*  Takes it out; WEIR_ETIMEOUT: it is stuck, and stays.                             */
weir_err weir_bus_members_stop(weir_bus_member **member_p);

/*  Where its pointer is: NULL there, and the number of all: it does not run.         */
weir_bus_member **weir_bus_members_find(weir_bus_members *self, uint32_t id);
uint32_t weir_bus_members_index(const weir_bus_members *self, uint32_t id);

/*  One that has failed: its error.                                                 */
weir_err weir_bus_members_check(const weir_bus_members *self, weir_report *report);

/*  As weir_bus_shards_tell, _connect, _route, and _loads.                            */
weir_err weir_bus_members_tell(weir_bus_members *self, const char *command,
                               weir_report *report);
weir_err weir_bus_members_read_by(weir_bus_members *self, weir_bus_reader reader,
                                  weir_report *report);
uint32_t weir_bus_members_loads(weir_bus_members *self, weir_shard_load *loads,
                                int64_t now_us);

/* --- One of them ------------------------------------------------------------------- */

void weir_bus_member_set(weir_bus_member *self, weir_shard_state state);
weir_err weir_bus_member_tell(weir_bus_member *self, const char *command,
                              weir_report *report);

/*  Has it park the records of those vnodes that the table gives it, and before (owners by
    vnode) does not.                                                                */
weir_err weir_bus_member_park(weir_bus_member *self, const weir_shard_table *table,
                              const uint32_t *before, weir_report *report);
/*  What it has parked goes on, its first batch with the fences of the table's moves.   */
weir_err weir_bus_member_release(weir_bus_member *self, const weir_shard_table *table,
                                 const weir_moves_stored *stored, weir_report *report);
/*  Whether its fences are stored.                                                  */
bool weir_bus_member_is_fenced(const weir_bus_member *self);
