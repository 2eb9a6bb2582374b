#include "runtime/metrics.h"
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include "runtime/clock.h"
#include "runtime/redact.h"
#include "runtime/utf8.h"

/* --- Samples ----------------------------------------------------------------------- */

void weir_metric_put_label(weir_buffer *out, const char *text)
{
    char *told = weir_redact(text);
    if (told) text = told;
    bool clean = weir_utf8_valid((const uint8_t *)text, strlen(text));
    for (; *text; text++) {
        uint8_t byte = (uint8_t)*text;
        if (byte == '\\' || byte == '"') weir_buffer_put_byte(out, '\\');
        if (byte == '\n')
            weir_buffer_put_text(out, "\\n");
        else
            weir_buffer_put_byte(out, !clean && byte >= 0x80 ? '?' : byte);
    }
    free(told);
}

static void put_label(weir_buffer *out, const char *name, const char *value)
{
    weir_buffer_printf(out, "%s=\"", name);
    weir_metric_put_label(out, value);
    weir_buffer_put_byte(out, '"');
}

/*  No printing of doubles: a host's locale may have a decimal comma.           */
static void put_number(weir_buffer *out, int64_t number, bool micros)
{
    if (!micros)
        weir_buffer_printf(out, " %" PRId64 "\n", number);
    else
        weir_buffer_printf(out, " %" PRId64 ".%06" PRId64 "\n", number / 1000000,
                           number % 1000000);
}

static void put_head(weir_buffer *out, const char *name, const char *help, bool counter)
{
    weir_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
                       counter ? "counter" : "gauge");
}

/*  name{node="..",actor=".." with the closing brace left to the caller.       */
static void put_node(weir_buffer *out, const char *name, const weir_plan_node *node)
{
    weir_buffer_printf(out, "%s{", name);
    put_label(out, "node", node->name);
    weir_buffer_put_byte(out, ',');
    put_label(out, "actor", node->class->name);
}

static void put_single(weir_buffer *out, const weir_metric *self, int64_t number)
{
    weir_buffer_put_text(out, self->name);
    put_number(out, number, self->micros);
}

/* --- Counters ---------------------------------------------------------------------- */

void weir_metric_name(weir_count count, char name[64])
{
    snprintf(name, 64, "weir_%s%s", weir_count_infos[count].name,
             weir_count_is_gauge(count) ? "" : "_total");
}

static void put_count(const weir_view *view, weir_count count, weir_buffer *out)
{
    char name[64];
    weir_metric_name(count, name);
    put_head(out, name, weir_count_infos[count].help, !weir_count_is_gauge(count));
    for (size_t i = 0; i < view->plan->node_count; i++) {
        weir_vitals *vitals = view->vitals[i];
        uint64_t number = count == WEIR_COUNT_IN ? weir_vitals_entered(vitals)
                                                 : weir_count_get(vitals, count);
        put_node(out, name, &view->plan->nodes[i]);
        weir_buffer_put_byte(out, '}');
        put_number(out, (int64_t)number, false);
    }
}

/* --- Nodes ------------------------------------------------------------------------- */

static bool recalled_of(weir_vitals *vitals, int64_t *number)
{
    *number = (int64_t)vitals->recalled;
    return true;
}

static bool up_of(weir_vitals *vitals, int64_t *number)
{
    int state = vitals->state;
    *number = state == WEIR_STATE_RUNNING || state == WEIR_STATE_ENDED;
    return true;
}

static bool health_of(weir_vitals *vitals, int64_t *number)
{
    *number = weir_health_of(vitals);
    return true;
}

static bool open_of(weir_vitals *vitals, int64_t *number)
{
    *number = (int64_t)weir_vitals_open(vitals);
    return true;
}

static bool lag_of(weir_vitals *vitals, int64_t *number)
{
    int64_t size = vitals->size_hint, position = vitals->position;
    *number = size > position ? size - position : 0;
    return size >= 0;
}

/*  The longest wait of each kind: the oldest comes first in the list.          */
static void put_waiting(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    for (size_t i = 0; i < view->plan->node_count; i++) {
        weir_wait waits[WEIR_WAITS_MAX];
        size_t count = weir_vitals_waits(view->vitals[i], waits);
        int64_t now_us = weir_clock_now_us(), longest_us[WEIR_WAIT_KINDS] = {0};
        while (count-- > 0)
            longest_us[waits[count].kind] = now_us - waits[count].since_us;
        for (int kind = 0; kind < WEIR_WAIT_KINDS; kind++) {
            put_node(out, self->name, &view->plan->nodes[i]);
            weir_buffer_put_byte(out, ',');
            put_label(out, "kind", weir_wait_infos[kind].name);
            weir_buffer_put_byte(out, '}');
            put_number(out, longest_us[kind], true);
        }
    }
}

