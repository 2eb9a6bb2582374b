#include "actors/redis_lookup.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>
#include "runtime/thread.h"

/* --- Without asking ---------------------------------------------------------------- */

static void add(weir_redis_addresses *self, const void *address, size_t size)
{
    if (self->count == WEIR_REDIS_ADDRESSES_MAX) return;
    memcpy(&self->items[self->count], address, size);
    self->sizes[self->count++] = (socklen_t)size;
}

static void add_unix(weir_redis_addresses *self, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, strlen(path));
    add(self, &address, sizeof address);
}

static bool add_number(weir_redis_addresses *self, const char *host, uint16_t port)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, host, &four.sin_addr) == 1)
        add(self, &four, sizeof four);
    else if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1)
        add(self, &six, sizeof six);
    else
        return false;
    return true;
}

bool weir_redis_addresses_of(weir_redis_addresses *self, const weir_redis_url *url)
{
    self->count = 0;
    if (url->port == 0) {
        add_unix(self, url->host);
        return true;
    }
    if (strcasecmp(url->host, "localhost") != 0)
        return add_number(self, url->host, url->port);
    return add_number(self, "127.0.0.1", url->port) && add_number(self, "::1", url->port);
}

/* --- In a thread ------------------------------------------------------------------- */

/*  Shared by who asked and by the thread, which may outlive the interest in it.     */
struct weir_redis_lookup {
    atomic_uint references;
    char *host, port[8];
    int fd;
    atomic_bool done;
    int error; // of getaddrinfo
    weir_redis_addresses found;
};

static void unref(weir_redis_lookup *self)
{
    if (atomic_fetch_sub(&self->references, 1) > 1) return;
    if (self->fd >= 0) close(self->fd);
    free(self->host);
    free(self);
}

static void *look_up(void *arg)
{
    weir_redis_lookup *self = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    self->error = getaddrinfo(self->host, self->port, &hints, &list);
    for (struct addrinfo *at = list; at; at = at->ai_next)
        if (at->ai_addrlen <= sizeof *self->found.items)
            add(&self->found, at->ai_addr, at->ai_addrlen);
    if (list) freeaddrinfo(list);
    atomic_store(&self->done, true);
    eventfd_write(self->fd, 1);
    unref(self);
    return NULL;
}

weir_redis_lookup *weir_redis_lookup_new(const weir_redis_url *url)
{
    weir_redis_lookup *self = calloc(1, sizeof *self);
    if (!self || !(self->host = strdup(url->host))) abort();
    atomic_init(&self->references, 2);
    snprintf(self->port, sizeof self->port, "%u", url->port);
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_t thread;
    if (self->fd >= 0 && !weir_thread_start(&thread, look_up, self)) {
        pthread_detach(thread);
        return self;
    }
    unref(self);
    unref(self);
    return NULL;
}

int weir_redis_lookup_fd(const weir_redis_lookup *self)
{
    return self->fd;
}

const char *weir_redis_lookup_take(weir_redis_lookup *self, weir_redis_addresses *found)
{
    if (!atomic_load(&self->done)) return "not looked up yet";
    *found = self->found;
    if (self->error) return gai_strerror(self->error);
    return found->count ? NULL : "the name has no address";
}

void weir_redis_lookup_destroy(weir_redis_lookup **self_p)
{
    weir_redis_lookup *self = *self_p;
    *self_p = NULL;
    if (self) unref(self);
}
