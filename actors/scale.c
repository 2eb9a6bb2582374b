#include "actors/scale.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define LOAD_MAX 4.0
#define NEVER INT64_MIN

/*  Sums of ratios that should be whole come out a little above.                    */
#define ROUNDING 1e-9

/*  A shard that was cold in the last window.                                       */
typedef struct {
    uint32_t id;
    int64_t since_us; // when the first of its cold windows began
} spell;

struct weir_scaling {
    weir_scale_config config;
    int64_t changed_us; // NEVER: not yet
    spell *spells;      // owned; of the last call, in no order
    uint32_t spell_count;
};

/* --- Policy ------------------------------------------------------------------------ */

weir_scaling *weir_scaling_new(const weir_scale_config *config)
{
    assert(config->min >= 1 && config->max >= config->min);
    weir_scaling *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->changed_us = NEVER;
    return self;
}

void weir_scaling_destroy(weir_scaling **self_p)
{
    weir_scaling *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    free(self->spells);
    free(self);
}

static bool is_judged(const weir_scale_config *config, const weir_shard_load *shard)
{
    return shard->age_us >= config->cooldown_us;
}

static double load_of(const weir_scale_config *config, const weir_shard_load *shard)
{
    double by_fill = shard->fill / config->fill;
    double by_wait = (double)shard->wait_us / (double)config->wait_us;
    return fmin(LOAD_MAX, fmax(by_fill, by_wait));
}

static bool is_cold(const weir_scale_config *config, const weir_shard_load *shard)
{
    return is_judged(config, shard) && shard->fill < config->idle_fill &&
           shard->wait_us < (config->wait_us + 9) / 10; // a tenth, rounded up
}

/*  When the shard's unbroken row of cold windows began, if it is cold in this one.  */
static int64_t cold_since(const weir_scaling *self, uint32_t id, int64_t now_us)
{
    for (uint32_t i = 0; i < self->spell_count; i++)
        if (self->spells[i].id == id) return self->spells[i].since_us;
    return now_us - self->config.window_us;
}

/*  Replaces the spells by those of this window; gives how many shards were cold for
    idle_delay.                                                                     */
static uint32_t follow_cold(weir_scaling *self, const weir_shard_load *shards,
                            uint32_t count, int64_t now_us)
{
    spell *spells = calloc(count + 1, sizeof *spells);
    if (!spells) abort();
    uint32_t found = 0, long_cold = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_cold(&self->config, &shards[i])) continue;
        int64_t since_us = cold_since(self, shards[i].id, now_us);
        if (now_us - since_us >= self->config.idle_delay_us) long_cold++;
        spells[found++] = (spell){shards[i].id, since_us};
    }
    free(self->spells);
    self->spells = spells;
    self->spell_count = found;
    return long_cold;
}

