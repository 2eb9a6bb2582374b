#include "tests/unit/help_store.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define SHARDS_MAX 1024
#define FENCES_MAX 4096
#define WATCHERS_MAX 64

/*  A write or a read that was not answered yet. */
typedef struct job {
    struct job *next;
    weir_batch *batch; // a reference, or NULL
    weir_read *read;
} job;

typedef struct {
    job *first, **end;
} jobs;

typedef struct {
    uint32_t id;
    help_stored *stored; // of offset 1, 2, 3, ..
    uint64_t last, capacity;
    uint64_t epoch, sequence; // of the last record that was written
    bool wedged, hanging;
    bool broken; // a write has failed: none is taken before one that is sent again
    jobs held;   // while it is wedged or hangs
    int fail;
    weir_store_result result;
    char fail_text[256], read_error[256];
    uint64_t refuse; // sequence
} shard;

typedef struct {
    weir_store base;
    pthread_mutex_t lock; // of all that follows
    pthread_cond_t changed;
    pthread_t thread;
    bool threaded, ending, away;
    jobs queue;
    uint32_t open_writes; // not answered
    shard *shards[SHARDS_MAX];
    size_t shard_count;
    uint64_t batches;
    weir_fence fences[FENCES_MAX];
    size_t fence_count;
    int watchers[WATCHERS_MAX];
    size_t watcher_count;
    int64_t arrived_ms;
    help_store_spy *spy;
    void *spy_arg;
    help_store_refused *refused;
    void *refused_arg;
    help_store_counts *counts, own_counts;
} help_store;

static help_store *enter(weir_store *store)
{
    help_store *self = (help_store *)store;
    pthread_mutex_lock(&self->lock);
    return self;
}

static void leave(help_store *self)
{
    pthread_mutex_unlock(&self->lock);
}

static void *allocate(void *old, size_t size)
{
    void *memory = realloc(old, size);
    if (!memory) abort();
    return memory;
}

static void push(jobs *list, job *one)
{
    one->next = NULL;
    *list->end = one;
    list->end = &one->next;
}

static job *pop(jobs *list)
{
    job *one = list->first;
    if (!one) return NULL;
    list->first = one->next;
    if (!list->first) list->end = &list->first;
    return one;
}

static shard *find(help_store *self, uint32_t id)
{
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->id == id) return self->shards[i];
    assert(self->shard_count < SHARDS_MAX);
    shard *one = allocate(NULL, sizeof *one);
    *one = (shard){.id = id};
    one->held.end = &one->held.first;
    return self->shards[self->shard_count++] = one;
}

/* --- Writing ----------------------------------------------------------------------- */

static void append(help_store *self, shard *to, const weir_record *record,
                   const help_stored *what)
{
    if (to->last == to->capacity) {
        to->capacity = to->capacity ? 2 * to->capacity : 64;
        to->stored = allocate(to->stored, to->capacity * sizeof *to->stored);
    }
    help_stored *stored = &to->stored[to->last++];
    *stored = *what;
    stored->batch = self->batches;
    stored->size = record->encoded_size;
    stored->encoded = allocate(NULL, record->encoded_size);
    memcpy(stored->encoded, record->encoded, record->encoded_size);
}

static void notify(help_store *self)
{
    for (size_t i = 0; i < self->watcher_count; i++)
        eventfd_write(self->watchers[i], 1);
}

static bool refuses(help_store *self, const shard *to, uint64_t sequence,
                    const weir_record *record)
{
    return (to->refuse && sequence == to->refuse) ||
           (self->refused && self->refused(self->refused_arg, record));
}

/*  Records that are there already, because an attempt that was given up went well, are
    passed over.                                                                    */
static void store_batch(help_store *self, shard *to, weir_batch *batch)
{
    weir_batch_walk walk = {.batch = batch};
    weir_record record;
    uint64_t before = to->last;
    batch->result = WEIR_STORE_SAFE;
    self->batches++;
    for (uint32_t i = 0; weir_batch_next(&walk, &record); i++) {
        uint64_t sequence = batch->first + i;
        if (batch->epoch == to->epoch && sequence <= to->sequence) continue;
        if (refuses(self, to, sequence, &record)) {
            batch->result = WEIR_STORE_REFUSED;
            batch->refused = i;
            snprintf(batch->text, sizeof batch->text, "refused");
            break;
        }
        append(self, to, &record,
               &(help_stored){.epoch = batch->epoch,
                              .sequence = sequence,
                              .arrived_ms = batch->arrived_ms});
        to->epoch = batch->epoch;
        to->sequence = sequence;
    }
    batch->last_offset = to->last;
    bool keeps = !self->base.class->set_fences;
    for (uint32_t i = 0; keeps && i < batch->fence_count && to->last > before; i++) {
        assert(self->fence_count < FENCES_MAX);
        batch->fences[i].first.a = before + 1;
        self->fences[self->fence_count++] = batch->fences[i];
    }
    if (to->last > before) notify(self);
}

