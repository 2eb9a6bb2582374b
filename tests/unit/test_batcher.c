#include "actors/batcher.h"
#include "runtime/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <cmocka.h>

#define MS 1000
#define SECOND 1000000
#define WALL_MS 1700000000000

/*  A ring, a batcher that takes from it, and the tokens that came out.             */
typedef struct {
    weir_ring *ring;
    weir_batcher *batcher;
    weir_entry entry;
    weir_entry *tokens[8];
    uint32_t token_count;
} rig;

static void ignore(void *arg, weir_entry *entry, uint32_t records)
{
    (void)arg, (void)entry, (void)records;
}

static rig *rig_new(const weir_batch_config *config)
{
    weir_ring_config ring = {.records = 1 << 20,
                             .bytes = 64 << 20,
                             .overflow = WEIR_OVERFLOW_BLOCK,
                             .shed = ignore,
                             .left = ignore};
    rig *self = calloc(1, sizeof *self);
    assert_non_null(self);
    self->ring = weir_ring_new(&ring);
    self->batcher = weir_batcher_new(config, 7, 3);
    return self;
}

static void rig_destroy(rig *self)
{
    weir_batcher_destroy(&self->batcher);
    assert_null(self->batcher);
    weir_ring_destroy(&self->ring);
    free(self);
}

static void put(rig *self, weir_block *block, int64_t now_us)
{
    assert_int_equal(weir_ring_offer(self->ring, block, &self->entry, now_us), WEIR_OK);
    weir_batcher_arrived(self->batcher, weir_block_records(block), now_us);
}

