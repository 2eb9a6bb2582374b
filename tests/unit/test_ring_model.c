/*  The ring against a model that takes the rules literally, record by record, under
    random offers, takes, tokens and parking. WEIR_SEED repeats a run.              */
#include <stdlib.h>
#include <time.h>
#include "tests/unit/help_ring.h"

#ifdef WEIR_SANITIZED
#define ROUNDS 60
#else
#define ROUNDS 300
#endif
enum { STEPS = 300, KEYS = 10, RECORDS_MAX = STEPS * 40, ENTRIES_MAX = STEPS };

static uint64_t seed;

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed * 0x2545f4914f6cdd1d >> 33) % n);
}

/* --- The model --------------------------------------------------------------------- */

typedef struct {
    uint32_t number;
    int key;      // -1: none
    int64_t size; // encoded; 0: a token
    uint32_t entry;
} item;

typedef struct {
    item items[RECORDS_MAX];
    size_t count;
} queue;

typedef struct {
    weir_ring *ring;
    weir_ledger *ledger;
    weir_ring_config config;
    queue ready, parked;
    weir_ring_stats stats; // what must be
    uint64_t found_full;
    bool parks[KEYS];
    bool parking;
    uint64_t taken;
    uint32_t next_number, entries;
    weir_entry told[ENTRIES_MAX]; // by the ring
    weir_fates want[ENTRIES_MAX];
    uint32_t last_of_key[KEYS]; // taken
} model;

static item remove_at(queue *self, size_t i)
{
    item removed = self->items[i];
    self->count--;
    memmove(&self->items[i], &self->items[i + 1],
            (self->count - i) * sizeof *self->items);
    return removed;
}

static void add(queue *self, item added)
{
    assert_true(self->count < RECORDS_MAX);
    self->items[self->count++] = added;
}

static bool has_room(const model *m, int64_t records, int64_t bytes)
{
    return (int64_t)m->stats.count + records <= m->config.records &&
           (int64_t)m->stats.bytes + bytes <= m->config.bytes;
}

/*  Of the first record in it; false: there is none.                                */
static bool evict_from(model *m, queue *from)
{
    size_t i = 0;
    while (i < from->count && from->items[i].size == 0)
        i++;
    if (i == from->count) return false;
    item gone = remove_at(from, i);
    m->stats.count--;
    m->stats.bytes -= (uint64_t)gone.size;
    m->stats.evicted++;
    m->want[gone.entry].shed++;
    m->want[gone.entry].done++;
    while (m->parked.count && m->parked.items[0].size == 0)
        add(&m->ready, remove_at(&m->parked, 0));
    return true;
}

static bool enters(model *m, const item *record)
{
    if (has_room(m, 1, record->size)) {
        m->found_full = 0;
        return true;
    }
    switch (m->config.overflow) {
    case WEIR_OVERFLOW_DROP_NEWEST:
        m->stats.full++;
        return false;
    case WEIR_OVERFLOW_SAMPLE:
        if (m->found_full++ % (uint64_t)m->config.one_in == 0) break;
        m->stats.sampled++;
        return false;
    case WEIR_OVERFLOW_DROP_OLDEST:
        break;
    default:
        return true;
    }
    while (!has_room(m, 1, record->size))
        assert_true(evict_from(m, &m->ready) || evict_from(m, &m->parked));
    return true;
}

static void offer_one(model *m, const item *record)
{
    if (!enters(m, record)) {
        m->want[record->entry].shed++;
        return;
    }
    bool parked = record->key >= 0 && m->parking && m->parks[record->key];
    add(parked ? &m->parked : &m->ready, *record);
    m->stats.accepted++;
    m->stats.count++;
    m->stats.bytes += (uint64_t)record->size;
}

static weir_err offer_model(model *m, const item *records, uint32_t count)
{
    int64_t bytes = 0;
    bool too_large = false;
    m->stats.offered += count;
    for (uint32_t i = 0; i < count; i++) {
        bytes += records[i].size;
        if (2 * records[i].size > m->config.bytes) too_large = true;
    }
    if (too_large) {
        m->stats.too_large += count;
        return WEIR_ETOOBIG;
    }
    if (m->config.overflow == WEIR_OVERFLOW_FAIL && !has_room(m, count, bytes)) {
        m->stats.full += count;
        return WEIR_EFULL;
    }
    for (uint32_t i = 0; i < count; i++)
        offer_one(m, &records[i]);
    return WEIR_OK;
}

/* --- Both -------------------------------------------------------------------------- */

static void step_offer(model *m, int64_t now_us)
{
    item records[40];
    uint32_t count = 1 + below(below(3) ? 8 : 40), entry = m->entries++;
    weir_builder builder = {.ledger = m->ledger};
    int keyed = (int)below(3); // 0: none has a key
    for (uint32_t i = 0; i < count; i++) {
        size_t size = 4 + below(below(100) ? 300 : 1400), before = builder.body.size;
        int key = keyed && below(8) ? (int)below(KEYS) : -1;
        add_record(&builder, m->next_number, size, key);
        records[i] =
            (item){m->next_number++, key, (int64_t)(builder.body.size - before), entry};
    }
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    weir_err want = offer_model(m, records, count);
    assert_int_equal(weir_ring_offer(m->ring, block, &m->told[entry], now_us), want);
    weir_block_destroy(&block);
}

static void step_token(model *m, int64_t now_us)
{
    uint32_t entry = m->entries++;
    item token = {.entry = entry};
    add(m->parked.count ? &m->parked : &m->ready, token);
    weir_ring_put_token(m->ring, &m->told[entry], now_us);
}

