#include "lua/place.h"
#include <stdlib.h>
#include <string.h>
#include "runtime/filter.h"

typedef struct weir_place_use {
    struct weir_place_use *next;
    char *node, *option; // owned
    int line;
} place_use;

static bool asks_for_place(const char *expression)
{
    weir_filter *filter = NULL;
    size_t column;
    weir_report report = {0};
    if (weir_filter_new(&filter, expression, &column, &report)) return false;
    bool asks = weir_filter_needs_store(filter);
    weir_filter_destroy(&filter);
    return asks;
}

void weir_place_note(weir_declared *d, const char *option, const char *expression)
{
    if (!asks_for_place(expression)) return;
    place_use *use = calloc(1, sizeof *use);
    if (!use) abort();
    use->node = strdup(d->name);
    use->option = strdup(option);
    if (!use->node || !use->option) abort();
    use->line = weir_declared_line(d, option);
    use->next = d->load->places;
    d->load->places = use;
}

static const weir_plan_node *find_node(const weir_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->node_count; i++)
        if (streq(plan->nodes[i].name, name)) return &plan->nodes[i];
    return NULL;
}

/*  The expression of a source.bus is judged by the bus. Of several inputs one is enough:
    what the others bring has no place, and there every test of it is false. */
static bool reads_a_store(const weir_plan *plan, const weir_plan_node *node)
{
    bool reads = node->class->placed;
    for (size_t f = 0; f < node->from_count && !reads; f++) {
        const weir_plan_node *from = find_node(plan, node->from[f]);
        reads = from && from->class->placed;
    }
    return reads;
}

void weir_places_check(weir_loader *load)
{
    const weir_plan *plan = &load->topology->plan;
    for (const place_use *use = load->places; use; use = use->next) {
        const weir_plan_node *node = find_node(plan, use->node);
        if (!node || reads_a_store(plan, node)) continue;
        weir_complain_at(load, use->line,
                         "%s \"%s\": option '%s': $shard and $offset exist only behind a "
                         "bus with a store, and this node reads from none",
                         node->class->name, node->name, use->option);
    }
}

void weir_places_free(weir_loader *load)
{
    while (load->places) {
        place_use *use = load->places;
        load->places = use->next;
        free(use->node);
        free(use->option);
        free(use);
    }
}
