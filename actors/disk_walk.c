#include "actors/disk_walk.h"
#include <inttypes.h>
#include <stdio.h>
#include "actors/disk_scan.h"

/*  Each costs a process; a file of which more is damaged is not worth the time.    */
static const unsigned crashes_max = 10000;
/*  What a child may announce: LMDB's own limit of a value is 4 GB.                 */
static const uint64_t value_max_bytes = (uint64_t)1 << 32;

typedef unsigned __int128 position; // a key as one number of 96 bits

typedef struct {
    weir_disk_key key;
    weir_disk_gap gap;
} gap_row;

typedef struct {
    uint32_t shard;
    uint64_t last; // offset, as it was counted
} shard_end;

typedef struct {
    const weir_disk_visitor *to;
    weir_report *report;
    /*  Where the next child begins.                                                */
    weir_scan order;
    weir_disk_key looked_at; // the last key that was told
    bool looks;              // its block has not been told yet
    bool explained;          // the child has said why it ends
    position step;           // how far the next one skips when this one gets nowhere
    unsigned crashes;
    /*  What has been passed: shard and its next offset.                            */
    uint32_t shard;
    uint64_t next;
    gap_row *gaps; // owned, ascending by key
    size_t gap_count, gap_capacity, gap_at;
    shard_end *ends; // owned, ascending
    size_t end_count, end_at;
    uint64_t fence_sum;  // of those that were told
    bool fences_unknown; // some were not, or the sum has come
    weir_buffer value;
} walk;

/* --- In order ---------------------------------------------------------------------- */

static uint64_t behind(uint64_t offset)
{
    return offset == UINT64_MAX ? offset : offset + 1;
}

static void pass(walk *self, uint64_t last)
{
    if (last >= self->next) self->next = behind(last);
}

static weir_err lose(walk *self, uint32_t shard, uint64_t first, uint64_t last,
                     const char *text)
{
    return self->to->lost(self->to->arg, shard, first, last, text);
}

static weir_err broken(walk *self, const char *text)
{
    return lose(self, WEIR_DISK_NO_SHARD, 0, 0, text);
}

/*  Something begins at `first` that is there: what is between is not.              */
static weir_err miss_until(walk *self, uint64_t first)
{
    if (first <= self->next) return WEIR_OK;
    weir_err err = lose(self, self->shard, self->next, first - 1,
                        "it is neither there nor noted as a gap");
    self->next = first;
    return err;
}

static void begin_shard(walk *self, uint32_t shard)
{
    if (shard != self->shard) self->next = 1;
    self->shard = shard;
}

/*  What the shards below that one have at their ends, and what was not passed of them. */
static weir_err miss_ends(walk *self, uint64_t below)
{
    weir_err err = WEIR_OK;
    for (; !err && self->end_at < self->end_count; self->end_at++) {
        const shard_end *end = &self->ends[self->end_at];
        if (end->shard >= below) break;
        begin_shard(self, end->shard);
        err = miss_until(self, end->last + 1);
    }
    return err;
}

static weir_err come_to(walk *self, uint32_t shard)
{
    weir_err err = miss_ends(self, shard);
    begin_shard(self, shard);
    return err;
}

static weir_err pass_gap(walk *self, const gap_row *row)
{
    uint64_t first = row->gap.first, last = row->key.last;
    weir_err err = come_to(self, row->key.shard);
    if (!err) err = miss_until(self, first);
    if (!err && first < self->next)
        err = lose(self, self->shard, first, last < self->next ? last : self->next - 1,
                   "it is noted as a gap, and there");
    if (!err && last >= self->next)
        err =
            self->to->gap(self->to->arg, self->shard, self->next, last, row->gap.damaged);
    pass(self, last);
    return err;
}

