/*  route: which shard takes the records of a vnode, and how a change of that passes
    through all outlets that send there. Shared by the threads of one process.

        owner ----- publish (map) ----> users: outlets, each woken by its eventfd
              <---- marked, flushed --- when their tokens are acknowledged

    A map is constant; a new one has the next version. Users look at the version without
    a lock and take the map when it has changed. Functions may be called from any thread,
    but those of one user only from its own.                                        */
#pragma once
#include <stdatomic.h>
#include "runtime/doc.h"

typedef struct {
    uint32_t id;
    char *endpoint; // of its inlet, owned by the map
    bool active;    // takes blocks without keys; has vnodes
    bool loses;     // vnodes leave it with this version: a marker is due
} weir_route_shard;

typedef struct {
    atomic_uint references;
    uint64_t version; // set by publish
    uint32_t vnodes;
    uint32_t *owners;         // of each vnode: index into shards
    weir_route_shard *shards; // that are not retired
    uint32_t shard_count;
} weir_route_map;

/*  A map to be filled in: owners and shards are zeroed.                            */
weir_route_map *weir_route_map_new(uint32_t vnodes, uint32_t shard_count);
void weir_route_map_destroy(weir_route_map **self_p); // a reference less

typedef struct weir_route weir_route;
typedef struct weir_route_user weir_route_user;

typedef struct {
    const char *key;  // field path whose value wins over the record's own key, or NULL
    size_t block_max; // most bytes of a block; a larger record comes alone
    uint32_t records_max; // most records of a block; 0: any number
    int64_t linger_us;    // longest that a record waits in an open block
} weir_route_config;

/*  The texts are copied. Counted, since outlets may outlive its owner.             */
weir_route *weir_route_new(const weir_route_config *config);
weir_route *weir_route_dup(weir_route *self);
void weir_route_destroy(weir_route **self_p);
const weir_route_config *weir_route_config_of(const weir_route *self);

/* --- For the owner ----------------------------------------------------------------- */

/*  Publishes the map (taken) with the next version and wakes all users. Gives the
 * version. */
uint64_t weir_route_publish(weir_route *self, weir_route_map **map_p);

/*  Asks all users to flush what they have sent so far; gives the round.            */
uint64_t weir_route_ask_flush(weir_route *self);

/*  Whether every user has all its markers of this version acknowledged, or its tokens of
    that round. A user that has left counts as done. owner_fd (eventfd; -1: none) becomes
    readable when that may have changed.                                            */
bool weir_route_is_marked(weir_route *self, uint64_t version);
bool weir_route_is_flushed(weir_route *self, uint64_t round);
void weir_route_watch(weir_route *self, int owner_fd);
uint32_t weir_route_users(weir_route *self);

/* --- For users --------------------------------------------------------------------- */

/*  wake_fd (eventfd) becomes readable when there is a new map or a round.          */
weir_route_user *weir_route_join(weir_route *self, int wake_fd);
void weir_route_leave(weir_route_user **user_p);

/*  The version and the round that are asked for now. Without a lock.               */
uint64_t weir_route_version(const weir_route *self);
uint64_t weir_route_round(const weir_route *self);

/*  The present map, a reference that is the caller's; NULL before the first.       */
weir_route_map *weir_route_map_get(weir_route *self);

/*  Everything that was sent before this version, or round, is acknowledged.        */
void weir_route_marked(weir_route_user *user, uint64_t version);
void weir_route_flushed(weir_route_user *user, uint64_t round);
