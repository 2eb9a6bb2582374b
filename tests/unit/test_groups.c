/*  Consumer groups: acks, members, failures, screens.                              */
#include "tests/unit/help_members.h"

/*  The keys a, b, c have three vnodes.                                             */
static void keys_have_vnodes_of_their_own(void **state)
{
    (void)state;
    uint32_t vnodes[3];
    for (int i = 0; i < 3; i++)
        vnodes[i] = weir_key_vnode((const uint8_t *)"abc" + i, 1, help_vnodes);
    assert_true(vnodes[0] != vnodes[1] && vnodes[0] != vnodes[2] &&
                vnodes[1] != vnodes[2]);
}

/* --- Acks -------------------------------------------------------------------------- */

static void the_commit_is_the_end_of_the_unbroken_run(void **state)
{
    (void)state;
    put("abc");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3);
    help_expect_none(&bench, m);
    ack(m, 1);
    ack(m, 3);
    assert_int_equal(commit("g"), 1);
    assert_int_equal(help_groups_told("g", 0), 1);
    ack(m, 2);
    assert_int_equal(commit("g"), 3);
    assert_int_equal(help_groups_told("g", 0), 3);
    ack(m, 2); // once more does no harm
    leave(&m);
}

static void only_what_a_member_holds_can_be_acked(void **state)
{
    (void)state;
    put("abc");
    weir_member_of *m = join("g");
    help_groups_fetch(&bench, m, 1, NULL);
    assert_int_equal(help_groups_ack(&bench, m, 0, 2), WEIR_EREFUSED);
    assert_int_equal(help_groups_ack(&bench, m, 0, 9), WEIR_EREFUSED);
    assert_int_equal(help_groups_ack(&bench, m, 1, 1), WEIR_EREFUSED);
    assert_int_equal(help_groups_ack(&bench, m, 0, 0), WEIR_EREFUSED);
    assert_int_equal(help_groups_nack(&bench, m, 0, 2), WEIR_EREFUSED);
    assert_int_equal(commit("g"), 0);
    leave(&m);
}

static void one_ack_can_be_for_all_up_to_it(void **state)
{
    (void)state;
    put("abcabc");
    weir_member_of *m = join("g");
    help_groups_fetch(&bench, m, 5, NULL);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 4), WEIR_OK);
    assert_int_equal(commit("g"), 4);
    assert_int_equal(help_groups_look(&bench, "g", 0).held, 1);
    leave(&m);
}

/*  1 has failed and comes again behind 4; the link then acks what it got before.   */
static void an_ack_up_to_leaves_what_was_delivered_since(void **state)
{
    (void)state;
    put("abc");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3);
    nack(m, 1);
    weir_clock_advance(help_s);
    help_expect(&bench, m, 1);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 3), WEIR_OK);
    assert_int_equal(commit("g"), 0);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 1), WEIR_OK);
    assert_int_equal(commit("g"), 3);
    leave(&m);
}

static void no_more_than_the_window_is_out(void **state)
{
    (void)state;
    config.window = 4;
    put("abcabcabc");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3, 4);
    help_expect_none(&bench, m);
    ack(m, 2); // not the first: the room counts all the same
    help_expect(&bench, m, 5);
    help_expect_none(&bench, m);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 5), WEIR_OK);
    help_expect(&bench, m, 6, 7, 8, 9);
    leave(&m);
}

/*  Nothing is durable before they are settled, and then all of it is at once.      */
static void several_answers_may_share_a_commit(void **state)
{
    (void)state;
    config.max_deliver = 1;
    put("aabbc");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3, 4, 5);
    unsigned before = help_groups_gate(false);
    weir_position at[] = {{0, 0}, {1, 0}, {2, 0}, {3, 0}, {5, 0}};
    for (int i = 1; i < 4; i++)
        assert_int_equal(weir_groups_ack_soon(bench.groups, m, 0, at[i], false, NULL),
                         WEIR_OK);
    assert_int_equal(
        weir_groups_ack_soon(bench.groups, m, 0, (weir_position){9, 0}, false, NULL),
        WEIR_EREFUSED);
    assert_int_equal(weir_groups_nack_soon(bench.groups, m, 0, at[4], -1, "no", NULL),
                     WEIR_OK);
    assert_int_equal(help_groups_gate(false), before);
    assert_int_equal(help_groups_letters(&bench, ""), 0);
    assert_int_equal(weir_groups_settle(bench.groups, m, NULL), WEIR_OK);
    assert_int_equal(help_groups_gate(false), before + 1);
    assert_int_equal(help_groups_told("g", 0), 3);
    assert_int_equal(help_groups_letters(&bench, ""), 1);
    assert_int_equal(weir_groups_settle(bench.groups, m, NULL), WEIR_OK); // nothing to do
    assert_int_equal(help_groups_gate(false), before + 1);
    leave(&m);
}

