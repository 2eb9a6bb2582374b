/*  Sums of what shards have done. At any instant of each of them, and so in any sum:
    offered = accepted + rejected, accepted = safe + evicted + dead + resident.     */
#include "actors/shard.h"

uint64_t weir_shard_resident(const weir_shard_stats *self)
{
    return self->ring.count + self->open + self->under_way;
}

uint64_t weir_shard_rejected(const weir_shard_stats *self)
{
    const weir_ring_stats *r = &self->ring;
    return r->full + r->sampled + r->too_large + r->invalid + r->closed;
}

static void add_ring(weir_ring_stats *self, const weir_ring_stats *more)
{
    self->offered += more->offered;
    self->accepted += more->accepted;
    self->full += more->full;
    self->sampled += more->sampled;
    self->too_large += more->too_large;
    self->invalid += more->invalid;
    self->closed += more->closed;
    self->evicted += more->evicted;
    self->count += more->count;
    self->bytes += more->bytes;
    self->parked += more->parked;
    self->fill_us += more->fill_us;
    weir_histogram_merge(&self->waited, &more->waited);
}

void weir_shard_stats_add(weir_shard_stats *self, const weir_shard_stats *more)
{
    add_ring(&self->ring, &more->ring);
    self->safe += more->safe;
    self->dead += more->dead;
    self->open += more->open;
    self->under_way += more->under_way;
    self->recalled += more->recalled;
    self->batches += more->batches;
    self->dispatch.retries += more->dispatch.retries;
    if (more->oldest_us && (!self->oldest_us || more->oldest_us < self->oldest_us))
        self->oldest_us = more->oldest_us;
}
