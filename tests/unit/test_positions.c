#include "runtime/positions.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { copy_size = 512, page_size = 4096 };

typedef struct {
    uint8_t *data;
    size_t size;
} image;

static char folder[64];
static char state_path[96], log_path[96], other_path[96];

static int set_up(void **state)
{
    (void)state;
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; // for speed
    snprintf(folder, sizeof folder, "%s/test_positions.XXXXXX", memory);
    if (!mkdtemp(folder)) return -1;
    snprintf(state_path, sizeof state_path, "%s/positions", folder);
    snprintf(log_path, sizeof log_path, "%s/a.log", folder);
    snprintf(other_path, sizeof other_path, "%s/b.log", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(state_path);
    unlink(log_path);
    unlink(other_path);
    return rmdir(folder);
}

static void write_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

static image read_file(const char *path)
{
    int fd = open(path, O_RDONLY);
    struct stat info;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &info), 0);
    image seen = {malloc((size_t)info.st_size + 1), (size_t)info.st_size};
    assert_int_equal(read(fd, seen.data, seen.size), seen.size);
    close(fd);
    return seen;
}

static weir_positions *open_state(void)
{
    weir_positions *positions;
    weir_report report = {0};
    weir_err err = weir_positions_open(&positions, state_path, &report);
    if (err) fail_msg("%s", report.text);
    assert_string_equal(report.text, "");
    return positions;
}

static int open_log(const char *path, weir_file_id *id)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(weir_file_identify(id, fd), WEIR_OK);
    return fd;
}

static int add(weir_positions *positions, const char *path, uint64_t offset)
{
    weir_file_id id;
    int slot, fd = open_log(path, &id);
    assert_int_equal(weir_positions_add(positions, &id, path, offset, &slot), WEIR_OK);
    close(fd);
    return slot;
}

/*  The committed position of a file, -1 if it is not known.                   */
static int64_t position_of(weir_positions *positions, const char *path)
{
    weir_file_id id;
    uint64_t offset;
    int fd = open_log(path, &id);
    int slot = weir_positions_find(positions, fd, &id, &offset);
    close(fd);
    return slot < 0 ? -1 : (int64_t)offset;
}

static void commits_survive_reopening(void **state)
{
    (void)state;
    write_file(log_path, "one\ntwo\n", 8);
    weir_positions *positions = open_state();
    assert_int_equal(position_of(positions, log_path), -1);
    assert_false(weir_positions_knows(positions, log_path));
    int slot = add(positions, log_path, 0);
    for (uint64_t offset = 1; offset <= 8; offset++)
        assert_int_equal(weir_positions_commit(positions, slot, offset), WEIR_OK);
    assert_int_equal(weir_positions_sync(positions), WEIR_OK);
    weir_positions_close(&positions);
    assert_null(positions);
    positions = open_state();
    assert_int_equal(position_of(positions, log_path), 8);
    assert_true(weir_positions_knows(positions, log_path));
    weir_positions_close(&positions);
}

static void a_commit_needs_no_orderly_end(void **state)
{
    (void)state;
    write_file(log_path, "one\ntwo\n", 8);
    weir_positions *positions = open_state();
    int slot = add(positions, log_path, 0);
    assert_int_equal(weir_positions_commit(positions, slot, 4), WEIR_OK);
    image seen = read_file(state_path);
    weir_positions_close(&positions);
    write_file(state_path, seen.data, seen.size);
    free(seen.data);
    positions = open_state();
    assert_int_equal(position_of(positions, log_path), 4);
    weir_positions_close(&positions);
}

/*  Writes `before` with the bytes up to `torn` of what differs in `after`.    */
static void write_torn(const image *before, const image *after, size_t torn)
{
    image mixed = {malloc(after->size), after->size};
    memset(mixed.data, 0, mixed.size);
    memcpy(mixed.data, before->data, before->size);
    memcpy(mixed.data, after->data, torn);
    write_file(state_path, mixed.data, mixed.size);
    free(mixed.data);
}

static void a_torn_commit_leaves_the_old_or_the_new_position(void **state)
{
    (void)state;
    write_file(log_path, "one\ntwo\n", 8);
    weir_positions *positions = open_state();
    int slot = add(positions, log_path, 1);
    size_t fresh = 0;
    for (uint64_t round = 0; round < 4; round++) {
        uint64_t old = 0x0102030405060708 * round + 1, new = old + 0x0101010101010101;
        assert_int_equal(weir_positions_commit(positions, slot, old), WEIR_OK);
        image before = read_file(state_path);
        assert_int_equal(weir_positions_commit(positions, slot, new), WEIR_OK);
        image after = read_file(state_path);
        weir_positions_close(&positions);
        size_t first = 0;
        while (before.data[first] == after.data[first])
            first++;
        for (size_t torn = first - first % copy_size; torn <= first + copy_size; torn++) {
            write_torn(&before, &after, torn);
            positions = open_state();
            int64_t seen = position_of(positions, log_path);
            assert_true(seen == (int64_t)old || seen == (int64_t) new);
            fresh += seen == (int64_t) new;
            weir_positions_close(&positions);
        }
        write_file(state_path, after.data, after.size);
        positions = open_state();
        weir_file_id id;
        uint64_t offset;
        int fd = open_log(log_path, &id);
        slot = weir_positions_find(positions, fd, &id, &offset);
        close(fd);
        free(before.data);
        free(after.data);
    }
    assert_true(fresh > 0);
    weir_positions_close(&positions);
}

