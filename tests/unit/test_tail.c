#include "tests/unit/help_folder.h"
#include "actors/tail.h"
#include "runtime/buffer.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static weir_positions *positions;

static void open_positions(void)
{
    weir_report report = {0};
    if (weir_positions_open(&positions, "positions", &report))
        fail_msg("%s", report.text);
}

static int set_up(void **state)
{
    if (enter_folder(state)) return -1;
    open_positions();
    return 0;
}

static int tear_down(void **state)
{
    weir_positions_close(&positions);
    return leave_folder(state);
}

static weir_tail *open_tail(const char *path, bool from_end)
{
    weir_tail_config config = {.path = path, .from_end = from_end};
    return weir_tail_new(&config, positions);
}

static void append(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/*  What one read gives: its bytes, or its state in brackets.                  */
static weir_tail_state read_once(weir_tail *tail, int64_t now_us, weir_buffer *seen)
{
    static const char *const names[] = {
        [WEIR_TAIL_END] = "end",         [WEIR_TAIL_OPENED] = "opened",
        [WEIR_TAIL_ROTATED] = "rotated", [WEIR_TAIL_TRUNCATED] = "truncated",
        [WEIR_TAIL_GONE] = "gone",       [WEIR_TAIL_TAKEN] = "taken",
        [WEIR_TAIL_ERROR] = "error",
    };
    uint8_t bytes[5];
    size_t got;
    weir_tail_state state = weir_tail_read(tail, now_us, bytes, sizeof bytes, &got);
    assert_true((state == WEIR_TAIL_DATA) == (got > 0));
    if (state == WEIR_TAIL_DATA)
        weir_buffer_put(seen, bytes, got);
    else
        weir_buffer_printf(seen, "[%s]", names[state]);
    return state;
}

/*  Everything up to the next state that gives nothing.                        */
static void expect_at(weir_tail *tail, int64_t now_us, const char *expected)
{
    weir_buffer seen = {0};
    weir_tail_state state;
    do {
        state = read_once(tail, now_us, &seen);
    } while (state == WEIR_TAIL_DATA || state == WEIR_TAIL_OPENED ||
             state == WEIR_TAIL_ROTATED || state == WEIR_TAIL_TRUNCATED);
    weir_buffer_put_byte(&seen, 0);
    assert_string_equal((char *)seen.data, expected);
    weir_buffer_fini(&seen);
}

static void expect(weir_tail *tail, const char *expected)
{
    expect_at(tail, 0, expected);
}

static void commit_all(weir_tail *tail)
{
    assert_int_equal(
        weir_positions_commit(positions, weir_tail_slot(tail), weir_tail_offset(tail)),
        WEIR_OK);
}

static void growth_is_read(void **state)
{
    (void)state;
    weir_tail *tail = open_tail("a.log", false);
    append("a.log", "one two three\n");
    expect(tail, "[opened]one two three\n[end]");
    expect(tail, "[end]");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_END);
    append("a.log", "four\n");
    assert_int_equal(weir_tail_lag(tail), 5);
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "four\n[end]");
    assert_int_equal(weir_tail_offset(tail), 19);
    assert_string_equal(weir_tail_path(tail), "a.log");
    weir_tail_destroy(&tail);
    assert_null(tail);
}

static void reading_resumes_at_the_commit(void **state)
{
    (void)state;
    append("a.log", "one\ntwo\nthree\n");
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[opened]one\ntwo\nthree\n[end]");
    assert_int_equal(weir_positions_commit(positions, weir_tail_slot(tail), 4), WEIR_OK);
    weir_tail_destroy(&tail);
    weir_positions_close(&positions);
    open_positions();
    tail = open_tail("a.log", true);
    expect(tail, "[opened]two\nthree\n[end]");
    weir_tail_destroy(&tail);
}

static void an_unknown_file_may_begin_at_its_last_line(void **state)
{
    (void)state;
    append("a.log", "one\ntw");
    weir_tail *tail = open_tail("a.log", true), *fresh = open_tail("b.log", true);
    expect(tail, "[opened]tw[end]");
    append("a.log", "o\n");
    expect(tail, "o\n[end]");
    commit_all(tail);
    expect(fresh, "[gone]");
    append("b.log", "new\n");
    expect(fresh, "[opened]new\n[end]");
    weir_tail_destroy(&tail);
    weir_tail_destroy(&fresh);
    assert_int_equal(rename("a.log", "a.old"), 0);
    append("a.log", "while away\n");
    tail = open_tail("a.log", true);
    expect(tail, "[opened]while away\n[end]");
    weir_tail_destroy(&tail);
}

