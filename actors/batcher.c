#include "actors/batcher.h"
#include "runtime/clock.h"
#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define STEP_US 10000 // between two steps of the target
#define STEPS_MAX 32  // that are made up for at an arrival
#define SLOTS 100     // that the window of arrivals is counted in

/* --- Arrivals ---------------------------------------------------------------------- */

/*  How many records arrived in the last window, exact to one slot of it. Slots are
    numbered from the first arrival; counts[] holds the last SLOTS of them.         */
typedef struct {
    int64_t slot_us; // width of a slot
    int64_t last;    // number of the newest slot
    uint64_t counts[SLOTS];
    uint64_t sum; // of counts
} arrivals;

static void advance(arrivals *self, int64_t slot)
{
    if (slot - self->last >= SLOTS) {
        memset(self->counts, 0, sizeof self->counts);
        self->sum = 0;
        self->last = slot;
    }
    while (self->last < slot) {
        uint64_t *oldest = &self->counts[++self->last % SLOTS];
        self->sum -= *oldest;
        *oldest = 0;
    }
}

static void count_arrival(arrivals *self, int64_t at_us, uint32_t records)
{
    advance(self, at_us / self->slot_us);
    self->counts[self->last % SLOTS] += records;
    self->sum += records;
}

/*  Records in the window that ends before this instant.                            */
static uint64_t arrived_before(arrivals *self, int64_t end_us)
{
    advance(self, (end_us - 1) / self->slot_us);
    return self->sum;
}

/* --- Target ------------------------------------------------------------------------ */

/*  All instants are relative to the first arrival, where slots and steps begin.    */
typedef struct {
    arrivals arrivals;
    int64_t start_us;   // the first arrival; -1: none yet
    int64_t stepped_us; // when the last step was due
    int64_t target;
} pace;

static void step(pace *self, int64_t goal)
{
    int64_t far = goal - self->target;
    self->target += (far + (far < 0 ? -3 : 3)) / 4;
}

/*  v * d / 2 with one division: below max_records it has its exact floor.           */
static int64_t goal_of(pace *self, const weir_batch_config *config, int64_t end_us)
{
    int64_t window_us = SLOTS * self->arrivals.slot_us;
    double goal = (double)arrived_before(&self->arrivals, end_us) *
                  (double)config->max_delay_us / (double)(2 * window_us);
    if (goal >= (double)config->max_records) return config->max_records;
    return goal > (double)config->min_records ? (int64_t)goal : config->min_records;
}

/*  An arrival makes the steps that are due and lies behind them: so the first period that
    is due has an arrival, and the others have none.                                */
static void make_steps(pace *self, const weir_batch_config *config, int64_t at_us)
{
    int64_t due = (at_us - self->stepped_us) / STEP_US;
    if (due <= 0) return;
    step(self, goal_of(self, config, self->stepped_us + STEP_US));
    for (int64_t i = 1; i < due && i < STEPS_MAX; i++)
        step(self, config->min_records);
    self->stepped_us += due * STEP_US;
}

/* --- Batcher ----------------------------------------------------------------------- */

struct weir_batcher {
    weir_batch_config config;
    uint32_t shard;
    uint64_t epoch;
    uint64_t sequence; // of the next record that is taken
    pace pace;
    weir_batch *open;    // has records; NULL: none is open, as when in_flight are out
    int64_t opened_us;   // when its first record entered the ring
    weir_entry *waiting; // a token that goes out after the batch that it has closed
    uint32_t in_flight;
};

weir_batcher *weir_batcher_new(const weir_batch_config *config, uint32_t shard,
                               uint64_t epoch)
{
    assert(config->min_records >= 1 && config->min_records <= config->max_records);
    assert(config->max_bytes >= 1 && config->in_flight >= 1 &&
           config->window_us >= SLOTS);
    weir_batcher *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->shard = shard;
    self->epoch = epoch;
    self->sequence = 1;
    self->pace.arrivals.slot_us = config->window_us / SLOTS;
    self->pace.start_us = -1;
    self->pace.target = config->min_records;
    return self;
}

void weir_batcher_destroy(weir_batcher **self_p)
{
    weir_batcher *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_batch_destroy(&self->open);
    free(self);
}

void weir_batcher_arrived(weir_batcher *self, uint32_t records, int64_t now_us)
{
    pace *p = &self->pace;
    if (p->start_us < 0) p->start_us = now_us;
    make_steps(p, &self->config, now_us - p->start_us);
    count_arrival(&p->arrivals, now_us - p->start_us, records);
}

