/*  redis_group: one stream, read as a member of a consumer group.

        MAKE --> OWN --> CLAIM --> NEW       first what is pending for this consumer, then
                  ^        '--<-----'        what others have left, then what is new
                  '--- after each break of the connection
        ASK --> REMAKE --> OWN               the group is gone

    An entry that was given is pending at the server until it was acknowledged, and is
    given once as long as this lives, whatever breaks. Reads have one connection, since
    they wait at the server, and acknowledgements another. Belongs to one thread, and
   never blocks. */
#pragma once
#include "actors/redis_port.h"

typedef struct weir_redis_group weir_redis_group;

/*  An entry that was given and is not acknowledged.                                  */
typedef struct weir_redis_pending {
    struct weir_redis_pending *next; // the owner's, until it is acknowledged
    struct weir_redis_pending *chain;
    weir_redis_group *group;
    weir_position id;
    uint64_t number; // the owner's
} weir_redis_pending;

typedef struct {
    weir_redis_port *port; // lent, like the texts
    const char *stream, *group, *consumer;
    const char *start;      // where a new group begins: an id, or $
    int64_t claim_after_us; // WEIR_NONE
    size_t window;          // entries that are not acknowledged; a power of 2 above it is
                            // the number of buckets
    /*  An entry came; fields is lent. The owner acknowledges it some time.           */
    void (*take)(void *arg, weir_redis_pending *entry, const redisReply *fields);
    void (*taken)(void *arg);                   // all of an answer
    void (*deleted)(void *arg, uint64_t count); // pending entries that are not there
    void *arg;
} weir_redis_group_config;

/*  NULL: the server may not be spoken to.                                            */
weir_redis_group *weir_redis_group_new(const weir_redis_group_config *config);
void weir_redis_group_destroy(weir_redis_group **self_p);

/*  Asks for entries, at most so many, unless it waits for some; 0: for none now. Sends
    acknowledgements. weir_redis_port_run follows. Microseconds until there is more to do,
    -1: something has to come first.                                                  */
int64_t weir_redis_group_run(weir_redis_group *self, size_t room);

/*  Asks for no more; what is on its way already still comes, until it has left.      */
void weir_redis_group_leave(weir_redis_group *self);
bool weir_redis_group_has_left(const weir_redis_group *self);

/*  Takes the entry.                                                                  */
void weir_redis_group_ack(weir_redis_group *self, weir_redis_pending *entry);
/*  Entries that are to be acknowledged, and the server has not answered.             */
size_t weir_redis_group_unacked(const weir_redis_group *self);
/*  The server cannot be told, as it seems.                                           */
bool weir_redis_group_is_away(const weir_redis_group *self);

/*  All that there was has come.                                                      */
bool weir_redis_group_is_idle(const weir_redis_group *self);

size_t weir_redis_group_pending(const weir_redis_group *self); // given, not acknowledged
