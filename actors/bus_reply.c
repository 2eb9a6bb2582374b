#include "actors/bus_reply.h"

static void put_text(weir_buffer *out, const char *text)
{
    weir_put_str(out, text, strlen(text));
}

static void begin(weir_buffer *out, const weir_bus_request *request, const char *code)
{
    weir_put_array(out, 3);
    if (request->has_id)
        weir_put_uint(out, request->id);
    else
        weir_put_nil(out);
    put_text(out, code);
}

void weir_bus_reply_ok(weir_buffer *out, const weir_bus_request *request)
{
    begin(out, request, "ok");
    weir_put_map(out, 0);
}

void weir_bus_reply_error(weir_buffer *out, const weir_bus_request *request,
                          const char *code, const char *text)
{
    size_t size = strlen(code);
    if (strncmp(text, code, size) == 0 && strncmp(text + size, ": ", 2) == 0)
        text += size + 2;
    begin(out, request, code);
    weir_put_map(out, 1);
    put_text(out, "text");
    put_text(out, text);
}

void weir_bus_reply_hello(weir_buffer *out, const weir_bus_request *request,
                          const weir_bus_hello *hello)
{
    begin(out, request, "ok");
    weir_put_map(out, hello->member_timeout_ms < 0 ? 4 : 5);
    put_text(out, "version");
    weir_put_uint(out, WEIR_BUS_PROTOCOL);
    put_text(out, "bus");
    put_text(out, hello->bus);
    put_text(out, "nonce");
    weir_put_uint(out, hello->nonce);
    put_text(out, "vnodes");
    weir_put_uint(out, hello->vnodes);
    if (hello->member_timeout_ms < 0) return;
    put_text(out, "member_timeout_ms");
    weir_put_int(out, hello->member_timeout_ms);
}

/* --- Records ----------------------------------------------------------------------- */

typedef struct {
    uint32_t shard;
    weir_position at;
    uint64_t epoch, sequence;
} place;

/*  A record is a bin that holds its encoding: so one that a client cannot decode, such as
    a payload that is no UTF-8, costs that record and not the page. A timestamp that the
    store has filled in is not in the encoding yet. */
static void put_record(weir_buffer *out, const place *p, const weir_record *record,
                       weir_buffer *scratch)
{
    const uint8_t nil = 0xc0;
    const uint8_t *data = record->encoded;
    size_t size = record->encoded_size;
    if (!data || size < 2 || data[1] == nil) {
        scratch->size = 0;
        weir_record_put(record, scratch);
        data = scratch->data;
        size = scratch->size;
    }
    weir_put_array(out, 6);
    weir_put_uint(out, p->shard);
    weir_put_uint(out, p->at.a);
    weir_put_uint(out, p->at.b);
    weir_put_uint(out, p->epoch);
    weir_put_uint(out, p->sequence);
    weir_put_bin(out, data, size);
}

static void put_trouble_of(weir_buffer *out, const char *name, uint32_t shard,
                           const char *text)
{
    put_text(out, name);
    weir_put_array(out, 1);
    weir_put_array(out, 2);
    weir_put_uint(out, shard);
    put_text(out, text);
}

void weir_bus_reply_delivered(weir_buffer *out, const weir_bus_request *request,
                              const weir_delivered *delivered)
{
    weir_iterator walk = {.block = delivered->block};
    weir_buffer scratch = {0};
    weir_record record;
    uint32_t count = delivered->block ? delivered->records : 0;
    begin(out, request, "ok");
    weir_put_map(out, 1 + (uint32_t)delivered->is_late + (uint32_t)delivered->has_failed);
    if (delivered->is_late)
        put_trouble_of(out, "slow", delivered->late_shard, "no answer yet");
    if (delivered->has_failed)
        put_trouble_of(out, "failed", delivered->failed_shard, delivered->trouble);
    put_text(out, "records");
    weir_put_array(out, count);
    for (uint32_t i = 0; i < count && weir_iterator_next(&walk, &record, NULL); i++) {
        place p = {delivered->shard, delivered->at[i], delivered->epoch,
                   delivered->sequence[i]};
        put_record(out, &p, &record, &scratch);
    }
    weir_buffer_fini(&scratch);
}

