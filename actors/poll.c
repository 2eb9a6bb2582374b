#include "actors/poll.h"
#include "actors/late_reads.h"
#include "actors/poll_lane.h"
#include "actors/read_box.h"
#include "runtime/clock.h"
#include <assert.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*  Many records may not match, so with a filter a read brings at least so many.    */
#define FILTER_RECORDS 256
/*  A filter looks at what has come by the timeout, but not for longer than this, so that
    a poll gets on even when it has to wait for a shard until then.                 */
#define GRACE_US 20000
#define LIMIT_MAX 10000
#define TIMEOUT_MIN_US 1000
#define TIMEOUT_MAX_US 3600000000

const weir_poll_request weir_poll_defaults = {
    .from_ms = -1,
    .limit = 1000,
    .bytes = 8 << 20,
    .scan = 100000,
    .timeout_us = 1000000,
};

struct weir_poller {
    weir_store *store; // lent
    uint64_t nonce;
    weir_read_box *box;
    int news_fd;         // readable when records were stored
    weir_doc doc;        // scratch of filters
    uint64_t polls;      // tag of the reads of the last one
    weir_polling *first; // polls under way
    /*  Shards with a read of a poll that has ended still out: they get no other one
       before it comes, so that a shard that hangs does not gather them. */
    uint32_t *late;
    size_t late_count;
    weir_late_reads kept; // what came when nobody waited for it any more
};

/*  ROUND: shards are to be looked at. ANSWERS: reads are out. NEWS: nothing was found. */
typedef enum { ROUND, ANSWERS, NEWS, DONE } phase;

/*  One poll. A round gives each shard that has more its share of the places that are
    left: it reads, waits for all answers, and takes from each.                     */
typedef struct weir_polling {
    weir_polling *next;
    weir_poller *poller;
    weir_poll_request request; // all it points to is lent
    uint64_t tag;
    phase phase;
    bool news;    // something was stored since the shards were looked at
    bool ready;   // there is something to do
    bool is_late; // shards have come since it began
    weir_report *report;
    weir_fill fill;
    int64_t deadline_us;
    uint32_t *wanted;      // ids, sorted; NULL: all
    weir_poll_lane *lanes; // by shard
    size_t lane_count;
    size_t waiting; // lanes without answer
    weir_fence *fences;
    size_t fence_count;
    uint32_t begin, turn; // shards with which this and the next round begin
    weir_read question;   // bounds of this round's reads
} task;

/* --- Poller ------------------------------------------------------------------------ */

weir_poller *weir_poller_new(weir_store *store, uint64_t nonce)
{
    weir_poller *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->store = store;
    self->nonce = nonce;
    self->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->news_fd < 0) goto no_news;
    self->box = weir_read_box_new();
    if (!self->box) goto no_box;
    if (weir_clock_watch(weir_read_box_fd(self->box))) goto no_clock;
    store->class->watch(store, self->news_fd);
    return self;
no_clock:
    weir_read_box_destroy(&self->box);
no_box:
    close(self->news_fd);
no_news:
    free(self);
    return NULL;
}

weir_err weir_poller_resume(const weir_poller *self, const char *text, size_t size,
                            weir_cursor *cursor, weir_report *report)
{
    return weir_cursor_read(cursor, text, size, self->nonce, report);
}

void weir_poller_destroy(weir_poller **self_p)
{
    weir_poller *self = *self_p;
    if (!self) return;
    *self_p = NULL;
    assert(!self->first);
    self->store->class->unwatch(self->store, self->news_fd);
    close(self->news_fd);
    weir_clock_unwatch(weir_read_box_fd(self->box));
    weir_read_box_destroy(&self->box);
    weir_doc_fini(&self->doc);
    weir_late_reads_fini(&self->kept);
    free(self->late);
    free(self);
}

static bool is_late(const weir_poller *self, uint32_t shard)
{
    for (size_t i = 0; i < self->late_count; i++)
        if (self->late[i] == shard) return true;
    return false;
}

static void add_late(weir_poller *self, uint32_t shard)
{
    self->late = realloc(self->late, (self->late_count + 1) * sizeof *self->late);
    if (!self->late) abort();
    self->late[self->late_count++] = shard;
}

