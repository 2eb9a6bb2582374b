#include "actors/bus_rows.h"
#include <endian.h>

enum {
    table_head = 20,
    shard_size = 8,
    move_size = 16,
    owner_size = 4,
    group_head = 44,
    failure_size = 20,
    fence_size = 40,
};

const char *const weir_shard_state_words[] = {
    [WEIR_SHARD_STARTING] = "starting",
    [WEIR_SHARD_ACTIVE] = "active",
    [WEIR_SHARD_DRAINING] = "draining",
    [WEIR_SHARD_RETIRED] = "retired",
    NULL,
};

static void put_u32(weir_buffer *out, uint32_t value)
{
    value = htobe32(value);
    weir_buffer_put(out, &value, sizeof value);
}

static void put_u64(weir_buffer *out, uint64_t value)
{
    value = htobe64(value);
    weir_buffer_put(out, &value, sizeof value);
}

static void put_position(weir_buffer *out, weir_position at)
{
    put_u64(out, at.a);
    put_u64(out, at.b);
}

/*  Take from bytes whose number was checked, and step behind.                      */
static uint32_t take_u32(const uint8_t **at)
{
    uint32_t value;
    memcpy(&value, *at, sizeof value);
    *at += sizeof value;
    return be32toh(value);
}

static uint64_t take_u64(const uint8_t **at)
{
    uint64_t value;
    memcpy(&value, *at, sizeof value);
    *at += sizeof value;
    return be64toh(value);
}

static weir_position take_position(const uint8_t **at)
{
    uint64_t a = take_u64(at);
    return (weir_position){a, take_u64(at)};
}

static void *allocate(size_t count, size_t size)
{
    void *items = calloc(count ? count : 1, size);
    if (!items) abort();
    return items;
}

/* --- Shard table ------------------------------------------------------------------- */

void weir_shard_table_put(const weir_shard_table *self, weir_buffer *out)
{
    put_u64(out, self->version);
    put_u32(out, self->vnodes);
    put_u32(out, (uint32_t)self->row_count);
    put_u32(out, (uint32_t)self->move_count);
    for (size_t i = 0; i < self->row_count; i++) {
        put_u32(out, self->rows[i].id);
        put_u32(out, self->rows[i].state);
    }
    for (size_t i = 0; i < self->move_count; i++) {
        put_u32(out, self->moves[i].from);
        put_u32(out, self->moves[i].to);
        put_u64(out, self->moves[i].version);
    }
    for (size_t i = 0; i < self->vnodes; i++)
        put_u32(out, self->owners[i]);
}

static bool take_rows(weir_shard_table *self, const uint8_t **at)
{
    bool good = true;
    self->rows = allocate(self->row_count, sizeof *self->rows);
    for (size_t i = 0; i < self->row_count; i++) {
        self->rows[i].id = take_u32(at);
        uint32_t state = take_u32(at);
        good = good && state <= WEIR_SHARD_RETIRED;
        self->rows[i].state = (weir_shard_state)state;
    }
    return good;
}

static void take_moves(weir_shard_table *self, const uint8_t **at)
{
    self->moves = allocate(self->move_count, sizeof *self->moves);
    for (size_t i = 0; i < self->move_count; i++) {
        self->moves[i].from = take_u32(at);
        self->moves[i].to = take_u32(at);
        self->moves[i].version = take_u64(at);
    }
}

static void take_owners(weir_shard_table *self, const uint8_t **at)
{
    self->owners = allocate(self->vnodes, sizeof *self->owners);
    for (size_t i = 0; i < self->vnodes; i++)
        self->owners[i] = take_u32(at);
}

bool weir_shard_table_read(weir_shard_table *self, const uint8_t *data, size_t size)
{
    *self = (weir_shard_table){0};
    if (size < table_head) return false;
    weir_shard_table table = {.version = take_u64(&data)};
    table.vnodes = take_u32(&data);
    table.row_count = take_u32(&data);
    table.move_count = take_u32(&data);
    if (size != table_head + shard_size * table.row_count + move_size * table.move_count +
                    owner_size * (size_t)table.vnodes)
        return false;
    bool good = take_rows(&table, &data);
    take_moves(&table, &data);
    take_owners(&table, &data);
    if (good)
        *self = table;
    else
        weir_shard_table_fini(&table);
    return good;
}

static void *copy_array(const void *from, size_t size)
{
    void *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, from, size);
    return copy;
}

weir_shard_table weir_shard_table_copy(const weir_shard_table *self)
{
    weir_shard_table copy = *self;
    copy.rows = copy_array(self->rows, self->row_count * sizeof *self->rows);
    copy.owners = copy_array(self->owners, self->vnodes * sizeof *self->owners);
    copy.moves = copy_array(self->moves, self->move_count * sizeof *self->moves);
    return copy;
}

void weir_shard_table_fini(weir_shard_table *self)
{
    free(self->rows);
    free(self->owners);
    free(self->moves);
    *self = (weir_shard_table){0};
}

/* --- Groups ------------------------------------------------------------------------ */

void weir_group_row_put(const weir_group_row *self, weir_buffer *out)
{
    put_position(out, self->start);
    put_position(out, self->commit);
    put_u64(out, self->shed);
    put_u32(out, (uint32_t)self->failed_count);
    for (size_t i = 0; i < self->failed_count; i++) {
        put_position(out, self->failed[i].at);
        put_u32(out, self->failed[i].failures);
    }
}

bool weir_group_row_read(weir_group_row *self, const uint8_t *data, size_t size)
{
    *self = (weir_group_row){0};
    if (size < group_head) return false;
    weir_group_row row = {.start = take_position(&data)};
    row.commit = take_position(&data);
    row.shed = take_u64(&data);
    row.failed_count = take_u32(&data);
    if (size != group_head + failure_size * row.failed_count) return false;
    row.failed = allocate(row.failed_count, sizeof *row.failed);
    for (size_t i = 0; i < row.failed_count; i++) {
        row.failed[i].at = take_position(&data);
        row.failed[i].failures = take_u32(&data);
    }
    *self = row;
    return true;
}

void weir_group_rows_free(weir_group_row **rows, size_t count)
{
    if (!*rows) return;
    for (size_t i = 0; i < count; i++)
        free((*rows)[i].failed);
    free(*rows);
    *rows = NULL;
}

/* --- Fences ------------------------------------------------------------------------ */

void weir_fences_put(const weir_fence *list, size_t count, weir_buffer *out)
{
    for (size_t i = 0; i < count; i++) {
        put_u32(out, list[i].from);
        put_position(out, list[i].last);
        put_u32(out, list[i].to);
        put_position(out, list[i].first);
    }
}

bool weir_fences_read(weir_fence **list, size_t *count, const uint8_t *data, size_t size)
{
    *list = NULL;
    *count = size / fence_size;
    if (size % fence_size) return false;
    *list = allocate(*count, sizeof **list);
    for (size_t i = 0; i < *count; i++) {
        weir_fence *fence = &(*list)[i];
        fence->from = take_u32(&data);
        fence->last = take_position(&data);
        fence->to = take_u32(&data);
        fence->first = take_position(&data);
    }
    return true;
}
