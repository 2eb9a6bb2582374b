/*  help_bench_redis: the server of a bench of Redis, which keeps its data in memory only.
    Included by one program.                                                        */
#pragma once
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "tests/unit/help_server.h"

static char folder[] = "/tmp/bench_redis.XXXXXX", local[64]; // its unix socket
static redisContext *client;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_up(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static bool answers(void *arg)
{
    (void)arg;
    if (client) redisFree(client);
    client = redisConnectUnix(local);
    return !client->err;
}

static help_server *start_server(void)
{
    char log[64];
    if (!mkdtemp(folder)) give_up("no folder");
    snprintf(local, sizeof local, "%s/redis.sock", folder);
    snprintf(log, sizeof log, "%s/log", folder);
    const char *argv[] = {"redis-server", "--port", "0", "--unixsocket", local, "--dir",
                          folder,         "--save", "",  "--daemonize",  "no",  NULL};
    help_server *server = help_server_start(argv, log);
    if (!server || !help_server_wait(server, answers, NULL)) give_up("no redis-server");
    return server;
}

static void end_server(help_server **server)
{
    char log[64];
    redisFree(client);
    help_server_destroy(server);
    snprintf(log, sizeof log, "%s/log", folder);
    unlink(log);
    unlink(local);
    rmdir(folder);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
