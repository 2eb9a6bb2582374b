#include "runtime/loop.h"
#include "runtime/clock.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct weir_watch {
    weir_watch *next;
    int fd;
    weir_handler *handler;
    void *arg;
    bool edge;
    bool gone; // unwatched while events are being handled
};

/*  The virtual clock has moved: the timers are looked at after every wait.    */
static void clock_moved(void *arg)
{
    weir_loop *self = arg;
    eventfd_read(self->wake_fd, &(eventfd_t){0});
}

weir_err weir_loop_init(weir_loop *self, void *arg)
{
    *self = (weir_loop){.arg = arg};
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->epoll_fd < 0 || self->wake_fd < 0) return WEIR_ESYS;
    weir_err err = weir_loop_watch(self, self->wake_fd, false, clock_moved, self);
    return err ? err : weir_clock_watch(self->wake_fd);
}

static void sweep_watches(weir_loop *self)
{
    self->has_gone = false;
    for (weir_watch **w = &self->watches; *w;) {
        weir_watch *gone = *w;
        if (!gone->gone) {
            w = &gone->next;
            continue;
        }
        *w = gone->next;
        free(gone);
    }
}

void weir_loop_fini(weir_loop *self)
{
    for (weir_watch *w = self->watches; w; w = w->next)
        w->gone = true;
    sweep_watches(self);
    weir_clock_unwatch(self->wake_fd);
    if (self->wake_fd >= 0) close(self->wake_fd);
    if (self->epoll_fd >= 0) close(self->epoll_fd);
}

weir_err weir_loop_watch(weir_loop *self, int fd, bool edge, weir_handler *handler,
                         void *arg)
{
    weir_watch *w = calloc(1, sizeof *w);
    if (!w) abort();
    *w = (weir_watch){self->watches, fd, handler, arg, edge, false};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = w};
    if (edge) event.events |= EPOLLET;
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
        free(w);
        return WEIR_ESYS;
    }
    self->watches = w;
    return WEIR_OK;
}

void weir_loop_unwatch(weir_loop *self, int fd)
{
    for (weir_watch *w = self->watches; w; w = w->next) {
        if (w->fd != fd || w->gone) continue;
        epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        w->gone = self->has_gone = true;
    }
}

void weir_loop_timer(weir_loop *self, weir_handler *handler, int64_t delay_us)
{
    int own = -1, unused = -1;
    for (int i = 0; i < WEIR_LOOP_TIMERS_MAX; i++) {
        if (self->timers[i].handler == handler) own = i;
        if (!self->timers[i].handler && unused < 0) unused = i;
    }
    if (delay_us < 0) {
        if (own >= 0) self->timers[own].handler = NULL;
        return;
    }
    int i = own >= 0 ? own : unused;
    assert(i >= 0);
    self->timers[i].handler = handler;
    self->timers[i].at_us = weir_clock_now_us() + delay_us;
}

void weir_loop_run_timers(weir_loop *self, const bool *stop)
{
    int64_t now = weir_clock_now_us();
    for (int i = 0; i < WEIR_LOOP_TIMERS_MAX && !*stop; i++) {
        weir_handler *handler = self->timers[i].handler;
        if (!handler || self->timers[i].at_us > now) continue;
        self->timers[i].handler = NULL;
        handler(self->arg);
    }
}

int64_t weir_loop_deadline(const weir_loop *self)
{
    int64_t next = -1;
    for (int i = 0; i < WEIR_LOOP_TIMERS_MAX; i++) {
        if (!self->timers[i].handler) continue;
        if (next < 0 || self->timers[i].at_us < next) next = self->timers[i].at_us;
    }
    return next;
}

void weir_loop_wait(weir_loop *self, int64_t deadline_us, bool mute)
{
    struct epoll_event events[16];
    int count =
        epoll_wait(self->epoll_fd, events, 16, weir_clock_timeout_ms(deadline_us));
    for (int i = 0; i < count; i++) {
        weir_watch *w = events[i].data.ptr;
        if (w->gone) continue;
        if (mute && !w->edge && w->fd != self->wake_fd)
            weir_loop_unwatch(self, w->fd);
        else
            w->handler(w->arg);
    }
    if (self->has_gone) sweep_watches(self);
}
