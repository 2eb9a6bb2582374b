/*  audit_bus: the laws of a bus in an audit: of its shards, its store, its groups. */
#pragma once
#include "lua/look.h"

/*  Prints the sums of a bus, as the node of that name tells them, and gives how many of
    its equations do not hold. json: an object of an array; first: of its first element.
 */
unsigned weir_audit_bus(const weir_value *bus, const char *name, bool json, bool first);
