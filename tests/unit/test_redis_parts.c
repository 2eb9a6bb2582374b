/*  What source.redis and sink.redis are made of, without a server: from records to
   entries and back. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "actors/redis_form.h"
#include "actors/redis_resp.h"
#include "actors/redis_take.h"

/* --- From a record to an entry ----------------------------------------------------- */

static const weir_rules no_fields = {NULL, 0};

static weir_subject subject_of(const char *payload, weir_doc *doc)
{
    return (weir_subject){.record = {.format = WEIR_JSON,
                                     .data = (const uint8_t *)payload,
                                     .size = strlen(payload)},
                          .doc = doc};
}

static void assert_text(const weir_buffer *is, const char *wanted)
{
    assert_int_equal(is->size, strlen(wanted));
    assert_memory_equal(is->data, wanted, is->size);
}

static void a_record_is_one_field_with_its_payload_unless_told_otherwise(void **state)
{
    (void)state;
    weir_redis_form form;
    weir_report report = {0};
    weir_doc doc = {0};
    weir_subject subject = subject_of("{\"a\":1}", &doc);
    weir_redis_form_config config = {
        .stream = "s:{a}", .fields = &no_fields, .ids = true};
    assert_int_equal(weir_redis_form_init(&form, &config, &report), WEIR_OK);
    assert_null(weir_redis_form_fill(&form, &subject));
    assert_text(&form.name, "s:1");
    assert_text(&form.words, "$4\r\ndata\r\n$7\r\n{\"a\":1}\r\n");
    assert_int_equal(form.kind, WEIR_REDIS_NO_ID);
    subject = subject_of("{\"b\":1}", &doc);
    assert_non_null(weir_redis_form_fill(&form, &subject));
    weir_redis_form_fini(&form);
    weir_doc_fini(&doc);
}

static void fields_are_texts_and_anything_else_is_json(void **state)
{
    (void)state;
    weir_rule rules[] = {{.name = (char *)"x", .where = (char *)"<{a}>"},
                         {.name = (char *)"y", .where = (char *)"{{{b.c}"}};
    const weir_rules fields = {rules, 2};
    weir_redis_form form;
    weir_report report = {0};
    weir_doc doc = {0};
    weir_redis_form_config config = {.stream = "s", .fields = &fields};
    weir_subject subject =
        subject_of("{\"a\":1.50,\"b\":{\"c\":[null,\"\\u00fc\"]}}", &doc);
    assert_int_equal(weir_redis_form_init(&form, &config, &report), WEIR_OK);
    assert_null(weir_redis_form_fill(&form, &subject));
    assert_text(&form.words, "$1\r\nx\r\n$6\r\n<1.50>\r\n"
                             "$1\r\ny\r\n$16\r\n{[null,\"\\u00fc\"]\r\n");
    weir_redis_form_fini(&form);
    weir_doc_fini(&doc);
}

static void a_record_of_a_bus_bears_its_id(void **state)
{
    (void)state;
    const weir_place place = {
        .nonce = 0xabc, .epoch = 2, .sequence = 10, .offset = 10, .shard = 3};
    weir_redis_form form;
    weir_report report = {0};
    weir_doc doc = {0};
    weir_subject subject = subject_of("{\"n\":5}", &doc);
    weir_redis_form_config config = {.stream = "s", .fields = &no_fields, .ids = true};
    subject.place = &place;
    subject.record.in_run = 7;
    assert_int_equal(weir_redis_form_init(&form, &config, &report), WEIR_OK);
    assert_null(weir_redis_form_fill(&form, &subject));
    assert_int_equal(form.kind, WEIR_REDIS_PLACE);
    assert_int_equal(form.place.nonce, 0xabc);
    assert_int_equal(form.place.epoch, 2);
    assert_int_equal(form.place.shard, 3);
    assert_int_equal(form.place.sequence, 17);
    weir_redis_form_fini(&form);
    config.id = "o-{n}";
    assert_int_equal(weir_redis_form_init(&form, &config, &report), WEIR_OK);
    assert_null(weir_redis_form_fill(&form, &subject));
    assert_int_equal(form.kind, WEIR_REDIS_TEXT);
    assert_text(&form.words, "$3\r\no-5\r\n$4\r\ndata\r\n$7\r\n{\"n\":5}\r\n");
    weir_redis_form_fini(&form);
    config.id = "{missing}";
    assert_int_equal(weir_redis_form_init(&form, &config, &report), WEIR_OK);
    assert_non_null(weir_redis_form_fill(&form, &subject));
    weir_redis_form_fini(&form);
    config.ids = false;
    config.id = NULL;
    assert_int_equal(weir_redis_form_init(&form, &config, &report), WEIR_OK);
    assert_null(weir_redis_form_fill(&form, &subject));
    assert_int_equal(form.kind, WEIR_REDIS_NO_ID);
    weir_redis_form_fini(&form);
    weir_doc_fini(&doc);
}

