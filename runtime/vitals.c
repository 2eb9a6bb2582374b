#include "runtime/vitals.h"
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include "runtime/clock.h"
#include "runtime/redact.h"

const weir_count_info weir_count_infos[WEIR_COUNTS] = {
    [WEIR_COUNT_IN] = {"in", "records that entered"},
    [WEIR_COUNT_OUT] = {"out",
                        "records that a reader has acknowledged, once for each reader"},
    [WEIR_COUNT_DONE] = {"done", "records whose outputs are all safe"},
    [WEIR_COUNT_DROPPED] = {"dropped", "records for which the function returned drop"},
    [WEIR_COUNT_FILTERED] = {"filtered", "records that `where` or a rule left out"},
    [WEIR_COUNT_DEAD] = {"dead", "records that became durable dead letters"},
    [WEIR_COUNT_SKIPPED] = {"skipped", "records left out by on_error or parse_error"},
    [WEIR_COUNT_SHED] = {"shed", "records shed by policy"},
    [WEIR_COUNT_RESIDENT] = {"resident", "records not decided yet"},
    [WEIR_COUNT_BYTES_IN] = {"bytes_in", "encoded bytes that entered"},
    [WEIR_COUNT_BYTES_OUT] = {"bytes_out", "encoded bytes sent or written"},
    [WEIR_COUNT_BLOCKS_IN] = {"blocks_in", "blocks that entered"},
    [WEIR_COUNT_BLOCKS_OUT] = {"blocks_out", "blocks sent, once for each reader"},
    [WEIR_COUNT_ACKS] = {"acks", "acknowledgements sent upstream"},
    [WEIR_COUNT_COMMITS] = {"commits", "positions committed"},
    [WEIR_COUNT_PARSES] = {"parses", "payloads parsed"},
    [WEIR_COUNT_PARSE_ERRORS] = {"parse_errors", "payloads that could not be decoded"},
    [WEIR_COUNT_CALL_ERRORS] = {"call_errors", "calls of a function that failed"},
    [WEIR_COUNT_OVERRUNS] = {"overruns", "calls that exceeded a limit"},
    [WEIR_COUNT_RETRIES] = {"retries", "attempts after the first"},
    [WEIR_COUNT_HOLDS] = {"holds", "times that the node paused for lack of room"},
    [WEIR_COUNT_REPLAYED] = {"replayed", "blocks sent again"},
    [WEIR_COUNT_RESTARTS] = {"restarts", "times that the node was started again"},
    [WEIR_COUNT_GAPS] = {"gaps", "numbers of the senders' sequences that never came, "
                                 "entries that were deleted unread"},
    [WEIR_COUNT_MALFORMED] =
        {"malformed", "messages that could not be read, or of a peer that was revoked"},
    [WEIR_COUNT_GIVEN_UP] = {"given_up",
                             "records of a bus that became durable dead letters since "
                             "members of its groups in other processes could not deal "
                             "with them; beside `dead`, and in no sum"},
};

const weir_wait_info weir_wait_infos[WEIR_WAIT_KINDS] = {
    [WEIR_WAIT_PAUSED] = {"paused", "a command has paused it", false},
    [WEIR_WAIT_LINK] = {"link", "the other side of a link is not there", true},
    [WEIR_WAIT_CREDIT] = {"credit", "a reader grants no more", false},
    [WEIR_WAIT_ACK] = {"ack", "the window is full of what a reader has not made safe",
                       false},
    [WEIR_WAIT_LEDGER] = {"ledger", "the memory limit is reached", true},
    [WEIR_WAIT_RATE] = {"rate", "its own rate limit", false},
    [WEIR_WAIT_WRITE] = {"write", "what it writes to does not take it", true},
    [WEIR_WAIT_READ] = {"read", "what it reads from cannot be read", true},
    [WEIR_WAIT_HELD] = {"held", "a consumer group holds a full store", true},
};

static const char *const state_names[] = {"new", "running", "ended", "failed"};

void weir_vitals_wake(weir_vitals *self)
{
    if (self->wake_fd >= 0) eventfd_write(self->wake_fd, 1);
}

void weir_vitals_set_state(weir_vitals *self, weir_state state)
{
    atomic_store(&self->state, (int)state);
    weir_vitals_wake(self);
}

void weir_vitals_fail(weir_vitals *self, const weir_report *reason)
{
    pthread_mutex_lock(&self->lock);
    self->reason = *reason;
    pthread_mutex_unlock(&self->lock);
    weir_vitals_set_state(self, WEIR_STATE_FAILED);
}

