#include "actors/redis_writer.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>
#include "runtime/clock.h"
#include "runtime/log.h"

/*  streams_max: of which nothing is under way, and which are kept all the same, since
   they know their server. rounds_max: of MOVED, before it is a failure. chunk_bytes: the
   first entry of a chunk goes in any case. */
enum { buckets = 1024, streams_max = 1024, rounds_max = 5 };
static const size_t chunk_bytes = 256 << 10;

typedef struct node node;

typedef struct {
    node *node;
    char sha[41]; // "": not known
    bool loading; // it is on its way
} script;

/*  A server.                                                                         */
struct node {
    node *next;
    weir_redis_writer *writer;
    weir_redis_line *line;
    char host[256]; // "": the one that the url names
    uint16_t port;
    script scripts[WEIR_REDIS_ID_KINDS];
    bool away;
    bool failing; // an attempt has failed, and none went well since
};

typedef struct stream {
    struct stream *chain; // of its bucket
    struct stream *next;  // of those that have entries
    weir_redis_writer *writer;
    node *node;
    weir_redis_item *first, **end; // not settled
    size_t out;                    // of them, from the first on, in the chunk
    size_t alone;                  // of them, to be sent one by one
    bool listed;                   // it is in the list of those that have
    uint64_t attempts;             // that have failed
    unsigned rounds;               // of MOVED and NOSCRIPT
    int64_t due_us;                // of the next attempt
    uint64_t hash;
    char error[256]; // of the first entry that was not queued; "": none
    size_t name_size;
    uint8_t name[];
} stream;

struct weir_redis_writer {
    weir_redis_writer_config config;
    node *nodes;
    stream *streams[buckets];
    size_t stream_count;
    stream *active, **active_end;
    size_t entries, bytes;
    weir_redis_chunk chunk; // the one that is being sent
    weir_buffer scratch;
    char maxlen[24];
};

/* --- Streams ----------------------------------------------------------------------- */

static stream **find_stream(weir_redis_writer *self, uint64_t hash, const uint8_t *name,
                            size_t size)
{
    stream **at = &self->streams[hash % buckets];
    while (*at && ((*at)->hash != hash || (*at)->name_size != size ||
                   memcmp((*at)->name, name, size) != 0))
        at = &(*at)->chain;
    return at;
}

static stream *stream_of(weir_redis_writer *self, const uint8_t *name, size_t size)
{
    uint64_t hash = XXH3_64bits(name, size);
    stream **at = find_stream(self, hash, name, size);
    if (*at) return *at;
    stream *s = calloc(1, sizeof *s + size);
    if (!s) abort();
    s->writer = self;
    s->node = self->nodes;
    s->end = &s->first;
    s->hash = hash;
    s->name_size = size;
    memcpy(s->name, name, size);
    self->stream_count++;
    return *at = s;
}

static void forget_stream(weir_redis_writer *self, stream *s)
{
    stream **at = find_stream(self, s->hash, s->name, s->name_size);
    *at = s->chain;
    self->stream_count--;
    free(s);
}

void weir_redis_writer_add(weir_redis_writer *self, const uint8_t *name, size_t size,
                           weir_redis_item **item_p)
{
    weir_redis_item *item = *item_p;
    stream *s = stream_of(self, name, size);
    *item_p = NULL;
    if (!s->listed) {
        s->listed = true;
        s->next = NULL;
        *self->active_end = s;
        self->active_end = &s->next;
    }
    item->next = NULL;
    *s->end = item;
    s->end = &item->next;
    self->entries++;
    self->bytes += item->size;
}

/*  Takes the first entry of the chunk off. The owner may fail the actor then.          */
static void settle_first(stream *s, const char *refused)
{
    weir_redis_writer *self = s->writer;
    weir_redis_item *item = s->first;
    s->first = item->next;
    if (!s->first) s->end = &s->first;
    s->out--;
    if (s->alone) s->alone--;
    self->entries--;
    self->bytes -= item->size;
    self->config.settled(self->config.arg, item, refused);
    free(item);
}

