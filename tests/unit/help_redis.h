/*  help_redis: what tests of the Redis store share: a server of their own in a folder of
    its own, a client that asks it directly, and a sender that tries again as shards do.
 */
#pragma once
#include <ftw.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include "actors/dispatch.h"
#include "actors/redis_store.h"
#include "help_batch.h"
#include "help_proxy.h"
#include "help_server.h"
#include "runtime/clock.h"

#define NONCE UINT64_C(0x0123456789abcdef)

static char folder[64], local[96], url[128]; // local: its unix socket
static uint16_t port;
static help_server *server;
static redisContext *client;

/* --- The server -------------------------------------------------------------------- */

static inline bool answers(void *arg)
{
    (void)arg;
    if (client) redisFree(client);
    client = redisConnectUnix(local);
    redisReply *reply = client->err ? NULL : redisCommand(client, "PING");
    bool does = reply && (reply->type != REDIS_REPLY_ERROR ||
                          !strncmp(reply->str, "NOAUTH", 6)); // but not LOADING
    if (reply) freeReplyObject(reply);
    return does;
}

static inline void wait_for_server(void)
{
    if (!help_server_wait(server, answers, NULL)) fail_msg("redis-server does not start");
}

/*  With more arguments, which end with NULL.                                        */
static inline void start_server(const char *const *more)
{
    char number[8];
    port = help_server_port();
    snprintf(number, sizeof number, "%u", port);
    char log[96];
    snprintf(log, sizeof log, "%s/log", folder);
    const char *argv[40] = {
        "redis-server", "--port",       number, "--bind",
        "127.0.0.1",    "--unixsocket", local,  "--dir",
        folder,         "--save",       "",     "--appendonly",
        "no",           "--daemonize",  "no",   "--enable-debug-command",
        "yes"};
    size_t count = 17;
    while (more && *more)
        argv[count++] = *more++;
    server = help_server_start(argv, log);
    if (!server) fail_msg("redis-server cannot be started");
    wait_for_server();
}

static inline int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_store_redis.XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(local, sizeof local, "%s/redis.sock", folder);
    snprintf(url, sizeof url, "unix://%s", local);
    return 0;
}

static inline int begin(void **state)
{
    if (make_folder(state)) return -1;
    start_server(NULL);
    return 0;
}

static inline int remove_entry(const char *path, const struct stat *st, int type,
                               struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static inline int end(void **state)
{
    (void)state;
    if (client) redisFree(client);
    client = NULL;
    help_server_destroy(&server);
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- Asking it directly ------------------------------------------------------------ */

static inline redisReply *say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = redisvCommand(client, format, args);
    va_end(args);
    if (!reply) fail_msg("%s: %s", format, client->errstr);
    return reply;
}

#define DO(...) do_it(say(__VA_ARGS__), #__VA_ARGS__)

static inline void do_it(redisReply *reply, const char *what)
{
    if (reply->type == REDIS_REPLY_ERROR) fail_msg("%s: %s", what, reply->str);
    freeReplyObject(reply);
}

static inline long long number_of(redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR) fail_msg("%s", reply->str);
    long long number = reply->integer;
    freeReplyObject(reply);
    return number;
}

static inline long long stream_length(uint32_t shard)
{
    return number_of(say("XLEN weir:events:%u", shard));
}

/*  Each entry of the stream is a record of that epoch, and they are from..to in order:
    what a server has by the specification's words, not by those of the store. to 0: any
    that is the last.                                                                */
static inline void check_stream(uint32_t shard, uint64_t epoch, uint64_t from,
                                uint64_t to)
{
    redisReply *all = say("XRANGE weir:events:%u - +", shard);
    uint64_t next = from;
    for (size_t i = 0; i < all->elements; i++) {
        const redisReply *entry = all->element[i], *fields = entry->element[1];
        char id[64], text[96], payload[96];
        snprintf(id, sizeof id, "%" PRIu64 "-%" PRIu64, epoch, next);
        snprintf(text, sizeof text, "0123456789abcdef:%" PRIu64 ":%u:%" PRIu64, epoch,
                 shard, next);
        snprintf(payload, sizeof payload, "%" PRIu64 ":%u:%" PRIu64 " ", epoch, shard,
                 next);
        assert_string_equal(entry->element[0]->str, id);
        assert_int_equal(fields->elements, 4);
        assert_string_equal(fields->element[0]->str, "i");
        assert_string_equal(fields->element[1]->str, text);
        assert_string_equal(fields->element[2]->str, "r");
        weir_record record;
        weir_reader reader = {(uint8_t *)fields->element[3]->str,
                              (uint8_t *)fields->element[3]->str +
                                  fields->element[3]->len};
        assert_int_equal(weir_record_read(&record, &reader, false), WEIR_OK);
        assert_ptr_equal(reader.at, reader.end);
        assert_true(record.has_ts);
        assert_memory_equal(record.data, payload, strlen(payload));
        next++;
    }
    freeReplyObject(all);
    if (to) assert_int_equal(next, to + 1);
}