void weir_vitals_reason(weir_vitals *self, weir_report *reason)
{
    pthread_mutex_lock(&self->lock);
    *reason = self->reason;
    pthread_mutex_unlock(&self->lock);
}

/* --- Parts ------------------------------------------------------------------------- */

/*  Parts come and go while others look: the list is walked with the node's lock, in which
    that of a part may be taken.                                               */
static void lock_parts(const weir_vitals *self)
{
    pthread_mutex_lock((pthread_mutex_t *)&self->lock);
}

static void unlock_parts(const weir_vitals *self)
{
    pthread_mutex_unlock((pthread_mutex_t *)&self->lock);
}

static uint64_t own_count(const weir_vitals *self, weir_count count)
{
    return atomic_load_explicit(&self->counts[count], memory_order_relaxed);
}

uint64_t weir_count_get(const weir_vitals *self, weir_count count)
{
    lock_parts(self);
    uint64_t sum = own_count(self, count);
    for (const weir_vitals *part = self->parts; part; part = part->next_part)
        sum += own_count(part, count);
    unlock_parts(self);
    return sum;
}

static weir_vitals **find_part(weir_vitals *self, const weir_vitals *part)
{
    weir_vitals **at = &self->parts;
    while (*at && *at != part)
        at = &(*at)->next_part;
    return at;
}

void weir_vitals_adopt(weir_vitals *self, weir_vitals *part)
{
    lock_parts(self);
    if (!*find_part(self, part)) {
        part->next_part = self->parts;
        self->parts = part;
    }
    unlock_parts(self);
}

/*  So the sums stay as they are. It may become a part again, and waits for nothing. */
static void take_over(weir_vitals *self, weir_vitals *part)
{
    pthread_mutex_lock(&part->lock);
    for (int i = 0; i < WEIR_COUNTS; i++)
        weir_count_add(self, (weir_count)i, atomic_exchange(&part->counts[i], 0));
    self->recalled += atomic_exchange(&part->recalled, 0);
    self->open += atomic_exchange(&part->open, 0);
    part->step_us = 0;
    part->wait_count = 0;
    pthread_mutex_unlock(&part->lock);
}

void weir_vitals_release(weir_vitals *self, weir_vitals *part)
{
    lock_parts(self);
    weir_vitals **at = find_part(self, part);
    if (*at) {
        *at = part->next_part;
        part->next_part = NULL;
        take_over(self, part);
    }
    unlock_parts(self);
}

uint64_t weir_vitals_open(const weir_vitals *self)
{
    lock_parts(self);
    uint64_t sum = self->open;
    for (const weir_vitals *part = self->parts; part; part = part->next_part)
        sum += part->open;
    unlock_parts(self);
    return sum;
}

int64_t weir_vitals_step_us(const weir_vitals *self)
{
    lock_parts(self);
    int64_t first = self->step_us;
    for (const weir_vitals *part = self->parts; part; part = part->next_part) {
        int64_t step = part->step_us;
        if (step && (!first || step < first)) first = step;
    }
    unlock_parts(self);
    return first;
}

/* --- Counters ---------------------------------------------------------------------- */

static void recall(weir_vitals *self)
{
    pthread_mutex_lock(&self->lock);
    uint64_t resident = own_count(self, WEIR_COUNT_RESIDENT);
    weir_count_add(self, WEIR_COUNT_IN, -resident);
    weir_count_add(self, WEIR_COUNT_RESIDENT, -resident);
    self->recalled += resident;
    self->open = 0;
    self->wait_count = 0;
    self->step_us = 0;
    pthread_mutex_unlock(&self->lock);
}

void weir_vitals_recall(weir_vitals *self)
{
    recall(self);
    lock_parts(self);
    for (weir_vitals *part = self->parts; part; part = part->next_part)
        recall(part);
    unlock_parts(self);
}

uint64_t weir_vitals_entered(weir_vitals *self)
{
    lock_parts(self);
    uint64_t sum = own_count(self, WEIR_COUNT_IN) + self->recalled;
    for (weir_vitals *part = self->parts; part; part = part->next_part) {
        pthread_mutex_lock(&part->lock);
        sum += own_count(part, WEIR_COUNT_IN) + part->recalled;
        pthread_mutex_unlock(&part->lock);
    }
    unlock_parts(self);
    return sum;
}

const char *weir_state_name(weir_state state)
{
    return state_names[state];
}

int64_t weir_counts_imbalance(const uint64_t counts[WEIR_COUNTS])
{
    uint64_t left = counts[WEIR_COUNT_IN];
    for (int i = WEIR_COUNT_DONE; i <= WEIR_COUNT_RESIDENT; i++)
        left -= counts[i];
    return (int64_t)left;
}

