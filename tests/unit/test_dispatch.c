/*  Batches on their way into a store that fails in every way, on given times.         */
#include "actors/dispatch.h"
#include "tests/unit/help_store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MS 1000ll

typedef struct {
    weir_store *store;
    weir_dispatch *dispatch;
    int64_t now_us;
    uint64_t next;       // sequence of the next record that is sent
    uint64_t safe[4096]; // sequences in the order in which they were settled
    uint32_t safe_count, dead_count, ended;
    uint64_t dead[16];
    char why[256], failed[256];
    weir_dead_reason reason; // of the last loss
    uint32_t attempts;
    uint32_t writes;     // seen by the store
    uint64_t firsts[64]; // first sequence of each
    uint64_t bytes[64];  // and a sum of its bytes
    weir_fence fence;    // of the next batch; last_offset 0: none
} bench;

static void settled(void *arg, const weir_batch *batch, uint32_t first, uint32_t count,
                    const weir_dispatch_loss *loss)
{
    bench *self = arg;
    for (uint32_t i = first; i < first + count; i++) {
        if (loss)
            self->dead[self->dead_count++] = batch->first + i;
        else
            self->safe[self->safe_count++] = batch->first + i;
    }
    if (!loss) return;
    snprintf(self->why, sizeof self->why, "%s", loss->text);
    self->reason = loss->reason;
    self->attempts = loss->attempts;
}

static void ended(void *arg)
{
    bench *self = arg;
    self->ended++;
}

static void failed(void *arg, const char *text)
{
    bench *self = arg;
    snprintf(self->failed, sizeof self->failed, "%s", text);
}

static void spy(void *arg, const weir_batch *batch)
{
    bench *self = arg;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < batch->piece_count; i++) {
        const weir_block *block = batch->pieces[i].block;
        for (size_t b = 0; b < weir_block_size(block); b++)
            sum = sum * 31 + weir_block_body(block)[b];
    }
    if (self->writes < 64) {
        self->firsts[self->writes] = batch->first;
        self->bytes[self->writes] = sum;
    }
    self->writes++;
}

static bench *start_with(weir_store *store, weir_retry_config retry)
{
    bench *self = calloc(1, sizeof *self);
    self->next = 1;
    self->now_us = 1000 * MS;
    self->store = store;
    assert_int_equal(
        weir_dispatch_new(&self->dispatch, &(weir_dispatch_config){.store = self->store,
                                                                   .nonce = 7,
                                                                   .retry = retry,
                                                                   .settled = settled,
                                                                   .ended = ended,
                                                                   .failed = failed,
                                                                   .arg = self}),
        WEIR_OK);
    return self;
}

static bench *start(weir_retry_config retry)
{
    bench *self = start_with(help_store_new(false, NULL), retry);
    help_store_watch_writes(self->store, spy, self);
    return self;
}

static void stop(bench *self)
{
    weir_dispatch_destroy(&self->dispatch);
    self->store->class->close(&self->store);
    free(self);
}

static void send_batch(bench *self, uint32_t records)
{
    weir_builder builder = {.target = 1 << 20};
    weir_batch *batch = weir_batch_new();
    for (uint32_t i = 0; i < records; i++) {
        char text[32];
        int size = snprintf(text, sizeof text, "{\"n\":%d}", (int)(self->next + i));
        weir_builder_add_payload(&builder, WEIR_JSON, (uint8_t *)text, (size_t)size,
                                 NULL);
    }
    weir_piece piece = {.block = weir_builder_seal(&builder)};
    weir_batch_add(batch, &piece);
    batch->epoch = 1;
    batch->first = self->next;
    self->next += records;
    weir_builder_fini(&builder);
    if (self->fence.last.a) {
        batch->fences = malloc(sizeof self->fence);
        batch->fences[0] = self->fence;
        batch->fence_count = 1;
    }
    weir_dispatch_send(self->dispatch, &batch, self->now_us);
    weir_dispatch_read(self->dispatch, self->now_us);
}

/*  Goes to the next due time and does what is due; gives how long that was.            */
static int64_t step(bench *self)
{
    int64_t due = weir_dispatch_deadline(self->dispatch), before = self->now_us;
    assert_true(due >= 0);
    if (due > self->now_us) self->now_us = due;
    weir_dispatch_run_due(self->dispatch, self->now_us);
    weir_dispatch_read(self->dispatch, self->now_us);
    return self->now_us - before;
}

