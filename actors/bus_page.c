#include "actors/bus_page.h"
#include <stdio.h>

/*  More than any bus sends: 10,000 records, and of each shard one sentence.            */
static const size_t elements_max = 65536;

/*  Room for one element more; the count says when the array is full.                   */
static void *grow(void *array, size_t count, size_t size)
{
    if (count & (count - 1)) return array; // no power of two, so there is room
    array = realloc(array, (count ? 2 * count : 1) * size);
    if (!array) abort();
    return array;
}

static bool is(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

/* --- Elements ---------------------------------------------------------------------- */

static weir_err read_shard(weir_reader *reader, uint32_t *shard)
{
    uint64_t number;
    if (weir_read_uint(reader, &number) || number > UINT32_MAX) return WEIR_EMALFORMED;
    *shard = (uint32_t)number;
    return WEIR_OK;
}

static weir_err add_trouble(weir_poll_trouble **list, size_t *count, weir_reader *reader)
{
    const char *text;
    size_t size;
    uint32_t members;
    *list = grow(*list, *count, sizeof **list);
    weir_poll_trouble *trouble = &(*list)[*count];
    if (weir_read_array(reader, &members) || members != 2 ||
        read_shard(reader, &trouble->shard) || weir_read_str(reader, &text, &size))
        return WEIR_EMALFORMED;
    const size_t room = sizeof trouble->text - 1;
    snprintf(trouble->text, sizeof trouble->text, "%.*s",
             (int)(size < room ? size : room), text);
    (*count)++;
    return WEIR_OK;
}

static weir_err add_slow(weir_page *page, weir_reader *reader)
{
    return add_trouble(&page->slow, &page->slow_count, reader);
}

static weir_err add_failed(weir_page *page, weir_reader *reader)
{
    return add_trouble(&page->failed, &page->failed_count, reader);
}

static weir_err add_gap(weir_page *page, weir_reader *reader)
{
    const char *text;
    size_t size;
    uint32_t members;
    page->gaps = grow(page->gaps, page->gap_count, sizeof *page->gaps);
    weir_gap *gap = &page->gaps[page->gap_count];
    *gap = (weir_gap){.shard = 0};
    if (weir_read_array(reader, &members) || members < 4 || members > 5 ||
        read_shard(reader, &gap->shard) || weir_read_uint(reader, &gap->first) ||
        weir_read_uint(reader, &gap->last) || weir_read_str(reader, &text, &size) ||
        (members == 5 && weir_read_uint(reader, &gap->epoch)))
        return WEIR_EMALFORMED;
    gap->damaged = is(text, size, "damaged");
    page->gap_count++;
    return WEIR_OK;
}

static weir_err add_record(weir_page *page, const weir_bus_record *record)
{
    page->records = grow(page->records, page->count, sizeof *page->records);
    page->records[page->count++] = (weir_polled){.record = record->record,
                                                 .shard = record->shard,
                                                 .at = record->at,
                                                 .epoch = record->epoch,
                                                 .sequence = record->sequence};
    return WEIR_OK;
}

/* --- Fields ------------------------------------------------------------------------ */

static weir_err read_list(weir_page *page, weir_reader *reader,
                          weir_err (*add)(weir_page *page, weir_reader *reader))
{
    uint32_t count;
    weir_err err = weir_read_array(reader, &count);
    if (!err && count > elements_max) err = WEIR_EMALFORMED;
    while (!err && count--)
        err = add(page, reader);
    return err;
}

static weir_err read_cursor(weir_page *page, weir_reader *reader, uint64_t nonce)
{
    const char *text;
    size_t size;
    weir_report report;
    if (weir_read_str(reader, &text, &size)) return WEIR_EMALFORMED;
    weir_cursor_fini(&page->cursor);
    return weir_cursor_read(&page->cursor, text, size, nonce, &report) ? WEIR_EMALFORMED
                                                                       : WEIR_OK;
}

static weir_err read_field(weir_page *page, weir_reader *reader, uint64_t nonce)
{
    const char *name;
    size_t size;
    if (weir_read_str(reader, &name, &size)) return WEIR_EMALFORMED;
    if (is(name, size, "cursor")) return read_cursor(page, reader, nonce);
    if (is(name, size, "more")) return weir_read_bool(reader, &page->more);
    if (is(name, size, "slow")) return read_list(page, reader, add_slow);
    if (is(name, size, "failed")) return read_list(page, reader, add_failed);
    if (is(name, size, "gaps")) return read_list(page, reader, add_gap);
    if (is(name, size, "examined")) return weir_read_uint(reader, &page->examined);
    if (is(name, size, "unknown")) return weir_read_uint(reader, &page->unknown);
    return weir_read_skip(reader); // the records, and what later versions say
}

static weir_err read_records(weir_page *page, const weir_bus_answer *answer)
{
    weir_bus_answer walk = *answer;
    weir_bus_record record;
    weir_err err = walk.count > elements_max ? WEIR_EMALFORMED : WEIR_OK;
    while (!err && (err = weir_bus_answer_next(&walk, &record)) == WEIR_OK)
        err = add_record(page, &record);
    return err == WEIR_ENOTFOUND ? WEIR_OK : err;
}

weir_err weir_bus_page_read(weir_page *self, const weir_bus_answer *answer,
                            uint64_t nonce)
{
    weir_reader reader = answer->fields;
    uint32_t count;
    *self = (weir_page){0};
    weir_err err = weir_read_map(&reader, &count);
    while (!err && count--)
        err = read_field(self, &reader, nonce);
    if (!err) err = read_records(self, answer);
    return err ? WEIR_EMALFORMED : WEIR_OK;
}
