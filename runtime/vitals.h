/*  vitals: what the world may see of a node while it runs: its state and its
    counters. Written by the node's own threads, read by anyone.

    The counters of records balance at all times:
    in = done + dropped + filtered + dead + skipped + shed + resident.         */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "runtime/err.h"
#include "runtime/tap.h"

typedef enum {
    WEIR_COUNT_IN = 0,
    WEIR_COUNT_OUT,
    WEIR_COUNT_DONE,
    WEIR_COUNT_DROPPED,
    WEIR_COUNT_FILTERED,
    WEIR_COUNT_DEAD,
    WEIR_COUNT_SKIPPED,
    WEIR_COUNT_SHED,
    WEIR_COUNT_RESIDENT, // the one gauge among them
    WEIR_COUNT_BYTES_IN,
    WEIR_COUNT_BYTES_OUT,
    WEIR_COUNT_BLOCKS_IN,
    WEIR_COUNT_BLOCKS_OUT,
    WEIR_COUNT_ACKS,
    WEIR_COUNT_COMMITS,
    WEIR_COUNT_PARSES,
    WEIR_COUNT_PARSE_ERRORS,
    WEIR_COUNT_CALL_ERRORS,
    WEIR_COUNT_OVERRUNS,
    WEIR_COUNT_RETRIES,
    WEIR_COUNT_HOLDS,
    WEIR_COUNT_REPLAYED,
    WEIR_COUNT_RESTARTS,
    WEIR_COUNT_GAPS,
    WEIR_COUNT_MALFORMED,
    WEIR_COUNT_GIVEN_UP,
    WEIR_COUNTS, // their number
} weir_count;

typedef enum {
    WEIR_STATE_NEW = 0,
    WEIR_STATE_RUNNING,
    WEIR_STATE_ENDED,  // a source that will never read again, a shard that takes no more:
                       // all that it had is safe
    WEIR_STATE_FAILED, // stopped at its ack barrier; reason says why
} weir_state;

/*  What a node waits for, so that it does not flow.                           */
typedef enum {
    WEIR_WAIT_PAUSED = 0, // a command has paused it
    WEIR_WAIT_LINK,       // the other side of a link is not there; text: the cause
    WEIR_WAIT_CREDIT,     // a reader grants no more
    WEIR_WAIT_ACK,        // the window is full of what a reader has not made safe
    WEIR_WAIT_LEDGER,     // the memory limit is reached
    WEIR_WAIT_RATE,       // its own rate limit
    WEIR_WAIT_WRITE,      // what it writes to does not take it; text: the cause
    WEIR_WAIT_READ,       // what it reads from cannot be read; text: the cause
    WEIR_WAIT_HELD,       // a consumer group has not read what must go from its store
    WEIR_WAIT_KINDS,      // their number
} weir_wait_kind;

typedef struct {
    weir_wait_kind kind;
    int64_t since_us;
    char subject[192]; // of LINK, CREDIT and ACK: the reader, or the endpoint of one in
                       // another process; of HELD: the group
    char text[256];    // a sentence that names the cause, or ""
} weir_wait;

#define WEIR_WAITS_MAX 16

/*  A node that is several actors, as a bus is its shards, has vitals of its own and those
    of its parts; who reads the node's sees them together.                     */
typedef struct weir_vitals {
    struct weir_vitals *parts; // first of a list, which the lock guards; lent
    struct weir_vitals *next_part;
    _Atomic uint64_t counts[WEIR_COUNTS];
    _Atomic int state;         // weir_state
    _Atomic bool at_end;       // a source: nothing to read at this moment
    _Atomic uint64_t open;     // input blocks that are not settled yet
    _Atomic int64_t size_hint; // a source: bytes there are to read; -1: unknown
    _Atomic int64_t position;  // a source: bytes of them that are safe
    _Atomic uint64_t recalled; // records that restarts took out of IN again
    _Atomic int64_t step_us;   // when the step began that its thread is in; 0: it waits
    int wake_fd;               // eventfd of the supervisor; -1: none
    pthread_mutex_t lock;      // of what follows
    weir_report reason;        // why it has FAILED
    weir_wait waits[WEIR_WAITS_MAX];
    size_t wait_count;
    char endpoint[192]; // where its inlet listens for other processes; "": nowhere
    weir_tap tap;       // of what it sends
} weir_vitals;