static void assert_safe_in_order(const bench *self, uint64_t last)
{
    assert_int_equal(self->safe_count, last);
    for (uint32_t i = 0; i < self->safe_count; i++)
        assert_int_equal(self->safe[i], i + 1);
}

/* --- Tests ------------------------------------------------------------------------- */

static void what_is_taken_is_settled_in_order(void **state)
{
    (void)state;
    bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
    for (int i = 0; i < 5; i++)
        send_batch(self, 10);
    assert_safe_in_order(self, 50);
    assert_int_equal(self->ended, 5);
    assert_int_equal(weir_dispatch_deadline(self->dispatch), -1);
    stop(self);
}

static void a_failed_attempt_is_repeated_unchanged(void **state)
{
    (void)state;
    bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
    help_store_fail(self->store, 0, 3, WEIR_STORE_RETRY, "timeout");
    send_batch(self, 100);
    for (int i = 0; i < 3; i++)
        step(self);
    assert_int_equal(self->writes, 4);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(self->firsts[i], 1);
        assert_int_equal(self->bytes[i], self->bytes[0]);
    }
    assert_safe_in_order(self, 100);
    stop(self);
}

static void waits_double_up_to_the_ceiling(void **state)
{
    (void)state;
    bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
    help_store_fail(self->store, 0, -1, WEIR_STORE_RETRY, "away");
    send_batch(self, 1);
    int64_t expected = 100 * MS;
    for (int i = 0; i < 12; i++) {
        int64_t waited = step(self);
        assert_in_range(waited, expected * 3 / 4, expected * 5 / 4);
        expected = 2 * expected < 30000 * MS ? 2 * expected : 30000 * MS;
    }
    weir_dispatch_stats stats;
    weir_dispatch_look(self->dispatch, &stats);
    assert_string_equal(stats.error, "away");
    assert_int_equal(stats.retries, 12);
    stop(self);
}

static void the_error_is_that_of_the_batch_that_holds_up_the_others(void **state)
{
    (void)state;
    weir_dispatch_stats stats;
    bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
    help_store_wedge(self->store, 0, true);
    send_batch(self, 1);
    send_batch(self, 1);
    help_store_refuse(self->store, 0, 2);
    help_store_wedge(self->store, 0, false); // one is safe, and the next one refused
    weir_dispatch_read(self->dispatch, self->now_us);
    assert_int_equal(self->safe_count, 1);
    assert_int_equal(self->dead_count, 1);
    assert_true(self->why[0]);
    help_store_fail(self->store, 0, -1, WEIR_STORE_RETRY, "away");
    while (weir_dispatch_deadline(self->dispatch) >= 0)
        step(self);
    send_batch(self, 1);
    weir_dispatch_look(self->dispatch, &stats);
    assert_string_equal(stats.error, "away");
    assert_true(stats.failing_since_us > 0);
    stop(self);
}

static void after_the_last_attempt_the_batch_is_dead_and_the_next_goes_on(void **state)
{
    (void)state;
    weir_retry_config retry = WEIR_RETRY_DEFAULTS;
    retry.attempts = 4;
    bench *self = start(retry);
    help_store_fail(self->store, 0, 4, WEIR_STORE_RETRY, "no room");
    send_batch(self, 3);
    while (weir_dispatch_deadline(self->dispatch) >= 0)
        step(self);
    assert_int_equal(self->writes, 4);
    assert_int_equal(self->dead_count, 3);
    assert_string_equal(self->why, "no room");
    assert_int_equal(self->reason, WEIR_DEAD_EXHAUSTED);
    assert_int_equal(self->attempts, 4);
    send_batch(self, 3);
    if (weir_dispatch_deadline(self->dispatch) >= 0) step(self);
    assert_int_equal(self->safe_count, 3);
    assert_int_equal(self->safe[0], 4);
    stop(self);
}

/*  The offset before which the fence was stored; 0: it was not.                     */
static uint64_t find_fence(const bench *self)
{
    weir_fence *list;
    size_t count;
    assert_int_equal(self->store->class->fences(self->store, &list, &count, NULL),
                     WEIR_OK);
    assert_true(count <= 1);
    uint64_t offset = count ? list[0].first.a : 0;
    free(list);
    return offset;
}

