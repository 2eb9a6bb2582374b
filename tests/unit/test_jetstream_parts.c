/*  The parts of the JetStream store that need no server: urls, names, what JetStream
    says.                                                                           */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "actors/jetstream_api.h"
#include "actors/jetstream_url.h"

/* --- Urls -------------------------------------------------------------------------- */

typedef struct {
    const char *url, *shown;                           // shown NULL: refused
    const char *host, *port, *user, *password, *token; // of the last server
    bool tls, loopback;
} url_case;

static void is_text(const char *is, const char *wanted)
{
    if (!wanted)
        assert_null(is);
    else
        assert_string_equal(is, wanted);
}

static void urls_are_taken_apart(void **state)
{
    (void)state;
    const url_case cases[] = {
        {"nats://h", "nats://h:4222", "h", "4222", 0, 0, 0, false, false},
        {"NATS://h:1/", "nats://h:1", "h", "1", 0, 0, 0, false, false},
        {"tls://h:65535", "tls://h:65535", "h", "65535", 0, 0, 0, true, false},
        {"nats://u:p@h", "nats://u:***@h:4222", "h", "4222", "u", "p", 0, false, false},
        {"nats://u:@h", "nats://u:***@h:4222", "h", "4222", "u", "", 0, false, false},
        {"nats://t@h", "nats://***@h:4222", "h", "4222", 0, 0, "t", false, false},
        {"nats://u:a%40b%2cc@h", "nats://u:***@h:4222", "h", "4222", "u", "a@b,c", 0,
         false, false},
        {"nats://u:a:b@c@h", "nats://u:***@h:4222", "h", "4222", "u", "a:b@c", 0, false,
         false},
        {"nats://[::1]:7", "nats://[::1]:7", "::1", "7", 0, 0, 0, false, true},
        {"nats://[2001:db8::1]", "nats://[2001:db8::1]:4222", "2001:db8::1", "4222", 0, 0,
         0, false, false},
        {"nats://LocalHost", "nats://LocalHost:4222", "LocalHost", "4222", 0, 0, 0, false,
         true},
        {"tls://u:p@a:1,b:2", "tls://u:***@a:1,tls://u:***@b:2", "b", "2", "u", "p", 0,
         true, false},
        {"tls://u:p@a:1,nats://b", "tls://u:***@a:1,nats://b:4222", "b", "4222", 0, 0, 0,
         false, false},
        {"tls://t@a:1,v:q@b", "tls://***@a:1,tls://v:***@b:4222", "b", "4222", "v", "q",
         0, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const url_case *c = &cases[i];
        weir_nats_servers servers = {0};
        weir_report report = {0};
        if (weir_nats_servers_parse(&servers, c->url, &report))
            fail_msg("%s: %s", c->url, report.text);
        const weir_nats_server *last = &servers.items[servers.count - 1];
        assert_string_equal(servers.text, c->shown);
        is_text(last->host, c->host);
        is_text(last->port, c->port);
        is_text(last->user, c->user);
        is_text(last->password, c->password);
        is_text(last->token, c->token);
        assert_int_equal(last->tls, c->tls);
        assert_int_equal(last->is_loopback, c->loopback);
        weir_nats_servers_fini(&servers);
    }
}

static void bad_urls_are_refused_without_their_secrets(void **state)
{
    (void)state;
    const char *const bad[] = {
        "",
        "h:4222",
        "http://S3CRET@h",
        "nats://",
        "nats://u:S3CRET@",
        "nats://:S3CRET@h",
        "nats://@h",
        "nats://u:S3CRET@h:0",
        "nats://u:S3CRET@h:65536",
        "nats://u:S3CRET@h:12x",
        "nats://u:S3CRET@h:",
        "nats://u:S3CRET%4@h",
        "nats://u:S3CRET%0a@h",
        "nats://S3CRET%zz@h",
        "nats://u:S3CRET\n@h",
        "nats://S3CRET\n@h",
        "nats://u:S3CRET@[::1",
        "nats://u:S3CRET@[::1]x",
        "nats://u:S3CRET@a b",
        "nats://u:S3CRET@h/path",
        "nats://u:S3CRET@h,",
        "nats://u:S3CRET@h,,nats://i",
        "nats://u:S3CRET@h,ftp://i",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weir_nats_servers servers = {0};
        weir_report report = {0};
        if (!weir_nats_servers_parse(&servers, bad[i], &report)) fail_msg("%s", bad[i]);
        assert_null(servers.items);
        assert_true(report.text[0]);
        assert_null(strstr(report.text, "S3CRET"));
        assert_null(strstr(report.where, "S3CRET"));
    }
}

/* --- Names ------------------------------------------------------------------------- */

static void names_of_streams_are_the_bus_s_own(void **state)
{
    (void)state;
    weir_jetstream_config config = weir_jetstream_defaults;
    weir_js_names names;
    uint32_t shard;
    config.bus = "a_1";
    weir_js_names_make(&names, &config, UINT32_MAX);
    assert_string_equal(names.stream, "weir_a_1_4294967295");
    assert_string_equal(names.subject, "weir.a_1.4294967295");
    assert_true(weir_js_names_shard(&config, names.stream, strlen(names.stream), &shard));
    assert_int_equal(shard, UINT32_MAX);
    const char *others[] = {"weir_a_1",
                            "weir_a_1_",
                            "weir_a_1_01",
                            "weir_a_1_x",
                            "weir_a_1_1_2",
                            "weir_a_1_-1",
                            "weir_a_2_1",
                            "x",
                            "weir_a_1_1 ",
                            "weir_b_1_1",
                            "",
                            "_",
                            "weir_a_1_4294967296"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(weir_js_names_shard(&config, others[i], strlen(others[i]), &shard));
}

/* --- What JetStream says ----------------------------------------------------------- */

static void deliveries_are_read_in_both_forms(void **state)
{
    (void)state;
    weir_js_delivery is;
    assert_true(weir_js_delivery_read(&is, "$JS.ACK.s.c.1.22.3.1700000000123456789.44"));
    assert_string_equal(is.consumer, "c");
    assert_int_equal(is.sequence, 22);
    assert_int_equal(is.pending, 44);
    assert_int_equal(is.stored_ms, 1700000000123);
    assert_true(weir_js_delivery_read(&is, "$JS.ACK.d.h.s.name.1.7.3.1000000.5.rnd"));
    assert_string_equal(is.consumer, "name");
    assert_int_equal(is.sequence, 7);
    assert_int_equal(is.pending, 5);
    assert_int_equal(is.stored_ms, 1);
    assert_true(weir_js_delivery_read(&is, "$JS.ACK._.h.s.name.1.7.3.1000000.5"));
    assert_int_equal(is.sequence, 7);
    const char *bad[] = {"",
                         "$JS.ACK.",
                         "$JS.ACK.s.c.1.22.3.17",
                         "x.y.s.c.1.22.3.1.44",
                         "$JS.ACK.s.c.1.0.3.1.44",
                         "$JS.ACK.d.h.s.c.1.22.3.4",
                         NULL};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(weir_js_delivery_read(&is, bad[i]));
}

static void read_json(weir_doc *doc, weir_value *root, const char *text)
{
    size_t size = strlen(text);
    assert_int_equal(weir_doc_parse(doc, WEIR_JSON, (const uint8_t *)text, size),
                     WEIR_OK);
    weir_json_read((const uint8_t *)text + doc->index.root, doc->index.root_size, root);
}

static void times_of_streams_are_read(void **state)
{
    (void)state;
    weir_doc doc = {0};
    weir_value root;
    weir_js_state is;
    read_json(&doc, &root,
              "{\"state\":{\"messages\":2,\"bytes\":300,\"first_seq\":4,\"last_seq\":9,"
              "\"first_ts\":\"2024-02-29T01:02:03.456789Z\","
              "\"last_ts\":\"2024-02-29T01:02:04Z\"}}");
    weir_js_state_read(&is, &root);
    assert_int_equal(is.first, 4);
    assert_int_equal(is.last, 9);
    assert_int_equal(is.messages, 2);
    assert_int_equal(is.first_ms, 1709168523456);
    assert_int_equal(is.last_ms, 1709168524000);
    read_json(&doc, &root,
              "{\"state\":{\"messages\":0,\"first_seq\":0,\"last_seq\":9,"
              "\"first_ts\":\"0001-01-01T00:00:00Z\"}}");
    weir_js_state_read(&is, &root);
    assert_int_equal(is.first, 10);
    assert_int_equal(is.first_ms, 0);
    read_json(&doc, &root, "[]"); // nonsense is no stream
    weir_js_state_read(&is, &root);
    assert_int_equal(is.last, 0);
    weir_doc_fini(&doc);
}

static weir_js_verdict judge(const char *members, weir_buffer *update, char why[200])
{
    char text[1024];
    weir_doc doc = {0};
    weir_value root;
    weir_jetstream_config config = weir_jetstream_defaults;
    weir_js_names names;
    config.bus = "b";
    weir_js_names_make(&names, &config, 0);
    snprintf(text, sizeof text, "{\"config\":{\"name\":\"weir_b_0\",%s}}", members);
    read_json(&doc, &root, text);
    update->size = 0;
    weir_js_verdict is = weir_js_judge_stream(&root, &config, &names, update, why);
    weir_buffer_put_byte(update, '\0');
    weir_doc_fini(&doc);
    return is;
}

#define GOOD                                                                             \
    "\"subjects\":[\"weir.b.0\"],\"retention\":\"limits\",\"storage\":\"file\","         \
    "\"discard\":\"old\",\"allow_direct\":true"
#define BOUNDS                                                                           \
    "\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,\"num_replicas\":1,"                 \
    "\"duplicate_window\":3600000000000"

static void streams_are_judged(void **state)
{
    (void)state;
    weir_buffer update = {0};
    char why[200];
    assert_int_equal(judge(GOOD "," BOUNDS, &update, why), WEIR_JS_FITS);
    assert_int_equal(judge(GOOD "," BOUNDS ",\"no_ack\":false,\"mirror\":null,"
                                "\"max_msgs_per_subject\":-1",
                           &update, why),
                     WEIR_JS_FITS);
    const char *const foreign[] = {
        BOUNDS,
        GOOD "," BOUNDS ",\"no_ack\":true",
        GOOD "," BOUNDS ",\"sealed\":true",
        GOOD "," BOUNDS ",\"mirror\":{\"name\":\"x\"}",
        GOOD "," BOUNDS ",\"sources\":[{\"name\":\"x\"}]",
        GOOD "," BOUNDS ",\"max_msgs_per_subject\":5",
        "\"subjects\":[\"weir.b.0\",\"x\"],\"retention\":\"limits\",\"storage\":\"file\","
        "\"discard\":\"old\"",
        "\"subjects\":[\"weir.b.>\"],\"retention\":\"limits\",\"storage\":\"file\","
        "\"discard\":\"old\"",
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        why[0] = '\0';
        assert_int_equal(judge(foreign[i], &update, why), WEIR_JS_FOREIGN);
        assert_true(why[0]);
    }
    weir_buffer_fini(&update);
}

/*  All that is not ours stays.                                                      */
static void update_changes_the_bounds_alone(void **state)
{
    (void)state;
    weir_buffer update = {0};
    char why[200];
    weir_doc doc = {0};
    weir_value root, value;
    assert_int_equal(judge(GOOD ",\"max_msgs\":7,\"max_bytes\":-1,\"num_replicas\":1,"
                                "\"metadata\":{\"a\":\"\\\"x\"},\"description\":\"d\\n\"",
                           &update, why),
                     WEIR_JS_OUTDATED);
    read_json(&doc, &root, (const char *)update.data);
    assert_true(weir_js_member(&root, "max_msgs", &value));
    assert_int_equal(value.integer, -1);
    assert_int_equal(weir_js_number(&root, "duplicate_window"), 3600000000000);
    char text[32];
    weir_js_text(&root, "description", text, sizeof text);
    assert_string_equal(text, "d\n");
    weir_js_text(&root, "name", text, sizeof text);
    assert_string_equal(text, "weir_b_0");
    assert_true(weir_js_member(&root, "metadata", &value));
    weir_js_text(&value, "a", text, sizeof text);
    assert_string_equal(text, "\"x");
    weir_doc_fini(&doc);
    weir_buffer_fini(&update);
}

static void id_of_a_message_is_found_in_its_headers(void **state)
{
    (void)state;
    weir_doc doc = {0};
    weir_value root;
    char id[80];
    // "NATS/1.0\r\nA: b\r\nNats-Msg-Id: x:1:2:3\r\n\r\n"
    read_json(&doc, &root,
              "{\"message\":{\"hdrs\":"
              "\"TkFUUy8xLjANCkE6IGINCk5hdHMtTXNnLUlkOiB4OjE6MjozDQoNCg==\"}}");
    weir_js_message_id(&root, id, sizeof id);
    assert_string_equal(id, "x:1:2:3");
    const char *none[] = {"{}", "{\"message\":{}}", "{\"message\":{\"hdrs\":\"***\"}}",
                          "{\"message\":{\"hdrs\":\"\"}}", "{\"message\":5}"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        read_json(&doc, &root, none[i]);
        weir_js_message_id(&root, id, sizeof id);
        assert_string_equal(id, "");
    }
    weir_doc_fini(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(bad_urls_are_refused_without_their_secrets),
        cmocka_unit_test(names_of_streams_are_the_bus_s_own),
        cmocka_unit_test(deliveries_are_read_in_both_forms),
        cmocka_unit_test(times_of_streams_are_read),
        cmocka_unit_test(streams_are_judged),
        cmocka_unit_test(update_changes_the_bounds_alone),
        cmocka_unit_test(id_of_a_message_is_found_in_its_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
