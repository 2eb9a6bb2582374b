#include "actors/groups_private.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <inttypes.h>
#include <stdio.h>

/*  Bytes that a member keeps of what is read and not acknowledged, beside one read.  */
static const size_t kept_bytes_max = 64 << 20;
static const size_t read_bytes = 1 << 20;
static const uint32_t read_records_max = 10000;
/*  Records that are prepared at once.                                              */
static const size_t prepare_records = 1024;
static const int64_t read_retry_us = 1000000;
/*  The store is asked for new shards by members that find nothing, and by the others so
    much later.                                                                     */
static const int64_t refresh_idle_us = 100000, refresh_busy_us = 1000000;
static const size_t block_bytes = 64 << 10;

/*  A fetch.                                                                        */
typedef struct {
    weir_groups *groups;
    weir_member_of *member;
    int64_t now_us;
    uint32_t max_records;
    size_t max_bytes;
    size_t unacked, held, bytes; // of all shards of the member
    int64_t deadline_us;
    weir_builder builder;
    weir_run *runs; // WEIR_RUNS_MAX: where what is delivered lies
    size_t run_count;
    weir_delivered *delivered;
    uint32_t capacity;
} fetch;

/* --- A reading --------------------------------------------------------------------- */

static void reading_destroy(weir_group_reading **self_p)
{
    weir_group_reading *self = *self_p;
    *self_p = NULL;
    for (size_t i = self->item_next; i < self->item_count; i++)
        weir_dead_destroy_list(&self->items[i].dead);
    for (uint32_t i = 0; self->blocks && i < self->read.chunk_count; i++)
        weir_group_bytes_destroy(&self->blocks[i]);
    free(self->blocks);
    weir_group_bytes_destroy(&self->bytes);
    weir_read_fini(&self->read);
    free(self->items);
    free(self->fences);
    free(self);
}

void weir_group_reading_reset(weir_group_shard *shard)
{
    weir_group_reading *reading = shard->reading;
    shard->reading = NULL;
    if (!reading) return;
    reading->shard = NULL;
    if (reading->answered && !reading->busy) reading_destroy(&reading);
}

/*  An empty answer wakes nobody, or a member would ask again and again.            */
static bool is_news(const weir_group_reading *self)
{
    return self->read.err || self->read.chunk_count || self->read.gap_count ||
           self->asked_again;
}

static void note_dry(const weir_group_reading *self)
{
    const weir_read *read = &self->read;
    self->shard->dry =
        !read->err && !read->chunk_count && !read->gap_count && !read->more;
    self->shard->dry_end = self->end;
}

/*  From now on the ledger has them.                                                */
static void take_blocks(weir_group_reading *self)
{
    uint32_t count = self->read.chunk_count;
    self->blocks = calloc(count + 1, sizeof(weir_group_bytes *));
    if (!self->blocks) abort();
    for (uint32_t i = 0; i < count; i++)
        self->blocks[i] = weir_group_bytes_new(&self->read.chunks[i].block,
                                               self->groups->config.ledger);
}

static void answered(weir_read *read)
{
    weir_group_reading *self = read->owner;
    weir_groups *groups = self->groups;
    weir_groups_enter(groups);
    self->answered = true;
    if (self->shard || self->busy) take_blocks(self);
    if (self->shard) note_dry(self);
    if (!self->shard && !self->busy)
        reading_destroy(&self);
    else if (self->shard && !self->busy && self->shard->owner && is_news(self))
        weir_member_wake(self->shard->owner);
    weir_groups_unref(groups);
}

