#include "actors/bus_server.h"
#include "actors/bus_peers.h"
#include "actors/bus_reply.h"
#include "actors/bus_request.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MESSAGES_A_TURN 64
#define WAITING_MAX 16 // requests of one client

static const int64_t complain_us = 60000000;

/*  What a client is beside: a member of one group.                                     */
typedef struct {
    weir_member_of *member;
    weir_screen *screen; // NULL: none
    char *group, *name;  // owned
    int64_t timeout_us;  // so long silent, it is gone
} membership;

/*  A poll or a fetch that has not been answered.                                       */
typedef struct waiting {
    struct waiting *next;
    weir_bus_peer *peer; // held
    bool delimited;
    weir_bus_request request; // owned
    int64_t deadline_us;
    int64_t again_us; // fetch: when to ask again; -1: when there is a sign
    weir_poll_request poll;
    weir_polling *polling; // NULL: it has not begun
    weir_page page;
} waiting;

/*  An ack or a nack that is taken and not durable; its reply waits for that. Not longer
    than those that are read with it, so its client and that one's member are there. */
typedef struct {
    weir_bus_peer *peer;
    bool delimited, has_id;
    uint64_t id;
} settling;

typedef struct {
    weir_actor *kit;
    const weir_bus_server_config *config;
    weir_groups *groups;
    weir_bus_peers *peers; // NULL: no endpoint
    weir_poller *poller;
    waiting *first, **last;
    int wake_fd;      // eventfd of all members
    bool woken;       // members may find more
    int64_t tick_us;  // when the groups want a tick; -1
    unsigned members; // so far
    uint64_t refused;
    int64_t complained_us;
    settling answered[MESSAGES_A_TURN];
    size_t answered_count;
} bus_server;

/*  A request that is being answered.                                                   */
typedef struct {
    bus_server *server;
    weir_bus_peer *peer;
    bool delimited;
    weir_bus_request *request;
} call;

/* --- Replies ----------------------------------------------------------------------- */

static void send_reply(const call *c, weir_buffer *bytes)
{
    weir_bus_peer_send(c->peer, c->delimited, bytes);
}

static void reply_ok(const call *c)
{
    weir_buffer out = {0};
    weir_bus_reply_ok(&out, c->request);
    send_reply(c, &out);
}

static void reply_error(const call *c, const char *code, const char *text)
{
    weir_buffer out = {0};
    weir_bus_reply_error(&out, c->request, code, text);
    send_reply(c, &out);
}

/*  A report's text may begin with a code of its own.                                   */
static void reply_report(const call *c, const char *code, const weir_report *report)
{
    static const char *const codes[] = {"bad_cursor", "not_owner"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strncmp(report->text, codes[i], strlen(codes[i])) == 0) code = codes[i];
    reply_error(c, code, *report->text ? report->text : weir_err_name(report->err));
}

static void reply_not_joined(const call *c)
{
    reply_error(c, "not_joined",
                "join a group first: you have not, or were silent for too long, or the "
                "group was removed");
}

/* --- Settling ---------------------------------------------------------------------- */

static void put_settling(const call *c)
{
    bus_server *self = c->server;
    self->answered[self->answered_count++] = (settling){.peer = c->peer,
                                                        .delimited = c->delimited,
                                                        .has_id = c->request->has_id,
                                                        .id = c->request->id};
}

/*  What the requests of one group have done is one commit.                             */
static void settle_group(bus_server *self, const char *group)
{
    weir_report report = {0};
    weir_err err = WEIR_OK;
    bool asked = false;
    size_t left = 0;
    for (size_t i = 0; i < self->answered_count; i++) {
        settling *s = &self->answered[i];
        membership *m = s->peer->member;
        if (!streq(m->group, group)) {
            self->answered[left++] = *s;
            continue;
        }
        if (!asked) err = weir_groups_settle(self->groups, m->member, &report);
        asked = true;
        weir_bus_request request = {.has_id = s->has_id, .id = s->id};
        call c = {self, s->peer, s->delimited, &request};
        if (err)
            reply_report(&c, "failed", &report);
        else
            reply_ok(&c);
    }
    self->answered_count = left;
}

static void settle(bus_server *self)
{
    while (self->answered_count) {
        const membership *m = self->answered[0].peer->member;
        settle_group(self, m->group);
    }
}

/* --- Waiting ----------------------------------------------------------------------- */

