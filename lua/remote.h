/*  remote: speaks to a running weir by its control endpoint (docs/control.md), which it
    finds by name in the run folder, or by tcp and CURVE.

    Targets are NAME[/NODE[.OUTLET]]. NAME may be left out while exactly one weir runs;
    then a word without a slash that is not its name is a node. One thread; calls block,
   at most as long as --timeout says.                                            */
#pragma once
#include "lua/command.h"
#include "lua/look.h"
#include "runtime/options.h"

/*  Rows for the flags of a command that uses this. */
#define WEIR_REMOTE_FLAGS                                                                \
    {"--control", "ENDPOINT", "of a weir elsewhere: tcp://HOST:PORT"},                   \
        {"--server", "NAME", "of --control: the name in its certificate"},               \
        {"--keys", "FOLDER", "of --control: where the keys are, instead of weir-keys"},  \
    {                                                                                    \
        "--timeout", "TIME", "how long to wait for an answer; 3s unless told"            \
    }

typedef struct {
    char name[64];    // of the weir; never empty
    char node[64];    // "": none was named
    char outlet[132]; // "node.outlet"; "": none was named
} weir_target;

/*  The names of the weirs that run here, sorted; to be freed by weir_remote_free_names.
    What was left behind by a killed one is left out.                          */
void weir_remote_names(weir_texts *names);
void weir_remote_free_names(weir_texts *names);

/*  Puts the names into a sentence: "web, mail".                               */
void weir_remote_list_names(char *text, size_t size, const char *const *names,
                            size_t count);

/*  Finds out what a text means, among the names; NULL: nothing was said. The report names
    what runs, and what was meant perhaps. Pure.                               */
weir_err weir_target_parse(weir_target *target, const char *text,
                           const char *const *names, size_t count, weir_report *report);

typedef struct weir_remote weir_remote;

/*  Connects to the target of the command line; the operand may be NULL. A node that was
    named is there. Errors with a report.                                      */
weir_err weir_remote_open(weir_remote **self_p, const weir_command_line *line,
                          const char *operand, weir_target *target, weir_report *report);

/*  Connects to the one of that name, without any check.                       */
weir_err weir_remote_open_name(weir_remote **self_p, const char *name,
                               weir_report *report);
void weir_remote_close(weir_remote **self_p);

/*  Sends a command with its arguments (NULL-ended) and waits for the answer, which lives
    until the next call. WEIR_ETIMEOUT, or the answer's error.                 */
weir_err weir_remote_ask(weir_remote *self, weir_value *body, weir_report *report,
                         const char *command, ...) __attribute__((sentinel));

/*  The same in two steps, for streams: *more, when others follow. wait_us < 0: for ever.
    fd, when not -1: a descriptor whose readability ends the wait with WEIR_ESTOP. */
weir_err weir_remote_send(weir_remote *self, const char *command, ...)
    __attribute__((sentinel));
weir_err weir_remote_recv(weir_remote *self, int64_t wait_us, int fd, bool *more,
                          weir_value *body, weir_report *report);

/*  Where a node listens for other processes, as it is reached from here ("": nowhere),
    and the name in that weir's certificate ("": it has none).                     */
weir_err weir_remote_endpoint(weir_remote *self, const weir_target *target,
                              char endpoint[192], char certificate[64],
                              weir_report *report);

/*  Asks what is to be known of a bus; found lives as long as the answer.         */
weir_err weir_remote_bus(weir_remote *self, const char *name, weir_value *found,
                         weir_report *report);

/*  False: it has ended. Of one elsewhere that is not known: true.             */
bool weir_remote_is_there(const weir_remote *self);

/*  The text of the last answer. */
const char *weir_remote_text(const weir_remote *self, size_t *size);

/*  The endpoint of the source.link NAME/NODE here, as a sender connects to it, and the
    name in that weir's certificate, unless server holds one already.               */
weir_err weir_remote_link(const char *operand, char endpoint[192], char server[64],
                          weir_report *report);

/*  Prints a report to stderr, and gives the exit code that it deserves.        */
int weir_remote_print(const weir_report *report);
