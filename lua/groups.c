#include "lua/groups.h"
#include <stdlib.h>
#include <string.h>
#include "actors/bus_node.h"
#include "actors/reader.h"
#include "lua/language.h"
#include "runtime/nearest.h"

/*  A `group "name" { .. }` as an input of a node.                             */
typedef struct weir_group_use {
    struct weir_group_use *next;
    size_t node, input; // which of its `from`
    char *name;         // owned
    weir_group_options options;
    int line, of_line; // of the group, of its `of`
} group_use;

/* --- Reading ----------------------------------------------------------------------- */

static weir_err check_options(const void *options, weir_report *report)
{
    return weir_group_options_check(options, report);
}

/*  A group stands in the node's own declaration, or by itself, in a local.    */
static weir_declared place(const weir_declared *d, const char *at, const char *name,
                           int line)
{
    weir_declared group = *d;
    int own = weir_source_find(d->load->source, line, "group", name);
    group.at = own < 0 ? at : "";
    group.line = own < 0 ? weir_declared_line(d, at) : line;
    if (own >= 0) group.number = own;
    group.prefix = "group.";
    group.options = weir_group_option_rows;
    return group;
}

bool weir_group_read(weir_declared *d, size_t node, const char *at, int index)
{
    lua_State *L = d->load->L;
    weir_plan *plan = &d->load->topology->plan;
    int line;
    const char *name = weir_language_group(L, index, &line);
    if (!name) return false;
    group_use *use = calloc(1, sizeof *use);
    if (!use) abort();
    weir_declared group = place(d, at, name, line);
    weir_options_copy(weir_group_option_rows, &use->options, &weir_group_options_defaults,
                      sizeof use->options);
    group.config = &use->options;
    weir_declared_read(&group, lua_gettop(L), check_options);
    lua_pop(L, 1);
    if (!weir_plan_is_name(name))
        weir_declared_complain(&group, NULL,
                               "a group's name has 1 to 63 letters, digits, _ or -");
    use->node = node;
    use->input = plan->nodes[node].from_count;
    use->name = strdup(name);
    use->line = group.line;
    use->of_line = weir_declared_line(&group, "of");
    use->next = d->load->groups;
    d->load->groups = use;
    weir_plan_from(plan, node, use->options.of ? use->options.of : "");
    return true;
}

void weir_groups_free(weir_loader *load)
{
    while (load->groups) {
        group_use *use = load->groups;
        load->groups = use->next;
        weir_options_free(weir_group_option_rows, &use->options);
        free(use->name);
        free(use);
    }
}

/* --- Linking ----------------------------------------------------------------------- */

static const group_use *find_use(const weir_loader *load, size_t node, size_t input)
{
    const group_use *use = load->groups;
    while (use && (use->node != node || use->input != input))
        use = use->next;
    return use;
}

static weir_plan_node *find_node(const weir_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->node_count; i++)
        if (streq(plan->nodes[i].name, name)) return &plan->nodes[i];
    return NULL;
}

static bool is_bus(const weir_plan_node *node)
{
    return node && node->class == &weir_bus_node_class;
}

static bool has_store(const weir_plan_node *node)
{
    return is_bus(node) && node->class->stores(node->config);
}

static void give_hubs(weir_topology *topology)
{
    weir_plan *plan = &topology->plan;
    topology->hubs = calloc(plan->node_count + 1, sizeof(weir_hub *));
    if (!topology->hubs) abort();
    for (size_t i = 0; i < plan->node_count; i++) {
        if (!is_bus(&plan->nodes[i])) continue;
        weir_bus_node_config *config = plan->nodes[i].config;
        config->hub = weir_hub_new(plan->nodes[i].name, &config->bus);
        topology->hubs[topology->hub_count++] = config->hub;
    }
}

static const char *nearest_bus(const weir_plan *plan, const char *name)
{
    const char *names[256];
    size_t count = 0;
    for (size_t i = 0; i < plan->node_count && count < 256; i++)
        if (is_bus(&plan->nodes[i])) names[count++] = plan->nodes[i].name;
    return weir_nearest(name, names, count);
}

