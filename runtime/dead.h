/*  dead: records that could not be processed, kept so that nothing is lost: one
    JSON line each in a file, made durable before their input is acknowledged.  */
#pragma once
#include "runtime/record.h"

typedef enum {
    WEIR_DEAD_PARSE = 0,
    WEIR_DEAD_FILTER,
    WEIR_DEAD_FUNCTION,
    WEIR_DEAD_OVERRUN,
    WEIR_DEAD_UNROUTED,
    WEIR_DEAD_SINK,
    WEIR_DEAD_OVERSIZE,
    WEIR_DEAD_REFUSED,     // by a bus's store
    WEIR_DEAD_EXHAUSTED,   // the attempts to store it
    WEIR_DEAD_MAX_DELIVER, // the deliveries to a consumer group
    WEIR_DEAD_TOO_LARGE,   // for the rings of a bus
} weir_dead_reason;

/*  A dead letter that is not written yet; a list, each owned by its holder.   */
typedef struct weir_dead {
    struct weir_dead *next;
    weir_buffer line;            // its JSON line, complete with newline
    size_t error_at, error_size; // where the line has the error, as JSON with its quotes
} weir_dead;

/*  Makes one from the record. error is one sentence, such as "web.lua:12: attempt to
    index a nil value"; attempts is how often the record was tried alone. The
    line bears an id, the digest XXH3-128 (node, key, payload), time, node, reason,
    error, attempts, source, peer, label, key, headers and payload (as JSON when it
    is, else {"base64": ...}).                                                 */
weir_dead *weir_dead_new(const char *node, weir_dead_reason reason, const char *error,
                         uint32_t attempts, const weir_record *record, const char *source,
                         const char *peer, const char *label);
/*  Appends the payload as a line bears it: `,"payload":` with JSON, `,"text":` with
    text, or one of these or `,"msgpack":` with {"base64": ...}.                  */
void weir_dead_put_payload(weir_buffer *line, const weir_record *record);
void weir_dead_destroy_list(weir_dead **first_p);

/*  The file. Several actors may append to one path, each with its own.        */
typedef struct weir_dead_file weir_dead_file;
weir_err weir_dead_file_open(weir_dead_file **self_p, const char *path,
                             weir_report *report);

/*  Appends the list as one group and makes it durable (fdatasync). All or error;
    after an error nothing of the group counts, and it may be tried again. The log says so
    once a minute.                                                             */
weir_err weir_dead_file_write(weir_dead_file *self, const weir_dead *first,
                              weir_report *report);
void weir_dead_file_close(weir_dead_file **self_p);