static void settle_chunk(stream *s, const char *refused)
{
    while (s->out)
        settle_first(s, refused);
}

/* --- Failures ---------------------------------------------------------------------- */

static weir_actor *kit_of(const weir_redis_writer *self)
{
    return self->config.port->kit;
}

static void say_waiting(const node *n, const char *cause)
{
    weir_vitals_wait(weir_actor_vitals(kit_of(n->writer)), WEIR_WAIT_WRITE,
                     n->line->url.shown, "%s", cause);
}

static void say_flowing(const node *n)
{
    weir_vitals_flow(weir_actor_vitals(kit_of(n->writer)), WEIR_WAIT_WRITE,
                     n->line->url.shown);
}

/*  Another attempt, later.                                                             */
static void hold(stream *s, const char *cause)
{
    weir_redis_writer *self = s->writer;
    const weir_redis_server *server = self->config.port->config;
    int64_t now = weir_clock_now_us();
    s->out = 0;
    s->rounds = 0;
    s->attempts++;
    if (server->attempts != WEIR_FOREVER && s->attempts >= (uint64_t)server->attempts) {
        weir_actor_fail(kit_of(self), WEIR_ETIMEOUT, s->node->line->url.shown,
                        "%" PRIu64 " attempts: %s", s->attempts, cause);
        return;
    }
    s->due_us = now + weir_retry_wait_us(&server->wait, self->config.port->nonce, s->hash,
                                         0, s->attempts);
    weir_count_add(weir_actor_vitals(kit_of(self)), WEIR_COUNT_RETRIES, 1);
    if (!s->node->failing)
        weir_log(WEIR_WARN,
                 "redis does not take records, trying again server=%s "
                 "cause=\"%s\"",
                 s->node->line->url.shown, cause);
    s->node->failing = true;
    say_waiting(s->node, cause);
}

static void note_success(stream *s)
{
    s->attempts = 0;
    s->rounds = 0;
    if (!s->node->failing) return;
    s->node->failing = false;
    say_flowing(s->node);
    weir_log(WEIR_INFO, "redis takes records again server=%s", s->node->line->url.shown);
}

static node *node_at(weir_redis_writer *self, const char *host, uint16_t port);

static void follow(stream *s, const char *error, const char *text)
{
    char host[256];
    uint16_t port;
    node *to = NULL;
    if (weir_redis_moved(error, host, &port))
        to = node_at(s->writer, host[0] ? host : s->node->line->url.host, port);
    if (!to) {
        weir_actor_fail(kit_of(s->writer), WEIR_EREFUSED, s->node->line->url.shown,
                        "cannot follow it (another host needs plaintext): %s", text);
    } else if (++s->rounds > rounds_max) {
        hold(s, text);
    } else {
        s->node = to;
        s->out = 0;
    }
}

/*  Of a script, entries before the one that is meant may have been added, and it tells
    not which: each has to show by itself.                                              */
static void refuse(stream *s, const char *text)
{
    if (s->out > 1 && s->first->kind != WEIR_REDIS_NO_ID) {
        s->alone = s->out;
        s->out = 0;
    } else {
        settle_chunk(s, text);
    }
}

static void take_error(stream *s, const char *error)
{
    char *text = weir_redis_url_hide(&s->node->line->url, error);
    switch (weir_redis_judge(error)) {
    case WEIR_REDIS_NO_SCRIPT: // it was started anew, or flushed
        s->node->scripts[s->first->kind].sha[0] = 0;
        s->out = 0;
        if (++s->rounds > rounds_max) hold(s, text);
        break;
    case WEIR_REDIS_MOVED:
        follow(s, error, text);
        break;
    case WEIR_REDIS_LATER:
        hold(s, text);
        /*  Another server may have the address by now.                                 */
        if (!strncmp(error, "READONLY", 8))
            weir_redis_conn_drop(s->node->line->conn, false, text);
        break;
    case WEIR_REDIS_NEVER:
        if (weir_redis_is_locked_out(error))
            weir_actor_fail(kit_of(s->writer), WEIR_EREFUSED, s->node->line->url.shown,
                            "%s", text);
        else
            refuse(s, text);
        break;
    }
    free(text);
}

