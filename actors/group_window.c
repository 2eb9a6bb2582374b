#include "actors/group_window.h"
#include "runtime/clock.h"
#include <assert.h>

struct weir_group_window {
    weir_group_window_state state;
    weir_group_record *items; // owned; in use are first .. end - 1, in order
    size_t first, end, capacity;
    size_t scan;       // nothing before it waits, unless something has failed
    uint64_t serial;   // of the last delivery
    int64_t next_late; // a bound: no held record is due before it; -1: none is
    uint32_t vnodes;
    uint64_t *blocked;   // scratch, one bit a vnode; NULL until something failed
    weir_group_row told; // its failures, of records that were not read yet
    size_t told_next;
};

/* --- Bytes ------------------------------------------------------------------------- */

weir_group_bytes *weir_group_bytes_new(weir_block **block)
{
    weir_group_bytes *self = calloc(1, sizeof *self);
    if (!self) abort();
    atomic_init(&self->references, 1);
    self->block = *block;
    self->size = weir_block_size(*block);
    *block = NULL;
    return self;
}

void weir_group_bytes_destroy(weir_group_bytes **self_p)
{
    weir_group_bytes *self = *self_p;
    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1) return;
    weir_block_destroy(&self->block);
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
    weir_group_bytes *copy = calloc(1, sizeof *copy + record->size);
    if (!copy) abort();
    atomic_init(&copy->references, 1);
    copy->users = 1;
    copy->size = record->size;
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
    size_t bytes = row->failed_count * sizeof *row->failed;
    self->told.failed = malloc(bytes + 1);
    if (!self->told.failed) abort();
    if (bytes) memcpy(self->told.failed, row->failed, bytes);
    self->told.failed_count = row->failed_count;
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
    free(self->told.failed);
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

/*  Growing only when more than half is in use after compaction, an entry costs a bounded
    number of moves.                                                                */
static weir_group_record *append(weir_group_window *self)
{
    if (self->end == self->capacity) {
        compact(self);
        if (self->end >= self->capacity / 2) {
            self->capacity = self->capacity ? 2 * self->capacity : 64;
            self->items = realloc(self->items, self->capacity * sizeof *self->items);
            if (!self->items) abort();
        }
    }
    return &self->items[self->end++];
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

/*  How often the record has failed before this window began.                       */
static uint32_t told_failures(weir_group_window *self, weir_position at)
{
    const weir_group_row *told = &self->told;
    for (; self->told_next < told->failed_count; self->told_next++) {
        int order = weir_position_order(told->failed[self->told_next].at, at);
        if (order > 0) break;
        if (order == 0) return told->failed[self->told_next++].failures;
    }
    return 0;
}

weir_group_record *weir_group_window_add(weir_group_window *self,
                                         const weir_group_record *record)
{
    assert(weir_position_order(record->at, self->state.reached) > 0);
    weir_group_record *entry = append(self);
    *entry = *record;
    entry->state = WEIR_RECORD_WAITING;
    entry->failures = told_failures(self, record->at);
    entry->due_us = 0;
    keep(self, entry);
    self->state.reached = entry->at;
    self->state.unacked++;
    if (entry->failures) self->state.failing++;
    return entry;
}

void weir_group_window_pass(weir_group_window *self, weir_position at, uint64_t shed)
{
    if (weir_position_order(at, self->state.reached) <= 0) return;
    told_failures(self, at);
    weir_group_record *last =
        self->end > self->first ? &self->items[self->end - 1] : NULL;
    if (!last || last->state != WEIR_RECORD_DONE) {
        last = append(self);
        *last = (weir_group_record){.state = WEIR_RECORD_DONE};
    }
    last->at = self->state.reached = at;
    last->shed += shed;
    advance(self);
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
    size_t told = self->told.failed_count - self->told_next;
    row->start = self->state.start;
    row->commit = self->state.commit;
    row->shed = self->state.shed;
    row->failed = calloc(self->state.failing + told + 1, sizeof *row->failed);
    if (!row->failed) abort();
    row->failed_count = 0;
    for (size_t i = self->first; i < self->end && self->state.failing; i++) {
        const weir_group_record *record = &self->items[i];
        if (record->state == WEIR_RECORD_DONE || !record->failures) continue;
        row->failed[row->failed_count].at = record->at;
        row->failed[row->failed_count++].failures = record->failures;
    }
    for (size_t i = self->told_next; i < self->told.failed_count; i++)
        row->failed[row->failed_count++] = self->told.failed[i];
}
