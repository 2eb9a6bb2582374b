/*  The JetStream store on a real server: storing, reading, bounds, and who else writes.
 */
#include "help_jetstream.h"

/* --- Storing and reading ----------------------------------------------------------- */

static void records_come_back_in_order(void **state)
{
    NEEDS_SERVER();
    weir_store *store = store_at(server.port);
    assert_int_equal(put(store, 0, 1, 1, 10, 100), 10);
    assert_int_equal(put(store, 7, 1, 1, 3, 100), 3);
    assert_int_equal(put(store, 0, 1, 11, 500, 100), 510);
    tally zero = count_stream(store, 0, 77), seven = count_stream(store, 7, 1000);
    assert_int_equal(zero.records, 510);
    assert_int_equal(seven.records, 3);
    assert_int_equal(zero.trimmed + zero.damaged + seven.trimmed + seven.damaged, 0);
    close_store(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(records_come_back_in_order, start_server,
                                        end_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
