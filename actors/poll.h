/*  poll: reads a page of records across the shards of a bus, fairly: one request, one
    reply. Shards are read in parallel, and one that hangs costs the others only the
    timeout; what it answers later is for the next poll from the same place. A shard that
    took over vnodes is read beyond its fence only behind what the other has of them. Used
    by one thread; the store may answer in others.                                  */
#pragma once
#include "actors/cursor.h"
#include "runtime/filter.h"

typedef struct {
    weir_cursor cursor; // where to begin; lent; zeroed: at the start
    /*  Instead: behind what there is now, or at the first block that arrived then or
        later (-1: no). A shard that is slow or failed then has no place in the cursor,
        where it begins at its start; with limit 0 only the places are found.       */
    bool from_end;
    int64_t from_ms;
    uint32_t limit;         // most records: 1000; 0 to 10000
    size_t bytes;           // most bytes: 8 MB; one record always fits
    uint32_t scan;          // most records examined: 100000
    int64_t timeout_us;     // longest time until the answer: 1 s
    weir_filter *where;     // lent; NULL: none
    const uint32_t *shards; // ids, lent, repeats and unknown ones ignored; NULL: all
    size_t shard_count;
    bool by_time; // sorts the page by (timestamp, shard, offset)
} weir_poll_request;

extern const weir_poll_request weir_poll_defaults;

typedef struct {
    weir_record record; // points into its block; has_ts is always true
    weir_block *block;  // lent by the page
    uint32_t shard;
    weir_position at;         // at.a is its offset
    uint64_t epoch, sequence; // with nonce and shard its id
} weir_polled;

typedef struct {
    uint32_t shard;
    char text[256];
} weir_poll_trouble;

typedef struct {
    weir_polled *records; // owned, as all that follows
    size_t count;
    weir_cursor cursor; // behind it; weir_cursor_move gives it to the next request
    bool more;          // a position moved, and a shard that answered has more
    uint64_t examined;  // records
    uint64_t unknown;   // of them: passed because where could not be decided
    weir_poll_trouble *slow, *failed;
    size_t slow_count, failed_count;
    weir_gap *gaps;
    size_t gap_count;
    weir_block **blocks; // that the records lie in
    size_t block_count;
} weir_page;

typedef struct weir_poller weir_poller;

/*  Reads from the store (lent), whose records have this nonce. NULL: the process has no
    descriptor left; errno says why.                                                */
weir_poller *weir_poller_new(weir_store *store, uint64_t nonce);
/*  Waits for nobody: what a shard answers later is thrown away. All polls have ended. */
void weir_poller_destroy(weir_poller **self_p);

/*  Reads the text of a cursor (weir_cursor_put) of this bus, to begin behind it; the
    caller ends it. WEIR_EINVAL with a report: "bad_cursor: ", changed or of another bus.
 */
weir_err weir_poller_resume(const weir_poller *self, const char *text, size_t size,
                            weir_cursor *cursor, weir_report *report);

/*  Fills the page, at the latest when the timeout has come. Finding nothing it waits for
    a record until then; limit 0 returns at once. Blocks. Errors, with a report:
    WEIR_EINVAL (range, shards, a cursor of another bus), what the store's lists of shards
    and fences give. The page is to be ended in any case.                           */
weir_err weir_poller_poll(weir_poller *self, const weir_poll_request *request,
                          weir_page *page, weir_report *report);
void weir_page_fini(weir_page *self);

/* --- For those who wait for other things, too -------------------------------------- */

/*  A poll under way; several of one poller may be.                                 */
typedef struct weir_polling weir_polling;

/*  Begins one, which waits for nothing; the page, and all that the request points to, are
    lent until it ends. Errors as above; *self_p is NULL then. The page is to be ended in
    any case, after the poll.                                                       */
weir_err weir_polling_begin(weir_polling **self_p, weir_poller *poller,
                            const weir_poll_request *request, weir_page *page,
                            weir_report *report);

/*  Gets on as far as it does without waiting. True: the page is as filled as it gets, or
 *err says why not; only weir_polling_end is left.                               */
bool weir_polling_run(weir_polling *self, weir_err *err, weir_report *report);
void weir_polling_end(weir_polling **self_p);

/*  Whether it may get on, after weir_poller_receive or another poll's run; it does at its
    deadline.                                                                       */
bool weir_polling_is_ready(const weir_polling *self);
int64_t weir_polling_deadline(const weir_polling *self);

/*  Takes what has come for all polls. The descriptors are readable when there is
    something, and until this was called.                                           */
void weir_poller_receive(weir_poller *self);
void weir_poller_fds(const weir_poller *self, int fds[2]);
