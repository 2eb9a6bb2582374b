/*  redis_once: what is said to a server that it may add the entries of a chunk once, even
    if the chunk comes again: a script adds those whose ids it does not know, and
   remembers these, in one step. An id is

        a text      a member of the sorted set {stream}:weir-ids, by time
        a place     that a bus gave: a bit of
   {stream}:weir-ids:<nonce>:<epoch>:<shard>:<page>, one key for 2,048 sequences in a row,
   which goes when nothing has been added to it for the time of dedup

    The keys lie in the stream's own slot of a cluster.                                */
#pragma once
#include "actors/redis_resp.h"
#include "runtime/record.h"

typedef enum {
    WEIR_REDIS_NO_ID,
    WEIR_REDIS_TEXT, // the first word of the entry
    WEIR_REDIS_PLACE,
    WEIR_REDIS_ID_KINDS
} weir_redis_id_kind;

/*  NULL where there is no id.                                                         */
extern const char *const weir_redis_once_scripts[WEIR_REDIS_ID_KINDS];

/* --- Chunks ------------------------------------------------------------------------ */

/*  items: what goes to the server at once, which does nothing else meanwhile. pages: keys
    that a chunk may touch.                                                            */
enum { WEIR_REDIS_CHUNK_ITEMS = 1000, WEIR_REDIS_CHUNK_PAGES = 64 };

typedef struct {
    uint64_t nonce, epoch, number;
    uint32_t shard;
} weir_redis_page;

/*  Entries in a row whose bits lie in one word of a page, in ascending order.         */
typedef struct {
    uint32_t mask;
    uint16_t page, word, count;
} weir_redis_run;

/*  The first entries of a stream, all with the same kind of id.                       */
typedef struct {
    weir_redis_id_kind kind;
    size_t count;
    size_t page_count, run_count; // of places
    weir_redis_page pages[WEIR_REDIS_CHUNK_PAGES];
    weir_redis_run runs[WEIR_REDIS_CHUNK_ITEMS];
} weir_redis_chunk;

void weir_redis_chunk_begin(weir_redis_chunk *self, weir_redis_id_kind kind);

/*  One more entry; its place, if that is its kind. False: it does not fit.            */
bool weir_redis_chunk_add(weir_redis_chunk *self, const weir_place *place);

/* --- The command ------------------------------------------------------------------- */

typedef struct {
    const uint8_t *stream; // its name
    size_t stream_size;
    const char *sha;    // of the script of the chunk's kind
    int64_t dedup_us;   // how long ids are remembered
    const char *maxlen; // entries that the stream keeps; "0": all
    size_t words;       // of an entry, beside the id
} weir_redis_once;

/*  Appends the command up to where the first entry begins.                            */
void weir_redis_once_begin(const weir_redis_once *self, const weir_redis_chunk *chunk,
                           weir_buffer *out);
/*  Appends what stands in front of the entries of a run.                              */
void weir_redis_once_put_run(const weir_redis_run *run, weir_buffer *out);