static call call_of(bus_server *self, waiting *w)
{
    return (call){self, w->peer, w->delimited, &w->request};
}

static void waiting_destroy(waiting **w_p)
{
    waiting *w = *w_p;
    *w_p = NULL;
    w->peer->held--;
    weir_polling_end(&w->polling);
    weir_page_fini(&w->page);
    weir_filter_destroy(&w->poll.where);
    weir_cursor_fini(&w->poll.cursor);
    weir_bus_request_fini(&w->request);
    free(w);
}

static void drop_waiting(bus_server *self, waiting **at)
{
    waiting *w = *at;
    *at = w->next;
    if (!w->next) self->last = at;
    waiting_destroy(&w);
}

static size_t count_waiting(const bus_server *self, const weir_bus_peer *peer)
{
    size_t count = 0;
    for (const waiting *w = self->first; w; w = w->next)
        count += w->peer == peer;
    return count;
}

/*  Takes the call's request; NULL, and it is answered: too many wait.                  */
static waiting *put_waiting(const call *c)
{
    bus_server *self = c->server;
    if (count_waiting(self, c->peer) >= WAITING_MAX) {
        reply_error(c, "busy", "16 of your requests wait already");
        return NULL;
    }
    waiting *w = calloc(1, sizeof *w);
    if (!w) abort();
    *w = (waiting){.peer = c->peer,
                   .delimited = c->delimited,
                   .request = *c->request,
                   .again_us = -1};
    c->peer->held++;
    memset(c->request, 0, sizeof *c->request); // its texts are taken
    c->request->has_id = w->request.has_id;
    c->request->id = w->request.id;
    w->deadline_us = weir_clock_now_us() + (int64_t)w->request.timeout_ms * 1000;
    return w;
}

