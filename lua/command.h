/*  command: the command line as a table.                                      */
#pragma once
#include "lua/language.h"

/*  Documented exit codes.                                                     */
enum {
    WEIR_EXIT_OK = 0,     // clean, no dead letters
    WEIR_EXIT_FAILED = 1, // stopped by failures, by the deadline of the drain, or unequal
                          // sums; of check: a server is not as it should be
    WEIR_EXIT_CHECK = 2,  // errors in the topology or the command line, nothing started
    WEIR_EXIT_DEAD = 3,   // clean, but dead letters were written
};

typedef struct {
    const char *name;     // "--for"
    const char *argument; // "TIME"; NULL: a flag
    const char *help;
} weir_flag;

/*  What was given, in order: operands have flag NULL.                         */
typedef struct {
    const weir_flag *flag;
    const char *value; // argument of the flag, or the operand
} weir_given;

typedef struct weir_command_line {
    weir_given *items; // owned
    size_t count;
} weir_command_line;

/*  A name of two words ("keys init") makes a group: `weir keys` lists its commands. An
    operand in brackets may be left out.                                        */
typedef struct {
    const char *name;
    const char *operands;   // "FILE", "NAME [VALUE]"
    const char *help;       // one sentence
    const weir_flag *flags; // ends with a NULL name
    int max_operands;
    int (*run)(const weir_command_line *line); // gives the exit code
} weir_host_command;

extern const weir_host_command weir_commands[]; // ends with a NULL name

/*  Runs the command that the arguments name; gives the exit code.              */
int weir_main(int argc, char **argv);

/*  The value of a flag, the last one given; "" for a plain flag; NULL: not given. */
const char *weir_line_flag(const weir_command_line *line, const char *name);
const char *weir_line_operand(const weir_command_line *line, int i); // NULL: none

/*  What a command reads from, as one bit.                                     */
enum {
    WEIR_OF_FOLDER = 1,    // of a disk store
    WEIR_OF_ENDPOINT = 2,  // ipc://.., tcp://..
    WEIR_OF_HERE = 4,      // NAME/BUS of a weir that runs here
    WEIR_OF_ELSEWHERE = 8, // the same with --control
    WEIR_OF_BUS = WEIR_OF_HERE | WEIR_OF_ELSEWHERE,
};

/*  A flag that makes sense only with some of them.                            */
typedef struct {
    const char *flag; // NULL: the end of a table
    int of;
    const char *why; // "only of .."
} weir_flag_place;

/*  True, and it was told: a flag was given that makes no sense there.         */
bool weir_line_misplaced(const weir_command_line *line, const weir_flag_place *places,
                         int of);

/*  The values of --set; *params is the caller's to free, its texts are lent.    */
void weir_line_params(const weir_command_line *line, weir_param **params, size_t *count);

/*  Prints reports, one a line, to stderr (as JSON to stdout if asked).        */
void weir_print_reports(const weir_reports *reports, bool json);

int weir_cmd_run(const weir_command_line *line);
#define WEIR_SET_FLAG                                                                    \
    {                                                                                    \
        "--set", "NAME=VALUE", "value of param \"NAME\"; may be repeated"                \
    }

extern const weir_flag weir_audit_flags[];
int weir_cmd_audit(const weir_command_line *line);
int weir_cmd_reference(const weir_command_line *line);
int weir_cmd_keys_init(const weir_command_line *line);
int weir_cmd_keys_show(const weir_command_line *line);
int weir_cmd_keys_allow(const weir_command_line *line);
int weir_cmd_keys_revoke(const weir_command_line *line);
int weir_cmd_keys_doctor(const weir_command_line *line);
