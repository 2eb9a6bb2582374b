/*  run: `weir run`.                                                           */
#include <signal.h>
#include <sys/signalfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "actors/lmdb_use.h"
#include "lua/command.h"
#include "lua/progress.h"
#include "lua/run.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/report.h"
#include "runtime/rundir.h"
#include "runtime/socket.h"

static sigset_t handled_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

/*  Every thread inherits the mask.                                            */
void weir_run_block_signals(void)
{
    sigset_t set = handled_signals();
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int weir_run_open_signals(void)
{
    sigset_t set = handled_signals();
    weir_run_block_signals();
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int exit_code(const weir_outcome *outcome)
{
    if (outcome->ending == WEIR_END_START) return WEIR_EXIT_FAILED;
    if (outcome->ending != WEIR_END_CLEAN) return WEIR_EXIT_FAILED;
    return outcome->dead ? WEIR_EXIT_DEAD : WEIR_EXIT_OK;
}

static const char *say_what_comes(const weir_topology *topology)
{
    bool once = false, forgets = false;
    for (size_t i = 0; i < topology->plan.node_count; i++) {
        once |= topology->plan.nodes[i].class->once;
        forgets |= topology->plan.nodes[i].class->forgets;
    }
    if (forgets) return "what plain ZeroMQ peers sent cannot be read again";
    return once ? "what came by a pipe cannot be read again"
                : "what is not safe is read again";
}

static void print_outcome(const weir_outcome *outcome, const weir_topology *topology)
{
    if (outcome->ending != WEIR_END_CLEAN)
        fprintf(stderr, "weir: %s%s%s\n", outcome->reason.where,
                *outcome->reason.where ? ": " : "", outcome->reason.text);
    if (outcome->outstanding)
        fprintf(stderr, "weir: %llu record%s read and not safe; %s\n",
                (unsigned long long)outcome->outstanding,
                outcome->outstanding == 1 ? " was" : "s were", say_what_comes(topology));
    if (outcome->dead)
        fprintf(stderr, "weir: %llu dead letter%s in %s/dead.ndjson\n",
                (unsigned long long)outcome->dead, outcome->dead == 1 ? "" : "s",
                topology->settings.state);
}

static void print_report(const weir_topology *topology)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/report.json", topology->settings.state);
    FILE *file = fopen(path, "re");
    for (int c; file && (c = fgetc(file)) != EOF;)
        putchar(c);
    if (file) fclose(file);
}

static void fill_config(weir_context_config *config, const weir_settings *s,
                        const weir_run_options *options)
{
    *config = (weir_context_config){
        .name = s->name,
        .state_dir = s->state,
        .window_bytes = (size_t)s->window,
        .block_bytes = (size_t)s->block,
        .record_max = (size_t)s->record_max,
        .intensity = s->intensity,
        .period_us = s->period,
        .drain_us = s->drain,
        .stop_delay_us = s->stop_delay,
        .signals = true,
        .control = s->control,
        .notify = !options->one_line,
        .monitor = s->has_monitor ? &s->monitor : NULL,
        .until_idle = options->until_idle,
    };
}

int weir_run_topology(weir_topology *topology, const weir_run_options *options)
{
    const weir_settings *s = &topology->settings;
    char run_dir[PATH_MAX];
    weir_report report = {0};
    weir_context_config config;
    weir_progress progress = {0};
    weir_outcome outcome;
    fill_config(&config, s, options);
    weir_rundir_path(run_dir);
    if (!options->one_line) config.run_dir = run_dir;
    if (options->duration &&
        weir_parse_time(&config.for_us, options->duration, &report)) {
        fprintf(stderr, "weir: --for: %s\n", report.text);
        return WEIR_EXIT_CHECK;
    }
    weir_log_configure((weir_level)s->log_level, s->log_format == 1, STDERR_FILENO);
    weir_socket_prepare_program();
    weir_lmdb_tell_crashes();
    if (weir_realm_new(&config.realm, s->keys, &report)) {
        fprintf(stderr, "weir: %s%s%s\n", report.where, *report.where ? ": " : "",
                report.text);
        return WEIR_EXIT_CHECK;
    }
    if (!options->quiet) weir_progress_attach(&progress, &config);
    weir_context_run(&topology->plan, &config, &outcome);
    if (!options->quiet) weir_progress_finish(&progress);
    if (options->is_meant && options->is_meant(options->arg))
        outcome = (weir_outcome){.dead = outcome.dead, .stuck = outcome.stuck};
    if (options->has_end && outcome.interrupted && outcome.ending == WEIR_END_CLEAN) {
        outcome.ending = WEIR_END_AT_ONCE;
        weir_report_set(
            &outcome.reason, WEIR_ESTOP, NULL,
            "interrupted: all that was read is safe; the input may not have been "
            "read to its end");
    }
    if (options->json) print_report(topology);
    if (!options->quiet || outcome.ending != WEIR_END_CLEAN || options->one_line)
        print_outcome(&outcome, topology);
    fflush(stdout);
    if (outcome.stuck) _exit(exit_code(&outcome));
    weir_realm_destroy(&config.realm);
    return exit_code(&outcome);
}

int weir_cmd_run(const weir_command_line *line)
{
    weir_reports reports = {0};
    weir_topology topology;
    weir_param *params;
    size_t count;
    weir_run_options options = {
        .duration = weir_line_flag(line, "--for"),
        .until_idle = weir_line_flag(line, "--until-idle"),
        .quiet = weir_line_flag(line, "--quiet"),
        .json = weir_line_flag(line, "--json"),
    };
    weir_run_block_signals();
    weir_line_params(line, &params, &count);
    bool good = weir_topology_load(&topology, weir_line_operand(line, 0), params, count,
                                   &reports);
    weir_print_reports(&reports, false);
    int code = good ? weir_run_topology(&topology, &options) : WEIR_EXIT_CHECK;
    weir_topology_close(&topology);
    weir_reports_fini(&reports);
    free(params);
    return code;
}
