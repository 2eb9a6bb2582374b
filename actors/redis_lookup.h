/*  redis_lookup: the addresses of a server. Names are looked up in a thread of their own,
    since nobody can tell how long that takes.                                      */
#pragma once
#include <sys/socket.h>
#include "actors/redis_url.h"

#define WEIR_REDIS_ADDRESSES_MAX 8

typedef struct {
    struct sockaddr_storage items[WEIR_REDIS_ADDRESSES_MAX];
    socklen_t sizes[WEIR_REDIS_ADDRESSES_MAX];
    size_t count;
} weir_redis_addresses;

/*  Those that are known without asking anybody: of unix sockets, of addresses and of
    localhost. False: it must be looked up.                                         */
bool weir_redis_addresses_of(weir_redis_addresses *self, const weir_redis_url *url);

typedef struct weir_redis_lookup weir_redis_lookup;

/*  NULL: no descriptor or thread is left. Its descriptor is readable when it is done.  */
weir_redis_lookup *weir_redis_lookup_new(const weir_redis_url *url);
int weir_redis_lookup_fd(const weir_redis_lookup *self);
/*  NULL, or why there are none.                                                    */
const char *weir_redis_lookup_take(weir_redis_lookup *self, weir_redis_addresses *found);
/*  Whether it is done or not.                                                      */
void weir_redis_lookup_destroy(weir_redis_lookup **self_p);
