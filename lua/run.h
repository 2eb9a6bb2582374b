/*  run: runs a loaded topology as a command does, with signals, progress, a summary for
    people and an exit code.                                                   */
#pragma once
#include "lua/topology.h"

typedef struct {
    const char *duration; // as --for; NULL: none
    bool until_idle, quiet;
    bool json;     // print the final report on stdout
    bool one_line; // no control endpoint, and a log of warnings alone
    bool has_end;  // all of the input is wanted: to be interrupted is a failure
    /*  Asked when it has ended otherwise than clean: true, that was meant.     */
    bool (*is_meant)(void *arg);
    void *arg;
} weir_run_options;

/*  Before any thread exists: signals come to the run alone, and a reader that goes away
    is an error of write (2), no death.                                        */
void weir_run_block_signals(void);

/*  The same, and gives a descriptor that is readable when one of them has come.  */
int weir_run_open_signals(void);

/*  Blocks until it has ended; gives the exit code.                            */
int weir_run_topology(weir_topology *topology, const weir_run_options *options);
