/*  Consumer groups and what the store has: memory, positions, fences, what is removed. */
#include "actors/cursor.h"
#include "runtime/log.h"
#include "tests/unit/help_members.h"

/* --- Memory ------------------------------------------------------------------------ */

static void put_large(int records)
{
    static char json[1200];
    memset(json, ' ', sizeof json - 1);
    json[0] = '{', json[sizeof json - 2] = '}';
    for (int i = 0; i < records; i++)
        help_store_put(bench.store, 0, json, NULL, -1);
}

static uint64_t ledger(void)
{
    return weir_ledger_used(bench.ledger);
}

/*  From the read to the ack, also while nobody has them.                           */
static void what_a_group_has_in_memory_is_in_the_ledger(void **state)
{
    (void)state;
    enum { records = 100, bytes = 1200 * records };
    weir_delivered got;
    int64_t deadline_us;
    config.member_timeout_us = 5 * help_s;
    put_large(records);
    weir_member_of *lost = join("g");
    assert_int_equal(ledger(), 0);
    weir_groups_fetch(bench.groups, lost, records / 2, 1 << 20, &got, &deadline_us);
    assert_int_equal(got.records, records / 2);
    assert_in_range(ledger(), bytes / 2 + bytes / 2, 3 * bytes);
    uint64_t with_block = ledger();
    weir_delivered_fini(&got);
    assert_in_range(with_block - ledger(), bytes / 2, bytes);
    assert_int_equal(help_groups_ack_up_to(&bench, lost, 0, 20), WEIR_OK);
    uint64_t held = ledger();
    assert_true(held >= bytes / 2 - bytes / 5);
    weir_clock_advance(4 * help_s);
    weir_member_of *other = join("g");
    weir_clock_advance(2 * help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us()); // now it is the other's
    assert_in_range(ledger(), (records / 2 - 20) * (bytes / records), held);
    for (const uint64_t *at; *(at = help_groups_fetch(&bench, other, 1000, NULL));)
        while (*at)
            ack(other, *at++);
    assert_int_equal(commit("g"), records);
    assert_int_equal(ledger(), 0);
    leave(&lost);
    leave(&other);
}

/*  It is read again, but for what is done, and what has failed has failed.         */
static void without_members_a_group_has_nothing_in_memory(void **state)
{
    (void)state;
    config.max_deliver = 3;
    put("abcdefgh");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3, 4, 5, 6, 7, 8);
    for (uint64_t offset = 3; offset < 6; offset++)
        ack(m, offset);
    nack(m, 2);
    ack(m, 7);
    assert_true(ledger() > 0);
    leave(&m);
    assert_int_equal(ledger(), 0);
    assert_int_equal(help_groups_look(&bench, "g", 0).held, 0);
    help_store_remove(bench.store, 0, 1, 4, false); // 1 and 2 unread, 3 and 4 done
    m = join("g");
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 5 && look.shed == 2 && look.done == 3);
    help_expect(&bench, m, 6, 8);
    nack(m, 6);
    weir_clock_advance(help_s);
    help_expect(&bench, m, 6);
    nack(m, 6);
    leave(&m);
    help_groups_restart(&bench); // what was done behind the commit is not known then
    m = join("g");
    help_expect(&bench, m, 6);
    nack(m, 6);
    assert_int_equal(help_groups_letters(&bench, "\"attempts\":3"), 1);
    help_expect(&bench, m, 7, 8);
    leave(&m);
}

/*  All members are silent: what they had is read again when one comes back.        */
static void silent_members_have_nothing_in_memory(void **state)
{
    (void)state;
    config.member_timeout_us = help_s;
    put("ab");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2);
    ack(m, 2);
    assert_true(ledger() > 0);
    weir_clock_advance(help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(ledger(), 0);
    help_expect(&bench, m, 1);
    ack(m, 1);
    assert_int_equal(commit("g"), 2);
    leave(&m);
}

