/*  cat: `weir cat`: looks at the records that a bus has stored, and changes nothing. */
#include "lua/cat.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lua/bus.h"
#include "lua/from.h"
#include "lua/guard.h"
#include "lua/remote.h"
#include "lua/run.h"
#include "lua/state.h"
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
    {"--control", "ENDPOINT", "of a bus of a weir elsewhere: tcp://HOST:PORT"},
    {"--server", "NAME", "of --control or an endpoint: the name in its certificate"},
    {"--keys", "FOLDER",
     "of --control or an endpoint: where the keys are, instead of weir-keys"},
    {"--plaintext", NULL, "of an endpoint: tcp without encryption"},
    {"--timeout", "TIME", "of a bus: how long to wait for an answer; 3s unless told"},
    {NULL, NULL, NULL},
};

typedef struct {
    bool json, follow;
    uint64_t left; // records that may still be shown
    weir_cat_reader *reader;
    weir_filter *where;
    weir_from from;
    weir_cursor cursor; // behind what was shown
    bool begun;         // cursor says where to go on
    int signal_fd;
    weir_doc doc;
    weir_buffer output;
    weir_once once;
    uint64_t shown, unknown;
    bool incomplete; // a shard could not be read, or a damaged range was passed
    int write_errno; // why stdout cannot be written; 0: it can
} cat;

/* --- Records ----------------------------------------------------------------------- */

/*  A payload that no line can hold comes as a whole record.                        */
static void put_records(cat *self, const weir_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        const weir_polled *polled = &page->records[i];
        if (self->json ||
            weir_delivery_put_line(&self->output, &self->doc, &polled->record))
            weir_put_stored(&self->output, self->reader->nonce, polled);
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

static void tell_gap(const weir_gap *gap)
{
    weir_position first = weir_gap_end(gap), last = first;
    weir_buffer text = {0};
    if (gap->epoch)
        first.b = gap->first;
    else
        first.a = gap->first;
    weir_put_place(&text, first);
    weir_buffer_put_text(&text, " to ");
    weir_put_place(&text, last);
    fprintf(stderr, "weir: shard %" PRIu32 ": offsets %.*s %s\n", gap->shard,
            (int)text.size, (char *)text.data,
            gap->damaged ? "are damaged" : "were trimmed");
    weir_buffer_fini(&text);
}

static void tell(cat *self, const weir_page *page)
{
    tell_trouble(self, "does not answer", page->slow, page->slow_count);
    tell_trouble(self, "cannot be read", page->failed, page->failed_count);
    for (size_t i = 0; i < page->gap_count; i++) {
        tell_gap(&page->gaps[i]);
        self->incomplete = self->incomplete || page->gaps[i].damaged;
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

/*  Shows one page. *more: there is more now.                                         */
static weir_err show_page(cat *self, bool *more, weir_report *report)
{
    weir_page page;
    weir_poll_request request = next_request(self);
    weir_err err = self->reader->class->read(self->reader, &request, &page, report);
    if (!err) {
        put_records(self, &page);
        tell(self, &page);
        *more = page.more;
        weir_cursor_move(&self->cursor, &page.cursor);
        self->begun = true;
        if (!write_out(self)) err = WEIR_ESYS;
    }
    weir_page_fini(&page);
    return err;
}

/*  WEIR_ESTOP: a signal has come.                                                    */
static weir_err show_pages(cat *self, weir_report *report)
{
    bool more = true;
    weir_err err = WEIR_OK;
    while (!err && self->left && (more || self->follow)) {
        if (!more && !self->reader->class->wait(self->reader)) return WEIR_ESTOP;
        err = show_page(self, &more, report);
        if (!err && is_told_to_end(self)) err = WEIR_ESTOP;
    }
    return err;
}

/*  Where to go on is told after a failure, too.                                      */
static int run_cat(cat *self, weir_report *report)
{
    weir_err err = show_pages(self, report);
    bool failed = err && err != WEIR_ESTOP;
    if (self->write_errno == EPIPE) return WEIR_EXIT_OK;
    if (self->write_errno)
        weir_report_set(report, WEIR_ESYS, "stdout", "cannot write: %s",
                        strerror(self->write_errno));
    int code = failed ? weir_remote_print(report) : WEIR_EXIT_OK;
    if (self->write_errno || (failed && !self->begun)) return code;
    tell_end(self);
    return failed ? code : self->incomplete ? WEIR_EXIT_FAILED : WEIR_EXIT_OK;
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

static weir_err read_from(cat *self, const char *text, weir_report *report)
{
    if (!text) return WEIR_OK;
    weir_err err = weir_from_read(&self->from, text, self->reader->nonce,
                                  weir_clock_wall_ms(), report);
    if (err) snprintf(report->where, sizeof report->where, "--from");
    return err;
}

static void end(cat *self)
{
    if (self->reader) self->reader->class->close(&self->reader);
    weir_filter_destroy(&self->where);
    weir_from_fini(&self->from);
    weir_cursor_fini(&self->cursor);
    weir_doc_fini(&self->doc);
    weir_buffer_fini(&self->output);
    close(self->signal_fd);
}

typedef weir_err opener(weir_cat_reader **reader, const weir_command_line *line,
                        int signal_fd, weir_report *report);

static int show(const weir_command_line *line, opener *open)
{
    weir_report report = {0};
    cat self = {.json = weir_line_flag(line, "--json"),
                .follow = weir_line_flag(line, "--follow"),
                .signal_fd = weir_run_open_signals()};
    weir_err err = read_where(&self, weir_line_flag(line, "--where"), &report);
    if (!err) err = read_limit(&self, weir_line_flag(line, "--limit"), &report);
    if (!err) err = open(&self.reader, line, self.signal_fd, &report);
    if (!err) err = read_from(&self, weir_line_flag(line, "--from"), &report);
    int code = WEIR_EXIT_OK;
    if (!err)
        code = run_cat(&self, &report);
    else if (err != WEIR_ESTOP)
        code = weir_remote_print(&report);
    end(&self);
    return code;
}

static int show_folder(const weir_command_line *line)
{
    return show(line, weir_cat_open_folder);
}

static const weir_flag_place places[] = {
    {"--control", WEIR_OF_ELSEWHERE, "only of a bus: weir cat NAME/BUS"},
    {"--server", WEIR_OF_ELSEWHERE | WEIR_OF_ENDPOINT,
     "only with --control, or of an endpoint"},
    {"--keys", WEIR_OF_ELSEWHERE | WEIR_OF_ENDPOINT,
     "only with --control, or of an endpoint"},
    {"--plaintext", WEIR_OF_ENDPOINT, "only of an endpoint"},
    {"--timeout", WEIR_OF_BUS | WEIR_OF_ENDPOINT, "only of a bus that runs"},
    {NULL, 0, NULL},
};

static int place_of(const weir_command_line *line)
{
    const char *operand = weir_line_operand(line, 0);
    if (strstr(operand, "://")) return WEIR_OF_ENDPOINT;
    if (weir_line_flag(line, "--control")) return WEIR_OF_ELSEWHERE;
    return weir_state_is_file(operand) ? WEIR_OF_FOLDER : WEIR_OF_HERE;
}

/*  A folder that is there, or looks like one, is read here, by a child since what lies in
    it may be damaged. All else is a bus that runs.                                   */
int weir_cmd_cat(const weir_command_line *line)
{
    int what = place_of(line);
    if (weir_line_misplaced(line, places, what)) return WEIR_EXIT_CHECK;
    return what == WEIR_OF_FOLDER
               ? weir_guard(show_folder, line, weir_line_operand(line, 0))
               : show(line, weir_cat_open_bus);
}
