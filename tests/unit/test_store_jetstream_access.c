/*  Who lets the JetStream store in, and what it tells of that: authorization, TLS, and
    that no secret is in any text.                                                   */
#include "help_jetstream.h"
#include <fcntl.h>
#include <sys/stat.h>
#include "runtime/log.h"

#define PASSWORD "Xy%217zw" // Xy!7zw

static const char *const secrets[] = {"Xy!7zw", "Xy%217zw", "wr0ng", "t0ken", NULL};

static char log_path[] = "/tmp/test_jetstream_log.XXXXXX";
static int log_fd;

static int begin_log(void **state)
{
    (void)state;
    log_fd = mkstemp(log_path);
    weir_log_configure(WEIR_DEBUG, false, log_fd);
    return log_fd < 0;
}

static int end_log(void **state)
{
    (void)state;
    close(log_fd);
    return unlink(log_path);
}

static void has_no_secret(const char *text)
{
    for (int i = 0; secrets[i]; i++)
        if (strstr(text, secrets[i])) fail_msg("a secret: %s", text);
}

static char *read_log(void)
{
    char *text = calloc(1, 1 << 20);
    assert_true(pread(log_fd, text, (1 << 20) - 1, 0) > 0);
    return text;
}

static void log_has_no_secret(void)
{
    char *text = read_log();
    has_no_secret(text);
    free(text);
}

static void start_with(const char *settings)
{
    help_nats_init(&server, settings);
    help_nats_start(&server);
}

static weir_jetstream_config config_with(const char *credentials)
{
    static char url[128];
    weir_jetstream_config config = config_at(server.port);
    config.url = help_nats_url(server.port, credentials, url);
    config.timeout_us = 2000000;
    return config;
}

/*  What a first batch is answered; its text, and those of reads and lists, are looked
    through.                                                                        */
static weir_store_result try_with(const weir_jetstream_config *config, char text[256])
{
    weir_store *store = new_store(config);
    weir_batch *batch = make_batch(0, 1, 1, 3, 20);
    weir_store_result result = write_batch(store, batch);
    snprintf(text, 256, "%s", batch->text);
    has_no_secret(batch->text);
    has_no_secret(stats_of(store).error);
    weir_read read = {.max_records = 9, .max_bytes = 1 << 20};
    read_any(store, &read);
    has_no_secret(read.text);
    assert_int_equal(read.err != WEIR_OK, result != WEIR_STORE_SAFE);
    weir_read_fini(&read);
    weir_store_shard *list;
    size_t count;
    weir_report report = {0};
    if (!store->class->shards(store, &list, &count, &report)) free(list);
    has_no_secret(report.text);
    has_no_secret(report.where);
    free_batch(&batch);
    close_store(&store);
    log_has_no_secret();
    return result;
}

static void has_words(const char *text, const char *word)
{
    if (!strstr(text, word)) fail_msg("no '%s': %s", word, text);
}

/* --- Authorization ----------------------------------------------------------------- */

static void wrong_password_is_fatal(void **state)
{
    char text[256];
    NEEDS_SERVER();
    start_with("authorization { user: bob, password: \"Xy!7zw\" }");
    weir_jetstream_config config = config_with("bob:wr0ng");
    assert_int_equal(try_with(&config, text), WEIR_STORE_FATAL);
    has_words(text, "authorization");
    config = config_with(NULL);
    assert_int_equal(try_with(&config, text), WEIR_STORE_FATAL);
    has_words(text, "authorization");
    config = config_with("bob:" PASSWORD);
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
}

static void user_without_password_is_a_token(void **state)
{
    char text[256];
    NEEDS_SERVER();
    start_with("authorization { token: t0ken }");
    weir_jetstream_config config = config_with("wr0ng");
    assert_int_equal(try_with(&config, text), WEIR_STORE_FATAL);
    has_words(text, "authorization");
    config = config_with("t0ken");
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
}

static void quotes_and_backslashes_of_a_login_reach_the_server(void **state)
{
    char text[256];
    NEEDS_SERVER();
    start_with("authorization { user: \"b\\\"ob\", password: \"x\\\"\\\\y\" }");
    weir_jetstream_config config = config_with("b%22ob:x%22%5cy");
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
    end_server(state);
    start_with("authorization { token: \"\\\\t\\\"\" }");
    config = config_with("%5ct%22");
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
}

