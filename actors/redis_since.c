/*  Where in a shard a time begins. Entries are found by id: epochs are halved, then the
    sequences of one.                                                                */
#include "actors/redis_reading.h"

static void put_range(const weir_redis_reading *self, const char *command,
                      const char *from, const char *to, weir_buffer *out)
{
    weir_redis_put_head(out, 6);
    weir_redis_put_text(out, command);
    weir_redis_put_word(out, self->shard->key, self->shard->key_size);
    weir_redis_put_text(out, from);
    weir_redis_put_text(out, to);
    weir_redis_put_text(out, "COUNT");
    weir_redis_put_text(out, "1");
}

/*  The first entry at or behind an id.                                              */
static void put_first_from(const weir_redis_reading *self, weir_position id,
                           weir_buffer *out)
{
    char text[WEIR_REDIS_ID_MAX];
    weir_redis_id_put(id, text);
    put_range(self, "XRANGE", text, "+", out);
}

static void put_last_of(const weir_redis_reading *self, uint64_t epoch, weir_buffer *out)
{
    char from[WEIR_REDIS_ID_MAX], to[WEIR_REDIS_ID_MAX];
    weir_redis_id_put((weir_position){epoch, UINT64_MAX}, from);
    weir_redis_id_put((weir_position){epoch, 0}, to);
    put_range(self, "XREVRANGE", from, to, out);
}

void weir_redis_since_put(const weir_redis_reading *self, weir_buffer *out)
{
    const weir_redis_since *since = &self->since;
    switch (since->step) {
    case WEIR_SINCE_ENDS:
        weir_redis_seen_put(self->shard, false, out);
        break;
    case WEIR_SINCE_EPOCH:
        put_first_from(self, (weir_position){since->middle + 1, 0}, out);
        break;
    case WEIR_SINCE_TOP:
        put_last_of(self, since->high, out);
        break;
    case WEIR_SINCE_SEQUENCE:
        put_first_from(self, (weir_position){since->found.a, since->middle}, out);
    }
}

/* --- Halving ----------------------------------------------------------------------- */

static weir_since_result found(weir_redis_reading *self)
{
    weir_position at = self->since.found;
    self->at =
        at.b ? (weir_position){at.a, at.b - 1} : (weir_position){at.a - 1, UINT64_MAX};
    return WEIR_SINCE_FOUND;
}

static weir_since_result halve_sequences(weir_redis_reading *self)
{
    weir_redis_since *since = &self->since;
    uint64_t low = since->low.a == since->found.a ? since->low.b : 0;
    if (low >= since->high) return found(self);
    since->step = WEIR_SINCE_SEQUENCE;
    since->middle = low + (since->high - low + 1) / 2;
    return WEIR_SINCE_MORE;
}

static weir_since_result halve_epochs(weir_redis_reading *self)
{
    weir_redis_since *since = &self->since;
    since->step = since->low.a < since->high ? WEIR_SINCE_EPOCH : WEIR_SINCE_TOP;
    since->middle = since->low.a + (since->high - since->low.a) / 2;
    return WEIR_SINCE_MORE;
}

/* --- Answers ----------------------------------------------------------------------- */

static weir_since_result take_ends(weir_redis_reading *self, const redisReply *reply)
{
    weir_redis_since *since = &self->since;
    int64_t since_ms = self->read->since_ms;
    weir_redis_seen seen;
    if (!weir_redis_seen_read(&seen, self->shard->node->store, self->shard, reply))
        return WEIR_SINCE_BAD;
    if (weir_position_order(seen.last, self->at) > 0 && seen.newest_ms < since_ms)
        self->at = seen.last;
    if (seen.newest_ms < since_ms || weir_position_order(seen.newest, self->at) <= 0)
        return WEIR_SINCE_NONE;
    since->low = self->at;
    since->found = seen.newest;
    since->high = seen.newest.a;
    if (weir_position_order(seen.oldest, self->at) > 0) {
        if (seen.oldest_ms >= since_ms) since->found = seen.oldest;
        if (seen.oldest_ms >= since_ms) return found(self);
        since->low = seen.oldest;
    }
    return halve_epochs(self);
}

/*  The entry asked for is the first one behind middle's epoch.                      */
static weir_since_result take_epoch(weir_redis_reading *self,
                                    const weir_redis_entry *entry, bool before)
{
    weir_redis_since *since = &self->since;
    if (before) {
        since->low = entry->at;
    } else {
        since->high = since->middle;
        since->found = entry->at;
    }
    return halve_epochs(self);
}

/*  The entry is the last one of the epoch.                                          */
static weir_since_result take_top(weir_redis_reading *self, const weir_redis_entry *entry,
                                  bool before)
{
    weir_redis_since *since = &self->since;
    if (before || weir_position_order(entry->at, since->low) <= 0) return found(self);
    since->found = entry->at;
    since->high = entry->at.b - 1;
    return halve_sequences(self);
}

/*  The entry is the first one from the middle on.                                   */
static weir_since_result take_sequence(weir_redis_reading *self,
                                       const weir_redis_entry *entry, bool before)
{
    weir_redis_since *since = &self->since;
    bool within = entry->at.a == since->found.a && entry->at.b <= since->high;
    if (within && before) {
        since->low = entry->at;
        return halve_sequences(self);
    }
    if (within) since->found = entry->at;
    since->high = since->middle - 1;
    return halve_sequences(self);
}

/*  So each answer makes the rest smaller: low rises, or high falls.                 */
static bool is_asked_for(const weir_redis_since *since, weir_position at)
{
    switch (since->step) {
    case WEIR_SINCE_EPOCH:
        return at.a > since->middle;
    case WEIR_SINCE_TOP:
        return at.a == since->high;
    default:
        return weir_position_order(at, (weir_position){since->found.a, since->middle}) >=
               0;
    }
}

/*  An entry that is not ours has no time and counts as an earlier one.              */
weir_since_result weir_redis_since_take(weir_redis_reading *self, const redisReply *reply)
{
    weir_redis_entry entry;
    if (self->since.step == WEIR_SINCE_ENDS) return take_ends(self, reply);
    if (reply->type != REDIS_REPLY_ARRAY) return WEIR_SINCE_BAD;
    if (reply->elements == 0) return found(self);
    if (!weir_redis_entry_read(&entry, self->shard->node->store, self->shard->id,
                               reply->element[0]) ||
        !is_asked_for(&self->since, entry.at))
        return WEIR_SINCE_BAD;
    bool before = !entry.ours || entry.ts_ms < self->read->since_ms;
    switch (self->since.step) {
    case WEIR_SINCE_EPOCH:
        return take_epoch(self, &entry, before);
    case WEIR_SINCE_TOP:
        return take_top(self, &entry, before);
    default:
        return take_sequence(self, &entry, before);
    }
}