/*  A node changes several counters one after the other, without a lock. A copy that
    does not balance was taken in between, and is taken again.                   */
static void own_counts(const weir_vitals *self, uint64_t counts[WEIR_COUNTS])
{
    for (int tries = 0; tries < 1000; tries++) {
        for (int i = 0; i < WEIR_COUNTS; i++)
            counts[i] = own_count(self, (weir_count)i);
        if (weir_counts_imbalance(counts) == 0) return;
        sched_yield();
    }
}

void weir_vitals_counts(const weir_vitals *self, uint64_t counts[WEIR_COUNTS])
{
    lock_parts(self);
    own_counts(self, counts);
    for (const weir_vitals *part = self->parts; part; part = part->next_part) {
        uint64_t more[WEIR_COUNTS];
        own_counts(part, more);
        for (int i = 0; i < WEIR_COUNTS; i++)
            counts[i] += more[i];
    }
    unlock_parts(self);
}

/* --- Waiting ----------------------------------------------------------------------- */

/*  Under the lock; wait_count when there is none.                             */
static size_t find_wait(const weir_vitals *self, weir_wait_kind kind, const char *subject)
{
    size_t i = 0;
    while (i < self->wait_count &&
           (self->waits[i].kind != kind || strcmp(self->waits[i].subject, subject)))
        i++;
    return i;
}

void weir_vitals_wait(weir_vitals *self, weir_wait_kind kind, const char *subject,
                      const char *format, ...)
{
    pthread_mutex_lock(&self->lock);
    size_t i = find_wait(self, kind, subject);
    if (i < WEIR_WAITS_MAX) {
        weir_wait *wait = &self->waits[i];
        if (i == self->wait_count) {
            *wait = (weir_wait){.kind = kind, .since_us = weir_clock_now_us()};
            snprintf(wait->subject, sizeof wait->subject, "%s", subject);
            self->wait_count++;
        }
        va_list arguments;
        va_start(arguments, format);
        weir_redact_printf(wait->text, sizeof wait->text, format, arguments);
        va_end(arguments);
    }
    pthread_mutex_unlock(&self->lock);
}

void weir_vitals_flow(weir_vitals *self, weir_wait_kind kind, const char *subject)
{
    pthread_mutex_lock(&self->lock);
    size_t i = find_wait(self, kind, subject);
    if (i < self->wait_count) {
        self->wait_count--;
        memmove(&self->waits[i], &self->waits[i + 1],
                (self->wait_count - i) * sizeof *self->waits);
    }
    pthread_mutex_unlock(&self->lock);
}

/*  What several parts wait for is one wait, since the first of them began.      */
static size_t add_wait(weir_wait list[WEIR_WAITS_MAX], size_t count,
                       const weir_wait *wait)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].kind != wait->kind || strcmp(list[i].subject, wait->subject))
            continue;
        if (wait->since_us < list[i].since_us) list[i].since_us = wait->since_us;
        return count;
    }
    if (count == WEIR_WAITS_MAX) return count;
    size_t at = count;
    for (; at && list[at - 1].since_us > wait->since_us; at--)
        list[at] = list[at - 1];
    list[at] = *wait;
    return count + 1;
}

/*  With the lock.                                                             */
static size_t add_waits(weir_wait list[WEIR_WAITS_MAX], size_t count,
                        const weir_vitals *self)
{
    for (size_t i = 0; i < self->wait_count; i++)
        count = add_wait(list, count, &self->waits[i]);
    return count;
}

size_t weir_vitals_waits(weir_vitals *self, weir_wait list[WEIR_WAITS_MAX])
{
    lock_parts(self);
    size_t count = add_waits(list, 0, self);
    for (weir_vitals *part = self->parts; part; part = part->next_part) {
        pthread_mutex_lock(&part->lock);
        count = add_waits(list, count, part);
        pthread_mutex_unlock(&part->lock);
    }
    unlock_parts(self);
    return count;
}

void weir_vitals_set_endpoint(weir_vitals *self, const char *endpoint)
{
    pthread_mutex_lock(&self->lock);
    snprintf(self->endpoint, sizeof self->endpoint, "%s", endpoint);
    pthread_mutex_unlock(&self->lock);
}

void weir_vitals_endpoint(weir_vitals *self, char endpoint[192])
{
    pthread_mutex_lock(&self->lock);
    memcpy(endpoint, self->endpoint, sizeof self->endpoint);
    pthread_mutex_unlock(&self->lock);
}
