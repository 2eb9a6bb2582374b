#include "actors/redis_group.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/clock.h"
#include "runtime/log.h"

/*  count_first: of entries that are asked for before their size is known. count_max: of
    entries in one request. acks_max: of ids in one XACK.                             */
enum { count_first = 16, count_max = 1000, acks_max = 1000, rounds_max = 5 };

/*  What an answer should have, and may have unless it is a single entry.             */
static const size_t answer_bytes = 1 << 20, answer_most = 16 << 20;
static const int64_t block_max_us = 5000000; // that a read waits there
static const int64_t leave_us = 200000; // that an answer may be on its way at the end

typedef enum { MAKE, ASK, REMAKE, OWN, CLAIM, NEW } step;

struct weir_redis_group {
    weir_redis_group_config config;
    weir_redis_line *reads, *acks;
    bool moves; // to where MOVED leads, or home: to the server that the url names
    bool away_from_home;
    char host[256]; // "": home
    uint16_t port;
    unsigned rounds; // of MOVED, in a row
    bool leaving;
    int64_t leave_us; // when it has left at the latest

    /*  Reading.                                                                      */
    step step;
    bool asked;          // a request is out
    size_t count;        // that it asked for
    size_t average;      // bytes of an entry, about; 0: not known
    weir_position own;   // behind which own entries are asked for
    weir_position claim; // from which others' are
    int64_t claim_us;    // when that is due
    bool has_last;
    weir_position last;   // of new entries
    weir_position remake; // where the group is made to begin
    bool remake_start;    // as the config says
    bool looked;          // of a config that says `$`: `first` is where that was
    weir_position first;
    uint64_t attempts; // that have failed
    int64_t due_us;    // of the next one
    bool away, acks_away, failing;
    bool idle;        // the last read found nothing more
    int64_t again_us; // when own entries are asked for once more; 0: not

    /*  Acknowledging.                                                                */
    weir_redis_pending *safe, **safe_end; // to be acknowledged; of them the first
    size_t safe_count, acking;            // `acking` are in a request
    uint64_t ack_attempts;
    int64_t ack_due_us;

    weir_redis_pending **buckets; // of all that are pending, by id
    size_t bucket_count, pending;
};

static weir_actor *kit_of(const weir_redis_group *self)
{
    return self->config.port->kit;
}

/* --- Pending ----------------------------------------------------------------------- */

static weir_redis_pending **find(const weir_redis_group *self, weir_position id)
{
    uint64_t hash =
        (id.a * UINT64_C(0x9e3779b97f4a7c15) + id.b) * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    weir_redis_pending **at = &self->buckets[hash & (self->bucket_count - 1)];
    while (*at && weir_position_order((*at)->id, id))
        at = &(*at)->chain;
    return at;
}

static void forget(weir_redis_group *self, weir_redis_pending *entry)
{
    weir_redis_pending **at = find(self, entry->id);
    *at = entry->chain;
    self->pending--;
    free(entry);
}

/*  NULL: it is pending already.                                                      */
static weir_redis_pending *remember(weir_redis_group *self, weir_position id)
{
    weir_redis_pending **at = find(self, id), *entry;
    if (*at) return NULL;
    entry = calloc(1, sizeof *entry);
    if (!entry) abort();
    entry->group = self;
    entry->id = id;
    self->pending++;
    return *at = entry;
}

size_t weir_redis_group_pending(const weir_redis_group *self)
{
    return self->pending;
}

/* --- Failures ---------------------------------------------------------------------- */

static void say_waiting(const weir_redis_group *self, const char *cause)
{
    weir_vitals_wait(weir_actor_vitals(kit_of(self)), WEIR_WAIT_LINK,
                     self->acks->url.shown, "%s", cause);
}

static void say_flowing(const weir_redis_group *self)
{
    if (self->away || self->acks_away || self->failing || self->ack_attempts) return;
    weir_vitals_flow(weir_actor_vitals(kit_of(self)), WEIR_WAIT_LINK,
                     self->acks->url.shown);
}

