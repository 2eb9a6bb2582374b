/*  help_jetstream: what tests of the JetStream store share: a server, stores on it, a
    client of their own beside it, and a dispatch that sends.                         */
#pragma once
#include "help_disk.h"
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include "actors/dedup.h"
#include "actors/dispatch.h"
#include "actors/store_jetstream.h"
#include "help_nats_server.h"
#include "runtime/clock.h"

enum { nonce = 0x5eed };

/* --- Stores ------------------------------------------------------------------------ */

static inline weir_jetstream_config config_at(uint16_t port)
{
    static char url[128];
    weir_jetstream_config config = weir_jetstream_defaults;
    config.bus = "test";
    config.url = help_nats_url(port, NULL, url);
    config.nonce = nonce;
    config.timeout_us = 20000000; // the machine may have other work
    return config;
}

static inline weir_store *new_store(const weir_jetstream_config *config)
{
    weir_report report = {0};
    weir_store *store = NULL;
    if (weir_jetstream_store_new(&store, config, &report))
        fail_msg("%s: %s", report.where, report.text);
    return store;
}

static inline weir_store *store_at(uint16_t port)
{
    weir_jetstream_config config = config_at(port);
    return new_store(&config);
}

static inline weir_jetstream_stats stats_of(weir_store *store)
{
    weir_jetstream_stats stats;
    weir_jetstream_look(store, &stats);
    return stats;
}

/* --- Another client ---------------------------------------------------------------- */

/*  A message of somebody else's; id may be NULL.                                     */
static inline uint64_t publish(client *self, const char *subject, const char *id,
                               const char *text)
{
    jsPubAck *ack = NULL;
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MsgId = id;
    natsStatus s =
        js_Publish(&ack, self->js, subject, text, (int)strlen(text), &options, NULL);
    if (s) fail_msg("%s", natsStatus_GetText(s));
    uint64_t sequence = ack->Sequence;
    jsPubAck_Destroy(ack);
    return sequence;
}

static inline uint64_t last_of(client *self, const char *stream)
{
    jsStreamInfo *info = NULL;
    if (js_GetStreamInfo(&info, self->js, stream, NULL, NULL)) return 0;
    uint64_t last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return last;
}

/* --- Sending as a shard does ------------------------------------------------------- */

/*  Batches of a shard through a dispatch, several under way, until all are settled.   */
typedef struct {
    weir_store *store;
    weir_dispatch *dispatch;
    uint32_t shard, in_flight;
    uint64_t epoch, next; // sequence of the next batch's first record
    uint64_t safe, dead;  // settled records
    char failed[256];
    weir_dead_reason reason; // of the last dead one
} sender;

static inline void sender_settled(void *arg, const weir_batch *batch, uint32_t first,
                                  uint32_t count, const weir_dispatch_loss *loss)
{
    sender *self = arg;
    (void)batch, (void)first;
    *(loss ? &self->dead : &self->safe) += count;
    if (loss) self->reason = loss->reason;
}

static inline void sender_ended(void *arg)
{
    ((sender *)arg)->in_flight--;
}

static inline void sender_failed(void *arg, const char *text)
{
    sender *self = arg;
    snprintf(self->failed, sizeof self->failed, "%s", text);
}

static inline void sender_begin(sender *self, weir_store *store, uint32_t shard,
                                uint64_t epoch)
{
    *self = (sender){.store = store, .shard = shard, .epoch = epoch, .next = 1};
    weir_dispatch_config config = {.store = store,
                                   .shard = shard,
                                   .nonce = nonce,
                                   .retry = WEIR_RETRY_DEFAULTS,
                                   .settled = sender_settled,
                                   .ended = sender_ended,
                                   .failed = sender_failed,
                                   .arg = self};
    config.retry.wait.first_us = 5000;
    config.retry.wait.max_us = 100000;
    assert_int_equal(weir_dispatch_new(&self->dispatch, &config), WEIR_OK);
}

static inline void sender_send(sender *self, uint32_t records, size_t size)
{
    weir_batch *batch = make_batch(self->shard, self->epoch, self->next, records, size);
    sem_destroy(&((waiter *)batch->owner)->done);
    free(batch->owner);
    self->next += records;
    self->in_flight++;
    weir_dispatch_send(self->dispatch, &batch, weir_clock_now_us());
}

/*  One turn of a shard's loop, at most so long.                                     */
static inline void sender_turn(sender *self, int most_ms)
{
    int64_t due_us = weir_dispatch_deadline(self->dispatch);
    int wait_ms = weir_clock_timeout_ms(due_us);
    struct pollfd fd = {.fd = weir_dispatch_fd(self->dispatch), .events = POLLIN};
    poll(&fd, 1, wait_ms < 0 || wait_ms > most_ms ? most_ms : wait_ms);
    weir_dispatch_read(self->dispatch, weir_clock_now_us());
    weir_dispatch_run_due(self->dispatch, weir_clock_now_us());
}

static inline void sender_finish(sender *self)
{
    for (double end = seconds_now() + patience_s; self->in_flight && !self->failed[0];) {
        sender_turn(self, 100);
        if (seconds_now() > end) fail_msg("%u batches are not settled", self->in_flight);
    }
}

static inline void sender_end(sender *self)
{
    weir_dispatch_destroy(&self->dispatch);
}
