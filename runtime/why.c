#include "runtime/why.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*  A step of a node's thread takes milliseconds; one that is longer is in a call that
    does not return.                                                              */
static const int64_t long_step_us = 1000000;

/*  Paths may be more than anybody can read, or wait for.                        */
#define VISITS_MAX 20000

const char *weir_why_word(weir_why_verdict verdict)
{
    static const char *const words[] = {"flows", "idle", "ended", "held", "failed"};
    return words[verdict];
}

static void put_two(char text[32], int64_t big, const char *big_unit, int64_t small,
                    const char *small_unit)
{
    int size = snprintf(text, 32, "%" PRId64 " %s", big, big_unit);
    if (small)
        snprintf(text + size, 32 - (size_t)size, " %" PRId64 " %s", small, small_unit);
}

void weir_duration_print(int64_t us, char text[32])
{
    int64_t s = us / 1000000;
    if (s < 1)
        snprintf(text, 32, "%" PRId64 " ms", us / 1000);
    else if (s < 60)
        snprintf(text, 32, "%" PRId64 " s", s);
    else if (s < 3600)
        put_two(text, s / 60, "min", s % 60, "s");
    else if (s < 86400)
        put_two(text, s / 3600, "h", s % 3600 / 60, "min");
    else
        put_two(text, s / 86400, s < 2 * 86400 ? "day" : "days", s % 86400 / 3600, "h");
}

/* --- Telling ----------------------------------------------------------------------- */

/*  Fills in the answer; the sentence gets its "for 12 s" here. Gives true, so that a
    finder of causes can end with it. */
