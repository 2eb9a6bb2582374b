#include "actors/dispatch.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

const char *const weir_exhausted_words[] = {"dead", "stop", NULL};

/*  Where answers of other threads arrive; outlives the dispatch while the store still has
    a batch to answer.                                                              */
typedef struct {
    atomic_uint references;
    pthread_mutex_t lock;
    weir_batch *first, **end;
    int fd; // eventfd; -1: nobody listens any more
} mailbox;

typedef enum { WRITING, FAILED, SAFE, REFUSED } flight_state;

/*  A batch under way, and the attempt that the store has.                          */
typedef struct flight {
    struct flight *next;
    weir_batch *batch;   // owned; what is settled
    weir_batch *attempt; // a reference; NULL: none was made
    flight_state state;
    bool written;
    uint32_t settled; // records from its start that are settled
    bool stored;      // some of them, and with them the fences
    uint32_t refused; // of REFUSED
    int64_t failures; // while it was the first of all
    int64_t sent_us;  // this attempt
    int64_t since_us; // the first one
    char error[256];  // of the last failed attempt
} flight;

struct weir_dispatch {
    weir_dispatch_config config;
    mailbox *mailbox;
    flight *first, **end; // in the order of sequences
    uint32_t count;
    uint64_t records;
    bool stalled;     // something has failed: nothing is sent before again_us
    int64_t again_us; // when it is; -1: answers are still to come
    bool again_due;   // the next batch that is sent says `again`
    bool over;        // failed was called
    uint64_t retries;
    int64_t failing_since_us;
    char error[256];
    weir_fence *fences; // for the next batch: those of one that will never be stored
    uint32_t fence_count;
};

/* --- Mailbox ----------------------------------------------------------------------- */

static mailbox *mailbox_new(void)
{
    mailbox *self = calloc(1, sizeof *self);
    if (!self) abort();
    atomic_init(&self->references, 1);
    pthread_mutex_init(&self->lock, NULL);
    self->end = &self->first;
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return self;
}

static void mailbox_destroy(mailbox *self)
{
    if (atomic_fetch_sub(&self->references, 1) > 1) return;
    while (self->first) {
        weir_batch *batch = self->first;
        self->first = batch->next;
        weir_batch_destroy(&batch);
    }
    pthread_mutex_destroy(&self->lock);
    free(self);
}

/*  In the store's thread: a reference of the attempt goes into the mailbox, and that of
    the attempt to the mailbox ends.                                                */
static void answered(weir_batch *batch)
{
    mailbox *self = batch->owner;
    weir_batch *mail = weir_batch_dup(batch);
    pthread_mutex_lock(&self->lock);
    mail->next = NULL;
    *self->end = mail;
    self->end = &mail->next;
    if (self->fd >= 0) eventfd_write(self->fd, 1);
    pthread_mutex_unlock(&self->lock);
    mailbox_destroy(self);
}

static weir_batch *mailbox_take(mailbox *self)
{
    pthread_mutex_lock(&self->lock);
    weir_batch *batch = self->first;
    if (batch) self->first = batch->next;
    if (!self->first) self->end = &self->first;
    pthread_mutex_unlock(&self->lock);
    return batch;
}

/* --- Life -------------------------------------------------------------------------- */

weir_err weir_dispatch_new(weir_dispatch **self_p, const weir_dispatch_config *config)
{
    weir_dispatch *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->mailbox = mailbox_new();
    self->end = &self->first;
    self->again_us = -1;
    *self_p = self;
    return self->mailbox->fd < 0 ? WEIR_ESYS : WEIR_OK;
}

static void free_first(weir_dispatch *self)
{
    flight *f = self->first;
    self->first = f->next;
    if (!self->first) self->end = &self->first;
    weir_batch_destroy(&f->attempt);
    weir_batch_destroy(&f->batch);
    free(f);
}

