/*  outstanding: what a source that is a member of a consumer group has sent on and is not
    safe, shard by shard: what it acknowledges to the group when its links have, and what
    it gives back. For the functions of an actor, in its thread.                    */
#pragma once
#include "actors/store.h"
#include "runtime/actor.h"

typedef struct {
    struct weir_sent_lane *lanes; // one a shard; zeroed: none
} weir_outstanding;

/*  Entries that are open are given up.                                             */
void weir_outstanding_fini(weir_outstanding *self, weir_actor *kit);

/*  Sends a block of one shard, whose records have these positions; both are taken.  */
void weir_outstanding_send(weir_outstanding *self, weir_actor *kit, int port,
                           uint32_t shard, weir_block **block_p, weir_position **at_p);

/*  Tells the group that all up to a position is safe, or that a record is not taken. */
typedef weir_err(weir_outstanding_ack)(void *arg, uint32_t shard, weir_position at,
                                       weir_report *report);
typedef weir_err(weir_outstanding_nack)(void *arg, uint32_t shard, weir_position at,
                                        const char *why);

/*  For weir_class.commit: all up to the entry is safe, or was given back. Acknowledges
    what was not given back.                                                        */
weir_err weir_outstanding_commit(const weir_entry *entry, weir_outstanding_ack *ack,
                                 void *arg, weir_report *report);

/*  For weir_class.refused: those records of the entry come again one by one, so that only
    the bad ones are given up. What several readers refuse is given back once.      */
weir_err weir_outstanding_refuse(weir_actor *kit, weir_entry *entry,
                                 const weir_refused *refusal, weir_outstanding_nack *nack,
                                 void *arg);