static void forget_late(weir_poller *self, uint32_t shard)
{
    size_t i = 0;
    while (i < self->late_count && self->late[i] != shard)
        i++;
    if (i < self->late_count) self->late[i] = self->late[--self->late_count];
}

/* --- Lanes ------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int by_shard(const void *a, const void *b)
{
    return by_id(&((const weir_poll_lane *)a)->shard,
                 &((const weir_poll_lane *)b)->shard);
}

/*  Index of the first lane whose shard is not below this one; behind the last: 0.  */
static size_t index_from(const task *self, uint32_t shard)
{
    size_t low = 0, high = self->lane_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->lanes[middle].shard < shard)
            low = middle + 1;
        else
            high = middle;
    }
    return low < self->lane_count ? low : 0;
}

static weir_poll_lane *find(const task *self, uint32_t shard)
{
    if (self->lane_count == 0) return NULL;
    weir_poll_lane *lane = &self->lanes[index_from(self, shard)];
    return lane->shard == shard ? lane : NULL;
}

/*  The i-th lane of the round. */
static weir_poll_lane *lane_at(const task *self, size_t i)
{
    return &self->lanes[(index_from(self, self->begin) + i) % self->lane_count];
}

static bool wants(const task *self, uint32_t shard)
{
    return !self->wanted ||
           bsearch(&shard, self->wanted, self->request.shard_count, sizeof shard, by_id);
}

static bool from_cursor(const weir_poll_request *request)
{
    return !request->from_end && request->from_ms < 0;
}

static weir_poll_lane lane_begin(const task *self, uint32_t shard, bool is_new)
{
    weir_poll_lane lane = {.shard = shard, .due = true, .barrier = weir_position_end()};
    if (from_cursor(&self->request))
        lane.at = weir_cursor_get(&self->request.cursor, shard);
    else if (!is_new)
        lane.since_ms = self->request.from_end ? INT64_MAX : self->request.from_ms;
    lane.began = lane.at;
    return lane;
}

/*  Adds lanes for the shards that have none yet. is_new: they have come during the poll,
    and so are behind its beginning as a whole.                                     */
static weir_err add_lanes(task *self, bool is_new)
{
    weir_store *store = self->poller->store;
    weir_store_shard *rows;
    size_t count, known = self->lane_count;
    weir_err err = store->class->shards(store, &rows, &count, self->report);
    if (err) return err;
    self->lanes = realloc(self->lanes, (known + count + 1) * sizeof *self->lanes);
    if (!self->lanes) abort();
    for (size_t i = 0; i < count; i++)
        if (wants(self, rows[i].shard) && !find(self, rows[i].shard))
            self->lanes[known++] = lane_begin(self, rows[i].shard, is_new);
    self->lane_count = known;
    qsort(self->lanes, known, sizeof *self->lanes, by_shard);
    free(rows);
    return WEIR_OK;
}

/* --- Fences ------------------------------------------------------------------------ */

static int by_place(const void *a, const void *b)
{
    const weir_fence *x = a, *y = b;
    if (x->to != y->to) return x->to < y->to ? -1 : 1;
    int order = weir_position_order(x->first, y->first);
    if (order) return order;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return weir_position_order(x->last, y->last);
}

/*  A store may have them in order already.                                         */
static void sort_fences(weir_fence *list, size_t count)
{
    size_t i = 1;
    while (i < count && by_place(&list[i - 1], &list[i]) <= 0)
        i++;
    if (i < count) qsort(list, count, sizeof *list, by_place);
}

static bool are_known(const task *self, const weir_fence *list, size_t count)
{
    bool are = count == self->fence_count;
    for (size_t i = 0; i < count && are; i++)
        are = by_place(&list[i], &self->fences[i]) == 0;
    return are;
}

/*  Takes the list, with those of before that have gone meanwhile.                  */
static void add_fences(task *self, weir_fence *list, size_t count)
{
    size_t listed = count;
    list = realloc(list, (count + self->fence_count + 1) * sizeof *list);
    if (!list) abort();
    for (size_t i = 0; i < self->fence_count; i++)
        if (!bsearch(&self->fences[i], list, listed, sizeof *list, by_place))
            list[count++] = self->fences[i];
    sort_fences(list, count);
    free(self->fences);
    self->fences = list;
    self->fence_count = count;
}