static void rotation_reads_the_old_file_to_its_end(void **state)
{
    (void)state;
    append("a.log", "one\n");
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[opened]one\n[end]");
    int old = weir_tail_slot(tail);
    append("a.log", "two\n");
    assert_int_equal(rename("a.log", "a.log.1"), 0);
    append("a.log.1", "three\n");
    append("a.log", "four\n");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    append("a.log.1", "late\n");
    expect(tail, "two\nthree\nlate\n[rotated]four\n[end]");
    assert_int_not_equal(weir_tail_slot(tail), old);
    assert_int_equal(weir_tail_offset(tail), 5);
    assert_int_equal(weir_positions_commit(positions, old, 8), WEIR_OK);
    commit_all(tail);
    weir_tail_destroy(&tail);
    weir_positions_close(&positions);
    open_positions();
    tail = open_tail("a.log.1", false);
    expect(tail, "[opened]three\nlate\n[end]");
    weir_tail_destroy(&tail);
    tail = open_tail("a.log", false);
    expect(tail, "[opened][end]");
    weir_tail_destroy(&tail);
}

static void two_rotations_in_a_row_lose_nothing(void **state)
{
    (void)state;
    append("a.log", "one\n");
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[opened]one\n[end]");
    assert_int_equal(rename("a.log", "a.log.1"), 0);
    append("a.log", "two\n");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    assert_int_equal(rename("a.log", "a.log.2"), 0);
    append("a.log", "three\n");
    expect(tail, "[rotated]two\n[end]");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "[rotated]three\n[end]");
    weir_tail_destroy(&tail);
}

static void a_replaced_file_is_read_for_a_while_longer(void **state)
{
    (void)state;
    weir_tail_config config = {.path = "a.log", .linger_us = 500};
    weir_tail *tail = weir_tail_new(&config, positions);
    append("a.log", "one\n");
    expect(tail, "[opened]one\n[end]");
    assert_int_equal(weir_tail_deadline(tail), -1);
    assert_int_equal(rename("a.log", "a.log.1"), 0);
    append("a.log", "two\n");
    assert_int_equal(weir_tail_check(tail, 1000), WEIR_TAIL_DATA);
    assert_int_equal(weir_tail_deadline(tail), 1500);
    expect_at(tail, 1000, "[end]");
    append("a.log.1", "late\n");
    expect_at(tail, 1499, "late\n[end]");
    expect_at(tail, 1500, "[rotated]two\n[end]");
    assert_int_equal(weir_tail_deadline(tail), -1);
    weir_tail_destroy(&tail);
}

static void a_rotated_file_that_still_matches_is_not_read_twice(void **state)
{
    (void)state;
    append("a.log", "one\n");
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[opened]one\n[end]");
    assert_int_equal(rename("a.log", "a.log.1"), 0);
    append("a.log.1", "two\n");
    weir_tail *sibling = open_tail("a.log.1", false);
    expect(sibling, "[taken]");
    append("a.log", "three\n");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "two\n[rotated]three\n[end]");
    append("a.log.1", "late\n");
    expect(sibling, "[opened]late\n[end]");
    weir_tail_destroy(&tail);
    weir_tail_destroy(&sibling);
    tail = open_tail("a.log.1", false);
    expect(tail, "[opened]one\ntwo\nlate\n[end]");
    weir_tail_destroy(&tail);
}

static void truncation_begins_anew(void **state)
{
    (void)state;
    append("a.log", "one\ntwo\n");
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[opened]one\ntwo\n[end]");
    commit_all(tail);
    int old = weir_tail_slot(tail);
    assert_int_equal(truncate("a.log", 0), 0);
    append("a.log", "three\n");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "[truncated]three\n[end]");
    assert_int_equal(weir_positions_commit(positions, old, 8), WEIR_ENOTFOUND);
    weir_tail_destroy(&tail);
    tail = open_tail("a.log", false);
    expect(tail, "[opened]three\n[end]");
    assert_int_equal(truncate("a.log", 0), 0);
    expect(tail, "[truncated][end]");
    append("a.log", "x");
    expect(tail, "x[end]");
    weir_tail_destroy(&tail);
}

static void truncation_is_seen_though_the_file_has_grown_beyond(void **state)
{
    (void)state;
    append("a.log", "one\n");
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[opened]one\n[end]");
    assert_int_equal(truncate("a.log", 0), 0);
    append("a.log", "four five\n");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "[truncated]four five\n[end]");
    commit_all(tail);
    weir_tail_destroy(&tail);
    assert_int_equal(truncate("a.log", 0), 0);
    append("a.log", "other bytes by the time of the start\n");
    tail = open_tail("a.log", true);
    expect(tail, "[opened]other bytes by the time of the start\n[end]");
    weir_tail_destroy(&tail);
}

