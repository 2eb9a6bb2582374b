#include "lua/guard.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const int crashes[] = {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGILL, 0};
static const int orders[] = {SIGINT, SIGTERM, SIGHUP, 0};

static pid_t child; // for the handler

static void hand_on(int number)
{
    int saved = errno;
    if (child > 0) kill(child, number);
    errno = saved;
}

static bool is_crash(int number)
{
    for (int i = 0; crashes[i]; i++)
        if (crashes[i] == number) return true;
    return false;
}

/*  A crash of it is told by a sentence, not by a core or a sanitizer.              */
static void be_guarded(pid_t parent)
{
    for (int i = 0; crashes[i]; i++)
        signal(crashes[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(WEIR_EXIT_FAILED);
}

static int judge(int status, const char *what)
{
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (is_crash(WTERMSIG(status)))
        fprintf(stderr,
                "weir: %s: it is damaged: reading it ended in SIG%s; `weir bus verify` "
                "tells more\n",
                what, sigabbrev_np(WTERMSIG(status)));
    return WEIR_EXIT_FAILED;
}

/*  Signals are blocked until the child is known to the handler.                    */
int weir_guard(int (*run)(const weir_command_line *), const weir_command_line *line,
               const char *what)
{
    int status = 0;
    sigset_t set, before;
    pid_t parent = getpid();
    sigemptyset(&set);
    for (int i = 0; orders[i]; i++)
        sigaddset(&set, orders[i]);
    sigprocmask(SIG_BLOCK, &set, &before);
    child = fork();
    if (child == 0) {
        be_guarded(parent);
        sigprocmask(SIG_SETMASK, &before, NULL);
        exit(run(line));
    }
    if (child < 0) {
        fprintf(stderr, "weir: cannot start a process: %s\n", strerror(errno));
        return WEIR_EXIT_FAILED;
    }
    for (int i = 0; orders[i]; i++)
        sigaction(orders[i], &(struct sigaction){.sa_handler = hand_on}, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return judge(status, what);
}
