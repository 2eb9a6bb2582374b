/*  Requests and replies of a bus's endpoint: what is taken, what is refused and why, and
    the bytes that docs/wire.md shows. */
#include "actors/bus_reply.h"
#include "actors/bus_request.h"
#include "runtime/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/* --- Building requests ------------------------------------------------------------- */

static void text(weir_buffer *out, const char *value)
{
    weir_put_str(out, value, strlen(value));
}

static weir_buffer begin(const char *verb, uint32_t fields)
{
    weir_buffer out = {0};
    weir_put_array(&out, 3);
    weir_put_uint(&out, 7);
    text(&out, verb);
    weir_put_map(&out, fields);
    return out;
}

static weir_err read_all(weir_bus_request *request, weir_buffer *bytes, char why[512])
{
    weir_report report = {0};
    weir_err err = weir_bus_request_read(request, bytes->data, bytes->size, &report);
    assert_int_equal(err, report.err);
    assert_true((err == WEIR_OK) == (*report.text == 0));
    snprintf(why, 512, "%s", report.text);
    weir_buffer_fini(bytes);
    return err;
}

static void accept(weir_bus_request *request, weir_buffer bytes)
{
    char why[512];
    if (read_all(request, &bytes, why)) fail_msg("%s", why);
    assert_true(request->has_id);
    assert_int_equal(request->id, 7);
}

static void refuse(weir_buffer bytes, weir_err expected, const char *why)
{
    weir_bus_request request;
    char got[512];
    assert_int_equal(read_all(&request, &bytes, got), expected);
    assert_string_equal(got, why);
    weir_bus_request_fini(&request);
}

/* --- Requests ---------------------------------------------------------------------- */

static void a_request_without_fields_has_the_defaults(void **state)
{
    (void)state;
    weir_bus_request r;
    accept(&r, begin("poll", 0));
    assert_int_equal(r.verb, WEIR_BUS_POLL);
    assert_int_equal(r.from, WEIR_AT_START);
    assert_int_equal(r.limit, 1000);
    assert_int_equal(r.bytes, 8 << 20);
    assert_int_equal(r.scan, 100000);
    assert_int_equal(r.timeout_ms, 1000);
    assert_null(r.where);
    assert_null(r.shards);
    assert_false(r.by_time);
    weir_bus_request_fini(&r);
}

static void each_field_is_read(void **state)
{
    (void)state;
    weir_bus_request r;
    weir_buffer out = begin("poll", 5);
    text(&out, "from"), weir_put_uint(&out, 1700000000000);
    text(&out, "where"), text(&out, "n > 1");
    text(&out, "shards"), weir_put_array(&out, 2);
    weir_put_uint(&out, 3), weir_put_uint(&out, 1);
    text(&out, "order"), text(&out, "time");
    text(&out, "limit"), weir_put_uint(&out, 0);
    accept(&r, out);
    assert_int_equal(r.from, WEIR_AT_TIME);
    assert_int_equal(r.from_ms, 1700000000000);
    assert_string_equal(r.where, "n > 1");
    assert_int_equal(r.shard_count, 2);
    assert_int_equal(r.shards[0], 3);
    assert_true(r.by_time);
    assert_int_equal(r.limit, 0);
    weir_bus_request_fini(&r);
}

static void words_stand_for_what_no_number_says(void **state)
{
    (void)state;
    weir_bus_request r;
    weir_buffer out = begin("join", 4);
    text(&out, "group"), text(&out, "web/bills");
    text(&out, "ack_timeout_ms"), text(&out, "none");
    text(&out, "max_deliver"), text(&out, "forever");
    text(&out, "start"), text(&out, "w1abc");
    accept(&r, out);
    assert_string_equal(r.group, "web/bills");
    assert_int_equal(r.ack_timeout_ms, WEIR_NONE);
    assert_true(r.max_deliver == WEIR_FOREVER);
    assert_int_equal(r.from, WEIR_AT_CURSOR);
    assert_string_equal(r.cursor, "w1abc");
    weir_bus_request_fini(&r);
}

