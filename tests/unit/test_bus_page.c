/*  Pages and deliveries as a bus's endpoint sends them, read again by its client. */
#include "actors/bus_page.h"
#include "actors/bus_reply.h"
#include "runtime/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const uint64_t nonce = 0x1122334455667788;
static const weir_bus_request request = {.has_id = true, .id = 7};

static weir_record record_of(const char *json)
{
    return (weir_record){.has_ts = true,
                         .ts_ms = 1700000000000,
                         .key = {.type = WEIR_MISSING},
                         .format = WEIR_JSON,
                         .data = (const uint8_t *)json,
                         .size = strlen(json)};
}

/*  A page of two records, of a disk store and of Redis, with all that stands beside. */
static weir_buffer make_page(void)
{
    weir_buffer out = {0};
    weir_polled records[] = {
        {.record = record_of("{\"n\":1}"), .at = {9, 0}, .epoch = 3, .sequence = 5},
        {.record = record_of("[2]"),
         .shard = 4,
         .at = {3, 8},
         .epoch = 3,
         .sequence = 8}};
    weir_mark marks[] = {{0, {9, 0}}, {4, {3, 8}}};
    weir_poll_trouble slow = {2, "no answer in 5 ms"},
                      failed[] = {{1, "broken"}, {9, ""}};
    weir_gap gaps[] = {{.shard = 1, .first = 2, .last = 6, .damaged = true},
                       {.shard = 4, .first = 1, .last = 7, .epoch = 3}};
    weir_page page = {.records = records,
                      .count = 2,
                      .cursor = {nonce, 4, marks, 2},
                      .more = true,
                      .examined = 12,
                      .unknown = 3,
                      .slow = &slow,
                      .slow_count = 1,
                      .failed = failed,
                      .failed_count = 2,
                      .gaps = gaps,
                      .gap_count = 2};
    weir_bus_reply_page(&out, &request, &page);
    return out;
}

static void check_records(const weir_page *page)
{
    assert_int_equal(page->count, 2);
    const weir_polled *one = &page->records[0], *two = &page->records[1];
    assert_true(one->shard == 0 && one->at.a == 9 && one->at.b == 0);
    assert_true(one->epoch == 3 && one->sequence == 5);
    assert_true(two->shard == 4 && two->at.a == 3 && two->at.b == 8);
    assert_true(one->record.has_ts && one->record.ts_ms == 1700000000000);
    assert_memory_equal(one->record.data, "{\"n\":1}", 7);
    assert_int_equal(two->record.size, 3);
}

static void a_page_is_read_as_it_was_sent(void **state)
{
    (void)state;
    weir_page page;
    weir_bus_answer answer;
    weir_buffer bytes = make_page();
    assert_int_equal(weir_bus_answer_read(&answer, bytes.data, bytes.size), WEIR_OK);
    assert_int_equal(weir_bus_page_read(&page, &answer, nonce), WEIR_OK);
    check_records(&page);
    assert_true(page.cursor.first == 4 && page.cursor.count == 2);
    assert_int_equal(weir_cursor_get(&page.cursor, 4).b, 8);
    assert_true(page.more && page.examined == 12 && page.unknown == 3);
    assert_true(page.slow_count == 1 && page.failed_count == 2 && page.gap_count == 2);
    assert_int_equal(page.slow[0].shard, 2);
    assert_string_equal(page.slow[0].text, "no answer in 5 ms");
    assert_int_equal(page.failed[1].shard, 9);
    assert_true(page.gaps[0].damaged && !page.gaps[1].damaged);
    assert_true(page.gaps[0].first == 2 && page.gaps[0].last == 6 && !page.gaps[0].epoch);
    assert_true(page.gaps[1].epoch == 3 && page.gaps[1].shard == 4);
    assert_true(answer.is_late);
    assert_string_equal(answer.trouble, "shard 1: broken");
    weir_page_fini(&page);
    weir_buffer_fini(&bytes);
}

static void a_page_of_another_bus_is_refused(void **state)
{
    (void)state;
    weir_page page;
    weir_bus_answer answer;
    weir_buffer bytes = make_page();
    weir_bus_answer_read(&answer, bytes.data, bytes.size);
    assert_int_equal(weir_bus_page_read(&page, &answer, nonce + 1), WEIR_EMALFORMED);
    weir_page_fini(&page);
    weir_buffer_fini(&bytes);
}

/*  What is read stays within the bytes; a sanitizer sees the rest.                     */
static void read_hostile(const uint8_t *data, size_t size)
{
    weir_page page;
    weir_bus_answer answer;
    uint8_t *own = malloc(size ? size : 1); // its end is the end of the allocation
    if (!own) abort();
    memcpy(own, data, size);
    if (weir_bus_answer_read(&answer, own, size) == WEIR_OK) {
        weir_bus_page_read(&page, &answer, nonce);
        for (size_t i = 0; i < page.count; i++)
            assert_true(page.records[i].record.data >= own &&
                        page.records[i].record.data + page.records[i].record.size <=
                            own + size);
        weir_page_fini(&page);
    }
    free(own);
}

static void cut_and_changed_bytes_are_survived(void **state)
{
    (void)state;
    weir_buffer bytes = make_page();
    for (size_t size = 0; size < bytes.size; size++)
        read_hostile(bytes.data, size);
    for (size_t i = 0; i < bytes.size; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[i] ^= (uint8_t)(1 << bit);
            read_hostile(bytes.data, bytes.size);
            bytes.data[i] ^= (uint8_t)(1 << bit);
        }
    weir_buffer_fini(&bytes);
}

static void an_empty_delivery_says_what_cannot_be_read(void **state)
{
    (void)state;
    weir_buffer bytes = {0};
    weir_bus_answer answer;
    weir_delivered delivered = {.trouble = "away"};
    weir_bus_reply_delivered(&bytes, &request, &delivered);
    assert_int_equal(weir_bus_answer_read(&answer, bytes.data, bytes.size), WEIR_OK);
    assert_true(!answer.is_late && !*answer.trouble && !answer.count);
    bytes.size = 0;
    delivered.is_late = delivered.has_failed = true;
    delivered.failed_shard = 3;
    weir_bus_reply_delivered(&bytes, &request, &delivered);
    assert_int_equal(weir_bus_answer_read(&answer, bytes.data, bytes.size), WEIR_OK);
    assert_true(answer.is_late && !answer.count);
    assert_string_equal(answer.trouble, "shard 3: away");
    weir_buffer_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_read_as_it_was_sent),
        cmocka_unit_test(a_page_of_another_bus_is_refused),
        cmocka_unit_test(cut_and_changed_bytes_are_survived),
        cmocka_unit_test(an_empty_delivery_says_what_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
