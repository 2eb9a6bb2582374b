/*  The commands that add entries once, against a real server and a model of what it has
   to know. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "help_redis.h"

#include "actors/redis_once.h"

static const int64_t an_hour = INT64_C(3600000000);

/* --- What is said ------------------------------------------------------------------ */

static char *sha_of(weir_redis_id_kind kind)
{
    static char sha[64];
    redisReply *reply = say("SCRIPT LOAD %s", weir_redis_once_scripts[kind]);
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    snprintf(sha, sizeof sha, "%s", reply->str);
    freeReplyObject(reply);
    return sha;
}

static void print_place(const weir_place *place, char text[96])
{
    snprintf(text, 96, "%016" PRIx64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu64, place->nonce,
             place->epoch, place->shard, place->sequence);
}

/*  The stream `s` gets an entry `p` = its place for each.                             */
static redisReply *add(weir_redis_id_kind kind, const weir_place *places, size_t count,
                       const char *maxlen)
{
    static weir_redis_chunk chunk;
    weir_buffer out = {0};
    weir_redis_chunk_begin(&chunk, kind);
    for (size_t i = 0; i < count; i++)
        assert_true(weir_redis_chunk_add(&chunk, &places[i]));
    weir_redis_once how = {.stream = (const uint8_t *)"s",
                           .stream_size = 1,
                           .sha = sha_of(kind),
                           .dedup_us = an_hour,
                           .maxlen = maxlen,
                           .words = 2};
    weir_redis_once_begin(&how, &chunk, &out);
    const weir_redis_run *run = chunk.runs;
    for (size_t i = 0, run_end = 0; i < count; i++) {
        char text[96];
        print_place(&places[i], text);
        if (kind == WEIR_REDIS_PLACE && i == run_end) {
            weir_redis_once_put_run(run, &out);
            run_end += run++->count;
        }
        if (kind == WEIR_REDIS_TEXT) weir_redis_put_text(&out, text);
        weir_redis_put_text(&out, "p");
        weir_redis_put_text(&out, text);
    }
    redisReply *reply;
    assert_int_equal(redisAppendFormattedCommand(client, (char *)out.data, out.size), 0);
    assert_int_equal(redisGetReply(client, (void **)&reply), REDIS_OK);
    weir_buffer_fini(&out);
    return reply;
}

/* --- The model --------------------------------------------------------------------- */

enum { nonces = 2, epochs = 2, shards = 3, sequences = 6000, chunks = 60 };

static bool known[nonces][epochs][shards][sequences];
static weir_place stored[nonces * epochs * shards * sequences];
static size_t stored_count;

static bool *known_of(const weir_place *place)
{
    return &known[place->nonce - 1][place->epoch - 1][place->shard][place->sequence];
}

/*  Runs of one shard, as blocks bring them, some from the past, some with gaps, some in
    no order at all.                                                                   */
static size_t draw_places(weir_place *places)
{
    size_t count = 0, most = 1 + draw(WEIR_REDIS_CHUNK_ITEMS);
    while (count < most) {
        weir_place place = {.nonce = 1 + draw(nonces),
                            .epoch = 1 + draw(epochs),
                            .shard = draw(shards),
                            .sequence = draw(sequences)};
        uint32_t length = 1 + draw(200), step = draw(8) ? 1 : 1 + draw(70);
        bool chaos = !draw(10);
        for (; length-- && count < most && place.sequence < sequences;
             place.sequence += step) {
            if (chaos) place.sequence = draw(sequences);
            places[count++] = place;
        }
    }
    return count;
}

static size_t expect_new(const weir_place *places, size_t count)
{
    size_t fresh = 0;
    for (size_t i = 0; i < count; i++) {
        if (*known_of(&places[i])) continue;
        *known_of(&places[i]) = true;
        stored[stored_count++] = places[i];
        fresh++;
    }
    return fresh;
}

