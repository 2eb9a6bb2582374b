#include "tests/unit/help_groups.h"
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* --- One member against a model ---------------------------------------------------- */

enum { shards = 2, records_max = 400, rounds = 1500, deliveries_max = 3, window = 12 };

/*  What the test believes of a record.                                             */
typedef struct {
    char key; // 0: none
    bool trimmed, settled, held;
    uint32_t failures;
} believed;

static help_groups bench;
static weir_member_of *member;
static weir_group_config config;
static believed model[shards][records_max + 1]; // by offset
static uint64_t trimmed[shards];                // up to there
static int dead;                                // letters that there must be
static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static bool same_vnode(const believed *a, const believed *b)
{
    return a->key && b->key &&
           weir_key_vnode((const uint8_t *)&a->key, 1, help_vnodes) ==
               weir_key_vnode((const uint8_t *)&b->key, 1, help_vnodes);
}

static void put_some(uint32_t shard)
{
    static const char keys[] = "abcd";
    for (uint32_t n = 1 + draw(4); n > 0; n--) {
        if (help_store_last(bench.store, shard) == records_max) return;
        char key[2] = {keys[draw(sizeof keys)], 0};
        help_groups_put(&bench, shard, *key ? key : NULL, 1);
        model[shard][help_store_last(bench.store, shard)].key = *key;
    }
}

/*  Trims a part of what there is, however far the group is.                        */
static void trim_some(uint32_t shard)
{
    uint64_t last = help_store_last(bench.store, shard), first = trimmed[shard] + 1;
    uint64_t until = trimmed[shard] + 1 + draw(8);
    if (draw(2) || until > last) return;
    help_store_remove(bench.store, shard, first, until, false);
    for (uint64_t o = first; o <= until; o++)
        model[shard][o].trimmed = true;
    trimmed[shard] = until;
}

/*  No earlier record of its vnode may have failed, or wait.                        */
static void check_delivered(uint32_t shard, uint64_t offset)
{
    believed *record = &model[shard][offset];
    assert_false(record->settled || record->held);
    for (uint64_t o = 1; o < offset; o++) {
        const believed *earlier = &model[shard][o];
        if (earlier->settled || !same_vnode(earlier, record)) continue;
        if (earlier->trimmed && !earlier->held) continue; // it may never come
        assert_true(earlier->held && !earlier->failures);
    }
    record->held = true;
}

static uint32_t count_held(void)
{
    uint32_t held = 0;
    for (uint32_t shard = 0; shard < shards; shard++)
        for (uint64_t o = 1; o <= records_max; o++)
            held += model[shard][o].held;
    return held;
}

static void fetch_some(void)
{
    uint32_t shard = 0, count = 0;
    const uint64_t *got = help_groups_fetch(&bench, member, 1 + draw(8), &shard);
    bool failed = *got && model[shard][*got].failures;
    for (; *got; got++, count++)
        check_delivered(shard, *got);
    if (failed) assert_int_equal(count, 1);
    assert_true(count_held() <= window);
}

static void fail_one(uint32_t shard, uint64_t offset)
{
    believed *record = &model[shard][offset];
    record->held = false;
    for (uint64_t o = offset + 1; o <= records_max; o++)
        if (same_vnode(record, &model[shard][o])) model[shard][o].held = false;
    if (++record->failures < deliveries_max) return;
    record->settled = true;
    dead++;
}

/*  Answers one of the records that are held.                                       */
static void answer_one(bool good)
{
    uint32_t held = count_held(), n = held ? draw(held) : 0;
    for (uint32_t shard = 0; shard < shards && held; shard++)
        for (uint64_t o = 1; o <= records_max; o++) {
            if (!model[shard][o].held || n--) continue;
            weir_position at = {o, 0};
            weir_err err = good ? help_groups_ack(&bench, member, shard, o)
                                : weir_groups_nack(bench.groups, member, shard, at,
                                                   draw(900) * help_ms, "no", NULL);
            assert_int_equal(err, WEIR_OK);
            if (!good) fail_one(shard, o);
            if (good) model[shard][o].settled = true;
            model[shard][o].held = false;
            return;
        }
}

