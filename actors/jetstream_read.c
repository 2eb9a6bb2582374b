/*  A read, step by step; each step is a question whose answer makes the next one.

        waiting --> creating a consumer --> fetching --> answered
             |                                ^    |        ^
             |---- one is idle there ---------'    |        |
             |                                ^    v        |
             '---- and was at the end --> asking what the stream has

    How much a consumer says to be pending is a hint only (2.9): too little while what was
    stored is not counted yet, too much once messages that it had not given were trimmed.
    That there is no more is said after the stream itself has ended the request, not after
    a page that is full; a request for what is not there has no answer before it expires,
    though. So where the end may be the stream is asked first, and also after a request
    that has brought nothing: which sequences are gone is its word alone. A consumer whose
    count was too high is not used again.

    In a cluster a consumer may read a replica that has not yet all that was acknowledged:
    there the end is where the stream's leader says that it is. Messages that are lost on
    the way between servers are told by the numbers of those behind them, and are read
    again: they are no gap.

    Every request for messages ends with as many as were asked for, with a status, or,
    without a word (2.9), with as many bytes as were asked for; otherwise its consumer is
    not used again, since it might be further than its messages tell. One that was made
   while its stream was, may never say anything (2.9): then another one is made. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "actors/jetstream_private.h"
#include "runtime/clock.h"

enum {
    records_max = 10000,      // in one request
    under_way_max = 32 << 20, // bytes, of all reads
    idle_us = 30000000,       // after which the server forgets a consumer
    fresh_us = 20000000,      // in which it surely has not
    wait_us = 500000,         // for what is said to be pending
    idle_of_shard_max = 4,
    consumers_max = 4, // for one read, when they get lost
};

typedef enum { WAITING = 0, CREATING, FETCHING, ASKING } job_stage;

struct weir_js_job {
    weir_js_job *next;
    weir_read *read;
    weir_js_page page;
    weir_js_names names;
    int64_t deadline_us;
    job_stage stage;
    uint64_t token;       // of its question
    int64_t since_ms;     // 0: from page.position on
    char consumer[64];    // "": it has none
    uint64_t given;       // by the consumer, ever
    bool replicated;      // the consumer reads a replica, say
    unsigned consumers;   // that it has made
    size_t bytes;         // of under_way
    uint32_t wanted, got; // messages of this request
    size_t bytes_left;    // of it; SIZE_MAX: no bound
    int64_t heard_us;     // when it was asked, or has brought something
    int64_t asked_us;     // when this request was made
    uint64_t pending;     // behind the last one, by the consumer's count
    bool at_end;          // the consumer that it has found may be
    bool has_looked;      // the stream was asked,
    uint64_t stream_end;  // and ended there at least
    unsigned empty;       // requests that have brought nothing
};

static weir_js_reader *reader_of(weir_js_line *line)
{
    return (weir_js_reader *)line;
}

static void push(weir_js_jobs *self, weir_js_job *job)
{
    job->next = NULL;
    *self->end = job;
    self->end = &job->next;
}

static void take(weir_js_jobs *self, weir_js_job *job)
{
    weir_js_job **at = &self->first;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    if (!job->next) self->end = at;
}

/*  The job that asked; NULL: it is answered already.                                */
static weir_js_job *find_job(const weir_js_reader *self, uint64_t token)
{
    weir_js_job *job = self->jobs.first;
    while (job && (job->stage == WAITING || job->token != token))
        job = job->next;
    return job;
}

/* --- Consumers --------------------------------------------------------------------- */

static void ignore(weir_js_line *line, void *arg, uint64_t token,
                   const weir_js_answer *answer)
{
    (void)line, (void)arg, (void)token, (void)answer;
}

static void forget_on_server(weir_js_reader *self, uint32_t shard, const char *name)
{
    char subject[2 * WEIR_JS_NAME];
    weir_js_names names;
    if (self->line.state != WEIR_LINE_UP) return;
    weir_js_names_make(&names, &self->store->config, shard);
    weir_js_ask(subject, "CONSUMER.DELETE", names.stream, name);
    weir_js_line_call(&self->line, subject, NULL, ignore, NULL);
}

