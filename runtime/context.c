#include "runtime/context.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/log.h"
#include "runtime/report.h"
#include "runtime/socket.h"
#include "runtime/systemd.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

const weir_context_config weir_context_defaults = {
    .name = "weir",
    .state_dir = "weir-state",
    .window_bytes = 32 << 20,
    .block_bytes = 64 << 10,
    .record_max = 8 << 20,
    .intensity = 5,
    .period_us = 60000000,
    .drain_us = 10000000,
};

/*  Before restart k: 100 ms * 2^k, at most 10 s.                               */
static const int64_t restart_first_us = 100000, restart_max_us = 10000000;
static const int64_t idle_us = 300000;      // nothing to read for so long is idle
static const int64_t idle_look_us = 100000; // how often until_idle looks
static const int stop_timeout_ms = 2000;    // for a thread to leave
#define RESTARTS_MAX 1001

typedef struct {
    const weir_plan_node *plan;
    weir_node *node; // the start of plan->config
    weir_vitals vitals;
    zactor_t *actor; // NULL: not running
    sem_t ended;
    weir_report report; // of init
} member;

/*  A connected part that waits to start again; at_us < 0: it does not.        */
typedef struct {
    int64_t at_us;
    int in_a_row; // restarts without a quiet period between
    int64_t last_us;
} part;

typedef struct {
    weir_plan *plan;
    const weir_context_config *config;
    weir_outcome *outcome;
    member *members;      // as plan->nodes
    weir_vitals **vitals; // of the members, for tick
    part *parts;          // indexed by plan->parts[node]
    weir_ledger *ledger;
    weir_monitor *monitor; // NULL: none
    weir_systemd systemd;
    unsigned generation; // of endpoints: each start binds anew
    int lock_fd, wake_fd, signal_fd, epoll_fd;
    int64_t restarts_us[RESTARTS_MAX]; // when the last ones were, a ring
    size_t restart_count;
    int64_t started_us, for_at_us, tick_at_us;
    int64_t drain_at_us;   // when sources are told to stop; -1: not yet asked
    int64_t deadline_us;   // of the drain; -1: none
    int64_t idle_since_us; // -1: busy
    bool draining, over;
} context;

/*  Tells those outside: the monitor's readers, and the service manager.       */
static void enter(context *self, weir_phase phase, const char *news)
{
    if (self->monitor) weir_monitor_set_phase(self->monitor, phase);
    weir_systemd_say(&self->systemd, "%s", news);
}

/* --- Folder ------------------------------------------------------------------------ */

static weir_err make_folders(const char *path, weir_report *report)
{
    char part_path[PATH_MAX];
    snprintf(part_path, sizeof part_path, "%s", path);
    for (char *at = part_path + 1;; at++) {
        char end = *at;
        if (end != '/' && end != 0) continue;
        *at = 0;
        if (mkdir(part_path, 0700) && errno != EEXIST)
            return weir_report_set(report, WEIR_ESYS, part_path,
                                   "cannot make the state folder: %s", strerror(errno));
        *at = end;
        if (!end) return WEIR_OK;
    }
}

static weir_err lock_folder(context *self, weir_report *report)
{
    char path[PATH_MAX];
    weir_err err = make_folders(self->config->state_dir, report);
    if (err) return err;
    snprintf(path, sizeof path, "%s/lock", self->config->state_dir);
    self->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (self->lock_fd < 0)
        return weir_report_set(report, WEIR_ESYS, path, "cannot open: %s",
                               strerror(errno));
    if (flock(self->lock_fd, LOCK_EX | LOCK_NB)) {
        close(self->lock_fd);
        self->lock_fd = -1;
        return weir_report_set(
            report, WEIR_EREFUSED, self->config->state_dir,
            "another weir runs with this state folder: stop it, or set "
            "settings.state");
    }
    /*  The report of an earlier run must not be taken for that of a killed one.  */
    snprintf(path, sizeof path, "%s/report.json", self->config->state_dir);
    unlink(path);
    return WEIR_OK;
}

