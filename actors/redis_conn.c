#include "actors/redis_conn.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>
#include "actors/redis_lookup.h"
#include "runtime/clock.h"
#include "runtime/log.h"

/*  read_size: at once; reads_max: in one turn, so that others have theirs.
    A buffer of less than kept_bytes stays when it is empty.                         */
enum { read_size = 64 << 10, reads_max = 16, kept_bytes = 4 << 20 };

static const int64_t ping_us = 5000000; // of silence
static const int64_t apart_us = 100000; // attempts begin at least so far apart
static const weir_retry_wait wait_between = {100000, 2000000};

typedef enum { DOWN, LOOKING_UP, CONNECTING, GREETING, READY } conn_state;

typedef struct {
    weir_redis_answer *answer;
    void *arg;
    size_t most;
} request;

struct weir_redis_conn {
    weir_redis_conn_config config;
    conn_state state;
    int fd; // of LOOKING_UP the lookup's, else the socket; -1: none
    weir_redis_lookup *lookup;
    weir_redis_addresses addresses;
    size_t address; // the next one
    weir_buffer out;
    size_t out_sent;
    redisReader *reader; // NULL when there is no socket
    size_t received;     // bytes of the answer that is not whole yet
    request *requests;   // without answer: a ring
    size_t first, count, capacity;
    int64_t began_us; // the attempt
    int64_t moved_us; // a byte came or went, or there was nothing to wait for before
    int64_t due_us;   // of DOWN: the next attempt
    uint64_t failures;
    bool ending;           // it is ended as soon as nobody looks at it
    const void *too_large; // arg of the request whose answer was; NULL: none was
    bool fatal;
    bool told; // that it is down
    char error[256];
};

/* --- Failing ----------------------------------------------------------------------- */

static void __attribute__((format(printf, 3, 4)))
end(weir_redis_conn *self, bool fatal, const char *format, ...)
{
    char text[200];
    va_list args;
    if (self->ending) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    self->ending = true;
    self->fatal = fatal;
    snprintf(self->error, sizeof self->error, "%.120s: %.130s", self->config.url->shown,
             text);
}

/*  With what a server said.                                                         */
static void end_by(weir_redis_conn *self, const char *said)
{
    char *text = weir_redis_url_hide(self->config.url, said);
    end(self, weir_redis_judge(said) == WEIR_REDIS_NEVER, "%s", text);
    free(text);
}

void weir_redis_conn_drop(weir_redis_conn *self, bool fatal, const char *text)
{
    end(self, fatal, "%s", text);
}

static void close_socket(weir_redis_conn *self)
{
    if (self->fd >= 0 && !self->lookup) close(self->fd);
    weir_redis_lookup_destroy(&self->lookup);
    if (self->reader) redisReaderFree(self->reader);
    self->reader = NULL;
    self->fd = -1;
    self->out.size = self->out_sent = self->received = 0;
    self->state = DOWN;
}

static void answer_lost(weir_redis_conn *self)
{
    size_t count = self->count;
    for (size_t i = 0; i < count; i++) {
        request r = self->requests[(self->first + i) % self->capacity];
        r.answer(r.arg, NULL);
    }
    self->first = self->count = 0;
}

static void tell(weir_redis_conn *self)
{
    if (self->told || self->too_large) return;
    self->told = true;
    weir_log(WEIR_WARN, "redis connection down for=%s error=\"%s\"", self->config.name,
             self->error);
}

/*  A connection that was ready is made anew at once.                               */
static void finish(weir_redis_conn *self)
{
    int64_t now = weir_clock_now_us(), wait = 0;
    if (self->state != READY)
        wait = weir_retry_wait_us(&self->config.wait, self->config.nonce, 0, 1,
                                  ++self->failures);
    self->due_us = now + wait;
    if (self->due_us < self->began_us + apart_us && !self->too_large)
        self->due_us = self->began_us + apart_us;
    tell(self);
    close_socket(self);
    answer_lost(self);
    self->ending = false;
    self->too_large = NULL;
    self->config.ended(self->config.arg);
}

/* --- Requests ---------------------------------------------------------------------- */

weir_buffer *weir_redis_conn_out(weir_redis_conn *self)
{
    return &self->out;
}

size_t weir_redis_conn_waiting(const weir_redis_conn *self)
{
    return self->out.size - self->out_sent;
}

static void grow(weir_redis_conn *self)
{
    size_t capacity = self->capacity ? 2 * self->capacity : 64;
    request *requests = malloc(capacity * sizeof *requests);
    if (!requests) abort();
    for (size_t i = 0; i < self->count; i++)
        requests[i] = self->requests[(self->first + i) % self->capacity];
    free(self->requests);
    self->requests = requests;
    self->first = 0;
    self->capacity = capacity;
}

void weir_redis_conn_expect(weir_redis_conn *self, weir_redis_answer *answer, void *arg,
                            size_t most)
{
    if (self->count == 0) self->moved_us = weir_clock_now_us();
    if (self->count == self->capacity) grow(self);
    self->requests[(self->first + self->count++) % self->capacity] =
        (request){answer, arg, most};
}