/* --- Answers ----------------------------------------------------------------------- */

/*  To a single XADD, or to a script.                                                   */
static void added(void *arg, const redisReply *reply)
{
    stream *s = arg;
    if (!reply) {
        s->out = 0;
    } else if (reply->type == REDIS_REPLY_ERROR) {
        take_error(s, reply->str);
    } else {
        note_success(s);
        settle_chunk(s, NULL);
    }
}

static void queued(void *arg, const redisReply *reply)
{
    stream *s = arg;
    if (reply && reply->type == REDIS_REPLY_ERROR && !s->error[0])
        snprintf(s->error, sizeof s->error, "%.250s", reply->str);
}

/*  What the key is, all of its entries are told; so of the first that was not added the
    rest is sent again, unless it is of no use.                                         */
static void take_results(stream *s, const redisReply *reply)
{
    for (size_t i = 0; i < reply->elements && s->out; i++) {
        const redisReply *one = reply->element[i];
        if (one->type != REDIS_REPLY_ERROR) {
            note_success(s);
            settle_first(s, NULL);
        } else if (weir_redis_judge(one->str) != WEIR_REDIS_NEVER ||
                   weir_redis_is_locked_out(one->str)) {
            take_error(s, one->str);
            return;
        } else {
            char *text = weir_redis_url_hide(&s->node->line->url, one->str);
            settle_first(s, text);
            free(text);
        }
    }
    s->out = 0;
}

static void executed(void *arg, const redisReply *reply)
{
    stream *s = arg;
    if (!reply)
        s->out = 0;
    else if (s->error[0])
        take_error(s, s->error);
    else if (reply->type == REDIS_REPLY_ERROR)
        take_error(s, reply->str);
    else if (reply->type == REDIS_REPLY_ARRAY)
        take_results(s, reply);
    else
        hold(s, "the server's answer makes no sense");
}

/* --- Chunks ------------------------------------------------------------------------ */

/*  Which of the first entries go at once.                                              */
static void plan_chunk(const stream *s, weir_redis_chunk *chunk)
{
    size_t bytes = 0;
    const weir_redis_item *item = s->first;
    weir_redis_chunk_begin(chunk, item->kind);
    for (; item && item->kind == chunk->kind; item = item->next) {
        bytes += item->size;
        if (chunk->count && (s->alone || bytes > chunk_bytes)) break;
        if (!weir_redis_chunk_add(chunk, &item->place)) break;
    }
}

/*  What the XADDs of a stream begin with.                                              */
static const weir_buffer *begin_add(const stream *s)
{
    weir_redis_writer *self = s->writer;
    weir_buffer *start = &self->scratch;
    bool trims = self->config.maxlen != WEIR_FOREVER;
    start->size = 0;
    weir_redis_put_head(start, 3 + self->config.words + (trims ? 3 : 0));
    weir_redis_put_text(start, "XADD");
    weir_redis_put_word(start, s->name, s->name_size);
    if (trims) {
        weir_redis_put_text(start, "MAXLEN");
        weir_redis_put_text(start, "~");
        weir_redis_put_text(start, self->maxlen);
    }
    weir_redis_put_text(start, "*");
    return start;
}

