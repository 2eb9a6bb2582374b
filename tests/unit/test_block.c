#include "runtime/frame.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void add_text(weir_builder *builder, const char *text, const weir_run *origin)
{
    weir_builder_add_payload(builder, WEIR_JSON, (const uint8_t *)text, strlen(text),
                             origin);
}

static void builders_seal_and_go_on(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1 << 20);
    weir_builder builder = {.ledger = ledger, .target = 256};
    assert_null(weir_builder_seal(&builder));
    assert_int_equal(weir_ledger_used(ledger), 0);
    weir_block *blocks[3];
    for (int i = 0; i < 3; i++) {
        while (!weir_builder_full(&builder))
            add_text(&builder, "{\"a\":1}", NULL);
        uint32_t records = builder.records;
        blocks[i] = weir_builder_seal(&builder);
        assert_int_equal(weir_block_records(blocks[i]), records);
        assert_in_range(weir_block_size(blocks[i]), 256, 256 + 16);
        assert_int_equal(weir_block_check(blocks[i]), WEIR_OK);
    }
    assert_true(weir_ledger_used(ledger) >= 3 * 256);
    weir_builder_fini(&builder);
    for (int i = 0; i < 3; i++)
        weir_block_destroy(&blocks[i]);
    assert_int_equal(weir_ledger_used(ledger), 0);
    assert_int_equal(weir_ledger_release_errors(ledger), 0);
    weir_ledger_destroy(&ledger);
}

static void a_record_above_the_target_is_a_block_of_its_own(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1 << 20);
    weir_builder builder = {.ledger = ledger, .target = 256};
    uint8_t *large = malloc(100000);
    memset(large, 'x', 100000);
    assert_int_equal(weir_builder_open(&builder), WEIR_OK);
    weir_builder_add_payload(&builder, WEIR_TEXT, large, 100000, NULL);
    free(large);
    assert_true(weir_ledger_used(ledger) >= 100000);
    weir_block *block = weir_builder_seal(&builder);
    assert_int_equal(weir_block_records(block), 1);
    assert_int_equal(weir_block_check(block), WEIR_OK);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
    assert_int_equal(weir_ledger_used(ledger), 0);
    weir_ledger_destroy(&ledger);
}

static void intake_is_refused_when_the_ledger_is_full(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(6000);
    weir_builder first = {.ledger = ledger, .target = 256}, second = first;
    assert_int_equal(weir_builder_open(&first), WEIR_OK);
    assert_int_equal(weir_builder_open(&first), WEIR_OK);
    uint64_t used = weir_ledger_used(ledger);
    assert_int_equal(weir_builder_open(&second), WEIR_EFULL);
    assert_int_equal(weir_ledger_used(ledger), used);
    add_text(&second, "{}", NULL); // a drain is not
    assert_true(weir_ledger_used(ledger) > used);
    weir_builder_fini(&first);
    weir_builder_fini(&second);
    assert_int_equal(weir_ledger_used(ledger), 0);
    weir_ledger_destroy(&ledger);
}

static void a_small_block_keeps_little(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1 << 20);
    weir_builder builder = {.ledger = ledger, .target = 65536};
    assert_int_equal(weir_builder_open(&builder), WEIR_OK);
    add_text(&builder, "{\"a\":1}", NULL);
    weir_block *block = weir_builder_seal(&builder);
    assert_in_range(weir_ledger_used(ledger), 1, 256);
    assert_int_equal(weir_block_check(block), WEIR_OK);
    weir_block_destroy(&block);
    assert_int_equal(weir_ledger_used(ledger), 0);
    weir_builder_fini(&builder);
    weir_ledger_destroy(&ledger);
}

static void a_block_may_outlive_its_ledgers_owner(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1 << 20);
    weir_builder builder = {.ledger = ledger, .target = 256};
    add_text(&builder, "{}", NULL);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_ledger_destroy(&ledger);
    weir_block_destroy(&block);
}