/* --- Answers ----------------------------------------------------------------------- */

static void answer_first(weir_redis_conn *self, const redisReply *reply)
{
    if (self->count == 0) {
        end(self, false, "an answer to nothing: is it a redis server?");
        return;
    }
    request r = self->requests[self->first];
    self->first = (self->first + 1) % self->capacity;
    self->count--;
    r.answer(r.arg, reply);
}

static void take_answers(weir_redis_conn *self)
{
    void *reply;
    while (!self->ending) {
        if (redisReaderGetReply(self->reader, &reply) != REDIS_OK) {
            end(self, false, "no redis protocol: %s", self->reader->errstr);
            return;
        }
        if (!reply) break;
        self->received = self->reader->len - self->reader->pos;
        answer_first(self, reply);
        freeReplyObject(reply);
    }
    const request *first = self->count ? &self->requests[self->first] : NULL;
    if (self->ending || !first || !first->most || self->received <= first->most) return;
    self->too_large = first->arg;
    end(self, false, "an answer is larger than it should be");
}

/*  False: there is no more for now.                                                 */
static bool receive_some(weir_redis_conn *self, char *bytes)
{
    ssize_t n = recv(self->fd, bytes, read_size, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) return true;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (n < 0) end(self, false, "cannot receive: %s", strerror(errno));
    if (n == 0) end(self, false, "the server has closed the connection");
    if (n <= 0) return false;
    self->moved_us = weir_clock_now_us();
    self->received += (size_t)n;
    if (redisReaderFeed(self->reader, bytes, (size_t)n) != REDIS_OK) abort();
    take_answers(self);
    return n == read_size;
}

static void receive(weir_redis_conn *self)
{
    char bytes[read_size];
    for (int i = 0; i < reads_max && !self->ending; i++)
        if (!receive_some(self, bytes)) return;
}

/* --- Sending ----------------------------------------------------------------------- */

/*  A sent part goes when it is the larger one, so each byte moves once at most.     */
static void forget_sent(weir_redis_conn *self)
{
    size_t rest = self->out.size - self->out_sent;
    if (rest > self->out_sent) return;
    memmove(self->out.data, self->out.data + self->out_sent, rest);
    self->out.size = rest;
    self->out_sent = 0;
    if (!rest && self->out.capacity > kept_bytes) weir_buffer_fini(&self->out);
}

/*  A server that closes a connection may have said why.                             */
static void fail_to_send(weir_redis_conn *self, int why)
{
    receive(self);
    end(self, false, "cannot send: %s", strerror(why));
}