/*  Begins to read behind the window; the store may answer at once. Gives up the lock. */
static void start_reading(fetch *self, weir_group_shard *shard, size_t room)
{
    weir_store *store = self->groups->config.store;
    weir_group_reading *reading = calloc(1, sizeof *reading);
    if (!reading) abort();
    reading->groups = self->groups;
    reading->shard = shard;
    reading->busy = true;
    reading->end = shard->end;
    reading->reached = weir_group_window_look(shard->window)->reached;
    reading->read = (weir_read){.shard = shard->id,
                                .after = reading->reached,
                                .max_records = room < read_records_max ? (uint32_t)room
                                                                       : read_records_max,
                                .max_bytes = read_bytes,
                                .done = answered,
                                .owner = reading};
    shard->reading = reading;
    self->groups->references++;
    weir_groups_exit(self->groups);
    store->class->read(store, &reading->read);
    weir_groups_enter(self->groups);
    reading->busy = false;
    if (!reading->shard && reading->answered) reading_destroy(&reading);
}

/* --- Preparing: without the lock --------------------------------------------------- */

static weir_group_item *add_item(weir_group_reading *self)
{
    if (self->item_count == self->item_capacity) {
        self->item_capacity = self->item_capacity ? 2 * self->item_capacity : 64;
        self->items = realloc(self->items, self->item_capacity * sizeof *self->items);
        if (!self->items) abort();
    }
    weir_group_item *item = &self->items[self->item_count++];
    *item = (weir_group_item){0};
    return item;
}

/*  How far it has come in what the gap counts: offsets, or sequences of its epoch.   */
static uint64_t reached_in(const weir_group_reading *self, const weir_gap *gap)
{
    if (!gap->epoch) return self->reached.a;
    return self->reached.a == gap->epoch ? self->reached.b : 0;
}

static void prepare_gap(weir_group_reading *self, const char *group)
{
    const weir_gap *gap = &self->read.gaps[self->gap++];
    if (weir_position_order(weir_gap_end(gap), self->reached) <= 0) return;
    uint64_t reached = reached_in(self, gap);
    uint64_t first = gap->first > reached ? gap->first : reached + 1;
    weir_group_item *item = add_item(self);
    item->record.at = self->reached = weir_gap_end(gap);
    item->removed = gap->last - first + 1;
    weir_log(
        WEIR_WARN,
        "records are shed group=%s shard=%u first=%" PRIu64 " last=%" PRIu64 " cause=%s",
        group, self->read.shard, first, gap->last, gap->damaged ? "damaged" : "trimmed");
}

static weir_position position_in(const weir_chunk *chunk, uint32_t records,
                                 uint32_t index)
{
    if (chunk->last.b == 0) return (weir_position){chunk->offset + index, 0};
    return (weir_position){chunk->last.a, chunk->last.b - (records - 1 - index)};
}

static uint32_t vnode_of(const weir_groups *groups, weir_member_of *member)
{
    char number[24];
    const uint8_t *data;
    size_t size;
    if (!weir_key_bytes(&member->subject.record.key, number, &member->scratch, &data,
                        &size))
        return WEIR_KEYLESS;
    return weir_key_vnode(data, size, groups->config.vnodes);
}

static weir_place place_of(const weir_groups *groups, uint32_t shard,
                           const weir_group_record *record)
{
    return (weir_place){.nonce = weir_bus_state_nonce(groups->config.state),
                        .epoch = record->epoch,
                        .sequence = record->sequence,
                        .offset = record->at.b ? record->at.b : record->at.a,
                        .shard = shard};
}

static void screen_record(weir_group_reading *self, weir_group_item *item,
                          weir_member_of *member)
{
    if (!member->screen) {
        item->passes = true;
        return;
    }
    weir_run own = {.place = place_of(self->groups, self->read.shard, &item->record)};
    weir_run *origin = &own;
    weir_subject *subject = &member->subject;
    weir_subject_begin(subject, origin);
    subject->record.in_run = 0;
    weir_judgement judgement = weir_screen_judge(member->screen, subject);
    item->passes = judgement == WEIR_PASS;
    if (judgement == WEIR_DEAD_FILTERED || judgement == WEIR_DEAD_UNKNOWN)
        item->dead = weir_screen_dead(judgement, member->group->name, subject, origin);
}

