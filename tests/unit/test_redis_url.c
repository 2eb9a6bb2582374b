/*  Urls of Redis servers, and the words of their protocol. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "actors/redis_resp.h"
#include "actors/redis_url.h"

/* --- Urls -------------------------------------------------------------------------- */

static void check_text(const char *is, const char *wanted)
{
    if (wanted)
        assert_string_equal(is, wanted);
    else
        assert_null(is);
}

static void urls_have_their_parts(void **state)
{
    (void)state;
    const struct {
        const char *text, *host, *user, *password, *shown;
        uint16_t port;
        uint32_t db;
        bool local;
    } urls[] = {
        {"redis://h", "h", NULL, NULL, "redis://h:6379", 6379, 0, false},
        {"redis://h/", "h", NULL, NULL, "redis://h:6379", 6379, 0, false},
        {"REDIS://h:1/15", "h", NULL, NULL, "redis://h:1/15", 1, 15, false},
        {"redis://:s@h:65535", "h", NULL, "s", "redis://:***@h:65535", 65535, 0, false},
        {"redis://me:s:t@u@h", "h", "me", "s:t@u", "redis://me:***@h:6379", 6379, 0,
         false},
        {"redis://me:s/1@h/2", "h", "me", "s/1", "redis://me:***@h:6379/2", 6379, 2,
         false},
        {"redis://me@h", "h", "me", NULL, "redis://me@h:6379", 6379, 0, false},
        {"redis://a%3ab:%2f%40@h", "h", "a:b", "/@", "redis://a:b:***@h:6379", 6379, 0,
         false},
        {"redis://[::1]:7", "::1", NULL, NULL, "redis://[::1]:7", 7, 0, true},
        {"redis://[::ffff:127.0.0.1]", "::ffff:127.0.0.1", NULL, NULL,
         "redis://[::ffff:127.0.0.1]:6379", 6379, 0, true},
        {"redis://[fe80::1]", "fe80::1", NULL, NULL, "redis://[fe80::1]:6379", 6379, 0,
         false},
        {"redis://127.8.9.1", "127.8.9.1", NULL, NULL, "redis://127.8.9.1:6379", 6379, 0,
         true},
        {"redis://128.0.0.1", "128.0.0.1", NULL, NULL, "redis://128.0.0.1:6379", 6379, 0,
         false},
        {"redis://LocalHost", "LocalHost", NULL, NULL, "redis://LocalHost:6379", 6379, 0,
         true},
        {"redis://localhost.example", "localhost.example", NULL, NULL,
         "redis://localhost.example:6379", 6379, 0, false},
        {"unix:///a/b@/c", "/a/b@/c", NULL, NULL, "unix:///a/b@/c", 0, 0, true},
        {"unix://me:s@/x", "/x", "me", "s", "unix://me:***@/x", 0, 0, true},
        {"unix:///a b/c%20d/grün%3f", "/a b/c d/grün?", NULL, NULL,
         "unix:///a b/c d/grün?", 0, 0, true},
        {"redis://:s?3#@h", "h", NULL, "s?3#", "redis://:***@h:6379", 6379, 0, false},
    };
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        weir_redis_url url;
        weir_report report = {0};
        if (weir_redis_url_parse(&url, urls[i].text, &report))
            fail_msg("%s: %s", urls[i].text, report.text);
        assert_string_equal(url.host, urls[i].host);
        check_text(url.user, urls[i].user);
        check_text(url.password, urls[i].password);
        assert_string_equal(url.shown, urls[i].shown);
        assert_int_equal(url.port, urls[i].port);
        assert_int_equal(url.db, urls[i].db);
        assert_int_equal(weir_redis_url_is_local(&url), urls[i].local);
        weir_redis_url_fini(&url);
    }
}

