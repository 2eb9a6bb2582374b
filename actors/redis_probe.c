#include "actors/redis_probe.h"
#include <errno.h>
#include <stdio.h>
#include <sys/time.h>
#include "runtime/clock.h"

enum { rounds_max = 5 }; // of MOVED

/*  One look, with what it needs.                                                     */
typedef struct {
    const weir_redis_probe *what;
    weir_redis_url url;
    redisContext *server;
    int64_t until_us;
    weir_report *report;
    char stream[512]; // of what, with its end
    bool denied;      // the last question was one that this user may not ask
    bool moved;       // another server of the cluster has the key
    char host[256];
    uint16_t port;
} look;

static weir_err fail(look *self, weir_err err, const char *said)
{
    char *text = weir_redis_url_hide(&self->url, said);
    weir_report_set(self->report, err, NULL, "%s: %s", self->url.shown, text);
    free(text);
    return err;
}

static struct timeval time_left(const look *self)
{
    int64_t left = self->until_us - weir_clock_now_us();
    if (left < 1000) left = 1000;
    return (struct timeval){.tv_sec = left / 1000000, .tv_usec = left % 1000000};
}

/*  hiredis tells a wait that has ended by the system's words.                        */
static weir_err fail_to_speak(look *self, int why)
{
    char text[64];
    if (self->server->err == REDIS_ERR_PROTOCOL)
        return fail(self, WEIR_ETIMEOUT, "what answers there is no Redis server");
    if (self->server->err != REDIS_ERR_IO || (why != EAGAIN && why != EWOULDBLOCK))
        return fail(self, WEIR_ETIMEOUT, self->server->errstr);
    snprintf(text, sizeof text, "no answer in %lld ms",
             (long long)self->what->timeout_us / 1000);
    return fail(self, WEIR_ETIMEOUT, text);
}

static weir_err connect_to(look *self)
{
    const weir_redis_url *url = &self->url;
    if (self->server) redisFree(self->server);
    self->server = url->port
                       ? redisConnectWithTimeout(url->host, url->port, time_left(self))
                       : redisConnectUnixWithTimeout(url->host, time_left(self));
    if (!self->server) abort();
    return self->server->err ? fail(self, WEIR_ETIMEOUT, self->server->errstr) : WEIR_OK;
}

/*  The answer is the caller's; NULL: none, or an error that is a failure of the look. */
static redisReply *ask(look *self, weir_err *err, int count, const char **words)
{
    size_t sizes[4];
    for (int i = 0; i < count; i++)
        sizes[i] = strlen(words[i]);
    redisSetTimeout(self->server, time_left(self));
    redisReply *reply = redisCommandArgv(self->server, count, words, sizes);
    *err = reply ? WEIR_OK : fail_to_speak(self, errno);
    if (!reply || reply->type != REDIS_REPLY_ERROR) return reply;
    *err = fail(self, WEIR_EREFUSED, reply->str);
    self->denied = strncmp(reply->str, "NOPERM", 6) == 0;
    self->moved = weir_redis_moved(reply->str, self->host, &self->port);
    freeReplyObject(reply);
    return NULL;
}

static weir_err say(look *self, int count, const char **words)
{
    weir_err err;
    redisReply *reply = ask(self, &err, count, words);
    if (reply) freeReplyObject(reply);
    return err;
}

static weir_err greet(look *self)
{
    const weir_redis_url *url = &self->url;
    const char *password = url->password ? url->password : "";
    char db[16];
    weir_err err = WEIR_OK;
    snprintf(db, sizeof db, "%u", url->db);
    if (url->user)
        err = say(self, 3, (const char *[]){"AUTH", url->user, password});
    else if (url->password)
        err = say(self, 2, (const char *[]){"AUTH", password});
    if (!err && url->db) err = say(self, 2, (const char *[]){"SELECT", db});
    return err ? err : say(self, 1, (const char *[]){"PING"});
}

/*  One of a cluster says who has a key.                                               */
static bool is_of_cluster(look *self)
{
    weir_err err;
    const char *any = self->what->stream ? self->stream : "weir";
    redisReply *reply = ask(self, &err, 2, (const char *[]){"TYPE", any});
    if (reply) freeReplyObject(reply);
    return self->moved;
}