/*  All gaps before that key.                                                       */
static weir_err pass_gaps(walk *self, weir_disk_key key)
{
    weir_err err = WEIR_OK;
    for (; !err && self->gap_at < self->gap_count; self->gap_at++) {
        const gap_row *row = &self->gaps[self->gap_at];
        if (row->key.shard > key.shard ||
            (row->key.shard == key.shard && row->key.last >= key.last))
            break;
        err = pass_gap(self, row);
    }
    return err ? err : come_to(self, key.shard);
}

static weir_err pass_bad(walk *self, weir_disk_key key, const char *text)
{
    weir_err err = pass_gaps(self, key);
    uint64_t first = self->next <= key.last ? self->next : key.last;
    if (!err) err = lose(self, key.shard, first, key.last, text);
    pass(self, key.last);
    return err;
}

static weir_err pass_good(walk *self, const weir_told *told)
{
    const weir_disk_head *head = &told->head;
    weir_err err = pass_gaps(self, told->key);
    if (!err) err = miss_until(self, head->first);
    if (!err && head->first < self->next)
        err = lose(self, told->key.shard, head->first, told->key.last,
                   "its block overlaps what is before it");
    else if (!err)
        err = self->to->block(self->to->arg, told->key, head,
                              self->to->values ? self->value.data : NULL, told->size);
    pass(self, told->key.last);
    return err;
}

/* --- What a child tells ------------------------------------------------------------ */

static void add_gap(walk *self, const weir_told *told)
{
    if (self->gap_count == self->gap_capacity) {
        self->gap_capacity = self->gap_capacity ? 2 * self->gap_capacity : 64;
        self->gaps = realloc(self->gaps, self->gap_capacity * sizeof *self->gaps);
        if (!self->gaps) abort();
    }
    self->gaps[self->gap_count++] = (gap_row){told->key, told->gap};
}

static weir_err add_counts(walk *self, const weir_told *told)
{
    self->ends = realloc(self->ends, (self->end_count + 1) * sizeof *self->ends);
    if (!self->ends) abort();
    self->ends[self->end_count++] = (shard_end){told->key.shard, told->counts.last};
    if (!self->to->counts) return WEIR_OK;
    return self->to->counts(self->to->arg, told->key.shard, &told->counts);
}

static weir_err pass_fence(walk *self, const weir_told *told)
{
    self->fence_sum += weir_disk_fence_sum(told->fence[0], told->fence[1]);
    return self->to->fence(self->to->arg, told->fence[0], told->fence[1]);
}

static weir_err see_fence_sum(walk *self, uint64_t sum)
{
    bool same = self->fences_unknown || sum == self->fence_sum;
    self->fences_unknown = true;
    return same ? WEIR_OK : broken(self, "its fences are not those it had");
}

static void begin_phase(walk *self, weir_scan_phase phase)
{
    self->order.phase = phase;
    self->order.from = (weir_disk_key){0};
    self->step = 1;
}

static position position_of(weir_disk_key key)
{
    return (position)key.shard << 64 | key.last;
}

/*  Where the next child goes on: so far behind that key.                           */
static void skip(walk *self, weir_disk_key key, position step)
{
    position at = position_of(key) + step;
    self->order.from = (weir_disk_key){(uint32_t)(at >> 64), (uint64_t)at};
    if (at >> 96) self->order.phase = WEIR_SCAN_DONE;
}

static void look_at(walk *self, weir_disk_key key)
{
    self->looked_at = key;
    self->looks = true;
    self->step = 1;
    skip(self, key, 1);
}

static weir_err take(walk *self, weir_told *told)
{
    told->text[sizeof told->text - 1] = 0;
    self->explained = told->kind == WEIR_TOLD_BROKEN;
    switch (told->kind) {
    case WEIR_TOLD_PHASE:
        begin_phase(self, told->phase);
        return WEIR_OK;
    case WEIR_TOLD_GAP:
        add_gap(self, told);
        return WEIR_OK;
    case WEIR_TOLD_FENCE:
        return pass_fence(self, told);
    case WEIR_TOLD_FENCE_SUM:
        return see_fence_sum(self, told->fence_sum);
    case WEIR_TOLD_COUNTS:
        return add_counts(self, told);
    case WEIR_TOLD_KEY:
        look_at(self, told->key);
        return WEIR_OK;
    case WEIR_TOLD_GOOD:
        self->looks = false;
        return pass_good(self, told);
    case WEIR_TOLD_BAD:
        self->looks = false;
        return pass_bad(self, told->key, told->text);
    case WEIR_TOLD_BROKEN:
        return broken(self, told->text);
    case WEIR_TOLD_END:
        self->order.phase = WEIR_SCAN_DONE;
        return WEIR_OK;
    }
    return WEIR_OK;
}

