#include "actors/bus_moves.h"
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t count, size_t size)
{
    void *items = calloc(count + 1, size);
    if (!items) abort();
    return items;
}

/* --- Noting ------------------------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const weir_shard_row *)a)->id, y = ((const weir_shard_row *)b)->id;
    return (x > y) - (x < y);
}

static const weir_shard_row *find_row(const weir_shard_table *self, uint32_t id)
{
    if (!self->row_count) return NULL;
    return bsearch(&(weir_shard_row){.id = id}, self->rows, self->row_count,
                   sizeof *self->rows, by_id);
}

static void note(weir_shard_table *self, uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < self->move_count; i++)
        if (self->moves[i].from == from && self->moves[i].to == to) return;
    self->moves = realloc(self->moves, (self->move_count + 1) * sizeof *self->moves);
    if (!self->moves) abort();
    self->moves[self->move_count++] = (weir_move){from, to, self->version};
}

/*  Only moves of before this change lead on: vnodes that come to a shard now are not
    those that it loses.                                                            */
static void note_detours(weir_shard_table *self, size_t earlier, uint32_t by, uint32_t to)
{
    for (size_t i = 0; i < earlier; i++)
        if (self->moves[i].to == by && self->moves[i].from != to)
            note(self, self->moves[i].from, to);
}

void weir_moves_note(weir_shard_table *self, const uint32_t *before)
{
    size_t earlier = self->move_count;
    uint32_t from = 0, to = 0; // of the last pair
    for (uint32_t v = 0; v < self->vnodes; v++) {
        if (before[v] == self->owners[v] || !find_row(self, before[v])) continue;
        if (before[v] == from && self->owners[v] == to) continue;
        from = before[v];
        to = self->owners[v];
        note(self, from, to);
        note_detours(self, earlier, from, to);
    }
}

/* --- Forgetting -------------------------------------------------------------------- */

bool weir_moves_lead_to(const weir_shard_table *self, uint32_t to)
{
    for (size_t i = 0; i < self->move_count; i++)
        if (self->moves[i].to == to) return true;
    return false;
}

void weir_moves_forget(weir_shard_table *self, uint32_t to)
{
    size_t kept = 0;
    for (size_t i = 0; i < self->move_count; i++)
        if (self->moves[i].to != to) self->moves[kept++] = self->moves[i];
    self->move_count = kept;
}

/* --- Who waits for whom ------------------------------------------------------------ */

/*  A place in a shard, up to which somebody waits.                                 */
typedef struct {
    size_t row;
    weir_position at;
} place;

/*  Shards are told by the index of their row.                                      */
typedef struct {
    const weir_shard_table *table;
    weir_position *last; // stored
    bool *gone;          // nothing of it is left
    weir_fence *fences;  // by the shard behind them
    size_t fence_count;
    weir_position *waited; // up to here, by who waits for what was looked at
    place *todo;           // a stack
    size_t todo_count, todo_room;
} shard_view;

static int by_to(const void *a, const void *b)
{
    uint32_t x = ((const weir_fence *)a)->to, y = ((const weir_fence *)b)->to;
    return (x > y) - (x < y);
}

static size_t index_of(const shard_view *self, uint32_t id)
{
    const weir_shard_row *row = find_row(self->table, id);
    return row ? (size_t)(row - self->table->rows) : SIZE_MAX;
}

static void view_init(shard_view *self, const weir_shard_table *table,
                      const weir_moves_stored *stored)
{
    *self = (shard_view){.table = table, .fence_count = stored->fence_count};
    self->last = allocate(table->row_count, sizeof *self->last);
    self->gone = allocate(table->row_count, sizeof *self->gone);
    self->waited = allocate(table->row_count, sizeof *self->waited);
    self->fences = allocate(stored->fence_count, sizeof *self->fences);
    for (size_t i = 0; i < stored->shard_count; i++) {
        const weir_store_shard *shard = &stored->shards[i];
        size_t row = index_of(self, shard->shard);
        if (row == SIZE_MAX) continue;
        self->last[row] = shard->end;
        self->gone[row] = weir_position_order(shard->begin, shard->end) >= 0;
    }
    if (!stored->fence_count) return;
    memcpy(self->fences, stored->fences, stored->fence_count * sizeof *self->fences);
    qsort(self->fences, self->fence_count, sizeof *self->fences, by_to);
}