static weir_js_consumer *take_idle_at(weir_js_consumer **at)
{
    weir_js_consumer *one = *at;
    *at = one->next;
    return one;
}

/*  The oldest beyond as many as a shard may have goes.                              */
static void limit_idle(weir_js_reader *self, uint32_t shard)
{
    unsigned count = 0;
    for (weir_js_consumer **at = &self->idle; *at;) {
        if ((*at)->shard != shard || ++count <= idle_of_shard_max) {
            at = &(*at)->next;
            continue;
        }
        weir_js_consumer *old = take_idle_at(at);
        forget_on_server(self, shard, old->name);
        free(old);
    }
}

static void keep_consumer(weir_js_reader *self, weir_js_job *job, bool dry)
{
    weir_js_consumer *one = calloc(1, sizeof *one);
    if (!one) abort();
    one->shard = job->read->shard;
    one->after = job->page.position;
    one->given = job->given;
    one->dry = dry;
    one->replicated = job->replicated;
    one->used_us = weir_clock_now_us();
    memcpy(one->name, job->consumer, sizeof one->name);
    one->next = self->idle;
    self->idle = one;
    limit_idle(self, one->shard);
}

static bool take_idle(weir_js_reader *self, weir_js_job *job)
{
    weir_js_consumer **at = &self->idle;
    int64_t oldest_us = weir_clock_now_us() - fresh_us;
    while (*at &&
           ((*at)->shard != job->read->shard || (*at)->after != job->page.position))
        at = &(*at)->next;
    if (!*at) return false;
    weir_js_consumer *one = take_idle_at(at);
    bool fresh = one->used_us > oldest_us;
    job->at_end = one->dry;
    job->given = one->given;
    job->replicated = one->replicated;
    if (fresh) memcpy(job->consumer, one->name, sizeof job->consumer);
    free(one);
    return fresh;
}

static void forget_idle(weir_js_reader *self)
{
    while (self->idle)
        free(take_idle_at(&self->idle));
}

/* --- Ending ------------------------------------------------------------------------ */

static void end(weir_js_reader *self, weir_js_job *job, bool more)
{
    weir_js_page_end(&job->page, more);
    self->under_way -= job->bytes;
    if (self->is_full && job->bytes) weir_js_line_wake(&self->line);
    take(&self->jobs, job);
    push(&self->told, job);
}

static void drop_consumer(weir_js_reader *self, weir_js_job *job)
{
    if (job->consumer[0]) forget_on_server(self, job->read->shard, job->consumer);
    job->consumer[0] = '\0';
}

/*  There is no more.                                                               */
static void finish(weir_js_reader *self, weir_js_job *job)
{
    if (job->consumer[0]) keep_consumer(self, job, true);
    end(self, job, false);
}

/*  There may be more; whoever asks next looks first when its consumer knows of none. */
static void end_page(weir_js_reader *self, weir_js_job *job, bool dry)
{
    if (job->consumer[0]) keep_consumer(self, job, dry);
    end(self, job, true);
}

/*  What has come is an answer, too.                                                */
static void fail(weir_js_reader *self, weir_js_job *job, weir_err err, const char *text)
{
    if (job->stage != WAITING) weir_js_line_cancel(&self->line, job->token);
    drop_consumer(self, job);
    bool has_some = job->page.records;
    if (!has_some) {
        job->read->err = err;
        snprintf(job->read->text, sizeof job->read->text, "%s", text);
    }
    end(self, job, has_some);
}

/*  There is no answer. When the connection was lost it is made again at once, and the job
    with it, unless there is something to show.                                     */
static void give_up(weir_js_reader *self, weir_js_job *job, const weir_js_answer *answer)
{
    bool lost = self->line.state == WEIR_LINE_DOWN;
    if (!lost || !weir_js_line_is_open(&self->line) || job->page.records) {
        fail(self, job,
             answer->denied ? WEIR_EREFUSED
             : lost         ? WEIR_ECLOSED
                            : WEIR_ETIMEOUT,
             answer->text);
        return;
    }
    job->stage = WAITING;
    job->consumer[0] = '\0';
    job->consumers = 0;
    self->under_way -= job->bytes;
    job->bytes = 0;
}