/*  A fence is stored with the first batch behind it: what a read has brought from behind
    a fence, a list made afterwards tells. It goes with the last record that it waits for:
    so does a list made before, when a read has brought that.                       */
static weir_err load_fences(task *self)
{
    weir_store *store = self->poller->store;
    weir_fence *list = NULL;
    size_t count;
    if (self->lane_count < 2) return WEIR_OK;
    weir_err err = store->class->fences(store, &list, &count, self->report);
    if (!err) sort_fences(list, count);
    if (err || are_known(self, list, count))
        free(list);
    else
        add_fences(self, list, count);
    return err;
}

static bool reaches(weir_position at, const weir_fence *fence)
{
    return weir_position_order(at, fence->last) >= 0;
}

/*  Whether `from` still has records before the fence. If it had none left when it was
    asked before the fence was there, it is asked again; if it has none then, none will
    come.                                                                           */
static bool stands(weir_poll_lane *from, const weir_fence *fence)
{
    if (reaches(from->at, fence) || reaches(from->dry, fence)) return false;
    if (!from->answer && !from->more && !from->due) {
        if (reaches(from->asking, fence)) {
            from->dry = fence->last;
            return false;
        }
        from->asking = fence->last;
        from->due = true;
    }
    return true;
}

/*  Who has not told whether it has more is asked all the same: it has brought nothing. */
static void set_barriers(task *self)
{
    for (size_t i = 0; i < self->lane_count; i++)
        self->lanes[i].barrier = weir_position_end();
    for (size_t i = 0; i < self->fence_count; i++) {
        const weir_fence *fence = &self->fences[i];
        weir_poll_lane *to = find(self, fence->to), *from = find(self, fence->from);
        if (!to || !from || !to->answered ||
            weir_position_order(fence->first, to->barrier) >= 0)
            continue;
        if (weir_position_order(fence->first, to->at) > 0 && stands(from, fence))
            to->barrier = fence->first;
    }
}

/*  What cannot be read is passed up to a fence, and so others may open.             */
static void apply_fences(task *self)
{
    bool moved = true;
    while (moved) {
        set_barriers(self);
        moved = false;
        for (size_t i = 0; i < self->lane_count; i++)
            moved |= weir_poll_lane_pass(&self->lanes[i], self->fill.page);
    }
}

/* --- Reads ------------------------------------------------------------------------- */

static bool is_over(const task *self)
{
    return weir_clock_now_us() >= self->deadline_us;
}

static void send(task *self, weir_poll_lane *lane)
{
    weir_read *question = &self->question;
    lane->asked = true;
    question->shard = lane->shard;
    question->after = lane->at;
    question->since_ms = lane->since_ms;
    weir_read_box_ask(self->poller->box, self->poller->store, question, self->tag);
}

/*  An answer to an earlier poll is of use when it begins where we do; if none were, a
    timeout shorter than a read takes would never get on.                           */
static bool is_of_use(const weir_poll_lane *lane, const weir_read *read)
{
    return read && !read->err && weir_position_equal(read->after, lane->at) &&
           read->since_ms == lane->since_ms;
}

/*  What has come since it was made is asked for later.                             */
static void answer_late(task *self, weir_poll_lane *lane, weir_read **read_p)
{
    self->ready = true;
    weir_poll_lane_answer(lane, &self->fill, read_p);
    lane->due = true;
}

static bool has_kept(task *self, weir_poll_lane *lane)
{
    weir_read *read = weir_late_reads_take(&self->poller->kept, lane->shard, lane->at,
                                           lane->since_ms, weir_clock_now_us());
    if (!read) return false;
    answer_late(self, lane, &read);
    return true;
}

static void ask(task *self, weir_poll_lane *lane)
{
    if (has_kept(self, lane)) return;
    lane->waiting = true;
    lane->asked = false;
    self->waiting++;
    if (!is_late(self->poller, lane->shard)) send(self, lane);
}

/*  At first all shards are asked, since each has to tell whether it has more.      */
static bool has_to_ask(const weir_poll_lane *lane)
{
    return !lane->answer && weir_poll_lane_ready(lane) &&
           (lane->places || !lane->answered);
}