/*  When the next attempt is due, after so many; -1: the actor has failed.            */
static int64_t next_attempt(weir_redis_group *self, uint64_t attempts, const char *cause)
{
    const weir_redis_server *server = self->config.port->config;
    weir_count_add(weir_actor_vitals(kit_of(self)), WEIR_COUNT_RETRIES, 1);
    if (server->attempts == WEIR_FOREVER || attempts < (uint64_t)server->attempts)
        return weir_clock_now_us() + weir_retry_wait_us(&server->wait,
                                                        self->config.port->nonce,
                                                        (uintptr_t)self, 0, attempts);
    weir_actor_fail(kit_of(self), WEIR_ETIMEOUT, self->acks->url.shown,
                    "%s: %d attempts: %s", self->config.stream, (int)attempts, cause);
    return -1;
}

static void hold(weir_redis_group *self, const char *cause)
{
    self->due_us = next_attempt(self, ++self->attempts, cause);
    if (self->due_us < 0) return;
    if (!self->failing)
        weir_log(WEIR_WARN,
                 "redis gives no entries, trying again server=%s stream=%s "
                 "cause=\"%s\"",
                 self->reads->url.shown, self->config.stream, cause);
    self->failing = true;
    say_waiting(self, cause);
}

static void note_success(weir_redis_group *self)
{
    self->attempts = 0;
    self->rounds = 0;
    if (!self->failing) return;
    self->failing = false;
    say_flowing(self);
    weir_log(WEIR_INFO, "redis gives entries again server=%s stream=%s",
             self->reads->url.shown, self->config.stream);
}

/*  The lines move when nobody looks at them.                                         */
static void follow(weir_redis_group *self, const char *error, const char *text)
{
    char host[256];
    uint16_t port;
    if (!weir_redis_moved(error, host, &port)) {
        hold(self, text);
        return;
    }
    if (++self->rounds > rounds_max) hold(self, text);
    self->moves = true;
    snprintf(self->host, sizeof self->host, "%s", host[0] ? host : self->acks->url.host);
    self->port = port;
}

static bool begins(const char *text, const char *start)
{
    return !strncmp(text, start, strlen(start));
}

/*  The group was lost with its stream, or was removed.                               */
static void remake(weir_redis_group *self, const char *text)
{
    weir_log(WEIR_WARN,
             "the group is gone, and is made anew stream=%s group=%s "
             "cause=\"%s\"",
             self->config.stream, self->config.group, text);
    self->step = ASK;
    hold(self, text);
}

static void take_error(weir_redis_group *self, const char *error)
{
    char *text = weir_redis_url_hide(&self->reads->url, error);
    weir_redis_verdict verdict = weir_redis_judge(error);
    if (begins(error, "NOGROUP ")) {
        remake(self, text);
    } else if (verdict == WEIR_REDIS_MOVED) {
        follow(self, error, text);
    } else if (verdict == WEIR_REDIS_LATER || begins(error, "UNBLOCKED ")) {
        hold(self, text);
        /*  Another server may have the address by now.                               */
        if (begins(error, "READONLY "))
            weir_redis_conn_drop(self->reads->conn, false, text);
    } else {
        weir_actor_fail(kit_of(self), WEIR_EREFUSED, self->reads->url.shown, "%s: %s",
                        self->config.stream, text);
    }
    free(text);
}

/* --- Entries ----------------------------------------------------------------------- */

static void ack_missing(weir_redis_group *self, weir_position id)
{
    weir_redis_pending *entry = remember(self, id);
    if (!entry) return; // it was there when it was given
    self->config.deleted(self->config.arg, 1);
    weir_redis_group_ack(self, entry);
}

