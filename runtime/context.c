#include "runtime/clock.h"
#include "runtime/context_private.h"
#include "runtime/files.h"
#include "runtime/log.h"
#include "runtime/report.h"
#include "runtime/socket.h"
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

static const int64_t idle_us = 300000;      // nothing to read for so long is idle
static const int64_t idle_look_us = 100000; // how often until_idle looks

void weir_context_enter(context *self, weir_phase phase, const char *news)
{
    self->phase = phase;
    if (self->monitor) weir_monitor_set_phase(self->monitor, phase);
    weir_systemd_say(&self->systemd, "%s", news);
}

/* --- Folder ------------------------------------------------------------------------ */

static weir_err lock_folder(context *self, weir_report *report)
{
    char path[PATH_MAX];
    if (weir_make_folders(self->config->state_dir))
        return weir_report_set(report, WEIR_ESYS, self->config->state_dir,
                               "cannot make the state folder: %s", strerror(errno));
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

/* --- Ending ------------------------------------------------------------------------ */

void weir_context_give_up(context *self, weir_ending ending, const weir_report *reason)
{
    if (self->over) return;
    self->over = true;
    self->outcome->ending = ending;
    if (reason) self->outcome->reason = *reason;
}

void weir_context_ask_drain(context *self, int64_t after_us)
{
    if (self->draining || self->drain_at_us >= 0) return;
    int64_t now = weir_clock_now_us();
    weir_context_enter(self, WEIR_PHASE_DRAINING, "STOPPING=1\nSTATUS=draining");
    self->drain_at_us = now + after_us;
    self->deadline_us = now + after_us + self->config->drain_us;
}

static void begin_drain(context *self)
{
    self->drain_at_us = -1;
    self->draining = true;
    weir_log(WEIR_INFO, "draining");
    for (size_t p = 0; p < self->plan->node_count; p++)
        weir_context_drain_part(self, p);
}

static bool all_sources_ended(const context *self)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        const member *m = &self->members[i];
        if (m->plan->class->source && m->vitals.state != WEIR_STATE_ENDED) return false;
    }
    return true;
}

/*  Sources that follow what others have stored end when these have ended and nothing is
    left to read.                                                               */
static bool only_followers_run(const context *self)
{
    bool some = false;
    for (size_t i = 0; i < self->plan->node_count; i++) {
        const member *m = &self->members[i];
        if (!m->plan->class->source || m->vitals.state == WEIR_STATE_ENDED) continue;
        if (!m->plan->class->follows) return false;
        some = true;
    }
    return some;
}

static bool ends_when_idle(const context *self)
{
    return !self->draining && (self->config->until_idle || only_followers_run(self));
}

static bool nothing_moves(const context *self)
{
    for (size_t i = 0; i < self->plan->node_count; i++) {
        if (self->parts[i].at_us >= 0) return false; // it waits to start again
        const member *m = &self->members[i];
        bool source_busy = m->plan->class->source && !m->vitals.at_end &&
                           m->vitals.state != WEIR_STATE_ENDED;
        if (source_busy || weir_vitals_open(&m->vitals)) return false;
    }
    return true;
}

static uint64_t records_taken(const context *self)
{
    uint64_t records = 0;
    for (size_t i = 0; i < self->plan->node_count; i++)
        records += weir_count_get(&self->members[i].vitals, WEIR_COUNT_IN);
    return records;
}

/*  What moved between two looks is seen by its count.                              */
static void look_for_idle(context *self)
{
    int64_t now = weir_clock_now_us();
    uint64_t records = records_taken(self);
    if (!nothing_moves(self))
        self->idle_since_us = -1;
    else if (self->idle_since_us < 0 || records != self->idle_records)
        self->idle_since_us = now;
    else if (now - self->idle_since_us >= idle_us)
        weir_context_ask_drain(self, 0);
    self->idle_records = records;
}

uint64_t weir_context_outstanding(const context *self)
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
        weir_context_give_up(self, WEIR_END_CLEAN, NULL);
    } else if (self->deadline_us >= 0 && weir_clock_now_us() >= self->deadline_us) {
        weir_report reason = {.err = WEIR_ETIMEOUT,
                              .text = "the drain took too long (supervise { drain })"};
        weir_context_give_up(self, WEIR_END_DEADLINE, &reason);
    }
}

