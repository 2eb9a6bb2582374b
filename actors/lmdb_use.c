#include "actors/lmdb_use.h"
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "runtime/log.h"

static _Thread_local const char *volatile inside; // path; NULL: outside of LMDB

void weir_lmdb_enter(const char *path)
{
    inside = path;
}

void weir_lmdb_leave(void)
{
    inside = NULL;
}

/*  The folder of a store, or of a state: without data.mdb and what is above it, or
    without groups.mdb. */
static int folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) : (int)strlen(path);
}

/* --- Assertions -------------------------------------------------------------------- */

static void tell_assertion(MDB_env *env, const char *text)
{
    const char *path = "";
    mdb_env_get_path(env, &path);
    weir_log(
        WEIR_ERROR,
        "a file of LMDB is damaged path=%s error=\"%s\"; `weir bus verify %.*s` tells "
        "more, `weir bus repair %.*s NEW` copies what is good",
        path, text, folder_of(path), path, folder_of(path), path);
}

void weir_lmdb_watch(MDB_env *env)
{
    mdb_env_set_assert(env, tell_assertion);
}

/* --- Signals ----------------------------------------------------------------------- */

static const int signals[] = {SIGSEGV, SIGBUS};
static struct sigaction former[2];

static void put(char text[], size_t size, size_t *at, const char *part, size_t length)
{
    if (length > size - *at) length = size - *at;
    memcpy(text + *at, part, length);
    *at += length;
}

/*  With functions alone that a signal handler may call.                             */
static void tell(const char *path, const char *signal_name)
{
    char text[1024];
    size_t at = 0, folder = (size_t)folder_of(path);
    const struct {
        const char *part;
        size_t length;
    } parts[] = {{"weir: ", 6},
                 {path, strlen(path)},
                 {": using it ended in ", 20},
                 {signal_name, strlen(signal_name)},
                 {": it is damaged, or its disk fails; `weir bus verify ", 53},
                 {path, folder},
                 {"` tells more\n", 13}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        put(text, sizeof text, &at, parts[i].part, parts[i].length);
    if (write(STDERR_FILENO, text, at) < 0) return;
}

/*  The instruction runs again under the former action, which ends the process; a signal
    that was sent comes again.                                                      */
static void crash(int number, siginfo_t *info, void *context)
{
    const char *path = inside;
    (void)context;
    inside = NULL;
    if (path) tell(path, number == SIGBUS ? "SIGBUS" : "SIGSEGV");
    sigaction(number, &former[number == SIGBUS], NULL);
    if (info->si_code <= 0) raise(number);
}

void weir_lmdb_tell_crashes(void)
{
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i],
                  &(struct sigaction){.sa_sigaction = crash, .sa_flags = SA_SIGINFO},
                  &former[i]);
}