/*  Held records wait for the next owner.                                           */
static void change_member(bool restart)
{
    weir_groups_leave(bench.groups, &member);
    assert_int_equal(weir_ledger_used(bench.ledger), 0);
    for (uint32_t shard = 0; shard < shards; shard++)
        for (uint64_t o = 1; o <= records_max; o++)
            model[shard][o].held = false;
    if (restart) {
        help_groups_restart(&bench);
        for (uint32_t shard = 0; shard < shards; shard++) {
            uint64_t commit = help_groups_told("g", shard);
            if (commit == UINT64_MAX) commit = 0; // nothing of the shard was known
            for (uint64_t o = commit + 1; o <= records_max; o++) {
                believed *record = &model[shard][o];
                if (record->settled) record->failures = 0;
                record->settled = false; // it was known to be done, but not durably
            }
        }
    }
    member = help_groups_join(&bench, "g", &config);
}

/*  The commit is where the run of what is done ends.                               */
static void check_commits(void)
{
    for (uint32_t shard = 0; shard < shards; shard++) {
        weir_group_look look = help_groups_look(&bench, "g", shard);
        assert_true(look.commit.a == records_max ||
                    !model[shard][look.commit.a + 1].settled);
        for (uint64_t o = 1; o <= look.commit.a; o++)
            assert_true(model[shard][o].settled || model[shard][o].trimmed);
    }
}

/*  Everything is answered: then each record was done once, or is shed.             */
static void finish(void)
{
    for (int i = 0; i < 4 * records_max; i++) {
        weir_clock_advance(help_s);
        fetch_some();
        while (count_held())
            answer_one(true);
    }
    for (uint32_t shard = 0; shard < shards; shard++) {
        weir_group_look look = help_groups_look(&bench, "g", shard);
        uint64_t last = help_store_last(bench.store, shard), shed = 0;
        for (uint64_t o = 1; o <= last; o++) {
            assert_true(model[shard][o].settled || model[shard][o].trimmed);
            shed += !model[shard][o].settled;
        }
        assert_int_equal(look.commit.a, last);
        assert_int_equal(look.shed, shed);
        assert_int_equal(look.start.a, 0);
    }
}

static void one_step(void)
{
    uint32_t shard = draw(shards), what = draw(100);
    if (what < 15)
        put_some(shard);
    else if (what < 25)
        trim_some(shard);
    else if (what < 50)
        fetch_some();
    else if (what < 80)
        answer_one(true);
    else if (what < 92)
        answer_one(false);
    else if (what < 98)
        weir_clock_advance(draw(300) * help_ms);
    else
        change_member(what == 99 && draw(3) == 0);
}

static void each_record_is_done_once_or_shed(void **state)
{
    (void)state;
    uint64_t first = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 1;
    for (seed = first; seed < first + 4; seed++) {
        uint64_t kept = seed;
        print_message("seed %llu\n", (unsigned long long)seed);
        memset(model, 0, sizeof model);
        memset(trimmed, 0, sizeof trimmed);
        dead = 0;
        help_groups_begin(&bench, false);
        config = weir_group_defaults;
        config.member_timeout_us = config.ack_timeout_us = WEIR_NONE;
        config.max_deliver = deliveries_max;
        config.window = window;
        member = help_groups_join(&bench, "g", &config);
        for (int i = 0; i < rounds; i++) {
            one_step();
            if (i % 16 == 0) check_commits();
        }
        finish();
        assert_int_equal(help_groups_letters(&bench, ""), dead);
        weir_groups_leave(bench.groups, &member);
        help_groups_end(&bench);
        seed = kept;
    }
}

/* --- Members in threads ------------------------------------------------------------ */

enum { workers = 3, worker_shards = 4, worker_records = 300 };

typedef struct {
    const char *group;
    uint32_t every; // nacks one in so many
    int fd;
    pthread_t thread;
} worker;

static atomic_uint done[2][worker_shards][worker_records + 1];
static atomic_uint left[2]; // records nobody has acknowledged yet
static atomic_bool over;

