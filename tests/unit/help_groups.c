#include "tests/unit/help_groups.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- The store's table, with an ear for commits ------------------------------------ */

enum { commits_max = 256 };

static struct {
    char group[32];
    uint32_t shard;
    uint64_t offset;
} commits[commits_max];
static size_t commit_count;
static pthread_mutex_t commits_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opened = PTHREAD_COND_INITIALIZER;
static bool gate_shut;
static unsigned times_told;

static void hear_commit(weir_store *store, const char *group, uint32_t shard,
                        uint64_t offset)
{
    (void)store;
    size_t i = 0;
    pthread_mutex_lock(&commits_lock);
    times_told++;
    while (gate_shut)
        pthread_cond_wait(&gate_opened, &commits_lock);
    while (i < commit_count &&
           (strcmp(commits[i].group, group) || commits[i].shard != shard))
        i++;
    assert_true(i < commits_max);
    if (i == commit_count) commit_count++;
    snprintf(commits[i].group, sizeof commits[i].group, "%s", group);
    commits[i].shard = shard;
    commits[i].offset = offset;
    pthread_mutex_unlock(&commits_lock);
}

static void hear_forget(weir_store *store, const char *group)
{
    (void)store;
    pthread_mutex_lock(&commits_lock);
    for (size_t i = commit_count; i-- > 0;)
        if (!strcmp(commits[i].group, group)) commits[i] = commits[--commit_count];
    pthread_mutex_unlock(&commits_lock);
}

unsigned help_groups_gate(bool shut)
{
    pthread_mutex_lock(&commits_lock);
    unsigned times = times_told;
    gate_shut = shut;
    pthread_cond_broadcast(&gate_opened);
    pthread_mutex_unlock(&commits_lock);
    return times;
}

static unsigned asks_left;
static void (*act_then)(void);
static weir_err (*ask_shards)(weir_store *store, weir_store_shard **list, size_t *count,
                              weir_report *report);

void help_groups_meanwhile(unsigned times, void (*act)(void))
{
    asks_left = times;
    act_then = act;
}

static weir_err hear_shards(weir_store *store, weir_store_shard **list, size_t *count,
                            weir_report *report)
{
    void (*act)(void) = asks_left && --asks_left == 0 ? act_then : NULL;
    if (act) act();
    return ask_shards(store, list, count, report);
}

uint64_t help_groups_told(const char *group, uint32_t shard)
{
    uint64_t offset = UINT64_MAX;
    pthread_mutex_lock(&commits_lock);
    for (size_t i = 0; i < commit_count; i++)
        if (!strcmp(commits[i].group, group) && commits[i].shard == shard)
            offset = commits[i].offset;
    pthread_mutex_unlock(&commits_lock);
    return offset;
}

/* --- Lifecycle --------------------------------------------------------------------- */

static void open_groups(help_groups *self)
{
    weir_report report = {0};
    weir_groups_config config = {.vnodes = help_vnodes, .bus = "b"};
    if (weir_bus_state_open(&self->state, self->state_path, help_vnodes, &report))
        fail_msg("%s", report.text);
    config.store = self->store;
    config.state = self->state;
    config.dead_path = self->dead_path;
    config.ledger = self->ledger;
    if (weir_groups_new(&self->groups, &config, &report)) fail_msg("%s", report.text);
}

void help_groups_begin(help_groups *self, bool threaded)
{
    static weir_store_class class;
    memset(self, 0, sizeof *self);
    const char *room =
        access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; // where a sync is free
    snprintf(self->folder, sizeof self->folder, "%s/test_groups.XXXXXX", room);
    assert_non_null(mkdtemp(self->folder));
    snprintf(self->state_path, sizeof self->state_path, "%s/state", self->folder);
    snprintf(self->dead_path, sizeof self->dead_path, "%s/dead", self->folder);
    self->store = help_store_new(threaded, NULL);
    class = *self->store->class;
    class.commit = hear_commit;
    class.forget = hear_forget;
    ask_shards = class.shards;
    class.shards = hear_shards;
    self->store->class = &class;
    commit_count = 0;
    self->ledger = weir_ledger_new(1 << 30);
    open_groups(self);
}

void help_groups_restart(help_groups *self)
{
    weir_groups_destroy(&self->groups);
    weir_bus_state_close(&self->state);
    commit_count = 0;
    open_groups(self);
}