static uint32_t at_least_1(size_t n)
{
    return n ? (uint32_t)n : 1;
}

static void ask_all(task *self)
{
    size_t count = 0;
    uint32_t places = 1;
    for (size_t i = 0; i < self->lane_count; i++) {
        const weir_poll_lane *lane = &self->lanes[i];
        count += has_to_ask(lane);
        if (lane->places > places) places = lane->places;
    }
    if (count == 0) return;
    uint32_t scan = at_least_1(self->fill.scan / count);
    if (self->fill.where && places < FILTER_RECORDS) places = FILTER_RECORDS;
    self->question.max_records = places < scan ? places : scan;
    self->question.max_bytes = self->fill.bytes / count + 1;
    for (size_t i = 0; i < self->lane_count; i++)
        if (has_to_ask(&self->lanes[i])) ask(self, &self->lanes[i]);
}

static task *find_task(const weir_poller *self, uint64_t tag)
{
    task *one = self->first;
    while (one && one->tag != tag)
        one = one->next;
    return one;
}

/*  The answer to a poll that has ended: whoever waits for that shard takes it, or may ask
    now. When nobody does it is kept.                                               */
static void take_late(weir_poller *self, weir_read **read_p)
{
    uint32_t shard = (*read_p)->shard;
    forget_late(self, shard);
    for (task *one = self->first; one; one = one->next) {
        weir_poll_lane *lane = find(one, shard);
        if (!lane || !lane->waiting || lane->asked || lane->slow) continue;
        if (is_of_use(lane, *read_p)) {
            one->waiting--;
            answer_late(one, lane, read_p);
        } else if (!is_over(one) && !is_late(self, shard)) {
            send(one, lane);
        }
    }
    if (*read_p) weir_late_reads_add(&self->kept, read_p, weir_clock_now_us());
}

static void take_answer(task *self, weir_read **read_p)
{
    weir_poll_lane *lane = find(self, (*read_p)->shard);
    if (lane->slow) { // it was given up
        lane->waiting = false;
        weir_late_reads_add(&self->poller->kept, read_p, weir_clock_now_us());
        return;
    }
    self->waiting--;
    self->ready = true;
    weir_poll_lane_answer(lane, &self->fill, read_p);
}

void weir_poller_receive(weir_poller *self)
{
    uint64_t tag;
    eventfd_t count;
    bool news = eventfd_read(self->news_fd, &count) == 0;
    for (task *one = self->first; news && one; one = one->next)
        one->news = one->ready = true;
    for (weir_read *read; (read = weir_read_box_next(self->box, &tag));) {
        task *one = find_task(self, tag);
        if (one)
            take_answer(one, &read);
        else
            take_late(self, &read);
    }
}

/*  What has not answered by now keeps its place.                                   */
static void give_up_slow(task *self)
{
    for (size_t i = 0; self->waiting && i < self->lane_count; i++) {
        weir_poll_lane *lane = &self->lanes[i];
        if (!lane->waiting) continue;
        weir_poll_lane_is_slow(lane, self->fill.page, self->request.timeout_us);
        self->waiting--;
    }
}

/* --- Rounds ------------------------------------------------------------------------ */

/*  When time is over only what has come already is given.                          */
static bool has_turn(const weir_poll_lane *lane, bool over)
{
    return weir_poll_lane_ready(lane) && (lane->answer || !over);
}

/*  Gives out the places; false: no shard has more. When there are fewer places than
    shards the next round begins behind the last one that got some.                 */
static bool share_places(task *self, bool over)
{
    size_t ready = 0;
    for (size_t i = 0; i < self->lane_count; i++)
        ready += has_turn(&self->lanes[i], over);
    if (ready == 0) return false;
    uint32_t share = at_least_1(self->fill.room / ready);
    size_t left = self->fill.room < ready ? self->fill.room : ready;
    self->begin = self->turn;
    for (size_t i = 0; i < self->lane_count; i++) {
        weir_poll_lane *lane = lane_at(self, i);
        lane->places = left && has_turn(lane, over) ? share : 0;
        if (!lane->places) continue;
        left--;
        self->turn = lane->shard + 1;
    }
    return true;
}

/*  The shards are read, unless none has more or time is over: then only what has come is
    taken. News that come from here on are another round's, so none is missed.      */
