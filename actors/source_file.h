/*  source.file: reads files, each from the position that was last safe, and follows
    them through growth, truncation and rotation, or stops at their end.

    Positions are kept in <state>/<node>.positions. A record is committed when it is
    safe downstream; what was read and not committed is read again after a restart.
    The state file is synced about a second after a commit: a crash of Weir loses no
    position, one of the machine at most that second, which is read again.

    A line without its end is held back until the end arrives or the file is left: it
    was replaced, or deleted, or at_end is `stop`.

    Costs: an open descriptor and less than 1 KB a file that is followed; a framer
    only while a file has an unfinished record.                                */
#pragma once
#include "runtime/intake.h"

typedef enum { WEIR_FILE_START = 0, WEIR_FILE_END } weir_file_start;

typedef enum { WEIR_FILE_FOLLOW = 0, WEIR_FILE_STOP } weir_file_at_end;

typedef struct {
    weir_node node;
    weir_texts path; // files or patterns of glob (3)
    int start;       // weir_file_start: of unknown files at the first start
    int at_end;      // weir_file_at_end
    weir_intake_config intake;
} weir_source_file_config;

extern const weir_source_file_config weir_source_file_defaults;
extern const weir_class weir_source_file_class;
void weir_source_file(zsock_t *pipe, void *config);
