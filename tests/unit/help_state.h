/*  help_state: what tests of a bus's state share: a folder for each test, opening, and
    how a refusal looks.

    Include it in one test program each; everything is static.                 */
#pragma once
#include "actors/bus_state.h"
#include "actors/bus_db.h"
#include "runtime/files.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { vnodes = 8 };

static char root[64], folder[96], identity_path[128], groups_path[128], lock_path[128];

static int set_up(void **state)
{
    (void)state;
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; // for speed
    snprintf(root, sizeof root, "%s/test_bus_state.XXXXXX", memory);
    if (!mkdtemp(root)) return -1;
    snprintf(folder, sizeof folder, "%s/bus/events", root);
    snprintf(identity_path, sizeof identity_path, "%s/identity", folder);
    snprintf(groups_path, sizeof groups_path, "%s/groups.mdb", folder);
    snprintf(lock_path, sizeof lock_path, "%s/lock", folder);
    return 0;
}

/*  Files of the state folder, removed on request.                                  */
static unsigned count_files(bool remove)
{
    unsigned count = 0;
    DIR *entries = opendir(folder);
    if (!entries) return 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (entry->d_name[0] == '.') continue;
        count++;
        if (remove) unlinkat(dirfd(entries), entry->d_name, 0);
    }
    closedir(entries);
    return count;
}

static int tear_down(void **state)
{
    (void)state;
    char parent[96];
    count_files(true);
    snprintf(parent, sizeof parent, "%s/bus", root);
    rmdir(folder);
    rmdir(parent);
    return rmdir(root);
}

static weir_bus_state *open_state(void)
{
    weir_bus_state *bus;
    weir_report report = {0};
    if (weir_bus_state_open(&bus, folder, vnodes, &report))
        fail_msg("%s: %s", report.where, report.text);
    return bus;
}

static inline void assert_refused(weir_err wanted, const char *where, const char *why)
{
    weir_bus_state *bus;
    weir_report report = {0};
    weir_err err = weir_bus_state_open(&bus, folder, vnodes, &report);
    if (err != wanted || strcmp(report.where, where) || !strstr(report.text, why))
        fail_msg("%d %s: %s", err, report.where, report.text);
    assert_null(bus);
}

static inline size_t read_all(const char *path, char **data)
{
    size_t size;
    unsigned mode;
    assert_int_equal(weir_read_file(path, 1 << 26, data, &size, &mode), WEIR_OK);
    return size;
}

static inline void write_all(const char *path, const void *data, size_t size)
{
    assert_int_equal(weir_replace_file(path, data, size, 0600, false), WEIR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