/*  The next record of the chunk; false behind its last.                            */
static bool prepare_record(weir_group_reading *self, weir_member_of *member)
{
    const weir_chunk *chunk = &self->read.chunks[self->chunk];
    weir_subject *subject = &member->subject;
    if (!weir_iterator_next(&self->walk, &subject->record, NULL)) return false;
    uint32_t index = self->index++;
    weir_position at = position_in(chunk, weir_block_records(self->walk.block), index);
    if (weir_position_order(at, self->reached) <= 0) return true;
    if (!subject->record.has_ts) subject->record.ts_ms = chunk->arrived_ms;
    subject->record.has_ts = true;
    weir_group_item *item = add_item(self);
    item->record = (weir_group_record){.at = at,
                                       .sequence = chunk->sequence + index,
                                       .epoch = chunk->epoch,
                                       .arrived_ms = chunk->arrived_ms,
                                       .bytes = self->bytes,
                                       .data = subject->record.encoded,
                                       .size = (uint32_t)subject->record.encoded_size,
                                       .vnode = vnode_of(self->groups, member)};
    screen_record(self, item, member);
    self->reached = at;
    return true;
}

/*  Takes the block of the next chunk; false: there is none.                        */
static bool open_chunk(weir_group_reading *self)
{
    if (self->bytes) return true;
    if (self->chunk == self->read.chunk_count) return false;
    self->bytes = self->blocks[self->chunk];
    self->blocks[self->chunk] = NULL;
    self->walk = (weir_iterator){.block = self->bytes->block};
    self->index = 0;
    return true;
}

static void close_chunk(weir_group_reading *self)
{
    weir_group_bytes_destroy(&self->bytes);
    self->chunk++;
}

/*  A gap comes before the chunks behind it.                                        */
static bool gap_is_next(const weir_group_reading *self)
{
    if (self->gap == self->read.gap_count) return false;
    if (self->chunk == self->read.chunk_count) return true;
    const weir_chunk *chunk = &self->read.chunks[self->chunk];
    weir_position first = chunk->last.b == 0
                              ? (weir_position){chunk->offset, 0}
                              : (weir_position){chunk->epoch, chunk->sequence};
    return !self->bytes &&
           weir_position_order(weir_gap_end(&self->read.gaps[self->gap]), first) < 0;
}

/*  They are asked for after the records were read: a fence is stored with the first
    record behind it. */
static weir_err learn_fences(weir_group_reading *self, weir_store *store)
{
    weir_report report = {0};
    weir_fence *list = NULL;
    size_t count = 0;
    if (self->has_fences) return WEIR_OK;
    weir_err err = store->class->fences(store, &list, &count, &report);
    for (size_t i = 0; i < count && !err; i++)
        if (list[i].to == self->read.shard) list[self->fence_count++] = list[i];
    self->fences = list;
    self->has_fences = !err;
    if (err) {
        self->read.err = err;
        memcpy(self->read.text, report.text, sizeof self->read.text - 1);
    }
    return err;
}

/*  Fills the empty items with at most so many, of one chunk, so that its bytes live until
    they are in the window.                                                         */
static void prepare(weir_group_reading *self, weir_member_of *member, size_t room)
{
    self->item_next = self->item_count = 0;
    if (self->read.err || learn_fences(self, self->groups->config.store)) return;
    if (gap_is_next(self)) {
        prepare_gap(self, member->group->name);
        return;
    }
    if (!open_chunk(self)) return;
    while (self->item_count < room && self->item_count < prepare_records)
        if (!prepare_record(self, member)) {
            if (self->item_count == 0) close_chunk(self);
            return;
        }
}

static bool is_exhausted(const weir_group_reading *self)
{
    return self->item_next == self->item_count && !self->bytes &&
           self->chunk == self->read.chunk_count && self->gap == self->read.gap_count;
}

