/*  plan: a topology as a checked list of nodes and links, whoever declared it.

    The language fills one in; a C program may too. weir_plan_check finds everything
    that is wrong with it; only a plan without complaints is wired.            */
#pragma once
#include "runtime/actor.h"

typedef struct {
    char *name;  // owned; unique in the plan
    char *where; // owned; "web.lua:12", for complaints; may be ""
    const weir_class *class;
    void *config; // owned; begins with a weir_node, freed by its options
    char **from;  // owned; "node" or "node.outlet"
    size_t from_count;
    char *reads; // owned; the node whose store it reads, by no link; NULL: none
} weir_plan_node;

typedef struct {
    size_t from, to; // indices of nodes
    char *outlet;    // owned; "parse" or "parse.errors"
} weir_plan_link;

typedef struct {
    weir_plan_node *nodes;
    size_t node_count;
    weir_plan_link *links; // filled in by weir_plan_check
    size_t link_count;
    size_t *order; // nodes, readers before what they read, also from a store; by
                   // weir_plan_check
    size_t *parts; // of each node: number of its connected part; by weir_plan_check
} weir_plan;

/*  Adds a node with a copy of its class's defaults as config, and gives its index.
    The plan owns everything.                                                  */
size_t weir_plan_add(weir_plan *self, const char *name, const char *where,
                     const weir_class *class);
void weir_plan_from(weir_plan *self, size_t node, const char *source);

/*  The node feeds another one (its only reader) from the store of `stored`: nobody
    declared it, drawings leave it out, and its name is not judged.            */
void weir_plan_reads(weir_plan *self, size_t node, const char *stored);

/*  Resolves the links and finds what is wrong: duplicate and dangling names, unread
    outlets, nodes that read nothing, cycles. False: reports were added.       */
bool weir_plan_check(weir_plan *self, weir_reports *reports);

/*  The outlets of a node: names[i] owned by the caller's array.               */
size_t weir_plan_outlets(const weir_plan_node *node, char ***names);

/*  Whether a node may be called so: 1 to 63 letters, digits, _ or -.          */
bool weir_plan_is_name(const char *name);

/*  How many nodes were declared: all but those that read a store for another one. */
size_t weir_plan_declared(const weir_plan *self);

/*  The topology for people and for graphviz.                                  */
void weir_plan_print_dot(const weir_plan *self, const char *name, weir_buffer *out);
void weir_plan_print_text(const weir_plan *self, weir_buffer *out);

void weir_plan_fini(weir_plan *self);