/*  [id, fields], or [id, nil] of one that is pending and was deleted.                */
static bool take_entry(weir_redis_group *self, const redisReply *one, weir_position *id)
{
    if (one->type == REDIS_REPLY_NIL) return true; // as 6.2 has it
    if (one->type != REDIS_REPLY_ARRAY || one->elements != 2 ||
        !weir_redis_id_read(id, one->element[0]))
        return false;
    if (one->element[1]->type == REDIS_REPLY_NIL) {
        ack_missing(self, *id);
        return true;
    }
    weir_redis_pending *entry = remember(self, *id);
    if (entry) self->config.take(self->config.arg, entry, one->element[1]);
    return true;
}

static size_t size_of(const redisReply *reply)
{
    size_t size = sizeof *reply + reply->len;
    bool list = reply->type == REDIS_REPLY_ARRAY;
    for (size_t i = 0; list && i < reply->elements; i++)
        size += size_of(reply->element[i]);
    return size;
}

static bool take_entries(weir_redis_group *self, const redisReply *list)
{
    weir_position id = {0};
    if (list->type != REDIS_REPLY_ARRAY) return false;
    for (size_t i = 0; i < list->elements; i++) {
        if (!take_entry(self, list->element[i], &id)) return false;
        if (weir_actor_failed(kit_of(self))) return true;
        if (self->step == OWN) self->own = id;
        if (self->step != NEW || weir_position_order(id, self->last) < 0) continue;
        self->has_last = true;
        self->last = id;
    }
    if (list->elements) {
        size_t average = size_of(list) / list->elements;
        self->average =
            average > self->average ? average : (3 * self->average + average) / 4;
    }
    self->config.taken(self->config.arg);
    return true;
}

bool weir_redis_group_is_idle(const weir_redis_group *self)
{
    return self->idle && self->step == NEW;
}

/* --- Answers ----------------------------------------------------------------------- */

static void go_own(weir_redis_group *self)
{
    self->step = OWN;
    self->own = (weir_position){0};
}

static void go_new(weir_redis_group *self)
{
    int64_t now = weir_clock_now_us();
    bool claims = self->config.claim_after_us != WEIR_NONE;
    self->step = claims && now >= self->claim_us ? CLAIM : NEW;
    self->claim = (weir_position){0};
    if (!self->again_us || now < self->again_us) return;
    self->again_us = 0;
    go_own(self);
}

static bool take_made(weir_redis_group *self, const redisReply *reply)
{
    (void)reply; // OK
    go_own(self);
    return true;
}

/*  What there is decides where the new group begins: behind the last entry that came, so
    that none is left out; before any came it is where the config says, and `$` is what it
    was at first. If the stream does not reach there it is another one.               */
static void begin_at(weir_redis_group *self, weir_position last)
{
    bool end = !strcmp(self->config.start, "$");
    if (end && !self->looked) self->first = last;
    self->looked = true;
    self->remake_start = !self->has_last && !end;
    self->remake = self->has_last ? self->last : self->first;
    if (weir_position_order(last, self->remake) < 0) self->remake = (weir_position){0};
    self->step = REMAKE;
}

static bool take_look(weir_redis_group *self, const redisReply *reply)
{
    weir_position last = {0};
    if (reply->type != REDIS_REPLY_ARRAY) return false;
    for (size_t i = 0; i + 1 < reply->elements; i += 2)
        if (weir_redis_says(reply->element[i], "last-generated-id") &&
            !weir_redis_id_read(&last, reply->element[i + 1]))
            return false;
    begin_at(self, last);
    return true;
}

/*  [[stream, entries]]; or nil, when nothing came.                                   */
static const redisReply *entries_of(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1) return NULL;
    const redisReply *one = reply->element[0];
    return one->type == REDIS_REPLY_ARRAY && one->elements == 2 ? one->element[1] : NULL;
}

static bool take_own(weir_redis_group *self, const redisReply *reply)
{
    const redisReply *list = entries_of(reply);
    if (list && list->type == REDIS_REPLY_ARRAY && list->elements)
        return take_entries(self, list);
    go_new(self);
    return list || reply->type == REDIS_REPLY_NIL;
}

