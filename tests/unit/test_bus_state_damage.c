/*  One byte of groups.mdb is changed, then the bus's state is opened, read, changed,
    opened again and read: whatever the byte was, it does not crash, and what is not as it
    was stored is told. WEIR_ROUNDS and WEIR_SEED say how often and where.            */
#include "help_state.h"
#include "help_damage.h"
#include "actors/identity.h"

enum { groups = 40, shards = 12, failures = 60 };

/* --- The state --------------------------------------------------------------------- */

static uint64_t round_of; // what is stored says in which round that was

static void group_name(unsigned group, char name[64])
{
    snprintf(name, 64, "group %u%.*s", group, (int)group, "........................");
}

static weir_group_row make_row(unsigned group, uint32_t shard, uint64_t round)
{
    weir_group_row row = {.shard = shard,
                          .start = {group, 1},
                          .commit = {group * 1000 + shard, round},
                          .shed = round};
    row.failed_count = group % 5 ? shard : failures;
    row.failed = calloc(row.failed_count + 1, sizeof *row.failed);
    for (size_t i = 0; i < row.failed_count; i++)
        row.failed[i] = (weir_group_failure){{group * 2000 + i, round}, (uint32_t)i + 1};
    return row;
}

static weir_err store_group(weir_bus_state *bus, unsigned group, uint64_t round,
                            weir_report *report)
{
    char name[64];
    weir_group_row rows[shards];
    group_name(group, name);
    for (uint32_t i = 0; i < shards; i++)
        rows[i] = make_row(group, i, round);
    weir_err err = weir_bus_state_store_group(bus, name, rows, shards, report);
    for (uint32_t i = 0; i < shards; i++)
        free(rows[i].failed);
    return err;
}

static weir_shard_table make_table(uint64_t round)
{
    weir_shard_table table = {.version = round, .vnodes = vnodes};
    table.rows = calloc(shards, sizeof *table.rows);
    table.owners = calloc(vnodes, sizeof *table.owners);
    table.row_count = shards;
    for (uint32_t i = 0; i < shards; i++)
        table.rows[i] = (weir_shard_row){i, (weir_shard_state)(i % 4)};
    for (uint32_t i = 0; i < vnodes; i++)
        table.owners[i] = i % shards;
    return table;
}

static weir_err store_table(weir_bus_state *bus, uint64_t round, weir_report *report)
{
    weir_shard_table table = make_table(round);
    weir_err err = weir_bus_state_store(bus, &table, report);
    weir_shard_table_fini(&table);
    return err;
}

/*  The rounds differ in size, so that pages become free.                            */
static weir_err store_all(weir_bus_state *bus, uint64_t round, weir_report *report)
{
    weir_err err = store_table(bus, round, report);
    for (unsigned i = 0; i < groups && !err; i++)
        err = store_group(bus, i, round, report);
    return err;
}

static void make_state(void)
{
    weir_report report = {0};
    weir_bus_state *bus = open_state();
    weir_group_row row = {.shard = 3};
    for (round_of = 0; round_of < 2;)
        if (store_all(bus, ++round_of, &report)) fail_msg("%s", report.text);
    assert_int_equal(weir_bus_state_store_group(bus, "gone", &row, 1, NULL), WEIR_OK);
    assert_int_equal(weir_bus_state_forget_group(bus, "gone", NULL), WEIR_OK);
    if (store_all(bus, ++round_of, &report)) fail_msg("%s", report.text);
    weir_bus_state_close(&bus);
}

/* --- What is found ----------------------------------------------------------------- */

static verdict silent(const char *what, unsigned group, size_t row)
{
    snprintf(reason, sizeof reason, "group %u, row %zu: %.160s", group, row, what);
    return SILENT;
}

static bool is_same(const weir_group_row *row, unsigned group, uint32_t shard)
{
    weir_group_row wanted = make_row(group, shard, round_of);
    bool same = row->shard == shard && row->start.a == wanted.start.a &&
                row->commit.a == wanted.commit.a && row->commit.b == wanted.commit.b &&
                row->shed == wanted.shed && row->failed_count == wanted.failed_count;
    for (size_t i = 0; i < wanted.failed_count && same; i++)
        same = row->failed[i].at.a == wanted.failed[i].at.a &&
               row->failed[i].at.b == wanted.failed[i].at.b &&
               row->failed[i].failures == wanted.failed[i].failures;
    free(wanted.failed);
    return same;
}