static void send_out(weir_redis_conn *self)
{
    bool sent = false;
    while (self->out_sent < self->out.size && !self->ending) {
        ssize_t n = send(self->fd, self->out.data + self->out_sent,
                         self->out.size - self->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (n < 0) {
            fail_to_send(self, errno);
            return;
        }
        self->out_sent += (size_t)n;
        sent = true;
    }
    if (!sent) return;
    self->moved_us = weir_clock_now_us();
    forget_sent(self);
}

/* --- Greeting ---------------------------------------------------------------------- */

/*  One that cannot save says so to PING as to a write, and still lets read.          */
static bool lets_in(const redisReply *reply)
{
    return reply->type != REDIS_REPLY_ERROR || !strncmp(reply->str, "MISCONF ", 8);
}

static void greeted(void *arg, const redisReply *reply)
{
    weir_redis_conn *self = arg;
    if (!reply) return;
    if (!lets_in(reply)) {
        end_by(self, reply->str);
    } else if (self->count == 0) {
        self->state = READY;
        self->failures = 0;
        self->error[0] = 0;
        self->fatal = false;
        if (self->told)
            weir_log(WEIR_INFO, "redis connection is back for=%s server=%s",
                     self->config.name, self->config.url->shown);
        self->told = false;
        self->config.opened(self->config.arg);
    }
}

static void say(weir_redis_conn *self, const char *const *words)
{
    weir_redis_put_command(&self->out, words);
    weir_redis_conn_expect(self, greeted, self, 0);
}

static void greet(weir_redis_conn *self)
{
    const weir_redis_url *url = self->config.url;
    char db[16];
    self->state = GREETING;
    self->reader = redisReaderCreate();
    if (!self->reader) abort();
    if (url->user)
        say(self, (const char *const[]){"AUTH", url->user,
                                        url->password ? url->password : "", NULL});
    else if (url->password)
        say(self, (const char *const[]){"AUTH", url->password, NULL});
    snprintf(db, sizeof db, "%u", url->db);
    if (url->db) say(self, (const char *const[]){"SELECT", db, NULL});
    say(self, (const char *const[]){"PING", NULL});
    send_out(self);
}

/* --- Connecting -------------------------------------------------------------------- */

/*  Tries address after address until one does not fail at once.                     */
static void connect_next(weir_redis_conn *self)
{
    const weir_redis_addresses *all = &self->addresses;
    const int on = 1;
    int why = all->count ? ECONNREFUSED : ENAMETOOLONG;
    if (self->fd >= 0) close(self->fd);
    self->fd = -1;
    while (self->address < all->count) {
        const struct sockaddr *to = (const void *)&all->items[self->address];
        socklen_t size = all->sizes[self->address++];
        self->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (self->fd >= 0 && to->sa_family != AF_UNIX)
            setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        self->state = CONNECTING;
        if (self->fd >= 0 && !connect(self->fd, to, size)) {
            greet(self);
            return;
        }
        if (self->fd >= 0 && errno == EINPROGRESS) return;
        why = errno;
        if (self->fd >= 0) close(self->fd);
        self->fd = -1;
    }
    end(self, false, "cannot connect: %s", strerror(why));
}

static void begin(weir_redis_conn *self)
{
    self->began_us = weir_clock_now_us();
    self->address = 0;
    if (weir_redis_addresses_of(&self->addresses, self->config.url)) {
        connect_next(self);
        return;
    }
    self->state = LOOKING_UP;
    self->lookup = weir_redis_lookup_new(self->config.url);
    if (self->lookup)
        self->fd = weir_redis_lookup_fd(self->lookup);
    else
        end(self, false, "cannot look up the name: %s", strerror(errno));
}

static void looked_up(weir_redis_conn *self)
{
    const char *error = weir_redis_lookup_take(self->lookup, &self->addresses);
    weir_redis_lookup_destroy(&self->lookup);
    self->fd = -1; // it was the lookup's
    if (error)
        end(self, false, "cannot look up the name: %s", error);
    else
        connect_next(self);
}

static void connected(weir_redis_conn *self)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(self->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (!error) {
        greet(self);
    } else if (self->address < self->addresses.count) {
        connect_next(self);
    } else {
        end(self, false, "cannot connect: %s", strerror(error));
    }
}

/* --- Time -------------------------------------------------------------------------- */

static void ponged(void *arg, const redisReply *reply)
{
    weir_redis_conn *self = arg;
    if (reply && !lets_in(reply)) end_by(self, reply->str);
}

static void ping(weir_redis_conn *self)
{
    weir_redis_put_command(&self->out, (const char *const[]){"PING", NULL});
    weir_redis_conn_expect(self, ponged, self, 0);
    send_out(self);
}

int64_t weir_redis_conn_deadline(const weir_redis_conn *self)
{
    if (self->ending) return 0;
    if (self->state == DOWN) return self->due_us;
    if (self->state != READY) return self->began_us + self->config.timeout_us;
    return self->moved_us + (self->count ? self->config.timeout_us : ping_us);
}

static void run_due(weir_redis_conn *self)
{
    if (self->ending || weir_clock_now_us() < weir_redis_conn_deadline(self)) return;
    if (self->state == DOWN)
        begin(self);
    else if (self->state == READY && self->count == 0)
        ping(self);
    else
        end(self, false, "no answer in %lld ms",
            (long long)self->config.timeout_us / 1000);
}

/* --- Polling ----------------------------------------------------------------------- */

int weir_redis_conn_fd(const weir_redis_conn *self)
{
    return self->fd;
}

short weir_redis_conn_events(const weir_redis_conn *self)
{
    if (self->state == CONNECTING) return POLLOUT;
    return weir_redis_conn_waiting(self) ? POLLIN | POLLOUT : POLLIN;
}

void weir_redis_conn_run(weir_redis_conn *self, short revents)
{
    if (!self->ending && revents && self->state == LOOKING_UP)
        looked_up(self);
    else if (!self->ending && revents && self->state == CONNECTING)
        connected(self);
    else if (!self->ending && (revents & (POLLIN | POLLHUP | POLLERR)))
        receive(self);
    if (!self->ending && self->state >= GREETING) send_out(self);
    run_due(self);
    if (self->ending) finish(self);
}

/* --- Life -------------------------------------------------------------------------- */

weir_redis_conn *weir_redis_conn_new(const weir_redis_conn_config *config)
{
    weir_redis_conn *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    if (!config->wait.first_us) self->config.wait = wait_between;
    self->fd = -1;
    self->due_us = weir_clock_now_us();
    self->began_us = self->due_us - apart_us;
    return self;
}

void weir_redis_conn_destroy(weir_redis_conn **self_p)
{
    weir_redis_conn *self = *self_p;
    if (!self) return;
    close_socket(self);
    self->ending = true;
    answer_lost(self); // who hears that may ask why
    *self_p = NULL;
    weir_buffer_fini(&self->out);
    free(self->requests);
    free(self);
}

bool weir_redis_conn_is_ready(const weir_redis_conn *self)
{
    return self->state == READY && !self->ending;
}

uint64_t weir_redis_conn_failures(const weir_redis_conn *self)
{
    return self->failures;
}

const void *weir_redis_conn_too_large(const weir_redis_conn *self)
{
    return self->too_large;
}

const char *weir_redis_conn_error(const weir_redis_conn *self, bool *fatal)
{
    *fatal = self->fatal;
    return self->error;
}
