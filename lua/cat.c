/*  cat: `weir cat`: looks at the records that a bus has stored, and changes nothing. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "actors/poll.h"
#include "actors/store_disk.h"
#include "lua/bus.h"
#include "lua/from.h"
#include "lua/guard.h"
#include "lua/remote.h"
#include "lua/run.h"
#include "lua/stored.h"
#include "runtime/clock.h"
#include "runtime/delivery.h"
#include "runtime/files.h"
#include "runtime/once.h"

const weir_flag weir_cat_flags[] = {
    {"--from", "POSITION", "start (the default), end, a time, or a cursor"},
    {"--where", "EXPRESSION", "which records to show: 'status >= 500'"},
    {"--limit", "N", "end after so many records"},
    {"--follow", NULL, "wait for more at the end, until ^C"},
    {"--json", NULL, "whole records: shard, offset, id, ts, key, headers, payload"},
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

typedef struct {
    bool json, follow;
    uint64_t left; // records that may still be shown
    weir_store *store;
    uint64_t nonce;
    weir_poller *poller;
    weir_filter *where;
    weir_from from;
    weir_cursor cursor; // behind what was shown
    bool begun;         // cursor says where to go on
    int event_fd, signal_fd;
    weir_doc doc;
    weir_buffer output;
    weir_once once;
    uint64_t shown, unknown;
    bool incomplete; // a shard could not be read, or a damaged range was passed
    int write_errno; // why stdout cannot be written
} cat;

/* --- Records ----------------------------------------------------------------------- */

static void put_object(cat *self, const weir_polled *polled)
{
    const weir_place place = {.nonce = self->nonce,
                              .epoch = polled->epoch,
                              .sequence = polled->sequence,
                              .offset = polled->at.a,
                              .shard = polled->shard};
    weir_put_stored(&self->output, &place, &polled->record);
}

/*  A payload that no line can hold comes as a whole record.                        */
static void put_records(cat *self, const weir_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        const weir_polled *polled = &page->records[i];
        if (self->json ||
            weir_delivery_put_line(&self->output, &self->doc, &polled->record))
            put_object(self, polled);
    }
    self->shown += page->count;
    self->left -= page->count;
}

/*  False: nobody reads it any more, or it cannot be written.                       */
static bool write_out(cat *self)
{
    if (weir_write_all(STDOUT_FILENO, self->output.data, self->output.size))
        return self->write_errno = errno, false;
    self->output.size = 0;
    return true;
}

/* --- What is told beside ----------------------------------------------------------- */

static void tell_trouble(cat *self, const char *what, const weir_poll_trouble *list,
                         size_t count)
{
    char shard[16];
    for (size_t i = 0; i < count; i++) {
        self->incomplete = true;
        snprintf(shard, sizeof shard, "%" PRIu32, list[i].shard);
        if (weir_once_says(&self->once, shard, list[i].text))
            fprintf(stderr, "weir: shard %s %s: %s\n", shard, what, list[i].text);
    }
}

static void tell(cat *self, const weir_page *page)
{
    tell_trouble(self, "does not answer", page->slow, page->slow_count);
    tell_trouble(self, "cannot be read", page->failed, page->failed_count);
    for (size_t i = 0; i < page->gap_count; i++) {
        const weir_gap *gap = &page->gaps[i];
        fprintf(stderr,
                "weir: shard %" PRIu32 ": offsets %" PRIu64 " to %" PRIu64 " %s\n",
                gap->shard, gap->first, gap->last,
                gap->damaged ? "are damaged" : "were trimmed");
        self->incomplete = self->incomplete || gap->damaged;
    }
    self->unknown += page->unknown;
}

static void tell_end(const cat *self)
{
    weir_buffer text = {0};
    weir_cursor_put(&self->cursor, &text);
    fprintf(stderr, "weir: %" PRIu64 " record%s shown", self->shown,
            self->shown == 1 ? "" : "s");
    if (self->unknown)
        fprintf(stderr, ", %" PRIu64 " passed that --where could not decide",
                self->unknown);
    fprintf(stderr, "; what follows: --from %.*s\n", (int)text.size, (char *)text.data);
    weir_buffer_fini(&text);
}

/* --- Reading ----------------------------------------------------------------------- */

static weir_poll_request next_request(const cat *self)
{
    weir_poll_request request = weir_poll_defaults;
    request.where = self->where;
    request.cursor = self->begun ? self->cursor : self->from.cursor;
    if (self->left < request.limit) request.limit = (uint32_t)self->left;
    if (self->begun) return request;
    request.from_end = self->from.kind == WEIR_FROM_END;
    if (request.from_end) request.limit = 0; // only where that is
    if (self->from.kind == WEIR_FROM_TIME) request.from_ms = self->from.ms;
    return request;
}