static void tell(weir_js_line *line)
{
    weir_js_reader *self = reader_of(line);
    pthread_mutex_lock(&line->mutex);
    for (weir_js_job *job; (job = self->told.first);) {
        take(&self->told, job);
        pthread_mutex_unlock(&line->mutex);
        job->read->done(job->read);
        free(job);
        pthread_mutex_lock(&line->mutex);
    }
    pthread_mutex_unlock(&line->mutex);
}

/* --- Steps ------------------------------------------------------------------------- */

static void ask(weir_js_reader *self, weir_js_job *job, job_stage stage, const char *what,
                const char *more, weir_js_answered *answered)
{
    char subject[2 * WEIR_JS_NAME];
    weir_js_ask(subject, what, job->names.stream, more);
    job->stage = stage;
    job->token = weir_js_line_call(&self->line, subject, &self->scratch, answered, NULL);
}

static void create(weir_js_reader *self, weir_js_job *job);
static void ask_stream(weir_js_reader *self, weir_js_job *job);

/*  Reads the answer to a job's question, whose stream may not be there (10059), or not be
    ready yet. NULL: it has no job any more, or that goes on otherwise.              */
static weir_js_job *read_answer(weir_js_reader *self, uint64_t token,
                                const weir_js_answer *answer)
{
    weir_js_job *job = find_job(self, token);
    weir_js_response *is = &self->response;
    if (!job) return NULL;
    if (!answer->msg) {
        give_up(self, job, answer);
        return NULL;
    }
    weir_js_response_read(is, answer->msg);
    if (!is->failed || is->err_code == WEIR_JS_NO_STREAM) return job;
    if (job->stage == CREATING && is->err_code == WEIR_JS_NO_CONSUMER)
        create(self, job);
    else
        fail(self, job, WEIR_EREFUSED, is->text);
    return NULL;
}

static void on_next(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer);
static void on_created(weir_js_line *line, void *arg, uint64_t token,
                       const weir_js_answer *answer);
static void on_info(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer);

/*  When a request should have brought more, or its end; -1: never.                   */
static int64_t quiet_until(const weir_js_reader *self, const weir_js_job *job)
{
    if (job->stage != FETCHING) return -1;
    return job->heard_us + wait_us + self->store->config.timeout_us / 4;
}

static void fetch(weir_js_reader *self, weir_js_job *job, uint32_t records, size_t bytes)
{
    job->wanted = records < records_max ? records : records_max;
    job->got = 0;
    job->bytes_left = bytes ? bytes : SIZE_MAX;
    job->asked_us = job->heard_us = weir_clock_now_us();
    self->scratch.size = 0;
    weir_js_put_next(&self->scratch, job->wanted, bytes, wait_us);
    ask(self, job, FETCHING, "CONSUMER.MSG.NEXT", job->consumer, on_next);
    weir_js_wake_keeper(self->store, quiet_until(self, job));
}

static void fetch_page(weir_js_reader *self, weir_js_job *job)
{
    fetch(self, job, job->read->max_records, job->bytes ? job->bytes : 1);
}

static void create(weir_js_reader *self, weir_js_job *job)
{
    if (++job->consumers > consumers_max) {
        fail(self, job, WEIR_EREFUSED, "the server makes no consumer that works");
        return;
    }
    self->scratch.size = 0;
    weir_js_put_consumer(&self->scratch, job->names.stream, job->page.position + 1,
                         job->since_ms, idle_us);
    ask(self, job, CREATING, "CONSUMER.CREATE", "", on_created);
}

/*  Where the consumer begins: behind what is trimmed, or at the time.                */
static bool begin_at(weir_js_reader *self, weir_js_job *job, uint64_t before)
{
    if (!job->since_ms) {
        weir_js_page_trimmed(&job->page, before);
        return true;
    }
    job->since_ms = 0;
    if (before >= job->page.position) {
        job->page.position = before;
        return true;
    }
    drop_consumer(self, job);
    create(self, job);
    return false;
}

