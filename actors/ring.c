#include "actors/ring.h"
#include <assert.h>

const char *const weir_overflow_words[] = {"block",  "drop_newest", "drop_oldest",
                                           "sample", "fail",        NULL};

/*  Part of a block, or a token. All records of its block from the walk's place on are in
    the ring: where only part of a block enters, that part has been made a block.   */
typedef struct piece piece;
struct piece {
    piece *next;        // in its list, newer
    weir_iterator walk; // the block is owned; NULL: a token
    weir_entry *entry;
    int64_t since_us;
};

typedef struct {
    piece *first;
    piece **end;      // the link behind the last one
    piece **oldest;   // a link that only tokens stand before: where eviction looks
    uint64_t records; // of all pieces
} list;

/*  The parked list never begins with a token: it has nothing to wait for.          */
enum { READY, PARKED, LISTS };

struct weir_ring {
    weir_ring_config config;
    weir_ring_stats stats; // parked is not kept here, and fill_us is as of looked_us
    int64_t looked_us;
    list lists[LISTS];
    uint64_t *set; // of vnodes whose records are parked, a bit each; NULL: none are
    uint32_t vnodes;
    uint64_t found_full; // SAMPLE: records in a row that found it full
    weir_buffer scratch; // for keys
};

/* --- Lists ------------------------------------------------------------------------- */

static void list_init(list *self)
{
    *self = (list){.end = &self->first, .oldest = &self->first};
}

static uint32_t records_left(const piece *self)
{
    return self->walk.block ? weir_block_records(self->walk.block) - self->walk.record
                            : 0;
}

static size_t bytes_left(const piece *self)
{
    return weir_block_size(self->walk.block) - self->walk.offset;
}

static void link_piece(list *self, piece *added)
{
    added->next = NULL;
    *self->end = added;
    self->end = &added->next;
    self->records += records_left(added);
}

/*  Takes the piece behind this link out; what records it still has stay counted.   */
static piece *unlink_piece(list *self, piece **link)
{
    piece *taken = *link;
    *link = taken->next;
    if (self->end == &taken->next) self->end = link;
    if (self->oldest == &taken->next) self->oldest = link;
    return taken;
}

/*  The oldest piece with records; NULL: there is none.                             */
static piece *oldest_of(list *self)
{
    while (*self->oldest && !(*self->oldest)->walk.block)
        self->oldest = &(*self->oldest)->next;
    return *self->oldest;
}

static void piece_destroy(piece *self)
{
    weir_block *block = (weir_block *)self->walk.block;
    weir_block_destroy(&block);
    free(self);
}

static void list_fini(list *self)
{
    while (self->first)
        piece_destroy(unlink_piece(self, &self->first));
}

/*  Takes the block; NULL makes a token.                                            */
static piece *append(list *self, weir_block *block, weir_entry *entry, int64_t now_us)
{
    piece *added = malloc(sizeof *added);
    if (!added) abort();
    *added = (piece){.walk = {.block = block}, .entry = entry, .since_us = now_us};
    link_piece(self, added);
    return added;
}

/* --- Lifecycle --------------------------------------------------------------------- */

weir_ring *weir_ring_new(const weir_ring_config *config)
{
    weir_ring *self = calloc(1, sizeof *self);
    if (!self) abort();
    assert(config->records > 0 && config->bytes > 0);
    assert(config->overflow != WEIR_OVERFLOW_SAMPLE || config->one_in > 0);
    self->config = *config;
    for (int i = 0; i < LISTS; i++)
        list_init(&self->lists[i]);
    return self;
}

void weir_ring_destroy(weir_ring **self_p)
{
    weir_ring *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (int i = 0; i < LISTS; i++)
        list_fini(&self->lists[i]);
    weir_buffer_fini(&self->scratch);
    free(self->set);
    free(self);
}

/* --- Counting ---------------------------------------------------------------------- */

/*  Brings the integral up to now, before anything changes.                         */
static void pass_time(weir_ring *self, int64_t now_us)
{
    if (now_us <= self->looked_us) return;
    double records = (double)self->stats.count / (double)self->config.records;
    double bytes = (double)self->stats.bytes / (double)self->config.bytes;
    double fill = records > bytes ? records : bytes;
    self->stats.fill_us += fill * (double)(now_us - self->looked_us);
    self->looked_us = now_us;
}