void help_groups_end(help_groups *self)
{
    char command[128];
    if (self->groups) assert_int_equal(weir_ledger_used(self->ledger), 0);
    weir_groups_destroy(&self->groups);
    weir_bus_state_close(&self->state);
    self->store->class->close(&self->store);
    assert_int_equal(weir_ledger_used(self->ledger), 0);
    assert_int_equal(weir_ledger_release_errors(self->ledger), 0);
    weir_ledger_destroy(&self->ledger);
    snprintf(command, sizeof command, "rm -rf '%s'", self->folder);
    assert_int_equal(system(command), 0);
}

/* --- Doing ------------------------------------------------------------------------- */

weir_member_of *help_groups_join(help_groups *self, const char *group,
                                 const weir_group_config *config)
{
    weir_member_of *member;
    weir_report report = {0};
    if (weir_groups_join(self->groups, group, "m", config, NULL, -1, &member, &report))
        fail_msg("%s", report.text);
    return member;
}

void help_groups_put(help_groups *self, uint32_t shard, const char *key, int n)
{
    for (int i = 0; i < n; i++)
        help_store_put(self->store, shard, "{\"a\":1}", key, -1);
}

const uint64_t *help_groups_fetch(help_groups *self, weir_member_of *member,
                                  uint32_t max_records, uint32_t *shard)
{
    static _Thread_local uint64_t offsets[20001];
    weir_delivered delivered;
    int64_t deadline_us;
    assert_true(max_records <= 20000);
    weir_err err = weir_groups_fetch(self->groups, member, max_records, 1 << 20,
                                     &delivered, &deadline_us);
    assert_int_equal(err, WEIR_OK);
    assert_true(delivered.records <= max_records);
    if (delivered.block)
        assert_int_equal(weir_block_records(delivered.block), delivered.records);
    else
        assert_int_equal(delivered.records, 0);
    for (uint32_t i = 0; i < delivered.records; i++) {
        offsets[i] = delivered.at[i].a;
        assert_int_equal(delivered.sequence[i], offsets[i]);
    }
    offsets[delivered.records] = 0;
    if (shard && delivered.records) *shard = delivered.shard;
    weir_delivered_fini(&delivered);
    return offsets;
}

weir_err help_groups_ack(help_groups *self, weir_member_of *member, uint32_t shard,
                         uint64_t offset)
{
    return weir_groups_ack(self->groups, member, shard, (weir_position){offset, 0}, false,
                           NULL);
}

weir_err help_groups_ack_up_to(help_groups *self, weir_member_of *member, uint32_t shard,
                               uint64_t offset)
{
    return weir_groups_ack(self->groups, member, shard, (weir_position){offset, 0}, true,
                           NULL);
}

weir_err help_groups_nack(help_groups *self, weir_member_of *member, uint32_t shard,
                          uint64_t offset)
{
    return weir_groups_nack(self->groups, member, shard, (weir_position){offset, 0}, -1,
                            "it broke", NULL);
}

/* --- Looking ----------------------------------------------------------------------- */

weir_group_look help_groups_look(help_groups *self, const char *group, uint32_t shard)
{
    weir_group_look *list, found = {0};
    size_t count, matches = 0;
    weir_report report = {0};
    if (weir_groups_look(self->groups, &list, &count, &report))
        fail_msg("%s", report.text);
    for (size_t i = 0; i < count; i++) {
        const weir_group_look *look = &list[i];
        assert_int_equal(look->last.a,
                         look->start.a + look->done + look->shed + look->lag);
        if (look->shard != shard || strcmp(look->group, group)) continue;
        found = *look;
        found.group = NULL;
        matches++;
    }
    weir_group_looks_free(&list, count);
    assert_true(matches <= 1);
    if (matches) assert_int_equal(found.last.a, help_store_last(self->store, shard));
    return found;
}

void help_groups_expect(help_groups *self, weir_member_of *member,
                        const uint64_t *offsets, const char *file, int line)
{
    const uint64_t *got = help_groups_fetch(self, member, 20000, NULL);
    for (size_t i = 0;; i++) {
        if (got[i] != offsets[i])
            fail_msg("%s:%d: record %zu is %llu, not %llu", file, line, i,
                     (unsigned long long)got[i], (unsigned long long)offsets[i]);
        if (!got[i] || !offsets[i]) return;
    }
}

int help_groups_letters(const help_groups *self, const char *text)
{
    char line[4096];
    int count = 0;
    FILE *file = fopen(self->dead_path, "r");
    while (file && fgets(line, sizeof line, file))
        count += strstr(line, text) != NULL;
    if (file) fclose(file);
    return count;
}