static void what_is_no_url_is_refused_and_not_repeated(void **state)
{
    (void)state;
    const char *urls[] = {
        "",
        "hunter2",
        "http://hunter2",
        "rediss://hunter2",
        "redis:hunter2",
        "redis://",
        "redis://:hunter2@",
        "redis://:hunter2@/1",
        "redis://:hunter2@h:0",
        "redis://:hunter2@h:65536",
        "redis://:hunter2@h:",
        "redis://:hunter2@h:1x",
        "redis://:hunter2@h:-1",
        "redis://:hunter2@h/x",
        "redis://:hunter2@h/1/2",
        "redis://:hunter2@h/65536",
        "redis://:hunter2%4@h",
        "redis://:hunter2%@h",
        "redis://:hunter2%zz@h",
        "redis://:hunter2%00@h",
        "redis://::1/hunter2",
        "redis://[::1",
        "redis://[::1]x",
        "redis://h ost",
        "redis://h\nost",
        "unix://",
        "unix://hunter2",
        "unix://:hunter2@x",
        "unix://:hunter2%@/x",
        "redis://h?password=hunter2",
        "redis://h:1?password=hunter2",
        "redis://h/1?password=hunter2",
        "redis://h#hunter2",
        "unix:///x?db=1&password=hunter2",
        "redis://hunter2%0a@h",
        "unix://hunter2%0a@/x",
        "unix:///x%0ahunter2",
        ("unix:///hunter2456789012345678901234567890123456789012345678901"
         "23456789012345678901234567890123456789012345678901234567")};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        weir_redis_url url;
        weir_report report = {0};
        if (weir_redis_url_parse(&url, urls[i], &report) != WEIR_EINVAL)
            fail_msg("taken: %s", urls[i]);
        assert_string_equal(report.where, "url");
        assert_null(strstr(report.text, "hunter2"));
        assert_null(url.host);
    }
}

