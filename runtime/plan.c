#include "runtime/plan.h"
#include <stdio.h>

size_t weir_plan_add(weir_plan *self, const char *name, const char *where,
                     const weir_class *class)
{
    size_t count = self->node_count + 1;
    self->nodes = realloc(self->nodes, count * sizeof *self->nodes);
    if (!self->nodes) abort();
    weir_plan_node *node = &self->nodes[self->node_count];
    *node =
        (weir_plan_node){.name = strdup(name), .where = strdup(where), .class = class};
    node->config = malloc(class->config_size);
    if (!node->config) abort();
    weir_options_copy(class->options, node->config, class->defaults, class->config_size);
    return self->node_count++;
}

void weir_plan_from(weir_plan *self, size_t node, const char *source)
{
    weir_plan_node *n = &self->nodes[node];
    n->from = realloc(n->from, (n->from_count + 1) * sizeof *n->from);
    if (!n->from) abort();
    n->from[n->from_count++] = strdup(source);
}

void weir_plan_reads(weir_plan *self, size_t node, const char *stored)
{
    free(self->nodes[node].reads);
    self->nodes[node].reads = strdup(stored);
}

static void free_links(weir_plan *self)
{
    for (size_t i = 0; i < self->link_count; i++)
        free(self->links[i].outlet);
    free(self->links);
    self->links = NULL;
    self->link_count = 0;
}

void weir_plan_fini(weir_plan *self)
{
    free_links(self);
    for (size_t i = 0; i < self->node_count; i++) {
        weir_plan_node *node = &self->nodes[i];
        weir_options_free(node->class->options, node->config);
        free(node->config);
        free(node->name);
        free(node->where);
        free(node->reads);
        for (size_t f = 0; f < node->from_count; f++)
            free(node->from[f]);
        free(node->from);
    }
    free(self->nodes);
    free(self->order);
    free(self->parts);
    *self = (weir_plan){0};
}

/* --- Names ------------------------------------------------------------------------- */