static void on_created(weir_js_line *line, void *arg, uint64_t token,
                       const weir_js_answer *answer)
{
    (void)arg;
    weir_js_reader *self = reader_of(line);
    weir_js_job *job = read_answer(self, token, answer);
    weir_value delivered, cluster;
    if (!job) return;
    const weir_value *root = &self->response.root;
    if (self->response.failed) { // there is no stream: nothing was ever stored
        finish(self, job);
        return;
    }
    weir_js_text(root, "name", job->consumer, sizeof job->consumer);
    job->given = 0;
    job->replicated = weir_js_member(root, "cluster", &cluster);
    weir_js_member(root, "delivered", &delivered);
    uint64_t before = weir_js_number(&delivered, "stream_seq");
    job->pending = weir_js_number(root, "num_pending");
    if (!begin_at(self, job, before)) return;
    bool behind = before < job->page.position;
    if (behind && !job->replicated) drop_consumer(self, job); // the stream is another one
    if (job->replicated && (behind || !job->pending))
        ask_stream(self, job);
    else if (job->pending && job->consumer[0])
        fetch_page(self, job);
    else
        finish(self, job);
}

static void ask_stream(weir_js_reader *self, weir_js_job *job)
{
    self->scratch.size = 0;
    weir_buffer_put_text(&self->scratch, "{\"deleted_details\":true}");
    ask(self, job, ASKING, "STREAM.INFO", "", on_info);
}

/*  What the stream has not: all before its first message, and single ones.           */
static void pass_gone(weir_js_job *job, const weir_value *info,
                      const weir_js_state *state)
{
    weir_value list, deleted, key, sequence;
    weir_walk walk = {0};
    uint64_t first = state->first ? state->first - 1 : 0;
    weir_js_page_trimmed(&job->page, first < state->last ? first : state->last);
    weir_js_member(info, "state", &list);
    weir_js_member(&list, "deleted", &deleted);
    while (weir_value_next(&deleted, &walk, &key, &sequence))
        if (sequence.type == WEIR_INT &&
            (uint64_t)sequence.integer == job->page.position + 1)
            weir_js_page_trimmed(&job->page, job->page.position + 1);
}

static void on_info(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer)
{
    (void)arg;
    weir_js_reader *self = reader_of(line);
    weir_js_job *job = read_answer(self, token, answer);
    weir_js_state state = {0};
    if (!job) return;
    uint64_t before = job->page.position;
    if (!self->response.failed) {
        weir_js_state_read(&state, &self->response.root);
        pass_gone(job, &self->response.root, &state);
    }
    job->has_looked = true;
    job->stream_end = state.last;
    bool at_end = state.last <= job->page.position;
    if (at_end && (state.last < job->page.position || job->empty))
        drop_consumer(self, job);
    if (at_end)
        finish(self, job);
    else if (job->empty > 1 && job->page.position == before)
        fail(self, job, WEIR_ETIMEOUT, "the server does not deliver what it has");
    else
        fetch_page(self, job);
}

/* --- Messages ---------------------------------------------------------------------- */

static weir_js_job *find_fetching(const weir_js_reader *self, const char *consumer)
{
    weir_js_job *job = self->jobs.first;
    while (job && (job->stage != FETCHING || strcmp(job->consumer, consumer)))
        job = job->next;
    return job;
}

/*  True: the server has ended the request, since its bytes are spent to the last.      */
static bool is_spent(weir_js_job *job, natsMsg *msg)
{
    size_t bytes = weir_js_stored_bytes(msg);
    if (job->bytes_left == SIZE_MAX) return false;
    job->bytes_left = bytes < job->bytes_left ? job->bytes_left - bytes : 0;
    return !job->bytes_left;
}

/*  The page is good as far as it came.                                              */
static void end_here(weir_js_reader *self, weir_js_job *job)
{
    weir_js_line_cancel(&self->line, job->token);
    drop_consumer(self, job);
    end_page(self, job, false);
}

/*  The request has brought something and was ended by the server: since the stream has no
    more, or since its time was over.                                                */
static void end_request(weir_js_reader *self, weir_js_job *job)
{
    bool late = self->line.heard_us - job->asked_us >= wait_us;
    bool is_end = !job->replicated || job->has_looked;
    if (job->pending) drop_consumer(self, job);
    if (late || job->pending || !is_end || job->page.position < job->stream_end)
        end_page(self, job, true);
    else
        finish(self, job);
}

