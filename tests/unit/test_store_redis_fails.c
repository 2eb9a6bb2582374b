/*  The Redis store while something is wrong with its server, or on the way to it. */
#include "help_redis.h"
#include <fcntl.h>
#include <sys/stat.h>
#include "runtime/log.h"

enum { shards = 3 };

static weir_redis_config through(help_proxy *proxy)
{
    static char at[64];
    weir_redis_config config = small_config();
    snprintf(at, sizeof at, "redis://127.0.0.1:%u", help_proxy_port(proxy));
    config.url = at;
    return config;
}

/* --- Behind a failure -------------------------------------------------------------- */

static void what_is_behind_a_failed_batch_waits_until_that_comes_again(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_batch *batches[3];
    put(store, 0, 1, 1, 10, 20);
    DO("CONFIG SET maxmemory 1");
    for (uint32_t i = 0; i < 3; i++) {
        batches[i] = make_batch(0, 1, 11 + i * 10, 10, 20);
        assert_int_equal(write_batch(store, batches[i]), WEIR_STORE_RETRY);
        DO("CONFIG SET maxmemory 0");
    }
    assert_non_null(strstr(batches[0]->text, "OOM"));
    assert_non_null(strstr(batches[1]->text, "before it"));
    check_stream(0, 1, 1, 10);
    batches[0]->again = true;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(write_batch(store, batches[i]), WEIR_STORE_SAFE);
        free_batch(&batches[i]);
    }
    check_stream(0, 1, 1, 40);
    close_store(&store);
}

/*  Batches of several shards are under way while the server takes nothing now and then:
    what a stream has is always a prefix of what was sent.                           */
static void stream_has_a_prefix_whatever_fails(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    config.window = 20; // several calls a batch
    weir_store *store = open_with(&config);
    sender senders[shards];
    for (uint32_t i = 0; i < shards; i++)
        sender_begin(&senders[i], store, i, 1, 5000000);
    for (int round = 0; round < 60; round++) {
        DO("CONFIG SET maxmemory %d", round % 2 ? 0 : 1);
        for (uint32_t i = 0; i < shards; i++)
            while (senders[i].out < 4)
                sender_send(&senders[i], 1 + draw(50), 20);
        senders_run(senders, shards, (int)draw(5));
        for (uint32_t i = 0; i < shards; i++)
            check_stream(i, 1, 1, 0);
    }
    DO("CONFIG SET maxmemory 0");
    senders_finish(senders, shards);
    for (uint32_t i = 0; i < shards; i++)
        check_stream(i, 1, 1, senders[i].next - 1);
    close_store(&store);
    senders_end(senders, shards);
}

/*  Spoils every so many calls on their way: the server does not know their script. */
typedef struct {
    unsigned calls, every;
    atomic_uint spoilt;
} spoiler;

static void spoil(void *arg, char *bytes, size_t size)
{
    spoiler *self = arg;
    static const char start[] = "EVALSHA\r\n$40\r\n";
    char *end = bytes + size, *at = bytes;
    while ((at = memmem(at, (size_t)(end - at), start, sizeof start - 1))) {
        at += sizeof start - 1;
        if (at == end) return;
        if (++self->calls % self->every) continue;
        *at ^= 1;
        self->spoilt++;
    }
}

/*  Those behind it in the pipeline are well, and must not be stored before it.       */
static void one_call_that_fails_leaves_no_hole(void **state)
{
    (void)state;
    spoiler spoils = {.every = 7};
    help_proxy *proxy = help_proxy_start(local, 0);
    weir_redis_config config = through(proxy);
    config.window = 40; // 4 calls of 10 records
    weir_store *store = open_with(&config);
    sender senders[shards];
    help_proxy_edit_up(proxy, spoil, &spoils);
    for (uint32_t i = 0; i < shards; i++)
        sender_begin(&senders[i], store, i, 1, 5000000);
    double end = seconds_now() + patience_s;
    for (int round = 0; round < 50 || spoils.spoilt < 20; round++) {
        if (seconds_now() > end) fail_msg("few calls have failed");
        for (uint32_t i = 0; i < shards; i++)
            while (senders[i].out < 4)
                sender_send(&senders[i], 100, 20);
        senders_run(senders, shards, 10);
        for (uint32_t i = 0; i < shards; i++)
            check_stream(i, 1, 1, 0);
    }
    senders_finish(senders, shards);
    help_proxy_edit_up(proxy, NULL, NULL);
    for (uint32_t i = 0; i < shards; i++) {
        assert_string_equal(senders[i].failed, "");
        check_stream(i, 1, 1, senders[i].next - 1);
    }
    close_store(&store);
    senders_end(senders, shards);
    help_proxy_destroy(&proxy);
}

