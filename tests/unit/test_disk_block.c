#include "actors/disk_block.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/*  Three records of 6 bytes: [nil, nil, "7", nil].                                 */
static const uint8_t record[6] = {0x94, 0xc0, 0xc0, 0xa1, '7', 0xc0};
enum { SIZE = WEIR_DISK_HEAD_SIZE + 3 * sizeof record };

static const weir_disk_key the_key = {.shard = 3, .last = 0x0102030405060709};
static const weir_disk_head the_head = {.count = 3,
                                        .first = 0x0102030405060707,
                                        .epoch = 9,
                                        .sequence = 77,
                                        .arrived_ms = 1700000000123,
                                        .body_bytes = 3 * sizeof record};

/*  The head with a checksum that is right, whatever else it says.                  */
static void pack(uint8_t value[SIZE], weir_disk_head head)
{
    weir_disk_sum *sum = weir_disk_sum_new();
    weir_disk_head_begin(&head, sum, value);
    for (size_t i = 0; i < 3; i++) {
        memcpy(value + WEIR_DISK_HEAD_SIZE + i * sizeof record, record, sizeof record);
        weir_disk_head_body(sum, record, sizeof record);
    }
    weir_disk_head_end(sum, value);
    weir_disk_sum_destroy(&sum);
    assert_null(sum);
}

static void assert_refused(weir_disk_key key, const uint8_t *value, size_t size,
                           const char *why)
{
    weir_disk_head head;
    weir_report report = {0};
    assert_int_equal(weir_disk_block_check(&head, key, value, size, &report),
                     WEIR_EMALFORMED);
    if (!strstr(report.text, why)) fail_msg("'%s' lacks '%s'", report.text, why);
    assert_int_equal(weir_disk_block_check(&head, key, value, size, NULL),
                     WEIR_EMALFORMED);
}

static void keys_sort_by_shard_and_offset(void **state)
{
    (void)state;
    static const weir_disk_key order[] = {{0, 1},   {0, 9},   {0, 10},          {0, 255},
                                          {0, 256}, {1, 1},   {7, 300},         {256, 1},
                                          {256, 2}, {~0u, 1}, {~0u, UINT64_MAX}};
    uint8_t before[WEIR_DISK_KEY_SIZE] = {0}, key[WEIR_DISK_KEY_SIZE];
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        weir_disk_key back;
        weir_disk_key_pack(&order[i], key);
        assert_true(memcmp(before, key, sizeof key) < 0);
        memcpy(before, key, sizeof key);
        assert_true(weir_disk_key_read(&back, key, sizeof key));
        assert_int_equal(back.shard, order[i].shard);
        assert_int_equal(back.last, order[i].last);
        assert_false(weir_disk_key_read(&back, key, sizeof key - 1));
        assert_false(weir_disk_key_read(&back, key, sizeof key + 1));
    }
}

static void a_block_has_the_bytes_of_its_drawing(void **state)
{
    (void)state;
    static const uint8_t head[48] = {
        'W', 'B', 'K',  '1',  0,    0,    0,    3,    1, 2, 3, 4, 5, 6, 7, 7,
        0,   0,   0,    0,    0,    0,    0,    9,    0, 0, 0, 0, 0, 0, 0, 77,
        0,   0,   0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0, 0, 0, 0, 0, 0, 0, 18};
    uint8_t value[SIZE];
    pack(value, the_head);
    assert_memory_equal(value, head, sizeof head);
    assert_memory_equal(value + WEIR_DISK_HEAD_SIZE + 12, record, sizeof record);
}

static void a_block_reads_as_it_was_written(void **state)
{
    (void)state;
    uint8_t value[SIZE];
    weir_disk_head back;
    pack(value, the_head);
    assert_int_equal(weir_disk_block_check(&back, the_key, value, SIZE, NULL), WEIR_OK);
    assert_int_equal(back.count, the_head.count);
    assert_int_equal(back.first, the_head.first);
    assert_int_equal(back.epoch, the_head.epoch);
    assert_int_equal(back.sequence, the_head.sequence);
    assert_int_equal(back.arrived_ms, the_head.arrived_ms);
    assert_int_equal(back.body_bytes, the_head.body_bytes);
}