static void lose_consumer(weir_js_reader *self, weir_js_job *job)
{
    job->consumer[0] = '\0';
    if (job->page.records)
        end(self, job, true);
    else
        create(self, job);
}

/*  What is behind them is read again.                                               */
static void lose_messages(weir_js_reader *self, weir_js_job *job)
{
    weir_js_line_cancel(&self->line, job->token);
    drop_consumer(self, job);
    lose_consumer(self, job);
}

static void data(weir_js_line *line, natsMsg **msg_p)
{
    natsMsg *msg = *msg_p;
    weir_js_reader *self = reader_of(line);
    weir_js_delivery is;
    if (!weir_js_delivery_read(&is, natsMsg_GetReply(msg))) return;
    weir_js_job *job = find_fetching(self, is.consumer);
    if (!job) return;
    if (is.number != job->given + 1) {
        lose_messages(self, job);
        return;
    }
    job->given++;
    job->got++;
    job->heard_us = line->heard_us;
    job->pending = is.pending;
    if (is.sequence > job->page.position)
        weir_js_page_add(&job->page, is.sequence, is.stored_ms, msg);
    if (job->got < job->wanted) {
        if (is_spent(job, msg)) end_here(self, job);
        return;
    }
    weir_js_line_cancel(line, job->token);
    end_page(self, job, !job->pending);
}

/*  The status that ends a request. 409 has several meanings, and says which in words. */
static void on_next(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer)
{
    (void)arg;
    weir_js_reader *self = reader_of(line);
    weir_js_job *job = find_job(self, token);
    const char *text = "";
    if (!job) return;
    if (!answer->msg) {
        give_up(self, job, answer);
        return;
    }
    int status = weir_js_status(answer->msg);
    natsMsgHeader_Get(answer->msg, "Description", &text);
    if (status == 409 && strstr(text, "MaxBytes") && !job->got) {
        fetch(self, job, 1, 0);
    } else if (status == 409 && strstr(text, "MaxBytes")) {
        end_page(self, job, false);
    } else if ((status == 404 || status == 408) && !job->got) {
        job->empty++;
        ask_stream(self, job);
    } else if (status == 404 || status == 408) {
        end_request(self, job);
    } else {
        lose_consumer(self, job);
    }
}

/* --- Connection -------------------------------------------------------------------- */

/*  Begins what waits, as long as there is room for its bytes.                       */
static void begin_jobs(weir_js_reader *self)
{
    if (self->line.state != WEIR_LINE_UP) return;
    self->is_full = false;
    for (weir_js_job *job = self->jobs.first, *next; job; job = next) {
        next = job->next;
        if (job->stage != WAITING) continue;
        size_t bytes =
            job->read->max_bytes < under_way_max ? job->read->max_bytes : under_way_max;
        self->is_full = self->under_way && self->under_way + bytes > under_way_max;
        if (self->is_full) break;
        job->bytes = bytes;
        self->under_way += bytes;
        if (job->since_ms || !take_idle(self, job))
            create(self, job);
        else if (job->at_end)
            ask_stream(self, job);
        else
            fetch_page(self, job);
    }
}

static void up(weir_js_line *line)
{
    begin_jobs(reader_of(line));
}

static bool pump(weir_js_line *line)
{
    begin_jobs(reader_of(line));
    weir_js_line_send_calls(line);
    return false;
}

/*  The calls have failed before, and with them what was under way.                   */
static void down(weir_js_line *line)
{
    weir_js_reader *self = reader_of(line);
    forget_idle(self);
    while (!weir_js_line_is_open(line) && self->jobs.first)
        fail(self, self->jobs.first, line->fatal ? WEIR_EREFUSED : WEIR_ECLOSED,
             line->closing ? "the store is being closed" : line->error);
}

static void denied(weir_js_line *line, const char *subject, const char *text)
{
    weir_js_reader *self = reader_of(line);
    (void)subject;
    while (self->jobs.first)
        fail(self, self->jobs.first, WEIR_EREFUSED, text);
}

