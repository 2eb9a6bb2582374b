/*  bus_ls: `weir bus ls`: shards, gaps and groups of a disk store, of a running bus, too.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "actors/bus_state.h"
#include "actors/store_disk.h"
#include "lua/bus.h"
#include "lua/guard.h"
#include "lua/remote.h"
#include "runtime/clock.h"
#include "runtime/json.h"
#include "runtime/why.h"

typedef struct {
    weir_group_row *rows;
    size_t count;
} group_rows;

typedef struct {
    weir_store_shard *shards; // owned, as all that follows
    size_t shard_count;
    weir_gap *gaps;
    size_t gap_count;
    bool has_state; // the bus's state lies in the same folder
    uint64_t nonce, epoch;
    weir_shard_table table;
    group_rows *groups;
    char **names; // of them
    size_t group_count;
} listing;

/* --- Reading ----------------------------------------------------------------------- */

static weir_err read_store(listing *self, const char *folder, weir_report *report)
{
    weir_store *store = NULL;
    weir_err err = weir_disk_open_readonly(&store, folder, report);
    if (err) return err;
    err = store->class->shards(store, &self->shards, &self->shard_count, report);
    if (!err) err = weir_disk_gaps(store, &self->gaps, &self->gap_count, report);
    store->class->close(&store);
    return err;
}

static weir_err read_groups(listing *self, weir_bus_state *state, weir_report *report)
{
    weir_err err = weir_bus_state_groups(state, &self->names, &self->group_count, report);
    if (err) return err;
    self->groups = calloc(self->group_count + 1, sizeof *self->groups);
    if (!self->groups) abort();
    for (size_t i = 0; i < self->group_count && !err; i++)
        err = weir_bus_state_load_group(state, self->names[i], &self->groups[i].rows,
                                        &self->groups[i].count, report);
    return err;
}

/*  A bus may keep its state elsewhere, which is no error.                          */
static weir_err read_state(listing *self, const char *folder, weir_report *report)
{
    weir_bus_state *state = NULL;
    weir_err err = weir_bus_state_open_readonly(&state, folder, report);
    if (err == WEIR_ENOTFOUND) return WEIR_OK;
    if (err) return err;
    self->has_state = true;
    self->nonce = weir_bus_state_nonce(state);
    self->epoch = weir_bus_state_epoch(state);
    err = weir_bus_state_load(state, &self->table, report);
    if (!err) err = read_groups(self, state, report);
    weir_bus_state_close(&state);
    return err;
}

static void fini(listing *self)
{
    for (size_t i = 0; self->groups && i < self->group_count; i++)
        weir_group_rows_free(&self->groups[i].rows, self->groups[i].count);
    free(self->groups);
    if (self->names) weir_group_names_free(&self->names, self->group_count);
    weir_shard_table_fini(&self->table);
    free(self->shards);
    free(self->gaps);
}

/*  Its state in a word; "-": not known.                                            */
static const char *state_of(const listing *self, uint32_t shard)
{
    for (size_t i = 0; i < self->table.row_count; i++)
        if (self->table.rows[i].id == shard)
            return weir_shard_state_words[self->table.rows[i].state];
    return "-";
}

static uint64_t lag_of(const listing *self, const weir_group_row *row)
{
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i].shard == row->shard && self->shards[i].last > row->commit.a)
            return self->shards[i].last - row->commit.a;
    return 0;
}

/* --- As text ----------------------------------------------------------------------- */

static const char *print_size(uint64_t bytes, char text[16])
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(text, 16, unit ? "%.1f%s" : "%.0f%s", value, units[unit]);
    return text;
}

static const char *print_age(int64_t arrived_ms, uint64_t records, char text[32])
{
    int64_t age_ms = weir_clock_wall_ms() - arrived_ms;
    snprintf(text, 32, "-");
    if (records) weir_duration_print(age_ms > 0 ? age_ms * 1000 : 0, text);
    return text;
}

static void print_shards(const listing *self)
{
    char bytes[16], oldest[32], newest[32];
    printf("%-8s %-9s %14s %14s %14s %9s %-14s %-14s %s\n", "shard", "state", "first",
           "last", "records", "bytes", "oldest", "newest", "trimmed");
    for (size_t i = 0; i < self->shard_count; i++) {
        const weir_store_shard *s = &self->shards[i];
        printf("%-8" PRIu32 " %-9s %14" PRIu64 " %14" PRIu64 " %14" PRIu64
               " %9s %-14s %-14s %" PRIu64 "\n",
               s->shard, state_of(self, s->shard), s->first, s->last, s->records,
               print_size(s->bytes, bytes), print_age(s->oldest_ms, s->records, oldest),
               print_age(s->newest_ms, s->records, newest), s->trimmed);
    }
}

