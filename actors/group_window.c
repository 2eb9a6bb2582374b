#include "actors/group_window.h"
#include "runtime/clock.h"
#include <assert.h>

/*  One record that has failed, or, without failures, a run of done ones.           */
typedef struct {
    weir_position after; // of a run: it begins behind this one
    weir_position at;    // and ends here
    uint32_t failures;
    uint64_t shed; // of a run
} known;

struct weir_group_window {
    weir_group_window_state state;
    weir_group_record *items; // owned; in use are first .. end - 1, in order
    size_t first, end, capacity;
    size_t scan;       // nothing before it waits, unless something has failed
    uint64_t serial;   // of the last delivery
    int64_t next_late; // a bound: no held record is due before it; -1: none is
    uint32_t vnodes;
    uint64_t *blocked; // scratch, one bit a vnode; NULL until something failed
    known *known;      // owned, in order: what is known of what is not read yet
    size_t known_next, known_count;
};

/* --- Bytes ------------------------------------------------------------------------- */

static weir_group_bytes *bytes_new(size_t size, size_t copied, weir_ledger *ledger)
{
    weir_group_bytes *self = calloc(1, sizeof *self + copied);
    if (!self) abort();
    atomic_init(&self->references, 1);
    self->size = size;
    self->ledger = weir_ledger_dup(ledger);
    if (ledger) weir_ledger_charge(ledger, WEIR_ACCOUNT_QUEUES, size);
    return self;
}

weir_group_bytes *weir_group_bytes_new(weir_block **block, weir_ledger *ledger)
{
    weir_group_bytes *self = bytes_new(weir_block_size(*block), 0, ledger);
    self->block = *block;
    *block = NULL;
    return self;
}

void weir_group_bytes_destroy(weir_group_bytes **self_p)
{
    weir_group_bytes *self = *self_p;
    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1) return;
    weir_block_destroy(&self->block);
    if (self->ledger) weir_ledger_release(self->ledger, WEIR_ACCOUNT_QUEUES, self->size);
    weir_ledger_destroy(&self->ledger);
    free(self);
}

/*  However many records use them, bytes count once.                                */
static void keep(weir_group_window *self, weir_group_record *record)
{
    atomic_fetch_add(&record->bytes->references, 1);
    if (record->bytes->users++ == 0) self->state.bytes += record->bytes->size;
}

static void unkeep(weir_group_window *self, weir_group_record *record)
{
    if (!record->bytes) return;
    if (--record->bytes->users == 0) self->state.bytes -= record->bytes->size;
    weir_group_bytes_destroy(&record->bytes);
}

/*  A record that stays for long must not keep its whole block.                     */
static void detach(weir_group_window *self, weir_group_record *record)
{
    if (!record->bytes->block) return;
    weir_group_bytes *copy = bytes_new(record->size, record->size, record->bytes->ledger);
    copy->users = 1;
    memcpy(copy->copy, record->data, record->size);
    unkeep(self, record);
    record->bytes = copy;
    record->data = copy->copy;
    self->state.bytes += copy->size;
}

/* --- Entries ----------------------------------------------------------------------- */

weir_group_window *weir_group_window_new(const weir_group_row *row, uint32_t vnodes)
{
    weir_group_window *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->state.start = row->start;
    self->state.commit = self->state.reached = row->commit;
    self->state.shed = row->shed;
    self->vnodes = vnodes;
    self->next_late = -1;
    self->known = calloc(row->failed_count + 1, sizeof *self->known);
    if (!self->known) abort();
    self->known_count = row->failed_count;
    for (size_t i = 0; i < row->failed_count; i++)
        self->known[i] =
            (known){.at = row->failed[i].at, .failures = row->failed[i].failures};
    return self;
}

void weir_group_window_destroy(weir_group_window **self_p)
{
    weir_group_window *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (size_t i = self->first; i < self->end; i++)
        unkeep(self, &self->items[i]);
    free(self->items);
    free(self->blocked);
    free(self->known);
    free(self);
}

