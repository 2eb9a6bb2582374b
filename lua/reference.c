/*  reference: `weir reference`, the reference in Markdown from the tables that the
    code uses.                                                                 */
#include <stdio.h>
#include "actors/catalog.h"
#include "actors/reader.h"
#include "lua/command.h"
#include "lua/settings.h"
#include "runtime/metrics.h"

static void put_cell(const weir_buffer *cell)
{
    for (size_t i = 0; i < cell->size; i++) {
        if (cell->data[i] == '|') putchar('\\');
        putchar(cell->data[i]);
    }
}

static void put_options(const weir_option *options, const void *defaults)
{
    if (!options->name) return;
    printf("option | type | default | range | meaning\n-|-|-|-|-\n");
    for (const weir_option *o = options; o->name; o++) {
        weir_buffer cell = {0};
        printf("`%s` | ", o->name);
        weir_option_print_type(o, &cell);
        put_cell(&cell);
        cell.size = 0;
        printf(" | ");
        if (o->required)
            printf("required");
        else
            weir_option_print(o, defaults, &cell);
        put_cell(&cell);
        cell.size = 0;
        printf(" | ");
        weir_option_print_range(o, &cell);
        put_cell(&cell);
        cell.size = 0;
        weir_buffer_put_text(&cell, o->help);
        printf(" | ");
        put_cell(&cell);
        printf("\n");
        weir_buffer_fini(&cell);
    }
    printf("\n");
}

static void put_actors(void)
{
    printf("## Nodes\n\nEvery node has a name: `word \"name\" { options }`. Nodes that "
           "read have `from`: the name of a node or outlet, or a list of names.\n\n");
    for (const weir_class *const *class = weir_catalog; *class; class ++) {
        printf("### %s\n\n%s%s.\n\n", (*class)->name, (*class)->help,
               weir_class_reads(*class) ? "; reads `from`" : "");
        put_options((*class)->options, (*class)->defaults);
    }
}

static void put_group(void)
{
    printf(
        "### group\n\n`from = group \"name\" { of = \"bus\", .. }` reads a bus that has "
        "a store, as a member of a consumer group.\n\n");
    put_options(weir_group_option_rows, &weir_group_options_defaults);
}

static void put_commands(void)
{
    printf("## Commands\n\n");
    for (const weir_host_command *c = weir_commands; c->name; c++) {
        printf("### weir %s %s\n\n%s.\n\n", c->name, c->operands, c->help);
        if (!c->flags[0].name) continue;
        printf("option | meaning\n-|-\n");
        for (const weir_flag *f = c->flags; f->name; f++)
            printf("`%s%s%s` | %s\n", f->name, f->argument ? " " : "",
                   f->argument ? f->argument : "", f->help);
        printf("\n");
    }
}

static void put_class_metrics(const weir_class *class)
{
    for (const weir_class_metric *m = class->metrics; m && m->name; m++)
        printf("`%s` | %s | node, actor%s%s | %s\n", m->name,
               m->counter ? "counter" : "gauge", *m->labels ? ", " : "", m->labels,
               m->help);
}

static void put_metrics(void)
{
    char name[64];
    printf("## Metrics\n\nIn Prometheus' text format, by `monitor`.\n\n"
           "metric | type | labels | meaning\n-|-|-|-\n");
    for (int i = 0; i < WEIR_COUNTS; i++) {
        weir_metric_name((weir_count)i, name);
        printf("`%s` | %s | node, actor | %s\n", name,
               weir_count_is_gauge((weir_count)i) ? "gauge" : "counter",
               weir_count_infos[i].help);
    }
    for (const weir_metric *m = weir_metrics; m->name; m++)
        printf("`%s` | %s | %s | %s\n", m->name, m->counter ? "counter" : "gauge",
               m->labels, m->help);
    for (const weir_class *const *class = weir_catalog; *class; class ++)
        put_class_metrics(*class);
    printf("\n`kind` of `weir_waiting_seconds`:\n\nkind | what it waits for | health\n"
           "-|-|-\n");
    for (int i = 0; i < WEIR_WAIT_KINDS; i++)
        printf("`%s` | %s | %s\n", weir_wait_infos[i].name, weir_wait_infos[i].help,
               weir_wait_infos[i].degrades ? "degraded" : "ok");
    printf("\n");
}

static void put_control(void)
{
    printf("## Control\n\nWhat a running weir answers at its control endpoint; "
           "[control.md](control.md) is the protocol.\n\ncommand | arguments | "
           "what it does\n-|-|-\n");
    for (const weir_context_command *c = weir_context_commands; c->name; c++)
        printf("`%s` | %s%s%s | %s\n", c->name, *c->args ? "`" : "", c->args,
               *c->args ? "`" : "", c->help);
    printf("\n");
}

int weir_cmd_reference(const weir_command_line *line)
{
    (void)line;
    printf(
        "# Reference\n\nPrinted by `weir reference` from the tables that the code "
        "uses.\n\nTimes and sizes are texts with a unit: `\"10ms\"`, `\"64MB\"` (powers "
        "of 1024). Words such as `drop` stand without quotes. A dot is a nested table: "
        "`retry.first` is `retry = { first = \"1s\" }`.\n\n");
    for (size_t i = 0; i < WEIR_WHOLE_WORDS; i++) {
        const weir_whole_word *whole = &weir_whole_words[i];
        printf("## %s\n\n%s", whole->word, whole->help);
        put_options(whole->options, whole->defaults);
    }
    put_actors();
    put_group();
    printf("## Counters\n\nOf each node, in reports and `weir audit`. At all times "
           "in = done + dropped + filtered + dead + skipped + shed + resident.\n\n"
           "counter | meaning\n-|-\n");
    for (int i = 0; i < WEIR_COUNTS; i++)
        printf("`%s` | %s\n", weir_count_infos[i].name, weir_count_infos[i].help);
    printf("\n");
    put_metrics();
    put_control();
    put_commands();
    printf("Exit codes: 0 clean; 1 stopped by failures, by the deadline of the drain, or "
           "unequal sums; 2 errors in the topology or the command line, nothing was "
           "started; 3 clean, but dead letters were written.\n");
    return WEIR_EXIT_OK;
}
