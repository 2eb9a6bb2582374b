#include "actors/redis_once.h"
#include <inttypes.h>
#include <stdio.h>

/*  page_bits: sequences of a page; the rest of a sequence is the page's number.       */
enum { page_bits = 2048, word_bits = 32 };

/* --- Scripts ----------------------------------------------------------------------- */

/*  Only the first write can find the server unwilling. What is asked for `err` is a
   table, a text or a number, and an error is a table. Entries that were added before one
   that fails have their ids remembered, so that they are not added twice.

    ARGV of both: ms that ids are remembered, entries that the stream keeps (0: all),
   words of an entry; then the entries. `start` has what an XADD begins with. */
#define START                                                                            \
    "local call, unpack = redis.pcall, unpack\n"                                         \
    "local words, last = tonumber(ARGV[3]), #ARGV\n"                                     \
    "local function add(at)\n"                                                           \
    "  return call('XADD', KEYS[1], '*', unpack(ARGV, at, at + words - 1))\n"            \
    "end\n"                                                                              \
    "if ARGV[2] ~= '0' then add = function(at)\n"                                        \
    "  return call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*',\n"                      \
    "              unpack(ARGV, at, at + words - 1))\n"                                  \
    "end end\n"

/*  KEYS: the stream, the set of ids. An entry: its id, its words.                     */
static const char add_texts[] =
    START "local ids, now, names = KEYS[2], redis.call('TIME'), {}\n"
          "now = now[1] * 1000 + math.floor(now[2] / 1000)\n"
          "for n = 4, last, words + 1 do names[#names + 1] = ARGV[n] end\n"
          "local known = call('ZMSCORE', ids, unpack(names))\n"
          "if known.err then return known end\n"
          "local added, seen, size, failed = {}, {}, 0, nil\n"
          "for n, id in ipairs(names) do\n"
          "  if not known[n] and not seen[id] then\n"
          "    local r = add(4 + (n - 1) * (words + 1) + 1)\n"
          "    if r.err then failed = r break end\n"
          "    seen[id] = true\n"
          "    added[size + 1], added[size + 2], size = now, id, size + 2\n"
          "  end\n"
          "end\n"
          "if size > 0 then\n"
          "  redis.call('ZADD', ids, unpack(added))\n"
          "  redis.call('ZREMRANGEBYSCORE', ids, '-inf', '(' .. now - ARGV[1])\n"
          "  redis.call('PEXPIRE', ids, ARGV[1])\n"
          "end\n"
          "return failed or size / 2\n";

/*  KEYS: the stream, pages. Entries come in runs: the number of the page's key, its word
    as BITFIELD names it, the bits, how many entries; and these.                       */
static const char add_places[] = START
    "local bor, band, lshift = bit.bor, bit.band, bit.lshift\n"
    "local pages, n, added, failed = {}, 4, 0, nil\n"
    "while n < last do\n"
    "  local key, word = ARGV[n], ARGV[n + 1]\n"
    "  local page = pages[key]\n"
    "  if not page then page = {words = {}, gets = {}, bits = {}} pages[key] = page end\n"
    "  if not page.bits[word] then\n"
    "    local gets = page.gets\n"
    "    gets[#gets + 1], gets[#gets + 2], gets[#gets + 3] = 'GET', 'i32', word\n"
    "    page.words[#page.words + 1], page.bits[word] = word, 0\n"
    "  end\n"
    "  n = n + 4 + ARGV[n + 3] * words\n"
    "end\n"
    "for key, page in pairs(pages) do\n"
    "  local known = call('BITFIELD_RO', KEYS[tonumber(key)], unpack(page.gets))\n"
    "  if known.err then return known end\n"
    "  for i, word in ipairs(page.words) do page.bits[word] = known[i] end\n"
    "end\n"
    "n = 4\n"
    "while n < last and not failed do\n"
    "  local bits, word, mask = pages[ARGV[n]].bits, ARGV[n + 1], tonumber(ARGV[n + 2])\n"
    "  local old, bit, count = bits[word], 1, ARGV[n + 3]\n"
    "  n = n + 4\n"
    "  for _ = 1, count do\n"
    "    while band(mask, bit) == 0 do bit = lshift(bit, 1) end\n"
    "    if band(old, bit) == 0 then\n"
    "      local r = add(n)\n"
    "      if r.err then failed = r break end\n"
    "      bits[word], added = bor(bits[word], bit), added + 1\n"
    "    end\n"
    "    bit, n = lshift(bit, 1), n + words\n"
    "  end\n"
    "end\n"
    "if added > 0 then\n"
    "  for key, page in pairs(pages) do\n"
    "    local sets = {}\n"
    "    for _, word in ipairs(page.words) do\n"
    "      local s = #sets\n"
    "      sets[s + 1], sets[s + 2], sets[s + 3], sets[s + 4] =\n"
    "        'SET', 'i32', word, page.bits[word]\n"
    "    end\n"
    "    redis.call('BITFIELD', KEYS[tonumber(key)], unpack(sets))\n"
    "    redis.call('PEXPIRE', KEYS[tonumber(key)], ARGV[1])\n"
    "  end\n"
    "end\n"
    "return failed or added\n";

