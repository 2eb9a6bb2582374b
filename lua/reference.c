/*  reference: `weir reference`, the reference in Markdown from the tables that the
    code uses.                                                                 */
#include <stdio.h>
#include "actors/catalog.h"
#include "lua/command.h"
#include "lua/settings.h"

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

int weir_cmd_reference(const weir_command_line *line)
{
    (void)line;
    printf(
        "# Reference\n\nPrinted by `weir reference` from the tables that the code "
        "uses.\n\nTimes and sizes are texts with a unit: `\"10ms\"`, `\"64MB\"` (powers "
        "of 1024). Words such as `drop` stand without quotes. A dot is a nested table: "
        "`retry.first` is `retry = { first = \"1s\" }`.\n\n## settings\n\n");
    put_options(weir_settings_options, &weir_settings_defaults);
    printf("## supervise\n\n");
    put_options(weir_supervise_options, &weir_settings_defaults);
    printf("## security\n\n");
    put_options(weir_security_options, &weir_settings_defaults);
    put_actors();
    printf("## Counters\n\nOf each node, in reports and `weir audit`. At all times "
           "in = done + dropped + filtered + dead + skipped + shed + resident.\n\n"
           "counter | meaning\n-|-\n");
    for (int i = 0; i < WEIR_COUNTS; i++)
        printf("`%s` | %s\n", weir_count_infos[i].name, weir_count_infos[i].help);
    printf("\n");
    put_commands();
    printf("Exit codes: 0 clean; 1 stopped by failures, by the deadline of the drain, or "
           "unequal sums; 2 errors in the topology or the command line, nothing was "
           "started; 3 clean, but dead letters were written.\n");
    return WEIR_EXIT_OK;
}
