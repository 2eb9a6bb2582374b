/*  help_folder: a fresh folder for each test, made and removed with all that is in it by
    functions that fit cmocka's set-up and tear-down.

    Include it in one test program each; everything is static.                      */
#pragma once
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static inline int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/weir-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int open_up(const char *path, const struct stat *st, int type,
                          struct FTW *at)
{
    (void)st, (void)at;
    if (type == FTW_D || type == FTW_DNR) chmod(path, 0700);
    return 0;
}

static inline int remove_one(const char *path, const struct stat *st, int type,
                             struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

/*  Folders that a test has locked are opened first.                                */
static inline int remove_folder(void **state)
{
    (void)state;
    nftw(folder, open_up, 8, FTW_PHYS);
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/*  The same for tests with relative paths: the folder is the working one.          */
static inline int enter_folder(void **state)
{
    return make_folder(state) == 0 && chdir(folder) == 0 ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    return chdir("/") == 0 && remove_folder(state) == 0 ? 0 : -1;
}
