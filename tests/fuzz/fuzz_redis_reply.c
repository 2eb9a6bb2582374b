/*  What the Redis store makes of a server's answers, whatever they are: of the state of a
    stream, of entries, and of the search for a time, which has to end. The first byte
    chooses; hiredis reads the rest.                                                */
#include <stdio.h>
#include "actors/redis_reading.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

static weir_redis store = {.config = {.nonce = 1}};
static weir_redis_node node = {.store = &store};
static weir_redis_shard shard = {.key = (char *)"k", .key_size = 1, .node = &node};

/*  What is taken is a read's answer that can be walked and freed.                   */
static void take_entries(const redisReply *reply)
{
    weir_read read = {.max_records = 4, .max_bytes = 100};
    weir_redis_reading reading = {.read = &read, .shard = &shard};
    weir_redis_entry entry;
    if (reply->type != REDIS_REPLY_ARRAY) return;
    for (size_t i = 0; i < reply->elements; i++)
        if (!weir_redis_entry_read(&entry, &store, 0, reply->element[i]) ||
            weir_position_order(entry.at, reading.at) <= 0 ||
            !weir_redis_reading_add(&reading, &entry))
            break;
    weir_redis_reading_seal(&reading);
    weir_redis_reading_trimmed(&reading, reading.at);
    CHECK(reading.records <= 4);
    for (uint32_t i = 0; i < read.chunk_count; i++) {
        const weir_chunk *chunk = &read.chunks[i];
        CHECK(weir_block_check(chunk->block) == WEIR_OK);
        CHECK(chunk->last.a == chunk->epoch);
        CHECK(chunk->last.b - chunk->sequence + 1 == weir_block_records(chunk->block));
    }
    weir_builder_fini(&reading.builder);
    weir_read_fini(&read);
}

/*  The same answer again and again, until one is refused or the place is found: from the
    beginning, or in the middle between two epochs.                                  */
static void search(uint8_t choice, weir_since_step step, const redisReply *reply)
{
    uint64_t low = choice & 7, high = low + (choice >> 3 & 7);
    weir_read read = {.since_ms = 5};
    weir_redis_reading reading = {.read = &read,
                                  .shard = &shard,
                                  .since = {.step = step,
                                            .low = {low, choice >> 6},
                                            .found = {high, 1000},
                                            .high = high,
                                            .middle = low + (high - low) / 2}};
    weir_buffer out = {0};
    int steps = 0;
    do {
        CHECK(steps++ < 200);
        out.size = 0;
        weir_redis_since_put(&reading, &out);
    } while (weir_redis_since_take(&reading, reply) == WEIR_SINCE_MORE);
    weir_buffer_fini(&out);
}

static void take(uint8_t choice, const redisReply *reply)
{
    weir_redis_seen seen;
    char host[256];
    uint16_t port;
    weir_redis_seen_read(&seen, &store, &shard, reply);
    take_entries(reply);
    search(choice, WEIR_SINCE_ENDS, reply);
    search(choice, choice >> 3 & 7 ? WEIR_SINCE_EPOCH : WEIR_SINCE_TOP, reply);
    if (reply->type == REDIS_REPLY_ERROR) weir_redis_moved(reply->str, host, &port);
}

/*  Which would only show how much memory there is.                                  */
static bool claims_much(const uint8_t *data, size_t size)
{
    size_t digits = 0;
    for (size_t i = 0; i < size; i++) {
        digits = data[i] >= '0' && data[i] <= '9' ? digits + 1 : 0;
        if (digits > 5 && i >= digits && data[i - digits] == '*') return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *reply = NULL;
    if (!size || claims_much(data, size)) return 0;
    redisReader *reader = redisReaderCreate();
    redisReaderFeed(reader, (const char *)data + 1, size - 1);
    if (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) take(data[0], reply);
    if (reply) freeReplyObject(reply);
    redisReaderFree(reader);
    return 0;
}