/*  Makes one of done entries that touch, and moves all to the front.               */
static void compact(weir_group_window *self)
{
    weir_group_record *items = self->items;
    size_t end = 0, scan = 0;
    for (size_t i = self->first; i < self->end; i++) {
        weir_group_record *last = end ? &items[end - 1] : NULL;
        if (last && last->state == WEIR_RECORD_DONE &&
            items[i].state == WEIR_RECORD_DONE) {
            last->at = items[i].at;
            last->shed += items[i].shed;
            if (last->serial < items[i].serial) last->serial = items[i].serial;
        } else {
            items[end++] = items[i];
        }
        if (i < self->scan) scan = end;
    }
    self->first = 0;
    self->end = end;
    self->scan = scan;
}

/*  Room for so many entries more. Growing only when more than half is in use after
    compaction, an entry costs a bounded number of moves.                           */
static void make_room(weir_group_window *self, size_t more)
{
    if (self->end + more <= self->capacity) return;
    compact(self);
    if (self->end + more <= self->capacity / 2) return;
    self->capacity = self->capacity ? 2 * self->capacity : 64;
    self->items = realloc(self->items, self->capacity * sizeof *self->items);
    if (!self->items) abort();
}

/*  The commit moves over what is done.                                             */
static void advance(weir_group_window *self)
{
    while (self->first < self->end &&
           self->items[self->first].state == WEIR_RECORD_DONE) {
        self->state.commit = self->items[self->first].at;
        self->state.shed += self->items[self->first].shed;
        self->first++;
    }
    if (self->scan < self->first) self->scan = self->first;
}

/*  All up to there is done.                                                        */
static void append_done(weir_group_window *self, weir_position at, uint64_t shed)
{
    weir_group_record *last =
        self->end > self->first ? &self->items[self->end - 1] : NULL;
    if (!last || last->state != WEIR_RECORD_DONE) {
        make_room(self, 1);
        last = &self->items[self->end++];
        *last = (weir_group_record){.state = WEIR_RECORD_DONE};
    }
    last->at = self->state.reached = at;
    last->shed += shed;
}

/* --- What is known ----------------------------------------------------------------- */

/*  How often the record that is read now has failed before.                        */
static uint32_t known_failures(const weir_group_window *self, weir_position at)
{
    for (size_t i = self->known_next; i < self->known_count; i++) {
        int order = weir_position_order(self->known[i].at, at);
        if (order >= 0) return order == 0 ? self->known[i].failures : 0;
    }
    return 0;
}

/*  Where a position lies in what is counted up to `end`: offsets, or where positions have
    epochs the sequences of that one.                                               */
static uint64_t place_of(weir_position at, weir_position end)
{
    if (end.b == 0) return at.a;
    if (at.a != end.a) return at.a < end.a ? 0 : UINT64_MAX;
    return at.b;
}

/*  How many of the last `count` places up to `end` lie in runs.                     */
static uint64_t count_done(const weir_group_window *self, weir_position end,
                           uint64_t count)
{
    uint64_t last = place_of(end, end), before = last - count, done = 0;
    for (size_t i = self->known_next; i < self->known_count; i++) {
        const known *k = &self->known[i];
        uint64_t from = place_of(k->after, end), to = place_of(k->at, end);
        if (from < before) from = before;
        if (to > last) to = last;
        if (from >= last) break;
        if (!k->failures && from < to) done += to - from;
    }
    return done;
}

/*  Leaves what lies before what is read now, and passes over runs that begin there: they
    are not read again.                                                             */
static void pass_known(weir_group_window *self)
{
    for (; self->known_next < self->known_count; self->known_next++) {
        const known *k = &self->known[self->known_next];
        weir_position reached = self->state.reached;
        bool behind = weir_position_order(k->at, reached) > 0;
        if (k->failures && behind) return;
        if (k->failures) continue;
        if (weir_position_order(k->after, reached) > 0) return;
        append_done(self, behind ? k->at : reached, k->shed);
    }
}

