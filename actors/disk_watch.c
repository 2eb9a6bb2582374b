#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "actors/disk_store.h"

static void signal_fd(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void weir_disk_tell(weir_disk *self)
{
    pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->watcher_count; i++)
        signal_fd(self->watchers[i]);
    pthread_mutex_unlock(&self->mutex);
}

/* --- A store for reading ----------------------------------------------------------- */

/*  The file of the environment that CURRENT names now; -1: there is none to watch.  */
static int watch_data(weir_disk *self)
{
    char folder[WEIR_DISK_FOLDER_MAX], file[WEIR_DISK_FOLDER_MAX + 16];
    if (weir_disk_current(folder, self->path, NULL)) return -1;
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    return inotify_add_watch(self->inotify_fd, file, IN_MODIFY);
}

static void drain(int fd)
{
    char events[4096];
    while (read(fd, events, sizeof events) > 0)
        ;
}

/*  Every event may mean another environment: adding a watch that is there is cheap.  */
static void *run(void *arg)
{
    weir_disk *self = arg;
    struct pollfd fds[] = {{.fd = self->inotify_fd, .events = POLLIN},
                           {.fd = self->watch_end, .events = POLLIN}};
    while (!fds[1].revents) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
        if (!(fds[0].revents & POLLIN)) continue;
        drain(self->inotify_fd);
        watch_data(self);
        weir_disk_tell(self);
    }
    return NULL;
}

/*  Without inotify a reader finds new records only when it reads anyway.             */
static void start(weir_disk *self)
{
    self->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    self->watch_end = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->inotify_fd >= 0 && self->watch_end >= 0 &&
        inotify_add_watch(self->inotify_fd, self->path, IN_MOVED_TO) >= 0) {
        watch_data(self);
        self->watching = !weir_disk_thread(&self->inotify, run, self);
    }
}

/* --- Both -------------------------------------------------------------------------- */

void weir_disk_watch(weir_store *store, int fd)
{
    weir_disk *self = (weir_disk *)store;
    pthread_mutex_lock(&self->mutex);
    self->watchers =
        realloc(self->watchers, (self->watcher_count + 1) * sizeof *self->watchers);
    if (!self->watchers) abort();
    self->watchers[self->watcher_count++] = fd;
    if (self->readonly && self->inotify_fd < 0) start(self);
    pthread_mutex_unlock(&self->mutex);
}

void weir_disk_unwatch(weir_store *store, int fd)
{
    weir_disk *self = (weir_disk *)store;
    pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->watcher_count; i++) {
        if (self->watchers[i] != fd) continue;
        self->watchers[i] = self->watchers[--self->watcher_count];
        break;
    }
    pthread_mutex_unlock(&self->mutex);
}

void weir_disk_watch_fini(weir_disk *self)
{
    if (self->watching) {
        signal_fd(self->watch_end);
        pthread_join(self->inotify, NULL);
    }
    if (self->inotify_fd >= 0) close(self->inotify_fd);
    if (self->watch_end >= 0) close(self->watch_end);
    free(self->watchers);
}
