/*  loop: what one thread waits for: descriptors, and timers on the clock. Serves the
    thread that waits; a class without sockets.                                */
#pragma once
#include "runtime/err.h"

#define WEIR_LOOP_TIMERS_MAX 16

typedef void(weir_handler)(void *arg);

typedef struct weir_watch weir_watch;

typedef struct {
    int epoll_fd, wake_fd; // wake_fd: the virtual clock
    weir_watch *watches;   // owned
    bool has_gone;         // some of them are to be freed
    struct {
        weir_handler *handler; // NULL: free
        int64_t at_us;
    } timers[WEIR_LOOP_TIMERS_MAX];
    void *arg; // of the timers' handlers
} weir_loop;

/*  Errors: WEIR_ESYS when there are no descriptors left. To be ended in any case.  */
weir_err weir_loop_init(weir_loop *self, void *arg);
void weir_loop_fini(weir_loop *self);

/*  When the descriptor is readable the handler is called with arg; with `edge` only
    each time that it becomes readable. Not edge: the mute wait may let it go.  */
weir_err weir_loop_watch(weir_loop *self, int fd, bool edge, weir_handler *handler,
                         void *arg);
void weir_loop_unwatch(weir_loop *self, int fd);

/*  Calls the handler once after the delay. Setting it again moves it; a negative
    delay stops it.                                                            */
void weir_loop_timer(weir_loop *self, weir_handler *handler, int64_t delay_us);

/*  Runs the timers that are due, as long as *stop is false.                   */
void weir_loop_run_timers(weir_loop *self, const bool *stop);

/*  When the next timer is due; -1: there is none.                             */
int64_t weir_loop_deadline(const weir_loop *self);

/*  Waits until something is readable or the deadline (-1: none) has come. With
    `mute` no handler is called, and what would go on being readable is let go.  */
void weir_loop_wait(weir_loop *self, int64_t deadline_us, bool mute);
