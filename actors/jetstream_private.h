/*  jetstream_private: the inside of the JetStream store. No one else includes it.

        callers --write--> writer --line--> session --> server
                --read---> reader --line--> session -->
                               keeper: what is due by time, for both

    Writer and reader have a connection and a mutex each, so that large pages hold up no
    acknowledgement. Nobody waits under a mutex. Answers are told without one, from
    whichever thread has made them possible.                                        */
#pragma once
#include "actors/dedup.h"
#include "actors/jetstream_api.h"
#include "actors/jetstream_line.h"
#include "actors/watchers.h"

typedef struct weir_js_store weir_js_store;

/* --- Writing ----------------------------------------------------------------------- */

/*  A batch that is not answered. Its records are [first, end) of its epoch.          */
typedef struct weir_js_node {
    struct weir_js_node *next;          // of its shard; or of those to be told
    struct weir_js_node *older, *newer; // of all, in the order of writing
    weir_batch *batch;                  // a reference
    uint64_t number;                    // of the write, from 1
    uint64_t epoch, first, end;
    weir_store_result result; // the answer, as in the batch
    uint32_t refused;
    uint64_t last_offset;
    char text[256];
} weir_js_node;

/*  A record that was published, and is not proven.                                  */
typedef struct {
    const natsMsg *msg; // identity only, until its answer has come
    int64_t sent_us;
    enum { WEIR_JS_WAITING = 0, WEIR_JS_STORED, WEIR_JS_DOUBTED, WEIR_JS_REJECTED } state;
} weir_js_flight;

typedef enum {
    WEIR_JS_CLOSED = 0, // the stream has to be looked at before anything is sent
    WEIR_JS_OPENING,    // that is being done
    WEIR_JS_READY,
    WEIR_JS_DRAINING, // a record was not taken: the answers to those behind it are
                      // awaited
} weir_js_shard_state;

/*  Of a shard, in the order of sequences:

        proven | sent, not proven      | to be sent         | more batches
               next                    next + sent           first .. of the queue
               position .. in the stream, as predicted

    What was once sent to these places may get into the stream even when it was not there
    at a look, so `maybe` outlives sessions and batches: what comes behind it must know
    how much of it the stream has.                                                      */
typedef struct {
    uint32_t id;
    weir_js_names names;
    weir_js_shard_state state;
    bool broken;     // a batch has failed: RETRY until the one that comes again
    char fatal[256]; // "": it may go on
    weir_js_node *first, **end; // unanswered batches
    weir_js_node *at;     // the batch whose records are being sent; NULL: the first one
    weir_batch_walk walk; // in it
    uint64_t at_next;     // sequence of the record that the walk gives next
    bool too_large;       // that record: it is refused when all before it are proven
    bool known;           // what follows is
    int64_t alone_us; // until then records go one by one: what this bus had under way at
                      // its last start may still arrive, and would fit in between
    uint64_t epoch, next, position;
    uint64_t was;               // the stream's last sequence before this store wrote
    uint32_t sent;              // in this session: flights
    uint32_t maybe;             // ever: may be in the stream; at least `sent`
    weir_js_flight *flights;    // of those sent in this session: a ring of `window`
    uint32_t head, waiting;     // of the record `next`; how many have no answer yet
    uint32_t hint;              // where the next answer is expected, from head
    weir_store_result rejected; // of the first flight that was
    char rejection[256];
    unsigned doubts;   // lookups without progress
    int64_t behind_us; // since when the stream has less than was acknowledged; 0: it has
    int64_t progress_us; // when a record was last proven, or the first batch came
    /*  While OPENING.                                                              */
    uint64_t first_token;  // answers to earlier questions do not count
    weir_js_state found;   // of the stream
    uint64_t *tokens;      // of the questions for records that were sent; 0: it is there
    uint32_t to_ask;       // as many of them as can be in the stream
    uint32_t asked, right; // asked for so far; proven so far
} weir_js_shard;

typedef struct {
    weir_js_line line; // the mutex guards all of this
    weir_js_store *store;
    weir_js_shard **shards; // by id, ascending
    size_t shard_count;
    size_t turn;                   // whose records are sent first
    weir_js_node *oldest, *newest; // unanswered, and those that are being told
    weir_js_node *told, **told_end;
    pthread_cond_t answered;
    uint64_t written;
    bool news; // records were stored since the watchers were told
    weir_buffer scratch;
    weir_js_response response;
    weir_jetstream_stats stats;
} weir_js_writer;

void weir_js_writer_init(weir_js_writer *self, weir_js_store *store);
void weir_js_writer_close(weir_js_writer *self);
void weir_js_writer_fini(weir_js_writer *self);
int64_t weir_js_writer_run(weir_js_writer *self); // the keeper's
void weir_js_write(weir_store *store, weir_batch *batch);
weir_err weir_js_flush(weir_store *store, int64_t timeout_us, weir_report *report);

/*  Brings rows up to what was stored since the server was asked, adding those of shards
    that are new. *list grows.                                                      */
