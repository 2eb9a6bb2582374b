/*  Blocks of numbered records, and a ring that notes in each entry what it is told of it:
    fates.shed, and fates.done for what has left.                                   */
#pragma once
#include "actors/ring.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/*  Bytes around a payload of 256 to 65535 bytes without key.                       */
enum { AROUND = 7 };

static inline void note_shed(void *arg, weir_entry *entry, uint32_t records)
{
    (void)arg;
    assert_true(records > 0);
    entry->fates.shed += records;
}

static inline void note_left(void *arg, weir_entry *entry, uint32_t records)
{
    (void)arg;
    assert_true(records > 0);
    entry->fates.done += records;
}

static inline weir_ring *new_ring(int overflow, int64_t records, int64_t bytes)
{
    weir_ring_config config = {.records = records,
                               .bytes = bytes,
                               .overflow = overflow,
                               .one_in = 10,
                               .shed = note_shed,
                               .left = note_left};
    return weir_ring_new(&config);
}

/*  A record whose payload begins with its number. key: a digit, or -1 for none.    */
static inline void add_record(weir_builder *builder, uint32_t number, size_t size,
                              int key)
{
    weir_buffer payload = {0};
    weir_buffer_put(&payload, &number, sizeof number);
    while (payload.size < size)
        weir_buffer_put_byte(&payload, 'x');
    char text[] = {'k', (char)('0' + key)};
    weir_record record = {
        .format = WEIR_TEXT, .data = payload.data, .size = payload.size};
    if (key >= 0)
        record.key = (weir_value){.type = WEIR_STR,
                                  .format = WEIR_MSGPACK,
                                  .data = (const uint8_t *)text,
                                  .size = sizeof text};
    weir_builder_add(builder, &record, NULL);
    weir_buffer_fini(&payload);
}

/*  Numbers from `first` on, all of `size` bytes without key.                       */
static inline weir_block *new_block(weir_ledger *ledger, uint32_t first, uint32_t records,
                                    size_t size)
{
    weir_builder builder = {.ledger = ledger};
    for (uint32_t i = 0; i < records; i++)
        add_record(&builder, first + i, size, -1);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static inline uint32_t number_of(const weir_record *record)
{
    uint32_t number;
    memcpy(&number, record->data, sizeof number);
    return number;
}

/*  Offers such a block.                                                            */
static inline weir_err offer(weir_ring *ring, weir_entry *entry, uint32_t first,
                             uint32_t records, size_t size)
{
    weir_block *block = new_block(NULL, first, records, size);
    weir_err err = weir_ring_offer(ring, block, entry, 0);
    weir_block_destroy(&block);
    return err;
}

static inline weir_ring_stats look(weir_ring *ring)
{
    weir_ring_stats stats;
    weir_ring_look(ring, 0, &stats);
    return stats;
}

/*  The numbers of all that is ready, tokens as T: "1 2 T 3".                       */
static inline const char *take_all(weir_ring *ring)
{
    static char text[8192];
    size_t size = 0;
    weir_piece piece;
    text[0] = 0;
    while (weir_ring_take(ring, UINT32_MAX, SIZE_MAX, 0, &piece)) {
        if (!piece.block) size += (size_t)sprintf(text + size, "%sT", size ? " " : "");
        weir_iterator walk = {.block = piece.block};
        weir_record record;
        while (piece.block && weir_iterator_next(&walk, &record, NULL))
            size +=
                (size_t)sprintf(text + size, "%s%u", size ? " " : "", number_of(&record));
        weir_block_destroy(&piece.block);
        assert_true(size < sizeof text / 2);
    }
    return text;
}

/*  A set of vnodes with this one key in it.                                        */
enum { VNODES = 256 };

static inline void add_vnode_of(uint64_t set[VNODES / 64], int key)
{
    char text[] = {'k', (char)('0' + key)};
    uint32_t vnode = weir_key_vnode((const uint8_t *)text, sizeof text, VNODES);
    set[vnode / 64] |= 1ull << vnode % 64;
}