/* --- Members ----------------------------------------------------------------------- */

static void shards_are_shared_evenly_and_stay(void **state)
{
    (void)state;
    for (uint32_t shard = 0; shard < 5; shard++)
        help_groups_put(&bench, shard, "a", 1);
    weir_member_of *a = join("g"), *b, *c;
    b = join("g");
    uint64_t offsets[8];
    uint32_t shards[8];
    size_t of_a = drain(a, offsets, shards), of_b = drain(b, offsets, shards);
    assert_true(of_a + of_b == 5 && (of_a == 2 || of_a == 3));
    c = join("g"); // 2, 2, 1: one shard moves
    assert_int_equal(drain(c, offsets, shards), 1);
    assert_int_equal(drain(a, offsets, shards) + drain(b, offsets, shards), 0);
    leave(&c);
    assert_int_equal(drain(a, offsets, shards) + drain(b, offsets, shards), 1);
    leave(&a);
    leave(&b);
}

static void a_member_may_come_for_more_shards(void **state)
{
    (void)state;
    weir_member_of *m = join("g");
    help_expect_none(&bench, m);
    help_groups_put(&bench, 3, "a", 2); // the bus grew
    weir_clock_advance(help_s);
    help_expect(&bench, m, 1, 2);
    assert_int_equal(help_groups_told("g", 3), 0);
    leave(&m);
}

static void a_dead_member_s_records_reach_another(void **state)
{
    (void)state;
    uint64_t offsets[64];
    uint32_t shards[64];
    config.member_timeout_us = weir_group_defaults.member_timeout_us;
    for (uint32_t shard = 0; shard < 4; shard++)
        help_groups_put(&bench, shard, "a", 10);
    weir_member_of *a = join("g"), *b = join("g");
    size_t count = drain(a, offsets, shards);
    assert_int_equal(count, 20);
    for (size_t i = 0; i < count; i++)
        if (offsets[i] <= 5) help_groups_ack(&bench, a, shards[i], offsets[i]);
    uint32_t lost = shards[0];
    assert_int_equal(drain(b, offsets, shards), 20);
    size_t taken = 0;
    for (int tenths = 0; tenths < 109 && !taken; tenths++) {
        weir_clock_advance(100 * help_ms);
        weir_groups_tick(bench.groups, weir_clock_now_us());
        taken = drain(b, offsets, shards);
    }
    assert_int_equal(taken, 10); // within 11 s, and only what was not committed
    for (size_t i = 0; i < taken; i++)
        assert_true(offsets[i] > 5);
    assert_int_equal(help_groups_ack(&bench, a, lost, 6), WEIR_EREFUSED);
    assert_int_equal(help_groups_ack(&bench, b, lost, 6), WEIR_OK);
    assert_int_equal(help_groups_look(&bench, "g", lost).commit.a, 6);
    assert_int_equal(drain(a, offsets, shards), 20); // it joins again
    leave(&a);
    leave(&b);
}

static void what_a_member_had_is_not_another_s_before_it_fetches(void **state)
{
    (void)state;
    put("ab");
    weir_member_of *a = join("g");
    help_expect(&bench, a, 1, 2);
    leave(&a);
    weir_member_of *b = join("g");
    assert_int_equal(help_groups_ack(&bench, b, 0, 1), WEIR_EREFUSED);
    help_expect(&bench, b, 1, 2);
    ack(b, 1);
    leave(&b);
}