/*  Who has nothing gets on, or nothing would ever be acknowledged.                 */
static void a_full_ledger_holds_up_who_has_something(void **state)
{
    (void)state;
    weir_delivered got;
    int64_t deadline_us;
    int fd = eventfd(0, EFD_NONBLOCK);
    put_large(2);
    weir_member_of *m = join_with(NULL, fd);
    weir_ledger_charge(bench.ledger, WEIR_ACCOUNT_LUA, 1 << 30);
    help_expect(&bench, m, 1, 2);
    put_large(1);
    eventfd_read(fd, &(eventfd_t){0});
    weir_groups_fetch(bench.groups, m, 10, 1 << 20, &got, &deadline_us);
    assert_true(!got.block && got.starved);
    ack(m, 1);
    weir_groups_fetch(bench.groups, m, 10, 1 << 20, &got, &deadline_us);
    assert_true(!got.block && got.starved);
    eventfd_read(fd, &(eventfd_t){0});
    ack(m, 2);
    assert_int_equal(eventfd_read(fd, &(eventfd_t){0}), 0);
    help_expect(&bench, m, 3);
    weir_ledger_release(bench.ledger, WEIR_ACCOUNT_LUA, 1 << 30);
    put_large(1);
    help_expect(&bench, m, 4);
    leave(&m);
    close(fd);
}

/* --- Positions --------------------------------------------------------------------- */

static weir_err set(const char *group, int where)
{
    weir_group_config to = {.start = where, .start_ms = 3000};
    return weir_groups_set(bench.groups, group, &to, NULL);
}

static void a_new_group_begins_where_it_is_told(void **state)
{
    (void)state;
    for (int i = 1; i <= 4; i++) {
        help_store_arrive(bench.store, i * 1000);
        put("a");
    }
    help_store_remove(bench.store, 0, 1, 1, false);
    weir_member_of *m = join("start");
    help_expect(&bench, m, 2, 3, 4);
    assert_int_equal(help_groups_look(&bench, "start", 0).start.a, 1);
    assert_int_equal(help_groups_look(&bench, "start", 0).shed, 0);
    leave(&m);
    config.start = WEIR_GROUP_END;
    m = join("end");
    help_expect_none(&bench, m);
    leave(&m);
    config.start = WEIR_GROUP_TIME;
    config.start_ms = 2500;
    m = join("time");
    help_expect(&bench, m, 3, 4);
    leave(&m);
    config.start = WEIR_GROUP_START; // it exists: start does not count
    m = join("end");
    help_expect_none(&bench, m);
    leave(&m);
}

static void a_cursor_is_a_place_to_begin(void **state)
{
    (void)state;
    weir_report report = {0};
    weir_buffer text = {0};
    weir_member_of *m;
    put("abc");
    help_groups_put(&bench, 1, "a", 1);
    weir_cursor cursor = {.nonce = weir_bus_state_nonce(bench.state)};
    weir_cursor_set(&cursor, 0, (weir_position){2, 0});
    weir_cursor_put(&cursor, &text);
    weir_buffer_put_byte(&text, 0);
    config.start = WEIR_GROUP_CURSOR;
    config.start_cursor = (const char *)text.data;
    m = join("g");
    uint64_t offsets[4];
    uint32_t shards[4];
    assert_int_equal(drain(m, offsets, shards), 2);
    assert_int_equal(offsets[0] + offsets[1], 3 + 1);
    leave(&m);
    config.start_cursor = "w1nonsense";
    weir_err err =
        weir_groups_join(bench.groups, "h", "m", &config, NULL, -1, &m, &report);
    assert_int_equal(err, WEIR_EINVAL);
    assert_non_null(strstr(report.text, "bad_cursor"));
    assert_null(m);
    weir_cursor_fini(&cursor);
    weir_buffer_fini(&text);
}

static void setting_a_position_makes_void_what_is_held(void **state)
{
    (void)state;
    for (int i = 1; i <= 4; i++) {
        help_store_arrive(bench.store, i * 1000);
        put("a");
    }
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3, 4);
    ack(m, 1);
    assert_int_equal(set("g", WEIR_GROUP_TIME), WEIR_OK);
    assert_int_equal(help_groups_told("g", 0), 2);
    assert_int_equal(help_groups_ack(&bench, m, 0, 2), WEIR_EREFUSED);
    assert_int_equal(help_groups_ack(&bench, m, 0, 4), WEIR_EREFUSED);
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.start.a == 2 && look.commit.a == 2 && look.lag == 2);
    help_expect(&bench, m, 3, 4);
    assert_int_equal(set("g", WEIR_GROUP_END), WEIR_OK);
    help_expect_none(&bench, m);
    assert_int_equal(help_groups_ack(&bench, m, 0, 3), WEIR_EREFUSED);
    assert_int_equal(set("g", WEIR_GROUP_START), WEIR_OK);
    help_expect(&bench, m, 1, 2, 3, 4);
    assert_int_equal(set("nobody", WEIR_GROUP_START), WEIR_ENOTFOUND);
    leave(&m);
    help_groups_restart(&bench);
    assert_int_equal(commit("g"), 0);
}

