/*  help_batch: what tests of stores share: batches whose records tell their ids, reads
    that wait for their answer, and waiting.                                         */
#pragma once
#include <inttypes.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "actors/store.h"

enum { patience_s = 60 };

/* --- Batches ----------------------------------------------------------------------- */

/*  A record's payload: its id, and x up to the size.                               */
static inline weir_block *make_block(weir_batch *batch, uint32_t from, uint32_t to,
                                     size_t size)
{
    weir_builder builder = {.target = 1};
    uint8_t *payload = malloc(size + 64);
    for (uint32_t i = from; i < to; i++) {
        int length = sprintf((char *)payload, "%" PRIu64 ":%u:%" PRIu64 " ", batch->epoch,
                             batch->shard, batch->first + i);
        memset(payload + length, 'x', size);
        size_t all = (size_t)length > size ? (size_t)length : size;
        weir_builder_add_payload(&builder, WEIR_TEXT, payload, all,
                                 &(weir_run){.records = 0});
    }
    free(payload);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

typedef struct {
    sem_t done;
} waiter;

static inline void tell(weir_batch *batch)
{
    sem_post(&((waiter *)batch->owner)->done);
}

/*  In two pieces, where it has two records.                                        */
static inline weir_batch *make_batch(uint32_t shard, uint64_t epoch, uint64_t first,
                                     uint32_t records, size_t size)
{
    weir_batch *batch = weir_batch_new();
    waiter *owner = calloc(1, sizeof *owner);
    sem_init(&owner->done, 0, 0);
    batch->shard = shard;
    batch->epoch = epoch;
    batch->first = first;
    batch->arrived_ms = 1000000 + (int64_t)first;
    batch->done = tell;
    batch->owner = owner;
    uint32_t half = records / 2;
    weir_piece parts[] = {{.block = half ? make_block(batch, 0, half, size) : NULL},
                          {.block = make_block(batch, half, records, size)}};
    for (int i = 0; i < 2; i++)
        if (parts[i].block) weir_batch_add(batch, &parts[i]);
    return batch;
}

static inline void free_batch(weir_batch **batch_p)
{
    waiter *owner = (*batch_p)->owner;
    weir_batch_destroy(batch_p);
    sem_destroy(&owner->done);
    free(owner);
}

static inline bool wait_for_post(sem_t *done, double seconds)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    int64_t ns = end.tv_nsec + (int64_t)(seconds * 1e9);
    end.tv_sec += ns / 1000000000;
    end.tv_nsec = ns % 1000000000;
    return sem_timedwait(done, &end) == 0;
}

static inline bool wait_for(weir_batch *batch, double seconds)
{
    return wait_for_post(&((waiter *)batch->owner)->done, seconds);
}

static inline weir_store_result wait_answer(weir_batch *batch)
{
    if (!wait_for(batch, patience_s)) fail_msg("no answer in %d s", patience_s);
    return batch->result;
}

static inline weir_store_result write_batch(weir_store *store, weir_batch *batch)
{
    store->class->write(store, batch);
    return wait_answer(batch);
}

/*  No answer in so many ms: what a store tells of a server that is slow today, too.  */
static inline bool has_timed_out(const weir_batch *batch)
{
    return batch->result == WEIR_STORE_RETRY && strstr(batch->text, " ms");
}

/*  As a shard does: what was late comes again. Any other answer is given.            */
static inline weir_store_result write_in_the_end(weir_store *store, weir_batch *batch)
{
    for (int64_t end = time(NULL) + patience_s; write_batch(store, batch);) {
        if (!has_timed_out(batch)) break;
        if (time(NULL) > end) fail_msg("%s", batch->text);
        batch->again = true;
    }
    return batch->result;
}

/* --- Stores ------------------------------------------------------------------------ */

static inline void close_store(weir_store **store_p)
{
    (*store_p)->class->close(store_p);
    assert_null(*store_p);
}

static inline void post_read(weir_read *read)
{
    sem_post(read->owner);
}

/*  The read's own answer, whatever it is.                                           */
static inline void read_any(weir_store *store, weir_read *read)
{
    sem_t done;
    sem_init(&done, 0, 0);
    read->done = post_read;
    read->owner = &done;
    store->class->read(store, read);
    if (!wait_for_post(&done, patience_s)) fail_msg("no answer to a read");
    sem_destroy(&done);
}

static inline void read_once(weir_store *store, weir_read *read)
{
    read_any(store, read);
    if (read->err) fail_msg("%s: %s", weir_err_name(read->err), read->text);
}

/* --- Waiting ----------------------------------------------------------------------- */

static inline double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/*  Waits for a condition, a look every millisecond.                                 */
#define EVENTUALLY(condition)                                                            \
    for (double end = seconds_now() + patience_s; !(condition); usleep(1000))            \
        if (seconds_now() > end) fail_msg("never: %s", #condition)
