#include "tests/unit/help_ring.h"

static const int policies[] = {WEIR_OVERFLOW_BLOCK, WEIR_OVERFLOW_DROP_NEWEST,
                               WEIR_OVERFLOW_DROP_OLDEST, WEIR_OVERFLOW_SAMPLE,
                               WEIR_OVERFLOW_FAIL};
enum { POLICIES = sizeof policies / sizeof *policies };

/* --- Bounds ------------------------------------------------------------------------ */

static void the_record_above_the_count_finds_it_full(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_NEWEST, 4, 1 << 20);
    weir_entry entries[5] = {{0}};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(weir_ring_is_full(ring), i == 4);
        assert_int_equal(offer(ring, &entries[i], i, 1, 100), WEIR_OK);
    }
    assert_int_equal(look(ring).accepted, 4);
    assert_int_equal(look(ring).full, 1);
    assert_int_equal(entries[4].fates.shed, 1);
    assert_int_equal(entries[4].fates.done, 0);
    assert_string_equal(take_all(ring), "0 1 2 3");
    assert_false(weir_ring_is_full(ring));
    assert_int_equal(entries[3].fates.done, 1);
    weir_ring_destroy(&ring);
    assert_null(ring);
}

static void the_record_above_the_bytes_finds_it_full(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_NEWEST, 1 << 18, 1 << 20);
    weir_entry entry = {0};
    for (uint32_t i = 0; i < 11; i++)
        assert_int_equal(offer(ring, &entry, i, 1, (100 << 10) - 9), WEIR_OK);
    assert_int_equal(look(ring).bytes, 1000 << 10);
    assert_int_equal(look(ring).accepted, 10);
    assert_int_equal(look(ring).full, 1);
    assert_int_equal(offer(ring, &entry, 11, 1, 1000), WEIR_OK); // a smaller one enters
    assert_int_equal(look(ring).accepted, 11);
    weir_ring_destroy(&ring);
}

/*  Payloads above 65535 bytes have 2 bytes more around them.                       */
static void a_record_above_half_of_the_bytes_is_too_large(void **state)
{
    (void)state;
    enum { half = (512 << 10) - AROUND - 2 };
    for (int p = 0; p < POLICIES; p++) {
        weir_ring *ring = new_ring(policies[p], 1 << 18, 1 << 20);
        weir_entry entry = {0};
        assert_int_equal(offer(ring, &entry, 0, 1, half), WEIR_OK);
        assert_int_equal(look(ring).bytes, 512 << 10);
        assert_int_equal(offer(ring, &entry, 1, 1, half + 1), WEIR_ETOOBIG);
        weir_builder builder = {0};
        add_record(&builder, 2, 10, -1);
        add_record(&builder, 3, half + 1, -1);
        add_record(&builder, 4, 10, -1);
        weir_block *block = weir_builder_seal(&builder);
        assert_int_equal(weir_ring_offer(ring, block, &entry, 0), WEIR_ETOOBIG);
        weir_block_destroy(&block);
        weir_builder_fini(&builder);
        weir_ring_stats stats = look(ring);
        assert_int_equal(stats.offered, 5);
        assert_int_equal(stats.accepted, 1);
        assert_int_equal(stats.too_large, 4);
        assert_int_equal(entry.fates.shed, 0);
        weir_ring_destroy(&ring);
    }
}

/* --- Policies ---------------------------------------------------------------------- */

static void block_takes_what_comes(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 3, 1000);
    weir_entry entry = {0};
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(offer(ring, &entry, i * 2, 2, 400), WEIR_OK);
    assert_int_equal(look(ring).accepted, 6);
    assert_int_equal(entry.fates.shed, 0);
    assert_string_equal(take_all(ring), "0 1 2 3 4 5");
    weir_ring_destroy(&ring);
}

static void drop_newest_takes_what_fits(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_NEWEST, 3, 1 << 20);
    weir_entry entry = {0};
    assert_int_equal(offer(ring, &entry, 0, 10, 100), WEIR_OK);
    assert_int_equal(look(ring).accepted, 3);
    assert_int_equal(look(ring).full, 7);
    assert_int_equal(entry.fates.shed, 7);
    assert_string_equal(take_all(ring), "0 1 2");
    assert_int_equal(entry.fates.done, 3);
    weir_ring_destroy(&ring);
}

