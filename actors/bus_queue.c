#include "actors/bus_queue.h"
#include "runtime/clock.h"
#include "runtime/frame.h"
#include "runtime/gate.h"
#include "runtime/options.h"
#include <assert.h>
#include <pthread.h>
#include <time.h>

/*  A sealed block, until its records are safe.                                */
typedef struct pack {
    struct pack *next;
    weir_block *block; // NULL once it was taken
    uint64_t last;     // ticket of its last record
    size_t cost;       // as the link counts it
} pack;

struct weir_bus_queue {
    weir_bus_queue_config config;
    weir_run origin;
    pthread_mutex_t lock;     // of who waits
    pthread_cond_t moved;     // acked has advanced, or the queue was ended or closed
    weir_gate gate;           // of all that follows; entered before the lock
    int waiting;              // threads that wait for it
    weir_spares *spares;      // bodies for it
    weir_builder open;        // the open block
    int64_t opened_us;        // when its first record came
    pack *first, **end;       // list in the order of tickets, owned
    pack *next;               // the first of them that was not taken
    int sealed;               // how many were not taken
    size_t kept_bytes;        // cost of all of them
    uint64_t appended, acked; // tickets
    uint64_t wanted;          // the highest one that a flush has waited for
    bool asleep;              // the actor's thread found nothing to take
    bool armed;  // and will look again by itself, before a record waits for too long
    bool ended;  // nothing is appended any more
    bool closed; // nor sent
};

/*  So many full blocks wake the actor's thread; fewer wait until it looks by itself, as
    records may anyway: a switch between threads costs as much as many appends. */
static const int sealed_wake = 8;

/*  Bodies that are kept for blocks to come, and what a body has behind its target, so
    that the record that fills it seldom makes it grow. */
static const size_t spares_most = 64, slack = 4096;

/*  A ledger that others fill does not tell when it has room again.            */
static const int64_t ledger_look_us = 10000;

weir_bus_queue *weir_bus_queue_new(const weir_bus_queue_config *config)
{
    weir_bus_queue *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->origin.source = config->source;
    self->open.ledger = config->ledger;
    self->open.target = config->block_bytes;
    self->spares = self->open.spares =
        weir_spares_new(config->block_bytes + slack, spares_most);
    self->end = &self->first;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&self->lock, NULL);
    return self;
}

static void drop_first(weir_bus_queue *self)
{
    pack *first = self->first;
    self->first = first->next;
    if (!self->first) self->end = &self->first;
    if (self->next == first) {
        self->next = first->next;
        self->sealed--;
    }
    self->kept_bytes -= first->cost;
    weir_block_destroy(&first->block);
    free(first);
}