static bool take_new(weir_redis_group *self, const redisReply *reply)
{
    const redisReply *list = entries_of(reply);
    bool good = list ? take_entries(self, list) : reply->type == REDIS_REPLY_NIL;
    self->idle = !list || list->elements < self->count;
    if (self->step == NEW) go_new(self);
    return good;
}

/*  Those that the server has taken off, since they are not there; what was given was not
    deleted unread, and what was found to be missing is counted.                      */
static void take_deleted(weir_redis_group *self, const redisReply *list)
{
    uint64_t count = 0;
    weir_position id;
    bool is = list->type == REDIS_REPLY_ARRAY;
    for (size_t i = 0; is && i < list->elements; i++)
        count += weir_redis_id_read(&id, list->element[i]) && !*find(self, id);
    if (count) self->config.deleted(self->config.arg, count);
}

/*  [next, entries, ids that were deleted]                                            */
static bool take_claimed(weir_redis_group *self, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 ||
        !weir_redis_id_read(&self->claim, reply->element[0]))
        return false;
    if (reply->elements > 2) take_deleted(self, reply->element[2]);
    if (!take_entries(self, reply->element[1])) return false;
    if (self->claim.a || self->claim.b) return true;
    self->claim_us = weir_clock_now_us() + self->config.claim_after_us / 2;
    self->step = NEW;
    return true;
}

static bool (*const takes[])(weir_redis_group *self, const redisReply *reply) = {
    [MAKE] = take_made, [ASK] = take_look,      [REMAKE] = take_made,
    [OWN] = take_own,   [CLAIM] = take_claimed, [NEW] = take_new,
};

/*  True: it says what was asked for all the same.                                    */
static bool is_no_error(weir_redis_group *self, const char *error)
{
    if ((self->step == MAKE || self->step == REMAKE) && begins(error, "BUSYGROUP ")) {
        go_own(self);
        return true;
    }
    if (self->step != ASK || !begins(error, "ERR no such key")) return false;
    begin_at(self, (weir_position){0});
    self->remake_start = false;
    return true;
}

/*  How long a read waits there at most: no longer than a half of the timeout, so that a
    server that is gone is told from one that has nothing.                            */
static int64_t block_us(const weir_redis_group *self)
{
    int64_t wait_us = self->config.port->config->timeout_us / 2;
    return wait_us < block_max_us ? wait_us : block_max_us;
}

/*  Of an answer that was too large fewer entries are asked for. Where the server does not
    know that the connection is lost, the read still waits there, and is given what comes
    meanwhile: that is pending, and shows when own entries are asked for behind it.   */
static void take_loss(weir_redis_group *self)
{
    if (!self->reads) return;
    if (weir_redis_conn_too_large(self->reads->conn) == self)
        self->average = answer_bytes / (self->count > 8 ? self->count / 8 : 1);
    else if (self->step == NEW)
        self->again_us = weir_clock_now_us() + 2 * block_us(self);
}

static void answered(void *arg, const redisReply *reply)
{
    weir_redis_group *self = arg;
    self->asked = false;
    if (weir_actor_failed(kit_of(self))) return;
    if (self->leaving && (!reply || reply->type == REDIS_REPLY_ERROR)) return;
    if (!reply) {
        take_loss(self);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        if (!is_no_error(self, reply->str)) take_error(self, reply->str);
    } else if (takes[self->step](self, reply)) {
        note_success(self);
    } else {
        weir_actor_fail(kit_of(self), WEIR_EMALFORMED, self->reads->url.shown,
                        "%s: the server's answer makes no sense", self->config.stream);
    }
}

/* --- Requests ---------------------------------------------------------------------- */

