/*  help_wait: waits for a condition, since nothing sleeps to let things happen.    */
#pragma once
#include <czmq.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/*  Waits until the condition holds, at most a minute: the machine may have other work. It
    may no longer hold afterwards.                                                   */
#define wait_until(condition)                                                            \
    for (int64_t give_up_ms = zclock_mono() + 60000; !(condition); zclock_sleep(1))      \
        if (zclock_mono() > give_up_ms) fail_msg("never: %s", #condition)