/*  The highest epoch of ours in the streams that were looked at. Any thread.         */
uint64_t weir_js_writer_epoch(weir_js_writer *self);
void weir_js_writer_add_rows(weir_js_writer *self, weir_store_shard **list,
                             size_t *count);

/*  jetstream_open.c, for jetstream_write.c; all under the mutex.                     */

/*  Looks at the stream, and at what it has of the records that were sent; then the shard
    is READY, or has failed.                                                        */
void weir_js_open(weir_js_writer *self, weir_js_shard *shard);

/*  jetstream_write.c, for jetstream_open.c.                                          */

/*  The record `next` is in the stream.                                              */
void weir_js_prove(weir_js_writer *self, weir_js_shard *shard);
/*  Batches whose records are all proven are answered.                                */
void weir_js_settle(weir_js_writer *self, weir_js_shard *shard);
/*  Nothing is under way any more; the next record to be sent is `next`.               */
void weir_js_rewind(weir_js_shard *shard);
/*  Answers all batches of the shard: the first with this, those behind it RETRY.
    for_good: what comes later is FATAL, too.                                       */
void weir_js_fail(weir_js_writer *self, weir_js_shard *shard, weir_store_result result,
                  bool for_good, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* --- Reading ----------------------------------------------------------------------- */

/*  A consumer of the server that will go on behind this sequence.                    */
typedef struct weir_js_consumer {
    struct weir_js_consumer *next; // of those that are idle, the newest first
    uint32_t shard;
    char name[64];
    uint64_t after;
    uint64_t given;  // messages, all of which have come
    bool dry;        // as it seems nothing was behind it
    bool replicated; // it reads a replica of the stream, say
    int64_t used_us;
} weir_js_consumer;

typedef struct weir_js_job weir_js_job;
typedef struct {
    weir_js_job *first, **end;
} weir_js_jobs;

typedef struct {
    weir_js_line line; // the mutex guards all of this
    weir_js_store *store;
    weir_js_jobs jobs; // not answered, in the order of their deadlines
    weir_js_jobs told; // answered, and to be told
    weir_js_consumer *idle;
    size_t under_way; // bytes that the server may send us
    bool is_full;     // a job waits until there are less
    weir_js_response response;
    weir_buffer scratch;
    /*  What weir_js_shards has learned.                                             */
    pthread_cond_t listed;
    bool listing, has_list;
    uint64_t list_number; // of answers, good or bad
    int64_t listed_us;
    char list_error[256]; // of the last answer; "": it was good
    weir_store_shard *list, *next_list;
    size_t list_count, next_count, list_seen; // seen: streams of the server, so far
    char foreign[256], next_foreign[256];     // "": the bus can write to all of them
} weir_js_reader;

void weir_js_reader_init(weir_js_reader *self, weir_js_store *store);
void weir_js_reader_close(weir_js_reader *self);
void weir_js_reader_fini(weir_js_reader *self);
int64_t weir_js_reader_run(weir_js_reader *self); // the keeper's
void weir_js_read(weir_store *store, weir_read *read);

/*  jetstream_list.c.                                                                */
weir_err weir_js_shards(weir_store *store, weir_store_shard **list, size_t *count,
                        weir_report *report);

/*  jetstream_page.c: the answer to a read, message by message.                       */
typedef struct {
    weir_read *read;
    uint64_t position; // offset of the last record that was read or passed
    uint32_t records;  // taken
    uint64_t nonce;    // whose records are read; 0: anybody's
    weir_builder builder;
    uint64_t epoch, sequence; // of the last record of the open chunk
} weir_js_page;

void weir_js_page_begin(weir_js_page *self, weir_read *read, uint64_t nonce);
/*  A message with this offset, from the stream of the read's shard.                  */
void weir_js_page_add(weir_js_page *self, uint64_t offset, int64_t stored_ms,
                      natsMsg *msg);
/*  Up to this offset there is nothing any more.                                      */
void weir_js_page_trimmed(weir_js_page *self, uint64_t last);
void weir_js_page_end(weir_js_page *self, bool more);

/* --- The store --------------------------------------------------------------------- */

struct weir_js_store {
    weir_store base;
    weir_jetstream_config config; // texts are ours
    weir_nats_servers servers;    // for their text
    char client[80];              // name of the connections
    weir_js_writer writer;
    weir_js_reader reader;
    pthread_t keeper;
    int wake;                     // eventfd
    _Atomic int64_t asleep_until; // the keeper's; -1: until it is woken
    atomic_bool closing;
    weir_fence_list fences;
    pthread_mutex_t watch_mutex;
    weir_watchers watchers;
};

void weir_js_configure_line(weir_js_line_config *config, weir_js_store *store);

/*  Something is due then; 0: now. Any thread.                                       */
void weir_js_wake_keeper(void *store, int64_t due_us);

/*  Records were stored: tells who watches. Any thread.                              */
void weir_js_tell_watchers(weir_js_store *self);