static void a_torn_addition_leaves_no_slot_or_the_slot(void **state)
{
    (void)state;
    write_file(log_path, "one\n", 4);
    write_file(other_path, "another\n", 8);
    weir_positions *positions = open_state();
    image before = read_file(state_path);
    add(positions, log_path, 3);
    image after = read_file(state_path);
    weir_positions_close(&positions);
    for (size_t torn = before.size; torn <= after.size; torn += torn % 16 ? 1 : 5) {
        write_torn(&before, &after, torn);
        positions = open_state();
        int64_t seen = position_of(positions, log_path);
        assert_true(seen == -1 || seen == 3);
        add(positions, other_path, 7);
        assert_int_equal(position_of(positions, other_path), 7);
        assert_int_equal(position_of(positions, log_path), seen);
        weir_positions_close(&positions);
    }
    free(before.data);
    free(after.data);
}

static void an_interrupted_creation_is_begun_again(void **state)
{
    (void)state;
    weir_positions *positions = open_state();
    weir_positions_close(&positions);
    image whole = read_file(state_path);
    assert_int_equal(whole.size, page_size);
    for (size_t size = 8; size < page_size; size += size < 40 ? 1 : 101) {
        write_file(state_path, whole.data, size);
        positions = open_state();
        weir_positions_close(&positions);
        image again = read_file(state_path);
        assert_int_equal(again.size, whole.size);
        assert_memory_equal(again.data, whole.data, whole.size);
        free(again.data);
    }
    free(whole.data);
}

static void a_second_opener_is_refused(void **state)
{
    (void)state;
    weir_positions *positions = open_state(), *second;
    weir_report report = {0};
    assert_int_equal(weir_positions_open(&second, state_path, &report), WEIR_EREFUSED);
    assert_null(second);
    assert_string_equal(report.where, state_path);
    assert_non_null(strstr(report.text, "in use"));
    weir_positions_close(&positions);
    positions = open_state();
    weir_positions_close(&positions);
}

static void expect_refused(const image *bytes, const char *word)
{
    weir_positions *positions;
    weir_report report = {0};
    write_file(state_path, bytes->data, bytes->size);
    assert_int_equal(weir_positions_open(&positions, state_path, &report),
                     WEIR_EMALFORMED);
    assert_null(positions);
    if (!strstr(report.text, word)) fail_msg("no '%s': %s", word, report.text);
    image seen = read_file(state_path);
    assert_int_equal(seen.size, bytes->size);
    assert_memory_equal(seen.data, bytes->data, seen.size);
    free(seen.data);
}

static void foreign_files_are_refused_and_untouched(void **state)
{
    (void)state;
    image text = {(uint8_t *)"hello\n", 6};
    expect_refused(&text, "no state file");
    image part = {(uint8_t *)"weir", 4};
    expect_refused(&part, "no state file");
    write_file(log_path, "one\n", 4);
    unlink(state_path);
    weir_positions *positions = open_state();
    add(positions, log_path, 0);
    weir_positions_close(&positions);
    image state_file = read_file(state_path);
    state_file.data[8] = 2;
    expect_refused(&state_file, "version 2");
    state_file.data[8] = 1;
    state_file.data[17] ^= 1;
    expect_refused(&state_file, "damaged");
    state_file.data[17] ^= 1;
    state_file.size = page_size + 1;
    write_file(state_path, state_file.data, state_file.size);
    positions = open_state();
    weir_positions_close(&positions);
    free(state_file.data);
}

static void a_folder_that_is_missing_is_reported(void **state)
{
    (void)state;
    weir_positions *positions;
    weir_report report = {0};
    assert_int_equal(weir_positions_open(&positions, "/nowhere/at/all", &report),
                     WEIR_ESYS);
    assert_int_equal(errno, ENOENT);
    assert_non_null(strstr(report.text, "No such file"));
}

static void a_damaged_slot_is_reported_and_the_others_live(void **state)
{
    (void)state;
    write_file(log_path, "one\n", 4);
    write_file(other_path, "another\n", 8);
    weir_positions *positions = open_state();
    add(positions, log_path, 4);
    add(positions, other_path, 8);
    weir_positions_close(&positions);
    image bytes = read_file(state_path);
    bytes.data[page_size + 48] ^= 1;
    bytes.data[2 * page_size + 48] ^= 1;
    write_file(state_path, bytes.data, bytes.size);
    free(bytes.data);
    weir_report report = {0};
    assert_int_equal(weir_positions_open(&positions, state_path, &report), WEIR_OK);
    assert_non_null(strstr(report.text, "1 positions are lost"));
    assert_int_equal(weir_positions_damaged(positions), 1);
    assert_int_equal(position_of(positions, log_path), -1);
    assert_int_equal(position_of(positions, other_path), 8);
    weir_positions_close(&positions);
}