static weir_member_of *busy; // what does something while a position is set

static void read_on(void)
{
    put("ab");
    help_expect(&bench, busy, 4, 5);
    ack(busy, 4);
    assert_int_equal(help_groups_ack_up_to(&bench, busy, 0, 5), WEIR_OK);
}

/*  Where the end was is known before the group has come further than that.         */
static void an_end_undoes_no_later_commit(void **state)
{
    (void)state;
    put("abc");
    busy = join("g");
    help_expect(&bench, busy, 1, 2, 3);
    ack(busy, 1);
    assert_int_equal(help_groups_ack_up_to(&bench, busy, 0, 3), WEIR_OK);
    help_groups_meanwhile(2, read_on);
    assert_int_equal(set("g", WEIR_GROUP_END), WEIR_OK);
    help_store_remove(bench.store, 0, 1, 5, false); // all of it was committed
    assert_int_equal(help_groups_told("g", 0), 5);
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 5 && look.shed == 0 && look.lag == 0);
    help_expect_none(&bench, busy);
    put("a");
    help_expect(&bench, busy, 6);
    assert_int_equal(help_groups_look(&bench, "g", 0).shed, 0);
    leave(&busy);
    help_groups_restart(&bench);
    assert_int_equal(commit("g"), 5);
}

/*  It goes back all the same where that is what was asked for.                     */
static void an_explicit_position_undoes_a_later_commit(void **state)
{
    (void)state;
    help_store_arrive(bench.store, 1000);
    put("ab");
    help_store_arrive(bench.store, 4000);
    put("c");
    busy = join("g");
    help_expect(&bench, busy, 1, 2, 3);
    assert_int_equal(help_groups_ack_up_to(&bench, busy, 0, 3), WEIR_OK);
    help_groups_meanwhile(2, read_on);
    assert_int_equal(set("g", WEIR_GROUP_TIME), WEIR_OK);
    assert_int_equal(help_groups_told("g", 0), 2);
    help_expect(&bench, busy, 3, 4, 5);
    leave(&busy);
}

static void remove_what_is_committed(void)
{
    help_store_remove(bench.store, 0, 1, 4, false);
}

static weir_err set_cursor(const char *group, uint64_t offset)
{
    weir_buffer text = {0};
    weir_cursor cursor = {.nonce = weir_bus_state_nonce(bench.state)};
    weir_cursor_set(&cursor, 0, (weir_position){offset, 0});
    weir_cursor_put(&cursor, &text);
    weir_buffer_put_byte(&text, 0);
    weir_group_config to = {.start = WEIR_GROUP_CURSOR,
                            .start_cursor = (const char *)text.data};
    weir_err err = weir_groups_set(bench.groups, group, &to, NULL);
    weir_cursor_fini(&cursor);
    weir_buffer_fini(&text);
    return err;
}

/*  The group had it: it is done, not shed.                                         */
static void what_was_committed_and_removed_is_not_shed_by_going_back(void **state)
{
    (void)state;
    put("abcabc");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3, 4, 5, 6);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 5), WEIR_OK);
    help_groups_meanwhile(3, remove_what_is_committed);
    assert_int_equal(set("g", WEIR_GROUP_START), WEIR_OK);
    help_expect(&bench, m, 5, 6);
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.start.a == 4 && look.commit.a == 4 && look.shed == 0);
    assert_int_equal(help_groups_told("g", 0), 4);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 5), WEIR_OK);
    help_store_remove(bench.store, 0, 1, 6, false); // one of them without an ack
    assert_int_equal(set_cursor("g", 2), WEIR_OK);
    help_expect_none(&bench, m);
    look = help_groups_look(&bench, "g", 0);
    assert_true(look.start.a == 5 && look.commit.a == 6 && look.shed == 1);
    leave(&m);
}

/*  What would come first must not go while that is written down.                   */
static uint64_t told_early;

static void note_told(void)
{
    told_early = help_groups_told("g", 0);
}