static void send_plain(stream *s, size_t count)
{
    weir_redis_conn *conn = s->node->line->conn;
    weir_buffer *out = weir_redis_conn_out(conn);
    const weir_buffer *start = begin_add(s);
    const weir_redis_item *item = s->first;
    s->error[0] = 0;
    if (count > 1) {
        weir_redis_put_command(out, (const char *const[]){"MULTI", NULL});
        weir_redis_conn_expect(conn, queued, s, 0);
    }
    for (size_t i = 0; i < count; i++, item = item->next) {
        weir_buffer_put(out, start->data, start->size);
        weir_buffer_put(out, item->words, item->size);
        weir_redis_conn_expect(conn, count > 1 ? queued : added, s, 0);
    }
    if (count == 1) return;
    weir_redis_put_command(out, (const char *const[]){"EXEC", NULL});
    weir_redis_conn_expect(conn, executed, s, 0);
}

static void send_once(stream *s, const weir_redis_chunk *chunk)
{
    const weir_redis_writer_config *c = &s->writer->config;
    weir_redis_conn *conn = s->node->line->conn;
    weir_buffer *out = weir_redis_conn_out(conn);
    const weir_redis_item *item = s->first;
    const weir_redis_run *run = chunk->runs;
    weir_redis_once how = {.stream = s->name,
                           .stream_size = s->name_size,
                           .sha = s->node->scripts[chunk->kind].sha,
                           .dedup_us = c->dedup_us,
                           .maxlen = s->writer->maxlen,
                           .words = c->words};
    weir_redis_once_begin(&how, chunk, out);
    for (size_t i = 0, run_end = 0; i < chunk->count; i++, item = item->next) {
        if (chunk->run_count && i == run_end) {
            weir_redis_once_put_run(run, out);
            run_end += run++->count;
        }
        weir_buffer_put(out, item->words, item->size);
    }
    weir_redis_conn_expect(conn, added, s, 0);
}

/* --- The scripts ------------------------------------------------------------------- */

static void loaded(void *arg, const redisReply *reply)
{
    script *self = arg;
    node *n = self->node;
    self->loading = false;
    if (!reply) return;
    if (weir_redis_is_text(reply) && reply->len == sizeof self->sha - 1)
        memcpy(self->sha, reply->str, sizeof self->sha);
    else if (reply->type == REDIS_REPLY_ERROR &&
             weir_redis_judge(reply->str) == WEIR_REDIS_NEVER)
        weir_actor_fail(kit_of(n->writer), WEIR_EREFUSED, n->line->url.shown,
                        "cannot load the script that keeps records from being doubled "
                        "(dedup = none goes without): %s",
                        reply->str);
    else
        weir_redis_conn_drop(n->line->conn, false,
                             reply->type == REDIS_REPLY_ERROR ? reply->str : "no script");
}

static void load(script *self, const char *text)
{
    weir_redis_conn *conn = self->node->line->conn;
    if (self->loading) return;
    self->loading = true;
    weir_redis_put_command(weir_redis_conn_out(conn),
                           (const char *const[]){"SCRIPT", "LOAD", text, NULL});
    weir_redis_conn_expect(conn, loaded, self, 0);
}

/* --- Servers ----------------------------------------------------------------------- */

static void opened(void *arg)
{
    node *n = arg;
    if (n->away) say_flowing(n);
    n->away = false;
}

static node *next_ready(const node *n)
{
    for (node *to = n->writer->nodes; to; to = to->next)
        if (weir_redis_conn_is_ready(to->line->conn)) return to;
    return NULL;
}

/*  The others know who has its streams by now, or will.                                */
static void leave_node(node *n)
{
    weir_redis_writer *self = n->writer;
    node *to = next_ready(n);
    for (size_t i = 0; to && i < buckets; i++)
        for (stream *s = self->streams[i]; s; s = s->chain)
            if (s->node == n) s->node = to;
}

/*  One that was lost is made again at once; only when that fails it is away.           */
static void ended(void *arg)
{
    bool fatal;
    node *n = arg;
    if (!weir_redis_conn_failures(n->line->conn)) return;
    if (weir_redis_port_gives_up(n->writer->config.port, n->line)) return;
    n->away = true;
    weir_count_add(weir_actor_vitals(kit_of(n->writer)), WEIR_COUNT_RETRIES, 1);
    say_waiting(n, weir_redis_conn_error(n->line->conn, &fatal));
    leave_node(n);
}