static void members_without_timeout_are_never_gone(void **state)
{
    (void)state;
    put("ab");
    weir_member_of *a = join("g");
    help_expect(&bench, a, 1, 2);
    config.ack_timeout_us = WEIR_NONE;
    weir_clock_advance(20 * (int64_t)help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    ack(a, 1);
    leave(&a);
}

/*  A member in this process and one elsewhere: only the latter may fall silent or be
    late, whichever made the group. */
static void each_member_has_timeouts_of_its_own(void **state)
{
    (void)state;
    uint64_t offsets[64];
    uint32_t shards[64];
    for (uint32_t shard = 0; shard < 2; shard++)
        help_groups_put(&bench, shard, "a", 3);
    config.ack_timeout_us = WEIR_NONE;
    weir_member_of *here = join("g");
    config.ack_timeout_us = 2 * help_s;
    config.member_timeout_us = 5 * help_s;
    weir_member_of *there = join("g");
    assert_int_equal(drain(here, offsets, shards), 3);
    uint32_t shard = 1 - shards[0];
    help_expect(&bench, there, 1, 2, 3);
    weir_clock_advance(3 * (int64_t)help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(drain(here, offsets, shards), 0); // no ack for long, and not late
    help_expect(&bench, there, 1);                     // late, so it comes again, alone
    weir_clock_advance(6 * (int64_t)help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(help_groups_ack(&bench, there, shard, 1), WEIR_EREFUSED);
    assert_true(drain(here, offsets, shards) > 0);
    assert_int_equal(shards[0], shard);
    leave(&here);
    leave(&there);
}

/* --- Failures ---------------------------------------------------------------------- */

static void redelivery_keeps_the_order_of_keys(void **state)
{
    (void)state;
    put("ababa");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3, 4, 5);
    nack(m, 1);
    put("abc-");
    help_expect(&bench, m, 7, 8, 9); // other vnodes go on, 6 is behind 1
    help_expect_none(&bench, m);
    weir_clock_advance(200 * help_ms);
    help_expect(&bench, m, 1); // alone
    help_expect_none(&bench, m);
    ack(m, 1);
    help_expect(&bench, m, 3, 5, 6);
    ack(m, 3);
    assert_int_equal(commit("g"), 1);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 6), WEIR_OK);
    assert_int_equal(help_groups_ack_up_to(&bench, m, 0, 9), WEIR_OK);
    assert_int_equal(commit("g"), 9);
    leave(&m);
}

static void a_keyless_record_holds_up_nobody(void **state)
{
    (void)state;
    put("---");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3);
    nack(m, 1);
    put("-");
    help_expect(&bench, m, 4);
    weir_clock_advance(200 * help_ms);
    help_expect(&bench, m, 1);
    help_expect_none(&bench, m);
    leave(&m);
}

static void counts_of_recalled_records_stay(void **state)
{
    (void)state;
    config.max_deliver = 2;
    put("aa");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2);
    nack(m, 1);
    weir_clock_advance(200 * help_ms);
    help_expect(&bench, m, 1);
    ack(m, 1);
    help_expect(&bench, m, 2);
    nack(m, 2); // its first
    weir_clock_advance(200 * help_ms);
    help_expect(&bench, m, 2);
    ack(m, 2);
    assert_int_equal(help_groups_letters(&bench, ""), 0);
    leave(&m);
}

static void after_max_deliver_a_record_is_a_dead_letter(void **state)
{
    (void)state;
    config.max_deliver = 3;
    put("aa");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2);
    for (int delivery = 1; delivery < 3; delivery++) {
        nack(m, 1);
        assert_int_equal(help_groups_letters(&bench, ""), 0);
        weir_clock_advance(help_s);
        help_expect(&bench, m, 1);
    }
    nack(m, 1);
    assert_int_equal(help_groups_letters(&bench, "\"reason\":\"max_deliver\""), 1);
    assert_int_equal(help_groups_letters(&bench, "\"error\":\"it broke\""), 1);
    assert_int_equal(help_groups_letters(&bench, "\"attempts\":3"), 1);
    assert_int_equal(help_groups_letters(&bench, "\"label\":\"b/0@1\""), 1);
    assert_int_equal(commit("g"), 1);
    help_expect(&bench, m, 2);
    leave(&m);
}

static void count_buried(void *arg)
{
    ++*(unsigned *)arg;
}

/*  Not before they are durable; and never once it has left.                        */
static void a_member_hears_of_its_dead_letters(void **state)
{
    (void)state;
    unsigned buried = 0, others = 0;
    config.max_deliver = 1;
    config.buried = count_buried;
    config.arg = &others;
    put("aab");
    help_groups_put(&bench, 1, "a", 1);
    weir_member_of *other = join("g");
    config.arg = &buried;
    weir_member_of *m = join("g"); // has shard 1
    help_expect(&bench, m, 1);
    assert_int_equal(help_groups_nack(&bench, m, 1, 1), WEIR_OK);
    assert_true(buried == 1 && others == 0);
    leave(&m);
    help_expect(&bench, other, 1, 2, 3);
    nack(other, 3);
    assert_int_equal(others, 1);
    weir_group_look look = help_groups_look(&bench, "g", 0);
    assert_true(look.dead == 1 && look.commit.a == 0);
    assert_int_equal(help_groups_look(&bench, "g", 1).dead, 1);
    leave(&other);
}