static void nothing_goes_while_a_group_looks_for_its_place(void **state)
{
    (void)state;
    put("abc");
    help_groups_meanwhile(2, note_told); // once it is held, the place is looked for
    weir_member_of *m = join("g");
    assert_int_equal(told_early, 0);
    assert_int_equal(help_groups_told("g", 0), 0);
    help_expect(&bench, m, 1, 2, 3);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 3), WEIR_OK);
    help_groups_meanwhile(3, note_told);
    assert_int_equal(set_cursor("g", 1), WEIR_OK);
    assert_int_equal(told_early, 1);
    help_store_fail_reads(bench.store, 0, "broken");
    config.start = WEIR_GROUP_END;
    weir_member_of *none;
    assert_int_not_equal(
        weir_groups_join(bench.groups, "h", "m", &config, NULL, -1, &none, NULL),
        WEIR_OK);
    assert_int_equal(help_groups_told("h", 0), UINT64_MAX); // it holds nothing
    leave(&m);
}

static void a_group_without_members_can_be_removed(void **state)
{
    (void)state;
    put("ab");
    config.member_timeout_us = help_s;
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2);
    ack(m, 1);
    assert_int_equal(weir_groups_remove(bench.groups, "g", NULL), WEIR_EREFUSED);
    weir_clock_advance(help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(weir_groups_remove(bench.groups, "g", NULL), WEIR_OK);
    assert_int_equal(weir_groups_remove(bench.groups, "g", NULL), WEIR_ENOTFOUND);
    assert_int_equal(help_groups_told("g", 0), UINT64_MAX);
    weir_delivered delivered; // a silent member finds it gone
    int64_t deadline_us;
    assert_int_equal(weir_groups_fetch(bench.groups, m, 1, 1, &delivered, &deadline_us),
                     WEIR_ENOTFOUND);
    assert_int_equal(help_groups_ack(&bench, m, 0, 2), WEIR_EREFUSED);
    leave(&m);
    help_groups_restart(&bench);
    m = join("g"); // new again
    help_expect(&bench, m, 1, 2);
    leave(&m);
}

static void commits_and_failures_survive_a_restart(void **state)
{
    (void)state;
    config.max_deliver = 3;
    put("abab");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3, 4);
    ack(m, 1);
    ack(m, 3);
    nack(m, 2);
    weir_clock_advance(help_s);
    help_expect(&bench, m, 2);
    nack(m, 2);
    leave(&m);
    help_groups_restart(&bench);
    assert_int_equal(help_groups_told("g", 0), 1);
    m = join("g");
    help_expect(&bench, m, 2); // it has failed before: alone, and its vnode waits
    help_expect(&bench, m, 3); // the ack was behind the commit
    help_expect_none(&bench, m);
    nack(m, 2); // the third time
    assert_int_equal(help_groups_letters(&bench, "\"attempts\":3"), 1);
    help_expect(&bench, m, 4);
    leave(&m);
}

static void a_group_of_an_empty_bus_is_known_after_a_restart(void **state)
{
    (void)state;
    config.start = WEIR_GROUP_END;
    weir_member_of *m = join("g");
    leave(&m);
    help_groups_restart(&bench);
    put("a");
    help_groups_put(&bench, 1, "a", 1);
    m = join("g");
    uint64_t offsets[4];
    uint32_t shards[4];
    assert_int_equal(drain(m, offsets, shards), 2);
    leave(&m);
}

/* --- The store --------------------------------------------------------------------- */

static void a_fence_waits_for_the_other_shard_s_commit(void **state)
{
    (void)state;
    help_groups_put(&bench, 0, "a", 3);
    help_groups_put(&bench, 1, "b", 1);
    help_groups_put(&bench, 1, "a", 2); // moved from 0
    help_store_fence(bench.store, &(weir_fence){0, {3, 0}, 1, {2, 0}});
    int fd = eventfd(0, EFD_NONBLOCK);
    weir_member_of *a = join("g"), *b = join_with(NULL, fd);
    help_expect(&bench, a, 1, 2, 3);
    help_expect(&bench, b, 1);
    help_expect_none(&bench, b);
    assert_int_equal(help_groups_ack_up_to(&bench, a, 0, 2), WEIR_OK);
    help_expect_none(&bench, b);
    is_readable(fd); // was
    ack(a, 3);
    assert_true(is_readable(fd));
    help_expect(&bench, b, 2, 3);
    leave(&a);
    leave(&b);
    close(fd);
}

/*  Adds records of one batch.                                                      */
static void put_batch(uint32_t shard, int n)
{
    weir_builder builder = {.target = 1 << 16};
    for (int i = 0; i < n; i++)
        weir_builder_add_json(&builder, (const uint8_t *)"{\"a\":1}", 7, NULL);
    weir_block *block = weir_builder_seal(&builder);
    help_store_add(bench.store, shard, block);
    weir_block_destroy(&block);
    weir_builder_fini(&builder);
}

