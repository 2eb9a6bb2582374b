#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "actors/disk_store.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/thread.h"

/*  LMDB bounds the pages of a transaction: tiny batches may need one each.          */
enum { batches_max = 8192 };

/* --- Shards ------------------------------------------------------------------------ */

static size_t place_of(const weir_disk *self, uint32_t id)
{
    size_t low = 0, high = self->shard_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->shards[middle]->now.row.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

weir_disk_shard *weir_disk_shard_of(weir_disk *self, uint32_t id)
{
    size_t at = place_of(self, id);
    if (at < self->shard_count && self->shards[at]->now.row.id == id)
        return self->shards[at];
    weir_disk_shard *shard = calloc(1, sizeof *shard);
    if (!shard) abort();
    shard->now.row.id = shard->next.row.id = id;
    pthread_mutex_lock(&self->mutex);
    self->shards = realloc(self->shards, (self->shard_count + 1) * sizeof *self->shards);
    if (!self->shards) abort();
    memmove(self->shards + at + 1, self->shards + at,
            (self->shard_count - at) * sizeof *self->shards);
    self->shards[at] = shard;
    self->shard_count++;
    pthread_mutex_unlock(&self->mutex);
    return shard;
}

/* --- Queues ------------------------------------------------------------------------ */

static void push(weir_disk_queue *self, weir_disk_node *node)
{
    node->next = NULL;
    if (self->last)
        self->last->next = node;
    else
        self->first = node;
    self->last = node;
}

static weir_disk_node *pop(weir_disk_queue *self)
{
    weir_disk_node *node = self->first;
    if (!node) return NULL;
    self->first = node->next;
    if (!self->first) self->last = NULL;
    return node;
}

/*  Moves all of `from` before the rest of `self`.                                   */
static void prepend(weir_disk_queue *self, weir_disk_queue *from)
{
    if (!from->first) return;
    from->last->next = self->first;
    if (!self->last) self->last = from->last;
    self->first = from->first;
    *from = (weir_disk_queue){0};
}

/*  Batches of held shards stay, all others are taken in order until it is enough: their
    own batches of one shard keep their order, since all of them stay or none.      */
static void take(weir_disk *self)
{
    weir_disk_queue stays = {0};
    size_t bytes = 0, count = 0;
    pthread_mutex_lock(&self->mutex);
    while (self->queue.first && count < batches_max) {
        weir_batch *batch = self->queue.first->batch;
        size_t at = place_of(self, batch->shard);
        bool held = at < self->shard_count && self->shards[at]->now.held &&
                    self->shards[at]->now.row.id == batch->shard;
        if (!held && count && bytes + batch->bytes > (size_t)self->config.commit_bytes)
            break;
        atomic_store(&batch->held, held);
        push(held ? &stays : &self->working, pop(&self->queue));
        if (held) continue;
        bytes += batch->bytes;
        count++;
    }
    prepend(&self->queue, &stays);
    pthread_mutex_unlock(&self->mutex);
}

/* --- Answers ----------------------------------------------------------------------- */

/*  The node itself stays: it may be in a queue that a flush looks at.               */
static void answer(weir_disk_node *node)
{
    weir_batch *batch = node->batch;
    batch->result = node->result;
    batch->refused = node->refused;
    batch->last_offset = node->last_offset;
    snprintf(batch->text, sizeof batch->text, "%s", node->text);
    for (uint32_t i = 0; node->fence_offset && i < batch->fence_count; i++)
        batch->fences[i].first.a = node->fence_offset;
    atomic_store(&batch->held, false);
    batch->done(batch);
    weir_batch_destroy(&node->batch);
}

static void answer_all(weir_disk *self, weir_disk_queue *queue)
{
    weir_disk_queue back = {0};
    pthread_mutex_lock(&self->mutex);
    for (weir_disk_node *node; (node = queue->first);) {
        if (node->back) {
            push(&back, pop(queue));
            continue;
        }
        pthread_mutex_unlock(&self->mutex);
        answer(node);
        pthread_mutex_lock(&self->mutex);
        free(pop(queue));
        pthread_cond_broadcast(&self->answered);
    }
    prepend(&self->queue, &back);
    pthread_mutex_unlock(&self->mutex);
}

static void set_answers(weir_disk_queue *queue, weir_store_result result,
                        const char *text)
{
    for (weir_disk_node *node = queue->first; node; node = node->next) {
        node->back = false;
        node->result = result;
        snprintf(node->text, sizeof node->text, "%s", text);
    }
}

void weir_disk_fail(weir_disk *self, const char *text)
{
    pthread_mutex_lock(&self->mutex);
    snprintf(self->fatal, sizeof self->fatal, "%s", text);
    pthread_mutex_unlock(&self->mutex);
    weir_log(WEIR_ERROR, "bus store failed path=%s error=\"%s\"", self->path, text);
}

/* --- The thread -------------------------------------------------------------------- */

void weir_disk_wake(weir_disk *self)
{
    uint64_t one = 1;
    while (write(self->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/*  What has failed is not tried again at once, however much is due.                 */
static void wait_for_work(weir_disk *self)
{
    struct pollfd fd = {.fd = self->wake, .events = POLLIN};
    int64_t due = weir_disk_keep_deadline(self), soon = weir_clock_now_us() + 1000000;
    uint64_t count;
    if (self->stalled && due >= 0 && due < soon) due = soon;
    poll(&fd, 1, weir_clock_timeout_ms(due));
    if (read(self->wake, &count, sizeof count) < 0) return;
}

static bool is_closing(weir_disk *self)
{
    pthread_mutex_lock(&self->mutex);
    bool is = self->closing;
    pthread_mutex_unlock(&self->mutex);
    return is;
}

static bool has_failed(weir_disk *self)
{
    pthread_mutex_lock(&self->mutex);
    bool has = self->fatal[0];
    pthread_mutex_unlock(&self->mutex);
    return has;
}

/*  One transaction, if there is anything for it. False: there was nothing.          */
static bool work(weir_disk *self)
{
    bool due = false;
    weir_disk_keep_judge(self);
    take(self);
    if (has_failed(self)) {
        set_answers(&self->working, WEIR_STORE_FATAL, self->fatal);
    } else {
        for (size_t i = 0; !due && i < self->shard_count; i++) {
            self->shards[i]->next = self->shards[i]->now;
            due = weir_disk_keep_due(self, self->shards[i]);
        }
        if (!self->working.first && !due) return false;
        weir_disk_transact(self);
    }
    answer_all(self, &self->working);
    return true;
}

static void *run(void *arg)
{
    weir_disk *self = arg;
    weir_log_actor(self->name);
    while (!is_closing(self)) {
        bool worked = work(self);
        if (!has_failed(self)) weir_disk_compact_step(self);
        if (!worked || self->stalled) wait_for_work(self);
    }
    return NULL;
}

weir_err weir_disk_flusher_start(weir_disk *self, weir_report *report)
{
    weir_clock_watch(self->wake);
    int rc = weir_thread_start(&self->flusher, run, self);
    self->running = rc == 0;
    if (!rc) return WEIR_OK;
    return weir_report_set(report, WEIR_ESYS, self->path, "cannot start its thread: %s",
                           strerror(rc));
}

void weir_disk_flusher_stop(weir_disk *self)
{
    pthread_mutex_lock(&self->mutex);
    self->closing = true;
    pthread_mutex_unlock(&self->mutex);
    if (self->running) {
        weir_disk_wake(self);
        pthread_join(self->flusher, NULL);
        weir_clock_unwatch(self->wake);
        self->running = false;
    }
    set_answers(&self->queue, WEIR_STORE_RETRY, "the store is being closed");
    answer_all(self, &self->queue);
}

/* --- Any thread -------------------------------------------------------------------- */

void weir_disk_write(weir_store *store, weir_batch *batch)
{
    weir_disk *self = (weir_disk *)store;
    weir_disk_node *node = calloc(1, sizeof *node);
    if (!node) abort();
    node->batch = weir_batch_dup(batch);
    node->again = batch->again;
    pthread_mutex_lock(&self->mutex);
    bool takes = !self->readonly && !self->closing && !self->fatal[0];
    node->number = takes ? ++self->written : 0;
    if (takes) push(&self->queue, node);
    node->result = self->closing ? WEIR_STORE_RETRY : WEIR_STORE_FATAL;
    snprintf(node->text, sizeof node->text, "%s",
             self->readonly  ? "the store is open for reading only"
             : self->closing ? "the store is being closed"
                             : self->fatal);
    pthread_mutex_unlock(&self->mutex);
    if (takes) {
        weir_disk_wake(self);
    } else {
        answer(node);
        free(node);
    }
}

/*  Writes up to this number that are not answered yet. Under the mutex.             */
static unsigned count_open(const weir_disk *self, uint64_t number)
{
    const weir_disk_node *starts[] = {self->working.first, self->queue.first};
    unsigned count = 0;
    for (int i = 0; i < 2; i++)
        for (const weir_disk_node *node = starts[i]; node; node = node->next)
            count += node->number <= number;
    return count;
}

weir_err weir_disk_flush(weir_store *store, int64_t timeout_us, weir_report *report)
{
    weir_disk *self = (weir_disk *)store;
    struct timespec end;
    int rc = 0;
    unsigned open;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t ns = end.tv_nsec + (timeout_us > 0 ? timeout_us % 1000000 : 0) * 1000;
    end.tv_sec += (timeout_us > 0 ? timeout_us / 1000000 : 0) + ns / 1000000000;
    end.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&self->mutex);
    uint64_t number = self->written;
    while ((open = count_open(self, number)) && !rc)
        rc = timeout_us < 0 ? pthread_cond_wait(&self->answered, &self->mutex)
                            : pthread_cond_timedwait(&self->answered, &self->mutex, &end);
    pthread_mutex_unlock(&self->mutex);
    if (!open) return WEIR_OK;
    return weir_report_set(
        report, WEIR_ETIMEOUT, self->path, "%u batches are not on disk yet%s%s", open,
        self->stats.held_by[0] ? ", held by group " : "", self->stats.held_by);
}