static void put_make(weir_redis_group *self, weir_buffer *out)
{
    char id[WEIR_REDIS_ID_MAX];
    const weir_redis_group_config *c = &self->config;
    weir_redis_id_put(self->remake, id);
    bool start = self->step == MAKE || self->remake_start;
    weir_redis_put_command(out, (const char *const[]){"XGROUP", "CREATE", c->stream,
                                                      c->group, start ? c->start : id,
                                                      "MKSTREAM", NULL});
}

static void put_look(weir_redis_group *self, weir_buffer *out)
{
    weir_redis_put_command(
        out, (const char *const[]){"XINFO", "STREAM", self->config.stream, NULL});
}

static uint64_t block_ms(const weir_redis_group *self)
{
    int64_t wait_us = block_us(self);
    int64_t claim_us = self->claim_us - weir_clock_now_us();
    if (self->config.claim_after_us != WEIR_NONE && claim_us < wait_us)
        wait_us = claim_us;
    return wait_us < 1000 ? 1 : (uint64_t)wait_us / 1000;
}

static void put_read(weir_redis_group *self, weir_buffer *out)
{
    const weir_redis_group_config *c = &self->config;
    char id[WEIR_REDIS_ID_MAX] = ">";
    bool new = self->step == NEW;
    if (!new) weir_redis_id_put(self->own, id);
    weir_redis_put_head(out, new ? 11 : 9);
    weir_redis_put_text(out, "XREADGROUP");
    weir_redis_put_text(out, "GROUP");
    weir_redis_put_text(out, c->group);
    weir_redis_put_text(out, c->consumer);
    weir_redis_put_text(out, "COUNT");
    weir_redis_put_number(out, self->count);
    if (new) weir_redis_put_text(out, "BLOCK");
    if (new) weir_redis_put_number(out, block_ms(self));
    weir_redis_put_text(out, "STREAMS");
    weir_redis_put_text(out, c->stream);
    weir_redis_put_text(out, id);
}

static void put_claim(weir_redis_group *self, weir_buffer *out)
{
    const weir_redis_group_config *c = &self->config;
    char id[WEIR_REDIS_ID_MAX];
    weir_redis_id_put(self->claim, id);
    weir_redis_put_head(out, 8);
    weir_redis_put_text(out, "XAUTOCLAIM");
    weir_redis_put_text(out, c->stream);
    weir_redis_put_text(out, c->group);
    weir_redis_put_text(out, c->consumer);
    weir_redis_put_number(out, (uint64_t)(c->claim_after_us + 999) / 1000);
    weir_redis_put_text(out, id);
    weir_redis_put_text(out, "COUNT");
    weir_redis_put_number(out, self->count);
}

static void (*const puts_[])(weir_redis_group *self, weir_buffer *out) = {
    [MAKE] = put_make, [ASK] = put_look,    [REMAKE] = put_make,
    [OWN] = put_read,  [CLAIM] = put_claim, [NEW] = put_read,
};

static void request(weir_redis_group *self, size_t room)
{
    size_t count = self->average ? answer_bytes / self->average : count_first;
    if (count > count_max) count = count_max;
    if (count > room) count = room;
    self->count = count ? count : 1;
    self->asked = true;
    puts_[self->step](self, weir_redis_conn_out(self->reads->conn));
    weir_redis_conn_expect(self->reads->conn, answered, self,
                           self->count > 1 ? answer_most : 0);
}

/* --- Acknowledging ----------------------------------------------------------------- */

void weir_redis_group_ack(weir_redis_group *self, weir_redis_pending *entry)
{
    entry->next = NULL;
    *self->safe_end = entry;
    self->safe_end = &entry->next;
    self->safe_count++;
}

size_t weir_redis_group_unacked(const weir_redis_group *self)
{
    return self->safe_count;
}

static void forget_acked(weir_redis_group *self)
{
    for (; self->acking; self->acking--) {
        weir_redis_pending *entry = self->safe;
        self->safe = entry->next;
        if (!self->safe) self->safe_end = &self->safe;
        self->safe_count--;
        forget(self, entry);
    }
}