static void what_stands_before_a_fence_in_its_batch_comes_at_once(void **state)
{
    (void)state;
    help_groups_put(&bench, 0, "a", 1);
    put_batch(1, 4);
    help_store_fence(bench.store, &(weir_fence){0, {1, 0}, 1, {3, 0}});
    weir_member_of *a = join("g"), *b = join("g");
    help_expect(&bench, b, 1, 2);
    help_expect_none(&bench, b);
    help_expect(&bench, a, 1);
    ack(a, 1);
    help_expect(&bench, b, 3, 4);
    leave(&a);
    leave(&b);
}

static bool is_pending(weir_member_of *m, int64_t *deadline_us)
{
    weir_delivered delivered;
    weir_err err =
        weir_groups_fetch(bench.groups, m, 10, 1 << 20, &delivered, deadline_us);
    assert_int_equal(err, WEIR_OK);
    bool pending = delivered.pending;
    assert_false(delivered.records && pending);
    weir_delivered_fini(&delivered);
    return pending;
}

/*  Until then it asks to be called again.                                          */
static void nothing_is_pending_once_the_store_has_said_that_there_is_no_more(void **state)
{
    (void)state;
    int64_t deadline_us;
    weir_member_of *m = join("g");
    put("a");
    help_expect(&bench, m, 1);
    is_pending(m, &deadline_us);
    assert_false(is_pending(m, &deadline_us));
    help_store_fail_reads(bench.store, 0, "away");
    assert_true(is_pending(m, &deadline_us));
    assert_true(deadline_us >= 0);
    help_store_fail_reads(bench.store, 0, NULL);
    weir_clock_advance(2 * help_s);
    is_pending(m, &deadline_us);
    assert_false(is_pending(m, &deadline_us));
    help_store_hang(bench.store, 0, true);
    put("b"); // behind what it has read
    weir_clock_advance(help_s);
    is_pending(m, &deadline_us);
    assert_true(is_pending(m, &deadline_us));
    assert_true(deadline_us >= 0);
    help_store_hang(bench.store, 0, false);
    help_expect(&bench, m, 2);
    leave(&m);
}

/*  The first record behind the fence is removed, and what it waits for is left out. */
static void a_fence_holds_what_comes_behind_its_first_record(void **state)
{
    (void)state;
    weir_screen *screen;
    weir_screen_config keeps = {(char *)"$key == 'b'", WEIR_ACTION_DROP,
                                WEIR_UNKNOWN_DEAD};
    assert_int_equal(weir_screen_new(&screen, &keeps, NULL, NULL), WEIR_OK);
    help_groups_put(&bench, 0, "a", 3);
    help_groups_put(&bench, 1, "b", 3);
    help_store_fence(bench.store, &(weir_fence){0, {3, 0}, 1, {2, 0}});
    help_store_remove(bench.store, 1, 1, 2, false);
    config.start = WEIR_GROUP_CURSOR; // before what was removed
    weir_buffer text = {0};
    weir_cursor cursor = {.nonce = weir_bus_state_nonce(bench.state)};
    weir_cursor_set(&cursor, 1, (weir_position){0, 0});
    weir_cursor_put(&cursor, &text);
    weir_buffer_put_byte(&text, 0);
    config.start_cursor = (const char *)text.data;
    weir_member_of *m = join_with(screen, -1), *n = join_with(screen, -1);
    help_expect_none(&bench, n);
    help_expect_none(&bench, m); // all is left out, and stored without haste
    help_expect_none(&bench, n);
    help_expect(&bench, n, 3); // but with haste for what waits
    leave(&m);
    leave(&n);
    weir_screen_destroy(&screen);
    weir_cursor_fini(&cursor);
    weir_buffer_fini(&text);
}

/*  Fetches until something comes, which is of that shard.                           */
static uint64_t fetch_of(weir_member_of *member, uint32_t shard, uint64_t *first)
{
    uint32_t from = 0;
    uint64_t last = *first = 0;
    for (int i = 0; i < 10 && !last; i++) {
        const uint64_t *offsets = help_groups_fetch(&bench, member, 10, &from);
        for (size_t k = 0; offsets[k]; k++) {
            if (!*first) *first = offsets[k];
            last = offsets[k];
        }
    }
    if (last) assert_int_equal(from, shard);
    return last;
}

/*  Vnodes went from shard 1 to 0 and back. What is removed of 1 reaches behind the fence
    of their return: that stands, and what 0 waits for is passed all the same.      */
