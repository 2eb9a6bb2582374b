#include "lua/stored.h"
#include <inttypes.h>
#include "runtime/json.h"
#include "runtime/tap.h"

static bool put_value(weir_buffer *out, const uint8_t *data, size_t size)
{
    weir_reader reader = {data, data + size};
    weir_value value;
    return weir_read_value(&reader, &value) == WEIR_OK &&
           weir_json_put_value(out, &value) == WEIR_OK;
}

static void put_headers(weir_buffer *out, const weir_record *record)
{
    weir_buffer_put_text(out, ",\"headers\":");
    size_t before = out->size;
    if (record->headers && put_value(out, record->headers, record->headers_size)) return;
    out->size = before;
    weir_buffer_put_text(out, "null");
}

void weir_put_place(weir_buffer *out, weir_position at)
{
    weir_buffer_printf(out, "%" PRIu64, at.a);
    if (at.b) weir_buffer_printf(out, "-%" PRIu64, at.b);
}

static void put_offset(weir_buffer *out, weir_position at)
{
    if (at.b) weir_buffer_put_byte(out, '"');
    weir_put_place(out, at);
    if (at.b) weir_buffer_put_byte(out, '"');
}

void weir_put_stored(weir_buffer *out, uint64_t nonce, const weir_polled *polled)
{
    const weir_record *record = &polled->record;
    weir_buffer_printf(out, "{\"shard\":%" PRIu32 ",\"offset\":", polled->shard);
    put_offset(out, polled->at);
    weir_buffer_printf(out,
                       ",\"id\":\"%016" PRIx64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu64
                       "\",\"ts\":%" PRId64 ",\"key\":",
                       nonce, polled->epoch, polled->shard, polled->sequence,
                       record->ts_ms);
    if (record->key.type == WEIR_MISSING || weir_json_put_value(out, &record->key))
        weir_buffer_put_text(out, "null");
    put_headers(out, record);
    weir_tap_put_payload(out, record);
    weir_buffer_put_text(out, "}\n");
}
