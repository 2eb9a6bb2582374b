/*  histogram: counts of values in buckets whose width grows with the value, 8 to each
    power of two, so that a percentile is exact to 12.5 %. It only grows: who observes
    it subtracts an earlier copy. Zeroed it is empty; copied by assignment.         */
#pragma once
#include <stdint.h>

#define WEIR_HISTOGRAM_BUCKETS 320 // up to 2^42; above it the last one

typedef struct {
    uint64_t counts[WEIR_HISTOGRAM_BUCKETS];
} weir_histogram;

/*  n values; negative ones count as 0.                                             */
void weir_histogram_add(weir_histogram *self, int64_t value, uint64_t n);

/*  Adds all that another one has.                                                  */
void weir_histogram_merge(weir_histogram *self, const weir_histogram *other);

/*  The value below or at which this share (0 to 1) of what came since the earlier copy
    lies (its bucket's upper bound); earlier NULL: since the beginning. 0 for none.  */
int64_t weir_histogram_percentile(const weir_histogram *self,
                                  const weir_histogram *earlier, double share);
