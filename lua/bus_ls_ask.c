/*  bus_ls_ask: what `weir bus ls` lists of a bus that runs, as its control endpoint tells
    (docs/control.md, `bus`). Where a disk store has gaps its folder tells, if it is here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/store_disk.h"
#include "lua/bus.h"
#include "lua/bus_ls.h"
#include "lua/remote.h"

static weir_store_shard read_stored(const weir_value *row)
{
    return (weir_store_shard){
        .shard = (uint32_t)weir_look_number(row, "shard"),
        .first = weir_look_number(row, "first"),
        .last = weir_look_number(row, "stored"),
        .records = weir_look_number(row, "present"),
        .bytes = weir_look_number(row, "bytes"),
        .trimmed = weir_look_number(row, "trimmed"),
        .oldest_ms = (int64_t)weir_look_number(row, "oldest_wall_ms"),
        .newest_ms = (int64_t)weir_look_number(row, "newest_wall_ms"),
    };
}

/*  A shard that no actor runs for has data alone.                                     */
static void read_state(weir_bus_ls_shard *shard, const weir_value *bus)
{
    weir_value rows, key, row;
    weir_walk walk = {0};
    snprintf(shard->state, sizeof shard->state, "retired");
    if (!weir_look(bus, "shards", &rows)) return;
    while (weir_value_next(&rows, &walk, &key, &row))
        if (weir_look_number(&row, "shard") == shard->stored.shard)
            weir_look_text(&row, "state", shard->state, sizeof shard->state);
}

static void read_shards(weir_bus_ls *self, const weir_value *bus)
{
    weir_value rows, key, row;
    weir_walk walk = {0};
    if (!weir_look(bus, "stored", &rows)) return;
    while (weir_value_next(&rows, &walk, &key, &row)) {
        weir_bus_ls_shard *shard = weir_bus_ls_add_shard(self);
        shard->stored = read_stored(&row);
        shard->damaged = weir_look_number(&row, "damaged");
        read_state(shard, bus);
    }
}

static void read_group(weir_bus_ls *self, const weir_value *group)
{
    char name[512];
    weir_value rows, key, row;
    weir_walk walk = {0};
    weir_look_text(group, "group", name, sizeof name);
    if (!weir_look(group, "shards", &rows)) return;
    while (weir_value_next(&rows, &walk, &key, &row)) {
        weir_bus_ls_group *to = weir_bus_ls_add_group(self, name);
        to->shard = (uint32_t)weir_look_number(&row, "shard");
        to->commit = weir_look_number(&row, "commit");
        to->lag = weir_look_number(&row, "lag");
        to->shed = weir_look_number(&row, "shed");
    }
}

static void read_groups(weir_bus_ls *self, const weir_value *bus)
{
    weir_value groups, key, group;
    weir_walk walk = {0};
    if (!weir_look(bus, "groups", &groups)) return;
    while (weir_value_next(&groups, &walk, &key, &group))
        read_group(self, &group);
}

/*  Then it need not be told how many records are damaged.                             */
static weir_err read_gaps(weir_bus_ls *self, const weir_value *bus, weir_report *report)
{
    char folder[PATH_MAX];
    weir_store *store = NULL;
    weir_look_text(bus, "path", folder, sizeof folder);
    weir_err err = weir_disk_open_readonly(&store, folder, report);
    if (err) return err;
    err = weir_disk_gaps(store, &self->gaps, &self->gap_count, report);
    store->class->close(&store);
    for (size_t i = 0; !err && i < self->shard_count; i++)
        self->shards[i].damaged = 0;
    return err;
}

static weir_err tell_error(const weir_value *bus, const char *name, const char *target,
                           weir_report *report)
{
    char text[400];
    weir_look_text(bus, name, text, sizeof text);
    return *text ? weir_report_set(report, WEIR_ESYS, target, "%s", text) : WEIR_OK;
}

static weir_err read_bus(weir_bus_ls *self, const weir_value *bus, const char *target,
                         bool here, weir_report *report)
{
    char word[32], nonce[32];
    weir_look_text(bus, "store", word, sizeof word);
    if (!*word || strcmp(word, "memory") == 0)
        return weir_report_set(report, WEIR_EINVAL, target,
                               "it has stored nothing: it is no bus with a store");
    self->has_state = true;
    self->nonce = strtoull(weir_look_text(bus, "nonce", nonce, sizeof nonce), NULL, 16);
    self->epoch = weir_look_number(bus, "epoch");
    read_shards(self, bus);
    read_groups(self, bus);
    weir_err err = tell_error(bus, "store_error", target, report);
    if (!err) err = tell_error(bus, "groups_error", target, report);
    if (!err && here && strcmp(word, "disk") == 0) err = read_gaps(self, bus, report);
    return err;
}

weir_err weir_bus_ls_ask(weir_bus_ls *self, const weir_command_line *line,
                         weir_report *report)
{
    char name[132];
    weir_remote *remote = NULL;
    weir_target target;
    weir_value bus;
    weir_err err = weir_bus_open_remote(&remote, line, &target, report);
    snprintf(name, sizeof name, "%s/%s", target.name, target.node);
    if (!err) err = weir_remote_bus(remote, target.node, &bus, report);
    if (!err)
        err = read_bus(self, &bus, name, !weir_line_flag(line, "--control"), report);
    weir_remote_close(&remote);
    return err;
}