static void view_fini(shard_view *self)
{
    free(self->last);
    free(self->gone);
    free(self->waited);
    free(self->fences);
    free(self->todo);
}

/*  The first of the fences before that shard, or of a later one.                   */
static size_t fences_of(const shard_view *self, uint32_t to)
{
    size_t low = 0, high = self->fence_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->fences[middle].to < to)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_behind_others(const shard_view *self, uint32_t id)
{
    size_t i = fences_of(self, id);
    return i < self->fence_count && self->fences[i].to == id;
}

static void look_at(shard_view *self, size_t row, weir_position at)
{
    if (self->todo_count == self->todo_room) {
        self->todo_room = self->todo_room ? 2 * self->todo_room : 64;
        self->todo = realloc(self->todo, self->todo_room * sizeof *self->todo);
        if (!self->todo) abort();
    }
    self->todo[self->todo_count++] = (place){row, at};
}

/*  Who waits for that place waits for what the fences before it wait for.          */
static void follow(shard_view *self, place at)
{
    uint32_t id = self->table->rows[at.row].id;
    for (size_t i = fences_of(self, id);
         i < self->fence_count && self->fences[i].to == id; i++) {
        const weir_fence *fence = &self->fences[i];
        size_t from = index_of(self, fence->from);
        if (from == SIZE_MAX || weir_position_order(fence->first, at.at) > 0 ||
            weir_position_order(fence->last, self->waited[from]) <= 0)
            continue;
        self->waited[from] = fence->last;
        look_at(self, from, fence->last);
    }
}

/*  What one waits for who waits for all that moved to this shard. Fences lead back in
    time, so none of these waits for itself.                                        */
static void follow_moves(shard_view *self, uint32_t to)
{
    memset(self->waited, 0, self->table->row_count * sizeof *self->waited);
    for (size_t i = 0; i < self->table->move_count; i++) {
        const weir_move *move = &self->table->moves[i];
        size_t from = index_of(self, move->from);
        if (move->to == to && from != SIZE_MAX) look_at(self, from, self->last[from]);
    }
    while (self->todo_count)
        follow(self, self->todo[--self->todo_count]);
}

/* --- Settling ---------------------------------------------------------------------- */

static bool is_needed(const shard_view *self, const weir_move *move)
{
    const weir_shard_row *to = find_row(self->table, move->to);
    size_t from = index_of(self, move->from);
    if (!to || to->state != WEIR_SHARD_ACTIVE || from == SIZE_MAX ||
        weir_position_is_none(self->last[from]))
        return false;
    return !self->gone[from] || is_behind_others(self, move->from);
}

static void forget_needless(weir_shard_table *self, const shard_view *view)
{
    size_t kept = 0;
    for (size_t i = 0; i < self->move_count; i++)
        if (is_needed(view, &self->moves[i])) self->moves[kept++] = self->moves[i];
    self->move_count = kept;
}

static void forget_implied(weir_shard_table *self, shard_view *view, uint32_t to)
{
    size_t kept = 0;
    follow_moves(view, to);
    for (size_t i = 0; i < self->move_count; i++) {
        const weir_move *move = &self->moves[i];
        size_t from = index_of(view, move->from);
        if (move->to != to ||
            weir_position_order(view->waited[from], view->last[from]) < 0)
            self->moves[kept++] = *move;
    }
    self->move_count = kept;
}

/*  Who has stored nothing behind a fence hands on what stands there.               */
static void note_fenced(weir_shard_table *self, const shard_view *view)
{
    size_t moves = self->move_count;
    for (size_t i = 0; i < moves; i++) {
        uint32_t by = self->moves[i].from, to = self->moves[i].to;
        size_t row = index_of(view, by);
        for (size_t f = fences_of(view, by);
             f < view->fence_count && view->fences[f].to == by; f++)
            if (view->fences[f].from != to && row != SIZE_MAX &&
                weir_position_order(view->fences[f].first, view->last[row]) > 0)
                note(self, view->fences[f].from, to);
    }
}

