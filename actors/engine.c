#include "actors/engine.h"
#include "actors/worker.h"
#include <sys/eventfd.h>
#include <unistd.h>

const weir_engine_config weir_engine_defaults = {
    .workers = 1,
    .parse_error = WEIR_ON_ERROR_DEAD,
    .on_error = WEIR_ON_ERROR_DEAD,
    .screen = WEIR_SCREEN_DEFAULTS,
    .memory_limit = 64 << 20,
    .instruction_limit = 10000000,
    .output_limit = 16 << 20,
};

/*  Tasks that a worker may have waiting: enough that it never starves, few enough
    that a full outlet stops the engine soon.                                  */
#define TASKS_A_WORKER 4
#define WORKERS_MAX 256

/*  An input block under way. Jobs end in any order unless `ordered`.          */
typedef struct job {
    struct job *next; // later job
    weir_entry *entry;
    weir_block *block;
    uint32_t tasks;      // not yet finished
    bool dealt;          // its tasks exist
    weir_task *finished; // ordered: its one task, until its turn comes
} job;

typedef struct {
    weir_actor *kit;
    const weir_engine_config *config;
    weir_path key;
    bool has_key;
    weir_doc doc; // scratch for keys
    int *ports;   // of the outlets
    int port_count;
    weir_worker **workers;
    uint32_t worker_count;
    uint32_t next_worker; // for keyless records
    weir_task_queue done;
    int done_fd;
    job *first, *last; // jobs in input order
    job *undealt;      // the first job that waits for room
    size_t tasks;      // under way
    bool whole;        // blocks pass without being looked at
} engine;

static const uint32_t vnodes = 256;

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err start_workers(engine *self, weir_report *report)
{
    const weir_node *node = weir_actor_node(self->kit);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t count = self->config->workers;
    if (count == WEIR_AUTO) count = cpus > 0 ? cpus : 1;
    if (count > WORKERS_MAX) count = WORKERS_MAX;
    self->workers = calloc((size_t)count, sizeof *self->workers);
    if (!self->workers) abort();
    self->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    weir_task_queue_init(&self->done, self->done_fd);
    weir_err err = WEIR_OK;
    for (int64_t i = 0; i < count && !err; i++, self->worker_count++)
        err =
            weir_worker_start(&self->workers[i], self->config, node, &self->done, report);
    return err;
}

static void open_ports(engine *self)
{
    const weir_rules *outlets = &self->config->outlets;
    const char *name = weir_actor_node(self->kit)->name;
    char text[256];
    self->port_count = outlets->count ? (int)outlets->count : 1;
    self->ports = calloc((size_t)self->port_count, sizeof *self->ports);
    if (!self->ports) abort();
    for (int i = 0; i < self->port_count; i++) {
        snprintf(text, sizeof text, "%s.%s", name,
                 outlets->count ? outlets->items[i].name : "");
        self->ports[i] = weir_actor_port(self->kit, outlets->count ? text : name);
    }
}

static bool passes_whole(const weir_engine_config *c)
{
    return !c->program.class && !c->screen.where && !c->inbound.count &&
           !c->outbound.count && !c->outlets.count && !c->parse;
}

static void collect(void *arg);

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    engine *self = arg;
    size_t at;
    self->kit = kit;
    self->config = config;
    self->done_fd = -1;
    self->has_key = self->config->key != NULL;
    if (self->has_key && weir_path_parse(&self->key, self->config->key, &at))
        return weir_report_set(report, WEIR_EINVAL, NULL, "key is no field path");
    open_ports(self);
    self->whole = passes_whole(self->config);
    weir_err err = start_workers(self, report);
    return err ? err : weir_actor_watch(kit, self->done_fd, collect);
}

static void fini(void *arg)
{
    engine *self = arg;
    for (uint32_t i = 0; self->workers && i < self->worker_count; i++)
        weir_worker_stop(&self->workers[i]);
    if (self->workers) weir_task_queue_fini(&self->done);
    while (self->first) {
        job *j = self->first;
        self->first = j->next;
        weir_block_destroy(&j->block);
        weir_task_destroy(&j->finished);
        free(j);
    }
    free(self->workers);
    free(self->ports);
    weir_path_fini(&self->key);
    weir_doc_fini(&self->doc);
    if (self->done_fd >= 0) close(self->done_fd);
}

