#include "runtime/codec.h"
#include "runtime/frame.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static weir_buffer out, scratch;

static int tear_down(void **state)
{
    (void)state;
    weir_buffer_fini(&out);
    weir_buffer_fini(&scratch);
    return 0;
}

static weir_err read_out(weir_frame *frame)
{
    return weir_frame_read(frame, out.data, out.size, &scratch);
}

static void every_type_comes_back_as_it_was(void **state)
{
    (void)state;
    weir_run runs[] = {{.records = 3, .source = "in", .peer = "peer", .label = "a@1"},
                       {.records = 4},
                       {.records = 1, .source = "in", .label = ""}};
    const weir_frame frames[] = {
        {.type = WEIR_HELLO,
         .version = 1,
         .node = "web",
         .outlet = "parse.rest",
         .session = UINT64_MAX,
         .base = 300},
        {.type = WEIR_WELCOME,
         .version = 1,
         .bytes = 1ull << 40,
         .sequence = 70000,
         .barrier = 128},
        {.type = WEIR_BLOCK, .sequence = 1, .records = 8, .runs = runs, .run_count = 3},
        {.type = WEIR_CREDIT, .bytes = 65536, .barrier = 255},
        {.type = WEIR_ACK, .sequence = UINT64_MAX},
        {.type = WEIR_BARRIER, .barrier = 9, .epoch = 2, .flags = 5, .sequence = 77},
        {.type = WEIR_CLOSE, .code = "OVERRUN", .text = "too much", .retryable = false},
        {.type = WEIR_NACK, .sequence = 5, .code = "GAP", .text = "", .retryable = true},
        {.type = WEIR_NEED, .bytes = 9000000},
        {.type = WEIR_TOKEN, .sequence = 6, .kind = WEIR_TOKEN_FLUSH, .argument = 1},
    };
    for (size_t i = 0; i < 10; i++) {
        weir_frame frame = frames[i], seen;
        frame.stage = (uint32_t)i * 1000;
        assert_int_equal(frame.type, i + 1);
        out.size = 0;
        weir_frame_put(&frame, &out);
        assert_int_equal(read_out(&seen), WEIR_OK);
        assert_int_equal(seen.run_count, frame.run_count);
        for (size_t r = 0; r < seen.run_count; r++) {
            assert_int_equal(seen.runs[r].records, runs[r].records);
            assert_int_equal(!seen.runs[r].label, !runs[r].label);
            if (runs[r].label) assert_string_equal(seen.runs[r].label, runs[r].label);
            if (runs[r].peer) assert_string_equal(seen.runs[r].peer, runs[r].peer);
            if (runs[r].source) assert_string_equal(seen.runs[r].source, runs[r].source);
        }
        seen.runs = frame.runs;
        assert_string_equal(seen.node, frame.node);
        assert_string_equal(seen.outlet, frame.outlet);
        assert_string_equal(seen.code, frame.code);
        assert_string_equal(seen.text, frame.text);
        assert_memory_equal(&seen, &frame, offsetof(weir_frame, retryable));
        assert_int_equal(seen.retryable, frame.retryable);
        /*  Cut anywhere, it is no frame; nor with a byte more.                */
        for (size_t size = 0; size < out.size; size++)
            assert_int_not_equal(weir_frame_read(&seen, out.data, size, &scratch),
                                 WEIR_OK);
        weir_put_nil(&out);
        assert_int_not_equal(read_out(&seen), WEIR_OK);
    }
}

static void put_hello(const char *node, size_t node_size, uint32_t options)
{
    out.size = 0;
    weir_put_array(&out, 7);
    weir_put_uint(&out, WEIR_HELLO);
    weir_put_uint(&out, 1);
    weir_put_str(&out, node, node_size);
    weir_put_str(&out, "parse", 5);
    weir_put_uint(&out, 4711);
    weir_put_map(&out, options);
}

static void unknown_options_are_skipped(void **state)
{
    (void)state;
    weir_frame frame;
    put_hello("web", 3, 3);
    weir_put_str(&out, "colour", 6);
    weir_put_array(&out, 2);
    weir_put_uint(&out, 1);
    weir_put_map(&out, 0);
    weir_put_str(&out, "base", 4);
    weir_put_uint(&out, 17);
    weir_put_uint(&out, 5); // not even a name
    weir_put_nil(&out);
    weir_put_uint(&out, 0);
    assert_int_equal(read_out(&frame), WEIR_OK);
    assert_int_equal(frame.base, 17);
    assert_int_equal(frame.session, 4711);
    put_hello("web", 3, 0);
    weir_put_uint(&out, 0);
    assert_int_equal(read_out(&frame), WEIR_OK);
    assert_int_equal(frame.base, 1);
}

static void of_another_version_only_the_version_is_read(void **state)
{
    (void)state;
    weir_frame frame;
    out.size = 0;
    weir_put_array(&out, 3);
    weir_put_uint(&out, WEIR_HELLO);
    weir_put_uint(&out, 2);
    weir_put_map(&out, 0);
    assert_int_equal(read_out(&frame), WEIR_OK);
    assert_int_equal(frame.type, WEIR_HELLO);
    assert_int_equal(frame.version, 2);
    out.data[2] = 1; // of this version it is none
    assert_int_equal(read_out(&frame), WEIR_EMALFORMED);
}