void weir_moves_settle(weir_shard_table *self, const weir_moves_stored *stored)
{
    shard_view view;
    view_init(&view, self, stored);
    note_fenced(self, &view);
    forget_needless(self, &view);
    for (size_t i = 0; i < self->row_count && stored->fence_count; i++)
        if (weir_moves_lead_to(self, self->rows[i].id))
            forget_implied(self, &view, self->rows[i].id);
    view_fini(&view);
}

/* --- Fences of a store that keeps none --------------------------------------------- */

static const weir_store_shard *find_stored(const weir_moves_stored *stored, uint32_t id)
{
    for (size_t i = 0; i < stored->shard_count; i++)
        if (stored->shards[i].shard == id) return &stored->shards[i];
    return NULL;
}

/*  Whether nothing is behind it, and nothing will be.                              */
static bool is_idle(const weir_shard_table *table, const weir_fence *fence,
                    const weir_moves_stored *stored)
{
    const weir_shard_row *row = find_row(table, fence->to);
    const weir_store_shard *to = find_stored(stored, fence->to);
    if (row && row->state != WEIR_SHARD_RETIRED) return false;
    return !to || weir_position_order(to->end, fence->first) < 0;
}

/*  Whether somebody waits at this one: something is left that it waits for, or that
    stands behind another one that holds.                                           */
static bool holds(const weir_fence *self, const weir_moves_stored *stored,
                  const weir_fence *list, size_t count)
{
    const weir_store_shard *from = find_stored(stored, self->from);
    bool does = !from || weir_position_order(from->begin, self->last) < 0;
    for (size_t i = 0; i < count && !does; i++)
        does = list[i].to == self->from &&
               weir_position_order(list[i].first, self->last) <= 0;
    return does;
}

static size_t sweep(const weir_shard_table *table, weir_fence *list, size_t count,
                    const weir_moves_stored *stored)
{
    size_t before;
    do {
        before = count;
        for (size_t i = 0; i < count;)
            if (!is_idle(table, &list[i], stored) && holds(&list[i], stored, list, count))
                i++;
            else
                list[i] = list[--count];
    } while (count < before);
    return count;
}

/*  The end of a shard, never before where earlier fences have put it: so fences lead back
    in time, and none waits for itself, however old what the store tells is.        */
static weir_position end_of(uint32_t id, const weir_moves_stored *stored)
{
    const weir_store_shard *shard = find_stored(stored, id);
    weir_position end = shard ? shard->end : (weir_position){0};
    for (size_t i = 0; i < stored->fence_count; i++) {
        const weir_fence *fence = &stored->fences[i];
        if (fence->from == id) end = weir_position_max(end, fence->last);
        if (fence->to == id)
            end = weir_position_max(end, weir_position_before(fence->first));
    }
    return end;
}

/*  Whether who waits at the one waits for all that the other one waits for, and not
 * later.
 */
static bool implies(const weir_fence *self, const weir_fence *other)
{
    return self->from == other->from && self->to == other->to &&
           weir_position_order(self->first, other->first) <= 0 &&
           weir_position_order(self->last, other->last) >= 0;
}

/*  Beside those of the list that say something else.                               */
static void add_fence(weir_fence *list, size_t *count, const weir_fence *new)
{
    for (size_t i = 0; i < *count; i++)
        if (implies(&list[i], new)) return;
    for (size_t i = 0; i < *count;)
        if (implies(new, &list[i]))
            list[i] = list[--*count];
        else
            i++;
    list[(*count)++] = *new;
}

weir_fence *weir_moves_fences(const weir_shard_table *self,
                              const weir_moves_stored *stored, size_t *count)
{
    weir_fence *list = allocate(stored->fence_count + self->move_count, sizeof *list);
    if (stored->fence_count)
        memcpy(list, stored->fences, stored->fence_count * sizeof *list);
    *count = sweep(self, list, stored->fence_count, stored);
    for (size_t i = 0; i < self->move_count; i++) {
        const weir_move *move = &self->moves[i];
        const weir_fence new = {.from = move->from,
                                .last = end_of(move->from, stored),
                                .to = move->to,
                                .first = weir_position_next(end_of(move->to, stored))};
        add_fence(list, count, &new);
    }
    return list;
}
