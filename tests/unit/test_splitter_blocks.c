/*  What open blocks are made of, and how large blocks may be.                         */
#include "runtime/splitter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* --- Set-up ------------------------------------------------------------------------ */

#define PARTS 4
#define VNODES 16

/*  What each part has received.                                                    */
static struct {
    uint32_t records, blocks, largest;
    char labels[256]; // of the runs, in order
} got[PARTS];

static weir_book book;
static weir_lane lane;
static uint32_t owners[VNODES];
static weir_splitter *splitter;

static void note_sealed(void *arg, uint32_t part, weir_block **block_p,
                        const weir_share *shares, size_t count)
{
    (void)arg;
    size_t runs, labels = strlen(got[part].labels);
    const weir_run *run = weir_block_runs(*block_p, &runs);
    for (size_t i = 0; i < runs; i++)
        labels += (size_t)snprintf(got[part].labels + labels, 256 - labels, "%s;",
                                   run[i].label ? run[i].label : "");
    uint32_t records = weir_block_records(*block_p);
    got[part].records += records;
    got[part].blocks++;
    if (records > got[part].largest) got[part].largest = records;
    for (size_t i = 0; i < count; i++)
        weir_book_release(&book, shares[i].entry);
}

static void open_splitter(weir_splitter_config config)
{
    memset(got, 0, sizeof got);
    config.sealed = note_sealed;
    config.linger_us = 1000;
    if (!config.target) config.target = 1 << 16;
    if (!config.block_max) config.block_max = 1 << 16;
    splitter = weir_splitter_new(&config);
    weir_splitter_resize(splitter, PARTS);
    for (uint32_t i = 0; i < VNODES; i++)
        owners[i] = i % PARTS;
}

static int close_splitter(void **state)
{
    (void)state;
    weir_splitter_destroy(&splitter);
    weir_lane_fini(&lane, &book);
    return 0;
}

/*  Records with keys first, first + 1, ..; negative: without one.                  */
static weir_block *make_block(int first, int count, const char *label)
{
    weir_builder builder = {.target = 1 << 16};
    weir_run origin = {.source = "in", .label = label};
    for (int i = 0; i < count; i++) {
        weir_record record = {
            .format = WEIR_JSON, .data = (const uint8_t *)"{}", .size = 2};
        if (first >= 0) record.key = (weir_value){.type = WEIR_INT, .integer = first + i};
        weir_builder_add(&builder, &record, &origin);
    }
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

/*  Deals a block that is gone afterwards, and the label with it.                   */
static void deal(int first, int count, const char *label)
{
    char *own = strdup(label);
    weir_block *block = make_block(first, count, own);
    free(own);
    weir_entry *entry = weir_book_open(&book, &lane, 1, (uint32_t)count);
    weir_splitter_put(splitter, block, entry, owners, VNODES, 0, 0, NULL);
    weir_block_destroy(&block);
}

static uint32_t received(void)
{
    uint32_t sum = 0;
    for (int i = 0; i < PARTS; i++)
        sum += got[i].records;
    return sum;
}

/* --- Tests ------------------------------------------------------------------------- */

static void an_open_block_outlives_the_blocks_that_it_is_made_of(void **state)
{
    (void)state;
    open_splitter((weir_splitter_config){0});
    deal(3, 1, "the first");
    deal(3, 1, "the second");
    deal(3, 1, "the second");
    weir_splitter_seal_all(splitter);
    assert_int_equal(received(), 3);
    for (int i = 0; i < PARTS; i++)
        if (got[i].records) assert_string_equal(got[i].labels, "the first;the second;");
}

static bool is_whole(int first, int count)
{
    weir_block *block = make_block(first, count, NULL);
    bool whole = weir_splitter_is_whole(splitter, block);
    weir_block_destroy(&block);
    return whole;
}

static void only_blocks_without_keys_and_within_bounds_go_as_they_are(void **state)
{
    (void)state;
    open_splitter((weir_splitter_config){.records_max = 10, .block_max = 60});
    assert_true(is_whole(-1, 8));
    assert_false(is_whole(-1, 11)); // records
    assert_false(is_whole(-1, 9));  // bytes
    assert_true(is_whole(-1, 1));
    assert_false(is_whole(1, 1));
}

static void no_block_has_more_records_than_one_may(void **state)
{
    (void)state;
    open_splitter((weir_splitter_config){.records_max = 10});
    deal(-1, 35, "a");
    weir_splitter_seal_all(splitter);
    assert_int_equal(got[0].records, 35);
    assert_int_equal(got[0].largest, 10);
    assert_int_equal(got[0].blocks, 4);
}

/*  So that who refuses it refuses nothing else. The key makes it larger.           */
static void a_record_larger_than_a_block_may_be_comes_alone(void **state)
{
    (void)state;
    char text[120];
    open_splitter((weir_splitter_config){.key = "k", .target = 200, .block_max = 200});
    memset(text, 'x', sizeof text);
    memcpy(text, "{\"k\":\"", 6);
    memcpy(text + sizeof text - 2, "\"}", 2);
    memset(owners, 0, sizeof owners);
    weir_builder builder = {.target = 1 << 16};
    weir_record small = {.format = WEIR_JSON, .data = (const uint8_t *)"{}", .size = 2};
    weir_record large = {
        .format = WEIR_JSON, .data = (const uint8_t *)text, .size = sizeof text};
    for (int i = 0; i < 3; i++)
        weir_builder_add(&builder, i == 1 ? &large : &small, NULL);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    assert_true(weir_block_size(block) < 200);
    weir_entry *entry = weir_book_open(&book, &lane, 1, 3);
    weir_splitter_put(splitter, block, entry, owners, VNODES, 0, 0, NULL);
    weir_block_destroy(&block);
    weir_splitter_seal_all(splitter);
    assert_int_equal(got[0].records, 3);
    assert_int_equal(got[0].blocks, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_open_block_outlives_the_blocks_that_it_is_made_of,
                                  close_splitter),
        cmocka_unit_test_teardown(
            only_blocks_without_keys_and_within_bounds_go_as_they_are, close_splitter),
        cmocka_unit_test_teardown(no_block_has_more_records_than_one_may, close_splitter),
        cmocka_unit_test_teardown(a_record_larger_than_a_block_may_be_comes_alone,
                                  close_splitter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