/* --- Into the window --------------------------------------------------------------- */

static bool is_open(const weir_group *group, const weir_fence *fence)
{
    const weir_group_shard *from = weir_group_find_shard(group, fence->from);
    return weir_position_is_none(fence->last) ||
           (from && weir_position_order(from->stored, fence->last) >= 0);
}

/*  Fences of other shards' records that are committed durably hold up nobody any more. */
static void open_fences(weir_group_reading *self, const weir_group *group)
{
    size_t count = self->fence_count;
    self->fence_count = 0;
    for (size_t i = 0; i < count; i++)
        if (!is_open(group, &self->fences[i]))
            self->fences[self->fence_count++] = self->fences[i];
}

/*  The first place that is behind a fence; the end: none stands.                    */
static weir_position find_barrier(const weir_group_reading *self)
{
    weir_position first = weir_position_end();
    for (size_t i = 0; i < self->fence_count; i++)
        if (weir_position_order(self->fences[i].first, first) < 0)
            first = self->fences[i].first;
    return first;
}

/*  Of what was removed the part before a fence: others may wait for that. Offsets are
    counted, and sequences of one epoch.                                             */
static void pass_before(weir_group_shard *shard, weir_group_item *item,
                        weir_position barrier)
{
    weir_position last = item->record.at;
    if (!item->removed || (last.b && last.a != barrier.a)) return;
    uint64_t first = (last.b ? last.b : last.a) - item->removed + 1;
    uint64_t stop = last.b ? barrier.b : barrier.a;
    if (stop <= first) return;
    weir_group_window_pass(shard->window, weir_position_before(barrier), stop - first);
    item->removed -= stop - first;
}

/*  What a fence waits for may be committed and only not stored yet: then it is stored
    without delay, unless that has just failed.                                     */
static void hurry_commit(fetch *self, weir_group *group)
{
    bool failed = group->rounds && group->failed_rounds == group->rounds;
    if (group->dirty_us > self->now_us && !failed) group->dirty_us = self->now_us;
}

static void enter_window(fetch *self, weir_group_shard *shard, weir_group_item *item)
{
    weir_position reached = weir_group_window_look(shard->window)->reached;
    bool done = weir_position_order(item->record.at, reached) <= 0;
    if (done) weir_dead_destroy_list(&item->dead);
    if (done || (!item->passes && !item->dead)) {
        weir_group_window_pass(shard->window, item->record.at, item->removed);
        return;
    }
    weir_group_record *record = weir_group_window_add(shard->window, &item->record);
    self->unacked++;
    if (item->dead)
        weir_group_send_letter(shard, record, &item->dead, self->now_us);
    else if (record->failures >= shard->group->config.max_deliver)
        weir_group_doom(self->groups, shard, record,
                        "the last delivery failed before a restart", self->now_us);
}

static void enter_all(fetch *self, weir_group_shard *shard)
{
    weir_group_reading *reading = shard->reading;
    size_t bytes = weir_group_window_look(shard->window)->bytes;
    shard->fenced = false;
    open_fences(reading, shard->group);
    weir_position barrier = find_barrier(reading);
    while (reading->item_next < reading->item_count && !shard->fenced) {
        weir_group_item *item = &reading->items[reading->item_next];
        shard->fenced = weir_position_order(item->record.at, barrier) >= 0;
        if (shard->fenced) {
            pass_before(shard, item, barrier);
        } else {
            enter_window(self, shard, item);
            reading->item_next++;
        }
    }
    self->bytes += weir_group_window_look(shard->window)->bytes - bytes;
    weir_group_changed(shard, self->now_us);
    if (shard->fenced) hurry_commit(self, shard->group);
}