/* --- Records ----------------------------------------------------------------------- */

weir_group_record *weir_group_window_add(weir_group_window *self,
                                         const weir_group_record *record)
{
    assert(weir_position_order(record->at, self->state.reached) > 0);
    make_room(self, 2); // for the run behind it, too
    weir_group_record *entry = &self->items[self->end++];
    *entry = *record;
    entry->state = WEIR_RECORD_WAITING;
    entry->failures = known_failures(self, record->at);
    entry->due_us = 0;
    keep(self, entry);
    self->state.reached = entry->at;
    self->state.unacked++;
    if (entry->failures) self->state.failing++;
    pass_known(self);
    return entry;
}

void weir_group_window_pass(weir_group_window *self, weir_position at, uint64_t removed)
{
    weir_position reached = self->state.reached;
    if (weir_position_order(at, reached) <= 0) return;
    uint64_t most = place_of(at, at) - place_of(reached, at);
    if (removed > most) removed = most;
    append_done(self, at, removed - count_done(self, at, removed));
    pass_known(self);
    advance(self);
}

static known *add_known(weir_group_window *self, size_t *capacity, known what)
{
    if (self->known_count == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 16;
        self->known = realloc(self->known, *capacity * sizeof *self->known);
        if (!self->known) abort();
    }
    self->known[self->known_count] = what;
    return &self->known[self->known_count++];
}

/*  Of a run that was read in part the rest is left.                                */
static void keep_known(weir_group_window *self, size_t *capacity, const known *old,
                       size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        known *k = add_known(self, capacity, old[i]);
        if (weir_position_order(k->after, self->state.reached) < 0 && !k->failures)
            k->after = self->state.reached;
    }
}

static void keep_items(weir_group_window *self, size_t *capacity)
{
    weir_position before = self->state.commit;
    for (size_t i = self->first; i < self->end; i++) {
        weir_group_record *item = &self->items[i];
        bool done = item->state == WEIR_RECORD_DONE;
        if (done)
            add_known(self, capacity,
                      (known){.after = before, .at = item->at, .shed = item->shed});
        else if (item->failures)
            add_known(self, capacity,
                      (known){.at = item->at, .failures = item->failures});
        before = item->at;
        unkeep(self, item);
    }
}

void weir_group_window_forget(weir_group_window *self)
{
    known *old = self->known;
    size_t next = self->known_next, end = self->known_count, capacity = 0;
    if (self->first == self->end) return; // nothing was read
    self->known = NULL;
    self->known_next = self->known_count = 0;
    keep_items(self, &capacity);
    keep_known(self, &capacity, old, next, end);
    free(old);
    free(self->items);
    self->items = NULL;
    self->first = self->end = self->capacity = self->scan = 0;
    self->state.reached = self->state.commit;
    self->state.unacked = self->state.held = self->state.failing = 0;
    self->next_late = -1;
}

