/*  redis_port: the connections of an actor with Redis servers, in the actor's own thread.
    They are kept up by redis_conn, and nothing of it blocks.

    An actor's turn appends requests, and ends with weir_redis_port_run, which sends them;
    the same function is what the actor's handler `ready` calls, when something came or is
    due. Answers are told from there.                                                 */
#pragma once
#include "actors/redis_conn.h"
#include "actors/redis_server.h"
#include "runtime/actor.h"

extern const char *const weir_redis_forever_word[];

#define WEIR_REDIS_SERVER_OPTIONS(config, member)                                        \
    {"url",                                                                              \
     WEIR_OPTION_TEXT,                                                                   \
     offsetof(config, member.url),                                                       \
     0,                                                                                  \
     0,                                                                                  \
     NULL,                                                                               \
     true,                                                                               \
     "the server: redis://[user[:password]@]host[:port][/db] or "                        \
     "unix://[user[:password]@]/path"},                                                  \
        {"plaintext",                                                                    \
         WEIR_OPTION_BOOL,                                                               \
         offsetof(config, member.plaintext),                                             \
         0,                                                                              \
         0,                                                                              \
         NULL,                                                                           \
         false,                                                                          \
         "allows a server on another host: there is no TLS to redis"},                   \
        {"timeout",                                                                      \
         WEIR_OPTION_TIME,                                                               \
         offsetof(config, member.timeout_us),                                            \
         10000,                                                                          \
         3600e6,                                                                         \
         NULL,                                                                           \
         false,                                                                          \
         "of a connect or one request"},                                                 \
        {"retry.first",                                                                  \
         WEIR_OPTION_TIME,                                                               \
         offsetof(config, member.wait.first_us),                                         \
         1000,                                                                           \
         600e6,                                                                          \
         NULL,                                                                           \
         false,                                                                          \
         "wait after the first failure of the server"},                                  \
        {"retry.max",                                                                    \
         WEIR_OPTION_TIME,                                                               \
         offsetof(config, member.wait.max_us),                                           \
         1000,                                                                           \
         600e6,                                                                          \
         NULL,                                                                           \
         false,                                                                          \
         "ceiling of that wait"},                                                        \
    {                                                                                    \
        "retry.attempts", WEIR_OPTION_INT, offsetof(config, member.attempts), 1, 1e6,    \
            weir_redis_forever_word, false, "attempts in a row before the node stops"    \
    }

/*  WEIR_EREFUSED: it is on another host, without plaintext.                           */
weir_err weir_redis_server_may_be_at(const weir_redis_server *config,
                                     const weir_redis_url *url, weir_report *report);

enum { WEIR_REDIS_LINES_MAX = 1000 }; // of a port

/*  One connection. Its url is its own.                                               */
typedef struct weir_redis_line {
    struct weir_redis_line *next;
    weir_redis_url url;
    weir_redis_conn *conn;
} weir_redis_line;

typedef struct {
    weir_actor *kit;
    const weir_redis_server *config;
    weir_handler *ready; // calls weir_redis_port_run
    weir_redis_url url;
    weir_redis_line *lines;
    uint64_t nonce;
    int epoll_fd; // of all lines
    bool open;
} weir_redis_port;

/*  The first three fields are set. Connections begin with the first weir_redis_port_run,
    which is for weir_class.start. To be closed in any case.                          */
weir_err weir_redis_port_open(weir_redis_port *self, weir_report *report);
void weir_redis_port_close(weir_redis_port *self);

/*  Another connection; host NULL: with the server that the url names. name, opened, ended
    and arg as redis_conn has them. NULL: it must not be spoken to, or there are too many.
 */
typedef struct {
    const char *name;
    void (*opened)(void *arg);
    void (*ended)(void *arg);
    void *arg;
} weir_redis_call_back;

weir_redis_line *weir_redis_port_dial(weir_redis_port *self, const char *host,
                                      uint16_t port, const weir_redis_call_back *back);
/*  Not from an answer.                                                               */
void weir_redis_port_hang_up(weir_redis_port *self, weir_redis_line **line_p);

/*  Sends, receives and does what is due. True: something came, so that there may be more
   to do. Not from an answer. */
bool weir_redis_port_run(weir_redis_port *self);

/*  True: the server says that it never will, or it was tried as often as it may: the
    actor has failed.                                                                 */
bool weir_redis_port_gives_up(weir_redis_port *self, const weir_redis_line *line);
