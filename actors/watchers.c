#include "actors/watchers.h"
#include <stdlib.h>
#include <sys/eventfd.h>

void weir_watchers_add(weir_watchers *self, int fd)
{
    self->fds = realloc(self->fds, (self->count + 1) * sizeof *self->fds);
    if (!self->fds) abort();
    self->fds[self->count++] = fd;
}

void weir_watchers_remove(weir_watchers *self, int fd)
{
    for (size_t i = 0; i < self->count; i++) {
        if (self->fds[i] != fd) continue;
        self->fds[i] = self->fds[--self->count];
        return;
    }
}

void weir_watchers_tell(const weir_watchers *self)
{
    for (size_t i = 0; i < self->count; i++)
        eventfd_write(self->fds[i], 1);
}

void weir_watchers_fini(weir_watchers *self)
{
    free(self->fds);
    *self = (weir_watchers){0};
}