/*  Index of the first entry at this position or behind it.                         */
static size_t search(const weir_group_window *self, weir_position at)
{
    size_t low = self->first, high = self->end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (weir_position_order(self->items[middle].at, at) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* --- Delivering -------------------------------------------------------------------- */

static bool is_blocked(const weir_group_window *self, uint32_t vnode)
{
    return vnode != WEIR_KEYLESS && self->blocked[vnode / 64] >> vnode % 64 & 1;
}

static void block_vnode(weir_group_window *self, uint32_t vnode)
{
    if (vnode != WEIR_KEYLESS) self->blocked[vnode / 64] |= (uint64_t)1 << vnode % 64;
}

static void block_none(weir_group_window *self)
{
    size_t words = self->vnodes / 64 + 1;
    if (!self->blocked) self->blocked = malloc(words * sizeof *self->blocked);
    if (!self->blocked) abort();
    memset(self->blocked, 0, words * sizeof *self->blocked);
}

/*  Whether the record may be delivered now, when some have failed. Those that have come
    before are judged already.                                                      */
static bool may_come(weir_group_window *self, weir_group_record *record, int64_t now_us,
                     int64_t *next_us)
{
    if (record->state == WEIR_RECORD_DONE) return false;
    bool comes = record->state == WEIR_RECORD_WAITING &&
                 !is_blocked(self, record->vnode) && record->due_us <= now_us;
    if (record->failures && record->state == WEIR_RECORD_WAITING && !comes &&
        !is_blocked(self, record->vnode))
        *next_us = weir_earlier(*next_us, record->due_us);
    if (record->failures) block_vnode(self, record->vnode);
    if (!comes && record->state == WEIR_RECORD_WAITING) detach(self, record);
    return comes;
}

static void deliver_one(weir_group_window *self, weir_group_record *record,
                        const weir_group_delivery *delivery)
{
    self->state.held++;
    record->state = WEIR_RECORD_HELD;
    record->out = true;
    record->late = false;
    record->serial = self->serial;
    record->due_us = delivery->due_us;
    delivery->give(delivery->arg, record);
}

/*  Whether the record goes with those that were chosen before it.                  */
static bool joins(const weir_group_record *record, const weir_group_record *first,
                  uint32_t records, size_t bytes, const weir_group_delivery *delivery)
{
    if (!first) return true;
    return !first->failures && !record->failures && record->epoch == first->epoch &&
           records < delivery->max_records &&
           bytes + record->size <= delivery->max_bytes &&
           (!delivery->joins || delivery->joins(delivery->arg, record));
}

uint32_t weir_group_window_deliver(weir_group_window *self,
                                   const weir_group_delivery *delivery, int64_t *next_us)
{
    bool failing = self->state.failing > 0;
    size_t i = failing ? self->first : self->scan, bytes = 0;
    uint32_t records = 0;
    const weir_group_record *first = NULL;
    *next_us = -1;
    if (failing) block_none(self);
    self->serial++;
    for (; i < self->end; i++) {
        weir_group_record *record = &self->items[i];
        if (failing ? !may_come(self, record, delivery->now_us, next_us)
                    : record->state != WEIR_RECORD_WAITING)
            continue;
        if (!joins(record, first, records, bytes, delivery)) break;
        if (!first) first = record;
        deliver_one(self, record, delivery);
        bytes += record->size;
        records++;
    }
    if (!failing) self->scan = i;
    if (records) self->next_late = weir_earlier(self->next_late, delivery->due_us);
    return records;
}

/* --- Answers ----------------------------------------------------------------------- */

static void settle(weir_group_window *self, weir_group_record *record)
{
    if (record->state == WEIR_RECORD_HELD) self->state.held--;
    if (record->failures) self->state.failing--;
    if (record->failures) self->state.ruling++;
    self->state.unacked--;
    unkeep(self, record);
    record->out = false;
    record->state = WEIR_RECORD_DONE;
}

bool weir_group_window_ack(weir_group_window *self, weir_position at, bool up_to)
{
    if (weir_position_order(at, self->state.commit) <= 0)
        return weir_position_order(at, self->state.start) > 0;
    size_t index = search(self, at);
    if (index == self->end) return false;
    weir_group_record *record = &self->items[index];
    bool was_done =
        record->state == WEIR_RECORD_DONE || record->state == WEIR_RECORD_DYING;
    if (!was_done && (!record->out || weir_position_order(record->at, at))) return false;
    for (size_t i = self->first; up_to && i < index; i++)
        if (self->items[i].out && self->items[i].serial <= record->serial)
            settle(self, &self->items[i]);
    if (!was_done) settle(self, record);
    advance(self);
    return true;
}

weir_group_record *weir_group_window_find(weir_group_window *self, weir_position at)
{
    size_t index = search(self, at);
    if (index == self->end) return NULL;
    weir_group_record *record = &self->items[index];
    return record->out && !weir_position_order(record->at, at) ? record : NULL;
}

static void take_back(weir_group_window *self, weir_group_record *record, int64_t due_us)
{
    if (record->state == WEIR_RECORD_HELD) self->state.held--;
    record->state = WEIR_RECORD_WAITING;
    record->due_us = due_us;
}

/*  The later ones of its vnode come again behind it.                               */
static void recall(weir_group_window *self, const weir_group_record *record)
{
    if (record->vnode == WEIR_KEYLESS) return;
    weir_group_record *end = self->items + self->end;
    for (weir_group_record *later = self->items + (record - self->items) + 1; later < end;
         later++)
        if (later->state == WEIR_RECORD_HELD && later->vnode == record->vnode)
            take_back(self, later, 0);
}

void weir_group_window_fail(weir_group_window *self, weir_group_record *record,
                            int64_t due_us)
{
    if (record->failures++ == 0) self->state.failing++;
    self->state.ruling++;
    self->scan = self->first;
    take_back(self, record, due_us);
    detach(self, record);
    recall(self, record);
}

void weir_group_window_doom(weir_group_record *record)
{
    assert(record->state == WEIR_RECORD_WAITING);
    record->state = WEIR_RECORD_DYING;
    record->out = false;
}

void weir_group_window_bury(weir_group_window *self, weir_position at)
{
    size_t index = search(self, at);
    if (index == self->end) return;
    weir_group_record *record = &self->items[index];
    if (record->state != WEIR_RECORD_DYING || weir_position_order(record->at, at)) return;
    settle(self, record);
    advance(self);
}

weir_group_record *weir_group_window_late(weir_group_window *self, int64_t now_us,
                                          size_t *walk)
{
    if (*walk == 0 && (self->next_late < 0 || now_us < self->next_late)) return NULL;
    if (*walk == 0) self->next_late = -1;
    for (size_t i = self->first + *walk; i < self->end; i++) {
        weir_group_record *record = &self->items[i];
        if (record->state != WEIR_RECORD_HELD || record->due_us < 0) continue;
        *walk = i - self->first + 1;
        if (record->due_us <= now_us) return record;
        self->next_late = weir_earlier(self->next_late, record->due_us);
    }
    return NULL;
}

int64_t weir_group_window_next_late(const weir_group_window *self)
{
    return self->next_late;
}

void weir_group_window_release(weir_group_window *self)
{
    for (size_t i = self->first; i < self->end; i++) {
        weir_group_record *record = &self->items[i];
        if (record->state == WEIR_RECORD_HELD) take_back(self, record, 0);
        record->out = false;
    }
    self->scan = self->first;
    self->next_late = -1;
}

/* --- Looking ----------------------------------------------------------------------- */

const weir_group_window_state *weir_group_window_look(const weir_group_window *self)
{
    return &self->state;
}

void weir_group_window_row(const weir_group_window *self, weir_group_row *row)
{
    size_t more = self->known_count - self->known_next;
    row->start = self->state.start;
    row->commit = self->state.commit;
    row->shed = self->state.shed;
    row->failed = calloc(self->state.failing + more + 1, sizeof *row->failed);
    if (!row->failed) abort();
    row->failed_count = 0;
    for (size_t i = self->first; i < self->end && self->state.failing; i++) {
        const weir_group_record *record = &self->items[i];
        if (record->state == WEIR_RECORD_DONE || !record->failures) continue;
        row->failed[row->failed_count].at = record->at;
        row->failed[row->failed_count++].failures = record->failures;
    }
    for (size_t i = self->known_next; i < self->known_count; i++) {
        if (!self->known[i].failures) continue;
        row->failed[row->failed_count].at = self->known[i].at;
        row->failed[row->failed_count++].failures = self->known[i].failures;
    }
}
