/*  splitter: deals the records of blocks out to open blocks, one for each part (a shard)
    of a route, by the vnode of their key. A class without threads or sockets; time is
    the caller's.                                                                   */
#pragma once
#include "runtime/block.h"
#include "runtime/book.h"

/*  How many records of an entry are in an open block, which holds the entry for them. */
typedef struct {
    weir_entry *entry;
    uint32_t records;
    uint32_t *which; // their indices in the block that was dealt, ascending, owned; NULL:
                     // all of it, or nobody asks
} weir_share;

typedef struct {
    const char *key;      // field path, checked, lent; NULL: the record's own key only
    size_t target;        // bytes of an open block
    size_t block_max;     // bytes of a block that goes on as it is; 0: any number
    uint32_t records_max; // of a block; 0: any number
    int64_t linger_us;    // longest that it is open with up to 8 parts; with more of them
                          // longer, to 40 times, but never when nothing more comes for so
                          // long; and above 16 parts its target is twice as large
    weir_ledger *ledger;  // lent; NULL: none
    bool notes_which;     // shares know which records they are
    /*  An open block is complete: *block_p may be taken, and what the shares hold and own
        is the callee's.                                                            */
    void (*sealed)(void *arg, uint32_t part, weir_block **block_p,
                   const weir_share *shares, size_t count);
    void *arg;
} weir_splitter_config;

typedef struct weir_splitter weir_splitter;

weir_splitter *weir_splitter_new(const weir_splitter_config *config);
/*  Open blocks are given up, and their holds with them (the book ends, too).       */
void weir_splitter_destroy(weir_splitter **self_p);

/*  Seals what is open and deals to this many parts from now on.                    */
void weir_splitter_resize(weir_splitter *self, uint32_t parts);

/*  Whether the block may go to any part as it is: no record has a key, and it is within
    the bounds.                                                                     */
bool weir_splitter_is_whole(const weir_splitter *self, const weir_block *block);

/*  Deals a block (lent): a keyed record to owners[vnode], with that key written into it,
    a keyless one to the part `keyless`. A field that is no key makes a record keyless,
    and takes its own key from it. A record larger than the target is a block of its own.
    parses (may be NULL) counts parsed payloads.                                    */
void weir_splitter_put(weir_splitter *self, weir_block *block, weir_entry *entry,
                       const uint32_t *owners, uint32_t vnodes, uint32_t keyless,
                       int64_t now_us, uint64_t *parses);

void weir_splitter_seal(weir_splitter *self, uint32_t part); // if it is open
void weir_splitter_seal_all(weir_splitter *self);

/*  Seals what has been open for so long. When the next is due; -1: nothing is open. */
void weir_splitter_seal_due(weir_splitter *self, int64_t now_us);
int64_t weir_splitter_deadline(const weir_splitter *self);