static void what_is_not_permitted_is_fatal(void **state)
{
    NEEDS_SERVER();
    start_with(
        "authorization { users: ["
        "{ user: a, password: t0ken, permissions: { publish: { deny: \"weir.>\" } } },"
        "{ user: b, password: t0ken,"
        "  permissions: { publish: { deny: \"$JS.API.STREAM.>\" } } } ] }");
    weir_jetstream_config config = config_with("a:t0ken");
    weir_store *store = new_store(&config);
    weir_batch *batch = make_batch(0, 1, 1, 3, 20);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
    has_words(batch->text, "authorization");
    has_words(batch->text, "weir.test.0");
    free_batch(&batch);
    close_store(&store);
    config = config_with("b:t0ken");
    store = new_store(&config);
    batch = make_batch(0, 1, 1, 3, 20);
    assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
    has_words(batch->text, "authorization");
    has_words(batch->text, "STREAM.INFO");
    weir_store_shard *list;
    size_t count;
    weir_report report = {0};
    assert_int_not_equal(store->class->shards(store, &list, &count, &report), WEIR_OK);
    has_words(report.text, "authorization");
    free_batch(&batch);
    close_store(&store);
}

static void server_has_complained_of_nothing(void)
{
    char path[128], text[1 << 16];
    snprintf(path, sizeof path, "%s/log", server.folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    if (strstr(text, "Violation")) fail_msg("%s", strstr(text, "Violation"));
}

/*  As docs/jetstream.md lists them.                                                 */
static void these_permissions_are_enough(void **state)
{
    char text[256];
    NEEDS_SERVER();
    start_with("authorization { users: [ { user: a, password: t0ken, permissions: {"
               "publish: [\"weir.test.*\", \"$JS.API.STREAM.INFO.*\","
               " \"$JS.API.STREAM.CREATE.*\", \"$JS.API.STREAM.UPDATE.*\","
               " \"$JS.API.STREAM.MSG.GET.*\", \"$JS.API.STREAM.LIST\","
               " \"$JS.API.CONSUMER.CREATE.*\", \"$JS.API.CONSUMER.DELETE.*.*\","
               " \"$JS.API.CONSUMER.MSG.NEXT.*.*\"], subscribe: \"_INBOX.>\" } } ] }");
    weir_jetstream_config config = config_with("a:t0ken");
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
    config.keep_records = 2; // another store: it looks at the last message, and updates
    weir_store *store = new_store(&config);
    put(store, 0, 1, 4, 3, 20);
    for (uint32_t page = 1; page < 8; page++) { // more consumers than are kept
        weir_read read = {.after = {page - 1, 0}, .max_records = 1, .max_bytes = 1};
        read_once(store, &read);
        weir_read_fini(&read);
    }
    assert_int_equal(look_at(store, 0).last, 6);
    close_store(&store);
    server_has_complained_of_nothing();
}

static void server_without_jetstream_is_told(void **state)
{
    NEEDS_SERVER();
    start_with("accounts { A { users: [ { user: a, password: t0ken } ] } }");
    weir_jetstream_config config = config_with("a:t0ken");
    weir_store *store = new_store(&config);
    weir_batch *batch = make_batch(0, 1, 1, 3, 20);
    weir_store_result result = write_batch(store, batch);
    assert_true(result != WEIR_STORE_SAFE);
    has_words(batch->text, "JetStream");
    free_batch(&batch);
    close_store(&store);
}

/* --- TLS --------------------------------------------------------------------------- */

static char keys[64]; // folder

static bool make_certificates(void)
{
    char command[2048];
    snprintf(keys, sizeof keys, "/tmp/test_jetstream_keys.XXXXXX");
    if (!mkdtemp(keys)) return false;
    snprintf(
        command, sizeof command,
        "cd %s && exec >log 2>&1 && "
        "new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes' && "
        "$new -x509 -keyout ca.key -out ca.pem -days 2 -subj /CN=ca && "
        "$new -x509 -keyout other.key -out other.pem -days 2 -subj /CN=other && "
        "$new -keyout server.key -out server.csr -subj /CN=server && "
        "echo subjectAltName=IP:127.0.0.1,DNS:localhost >names && "
        "echo subjectAltName=DNS:localhost >name && "
        "sign='openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 2' && "
        "$sign -CAcreateserial -out server.pem -extfile names && "
        "$sign -CAcreateserial -out named.pem -extfile name",
        keys);
    return system(command) == 0;
}

static int remove_certificates(void **state)
{
    unsetenv("SSL_CERT_FILE");
    if (keys[0]) nftw(keys, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    keys[0] = '\0';
    return end_server(state);
}

static void trust(const char *file)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", keys, file);
    setenv("SSL_CERT_FILE", path, 1);
}

static void start_with_tls(void)
{
    char settings[512];
    snprintf(settings, sizeof settings,
             "tls { cert_file: \"%s/server.pem\", key_file: \"%s/server.key\" }\n"
             "authorization { user: bob, password: \"Xy!7zw\" }",
             keys, keys);
    start_with(settings);
}

#define NEEDS_OPENSSL()                                                                  \
    do {                                                                                 \
        if (!make_certificates()) {                                                      \
            print_message("skipped: openssl makes no certificates\n");                   \
            skip();                                                                      \
        }                                                                                \
    } while (0)

static void tls_trusts_who_the_system_trusts(void **state)
{
    char text[256], url[128];
    NEEDS_SERVER();
    NEEDS_OPENSSL();
    start_with_tls();
    weir_jetstream_config config = config_with("bob:" PASSWORD);
    config.tls = true;
    trust("other.pem");
    assert_int_equal(try_with(&config, text), WEIR_STORE_FATAL);
    has_words(text, "cert");
    trust("ca.pem");
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
    snprintf(url, sizeof url, "tls://bob:%s@localhost:%u", PASSWORD, server.port);
    config.url = url;
    config.tls = false;
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
}

static void tls_wants_the_name_of_the_server(void **state)
{
    char text[256], url[128], settings[512];
    NEEDS_SERVER();
    NEEDS_OPENSSL();
    snprintf(settings, sizeof settings,
             "tls { cert_file: \"%s/named.pem\", key_file: \"%s/server.key\" }", keys,
             keys);
    start_with(settings);
    trust("ca.pem");
    weir_jetstream_config config = config_with(NULL);
    config.tls = true;
    assert_int_equal(try_with(&config, text), WEIR_STORE_FATAL);
    has_words(text, "cert");
    snprintf(url, sizeof url, "tls://localhost:%u", server.port);
    config.url = url;
    assert_int_equal(try_with(&config, text), WEIR_STORE_SAFE);
}

static void server_without_tls_is_fatal_when_tls_is_wanted(void **state)
{
    char text[256];
    NEEDS_SERVER();
    start_with(NULL);
    weir_jetstream_config config = config_with(NULL);
    config.tls = true;
    assert_int_equal(try_with(&config, text), WEIR_STORE_FATAL);
    has_words(text, "Secure Connection");
}

static void much_passes_through_tls_both_ways(void **state)
{
    NEEDS_SERVER();
    NEEDS_OPENSSL();
    start_with_tls();
    trust("ca.pem");
    weir_jetstream_config config = config_with("bob:" PASSWORD);
    config.tls = true;
    weir_store *store = new_store(&config);
    for (uint64_t i = 0; i < 20; i++) {
        weir_batch *batch = make_batch(0, 1, 1 + i * 100, 100, 10000);
        assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
        free_batch(&batch);
    }
    assert_int_equal(count_all(store, 0, 500).records, 2000);
    close_store(&store);
}

/*  It hangs in the handshake, and then with data that the socket does not take.       */
static void stopped_tls_server_holds_up_nobody(void **state)
{
    NEEDS_SERVER();
    NEEDS_OPENSSL();
    start_with_tls();
    trust("ca.pem");
    help_proxy *proxy = help_proxy_start(NULL, server.port);
    weir_jetstream_config config = config_with("bob:" PASSWORD);
    char url[128];
    config.url = help_nats_url(help_proxy_port(proxy), "bob:" PASSWORD, url);
    config.tls = true;
    config.timeout_us = 800000;
    uint64_t greeting = help_nats_greeting(&server);
    for (int i = 0; i < 2; i++) {
        if (i == 0) help_proxy_hold_after(proxy, 2, greeting + 100);
        weir_store *store = new_store(&config);
        if (i == 1) put(store, 0, 1, 1, 10, 20);
        if (i == 1) help_proxy_hold(proxy, true);
        weir_batch *batch = make_batch(0, 1, 11, 900, 20000);
        double start = seconds_now();
        assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
        assert_true(seconds_now() - start < 20);
        start = seconds_now();
        close_store(&store);
        assert_true(seconds_now() - start < 4);
        help_proxy_hold_after(proxy, 0, 0);
        help_proxy_hold(proxy, false);
        free_batch(&batch);
    }
    help_proxy_destroy(&proxy);
}

/* --- Checks ------------------------------------------------------------------------ */

static void refused(const weir_jetstream_config *config, const char *word)
{
    weir_store *store = NULL;
    weir_report report = {0};
    assert_int_equal(weir_jetstream_store_new(&store, config, &report), WEIR_EINVAL);
    assert_null(store);
    if (!strstr(report.where, word)) has_words(report.text, word);
    has_no_secret(report.text);
    has_no_secret(report.where);
}

static void remote_host_needs_tls_or_plaintext(void **state)
{
    (void)state;
    weir_jetstream_config config = config_at(4222);
    const char *remote[] = {"nats://bob:" PASSWORD "@example.invalid",
                            "nats://10.0.0.1:4222",
                            "nats://127.0.0.1,nats://t0ken@[2001:db8::1]:4222",
                            "nats://128.0.0.1",
                            "nats://localhost.example.invalid",
                            "nats://127.0.0.1.example.invalid",
                            "nats://[::2]"};
    for (size_t i = 0; i < sizeof remote / sizeof *remote; i++) {
        config.url = remote[i];
        refused(&config, "plaintext");
    }
    const char *fine[] = {"nats://localhost", "nats://[::1]:1", "nats://127.9.9.9",
                          "tls://example.invalid", "tls://example.invalid,other.invalid"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        config.url = fine[i];
        weir_store *store = new_store(&config);
        close_store(&store);
    }
    config.url = remote[0];
    config.plaintext = true;
    weir_store *store = new_store(&config);
    close_store(&store);
    config.plaintext = false;
    config.tls = true;
    store = new_store(&config);
    close_store(&store);
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    const weir_jetstream_config good = config_at(4222);
    weir_jetstream_config config = good;
    refused((config = good, config.bus = "a.b", &config), "name");
    refused((config = good, config.bus = "", &config), "name");
    refused((config = good, config.bus = "two words", &config), "name");
    refused((config = good, config.prefix = "a>", &config), "prefix");
    refused((config = good, config.url = NULL, &config), "url");
    refused((config = good, config.url = "http://t0ken@h", &config), "nats://");
    refused((config = good, config.timeout_us = 999, &config), "timeout");
    refused((config = good, config.window = 0, &config), "window");
    refused((config = good, config.window = 65537, &config), "window");
    refused((config = good, config.replicas = 0, &config), "replicas");
    refused((config = good, config.replicas = 6, &config), "replicas");
    refused((config = good, config.dedup_us = 99999, &config), "dedup");
    refused((config = good, config.dedup_us = 3600000001, &config), "dedup");
    refused((config = good, config.keep_age_us = 99999, &config), "keep.age");
    refused((config = good, config.keep_bytes = 0, &config), "keep.bytes");
    refused((config = good, config.keep_records = 0, &config), "keep.records");
}

#define ON(test, end) cmocka_unit_test_setup_teardown(test, NULL, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(wrong_password_is_fatal, end_server),
        ON(user_without_password_is_a_token, end_server),
        ON(quotes_and_backslashes_of_a_login_reach_the_server, end_server),
        ON(what_is_not_permitted_is_fatal, end_server),
        ON(these_permissions_are_enough, end_server),
        ON(server_without_jetstream_is_told, end_server),
        ON(tls_trusts_who_the_system_trusts, remove_certificates),
        ON(tls_wants_the_name_of_the_server, remove_certificates),
        ON(server_without_tls_is_fatal_when_tls_is_wanted, end_server),
        ON(much_passes_through_tls_both_ways, remove_certificates),
        ON(stopped_tls_server_holds_up_nobody, remove_certificates),
        cmocka_unit_test(remote_host_needs_tls_or_plaintext),
        cmocka_unit_test(options_out_of_range_are_refused),
    };
    if (getenv("ONLY")) cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, begin_log, end_log);
}