static void print_gaps(const listing *self)
{
    for (size_t i = 0; i < self->gap_count; i++) {
        const weir_gap *gap = &self->gaps[i];
        if (gap->damaged)
            printf("shard %" PRIu32 ": offsets %" PRIu64 " to %" PRIu64 " are damaged\n",
                   gap->shard, gap->first, gap->last);
    }
}

static void print_groups(const listing *self)
{
    if (self->group_count)
        printf("\n%-24s %-8s %14s %14s %14s\n", "group", "shard", "commit", "lag",
               "shed");
    for (size_t i = 0; i < self->group_count; i++)
        for (size_t j = 0; j < self->groups[i].count; j++) {
            const weir_group_row *row = &self->groups[i].rows[j];
            printf("%-24s %-8" PRIu32 " %14" PRIu64 " %14" PRIu64 " %14" PRIu64 "\n",
                   self->names[i], row->shard, row->commit.a, lag_of(self, row),
                   row->shed);
        }
}

static void print_text(const listing *self)
{
    print_shards(self);
    print_gaps(self);
    print_groups(self);
    if (!self->has_state)
        printf("the bus keeps its state elsewhere: states and groups are not shown\n");
}

/* --- As JSON ----------------------------------------------------------------------- */

static void put_shards(const listing *self, weir_buffer *out)
{
    for (size_t i = 0; i < self->shard_count; i++) {
        const weir_store_shard *s = &self->shards[i];
        weir_buffer_printf(out, "%s{\"shard\":%" PRIu32, i ? "," : "", s->shard);
        if (self->has_state) weir_json_put_member(out, "state", state_of(self, s->shard));
        weir_buffer_printf(out,
                           ",\"first\":%" PRIu64 ",\"last\":%" PRIu64
                           ",\"records\":%" PRIu64 ",\"bytes\":%" PRIu64
                           ",\"trimmed\":%" PRIu64 ",\"oldest_ms\":%" PRId64
                           ",\"newest_ms\":%" PRId64 "}",
                           s->first, s->last, s->records, s->bytes, s->trimmed,
                           s->oldest_ms, s->newest_ms);
    }
}

static void put_gaps(const listing *self, weir_buffer *out)
{
    for (size_t i = 0; i < self->gap_count; i++) {
        const weir_gap *gap = &self->gaps[i];
        weir_buffer_printf(out,
                           "%s{\"shard\":%" PRIu32 ",\"first\":%" PRIu64
                           ",\"last\":%" PRIu64 ",\"kind\":\"%s\"}",
                           i ? "," : "", gap->shard, gap->first, gap->last,
                           gap->damaged ? "damaged" : "trimmed");
    }
}

static void put_groups(const listing *self, weir_buffer *out)
{
    bool first = true;
    for (size_t i = 0; i < self->group_count; i++)
        for (size_t j = 0; j < self->groups[i].count; j++) {
            const weir_group_row *row = &self->groups[i].rows[j];
            weir_buffer_put_text(out, first ? "{" : ",{");
            weir_json_put_member(out, "group", self->names[i]);
            weir_buffer_printf(out,
                               ",\"shard\":%" PRIu32 ",\"commit\":%" PRIu64
                               ",\"lag\":%" PRIu64 ",\"shed\":%" PRIu64 "}",
                               row->shard, row->commit.a, lag_of(self, row), row->shed);
            first = false;
        }
}

static void print_json(const listing *self)
{
    weir_buffer out = {0};
    weir_buffer_put_text(&out, "{");
    if (self->has_state)
        weir_buffer_printf(&out, "\"nonce\":\"%016" PRIx64 "\",\"epoch\":%" PRIu64 ",",
                           self->nonce, self->epoch);
    weir_buffer_put_text(&out, "\"shards\":[");
    put_shards(self, &out);
    weir_buffer_put_text(&out, "],\"gaps\":[");
    put_gaps(self, &out);
    weir_buffer_put_text(&out, "],\"groups\":[");
    put_groups(self, &out);
    printf("%.*s]}\n", (int)out.size, (char *)out.data);
    weir_buffer_fini(&out);
}

static int list(const weir_command_line *line)
{
    listing self = {.shards = NULL};
    weir_report report = {0};
    const char *folder = weir_line_operand(line, 0);
    weir_err err = read_store(&self, folder, &report);
    if (!err) err = read_state(&self, folder, &report);
    if (!err && weir_line_flag(line, "--json"))
        print_json(&self);
    else if (!err)
        print_text(&self);
    fini(&self);
    return err ? weir_remote_print(&report) : WEIR_EXIT_OK;
}

int weir_cmd_bus_ls(const weir_command_line *line)
{
    return weir_guard(list, line, weir_line_operand(line, 0));
}
