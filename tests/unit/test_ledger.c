#include "runtime/ledger.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#ifdef WEIR_SANITIZED
#define TIMES 20000
#else
#define TIMES 1000000
#endif
#define THREADS 16

static void reserving_is_refused_above_the_limit_without_change(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1000);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_BLOCKS, 500), WEIR_OK);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_QUEUES, 600), WEIR_EFULL);
    assert_int_equal(weir_ledger_used(ledger), 500);
    assert_int_equal(weir_ledger_account(ledger, WEIR_ACCOUNT_QUEUES), 0);
    weir_ledger_destroy(&ledger);
    assert_null(ledger);
    ledger = weir_ledger_new(100);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_BLOCKS, 90), WEIR_OK);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_BLOCKS, 10), WEIR_OK);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_BLOCKS, 1), WEIR_EFULL);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_BLOCKS, UINT64_MAX),
                     WEIR_EFULL);
    weir_ledger_destroy(&ledger);
    ledger = weir_ledger_new(UINT64_MAX / 2);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_LUA, 1ull << 47), WEIR_OK);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_LUA, (1ull << 47) + 1),
                     WEIR_EFULL);
    weir_ledger_destroy(&ledger);
}

static void drains_are_never_refused(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(100);
    weir_ledger_charge(ledger, WEIR_ACCOUNT_DEAD, 150);
    assert_int_equal(weir_ledger_used(ledger), 150);
    assert_int_equal(weir_ledger_peak(ledger), 150);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_BLOCKS, 1), WEIR_EFULL);
    weir_ledger_release(ledger, WEIR_ACCOUNT_DEAD, 60);
    assert_int_equal(weir_ledger_reserve(ledger, WEIR_ACCOUNT_BLOCKS, 10), WEIR_OK);
    weir_ledger_destroy(&ledger);
}

static void releasing_too_much_leaves_nothing_and_counts(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1000);
    weir_ledger_charge(ledger, WEIR_ACCOUNT_BLOCKS, 10);
    weir_ledger_charge(ledger, WEIR_ACCOUNT_LUA, 20);
    weir_ledger_release(ledger, WEIR_ACCOUNT_BLOCKS, 11);
    assert_int_equal(weir_ledger_account(ledger, WEIR_ACCOUNT_BLOCKS), 0);
    assert_int_equal(weir_ledger_used(ledger), 20);
    assert_int_equal(weir_ledger_release_errors(ledger), 1);
    weir_ledger_transfer(ledger, WEIR_ACCOUNT_LUA, WEIR_ACCOUNT_SPOOL, 25);
    assert_int_equal(weir_ledger_account(ledger, WEIR_ACCOUNT_SPOOL), 20);
    assert_int_equal(weir_ledger_used(ledger), 20);
    assert_int_equal(weir_ledger_release_errors(ledger), 2);
    weir_ledger_destroy(&ledger);
}

static void *reserve_and_release(void *arg)
{
    weir_ledger *ledger = arg;
    for (int i = 0; i < TIMES; i++) {
        weir_account account = (weir_account)(i % WEIR_ACCOUNTS);
        uint64_t bytes = (uint64_t)(i % 97) + 1;
        if (weir_ledger_reserve(ledger, account, bytes)) continue;
        weir_ledger_release(ledger, account, bytes);
    }
    return NULL;
}

static void threads_never_pass_the_limit(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(500); // less than all could ask for
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reserve_and_release, ledger),
                         0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(weir_ledger_used(ledger), 0);
    assert_in_range(weir_ledger_peak(ledger), 97, 500);
    assert_int_equal(weir_ledger_release_errors(ledger), 0);
    for (int a = 0; a < WEIR_ACCOUNTS; a++)
        assert_int_equal(weir_ledger_account(ledger, (weir_account)a), 0);
    weir_ledger_destroy(&ledger);
}

static void every_account_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(weir_account_name(WEIR_ACCOUNT_BLOCKS), "blocks");
    for (int a = 0; a < WEIR_ACCOUNTS; a++)
        assert_non_null(weir_account_name((weir_account)a));
    assert_string_equal(weir_account_name(WEIR_ACCOUNTS), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reserving_is_refused_above_the_limit_without_change),
        cmocka_unit_test(drains_are_never_refused),
        cmocka_unit_test(releasing_too_much_leaves_nothing_and_counts),
        cmocka_unit_test(threads_never_pass_the_limit),
        cmocka_unit_test(every_account_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