static void fail_batch(weir_batch *batch, weir_store_result result, const char *text)
{
    batch->result = result;
    snprintf(batch->text, sizeof batch->text, "%s", text);
}

static void answer_write(help_store *self, shard *to, job *one)
{
    if (one->batch->again) to->broken = false;
    if (self->ending) {
        fail_batch(one->batch, WEIR_STORE_RETRY, "closed");
    } else if (to->broken) {
        fail_batch(one->batch, WEIR_STORE_RETRY, "behind a batch that failed");
    } else if (to->fail) {
        if (to->fail > 0) to->fail--;
        fail_batch(one->batch, to->result, to->fail_text);
    } else {
        store_batch(self, to, one->batch);
    }
    if (one->batch->result != WEIR_STORE_SAFE) to->broken = true;
}

/* --- Reading ----------------------------------------------------------------------- */

static bool chunk_is_full(const weir_read *read, uint32_t records, size_t bytes,
                          const help_stored *next)
{
    return records == read->max_records ||
           (records && bytes + next->size > read->max_bytes);
}

static weir_chunk *chunk_begin(weir_read *read, const help_stored *stored,
                               uint64_t offset)
{
    read->chunks = allocate(read->chunks, (read->chunk_count + 1) * sizeof *read->chunks);
    weir_chunk *chunk = &read->chunks[read->chunk_count++];
    *chunk = (weir_chunk){.offset = offset,
                          .epoch = stored->epoch,
                          .sequence = stored->sequence,
                          .arrived_ms = stored->arrived_ms};
    return chunk;
}

static void chunk_end(weir_read *read, weir_builder *builder, uint64_t last)
{
    weir_block *block = weir_builder_seal(builder);
    if (!block) return;
    read->chunks[read->chunk_count - 1].block = block;
    read->chunks[read->chunk_count - 1].last.a = last;
}

static void add_to_gap(weir_read *read, uint64_t offset, bool damaged)
{
    weir_gap *gap = read->gap_count ? &read->gaps[read->gap_count - 1] : NULL;
    if (gap && gap->last + 1 == offset && gap->damaged == damaged) {
        gap->last = offset;
        return;
    }
    read->gaps = allocate(read->gaps, (read->gap_count + 1) * sizeof *read->gaps);
    read->gaps[read->gap_count++] = (weir_gap){
        .shard = read->shard, .first = offset, .last = offset, .damaged = damaged};
}

/*  The index of the record with which to begin. */
static uint64_t where_to_begin(const shard *from, const weir_read *read)
{
    uint64_t at = read->after.a;
    for (; read->since_ms && at < from->last; at++) {
        const help_stored *stored = &from->stored[at];
        if (stored->state == HELP_PRESENT && stored->arrived_ms >= read->since_ms) break;
    }
    return at;
}

static void read_records(const shard *from, weir_read *read)
{
    weir_builder builder = {.target = 1 << 16};
    uint32_t records = 0;
    size_t bytes = 0;
    uint64_t batch = 0, at = where_to_begin(from, read);
    for (; at < from->last; at++) {
        const help_stored *stored = &from->stored[at];
        bool present = stored->state == HELP_PRESENT;
        if (present && chunk_is_full(read, records, bytes, stored)) break;
        if (!present || stored->batch != batch) chunk_end(read, &builder, at);
        batch = present ? stored->batch : 0;
        if (!present) {
            add_to_gap(read, at + 1, stored->state == HELP_DAMAGED);
            continue;
        }
        if (builder.records == 0) chunk_begin(read, stored, at + 1);
        weir_builder_add_encoded(&builder, stored->encoded, stored->size, 1, NULL);
        records++;
        bytes += stored->size;
    }
    chunk_end(read, &builder, at);
    weir_builder_fini(&builder);
    read->reached = (weir_position){at > read->after.a ? at : read->after.a, 0};
    read->more = at < from->last;
}

