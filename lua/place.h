/*  place: expressions that name $shard or $offset. Whether their node's records have such
    a place is known when all declarations are read.                                */
#pragma once
#include "lua/declared.h"

/*  Remembers the option's expression (which is good), if it asks for a place.      */
void weir_place_note(weir_declared *d, const char *option, const char *expression);

/*  After weir_groups_link: complains about the ones of nodes that read from no bus with a
    store.                                                                          */
void weir_places_check(weir_loader *load);
void weir_places_free(weir_loader *load);