static bool is_told_to_end(const cat *self)
{
    return poll(&(struct pollfd){.fd = self->signal_fd, .events = POLLIN}, 1, 0) > 0;
}

/*  Until there are new records; false: it was told to end.                         */
static bool wait_for_more(const cat *self)
{
    struct pollfd fds[] = {{.fd = self->event_fd, .events = POLLIN},
                           {.fd = self->signal_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        continue;
    if (fds[0].revents) eventfd_read(self->event_fd, &(eventfd_t){0});
    return !fds[1].revents;
}

/*  One page. *more: there is more now. WEIR_ESTOP: stdout cannot be written.         */
static weir_err show_page(cat *self, bool *more, weir_report *report)
{
    weir_page page;
    weir_poll_request request = next_request(self);
    weir_err err = weir_poller_poll(self->poller, &request, &page, report);
    if (!err) {
        put_records(self, &page);
        tell(self, &page);
        *more = page.more;
        weir_cursor_move(&self->cursor, &page.cursor);
        self->begun = true;
        if (!write_out(self)) err = WEIR_ESTOP;
    }
    weir_page_fini(&page);
    return err;
}

static int run_cat(cat *self, weir_report *report)
{
    bool more = true, told = false;
    weir_err err = WEIR_OK;
    while (!err && !told && self->left && (more || self->follow)) {
        if (!more && !wait_for_more(self)) break;
        err = show_page(self, &more, report);
        told = is_told_to_end(self);
    }
    if (err == WEIR_ESTOP && self->write_errno == EPIPE) return WEIR_EXIT_OK;
    if (err == WEIR_ESTOP)
        weir_report_set(report, WEIR_ESYS, "stdout", "cannot write: %s",
                        strerror(self->write_errno));
    if (err) return weir_remote_print(report);
    tell_end(self);
    return self->incomplete ? WEIR_EXIT_FAILED : WEIR_EXIT_OK;
}

/* --- Command ----------------------------------------------------------------------- */

static weir_err read_where(cat *self, const char *text, weir_report *report)
{
    size_t column;
    if (!text || weir_filter_new(&self->where, text, &column, report) == WEIR_OK)
        return WEIR_OK;
    snprintf(report->where, sizeof report->where, "--where, column %zu", column);
    return WEIR_EINVAL;
}

static weir_err read_limit(cat *self, const char *text, weir_report *report)
{
    char *end = "";
    self->left = text ? strtoull(text, &end, 10) : UINT64_MAX;
    if (!text || (self->left && !*end && *text >= '0' && *text <= '9')) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, "--limit",
                           "expected a number of records, at least 1");
}

static weir_err open_store(cat *self, const weir_command_line *line, weir_report *report)
{
    char folder[PATH_MAX];
    const char *from = weir_line_flag(line, "--from");
    weir_err err = weir_bus_find(line, weir_line_operand(line, 0), folder, report);
    if (!err) err = weir_bus_nonce(folder, &self->nonce, report);
    if (!err && from) {
        err =
            weir_from_read(&self->from, from, self->nonce, weir_clock_wall_ms(), report);
        if (err) snprintf(report->where, sizeof report->where, "--from");
    }
    if (!err) err = weir_disk_open_readonly(&self->store, folder, report);
    if (err) return err;
    self->poller = weir_poller_new(self->store, self->nonce);
    self->store->class->watch(self->store, self->event_fd);
    return WEIR_OK;
}

static void end(cat *self)
{
    weir_poller_destroy(&self->poller);
    if (self->store) {
        self->store->class->unwatch(self->store, self->event_fd);
        self->store->class->close(&self->store);
    }
    weir_filter_destroy(&self->where);
    weir_from_fini(&self->from);
    weir_cursor_fini(&self->cursor);
    weir_doc_fini(&self->doc);
    weir_buffer_fini(&self->output);
    close(self->event_fd);
    close(self->signal_fd);
}

static int show(const weir_command_line *line)
{
    weir_report report = {0};
    cat self = {.json = weir_line_flag(line, "--json"),
                .follow = weir_line_flag(line, "--follow"),
                .signal_fd = weir_run_open_signals(),
                .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    weir_err err = read_where(&self, weir_line_flag(line, "--where"), &report);
    if (!err) err = read_limit(&self, weir_line_flag(line, "--limit"), &report);
    if (!err) err = open_store(&self, line, &report);
    int code = err ? weir_remote_print(&report) : run_cat(&self, &report);
    end(&self);
    return code;
}

int weir_cmd_cat(const weir_command_line *line)
{
    return weir_guard(show, line, weir_line_operand(line, 0));
}