static void answer_read(help_store *self, const shard *from, weir_read *read)
{
    if (self->ending || from->read_error[0]) {
        read->err = self->ending ? WEIR_ECLOSED : WEIR_EREFUSED;
        snprintf(read->text, sizeof read->text, "%s",
                 self->ending ? "closed" : from->read_error);
        return;
    }
    read_records(from, read);
}

/* --- Jobs -------------------------------------------------------------------------- */

/*  True when it is answered and only has to be told, which is done without the lock. */
static bool answer(help_store *self, job *one)
{
    shard *of = find(self, one->batch ? one->batch->shard : one->read->shard);
    if (!self->ending && (one->batch ? of->wedged : of->hanging)) {
        push(&of->held, one);
        return false;
    }
    if (one->batch)
        answer_write(self, of, one);
    else
        answer_read(self, of, one->read);
    return true;
}

static void tell(help_store *self, job *one)
{
    if (one->read) one->read->done(one->read);
    if (one->batch) {
        one->batch->done(one->batch);
        weir_batch_destroy(&one->batch);
        pthread_mutex_lock(&self->lock);
        self->open_writes--;
        pthread_cond_broadcast(&self->changed);
        pthread_mutex_unlock(&self->lock);
    }
    free(one);
}

/*  What is done to a record is decided in the order of the queue, under the lock. */
static void work(help_store *self)
{
    pthread_mutex_lock(&self->lock);
    for (job *one; (one = pop(&self->queue));) {
        if (!answer(self, one)) continue;
        pthread_mutex_unlock(&self->lock);
        tell(self, one);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
}

static void *thread_run(void *arg)
{
    help_store *self = arg;
    for (bool ending = false; !ending;) {
        pthread_mutex_lock(&self->lock);
        while (!self->queue.first && !self->ending)
            pthread_cond_wait(&self->changed, &self->lock);
        ending = self->ending;
        pthread_mutex_unlock(&self->lock);
        work(self);
    }
    return NULL;
}

static void begin_work(help_store *self)
{
    if (self->threaded) {
        pthread_mutex_lock(&self->lock);
        pthread_cond_broadcast(&self->changed);
        pthread_mutex_unlock(&self->lock);
    } else {
        work(self);
    }
}

static void submit(weir_store *store, weir_batch *batch, weir_read *read)
{
    job *one = allocate(NULL, sizeof *one);
    *one = (job){.batch = batch, .read = read};
    help_store *self = enter(store);
    if (batch) self->open_writes++;
    push(&self->queue, one);
    leave(self);
    begin_work(self);
}

/*  What was held comes before what is queued. */
static void release(help_store *self, shard *one)
{
    if (!one->held.first) return;
    *one->held.end = self->queue.first;
    if (!self->queue.first) self->queue.end = one->held.end;
    self->queue.first = one->held.first;
    one->held.first = NULL;
    one->held.end = &one->held.first;
}

/* --- The table --------------------------------------------------------------------- */

static void store_write(weir_store *store, weir_batch *batch)
{
    help_store *self = (help_store *)store;
    self->counts->writes++;
    if (self->spy) self->spy(self->spy_arg, batch);
    submit(store, weir_batch_dup(batch), NULL);
}

static void store_read(weir_store *store, weir_read *read)
{
    ((help_store *)store)->counts->reads++;
    submit(store, NULL, read);
}

static void describe(const shard *one, weir_store_shard *row)
{
    *row = (weir_store_shard){
        .shard = one->id, .first = 1, .last = one->last, .end.a = one->last};
    for (uint64_t i = 0; i < one->last; i++) {
        const help_stored *stored = &one->stored[i];
        if (stored->state == HELP_TRIMMED) row->trimmed++;
        if (stored->state != HELP_PRESENT) continue;
        if (row->records++ == 0) {
            row->first = i + 1;
            row->begin.a = i;
            row->oldest_ms = stored->arrived_ms;
        }
        row->bytes += stored->size;
        row->newest_ms = stored->arrived_ms;
    }
    if (row->records) return;
    row->first = one->last + 1;
    row->begin.a = one->last;
}

static weir_err store_shards(weir_store *store, weir_store_shard **list, size_t *count,
                             weir_report *report)
{
    help_store *self = enter(store);
    bool away = self->away;
    *list = allocate(NULL, (self->shard_count + 1) * sizeof **list);
    *count = 0;
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->last) describe(self->shards[i], &(*list)[(*count)++]);
    leave(self);
    if (!away) return WEIR_OK;
    free(*list);
    *list = NULL;
    *count = 0;
    return weir_report_set(report, WEIR_ETIMEOUT, "help", "the server is away");
}