static void a_fence_within_what_is_removed_stands(void **state)
{
    (void)state;
    uint64_t first;
    help_groups_put(&bench, 1, "a", 3);
    help_groups_put(&bench, 0, "a", 3);
    help_store_fence(bench.store, &(weir_fence){1, {3, 0}, 0, {1, 0}});
    help_groups_put(&bench, 1, "a", 3);
    help_store_fence(bench.store, &(weir_fence){0, {3, 0}, 1, {4, 0}});
    help_store_remove(bench.store, 1, 1, 4, false);
    config.start = WEIR_GROUP_CURSOR; // before what was removed
    weir_buffer text = {0};
    weir_cursor cursor = {.nonce = weir_bus_state_nonce(bench.state)};
    weir_cursor_set(&cursor, 1, (weir_position){0, 0});
    weir_cursor_put(&cursor, &text);
    weir_buffer_put_byte(&text, 0);
    config.start_cursor = (const char *)text.data;
    weir_member_of *m = join("g");
    assert_int_equal(fetch_of(m, 0, &first), 3);
    assert_int_equal(first, 1);
    assert_int_equal(help_groups_look(&bench, "g", 1).commit.a, 3);
    assert_int_equal(help_groups_look(&bench, "g", 1).shed, 3);
    help_expect_none(&bench, m);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 3), WEIR_OK);
    assert_int_equal(fetch_of(m, 1, &first), 6);
    assert_int_equal(first, 5);
    assert_int_equal(help_groups_look(&bench, "g", 1).shed, 4);
    leave(&m);
    weir_cursor_fini(&cursor);
    weir_buffer_fini(&text);
}

static void what_is_removed_unread_is_shed(void **state)
{
    (void)state;
    config.window = 3;
    put("abcabcabca");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3);
    ack(m, 1);
    help_store_remove(bench.store, 0, 1, 6, false); // 2 and 3 are out
    help_store_remove(bench.store, 0, 8, 8, true);  // damage is passed, too
    help_expect(&bench, m, 7);                      // the window has room for one
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 1 && look.shed == 0 && look.done == 1 && look.lag == 9);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 3), WEIR_OK);
    look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 6 && look.shed == 3 && look.done == 3 && look.lag == 4);
    ack(m, 7);
    help_expect(&bench, m, 9, 10);
    look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 8 && look.shed == 4 && look.lag == 2);
    leave(&m);
    help_groups_restart(&bench);
    look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 8 && look.shed == 4 && look.done == 4);
}

static void what_is_removed_is_shed_without_a_member_too(void **state)
{
    (void)state;
    put("abcabc");
    weir_member_of *m = join("g");
    help_groups_fetch(&bench, m, 1, NULL);
    ack(m, 1);
    leave(&m);
    help_groups_restart(&bench);
    help_store_remove(bench.store, 0, 1, 4, false);
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 4 && look.shed == 3 && look.done == 1 && look.lag == 2);
    m = join("g");
    help_expect(&bench, m, 5, 6);
    leave(&m);
    help_groups_restart(&bench);
    assert_int_equal(help_groups_look(&bench, "g", 0).shed, 3);
}

/*  Much is done behind a record that is not: that takes no room, and loses no count. */
static void what_is_shed_behind_a_held_record_counts_when_the_commit_comes(void **state)
{
    (void)state;
    config.window = 10;
    weir_member_of *m = join("g");
    help_groups_put(&bench, 0, NULL, 1);
    help_expect(&bench, m, 1);
    for (uint64_t first = 2; first < 2000; first += 3) {
        help_groups_put(&bench, 0, NULL, 3);
        help_store_remove(bench.store, 0, first + 1, first + 1, false);
        help_expect(&bench, m, first, first + 2);
        ack(m, first);
        ack(m, first + 2);
    }
    assert_int_equal(commit("g"), 0);
    ack(m, 1);
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.commit.a == 1999 && look.shed == 666 && look.done == 1333);
    leave(&m);
}

static void a_shard_that_cannot_be_read_is_tried_again(void **state)
{
    (void)state;
    weir_delivered delivered;
    int64_t deadline_us;
    put("a");
    help_groups_put(&bench, 1, "a", 1);
    weir_member_of *m = join("g");
    help_store_fail_reads(bench.store, 0, "broken");
    help_expect(&bench, m, 1); // of shard 1
    weir_groups_fetch(bench.groups, m, 10, 1 << 20, &delivered, &deadline_us);
    assert_null(delivered.block);
    assert_true(deadline_us > weir_clock_now_us());
    help_store_fail_reads(bench.store, 0, NULL);
    weir_clock_advance(help_s);
    help_expect(&bench, m, 1);
    leave(&m);
}