void weir_dispatch_destroy(weir_dispatch **self_p)
{
    weir_dispatch *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    while (self->first)
        free_first(self);
    free(self->fences);
    pthread_mutex_lock(&self->mailbox->lock);
    if (self->mailbox->fd >= 0) close(self->mailbox->fd);
    self->mailbox->fd = -1;
    pthread_mutex_unlock(&self->mailbox->lock);
    mailbox_destroy(self->mailbox);
    free(self);
}

int weir_dispatch_fd(const weir_dispatch *self)
{
    return self->mailbox->fd;
}

/* --- Fences ------------------------------------------------------------------------ */

static void add_fences(weir_fence **fences, uint32_t *count, const weir_fence *added,
                       uint32_t added_count)
{
    if (!added_count) return;
    *fences = realloc(*fences, (*count + added_count) * sizeof **fences);
    if (!*fences) abort();
    memcpy(*fences + *count, added, added_count * sizeof *added);
    *count += added_count;
}

/*  The batch will never be stored: the next one takes its fences.                  */
static void pass_on_fences(weir_dispatch *self, const flight *from)
{
    const weir_batch *batch = from->batch;
    if (from->stored) return;
    if (from->next)
        add_fences(&from->next->batch->fences, &from->next->batch->fence_count,
                   batch->fences, batch->fence_count);
    else
        add_fences(&self->fences, &self->fence_count, batch->fences, batch->fence_count);
}

bool weir_dispatch_has_fences(const weir_dispatch *self)
{
    bool has = self->fence_count;
    for (const flight *f = self->first; f; f = f->next)
        has |= f->batch->fence_count && !f->stored;
    return has;
}

/* --- Sending ----------------------------------------------------------------------- */

/*  The same records without those that are settled, for the store alone.           */
static weir_batch *make_attempt(const flight *f)
{
    const weir_batch *from = f->batch;
    weir_batch *attempt = weir_batch_new();
    uint32_t skip = f->settled;
    attempt->shard = from->shard;
    attempt->epoch = from->epoch;
    attempt->first = from->first + skip;
    attempt->arrived_ms = from->arrived_ms;
    for (uint32_t i = 0; i < from->piece_count; i++) {
        weir_iterator walk = {.block = from->pieces[i].block};
        uint32_t records = weir_block_records(walk.block);
        if (skip >= records) {
            skip -= records;
            continue;
        }
        weir_block *passed = skip ? weir_iterator_cut(&walk, skip, SIZE_MAX) : NULL;
        weir_block_destroy(&passed);
        weir_piece piece = {.block = weir_iterator_cut(&walk, records - skip, SIZE_MAX)};
        weir_batch_add(attempt, &piece);
        skip = 0;
    }
    if (from->fence_count && !f->stored) {
        attempt->fences = malloc(from->fence_count * sizeof *from->fences);
        if (!attempt->fences) abort();
        memcpy(attempt->fences, from->fences, from->fence_count * sizeof *from->fences);
        attempt->fence_count = from->fence_count;
    }
    return attempt;
}

static void write_attempt(weir_dispatch *self, flight *f, int64_t now_us)
{
    weir_batch_destroy(&f->attempt);
    f->attempt = make_attempt(f);
    f->attempt->done = answered;
    f->attempt->owner = self->mailbox;
    f->attempt->again = self->again_due;
    atomic_fetch_add(&self->mailbox->references, 1);
    self->again_due = false;
    if (f->written) self->retries++;
    f->written = true;
    f->state = WRITING;
    f->sent_us = now_us;
    self->config.store->class->write(self->config.store, f->attempt);
}

void weir_dispatch_send(weir_dispatch *self, weir_batch **batch_p, int64_t now_us)
{
    flight *f = calloc(1, sizeof *f);
    if (!f) abort();
    f->batch = *batch_p;
    *batch_p = NULL;
    add_fences(&f->batch->fences, &f->batch->fence_count, self->fences,
               self->fence_count);
    self->fence_count = 0;
    f->since_us = now_us;
    f->state = FAILED; // until it is sent
    *self->end = f;
    self->end = &f->next;
    self->count++;
    self->records += f->batch->records;
    if (!self->stalled && !self->over) write_attempt(self, f, now_us);
}