static void who_has_left_hears_of_no_dead_letter(void **state)
{
    (void)state;
    unsigned buried = 0;
    config.max_deliver = 1;
    config.buried = count_buried;
    config.arg = &buried;
    put("ab");
    assert_int_equal(mkdir(bench.dead_path, 0700), 0);
    weir_member_of *m = join("g");
    config.buried = NULL;
    weir_member_of *other = join("g");
    help_expect(&bench, m, 1, 2);
    assert_int_equal(help_groups_nack(&bench, m, 0, 1), WEIR_ESYS);
    leave(&m);
    assert_int_equal(rmdir(bench.dead_path), 0);
    weir_clock_advance(help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(help_groups_look(&bench, "g", 0).dead, 1);
    assert_int_equal(buried, 0);
    leave(&other);
}

static void five_nacks_take_less_than_two_seconds(void **state)
{
    (void)state;
    put("ab");
    weir_member_of *m = join("g");
    int64_t begun_us = weir_clock_now_us();
    help_expect(&bench, m, 1, 2);
    for (int i = 0; i < 4; i++) {
        weir_delivered delivered;
        int64_t deadline_us;
        nack(m, 1);
        weir_groups_fetch(bench.groups, m, 10, 1 << 20, &delivered, &deadline_us);
        assert_null(delivered.block);
        while (!*help_groups_fetch(&bench, m, 10, NULL))
            weir_clock_advance(10 * help_ms);
    }
    nack(m, 1);
    assert_true(weir_clock_now_us() - begun_us < 2 * help_s);
    assert_int_equal(help_groups_letters(&bench, ""), 1);
    leave(&m);
}

static void a_nack_may_say_when(void **state)
{
    (void)state;
    weir_delivered delivered;
    int64_t deadline_us;
    put("a");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1);
    weir_position at = {1, 0};
    int64_t due_us = weir_clock_now_us() + 7 * help_s;
    weir_groups_nack(bench.groups, m, 0, at, 7 * help_s, NULL, NULL);
    weir_clock_advance(help_s);
    help_expect_none(&bench, m);
    weir_clock_advance(help_s);
    weir_groups_fetch(bench.groups, m, 10, 1 << 20, &delivered, &deadline_us);
    assert_int_equal(deadline_us, due_us);
    weir_clock_advance(5 * help_s);
    help_expect(&bench, m, 1);
    weir_groups_nack(bench.groups, m, 0, at, 0, NULL, NULL);
    help_expect(&bench, m, 1);
    leave(&m);
}

static void without_an_ack_a_record_comes_again(void **state)
{
    (void)state;
    put("aab");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2, 3);
    weir_clock_advance(30 * (int64_t)help_s - 1);
    help_expect_none(&bench, m);
    ack(m, 3);
    weir_clock_advance(1);
    help_expect(&bench, m, 1);
    ack(m, 2); // late is better than twice
    ack(m, 1);
    assert_int_equal(commit("g"), 3);
    leave(&m);
}

static void a_late_nack_does_not_count_again(void **state)
{
    (void)state;
    config.max_deliver = 2;
    put("a");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1);
    weir_clock_advance(30 * (int64_t)help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    nack(m, 1); // it says when, no more
    assert_int_equal(help_groups_letters(&bench, ""), 0);
    help_expect_none(&bench, m);
    weir_clock_advance(200 * help_ms);
    help_expect(&bench, m, 1);
    nack(m, 1);
    assert_int_equal(help_groups_letters(&bench, "\"attempts\":2"), 1);
    leave(&m);
}

static void the_tick_notices_late_acks_by_itself(void **state)
{
    (void)state;
    config.max_deliver = 1;
    put("a-");
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2);
    int64_t next_us = weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(next_us, weir_clock_now_us() + 30 * (int64_t)help_s);
    weir_clock_advance(30 * (int64_t)help_s);
    next_us = weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_true(next_us >= 0); // the letters are stored without haste
    weir_clock_advance(next_us - weir_clock_now_us());
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(help_groups_letters(&bench, "no ack within 30s"), 2);
    assert_int_equal(commit("g"), 2);
    leave(&m);
}