static void runs_join_equal_origins_and_own_their_texts(void **state)
{
    (void)state;
    weir_builder builder = {.target = 4096};
    char label[16] = "a@1";
    weir_run a = {.source = "in", .label = label}, b = {.source = "in", .peer = "p"};
    add_text(&builder, "1", &a);
    add_text(&builder, "2", &a);
    add_text(&builder, "3", &b);
    add_text(&builder, "4", NULL);
    add_text(&builder, "5", NULL);
    add_text(&builder, "6", &a);
    weir_block *block = weir_builder_seal(&builder);
    strcpy(label, "gone");
    weir_builder_fini(&builder);
    size_t count;
    const weir_run *runs = weir_block_runs(block, &count);
    assert_int_equal(count, 4);
    static const uint32_t records[] = {2, 1, 2, 1};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(runs[i].records, records[i]);
    assert_string_equal(runs[0].label, "a@1");
    assert_string_equal(runs[1].peer, "p");
    assert_null(runs[2].source);
    static const size_t run_of[] = {0, 0, 1, 2, 2, 3};
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    for (size_t i = 0; i < 6; i++) {
        assert_true(weir_iterator_next(&walk, &record, &origin));
        assert_int_equal(record.data[0], '1' + i);
        assert_ptr_equal(origin, &runs[run_of[i]]);
    }
    assert_false(weir_iterator_next(&walk, &record, &origin));
    weir_block_destroy(&block);
}

static void records_are_copied_whole(void **state)
{
    (void)state;
    weir_builder builder = {.target = 4096};
    weir_record record = {.has_ts = true,
                          .ts_ms = -5,
                          .format = WEIR_TEXT,
                          .data = (const uint8_t *)"a\0b",
                          .size = 3,
                          .key = {.type = WEIR_STR,
                                  .format = WEIR_MSGPACK,
                                  .data = (const uint8_t *)"k",
                                  .size = 1}};
    weir_builder_add(&builder, &record, NULL);
    weir_block *first = weir_builder_seal(&builder);
    weir_iterator walk = {.block = first};
    weir_record seen;
    assert_true(weir_iterator_next(&walk, &seen, NULL));
    weir_builder_add(&builder, &seen, NULL); // now by its encoding
    weir_block *second = weir_builder_seal(&builder);
    assert_int_equal(weir_block_size(first), weir_block_size(second));
    assert_memory_equal(weir_block_body(first), weir_block_body(second),
                        weir_block_size(first));
    assert_int_equal(seen.ts_ms, -5);
    assert_int_equal(seen.size, 3);
    assert_memory_equal(seen.key.data, "k", 1);
    weir_block_destroy(&first);
    weir_block_destroy(&second);
    weir_builder_fini(&builder);
}

static int freed;

static void note_free(void *hint)
{
    freed += *(int *)hint;
}

static void *drop_many(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        weir_block *block = weir_block_dup(arg);
        weir_block_destroy(&block);
    }
    weir_block *own = arg;
    weir_block_destroy(&own);
    return NULL;
}

static void the_last_reference_frees_the_body(void **state)
{
    (void)state;
    static const uint8_t body[] = {0x94, 0xc0, 0xc0, 0xa1, 'x', 0xc0};
    int one = 1;
    weir_run run = {.records = 1};
    weir_block *block = weir_block_wrap(body, sizeof body, 1, &run, 1, note_free, &one);
    assert_int_equal(weir_block_check(block), WEIR_OK);
    pthread_t threads[4];
    freed = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, drop_many, weir_block_dup(block));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(freed, 0);
    weir_block_destroy(&block);
    assert_int_equal(freed, 1);
    weir_block_destroy(&block); // NULL is accepted
}

static void a_block_without_runs_has_an_unknown_origin(void **state)
{
    (void)state;
    static const uint8_t body[] = {0x94, 0xc0, 0xc0, 0xa1, 'x', 0xc0,
                                   0x94, 0xc0, 0xc0, 0xa1, 'y', 0xc0};
    weir_block *block = weir_block_wrap(body, sizeof body, 2, NULL, 0, NULL, NULL);
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    for (int i = 0; i < 2; i++) {
        assert_true(weir_iterator_next(&walk, &record, &origin));
        assert_int_equal(record.data[0], 'x' + i);
        assert_true(!origin->source && !origin->peer && !origin->label);
    }
    assert_false(weir_iterator_next(&walk, &record, &origin));
    weir_block_destroy(&block);
}

