/*  help_wait: waits for a condition, since nothing sleeps to let things happen.    */
#pragma once
#include <czmq.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/*  Waits until the condition holds, at most ten seconds.                           */
#define wait_until(condition)                                                            \
    do {                                                                                 \
        int64_t give_up_ms = zclock_mono() + 10000;                                      \
        while (!(condition) && zclock_mono() < give_up_ms)                               \
            zclock_sleep(1);                                                             \
        assert_true(condition);                                                          \
    } while (0)