static void a_fingerprint_grows_with_its_file(void **state)
{
    (void)state;
    append("a.log", "");
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[opened][end]");
    append("a.log", "some bytes\n");
    expect(tail, "some bytes\n[end]");
    commit_all(tail);
    weir_tail_destroy(&tail);
    assert_int_equal(truncate("a.log", 0), 0);
    append("a.log", "a new file with the old inode\n");
    tail = open_tail("a.log", false);
    expect(tail, "[opened]a new file with the old inode\n[end]");
    weir_tail_destroy(&tail);
}

static void a_vanished_path_is_waited_for(void **state)
{
    (void)state;
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[gone]");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_GONE);
    assert_int_equal(weir_tail_slot(tail), -1);
    append("a.log", "one\n");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "[opened]one\n[end]");
    int writer = open("a.log", O_WRONLY | O_APPEND);
    unlink("a.log");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_GONE);
    assert_int_equal(write(writer, "two\n", 4), 4);
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "two\n[end]");
    append("a.log", "three\n");
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
    expect(tail, "[rotated]three\n[end]");
    close(writer);
    weir_tail_destroy(&tail);
}

static void the_slot_of_a_deleted_file_is_free_again(void **state)
{
    (void)state;
    weir_tail *tail = open_tail("a.log", false);
    append("a.log", "0\n");
    expect(tail, "[opened]0\n[end]");
    for (char i = '1'; i <= '9'; i++) {
        char line[] = {i, '\n', 0}, expected[32];
        unlink("a.log");
        append("a.log", line);
        assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_DATA);
        snprintf(expected, sizeof expected, "[rotated]%s[end]", line);
        expect(tail, expected);
    }
    weir_file_id id;
    const char *name;
    uint64_t offset;
    int cursor = 0, count = 0;
    while (weir_positions_next(positions, &cursor, &id, &name, &offset))
        count++;
    assert_int_equal(count, 1);
    weir_tail_destroy(&tail);
}

static void only_regular_files_are_followed(void **state)
{
    (void)state;
    assert_int_equal(mkdir("folder", 0700), 0);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    weir_tail *tail = open_tail("folder", false);
    expect(tail, "[error]");
    assert_string_equal(weir_tail_error(tail),
                        "folder is a folder; name its files, such as folder/*");
    weir_tail_destroy(&tail);
    tail = open_tail("pipe", false);
    expect(tail, "[error]");
    assert_non_null(strstr(weir_tail_error(tail), "a pipe"));
    unlink("pipe");
    append("pipe", "now a file\n");
    expect(tail, "[opened]now a file\n[end]");
    weir_tail_destroy(&tail);
}

static void an_unreadable_file_is_tried_again(void **state)
{
    (void)state;
    if (geteuid() == 0) {
        print_message("skipped: root can read every file\n");
        skip();
    }
    append("a.log", "one\n");
    assert_int_equal(chmod("a.log", 0), 0);
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[error]");
    assert_string_equal(weir_tail_error(tail), "cannot open a.log: Permission denied");
    assert_int_equal(chmod("a.log", 0600), 0);
    expect(tail, "[opened]one\n[end]");
    weir_tail_destroy(&tail);
}

/*  As an unreadable file, but also for root.                                  */
static void a_path_that_cannot_be_found_is_tried_again(void **state)
{
    (void)state;
    assert_int_equal(symlink("a.log", "a.log"), 0);
    weir_tail *tail = open_tail("a.log", false);
    expect(tail, "[error]");
    assert_non_null(strstr(weir_tail_error(tail), "cannot find a.log: "));
    unlink("a.log");
    append("a.log", "one\n");
    expect(tail, "[opened]one\n[end]");
    unlink("a.log");
    assert_int_equal(symlink("a.log", "a.log"), 0);
    assert_int_equal(weir_tail_check(tail, 0), WEIR_TAIL_ERROR);
    expect(tail, "[end]");
    weir_tail_destroy(&tail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ROW(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        ROW(growth_is_read),
        ROW(reading_resumes_at_the_commit),
        ROW(an_unknown_file_may_begin_at_its_last_line),
        ROW(rotation_reads_the_old_file_to_its_end),
        ROW(two_rotations_in_a_row_lose_nothing),
        ROW(a_replaced_file_is_read_for_a_while_longer),
        ROW(a_rotated_file_that_still_matches_is_not_read_twice),
        ROW(truncation_begins_anew),
        ROW(truncation_is_seen_though_the_file_has_grown_beyond),
        ROW(a_fingerprint_grows_with_its_file),
        ROW(a_vanished_path_is_waited_for),
        ROW(the_slot_of_a_deleted_file_is_free_again),
        ROW(only_regular_files_are_followed),
        ROW(an_unreadable_file_is_tried_again),
        ROW(a_path_that_cannot_be_found_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
