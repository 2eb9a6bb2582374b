#include "runtime/histogram.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void a_bucket_is_at_most_an_eighth_above_its_values(void **state)
{
    (void)state;
    for (int64_t value = 0; value < (int64_t)1 << 42; value += 1 + value / 61) {
        weir_histogram one = {{0}};
        weir_histogram_add(&one, value, 1);
        int64_t bound = weir_histogram_percentile(&one, NULL, 1);
        assert_in_range(bound, value, value + value / 8);
    }
}

static void buckets_follow_each_other_without_a_gap(void **state)
{
    (void)state;
    int64_t last = -1;
    for (int i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        weir_histogram at = {{0}}, behind = {{0}};
        at.counts[i] = 1;
        int64_t bound = weir_histogram_percentile(&at, NULL, 1);
        assert_true(bound > last);
        weir_histogram_add(&behind, last + 1, 1); // the first value of the bucket
        assert_int_equal(behind.counts[i], 1);
        last = bound;
    }
    assert_int_equal(last, ((int64_t)1 << 42) - 1);
}

static void what_is_out_of_range_lands_at_the_ends(void **state)
{
    (void)state;
    weir_histogram self = {{0}};
    weir_histogram_add(&self, -5, 2);
    weir_histogram_add(&self, INT64_MIN, 1);
    weir_histogram_add(&self, (int64_t)1 << 42, 1);
    weir_histogram_add(&self, INT64_MAX, 1);
    assert_int_equal(self.counts[0], 3);
    assert_int_equal(self.counts[WEIR_HISTOGRAM_BUCKETS - 1], 2);
}

static void a_percentile_is_the_value_of_that_rank(void **state)
{
    (void)state;
    weir_histogram self = {{0}};
    assert_int_equal(weir_histogram_percentile(&self, NULL, 0.95), 0);
    weir_histogram_add(&self, 3, 94);
    weir_histogram_add(&self, 5, 1);
    weir_histogram_add(&self, 7, 5);
    assert_int_equal(weir_histogram_percentile(&self, NULL, 0), 3);
    assert_int_equal(weir_histogram_percentile(&self, NULL, 0.5), 3);
    assert_int_equal(weir_histogram_percentile(&self, NULL, 0.94), 3);
    assert_int_equal(weir_histogram_percentile(&self, NULL, 0.95), 5);
    assert_int_equal(weir_histogram_percentile(&self, NULL, 0.96), 7);
    assert_int_equal(weir_histogram_percentile(&self, NULL, 1), 7);
}

static void an_observer_sees_what_came_since_its_copy(void **state)
{
    (void)state;
    weir_histogram self = {{0}};
    weir_histogram_add(&self, 7, 1000);
    weir_histogram earlier = self;
    assert_int_equal(weir_histogram_percentile(&self, &earlier, 0.95), 0);
    weir_histogram_add(&self, 2, 3);
    assert_int_equal(weir_histogram_percentile(&self, &earlier, 0.95), 2);
    assert_int_equal(weir_histogram_percentile(&self, NULL, 0.95), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_is_at_most_an_eighth_above_its_values),
        cmocka_unit_test(buckets_follow_each_other_without_a_gap),
        cmocka_unit_test(what_is_out_of_range_lands_at_the_ends),
        cmocka_unit_test(a_percentile_is_the_value_of_that_rank),
        cmocka_unit_test(an_observer_sees_what_came_since_its_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
