/*  cat_bus: looks at a bus by its endpoint: whatever its store is, here or elsewhere. */
#include <stdlib.h>
#include "actors/bus_page.h"
#include "lua/bus_ask.h"
#include "lua/cat.h"

static const int64_t answer_us = 15000000; // beyond a poll's own time: it is gone
static const uint64_t follow_ms = 5000;    // a poll that may wait for records

typedef struct {
    weir_cat_reader base;
    weir_bus_ask ask;
    const char *where; // NULL: none
    bool waits;        // the next poll may wait for records
    bool is_slow;      // a shard hung when it was last asked: the others must not wait
} bus_reader;

/*  At a cursor once there is one, since the server's own defaults serve otherwise. */
static weir_bus_poll poll_of(const bus_reader *self, const weir_poll_request *request,
                             weir_buffer *cursor)
{
    weir_bus_poll poll = {.where = self->where, .limit = request->limit};
    poll.timeout_ms = (uint64_t)request->timeout_us / 1000;
    if (self->waits && !self->is_slow) poll.timeout_ms = follow_ms;
    if (request->from_end) {
        poll.from = "end";
    } else if (request->from_ms >= 0) {
        poll.from_ms = request->from_ms;
    } else if (request->cursor.count == 0) {
        poll.from = "start";
    } else {
        weir_cursor_put(&request->cursor, cursor);
        weir_buffer_put_byte(cursor, 0);
        poll.cursor = (const char *)cursor->data;
    }
    return poll;
}

static weir_err read_page(weir_cat_reader *base, const weir_poll_request *request,
                          weir_page *page, weir_report *report)
{
    bus_reader *self = (bus_reader *)base;
    weir_buffer cursor = {0};
    weir_bus_answer answer;
    weir_bus_poll poll = poll_of(self, request, &cursor);
    uint64_t id = weir_bus_client_poll(self->ask.client, &poll);
    weir_buffer_fini(&cursor);
    self->waits = false;
    *page = (weir_page){0};
    weir_err err = weir_bus_ask_wait(
        &self->ask, id, answer_us + (int64_t)poll.timeout_ms * 1000, &answer, report);
    if (err) return err;
    if (!weir_bus_answer_is(&answer, "ok"))
        return weir_bus_ask_refused(&self->ask, &answer, report);
    err = weir_bus_page_read(page, &answer, base->nonce);
    self->is_slow = page->slow_count > 0;
    if (!err) return WEIR_OK;
    return weir_report_set(report, WEIR_EMALFORMED, self->ask.target,
                           "its answer makes no sense: is it the endpoint of a bus?");
}

/*  The waiting is done by the bus, in the next poll. */
static bool wait_for_more(weir_cat_reader *base)
{
    ((bus_reader *)base)->waits = true;
    return true;
}

static void close_reader(weir_cat_reader **self_p)
{
    bus_reader *self = (bus_reader *)*self_p;
    *self_p = NULL;
    weir_bus_ask_close(&self->ask);
    free(self);
}

static const weir_cat_class class = {
    .read = read_page,
    .wait = wait_for_more,
    .close = close_reader,
};

weir_err weir_cat_open_bus(weir_cat_reader **self_p, const weir_command_line *line,
                           int signal_fd, weir_report *report)
{
    bus_reader *self = calloc(1, sizeof *self);
    if (!self) abort();
    *self_p = &self->base;
    self->base = (weir_cat_reader){.class = &class, .signal_fd = signal_fd};
    self->ask.signal_fd = signal_fd;
    self->ask.until_us = -1;
    self->where = weir_line_flag(line, "--where");
    weir_err err = weir_bus_ask_open(&self->ask, line, report);
    if (!err) err = weir_bus_ask_hello(&self->ask, report);
    self->base.nonce = self->ask.nonce;
    return err;
}