/* --- The topology ------------------------------------------------------------------ */

static void put_info(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    weir_buffer_printf(out, "%s{", self->name);
    put_label(out, "version", WEIR_VERSION);
    weir_buffer_put_byte(out, ',');
    put_label(out, "name", view->name);
    weir_buffer_put_text(out, "} 1\n");
}

static void put_ready(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    put_single(out, self, weir_health_is_ready(view));
}

static void put_healthy(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    put_single(out, self, weir_health_worst(view) == WEIR_HEALTH_OK);
}

static void put_accounts(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    for (int account = 0; account < WEIR_ACCOUNTS; account++) {
        weir_buffer_printf(out, "%s{", self->name);
        put_label(out, "account", weir_account_name((weir_account)account));
        weir_buffer_put_byte(out, '}');
        uint64_t bytes = weir_ledger_account(view->ledger, (weir_account)account);
        put_number(out, (int64_t)bytes, false);
    }
}

static void put_used(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    put_single(out, self, (int64_t)weir_ledger_used(view->ledger));
}

static void put_limit(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    put_single(out, self, (int64_t)weir_ledger_limit(view->ledger));
}

static void put_peak(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    put_single(out, self, (int64_t)weir_ledger_peak(view->ledger));
}

static void put_release_errors(const weir_metric *self, const weir_view *view,
                               weir_buffer *out)
{
    put_single(out, self, (int64_t)weir_ledger_release_errors(view->ledger));
}

/* --- The process ------------------------------------------------------------------- */

/*  Number `field`, from 1, of a line of numbers in /proc; 0 when it is not there. What
    stands before the last ')', a program's name, is skipped.                  */
static int64_t proc_field(const char *path, int field)
{
    char line[1024] = "";
    FILE *file = fopen(path, "re");
    if (file && !fgets(line, sizeof line, file)) line[0] = 0;
    if (file) fclose(file);
    const char *name_end = strrchr(line, ')'), *at = name_end ? name_end + 1 : line;
    int64_t number = 0;
    for (; field > 0; field--) {
        while (isspace((unsigned char)*at))
            at++;
        number = strtoll(at, NULL, 10);
        while (*at && !isspace((unsigned char)*at))
            at++;
    }
    return number;
}

static void put_memory(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    (void)view;
    put_single(out, self, proc_field("/proc/self/statm", 2) * sysconf(_SC_PAGESIZE));
}

static int64_t micros_of(struct timeval time)
{
    return (int64_t)time.tv_sec * 1000000 + time.tv_usec;
}

static void put_cpu(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    struct rusage usage;
    (void)view;
    if (getrusage(RUSAGE_SELF, &usage)) return;
    put_single(out, self, micros_of(usage.ru_utime) + micros_of(usage.ru_stime));
}

/*  Without `.`, `..` and the one that counts.                                 */
static void put_open_fds(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    int64_t count = -3;
    (void)view;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) return;
    while (readdir(folder))
        count++;
    closedir(folder);
    put_single(out, self, count);
}

static void put_max_fds(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    struct rlimit limit;
    (void)view;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    put_single(out, self, (int64_t)limit.rlim_cur);
}

/*  When the machine was started, in seconds since 1970: the kernel's own whole number,
    so that a process's start does not tremble with the clock.                 */
static int64_t boot_s(void)
{
    char line[256];
    int64_t seconds = 0;
    FILE *file = fopen("/proc/stat", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "btime %" SCNd64, &seconds) == 1) break;
    if (file) fclose(file);
    return seconds;
}

static void put_start(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    (void)view;
    int64_t ticks = proc_field("/proc/self/stat", 20); // starttime, counted behind comm
    put_single(out, self, boot_s() * 1000000 + ticks * 1000000 / sysconf(_SC_CLK_TCK));
}

/* --- The table --------------------------------------------------------------------- */

#define NODE "node, actor"

