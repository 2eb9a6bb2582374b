/*  What is between records and messages of JetStream: templates that make messages, and
    messages that become records; names and bodies of durable consumers. No server.   */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "actors/jetstream_durable.h"
#include "actors/jetstream_message.h"
#include "actors/jetstream_record.h"
#include "actors/jetstream_session.h"

/* --- Records to messages ----------------------------------------------------------- */

static const char *pattern_of(const char *subject)
{
    static char pattern[WEIR_JS_SUBJECT_MAX];
    static weir_report report;
    weir_js_message message;
    weir_js_message_config config = {.subject = subject};
    weir_err err = weir_js_message_init(&message, &config, &report);
    if (!err) assert_true(weir_js_message_pattern(&message, pattern, sizeof pattern));
    weir_js_message_fini(&message);
    return err ? report.text : pattern;
}

static void a_pattern_has_a_star_where_fields_stand(void **state)
{
    (void)state;
    assert_string_equal(pattern_of("orders"), "orders");
    assert_string_equal(pattern_of("orders.{region}"), "orders.*");
    assert_string_equal(pattern_of("{a}.{b}"), "*.*");
    assert_string_equal(pattern_of("a.eu-{b}-{c}x.d"), "a.*.d");
    assert_string_equal(pattern_of("{a}{b}"), "*");
}

static void subjects_that_no_record_could_have_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    ".",   "a.",     ".a",     "a..b", "a b",
                                      "a.*", "a.>", "a\tb.c", "{a}..b", NULL};
    for (int i = 0; bad[i]; i++)
        if (!strchr(pattern_of(bad[i]), ' '))
            fail_msg("'%s': %s", bad[i], pattern_of(bad[i]));
    char longer[2 * WEIR_JS_SUBJECT_MAX];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_string_equal(pattern_of(longer), "it is too long");
}

/*  The message of a JSON payload; NULL: error says why there is none.                */
static natsMsg *make(const weir_js_message_config *config, const char *payload,
                     const weir_place *place, const char **error)
{
    weir_js_message message;
    weir_doc doc = {0};
    weir_run run = {.place = place ? *place : (weir_place){0}};
    weir_subject subject = {.doc = &doc};
    natsMsg *msg;
    weir_report report = {0};
    if (weir_js_message_init(&message, config, &report)) fail_msg("%s", report.text);
    subject.record.data = (const uint8_t *)payload;
    subject.record.size = strlen(payload);
    weir_subject_begin(&subject, &run);
    *error = weir_js_message_make(&message, &subject, &msg);
    weir_doc_fini(&doc);
    weir_js_message_fini(&message);
    return msg;
}

static void has_header(natsMsg *msg, const char *name, const char *value)
{
    const char *is = NULL;
    assert_int_equal(natsMsgHeader_Get(msg, name, &is), value ? NATS_OK : NATS_NOT_FOUND);
    if (value) assert_string_equal(is, value);
}

static void a_message_has_what_the_templates_say(void **state)
{
    (void)state;
    weir_rule headers[] = {{.name = "Tenant", .where = "{t}"},
                           {.name = "All", .where = "{n}/{l}"}};
    weir_rules rules = {.items = headers, .count = 2};
    weir_js_message_config config = {.subject = "o.{r}-x",
                                     .stream = "S",
                                     .headers = &rules,
                                     .payload = "n is {n}",
                                     .id = "{t}:{r}"};
    const char *error;
    natsMsg *msg =
        make(&config, "{\"n\":1.5,\"r\":\"eu\",\"t\":7,\"l\":[1]}", NULL, &error);
    if (error) fail_msg("%s", error);
    assert_string_equal(natsMsg_GetSubject(msg), "o.eu-x");
    assert_int_equal(natsMsg_GetDataLength(msg), 8);
    assert_memory_equal(natsMsg_GetData(msg), "n is 1.5", 8);
    has_header(msg, "Tenant", "7");
    has_header(msg, "All", "1.5/[1]");
    has_header(msg, "Nats-Msg-Id", "7:eu");
    has_header(msg, "Nats-Expected-Stream", "S");
    natsMsg_Destroy(msg);
}

