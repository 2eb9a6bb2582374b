/*  redis_store: what the parts of store_redis share. No one else includes it.

        store_redis.c    the table, opening and closing, the thread
        redis_conn.c     a connection
        redis_lookup.c   addresses of names
        redis_resp.c     words of the protocol
        redis_url.c      which server
        redis_nodes.c    servers, and which has a shard
        redis_write.c    from a batch to its answer
        redis_call.c     the script, and a call of it
        redis_seen.c     what the server says of a stream
        redis_survey.c   of all of them: shards () and the epoch
        redis_read.c     reads
        redis_entry.c    from entries to chunks and gaps
        redis_since.c    where a time begins

    All of it belongs to the store's thread, but for what is under `mutex`.         */
#pragma once
#include <pthread.h>
#include <time.h>
#include "actors/redis_conn.h"
#include "actors/store_redis.h"
#include "actors/watchers.h"

typedef struct weir_redis weir_redis;
typedef struct weir_redis_node weir_redis_node;

/* --- Writing ----------------------------------------------------------------------- */

/*  One write of a batch, from write () to its answer.                              */
typedef struct weir_redis_job {
    struct weir_redis_job *next;          // on its way in, then of its shard
    struct weir_redis_job *older, *newer; // of all that are open, under `mutex`
    weir_batch *batch;                    // a reference
    uint64_t number;                      // of the write
    bool again;                           // the batch's, when it was written
    uint32_t taken;                       // records that are in a call of this turn, or
                                          // were stored before it
    weir_batch_walk walk;                 // behind them
    uint32_t refused;                     // index of one that is too large; UINT32_MAX
} weir_redis_job;

/*  After an answer other than SAFE, until what follows may be stored again.         */
typedef struct {
    bool on;
    uint64_t epoch, sequence; // of the first record that was not stored
} weir_redis_barrier;

/*  Whether the last id of the stream is known.                                     */
typedef enum {
    WEIR_REDIS_UNSURE = 0,
    WEIR_REDIS_ASKING,
    WEIR_REDIS_SURE
} weir_redis_trust;

typedef struct weir_redis_shard {
    uint32_t id;
    char *key; // owned
    size_t key_size;
    weir_redis_node *node;

    /*  Writing. Of proven <= last <= sent: what lies behind proven may be stored.  */
    weir_redis_job *first, **end;
    weir_redis_trust trust;
    bool known;           // proven is set
    weir_position proven; // last id that the stream is known to have had
    weir_position last;   // last id in a call of this turn: what the next one names
    weir_position sent;   // last id that was ever in a call
    uint64_t turn;        // answers to calls of an earlier one are void
    uint32_t unanswered;  // records of this turn
    unsigned rounds;      // turns since anything was stored
    weir_redis_barrier barrier;
    bool ready; // in its node's list
    struct weir_redis_shard *ready_next;

    /*  Reading.                                                                    */
    size_t record_bytes;  // what its records had lately; 0: not known
    weir_position newest; // last id that was seen in any way

    bool exists; // or did
    weir_store_shard told;
} weir_redis_shard;

/* --- Servers ----------------------------------------------------------------------- */

typedef struct weir_redis_reading weir_redis_reading;

struct weir_redis_node {
    weir_redis_node *next;
    weir_redis *store;
    weir_redis_url url;
    weir_redis_conn *writer, *reader;
    char sha[41];                         // of the script; "": not known
    bool loading;                         // the script is on its way
    weir_redis_shard *ready, **ready_end; // that may have something to send
    unsigned reads;                       // requests that are out
    bool surveyed;                        // its streams are known
};

/* --- Survey ------------------------------------------------------------------------ */

/*  Streams are looked for once; then those that are known are asked.                */
typedef struct {
    bool under_way;
    bool mapped;      // all servers are known
    bool complete;    // all streams that were there at some time are known
    uint64_t number;  // of the request that it answers
    unsigned out;     // answers to come
    int64_t asked_us; // when the streams were asked; 0: they were not
    int64_t fresh_us; // until then nobody asks again
    bool fatal;
    char error[256]; // "": none yet
} weir_redis_survey;

/* --- The store --------------------------------------------------------------------- */

struct weir_redis {
    weir_store store;          // the first: its class
    weir_redis_config config;  // its texts are owned, but for url: NULL
    weir_redis_node *nodes;    // the first one is that of the url
    weir_redis_shard **shards; // by rising id
    size_t shard_count;
    size_t record_max; // bytes; tests set it
    weir_redis_survey survey;
    weir_redis_reading *readings; // all of them
    pthread_t thread;
    bool running;
    int wake; // eventfd