/*  Looking changes nothing: the steps are made on a copy.                          */
uint32_t weir_batcher_target(const weir_batcher *self, int64_t now_us)
{
    pace copy = self->pace;
    if (copy.start_us >= 0) make_steps(&copy, &self->config, now_us - copy.start_us);
    return (uint32_t)copy.target;
}

static void open_batch(weir_batcher *self, int64_t since_us, int64_t now_us)
{
    self->open = weir_batch_new();
    self->open->shard = self->shard;
    self->open->epoch = self->epoch;
    self->open->first = self->sequence;
    self->open->arrived_ms = weir_clock_wall_ms() - (now_us - since_us) / 1000;
    self->opened_us = since_us;
}

static void add(weir_batcher *self, weir_piece *piece, int64_t now_us)
{
    if (!self->open) open_batch(self, piece->since_us, now_us);
    self->sequence += weir_block_records(piece->block);
    weir_batch_add(self->open, piece);
}

static bool is_full(const weir_batcher *self)
{
    return self->open && (self->open->records >= self->pace.target ||
                          self->open->bytes >= (size_t)self->config.max_bytes);
}

/*  Takes what still fits into the open batch; a record that fits into none is taken
    alone into an empty one. A block is not cut for the target: the parts would cost more
    than so exact a batch is worth.                                                 */
static bool take(weir_batcher *self, weir_ring *ring, int64_t now_us, weir_piece *piece)
{
    uint32_t records = self->open ? self->open->records : 0;
    size_t bytes = self->open ? self->open->bytes : 0;
    if (weir_ring_take(ring, (uint32_t)self->config.max_records - records,
                       (size_t)self->config.max_bytes - bytes, now_us, piece))
        return true;
    size_t next = weir_ring_next_size(ring);
    return next && !self->open && weir_ring_take(ring, 1, next, now_us, piece);
}

/*  Fills the open batch; true when it is to be closed.                             */
static bool fill(weir_batcher *self, weir_ring *ring, int64_t now_us,
                 weir_batcher_token *token, void *arg)
{
    weir_piece piece;
    while (!is_full(self)) {
        if (!take(self, ring, now_us, &piece))
            return self->open && (weir_ring_next_size(ring) ||
                                  now_us >= self->opened_us + self->config.max_delay_us);
        if (piece.block) {
            add(self, &piece, now_us);
        } else if (self->open) {
            self->waiting = piece.entry;
            return true;
        } else {
            token(arg, piece.entry);
        }
    }
    return true;
}

weir_batch *weir_batcher_next(weir_batcher *self, weir_ring *ring, int64_t now_us,
                              weir_batcher_token *token, void *arg)
{
    if (self->waiting) token(arg, self->waiting);
    self->waiting = NULL;
    if (self->in_flight >= self->config.in_flight) return NULL;
    if (!fill(self, ring, now_us, token, arg)) return NULL;
    weir_batch *batch = self->open;
    self->open = NULL;
    self->in_flight++;
    return batch;
}

void weir_batcher_settled(weir_batcher *self)
{
    assert(self->in_flight > 0);
    self->in_flight--;
}

int64_t weir_batcher_deadline(const weir_batcher *self)
{
    bool may = self->open && self->in_flight < self->config.in_flight;
    return may ? self->opened_us + self->config.max_delay_us : -1;
}

uint32_t weir_batcher_open_records(const weir_batcher *self)
{
    return self->open ? self->open->records : 0;
}

int64_t weir_batcher_opened_us(const weir_batcher *self)
{
    return self->open ? self->opened_us : 0;
}

uint32_t weir_batcher_in_flight(const weir_batcher *self)
{
    return self->in_flight;
}

uint64_t weir_batcher_sequence(const weir_batcher *self)
{
    return self->sequence;
}

/* --- Retry ------------------------------------------------------------------------- */

/*  min (max, first * 2^(attempt - 1)).                                             */
static int64_t wait_without_chance(const weir_retry_wait *self, uint64_t attempt)
{
    int64_t wait = self->first_us;
    while (--attempt && wait < self->max_us)
        wait *= 2;
    return wait < self->max_us ? wait : self->max_us;
}

int64_t weir_retry_wait_us(const weir_retry_wait *self, uint64_t nonce, uint64_t shard,
                           uint64_t sequence, uint64_t attempt)
{
    assert(attempt >= 1);
    uint64_t words[] = {htole64(nonce), htole64(shard), htole64(sequence),
                        htole64(attempt)};
    double u = (double)(XXH3_64bits(words, sizeof words) >> 11) * 0x1p-53;
    return (int64_t)((double)wait_without_chance(self, attempt) * (0.75 + u / 2));
}

void weir_batcher_hurry(weir_batcher *self)
{
    self->config.max_delay_us = 0;
}