size_t weir_plan_outlets(const weir_plan_node *node, char ***names)
{
    const weir_rules *rules = NULL;
    if (node->class->outlets) rules = node->class->outlets(node->config);
    size_t count = rules && rules->count ? rules->count : 1;
    *names = calloc(count, sizeof **names);
    if (!*names) abort();
    for (size_t i = 0; i < count; i++) {
        const char *outlet = rules && rules->count ? rules->items[i].name : NULL;
        int size = outlet ? asprintf(&(*names)[i], "%s.%s", node->name, outlet)
                          : asprintf(&(*names)[i], "%s", node->name);
        if (size < 0) abort();
    }
    return count;
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static bool has_outlet(const weir_plan_node *node, const char *outlet)
{
    char **names;
    size_t count = weir_plan_outlets(node, &names);
    bool found = false;
    for (size_t i = 0; i < count; i++)
        found |= streq(names[i], outlet);
    free_names(names, count);
    return found;
}

/*  The node whose name is the text up to its first dot.                       */
static const weir_plan_node *find_node(const weir_plan *self, const char *outlet)
{
    size_t size = strcspn(outlet, ".");
    for (size_t i = 0; i < self->node_count; i++) {
        const char *name = self->nodes[i].name;
        if (strlen(name) == size && memcmp(name, outlet, size) == 0)
            return &self->nodes[i];
    }
    return NULL;
}

static bool reads_store_of(const weir_plan *self, size_t node, size_t stored)
{
    const char *reads = self->nodes[node].reads;
    return reads && streq(reads, self->nodes[stored].name);
}

/* --- Checks ------------------------------------------------------------------------ */

static void complain(weir_reports *reports, const weir_plan_node *node, const char *text,
                     const char *detail)
{
    weir_reports_add(reports, WEIR_EINVAL, node->where, "%s \"%s\": %s%s%s%s",
                     node->class->name, node->name, text, detail ? " '" : "",
                     detail ? detail : "", detail ? "'" : "");
}

/*  Names become parts of file names, endpoints and frames; a dot ends a node's name. */
bool weir_plan_is_name(const char *name)
{
    size_t size = strlen(name);
    return size >= 1 && size <= 63 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789_-") == size;
}

static bool stores(const weir_plan_node *node)
{
    return node->class->stores && node->class->stores(node->config);
}

static void check_names(const weir_plan *self, weir_reports *reports)
{
    for (size_t i = 0; i < self->node_count; i++)
        if (!self->nodes[i].reads && !weir_plan_is_name(self->nodes[i].name))
            complain(reports, &self->nodes[i],
                     "a name has 1 to 63 letters, digits, _ or -", NULL);
    for (size_t i = 0; i < self->node_count; i++)
        for (size_t j = 0; j < i; j++)
            if (streq(self->nodes[i].name, self->nodes[j].name)) {
                char detail[160];
                snprintf(detail, sizeof detail, "the name is taken by the node at %s",
                         self->nodes[j].where);
                complain(reports, &self->nodes[i], detail, NULL);
            }
}

static void add_link(weir_plan *self, const weir_plan_node *from, size_t to,
                     const char *outlet)
{
    self->links = realloc(self->links, (self->link_count + 1) * sizeof *self->links);
    if (!self->links) abort();
    self->links[self->link_count++] = (weir_plan_link){
        .from = (size_t)(from - self->nodes), .to = to, .outlet = strdup(outlet)};
}

static void link_input(weir_plan *self, size_t to, size_t f, weir_reports *reports)
{
    const weir_plan_node *node = &self->nodes[to];
    const char *outlet = node->from[f];
    const weir_plan_node *from = find_node(self, outlet);
    for (size_t i = 0; i < f; i++)
        if (streq(node->from[i], outlet)) {
            complain(reports, node, "it reads twice from", outlet);
            return;
        }
    if (!weir_class_reads(node->class))
        complain(reports, node, "a source reads from no node: take away the `from`",
                 NULL);
    else if (!from)
        complain(reports, node, "it reads from an unknown node", outlet);
    else if (weir_class_is_sink(from->class))
        complain(reports, node, "it reads from a sink, which has no outlet:", outlet);
    else if (!has_outlet(from, outlet) && strchr(outlet, '.'))
        complain(reports, node, "it reads from an unknown outlet", outlet);
    else if (stores(from))
        complain(reports, node, "it reads by a link from a store:", outlet);
    else if (!has_outlet(from, outlet))
        complain(reports, node, "name the outlet, the node has several:", outlet);
    else
        add_link(self, from, to, outlet);
}

static void check_readers(const weir_plan *self, weir_reports *reports)
{
    for (size_t i = 0; i < self->node_count; i++) {
        const weir_plan_node *node = &self->nodes[i];
        if (weir_class_reads(node->class) && node->from_count == 0)
            complain(reports, node, "it reads nothing: give it a `from`", NULL);
        if (weir_class_is_sink(node->class) || stores(node)) continue;
        char **names;
        size_t count = weir_plan_outlets(node, &names);
        for (size_t n = 0; n < count; n++) {
            bool read = false;
            for (size_t j = 0; j < self->node_count && !read; j++)
                for (size_t f = 0; f < self->nodes[j].from_count; f++)
                    read |= streq(self->nodes[j].from[f], names[n]);
            if (!read) complain(reports, node, "nobody reads from", names[n]);
        }
        free_names(names, count);
    }
}

/*  Whether nobody reads the node who is not placed yet.                       */
static bool is_ready(const weir_plan *self, size_t node, const bool *placed)
{
    for (size_t l = 0; l < self->link_count; l++)
        if (self->links[l].from == node && !placed[self->links[l].to]) return false;
    for (size_t i = 0; i < self->node_count; i++)
        if (!placed[i] && reads_store_of(self, i, node)) return false;
    return true;
}

/*  Orders the nodes so that readers stand before what they read: again and again a
    node all of whose readers are placed. What is left over lies on a cycle.   */
static void order_nodes(weir_plan *self, weir_reports *reports)
{
    self->order = calloc(self->node_count + 1, sizeof *self->order);
    bool *placed = calloc(self->node_count + 1, sizeof *placed);
    if (!self->order || !placed) abort();
    size_t count = 0;
    for (bool progress = true; progress;) {
        progress = false;
        for (size_t i = self->node_count; i-- > 0;) {
            if (placed[i] || !is_ready(self, i, placed)) continue;
            placed[i] = progress = true;
            self->order[count++] = i;
        }
    }
    for (size_t i = 0; i < self->node_count; i++)
        if (!placed[i] && !self->nodes[i].reads)
            complain(reports, &self->nodes[i], "it stands on a cycle, or before one",
                     NULL);
    free(placed);
}

/*  Nodes that are linked, however indirectly, are one part: they restart together. */
static void find_parts(weir_plan *self)
{
    self->parts = calloc(self->node_count + 1, sizeof *self->parts);
    if (!self->parts) abort();
    for (size_t i = 0; i < self->node_count; i++)
        self->parts[i] = i;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t l = 0; l < self->link_count; l++) {
            size_t *a = &self->parts[self->links[l].from];
            size_t *b = &self->parts[self->links[l].to];
            if (*a == *b) continue;
            *a = *b = *a < *b ? *a : *b;
            changed = true;
        }
    }
}

