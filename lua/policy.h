/*  policy: `scale = function (m) .. end` of a bus, as the bus's node wants it.  */
#pragma once
#include "actors/scale.h"
#include "lua/topology.h"

/*  Its source is a weir_function (lua/program.h): the bus's.                    */
extern const weir_policy_class weir_lua_policy;