static void ask_round(task *self, bool over)
{
    bool found = self->fill.page->count || weir_fill_ended(&self->fill);
    apply_fences(self);
    if (share_places(self, over)) {
        if (!over) ask_all(self);
        self->phase = ANSWERS;
    } else {
        self->phase = found || is_over(self) ? DONE : NEWS;
    }
}

static weir_err begin_round(task *self)
{
    self->news = false;
    weir_err err = add_lanes(self, self->is_late);
    if (!err) err = load_fences(self);
    if (err) return err;
    for (size_t i = 0; self->is_late && i < self->lane_count; i++)
        self->lanes[i].due = true;
    self->is_late = true;
    ask_round(self, false);
    return WEIR_OK;
}

/*  All have answered, or time is over.                                             */
static weir_err end_round(task *self)
{
    give_up_slow(self);
    weir_err err = load_fences(self);
    if (err) return err;
    apply_fences(self);
    for (size_t i = 0; i < self->lane_count; i++)
        weir_poll_lane_take(lane_at(self, i), &self->fill);
    if (weir_fill_ended(&self->fill))
        self->phase = DONE;
    else
        ask_round(self, is_over(self));
    return WEIR_OK;
}

/*  Gets on until it has to wait.                                                   */
static weir_err get_on(task *self)
{
    weir_err err = WEIR_OK;
    while (!err && self->phase != DONE) {
        /*  Not before it has asked: a late answer may be of use to it then.        */
        if (self->phase != ROUND) weir_poller_receive(self->poller);
        if (self->phase == ROUND || (self->phase == NEWS && self->news)) {
            err = begin_round(self);
        } else if (self->phase == NEWS) {
            if (!is_over(self)) break;
            self->phase = DONE;
        } else {
            if (self->waiting && !is_over(self)) break;
            err = end_round(self);
        }
    }
    return err;
}

/* --- Poll -------------------------------------------------------------------------- */

static weir_err check(const weir_poller *self, const weir_poll_request *request,
                      weir_report *report)
{
    if (request->limit > LIMIT_MAX)
        return weir_report_set(report, WEIR_EINVAL, NULL, "limit must be 0 to %d",
                               LIMIT_MAX);
    if (request->bytes == 0 || request->scan == 0)
        return weir_report_set(report, WEIR_EINVAL, NULL, "%s must be above 0",
                               request->bytes ? "scan" : "bytes");
    if (request->timeout_us < TIMEOUT_MIN_US || request->timeout_us > TIMEOUT_MAX_US)
        return weir_report_set(report, WEIR_EINVAL, NULL, "timeout must be 1ms to 1h");
    if (request->shards && request->shard_count == 0)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "shards names none: leave it out to read all");
    if (request->from_end && request->from_ms >= 0)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "begin either at the end or at a time");
    if (request->cursor.nonce && request->cursor.nonce != self->nonce)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "bad_cursor: it belongs to another bus");
    return WEIR_OK;
}

static uint32_t *sort_wanted(const weir_poll_request *request)
{
    if (!request->shards) return NULL;
    size_t bytes = request->shard_count * sizeof *request->shards;
    uint32_t *wanted = malloc(bytes);
    if (!wanted) abort();
    memcpy(wanted, request->shards, bytes);
    qsort(wanted, request->shard_count, sizeof *wanted, by_id);
    return wanted;
}

/*  The page's cursor is the request's, and the places to which the lanes have come. */
static void write_cursor(const task *self, bool moved)
{
    weir_cursor *cursor = &self->fill.page->cursor;
    const weir_cursor *before = &self->request.cursor;
    cursor->nonce = self->poller->nonce;
    cursor->first = before->first;
    for (size_t i = 0; from_cursor(&self->request) && i < before->count; i++)
        weir_cursor_set(cursor, before->marks[i].shard, before->marks[i].at);
    for (size_t i = 0; i < self->lane_count; i++) {
        const weir_poll_lane *lane = &self->lanes[i];
        if (lane->at.a || lane->at.b) weir_cursor_set(cursor, lane->shard, lane->at);
    }
    if (!moved) return;
    size_t next = index_from(self, before->first) + 1;
    cursor->first = self->lanes[next % self->lane_count].shard;
}

