#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "actors/disk_walk.h"

/*  So that a crash is a crash, whatever the host does about it, and nobody sees it. */
static void be_expendable(void)
{
    static const int signals[] = {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGPIPE};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    int nowhere = open("/dev/null", O_RDWR);
    if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
}

weir_err weir_disk_child_start(weir_disk_child *self, void (*work)(void *arg, int fd),
                               void *arg, weir_report *report)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return weir_report_set(report, WEIR_ESYS, NULL, "cannot make a pipe: %s",
                               strerror(errno));
    self->pid = fork();
    if (self->pid == 0) {
        close(fds[0]);
        be_expendable();
        work(arg, fds[1]);
        _exit(0);
    }
    int saved = errno;
    close(fds[1]);
    self->fd = fds[0];
    if (self->pid > 0) return WEIR_OK;
    close(self->fd);
    errno = saved;
    return weir_report_set(report, WEIR_ESYS, NULL, "cannot start a process: %s",
                           strerror(errno));
}

bool weir_disk_child_read(weir_disk_child *self, void *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(self->fd, (char *)to + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

void weir_disk_child_end(weir_disk_child *self, bool kill_it, char text[64])
{
    int status = 0;
    if (kill_it) kill(self->pid, SIGKILL);
    close(self->fd);
    while (waitpid(self->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    text[0] = 0;
    if (WIFSIGNALED(status))
        snprintf(text, 64, "reading it ended in SIG%s", sigabbrev_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status))
        snprintf(text, 64, "reading it failed");
}

void weir_disk_child_tell(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        if (n < 0 && errno != EINTR) _exit(1);
        if (n > 0) done += (size_t)n;
    }
}