typedef struct {
    const char *name;
    const char *help;
} weir_count_info;

/*  Name and meaning of each counter, in the order of weir_count.              */
extern const weir_count_info weir_count_infos[WEIR_COUNTS];

/*  RESIDENT goes up and down; all others only grow, but for IN: see weir_vitals_recall.
 */
static inline bool weir_count_is_gauge(weir_count count)
{
    return count == WEIR_COUNT_RESIDENT;
}

typedef struct {
    const char *name;
    const char *help;
    bool degrades; // a node that waits so is not healthy
} weir_wait_info;

extern const weir_wait_info weir_wait_infos[WEIR_WAIT_KINDS];

/*  A zeroed struct with wake_fd -1 is ready for use.                          */
#define WEIR_VITALS_INIT                                                                 \
    {                                                                                    \
        .size_hint = -1, .wake_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER,               \
        .tap = WEIR_TAP_INIT                                                             \
    }

static inline void weir_count_add(weir_vitals *self, weir_count count, uint64_t n)
{
    atomic_fetch_add_explicit(&self->counts[count], n, memory_order_relaxed);
}

/*  Of the node with its parts.                                                */
uint64_t weir_count_get(const weir_vitals *self, weir_count count);

/*  A part more, unless it is one already; it lives until it is released. Then none of its
    threads runs any more, and what it has counted goes on as the node's own. Any thread.
 */
void weir_vitals_adopt(weir_vitals *self, weir_vitals *part);
void weir_vitals_release(weir_vitals *self, weir_vitals *part);

/*  Input blocks that are not settled yet; and when the longest step of its threads began,
    0: all of them wait.                                                       */
uint64_t weir_vitals_open(const weir_vitals *self);
int64_t weir_vitals_step_us(const weir_vitals *self);

/*  All counters as they were at one instant: the sums of records balance, unless the
    node is in the middle of a change for longer than some milliseconds.       */
void weir_vitals_counts(const weir_vitals *self, uint64_t counts[WEIR_COUNTS]);

/*  in - (done + dropped + filtered + dead + skipped + shed + resident).          */
int64_t weir_counts_imbalance(const uint64_t counts[WEIR_COUNTS]);

/*  Notes that the node waits, or that this wait is over. A wait that is noted already
    keeps its beginning and takes the new text. A 17th wait is not noted.      */
void weir_vitals_wait(weir_vitals *self, weir_wait_kind kind, const char *subject,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
void weir_vitals_flow(weir_vitals *self, weir_wait_kind kind, const char *subject);

/*  Copies what it and its parts wait for, the oldest first, and gives the number.  */
size_t weir_vitals_waits(weir_vitals *self, weir_wait list[WEIR_WAITS_MAX]);

/*  The node starts again: its residents will come in a second time, so they leave IN, and
    it waits for nothing. While none of its threads runs.                      */
void weir_vitals_recall(weir_vitals *self);

/*  All records that have ever entered: IN, and what restarts took out of it. Never falls.
 */
uint64_t weir_vitals_entered(weir_vitals *self);

/*  The endpoint of its inlet for other processes.                             */
void weir_vitals_set_endpoint(weir_vitals *self, const char *endpoint);
void weir_vitals_endpoint(weir_vitals *self, char endpoint[192]);

/*  Sets the state and wakes the supervisor.                                   */
void weir_vitals_set_state(weir_vitals *self, weir_state state);
void weir_vitals_wake(weir_vitals *self);

/*  Keeps the reason and becomes FAILED; tells the reason, err 0 when there was none. */
void weir_vitals_fail(weir_vitals *self, const weir_report *reason);
void weir_vitals_reason(weir_vitals *self, weir_report *reason);

const char *weir_state_name(weir_state state);