/*  Half of what is available now: without a limit of its own nothing reserves this
    memory for Weir.                                                           */
static uint64_t memory_limit(void)
{
    uint64_t kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1) break;
    if (file) fclose(file);
    return kib ? kib * 1024 / 2 : UINT64_MAX / 2;
}

/*  Each link takes a few descriptors; the soft limit is often as low as 1,024. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* --- Starting ---------------------------------------------------------------------- */

static void endpoint_of(const context *self, size_t node, char *text, size_t size)
{
    snprintf(text, size, "inproc://weir-%p-%u-%s", (const void *)self, self->generation,
             self->plan->nodes[node].name);
}

static weir_err create_actor(context *self, size_t i, weir_report *report)
{
    member *m = &self->members[i];
    char endpoint[256];
    m->report = (weir_report){0};
    atomic_store(&m->vitals.state, WEIR_STATE_NEW);
    m->vitals.at_end = false;
    m->actor = zactor_new(m->plan->class->actor, m->plan->config);
    weir_handover_take(&m->report);
    if (!m->actor || m->report.err) {
        *report = m->report;
        if (!m->actor)
            weir_report_set(report, WEIR_ESYS, NULL, "no thread or socket could be made");
        return WEIR_EINVAL;
    }
    if (!weir_class_reads(m->plan->class)) return WEIR_OK;
    endpoint_of(self, i, endpoint, sizeof endpoint);
    zmsg_t *reply = NULL;
    weir_err err = weir_actor_ask(m->actor, &reply, "LISTEN", endpoint, NULL);
    char *text = reply ? zmsg_popstr(reply) : NULL;
    if (err) weir_report_set(report, err, NULL, "%s", text ? text : "cannot bind");
    zstr_free(&text);
    zmsg_destroy(&reply);
    return err;
}

static weir_err connect_links(context *self, size_t part_number, weir_report *report)
{
    for (size_t l = 0; l < self->plan->link_count; l++) {
        const weir_plan_link *link = &self->plan->links[l];
        char endpoint[256];
        if (self->plan->parts[link->from] != part_number) continue;
        endpoint_of(self, link->to, endpoint, sizeof endpoint);
        weir_err err =
            weir_actor_ask(self->members[link->from].actor, NULL, "CONNECT", link->outlet,
                           endpoint, self->plan->nodes[link->to].name, NULL);
        if (err)
            return weir_report_set(report, err, NULL, "cannot link %s", link->outlet);
    }
    return WEIR_OK;
}

/*  Says whose failure it is.                                                  */
static void name_node(weir_report *report, const char *name)
{
    char text[sizeof report->text];
    snprintf(text, sizeof text, "%.60s: %.440s", name, report->text);
    memcpy(report->text, text, sizeof text);
}

/*  Readers first, so that nothing is sent to nobody; sources start last.      */
static weir_err start_part(context *self, size_t part_number, weir_report *report)
{
    weir_err err = WEIR_OK;
    self->generation++;
    for (size_t o = 0; o < self->plan->node_count && !err; o++) {
        size_t i = self->plan->order[o];
        if (self->plan->parts[i] != part_number) continue;
        err = create_actor(self, i, report);
        if (err) name_node(report, self->plan->nodes[i].name);
    }
    if (!err) err = connect_links(self, part_number, report);
    for (size_t o = 0; o < self->plan->node_count && !err; o++) {
        size_t i = self->plan->order[o];
        if (self->plan->parts[i] == part_number)
            err = weir_actor_ask(self->members[i].actor, NULL, "START", NULL);
    }
    return err;
}

/*  Sources end first; what they have not committed is given up, not lost.     */
static void stop_part(context *self, size_t part_number)
{
    for (size_t o = self->plan->node_count; o-- > 0;) {
        size_t i = self->plan->order[o];
        member *m = &self->members[i];
        if (self->plan->parts[i] != part_number) continue;
        if (weir_actor_stop(&m->actor, &m->ended, stop_timeout_ms))
            self->outcome->stuck = true;
    }
}

