#include "actors/worker.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <sys/eventfd.h>

/*  So many fresh states within this time are a stop.                            */
#define FRESH_MAX 10
static const int64_t fresh_period_us = 10000000;

struct weir_emitter {
    weir_buffer bytes;   // encoded records, one behind the other
    bool input;          // the input record is a result, before all others
    uint32_t count;      // records in bytes
    size_t output_limit; // of one call
    size_t record_max;
};

/*  One outlet: the expression that a record must match; NULL: otherwise.      */
typedef struct {
    weir_filter *filter;
    weir_builder builder;
    bool matches; // the record that is being routed
} outlet;

struct weir_worker {
    const weir_engine_config *config;
    const weir_node *node;
    pthread_t thread;
    bool running;
    weir_task_queue todo;
    weir_task_queue *done;
    void *program; // NULL: none, or it could not be opened
    weir_screen *inbound, *outbound;
    outlet *outlets;
    int outlet_count, otherwise; // -1: no `otherwise`
    bool plain;                  // one outlet, and no filter behind the function
    weir_doc doc, out_doc;       // of the input record, of a result
    weir_emitter emitter;
    int64_t fresh_us[FRESH_MAX]; // when the last fresh states were made
    size_t fresh_count;
    weir_task *task; // being worked on
    sem_t ready;
    weir_report report; // of opening
};

/* --- Tasks and queues -------------------------------------------------------------- */

weir_task *weir_task_new(void *job)
{
    weir_task *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->job = job;
    self->dead_end = &self->dead;
    return self;
}

void weir_task_destroy(weir_task **self_p)
{
    weir_task *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_selection_fini(&self->selection);
    for (size_t i = 0; i < self->block_count; i++)
        weir_block_destroy(&self->blocks[i]);
    free(self->blocks);
    free(self->outlets);
    weir_dead_destroy_list(&self->dead);
    free(self);
}

void weir_task_queue_init(weir_task_queue *self, int eventfd)
{
    *self = (weir_task_queue){.eventfd = eventfd};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->filled, NULL);
}

void weir_task_queue_fini(weir_task_queue *self)
{
    weir_task *task;
    while ((task = weir_task_queue_take(self)))
        weir_task_destroy(&task);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->filled);
}

void weir_task_queue_put(weir_task_queue *self, weir_task **task_p)
{
    weir_task *task = *task_p;
    *task_p = NULL;
    task->next = NULL;
    pthread_mutex_lock(&self->lock);
    if (self->last)
        self->last->next = task;
    else
        self->first = task;
    self->last = task;
    bool was_empty = self->count++ == 0;
    pthread_cond_signal(&self->filled);
    pthread_mutex_unlock(&self->lock);
    if (was_empty && self->eventfd >= 0) eventfd_write(self->eventfd, 1);
}

/*  With the lock held.                                                        */
static weir_task *pop(weir_task_queue *self)
{
    weir_task *task = self->first;
    if (!task) return NULL;
    self->first = task->next;
    if (!self->first) self->last = NULL;
    self->count--;
    task->next = NULL;
    return task;
}

weir_task *weir_task_queue_take(weir_task_queue *self)
{
    pthread_mutex_lock(&self->lock);
    weir_task *task = pop(self);
    pthread_mutex_unlock(&self->lock);
    return task;
}

weir_task *weir_task_queue_wait(weir_task_queue *self)
{
    pthread_mutex_lock(&self->lock);
    while (!self->first && !self->closed)
        pthread_cond_wait(&self->filled, &self->lock);
    weir_task *task = self->closed ? NULL : pop(self);
    pthread_mutex_unlock(&self->lock);
    return task;
}

void weir_task_queue_close(weir_task_queue *self)
{
    pthread_mutex_lock(&self->lock);
    self->closed = true;
    pthread_cond_broadcast(&self->filled);
    pthread_mutex_unlock(&self->lock);
}

size_t weir_task_queue_count(weir_task_queue *self)
{
    pthread_mutex_lock(&self->lock);
    size_t count = self->count;
    pthread_mutex_unlock(&self->lock);
    return count;
}

/* --- Emitter ----------------------------------------------------------------------- */