static void fail_takes_all_or_nothing(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_FAIL, 3, 1 << 20);
    weir_entry entry = {0};
    assert_int_equal(offer(ring, &entry, 0, 10, 100), WEIR_EFULL);
    assert_int_equal(look(ring).offered, 10);
    assert_int_equal(look(ring).accepted, 0);
    assert_int_equal(look(ring).full, 10);
    assert_int_equal(entry.fates.shed, 0);
    assert_int_equal(offer(ring, &entry, 0, 3, 100), WEIR_OK);
    assert_string_equal(take_all(ring), "0 1 2");
    weir_ring_destroy(&ring);
}

/*  Whether they come one by one, in blocks, or in one that is larger than the ring. */
static void drop_oldest_keeps_the_newest(void **state)
{
    (void)state;
    for (uint32_t records = 1; records <= 8; records *= 2) {
        weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_OLDEST, 3, 1 << 20);
        weir_entry entry = {0};
        for (uint32_t i = 0; i < 8; i += records)
            assert_int_equal(offer(ring, &entry, i, records, 100), WEIR_OK);
        weir_ring_stats stats = look(ring);
        assert_int_equal(stats.accepted, 8);
        assert_int_equal(stats.evicted, 5);
        assert_int_equal(stats.count, 3);
        assert_int_equal(entry.fates.shed, 5);
        assert_int_equal(entry.fates.done, 5);
        assert_string_equal(take_all(ring), "5 6 7");
        assert_int_equal(look(ring).bytes, 0);
        weir_ring_destroy(&ring);
    }
}

static void drop_oldest_evicts_no_more_than_needed(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_OLDEST, 100, 10000);
    weir_entry first = {0}, second = {0};
    assert_int_equal(offer(ring, &first, 0, 9, 1000 - AROUND), WEIR_OK);
    assert_int_equal(offer(ring, &second, 9, 1, 4000 - AROUND), WEIR_OK);
    assert_int_equal(first.fates.shed, 3);
    assert_int_equal(first.fates.done, 3);
    assert_int_equal(look(ring).bytes, 10000);
    assert_string_equal(take_all(ring), "3 4 5 6 7 8 9");
    weir_ring_destroy(&ring);
}

static void sample_takes_one_in_n(void **state)
{
    (void)state;
    for (uint32_t records = 1; records <= 1000; records *= 10) {
        weir_ring *ring = new_ring(WEIR_OVERFLOW_SAMPLE, 200, 1 << 20);
        weir_entry before = {0}, entry = {0};
        assert_int_equal(offer(ring, &before, 0, 200, 100), WEIR_OK);
        for (uint32_t i = 0; i < 1000; i += records)
            assert_int_equal(offer(ring, &entry, 1000 + i, records, 100), WEIR_OK);
        weir_ring_stats stats = look(ring);
        assert_int_equal(stats.accepted, 300);
        assert_int_equal(stats.evicted, 100);
        assert_int_equal(stats.sampled, 900);
        assert_int_equal(entry.fates.shed, 900);
        assert_int_equal(before.fates.shed, 100);
        const char *all = take_all(ring);
        assert_memory_equal(all, "100 101 ", 8);
        assert_non_null(strstr(all, " 199 1000 1010 1020 "));
        weir_ring_destroy(&ring);
    }
}

static void sampling_restarts_when_a_record_finds_room(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_SAMPLE, 2, 1 << 20);
    weir_entry entry = {0};
    weir_piece piece;
    offer(ring, &entry, 0, 2, 100);
    offer(ring, &entry, 2, 5, 100); // 2 enters
    assert_true(weir_ring_take(ring, 1, SIZE_MAX, 0, &piece));
    weir_block_destroy(&piece.block);
    offer(ring, &entry, 7, 3, 100); // 7 finds room, 8 is the first again, 9 the second
    assert_int_equal(look(ring).sampled, 4 + 1);
    assert_string_equal(take_all(ring), "7 8");
    weir_ring_destroy(&ring);
}

static void what_never_came_in_counts_as_offered(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 10, 1 << 20);
    weir_ring_reject(ring, WEIR_REJECT_INVALID, 3);
    weir_ring_reject(ring, WEIR_REJECT_CLOSED, 4);
    assert_int_equal(look(ring).offered, 7);
    assert_int_equal(look(ring).invalid, 3);
    assert_int_equal(look(ring).closed, 4);
    weir_ring_destroy(&ring);
}

/* --- Slices and copies ------------------------------------------------------------- */