static int64_t look_deadline_us;

/*  The delivery of a fetch, of which nobody keeps anything.                          */
static weir_delivered look_by_fetch(weir_member_of *m)
{
    weir_delivered delivered;
    weir_groups_fetch(bench.groups, m, 10, 1 << 20, &delivered, &look_deadline_us);
    weir_delivered copy = delivered;
    weir_delivered_fini(&delivered);
    return copy;
}

/*  How often a file has these words.                                                 */
static int count_words(int file, const char *words)
{
    static char text[1 << 16];
    ssize_t size = pread(file, text, sizeof text - 1, 0);
    int count = 0;
    assert_in_range(size, 0, sizeof text - 1);
    text[size] = 0;
    for (const char *at = text; (at = strstr(at, words)); at++)
        count++;
    return count;
}

static void a_shard_that_cannot_be_read_is_told_until_it_can(void **state)
{
    (void)state;
    put("a");
    FILE *log = tmpfile();
    assert_non_null(log);
    weir_log_configure(WEIR_INFO, false, fileno(log));
    int fd = eventfd(0, EFD_NONBLOCK);
    weir_member_of *m = join_with(NULL, fd);
    help_store_fail_reads(bench.store, 0, "broken");
    weir_delivered told = look_by_fetch(m);
    assert_true(told.has_failed && !told.is_late && told.failed_shard == 0);
    assert_string_equal(told.trouble, "broken");
    for (int i = 0; i < 3; i++) { // nothing but the deadline would make it fetch again
        assert_in_range(look_deadline_us, weir_clock_now_us(),
                        weir_clock_now_us() + help_s);
        weir_clock_advance(look_deadline_us - weir_clock_now_us());
        assert_true(look_by_fetch(m).has_failed);
    }
    assert_int_equal(count_words(fileno(log), "shard cannot be read"), 1);
    weir_log_configure(WEIR_INFO, false, STDERR_FILENO);
    fclose(log);
    help_store_fail_reads(bench.store, 0, NULL);
    weir_clock_advance(help_s);
    help_expect(&bench, m, 1);
    told = look_by_fetch(m);
    assert_true(!told.has_failed && !told.is_late);
    leave(&m);
    close(fd);
}

static size_t lines_of(int fd, const char *words)
{
    char text[4096] = "";
    size_t count = 0;
    assert_true(pread(fd, text, sizeof text - 1, 0) >= 0);
    for (const char *at = text; (at = strstr(at, words)); at++)
        count++;
    return count;
}

static void
the_log_says_once_that_a_shard_cannot_be_read_and_once_that_it_can(void **state)
{
    (void)state;
    char path[] = "/tmp/weir-groups-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    weir_log_configure(WEIR_INFO, false, fd);
    put("a");
    weir_member_of *m = join("g");
    for (size_t round = 1; round <= 2; round++) {
        help_store_fail_reads(bench.store, 0, "broken");
        put("b");
        while (!look_by_fetch(m).has_failed)
            weir_clock_advance(look_deadline_us - weir_clock_now_us());
        for (int i = 0; i < 3; i++) {
            weir_clock_advance(look_deadline_us - weir_clock_now_us());
            assert_true(look_by_fetch(m).has_failed);
        }
        assert_int_equal(lines_of(fd, "cannot be read, trying again group=g shard=0"),
                         round);
        help_store_fail_reads(bench.store, 0, NULL);
        while (look_by_fetch(m).has_failed)
            weir_clock_advance(look_deadline_us - weir_clock_now_us());
        assert_int_equal(lines_of(fd, "can be read again group=g shard=0"), round);
    }
    weir_log_configure(WEIR_INFO, false, STDERR_FILENO);
    leave(&m);
    close(fd);
}

/*  Nobody wakes it: it looks by its deadlines.                                       */
static void an_empty_answer_ends_the_trouble(void **state)
{
    (void)state;
    put("a");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 1), WEIR_OK);
    help_store_fail_reads(bench.store, 0, "broken");
    look_by_fetch(m);
    assert_true(look_by_fetch(m).has_failed);
    help_store_fail_reads(bench.store, 0, NULL);
    int64_t end_us = weir_clock_now_us() + 2 * help_s;
    while (look_by_fetch(m).has_failed) {
        assert_in_range(look_deadline_us, weir_clock_now_us(), end_us);
        weir_clock_advance(look_deadline_us - weir_clock_now_us());
    }
    leave(&m);
}