static weir_err store_fences(weir_store *store, weir_fence **list, size_t *count,
                             weir_report *report)
{
    (void)report;
    help_store *self = enter(store);
    *count = self->fence_count;
    *list = allocate(NULL, (self->fence_count + 1) * sizeof **list);
    memcpy(*list, self->fences, self->fence_count * sizeof **list);
    leave(self);
    return WEIR_OK;
}

static void store_set_fences(weir_store *store, const weir_fence *list, size_t count)
{
    help_store *self = enter(store);
    assert(count <= FENCES_MAX);
    self->fence_count = count;
    if (count) memcpy(self->fences, list, count * sizeof *list);
    leave(self);
}

static void store_watch(weir_store *store, int eventfd)
{
    help_store *self = enter(store);
    assert(self->watcher_count < WATCHERS_MAX);
    self->watchers[self->watcher_count++] = eventfd;
    leave(self);
}

static void store_unwatch(weir_store *store, int eventfd)
{
    help_store *self = enter(store);
    size_t i = 0;
    while (i < self->watcher_count && self->watchers[i] != eventfd)
        i++;
    assert(i < self->watcher_count);
    self->watchers[i] = self->watchers[--self->watcher_count];
    leave(self);
}

static void store_commit(weir_store *store, const char *group, uint32_t id,
                         uint64_t offset)
{
    (void)group, (void)id, (void)offset;
    ((help_store *)store)->counts->commits++;
}

static void store_forget(weir_store *store, const char *group)
{
    (void)group;
    ((help_store *)store)->counts->forgets++;
}

static weir_err store_flush(weir_store *store, int64_t timeout_us, weir_report *report)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    timeout_us += until.tv_nsec / 1000;
    until.tv_sec += timeout_us / 1000000;
    until.tv_nsec = timeout_us % 1000000 * 1000;
    help_store *self = enter(store);
    self->counts->flushes++;
    int late = 0;
    while (self->open_writes && late != ETIMEDOUT)
        late = pthread_cond_timedwait(&self->changed, &self->lock, &until);
    weir_err err = WEIR_OK;
    if (self->open_writes)
        err = weir_report_set(report, WEIR_ETIMEOUT, NULL, "%u writes are not answered",
                              self->open_writes);
    leave(self);
    return err;
}

static void free_shard(shard *one)
{
    for (uint64_t i = 0; i < one->last; i++)
        free(one->stored[i].encoded);
    free(one->stored);
    free(one);
}

static void store_close(weir_store **store_p)
{
    help_store *self = enter(*store_p);
    *store_p = NULL;
    self->counts->closes++;
    self->ending = true;
    for (size_t i = 0; i < self->shard_count; i++)
        release(self, self->shards[i]);
    leave(self);
    begin_work(self);
    if (self->threaded) pthread_join(self->thread, NULL);
    for (size_t i = 0; i < self->shard_count; i++)
        free_shard(self->shards[i]);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
    free(self);
}

static const weir_store_class class = {
    .name = "help",
    .write = store_write,
    .read = store_read,
    .shards = store_shards,
    .fences = store_fences,
    .watch = store_watch,
    .unwatch = store_unwatch,
    .commit = store_commit,
    .forget = store_forget,
    .flush = store_flush,
    .close = store_close,
};

static const weir_store_class class_without_fences = {
    .name = "help",
    .write = store_write,
    .read = store_read,
    .shards = store_shards,
    .fences = store_fences,
    .set_fences = store_set_fences,
    .watch = store_watch,
    .unwatch = store_unwatch,
    .commit = store_commit,
    .forget = store_forget,
    .flush = store_flush,
    .close = store_close,
};

void help_store_keep_no_fences(weir_store *self)
{
    self->class = &class_without_fences;
}

weir_store *help_store_new(bool threaded, help_store_counts *counts)
{
    help_store *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->base.class = &class;
    self->counts = counts ? counts : &self->own_counts;
    self->threaded = threaded;
    self->arrived_ms = 1000;
    self->queue.end = &self->queue.first;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    if (threaded && pthread_create(&self->thread, NULL, thread_run, self)) abort();
    return &self->base;
}

/* --- What is in it ----------------------------------------------------------------- */

void help_store_arrive(weir_store *store, int64_t arrived_ms)
{
    help_store *self = enter(store);
    self->arrived_ms = arrived_ms;
    leave(self);
}