static void records_of_which_nothing_is_said_are_one_run(void **state)
{
    (void)state;
    weir_frame frame;
    for (uint64_t records = 0; records < 3; records++) {
        out.size = 0;
        weir_put_array(&out, 6);
        weir_put_uint(&out, WEIR_BLOCK);
        weir_put_uint(&out, 1);
        weir_put_uint(&out, records);
        weir_put_nil(&out);
        weir_put_map(&out, 0);
        weir_put_uint(&out, 0);
        if (records == 0) {
            assert_int_equal(read_out(&frame), WEIR_EMALFORMED);
            continue;
        }
        assert_int_equal(read_out(&frame), WEIR_OK);
        assert_int_equal(frame.run_count, 1);
        assert_int_equal(frame.runs[0].records, records);
        assert_null(frame.runs[0].source);
    }
}

static void texts_are_bounded_and_have_no_nul(void **state)
{
    (void)state;
    weir_frame frame;
    char name[65];
    memset(name, 'n', sizeof name);
    put_hello(name, 63, 0);
    weir_put_uint(&out, 0);
    assert_int_equal(read_out(&frame), WEIR_OK);
    assert_int_equal(strlen(frame.node), 63);
    put_hello(name, 64, 0);
    weir_put_uint(&out, 0);
    assert_int_equal(read_out(&frame), WEIR_ETOOBIG);
    put_hello("a\0b", 3, 0);
    weir_put_uint(&out, 0);
    assert_int_not_equal(read_out(&frame), WEIR_OK);
}

/*  A BLOCK of that many runs of one record; extra: an unknown entry comes first. */
static void put_block(uint32_t runs, uint64_t records, size_t label_size, bool extra)
{
    char *label = calloc(1, label_size + 1);
    memset(label, 'l', label_size);
    out.size = 0;
    weir_put_array(&out, 6);
    weir_put_uint(&out, WEIR_BLOCK);
    weir_put_uint(&out, 1);
    weir_put_uint(&out, records);
    weir_put_array(&out, 2); // a vnode range
    weir_put_uint(&out, 0);
    weir_put_uint(&out, 255);
    weir_put_map(&out, extra ? 2 : 1);
    if (extra) {
        weir_put_str(&out, "wm", 2);
        weir_put_uint(&out, 12345);
    }
    weir_put_str(&out, "o", 1);
    weir_put_array(&out, runs);
    for (uint32_t i = 0; i < runs; i++) {
        weir_put_array(&out, 4);
        weir_put_uint(&out, 1);
        weir_put_nil(&out);
        weir_put_nil(&out);
        weir_put_str(&out, label, label_size);
    }
    weir_put_uint(&out, 0);
    free(label);
}

static void runs_add_up_and_are_bounded(void **state)
{
    (void)state;
    weir_frame frame;
    put_block(3, 3, 5, true);
    assert_int_equal(read_out(&frame), WEIR_OK);
    put_block(3, 4, 5, false);
    assert_int_equal(read_out(&frame), WEIR_EMALFORMED);
    put_block(0, 0, 5, false);
    assert_int_equal(read_out(&frame), WEIR_EMALFORMED);
    put_block(256, 256, 5, false);
    assert_int_equal(read_out(&frame), WEIR_OK);
    assert_string_equal(frame.runs[255].label, "lllll");
    put_block(257, 257, 5, false);
    assert_int_equal(read_out(&frame), WEIR_ETOOBIG);
    put_block(1, 1, 1024, false);
    assert_int_equal(read_out(&frame), WEIR_OK);
    put_block(1, 1, 1025, false);
    assert_int_equal(read_out(&frame), WEIR_ETOOBIG);
    put_block(100, 100, 1000, false); // above 64 KiB in all
    assert_int_equal(read_out(&frame), WEIR_ETOOBIG);
}

static void other_shapes_are_no_frames(void **state)
{
    (void)state;
    weir_frame frame;
    static const char *const wrong[] = {
        "",                                                 // nothing
        "\xc0",                                             // nil
        "\x90",                                             // an empty array
        "\x93\x00\x01\x00",                                 // type 0
        "\x93\x0b\x01\x00",                                 // type 11
        "\x92\x05\x00",                                     // ACK without a field
        "\x94\x05\x01\x01\x00",                             // ACK with one too many
        "\x93\x05\xff\x00",                                 // a negative sequence
        "\x93\x05\xa1x\x00",                                // a text
        "\x93\x05\x01\xcf\x00\x00\x00\x01\x00\x00\x00\x00", // a stage above 2^32
        "\xdd\xff\xff\xff\xff",                             // four billion elements
    };
    static const size_t sizes[] = {0, 1, 1, 4, 4, 3, 5, 4, 5, 12, 5};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_not_equal(
            weir_frame_read(&frame, (const uint8_t *)wrong[i], sizes[i], &scratch),
            WEIR_OK);
}

