#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "actors/bus_moves.h"
#include "actors/scale.h"

/* --- A table ----------------------------------------------------------------------- */

/*  Shards 0 .. rows - 1, active; all vnodes are shard 0's.                          */
static weir_shard_table make_table(uint32_t rows, uint32_t vnodes)
{
    weir_shard_table table = {.vnodes = vnodes};
    table.rows = calloc(rows, sizeof *table.rows);
    table.owners = calloc(vnodes, sizeof *table.owners);
    table.row_count = rows;
    for (uint32_t i = 0; i < rows; i++)
        table.rows[i] = (weir_shard_row){i, WEIR_SHARD_ACTIVE};
    return table;
}

static void move(weir_shard_table *table, uint32_t from, uint32_t to)
{
    uint32_t before[16];
    memcpy(before, table->owners, table->vnodes * sizeof *before);
    table->version++;
    for (uint32_t v = 0; v < table->vnodes; v++)
        if (before[v] == from) table->owners[v] = to;
    weir_moves_note(table, before);
}

static bool has(const weir_shard_table *table, uint32_t from, uint32_t to)
{
    size_t count = 0;
    for (size_t i = 0; i < table->move_count; i++)
        count += table->moves[i].from == from && table->moves[i].to == to;
    assert_in_range(count, 0, 1);
    return count;
}

/* --- Noting ------------------------------------------------------------------------ */

static void vnodes_that_go_on_are_behind_their_first_shard(void **state)
{
    (void)state;
    weir_shard_table table = make_table(4, 8);
    move(&table, 0, 1);
    move(&table, 1, 2);
    assert_int_equal(table.move_count, 3);
    assert_true(has(&table, 0, 1) && has(&table, 1, 2) && has(&table, 0, 2));
    move(&table, 2, 3);
    assert_int_equal(table.move_count, 6);
    assert_true(has(&table, 0, 3) && has(&table, 1, 3) && has(&table, 2, 3));
    move(&table, 3, 0); // a shard is behind itself anyway
    assert_int_equal(table.move_count, 9);
    assert_false(has(&table, 0, 0));
    weir_shard_table_fini(&table);
}

static void vnodes_that_left_before_are_not_behind_what_comes(void **state)
{
    (void)state;
    weir_shard_table table = make_table(3, 8);
    memset(table.owners, 0, sizeof *table.owners);
    table.owners[1] = 1;
    move(&table, 1, 2);
    move(&table, 0, 1);
    assert_int_equal(table.move_count, 2);
    assert_true(has(&table, 1, 2) && has(&table, 0, 1));
    weir_shard_table_fini(&table);
}

static void vnodes_of_nobody_move_from_nobody(void **state)
{
    (void)state;
    weir_shard_table table = make_table(2, 8);
    uint32_t before[8];
    memset(before, 0xff, sizeof before);
    weir_moves_note(&table, before);
    assert_int_equal(table.move_count, 0);
    move(&table, 0, 1);
    weir_moves_forget(&table, 1);
    assert_false(weir_moves_lead_to(&table, 1));
    move(&table, 1, 0); // what is fenced leads nobody on
    assert_int_equal(table.move_count, 1);
    weir_shard_table_fini(&table);
}

/* --- Settling ---------------------------------------------------------------------- */

static void without_a_store_nothing_is_due(void **state)
{
    (void)state;
    weir_shard_table table = make_table(3, 8);
    move(&table, 0, 1);
    move(&table, 1, 2);
    weir_moves_settle(&table, &(weir_moves_stored){.shards = NULL});
    assert_int_equal(table.move_count, 0);
    weir_shard_table_fini(&table);
}

static void what_has_nothing_is_not_waited_for(void **state)
{
    (void)state;
    weir_shard_table table = make_table(8, 8);
    static const uint32_t all[] = {1, 2, 3, 4, 5, 6};
    weir_store_shard shards[] = {{.shard = 2, .begin.a = 0, .end.a = 9},
                                 {.shard = 3, .begin.a = 9, .end.a = 9},
                                 {.shard = 4, .begin.a = 9, .end.a = 9},
                                 {.shard = 5, .begin.a = 4, .end.a = 9}};
    weir_fence behind = {.from = 2, .last.a = 8, .to = 4, .first.a = 1};
    table.moves = calloc(8, sizeof *table.moves);
    for (size_t i = 0; i < 6; i++)
        table.moves[table.move_count++] = (weir_move){all[i], 0, 1};
    table.moves[table.move_count++] = (weir_move){2, 7, 1};
    table.rows[7].state = WEIR_SHARD_DRAINING;
    weir_moves_settle(&table, &(weir_moves_stored){shards, 4, &behind, 1});
    /*  1 and 6 have stored nothing, of 3 all is trimmed; so it is of 4, but that waits.
     */
    assert_int_equal(table.move_count, 3);
    assert_true(has(&table, 2, 0) && has(&table, 4, 0) && has(&table, 5, 0));
    weir_shard_table_fini(&table);
}