/*  There is room for so many more, or would be if so many less were there.         */
static bool fits(const weir_ring *self, int64_t records, int64_t bytes)
{
    return (int64_t)self->stats.count + records <= self->config.records &&
           (int64_t)self->stats.bytes + bytes <= self->config.bytes;
}

static void count_in(weir_ring *self, uint32_t records, size_t bytes)
{
    self->stats.accepted += records;
    self->stats.count += records;
    self->stats.bytes += bytes;
}

static void count_out(weir_ring *self, list *from, uint32_t records, size_t bytes)
{
    self->stats.count -= records;
    self->stats.bytes -= bytes;
    from->records -= records;
}

bool weir_ring_is_full(const weir_ring *self)
{
    return (int64_t)self->stats.count >= self->config.records;
}

static int64_t oldest_since(weir_ring *self)
{
    const piece *ready = oldest_of(&self->lists[READY]);
    const piece *parked = oldest_of(&self->lists[PARKED]);
    if (!ready || !parked) return ready ? ready->since_us : parked ? parked->since_us : 0;
    return ready->since_us < parked->since_us ? ready->since_us : parked->since_us;
}

void weir_ring_look(weir_ring *self, int64_t now_us, weir_ring_stats *stats)
{
    pass_time(self, now_us);
    *stats = self->stats;
    stats->parked = self->lists[PARKED].records;
    stats->oldest_us = oldest_since(self);
}

void weir_ring_reject(weir_ring *self, weir_reject why, uint32_t records)
{
    self->stats.offered += records;
    if (why == WEIR_REJECT_INVALID)
        self->stats.invalid += records;
    else
        self->stats.closed += records;
}

/* --- Offering ---------------------------------------------------------------------- */

/*  A block on its way in. What is sifted out of it gathers as a copy for each list, and
    becomes a piece at the end, or when it is to be evicted already.                */
typedef struct {
    weir_ring *ring;
    weir_block *block;
    weir_entry *entry;
    int64_t now_us;
    weir_builder gathered[LISTS];
} offer;

static void close_gathered(offer *self, int which)
{
    weir_block *block = weir_builder_seal(&self->gathered[which]);
    if (block) append(&self->ring->lists[which], block, self->entry, self->now_us);
}

/*  The list that eviction takes from: parked records only when none is ready.      */
static list *list_to_evict(offer *self)
{
    for (int i = 0; i < LISTS; i++) {
        list *from = &self->ring->lists[i];
        if (!oldest_of(from)) close_gathered(self, i);
        if (oldest_of(from)) return from;
    }
    return NULL;
}

/*  Steps over what must go of this piece, so that so much more finds room.         */
static void step_over(const weir_ring *self, piece *oldest, int64_t records,
                      int64_t bytes)
{
    uint32_t all_records = records_left(oldest);
    size_t all_bytes = bytes_left(oldest);
    if (!fits(self, records - all_records + 1, bytes - (int64_t)all_bytes + 1)) {
        oldest->walk.record += all_records; // not even one may stay: none is read
        oldest->walk.offset += all_bytes;
        return;
    }
    do {
        bytes -= (int64_t)weir_iterator_skip(&oldest->walk);
        records--;
    } while (!fits(self, records, bytes));
}

/*  Tokens with no parked record before them any more.                              */
static void free_tokens(weir_ring *self)
{
    list *parked = &self->lists[PARKED];
    while (parked->first && !parked->first->walk.block)
        link_piece(&self->lists[READY], unlink_piece(parked, &parked->first));
}

static void evict_from(weir_ring *self, list *from, int64_t records, int64_t bytes)
{
    piece *oldest = *from->oldest;
    weir_entry *entry = oldest->entry;
    uint32_t gone = records_left(oldest);
    size_t gone_bytes = bytes_left(oldest);
    step_over(self, oldest, records, bytes);
    gone -= records_left(oldest);
    gone_bytes -= bytes_left(oldest);
    count_out(self, from, gone, gone_bytes);
    self->stats.evicted += gone;
    if (records_left(oldest) == 0) piece_destroy(unlink_piece(from, from->oldest));
    free_tokens(self);
    self->config.shed(self->config.arg, entry, gone);
    self->config.left(self->config.arg, entry, gone);
}

/*  Evicts the oldest records until so much more finds room.                        */
static void make_room(offer *self, uint32_t records, size_t bytes)
{
    list *from;
    while (!fits(self->ring, records, (int64_t)bytes) && (from = list_to_evict(self)))
        evict_from(self->ring, from, records, (int64_t)bytes);
}

