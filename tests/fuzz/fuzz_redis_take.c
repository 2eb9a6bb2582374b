/*  What source.redis makes of an entry's fields, whatever they are: a record that a block
    can hold, or a reason. The first byte chooses; hiredis reads the rest.            */
#include "actors/redis_resp.h"
#include "actors/redis_take.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

/*  As the intake makes it.                                                           */
static void make_block(const weir_redis_take *take)
{
    const weir_envelope *e = &take->envelope;
    weir_builder builder = {.target = 1 << 20};
    weir_record record = {.has_ts = e->whole && e->has_ts,
                          .ts_ms = e->ts_ms,
                          .key = e->key,
                          .format = e->whole ? e->format : WEIR_TEXT,
                          .data = take->data,
                          .size = take->size,
                          .headers = e->headers,
                          .headers_size = e->headers_size};
    weir_builder_add(&builder, &record, &(weir_run){.source = "in"});
    weir_block *block = weir_builder_seal(&builder);
    CHECK(weir_block_records(block) == 1);
    CHECK(weir_block_check(block) == WEIR_OK);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
}

static void take_reply(uint8_t choice, const redisReply *reply)
{
    weir_redis_take take = {.stream = choice & 2 ? "s\xff" : "s",
                            .field = choice & 1 ? "f" : NULL};
    weir_position id = {choice, 1};
    const char *error = weir_redis_take_entry(&take, id, reply);
    if (error) CHECK(take.size <= (64 << 10) + 2 && !take.envelope.whole);
    make_block(&take);
    weir_redis_take_fini(&take);
}

/*  Which would only show how much memory there is.                                   */
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
    if (redisReaderGetReply(reader, &reply) == REDIS_OK && reply)
        take_reply(data[0], reply);
    if (reply) freeReplyObject(reply);
    redisReaderFree(reader);
    return 0;
}