const char *const weir_redis_once_scripts[WEIR_REDIS_ID_KINDS] = {
    [WEIR_REDIS_TEXT] = add_texts,
    [WEIR_REDIS_PLACE] = add_places,
};

/* --- Chunks ------------------------------------------------------------------------ */

void weir_redis_chunk_begin(weir_redis_chunk *self, weir_redis_id_kind kind)
{
    self->kind = kind;
    self->count = self->page_count = self->run_count = 0;
}

/*  The page of a place, from the last one back; page_count: there is no room for it.  */
static size_t find_page(weir_redis_chunk *self, const weir_place *place)
{
    weir_redis_page page = {place->nonce, place->epoch, place->sequence / page_bits,
                            place->shard};
    for (size_t i = self->page_count; i--;) {
        const weir_redis_page *p = &self->pages[i];
        if (p->number == page.number && p->shard == page.shard &&
            p->epoch == page.epoch && p->nonce == page.nonce)
            return i;
    }
    if (self->page_count == WEIR_REDIS_CHUNK_PAGES) return WEIR_REDIS_CHUNK_PAGES;
    self->pages[self->page_count] = page;
    return self->page_count++;
}

static bool add_place(weir_redis_chunk *self, const weir_place *place)
{
    size_t page = find_page(self, place);
    if (page == WEIR_REDIS_CHUNK_PAGES) return false;
    uint16_t word = place->sequence % page_bits / word_bits;
    uint32_t bit = UINT32_C(1) << place->sequence % word_bits;
    weir_redis_run *run = self->run_count ? &self->runs[self->run_count - 1] : NULL;
    if (!run || run->page != page || run->word != word || bit <= run->mask) {
        run = &self->runs[self->run_count++];
        *run = (weir_redis_run){.page = (uint16_t)page, .word = word};
    }
    run->mask |= bit;
    run->count++;
    return true;
}

bool weir_redis_chunk_add(weir_redis_chunk *self, const weir_place *place)
{
    if (self->count == WEIR_REDIS_CHUNK_ITEMS) return false;
    if (self->kind == WEIR_REDIS_PLACE && !add_place(self, place)) return false;
    self->count++;
    return true;
}

/* --- The command ------------------------------------------------------------------- */

/*  What the keys of ids begin with. They lie in the stream's own slot of a cluster,
   unless its name has braces in a way that leaves no name for it; then a cluster refuses
   the script. */
static void put_prefix(const weir_redis_once *self, weir_buffer *key)
{
    const uint8_t *name = self->stream, *end = name + self->stream_size;
    const uint8_t *open = memchr(name, '{', self->stream_size);
    const uint8_t *close = open ? memchr(open, '}', (size_t)(end - open)) : NULL;
    bool tagged = close && close > open + 1;
    if (!tagged) weir_buffer_put_byte(key, '{');
    weir_buffer_put(key, name, self->stream_size);
    if (!tagged) weir_buffer_put_byte(key, '}');
    weir_buffer_put_text(key, ":weir-ids");
}

static void put_keys(const weir_redis_once *self, const weir_redis_chunk *chunk,
                     weir_buffer *out)
{
    weir_buffer key = {0};
    bool places = chunk->kind == WEIR_REDIS_PLACE;
    weir_redis_put_number(out, 1 + (places ? chunk->page_count : 1));
    weir_redis_put_word(out, self->stream, self->stream_size);
    put_prefix(self, &key);
    if (!places) weir_redis_put_word(out, key.data, key.size);
    size_t prefix = key.size;
    for (size_t i = 0; i < chunk->page_count; i++, key.size = prefix) {
        const weir_redis_page *p = &chunk->pages[i];
        weir_buffer_printf(&key, ":%016" PRIx64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu64,
                           p->nonce, p->epoch, p->shard, p->number);
        weir_redis_put_word(out, key.data, key.size);
    }
    weir_buffer_fini(&key);
}

void weir_redis_once_begin(const weir_redis_once *self, const weir_redis_chunk *chunk,
                           weir_buffer *out)
{
    size_t words = 3 + 1 + 3 + chunk->count * self->words;
    if (chunk->kind == WEIR_REDIS_PLACE)
        words += chunk->page_count + 4 * chunk->run_count;
    else
        words += 1 + chunk->count;
    weir_redis_put_head(out, words);
    weir_redis_put_text(out, "EVALSHA");
    weir_redis_put_text(out, self->sha);
    put_keys(self, chunk, out);
    weir_redis_put_number(out, (uint64_t)(self->dedup_us + 999) / 1000);
    weir_redis_put_text(out, self->maxlen);
    weir_redis_put_number(out, self->words);
}

void weir_redis_once_put_run(const weir_redis_run *run, weir_buffer *out)
{
    char text[16];
    weir_redis_put_number(out, 2 + run->page);
    snprintf(text, sizeof text, "#%u", run->word);
    weir_redis_put_text(out, text);
    weir_redis_put_number(out, run->mask);
    weir_redis_put_number(out, run->count);
}