static void reading_failed(fetch *self, weir_group_shard *shard)
{
    weir_group_reading *reading = shard->reading;
    const char *why =
        *reading->read.text ? reading->read.text : weir_err_name(reading->read.err);
    if (!*shard->trouble)
        weir_log(WEIR_WARN,
                 "shard cannot be read, trying again group=%s shard=%u "
                 "error=\"%s\"",
                 shard->group->name, shard->id, why);
    snprintf(shard->trouble, sizeof shard->trouble, "%s", why);
    shard->retry_us = self->now_us + read_retry_us;
    self->deadline_us = weir_earlier(self->deadline_us, shard->retry_us);
    weir_group_reading_reset(shard);
}

static void reading_went_well(weir_group_shard *shard)
{
    if (!*shard->trouble) return;
    weir_log(WEIR_INFO, "shard can be read again group=%s shard=%u", shard->group->name,
             shard->id);
    *shard->trouble = 0;
}

/*  Room in the member's window.                                                    */
static size_t room_for(const fetch *self)
{
    size_t window = (size_t)self->member->group->config.window;
    if (self->unacked >= window) return 0;
    if (self->unacked && self->bytes >= kept_bytes_max) return 0;
    return window - self->unacked;
}

/*  Moves on a part of what was read; false: nothing can be moved. Gives up the lock. */
static bool take_part(fetch *self, weir_group_shard *shard)
{
    weir_group_reading *reading = shard->reading;
    size_t room = room_for(self);
    if (reading->item_next == reading->item_count && !is_exhausted(reading)) {
        if (room == 0) return false;
        reading->busy = true;
        weir_groups_exit(self->groups);
        prepare(reading, self->member, room);
        weir_groups_enter(self->groups);
        reading->busy = false;
        if (!reading->shard) { // it is another member's meanwhile
            reading_destroy(&reading);
            return true;
        }
    }
    if (reading->read.err) {
        reading_failed(self, shard);
        return false;
    }
    reading_went_well(shard);
    enter_all(self, shard);
    if (is_exhausted(reading)) {
        weir_group_window_pass(shard->window, reading->read.reached, 0);
        weir_group_reading_reset(shard);
    }
    return !shard->fenced;
}

/*  Moves on as much as one delivery takes: small batches go together.              */
static bool take_in(fetch *self, weir_group_shard *shard)
{
    size_t goal = self->unacked + self->max_records;
    bool moved = false;
    while (shard->owner == self->member && shard->reading && self->unacked < goal) {
        if (!take_part(self, shard)) break;
        moved = true;
    }
    return moved;
}

/* --- Delivering -------------------------------------------------------------------- */

static void make_room(fetch *self)
{
    weir_delivered *delivered = self->delivered;
    if (delivered->records < self->capacity) return;
    self->capacity = self->capacity ? 2 * self->capacity : 64;
    delivered->at = realloc(delivered->at, self->capacity * sizeof *delivered->at);
    delivered->sequence =
        realloc(delivered->sequence, self->capacity * sizeof *delivered->sequence);
    if (!delivered->at || !delivered->sequence) abort();
}

/*  Whether the place is the next one in the last run.                              */
static bool continues(const fetch *self, const weir_place *place)
{
    if (self->run_count == 0) return false;
    const weir_run *last = &self->runs[self->run_count - 1];
    return place->sequence == last->place.sequence + last->records &&
           place->offset == last->place.offset + last->records;
}

static weir_place place_in(const fetch *self, const weir_group_record *record)
{
    return place_of(self->groups, self->delivered->shard, record);
}

static bool joins(void *arg, const weir_group_record *record)
{
    fetch *self = arg;
    weir_place place = place_in(self, record);
    return self->run_count < WEIR_RUNS_MAX || continues(self, &place);
}

static void note_place(fetch *self, const weir_group_record *record)
{
    weir_place place = place_in(self, record);
    if (continues(self, &place))
        self->runs[self->run_count - 1].records++;
    else
        self->runs[self->run_count++] = (weir_run){.records = 1, .place = place};
}