/*  What check accepts, the iterator walks: the same number of records, to the end. */
static void check_accepts_what_can_be_walked_and_nothing_else(void **state)
{
    (void)state;
    weir_builder builder = {.target = 4096};
    for (int i = 0; i < 5; i++)
        add_text(&builder, "{\"a\":[1,2,\"x\"]}", NULL);
    weir_record record = {
        .format = WEIR_MSGPACK, .data = (const uint8_t *)"\x81\xa1k\x01", .size = 4};
    weir_builder_add(&builder, &record, NULL);
    weir_block *good = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    size_t size = weir_block_size(good);
    uint8_t *body = malloc(size + 1);
    memcpy(body, weir_block_body(good), size);
    body[size] = 0xc0;
    size_t accepted = 0;
    weir_run run = {.records = 6};
    for (size_t at = 0; at < size; at++)
        for (int bit = 0; bit < 8; bit++) {
            uint8_t *copy = malloc(size);
            memcpy(copy, body, size);
            copy[at] ^= (uint8_t)(1 << bit);
            weir_block *block = weir_block_wrap(copy, size, 6, &run, 1, free, copy);
            if (weir_block_check(block) == WEIR_OK) {
                weir_iterator walk = {.block = block};
                weir_record seen;
                int records = 0;
                while (weir_iterator_next(&walk, &seen, NULL))
                    records++;
                assert_int_equal(records, 6);
                accepted++;
            }
            weir_block_destroy(&block);
        }
    assert_true(accepted > 0 && accepted < size * 8);
    static const struct {
        int bytes;
        uint32_t records;
    } wrong[] = {{-1, 6}, {1, 6}, {0, 5}, {0, 7}, {1, 7}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        run.records = wrong[i].records;
        weir_block *block = weir_block_wrap(body, size + (size_t)wrong[i].bytes,
                                            wrong[i].records, &run, 1, NULL, NULL);
        assert_int_not_equal(weir_block_check(block), WEIR_OK);
        weir_block_destroy(&block);
    }
    free(body);
    weir_block_destroy(&good);
}

static void dealing_keeps_keys_together_and_in_order(void **state)
{
    (void)state;
    enum { parts = 4, records = 2000 };
    weir_builder builder = {.target = 1 << 20};
    char text[64];
    for (int i = 0; i < records; i++) {
        if (i % 10 == 9)
            snprintf(text, sizeof text, "{\"n\":%d}", i); // keyless
        else
            snprintf(text, sizeof text, "{\"n\":%d,\"k\":\"key%d\"}", i, i % 37);
        add_text(&builder, text, NULL);
    }
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_path key = {0};
    size_t at;
    assert_int_equal(weir_path_parse(&key, "k", &at), WEIR_OK);
    weir_doc doc = {0};
    weir_selection dealt[parts] = {{0}};
    weir_block_deal(block, &key, &doc, 256, dealt, parts, 2);
    int part_of[37], seen = 0, keyless = 0;
    memset(part_of, -1, sizeof part_of);
    for (int p = 0; p < parts; p++) {
        int last = -1;
        for (uint32_t i = 0; i < dealt[p].count; i++, seen++) {
            weir_record record;
            const weir_run *origin;
            weir_selection_get(&dealt[p], i, &record, &origin);
            int n = atoi((const char *)record.data + 5);
            assert_true(n > last); // in input order
            last = n;
            if (n % 10 == 9) {
                assert_int_equal(p, 2);
                keyless++;
                continue;
            }
            if (part_of[n % 37] < 0) part_of[n % 37] = p;
            assert_int_equal(part_of[n % 37], p);
        }
    }
    assert_int_equal(seen, records);
    assert_int_equal(keyless, records / 10);
    weir_block *shared = block;
    weir_block_destroy(&shared); // the selections hold it
    for (int p = 0; p < parts; p++)
        weir_selection_fini(&dealt[p]);
    weir_doc_fini(&doc);
    weir_path_fini(&key);
}

static void without_a_key_all_goes_to_one_part(void **state)
{
    (void)state;
    weir_builder builder = {.target = 4096};
    for (int i = 0; i < 10; i++)
        add_text(&builder, "{\"k\":\"a\"}", NULL);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_selection dealt[3] = {{0}};
    weir_doc doc = {0};
    weir_block_deal(block, NULL, &doc, 256, dealt, 3, 1);
    assert_int_equal(dealt[1].count, 10);
    assert_null(dealt[0].block);
    assert_null(dealt[2].block);
    assert_int_equal(doc.parses, 0);
    for (int p = 0; p < 3; p++)
        weir_selection_fini(&dealt[p]);
    weir_block_destroy(&block);
    weir_doc_fini(&doc);
}

/* --- What travels ------------------------------------------------------------------ */

/*  A link takes the block: frame 0 is read as it was written.                 */
static void assert_travels(weir_block *block)
{
    weir_buffer out = {0}, scratch = {0};
    weir_frame frame = {
        .type = WEIR_BLOCK, .sequence = UINT64_MAX, .records = weir_block_records(block)};
    frame.runs = weir_block_runs(block, &frame.run_count);
    weir_frame_put(&frame, &out);
    assert_int_equal(weir_frame_read(&frame, out.data, out.size, &scratch), WEIR_OK);
    weir_buffer_fini(&out);
    weir_buffer_fini(&scratch);
}

