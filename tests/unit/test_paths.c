#include "tests/unit/help_folder.h"
#include "actors/paths.h"
#include "runtime/buffer.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static void make_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static weir_paths *open_paths(const char *first, const char *second)
{
    weir_paths *paths;
    const char *patterns[] = {first, second};
    assert_int_equal(weir_paths_new(&paths, patterns, second ? 2 : 1, NULL), WEIR_OK);
    return paths;
}

/*  Scans, and compares the files and folders, each with a space behind it.    */
static void expect(weir_paths *paths, const char *files, const char *folders)
{
    weir_buffer seen = {0};
    assert_int_equal(weir_paths_scan(paths, NULL), WEIR_OK);
    for (size_t i = 0; i < weir_paths_files(paths); i++) {
        weir_buffer_printf(&seen, "%s ", weir_paths_file(paths, i));
        assert_true(weir_paths_has(paths, weir_paths_file(paths, i)));
    }
    weir_buffer_put_byte(&seen, 0);
    assert_string_equal((char *)seen.data, files);
    seen.size = 0;
    for (size_t i = 0; i < weir_paths_folders(paths); i++)
        weir_buffer_printf(&seen, "%s ", weir_paths_folder(paths, i));
    weir_buffer_put_byte(&seen, 0);
    assert_string_equal((char *)seen.data, folders);
    weir_buffer_fini(&seen);
}

static void files_are_sorted_and_come_once(void **state)
{
    (void)state;
    make_file("b.log");
    make_file("a.log");
    make_file("a.txt");
    assert_int_equal(mkdir("c.log", 0700), 0);
    assert_int_equal(mkfifo("d.log", 0600), 0);
    assert_int_equal(symlink("a.txt", "e.log"), 0);
    assert_int_equal(symlink("nothing", "f.log"), 0);
    weir_paths *paths = open_paths("*.log", "a.*");
    expect(paths, "a.log a.txt b.log e.log ", ". ");
    assert_false(weir_paths_has(paths, "c.log"));
    unlink("a.log");
    make_file("g.log");
    expect(paths, "a.txt b.log e.log g.log ", ". ");
    weir_paths_destroy(&paths);
    assert_null(paths);
}

static void folders_of_every_wildcard_are_watched(void **state)
{
    (void)state;
    assert_int_equal(mkdir("app", 0700), 0);
    assert_int_equal(mkdir("app/x", 0700), 0);
    assert_int_equal(mkdir("app/x/log", 0700), 0);
    assert_int_equal(mkdir("app/y", 0700), 0);
    make_file("app/z");
    make_file("app/x/log/1.log");
    weir_paths *paths = open_paths("app/*/log/*.log", NULL);
    expect(paths, "app/x/log/1.log ", "app app/x app/x/log app/y ");
    assert_int_equal(mkdir("app/y/log", 0700), 0);
    make_file("app/y/log/2.log");
    expect(paths, "app/x/log/1.log app/y/log/2.log ",
           "app app/x app/x/log app/y app/y/log ");
    weir_paths_destroy(&paths);
}

static void a_missing_folder_is_stood_for_by_the_one_above(void **state)
{
    (void)state;
    weir_paths *paths = open_paths("a/b/c.log", "/nowhere/at/all*");
    expect(paths, "", ". / ");
    assert_int_equal(mkdir("a", 0700), 0);
    expect(paths, "", "/ a ");
    assert_int_equal(mkdir("a/b", 0700), 0);
    make_file("a/b/c.log");
    expect(paths, "a/b/c.log ", "/ a/b ");
    weir_paths_destroy(&paths);
}

static void what_is_in_the_way_is_reported(void **state)
{
    (void)state;
    weir_report report = {0};
    assert_int_equal(mkdir("a", 0700), 0);
    make_file("b");
    weir_paths *paths = open_paths("a", "b");
    assert_int_equal(weir_paths_scan(paths, &report), WEIR_OK);
    assert_int_equal(report.err, WEIR_EINVAL);
    assert_string_equal(report.where, "a");
    assert_int_equal(weir_paths_files(paths), 1);
    weir_paths_destroy(&paths);
    const char *patterns[] = {""};
    assert_int_equal(weir_paths_new(&paths, patterns, 1, &report), WEIR_EINVAL);
    patterns[0] = "logs/";
    assert_int_equal(weir_paths_new(&paths, patterns, 1, &report), WEIR_EINVAL);
    assert_string_equal(report.text,
                        "'logs/' is a folder; name its files, such as logs/*");
    assert_null(paths);
}

static void an_unreadable_folder_is_reported(void **state)
{
    (void)state;
    if (geteuid() == 0) {
        print_message("skipped: root can read every folder\n");
        skip();
    }
    weir_report report = {0};
    assert_int_equal(mkdir("a", 0), 0);
    weir_paths *paths = open_paths("a/*", NULL);
    assert_int_equal(weir_paths_scan(paths, &report), WEIR_OK);
    assert_int_equal(report.err, WEIR_ESYS);
    weir_paths_destroy(&paths);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ROW(name) cmocka_unit_test_setup_teardown(name, enter_folder, leave_folder)
        ROW(files_are_sorted_and_come_once),
        ROW(folders_of_every_wildcard_are_watched),
        ROW(a_missing_folder_is_stood_for_by_the_one_above),
        ROW(what_is_in_the_way_is_reported),
        ROW(an_unreadable_folder_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