/* --- Cuts -------------------------------------------------------------------------- */

/*  Sends until the condition holds.                                                 */
static void send_on(sender *senders, bool (*until)(void *arg), void *arg)
{
    double start = seconds_now();
    while (!until(arg)) {
        if (seconds_now() > start + patience_s) fail_msg("never");
        for (uint32_t i = 0; i < shards; i++)
            while (senders[i].out < 4)
                sender_send(&senders[i], 1 + draw(1000), 100);
        senders_run(senders, shards, 10);
    }
}

typedef struct {
    help_proxy *proxy;
    unsigned cuts;
    double time;
} milestone;

static bool is_cut(void *arg)
{
    const milestone *self = arg;
    return help_proxy_cuts(self->proxy) > self->cuts;
}

static bool is_late(void *arg)
{
    return seconds_now() > ((milestone *)arg)->time;
}

/*  Anywhere: in a call, behind one that was not answered, in an answer, in a greeting.
    Now and then nothing goes through for so long that the connection is given up; what
   was on its way arrives all the same, when a new one has taken its place. */
static void each_record_is_stored_once_over_50_cuts(void **state)
{
    (void)state;
    help_proxy *proxy = help_proxy_start(local, 0);
    weir_redis_config config = through(proxy);
    config.timeout_us = 300000;
    weir_store *store = open_with(&config);
    sender senders[shards];
    for (uint32_t i = 0; i < shards; i++)
        sender_begin(&senders[i], store, i, 1, 5000000);
    for (milestone next = {.proxy = proxy}; next.cuts < 50;) {
        if (draw(2))
            help_proxy_cut_up(proxy, draw(300000));
        else
            help_proxy_cut_down(proxy, draw(1500));
        send_on(senders, is_cut, &next);
        next.cuts = help_proxy_cuts(proxy);
        if (draw(8)) continue;
        next.time = seconds_now() + 0.1;
        send_on(senders, is_late, &next);
        help_proxy_hold(proxy, true);
        next.time = seconds_now() + 0.7;
        send_on(senders, is_late, &next);
        help_proxy_hold(proxy, false);
    }
    senders_finish(senders, shards);
    uint64_t records = 0;
    for (uint32_t i = 0; i < shards; i++) {
        assert_string_equal(senders[i].failed, "");
        check_stream(i, 1, 1, senders[i].next - 1);
        assert_int_equal(senders[i].safe, senders[i].next - 1);
        records += senders[i].safe;
    }
    print_message("%" PRIu64 " records, %u connections\n", records,
                  help_proxy_connections(proxy));
    close_store(&store);
    senders_end(senders, shards);
    help_proxy_destroy(&proxy);
}

/*  What was on its way when the connection was given up arrives at the server after the
    new one has asked: it is stored once all the same.                               */
static void late_calls_of_an_old_connection_do_no_harm(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    config.timeout_us = 200000;
    weir_store *store = open_with(&config);
    sender senders[shards];
    for (uint32_t i = 0; i < shards; i++) {
        sender_begin(&senders[i], store, i, 1, 100000);
        sender_send(&senders[i], 10, 20);
    }
    senders_finish(senders, shards);
    for (int round = 0; round < 3; round++) {
        help_server_pause(server);
        for (uint32_t i = 0; i < shards; i++)
            for (int j = 0; j < 4; j++)
                sender_send(&senders[i], 300, 100);
        for (double end = seconds_now() + 0.7; seconds_now() < end;)
            senders_run(senders, shards, 20);
        help_server_resume(server);
        senders_finish(senders, shards);
    }
    for (uint32_t i = 0; i < shards; i++) {
        assert_string_equal(senders[i].failed, "");
        check_stream(i, 1, 1, 3610);
    }
    close_store(&store);
    senders_end(senders, shards);
}