/* --- From an entry to a record ----------------------------------------------------- */

/*  The fields as a server would send them.                                           */
static redisReply *fields_of(size_t count, const char *const *texts, const size_t *sizes)
{
    weir_buffer bytes = {0};
    void *reply = NULL;
    redisReader *reader = redisReaderCreate();
    weir_redis_put_head(&bytes, count);
    for (size_t i = 0; i < count; i++)
        weir_redis_put_word(&bytes, texts[i], sizes ? sizes[i] : strlen(texts[i]));
    redisReaderFeed(reader, (const char *)bytes.data, bytes.size);
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
    assert_non_null(reply);
    redisReaderFree(reader);
    weir_buffer_fini(&bytes);
    return reply;
}

static const weir_position at = {7, 8};

static void check_header(const weir_redis_take *take, const char *name,
                         const char *wanted)
{
    weir_value value;
    weir_record record = {.headers = take->envelope.headers,
                          .headers_size = take->envelope.headers_size};
    weir_record_header(&record, name, strlen(name), &value);
    assert_int_equal(value.type, wanted ? WEIR_STR : WEIR_MISSING);
    if (!wanted) return;
    assert_int_equal(value.size, strlen(wanted));
    assert_memory_equal(value.data, wanted, value.size);
}

static void a_named_field_is_the_payload(void **state)
{
    (void)state;
    weir_redis_take take = {.stream = "s", .field = "b"};
    redisReply *fields =
        fields_of(4, (const char *const[]){"a", "1", "b", "{\"x\":2}"}, NULL);
    assert_null(weir_redis_take_entry(&take, at, fields));
    assert_int_equal(take.size, 7);
    assert_memory_equal(take.data, "{\"x\":2}", 7);
    assert_false(take.envelope.whole);
    check_header(&take, "redis_stream", "s");
    check_header(&take, "redis_id", "7-8");
    check_header(&take, "weir_id", NULL);
    take.field = "c";
    assert_non_null(weir_redis_take_entry(&take, at, fields));
    assert_memory_equal(take.data, "a=1\nb={\"x\":2}\n", take.size);
    freeReplyObject(fields);
    weir_redis_take_fini(&take);
}

static void a_record_of_weir_comes_back_as_it_was(void **state)
{
    (void)state;
    weir_buffer record = {0}, headers = {0};
    weir_redis_take take = {.stream = "s"};
    weir_put_map(&headers, 2);
    weir_put_str(&headers, "tenant", 6);
    weir_put_str(&headers, "acme", 4);
    weir_put_str(&headers, "redis_id", 8);
    weir_put_str(&headers, "1-1", 3);
    weir_record_put(&(weir_record){.has_ts = true,
                                   .ts_ms = 99,
                                   .key = {.type = WEIR_INT, .integer = -4},
                                   .format = WEIR_TEXT,
                                   .data = (const uint8_t *)"raw\xff",
                                   .size = 4,
                                   .headers = headers.data,
                                   .headers_size = headers.size},
                    &record);
    redisReply *fields =
        fields_of(4, (const char *const[]){"i", "n:1:0:5", "r", (char *)record.data},
                  (const size_t[]){1, 7, 1, record.size});
    assert_null(weir_redis_take_entry(&take, at, fields));
    assert_true(take.envelope.whole && take.envelope.has_ts);
    assert_int_equal(take.envelope.ts_ms, 99);
    assert_int_equal(take.envelope.format, WEIR_TEXT);
    assert_int_equal(take.envelope.key.integer, -4);
    assert_memory_equal(take.data, "raw\xff", take.size);
    check_header(&take, "tenant", "acme");
    check_header(&take, "redis_id", "7-8");
    check_header(&take, "weir_id", "n:1:0:5");
    freeReplyObject(fields);
    /*  One byte less is a document of two fields.                                    */
    fields = fields_of(4, (const char *const[]){"i", "n:1:0:5", "r", (char *)record.data},
                       (const size_t[]){1, 7, 1, record.size - 1});
    assert_null(weir_redis_take_entry(&take, at, fields));
    assert_int_equal(take.envelope.format, WEIR_MSGPACK);
    check_header(&take, "weir_id", NULL);
    freeReplyObject(fields);
    weir_redis_take_fini(&take);
    weir_buffer_fini(&record);
    weir_buffer_fini(&headers);
}