static void ack_failed(weir_redis_group *self, const char *error)
{
    char *text = weir_redis_url_hide(&self->acks->url, error);
    self->acking = 0;
    if (weir_redis_judge(error) == WEIR_REDIS_MOVED) {
        follow(self, error, text);
    } else if (weir_redis_judge(error) == WEIR_REDIS_LATER) {
        self->ack_due_us = next_attempt(self, ++self->ack_attempts, text);
        say_waiting(self, text);
        if (begins(error, "READONLY "))
            weir_redis_conn_drop(self->acks->conn, false, text);
    } else {
        weir_actor_fail(kit_of(self), WEIR_EREFUSED, self->acks->url.shown, "%s: %s",
                        self->config.stream, text);
    }
    free(text);
}

/*  What was not pending any more, the group's or the stream's fate, is of no concern.  */
static void acked(void *arg, const redisReply *reply)
{
    weir_redis_group *self = arg;
    if (!reply) {
        self->acking = 0;
    } else if (reply->type == REDIS_REPLY_ERROR) {
        ack_failed(self, reply->str);
    } else {
        bool failed = self->ack_attempts > 0;
        self->ack_attempts = 0;
        if (failed) say_flowing(self);
        forget_acked(self);
    }
}

static void send_acks(weir_redis_group *self)
{
    char id[WEIR_REDIS_ID_MAX];
    weir_buffer *out = weir_redis_conn_out(self->acks->conn);
    size_t count = self->safe_count < acks_max ? self->safe_count : acks_max;
    const weir_redis_pending *entry = self->safe;
    weir_redis_put_head(out, 3 + count);
    weir_redis_put_text(out, "XACK");
    weir_redis_put_text(out, self->config.stream);
    weir_redis_put_text(out, self->config.group);
    for (size_t i = 0; i < count; i++, entry = entry->next)
        weir_redis_put_word(out, id, weir_redis_id_put(entry->id, id));
    self->acking = count;
    weir_redis_conn_expect(self->acks->conn, acked, self, 0);
}

/* --- Connections ------------------------------------------------------------------- */

/*  What is pending is asked for again: an answer may have been lost on its way.       */
static void reads_opened(void *arg)
{
    weir_redis_group *self = arg;
    self->asked = self->away = false;
    if (self->step > REMAKE) go_own(self);
    say_flowing(self);
}

/*  True: an attempt has failed, and another one follows.                             */
static bool note_end(weir_redis_group *self, const weir_redis_line *line)
{
    bool fatal;
    if (self->leaving || !weir_redis_conn_failures(line->conn)) return false;
    if (weir_redis_port_gives_up(self->config.port, line)) return false;
    weir_count_add(weir_actor_vitals(kit_of(self)), WEIR_COUNT_RETRIES, 1);
    say_waiting(self, weir_redis_conn_error(line->conn, &fatal));
    return true;
}

static void reads_ended(void *arg)
{
    weir_redis_group *self = arg;
    if (!note_end(self, self->reads)) return;
    self->away = true;
    self->moves = self->away_from_home; // where they know who has the stream by now
    self->host[0] = 0;
}

static void acks_opened(void *arg)
{
    weir_redis_group *self = arg; // the next turn sends
    self->acks_away = false;
    say_flowing(self);
}

static void acks_ended(void *arg)
{
    weir_redis_group *self = arg;
    if (note_end(self, self->acks)) self->acks_away = true;
}

bool weir_redis_group_is_away(const weir_redis_group *self)
{
    return weir_redis_conn_failures(self->acks->conn) > 0 || self->ack_attempts > 0;
}

static bool dial(weir_redis_group *self, const char *host, uint16_t port)
{
    weir_redis_call_back reads = {"reads", reads_opened, reads_ended, self};
    weir_redis_call_back acks = {"acknowledgements", acks_opened, acks_ended, self};
    if (!self->leaving)
        self->reads = weir_redis_port_dial(self->config.port, host, port, &reads);
    self->acks = weir_redis_port_dial(self->config.port, host, port, &acks);
    return self->acks && (self->reads || self->leaving);
}