static void script_is_loaded_again(void **state)
{
    (void)state;
    weir_store *store = open_store();
    sender one;
    put(store, 1, 1, 1, 10, 20);
    DO("SCRIPT FLUSH");
    put(store, 1, 1, 11, 10, 20);
    sender_begin(&one, store, 0, 1, 5000000);
    for (int i = 0; i < 100; i++) {
        while (one.out < 4)
            sender_send(&one, 200, 20);
        DO("SCRIPT FLUSH");
        senders_run(&one, 1, 5);
    }
    senders_finish(&one, 1);
    check_stream(0, 1, 1, one.next - 1);
    close_store(&store);
    senders_end(&one, 1);
}

/* --- The server's end -------------------------------------------------------------- */

static void killed_server_has_what_was_safe(void **state)
{
    (void)state;
    start_server(
        (const char *const[]){"--appendonly", "yes", "--appendfsync", "always", NULL});
    weir_store *store = open_store();
    sender senders[shards];
    for (uint32_t i = 0; i < shards; i++)
        sender_begin(&senders[i], store, i, 1, 5000000);
    for (int round = 0; round < 5; round++) {
        uint64_t goal = senders[0].safe + 2000 + draw(2000);
        while (senders[0].safe < goal) {
            for (uint32_t i = 0; i < shards; i++)
                while (senders[i].out < 4)
                    sender_send(&senders[i], 500, 50);
            senders_run(senders, shards, 10);
        }
        help_server_kill(server);
        for (double end = seconds_now() + 0.3; seconds_now() < end;)
            senders_run(senders, shards, 10);
        assert_true(help_server_again(server));
        wait_for_server();
        for (uint32_t i = 0; i < shards; i++)
            assert_true((uint64_t)stream_length(i) >= senders[i].safe);
    }
    senders_finish(senders, shards);
    for (uint32_t i = 0; i < shards; i++) {
        assert_string_equal(senders[i].failed, "");
        check_stream(i, 1, 1, senders[i].next - 1);
    }
    close_store(&store);
    senders_end(senders, shards);
}

static void paused_server_is_a_retry_in_time(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    config.timeout_us = 300000;
    weir_store *store = open_with(&config);
    put(store, 0, 1, 1, 10, 20);
    help_server_pause(server);
    for (int i = 0; i < 2; i++) { // on a connection, and without one
        weir_batch *batch = make_batch(0, 1, 11, 10, 20);
        double start = seconds_now();
        batch->again = i;
        assert_int_equal(write_batch(store, batch), WEIR_STORE_RETRY);
        assert_true(seconds_now() - start < 20);
        assert_non_null(strstr(batch->text, "no answer in 300 ms"));
        free_batch(&batch);
    }
    help_server_resume(server);
    weir_batch *batch = make_batch(0, 1, 11, 10, 20);
    batch->again = true;
    EVENTUALLY(write_batch(store, batch) == WEIR_STORE_SAFE);
    free_batch(&batch);
    check_stream(0, 1, 1, 20);
    close_store(&store);
}

static void server_that_is_away_is_waited_for(void **state)
{
    (void)state;
    weir_store *store = open_store();
    weir_report report;
    uint64_t epoch;
    put_badly(store, 0, 1, 1, WEIR_STORE_RETRY, "cannot connect: No such file");
    put_badly(store, 0, 1, 1, WEIR_STORE_RETRY, url);
    assert_false(look(store).connected);
    weir_redis_config config = small_config();
    config.timeout_us = 300000;
    weir_store *other = open_with(&config);
    double start = seconds_now();
    assert_int_equal(weir_redis_store_epoch(other, &epoch, &report), WEIR_ETIMEOUT);
    assert_in_range((seconds_now() - start) * 1000, 250, 10000);
    assert_non_null(strstr(report.text, "cannot connect"));
    close_store(&other);
    start_server(NULL);
    sender one;
    sender_begin(&one, store, 0, 1, 5000000);
    sender_send(&one, 100, 20);
    senders_finish(&one, 1);
    check_stream(0, 1, 1, 100);
    assert_true(look(store).connected);
    assert_string_equal(look(store).error, "");
    assert_int_equal(weir_redis_store_epoch(store, &epoch, &report), WEIR_OK);
    assert_int_equal(epoch, 1);
    close_store(&store);
    senders_end(&one, 1);
}