static void refuse(size_t count, const char *const *texts, const char *words)
{
    weir_redis_take take = {.stream = "s"};
    redisReply *fields = fields_of(count, texts, NULL);
    const char *error = weir_redis_take_entry(&take, at, fields);
    assert_non_null(error);
    if (!strstr(error, words)) fail_msg("not \"%s\": %s", words, error);
    freeReplyObject(fields);
    weir_redis_take_fini(&take);
}

static void what_makes_no_document_is_refused(void **state)
{
    (void)state;
    refuse(0, NULL, "no fields");
    refuse(1, (const char *const[]){"a"}, "no sense");
    refuse(2, (const char *const[]){"\xff", "1"}, "UTF-8");
    refuse(6, (const char *const[]){"a", "1", "b", "2", "a", "3"}, "twice");
    weir_redis_take take = {.stream = "s"};
    redisReply nil = {.type = REDIS_REPLY_NIL};
    assert_non_null(weir_redis_take_entry(&take, at, &nil));
    weir_redis_take_fini(&take);
}

static void what_is_shown_of_a_bad_entry_is_bounded(void **state)
{
    (void)state;
    static char large[1 << 20];
    memset(large, 'x', sizeof large - 1);
    weir_redis_take take = {.stream = "s"};
    redisReply *fields =
        fields_of(4, (const char *const[]){"a", large, "a", large}, NULL);
    assert_non_null(weir_redis_take_entry(&take, at, fields));
    assert_in_range(take.size, 1000, (64 << 10) + 2);
    freeReplyObject(fields);
    weir_redis_take_fini(&take);
}

/* --- Errors ------------------------------------------------------------------------ */

static void who_is_not_let_in_is_told_from_who_lacks_a_key(void **state)
{
    (void)state;
    assert_true(weir_redis_is_locked_out("NOAUTH Authentication required."));
    assert_true(weir_redis_is_locked_out(
        "WRONGPASS invalid username-password pair or user is disabled."));
    assert_true(weir_redis_is_locked_out(
        "NOPERM this user has no permissions to run the 'xadd' command"));
    assert_false(weir_redis_is_locked_out("NOPERM this user has no permissions to access "
                                          "one of the keys used as arguments"));
    assert_false(weir_redis_is_locked_out("NOPERM No permissions to access a key"));
    assert_false(weir_redis_is_locked_out("WRONGTYPE Operation against a key"));
    assert_true(weir_redis_is_locked_out(
        "ERR The user executing the script can't run this command or subcommand script: "
        "104ae65debf45156ded1e8e613705534c8e62c17, on @user_script:1."));
    assert_false(
        weir_redis_is_locked_out("ERR The user executing the script can't access "
                                 "at least one of the keys mentioned in the "
                                 "command arguments"));
    assert_true(weir_redis_is_locked_out("EXECABORT Transaction discarded because of: "
                                         "NOPERM this user has no permissions to run the "
                                         "'exec' command"));
    assert_false(weir_redis_is_locked_out(
        "EXECABORT Transaction discarded because of previous errors."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_one_field_with_its_payload_unless_told_otherwise),
        cmocka_unit_test(fields_are_texts_and_anything_else_is_json),
        cmocka_unit_test(a_record_of_a_bus_bears_its_id),
        cmocka_unit_test(a_named_field_is_the_payload),
        cmocka_unit_test(a_record_of_weir_comes_back_as_it_was),
        cmocka_unit_test(what_makes_no_document_is_refused),
        cmocka_unit_test(what_is_shown_of_a_bad_entry_is_bounded),
        cmocka_unit_test(who_is_not_let_in_is_told_from_who_lacks_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
