/*  poll_lane: one shard during one poll, and the page that lanes fill. A part of poll. */
#pragma once
#include "actors/poll.h"

/*  The page, and what may still come into it.                                      */
typedef struct {
    weir_page *page;    // lent
    weir_filter *where; // lent; NULL: none
    weir_doc *doc;      // lent, scratch of the filter
    uint64_t nonce;     // of the bus
    uint32_t room;      // records
    uint32_t scan;      // records that may be examined
    size_t bytes;
    int64_t stop_us; // when the filter has looked for long enough
    bool full;       // a record did not fit, or the filter has stopped
} weir_fill;

static inline bool weir_fill_ended(const weir_fill *self)
{
    return self->full || self->room == 0 || self->scan == 0;
}

typedef struct {
    uint32_t shard;
    weir_position began; // where the poll began
    weir_position at;    // the last record examined, or the last offset passed
    int64_t since_ms;    // of the first read; 0: it begins behind `at`
    bool waiting;        // for an answer
    bool asked;          // and the read is out; else an earlier one has to come first
    bool answered, slow, failed;
    bool more;             // there is more behind the answer
    bool due;              // to be asked, though nothing says that there is more
    uint32_t places;       // of this round
    weir_position barrier; // where a fence stops it; the end: nowhere
    weir_position asking;  // it was asked after a fence with this `last` was known
    weir_position dry;     // and had none any more: whatever its place is
    weir_read *answer; // owned; NULL: none of which anything is to be examined or passed
    uint32_t chunk, record, gap; // the next ones in it
    weir_iterator walk;          // of the chunk
} weir_poll_lane;

/*  It may give a record now, if it is asked.                                       */
bool weir_poll_lane_ready(const weir_poll_lane *self);

/*  Takes the answer to its read.                                                   */
void weir_poll_lane_answer(weir_poll_lane *self, weir_fill *fill, weir_read **read_p);

/*  Passes what cannot be read before the next record of the answer, as far as the barrier
    lets it. Gives whether it has moved.                                            */
bool weir_poll_lane_pass(weir_poll_lane *self, weir_page *page);

/*  Examines records of the answer until its places are filled.                     */
void weir_poll_lane_take(weir_poll_lane *self, weir_fill *fill);

bool weir_position_equal(weir_position a, weir_position b);

/*  Notes that it has not answered.                                                 */
void weir_poll_lane_is_slow(weir_poll_lane *self, weir_page *page, int64_t timeout_us);