static void the_id_is_that_of_the_place(void **state)
{
    (void)state;
    weir_js_message_config config = {.subject = "o"};
    weir_place place = {
        .nonce = 0xab, .epoch = 2, .sequence = 9, .offset = 3, .shard = 4};
    const char *error;
    natsMsg *msg = make(&config, "{}", &place, &error);
    has_header(msg, "Nats-Msg-Id", "00000000000000ab:2:4:9");
    natsMsg_Destroy(msg);
    msg = make(&config, "not json", NULL, &error); // nobody looks into it
    has_header(msg, "Nats-Msg-Id", NULL);
    has_header(msg, "Nats-Expected-Stream", NULL);
    assert_memory_equal(natsMsg_GetData(msg), "not json", 8);
    natsMsg_Destroy(msg);
}

static void records_without_a_legal_message_are_told(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"r\":\"a.b\"}",
                                      "{\"r\":\"\"}",
                                      "{\"r\":\"a b\"}",
                                      "{\"r\":\"*\"}",
                                      "{\"r\":\"\\u0000\"}",
                                      "{\"r\":1.5}",
                                      "{}",
                                      "not json",
                                      NULL};
    weir_js_message_config config = {.subject = "o.{r}"};
    const char *error;
    for (int i = 0; bad[i]; i++) {
        assert_null(make(&config, bad[i], NULL, &error));
        assert_non_null(error);
    }
    config = (weir_js_message_config){.subject = "o", .id = "{r}"};
    assert_null(make(&config, "{\"r\":\"a\\nb\"}", NULL, &error));
    assert_non_null(strstr(error, "line break"));
    assert_null(make(&config, "{\"r\":\"\"}", NULL, &error));
    assert_string_equal(error, "its id is empty");
    char payload[2 * WEIR_JS_SUBJECT_MAX];
    snprintf(payload, sizeof payload, "{\"r\":\"%01500d\"}", 0);
    config = (weir_js_message_config){.subject = "o.{r}"};
    assert_null(make(&config, payload, NULL, &error));
    assert_non_null(strstr(error, "1024"));
}

/* --- Messages to records ----------------------------------------------------------- */

static natsMsg *message_of(const char *data, int size, const char *id)
{
    natsMsg *msg = NULL;
    assert_int_equal(natsMsg_Create(&msg, "s.a", NULL, data, size), NATS_OK);
    if (id) assert_int_equal(natsMsgHeader_Set(msg, "Nats-Msg-Id", id), NATS_OK);
    return msg;
}

static weir_value header_of(const weir_js_record *record, const char *name)
{
    weir_record of = {.headers = record->envelope.headers,
                      .headers_size = record->envelope.headers_size};
    weir_value value;
    weir_record_header(&of, name, strlen(name), &value);
    return value;
}

static void a_message_brings_headers_subject_and_sequence(void **state)
{
    (void)state;
    weir_js_record record = {0};
    natsMsg *msg = message_of("x", 1, NULL);
    natsMsgHeader_Add(msg, "Two", "a");
    natsMsgHeader_Add(msg, "Two", "b");
    natsMsgHeader_Set(msg, "Odd", "\xff");
    natsMsgHeader_Set(msg, "subject", "forged");
    assert_null(weir_js_record_read(&record, msg, true, 17, 1000));
    assert_int_equal(header_of(&record, "Two").type, WEIR_ARRAY);
    assert_int_equal(header_of(&record, "Odd").type, WEIR_BIN);
    weir_value subject = header_of(&record, "subject");
    assert_int_equal(subject.size, 3);
    assert_memory_equal(subject.data, "s.a", 3);
    assert_int_equal(header_of(&record, "sequence").integer, 17);
    assert_true(record.envelope.has_ts);
    assert_int_equal(record.envelope.ts_ms, 1000);
    assert_false(record.whole);
    assert_int_equal(record.size, 1);
    natsMsg_Destroy(msg);
    weir_js_record_fini(&record);
}

/*  [5, "k", "{}", nil]                                                              */
#define ENCODED "\x94\x05\xa1k\xa2{}\xc0"