/*  Nobody writes or reads: it is noticed by PING. */
static void dead_server_is_noticed_when_nothing_is_to_do(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    config.timeout_us = 300000;
    weir_store *store = open_with(&config);
    put(store, 0, 1, 1, 10, 20);
    help_server_pause(server);
    double start = seconds_now();
    EVENTUALLY(!look(store).connected);
    assert_in_range(seconds_now() - start, 4, 30);
    help_server_resume(server);
    EVENTUALLY(look(store).connected);
    close_store(&store);
}

/* --- Errors ------------------------------------------------------------------------ */

static void replica_that_takes_no_writes_is_a_retry(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    DO("REPLICAOF 127.0.0.1 1");
    put_badly(store, 0, 1, 11, WEIR_STORE_RETRY, "READONLY");
    DO("REPLICAOF NO ONE");
    put(store, 0, 1, 11, 10, 20);
    check_stream(0, 1, 1, 20);
    close_store(&store);
}

static void write_by_itself(weir_store *store, uint64_t first)
{
    weir_batch *batch = make_batch(0, 1, first, 10, 20);
    batch->again = true;
    assert_int_equal(write_batch(store, batch), WEIR_STORE_SAFE);
    free_batch(&batch);
}

static void server_without_enough_replicas_is_a_retry(void **state)
{
    (void)state;
    weir_store *store = open_store();
    DO("CONFIG SET min-replicas-to-write 1");
    put_badly(store, 0, 1, 1, WEIR_STORE_RETRY, "NOREPLICAS");
    DO("CONFIG SET min-replicas-to-write 0");
    write_by_itself(store, 1);
    close_store(&store);
}

static void too_many_clients_are_a_retry(void **state)
{
    (void)state;
    DO("CONFIG SET maxclients 1");
    weir_store *store = open_store();
    put_badly(store, 0, 1, 1, WEIR_STORE_RETRY, "max number of clients");
    DO("CONFIG SET maxclients 100");
    EVENTUALLY(look(store).connected);
    write_by_itself(store, 1);
    close_store(&store);
}

static bool has_failed_to_save(void *arg)
{
    (void)arg;
    redisReply *reply = say("INFO persistence");
    bool has = strstr(reply->str, "rdb_last_bgsave_status:err") != NULL;
    freeReplyObject(reply);
    return has;
}