static void what_is_wrong_is_said_by_its_name(void **state)
{
    (void)state;
    weir_buffer out = begin("poll", 1);
    text(&out, "limit"), weir_put_uint(&out, 10001);
    refuse(out, WEIR_EINVAL, "poll: field 'limit' is 0 to 10000");
    out = begin("poll", 1);
    text(&out, "limit"), text(&out, "10");
    refuse(out, WEIR_EINVAL, "poll: field 'limit' is a whole number, not negative");
    out = begin("poll", 1);
    text(&out, "limit"), weir_put_int(&out, -1);
    refuse(out, WEIR_EINVAL, "poll: field 'limit' is a whole number, not negative");
    out = begin("poll", 1);
    text(&out, "limt"), weir_put_uint(&out, 1);
    refuse(out, WEIR_EINVAL, "poll: unknown field 'limt'");
    out = begin("fetch", 1);
    text(&out, "where"), text(&out, "n > 1");
    refuse(out, WEIR_EINVAL, "fetch: unknown field 'where'");
    out = begin("poll", 2);
    text(&out, "scan"), weir_put_uint(&out, 1);
    text(&out, "scan"), weir_put_uint(&out, 1);
    refuse(out, WEIR_EINVAL, "poll: field 'scan' is there twice");
    out = begin("poll", 2);
    text(&out, "cursor"), text(&out, "w1");
    text(&out, "from"), text(&out, "end");
    refuse(out, WEIR_EINVAL, "poll: begin either at a cursor or at 'from'");
    refuse(begin("ack", 0), WEIR_EINVAL, "ack: field 'shard' is missing");
    out = begin("join", 1);
    text(&out, "group"), text(&out, "a b");
    refuse(out, WEIR_EINVAL, "join: field 'group' has letters, digits, _ - . and / only");
    out = begin("join", 1);
    text(&out, "group"), weir_put_str(&out, "a\0b", 3);
    refuse(out, WEIR_EINVAL, "join: field 'group' holds a U+0000");
    out = begin("poll", 1);
    text(&out, "shards"), weir_put_array(&out, 0);
    refuse(out, WEIR_EINVAL, "poll: field 'shards' names none: leave it out to read all");
}

static void what_is_no_request_is_refused(void **state)
{
    (void)state;
    static const char form[] = "this is the endpoint of a bus: a request is one "
                               "MessagePack array [id, verb, fields]";
    refuse((weir_buffer){0}, WEIR_EMALFORMED, form);
    weir_buffer out = {0};
    weir_put_array(&out, 2);
    weir_put_uint(&out, 1), text(&out, "poll");
    refuse(out, WEIR_EMALFORMED, form);
    refuse(begin("nix", 0), WEIR_ENOTFOUND,
           "unknown verb 'nix'; there are hello, poll, join, fetch, ack, nack, leave, "
           "groups");
    out = begin("hello", 0);
    weir_put_nil(&out);
    refuse(out, WEIR_EMALFORMED, "there are bytes behind the request");
    out = (weir_buffer){0};
    weir_put_array(&out, 3);
    text(&out, "7"), text(&out, "hello"), weir_put_map(&out, 0);
    refuse(out, WEIR_EMALFORMED, "the first element of a request is its id, a number");
    out = begin("hello", 0);
    weir_buffer_reserve(&out, WEIR_BUS_REQUEST_MAX);
    out.size = WEIR_BUS_REQUEST_MAX + 1;
    refuse(out, WEIR_ETOOBIG, "a request has at most 65536 bytes");
    out = begin("poll", 1); // four billion shards in five bytes
    text(&out, "shards"), weir_buffer_put(&out, "\xdd\xff\xff\xff\xff", 5);
    refuse(out, WEIR_EINVAL, "poll: field 'shards' is a list of numbers");
}

/* --- The page ---------------------------------------------------------------------- */

static const uint64_t nonce = 0x1122334455667788;