static node *add_node(weir_redis_writer *self, const char *host, uint16_t port)
{
    node *n = calloc(1, sizeof *n), **end = &self->nodes;
    if (!n) abort();
    n->writer = self;
    n->port = port;
    for (size_t i = 0; i < WEIR_REDIS_ID_KINDS; i++)
        n->scripts[i].node = n;
    snprintf(n->host, sizeof n->host, "%s", host ? host : "");
    n->line = weir_redis_port_dial(self->config.port, host, port,
                                   &(weir_redis_call_back){"writes", opened, ended, n});
    if (!n->line) {
        free(n);
        return NULL;
    }
    while (*end)
        end = &(*end)->next;
    return *end = n;
}

static node *node_at(weir_redis_writer *self, const char *host, uint16_t port)
{
    for (node *n = self->nodes; n; n = n->next)
        if (n->line->url.port == port && !strcmp(n->line->url.host, host)) return n;
    return add_node(self, host, port);
}

/* --- Running ----------------------------------------------------------------------- */

static void send_chunk(stream *s)
{
    node *n = s->node;
    weir_redis_chunk *chunk = &s->writer->chunk;
    weir_redis_id_kind kind = s->first->kind;
    if (!weir_redis_conn_is_ready(n->line->conn)) return;
    if (weir_redis_once_scripts[kind] && !n->scripts[kind].sha[0]) {
        load(&n->scripts[kind], weir_redis_once_scripts[kind]);
        return;
    }
    plan_chunk(s, chunk);
    s->out = chunk->count;
    if (kind == WEIR_REDIS_NO_ID)
        send_plain(s, s->out);
    else
        send_once(s, chunk);
}

static void leave(weir_redis_writer *self, stream **at)
{
    stream *s = *at;
    *at = s->next;
    if (!*at) self->active_end = at;
    s->listed = false;
    if (self->stream_count > streams_max) forget_stream(self, s);
}

int64_t weir_redis_writer_run(weir_redis_writer *self)
{
    int64_t now = weir_clock_now_us(), due = -1;
    for (stream **at = &self->active; *at;) {
        stream *s = *at;
        if (!s->first) {
            leave(self, at);
            continue;
        }
        if (!s->out && s->due_us > now)
            due = weir_earlier(due, s->due_us);
        else if (!s->out)
            send_chunk(s);
        at = &s->next;
    }
    return due < 0 ? -1 : due - now;
}

size_t weir_redis_writer_entries(const weir_redis_writer *self)
{
    return self->entries;
}

size_t weir_redis_writer_bytes(const weir_redis_writer *self)
{
    return self->bytes;
}

/* --- Life -------------------------------------------------------------------------- */

weir_redis_writer *weir_redis_writer_new(const weir_redis_writer_config *config)
{
    weir_redis_writer *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->active_end = &self->active;
    snprintf(self->maxlen, sizeof self->maxlen, "%" PRId64,
             config->maxlen == WEIR_FOREVER ? 0 : config->maxlen);
    if (add_node(self, NULL, 0)) return self;
    free(self);
    return NULL;
}

static void free_stream(stream *s)
{
    for (weir_redis_item *item; (item = s->first); free(item))
        s->first = item->next;
    free(s);
}

void weir_redis_writer_destroy(weir_redis_writer **self_p)
{
    weir_redis_writer *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    for (node *n; (n = self->nodes); free(n)) {
        self->nodes = n->next;
        weir_redis_port_hang_up(self->config.port, &n->line);
    }
    for (size_t i = 0; i < buckets; i++)
        for (stream *s; (s = self->streams[i]); free_stream(s))
            self->streams[i] = s->chain;
    weir_buffer_fini(&self->scratch);
    free(self);
}
