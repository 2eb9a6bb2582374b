/*  oneline: what `weir pipe`, `send` and `recv` share: topologies that the command line
    makes, whose state folder lasts as long as they run.                       */
#pragma once
#include "lua/command.h"
#include "lua/run.h"

/*  A flag that sets an option of a node. */
typedef struct {
    const char *flag, *node, *option;
} weir_bound_flag;

/*  Sets one option from text, as `label` of the command line; false: it was told why not.
 */
bool weir_oneline_set(weir_topology *topology, const char *node, const char *option,
                      const char *value, const char *label);

/*  Sets those that were given (the table ends with a NULL flag) and checks every node. */
bool weir_oneline_set_all(weir_topology *topology, const weir_bound_flag *bounds,
                          const weir_command_line *line);

/*  Runs it with a temporary state folder, or with that one. When there are dead letters
    the temporary folder stays, and is named. Gives the exit code.             */
int weir_oneline_run(weir_topology *topology, const char *state,
                     const weir_run_options *options);

extern const weir_flag weir_pipe_flags[], weir_send_flags[], weir_recv_flags[];
int weir_cmd_pipe(const weir_command_line *line);
int weir_cmd_send(const weir_command_line *line);
int weir_cmd_recv(const weir_command_line *line);