static void a_record_of_a_bus_is_taken_out_of_its_message(void **state)
{
    (void)state;
    static const char id[] = "00000000000000ab:2:4:9";
    weir_js_record record = {0};
    natsMsg *msg = message_of(ENCODED, sizeof ENCODED - 1, id);
    assert_null(weir_js_record_read(&record, msg, true, 17, 1000));
    assert_true(record.whole && record.envelope.whole);
    assert_int_equal(record.envelope.format, WEIR_JSON);
    assert_int_equal(record.envelope.ts_ms, 5);
    assert_int_equal(record.envelope.key.type, WEIR_STR);
    assert_int_equal(record.size, 2);
    assert_null(weir_js_record_read(&record, msg, false, 17, 1000)); // nobody wants that
    assert_false(record.whole);
    assert_int_equal(record.size, sizeof ENCODED - 1);
    natsMsg_Destroy(msg);
    static const struct {
        const char *data;
        int size;
        const char *id;
    } others[] = {{ENCODED, sizeof ENCODED - 2, id},    // cut
                  {ENCODED "\xc0", sizeof ENCODED, id}, // more behind it
                  {ENCODED, sizeof ENCODED - 1, NULL},
                  {ENCODED, sizeof ENCODED - 1, "1:2:3"},
                  {"", 0, id}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        msg = message_of(others[i].data, others[i].size, others[i].id);
        assert_null(weir_js_record_read(&record, msg, true, 17, 1000));
        assert_false(record.whole);
        natsMsg_Destroy(msg);
    }
    weir_js_record_fini(&record);
}

/* --- Consumers --------------------------------------------------------------------- */

static void starts_are_read(void **state)
{
    (void)state;
    weir_js_start start;
    weir_report report = {0};
    assert_int_equal(weir_js_start_read(&start, NULL, &report), WEIR_OK);
    assert_int_equal(start.from, WEIR_JS_FROM_START);
    assert_int_equal(weir_js_start_read(&start, "end", &report), WEIR_OK);
    assert_int_equal(start.from, WEIR_JS_FROM_END);
    assert_int_equal(weir_js_start_read(&start, "42", &report), WEIR_OK);
    assert_int_equal(start.from, WEIR_JS_FROM_SEQUENCE);
    assert_int_equal(start.sequence, 42);
    assert_int_equal(weir_js_start_read(&start, "1970-01-01T00:00:01.5Z", &report),
                     WEIR_OK);
    assert_int_equal(start.from, WEIR_JS_FROM_TIME);
    assert_int_equal(start.ms, 1500);
    static const char *const bad[] = {"0", "", "-1", "now", "w1abc", "2026-01-01", NULL};
    for (int i = 0; bad[i]; i++) {
        assert_int_equal(weir_js_start_read(&start, bad[i], &report), WEIR_EINVAL);
        assert_string_equal(report.where, "start");
    }
}

static void names_and_filters_are_those_that_a_server_takes(void **state)
{
    (void)state;
    assert_true(weir_js_is_name("t+in") && weir_js_is_name("A-b_9"));
    assert_false(weir_js_is_name("") || weir_js_is_name("a.b") ||
                 weir_js_is_name("a b") || weir_js_is_name("a*") ||
                 weir_js_is_name("a/b") || weir_js_is_name("a\""));
    assert_true(weir_js_is_filter("a") && weir_js_is_filter("a.*.c") &&
                weir_js_is_filter("a.>") && weir_js_is_filter(">") &&
                weir_js_is_filter("*"));
    static const char *const bad[] = {"",     ".",     "a.",   ".a",   "a..b", "a.b*",
                                      "a.>.", "a.>.b", "a b.", "a\"b", NULL};
    for (int i = 0; bad[i]; i++)
        if (weir_js_is_filter(bad[i])) fail_msg("%s", bad[i]);
}

/*  NULL: it will do.                                                                */
static const char *judge(const char *config, const char *subjects)
{
    static char why[200];
    char text[512];
    weir_doc doc = {0};
    weir_value root;
    weir_js_durable wanted = {.stream = "S", .name = "n", .subjects = subjects};
    weir_js_durable_info info;
    snprintf(text, sizeof text,
             "{\"config\":{%s},\"created\":\"1970-01-01T00:00:02Z\","
             "\"ack_floor\":{\"stream_seq\":7},\"delivered\":{\"stream_seq\":9}}",
             config);
    assert_int_equal(weir_doc_parse(&doc, WEIR_JSON, (const uint8_t *)text, strlen(text)),
                     WEIR_OK);
    weir_json_read((const uint8_t *)text + doc.index.root, doc.index.root_size, &root);
    bool good = weir_js_durable_judge(&info, &root, &wanted, why);
    if (good) {
        assert_int_equal(info.floor, 7);
        assert_int_equal(info.delivered, 9);
        assert_int_equal(info.created_ms, 2000);
    }
    weir_doc_fini(&doc);
    return good ? NULL : why;
}