static void settle_chain(weir_shard_table *table, uint64_t last_of_1, uint64_t last_of_3)
{
    weir_store_shard shards[] = {{.shard = 1, .begin.a = 0, .end.a = last_of_1},
                                 {.shard = 2, .begin.a = 0, .end.a = 10},
                                 {.shard = 3, .begin.a = 0, .end.a = last_of_3}};
    weir_fence fences[] = {{.from = 2, .last.a = 10, .to = 3, .first.a = 7},
                           {.from = 1, .last.a = 5, .to = 2, .first.a = 10}};
    *table = make_table(4, 8);
    table->moves = calloc(2, sizeof *table->moves);
    table->moves[0] = (weir_move){1, 0, 1};
    table->moves[1] = (weir_move){3, 0, 2};
    table->move_count = 2;
    weir_moves_settle(table, &(weir_moves_stored){shards, 3, fences, 2});
}

/*  Shard 3 waits for 2, and that for 1.                                            */
static void who_waits_for_the_last_waits_for_those_before_it(void **state)
{
    (void)state;
    weir_shard_table table;
    settle_chain(&table, 5, 7);
    assert_true(has(&table, 3, 0) && !has(&table, 1, 0));
    weir_shard_table_fini(&table);
    settle_chain(&table, 6, 7); // 1 has got more since
    assert_true(has(&table, 3, 0) && has(&table, 1, 0));
    weir_shard_table_fini(&table);
    settle_chain(&table, 5, 6); // 3 has nothing behind its fence: who goes on waits there
    assert_true(has(&table, 3, 0) && has(&table, 2, 0) && !has(&table, 1, 0));
    weir_shard_table_fini(&table);
}

/* --- A bus ------------------------------------------------------------------------- */

enum { vnodes = 32, shards_max = 4096, fences_max = 65536, most = 8 };

typedef struct {
    uint64_t first, last; // offsets stored
    weir_fence due[1024]; // for its next record
    size_t due_count;
} model_shard;

/*  Of each vnode where its last record is.                                         */
typedef struct {
    weir_shard_table table;
    model_shard *shards;
    weir_fence fences[fences_max];
    size_t fence_count, most_moves;
    uint64_t offset[vnodes];
    uint32_t shard[vnodes];
    uint64_t random;
    bool keeps_none; // the store: the bus's state has the fences
} model;

static uint32_t below(model *self, uint32_t n)
{
    self->random = self->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(self->random >> 33) % n;
}

/*  Up to where who is at that place has read the other shard.                      */
static uint64_t reached(const model *self, uint32_t shard, uint64_t offset,
                        uint32_t other)
{
    static uint64_t at[shards_max];
    bool more = true;
    memset(at, 0, sizeof at);
    at[shard] = offset;
    while (more) {
        more = false;
        for (size_t i = self->fence_count; i-- > 0;) {
            const weir_fence *fence = &self->fences[i];
            if (at[fence->to] < fence->first.a || at[fence->from] >= fence->last.a)
                continue;
            at[fence->from] = fence->last.a;
            more = true;
        }
    }
    return at[other];
}

/*  A record of the vnode is stored; the one before it was read before, unless it is
    trimmed.                                                                        */
static void store_record(model *self, uint32_t vnode)
{
    uint32_t id = self->table.owners[vnode], before = self->shard[vnode];
    uint64_t offset = self->offset[vnode];
    model_shard *shard = &self->shards[id];
    shard->last++;
    for (size_t i = 0; i < shard->due_count; i++) {
        assert_true(self->fence_count < fences_max);
        shard->due[i].first.a = shard->last;
        self->fences[self->fence_count++] = shard->due[i];
    }
    shard->due_count = 0;
    weir_moves_forget(&self->table, id);
    if (offset >= self->shards[before].first && before != id && offset)
        assert_true(reached(self, id, shard->last, before) >= offset);
    self->shard[vnode] = id;
    self->offset[vnode] = shard->last;
}

