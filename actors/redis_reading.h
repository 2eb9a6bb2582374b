/*  redis_reading: one read, from read () to its answer. A part of store_redis.       */
#pragma once
#include "actors/redis_store.h"

typedef enum {
    WEIR_READING_PAGE = 0, // entries behind `at`
    WEIR_READING_TRIMMED,  // is what was passed at the start missing?
    WEIR_READING_TIME,     // where does a time begin?
} weir_reading_step;

/*  Halving (redis_since.c).                                                        */
typedef enum {
    WEIR_SINCE_ENDS = 0, // what does the stream have?
    WEIR_SINCE_EPOCH,    // in which epoch does it begin?
    WEIR_SINCE_TOP,      // what is the last one of it?
    WEIR_SINCE_SEQUENCE,
} weir_since_step;

typedef struct {
    weir_since_step step;
    weir_position low;   // all up to there came before
    weir_position found; // this one came then or later, and all behind it
    uint64_t high;       // epoch, of SEQUENCE sequence, above which nobody has to look
    uint64_t middle;     // the one that was asked for
} weir_redis_since;

struct weir_redis_reading {
    weir_redis_reading *next; // of all
    weir_read *read;          // NULL: it was answered, and a request is still out
    weir_redis_shard *shard;
    weir_redis_node *asked; // whom a request is out to; NULL: none is
    weir_reading_step step;
    weir_redis_since since;
    int64_t deadline_us;
    bool lost;                 // a connection, once
    unsigned moves;            // from server to server
    uint32_t count, count_max; // entries that were asked for, that may be asked for
    bool checks;               // the start: behind it something may be missing
    weir_position begin;       // the start
    weir_position begun;       // first entry that came
    weir_position at;          // last one that was read or passed
    uint32_t records;
    size_t bytes;
    weir_builder builder; // of the last chunk
};

/* --- Entries (redis_entry.c) ------------------------------------------------------- */

typedef struct {
    weir_position at;
    bool ours;           // our `i`, and a record; else what follows is not set
    const uint8_t *data; // the record, lent
    size_t size;
    int64_t ts_ms;
} weir_redis_entry;

/*  False: this is no entry of a stream.                                            */
bool weir_redis_entry_read(weir_redis_entry *self, const weir_redis *store,
                           uint32_t shard, const redisReply *reply);

/*  Takes entry after entry into the read's answer, and passes those that are not ours.
    False: it does not fit any more.                                                */
bool weir_redis_reading_add(weir_redis_reading *self, const weir_redis_entry *entry);
/*  The last chunk is whole.                                                        */
void weir_redis_reading_seal(weir_redis_reading *self);
/*  Notes before all others that records between begin and `first` were trimmed, as far as
    ids tell.                                                                       */
void weir_redis_reading_trimmed(weir_redis_reading *self, weir_position first);

/* --- Time (redis_since.c) ---------------------------------------------------------- */

/*  Appends the next question.                                                      */
void weir_redis_since_put(const weir_redis_reading *self, weir_buffer *out);
typedef enum {
    WEIR_SINCE_MORE = 0,
    WEIR_SINCE_FOUND,
    WEIR_SINCE_NONE,
    WEIR_SINCE_BAD
} weir_since_result;
/*  Takes its answer. FOUND, NONE: `at` is before the first record that came then or
    later, or at the end. */
weir_since_result weir_redis_since_take(weir_redis_reading *self,
                                        const redisReply *reply);