/*  Its file cannot be replaced: there is a folder of that name.                      */
static void who_cannot_save_is_a_retry_and_is_read(void **state)
{
    (void)state;
    char path[96];
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    close_store(&store);
    snprintf(path, sizeof path, "%s/dump.rdb", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    DO("CONFIG SET save %s", "3600 1000000");
    DO("BGSAVE");
    EVENTUALLY(has_failed_to_save(NULL));
    store = open_store();
    put_badly(store, 0, 1, 11, WEIR_STORE_RETRY, "MISCONF");
    assert_int_equal(count_all(store, 0, 7).records, 10);
    DO("CONFIG SET stop-writes-on-bgsave-error no");
    write_by_itself(store, 11);
    close_store(&store);
}

static void key_of_another_type_is_fatal(void **state)
{
    (void)state;
    weir_store *store = open_store();
    DO("SET weir:events:0 x");
    put_badly(store, 0, 1, 1, WEIR_STORE_FATAL, "redis.sock: WRONGTYPE");
    put(store, 1, 1, 1, 10, 20);
    DO("DEL weir:events:0");
    write_by_itself(store, 1);
    close_store(&store);
}

static void other_writer_is_fatal(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    DO("XADD weir:events:0 1-11 i 0123456789abcdef:1:0:12 r x"); // an id we have not sent
    put_badly(store, 0, 1, 11, WEIR_STORE_FATAL,
              "shard 0, position 1-11: other_writer: the last id is 1-11");
    put_badly(store, 0, 1, 11, WEIR_STORE_FATAL, "other_writer");
    put(store, 1, 1, 1, 10, 20);
    DO("XADD weir:events:1 * a b"); // an id of its own
    put_badly(store, 1, 1, 11, WEIR_STORE_FATAL, "other_writer");
    put(store, 2, 1, 1, 10, 20);
    DO("XADD weir:events:2 7-7 a b");
    DO("XDEL weir:events:2 7-7"); // its id stays
    put_badly(store, 2, 1, 11, WEIR_STORE_FATAL, "other_writer: the last id is 7-7");
    close_store(&store);
    assert_int_equal(stream_length(0), 11);
}

static void other_writer_is_found_at_the_first_look(void **state)
{
    (void)state;
    weir_store *store = open_store();
    DO("XADD weir:events:0 5-1 i fedcba9876543210:5:0:1 r x");
    DO("XADD weir:events:1 4-9 i fedcba9876543210:4:1:9 r x");
    put_badly(store, 0, 4, 1, WEIR_STORE_FATAL, "other_writer"); // a later epoch
    put_badly(store, 0, 5, 2, WEIR_STORE_FATAL, "other_writer"); // somebody else's
    put(store, 1, 5, 1, 10, 20); // what was there before this epoch is no harm
    close_store(&store);
}

static void lost_records_are_damage(void **state)
{
    (void)state;
    weir_store *store = open_store();
    put(store, 0, 1, 1, 10, 20);
    put(store, 1, 1, 1, 10, 20);
    DO("DEL weir:events:0");
    put_badly(store, 0, 1, 11, WEIR_STORE_FATAL,
              "damage: the server has lost records: the last id is 0-0, and 1-10 was");
    put_badly(store, 0, 1, 11, WEIR_STORE_FATAL, "damage");
    DO("DEL weir:events:1");
    DO("XADD weir:events:1 1-7 i 0123456789abcdef:1:1:7 r x");
    put_badly(store, 1, 1, 11, WEIR_STORE_FATAL, "damage");
    close_store(&store);
}

/* --- Who may ----------------------------------------------------------------------- */

/*  What is logged goes there.                                                       */
static int log_to_file(void)
{
    char file[96];
    snprintf(file, sizeof file, "%s/weir.log", folder);
    int fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    weir_log_configure(WEIR_DEBUG, false, fd);
    return fd;
}

static void assert_nowhere(int fd, const char *secret)
{
    static char text[1 << 16];
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    assert_true(size > 0);
    text[size] = 0;
    if (strstr(text, secret)) fail_msg("in the log: %s", text);
}

static void password_is_in_no_text(void **state)
{
    (void)state;
    char at[160];
    const char *words[] = {"NOAUTH", "WRONGPASS", "unknown command"};
    start_server((const char *const[]){"--requirepass", "right", NULL});
    int fd = log_to_file();
    weir_redis_config config = small_config();
    for (int i = 0; i < 3; i++) {
        if (i == 2) { // which repeats what it does not know
            end(state);
            make_folder(state);
            start_server((const char *const[]){"--rename-command", "AUTH", "", NULL});
        }
        snprintf(at, sizeof at, "unix://%s%s", i ? "me:hunter2@" : "", local);
        config.url = at;
        weir_store *store = open_with(&config);
        weir_report report;
        uint64_t epoch;
        assert_int_equal(weir_redis_store_epoch(store, &epoch, &report), WEIR_EREFUSED);
        assert_null(strstr(report.text, "hunter2"));
        weir_batch *batch = make_batch(0, 1, 1, 10, 20);
        assert_int_equal(write_batch(store, batch), WEIR_STORE_FATAL);
        if (!strstr(batch->text, words[i])) fail_msg("%s", batch->text);
        assert_null(strstr(batch->text, "hunter2"));
        if (i) assert_non_null(strstr(batch->text, "me:***@"));
        free_batch(&batch);
        assert_null(strstr(look(store).error, "hunter2"));
        weir_read read = {.max_records = 1, .max_bytes = 1};
        read_any(store, &read);
        assert_int_equal(read.err, WEIR_EREFUSED);
        assert_null(strstr(read.text, "hunter2"));
        weir_read_fini(&read);
        close_store(&store);
    }
    assert_nowhere(fd, "hunter2");
    weir_log_configure(WEIR_INFO, false, 2);
    close(fd);
}

static void user_with_password_and_database_writes(void **state)
{
    (void)state;
    char at[128];
    weir_redis_config config = small_config();
    DO("ACL SETUSER me on >p%%40ss:w/rd ~weir:* +@all"); // p%40ss:w/rd
    snprintf(at, sizeof at, "redis://me:p%%2540ss%%3Aw%%2Frd@localhost:%u/3", port);
    config.url = at;
    weir_store *store = open_with(&config);
    put(store, 0, 1, 1, 10, 20);
    assert_int_equal(stream_length(0), 0);
    DO("SELECT 3");
    check_stream(0, 1, 1, 10);
    DO("ACL SETUSER me -evalsha");
    put_badly(store, 0, 1, 11, WEIR_STORE_FATAL, "NOPERM");
    close_store(&store);
}

static void another_host_needs_plaintext(void **state)
{
    (void)state;
    weir_redis_config config = small_config();
    weir_report report;
    weir_store *store = NULL;
    const char *urls[] = {"redis://192.0.2.1", "redis://u:hunter2@redis.invalid:1/2"};
    for (int i = 0; i < 2; i++) {
        config.url = urls[i];
        config.plaintext = false;
        assert_int_equal(weir_redis_store_new(&store, &config, &report), WEIR_EREFUSED);
        assert_null(store);
        assert_non_null(strstr(report.text, "plaintext"));
        assert_null(strstr(report.text, "hunter2"));
        config.plaintext = true;
        config.timeout_us = 200000;
        store = open_with(&config);
        put_badly(store, 0, 1, 1, WEIR_STORE_RETRY,
                  i ? "u:***@redis.invalid:1/2" : "192");
        close_store(&store);
    }
}

static void options_are_checked(void **state)
{
    (void)state;
    weir_report report;
    weir_store *store = NULL;
    const struct {
        weir_redis_config config;
        const char *where;
    } wrong[] = {
        {{"", "unix:///x", "p", 1, 1000, 1, 1, false}, "bus"},
        {{"b", "unix:///x", "", 1, 1000, 1, 1, false}, "prefix"},
        {{"b", "http://x", "p", 1, 1000, 1, 1, false}, "url"},
        {{"b", NULL, "p", 1, 1000, 1, 1, false}, "url"},
        {{"b", "unix:///x", "p", 0, 1000, 1, 1, false}, "nonce"},
        {{"b", "unix:///x", "p", 1, 999, 1, 1, false}, "timeout"},
        {{"b", "unix:///x", "p", 1, 1000, 0, 1, false}, "window"},
        {{"b", "unix:///x", "p", 1, 1000, 65537, 1, false}, "window"},
        {{"b", "unix:///x", "p", 1, 1000, 1, 0, false}, "keep.records"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weir_err err = weir_redis_store_new(&store, &wrong[i].config, &report);
        assert_int_equal(err, WEIR_EINVAL);
        assert_string_equal(report.where, wrong[i].where);
        assert_null(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_SERVER(what_is_behind_a_failed_batch_waits_until_that_comes_again),
        ON_SERVER(stream_has_a_prefix_whatever_fails),
        ON_SERVER(one_call_that_fails_leaves_no_hole),
        ON_SERVER(each_record_is_stored_once_over_50_cuts),
        ON_SERVER(late_calls_of_an_old_connection_do_no_harm),
        ON_SERVER(script_is_loaded_again),
        ON_FOLDER(killed_server_has_what_was_safe),
        ON_SERVER(paused_server_is_a_retry_in_time),
        ON_FOLDER(server_that_is_away_is_waited_for),
        ON_SERVER(dead_server_is_noticed_when_nothing_is_to_do),
        ON_SERVER(replica_that_takes_no_writes_is_a_retry),
        ON_SERVER(server_without_enough_replicas_is_a_retry),
        ON_SERVER(too_many_clients_are_a_retry),
        ON_SERVER(who_cannot_save_is_a_retry_and_is_read),
        ON_SERVER(key_of_another_type_is_fatal),
        ON_SERVER(other_writer_is_fatal),
        ON_SERVER(other_writer_is_found_at_the_first_look),
        ON_SERVER(lost_records_are_damage),
        ON_FOLDER(password_is_in_no_text),
        ON_SERVER(user_with_password_and_database_writes),
        ON_SERVER(another_host_needs_plaintext),
        cmocka_unit_test(options_are_checked),
    };
    RUN_IF_THERE(tests);
}