weir_err weir_emit(weir_emitter *self, const weir_record *record)
{
    size_t size = record->size + record->headers_size + record->key.size;
    if (size > self->record_max || self->bytes.size + size > self->output_limit)
        return WEIR_ETOOBIG;
    weir_record_put(record, &self->bytes);
    self->count++;
    return WEIR_OK;
}

void weir_emit_input(weir_emitter *self)
{
    self->input = true;
}

static void clear_emitter(weir_emitter *self)
{
    self->bytes.size = 0;
    self->count = 0;
    self->input = false;
}

/* --- Outputs ----------------------------------------------------------------------- */

static void add_dead(weir_worker *self, weir_dead *dead)
{
    *self->task->dead_end = dead;
    self->task->dead_end = &dead->next;
}

static void dead_letter(weir_worker *self, weir_dead_reason reason, const char *error,
                        uint32_t attempts, const weir_record *record,
                        const weir_run *origin)
{
    add_dead(self, weir_dead_new(self->node->name, reason, error, attempts, record,
                                 origin->source, origin->peer, origin->label));
}

static void seal_outlet(weir_worker *self, int number)
{
    weir_task *task = self->task;
    weir_block *block = weir_builder_seal(&self->outlets[number].builder);
    if (!block) return;
    if (task->block_count == task->block_capacity) {
        task->block_capacity = task->block_capacity ? 2 * task->block_capacity : 4;
        task->blocks = realloc(task->blocks, task->block_capacity * sizeof *task->blocks);
        task->outlets =
            realloc(task->outlets, task->block_capacity * sizeof *task->outlets);
        if (!task->blocks || !task->outlets) abort();
    }
    task->blocks[task->block_count] = block;
    task->outlets[task->block_count++] = number;
}

static void add_to_outlet(weir_worker *self, int number, const weir_record *record,
                          const weir_run *origin)
{
    weir_builder *builder = &self->outlets[number].builder;
    weir_builder_add(builder, record, origin);
    if (weir_builder_full(builder)) seal_outlet(self, number);
}

/*  What became of one output; the worst of a record's outputs is its fate.    */
typedef enum { OUT_FILTERED = 0, OUT_SENT, OUT_DEAD } out_fate;

static out_fate unroutable(weir_worker *self, weir_subject *subject,
                           const weir_run *origin)
{
    dead_letter(self, WEIR_DEAD_UNROUTED, "no outlet's expression matches", 0,
                &subject->record, origin);
    return OUT_DEAD;
}

/*  All expressions are asked before anything is sent, since on_unknown decides about
    the record and not about one outlet.                                       */
static out_fate route(weir_worker *self, weir_subject *subject, const weir_run *origin)
{
    int matches = 0, on_unknown = self->config->screen.on_unknown;
    for (int i = 0; i < self->outlet_count; i++) {
        outlet *o = &self->outlets[i];
        weir_verdict verdict =
            o->filter ? weir_filter_match(o->filter, subject) : WEIR_FALSE;
        o->matches = verdict == WEIR_TRUE;
        matches += o->matches;
        if (verdict != WEIR_UNKNOWN || on_unknown == WEIR_UNKNOWN_PASS) continue;
        if (on_unknown == WEIR_UNKNOWN_DROP) return OUT_FILTERED;
        add_dead(self,
                 weir_screen_dead(WEIR_DEAD_UNKNOWN, self->node->name, subject, origin));
        return OUT_DEAD;
    }
    for (int i = 0; i < self->outlet_count && matches; i++)
        if (self->outlets[i].matches) add_to_outlet(self, i, &subject->record, origin);
    if (matches) return OUT_SENT;
    if (self->otherwise < 0) return unroutable(self, subject, origin);
    add_to_outlet(self, self->otherwise, &subject->record, origin);
    return OUT_SENT;
}

static out_fate deliver(weir_worker *self, weir_subject *subject, const weir_run *origin)
{
    weir_judgement judgement = weir_screen_judge(self->outbound, subject);
    if (judgement == WEIR_FILTERED) return OUT_FILTERED;
    if (judgement != WEIR_PASS) {
        add_dead(self, weir_screen_dead(judgement, self->node->name, subject, origin));
        return OUT_DEAD;
    }
    if (self->outlet_count > 1 || self->outlets[0].filter)
        return route(self, subject, origin);
    add_to_outlet(self, 0, &subject->record, origin);
    return OUT_SENT;
}