void weir_bus_queue_destroy(weir_bus_queue **self_p)
{
    weir_bus_queue *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    while (self->first)
        drop_first(self);
    weir_builder_fini(&self->open);
    weir_spares_destroy(&self->spares);
    pthread_cond_destroy(&self->moved);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

/* --- Waiting ----------------------------------------------------------------------- */

/*  The instant in so many microseconds; no timespec is later than "for ever".  */
static struct timespec instant_in(int64_t us)
{
    static const int64_t most_us = 1000000ll * 3600 * 24 * 365;
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    if (us < 0 || us > most_us) us = most_us;
    at.tv_sec += (time_t)(us / 1000000);
    at.tv_nsec += (long)(us % 1000000) * 1000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/*  Waits until something has moved. False: the instant has come. The lock is taken before
    the gate is left, so that who tells of a move comes after this has begun to wait. */
static bool wait_until(weir_bus_queue *self, const struct timespec *until)
{
    self->waiting++;
    pthread_mutex_lock(&self->lock);
    weir_gate_leave(&self->gate);
    int rc = pthread_cond_timedwait(&self->moved, &self->lock, until);
    pthread_mutex_unlock(&self->lock);
    weir_gate_enter(&self->gate);
    self->waiting--;
    return rc == 0;
}

/*  Leaves the gate, and wakes who waits.                                           */
static void leave_and_tell(weir_bus_queue *self)
{
    bool waits = self->waiting > 0;
    weir_gate_leave(&self->gate);
    if (!waits) return;
    pthread_mutex_lock(&self->lock);
    pthread_cond_broadcast(&self->moved);
    pthread_mutex_unlock(&self->lock);
}

/* --- Sealing ----------------------------------------------------------------------- */

static void seal(weir_bus_queue *self)
{
    weir_block *block = weir_builder_seal(&self->open);
    if (!block) return;
    pack *new = malloc(sizeof *new);
    if (!new) abort();
    *new = (pack){.block = block, .last = self->appended, .cost = weir_block_cost(block)};
    *self->end = new;
    self->end = &new->next;
    if (!self->next) self->next = new;
    self->sealed++;
    self->kept_bytes += new->cost;
}

/*  All that waits goes now, the open block, too. Called and left in the gate.  */
static void hurry(weir_bus_queue *self)
{
    seal(self);
    if (!self->asleep || !self->next) return;
    self->asleep = false;
    self->config.wake(self->config.arg);
}

/* --- Appending --------------------------------------------------------------------- */

static inline weir_err admit(weir_bus_queue *self)
{
    if (self->ended || self->closed) return WEIR_ECLOSED;
    if (self->kept_bytes + self->open.body.size >= self->config.window_bytes)
        return WEIR_EFULL;
    return self->open.body.data ? WEIR_OK : weir_builder_open(&self->open);
}

/*  The window is full, or the ledger: waits for room as long as one may.      */
static weir_err wait_for_room(weir_bus_queue *self)
{
    hurry(self);
    if (self->config.wait_us == 0) return WEIR_EFULL;
    struct timespec until = instant_in(self->config.wait_us);
    for (weir_err err;;) {
        struct timespec look = instant_in(ledger_look_us);
        bool ledger = self->kept_bytes < self->config.window_bytes;
        bool last = !ledger || is_before(&until, &look);
        bool moved = wait_until(self, last ? &until : &look);
        err = admit(self);
        if (err != WEIR_EFULL || (last && !moved)) return err;
    }
}

/*  Returns in the gate when there is room.                             */
static inline weir_err enter(weir_bus_queue *self)
{
    weir_gate_enter(&self->gate);
    weir_err err = admit(self);
    if (err == WEIR_EFULL) err = wait_for_room(self);
    if (err) weir_gate_leave(&self->gate);
    return err;
}

static inline bool must_wake(weir_bus_queue *self)
{
    if (!self->asleep || (self->armed && self->sealed < sealed_wake)) return false;
    self->asleep = false;
    return true;
}

/*  A record was added: numbers it, and leaves the gate. Wakes the actor's thread
    outside, since it enters at once.                               */
static inline void leave(weir_bus_queue *self, uint64_t *ticket)
{
    uint64_t number = ++self->appended;
    if (self->open.records == 1) self->opened_us = weir_clock_now_us();
    if (weir_builder_full(&self->open)) seal(self);
    bool wakes = must_wake(self);
    weir_gate_leave(&self->gate);
    if (wakes) self->config.wake(self->config.arg);
    if (ticket) *ticket = number;
}

weir_err weir_bus_queue_payload(weir_bus_queue *self, weir_format format,
                                const uint8_t *data, size_t size, uint64_t *ticket)
{
    weir_err err = enter(self);
    if (err) return err;
    if (format != WEIR_JSON) {
        weir_builder_add_payload(&self->open, format, data, size, &self->origin);
    } else if (!weir_builder_add_json(&self->open, data, size, &self->origin)) {
        weir_gate_leave(&self->gate);
        return WEIR_EMALFORMED;
    }
    leave(self, ticket);
    return WEIR_OK;
}

weir_err weir_bus_queue_encoded(weir_bus_queue *self, const uint8_t *data, size_t size,
                                uint64_t *ticket)
{
    weir_err err = enter(self);
    if (err) return err;
    weir_builder_add_encoded(&self->open, data, size, 1, &self->origin);
    leave(self, ticket);
    return WEIR_OK;
}

weir_err weir_bus_queue_flush(weir_bus_queue *self, int64_t timeout_us)
{
    struct timespec until = instant_in(timeout_us);
    weir_err err = WEIR_OK;
    weir_gate_enter(&self->gate);
    uint64_t target = self->appended;
    if (self->acked < target) {
        seal(self);
        self->wanted = target;
        self->asleep = false;
        self->config.wake(self->config.arg); // also when all of it was taken
    }
    while (!err && self->acked < target) {
        if (self->closed)
            err = WEIR_ECLOSED;
        else if (!wait_until(self, &until) && self->acked < target)
            err = self->closed ? WEIR_ECLOSED : WEIR_ETIMEOUT;
    }
    weir_gate_leave(&self->gate);
    return err;
}

/* --- Tickets ----------------------------------------------------------------------- */

static uint64_t look(weir_bus_queue *self, const uint64_t *ticket)
{
    weir_gate_enter(&self->gate);
    uint64_t value = *ticket;
    weir_gate_leave(&self->gate);
    return value;
}

uint64_t weir_bus_queue_appended(weir_bus_queue *self)
{
    return look(self, &self->appended);
}

uint64_t weir_bus_queue_acked(weir_bus_queue *self)
{
    return look(self, &self->acked);
}

uint64_t weir_bus_queue_wanted(weir_bus_queue *self)
{
    return look(self, &self->wanted);
}

/* --- The actor's side -------------------------------------------------------------- */

/*  How long the open block may still wait; -1: there is none.                 */
static int64_t linger_left(const weir_bus_queue *self)
{
    if (!self->open.records) return -1;
    int64_t left = self->opened_us + self->config.linger_us - weir_clock_now_us();
    return left > 0 ? left : 0;
}

weir_block *weir_bus_queue_take(weir_bus_queue *self, uint64_t *last, int64_t *wait_us)
{
    weir_block *block = NULL;
    weir_gate_enter(&self->gate);
    *wait_us = -1;
    if (!self->next && (*wait_us = linger_left(self)) == 0) seal(self);
    if (self->next) {
        block = self->next->block;
        *last = self->next->last;
        self->next->block = NULL;
        self->next = self->next->next;
        self->sealed--;
    }
    self->asleep = !block;
    self->armed = *wait_us > 0;
    weir_gate_leave(&self->gate);
    return block;
}

void weir_bus_queue_ack(weir_bus_queue *self, uint64_t ticket)
{
    weir_gate_enter(&self->gate);
    assert(ticket <= self->appended);
    while (self->first && self->first->last <= ticket)
        drop_first(self);
    self->acked = ticket;
    leave_and_tell(self);
}

void weir_bus_queue_end(weir_bus_queue *self)
{
    weir_gate_enter(&self->gate);
    self->ended = true;
    leave_and_tell(self);
}

void weir_bus_queue_close(weir_bus_queue *self)
{
    weir_gate_enter(&self->gate);
    self->closed = true;
    leave_and_tell(self);
}