static void hang_up(weir_redis_group *self)
{
    weir_redis_port_hang_up(self->config.port, &self->reads);
    weir_redis_port_hang_up(self->config.port, &self->acks);
}

static void move(weir_redis_group *self)
{
    char host[256];
    memcpy(host, self->host, sizeof host);
    hang_up(self);
    self->asked = self->moves = false;
    self->acks_away = false;
    self->away_from_home = host[0] != 0;
    if (!dial(self, host[0] ? host : NULL, self->port))
        weir_actor_fail(kit_of(self), WEIR_EREFUSED, self->config.port->url.shown,
                        "%s has moved to %s, which must not be spoken to without "
                        "plaintext",
                        self->config.stream, host);
}

/* --- Running ----------------------------------------------------------------------- */

/*  What is given to a read that nobody waits for any more stays pending for long.     */
static int64_t run_leaving(weir_redis_group *self, int64_t now)
{
    if (!self->reads) return -1;
    if (self->asked && now < self->leave_us) return self->leave_us;
    weir_redis_port_hang_up(self->config.port, &self->reads);
    return now;
}

/*  An answer that tells what is pending may be older than that of an XACK which comes
    before it, and would give what was forgotten once more: so one waits for the other. */
static bool asks_for_pending(const weir_redis_group *self)
{
    return self->step == OWN || self->step == CLAIM;
}

static int64_t run_acks(weir_redis_group *self, int64_t now)
{
    if (!self->safe_count || self->acking) return -1;
    if (self->asked && asks_for_pending(self)) return -1;
    if (self->ack_due_us > now) return self->ack_due_us;
    if (weir_redis_conn_is_ready(self->acks->conn)) send_acks(self);
    return -1;
}

static int64_t run_reads(weir_redis_group *self, int64_t now, size_t room)
{
    if (self->leaving) return run_leaving(self, now);
    if (self->asked || !room) return -1;
    if (self->due_us > now) return self->due_us;
    if (self->acking && asks_for_pending(self)) return -1;
    if (weir_redis_conn_is_ready(self->reads->conn)) request(self, room);
    return -1;
}

int64_t weir_redis_group_run(weir_redis_group *self, size_t room)
{
    int64_t now = weir_clock_now_us();
    if (self->moves) move(self);
    if (weir_actor_failed(kit_of(self))) return -1;
    int64_t due = weir_earlier(run_acks(self, now), run_reads(self, now, room));
    return due < 0 ? -1 : due - now;
}

void weir_redis_group_leave(weir_redis_group *self)
{
    self->leaving = true;
    self->leave_us = weir_clock_now_us() + leave_us;
}

bool weir_redis_group_has_left(const weir_redis_group *self)
{
    return self->leaving && !self->reads;
}

/* --- Life -------------------------------------------------------------------------- */

weir_redis_group *weir_redis_group_new(const weir_redis_group_config *config)
{
    weir_redis_group *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->config = *config;
    self->safe_end = &self->safe;
    self->step = strcmp(config->start, "$") ? MAKE : ASK;
    self->bucket_count = 16;
    while (self->bucket_count < config->window)
        self->bucket_count *= 2;
    self->buckets = calloc(self->bucket_count, sizeof *self->buckets);
    if (!self->buckets) abort();
    if (!dial(self, NULL, 0)) weir_redis_group_destroy(&self);
    return self;
}

void weir_redis_group_destroy(weir_redis_group **self_p)
{
    weir_redis_group *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    self->leaving = true;
    hang_up(self);
    for (size_t i = 0; i < self->bucket_count; i++)
        for (weir_redis_pending *entry; (entry = self->buckets[i]); free(entry))
            self->buckets[i] = entry->chain;
    free(self->buckets);
    free(self);
}