uint64_t help_store_add(weir_store *store, uint32_t id, const weir_block *block)
{
    help_store *self = enter(store);
    shard *to = find(self, id);
    weir_iterator walk = {.block = block};
    weir_record record;
    self->batches++;
    while (weir_iterator_next(&walk, &record, NULL))
        append(self, to, &record,
               &(help_stored){
                   .epoch = 1, .sequence = to->last + 1, .arrived_ms = self->arrived_ms});
    uint64_t last = to->last;
    notify(self);
    leave(self);
    return last;
}

uint64_t help_store_put(weir_store *store, uint32_t id, const char *json, const char *key,
                        int64_t ts_ms)
{
    weir_builder builder = {.target = 1 << 16};
    weir_record record = {.has_ts = ts_ms >= 0,
                          .ts_ms = ts_ms,
                          .format = WEIR_JSON,
                          .data = (const uint8_t *)json,
                          .size = strlen(json)};
    if (key)
        record.key = (weir_value){.type = WEIR_STR,
                                  .format = WEIR_MSGPACK,
                                  .data = (const uint8_t *)key,
                                  .size = strlen(key)};
    weir_builder_add(&builder, &record, NULL);
    weir_block *block = weir_builder_seal(&builder);
    uint64_t last = help_store_add(store, id, block);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
    return last;
}

uint64_t help_store_last(weir_store *store, uint32_t id)
{
    help_store *self = enter(store);
    uint64_t last = find(self, id)->last;
    leave(self);
    return last;
}

bool help_store_look(weir_store *store, uint32_t id, uint64_t offset, help_stored *stored)
{
    help_store *self = enter(store);
    const shard *of = find(self, id);
    bool there = offset && offset <= of->last;
    if (there) *stored = of->stored[offset - 1];
    leave(self);
    return there;
}

void help_store_remove(weir_store *store, uint32_t id, uint64_t first, uint64_t last,
                       bool damaged)
{
    help_store *self = enter(store);
    shard *of = find(self, id);
    assert(first && last <= of->last);
    for (uint64_t offset = first; offset <= last; offset++)
        of->stored[offset - 1].state = damaged ? HELP_DAMAGED : HELP_TRIMMED;
    leave(self);
}

void help_store_fence(weir_store *store, const weir_fence *fence)
{
    help_store *self = enter(store);
    assert(self->fence_count < FENCES_MAX);
    self->fences[self->fence_count++] = *fence;
    leave(self);
}

void help_store_forget_fences(weir_store *store)
{
    help_store *self = enter(store);
    self->fence_count = 0;
    leave(self);
}

/* --- Switches ---------------------------------------------------------------------- */

void help_store_be_away(weir_store *store, bool on)
{
    help_store *self = enter(store);
    self->away = on;
    leave(self);
}

void help_store_watch_writes(weir_store *store, help_store_spy *spy, void *arg)
{
    help_store *self = enter(store);
    self->spy = spy;
    self->spy_arg = arg;
    leave(self);
}

/*  All that was held is queued again; what still has to wait is held again. */
static void let_go(help_store *self, shard *one)
{
    release(self, one);
    leave(self);
    begin_work(self);
}

void help_store_wedge(weir_store *store, uint32_t id, bool on)
{
    help_store *self = enter(store);
    shard *one = find(self, id);
    one->wedged = on;
    let_go(self, one);
}

void help_store_hang(weir_store *store, uint32_t id, bool on)
{
    help_store *self = enter(store);
    shard *one = find(self, id);
    one->hanging = on;
    let_go(self, one);
}

void help_store_fail(weir_store *store, uint32_t id, int times, weir_store_result result,
                     const char *text)
{
    help_store *self = enter(store);
    shard *one = find(self, id);
    one->fail = times;
    one->result = result;
    snprintf(one->fail_text, sizeof one->fail_text, "%s", text ? text : "");
    leave(self);
}

void help_store_fail_reads(weir_store *store, uint32_t id, const char *text)
{
    help_store *self = enter(store);
    shard *one = find(self, id);
    snprintf(one->read_error, sizeof one->read_error, "%s", text ? text : "");
    leave(self);
}

void help_store_refuse(weir_store *store, uint32_t id, uint64_t sequence)
{
    help_store *self = enter(store);
    find(self, id)->refuse = sequence;
    leave(self);
}

void help_store_refuse_if(weir_store *store, help_store_refused *refused, void *arg)
{
    help_store *self = enter(store);
    self->refused = refused;
    self->refused_arg = arg;
    leave(self);
}