/* --- Pages ------------------------------------------------------------------------- */

static void put_records(weir_buffer *out, const weir_page *page)
{
    weir_buffer scratch = {0};
    put_text(out, "records");
    weir_put_array(out, (uint32_t)page->count);
    for (size_t i = 0; i < page->count; i++) {
        const weir_polled *polled = &page->records[i];
        place p = {polled->shard, polled->at, polled->epoch, polled->sequence};
        put_record(out, &p, &polled->record, &scratch);
    }
    weir_buffer_fini(&scratch);
}

static void put_cursor(weir_buffer *out, const weir_cursor *cursor)
{
    weir_buffer text = {0};
    weir_cursor_put(cursor, &text);
    put_text(out, "cursor");
    weir_put_str(out, text.data, text.size);
    weir_buffer_fini(&text);
}

static void put_trouble(weir_buffer *out, const char *name, const weir_poll_trouble *list,
                        size_t count)
{
    put_text(out, name);
    weir_put_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        weir_put_array(out, 2);
        weir_put_uint(out, list[i].shard);
        put_text(out, list[i].text);
    }
}

static void put_gaps(weir_buffer *out, const weir_page *page)
{
    put_text(out, "gaps");
    weir_put_array(out, (uint32_t)page->gap_count);
    for (size_t i = 0; i < page->gap_count; i++) {
        const weir_gap *gap = &page->gaps[i];
        weir_put_array(out, gap->epoch ? 5 : 4);
        weir_put_uint(out, gap->shard);
        weir_put_uint(out, gap->first);
        weir_put_uint(out, gap->last);
        put_text(out, gap->damaged ? "damaged" : "trimmed");
        if (gap->epoch) weir_put_uint(out, gap->epoch);
    }
}

void weir_bus_reply_page(weir_buffer *out, const weir_bus_request *request,
                         const weir_page *page)
{
    begin(out, request, "ok");
    weir_put_map(out, 8);
    put_records(out, page);
    put_cursor(out, &page->cursor);
    put_text(out, "more");
    weir_put_bool(out, page->more);
    put_trouble(out, "slow", page->slow, page->slow_count);
    put_trouble(out, "failed", page->failed, page->failed_count);
    put_gaps(out, page);
    put_text(out, "examined");
    weir_put_uint(out, page->examined);
    put_text(out, "unknown");
    weir_put_uint(out, page->unknown);
}

/* --- Groups ------------------------------------------------------------------------ */

static void put_position(weir_buffer *out, const char *name, weir_position at)
{
    put_text(out, name);
    weir_put_array(out, 2);
    weir_put_uint(out, at.a);
    weir_put_uint(out, at.b);
}

static void put_count(weir_buffer *out, const char *name, uint64_t count)
{
    put_text(out, name);
    weir_put_uint(out, count);
}

void weir_bus_reply_groups(weir_buffer *out, const weir_bus_request *request,
                           const weir_group_look *list, size_t count)
{
    begin(out, request, "ok");
    weir_put_map(out, 1);
    put_text(out, "groups");
    weir_put_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const weir_group_look *look = &list[i];
        weir_put_map(out, 11);
        put_text(out, "group");
        put_text(out, look->group);
        put_count(out, "shard", look->shard);
        put_position(out, "start", look->start);
        put_position(out, "commit", look->commit);
        put_position(out, "last", look->last);
        put_count(out, "done", look->done);
        put_count(out, "shed", look->shed);
        put_count(out, "lag", look->lag);
        put_count(out, "dead", look->dead);
        put_count(out, "held", look->held);
        put_text(out, "member");
        put_text(out, look->member);
    }
}