bool weir_plan_check(weir_plan *self, weir_reports *reports)
{
    size_t before = reports->count;
    free_links(self);
    free(self->order);
    free(self->parts);
    self->order = self->parts = NULL;
    if (self->node_count == 0)
        weir_reports_add(reports, WEIR_EINVAL, NULL, "the topology declares no node");
    check_names(self, reports);
    for (size_t i = 0; i < self->node_count; i++)
        for (size_t f = 0; f < self->nodes[i].from_count; f++)
            link_input(self, i, f, reports);
    check_readers(self, reports);
    order_nodes(self, reports);
    find_parts(self);
    return reports->count == before;
}

/* --- Drawing ----------------------------------------------------------------------- */

/*  Who reads a store is drawn as the node that it feeds; gives that.          */
static size_t fed_by(const weir_plan *self, size_t node)
{
    for (size_t l = 0; l < self->link_count; l++)
        if (self->links[l].from == node) return self->links[l].to;
    return node;
}

size_t weir_plan_declared(const weir_plan *self)
{
    size_t count = 0;
    for (size_t i = 0; i < self->node_count; i++)
        count += !self->nodes[i].reads;
    return count;
}

static void print_dot_node(const weir_plan *self, size_t i, weir_buffer *out)
{
    const weir_plan_node *node = &self->nodes[i];
    if (node->reads)
        weir_buffer_printf(out, "    \"%s\" -> \"%s\" [style=dashed];\n", node->reads,
                           self->nodes[fed_by(self, i)].name);
    else
        weir_buffer_printf(out, "    \"%s\" [label=\"%s\\n%s\"];\n", node->name,
                           node->name, node->class->name);
}

void weir_plan_print_dot(const weir_plan *self, const char *name, weir_buffer *out)
{
    weir_buffer_printf(out, "digraph \"%s\" {\n    rankdir=LR;\n    node [shape=box];\n",
                       name);
    for (size_t i = 0; i < self->node_count; i++)
        print_dot_node(self, i, out);
    for (size_t l = 0; l < self->link_count; l++) {
        const weir_plan_link *link = &self->links[l];
        const char *dot = strchr(link->outlet, '.');
        if (self->nodes[link->from].reads) continue;
        weir_buffer_printf(out, "    \"%s\" -> \"%s\"", self->nodes[link->from].name,
                           self->nodes[link->to].name);
        if (dot) weir_buffer_printf(out, " [label=\"%s\"]", dot + 1);
        weir_buffer_put_text(out, ";\n");
    }
    weir_buffer_put_text(out, "}\n");
}

/*  A node and what reads it, indented; a node with several inputs is drawn whole at
    the first and by name at the others.                                       */
static void print_tree(const weir_plan *self, size_t node, int depth, const char *outlet,
                       bool *drawn, weir_buffer *out)
{
    const weir_plan_node *n = &self->nodes[node];
    const char *dot = outlet ? strchr(outlet, '.') : NULL;
    for (int i = 1; i < depth; i++)
        weir_buffer_put_text(out, "    ");
    if (depth) weir_buffer_printf(out, " %s%s-> ", dot ? dot + 1 : "", dot ? " " : "");
    weir_buffer_printf(out, "%s (%s)%s\n", n->name, n->class->name,
                       drawn[node] ? " ..." : "");
    if (drawn[node]) return;
    drawn[node] = true;
    for (size_t l = 0; l < self->link_count; l++)
        if (self->links[l].from == node)
            print_tree(self, self->links[l].to, depth + 1, self->links[l].outlet, drawn,
                       out);
    for (size_t i = 0; i < self->node_count; i++)
        if (reads_store_of(self, i, node))
            print_tree(self, fed_by(self, i), depth + 1, NULL, drawn, out);
}

void weir_plan_print_text(const weir_plan *self, weir_buffer *out)
{
    bool *drawn = calloc(self->node_count + 1, sizeof *drawn);
    if (!drawn) abort();
    for (size_t i = 0; i < self->node_count; i++)
        if (self->nodes[i].from_count == 0 && !self->nodes[i].reads)
            print_tree(self, i, 0, NULL, drawn, out);
    free(drawn);
}