static void note_fate(weir_worker *self, out_fate worst)
{
    weir_fates *fates = &self->task->fates;
    if (worst == OUT_DEAD)
        fates->dead++;
    else if (worst == OUT_SENT)
        fates->done++;
    else
        fates->filtered++;
}

/*  Results that nothing looks at go into the one outlet as they are.          */
static void pass_results(weir_worker *self, const weir_run *origin)
{
    weir_emitter *e = &self->emitter;
    weir_builder *builder = &self->outlets[0].builder;
    self->task->fates.done++;
    if (e->count == 0) return;
    weir_builder_add_encoded(builder, e->bytes.data, e->bytes.size, e->count, origin);
    if (weir_builder_full(builder)) seal_outlet(self, 0);
}

static void deliver_results(weir_worker *self, weir_subject *input,
                            const weir_run *origin)
{
    weir_emitter *e = &self->emitter;
    if (self->plain && !e->input) {
        pass_results(self, origin);
        return;
    }
    out_fate worst = OUT_FILTERED;
    if (e->count == 0 && !e->input) worst = OUT_SENT; // it asked for no output
    if (e->input) worst = deliver(self, input, origin);
    weir_reader reader = {e->bytes.data, e->count ? e->bytes.data + e->bytes.size : NULL};
    weir_subject result = {.doc = &self->out_doc,
                           .source = input->source,
                           .peer = input->peer,
                           .place = input->place};
    for (uint32_t i = 0; i < e->count; i++) {
        if (weir_record_read(&result.record, &reader, true)) abort();
        result.record.in_run = input->record.in_run;
        result.state = WEIR_UNPARSED;
        out_fate fate = deliver(self, &result, origin);
        if (fate > worst) worst = fate;
    }
    note_fate(self, worst);
}

/* --- Calls ------------------------------------------------------------------------- */

static void stop(weir_worker *self, const weir_run *origin, const char *text)
{
    if (!self->task->failure.err)
        weir_report_set(&self->task->failure, WEIR_ESTOP, origin->label, "%s", text);
}

/*  parse_error or on_error decides about a record.                            */
static void decide(weir_worker *self, int policy, weir_dead_reason reason,
                   const char *error, const weir_subject *subject, const weir_run *origin)
{
    switch ((weir_on_error)policy) {
    case WEIR_ON_ERROR_DROP:
        self->task->fates.skipped++;
        break;
    case WEIR_ON_ERROR_DEAD:
        dead_letter(self, reason, error, 1, &subject->record, origin);
        self->task->fates.dead++;
        break;
    case WEIR_ON_ERROR_STOP:
        stop(self, origin, error);
        break;
    }
}

static void undecodable(weir_worker *self, const weir_subject *subject,
                        const weir_run *origin)
{
    char text[160];
    snprintf(text, sizeof text, "byte %u: %s", subject->doc->index.error_at,
             subject->doc->index.error);
    weir_count_add(self->node->vitals, WEIR_COUNT_PARSE_ERRORS, 1);
    decide(self, self->config->parse_error, WEIR_DEAD_PARSE, text, subject, origin);
}

static weir_err open_program(weir_worker *self, weir_report *report)
{
    const weir_program *program = &self->config->program;
    weir_program_setup setup = {
        .node = self->node->name,
        .memory_limit = (size_t)self->config->memory_limit,
        .instruction_limit = (uint64_t)self->config->instruction_limit,
        .ledger = self->node->ledger,
    };
    weir_err err = program->class->open(&self->program, program->source, &setup, report);
    if (!err) program->class->begin(self->program);
    return err;
}

static bool too_many_fresh(weir_worker *self)
{
    int64_t now = weir_clock_now_us();
    self->fresh_us[self->fresh_count++ % FRESH_MAX] = now;
    if (self->fresh_count < FRESH_MAX) return false;
    return now - self->fresh_us[self->fresh_count % FRESH_MAX] < fresh_period_us;
}

/*  After an overrun nothing in the state can be trusted: a fresh one takes its place. */
static bool refresh_program(weir_worker *self, const weir_run *origin)
{
    self->config->program.class->end(self->program);
    self->config->program.class->close(&self->program);
    weir_report report = {0};
    if (too_many_fresh(self))
        weir_report_set(&report, WEIR_ESTOP, NULL, "ten fresh Lua states in ten seconds");
    else if (open_program(self, &report) == WEIR_OK)
        return true;
    stop(self, origin, report.text);
    return false;
}