/*  What a source had not made safe when its path stopped, and will not see again.  */
static void shed_residents(weir_vitals *vitals, const char *name)
{
    uint64_t records = weir_count_get(vitals, WEIR_COUNT_RESIDENT);
    weir_count_add(vitals, WEIR_COUNT_SHED, records);
    weir_count_add(vitals, WEIR_COUNT_RESIDENT, -records);
    weir_vitals_recall(vitals); // nothing is left of them to recall
    if (records) weir_log(WEIR_WARN, "given up node=%s records=%" PRIu64, name, records);
}

/*  Records of a part that starts again are not resident any more: they will come in
    a second time, unless their source cannot go back.                         */
static void forget_residents(context *self, size_t part_number)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        weir_vitals *vitals = &self->members[i].vitals;
        if (self->plan->parts[i] != part_number) continue;
        if (self->plan->nodes[i].class->forgets)
            shed_residents(vitals, self->plan->nodes[i].name);
        else
            weir_vitals_recall(vitals);
        weir_count_add(vitals, WEIR_COUNT_RESTARTS, 1);
    }
}

/* --- Failing ----------------------------------------------------------------------- */

static void give_up(context *self, weir_ending ending, const weir_report *reason)
{
    if (self->over) return;
    self->over = true;
    self->outcome->ending = ending;
    if (reason) self->outcome->reason = *reason;
}

static bool has_source_once(const context *self, size_t part_number)
{
    for (size_t i = 0; i < self->plan->node_count; i++)
        if (self->plan->parts[i] == part_number && self->plan->nodes[i].class->once)
            return true;
    return false;
}

/*  More than `intensity` restarts within `period` are too many.               */
static bool too_many_restarts(context *self)
{
    int64_t now = weir_clock_now_us();
    size_t within = 0;
    size_t kept = self->restart_count < RESTARTS_MAX ? self->restart_count : RESTARTS_MAX;
    for (size_t i = 0; i < kept; i++)
        within += now - self->restarts_us[i] < self->config->period_us;
    return (int64_t)within >= self->config->intensity;
}

static void schedule_restart(context *self, size_t part_number, const weir_report *reason)
{
    part *p = &self->parts[part_number];
    int64_t now = weir_clock_now_us();
    if (p->last_us && now - p->last_us > self->config->period_us) p->in_a_row = 0;
    int shift = p->in_a_row > 20 ? 20 : p->in_a_row;
    int64_t wait_us = restart_first_us << shift;
    if (wait_us > restart_max_us) wait_us = restart_max_us;
    p->at_us = now + wait_us;
    p->last_us = now;
    p->in_a_row++;
    self->restarts_us[self->restart_count++ % RESTARTS_MAX] = now;
    self->outcome->restarts++;
    weir_systemd_say(&self->systemd, "STATUS=restarting: %s", reason->text);
    weir_log(WEIR_WARN, "restart cause=\"%s\" wait_ms=%d", reason->text,
             (int)(wait_us / 1000));
}

static void part_failed(context *self, size_t part_number, const weir_report *reason)
{
    stop_part(self, part_number);
    if (self->draining || too_many_restarts(self) || has_source_once(self, part_number)) {
        give_up(self, WEIR_END_FAILED, reason);
        return;
    }
    /*  A thread that did not end still uses what its successor would be given. */
    if (self->outcome->stuck) {
        give_up(self, WEIR_END_FAILED, reason);
        return;
    }
    forget_residents(self, part_number);
    schedule_restart(self, part_number, reason);
}

static void look_for_failures(context *self)
{
    for (size_t i = 0; i < self->plan->node_count && !self->over; i++) {
        member *m = &self->members[i];
        if (!m->actor || m->vitals.state != WEIR_STATE_FAILED) continue;
        weir_report reason;
        weir_vitals_reason(&m->vitals, &reason);
        name_node(&reason, m->plan->name);
        part_failed(self, self->plan->parts[i], &reason);
    }
}