static void a_builder_is_full_before_its_runs_are_too_many(void **state)
{
    (void)state;
    static const weir_run origins[] = {{.source = "in", .peer = "alice", .label = "a"},
                                       {.source = "in", .peer = "bob", .label = "b"}};
    weir_builder builder = {.target = 1 << 20};
    uint32_t records = 0;
    for (; !weir_builder_full(&builder); records++)
        add_text(&builder, "{}", &origins[records % 2]);
    assert_int_equal(records, WEIR_RUNS_MAX);
    weir_block *block = weir_builder_seal(&builder);
    size_t count;
    const weir_run *runs = weir_block_runs(block, &count);
    assert_int_equal(count, records);
    assert_string_equal(runs[count - 1].peer, "bob");
    assert_travels(block);
    weir_block_destroy(&block);
    assert_false(weir_builder_full(&builder));
    weir_builder_fini(&builder);
}

static void a_builder_is_full_before_the_texts_of_its_runs_are_too_long(void **state)
{
    (void)state;
    char labels[2][300] = {{0}};
    memset(labels[0], 'x', 299);
    memset(labels[1], 'y', 299);
    weir_builder builder = {.target = 1 << 20};
    uint32_t records = 0;
    for (; !weir_builder_full(&builder); records++)
        add_text(&builder, "{}",
                 &(weir_run){.source = "in", .label = labels[records % 2]});
    assert_in_range(records, 100, WEIR_RUNS_MAX - 1);
    weir_block *block = weir_builder_seal(&builder);
    assert_travels(block);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
}

static void an_origin_beyond_the_bound_is_nobodys(void **state)
{
    (void)state;
    static const weir_run origins[] = {{.source = "in", .peer = "alice"},
                                       {.source = "in", .peer = "bob"}};
    weir_builder builder = {.target = 1 << 20};
    for (int i = 0; i < 1001; i++)
        add_text(&builder, "{}", &origins[i % 2]);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    size_t count;
    const weir_run *runs = weir_block_runs(block, &count);
    assert_int_equal(count, WEIR_RUNS_MAX);
    assert_string_equal(runs[0].peer, "alice");
    assert_null(runs[count - 1].peer);
    assert_int_equal(runs[count - 1].records, 1001 - 255);
    assert_travels(block);
    weir_block_destroy(&block);
}

static void a_text_that_is_no_utf8_is_made_one(void **state)
{
    (void)state;
    char label[2000];
    memset(label, 'y', sizeof label);
    memcpy(label, "caf\xe9.log", 8);
    label[sizeof label - 1] = 0;
    weir_builder builder = {.target = 4096};
    add_text(&builder, "{}", &(weir_run){.source = "k\xc3\xa4se", .label = label});
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    size_t count;
    const weir_run *runs = weir_block_runs(block, &count);
    assert_string_equal(runs[0].source, "k\xc3\xa4se");
    assert_memory_equal(runs[0].label, "caf?.log", 8);
    assert_int_equal(strlen(runs[0].label), WEIR_RUN_TEXT_MAX);
    assert_travels(block);
    weir_block_destroy(&block);
}

static void a_stamp_never_makes_the_runs_too_long(void **state)
{
    (void)state;
    static char labels[WEIR_RUNS_MAX][201];
    weir_run runs[WEIR_RUNS_MAX] = {{0}};
    char name[64];
    memset(name, 'n', 63);
    name[63] = 0;
    for (int i = 0; i < WEIR_RUNS_MAX; i++) {
        memset(labels[i], 'x', 200);
        runs[i] = (weir_run){.records = 1, .label = labels[i]};
    }
    weir_block *foreign = weir_block_wrap((const uint8_t *)"", 0, WEIR_RUNS_MAX, runs,
                                          WEIR_RUNS_MAX, NULL, NULL);
    assert_travels(foreign);
    weir_block *stamped = weir_block_stamp(foreign, name, name);
    assert_travels(stamped);
    size_t count;
    const weir_run *after = weir_block_runs(stamped, &count);
    assert_int_equal(after[0].records, WEIR_RUNS_MAX);
    assert_string_equal(after[0].peer, name);
    weir_block_destroy(&stamped);
    weir_block_destroy(&foreign);
}