static weir_call_result call_once(weir_worker *self, weir_subject *subject,
                                  const char **error)
{
    clear_emitter(&self->emitter);
    return self->config->program.class->call(self->program, subject, &self->emitter,
                                             error);
}

static bool is_overrun(weir_call_result result)
{
    return result >= WEIR_CALL_MEMORY;
}

/*  A memory overrun may be due to earlier garbage: the record runs once more.  */
static void overrun(weir_worker *self, weir_call_result result, const char *error,
                    weir_subject *subject, const weir_run *origin);

static void finish_call(weir_worker *self, weir_call_result result, const char *error,
                        weir_subject *subject, const weir_run *origin)
{
    switch (result) {
    case WEIR_CALL_DONE:
        deliver_results(self, subject, origin);
        break;
    case WEIR_CALL_DROP:
        self->task->fates.dropped++;
        break;
    case WEIR_CALL_DEAD:
        dead_letter(self, WEIR_DEAD_FUNCTION, error, 1, &subject->record, origin);
        self->task->fates.dead++;
        break;
    case WEIR_CALL_PARSE:
        undecodable(self, subject, origin);
        break;
    case WEIR_CALL_FAILED:
        weir_count_add(self->node->vitals, WEIR_COUNT_CALL_ERRORS, 1);
        decide(self, self->config->on_error, WEIR_DEAD_FUNCTION, error, subject, origin);
        break;
    default:
        overrun(self, result, error, subject, origin);
    }
}

static void overrun(weir_worker *self, weir_call_result result, const char *error,
                    weir_subject *subject, const weir_run *origin)
{
    char text[256]; // error lives in the state that is about to go
    snprintf(text, sizeof text, "%s", error);
    weir_count_add(self->node->vitals, WEIR_COUNT_OVERRUNS, 1);
    if (!refresh_program(self, origin)) return;
    if (result == WEIR_CALL_MEMORY) {
        weir_call_result again = call_once(self, subject, &error);
        if (!is_overrun(again)) {
            finish_call(self, again, error, subject, origin);
            return;
        }
        weir_count_add(self->node->vitals, WEIR_COUNT_OVERRUNS, 1);
        if (!refresh_program(self, origin)) return;
    }
    decide(self, self->config->on_error, WEIR_DEAD_OVERRUN, text, subject, origin);
}

/* --- Records ----------------------------------------------------------------------- */

static void work_record(weir_worker *self, weir_subject *subject, const weir_run *origin)
{
    weir_judgement judgement = weir_screen_judge(self->inbound, subject);
    const char *error = "";
    if (judgement == WEIR_FILTERED) {
        self->task->fates.filtered++;
    } else if (judgement != WEIR_PASS) {
        add_dead(self, weir_screen_dead(judgement, self->node->name, subject, origin));
        self->task->fates.dead++;
    } else if (self->config->parse && subject->record.format != WEIR_TEXT &&
               !weir_subject_parse(subject)) {
        undecodable(self, subject, origin);
    } else if (!self->config->program.class) {
        note_fate(self, deliver(self, subject, origin));
    } else {
        weir_call_result result = call_once(self, subject, &error);
        finish_call(self, result, error, subject, origin);
    }
}

static void work_task(weir_worker *self, weir_task *task)
{
    weir_subject subject = {.doc = &self->doc};
    weir_iterator walk = {.block = task->selection.block};
    const weir_run *origin;
    uint64_t parses = self->doc.parses + self->out_doc.parses;
    bool whole = task->selection.picks == NULL;
    self->task = task;
    /*  A fresh state could not be opened: the stop is on its way.             */
    if (self->config->program.class && !self->program)
        weir_report_set(&task->failure, WEIR_ESTOP, NULL,
                        "the function cannot be loaded");
    for (uint32_t i = 0; !task->failure.err; i++) {
        if (whole && !weir_iterator_next(&walk, &subject.record, &origin)) break;
        if (!whole && i == task->selection.count) break;
        if (!whole) weir_selection_get(&task->selection, i, &subject.record, &origin);
        weir_subject_begin(&subject, origin);
        work_record(self, &subject, origin);
    }
    for (int i = 0; i < self->outlet_count; i++)
        seal_outlet(self, i);
    weir_count_add(self->node->vitals, WEIR_COUNT_PARSES,
                   self->doc.parses + self->out_doc.parses - parses);
    self->task = NULL;
}