static verdict see_group(weir_bus_state *bus, unsigned group)
{
    char name[64];
    weir_group_row *rows;
    size_t count;
    weir_report report = {0};
    group_name(group, name);
    if (weir_bus_state_load_group(bus, name, &rows, &count, &report))
        return fault(report.text);
    verdict is = count == shards ? ALL_THERE : silent("other rows", group, count);
    for (uint32_t i = 0; i < count && !is; i++)
        if (!is_same(&rows[i], group, i)) is = silent("another row", group, i);
    weir_group_rows_free(&rows, count);
    return is;
}

static verdict see_names(weir_bus_state *bus)
{
    char **list;
    size_t count;
    weir_report report = {0};
    if (weir_bus_state_groups(bus, &list, &count, &report)) return fault(report.text);
    weir_group_names_free(&list, count);
    return count == groups ? ALL_THERE : silent("other names", 0, count);
}

static verdict see_table(weir_bus_state *bus)
{
    weir_shard_table table, wanted = make_table(round_of);
    weir_report report = {0};
    if (weir_bus_state_load(bus, &table, &report)) return fault(report.text);
    bool same = table.version == wanted.version && table.row_count == shards;
    for (uint32_t i = 0; i < shards && same; i++)
        same = table.rows[i].id == wanted.rows[i].id &&
               table.rows[i].state == wanted.rows[i].state;
    for (uint32_t i = 0; i < vnodes && same; i++)
        same = table.owners[i] == wanted.owners[i];
    weir_shard_table_fini(&table);
    weir_shard_table_fini(&wanted);
    return same ? ALL_THERE : silent("another table", 0, 0);
}

static verdict see_all(weir_bus_state *bus)
{
    verdict is = worse(see_table(bus), see_names(bus));
    for (unsigned i = 0; i < groups && is < HUNG; i++)
        is = worse(is, see_group(bus, i));
    return is;
}

/*  A row as it was, or, where a first page was damaged, before the last change.      */
static bool was_stored(const weir_group_row *row, unsigned group)
{
    uint64_t now = round_of;
    bool was = is_same(row, group, row->shard);
    round_of = now - 1;
    was = was || is_same(row, group, row->shard);
    round_of = now;
    return was;
}

/*  What is left of the rows makes a state that is whole, and every row was there.     */
static verdict mend(void)
{
    char copy[160], why[256], name[64];
    uint64_t count;
    weir_identity identity;
    weir_bus_state *bus = NULL;
    weir_report report = {0};
    verdict is = REFUSED;
    memcpy(why, reason, sizeof why);
    if (!strstr(why, "weir bus repair")) return silent("no word of what to do", 0, 0);
    if (weir_identity_read(&identity, identity_path, &report)) return REFUSED;
    snprintf(copy, sizeof copy, "%s.copy", groups_path);
    if (weir_bus_db_salvage(groups_path, copy, identity.nonce, &count, &report) ||
        rename(copy, groups_path) || weir_bus_state_open(&bus, folder, vnodes, &report))
        return silent(report.text, 0, count);
    for (unsigned i = 0; i < groups && is == REFUSED; i++) {
        weir_group_row *rows;
        group_name(i, name);
        if (weir_bus_state_load_group(bus, name, &rows, &count, &report))
            return silent(report.text, i, 0);
        for (size_t j = 0; j < count && is == REFUSED; j++)
            if (!was_stored(&rows[j], i)) is = silent("another row", i, j);
        weir_group_rows_free(&rows, count);
    }
    weir_bus_state_close(&bus);
    if (is == REFUSED) memcpy(reason, why, sizeof why);
    return is;
}

/*  Opens, reads, stores all anew, reads, and so again.                              */
static verdict use_state(void)
{
    verdict is = ALL_THERE;
    for (int i = 0; i < 2 && is < HUNG; i++) {
        weir_bus_state *bus = NULL;
        weir_report report = {0};
        if (weir_bus_state_open(&bus, folder, vnodes, &report)) {
            snprintf(reason, sizeof reason, "%.255s", report.text);
            if (!report.where[0] || !report.text[0]) return SILENT;
            return i ? worse(is, TOLD) : mend();
        }
        is = worse(is, see_all(bus));
        if (is < HUNG && store_all(bus, ++round_of, &report)) return fault(report.text);
        if (is < HUNG) is = worse(is, see_all(bus));
        weir_bus_state_close(&bus);
    }
    return is;
}

static void a_changed_byte_is_told(void **state)
{
    (void)state;
    struct stat st;
    make_state();
    assert_int_equal(stat(groups_path, &st), 0);
    read_whole(groups_path, (size_t)st.st_size);
    change_bytes(400, use_state);
    forget_whole();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_changed_byte_is_told),
    };
    read_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