static void send_fenced(bench *self, uint32_t records)
{
    self->fence = (weir_fence){.from = 7, .last.a = 9};
    send_batch(self, records);
    self->fence.last.a = 0;
}

static void a_fence_stays_before_what_follows_a_dead_batch(void **state)
{
    (void)state;
    weir_retry_config retry = WEIR_RETRY_DEFAULTS;
    retry.attempts = 2;
    for (int behind = 0; behind < 2; behind++) {
        bench *self = start(retry);
        help_store_fail(self->store, 0, 2, WEIR_STORE_RETRY, "no room");
        send_fenced(self, 3);
        if (behind) send_batch(self, 2);
        while (weir_dispatch_deadline(self->dispatch) >= 0)
            step(self);
        assert_int_equal(self->dead_count, 3);
        assert_true(behind || weir_dispatch_has_fences(self->dispatch));
        if (!behind) send_batch(self, 2);
        while (weir_dispatch_deadline(self->dispatch) >= 0)
            step(self);
        assert_int_equal(self->safe_count, 2);
        assert_int_equal(find_fence(self), 1);
        assert_false(weir_dispatch_has_fences(self->dispatch));
        stop(self);
    }
}

static void a_fence_stays_before_what_follows_a_refused_record(void **state)
{
    (void)state;
    bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
    help_store_refuse(self->store, 0, 1);
    send_fenced(self, 3);
    while (weir_dispatch_deadline(self->dispatch) >= 0)
        step(self);
    assert_int_equal(self->dead_count, 1);
    assert_int_equal(self->safe_count, 2);
    assert_int_equal(find_fence(self), 1);
    stop(self);
}

static void batches_behind_a_dead_one_keep_their_attempts(void **state)
{
    (void)state;
    weir_retry_config retry = WEIR_RETRY_DEFAULTS;
    retry.attempts = 3;
    bench *self = start(retry);
    help_store_wedge(self->store, 0, true);
    for (int i = 0; i < 3; i++)
        send_batch(self, 2);
    /*  Three attempts of the first; those behind fail with it each time.               */
    help_store_fail(self->store, 0, 3, WEIR_STORE_RETRY, "no");
    help_store_wedge(self->store, 0, false);
    weir_dispatch_read(self->dispatch, self->now_us);
    while (weir_dispatch_deadline(self->dispatch) >= 0)
        step(self);
    assert_int_equal(self->dead_count, 2);
    assert_int_equal(self->dead[0], 1);
    assert_int_equal(self->safe_count, 4);
    assert_int_equal(self->safe[0], 3);
    assert_int_equal(self->ended, 3);
    stop(self);
}

static void keep_last(void *arg, const weir_batch *batch)
{
    *(weir_batch **)arg = (weir_batch *)(uintptr_t)batch;
}

static void what_was_held_has_its_time_from_then_on(void **state)
{
    (void)state;
    weir_batch *attempt = NULL;
    weir_retry_config retry = WEIR_RETRY_DEFAULTS;
    retry.attempts = 1;
    bench *self = start(retry);
    help_store_wedge(self->store, 0, true);
    help_store_watch_writes(self->store, keep_last, &attempt);
    send_batch(self, 3);
    atomic_store(&attempt->held, true);
    for (int i = 0; i < 5; i++)
        step(self); // time passes, and nothing else
    assert_true(self->now_us > 1000 * MS + 4 * retry.timeout_us);
    atomic_store(&attempt->held, false);
    self->now_us += retry.timeout_us / 2;
    weir_dispatch_run_due(self->dispatch, self->now_us);
    help_store_wedge(self->store, 0, false);
    weir_dispatch_read(self->dispatch, self->now_us);
    assert_int_equal(self->dead_count, 0);
    assert_safe_in_order(self, 3);
    stop(self);
}

