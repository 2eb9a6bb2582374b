#include "tests/unit/help_server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { patience_s = 60 };

struct help_server {
    char **argv; // owned
    char *log;
    pid_t pid; // 0: it does not run
};

static char *copy_text(const char *text)
{
    char *copy = strdup(text);
    if (!copy) abort();
    return copy;
}

bool help_server_is_there(const char *program)
{
    char *paths = copy_text(getenv("PATH") ? getenv("PATH") : ""), *rest = paths;
    bool is = false;
    for (char *path; !is && (path = strsep(&rest, ":"));) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, program);
        is = access(file, X_OK) == 0;
    }
    free(paths);
    return is;
}

enum { port_min = 20000 }; // below are those of the black-box tests

/*  From this one on the kernel gives ports to whoever does not choose: connections that
    go out, listeners of other tests. A server that is away would lose one of those.   */
static unsigned first_given_port(void)
{
    unsigned first = 32768;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    if (file && fscanf(file, "%u", &first) != 1) first = 32768;
    if (file) fclose(file);
    return first;
}

/*  Binds to it, 0: to any, and lets go; 0: that cannot be done.                      */
static uint16_t try_port(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_free = fd >= 0 && !bind(fd, (struct sockaddr *)&address, size) &&
                   !getsockname(fd, (struct sockaddr *)&address, &size);
    if (fd >= 0) close(fd);
    return is_free ? ntohs(address.sin_port) : 0;
}

/*  Processes begin anywhere; one goes on from there, and has none twice.             */
uint16_t help_server_port(void)
{
    static unsigned next;
    unsigned first_given = first_given_port();
    unsigned count = first_given > port_min ? first_given - port_min : 0;
    uint16_t port = 0;
    if (!next && getrandom(&next, sizeof next, 0) != sizeof next) abort();
    for (unsigned i = 0; !port && i < count; i++)
        port = try_port(port_min + next++ % count);
    if (!port) port = try_port(0);
    if (!port) abort();
    return port;
}

/* --- Running ----------------------------------------------------------------------- */

/*  In the child: nothing but calls that a fork of a threaded program may make.      */
static void become(const help_server *self, int log, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(log, 1) < 0 || dup2(log, 2) < 0) _exit(126);
    close_range(3, ~0u, 0); // it keeps no connection of ours open
    execvp(self->argv[0], self->argv);
    _exit(127);
}

bool help_server_again(help_server *self)
{
    int log = open(self->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pid_t parent = getpid();
    if (log < 0 || self->pid) return false;
    self->pid = fork();
    if (self->pid == 0) become(self, log, parent);
    close(log);
    if (self->pid < 0) self->pid = 0;
    return self->pid != 0;
}

help_server *help_server_start(const char *const *argv, const char *log)
{
    size_t count = 0;
    while (argv[count])
        count++;
    help_server *self = calloc(1, sizeof *self);
    if (!self || !(self->argv = calloc(count + 1, sizeof *self->argv))) abort();
    for (size_t i = 0; i < count; i++)
        self->argv[i] = copy_text(argv[i]);
    self->log = copy_text(log);
    if (!help_server_again(self)) help_server_destroy(&self);
    return self;
}

static void print_log(const help_server *self)
{
    char line[512];
    FILE *file = fopen(self->log, "r");
    while (file && fgets(line, sizeof line, file))
        fprintf(stderr, "%s: %s", self->argv[0], line);
    if (file) fclose(file);
}

bool help_server_wait(help_server *self, bool (*ready)(void *arg), void *arg)
{
    static const struct timespec look = {.tv_nsec = 2000000};
    struct timespec now, start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (now = start; now.tv_sec - start.tv_sec < patience_s;) {
        if (ready(arg)) return true;
        if (self->pid && waitpid(self->pid, NULL, WNOHANG) == self->pid) self->pid = 0;
        if (!self->pid) break;
        nanosleep(&look, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    print_log(self);
    return false;
}

pid_t help_server_pid(const help_server *self)
{
    return self->pid;
}

void help_server_pause(help_server *self)
{
    int status;
    if (!self->pid || kill(self->pid, SIGSTOP)) return;
    while (waitpid(self->pid, &status, WUNTRACED) < 0 && errno == EINTR)
        ;
    if (!WIFSTOPPED(status)) self->pid = 0;
}

void help_server_resume(help_server *self)
{
    if (self->pid) kill(self->pid, SIGCONT);
}

static void end_by(help_server *self, int signal)
{
    if (!self->pid) return;
    kill(self->pid, signal);
    while (waitpid(self->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    self->pid = 0;
}

void help_server_kill(help_server *self)
{
    end_by(self, SIGKILL);
}

void help_server_end(help_server *self)
{
    end_by(self, SIGTERM);
}

void help_server_destroy(help_server **self_p)
{
    help_server *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    help_server_kill(self);
    for (char **at = self->argv; *at; at++)
        free(*at);
    free(self->argv);
    free(self->log);
    free(self);
}