static void a_group_that_stands_still_slows_no_other(void **state)
{
    (void)state;
    config.window = 10;
    weir_member_of *slow = join("slow"), *quick = join("quick");
    for (int round = 0; round < 20; round++) {
        put("abcabcabc-");
        help_groups_fetch(&bench, slow, 100, NULL);
        uint64_t first = (uint64_t)round * 10 + 1;
        assert_int_equal(*help_groups_fetch(&bench, quick, 100, NULL), first);
        assert_int_equal(help_groups_ack_up_to(&bench, quick, 0, first + 9), WEIR_OK);
    }
    assert_int_equal(commit("quick"), 200);
    assert_int_equal(commit("slow"), 0);
    assert_int_equal(help_groups_look(&bench, "slow", 0).held, 10);
    leave(&slow);
    leave(&quick);
}

/*  Nothing is acknowledged before its dead letter is safe.                         */
static void a_dead_letter_that_cannot_be_written_holds_the_commit(void **state)
{
    (void)state;
    config.max_deliver = 1;
    put("ab");
    assert_int_equal(mkdir(bench.dead_path, 0700), 0);
    weir_member_of *m = join("g");
    help_expect(&bench, m, 1, 2);
    assert_int_equal(help_groups_nack(&bench, m, 0, 1), WEIR_ESYS);
    assert_int_equal(commit("g"), 0);
    assert_int_equal(rmdir(bench.dead_path), 0);
    weir_clock_advance(help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(help_groups_letters(&bench, ""), 1);
    assert_int_equal(commit("g"), 1);
    leave(&m);
}

/* --- Screens ----------------------------------------------------------------------- */

static void what_where_leaves_out_counts_as_acked(void **state)
{
    (void)state;
    weir_screen *screen;
    weir_member_of *m;
    weir_screen_config keeps = {(char *)"$key == 'b' and $offset > 2", WEIR_ACTION_DROP,
                                WEIR_UNKNOWN_DEAD};
    assert_int_equal(weir_screen_new(&screen, &keeps, NULL, NULL), WEIR_OK);
    put("abcb");
    m = join_with(screen, -1);
    help_expect(&bench, m, 4);
    assert_int_equal(commit("g"), 3);
    assert_int_equal(help_groups_look(&bench, "g", 0).shed, 0);
    assert_int_equal(help_groups_told("g", 0), 0); // nobody waits for it
    weir_clock_advance(help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(help_groups_told("g", 0), 3);
    leave(&m);
    weir_screen_destroy(&screen);
}

static void what_cannot_be_judged_is_a_dead_letter(void **state)
{
    (void)state;
    weir_screen *screen;
    weir_member_of *m;
    weir_screen_config keeps = {(char *)"a == 1", WEIR_ACTION_DEAD, WEIR_UNKNOWN_DEAD};
    assert_int_equal(weir_screen_new(&screen, &keeps, NULL, NULL), WEIR_OK);
    help_store_put(bench.store, 0, "{\"a\":", NULL, -1);
    help_store_put(bench.store, 0, "{\"a\":2}", NULL, -1);
    put("a");
    m = join_with(screen, -1);
    help_expect(&bench, m, 3);
    ack(m, 3);
    assert_int_equal(commit("g"), 0); // not before the letters are safe
    weir_clock_advance(help_s);
    weir_groups_tick(bench.groups, weir_clock_now_us());
    assert_int_equal(commit("g"), 3);
    assert_int_equal(help_groups_letters(&bench, "\"reason\":\"parse\""), 1);
    assert_int_equal(help_groups_letters(&bench, "\"reason\":\"filter\""), 1);
    leave(&m);
    weir_screen_destroy(&screen);
}

static void timestamps_are_filled_in(void **state)
{
    (void)state;
    weir_delivered delivered;
    int64_t deadline_us;
    help_store_arrive(bench.store, 5000);
    help_store_put(bench.store, 0, "{}", NULL, -1);
    help_store_put(bench.store, 0, "{}", "k", 70);
    weir_member_of *m = join("g");
    weir_groups_fetch(bench.groups, m, 10, 1 << 20, &delivered, &deadline_us);
    weir_iterator walk = {.block = delivered.block};
    weir_record record;
    assert_true(weir_iterator_next(&walk, &record, NULL));
    assert_true(record.has_ts && record.ts_ms == 5000);
    assert_true(weir_iterator_next(&walk, &record, NULL));
    assert_true(record.has_ts && record.ts_ms == 70);
    assert_int_equal(record.key.size, 1);
    weir_delivered_fini(&delivered);
    leave(&m);
}

/* --- Places ------------------------------------------------------------------------ */

/*  Each record of the next delivery has the place that is told beside it. How many they
    are.                                                                            */
static uint32_t fetch_places(weir_member_of *m)
{
    weir_delivered delivered;
    weir_subject subject = {0};
    weir_place place;
    int64_t deadline_us;
    const weir_run *origin;
    weir_groups_fetch(bench.groups, m, 1000, 1 << 20, &delivered, &deadline_us);
    weir_iterator walk = {.block = delivered.block};
    uint32_t i = 0;
    for (; walk.block && weir_iterator_next(&walk, &subject.record, &origin); i++) {
        weir_subject_begin(&subject, origin);
        assert_true(weir_subject_place(&subject, &place));
        assert_int_equal(place.nonce, weir_bus_state_nonce(bench.state));
        assert_int_equal(place.shard, delivered.shard);
        assert_int_equal(place.epoch, delivered.epoch);
        assert_int_equal(place.sequence, delivered.sequence[i]);
        assert_int_equal(place.offset, delivered.at[i].a);
    }
    assert_int_equal(i, delivered.records);
    weir_delivered_fini(&delivered);
    return i;
}

static void what_is_delivered_says_where_it_lies(void **state)
{
    (void)state;
    put("abcbabab");
    weir_member_of *m = join("g");
    assert_int_equal(fetch_places(m), 8);
    leave(&m);
}

/*  Every other record is left out, so that each of the others is a run.            */
static void a_delivery_ends_where_its_runs_would_be_too_many(void **state)
{
    (void)state;
    weir_screen *screen;
    weir_screen_config keeps = {(char *)"$key == 'a'", WEIR_ACTION_DROP,
                                WEIR_UNKNOWN_DEAD};
    assert_int_equal(weir_screen_new(&screen, &keeps, NULL, NULL), WEIR_OK);
    for (int i = 0; i < WEIR_RUNS_MAX + 10; i++)
        put("ab");
    weir_member_of *m = join_with(screen, -1);
    assert_int_equal(fetch_places(m), WEIR_RUNS_MAX);
    assert_int_equal(fetch_places(m), 10);
    leave(&m);
    weir_screen_destroy(&screen);
}

int main(void)
{
    weir_clock_go_virtual(1000000);
    const struct CMUnitTest tests[] = {
        test(keys_have_vnodes_of_their_own),
        test(the_commit_is_the_end_of_the_unbroken_run),
        test(only_what_a_member_holds_can_be_acked),
        test(one_ack_can_be_for_all_up_to_it),
        test(an_ack_up_to_leaves_what_was_delivered_since),
        test(no_more_than_the_window_is_out),
        test(several_answers_may_share_a_commit),
        test(shards_are_shared_evenly_and_stay),
        test(a_member_may_come_for_more_shards),
        test(a_dead_member_s_records_reach_another),
        test(what_a_member_had_is_not_another_s_before_it_fetches),
        test(members_without_timeout_are_never_gone),
        test(each_member_has_timeouts_of_its_own),
        test(redelivery_keeps_the_order_of_keys),
        test(a_keyless_record_holds_up_nobody),
        test(counts_of_recalled_records_stay),
        test(after_max_deliver_a_record_is_a_dead_letter),
        test(a_member_hears_of_its_dead_letters),
        test(who_has_left_hears_of_no_dead_letter),
        test(five_nacks_take_less_than_two_seconds),
        test(a_nack_may_say_when),
        test(without_an_ack_a_record_comes_again),
        test(a_late_nack_does_not_count_again),
        test(the_tick_notices_late_acks_by_itself),
        test(a_group_that_stands_still_slows_no_other),
        test(a_dead_letter_that_cannot_be_written_holds_the_commit),
        test(what_where_leaves_out_counts_as_acked),
        test(what_cannot_be_judged_is_a_dead_letter),
        test(timestamps_are_filled_in),
        test(what_is_delivered_says_where_it_lies),
        test(a_delivery_ends_where_its_runs_would_be_too_many),
    };
    return cmocka_run_group_tests_name("groups", tests, NULL, NULL);
}