const weir_metric weir_metrics[] = {
    {"weir_recalled_total", NODE,
     "records that restarts took back, to come in a second time: in_total = done + "
     "dropped + filtered + dead + skipped + shed + resident + recalled",
     true, false, recalled_of, NULL},
    {"weir_up", NODE,
     "1 when the node runs or has come to its end, 0 when it does not run", false, false,
     up_of, NULL},
    {"weir_health", NODE, "0 ok, 1 degraded, 2 failed", false, false, health_of, NULL},
    {"weir_open_blocks", NODE, "blocks that entered and are not settled yet", false,
     false, open_of, NULL},
    {"weir_lag", NODE,
     "what a source knows of and has not made safe yet, in bytes (source.generate: in "
     "records); only where it knows",
     false, false, lag_of, NULL},
    {"weir_waiting_seconds", NODE ", kind",
     "how long the node has been waiting, by what it waits for; 0 when it does not",
     false, true, NULL, put_waiting},
    {"weir_info", "version, name", "always 1; says what runs", false, false, NULL,
     put_info},
    {"weir_ready", "", "1 when all is started, nothing has failed and nothing drains",
     false, false, NULL, put_ready},
    {"weir_healthy", "", "1 when each node is ok", false, false, NULL, put_healthy},
    {"weir_ledger_bytes", "account", "memory that data occupies, by where it lies", false,
     false, NULL, put_accounts},
    {"weir_ledger_used_bytes", "", "memory that data occupies", false, false, NULL,
     put_used},
    {"weir_ledger_limit_bytes", "", "where sources begin to wait", false, false, NULL,
     put_limit},
    {"weir_ledger_peak_bytes", "", "the most that data has occupied so far", false, false,
     NULL, put_peak},
    {"weir_release_errors_total", "",
     "releases of more memory than was reserved; always 0", true, false, NULL,
     put_release_errors},
    {"process_resident_memory_bytes", "", "memory of the process that is in RAM", false,
     false, NULL, put_memory},
    {"process_cpu_seconds_total", "", "CPU time of the process", true, true, NULL,
     put_cpu},
    {"process_open_fds", "", "descriptors that are open", false, false, NULL,
     put_open_fds},
    {"process_max_fds", "", "descriptors that may be open", false, false, NULL,
     put_max_fds},
    {"process_start_time_seconds", "", "when the process was started, since 1970", false,
     true, NULL, put_start},
    {.name = NULL},
};

static void put_metric(const weir_metric *self, const weir_view *view, weir_buffer *out)
{
    put_head(out, self->name, self->help, self->counter);
    if (self->put) self->put(self, view, out);
    for (size_t i = 0; self->of_node && i < view->plan->node_count; i++) {
        int64_t number;
        if (!self->of_node(view->vitals[i], &number)) continue;
        put_node(out, self->name, &view->plan->nodes[i]);
        weir_buffer_put_byte(out, '}');
        put_number(out, number, self->micros);
    }
}

/* --- Of one class ------------------------------------------------------------------ */

struct weir_samples {
    const weir_class_metric *metric;
    const weir_plan_node *node;
    weir_buffer *out;
};

void weir_samples_put(weir_samples *self, const weir_label *labels, size_t count,
                      int64_t number)
{
    put_node(self->out, self->metric->name, self->node);
    for (size_t i = 0; i < count; i++) {
        weir_buffer_put_byte(self->out, ',');
        put_label(self->out, labels[i].name, labels[i].value);
    }
    weir_buffer_put_byte(self->out, '}');
    put_number(self->out, number, self->metric->micros);
}

static void put_class_metric(const weir_class_metric *metric, const weir_view *view,
                             const weir_class *class, weir_buffer *out)
{
    put_head(out, metric->name, metric->help, metric->counter);
    for (size_t i = 0; i < view->plan->node_count; i++) {
        const weir_plan_node *node = &view->plan->nodes[i];
        weir_samples to = {metric, node, out};
        if (node->class == class) metric->put(metric, node->config, &to);
    }
}

static bool is_first_of_class(const weir_plan *plan, size_t node)
{
    for (size_t i = 0; i < node; i++)
        if (plan->nodes[i].class == plan->nodes[node].class) return false;
    return true;
}

static void put_classes(const weir_view *view, weir_buffer *out)
{
    for (size_t i = 0; i < view->plan->node_count; i++) {
        const weir_class *class = view->plan->nodes[i].class;
        if (!class->metrics || !is_first_of_class(view->plan, i)) continue;
        for (const weir_class_metric *m = class->metrics; m->name; m++)
            put_class_metric(m, view, class, out);
    }
}

void weir_metrics_put(const weir_view *view, weir_buffer *out)
{
    for (int count = 0; count < WEIR_COUNTS; count++)
        put_count(view, (weir_count)count, out);
    for (const weir_metric *metric = weir_metrics; metric->name; metric++)
        put_metric(metric, view, out);
    put_classes(view, out);
}