static bool tell(weir_why_path *path, weir_why_verdict verdict, size_t culprit,
                 int64_t since_us, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static bool tell(weir_why_path *path, weir_why_verdict verdict, size_t culprit,
                 int64_t since_us, const char *format, ...)
{
    char since[32];
    va_list arguments;
    path->verdict = verdict;
    path->culprit = culprit;
    path->since_us = since_us;
    va_start(arguments, format);
    int size = vsnprintf(path->text, sizeof path->text, format, arguments);
    va_end(arguments);
    if (since_us < 0 || size < 0 || (size_t)size >= sizeof path->text) return true;
    weir_duration_print(since_us, since);
    snprintf(path->text + size, sizeof path->text - (size_t)size, ", for %s", since);
    return true;
}

static const char *name_of(const weir_why *self, size_t node)
{
    return self->plan->nodes[node].name;
}

/*  ": text" where there is a text.                                              */
#define COLON(text) *(text) ? ": " : "", (text)

/* --- Causes ------------------------------------------------------------------------ */

static const weir_wait *find_wait(const weir_why *self, size_t node, weir_wait_kind kind)
{
    const weir_why_node *n = &self->nodes[node];
    for (size_t i = 0; i < n->wait_count; i++)
        if (n->waits[i].kind == kind) return &n->waits[i];
    return NULL;
}

static bool has_failed(const weir_why *self, size_t node, weir_why_path *path)
{
    const weir_why_node *n = &self->nodes[node];
    const weir_why_part *p = &self->parts[self->plan->parts[node]];
    char left[32], ago[32];
    if (p->at_us < 0)
        return n->state == WEIR_STATE_FAILED &&
               tell(path, WEIR_WHY_FAILED, node, -1, "%s has stopped%s%s",
                    name_of(self, node), COLON(n->reason));
    weir_duration_print(p->at_us > self->now_us ? p->at_us - self->now_us : 0, left);
    weir_duration_print(self->now_us - p->failed_us, ago);
    tell(path, WEIR_WHY_FAILED, node, -1, "it stopped %s ago and starts again in %s: %s",
         ago, left, p->reason);
    path->since_us = self->now_us - p->failed_us;
    return true;
}

static bool is_paused(const weir_why *self, size_t node, weir_why_path *path)
{
    const weir_wait *wait = find_wait(self, node, WEIR_WAIT_PAUSED);
    if (!wait && !self->nodes[node].paused) return false;
    return tell(path, WEIR_WHY_HELD, node, wait ? self->now_us - wait->since_us : -1,
                "%s is paused by a command", name_of(self, node));
}

static bool is_in_a_long_step(const weir_why *self, size_t node, weir_why_path *path)
{
    int64_t step_us = self->nodes[node].step_us;
    if (!step_us || self->now_us - step_us < long_step_us) return false;
    return tell(path, WEIR_WHY_HELD, node, self->now_us - step_us,
                "%s is in a call that does not return: what it writes to or reads from "
                "does not answer, or it computes",
                name_of(self, node));
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/*  The text may begin with the verb: "cannot store shard 0: ..".                    */
static bool tell_write(const weir_why *self, size_t node, const weir_wait *wait,
                       weir_why_path *path)
{
    int64_t since_us = self->now_us - wait->since_us;
    const char *name = name_of(self, node);
    return begins(wait->text, "cannot ") || begins(wait->text, "waits ")
               ? tell(path, WEIR_WHY_HELD, node, since_us, "%s %s", name, wait->text)
               : tell(path, WEIR_WHY_HELD, node, since_us, "%s cannot write to %s%s%s",
                      name, wait->subject,
                      COLON(weir_report_cause(wait->subject, wait->text)));
}

/*  The causes that lie outside: what a node waits for that is none of our nodes.  */
static bool tell_wait(const weir_why *self, size_t node, const weir_wait *wait,
                      weir_why_path *path)
{
    const char *name = name_of(self, node);
    int64_t since_us = self->now_us - wait->since_us;
    switch (wait->kind) {
    case WEIR_WAIT_WRITE:
        return tell_write(self, node, wait, path);
    case WEIR_WAIT_READ:
        return tell(path, WEIR_WHY_HELD, node, since_us, "%s cannot read %s%s%s", name,
                    wait->subject, COLON(weir_report_cause(wait->subject, wait->text)));
    case WEIR_WAIT_LINK:
        return tell(path, WEIR_WHY_HELD, node, since_us, "%s has no link to %s%s%s", name,
                    wait->subject, COLON(weir_report_cause(wait->subject, wait->text)));
    case WEIR_WAIT_LEDGER:
        return tell(path, WEIR_WHY_HELD, node, since_us,
                    "%s waits for memory: the limit is reached%s%s", name,
                    COLON(wait->text));
    default:
        return false;
    }
}

static bool has_own_cause(const weir_why *self, size_t node, weir_why_path *path)
{
    const weir_why_node *n = &self->nodes[node];
    if (has_failed(self, node, path) || is_paused(self, node, path) ||
        is_in_a_long_step(self, node, path))
        return true;
    for (size_t i = 0; i < n->wait_count; i++)
        if (tell_wait(self, node, &n->waits[i], path)) return true;
    return false;
}

/* --- Walking ----------------------------------------------------------------------- */

/*  The node of that name; node_count: it is none of ours.                       */
static size_t find_reader(const weir_why *self, const char *name)
{
    size_t i = 0;
    while (i < self->plan->node_count && strcmp(self->plan->nodes[i].name, name))
        i++;
    return i;
}

/*  The wait of a node for one of its readers: for the one that comes next on the path
    where there is a choice, else the oldest.                                     */
static const weir_wait *wait_for_reader(const weir_why *self, size_t node,
                                        const weir_why_path *path)
{
    const weir_wait *found = NULL;
    const weir_why_node *n = &self->nodes[node];
    for (size_t i = 0; i < n->wait_count; i++) {
        const weir_wait *wait = &n->waits[i];
        if (wait->kind != WEIR_WAIT_CREDIT && wait->kind != WEIR_WAIT_ACK &&
            wait->kind != WEIR_WAIT_HELD)
            continue;
        size_t reader = find_reader(self, wait->subject);
        for (size_t p = 0; p + 1 < path->count; p++)
            if (path->nodes[p] == node && path->nodes[p + 1] == reader) return wait;
        if (!found) found = wait;
    }
    return found;
}

static bool tell_remote(const weir_why *self, size_t node, const weir_wait *wait,
                        weir_why_path *path)
{
    return tell(path, WEIR_WHY_HELD, node, self->now_us - wait->since_us,
                wait->kind == WEIR_WAIT_CREDIT
                    ? "%s waits for %s, which grants no more credit%s%s"
                    : "%s waits for %s, which has not made safe what was sent%s%s",
                name_of(self, node), wait->subject, COLON(wait->text));
}

static bool tell_slow(const weir_why *self, size_t node, size_t reader,
                      const weir_wait *wait, weir_why_path *path)
{
    return tell(path, WEIR_WHY_HELD, reader, self->now_us - wait->since_us,
                wait->kind == WEIR_WAIT_CREDIT
                    ? "%s is slower than what comes: %s waits for its credit"
                    : "%s is slower than what comes: %s waits for its acknowledgements",
                name_of(self, reader), name_of(self, node));
}

/*  A bus without a store is never slow itself: when it is waited for, one of its readers
    is. That one is no wait of it while credit comes again and again, so it is told by
    what it has not settled; node_count: none has anything.                       */
static size_t slow_reader(const weir_why *self, size_t node)
{
    const weir_plan *plan = self->plan;
    const weir_plan_node *bus = &plan->nodes[node];
    size_t found = plan->node_count;
    if (!bus->class->route || (bus->class->stores && bus->class->stores(bus->config)))
        return found;
    for (size_t l = 0; l < plan->link_count; l++) {
        size_t to = plan->links[l].to;
        uint64_t most = found < plan->node_count ? self->nodes[found].open : 0;
        if (plan->links[l].from == node && self->nodes[to].open > most) found = to;
    }
    return found;
}

/*  The group may be that of no node, or of one that has nothing else to tell.      */
static bool tell_group(const weir_why *self, size_t node, size_t reader,
                       const weir_wait *wait, weir_why_path *path)
{
    bool known = reader < self->plan->node_count;
    return tell(path, WEIR_WHY_HELD, known ? reader : node, self->now_us - wait->since_us,
                "the store of %s is full: %s", name_of(self, node), wait->text);
}

/*  From a node that waits for a reader to that reader, and so on.                */
typedef struct {
    const weir_why *why;
    weir_why_path *path;
    size_t before, node;   // the last step; node_count: the reader is none of ours
    const weir_wait *wait; // of before, for node; NULL: there was no step
    weir_wait guess;       // of a bus; wait may point to it
    const weir_wait *held; // the first store on the way that a group holds; NULL: none
    size_t bus;            // whose store that is
} chain;

/*  A group is called as the node that it feeds, unless it has a name of its own.  */
static bool step(chain *self)
{
    const weir_why *why = self->why;
    const weir_wait *wait = wait_for_reader(why, self->node, self->path);
    size_t none = why->plan->node_count;
    size_t reader = wait         ? find_reader(why, wait->subject)
                    : self->wait ? slow_reader(why, self->node)
                                 : none;
    if (!wait && reader == none) return false;
    if (!wait) {
        self->guess =
            (weir_wait){.kind = WEIR_WAIT_ACK, .since_us = self->wait->since_us};
        wait = &self->guess;
    } else if (wait->kind == WEIR_WAIT_HELD && !self->held) {
        self->held = wait;
        self->bus = self->node;
    }
    self->before = self->node;
    self->node = reader;
    self->wait = wait;
    return true;
}

/*  Where it ends nobody has a cause of his own.                                  */
static bool tell_end(chain *self)
{
    if (!self->wait) return false;
    if (self->wait->kind == WEIR_WAIT_HELD) {
        if (self->held == self->wait) self->held = NULL; // this says it already
        return tell_group(self->why, self->before, self->node, self->wait, self->path);
    }
    return self->node < self->why->plan->node_count
               ? tell_slow(self->why, self->before, self->node, self->wait, self->path)
               : tell_remote(self->why, self->before, self->wait, self->path);
}

/*  Links have no cycles, but a snapshot is no proof of that.                     */
static bool chase(chain *self)
{
    size_t count = self->why->plan->node_count;
    for (size_t steps = 0; steps <= count && self->node < count; steps++) {
        if (has_own_cause(self->why, self->node, self->path)) return true;
        if (!step(self)) break;
    }
    return tell_end(self);
}

static bool follow(const weir_why *self, size_t node, weir_why_path *path)
{
    char cause[sizeof path->text];
    chain c = {.why = self, .path = path, .node = node};
    if (!chase(&c)) return false;
    if (!c.held) return true;
    memcpy(cause, path->text, sizeof cause);
    snprintf(path->text, sizeof path->text, "the store of %s is full: %s: %.400s",
             name_of(self, c.bus), c.held->text, cause);
    return true;
}

/*  A rate limit is told last, since it is what its owner wants, and holds back no source
    that has nothing to read.                                                     */
static bool keeps_to_rate(const weir_why *self, size_t source, weir_why_path *path)
{
    const weir_wait *wait = find_wait(self, source, WEIR_WAIT_RATE);
    return wait && !self->nodes[source].at_end &&
           tell(path, WEIR_WHY_HELD, source, self->now_us - wait->since_us,
                "%s keeps to its own rate limit%s%s", name_of(self, source),
                COLON(wait->text));
}

/*  Nothing holds it back: is there anything to do?                              */
static void tell_quiet(const weir_why *self, weir_why_path *path)
{
    size_t source = path->nodes[0];
    const char *name = name_of(self, source);
    const weir_why_node *n = &self->nodes[source];
    bool open = false;
    for (size_t i = 0; i < path->count; i++)
        open |= self->nodes[path->nodes[i]].open > 0;
    if (n->state == WEIR_STATE_ENDED && !open)
        tell(path, WEIR_WHY_ENDED, source, -1, "%s has ended, and all of it is safe",
             name);
    else if (n->at_end && !open)
        tell(path, WEIR_WHY_IDLE, source, -1, "nothing to do: %s has nothing to read",
             name);
    else
        tell(path, WEIR_WHY_FLOWS, source, -1, "it flows");
}

/*  What is held far down the path fills what lies before it only after a while, so each
    node of the path is asked, from the source on.                                */
static void explain(const weir_why *self, weir_why_path *path)
{
    for (size_t i = 0; i < path->count; i++)
        if (follow(self, path->nodes[i], path)) return;
    if (!keeps_to_rate(self, path->nodes[0], path)) tell_quiet(self, path);
}

/* --- Paths ------------------------------------------------------------------------- */

typedef struct {
    const weir_why *why;
    size_t only;
    size_t left;   // paths that may still be told
    size_t visits; // nodes that may still be walked through
    void (*found)(void *arg, const weir_why_path *path);
    void *arg;
    weir_why_path path;
} walk;

static bool is_meant(const walk *w)
{
    if (w->only >= w->why->plan->node_count) return true;
    for (size_t i = 0; i < w->path.count; i++)
        if (w->path.nodes[i] == w->only) return true;
    return false;
}

static bool end_path(walk *w)
{
    if (!is_meant(w)) return true;
    if (w->left == 0) return false;
    w->left--;
    explain(w->why, &w->path);
    w->found(w->arg, &w->path);
    return true;
}

/*  A node may read several outlets of one other: that is one path.              */
static bool is_first_link(const weir_plan *plan, size_t l)
{
    for (size_t i = 0; i < l; i++)
        if (plan->links[i].from == plan->links[l].from &&
            plan->links[i].to == plan->links[l].to)
            return false;
    return true;
}

/*  Depth first; the depth is bounded by the path's length.                      */
static bool walk_from(walk *w, size_t node)
{
    const weir_plan *plan = w->why->plan;
    bool leaf = true, all = w->visits > 0;
    if (!all) return false;
    w->visits--;
    w->path.nodes[w->path.count++] = node;
    for (size_t l = 0; l < plan->link_count && all; l++) {
        if (plan->links[l].from != node || w->path.count == WEIR_WHY_DEPTH_MAX ||
            !is_first_link(plan, l))
            continue;
        leaf = false;
        all = walk_from(w, plan->links[l].to);
    }
    if (leaf && all) all = end_path(w);
    w->path.count--;
    return all;
}

bool weir_why_paths(const weir_why *self, size_t only,
                    void (*found)(void *arg, const weir_why_path *path), void *arg)
{
    walk w = {.why = self,
              .only = only,
              .left = WEIR_WHY_PATHS_MAX,
              .visits = VISITS_MAX,
              .found = found,
              .arg = arg};
    bool all = true;
    for (size_t i = 0; i < self->plan->node_count && all; i++)
        if (!weir_class_reads(self->plan->nodes[i].class)) all = walk_from(&w, i);
    return all;
}