static void the_cost_is_the_same_on_both_sides(void **state)
{
    (void)state;
    weir_builder builder = {.target = 100};
    weir_run a = {.source = "in", .label = "a@1"}, b = {.source = "in", .peer = "you"};
    weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)"{}", 2, &a);
    weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)"{}", 2, &b);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_frame frame = {.type = WEIR_BLOCK, .sequence = 1, .records = 2}, seen;
    frame.runs = weir_block_runs(block, &frame.run_count);
    weir_frame_put(&frame, &out);
    assert_int_equal(read_out(&seen), WEIR_OK);
    weir_block *copy =
        weir_block_wrap(weir_block_body(block), weir_block_size(block), seen.records,
                        seen.runs, seen.run_count, NULL, NULL);
    assert_int_equal(weir_block_cost(copy), weir_block_cost(block));
    assert_true(weir_block_cost(block) >= out.size + weir_block_size(block) + 512 - 64);
    weir_block_destroy(&copy);
    weir_block_destroy(&block);
}

static void places_travel_beside_the_runs(void **state)
{
    (void)state;
    weir_run runs[WEIR_RUNS_MAX];
    for (uint32_t i = 0; i < WEIR_RUNS_MAX; i++)
        runs[i] = (weir_run){.records = 1,
                             .place = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 2,
                                       UINT64_MAX - i, UINT32_MAX}};
    weir_frame frame = {.type = WEIR_BLOCK,
                        .sequence = 1,
                        .records = WEIR_RUNS_MAX,
                        .runs = runs,
                        .run_count = WEIR_RUNS_MAX};
    weir_frame seen;
    weir_frame_put(&frame, &out);
    assert_int_equal(read_out(&seen), WEIR_OK);
    assert_int_equal(seen.run_count, WEIR_RUNS_MAX);
    for (uint32_t i = 0; i < WEIR_RUNS_MAX; i++) {
        const weir_place *place = &seen.runs[i].place;
        assert_int_equal(place->nonce, UINT64_MAX);
        assert_int_equal(place->epoch, UINT64_MAX - 1);
        assert_int_equal(place->sequence, UINT64_MAX - 2);
        assert_int_equal(place->offset, UINT64_MAX - i);
        assert_int_equal(place->shard, UINT32_MAX);
    }
}

/*  [3, 1, 2, nil, {"p": .., "o": [[2, nil, nil, nil]]}, 0]                    */
static weir_frame block_with(const char *places, size_t size)
{
    weir_frame seen;
    out.size = 0;
    weir_buffer_put(&out, "\x96\x03\x01\x02\xc0\x82\xa1p", 8);
    weir_buffer_put(&out, places, size);
    weir_buffer_put(&out, "\xa1o\x91\x94\x02\xc0\xc0\xc0\x00", 9);
    assert_int_equal(read_out(&seen), WEIR_OK);
    assert_int_equal(seen.run_count, 1);
    assert_int_equal(seen.runs[0].records, 2);
    return seen;
}

static void places_of_another_shape_are_passed_over(void **state)
{
    (void)state;
    static const struct {
        const char *places;
        size_t size;
    } others[] = {
        {"\xc0", 1},                                      // nil
        {"\x90", 1},                                      // for none of the runs
        {"\x91\x94\x07\x01\x02\x03", 6},                  // four numbers
        {"\x91\x95\x00\x01\x02\x03\x04", 7},              // no nonce
        {"\x91\x95\x07\x01\xc0\x03\x04", 7},              // nil for a shard
        {"\x91\x95\x07\x01\xcf\1\0\0\0\0\0\0\0\3\4", 15}, // shard above u32
        {"\x92\x95\x07\x01\x02\x03\x04\xc0", 8},          // for two runs
    };
    weir_frame seen = block_with("\x91\x95\x07\x01\x02\x03\x04", 7);
    assert_int_equal(seen.runs[0].place.offset, 4);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        seen = block_with(others[i].places, others[i].size);
        assert_int_equal(seen.runs[0].place.nonce, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_type_comes_back_as_it_was, tear_down),
        cmocka_unit_test_teardown(unknown_options_are_skipped, tear_down),
        cmocka_unit_test_teardown(of_another_version_only_the_version_is_read, tear_down),
        cmocka_unit_test_teardown(records_of_which_nothing_is_said_are_one_run,
                                  tear_down),
        cmocka_unit_test_teardown(texts_are_bounded_and_have_no_nul, tear_down),
        cmocka_unit_test_teardown(runs_add_up_and_are_bounded, tear_down),
        cmocka_unit_test_teardown(other_shapes_are_no_frames, tear_down),
        cmocka_unit_test_teardown(the_cost_is_the_same_on_both_sides, tear_down),
        cmocka_unit_test_teardown(places_travel_beside_the_runs, tear_down),
        cmocka_unit_test_teardown(places_of_another_shape_are_passed_over, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