/* --- Signals ----------------------------------------------------------------------- */

static void reopen_all(context *self)
{
    weir_log(WEIR_INFO, "opening files anew");
    for (size_t i = 0; i < self->plan->node_count; i++) {
        member *m = &self->members[i];
        if (m->actor && m->plan->class->reopen)
            weir_context_ask(self, i, 0, "REOPEN", NULL);
    }
}

static void read_signals(context *self)
{
    struct signalfd_siginfo info;
    while (read(self->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reopen_all(self);
        } else if (self->draining || self->drain_at_us >= 0) {
            weir_context_give_up(
                self, WEIR_END_AT_ONCE,
                &(weir_report){.err = WEIR_ESTOP, .text = "a second signal"});
        } else {
            self->outcome->interrupted = true;
            weir_context_ask_drain(self, self->config->stop_delay_us);
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
    earliest(&next, self->tap_at_us);
    earliest(&next, weir_context_flush_deadline(self));
    earliest(&next, self->systemd.beat_at_us);
    if (ends_when_idle(self)) earliest(&next, weir_clock_now_us() + idle_look_us);
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
    weir_context_run_restarts(self);
    weir_systemd_beat(&self->systemd);
    if (due(self->for_at_us)) {
        self->for_at_us = -1;
        weir_context_ask_drain(self, 0);
    }
    if (due(self->tick_at_us)) {
        self->tick_at_us = weir_clock_now_us() + self->config->tick_us;
        self->config->tick(self->config->arg, self->plan, self->vitals);
    }
    if (ends_when_idle(self)) look_for_idle(self);
    if (due(self->drain_at_us)) begin_drain(self);
    if (due(self->tap_at_us)) weir_context_run_taps(self);
    weir_context_run_flushes(self);
}

static void supervise(context *self)
{
    while (!self->over) {
        struct epoll_event event;
        bool busy = weir_control_run(self->control);
        int timeout = busy ? 0 : weir_clock_timeout_ms(next_deadline(self));
        int count = epoll_wait(self->epoll_fd, &event, 1, timeout);
        if (count > 0 && event.data.fd == self->wake_fd)
            eventfd_read(self->wake_fd, &(eventfd_t){0});
        if (count > 0 && event.data.fd == self->signal_fd) read_signals(self);
        weir_context_look_for_failures(self);
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
        .topology = c->name,
        .run_dir = c->run_dir,
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
        if (self->plan->parts[p] == p) err = weir_context_start_part(self, p, &report);
    if (!err) err = weir_context_open_control(self, &report);
    if (err) {
        weir_context_give_up(self, WEIR_END_START, &report);
        return;
    }
    weir_context_enter(self, WEIR_PHASE_RUNNING, "READY=1\nSTATUS=running");
    weir_log(WEIR_INFO, "ready name=%s nodes=%zu links=%zu ms=%d", self->config->name,
             self->plan->node_count, self->plan->link_count,
             (int)((weir_clock_now_us() - self->started_us) / 1000));
}

static void close_context(context *self)
{
    weir_context_close_control(self);
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
    self->outcome->outstanding = weir_context_outstanding(self);
    for (size_t p = 0; p < self->plan->node_count; p++)
        if (self->plan->parts[p] == p) weir_context_stop_part(self, p);
    for (size_t i = 0; i < self->plan->node_count; i++) {
        const weir_vitals *vitals = &self->members[i].vitals;
        self->outcome->dead += weir_count_get(vitals, WEIR_COUNT_DEAD) +
                               weir_count_get(vitals, WEIR_COUNT_GIVEN_UP);
    }
    if (self->lock_fd < 0) return;
    if (!self->outcome->stuck) wait_for_ledger(self);
    weir_report report = {0};
    weir_accounts accounts = {.plan = self->plan,
                              .config = self->config,
                              .vitals = self->vitals,
                              .ledger = self->ledger,
                              .outcome = self->outcome,
                              .ending = weir_ending_name(self->outcome->ending)};
    if (weir_accounts_write(&accounts, &report))
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
        .tap_at_us = -1,
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
    weir_context_enter(self, WEIR_PHASE_DRAINING, "STOPPING=1");
    weir_monitor_destroy(&self->monitor);
    sum_up(self);
    weir_systemd_close(&self->systemd);
    close_context(self);
}
