#include "lua/online.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lua/online_link.h"
#include "runtime/clock.h"
#include "runtime/json.h"
#include "runtime/thread.h"

static const int64_t grace_us = 500000; // for those who keep to the timeout, barely

/*  Those who ask may outlive the one who wants the answers; the last one frees it.  */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t told;
    weir_online_answer *answers;
    bool *done;
    size_t count, open, users;
    const char *keys;
    int64_t timeout_us;
} survey;

typedef struct {
    survey *survey;
    size_t number;
} question;

/* --- Asking ------------------------------------------------------------------------ */

static bool speaks_with_a_server(const weir_plan_node *node)
{
    return node->class->probe || weir_link_connects(node);
}

static weir_err ask(const survey *self, const weir_plan_node *node, weir_report *report)
{
    if (node->class->probe)
        return node->class->probe(node->config, self->timeout_us, report);
    return weir_link_probe(node, self->keys, report);
}

static void release(survey *self)
{
    pthread_mutex_lock(&self->lock);
    bool last = --self->users == 0;
    pthread_mutex_unlock(&self->lock);
    if (!last) return;
    pthread_cond_destroy(&self->told);
    pthread_mutex_destroy(&self->lock);
    free(self->answers);
    free(self->done);
    free(self);
}

/*  Also from the thread that asks for all, when there are no threads to be had.  */
static void keep_answer(survey *self, size_t number, const weir_report *report)
{
    pthread_mutex_lock(&self->lock);
    self->answers[number].report = *report;
    self->done[number] = true;
    self->open--;
    pthread_cond_signal(&self->told);
    pthread_mutex_unlock(&self->lock);
}

static void *run_question(void *arg)
{
    question *q = arg;
    survey *self = q->survey;
    weir_report report = {0};
    weir_err err = ask(self, self->answers[q->number].node, &report);
    report.err = err;
    if (err && !*report.text)
        weir_report_set(&report, err, NULL, "%s", weir_err_name(err));
    keep_answer(self, q->number, &report);
    free(q);
    release(self);
    return NULL;
}

static void start_question(survey *self, size_t number)
{
    pthread_t thread;
    question *q = malloc(sizeof *q);
    if (!q) abort();
    *q = (question){self, number};
    pthread_mutex_lock(&self->lock);
    self->users++;
    pthread_mutex_unlock(&self->lock);
    int error = weir_thread_start(&thread, run_question, q);
    if (!error) {
        pthread_detach(thread);
        return;
    }
    weir_report report;
    weir_report_set(&report, WEIR_ESYS, NULL, "cannot start a thread to ask it: %s",
                    strerror(error));
    keep_answer(self, number, &report);
    free(q);
    release(self);
}

/* --- All of them ------------------------------------------------------------------- */

static survey *new_survey(const weir_plan *plan, const char *keys, int64_t timeout_us)
{
    survey *self = calloc(1, sizeof *self);
    pthread_condattr_t monotonic;
    if (!self) abort();
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->told, &monotonic);
    pthread_condattr_destroy(&monotonic);
    self->answers = calloc(plan->node_count + 1, sizeof *self->answers);
    self->done = calloc(plan->node_count + 1, sizeof *self->done);
    if (!self->answers || !self->done) abort();
    for (size_t i = 0; i < plan->node_count; i++)
        if (speaks_with_a_server(&plan->nodes[i]))
            self->answers[self->count++].node = &plan->nodes[i];
    self->open = self->count;
    self->users = 1;
    self->keys = keys;
    self->timeout_us = timeout_us;
    return self;
}

/*  With the lock.                                                                */
static void wait_for_answers(survey *self, int64_t deadline_us)
{
    struct timespec until = {deadline_us / 1000000, deadline_us % 1000000 * 1000};
    while (self->open)
        if (pthread_cond_timedwait(&self->told, &self->lock, &until) == ETIMEDOUT) return;
}

/*  With the lock.                                                                */
static void take_answers(const survey *self, weir_online *to)
{
    to->items = calloc(self->count + 1, sizeof *to->items);
    if (!to->items) abort();
    for (size_t i = 0; i < self->count; i++) {
        weir_online_answer *answer = &to->items[to->count];
        *answer = self->answers[i];
        bool speaks_with_none = self->done[i] && !*answer->report.text;
        to->count += !speaks_with_none;
        if (!self->done[i])
            weir_report_set(&answer->report, WEIR_ETIMEOUT, NULL, "no answer within %g s",
                            (double)self->timeout_us / 1e6);
        to->failed += answer->report.err != WEIR_OK;
    }
    to->stuck = self->open > 0;
}

/*  As much of a node's place in the world as names what is its own on a server.  */
static void place_nodes(const weir_plan *plan, const char *topology)
{
    for (size_t i = 0; i < plan->node_count; i++) {
        weir_node *node = plan->nodes[i].config;
        node->name = plan->nodes[i].name;
        node->topology = topology;
    }
}

void weir_online_ask(weir_online *self, const weir_plan *plan, const char *topology,
                     const char *keys, int64_t timeout_us)
{
    *self = (weir_online){0};
    int64_t deadline_us = weir_clock_now_us() + timeout_us + grace_us;
    place_nodes(plan, topology);
    survey *all = new_survey(plan, keys, timeout_us);
    for (size_t i = 0; i < all->count; i++)
        start_question(all, i);
    pthread_mutex_lock(&all->lock);
    wait_for_answers(all, deadline_us);
    take_answers(all, self);
    pthread_mutex_unlock(&all->lock);
    release(all);
}

void weir_online_fini(weir_online *self)
{
    free(self->items);
    *self = (weir_online){0};
}

/* --- Printing ---------------------------------------------------------------------- */

static void print_text(const weir_online_answer *answer)
{
    const weir_report *r = &answer->report;
    const weir_plan_node *node = answer->node;
    fprintf(r->err ? stderr : stdout, "%s: %s \"%s\": %s%s%s\n", node->where,
            node->class->name, node->name, r->where, *r->where ? ": " : "",
            weir_report_cause(r->where, r->text));
    fflush(stdout); // so that both streams keep the order on a terminal
}

static void put_json(const weir_online_answer *answer, weir_buffer *out)
{
    const weir_report *r = &answer->report;
    char text[sizeof r->where + sizeof r->text + 2];
    snprintf(text, sizeof text, "%s%s%s", r->where, *r->where ? ": " : "",
             weir_report_cause(r->where, r->text));
    weir_buffer_put_byte(out, '{');
    weir_json_put_member(out, "where", answer->node->where);
    weir_json_put_member(out, "node", answer->node->name);
    weir_json_put_member(out, "actor", answer->node->class->name);
    weir_buffer_printf(out, ",\"ok\":%s", r->err ? "false" : "true");
    weir_json_put_member(out, "text", text);
    weir_buffer_put_byte(out, '}');
}

void weir_online_print(const weir_online *self, bool json)
{
    weir_buffer out = {0};
    for (size_t i = 0; i < self->count; i++) {
        if (!json) {
            print_text(&self->items[i]);
            continue;
        }
        weir_buffer_put_byte(&out, i ? ',' : '[');
        put_json(&self->items[i], &out);
    }
    if (json)
        printf("%s%.*s]\n", self->count ? "" : "[", (int)out.size, (char *)out.data);
    weir_buffer_fini(&out);
}
