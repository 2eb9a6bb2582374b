/*  thread: threads of a library that lives in somebody else's program.            */
#pragma once
#include <pthread.h>

/*  Starts one that takes no signals: a host's are not its to take. An errno, 0: it runs.
 */
int weir_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);