/* --- Stores ------------------------------------------------------------------------ */

static inline weir_redis_config small_config(void)
{
    weir_redis_config config = weir_redis_defaults;
    config.bus = "events";
    config.url = url;
    config.nonce = NONCE;
    return config;
}

static inline weir_store *open_with(const weir_redis_config *config)
{
    weir_report report = {0};
    weir_store *store = NULL;
    if (weir_redis_store_new(&store, config, &report))
        fail_msg("%s: %s", report.where, report.text);
    return store;
}

static inline weir_store *open_store(void)
{
    weir_redis_config config = small_config();
    return open_with(&config);
}

static inline weir_redis_stats look(weir_store *store)
{
    weir_redis_stats stats;
    weir_redis_look(store, &stats);
    return stats;
}

/*  Writes one and wants it safe.                                                    */
static inline void put(weir_store *store, uint32_t shard, uint64_t epoch, uint64_t first,
                       uint32_t records, size_t size)
{
    weir_batch *batch = make_batch(shard, epoch, first, records, size);
    weir_store_result result = write_in_the_end(store, batch);
    if (result != WEIR_STORE_SAFE) fail_msg("%d: %s", result, batch->text);
    assert_int_equal(batch->last_offset, first + records - 1);
    free_batch(&batch);
}

/*  Writes one and wants this answer, with a text that has these words.              */
static inline void put_badly(weir_store *store, uint32_t shard, uint64_t epoch,
                             uint64_t first, weir_store_result result, const char *words)
{
    weir_batch *batch = make_batch(shard, epoch, first, 10, 20);
    batch->again = true;
    assert_int_equal(write_batch(store, batch), result);
    if (!strstr(batch->text, words)) fail_msg("not \"%s\": %s", words, batch->text);
    free_batch(&batch);
}

/* --- Reading ----------------------------------------------------------------------- */

typedef struct {
    uint64_t records, bytes, trimmed, damaged;
    weir_position last; // read or passed
    weir_position first;
} tally;

/*  Every record is what its id says.                                                */
static inline void count_chunk(tally *self, uint32_t shard, const weir_chunk *chunk)
{
    weir_iterator walk = {.block = chunk->block};
    weir_record record;
    uint64_t expected = chunk->sequence;
    assert_int_equal(weir_block_check(chunk->block), WEIR_OK);
    assert_int_equal(chunk->offset, 0);
    while (weir_iterator_next(&walk, &record, NULL)) {
        char text[80] = "", id[80];
        memcpy(text, record.data, record.size < 79 ? record.size : 79);
        snprintf(id, sizeof id, "%" PRIu64 ":%u:%" PRIu64 " ", chunk->epoch, shard,
                 expected);
        text[strlen(id)] = 0;
        assert_string_equal(text, id);
        weir_position at = {chunk->epoch, expected++};
        assert_true(weir_position_order(at, self->last) > 0);
        if (!self->records++) self->first = at;
        self->last = at;
        self->bytes += record.encoded_size;
    }
    assert_int_equal(weir_position_order(chunk->last, self->last), 0);
}

static inline void count_read(tally *self, const weir_read *read)
{
    uint32_t gap = 0;
    for (uint32_t i = 0; i <= read->chunk_count; i++) {
        for (; gap < read->gap_count; gap++) {
            const weir_gap *is = &read->gaps[gap];
            weir_position first = {is->epoch, is->first};
            weir_position chunk = {UINT64_MAX, 0};
            if (i < read->chunk_count)
                chunk = (weir_position){read->chunks[i].epoch, read->chunks[i].sequence};
            if (weir_position_order(first, chunk) > 0) break;
            assert_true(weir_position_order(first, self->last) > 0);
            *(is->damaged ? &self->damaged : &self->trimmed) += is->last - is->first + 1;
            self->last = weir_gap_end(is);
        }
        if (i < read->chunk_count) count_chunk(self, read->shard, &read->chunks[i]);
    }
    assert_true(weir_position_order(read->reached, self->last) >= 0);
    self->last = read->reached;
}

/*  Reads what is behind self->last, in pages.                                       */
static inline void read_all(weir_store *store, uint32_t shard, uint32_t page, tally *self)
{
    bool more = true;
    while (more) {
        weir_read read = {.shard = shard,
                          .after = self->last,
                          .max_records = page,
                          .max_bytes = 8 << 20};
        read_once(store, &read);
        count_read(self, &read);
        more = read.more;
        weir_read_fini(&read);
    }
}

