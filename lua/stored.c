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

void weir_put_stored(weir_buffer *out, const weir_place *place, const weir_record *record)
{
    weir_buffer_printf(out,
                       "{\"shard\":%" PRIu32 ",\"offset\":%" PRIu64
                       ",\"id\":\"%016" PRIx64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu64
                       "\",\"ts\":%" PRId64 ",\"key\":",
                       place->shard, place->offset, place->nonce, place->epoch,
                       place->shard, place->sequence, record->ts_ms);
    if (record->key.type == WEIR_MISSING || weir_json_put_value(out, &record->key))
        weir_buffer_put_text(out, "null");
    put_headers(out, record);
    weir_tap_put_payload(out, record);
    weir_buffer_put_text(out, "}\n");
}