/* --- Settling ---------------------------------------------------------------------- */

static void settle(weir_dispatch *self, flight *f, uint32_t count,
                   const weir_dispatch_loss *loss)
{
    if (!count) return;
    self->config.settled(self->config.arg, f->batch, f->settled, count, loss);
    f->settled += count;
    f->stored = f->stored || !loss;
    self->records -= count;
}

static void end_first(weir_dispatch *self)
{
    free_first(self);
    self->count--;
    self->config.ended(self->config.arg);
}

static void give_up(weir_dispatch *self, const char *text)
{
    if (self->over) return;
    self->over = true;
    self->config.failed(self->config.arg, text);
}

/*  Whether the store still has an attempt to answer behind the first.              */
static bool is_writing(const weir_dispatch *self)
{
    for (const flight *f = self->first; f; f = f->next)
        if (f->state == WRITING) return true;
    return false;
}

/*  Everything behind a failure is sent again in order, after the wait.             */
static void stall(weir_dispatch *self, int64_t wait_us, int64_t now_us)
{
    self->stalled = self->first != NULL;
    self->again_due = !self->stalled; // what comes next is the first behind it
    self->again_us = now_us + wait_us;
}

/*  The first has failed, and nothing else is under way.                            */
static void look_at_failure(weir_dispatch *self, int64_t now_us)
{
    flight *f = self->first;
    const weir_retry_config *retry = &self->config.retry;
    if (!self->failing_since_us) self->failing_since_us = now_us;
    memcpy(self->error, f->error, sizeof self->error);
    if (++f->failures < retry->attempts) {
        stall(self,
              weir_retry_wait_us(&retry->wait, self->config.nonce, self->config.shard,
                                 f->batch->first + f->settled, (uint64_t)f->failures),
              now_us);
    } else if (retry->exhausted == WEIR_EXHAUSTED_STOP) {
        give_up(self, self->error);
    } else {
        pass_on_fences(self, f);
        uint32_t attempts = f->failures < UINT32_MAX ? (uint32_t)f->failures : UINT32_MAX;
        settle(self, f, f->batch->records - f->settled,
               &(weir_dispatch_loss){WEIR_DEAD_EXHAUSTED, attempts, f->error});
        end_first(self);
        stall(self, 0, now_us);
    }
}

/*  The store has taken what is before the refused record; the rest is tried as if it
    were new.                                                                       */
static void settle_refused(weir_dispatch *self, int64_t now_us)
{
    flight *f = self->first;
    settle(self, f, f->refused, NULL);
    settle(self, f, 1, &(weir_dispatch_loss){WEIR_DEAD_REFUSED, 1, f->error});
    f->state = FAILED;
    f->failures = 0;
    if (f->settled == f->batch->records) end_first(self);
    stall(self, 0, now_us);
}

static void settle_safe(weir_dispatch *self)
{
    flight *f = self->first;
    settle(self, f, f->batch->records - f->settled, NULL);
    end_first(self);
    self->failing_since_us = 0;
    self->error[0] = 0;
}

/*  Settles from the front, as far as answers have come.                            */
static void advance(weir_dispatch *self, int64_t now_us)
{
    while (self->first && self->first->state == SAFE && !self->over)
        settle_safe(self);
    if (!self->first || self->over || self->stalled || is_writing(self)) return;
    if (self->first->state == REFUSED)
        settle_refused(self, now_us);
    else if (self->first->state == FAILED)
        look_at_failure(self, now_us);
}

/* --- Answers ----------------------------------------------------------------------- */

static flight *find_attempt(const weir_dispatch *self, const weir_batch *attempt)
{
    flight *f = self->first;
    while (f && f->attempt != attempt)
        f = f->next;
    return f;
}

