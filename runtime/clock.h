/*  clock: the one source of time. Real, or virtual for tests that must not wait.

    The virtual clock is one for the whole process: it stands still until it is
    advanced, and then wakes every loop that has registered an eventfd.        */
#pragma once
#include "runtime/err.h"

/*  Monotonic microseconds; wall-clock milliseconds since 1970. Any thread.    */
int64_t weir_clock_now_us(void);
int64_t weir_clock_wall_ms(void);

/*  Switches to virtual time, before any other thread runs: now_us starts at 0,
    wall_ms at the given instant. Advance moves both and wakes the watchers.   */
void weir_clock_go_virtual(int64_t wall_ms);
void weir_clock_advance(int64_t us);
bool weir_clock_is_virtual(void);

/*  Registers an eventfd that advance writes to. At most 1,024 watch at once; a further
    one is WEIR_EFULL in virtual time, and needs none else. Any thread.        */
weir_err weir_clock_watch(int eventfd);
void weir_clock_unwatch(int eventfd);

/*  The earlier of two instants, where a negative one means never.             */
static inline int64_t weir_earlier(int64_t a, int64_t b)
{
    if (a < 0 || b < 0) return a < 0 ? b : a;
    return a < b ? a : b;
}

/*  Milliseconds for epoll_wait until the instant: 0 when it has passed, -1 for
    "no deadline" (deadline_us < 0) and in virtual time, where the watcher wakes. */
int weir_clock_timeout_ms(int64_t deadline_us);