static void a_whole_block_leaves_as_it_came(void **state)
{
    (void)state;
    for (int p = 0; p < POLICIES; p++) {
        weir_ring *ring = new_ring(policies[p], 100, 1 << 20);
        weir_block *block = new_block(NULL, 0, 10, 100);
        weir_entry entry = {0};
        weir_piece piece;
        weir_ring_offer(ring, block, &entry, 5);
        assert_true(weir_ring_take(ring, 100, 1 << 20, 9, &piece));
        assert_ptr_equal(piece.block, block);
        assert_ptr_equal(piece.entry, &entry);
        assert_int_equal(piece.since_us, 5);
        weir_block_destroy(&piece.block);
        weir_block_destroy(&block);
        weir_ring_destroy(&ring);
    }
}

static void a_piece_keeps_to_the_limits(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 100, 1 << 20);
    weir_entry entry = {0};
    weir_piece piece;
    assert_int_equal(weir_ring_next_size(ring), 0);
    offer(ring, &entry, 0, 10, 1000 - AROUND);
    assert_int_equal(weir_ring_next_size(ring), 1000);
    assert_false(weir_ring_take(ring, 10, 999, 0, &piece));
    assert_false(weir_ring_take(ring, 0, 10000, 0, &piece));
    assert_true(weir_ring_take(ring, 10, 3999, 0, &piece));
    assert_int_equal(weir_block_records(piece.block), 3);
    weir_block_destroy(&piece.block);
    assert_true(weir_ring_take(ring, 2, 10000, 0, &piece));
    assert_int_equal(weir_block_records(piece.block), 2);
    weir_block_destroy(&piece.block);
    assert_int_equal(entry.fates.done, 5);
    assert_int_equal(look(ring).count, 5);
    assert_int_equal(look(ring).bytes, 5000);
    assert_string_equal(take_all(ring), "5 6 7 8 9");
    weir_ring_destroy(&ring);
}

/*  What the ledger counts when this many of 10 records have entered and the block itself
    is gone.                                                                        */
static uint64_t held(int overflow, int64_t entered)
{
    weir_ledger *ledger = weir_ledger_new(1 << 20);
    weir_ring *ring = new_ring(overflow, entered, 1 << 20);
    weir_block *block = new_block(ledger, 0, 10, 1000 - AROUND);
    weir_entry entry = {0};
    weir_ring_offer(ring, block, &entry, 0);
    weir_block_destroy(&block);
    assert_int_equal(look(ring).count, entered);
    uint64_t used = weir_ledger_used(ledger);
    weir_ring_destroy(&ring);
    assert_int_equal(weir_ledger_used(ledger), 0);
    weir_ledger_destroy(&ledger);
    return used;
}

static void a_part_below_half_is_copied(void **state)
{
    (void)state;
    for (int p = 1; p <= 2; p++) { // drop_newest: the head, drop_oldest: the tail
        assert_int_equal(held(policies[p], 4), 4000);
        assert_true(held(policies[p], 5) >= 10000);
    }
}

/* --- Tokens ------------------------------------------------------------------------ */

static void tokens_keep_their_place_and_are_never_evicted(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_OLDEST, 4, 1 << 20);
    weir_entry entry = {0}, token = {0};
    weir_ring_put_token(ring, &token, 0);
    offer(ring, &entry, 0, 2, 100);
    weir_ring_put_token(ring, &token, 0);
    weir_ring_put_token(ring, &token, 0);
    offer(ring, &entry, 2, 2, 100);
    weir_ring_put_token(ring, &token, 0);
    assert_int_equal(look(ring).count, 4);
    offer(ring, &entry, 4, 3, 100);
    assert_int_equal(look(ring).evicted, 3);
    assert_int_equal(weir_ring_next_size(ring), 0); // a token is next
    assert_string_equal(take_all(ring), "T T T 3 T 4 5 6");
    assert_int_equal(token.fates.shed + token.fates.done, 0);
    weir_ring_destroy(&ring);
}

static void what_is_left_in_it_goes_with_it(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 10, 1 << 20);
    weir_entry entry = {0};
    offer(ring, &entry, 0, 2, 100);
    weir_ring_put_token(ring, &entry, 0);
    weir_ring_destroy(&ring);
    assert_int_equal(entry.fates.done + entry.fates.shed, 0);
}

/* --- Parking ----------------------------------------------------------------------- */

/*  Records with these keys; a blank has none: "11 2".                              */
static void offer_keys(weir_ring *ring, weir_entry *entry, uint32_t first,
                       const char *keys)
{
    weir_builder builder = {0};
    for (; *keys; keys++)
        add_record(&builder, first++, 100, *keys == ' ' ? -1 : *keys - '0');
    weir_block *block = weir_builder_seal(&builder);
    assert_int_equal(weir_ring_offer(ring, block, entry, 0), WEIR_OK);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
}