static weir_record order(void)
{
    return (weir_record){.has_ts = true,
                         .ts_ms = 1700000000000,
                         .key = {.type = WEIR_MISSING},
                         .format = WEIR_JSON,
                         .data = (const uint8_t *)"{\"n\":1}",
                         .size = 7};
}

static void reply_page(weir_buffer *out, const weir_bus_request *request)
{
    weir_polled polled = {.record = order(), .at = {1, 0}, .epoch = 1, .sequence = 1};
    weir_mark mark = {0, {1, 0}};
    weir_page page = {.records = &polled, .count = 1, .examined = 1};
    page.cursor = (weir_cursor){.nonce = nonce, .marks = &mark, .count = 1};
    weir_bus_reply_page(out, request, &page);
}

static void reply_delivered(weir_buffer *out, const weir_bus_request *request)
{
    weir_builder builder = {0};
    weir_record record = order();
    weir_position at = {1, 0};
    uint64_t sequence = 1;
    weir_builder_add(&builder, &record, NULL);
    weir_delivered delivered = {.block = weir_builder_seal(&builder),
                                .at = &at,
                                .sequence = &sequence,
                                .epoch = 1,
                                .records = 1};
    weir_bus_reply_delivered(out, request, &delivered);
    weir_block_destroy(&delivered.block);
    weir_builder_fini(&builder);
}

/*  The answer that the page shows to the n-th request.                                 */
static void reply_to(int n, weir_buffer *out, const weir_bus_request *request)
{
    const weir_bus_hello hello = {"events", nonce, 256, -1};
    if (n == 0) weir_bus_reply_hello(out, request, &hello);
    if (n == 1) reply_page(out, request);
    if (n == 2 || n == 4) weir_bus_reply_ok(out, request);
    if (n == 3) reply_delivered(out, request);
    if (n == 5)
        weir_bus_reply_error(
            out, request, "not_owner",
            "not_owner: record 9 of shard 0 went to another member, or the position was "
            "set");
}

static size_t parse_hex(const char *line, uint8_t *bytes)
{
    size_t size = 0;
    unsigned byte;
    int used;
    while (sscanf(line, " %2x%n", &byte, &used) == 1) {
        bytes[size++] = (uint8_t)byte;
        line += used;
    }
    return size;
}

static void check_line(const char *line, int n, weir_bus_request *request)
{
    uint8_t bytes[1024];
    char got[4096] = "";
    weir_report report = {0};
    size_t size = parse_hex(line + 1, bytes);
    if (*line == '>') {
        if (weir_bus_request_read(request, bytes, size, &report))
            fail_msg("request %d: %s", n, report.text);
        return;
    }
    weir_buffer out = {0};
    reply_to(n, &out, request);
    for (size_t i = 0; i < out.size; i++)
        snprintf(got + 3 * i, sizeof got - 3 * i, " %02x", out.data[i]);
    if (out.size != size || memcmp(out.data, bytes, size))
        fail_msg("reply %d is\n<%s\n", n, got);
    weir_buffer_fini(&out);
    weir_bus_request_fini(request);
}

/*  Fenced blocks "hex bus" of docs/wire.md: > a request, < its reply, in turn.         */
static void the_page_shows_what_is_said(void **state)
{
    (void)state;
    char line[4096];
    bool inside = false;
    int replies = 0;
    weir_bus_request request;
    FILE *page = fopen("docs/wire.md", "r");
    if (!page) skip();
    while (fgets(line, sizeof line, page)) {
        if (strncmp(line, "```", 3) == 0)
            inside = strcmp(line, "```hex bus\n") == 0;
        else if (inside)
            check_line(line, replies, &request);
        replies += inside && *line == '<';
    }
    fclose(page);
    assert_int_equal(replies, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_without_fields_has_the_defaults),
        cmocka_unit_test(each_field_is_read),
        cmocka_unit_test(words_stand_for_what_no_number_says),
        cmocka_unit_test(what_is_wrong_is_said_by_its_name),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(the_page_shows_what_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
