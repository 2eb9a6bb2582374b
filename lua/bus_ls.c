/*  bus_ls: `weir bus ls`: shards, gaps and groups of a bus: of its disk store's folder,
   or of one that runs. */
#include "lua/bus_ls.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/bus_state.h"
#include "actors/store_disk.h"
#include "lua/bus.h"
#include "lua/guard.h"
#include "lua/remote.h"
#include "lua/state.h"
#include "runtime/clock.h"
#include "runtime/json.h"
#include "runtime/why.h"

const weir_flag weir_bus_ls_flags[] = {
    {"--json", NULL, "as JSON"},
    WEIR_REMOTE_FLAGS,
    {NULL, NULL, NULL},
};

typedef weir_bus_ls listing;

/* --- The list ---------------------------------------------------------------------- */

static void *grow(void *array, size_t count, size_t size)
{
    array = realloc(array, (count + 1) * size);
    if (!array) abort();
    return array;
}

weir_bus_ls_shard *weir_bus_ls_add_shard(weir_bus_ls *self)
{
    self->shards = grow(self->shards, self->shard_count, sizeof *self->shards);
    weir_bus_ls_shard *shard = &self->shards[self->shard_count++];
    *shard = (weir_bus_ls_shard){.damaged = 0};
    return shard;
}

weir_bus_ls_group *weir_bus_ls_add_group(weir_bus_ls *self, const char *group)
{
    self->groups = grow(self->groups, self->group_count, sizeof *self->groups);
    weir_bus_ls_group *row = &self->groups[self->group_count++];
    *row = (weir_bus_ls_group){.group = strdup(group)};
    if (!row->group) abort();
    return row;
}

static void fini(listing *self)
{
    for (size_t i = 0; i < self->group_count; i++)
        free(self->groups[i].group);
    free(self->groups);
    free(self->shards);
    free(self->gaps);
}

/* --- Of a folder ------------------------------------------------------------------- */

static weir_err read_shards(listing *self, weir_store *store, weir_report *report)
{
    weir_store_shard *list = NULL;
    size_t count = 0;
    weir_err err = store->class->shards(store, &list, &count, report);
    for (size_t i = 0; i < count; i++)
        weir_bus_ls_add_shard(self)->stored = list[i];
    free(list);
    return err;
}

static weir_err read_store(listing *self, const char *folder, weir_report *report)
{
    weir_store *store = NULL;
    weir_err err = weir_disk_open_readonly(&store, folder, report);
    if (err) return err;
    err = read_shards(self, store, report);
    if (!err) err = weir_disk_gaps(store, &self->gaps, &self->gap_count, report);
    store->class->close(&store);
    return err;
}

static void set_states(listing *self, const weir_shard_table *table)
{
    for (size_t i = 0; i < self->shard_count; i++)
        for (size_t j = 0; j < table->row_count; j++)
            if (table->rows[j].id == self->shards[i].stored.shard)
                snprintf(self->shards[i].state, sizeof self->shards[i].state, "%s",
                         weir_shard_state_words[table->rows[j].state]);
}

static uint64_t lag_of(const listing *self, const weir_group_row *row)
{
    for (size_t i = 0; i < self->shard_count; i++) {
        const weir_store_shard *s = &self->shards[i].stored;
        if (s->shard == row->shard && s->last > row->commit.a)
            return s->last - row->commit.a;
    }
    return 0;
}

static weir_err read_group(listing *self, weir_bus_state *state, const char *name,
                           weir_report *report)
{
    weir_group_row *rows = NULL;
    size_t count = 0;
    weir_err err = weir_bus_state_load_group(state, name, &rows, &count, report);
    for (size_t i = 0; i < count; i++) {
        weir_bus_ls_group *group = weir_bus_ls_add_group(self, name);
        group->shard = rows[i].shard;
        group->commit = rows[i].commit.a;
        group->lag = lag_of(self, &rows[i]);
        group->shed = rows[i].shed;
    }
    weir_group_rows_free(&rows, count);
    return err;
}

static weir_err read_groups(listing *self, weir_bus_state *state, weir_report *report)
{
    char **names = NULL;
    size_t count = 0;
    weir_err err = weir_bus_state_groups(state, &names, &count, report);
    for (size_t i = 0; i < count && !err; i++)
        err = read_group(self, state, names[i], report);
    if (names) weir_group_names_free(&names, count);
    return err;
}