static void check_stored(void)
{
    redisReply *all = say("XRANGE s - +");
    assert_int_equal(all->elements, stored_count);
    for (size_t i = 0; i < stored_count; i++) {
        char text[96];
        print_place(&stored[i], text);
        assert_string_equal(all->element[i]->element[1]->element[1]->str, text);
    }
    freeReplyObject(all);
}

static void add_at_random(weir_redis_id_kind kind)
{
    static weir_place places[WEIR_REDIS_CHUNK_ITEMS];
    memset(known, 0, sizeof known);
    stored_count = 0;
    for (int i = 0; i < chunks; i++) {
        size_t count = draw_places(places);
        assert_int_equal(number_of(add(kind, places, count, "0")),
                         expect_new(places, count));
    }
    assert_true(stored_count > 1000);
    check_stored();
}

static void ids_by_text_are_added_once_and_in_order(void **state)
{
    (void)state;
    add_at_random(WEIR_REDIS_TEXT);
}

static void places_are_added_once_and_in_order(void **state)
{
    (void)state;
    add_at_random(WEIR_REDIS_PLACE);
}

/* --- One by one -------------------------------------------------------------------- */

static size_t fill(weir_place *places, uint64_t from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        places[i] = (weir_place){.nonce = 1, .epoch = 1, .sequence = from + i};
    return count;
}

static void a_bit_is_what_a_place_takes(void **state)
{
    (void)state;
    weir_place places[1000];
    for (uint64_t from = 0; from < 20000; from += 1000) {
        fill(places, from, 1000);
        assert_int_equal(number_of(add(WEIR_REDIS_PLACE, places, 1000, "0")), 1000);
    }
    redisReply *keys = say("KEYS {s}:weir-ids:*");
    assert_int_equal(keys->elements, 10); // 20,000 / 2,048
    for (size_t i = 0; i < keys->elements; i++) {
        assert_in_range(number_of(say("STRLEN %s", keys->element[i]->str)), 1, 256);
        assert_in_range(number_of(say("PTTL %s", keys->element[i]->str)), 3500000,
                        3600000);
    }
    freeReplyObject(keys);
    assert_int_equal(number_of(say("EXISTS {s}:weir-ids:0000000000000001:1:0:9")), 1);
}

/*  The greatest sequence there is, and every bit of a word.                           */
static void the_last_places_are_as_good_as_the_first(void **state)
{
    (void)state;
    weir_place places[64];
    fill(places, UINT64_MAX - 63, 64);
    assert_int_equal(number_of(add(WEIR_REDIS_PLACE, places + 31, 2, "0")), 2);
    assert_int_equal(number_of(add(WEIR_REDIS_PLACE, places, 64, "0")), 62);
    assert_int_equal(number_of(add(WEIR_REDIS_PLACE, places, 64, "0")), 0);
}

static void a_place_that_comes_twice_in_a_row_is_added_once(void **state)
{
    (void)state;
    weir_place places[6];
    fill(places, 40, 6);
    places[1] = places[0];
    places[4] = places[3];
    assert_int_equal(number_of(add(WEIR_REDIS_PLACE, places, 6, "0")), 4);
    assert_int_equal(number_of(say("XLEN s")), 4);
}

static void a_stream_is_trimmed(void **state)
{
    (void)state;
    weir_place places[1000];
    for (uint64_t from = 0; from < 5000; from += 1000) {
        fill(places, from, 1000);
        assert_int_equal(number_of(add(WEIR_REDIS_PLACE, places, 1000, "100")), 1000);
        assert_in_range(number_of(say("XLEN s")), 100, 300);
        fill(places, from + 10000, 1000);
        assert_int_equal(number_of(add(WEIR_REDIS_TEXT, places, 1000, "100")), 1000);
        assert_in_range(number_of(say("XLEN s")), 100, 300);
    }
}

static void expect_error(redisReply *reply, const char *words)
{
    assert_int_equal(reply->type, REDIS_REPLY_ERROR);
    if (!strstr(reply->str, words)) fail_msg("not \"%s\": %s", words, reply->str);
    freeReplyObject(reply);
}

/*  Two more entries find an id in the stream: what was added before one that fails is
    known, and the rest is not.                                                        */