static bool is_to_park(weir_ring *self, const weir_record *record)
{
    char number[24];
    const uint8_t *data;
    size_t size;
    if (!weir_key_bytes(&record->key, number, &self->scratch, &data, &size)) return false;
    uint32_t vnode = weir_key_vnode(data, size, self->vnodes);
    return self->set[vnode / 64] >> vnode % 64 & 1;
}

static bool has_some_to_park(weir_ring *self, const weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_record record;
    while (self->set && weir_iterator_next(&walk, &record, NULL))
        if (is_to_park(self, &record)) return true;
    return false;
}

static bool has_too_large(const weir_ring *self, const weir_block *block)
{
    weir_iterator walk = {.block = block};
    uint64_t most = (uint64_t)self->config.bytes / 2;
    while (weir_block_size(block) - walk.offset > most)
        if (weir_iterator_skip(&walk) > most) return true;
    return false;
}

/*  Part of a block holds the whole block: one below half of it is copied.          */
static weir_block *spare(weir_block *part, const weir_block *whole)
{
    if (2 * weir_block_size(part) >= weir_block_size(whole)) return part;
    weir_block *copy = weir_block_copy(part, weir_block_ledger(whole));
    weir_block_destroy(&part);
    return copy;
}

/*  Part of the block that just came was evicted with what was older.               */
static void spare_rest(piece *self)
{
    weir_block *whole = (weir_block *)self->walk.block;
    if (self->walk.offset == 0) return;
    weir_block *rest = weir_iterator_cut(&self->walk, UINT32_MAX, SIZE_MAX);
    self->walk = (weir_iterator){.block = spare(rest, whole)};
    weir_block_destroy(&whole);
}

/*  The first records, as many as enter without a look at each: in most cases all of them,
    as the block that they came in.                                                 */
static weir_block *cut_head(const weir_ring *self, weir_iterator *walk)
{
    bool bounded = self->config.overflow == WEIR_OVERFLOW_DROP_NEWEST ||
                   self->config.overflow == WEIR_OVERFLOW_SAMPLE;
    if (!bounded) return weir_iterator_cut(walk, UINT32_MAX, SIZE_MAX);
    int64_t records = self->config.records - (int64_t)self->stats.count;
    int64_t bytes = self->config.bytes - (int64_t)self->stats.bytes;
    if (records <= 0 || bytes <= 0) return NULL;
    return weir_iterator_cut(walk, records < UINT32_MAX ? (uint32_t)records : UINT32_MAX,
                             (size_t)bytes);
}

static void enter_head(offer *self, weir_iterator *walk)
{
    weir_ring *ring = self->ring;
    weir_block *head = cut_head(ring, walk);
    if (!head) return;
    ring->found_full = 0;
    count_in(ring, weir_block_records(head), weir_block_size(head));
    piece *added =
        append(&ring->lists[READY], spare(head, self->block), self->entry, self->now_us);
    if (ring->config.overflow != WEIR_OVERFLOW_DROP_OLDEST || fits(ring, 0, 0)) return;
    make_room(self, 0, 0);
    spare_rest(added); // its last record has found room
}

/*  What the policy says of the next record. Room is made for one that enters.      */
static bool admit(offer *self, size_t size)
{
    weir_ring *ring = self->ring;
    if (fits(ring, 1, (int64_t)size)) {
        ring->found_full = 0;
        return true;
    }
    switch (ring->config.overflow) {
    case WEIR_OVERFLOW_DROP_NEWEST:
        ring->stats.full++;
        return false;
    case WEIR_OVERFLOW_SAMPLE:
        if (ring->found_full++ % (uint64_t)ring->config.one_in == 0) break;
        ring->stats.sampled++;
        return false;
    case WEIR_OVERFLOW_DROP_OLDEST:
        break;
    default:
        return true;
    }
    make_room(self, 1, size);
    return true;
}

/*  The records from the walk's place on, one by one.                               */
static void sift(offer *self, weir_iterator *walk)
{
    weir_ring *ring = self->ring;
    weir_record record;
    const weir_run *origin;
    uint32_t rejected = 0;
    while (weir_iterator_next(walk, &record, &origin)) {
        if (!admit(self, record.encoded_size)) {
            rejected++;
            continue;
        }
        int which = ring->set && is_to_park(ring, &record) ? PARKED : READY;
        weir_builder_add(&self->gathered[which], &record, origin);
        count_in(ring, 1, record.encoded_size);
    }
    for (int i = 0; i < LISTS; i++) {
        close_gathered(self, i);
        weir_builder_fini(&self->gathered[i]);
    }
    if (rejected) ring->config.shed(ring->config.arg, self->entry, rejected);
}

