#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/disk_store.h"
#include "runtime/thread.h"

/*  Other processes are told by a new time of the file `lock`: the last thing that LMDB
    writes itself comes before its readers may see the transaction.                 */
void weir_disk_tell(weir_disk *self)
{
    char file[WEIR_DISK_FOLDER_MAX];
    pthread_mutex_lock(&self->mutex);
    weir_watchers_tell(&self->watchers);
    pthread_mutex_unlock(&self->mutex);
    if (self->readonly) return;
    snprintf(file, sizeof file, "%s/lock", self->path);
    utimensat(AT_FDCWD, file, NULL, 0);
}

/* --- A store for reading ----------------------------------------------------------- */

static void drain(int fd)
{
    char events[4096];
    while (read(fd, events, sizeof events) > 0)
        ;
}

static void *run(void *arg)
{
    weir_disk *self = arg;
    struct pollfd fds[] = {{.fd = self->inotify_fd, .events = POLLIN},
                           {.fd = self->watch_end, .events = POLLIN}};
    while (!fds[1].revents) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
        if (!(fds[0].revents & POLLIN)) continue;
        drain(self->inotify_fd);
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
        inotify_add_watch(self->inotify_fd, self->path, IN_ATTRIB | IN_MOVED_TO) >= 0)
        self->watching = !weir_thread_start(&self->inotify, run, self);
}

/* --- Both -------------------------------------------------------------------------- */

void weir_disk_watch(weir_store *store, int fd)
{
    weir_disk *self = (weir_disk *)store;
    pthread_mutex_lock(&self->mutex);
    weir_watchers_add(&self->watchers, fd);
    if (self->readonly && self->inotify_fd < 0) start(self);
    pthread_mutex_unlock(&self->mutex);
}

void weir_disk_unwatch(weir_store *store, int fd)
{
    weir_disk *self = (weir_disk *)store;
    pthread_mutex_lock(&self->mutex);
    weir_watchers_remove(&self->watchers, fd);
    pthread_mutex_unlock(&self->mutex);
}

void weir_disk_watch_fini(weir_disk *self)
{
    if (self->watching) {
        eventfd_write(self->watch_end, 1);
        pthread_join(self->inotify, NULL);
    }
    if (self->inotify_fd >= 0) close(self->inotify_fd);
    if (self->watch_end >= 0) close(self->watch_end);
    weir_watchers_fini(&self->watchers);
}
