#include "tests/unit/help_bus.h"
#include "tests/unit/help_folder.h"
#include "actors/groups.h"
#include "actors/poll.h"

static void read_page(weir_cursor *cursor, uint64_t expected)
{
    weir_page page;
    weir_poller *poller = weir_bus_poller(bus);
    weir_poll_request request = weir_poll_defaults;
    if (cursor) request.cursor = *cursor;
    request.limit = 100;
    assert_int_equal(weir_poller_poll(poller, &request, &page, &report), WEIR_OK);
    assert_int_equal(page.count, expected);
    weir_page_fini(&page);
    weir_poller_destroy(&poller);
}

static weir_member_of *join(const weir_group_config *as)
{
    weir_member_of *reader;
    assert_int_equal(
        weir_groups_join(weir_bus_groups(bus), "g", "m", as, NULL, -1, &reader, &report),
        WEIR_OK);
    return reader;
}

static void fetch(weir_member_of *reader, weir_delivered *got)
{
    int64_t deadline, give_up_ms = zclock_mono() + 10000;
    do {
        assert_true(zclock_mono() < give_up_ms);
        assert_int_equal(
            weir_groups_fetch(weir_bus_groups(bus), reader, 10, 1 << 20, got, &deadline),
            WEIR_OK);
    } while (!got->block);
}

static void read_as_member(uint64_t expected)
{
    weir_groups *groups = weir_bus_groups(bus);
    weir_member_of *reader = join(&weir_group_defaults);
    weir_delivered got;
    for (uint64_t records = 0; records < expected;) {
        fetch(reader, &got);
        records += got.records;
        assert_true(records <= expected);
        assert_int_equal(weir_groups_ack(groups, reader, got.shard,
                                         got.at[got.records - 1], true, &report),
                         WEIR_OK);
        weir_delivered_fini(&got);
    }
    weir_groups_leave(groups, &reader);
}

static void open_on_disk(void)
{
    begin(NULL);
    config.state_dir = folder;
    set("store", "disk");
    set("disk.keep", "all");
    set("shards", "2");
    open_bus();
}

static void a_bus_on_disk_is_read_and_goes_on_after_a_restart(void **state)
{
    (void)state;
    open_on_disk();
    append(20, 10);
    flush();
    read_page(NULL, 20);
    read_as_member(20);
    close_clean();
    open_on_disk();
    append(3, 10);
    flush();
    read_page(NULL, 23);
    read_as_member(3);
    close_clean();
}

/*  A page of at most so many, from the cursor on, which moves behind it.           */
static size_t read_on(weir_poller *poller, weir_cursor *cursor, uint32_t limit)
{
    weir_page page;
    weir_poll_request request = weir_poll_defaults;
    request.cursor = *cursor;
    request.limit = limit;
    request.timeout_us = 50000;
    assert_int_equal(weir_poller_poll(poller, &request, &page, &report), WEIR_OK);
    size_t count = page.count;
    weir_cursor_move(cursor, &page.cursor);
    assert_null(page.cursor.marks);
    weir_page_fini(&page);
    return count;
}

static void a_cursor_that_was_kept_as_text_goes_on(void **state)
{
    (void)state;
    weir_cursor cursor = {0};
    weir_buffer text = {0};
    open_on_disk();
    append(20, 10);
    flush();
    weir_poller *poller = weir_bus_poller(bus);
    assert_int_equal(read_on(poller, &cursor, 12), 12);
    weir_cursor_put(&cursor, &text);
    weir_poller_destroy(&poller);
    close_clean();
    open_on_disk();
    poller = weir_bus_poller(bus);
    weir_cursor_fini(&cursor);
    assert_int_equal(
        weir_poller_resume(poller, (char *)text.data, text.size - 1, &cursor, &report),
        WEIR_EINVAL);
    assert_non_null(strstr(report.text, "bad_cursor"));
    assert_int_equal(
        weir_poller_resume(poller, (char *)text.data, text.size, &cursor, &report),
        WEIR_OK);
    assert_int_equal(read_on(poller, &cursor, 100), 8);
    assert_int_equal(read_on(poller, &cursor, 100), 0);
    weir_poller_destroy(&poller);
    weir_buffer_fini(&text);
    weir_cursor_fini(&cursor);
    close_clean();
}

static void dead_letters_lie_beside_the_store_and_not_where_the_host_runs(void **state)
{
    char dead[96];
    struct stat info;
    weir_delivered got;
    weir_group_config once = weir_group_defaults;
    begin(state);
    set("store", "disk");
    set("disk.keep", "all");
    set("disk.path", folder);
    open_bus();
    append(1, 10);
    flush();
    once.max_deliver = 1;
    weir_groups *groups = weir_bus_groups(bus);
    weir_member_of *reader = join(&once);
    fetch(reader, &got);
    assert_int_equal(
        weir_groups_nack(groups, reader, got.shard, got.at[0], -1, "no use", &report),
        WEIR_OK);
    weir_delivered_fini(&got);
    weir_groups_leave(groups, &reader);
    close_clean();
    snprintf(dead, sizeof dead, "%s/dead.ndjson", folder);
    assert_int_equal(stat(dead, &info), 0);
    assert_true(info.st_size > 0);
}

static void two_buses_share_no_folder(void **state)
{
    (void)state;
    weir_bus *other;
    open_on_disk();
    assert_int_not_equal(weir_bus_new(&other, &config, &report), WEIR_OK);
    assert_null(other);
    assert_non_null(strstr(report.text, "in_use"));
    close_clean();
}

#define DISK(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DISK(a_bus_on_disk_is_read_and_goes_on_after_a_restart),
        DISK(a_cursor_that_was_kept_as_text_goes_on),
        DISK(dead_letters_lie_beside_the_store_and_not_where_the_host_runs),
        DISK(two_buses_share_no_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