/*  A replica takes no entries, and no group; one of a cluster leads to who does.      */
static weir_err look_at_role(look *self)
{
    weir_err err;
    redisReply *reply = ask(self, &err, 1, (const char *[]){"ROLE"});
    bool replica = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements &&
                   weir_redis_says(reply->element[0], "slave");
    if (reply) freeReplyObject(reply);
    if (!replica && err != WEIR_EREFUSED) return err;
    if (!replica) return WEIR_OK; // it may not be asked
    if (is_of_cluster(self)) return WEIR_OK;
    return fail(self, WEIR_EREFUSED,
                "it is a replica, which is written to by its master");
}

/*  Whether one of [["name", NAME, ..], ..] is the group.                               */
static bool has_group(const redisReply *groups, const char *name)
{
    for (size_t i = 0; i < groups->elements; i++) {
        const redisReply *g = groups->element[i];
        for (size_t k = 0; k + 1 < g->elements; k += 2)
            if (weir_redis_says(g->element[k], "name") &&
                weir_redis_says(g->element[k + 1], name))
                return true;
    }
    return false;
}

static weir_err look_at_group(look *self, const char *stream)
{
    weir_err err;
    const char *group = self->what->group;
    redisReply *reply = ask(self, &err, 3, (const char *[]){"XINFO", "GROUPS", stream});
    if (!reply) return err;
    weir_report_set(self->report, WEIR_OK, NULL,
                    has_group(reply, group)
                        ? "%s: '%s' is a stream with the group '%s'"
                        : "%s: '%s' is a stream; the group '%s' is new",
                    self->url.shown, stream, group);
    freeReplyObject(reply);
    return WEIR_OK;
}

static weir_err look_at_stream(look *self)
{
    weir_err err;
    const char *stream = self->stream;
    char text[640];
    redisReply *reply = ask(self, &err, 2, (const char *[]){"TYPE", stream});
    if (!reply && self->denied)
        return weir_report_set(self->report, WEIR_OK, NULL,
                               "%s: it lets us in, but not look at '%s'", self->url.shown,
                               stream);
    if (!reply) return err;
    bool is = weir_redis_says(reply, "stream"), none = weir_redis_says(reply, "none");
    snprintf(text, sizeof text, "'%s' is no stream but a %.40s", stream,
             reply->str ? reply->str : "");
    freeReplyObject(reply);
    if (!is && !none) return fail(self, WEIR_EREFUSED, text);
    if (is && self->what->group) return look_at_group(self, stream);
    weir_report_set(self->report, WEIR_OK, NULL, "%s: '%s' is %s", self->url.shown,
                    stream, is ? "a stream" : "not there yet");
    return WEIR_OK;
}

static weir_err look_at_server(look *self)
{
    self->moved = false;
    weir_err err = connect_to(self);
    if (!err) err = greet(self);
    if (!err) err = look_at_role(self);
    if (err) return err;
    self->denied = self->moved = false;
    weir_report_set(self->report, WEIR_OK, NULL, "%s: it is there", self->url.shown);
    return self->what->stream ? look_at_stream(self) : WEIR_OK;
}

/*  Where the last answer led.                                                        */
static weir_err follow(look *self)
{
    weir_redis_url from = self->url;
    weir_redis_url_at(&self->url, &from, self->host[0] ? self->host : from.host,
                      self->port);
    weir_redis_url_fini(&from);
    weir_err err =
        weir_redis_server_may_be_at(self->what->server, &self->url, self->report);
    return err ? err : look_at_server(self);
}

static weir_err run(look *self)
{
    weir_err err = look_at_server(self);
    for (int i = 0; err && self->moved && i < rounds_max; i++)
        err = follow(self);
    return err;
}

weir_err weir_redis_probe_run(const weir_redis_probe *what, weir_report *report)
{
    look self = {.what = what,
                 .until_us = weir_clock_now_us() + what->timeout_us,
                 .report = report};
    weir_err err = weir_redis_server_check(what->server, report);
    if (!err) err = weir_redis_url_parse(&self.url, what->server->url, report);
    if (err) return err;
    if (what->stream)
        snprintf(self.stream, sizeof self.stream, "%.*s", (int)what->stream_size,
                 what->stream);
    err = run(&self);
    if (self.server) redisFree(self.server);
    weir_redis_url_fini(&self.url);
    return err;
}