/* --- Dealing ----------------------------------------------------------------------- */

static uint32_t least_loaded(engine *self)
{
    uint32_t best = self->next_worker++ % self->worker_count;
    size_t load = weir_worker_load(self->workers[best]);
    for (uint32_t i = 0; i < self->worker_count && load; i++) {
        size_t other = weir_worker_load(self->workers[i]);
        if (other >= load) continue;
        best = i;
        load = other;
    }
    return best;
}

static void give_task(engine *self, job *j, uint32_t worker, weir_selection *selection)
{
    weir_task *task = weir_task_new(j);
    task->selection = *selection;
    *selection = (weir_selection){0};
    j->tasks++;
    self->tasks++;
    weir_worker_put(self->workers[worker], &task);
}

static void deal_by_key(engine *self, job *j)
{
    weir_selection parts[WORKERS_MAX] = {{0}};
    uint64_t parses = self->doc.parses;
    weir_block_deal(j->block, self->has_key ? &self->key : NULL, &self->doc, vnodes,
                    parts, self->worker_count, least_loaded(self));
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_PARSES,
                   self->doc.parses - parses);
    for (uint32_t i = 0; i < self->worker_count; i++)
        if (parts[i].count) give_task(self, j, i, &parts[i]);
}

static void deal(engine *self, job *j)
{
    j->dealt = true;
    if (self->whole) {
        weir_block *output = weir_block_dup(j->block);
        j->entry->fates.done = j->entry->records;
        weir_actor_send(self->kit, self->ports[0], &output, j->entry);
        return;
    }
    if (self->worker_count > 1 && !self->config->ordered) {
        deal_by_key(self, j);
        return;
    }
    weir_selection all = {.block = weir_block_dup(j->block)};
    give_task(self, j, self->config->ordered ? least_loaded(self) : 0, &all);
}

static void end_jobs(engine *self);

/*  A full outlet keeps jobs waiting, and their credit upstream with them.     */
static void deal_what_fits(engine *self)
{
    while (self->undealt && self->tasks < TASKS_A_WORKER * (size_t)self->worker_count &&
           weir_actor_has_room(self->kit)) {
        job *j = self->undealt;
        self->undealt = j->next;
        deal(self, j);
    }
    if (self->whole) end_jobs(self);
}

/* --- Collecting -------------------------------------------------------------------- */

static void send_outputs(engine *self, job *j, weir_task *task)
{
    weir_fates *f = &j->entry->fates;
    for (size_t i = 0; i < task->block_count; i++)
        weir_actor_send(self->kit, self->ports[task->outlets[i]], &task->blocks[i],
                        j->entry);
    f->done += task->fates.done;
    f->dropped += task->fates.dropped;
    f->filtered += task->fates.filtered;
    f->dead += task->fates.dead;
    f->skipped += task->fates.skipped;
    if (task->dead) weir_entry_add_dead(j->entry, &task->dead);
}

/*  Jobs whose work is over leave the list; the entry waits for its outputs.   */
static void end_jobs(engine *self)
{
    for (job **at = &self->first, *previous = NULL; *at;) {
        job *j = *at;
        if (!j->dealt) return; // nor is any behind it
        if (j->tasks) {
            if (self->config->ordered) return;
            previous = j;
            at = &j->next;
            continue;
        }
        if (j->finished) send_outputs(self, j, j->finished);
        weir_task_destroy(&j->finished);
        *at = j->next;
        if (self->last == j) self->last = previous;
        weir_actor_done(self->kit, j->entry);
        weir_block_destroy(&j->block);
        free(j);
    }
}

static void finish_task(engine *self, weir_task **task_p)
{
    weir_task *task = *task_p;
    job *j = task->job;
    self->tasks--;
    j->tasks--;
    if (task->failure.err) {
        weir_actor_fail(self->kit, task->failure.err, task->failure.where, "%s",
                        task->failure.text);
        return;
    }
    if (self->config->ordered) {
        j->finished = task;
        *task_p = NULL;
        return;
    }
    send_outputs(self, j, task);
}

