#include "runtime/clock.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

#define WATCHERS_MAX 1024

static struct {
    _Atomic bool on;
    _Atomic int64_t now_us;
    int64_t wall_start_ms;
    pthread_mutex_t lock; // guards the watchers
    int watchers[WATCHERS_MAX];
    int count;
} virtual = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int64_t read_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t weir_clock_now_us(void)
{
    return virtual.on ? virtual.now_us : read_us(CLOCK_MONOTONIC);
}

int64_t weir_clock_wall_ms(void)
{
    if (virtual.on) return virtual.wall_start_ms + virtual.now_us / 1000;
    return read_us(CLOCK_REALTIME) / 1000;
}

void weir_clock_go_virtual(int64_t wall_ms)
{
    virtual.wall_start_ms = wall_ms;
    virtual.now_us = 0;
    virtual.on = true;
}

void weir_clock_advance(int64_t us)
{
    virtual.now_us += us;
    pthread_mutex_lock(&virtual.lock);
    for (int i = 0; i < virtual.count; i++)
        eventfd_write(virtual.watchers[i], 1);
    pthread_mutex_unlock(&virtual.lock);
}

bool weir_clock_is_virtual(void)
{
    return virtual.on;
}

weir_err weir_clock_watch(int eventfd)
{
    pthread_mutex_lock(&virtual.lock);
    bool room = virtual.count < WATCHERS_MAX;
    if (room) virtual.watchers[virtual.count++] = eventfd;
    pthread_mutex_unlock(&virtual.lock);
    return room || !virtual.on ? WEIR_OK : WEIR_EFULL;
}

void weir_clock_unwatch(int eventfd)
{
    pthread_mutex_lock(&virtual.lock);
    for (int i = 0; i < virtual.count; i++) {
        if (virtual.watchers[i] != eventfd) continue;
        virtual.watchers[i] = virtual.watchers[--virtual.count];
        break;
    }
    pthread_mutex_unlock(&virtual.lock);
}

int weir_clock_timeout_ms(int64_t deadline_us)
{
    if (deadline_us < 0) return -1;
    int64_t left_us = deadline_us - weir_clock_now_us();
    if (left_us <= 0) return 0;
    if (virtual.on) return -1;
    int64_t left_ms = (left_us + 999) / 1000;
    return left_ms > 3600000 ? 3600000 : (int)left_ms;
}
