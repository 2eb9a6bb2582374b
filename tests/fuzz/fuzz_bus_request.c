/*  bus_request: any bytes are a request within its limits, or are refused with a
    sentence; and what a client reads of any answer ends, and stays within the bytes. */
#include "actors/bus_page.h"
#include "actors/bus_request.h"
#include "runtime/options.h"

static void require(bool holds)
{
    if (!holds) abort();
}

static void check_number(int64_t number, int64_t word, int64_t least, int64_t most)
{
    require(number == word || (number >= least && number <= most));
}

static void check_text(const char *text, size_t most)
{
    require(!text || (*text && strlen(text) <= most));
}

static void check(const weir_bus_request *r)
{
    require(r->has_id && r->verb < WEIR_BUS_VERBS);
    require(r->limit <= 10000 && r->bytes > 0 && r->scan > 0 && r->scan <= UINT32_MAX);
    require(r->timeout_ms <= 3600000 && r->window > 0 && r->window <= 1000000);
    require(r->member_timeout_ms >= 100 && r->retry_first_ms <= r->retry_max_ms);
    require(r->shard <= UINT32_MAX && r->from_ms >= 0);
    require((r->from == WEIR_AT_CURSOR) == (r->cursor != NULL));
    require((r->shards == NULL) == (r->shard_count == 0));
    require((r->verb == WEIR_BUS_JOIN) == (r->group != NULL));
    check_number(r->ack_timeout_ms, WEIR_NONE, 1, 3600000);
    check_number(r->max_deliver, WEIR_FOREVER, 1, 1000000);
    check_number(r->delay_ms, -1, 0, 3600000);
    check_text(r->where, 4096);
    check_text(r->group, WEIR_BUS_GROUP_MAX);
    check_text(r->member, WEIR_BUS_TEXT_MAX);
    check_text(r->why, 255);
}

static void read_as_answer(const uint8_t *data, size_t size)
{
    weir_bus_answer answer;
    weir_bus_record record;
    weir_page page;
    if (weir_bus_answer_read(&answer, data, size)) return;
    require(strlen(answer.code) < sizeof answer.code);
    require(strlen(answer.text) < sizeof answer.text);
    weir_bus_page_read(&page, &answer, 0);
    weir_page_fini(&page);
    while (weir_bus_answer_next(&answer, &record) == WEIR_OK)
        require(record.record.data >= data &&
                record.record.data + record.record.size <= data + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weir_bus_request request;
    weir_report report = {0};
    weir_err err = weir_bus_request_read(&request, data, size, &report);
    require((err == WEIR_OK) == (*report.text == 0));
    if (!err) check(&request);
    weir_bus_request_fini(&request);
    read_as_answer(data, size);
    return 0;
}