static void add_to_figures(weir_scale_figures *figures, const weir_scale_config *config,
                           const weir_shard_load *shard)
{
    figures->fill += shard->fill / figures->shards;
    figures->rate += shard->rate;
    if (shard->wait_us > figures->wait_us) figures->wait_us = shard->wait_us;
    if (!is_judged(config, shard)) return;
    double load = load_of(config, shard);
    figures->load += load;
    if (load > 1 && shard->vnodes > 1) figures->hot++;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/*  Bounds are seen to by weir_scaling_allow.                                       */
static int64_t wanted(const weir_scale_figures *figures)
{
    int64_t n = figures->shards;
    if (figures->hot)
        return smaller(2 * n, larger(n + 1, (int64_t)ceil(figures->load - ROUNDING)));
    int64_t needed = (int64_t)ceil(2 * figures->load - ROUNDING);
    return smaller(n, larger(needed, n - figures->cold));
}

uint32_t weir_scaling_want(weir_scaling *self, const weir_shard_load *shards,
                           uint32_t count, int64_t now_us, weir_scale_figures *figures)
{
    *figures = (weir_scale_figures){.shards = count};
    for (uint32_t i = 0; i < count; i++)
        add_to_figures(figures, &self->config, &shards[i]);
    figures->cold = follow_cold(self, shards, count, now_us);
    return weir_scaling_allow(self, count, wanted(figures), now_us);
}

void weir_scaling_changed(weir_scaling *self, int64_t now_us)
{
    self->changed_us = now_us;
}

uint32_t weir_scaling_allow(const weir_scaling *self, uint32_t count, int64_t want,
                            int64_t now_us)
{
    const weir_scale_config *config = &self->config;
    bool cooling =
        self->changed_us != NEVER && now_us - self->changed_us < config->cooldown_us;
    return cooling ? count : (uint32_t)smaller(config->max, larger(config->min, want));
}

/* --- Which shards ------------------------------------------------------------------ */

static int compare_drain(const void *a_p, const void *b_p)
{
    const weir_shard_load *a = a_p, *b = b_p;
    if (a->rate != b->rate) return a->rate < b->rate ? -1 : 1;
    return a->id > b->id ? -1 : a->id < b->id;
}

void weir_scale_drain_order(const weir_shard_load *shards, uint32_t count, uint32_t *ids)
{
    weir_shard_load *sorted = calloc(count + 1, sizeof *sorted);
    if (!sorted) abort();
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = shards[i];
    qsort(sorted, count, sizeof *sorted, compare_drain);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = sorted[i].id;
    free(sorted);
}

/* --- Which vnodes ------------------------------------------------------------------ */

/*  What an active shard has of the vnodes.                                         */
typedef struct {
    uint32_t id;
    int64_t vnodes;
    int64_t surplus; // more than it should have; negative: so many it lacks
} share;

static int compare_id(const void *a_p, const void *b_p)
{
    const share *a = a_p, *b = b_p;
    return a->id < b->id ? -1 : a->id > b->id;
}

/*  Most vnodes first.                                                              */
static int compare_vnodes(const void *a_p, const void *b_p)
{
    const share *a = a_p, *b = b_p;
    if (a->vnodes != b->vnodes) return a->vnodes > b->vnodes ? -1 : 1;
    return compare_id(a, b);
}

static share *find(share *shares, uint32_t count, uint32_t id)
{
    share key = {.id = id};
    return bsearch(&key, shares, count, sizeof key, compare_id);
}

/*  By id.                                                                          */
static share *count_shares(const uint32_t *owners, uint32_t vnodes,
                           const uint32_t *active, uint32_t count)
{
    share *shares = calloc(count, sizeof *shares);
    if (!shares) abort();
    for (uint32_t i = 0; i < count; i++)
        shares[i].id = active[i];
    qsort(shares, count, sizeof *shares, compare_id);
    for (uint32_t v = 0; v < vnodes; v++) {
        share *owner = find(shares, count, owners[v]);
        if (owner) owner->vnodes++;
    }
    return shares;
}

/*  Not all can have the same: those that have most now may keep one more, so that as
    few as possible move.                                                           */
static void set_surplus(share *shares, uint32_t count, uint32_t vnodes)
{
    qsort(shares, count, sizeof *shares, compare_vnodes);
    for (uint32_t i = 0; i < count; i++)
        shares[i].surplus = shares[i].vnodes - vnodes / count - (i < vnodes % count);
    qsort(shares, count, sizeof *shares, compare_id);
}

/*  What is lacking is, in sum, the surplus and what is not owned by an active shard: so
    `to` never runs past the end.                                                   */
uint32_t weir_scale_assign(uint32_t *owners, uint32_t vnodes, const uint32_t *active,
                           uint32_t active_count)
{
    assert(active_count > 0);
    share *shares = count_shares(owners, vnodes, active, active_count), *to = shares;
    set_surplus(shares, active_count, vnodes);
    uint32_t moved = 0;
    for (uint32_t v = 0; v < vnodes; v++) {
        share *from = find(shares, active_count, owners[v]);
        if (from && from->surplus <= 0) continue;
        if (from) from->surplus--;
        while (to->surplus >= 0)
            to++;
        to->surplus++;
        owners[v] = to->id;
        moved++;
    }
    free(shares);
    return moved;
}
