/*  worker: one thread of an engine. It takes tasks in order, runs filters, function
    and outlets over their records, and gives the tasks back with what came of them. */
#pragma once
#include <pthread.h>
#include "actors/engine.h"

/*  Part of an input block, to be worked on by one worker.                     */
typedef struct weir_task {
    struct weir_task *next;
    void *job;                // the engine's
    weir_selection selection; // which records; with no picks: the whole block
    /*  What came of it.                                                       */
    weir_block **blocks; // outputs in order, owned
    int *outlets;        // of each
    size_t block_count, block_capacity;
    weir_fates fates;
    weir_dead *dead, **dead_end;
    weir_report failure; // a stop
} weir_task;

weir_task *weir_task_new(void *job);
void weir_task_destroy(weir_task **self_p);

/*  A first-in first-out of tasks between two threads. It wakes its reader by a
    condition and, if it has one, by an eventfd.                               */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    weir_task *first, *last;
    size_t count;
    int eventfd; // -1: none
    bool closed;
} weir_task_queue;

void weir_task_queue_init(weir_task_queue *self, int eventfd);
void weir_task_queue_fini(weir_task_queue *self); // destroys what is left
void weir_task_queue_put(weir_task_queue *self, weir_task **task_p);
weir_task *weir_task_queue_take(weir_task_queue *self); // NULL: empty
weir_task *weir_task_queue_wait(weir_task_queue *self); // blocks; NULL: closed
void weir_task_queue_close(weir_task_queue *self);
size_t weir_task_queue_count(weir_task_queue *self);

typedef struct weir_worker weir_worker;

/*  Starts the thread and waits until its program is open (or has failed to). done is
    where finished tasks go; config, vitals and done outlive the worker.       */
weir_err weir_worker_start(weir_worker **self_p, const weir_engine_config *config,
                           const weir_node *node, weir_task_queue *done,
                           weir_report *report);
void weir_worker_put(weir_worker *self, weir_task **task_p);
size_t weir_worker_load(weir_worker *self); // tasks that wait for it

/*  Ends the thread; what it had not finished is destroyed.                    */
void weir_worker_stop(weir_worker **self_p);