static int by_time(const void *a, const void *b)
{
    const weir_polled *x = a, *y = b;
    int64_t x_ms = x->record.ts_ms, y_ms = y->record.ts_ms;
    if (x_ms != y_ms) return x_ms < y_ms ? -1 : 1;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    if (x->at.a != y->at.a) return x->at.a < y->at.a ? -1 : 1;
    return (x->at.b > y->at.b) - (x->at.b < y->at.b);
}

static void finish(task *self)
{
    weir_page *page = self->fill.page;
    bool moved = false, more = false;
    for (size_t i = 0; i < self->lane_count; i++) {
        weir_poll_lane *lane = &self->lanes[i];
        moved |= !weir_position_equal(lane->at, lane->began);
        more |= lane->answered && !lane->slow && !lane->failed &&
                (lane->answer || lane->more);
    }
    page->more = moved && more;
    write_cursor(self, moved);
    if (self->request.by_time && page->count)
        qsort(page->records, page->count, sizeof *page->records, by_time);
}

static bool reads_nothing(const weir_poll_request *request)
{
    return request->limit == 0 && from_cursor(request);
}

weir_err weir_polling_begin(weir_polling **self_p, weir_poller *poller,
                            const weir_poll_request *request, weir_page *page,
                            weir_report *report)
{
    *self_p = NULL;
    *page = (weir_page){0};
    weir_err err = check(poller, request, report);
    if (err) return err;
    int64_t deadline_us = weir_clock_now_us() + request->timeout_us;
    task one = {
        .next = poller->first,
        .poller = poller,
        .request = *request,
        .tag = ++poller->polls,
        .phase = reads_nothing(request) ? DONE : ROUND,
        .ready = true,
        .fill = {.page = page,
                 .where = request->where,
                 .doc = &poller->doc,
                 .nonce = poller->nonce,
                 .room = request->limit,
                 .scan = request->scan,
                 .bytes = request->bytes,
                 .stop_us = deadline_us + GRACE_US},
        .deadline_us = deadline_us,
        .turn = request->cursor.first,
        .wanted = sort_wanted(request),
    };
    *self_p = malloc(sizeof one);
    if (!*self_p) abort();
    memcpy(*self_p, &one, sizeof one);
    poller->first = *self_p;
    return WEIR_OK;
}

bool weir_polling_run(weir_polling *self, weir_err *err, weir_report *report)
{
    self->ready = false;
    self->report = report;
    *err = get_on(self);
    if (!*err && self->phase != DONE) return false;
    finish(self);
    return true;
}

bool weir_polling_is_ready(const weir_polling *self)
{
    return self->ready || is_over(self);
}

int64_t weir_polling_deadline(const weir_polling *self)
{
    return self->deadline_us;
}

void weir_polling_end(weir_polling **self_p)
{
    weir_polling *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (size_t i = 0; i < self->lane_count; i++) {
        weir_poll_lane *lane = &self->lanes[i];
        if (lane->waiting && lane->asked) add_late(self->poller, lane->shard);
        weir_read_destroy(&lane->answer);
    }
    weir_polling **at = &self->poller->first;
    while (*at != self)
        at = &(*at)->next;
    *at = self->next;
    free(self->lanes);
    free(self->fences);
    free(self->wanted);
    free(self);
}

void weir_poller_fds(const weir_poller *self, int fds[2])
{
    fds[0] = weir_read_box_fd(self->box);
    fds[1] = self->news_fd;
}

/*  Sleeps until there may be something, or time is over.                           */
static void wait(const weir_poller *self, int64_t deadline_us)
{
    int fds[2];
    weir_poller_fds(self, fds);
    struct pollfd items[] = {{.fd = fds[0], .events = POLLIN},
                             {.fd = fds[1], .events = POLLIN}};
    poll(items, 2, weir_clock_timeout_ms(deadline_us));
}

weir_err weir_poller_poll(weir_poller *self, const weir_poll_request *request,
                          weir_page *page, weir_report *report)
{
    weir_polling *one;
    weir_err err = weir_polling_begin(&one, self, request, page, report);
    if (err) return err;
    while (!weir_polling_run(one, &err, report))
        wait(self, weir_polling_deadline(one));
    weir_polling_end(&one);
    return err;
}