static void what_was_added_before_a_failure_is_known(void **state)
{
    (void)state;
    for (weir_redis_id_kind kind = WEIR_REDIS_TEXT; kind <= WEIR_REDIS_PLACE; kind++) {
        weir_place places[5];
        fill(places, 30, 5);
        DO("DEL s");
        DO("XADD s 18446744073709551615-18446744073709551613 p first");
        expect_error(add(kind, places, 5, "0"), "exhausted");
        assert_int_equal(number_of(say("XLEN s")), 3);
        DO("DEL s");
        assert_int_equal(number_of(add(kind, places, 5, "0")), 3);
        assert_int_equal(number_of(add(kind, places, 5, "0")), 0);
    }
}

static void a_key_of_the_wrong_type_is_an_error(void **state)
{
    (void)state;
    weir_place places[5];
    fill(places, 0, 5);
    DO("LPUSH s x");
    expect_error(add(WEIR_REDIS_PLACE, places, 5, "0"), "WRONGTYPE");
    expect_error(add(WEIR_REDIS_TEXT, places, 5, "0"), "WRONGTYPE");
    DO("DEL s");
    DO("LPUSH {s}:weir-ids x");
    DO("LPUSH {s}:weir-ids:0000000000000001:1:0:0 x");
    expect_error(add(WEIR_REDIS_PLACE, places, 5, "0"), "WRONGTYPE");
    expect_error(add(WEIR_REDIS_TEXT, places, 5, "0"), "WRONGTYPE");
    assert_int_equal(number_of(say("EXISTS s")), 0);
}

static void a_full_server_is_left_as_it_is(void **state)
{
    (void)state;
    weir_place places[100];
    fill(places, 0, 100);
    DO("CONFIG SET maxmemory 1");
    expect_error(add(WEIR_REDIS_PLACE, places, 100, "0"), "OOM");
    expect_error(add(WEIR_REDIS_TEXT, places, 100, "0"), "OOM");
    DO("CONFIG SET maxmemory 0");
    assert_int_equal(number_of(say("DBSIZE")), 0);
    assert_int_equal(number_of(add(WEIR_REDIS_PLACE, places, 100, "0")), 100);
}

static void a_chunk_touches_a_bounded_number_of_keys(void **state)
{
    (void)state;
    static weir_redis_chunk chunk;
    weir_redis_chunk_begin(&chunk, WEIR_REDIS_PLACE);
    weir_place place = {.nonce = 1, .epoch = 1};
    for (int i = 0; i < WEIR_REDIS_CHUNK_PAGES; i++, place.sequence += 2048)
        assert_true(weir_redis_chunk_add(&chunk, &place));
    assert_false(weir_redis_chunk_add(&chunk, &place));
    place.sequence = 7; // its page is there
    assert_true(weir_redis_chunk_add(&chunk, &place));
    assert_int_equal(chunk.count, WEIR_REDIS_CHUNK_PAGES + 1);
    weir_redis_chunk_begin(&chunk, WEIR_REDIS_TEXT);
    for (int i = 0; i < WEIR_REDIS_CHUNK_ITEMS; i++)
        assert_true(weir_redis_chunk_add(&chunk, &place));
    assert_false(weir_redis_chunk_add(&chunk, &place));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_SERVER(ids_by_text_are_added_once_and_in_order),
        ON_SERVER(places_are_added_once_and_in_order),
        ON_SERVER(a_bit_is_what_a_place_takes),
        ON_SERVER(the_last_places_are_as_good_as_the_first),
        ON_SERVER(a_place_that_comes_twice_in_a_row_is_added_once),
        ON_SERVER(a_stream_is_trimmed),
        ON_SERVER(what_was_added_before_a_failure_is_known),
        ON_SERVER(a_key_of_the_wrong_type_is_an_error),
        ON_SERVER(a_full_server_is_left_as_it_is),
        cmocka_unit_test(a_chunk_touches_a_bounded_number_of_keys),
    };
    RUN_IF_THERE(tests);
}
