/*  help_poll: what the tests of polls share: a store in memory, a poller, pages.       */
#pragma once
#include "actors/poll.h"
#include "runtime/clock.h"
#include "tests/unit/help_store.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#define NONCE 77
#define SHARDS 8

#define PATIENCE_US 500000

/*  A store that answers in the thread that asks or from its own, and a poller of it. */
static weir_store *store;
static weir_poller *poller;
static help_store_counts counts;

static inline int begin(bool threaded)
{
    memset(&counts, 0, sizeof counts);
    store = help_store_new(threaded, &counts);
    poller = weir_poller_new(store, NONCE);
    return poller ? 0 : -1;
}

static inline int begin_inline(void **state)
{
    (void)state;
    return begin(false);
}

static inline int begin_threaded(void **state)
{
    (void)state;
    return begin(true);
}

static inline int end(void **state)
{
    (void)state;
    weir_poller_destroy(&poller);
    store->class->close(&store);
    return 0;
}

/*  The test is run with both kinds of store. */
#define BOTH(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, begin_inline, end),                            \
        cmocka_unit_test_setup_teardown(test, begin_threaded, end)

static inline void wait_for_reads(unsigned reads)
{
    int64_t give_up_us = weir_clock_now_us() + 60000000;
    while (counts.reads < reads && weir_clock_now_us() < give_up_us)
        usleep(200);
    assert_true(counts.reads >= reads);
}

static inline void put(uint32_t shard, int n)
{
    char json[64];
    snprintf(json, sizeof json, "{\"n\":%d}", n);
    help_store_put(store, shard, json, NULL, -1);
}

static inline void put_many(uint32_t shard, int from, int count)
{
    weir_builder builder = {.target = 1 << 16};
    for (int i = 0; i < count; i++) {
        char json[64];
        int size = snprintf(json, sizeof json, "{\"n\":%d}", from + i);
        weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)json, (size_t)size,
                                 NULL);
    }
    weir_block *block = weir_builder_seal(&builder);
    help_store_add(store, shard, block);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
}

static inline int number_of(const weir_polled *polled)
{
    int n = -1;
    char text[64];
    assert_true(polled->record.size < sizeof text);
    memcpy(text, polled->record.data, polled->record.size);
    text[polled->record.size] = 0;
    assert_int_equal(sscanf(text, "{\"n\":%d}", &n), 1);
    return n;
}

static weir_filter *compile(const char *text)
{
    size_t column;
    weir_report report;
    weir_filter *filter;
    if (weir_filter_new(&filter, text, &column, &report)) fail_msg("%s", report.text);
    return filter;
}

static inline weir_page poll_page(const weir_poll_request *request)
{
    weir_page page;
    weir_report report = {0};
    if (weir_poller_poll(poller, request, &page, &report)) fail_msg("%s", report.text);
    assert_int_equal(page.cursor.nonce, NONCE);
    return page;
}

/*  The next page begins where this one ends; a client keeps that as text. */
static inline void go_on(weir_poll_request *request, weir_page *page)
{
    weir_buffer text = {0};
    weir_report report = {0};
    weir_cursor_fini(&request->cursor);
    weir_cursor_put(&page->cursor, &text);
    if (weir_cursor_read(&request->cursor, (char *)text.data, text.size, NONCE, &report))
        fail_msg("%s", report.text);
    weir_buffer_fini(&text);
    request->from_end = false;
    request->from_ms = -1;
    weir_page_fini(page);
}

/*  For pages that have something; one that is empty waits this long. */
static inline weir_poll_request patient(void)
{
    weir_poll_request request = weir_poll_defaults;
    request.timeout_us = 20000000;
    return request;
}

/*  For pages that may be empty; a shard may be slow on a machine that is. */
static inline weir_poll_request quick(void)
{
    weir_poll_request request = weir_poll_defaults;
    request.timeout_us = 10000;
    return request;
}

/*  Pages until there is no more and no shard is slow; counts how often each number comes,
    and checks that the offsets of each shard rise. Gives the number of records. */
static inline size_t read_all(weir_poll_request *request, uint8_t *seen)
{
    uint64_t last[64] = {0};
    size_t count = 0;
    for (bool more = true; more;) {
        weir_page page = poll_page(request);
        assert_true(page.count <= request->limit);
        for (size_t i = 0; i < page.count; i++) {
            const weir_polled *polled = &page.records[i];
            if (!request->by_time) assert_true(polled->at.a > last[polled->shard]);
            last[polled->shard] = polled->at.a;
            assert_int_equal(polled->sequence, polled->at.a);
            assert_true(polled->record.has_ts);
            if (seen) seen[number_of(polled)]++;
        }
        count += page.count;
        more = page.more || page.slow_count;
        go_on(request, &page);
    }
    return count;
}