static void any_flipped_bit_is_found(void **state)
{
    (void)state;
    uint8_t value[SIZE];
    weir_disk_head head;
    pack(value, the_head);
    for (size_t bit = 0; bit < 8 * SIZE; bit++) {
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(weir_disk_block_check(&head, the_key, value, SIZE, NULL),
                         WEIR_EMALFORMED);
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(weir_disk_block_check(&head, the_key, value, SIZE, NULL), WEIR_OK);
}

static void any_other_size_is_refused(void **state)
{
    (void)state;
    uint8_t *value = calloc(1, SIZE + 1);
    pack(value, the_head);
    for (size_t size = 0; size < SIZE; size++) {
        uint8_t *cut = malloc(size ? size : 1); // so that a read behind it is seen
        memcpy(cut, value, size);
        assert_refused(the_key, cut, size,
                       size < WEIR_DISK_HEAD_SIZE ? "less than a header" : "header says");
        free(cut);
    }
    assert_refused(the_key, value, SIZE + 1,
                   "header says 18 bytes of records, it has 19");
    free(value);
}

static void a_right_checksum_does_not_excuse_wrong_numbers(void **state)
{
    (void)state;
    uint8_t value[SIZE];
    weir_disk_head head = the_head;
    weir_disk_key key = the_key;
    head.count = 0;
    pack(value, head);
    assert_refused(key, value, SIZE, "without records");
    head.count = 4;
    pack(value, head);
    key.last++;
    assert_refused(key, value, SIZE, "4 records do not fit into 18 bytes");
    head = the_head;
    head.epoch = 0;
    pack(value, head);
    assert_refused(the_key, value, SIZE, "epoch 0");
    head = the_head;
    head.sequence = 0;
    pack(value, head);
    assert_refused(the_key, value, SIZE, "sequence 0");
    head.sequence = UINT64_MAX;
    pack(value, head);
    assert_refused(the_key, value, SIZE, "sequence 18446744073709551615");
    head = the_head;
    head.arrived_ms = -1;
    pack(value, head);
    assert_refused(the_key, value, SIZE, "no time is 18446744073709551615 ms");
}

static void offsets_have_to_be_those_of_the_key(void **state)
{
    (void)state;
    uint8_t value[SIZE];
    pack(value, the_head);
    weir_disk_key key = the_key;
    key.last++;
    assert_refused(key, value, SIZE, "do not end at offset");
    key.last = the_key.last - 1;
    assert_refused(key, value, SIZE, "do not end at offset");
    key.last = 0;
    assert_refused(key, value, SIZE, "do not end at offset 0");
    weir_disk_head head = the_head;
    head.first = 0;
    pack(value, head);
    key.last = 2;
    assert_refused(key, value, SIZE, "from offset 0 on");
    head.first = UINT64_MAX - 1; // 3 records from there on would wrap around
    pack(value, head);
    key.last = 0;
    assert_refused(key, value, SIZE, "do not end");
}

static void gaps_read_as_they_were_written(void **state)
{
    (void)state;
    static const weir_disk_gap gaps[] = {
        {1, false}, {9, true}, {0x0102030405060708, true}};
    uint8_t value[WEIR_DISK_GAP_SIZE];
    weir_disk_gap back;
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++) {
        weir_disk_key key = {.last = gaps[i].first + 5};
        weir_disk_gap_pack(&gaps[i], value);
        assert_true(weir_disk_gap_read(&back, key, value, sizeof value));
        assert_int_equal(back.first, gaps[i].first);
        assert_int_equal(back.damaged, gaps[i].damaged);
        assert_false(weir_disk_gap_read(&back, key, value, sizeof value - 1));
        key.last = gaps[i].first - 1;
        assert_false(weir_disk_gap_read(&back, key, value, sizeof value));
    }
    static const uint8_t of_0[9] = {0}, of_kind_2[9] = {[7] = 1, [8] = 2};
    assert_false(weir_disk_gap_read(&back, the_key, of_0, 9));
    assert_false(weir_disk_gap_read(&back, the_key, of_kind_2, 9));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_sort_by_shard_and_offset),
        cmocka_unit_test(a_block_has_the_bytes_of_its_drawing),
        cmocka_unit_test(a_block_reads_as_it_was_written),
        cmocka_unit_test(any_flipped_bit_is_found),
        cmocka_unit_test(any_other_size_is_refused),
        cmocka_unit_test(a_right_checksum_does_not_excuse_wrong_numbers),
        cmocka_unit_test(gaps_read_as_they_were_written),
        cmocka_unit_test(offsets_have_to_be_those_of_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