static void collect(void *arg)
{
    engine *self = arg;
    weir_task *task;
    eventfd_read(self->done_fd, &(eventfd_t){0});
    while (!weir_actor_failed(self->kit) && (task = weir_task_queue_take(&self->done))) {
        finish_task(self, &task);
        weir_task_destroy(&task);
    }
    if (weir_actor_failed(self->kit)) return;
    end_jobs(self);
    deal_what_fits(self);
}

/* --- Messages ---------------------------------------------------------------------- */

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    engine *self = arg;
    job *j = calloc(1, sizeof *j);
    if (!j) abort();
    *j = (job){.entry = entry, .block = weir_block_dup(block)};
    if (self->last)
        self->last->next = j;
    else
        self->first = j;
    self->last = j;
    if (!self->undealt) self->undealt = j;
    deal_what_fits(self);
}

static void room(void *arg)
{
    deal_what_fits(arg);
}

static const weir_rules *outlets_of(const void *config)
{
    return &((const weir_engine_config *)config)->outlets;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const parse_words[] = {"lazy", "eager", NULL};
static const char *const auto_word[] = {"auto", NULL};

#define AT(field) offsetof(weir_engine_config, field)

static const weir_option options[] = {
    {"each", WEIR_OPTION_FUNCTION, AT(has_function), 0, 0, NULL, false,
     "called with each record; returns records, drop, or dead \"why\""},
    {"key", WEIR_OPTION_FIELD, AT(key), 0, 0, NULL, false,
     "field whose value decides the worker; wins over the record's own key"},
    {"workers", WEIR_OPTION_INT, AT(workers), 1, 256, auto_word, false,
     "threads that run the function, each with a Lua state of its own"},
    {"ordered", WEIR_OPTION_BOOL, AT(ordered), 0, 0, NULL, false,
     "outputs leave in input order"},
    {"parse", WEIR_OPTION_WORD, AT(parse), 0, 0, parse_words, false,
     "eager: payloads are checked before the function runs"},
    {"parse_error", WEIR_OPTION_WORD, AT(parse_error), 0, 0, weir_on_error_words, false,
     "for payloads that cannot be decoded"},
    {"on_error", WEIR_OPTION_WORD, AT(on_error), 0, 0, weir_on_error_words, false,
     "for a record whose call failed"},
    WEIR_SCREEN_OPTIONS(weir_engine_config, screen),
    {"inbound", WEIR_OPTION_RULES, AT(inbound), 0, 0, NULL, false,
     "rules { where = \"..\", action = drop | dead } before the function; the first that "
     "matches acts"},
    {"outbound", WEIR_OPTION_RULES, AT(outbound), 0, 0, NULL, false,
     "rules behind the function"},
    {"outlets", WEIR_OPTION_OUTLETS, AT(outlets), 0, 0, NULL, false,
     "name = \"expression\" or otherwise; a record goes to each that it matches"},
    {"memory_limit", WEIR_OPTION_SIZE, AT(memory_limit), 1048576, 4294967296.0, NULL,
     false, "Lua heap of a worker"},
    {"instruction_limit", WEIR_OPTION_INT, AT(instruction_limit), 1e4, 1e10, NULL, false,
     "instructions of a call; looked at when it has run for 10 ms"},
    {"output_limit", WEIR_OPTION_SIZE, AT(output_limit), 65536, 1073741824, NULL, false,
     "bytes that a call may output"},
    {.name = NULL},
};

const weir_class weir_engine_class = {
    .name = "process",
    .help = "runs filters, a Lua function and outlets over records, in parallel",
    .actor = weir_engine,
    .size = sizeof(engine),
    .config_size = sizeof(weir_engine_config),
    .defaults = &weir_engine_defaults,
    .options = options,
    .inlet = true,
    .outlets = outlets_of,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .room = room,
};

void weir_engine(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_engine_class, pipe, config);
}