static void a_renamed_file_keeps_its_position(void **state)
{
    (void)state;
    write_file(log_path, "one\ntwo\n", 8);
    weir_positions *positions = open_state();
    add(positions, log_path, 4);
    assert_int_equal(rename(log_path, other_path), 0);
    write_file(log_path, "new\n", 4);
    assert_int_equal(position_of(positions, other_path), 4);
    assert_int_equal(position_of(positions, log_path), -1);
    weir_positions_close(&positions);
}

static void a_grown_file_is_the_same_and_a_rewritten_one_is_not(void **state)
{
    (void)state;
    write_file(log_path, "one\n", 4);
    weir_positions *positions = open_state();
    int slot = add(positions, log_path, 4);
    int fd = open(log_path, O_RDWR | O_APPEND);
    assert_int_equal(write(fd, "two\n", 4), 4);
    assert_int_equal(position_of(positions, log_path), 4);
    assert_int_equal(weir_positions_refresh(positions, slot, fd), WEIR_OK);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(write(fd, "one\nTWO\n", 8), 8);
    assert_int_equal(position_of(positions, log_path), -1);
    assert_int_equal(weir_positions_refresh(positions, slot, fd), WEIR_EMALFORMED);
    close(fd);
    weir_positions_close(&positions);
}

static void late_commits_do_not_move_a_new_file(void **state)
{
    (void)state;
    write_file(log_path, "one\n", 4);
    weir_positions *positions = open_state();
    int old = add(positions, log_path, 4);
    write_file(log_path, "ONE\n", 4);
    int new = add(positions, log_path, 0);
    assert_int_not_equal(old, new);
    assert_int_equal(weir_positions_commit(positions, old, 999), WEIR_ENOTFOUND);
    assert_int_equal(position_of(positions, log_path), 0);
    assert_int_equal(weir_positions_forget(positions, new), WEIR_OK);
    assert_int_equal(weir_positions_commit(positions, new, 1), WEIR_ENOTFOUND);
    assert_int_equal(position_of(positions, log_path), -1);
    assert_int_equal(weir_positions_commit(positions, -1, 1), WEIR_ENOTFOUND);
    assert_int_equal(weir_positions_commit(positions, 1 << 17, 1), WEIR_ENOTFOUND);
    weir_positions_close(&positions);
    image bytes = read_file(state_path);
    assert_int_equal(bytes.size, 3 * page_size);
    free(bytes.data);
}

static void a_second_reader_goes_on_where_the_first_left_off(void **state)
{
    (void)state;
    write_file(log_path, "one\ntwo\n", 8);
    weir_positions *positions = open_state();
    int slot = add(positions, log_path, 0);
    assert_true(weir_positions_claim(positions, slot));
    assert_false(weir_positions_claim(positions, slot));
    assert_int_equal(weir_positions_commit(positions, slot, 4), WEIR_OK);
    uint64_t read_to = 8;
    weir_positions_release(positions, slot, &read_to);
    assert_int_equal(position_of(positions, log_path), 8);
    assert_true(weir_positions_claim(positions, slot));
    weir_positions_release(positions, slot, NULL);
    assert_int_equal(position_of(positions, log_path), 4);
    weir_positions_close(&positions);
}

static void slots_are_listed(void **state)
{
    (void)state;
    write_file(log_path, "one\n", 4);
    weir_positions *positions = open_state();
    char name[400];
    for (int i = 0; i < 20; i++) {
        weir_file_id id = {.device = 1, .inode = (uint64_t)i};
        int slot;
        snprintf(name, sizeof name, "%0300d", i);
        assert_int_equal(weir_positions_add(positions, &id, name, (uint64_t)i, &slot),
                         WEIR_OK);
        if (i % 2) assert_int_equal(weir_positions_forget(positions, slot), WEIR_OK);
    }
    weir_positions_close(&positions);
    positions = open_state();
    weir_file_id id;
    const char *seen;
    uint64_t offset;
    int cursor = 0, found = 0;
    while (weir_positions_next(positions, &cursor, &id, &seen, &offset)) {
        assert_int_equal(id.inode, 2 * found);
        assert_int_equal(offset, 2 * found);
        assert_int_equal(strlen(seen), 255);
        found++;
    }
    assert_int_equal(found, 10);
    weir_positions_close(&positions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ROW(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        ROW(commits_survive_reopening),
        ROW(a_commit_needs_no_orderly_end),
        ROW(a_torn_commit_leaves_the_old_or_the_new_position),
        ROW(a_torn_addition_leaves_no_slot_or_the_slot),
        ROW(an_interrupted_creation_is_begun_again),
        ROW(a_second_opener_is_refused),
        ROW(foreign_files_are_refused_and_untouched),
        ROW(a_folder_that_is_missing_is_reported),
        ROW(a_damaged_slot_is_reported_and_the_others_live),
        ROW(a_renamed_file_keeps_its_position),
        ROW(a_grown_file_is_the_same_and_a_rewritten_one_is_not),
        ROW(late_commits_do_not_move_a_new_file),
        ROW(a_second_reader_goes_on_where_the_first_left_off),
        ROW(slots_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
