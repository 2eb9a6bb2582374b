#include <inttypes.h>
#include <stdio.h>
#include "actors/redis_store.h"

/*  KEYS: the stream. ARGV: the id that must be its last; epoch; first sequence; what is
    before the sequence in `i`; entries to keep, 0: all; the records.

    All of them go in or none: the id is checked before, and whether the server takes
    writes it decides at the first one. The last id is that of the newest entry, unless
    that was removed; XINFO knows it in any case, but hands out the oldest entry as well,
    which may be large. Where entries behind the newest one were removed XADD refuses an
    id that is not behind theirs.

    Trimming with the last record is as good as with each, since nobody sees the stream in
    between. A server hashes each string that a script makes, and most of its time goes
    there and into calls: so of a sequence all but the last digit is made once for ten,
    and a string is asked for `err`, which it has not, where an error is a table. */
const char weir_redis_script[] =
    "local key, call, format, ARGV = KEYS[1], redis.pcall, string.format, ARGV\n"
    "local newest = call('XREVRANGE', key, '+', '-', 'COUNT', 1)\n"
    "if newest.err then return newest end\n"
    "if not newest[1] or newest[1][1] ~= ARGV[1] then\n"
    "  local x, last = call('XINFO', 'STREAM', key), '0-0'\n"
    "  for i = 1, #x, 2 do\n"
    "    if x[i] == 'last-generated-id' then last = x[i + 1] break end\n"
    "  end\n"
    "  if last ~= ARGV[1] then return 'GAP ' .. last end\n"
    "end\n"
    "local epoch, id, count = ARGV[2] .. '-', ARGV[4], #ARGV\n"
    "local keep, trims = ARGV[5], ARGV[5] ~= '0' and count\n"
    "local digits = {[0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'}\n"
    "local digit = ARGV[3] % 10\n"
    "local tens, a, b = (ARGV[3] - digit) / 10\n"
    "for n = 6, count do\n"
    "  if digit == 10 then digit, tens, a = 0, tens + 1 end\n"
    "  if not a then\n"
    "    local text = tens > 0 and format('%d', tens) or ''\n"
    "    a, b = epoch .. text, id .. text\n"
    "  end\n"
    "  local d, r = digits[digit]\n"
    "  if n == trims then\n"
    "    r = call('XADD', key, 'MAXLEN', '~', keep, a .. d, 'i', b .. d, 'r', ARGV[n])\n"
    "  else\n"
    "    r = call('XADD', key, a .. d, 'i', b .. d, 'r', ARGV[n])\n"
    "  end\n"
    "  if r.err then\n"
    "    if n == 6 and string.find(r.err, 'equal or smaller', 1, true) then return 'GAP' "
    "end\n"
    "    return r\n"
    "  end\n"
    "  digit = digit + 1\n"
    "end\n"
    "return 'OK'\n";

/*  Bytes of records in a call, so that one does not hold up the server for long; the
    first record comes all the same.                                                 */
static const size_t call_bytes = 256 << 10;

/* --- Records ----------------------------------------------------------------------- */

/*  A record as it is stored: its beginning, when it has no timestamp of its own, and the
    rest of the bytes that it has.                                                   */
typedef struct {
    const uint8_t *data;
    size_t size, start; // start: bytes of the beginning
} image;

typedef struct {
    weir_buffer start; // an array of four elements, the first of them the arrival
    weir_buffer anew;  // a record of another shape than ours, written anew
} forms;

static void forms_init(forms *self, const weir_batch *batch)
{
    *self = (forms){{0}, {0}};
    weir_put_array(&self->start, 4);
    weir_put_int(&self->start, batch->arrived_ms);
}

static void forms_fini(forms *self)
{
    weir_buffer_fini(&self->start);
    weir_buffer_fini(&self->anew);
}

static image image_of(forms *self, const weir_batch *batch, weir_record *record)
{
    static const uint8_t untimed[] = {0x94, 0xc0};
    if (record->has_ts) return (image){record->encoded, record->encoded_size, 0};
    if (!memcmp(record->encoded, untimed, sizeof untimed))
        return (image){record->encoded + 2, record->encoded_size - 2, self->start.size};
    record->has_ts = true;
    record->ts_ms = batch->arrived_ms;
    self->anew.size = 0;
    weir_record_put(record, &self->anew);
    return (image){self->anew.data, self->anew.size, 0};
}

/*  How many of the next records, at most `most`, make a call.                       */
static uint32_t count_records(weir_redis *self, weir_redis_job *job, forms *how,
                              uint32_t most)
{
    weir_batch_walk walk = job->walk;
    weir_record record;
    size_t bytes = 0;
    uint32_t count = 0;
    while (count < most && weir_batch_next(&walk, &record)) {
        image is = image_of(how, job->batch, &record);
        if (is.start + is.size > self->record_max) {
            job->refused = job->taken + count;
            break;
        }
        bytes += is.start + is.size;
        if (count && bytes > call_bytes) break;
        count++;
    }
    return count;
}

static void put_image(image is, const forms *how, weir_buffer *out)
{
    weir_redis_put_size(out, is.start + is.size);
    weir_buffer_put(out, how->start.data, is.start);
    weir_buffer_put(out, is.data, is.size);
    weir_buffer_put(out, "\r\n", 2);
}

static void put_records(weir_redis_job *job, forms *how, uint32_t count, weir_buffer *out)
{
    weir_record record;
    for (uint32_t i = 0; i < count && weir_batch_next(&job->walk, &record); i++)
        put_image(image_of(how, job->batch, &record), how, out);
}

/* --- A call ------------------------------------------------------------------------ */

static void put_call(weir_redis *self, weir_redis_shard *shard, weir_redis_job *job,
                     uint32_t count, weir_buffer *out)
{
    const weir_batch *batch = job->batch;
    int64_t keep = self->config.keep_records;
    char text[96];
    weir_redis_put_head(out, 9 + (size_t)count);
    weir_redis_put_text(out, "EVALSHA");
    weir_redis_put_text(out, shard->node->sha);
    weir_redis_put_text(out, "1");
    weir_redis_put_word(out, shard->key, shard->key_size);
    weir_redis_put_word(out, text, weir_redis_id_put(shard->last, text));
    weir_redis_put_number(out, batch->epoch);
    weir_redis_put_number(out, batch->first + job->taken);
    snprintf(text, sizeof text, "%016" PRIx64 ":%" PRIu64 ":%" PRIu32 ":",
             self->config.nonce, batch->epoch, shard->id);
    weir_redis_put_text(out, text);
    weir_redis_put_number(out, keep == WEIR_FOREVER ? 0 : (uint64_t)keep);
}

uint32_t weir_redis_call_put(weir_redis *self, weir_redis_shard *shard,
                             weir_redis_job *job, uint32_t most)
{
    forms how;
    weir_buffer *out = weir_redis_conn_out(shard->node->writer);
    forms_init(&how, job->batch);
    uint32_t count = count_records(self, job, &how, most);
    if (count) {
        put_call(self, shard, job, count, out);
        put_records(job, &how, count, out);
        job->taken += count;
    }
    forms_fini(&how);
    return count;
}