/* --- Slices and copies ------------------------------------------------------------- */

enum { CUT_RECORDS = 300, CUT_RUN = 7 };

/*  The n-th record is n in two bytes and n % 37 bytes more; its label is @(n / 7). */
static weir_block *labelled_block(weir_ledger *ledger)
{
    char labels[CUT_RECORDS / CUT_RUN + 1][16];
    weir_builder builder = {.target = 1 << 20, .ledger = ledger};
    for (int i = 0; i < CUT_RECORDS; i++) {
        uint8_t data[2 + 37] = {(uint8_t)(i >> 8), (uint8_t)i};
        char *label = labels[i / CUT_RUN];
        snprintf(label, sizeof labels[0], "@%d", i / CUT_RUN);
        weir_builder_add_payload(&builder, WEIR_TEXT, data, 2 + (size_t)i % 37,
                                 &(weir_run){.source = "in", .label = label});
    }
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

/*  The block holds these records and no more, each with its label. Gives the next one. */
static int assert_records(weir_block *block, int first)
{
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    uint32_t in_runs = 0;
    size_t runs;
    assert_int_equal(weir_block_check(block), WEIR_OK);
    for (; weir_iterator_next(&walk, &record, &origin); first++) {
        assert_int_equal(record.data[0] << 8 | record.data[1], first);
        assert_int_equal(record.size, 2 + first % 37);
        assert_string_equal(origin->source, "in");
        assert_int_equal(atoi(origin->label + 1), first / CUT_RUN);
    }
    const weir_run *run = weir_block_runs(block, &runs);
    for (size_t i = 0; i < runs; i++)
        in_runs += run[i].records;
    assert_int_equal(in_runs, weir_block_records(block));
    assert_travels(block);
    return first;
}

/*  Each cut is as long as its limits allow.                                   */
static void cuts_follow_each_other(void **state)
{
    (void)state;
    weir_block *block = labelled_block(NULL);
    for (uint32_t records = 1; records < CUT_RECORDS + 2; records += records / 3 + 1)
        for (size_t bytes = 48; bytes < 9000; bytes += bytes / 5) {
            weir_iterator walk = {.block = block};
            int next = 0;
            for (weir_block *part; (part = weir_iterator_cut(&walk, records, bytes));) {
                next = assert_records(part, next);
                assert_true(weir_block_records(part) <= records);
                assert_true(weir_block_size(part) <= bytes);
                weir_iterator more = walk;
                weir_record record;
                assert_true(weir_block_records(part) == records ||
                            !weir_iterator_next(&more, &record, NULL) ||
                            weir_block_size(part) + record.encoded_size > bytes);
                weir_block_destroy(&part);
            }
            assert_int_equal(next, CUT_RECORDS);
        }
    weir_block_destroy(&block);
}

static void skipping_is_reading_without_a_record(void **state)
{
    (void)state;
    weir_block *block = labelled_block(NULL);
    weir_iterator read = {.block = block}, skip = read;
    weir_record record;
    while (weir_iterator_next(&read, &record, NULL)) {
        assert_int_equal(weir_iterator_skip(&skip), record.encoded_size);
        assert_int_equal(skip.offset, read.offset);
        assert_int_equal(skip.record, read.record);
        assert_int_equal(skip.run, read.run);
        assert_int_equal(skip.run_left, read.run_left);
    }
    assert_int_equal(weir_iterator_skip(&skip), 0);
    weir_block_destroy(&block);
}

static void all_of_a_block_is_the_block(void **state)
{
    (void)state;
    weir_block *block = labelled_block(NULL);
    size_t size = weir_block_size(block);
    weir_iterator walk = {.block = block};
    weir_block *whole = weir_iterator_cut(&walk, CUT_RECORDS, size);
    assert_ptr_equal(whole, block);
    assert_null(weir_iterator_cut(&walk, UINT32_MAX, SIZE_MAX));
    weir_record record;
    assert_false(weir_iterator_next(&walk, &record, NULL));
    walk = (weir_iterator){.block = block};
    weir_block *part = weir_iterator_cut(&walk, CUT_RECORDS, size - 1);
    assert_int_equal(weir_block_records(part), CUT_RECORDS - 1);
    weir_block_destroy(&part);
    weir_block_destroy(&whole);
    weir_block_destroy(&block);
}

static void nothing_is_cut_where_the_first_record_is_too_much(void **state)
{
    (void)state;
    weir_block *block = labelled_block(NULL);
    weir_iterator walk = {.block = block};
    weir_record record;
    for (int i = 0; i < 36; i++)
        weir_iterator_next(&walk, &record, NULL);
    weir_iterator more = walk;
    weir_iterator_next(&more, &record, NULL);
    assert_null(weir_iterator_cut(&walk, 10, record.encoded_size - 1));
    assert_null(weir_iterator_cut(&walk, 0, SIZE_MAX));
    assert_int_equal(walk.record, 36);
    weir_block *part = weir_iterator_cut(&walk, 10, record.encoded_size);
    assert_int_equal(assert_records(part, 36), 37);
    weir_block_destroy(&part);
    weir_block_destroy(&block);
}

static void a_slice_of_a_slice_holds_the_body(void **state)
{
    (void)state;
    weir_block *block = labelled_block(NULL);
    const uint8_t *body = weir_block_body(block);
    weir_iterator walk = {.block = block};
    weir_block *head = weir_iterator_cut(&walk, 100, SIZE_MAX);
    weir_block *rest = weir_iterator_cut(&walk, UINT32_MAX, SIZE_MAX);
    assert_ptr_equal(weir_block_body(rest), body + weir_block_size(head));
    weir_iterator within = {.block = rest};
    weir_block *middle = weir_iterator_cut(&within, 50, SIZE_MAX);
    weir_block_destroy(&block);
    weir_block_destroy(&head);
    weir_block_destroy(&rest);
    assert_int_equal(assert_records(middle, 100), 150);
    weir_block_destroy(&middle);
}

static void a_copy_has_a_body_of_its_own_and_is_counted(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1 << 20);
    weir_block *block = labelled_block(ledger);
    weir_block *stamped = weir_block_stamp(block, "in", NULL);
    weir_iterator walk = {.block = stamped};
    weir_block *part = weir_iterator_cut(&walk, 20, SIZE_MAX);
    assert_ptr_equal(weir_block_ledger(part), ledger); // that of the first block
    weir_block *copy = weir_block_copy(part, weir_block_ledger(part));
    assert_ptr_not_equal(weir_block_body(copy), weir_block_body(part));
    size_t size = weir_block_size(part);
    weir_block_destroy(&part);
    weir_block_destroy(&stamped);
    weir_block_destroy(&block);
    assert_int_equal(weir_ledger_used(ledger), size);
    assert_int_equal(assert_records(copy, 0), 20);
    weir_block *uncounted = weir_block_copy(copy, NULL);
    assert_null(weir_block_ledger(uncounted));
    assert_int_equal(weir_ledger_used(ledger), size);
    weir_block_destroy(&uncounted);
    weir_block_destroy(&copy);
    assert_int_equal(weir_ledger_used(ledger), 0);
    assert_int_equal(weir_ledger_release_errors(ledger), 0);
    weir_ledger_destroy(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builders_seal_and_go_on),
        cmocka_unit_test(a_record_above_the_target_is_a_block_of_its_own),
        cmocka_unit_test(intake_is_refused_when_the_ledger_is_full),
        cmocka_unit_test(a_small_block_keeps_little),
        cmocka_unit_test(a_block_may_outlive_its_ledgers_owner),
        cmocka_unit_test(runs_join_equal_origins_and_own_their_texts),
        cmocka_unit_test(records_are_copied_whole),
        cmocka_unit_test(the_last_reference_frees_the_body),
        cmocka_unit_test(a_block_without_runs_has_an_unknown_origin),
        cmocka_unit_test(check_accepts_what_can_be_walked_and_nothing_else),
        cmocka_unit_test(dealing_keeps_keys_together_and_in_order),
        cmocka_unit_test(without_a_key_all_goes_to_one_part),
        cmocka_unit_test(a_builder_is_full_before_its_runs_are_too_many),
        cmocka_unit_test(a_builder_is_full_before_the_texts_of_its_runs_are_too_long),
        cmocka_unit_test(an_origin_beyond_the_bound_is_nobodys),
        cmocka_unit_test(a_text_that_is_no_utf8_is_made_one),
        cmocka_unit_test(a_stamp_never_makes_the_runs_too_long),
        cmocka_unit_test(cuts_follow_each_other),
        cmocka_unit_test(skipping_is_reading_without_a_record),
        cmocka_unit_test(all_of_a_block_is_the_block),
        cmocka_unit_test(nothing_is_cut_where_the_first_record_is_too_much),
        cmocka_unit_test(a_slice_of_a_slice_holds_the_body),
        cmocka_unit_test(a_copy_has_a_body_of_its_own_and_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