/*  An attempt that was given up as timed out has been made good after all.         */
static flight *find_records(const weir_dispatch *self, const weir_batch *attempt)
{
    flight *f = self->first;
    while (f && f->batch->first + f->settled != attempt->first)
        f = f->next;
    return f && f->batch->records - f->settled == attempt->records ? f : NULL;
}

static void take_answer(weir_dispatch *self, const weir_batch *attempt)
{
    flight *f = find_attempt(self, attempt);
    bool late = !f || f->state != WRITING;
    if (attempt->result == WEIR_STORE_SAFE) {
        if (late) f = find_records(self, attempt);
        if (f) f->state = SAFE;
        return;
    }
    if (late) return;
    snprintf(f->error, sizeof f->error, "%s", attempt->text);
    f->state = attempt->result == WEIR_STORE_REFUSED ? REFUSED : FAILED;
    f->refused = attempt->refused;
    if (attempt->result == WEIR_STORE_FATAL) give_up(self, f->error);
}

void weir_dispatch_read(weir_dispatch *self, int64_t now_us)
{
    weir_batch *attempt;
    eventfd_read(self->mailbox->fd, &(eventfd_t){0});
    while ((attempt = mailbox_take(self->mailbox))) {
        weir_handover_take(attempt);
        take_answer(self, attempt);
        weir_batch_destroy(&attempt);
    }
    advance(self, now_us);
}

/* --- Time -------------------------------------------------------------------------- */

/*  The oldest attempt that is not answered.                                        */
static flight *oldest_writing(const weir_dispatch *self)
{
    flight *f = self->first;
    while (f && f->state != WRITING)
        f = f->next;
    return f;
}

/*  What the store holds back for a group has all the time, and its own from then on.  */
static void spare_held(weir_dispatch *self, int64_t now_us)
{
    flight *oldest = oldest_writing(self);
    if (!oldest || !atomic_load(&oldest->attempt->held)) return;
    for (flight *f = oldest; f; f = f->next)
        if (f->state == WRITING) f->sent_us = now_us;
}

int64_t weir_dispatch_deadline(const weir_dispatch *self)
{
    if (self->over || !self->first) return -1;
    if (self->stalled) return self->again_us;
    const flight *f = oldest_writing(self);
    return f ? f->sent_us + self->config.retry.timeout_us : -1;
}

/*  Nothing may be left to send: all behind a loss can be safe already.              */
static void send_again(weir_dispatch *self, int64_t now_us)
{
    self->stalled = false;
    self->again_due = true;
    for (flight *f = self->first; f; f = f->next)
        if (f->state == FAILED) write_attempt(self, f, now_us);
    advance(self, now_us);
}

/*  No answer in time is a failed attempt, and what is behind it has to wait.       */
static void time_out(weir_dispatch *self)
{
    for (flight *f = self->first; f; f = f->next) {
        if (f->state != WRITING) continue;
        f->state = FAILED;
        snprintf(f->error, sizeof f->error, "the store has not answered in time");
    }
}

void weir_dispatch_run_due(weir_dispatch *self, int64_t now_us)
{
    spare_held(self, now_us);
    int64_t due = weir_dispatch_deadline(self);
    if (due < 0 || due > now_us) return;
    if (self->stalled) {
        send_again(self, now_us);
    } else {
        time_out(self);
        advance(self, now_us);
    }
}

/* --- Looking ----------------------------------------------------------------------- */

void weir_dispatch_look(const weir_dispatch *self, weir_dispatch_stats *stats)
{
    *stats = (weir_dispatch_stats){
        .batches = self->count,
        .records = self->records,
        .retries = self->retries,
        .since_us = self->first ? self->first->since_us : 0,
        .oldest_us = weir_batch_oldest_us(self->first ? self->first->batch : NULL),
        .failing_since_us = self->failing_since_us};
    for (const flight *f = self->first; f; f = f->next)
        stats->held |= f->attempt && atomic_load(&f->attempt->held);
    memcpy(stats->error, self->error, sizeof stats->error);
}