static inline tally count_all(weir_store *store, uint32_t shard, uint32_t page)
{
    tally self = {0};
    read_all(store, shard, page, &self);
    return self;
}

/* --- A sender ---------------------------------------------------------------------- */

/*  Sends numbered records of one shard as a shard does: by a dispatch, some batches at a
    time, until all are safe.                                                        */
typedef struct {
    weir_dispatch *dispatch;
    uint32_t shard, out;
    uint64_t epoch, next, safe, dead;
    char failed[256]; // "": it has not
} sender;

static inline void sender_settled(void *arg, const weir_batch *batch, uint32_t first,
                                  uint32_t count, const weir_dispatch_loss *loss)
{
    sender *self = arg;
    assert_int_equal(batch->first + first, self->safe + self->dead + 1);
    *(loss ? &self->dead : &self->safe) += count;
}

static inline void sender_ended(void *arg)
{
    ((sender *)arg)->out--;
}

static inline void sender_failed(void *arg, const char *text)
{
    sender *self = arg;
    snprintf(self->failed, sizeof self->failed, "%.255s", text);
}

/*  Waits between attempts are short, that of an attempt as said.                    */
static inline void sender_begin(sender *self, weir_store *store, uint32_t shard,
                                uint64_t epoch, int64_t timeout_us)
{
    weir_dispatch_config config = {
        .store = store,
        .shard = shard,
        .nonce = NONCE,
        .retry = {WEIR_FOREVER, WEIR_EXHAUSTED_DEAD, timeout_us, {1000, 50000}},
        .settled = sender_settled,
        .ended = sender_ended,
        .failed = sender_failed,
        .arg = self};
    *self = (sender){.shard = shard, .epoch = epoch, .next = 1};
    assert_int_equal(weir_dispatch_new(&self->dispatch, &config), WEIR_OK);
}

static inline void sender_send(sender *self, uint32_t records, size_t size)
{
    weir_batch *batch = make_batch(self->shard, self->epoch, self->next, records, size);
    free(batch->owner);
    batch->owner = NULL;
    batch->done = NULL;
    self->next += records;
    self->out++;
    weir_dispatch_send(self->dispatch, &batch, weir_clock_now_us());
}

/*  Does what is due, and waits for more at most so long.                            */
static inline void senders_run(sender *senders, size_t count, int most_ms)
{
    struct pollfd fds[16];
    int64_t due = weir_clock_now_us() + most_ms * 1000;
    for (size_t i = 0; i < count; i++) {
        fds[i] = (struct pollfd){weir_dispatch_fd(senders[i].dispatch), POLLIN, 0};
        due = weir_earlier(due, weir_dispatch_deadline(senders[i].dispatch));
    }
    poll(fds, count, weir_clock_timeout_ms(due));
    for (size_t i = 0; i < count; i++) {
        weir_dispatch_read(senders[i].dispatch, weir_clock_now_us());
        weir_dispatch_run_due(senders[i].dispatch, weir_clock_now_us());
    }
}

static inline bool senders_are_done(const sender *senders, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (senders[i].out && !senders[i].failed[0]) return false;
    return true;
}

static inline void senders_finish(sender *senders, size_t count)
{
    double start = seconds_now();
    while (!senders_are_done(senders, count)) {
        if (seconds_now() > start + patience_s) fail_msg("not all is safe");
        senders_run(senders, count, 100);
    }
}

/*  After the store was closed.                                                      */
static inline void senders_end(sender *senders, size_t count)
{
    for (size_t i = 0; i < count; i++)
        weir_dispatch_destroy(&senders[i].dispatch);
}

static unsigned seed;

static inline uint32_t draw(uint32_t below)
{
    return (uint32_t)rand_r(&seed) % below;
}

static inline void choose_seed(void)
{
    const char *text = getenv("WEIR_SEED");
    seed = text ? (unsigned)atoi(text) : (unsigned)time(NULL);
    print_message("WEIR_SEED=%u\n", seed);
}

/*  Runs the group, or says why it does not.                                         */
#define RUN_IF_THERE(tests)                                                              \
    do {                                                                                 \
        if (!help_server_is_there("redis-server")) {                                     \
            print_message("skipped: redis-server is not installed (make deps)\n");       \
            print_message("[  PASSED  ] 0 test(s).\n");                                  \
            return 0;                                                                    \
        }                                                                                \
        choose_seed();                                                                   \
        return cmocka_run_group_tests(tests, NULL, NULL);                                \
    } while (0)

#define ON_SERVER(test) cmocka_unit_test_setup_teardown(test, begin, end)
#define ON_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, end)