static void drain_part(context *self, size_t part_number)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        member *m = &self->members[i];
        if (self->plan->parts[i] == part_number && m->plan->class->source && m->actor)
            weir_actor_ask(m->actor, NULL, "DRAIN", NULL);
    }
}

static void run_restarts(context *self)
{
    int64_t now = weir_clock_now_us();
    for (size_t p = 0; p < self->plan->node_count && !self->over; p++) {
        if (self->parts[p].at_us < 0 || self->parts[p].at_us > now) continue;
        weir_report report = {0};
        self->parts[p].at_us = -1;
        if (start_part(self, p, &report))
            part_failed(self, p, &report);
        else if (self->draining)
            drain_part(self, p);
        else
            enter(self, WEIR_PHASE_RUNNING, "STATUS=running");
    }
}

/* --- Draining ---------------------------------------------------------------------- */

static void ask_drain(context *self, int64_t after_us)
{
    if (self->draining || self->drain_at_us >= 0) return;
    int64_t now = weir_clock_now_us();
    enter(self, WEIR_PHASE_DRAINING, "STOPPING=1\nSTATUS=draining");
    self->drain_at_us = now + after_us;
    self->deadline_us = now + after_us + self->config->drain_us;
}

static void begin_drain(context *self)
{
    self->drain_at_us = -1;
    self->draining = true;
    weir_log(WEIR_INFO, "draining");
    for (size_t p = 0; p < self->plan->node_count; p++)
        drain_part(self, p);
}

static bool all_sources_ended(const context *self)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        const member *m = &self->members[i];
        if (m->plan->class->source && m->vitals.state != WEIR_STATE_ENDED) return false;
    }
    return true;
}

static bool nothing_moves(const context *self)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        if (self->parts[i].at_us >= 0) return false; // it waits to start again
        const member *m = &self->members[i];
        bool source_busy = m->plan->class->source && !m->vitals.at_end &&
                           m->vitals.state != WEIR_STATE_ENDED;
        if (source_busy || m->vitals.open) return false;
    }
    return true;
}

static void look_for_idle(context *self)
{
    int64_t now = weir_clock_now_us();
    if (!nothing_moves(self))
        self->idle_since_us = -1;
    else if (self->idle_since_us < 0)
        self->idle_since_us = now;
    else if (now - self->idle_since_us >= idle_us)
        ask_drain(self, 0);
}

static uint64_t count_outstanding(const context *self)
{
    uint64_t records = 0;
    for (size_t i = 0; i < self->plan->node_count; i++)
        if (self->members[i].plan->class->source)
            records += weir_count_get(&self->members[i].vitals, WEIR_COUNT_RESIDENT);
    return records;
}

static void look_for_end(context *self)
{
    if (self->over) return;
    if (all_sources_ended(self)) {
        give_up(self, WEIR_END_CLEAN, NULL);
    } else if (self->deadline_us >= 0 && weir_clock_now_us() >= self->deadline_us) {
        weir_report reason = {.err = WEIR_ETIMEOUT};
        snprintf(reason.text, sizeof reason.text,
                 "the drain took too long: %" PRIu64 " records are not safe",
                 count_outstanding(self));
        give_up(self, WEIR_END_DEADLINE, &reason);
    }
}

/* --- Signals ----------------------------------------------------------------------- */

static void reopen_all(context *self)
{
    weir_log(WEIR_INFO, "opening files anew");
    for (size_t i = 0; i < self->plan->node_count; i++) {
        member *m = &self->members[i];
        if (m->actor && m->plan->class->reopen)
            weir_actor_ask(m->actor, NULL, "REOPEN", NULL);
    }
}