/*  Raw payloads of this size, numbered in their first bytes from *number on.       */
static weir_block *block_of(uint32_t records, size_t size, uint32_t *number)
{
    weir_builder builder = {.target = 1 << 20};
    uint8_t *payload = calloc(1, size);
    assert_non_null(payload);
    for (uint32_t i = 0; i < records; i++) {
        if (size >= sizeof *number) memcpy(payload, number, sizeof *number);
        (*number)++;
        weir_builder_add_payload(&builder, WEIR_TEXT, payload, size, NULL);
    }
    free(payload);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static void offer(rig *self, uint32_t records, size_t size, int64_t now_us)
{
    uint32_t number = 0;
    weir_block *block = block_of(records, size, &number);
    put(self, block, now_us);
    weir_block_destroy(&block);
}

static void keep_token(void *arg, weir_entry *entry)
{
    rig *self = arg;
    self->tokens[self->token_count++] = entry;
}

static weir_batch *next(rig *self, int64_t now_us)
{
    return weir_batcher_next(self->batcher, self->ring, now_us, keep_token, self);
}

/*  The next batch has these records, first sequence and nothing else; it is settled.  */
static void assert_next(rig *self, int64_t now_us, uint32_t records, uint64_t first)
{
    weir_batch *batch = next(self, now_us);
    assert_non_null(batch);
    assert_int_equal(batch->records, records);
    assert_int_equal(batch->first, first);
    assert_int_equal(batch->shard, 7);
    assert_int_equal(batch->epoch, 3);
    weir_batch_destroy(&batch);
    weir_batcher_settled(self->batcher);
}

/* --- Target ------------------------------------------------------------------------ */

/*  The target after arrivals of so many records every 10 ms.                       */
static uint32_t arrive(weir_batcher *batcher, int64_t *now_us, uint32_t records, int n)
{
    for (int i = 0; i < n; i++, *now_us += 10 * MS)
        weir_batcher_arrived(batcher, records, *now_us);
    return weir_batcher_target(batcher, *now_us);
}

static void the_target_reaches_1000_in_22_steps(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.window_us = 10 * MS; // so the rate is there at the first step
    weir_batcher *batcher = weir_batcher_new(&config, 0, 1);
    int64_t now_us = 5 * SECOND + 123;
    assert_int_equal(weir_batcher_target(batcher, now_us), 64);
    weir_batcher_arrived(batcher, 2000, now_us);
    assert_int_equal(weir_batcher_target(batcher, now_us + 10 * MS - 1), 64);
    assert_int_equal(weir_batcher_target(batcher, now_us += 10 * MS), 64 + 234);
    assert_int_equal(arrive(batcher, &now_us, 2000, 1), 298 + 176); // 175.5
    assert_in_range(arrive(batcher, &now_us, 2000, 19), 950, 999);
    assert_int_equal(arrive(batcher, &now_us, 2000, 1), 1000);
    assert_int_equal(arrive(batcher, &now_us, 2000, 100), 1000);
    weir_batcher_destroy(&batcher);
}

static void the_rate_is_that_of_the_window(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    weir_batcher *batcher = weir_batcher_new(&config, 0, 1);
    int64_t now_us = 0;
    assert_int_equal(arrive(batcher, &now_us, 2000, 1), 64 + 9); // of 2000 in 100 ms: 100
    assert_int_equal(arrive(batcher, &now_us, 2000, 1), 73 + 32); // of 4000: 200
    assert_int_equal(arrive(batcher, &now_us, 2000, 100), 1000);
    assert_int_equal(arrive(batcher, &now_us, 2001, 100), 1000); // 1000.5
    assert_int_equal(arrive(batcher, &now_us, 1, 200), 64);      // the least
    assert_int_equal(arrive(batcher, &now_us, 1 << 30, 200), 10000);
    weir_batcher_destroy(&batcher);
}

/*  The target after n steps towards the least.                                     */
static int64_t lowered(int64_t target, int64_t least, int n)
{
    for (int i = 0; i < n; i++)
        target -= (target - least + 3) / 4;
    return target;
}

static void silence_lowers_the_target_by_at_most_32_steps(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.min_records = 1;
    config.max_records = 1000000;
    weir_batcher *batcher = weir_batcher_new(&config, 0, 1);
    int64_t now_us = 0;
    assert_int_equal(arrive(batcher, &now_us, 1 << 30, 200), 1000000);
    weir_batcher_arrived(batcher, 1, now_us); // the last: its period has an arrival
    assert_int_equal(weir_batcher_target(batcher, now_us + 59 * MS),
                     lowered(1000000, 1, 4));
    assert_int_equal(weir_batcher_target(batcher, now_us + 320 * MS),
                     lowered(1000000, 1, 31));
    assert_int_equal(weir_batcher_target(batcher, now_us + 100 * SECOND),
                     lowered(1000000, 1, 31));
    assert_int_equal(weir_batcher_target(batcher, now_us), 1000000); // looks only
    now_us += 100 * SECOND;
    weir_batcher_arrived(batcher, 1, now_us);
    assert_int_equal(weir_batcher_target(batcher, now_us), lowered(1000000, 1, 31));
    weir_batcher_destroy(&batcher);
}

static void a_batch_closes_with_the_block_that_reaches_the_target(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    rig *self = rig_new(&config);
    for (int i = 0; i < 3; i++)
        offer(self, 50, 20, 0);
    assert_next(self, 0, 100, 1); // the target is 64
    assert_null(next(self, 0));
    assert_int_equal(weir_batcher_open_records(self->batcher), 50);
    rig_destroy(self);
}

static void the_most_records_cut_a_block(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.max_records = 64;
    rig *self = rig_new(&config);
    offer(self, 150, 20, 0);
    assert_next(self, 0, 64, 1);
    assert_next(self, 0, 64, 65);
    assert_null(next(self, 0));
    assert_int_equal(weir_batcher_open_records(self->batcher), 22);
    rig_destroy(self);
}

static void a_lower_target_closes_the_open_batch(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.max_delay_us = 1000 * SECOND;
    rig *self = rig_new(&config);
    int64_t now_us = 0;
    arrive(self->batcher, &now_us, 100000, 50);
    offer(self, 500, 20, now_us);
    assert_null(next(self, now_us));
    offer(self, 1, 20, now_us += 10 * SECOND);
    assert_next(self, now_us, 500, 1);
    assert_null(next(self, now_us));
    rig_destroy(self);
}

/* --- Closing ----------------------------------------------------------------------- */

static void a_lone_record_waits_for_max_delay(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    rig *self = rig_new(&config);
    int64_t now_us = 1000 * SECOND;
    assert_null(next(self, now_us));
    assert_int_equal(weir_batcher_deadline(self->batcher), -1);
    offer(self, 1, 20, now_us);
    assert_null(next(self, now_us + 2 * MS));
    assert_int_equal(weir_batcher_deadline(self->batcher), now_us + 10 * MS);
    assert_null(next(self, now_us + 10 * MS - 1));
    assert_next(self, now_us + 10 * MS, 1, 1);
    assert_int_equal(weir_batcher_deadline(self->batcher), -1);
    rig_destroy(self);
}

static void sequences_begin_at_1_and_have_no_gaps(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    rig *self = rig_new(&config);
    uint64_t sequence = 1;
    int64_t now_us = 0;
    for (uint32_t i = 0; i < 200; i++) {
        offer(self, 1 + i * 37 % 150, 1 + i * 71 % 9000, now_us += 3 * MS);
        for (weir_batch *batch; (batch = next(self, now_us));) {
            assert_int_equal(batch->first, sequence);
            assert_true(batch->records > 0);
            sequence += batch->records;
            assert_int_equal(weir_batcher_sequence(self->batcher), sequence);
            weir_batch_destroy(&batch);
            weir_batcher_settled(self->batcher);
        }
        assert_int_equal(weir_batcher_sequence(self->batcher),
                         sequence + weir_batcher_open_records(self->batcher));
    }
    assert_true(sequence > 10000);
    rig_destroy(self);
}

static uint32_t random_below(uint64_t *seed, uint32_t bound)
{
    *seed = *seed * 6364136223846793005 + 1442695040888963407;
    return (uint32_t)((*seed >> 33) % bound);
}

/*  About 64 KB, and at most 1000 records, of 1 to `most` bytes.                    */
static weir_block *random_block(uint64_t *seed, uint32_t most)
{
    static const uint8_t payload[4096];
    weir_builder builder = {.target = 64 << 10};
    while (!weir_builder_full(&builder) && builder.records < 1000)
        weir_builder_add_payload(&builder, WEIR_TEXT, payload,
                                 1 + random_below(seed, most), NULL);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static void no_batch_is_too_large(void **state)
{
    (void)state;
    const char *given = getenv("WEIR_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    weir_block *blocks[64];
    for (int i = 0; i < 64; i++)
        blocks[i] = random_block(&seed, i < 32 ? 4096 : 64);
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.min_records = config.max_records;
    rig *self = rig_new(&config);
    uint64_t records = 0, bytes = 0, offered = 0, offered_bytes = 0;
    uint32_t most = 0;
    size_t most_bytes = 0;
    for (int64_t now_us = 0; offered < 1000000; now_us += 100) {
        uint32_t small = offered / 100000 % 2 ? 32 : 0;
        weir_block *block = blocks[small + random_below(&seed, 32)];
        put(self, block, now_us);
        offered += weir_block_records(block);
        offered_bytes += weir_block_size(block);
        for (weir_batch *batch; (batch = next(self, now_us));) {
            assert_in_range(batch->records, 1, config.max_records);
            assert_in_range(batch->bytes, 1, config.max_bytes);
            if (batch->records > most) most = batch->records;
            if (batch->bytes > most_bytes) most_bytes = batch->bytes;
            records += batch->records;
            bytes += batch->bytes;
            weir_batch_destroy(&batch);
            weir_batcher_settled(self->batcher);
        }
    }
    weir_batch *last = next(self, INT64_MAX / 2);
    assert_int_equal(records + (last ? last->records : 0), offered);
    assert_int_equal(bytes + (last ? last->bytes : 0), offered_bytes);
    assert_int_equal(most, config.max_records); // both bounds were met
    assert_true(most_bytes > (size_t)config.max_bytes - 4200);
    weir_batch_destroy(&last);
    rig_destroy(self);
    for (int i = 0; i < 64; i++)
        weir_block_destroy(&blocks[i]);
}

static void a_large_record_is_a_batch_of_its_own(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.max_bytes = 4096;
    rig *self = rig_new(&config);
    offer(self, 3, 20, 0);
    offer(self, 2, 10000, 0);
    offer(self, 1, 20, 0);
    assert_next(self, 0, 3, 1);
    assert_next(self, 0, 1, 4);
    assert_next(self, 0, 1, 5);
    assert_null(next(self, 0));
    assert_int_equal(weir_batcher_open_records(self->batcher), 1);
    rig_destroy(self);
}

static void a_batch_may_fill_max_bytes_exactly(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    uint32_t number = 0;
    weir_block *block = block_of(1, 1000, &number);
    config.max_bytes = 3 * (int64_t)weir_block_size(block);
    weir_block_destroy(&block);
    rig *self = rig_new(&config);
    offer(self, 6, 1000, 0);
    assert_next(self, 0, 3, 1);
    assert_next(self, 0, 3, 4);
    assert_null(next(self, 0));
    rig_destroy(self);
}

static void at_most_in_flight_are_out(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.in_flight = 2;
    config.max_records = 64;
    rig *self = rig_new(&config);
    offer(self, 3 * 64 + 10, 20, 0);
    weir_batch *one = next(self, 0), *two = next(self, 0);
    assert_non_null(one);
    assert_non_null(two);
    assert_int_equal(weir_batcher_in_flight(self->batcher), 2);
    assert_null(next(self, SECOND));
    assert_int_equal(weir_batcher_open_records(self->batcher), 0); // nothing is taken
    weir_batcher_settled(self->batcher);
    weir_batch *three = next(self, SECOND);
    assert_int_equal(three->records, 64);
    weir_batcher_settled(self->batcher);
    assert_next(self, SECOND, 10, 193); // it waited long enough in the ring
    offer(self, 1, 20, SECOND);
    assert_null(next(self, SECOND));
    assert_int_equal(weir_batcher_deadline(self->batcher), SECOND + 10 * MS);
    offer(self, 63, 20, SECOND);
    weir_batch *four = next(self, SECOND);
    assert_int_equal(four->records, 64);
    assert_int_equal(weir_batcher_deadline(self->batcher), -1);
    weir_batch_destroy(&one);
    weir_batch_destroy(&two);
    weir_batch_destroy(&three);
    weir_batch_destroy(&four);
    rig_destroy(self);
}

static void nothing_is_due_while_all_are_out(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.in_flight = 1;
    rig *self = rig_new(&config);
    offer(self, 1, 20, 0);
    assert_null(next(self, 0));
    weir_batch *batch = next(self, 10 * MS);
    assert_non_null(batch);
    offer(self, 1, 20, 20 * MS);
    assert_null(next(self, SECOND));
    assert_int_equal(weir_batcher_deadline(self->batcher), -1);
    weir_batcher_settled(self->batcher);
    assert_next(self, SECOND, 1, 2);
    weir_batch_destroy(&batch);
    rig_destroy(self);
}

/* --- Tokens ------------------------------------------------------------------------ */

static void a_token_closes_the_open_batch(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.max_delay_us = 60 * SECOND;
    config.in_flight = 1;
    rig *self = rig_new(&config);
    weir_entry tokens[3] = {0};
    offer(self, 50, 20, 0);
    assert_null(next(self, 0));
    weir_ring_put_token(self->ring, &tokens[0], MS);
    weir_ring_put_token(self->ring, &tokens[1], MS);
    offer(self, 5, 20, MS);
    weir_ring_put_token(self->ring, &tokens[2], MS);
    weir_batch *batch = next(self, MS);
    assert_int_equal(batch->records, 50);
    assert_int_equal(self->token_count, 0); // its batch was not given yet
    assert_null(next(self, MS));            // no batch may be given, yet the token goes
    assert_int_equal(self->token_count, 1);
    weir_batch_destroy(&batch);
    weir_batcher_settled(self->batcher);
    assert_next(self, MS, 5, 51);
    assert_int_equal(self->token_count, 2);
    assert_null(next(self, MS));
    assert_int_equal(self->token_count, 3);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(self->tokens[i], &tokens[i]);
    rig_destroy(self);
}

static void a_token_behind_a_full_batch_closes_nothing(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    rig *self = rig_new(&config);
    weir_entry token = {0};
    offer(self, 64, 20, 0);
    weir_ring_put_token(self->ring, &token, 0);
    assert_next(self, 0, 64, 1);
    assert_null(next(self, 0));
    assert_int_equal(self->token_count, 1);
    rig_destroy(self);
}

/* --- Batches ----------------------------------------------------------------------- */

/*  The numbers of the records, from *number on.                                    */
static void assert_numbers(const weir_batch *batch, uint32_t *number)
{
    weir_batch_walk walk = {.batch = batch};
    weir_record record;
    uint32_t records = 0, found;
    for (; weir_batch_next(&walk, &record); records++, (*number)++) {
        memcpy(&found, record.data, sizeof found);
        assert_int_equal(found, *number);
    }
    assert_int_equal(records, batch->records);
    assert_false(weir_batch_next(&walk, &record));
}

static void records_come_in_order(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    rig *self = rig_new(&config);
    uint32_t offered = 0, seen = 0, several = 0;
    for (uint32_t i = 0; offered < 1000; i++) {
        weir_block *block = block_of(1 + i * 7 % 100, 10, &offered);
        put(self, block, 0);
        weir_block_destroy(&block);
    }
    for (weir_batch *batch; (batch = next(self, SECOND));) {
        several += batch->piece_count > 1;
        assert_numbers(batch, &seen);
        weir_batch_destroy(&batch);
        weir_batcher_settled(self->batcher);
    }
    assert_int_equal(seen, offered);
    assert_true(several > 5);
    rig_destroy(self);
}

static void nothing_is_copied(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    config.max_records = 64;
    rig *self = rig_new(&config);
    uint32_t number = 0;
    weir_block *block = block_of(100, 200, &number);
    const uint8_t *body = weir_block_body(block);
    put(self, block, 0);
    weir_block_destroy(&block);
    weir_batch *one = next(self, 0), *two = next(self, SECOND);
    assert_int_equal(one->piece_count, 1);
    assert_ptr_equal(weir_block_body(one->pieces[0].block), body);
    assert_ptr_equal(weir_block_body(two->pieces[0].block), body + one->bytes);
    assert_ptr_equal(two->pieces[0].entry, &self->entry);
    weir_batch_destroy(&one);
    weir_batch_destroy(&two);
    rig_destroy(self);
}

static void a_batch_knows_when_its_first_record_came(void **state)
{
    (void)state;
    weir_batch_config config = WEIR_BATCH_DEFAULTS;
    rig *self = rig_new(&config);
    offer(self, 1, 20, 0);
    weir_batch *batch = next(self, 5 * SECOND);
    assert_int_equal(batch->arrived_ms, WALL_MS - 5000);
    weir_batch_destroy(&batch);
    rig_destroy(self);
}

static void the_last_reference_frees_a_batch(void **state)
{
    (void)state;
    uint32_t number = 0, seen = 0;
    weir_batch *batch = weir_batch_new();
    for (int i = 0; i < 20; i++) {
        weir_piece piece = {.block = block_of(3, 10, &number)};
        weir_batch_add(batch, &piece);
        assert_null(piece.block);
    }
    assert_int_equal(batch->records, 60);
    batch->fences = calloc(1, sizeof *batch->fences);
    weir_batch *other = weir_batch_dup(batch);
    assert_ptr_equal(other, batch);
    weir_batch_destroy(&batch);
    assert_null(batch);
    assert_numbers(other, &seen);
    weir_batch_destroy(&other);
    weir_batch_destroy(&other);
    weir_batch *empty = weir_batch_new();
    assert_numbers(empty, &seen);
    weir_batch_destroy(&empty);
}

static void the_answer_of_a_read_is_freed(void **state)
{
    (void)state;
    uint32_t number = 0;
    weir_read read = {.chunk_count = 2, .gap_count = 1};
    read.chunks = calloc(2, sizeof *read.chunks);
    read.gaps = calloc(1, sizeof *read.gaps);
    assert_non_null(read.chunks);
    read.chunks[0].block = block_of(3, 10, &number);
    weir_read_fini(&read);
    assert_null(read.chunks);
    assert_null(read.gaps);
    assert_int_equal(read.chunk_count + read.gap_count, 0);
    weir_read_fini(&read);
}

/* --- Retry ------------------------------------------------------------------------- */

static void waits_double_up_to_the_longest(void **state)
{
    (void)state;
    weir_retry_wait retry = {100 * MS, 30 * SECOND};
    int64_t expected = 100 * MS;
    for (uint64_t attempt = 1; attempt <= 100; attempt++) {
        int64_t wait = weir_retry_wait_us(&retry, 0x123456789, 4, 17, attempt);
        assert_in_range(wait, expected * 3 / 4, expected * 5 / 4);
        expected = expected * 2 < 30 * SECOND ? expected * 2 : 30 * SECOND;
    }
    assert_in_range(weir_retry_wait_us(&retry, 1, 2, 3, UINT64_MAX), 30 * SECOND * 3 / 4,
                    30 * SECOND * 5 / 4);
    retry = (weir_retry_wait){3600LL * SECOND, 3600LL * SECOND};
    assert_in_range(weir_retry_wait_us(&retry, 1, 2, 3, 1), 2700LL * SECOND,
                    4500LL * SECOND);
}

static void shards_wait_differently(void **state)
{
    (void)state;
    weir_retry_wait retry = {100 * MS, 30 * SECOND};
    uint32_t different = 0;
    for (uint64_t shard = 0; shard < 16; shard++) {
        bool seen = false;
        int64_t wait = weir_retry_wait_us(&retry, 99, shard, 1, 1);
        for (uint64_t before = 0; before < shard; before++)
            seen = seen || weir_retry_wait_us(&retry, 99, before, 1, 1) == wait;
        different += !seen;
    }
    assert_true(different >= 12);
}

static void the_wait_is_that_of_the_formula(void **state)
{
    (void)state;
    weir_retry_wait retry = {100 * MS, 30 * SECOND};
    uint8_t bytes[32] = {0};
    bytes[0] = 0xef, bytes[7] = 0x80; // nonce
    bytes[8] = 5;                     // shard
    bytes[16] = 0xd2, bytes[17] = 4;  // sequence 1234
    bytes[24] = 3;                    // attempt
    double u = (double)XXH3_64bits(bytes, sizeof bytes) / 18446744073709551616.0;
    int64_t wait = weir_retry_wait_us(&retry, 0x80000000000000ef, 5, 1234, 3);
    assert_in_range(wait, (int64_t)(400000 * (0.75 + u / 2)) - 1,
                    (int64_t)(400000 * (0.75 + u / 2)) + 1);
}

int main(void)
{
    weir_clock_go_virtual(WALL_MS);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_target_reaches_1000_in_22_steps),
        cmocka_unit_test(the_rate_is_that_of_the_window),
        cmocka_unit_test(silence_lowers_the_target_by_at_most_32_steps),
        cmocka_unit_test(a_batch_closes_with_the_block_that_reaches_the_target),
        cmocka_unit_test(the_most_records_cut_a_block),
        cmocka_unit_test(a_lower_target_closes_the_open_batch),
        cmocka_unit_test(a_lone_record_waits_for_max_delay),
        cmocka_unit_test(sequences_begin_at_1_and_have_no_gaps),
        cmocka_unit_test(no_batch_is_too_large),
        cmocka_unit_test(a_large_record_is_a_batch_of_its_own),
        cmocka_unit_test(a_batch_may_fill_max_bytes_exactly),
        cmocka_unit_test(at_most_in_flight_are_out),
        cmocka_unit_test(nothing_is_due_while_all_are_out),
        cmocka_unit_test(a_token_closes_the_open_batch),
        cmocka_unit_test(a_token_behind_a_full_batch_closes_nothing),
        cmocka_unit_test(records_come_in_order),
        cmocka_unit_test(nothing_is_copied),
        cmocka_unit_test(a_batch_knows_when_its_first_record_came),
        cmocka_unit_test(the_last_reference_frees_a_batch),
        cmocka_unit_test(the_answer_of_a_read_is_freed),
        cmocka_unit_test(waits_double_up_to_the_longest),
        cmocka_unit_test(shards_wait_differently),
        cmocka_unit_test(the_wait_is_that_of_the_formula),
    };
    return cmocka_run_group_tests_name("batcher", tests, NULL, NULL);
}