static void work_on(worker *self, weir_member_of *of, const weir_delivered *delivered)
{
    uint32_t group = self->group[0] - 'a';
    for (uint32_t i = 0; i < delivered->records; i++) {
        weir_position at = delivered->at[i];
        if (self->every && at.a % self->every == 0 && at.a % 2 &&
            !atomic_load(&done[group][delivered->shard][0])) {
            atomic_store(&done[group][delivered->shard][0], 1);
            weir_groups_nack(bench.groups, of, delivered->shard, at, 0, NULL, NULL);
            continue;
        }
        weir_err err =
            weir_groups_ack(bench.groups, of, delivered->shard, at, false, NULL);
        if (err == WEIR_EREFUSED) continue; // its shard has gone to another
        assert_int_equal(err, WEIR_OK);
        if (atomic_fetch_add(&done[group][delivered->shard][at.a], 1) == 0)
            atomic_fetch_sub(&left[group], 1);
    }
}

/*  Leaves once and joins again, so that shards move.                               */
static void *work(void *arg)
{
    worker *self = arg;
    weir_group_config with = weir_group_defaults;
    with.member_timeout_us = WEIR_NONE;
    weir_member_of *of = NULL;
    for (uint32_t turn = 0; !atomic_load(&over); turn++) {
        if (!of)
            weir_groups_join(bench.groups, self->group, "w", &with, NULL, self->fd, &of,
                             NULL);
        weir_delivered delivered;
        int64_t deadline_us;
        weir_groups_fetch(bench.groups, of, 16, 1 << 20, &delivered, &deadline_us);
        struct pollfd wait = {.fd = self->fd, .events = POLLIN};
        eventfd_t value;
        if (!delivered.block && poll(&wait, 1, deadline_us < 0 ? 100 : 10) > 0)
            eventfd_read(self->fd, &value);
        work_on(self, of, &delivered);
        weir_delivered_fini(&delivered);
        if (turn == 20) weir_groups_leave(bench.groups, &of);
    }
    weir_groups_leave(bench.groups, &of);
    return NULL;
}

static void wait_for_all(void)
{
    time_t give_up = time(NULL) + 60;
    while ((atomic_load(&left[0]) || atomic_load(&left[1])) && time(NULL) < give_up) {
        weir_group_look *list;
        size_t count;
        weir_clock_advance(10 * help_ms);
        weir_groups_tick(bench.groups, weir_clock_now_us());
        weir_groups_look(bench.groups, &list, &count, NULL);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(list[i].last.a,
                             list[i].start.a + list[i].done + list[i].shed + list[i].lag);
        weir_group_looks_free(&list, count);
        usleep(1000);
    }
    assert_int_equal(atomic_load(&left[0]) + atomic_load(&left[1]), 0);
}

static void members_in_threads_miss_nothing(void **state)
{
    (void)state;
    worker team[2 * workers];
    help_groups_begin(&bench, true);
    left[0] = left[1] = worker_shards * worker_records;
    for (int i = 0; i < 2 * workers; i++) {
        team[i] = (worker){.group = i < workers ? "a" : "b",
                           .every = i % 2 ? 7 : 0,
                           .fd = eventfd(0, EFD_NONBLOCK)};
        pthread_create(&team[i].thread, NULL, work, &team[i]);
    }
    for (int n = 0; n < worker_records; n += 20)
        for (uint32_t shard = 0; shard < worker_shards; shard++)
            help_groups_put(&bench, shard, (char[]){(char)('a' + n % 7), 0}, 20);
    wait_for_all();
    atomic_store(&over, true);
    for (int i = 0; i < 2 * workers; i++) {
        pthread_join(team[i].thread, NULL);
        close(team[i].fd);
    }
    for (uint32_t shard = 0; shard < worker_shards; shard++) {
        assert_int_equal(help_groups_look(&bench, "a", shard).commit.a, worker_records);
        assert_int_equal(help_groups_look(&bench, "b", shard).commit.a, worker_records);
    }
    help_groups_end(&bench);
}

/* --- All at once ------------------------------------------------------------------- */

enum { busy_members = 4, changes = 300 };

static weir_member_of *join_busy(int fd)
{
    weir_member_of *of;
    weir_group_config with = weir_group_defaults;
    with.member_timeout_us = 5 * (int64_t)help_s;
    with.max_deliver = 2;
    with.window = 20;
    weir_err err = weir_groups_join(bench.groups, "g", "w", &with, NULL, fd, &of, NULL);
    assert_int_equal(err, WEIR_OK);
    return of;
}

