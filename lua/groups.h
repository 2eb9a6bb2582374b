/*  groups: who reads which bus. A node that reads from a bus with a store is a member of
    a consumer group, and a hidden node of the plan, the reader BUS>NODE, feeds it.

        sink.null "n" { from = "events" }        group "n" of "events"
        from = group "billing" { of = "events" }                                */
#pragma once
#include "lua/declared.h"

/*  Takes the group at the stack's index, which stands in the declaration at `at`, as an
    input of the node. False: it is no group.                                  */
bool weir_group_read(weir_declared *d, size_t node, const char *at, int index);

/*  All declarations are read: gives each bus its hub, and each node that reads from a
    store its reader. Complains about groups of what is no bus with a store, and about
    groups with one name and different options.                                */
void weir_groups_link(weir_loader *load);
void weir_groups_free(weir_loader *load);
