/*  topology: a Lua file as a checked plan.

    Load runs the file in a sandbox of its own, and turns its declarations into plan
    and settings; everything that is wrong is reported, with the option's own line.
    The topology keeps the text, from which every worker makes its state.      */
#pragma once
#include "lua/language.h"
#include "lua/secrets.h"
#include "lua/settings.h"
#include "runtime/plan.h"

typedef struct {
    char *path;   // as given, for texts; owned
    char *folder; // real path of the file's folder; owned
    char *text;   // owned
    size_t size;
    weir_param *params; // lent
    size_t param_count;
    weir_settings settings; // owned texts
    weir_secrets secrets;   // of all that the file has asked for
    weir_plan plan;
    struct weir_function *functions; // sources of the plan's programs; owned
    struct weir_hub **hubs;          // of the plan's buses; owned
    size_t hub_count;
} weir_topology;

/*  Reads, runs and checks the file. False: reports tell why. The topology is to be
    closed in any case.                                                        */
bool weir_topology_load(weir_topology *self, const char *path, weir_param *params,
                        size_t param_count, weir_reports *reports);

/*  The same for those who only want to know its settings and where its state is: secrets
    that cannot be read are no error.                                          */
bool weir_topology_look(weir_topology *self, const char *path, weir_param *params,
                        size_t param_count, weir_reports *reports);

/*  The same for a text that is in no file; name is for complaints. */
bool weir_topology_load_text(weir_topology *self, const char *name, const char *text,
                             weir_reports *reports);
void weir_topology_close(weir_topology *self);
