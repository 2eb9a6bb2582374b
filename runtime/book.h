/*  book: which inputs are not safe yet, and what came of their records.

    A lane is one stream that is acknowledged in order: an upstream peer, or one
    file of a source. Each input block is an entry of a lane. An entry has holds:
    one by who works on it, one for each output that is not yet safe. When the last
    hold goes the entry is done; when everything before it in its lane is done too,
    it is settled: its dead letters are written, its fates counted, its sequence
    acknowledged upstream (or its position committed).

    A class without threads or sockets; one thread uses it.                    */
#pragma once
#include "runtime/dead.h"
#include "runtime/vitals.h"

typedef struct weir_lane weir_lane;
typedef struct weir_entry weir_entry;

/*  What became of the records of an entry; together they are its records.     */
typedef struct {
    uint64_t done, dropped, filtered, dead, skipped, shed;
} weir_fates;

struct weir_entry {
    weir_lane *lane; // NULL: it stands alone, and released is called with its last hold
    void (*released)(weir_entry *self);
    weir_entry *next;  // in the lane, later
    uint64_t sequence; // of the block in its lane
    uint64_t position; // a source's: where reading resumes once this is safe
    int token;         // a source's: names the file generation of the position
    uint32_t holds;
    uint32_t records;
    uint32_t pending; // for the worker: records whose fate is open
    uint32_t inside;  // for the worker: records that it still holds
    uint64_t cost;    // credit to grant upstream
    bool granted;
    weir_fates fates;
    uint64_t lost;   // outputs that a reader will never take: dead letters, not done
    weir_dead *dead; // pending dead letters, owned
    weir_dead **dead_end;
};

struct weir_lane {
    void *owner; // weir_peer of an inlet, or the source's own
    weir_entry *first, *last;
    weir_lane *next_ready; // list of lanes with something to settle
    bool ready;
};

typedef struct {
    weir_lane *ready;
    uint64_t open; // entries that are not settled
} weir_book;

/*  Opens an entry at the end of the lane, with one hold (the worker's).       */
weir_entry *weir_book_open(weir_book *self, weir_lane *lane, uint64_t sequence,
                           uint32_t records);

static inline void weir_entry_hold(weir_entry *self)
{
    self->holds++;
}

/*  One hold less. With the last one the lane may become ready.                */
void weir_book_release(weir_book *self, weir_entry *entry);

/*  Takes back the entry that was opened last in its lane, with the worker's hold only. */
void weir_book_cancel(weir_book *self, weir_entry *entry);

/*  Adds a list of dead letters; takes it.                                     */
void weir_entry_add_dead(weir_entry *self, weir_dead **list_p);

/*  Takes the next lane in which the first entry is done; NULL: none. Its done
    entries are then popped one by one: NULL when the next is not done.
    The caller owns a popped entry and ends it with weir_book_close.           */
weir_lane *weir_book_next_ready(weir_book *self);
weir_entry *weir_lane_pop_done(weir_lane *self);
void weir_book_close(weir_book *self, weir_entry **entry_p);

/*  Frees every entry of the lane.                                             */
void weir_lane_fini(weir_lane *self, weir_book *book);