static void a_first_read_without_answer_is_no_end(void **state)
{
    (void)state;
    put("a");
    int fd = eventfd(0, EFD_NONBLOCK);
    weir_member_of *m = join_with(NULL, fd);
    help_store_hang(bench.store, 0, true);
    weir_delivered told = look_by_fetch(m);
    assert_true(told.is_late && told.late_shard == 0 && !told.has_failed);
    help_store_hang(bench.store, 0, false);
    help_expect(&bench, m, 1);
    assert_false(look_by_fetch(m).is_late);
    leave(&m);
    close(fd);
}

static void the_wake_fd_says_when_to_fetch(void **state)
{
    (void)state;
    weir_member_of *m;
    int fd = eventfd(0, EFD_NONBLOCK);
    m = join_with(NULL, fd);
    put("a");
    assert_true(is_readable(fd)); // stored
    help_store_hang(bench.store, 0, true);
    help_expect_none(&bench, m); // it does not wait for the store
    assert_false(is_readable(fd));
    help_store_hang(bench.store, 0, false);
    assert_true(is_readable(fd)); // answered
    help_expect(&bench, m, 1);
    help_expect_none(&bench, m);
    help_store_hang(bench.store, 0, true);
    help_expect_none(&bench, m);
    help_store_hang(bench.store, 0, false);
    assert_false(is_readable(fd)); // an empty answer is no reason
    help_store_hang(bench.store, 0, true);
    help_expect_none(&bench, m);
    help_expect_none(&bench, m); // what it was called for may have come since the read
    help_store_hang(bench.store, 0, false);
    assert_true(is_readable(fd));
    help_expect_none(&bench, m);
    assert_false(is_readable(fd));
    ack(m, 1);
    assert_true(is_readable(fd)); // room
    leave(&m);
    close(fd);
}

static void what_is_answered_too_late_is_thrown_away(void **state)
{
    (void)state;
    put("a");
    weir_member_of *m = join("g");
    help_store_hang(bench.store, 0, true);
    help_expect_none(&bench, m);
    leave(&m);
    help_groups_restart(&bench); // groups are gone while a read is under way
    help_store_hang(bench.store, 0, false);
    m = join("g");
    help_expect(&bench, m, 1);
    leave(&m);
}

int main(void)
{
    weir_clock_go_virtual(1000000);
    const struct CMUnitTest tests[] = {
        test(what_a_group_has_in_memory_is_in_the_ledger),
        test(without_members_a_group_has_nothing_in_memory),
        test(silent_members_have_nothing_in_memory),
        test(a_full_ledger_holds_up_who_has_something),
        test(a_new_group_begins_where_it_is_told),
        test(a_cursor_is_a_place_to_begin),
        test(setting_a_position_makes_void_what_is_held),
        test(an_end_undoes_no_later_commit),
        test(an_explicit_position_undoes_a_later_commit),
        test(what_was_committed_and_removed_is_not_shed_by_going_back),
        test(nothing_goes_while_a_group_looks_for_its_place),
        test(a_group_without_members_can_be_removed),
        test(commits_and_failures_survive_a_restart),
        test(a_group_of_an_empty_bus_is_known_after_a_restart),
        test(a_fence_waits_for_the_other_shard_s_commit),
        test(what_stands_before_a_fence_in_its_batch_comes_at_once),
        test(nothing_is_pending_once_the_store_has_said_that_there_is_no_more),
        test(a_fence_holds_what_comes_behind_its_first_record),
        test(a_fence_within_what_is_removed_stands),
        test(what_is_removed_unread_is_shed),
        test(what_is_removed_is_shed_without_a_member_too),
        test(what_is_shed_behind_a_held_record_counts_when_the_commit_comes),
        test(a_shard_that_cannot_be_read_is_tried_again),
        test(a_shard_that_cannot_be_read_is_told_until_it_can),
        test(an_empty_answer_ends_the_trouble),
        test(the_log_says_once_that_a_shard_cannot_be_read_and_once_that_it_can),
        test(a_first_read_without_answer_is_no_end),
        test(the_wake_fd_says_when_to_fetch),
        test(what_is_answered_too_late_is_thrown_away),
    };
    return cmocka_run_group_tests_name("groups and their store", tests, NULL, NULL);
}