/* --- Life -------------------------------------------------------------------------- */

static weir_err open_outlets(weir_worker *self, weir_report *report)
{
    const weir_rules *rules = &self->config->outlets;
    self->outlet_count = rules->count ? (int)rules->count : 1;
    self->outlets = calloc((size_t)self->outlet_count, sizeof *self->outlets);
    if (!self->outlets) abort();
    self->otherwise = -1;
    for (int i = 0; i < self->outlet_count; i++) {
        size_t column;
        self->outlets[i].builder = (weir_builder){.ledger = self->node->ledger,
                                                  .target = self->node->block_bytes};
        const char *where = rules->count ? rules->items[i].where : NULL;
        if (!where) {
            self->otherwise = i;
            continue;
        }
        weir_err err = weir_filter_new(&self->outlets[i].filter, where, &column, report);
        if (err) return err;
    }
    return WEIR_OK;
}

static weir_err open_worker(weir_worker *self)
{
    const weir_engine_config *c = self->config;
    weir_screen_config outbound = {.on_unknown = c->screen.on_unknown};
    weir_report *report = &self->report;
    weir_err err = weir_screen_new(&self->inbound, &c->screen, &c->inbound, report);
    if (!err) err = weir_screen_new(&self->outbound, &outbound, &c->outbound, report);
    if (!err) err = open_outlets(self, report);
    if (!err && c->program.class) err = open_program(self, report);
    self->plain = !err && c->outlets.count == 0 && weir_screen_is_open(self->outbound);
    self->emitter.output_limit = (size_t)c->output_limit;
    self->emitter.record_max = self->node->record_max;
    return report->err = err;
}

static void close_worker(weir_worker *self)
{
    if (self->program) {
        self->config->program.class->end(self->program);
        self->config->program.class->close(&self->program);
    }
    weir_screen_destroy(&self->inbound);
    weir_screen_destroy(&self->outbound);
    for (int i = 0; i < self->outlet_count; i++) {
        weir_filter_destroy(&self->outlets[i].filter);
        weir_builder_fini(&self->outlets[i].builder);
    }
    free(self->outlets);
    weir_doc_fini(&self->doc);
    weir_doc_fini(&self->out_doc);
    weir_buffer_fini(&self->emitter.bytes);
}

static void *run(void *arg)
{
    weir_worker *self = arg;
    weir_log_actor(self->node->name);
    weir_err err = open_worker(self);
    sem_post(&self->ready);
    for (weir_task *task; !err && (task = weir_task_queue_wait(&self->todo));) {
        work_task(self, task);
        weir_task_queue_put(self->done, &task);
    }
    close_worker(self);
    return NULL;
}

weir_err weir_worker_start(weir_worker **self_p, const weir_engine_config *config,
                           const weir_node *node, weir_task_queue *done,
                           weir_report *report)
{
    weir_worker *self = calloc(1, sizeof *self);
    if (!self) abort();
    *self_p = self;
    self->config = config;
    self->node = node;
    self->done = done;
    weir_task_queue_init(&self->todo, -1);
    sem_init(&self->ready, 0, 0);
    if (pthread_create(&self->thread, NULL, run, self))
        return weir_report_set(report, WEIR_ESYS, NULL, "no thread for a worker");
    self->running = true;
    while (sem_wait(&self->ready))
        continue;
    if (self->report.err) *report = self->report;
    return self->report.err;
}

void weir_worker_put(weir_worker *self, weir_task **task_p)
{
    weir_task_queue_put(&self->todo, task_p);
}

size_t weir_worker_load(weir_worker *self)
{
    return weir_task_queue_count(&self->todo);
}

void weir_worker_stop(weir_worker **self_p)
{
    weir_worker *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_task_queue_close(&self->todo);
    if (self->running) pthread_join(self->thread, NULL);
    weir_task_queue_fini(&self->todo);
    sem_destroy(&self->ready);
    free(self);
}