/*  The block as a whole is refused.                                                */
static weir_err check_whole(weir_ring *self, const weir_block *block)
{
    uint32_t records = weir_block_records(block);
    if (has_too_large(self, block)) {
        self->stats.too_large += records;
        return WEIR_ETOOBIG;
    }
    if (self->config.overflow == WEIR_OVERFLOW_FAIL &&
        !fits(self, records, (int64_t)weir_block_size(block))) {
        self->stats.full += records;
        return WEIR_EFULL;
    }
    return WEIR_OK;
}

/*  Under DROP_OLDEST a record may have to evict a parked one, which only happens while
    none is ready: so, when some are parked, each record is looked at.              */
static bool enters_at_once(weir_ring *self, const weir_block *block)
{
    bool evicts = self->config.overflow == WEIR_OVERFLOW_DROP_OLDEST &&
                  self->lists[PARKED].records > 0 &&
                  !fits(self, weir_block_records(block), (int64_t)weir_block_size(block));
    return !evicts && !has_some_to_park(self, block);
}

weir_err weir_ring_offer(weir_ring *self, weir_block *block, weir_entry *entry,
                         int64_t now_us)
{
    pass_time(self, now_us);
    self->stats.offered += weir_block_records(block);
    weir_err err = check_whole(self, block);
    if (err) return err;
    weir_ledger *ledger = weir_block_ledger(block);
    offer coming = {self, block, entry, now_us, {{.ledger = ledger}, {.ledger = ledger}}};
    weir_iterator walk = {.block = block};
    if (enters_at_once(self, block)) enter_head(&coming, &walk);
    sift(&coming, &walk);
    return WEIR_OK;
}

/* --- Tokens and parking ------------------------------------------------------------ */

void weir_ring_put_token(weir_ring *self, weir_entry *entry, int64_t now_us)
{
    append(&self->lists[self->lists[PARKED].first ? PARKED : READY], NULL, entry, now_us);
}

void weir_ring_park(weir_ring *self, const uint64_t *set, uint32_t vnodes)
{
    size_t words = ((size_t)vnodes + 63) / 64;
    if (!self->set) self->set = calloc(words, sizeof *self->set);
    if (!self->set) abort();
    self->vnodes = vnodes;
    for (size_t i = 0; i < words; i++)
        self->set[i] |= set[i];
}

uint64_t weir_ring_release(weir_ring *self)
{
    list *ready = &self->lists[READY], *parked = &self->lists[PARKED];
    uint64_t records = parked->records;
    *ready->end = parked->first;
    if (parked->first) ready->end = parked->end;
    ready->records += records;
    list_init(parked);
    free(self->set);
    self->set = NULL;
    return records;
}

/* --- Taking ------------------------------------------------------------------------ */

static void take_token(list *ready, weir_piece *taken)
{
    piece *token = unlink_piece(ready, &ready->first);
    *taken = (weir_piece){NULL, token->entry, token->since_us};
    piece_destroy(token);
}

bool weir_ring_take(weir_ring *self, uint32_t max_records, size_t max_bytes,
                    int64_t now_us, weir_piece *taken)
{
    list *ready = &self->lists[READY];
    piece *next = ready->first;
    pass_time(self, now_us);
    if (!next) return false;
    if (!next->walk.block) {
        take_token(ready, taken);
        return true;
    }
    weir_block *block = weir_iterator_cut(&next->walk, max_records, max_bytes);
    if (!block) return false;
    uint32_t records = weir_block_records(block);
    *taken = (weir_piece){block, next->entry, next->since_us};
    count_out(self, ready, records, weir_block_size(block));
    weir_histogram_add(&self->stats.waited, now_us - next->since_us, records);
    if (records_left(next) == 0) piece_destroy(unlink_piece(ready, &ready->first));
    self->config.left(self->config.arg, taken->entry, records);
    return true;
}

size_t weir_ring_next_size(const weir_ring *self)
{
    const piece *next = self->lists[READY].first;
    if (!next || !next->walk.block) return 0;
    weir_iterator walk = next->walk;
    return weir_iterator_skip(&walk);
}