static bool is_behind(const model *self, const weir_fence *before)
{
    for (size_t i = 0; i < self->fence_count; i++)
        if (self->fences[i].to == before->from &&
            self->fences[i].first.a <= before->last.a)
            return true;
    return false;
}

/*  As the disk store does.                                                         */
static void sweep(model *self)
{
    size_t before, kept;
    if (self->keeps_none) return;
    do {
        before = self->fence_count;
        kept = 0;
        for (size_t i = 0; i < before; i++) {
            weir_fence fence = self->fences[i];
            if (self->shards[fence.from].first <= fence.last.a || is_behind(self, &fence))
                self->fences[kept++] = fence;
            else
                self->fences[i].to = UINT32_MAX; // is behind nobody any more
        }
        self->fence_count = kept;
    } while (kept < before);
}

/*  As the bus does for a store that keeps none.                                    */
static void keep_fences(model *self, const weir_store_shard *list)
{
    weir_shard_table *t = &self->table;
    weir_fence *fences = weir_moves_fences(
        t, &(weir_moves_stored){list, t->row_count, self->fences, self->fence_count},
        &self->fence_count);
    assert_true(self->fence_count <= fences_max);
    memcpy(self->fences, fences, self->fence_count * sizeof *fences);
    free(fences);
    t->move_count = 0;
}

static void release(model *self)
{
    static weir_store_shard list[shards_max];
    weir_shard_table *t = &self->table;
    for (uint32_t i = 0; i < t->row_count; i++)
        list[i] = (weir_store_shard){.shard = i,
                                     .begin.a = self->shards[i].first - 1,
                                     .end.a = self->shards[i].last};
    weir_moves_settle(
        t, &(weir_moves_stored){list, t->row_count, self->fences, self->fence_count});
    if (t->move_count > self->most_moves) self->most_moves = t->move_count;
    if (self->keeps_none) {
        keep_fences(self, list);
        return;
    }
    for (size_t i = 0; i < t->row_count; i++)
        self->shards[i].due_count = 0;
    for (size_t i = 0; i < t->move_count; i++) {
        model_shard *to = &self->shards[t->moves[i].to];
        assert_true(to->due_count < 1024);
        to->due[to->due_count++] =
            (weir_fence){.from = t->moves[i].from,
                         .last.a = self->shards[t->moves[i].from].last,
                         .to = t->moves[i].to};
    }
}

static void scale(model *self, uint32_t want)
{
    weir_shard_table *t = &self->table;
    uint32_t ids[shards_max], before[vnodes], count = 0;
    for (uint32_t i = 0; i < t->row_count; i++) {
        if (t->rows[i].state != WEIR_SHARD_ACTIVE) continue;
        if (count < want)
            ids[count++] = i;
        else
            t->rows[i].state = WEIR_SHARD_RETIRED;
    }
    for (; count < want; count++) {
        ids[count] = (uint32_t)t->row_count;
        t->rows[t->row_count] = (weir_shard_row){ids[count], WEIR_SHARD_ACTIVE};
        self->shards[t->row_count++].first = 1;
    }
    memcpy(before, t->owners, sizeof before);
    t->version++;
    weir_scale_assign(t->owners, t->vnodes, ids, count);
    weir_moves_note(t, before);
    release(self);
}

static model *model_new(uint64_t seed, bool keeps_none)
{
    model *self = calloc(1, sizeof *self);
    self->table = make_table(1, vnodes);
    self->table.rows = realloc(self->table.rows, shards_max * sizeof *self->table.rows);
    self->shards = calloc(shards_max, sizeof *self->shards);
    self->shards[0].first = 1;
    self->random = seed;
    self->keeps_none = keeps_none;
    return self;
}

static void model_free(model *self)
{
    weir_shard_table_fini(&self->table);
    free(self->shards);
    free(self);
}

static uint64_t the_seed(void)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20250101;
    printf("SEED=%" PRIu64 "\n", seed);
    return seed;
}