static void a_stop_settles_nothing(void **state)
{
    (void)state;
    weir_retry_config retry = WEIR_RETRY_DEFAULTS;
    retry.attempts = 1;
    retry.exhausted = WEIR_EXHAUSTED_STOP;
    bench *self = start(retry);
    help_store_fail(self->store, 0, -1, WEIR_STORE_RETRY, "no");
    send_batch(self, 3);
    assert_string_equal(self->failed, "no");
    assert_int_equal(self->dead_count + self->safe_count, 0);
    assert_int_equal(weir_dispatch_deadline(self->dispatch), -1);
    stop(self);
}

static void a_refused_record_is_dead_and_the_others_are_safe_in_order(void **state)
{
    (void)state;
    weir_retry_config retry = WEIR_RETRY_DEFAULTS;
    retry.attempts = 9; // which makes no record exhausted that the store refuses
    bench *self = start(retry);
    help_store_refuse(self->store, 0, 40);
    send_batch(self, 100);
    send_batch(self, 10);
    while (weir_dispatch_deadline(self->dispatch) >= 0)
        step(self);
    assert_int_equal(self->dead_count, 1);
    assert_int_equal(self->dead[0], 40);
    assert_int_equal(self->reason, WEIR_DEAD_REFUSED);
    assert_int_equal(self->safe_count, 109);
    for (uint32_t i = 0; i < 109; i++)
        assert_int_equal(self->safe[i], i < 39 ? i + 1 : i + 2);
    assert_int_equal(self->ended, 2);
    stop(self);
}

static void behind_a_fatal_failure_nothing_is_settled(void **state)
{
    (void)state;
    bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
    send_batch(self, 5);
    help_store_fail(self->store, 0, 1, WEIR_STORE_FATAL, "wrong type");
    send_batch(self, 5);
    send_batch(self, 5);
    assert_string_equal(self->failed, "wrong type");
    assert_safe_in_order(self, 5);
    stop(self);
}

static void no_answer_in_time_is_a_failure_and_a_late_one_counts_once(void **state)
{
    (void)state;
    bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
    help_store_wedge(self->store, 0, true);
    send_batch(self, 5);
    assert_int_equal(step(self), 30000 * MS);
    assert_int_equal(self->safe_count, 0);
    step(self); // the second attempt, which is not answered either
    help_store_wedge(self->store, 0, false);
    weir_dispatch_read(self->dispatch, self->now_us);
    assert_safe_in_order(self, 5);
    assert_int_equal(self->ended, 1);
    stop(self);
}

/*  A store that answers when it is told to, whatever may be.                        */
typedef struct {
    weir_store base;
    weir_batch *writes[8]; // a reference each
    uint32_t count;
} mute_store;

static void keep_write(weir_store *store, weir_batch *batch)
{
    mute_store *self = (mute_store *)store;
    assert_true(self->count < 8);
    self->writes[self->count++] = weir_batch_dup(batch);
}

static const weir_store_class mute_class = {.name = "mute", .write = keep_write};

static void answer_write(mute_store *self, uint32_t number, weir_store_result result)
{
    weir_batch *batch = self->writes[number];
    batch->result = result;
    batch->refused = batch->records - 1; // of REFUSED: the last one
    batch->done(batch);
    weir_batch_destroy(&self->writes[number]);
}

/*  The rest was safe before; nothing is sent any more, and no other answer comes.    */
static void finish_behind(bench *self, uint32_t dead)
{
    weir_dispatch_read(self->dispatch, self->now_us);
    assert_int_equal(self->dead_count, dead);
    weir_dispatch_run_due(self->dispatch, self->now_us);
    assert_int_equal(self->safe_count, 2);
    assert_int_equal(self->ended, 2);
    assert_int_equal(weir_dispatch_deadline(self->dispatch), -1);
    weir_dispatch_destroy(&self->dispatch);
    free(self);
}

static void what_is_safe_behind_a_refused_record_is_settled(void **state)
{
    (void)state;
    mute_store mute = {.base.class = &mute_class};
    bench *self = start_with(&mute.base, (weir_retry_config)WEIR_RETRY_DEFAULTS);
    send_batch(self, 1);
    send_batch(self, 2);
    answer_write(&mute, 0, WEIR_STORE_REFUSED);
    answer_write(&mute, 1, WEIR_STORE_SAFE);
    finish_behind(self, 1);
}