static const weir_js_line_class class = {
    .name = "reading",
    .up = up,
    .down = down,
    .pump = pump,
    .acked = NULL,
    .data = data,
    .denied = denied,
    .tell = tell,
};

/* --- Time -------------------------------------------------------------------------- */

static void time_out(weir_js_reader *self, weir_js_job *job, int64_t now_us)
{
    char text[256];
    snprintf(text, sizeof text, "%.200s: no answer in %" PRId64 " ms",
             self->store->servers.text, self->store->config.timeout_us / 1000);
    fail(self, job, WEIR_ETIMEOUT, text);
    weir_js_line_is_late(&self->line, now_us);
}

static void replace_consumer(weir_js_reader *self, weir_js_job *job)
{
    if (job->got) {
        end_here(self, job);
        return;
    }
    lose_messages(self, job);
}

int64_t weir_js_reader_run(weir_js_reader *self)
{
    int64_t due_us = -1;
    pthread_mutex_lock(&self->line.mutex);
    int64_t now_us = weir_clock_now_us();
    for (weir_js_job *job = self->jobs.first, *next; job; job = next) {
        next = job->next;
        int64_t quiet_us = quiet_until(self, job);
        if (job->deadline_us <= now_us)
            time_out(self, job, now_us);
        else if (quiet_us >= 0 && quiet_us <= now_us)
            replace_consumer(self, job);
        else
            due_us = weir_earlier(due_us, weir_earlier(job->deadline_us, quiet_us));
    }
    pthread_mutex_unlock(&self->line.mutex);
    return weir_earlier(due_us, weir_js_line_run(&self->line));
}

/* --- Any thread -------------------------------------------------------------------- */

static weir_js_job *job_new(weir_js_reader *self, weir_read *read)
{
    weir_js_job *job = calloc(1, sizeof *job);
    if (!job) abort();
    job->read = read;
    job->since_ms = read->since_ms;
    job->deadline_us = weir_clock_now_us() + self->store->config.timeout_us;
    weir_js_names_make(&job->names, &self->store->config, read->shard);
    weir_js_page_begin(&job->page, read, self->store->config.nonce);
    return job;
}

void weir_js_read(weir_store *store, weir_read *read)
{
    weir_js_reader *self = &((weir_js_store *)store)->reader;
    weir_js_line *line = &self->line;
    read->err = WEIR_OK;
    read->text[0] = '\0';
    read->chunks = NULL;
    read->gaps = NULL;
    read->chunk_count = read->gap_count = 0;
    weir_js_job *job = job_new(self, read);
    int64_t deadline_us = job->deadline_us;
    pthread_mutex_lock(&line->mutex);
    push(&self->jobs, job);
    weir_js_line_want(line);
    if (!read->max_records || read->after.a == UINT64_MAX)
        finish(self, job);
    else if (!weir_js_line_is_open(line))
        fail(self, job, line->fatal ? WEIR_EREFUSED : WEIR_ECLOSED,
             line->closing ? "the store is being closed" : line->error);
    else
        weir_js_line_wake(line);
    pthread_mutex_unlock(&line->mutex);
    weir_js_wake_keeper(self->store, deadline_us);
    tell(line);
}

void weir_js_reader_init(weir_js_reader *self, weir_js_store *store)
{
    weir_js_line_config config;
    pthread_condattr_t monotonic;
    self->store = store;
    self->jobs.end = &self->jobs.first;
    self->told.end = &self->told.first;
    weir_js_configure_line(&config, store);
    weir_js_line_init(&self->line, &class, &config);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->listed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void weir_js_reader_close(weir_js_reader *self)
{
    weir_js_line_close(&self->line);
    pthread_mutex_lock(&self->line.mutex);
    while (self->jobs.first)
        fail(self, self->jobs.first, WEIR_ECLOSED, "the store is being closed");
    forget_idle(self);
    pthread_mutex_unlock(&self->line.mutex);
    tell(&self->line);
}

void weir_js_reader_fini(weir_js_reader *self)
{
    free(self->list);
    free(self->next_list);
    weir_buffer_fini(&self->scratch);
    weir_js_response_fini(&self->response);
    pthread_cond_destroy(&self->listed);
    weir_js_line_fini(&self->line);
}
