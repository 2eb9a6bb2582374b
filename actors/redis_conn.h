/*  redis_conn: one connection to a Redis server that is kept up: requests go out one
    behind the other without waiting, their answers come in the same order.

        down --due--> looking up --> connecting --> greeting --> ready
          ^                 AUTH, SELECT, PING              |
          '--- wait <-- lost, or nothing moves for `timeout` '

    Belongs to one thread and never blocks it; who owns it polls its descriptor. A ready
    one that is silent for 5 s is asked by PING whether it is still there.          */
#pragma once
#include "actors/batcher.h"
#include "actors/redis_resp.h"
#include "actors/redis_url.h"

typedef struct weir_redis_conn weir_redis_conn;

/*  The answer to a request, lent; NULL: the connection was lost before it came. It may
    not be used for a request then.                                                 */
typedef void(weir_redis_answer)(void *arg, const redisReply *reply);

typedef struct {
    const weir_redis_url *url; // lent
    const char *name;          // what it is for, in messages; lent
    int64_t timeout_us;
    uint64_t nonce;            // spreads the waits between attempts
    weir_retry_wait wait;      // between them; zeroed: 100 ms to 2 s
    void (*opened)(void *arg); // it is ready
    void (*ended)(void *arg);  // an attempt has failed, or it was lost: after the answers
                               // of its requests
    void *arg;
} weir_redis_conn_config;

weir_redis_conn *weir_redis_conn_new(const weir_redis_conn_config *config);
/*  Requests are answered NULL; ended is not called.                                */
void weir_redis_conn_destroy(weir_redis_conn **self_p);

bool weir_redis_conn_is_ready(const weir_redis_conn *self);
/*  Attempts that have failed since it was ready.                                   */
uint64_t weir_redis_conn_failures(const weir_redis_conn *self);

/*  Of the last failure, with the server's name and without its password; "" once it is
    ready. fatal: another attempt cannot go well until somebody mends it.           */
const char *weir_redis_conn_error(const weir_redis_conn *self, bool *fatal);

/* --- Requests: when it is ready ---------------------------------------------------- */

/*  Where requests are appended, each followed by expect.                           */
weir_buffer *weir_redis_conn_out(weir_redis_conn *self);
size_t weir_redis_conn_waiting(const weir_redis_conn *self); // bytes not sent
/*  most: bytes that the answer may have; 0: any. With a larger one the connection is made
    anew.                                                                           */
void weir_redis_conn_expect(weir_redis_conn *self, weir_redis_answer *answer, void *arg,
                            size_t most);
/*  While requests are told that the connection was lost, and it was because of an answer
    that was too large: arg of the request whose one it was. Else NULL.             */
const void *weir_redis_conn_too_large(const weir_redis_conn *self);
/*  Ends it soon; it is made anew. From an answer, too.                             */
void weir_redis_conn_drop(weir_redis_conn *self, bool fatal, const char *text);

/* --- Polling ----------------------------------------------------------------------- */

int weir_redis_conn_fd(const weir_redis_conn *self); // -1: none
short weir_redis_conn_events(const weir_redis_conn *self);
int64_t weir_redis_conn_deadline(const weir_redis_conn *self);
/*  Does what is due; revents of its descriptor, 0: none.                           */
void weir_redis_conn_run(weir_redis_conn *self, short revents);