/*  Its answer came late, before the attempts of the first were used up.             */
static void what_is_safe_behind_a_dead_batch_is_settled(void **state)
{
    (void)state;
    weir_retry_config retry = WEIR_RETRY_DEFAULTS;
    mute_store mute = {.base.class = &mute_class};
    retry.attempts = 2;
    bench *self = start_with(&mute.base, retry);
    send_batch(self, 3);
    send_batch(self, 2);
    step(self); // no answer in time
    answer_write(&mute, 1, WEIR_STORE_SAFE);
    answer_write(&mute, 0, WEIR_STORE_RETRY);
    weir_dispatch_read(self->dispatch, self->now_us);
    step(self); // sent again: the first alone
    assert_int_equal(mute.count, 3);
    answer_write(&mute, 2, WEIR_STORE_RETRY);
    finish_behind(self, 3);
}

static uint32_t under_way(const bench *self)
{
    weir_dispatch_stats stats;
    weir_dispatch_look(self->dispatch, &stats);
    return stats.batches;
}

/*  As much as comes until then, four batches at a time, as a batcher has it.          */
static void load_until(bench *self, int64_t until_us)
{
    while (self->now_us < until_us) {
        self->now_us += MS;
        if (under_way(self) < 4) send_batch(self, 1);
        int64_t due = weir_dispatch_deadline(self->dispatch);
        if (due >= 0 && due <= self->now_us) step(self);
    }
}

static void set_away(bench *self, bool silent, bool away)
{
    if (silent)
        help_store_wedge(self->store, 0, away);
    else
        help_store_fail(self->store, 0, away ? -1 : 0, WEIR_STORE_RETRY, "no connection");
}

/*  With errors, and without answers.                                                  */
static void a_store_that_is_away_for_a_minute_gets_all_when_it_is_back(void **state)
{
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        bench *self = start((weir_retry_config)WEIR_RETRY_DEFAULTS);
        load_until(self, self->now_us + 100 * MS);
        uint64_t before = self->next - 1;
        assert_safe_in_order(self, before);
        uint32_t writes = self->writes;
        set_away(self, silent, true);
        load_until(self, self->now_us + 60000 * MS);
        assert_safe_in_order(self, before);
        assert_int_equal(under_way(self), 4);
        assert_in_range(self->writes - writes, 4, 4 * 12); // waits have grown
        set_away(self, silent, false);
        int64_t back_us = self->now_us;
        while (self->safe_count == before) {
            weir_dispatch_read(self->dispatch, self->now_us);
            if (self->safe_count == before) step(self);
        }
        assert_in_range(self->now_us - back_us, 0, 30000 * MS * 5 / 4);
        load_until(self, self->now_us + 100 * MS);
        while (under_way(self))
            step(self);
        assert_safe_in_order(self, self->next - 1);
        assert_in_range(self->safe_count, before + 50, 4096);
        assert_int_equal(self->dead_count, 0);
        assert_int_equal(self->ended, self->safe_count);
        assert_int_equal(help_store_last(self->store, 0), self->safe_count);
        stop(self);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_is_settled_in_order),
        cmocka_unit_test(a_failed_attempt_is_repeated_unchanged),
        cmocka_unit_test(waits_double_up_to_the_ceiling),
        cmocka_unit_test(the_error_is_that_of_the_batch_that_holds_up_the_others),
        cmocka_unit_test(after_the_last_attempt_the_batch_is_dead_and_the_next_goes_on),
        cmocka_unit_test(a_fence_stays_before_what_follows_a_dead_batch),
        cmocka_unit_test(a_fence_stays_before_what_follows_a_refused_record),
        cmocka_unit_test(batches_behind_a_dead_one_keep_their_attempts),
        cmocka_unit_test(what_was_held_has_its_time_from_then_on),
        cmocka_unit_test(a_stop_settles_nothing),
        cmocka_unit_test(a_refused_record_is_dead_and_the_others_are_safe_in_order),
        cmocka_unit_test(what_is_safe_behind_a_refused_record_is_settled),
        cmocka_unit_test(what_is_safe_behind_a_dead_batch_is_settled),
        cmocka_unit_test(behind_a_fatal_failure_nothing_is_settled),
        cmocka_unit_test(no_answer_in_time_is_a_failure_and_a_late_one_counts_once),
        cmocka_unit_test(a_store_that_is_away_for_a_minute_gets_all_when_it_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
