#include "runtime/histogram.h"

/*  Below 8 each value has a bucket of its own. From there on its three bits behind the
    leading one choose among the 8 of its power of two.                        */
#define BITS 3

static unsigned bucket_of(int64_t value)
{
    if (value < 1 << BITS) return value < 0 ? 0 : (unsigned)value;
    unsigned shift = 63 - BITS - (unsigned)__builtin_clzll((uint64_t)value);
    unsigned bucket = (shift << BITS) + (unsigned)(value >> shift);
    return bucket < WEIR_HISTOGRAM_BUCKETS ? bucket : WEIR_HISTOGRAM_BUCKETS - 1;
}

static int64_t upper_bound(unsigned bucket)
{
    if (bucket < 1 << BITS) return bucket;
    unsigned shift = (bucket >> BITS) - 1;
    return ((int64_t)(bucket - (shift << BITS) + 1) << shift) - 1;
}

void weir_histogram_add(weir_histogram *self, int64_t value, uint64_t n)
{
    self->counts[bucket_of(value)] += n;
}

static uint64_t since(const weir_histogram *self, const weir_histogram *earlier,
                      unsigned bucket)
{
    return self->counts[bucket] - (earlier ? earlier->counts[bucket] : 0);
}

int64_t weir_histogram_percentile(const weir_histogram *self,
                                  const weir_histogram *earlier, double share)
{
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++)
        total += since(self, earlier, i);
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        seen += since(self, earlier, i);
        if (seen > 0 && (double)seen >= share * (double)total) return upper_bound(i);
    }
    return 0;
}

void weir_histogram_merge(weir_histogram *self, const weir_histogram *other)
{
    for (int i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++)
        self->counts[i] += other->counts[i];
}
