/*  catalog: the one list of all actors.                                       */
#pragma once
#include "runtime/actor.h"

/*  NULL-ended.                                                                */
extern const weir_class *const weir_catalog[];

/*  The class of that name, or NULL.                                           */
const weir_class *weir_catalog_find(const char *name);