static void enqueue(bus_server *self, waiting *w)
{
    *self->last = w;
    self->last = &w->next;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static size_t bytes_for(const waiting *w)
{
    return (size_t)least(w->request.bytes, weir_bus_peer_room(w->peer));
}

/* --- Polls ------------------------------------------------------------------------- */

static weir_err compile(const call *c, weir_filter **where, const char *text)
{
    size_t column = 0;
    weir_report report = {0};
    char why[600];
    weir_err err = weir_filter_new(where, text, &column, &report);
    if (!err) return WEIR_OK;
    snprintf(why, sizeof why, "column %zu: %s", column, report.text);
    reply_error(c, "bad_where", why);
    return err;
}

/*  Answers when the cursor or the expression is wrong.                                 */
static weir_err fill_poll(const call *c, waiting *w)
{
    const weir_bus_request *r = &w->request;
    weir_report report = {0};
    weir_poll_request *poll = &w->poll;
    *poll = weir_poll_defaults;
    poll->limit = (uint32_t)r->limit;
    poll->scan = (uint32_t)r->scan;
    poll->timeout_us = (int64_t)r->timeout_ms * 1000;
    poll->shards = r->shards;
    poll->shard_count = r->shard_count;
    poll->by_time = r->by_time;
    poll->from_end = r->from == WEIR_AT_END;
    poll->from_ms = r->from == WEIR_AT_TIME ? r->from_ms : -1;
    if (r->from == WEIR_AT_CURSOR &&
        weir_cursor_read(&poll->cursor, r->cursor, strlen(r->cursor),
                         weir_bus_state_nonce(weir_hub_state(c->server->config->hub)),
                         &report)) {
        reply_report(c, "bad_cursor", &report);
        return report.err;
    }
    return r->where ? compile(c, &poll->where, r->where) : WEIR_OK;
}

/*  True: it is answered.                                                               */
static bool try_poll(bus_server *self, waiting *w)
{
    call c = call_of(self, w);
    weir_buffer out = {0};
    weir_report report = {0};
    weir_err err = WEIR_OK;
    if (!w->polling) {
        int64_t left_us = w->deadline_us - weir_clock_now_us();
        w->poll.timeout_us = left_us > 1000 ? left_us : 1000;
        w->poll.bytes = bytes_for(w);
        err = weir_polling_begin(&w->polling, self->poller, &w->poll, &w->page, &report);
        if (err) {
            reply_report(&c, "bad_request", &report);
            return true;
        }
        w->deadline_us = weir_polling_deadline(w->polling);
    }
    if (!weir_polling_run(w->polling, &err, &report)) return false;
    if (err) {
        reply_report(&c, "failed", &report);
        return true;
    }
    weir_bus_reply_page(&out, c.request, &w->page);
    send_reply(&c, &out);
    return true;
}

/* --- Fetches ----------------------------------------------------------------------- */

static void leave(bus_server *self, weir_bus_peer *peer);

static bool try_fetch(bus_server *self, waiting *w)
{
    call c = call_of(self, w);
    membership *m = w->peer->member;
    weir_delivered delivered = {0};
    weir_buffer out = {0};
    if (!m) {
        reply_not_joined(&c);
        return true;
    }
    w->again_us = -1;
    if (weir_groups_fetch(self->groups, m->member, (uint32_t)w->request.limit,
                          bytes_for(w), &delivered, &w->again_us)) {
        leave(self, w->peer);
        reply_not_joined(&c);
        return true;
    }
    self->tick_us = weir_earlier(self->tick_us, w->again_us);
    bool over = delivered.block || weir_clock_now_us() >= w->deadline_us;
    if (over) weir_bus_reply_delivered(&out, c.request, &delivered);
    weir_delivered_fini(&delivered);
    if (over) send_reply(&c, &out);
    return over;
}

/* --- Serving those that wait ------------------------------------------------------- */

static bool is_ready(const waiting *w, bool woken, int64_t now_us)
{
    if (w->peer->gone) return true;
    if (w->polling) return weir_polling_is_ready(w->polling);
    if (now_us >= w->deadline_us) return true;
    if (!weir_bus_peer_room(w->peer)) return false;
    return woken || w->request.verb == WEIR_BUS_POLL ||
           (w->again_us >= 0 && now_us >= w->again_us);
}

/*  True: it is answered. Nothing is read for a client that does not read.              */
static bool serve(bus_server *self, waiting *w)
{
    if (w->peer->gone) return true;
    if (!w->polling && !weir_bus_peer_room(w->peer)) {
        call c = call_of(self, w);
        w->again_us = -1; // it is looked at when there is room
        if (weir_clock_now_us() < w->deadline_us) return false;
        reply_error(&c, "busy", "you have not read what was sent to you before");
        return true;
    }
    return w->request.verb == WEIR_BUS_POLL ? try_poll(self, w) : try_fetch(self, w);
}

/*  Once more when a poll got on, since that may wake another one.                      */
static void serve_all(bus_server *self)
{
    for (bool again = true; again; again |= self->woken) {
        int64_t now = weir_clock_now_us();
        bool woken = self->woken;
        self->woken = again = false;
        for (waiting **at = &self->first; *at;) {
            bool ready = is_ready(*at, woken, now);
            again |= ready && (*at)->request.verb == WEIR_BUS_POLL;
            if (ready && serve(self, *at))
                drop_waiting(self, at);
            else
                at = &(*at)->next;
        }
    }
}

/* --- Members ----------------------------------------------------------------------- */

static void membership_destroy(bus_server *self, membership **m_p)
{
    membership *m = *m_p;
    *m_p = NULL;
    if (m->member) weir_groups_leave(self->groups, &m->member);
    weir_screen_destroy(&m->screen);
    free(m->group);
    free(m->name);
    free(m);
}

/*  Its fetches are answered when they are looked at next.                              */
static void leave(bus_server *self, weir_bus_peer *peer)
{
    membership *m = peer->member;
    if (!m) return;
    settle(self);
    peer->member = NULL;
    peer->held--;
    membership_destroy(self, &m);
    self->woken = true;
}

/*  A client that came back by another connection, before the old one is known to be gone.
 */
static void replace_namesake(bus_server *self, const weir_bus_peer *peer,
                             const membership *m)
{
    weir_bus_peer *other = weir_bus_peers_first(self->peers);
    for (; other; other = other->next) {
        const membership *o = other->member;
        if (o && other != peer && streq(o->group, m->group) && streq(o->name, m->name) &&
            streq(other->name, peer->name)) {
            leave(self, other);
            return;
        }
    }
}

static void drop_silent(bus_server *self, int64_t now_us)
{
    weir_bus_peer *peer = weir_bus_peers_first(self->peers);
    for (; peer; peer = peer->next) {
        membership *m = peer->member;
        if (!m || (!peer->gone && now_us - peer->seen_us < m->timeout_us)) continue;
        weir_log(WEIR_WARN, "member is %s bus=%s group=%s member=%s",
                 peer->gone ? "gone" : "silent", weir_hub_name(self->config->hub),
                 m->group, m->name);
        leave(self, peer);
    }
}

/* --- Verbs ------------------------------------------------------------------------- */

static void do_hello(const call *c)
{
    weir_buffer out = {0};
    weir_hub *hub = c->server->config->hub;
    const membership *m = c->peer->member;
    weir_bus_hello hello = {.bus = weir_hub_name(hub),
                            .nonce = weir_bus_state_nonce(weir_hub_state(hub)),
                            .vnodes = (uint32_t)weir_hub_config(hub)->vnodes,
                            .member_timeout_ms = m ? m->timeout_us / 1000 : -1};
    weir_bus_reply_hello(&out, c->request, &hello);
    send_reply(c, &out);
}

static void do_poll(const call *c)
{
    bus_server *self = c->server;
    waiting *w = put_waiting(c);
    if (!w) return;
    if (fill_poll(c, w) || serve(self, w))
        waiting_destroy(&w);
    else
        enqueue(self, w);
}

/*  A fetch waits at most half of the time after which a silent member is gone: so one
    that dies while its fetch waits is found out no later than any other. */
static void do_fetch(const call *c)
{
    bus_server *self = c->server;
    const membership *m = c->peer->member;
    if (!m) {
        reply_not_joined(c);
        return;
    }
    c->request->timeout_ms =
        least(c->request->timeout_ms, (uint64_t)m->timeout_us / 2000);
    waiting *w = put_waiting(c);
    if (!w) return;
    if (serve(self, w))
        waiting_destroy(&w);
    else
        enqueue(self, w);
}

/*  No node here has had it.                                                            */
static void buried(void *arg)
{
    bus_server *self = arg;
    weir_count_add(self->config->bus_vitals, WEIR_COUNT_GIVEN_UP, 1);
}

static weir_group_config config_of(bus_server *self, const weir_bus_request *r)
{
    static const int starts[] = {
        [WEIR_AT_START] = WEIR_GROUP_START,
        [WEIR_AT_END] = WEIR_GROUP_END,
        [WEIR_AT_TIME] = WEIR_GROUP_TIME,
        [WEIR_AT_CURSOR] = WEIR_GROUP_CURSOR,
    };
    weir_group_config config = weir_group_defaults;
    bool timed = r->ack_timeout_ms != WEIR_NONE;
    config.ack_timeout_us = timed ? r->ack_timeout_ms * 1000 : WEIR_NONE;
    config.member_timeout_us = WEIR_NONE; // only we know when it spoke last
    config.buried = buried;
    config.arg = self;
    config.retry.first_us = (int64_t)r->retry_first_ms * 1000;
    config.retry.max_us = (int64_t)r->retry_max_ms * 1000;
    config.max_deliver = r->max_deliver;
    config.window = (int64_t)r->window;
    config.start = starts[r->from];
    config.start_ms = r->from_ms;
    config.start_cursor = r->cursor;
    return config;
}

/*  Answers when the expression is wrong.                                               */
static weir_err open_screen(const call *c, membership *m)
{
    weir_screen_config config = WEIR_SCREEN_DEFAULTS;
    weir_report report = {0};
    weir_filter *where = NULL;
    if (!c->request->where) return WEIR_OK;
    if (compile(c, &where, c->request->where)) return WEIR_EINVAL;
    weir_filter_destroy(&where);
    config.where = c->request->where;
    weir_err err = weir_screen_new(&m->screen, &config, NULL, &report);
    if (err) reply_report(c, "bad_where", &report);
    return err;
}

static membership *membership_new(const call *c)
{
    const weir_bus_request *r = c->request;
    membership *m = calloc(1, sizeof *m);
    if (!m) abort();
    m->group = strdup(r->group);
    int size = r->member ? asprintf(&m->name, "%s", r->member)
                         : asprintf(&m->name, "member-%u", ++c->server->members);
    if (!m->group || size < 0) abort();
    m->timeout_us = (int64_t)r->member_timeout_ms * 1000;
    return m;
}

static void do_join(const call *c)
{
    bus_server *self = c->server;
    weir_group_config config = config_of(self, c->request);
    weir_report report = {0};
    leave(self, c->peer);
    membership *m = membership_new(c);
    weir_err err = open_screen(c, m);
    if (err) {
        membership_destroy(self, &m);
        return;
    }
    if (c->request->member) replace_namesake(self, c->peer, m);
    err = weir_groups_join(self->groups, m->group, m->name, &config, m->screen,
                           self->wake_fd, &m->member, &report);
    if (err) {
        reply_report(c, err == WEIR_EINVAL ? "bad_cursor" : "failed", &report);
        membership_destroy(self, &m);
        return;
    }
    c->peer->member = m;
    c->peer->held++;
    reply_ok(c);
}

/*  It is answered when it is durable, or at once when it was not taken.                */
static void reply_taken(const call *c, weir_err err, const weir_report *report)
{
    if (err)
        reply_report(c, err == WEIR_EREFUSED ? "not_owner" : "failed", report);
    else
        put_settling(c);
}

static void do_ack(const call *c)
{
    const membership *m = c->peer->member;
    const weir_bus_request *r = c->request;
    weir_report report = {0};
    if (!m) {
        reply_not_joined(c);
        return;
    }
    weir_err err = weir_groups_ack_soon(c->server->groups, m->member, (uint32_t)r->shard,
                                        (weir_position){r->a, r->b}, r->up_to, &report);
    reply_taken(c, err, &report);
}

static void do_nack(const call *c)
{
    const membership *m = c->peer->member;
    const weir_bus_request *r = c->request;
    weir_report report = {0};
    if (!m) {
        reply_not_joined(c);
        return;
    }
    int64_t delay_us = r->delay_ms < 0 ? -1 : r->delay_ms * 1000;
    weir_err err =
        weir_groups_nack_soon(c->server->groups, m->member, (uint32_t)r->shard,
                              (weir_position){r->a, r->b}, delay_us, r->why, &report);
    c->server->woken = true;
    reply_taken(c, err, &report);
}

static void do_leave(const call *c)
{
    leave(c->server, c->peer);
    reply_ok(c);
}

static void do_groups(const call *c)
{
    weir_group_look *list = NULL;
    size_t count = 0;
    weir_buffer out = {0};
    weir_report report = {0};
    if (weir_groups_look(c->server->groups, &list, &count, &report)) {
        reply_report(c, "failed", &report);
        return;
    }
    weir_bus_reply_groups(&out, c->request, list, count);
    weir_group_looks_free(&list, count);
    send_reply(c, &out);
}

static void (*const verbs[])(const call *c) = {
    [WEIR_BUS_HELLO] = do_hello, [WEIR_BUS_POLL] = do_poll,     [WEIR_BUS_JOIN] = do_join,
    [WEIR_BUS_FETCH] = do_fetch, [WEIR_BUS_ACK] = do_ack,       [WEIR_BUS_NACK] = do_nack,
    [WEIR_BUS_LEAVE] = do_leave, [WEIR_BUS_GROUPS] = do_groups,
};

/* --- Messages ---------------------------------------------------------------------- */

/*  Whoever sends nonsense may send much of it.                                         */
static void complain(bus_server *self, const weir_bus_peer *peer, const char *cause)
{
    int64_t now = weir_clock_now_us();
    self->refused++;
    if (self->complained_us && now - self->complained_us < complain_us) return;
    self->complained_us = now;
    weir_log(WEIR_WARN, "request refused bus=%s peer=%s cause=\"%s\" so_far=%llu",
             weir_hub_name(self->config->hub), *peer->name ? peer->name : "local", cause,
             (unsigned long long)self->refused);
}

static void answer(bus_server *self, const weir_bus_message *message)
{
    weir_bus_request request;
    weir_report report = {0};
    call c = {self, message->peer, message->delimited, &request};
    weir_err err = weir_bus_request_read(&request, message->data, message->size, &report);
    const char *cause = message->refused ? message->refused : report.text;
    if (message->refused || err) {
        complain(self, message->peer, cause);
        reply_error(&c, message->refused ? message->code : "bad_request", cause);
    } else {
        message->peer->seen_us = weir_clock_now_us();
        verbs[request.verb](&c);
    }
    weir_bus_request_fini(&request);
}

static bool read_messages(bus_server *self)
{
    weir_bus_message message;
    int count = 0;
    while (count < MESSAGES_A_TURN && weir_bus_peers_next(self->peers, &message)) {
        answer(self, &message);
        count++;
    }
    settle(self);
    return count > 0;
}

static void nothing(void *arg)
{
    (void)arg; // the next turn looks at the clock
}

static void set_timer(bus_server *self)
{
    int64_t next = self->tick_us, now = weir_clock_now_us();
    for (const waiting *w = self->first; w; w = w->next)
        next = weir_earlier(weir_earlier(next, w->deadline_us), w->again_us);
    weir_bus_peer *peer = weir_bus_peers_first(self->peers);
    for (; peer; peer = peer->next) {
        const membership *m = peer->member;
        if (m) next = weir_earlier(next, peer->seen_us + m->timeout_us);
    }
    weir_actor_timer(self->kit, nothing, next < 0 ? -1 : next > now ? next - now : 0);
}

/*  The last look at the sockets before waiting is one that finds nothing, since their
    descriptors tell only of what comes after it.                                       */
static bool turn(void *arg)
{
    bus_server *self = arg;
    if (!self->peers) return false;
    int64_t now = weir_clock_now_us();
    if (self->tick_us >= 0 && now >= self->tick_us)
        self->tick_us = weir_groups_tick(self->groups, now);
    drop_silent(self, now);
    weir_poller_receive(self->poller);
    serve_all(self);
    if (read_messages(self)) return true;
    weir_bus_peers_sweep(self->peers);
    set_timer(self);
    return false;
}

/* --- Lifecycle --------------------------------------------------------------------- */

static void members_woken(void *arg)
{
    bus_server *self = arg;
    eventfd_read(self->wake_fd, &(eventfd_t){0});
    self->woken = true;
}

static weir_err watch_all(bus_server *self, weir_report *report)
{
    int fds[2], fd;
    weir_poller_fds(self->poller, fds);
    weir_err err = weir_actor_watch(self->kit, self->wake_fd, members_woken);
    if (!err) err = weir_actor_watch(self->kit, fds[0], nothing);
    if (!err) err = weir_actor_watch(self->kit, fds[1], nothing);
    if (!err)
        err = weir_actor_watch(self->kit, weir_bus_peers_room_fd(self->peers), nothing);
    for (int i = 0; !err && (fd = weir_bus_peers_fd(self->peers, i)) >= 0; i++)
        err = weir_actor_watch(self->kit, fd, nothing);
    return err ? weir_report_set(report, err, NULL, "no descriptors left") : WEIR_OK;
}

static void tell_endpoint(const bus_server *self, const char *endpoint)
{
    weir_vitals_set_endpoint(self->config->bus_vitals, endpoint);
    weir_log(WEIR_INFO, "listening endpoint=%s", endpoint);
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    bus_server *self = arg;
    const weir_bus_server_config *c = self->config = config;
    const weir_bus_options *o = weir_hub_config(c->hub);
    self->kit = kit;
    self->last = &self->first;
    self->tick_us = -1;
    self->groups = weir_hub_groups(c->hub);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->poller = weir_poller_new(weir_hub_store(c->hub),
                                   weir_bus_state_nonce(weir_hub_state(c->hub)));
    if (self->wake_fd < 0 || !self->poller)
        return weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left");
    weir_err err = weir_bus_peers_new(&self->peers,
                                      &(weir_bus_peers_config){.kit = kit,
                                                               .bus = c->node.name,
                                                               .listen = o->listen,
                                                               .plaintext = o->plaintext},
                                      report);
    if (err || !self->peers) return err;
    for (int i = 0; weir_bus_peers_endpoint(self->peers, i); i++)
        tell_endpoint(self, weir_bus_peers_endpoint(self->peers, i));
    return watch_all(self, report);
}

static void fini(void *arg)
{
    bus_server *self = arg;
    for (waiting *w = self->first; w; w = w->next) {
        call c = call_of(self, w);
        reply_error(&c, "closed", "the bus ends");
    }
    while (self->first)
        drop_waiting(self, &self->first);
    weir_bus_peer *peer = self->peers ? weir_bus_peers_first(self->peers) : NULL;
    for (; peer; peer = peer->next)
        leave(self, peer);
    weir_bus_peers_destroy(&self->peers);
    weir_poller_destroy(&self->poller);
    if (self->wake_fd >= 0) close(self->wake_fd);
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_bus_server_config defaults = {.hub = NULL};
static const weir_option options[] = {{.name = NULL}};

const weir_class weir_bus_server_class = {
    .name = "bus server",
    .help = "lets other processes read a bus with a store",
    .actor = weir_bus_server,
    .size = sizeof(bus_server),
    .config_size = sizeof(weir_bus_server_config),
    .defaults = &defaults,
    .options = options,
    .init = init,
    .fini = fini,
    .turn = turn,
};

void weir_bus_server(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_bus_server_class, pipe, config);
}
