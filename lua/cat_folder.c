/*  cat_folder: looks at a disk store in its folder, of a running bus, too. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "actors/store_disk.h"
#include "lua/bus.h"
#include "lua/cat.h"

typedef struct {
    weir_cat_reader base;
    weir_store *store;
    weir_poller *poller;
    int event_fd; // readable when records were stored
} folder_reader;

static weir_err read_page(weir_cat_reader *base, const weir_poll_request *request,
                          weir_page *page, weir_report *report)
{
    folder_reader *self = (folder_reader *)base;
    return weir_poller_poll(self->poller, request, page, report);
}

static bool wait_for_more(weir_cat_reader *base)
{
    folder_reader *self = (folder_reader *)base;
    struct pollfd fds[] = {{.fd = self->event_fd, .events = POLLIN},
                           {.fd = base->signal_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        continue;
    if (fds[0].revents) eventfd_read(self->event_fd, &(eventfd_t){0});
    return !fds[1].revents;
}

static void close_reader(weir_cat_reader **self_p)
{
    folder_reader *self = (folder_reader *)*self_p;
    *self_p = NULL;
    weir_poller_destroy(&self->poller);
    if (self->store) {
        self->store->class->unwatch(self->store, self->event_fd);
        self->store->class->close(&self->store);
    }
    close(self->event_fd);
    free(self);
}

static const weir_cat_class class = {
    .read = read_page,
    .wait = wait_for_more,
    .close = close_reader,
};

weir_err weir_cat_open_folder(weir_cat_reader **self_p, const weir_command_line *line,
                              int signal_fd, weir_report *report)
{
    const char *folder = weir_line_operand(line, 0);
    folder_reader *self = calloc(1, sizeof *self);
    if (!self) abort();
    *self_p = &self->base;
    self->base = (weir_cat_reader){.class = &class, .signal_fd = signal_fd};
    self->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    weir_err err = weir_bus_check_folder(folder, report);
    if (!err) err = weir_bus_nonce(folder, &self->base.nonce, report);
    if (!err) err = weir_disk_open_readonly(&self->store, folder, report);
    if (err) return err;
    self->poller = weir_poller_new(self->store, self->base.nonce);
    self->store->class->watch(self->store, self->event_fd);
    return WEIR_OK;
}