/*  Answers this and that way, or not at all.                                       */
static void *be_busy(void *arg)
{
    int fd = *(int *)arg;
    weir_member_of *of = join_busy(fd);
    for (uint32_t turn = 0; !atomic_load(&over); turn++) {
        weir_delivered delivered;
        int64_t deadline_us;
        weir_err err =
            weir_groups_fetch(bench.groups, of, 8, 1 << 20, &delivered, &deadline_us);
        for (uint32_t i = 0; i < delivered.records && turn % 5; i++)
            if (turn % 5 == 1)
                weir_groups_nack(bench.groups, of, delivered.shard, delivered.at[i], 0,
                                 NULL, NULL);
            else
                weir_groups_ack(bench.groups, of, delivered.shard, delivered.at[i],
                                turn % 2, NULL);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        eventfd_t value;
        if (!delivered.block && poll(&wait, 1, 5) > 0) eventfd_read(fd, &value);
        weir_delivered_fini(&delivered);
        if (err == WEIR_ENOTFOUND || turn % 50 == 49) { // removed, or leaves by itself
            weir_groups_leave(bench.groups, &of);
            of = join_busy(fd);
        }
    }
    weir_groups_leave(bench.groups, &of);
    return NULL;
}

static void change_something(int i)
{
    weir_group_config to = {.start = i % 3 ? WEIR_GROUP_START : WEIR_GROUP_END};
    help_groups_put(&bench, (uint32_t)i % worker_shards, i % 4 ? "k" : NULL, 3);
    if (i % 7 == 0) weir_groups_set(bench.groups, "g", &to, NULL);
    if (i % 11 == 0) weir_clock_advance(6 * (int64_t)help_s); // all are silent
    if (i % 11 < 2) weir_groups_tick(bench.groups, weir_clock_now_us());
    if (i % 11 == 0) weir_groups_remove(bench.groups, "g", NULL);
    if (i % 13 == 0)
        help_store_remove(bench.store, 0, 1, help_store_last(bench.store, 0), false);
    weir_clock_advance(10 * help_ms);
}

static void changes_from_all_sides_harm_nothing(void **state)
{
    (void)state;
    int fds[busy_members];
    pthread_t threads[busy_members];
    help_groups_begin(&bench, true);
    atomic_store(&over, false);
    for (int i = 0; i < busy_members; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK);
        pthread_create(&threads[i], NULL, be_busy, &fds[i]);
    }
    for (int i = 0; i < changes; i++) {
        change_something(i);
        weir_group_look *list;
        size_t count;
        assert_int_equal(weir_groups_look(bench.groups, &list, &count, NULL), WEIR_OK);
        for (size_t k = 0; k < count; k++)
            assert_int_equal(list[k].last.a,
                             list[k].start.a + list[k].done + list[k].shed + list[k].lag);
        weir_group_looks_free(&list, count);
    }
    atomic_store(&over, true);
    for (int i = 0; i < busy_members; i++) {
        pthread_join(threads[i], NULL);
        close(fds[i]);
    }
    help_groups_end(&bench);
}

/* --- A position that is set while members acknowledge ------------------------------ */

enum { busy_records = 3000 };

static atomic_ullong known;  // commit that was durable when an ack returned
static atomic_uint repeated; // records that came after that

static void *read_along(void *arg)
{
    int fd = *(int *)arg;
    weir_member_of *of;
    weir_group_config with = weir_group_defaults;
    with.member_timeout_us = WEIR_NONE;
    weir_groups_join(bench.groups, "g", "w", &with, NULL, fd, &of, NULL);
    for (int n = 0; n < busy_records; n++) {
        weir_delivered got;
        int64_t deadline_us;
        help_groups_put(&bench, 0, "k", 1);
        weir_groups_fetch(bench.groups, of, 4, 1 << 20, &got, &deadline_us);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        eventfd_t value;
        if (!got.block && poll(&wait, 1, 1) > 0) eventfd_read(fd, &value);
        for (uint32_t i = 0; i < got.records; i++) {
            repeated += got.at[i].a <= atomic_load(&known);
            if (!weir_groups_ack(bench.groups, of, 0, got.at[i], false, NULL))
                atomic_store(&known, got.at[i].a);
        }
        weir_delivered_fini(&got);
    }
    weir_groups_leave(bench.groups, &of);
    atomic_store(&over, true);
    return NULL;
}