#define EXPLICIT "\"ack_policy\":\"explicit\""

static void consumers_are_judged(void **state)
{
    (void)state;
    assert_null(judge(EXPLICIT ",\"ack_wait\":1000", NULL));
    assert_null(judge(EXPLICIT ",\"filter_subject\":\"a.*\"", "a.*"));
    assert_null(judge(EXPLICIT, ">"));
    assert_non_null(judge(EXPLICIT, "a"));
    assert_non_null(judge(EXPLICIT ",\"filter_subject\":\"a\"", NULL));
    assert_non_null(judge(EXPLICIT ",\"filter_subjects\":[\"a\",\"b\"]", NULL));
    assert_non_null(judge(EXPLICIT ",\"deliver_subject\":\"d\"", NULL));
    assert_non_null(judge(EXPLICIT ",\"headers_only\":true", NULL));
    assert_non_null(judge("\"ack_policy\":\"none\"", NULL));
    assert_non_null(judge("\"ack_policy\":\"all\"", NULL));
    assert_non_null(judge("", NULL));
}

static void what_replaces_something_is_younger_than_all_that_it_has_brought(void **state)
{
    (void)state;
    assert_true(weir_js_is_same(5000, 5000, 0));
    assert_true(weir_js_is_same(5000, 5000, 90000));
    assert_true(weir_js_is_same(5000, 5300, 90000));  // of another replica
    assert_true(weir_js_is_same(5000, 60000, 90000)); // which was there later
    assert_false(weir_js_is_same(5000, 5300, 0));
    assert_false(weir_js_is_same(5000, 5300, 5200));
    assert_false(weir_js_is_same(5000, 90001, 90000));
    assert_false(weir_js_is_same(5000, 89000, 90000)); // by a clock that is behind
}

static void another_message_is_acknowledged_at_a_subject_like_its_own(void **state)
{
    (void)state;
    char subject[128];
    weir_js_delivery is;
    assert_true(
        weir_js_ack_subject(subject, sizeof subject, "$JS.ACK.s.c.3.22.9.17.44", 99));
    assert_string_equal(subject, "$JS.ACK.s.c.1.99.0.17.44");
    assert_true(weir_js_ack_subject(subject, sizeof subject,
                                    "$JS.ACK.d.h.s.name.2.7.3.1000000.5.rnd", 8));
    assert_string_equal(subject, "$JS.ACK.d.h.s.name.1.8.0.1000000.5.rnd");
    assert_true(weir_js_delivery_read(&is, subject));
    assert_int_equal(is.sequence, 8);
    assert_int_equal(is.delivered, 1);
    assert_false(weir_js_ack_subject(subject, 10, "$JS.ACK.s.c.3.22.9.17.44", 99));
    assert_false(weir_js_ack_subject(subject, sizeof subject, "x", 99));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_has_a_star_where_fields_stand),
        cmocka_unit_test(subjects_that_no_record_could_have_are_refused),
        cmocka_unit_test(a_message_has_what_the_templates_say),
        cmocka_unit_test(the_id_is_that_of_the_place),
        cmocka_unit_test(records_without_a_legal_message_are_told),
        cmocka_unit_test(a_message_brings_headers_subject_and_sequence),
        cmocka_unit_test(a_record_of_a_bus_is_taken_out_of_its_message),
        cmocka_unit_test(starts_are_read),
        cmocka_unit_test(names_and_filters_are_those_that_a_server_takes),
        cmocka_unit_test(consumers_are_judged),
        cmocka_unit_test(what_replaces_something_is_younger_than_all_that_it_has_brought),
        cmocka_unit_test(another_message_is_acknowledged_at_a_subject_like_its_own),
    };
    weir_nats_open();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