static bool read_told(walk *self, weir_disk_child *child, weir_told *told)
{
    if (!weir_disk_child_read(child, told, sizeof *told)) return false;
    if (told->kind != WEIR_TOLD_GOOD || !told->size) return true;
    if (told->size > value_max_bytes) return false;
    self->value.size = 0;
    weir_buffer_reserve(&self->value, told->size);
    return weir_disk_child_read(child, self->value.data, told->size);
}

/* --- Crashes ----------------------------------------------------------------------- */

static weir_err give_up(walk *self)
{
    self->order.phase = WEIR_SCAN_DONE;
    return broken(self, "too much of it cannot be read: the rest is left");
}

/*  The tree itself is damaged here: what is told names the place, and each child that
    gets nowhere makes the next one skip twice as far.                              */
static weir_err skip_ahead(walk *self, const char *why)
{
    char text[200];
    weir_err err = WEIR_OK;
    snprintf(text, sizeof text,
             "the records behind offset %" PRIu64 " of shard %" PRIu32
             " cannot be found: %s",
             self->order.from.last ? self->order.from.last - 1 : 0,
             self->order.from.shard, why);
    if (self->step == 1 && !self->explained) err = broken(self, text);
    skip(self, self->order.from, self->step);
    self->step *= 2;
    return err;
}

static weir_err recover(walk *self, const char *why)
{
    static const char *const names[] = {"gaps", "fences", "counts"};
    char text[128];
    self->order.again = true;
    if (++self->crashes > crashes_max) return give_up(self);
    if (self->order.phase < WEIR_SCAN_BLOCKS) {
        snprintf(text, sizeof text, "its %s cannot be read: %s", names[self->order.phase],
                 why);
        self->fences_unknown |= self->order.phase == WEIR_SCAN_FENCES;
        begin_phase(self, self->order.phase + 1);
        return broken(self, text);
    }
    if (!self->looks) return skip_ahead(self, why);
    self->looks = false;
    return pass_bad(self, self->looked_at, why);
}

static weir_err run_child(walk *self)
{
    weir_disk_child child;
    weir_told told;
    char why[64];
    weir_err err =
        weir_disk_child_start(&child, weir_scan_run, &self->order, self->report);
    if (err) return err;
    while (!err && self->order.phase != WEIR_SCAN_DONE && read_told(self, &child, &told))
        err = take(self, &told);
    bool over = err || self->order.phase == WEIR_SCAN_DONE;
    weir_disk_child_end(&child, over, why);
    return over ? err : recover(self, *why ? why : "reading it ended");
}

weir_err weir_disk_walk(const char *folder, const weir_disk_visitor *visitor,
                        weir_report *report)
{
    static const weir_disk_key all = {UINT32_MAX, UINT64_MAX};
    walk self = {.to = visitor,
                 .report = report,
                 .order = {.folder = folder, .values = visitor->values},
                 .shard = WEIR_DISK_NO_SHARD,
                 .next = 1};
    weir_err err = WEIR_OK;
    while (!err && self.order.phase != WEIR_SCAN_DONE)
        err = run_child(&self);
    if (!err) err = pass_gaps(&self, all);
    if (!err) err = miss_ends(&self, UINT64_MAX);
    if (!err && self.end_count && !self.fences_unknown)
        err = broken(&self, "the sum of its fences is missing");
    free(self.gaps);
    free(self.ends);
    weir_buffer_fini(&self.value);
    return err;
}
