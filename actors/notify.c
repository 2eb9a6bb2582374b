#include "actors/notify.h"
#include <errno.h>
#include <limits.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/*  Bytes of events that are read at once.                                     */
#define EVENT_BYTES (64 * 1024)

static const uint32_t names_mask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                   IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED |
                                   IN_UNMOUNT;

typedef struct {
    char *path; // owned
    int watch;  // -1: cannot be watched
} folder;

struct weir_notify {
    int fd;
    folder *folders; // two of them may be one folder with one watch
    size_t count;
};

weir_notify *weir_notify_new(void)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) return NULL;
    weir_notify *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->fd = fd;
    return self;
}

static void free_folders(folder *folders, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(folders[i].path);
    free(folders);
}

void weir_notify_destroy(weir_notify **self_p)
{
    weir_notify *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    free_folders(self->folders, self->count);
    close(self->fd);
    free(self);
}

int weir_notify_fd(const weir_notify *self)
{
    return self->fd;
}

static bool is_watched(const weir_notify *self, int watch)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->folders[i].watch == watch) return true;
    return false;
}

/*  Every folder is asked for again: another folder may have come to its name.  */
bool weir_notify_watch(weir_notify *self, const weir_paths *paths)
{
    folder *old = self->folders;
    size_t old_count = self->count;
    bool all = true;
    self->count = weir_paths_folders(paths);
    self->folders = calloc(self->count + 1, sizeof *self->folders);
    if (!self->folders) abort();
    for (size_t i = 0; i < self->count; i++) {
        const char *path = weir_paths_folder(paths, i);
        int watch = inotify_add_watch(self->fd, path,
                                      IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                                          IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF |
                                          IN_ONLYDIR);
        self->folders[i] = (folder){.path = strdup(path), .watch = watch};
        if (!self->folders[i].path) abort();
        all = all && watch >= 0;
    }
    for (size_t i = 0; i < old_count; i++)
        if (old[i].watch >= 0 && !is_watched(self, old[i].watch))
            inotify_rm_watch(self->fd, old[i].watch);
    free_folders(old, old_count);
    return all;
}

static void tell_written(const weir_notify *self, const struct inotify_event *event,
                         weir_notify_handler *written, void *arg)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < self->count; i++) {
        const folder *f = &self->folders[i];
        if (f->watch != event->wd) continue;
        const char *slash = !strcmp(f->path, "/") ? "" : "/";
        if (!strcmp(f->path, ".")) written(arg, event->name);
        int size = snprintf(path, sizeof path, "%s%s%s", f->path, slash, event->name);
        if (size < (int)sizeof path) written(arg, path);
    }
}

bool weir_notify_read(weir_notify *self, weir_notify_handler *written, void *arg)
{
    alignas(struct inotify_event) char bytes[EVENT_BYTES];
    ssize_t size = read(self->fd, bytes, sizeof bytes);
    bool names = size < 0 && errno != EAGAIN && errno != EINTR;
    for (ssize_t at = 0; at < size;) {
        const struct inotify_event *event = (const void *)(bytes + at);
        at += (ssize_t)(sizeof *event + event->len);
        if (event->mask & IN_Q_OVERFLOW) names = true;
        if ((event->mask & names_mask) && is_watched(self, event->wd)) names = true;
        if ((event->mask & IN_MODIFY) && event->len)
            tell_written(self, event, written, arg);
    }
    return names;
}