/*  The store keeps nothing that is committed, as with hold and a small bound.      */
static void ends_that_are_set_undo_no_commit(void **state)
{
    (void)state;
    pthread_t thread;
    int fd = eventfd(0, EFD_NONBLOCK);
    weir_group_look *look;
    size_t count;
    uint64_t removed = 0;
    weir_group_config to = {.start = WEIR_GROUP_END};
    help_groups_begin(&bench, true);
    atomic_store(&over, false);
    atomic_store(&known, 0);
    atomic_store(&repeated, 0);
    pthread_create(&thread, NULL, read_along, &fd);
    time_t give_up = time(NULL) + 30;
    while (!atomic_load(&known) && time(NULL) < give_up)
        usleep(100);
    while (!atomic_load(&over)) {
        uint64_t committed = atomic_load(&known);
        assert_int_equal(weir_groups_set(bench.groups, "g", &to, NULL), WEIR_OK);
        assert_true(help_groups_told("g", 0) >= committed);
        if (committed > removed)
            help_store_remove(bench.store, 0, removed + 1, committed, false);
        removed = committed;
        assert_int_equal(weir_groups_look(bench.groups, &look, &count, NULL), WEIR_OK);
        assert_int_equal(count, 1);
        assert_true(look->commit.a >= committed);
        assert_int_equal(look->shed, 0);
        assert_int_equal(look->last.a, look->start.a + look->done + look->lag);
        weir_group_looks_free(&look, count);
    }
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&repeated), 0);
    close(fd);
    help_groups_end(&bench);
}

/* --- Commits that share a sync ----------------------------------------------------- */

enum { ackers = 8 };

static atomic_uint returned;

static void *ack_one(void *arg)
{
    assert_int_equal(help_groups_ack(&bench, member, 0, (uintptr_t)arg), WEIR_OK);
    atomic_fetch_add(&returned, 1);
    return NULL;
}

/*  Who has acknowledged it waits for a commit, or makes one: both begin under the lock
    that this looks through.                                                        */
static void wait_for_commit(uint64_t offset)
{
    time_t give_up = time(NULL) + 600;
    while (help_groups_look(&bench, "g", 0).commit.a < offset) {
        assert_true(time(NULL) < give_up);
        usleep(100);
    }
}

static void acks_of_several_threads_share_a_sync(void **state)
{
    (void)state;
    pthread_t threads[ackers];
    help_groups_begin(&bench, false);
    atomic_store(&returned, 0);
    help_groups_put(&bench, 0, NULL, ackers);
    member = help_groups_join(&bench, "g", &weir_group_defaults);
    help_groups_fetch(&bench, member, ackers, NULL);
    unsigned before = help_groups_gate(true);
    for (uintptr_t i = 1; i <= ackers; i++) {
        pthread_create(&threads[i - 1], NULL, ack_one, (void *)i);
        wait_for_commit(i);
    }
    assert_int_equal(atomic_load(&returned), 0); // not before it is durable
    help_groups_gate(false);
    for (int i = 0; i < ackers; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&returned), ackers);
    assert_int_equal(help_groups_told("g", 0), ackers);
    assert_int_equal(help_groups_gate(false) - before, 2); // the first, and the others
    weir_groups_leave(bench.groups, &member);
    help_groups_end(&bench);
}

int main(void)
{
    weir_clock_go_virtual(1000000);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_record_is_done_once_or_shed),
        cmocka_unit_test(members_in_threads_miss_nothing),
        cmocka_unit_test(changes_from_all_sides_harm_nothing),
        cmocka_unit_test(ends_that_are_set_undo_no_commit),
        cmocka_unit_test(acks_of_several_threads_share_a_sync),
    };
    return cmocka_run_group_tests_name("groups, at random", tests, NULL, NULL);
}
