/*  The Redis store against a bare client of hiredis that sends the same entries as XADDs,
    1,000 in a pipeline: batches of 1,000 records of 200 bytes, in turn, into one stream
    of one server, which keeps them in memory only.

    bench_redis [SHARDS [BATCHES]]      prints both rates, records/s, and the ratio
                                        SHARDS: of the store, 1; the client has one stream
 */
#include <fcntl.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/store_redis.h"
#include "tests/bench/help_bench_redis.h"

enum { batch_records = 1000, record_bytes = 200, in_flight = 4, rounds = 31 };

static const uint64_t nonce = UINT64_C(0x0123456789abcdef);
static uint32_t shards = 1;
static uint64_t batches = 100;

static double rate(double seconds)
{
    return (double)(batches * batch_records) / seconds;
}

static void flush_all(void)
{
    redisReply *reply = redisCommand(client, "FLUSHALL");
    if (!reply || reply->type == REDIS_REPLY_ERROR) give_up("FLUSHALL fails");
    freeReplyObject(reply);
}

/* --- The limit --------------------------------------------------------------------- */

static void append(uint64_t sequence, const uint8_t *record)
{
    char id[48], i[96];
    const char *words[] = {"XADD", "weir:bench:0", id, "i", i, "r", (const char *)record};
    size_t id_size = (size_t)sprintf(id, "1-%" PRIu64, sequence);
    size_t i_size = (size_t)sprintf(i, "%016" PRIx64 ":1:0:%" PRIu64, nonce, sequence);
    const size_t sizes[] = {4, 12, id_size, 1, i_size, 1, record_bytes};
    if (redisAppendCommandArgv(client, 7, words, sizes) != REDIS_OK) give_up("no memory");
}

static double write_bare(const uint8_t *record)
{
    flush_all();
    double start = now();
    for (uint64_t sequence = 1, b = 0; b < batches; b++) {
        for (int n = 0; n < batch_records; n++)
            append(sequence++, record);
        for (int n = 0; n < batch_records; n++) {
            redisReply *reply;
            if (redisGetReply(client, (void **)&reply) != REDIS_OK ||
                reply->type == REDIS_REPLY_ERROR)
                give_up("XADD fails");
            freeReplyObject(reply);
        }
    }
    return rate(now() - start);
}

/* --- The store --------------------------------------------------------------------- */

static sem_t room; // batches that may be written

static void stored(weir_batch *batch)
{
    if (batch->result != WEIR_STORE_SAFE) give_up(batch->text);
    sem_post(&room);
}

/*  1,000 records in blocks of 64 KB, as they come over links.                       */
static weir_batch *make_batch(weir_block *const *blocks, uint32_t shard, uint64_t first)
{
    weir_batch *batch = weir_batch_new();
    batch->epoch = 1;
    batch->shard = shard;
    batch->first = first;
    batch->done = stored;
    for (; *blocks; blocks++) {
        weir_piece piece = {.block = weir_block_dup(*blocks)};
        weir_batch_add(batch, &piece);
    }
    return batch;
}

static double write_store(weir_block *const *blocks)
{
    char url[96];
    weir_redis_config config = weir_redis_defaults;
    weir_report report = {0};
    weir_store *store;
    flush_all();
    snprintf(url, sizeof url, "unix://%s", local);
    config.bus = "bench";
    config.url = url;
    config.nonce = nonce;
    if (weir_redis_store_new(&store, &config, &report)) give_up(report.text);
    sem_init(&room, 0, in_flight * shards);
    double start = now();
    for (uint64_t b = 0; b < batches; b++) {
        weir_batch *batch =
            make_batch(blocks, (uint32_t)(b % shards), 1 + b / shards * batch_records);
        sem_wait(&room);
        store->class->write(store, batch);
        weir_batch_destroy(&batch);
    }
    if (store->class->flush(store, -1, &report)) give_up(report.text);
    double seconds = now() - start;
    store->class->close(&store);
    return rate(seconds);
}

static weir_record make_record(uint8_t *payload, size_t size)
{
    memset(payload, 'x', size);
    return (weir_record){.has_ts = true,
                         .ts_ms = INT64_C(1700000000000),
                         .format = WEIR_TEXT,
                         .data = payload,
                         .size = size};
}

/*  The blocks end with NULL; record: one of theirs.                                 */
static void make_blocks(weir_block **blocks, uint8_t *record)
{
    enum { overhead = 14 };
    uint8_t payload[record_bytes];
    weir_record one = make_record(payload, record_bytes - overhead);
    weir_builder builder = {.target = 64 << 10};
    for (int left = batch_records; left; left--) {
        weir_builder_add(&builder, &one, &(weir_run){.records = 0});
        if (weir_builder_full(&builder) || left == 1)
            *blocks++ = weir_builder_seal(&builder);
    }
    *blocks = NULL;
    weir_iterator walk = {.block = blocks[-1]};
    weir_iterator_next(&walk, &one, NULL);
    if (one.encoded_size != record_bytes) give_up("records are not of 200 bytes");
    memcpy(record, one.encoded, record_bytes);
    weir_builder_fini(&builder);
}

int main(int argc, char **argv)
{
    double ratios[rounds];
    weir_block *blocks[batch_records + 1];
    uint8_t record[record_bytes];
    if (argc > 1) shards = (uint32_t)atoi(argv[1]);
    if (argc > 2) batches = strtoull(argv[2], NULL, 10);
    make_blocks(blocks, record);
    help_server *server = start_server();
    for (int i = 0; i < rounds; i++) {
        double ours = write_store(blocks), limit = write_bare(record);
        ratios[i] = ours / limit;
        printf("%.0f records/s (store), %.0f records/s (client): %.2f\n", ours, limit,
               ratios[i]);
        fflush(stdout);
    }
    end_server(&server);
    for (weir_block **at = blocks; *at; at++)
        weir_block_destroy(at);
    qsort(ratios, rounds, sizeof *ratios, by_size);
    printf("%.2f\n", ratios[rounds / 2]);
    return 0;
}
