/*  help_server: a server that a test runs for itself, as a process: started, paused,
    killed and started again with the same arguments. It dies with the test.

        help_server *server = help_server_start(argv, "/tmp/x/log");
        help_server_wait(server, answers, arg);
        ..
        help_server_destroy(&server);                                               */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct help_server help_server;

/*  Whether such a program is in PATH.                                              */
bool help_server_is_there(const char *program);

/*  argv ends with NULL, and its program is looked for in PATH; what it says is appended
    to the file `log`. All is copied. NULL: it cannot be started.                      */
help_server *help_server_start(const char *const *argv, const char *log);

/*  Looks every few ms until it is ready; false: it has ended, or was not within a minute;
    its log is printed then.                                                        */
bool help_server_wait(help_server *self, bool (*ready)(void *arg), void *arg);

pid_t help_server_pid(const help_server *self); // 0: it does not run

/*  SIGSTOP, once that holds; SIGCONT.                                              */
void help_server_pause(help_server *self);
void help_server_resume(help_server *self);

/*  SIGKILL; SIGTERM. It is gone when these return.                                 */
void help_server_kill(help_server *self);
void help_server_end(help_server *self);

/*  Once it is gone. False: it cannot be started.                                   */
bool help_server_again(help_server *self);

/*  Kills it, however it is; NULL is accepted.                                      */
void help_server_destroy(help_server **self_p);

/*  A port of the loopback that nobody uses now, and nobody is given who does not choose:
    it is free for the server while that does not run, too.                          */
uint16_t help_server_port(void);