static void give(void *arg, const weir_group_record *record)
{
    fetch *self = arg;
    weir_delivered *delivered = self->delivered;
    weir_record whole;
    weir_reader reader = {record->data, record->data + record->size};
    if (weir_record_read(&whole, &reader, true)) abort();
    if (!whole.has_ts) {
        whole.has_ts = true;
        whole.ts_ms = record->arrived_ms;
        whole.encoded = NULL;
    }
    weir_builder_add(&self->builder, &whole, NULL);
    note_place(self, record);
    make_room(self);
    delivered->at[delivered->records] = record->at;
    delivered->sequence[delivered->records++] = record->sequence;
    delivered->epoch = record->epoch;
}

static bool deliver(fetch *self, weir_group_shard *shard)
{
    weir_group *group = shard->group;
    const weir_group_config *config = &group->config;
    size_t room =
        self->held < (size_t)config->window ? (size_t)config->window - self->held : 0;
    if (room == 0) return false;
    int64_t timeout_us = self->member->ack_timeout_us;
    weir_group_delivery delivery = {
        .max_records = room < self->max_records ? (uint32_t)room : self->max_records,
        .max_bytes = self->max_bytes,
        .now_us = self->now_us,
        .due_us = timeout_us == WEIR_NONE ? -1 : self->now_us + timeout_us,
        .joins = joins,
        .give = give,
        .arg = self,
    };
    self->delivered->shard = shard->id;
    int64_t next_us;
    uint32_t records = weir_group_window_deliver(shard->window, &delivery, &next_us);
    self->deadline_us = weir_earlier(self->deadline_us, next_us);
    group->next_us = weir_earlier(group->next_us, records ? delivery.due_us : -1);
    return records > 0;
}

static bool ledger_is_full(const weir_groups *groups)
{
    const weir_ledger *ledger = groups->config.ledger;
    return ledger && weir_ledger_used(ledger) >= weir_ledger_limit(ledger);
}

/*  True: the shard may be read now. A member that has nothing gets on, however full the
    ledger is.                                                                      */
static bool may_read(fetch *self, const weir_group_shard *shard)
{
    if (shard->retry_us > self->now_us) {
        self->deadline_us = weir_earlier(self->deadline_us, shard->retry_us);
        return false;
    }
    self->delivered->starved = self->unacked && ledger_is_full(self->groups);
    return !self->delivered->starved && room_for(self) > 0;
}

/*  Delivers from one shard, for which it is read at most once. Gives up the lock.  */
static bool serve(fetch *self, weir_group_shard *shard)
{
    bool asked = false, moved = false;
    while (shard->owner == self->member) {
        if (deliver(self, shard)) return true;
        if (!shard->reading) {
            if (asked && moved) self->deadline_us = self->now_us;
            if (asked || !may_read(self, shard)) return false;
            start_reading(self, shard, room_for(self));
            asked = true;
        } else if (!shard->reading->answered) {
            shard->reading->asked_again = !asked;
            return false;
        } else {
            moved = moved || shard->reading->read.chunk_count ||
                    shard->reading->read.gap_count;
            if (!take_in(self, shard)) return deliver(self, shard); // what it took before
        }
    }
    return false;
}

static void measure(fetch *self)
{
    const weir_group *group = self->member->group;
    self->unacked = self->held = self->bytes = 0;
    self->delivered->failing = false;
    for (size_t i = 0; i < group->shard_count; i++) {
        if (group->shards[i]->owner != self->member) continue;
        const weir_group_window_state *state =
            weir_group_window_look(group->shards[i]->window);
        self->unacked += state->unacked;
        self->held += state->held;
        self->bytes += state->bytes;
        self->delivered->failing |= state->failing > 0;
    }
}

/*  An answer that is still to come counts by the one before, as long as that one knew of
    all that the store has.                                                         */
static bool is_pending(const weir_group_shard *shard)
{
    return shard->fenced || !shard->dry ||
           weir_position_order(shard->dry_end, shard->end) < 0;
}