/*  A group of what is no bus with a store.                                    */
static void complain_of(weir_loader *load, const group_use *use)
{
    const weir_plan *plan = &load->topology->plan;
    const weir_plan_node *node = &plan->nodes[use->node];
    const char *of = use->options.of, *why = "is no bus", *near = nearest_bus(plan, of);
    const weir_plan_node *found = find_node(plan, of);
    if (!found)
        why = "is unknown";
    else if (is_bus(found))
        why = "has no store; a group needs one: store = disk { .. }";
    bool hint = near && !is_bus(found);
    weir_complain_at(load, use->of_line, "%s \"%s\": option 'group.of': '%s' %s%s%s%s",
                     node->class->name, node->name, of, why,
                     hint ? " (did you mean '" : "", hint ? near : "", hint ? "'?)" : "");
}

/*  Another reader of that bus whose group has the same name and other options. */
static const weir_plan_node *find_other(const weir_plan *plan, size_t reader)
{
    const weir_plan_node *self = &plan->nodes[reader];
    const weir_reader_config *mine = self->config;
    for (size_t i = 0; i < reader; i++) {
        const weir_plan_node *node = &plan->nodes[i];
        const weir_reader_config *config = node->config;
        if (node->reads && streq(node->reads, self->reads) &&
            streq(config->group, mine->group) &&
            !weir_group_options_equal(&config->options, &mine->options))
            return node;
    }
    return NULL;
}

static void complain_other(weir_loader *load, const weir_plan_node *node,
                           const group_use *use, const weir_plan_node *other)
{
    const weir_reader_config *config = other->config;
    const char *colon = strrchr(node->where, ':');
    int line = use ? use->line : colon ? atoi(colon + 1) : 0;
    weir_complain_at(
        load, line, "%s \"%s\": the group '%s' of '%s' has other options at %s",
        node->class->name, node->name, config->group, other->reads, other->where);
}

/*  Puts a reader called BUS>NODE between the node and its input. bus NULL: the input was
    complained about, and nothing will read it.                                */
static void add_reader(weir_loader *load, size_t i, size_t input, const group_use *use,
                       const weir_plan_node *bus)
{
    weir_plan *plan = &load->topology->plan;
    char *name, *from = plan->nodes[i].from[input];
    int size = bus ? asprintf(&name, "%s>%s", from, plan->nodes[i].name)
                   : asprintf(&name, "bad%zu>%s", input, plan->nodes[i].name);
    if (size < 0) abort();
    weir_hub *hub = bus ? ((weir_bus_node_config *)bus->config)->hub : NULL;
    size_t reader = weir_plan_add(plan, name, plan->nodes[i].where, &weir_reader_class);
    weir_plan_reads(plan, reader, bus ? from : "");
    weir_reader_config *config = plan->nodes[reader].config;
    config->hub = hub;
    config->group = strdup(use ? use->name : plan->nodes[i].name);
    config->member = strdup(plan->nodes[i].name);
    weir_options_copy(weir_group_option_rows, &config->options,
                      use ? &use->options : &weir_group_options_defaults,
                      sizeof config->options);
    const weir_plan_node *other = find_other(plan, reader);
    if (other) complain_other(load, &plan->nodes[i], use, other);
    plan->nodes[i].from[input] = name;
    free(from);
}

static bool is_said_before(const weir_plan_node *node, size_t input)
{
    for (size_t f = 0; f < input; f++)
        if (streq(node->from[f], node->from[input])) return true;
    return false;
}

static void complain_twice(weir_loader *load, const weir_plan_node *node, size_t input)
{
    weir_reports_add(load->reports, WEIR_EINVAL, node->where,
                     "%s \"%s\": it reads twice from '%s'", node->class->name, node->name,
                     node->from[input]);
}

/*  From its last input to its first: what was said before is not replaced yet. */
static void link_node(weir_loader *load, size_t i)
{
    weir_plan *plan = &load->topology->plan;
    for (size_t f = plan->nodes[i].from_count; f-- > 0;) {
        const weir_plan_node *node = &plan->nodes[i],
                             *bus = find_node(plan, node->from[f]);
        const group_use *use = find_use(load, i, f);
        bool stored = has_store(bus), twice = stored && is_said_before(node, f);
        if (!stored && !use) continue;
        if (twice) complain_twice(load, node, f);
        if (!stored && use->options.of) complain_of(load, use);
        add_reader(load, i, f, use, stored && !twice ? bus : NULL);
    }
}

void weir_groups_link(weir_loader *load)
{
    size_t count = load->topology->plan.node_count;
    give_hubs(load->topology);
    for (size_t i = 0; i < count; i++)
        link_node(load, i);
}