/*  Whatever moves, whoever is idle, whatever is trimmed, and with restarts.         */
static void records_of_a_vnode_are_read_in_order(void **state)
{
    (void)state;
    uint64_t seed = the_seed();
    for (int round = 0; round < 40; round++) {
        model *self = model_new(seed + (uint64_t)round, round % 2);
        uint32_t busy = 1 + below(self, vnodes), trims = below(self, 3);
        for (int i = 0; i < 200; i++) {
            scale(self, 1 + below(self, most));
            for (uint32_t n = below(self, 20); n > 0; n--)
                store_record(self, below(self, busy));
            for (uint32_t n = 0; n < trims; n++) {
                model_shard *shard =
                    &self->shards[below(self, (uint32_t)self->table.row_count)];
                shard->first += below(self, (uint32_t)(shard->last - shard->first) + 2);
            }
            sweep(self);
            if (below(self, 10) == 0) release(self);
        }
        model_free(self);
    }
}

/*  Records come only while there are many shards, and of one vnode: what remains when
    there are few stays idle and behind all that have had it. Nothing is ever trimmed. */
static void idle_shards_gather_nothing(bool keeps_none)
{
    model *self = model_new(the_seed(), keeps_none);
    size_t early_moves = 0, with_records = 0;
    for (int i = 0; i < 300; i++) {
        bool many = i % 2 == 0;
        scale(self, many ? most : most / 2);
        if (many) store_record(self, 3);
        if (i == 10) early_moves = self->most_moves;
    }
    for (size_t i = 0; i < self->table.row_count; i++)
        with_records += self->shards[i].last > 0;
    assert_int_equal(with_records, 150);
    assert_int_equal(self->most_moves, early_moves);
    assert_true(self->fence_count < 2 * with_records);
    model_free(self);
}

static void neither_moves_nor_fences_gather(void **state)
{
    (void)state;
    idle_shards_gather_nothing(false);
    idle_shards_gather_nothing(true);
}

/*  Of two shards between which vnodes go to and fro while nobody writes.           */
static void fences_that_say_the_same_are_one(void **state)
{
    (void)state;
    weir_store_shard shards[] = {{.shard = 0, .end = {3, 7}},
                                 {.shard = 1, .end = {3, 9}}};
    weir_moves_stored stored = {.shards = shards, .shard_count = 2};
    weir_fence *list = NULL, *before = NULL;
    for (int i = 0; i < 4; i++) {
        weir_shard_table table = make_table(2, 8);
        move(&table, 0, 1);
        before = list;
        stored.fences = before;
        list = weir_moves_fences(&table, &stored, &stored.fence_count);
        free(before);
        assert_int_equal(stored.fence_count, i < 3 ? 1 : 2);
        if (i == 1) shards[0].end.b = 8; // more to wait for, at the same place
        if (i == 2) shards[0].end.b = shards[1].end.b = 20;
        weir_shard_table_fini(&table);
    }
    assert_true(list[0].last.b == 8 && list[0].first.b == 10);
    assert_true(list[1].last.b == 20 && list[1].first.b == 21);
    free(list);
}

/*  Nothing of shard 0 is left, so nobody waits for it, nor behind it.              */
static void fences_of_what_is_trimmed_go(void **state)
{
    (void)state;
    weir_store_shard shards[] = {{.shard = 0, .begin = {3, 7}, .end = {3, 7}},
                                 {.shard = 1, .begin = {3, 4}, .end = {3, 9}}};
    weir_fence fences[] = {{.from = 1, .last = {3, 4}, .to = 2, .first = {3, 1}},
                           {.from = 0, .last = {3, 7}, .to = 1, .first = {3, 3}},
                           {.from = 1, .last = {3, 9}, .to = 2, .first = {3, 5}}};
    weir_moves_stored stored = {shards, 2, fences, 3};
    weir_shard_table table = make_table(3, 8);
    weir_fence *list = weir_moves_fences(&table, &stored, &stored.fence_count);
    assert_int_equal(stored.fence_count, 1);
    assert_true(list[0].last.b == 9);
    free(list);
    weir_shard_table_fini(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vnodes_that_go_on_are_behind_their_first_shard),
        cmocka_unit_test(vnodes_that_left_before_are_not_behind_what_comes),
        cmocka_unit_test(vnodes_of_nobody_move_from_nobody),
        cmocka_unit_test(without_a_store_nothing_is_due),
        cmocka_unit_test(what_has_nothing_is_not_waited_for),
        cmocka_unit_test(who_waits_for_the_last_waits_for_those_before_it),
        cmocka_unit_test(records_of_a_vnode_are_read_in_order),
        cmocka_unit_test(neither_moves_nor_fences_gather),
        cmocka_unit_test(fences_that_say_the_same_are_one),
        cmocka_unit_test(fences_of_what_is_trimmed_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