/*  A record has been taken: it is the next one, and its key's records come in order. */
static void check_taken(model *m, const weir_record *record, const weir_entry *entry)
{
    item next = remove_at(&m->ready, 0);
    assert_int_equal(number_of(record), next.number);
    assert_int_equal(record->encoded_size, next.size);
    assert_ptr_equal(entry, &m->told[next.entry]);
    m->stats.count--;
    m->stats.bytes -= (uint64_t)next.size;
    m->want[next.entry].done++;
    m->taken++;
    if (next.key < 0) return;
    assert_true(next.number >= m->last_of_key[next.key]);
    m->last_of_key[next.key] = next.number;
}

static bool step_take(model *m, uint32_t max_records, size_t max_bytes, int64_t now_us)
{
    weir_piece piece;
    const item *next = &m->ready.items[0];
    bool some = m->ready.count && (size_t)next->size <= max_bytes;
    assert_int_equal(weir_ring_next_size(m->ring), m->ready.count ? next->size : 0);
    assert_int_equal(weir_ring_take(m->ring, max_records, max_bytes, now_us, &piece),
                     some);
    if (!some) return false;
    if (!piece.block) {
        item token = remove_at(&m->ready, 0);
        assert_int_equal(token.size, 0);
        assert_ptr_equal(piece.entry, &m->told[token.entry]);
        return true;
    }
    assert_in_range(weir_block_records(piece.block), 1, max_records);
    assert_in_range(weir_block_size(piece.block), 1, max_bytes);
    assert_int_equal(weir_block_check(piece.block), WEIR_OK);
    weir_iterator walk = {.block = piece.block};
    weir_record record;
    while (weir_iterator_next(&walk, &record, NULL))
        check_taken(m, &record, piece.entry);
    weir_block_destroy(&piece.block);
    return true;
}

static void step_park(model *m)
{
    uint64_t set[VNODES / 64] = {0};
    for (int i = 0; i < 3; i++) {
        int key = (int)below(KEYS);
        m->parks[key] = m->parking = true;
        add_vnode_of(set, key);
    }
    weir_ring_park(m->ring, set, VNODES);
}

static void step_release(model *m)
{
    uint64_t records = 0;
    for (; m->parked.count; add(&m->ready, remove_at(&m->parked, 0)))
        records += m->parked.items[0].size > 0;
    memset(m->parks, 0, sizeof m->parks);
    m->parking = false;
    assert_int_equal(weir_ring_release(m->ring), records);
}

static void check_sums(model *m, int64_t now_us)
{
    weir_ring_stats s;
    weir_ring_look(m->ring, now_us, &s);
    assert_int_equal(s.offered, s.accepted + s.full + s.sampled + s.too_large);
    assert_int_equal(s.accepted, m->taken + s.evicted + s.count);
    assert_int_equal(s.offered, m->stats.offered);
    assert_int_equal(s.accepted, m->stats.accepted);
    assert_int_equal(s.full, m->stats.full);
    assert_int_equal(s.sampled, m->stats.sampled);
    assert_int_equal(s.evicted, m->stats.evicted);
    assert_int_equal(s.count, m->stats.count);
    assert_int_equal(s.bytes, m->stats.bytes);
    uint64_t parked = 0;
    for (size_t i = 0; i < m->parked.count; i++)
        parked += m->parked.items[i].size > 0;
    assert_int_equal(s.parked, parked);
    assert_int_equal(weir_ring_is_full(m->ring), (int64_t)s.count >= m->config.records);
    for (uint32_t i = 0; i < m->entries; i++) {
        assert_int_equal(m->told[i].fates.shed, m->want[i].shed);
        assert_int_equal(m->told[i].fates.done, m->want[i].done);
    }
}

static void step(model *m, int64_t now_us)
{
    switch (below(16)) {
    case 0:
        step_token(m, now_us);
        break;
    case 1:
        if (!m->parking || below(4) == 0) step_park(m);
        break;
    case 2:
        if (m->parking) step_release(m);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        step_take(m, 1 + below(20), 1 + below(4000), now_us);
        break;
    default:
        step_offer(m, now_us);
    }
    check_sums(m, now_us);
}

static void run(int overflow)
{
    model *m = calloc(1, sizeof *m);
    int64_t now_us = 0;
    m->config = (weir_ring_config){.records = 1 + below(60),
                                   .bytes = 600 + below(12000),
                                   .overflow = overflow,
                                   .one_in = 1 + below(5),
                                   .shed = note_shed,
                                   .left = note_left};
    m->ledger = weir_ledger_new(1 << 30);
    m->ring = weir_ring_new(&m->config);
    for (int i = 0; i < STEPS; i++, now_us += below(100))
        step(m, now_us);
    if (m->parking) step_release(m);
    while (step_take(m, 1 + below(20), SIZE_MAX, now_us))
        continue;
    check_sums(m, now_us);
    assert_int_equal(m->stats.count, 0);
    assert_int_equal(weir_ledger_used(m->ledger), 0);
    assert_int_equal(weir_ledger_release_errors(m->ledger), 0);
    weir_ring_destroy(&m->ring);
    weir_ledger_destroy(&m->ledger);
    free(m);
}

static void all_policies_do_what_the_model_does(void **state)
{
    (void)state;
    const char *given = getenv("WEIR_SEED");
    uint64_t start = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("WEIR_SEED=%llu\n", (unsigned long long)start);
    seed = start * 2654435761u | 1;
    for (int i = 0; i < ROUNDS; i++)
        run(i % (WEIR_OVERFLOW_FAIL + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_policies_do_what_the_model_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