static void note_trouble(fetch *self, bool found)
{
    const weir_group *group = self->member->group;
    weir_delivered *to = self->delivered;
    for (size_t i = 0; i < group->shard_count; i++) {
        const weir_group_shard *shard = group->shards[i];
        if (shard->owner != self->member) continue;
        if (*shard->trouble) {
            to->has_failed = true;
            to->failed_shard = shard->id;
            memcpy(to->trouble, shard->trouble, sizeof to->trouble);
        } else if (!found && !shard->fenced && is_pending(shard)) {
            to->is_late = true;
            to->late_shard = shard->id;
        }
    }
}

/*  The shards take turns.                                                          */
static bool serve_all(fetch *self)
{
    weir_member_of *member = self->member;
    weir_group *group = member->group;
    measure(self);
    for (size_t n = group->shard_count; n > 0; n--) {
        weir_group_shard *shard = group->shards[member->turn++ % group->shard_count];
        if (shard->owner == member && serve(self, shard)) return true;
    }
    return false;
}

/*  Looks for new shards when it is time to. Gives up the lock.                     */
static bool found_shards(fetch *self, bool idle)
{
    weir_group *group = self->member->group;
    int64_t due_us = group->refreshed_us + (idle ? refresh_idle_us : refresh_busy_us);
    bool more = false;
    if (due_us <= self->now_us)
        weir_group_refresh(self->groups, group, &more, NULL);
    else if (idle)
        self->deadline_us = weir_earlier(self->deadline_us, due_us);
    return more;
}

/*  Then it is looked again, though nobody wakes the member.                        */
static bool some_is_pending(fetch *self)
{
    const weir_group *group = self->member->group;
    bool pending = group->unsure;
    for (size_t i = 0; i < group->shard_count && !pending; i++)
        pending = group->shards[i]->owner == self->member && is_pending(group->shards[i]);
    if (pending)
        self->deadline_us =
            weir_earlier(self->deadline_us, self->now_us + refresh_idle_us);
    return pending;
}

static void run(fetch *self)
{
    weir_member_of *member = self->member;
    weir_group *group = member->group;
    weir_member_touch(member, self->now_us);
    weir_group_turn(self->groups, group, self->now_us);
    weir_group_store_due(self->groups, group, self->now_us);
    bool found = self->max_records > 0 && serve_all(self);
    bool more = found_shards(self, !found);
    if (more && !found) found = serve_all(self);
    note_trouble(self, found);
    member->idle = !found;
    self->delivered->pending = !found && some_is_pending(self);
    self->deadline_us = weir_earlier(self->deadline_us, group->next_us);
    self->deadline_us = weir_earlier(self->deadline_us, group->dirty_us);
}

weir_err weir_groups_fetch(weir_groups *self, weir_member_of *member,
                           uint32_t max_records, size_t max_bytes,
                           weir_delivered *delivered, int64_t *deadline_us)
{
    weir_run runs[WEIR_RUNS_MAX];
    *delivered = (weir_delivered){0};
    fetch f = {.groups = self,
               .member = member,
               .now_us = weir_clock_now_us(),
               .max_records = max_records,
               .max_bytes = max_bytes,
               .deadline_us = -1,
               .builder = {.ledger = self->config.ledger,
                           .target = max_bytes < block_bytes ? max_bytes : block_bytes},
               .runs = runs,
               .delivered = delivered};
    weir_groups_enter(self);
    weir_err err = member->group ? WEIR_OK : WEIR_ENOTFOUND;
    member->busy = true;
    if (!err) run(&f);
    member->busy = false;
    weir_groups_exit(self);
    delivered->block = weir_builder_seal(&f.builder);
    if (delivered->block) weir_block_set_places(delivered->block, runs, f.run_count);
    weir_builder_fini(&f.builder);
    *deadline_us = f.deadline_us;
    return err;
}