static void read_signals(context *self)
{
    struct signalfd_siginfo info;
    while (read(self->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reopen_all(self);
        } else if (self->draining || self->drain_at_us >= 0) {
            give_up(self, WEIR_END_AT_ONCE,
                    &(weir_report){.err = WEIR_ESTOP, .text = "a second signal"});
        } else {
            ask_drain(self, self->config->stop_delay_us);
        }
    }
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* --- Loop -------------------------------------------------------------------------- */

static void earliest(int64_t *next, int64_t at_us)
{
    if (at_us >= 0 && (*next < 0 || at_us < *next)) *next = at_us;
}

static int64_t next_deadline(const context *self)
{
    int64_t next = -1;
    earliest(&next, self->for_at_us);
    earliest(&next, self->tick_at_us);
    earliest(&next, self->drain_at_us);
    earliest(&next, self->deadline_us);
    earliest(&next, self->systemd.beat_at_us);
    if (self->config->until_idle) earliest(&next, weir_clock_now_us() + idle_look_us);
    for (size_t p = 0; p < self->plan->node_count; p++)
        earliest(&next, self->parts[p].at_us);
    return next;
}

static bool due(int64_t at_us)
{
    return at_us >= 0 && weir_clock_now_us() >= at_us;
}

static void run_due(context *self)
{
    run_restarts(self);
    weir_systemd_beat(&self->systemd);
    if (due(self->for_at_us)) {
        self->for_at_us = -1;
        ask_drain(self, 0);
    }
    if (due(self->tick_at_us)) {
        self->tick_at_us = weir_clock_now_us() + self->config->tick_us;
        self->config->tick(self->config->arg, self->plan, self->vitals);
    }
    if (self->config->until_idle && !self->draining) look_for_idle(self);
    if (due(self->drain_at_us)) begin_drain(self);
}

static void supervise(context *self)
{
    while (!self->over) {
        struct epoll_event event;
        int timeout = weir_clock_timeout_ms(next_deadline(self));
        int count = epoll_wait(self->epoll_fd, &event, 1, timeout);
        if (count > 0 && event.data.fd == self->wake_fd)
            eventfd_read(self->wake_fd, &(eventfd_t){0});
        if (count > 0 && event.data.fd == self->signal_fd) read_signals(self);
        look_for_failures(self);
        run_due(self);
        look_for_end(self);
    }
}

/* --- Life -------------------------------------------------------------------------- */

static bool add_fd(context *self, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return fd >= 0 && epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void fill_node(context *self, size_t i)
{
    const weir_context_config *c = self->config;
    member *m = &self->members[i];
    m->plan = &self->plan->nodes[i];
    m->node = m->plan->config;
    m->vitals = (weir_vitals)WEIR_VITALS_INIT;
    m->vitals.wake_fd = self->wake_fd;
    sem_init(&m->ended, 0, 0);
    self->vitals[i] = &m->vitals;
    self->parts[i].at_us = -1;
    *m->node = (weir_node){
        .name = m->plan->name,
        .ledger = self->ledger,
        .vitals = &m->vitals,
        .state_dir = c->state_dir,
        .window_bytes = c->window_bytes,
        .block_bytes = c->block_bytes,
        .record_max = c->record_max,
        .realm = c->realm,
        .report = &m->report,
        .ended = &m->ended,
    };
}

static weir_err open_context(context *self, weir_report *report)
{
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->config->signals) self->signal_fd = open_signals();
    if (!add_fd(self, self->wake_fd) ||
        (self->config->signals && !add_fd(self, self->signal_fd)))
        return weir_report_set(report, WEIR_ESYS, NULL, "no descriptors left: %s",
                               strerror(errno));
    if (weir_clock_watch(self->wake_fd)) return WEIR_EFULL;
    return lock_folder(self, report);
}

static weir_err open_monitor(context *self, weir_report *report)
{
    const weir_view view = {self->config->name, self->plan, self->vitals, self->ledger,
                            WEIR_PHASE_STARTING};
    if (!self->config->monitor) return WEIR_OK;
    return weir_monitor_new(&self->monitor, self->config->monitor, &view, report);
}

static void start_all(context *self)
{
    weir_report report = {0};
    weir_err err = WEIR_OK;
    for (size_t p = 0; p < self->plan->node_count && !err; p++)
        if (self->plan->parts[p] == p) err = start_part(self, p, &report);
    if (err) {
        give_up(self, WEIR_END_START, &report);
        return;
    }
    enter(self, WEIR_PHASE_RUNNING, "READY=1\nSTATUS=running");
    weir_log(WEIR_INFO, "ready name=%s nodes=%zu links=%zu ms=%d", self->config->name,
             self->plan->node_count, self->plan->link_count,
             (int)((weir_clock_now_us() - self->started_us) / 1000));
}

static void close_context(context *self)
{
    weir_clock_unwatch(self->wake_fd);
    if (self->lock_fd >= 0) close(self->lock_fd);
    if (self->signal_fd >= 0) close(self->signal_fd);
    if (self->wake_fd >= 0) close(self->wake_fd);
    if (self->epoll_fd >= 0) close(self->epoll_fd);
    /*  A stuck thread still uses what it was given.                           */
    if (self->outcome->stuck) return;
    for (size_t i = 0; i < self->plan->node_count; i++)
        sem_destroy(&self->members[i].ended);
    free(self->members);
    free(self->vitals);
    free(self->parts);
    weir_ledger_destroy(&self->ledger);
}

/*  libzmq closes sockets in a thread of its own: the last bodies are freed a moment
    after their actors have ended.                                             */
static void wait_for_ledger(const context *self)
{
    for (int ms = 0; ms < 1000 && weir_ledger_used(self->ledger); ms++)
        usleep(1000);
}

static void sum_up(context *self)
{
    self->outcome->outstanding = count_outstanding(self);
    for (size_t i = 0; i < self->plan->node_count; i++)
        self->outcome->dead += weir_count_get(&self->members[i].vitals, WEIR_COUNT_DEAD);
    for (size_t p = 0; p < self->plan->node_count; p++)
        if (self->plan->parts[p] == p) stop_part(self, p);
    if (self->lock_fd < 0) return;
    if (!self->outcome->stuck) wait_for_ledger(self);
    weir_report report = {0};
    if (weir_report_write(self->plan, self->config, self->vitals, self->ledger,
                          self->outcome, &report))
        weir_log(WEIR_ERROR, "cannot write the report at=%s cause=\"%s\"", report.where,
                 report.text);
}

void weir_context_run(weir_plan *plan, const weir_context_config *config,
                      weir_outcome *outcome)
{
    size_t count = plan->node_count;
    *outcome = (weir_outcome){.ending = WEIR_END_START};
    context state = {
        .plan = plan,
        .config = config,
        .outcome = outcome,
        .members = calloc(count, sizeof(member)),
        .vitals = calloc(count, sizeof(weir_vitals *)),
        .parts = calloc(count, sizeof(part)),
        .ledger = weir_ledger_new(memory_limit()),
        .lock_fd = -1,
        .signal_fd = -1,
        .started_us = weir_clock_now_us(),
        .for_at_us = config->for_us ? weir_clock_now_us() + config->for_us : -1,
        .tick_at_us = config->tick_us ? weir_clock_now_us() + config->tick_us : -1,
        .drain_at_us = -1,
        .deadline_us = -1,
        .idle_since_us = -1,
    };
    context *self = &state;
    if (!self->members || !self->vitals || !self->parts) abort();
    raise_descriptor_limit();
    weir_socket_prepare();
    weir_err err = open_context(self, &outcome->reason);
    for (size_t i = 0; i < count; i++)
        fill_node(self, i);
    weir_systemd_open(&self->systemd, config->notify);
    if (!err) err = open_monitor(self, &outcome->reason);
    if (!err) start_all(self);
    if (!err) supervise(self);
    enter(self, WEIR_PHASE_DRAINING, "STOPPING=1");
    weir_monitor_destroy(&self->monitor);
    sum_up(self);
    weir_systemd_close(&self->systemd);
    close_context(self);
}
