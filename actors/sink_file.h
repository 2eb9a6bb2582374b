/*  sink.file: appends records to a file.

    What "safe" means is the fsync option: always, on disk (one fdatasync for all
    that has come meanwhile); a time, on disk that much later at most; never, in the
    kernel's hands, which survives a crash of Weir but not of the machine.

    After a crash the end of the file may be half a record. The actor remembers in
    the state folder how far its own whole writes reached, and cuts only what lies
    behind that and is no whole line. A full disk holds it: it tries again until
    there is room. SIGHUP opens the path anew.                                 */
#pragma once
#include "runtime/delivery.h"

typedef struct {
    weir_node node;
    char *path;
    int64_t fsync_us; // WEIR_ALWAYS, WEIR_FOREVER (never), or the longest delay
    int64_t retry_first_us, retry_max_us, retry_attempts;
    weir_delivery_config delivery;
} weir_sink_file_config;

extern const weir_sink_file_config weir_sink_file_defaults;
extern const weir_class weir_sink_file_class;
void weir_sink_file(zsock_t *pipe, void *config);