static void password_is_hidden_wherever_it_is_said(void **state)
{
    (void)state;
    const struct {
        const char *password, *said, *told;
    } cases[] = {
        {"s3", "ERR s3 and s3", "ERR *** and ***"},
        {"s3", "s", "s"},
        {"s3", "", ""},
        {"s", "sss", "*********"},
        {"s3", "ERR unknown command 's3', with args beginning with: 's3' 's",
         "ERR unknown command '***'"},
        {NULL, "ERR s3", "ERR s3"},
        {"", "ERR s3", "ERR s3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_redis_url url = {.password = (char *)cases[i].password};
        char *told = weir_redis_url_hide(&url, cases[i].said);
        assert_string_equal(told, cases[i].told);
        free(told);
    }
}

/* --- Words ------------------------------------------------------------------------- */

static void ids_are_exactly_two_numbers(void **state)
{
    (void)state;
    const struct {
        const char *text;
        bool good;
        weir_position id;
    } ids[] = {
        {"0-0", true, {0, 0}},
        {"12-345", true, {12, 345}},
        {"18446744073709551615-18446744073709551615", true, {UINT64_MAX, UINT64_MAX}},
        {"18446744073709551616-0", false, {0, 0}},
        {"1", false, {0, 0}},
        {"1-", false, {0, 0}},
        {"-1", false, {0, 0}},
        {"1-2-3", false, {0, 0}},
        {"1-2 ", false, {0, 0}},
        {"+1-2", false, {0, 0}},
        {"", false, {0, 0}}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        weir_position id;
        char again[WEIR_REDIS_ID_MAX];
        bool good = weir_redis_id_parse(&id, ids[i].text, strlen(ids[i].text));
        if (good != ids[i].good) fail_msg("%s", ids[i].text);
        if (!good) continue;
        assert_int_equal(id.a, ids[i].id.a);
        assert_int_equal(id.b, ids[i].id.b);
        assert_int_equal(weir_redis_id_put(id, again), strlen(ids[i].text));
        assert_string_equal(again, ids[i].text);
    }
}

static void commands_are_arrays_of_strings(void **state)
{
    (void)state;
    weir_buffer out = {0};
    weir_redis_put_command(&out, (const char *const[]){"AUTH", "", "x\r\n", NULL});
    weir_redis_put_head(&out, 1);
    weir_redis_put_number(&out, UINT64_MAX);
    const char wanted[] = "*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$3\r\nx\r\n\r\n"
                          "*1\r\n$20\r\n18446744073709551615\r\n";
    assert_int_equal(out.size, sizeof wanted - 1);
    assert_memory_equal(out.data, wanted, out.size);
    weir_buffer_fini(&out);
}

static void errors_are_judged_by_their_words(void **state)
{
    (void)state;
    const struct {
        const char *error;
        weir_redis_verdict verdict;
    } cases[] = {
        {"LOADING Redis is loading the dataset in memory", WEIR_REDIS_LATER},
        {"BUSY Redis is busy running a script.", WEIR_REDIS_LATER},
        {"TRYAGAIN Multiple keys request", WEIR_REDIS_LATER},
        {"CLUSTERDOWN Hash slot not served", WEIR_REDIS_LATER},
        {"MASTERDOWN Link with MASTER is down", WEIR_REDIS_LATER},
        {"READONLY You can't write against a read only replica.", WEIR_REDIS_LATER},
        {"NOREPLICAS Not enough good replicas to write.", WEIR_REDIS_LATER},
        {"OOM command not allowed when used memory > 'maxmemory'.", WEIR_REDIS_LATER},
        {"MISCONF Redis is configured to save RDB snapshots", WEIR_REDIS_LATER},
        {"ASK 3999 127.0.0.1:6381", WEIR_REDIS_LATER},
        {"ERR max number of clients reached", WEIR_REDIS_LATER},
        {"MOVED 3999 127.0.0.1:6381", WEIR_REDIS_MOVED},
        {"NOSCRIPT No matching script. Please use EVAL.", WEIR_REDIS_NO_SCRIPT},
        {"NOAUTH Authentication required.", WEIR_REDIS_NEVER},
        {"WRONGPASS invalid username-password pair", WEIR_REDIS_NEVER},
        {"WRONGTYPE Operation against a key", WEIR_REDIS_NEVER},
        {"NOPERM this user has no permissions", WEIR_REDIS_NEVER},
        {"ERR unknown command", WEIR_REDIS_NEVER},
        {"BUSYKEY Target key name already exists.", WEIR_REDIS_NEVER},
        {"EXECABORT Transaction discarded because of: OOM command not allowed when used "
         "memory > 'maxmemory'.",
         WEIR_REDIS_LATER},
        {"EXECABORT Transaction discarded because of previous errors.", WEIR_REDIS_NEVER},
        {"OOM", WEIR_REDIS_NEVER},
        {"", WEIR_REDIS_NEVER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (weir_redis_judge(cases[i].error) != cases[i].verdict)
            fail_msg("%s", cases[i].error);
}

static void moved_says_where(void **state)
{
    (void)state;
    char host[256];
    uint16_t moved_to;
    assert_true(weir_redis_moved("MOVED 3999 127.0.0.1:6381", host, &moved_to));
    assert_string_equal(host, "127.0.0.1");
    assert_int_equal(moved_to, 6381);
    assert_true(weir_redis_moved("MOVED 0 fe80::1:7", host, &moved_to));
    assert_string_equal(host, "fe80::1");
    assert_true(weir_redis_moved("MOVED 0 :7", host, &moved_to)); // the same host
    assert_string_equal(host, "");
    assert_true(weir_redis_moved("MOVED 0 ?:7", host, &moved_to));
    assert_string_equal(host, "");
    const char *bad[] = {"MOVED",           "MOVED 1",      "MOVED x h:1",
                         "MOVED 1 h",       "MOVED 1 h:",   "MOVED 1 h:0",
                         "MOVED 1 h:65536", "MOVED 1 h:1x", "MOVED 1 h:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (weir_redis_moved(bad[i], host, &moved_to)) fail_msg("%s", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_have_their_parts),
        cmocka_unit_test(what_is_no_url_is_refused_and_not_repeated),
        cmocka_unit_test(password_is_hidden_wherever_it_is_said),
        cmocka_unit_test(ids_are_exactly_two_numbers),
        cmocka_unit_test(commands_are_arrays_of_strings),
        cmocka_unit_test(errors_are_judged_by_their_words),
        cmocka_unit_test(moved_says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
