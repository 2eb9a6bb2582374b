#include "runtime/route.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

struct weir_route_user {
    weir_route_user *next;
    weir_route *route;
    int wake_fd;
    uint64_t marked, flushed; // version, round
};

struct weir_route {
    atomic_uint references;
    weir_route_config config;        // key is owned
    _Atomic uint64_t version, round; // changed with the lock
    pthread_mutex_t lock;            // of all that follows
    weir_route_map *map;
    weir_route_user *users;
    int owner_fd;
};

/* --- Map --------------------------------------------------------------------------- */

weir_route_map *weir_route_map_new(uint32_t vnodes, uint32_t shard_count)
{
    weir_route_map *self = calloc(1, sizeof *self);
    if (!self) abort();
    atomic_init(&self->references, 1);
    self->vnodes = vnodes;
    self->shard_count = shard_count;
    self->owners = calloc(vnodes, sizeof *self->owners);
    self->shards = calloc(shard_count, sizeof *self->shards);
    if (!self->owners || !self->shards) abort();
    return self;
}

void weir_route_map_destroy(weir_route_map **self_p)
{
    weir_route_map *self = *self_p;
    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1) return;
    for (uint32_t i = 0; i < self->shard_count; i++)
        free(self->shards[i].endpoint);
    free(self->shards);
    free(self->owners);
    free(self);
}

/* --- Route ------------------------------------------------------------------------- */

weir_route *weir_route_new(const weir_route_config *config)
{
    weir_route *self = calloc(1, sizeof *self);
    if (!self) abort();
    atomic_init(&self->references, 1);
    self->config = *config;
    if (config->key) self->config.key = strdup(config->key);
    pthread_mutex_init(&self->lock, NULL);
    self->owner_fd = -1;
    return self;
}

weir_route *weir_route_dup(weir_route *self)
{
    atomic_fetch_add(&self->references, 1);
    return self;
}

void weir_route_destroy(weir_route **self_p)
{
    weir_route *self = *self_p;
    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1) return;
    assert(!self->users);
    weir_route_map_destroy(&self->map);
    pthread_mutex_destroy(&self->lock);
    free((char *)self->config.key);
    free(self);
}

const weir_route_config *weir_route_config_of(const weir_route *self)
{
    return &self->config;
}

/* --- Owner ------------------------------------------------------------------------- */

static void wake_users(weir_route *self)
{
    for (weir_route_user *user = self->users; user; user = user->next)
        eventfd_write(user->wake_fd, 1);
}

uint64_t weir_route_publish(weir_route *self, weir_route_map **map_p)
{
    pthread_mutex_lock(&self->lock);
    weir_route_map *before = self->map;
    self->map = *map_p;
    *map_p = NULL;
    uint64_t version = self->map->version = self->version + 1;
    self->version = version;
    wake_users(self);
    pthread_mutex_unlock(&self->lock);
    weir_route_map_destroy(&before);
    return version;
}

uint64_t weir_route_ask_flush(weir_route *self)
{
    pthread_mutex_lock(&self->lock);
    uint64_t round = ++self->round;
    wake_users(self);
    pthread_mutex_unlock(&self->lock);
    return round;
}

bool weir_route_is_marked(weir_route *self, uint64_t version)
{
    bool marked = true;
    pthread_mutex_lock(&self->lock);
    for (weir_route_user *user = self->users; user; user = user->next)
        marked &= user->marked >= version;
    pthread_mutex_unlock(&self->lock);
    return marked;
}

bool weir_route_is_flushed(weir_route *self, uint64_t round)
{
    bool flushed = true;
    pthread_mutex_lock(&self->lock);
    for (weir_route_user *user = self->users; user; user = user->next)
        flushed &= user->flushed >= round;
    pthread_mutex_unlock(&self->lock);
    return flushed;
}

void weir_route_watch(weir_route *self, int owner_fd)
{
    pthread_mutex_lock(&self->lock);
    self->owner_fd = owner_fd;
    pthread_mutex_unlock(&self->lock);
}

uint32_t weir_route_users(weir_route *self)
{
    uint32_t count = 0;
    pthread_mutex_lock(&self->lock);
    for (weir_route_user *user = self->users; user; user = user->next)
        count++;
    pthread_mutex_unlock(&self->lock);
    return count;
}

/* --- Users ------------------------------------------------------------------------- */

/*  Who joins has sent nothing yet.                                                 */
weir_route_user *weir_route_join(weir_route *self, int wake_fd)
{
    weir_route_user *user = calloc(1, sizeof *user);
    if (!user) abort();
    user->route = weir_route_dup(self);
    user->wake_fd = wake_fd;
    pthread_mutex_lock(&self->lock);
    user->marked = self->version;
    user->flushed = self->round;
    user->next = self->users;
    self->users = user;
    eventfd_write(wake_fd, 1);
    pthread_mutex_unlock(&self->lock);
    return user;
}

/*  With the lock.                                                                  */
static void wake_owner(weir_route *self)
{
    if (self->owner_fd >= 0) eventfd_write(self->owner_fd, 1);
}

void weir_route_leave(weir_route_user **user_p)
{
    weir_route_user *user = *user_p;
    *user_p = NULL;
    if (!user) return;
    weir_route *self = user->route;
    pthread_mutex_lock(&self->lock);
    weir_route_user **at = &self->users;
    while (*at != user)
        at = &(*at)->next;
    *at = user->next;
    wake_owner(self);
    pthread_mutex_unlock(&self->lock);
    weir_route_destroy(&self);
    free(user);
}

uint64_t weir_route_version(const weir_route *self)
{
    return self->version;
}

uint64_t weir_route_round(const weir_route *self)
{
    return self->round;
}

weir_route_map *weir_route_map_get(weir_route *self)
{
    pthread_mutex_lock(&self->lock);
    weir_route_map *map = self->map;
    if (map) atomic_fetch_add(&map->references, 1);
    pthread_mutex_unlock(&self->lock);
    return map;
}

void weir_route_marked(weir_route_user *user, uint64_t version)
{
    pthread_mutex_lock(&user->route->lock);
    user->marked = version;
    wake_owner(user->route);
    pthread_mutex_unlock(&user->route->lock);
}

void weir_route_flushed(weir_route_user *user, uint64_t round)
{
    pthread_mutex_lock(&user->route->lock);
    user->flushed = round;
    wake_owner(user->route);
    pthread_mutex_unlock(&user->route->lock);
}