static void park(weir_ring *ring, int key)
{
    uint64_t set[VNODES / 64] = {0};
    add_vnode_of(set, key);
    weir_ring_park(ring, set, VNODES);
}

static void parked_records_are_held_back_and_counted(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_NEWEST, 8, 1 << 20);
    weir_entry entry = {0};
    park(ring, 1);
    park(ring, 2); // adds to the set
    offer_keys(ring, &entry, 0, "13 2");
    offer_keys(ring, &entry, 4, "3333");
    offer_keys(ring, &entry, 8, "13");
    assert_int_equal(look(ring).full, 2);
    assert_int_equal(look(ring).count, 8);
    assert_int_equal(look(ring).parked, 2);
    assert_string_equal(take_all(ring), "1 2 4 5 6 7");
    assert_int_equal(look(ring).count, 2);
    offer_keys(ring, &entry, 10, "31");
    assert_int_equal(weir_ring_release(ring), 3);
    assert_int_equal(look(ring).parked, 0);
    offer_keys(ring, &entry, 12, "1");
    assert_string_equal(take_all(ring), "10 0 3 11 12");
    assert_int_equal(entry.fates.done, 11);
    weir_ring_destroy(&ring);
}

static void a_scattered_record_keeps_its_origin(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 100, 1 << 20);
    weir_entry entry = {0};
    weir_builder builder = {0};
    park(ring, 1);
    for (uint32_t i = 0; i < 6; i++) {
        static const weir_run origins[] = {{.source = "a", .label = "x"},
                                           {.source = "b", .peer = "p"}};
        char key[] = {'k', (char)('1' + i % 2)};
        weir_record record = {.format = WEIR_TEXT,
                              .data = (const uint8_t *)&i,
                              .size = sizeof i,
                              .key = {.type = WEIR_STR,
                                      .format = WEIR_MSGPACK,
                                      .data = (const uint8_t *)key,
                                      .size = sizeof key}};
        weir_builder_add(&builder, &record, &origins[i / 3]);
    }
    weir_block *block = weir_builder_seal(&builder);
    assert_int_equal(weir_ring_offer(ring, block, &entry, 0), WEIR_OK);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
    assert_int_equal(weir_ring_release(ring), 3);
    weir_piece piece;
    for (uint32_t seen = 0; seen < 6;) {
        assert_true(weir_ring_take(ring, 10, SIZE_MAX, 0, &piece));
        weir_iterator walk = {.block = piece.block};
        weir_record record;
        const weir_run *origin;
        for (; weir_iterator_next(&walk, &record, &origin); seen++)
            assert_string_equal(origin->source, number_of(&record) / 3 ? "b" : "a");
        weir_block_destroy(&piece.block);
    }
    weir_ring_destroy(&ring);
}

static void a_token_waits_for_what_is_parked_before_it(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 100, 1 << 20);
    weir_entry entry = {0}, token = {0};
    park(ring, 1);
    offer_keys(ring, &entry, 0, "2");
    weir_ring_put_token(ring, &token, 0); // nothing is parked yet
    offer_keys(ring, &entry, 1, "12");
    weir_ring_put_token(ring, &token, 0);
    offer_keys(ring, &entry, 3, "12");
    assert_string_equal(take_all(ring), "0 T 2 4");
    weir_ring_put_token(ring, &token, 0);
    assert_string_equal(take_all(ring), "");
    assert_int_equal(weir_ring_release(ring), 2);
    assert_string_equal(take_all(ring), "1 T 3 T");
    weir_ring_destroy(&ring);
}

static void parked_records_are_evicted_when_nothing_is_ready(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_DROP_OLDEST, 3, 1 << 20);
    weir_entry parked = {0}, ready = {0}, token = {0};
    park(ring, 1);
    offer_keys(ring, &parked, 0, "11");
    weir_ring_put_token(ring, &token, 0);
    offer_keys(ring, &ready, 2, "2");
    offer_keys(ring, &ready, 3, "2"); // evicts 2, for that is ready
    assert_int_equal(look(ring).parked, 2);
    offer_keys(ring, &parked, 4, "1"); // evicts 3
    offer_keys(ring, &parked, 5, "1"); // evicts 0
    assert_int_equal(parked.fates.shed, 1);
    offer_keys(ring, &ready, 6, "22"); // 6 evicts 1, 7 evicts 6
    assert_int_equal(parked.fates.shed, 2);
    assert_int_equal(ready.fates.shed, 3);
    assert_int_equal(look(ring).parked, 2);
    assert_string_equal(take_all(ring), "T 7"); // the token's last record has gone
    assert_int_equal(weir_ring_release(ring), 2);
    assert_string_equal(take_all(ring), "4 5");
    weir_ring_destroy(&ring);
}

