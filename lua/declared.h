/*  declared: the options of one declaration, read from its Lua table into a config struct
    by the table of its options. What is wrong is told with the option's own line.   */
#pragma once
#include <lua.h>
#include "lua/source.h"
#include "lua/topology.h"

/*  A topology that is being read.                                             */
typedef struct {
    weir_topology *topology;
    weir_source *source;
    weir_reports *reports;
    lua_State *L;
    int first_lines[WEIR_WHOLE_WORDS]; // of the first of each; 0: none yet
    struct weir_group_use *groups;     // owned list
    struct weir_place_use *places;     // owned list
} weir_loader;

typedef struct {
    weir_loader *load;
    const char *word, *name;
    int number;     // of the declaration in the source; -1: not found
    int line;       // of its word
    const char *at; // where its table stands in that declaration: "from.2"; "": itself
    const char *prefix; // of its options' names in complaints: "group."; ""
    const weir_option *options;
    void *config;
    uint8_t *given; // of each option, while they are read: 0: no, 1: yes, 2: it is wrong
} weir_declared;

/*  What the options' table alone cannot tell; the report's where is the option.  */
typedef weir_err(weir_declared_check)(const void *config, weir_report *report);

/*  Reads the table at the stack's index; check, which may be NULL, is asked when no
    required option is missing. `from` is left to the caller.                  */
void weir_declared_read(weir_declared *d, int table, weir_declared_check *check);

/*  option NULL: about the whole declaration.                                  */
void weir_declared_complain(const weir_declared *d, const char *option, const char *text);
int weir_declared_line(const weir_declared *d, const char *option);

/*  line 0: about the whole file.                                              */
void weir_complain_at(weir_loader *self, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