    /*  Of `mutex`.                                                                 */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    weir_redis_job *jobs_in, **jobs_in_end;
    weir_redis_reading *reads_in, **reads_in_end;
    weir_redis_job *oldest, *newest; // open
    uint64_t written;                // number of the last write
    uint64_t surveys_asked, surveys_done;
    weir_err survey_err; // of the last one
    char survey_text[256];
    char reads_error[256];  // why nothing can be read; "": it can, or is not known
    weir_store_shard *list; // of the last good one, owned; NULL: there was none
    size_t list_count;
    uint64_t epoch; // highest one in it
    weir_fence_list fences;
    weir_watchers watchers;
    weir_redis_stats stats;
    bool closing;
};

/*  The instant so far from now, for a wait on `changed`.                           */
void weir_redis_deadline(struct timespec *end, int64_t timeout_us);
bool weir_redis_is_past(const struct timespec *end);
weir_redis_shard *weir_redis_shard_of(weir_redis *self, uint32_t id); // made when new
void weir_redis_wake(weir_redis *self);
void weir_redis_tell(weir_redis *self); // records were stored

/* --- Servers (redis_nodes.c) ------------------------------------------------------- */

/*  Found or made; NULL: it is on another host, and plaintext is not allowed, or there are
    too many.                                                                       */
weir_redis_node *weir_redis_node_at(weir_redis *self, const char *host, uint16_t port);
weir_redis_node *weir_redis_node_first(weir_redis *self, const weir_redis_url *url);
void weir_redis_nodes_destroy(weir_redis *self);
void weir_redis_shard_go(weir_redis_shard *shard, weir_redis_node *node);
/*  It is away: its shards are asked for at another one, of the same cluster, which knows
    who has them by now, or will.                                                   */
void weir_redis_node_leave(weir_redis_node *self);
/*  The shard goes where MOVED says; false: it must not.                            */
bool weir_redis_shard_move(weir_redis *self, weir_redis_shard *shard, const char *error);

/* --- Writing (redis_write.c) ------------------------------------------------------- */

void weir_redis_write(weir_store *store, weir_batch *batch);
weir_err weir_redis_flush(weir_store *store, int64_t timeout_us, weir_report *report);
void weir_redis_job_take(weir_redis *self, weir_redis_job *job); // from jobs_in
void weir_redis_node_write(weir_redis_node *self);               // sends what may be sent
void weir_redis_node_opened(weir_redis_node *self);
void weir_redis_node_ended(weir_redis_node *self);
void weir_redis_shard_ready(weir_redis_shard *self); // it may have something to send
void weir_redis_jobs_end(weir_redis *self); // answers RETRY for all: it is closed

/* --- Calls (redis_call.c) ---------------------------------------------------------- */

/*  Appends a call with the next records of a job, at most so many; how many they are. A
    record that is too large ends them, and becomes the job's `refused`.            */
uint32_t weir_redis_call_put(weir_redis *self, weir_redis_shard *shard,
                             weir_redis_job *job, uint32_t most);
extern const char weir_redis_script[];

/* --- What a stream has (redis_seen.c) ---------------------------------------------- */

typedef struct {
    bool exists;
    weir_position last; // last generated id
    uint64_t records;
    int64_t added;                // in all, ever; -1: not known
    weir_position oldest, newest; // entries; 0-0: none
    int64_t oldest_ms, newest_ms;
    bool ours; // the newest one has our `i`
    uint64_t bytes;
} weir_redis_seen;

/*  Appends the question; bytes: with them.                                         */
void weir_redis_seen_put(const weir_redis_shard *shard, bool bytes, weir_buffer *out);
/*  False: it is no answer to it.                                                   */
bool weir_redis_seen_read(weir_redis_seen *self, const weir_redis *store,
                          const weir_redis_shard *shard, const redisReply *reply);

/*  Whether text is the id of this record.                                          */
bool weir_redis_is_id(const weir_redis *self, uint32_t shard, weir_position at,
                      const redisReply *text);

/* --- All streams (redis_survey.c) -------------------------------------------------- */

weir_err weir_redis_shards(weir_store *store, weir_store_shard **list, size_t *count,
                           weir_report *report);
uint64_t weir_redis_known_epoch(weir_store *store);
void weir_redis_survey_run(weir_redis *self); // begins one that is asked for
/*  A connection for reads cannot be made.                                          */
void weir_redis_survey_failed(weir_redis *self, const weir_redis_node *node);
/*  So many records were written.                                                   */
void weir_redis_count(weir_redis_shard *shard, uint64_t records);

/* --- Reading (redis_read.c) -------------------------------------------------------- */

void weir_redis_read(weir_store *store, weir_read *read);
/*  From reads_in; gives the next one there.                                        */
weir_redis_reading *weir_redis_reading_take(weir_redis *self,
                                            weir_redis_reading *reading);
void weir_redis_node_read(weir_redis_node *self); // asks what may be asked
void weir_redis_reads_failed(weir_redis_node *self);
int64_t weir_redis_reads_deadline(const weir_redis *self);
void weir_redis_reads_run_due(weir_redis *self);
void weir_redis_reads_end(weir_redis *self); // answers all: it is closed