/*  A bus may keep its state elsewhere, which is no error.                          */
static weir_err read_state(listing *self, const char *folder, weir_report *report)
{
    weir_bus_state *state = NULL;
    weir_shard_table table = {0};
    weir_err err = weir_bus_state_open_readonly(&state, folder, report);
    if (err == WEIR_ENOTFOUND) return WEIR_OK;
    if (err) return err;
    self->has_state = true;
    self->nonce = weir_bus_state_nonce(state);
    self->epoch = weir_bus_state_epoch(state);
    err = weir_bus_state_load(state, &table, report);
    if (!err) set_states(self, &table);
    if (!err) err = read_groups(self, state, report);
    weir_shard_table_fini(&table);
    weir_bus_state_close(&state);
    return err;
}

static weir_err read_folder(listing *self, const char *folder, weir_report *report)
{
    weir_err err = read_store(self, folder, report);
    return err ? err : read_state(self, folder, report);
}

/* --- As text ----------------------------------------------------------------------- */

/*  Records without bytes: their size is not known.                                 */
static const char *print_size(uint64_t bytes, uint64_t records, char text[16])
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int unit = 0;
    if (!bytes && records) return "-";
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(text, 16, unit ? "%.1f%s" : "%.0f%s", value, units[unit]);
    return text;
}

static const char *print_age(int64_t arrived_ms, uint64_t records, char text[32])
{
    int64_t age_ms = weir_clock_wall_ms() - arrived_ms;
    snprintf(text, 32, "-");
    if (records && arrived_ms > 0)
        weir_duration_print(age_ms > 0 ? age_ms * 1000 : 0, text);
    return text;
}

static void print_shards(const listing *self)
{
    char bytes[16], oldest[32], newest[32];
    printf("%-8s %-9s %14s %14s %14s %9s %-14s %-14s %s\n", "shard", "state", "first",
           "last", "records", "bytes", "oldest", "newest", "trimmed");
    for (size_t i = 0; i < self->shard_count; i++) {
        const weir_store_shard *s = &self->shards[i].stored;
        const char *state = self->shards[i].state;
        printf("%-8" PRIu32 " %-9s %14" PRIu64 " %14" PRIu64 " %14" PRIu64
               " %9s %-14s %-14s %" PRIu64 "\n",
               s->shard, *state ? state : "-", s->first, s->last, s->records,
               print_size(s->bytes, s->records, bytes),
               print_age(s->oldest_ms, s->records, oldest),
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
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i].damaged)
            printf("shard %" PRIu32 ": %" PRIu64 " records are damaged\n",
                   self->shards[i].stored.shard, self->shards[i].damaged);
}

static void print_groups(const listing *self)
{
    if (self->group_count)
        printf("\n%-24s %-8s %14s %14s %14s\n", "group", "shard", "commit", "lag",
               "shed");
    for (size_t i = 0; i < self->group_count; i++) {
        const weir_bus_ls_group *row = &self->groups[i];
        printf("%-24s %-8" PRIu32 " %14" PRIu64 " %14" PRIu64 " %14" PRIu64 "\n",
               row->group, row->shard, row->commit, row->lag, row->shed);
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
        const weir_store_shard *s = &self->shards[i].stored;
        weir_buffer_printf(out, "%s{\"shard\":%" PRIu32, i ? "," : "", s->shard);
        if (*self->shards[i].state)
            weir_json_put_member(out, "state", self->shards[i].state);
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
    for (size_t i = 0; i < self->group_count; i++) {
        const weir_bus_ls_group *row = &self->groups[i];
        weir_buffer_put_text(out, i ? ",{" : "{");
        weir_json_put_member(out, "group", row->group);
        weir_buffer_printf(out,
                           ",\"shard\":%" PRIu32 ",\"commit\":%" PRIu64
                           ",\"lag\":%" PRIu64 ",\"shed\":%" PRIu64 "}",
                           row->shard, row->commit, row->lag, row->shed);
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

static void print(const listing *self, bool json)
{
    if (json)
        print_json(self);
    else
        print_text(self);
    fflush(stdout);
}

static int list(const weir_command_line *line)
{
    listing self = {.has_state = false};
    weir_report report = {0};
    const char *operand = weir_line_operand(line, 0);
    bool is_folder = weir_state_is_file(operand) && !weir_line_flag(line, "--control");
    weir_err err = is_folder ? read_folder(&self, operand, &report)
                             : weir_bus_ls_ask(&self, line, &report);
    if (!err || (!is_folder && self.has_state))
        print(&self, weir_line_flag(line, "--json"));
    fini(&self);
    return err ? weir_remote_print(&report) : WEIR_EXIT_OK;
}

/*  By a child: what lies in the folder may be damaged.                             */
int weir_cmd_bus_ls(const weir_command_line *line)
{
    return weir_guard(list, line, weir_line_operand(line, 0));
}