/* --- Figures ----------------------------------------------------------------------- */

static void fill_is_the_larger_share_over_time(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 10, 10000);
    weir_entry entry = {0};
    weir_ring_stats stats;
    weir_piece piece;
    weir_block *five = new_block(NULL, 0, 5, 400 - AROUND);
    weir_block *large = new_block(NULL, 5, 1, 4000 - AROUND);
    weir_ring_offer(ring, five, &entry, 1000); // 5 of 10; 2000 of 10000
    weir_ring_look(ring, 1100, &stats);
    assert_true(stats.fill_us == 50);
    weir_ring_offer(ring, large, &entry, 1200);      // 6 of 10; 6000 of 10000
    weir_ring_take(ring, 5, SIZE_MAX, 1300, &piece); // 1 of 10; 4000 of 10000
    weir_block_destroy(&piece.block);
    weir_ring_take(ring, 5, SIZE_MAX, 1500, &piece);
    weir_block_destroy(&piece.block);
    weir_ring_look(ring, 2000, &stats);
    assert_true(stats.fill_us > 239.999 && stats.fill_us < 240.001);
    weir_block_destroy(&five);
    weir_block_destroy(&large);
    weir_ring_destroy(&ring);
}

static void time_in_the_ring_is_that_of_each_record_taken(void **state)
{
    (void)state;
    weir_ring *ring = new_ring(WEIR_OVERFLOW_BLOCK, 100, 1 << 20);
    weir_entry entry = {0};
    weir_ring_stats before, stats;
    weir_piece piece;
    weir_block *nineteen = new_block(NULL, 0, 19, 100),
               *one = new_block(NULL, 19, 1, 100);
    weir_ring_offer(ring, nineteen, &entry, 1000);
    weir_ring_offer(ring, one, &entry, 1000);
    weir_ring_look(ring, 1001, &before);
    weir_ring_take(ring, 100, SIZE_MAX, 1007, &piece);
    weir_block_destroy(&piece.block);
    weir_ring_take(ring, 100, SIZE_MAX, 11000, &piece);
    weir_block_destroy(&piece.block);
    weir_ring_look(ring, 11000, &stats);
    assert_int_equal(weir_histogram_percentile(&stats.waited, &before.waited, 0.95), 7);
    assert_in_range(weir_histogram_percentile(&stats.waited, NULL, 0.96), 10000, 11250);
    weir_block_destroy(&nineteen);
    weir_block_destroy(&one);
    weir_ring_destroy(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_record_above_the_count_finds_it_full),
        cmocka_unit_test(the_record_above_the_bytes_finds_it_full),
        cmocka_unit_test(a_record_above_half_of_the_bytes_is_too_large),
        cmocka_unit_test(block_takes_what_comes),
        cmocka_unit_test(drop_newest_takes_what_fits),
        cmocka_unit_test(fail_takes_all_or_nothing),
        cmocka_unit_test(drop_oldest_keeps_the_newest),
        cmocka_unit_test(drop_oldest_evicts_no_more_than_needed),
        cmocka_unit_test(sample_takes_one_in_n),
        cmocka_unit_test(sampling_restarts_when_a_record_finds_room),
        cmocka_unit_test(what_never_came_in_counts_as_offered),
        cmocka_unit_test(a_whole_block_leaves_as_it_came),
        cmocka_unit_test(a_piece_keeps_to_the_limits),
        cmocka_unit_test(a_part_below_half_is_copied),
        cmocka_unit_test(tokens_keep_their_place_and_are_never_evicted),
        cmocka_unit_test(what_is_left_in_it_goes_with_it),
        cmocka_unit_test(parked_records_are_held_back_and_counted),
        cmocka_unit_test(a_scattered_record_keeps_its_origin),
        cmocka_unit_test(a_token_waits_for_what_is_parked_before_it),
        cmocka_unit_test(parked_records_are_evicted_when_nothing_is_ready),
        cmocka_unit_test(fill_is_the_larger_share_over_time),
        cmocka_unit_test(time_in_the_ring_is_that_of_each_record_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
