#include <inttypes.h>
#include <stdio.h>
#include "actors/redis_store.h"

/*  XINFO STREAM without the entries themselves, which may be large: of the oldest and the
    newest one the id, our `i` and as much of the record as its timestamp needs.     */
static const char question[] =
    "local x = redis.pcall('XINFO', 'STREAM', KEYS[1])\n"
    "if x.err then\n"
    "  if string.find(x.err, 'no such key', 1, true) then return {} end\n"
    "  return x\n"
    "end\n"
    "local t = {}\n"
    "for i = 1, #x, 2 do t[x[i]] = x[i + 1] end\n"
    "local function entry(e)\n"
    "  if not e then return '0-0', '', '' end\n"
    "  local f = e[2]\n"
    "  if f[1] ~= 'i' or f[3] ~= 'r' then return e[1], '', '' end\n"
    "  return e[1], f[2], string.sub(f[4], 1, 16)\n"
    "end\n"
    "local oldest, _, oldest_r = entry(t['first-entry'])\n"
    "local newest, newest_i, newest_r = entry(t['last-entry'])\n"
    "local bytes = 0\n"
    "if ARGV[1] == 'bytes' then\n"
    "  bytes = redis.pcall('MEMORY', 'USAGE', KEYS[1])\n"
    "  if type(bytes) ~= 'number' then bytes = 0 end\n"
    "end\n"
    "return {t['last-generated-id'], t['length'], t['entries-added'] or -1, oldest,\n"
    "        oldest_r, newest, newest_i, newest_r, bytes}\n";

enum { LAST, LENGTH, ADDED, OLDEST, OLDEST_R, NEWEST, NEWEST_I, NEWEST_R, BYTES, FIELDS };

void weir_redis_seen_put(const weir_redis_shard *shard, bool bytes, weir_buffer *out)
{
    weir_redis_put_head(out, 5);
    weir_redis_put_text(out, "EVAL");
    weir_redis_put_word(out, question, sizeof question - 1);
    weir_redis_put_text(out, "1");
    weir_redis_put_word(out, shard->key, shard->key_size);
    weir_redis_put_text(out, bytes ? "bytes" : "");
}

/*  0: the beginning is not that of a record.                                        */
static int64_t read_time(const redisReply *start)
{
    uint32_t count;
    int64_t ms;
    weir_reader reader = {(const uint8_t *)start->str,
                          (const uint8_t *)start->str + start->len};
    if (weir_read_array(&reader, &count) || weir_read_int(&reader, &ms)) return 0;
    return ms;
}

bool weir_redis_is_id(const weir_redis *self, uint32_t shard, weir_position at,
                      const redisReply *text)
{
    char id[96];
    snprintf(id, sizeof id, "%016" PRIx64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu64,
             self->config.nonce, at.a, shard, at.b);
    return weir_redis_says(text, id);
}

static bool has_types(const redisReply *reply)
{
    static const uint32_t numbers = 1u << LENGTH | 1u << ADDED | 1u << BYTES;
    for (size_t i = 0; i < FIELDS; i++)
        if (reply->element[i]->type !=
            (numbers >> i & 1 ? REDIS_REPLY_INTEGER : REDIS_REPLY_STRING))
            return false;
    return reply->element[LENGTH]->integer >= 0;
}

bool weir_redis_seen_read(weir_redis_seen *self, const weir_redis *store,
                          const weir_redis_shard *shard, const redisReply *reply)
{
    *self = (weir_redis_seen){0};
    if (reply->type != REDIS_REPLY_ARRAY) return false;
    if (reply->elements == 0) return true;
    if (reply->elements != FIELDS || !has_types(reply)) return false;
    redisReply **is = reply->element;
    if (!weir_redis_id_read(&self->last, is[LAST]) ||
        !weir_redis_id_read(&self->oldest, is[OLDEST]) ||
        !weir_redis_id_read(&self->newest, is[NEWEST]))
        return false;
    self->exists = true;
    self->records = (uint64_t)is[LENGTH]->integer;
    self->added = is[ADDED]->integer;
    self->oldest_ms = read_time(is[OLDEST_R]);
    self->newest_ms = read_time(is[NEWEST_R]);
    self->ours = weir_redis_is_id(store, shard->id, self->newest, is[NEWEST_I]);
    self->bytes = is[BYTES]->integer > 0 ? (uint64_t)is[BYTES]->integer : 0;
    return true;
}
